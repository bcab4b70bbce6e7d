package volume

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is damage to the pages to which a slot leads (V-12): the pool is opened by the older slot, nothing durable is missing, and it
// is written to again.

// rootPage is a page to which a slot leads.
type rootPage struct {
	what  string
	place Place
}

// rootPages lists what opening a pool by a slot reads, by looking at the medium.
func rootPages(t *testing.T, medium *sim.Disk, s *Slot) []rootPage {
	t.Helper()
	read := func(at Place) []byte {
		b := pageMemory(1)
		medium.ReadAt(b, at.Byte())
		return b
	}
	var all []rootPage
	for _, a := range s.Areas {
		for i := range bitmapPages(a.Covered) {
			at, best := Place(0), Generation(0)
			for side := range Place(sides) {
				place := a.First + Place(i*sides) + side
				g, _, err := checkBitmap(read(place), s.Pool, uint64(a.Covers)/bitsPerPage+i)
				if err == nil && g <= s.Generation && g > best {
					at, best = place, g
				}
			}
			all = append(all, rootPage{"side of the bitmap", at})
		}
	}
	all = append(all, rootPage{"top of the directory", s.Directory.Place})
	top := read(s.Directory.Place)
	for i := range RefsMax {
		ref := RefAt(top, i)
		if ref.IsZero() {
			continue
		}
		all = append(all, rootPage{"page of the directory", ref.Place})
		page := read(ref.Place)
		for k := range RefsMax {
			if ref := RefAt(page, k); !ref.IsZero() {
				all = append(all, rootPage{fmt.Sprint("page of volume ", k), ref.Place})
			}
		}
	}
	return all
}

// mediumSlots reads the slots of a medium: the newest, and the older one.
func mediumSlots(t *testing.T, medium *sim.Disk) (newest, older *Slot) {
	t.Helper()
	var pages [2][]byte
	for i, at := range SlotPlace {
		pages[i] = pageMemory(1)
		medium.ReadAt(pages[i], at.Byte())
	}
	newest, older, err := ReadSlots(pages, new([2]Slot))
	if err != nil || older == nil {
		t.Fatalf("the pool has no two slots that follow each other: %v", err)
	}
	return newest, older
}

// rootDamage is what may become of a page.
var rootDamage = []struct {
	name string
	do   func(k *crashHarness, medium *sim.Disk, at Place)
}{
	{"a bit is flipped", func(k *crashHarness, medium *sim.Disk, at Place) {
		b := pageMemory(1)
		medium.ReadAt(b, at.Byte())
		b[headerBytes+k.r.IntN(contentBytes)] ^= 1 << k.r.IntN(8)
		medium.Spoil(at.Byte(), b)
	}},
	{"a sector is other bytes", func(k *crashHarness, medium *sim.Disk, at Place) {
		b := make([]byte, 512)
		for i := range b {
			b[i] = byte(k.r.Uint32())
		}
		medium.Spoil(at.Byte()+512*k.r.Uint64N(8), b)
	}},
	{"its write was lost", func(_ *crashHarness, medium *sim.Disk, at Place) { medium.Spoil(at.Byte(), pageMemory(1)) }},
	{"it cannot be read", func(_ *crashHarness, medium *sim.Disk, at Place) {
		medium.Inject(sim.Fault{Effect: sim.Fail, Kinds: sim.KindsOf(sim.Read), First: uint64(at), Blocks: 1})
	}},
}

// TestDamageUnderTheNewestSlot: each page that only the newest slot leads to, damaged in each way.
func TestDamageUnderTheNewestSlot(t *testing.T) {
	met := map[string]bool{}
	seeds := 0
	sim.Each(t, 2, []uint64{14288506515286776151}, func(t *testing.T, seed uint64) {
		k := newCrashHarness(t, seed, crashPoolBytes)
		clients := k.clients(4)
		k.work(clients, 80)
		k.rest(clients)
		seeds++
		for turn := range sim.Rounds(4) { // each time another volume's checkpoint is the last commit, and there are records behind it
			k.forced(k.v[turn%2])
			k.work(clients, 20)
			k.rest(clients)
			tick := k.m.tick
			image := bdevsim.DiskOf(k.disk).Medium().Snapshot().Crash(sim.All)
			at, err := sim.Open(image, sim.Config{Name: "looked at"})
			if err != nil {
				t.Fatal(err)
			}
			newest, older := mediumSlots(t, at)
			in := map[Place]bool{}
			for _, p := range rootPages(t, at, older) {
				in[p.place] = true
			}
			other := *k
			other.house = &house{t: t, w: k.w}
			if turn > 0 {
				other.house.w = bdevsim.NewWorld(t, seed+uint64(turn)<<32, 2)
			} else {
				other.house.w = bdevsim.NewWorld(t, seed+1<<40, 2)
			}
			for n, p := range rootPages(t, at, newest) {
				if in[p.place] {
					continue
				}
				met[p.what] = true
				damage := rootDamage[(n+turn)%len(rootDamage)]
				what := fmt.Sprintf("turn %d, the newest slot's %s at %d: %s", turn, p.what, p.place, damage.name)
				other.open(image)
				damage.do(&other, bdevsim.DiskOf(other.disk).Medium(), p.place)
				other.importPool()
				if info, err := other.pool.Info(); err != nil || len(info.Problems) != 1 || !strings.Contains(info.Problems[0], "older slot") {
					t.Fatalf("%s: the pool says %q, %v", what, info.Problems, err)
				}
				got := other.all()
				for vol, b := range got {
					other.compare(what, vol, 0, b, tick, tick, true)
				}
				other.checked()
				other.writeAgain(what, got)
			}
		}
	})
	for _, what := range []string{"side of the bitmap", "top of the directory", "page of the directory", "page of volume 0", "page of volume 1"} {
		if seeds > 1 && !met[what] { // one seed alone may not meet them all
			t.Errorf("no %s was damaged", what)
		}
	}
}

