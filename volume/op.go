package volume

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is what a request takes inside a volume. All of it is made at open:
//
//	op        a request; while all are taken, requests wait in the order in which they came
//	part      one read or write of the pool's device; an op whose run needs one while all are taken goes on when one is back
//	segment   one record of an op, with its entry for the log and the CRCs of its blocks
//
// An op holds what it has while it waits for more, but parts and segments come back by themselves when the device or the log
// answers, and an op needs one at a time to go on; so everyone who waits is served.

// Numbers of what a volume has.
const (
	opsMax      = 512
	partsMax    = 512
	segmentsMax = 512
	partBlocks  = 64 // of one part: as many CRCs are kept for it
)

// op is one request on its way.
type op struct {
	v      *Volume
	q      *bdev.Request
	x      *crossing // nil if it came on the volume's own reactor
	tree   *mapTree  // the volume's, or a snapshot's
	next   *op       // in a list
	status bdev.Status

	block, end uint64 // internal blocks
	at         uint64 // the next of them to be looked at
	out        int    // parts and segments under way, and one while the op is being issued
	phase      uint8  // of the grace, for a read

	last   wal.LSN // of its records
	waiter wal.Waiter
	entry  foundEntry
	node   mapWaiter // waits for a page of the map
	opTimes
	ready reactor.Ticks // it may not pass the door before

	short bool // the pool has refused it a place
	blind bool // it found a page of the map that cannot be read
	partialOp
}

type opList struct {
	head, tail *op
	n          int
}

func (l *opList) push(o *op) {
	o.next = nil
	if l.tail == nil {
		l.head = o
	} else {
		l.tail.next = o
	}
	l.tail = o
	l.n++
}

// unpop puts an op back at the head.
func (l *opList) unpop(o *op) {
	if o.next = l.head; l.tail == nil {
		l.tail = o
	}
	l.head = o
	l.n++
}

func (l *opList) pop() *op {
	o := l.head
	if o == nil {
		return nil
	}
	if l.head = o.next; l.head == nil {
		l.tail = nil
	}
	o.next = nil
	l.n--
	return o
}

// part is one transfer between a request's memory and the pool's device.
type part struct {
	req   bdev.Request
	v     *Volume
	done  partDone
	own   bool // the volume's, not an op's
	next  *part
	vec   [][]byte
	n     int                // blocks
	check bool               // compare with crcs
	crcs  [partBlocks]uint32 // that the blocks should have
	later reactor.Deferred
}

// partDone hears that a part has ended.
type partDone interface {
	partEnd(p *part, s bdev.Status)
}

// takePart gives a part, nil if all are taken.
func (v *Volume) takePart() *part {
	p := v.parts
	if p == nil {
		return nil
	}
	v.parts = p.next
	p.next, p.vec, p.n, p.check = nil, p.vec[:0], 0, false
	return p
}

func (v *Volume) givePart(p *part) {
	clear(p.vec)
	list := &v.parts
	if p.own {
		list = &v.ownParts
	}
	p.done, p.next = nil, *list
	*list = p
}

// newPart gives a part for what the volume does by itself. They are made as often as were ever under way at once.
func (v *Volume) newPart() *part {
	p := v.ownParts
	if p == nil {
		p = &part{v: v, own: true}
		p.req.Done = p
	} else {
		v.ownParts = p.next
	}
	p.next, p.vec, p.n, p.check = nil, p.vec[:0], 0, false
	return p
}

// transfer starts a part: p.n blocks from a byte of a device on.
func (v *Volume) transfer(p *part, c *bdev.Channel, kind bdev.Kind, byteAt uint64) {
	shift := c.Geometry().Shift()
	if v.given {
		v.r.Defer(&p.later, p)
		return
	}
	p.req.Kind, p.req.LBA = kind, byteAt>>shift
	p.req.Blocks = uint64(p.n) * PageBytes >> shift
	p.req.Data = p.vec
	c.Submit(&p.req)
}

// Run ends a transfer that did not begin.
func (p *part) Run() { p.done.partEnd(p, bdev.StatusClosed) }

// RequestDone takes the end of a part's transfer, and checks what was read.
func (p *part) RequestDone(q *bdev.Request) {
	s := q.Status
	if s == bdev.StatusOK && p.check && !p.matches() {
		s = bdev.StatusCorrupt
	}
	p.done.partEnd(p, s)
}

// matches compares what was read with the CRCs.
func (p *part) matches() bool {
	i := 0
	for _, b := range p.vec {
		for ; len(b) > 0; b = b[PageBytes:] {
			if wal.PageCRC(b[:PageBytes]) != p.crcs[i] {
				return false
			}
			i++
		}
	}
	return true
}

// slice appends to dst the bytes from at to at+n of the pieces of vec.
func slice(dst, vec [][]byte, at, n int) [][]byte {
	for _, b := range vec {
		if at >= len(b) {
			at -= len(b)
			continue
		}
		k := min(n, len(b)-at)
		dst = append(dst, b[at:at+k])
		at = 0
		if n -= k; n == 0 {
			break
		}
	}
	return dst
}

// submit takes a request on the volume's reactor.
func (v *Volume) submit(q *bdev.Request, x *crossing, t *mapTree) {
	o := v.ops
	if o == nil || v.shut {
		v.waiting.push(queuedRequest{q, x, t, v.r.Now()})
		v.setShutTimer()
		return
	}
	v.ops = o.next
	v.begin(o, q, x, t)
}

// queuedRequest is a request that waits for an op.
type queuedRequest struct {
	q     *bdev.Request
	x     *crossing
	t     *mapTree
	since reactor.Ticks
}

