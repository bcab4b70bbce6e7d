package bdev

import (
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// Request is one request to a device. Its owner makes it once, when a queue opens, and uses it again and again.
//
//	kind              uses                               rule
//	Read              LBA Blocks Data FUA                Data is filled; with FUA from what is durable
//	Write             LBA Blocks Data FUA
//	Flush                                                writes completed before it are durable
//	Unmap             LBA Blocks FUA                     a hint, but for devices with UnmapZeroes
//	WriteZeroes       LBA Blocks FUA                     the blocks stay allocated where the medium knows the difference
//	Compare           LBA Blocks Data FUA                Miscompare gives the byte in Detail
//	CompareAndWrite   LBA Blocks Data Data2 FUA          atomic against all other requests of the device
//	Copy              LBA Blocks LBA2 FUA                from LBA2 to LBA; they may overlap
//	Extent            LBA Blocks                         Mapped says whether the first block is mapped, Alike how many are as it is, from it
//	                                                     on: at least one, and maybe fewer than there are
//	Reset                                                what is in flight on the channel is aborted or ends, then it
//	                                                     completes; what comes meanwhile waits
//
// Unmap, WriteZeroes, Copy and Extent may be as long as the device, the others MaxBlocks. A block is mapped that takes room, or of which it is not known;
// one that is not reads as zeros on devices with UnmapZeroes. A device that cannot tell does not serve Extent: all of it counts as mapped.
type Request struct {
	Kind   Kind
	FUA    bool   // durable before it completes
	LBA    uint64 // first block
	Blocks uint64
	LBA2   uint64   // Copy: the first source block
	Data   [][]byte // pieces whose lengths are multiples of the block size; page-aligned ones are never copied
	Data2  [][]byte // CompareAndWrite: what is written
	Done   Done     // hears the end
	Trace  *Trace   // not nil if somebody looks closely

	Status Status // the result
	Alike  uint64 // Extent: how many blocks are as the first
	Mapped bool   // Extent: that they are mapped
	Detail uint32 // Miscompare: byte offset of the first difference; IO: the NVMe status behind it, SCT<<8 | SC, if there is one

	one     [1][]byte
	r       *reactor.Reactor
	later   reactor.Deferred
	op      reactor.Op
	bound   *reactor.Reactor // where op is
	handler OpHandler
	next    *Request // in a list of whoever holds it
	top     int8
	frames  [layersMax]frame
}

// Done hears that a request has ended. It may submit the request again at once.
type Done interface {
	RequestDone(q *Request)
}

// OpHandler is a queue that uses the request's own ring operation.
type OpHandler interface {
	OpDone(q *Request, res int32)
}

// frame is what one layer keeps of a request while it is below.
type frame struct {
	c       *Channel
	at      reactor.Ticks // when it came
	lba     uint64
	blocks  uint64
	lba2    uint64
	kind    Kind
	fua     bool
	oddly   bool // its memory is not aligned as the device needs it
	stage   stage
	held    hold
	more    *emulation // what the stages need
	request *Request
	prev    *frame // the channel's frames in flight are a ring
	next    *frame
	Tag     uint64 // the queue's own
}

// hold says for what a request waits in its channel, before it begins.
type hold uint8

const (
	holdNone hold = iota
	holdMemory
	holdReset // from here on it has not passed the range locks
	holdLimits
	holdLock  // another's range lock
	holdGrant // its own
)

// SetData makes b the request's only piece of memory, without allocating.
func (q *Request) SetData(b []byte) {
	q.one[0] = b
	q.Data = q.one[:]
}

// Bytes is the number of bytes in Data.
func (q *Request) Bytes() int { return bytesOf(q.Data) }

// InFlight reports whether a device has it.
func (q *Request) InFlight() bool { return q.top > 0 }

// Reactor is where it was submitted.
func (q *Request) Reactor() *reactor.Reactor { return q.r }

// Frame gives the top layer's frame, which is that of the queue that has the request.
func (q *Request) Frame() *frame { return &q.frames[q.top-1] }

// Op gives the request's ring operation to the queue at the bottom of the stack; h hears its end.
func (q *Request) Op(h OpHandler) *reactor.Op {
	if !q.op.Bound() {
		q.r.Bind(&q.op, (*requestOp)(q))
		q.bound = q.r
	}
	invariant.Check(q.bound == q.r, "bdev: a request on another reactor than before, without Release")
	q.handler = h
	return &q.op
}

// requestOp keeps the ring's callback out of Request's own methods.
type requestOp Request

func (q *requestOp) OpDone(_ *reactor.Op, res int32, _ uint32) {
	q.handler.OpDone((*Request)(q), res)
}

// Release gives back what the request holds of its reactor. Its owner calls it there before dropping it.
func (q *Request) Release() {
	invariant.Check(!q.InFlight(), "bdev: releasing a request in flight")
	if q.op.Bound() {
		q.bound.Unbind(&q.op)
	}
}

// Complete ends the request at the layer that has it, and passes it up through those above. It is not called inside Submit.
func (q *Request) Complete(s Status) {
	q.Status = s
	for passed := false; q.top > 0; passed = true {
		f := &q.frames[q.top-1]
		if passed && f.c.finisher != nil && !f.c.finisher.Finish(q) {
			return
		}
		if f.stage != stageNone && !f.c.step(q, f) {
			return
		}
		f.c.end(q, f)
		q.top--
	}
	q.Done.RequestDone(q)
}

// CompleteLater ends the request in the same tick, but after the call that it is in. Submit uses it.
func (q *Request) CompleteLater(s Status) {
	q.Status = s
	q.r.Defer(&q.later, q)
}

// Run completes a request that was put off.
func (q *Request) Run() { q.Complete(q.Status) }

// RequestList is a first-in, first-out list of requests that a queue holds.
type RequestList struct {
	head, tail *Request
	n          int
}

// Push adds q.
func (l *RequestList) Push(q *Request) {
	q.next = nil
	if l.tail == nil {
		l.head = q
	} else {
		l.tail.next = q
	}
	l.tail = q
	l.n++
}

// Pop takes the first, nil if there is none.
func (l *RequestList) Pop() *Request {
	q := l.head
	if q == nil {
		return nil
	}
	l.head = q.next
	if l.head == nil {
		l.tail = nil
	}
	q.next = nil
	l.n--
	return q
}

// Remove takes q out and reports whether it was there.
func (l *RequestList) Remove(q *Request) bool {
	var before *Request
	for p := l.head; p != nil; before, p = p, p.next {
		if p != q {
			continue
		}
		if before == nil {
			l.head = q.next
		} else {
			before.next = q.next
		}
		if l.tail == q {
			l.tail = before
		}
		q.next = nil
		l.n--
		return true
	}
	return false
}

// Len is their number.
func (l *RequestList) Len() int { return l.n }

// First gives the first without taking it.
func (l *RequestList) First() *Request { return l.head }