// TestDamageUnderTheOlderSlot: the pool is opened by the newest, and the older slot is no longer one to fall back to. What it leads to is
// read without a fault later: by then places and log have been used again.
func TestDamageUnderTheOlderSlot(t *testing.T) {
	sim.Each(t, 2, nil, func(t *testing.T, seed uint64) {
		k := newCrashHarness(t, seed, crashPoolBytes)
		clients := k.clients(4)
		k.work(clients, 80)
		k.forced(k.v[0])
		k.rest(clients)
		k.forced(k.v[1])
		tick := k.m.tick
		image := bdevsim.DiskOf(k.disk).Medium().Snapshot().Crash(sim.All)
		at, err := sim.Open(image, sim.Config{Name: "looked at"})
		if err != nil {
			t.Fatal(err)
		}
		newest, older := mediumSlots(t, at)
		in := map[Place]bool{}
		for _, p := range rootPages(t, at, newest) {
			in[p.place] = true
		}
		n := 0
		for _, p := range rootPages(t, at, older) {
			if in[p.place] {
				continue
			}
			n++
			what := fmt.Sprintf("the older slot's %s at %d", p.what, p.place)
			k.open(image)
			medium := bdevsim.DiskOf(k.disk).Medium()
			bad := medium.Inject(sim.Fault{Effect: sim.Fail, Kinds: sim.KindsOf(sim.Read), First: uint64(p.place), Blocks: 1})
			k.importPool()
			if bad.Hits() == 0 {
				t.Fatalf("%s was not read", what)
			}
			bad.Remove()
			var s Slot
			b := pageMemory(1)
			medium.ReadAt(b, SlotPlace[older.Number].Byte())
			if err := s.Decode(b, older.Number); err == nil && s.Generation == older.Generation {
				t.Fatalf("%s: the slot could be opened by again, and what it needs is not kept", what)
			}
			got := k.all()
			for vol, b := range got {
				k.compare(what, vol, 0, b, tick, tick, true)
			}
			k.checked()
			k.writeAgain(what, got)
		}
		if n < 4 {
			t.Fatalf("only %d pages were the older slot's alone", n)
		}
	})
}

// TestDamageUnderBothSlots is refused, and said of both.
func TestDamageUnderBothSlots(t *testing.T) {
	k := newCrashHarness(t, 1, crashPoolBytes)
	k.forced(k.v[0])
	k.forced(k.v[0])
	image := bdevsim.DiskOf(k.disk).Medium().Snapshot().Crash(sim.All)
	k.open(image)
	medium := bdevsim.DiskOf(k.disk).Medium()
	newest, older := mediumSlots(t, medium)
	for _, s := range []*Slot{newest, older} {
		medium.Spoil(s.Directory.Place.Byte(), pageMemory(1))
	}
	_, err := ImportPool(k.w.Registry, "Disk0", k.poolConfig())
	if err == nil {
		t.Fatal("the pool is open")
	}
	for _, part := range []string{fmt.Sprintf("generation %d", newest.Generation), fmt.Sprintf("generation %d", older.Generation)} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v: nothing about %s", err, part)
		}
	}
	b := pageMemory(1)
	for _, s := range []*Slot{newest, older} {
		medium.ReadAt(b, SlotPlace[s.Number].Byte())
		if new(Slot).Decode(b, s.Number) != nil {
			t.Error("a slot is gone, though the pool was not opened")
		}
	}
}

