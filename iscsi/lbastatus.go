package iscsi

import (
	"encoding/binary"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is GET LBA STATUS: which blocks are mapped. SBC-3, "GET LBA STATUS command". Its parameter data:
//
//	0..3  PARAMETER DATA LENGTH, of what follows
//	8..   descriptors of 16 bytes: LBA 0..7, NUMBER OF LOGICAL BLOCKS 8..11, PROVISIONING STATUS 12
//
// A device is asked again and again, until there is room for no more, the end has come, or it was asked often enough: it answers for as much at once as
// lets others have their turn, and what it says of neighbours that are alike becomes one descriptor. Of a device that cannot tell all is mapped.

const (
	lbaStatusHeaderBytes     = 8
	lbaStatusDescriptorBytes = 16
	lbaStatusMax             = (reactor.PageBytes - lbaStatusHeaderBytes) / lbaStatusDescriptorBytes // descriptors
	lbaStatusAsks            = 1024                                                                  // of a device, for one command

	statusMapped      = 0
	statusDeallocated = 1
)

// admitLBAStatus judges it.
func (c *command) admitLBAStatus() bool {
	c.parseRange()
	c.blocks = 0
	return c.inside()
}

// lbaStatusRoom is how many descriptors the initiator has room for: one at least is found.
func (c *command) lbaStatusRoom() uint64 {
	n := max(binary.BigEndian.Uint32(c.cdb[10:]), lbaStatusHeaderBytes) - lbaStatusHeaderBytes
	return max(1, min(uint64(n)/lbaStatusDescriptorBytes, lbaStatusMax))
}

// lbaStatus begins at the LBA that was asked for. From here on blocks counts descriptors, and lba is what comes next.
func (c *command) lbaStatus() {
	if c.page(reactor.PageBytes) == nil {
		return
	}
	g := c.unit.ch.Geometry()
	if !g.Supports(bdev.Extent) {
		c.addStatus(max(g.Blocks, c.lba)-c.lba, true)
		c.answerLBAStatus()
		return
	}
	c.askLBAStatus()
}

// askLBAStatus asks the device how what comes next begins.
func (c *command) askLBAStatus() {
	q := &c.req
	q.Kind, q.LBA, q.Blocks, q.FUA = bdev.Extent, c.lba, c.unit.ch.Geometry().Blocks-c.lba, false
	c.step++
	c.submit()
}

// lbaStatusNext takes its answer.
func (c *command) lbaStatusNext() {
	more := c.addStatus(c.req.Alike, c.req.Mapped)
	if !more || c.lba >= c.unit.ch.Geometry().Blocks || c.step == lbaStatusAsks {
		c.answerLBAStatus()
		return
	}
	c.askLBAStatus()
}

// addStatus notes how the next n blocks are, and reports whether there may be room for more.
func (c *command) addStatus(n uint64, mapped bool) bool {
	status := byte(statusDeallocated)
	if mapped {
		status = statusMapped
	}
	if c.blocks > 0 { // the last one may go on
		last := c.lbaStatusAt(c.blocks - 1)
		have := uint64(binary.BigEndian.Uint32(last[8:]))
		if last[12] == status && have < 1<<32-1 {
			k := min(n, 1<<32-1-have)
			binary.BigEndian.PutUint32(last[8:], uint32(have+k))
			c.lba += k
			n -= k
		}
	}
	for ; n > 0; c.blocks++ {
		if c.blocks == c.lbaStatusRoom() {
			return false
		}
		k := min(n, 1<<32-1)
		d := c.lbaStatusAt(c.blocks)
		binary.BigEndian.PutUint64(d, c.lba)
		binary.BigEndian.PutUint32(d[8:], uint32(k))
		d[12], d[13], d[14], d[15] = status, 0, 0, 0
		c.lba += k
		n -= k
	}
	return true
}

// lbaStatusAt is descriptor i.
func (c *command) lbaStatusAt(i uint64) []byte {
	return c.data[lbaStatusHeaderBytes+i*lbaStatusDescriptorBytes:][:lbaStatusDescriptorBytes]
}

// answerLBAStatus tells what was found.
func (c *command) answerLBAStatus() {
	b := c.data[:lbaStatusHeaderBytes+c.blocks*lbaStatusDescriptorBytes]
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	clear(b[4:lbaStatusHeaderBytes])
	c.answer(b, binary.BigEndian.Uint32(c.cdb[10:]))
}
