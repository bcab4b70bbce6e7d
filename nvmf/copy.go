package nvmf

import "github.com/pollux-storage/pollux/bdev"

// This file is Copy: up to MSRC + 1 ranges of a namespace, one behind the other, to another place in it. NVM Command Set Specification
// 1.0, "Copy command". Every source is one request of the device, in which nobody sees a part of the target while it runs or changes
// its source (bdev/lock.go); several are not one act together, which is not promised. A power failure leaves all or nothing of what a source
// writes up to NAWUPF, as of a write: a device that promises more than a step of a copy has no longer sources.

// What Identify says of Copy.
const (
	copySources      = 128       // MSRC + 1: their descriptors fill a page
	copySourceMax    = 16 << 20  // MSSRL at most
	copyBytesMax     = 128 << 20 // MCL
	copyFormatSimple = 0         // the descriptor format: sources in the same namespace, without protection information
)

// copySource is the longest source in blocks: MSSRL.
func copySource(g *bdev.Geometry) uint64 {
	if uint64(g.AtomicBlocks)<<g.Shift() > bdev.CopyStepBytes {
		return bdev.CopyStepBytes >> g.Shift()
	}
	return copySourceMax >> g.Shift()
}

// admitCopy judges what is in the command itself, before its descriptors are asked for.
func (c *command) admitCopy() Status {
	n := c.sqe.Ranges()
	switch {
	case c.sqe.CopyFormat() != copyFormatSimple:
		return StatusInvalidField | DNR
	case n > copySources:
		return StatusCommandSize | DNR
	case c.transfer < uint32(n)*CopySourceBytes:
		return StatusSGLLength | DNR
	}
	return StatusSuccess
}

// beginCopy judges all of a Copy before any of it is done.
func (c *command) beginCopy() {
	g := c.ns.ch.Geometry()
	var total uint64
	for i := range c.sqe.Ranges() {
		s := DecodeCopySource(c.data, i)
		n := uint64(s.NLB)
		switch {
		case n > copySource(g):
			c.q.respond(c, StatusCommandSize|DNR)
			return
		case s.SLBA >= g.Blocks || n > g.Blocks-s.SLBA:
			c.q.respond(c, StatusLBAOutOfRange|DNR)
			return
		}
		total += n
	}
	switch to := c.sqe.SLBA(); {
	case total > copyBytesMax>>g.Shift():
		c.q.respond(c, StatusCommandSize|DNR)
	case to >= g.Blocks || total > g.Blocks-to:
		c.q.respond(c, StatusLBAOutOfRange|DNR)
	default:
		c.req.LBA, c.req.Blocks, c.req.FUA = to, 0, c.sqe.FUA()
		c.nextCopy()
	}
}

// nextCopy copies the next source, behind the one before.
func (c *command) nextCopy() {
	if c.step == c.sqe.Ranges() {
		c.q.respond(c, StatusSuccess)
		return
	}
	s := DecodeCopySource(c.data, c.step)
	c.step++
	c.req.Kind, c.req.LBA, c.req.LBA2 = bdev.Copy, c.req.LBA+c.req.Blocks, s.SLBA
	c.req.Blocks = uint64(s.NLB)
	c.ns.ch.Submit(&c.req)
}
