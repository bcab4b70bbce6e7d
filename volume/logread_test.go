package volume

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// cutHouse has a pool whose volume's log has to be read twice after a power cut: between two small writes there is one of a whole cluster, of
// which the power cut left the record and took the data. after writes more behind that, of which nothing is durable.
func cutHouse(t *testing.T, after func(h *house, v *Volume, k *client)) (h *house, image *sim.Image, data []byte, first uint64) {
	t.Helper()
	h, stages := newStagedHouse(t, 1, 1, crashPoolBytes)
	v := h.volumeOf(VolumeConfig{Name: "v0", Bytes: 16 << 20, LogBytes: crashLogBytes, Cache: CacheVolatile})
	per := uint64(v.shape.Blocks())
	data = pattern(h.w.Rand, per)
	h.w.On(0, func(*reactor.Reactor) {
		stages.Shut(wal.StageMap)
		stages.Shut(wal.StageFlush)
	})
	k := h.client(v, 0)
	k.must(bdev.Write, 7, 1, data[:PageBytes])
	k.must(bdev.Write, 4*per, per, data)
	k.must(bdev.Write, 8, 1, data[:PageBytes])
	small, placed := v.dirty.lookup(7), v.dirty.lookup(4*per)
	if small.from != dirtyLog || placed.from != dirtyPlaced {
		t.Fatalf("%v, %v", small, placed)
	}
	after(h, v, k)
	image = simDisk(h).Snapshot().Crash(sim.All)
	h.w.Reboot()
	h.disk = h.w.Open("Disk0", image)
	simDisk(h).Spoil(placed.place.Byte(), pageMemory(1))
	return h, simDisk(h).Snapshot().Crash(sim.All), data, v.page.Log[0].Place.Byte() + uint64(small.offset)
}

// TestALogThatReadsDifferentlyIsLeftAlone: what the second reading does not find would be written over in the log. The next opening decides.
func TestALogThatReadsDifferentlyIsLeftAlone(t *testing.T) {
	h, image, data, at := cutHouse(t, func(*house, *Volume, *client) {})
	for _, flips := range []bool{true, false} {
		h.w.Reboot()
		h.disk = h.w.Open("Disk0", image)
		if flips {
			simDisk(h).Inject(sim.Fault{Effect: sim.FlipBits, Kinds: sim.KindsOf(sim.Read), First: at / PageBytes, Blocks: 1, Skip: 1, Count: 1, Bits: 4000})
		}
		var err error
		if h.pool, err = ImportPool(h.w.Registry, "Disk0", h.config()); err != nil {
			t.Fatal(err)
		}
		if said := len(h.pool.problems) == 1 && strings.Contains(h.pool.problems[0], "the second time"); said != flips {
			t.Errorf("the pool says %q", h.pool.problems)
		}
		want := bdev.StatusOK
		if flips {
			want = bdev.StatusReadOnly
		}
		k := h.client(h.find("v0"), 0)
		got := pageMemory(2)
		k.must(bdev.Read, 7, 2, got)
		if !flips && !bytes.Equal(got[:PageBytes], data[:PageBytes]) || !bytes.Equal(got[PageBytes:], pageMemory(1)) {
			t.Error("the volume is not what it was before the write that is missing")
		}
		if s := k.do(bdev.Write, 9, 1, data[:PageBytes]); s != want {
			t.Errorf("a write: %v", s)
		}
		h.w.RunFor(reactor.Second)
		image = simDisk(h).Snapshot().Crash(sim.All)
	}
}

// TestWhatIsCutOffTakesNoRoom: records behind the end were in the log, and will never be home: the door does not wait for them.
func TestWhatIsCutOffTakesNoRoom(t *testing.T) {
	h, image, data, _ := cutHouse(t, func(h *house, v *Volume, k *client) {
		per := uint64(v.shape.Blocks())
		for range 20 {
			k.must(bdev.Unmap, 16*per, 64*per, nil)
		}
	})
	h.reopen(image, h.config())
	v := h.find("v0")
	k := h.client(v, 0)
	k.must(bdev.Write, 9, 1, data[:PageBytes])
	h.forced(v)
	if n := v.admitted.minus(v.older.passed); n != (dirtyRoom{}) {
		t.Errorf("everything is home, and %+v is taken", n)
	}
}
