package reactor

import (
	"runtime"
	"sync/atomic"
)

// This file is how ordinary goroutines reach a reactor: they bring it functions, which it runs between two operations. Whoever serves control
// work must not keep hosts waiting, so a reactor takes no lock for it, and wakes no goroutine if it can be helped: both would hand it to the
// scheduler, the first for as long as the lock's owner is off its core.

// callQueue is a stack, to which goroutines add and which the reactor takes as a whole.
type callQueue struct {
	last   atomic.Pointer[call] // what was brought last; callsClosed: nothing is taken any more
	wakers atomic.Int64         // goroutines that push and may still write to the reactor's eventfd
}

type call struct {
	f      func()
	before *call // brought before it
}

var callsClosed = new(call)

// push adds f, unless the queue is closed. After it the caller wakes the reactor if need be, and then calls wakers.Add(-1).
func (q *callQueue) push(f func()) bool {
	c := &call{f: f}
	q.wakers.Add(1) // before f can be seen: who closes the queue then waits for us
	for {
		c.before = q.last.Load()
		if c.before == callsClosed {
			q.wakers.Add(-1)
			return false
		}
		if q.last.CompareAndSwap(c.before, c) {
			return true
		}
	}
}

func (q *callQueue) empty() bool {
	c := q.last.Load()
	return c == nil || c == callsClosed
}

// len is how many there are. Nobody takes them meanwhile.
func (q *callQueue) len() (n int) {
	if !q.empty() {
		for c := q.last.Load(); c != nil; c = c.before {
			n++
		}
	}
	return n
}

// run runs what is in the queue, in the order in which it was brought; what that adds waits for the next tick.
func (q *callQueue) run() (n int) {
	if q.empty() {
		return 0
	}
	var first *call
	for c := q.last.Swap(nil); c != nil; { // only the reactor closes it
		before := c.before
		c.before, first = first, c
		c = before
	}
	for c := first; c != nil; c = c.before {
		c.f()
		n++
	}
	return n
}

// closeIfEmpty ends the queue, unless something waits in it: what was accepted is run.
func (q *callQueue) closeIfEmpty() bool {
	return q.last.CompareAndSwap(nil, callsClosed) || q.last.Load() == callsClosed
}

// awaitWakers returns when nobody will write to the eventfd of a reactor whose queue is closed.
func (q *callQueue) awaitWakers() {
	for q.wakers.Load() != 0 {
		runtime.Gosched()
	}
}

// Go lets f run on the reactor soon. Any goroutine may call it, and a reactor for itself or another on a control path.
func (r *Reactor) Go(f func()) error {
	_, err := r.bring(f)
	return err
}

// bring is Go; it reports whether the reactor slept.
func (r *Reactor) bring(f func()) (slept bool, err error) {
	if !r.calls.push(f) {
		return false, ErrStopped
	}
	if slept = r.takeWake(); slept {
		r.wakeByFD()
	}
	r.calls.wakers.Add(-1)
	return slept, nil
}

// Call runs f on the reactor and returns when it has run. It must not be called on a reactor, which would wait for itself.
func (r *Reactor) Call(f func()) error {
	r.group.checkOutside()
	if r.group.simulated != nil {
		return r.callSimulated(f)
	}
	a := &answer{}
	slept, err := r.bring(func() { f(); a.give() })
	if err == nil {
		a.await(!slept) // what the queue accepted is run before the reactor ends
	}
	return err
}

// answer is the end of a call.
//
//	answerOpen ─▶ answerAwaited   the caller gives up its core, and has to be woken: by the reactor, with a system call
//	     └──────────────▶ answerGiven
type answer struct {
	state atomic.Uint32
	woken chan struct{}
}

const (
	answerOpen uint32 = iota
	answerAwaited
	answerGiven
)

// answerSpin is how long a caller looks for its answer before it gives up its core. A reactor that does not sleep answers within a turn,
// and waking a goroutine would cost the reactor more than the call.
const answerSpin = 50 * Microsecond

// give is on the reactor.
func (a *answer) give() {
	if a.state.Swap(answerGiven) == answerAwaited {
		close(a.woken)
	}
}

// await returns when the answer is given.
func (a *answer) await(soon bool) {
	if soon {
		for end := now() + answerSpin; now() < end; {
			if a.state.Load() == answerGiven {
				return
			}
		}
	}
	a.woken = make(chan struct{})
	if a.state.CompareAndSwap(answerOpen, answerAwaited) {
		<-a.woken
	}
}
