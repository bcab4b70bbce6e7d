package volume

import (
	"slices"

	"github.com/pollux-storage/pollux/internal/invariant"
)

// rootDirectory is the pool's directory in memory: where the page of each volume is.
type rootDirectory struct {
	p       *Pool
	ref     Ref // of the top page
	top     [RefsMax]Ref
	pages   [RefsMax]*[RefsMax]Ref // nil where there is no directory page
	dirty   [RefsMax]bool
	changed bool
	volumes int
}

// set changes the ref of a position; the zero Ref removes the volume.
func (d *rootDirectory) set(position uint64, r Ref) {
	i, k := DirectoryAt(position)
	if d.pages[i] == nil {
		d.pages[i] = new([RefsMax]Ref)
	}
	if was := d.pages[i][k]; was.IsZero() != r.IsZero() {
		if r.IsZero() {
			d.volumes--
		} else {
			d.volumes++
		}
	}
	d.pages[i][k] = r
	d.dirty[i], d.changed = true, true
}

// free is a position that no volume has.
func (d *rootDirectory) free() (uint64, bool) {
	for i, page := range d.pages {
		if page == nil {
			return uint64(i * RefsMax), true
		}
		for k, r := range page {
			if r.IsZero() && !d.p.taken[uint64(i*RefsMax+k)] {
				return uint64(i*RefsMax + k), true
			}
		}
	}
	return 0, false
}

// write writes the pages that changed, to new places, and gives the ref of the top.
func (d *rootDirectory) write(c *committer, g Generation) Ref {
	if !d.changed {
		return d.ref
	}
	for i := range d.pages {
		if !d.dirty[i] {
			continue
		}
		part := c.part()
		clear(part.data)
		for k, r := range d.pages[i] {
			SetRef(part.data, k, r)
		}
		crc := SealDirectory(part.data, d.p.id, uint64(i), g)
		d.top[i] = d.replace(c, part, d.top[i], crc)
		d.dirty[i] = false
	}
	part := c.part()
	clear(part.data)
	for i, r := range d.top {
		SetRef(part.data, i, r)
	}
	d.ref = d.replace(c, part, d.ref, SealDirectoryTop(part.data, d.p.id, g))
	d.changed = false
	return d.ref
}

// again lets the pages be written again that could not be written to some places, and the top, which names the others.
func (d *rootDirectory) again(bad []Place) {
	for i, r := range d.top {
		d.dirty[i] = d.dirty[i] || !r.IsZero() && slices.Contains(bad, r.Place)
	}
	d.changed = true
}

// replace writes a page to a new place and gives up the old one; nobody gets that if it cannot be written. The allocator's cushion always has some
// pages for it.
func (d *rootDirectory) replace(c *committer, part *commitPart, old Ref, crc uint32) Ref {
	var place [1]Place
	n := d.p.alloc.GrantPages(place[:], Freeing)
	invariant.Check(n == 1, "volume: the allocator's cushion has no page for the directory")
	d.p.alloc.Refer(place[0], 1)
	switch {
	case old.IsZero():
	case slices.Contains(c.bad, old.Place):
		d.p.alloc.Forsake(old.Place, 1)
	default:
		d.p.alloc.Unrefer(old.Place, 1)
	}
	part.at = place[0]
	c.write(part, place[0])
	return Ref{place[0], crc}
}
