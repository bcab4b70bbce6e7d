// Package reactor runs polling loops, each on one core with one io_uring, and gives them what they need: operations on
// files and sockets, pollers, timers, messages between loops, and memory for I/O.
//
// The model: a Reactor is one goroutine locked to one thread, pinned to one core. Whatever it owns is touched by it alone
// and needs no lock. Other reactors reach it by a Message over a lock-free ring, other goroutines by Call. One turn of the
// loop (a tick) reaps completions, takes messages, runs due timers and pollers, then what those deferred, and hands all new
// operations to the kernel in one system call.
//
// Invariants
//   - Every source of work can wake a sleeping reactor: operations by their completion, timers by the sleep's limit, messages
//     and calls by a wake-up; a Poller must name its own source or is refused.
//   - A completion is delivered once, by the reactor that started the operation, never inside the call that started it.
//   - Nothing between two ticks allocates, locks or blocks, but for the sleep itself.
//
// Units: Ticks are nanoseconds since the process began; sizes are bytes.
//
// It knows nothing of devices, protocols or requests.
package reactor

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor/ring"
)

// Reactor is one polling loop. Its methods are called on it alone, unless they say otherwise.
type Reactor struct {
	index int
	core  int
	group *Group
	tid   int

	ring   *ring.Ring
	tables bool // the ring has buffer and file tables
	files  []uint16
	now    Ticks

	ops      []*Op
	opsFree  []uint32
	inFlight int

	deferred list
	flushes  list
	timers   timerHeap
	pollers  []*pollerEntry

	inbox    []*messageRing // by the sender's index
	overflow [][]Message    // by the receiver's index: sent, but its ring was full
	calls    callQueue

	sleeping atomic.Uint32
	policy   atomic.Int32
	spin     Ticks
	lastWork Ticks

	wakeFD   int
	wakeOp   Op
	wakeBuf  *uint64
	msgRing  bool // peers can be woken by a message from our ring
	stopping bool

	memory *Memory
	stats  Stats
}

// Stats counts what a reactor did since it began.
type Stats struct {
	Busy, Idle  Ticks  // time in ticks that found work, and in all others, asleep included
	Ticks       uint64 // turns of the loop
	Sleeps      uint64
	Wakes       uint64 // wake-ups sent to sleeping peers
	Completions uint64
	Enters      uint64 // system calls into the ring
	Messages    uint64
}

// Index is the reactor's place in its group, from 0.
func (r *Reactor) Index() int { return r.index }

// Core is the CPU it is pinned to, -1 if it is not.
func (r *Reactor) Core() int { return r.core }

// Group is the group that it belongs to.
func (r *Reactor) Group() *Group { return r.group }

// Now is the time at which the current tick began.
func (r *Reactor) Now() Ticks { return r.now }

// Memory is the reactor's pool of buffers.
func (r *Reactor) Memory() *Memory { return r.memory }

// Stats gives the counters as they stand.
func (r *Reactor) Stats() Stats {
	s := r.stats
	s.Enters = r.ring.Enters()
	return s
}

// Asleep reports whether the reactor sleeps. Any goroutine may ask.
func (r *Reactor) Asleep() bool { return r.sleeping.Load() != 0 }

// ThreadID is the kernel's id of the reactor's thread.
func (r *Reactor) ThreadID() int { return r.tid }

// run is the reactor's life. started hears once whether it could begin.
func (r *Reactor) run(cfg *Config, started chan<- error) {
	runtime.LockOSThread() // never unlocked: the pinned thread ends with the goroutine
	if err := r.begin(cfg); err != nil {
		r.end()
		started <- err
		return
	}
	started <- nil
	r.now = now()
	r.lastWork = r.now
	for {
		work := r.tick()
		if work {
			r.lastWork = r.now
			continue
		}
		if r.stopping && r.quiet() {
			break
		}
		if r.mayBlock() {
			r.sleep()
		}
	}
	r.end()
}

// begin does what only the reactor's own thread can do.
func (r *Reactor) begin(cfg *Config) error {
	r.tid = unix.Gettid()
	if r.core >= 0 {
		var set unix.CPUSet
		set.Set(r.core)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("pinning reactor %d to core %d: %w", r.index, r.core, err)
		}
	}
	var err error
	if r.ring, err = ring.Open(ring.Config{Entries: cfg.RingEntries, CQEntries: 4 * cfg.RingEntries, Setup: cfg.RingSetup}); err != nil {
		return fmt.Errorf("starting reactor %d: %w", r.index, err)
	}
	// These three make it faster or fairer; kernels that lack them serve as well.
	_ = r.ring.RegisterSelf()
	_ = r.ring.SetWorkerCores(&cfg.workerCores)
	r.tables = r.ring.RegisterTables(cfg.chunksMax(), filesMax) == nil
	r.files = make([]uint16, 0, filesMax)
	for i := filesMax - 1; i >= 0; i-- {
		r.files = append(r.files, uint16(i))
	}
	if r.memory, err = newMemory(r, cfg); err != nil {
		return fmt.Errorf("starting reactor %d: %w", r.index, err)
	}
	if r.wakeFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("starting reactor %d: making its eventfd: %w", r.index, err)
	}
	r.wakeBuf = new(uint64)
	r.Bind(&r.wakeOp, r)
	r.armWake()
	return nil
}

