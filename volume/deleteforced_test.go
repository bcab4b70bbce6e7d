package volume

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the deletion of damaged volumes by force: all that they had is free afterwards, and nothing else is.

// spoilPages damages the pages of volumes at some positions under both slots of a medium, by do, and gives what was there.
func spoilPages(t *testing.T, medium *sim.Disk, do func(Place), positions ...int) (was map[Place][]byte) {
	t.Helper()
	was = map[Place][]byte{}
	newest, older := mediumSlots(t, medium)
	for _, s := range []*Slot{newest, older} {
		for _, p := range rootPages(t, medium, s) {
			of := slices.IndexFunc(positions, func(n int) bool { return p.what == fmt.Sprintf("page of volume %d", n) })
			if of >= 0 && was[p.place] == nil {
				was[p.place] = pageMemory(1)
				medium.ReadAt(was[p.place], p.place.Byte())
				do(p.place)
			}
		}
	}
	if len(was) == 0 {
		t.Fatalf("there is no page of volumes %d", positions)
	}
	return was
}

// unspoil brings back what was there.
func unspoil(medium *sim.Disk, was map[Place][]byte) {
	for at, page := range was {
		medium.Spoil(at.Byte(), page)
	}
}

// spoilBy damages them in an image, and opens that.
func (x *damagedHouse) spoilBy(do func(*sim.Disk, Place), positions ...int) (was map[Place][]byte) {
	x.t.Helper()
	x.w.Reboot()
	x.disk = x.w.Open("Disk0", x.image)
	medium := simDisk(x.house)
	was = spoilPages(x.t, medium, func(at Place) { do(medium, at) }, positions...)
	var err error
	if x.pool, err = ImportPool(x.w.Registry, "Disk0", x.config()); err != nil {
		x.t.Fatal(err)
	}
	return was
}

func (x *damagedHouse) spoilPage(positions ...int) (was map[Place][]byte) {
	x.t.Helper()
	return x.spoilBy(zeroPage, positions...)
}

// zeroPage is the damage of which nothing is left.
func zeroPage(medium *sim.Disk, at Place) { medium.Spoil(at.Byte(), pageMemory(1)) }

// home is the content of the first cluster of v1.
func (x *damagedHouse) home() []byte {
	v := x.find("v1")
	b := pageMemory(v.shape.Blocks())
	x.client(v, 0).must(bdev.Read, 0, uint64(v.shape.Blocks()), b)
	return b
}

// deleted wants nothing to be left of a volume, now and after an import.
func (x *damagedHouse) deleted(home []byte) {
	x.t.Helper()
	for _, when := range []string{"now", "after an import"} {
		if i, err := x.pool.Info(); err != nil || len(i.Damaged)+len(i.Problems) > 0 {
			x.t.Errorf("%s: %v: %+v", when, err, i)
		}
		if r, err := x.pool.Check(); err != nil || !r.OK() {
			x.t.Errorf("%s: %v: %+v", when, err, r)
		}
		if !bytes.Equal(x.home(), home) {
			x.t.Errorf("%s: the other volume has not what it had", when)
		}
		if when == "now" {
			x.image = simDisk(x.house).Snapshot().Crash(sim.None)
			if err := x.open(); err != nil {
				x.t.Fatal(err)
			}
		}
	}
	for range 3 {
		if err := x.pool.twice(); err != nil {
			x.t.Fatal(err)
		}
	}
	v1 := x.find("v1")
	per := uint64(v1.shape.Blocks())
	if n := x.fill(x.client(v1, 0), 1, per); n < 500 {
		x.t.Errorf("%d clusters were written", n)
	}
	if _, err := x.pool.CreateVolume(VolumeConfig{Name: "v0", Bytes: 1 << 20, LogBytes: 8 << 20}); !errors.Is(err, ErrNoSpace) && err != nil {
		x.t.Errorf("its name: %v", err)
	}
}

func TestAVolumeWhosePageIsDamagedIsDeletedByForce(t *testing.T) {
	x := newDamagedHouse(t, true)
	x.spoilPage(0)
	d, home := x.damaged(), x.home()
	if err := x.pool.DeleteDamaged(t.Context(), d, false, nil); !errors.Is(err, ErrInvalid) {
		t.Fatalf("without force: %v", err)
	}
	if err := x.pool.DeleteDamaged(t.Context(), d, true, nil); err != nil {
		t.Fatal(err)
	}
	if err := x.pool.DeleteDamaged(t.Context(), d, true, nil); !errors.Is(err, bdev.ErrNotFound) {
		t.Errorf("twice: %v", err)
	}
	x.deleted(home)
}

