package nvmf

import (
	"errors"
	"unsafe"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the RDMA transport: it takes capsules from a queue pair, moves data by RDMA READ and WRITE, and sends responses. NVM Express RDMA
// Transport Specification 1.0, "Data Transfer Model".
//
// Down: Received → command: queue.acquire, start → (fetch → advance → read: RDMA READ → Completed → queue.fetched). Up: queue.respond → respond →
// advance → answer: RDMA WRITE, SEND → Completed → queue.release. All that gathered in a turn goes to the card in one call.
//
// Invariants
//   - A receive goes back to the card before the response that lets the host send again. Until then data that came in the capsule stays in it.
//   - A command's RDMA WRITEs are posted before its response, on the same queue pair: the host has its data when it hears of them.
//   - Memory that the card was given comes back when the response has completed, or one behind it, or when the queue pair is flushed, and not before.
//   - No more work requests are posted than the queue pair has room for; who finds none waits his turn.

// rdmaCompletion says what a work request was, in its id beside the command's place.
const (
	rdmaNothing = iota // of no command
	rdmaRead
	rdmaWrite
	rdmaAnswer
	rdmaKindBits = 2
)

// rdmaSlot is what RDMA keeps for a command.
type rdmaSlot struct {
	rx      *rdma.Receive // its capsule, until it has no use for that any more
	data    RDMAData      // where its data is, from when that was looked at
	reading uint8         // RDMA READs that have not completed
	cqe     [CQEBytes]byte

	next *command // that waits for room on the send queue; once answered, the one before it that left in silence
}

// rdmaQueue is a queue on an RDMA connection.
type rdmaQueue struct {
	queue
	q           *rdma.Queue
	wire        []rdmaSlot // by command
	depth       uint32     // commands that the connection can have open
	sends       int        // work requests that it has room for; 0: it cannot answer, and is about to end
	invalidates bool       // the card can invalidate a host's key: where it cannot the host does
	made        QID        // the queue that the host has asked the connection for
	place       *rdmaPlace // of an I/O queue, which stays on this reactor and is counted there; nil of an Admin queue

	came      []*rdma.Receive // capsules that have not begun, a ring
	cameFirst int
	cameCount int

	first, last *command // that wait for room on the send queue
	answers     []byte   // where responses are, if the card cannot take them as they are posted
	silence     silence

	since   reactor.Ticks // when something last completed, or was posted after all had
	timer   reactor.Timer // as long as something may be on the card
	leaving *handoff      // not nil: the connection's Connect is being passed on
	later   reactor.Deferred
	parting reactor.Deferred
}

// newRDMAQueue makes a queue of a connection that has come by p and can have so many commands open: one, until it is known what it becomes, for a host waits for the
// answer to its Connect.
func newRDMAQueue(pg *pollGroup, p *portal, id QID, depth uint32) *rdmaQueue {
	t := &rdmaQueue{depth: depth, made: id}
	q := &t.queue
	q.t, q.pg, q.r, q.id, q.port, q.limits = t, pg, pg.r, id, p, p.limits
	q.init(depth, 0)
	q.entries = 1
	t.wire = make([]rdmaSlot, len(q.commands))
	t.came = make([]*rdma.Receive, depth)
	pg.add(q)
	return t
}

// rdmaSends is the work requests of a queue: for each command two, and beside these those of two with the most pieces.
func rdmaSends(entries uint32) int { return 2*int(entries) + 2*(rdmaPiecesMax+1) }

// begin takes the connection. Who makes the queue calls resume when it is done with it.
func (t *rdmaQueue) begin(q *rdma.Queue) rdma.Handler {
	t.q, t.invalidates = q, q.Card().Invalidates
	if q.InlineBytes() < CQEBytes {
		if t.answers = t.r.Memory().Get(len(t.wire) * CQEBytes); t.answers == nil {
			t.pg.target.log.Warn("a host's connection ends: there is no memory for its responses", "bytes", len(t.wire)*CQEBytes)
			return t
		}
	}
	t.sends = rdmaSends(t.depth)
	return t
}

func (t *rdmaQueue) portal() *portal { return t.port }

func (t *rdmaQueue) slot(c *command) *rdmaSlot { return &t.wire[c.index] }

func (t *rdmaQueue) peer() (local, remote string) {
	return t.q.Local().String(), t.q.Remote().String()
}

// Received takes a capsule. None comes to a queue that closes.
func (t *rdmaQueue) Received(rx *rdma.Receive) {
	switch {
	case uint32(t.cameCount)+t.open >= t.entries:
		t.fault(rx, "it has sent more commands than its queue has entries, or one before the answer to its Connect")
		return
	case len(rx.Header) < SQEBytes:
		t.fault(rx, "it has sent a capsule that is shorter than a command")
		return
	}
	t.found = t.r.Now()
	if t.paused || t.cameCount > 0 || !t.hasSlot() {
		t.came[(t.cameFirst+t.cameCount)%len(t.came)] = rx
		t.cameCount++
		return
	}
	t.command(rx)
}

// fault ends the connection of a host that broke the protocol.
func (t *rdmaQueue) fault(rx *rdma.Receive, why string) {
	t.q.Release(rx)
	t.pg.target.log.Warn("a host broke the protocol, its connection ends", "host", t.hostNQN(), "queue", t.id, "error", why)
	t.pg.faults++
	t.close()
}

// command begins a command.
func (t *rdmaQueue) command(rx *rdma.Receive) {
	c, overrun, conflict := t.acquire((*SQE)(rx.Header))
	invariant.Check(!overrun, "nvmf: a command too many was taken")
	s := t.slot(c)
	s.rx, s.data.Invalidates, s.reading = rx, false, 0
	if !t.start(c, uint32(len(rx.Data)), conflict) {
		return
	}
	c.data = rx.Data[s.data.Offset:][:s.data.Bytes]
	c.mark(TraceMemory)
	t.fetched(c, true)
}

func (t *rdmaQueue) locate(c *command, _ uint32) (DataPlace, uint32, Status) {
	s := t.slot(c)
	var capsule []byte
	if s.rx != nil {
		capsule = s.rx.Data
	}
	status := c.sqe.RDMAData(&s.data, capsule, t.limits.MaxIOBytes)
	return s.data.Place, s.data.Bytes, status
}

// giveBack lets the card receive into the memory of a command's capsule again.
func (t *rdmaQueue) giveBack(c *command) {
	if s := t.slot(c); s.rx != nil {
		t.q.Release(s.rx)
		s.rx = nil
	}
}

// fetch reads a command's data from the host's memory, in its turn.
func (t *rdmaQueue) fetch(c *command) { t.queueUp(c) }

// respond writes a command's data into the host's memory and sends the completion, in its turn.
func (t *rdmaQueue) respond(c *command) { t.queueUp(c) }

// queueUp lets a command post its work requests as soon as there is room for all of them, behind those that wait for that.
func (t *rdmaQueue) queueUp(c *command) {
	if t.slot(c).next = nil; t.first == nil {
		t.first = c
	} else {
		t.slot(t.last).next = c
	}
	t.last = c
	t.advance()
}

// advance serves those who wait for room.
func (t *rdmaQueue) advance() {
	for t.first != nil && t.q.Posted()+t.needs(t.first) <= t.sends {
		c := t.first
		t.first = t.slot(c).next
		if t.q.Posted() == 0 {
			t.since = t.r.Now()
			if !t.timer.Set() {
				t.r.SetTimer(&t.timer, t.since+patience.data, (*rdmaTimer)(t))
			}
		}
		if c.state == commandFetching {
			t.read(c)
		} else {
			t.answer(c)
		}
	}
}

// needs is how many work requests a command is to post next.
func (t *rdmaQueue) needs(c *command) int {
	n := int(t.slot(c).data.Pieces)
	switch {
	case c.state == commandFetching:
		return n
	case c.send == 0:
		return 1
	}
	return n + 1
}

// read posts the RDMA READs of a command's data.
func (t *rdmaQueue) read(c *command) {
	s := t.slot(c)
	s.reading = s.data.Pieces
	at := uint32(0)
	for i := range s.data.Piece[:s.data.Pieces] {
		p := &s.data.Piece[i]
		w := rdma.SendWR{ID: uint64(c.index)<<rdmaKindBits | rdmaRead, Opcode: rdma.OpRead, Flags: rdma.Signaled, Remote: p.Address, RemoteKey: p.Key, SGEs: 1}
		w.SGE[0] = t.q.SGE(c.data[at:][:p.Bytes])
		at += p.Bytes
		t.q.Post(&w)
	}
	invariant.Check(at == c.transfer, "nvmf: the pieces of a command's data are another length than all of it")
}

// answer posts the RDMA WRITEs of a command's data, and the response.
func (t *rdmaQueue) answer(c *command) {
	s := t.slot(c)
	t.giveBack(c)
	at := uint32(0)
	for i := 0; at < c.send; i++ {
		p := &s.data.Piece[i]
		n := min(p.Bytes, c.send-at)
		w := rdma.SendWR{ID: uint64(c.index)<<rdmaKindBits | rdmaWrite, Opcode: rdma.OpWrite, Remote: p.Address, RemoteKey: p.Key, SGEs: 1}
		w.SGE[0] = t.q.SGE(c.data[at:][:n])
		at += n
		t.q.Post(&w)
	}
	w := rdma.SendWR{ID: uint64(c.index)<<rdmaKindBits | rdmaAnswer, Opcode: rdma.OpSend, SGEs: 1}
	if !t.silent(c) {
		w.Flags = rdma.Signaled
	}
	if s.data.Invalidates && t.invalidates {
		w.Opcode, w.Invalidate = rdma.OpSendInvalidate, s.data.Key
	}
	e := t.cqe(c)
	if t.answers == nil {
		e.AppendTo(s.cqe[:0])
		w.Flags |= rdma.Inline
		w.SGE[0] = rdma.SGE{Address: uint64(uintptr(unsafe.Pointer(&s.cqe))), Bytes: CQEBytes}
	} else {
		b := t.answers[int(c.index)*CQEBytes:][:CQEBytes]
		e.AppendTo(b[:0])
		w.SGE[0] = t.q.SGE(b)
	}
	t.q.Post(&w)
	if t.trace != nil {
		t.flushed = reactor.Clock()
	}
}

// Completed hears of a work request. Those that failed say nothing of memory: that comes back when the queue pair is gone.
func (t *rdmaQueue) Completed(id uint64, s rdma.Status) {
	if s != rdma.StatusOK {
		return
	}
	t.since = t.r.Now()
	c := &t.commands[id>>rdmaKindBits]
	switch sl := t.slot(c); id & (1<<rdmaKindBits - 1) {
	case rdmaRead:
		// A queue that closes waits for all that is on the card: two commands may share memory.
		if sl.reading--; sl.reading == 0 && t.state < queueClosing {
			t.fetched(c, true)
		}
	case rdmaAnswer:
		t.told(c)
	case rdmaNothing:
		t.told(t.silence.answered())
	}
	t.advance()
	t.part()
}

// resume goes on with what has come, in a moment: who calls it may be in the middle of something.
func (t *rdmaQueue) resume() {
	if !t.later.Queued() {
		t.r.Defer(&t.later, (*rdmaLater)(t))
	}
}

type rdmaLater rdmaQueue

func (l *rdmaLater) Run() {
	t := (*rdmaQueue)(l)
	if t.sends == 0 {
		t.close()
	}
	for t.state < queueClosing && t.cameCount > 0 && !t.paused && t.hasSlot() {
		rx := t.came[t.cameFirst]
		t.came[t.cameFirst] = nil
		t.cameFirst, t.cameCount = (t.cameFirst+1)%len(t.came), t.cameCount-1
		t.command(rx)
	}
}

// rdmaTimer ends a connection on which nothing completes: the host posts no receives, or its card answers nothing and ours does not give up.
type rdmaTimer rdmaQueue

func (m *rdmaTimer) Run() {
	t := (*rdmaQueue)(m)
	if t.q.Posted() == 0 {
		return
	}
	if due := t.since + patience.data; t.r.Now() < due {
		t.r.SetTimer(&t.timer, due, m)
		return
	}
	t.pg.target.log.Warn("a host takes nothing of what it is sent, its connection ends", "host", t.hostNQN(), "queue", t.id)
	t.close()
}

func (t *rdmaQueue) stalls(since reactor.Ticks) bool { return t.q.Posted() > 0 && t.since <= since }

// Ended hears that the connection has ended, or failed.
func (t *rdmaQueue) Ended(err error) {
	if !errors.Is(err, rdma.ErrDisconnected) && !errors.Is(err, rdma.ErrClosed) {
		t.pg.target.log.Warn("a host's connection has failed", "host", t.hostNQN(), "queue", t.id, "error", err.Error())
	}
	t.close()
}

// shut ends the connection.
func (t *rdmaQueue) shut() {
	t.r.StopTimer(&t.timer)
	t.r.StopTimer(&t.silence.timer)
	for ; t.cameCount > 0; t.cameCount-- {
		t.q.Release(t.came[t.cameFirst])
		t.came[t.cameFirst] = nil
		t.cameFirst = (t.cameFirst + 1) % len(t.came)
	}
	t.first = nil
	if t.place != nil {
		t.place.gone.Store(true)
	}
	if h := t.leaving; h != nil { // it closes before its Connect was answered
		t.leaving = nil
		t.release(h.command)
	}
	t.q.Close()
}

// Closed hears that nothing of the connection is on the card any more.
func (t *rdmaQueue) Closed() {
	t.end()
}

// end gives back what the queue has beside its commands.
func (t *rdmaQueue) end() {
	if t.answers != nil {
		t.r.Memory().Put(t.answers)
		t.answers = nil
	}
	if t.place != nil {
		t.pg.target.placed[t.r.Index()].Add(-1)
	}
	t.queue.shut()
}
