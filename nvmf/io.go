package nvmf

import (
	"github.com/pollux-storage/pollux/bdev"
)

// This file is the I/O commands: how each is judged, and the requests that serve it. NVM Command Set Specification 1.0.

// dsmRangesMax is the number of ranges of a Dataset Management.
const dsmRangesMax = 256

// ioRule says what an I/O command needs.
type ioRule struct {
	offered bool
	kind    bdev.Kind // the request that it becomes, first
	blocks  bool      // it names SLBA and NLB
	data    bool      // and moves as many
	reserve bool      // it is about reservations, and not subject to them
	keys    uint32    // bytes of data that it must bring
}

var ioRules = [256]ioRule{
	IOFlush:             {offered: true, kind: bdev.Flush},
	IOWrite:             {offered: true, kind: bdev.Write, blocks: true, data: true},
	IORead:              {offered: true, kind: bdev.Read, blocks: true, data: true},
	IOCompare:           {offered: true, kind: bdev.Compare, blocks: true, data: true},
	IOWriteZeroes:       {offered: true, kind: bdev.WriteZeroes, blocks: true},
	IODatasetManagement: {offered: true, kind: bdev.Unmap},
	IOVerify:            {offered: true, kind: bdev.Read, blocks: true},
	IOCopy:              {offered: true, kind: bdev.Copy},

	IOReservationRegister: {offered: true, reserve: true, keys: ReservationKeysBytes},
	IOReservationAcquire:  {offered: true, reserve: true, keys: ReservationKeysBytes},
	IOReservationRelease:  {offered: true, reserve: true, keys: ReservationKeyBytes},
	IOReservationReport:   {offered: true, reserve: true},
}

// admitIO judges an I/O command before its data is asked for, in the order of TARGETS: what a host can never repeat with
// success, then its path, then its fields.
func (q *queue) admitIO(c *command, sgl Status) Status {
	q.heardOf(q.r.Now())
	rule := &ioRules[c.sqe.Opcode()]
	if !rule.offered {
		return StatusInvalidOpcode | DNR
	}
	id := c.sqe.NSID()
	if id == 0 || uint64(id) > uint64(len(q.ns)) {
		return StatusInvalidNamespace | DNR
	}
	n := &q.ns[id-1]
	if n.ns == nil {
		return StatusInvalidNamespace | DNR
	}
	if s := n.ana.Status(); !s.OK() {
		return s
	}
	g := n.ns.ch.Geometry()
	if !rule.reserve && (n.denyRead || n.denyWrite && (rule.kind.Writes() || rule.kind == bdev.Flush)) {
		return StatusReservationConflict
	}
	if (g.ReadOnly || n.protected) && c.modifies() {
		return StatusWriteProtected | DNR
	}
	if s := c.checkFuse(); !s.OK() {
		return s
	}
	if !sgl.OK() {
		return sgl
	}
	if c.place == DataInCapsule && c.transfer > q.limits.InCapsuleDataBytes {
		return StatusSGLLength | DNR // more than IOCCSZ lets an I/O command carry
	}
	if rule.blocks {
		if s := q.checkBlocks(c, rule, g); !s.OK() {
			return s
		}
	} else if c.transfer > q.limits.MaxIOBytes {
		return StatusInvalidField | DNR
	} else if rule.keys > c.transfer {
		return StatusSGLLength | DNR
	} else if rule.kind == bdev.Unmap && c.transfer < uint32(c.sqe.Ranges())*DSMRangeBytes {
		return StatusSGLLength | DNR
	} else if rule.kind == bdev.Copy {
		if s := c.admitCopy(); !s.OK() {
			return s
		}
	}
	c.ns = n.ns
	c.ns.enter()
	return StatusSuccess
}

// modifies reports whether the command may change blocks: a Dataset Management without AD is a hint.
func (c *command) modifies() bool {
	rule := &ioRules[c.sqe.Opcode()]
	return !rule.reserve && rule.kind.Writes() && (IOOpcode(c.sqe.Opcode()) != IODatasetManagement || c.sqe.AD())
}

// checkFuse refuses every fused command but the two of Compare and Write, and of them one that has come alone.
func (c *command) checkFuse() Status {
	o := IOOpcode(c.sqe.Opcode())
	switch f := c.sqe.Fuse(); {
	case f == FuseNone:
	case f == FuseFirst && o == IOCompare, f == FuseSecond && o == IOWrite:
		if c.pair == nil {
			return StatusFusedMissing | DNR
		}
	default:
		return StatusInvalidField | DNR
	}
	return StatusSuccess
}

