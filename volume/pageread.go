package volume

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is how pages come into the cache: reads, and those who wait for them.
//
//	get ── resident ──▶ at once
//	 │
//	 ├── being read ───▶ joins the read
//	 ├── a slot free ──▶ pager.readPage … readDone ──▶ each waiter: pageArrived, or pageAgain if the page changed under one before it
//	 └── none ─────────▶ hungry, in order ──▶ pageAgain when a slot is free
//
// Whoever hears pageArrived goes on from that page, whose frame is not taken while it is handed around; so it comes nearer to
// what it looks for with each read, even if the cache is too small for the whole path and the pages above were taken meanwhile. It has
// the first claim on the slot that its read had. A page is handed to its waiters only as long as it is what they asked for:
// one of them may change it. Those after it begin again from their root.

// pager reads pages from a pool's device. The reactor's side of it is made of bdev.Requests, one for each slot.
type pager interface {
	// readPage starts a read of one page. It ends with pageCache.readDone, on the same reactor, after readPage has returned.
	readPage(r *pageRead)
}

// pageRead is one read in flight.
type pageRead struct {
	slot    int    // 0 … readsMax-1, for the pager's own table
	place   Place  // what is read
	data    []byte // PageBytes, lent until readDone
	frame   int32
	waiters pageWaiters
	next    *pageRead // free ones
}

// pageWaiter waits for one page. It is part of its owner and in one list at most.
type pageWaiter struct {
	next  *pageWaiter
	taker pageTaker
	waits bool
	turn  bool  // it goes before those who are hungry
	cold  bool  // the page is not expected to be used again soon
	fault error // why it heard StatusCorrupt

	source   int16
	level    uint8
	ref      Ref
	index    uint64
	volume   VolumeNumber
	sharedTo Stamp // pages up to here may be another volume's
	shape    Shape
}

// pageTaker hears of the page that its waiter asked for.
type pageTaker interface {
	pageArrived(f int32, s bdev.Status) // the frame is there for the time of the call
	pageAgain()                         // ask again, from the root
}

// pageWaiters is a first-in, first-out list.
type pageWaiters struct{ head, tail *pageWaiter }

func (l *pageWaiters) push(w *pageWaiter) {
	invariant.Check(!w.waits, "volume: waits for two pages")
	w.waits, w.next = true, nil
	if l.tail == nil {
		l.head = w
	} else {
		l.tail.next = w
	}
	l.tail = w
}

func (l *pageWaiters) pop() *pageWaiter {
	w := l.head
	if w != nil {
		if l.head = w.next; l.head == nil {
			l.tail = nil
		}
		w.waits, w.next = false, nil
	}
	return w
}

// pageReads is the part of the cache that reads.
type pageReads struct {
	reads   []pageRead
	idle    *pageRead
	hungry  pageWaiters
	handing bool // a page is being handed to its waiters
}

func (p *pageReads) init(n int) {
	p.reads = make([]pageRead, n)
	for i := n - 1; i >= 0; i-- {
		p.reads[i].slot = i
		p.reads[i].next, p.idle = p.idle, &p.reads[i]
	}
}

// get gives the frame of the page that w describes; noFrame if w will hear of it.
func (c *pageCache) get(w *pageWaiter) (int32, bdev.Status) {
	if f := c.lookup(w.source, w.ref); f != noFrame {
		fr := &c.frames[f]
		if fr.state == frameReading {
			c.reads[fr.read].waiters.push(w)
			return noFrame, bdev.StatusOK
		}
		if !fr.is(w) {
			return noFrame, c.corrupt(w, f)
		}
		fr.recent = true
		c.stats.hits++
		return f, bdev.StatusOK
	}
	if c.idle == nil || c.hungry.head != nil && !w.turn {
		c.hungry.push(w)
		return noFrame, bdev.StatusOK
	}
	c.stats.misses++
	w.turn = false
	r := c.idle
	c.idle, r.next = r.next, nil
	f := c.take()
	c.frames[f] = frame{ref: w.ref, source: w.source, read: int16(r.slot), state: frameReading, copied: noFrame}
	c.hash(f)
	r.place, r.frame, r.data = w.ref.Place, f, c.page(f)
	r.waiters.push(w)
	c.sources[w.source].pager.readPage(r)
	return noFrame, bdev.StatusOK
}

// is says whether a page in the cache is what w expects at its ref.
func (fr *frame) is(w *pageWaiter) bool {
	return fr.index == w.index && fr.level == w.level && (fr.volume == w.volume || fr.stamp <= w.sharedTo)
}

// corrupt says what is wrong with the page that w found in frame f.
func (c *pageCache) corrupt(w *pageWaiter, f int32) bdev.Status {
	c.stats.faults++
	if _, w.fault = c.open(w, c.page(f)); w.fault == nil {
		w.fault = ErrCorrupt
	}
	return bdev.StatusCorrupt
}

// open checks a page against what w expects.
func (c *pageCache) open(w *pageWaiter, page []byte) (Header, error) {
	s := &c.sources[w.source]
	want := Want{
		Kind: KindIndex, Level: w.level, Pool: s.pool, Volume: w.volume, Index: w.index, CRC: w.ref.CRC,
		SharedTo: w.sharedTo.LSN(), Pages: s.pages,
	}
	if w.level == 0 {
		want.Kind = KindLeaf
		return w.shape.OpenLeaf(page, &want)
	}
	return OpenRefs(page, &want)
}

// readDone takes the result of a read.
func (c *pageCache) readDone(r *pageRead, s bdev.Status) {
	invariant.Check(!c.handing, "volume: a page arrives inside the arrival of another")
	f, waiters := r.frame, r.waiters
	r.waiters, r.data, r.frame = pageWaiters{}, nil, noFrame
	r.next, c.idle = c.idle, r
	if s == bdev.StatusOK {
		s = c.admit(f, waiters.head)
	}
	if s != bdev.StatusOK {
		c.unhash(f)
		c.release(f)
		for w := waiters.pop(); w != nil; w = waiters.pop() {
			w.taker.pageArrived(noFrame, s)
		}
	} else {
		c.hand(f, &waiters)
	}
	for c.idle != nil && c.hungry.head != nil {
		w := c.hungry.pop()
		w.turn = true
		w.taker.pageAgain()
	}
}

// admit makes a page that was read clean if it is what one of those who wait for it expects.
func (c *pageCache) admit(f int32, waiters *pageWaiter) bdev.Status {
	for w := waiters; w != nil; w = w.next {
		h, err := c.open(w, c.page(f))
		if err != nil {
			w.fault = err
			continue
		}
		fr := &c.frames[f]
		fr.state, fr.level, fr.index, fr.volume, fr.stamp = frameClean, h.Level, h.Index, h.Volume, h.Stamp
		return bdev.StatusOK
	}
	c.stats.faults++
	return bdev.StatusCorrupt
}

// hand gives a page to those who wait for it.
func (c *pageCache) hand(f int32, waiters *pageWaiters) {
	fr := &c.frames[f]
	ref, source := fr.ref, fr.source
	cold := true
	c.handing = true
	for w := waiters.pop(); w != nil; w = waiters.pop() {
		cold = cold && w.cold
		w.turn = true
		switch {
		case fr.state != frameClean || fr.ref != ref || fr.source != source:
			w.taker.pageAgain()
		case !fr.is(w):
			w.taker.pageArrived(noFrame, c.corrupt(w, f))
		default:
			w.taker.pageArrived(f, bdev.StatusOK)
		}
	}
	c.handing = false
	if fr.state == frameClean && !fr.listed {
		c.offer(f, cold)
	}
}
