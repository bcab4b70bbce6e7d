package volume

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is how the changes of one cluster come home.
//
//	find the entry ─▶ plan ─▶ (a new place) ─▶ (read what is kept of a shared cluster) ─▶ write the blocks ─▶ change the entry ─▶ leave
//
//	the entry's place is the head's own                → blocks are written in place: the log has them until no root needs the old ones
//	it is a snapshot's as well, or there is none       → a new place, to which the blocks that are kept are copied
//	a placed record                                    → its place is the new one
//	everything zeroed or trimmed                       → no place
//	writing there failed                               → another place, once, to which the rest is copied (remap.go)
//
// The order of the last two steps is that of what a read sees: until the entry leaves the dirty map, the block is read from the log.

// homing brings the changes of one cluster home.
type homing struct {
	f     *flusher
	next  *homing
	node  mapWaiter
	later reactor.Deferred
	items []homeItem // of the cluster, by LSN

	cluster uint64
	state   homingState
	base    homeItem // the newest change of the whole cluster, if whole
	whole   bool
	page    [clusterBlocksMax]int32 // in the window, for each block: homeNone, homeZero, or a page
	blocks  int                     // that are written
	newest  wal.LSN

	place  Place                         // where the blocks go
	fresh  bool                          // it is a new place
	was    Place                         // given up by it, 0 if nothing is
	from   Place                         // the shared one that is copied from
	keeps  int                           // blocks
	copied []byte                        // it; made when it is first needed
	keep   [clusterBlocksMax / 64]uint64 // those of its blocks
	crcs   [clusterBlocksMax]uint32
	parts  int
	status bdev.Status

	parked bool // it failed twice, and has not come home since (stranded.go)
	waits  bool // to be tried again

	again bool        // it goes to another place, since writing to the first failed
	lost  Place       // the head's place that failed, 0 if it had another
	cause bdev.Status // how it failed
}

type homingState uint8

const (
	homingFind homingState = iota
	homingCopy
	homingWrite
	homingChange
)

const (
	homeNone int32 = -1
	homeZero int32 = -2
)

// begin takes the changes of a cluster, in the order of their LSNs.
//
// What a whole record supersedes does not come home without it: a block that was written in between may have relied on the place of a
// placed record that is given up, even if a newer change of that block, which is not durable yet, hides the whole record from it.
func (h *homing) begin(items []homeItem) {
	v := h.f.v
	h.items, h.cluster, h.status, h.again, h.lost = items, items[0].cluster, bdev.StatusOK, false, 0
	h.whole, h.newest, h.was, h.fresh, h.place, h.keeps = false, 0, 0, false, 0, 0
	clear(h.keep[:])
	for i := range v.shape.Blocks() {
		h.page[i] = homeNone
	}
	whole := v.dirty.wholeOf(h.cluster).lsn
	for i := range items {
		it := &items[i]
		if h.f.superseded(it.lsn, whole) {
			h.forgo(it)
			continue
		}
		switch it.kind {
		case itemClear, itemPlaced:
			if h.whole {
				h.forgo(&h.base)
			}
			h.whole, h.base = true, *it
			for b := range v.shape.Blocks() {
				h.page[b] = homeNone
			}
		default:
			if h.f.superseded(it.lsn, v.dirty.lookup(h.cluster<<v.shape.shift+uint64(it.block)).lsn) {
				continue
			}
			h.page[it.block] = it.page
			if it.kind == itemZero {
				h.page[it.block] = homeZero
			}
		}
		h.newest = it.lsn
	}
	if h.newest == 0 { // all of it comes home later
		h.end(bdev.StatusOK)
		return
	}
	h.find(homingFind)
}

// forgo gives up the place of a placed record that does not come home, since a newer one does.
func (h *homing) forgo(it *homeItem) {
	if it.kind != itemPlaced {
		return
	}
	v := h.f.v
	per := v.shape.Blocks()
	v.released = append(v.released, placedAt(h.f.rd.Page(it.page), int(it.index), per, h.crcs[:per]))
}

