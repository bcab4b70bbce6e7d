package nvmf

import "github.com/pollux-storage/pollux/internal/crc32c"

// This file is the cutting of an NVMe/TCP stream into PDUs, and the digests. The common header alone says where a
// PDU's parts lie, so it is checked as soon as its 8 bytes are there, before anything it says is waited for:
//
//	0        HLEN      +4         PDO                      PLEN-4      PLEN
//	| header | HDGST?  | padding? | data                   | DDGST?    |
//
// TCP Transport Specification 1.0, "NVMe/TCP PDUs". Neither digest covers padding.

// Side is an end of a connection.
type Side uint8

// The sides.
const (
	SideHost Side = iota
	SideController
)

// pduKind is what the standard fixes for a PDU type.
type pduKind struct {
	name    string
	from    Side
	hlen    uint8
	data    dataRule
	digests bool // header and data digests apply, where they are in use
	opens   bool // it sets the connection up: it comes first and only once
}

type dataRule uint8

const (
	dataNever dataRule = iota
	dataMay
	dataMust
	dataTerm // the header at fault: unaligned, never digested, bounded by its own limit
)

// The length of each header is fixed by its type.
var pduKinds = [...]pduKind{
	PDUICReq:       {"ICReq", SideHost, ICBytes, dataNever, false, true},
	PDUICResp:      {"ICResp", SideController, ICBytes, dataNever, false, true},
	PDUH2CTermReq:  {"H2CTermReq", SideHost, TermReqBytes, dataTerm, false, false},
	PDUC2HTermReq:  {"C2HTermReq", SideController, TermReqBytes, dataTerm, false, false},
	PDUCapsuleCmd:  {"CapsuleCmd", SideHost, CapsuleCmdBytes, dataMay, true, false},
	PDUCapsuleResp: {"CapsuleResp", SideController, CapsuleRespBytes, dataNever, true, false},
	PDUH2CData:     {"H2CData", SideHost, DataHeaderBytes, dataMust, true, false},
	PDUC2HData:     {"C2HData", SideController, DataHeaderBytes, dataMust, true, false},
	PDUR2T:         {"R2T", SideController, R2TBytes, dataNever, true, false},
}

// Framing is what one side knows about the PDUs that it receives. The zero value, with From, waits for ICReq or
// ICResp.
type Framing struct {
	From            Side    // who sends
	Open            bool    // ICReq, or for a host ICResp, has been received
	Digests         Digests // in use since then
	Align           uint32  // bytes that PDO is a multiple of: DataAlign of our CPDA, or of our HPDA
	CapsuleBytesMax uint32  // in-capsule data that a CapsuleCmd may carry
	DataBytesMax    uint32  // data that one H2CData, or one C2HData, may carry
}

// Frame says where the parts of a PDU lie. All are offsets or lengths in bytes and within PLEN.
type Frame struct {
	CommonHeader
	HeaderBytes uint32 // header and header digest
	DataAt      uint32 // where the data begins; PLEN without data
	DataBytes   uint32 // data alone
	DataDigest  bool   // DigestBytes follow the data
}

// Frame checks a common header. Nothing of the PDU but these 8 bytes need be there yet. The limits stand in the answer
// to each check: whoever follows the frame never waits for more than the connection has room for.
//
// A TermReq of a wrong length is reported as any other fault; the caller, who may not answer a TermReq with one, sees
// its type in h and only closes.
func (f *Framing) Frame(h CommonHeader) (Frame, PDUError) {
	if int(h.Type) >= len(pduKinds) || pduKinds[h.Type].name == "" || pduKinds[h.Type].from != f.From {
		return Frame{}, badByte(offsetType)
	}
	k := &pduKinds[h.Type]
	if k.opens == f.Open && k.data != dataTerm {
		return Frame{}, ErrSequence
	}

	fr := Frame{CommonHeader: h, HeaderBytes: uint32(k.hlen), DataAt: h.PLEN}
	if k.digests && f.Digests&HeaderDigests != 0 {
		fr.HeaderBytes += DigestBytes
	}
	hasData := k.data != dataNever && h.PLEN > fr.HeaderBytes
	fr.DataDigest = k.digests && hasData && f.Digests&DataDigests != 0

	if k.digests {
		if (h.Flags&FlagHDGST != 0) != (f.Digests&HeaderDigests != 0) {
			return Frame{}, badByte(offsetFlags)
		}
		if hasData && (h.Flags&FlagDDGST != 0) != fr.DataDigest {
			return Frame{}, badByte(offsetFlags)
		}
	}
	if h.HLEN != k.hlen {
		return Frame{}, badByte(offsetHLEN)
	}
	if !hasData {
		if h.PLEN != fr.HeaderBytes || k.data == dataMust {
			return Frame{}, badByte(offsetPLEN)
		}
		return fr, PDUError{}
	}
	if k.data == dataTerm {
		if h.PLEN > TermReqBytesMax {
			return Frame{}, badByte(offsetPLEN)
		}
		fr.DataAt = TermReqBytes
		fr.DataBytes = h.PLEN - TermReqBytes
		return fr, PDUError{}
	}

	fr.DataAt = uint32(h.PDO)
	if fr.DataAt < fr.HeaderBytes || f.Align != 0 && fr.DataAt%f.Align != 0 {
		return Frame{}, badByte(offsetPDO)
	}
	end := h.PLEN
	if fr.DataDigest {
		end -= DigestBytes // PLEN is above HeaderBytes, so this does not wrap
	}
	if end <= fr.DataAt {
		return Frame{}, badByte(offsetPLEN)
	}
	fr.DataBytes = end - fr.DataAt
	if h.Type == PDUCapsuleCmd {
		if fr.DataBytes > f.CapsuleBytesMax {
			return Frame{}, badByte(offsetPLEN)
		}
	} else if fr.DataBytes > f.DataBytesMax {
		return Frame{}, PDUError{FESLimitExceeded, 0}
	}
	return fr, PDUError{}
}

// CheckHeader proves the header digest, where there is one. b are the frame's first HeaderBytes.
func (fr Frame) CheckHeader(b []byte) PDUError {
	if fr.HeaderBytes == uint32(fr.HLEN) {
		return PDUError{}
	}
	got := Digest(b[fr.HLEN:])
	if got != DataDigest(0, b[:fr.HLEN]) {
		return PDUError{FESHeaderDigest, got}
	}
	return PDUError{}
}

// DataDigest continues the digest crc, which begins at 0, over b.
func DataDigest(crc uint32, b []byte) uint32 { return crc32c.Update(crc, b) }

// Digest reads a digest from the first DigestBytes of b.
func Digest(b []byte) uint32 { return crc32c.Read(b) }

// AppendDigest appends a digest to b.
func AppendDigest(b []byte, digest uint32) []byte { return crc32c.Append(b, digest) }
