package volume

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/sim"
)

// mapped asks block by block what a device says is mapped, of n blocks.
func (h *house) mapped(d *bdev.Device, n uint64) []bool {
	h.t.Helper()
	c := h.clientOf(d, 0)
	defer c.close()
	all := make([]bool, n)
	for lba := uint64(0); lba < n; lba += c.q.Alike {
		c.must(bdev.Extent, lba, n-lba, nil)
		if c.q.Alike == 0 || c.q.Alike > n-lba {
			h.t.Fatalf("an extent of %d blocks at %d of %d", c.q.Alike, lba, n)
		}
		for i := range c.q.Alike {
			all[lba+i] = c.q.Mapped
		}
	}
	return all
}

// wantMapped wants the blocks to be mapped of which data has bytes, and no others.
func (h *house) wantMapped(what string, d *bdev.Device, data []byte) {
	h.t.Helper()
	zero := make([]byte, PageBytes)
	for i, is := range h.mapped(d, uint64(len(data)/PageBytes)) {
		if has := !bytes.Equal(data[i*PageBytes:][:PageBytes], zero); has != is {
			h.t.Fatalf("%s: block %d is mapped: %v, and should be: %v", what, i, is, has)
		}
	}
}

// TestExtentsAreWhatWasWritten: of a volume in its log and at home, of its snapshots, of a clone before and after it has something of its own, and
// when the map has to be read first.
func TestExtentsAreWhatWasWritten(t *testing.T) {
	sim.Each(t, 4, nil, func(t *testing.T, seed uint64) {
		w := newSnapshotWorld(t, seed)
		w.wantMapped("nothing was written", w.v.Device(), w.head)
		check := func(what string) {
			t.Helper()
			w.wantMapped(what, w.v.Device(), w.head)
			list, err := w.v.Snapshots()
			if err != nil {
				t.Fatal(err)
			}
			for i, s := range list {
				w.wantMapped(what+", snapshot "+s.Name, s.Device, w.old[i].data)
			}
		}
		for i := range 3 {
			w.change(60)
			check("in the log")
			w.take(fmt.Sprint("s", i))
			w.change(30)
			check("after a snapshot")
			w.c.must(bdev.WriteZeroes, 100, 50, nil)
			clear(w.head[100*PageBytes : 150*PageBytes])
			check("with zeroes")
			w.forced(w.v)
			check("at home")
			w.change(10)
			w.again()
			check("opened again")
		}
		c, err := w.v.CloneSnapshot("s0", VolumeConfig{Name: "c", LogBytes: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		data := bytes.Clone(w.old[0].data)
		w.wantMapped("a clone", c.Device(), data)
		k := w.client(c, 1)
		k.must(bdev.Unmap, 0, snapshotBlocks/2, nil)
		clear(data[:snapshotBlocks/2*PageBytes])
		k.must(bdev.Write, 7, 1, bytes.Repeat([]byte{7}, PageBytes))
		data[7*PageBytes] = 7
		w.wantMapped("a clone that was changed", c.Device(), data)
		w.forced(c)
		w.wantMapped("a clone that was changed, at home", c.Device(), data)
		check("beside a clone")
	})
}

// TestExtentsOfSmallBlocks: of blocks of 512 bytes eight are mapped together.
func TestExtentsOfSmallBlocks(t *testing.T) {
	h := newHouse(t, 1, 2, 256<<20)
	v := h.volumeOf(VolumeConfig{Name: "v", Bytes: 1 << 20, LogBytes: 8 << 20, BlockBytes: 512})
	c := h.client(v, 1)
	c.must(bdev.Write, 21, 2, bytes.Repeat([]byte{1}, 1024))
	for i, is := range h.mapped(v.Device(), 2048) {
		if want := i >= 16 && i < 24; is != want {
			t.Errorf("block %d is mapped: %v", i, is)
		}
	}
	for _, x := range []struct {
		lba, n, alike uint64
		mapped        bool
	}{{0, 2048, 16, false}, {3, 5, 5, false}, {3, 2045, 13, false}, {17, 1, 1, true}, {17, 2000, 7, true}, {24, 2024, 2024, false}, {2047, 1, 1, false}} {
		if c.must(bdev.Extent, x.lba, x.n, nil); c.q.Alike != x.alike || c.q.Mapped != x.mapped {
			t.Errorf("the %d blocks from %d on: %d, mapped %v", x.n, x.lba, c.q.Alike, c.q.Mapped)
		}
	}
}

// TestAllOfAThickVolumeIsMapped: its space is taken.
func TestAllOfAThickVolumeIsMapped(t *testing.T) {
	h := newHouse(t, 1, 2, 256<<20)
	v := h.volumeOf(VolumeConfig{Name: "v", Bytes: 4 << 20, LogBytes: 8 << 20, Thick: true})
	c := h.client(v, 1)
	c.must(bdev.Write, 21, 2, bytes.Repeat([]byte{1}, 2*PageBytes))
	c.must(bdev.Unmap, 0, 500, nil)
	if c.must(bdev.Extent, 3, 1000, nil); c.q.Alike != 1000 || !c.q.Mapped {
		t.Errorf("%d blocks, mapped %v", c.q.Alike, c.q.Mapped)
	}
}

// TestExtentsTakeTheirTime: of a large volume one request says a part, so that others have their turn.
func TestExtentsTakeTheirTime(t *testing.T) {
	h := newHouse(t, 1, 2, 256<<20)
	v := h.volume("v", 1<<40)
	c := h.client(v, 0)
	n := uint64(1 << 40 / PageBytes)
	c.must(bdev.Extent, 0, n, nil)
	if most := uint64(extentPieces * v.shape.Blocks()); c.q.Mapped || c.q.Alike != most {
		t.Errorf("%d blocks of %d, mapped %v", c.q.Alike, n, c.q.Mapped)
	}
}
