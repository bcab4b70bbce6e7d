package volume

import (
	"errors"
	"strings"
	"testing"
)

// newTestAllocator makes that of a new pool whose first commit is done.
func newTestAllocator(t testing.TB, shift uint32, pages uint64) *Allocator {
	areas, err := FirstArea(pages, shift)
	if err != nil {
		t.Fatal(err)
	}
	a := NewAllocator(testPool, shift, pages, areas)
	commitAllocator(a, make([]byte, PageBytes))
	return a
}

func commitAllocator(a *Allocator, page []byte) (sides int) {
	a.Begin()
	for _, ok := a.NextSide(page); ok; _, ok = a.NextSide(page) {
		sides++
	}
	a.Committed()
	return sides
}

// V-27: in a full pool ordinary reservations fail and nothing else; trim and deletion have their pages; what they free is there again
// after two commits.
func TestAFullPoolCanBeEmptied(t *testing.T) {
	a := newTestAllocator(t, 4, 1<<20)
	page := make([]byte, PageBytes)
	var held []Place
	buf := make([]Place, 1000)
	for {
		n := a.GrantClusters(buf, Ordinary)
		held = append(held, buf[:n]...)
		if n < len(buf) {
			break
		}
	}
	if s := a.Space(); s.Free < s.Cushion || s.Free >= s.Cushion+2*16 {
		t.Fatalf("full, with %+v", s)
	}
	for a.Reserve(Need{Pages: 1}, Ordinary) { // what is left of the last cluster
	}
	if a.Reserve(Need{Clusters: 1}, Ordinary) || a.GrantPages(buf[:1], Ordinary) != 0 {
		t.Fatal("an ordinary reservation takes of the cushion")
	}
	if got := a.Fill(DefaultWatermarks); got != FillFull {
		t.Fatalf("the pool is %v", got)
	}
	if _, ok := a.TakeRuns(make([]Extent, 8), 1); ok {
		t.Fatal("a log takes of the cushion")
	}
	for _, p := range held {
		a.Refer(p, 16)
	}
	commitAllocator(a, page)

	// A step of a deletion: 300 pages of maps to new places, 1,000 clusters gone.
	maps := make([]Place, 300)
	if !a.Reserve(Need{Pages: 300}, Freeing) {
		t.Fatal("there is no space to free space")
	}
	a.TakePages(maps)
	for _, p := range maps {
		a.Refer(p, 1)
	}
	for _, p := range held[:1000] {
		a.Unrefer(p, 16)
	}
	commitAllocator(a, page)
	if a.Reserve(Need{Clusters: 1}, Ordinary) {
		t.Fatal("what the other slot refers to is free")
	}
	commitAllocator(a, page)
	if !a.Reserve(Need{Clusters: 900}, Ordinary) {
		t.Fatalf("what was deleted did not come back: %+v", a.Space())
	}
}

func TestFill(t *testing.T) {
	a := newTestAllocator(t, 4, 100000)
	var dst [1]Place
	seen := map[Fill]uint64{}
	for last := Fill(99); ; {
		f := a.Fill(DefaultWatermarks)
		if f != last {
			s := a.Space()
			seen[f], last = (s.Total-s.Free)*1000/s.Total, f
		}
		if a.GrantClusters(dst[:], Ordinary) == 0 {
			break
		}
	}
	if seen[FillHigh] != 800 || seen[FillCritical] != 950 || seen[FillFull] < 980 || len(seen) != 4 {
		t.Errorf("degrees were reached at %v thousandths", seen)
	}
	b := newTestAllocator(t, 4, 100000)
	if !b.Reserve(Need{Clusters: 5200}, Ordinary) || b.Fill(DefaultWatermarks) != FillHigh {
		t.Errorf("with reservations of 5,200 clusters it is %v", b.Fill(DefaultWatermarks))
	}
}

func TestImpossibleReservationsAreRefused(t *testing.T) {
	a := newTestAllocator(t, 8, 1<<20)
	before := a.Space()
	for _, n := range []Need{{1 << 63, 0}, {0, 1 << 63}, {^uint64(0), ^uint64(0)}, {0, ^uint64(0)}, {4096, 0}, {0, 1 << 20}, {4000, 30000}} {
		for _, c := range []Class{Ordinary, Freeing} {
			if a.Reserve(n, c) {
				t.Errorf("%+v is granted of %+v", n, before)
			}
		}
	}
	if !a.Reserve(Need{1, 1}, Ordinary) || a.Reserve(Need{^uint64(0), 0}, Ordinary) || a.Reserve(Need{0, ^uint64(0)}, Freeing) {
		t.Error("a sum wraps around")
	}
}

