package wal

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the durable mark. A waiter whose LSN is written joins the device's next flush with all others of its log; when
// that has ended, the log's mark is what was written when it joined. What was written through (through.go) needs none.

// Waiter waits until an LSN is durable. It is part of its owner and in one list at most.
type Waiter struct {
	Done Durable

	lsn   LSN
	next  *Waiter
	in    bool
	later reactor.Deferred
	s     bdev.Status
}

// Durable hears that everything up to the waiter's LSN is durable, or never will be.
type Durable interface {
	LogDurable(w *Waiter, s bdev.Status)
}

// waiterList is in the order of coming.
type waiterList struct{ head, tail *Waiter }

func (l *waiterList) push(w *Waiter) {
	w.next = nil
	if l.tail == nil {
		l.head = w
	} else {
		l.tail.next = w
	}
	l.tail = w
}

func (l *waiterList) take() *Waiter {
	w := l.head
	*l = waiterList{}
	return w
}

func (w *Waiter) end(s bdev.Status) {
	w.in, w.next = false, nil
	w.Done.LogDurable(w, s)
}

// Run ends a wait that was over before it began.
func (w *Waiter) Run() { w.end(w.s) }

// AwaitDurable lets w.Done hear when everything up to lsn is durable. It never calls back before it returns.
func (l *Log) AwaitDurable(w *Waiter, lsn LSN) {
	invariant.Check(!w.in, "wal: waits twice")
	invariant.Check(lsn <= l.appended, "wal: waits for an LSN that was not given")
	w.lsn, w.in = lsn, true
	if w.s = bdev.StatusOK; lsn > l.durable {
		w.s = l.failed
	}
	if lsn <= l.durable || l.phase == phaseFailed {
		l.r.Defer(&w.later, w)
		return
	}
	l.waiters.push(w)
	l.flush()
}

// flush joins the device's next flush, if a waiter needs it and it would help.
func (l *Log) flush() {
	if l.joined || l.telling || l.phase != phaseOpen {
		return
	}
	if l.through.placed > l.through.asked { // while their records are being written
		l.joinUnlessHeld()
		return
	}
	if l.written == l.durable {
		return
	}
	for w := l.waiters.head; w != nil; w = w.next {
		if w.lsn <= l.written {
			l.joinUnlessHeld()
			return
		}
	}
}

func (l *Log) joinUnlessHeld() {
	if !l.cfg.Stages.hold(StageFlush, (*heldFlush)(l)) {
		l.joinFlush()
	}
}

// heldFlush is a log whose flush a test holds.
type heldFlush Log

// Run goes on with it, if the log still is open.
func (f *heldFlush) Run() {
	if l := (*Log)(f); !l.joined && l.phase == phaseOpen && l.written > l.durable {
		l.joinFlush()
	}
}

func (l *Log) joinFlush() {
	l.joined, l.target, l.end, l.through.asked = true, l.written, l.head, l.appended
	l.stats.Flushes++
	// What a record speaks of is durable before the record counts. Most speak of nothing on a slow device, and it is left alone.
	if l.onData = l.placed && l.cfg.Data != nil; l.onData {
		l.placed = false
		l.cfg.Data.Join(l.r, &l.join)
		return
	}
	l.cfg.Barrier.Join(l.r, &l.join)
}

// Flushed takes the end of a flush.
func (l *Log) Flushed(_ *Join, s bdev.Status) {
	if l.onData && s == bdev.StatusOK {
		l.onData = false
		l.through.sure = l.through.asked
		l.cfg.Barrier.Join(l.r, &l.join)
		return
	}
	l.joined = false
	if s != bdev.StatusOK {
		l.Fail(s)
		l.rested()
		return
	}
	if l.phase == phaseEnding {
		l.phase = phaseOpen
		l.durable, l.flushed = l.written, l.end // what was recovered was flushed with it
		l.begin.LogBegun(l, bdev.StatusOK)
		return
	}
	if l.phase == phaseFailed {
		l.rested()
		return
	}
	l.through.sure = l.through.asked
	l.durable, l.flushed = max(l.durable, l.target), max(l.flushed, l.end)
	l.wake()
	l.wroteThrough()
	l.flush()
}

// wake tells those whose mark is reached, in the order in which they came. The others are in the list again before anybody hears: who
// hears may wait again, or end the log.
func (l *Log) wake() {
	var ready waiterList
	for w := l.waiters.take(); w != nil; {
		next := w.next
		if w.lsn <= l.durable {
			ready.push(w)
		} else {
			l.waiters.push(w)
		}
		w = next
	}
	for w := ready.head; w != nil; {
		next := w.next
		w.end(bdev.StatusOK)
		w = next
	}
}
