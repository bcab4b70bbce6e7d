package bdevsim_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
)

// quick is a disk that takes a microsecond or a few.
var quick = sim.Latency{Read: [2]int64{1, 2000}, Write: [2]int64{1, 2000}, Flush: [2]int64{1, 4000}}

func subject(durable bool) bdevtest.Subject {
	return bdevtest.Subject{
		Make: func(t bdevtest.T, g *bdev.Registry, blockSize uint32) *bdev.Device {
			d, err := bdevsim.New(g, sim.Config{Name: "Sim0", Seed: 1, BlockSize: blockSize, Blocks: uint64(bdevtest.Bytes / blockSize), Durable: durable, Latency: quick})
			if err != nil {
				t.Fatalf("%v", err)
			}
			return d
		},
		Crash:     func(d *bdev.Device) { bdevsim.DiskOf(d).Locked(func(m *sim.Disk) { m.Crash(sim.None) }) },
		Allocates: true,
	}
}

// On running reactors the disk keeps the contract of every device.
func TestContract(t *testing.T) {
	t.Run("volatile", func(t *testing.T) { bdevtest.Run(t, subject(false)) })
	t.Run("durable", func(t *testing.T) { bdevtest.Run(t, subject(true)) })
}

func TestStuckRequests(t *testing.T) {
	w := bdevsim.NewWorld(t, 1, 2)
	d := w.Disk("Disk0", 1<<20)
	m := bdevsim.DiskOf(d).Medium()
	a, b := newClient(w, 0, d), newClient(w, 1, d)
	stuck := m.Inject(sim.Fault{Effect: sim.Stick, Kinds: sim.KindsOf(sim.Write)})
	a.begin(bdev.Write, 0, 1, false)
	b.begin(bdev.Write, 1, 1, false)
	b.w.Settle()
	if !a.left || !b.left || m.Stuck() != 2 {
		t.Fatalf("%d are stuck", m.Stuck())
	}
	w.On(1, func(*reactor.Reactor) {
		if !b.c.Abort(&b.q) {
			t.Error("a stuck request cannot be aborted")
		}
	})
	w.Run("it is aborted", func() bool { return !b.left })
	stuck.Remove()
	stuck.Release()
	w.Run("the other is done", func() bool { return !a.left })
	if a.q.Status != bdev.StatusOK || b.q.Status != bdev.StatusAborted {
		t.Errorf("%v and %v", a.q.Status, b.q.Status)
	}
	if p := m.Snapshot().Pending(); len(p) != 8 || p[0].Sector != 0 {
		t.Errorf("pending are %v", p)
	}
}

// A request is aborted while its release is on its way, and its place at the disk is taken by one that is stuck again: that one was not
// released.
func TestAReleaseIsForTheRequestThatWasStuck(t *testing.T) {
	w := bdevsim.NewWorld(t, 1, 1)
	d := w.Disk("Disk0", 1<<20)
	m := bdevsim.DiskOf(d).Medium()
	k := newClient(w, 0, d)
	stuck := m.Inject(sim.Fault{Effect: sim.Stick})
	k.begin(bdev.Write, 0, 1, false)
	again := 0
	k.again = func() {
		if again++; again == 1 {
			k.left = true
			k.c.Submit(&k.q)
		}
	}
	_ = k.r.Go(func() { // in a tick, at whose end the abortion is heard; the release comes with the next
		stuck.Release()
		k.c.Abort(&k.q)
	})
	w.Settle()
	if again != 1 || !k.left || m.Stuck() != 1 {
		t.Errorf("ended %d times, in flight %v, %d stuck", again, k.left, m.Stuck())
	}
	stuck.Release()
	w.Run("it is released at last", func() bool { return again == 2 })
	if k.q.Status != bdev.StatusOK {
		t.Error(k.q.Status)
	}
}

