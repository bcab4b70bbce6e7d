package iscsi

import (
	"encoding/binary"

	"github.com/pollux-storage/pollux/bdev"
)

// This file is what a command is told that fails: sense data, and the one place where a bdev.Status becomes status and sense.
//
// SPC-4, "Sense data". The fixed format, response code 70h:
//
//	0      VALID, 70h            8..11  COMMAND-SPECIFIC INFORMATION
//	2      SENSE KEY             12,13  ADDITIONAL SENSE CODE and QUALIFIER
//	3..6   INFORMATION           15..17 SENSE KEY SPECIFIC
//	7      ADDITIONAL SENSE LENGTH
//
// The descriptor format, 72h:
//
//	1      SENSE KEY             7      ADDITIONAL SENSE LENGTH
//	2,3    ASC and ASCQ          8..    descriptors: 00h information, 02h sense key specific

// senseCode is sense key, additional sense code and qualifier: 0x052400 is 05/24/00.
type senseCode uint32

// The codes. SPC-4, "Additional sense codes", of its annex on numeric order codes.
const (
	senseNone senseCode = 0x000000

	senseBecomingReady  senseCode = 0x020401
	senseALUATransition senseCode = 0x02040A
	senseALUAStandby    senseCode = 0x02040B
	senseALUAOff        senseCode = 0x02040C

	senseWriteError    senseCode = 0x030C00
	senseReadError     senseCode = 0x031100
	senseInternalError senseCode = 0x044400

	senseListLength      senseCode = 0x051A00
	senseInvalidOpcode   senseCode = 0x052000
	senseOutOfRange      senseCode = 0x052100
	senseInvalidField    senseCode = 0x052400 // in the CDB
	senseNoUnit          senseCode = 0x052500
	senseInvalidList     senseCode = 0x052600 // a field in the parameter list
	senseReleaseInvalid  senseCode = 0x052604
	senseNoSaving        senseCode = 0x053900
	senseNoRegistrations senseCode = 0x055504 // INSUFFICIENT REGISTRATION RESOURCES
	senseInvalidIU       senseCode = 0x050E03 // a field in the command information unit: EDTL does not fit the CDB

	senseReset          senseCode = 0x062900
	senseNexusLoss      senseCode = 0x062907
	senseModeChanged    senseCode = 0x062A01
	sensePreempted      senseCode = 0x062A03
	senseReleased       senseCode = 0x062A04
	senseRegistrations  senseCode = 0x062A05
	senseALUAChanged    senseCode = 0x062A06
	senseCapacity       senseCode = 0x062A09
	senseCleared        senseCode = 0x062F00
	senseLUNsChanged    senseCode = 0x063F0E
	senseSoftThreshold  senseCode = 0x063807
	senseWriteProtected senseCode = 0x072700
	senseSoftProtected  senseCode = 0x072702
	senseSpaceFailed    senseCode = 0x072707

	senseMiscompare senseCode = 0x0E1D00
)

func (s senseCode) key() byte  { return byte(s >> 16) }
func (s senseCode) asc() byte  { return byte(s >> 8) }
func (s senseCode) ascq() byte { return byte(s) }

// The lengths of sense data.
const (
	senseFixedBytes = 18
	senseBytesMax   = 8 + 12 + 8 // descriptors: information, sense key specific
)

// sense is what went wrong with a command.
type sense struct {
	code     senseCode
	informs  bool   // information counts
	info     uint64 // INFORMATION: an LBA, or the byte offset of a difference
	pointing pointing
	bit      int8   // that is wrong, 7 the highest; -1: the whole byte or several
	field    uint16 // the byte that is wrong
}

// pointing says where the field is that a sense points to.
type pointing uint8

const (
	pointsNowhere pointing = iota
	pointsCDB
	pointsList
)

// specific is SENSE KEY SPECIFIC: the field pointer. SPC-4, "Field pointer sense key specific data".
func (s *sense) specific() (b [3]byte) {
	if s.pointing == pointsNowhere {
		return b
	}
	b[0] = 0x80 // SKSV
	if s.pointing == pointsCDB {
		b[0] |= 0x40 // C/D
	}
	if s.bit >= 0 {
		b[0] |= 0x08 | byte(s.bit) // BPV
	}
	binary.BigEndian.PutUint16(b[1:], s.field)
	return b
}

