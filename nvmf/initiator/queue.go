package initiator

import (
	"fmt"
	"math"
	"net/netip"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is a queue of a controller: one connection on one reactor, and the commands that are open on it. It is made for
// one connection and never used for another. Its states, in order:
//
//	dialing   the transport connects
//	greeting  TCP: ICReq was sent
//	open      commands may be started
//	ending    TCP: the target broke the protocol: an H2CTermReq leaves, nothing is read any more
//	closing   the connection closes; the memory of commands may still be touched
//	closed    every command has ended

type queueState uint8

const (
	queueDialing queueState = iota
	queueGreeting
	queueOpen
	queueEnding
	queueClosing
	queueClosed
)

var queueStateNames = [...]string{"dialing", "greeting", "open", "ending", "closing", "closed"}

func (s queueState) String() string { return queueStateNames[s] }

// endingTimeout is how long a TermReq may take to leave.
const endingTimeout = reactor.Second

// queueOptions say what a queue is to be.
type queueOptions struct {
	id      nvmf.QID
	addr    netip.AddrPort
	entries uint32        // of the submission queue: one more than there are commands at once
	capsule uint32        // data that a capsule may carry
	digests nvmf.Digests  // TCP's
	timeout reactor.Ticks // of a command; 0: none
	cntlid  nvmf.CNTLID   // RDMA's, of an I/O queue
	link    rdma.Link
	dataMax uint64 // RDMA's: most data of a command; 0: what a buffer has
}

// transport carries a queue's commands to the target, and their data and answers. But for begin it is used on the queue's reactor.
//
// It tells the queue: opened, when commands may be started; end, of each that is answered and whose memory nothing touches any more; fail, when
// the connection is lost; finish, once, after close.
type transport interface {
	// begin connects. It returns at once; what comes of it the queue hears.
	begin() error
	// start sends a command that is wholly described but for its CID and its data pointer, which the transport sets.
	start(c *command)
	// close ends the connection, whatever it is at. finish follows when nothing touches the memory of commands any more.
	close()
}

// queue is one queue.
type queue struct {
	queueOptions
	slots
	r     *reactor.Reactor
	wire  transport
	state queueState
	err   error // why it ends

	timer reactor.Timer
	heard reactor.Ticks // when a command was last answered

	proved bool // the host has authenticated; for the goroutine that made it

	user  queueUser // nil: only calls use it
	calls callList  // wait for a slot

	// For the goroutine that made it: opened hears once whether commands may be started, closed is closed at the end.
	opened chan error
	closed chan struct{}
}

// queueUser uses a queue for more than calls.
type queueUser interface {
	// slotFree hears that a command can be started.
	slotFree()
	// queueLost hears that the queue ends, which nobody asked for.
	queueLost(q *queue, why error)
}

// newQueue makes a queue, over RDMA if there is a net for it, else over TCP.
func newQueue(r *reactor.Reactor, o queueOptions, net *rdma.Net) *queue {
	q := &queue{queueOptions: o, r: r, opened: make(chan error, 1), closed: make(chan struct{})}
	q.slots.init(o.depth())
	q.wire = &tcp{q: q}
	if net != nil {
		q.wire = &rdmaWire{q: q, net: net}
	}
	return q
}

// depth is the number of commands at once. Base Specification 2.0, "Submission Queue Flow Control": one less than the queue has
// entries, so that it is never full, and SQHD need not be looked at.
func (o *queueOptions) depth() int { return int(o.entries - 1) }

// String names the queue in messages.
func (q *queue) String() string {
	if q.id == 0 {
		return fmt.Sprintf("Admin queue at %v", q.addr)
	}
	return fmt.Sprintf("I/O queue %d at %v", q.id, q.addr)
}

// hasSlot reports whether a command can be started.
func (q *queue) hasSlot() bool { return q.state == queueOpen && q.free != nil }

// start sends the command that was acquired and described.
func (q *queue) start(c *command) {
	c.at = q.r.Now()
	if q.timeout > 0 && !q.timer.Set() && !c.patient {
		q.r.SetTimer(&q.timer, c.at+q.timeout, q)
	}
	q.wire.start(c)
}

// open lets commands be started.
func (q *queue) open() {
	q.state = queueOpen
	q.opened <- nil
}

// end gives the answer of a command to its owner, and the slot to the next.
func (q *queue) end(c *command) {
	o, cqe := c.owner, c.cqe
	q.heard = q.r.Now()
	q.release(c)
	o.answered(cqe)
	for q.calls.first != nil && q.hasSlot() {
		q.issue(q.calls.pop())
	}
	if q.user != nil {
		q.user.slotFree()
	}
}

// Run is the queue's timer: it ends a queue whose target does not answer, or does not take a TermReq. What was not sent yet does not wait for the target
// alone: that one has its time for it from its last answer on.
func (q *queue) Run() {
	now := q.r.Now()
	if q.state == queueEnding {
		q.close()
		return
	}
	const none = reactor.Ticks(math.MaxInt64)
	oldest := none
	for i := range q.commands {
		c := &q.commands[i]
		if c.state == commandFree || c.patient {
			continue
		}
		at := c.at
		if c.state == commandQueued {
			at = max(at, q.heard)
		}
		oldest = min(oldest, at)
	}
	switch {
	case oldest == none:
	case now-oldest >= q.timeout:
		q.fail(fmt.Errorf("%v: a command was not answered in %v", q, ticksText(q.timeout)))
	default:
		q.r.SetTimer(&q.timer, oldest+q.timeout, q)
	}
}

// fail ends the queue. A second reason is of no interest; one that ends already tells the target first.
func (q *queue) fail(why error) {
	if q.state >= queueEnding {
		return
	}
	q.lost(why)
	q.close()
}

// lost keeps the reason, and tells the user.
func (q *queue) lost(why error) {
	if q.err != nil {
		return
	}
	q.err = why
	if q.state < queueOpen {
		q.opened <- why
	}
	if q.user != nil {
		q.user.queueLost(q, why)
	}
}

// close closes the connection.
func (q *queue) close() {
	q.state = queueClosing
	q.r.StopTimer(&q.timer)
	q.wire.close()
}

// finish ends every command: nothing touches their memory any more.
func (q *queue) finish() {
	invariant.Check(q.state == queueClosing, "initiator: a queue ends that does not close")
	q.state = queueClosed
	for c := q.calls.pop(); c != nil; c = q.calls.pop() {
		c.lost(false)
	}
	for i := range q.commands {
		c := &q.commands[i]
		o, cqe, state := c.owner, c.cqe, c.state
		if state == commandFree {
			continue
		}
		q.release(c)
		if state == commandAnswered {
			o.answered(cqe)
		} else {
			o.lost(state == commandSent)
		}
	}
	close(q.closed)
}