// Run tells the flusher.
func (h *homing) Run() { h.f.homed(h, h.status) }

// find looks the entry up, to plan or to change it.
func (h *homing) find(s homingState) {
	h.state = s
	var e Entry
	var st bdev.Status
	var now bool
	if t := h.f.v.tree; s == homingChange {
		e, st, now = t.change(h.cluster, &h.node)
	} else {
		e, st, now = t.find(h.cluster, &h.node)
	}
	if now {
		h.mapFound(&h.node, e, st)
	}
}

// mapFound has the entry.
func (h *homing) mapFound(_ *mapWaiter, e Entry, s bdev.Status) {
	switch {
	case s != bdev.StatusOK:
		h.end(s)
	case h.state == homingFind && h.again:
		h.elsewhere(e)
	case h.state == homingFind:
		h.plan(e)
	default:
		h.change(e)
	}
}

// plan decides where the blocks go, and what has to be copied there.
func (h *homing) plan(e Entry) {
	v := h.f.v
	h.blocks = 0
	for b := range v.shape.Blocks() {
		if h.page[b] >= 0 {
			h.blocks++
		}
	}
	own := v.owned(h.cluster, e)
	switch {
	case h.whole && h.base.kind == itemPlaced:
		list := h.f.rd.Page(h.base.page)
		h.place, h.fresh = placedAt(list, int(h.base.index), v.shape.Blocks(), h.crcs[:v.shape.Blocks()]), true
		if own {
			h.was = e.Place()
		}
	case h.blocks == 0:
		h.place = e.Place()
		if h.whole && !(own && (v.thick.on || v.dirty.newestOf(h.cluster) > h.newest)) { // what comes next would need a place again
			h.place = 0
		}
		if own && h.place == 0 {
			h.was = e.Place()
		}
	case own:
		h.place = e.Place()
	default:
		h.fresh = true
		if !h.whole {
			h.kept(e)
		}
		v.takeHome(h)
		return
	}
	h.write()
}

// placed goes on with a new place.
func (h *homing) placed() {
	if h.keeps > 0 && h.state == homingFind {
		h.copy()
		return
	}
	h.write()
}

// kept notes what is kept of a shared cluster.
func (h *homing) kept(e Entry) {
	if h.from = e.Place(); h.from == 0 {
		return
	}
	for b := range h.f.v.shape.Blocks() {
		if h.page[b] == homeNone && e.Written(b) {
			h.keepBlock(b)
		}
	}
}

func (h *homing) keepBlock(b int) {
	h.keep[b/64] |= 1 << (b % 64)
	h.keeps++
	if h.copied == nil {
		h.copied = pageMemory(h.f.v.shape.Blocks())
	}
}

// copy reads it. It is not compared with its CRCs: they go with it as they are, so that a fault stays one.
func (h *homing) copy() {
	v := h.f.v
	h.state, h.parts = homingCopy, 1
	for b := 0; b < v.shape.Blocks(); {
		if !h.keptBlock(b) {
			b++
			continue
		}
		p := v.newPart()
		p.done = h
		for ; b+p.n < v.shape.Blocks() && h.keptBlock(b+p.n); p.n++ {
		}
		p.vec = append(p.vec, h.copied[b*PageBytes:(b+p.n)*PageBytes])
		h.parts++
		v.transfer(p, v.data, bdev.Read, (h.from + Place(b)).Byte())
		b += p.n
	}
	h.partDone(bdev.StatusOK)
}

func (h *homing) keptBlock(b int) bool { return h.keep[b/64]>>(b%64)&1 == 1 }

