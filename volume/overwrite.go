package volume

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the overwrite in a full pool (V-27). A write asks for a place for each cluster that it touches, since the door does not look
// into the map. When the pool has none, it does: what the head has alone is written in place, and needs none.
//
//	refused ─▶ short: whole clusters go through the log too ─▶ all clusters of the record are the head's own? ─▶ no place is asked for
//	                                                                                                       └─▶ the pool is asked again
//
// What was the head's own at the door is so when the flusher comes: no trim of it is on its way, and no snapshot has its LSN before the
// record's and is not applied yet.

// ownPlaces takes out of the need of a write's next record the places that it does not need. It reports false if the op has to wait for
// the map.
func (v *Volume) ownPlaces(o *op, blocks uint64, n *need) bool {
	if v.trims > 0 || v.eventsOut > 0 || len(v.boundaries) > 0 {
		return true
	}
	shift := v.shape.shift
	first, last := o.at>>shift, (o.at+blocks-1)>>shift
	for c := first; c <= last; c++ {
		switch v.dirty.wholeOf(c).from {
		case dirtyPlaced:
			continue
		case dirtyHome:
		default:
			return true
		}
		switch e, s := o.find(c); {
		case s == mapWaits:
			return false
		case s == mapFailed || !v.owned(c, e):
			return true
		}
	}
	// The door asks for the pages above each cluster. Those of one leaf share them.
	per := uint64(v.shape.entries)
	n.credits = v.creditsFor(int(last/per-first/per)+1, false)
	return true
}

// refuse takes the pool's answer that it has no more: a write tries to do without.
func (v *Volume) refuse(o *op) {
	v.refused = nil
	if o.q.Kind == bdev.Write && !o.short {
		o.short = true
		return
	}
	o.fail(bdev.StatusNoSpace)
}

// classOf says of whose kind a reservation for an op is.
func (o *op) classOf(n *need) Class {
	switch {
	case o.q.Kind != bdev.Write:
		return Freeing
	case o.short && n.credits.clusters == 0:
		return Overwriting
	}
	return Ordinary
}

// clears counts a record that takes places away, from when it is appended until it is in the dirty map.
func (s *segment) clears(n int) {
	if s.e.Kind == wal.KindTrim || s.e.Kind == wal.KindZeroes {
		s.v.trims += n
	}
}
