package bdev

import "github.com/pollux-storage/pollux/internal/invariant"

// This file is what a channel does for drivers that cannot. It uses the request itself: a stage sets the request's fields to
// one thing that the queue can do and submits it; when that has ended, step begins the next stage. In the end the fields are
// as they were.
//
//	FUA on a write           writeFirst → flushLast
//	FUA on a read            flushFirst → the read
//	WriteZeroes              zero … zero (→ flushLast)
//	Compare                  compare … compare
//	CompareAndWrite          lock → swapCompare … → swapWrite … (→ flushLast) → unlock
//	Copy                     lock → copyRead → copyWrite … (→ flushLast) → unlock
//	memory aligned oddly     fill … fill for a read, drain … drain (→ flushLast) for a write
//
// A request that needs a buffer takes it before its first stage and keeps it to its end, and no request waits for another one
// that waits (see reserve.go), so nothing is ever refused for want of memory.
type stage uint8

const (
	stageNone stage = iota
	stageFlushFirst
	stageWriteFirst
	stageFlushLast
	stageZero
	stageCompare
	stageLock
	stageSwapCompare
	stageSwapWrite
	stageCopyRead
	stageCopyWrite
	stageFill
	stageDrain
)

// stepBytes is the most that a stage reads or writes at once.
const stepBytes = 128 << 10

// CopyStepBytes is the largest Copy that is one write of a driver that has no such operation. A larger one is seen by nobody in part while
// it runs, but a power failure may leave a part of it.
const CopyStepBytes = stepBytes

// emulation is what the stages of one request need besides its frame.
type emulation struct {
	next  *emulation // in the channel's list of spare ones
	data  [][]byte   // the request's own
	data2 [][]byte
	one   [1][]byte // the piece that the stage uses
	buf   []byte
	lock  *rangeLock
	done  uint64 // blocks
	now   uint64 // blocks of this stage
	abort Status // if not OK: end with it before the next stage
}

// emulate serves a request that the queue cannot take as it is.
func (c *Channel) emulate(q *Request, f *frame) {
	switch {
	case f.kind == Reset:
		c.reset(q)
	case f.kind == Flush: // nothing is volatile
		q.CompleteLater(StatusOK)
	case f.fua && c.g.Volatile && !f.kind.Writes():
		c.flush(q, f, stageFlushFirst)
	default:
		c.emulateData(q, f)
	}
}

// emulateData serves a request but for a flush before it.
func (c *Channel) emulateData(q *Request, f *frame) {
	if c.direct.Has(f.kind) && !f.oddly {
		if f.kind.Writes() {
			f.stage = stageWriteFirst
		}
		c.submit(q, f.kind, f.lba, f.blocks, q.Data)
		return
	}
	e := c.take()
	e.data, e.data2 = q.Data, q.Data2
	f.more = e
	switch f.kind {
	case WriteZeroes:
		f.stage = stageZero
		c.begins(q, f)
		return
	case CompareAndWrite, Copy:
		f.stage = stageLock
		c.lock(q, f)
		return
	case Compare:
		f.stage = stageCompare
	case Read:
		f.stage = stageFill
	case Write:
		f.stage = stageDrain
	default:
		invariant.Check(false, "bdev: a kind that is supported and has no emulation")
	}
	c.borrow(q, f)
}

// begins starts the steps of a request that has all it needs.
func (c *Channel) begins(q *Request, f *frame) {
	if c.next(q, f) {
		q.CompleteLater(q.Status)
	}
}

func (c *Channel) take() *emulation {
	e := c.spare
	if e == nil {
		return &emulation{}
	}
	c.spare = e.next
	return e
}

// submit gives the queue one step of the request.
func (c *Channel) submit(q *Request, k Kind, lba, blocks uint64, data [][]byte) {
	q.Kind, q.LBA, q.Blocks, q.Data, q.FUA = k, lba, blocks, data, false
	c.queue.Submit(q)
}

func (c *Channel) flush(q *Request, f *frame, s stage) {
	f.stage = s
	c.submit(q, Flush, 0, 0, q.Data)
}

