package volume

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// damagedHouse is a pool with volume v0, whose log has a record of block 5, placed ones of clusters 4 and 5, and one of block 9; and with
// volume v1, of which cluster 0 is home. Both are in both slots. What volume v0 has is in all.
type damagedHouse struct {
	*house
	all   []byte
	lists map[uint64]Place // of the log of v0: by block, the first page of what its record has there
	image *sim.Image
}

const damagedBlocks = 128

func newDamagedHouse(t *testing.T, fragmented bool) *damagedHouse {
	t.Helper()
	h, stages := newStagedHouse(t, 1, 1, 64<<20)
	x := &damagedHouse{house: h, all: pageMemory(damagedBlocks), lists: map[uint64]Place{}}
	v0, v1 := h.volume("v0", 16<<20), h.volume("v1", 64<<20)
	per := uint64(v0.shape.Blocks())
	k0, k1 := h.client(v0, 0), h.client(v1, 0)
	k1.must(bdev.Write, 0, per, pattern(h.w.Rand, per))
	h.forced(v1)
	if fragmented {
		x.fragment()
	}
	h.w.On(0, func(*reactor.Reactor) { stages.Shut(wal.StageMap) })
	for _, w := range []struct{ at, n uint64 }{{5, 3}, {4 * per, 2 * per}, {9, 1}} {
		data := x.all[w.at*PageBytes:][:w.n*PageBytes]
		copy(data, pattern(h.w.Rand, w.n))
		k0.must(bdev.Write, w.at, w.n, data)
	}
	log := v0.page.Log[0]
	for _, b := range []uint64{5, 9} {
		hit := v0.dirty.lookup(b)
		if hit.from != dirtyLog || len(v0.page.Log) != 1 {
			t.Fatalf("block %d is %v, in a log of %d pieces", b, hit.from, len(v0.page.Log))
		}
		x.lists[b] = log.Place + Place(uint64(hit.offset)/PageBytes%log.Pages)
	}
	x.image = simDisk(h).Snapshot().Crash(sim.None)
	return x
}

// fragment leaves free pages in clusters that are in use in part.
func (x *damagedHouse) fragment() {
	x.t.Helper()
	places := make([]Place, 640)
	x.w.On(0, func(*reactor.Reactor) {
		if n := x.pool.alloc.GrantPages(places, Ordinary); n != len(places) {
			x.t.Fatalf("%d pages", n)
		}
	})
	var some []Place
	for _, p := range places {
		if p%16 != 0 {
			some = append(some, p)
		}
	}
	for _, m := range []*commitMessage{{refer: places}, {unrefer: some}, {}, {}} {
		if err := x.pool.change(m); err != nil {
			x.t.Fatal(err)
		}
	}
}

// open opens the pool, with pages that cannot be read.
func (x *damagedHouse) open(unread ...Place) error {
	x.w.Reboot()
	x.disk = x.w.Open("Disk0", x.image)
	for _, at := range unread {
		simDisk(x.house).Inject(sim.Fault{Effect: sim.Fail, Kinds: sim.KindsOf(sim.Read), First: uint64(at), Blocks: 1})
	}
	var err error
	x.pool, err = ImportPool(x.w.Registry, "Disk0", x.config())
	return err
}

// opened opens the image with nothing damaged, and makes a snapshot of v0.
func (x *damagedHouse) opened() (v0 *Volume) {
	x.t.Helper()
	if err := x.open(); err != nil {
		x.t.Fatal(err)
	}
	v0 = x.find("v0")
	if _, err := v0.CreateSnapshot(SnapshotConfig{Name: "s"}); err != nil {
		x.t.Fatal(err)
	}
	return v0
}

// damaged wants v0 to be what is damaged, and v1 to be served.
func (x *damagedHouse) damaged() *DamagedVolume {
	x.t.Helper()
	all := x.pool.Damaged()
	if len(all) != 1 || all[0].Position != 0 || len(x.pool.Volumes()) != 1 {
		x.t.Fatalf("%d volumes are damaged, and %d are served", len(all), len(x.pool.Volumes()))
	}
	d := all[0]
	i, err := x.pool.Info()
	if err != nil || len(i.Problems) != 1 || i.Problems[0] != d.Problem() || !strings.Contains(i.Problems[0], "Disk0") {
		x.t.Errorf("%v: the pool says %q", err, i.Problems)
	}
	if _, err := x.w.Registry.Lookup("pool0/v0"); !errors.Is(err, bdev.ErrNotFound) {
		x.t.Errorf("it has a device: %v", err)
	}
	if _, err := x.pool.CreateVolume(VolumeConfig{Name: "v0", Bytes: 1 << 20, LogBytes: 8 << 20}); !errors.Is(err, ErrExists) && !errors.Is(err, ErrBusy) {
		x.t.Errorf("its name was given to another: %v", err)
	}
	r, err := x.pool.Check()
	if err != nil || r.OK() || r.Free+r.Twice > 0 {
		x.t.Errorf("%v: the check says %+v", err, r)
	}
	return d
}

