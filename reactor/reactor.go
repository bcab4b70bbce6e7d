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
//   - Nothing in a tick allocates, locks or blocks. The sleep between two ticks blocks, and
//     what is made once (operations bound, sockets, timers past the high-water mark) allocates.
//   - What the kernel reads or writes is off the stack, and is referenced until the operation has completed.
//   - A group's reactors end together, when nothing is in flight on or between them.
//
// The Go runtime is a neighbour. A reactor keeps its thread and a processor (P) of the scheduler for as long as it spins (linger, and
// internal/hold), and gives the processor back while it sleeps, because the call that waits is announced to the scheduler; calls that return at once are not.
// Nothing here parks a goroutine on a reactor: that costs 40 to 90 us. The collector stops a spinning reactor by a signal, as any
// loop. TuneRuntime gives it the room it needs beside them. Memory for I/O is outside the heap.
//
// Units: Ticks are nanoseconds since the process began; sizes are bytes.
//
// Simulate makes reactors that have no thread, ring or clock and move only when they are stepped, for simulations of what is built
// on them: simulate.go.
//
// It knows nothing of devices, protocols or requests.
package reactor

import (
	"fmt"
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/internal/hold"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor/ring"
)

// Reactor is one polling loop. Its methods are called on it alone, unless they say otherwise.
type Reactor struct {
	index int
	core  int
	group *Group
	tid   int

	ring     *ring.Ring
	ringless bool // simulated
	can      kernelCan
	tables   bool // the ring has buffer and file tables
	files    fileTable
	polled   *polledRing // nil until a file needs it
	cfg      *Config
	now      Ticks

	ops      []*Op
	opsFree  []uint32
	inFlight int

	deferred list
	flushes  list
	timers   timerHeap
	pollers  []*pollerEntry

	inbox   []*messageRing // by the sender's index
	outbox  []outbox       // by the receiver's index
	touched []*outbox      // sent to in this tick: these peers are woken at its end, if they sleep
	sent    uint64
	calls   callQueue

	sleeping atomic.Uint32
	policy   atomic.Int32
	spin     Ticks
	lastIO   Ticks         // when a tick last found a completion, a message or a poller's work
	yielded  Ticks         // when the core was last offered to others
	requests hold.Requests // of the Go scheduler, for the processor

	wakeFD  int
	wakeBuf *uint64

	stop stopState

	memory *Memory
	stats  Stats
	turns  Turns
	busy   bool // the current tick found work
}

// kernelCan is what older kernels lack and the reactor does in another way.
type kernelCan struct {
	msgRing         bool // post a completion to another ring (5.18)
	acceptMultishot bool // accept until cancelled (5.19)
}

// Stats counts what a reactor did since it began.
type Stats struct {
	Busy, Idle  Ticks  // time in ticks that found work, and all other time, asleep included
	Asleep      Ticks  // the part of Idle that was spent asleep
	Ticks       uint64 // turns of the loop
	Sleeps      uint64
	Wakes       uint64 // wake-ups sent to sleeping peers
	Completions uint64 // of operations
	Enters      uint64 // system calls into the ring
	Messages    uint64 // received
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

// Stats gives the counters as they stand at the beginning of the current tick.
func (r *Reactor) Stats() Stats {
	s := r.stats
	if r.ring != nil {
		s.Enters = r.ring.Enters()
	}
	if r.polled != nil {
		s.Enters += r.polled.ring.Enters()
	}
	return s
}

// CPUTime is the processor time that the reactor's thread has used, by itself and in the kernel on its behalf.
func (r *Reactor) CPUTime() (user, system Ticks) {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_THREAD, &u) != nil {
		return 0, 0
	}
	return Ticks(u.Utime.Nano()), Ticks(u.Stime.Nano())
}

// ThreadID is the kernel's id of the reactor's thread. Any goroutine may ask.
func (r *Reactor) ThreadID() int { return r.tid }

// Setup is the set of flags with which the kernel set the ring up. Any goroutine may ask. It is not for simulated reactors, which
// have no ring.
func (r *Reactor) Setup() ring.SetupSet { return r.ring.Setup() }

// run is the reactor's life. started hears once whether it could begin.
func (r *Reactor) run(started chan<- error) {
	runtime.LockOSThread() // never unlocked: the pinned thread ends with the goroutine
	if err := r.begin(); err != nil {
		r.calls.closeIfEmpty()
		r.end()
		started <- err
		return
	}
	spinning.Add(1)
	defer spinning.Add(-1)
	started <- nil
	alive := true
	defer func() {
		if alive {
			if p := recover(); p != nil {
				panic(p)
			}
			panic("invariant broken: reactor: something that ran on a reactor ended its goroutine (runtime.Goexit, testing's FailNow)")
		}
	}()
	r.now = now()
	r.lastIO = r.now
	for {
		if r.tick() {
			continue
		}
		if r.stop.asked && r.stopStep() {
			break
		}
		if r.mayBlock() {
			r.sleep()
		} else {
			r.yield()
			r.linger()
		}
	}
	alive = false
	r.end()
}

