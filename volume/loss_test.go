package volume

import (
	"bytes"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/wal"
)

// lossHouse is a house on a machine that starts again and again.
type lossHouse struct {
	*house
	boot uuid.UUID
}

func newLossHouse(t *testing.T, cache WriteCache, policy CacheLoss) (*lossHouse, *Volume) {
	t.Helper()
	boot := uuid.New()
	h := &lossHouse{newHouseWith(t, 1, 1, 64<<20, func(cfg *PoolConfig) { cfg.Boot = boot }), boot}
	return h, h.volumeOf(VolumeConfig{Name: "v0", Bytes: 8 << 20, LogBytes: 8 << 20, Cache: cache, CacheLoss: policy})
}

func (h *lossHouse) config() PoolConfig {
	cfg := h.house.config()
	cfg.Boot = h.boot
	return cfg
}

// open opens what is on the disk.
func (h *lossHouse) open(keep sim.Choice) *Volume {
	h.t.Helper()
	h.reopen(bdevsim.DiskOf(h.disk).Medium().Snapshot().Crash(keep), h.config())
	return h.find("v0")
}

// killed is kill -9 and a new engine; cut is a power cut, which takes what was not flushed.
func (h *lossHouse) killed() *Volume { return h.open(sim.All) }
func (h *lossHouse) cut() *Volume { //nolint:revive // see killed
	h.boot = uuid.New()
	return h.open(sim.None)
}

// restarted is a machine that starts anew after everything was closed in order.
func (h *lossHouse) restarted(v *Volume) *Volume {
	h.t.Helper()
	if err := v.Close(); err != nil {
		h.t.Fatal(err)
	}
	if err := h.exported(); err != nil {
		h.t.Fatal(err)
	}
	return h.cut()
}

func (h *lossHouse) write(v *Volume, kind bdev.Kind, block uint64) bdev.Status {
	if kind == bdev.Flush {
		return h.client(v, 0).do(kind, 0, 0, nil)
	}
	return h.client(v, 0).do(kind, block, 1, bytes.Repeat([]byte{7}, PageBytes))
}

func (h *lossHouse) wantNone(v *Volume, why string) {
	h.t.Helper()
	if v.page.Loss != LossNone || v.page.Flags.Has(VolumeFenced) {
		h.t.Fatalf("%s: a loss is reported of what is above LSN %d", why, v.page.LossKnown)
	}
}

// TestAPowerCutUnderAVolatileCacheIsReported (V-39).
func TestAPowerCutUnderAVolatileCacheIsReported(t *testing.T) {
	h, v := newLossHouse(t, CacheVolatile, CacheLossReport)
	h.write(v, bdev.Write, 1)
	h.write(v, bdev.Flush, 0)
	_, _, flushed := v.log.Marks()
	h.write(v, bdev.Write, 2)
	_, lost, durable := v.log.Marks()
	if durable >= lost {
		t.Fatal("the write is durable without a flush: this test shows nothing")
	}
	v = h.cut()
	got := bytes.Repeat([]byte{1}, PageBytes)
	h.client(v, 0).must(bdev.Read, 2, 1, got)
	if got[0] != 0 {
		t.Fatal("the write is there after the power cut: this test shows nothing")
	}
	if pg := &v.page; pg.Loss != LossCache || pg.LossKnown >= lost || pg.LossFound < flushed || pg.LossFound >= lost {
		t.Fatalf("loss %v: known to %d, found to %d; LSN %d was flushed, and %d was acknowledged and is gone", pg.Loss, pg.LossKnown, pg.LossFound, flushed, lost)
	}
	known, found := v.page.LossKnown, v.page.LossFound
	if s := h.write(v, bdev.Write, 3); s != bdev.StatusOK {
		t.Fatalf("a volume that reports takes writes: %v", s)
	}
	// It stays: over kill -9 before any checkpoint, over checkpoints, over an end in order.
	for _, again := range []func() *Volume{h.killed, func() *Volume { h.forced(v); return h.killed() }, func() *Volume { return h.restarted(v) }} {
		v = again()
		if v.page.Loss != LossCache || v.page.LossKnown != known || v.page.LossFound != found {
			t.Fatalf("after another opening: %v, known to %d, found to %d", v.page.Loss, v.page.LossKnown, v.page.LossFound)
		}
	}
	if err := v.ReleaseLoss(); err != nil {
		t.Fatal(err)
	}
	h.wantNone(v, "released")
	h.wantNone(h.killed(), "released, then killed")
}

