package volume

import (
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// TestANeighbourAtWorkDoesNotMakeThePoolFull: what a burst of one volume had reserved comes back with its next checkpoint, though it is written to
// all the time. Until then another volume waits for it, and does not hear that the pool is full.
func TestANeighbourAtWorkDoesNotMakeThePoolFull(t *testing.T) {
	h := newHouse(t, 1, 2, 80<<20)
	busy, other := h.volumeOf(VolumeConfig{Name: "v0", Bytes: 32 << 20, LogBytes: 16 << 20}), h.volume("v1", 40<<20)
	k, o := h.client(busy, 0), h.client(other, 1)
	per := uint64(busy.shape.Blocks())
	const burst = 300
	data := pattern(h.w.Rand, per)
	for c := range uint64(burst) {
		k.must(bdev.Write, c*per, per, data)
	}
	h.forced(busy)
	h.forced(busy)
	n := uint64(0)
	for ; h.pool.alloc.Space().Clusters > burst+120; n++ {
		o.must(bdev.Write, n*per, per, data)
		h.forced(other)
	}
	h.w.RunFor(2 * reactor.Second)
	k.must(bdev.Write, 0, 1, data[:PageBytes])
	h.forced(busy)
	var all [50]*client
	for i := range all {
		all[i] = h.client(busy, 0)
	}
	for c := uint64(0); c < burst; c += uint64(len(all)) {
		for i, x := range all {
			x.begin(bdev.Write, (c+uint64(i))*per, 1, data[:PageBytes])
		}
		h.w.Run("a part of the burst", func() bool {
			for _, x := range all {
				if !x.e {
					return false
				}
			}
			return true
		})
	}
	for range 120 {
		o.begin(bdev.Write, n*per, per, data)
		for n++; !o.e; {
			k.must(bdev.Write, 0, 1, data[:PageBytes])
			h.w.RunFor(reactor.Millisecond)
		}
		if o.q.Status != bdev.StatusOK {
			t.Fatalf("a write of a volume: %v; %+v", o.q.Status, h.pool.alloc.Space())
		}
	}
}
