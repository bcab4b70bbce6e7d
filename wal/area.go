package wal

import (
	"fmt"

	"github.com/pollux-storage/pollux/internal/invariant"
)

// Extent is a run of pages on the device.
type Extent struct {
	Place uint64 // first page
	Pages uint64
}

// area is the ring of pages in which a log lies: its extents, one after the other.
type area struct {
	extents []Extent
	bytes   uint64
}

func newArea(extents []Extent) (area, error) {
	a := area{extents: extents}
	for _, e := range extents {
		if e.Pages < 2 {
			return a, fmt.Errorf("%w: an extent of %d pages: a header and a payload need two", ErrLogTooSmall, e.Pages)
		}
		a.bytes += e.Pages * PageBytes
	}
	if len(extents) == 0 {
		return a, fmt.Errorf("%w: it has no extents", ErrLogTooSmall)
	}
	return a, nil
}

// find gives the position of an offset on the device, in bytes, and how many bytes there are from there to the extent's end. It is the
// one place where an offset becomes an address.
func (a *area) find(o Offset) (position, left uint64) {
	in := uint64(o) % a.bytes
	for _, e := range a.extents {
		if n := e.Pages * PageBytes; in >= n {
			in -= n
			continue
		}
		return e.Place*PageBytes + in, e.Pages*PageBytes - in
	}
	invariant.Check(false, "wal: an offset outside its area")
	return 0, 0
}

// lost is the most that pads can take of one lap: at the end of each extent what was too small for the largest record and its header.
func (a *area) lost() uint64 {
	var pages uint64
	for _, e := range a.extents {
		pages += min(e.Pages, RecordPagesMax)
	}
	return pages * PageBytes
}
