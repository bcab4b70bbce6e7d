package wal

import "github.com/pollux-storage/pollux/bdev"

// This file is batches that are written through: with FUA, so that they are durable when they are written and nobody waits for a flush. A batch is,
// if somebody waits for a record of it.
//
//	all before it is durable      → it is, with all that was written through right behind it
//	something before it is not    → it counts when that is: a flush brings the mark to its beginning, and it on to its end
//	it speaks of data elsewhere   → that was written before the record was appended, so its flush runs while the batch is being written
//
// What lies between two records counts as well: a pad in front of such a batch is written through too, or the batch would not be found.

// through is what is known of them: one run of bytes without a gap, the last.
type through struct {
	can  bool // the device has a cache, and writes past it
	from Offset
	end  Offset
	lsn  LSN // the last in it

	placed LSN // the last record of such a batch that speaks of data elsewhere
	asked  LSN // a flush was joined for the data of all records up to it
	sure   LSN // and has ended
}

func (t *through) make(c *bdev.Channel) {
	g := c.Geometry()
	t.can = g.Volatile && g.NativeFUA.Has(bdev.Write)
}

// add takes a batch that was written through, and its last LSN.
func (t *through) add(from, end Offset, lsn LSN) {
	if from != t.end {
		t.from = from
	}
	t.end, t.lsn = end, lsn
}

// wroteThrough lets the durable mark follow what was written through, if it has come there, as far as its data is durable.
func (l *Log) wroteThrough() {
	t := &l.through
	to, end := t.lsn, t.end
	if min(t.placed, t.lsn) > t.sure {
		to, end = t.sure, l.flushed // where that record ends is not known
	}
	if l.phase != phaseOpen || t.from > l.flushed || to <= l.durable && end <= l.flushed || l.cfg.Stages.hold(StageFlush, (*heldThrough)(l)) {
		return
	}
	l.durable, l.flushed = max(l.durable, to), max(l.flushed, end)
	l.wake()
}

// heldThrough is a log of which a test holds that.
type heldThrough Log

// Run goes on with it.
func (h *heldThrough) Run() { (*Log)(h).wroteThrough() }
