// Package bdevsim is the world in which logs and volumes are proved: simulated reactors, devices on simulated disks, one seed, one clock,
// one goroutine.
//
// The model: a World steps its reactors, in an order that the seed draws at every round, until something that the test waits for is true.
// When no reactor finds anything to do the clock jumps to the next timer. All that is built on reactors and bdev runs in it as it is.
// A test that fails prints the seed and the command that replays it.
//
//	w := bdevsim.NewWorld(t, seed, 2)
//	d := w.Disk("Disk0", 16<<20)
//	w.Run("the write is done", func() bool { return done })
//	image := bdevsim.DiskOf(d).Medium().Snapshot().Crash(sim.None)
//	w.Reboot()
//	d = w.Open("Disk0", image)
//
// Invariants
//   - Only the seed decides. Two worlds of one seed in which the same is done have the same trace.
//   - Time passes by turns and timers alone, and never goes back, over reboots neither.
//   - A disk keeps the contract of package bdev on running reactors as well.
//
// Control work that blocks on a channel until a reactor has done something would wait for ever: nobody steps meanwhile. In a world it is
// begun, and Run waits for its end. (A goroutine for it was tried, in a bubble of testing/synctest: a completion wakes it in the middle of
// a turn, and then two run at once.)
//
// Units: as in packages reactor and bdev; sizes of disks are bytes.
package bdevsim

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
)

// World is reactors, their devices and their time.
type World struct {
	T        testing.TB
	Seed     uint64
	Rand     *rand.Rand // for what the test itself decides
	Group    *reactor.Group
	Registry *bdev.Registry
	Trace    *sim.Trace

	// Rounds is how many Run may take before it holds that something hangs.
	Rounds int
	// Options of disks that are made from now on; name, size and seed are the world's.
	Options sim.Config

	now   reactor.Ticks
	order []int
	drawn *rand.Rand // the order of turns
	boot  uint64
}

// turnTime is what a round in which somebody worked takes; idleTime what passes while only a busy poller waits.
const (
	turnTime = reactor.Ticks(200)
	idleTime = reactor.Microsecond

	roundsDefault = 1_000_000
	worldMemory   = 32 << 20
)

// NewWorld makes a world of n reactors, which ends with the test. Those who open many images Reboot one world; each world is kept until
// its test ends.
func NewWorld(t testing.TB, seed uint64, n int) *World {
	t.Helper()
	w := &World{T: t, Seed: seed, Trace: &sim.Trace{}, Rounds: roundsDefault, now: 1}
	w.start(n)
	t.Cleanup(func() {
		w.Group.Abandon()
		if t.Failed() {
			t.Logf("seed %d; to replay:\n\t%s", seed, sim.Replay(t, seed))
		}
	})
	return w
}

func (w *World) start(n int) {
	w.T.Helper()
	w.boot++
	w.Rand = sim.Stream(w.Seed+w.boot<<48, "test")
	w.drawn = sim.Stream(w.Seed+w.boot<<48, "turns")
	g, err := reactor.Simulate(n, reactor.Config{MemoryBytes: worldMemory})
	if err != nil {
		w.T.Fatal(err)
	}
	w.Group, w.Registry = g, bdev.NewRegistry(g)
	w.order = make([]int, n)
	for i := range w.order {
		w.order[i] = i
	}
	g.Step(w.now) // the time goes on
}

// Now is the world's time.
func (w *World) Now() reactor.Ticks { return w.now }

// Reactor gives the i-th.
func (w *World) Reactor(i int) *reactor.Reactor { return w.Group.Reactor(i) }

// Disk makes a device of so many bytes of zeros.
func (w *World) Disk(name string, bytes uint64) *bdev.Device {
	w.T.Helper()
	cfg := w.config(name)
	if cfg.BlockSize == 0 {
		cfg.BlockSize = 4096
	}
	cfg.Blocks = bytes / uint64(cfg.BlockSize)
	d, err := New(w.Registry, cfg)
	if err != nil {
		w.T.Fatal(err)
	}
	return d
}

