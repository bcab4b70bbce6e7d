package volume

import "math/bits"

// This file is the comparison of a walk through all that the roots refer to with the bitmap (V-28): no place free and mapped, none mapped
// twice, none lost. It takes a bit for each page, 32 MiB for each TiB, as long as it lives.

// Census is what a walk has seen.
type Census struct {
	pages uint64
	seen  []uint64
}

// Census begins a walk. Slots and bitmap areas are marked; all else the caller marks, each page once: what snapshots and clones share too.
func (a *Allocator) Census() *Census {
	b := a.bits
	c := &Census{pages: b.pages, seen: make([]uint64, len(b.committed))}
	c.Mark(0, headPages(b.shift))
	for _, x := range b.areas {
		c.Mark(x.First, x.Pages())
	}
	return c
}

// Mark says that pages were met. False if one was met before or is outside the pool; those that are in it are marked all the same.
func (c *Census) Mark(p Place, n uint64) bool {
	if uint64(p) >= c.pages {
		return n == 0
	}
	m := min(n, c.pages-uint64(p))
	return setBits(c.seen, uint64(p), m) == m && m == n
}

// Marked says whether a page was met.
func (c *Census) Marked(p Place) bool {
	return uint64(p) < c.pages && countBits(c.seen, uint64(p), 1) == 1
}

// Discrepancy is a run of pages in which the walk and the bitmap differ.
type Discrepancy struct {
	Extent
	Lost bool // in use, and nothing refers to it; else it is referred to and free
}

// Compare appends the discrepancies to the list, in the order of places and at most limit of them, and gives the number of pages of each
// sort. Between two commits, and with all of the root walked through, there are none.
func (c *Census) Compare(a *Allocator, list []Discrepancy, limit int) (_ []Discrepancy, lost, free uint64) {
	b, open := a.bits, Discrepancy{}
	end := func() {
		if open.Pages > 0 && len(list) < limit {
			list = append(list, open)
		}
		open = Discrepancy{}
	}
	for i, seen := range c.seen {
		root := b.committed[i]
		for diff := seen ^ root; diff != 0; diff &= diff - 1 {
			bit := bits.TrailingZeros64(diff)
			d := Discrepancy{Extent{Place(i*64 + bit), 1}, root>>bit&1 == 1}
			if d.Lost {
				lost++
			} else {
				free++
			}
			if open.Pages > 0 && (open.End() != d.Place || open.Lost != d.Lost) {
				end()
			}
			if open.Pages == 0 {
				open = d
			} else {
				open.Pages++
			}
		}
	}
	end()
	return list, lost, free
}
