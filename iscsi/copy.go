package iscsi

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/pollux-storage/pollux/bdev"
)

// This file is copying without the initiator: EXTENDED COPY(LID1) and RECEIVE COPY RESULTS. SPC-4, "Third-party copies".
//
// Offered is what hosts use to copy within a disk and from one to another: identification descriptors (E4h) of units that the nexus reaches, and block to
// block segments (02h). Other units are told to be unreachable, and the host copies by itself. A parameter list:
//
//	0      LIST IDENTIFIER               8..11  SEGMENT DESCRIPTOR LIST LENGTH
//	1      LIST ID USAGE in bits 4..3    12..15 INLINE DATA LENGTH
//	2..3   TARGET DESCRIPTOR LIST LENGTH 16..   targets, 32 bytes each, then segments, 28 bytes each
//
// All of the list is checked before the first segment is copied.

const (
	copyHeaderBytes  = 16
	copyTargetBytes  = 32
	copySegmentBytes = 28
	copyTargetsMax   = 8
	copySegmentsMax  = 64
	copyListMax      = copyTargetsMax*copyTargetBytes + copySegmentsMax*copySegmentBytes // without the header
	copyBlocksMax    = 1<<16 - 1                                                         // of a segment

	copyIdentification = 0xE4
	copyBlockToBlock   = 0x02
)

// LIST ID USAGE. SPC-4, "EXTENDED COPY(LID1) command".
const (
	copyHolds    = 0
	copyDiscards = 2
	copyNoList   = 3
)

// The sense codes of copying.
const (
	senseCopyAborted     senseCode = 0x0A0000
	senseUnreachableCopy senseCode = 0x0A0804
	senseCopyNoDevice    senseCode = 0x0A0D02
	senseThirdParty      senseCode = 0x0A0D01
	senseInexactSegment  senseCode = 0x0A260A
	senseManyTargets     senseCode = 0x052606
	senseTargetType      senseCode = 0x052607
	senseManySegments    senseCode = 0x052608
	senseSegmentType     senseCode = 0x052609
	senseInlineData      senseCode = 0x05260B
)

// copyRecord is what RECEIVE COPY RESULTS tells of a copy.
type copyRecord struct {
	list     byte
	failed   bool
	segments uint16
	bytes    uint64
}

// copyRecordsMax is how many of a nexus on a unit are held.
const copyRecordsMax = 8

// copyOf gives the record of a list, nil if there is none.
func (n *nexusUnit) copyOf(list byte) *copyRecord {
	for i := range n.copies {
		if n.copies[i].list == list {
			return &n.copies[i]
		}
	}
	return nil
}

// holdCopy keeps a record, in place of an older one of that list, or of the oldest.
func (n *nexusUnit) holdCopy(r copyRecord) {
	if old := n.copyOf(r.list); old != nil {
		*old = r
		return
	}
	if len(n.copies) == copyRecordsMax {
		n.copies = append(n.copies[:0], n.copies[1:]...)
	}
	n.copies = append(n.copies, r)
}

// copies reports whether blocks of the device can be copied.
func copies(g *bdev.Geometry) bool { return g.Supports(bdev.Copy) }

// admitCopy judges EXTENDED COPY.
func (c *command) admitCopy() bool {
	n := binary.BigEndian.Uint32(c.cdb[10:])
	if 0 < n && n < copyHeaderBytes || n > copyHeaderBytes+copyListMax {
		return c.refuse(senseListLength)
	}
	return c.bringsList(n)
}

// copyTargets and copySegments are how many the list has.
func (c *command) copyTargets() int {
	return int(binary.BigEndian.Uint16(c.data[2:])) / copyTargetBytes
}

func (c *command) copySegments() int {
	return int(binary.BigEndian.Uint32(c.data[8:])) / copySegmentBytes
}

// copySegment is segment i of the list.
func (c *command) copySegment(i int) []byte {
	return c.data[copyHeaderBytes+c.copyTargets()*copyTargetBytes+i*copySegmentBytes:][:copySegmentBytes]
}

// extendedCopy checks the list and copies the first segment.
func (c *command) extendedCopy() {
	k := &copying{}
	if c.out == 0 || !c.checkCopy(k) {
		c.port.end()
		return
	}
	c.copying = k
	k.begin()
	c.copyNext()
}

