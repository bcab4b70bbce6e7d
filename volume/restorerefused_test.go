package volume

import (
	"bytes"
	"errors"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
)

// This file is restores that are refused though newer snapshots may be dropped: none is.

// restoreHouse is a volume with a snapshot s and two newer ones, n1 and n2, each with all blocks of its own, as the head.
type restoreHouse struct {
	*house
	v    *Volume
	k    *client
	all  map[string][]byte
	head []byte
}

const restoreBlocks = 8 << 20 / PageBytes

func newRestoreHouse(t *testing.T, thick bool) *restoreHouse {
	t.Helper()
	x := &restoreHouse{house: newHouse(t, 1, 1, 72<<20), all: map[string][]byte{}}
	x.v = x.volumeOf(VolumeConfig{Name: "v0", Bytes: restoreBlocks * PageBytes, LogBytes: 8 << 20, Thick: thick})
	x.k = x.client(x.v, 0)
	for _, name := range []string{"s", "n1", "n2", ""} {
		x.head = pageMemory(restoreBlocks)
		for at := uint64(0); at < restoreBlocks; at += 128 {
			data := pattern(x.w.Rand, 128)
			copy(x.head[at*PageBytes:], data)
			x.k.must(bdev.Write, at, 128, data)
		}
		x.forced(x.v)
		if name == "" {
			break
		}
		if _, err := x.v.CreateSnapshot(SnapshotConfig{Name: name}); err != nil {
			t.Fatal(err)
		}
		x.all[name] = x.head
	}
	return x
}

// whole wants the head to be what was written, and all three snapshots to be there with what they had.
func (x *restoreHouse) whole() {
	x.t.Helper()
	got := pageMemory(restoreBlocks)
	read := func(what string, k *client, want []byte) {
		x.t.Helper()
		for at := uint64(0); at < restoreBlocks; at += 128 {
			k.must(bdev.Read, at, 128, got[at*PageBytes:][:128*PageBytes])
		}
		if !bytes.Equal(got, want) {
			x.t.Errorf("%s is not what it was", what)
		}
	}
	read("the head", x.k, x.head)
	for _, name := range []string{"s", "n1", "n2"} {
		d, err := x.v.findSnapshot(name)
		if err != nil {
			x.t.Errorf("snapshot %s was dropped: %v", name, err)
			continue
		}
		k := x.clientOf(d.device, 0)
		read("snapshot "+name, k, x.all[name])
		k.close()
	}
}

func TestNothingIsDroppedBeforeARestoreThatHasNoSpace(t *testing.T) {
	x := newRestoreHouse(t, true)
	filler := x.volumeOf(VolumeConfig{Name: "filler", Bytes: 64 << 20, LogBytes: 8 << 20})
	k := x.client(filler, 0)
	for at := uint64(0); ; at += 16 {
		if s := k.do(bdev.Write, at, 16, pageMemory(16)); s == bdev.StatusNoSpace {
			break
		} else if s != bdev.StatusOK {
			t.Fatal(s)
		}
	}
	o := RestoreOptions{DropNewer: true, Force: true}
	if err := x.v.RestoreSnapshot(t.Context(), "s", o); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("restoring in a full pool: %v", err)
	}
	x.whole()
	x.forced(filler)
	k.close()
	if err := x.pool.DeleteVolume(t.Context(), filler, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := x.pool.twice(); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.v.RestoreSnapshot(t.Context(), "s", o); err != nil {
		t.Fatal(err)
	}
	got := pageMemory(128)
	if x.k.must(bdev.Read, 0, 128, got); !bytes.Equal(got, x.all["s"][:128*PageBytes]) {
		t.Error("it is not the snapshot")
	}
	if _, err := x.v.findSnapshot("n1"); !errors.Is(err, ErrSnapshotNotFound) {
		t.Errorf("a newer snapshot: %v", err)
	}
	if r, err := x.pool.Check(); err != nil || !r.OK() {
		t.Errorf("%v: %+v", err, r)
	}
}

func TestNothingIsDroppedBesideASnapshotThatIsInUse(t *testing.T) {
	x := newRestoreHouse(t, false)
	o := RestoreOptions{DropNewer: true, Force: true}
	c, err := x.v.CloneSnapshot("n1", VolumeConfig{Name: "c", LogBytes: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.v.RestoreSnapshot(t.Context(), "s", o); !errors.Is(err, ErrSnapshotInUse) {
		t.Fatalf("restoring, and a newer snapshot has a clone: %v", err)
	}
	x.whole()
	if err := x.pool.DeleteVolume(t.Context(), c, nil); err != nil {
		t.Fatal(err)
	}
	d, err := x.v.findSnapshot("n1")
	if err != nil {
		t.Fatal(err)
	}
	k := x.clientOf(d.device, 0)
	if err := x.v.RestoreSnapshot(t.Context(), "s", o); !errors.Is(err, ErrSnapshotInUse) {
		t.Fatalf("restoring, and a newer snapshot is read: %v", err)
	}
	k.close()
	x.whole()
	if err := x.v.RestoreSnapshot(t.Context(), "s", o); err != nil {
		t.Fatal(err)
	}
}
