package nvmf

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the fused pair Compare and Write: two commands in adjacent entries of a queue that are carried out as one. Base
// Specification 2.0, "Fused Operations"; NVM Command Set Specification 1.0, "Fused Operation".
//
// A pair's states, in order: half (the Compare has come and waits for the entry after it; data in its capsule is taken, nothing else
// is asked for or judged) → joined (both are judged, one after the other) → fetching (until both have their data) → executing (one
// request, CompareAndWrite, that of the Compare) → both answered, the Compare first.
//
// A half that is at fault says why; the other ends as Failed Fused Command. A half whose other does not come in the next entry
// ends as Missing Fused Command. Neither can be repeated alone, so both carry DNR.
//
// A half holds no namespace, so that one can be removed whatever the host does, and of memory its capsule's data at most. Pairs whose
// data the host is asked for get memory for both halves at once: two pairs that hold a half each could wait for each other for ever.
// For the same reason both halves have their data in the same place: in their capsules, or both not.

// fusedBytesMax bounds a pair's range, unless MDTS or the device does.
const fusedBytesMax = 64 << 10

// acwu is the largest range of a pair on every namespace that the controller has, in blocks: ACWU + 1. NVM Command Set Specification
// 1.0, "Atomic Operations": no namespace has less.
func (k *controller) acwu() uint32 {
	least := min(fusedBytesMax, k.limitBytes()) >> 12 // blocks are never larger
	for i := range k.aq.ns {
		if n := k.aq.ns[i].ns; n != nil {
			least = min(least, k.limits.fusedBlocks(n.ch.Geometry()))
		}
	}
	return least
}

// halves reports whether a command begins a pair.
func (q *queue) halves(c *command) bool {
	return q.id > 0 && q.state == queueLive && IOOpcode(c.sqe.Opcode()) == IOCompare && c.sqe.Fuse() == FuseFirst
}

// keepHalf keeps the first command of a pair until the second has come. Like start it says whether the data in its capsule is wanted.
func (q *queue) keepHalf(c *command, carried uint32) (wanted bool) {
	c.place, c.transfer, c.status = q.t.locate(c, carried)
	q.half = c
	return c.place == DataInCapsule
}

// missed ends the first command of a pair whose second has not come in the next entry.
func (q *queue) missed() {
	c := q.half
	q.half = nil
	q.respond(c, StatusFusedMissing|DNR)
}

// join takes the second command of a pair. Like start it says whether the data in its capsule is wanted.
func (q *queue) join(second *command, carried uint32, conflict bool) (wanted bool) {
	first := q.half
	q.half = nil
	first.pair, second.pair = second, first
	sgl := first.status
	first.status = StatusSuccess
	if conflict {
		q.endPair(first, StatusFusedFailed|DNR, StatusCIDConflict)
		return false
	}
	if s := q.admit(first, sgl); !s.OK() {
		q.endPair(first, s, StatusFusedFailed|DNR)
		return false
	}
	second.place, second.transfer, sgl = q.t.locate(second, carried)
	if s := q.admit(second, sgl); !s.OK() {
		q.endPair(first, StatusFusedFailed|DNR, s)
		return false
	}
	if !first.pairs(second) {
		q.endPair(first, StatusInvalidField|DNR, StatusFusedFailed|DNR)
		return false
	}
	first.admitted()
	second.admitted()
	if first.place == DataTransfer {
		first.Run()
		return false
	}
	invariant.Check(first.arrived, "nvmf: the second of a pair came before the data of the first")
	if first.spoilt {
		q.endPair(first, StatusTransientTransport, StatusFusedFailed|DNR)
		return false
	}
	return true
}

// pairs reports whether two commands that were judged may be one operation. NVM Command Set Specification 1.0, "Fused Operation": the
// ranges are the same; "Identify Controller", ACWU: a larger one is an Invalid Field.
func (c *command) pairs(o *command) bool {
	return c.sqe.NSID() == o.sqe.NSID() && c.sqe.SLBA() == o.sqe.SLBA() && c.sqe.NLB() == o.sqe.NLB() && c.place == o.place &&
		c.sqe.NLB() <= c.q.limits.fusedBlocks(c.ns.ch.Geometry())
}