// checkCopy judges the list.
func (c *command) checkCopy(k *copying) bool {
	b := c.data[:c.out]
	targets, segments, inline := binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:])
	switch usage := b[1] >> 3 & 3; {
	case uint64(targets)+uint64(segments)+uint64(inline)+copyHeaderBytes > uint64(len(b)):
		return c.refuse(senseListLength)
	case usage == 1, usage == copyNoList && b[0] != 0:
		return c.refuseList(senseInvalidList, 1, 4)
	case targets > copyTargetsMax*copyTargetBytes:
		return c.refuseList(senseManyTargets, 2, -1)
	case segments > copySegmentsMax*copySegmentBytes:
		return c.refuseList(senseManySegments, 8, -1)
	case inline > 0:
		return c.refuseList(senseInlineData, 12, -1)
	case targets%copyTargetBytes != 0:
		return c.refuseList(senseInvalidList, 2, -1)
	}
	for i := range c.copyTargets() {
		if at := copyHeaderBytes + i*copyTargetBytes; b[at] != copyIdentification {
			return c.refuseList(senseTargetType, uint16(at), -1)
		}
		k.units[i] = c.unitNamed(c.copyTarget(i))
	}
	for i := range (int(segments) + copySegmentBytes - 1) / copySegmentBytes {
		at := copyHeaderBytes + int(targets) + i*copySegmentBytes
		if b[at] != copyBlockToBlock {
			return c.refuseList(senseSegmentType, uint16(at), -1)
		}
		if int(segments)-i*copySegmentBytes < copySegmentBytes || binary.BigEndian.Uint16(b[at+2:]) != copySegmentBytes-4 {
			return c.refuseList(senseInvalidList, uint16(at+2), -1)
		}
	}
	for i := range c.copySegments() {
		if !c.checkSegment(k, c.copySegment(i)) {
			return false
		}
	}
	return true
}

// checkSegment judges what a segment copies.
func (c *command) checkSegment(k *copying, s []byte) bool {
	for _, i := range [2]int{int(binary.BigEndian.Uint16(s[4:])), int(binary.BigEndian.Uint16(s[6:]))} {
		if i >= c.copyTargets() {
			return c.refuse(senseUnreachableCopy)
		}
		if k.units[i] == nil {
			return c.refuse(senseCopyNoDevice)
		}
	}
	src, dst := k.units[binary.BigEndian.Uint16(s[4:])], k.units[binary.BigEndian.Uint16(s[6:])]
	g, d := src.ch.Geometry(), dst.ch.Geometry()
	from, to, _ := segmentRange(s)
	if from > g.Blocks || to > d.Blocks {
		return c.refuse(senseCopyAborted)
	}
	first, at, n := k.segmentBytes(s)
	switch {
	case n%uint64(max(g.BlockSize, d.BlockSize)) != 0:
		return c.refuse(senseInexactSegment)
	case n > g.Bytes()-first, n > d.Bytes()-at:
		return c.refuse(senseCopyAborted)
	}
	return c.mayCopy(src, dst)
}

// mayCopy judges whether the initiator may do by the copy what it does to the units. What bars the unit that has the command it hears as with any other.
func (c *command) mayCopy(src, dst *nexusUnit) bool {
	switch own := dst == c.unit; {
	case dst.ch.Geometry().ReadOnly && own:
		return c.refuse(senseWriteProtected)
	case dst.unit.modes.has(modeSoftProtected) && own:
		return c.refuse(senseSoftProtected)
	case dst.ch.Geometry().ReadOnly, dst.unit.modes.has(modeSoftProtected), src.denyRead, dst.denyWrite, src.held.Live(), dst.held.Live():
		return c.refuse(senseThirdParty)
	}
	return true
}

// segmentRange is the blocks of a block to block segment.
func segmentRange(s []byte) (from, to, blocks uint64) {
	return binary.BigEndian.Uint64(s[12:]), binary.BigEndian.Uint64(s[20:]), uint64(binary.BigEndian.Uint16(s[10:]))
}

// copyTarget is target i of the list.
func (c *command) copyTarget(i int) []byte {
	return c.data[copyHeaderBytes+i*copyTargetBytes:][:copyTargetBytes]
}

// unitNamed gives the unit that an identification descriptor names, the command's own if that is it, nil if none is it: by its NAA, for the T10 designator is
// longer than there is room. SPC-4, "Identification Descriptor CSCD descriptor format". LU ID TYPE and NUL, which it once had, are obsolete.
func (c *command) unitNamed(d []byte) *nexusUnit {
	if d[1]&0x1F != 0 || d[4]&0x0F != codeBinary || d[5]&0x3F != aboutUnit|designatorNAA {
		return nil
	}
	is := func(u *nexusUnit) bool {
		if u == nil {
			return false
		}
		id := naa(u.unit.id())
		return bytes.Equal(d[8:8+min(d[7], 20)], id[:]) && uint32(d[29])<<16|uint32(d[30])<<8|uint32(d[31]) == u.ch.Geometry().BlockSize
	}
	if is(c.unit) {
		return c.unit
	}
	if i := slices.IndexFunc(c.nexus.units, is); i >= 0 {
		return c.nexus.units[i]
	}
	return nil
}

