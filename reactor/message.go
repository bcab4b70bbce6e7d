package reactor

import (
	"errors"
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
func (r *Reactor) hasMail() bool { return r.hasMessages() || !r.calls.empty() }

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
