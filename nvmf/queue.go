package nvmf

import (
	"math/bits"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is a queue: the submission and completion queue that a host made by one connection, whatever the transport. It
// lives on one reactor.
//
// A queue's states, in order: connecting (only Connect is taken) → authenticating (only that is taken; left out where the
// host needs not) → live → denied (a host that was believed failed to prove itself again; left out mostly) → closing (no
// command is taken, those in flight end) → closed.
//
// A command's states, in order: free → fetching (its data is on the way, or it waits for memory) → executing → responding
// → free.

type queueState uint8

const (
	queueConnecting queueState = iota
	queueAuthenticating
	queueLive
	queueDenied
	queueClosing
	queueClosed
)

var queueStateNames = [...]string{"connecting", "authenticating", "enabled", "denied", "closing", "closed"}

func (s queueState) String() string { return queueStateNames[s] }

// transport carries a queue's capsules and data. Its methods are called on the queue's reactor.
type transport interface {
	// locate judges where the data of a command is, and how many bytes of it there are; carried is what its capsule brought.
	locate(c *command, carried uint32) (DataPlace, uint32, Status)
	// giveBack takes what the transport itself lent a command: it is called when that has no use for its data any more, once or more often.
	giveBack(c *command)
	// fetch brings c.transfer bytes of the host's data to c.data and then calls queue.fetched.
	fetch(c *command)
	// respond sends c's data, if it has any to send, and its completion; then it calls queue.release.
	respond(c *command)
	// shut ends the connection. When nothing of it is in flight any more it calls queue.shut.
	shut()
	// resume goes on with what was put off because no slot was free.
	resume()
	// portal is where the connection came in.
	portal() *portal
	// stalls reports whether the host has not sent what it was asked for, or taken what it is sent, since then.
	stalls(since reactor.Ticks) bool
	// handOver gives the connection to h as soon as what was sent has left.
	handOver(h *handoff)
	// rest goes on with bringing the queue to rest, for its move, or with taking it back if that is given up. When nothing is in
	// flight it calls queue.tellRest, or queue.endMove. It reports whether no more is to be received.
	rest() bool
	// detach takes the connection from a queue at rest, which closes here.
	detach() origin
	// peer gives the two addresses.
	peer() (local, remote string)
}

// queue is one queue of a host.
type queue struct {
	t         transport
	pg        *pollGroup
	r         *reactor.Reactor
	state     queueState
	transGone bool // the transport has ended
	paused    bool // nothing is read of what the host sends, while the target is drained

	id      QID
	entries uint32 // commands that the host may have open
	open    uint32 // commands that came and were not answered
	sqhd    uint16
	noFlow  bool // SQ flow control is off: SQHD means nothing
	port    *portal
	limits  *TransportOptions // of its transport
	host    *hostIdentity     // who made it; nil while connecting

	move   *queueMove // not nil: it comes to rest, to go on elsewhere
	rested bool       // and the owner was told that it has

	sub  *subsystemShare // what this reactor knows of the subsystem; nil while connecting
	ctrl *controller     // of an Admin queue
	link *queueLink      // of an I/O queue: its tie to the controller

	auth *queueAuth // nil where none was needed yet
	half *command   // the first of a fused pair whose second has not come

	ns []queueNamespace // by NSID-1, as this host may see them

	memory   reactor.Share // its commands'
	commands []command
	free     *command
	slots    uint32
	trace    *tracer       // nil: its commands are not looked at
	byCID    []int32       // heads of chains of open commands, by CID modulo its length
	starved  bool          // the transport waits for a slot
	after    uint64        // commands answered, for statistics
	carried  uint64        // bytes of data that came and went with them
	told     reactor.Ticks // when the controller last heard of commands here
	expected reactor.Timer // ends a connection that does not become a queue in time
	found    reactor.Ticks // when the bytes came that are being looked through
	flushed  reactor.Ticks // when responses were last given to the kernel, as long as commands are looked at

	next, prev *queue // in the poll group's list
}

// queueNamespace is a namespace as one queue's host sees it.
type queueNamespace struct {
	ns    *namespaceShare // nil where there is none for this host
	ana   ANAState
	group uint32

	denyRead, denyWrite bool // by another host's reservation
	protected           bool // against writes, by feature 84h
}

type commandState uint8

const (
	commandFree commandState = iota
	commandFetching
	commandExecuting
	commandResponding
)

// command is a slot: one command of the host, and all that serving it needs.
type command struct {
	q       *queue
	index   uint16
	state   commandState
	sqe     SQE
	cid     CID
	chain   int32    // next in the queue's byCID chain, -1 at its end
	nextOf  *command // next free one
	aborted bool
	trace   *TraceRecord // nil: it is not looked at

	preempted bool // ends as such, whatever it comes to

	pair    *command // the other half of a fused pair, from when both have come until they are answered
	arrived bool     // of a half: its data is there
	spoilt  bool     // and its digest was wrong

	place    DataPlace
	transfer uint32       // bytes that the host sends
	data     []byte       // lent by the reactor's pool, nil if there is none
	loan     reactor.Loan // what of it the command gives back: of a pair's that the first has for both, the second nothing
	send     uint32       // bytes of data that go to the host

	dw0, dw1 uint32
	status   Status

	ns   *namespaceShare
	req  bdev.Request
	step int // of commands that take several requests
	at   reactor.Ticks
}

// init makes the slots, and room for so many writes in capsules beside the pool. It may allocate; nothing later does.
func (q *queue) init(entries uint32, beside int) {
	q.entries = entries
	q.memory.Init(q.r, &q.pg.lender, int(q.limits.capsuleBytes(q.id)), beside)
	q.setTrace()
	// A slot is free only when its response has left, and the host may use its entry again before we hear of that. So
	// there are more slots than entries.
	n := entries + min(entries, 16)
	q.commands = make([]command, n)
	q.byCID = make([]int32, 1<<bits.Len32(n))
	for i := range q.byCID {
		q.byCID[i] = -1
	}
	q.free = nil
	for i := len(q.commands) - 1; i >= 0; i-- {
		c := &q.commands[i]
		c.q, c.index, c.nextOf = q, uint16(i), q.free
		c.req.Done = c
		q.free = c
	}
	q.slots = n
}

// hasSlot reports whether a command can be taken; otherwise the transport is told to resume when one can.
func (q *queue) hasSlot() bool {
	q.starved = q.free == nil
	return !q.starved
}

// acquire takes a slot for a command that has arrived. overrun reports that the host sent more than its queue holds, which
// ends the connection. conflict reports that its CID is that of an open command.
func (q *queue) acquire(sqe *SQE) (c *command, overrun, conflict bool) {
	if q.open == q.entries {
		return nil, true, false
	}
	c = q.free
	q.free = c.nextOf
	q.slots--
	q.open++
	c.sqe, c.cid = *sqe, sqe.CID()
	invariant.Check(c.state == commandFree && c.data == nil, "nvmf: free command that is not")
	c.state = commandFetching
	c.nextOf, c.ns, c.place, c.transfer, c.send, c.dw0, c.dw1, c.status, c.step = nil, nil, DataNone, 0, 0, 0, 0, 0, 0
	c.aborted, c.preempted = false, false
	c.pair, c.arrived, c.spoilt = nil, false, false
	c.at = q.r.Now()
	if q.sqhd++; uint32(q.sqhd) == q.entries {
		q.sqhd = 0
	}
	conflict = q.find(c.cid) != nil
	h := &q.byCID[int(c.cid)&(len(q.byCID)-1)]
	c.chain, *h = *h, int32(c.index)
	if t := q.trace; t != nil && q.link != nil && sqe.Opcode() != OpcodeFabrics {
		if t.left--; t.left == 0 {
			t.begin(c)
		}
	}
	return c, false, conflict
}

// find gives the open command with a CID, nil if there is none.
func (q *queue) find(cid CID) *command {
	for i := q.byCID[int(cid)&(len(q.byCID)-1)]; i >= 0; i = q.commands[i].chain {
		if c := &q.commands[i]; c.cid == cid {
			return c
		}
	}
	return nil
}

// start takes a command whose capsule has arrived, with carried bytes of data in it. It answers whether the transport is to
// let c.data be those bytes and call fetched; if not they are of no use. Commands that cannot be served are
// answered at once, before their data is asked for.
func (q *queue) start(c *command, carried uint32, conflict bool) (wanted bool) {
	if q.state >= queueClosing {
		q.release(c)
		return false
	}
	if q.half != nil {
		if c.sqe.Fuse() == FuseSecond && c.sqe.Opcode() != OpcodeFabrics {
			return q.join(c, carried, conflict)
		}
		q.missed()
	}
	if conflict {
		q.respond(c, StatusCIDConflict)
		return false
	}
	if q.halves(c) {
		return q.keepHalf(c, carried)
	}
	sgl := StatusSuccess
	if c.writes() {
		c.place, c.transfer, sgl = q.t.locate(c, carried)
	}
	if s := q.admit(c, sgl); !s.OK() {
		q.respond(c, s)
		return false
	}
	c.admitted()
	if c.transfer == 0 {
		q.execute(c)
		return false
	}
	if c.place == DataTransfer {
		c.Run()
		return false
	}
	return true
}

// admit judges a command before its data is asked for. sgl is the judgement of its data pointer, which counts after the
// command's own.
func (q *queue) admit(c *command, sgl Status) Status {
	if q.ctrl != nil {
		q.ctrl.heard = q.r.Now()
	}
	if q.state != queueLive {
		if s := q.admitEarly(c); !s.OK() {
			return s
		}
	}
	switch {
	case c.sqe.Opcode() == OpcodeFabrics:
		if c.transfer > AdminCapsuleBytesMax {
			if c.sqe.FCTYPE() == FabricsConnect {
				return StatusSGLLength | DNR // Connect never ends as Invalid Field
			}
			return StatusInvalidField | DNR
		}
		if sgl.OK() && c.authenticates() {
			return q.admitAuth(c)
		}
		return sgl
	case q.id == 0:
		if s := q.ctrl.admit(c); !s.OK() {
			return s
		}
		return sgl
	}
	return q.admitIO(c, sgl)
}

// expectConnect ends the queue if it does not become one of a controller in time.
func (q *queue) expectConnect() {
	q.r.SetTimer(&q.expected, q.r.Now()+patience.connect, (*connectTimer)(q))
}

type connectTimer queue

func (t *connectTimer) Run() { (*queue)(t).close() }

// hostNQN names the host for messages.
func (q *queue) hostNQN() string {
	if q.host == nil {
		return "not connected yet"
	}
	return q.host.nqn
}

// writes reports whether the command brings data from the host. Base Specification 2.0, "Opcode": bits 1:0 are 01b, or 11b for
// both directions, which no command of ours has. A Fabrics command has them in its type.
func (c *command) writes() bool {
	if c.sqe.Opcode() == OpcodeFabrics {
		return uint8(c.sqe.FCTYPE())&3 == 1
	}
	return c.sqe.Opcode()&3 == 1
}

// Run tries again to get memory for a command that waits for some, to fetch or to read.
func (c *command) Run() {
	q := c.q
	if q.state >= queueClosing && c.state == commandFetching {
		q.release(c)
		return
	}
	if c.state == commandExecuting {
		q.executeAgain(c)
		return
	}
	if !q.lend(c, c.fetchBytes()) {
		return
	}
	if c.pair != nil {
		c.sharePair()
		q.t.fetch(c)
		c = c.pair
	}
	q.t.fetch(c)
}

// fetched hears that the command's data is there. ok is false if its digest was wrong.
func (q *queue) fetched(c *command, ok bool) {
	c.mark(TraceData)
	switch {
	case q.state >= queueClosing:
		q.release(c)
	case c.pair != nil || c == q.half:
		q.halfFetched(c, ok)
	case !ok:
		q.respond(c, StatusTransientTransport)
	case c.aborted:
		q.respond(c, StatusAbortRequested)
	default:
		q.execute(c)
	}
}

// execute starts a command that has its data.
func (q *queue) execute(c *command) {
	c.state = commandExecuting
	q.executeAgain(c)
}

func (q *queue) executeAgain(c *command) {
	switch {
	case c.sqe.Opcode() == OpcodeFabrics:
		q.fabrics(c)
	case q.id == 0:
		q.ctrl.admin(c)
	default:
		q.io(c)
	}
}

// respond answers a command. After a success c.send bytes of c.data go with it.
func (q *queue) respond(c *command, s Status) {
	invariant.Check(c.state == commandFetching || c.state == commandExecuting, "nvmf: command answered twice")
	if c.preempted {
		s = StatusPreempted
	}
	if q.state == queueDenied && !c.authenticates() {
		s = StatusOperationDenied
	}
	c.status = q.delayed(s)
	if c.ns != nil {
		c.ns.leave(s)
		c.ns = nil
	}
	if !s.OK() {
		c.send = 0
		if q.ctrl != nil {
			q.ctrl.noteError(c)
		}
	}
	if c.send == 0 {
		q.giveBack(c)
	}
	c.state = commandResponding
	q.unchain(c)
	q.open--
	q.after++
	q.carried += uint64(c.send) + uint64(c.transfer)
	if q.state >= queueClosing {
		q.release(c)
		return
	}
	c.mark(TraceAnswer)
	q.t.respond(c)
}

// give answers a command with page, of which at most want bytes go to the host, and reports whether it has: if there is no memory the
// command waits, and is executed again. Such commands are few and their pages small, so they are built anew for each.
func (q *queue) give(c *command, page []byte, want uint32) bool {
	n := min(want, uint32(len(page)))
	if n == 0 {
		q.respond(c, StatusSuccess)
		return true
	}
	place, bytes, s := q.t.locate(c, 0)
	switch {
	case !s.OK():
		q.respond(c, s)
		return false
	case place != DataTransfer || bytes < want:
		q.respond(c, StatusSGLLength|DNR)
		return false
	case bytes > q.limits.MaxIOBytes:
		q.respond(c, StatusInvalidField|DNR)
		return false
	}
	// The host's buffer is filled whole: newer Linux resets a controller after a short read.
	if !q.lend(c, bytes) {
		return false
	}
	clear(c.data[copy(c.data, page[:n]):])
	c.send = bytes
	q.respond(c, StatusSuccess)
	return true
}

// release makes the slot of a command free, whose response has left or will never leave.
func (q *queue) release(c *command) {
	if c.trace != nil {
		c.trace.end(c)
	}
	if c.state != commandResponding {
		q.unchain(c)
		q.open-- // it was never answered
		if c.ns != nil {
			c.ns.leave(StatusSQDeleted)
			c.ns = nil
		}
	}
	if c.pair != nil {
		c.pair.pair, c.pair = nil, nil
	}
	q.giveBack(c)
	c.state = commandFree
	c.nextOf, q.free = q.free, c
	q.slots++
	if q.state >= queueClosing {
		q.closeIfDone()
		return
	}
	if q.starved {
		q.starved = false
		q.t.resume()
	}
	if q.move != nil {
		q.t.rest()
	}
}

func (q *queue) unchain(c *command) {
	p := &q.byCID[int(c.cid)&(len(q.byCID)-1)]
	for *p != int32(c.index) {
		p = &q.commands[*p].chain
	}
	*p = c.chain
}

// cqe is the completion queue entry of an answered command.
func (q *queue) cqe(c *command) CQE {
	e := CQE{DW0: c.dw0, DW1: c.dw1, CID: c.cid, Status: c.status}
	if !q.noFlow {
		e.SQHD = q.sqhd
	}
	return e
}

// close ends the queue: its connection is shut, commands in flight end, then its owner hears. Closing twice is harmless.
func (q *queue) close() {
	if q.state >= queueClosing {
		return
	}
	q.state = queueClosing
	q.half = nil
	if q.move != nil {
		q.dropMove()
	}
	if q.ctrl != nil {
		q.ctrl.dropEvents()
	}
	if q.auth != nil {
		q.auth.close()
	}
	for i := range q.commands {
		if c := &q.commands[i]; (c.state == commandFetching || c.state == commandExecuting) && q.memory.Forget(&c.loan) {
			q.release(c)
		}
	}
	q.t.shut()
}

// shut hears that the transport has ended: nothing of it touches a command's memory any more.
func (q *queue) shut() {
	q.state = max(q.state, queueClosing)
	q.transGone = true
	for i := range q.commands {
		// Those that waited for data or to be sent are ended by it; those at a device end later.
		if c := &q.commands[i]; c.state == commandFetching || c.state == commandResponding {
			q.memory.Forget(&c.loan)
			q.release(c)
		}
	}
	q.closeIfDone()
}

// closeIfDone ends a closing queue when its last command has.
func (q *queue) closeIfDone() {
	if !q.transGone || q.slots != uint32(len(q.commands)) || q.state == queueClosed {
		return
	}
	q.state = queueClosed
	q.r.StopTimer(&q.expected)
	for i := range q.commands {
		q.commands[i].req.Release()
	}
	q.pg.queueClosed(q)
}
