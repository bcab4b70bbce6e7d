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
