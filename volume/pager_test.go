package volume

import (
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
)

// A map is read from a device, of blocks of either size, through a cache whose memory is the reactor's.
func TestDevicePager(t *testing.T) {
	for _, blockSize := range []uint32{512, 4096} {
		made := twoLevels(t, 3)
		w := bdevsim.NewWorld(t, 1, 1)
		w.Options.BlockSize = blockSize
		disk := w.Disk("Disk0", 1<<20)
		for place, page := range made.disk {
			bdevsim.DiskOf(disk).Medium().Spoil(place.Byte(), page)
		}
		h, err := w.Registry.Open("Disk0", bdev.OpenOptions{Who: "test"})
		if err != nil {
			t.Fatal(err)
		}
		var finds []*worldFind
		var pager *devicePager
		var channel *bdev.Channel
		begin := func(r *reactor.Reactor) {
			if channel, err = h.Channel(r); err != nil {
				t.Fatal(err)
			}
			c := newPageCache(pageCacheConfig{memory: r.Memory().Get(16 * PageBytes), readsMax: 3, dirtyMax: 8})
			pager = newDevicePager(c, channel)
			owner := made.owner(1)
			owner.source = c.addSource(pager, worldPool, worldPages)
			tree := newMapTree(c, owner, made.head.committed, true)
			for i := range uint64(30) {
				finds = append(finds, made.find(tree, &made.image, i, false))
			}
		}
		ended := func() bool {
			for _, f := range finds {
				if !f.ended {
					return false
				}
			}
			return true
		}
		w.On(0, begin)
		w.Run("all entries were found", ended)
		for i, f := range finds {
			if f.status != bdev.StatusOK {
				t.Errorf("cluster %d: %v", i, f.status)
			}
		}
		w.On(0, func(r *reactor.Reactor) { pager.close(); channel.Close() })

		finds = nil
		made.fault = func(*pageRead) bdev.Status { return bdev.StatusOK }
		bdevsim.DiskOf(disk).Medium().Inject(sim.Fault{Effect: sim.Fail, Kinds: sim.KindsOf(sim.Read)})
		w.On(0, begin)
		w.Run("all finds have ended", ended)
		for i, f := range finds {
			if f.status != bdev.StatusIO {
				t.Errorf("cluster %d of a device that fails: %v", i, f.status)
			}
		}
		w.On(0, func(r *reactor.Reactor) { pager.close(); channel.Close() })
	}
}