// fetchBytes is the memory that a command needs for data that the host is asked for: for a pair that of both halves, each beginning
// at a page.
func (c *command) fetchBytes() uint32 {
	if c.pair == nil {
		return c.transfer
	}
	return c.secondAt() + c.transfer
}

func (c *command) secondAt() uint32 {
	return (c.transfer + reactor.PageBytes - 1) &^ (reactor.PageBytes - 1)
}

// sharePair gives each half its part of the first's memory, which the first gives back.
func (c *command) sharePair() {
	b, at := c.data, c.secondAt()
	c.data = b[:c.transfer]
	c.pair.data = b[at : at+c.transfer]
}

// halfFetched hears that the data of a half is there, of which the second may not have come. When both halves have theirs, the pair is
// carried out.
func (q *queue) halfFetched(c *command, ok bool) {
	c.arrived, c.spoilt = true, !ok
	if c == q.half {
		if c.aborted {
			q.half = nil
			q.respond(c, StatusAbortRequested)
		}
		return
	}
	first := c.firstOfPair()
	second := first.pair
	switch {
	case !first.arrived || !second.arrived:
	case first.spoilt:
		q.endPair(first, StatusTransientTransport, StatusFusedFailed|DNR)
	case second.spoilt:
		q.endPair(first, StatusFusedFailed|DNR, StatusTransientTransport)
	case first.aborted || second.aborted:
		q.abortPair(first)
	case q.ns[first.sqe.NSID()-1].protected: // since the pair was admitted
		q.endPair(first, StatusFusedFailed|DNR, StatusWriteProtected|DNR)
	default:
		first.state, second.state = commandExecuting, commandExecuting
		first.compareAndWrite()
	}
}

func (c *command) firstOfPair() *command {
	if c.sqe.Fuse() == FuseFirst {
		return c
	}
	return c.pair
}

// compareAndWrite carries out a pair. It is durable if the Write is to be; the Compare reads what there is, and nothing newer is anywhere
// else.
func (c *command) compareAndWrite() {
	req, second := &c.req, c.pair
	c.blocks(req)
	req.Kind, req.FUA = bdev.CompareAndWrite, second.sqe.FUA()
	req.SetData(c.data)
	second.req.SetData(second.data)
	req.Data2 = second.req.Data
	c.ns.ch.Submit(req)
}

// pairDone takes the end of a pair's request. Nobody knows which half of it failed, but for a miscompare.
func (q *queue) pairDone(first *command, req *bdev.Request) {
	s := StatusOf(req.Status, req.Kind)
	req.Data2 = nil
	switch {
	case q.state >= queueClosing:
		second := first.pair
		q.release(first)
		q.release(second)
	case first.ns.removed:
		q.endPair(first, StatusInvalidNamespace|DNR, StatusFusedFailed|DNR)
	case req.Status == bdev.StatusOK:
		q.endPair(first, StatusSuccess, StatusSuccess)
	case req.Status == bdev.StatusAborted:
		q.abortPair(first)
	default:
		if req.Status == bdev.StatusMiscompare {
			first.dw0 = req.Detail
		}
		q.endPair(first, s, StatusFusedFailed|DNR)
	}
}

// abortPair answers a pair of which a half was to be aborted: that half ends as it was asked, and the other for it.
func (q *queue) abortPair(first *command) {
	if first.pair.aborted && !first.aborted {
		q.endPair(first, StatusFusedFailed|DNR, StatusAbortRequested)
		return
	}
	q.endPair(first, StatusAbortRequested, StatusFusedFailed|DNR)
}

// abortHalf ends a half, or the pair that it belongs to, if that still can be done.
func (q *queue) abortHalf(c *command) bool {
	if c == q.half {
		if c.place == DataInCapsule && !c.arrived {
			c.aborted = true
			return true
		}
		q.half = nil
		q.respond(c, StatusAbortRequested)
		return true
	}
	first := c.firstOfPair()
	was := c.aborted
	c.aborted = true
	switch {
	case c.state == commandExecuting:
		if !first.ns.ch.Abort(&first.req) {
			c.aborted = was
			return false
		}
	case q.memory.Forget(&first.loan): // no data was asked for
		q.abortPair(first)
	}
	return true
}

// endPair answers both halves.
func (q *queue) endPair(first *command, s, t Status) {
	second := first.pair
	first.pair, second.pair = nil, nil
	q.respond(first, s)
	q.respond(second, t)
}
