package volume

import (
	"bytes"
	"errors"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/wal"
)

func TestResizeIsRefused(t *testing.T) {
	h := newHouse(t, 1, 1, 64<<20)
	v := h.volume("v0", 16<<20)
	for _, c := range []struct {
		name  string
		bytes uint64
		want  error
	}{
		{"one block less", 16<<20 - PageBytes, ErrShrink},
		{"nothing", 0, ErrShrink},
		{"a part of a block", 16<<20 + 512, ErrInvalid},
		{"more than any pool has", 1 << 63, ErrInvalid},
		{"its own size", 16 << 20, nil},
	} {
		_, lsn, _ := v.log.Marks()
		if err := v.Resize(c.bytes); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if _, now, _ := v.log.Marks(); now != lsn || v.page.Bytes != 16<<20 || v.device.Geometry().Blocks != 16<<20/PageBytes {
			t.Errorf("%s: something has changed", c.name)
		}
	}
}

// TestAGrowthThatFailed is no growth when it is asked for once more: what the log has of it may be gone with the next power cut.
func TestAGrowthThatFailed(t *testing.T) {
	h := newHouse(t, 1, 1, 64<<20)
	v := h.volume("v0", 16<<20)
	bdevsim.DiskOf(h.disk).Medium().Inject(sim.Fault{Effect: sim.Fail, Kinds: sim.KindsOf(sim.Flush)})
	for _, c := range []struct {
		name  string
		bytes uint64
		want  error // nil: any
		same  bool  // it is no change
	}{
		{name: "a larger size", bytes: 32 << 20},
		{name: "the same once more", bytes: 32 << 20},
		{name: "a larger one yet", bytes: 48 << 20},
		{name: "less than what the log may have", bytes: 24 << 20, want: ErrShrink},
		{name: "its own size", bytes: 16 << 20, same: true},
	} {
		if err := v.Resize(c.bytes); c.same != (err == nil) || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if n := v.device.Geometry().Blocks; n != 16<<20/PageBytes {
			t.Errorf("%s: the device has %d blocks", c.name, n)
		}
	}
	h.crash(func(i *sim.Image) *sim.Image { return i.Crash(sim.None) })
	if n := h.find("v0").device.Geometry().Blocks; n != 16<<20/PageBytes {
		t.Errorf("after a power cut it has %d blocks", n)
	}
}

// TestAVolumeGrows under load, over the height of its map, with a snapshot that keeps its size, and over power cuts at each point of it: it
// has the old size or the new one, everything that was durable, and zeros behind.
func TestAVolumeGrows(t *testing.T) {
	sim.Each(t, 3, nil, func(t *testing.T, seed uint64) {
		k := newCrashHarness(t, seed, crashPoolBytes)
		clients := k.clients(4)
		k.work(clients, 60)
		v := k.v[0]
		before := v.page.Bytes
		if _, err := v.CreateSnapshot(SnapshotConfig{Name: "small"}); err != nil {
			t.Fatal(err)
		}
		const large = 4 << 30 // the map gets another level
		low := v.tree.root.levels
		images := k.watch(1, 400)
		for _, c := range clients {
			c.random(k.r)
		}
		if err := v.Resize(large); err != nil {
			t.Fatal(err)
		}
		if v.tree.root.levels == low || v.device.Geometry().Blocks != large/PageBytes {
			t.Fatalf("%d levels as before, %d blocks", low, v.device.Geometry().Blocks)
		}
		acknowledged := len(*images)
		k.rest(clients)
		c := k.client(v, 1)
		const last = large/PageBytes - 1
		data := pattern(k.r, 1)
		c.must(bdev.Write, last, 1, data)
		k.work(clients, 20)
		k.rest(clients)
		if n := v.openedSnapshots()[0].device.Geometry().Blocks * PageBytes; n != before {
			t.Errorf("the snapshot has %d bytes, it was taken with %d", n, before)
		}
		k.checked()
		tick := k.m.tick
		end := crashImage{image: bdevsim.DiskOf(k.disk).Medium().Snapshot(), tick: tick, where: "the end"}
		other := *k
		other.house = &house{t: t, w: bdevsim.NewWorld(t, seed+1<<32, 2)}
		look := func(i crashImage, grown, must bool) {
			t.Helper()
			other.open(i.image.Crash(sim.Random(k.r, k.r.Float64())))
			other.importPool()
			got := other.all()
			for vol := range got {
				other.compare("grown, image at "+i.where, vol, 0, got[vol], i.tick, i.tick, true)
			}
			v, c := other.v[0], other.client(other.v[0], 0)
			switch now := v.device.Geometry().Blocks * PageBytes; {
			case now != before && now != large, must && now != large:
				t.Fatalf("image at %s: it has %d bytes", i.where, now)
			case now == before:
				if s := c.do(bdev.Write, before/PageBytes, 1, pageMemory(1)); s != bdev.StatusOutOfRange {
					t.Fatalf("a write behind the end: %v", s)
				}
				if err := v.Resize(large); err != nil {
					t.Fatal(err)
				}
			}
			b := pageMemory(1)
			c.must(bdev.Read, last, 1, b)
			if grown && !bytes.Equal(b, data) || !grown && !isZero(b) {
				t.Fatalf("image at %s: the last block has other bytes", i.where)
			}
			c.must(bdev.Write, last-1, 1, data)
			other.forced(v)
			other.checked()
		}
		for n := 0; n < acknowledged; n += 1 + acknowledged/6 {
			look((*images)[n], false, false)
		}
		look(end, true, true)
	})
}

// TestNothingBehindTheOldEndIsTakenBeforeTheRecord holds the resize's record in the log.
func TestNothingBehindTheOldEndIsTakenBeforeTheRecord(t *testing.T) {
	h, v, stages := partialHouse(t, 1, CacheNone)
	k := h.client(v, 0)
	stages.Shut(wal.StageFlush)
	tried := false
	await := h.pool.disk.await
	h.pool.disk.await = func(until func() bool) {
		await(func() bool { return until() || !tried && stages.Waiting(wal.StageFlush) > 0 })
		if until() {
			return
		}
		tried = true
		if s := k.do(bdev.Write, 4<<20/512, 8, make([]byte, PageBytes)); s != bdev.StatusOutOfRange {
			t.Errorf("a write behind the old end: %v", s)
		}
		stages.Open(wal.StageFlush)
		await(until)
	}
	if err := v.Resize(8 << 20); err != nil {
		t.Fatal(err)
	}
	if !tried {
		t.Fatal("the record was not held")
	}
	k.must(bdev.Write, 8<<20/512-1, 1, make([]byte, 512))
}
