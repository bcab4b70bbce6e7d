package volume

import (
	"fmt"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
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
	{"any read", func(*crashHarness) sim.Fault { return sim.Fault{Kinds: sim.KindsOf(sim.Read)} }},
}

func TestFaultsLoseNothing(t *testing.T) {
	for _, place := range faultPlaces {
		t.Run(place.name, func(t *testing.T) {
			sim.Each(t, 3, nil, func(t *testing.T, seed uint64) {
				k := newCrashHarness(t, seed, crashPoolBytes)
				k.faulty = true
				clients := k.clients(4)
				k.work(clients, 60)
				f := place.fault(k)
				f.Effect, f.Skip, f.Count = sim.Fail, k.r.Uint64N(6), 1+k.r.Uint64N(3)
				medium := bdevsim.DiskOf(k.disk).Medium()
				in := medium.Inject(f)
				k.work(clients, 120)
				k.rest(clients)
				k.w.RunFor(reactor.Second)
				if in.Hits() == 0 {
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
						if _, written, durable := v.log.Marks(); written > durable {
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