// begin does what only the reactor's own thread can do.
func (r *Reactor) begin() error {
	cfg := r.cfg
	r.tid = unix.Gettid()
	if r.core >= 0 {
		var set unix.CPUSet
		set.Set(r.core)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("pinning reactor %d to core %d: %w", r.index, r.core, err)
		}
	}
	var err error
	if r.ring, err = ring.Open(ring.Config{Entries: cfg.RingEntries, CQEntries: 4 * cfg.RingEntries, Setup: cfg.RingSetup, Requests: &r.requests}); err != nil {
		return fmt.Errorf("starting reactor %d: %w", r.index, err)
	}
	r.can = kernelCan{r.ring.Supports(ring.OpMsgRing), r.ring.Supports(ring.OpAcceptMultishot)}
	if cfg.old {
		r.can = kernelCan{}
	}
	// These three make it faster or fairer; kernels that lack them serve as well.
	_ = r.ring.RegisterSelf()
	_ = r.ring.SetWorkerCores(&cfg.workerCores)
	r.tables = !cfg.old && r.ring.RegisterTables(cfg.chunksMax(), filesMax) == nil
	if r.tables {
		r.files = newFileTable(r.ring, filesMax)
	}
	if r.memory, err = newMemory(r, cfg); err != nil {
		return fmt.Errorf("starting reactor %d: %w", r.index, err)
	}
	// Not EFD_NONBLOCK: for a descriptor that does not block, io_uring of older kernels answers EAGAIN instead of waiting.
	if r.wakeFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		return fmt.Errorf("starting reactor %d: making its eventfd: %w", r.index, err)
	}
	r.wakeBuf = new(uint64)
	r.armWake()
	return nil
}

// end releases what begin made. The queue of calls is closed, and the peers have ended or send nothing more.
func (r *Reactor) end() {
	r.calls.awaitWakers()
	if r.ring != nil {
		_ = r.ring.Close()
	}
	if r.polled != nil {
		_ = r.polled.ring.Close()
	}
	if r.memory != nil {
		r.memory.unmap()
	}
	if r.wakeFD >= 0 {
		_ = unix.Close(r.wakeFD)
	}
	close(r.group.ended[r.index])
}

// tick is one turn of the loop; it reports whether it found anything to do.
func (r *Reactor) tick() bool {
	r.advance(now())
	io := r.reap(r.ring)
	if r.polled != nil {
		io += r.reap(r.polled.ring)
	}
	r.turn(io)
	r.ring.Submit()
	if r.polled != nil {
		r.polled.ring.Submit()
	}
	if r.requests.Noted() {
		r.answer()
	}
	return r.busy
}

// advance begins a tick at time t.
func (r *Reactor) advance(t Ticks) {
	elapsed := t - r.now
	if r.busy {
		r.stats.Busy += elapsed
	} else {
		r.stats.Idle += elapsed
	}
	if elapsed > SlowTurn {
		r.turns.slow(elapsed)
	}
	r.now = t
	r.stats.Ticks++
}

// turn is what a tick does between the kernel's completions, of which there were io, and the kernel's new operations. Simulated
// reactors do nothing else.
func (r *Reactor) turn(io int) {
	io += r.takeMessages()
	work := r.calls.run() + r.timers.expire(r.now)
	for _, p := range r.pollers {
		io += p.poll(r.now)
	}
	work += r.runAll(&r.deferred)
	work += r.runAll(&r.flushes)
	r.wakePeers()
	if io > 0 {
		r.lastIO = r.now
	}
	r.busy = io+work > 0
}

// What UserData says besides the number of an operation.
const (
	idKind       = 3 << 32
	idWake       = 1 << 32 // something woke us; its own data: idWakeFD when our eventfd was read
	idWakeFD     = idWake | 1
	idWakeFailed = 2 << 32 // our message could not wake the peer with this index
	idIgnored    = 3 << 32
)

// reap delivers the completions that are there, at most a queue full, so that the other sources get their turn.
func (r *Reactor) reap(from *ring.Ring) int {
	n, ops := from.Ready(), 0
	for i := uint32(0); i < n; i++ {
		e := from.At(i)
		id, res, flags := e.UserData, e.Res, e.Flags
		if id >= idWake {
			r.reapOwn(id, res)
			continue
		}
		op := r.ops[id]
		invariant.Check(op != nil && op.inFlight, "reactor: completion of an operation that is not in flight")
		if flags&ring.More == 0 {
			op.inFlight, op.lent = false, nil
			r.inFlight--
		}
		op.done.OpDone(op, res, flags)
		ops++
	}
	if n > 0 {
		from.Advance(n)
		r.stats.Completions += uint64(ops)
	}
	return ops
}

// reapOwn takes the completion of what the reactor started for itself.
func (r *Reactor) reapOwn(id uint64, res int32) {
	switch id & idKind {
	case idWake:
		if id == idWakeFD {
			r.wakeRead(res)
		}
	case idWakeFailed:
		r.can.msgRing = false // from now on by eventfd, and so for the one who sleeps on
		r.group.reactors[uint32(id)].wakeByFD()
	}
}
