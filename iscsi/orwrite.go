package iscsi

import (
	"github.com/pollux-storage/pollux/bdev"
)

// This file is ORWRITE(16) of SBC-3: blocks are read, or'ed with what has come, and written, and nobody comes in between.
//
// No request of a device does that, but one compares and writes in one step. So the blocks are read, and written if they are still as they were read;
// if not it is tried again. The memory for both is not the pool's: a unit has it once on each reactor, made when it is first needed, and commands
// use it one after the other.

// oring is what the ORWRITEs of a unit share on a reactor.
type oring struct {
	turns
	old, new []byte
}

// orTriesMax is how often others may be in the way before the initiator hears that the unit is busy.
const orTriesMax = 32

// admitOrWrite judges ORWRITE.
func (c *command) admitOrWrite() bool {
	n, ok := c.admitData()
	return ok && c.brings(n)
}

// orWrite serves it, now or after those before it.
func (c *command) orWrite() {
	if c.out == 0 {
		c.port.end()
		return
	}
	if w := &c.unit.here.or; w.take(c) {
		w.begin(c)
	}
}

func (w *oring) begin(c *command) {
	if n := int(c.out); len(w.old) < n {
		w.old, w.new = make([]byte, n), make([]byte, n)
	}
	c.orRead()
}

// orRead reads what is there.
func (c *command) orRead() {
	c.step++
	q := &c.req
	q.Kind, q.LBA, q.Blocks, q.FUA = bdev.Read, c.lba, c.blocks, false
	q.SetData(c.unit.here.or.old[:c.out])
	c.submit()
}

// orWriteNext goes on after a request.
func (c *command) orWriteNext() {
	if c.req.Kind == bdev.CompareAndWrite {
		c.orEnd()
		c.port.end()
		return
	}
	w := &c.unit.here.or
	for i, b := range c.data[:c.out] {
		w.new[i] = w.old[i] | b
	}
	q := &c.req
	q.Kind, q.FUA = bdev.CompareAndWrite, c.fua()
	c.two[0] = w.new[:c.out]
	q.Data2 = c.two[:]
	c.submit()
}

// orFailed takes the end of a request that failed, and reports whether the command goes on.
func (c *command) orFailed(q *bdev.Request) bool {
	if q.Status == bdev.StatusMiscompare {
		if c.step < orTriesMax {
			c.orRead()
			return true
		}
		q.Status = bdev.StatusBusy
	}
	c.orEnd()
	return false
}

// orEnd lets the next have the memory.
func (c *command) orEnd() {
	w := &c.unit.here.or
	if next := w.give(); next != nil {
		w.begin(next)
	}
}