// TestWhatControlHasDoneIsInBothSlots: what an act of control reported as done is there when the pool is opened by the older slot.
func TestWhatControlHasDoneIsInBothSlots(t *testing.T) {
	h := newHouse(t, 1, 1, crashPoolBytes)
	lose := func() {
		t.Helper()
		h.crash(func(i *sim.Image) *sim.Image {
			i = i.Crash(sim.None)
			at, err := sim.Open(i, sim.Config{Name: "spoiled"})
			if err != nil {
				t.Fatal(err)
			}
			newest, _ := mediumSlots(t, at)
			at.Spoil(SlotPlace[newest.Number].Byte(), pageMemory(1))
			return at.Snapshot()
		})
	}
	v := h.volume("v0", 8<<20)
	k := h.client(v, 0)
	data := pattern(h.w.Rand, 20)
	k.must(bdev.Write, 3, 20, data)
	lose()
	v = h.find("v0")
	got := pageMemory(20)
	h.client(v, 0).must(bdev.Read, 3, 20, got)
	if string(got) != string(data) {
		t.Fatal("what was written to a new volume is not there")
	}
	if err := h.pool.RenameVolume(v, "v1"); err != nil {
		t.Fatal(err)
	}
	lose()
	v = h.find("v1")
	if err := v.SetReadOnly(true); err != nil {
		t.Fatal(err)
	}
	lose()
	if v = h.find("v1"); !v.device.Geometry().ReadOnly {
		t.Fatal("the volume takes writes again")
	}
	if err := h.pool.Rename("pool1"); err != nil {
		t.Fatal(err)
	}
	lose()
	if h.pool.Name() != "pool1" {
		t.Fatalf("the pool is %s again", h.pool.Name())
	}
}

// TestADamagedPageOfTheMap: the pool is open, who reads below that page hears it, and the rest is served. The flusher needs the page to
// bring home what is written there: the volume takes no changes any more, and what was acknowledged stays in the log.
func TestADamagedPageOfTheMap(t *testing.T) {
	k := newCrashHarness(t, 1, crashPoolBytes)
	v := k.v[0]
	c := k.client(v, 0)
	data := pageMemory(1)
	crashFill(data, 0, 1, 7)
	c.must(bdev.Write, 7, 1, data)
	far := uint64(crashBlocks - 1) // below another leaf
	crashFill(data, 0, 2, far)
	c.must(bdev.Write, far, 1, data)
	k.forced(v)
	k.forced(k.v[1])
	image := bdevsim.DiskOf(k.disk).Medium().Snapshot().Crash(sim.None)
	root := v.page.Map
	if v.page.Levels == 0 {
		t.Fatal("the map has one leaf only")
	}
	k.open(image)
	medium := bdevsim.DiskOf(k.disk).Medium()
	b := pageMemory(1)
	medium.ReadAt(b, root.Place.Byte())
	leaf := RefAt(b, 0)
	if leaf.IsZero() {
		t.Fatal("the map has no first leaf")
	}
	medium.Spoil(leaf.Place.Byte(), pageMemory(1))
	k.importPool()
	v = k.v[0]
	c = k.client(v, 0)
	got := pageMemory(1)
	for range 2 {
		if s := c.do(bdev.Read, 7, 1, got); s != bdev.StatusCorrupt {
			t.Fatalf("reading below a damaged page of the map: %v", s)
		}
	}
	c.must(bdev.Read, far, 1, got)
	if string(got) != string(data) {
		t.Fatal("what is not below it is another")
	}
	if r, err := k.pool.Check(); err != nil || r.OK() || len(r.Volumes) != 2 || r.Volumes[0].Unread != 1 {
		t.Fatalf("the check says %+v, %v", r, err)
	}

	crashFill(data, 0, 3, far)
	c.must(bdev.Write, far, 1, data) // what is whole takes writes, and they go home
	k.forced(v)
	if v.failed != bdev.StatusOK {
		t.Fatalf("the volume is %v", v.failed)
	}
	crashFill(data, 0, 4, 8)
	c.must(bdev.Write, 8, 1, data)
	k.w.RunFor(reactor.Second)
	if s := c.do(bdev.Write, 9, 1, data); s != bdev.StatusReadOnly {
		t.Fatalf("a write, when what was written cannot go home: %v", s)
	}
	image = bdevsim.DiskOf(k.disk).Medium().Snapshot().Crash(sim.None)
	for range 2 {
		k.open(image)
		var err error
		if k.pool, err = ImportPool(k.w.Registry, "Disk0", k.poolConfig()); err != nil {
			t.Fatal(err)
		}
		c = k.client(k.find("v0"), 0)
		crashFill(data, 0, 4, 8)
		c.must(bdev.Read, 8, 1, got)
		if string(got) != string(data) {
			t.Fatal("what was acknowledged is not there")
		}
		crashFill(data, 0, 3, far)
		c.must(bdev.Read, far, 1, got)
		if string(got) != string(data) {
			t.Fatal("what is not below the damaged page is not there")
		}
		other := k.client(k.find("v1"), 1)
		other.must(bdev.Write, 1, 1, data)
		k.w.RunFor(reactor.Second)
		image = bdevsim.DiskOf(k.disk).Medium().Snapshot().Crash(sim.All)
	}
}
