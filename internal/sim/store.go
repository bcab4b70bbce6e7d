package sim

// This file is the sectors of a disk in one state, as a tree of two levels whose nodes are shared between copies until they are
// written. What was never written, or only with zeros in whole pages, takes no memory.

const (
	// SectorBytes is what is written whole or not at all.
	SectorBytes = 512

	sectorsPerPage = 8
	pagesPerTable  = 256
	tableSectors   = sectorsPerPage * pagesPerTable
)

// owner marks the nodes that a store may write to: those that no copy shares. Only its address counts.
type owner struct{ _ byte }

type storePage struct {
	owner *owner
	b     [sectorsPerPage * SectorBytes]byte
}

type storeTable struct {
	owner *owner
	pages [pagesPerTable]*storePage
}

type store struct {
	owner  *owner
	tables []*storeTable
}

func newStore(sectors uint64) store {
	return store{new(owner), make([]*storeTable, (sectors+tableSectors-1)/tableSectors)}
}

// copy gives a store with the same content. It costs the upper level; the rest is shared.
func (s *store) copy() store {
	s.owner = new(owner)
	return s.share()
}

// share does the same for a store that is never written again, without touching it.
func (s *store) share() store {
	return store{new(owner), append([]*storeTable(nil), s.tables...)}
}

// read copies sectors from first on to b.
func (s *store) read(first uint64, b []byte) {
	for len(b) > 0 {
		in := first % sectorsPerPage
		n := min(len(b), int(sectorsPerPage-in)*SectorBytes)
		if p := s.page(first); p != nil {
			copy(b[:n], p.b[in*SectorBytes:])
		} else {
			clear(b[:n])
		}
		b = b[n:]
		first += uint64(n / SectorBytes)
	}
}

func (s *store) page(sector uint64) *storePage {
	if t := s.tables[sector/tableSectors]; t != nil {
		return t.pages[sector%tableSectors/sectorsPerPage]
	}
	return nil
}

// write copies b to the n sectors from first on; nil is zeros.
func (s *store) write(first, n uint64, b []byte) {
	for n > 0 {
		in := first % sectorsPerPage
		k := min(n, sectorsPerPage-in)
		switch {
		case b != nil:
			copy(s.own(first, k == sectorsPerPage).b[in*SectorBytes:], b[:k*SectorBytes])
			b = b[k*SectorBytes:]
		case s.page(first) == nil:
		case k == sectorsPerPage:
			s.ownTable(first).pages[first%tableSectors/sectorsPerPage] = nil
		default:
			clear(s.own(first, false).b[in*SectorBytes:][:k*SectorBytes])
		}
		first += k
		n -= k
	}
}

// own gives the page of a sector for writing. One that will be written as a whole has no content that must be kept.
func (s *store) own(sector uint64, whole bool) *storePage {
	p := &s.ownTable(sector).pages[sector%tableSectors/sectorsPerPage]
	switch {
	case *p == nil, whole && (*p).owner != s.owner:
		*p = &storePage{owner: s.owner}
	case (*p).owner != s.owner:
		*p = &storePage{s.owner, (*p).b}
	}
	return *p
}

func (s *store) ownTable(sector uint64) *storeTable {
	t := &s.tables[sector/tableSectors]
	switch {
	case *t == nil:
		*t = &storeTable{owner: s.owner}
	case (*t).owner != s.owner:
		*t = &storeTable{s.owner, (*t).pages}
	}
	return *t
}