// What this program must never do stops it.
func TestMisuseStops(t *testing.T) {
	for _, c := range []struct {
		name, says string
		f          func(a *Allocator, granted, root Place)
	}{
		{"freeing a page of the root", "to which the root refers", func(a *Allocator, _, root Place) { a.GiveBack(root, 1) }},
		{"freeing a free page", "free page is freed", func(a *Allocator, granted, _ Place) { a.GiveBack(granted, 1); a.GiveBack(granted, 1) }},
		{"freeing what is not the pool's", "outside", func(a *Allocator, _, _ Place) { a.GiveBack(1<<20, 1) }},
		{"freeing a range that wraps around", "outside", func(a *Allocator, _, _ Place) { a.GiveBack(1<<64-1, 2) }},
		{"a free page in the root", "not handed out", func(a *Allocator, granted, _ Place) { a.GiveBack(granted, 1); a.Refer(granted, 1) }},
		{"a page twice in the root", "twice", func(a *Allocator, _, root Place) { a.Refer(root, 1) }},
		{"out of the root, but not in it", "not in it", func(a *Allocator, granted, _ Place) { a.Unrefer(granted, 1) }},
		{"releasing a page of the root", "not handed out", func(a *Allocator, _, root Place) { a.Release(root, 1) }},
		{"taking what was not reserved", "than were reserved", func(a *Allocator, _, _ Place) { a.TakePages(make([]Place, 1)) }},
		{"clusters that were not reserved", "than were reserved", func(a *Allocator, _, _ Place) { a.TakeClusters(make([]Place, 1)) }},
		{"giving up more than was reserved", "than was reserved", func(a *Allocator, _, _ Place) { a.Unreserve(Need{Pages: 1}) }},
		{"two commits at once", "two commits", func(a *Allocator, _, _ Place) { a.Begin(); a.Begin() }},
		{"a root that changes in a commit", "while it is written", func(a *Allocator, granted, _ Place) { a.Begin(); a.Refer(granted, 1) }},
		{"a commit without its bitmap", "before its bitmap", func(a *Allocator, granted, _ Place) { a.Refer(granted, 1); a.Begin(); a.Committed() }},
		{"a slot before its bitmap", "before its bitmap", func(a *Allocator, granted, _ Place) { a.Refer(granted, 1); a.Begin(); a.FillSlot(&Slot{}) }},
		{"a page that rests back in the root", "to which the root refers", func(a *Allocator, _, root Place) {
			a.Unrefer(root, 1)
			a.Refer(root, 1)
			commitAllocator(a, make([]byte, PageBytes))
			commitAllocator(a, make([]byte, PageBytes))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newTestAllocator(t, 4, 10000)
			dst := make([]Place, 2)
			a.GrantPages(dst, Ordinary)
			a.Refer(dst[1], 1)
			commitAllocator(a, make([]byte, PageBytes))
			defer func() {
				if got, ok := recover().(string); !ok || !strings.Contains(got, c.says) {
					t.Errorf("%q, want %q", got, c.says)
				}
			}()
			c.f(a, dst[0], dst[1])
		})
	}
}

