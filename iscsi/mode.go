package iscsi

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/pollux-storage/pollux/bdev"
)

// This file is mode pages: MODE SENSE and MODE SELECT. SPC-4 and SBC-3, "Mode parameters".
//
// Four things can be set, for all nexuses alike and until the engine ends: that sense data has descriptors (D_SENSE), that nothing may be written
// (SWP), that a device with a volatile cache is to be written through it (WCE 0), and that nobody is told when there is little space (LBPERE 0).

// modes are the bits that MODE SELECT sets. They belong to the unit, and are changed from any reactor.
type modes struct{ bits atomic.Uint32 }

const (
	modeDescriptorSense uint32 = 1 << iota
	modeSoftProtected
	modeWriteThrough
	modeUntold // of little space
)

func (m *modes) has(bit uint32) bool { return m.bits.Load()&bit != 0 }

// set changes the bits of mask to those of to, and reports whether that made a difference.
func (m *modes) set(mask, to uint32) bool {
	for {
		old := m.bits.Load()
		want := old&^mask | to&mask
		if old == want {
			return false
		}
		if m.bits.CompareAndSwap(old, want) {
			return true
		}
	}
}

// modePage is a page: how long it is, and what stands in it but for zeros.
type modePage struct {
	code  byte
	sub   byte // its subpage code; 0 if it is a page
	bytes int
	fill  func(p []byte, g *bdev.Geometry, bits uint32) // its current values; nil: zeros
	mask  func(p []byte, g *bdev.Geometry)              // the bits that can be changed; nil: none
	bits  func(p []byte) (mask, bits uint32)            // what they set

	offered func(g *bdev.Geometry) bool // nil: always
}

// The pages, ascending.
var modePages = [...]modePage{
	{code: 0x01, bytes: 12, fill: fillRecovery, mask: maskRecovery, bits: bitsRecovery},
	{code: 0x02, bytes: 16}, // Disconnect-Reconnect
	{code: 0x07, bytes: 12}, // Verify Error Recovery
	{code: 0x08, bytes: 20, fill: fillCaching, mask: maskCaching, bits: bitsCaching},
	{code: 0x0A, bytes: 12, fill: fillControl, mask: maskControl, bits: bitsControl},
	{code: 0x1A, bytes: 40},                     // Power Condition
	{code: 0x1C, bytes: 12, fill: fillInformal}, // Informational Exceptions Control
	{code: 0x1C, sub: 0x02, bytes: 24, fill: fillThresholds, offered: tellsLowSpace},
}

// The Caching page. SBC-3, "Caching mode page".
const cachingWCE = 0x04 // in byte 2

func fillCaching(p []byte, g *bdev.Geometry, bits uint32) {
	if g.Volatile && bits&modeWriteThrough == 0 {
		p[2] = cachingWCE
	}
}

func maskCaching(p []byte, g *bdev.Geometry) {
	if g.Volatile {
		p[2] = cachingWCE
	}
}

func bitsCaching(p []byte) (mask, bits uint32) {
	if p[2]&cachingWCE == 0 {
		bits = modeWriteThrough
	}
	return modeWriteThrough, bits
}

// The Control page. SPC-4, "Control mode page".
const (
	controlDSense = 0x04 // in byte 2
	controlSWP    = 0x08 // in byte 4
)

func fillControl(p []byte, _ *bdev.Geometry, bits uint32) {
	p[3] = 0x10 // QUEUE ALGORITHM MODIFIER: any order
	if bits&modeDescriptorSense != 0 {
		p[2] |= controlDSense
	}
	if bits&modeSoftProtected != 0 {
		p[4] |= controlSWP
	}
}

func maskControl(p []byte, _ *bdev.Geometry) { p[2], p[4] = controlDSense, controlSWP }

func bitsControl(p []byte) (mask, bits uint32) {
	if p[2]&controlDSense != 0 {
		bits |= modeDescriptorSense
	}
	if p[4]&controlSWP != 0 {
		bits |= modeSoftProtected
	}
	return modeDescriptorSense | modeSoftProtected, bits
}

// fillInformal says that no exceptions are reported. SBC-3, "Informational Exceptions Control mode page".
func fillInformal(p []byte, _ *bdev.Geometry, _ uint32) { p[2] = 0x08 } // DEXCPT

// head makes the page's beginning. SPC-4, "Mode page and subpage formats and page codes".
func (m *modePage) head(p []byte) {
	if p[0], p[1] = m.code, byte(m.bytes-2); m.sub != 0 {
		p[0], p[1] = m.code|0x40, m.sub // SPF
		binary.BigEndian.PutUint16(p[2:], uint16(m.bytes-4))
	}
}

