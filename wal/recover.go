package wal

import (
	"errors"
	"fmt"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is recovery: the log is read from where the checkpoint left it to its end, and then judged.
//
//	1. Windows are read and handed over, until a batch or record does not follow.
//	2. The rest of the ring is searched for a header, of the last accepted life or a later one, that knew a durable mark above the last
//	   accepted LSN. If there is one, what is missing was durable: a wound. Otherwise it is a cut: what is missing was never promised
//	   to be there. What was accepted is not searched: no batch knows a mark above its own records.
//	3. The log goes on behind the last accepted record. Begin writes there, so nothing was changed so far.

// Recovering hears of a recovery.
type Recovering interface {
	// LogWindow is handed the next window. It may cut it (Reader.Cut), keeps it as long as it needs, and then calls Recovery.Go.
	LogWindow(c *Recovery)
	// LogRecovered is the end. With a status other than StatusOK the log could not be read; a wounded one may be read from, and
	// takes no records.
	LogRecovered(c *Recovery, s bdev.Status)
}

// Recovery is one reading of a log to its end.
type Recovery struct {
	l     *Log
	rd    *Reader
	to    Recovering
	from  State
	why   error // for which the log ends
	wound error // why it is one, nil for a cut

	search  Offset // how far the ring has been searched
	request bdev.Request
	found   LSN  // the highest durable mark
	lives   Life // the highest of the ring

	beginnings []Beginning
}

// Recover reads the log from a state on.
func (l *Log) Recover(from State, to Recovering) (*Recovery, error) {
	invariant.Check(l.phase == phaseNew, "wal: recovering a log that is open")
	invariant.Check(from.Tail <= from.Offset, "wal: a recovery that begins before the tail")
	rd, err := l.NewReader()
	if err != nil {
		return nil, err
	}
	c := &Recovery{l: l, rd: rd, to: to, from: from}
	c.request.Kind, c.request.Done = bdev.Read, c
	rd.beginnings = &c.beginnings
	l.phase = phaseReading
	l.tail, l.wanted = from.Tail, from.Tail
	rd.Seek(Follow{Offset: from.Offset, Life: from.Life, Epoch: from.Epoch, LSN: from.LSN})
	rd.Next(noLimit, c)
	return c, nil
}

// Reader has the window.
func (c *Recovery) Reader() *Reader { return c.rd }

// Beginnings are the lives that it accepted, in order.
func (c *Recovery) Beginnings() []Beginning { return c.beginnings }

// Durable is the highest durable mark that was known of what it accepted, the state's included.
func (c *Recovery) Durable() LSN { return max(c.rd.durable, c.from.Durable) }

// Ended says why the log ends where it does, and, if something durable is missing, why that is known.
func (c *Recovery) Ended() (why, wound error) { return c.why, c.wound }

// WindowRead hands a window over.
func (c *Recovery) WindowRead(rd *Reader, s bdev.Status) {
	if s != bdev.StatusOK {
		c.end(s)
		return
	}
	if len(rd.records) == 0 {
		c.Go()
		return
	}
	c.to.LogWindow(c)
}

// Go goes on after a window.
func (c *Recovery) Go() {
	ends, why := c.rd.Ends()
	if !ends {
		c.rd.Next(noLimit, c)
		return
	}
	if c.why = why; errors.Is(why, ErrVersion) {
		c.end(bdev.StatusNotSupported)
		return
	}
	c.search = c.rd.next.Offset
	c.searchNext()
}

// Stop ends a recovery after a window, instead of Go: whoever reads it cannot use it. The log is closed next; LogRecovered is not called.
func (c *Recovery) Stop() {
	c.l.phase, c.l.failed = phaseFailed, bdev.StatusAborted
	c.rd.Close()
	c.request.Release()
}

// searchNext looks at the next part of the ring for what proves a wound.
func (c *Recovery) searchNext() {
	end := c.from.Offset + Offset(c.l.area.bytes)
	if c.search >= end {
		c.judge()
		return
	}
	position, left := c.l.area.find(c.search)
	n := min(left, windowBytes, uint64(end-c.search))
	shift := c.l.cfg.Channel.Geometry().Shift()
	c.request.LBA, c.request.Blocks = position>>shift, n>>shift
	c.request.SetData(c.rd.buf[:n])
	c.l.cfg.Channel.Submit(&c.request)
}

// RequestDone takes a part of the ring.
func (c *Recovery) RequestDone(q *bdev.Request) {
	if q.Status != bdev.StatusOK {
		c.end(q.Status)
		return
	}
	data := q.Data[0]
	life, durable := c.l.evidence(c.rd.next.Life, uint64(c.search)%c.l.area.bytes, data)
	c.lives, c.found = max(c.lives, life), max(c.found, durable)
	c.search += Offset(len(data))
	c.searchNext()
}

// judge says whether the end is a cut or a wound, and lets the log go on there.
func (c *Recovery) judge() {
	l, at := c.l, c.rd.next
	if l.phase == phaseFailed { // meanwhile
		c.end(l.failed)
		return
	}
	if d := max(c.found, c.from.Durable); d > at.LSN {
		c.wound = fmt.Errorf("%w: the log ends after LSN %d (%w), and LSN %d was durable", ErrCorrupt, at.LSN, c.why, d)
	}
	l.head, l.life, l.epoch = at.Offset, at.Life, at.Epoch
	l.lives = max(c.lives, at.Life)
	l.appended, l.written = at.LSN, at.LSN
	l.phase = phaseNew
	if c.wound != nil {
		l.phase, l.failed = phaseFailed, bdev.StatusReadOnly
	}
	c.end(bdev.StatusOK)
}

func (c *Recovery) end(s bdev.Status) {
	if s != bdev.StatusOK {
		c.l.phase, c.l.failed = phaseFailed, s
	}
	c.rd.Close()
	c.request.Release()
	c.to.LogRecovered(c, s)
}
