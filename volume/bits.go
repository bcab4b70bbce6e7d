package volume

import "math/bits"

// This file is bits in words, and a set of numbers that finds its next member in a few steps however large it is.

// wordMask has the bits of one word that lie in the n bits from `from` on, and says how many these are.
func wordMask(from, n uint64) (mask, m uint64) {
	b := from & 63
	m = min(64-b, n)
	return ^uint64(0) >> (64 - m) << b, m
}

// setBits sets n bits and says how many of them changed.
func setBits(words []uint64, from, n uint64) (changed uint64) {
	for n > 0 {
		mask, m := wordMask(from, n)
		w := &words[from>>6]
		changed += uint64(bits.OnesCount64(mask &^ *w))
		*w |= mask
		from, n = from+m, n-m
	}
	return changed
}

// clearBits clears n bits and says how many of them changed.
func clearBits(words []uint64, from, n uint64) (changed uint64) {
	for n > 0 {
		mask, m := wordMask(from, n)
		w := &words[from>>6]
		changed += uint64(bits.OnesCount64(mask & *w))
		*w &^= mask
		from, n = from+m, n-m
	}
	return changed
}

// countBits says how many of n bits are set.
func countBits(words []uint64, from, n uint64) (ones uint64) {
	for n > 0 {
		mask, m := wordMask(from, n)
		ones += uint64(bits.OnesCount64(mask & words[from>>6]))
		from, n = from+m, n-m
	}
	return ones
}

// numbers is a set of numbers below a bound: a bit for each, and above that levels in which a bit says that the word below it is not zero.
// Whatever the size, finding the next member looks at two words of each level at most, and there are five levels for a thousand million.
type numbers struct {
	levels [][]uint64 // 0 has the members
}

func newNumbers(bound uint64) numbers {
	var s numbers
	for {
		bound = (bound + 63) / 64
		s.levels = append(s.levels, make([]uint64, max(bound, 1)))
		if bound <= 1 {
			return s
		}
	}
}

func (s *numbers) has(i uint64) bool { return s.levels[0][i>>6]>>(i&63)&1 == 1 }

func (s *numbers) add(i uint64) {
	for _, level := range s.levels {
		w := &level[i>>6]
		was := *w
		*w |= 1 << (i & 63)
		if was != 0 {
			return
		}
		i >>= 6
	}
}

func (s *numbers) remove(i uint64) {
	for _, level := range s.levels {
		w := &level[i>>6]
		*w &^= 1 << (i & 63)
		if *w != 0 {
			return
		}
		i >>= 6
	}
}

// next gives the lowest member that is not below from.
func (s *numbers) next(from uint64) (uint64, bool) {
	for l := 0; l < len(s.levels); l++ {
		if from>>6 >= uint64(len(s.levels[l])) {
			return 0, false
		}
		w := s.levels[l][from>>6] >> (from & 63)
		if w == 0 {
			from = from>>6 + 1 // on this level the rest of the word is empty: above, begin behind it
			continue
		}
		from += uint64(bits.TrailingZeros64(w))
		for ; l > 0; l-- {
			from = from<<6 + uint64(bits.TrailingZeros64(s.levels[l-1][from]))
		}
		return from, true
	}
	return 0, false
}

// longest gives limit members that follow one another, or the longest row of members if there are none so many: where it begins, and how
// long it is. It goes once through the words that have members.
func (s *numbers) longest(limit uint64) (at, n uint64) {
	members, open := s.levels[0], uint64(0) // open: the row that reaches the end of the word before
	for i := 0; i < len(members); i++ {
		w := members[i]
		if w == 0 {
			next, ok := s.next(uint64(i) << 6)
			if !ok {
				break
			}
			i, open = int(next>>6), 0
			w = members[i]
		}
		low := uint64(bits.TrailingZeros64(^w))
		if open+low > n {
			at, n = uint64(i)<<6-open, open+low
		}
		if low == 64 {
			open += 64
		} else {
			for n < 64 && n < limit {
				from := rowIn(w, n+1)
				if from == 64 {
					break
				}
				at, n = uint64(i)<<6+from, n+1
			}
			open = uint64(bits.LeadingZeros64(^w))
		}
		if n >= limit {
			return at, limit
		}
	}
	return at, n
}

// rowIn says where in a word n ones follow one another, 1 to 64 of them; 64 if nowhere.
func rowIn(w, n uint64) uint64 {
	for n > 1 { // a one stands for as many ones above it as were joined
		w &= w >> (n / 2)
		n -= n / 2
	}
	return uint64(bits.TrailingZeros64(w))
}

// bytes of memory that the set takes.
func (s *numbers) bytes() (n uint64) {
	for _, level := range s.levels {
		n += 8 * uint64(len(level))
	}
	return n
}
