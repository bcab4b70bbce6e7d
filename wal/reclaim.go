package wal

import "github.com/pollux-storage/pollux/internal/invariant"

// This file is the tail: how far the log may be overwritten.

// Hold keeps the log from an offset on, for somebody who reads there. It is part of its owner.
type Hold struct {
	at         Offset
	prev, next *Hold
	in         bool
}

// Hold keeps everything from offset at on until Release.
func (l *Log) Hold(h *Hold, at Offset) {
	invariant.Check(!h.in && at >= l.tail, "wal: holding what is gone, or twice")
	h.at, h.in = at, true
	h.prev, h.next = nil, l.holds
	if l.holds != nil {
		l.holds.prev = h
	}
	l.holds = h
}

// Release gives a hold up; what only it kept is given back.
func (l *Log) Release(h *Hold) {
	if !h.in {
		return
	}
	h.in = false
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		l.holds = h.next
	}
	if h.next != nil {
		h.next.prev = h.prev
	}
	h.prev, h.next = nil, nil
	l.advance()
}

// Reclaim says that nothing before to is needed, but for holds. Saying it twice, or less than before, is harmless.
func (l *Log) Reclaim(to Offset) {
	invariant.Check(to <= l.head, "wal: reclaiming what was not written")
	l.wanted = max(l.wanted, to)
	l.advance()
}

// advance moves the tail as far as it may go.
func (l *Log) advance() {
	to := l.wanted
	for h := l.holds; h != nil; h = h.next {
		to = min(to, h.at)
	}
	l.tail = max(l.tail, to)
}

// Position gives where an offset is on the device, in bytes; what is read from there is contiguous to the end of its record.
func (l *Log) Position(o Offset) uint64 {
	invariant.Check(o >= l.tail && o < l.head, "wal: an offset outside the log")
	p, _ := l.area.find(o)
	return p
}
