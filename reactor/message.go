package reactor

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
)

// Message is something that one reactor hands to another. It is part of its owner, who leaves it alone until it arrived.
type Message interface {
	Receive(r *Reactor)
}

// messageRing is a lock-free ring from one reactor to one other. head belongs to the receiver, tail to the sender; each
// keeps to its own cache line.
type messageRing struct {
	_        [64]byte
	head     atomic.Uint64
	_        [56]byte
	tail     atomic.Uint64
	headSeen uint64 // what the sender last saw of head
	_        [48]byte
	slots    [messageRingSize]Message
}

const messageRingSize = 1024

func (q *messageRing) push(m Message) bool {
	t := q.tail.Load()
	if t-q.headSeen == messageRingSize {
		if q.headSeen = q.head.Load(); t-q.headSeen == messageRingSize {
			return false
		}
	}
	q.slots[t%messageRingSize] = m
	q.tail.Store(t + 1)
	return true
}

// deliver gives r what was there at the call, a ring full at most.
func (q *messageRing) deliver(r *Reactor) int {
	h, t := q.head.Load(), q.tail.Load()
	if h == t {
		return 0
	}
	n := int(t - h)
	for h != t {
		m := q.slots[h%messageRingSize]
		q.slots[h%messageRingSize] = nil
		h++
		if h%(messageRingSize/8) == 0 {
			q.head.Store(h) // the sender gets room while we work, at the price of one store in many
		}
		m.Receive(r)
	}
	q.head.Store(h)
	return n
}

func (q *messageRing) empty() bool { return q.head.Load() == q.tail.Load() }

// outbox is the sender's side of the way to one reactor.
type outbox struct {
	to      *Reactor
	ring    *messageRing // to's inbox from us
	touched bool         // in the list of those to wake

	// What the ring had no room for waits here, in order. It grows as far as the receiver falls behind.
	waiting []Message
	first   int // those before it went already
}

func (o *outbox) push(m Message) {
	if o.first == len(o.waiting) {
		if o.ring.push(m) {
			return
		}
	} else if len(o.waiting) == cap(o.waiting) && o.first > len(o.waiting)/2 {
		n := copy(o.waiting, o.waiting[o.first:])
		clear(o.waiting[n:])
		o.waiting, o.first = o.waiting[:n], 0
	}
	o.waiting = append(o.waiting, m)
}

// keepWaiting is the room for waiting messages that an outbox keeps once they are gone.
const keepWaiting = 4 * messageRingSize

// pushWaiting moves what waits into the ring as far as there is room.
func (o *outbox) pushWaiting() int {
	n := 0
	for o.first < len(o.waiting) && o.ring.push(o.waiting[o.first]) {
		o.waiting[o.first] = nil
		o.first++
		n++
	}
	if o.first == len(o.waiting) {
		if o.waiting, o.first = o.waiting[:0], 0; cap(o.waiting) > keepWaiting {
			o.waiting = nil
		}
	}
	return n
}

// Send hands m to another reactor, or to this one for later, in order with what was sent to it before. It cannot fail: what
// does not fit into the ring waits here, and goes with the next ticks.
func (r *Reactor) Send(to *Reactor, m Message) {
	o := &r.outbox[to.index]
	o.push(m)
	r.sent++
	r.touch(o)
}

func (r *Reactor) touch(o *outbox) {
	if !o.touched {
		o.touched = true
		r.touched = append(r.touched, o) // has room for all
	}
}

// takeMessages delivers what other reactors sent, and sends what waited for room.
func (r *Reactor) takeMessages() int {
	n, moved := 0, 0
	for i, q := range r.inbox {
		n += q.deliver(r)
		if o := &r.outbox[i]; len(o.waiting) > 0 {
			if k := o.pushWaiting(); k > 0 {
				r.touch(o)
				moved += k
			}
		}
	}
	r.stats.Messages += uint64(n)
	return n + moved
}

// hasMail reports that something waits to be taken or sent.
func (r *Reactor) hasMail() bool { return r.hasMessages() || r.calls.waiting.Load() > 0 }

func (r *Reactor) hasMessages() bool {
	for i, q := range r.inbox {
		if !q.empty() || len(r.outbox[i].waiting) > 0 {
			return true
		}
	}
	return false
}

// ErrStopped is returned for a reactor that has ended.
var ErrStopped = errors.New("reactor: stopped")

// callQueue brings functions of ordinary goroutines to the reactor: control work, seldom, so a mutex serves them; the reactor tries it, and
// comes again in the next tick where somebody has it.
type callQueue struct {
	mu      sync.Mutex
	fns     []func()
	closed  bool
	waiting atomic.Int64
	wakers  atomic.Int64 // goroutines that pushed and may still write to the reactor's eventfd
}

// push adds f, unless the queue is closed. After it the caller wakes the reactor if need be, and then calls wakers.Add(-1).
func (q *callQueue) push(f func()) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.fns = append(q.fns, f)
	q.waiting.Add(1)
	q.wakers.Add(1)
	return true
}

// run runs what is in the queue; what that adds waits for the next tick.
func (q *callQueue) run() int {
	if q.waiting.Load() == 0 || !q.mu.TryLock() {
		return 0
	}
	fns := q.fns
	q.fns = nil
	q.mu.Unlock()
	for _, f := range fns {
		q.waiting.Add(-1)
		f()
	}
	return len(fns)
}

// closeIfEmpty ends the queue, unless something waits in it: what was accepted is run.
func (q *callQueue) closeIfEmpty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = q.closed || len(q.fns) == 0
	return q.closed
}

// awaitWakers returns when nobody will write to the eventfd of a reactor whose queue is closed.
func (q *callQueue) awaitWakers() {
	for q.wakers.Load() != 0 {
		runtime.Gosched()
	}
}

// Go lets f run on the reactor soon. Any goroutine may call it, and a reactor for itself or another on a control path.
func (r *Reactor) Go(f func()) error {
	if !r.calls.push(f) {
		return ErrStopped
	}
	if r.takeWake() {
		r.wakeByFD()
	}
	r.calls.wakers.Add(-1)
	return nil
}

// Call runs f on the reactor and returns when it has run. It must not be called on a reactor, which would wait for itself.
func (r *Reactor) Call(f func()) error {
	r.group.checkOutside()
	if r.group.simulated != nil {
		return r.callSimulated(f)
	}
	done := make(chan struct{})
	if err := r.Go(func() { defer close(done); f() }); err != nil {
		return err
	}
	<-done // what the queue accepted is run before the reactor ends
	return nil
}
