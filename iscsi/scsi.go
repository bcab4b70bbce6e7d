package iscsi

import (
	"encoding/binary"
	"math/bits"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is how a command is judged and served: what all have in common, and the reading and writing of blocks.

// admit judges the command before its data is asked for, in this order: what the initiator has to be told first; whether there is such a unit and
// such a command; whether the path, a reservation or the unit's protection bars it; its fields. If it reports false the answer is made.
func (c *command) admit() bool {
	r, known := ruleOf(&c.cdb)
	c.rule = r
	u := c.unit
	if u == nil {
		return c.admitNowhere()
	}
	if u.attentions.some(u.unit) && (r == nil || !r.is(tells)) {
		code, _ := u.attentions.take(u.unit)
		c.refuse(code)
		c.sense = attentionSense(code)
		return false
	}
	if r == nil && known {
		return c.refuseCDB(1, 4)
	}
	g := u.ch.Geometry()
	if c.tooBig { // the field is the one that RFC 7143 sections 11.2.2.3 and 11.2.2.4 add to a CDB
		return c.refuse(senseInvalidField)
	}
	if r == nil || !r.serves(g) {
		return c.refuse(senseInvalidOpcode)
	}
	if last := len(r.usage) - 1; c.cdb[last]&0x04 != 0 { // NACA: NORMACA of INQUIRY is 0
		return c.refuseCDB(uint16(last), 2)
	}
	if c.barred() {
		c.status = ReservationConflict
		return false
	}
	if s := c.nexus.state; s > accessNonOptimized && !r.is(anyState) {
		return c.refuse(s.sense())
	}
	if r.is(writes) {
		if g.ReadOnly {
			return c.refuse(senseWriteProtected)
		}
		if u.unit.modes.has(modeSoftProtected) {
			return c.refuse(senseSoftProtected)
		}
	}
	return r.admit == nil || r.admit(c)
}

// admitNowhere judges a command to a LUN without a unit. SPC-4, "Incorrect logical unit selection".
func (c *command) admitNowhere() bool {
	if c.rule == nil || !c.rule.is(tells) || c.tooBig {
		return c.refuse(senseNoUnit)
	}
	return c.rule.admit == nil || c.rule.admit(c)
}

// barred reports whether a reservation of another is in the way.
func (c *command) barred() bool {
	a, n := c.rule.access, c.unit
	if a == accessStop {
		if a = accessWrite; c.starts() {
			a = accessFree
		}
	}
	switch {
	case a == accessAlways:
		return false
	case a == accessRead && n.denyRead, a == accessWrite && n.denyWrite:
		return true
	}
	return n.held.Live()
}

// execute serves the command. It is called again when memory may be had that was not. Who protected the unit from writing while the data was on its way
// has been told that it is.
func (c *command) execute() {
	if c.rule.is(writes) && c.unit.unit.modes.has(modeSoftProtected) {
		c.refuse(senseSoftProtected)
		c.port.end()
		return
	}
	c.rule.execute(c)
}

// RequestDone takes the end of the command's request.
func (c *command) RequestDone(q *bdev.Request) {
	if q.Status != bdev.StatusOK {
		if c.unit.here.or.by != c || !c.orFailed(q) {
			c.failed(q)
		}
		return
	}
	if c.rule.done != nil {
		c.rule.done(c)
		return
	}
	c.port.end()
}

// abort tries to end the command early, and reports whether it will end as aborted because of it.
func (c *command) abort() bool {
	if c.copying != nil {
		c.copying.stopped = true
	}
	if c.req.InFlight() {
		return c.unit.ch.Abort(&c.req)
	}
	if c.unit == nil || !c.unit.here.or.forget(c) && !c.unit.here.copying.forget(c) {
		return false
	}
	c.endAborted()
	return true
}

// endAborted ends the command as aborted.
func (c *command) endAborted() {
	c.letGo()
	c.refuse(senseNone)
	c.status = TaskAborted
	c.port.end()
}

// letGo gives up what the command shares with others.
func (c *command) letGo() {
	switch {
	case c.copying != nil:
		c.copyEnd(true)
	case c.unit.here.or.by == c:
		c.orEnd()
	}
}

// fua is FUA of the CDB, or what MODE SELECT has made of it: without a cache every write is durable.
func (c *command) fua() bool {
	return len(c.rule.usage) != 6 && c.cdb[1]&0x08 != 0 || c.rule.is(writes) && c.unit.unit.modes.has(modeWriteThrough)
}

// admitRead judges READ.
func (c *command) admitRead() bool {
	n, ok := c.admitData()
	if !ok {
		return false
	}
	c.gives(n)
	return true
}

// read reads the blocks that the initiator has room for: the others it is told of as a residual.
func (c *command) read() {
	if c.send == 0 {
		c.port.end()
		return
	}
	g := c.unit.ch.Geometry()
	n := uint32((uint64(c.send) + uint64(g.BlockSize) - 1) >> g.Shift() << g.Shift())
	if c.data == nil && !c.port.lend(n) {
		return
	}
	q := &c.req
	q.Kind, q.LBA, q.Blocks, q.FUA = bdev.Read, c.lba, uint64(n)>>g.Shift(), c.fua()
	q.SetData(c.data[:n])
	c.submit()
}

// admitWrite judges WRITE. Where the initiator has less than the CDB says, whole blocks of it are written; it is told of the rest as a residual
// (RFC 7143 section 11.4.5, "Residual Count").
func (c *command) admitWrite() bool {
	n, ok := c.admitData()
	if !ok {
		return false
	}
	return c.bringsBlocks(n)
}

// bringsBlocks says that the initiator is to send whole blocks, of n bytes at most.
func (c *command) bringsBlocks(n uint32) bool {
	c.want = n
	if n == 0 {
		return true
	}
	if c.reads {
		return c.refuse(senseInvalidIU)
	}
	if n = min(n, c.edtl); n&(c.unit.ch.Geometry().BlockSize-1) != 0 {
		return c.refuse(senseInvalidIU)
	}
	c.out = n
	return true
}

// write writes what has come.
func (c *command) write() {
	if c.out == 0 {
		c.port.end()
		return
	}
	q := &c.req
	q.Kind, q.LBA, q.Blocks, q.FUA = bdev.Write, c.lba, uint64(c.out)>>c.unit.ch.Geometry().Shift(), c.fua()
	q.SetData(c.data[:c.out])
	c.submit()
}

// admitSync judges SYNCHRONIZE CACHE. SBC-3, "SYNCHRONIZE CACHE (10) command": zero blocks is to the end.
func (c *command) admitSync() bool {
	c.parseRange()
	return c.inside()
}

// sync makes everything durable. With IMMED too it is answered when that is so: an answer that comes before the work could be taken for its end.
func (c *command) sync() {
	c.req.Kind, c.req.FUA = bdev.Flush, false
	c.submit()
}

// starts reports whether START STOP UNIT is to start the unit: START 1 and POWER CONDITION 0.
func (c *command) starts() bool { return c.cdb[4]&0x01 != 0 && c.cdb[4]>>4 == 0 }

// startStop serves START STOP UNIT of SBC-3. The medium cannot be taken out, so stopping means no more than that it is safe to switch off.
func (c *command) startStop() {
	if b := c.cdb[4]; b>>4 == 0 && b&0x05 == 0 { // POWER CONDITION, NO_FLUSH, START
		c.sync()
		return
	}
	c.port.end()
}

// readCapacity10 serves READ CAPACITY(10) of SBC-3.
func (c *command) readCapacity10() {
	b := c.page(8)
	if b == nil {
		return
	}
	g := c.unit.ch.Geometry()
	b = binary.BigEndian.AppendUint32(b, uint32(min(g.Blocks-1, 1<<32-1)))
	c.answer(binary.BigEndian.AppendUint32(b, g.BlockSize), 8)
}

// readCapacity16 serves READ CAPACITY(16) of SBC-3.
func (c *command) readCapacity16() {
	b := c.page(readCapacity16Bytes)
	if b == nil {
		return
	}
	c.answer(appendCapacity16(b, c.unit.ch.Geometry()), binary.BigEndian.Uint32(c.cdb[10:]))
}

const readCapacity16Bytes = 32

func appendCapacity16(b []byte, g *bdev.Geometry) []byte {
	at := len(b)
	b = binary.BigEndian.AppendUint64(b, g.Blocks-1)
	b = binary.BigEndian.AppendUint32(b, g.BlockSize)
	b = append(b, 0, physicalExponent(g), 0, 0)
	if unmaps(g) {
		b[at+14] |= 0x80 // LBPME
		if g.UnmapZeroes {
			b[at+14] |= 0x40 // LBPRZ
		}
	}
	return append(b, make([]byte, readCapacity16Bytes-16)...)
}

// physicalExponent is LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT.
func physicalExponent(g *bdev.Geometry) byte {
	return byte(bits.Len32(g.PhysicalBlockSize/g.BlockSize) - 1)
}

// requestSense serves REQUEST SENSE of SPC-4: a unit attention, or that there is nothing to tell.
func (c *command) requestSense() {
	b := c.page(senseBytesMax)
	if b == nil {
		return
	}
	s := sense{code: senseNoUnit}
	if u := c.unit; u != nil {
		code, _ := u.attentions.take(u.unit)
		s = attentionSense(code)
	}
	c.answer(s.AppendTo(b, c.cdb[1]&0x01 != 0), uint32(c.cdb[4])) // DESC
}

var _ = uint(reactor.BufferMax - 1<<20) // bdev.Geometry.MaxBlocks is at most BufferMax: what MAXIMUM TRANSFER LENGTH says fits one buffer
