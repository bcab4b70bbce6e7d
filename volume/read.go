package volume

import "github.com/pollux-storage/pollux/bdev"

// This file is a read: block by block from the dirty map, else from the map, in runs that one transfer can serve.
//
//	a snapshot's           → its own map, and nothing that is dirty
//	dirty: in the log      → the log's pages, checked against the CRC that the dirty map has
//	dirty: placed          → the new place, checked as well
//	dirty: zeros, no place,
//	block never written    → zeros
//	home                   → the map's place, checked if the volume says so
//
// What was looked up stays where it is until the read's grace is over; a page of the map that is not in memory is waited for, and the
// looking goes on where it was: what changed meanwhile is seen, since it is looked up anew.

// read issues what it can of an op.
func (v *Volume) read(o *op) {
	for o.at < o.end && o.status == bdev.StatusOK {
		run := o.run()
		switch run.from {
		case dirtyZeros:
			o.zeros(run.blocks)
		case dirtyLog, dirtyPlaced:
			if !o.readDirty(&run) {
				return
			}
		case dirtyHome:
			if !o.readHome(run.blocks) {
				return
			}
		}
	}
	o.issued()
}

// run is what the next blocks are read from. What is dirty is the head's alone.
func (o *op) run() dirtyRun {
	v := o.v
	if o.tree != v.tree {
		per := uint64(v.shape.Blocks())
		return dirtyRun{from: dirtyHome, blocks: min(o.end-o.at, per-o.at&(per-1))}
	}
	return v.dirty.run(o.at, o.end)
}

// memory is where the blocks from o.at on lie in the request's data, in bytes.
func (o *op) memory() int { return int(o.at-o.block) * PageBytes }

// zeros fills n blocks.
func (o *op) zeros(n uint64) {
	at, left := o.memory(), int(n)*PageBytes
	for _, b := range o.q.Data {
		if at >= len(b) {
			at -= len(b)
			continue
		}
		k := min(left, len(b)-at)
		clear(b[at : at+k])
		at = 0
		if left -= k; left == 0 {
			break
		}
	}
	o.at += n
}

// readDirty reads the beginning of a run from where its newest record has it. It reports false if the op has to wait.
func (o *op) readDirty(run *dirtyRun) bool {
	v := o.v
	p := o.part()
	if p == nil {
		return false
	}
	p.n = int(min(run.blocks, partBlocks))
	for i := range p.n {
		p.crcs[i] = v.dirty.lookup(o.at + uint64(i)).crc
	}
	p.check = true
	if run.from == dirtyLog {
		o.transfer(p, v.logData, v.log.Position(run.offset))
	} else {
		o.transfer(p, v.data, run.place.Byte())
	}
	return true
}

// readHome reads what it can of n blocks of one cluster that are not dirty.
func (o *op) readHome(n uint64) bool {
	v := o.v
	e, first, found := o.home()
	if !found {
		return false
	}
	if o.status != bdev.StatusOK {
		return true
	}
	written, k := e.stretch(first, n)
	if !written {
		o.zeros(k)
		return true
	}
	p := o.part()
	if p == nil {
		return false
	}
	for p.n = range int(min(k, partBlocks)) {
		p.crcs[p.n] = e.CRC(first + p.n)
	}
	p.n++
	p.check = v.verify
	o.transfer(p, v.data, (e.Place() + Place(first)).Byte())
	return true
}

// home finds the entry of the cluster in which o.at is, and which block of it that is. If found is false the op waits; an entry that cannot be read has
// failed the op.
func (o *op) home() (e Entry, first int, found bool) {
	shift := o.v.shape.shift
	e, s := o.find(o.at >> shift)
	if s == mapFailed {
		o.fail(bdev.StatusCorrupt)
	}
	return e, int(o.at & (1<<shift - 1)), s != mapWaits
}

// mapState is how a search in the map ends.
type mapState uint8

const (
	mapHas mapState = iota
	mapWaits
	mapFailed
)

// foundEntry is an entry that came while the op waited: it is used for what is read next, since by then it could be gone again.
type foundEntry struct {
	e       Entry
	cluster uint64
	s       bdev.Status
	here    bool
}

// find looks a cluster up; if it has to wait, the op goes on when it is there.
func (o *op) find(cluster uint64) (Entry, mapState) {
	e, s := o.entry.e, o.entry.s
	if !o.entry.here || o.entry.cluster != cluster {
		now := false
		if e, s, now = o.tree.find(cluster, &o.node); !now {
			return Entry{}, mapWaits
		}
	}
	if s != bdev.StatusOK {
		return Entry{}, mapFailed
	}
	return e, mapHas
}

// mapFound goes on with an entry.
func (o *op) mapFound(w *mapWaiter, e Entry, s bdev.Status) {
	o.entry = foundEntry{e, w.cluster, s, true}
	switch o.q.Kind {
	case bdev.Write:
		o.v.change(o)
	case bdev.Extent:
		o.v.extent(o)
	default:
		o.v.read(o)
	}
	o.entry = foundEntry{}
}

// part takes a part for the op, or lets the op wait for one.
func (o *op) part() *part {
	p := o.v.takePart()
	if p == nil {
		o.v.partWaiters.push(o)
	}
	return p
}

// transfer reads p.n blocks from a byte of the device c into the request's memory.
func (o *op) transfer(p *part, c *bdev.Channel, byteAt uint64) {
	p.done = o
	p.vec = slice(p.vec, o.q.Data, o.memory(), p.n*PageBytes)
	o.at += uint64(p.n)
	o.out++
	o.v.transfer(p, c, bdev.Read, byteAt)
}

// partEnd takes the end of one of the op's transfers.
func (o *op) partEnd(p *part, s bdev.Status) {
	v := o.v
	v.givePart(p)
	o.ended(s)
	v.partFree()
}

// partFree lets those go on who wait for a part.
func (v *Volume) partFree() {
	for n := v.partWaiters.n; n > 0 && v.parts != nil; n-- {
		v.read(v.partWaiters.pop())
	}
}
