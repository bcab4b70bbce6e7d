package volume

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is writes at home that fail (V-31): the first time the cluster goes elsewhere, and nobody gets the place; the second time the
// volume is unsafe and its log has everything.

const remapBlocks = 256 // of the volume: 16 clusters

// remapHouse is a volume, what it should hold, and what was told of it.
type remapHouse struct {
	*house
	v    *Volume
	k    *client
	r    *rand.Rand
	want []byte
	told chan HomeFailure
}

func newRemapHouse(t *testing.T) *remapHouse {
	t.Helper()
	x := &remapHouse{r: rand.New(rand.NewPCG(1, 2)), want: pageMemory(remapBlocks), told: make(chan HomeFailure, 8)}
	x.house = newHouseWith(t, 1, 1, 64<<20, func(cfg *PoolConfig) {
		cfg.HomeFailed = func(_ *Volume, f HomeFailure) { x.told <- f }
	})
	x.v = x.volumeOf(VolumeConfig{Name: "v0", Bytes: remapBlocks * PageBytes, LogBytes: 8 << 20, Verify: true})
	x.k = x.client(x.v, 0)
	return x
}

func (x *remapHouse) write(block, n uint64) {
	x.t.Helper()
	data := pattern(x.r, n)
	x.k.must(bdev.Write, block, n, data)
	copy(x.want[block*PageBytes:], data)
}

func (x *remapHouse) zero(block, n uint64) {
	x.t.Helper()
	x.k.must(bdev.WriteZeroes, block, n, nil)
	clear(x.want[block*PageBytes:][:n*PageBytes])
}

func (x *remapHouse) same(when string) {
	x.t.Helper()
	got := pageMemory(remapBlocks)
	x.k.must(bdev.Read, 0, remapBlocks, got)
	for b := range remapBlocks {
		if !bytes.Equal(got[b*PageBytes:][:PageBytes], x.want[b*PageBytes:][:PageBytes]) {
			x.t.Fatalf("%s: block %d is not what was written", when, b)
		}
	}
}

func (x *remapHouse) checked() {
	x.t.Helper()
	r, err := x.pool.Check()
	if err != nil {
		x.t.Fatal(err)
	}
	if !r.OK() {
		x.t.Fatalf("the pool's check: %q", r.Problems)
	}
}

// again opens the pool as a power cut left it, on a disk that is whole.
func (x *remapHouse) again() {
	x.t.Helper()
	bdevsim.DiskOf(x.disk).Medium().Heal()
	x.crash(func(i *sim.Image) *sim.Image { return i.Crash(sim.None) })
	x.v = x.find("v0")
	x.k = x.client(x.v, 0)
}

// bad lets writes to these pages fail.
func (x *remapHouse) bad(p Place, n uint64, count uint64) *sim.Injected {
	return bdevsim.DiskOf(x.disk).Medium().Inject(sim.Fault{Effect: sim.Fail, Kinds: sim.KindsOf(sim.Write), First: uint64(p), Blocks: n, Count: count})
}

// behindLog is all of the pool that lies behind the log.
func (x *remapHouse) behindLog() (Place, uint64) {
	e := x.v.page.Log[len(x.v.page.Log)-1].End()
	return e, (64<<20)/PageBytes - uint64(e)
}

// filled leaves the pool nothing but the cushion; or pages enough, and no whole cluster.
func (x *remapHouse) filled(cushion bool) {
	per := Place(x.v.shape.Blocks())
	x.w.On(0, func(*reactor.Reactor) {
		al := x.pool.alloc
		p, class := make([]Place, 1), Ordinary
		if !cushion {
			class = Freeing
		}
		for al.GrantClusters(p, class) > 0 {
			if !cushion {
				al.GiveBack(p[0]+1, uint64(per)-1)
			}
		}
	})
}