// AppendTo appends the sense data, in the descriptor format if descriptors is true.
func (s *sense) AppendTo(b []byte, descriptors bool) []byte {
	if descriptors {
		return s.appendDescriptors(b)
	}
	var d [senseFixedBytes]byte
	d[0], d[2], d[7], d[12], d[13] = 0x70, s.code.key(), senseFixedBytes-8, s.code.asc(), s.code.ascq()
	if s.informs && s.info <= 1<<32-1 { // "VALID": a longer one does not fit
		d[0] |= 0x80
		binary.BigEndian.PutUint32(d[3:], uint32(s.info))
	}
	k := s.specific()
	copy(d[15:], k[:])
	return append(b, d[:]...)
}

func (s *sense) appendDescriptors(b []byte) []byte {
	at := len(b)
	b = append(b, 0x72, s.code.key(), s.code.asc(), s.code.ascq(), 0, 0, 0, 0)
	if s.informs {
		b = append(b, 0x00, 0x0A, 0x80, 0)
		b = binary.BigEndian.AppendUint64(b, s.info)
	}
	if s.pointing != pointsNowhere {
		k := s.specific()
		b = append(b, 0x02, 0x06, 0, 0, k[0], k[1], k[2], 0)
	}
	b[at+7] = byte(len(b) - at - 8)
	return b
}

// AppendSense appends the sense data that belongs to the answer: none unless the status is CheckCondition.
func (c *command) AppendSense(b []byte) []byte {
	if c.status != CheckCondition {
		return b
	}
	return c.sense.AppendTo(b, c.unit != nil && c.unit.unit.modes.has(modeDescriptorSense))
}

// refuse makes the answer to a command that is not served. It returns false, for admit to return.
func (c *command) refuse(code senseCode) bool {
	c.status, c.sense, c.out, c.send = CheckCondition, sense{code: code}, 0, 0
	return false
}

// refuseCDB is 05/24/00 with a pointer to a byte of the CDB, and to the highest bit of the field if bit is not -1.
func (c *command) refuseCDB(at uint16, bit int8) bool {
	c.refuse(senseInvalidField)
	c.sense.pointing, c.sense.field, c.sense.bit = pointsCDB, at, bit
	return false
}

// refuseList is 05/26/00 with a pointer into the parameter list.
func (c *command) refuseList(code senseCode, at uint16, bit int8) bool {
	c.refuse(code)
	c.sense.pointing, c.sense.field, c.sense.bit = pointsList, at, bit
	return false
}

// statusOf is the answer to a command whose request, of kind k, ended with s. Transient ones, and those that another path or node may not have,
// are such that hosts repeat the command.
func statusOf(s bdev.Status, k bdev.Kind) (SCSIStatus, senseCode) {
	switch s {
	case bdev.StatusOK:
		return Good, senseNone

	case bdev.StatusMisaligned, bdev.StatusTooLarge:
		return CheckCondition, senseInvalidField
	case bdev.StatusOutOfRange:
		return CheckCondition, senseOutOfRange
	case bdev.StatusNotSupported:
		return CheckCondition, senseInvalidOpcode
	case bdev.StatusMiscompare:
		return CheckCondition, senseMiscompare

	case bdev.StatusIO:
		if k.Writes() || k == bdev.Flush {
			return CheckCondition, senseWriteError
		}
		return CheckCondition, senseReadError
	case bdev.StatusCorrupt:
		return CheckCondition, senseReadError
	case bdev.StatusNoSpace:
		return CheckCondition, senseSpaceFailed
	case bdev.StatusReadOnly:
		return CheckCondition, senseWriteProtected
	case bdev.StatusGone:
		return CheckCondition, senseNoUnit

	case bdev.StatusBusy:
		return Busy, senseNone
	case bdev.StatusNotReady, bdev.StatusNotDurable, bdev.StatusQuorumLost:
		return CheckCondition, senseBecomingReady
	case bdev.StatusNotPrimary:
		return CheckCondition, senseALUAStandby
	case bdev.StatusEpochStale, bdev.StatusLeaseExpired, bdev.StatusClosed:
		return CheckCondition, senseALUATransition
	case bdev.StatusAborted:
		return TaskAborted, senseNone
	}
	return CheckCondition, senseInternalError
}

// failed ends the command with what became of its request.
func (c *command) failed(q *bdev.Request) {
	status, code := statusOf(q.Status, q.Kind)
	if c.copying != nil {
		code = c.copyFailed(q, status, code)
	}
	c.refuse(code)
	c.status = status
	switch {
	case q.Status == bdev.StatusMiscompare:
		// SBC-3, "COMPARE AND WRITE command": the offset of the first byte that differs.
		c.sense.informs, c.sense.info = true, uint64(q.Detail)
	case code == senseReadError || code == senseWriteError && q.Kind != bdev.Flush:
		// SBC-3, "Error reporting": which of the blocks it was is not known, but none before the first.
		c.sense.informs, c.sense.info = true, q.LBA
	}
	c.port.end()
}
