package reactor

import (
	"fmt"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/internal/hold"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor/ring"
)

// This file is how a reactor sleeps and is woken.
//
//	the sleeper                          whoever has something for it
//	1. sleeping = 1                      1. puts it into the mail (message ring, call queue)
//	2. looks at the mail: any? stay up   2. sleeping == 0? done
//	3. waits in the kernel               3. sleeping = 0, and wakes
//
// Both sides write before they look, in one total order (Go's atomics are sequentially consistent), so that one of them sees
// the other. Who swaps sleeping from 1 to 0 owes the wake-up: it sends it at once, and again by another way if it fails.

// Idle is what a reactor does when there is nothing to do.
type Idle int32

// The idle policies.
const (
	Adaptive  Idle = iota // spins for a bounded time after the last I/O, then sleeps
	Poll                  // never sleeps
	Interrupt             // sleeps at once
)

var idleNames = [...]string{"adaptive", "poll", "interrupt"}

// String gives the name that options and RPC use.
func (i Idle) String() string {
	if i >= 0 && int(i) < len(idleNames) {
		return idleNames[i]
	}
	return fmt.Sprintf("Idle(%d)", int32(i))
}

// ParseIdle reads a policy's name.
func ParseIdle(s string) (Idle, error) {
	for i, n := range idleNames {
		if s == n {
			return Idle(i), nil
		}
	}
	return 0, fmt.Errorf("no idle policy %q: choose poll, adaptive or interrupt", s)
}

// SetIdle changes the policy. Any goroutine may call it.
func (r *Reactor) SetIdle(i Idle) {
	r.policy.Store(int32(i))
	_ = r.Go(func() {}) // a sleeper looks again
}

// Idle gives the policy. Any goroutine may call it.
func (r *Reactor) Idle() Idle { return Idle(r.policy.Load()) }

// Asleep reports whether the reactor sleeps. Any goroutine may ask.
func (r *Reactor) Asleep() bool { return r.sleeping.Load() != 0 }

// mayBlock says whether the idle policy and the pollers allow a sleep now.
func (r *Reactor) mayBlock() bool {
	switch Idle(r.policy.Load()) {
	case Poll:
		return false
	case Adaptive:
		if r.now-r.lastIO < r.spin {
			return false
		}
	}
	return r.busyPoller() == nil && !r.polling()
}

// yieldSpan is how long a reactor spins without I/O before it offers its core to the kernel's own threads, and again each time.
const yieldSpan = 20 * Microsecond

// yield lets others run on the core for a moment, while an operation is in flight and nothing else has happened for a while. Some
// operations end in a kernel thread that is bound to the core of the completion's interrupt (a write with RWF_DSYNC to a file is
// one); beside a thread that only spins it would wait for the next tick of the scheduler, 4 ms away.
func (r *Reactor) yield() {
	if r.inFlight == 0 || r.now-r.lastIO < yieldSpan || r.now-r.yielded < yieldSpan {
		return
	}
	r.yielded = r.now
	OfferCore()
}

// OfferCore lets whoever else wants the core run on it for a moment. The thread does not sleep.
func OfferCore() {
	_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) // raw: the Go scheduler has nothing to do with it
}

// lingerSpan is how long a reactor that spins looks for work before it takes its next turn.
const lingerSpan = 10 * Microsecond

// linger waits for something that a turn would find. Meanwhile the reactor holds its processor of the Go scheduler: between two requests of a host is
// where it spends its time, and where it would be made to park its thread and wait for another to give the processor back. Pollers have
// to be asked, which takes turns.
func (r *Reactor) linger() {
	r.requests.Patient = spinning.Load() < procs.Load()
	if len(r.pollers) > 0 || r.polled != nil || r.stop.asked {
		return
	}
	until := r.now + lingerSpan
	if due, ok := r.timers.next(); ok {
		until = min(until, due)
	}
	hold.Begin() // nothing from here to the end may wait: package hold
	for !r.requests.Noted() && !r.ring.Waiting() && !r.hasMail() && now() < until {
		if hold.Asked() {
			r.requests.Note()
		}
	}
	hold.End()
	if r.requests.Noted() {
		r.answer()
	}
}

// answer makes room on the processor of the Go scheduler if what the scheduler asked for is not to be let pass.
func (r *Reactor) answer() {
	if r.requests.Answer(time.Duration(now())) {
		runtime.Gosched()
	}
}

// sleep waits in the kernel until a completion, message, call or timer.
func (r *Reactor) sleep() {
	r.requests.Settle(time.Duration(r.now)) // or the scheduler would have its room at the wake-up
	limit := int64(-1)
	if next, ok := r.timers.next(); ok {
		if limit = int64(next - now()); limit <= 0 {
			return
		}
	}
	if r.armPollers() {
		return
	}
	r.sleeping.Store(1)
	if r.hasMail() {
		r.sleeping.Store(0)
		return
	}
	r.stats.Sleeps++
	r.ring.Wait(limit)
	r.sleeping.Store(0)
	t := now()
	r.stats.Asleep += t - r.now
	r.stats.Idle += t - r.now
	r.now = t
}

// wakePeers ends the sleep of those whom this tick sent something.
func (r *Reactor) wakePeers() {
	for _, o := range r.touched {
		o.touched = false
		if !o.to.takeWake() {
			continue
		}
		r.stats.Wakes++
		if !r.can.msgRing {
			o.to.wakeByFD()
			continue
		}
		e := r.ring.Next()
		ring.PrepMsgRing(e, o.to.ring.Fd(), idWake, 0)
		e.Flags = ring.SkipSuccess // only a failure is reported to us
		e.UserData = idWakeFailed | uint64(o.to.index)
	}
	r.touched = r.touched[:0]
}

// takeWake reports whether the reactor sleeps and it falls to the caller to wake it.
func (r *Reactor) takeWake() bool { return r.sleeping.Load() != 0 && r.sleeping.Swap(0) != 0 }

// wakeByFD wakes the reactor from any thread. The descriptor is open: a caller from outside is counted by the queue of calls, and
// a peer sends nothing after the group's reactors have agreed to end.
func (r *Reactor) wakeByFD() {
	_, err := unix.Write(r.wakeFD, wakeOne[:])
	invariant.Check(err == nil, "reactor: an eventfd took no wake-up")
}

var wakeOne = *(*[8]byte)(unsafe.Pointer(&[1]uint64{1})) // in the machine's byte order

func (r *Reactor) armWake() {
	e := r.ring.Next()
	ring.PrepRead(e, r.wakeFD, unsafe.Pointer(r.wakeBuf), 8, 0)
	e.UserData = idWakeFD
}

// wakeRead takes the end of the read of the reactor's own eventfd, which without it could not be woken from outside.
func (r *Reactor) wakeRead(res int32) {
	err := syscall.Errno(-res)
	invariant.Check(res == 8 || err == syscall.EINTR || err == syscall.EAGAIN, "reactor: reading its own eventfd failed")
	r.armWake()
}

// SetSpin changes how long adaptive spins after the last work. It runs on the reactor.
func (r *Reactor) SetSpin(t Ticks) { r.spin = t }