// write writes what goes to the place: runs of blocks that follow each other.
func (h *homing) write() {
	v := h.f.v
	h.state, h.parts = homingWrite, 1
	for b := 0; b < v.shape.Blocks(); {
		if h.source(b) == nil {
			b++
			continue
		}
		p := v.newPart()
		p.done = h
		for b+p.n < v.shape.Blocks() {
			src := h.source(b + p.n)
			if src == nil {
				break
			}
			p.vec = appendPage(p.vec, src)
			p.n++
		}
		h.parts++
		v.counters.HomeBytes += uint64(p.n) * PageBytes
		v.transfer(p, v.data, bdev.Write, (h.place + Place(b)).Byte())
		b += p.n
	}
	h.partDone(bdev.StatusOK)
}

// source is where a block that is written comes from: the window, or the copy; nil if it is not written.
func (h *homing) source(b int) []byte {
	if p := h.page[b]; p >= 0 {
		return h.f.rd.Page(p)
	}
	if h.keptBlock(b) {
		return h.copied[b*PageBytes:][:PageBytes]
	}
	return nil
}

// appendPage adds a page to the pieces of a transfer, to the last one if it follows that in memory.
func appendPage(vec [][]byte, page []byte) [][]byte {
	if n := len(vec); n > 0 {
		if last := vec[n-1]; cap(last) > len(last) && &last[:len(last)+1][len(last)] == &page[0] {
			vec[n-1] = last[:len(last)+len(page)]
			return vec
		}
	}
	return append(vec, page)
}

// partEnd takes the end of a transfer.
func (h *homing) partEnd(p *part, s bdev.Status) {
	h.f.v.givePart(p)
	if s != bdev.StatusOK && h.state == homingWrite && !h.f.v.given {
		h.f.homeError(h, s)
	}
	h.partDone(s)
}

func (h *homing) partDone(s bdev.Status) {
	if h.status == bdev.StatusOK {
		h.status = s
	}
	if h.parts--; h.parts > 0 {
		return
	}
	switch {
	case h.state == homingCopy && h.status == bdev.StatusOK:
		h.write()
	case h.status == bdev.StatusOK:
		h.unpark()
		h.find(homingChange)
	case h.state == homingWrite && !h.again && !h.f.v.given:
		h.remap()
	case h.again:
		h.park(h.status)
	default:
		h.end(h.status)
	}
}

// change takes it over into the map, and out of the dirty map.
func (h *homing) change(e Entry) {
	v := h.f.v
	birth := e.Birth()
	if h.whole {
		e.Trim(h.newest)
	}
	switch {
	case h.whole && h.base.kind == itemPlaced:
		birth = h.base.lsn
		for b := range v.shape.Blocks() {
			e.SetBlock(b, h.crcs[b])
		}
	case h.fresh:
		birth = h.newest
	}
	if h.place != 0 {
		e.SetPlace(h.place, birth)
	}
	if h.fresh {
		v.refer(h.place)
	}
	for b := range v.shape.Blocks() {
		switch p := h.page[b]; {
		case p >= 0:
			e.SetBlock(b, h.f.rd.PageCRC(p))
		case p == homeZero:
			e.ClearBlock(b)
		}
	}
	e.SetChange(h.newest)
	if h.was != 0 {
		v.unrefer(h.was)
	}
	if h.lost != 0 {
		v.forsake(h.lost)
	}
	v.changed(h.cluster)
	h.leave()
	h.end(bdev.StatusOK)
}

// leave takes what came home out of the dirty map, if it is still the newest.
func (h *homing) leave() {
	d := h.f.v.dirty
	for i := range h.items {
		switch it := &h.items[i]; it.kind {
		case itemClear, itemPlaced:
			d.leaveWhole(h.cluster, it.lsn)
		default:
			d.leave(h.cluster<<d.shift+uint64(it.block), it.lsn)
		}
	}
	h.f.v.cleaned()
}

// end ends a homing in this tick, but not inside the call that brought it here: pages that are in memory would make one call of all.
func (h *homing) end(s bdev.Status) {
	h.unpark()
	h.items, h.status = nil, s
	h.f.v.r.Defer(&h.later, h)
}