// TestNothingIsReportedWhereNothingCanBeLost.
func TestNothingIsReportedWhereNothingCanBeLost(t *testing.T) {
	h, v := newLossHouse(t, CacheVolatile, CacheLossFence)
	h.write(v, bdev.Write, 1)
	v = h.killed()
	h.wantNone(v, "killed on a machine that goes on")
	h.write(v, bdev.Write, 2)
	v = h.killed()
	h.wantNone(v, "killed twice")
	h.write(v, bdev.Write, 3)
	v = h.restarted(v)
	h.wantNone(v, "closed in order")
	v = h.restarted(v)
	h.wantNone(v, "closed in order without a write")
	h.write(v, bdev.Write, 4)
	v = h.cut()
	if v.page.Loss != LossCache {
		t.Fatal("a power cut after an end in order is not noticed")
	}

	h, v = newLossHouse(t, CacheNone, CacheLossFence)
	h.write(v, bdev.Write, 1)
	h.wantNone(h.cut(), "a volume without a cache")
}

// TestALossIsKnownAtEveryPoint: the power fails anywhere in a volume's opening, and what was reported before that is reported after it.
func TestALossIsKnownAtEveryPoint(t *testing.T) {
	h, v := newLossHouse(t, CacheVolatile, CacheLossFence)
	h.write(v, bdev.Write, 1)
	h.cut()
	var images []*sim.Image
	image := bdevsim.DiskOf(h.disk).Medium().Snapshot()
	h.w.Reboot()
	h.disk = h.w.Open("Disk0", image.Crash(sim.None))
	medium := bdevsim.DiskOf(h.disk).Medium()
	medium.Watch(func(sim.Point) { images = append(images, medium.Snapshot()) })
	var err error
	if h.pool, err = ImportPool(h.w.Registry, "Disk0", h.config()); err != nil {
		t.Fatal(err)
	}
	h.forced(h.find("v0"))
	for n, image := range images {
		for _, keep := range []sim.Choice{sim.None, sim.All} {
			h.reopen(image.Crash(keep), h.config())
			if v := h.find("v0"); v.page.Loss != LossCache || !v.page.Flags.Has(VolumeFenced) {
				t.Fatalf("point %d of %d: nothing is reported any more", n, len(images))
			}
		}
	}
}

// TestAFencedVolumeIsNotServed until it is released, and that is durable.
func TestAFencedVolumeIsNotServed(t *testing.T) {
	h, v := newLossHouse(t, CacheVolatile, CacheLossReport)
	if err := v.SetCacheLoss(CacheLossFence); err != nil {
		t.Fatal(err)
	}
	h.write(v, bdev.Write, 1)
	v = h.cut()
	for range 2 {
		for _, kind := range []bdev.Kind{bdev.Read, bdev.Write, bdev.Flush, bdev.Unmap} {
			if s := h.write(v, kind, 1); s != bdev.StatusNotReady {
				t.Fatalf("%v of a fenced volume: %v", kind, s)
			}
		}
		if err := v.SetCacheLoss(CacheLossReport); err != nil { // for the next time, not for this one
			t.Fatal(err)
		}
		v = h.killed()
	}
	if err := v.ReleaseLoss(); err != nil {
		t.Fatal(err)
	}
	v = h.killed()
	if s := h.write(v, bdev.Write, 1); s != bdev.StatusOK {
		t.Fatalf("a released volume: %v", s)
	}
	v = h.cut()
	if s := h.write(v, bdev.Write, 1); s != bdev.StatusOK || v.page.Loss != LossCache {
		t.Fatalf("a volume that only reports: %v, %v", s, v.page.Loss)
	}
}

func TestLossesAreJoined(t *testing.T) {
	var pg VolumePage
	pg.loses(10, 12)
	pg.loses(14, 20)
	if pg.Loss != LossCache || pg.LossKnown != 10 || pg.LossFound != 20 || pg.Flags != 0 {
		t.Errorf("%+v", pg)
	}
	pg = VolumePage{Loss: LossDevice, LossKnown: 5, LossFound: wal.LSN(4), CacheLoss: CacheLossFence}
	pg.loses(14, 20)
	if pg.Loss != LossDevice || pg.LossKnown != 5 || pg.LossFound != 20 || pg.Flags != VolumeFenced {
		t.Errorf("%+v", pg)
	}
}