func TestRequestsFailWithTheMedium(t *testing.T) {
	w := bdevsim.NewWorld(t, 1, 1)
	d := w.Disk("Disk0", 1<<20)
	k := newClient(w, 0, d)
	m := bdevsim.DiskOf(d).Medium()
	m.Inject(sim.Fault{Effect: sim.Fail, First: 3, Blocks: 1})
	m.Inject(sim.Fault{Effect: sim.Fail, Kinds: sim.KindsOf(sim.Flush)})
	for _, c := range []struct {
		kind bdev.Kind
		lba  uint64
		want bdev.Status
	}{
		{bdev.Read, 3, bdev.StatusIO}, {bdev.Write, 2, bdev.StatusIO}, {bdev.Write, 4, bdev.StatusOK}, {bdev.Flush, 0, bdev.StatusIO},
		{bdev.Unmap, 3, bdev.StatusIO}, {bdev.WriteZeroes, 2, bdev.StatusIO},
	} {
		if s := k.do(c.kind, c.lba, 2, false); s != c.want {
			t.Errorf("%v at %d: %v, want %v", c.kind, c.lba, s, c.want)
		}
	}
}

// failures stands for a test, to see how a world fails.
type failures struct {
	testing.TB
	text string
}

type failed struct{}

func (f *failures) Fatalf(format string, args ...any) {
	f.text = strings.TrimSpace(fmt.Sprintf(format, args...))
	panic(failed{})
}

func (f *failures) Helper() {}

func TestAWorldThatFailsSaysHowToReplayIt(t *testing.T) {
	for _, c := range []struct {
		name, want string
		run        func(w *bdevsim.World)
	}{
		{"nothing moves", "nothing moves any more", func(w *bdevsim.World) { w.Run("x", func() bool { return false }) }},
		{"without end", "not after 50 rounds", func(w *bdevsim.World) { forEver(w); w.Run("x", func() bool { return false }) }},
		{"it does not come to rest", "not after 50 rounds", func(w *bdevsim.World) { forEver(w); w.Settle() }},
		{"time passes too slowly", "not over after 50 rounds", func(w *bdevsim.World) { forEver(w); w.RunFor(reactor.Second) }},
	} {
		w := bdevsim.NewWorld(t, 42, 2)
		w.Rounds = 50
		k := newClient(w, 0, w.Disk("Disk0", 1<<20))
		k.must(bdev.Write, 7, 1, false)
		f := &failures{TB: t}
		w.T = f
		func() {
			defer func() {
				if p := recover(); p != (failed{}) {
					t.Errorf("%s: %v", c.name, p)
				}
			}()
			c.run(w)
		}()
		w.T = t
		for _, part := range []string{c.want, "seed 42", "POLLUX_SIM_SEED=42 go test", "^TestAWorldThatFailsSaysHowToReplayIt$", "./bdev/bdevsim", "write done"} {
			if !strings.Contains(f.text, part) {
				t.Errorf("%s: %q is missing in\n%s", c.name, part, f.text)
			}
		}
	}
}

// ever is a timer that sets itself again.
type ever struct {
	r     *reactor.Reactor
	timer reactor.Timer
}

func (e *ever) Run() { e.r.SetTimer(&e.timer, e.r.Now()+10, e) }

func forEver(w *bdevsim.World) {
	e := &ever{r: w.Reactor(1)}
	w.On(1, func(*reactor.Reactor) { e.Run() })
}

func TestTimePassesAsTold(t *testing.T) {
	w := bdevsim.NewWorld(t, 1, 2)
	start := w.Now()
	w.RunFor(reactor.Second)
	if w.Now() != start+reactor.Second || w.Reactor(0).Now() < start+reactor.Second-1000 {
		t.Errorf("from %d to %d, on a reactor %d", start, w.Now(), w.Reactor(0).Now())
	}
	var at reactor.Ticks
	var timer reactor.Timer
	w.On(1, func(r *reactor.Reactor) {
		r.SetTimer(&timer, r.Now()+3*reactor.Second, runFunc(func() { at = r.Now() }))
	})
	end := w.Now() + 3*reactor.Second
	w.RunFor(reactor.Second)
	if at != 0 || w.Now() >= end {
		t.Errorf("the timer ran at %d, it is %d", at, w.Now())
	}
	w.Run("the timer runs", func() bool { return at > 0 })
	if at < end-2000 || at > end+2000 {
		t.Errorf("set for %d, it ran at %d", end, at)
	}
}

type runFunc func()

func (f runFunc) Run() { f() }
