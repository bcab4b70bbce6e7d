package volume

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is pages of a checkpoint that cannot be written (V-31): they go to other places, and a volume that finds none says why it ends.

// nextPages are the places that the next single pages get.
func (x *remapHouse) nextPages(n int) []Place {
	places := make([]Place, n)
	x.w.On(0, func(*reactor.Reactor) {
		al := x.pool.alloc
		places = places[:al.GrantPages(places, Freeing)]
		for _, p := range places {
			al.GiveBack(p, 1)
		}
	})
	return places
}

// mapped is a volume with a map of two levels, of which four leaves are home.
func (x *remapHouse) mapped() {
	for i := range uint64(4) {
		x.write(i*64, 3)
	}
	x.forced(x.v)
}

// unhurt says that the volume goes on, and that all is as it was written, after a power cut too.
func (x *remapHouse) unhurt(bad []Place) {
	x.t.Helper()
	if x.v.failed != bdev.StatusOK {
		x.t.Fatalf("the volume is %v", x.v.failed)
	}
	x.health(Healthy)
	x.same("with pages elsewhere")
	x.checked()
	for _, p := range bad {
		x.unused(p, 1)
	}
	for i := range uint64(12) {
		x.write(i*16, 5)
		x.forced(x.v)
	}
	for _, p := range bad {
		x.unused(p, 1)
	}
	x.same("and later")
	x.again()
	x.same("after a power cut")
	x.checked()
	x.write(34, 1)
	x.forced(x.v)
	x.same("and written again")
}

func TestAPageOfACheckpointThatCannotBeWrittenGoesElsewhere(t *testing.T) {
	reserve := func(x *remapHouse) {
		x.t.Helper()
		x.mustSave(x.v, 0, reserveOwners[0], []byte("somebody"))
	}
	snapshot := func(x *remapHouse) {
		x.t.Helper()
		if _, err := x.v.CreateSnapshot(SnapshotConfig{Name: "s"}); err != nil {
			x.t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		bad  []int // which of the next pages
		then func(x *remapHouse)
	}{
		{"the first", []int{0}, nil},
		{"the second", []int{1}, nil},
		{"a page of the directory", []int{2}, nil},
		{"the top of the directory", []int{3}, nil},
		{"both of the directory, again and again", []int{2, 3, 4, 5, 6}, nil},
		{"three in a row", []int{0, 1, 2}, nil},
		{"others fail as well", []int{0, 3, 4, 5}, nil},
		{"with a snapshot, the first", []int{0}, snapshot},
		{"with a snapshot, the second", []int{1}, snapshot},
		{"with a snapshot, the third", []int{2}, snapshot},
		{"with a snapshot, the fourth", []int{3}, snapshot},
		{"with a snapshot, the fifth", []int{4}, snapshot},
		{"with reservations, the second", []int{1}, reserve},
		{"with reservations, the third", []int{2}, reserve},
		{"with reservations, the fourth", []int{3}, reserve},
		{"with a snapshot, all that come first", []int{0, 1, 2, 3, 4, 5, 6, 7}, snapshot},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newRemapHouse(t)
			x.mapped()
			next := x.nextPages(16)
			var in []*sim.Injected
			var bad []Place
			for _, i := range c.bad {
				in, bad = append(in, x.bad(next[i], 1, 0)), append(bad, next[i])
			}
			for i := range uint64(4) {
				x.write(i*64, 1)
			}
			if c.then != nil {
				c.then(x)
			}
			x.forced(x.v)
			hits := uint64(0)
			for i, f := range in {
				if hits += f.Hits(); f.Hits() > 1 {
					t.Errorf("the bad page %d was written %d times", bad[i], f.Hits())
				} else if f.Hits() == 0 {
					bad[i] = 0
				}
			}
			if hits == 0 || x.v.counters.HomeErrors > hits { // those of the directory are the pool's
				t.Fatalf("%d writes failed, and %d were counted", hits, x.v.counters.HomeErrors)
			}
			var met []Place
			for _, p := range bad {
				if p != 0 {
					met = append(met, p)
				}
			}
			x.unhurt(met)
		})
	}
}

// TestWhatChangesWhileAPageGoesElsewhere is not lost, and not in that checkpoint.
func TestWhatChangesWhileAPageGoesElsewhere(t *testing.T) {
	x := newRemapHouse(t)
	x.mapped()
	stages := new(wal.Stages)
	x.v.stages = stages
	next := x.nextPages(8)
	in := []*sim.Injected{x.bad(next[0], 1, 0), x.bad(next[2], 1, 0)}
	x.w.On(0, func(*reactor.Reactor) { stages.Shut(wal.StageMap) })
	for i := range uint64(4) {
		x.write(i*64, 1)
	}
	x.w.On(0, func(*reactor.Reactor) { x.v.flusher.force = true; x.v.hurry() })
	x.w.Run("the checkpoint is held", func() bool { return stages.Waiting(wal.StageMap) > 0 })
	x.write(5, 2)
	x.write(70, 3)
	x.w.On(0, func(*reactor.Reactor) { stages.Open(wal.StageMap) })
	x.forced(x.v)
	if in[0].Hits()+in[1].Hits() == 0 {
		t.Fatal("nothing has failed")
	}
	x.unhurt(nil)
}

