package volume

import (
	"errors"
	"fmt"
)

// This file is the bitmap areas of a pool: where on the device its bitmap pages lie.
//
//	area:  page n side 0 | page n side 1 | page n side 2 | page n+1 side 0 | …
//
// The areas follow one another in what they cover, without gap and from page 0 on; all but the last cover whole bitmap pages. So bitmap
// page n covers the device from page n × 32,256 on, whichever area it is in.

// bitsPerPage is how many pages of the device one bitmap page covers: a whole number of clusters of any size.
const bitsPerPage = contentBytes * 8

const _ = -uint(bitsPerPage % (1 << ClusterShiftMax)) // does not compile if a cluster could lie in two bitmap pages

const (
	sides     = 3
	areaBytes = 24
	pagesMax  = 1 << 48 // 2^60 bytes; sums of pages never wrap
)

// Area is one run of bitmap pages.
type Area struct {
	First   Place  // its first page; a cluster begins there
	Covers  Place  // first page that it covers, a multiple of 32,256
	Covered uint64 // pages
}

// bitmapPages that cover so many pages.
func bitmapPages(pages uint64) uint64 { return (pages + bitsPerPage - 1) / bitsPerPage }

// Pages that the area takes.
func (a Area) Pages() uint64 { return bitmapPages(a.Covered) * sides }

func (a Area) encode(b []byte) {
	le.PutUint64(b, uint64(a.First))
	le.PutUint64(b[8:], uint64(a.Covers))
	le.PutUint64(b[16:], a.Covered)
}

func decodeArea(b []byte) Area {
	return Area{Place(le.Uint64(b)), Place(le.Uint64(b[8:])), le.Uint64(b[16:])}
}

// headPages is what is kept free of all else at the beginning of the device, for the slots: whole clusters.
func headPages(shift uint32) uint64 { return max(2*uint64(SlotPlace[1]), 1<<shift) }

// checkAreas says what is wrong with the areas of a pool of so many pages.
func checkAreas(areas []Area, pages uint64, shift uint32) error {
	next := uint64(0)
	for i, a := range areas {
		switch {
		case uint64(a.Covers) != next || a.Covered == 0 || a.Covered > pages-next:
			return fmt.Errorf("has a bitmap area %d for %d pages from %d on, where %d to %d come next", i, a.Covered, a.Covers, next, pages)
		case i < len(areas)-1 && a.Covered%bitsPerPage != 0:
			return fmt.Errorf("has a bitmap area %d for %d pages, which is no whole number of bitmap pages", i, a.Covered)
		case uint64(a.First)&(1<<shift-1) != 0:
			return fmt.Errorf("has a bitmap area %d at place %d, where no cluster begins", i, a.First)
		case uint64(a.First) < headPages(shift) || uint64(a.First) >= pages || a.Pages() > pages-uint64(a.First):
			return fmt.Errorf("has a bitmap area %d of %d pages at place %d, outside the pool's %d", i, a.Pages(), a.First, pages)
		}
		for j, b := range areas[:i] {
			if a.First < b.First+Place(b.Pages()) && b.First < a.First+Place(a.Pages()) {
				return fmt.Errorf("has bitmap areas %d and %d at the same place %d", j, i, max(a.First, b.First))
			}
		}
		next += a.Covered
	}
	if next != pages {
		return fmt.Errorf("has bitmap areas for %d of its %d pages", next, pages)
	}
	return nil
}

// ErrLimit refuses what would be one more than the format holds.
var ErrLimit = errors.New("there is no more room for it in the format")

// FirstArea is the bitmap area of a new pool, behind the slots.
func FirstArea(pages uint64, shift uint32) ([]Area, error) {
	areas := []Area{{First: Place(headPages(shift)), Covered: pages}}
	if pages == 0 || pages > pagesMax {
		return nil, fmt.Errorf("a pool of %d pages: 1 to %d are possible", pages, uint64(pagesMax))
	}
	if err := checkAreas(areas, pages, shift); err != nil {
		return nil, fmt.Errorf("a pool of %d pages is too small: it %w", pages, err)
	}
	return areas, nil
}

// GrownAreas are the areas of a pool that grows to so many pages: the last one covers what its bitmap pages have room for, and for the rest
// another one stands at the beginning of what is new.
func GrownAreas(areas []Area, pages uint64, shift uint32) ([]Area, error) {
	grown := append([]Area(nil), areas...)
	last := &grown[len(grown)-1]
	old := uint64(last.Covers) + last.Covered
	if pages <= old || pages > pagesMax {
		return nil, fmt.Errorf("a pool of %d pages cannot have %d", old, pages)
	}
	last.Covered = min(pages-uint64(last.Covers), bitmapPages(last.Covered)*bitsPerPage)
	if end := uint64(last.Covers) + last.Covered; end < pages {
		if len(grown) == AreasMax {
			return nil, fmt.Errorf("a pool of %d pages cannot have %d: %w: it has %d bitmap areas", old, pages, ErrLimit, AreasMax)
		}
		first := (old + 1<<shift - 1) >> shift << shift
		grown = append(grown, Area{First: Place(first), Covers: Place(end), Covered: pages - end})
	}
	if err := checkAreas(grown, pages, shift); err != nil {
		return nil, fmt.Errorf("a pool of %d pages would gain nothing from %d: it %w", old, pages, err)
	}
	return grown, nil
}
