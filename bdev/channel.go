package bdev

import (
	"unsafe"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// Channel is a device on one reactor: the door at which every request is checked and counted. It is shared by all who opened
// the device there.
//
// A request passes: check → gate, if any is shut → begin (to the queue, or into the stages of an emulation) → end.
type Channel struct {
	d        *Device
	r        *reactor.Reactor
	queue    Queue
	finisher Finisher // queue, if it is one
	aborter  Aborter  // queue, if it is one
	refs     int

	g         Geometry
	blocks    uint64  // g.Blocks, as the checks want it
	align     uintptr // g.MemoryAlign-1
	direct    KindSet // goes to the queue as it is
	directFUA KindSet // goes there with FUA set

	gates    gates
	inFlight int
	flight   frame // the ring of frames in flight begins and ends here

	resets RequestList // wait until only they are in flight
	behind RequestList // wait for the resets
	locked RequestList // wait for another's range lock
	spare  *emulation
	stats  Stats

	histogram *histogram // nil without one
}

// gates are the reasons for which a request may have to wait or be refused. As long as none is shut they cost one branch.
type gates uint8

const (
	gateRemoved gates = 1 << iota
	gateReset
	gateLimits
	gateLock
)

func newChannel(d *Device, r *reactor.Reactor, q Queue, g Geometry) *Channel {
	c := &Channel{d: d, r: r, queue: q, refs: 1}
	c.finisher, _ = q.(Finisher)
	c.aborter, _ = q.(Aborter)
	c.flight.next, c.flight.prev = &c.flight, &c.flight
	c.setGeometry(g)
	h := &d.here[r.Index()]
	if h.removed {
		c.gates |= gateRemoved
	}
	if len(h.locks) > 0 {
		c.gates |= gateLock
	}
	if h.payer != nil {
		c.gates |= gateLimits
	}
	c.histogram = h.histogram
	return c
}

func (c *Channel) setGeometry(g Geometry) {
	c.g, c.blocks, c.align = g, g.Blocks, uintptr(g.MemoryAlign-1)
	c.direct = g.Native &^ SetOf(Reset)
	c.directFUA = c.direct
	if g.Volatile {
		c.directFUA &= g.NativeFUA | SetOf(Flush)
	}
}

// Device is what the channel belongs to.
func (c *Channel) Device() *Device { return c.d }

// Geometry is the device's shape as this reactor sees it. It is lent until the next tick.
func (c *Channel) Geometry() *Geometry { return &c.g }

// InFlight is the number of requests that came and did not end.
func (c *Channel) InFlight() int { return c.inFlight }

// Supports reports whether requests of kind k are served, natively or by emulation.
func (c *Channel) Supports(k Kind) bool { return c.g.Supports(k) }

// Submit takes a request; see the package's invariants.
func (c *Channel) Submit(q *Request) {
	invariant.Check(q.top < layersMax, "bdev: more layers than a request has frames")
	f := &q.frames[q.top]
	q.top++
	q.r, q.Detail = c.r, 0
	f.c, f.request, f.at = c, q, c.r.Now()
	f.lba, f.blocks, f.lba2, f.kind, f.fua = q.LBA, q.Blocks, q.LBA2, q.Kind, q.FUA
	f.oddly, f.stage, f.held, f.Tag = false, stageNone, holdNone, 0
	f.prev, f.next = c.flight.prev, &c.flight
	f.prev.next, c.flight.prev = f, f
	c.inFlight++
	c.stats.depth(c.inFlight)
	if q.Trace != nil {
		q.Trace.enter(int(q.top)-1, c)
	}
	if s := c.check(q, f); s != StatusOK {
		q.CompleteLater(s)
		return
	}
	if c.gates != 0 && c.gate(q, f) {
		return
	}
	c.begin(q, f)
}

// begin hands a request that may go on to the queue, or to the emulation of what the queue lacks.
func (c *Channel) begin(q *Request, f *frame) {
	direct := c.direct
	if f.fua {
		direct = c.directFUA
	}
	if direct.Has(f.kind) && !f.oddly {
		c.queue.Submit(q)
		return
	}
	c.emulate(q, f)
}

// check judges a request by the geometry, in the order in which a host would want to hear: ability, range, memory.
func (c *Channel) check(q *Request, f *frame) Status {
	if !c.g.Native.Has(q.Kind) && !c.g.Supports(q.Kind) {
		return StatusNotSupported
	}
	if q.Kind.Writes() && c.g.ReadOnly {
		return StatusReadOnly
	}
	switch q.Kind {
	case Flush, Reset:
		q.LBA, q.Blocks = 0, 0 // whatever they were, they mean nothing
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
		if s := c.checkData(q, f, q.Data2); s != StatusOK {
			return s
		}
		fallthrough
	case Read, Write, Compare:
		return c.checkData(q, f, q.Data)
	}
	return StatusOK
}

func (c *Channel) checkData(q *Request, f *frame, vec [][]byte) Status {
	if q.Blocks > uint64(c.g.MaxBlocks) {
		return StatusTooLarge
	}
	n, lengths, addresses := 0, 0, uintptr(0)
	for _, b := range vec {
		n += len(b)
		lengths |= len(b)
		addresses |= uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	}
	if lengths&(int(c.g.BlockSize)-1) != 0 || uint64(n) != q.Blocks<<c.g.Shift() {
		return StatusMisaligned
	}
	if addresses&c.align != 0 {
		f.oddly = true
	}
	return StatusOK
}

// gate takes a request that may not begin now, and reports whether it did.
func (c *Channel) gate(q *Request, f *frame) bool {
	switch {
	case c.gates&gateRemoved != 0:
		q.CompleteLater(StatusGone)
	case c.gates&gateReset != 0 && f.kind != Reset:
		f.held = holdReset
		c.behind.Push(q)
	default:
		return c.gateLimits(q, f) || c.gateLock(q, f)
	}
	return true
}

// end takes a request out on its way up: it counts it and restores what the layer below may have changed.
func (c *Channel) end(q *Request, f *frame) {
	q.LBA, q.Blocks, q.LBA2, q.Kind, q.FUA = f.lba, f.blocks, f.lba2, f.kind, f.fua
	f.prev.next, f.next.prev = f.next, f.prev
	c.inFlight--
	c.stats.count(q, c.r.Now()-f.at, c.g.Shift())
	if c.histogram != nil {
		c.histogram.count(q.Kind, c.r.Now()-f.at)
	}
	if q.Trace != nil {
		q.Trace.leave(int(q.top) - 1)
	}
	if c.gates&(gateLock|gateReset) != 0 {
		c.endGated(f)
	}
}

// endGated tells those who wait for the end of others.
func (c *Channel) endGated(f *frame) {
	if c.gates&gateLock != 0 {
		c.endLocked(f)
	}
	if c.gates&gateReset != 0 {
		c.endResets()
	}
}

// Abort ends q early if the device can, and reports whether it will complete as Aborted because of it.
func (c *Channel) Abort(q *Request) bool {
	if !q.InFlight() || q.later.Queued() {
		return false
	}
	f := q.Frame()
	return f.c.abort(q, f, StatusAborted)
}

// abort ends with s a request that waits in this channel or that the queue still holds.
func (c *Channel) abort(q *Request, f *frame, s Status) bool {
	switch f.held {
	case holdReset:
		c.behind.Remove(q)
	case holdLimits:
		c.d.here[c.r.Index()].payer.cancel(c, q)
	case holdLock:
		c.locked.Remove(q)
	case holdNone, holdMemory, holdGrant:
		if f.stage != stageNone {
			return c.abortStage(q, f, s)
		}
		return c.aborter != nil && c.aborter.Abort(q)
	}
	q.CompleteLater(s)
	return true
}

// fail refuses all requests from now on, and ends those that wait.
func (c *Channel) fail() {
	c.gates |= gateRemoved
	for f := c.flight.next; f != &c.flight; f = f.next {
		if q := f.request; !q.later.Queued() {
			top := q.Frame()
			top.c.abort(q, top, StatusGone)
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
	c.d.here[c.r.Index()].channel = nil
	c.d.retire(c)
}

// Stats gives the counters of this channel alone. It is for its reactor.
func (c *Channel) Stats() *Stats { return &c.stats }