func TestNoPlaceForAPageOfTheMap(t *testing.T) {
	for _, c := range []struct {
		name string
		bad  func(x *remapHouse)
		why  bdev.Status
	}{
		{"every place is bad", func(x *remapHouse) {
			for _, p := range x.nextPages(64) {
				x.bad(p, 1, 0)
			}
		}, bdev.StatusIO},
		{"the pool has no other", func(x *remapHouse) {
			x.w.On(0, func(*reactor.Reactor) { // but for what is promised
				al, p := x.pool.alloc, make([]Place, 1)
				for al.GrantPages(p, Freeing) > 0 {
				}
				p[0] = al.takePage()
				al.GiveBack(p[0], 1)
				x.bad(p[0], 1, 0)
			})
		}, bdev.StatusIO},
		{"the pool has half of its cushion", func(x *remapHouse) {
			x.w.On(0, func(*reactor.Reactor) {
				al, p := x.pool.alloc, make([]Place, 1)
				for al.GrantPages(p, Overwriting) > 0 {
				}
				p[0] = al.takePage()
				al.GiveBack(p[0], 1)
				x.bad(p[0], 1, 0)
			})
		}, bdev.StatusIO},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newRemapHouse(t)
			x.mapped()
			stages := new(wal.Stages)
			x.v.stages = stages
			x.w.On(0, func(*reactor.Reactor) { stages.Shut(wal.StageMap) })
			for i := range uint64(4) {
				x.write(i*64, 1)
			}
			c.bad(x)
			x.w.On(0, func(*reactor.Reactor) { stages.Open(wal.StageMap) })
			x.w.RunFor(2 * reactor.Second)
			if x.v.failed != bdev.StatusReadOnly || x.v.cause != c.why {
				t.Fatalf("the volume is %v, because of %v", x.v.failed, x.v.cause)
			}
			if n := x.v.counters.HomeErrors; n == 0 {
				t.Error("no error was counted")
			}
			if n := len(x.v.ask.unused); n > 0 {
				t.Errorf("%d places were not given back", n)
			}
			if s := x.k.do(bdev.Write, 0, 1, pageMemory(1)); s != bdev.StatusReadOnly {
				t.Errorf("a write: %v", s)
			}
			x.same("read only")
			i, err := x.v.Info()
			if err != nil {
				t.Fatal(err)
			}
			if h := i.Health(i.Created); h.State != Unsafe || !strings.Contains(strings.Join(h.Reasons, " "), fmt.Sprint(c.why)) {
				t.Errorf("its health: %v, %q", h.State, h.Reasons)
			}
			x.again()
			x.same("after a power cut")
			x.checked()
			x.write(34, 1)
			x.forced(x.v)
			x.same("and written again")
		})
	}
}

// TestPowerCutsWhilePagesGoElsewhere cuts the power at each write of such a checkpoint.
func TestPowerCutsWhilePagesGoElsewhere(t *testing.T) {
	for cut := uint64(0); ; cut++ {
		x := newRemapHouse(t)
		x.mapped()
		next := x.nextPages(4)
		in := []*sim.Injected{x.bad(next[0], 1, 0), x.bad(next[3], 1, 0)}
		for i := range uint64(4) {
			x.write(i*64, 1)
		}
		medium := bdevsim.DiskOf(x.disk).Medium()
		var image *sim.Image
		r := rand.New(rand.NewPCG(cut, 1))
		seen := uint64(0)
		medium.Watch(func(sim.Point) {
			if seen++; seen == cut+1 {
				image = medium.Snapshot()
			}
		})
		x.forced(x.v)
		if in[0].Hits() == 0 {
			t.Fatal("nothing has failed")
		}
		if image == nil {
			if cut < 5 {
				t.Fatalf("only %d writes", cut)
			}
			return
		}
		medium.Heal()
		x.reopen(image.Crash(sim.Random(r, 0.5)), x.config())
		x.v = x.find("v0")
		x.k = x.client(x.v, 0)
		x.same(fmt.Sprintf("the power was cut at write %d", cut))
		x.checked()
	}
}

// TestWhatACheckpointGivesUpBesideItsPages is given up though a page goes elsewhere: what a deleted snapshot had is in its commit before.
func TestWhatACheckpointGivesUpBesideItsPages(t *testing.T) {
	x := newRemapHouse(t)
	x.mapped()
	p := make([]Place, 1)
	x.w.On(0, func(*reactor.Reactor) { x.pool.alloc.GrantPages(p, Ordinary) })
	if err := x.pool.change(&commitMessage{refer: p}); err != nil {
		t.Fatal(err)
	}
	in := x.bad(x.nextPages(1)[0], 1, 0)
	x.w.On(0, func(*reactor.Reactor) { x.v.ckpt.commit.unrefer = append(x.v.ckpt.commit.unrefer, p[0]) })
	x.write(0, 1)
	x.forced(x.v)
	if in.Hits() == 0 {
		t.Fatal("nothing has failed")
	}
	x.unhurt(nil)
}
