package volume

import (
	"bytes"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
)

func TestFillIsToldOnce(t *testing.T) {
	told := false
	for i, c := range []struct {
		taken uint64
		tell  bool
	}{{0, false}, {799, false}, {800, true}, {801, false}, {1000, false}, {799, false}, {800, false}, {790, false}, {789, false}, {795, false}, {800, true}} {
		var tell bool
		if told, tell = fillAfter(told, c.taken, 1000); tell != c.tell {
			t.Errorf("step %d, %d of 1000 taken: told %v, want %v", i, c.taken, tell, c.tell)
		}
	}
}

// TestUsersHearOfLittleSpace: those of thin volumes and of what stands on them, when the pool becomes high; those of thick ones and of snapshots do not.
func TestUsersHearOfLittleSpace(t *testing.T) {
	h := newHouse(t, 1, 2, 128<<20)
	thin := h.volume("thin", 1<<30)
	if _, err := thin.CreateSnapshot(SnapshotConfig{Name: "s"}); err != nil {
		t.Fatal(err)
	}
	thick := h.volumeOf(VolumeConfig{Name: "thick", Bytes: 4 << 20, LogBytes: 8 << 20, Thick: true})
	snapshot := thin.openedSnapshots()[0].device
	if g := thin.Device().Geometry(); g.LowSpace != 20 {
		t.Errorf("a thin volume tells at %d percent", g.LowSpace)
	}
	for _, d := range []*bdev.Device{thick.Device(), snapshot} {
		if g := d.Geometry(); g.LowSpace != 0 {
			t.Errorf("device %s tells at %d percent", d.Name(), g.LowSpace)
		}
	}
	heard := map[string]int{}
	for name, d := range map[string]*bdev.Device{"thin": thin.Device(), "thick": thick.Device(), "snapshot": snapshot} {
		o, err := h.w.Registry.Open(d.Name(), bdev.OpenOptions{Who: "test", Event: func(e bdev.Event) {
			if e.Kind == bdev.LowSpace {
				heard[name]++
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		h.handles = append(h.handles, o)
	}
	watch := func() bool {
		t.Helper()
		told, err := h.pool.WatchSpace()
		if err != nil {
			t.Fatal(err)
		}
		return told
	}
	c := h.client(thin, 1)
	data := bytes.Repeat([]byte{7}, 1<<20)
	mib := uint64(0)
	for ; !watch(); mib++ {
		if i, _ := h.pool.Info(); i.Fill >= FillHigh {
			t.Fatalf("the pool is %v and nobody was told", i.Fill)
		}
		c.must(bdev.Write, mib*256, 256, data)
	}
	if i, _ := h.pool.Info(); i.Fill != FillHigh {
		t.Errorf("users were told of a pool that is %v", i.Fill)
	}
	c.must(bdev.Write, mib*256, 256, data)
	if watch() || heard["thin"] != 1 || heard["thick"] != 0 || heard["snapshot"] != 0 {
		t.Errorf("told: %v", heard)
	}
}
