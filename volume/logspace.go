package volume

import (
	"slices"

	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is the space of a log device. Which pages are in use is nowhere on it: the volume pages say so, and from these it is made when
// the pool is opened. What a volume gives up rests until neither slot leads to it.

// logFirst is the first page of a log device that is not kept for its heads.
const logFirst = 2 * 16

// logUnit is what logs are made of, in pages: 64 KiB, so that no device is written in parts of what it likes to write.
const logUnit = 16

// logSpace is what of a log device is in use. It belongs to the pool's reactor.
type logSpace struct {
	pages   uint64
	used    []Extent // ascending
	resting []restingLog
}

// restingLog was given up with the commit after so many.
type restingLog struct {
	Extent
	after uint64
}

// claim notes an extent that a volume page names, and reports false if it is outside the device or something else as well.
func (s *logSpace) claim(e Extent) bool {
	if e.Place < logFirst || uint64(e.Place) > s.pages || e.Pages > s.pages-uint64(e.Place) {
		return false
	}
	i, _ := slices.BinarySearchFunc(s.used, e.Place, func(u Extent, p Place) int { return int(u.Place) - int(p) })
	if i > 0 && s.used[i-1].End() > e.Place || i < len(s.used) && s.used[i].Place < e.End() {
		return false
	}
	s.used = slices.Insert(s.used, i, e)
	return true
}

// gaps yields what is free between what is in use.
func (s *logSpace) gaps(yield func(Extent) bool) {
	at := Place(logFirst)
	for _, e := range append(slices.Clip(s.used), Extent{Place: Place(s.pages)}) {
		first := (at + logUnit - 1) / logUnit * logUnit
		if first+logUnit <= e.Place && !yield(Extent{first, uint64(e.Place-first) / logUnit * logUnit}) {
			return
		}
		at = e.Place + Place(e.Pages)
	}
}

// free counts the pages that a log could have.
func (s *logSpace) free() (n uint64) {
	for e := range s.gaps {
		n += e.Pages
	}
	return n
}

// take gives so many pages in as few extents as there can be, the largest gaps first, and reports false if there is no room. Of what rests,
// what no slot leads to is free: the pool has made so many commits.
func (s *logSpace) take(dst []Extent, pages, commits uint64) (int, bool) {
	s.resting = slices.DeleteFunc(s.resting, func(r restingLog) bool {
		over := commits >= r.after+2
		if over {
			s.drop(r.Extent)
		}
		return over
	})
	pages = (pages + logUnit - 1) / logUnit * logUnit
	gaps := slices.SortedStableFunc(s.gaps, func(a, b Extent) int { return int(b.Pages) - int(a.Pages) })
	n := 0
	for pages > 0 {
		if n == len(gaps) || n == len(dst) {
			return 0, false
		}
		best := gaps[n]
		if best.Pages >= pages { // the smallest that is enough
			for _, g := range gaps[n:] {
				if g.Pages >= pages {
					best = g
				}
			}
		}
		dst[n] = Extent{best.Place, min(best.Pages, pages)}
		pages -= dst[n].Pages
		n++
	}
	for _, e := range dst[:n] {
		ok := s.claim(e)
		invariant.Check(ok, "volume: room for a log that was no room")
	}
	return n, true
}

// drop frees what is in use at once.
func (s *logSpace) drop(e Extent) {
	i := slices.Index(s.used, e)
	invariant.Check(i >= 0, "volume: a log's room is given up that nobody had")
	s.used = slices.Delete(s.used, i, i+1)
}

// rest gives up what the commit under way no longer leads to.
func (s *logSpace) rest(e Extent, commits uint64) {
	s.resting = append(s.resting, restingLog{e, commits})
}
