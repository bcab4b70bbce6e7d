package volume

import "math/bits"

// This file is the search for pages that lie one after the other.

// run says how many pages from p on are used, up to the end of p's word: what a search for a free page steps over.
func (b *bitmap) run(p uint64) uint64 {
	ones := uint64(bits.TrailingZeros64(^(b.used[p>>6] >> (p & 63))))
	return min(ones, 64-p&63)
}

// unused says how many pages from p on are not used, n at most.
func (b *bitmap) unused(p, n uint64) (free uint64) {
	for free < n {
		w := b.used[(p+free)>>6] >> ((p + free) & 63)
		rest := 64 - (p+free)&63
		zeros := min(uint64(bits.TrailingZeros64(w)), rest)
		free += zeros
		if zeros < rest {
			break
		}
	}
	return min(free, n)
}

// findRun finds n whole clusters in a row: the first that there are. It looks at each run of whole clusters once, a word of 64 at a
// time: 2 MiB for each TiB at worst, with clusters of 64 KiB, and a log is taken only when a volume is made.
func (b *bitmap) findRun(n uint64) (uint64, bool) {
	c, ok := b.whole.next(0)
	for ok {
		m := b.whole.run(c, n)
		if m == n {
			return c, true
		}
		c, ok = b.whole.next(c + m)
	}
	return 0, false
}