func (q *queue) checkBlocks(c *command, rule *ioRule, g *bdev.Geometry) Status {
	lba, n := c.sqe.SLBA(), uint64(c.sqe.NLB())
	if lba >= g.Blocks || n > g.Blocks-lba {
		return StatusLBAOutOfRange | DNR
	}
	bytes := n << g.Shift()
	if !rule.data {
		// Identify says how much: WZSL, and VSL, which is MDTS.
		most := uint64(q.limits.MaxIOBytes)
		if rule.kind == bdev.WriteZeroes {
			most = q.sub.sub.o.zeroesMax()
		}
		if bytes > most {
			return StatusInvalidField | DNR
		}
		return StatusSuccess
	}
	if bytes > uint64(q.limits.MaxIOBytes) {
		return StatusInvalidField | DNR
	}
	if rule.kind != bdev.Read {
		if bytes != uint64(c.transfer) {
			return StatusSGLLength | DNR
		}
		return StatusSuccess
	}
	place, have, s := q.t.locate(c, 0)
	switch {
	case !s.OK():
		return s
	case place != DataTransfer || uint64(have) != bytes:
		return StatusSGLLength | DNR
	}
	c.send = uint32(bytes)
	return StatusSuccess
}

// io executes an I/O command.
func (q *queue) io(c *command) {
	if ioRules[c.sqe.Opcode()].reserve {
		q.reserveCommand(c)
		return
	}
	if q.ns[c.sqe.NSID()-1].protected && c.modifies() {
		q.respond(c, StatusWriteProtected|DNR) // since the command was admitted, while its data was on the way
		return
	}
	req := &c.req
	req.Kind, req.FUA = ioRules[c.sqe.Opcode()].kind, false
	switch IOOpcode(c.sqe.Opcode()) {
	case IORead:
		if c.data == nil && !q.lend(c, c.send) {
			return
		}
		c.blocks(req)
		// A read with FUA takes what is on the medium: nothing newer is anywhere else.
		req.FUA = false
		req.SetData(c.data)
	case IOWrite, IOCompare:
		c.blocks(req)
		req.SetData(c.data)
	case IOWriteZeroes:
		c.blocks(req)
		if g := c.ns.ch.Geometry(); c.sqe.DEAC() && g.UnmapZeroes && c.ns.ch.Supports(bdev.Unmap) {
			req.Kind = bdev.Unmap
		}
	case IODatasetManagement:
		c.nextRange()
		return
	case IOVerify:
		c.nextVerify()
		return
	case IOCopy:
		c.beginCopy()
		return
	case IOFlush:
	}
	c.ns.ch.Submit(req)
}

// blocks sets a request's range from the command's.
func (c *command) blocks(req *bdev.Request) {
	req.LBA, req.Blocks, req.FUA = c.sqe.SLBA(), uint64(c.sqe.NLB()), c.sqe.FUA()
}

// nextRange deallocates the next range of a Dataset Management. What is not a deallocation is a hint, and taken as one; so is
// a deallocation where the device has none.
func (c *command) nextRange() {
	g := c.ns.ch.Geometry()
	for n := c.sqe.Ranges(); c.sqe.AD() && c.step < n && c.ns.ch.Supports(bdev.Unmap); {
		r := DecodeDSMRange(c.data, c.step)
		c.step++
		if r.NLB == 0 {
			continue
		}
		if most := c.q.sub.sub.o.DMRSL; most > 0 && uint64(r.NLB) > most {
			c.q.respond(c, StatusInvalidField|DNR)
			return
		}
		if r.SLBA >= g.Blocks || uint64(r.NLB) > g.Blocks-r.SLBA {
			c.q.respond(c, StatusLBAOutOfRange|DNR)
			return
		}
		c.req.Kind, c.req.LBA, c.req.Blocks = bdev.Unmap, r.SLBA, uint64(r.NLB)
		c.ns.ch.Submit(&c.req)
		return
	}
	c.q.respond(c, StatusSuccess)
}

// nextVerify reads the next part of a Verify, to nowhere but a buffer of ours.
func (c *command) nextVerify() {
	g := c.ns.ch.Geometry()
	total := uint64(c.sqe.NLB())
	part := min(total-uint64(c.step), verifyBytes>>g.Shift())
	if part == 0 {
		c.q.respond(c, StatusSuccess)
		return
	}
	if c.data == nil && !c.q.lend(c, verifyBytes) {
		return
	}
	c.req.Kind, c.req.LBA, c.req.Blocks = bdev.Read, c.sqe.SLBA()+uint64(c.step), part
	c.req.SetData(c.data[:part<<g.Shift()])
	c.step += int(part)
	c.ns.ch.Submit(&c.req)
}

const verifyBytes = 128 << 10

// RequestDone takes the end of a command's request.
func (c *command) RequestDone(req *bdev.Request) {
	q := c.q
	if c.trace != nil {
		c.trace.served()
	}
	if c.pair != nil {
		c.pair.mark(TraceDevice)
		q.pairDone(c, req)
		return
	}
	s := StatusOf(req.Status, req.Kind)
	switch {
	case q.state >= queueClosing:
		q.release(c)
		return
	case c.ns.removed:
		s = StatusInvalidNamespace | DNR
	case req.Status != bdev.StatusOK:
		if req.Status == bdev.StatusMiscompare {
			c.dw0 = req.Detail
		}
	default:
		switch IOOpcode(c.sqe.Opcode()) {
		case IODatasetManagement:
			c.nextRange()
			return
		case IOVerify:
			c.nextVerify()
			return
		case IOCopy:
			c.nextCopy()
			return
		}
	}
	q.respond(c, s)
}
