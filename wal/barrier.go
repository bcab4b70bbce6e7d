package wal

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// Barrier is the flush of one device, shared by all who need one: one is in flight, and who comes meanwhile joins the next. It lives
// on one reactor; others reach it by message. Nobody waits for more to come: what gathered during a flush is the next one.
//
// A flush that fails is the last: what the device was asked to keep may be gone from its cache, and a later flush would succeed without
// it, for whoever wrote it. So all who join from then on hear the same.
type Barrier struct {
	r        *reactor.Reactor
	channel  *bdev.Channel
	request  bdev.Request
	busy     bool
	volatile bool
	failed   bdev.Status // StatusOK while no flush has failed
	next     joinList    // for the next flush
	now      joinList    // in flight
	flushes  uint64
	later    reactor.Deferred
}

// Join is somebody's place in a flush. It is part of its owner and in one flush at most.
type Join struct {
	Done Flushed

	from   *reactor.Reactor
	b      *Barrier
	next   *Join
	status bdev.Status
	back   bool // on its way back to from
	in     bool
}

// Flushed hears that what was written before the Join is durable, or that the flush failed.
type Flushed interface {
	Flushed(j *Join, s bdev.Status)
}

type joinList struct{ head, tail *Join }

func (l *joinList) push(j *Join) {
	j.next = nil
	if l.tail == nil {
		l.head = j
	} else {
		l.tail.next = j
	}
	l.tail = j
}

// NewBarrier makes the barrier of a device. It runs on r; the channel is r's.
func NewBarrier(r *reactor.Reactor, c *bdev.Channel) *Barrier {
	b := &Barrier{r: r, channel: c, volatile: c.Geometry().Volatile}
	b.request.Kind, b.request.Done = bdev.Flush, b
	return b
}

// Flushes is the number of flushes begun. It is for the barrier's reactor.
func (b *Barrier) Flushes() uint64 { return b.flushes }

// Close gives back what the barrier holds of its reactor. Nothing is in flight.
func (b *Barrier) Close() {
	invariant.Check(!b.busy, "wal: closing a barrier during a flush")
	b.request.Release()
}

// Join lets j.Done hear when everything is durable whose write has completed by now. It runs on the reactor from.
func (b *Barrier) Join(from *reactor.Reactor, j *Join) {
	invariant.Check(!j.in, "wal: joins a flush twice")
	j.from, j.b, j.in, j.back = from, b, true, false
	if from == b.r {
		b.join(j)
		return
	}
	from.Send(b.r, j)
}

// Receive is the Join arriving at the barrier, or back.
func (j *Join) Receive(*reactor.Reactor) {
	if !j.back {
		j.b.join(j)
		return
	}
	j.in = false
	j.Done.Flushed(j, j.status)
}

func (b *Barrier) join(j *Join) {
	b.next.push(j)
	if !b.busy {
		b.r.AtFlush(&b.later, b) // at the end of the tick: who else comes in it joins
	}
}

// Run begins the next flush.
func (b *Barrier) Run() {
	if b.busy || b.next.head == nil {
		return
	}
	b.now, b.next = b.next, joinList{}
	if !b.volatile || b.failed != bdev.StatusOK {
		b.end(b.failed)
		return
	}
	b.busy = true
	b.flushes++
	b.channel.Submit(&b.request)
}

// RequestDone takes the end of a flush.
func (b *Barrier) RequestDone(q *bdev.Request) {
	b.busy, b.failed = false, q.Status
	b.end(q.Status)
	b.Run()
}

// end tells those whose flush it was.
func (b *Barrier) end(s bdev.Status) {
	for j := b.now.head; j != nil; {
		next := j.next
		j.next, j.status = nil, s
		if j.from == b.r {
			j.in = false
			j.Done.Flushed(j, s)
		} else {
			j.back = true
			b.r.Send(j.from, j)
		}
		j = next
	}
	b.now = joinList{}
}
