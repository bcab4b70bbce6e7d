package iscsi

import (
	"encoding/binary"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is INQUIRY: who the unit is and what it can. SPC-4, "INQUIRY command" and "Vital product data parameters", and the latter of SBC-3.
//
// A unit's identity is made of its device's UUID and nothing else, so it is the same on every node that serves the device.

// Who made it.
const (
	vendor   = "POLLUX"
	product  = "Pollux Volume"
	revision = "1.0"
)

// companyID is that of NAA identifiers. Pollux has none of its own, so it is one that is administered locally: the second bit of its first byte says
// so. IEEE 802c, "Structured local address plan".
const companyID = 0x025058

const standardInquiryBytes = 96

// notThere is PERIPHERAL QUALIFIER 3, PERIPHERAL DEVICE TYPE 1Fh: there could be no unit at this LUN.
const notThere = 0x7F

// admitInquiry judges INQUIRY.
func (c *command) admitInquiry() bool {
	if c.cdb[1]&0x01 == 0 {
		if c.cdb[2] != 0 {
			return c.refuseCDB(2, 7)
		}
		return true
	}
	for i := range vpdPages {
		if p := &vpdPages[i]; p.code == c.cdb[2] && (i == 0 || !c.nowhere()) && p.serves(c) {
			return true
		}
	}
	return c.refuseCDB(2, 7)
}

// nowhere says that nothing is at the LUN.
func (c *command) nowhere() bool { return c.unit == nil }

// inquiry serves it.
func (c *command) inquiry() {
	room := uint32(reactor.PageBytes)
	if c.cdb[2] == pagePorts {
		room = c.portsBytes()
	}
	b := c.page(room)
	if b == nil {
		return
	}
	allocated := uint32(binary.BigEndian.Uint16(c.cdb[3:]))
	if c.cdb[1]&0x01 == 0 {
		c.answer(c.appendInquiry(b), allocated)
		return
	}
	for i := range vpdPages {
		if p := &vpdPages[i]; p.code == c.cdb[2] {
			b = append(b, c.peripheral(), p.code, 0, 0)
			b = p.append(c, b)
			binary.BigEndian.PutUint16(b[2:], uint16(len(b)-4))
			c.answer(b, allocated)
			return
		}
	}
}

// peripheral is PERIPHERAL QUALIFIER and PERIPHERAL DEVICE TYPE: a direct access block device, or nothing.
func (c *command) peripheral() byte {
	if c.nowhere() {
		return notThere
	}
	return 0
}

// The version descriptors: SAM-5, SPC-4, SBC-3 and iSCSI, no revision claimed. SPC-4, "Version descriptor values".
var versionDescriptors = [...]uint16{0x00A0, 0x0460, 0x04C0, 0x0960}

// appendInquiry appends the standard INQUIRY data. SPC-4, "Standard INQUIRY data".
func (c *command) appendInquiry(b []byte) []byte {
	b = append(b, c.peripheral(), 0,
		0x06,      // VERSION: SPC-4
		0x10|0x02, // HISUP, RESPONSE DATA FORMAT
		standardInquiryBytes-5,
		0x10, // TPGS: implicit; 3PC and PROTECT are 0
		0x00,
		0x02) // CMDQUE
	if !c.nowhere() && copies(c.unit.ch.Geometry()) {
		b[5] |= 0x08 // 3PC
	}
	if len(c.nexus.ports()) > 1 {
		b[6] |= 0x10 // MULTIP
	}
	b = appendPadded(b, vendor, 8)
	b = appendPadded(b, product, 16)
	b = appendPadded(b, revision, 4)
	b = append(b, make([]byte, 58-36)...)
	for _, v := range versionDescriptors {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return append(b, make([]byte, standardInquiryBytes-len(b))...)
}

// appendPadded appends s, filled up with spaces to n bytes.
func appendPadded(b []byte, s string, n int) []byte {
	b = append(b, s...)
	for range n - len(s) {
		b = append(b, ' ')
	}
	return b
}

// vpdPage is a page of vital product data.
type vpdPage struct {
	code    byte
	offered func(g *bdev.Geometry) bool // nil: always
	append  func(c *command, b []byte) []byte
}

func (p *vpdPage) serves(c *command) bool {
	return p.offered == nil || !c.nowhere() && p.offered(c.unit.ch.Geometry())
}

// vpdPages are all there are, ascending; the first lists them, of which the compiler must not hear.
var vpdPages []vpdPage

func init() {
	vpdPages = []vpdPage{
		{code: 0x00, append: (*command).appendPages},
		{code: 0x80, append: (*command).appendSerial},
		{code: 0x83, append: (*command).appendDesignators},
		{code: 0x86, append: (*command).appendExtended},
		{code: 0x87, append: (*command).appendModePolicy},
		{code: pagePorts, append: (*command).appendPorts},
		{code: 0x8F, offered: copies, append: (*command).appendCopying},
		{code: 0xB0, append: (*command).appendLimits},
		{code: 0xB1, append: (*command).appendCharacteristics},
		{code: 0xB2, append: (*command).appendProvisioning},
	}
}

// appendPages is page 00h, Supported VPD Pages.
func (c *command) appendPages(b []byte) []byte {
	for i := range vpdPages {
		if p := &vpdPages[i]; i == 0 || !c.nowhere() && p.serves(c) {
			b = append(b, p.code)
		}
	}
	return b
}

// appendSerial is page 80h, Unit Serial Number.
func (c *command) appendSerial(b []byte) []byte { return appendHex(b, c.unit.unit.id()) }

// id is the device's UUID.
func (u *Unit) id() uuid.UUID { return u.handle.Device().UUID() }

func appendHex(b []byte, id uuid.UUID) []byte {
	for _, x := range id {
		b = append(b, "0123456789abcdef"[x>>4], "0123456789abcdef"[x&15])
	}
	return b
}

// naa is the NAA IEEE Registered Extended designator of SPC-4: 6, the company, and the last 100 bits of the UUID, which hold what is
// random in one of version 4 but for 22 bits.
func naa(id uuid.UUID) (b [16]byte) {
	copy(b[3:], id[3:])
	b[0], b[1], b[2] = 0x60|companyID>>20, companyID>>12&0xFF, companyID>>4&0xFF
	b[3] = companyID&0x0F<<4 | id[3]&0x0F
	return b
}

// The fields of a designation descriptor. SPC-4, "Device Identification VPD page".
const (
	codeBinary = 1
	codeASCII  = 2
	codeUTF8   = 3

	aboutUnit   = 0 << 4
	aboutPort   = 1<<4 | 0x80 // PIV: and PROTOCOL IDENTIFIER counts
	aboutDevice = 2<<4 | 0x80

	protocolISCSI = 5 << 4

	designatorT10          = 1
	designatorNAA          = 3
	designatorRelativePort = 4
	designatorPortGroup    = 5
	designatorName         = 8
)

func appendDesignator(b []byte, code, about, kind byte, id []byte) []byte {
	if about&0x80 != 0 {
		code |= protocolISCSI
	}
	return append(append(b, code, about|kind, 0, byte(len(id))), id...)
}

// appendName appends a SCSI name string designator, which ends in a zero and is a multiple of 4 bytes long. SPC-4, "SCSI name string designator format".
func appendName(b []byte, about byte, name string) []byte {
	at := len(b)
	b = appendDesignator(b, codeUTF8, about, designatorName, nil)
	b = append(append(b, name...), 0)
	for (len(b)-at)%4 != 0 {
		b = append(b, 0)
	}
	b[at+3] = byte(len(b) - at - 4)
	return b
}

// appendDesignators is page 83h, Device Identification.
func (c *command) appendDesignators(b []byte) []byte {
	id := c.unit.unit.id()
	n := naa(id)
	b = appendDesignator(b, codeBinary, aboutUnit, designatorNAA, n[:])
	b = appendDesignator(b, codeASCII, aboutUnit, designatorT10, appendHex(appendPadded(make([]byte, 0, 40), vendor, 8), id))
	group := [4]byte{2: byte(c.nexus.tag >> 8), 3: byte(c.nexus.tag)}
	b = appendDesignator(b, codeBinary, aboutPort, designatorRelativePort, group[:])
	b = appendDesignator(b, codeBinary, aboutPort, designatorPortGroup, group[:])
	b = appendName(b, aboutPort, TargetPort(c.nexus.node.name, c.nexus.tag))
	return appendName(b, aboutDevice, c.nexus.node.name)
}

// appendExtended is page 86h, Extended INQUIRY Data.
func (c *command) appendExtended(b []byte) []byte {
	at := len(b) - 4
	b = append(b, make([]byte, 60)...)
	b[at+5] = 0x01 // SIMPSUP
	if c.unit.ch.Geometry().Volatile {
		b[at+6] = 0x01 // V_SUP
	}
	return b
}

// appendModePolicy is page 87h, Mode Page Policy: all pages are shared by all nexuses.
func (c *command) appendModePolicy(b []byte) []byte { return append(b, 0x3F, 0xFF, 0x00, 0x00) }

// pagePorts is the one page that has no limit.
const pagePorts = 0x88

// portsBytes is what page 88h needs at most.
func (c *command) portsBytes() uint32 {
	if c.nowhere() {
		return reactor.PageBytes
	}
	return uint32(min(4+len(c.nexus.ports())*(12+8+len(TargetPort(c.nexus.node.name, 0))), 1<<16-1))
}

// appendPorts is page 88h, SCSI Ports.
func (c *command) appendPorts(b []byte) []byte {
	for _, p := range c.nexus.ports() {
		b = append(b, 0, 0, byte(p.tag>>8), byte(p.tag), 0, 0, 0, 0, 0, 0, 0, 0)
		at := len(b)
		b = appendName(b, aboutPort, TargetPort(c.nexus.node.name, p.tag))
		binary.BigEndian.PutUint16(b[at-2:], uint16(len(b)-at))
	}
	return b
}

// compareAndWriteMax is MAXIMUM COMPARE AND WRITE LENGTH in blocks; 0 if there is no such command.
func compareAndWriteMax(g *bdev.Geometry) uint64 {
	if !swaps(g) {
		return 0
	}
	return min(255, uint64(g.MaxBlocks), reactor.BufferMax/2>>g.Shift())
}

// appendLimits is page B0h, Block Limits.
func (c *command) appendLimits(b []byte) []byte {
	g := c.unit.ch.Geometry()
	b = append(b, 0x01, byte(compareAndWriteMax(g)))                              // WSNZ: a WRITE SAME of zero blocks is refused
	b = binary.BigEndian.AppendUint16(b, uint16(g.PhysicalBlockSize/g.BlockSize)) // OPTIMAL TRANSFER LENGTH GRANULARITY
	b = binary.BigEndian.AppendUint32(b, g.MaxBlocks)
	b = binary.BigEndian.AppendUint32(b, g.OptimalBlocks)
	b = binary.BigEndian.AppendUint32(b, 0) // MAXIMUM PREFETCH LENGTH: no limit
	if unmaps(g) {
		b = binary.BigEndian.AppendUint32(b, unmapBlocksMax)
		b = binary.BigEndian.AppendUint32(b, unmapDescriptorsMax)
	} else {
		b = append(b, make([]byte, 8)...)
	}
	b = append(b, make([]byte, 8)...) // OPTIMAL UNMAP GRANULARITY and its alignment: not told
	b = binary.BigEndian.AppendUint64(b, writeSameMax(g))
	return append(b, make([]byte, 20)...) // the limits of WRITE ATOMIC: there is none
}

// appendCharacteristics is page B1h, Block Device Characteristics.
func (c *command) appendCharacteristics(b []byte) []byte {
	b = append(b, make([]byte, 60)...)
	binary.BigEndian.PutUint16(b[4:], 1) // MEDIUM ROTATION RATE: it does not rotate
	b[8] = 0x02 | 0x01                   // FUAB: FUA is as SBC-3 has it; VBULS: blocks that are not mapped are verified as any
	return b
}

// appendProvisioning is page B2h, Logical Block Provisioning.
func (c *command) appendProvisioning(b []byte) []byte {
	g := c.unit.ch.Geometry()
	if !unmaps(g) {
		return append(b, 0, 0, 0, 0)
	}
	flags := byte(0x80 | 0x40 | 0x20) // LBPU, LBPWS, LBPWS10
	if g.UnmapZeroes {
		flags |= 0x04 // LBPRZ
	}
	var percentage byte
	if tellsLowSpace(g) {
		percentage = thresholdRange
	}
	return append(b, 0, flags, 0x02, percentage) // PROVISIONING TYPE: thin, THRESHOLD PERCENTAGE
}
