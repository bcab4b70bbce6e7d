package initiator

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is a request of a device on its way: the commands that it becomes, one after another, and what their answers make
// of it. NVM Command Set Specification 1.0, "I/O Commands".
//
//	Read, Write, Compare, Flush   the command of that name
//	WriteZeroes                   Write Zeroes, as many as its limit needs
//	Unmap                         where the device promises zeros: Write Zeroes that may deallocate, which is the only command
//	                              that must leave zeros; else Dataset Management, which is a hint; then a Flush for FUA
//	Copy                          Copy of one source, as many as its limits need
//
// A request whose connection ended is sent again, as Linux does, if its commands are idempotent; see again. One that the target
// answered with a passing error is repeated too; see passing.

// request is a bdev.Request at the initiator. It belongs to the share that it was submitted to, and is lent to the one that
// serves it.
type request struct {
	q    *bdev.Request
	ns   *namespace
	home *share // where it was submitted, and is completed
	at   *share // where it is served; while that is not home only there it is looked at
	next *request

	index   int32  // in home's table
	seq     uint64 // the order in which they came to at
	queue   *queue // while a command is open
	command *command
	sent    bool   // a command of it was with a target, once
	done    uint64 // blocks that earlier commands have done
	part    uint64 // blocks of the open one
	flush   bool   // the open one is the Flush that ends it
	aborted bool
	retries uint32
	away    bool          // with another reactor; home's
	back    bool          // on its way home
	due     reactor.Ticks // to be repeated then

	status bdev.Status
	detail uint32

	list [nvmf.CopySourceBytes]byte // ranges of a Dataset Management or a Copy
	vec  [1][]byte
}

// ready makes x a new request.
func (x *request) ready(q *bdev.Request, ns *namespace) {
	x.q, x.ns = q, ns
	x.done, x.part, x.retries, x.detail = 0, 0, 0, 0
	x.sent, x.flush, x.aborted, x.away, x.back = false, false, false, false, false
}

// build describes the next command of the request.
func (x *request) build(c *command) {
	q, ns := x.q, x.ns
	rw := nvmf.RW{SLBA: q.LBA + x.done, FUA: x.durable()}
	x.part = q.Blocks - x.done
	kind := q.Kind
	if x.flush {
		kind = bdev.Flush
	}
	switch kind {
	case bdev.Read:
		x.transfer(c, nvmf.IORead, rw)
	case bdev.Write:
		x.transfer(c, nvmf.IOWrite, rw)
	case bdev.Compare:
		x.transfer(c, nvmf.IOCompare, rw)
	case bdev.Flush:
		c.sqe.Init(uint8(nvmf.IOFlush), 0, ns.id)
	case bdev.WriteZeroes:
		x.zeroes(c, rw)
	case bdev.Unmap:
		if rw.DEAC = ns.unmapZeroes; rw.DEAC {
			x.zeroes(c, rw)
			return
		}
		x.part = min(x.part, ns.unmapMax)
		c.sqe.Init(uint8(nvmf.IODatasetManagement), 0, ns.id)
		c.sqe.SetDSM(1, true)
		x.lendList(c, nvmf.DSMRange{NLB: uint32(x.part), SLBA: rw.SLBA}.AppendTo(x.list[:0]))
	case bdev.Copy:
		if q.LBA == q.LBA2 { // nothing is copied, and what is there may have to be made durable
			c.sqe.Init(uint8(nvmf.IOFlush), 0, ns.id)
			return
		}
		at := x.copyPart()
		c.sqe.Init(uint8(nvmf.IOCopy), 0, ns.id)
		c.sqe.SetCopy(q.LBA+at, 1, rw.FUA)
		x.lendList(c, nvmf.CopySource{SLBA: q.LBA2 + at, NLB: uint32(x.part)}.AppendTo(x.list[:0]))
	}
}

// copyPart chooses the next part of a Copy, and gives its offset. Source and destination of one command do not overlap: where those
// of the request do, it goes in parts as long as they are apart, and backwards if the destination is behind.
func (x *request) copyPart() (at uint64) {
	q := x.q
	x.part = min(x.part, x.ns.copyMax)
	switch {
	case q.LBA > q.LBA2 && q.LBA-q.LBA2 < q.Blocks:
		x.part = min(x.part, q.LBA-q.LBA2)
		return q.Blocks - x.done - x.part
	case q.LBA2 > q.LBA && q.LBA2-q.LBA < q.Blocks:
		x.part = min(x.part, q.LBA2-q.LBA)
	}
	return x.done
}

func (x *request) transfer(c *command, op nvmf.IOOpcode, rw nvmf.RW) {
	rw.NLB = uint32(x.part)
	c.sqe.Init(uint8(op), 0, x.ns.id)
	c.sqe.SetRW(rw)
	c.lend(x.q.Data, op == nvmf.IORead)
}

