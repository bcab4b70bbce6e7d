package volume

import (
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
)

// fillUp writes to both volumes, cluster by cluster, until the pool has no more for either, and gives how many clusters each has.
func (k *crashHarness) fillUp(all []*crashClient) (n [2]uint64) {
	k.t.Helper()
	per := uint64(k.v[0].shape.Blocks())
	var full [2]bool
	for !full[0] || !full[1] {
		for i, c := range all[:2] {
			if full[i] {
				continue
			}
			if n[i]*per+per > crashBlocks {
				k.t.Fatal("the pool does not become full")
			}
			c.begin(bdev.Write, n[i]*per, per, false)
			k.rest(all)
			switch c.q.Status {
			case bdev.StatusOK:
				n[i]++
			case bdev.StatusNoSpace:
				full[i] = true
			default:
				k.t.Fatalf("filling the pool: %v", c.q.Status)
			}
		}
	}
	return n
}

// TestAFullPoolTakesOverwrites (V-27): fill to the last cluster; what is there is written over, in part and whole, by writers that do not
// wait for each other; crash when full; trim; go on.
func TestAFullPoolTakesOverwrites(t *testing.T) {
	sim.Each(t, 4, nil, func(t *testing.T, seed uint64) {
		k := newCrashHarness(t, seed, crashFullBytes)
		all := k.clients(4)
		per := uint64(k.v[0].shape.Blocks())
		n := k.fillUp(all)
		overwrite := func(times int) {
			t.Helper()
			for range times {
				for _, c := range all {
					if c.busy {
						continue
					}
					blocks := 1 + k.r.Uint64N(per)
					switch k.r.Uint32N(3) {
					case 0:
						blocks = per * (1 + k.r.Uint64N(min(n[c.vol], 256/per)))
					case 1:
						blocks = min(blocks+per, 256)
					}
					blocks = min(blocks, n[c.vol]*per)
					at := k.r.Uint64N(n[c.vol]*per - blocks + 1)
					if k.r.Uint32N(2) == 0 {
						at -= at % per
					}
					c.begin(bdev.Write, at, blocks, false)
				}
				k.w.Run("one is done", func() bool {
					for _, c := range all {
						if !c.busy {
							return true
						}
					}
					return false
				})
				for _, c := range all {
					if !c.busy && c.q.Kind == bdev.Write && c.q.Status != bdev.StatusOK {
						t.Fatalf("writing over %d blocks at %d of a full pool: %v; %+v", c.q.Blocks, c.q.LBA, c.q.Status, k.pool.alloc.Space())
					}
				}
			}
			k.rest(all)
		}
		overwrite(120)
		k.checked()
		k.work(all, 150) // trims as well: some writes find no space then
		k.rest(all)
		k.checked()
		all[0].begin(bdev.Unmap, 0, crashBlocks, false)
		all[1].begin(bdev.Unmap, 0, crashBlocks, false)
		k.rest(all)
		k.forced(k.v[0])
		k.forced(k.v[1])
		k.forced(k.v[0])
		n = k.fillUp(all)
		for range 2 {
			tick := k.m.tick
			k.open(bdevsim.DiskOf(k.disk).Medium().Snapshot().Crash(sim.Random(k.r, k.r.Float64())))
			k.importPool()
			for vol, b := range k.all() {
				k.compare("a full pool that was written over", vol, 0, b, tick, tick, true)
			}
			k.checked()
			all = k.clients(4)
			overwrite(30)
		}
		blocks := min(n[0]*per/2, 256) / per * per
		for _, x := range []struct {
			kind bdev.Kind
			n    uint64
		}{{bdev.Unmap, blocks}, {bdev.Write, per}} {
			all[0].begin(x.kind, 0, x.n, false)
			k.rest(all)
			if s := all[0].q.Status; s != bdev.StatusOK {
				t.Fatalf("%v of %d blocks in a full pool: %v; %+v", x.kind, x.n, s, k.pool.alloc.Space())
			}
		}
	})
}
