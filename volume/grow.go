package volume

import "github.com/pollux-storage/pollux/internal/invariant"

// This file is a pool that becomes larger while it is in use.
//
// What is new rests at first, like pages that left the root: a place in it must not be named by any record while a slot is left whose pool
// ends earlier, since the pool may be opened by that. So it is free when two commits are durable.

// Grow makes the pool larger, as GrownAreas says. The memory of the bitmap is copied, at some 10 ms for each TiB, in which the reactor does
// nothing else.
func (a *Allocator) Grow(pages uint64, areas []Area) {
	b, old := a.bits, a.bits.pages
	invariant.Check(!b.writing && pages > old && len(areas) >= len(b.areas), "volume: a pool grows in the midst of a commit, or does not grow")

	n := newBitmap(b.pool, b.shift, pages, areas)
	n.sum, n.durable, n.committedPages = b.sum, b.durable, b.committedPages
	copy(n.sides, b.sides)
	copy(n.committed, b.committed)
	whole := old >> 6
	copy(n.used, b.used[:whole])
	if rest := old & 63; rest != 0 {
		n.used[whole] |= b.used[whole] & (1<<rest - 1) // above that the old pool's bits say: beyond the end
	}
	for i := range n.sides {
		if i >= len(b.sides) || b.dirty.has(uint64(i)) {
			n.dirty.add(uint64(i))
		}
	}
	added := areas[len(b.areas):]
	a.bits = n
	a.cushion = Cushion(pages)

	p := Place(old)
	for _, x := range added {
		a.restNew(p, x.First)
		setBits(n.used, uint64(x.First), x.Pages())
		n.refer(x.First, x.Pages())
		p = x.First + Place(x.Pages())
	}
	a.restNew(p, Place(pages))
	n.settle()
}

// restNew lets the pages from p to end rest.
func (a *Allocator) restNew(p, end Place) {
	if n := uint64(end - p); n > 0 {
		setBits(a.bits.used, uint64(p), n)
		a.rest(p, n)
	}
}
