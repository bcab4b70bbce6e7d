package iscsi

import (
	"bytes"
	"encoding/binary"

	"github.com/pollux-storage/pollux/bdev"
)

// This file is logical block provisioning: UNMAP and WRITE SAME. SBC-3, "Logical block provisioning".

// The limits that VPD page B0 gives.
const (
	unmapDescriptorsMax = 256
	unmapBlocksMax      = 1<<32 - 1 // no limit
	writeSameBytesMax   = 16 << 20
	writeSamePieces     = 32 // of the memory that a pattern is repeated in, for one request
)

// unmaps reports whether blocks of the device can be unmapped.
func unmaps(g *bdev.Geometry) bool { return g.Supports(bdev.Unmap) }

// writeSameMax is MAXIMUM WRITE SAME LENGTH, in blocks.
func writeSameMax(g *bdev.Geometry) uint64 { return writeSameBytesMax >> g.Shift() }

// SBC-3, "UNMAP parameter list": a header, and descriptors of which each is an LBA and a number of blocks.
const (
	unmapHeaderBytes     = 8
	unmapDescriptorBytes = 16
)

// admitUnmap judges UNMAP. SBC-3, "UNMAP command".
func (c *command) admitUnmap() bool {
	if c.cdb[1]&0x01 != 0 { // ANCHOR, without ANC_SUP
		return c.refuseCDB(1, 0)
	}
	n := uint32(binary.BigEndian.Uint16(c.cdb[7:]))
	if 0 < n && n < unmapHeaderBytes {
		return c.refuse(senseListLength)
	}
	return c.bringsList(n)
}

// unmapDescriptor is descriptor i of the list.
func (c *command) unmapDescriptor(i uint64) (lba, blocks uint64) {
	d := c.data[unmapHeaderBytes+i*unmapDescriptorBytes:]
	return binary.BigEndian.Uint64(d), uint64(binary.BigEndian.Uint32(d[8:]))
}

// unmapDescriptors is the number of descriptors; an incomplete one at the end does not count.
func (c *command) unmapDescriptors() uint64 {
	if c.out == 0 {
		return 0
	}
	return uint64(min(uint32(binary.BigEndian.Uint16(c.data[2:])), c.out-unmapHeaderBytes) / unmapDescriptorBytes)
}

// unmap checks every descriptor before the first is obeyed.
func (c *command) unmap() {
	if c.out > 0 && uint32(binary.BigEndian.Uint16(c.data[2:])) > c.out-unmapHeaderBytes {
		c.refuse(senseListLength) // it does not hold the descriptors that it says
		c.port.end()
		return
	}
	if c.unmapDescriptors() > unmapDescriptorsMax {
		c.refuseList(senseInvalidList, 2, -1)
		c.port.end()
		return
	}
	blocks := c.unit.ch.Geometry().Blocks
	for i := range c.unmapDescriptors() {
		// "UNMAP parameter list": the end itself is not too far for no blocks.
		if lba, n := c.unmapDescriptor(i); lba > blocks || n > blocks-lba {
			c.refuse(senseOutOfRange)
			c.port.end()
			return
		}
	}
	c.unmapNext()
}

// unmapNext obeys the next descriptor.
func (c *command) unmapNext() {
	for n := c.unmapDescriptors(); c.step < n; {
		q := &c.req
		q.Kind, q.FUA = bdev.Unmap, c.fuaOfMode()
		q.LBA, q.Blocks = c.unmapDescriptor(c.step)
		c.step++
		if q.Blocks > 0 {
			c.submit()
			return
		}
	}
	c.port.end()
}

// fuaOfMode is what MODE SELECT has made of writes whose CDB has no FUA.
func (c *command) fuaOfMode() bool { return c.unit.unit.modes.has(modeWriteThrough) }

// The bits of WRITE SAME.
const (
	writeSameAnchor = 0x10
	writeSameUnmap  = 0x08
	writeSameNoData = 0x01 // NDOB, of WRITE SAME(16)
)

// admitWriteSame judges WRITE SAME. SBC-3, "WRITE SAME (10) command". Zero blocks would be to the end, which few mean who send it: WSNZ is 1.
func (c *command) admitWriteSame() bool {
	if !c.admitRange() {
		return false
	}
	g := c.unit.ch.Geometry()
	flags := c.cdb[1]
	if flags&writeSameAnchor != 0 { // ANC_SUP is 0, and without UNMAP it means nothing
		return c.refuseCDB(1, 4)
	}
	if flags&writeSameUnmap != 0 && !unmaps(g) { // LBPWS, LBPWS10
		return c.refuseCDB(1, 3)
	}
	if c.blocks == 0 || c.blocks > writeSameMax(g) {
		return c.refuseCDB(c.lengthAt(), -1)
	}
	if c.dataless() {
		return true
	}
	return c.brings(g.BlockSize)
}

// dataless is NDOB: the blocks are zeros, and no data comes.
func (c *command) dataless() bool { return len(c.rule.usage) == 16 && c.cdb[1]&writeSameNoData != 0 }

// writeSame writes the block again and again. If it is zeros the device does that in one request; it unmaps them if it may and they read as zeros
// then. A pattern is repeated in the memory that there is, and that in one request.
func (c *command) writeSame() {
	g := c.unit.ch.Geometry()
	q := &c.req
	if c.dataless() || allZero(c.data[:c.out]) {
		q.Kind, q.LBA, q.Blocks, q.FUA = bdev.WriteZeroes, c.lba, c.blocks, c.fuaOfMode()
		if c.cdb[1]&writeSameUnmap != 0 && g.UnmapZeroes {
			q.Kind = bdev.Unmap
		}
		c.step = c.blocks
		c.submit()
		return
	}
	room := c.data[:cap(c.data)]
	for have := int(c.out); have+int(c.out) <= len(room); have += int(c.out) {
		copy(room[have:], room[:c.out])
	}
	c.writeSameNext()
}

// writeSameNext writes the next part of a pattern.
func (c *command) writeSameNext() {
	if c.step == c.blocks {
		c.port.end()
		return
	}
	g := c.unit.ch.Geometry()
	repeated := c.data[:cap(c.data)/int(c.out)*int(c.out)]
	left := min(c.blocks-c.step, uint64(g.MaxBlocks), writeSamePieces*uint64(len(repeated))>>g.Shift())
	q := &c.req
	q.Kind, q.LBA, q.Blocks, q.FUA = bdev.Write, c.lba+c.step, left, c.fuaOfMode()
	c.step += left
	q.Data = make([][]byte, 0, writeSamePieces)
	for left <<= g.Shift(); left > 0; {
		piece := repeated[:min(left, uint64(len(repeated)))]
		q.Data = append(q.Data, piece)
		left -= uint64(len(piece))
	}
	c.submit()
}

var zeroBlock [4096]byte

// allZero reports whether b holds nothing but zeros.
func allZero(b []byte) bool {
	for len(b) > len(zeroBlock) {
		if !bytes.Equal(b[:len(zeroBlock)], zeroBlock[:]) {
			return false
		}
		b = b[len(zeroBlock):]
	}
	return bytes.Equal(b, zeroBlock[:len(b)])
}
