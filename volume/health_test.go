package volume

import (
	"slices"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
)

// TestHealthOfAllInputs (O-1, O-3): every combination against the rules, written down once more.
func TestHealthOfAllInputs(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	ages := []time.Duration{0, ScrubFresh, ScrubFresh + time.Second, 1000 * time.Hour}
	for role := range roleEnd {
		for _, wounded := range []bool{false, true} {
			for _, failed := range []bdev.Status{bdev.StatusOK, bdev.StatusReadOnly, bdev.StatusIO, bdev.StatusNoSpace} {
				stranded := bdev.StatusOK
				if failed == bdev.StatusNoSpace {
					failed, stranded = bdev.StatusOK, bdev.StatusIO
				}
				for loss := range Losses + 1 {
					fenced := loss == Losses
					if fenced {
						loss = LossCache
					}
					for _, bad := range []uint64{0, 1, 4, 5, 6, 1 << 63} {
						for _, age := range ages {
							in := HealthInput{Role: role, Wounded: wounded, Failed: failed, Stranded: stranded, Loss: loss, Fenced: fenced, BadBlocks: bad, Scrubbed: now.Add(-age), Now: now}
							got := in.Health()
							state := Healthy
							if loss != LossNone {
								state = Degraded
							}
							if role != RolePrimary || wounded || fenced || failed != bdev.StatusOK || stranded != bdev.StatusOK {
								state = Unsafe
							}
							score := map[uint64]float64{0: 1, 1: 0.9, 4: 0.6}[bad]
							if bad >= 5 {
								score = 0.5
							}
							if age > 48*time.Hour {
								score -= 0.1
							}
							if got.State != state || got.Score < score-1e-9 || got.Score > score+1e-9 {
								t.Errorf("%+v: %v, %v; want %v, %v", in, got.State, got.Score, state, score)
							}
							if whole := state == Healthy && score == 1; whole != (len(got.Reasons) == 0) {
								t.Errorf("%+v: reasons %q", in, got.Reasons)
							}
						}
					}
				}
			}
		}
	}
}

func TestHealthOfAPool(t *testing.T) {
	healthy, degraded, worst := Health{Score: 1}, Health{State: Degraded, Score: 0.9}, Health{State: Unsafe, Score: 0.4}
	for _, c := range []struct {
		name    string
		in      PoolHealthInput
		state   State
		score   float64
		reasons int
	}{
		{"empty", PoolHealthInput{}, Healthy, 1, 0},
		{"its volumes are healthy, and it is rather full", PoolHealthInput{Volumes: []Health{healthy, healthy}, Fill: FillHigh}, Healthy, 1, 0},
		{"it is nearly full", PoolHealthInput{Volumes: []Health{healthy}, Fill: FillCritical}, Degraded, 1, 1},
		{"it is full", PoolHealthInput{Fill: FillFull}, Degraded, 1, 1},
		{"a deletion did not end", PoolHealthInput{Problems: []string{"x"}}, Degraded, 1, 1},
		{"one volume is degraded", PoolHealthInput{Volumes: []Health{healthy, degraded}}, Degraded, 0.9, 1},
		{"one is unsafe", PoolHealthInput{Volumes: []Health{worst, healthy, degraded}, Problems: []string{"x"}}, Unsafe, 0.4, 3},
	} {
		if h := c.in.Health(); h.State != c.state || h.Score != c.score || len(h.Reasons) != c.reasons {
			t.Errorf("%s: %+v", c.name, h)
		}
	}
}

// TestHealthBreaksAndHeals: each input by what makes it true in the running engine, and by what ends it (G-68).
func TestHealthBreaksAndHeals(t *testing.T) {
	h := newHouse(t, 1, 2, 96<<20)
	v := h.volume("v0", 16<<20)
	k := h.client(v, 1)
	start := h.w.Now()
	wall := time.Unix(created(), 0)
	is := func(what string, state State, score float64) {
		t.Helper()
		i, err := v.Info()
		if err != nil {
			t.Fatal(err)
		}
		now := wall.Add(time.Duration(h.w.Now() - start))
		if got := i.Health(now); got.State != state || got.Score != score {
			t.Fatalf("%s: %+v", what, got)
		}
	}
	is("a new one", Healthy, 1)
	k.must(bdev.Write, 0, 16, pattern(sim.Stream(1, "data"), 16))
	h.forced(v)
	h.scrubbed(v)
	is("scrubbed", Healthy, 1)

	h.w.RunFor(49 * 3600 * reactor.Second)
	is("two days later", Healthy, 0.9)
	wall, start = time.Unix(created(), 0), h.w.Now() // the engine asks the machine's clock when a pass begins
	h.scrubbed(v)
	is("scrubbed again", Healthy, 1)

	bad := h.homeOf(v, 3)
	h.flip(bad)
	h.scrubbed(v)
	is("a flipped bit was found", Healthy, 0.9)
	k.must(bdev.Write, 3, 1, pageMemory(1))
	h.forced(v)
	is("the block is written again, and nobody has looked", Healthy, 0.9)
	h.scrubbed(v)
	is("somebody has", Healthy, 1)
	h.w.RunFor(reactor.Second) // the end of the pass is durable

	h.w.On(v.r.Index(), func(*reactor.Reactor) { v.role = RoleStale })
	is("it is not the primary", Unsafe, 1)
	h.w.On(v.r.Index(), func(*reactor.Reactor) { v.role = RolePrimary })
	is("it is again", Healthy, 1)

	for flags, state := range map[VolumeFlags]State{0: Degraded, VolumeFenced: Unsafe} {
		h.w.On(v.r.Index(), func(*reactor.Reactor) { v.page.Loss, v.page.Flags = LossCache, v.page.Flags|flags })
		is("its cache may have been lost", state, 1)
		if err := v.ReleaseLoss(); err != nil {
			t.Fatal(err)
		}
		is("that is released", Healthy, 1)
	}

	medium := bdevsim.DiskOf(h.disk).Medium()
	e := v.page.Log[0]
	medium.Inject(sim.Fault{Kinds: sim.KindsOf(sim.Write), First: uint64(e.Place), Blocks: e.Pages, Effect: sim.Fail})
	if s := k.do(bdev.Write, 0, 1, pageMemory(1)); s == bdev.StatusOK {
		t.Fatal("a write whose log cannot be written succeeds")
	}
	is("the log cannot be written", Unsafe, 1)
	medium.Heal()
	h.crash(func(i *sim.Image) *sim.Image { return i.Crash(sim.All) })
	v = h.find("v0")
	is("opened again with a disk that is whole", Healthy, 1)
}

func TestStatesHaveNames(t *testing.T) {
	for s := range States {
		if s.String() == "" || slices.Index(stateNames[:], s.String()) != int(s) {
			t.Error(s)
		}
	}
}