// Open makes a device of an image.
func (w *World) Open(name string, i *sim.Image) *bdev.Device {
	w.T.Helper()
	d, err := Open(w.Registry, i, w.config(name))
	if err != nil {
		w.T.Fatal(err)
	}
	return d
}

func (w *World) config(name string) sim.Config {
	cfg := w.Options
	cfg.Name, cfg.Seed, cfg.Trace = name, w.Seed+w.boot<<48, w.Trace
	return cfg
}

// On runs f on a reactor.
func (w *World) On(i int, f func(r *reactor.Reactor)) {
	w.T.Helper()
	r := w.Group.Reactor(i)
	if err := r.Call(func() { f(r) }); err != nil {
		w.T.Fatal(err)
	}
}

// Step moves the world on: by a round, in which each reactor has a turn, and if that found nothing to do by a jump to the next timer
// and a round there. It reports false when nothing can happen any more unless somebody gives the reactors something to do.
func (w *World) Step() bool { return w.step(math.MaxInt64) }

// step does so, but jumps no further than to a limit.
func (w *World) step(limit reactor.Ticks) bool {
	if w.round() {
		w.now += turnTime
		return true
	}
	next, timer := w.Group.NextTimer()
	switch {
	case w.Group.BusyPoller():
		next = w.now + idleTime
	case !timer:
		return false
	}
	w.now = max(w.now, min(next, limit))
	w.round()
	return true
}

// round lets the reactors take their turns in an order that is drawn; now and then one is passed over. It reports whether there may be
// more to do at the same time.
func (w *World) round() bool {
	w.drawn.Shuffle(len(w.order), func(i, k int) { w.order[i], w.order[k] = w.order[k], w.order[i] })
	more := false
	for _, i := range w.order {
		if len(w.order) > 1 && w.drawn.IntN(16) == 0 {
			more = true
			continue
		}
		more = w.Group.Reactor(i).Step(w.now) || more
	}
	return more
}

// Run steps until what the test waits for is true. It fails the test if nothing moves any more before, or all goes on for too long.
func (w *World) Run(what string, until func() bool) {
	w.T.Helper()
	for n := 0; !until(); n++ {
		if n >= w.Rounds {
			w.fail("waiting until %s: not after %d rounds", what, n)
		}
		if !w.Step() && !until() {
			w.fail("waiting until %s: nothing moves any more", what)
		}
	}
}

// RunFor lets so much time pass, whatever happens in it.
func (w *World) RunFor(span reactor.Ticks) {
	w.T.Helper()
	end := w.now + span
	for n := 0; w.now < end; n++ {
		if n >= w.Rounds {
			w.fail("letting %d ns pass: not over after %d rounds", span, n)
		}
		if !w.step(end) {
			w.now = end
			w.round()
		}
	}
}

// Settle steps until nothing moves any more; timers that are set over and over again let it fail.
func (w *World) Settle() {
	w.T.Helper()
	for n := 0; w.Step(); n++ {
		if n >= w.Rounds {
			w.fail("letting all come to rest: not after %d rounds", n)
		}
	}
}

// fail ends the test with the last events. The seed follows at its end.
func (w *World) fail(format string, args ...any) {
	w.T.Helper()
	w.T.Fatalf("at %d: "+format+"\nseed %d; to replay:\n\t%s\nthe last events:\n%s",
		append(append([]any{w.now}, args...), w.Seed, sim.Replay(w.T, w.Seed), w.Trace)...)
}

// Reboot ends the reactors in the middle of whatever they do, and starts as many new ones, without devices. What the test kept of the
// old ones it must not use any more.
func (w *World) Reboot() {
	w.T.Helper()
	n := w.Group.Len()
	w.Group.Abandon()
	w.Trace.Add(int64(w.now), "world", "reboot", w.boot, 0, 0)
	w.start(n)
}
