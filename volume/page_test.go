package volume

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// A page that is whole and is not the one that is looked for.
func TestPagesThatAreNotTheWantedOne(t *testing.T) {
	page := golden(t, "index")
	crc := le.Uint32(page[4:])
	good := Want{Kind: KindIndex, Level: 1, Pool: testPool, Volume: 3, Index: 2, CRC: crc, Pages: testPages}
	for _, c := range []struct {
		name string
		f    func(*Want)
		says string // "" if it is the one
	}{
		{"the wanted one", func(*Want) {}, ""},
		{"of another kind", func(w *Want) { w.Kind = KindDirectory }, "is of another kind: index page"},
		{"of another level", func(w *Want) { w.Level = 2 }, "is of level 1"},
		{"of another pool", func(w *Want) { w.Pool = uuid.UUID{1} }, "belongs to pool"},
		{"of another volume", func(w *Want) { w.Volume = 4 }, "belongs to volume 3"},
		{"of another index", func(w *Want) { w.Index = 3 }, "has the index 2"},
		{"an older one at the right place", func(w *Want) { w.CRC++ }, "it is an older page"},
		{"of the volume that this is a clone of", func(w *Want) { w.Volume, w.SharedTo = 4, 77 }, ""},
		{"of that volume, but later than the branching off", func(w *Want) { w.Volume, w.SharedTo = 4, 76 }, "belongs to volume 3 and is of LSN 77"},
		{"with a place outside the pool", func(w *Want) { w.Pages = 82 }, "refers to place 82"},
	} {
		w := good
		c.f(&w)
		_, err := OpenRefs(page, &w)
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.says != "" && (!errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
}

// Pages with right checksums and impossible content: a defect of the program that wrote them must not go further.
func TestPagesThatContradictThemselves(t *testing.T) {
	u32 := func(at int, v uint32) func([]byte) { return func(b []byte) { le.PutUint32(b[at:], v) } }
	u64 := func(at int, v uint64) func([]byte) { return func(b []byte) { le.PutUint64(b[at:], v) } }
	for _, c := range []struct {
		format, name string
		f            func(page []byte)
		says         string
	}{
		{"slot", "the other slot's page", u32(12, 0), "says that it is slot 0"},
		{"slot", "generation 0", u64(16, 0), "generation 0"},
		{"slot", "no UUID", func(b []byte) { clear(b[24:40]) }, "no pool UUID"},
		{"slot", "a name that goes on after its end", func(b []byte) { b[100] = 'x' }, "goes on after its end"},
		{"slot", "no name", func(b []byte) { clear(b[56:120]) }, "is empty"},
		{"slot", "a name that is not UTF-8", func(b []byte) { b[56] = 0xff }, "not UTF-8"},
		{"slot", "a line feed in the name", func(b []byte) { b[56] = '\n' }, "control character"},
		{"slot", "clusters of 8 pages", u32(120, 3), "2^3 pages"},
		{"slot", "clusters of 512 pages", u32(120, 9), "2^9 pages"},
		{"slot", "no pages", u64(128, 0), "has 0 pages"},
		{"slot", "more pages than numbers allow", u64(128, 1<<63), "pages"},
		{"slot", "more pages used than there are", u64(152, 100001), "100001 of them used"},
		{"slot", "next volume 0", u64(168, 0), "number 0"},
		{"slot", "more volumes than were ever made", u32(192, 9), "has 9 volumes"},
		{"slot", "no directory", u64(176, 0), "3 volumes and no directory"},
		{"slot", "the directory outside", u64(176, 100000), "directory at place 100000"},
		{"slot", "no area", u32(196, 0), "has 0 bitmap areas"},
		{"slot", "65 areas", u32(196, 65), "has 65 bitmap areas"},
		{"slot", "an area in the slots", u64(200, 16), "outside the pool"},
		{"slot", "an area where no cluster begins", u64(200, 33), "no cluster begins"},
		{"slot", "an area past the end", u64(224, 99984+16), "outside the pool"},
		{"slot", "areas at the same place", u64(224, 32), "same place"},
		{"slot", "a gap between areas", u64(232, 64513), "come next"},
		{"slot", "an area of half a bitmap page", u64(216, 64511), "no whole number of bitmap pages"},
		{"slot", "areas for too few pages", u64(240, 35487), "for 99999 of its 100000"},
		{"slot", "areas for too many pages", u64(240, 35489), "come next"},
		{"slot", "an area whose size wraps around", u64(240, 1<<64-64512), "come next"},

		{"volume", "number 0", u64(8, 0), "no volume number"},
		{"volume", "a stamp that is not the checkpoint's", u64(24, 999), "stamp 999"},
		{"volume", "blocks of 1024", u32(64+88, 1024), "blocks of 1024"},
		{"volume", "a size of half a block", u64(64+80, 2048), "has 2048 bytes"},
		{"volume", "a role that there is not", func(b []byte) { b[64+96] = 6 }, "role of number 6"},
		{"volume", "a policy that there is not", func(b []byte) { b[64+97] = 2 }, "policy 2"},
		{"volume", "snapshots without page", u64(64+176, 0), "2 snapshots"},
		{"volume", "1025 snapshots", func(b []byte) { le.PutUint16(b[64+98:], 1025) }, "1025 snapshots"},
		{"volume", "a map of 8 levels", u32(64+100, 8), "8 levels"},
		{"volume", "the map outside", u64(64+160, testPages), "refers to place"},
		{"volume", "the snapshots outside", u64(64+176, testPages), "refers to place"},
		{"volume", "the reservations outside", u64(64+192, testPages), "refers to place"},
		{"volume", "a parent without snapshot", u64(64+216, 0), "branched off"},
		{"volume", "a branching off without parent", func(b []byte) { clear(b[64+208 : 64+224]) }, "branched off"},
		{"volume", "no next snapshot", u64(64+232, 0), "next snapshot"},
		{"volume", "deleting a snapshot that never was", u64(64+256, 4), "4 is being deleted"},
		{"volume", "33 extents", u32(64+296, 33), "33 extents"},
		{"volume", "65 epochs", u32(64+300, 65), "65 epochs"},
		{"volume", "an extent without pages", u64(64+312, 0), "0 pages"},
		{"volume", "an extent without place", u64(64+304, 0), "place 0"},
		{"volume", "epochs that fall", u64(64+832, 4), "epoch 4"},
		{"volume", "first LSNs that fall", u64(64+840, 900), "from LSN 900"},
		{"volume", "no name", func(b []byte) { clear(b[64+16 : 64+80]) }, "is empty"},

		{"snapshots", "29 in a page", u32(36, 29), "29 snapshots"},
		{"snapshots", "number 0", u64(64, 0), "no number"},
		{"snapshots", "half a sector", u64(64+96, 100), "100 bytes"},
		{"snapshots", "the map outside", u64(64+112, testPages), "map at place"},
		{"snapshots", "a map of 8 levels", u32(64+128, 8), "8 levels"},
		{"snapshots", "two of one number", func(b []byte) { copy(b[64+144:], b[64:64+144]); le.PutUint32(b[36:], 2) }, "after snapshot 29"},

		{"reservations", "longer than the page", u32(36, 4033), "4033 bytes"},

		{"index", "another number of refs", u32(36, 3), "has 2 references and says 3"},
		{"bitmap", "another number of ones", u32(36, 2), "has 3 ones and says 2"},
		{"bitmap", "generation 0", u64(24, 0), "generation 0"},

		{"leaf", "another number of entries", u32(36, 3), "has 2 entries and says 3"},
		{"leaf", "a place where no cluster begins", u64(64, 4097), "no cluster begins"},
		{"leaf", "a place outside", u64(64, testPages), "outside the pool"},
		{"leaf", "a place without birth", u64(72, 0), "place without birth"},
		{"leaf", "a birth after the change", u64(72, 71), "after the last change"},
		{"leaf", "a birth without place", u64(64, 0), "birth without place"},
		{"leaf", "blocks without place", u64(64+2*96+24, 1), "written blocks and no place"},
		{"leaf", "a 17th block", u64(88, 1<<16), "more blocks"},
	} {
		page := golden(t, c.format)
		c.f(page)
		if c.format == "slot" {
			le.PutUint32(page[4092:], crcOf(page[:4092]))
		} else {
			le.PutUint32(page[4:], crcOf(page[8:]))
		}
		for _, f := range formats {
			if f.name != c.format {
				continue
			}
			if _, err := f.decode(page, le.Uint32(page[4:])); !isDamage(err) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s with %s: %v, want %q", c.format, c.name, err, c.says)
			}
		}
	}
}

// Holds V-54 as far as the slot goes: it carries the version of all that hangs on it.
func TestSlotsOfOtherVersions(t *testing.T) {
	var s Slot
	page := golden(t, "slot")
	le.PutUint16(page[8:], 2)
	if err := s.Decode(page, 1); !errors.Is(err, ErrPoolCorrupt) {
		t.Errorf("a damaged version: %v", err)
	}
	le.PutUint32(page[4092:], crcOf(page[:4092]))
	if err := s.Decode(page, 1); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "its format is 2.0") {
		t.Errorf("a newer major version: %v", err)
	}
	le.PutUint16(page[8:], 1)
	le.PutUint16(page[10:], 1)
	page[124] |= 0x80 // a flag that only the newer version knows
	page[2000] = 1    // and a field
	le.PutUint32(page[4092:], crcOf(page[:4092]))
	if err := s.Decode(page, 1); err != nil || !s.NewerMinor() || !s.Clean {
		t.Errorf("a newer minor version: %v, %t", err, s.NewerMinor())
	}
	if err := s.Decode(golden(t, "slot"), 1); err != nil || s.NewerMinor() {
		t.Errorf("this version: %v, %t", err, s.NewerMinor())
	}
}