// step takes the end of a stage. It reports whether the request has ended, with q.Status.
func (c *Channel) step(q *Request, f *frame) bool {
	e := f.more
	if q.Status != StatusOK {
		return c.endStages(q, f)
	}
	switch f.stage {
	case stageFlushFirst:
		f.stage = stageNone
		c.emulateData(q, f)
		return false
	case stageWriteFirst:
		return c.written(q, f)
	case stageFlushLast:
		return c.endStages(q, f)
	case stageCompare, stageSwapCompare:
		if at := miscompare(e.one[0], e.data, e.done<<c.g.Shift()); at >= 0 {
			q.Status, q.Detail = StatusMiscompare, uint32(at)
			return c.endStages(q, f)
		}
	case stageFill:
		scatter(e.data, e.done<<c.g.Shift(), e.one[0])
	case stageCopyRead:
		f.stage = stageCopyWrite
		at := f.lba + c.copyAt(f)
		if at+e.now > c.blocks {
			q.Status = StatusOutOfRange
			return c.endStages(q, f)
		}
		c.submit(q, Write, at, e.now, e.one[:])
		return false
	case stageCopyWrite:
		f.stage = stageCopyRead
	}
	e.done += e.now
	if e.done == f.blocks {
		if f.stage == stageSwapCompare {
			f.stage, e.done = stageSwapWrite, 0
		} else {
			return c.written(q, f)
		}
	}
	if e.abort != StatusOK {
		q.Status = e.abort
		return c.endStages(q, f)
	}
	return c.next(q, f)
}

// next begins the next stage of those that go on in steps. Like step it reports whether the request has ended.
func (c *Channel) next(q *Request, f *frame) bool {
	e, shift := f.more, c.g.Shift()
	buf := e.buf
	if f.stage == stageZero {
		buf = zeros[:min(uint64(len(zeros)), uint64(c.g.MaxBlocks)<<shift)]
	}
	e.now = min(f.blocks-e.done, uint64(len(buf))>>shift)
	e.one[0] = buf[:e.now<<shift]
	kind, from := Read, f.lba+e.done
	switch f.stage {
	case stageZero:
		kind = Write
	case stageDrain:
		kind = Write
		gather(e.one[0], e.data, e.done<<shift)
	case stageSwapWrite:
		kind = Write
		gather(e.one[0], e.data2, e.done<<shift)
	case stageCopyRead:
		from = f.lba2 + c.copyAt(f)
	}
	if from+e.now > c.blocks { // the device has shrunk below a long request
		q.Status = StatusOutOfRange
		return c.endStages(q, f)
	}
	c.submit(q, kind, from, e.now, e.one[:])
	return false
}

// copyAt is the offset in blocks of the present step of a Copy. One whose target begins inside its source goes backwards, so
// that it never reads what it has written.
func (c *Channel) copyAt(f *frame) uint64 {
	e := f.more
	if f.lba > f.lba2 && f.lba-f.lba2 < f.blocks {
		return f.blocks - e.done - e.now
	}
	return e.done
}

// written follows the last write: what has to be durable is flushed.
func (c *Channel) written(q *Request, f *frame) bool {
	if f.fua && c.g.Volatile && f.kind.Writes() {
		c.flush(q, f, stageFlushLast)
		return false
	}
	return c.endStages(q, f)
}

// endStages gives back what the stages took. It reports true, for its callers to return.
func (c *Channel) endStages(q *Request, f *frame) bool {
	f.stage = stageNone
	e := f.more
	if e == nil {
		return true
	}
	f.more = nil
	q.Data, q.Data2 = e.data, e.data2
	buf := e.buf
	if e.lock != nil {
		c.unlock(e.lock)
	}
	*e = emulation{next: c.spare}
	c.spare = e
	if buf != nil {
		c.giveBack(buf)
	}
	return true
}

// abortStage ends a request between two stages, where that leaves it undone or done in part as its kind allows.
func (c *Channel) abortStage(q *Request, f *frame, s Status) bool {
	e := f.more
	switch {
	case f.stage == stageLock: // the lock comes in its time, and is given back at once
		e.abort = s
		return true
	case f.held == holdMemory:
		c.forget(q)
		c.endStages(q, f)
		q.CompleteLater(s)
		return true
	case f.stage == stageWriteFirst:
		return c.aborter != nil && c.aborter.Abort(q)
	case f.stage == stageZero, f.stage == stageCopyRead, f.stage == stageCompare:
		if e.done+e.now < f.blocks {
			e.abort = s
			return true
		}
	}
	return false
}

// Decline gives the request back to its channel, when the queue finds that the medium cannot do this kind after all: from now
// on the channel emulates it. It is called in place of Complete.
func (q *Request) Decline() {
	f := q.Frame()
	c := f.c
	g := c.g
	g.Native &^= SetOf(f.kind)
	if !g.Supports(f.kind) {
		q.Complete(StatusNotSupported)
		return
	}
	c.setGeometry(g)
	f.stage = stageNone
	q.LBA, q.Blocks, q.LBA2, q.Kind, q.FUA = f.lba, f.blocks, f.lba2, f.kind, f.fua
	c.begin(q, f)
}
