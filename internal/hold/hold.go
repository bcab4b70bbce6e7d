// Package hold lets a goroutine that is locked to its thread keep that thread's processor of the Go scheduler for a moment.
//
// The runtime's monitor asks every goroutine that has run for 10 ms to make room, whether anybody waits or not: a signal, and a mark that the next
// function call finds. For an ordinary goroutine that is a microsecond. One that is locked to its thread parks the thread, another thread
// takes its processor and gives it back: two switches between threads, each with a wake-up, up to 50 times a second. For one request at a time that is
// the tail of its latency.
//
// Between Begin and End requests to make room are found out (Asked) and noted (Note), and then answered (Answer): the monitor's come at most each 10 ms, and are let pass;
// those of the collector, and of whoever stops the world, are repeated after 100 us at the most, and whoever is asked twice in a millisecond makes
// room at once, with Gosched after End. So does who has made none for 100 ms: a goroutine may wait in this processor's own queue, where no other
// looks as long as it has work. While the monitor is busy with threads that wait in the kernel, it too asks more often. Where there are not more processors than those who hold one, others have none but what is made room for, and
// every request is served.
//
// The runtime does not forget a request that was let pass: it comes back when the goroutine returns from a system call that blocked, and so would be
// served when there is something to do again. Who is about to sleep serves it before (Settle), while there is nothing.
//
// Invariants
//   - Between Begin and End nothing waits, allocates, locks, or calls what it does not know: the scheduler stops a program that parks there.
//   - It is a few microseconds from Begin to End, or Asked is looked at as often.
//   - Where it is not known how requests are marked (another architecture) Begin and End do nothing. Another Go that marks them otherwise fails
//     this package's test.
package hold

import (
	"runtime"
	"time"
)

// Begin keeps the processor for the calling goroutine, until End.
func Begin() { begin() }

// End gives it free again.
func End() { end() }

// preempt is what the runtime puts in the place of a stack's limit to ask for room: stackPreempt in runtime/stack.go.
const preempt = ^uintptr(0) - 1313

// Asked reports that the calling goroutine is to make room.
func Asked() bool { return stackLimit() == preempt }

// Requests remembers what a goroutine was asked for, by whatever it calls. The zero value is ready. Times are of one clock, any.
type Requests struct {
	Patient bool // there are processors for others: a request that is not repeated is let pass

	noted  bool
	owed   bool          // one was let pass, and no room has been made since
	last   time.Duration // when it was asked last; the zero time is long ago
	made   time.Duration // when room was made last
	Passed uint64        // requests that were let pass
	Served uint64
}

// repeated is how soon a request is repeated by who needs it; patience how long all others are let pass.
const (
	repeated = time.Millisecond
	patience = 100 * time.Millisecond
)

// Note takes a request that Asked has found. It is called between Begin and End: its own call is what takes the mark away.
//
//go:noinline
func (r *Requests) Note() { r.noted = true }

// Noted reports that there is one to answer.
func (r *Requests) Noted() bool { return r.noted }

// Answer reports whether room is to be made for what was noted.
func (r *Requests) Answer(now time.Duration) (makeRoom bool) {
	makeRoom = !r.Patient || r.last != 0 && now-r.last < repeated || now-r.made >= patience
	r.noted, r.owed = false, !makeRoom
	r.last = now
	if makeRoom {
		r.made = now
		r.Served++
	} else {
		r.Passed++
	}
	return makeRoom
}

// Owes reports that a request was let pass and is not served yet.
func (r *Requests) Owes() bool { return r.owed }

// Settle makes room for a request that was let pass, if there is one.
func (r *Requests) Settle(now time.Duration) {
	if r.owed {
		r.owed, r.made = false, now
		r.Served++
		runtime.Gosched()
	}
}