func TestShapes(t *testing.T) {
	for _, c := range []struct {
		shift               uint32
		entryBytes, perLeaf int
		volumeBytes         uint64
		clusters, leaves    uint64
		levels              uint32
		lastLeaf            uint64
		lastEntry           int
	}{
		{4, 96, 42, 1 << 40, 1 << 24, 399458, 3, 399457, 21},
		{5, 160, 25, 1<<40 + 1, 1<<23 + 1, 335545, 3, 335544, 8},
		{6, 288, 14, 1, 1, 1, 0, 0, 0},
		{7, 552, 7, 252 * 7 * 512 << 10, 252 * 7, 252, 1, 251, 6},
		{8, 1080, 3, (252*3 + 1) << 20, 252*3 + 1, 253, 2, 252, 0},
	} {
		s := ShapeOf(c.shift)
		if s.entryBytes != c.entryBytes || s.Entries() != c.perLeaf {
			t.Errorf("2^%d pages: %d entries of %d bytes", c.shift, s.Entries(), s.entryBytes)
		}
		n := s.Clusters(c.volumeBytes)
		leaf, entry := s.Leaf(n - 1)
		if n != c.clusters || s.Leaves(n) != c.leaves || s.Levels(n) != c.levels || leaf != c.lastLeaf || entry != c.lastEntry {
			t.Errorf("2^%d pages, %d bytes: %d clusters in %d leaves, %d levels; the last is %d of leaf %d",
				c.shift, c.volumeBytes, n, s.Leaves(n), s.Levels(n), entry, leaf)
		}
	}
	if s := ShapeOf(4); s.Clusters(0) != 0 || s.Levels(0) != 0 {
		t.Error("a map of nothing has no clusters and no levels")
	}
	// The largest volume fits in the levels that a page may name.
	if n := ShapeOf(8).Levels(pagesMax >> 4); n > levelsMax {
		t.Errorf("%d levels", n)
	}
}

func TestNames(t *testing.T) {
	for _, c := range []struct {
		name string
		says string
	}{
		{"a", ""}, {"päin", ""}, {strings.Repeat("x", 64), ""},
		{"", "is empty"}, {strings.Repeat("x", 65), "more than 64 bytes"}, {"a\x00b", "control character"}, {"a\xff", "not UTF-8"},
	} {
		n, err := MakeName(c.name)
		switch {
		case c.says == "" && (err != nil || n.String() != c.name || n.check() != nil):
			t.Errorf("%q: %q, %v", c.name, n, err)
		case c.says != "" && (!errors.Is(err, ErrName) || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%q: %v, want %q", c.name, err, c.says)
		}
	}
}