// TestADamagedVolumeIsDeletedWithItsSnapshots, whose list cannot be read.
func TestADamagedVolumeIsDeletedWithItsSnapshots(t *testing.T) {
	x := newDamagedHouse(t, false)
	v0 := x.opened()
	x.client(v0, 0).must(bdev.Write, 0, 64, pattern(x.w.Rand, 64))
	x.forced(v0)
	if err := x.pool.twice(); err != nil {
		t.Fatal(err)
	}
	top := v0.page.SnapshotTop.Place
	x.image = simDisk(x.house).Snapshot().Crash(sim.None)
	if err := x.open(top); err != nil {
		t.Fatal(err)
	}
	home := x.home()
	if err := x.pool.DeleteDamaged(t.Context(), x.damaged(), true, nil); err != nil {
		t.Fatal(err)
	}
	x.deleted(home)
}

// TestNothingIsFreedWhileAnotherVolumeIsDamaged: what nothing leads to may be that one's. It is freed with the last.
func TestNothingIsFreedWhileAnotherVolumeIsDamaged(t *testing.T) {
	x := newDamagedHouse(t, true)
	if err := x.open(); err != nil {
		t.Fatal(err)
	}
	v2 := x.volume("v2", 16<<20)
	x.client(v2, 0).must(bdev.Write, 0, 64, pattern(x.w.Rand, 64))
	x.forced(v2)
	x.image = simDisk(x.house).Snapshot().Crash(sim.None)
	x.spoilPage(0, 2)
	home := x.home()
	all := x.pool.Damaged()
	if len(all) != 2 {
		t.Fatalf("%d volumes are damaged", len(all))
	}
	before := x.pool.alloc.Space()
	if err := x.pool.DeleteDamaged(t.Context(), all[0], true, nil); !errors.Is(err, errLeftTaken) {
		t.Fatalf("the first: %v", err)
	}
	if now := x.pool.alloc.Space(); now.Free+now.Resting > before.Free+before.Resting+4 {
		t.Errorf("%+v is free, it was %+v", now, before)
	}
	if i, err := x.pool.Info(); err != nil || len(i.Problems) != 2 {
		t.Errorf("%v: %q", err, i.Problems)
	}
	if err := x.pool.DeleteDamaged(t.Context(), all[1], true, nil); err != nil {
		t.Fatal(err)
	}
	x.image = simDisk(x.house).Snapshot().Crash(sim.None)
	if err := x.open(); err != nil {
		t.Fatal(err)
	}
	x.deleted(home)
}

// TestADamagedVolumeWithClonesStays: what they share with it shows only on it.
func TestADamagedVolumeWithClonesStays(t *testing.T) {
	for _, listed := range []bool{false, true} {
		t.Run(fmt.Sprintf("its page is readable: %v", listed), func(t *testing.T) {
			x := newDamagedHouse(t, true)
			v0 := x.opened()
			if _, err := v0.CloneSnapshot("s", VolumeConfig{Name: "c", LogBytes: 8 << 20}); err != nil {
				t.Fatal(err)
			}
			top := v0.page.SnapshotTop.Place
			x.image = simDisk(x.house).Snapshot().Crash(sim.None)
			if listed {
				if err := x.open(top); err != nil {
					t.Fatal(err)
				}
			} else {
				x.spoilPage(0)
			}
			d := x.pool.Damaged()[0]
			if err := x.pool.DeleteDamaged(t.Context(), d, true, nil); !errors.Is(err, ErrCloned) {
				t.Fatalf("it was deleted: %v", err)
			}
			c := x.find("c")
			got, k := pageMemory(damagedBlocks), x.client(c, 0)
			if k.must(bdev.Read, 0, damagedBlocks, got); !bytes.Equal(got, x.all) {
				t.Error("the clone has not what it had")
			}
			k.close()
			if err := x.pool.DeleteVolume(t.Context(), c, nil); err != nil {
				t.Fatal(err)
			}
			home := x.home()
			if err := x.pool.DeleteDamaged(t.Context(), d, true, nil); err != nil {
				t.Fatal(err)
			}
			x.deleted(home)
		})
	}
}

