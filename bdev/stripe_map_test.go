package bdev

import (
	"fmt"
	"testing"
)

// TestEveryBlockHasOnePlace walks layouts block by block, and compares the map with the obvious.
func TestEveryBlockHasOnePlace(t *testing.T) {
	for _, c := range []struct {
		strip uint64
		sizes []uint64 // of members, for a concatenation all of it
		level StripeLevel
	}{
		{1, []uint64{5, 5, 5}, StripeRAID0}, {4, []uint64{16, 16}, StripeRAID0}, {8, []uint64{24, 24, 24, 24, 24}, StripeRAID0}, {2, []uint64{10}, StripeRAID0},
		{1, []uint64{3, 1, 7}, StripeConcat}, {4, []uint64{8, 4, 16, 4}, StripeConcat}, {4, []uint64{8}, StripeConcat},
	} {
		t.Run(fmt.Sprintf("%v of %v by %d", c.level, c.sizes, c.strip), func(t *testing.T) {
			m := stripeMap{members: uint64(len(c.sizes)), shift: stripeShift(c.strip)}
			var places [][2]uint64 // member and block there, by LBA
			total := uint64(0)
			for i, n := range c.sizes {
				total += n
				if c.level == StripeConcat {
					m.ends = append(m.ends, total)
					for b := range n {
						places = append(places, [2]uint64{uint64(i), b})
					}
				}
			}
			for at := uint64(0); uint64(len(places)) < total; at += c.strip {
				for i := range c.sizes {
					for b := range c.strip {
						places = append(places, [2]uint64{uint64(i), at + b})
					}
				}
			}
			for lba := range total {
				member, to, run := m.at(lba)
				if got := [2]uint64{uint64(member), to}; got != places[lba] || run == 0 {
					t.Fatalf("block %d is at %v, want %v; %d follow", lba, got, places[lba], run)
				}
				for k := range run {
					if lba+k >= total || places[lba+k] != [2]uint64{uint64(member), to + k} {
						t.Fatalf("block %d: %d blocks do not follow there", lba, run)
					}
				}
				for i := range c.sizes {
					want := uint64(0)
					for _, p := range places[:lba] {
						if p[0] == uint64(i) {
							want++
						}
					}
					if got := m.before(i, lba); got != want {
						t.Fatalf("member %d has %d blocks before %d, want %d", i, got, lba, want)
					}
				}
			}
			for i, n := range c.sizes {
				if got := m.before(i, total); got != n {
					t.Errorf("member %d has %d blocks before the end, want %d", i, got, n)
				}
			}
		})
	}
}