// letWaiting begins those who wait, as long as there are ops.
func (v *Volume) letWaiting() {
	for v.waiting.n > 0 && v.ops != nil && !v.shut {
		e := v.waiting.pop()
		v.queuedAt = e.since
		v.submit(e.q, e.x, e.t)
	}
}

// requestRing is a first-in, first-out ring that grows to the most that ever waited.
type requestRing struct {
	buf  []queuedRequest
	head int
	n    int
}

func (r *requestRing) push(e queuedRequest) {
	if r.n == len(r.buf) {
		next := make([]queuedRequest, max(64, 2*len(r.buf)))
		for i := range r.n {
			next[i] = r.buf[(r.head+i)%len(r.buf)]
		}
		r.buf, r.head = next, 0
	}
	r.buf[(r.head+r.n)%len(r.buf)] = e
	r.n++
}

func (r *requestRing) first() *queuedRequest { return &r.buf[r.head] }

func (r *requestRing) pop() queuedRequest {
	e := r.buf[r.head]
	r.buf[r.head] = queuedRequest{}
	r.head = (r.head + 1) % len(r.buf)
	r.n--
	return e
}

// begin starts an op for a request.
func (v *Volume) begin(o *op, q *bdev.Request, x *crossing, t *mapTree) {
	o.q, o.x, o.tree, o.status, o.next = q, x, t, bdev.StatusOK, nil
	o.block, o.end = q.LBA, q.LBA+q.Blocks
	o.at, o.out, o.last, o.ready, o.short, o.blind = o.block, 1, 0, 0, false, false
	o.opTimes = opTimes{came: v.came()}
	if v.opsOut++; v.sub > 0 {
		o.partly()
	}
	s := v.gate(q.Kind)
	if v.torn && t == v.tree {
		s = bdev.StatusCorrupt
	}
	switch {
	case q.Kind == bdev.Read:
		o.phase = v.grace.enter()
		if o.fail(s); s == bdev.StatusOK {
			if o.odd {
				v.readOdd(o)
			} else {
				v.read(o)
			}
			return
		}
	case q.Kind == bdev.Extent:
		o.phase = v.grace.enter()
		if o.fail(s); s == bdev.StatusOK {
			v.extent(o)
			return
		}
	case s != bdev.StatusOK:
		o.fail(s)
	case q.Kind == bdev.Flush:
		if t == v.tree {
			o.last = v.acked // what is written and not acknowledged has a wait of its own, if it needs one
		}
	case v.sub > 0:
		v.claim(o)
		return
	default:
		v.admit(o)
		return
	}
	o.issued()
}

// issued is the end of issuing an op: if nothing of it is under way, it ends in this tick, but not inside the call that brought it.
func (o *op) issued() {
	if o.out--; o.out > 0 {
		return
	}
	v := o.v
	v.ending.push(o)
	v.r.AtFlush(&v.endLater, (*ender)(v))
}

// ender ends the ops that had nothing to wait for.
type ender Volume

// Run ends them.
func (e *ender) Run() {
	v := (*Volume)(e)
	for n := v.ending.n; n > 0; n-- {
		v.settle(v.ending.pop())
	}
}

// ended takes away one of the things that an op waits for; with the last one the op goes on.
func (o *op) ended(s bdev.Status) {
	o.fail(s)
	o.out--
	invariant.Check(o.out >= 0, "volume: an op ended more often than it began")
	if o.out == 0 {
		o.v.settle(o)
	}
}

// fail notes a status; the first one that is not OK stays.
func (o *op) fail(s bdev.Status) {
	if o.status == bdev.StatusOK {
		o.status = s
	}
}

// settle goes on with an op of which nothing is under way: a change waits until it is durable, if it must be.
func (v *Volume) settle(o *op) {
	if k := o.q.Kind; k == bdev.Read || k == bdev.Extent {
		if v.grace.leave(o.phase); o.bounce != nil {
			o.bounce.readEnd(o.status)
			return
		}
		v.finish(o)
		return
	}
	if o.claimed {
		v.unclaim(o)
	}
	if o.status != bdev.StatusOK || o.last == 0 || !v.awaits(o.q) {
		v.finish(o)
		return
	}
	v.log.AwaitDurable(&o.waiter, o.last)
}

// awaits says that a request ends when what it changed is durable; others when that is written.
func (v *Volume) awaits(q *bdev.Request) bool {
	return v.cache == CacheNone || q.FUA || q.Kind == bdev.Flush
}

// LogDurable hears that the op's records are durable.
func (o *op) LogDurable(_ *wal.Waiter, s bdev.Status) {
	o.fail(s)
	if o.v.stages.Hold(wal.StageAck, o) {
		return
	}
	o.Run()
}

// Run ends an op that was held before its acknowledgement. The gate is asked again: what was true at the door may have changed.
func (o *op) Run() {
	o.fail(o.v.stillServes(o.q.Kind))
	o.v.finish(o)
}

// finish gives the op's request back, and the op to whoever waits for one.
func (v *Volume) finish(o *op) {
	q, x, s := o.q, o.x, o.status
	v.served(o)
	if q.Trace != nil {
		v.traced(o)
	}
	v.acked = max(v.acked, o.last)
	o.q, o.x = nil, nil
	o.next = v.ops
	v.ops = o
	v.opsOut--
	v.answer(q, x, s)
	v.letWaiting()
	if v.opsOut == 0 {
		v.drained()
	}
	v.checkIdle()
}

// answer ends a request, on the reactor that it came from.
func (v *Volume) answer(q *bdev.Request, x *crossing, s bdev.Status) {
	if x == nil {
		q.Complete(s)
		return
	}
	x.status, x.detail, x.back = s, q.Detail, true
	v.r.Send(x.d.r, x)
}