// end releases what begin made.
func (r *Reactor) end() {
	r.calls.close()
	if r.ring != nil {
		_ = r.ring.Close()
	}
	if r.memory != nil {
		r.memory.unmap()
	}
	if r.wakeFD > 0 {
		_ = unix.Close(r.wakeFD)
	}
	close(r.group.ended[r.index])
}

// tick is one turn of the loop; it reports whether it found anything to do.
func (r *Reactor) tick() bool {
	t := now()
	elapsed := t - r.now
	r.now = t

	work := r.reap()
	work += r.takeMessages()
	work += r.timers.expire(r.now)
	for _, p := range r.pollers {
		work += p.poll(r.now)
	}
	work += r.runAll(&r.deferred)
	work += r.runAll(&r.flushes)
	r.ring.Submit()

	r.stats.Ticks++
	if work > 0 {
		r.stats.Busy += elapsed
		return true
	}
	r.stats.Idle += elapsed
	return false
}

// reap delivers the completions that are there, at most a queue full, so that the other sources get their turn.
func (r *Reactor) reap() int {
	n := r.ring.Ready()
	for i := uint32(0); i < n; i++ {
		e := r.ring.At(i)
		id, res, flags := e.UserData, e.Res, e.Flags
		switch {
		case id < uint64(len(r.ops)):
			op := r.ops[id]
			if flags&ring.More == 0 {
				invariant.Check(op.inFlight, "reactor: completion of an operation that is not in flight")
				op.inFlight = false
				r.inFlight--
			}
			op.done.OpDone(op, res, flags)
		case id == idWakeFailed:
			r.msgRing = false // this kernel cannot: wake by eventfd from now on
		}
	}
	r.ring.Advance(n)
	r.stats.Completions += uint64(n)
	return int(n)
}

// mayBlock says whether the idle policy and the pollers allow a sleep now.
func (r *Reactor) mayBlock() bool {
	switch Idle(r.policy.Load()) {
	case Poll:
		return false
	case Adaptive:
		if r.now-r.lastWork < r.spin {
			return false
		}
	}
	for _, p := range r.pollers {
		if p.busy != nil && p.busy() {
			return false
		}
	}
	return true
}

// sleep waits in the kernel until a completion, message, call or timer. The order matters: the flag is up before the last
// look at the mail, so that a sender either is seen here or sees the flag and wakes us.
func (r *Reactor) sleep() {
	r.sleeping.Store(1)
	if r.hasMail() {
		r.sleeping.Store(0)
		return
	}
	limit := int64(-1)
	if next, ok := r.timers.next(); ok {
		limit = max(0, int64(next-now()))
	}
	r.stats.Sleeps++
	r.ring.Wait(limit)
	r.sleeping.Store(0)
	t := now()
	r.stats.Idle += t - r.now
	r.now = t
}

// quiet reports that nothing is left to be done before the reactor may end: only its own wake-up read is in flight.
func (r *Reactor) quiet() bool {
	return r.inFlight <= 1 && !r.hasMail() && r.deferred.head == nil && r.flushes.head == nil
}

const (
	idWake       = ^uint64(0)     // a peer's message woke us
	idWakeFailed = ^uint64(0) - 1 // our message to a peer failed
)

// wake ends the sleep of target, which this reactor has just sent something.
func (r *Reactor) wake(target *Reactor) {
	if target.sleeping.Load() == 0 || target.sleeping.Swap(0) == 0 {
		return
	}
	r.stats.Wakes++
	if !r.msgRing {
		target.wakeByFD()
		return
	}
	e := r.ring.Next()
	ring.PrepMsgRing(e, target.ring.Fd(), idWake, 0)
	e.Flags = 1 << 6 // IOSQE_CQE_SKIP_SUCCESS: only a failure is reported to us
	e.UserData = idWakeFailed
}

// wakeByFD wakes the reactor from any thread.
func (r *Reactor) wakeByFD() {
	one := [8]byte{1}
	_, _ = syscall.Write(r.wakeFD, one[:])
}

func (r *Reactor) armWake() {
	ring.PrepRead(r.Start(&r.wakeOp), r.wakeFD, unsafe.Pointer(r.wakeBuf), 8, 0)
}

// OpDone takes the end of the read of the reactor's own eventfd.
func (r *Reactor) OpDone(_ *Op, res int32, _ uint32) {
	if res < 0 && syscall.Errno(-res) != syscall.EAGAIN && syscall.Errno(-res) != syscall.EINTR {
		fmt.Fprintf(os.Stderr, "reactor %d: reading its eventfd: %v\n", r.index, syscall.Errno(-res))
	}
	r.armWake()
}