// A bitmap that is not what the slot says (V-12, V-28).
func TestBitmapsThatAreNotTheSlots(t *testing.T) {
	areas, err := FirstArea(100000, 4)
	if err != nil {
		t.Fatal(err)
	}
	a := NewAllocator(testPool, 4, 100000, areas)
	disk := map[Place][]byte{}
	var slots [2]Slot
	var granted [3]Place
	for g := range 2 {
		a.GrantPages(granted[g:g+1], Ordinary)
		a.Refer(granted[g], 1)
		a.Begin()
		for {
			page := make([]byte, PageBytes)
			p, ok := a.NextSide(page)
			if !ok {
				break
			}
			disk[p] = page
		}
		a.FillSlot(&slots[g])
		a.Committed()
	}
	rewrite := func(b []byte, f func()) {
		f()
		ones := 0
		for i := range wordsPerPage {
			for w := bitmapWord(b, i); w != 0; w &= w - 1 {
				ones++
			}
		}
		le.PutUint32(b[36:], uint32(ones))
		le.PutUint32(b[4:], crcOf(b[8:]))
	}
	first := a.SidesPlace(0)
	for _, c := range []struct {
		name, says string
		f          func(disk map[Place][]byte, s *Slot)
	}{
		{"as it is", "", func(map[Place][]byte, *Slot) {}},
		{"the newest side lost", "a bitmap page was lost or is older", func(d map[Place][]byte, _ *Slot) { clear(d[first+1]) }},
		{"all sides lost", "has no side for generation 2", func(d map[Place][]byte, _ *Slot) { clear(d[first]); clear(d[first+1]) }},
		{"only sides that are too new", "has no side for generation 2", func(d map[Place][]byte, _ *Slot) {
			rewrite(d[first], func() { d[first][24] = 8 })
			rewrite(d[first+1], func() { d[first+1][24] = 9 })
		}},
		{"another number of pages in the slot", "and the slot says 1", func(_ map[Place][]byte, s *Slot) { s.PagesUsed = 1 }},
		{"another pool's side", "lost or is older", func(d map[Place][]byte, _ *Slot) { rewrite(d[first+1], func() { d[first+1][40] ^= 1 }) }},
		{"the slots are free", "has the slots as free", func(d map[Place][]byte, s *Slot) {
			b := d[first+1]
			was := le.Uint32(b[4:])
			rewrite(b, func() { b[64+2] = 0 })
			s.BitmapSum += uint64(le.Uint32(b[4:])) - uint64(was)
			s.PagesUsed -= 8
		}},
		{"its own area is free", "its own area 0 as free", func(d map[Place][]byte, s *Slot) {
			b := d[first+1]
			was := le.Uint32(b[4:])
			rewrite(b, func() { b[64+4] = 0 })
			s.BitmapSum += uint64(le.Uint32(b[4:])) - uint64(was)
			s.PagesUsed -= 8
		}},
		{"bits beyond the end", "beyond the end", func(d map[Place][]byte, _ *Slot) {
			b := d[first+9] // the last bitmap page: 3,232 pages of it exist
			rewrite(b, func() { b[64+404] = 1 })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := map[Place][]byte{}
			for p, b := range disk {
				d[p] = append([]byte(nil), b...)
			}
			s := slots[1]
			c.f(d, &s)
			open := OpenAllocator(&s, &slots[0])
			err := func() error {
				for i := range open.BitmapPages() {
					var side [sides][]byte
					for j := range side {
						if side[j] = d[open.SidesPlace(i)+Place(j)]; side[j] == nil {
							side[j] = make([]byte, PageBytes)
						}
					}
					if err := open.Load(i, side); err != nil {
						return err
					}
				}
				return open.Loaded()
			}()
			switch {
			case c.says == "" && err != nil:
				t.Error(err)
			case c.says != "" && (!errors.Is(err, ErrPoolCorrupt) || !strings.Contains(err.Error(), c.says)):
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
}

func TestAreasOfPools(t *testing.T) {
	for _, pages := range []uint64{0, 31, 34, pagesMax + 1} {
		if a, err := FirstArea(pages, 4); err == nil {
			t.Errorf("a pool of %d pages has the areas %v", pages, a)
		}
	}
	one, err := FirstArea(1000, 8)
	if err != nil || one[0] != (Area{256, 0, 1000}) {
		t.Fatal(one, err)
	}
	for _, c := range []struct {
		name  string
		pages uint64
		want  []Area // nil if it is refused
	}{
		{"into the room of the last bitmap page", 32256, []Area{{256, 0, 32256}}},
		{"a page beyond it", 32257, []Area{{256, 0, 32256}, {1024, 32256, 1}}},
		{"far", 1 << 20, []Area{{256, 0, 32256}, {1024, 32256, 1<<20 - 32256}}},
		{"not at all", 1000, nil},
		{"smaller", 999, nil},
		{"beyond all numbers", pagesMax + 1, nil},
	} {
		got, err := GrownAreas(one, c.pages, 8)
		if (err == nil) != (c.want != nil) || len(got) != len(c.want) {
			t.Errorf("%s: %v, %v", c.name, got, err)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: %v, want %v", c.name, got, c.want)
			}
		}
	}
	if one[0].Covered != 1000 {
		t.Error("the areas that there were have changed")
	}
	areas, pages := one, uint64(1000)
	for err == nil {
		pages += 2 * bitsPerPage
		var more []Area
		if more, err = GrownAreas(areas, pages, 8); err == nil {
			areas = more
		}
	}
	if len(areas) != AreasMax || !errors.Is(err, ErrLimit) {
		t.Errorf("%d areas, then %v", len(areas), err)
	}
}

// Only what changed is written.
func TestACommitWritesTheBitmapPagesThatChanged(t *testing.T) {
	a := newTestAllocator(t, 4, 10*bitsPerPage)
	page := make([]byte, PageBytes)
	var dst [1]Place
	if n := commitAllocator(a, page); n != 0 {
		t.Errorf("nothing changed, and %d sides were written", n)
	}
	a.GrantClusters(dst[:], Ordinary)
	if n := commitAllocator(a, page); n != 0 {
		t.Errorf("a grant wrote %d sides", n)
	}
	a.Refer(dst[0], 16)
	if n := commitAllocator(a, page); n != 1 {
		t.Errorf("a cluster wrote %d sides", n)
	}
	a.Unrefer(dst[0], 16)
	if n := commitAllocator(a, page); n != 1 {
		t.Errorf("its end wrote %d sides", n)
	}
	run := make([]Extent, 1)
	if n, ok := a.TakeRuns(run, 3*bitsPerPage/16); n != 1 || !ok {
		t.Fatal(n, ok)
	}
	a.Refer(run[0].Place, run[0].Pages)
	if n := commitAllocator(a, page); n != 4 {
		t.Errorf("a log over four bitmap pages wrote %d sides", n)
	}
}

func TestAllocatorAllocatesNothing(t *testing.T) {
	a := newTestAllocator(t, 4, 1<<20)
	page := make([]byte, PageBytes)
	var slot Slot
	clusters, pages := make([]Place, 64), make([]Place, 64)
	old := make([]Place, 0, 128)
	round := func() {
		if !a.Reserve(Need{Clusters: 32, Pages: 64}, Ordinary) {
			panic("no space")
		}
		a.TakeClusters(clusters[:32])
		a.TakePages(pages)
		if a.GrantClusters(clusters[32:], Ordinary) != 32 {
			panic("no space")
		}
		for _, p := range old {
			a.Unrefer(p, 16)
		}
		old = append(old[:0], clusters[:48]...)
		for _, p := range old {
			a.Refer(p, 16)
		}
		for _, p := range clusters[48:] {
			a.GiveBack(p, 16)
		}
		for _, p := range pages {
			a.Release(p, 1)
		}
		a.Begin()
		for _, ok := a.NextSide(page); ok; _, ok = a.NextSide(page) {
		}
		a.FillSlot(&slot)
		a.Committed()
		a.Fill(DefaultWatermarks)
	}
	round()
	if n := testing.AllocsPerRun(200, round); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The figures of the package's documentation.
func TestMemoryOfATebibyte(t *testing.T) {
	const pages = 1 << 28 // 1 TiB
	for shift, perCluster := range map[uint32]float64{4: 4.1, 8: 0.3} {
		areas, err := FirstArea(pages, shift)
		if err != nil {
			t.Fatal(err)
		}
		a := NewAllocator(testPool, shift, pages, areas)
		got := float64(a.MemoryBytes()) / (1 << 20)
		t.Logf("clusters of 2^%d pages: %.2f MiB", shift, got)
		if got < 64 || got > 64.3+perCluster {
			t.Errorf("clusters of 2^%d pages: %.2f MiB", shift, got)
		}
	}
}

// How long it takes to find space in 1 TiB of which all but the end is in use.
func BenchmarkTakeCluster(b *testing.B) {
	a := newTestAllocator(b, 4, 1<<28)
	n := a.bits.wholeClusters - 20000
	run := make([]Extent, 1)
	if _, ok := a.TakeRuns(run, n); !ok {
		b.Fatal("no run")
	}
	var dst [1]Place
	for b.Loop() {
		a.clusterAt = 0
		a.GrantClusters(dst[:], Freeing)
		a.GiveBack(dst[0], 16)
	}
}

// The worst search for a log: clusters in use and free by turns.
func BenchmarkLongest(b *testing.B) {
	a := newTestAllocator(b, 4, 1<<28)
	w := a.bits.whole.levels[0]
	for i := range w {
		w[i] &= 0x5555555555555555
	}
	for b.Loop() {
		if _, n := a.bits.whole.longest(1024); n != 1 {
			b.Fatal("found")
		}
	}
}