// serves reports whether the page is offered for a device of this shape.
func (m *modePage) serves(g *bdev.Geometry) bool { return m.offered == nil || m.offered(g) }

// is reports whether a page code and a subpage code mean the page, among others maybe.
func (m *modePage) is(code, sub byte) bool {
	return (code == modeAllPages || code == m.code) && (sub == modeAllSubpages || sub == m.sub)
}

// current makes the page as it is.
func (m *modePage) current(p []byte, g *bdev.Geometry, bits uint32) {
	m.head(p)
	if m.fill != nil {
		m.fill(p, g, bits)
	}
}

// changeable makes the page with the bits set that can be changed.
func (m *modePage) changeable(p []byte, g *bdev.Geometry) {
	m.head(p)
	if m.mask != nil {
		m.mask(p, g)
	}
}

// modePageOf gives a page, or a subpage, nil if there is none.
func modePageOf(code, sub byte) *modePage {
	for i := range modePages {
		if m := &modePages[i]; m.code == code && m.sub == sub {
			return m
		}
	}
	return nil
}

// PAGE CONTROL of MODE SENSE, and its page code and subpage code for all.
const (
	modeCurrent    = 0
	modeChangeable = 1
	modeDefault    = 2
	modeSaved      = 3

	modeAllPages    = 0x3F
	modeAllSubpages = 0xFF
)

// admitModeSense judges MODE SENSE.
func (c *command) admitModeSense() bool {
	if c.cdb[2]>>6 == modeSaved {
		return c.refuse(senseNoSaving)
	}
	code, sub := c.cdb[2]&0x3F, c.cdb[3]
	if code != modeAllPages && modePageOf(code, 0) == nil {
		return c.refuseCDB(2, 5)
	}
	if code == modeAllPages && sub != 0 && sub != modeAllSubpages { // reserved
		return c.refuseCDB(3, 7)
	}
	g := c.unit.ch.Geometry()
	for i := range modePages {
		if m := &modePages[i]; m.is(code, sub) && m.serves(g) {
			return true
		}
	}
	return c.refuseCDB(3, 7)
}

// The lengths of headers and block descriptors. SPC-4, "Mode parameter list format", and SBC-3, "Mode parameter block descriptors".
const (
	modeHeader6Bytes  = 4
	modeHeader10Bytes = 8
	blockBytes        = 8
	longBlockBytes    = 16 // with LLBAA
	modeBytesMax      = modeHeader10Bytes + longBlockBytes + 12 + 16 + 12 + 20 + 12 + 40 + 12 + 24
)

// modeSense serves MODE SENSE(6) and (10).
func (c *command) modeSense() {
	b := c.page(modeBytesMax)
	if b == nil {
		return
	}
	g := c.unit.ch.Geometry()
	bits := c.unit.unit.modes.bits.Load()
	device := byte(0x10) // DPOFUA
	if g.ReadOnly || bits&modeSoftProtected != 0 {
		device |= 0x80 // WP
	}
	ten := len(c.rule.usage) == 10
	descriptor := 0
	if c.cdb[1]&0x08 == 0 { // DBD
		descriptor = blockBytes
		if ten && c.cdb[1]&0x10 != 0 { // LLBAA
			descriptor = longBlockBytes
		}
	}
	if ten {
		b = append(b, 0, 0, 0, device, byte(descriptor/longBlockBytes), 0, 0, byte(descriptor)) // LONGLBA
	} else {
		b = append(b, 0, 0, device, byte(descriptor))
	}
	switch descriptor {
	case blockBytes:
		b = binary.BigEndian.AppendUint32(b, uint32(min(g.Blocks, 1<<32-1)))
		b = binary.BigEndian.AppendUint32(b, g.BlockSize)
	case longBlockBytes:
		b = binary.BigEndian.AppendUint64(b, g.Blocks)
		b = binary.BigEndian.AppendUint64(b, uint64(g.BlockSize))
	}
	for i := range modePages {
		m := &modePages[i]
		if !m.is(c.cdb[2]&0x3F, c.cdb[3]) || !m.serves(g) {
			continue
		}
		at := len(b)
		b = append(b, make([]byte, m.bytes)...)
		switch c.cdb[2] >> 6 {
		case modeCurrent:
			m.current(b[at:], g, bits)
		case modeChangeable:
			m.changeable(b[at:], g)
		case modeDefault:
			m.current(b[at:], g, 0)
		}
	}
	if ten {
		binary.BigEndian.PutUint16(b, uint16(len(b)-2))
		c.answer(b, uint32(binary.BigEndian.Uint16(c.cdb[7:])))
		return
	}
	b[0] = byte(len(b) - 1)
	c.answer(b, uint32(c.cdb[4]))
}

