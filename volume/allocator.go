package volume

import (
	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is the allocator of a pool: who may have how many pages, which ones, and when a page that nobody needs any more may be handed
// out again. It does no I/O; the pool's reactor owns it.
//
// The way of a page:
//
//	free ──Take, Grant──▶ handed out ──Refer──▶ in the root ──Unrefer──▶ resting ──two commits──▶ free
//	                        │    ▲                                         ▲
//	                        │    └──Claim, at open                         │
//	                        ├──GiveBack──▶ free                            │
//	                        ├──Release─────────────────────────────────────┘
//	                        └◀─Forsake, in the root
//
// GiveBack is for a page that neither a root nor a record of a log ever named: what was granted and not used. Release is for one that a
// record may have named which is not needed any more. Forsake is for one that cannot be written: it leaves the root, and nobody gets it
// before the pool is opened again.
//
// A page that leaves the root with the commit of generation G is in the root of the other slot, of G-1, until the commit of G+1 writes over
// that slot (V-13, V-29). So it is free when G+1 is durable.
//
// Space (V-27) is counted in clusters, of which every page must be free, and in pages, which may come from anywhere. With C whole clusters of k
// pages, B free pages in broken ones, and reservations of c clusters and p pages,
//
//	p − B ≤ (C − c) × k
//
// always holds, and with it everything reserved can be taken: a page out of a whole cluster makes C one less and B k−1 more. Ordinary
// reservations must leave a cushion beside that; trim and deletion, which in the end give space, may use it, and half of it what is written in
// place, which gives back as many pages as it takes.

// Class says whose reservation it is.
type Class uint8

// The classes.
const (
	Ordinary    Class = iota // what makes a volume larger: writes, copies, snapshots, logs
	Freeing                  // what is needed to free space: the map pages of a trim or a deletion
	Overwriting              // map pages of what is written in place
)

// Need is an amount of space: whole clusters, and single pages.
type Need struct {
	Clusters uint64
	Pages    uint64
}

// Allocator is that of one pool.
type Allocator struct {
	bits     *bitmap
	cushion  uint64 // pages that ordinary reservations leave
	reserved Need

	clusterAt uint64 // where the search for a cluster goes on

	leaving []Extent // left the root for the next commit
	rested  []Extent // left it with the last one: free after the next
	resting uint64   // pages in both

	opening    struct{ slot, older *Slot } // until Loaded
	olderWhole bool
}

// restingAtOpen is how many extents rest without new memory.
const restingAtOpen = 1024

// NewAllocator makes the allocator of a new pool: slots and areas are in use, and every bitmap page is to be written by the first commit.
// The areas are those of FirstArea.
func NewAllocator(pool uuid.UUID, shift uint32, pages uint64, areas []Area) *Allocator {
	a := emptyAllocator(pool, shift, pages, areas)
	b := a.bits
	b.settle()
	a.adopt(0, headPages(shift))
	for _, x := range areas {
		a.adopt(x.First, x.Pages())
	}
	for i := range b.sides {
		b.dirty.add(uint64(i))
	}
	return a
}

func emptyAllocator(pool uuid.UUID, shift uint32, pages uint64, areas []Area) *Allocator {
	return &Allocator{
		bits:    newBitmap(pool, shift, pages, areas),
		cushion: Cushion(pages),
		leaving: make([]Extent, 0, restingAtOpen),
		rested:  make([]Extent, 0, restingAtOpen),
	}
}

// adopt makes free pages part of the root.
func (a *Allocator) adopt(p Place, n uint64) {
	a.bits.use(p, n)
	a.bits.refer(p, n)
}

// OpenAllocator makes the allocator of the pool whose root is the slot s; older is the other slot if the pool can still be opened by that,
// else nil. Load follows for each bitmap page, and then Loaded.
func OpenAllocator(s, older *Slot) *Allocator {
	a := emptyAllocator(s.Pool, s.ClusterShift, s.Pages, s.Areas)
	a.opening.slot = s
	a.opening.older = older
	return a
}

// Cushion is how many pages ordinary reservations leave in a pool of so many: a 64th, 1 MiB at least and 64 MiB at most. A trim or a step
// of a deletion takes pages of the map, of the volume and of the directory, and two commits pass before what it frees is free.
func Cushion(pages uint64) uint64 { return min(max(pages/64, 256), 16384) }

// BitmapPages is how many there are: Load must be called for each.
func (a *Allocator) BitmapPages() uint64 { return uint64(len(a.bits.sides)) }

// SidesPlace is where the three sides of a bitmap page begin.
func (a *Allocator) SidesPlace(index uint64) Place { return a.bits.sidePlace(index, 0) }

// Load takes a bitmap page from its three sides, as read. What only the older slot refers to rests.
func (a *Allocator) Load(index uint64, side [sides][]byte) error {
	older := Generation(0)
	if a.opening.older != nil {
		older = a.opening.older.Generation
	}
	return a.bits.load(index, side, a.opening.slot.Generation, older, a.restOld)
}

func (a *Allocator) restOld(e Extent) {
	a.rested = append(a.rested, e)
	a.resting += e.Pages
}

// Loaded ends loading: it compares with the slot (V-12, V-28).
func (a *Allocator) Loaded() error {
	b := a.bits
	if o := a.opening.older; o != nil && o.Pages < b.pages {
		// The older slot's pool ends earlier: until it is written over, nothing beyond that end is handed out.
		for p := o.Pages; p < b.pages; {
			if n := b.unused(p, b.pages-p); n > 0 {
				setBits(b.used, p, n)
				a.restOld(Extent{Place(p), n})
				p += n
			} else {
				p += b.run(p)
			}
		}
	}
	s := a.opening.slot
	a.olderWhole = a.opening.older != nil && b.before == a.opening.older.BitmapSum
	a.opening.slot, a.opening.older = nil, nil
	return b.loaded(s)
}

// OlderWhole says that the older slot's sides are all there: the pool could be opened by that too.
func (a *Allocator) OlderWhole() bool { return a.olderWhole }

// Claim hands out pages that a record names which is above the checkpoint: they were granted before the pool was opened. False if they are
// outside the pool or in use, which no intact pool can say.
func (a *Allocator) Claim(p Place, n uint64) bool {
	b := a.bits
	if !b.holds(p, n) || countBits(b.used, uint64(p), n) != 0 {
		return false
	}
	b.use(p, n)
	return true
}

// Quarantine hands out free clusters to nobody, at most so many: it gives the places. Only Release brings them back.
func (a *Allocator) Quarantine(dst []Place) int {
	for i := range dst {
		if a.bits.wholeClusters == 0 {
			return i
		}
		dst[i] = a.takeCluster()
	}
	return len(dst)
}

// Reserve sets space aside. It answers false, and does nothing, where there is not enough (StatusNoSpace).
func (a *Allocator) Reserve(n Need, c Class) bool {
	clusters, ok1 := add(a.reserved.Clusters, n.Clusters)
	pages, ok2 := add(a.reserved.Pages, n.Pages)
	if !ok1 || !ok2 || !a.fits(clusters, pages, c) {
		return false
	}
	a.reserved = Need{clusters, pages}
	return true
}

func add(x, y uint64) (uint64, bool) { return x + y, x+y >= x }

// Unreserve gives up what was reserved and not taken.
func (a *Allocator) Unreserve(n Need) {
	invariant.Check(n.Clusters <= a.reserved.Clusters && n.Pages <= a.reserved.Pages, "volume: more space is given up than was reserved")
	a.reserved.Clusters -= n.Clusters
	a.reserved.Pages -= n.Pages
}

// Keep reserves pages that have just become free.
func (a *Allocator) Keep(n uint64) {
	ok := a.Reserve(Need{Pages: n}, Freeing)
	invariant.Check(ok, "volume: pages became free, and there is no room for them")
}

// fits says whether so much could be reserved in all.
func (a *Allocator) fits(clusters, pages uint64, c Class) bool {
	b := a.bits
	var left uint64
	switch c {
	case Ordinary:
		left = a.cushion
	case Overwriting:
		left = a.cushion / 2
	}
	pages, ok := add(pages, left)
	if !ok {
		return false
	}
	return clusters <= b.wholeClusters && (pages <= b.brokenPages || pages-b.brokenPages <= (b.wholeClusters-clusters)<<b.shift)
}

// TakeClusters fills dst with clusters that were reserved.
func (a *Allocator) TakeClusters(dst []Place) {
	n := uint64(len(dst))
	invariant.Check(n <= a.reserved.Clusters, "volume: more clusters are taken than were reserved")
	a.reserved.Clusters -= n
	for i := range dst {
		dst[i] = a.takeCluster()
	}
}

// TakePages fills dst with pages that were reserved: from broken clusters first.
func (a *Allocator) TakePages(dst []Place) {
	n := uint64(len(dst))
	invariant.Check(n <= a.reserved.Pages, "volume: more pages are taken than were reserved")
	a.reserved.Pages -= n
	for i := range dst {
		dst[i] = a.takePage()
	}
}

// GrantClusters fills dst with clusters that were not reserved before, as far as there are: it gives the number. What is not used comes back
// by GiveBack.
func (a *Allocator) GrantClusters(dst []Place, c Class) int {
	n := 0
	for ; n < len(dst) && a.fits(a.reserved.Clusters+1, a.reserved.Pages, c); n++ {
		dst[n] = a.takeCluster()
	}
	return n
}

// GrantPages is GrantClusters for single pages.
func (a *Allocator) GrantPages(dst []Place, c Class) int {
	n := 0
	for ; n < len(dst) && a.fits(a.reserved.Clusters, a.reserved.Pages+1, c); n++ {
		dst[n] = a.takePage()
	}
	return n
}

// takeCluster takes the next whole cluster, going round the device, so that what is written one after the other lies so.
func (a *Allocator) takeCluster() Place {
	b := a.bits
	c, ok := b.whole.next(a.clusterAt)
	if !ok {
		c, ok = b.whole.next(0)
	}
	invariant.Check(ok, "volume: a cluster was reserved and there is none")
	a.clusterAt = c + 1
	p := Place(c << b.shift)
	b.use(p, b.clusterPages())
	return p
}

// takePage takes the first free page of the first broken cluster, else of the first whole one: single pages gather at the beginning.
func (a *Allocator) takePage() Place {
	b := a.bits
	c, ok := b.broken.next(0)
	if !ok {
		c, ok = b.whole.next(0)
	}
	invariant.Check(ok, "volume: a page was reserved and there is none")
	p := c << b.shift
	for countBits(b.used, p, 1) == 1 {
		p += b.run(p)
	}
	b.use(Place(p), 1)
	return Place(p)
}

// TakeRuns takes so many clusters in as few runs as it finds, at most len(dst), for a log. It gives the number of runs; false, and nothing
// is taken, where there is not enough space, or only in more pieces. Each run costs a pass over the set of whole clusters, which is 2 MiB
// for each TiB, with clusters of 64 KiB: a log is taken only when a volume is made.
func (a *Allocator) TakeRuns(dst []Extent, clusters uint64) (int, bool) {
	b := a.bits
	total, ok := add(a.reserved.Clusters, clusters)
	if !ok || !a.fits(total, a.reserved.Pages, Ordinary) {
		return 0, false
	}
	n := 0
	for ; clusters > 0 && n < len(dst); n++ {
		c, m := b.whole.longest(clusters)
		invariant.Check(m > 0, "volume: clusters were counted and there are none")
		dst[n] = Extent{Place(c << b.shift), m << b.shift}
		b.use(dst[n].Place, dst[n].Pages)
		clusters -= m
	}
	if clusters == 0 {
		return n, true
	}
	for _, e := range dst[:n] {
		b.free(e.Place, e.Pages)
	}
	return 0, false
}

// GiveBack frees pages that were handed out and that neither a root nor a record of a log ever named.
func (a *Allocator) GiveBack(p Place, n uint64) { a.bits.free(p, n) }

// Refer makes pages that were handed out part of the next commit's root.
func (a *Allocator) Refer(p Place, n uint64) { a.bits.refer(p, n) }

// Unrefer takes pages out of the next commit's root. They rest.
func (a *Allocator) Unrefer(p Place, n uint64) {
	a.bits.unrefer(p, n)
	a.rest(p, n)
}

// Release lets pages rest that were handed out and are not in the root: a record named them that is not needed any more. In the midst of a
// commit they rest as if they had left the root with that.
func (a *Allocator) Release(p Place, n uint64) {
	b := a.bits
	invariant.Check(b.holds(p, n) && countBits(b.used, uint64(p), n) == n && countBits(b.committed, uint64(p), n) == 0,
		"volume: a page is released that was not handed out")
	a.rest(p, n)
}

// Forsake takes pages out of the next commit's root that nobody may have any more. They stay handed out.
func (a *Allocator) Forsake(p Place, n uint64) { a.bits.unrefer(p, n) }

func (a *Allocator) rest(p Place, n uint64) {
	a.resting += n
	if k := len(a.leaving); k > 0 && a.leaving[k-1].End() == p {
		a.leaving[k-1].Pages += n
		return
	}
	a.leaving = append(a.leaving, Extent{p, n})
}

// Begin begins a commit and gives its generation. Until Committed nothing may change the root (Refer, Unrefer, Grow); the
// rest goes on.
func (a *Allocator) Begin() Generation { return a.bits.begin() }

// Again takes Begin back: the root may change, and the commit begins once more.
func (a *Allocator) Again() { a.bits.writing = false }

// NextSide fills a page with the next bitmap side that the commit must write, and says where to; false when there are no more. The caller
// writes all of them, flushes, and then writes the slot.
func (a *Allocator) NextSide(page []byte) (Place, bool) { return a.bits.encode(page) }

// FillSlot sets what the slot of the commit says of the bitmap, after the last NextSide.
func (a *Allocator) FillSlot(s *Slot) {
	b := a.bits
	invariant.Check(b.writing && b.cursor == uint64(len(b.sides)), "volume: a slot is made before its bitmap")
	s.Generation, s.Pool, s.ClusterShift, s.Pages = b.durable+1, b.pool, b.shift, b.pages
	s.PagesUsed, s.BitmapSum = b.committedPages, b.sum
	s.Areas = append(s.Areas[:0], b.areas...)
}

// Committed ends a commit: its slot is durable. What left the root with the commit before is free.
func (a *Allocator) Committed() {
	a.bits.end()
	for _, e := range a.rested {
		a.bits.free(e.Place, e.Pages)
		a.resting -= e.Pages
	}
	a.rested, a.leaving = a.leaving, a.rested[:0]
}

// Durable is the generation of the last commit.
func (a *Allocator) Durable() Generation { return a.bits.durable }
