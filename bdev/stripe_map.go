package bdev

import "math/bits"

// This file is where a block of a stripe or a concatenation lies, and nothing else.
//
//	stripe, three members, strips of two blocks       concatenation
//	member 0   0  1 │ 6  7 │ …                         member 0   0  1  2  3
//	member 1   2  3 │ 8  9 │ …                         member 1   4  5
//	member 2   4  5 │10 11 │ …                         member 2   6  7  8  9 10 11
//
// A range of blocks is one range on each member, whatever the layout: that is how what carries no data is divided.

// stripeMap is a layout. Its numbers are blocks.
type stripeMap struct {
	members uint64
	shift   uint     // of the strip
	ends    []uint64 // of each member, for a concatenation; nil for a stripe
}

// stripeShift is the logarithm of a strip's blocks.
func stripeShift(blocks uint64) uint { return uint(bits.TrailingZeros64(blocks)) }

// at gives the member that has a block, the place there, and how many blocks follow there, this one included.
func (m *stripeMap) at(lba uint64) (member int, to, run uint64) {
	if m.ends != nil {
		begin := uint64(0)
		for i, end := range m.ends {
			if lba < end {
				return i, lba - begin, end - lba
			}
			begin = end
		}
		return len(m.ends) - 1, lba - begin, 0 // past the end, which the channel has refused
	}
	strip, in := lba>>m.shift, lba&(1<<m.shift-1)
	return int(strip % m.members), strip/m.members<<m.shift + in, 1<<m.shift - in
}

// before is the number of blocks on a member that come before lba.
func (m *stripeMap) before(member int, lba uint64) uint64 {
	if m.ends != nil {
		begin := uint64(0)
		if member > 0 {
			begin = m.ends[member-1]
		}
		return min(max(lba, begin), m.ends[member]) - begin
	}
	strip, in := lba>>m.shift, lba&(1<<m.shift-1)
	row, column := strip/m.members, int(strip%m.members)
	switch {
	case member < column:
		return (row + 1) << m.shift
	case member == column:
		return row<<m.shift + in
	}
	return row << m.shift
}