func (x *request) zeroes(c *command, rw nvmf.RW) {
	x.part = min(x.part, x.ns.zeroesMax)
	rw.NLB = uint32(x.part)
	c.sqe.Init(uint8(nvmf.IOWriteZeroes), 0, x.ns.id)
	c.sqe.SetRW(rw)
}

func (x *request) lendList(c *command, list []byte) {
	x.vec[0] = list
	c.lend(x.vec[:], false)
}

// more reports whether the request needs another command after the one that succeeded.
func (x *request) more() bool {
	switch {
	case x.flush:
		return false
	case x.done+x.part < x.q.Blocks && x.q.Kind != bdev.Flush:
		x.done += x.part
		return true
	}
	// Dataset Management knows no FUA.
	x.flush = x.q.Kind == bdev.Unmap && !x.ns.unmapZeroes && x.durable()
	return x.flush
}

// durable reports whether what the request writes must be durable when it ends.
func (x *request) durable() bool {
	return x.q.FUA || x.at.writeThrough && !x.ns.volatile && x.q.Kind.Writes()
}

// answered takes the answer to the request's command.
func (x *request) answered(cqe nvmf.CQE) {
	s, st := x.at, cqe.Status
	x.queue, x.command = nil, nil
	s.heard()
	switch {
	case x.aborted:
		s.end(x, bdev.StatusAborted)
	case st.OK() && x.more():
		s.again(x)
	case st.OK():
		s.end(x, bdev.StatusOK)
	case passing(st) && x.retries < s.retries:
		x.retries++
		s.repeat(x, st)
	default:
		s.end(x, x.judge(cqe))
	}
}

// judge says how the request ends whose command failed.
func (x *request) judge(cqe nvmf.CQE) bdev.Status {
	st := cqe.Status.DeviceStatus()
	switch {
	case st == bdev.StatusIO:
		x.detail = uint32(cqe.Status.Code())
	case st == bdev.StatusMiscompare && uint64(cqe.DW0) < x.q.Blocks<<x.ns.shift:
		// Not of the standard: our own target tells in DW0 where a Compare found the difference.
		x.detail = cqe.DW0
	}
	return st
}

// passing reports whether an error may be gone at the next try. Where DNR is clear Linux repeats whatever it was; these are the
// statuses that speak of the path or of the time, not of the command.
func passing(s nvmf.Status) bool {
	if s.DNR() {
		return false
	}
	switch s.Code() {
	case nvmf.StatusTransientTransport, nvmf.StatusDataTransfer, nvmf.StatusInterrupted, nvmf.StatusSQDeleted, nvmf.StatusAbortRequested,
		nvmf.StatusInternal, nvmf.StatusNamespaceNotReady, nvmf.StatusPathInternal, nvmf.StatusPathController,
		nvmf.StatusANAInaccessible, nvmf.StatusANATransition:
		return true
	}
	return false
}

// lost hears that the connection ended before the answer.
func (x *request) lost(sent bool) {
	s := x.at
	x.queue, x.command = nil, nil
	x.sent = x.sent || sent
	switch {
	case x.aborted:
		s.end(x, bdev.StatusAborted)
		return
	case !sent:
	case !x.again(), x.retries >= s.retries:
		s.end(x, bdev.StatusIO)
		return
	default:
		x.retries++
	}
	s.keep(x)
}

// again reports whether the request may be sent again when nobody knows whether the target carried it out. Everything that
// leaves the blocks as it would at the first time may, the owner not having heard of an end. A Copy may not, whose source may
// have been overwritten since by one who saw the copy's first result. Base Specification 2.1, "Command Retry".
func (x *request) again() bool {
	switch x.q.Kind {
	case bdev.Copy, bdev.CompareAndWrite:
		return false
	}
	return true
}

// Receive takes the request on a reactor: to be served there, or, on its way back, to be completed.
func (x *request) Receive(*reactor.Reactor) {
	if x.back {
		x.away = false
		x.home.finish(x)
		return
	}
	x.at.take(x)
}

// requestList is a list of requests.
type requestList struct {
	first, last *request
}

func (l *requestList) push(x *request) {
	x.next = nil
	if l.last == nil {
		l.first = x
	} else {
		l.last.next = x
	}
	l.last = x
}

func (l *requestList) pop() *request {
	x := l.first
	if x == nil {
		return nil
	}
	if l.first = x.next; l.first == nil {
		l.last = nil
	}
	x.next = nil
	return x
}

// insert adds x where its turn is.
func (l *requestList) insert(x *request) {
	if l.last == nil || l.last.seq < x.seq {
		l.push(x)
		return
	}
	p := &l.first
	for (*p).seq < x.seq {
		p = &(*p).next
	}
	x.next, *p = *p, x
}

// remove takes x out and reports whether it was there.
func (l *requestList) remove(x *request) bool {
	var before *request
	for p := l.first; p != nil; before, p = p, p.next {
		if p != x {
			continue
		}
		if before == nil {
			l.first = x.next
		} else {
			before.next = x.next
		}
		if l.last == x {
			l.last = before
		}
		x.next = nil
		return true
	}
	return false
}