// admitModeSelect judges MODE SELECT: PF has to be set and SP must not, for there is nothing that could be saved.
func (c *command) admitModeSelect() bool {
	n := uint32(c.cdb[4])
	if len(c.rule.usage) == 10 {
		n = uint32(binary.BigEndian.Uint16(c.cdb[7:]))
	}
	switch {
	case c.cdb[1]&0x01 != 0:
		return c.refuseCDB(1, 0)
	case n == 0:
		return true
	case c.cdb[1]&0x10 == 0:
		return c.refuseCDB(1, 4)
	case n > modeListMax:
		return c.refuseCDB(c.lengthAt(), -1)
	}
	return c.bringsList(n)
}

const modeListMax = 4096

// modeSelect serves MODE SELECT(6) and (10). Nothing is changed before all of the list has been checked.
func (c *command) modeSelect() {
	mask, to, ok := c.parseModes(c.data[:c.out])
	if !ok || !c.unit.unit.modes.set(mask, to) {
		c.port.end()
		return
	}
	c.tellOthers(attentionMode)
	if mask&to&(modeWriteThrough|modeSoftProtected) != 0 {
		c.sync() // what was written to the cache is as durable as what will be written through it, or as what stays
		return
	}
	c.port.end()
}

// parseModes reads a mode parameter list. If it is refused the answer is made.
func (c *command) parseModes(b []byte) (mask, to uint32, ok bool) {
	if len(b) == 0 {
		return 0, 0, true
	}
	g := c.unit.ch.Geometry()
	header, descriptor, long := modeHeader6Bytes, 0, false
	if len(c.rule.usage) == 10 {
		header = modeHeader10Bytes
	}
	if len(b) < header {
		return 0, 0, c.refuse(senseListLength)
	}
	if header == modeHeader6Bytes {
		descriptor = int(b[3])
	} else {
		descriptor, long = int(binary.BigEndian.Uint16(b[6:])), b[4]&0x01 != 0
	}
	if len(b) < header+descriptor {
		return 0, 0, c.refuse(senseListLength)
	}
	if !c.admitBlocks(b[header:header+descriptor], header, long, g) {
		return 0, 0, false
	}
	for at := header + descriptor; at < len(b); {
		head := 2
		if b[at]&0x40 != 0 { // SPF
			head = 4
		}
		if len(b)-at < head {
			return 0, 0, c.refuse(senseListLength)
		}
		sub, length := byte(0), int(b[at+1])
		if head == 4 {
			sub, length = b[at+1], int(binary.BigEndian.Uint16(b[at+2:]))
		}
		m := modePageOf(b[at]&0x3F, sub)
		if m == nil || !m.serves(g) || head == 4 && sub == 0 {
			return 0, 0, c.refuseList(senseInvalidList, uint16(at), 5)
		}
		if length != m.bytes-head {
			return 0, 0, c.refuseList(senseInvalidList, uint16(at+head/2), 7)
		}
		if len(b)-at < m.bytes {
			return 0, 0, c.refuse(senseListLength)
		}
		var now, may [64]byte
		m.current(now[:m.bytes], g, c.unit.unit.modes.bits.Load())
		m.changeable(may[:m.bytes], g)
		page := b[at : at+m.bytes]
		for i := head; i < m.bytes; i++ {
			if page[i]&^may[i] != now[i]&^may[i] {
				return 0, 0, c.refuseList(senseInvalidList, uint16(at+i), -1)
			}
		}
		if m.bits != nil {
			k, v := m.bits(page)
			if allZero(may[head:m.bytes]) { // of this device it says nothing
				k = 0
			}
			mask, to = mask|k, to&^k|v&k
		}
		at += m.bytes
	}
	return mask, to, true
}

// admitBlocks judges a block descriptor: it has to say what is so, or nothing.
func (c *command) admitBlocks(b []byte, at int, long bool, g *bdev.Geometry) bool {
	if len(b) == 0 {
		return true
	}
	blocks, size, all := uint64(0), uint64(0), uint64(1<<32-1)
	switch {
	case !long && len(b) == blockBytes:
		blocks, size = uint64(binary.BigEndian.Uint32(b)), uint64(binary.BigEndian.Uint32(b[4:])&0xFFFFFF)
	case long && len(b) == longBlockBytes:
		blocks, size, all = binary.BigEndian.Uint64(b), uint64(binary.BigEndian.Uint32(b[12:])), 1<<64-1
	default:
		return c.refuseList(senseInvalidList, uint16(at-1), 7)
	}
	if blocks != 0 && blocks != all && blocks != g.Blocks {
		return c.refuseList(senseInvalidList, uint16(at), 7)
	}
	if size != uint64(g.BlockSize) {
		return c.refuseList(senseInvalidList, uint16(at+len(b)-3), 7)
	}
	return true
}