func TestAClusterThatCannotBeWrittenGoesElsewhere(t *testing.T) {
	for _, c := range []struct {
		name  string
		first func(x *remapHouse) // and it is brought home
		hurts func(x *remapHouse) (Place, uint64, uint64)
		then  func(x *remapHouse)
	}{
		{"one block in place", func(x *remapHouse) { x.write(32, 5); x.write(40, 3) }, nil, func(x *remapHouse) { x.write(34, 1) }},
		{"all of it in place", func(x *remapHouse) { x.write(32, 16) }, nil, func(x *remapHouse) { x.write(32, 9); x.write(41, 7) }},
		{"in place after it was cleared", func(x *remapHouse) { x.write(32, 16) }, nil, func(x *remapHouse) { x.zero(32, 16); x.write(35, 2) }},
		{"blocks over a placed record", func(x *remapHouse) { x.write(32, 16) }, func(x *remapHouse) (Place, uint64, uint64) {
			x.write(32, 16)
			return x.v.dirty.wholeOf(2).place, 16, 0
		}, func(x *remapHouse) { x.write(35, 2) }},
		{"a new place", func(*remapHouse) {}, func(x *remapHouse) (Place, uint64, uint64) {
			p, n := x.behindLog()
			return p, n, 1
		}, func(x *remapHouse) { x.write(35, 2) }},
		{"a new place, since a snapshot has the old one", func(x *remapHouse) {
			x.write(32, 12)
			if _, err := x.v.CreateSnapshot(SnapshotConfig{Name: "s"}); err != nil {
				x.t.Fatal(err)
			}
		}, func(x *remapHouse) (Place, uint64, uint64) {
			p, n := x.behindLog()
			return p, n, 1
		}, func(x *remapHouse) { x.write(35, 2) }},
		{"in place, and the pool has none but the cushion", func(x *remapHouse) { x.write(32, 5); x.forced(x.v); x.filled(true) }, nil,
			func(x *remapHouse) { x.write(34, 1) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newRemapHouse(t)
			x.write(0, 3)
			c.first(x)
			x.forced(x.v)
			hurts := c.hurts
			if hurts == nil {
				hurts = func(x *remapHouse) (Place, uint64, uint64) {
					return x.homeOf(x.v, 34) &^ 15, 16, 0
				}
			}
			p, n, count := hurts(x)
			in := x.bad(p, n, count)
			c.then(x)
			x.same("in the log")
			x.forced(x.v)
			if in.Hits() == 0 || x.v.counters.HomeErrors != in.Hits() {
				t.Fatalf("%d writes failed, and %d were counted", in.Hits(), x.v.counters.HomeErrors)
			}
			if x.v.failed != bdev.StatusOK {
				t.Fatalf("the volume is %v", x.v.failed)
			}
			now := x.homeOf(x.v, 35) // or the one that a test has written
			if now == 0 {
				now = x.homeOf(x.v, 34)
			}
			if count == 0 && now >= p && now < p+Place(n) {
				t.Fatalf("it is still at place %d", now)
			}
			x.same("at home")
			x.checked()
			in.Remove()
			if count == 0 {
				x.unused(p, n)
			}
			for b := range uint64(remapBlocks / 16) { // every other cluster gets a place
				if b != 2 && x.pool.alloc.Space().Clusters > 64 {
					x.write(b*16, 16)
					x.forced(x.v)
				}
			}
			if count == 0 {
				x.unused(p, n)
			}
			f := <-x.told
			if len(x.told) > 0 || f.Cluster != 2 || f.LBA != 32 || f.Last || count == 0 && f.Place != p {
				t.Errorf("it was told %+v, and %d more", f, len(x.told))
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

// unused says that a bad place is nobody's, and that nobody gets it.
func (x *remapHouse) unused(p Place, n uint64) {
	x.t.Helper()
	b := x.pool.alloc.bits
	if countBits(b.used, uint64(p), n) != n || countBits(b.committed, uint64(p), n) != 0 {
		x.t.Fatalf("the bad place %d is free, or still part of the root", p)
	}
}

// strandings are how a cluster comes to have no place that can be written.
var strandings = []struct {
	name string
	bad  func(x *remapHouse) *sim.Injected
}{
	{"the second place fails as well", func(x *remapHouse) *sim.Injected {
		p, n := x.behindLog()
		return x.bad(p, n, 0)
	}},
	{"the pool has no second place", func(x *remapHouse) *sim.Injected {
		x.filled(false)
		return x.bad(x.homeOf(x.v, 34), 1, 0)
	}},
	{"what is kept cannot be read", func(x *remapHouse) *sim.Injected {
		bdevsim.DiskOf(x.disk).Medium().Inject(sim.Fault{Effect: sim.Fail, Kinds: sim.KindsOf(sim.Read), First: uint64(x.homeOf(x.v, 36)), Blocks: 1})
		return x.bad(x.homeOf(x.v, 34), 1, 0)
	}},
}

// strand lets the volume have something that cannot come home.
func (x *remapHouse) strand(bad func(x *remapHouse) *sim.Injected) {
	x.t.Helper()
	x.write(32, 5)
	x.write(0, 3)
	x.forced(x.v)
	in := bad(x)
	x.write(1, 1)
	x.write(34, 1)
	x.w.RunFor(reactor.Second / 2)
	if in.Hits() == 0 || x.v.counters.HomeErrors != in.Hits() {
		x.t.Fatalf("%d writes failed, and %d were counted", in.Hits(), x.v.counters.HomeErrors)
	}
	for last := false; !last; { // the first is told, and the last
		f := <-x.told
		last = f.Last
	}
	x.health(Unsafe)
}

func (x *remapHouse) health(want State) {
	x.t.Helper()
	i, err := x.v.Info()
	if err != nil {
		x.t.Fatal(err)
	}
	if h := i.Health(i.Created); h.State != want {
		x.t.Fatalf("the volume is %v: %q", h.State, h.Reasons)
	}
}

// fill writes until a write is refused, and says how full the log is then.
func (x *remapHouse) fill() {
	x.t.Helper()
	n := uint64(8)
	for range 10_000 {
		data, at := pattern(x.r, n), x.r.Uint64N(2)*32+x.r.Uint64N(9) // of clusters that have places
		s := x.k.do(bdev.Write, at, n, data)
		if s == bdev.StatusOK {
			copy(x.want[at*PageBytes:], data)
			continue
		}
		if s != bdev.StatusReadOnly {
			x.t.Fatalf("a write into a log that is full: %v", s)
		}
		if used, size := x.v.log.Used(), x.v.log.Size(); used*10 < size*9-10*wal.RecordPagesMax*PageBytes {
			x.t.Fatalf("it was refused with %d of %d bytes of the log used", used, size)
		}
		return
	}
	x.t.Fatal("no write was refused, and nothing comes home")
}

func TestWhatCannotBeBroughtHomeStaysInTheLog(t *testing.T) {
	for _, c := range strandings {
		for _, after := range []string{"a power cut", "a closing on the bad device", "a closing on a device that is well again", "the device is well again"} {
			t.Run(c.name+", "+after, func(t *testing.T) {
				x := newRemapHouse(t)
				x.strand(c.bad)
				reads := c.name != "what is kept cannot be read"
				if reads {
					x.same("when it is stranded")
				}
				if _, err := x.v.CreateSnapshot(SnapshotConfig{Name: "s"}); err == nil {
					t.Fatal("a snapshot is taken, and its root cannot be")
				}
				x.fill()
				if reads {
					x.same("when its log is full")
				}
				x.health(Unsafe)
				x.zeroRefused()
				medium := bdevsim.DiskOf(x.disk).Medium()
				switch after {
				case "a power cut":
					x.again()
				case "a closing on the bad device", "a closing on a device that is well again":
					if after != "a closing on the bad device" {
						medium.Heal()
					}
					if err := x.v.Close(); err != nil {
						t.Fatal(err)
					}
					if err := x.exported(); err != nil {
						t.Fatal(err)
					}
					x.again()
				default:
					if medium.Heal(); c.name == "the pool has no second place" {
						x.w.RunFor(2 * reactor.Second)
						x.health(Unsafe) // it has none yet
						x.again()
						break
					}
					x.w.RunFor(3 * reactor.Second)
					x.health(Healthy)
					x.same("when it came home after all")
					x.write(34, 2)
					x.forced(x.v)
					x.same("and was written again")
					x.checked()
					if _, err := x.v.CreateSnapshot(SnapshotConfig{Name: "s"}); err != nil {
						t.Fatal(err)
					}
					x.again()
				}
				x.health(Healthy)
				x.same("opened again")
				x.checked()
				x.write(34, 1)
				x.forced(x.v)
				x.same("and written again")
			})
		}
	}
}

// zeroRefused says that other changes are refused too.
func (x *remapHouse) zeroRefused() {
	x.t.Helper()
	if s := x.k.do(bdev.WriteZeroes, 0, 1, nil); s != bdev.StatusReadOnly {
		x.t.Fatalf("zeroes into a log that is full: %v", s)
	}
}