// TestACloneWhosePageWasDamagedKeepsWhatItShares: it was not known as one when its parent was deleted, and another deletion frees nothing of it.
func TestACloneWhosePageWasDamagedKeepsWhatItShares(t *testing.T) {
	x := newDamagedHouse(t, true)
	v0 := x.opened()
	c, err := v0.CloneSnapshot("s", VolumeConfig{Name: "c", LogBytes: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	clone, v2 := int(c.page.Position), x.volume("v2", 1<<20)
	if _, err := v2.CreateSnapshot(SnapshotConfig{Name: "s"}); err != nil {
		t.Fatal(err)
	}
	x.forced(v2)
	save := func() {
		for range 2 { // both slots lead to the same pages
			if err := x.pool.twice(); err != nil {
				t.Fatal(err)
			}
		}
		x.image = simDisk(x.house).Snapshot().Crash(sim.None)
	}
	save()
	was := x.spoilPage(clone)
	save()
	x.spoilPage(0)
	for _, d := range x.pool.Damaged() {
		if d.Position == 0 {
			if err := x.pool.DeleteDamaged(t.Context(), d, true, nil); !errors.Is(err, errLeftTaken) {
				t.Fatalf("its parent: %v", err)
			}
		}
	}
	unspoil(simDisk(x.house), was) // it is readable again
	save()
	if err := x.open(v2.page.SnapshotTop.Place); err != nil { // whose number is known, since its page is readable
		t.Fatal(err)
	}
	if err := x.pool.DeleteDamaged(t.Context(), x.pool.Damaged()[0], true, nil); !errors.Is(err, errLeftTaken) || !strings.Contains(err.Error(), "[c]: flatten") {
		t.Errorf("another volume: %v", err)
	}
	got, k := pageMemory(damagedBlocks), x.client(x.find("c"), 0)
	if k.must(bdev.Read, 0, damagedBlocks, got); !bytes.Equal(got, x.all) {
		t.Error("the clone has not what it had")
	}
	k.close()
	if r, err := x.pool.Check(); err != nil || r.Free+r.Twice > 0 {
		t.Errorf("%v: %+v", err, r)
	}
}

// TestPowerCutsWhileADamagedVolumeIsDeletedByForce: it is there or gone, and nothing of the others is free.
func TestPowerCutsWhileADamagedVolumeIsDeletedByForce(t *testing.T) {
	x := newDamagedHouse(t, true)
	x.spoilPage(0)
	home := x.home()
	var images []*sim.Image
	medium := simDisk(x.house)
	medium.Watch(func(sim.Point) { images = append(images, medium.Snapshot()) })
	if err := x.pool.DeleteDamaged(t.Context(), x.damaged(), true, nil); err != nil {
		t.Fatal(err)
	}
	medium.Watch(nil)
	gone := 0
	for n, i := range images {
		x.image = i.Crash(sim.Random(x.w.Rand, 0.5))
		if err := x.open(); err != nil {
			t.Fatalf("cut %d: %v", n, err)
		}
		switch all := x.pool.Damaged(); len(all) {
		case 0:
			gone++
		case 1:
			if err := x.pool.DeleteDamaged(t.Context(), all[0], true, nil); err != nil {
				t.Fatalf("cut %d: %v", n, err)
			}
		}
		r, err := x.pool.Check()
		if err != nil || r.Free+r.Twice > 0 {
			t.Fatalf("cut %d: %v: %+v", n, err, r)
		}
		if !bytes.Equal(x.home(), home) {
			t.Fatalf("cut %d: the other volume has not what it had", n)
		}
	}
	if gone == 0 || gone == len(images) {
		t.Errorf("it is gone after %d of %d cuts", gone, len(images))
	}
}

// TestAnImportDeletesWhatKeepsOthersFromOpening: where the others have too few pages beside a damaged volume, only its deletion opens the pool.
func TestAnImportDeletesWhatKeepsOthersFromOpening(t *testing.T) {
	for _, cloned := range []bool{false, true} {
		t.Run(fmt.Sprintf("it has a clone: %v", cloned), func(t *testing.T) {
			x := newDamagedHouse(t, true)
			x.spoilPage(0)
			home := x.home()
			x.image = simDisk(x.house).Snapshot().Crash(sim.None)
			if cloned {
				x = newDamagedHouse(t, true)
				v0 := x.opened()
				if _, err := v0.CloneSnapshot("s", VolumeConfig{Name: "c", LogBytes: 8 << 20}); err != nil {
					t.Fatal(err)
				}
				x.image = simDisk(x.house).Snapshot().Crash(sim.None)
				x.spoilPage(0)
				x.image = simDisk(x.house).Snapshot().Crash(sim.None)
			}
			x.w.Reboot()
			x.disk = x.w.Open("Disk0", x.image)
			cfg := x.config()
			cfg.DeleteDamaged = true
			var err error
			x.pool, err = ImportPool(x.w.Registry, "Disk0", cfg)
			if cloned {
				if !errors.Is(err, ErrCloned) {
					t.Fatalf("it has a clone: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			x.deleted(home)
		})
	}
}

// TestADamagedPageInAPoolWithALogDevice: where the volume's log is there is not known, and nobody is given any of that device.
func TestADamagedPageInAPoolWithALogDevice(t *testing.T) {
	h := newLogHouse(t, 1)
	x := &damagedHouse{house: h.house}
	v0, v1 := h.volume("v0", 16<<20), h.volume("v1", 16<<20)
	h.write(v0, 3, 0x33)
	h.write(v1, 4, 0x44)
	x.fragment()
	h.forced(v1)
	h.write(v0, 5, 0x55) // in its log alone
	disk, logs := h.images()
	h.boot(disk, logs)
	medium := bdevsim.DiskOf(h.disk).Medium()
	was := spoilPages(t, medium, func(at Place) { zeroPage(medium, at) }, 0)
	if err := h.load(h.config()); err != nil {
		t.Fatal(err)
	}
	if d := h.pool.Damaged(); len(d) != 1 || d[0].Number != 0 {
		t.Fatalf("%+v", d)
	}
	h.want(h.find("v1"), 4, 0x44)
	if _, err := h.pool.CreateVolume(VolumeConfig{Name: "v2", Bytes: 1 << 20, LogBytes: 8 << 20}); !errors.Is(err, ErrBusy) {
		t.Errorf("another volume was given a log: %v", err)
	}
	h.write(h.find("v1"), 6, 0x66)
	h.forced(h.find("v1"))
	disk, logs = h.images()
	h.boot(disk, logs)
	unspoil(bdevsim.DiskOf(h.disk).Medium(), was)
	if err := h.load(h.config()); err != nil {
		t.Fatal(err)
	}
	h.want(h.find("v0"), 5, 0x55)
	h.want(h.find("v1"), 6, 0x66)
}

// TestADamagedThickVolume keeps what is promised to it, though it is not served and others take all that there is.
func TestADamagedThickVolume(t *testing.T) {
	h, stages := newStagedHouse(t, 1, 1, 64<<20)
	v0 := h.volumeOf(VolumeConfig{Name: "v0", Bytes: 16 << 20, LogBytes: 8 << 20, Thick: true})
	v1 := h.volume("v1", 64<<20)
	k := h.client(v0, 0)
	k.must(bdev.Write, 0, 64, pageMemory(64))
	h.forced(v0)
	h.w.On(0, func(*reactor.Reactor) { stages.Shut(wal.StageMap) })
	k.must(bdev.Write, 100, 3, pageMemory(3))
	hit := v0.dirty.lookup(100)
	if hit.from != dirtyLog || len(v0.page.Log) != 1 || v1 == nil {
		t.Fatalf("block 100 is %v", hit.from)
	}
	log := v0.page.Log[0]
	bad := log.Place + Place(uint64(hit.offset)/PageBytes%log.Pages)
	x := &damagedHouse{house: h, image: simDisk(h).Snapshot().Crash(sim.None)}
	if err := x.open(bad); err != nil {
		t.Fatal(err)
	}
	d := x.pool.Damaged()
	if len(d) != 1 || d[0].all != nil || d[0].owed.clusters < v0.thickNeed().clusters-8 {
		t.Fatalf("it keeps %+v", d)
	}
	k = x.client(x.find("v1"), 0)
	x.fill(k, 0, 16)
	x.forced(x.find("v1"))
	x.image = simDisk(h).Snapshot().Crash(sim.None)
	if err := x.open(); err != nil {
		t.Fatal(err)
	}
	i, err := x.pool.Info()
	if err != nil || len(i.Problems) > 0 {
		t.Fatalf("%v: %q", err, i.Problems)
	}
	v0 = x.find("v0")
	if n := v0.floorLacks(); !n.isNone() {
		t.Errorf("it lacks %+v", n)
	}
	k = x.client(v0, 0)
	for at := uint64(0); at < 16<<20/PageBytes; at += 16 {
		k.must(bdev.Write, at, 16, pageMemory(16))
	}
}
