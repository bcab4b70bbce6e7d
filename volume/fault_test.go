package volume

import (
	"fmt"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is faults of the pool's disk under load. Whatever fails: no acknowledged byte is lost, what reads find is right, the pool can be
// closed, and it opens again when the disk is whole. A volume whose writes or flushes fail is read-only from then on.

// faultPlaces are the parts of a pool in which something fails.
var faultPlaces = []struct {
	name  string
	fault func(k *crashHarness) sim.Fault
}{
	{"a flush", func(k *crashHarness) sim.Fault { return sim.Fault{Kinds: sim.KindsOf(sim.Flush)} }},
	{"any write", func(*crashHarness) sim.Fault { return sim.Fault{Kinds: sim.KindsOf(sim.Write)} }},
	{"a write of the log", func(k *crashHarness) sim.Fault {
		e := k.v[0].page.Log[0]
		return sim.Fault{Kinds: sim.KindsOf(sim.Write), First: uint64(e.Place), Blocks: e.Pages}
	}},
	{"a write of a slot", func(*crashHarness) sim.Fault {
		return sim.Fault{Kinds: sim.KindsOf(sim.Write), First: 0, Blocks: 17}
	}},
	{"a write of the bitmap", func(k *crashHarness) sim.Fault {
		return sim.Fault{Kinds: sim.KindsOf(sim.Write), First: uint64(k.pool.alloc.SidesPlace(0)), Blocks: 3}
	}},
	{"a write at home, of a map or a directory", func(k *crashHarness) sim.Fault {
		e := k.v[1].page.Log[len(k.v[1].page.Log)-1]
		return sim.Fault{Kinds: sim.KindsOf(sim.Write), First: uint64(e.End()), Blocks: crashPoolBytes/PageBytes - uint64(e.End())}
	}},
	{"each write to a place that is much written, for good", func(k *crashHarness) sim.Fault {
		per := uint64(1) << k.v[0].shape.shift
		for b := range 4 * per {
			if p := k.homeOf(k.v[0], b); p != 0 {
				return sim.Fault{Kinds: sim.KindsOf(sim.Write), First: uint64(p) &^ (per - 1), Blocks: per, Count: 1 << 40}
			}
		}
		return sim.Fault{Kinds: sim.KindsOf(sim.Write), Count: 1} // nothing is home yet
	}},
	{"any read", func(*crashHarness) sim.Fault { return sim.Fault{Kinds: sim.KindsOf(sim.Read)} }},
}

func TestFaultsLoseNothing(t *testing.T) {
	for _, place := range faultPlaces {
		t.Run(place.name, func(t *testing.T) {
			sim.Each(t, 1, []uint64{6009644124056103018}, func(t *testing.T, seed uint64) {
				k := newCrashHarness(t, seed, crashPoolBytes)
				k.faulty = true
				clients := k.clients(4)
				k.work(clients, 60)
				f := place.fault(k)
				if f.Effect = sim.Fail; f.Count == 0 {
					f.Skip, f.Count = k.r.Uint64N(6), 1+k.r.Uint64N(3)
				}
				medium := bdevsim.DiskOf(k.disk).Medium()
				in := medium.Inject(f)
				for n := 0; n == 0 || in.Hits() == 0 && n < 10; n++ { // some seeds come to the place seldom
					k.work(clients, 120)
					k.rest(clients)
					k.w.RunFor(reactor.Second)
				}
				if in.Hits() == 0 && f.Count < 1<<40 { // a place that is given up is not written
					t.Fatal("nothing has failed")
				}
				medium.Heal()
				tick := k.m.tick
				for _, v := range k.v {
					if v.failed == bdev.StatusOK {
						continue
					}
					c := k.client(v, 0)
					if s := c.do(bdev.Write, 0, 1, pageMemory(1)); s != bdev.StatusReadOnly {
						t.Errorf("a write to volume %s, which has ended: %v", v.page.Name, s)
					}
					if s := c.do(bdev.Flush, 0, 0, nil); s == bdev.StatusOK && v.log.Failed() != bdev.StatusOK {
						if _, _, durable := v.log.Marks(); v.acked > durable {
							t.Errorf("a flush of volume %s, whose log has ended", v.page.Name)
						}
					}
				}
				for vol, b := range k.all() {
					k.compare("after the fault", vol, 0, b, tick, tick, false)
				}
				switch k.r.Uint32N(2) {
				case 0:
					k.closed()
					k.open(bdevsim.DiskOf(k.disk).Medium().Snapshot().Crash(sim.All))
				default:
					k.open(bdevsim.DiskOf(k.disk).Medium().Snapshot().Crash(sim.Random(k.r, k.r.Float64())))
				}
				k.importPool()
				got := k.all()
				for vol, b := range got {
					k.compare("opened again", vol, 0, b, tick, tick, true)
				}
				k.checked()
				k.writeAgain(fmt.Sprintf("after %s failed", place.name), got)
			})
		})
	}
}

// closed closes volumes and pool as control work does.
func (k *crashHarness) closed() {
	k.t.Helper()
	for _, v := range k.v {
		if err := v.Close(); err != nil {
			k.t.Fatal(err)
		}
	}
}

// TestAFlippedBitIsNotRead: at home where checksums are verified (V-32), and in the log while the block is dirty, home being whole (V-20).
func TestAFlippedBitIsNotRead(t *testing.T) {
	k := newCrashHarness(t, 1, crashPoolBytes)
	v := k.v[0]
	c := k.client(v, 0)
	data := pageMemory(2)
	crashFill(data, 0, 1, 100)
	c.must(bdev.Write, 100, 2, data)
	k.forced(v)
	medium := bdevsim.DiskOf(k.disk).Medium()
	flip := func(at uint64) {
		b := make([]byte, PageBytes)
		medium.ReadAt(b, at)
		b[77] ^= 4
		medium.Spoil(at, b)
	}
	place := func() Place {
		var p Place
		k.w.On(v.r.Index(), func(*reactor.Reactor) {
			w := &entryWait{v: v, e: newEvent()}
			w.node.init(w)
			e, s, now := v.tree.find(100>>v.shape.shift, &w.node)
			if !now || s != bdev.StatusOK || e.Place() == 0 {
				t.Fatal("the entry of what is home is not there")
			}
			p = e.Place()
		})
		return p + Place(100&(1<<v.shape.shift-1))
	}
	home := place().Byte()
	flip(home)
	got := pageMemory(2)
	if s := c.do(bdev.Read, 100, 2, got); s != bdev.StatusCorrupt {
		t.Fatalf("a flipped bit at home: %v", s)
	}
	if s := c.do(bdev.Read, 101, 1, got[:PageBytes]); s != bdev.StatusOK {
		t.Fatalf("the block beside it: %v", s)
	}
	flip(home) // whole again
	c.must(bdev.Read, 100, 2, got)

	crashFill(data, 0, 2, 100)
	c.must(bdev.Write, 100, 2, data)
	hit := v.dirty.lookup(100)
	if hit.from != dirtyLog {
		t.Fatalf("what was written is %v, not in the log", hit.from)
	}
	flip(v.log.Position(hit.offset))
	if s := c.do(bdev.Read, 100, 1, got[:PageBytes]); s != bdev.StatusCorrupt {
		t.Fatalf("a flipped bit in the log, under a dirty block: %v", s)
	}

	// The flusher meets it too: the log is wounded, nothing more is taken, and what is whole is read on.
	k.w.On(v.r.Index(), func(*reactor.Reactor) { v.hurry() })
	k.w.RunFor(reactor.Second)
	if s := c.do(bdev.Write, 0, 1, pageMemory(1)); s != bdev.StatusReadOnly {
		t.Fatalf("a write over a wounded log: %v", s)
	}
	c.must(bdev.Read, 101, 1, got[:PageBytes])
	if s := c.do(bdev.Read, 100, 1, got[:PageBytes]); s != bdev.StatusCorrupt {
		t.Fatalf("it is read now: %v", s)
	}
}

// TestNothingIsAcknowledgedBeforeItsFlush: stages of the log and of the checkpoint, held.
func TestNothingIsAcknowledgedBeforeItsFlush(t *testing.T) {
	for _, cache := range []WriteCache{CacheNone, CacheVolatile} {
		t.Run(cache.String(), func(t *testing.T) {
			h, stages := newStagedHouse(t, 1, 1, crashPoolBytes)
			v := h.volumeOf(VolumeConfig{Name: "v0", Bytes: 8 << 20, LogBytes: crashLogBytes, Cache: cache})
			k, flush := h.client(v, 0), h.client(v, 0)
			stages.Shut(wal.StageFlush)
			k.begin(bdev.Write, 0, 1, pageMemory(1))
			h.w.RunFor(reactor.Second)
			if k.e != (cache == CacheVolatile) {
				t.Fatalf("the flush is held, and the write has ended: %v", k.e)
			}
			flush.begin(bdev.Flush, 0, 0, nil)
			h.w.RunFor(reactor.Second)
			if flush.e == (cache == CacheVolatile) { // without a cache nothing is acknowledged that it could be about
				t.Fatalf("the log's flush is held, and that of the host has ended: %v", flush.e)
			}
			if v.flusher.home.Offset > v.log.DurableEnd() || v.dirty.used.blocks != 1 {
				t.Fatal("something went home that is not durable (V-16)")
			}
			stages.Open(wal.StageFlush)
			h.w.Run("all have ended", func() bool { return k.e && flush.e })
			if k.q.Status != bdev.StatusOK || flush.q.Status != bdev.StatusOK {
				t.Fatalf("%v, %v", k.q.Status, flush.q.Status)
			}
		})
	}
}
