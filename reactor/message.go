package reactor

import (
	"errors"
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
	_     [64]byte
	head  atomic.Uint64
	_     [56]byte
	tail  atomic.Uint64
	_     [56]byte
	slots [messageRingSize]Message
}

const messageRingSize = 1024

func (q *messageRing) push(m Message) bool {
	t := q.tail.Load()
	if t-q.head.Load() == messageRingSize {
		return false
	}
	q.slots[t%messageRingSize] = m
	q.tail.Store(t + 1)
	return true
}

func (q *messageRing) pop() Message {
	h := q.head.Load()
	if h == q.tail.Load() {
		return nil
	}
	m := q.slots[h%messageRingSize]
	q.slots[h%messageRingSize] = nil
	q.head.Store(h + 1)
	return m
}

func (q *messageRing) empty() bool { return q.head.Load() == q.tail.Load() }

// Send hands m to another reactor, in order with what was sent to it before. It cannot fail: what does not fit into the
// ring waits here, and goes with the next ticks.
func (r *Reactor) Send(to *Reactor, m Message) {
	o := &r.overflow[to.index]
	if len(*o) > 0 || !to.inbox[r.index].push(m) {
		*o = append(*o, m)
	}
	r.wake(to)
}

// takeMessages delivers what other reactors and goroutines sent, and sends what waited for room.
func (r *Reactor) takeMessages() int {
	n := 0
	for i, o := range r.overflow {
		if len(o) > 0 {
			n += r.sendOverflow(i)
		}
	}
	for _, q := range r.inbox {
		for k := 0; k < messageRingSize; k++ {
			m := q.pop()
			if m == nil {
				break
			}
			m.Receive(r)
			n++
		}
	}
	r.stats.Messages += uint64(n)
	return n + r.calls.run(r)
}

func (r *Reactor) sendOverflow(to int) int {
	o, target := r.overflow[to], r.group.reactors[to]
	n := 0
	for n < len(o) && target.inbox[r.index].push(o[n]) {
		n++
	}
	clear(o[:n])
	r.overflow[to] = append(o[:0], o[n:]...)
	if n > 0 {
		r.wake(target)
	}
	return n
}

func (r *Reactor) hasMail() bool {
	for i, q := range r.inbox {
		if !q.empty() || len(r.overflow[i]) > 0 {
			return true
		}
	}
	return r.calls.waiting.Load() > 0
}

// ErrStopped is returned for a reactor that has ended.
var ErrStopped = errors.New("reactor: stopped")

// callQueue brings functions of ordinary goroutines to the reactor: control work, seldom, so a mutex serves.
type callQueue struct {
	mu      sync.Mutex
	fns     []func()
	waiting atomic.Int64
	closed  bool
}

func (q *callQueue) push(f func()) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.fns = append(q.fns, f)
	q.waiting.Add(1)
	return true
}

func (q *callQueue) run(*Reactor) int {
	if q.waiting.Load() == 0 {
		return 0
	}
	q.mu.Lock()
	fns := q.fns
	q.fns = nil
	q.mu.Unlock()
	for _, f := range fns {
		q.waiting.Add(-1)
		f()
	}
	return len(fns)
}

func (q *callQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}

// Go lets f run on the reactor soon. Any goroutine may call it, and a reactor for itself or another on a control path.
func (r *Reactor) Go(f func()) error {
	if !r.calls.push(f) {
		return ErrStopped
	}
	if r.sleeping.Load() != 0 && r.sleeping.Swap(0) != 0 {
		r.wakeByFD()
	}
	return nil
}

// Call runs f on the reactor and returns when it has run. It must not be called on a reactor, which would wait for itself.
func (r *Reactor) Call(f func()) error {
	done := make(chan struct{})
	if err := r.Go(func() { defer close(done); f() }); err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-r.group.ended[r.index]:
		select {
		case <-done:
			return nil
		default:
			return ErrStopped
		}
	}
}
