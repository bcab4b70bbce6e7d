package iscsi

import (
	"encoding/binary"
	"slices"

	"github.com/pollux-storage/pollux/bdev"
)

// This file is how the segments of an EXTENDED COPY are copied, one after the other (copy.go has judged them). Within a device that is one request of it.
// From one device to another it is reads and writes of pieces, through memory that the unit which has the command has once on each reactor; what
// is zeros is not written but zeroed, so that a thin unit stays thin.
//
// The command counts at every unit that it copies from or to, so that none is closed while it goes on.

// copyPieceBytes is what is read and written at once.
const copyPieceBytes = 256 << 10

// copyShare is that memory.
type copyShare struct {
	turns
	buf []byte
}

// copying is a copy under way.
type copying struct {
	units [copyTargetsMax]*nexusUnit // that the list names

	src, dst       *nexusUnit // of the segment under way
	from, to, left uint64     // bytes of it: where it goes on
	now            uint64     // of them, under way
	bytes          uint64     // copied
	held           bool       // it has the memory
	stopped        bool       // no more is copied
}

// begin counts the command at its units.
func (k *copying) begin() {
	for _, u := range k.units {
		if u != nil {
			u.here.enter()
		}
	}
}

// uses reports whether the command is one of a unit, or copies from it or to it.
func (c *command) uses(u *Unit) bool {
	is := func(n *nexusUnit) bool { return n != nil && n.unit == u }
	return is(c.unit) || c.copying != nil && slices.ContainsFunc(c.copying.units[:], is)
}

// copyNext goes on, after a request or with the next segment. Each piece is judged again: who lost the right to it meanwhile copies no more.
func (c *command) copyNext() {
	q, k := &c.req, c.copying
	switch {
	case k.stopped:
		c.endAborted()
		return
	case k.now == 0:
	case q.Kind == bdev.Read:
		c.copyWrite()
		return
	default:
		k.from, k.to, k.left, k.bytes, k.now = k.from+k.now, k.to+k.now, k.left-k.now, k.bytes+k.now, 0
	}
	for k.left == 0 {
		if int(c.step) == c.copySegments() {
			c.copyEnd(false)
			c.port.end()
			return
		}
		s := c.copySegment(int(c.step))
		c.step++
		k.src, k.dst = k.units[binary.BigEndian.Uint16(s[4:])], k.units[binary.BigEndian.Uint16(s[6:])]
		k.from, k.to, k.left = k.segmentBytes(s)
	}
	if !c.mayCopy(k.src, k.dst) {
		c.copyEnd(true)
		c.port.end()
		return
	}
	if k.src.ch == k.dst.ch {
		k.now = k.left
		q.Kind, q.LBA2 = bdev.Copy, k.from>>k.src.ch.Geometry().Shift()
		k.submitTo(c)
		return
	}
	if k.held = k.held || c.unit.here.copying.take(c); k.held {
		c.copyRead()
	}
}

// segmentBytes is what a segment copies, in bytes. SPC-4, "Block device to block device operations": DC says whose blocks are counted.
func (k *copying) segmentBytes(s []byte) (from, to, n uint64) {
	from, to, n = segmentRange(s)
	src, dst := k.units[binary.BigEndian.Uint16(s[4:])].ch.Geometry().Shift(), k.units[binary.BigEndian.Uint16(s[6:])].ch.Geometry().Shift()
	if s[1]&0x02 != 0 { // DC
		return from << src, to << dst, n << dst
	}
	return from << src, to << dst, n << src
}

// copyRead reads the next piece. The command has the memory.
func (c *command) copyRead() {
	q, k, w := &c.req, c.copying, &c.unit.here.copying
	if w.buf == nil {
		w.buf = make([]byte, copyPieceBytes)
	}
	g, d := k.src.ch.Geometry(), k.dst.ch.Geometry()
	k.now = min(k.left, copyPieceBytes, uint64(g.MaxBlocks)<<g.Shift(), uint64(d.MaxBlocks)<<d.Shift())
	if k.now < k.left {
		k.now &^= uint64(max(g.BlockSize, d.BlockSize)) - 1
	}
	q.Kind, q.LBA, q.Blocks, q.FUA = bdev.Read, k.from>>g.Shift(), k.now>>g.Shift(), false
	q.SetData(w.buf[:k.now])
	k.src.ch.Submit(q)
}

// copyWrite writes what was read.
func (c *command) copyWrite() {
	q, k := &c.req, c.copying
	q.Kind = bdev.Write
	if allZero(c.unit.here.copying.buf[:k.now]) {
		q.Kind = bdev.WriteZeroes
	}
	k.submitTo(c)
}

// submitTo submits what changes the unit that is copied to.
func (k *copying) submitTo(c *command) {
	g := k.dst.ch.Geometry()
	c.req.LBA, c.req.Blocks, c.req.FUA = k.to>>g.Shift(), k.now>>g.Shift(), k.dst.unit.modes.has(modeWriteThrough)
	k.dst.ch.Submit(&c.req)
}

// copyFailed ends a copy of which a request has failed, with what becomes of the command: what is wrong with another unit than its own the initiator
// hears as that. SPC-4, "Errors detected while processing segment descriptors".
func (c *command) copyFailed(q *bdev.Request, status SCSIStatus, code senseCode) senseCode {
	k := c.copying
	u := k.dst
	if q.Kind == bdev.Read {
		u = k.src
	}
	if u.unit != c.unit.unit && status == CheckCondition {
		code = senseThirdParty
	}
	c.copyEnd(true)
	return code
}

// copyEnd notes what was copied and lets go of all that the copy had.
func (c *command) copyEnd(failed bool) {
	k := c.copying
	if c.data[1]>>3&3 == copyHolds {
		r := copyRecord{list: c.data[0], failed: failed, segments: uint16(c.step), bytes: k.bytes}
		if failed {
			r.segments--
		}
		c.unit.holdCopy(r)
	}
	for _, u := range k.units {
		if u != nil {
			u.here.leave()
		}
	}
	c.copying = nil
	if k.held {
		if next := c.unit.here.copying.give(); next != nil {
			next.copying.held = true
			next.copyNext()
		}
	}
}
