package volume

import (
	"github.com/pollux-storage/pollux/bdev"
)

// This file is what follows a write at home that failed (V-31): the cluster goes to another place, once.
//
//	failed ─▶ find the entry ─▶ another place ─▶ (read what is kept) ─▶ write all of it ─▶ change the entry
//	             │                   │                  │                 │
//	             └── none, or it fails again: the volume is stranded (stranded.go), its log has everything
//
//	written in place      what is kept is copied, and the old place is left: with the checkpoint it is no part of the root, and it is not free
//	a new place           what was copied there is copied again
//	a placed record       what its place has and no newer block replaces is copied; the record goes on naming the bad place until it leaves the log
//
// Nobody gets a bad place before the pool is opened again: it stays handed out. That the device had no word for it by then is not known here; a
// device that fails twice in the same place fails the next one who writes there, and goes through this again.
//
// The second place does not come out of the cluster's credits: behind an event that waits in the log there may be a change of the same cluster
// that counts on them. It comes out of what is promised to nothing, or out of the pool, half of its cushion included.

// HomeFailure is the first of a run of writes at home that failed.
type HomeFailure struct {
	Cluster uint64
	LBA     uint64 // the first one of the cluster, in the volume's blocks
	Place   Place  // of the cluster, in the pool
	Status  bdev.Status
	Last    bool // it failed in another place as well, or there was none: all stays in the log until it can be written
}

// homeError notes a transfer that failed.
func (f *flusher) homeError(h *homing, s bdev.Status) {
	v := f.v
	v.counters.HomeErrors++
	f.erred = true
	f.tell(h, s, false)
}

// tell tells of a failure, if it is the first since a pass without any, or the last.
func (f *flusher) tell(h *homing, s bdev.Status, last bool) {
	v := f.v
	if f.told && !last || f.toldLast {
		return
	}
	f.told, f.toldLast = true, last
	tell := v.pool.cfg.HomeFailed
	if tell == nil {
		return
	}
	e := HomeFailure{Cluster: h.cluster, LBA: (h.cluster << v.shape.shift) * PageBytes / uint64(v.page.BlockBytes), Place: h.place, Status: s, Last: last}
	go tell(v, e) // it is rare, and nobody may be waited for here
}

// remap lets the cluster go elsewhere. The entry is looked up again: its page may have left the map's cache.
func (h *homing) remap() {
	h.again, h.cause, h.status = true, h.status, bdev.StatusOK
	h.find(homingFind)
}

// elsewhere plans that.
func (h *homing) elsewhere(e Entry) {
	v := h.f.v
	h.keeps = 0
	clear(h.keep[:])
	switch {
	case h.whole && h.base.kind == itemPlaced:
		h.from = h.place
		for b := range v.shape.Blocks() {
			if h.page[b] == homeNone {
				h.keepBlock(b)
			}
		}
	case !h.whole:
		h.kept(e)
	}
	if !h.fresh {
		h.lost = h.place
	}
	h.fresh = true
	v.takeAnother(h)
}

// unplaced lets it wait where there is no other place.
func (h *homing) unplaced() { h.park(h.cause) }

// takeAnother lets a homing have a second place; it goes on with placed, or with unplaced.
func (v *Volume) takeAnother(h *homing) {
	if v.have.clusters > 0 {
		v.have.clusters--
		v.homeWaits = append(v.homeWaits, h)
	} else {
		v.againWaits = append(v.againWaits, h)
	}
	if !v.asking {
		v.sendAsk()
	}
}

// forsake notes a cluster's place that cannot be written, for the next checkpoint.
func (v *Volume) forsake(p Place) {
	v.forsaken = append(v.forsaken, p)
	v.alone--
}
