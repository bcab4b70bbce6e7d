package volume

import (
	"testing"

	"pgregory.net/rapid"
)

// Twin: the set against a map.
func TestNumbersAreASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bound := rapid.SampledFrom([]uint64{1, 63, 64, 65, 4096, 4097, 300000}).Draw(t, "bound")
		s, twin := newNumbers(bound), map[uint64]bool{}
		draw := rapid.OneOf(rapid.Uint64Max(bound-1), rapid.Uint64Max(min(bound-1, 200)))
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			i := draw.Draw(t, "i")
			switch rapid.IntRange(0, 4).Draw(t, "act") {
			case 0, 1:
				s.add(i)
				twin[i] = true
			case 2:
				s.remove(i)
				delete(twin, i)
			case 3:
				n := rapid.Uint64Max(200).Draw(t, "n")
				for j := i; j < min(i+n, bound); j++ {
					s.add(j)
					twin[j] = true
				}
			case 4:
				want, found := uint64(0), false
				for j := range twin {
					if j >= i && (!found || j < want) {
						want, found = j, true
					}
				}
				if got, ok := s.next(i); ok != found || got != want {
					t.Fatalf("next of %d: %d %t, want %d %t", i, got, ok, want, found)
				}
				limit, most, row := rapid.Uint64Range(1, 300).Draw(t, "limit"), uint64(0), uint64(0)
				for j := range bound {
					if row++; !twin[j] {
						row = 0
					}
					most = max(most, row)
				}
				at, n := s.longest(limit)
				for j := at; j < at+n; j++ {
					if !twin[j] {
						t.Fatalf("%d in a row from %d, and %d is no member", n, at, j)
					}
				}
				if n != min(most, limit) {
					t.Fatalf("%d in a row, at most %d; want %d", n, limit, most)
				}
				if s.has(i) != twin[i] {
					t.Fatalf("has %d: %t", i, s.has(i))
				}
			}
		}
		if _, ok := s.next(bound); ok {
			t.Fatal("something is beyond the bound")
		}
	})
}

func TestRangesOfBits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words, twin := make([]uint64, 8), make([]bool, 512)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			from := rapid.Uint64Max(511).Draw(t, "from")
			n := rapid.Uint64Max(512-from).Draw(t, "n")
			to := rapid.Bool().Draw(t, "set")
			changed, ones := uint64(0), uint64(0)
			for i := from; i < from+n; i++ {
				if twin[i] {
					ones++
				}
				if twin[i] != to {
					changed++
				}
				twin[i] = to
			}
			if got := countBits(words, from, n); got != ones {
				t.Fatalf("%d from %d: %d ones, want %d", n, from, got, ones)
			}
			change := clearBits
			if to {
				change = setBits
			}
			if got := change(words, from, n); got != changed {
				t.Fatalf("%d from %d to %t: %d changed, want %d", n, from, to, got, changed)
			}
			for i, w := range twin {
				if words[i>>6]>>(i&63)&1 == 1 != w {
					t.Fatalf("bit %d", i)
				}
			}
		}
	})
}
