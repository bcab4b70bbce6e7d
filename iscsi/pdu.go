package iscsi

import (
	"encoding/binary"
	"fmt"

	"github.com/pollux-storage/pollux/internal/crc32c"
	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is what all iSCSI PDUs have in common; the PDUs themselves are in pducommand.go (a command and its data) and pdusession.go (all
// others), their codes in pducode.go. RFC 7143 section 11, "iSCSI PDU Formats". A PDU is
//
//	0      48                                                     padded to 4
//	| BHS | AHS, TotalAHSLength words | header digest? | data segment | data digest? |
//
// The header digest covers BHS and AHS, the data digest the data segment with its padding (section 13.1). All numbers are big-endian, the
// digests are not. The basic header segment, BHS:
//
//	 0       . I opcode      I: immediate, in requests
//	 1       flags           F, final, is bit 7 nearly everywhere
//	 2..3    by opcode
//	 4       TotalAHSLength  in words of 4 bytes
//	 5..7    DataSegmentLength in bytes, without padding
//	 8..15   LUN, or by opcode
//	16..19   ITT             Initiator Task Tag
//	20..47   by opcode
//
// Decoders take a BHS, and check in the order of the bytes. What is reserved is not looked at and is sent as zero. Encoders append the
// BHS; AHS, digest and data are to follow (AppendDigest, AppendDataEnd).

// Sizes on the wire, in bytes.
const (
	BHSBytes    = 48
	AHSBytesMax = 255 * 4
	DigestBytes = crc32c.Bytes

	// HeaderBytesMax is all that may stand before the data: a receive buffer must have room for it.
	HeaderBytesMax = BHSBytes + AHSBytesMax + DigestBytes

	// DataBytesMax is what DataSegmentLength can say.
	DataBytesMax = 1<<24 - 1
)

// Opcode is what a PDU is. RFC 7143 section 11.2.1.2, "Opcode".
type Opcode uint8

// The opcodes, of the initiator and of the target.
const (
	OpNOPOut       Opcode = 0x00
	OpSCSICommand  Opcode = 0x01
	OpTaskRequest  Opcode = 0x02
	OpLoginRequest Opcode = 0x03
	OpTextRequest  Opcode = 0x04
	OpDataOut      Opcode = 0x05
	OpLogout       Opcode = 0x06
	OpSNACK        Opcode = 0x10
	opVendor       Opcode = 0x1C // RFC 7143 section 11.2.1.2, "Opcode": vendors have these
	opVendorEnd    Opcode = 0x1E

	OpNOPIn          Opcode = 0x20
	OpSCSIResponse   Opcode = 0x21
	OpTaskResponse   Opcode = 0x22
	OpLoginResponse  Opcode = 0x23
	OpTextResponse   Opcode = 0x24
	OpDataIn         Opcode = 0x25
	OpLogoutResponse Opcode = 0x26
	OpR2T            Opcode = 0x31
	OpAsync          Opcode = 0x32
	OpReject         Opcode = 0x3F
)

var opcodeNames = [...]string{
	OpNOPOut: "NOP-Out", OpSCSICommand: "SCSI Command", OpTaskRequest: "Task Management Function Request", OpLoginRequest: "Login Request",
	OpTextRequest: "Text Request", OpDataOut: "SCSI Data-Out", OpLogout: "Logout Request", OpSNACK: "SNACK Request",
	OpNOPIn: "NOP-In", OpSCSIResponse: "SCSI Response", OpTaskResponse: "Task Management Function Response", OpLoginResponse: "Login Response",
	OpTextResponse: "Text Response", OpDataIn: "SCSI Data-In", OpLogoutResponse: "Logout Response", OpR2T: "R2T", OpAsync: "Asynchronous Message",
	OpReject: "Reject",
}

// String gives the standard's name of the PDU.
func (o Opcode) String() string {
	if int(o) < len(opcodeNames) && opcodeNames[o] != "" {
		return opcodeNames[o]
	}
	return fmt.Sprintf("opcode %02Xh", uint8(o))
}

// ITT is an Initiator Task Tag: the initiator's name of a task. RFC 7143 section 11.2.1.8.
type ITT uint32

// TTT is a Target Transfer Tag: the target's name of something that it waits for.
type TTT uint32

// NoTag is the reserved tag, an ITT or a TTT: it names nothing.
const NoTag = 0xFFFFFFFF

// SerialNumber is a CmdSN or StatSN, which wrap: RFC 1982 with 32 bits. RFC 7143 section 4.2.2.1, "Command Numbering and Acknowledging".
type SerialNumber uint32

// Before reports whether s comes before o. Of two that are 2^31 apart neither does.
func (s SerialNumber) Before(o SerialNumber) bool { return int32(s-o) < 0 && s-o != 1<<31 }

// In reports whether s lies in first…last, both included; the range is empty if last comes before first.
func (s SerialNumber) In(first, last SerialNumber) bool {
	return !last.Before(first) && s-first <= last-first
}

// Numbers are in every PDU of the target but Data-In without status.
type Numbers struct {
	StatSN   SerialNumber // of this response, or of the next if this one has none
	ExpCmdSN SerialNumber // the command that is expected next; all before it have come
	MaxCmdSN SerialNumber // the last one that may be sent
}

func decodeNumbers(b []byte) Numbers {
	return Numbers{SerialNumber(be.Uint32(b[24:])), SerialNumber(be.Uint32(b[28:])), SerialNumber(be.Uint32(b[32:]))}
}

func (n Numbers) put(h []byte) {
	be.PutUint32(h[24:], uint32(n.StatSN))
	be.PutUint32(h[28:], uint32(n.ExpCmdSN))
	be.PutUint32(h[32:], uint32(n.MaxCmdSN))
}

// Request is in every numbered PDU of the initiator.
type Request struct {
	Immediate bool         // it does not count: CmdSN is that of the next that does
	CmdSN     SerialNumber // its place in the order
	ExpStatSN SerialNumber // the response that is expected next; all before it have come
}

func decodeRequest(b []byte) Request {
	return Request{b[0]&flagImmediate != 0, SerialNumber(be.Uint32(b[24:])), SerialNumber(be.Uint32(b[28:]))}
}

func (r Request) put(h []byte) {
	if r.Immediate {
		h[0] |= flagImmediate
	}
	be.PutUint32(h[24:], uint32(r.CmdSN))
	be.PutUint32(h[28:], uint32(r.ExpStatSN))
}

// Fault says what is wrong with a PDU: what a Reject tells, and for logs the first byte at fault. The zero value means that nothing is. It
// is a value, so that the I/O path makes one without allocating.
type Fault struct {
	Reason RejectReason
	At     uint8 // offset in the BHS
}

// OK reports that nothing is wrong.
func (f Fault) OK() bool { return f.Reason == 0 }

// Error gives the fault in words, for logs.
func (f Fault) Error() string { return fmt.Sprintf("%v at byte %d", f.Reason, f.At) }

func badByte(at uint8) Fault { return Fault{RejectInvalidField, at} }

// Offsets of what a decoder may find at fault.
const (
	atFlags       = 1
	atDataSegment = 5
	atISID        = 8
	atITT         = 16
	atTTT         = 20
	atCmdSN       = 24
)

const (
	flagImmediate = 0x40 // of byte 0
	opcodeMask    = 0x3F

	flagFinal    = 0x80 // of byte 1: F, in a login T
	flagContinue = 0x40 // C of Text and Login, A of Data-In
)

var be = binary.BigEndian

// Header is what a BHS says of any PDU: where its parts lie.
type Header struct {
	Opcode    Opcode
	Immediate bool
	AHSBytes  uint32
	DataBytes uint32 // without padding
}

// DecodeHeader reads the first 8 bytes of b.
func DecodeHeader(b []byte) Header {
	_ = b[7]
	return Header{
		Opcode:    Opcode(b[0] & opcodeMask),
		Immediate: b[0]&flagImmediate != 0,
		AHSBytes:  uint32(b[4]) * 4,
		DataBytes: dataBytesOf(b),
	}
}

func dataBytesOf(b []byte) uint32 { return uint32(b[5])<<16 | uint32(b[6])<<8 | uint32(b[7]) }

// Padding is the number of bytes that fill n bytes of data up to whole words.
func Padding(n uint32) uint32 { return -n & 3 }

// appendBHS appends a BHS with its first 8 bytes set, and gives it as h.
func appendBHS(b []byte, op Opcode, flags uint8, dataBytes uint32) (out, h []byte) {
	invariant.Check(dataBytes <= DataBytesMax, "iscsi: a data segment longer than its length can say")
	out = append(b, zeros[:BHSBytes]...)
	h = out[len(b):]
	h[0], h[1] = byte(op), flags
	h[5], h[6], h[7] = byte(dataBytes>>16), byte(dataBytes>>8), byte(dataBytes)
	return out, h
}

// AppendDigest appends the header digest, where it is in use, to the header that begins at start: BHS and AHS.
func AppendDigest(b []byte, start int, d Digests) []byte {
	if d&HeaderDigests == 0 {
		return b
	}
	return crc32c.Append(b, crc32c.Update(0, b[start:]))
}

// AppendDataEnd appends what follows a data segment of dataBytes: padding, and where it is in use the digest of both. crc is that of the
// data, by DataCRC; without data digests it is not looked at.
func AppendDataEnd(b []byte, dataBytes, crc uint32, d Digests) []byte {
	if dataBytes == 0 {
		return b
	}
	pad := zeros[:Padding(dataBytes)]
	b = append(b, pad...)
	if d&DataDigests == 0 {
		return b
	}
	return crc32c.Append(b, crc32c.Update(crc, pad))
}

// DataEndBytes is how much AppendDataEnd appends.
func DataEndBytes(dataBytes uint32, d Digests) uint32 {
	n := Padding(dataBytes)
	if dataBytes > 0 && d&DataDigests != 0 {
		n += DigestBytes
	}
	return n
}

// DataCRC continues the digest crc of a data segment, which begins at 0, over b.
func DataCRC(crc uint32, b []byte) uint32 { return crc32c.Update(crc, b) }

// zeros pads, and fills what is reserved.
var zeros [BHSBytes]byte