// fill writes to all of v1, cluster by cluster, until the pool has no more, and gives how many were written.
func (x *damagedHouse) fill(k *client, first, per uint64) (n uint64) {
	x.t.Helper()
	data := pattern(x.w.Rand, per)
	for c := first; c < 64<<20/PageBytes/per; c++ {
		switch s := k.do(bdev.Write, c*per, per, data); s {
		case bdev.StatusOK:
			n++
		case bdev.StatusNoSpace:
			return n
		default:
			x.t.Fatalf("writing cluster %d: %v", c, s)
		}
	}
	return n
}

// whole opens the pool again, from which nothing keeps it any more: v0 has all that it had.
func (x *damagedHouse) whole(mend func()) {
	x.t.Helper()
	x.image = simDisk(x.house).Snapshot().Crash(sim.None)
	x.w.Reboot()
	x.disk = x.w.Open("Disk0", x.image)
	mend()
	var err error
	if x.pool, err = ImportPool(x.w.Registry, "Disk0", x.config()); err != nil {
		x.t.Fatal(err)
	}
	v := x.find("v0")
	k := x.client(v, 0)
	got := pageMemory(damagedBlocks)
	for range 2 {
		if k.must(bdev.Read, 0, damagedBlocks, got); !bytes.Equal(got, x.all) {
			x.t.Error("it has not what it had")
		}
		x.forced(v)
	}
	k.must(bdev.Write, 0, 1, got[:PageBytes])
}

// TestALogThatCannotBeRead: the pool opens without its volume. If the page hides no places of its data, the others have all of the pool.
func TestALogThatCannotBeRead(t *testing.T) {
	for name, back := range map[string]Place{"a payload": 0, "a header": 1} {
		t.Run(name, func(t *testing.T) {
			x := newDamagedHouse(t, true)
			if err := x.open(x.lists[5] - back); err != nil {
				t.Fatal(err)
			}
			d := x.damaged()
			v1 := x.find("v1")
			per := uint64(v1.shape.Blocks())
			k := x.client(v1, 0)
			k.must(bdev.Write, 0, 1, pageMemory(1))
			k.must(bdev.Write, 0, per, pageMemory(int(per))) // in place
			n := x.fill(k, 1, per)
			if back == 0 && (d.all != nil || len(d.places) != 2 || n < 100) {
				t.Errorf("places %v are claimed, there may be others: %v; %d clusters were written", d.places, d.all, n)
			}
			if back == 1 && (d.all == nil || n != 0) {
				t.Errorf("it may have other places: %v; %d clusters were written", d.all, n)
			}
			x.forced(v1)
			x.whole(func() {})
		})
	}
}

// TestAVolumeWhosePageIsDamaged under both slots: the pool opens without it.
func TestAVolumeWhosePageIsDamaged(t *testing.T) {
	for _, c := range rootDamage {
		t.Run(c.name, func(t *testing.T) {
			x := newDamagedHouse(t, true)
			was := x.spoilBy(func(medium *sim.Disk, at Place) { c.do(&crashHarness{r: sim.Stream(1, c.name)}, medium, at) }, 0)
			d := x.damaged()
			if err := x.pool.DeleteDamaged(t.Context(), d, false, nil); !errors.Is(err, ErrInvalid) {
				t.Errorf("it was deleted, and nobody knows what it had: %v", err)
			}
			v1 := x.find("v1")
			per := uint64(v1.shape.Blocks())
			k := x.client(v1, 0)
			k.must(bdev.Write, 0, 1, pageMemory(1))
			if n := x.fill(k, 1, per); n != 0 {
				t.Errorf("%d clusters were written that it may have", n)
			}
			x.forced(v1)
			x.whole(func() { unspoil(simDisk(x.house), was) })
		})
	}
}