// admitCopyStatus judges RECEIVE COPY RESULTS with COPY STATUS: the list has to be known.
func (c *command) admitCopyStatus() bool {
	if c.unit.copyOf(c.cdb[2]) == nil {
		return c.refuseCDB(2, 7)
	}
	return true
}

// copyStatus tells of a copy. SPC-4, "RECEIVE COPY STATUS(LID1) command".
func (c *command) copyStatus() {
	b := c.page(12)
	if b == nil {
		return
	}
	r := c.unit.copyOf(c.cdb[2])
	if r == nil { // another command was told of it
		c.refuseCDB(2, 7)
		c.port.end()
		return
	}
	const completed, errors, kilobytes = 1, 2, 1
	status := byte(completed)
	if r.failed {
		status = errors
	}
	b = append(b, 0, 0, 0, 8, status, byte(r.segments>>8), byte(r.segments), kilobytes)
	c.answer(binary.BigEndian.AppendUint32(b, uint32(min(r.bytes>>10, 1<<32-1))), binary.BigEndian.Uint32(c.cdb[10:]))
}

// The bytes of a segment at most, and the logarithm of what it is a multiple of.
func copyBytesMax(g *bdev.Geometry) uint32 { return copyBlocksMax << g.Shift() }

// copyParameters tells what can be copied. SPC-4, "RECEIVE COPY OPERATING PARAMETERS command".
func (c *command) copyParameters() {
	b := c.page(64)
	if b == nil {
		return
	}
	g := c.unit.ch.Geometry()
	b = append(b, make([]byte, 46)...)
	binary.BigEndian.PutUint32(b, 42)
	b[4] = 0x01 // SNLID: LIST ID USAGE may be 11b
	binary.BigEndian.PutUint16(b[8:], copyTargetsMax)
	binary.BigEndian.PutUint16(b[10:], copySegmentsMax)
	binary.BigEndian.PutUint32(b[12:], copyListMax)
	binary.BigEndian.PutUint32(b[16:], copyBytesMax(g))
	binary.BigEndian.PutUint16(b[34:], 1) // TOTAL CONCURRENT COPIES, which are not limited but by tasks: at least one
	b[36] = 1                             // MAXIMUM CONCURRENT COPIES
	b[37] = byte(g.Shift())               // DATA SEGMENT GRANULARITY
	b[43] = 2                             // IMPLEMENTED DESCRIPTOR LIST LENGTH
	b[44], b[45] = copyBlockToBlock, copyIdentification
	c.answer(b, binary.BigEndian.Uint32(c.cdb[10:]))
}

// appendCopying is page 8Fh, Third-party Copy.
func (c *command) appendCopying(b []byte) []byte {
	g := c.unit.ch.Geometry()
	// Supported Commands
	b = append(b, 0x00, 0x01, 0, 8, 7, opExtendedCopy, 1, actionCopy, opReceiveCopy, 2, actionCopyStatus, actionCopyParameters)
	// Parameter Data
	b = append(b, 0x00, 0x04, 0, 28, 0, 0, 0, 0, 0, copyTargetsMax, 0, copySegmentsMax)
	b = binary.BigEndian.AppendUint32(b, copyListMax)
	b = append(b, make([]byte, 16)...)
	// Supported Descriptors
	b = append(b, 0x00, 0x08, 0, 4, 2, copyBlockToBlock, copyIdentification, 0)
	// Supported CSCD Descriptor IDs: those of the list alone
	b = append(b, 0x00, 0x0C, 0, 4, 0, 0, 0, 0)
	// General Copy Operations
	b = append(b, 0x80, 0x01, 0, 32, 0, 0, 0, 1, 0, 0, 0, 1)
	b = binary.BigEndian.AppendUint32(b, copyBytesMax(g))
	b = append(b, byte(g.Shift()), 0)
	return append(b, make([]byte, 18)...)
}

// The codes of the commands here.
const (
	opExtendedCopy = 0x83
	actionCopy     = 0x00 // LID1

	opReceiveCopy        = 0x84
	actionCopyStatus     = 0x00
	actionCopyParameters = 0x03
)
