package volume

import (
	"fmt"
	"math/bits"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is the bitmap of a pool in memory, and its three sides on the device.
//
// Two bits for each page. `used`: it may not be handed out now. `committed`: the root of the next commit refers to it (between commits:
// that of the last one). Every committed page is used. Used and not committed are pages that were handed out, and pages that rest.
//
// On the device each bitmap page has three sides. A commit of generation G+1 writes the pages that changed
//
//  1. over a side of a generation above G, the lowest: it is left from a commit that did not come to its end;
//  2. else over the side of the lowest generation.
//
// What the slots of G and G-1 need is then always there: the highest not above G is not the lowest of three that differ, and neither is the
// highest not above G-1. A page that has a side above G counts as changed. If it did not, that side would be taken for current as soon
// as the pool's generation had reached it.

// bitmap is the state. All of it belongs to the pool's reactor.
type bitmap struct {
	pool  uuid.UUID
	shift uint32 // log2 of pages in a cluster
	pages uint64
	areas []Area

	used, committed []uint64

	whole  numbers // clusters of which every page is free
	broken numbers // clusters with free pages, but not all

	wholeClusters  uint64 // in whole
	brokenPages    uint64 // free pages in broken
	committedPages uint64

	sides   []bitmapSides // of each bitmap page
	sum     uint64        // of the CRCs of the current sides; in a commit, of those that it writes
	dirty   numbers       // bitmap pages that the next commit must write
	durable Generation    // the last one that was committed
	before  uint64        // while it is loaded: the sum of the CRCs of the older slot's sides
	writing bool          // a commit is under way: no change of committed
	cursor  uint64        // the bitmap page from which on it has not encoded yet
}

type bitmapSides struct {
	generation [sides]Generation
	crc        uint32 // of the current side
}

// newBitmap makes the bitmap of a pool whose areas were checked. Nothing is in use.
func newBitmap(pool uuid.UUID, shift uint32, pages uint64, areas []Area) *bitmap {
	b := &bitmap{pool: pool, shift: shift, pages: pages, areas: append([]Area(nil), areas...)}
	n := bitmapPages(pages)
	b.used, b.committed = make([]uint64, n*wordsPerPage), make([]uint64, n*wordsPerPage)
	b.sides, b.dirty = make([]bitmapSides, n), newNumbers(n)
	b.whole, b.broken = newNumbers(b.clusters()), newNumbers(b.clusters())
	setBits(b.used, pages, n*bitsPerPage-pages) // what is beyond the end is never free
	return b
}

func (b *bitmap) clusterPages() uint64 { return 1 << b.shift }

// clusters counts the one at the end that may not be whole.
func (b *bitmap) clusters() uint64 { return (b.pages + b.clusterPages() - 1) >> b.shift }

// freePages of the device.
func (b *bitmap) freePages() uint64 { return b.wholeClusters<<b.shift + b.brokenPages }

// settle counts the free pages of all clusters anew, after used was filled word by word.
func (b *bitmap) settle() {
	for c := range b.clusters() {
		free := b.freeIn(c)
		b.whole.remove(c)
		b.broken.remove(c)
		b.count(c, free)
	}
}

// freeIn counts the free pages of a cluster.
func (b *bitmap) freeIn(c uint64) uint64 {
	k := b.clusterPages()
	if k < 64 {
		w := ^b.used[c<<b.shift>>6] >> (c << b.shift & 63)
		return uint64(bits.OnesCount64(w & (1<<k - 1)))
	}
	free := 0
	for _, w := range b.used[c<<b.shift>>6:][:k>>6] {
		free += bits.OnesCount64(^w)
	}
	return uint64(free)
}

// count enters a cluster with so many free pages, which is in no set.
func (b *bitmap) count(c, free uint64) {
	switch free {
	case 0:
	case b.clusterPages():
		b.whole.add(c)
		b.wholeClusters++
	default:
		b.broken.add(c)
		b.brokenPages += free
	}
}

// discount takes out a cluster with so many free pages.
func (b *bitmap) discount(c, free uint64) {
	switch free {
	case 0:
	case b.clusterPages():
		b.whole.remove(c)
		b.wholeClusters--
	default:
		b.broken.remove(c)
		b.brokenPages -= free
	}
}

// use marks free pages as used.
func (b *bitmap) use(p Place, n uint64) {
	invariant.Check(b.holds(p, n), "volume: pages outside the pool are taken")
	for from := uint64(p); n > 0; {
		c := from >> b.shift
		m := min(n, (c+1)<<b.shift-from)
		free := b.freeIn(c)
		invariant.Check(setBits(b.used, from, m) == m, "volume: a page in use is taken")
		b.discount(c, free)
		b.count(c, free-m)
		from, n = from+m, n-m
	}
}

// free marks used pages, to which the root does not refer, as free.
func (b *bitmap) free(p Place, n uint64) {
	invariant.Check(b.holds(p, n), "volume: pages outside the pool are freed")
	invariant.Check(countBits(b.committed, uint64(p), n) == 0, "volume: a page to which the root refers is freed")
	for from := uint64(p); n > 0; {
		c := from >> b.shift
		m := min(n, (c+1)<<b.shift-from)
		free := b.freeIn(c)
		invariant.Check(clearBits(b.used, from, m) == m, "volume: a free page is freed")
		b.discount(c, free)
		b.count(c, free+m)
		from, n = from+m, n-m
	}
}

// holds says that the pages are the pool's.
func (b *bitmap) holds(p Place, n uint64) bool {
	return n > 0 && n <= b.pages && uint64(p) <= b.pages-n
}

// refer makes used pages part of the next root.
func (b *bitmap) refer(p Place, n uint64) {
	invariant.Check(!b.writing, "volume: the root changes while it is written")
	invariant.Check(b.holds(p, n) && countBits(b.used, uint64(p), n) == n, "volume: a root refers to a page that was not handed out")
	invariant.Check(setBits(b.committed, uint64(p), n) == n, "volume: a root refers to a page twice")
	b.committedPages += n
	b.touch(p, n)
}

// unrefer takes pages out of the next root. They stay used.
func (b *bitmap) unrefer(p Place, n uint64) {
	invariant.Check(!b.writing, "volume: the root changes while it is written")
	invariant.Check(b.holds(p, n) && clearBits(b.committed, uint64(p), n) == n, "volume: a page leaves the root that was not in it")
	b.committedPages -= n
	b.touch(p, n)
}

func (b *bitmap) touch(p Place, n uint64) {
	for i := uint64(p) / bitsPerPage; i <= (uint64(p)+n-1)/bitsPerPage; i++ {
		b.dirty.add(i)
	}
}

// sidePlace is where a side of a bitmap page lies.
func (b *bitmap) sidePlace(index uint64, side int) Place {
	for i := range b.areas {
		a := &b.areas[i]
		if first := uint64(a.Covers) / bitsPerPage; index < first+bitmapPages(a.Covered) {
			return a.First + Place((index-first)*sides) + Place(side)
		}
	}
	invariant.Check(false, "volume: a bitmap page in no area")
	return 0
}

// target is the side that the next commit writes.
func (b *bitmap) target(index uint64) int {
	lowest, left := 0, -1
	g := &b.sides[index].generation
	for s := range g {
		if g[s] > b.durable && (left < 0 || g[s] < g[left]) {
			left = s
		}
		if g[s] < g[lowest] {
			lowest = s
		}
	}
	if left >= 0 {
		return left
	}
	return lowest
}

// begin begins a commit and gives its generation.
func (b *bitmap) begin() Generation {
	invariant.Check(!b.writing, "volume: two commits at once")
	b.writing, b.cursor = true, 0
	return b.durable + 1
}

// encode fills a page with the next side that the commit must write, and says where it goes; false when all were.
func (b *bitmap) encode(page []byte) (Place, bool) {
	invariant.Check(b.writing, "volume: a bitmap is encoded outside a commit")
	i, ok := b.dirty.next(b.cursor)
	if !ok {
		b.cursor = uint64(len(b.sides))
		return 0, false
	}
	b.cursor = i + 1
	crc := encodeBitmap(page, b.committed[i*wordsPerPage:][:wordsPerPage], b.pool, i, b.durable+1)
	b.sum += uint64(crc) - uint64(b.sides[i].crc)
	b.sides[i].crc = crc
	return b.sidePlace(i, b.target(i)), true
}

// end ends the commit: its slot is durable.
func (b *bitmap) end() {
	invariant.Check(b.writing && b.cursor == uint64(len(b.sides)), "volume: a commit ends before its bitmap was written")
	for i, ok := b.dirty.next(0); ok; i, ok = b.dirty.next(i + 1) {
		g := &b.sides[i].generation
		g[b.target(i)] = b.durable + 1
		if max(g[0], g[1], g[2]) == b.durable+1 {
			b.dirty.remove(i)
		}
	}
	b.durable++
	b.writing = false
}

// load takes a bitmap page from its three sides, as the slot of generation g sees it. older is the generation of the other slot if that
// can still be opened, else 0. rest is told of each run of pages to which only the other slot refers; they are used.
func (b *bitmap) load(index uint64, side [sides][]byte, g, older Generation, rest func(Extent)) error {
	s := &b.sides[index]
	current, before := -1, -1
	var why error
	var crcs [sides]uint32
	for i := range side {
		var err error
		if s.generation[i], crcs[i], err = checkBitmap(side[i], b.pool, index); err != nil {
			why = err
			continue
		}
		if x := s.generation[i]; x <= g && (current < 0 || x > s.generation[current]) {
			current = i
		}
		if x := s.generation[i]; x <= older && (before < 0 || x > s.generation[before]) {
			before = i
		}
		if s.generation[i] > g {
			b.dirty.add(index)
		}
	}
	if current < 0 {
		return fmt.Errorf("%w: bitmap page %d has no side for generation %d (%v)", ErrPoolCorrupt, index, g, why)
	}
	s.crc = crcs[current]
	b.sum += uint64(s.crc)
	if before >= 0 {
		b.before += uint64(crcs[before])
	}
	run := Extent{}
	for i := range wordsPerPage {
		w, left := bitmapWord(side[current], i), uint64(0)
		if before >= 0 && before != current {
			left = bitmapWord(side[before], i) &^ w
		}
		at := index*wordsPerPage + uint64(i)
		if first := at * 64; first+64 > b.pages && (first >= b.pages && w|left != 0 || first < b.pages && (w|left)>>(b.pages-first) != 0) {
			return fmt.Errorf("%w: bitmap page %d says that pages are used beyond the end of the pool, at %d", ErrPoolCorrupt, index, b.pages)
		}
		b.committed[at] = w
		b.used[at] |= w | left
		b.committedPages += uint64(bits.OnesCount64(w))
		for ; left != 0; left &= left - 1 {
			p := Place(at*64 + uint64(bits.TrailingZeros64(left)))
			if run.Pages > 0 && p != run.End() {
				rest(run)
				run = Extent{}
			}
			if run.Pages == 0 {
				run.Place = p
			}
			run.Pages++
		}
	}
	if run.Pages > 0 {
		rest(run)
	}
	return nil
}

// loaded ends loading: it compares with what the slot says.
func (b *bitmap) loaded(s *Slot) error {
	switch {
	case b.sum != s.BitmapSum:
		return fmt.Errorf("%w: the CRCs of the bitmap of generation %d come to %x, and the slot says %x: a bitmap page was lost or is older",
			ErrPoolCorrupt, s.Generation, b.sum, s.BitmapSum)
	case b.committedPages != s.PagesUsed:
		return fmt.Errorf("%w: the bitmap of generation %d has %d pages in use, and the slot says %d",
			ErrPoolCorrupt, s.Generation, b.committedPages, s.PagesUsed)
	case countBits(b.committed, 0, headPages(b.shift)) != headPages(b.shift):
		return fmt.Errorf("%w: the bitmap of generation %d has the slots as free", ErrPoolCorrupt, s.Generation)
	}
	for i, a := range b.areas {
		if n := a.Pages(); countBits(b.committed, uint64(a.First), n) != n {
			return fmt.Errorf("%w: the bitmap of generation %d has its own area %d as free", ErrPoolCorrupt, s.Generation, i)
		}
	}
	b.durable = s.Generation
	b.settle()
	return nil
}

// memoryBytes that the bitmap takes.
func (b *bitmap) memoryBytes() uint64 {
	return 8*uint64(len(b.used)+len(b.committed)) + 32*uint64(len(b.sides)) + b.whole.bytes() + b.broken.bytes() + b.dirty.bytes()
}
