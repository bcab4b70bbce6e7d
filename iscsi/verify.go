package iscsi

import (
	"github.com/pollux-storage/pollux/bdev"
)

// This file is what compares: VERIFY, WRITE AND VERIFY, COMPARE AND WRITE; and PRE-FETCH. SBC-3, the sections of these names.

// BYTCHK of VERIFY and WRITE AND VERIFY. SBC-3, "VERIFY (10) command".
const (
	verifyMedium = 0 // that it can be read; no data comes
	verifyBytes  = 1 // that it is what comes
	verifyBlock  = 3 // that each block is the one that comes; not of WRITE AND VERIFY

	verifyPieces = 64 // the most blocks that are compared with the same in one request
)

func (c *command) bytchk() byte { return c.cdb[1] >> 1 & 3 }

// admitVerify judges VERIFY.
func (c *command) admitVerify() bool {
	n, ok := c.admitData()
	if !ok {
		return false
	}
	switch c.bytchk() {
	case verifyMedium:
		return true
	case verifyBytes:
		return c.brings(n)
	case verifyBlock:
		if n == 0 {
			return true
		}
		return c.brings(c.unit.ch.Geometry().BlockSize)
	}
	return c.refuseCDB(1, 2)
}

// verify serves VERIFY. The medium alone is verified by reading it to memory of which nothing is sent.
func (c *command) verify() {
	if c.blocks == 0 {
		c.port.end()
		return
	}
	q := &c.req
	q.LBA, q.Blocks, q.FUA = c.lba, c.blocks, false
	switch c.bytchk() {
	case verifyMedium:
		n := uint32(c.blocks << c.unit.ch.Geometry().Shift())
		if c.data == nil && !c.port.lend(n) {
			return
		}
		q.Kind = bdev.Read
		q.SetData(c.data[:n])
		c.step = c.blocks
	case verifyBytes:
		q.Kind = bdev.Compare
		q.SetData(c.data[:c.out])
		c.step = c.blocks
	case verifyBlock:
		c.verifyNext()
		return
	}
	c.submit()
}

// verifyNext compares the next blocks with the one that came.
func (c *command) verifyNext() {
	if c.step == c.blocks {
		c.port.end()
		return
	}
	q := &c.req
	q.Kind, q.LBA, q.Blocks, q.FUA = bdev.Compare, c.lba+c.step, min(c.blocks-c.step, verifyPieces), false
	q.Data = make([][]byte, q.Blocks)
	for i := range q.Data {
		q.Data[i] = c.data[:c.out]
	}
	c.step += q.Blocks
	c.submit()
}

// admitWriteVerify judges WRITE AND VERIFY. Data of which there is a part is taken as with WRITE.
func (c *command) admitWriteVerify() bool {
	n, ok := c.admitData()
	if !ok {
		return false
	}
	if c.bytchk() > verifyBytes {
		return c.refuseCDB(1, 2)
	}
	return c.bringsBlocks(n)
}

// writeVerify writes through any cache, and then compares, whatever BYTCHK is: that finds a medium that cannot be read too.
func (c *command) writeVerify() {
	if c.out == 0 {
		c.port.end()
		return
	}
	q := &c.req
	q.Kind, q.LBA, q.Blocks, q.FUA = bdev.Write, c.lba, uint64(c.out)>>c.unit.ch.Geometry().Shift(), true
	q.SetData(c.data[:c.out])
	c.submit()
}

func (c *command) writeVerifyNext() {
	if c.req.Kind == bdev.Compare {
		c.port.end()
		return
	}
	c.req.Kind, c.req.FUA = bdev.Compare, false
	c.submit()
}

// admitCompareAndWrite judges COMPARE AND WRITE.
func (c *command) admitCompareAndWrite() bool {
	c.parseRange()
	c.blocks = uint64(c.cdb[13]) // NUMBER OF LOGICAL BLOCKS is not where the others have it
	if c.cdb[1]>>5 != 0 {
		return c.refuseCDB(1, 7)
	}
	if !c.inside() {
		return false
	}
	g := c.unit.ch.Geometry()
	if c.blocks > compareAndWriteMax(g) {
		return c.refuseCDB(13, 7)
	}
	n := uint32(2 * c.blocks << g.Shift())
	if c.writes && c.edtl != n { // 256 blocks become none in one byte: what comes tells
		c.want = n
		return c.refuseCDB(13, 7)
	}
	return c.brings(n)
}

// compareAndWrite serves it: the first half of the data is compared, the second written, in one step of the device.
func (c *command) compareAndWrite() {
	if c.blocks == 0 {
		c.port.end()
		return
	}
	q, half := &c.req, c.out/2
	q.Kind, q.LBA, q.Blocks, q.FUA = bdev.CompareAndWrite, c.lba, c.blocks, c.fua()
	q.SetData(c.data[:half])
	c.two[0] = c.data[half:c.out]
	q.Data2 = c.two[:]
	c.submit()
}

// swaps reports whether the device can compare and write.
func swaps(g *bdev.Geometry) bool { return g.Supports(bdev.CompareAndWrite) }

// admitPrefetch judges PRE-FETCH: zero blocks is to the end.
func (c *command) admitPrefetch() bool {
	c.parseRange()
	return c.inside()
}

// prefetch fetches nothing, for there is no cache to fetch to: so it ends in Good, which does not say that the blocks are there as ConditionMet would.
func (c *command) prefetch() { c.port.end() }