// TestAListOfSnapshotsIsDamaged: what the volume may write over is not known.
func TestAListOfSnapshotsIsDamaged(t *testing.T) {
	x := newDamagedHouse(t, false)
	v0 := x.opened()
	x.forced(v0)
	if err := x.pool.twice(); err != nil {
		t.Fatal(err)
	}
	top := v0.page.SnapshotTop.Place
	x.image = simDisk(x.house).Snapshot().Crash(sim.None)
	if err := x.open(top); err != nil {
		t.Fatal(err)
	}
	d := x.damaged()
	if err := x.pool.DeleteDamaged(t.Context(), d, false, nil); !errors.Is(err, ErrBusy) || d.all != nil {
		t.Errorf("it was deleted, with its snapshot: %v; there may be other places: %v", err, d.all)
	}
	v1 := x.find("v1")
	x.fill(x.client(v1, 0), 1, uint64(v1.shape.Blocks()))
	x.forced(v1)
	x.whole(func() {})
}

// TestAPoolWithoutRoomBesideADamagedVolume is not opened, and says why: maps and directory of the others would have no pages.
func TestAPoolWithoutRoomBesideADamagedVolume(t *testing.T) {
	x := newDamagedHouse(t, false)
	err := x.open(x.lists[5] - 1)
	if err == nil || !strings.Contains(err.Error(), "volume v0 is damaged") || !strings.Contains(err.Error(), "pages") {
		t.Fatalf("the pool was imported with: %v", err)
	}
	if err := x.open(); err != nil {
		t.Fatal(err)
	}
	x.whole(func() {})
}

// TestADamagedVolumeIsDeleted: all that it had is free then, also what only its log named, and what nobody was given because of it.
func TestADamagedVolumeIsDeleted(t *testing.T) {
	for name, back := range map[string]Place{"a payload": 0, "a header": 1} {
		t.Run(name, func(t *testing.T) {
			x := newDamagedHouse(t, back == 1)
			if err := x.open(x.lists[5] - back); err != nil {
				t.Fatal(err)
			}
			if err := x.pool.DeleteDamaged(t.Context(), x.damaged(), false, nil); err != nil {
				t.Fatal(err)
			}
			if i, err := x.pool.Info(); err != nil || len(i.Damaged)+len(i.Problems) > 0 {
				t.Errorf("%v: %+v", err, i)
			}
			for range 3 {
				if err := x.pool.twice(); err != nil {
					t.Fatal(err)
				}
			}
			s := x.pool.alloc.Space()
			if s.Resting > 0 || s.Granted > 200 {
				t.Errorf("not all is free: %+v", s)
			}
			v1 := x.find("v1")
			per := uint64(v1.shape.Blocks())
			if n := x.fill(x.client(v1, 0), 1, per); n < 500 {
				t.Errorf("%d clusters were written", n)
			}
			x.image = simDisk(x.house).Snapshot().Crash(sim.None)
			if err := x.open(); err != nil || len(x.pool.Volumes()) != 1 || len(x.pool.Damaged()) > 0 {
				t.Fatalf("%v: %d volumes, %d damaged", err, len(x.pool.Volumes()), len(x.pool.Damaged()))
			}
			if back == 1 {
				return // fragment leaves pages to which nothing leads
			}
			if r, err := x.pool.Check(); err != nil || !r.OK() {
				t.Errorf("%v: %+v", err, r)
			}
		})
	}
}

// TestALogOnItsDeviceCannotBeRead: the pages are those of the log device; the log's room there is not given to another volume.
func TestALogOnItsDeviceCannotBeRead(t *testing.T) {
	h := newLogHouse(t, 1)
	v0, v1 := h.volume("v0", 16<<20), h.volume("v1", 16<<20)
	h.write(v0, 3, 0x33)
	h.write(v1, 4, 0x44)
	page := v0.page.Log[0]
	disk, log := h.images()
	h.boot(disk, log)
	bdevsim.DiskOf(h.log).Medium().Inject(sim.Fault{Effect: sim.Fail, Kinds: sim.KindsOf(sim.Read), First: uint64(page.Place) + 2, Blocks: 1})
	if err := h.load(h.config()); err != nil {
		t.Fatal(err)
	}
	if all := h.pool.Damaged(); len(all) != 1 || all[0].Name != "v0" || !strings.Contains(all[0].Problem(), "Log0") {
		t.Fatalf("%+v", all)
	}
	h.want(h.find("v1"), 4, 0x44)
	h.write(h.find("v1"), 5, 0x55)
	if v, err := h.pool.CreateVolume(VolumeConfig{Name: "v2", Bytes: 1 << 20, LogBytes: 8 << 20}); err != nil {
		t.Error(err)
	} else if v.page.Log[0].Place < page.End() && page.Place < v.page.Log[0].End() {
		t.Error("another volume has its log where that is")
	}
	h.boot(h.images())
	if err := h.load(h.config()); err != nil {
		t.Fatal(err)
	}
	h.want(h.find("v0"), 3, 0x33)
	h.want(h.find("v1"), 5, 0x55)
}
