package bdev

import (
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// Channel is a device on one reactor: the door at which every request is checked and counted. It is shared by all who opened
// the device there.
type Channel struct {
	d        *Device
	r        *reactor.Reactor
	queue    Queue
	finisher Finisher // queue, if it is one
	refs     int

	g        Geometry
	blocks   uint64 // g.Blocks, as the checks want it
	inFlight int
	removed  bool

	resets RequestList // wait for inFlight to fall to their own number
	stats  Stats
}

func newChannel(d *Device, r *reactor.Reactor, q Queue, g Geometry) *Channel {
	c := &Channel{d: d, r: r, queue: q, refs: 1, g: g, blocks: g.Blocks}
	c.finisher, _ = q.(Finisher)
	return c
}

// Device is what the channel belongs to.
func (c *Channel) Device() *Device { return c.d }

// Geometry is the device's shape as this reactor sees it. It is lent until the next tick.
func (c *Channel) Geometry() *Geometry { return &c.g }

// InFlight is the number of requests that came and did not end.
func (c *Channel) InFlight() int { return c.inFlight }

// Supports reports whether requests of kind k are served, natively or by emulation.
func (c *Channel) Supports(k Kind) bool {
	return c.g.Native.Has(k) || emulated(&c.g, k)
}

// Submit takes a request; see the package's invariants.
func (c *Channel) Submit(q *Request) {
	invariant.Check(q.top < layersMax, "bdev: more layers than a request has frames")
	q.r = c.r
	f := &q.frames[q.top]
	q.top++
	*f = frame{c: c, at: c.r.Now(), lba: q.LBA, blocks: q.Blocks, lba2: q.LBA2, kind: q.Kind, fua: q.FUA}
	c.inFlight++
	c.stats.depth(c.inFlight)
	if s := c.check(q); s != StatusOK {
		f.finished = true
		q.CompleteLater(s)
		return
	}
	switch {
	case q.Kind == Reset:
		c.resets.Push(q)
		c.resetIfIdle()
	case !c.g.Native.Has(q.Kind), q.FUA && !c.g.NativeFUA && q.Kind.Writes():
		f.finished = true
		c.emulate(q)
	default:
		c.queue.Submit(q)
	}
}

// Abort ends q early if the device can, and reports whether it will complete as Aborted because of it.
func (c *Channel) Abort(q *Request) bool {
	if !q.InFlight() {
		return false
	}
	a, ok := q.frames[q.top-1].c.queue.(Aborter)
	return ok && a.Abort(q)
}

// check judges a request by the geometry, in the order in which a host would want to hear: ability, range, memory.
func (c *Channel) check(q *Request) Status {
	if c.removed {
		return StatusGone
	}
	if !c.g.Native.Has(q.Kind) && !emulated(&c.g, q.Kind) {
		return StatusNotSupported
	}
	if q.Kind.Writes() && c.g.ReadOnly {
		return StatusReadOnly
	}
	switch q.Kind {
	case Flush, Reset:
		return StatusOK
	case Copy:
		if q.LBA2 > c.blocks || q.Blocks > c.blocks-q.LBA2 {
			return StatusOutOfRange
		}
	}
	if q.Blocks == 0 {
		return StatusMisaligned
	}
	if q.LBA > c.blocks || q.Blocks > c.blocks-q.LBA {
		return StatusOutOfRange
	}
	switch q.Kind {
	case CompareAndWrite:
		if s := c.checkData(q, q.Data2); s != StatusOK {
			return s
		}
		fallthrough
	case Read, Write, Compare:
		return c.checkData(q, q.Data)
	}
	return StatusOK
}

func (c *Channel) checkData(q *Request, vec [][]byte) Status {
	if q.Blocks > uint64(c.g.MaxBlocks) {
		return StatusTooLarge
	}
	n := 0
	for _, b := range vec {
		if len(b)&(int(c.g.BlockSize)-1) != 0 {
			return StatusMisaligned
		}
		n += len(b)
	}
	if uint64(n) != q.Blocks<<c.g.Shift() {
		return StatusMisaligned
	}
	return StatusOK
}

// returns takes a request back on its way up: it counts it and restores what the layer below may have changed.
func (c *Channel) returns(q *Request, f *frame) bool {
	q.LBA, q.Blocks, q.LBA2, q.Kind, q.FUA = f.lba, f.blocks, f.lba2, f.kind, f.fua
	c.stats.count(q, c.r.Now()-f.at)
	c.inFlight--
	if c.resets.n > 0 {
		c.resetIfIdle()
	}
	return true
}

// resetIfIdle completes the resets when only they are in flight.
func (c *Channel) resetIfIdle() {
	if c.inFlight > c.resets.n {
		return
	}
	for q := c.resets.Pop(); q != nil; q = c.resets.Pop() {
		if !q.later.Queued() {
			q.CompleteLater(StatusOK)
		}
	}
}

// Close gives the channel back; the last one to do so ends it.
func (c *Channel) Close() {
	c.refs--
	invariant.Check(c.refs >= 0, "bdev: channel closed more often than opened")
	if c.refs > 0 {
		return
	}
	invariant.Check(c.inFlight == 0, "bdev: channel closed with requests in flight")
	c.queue.Close()
	c.d.channels[c.r.Index()] = nil
	c.d.retire(c)
}

// Stats gives the counters of this channel alone. It is for its reactor.
func (c *Channel) Stats() *Stats { return &c.stats }
