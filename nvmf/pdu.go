package nvmf

import (
	"encoding/binary"
	"fmt"
)

// This file is the codec of the NVMe/TCP PDUs. Where a PDU ends and where its data lies is in frame.go.
//
// NVM Express TCP Transport Specification 1.0, "NVMe/TCP PDUs". Every PDU begins with the common header; all numbers are
// little-endian.
//
//	 0      type        PDUType
//	 1      flags       HDGSTF 0, DDGSTF 1, LAST_PDU 2, SUCCESS 3
//	 2      HLEN        bytes of header, without the header digest
//	 3      PDO         where the data begins, from the start of the PDU
//	 4..7   PLEN        bytes of the whole PDU: header, digests, padding and data
//
//	        ICReq 00    ICResp 01     CapsuleCmd 04   CapsuleResp 05
//	 8      PFV    2    PFV     2     SQE  64         CQE  16
//	10      HPDA   1    CPDA    1
//	11      DGST   1    DGST    1
//	12      MAXR2T 4    MAXH2CDATA 4
//	16..127 reserved    reserved
//
//	        H2CData 06  C2HData 07    R2T 09          H2CTermReq 02, C2HTermReq 03
//	 8      CCCID  2    CCCID   2     CCCID 2          8 FES 2
//	10      TTAG   2    reserved      TTAG  2         10 FEI 4
//	12      DATAO  4    DATAO   4     R2TO  4
//	16      DATAL  4    DATAL   4     R2TL  4
//	20..23  reserved    reserved      reserved        24.. the header at fault
//
// Decoders take the header, HLEN bytes, without its digest. They check in the order of the bytes; the first byte at
// fault is the FEI of the answer. Reserved bytes and bits are not looked at and are sent as zero.

// PDUType is the first byte of a PDU.
type PDUType uint8

// The PDU types.
const (
	PDUICReq       PDUType = 0x00
	PDUICResp      PDUType = 0x01
	PDUH2CTermReq  PDUType = 0x02
	PDUC2HTermReq  PDUType = 0x03
	PDUCapsuleCmd  PDUType = 0x04
	PDUCapsuleResp PDUType = 0x05
	PDUH2CData     PDUType = 0x06
	PDUC2HData     PDUType = 0x07
	PDUR2T         PDUType = 0x09
)

// String gives the standard's name of the type.
func (t PDUType) String() string {
	if int(t) < len(pduKinds) && pduKinds[t].name != "" {
		return pduKinds[t].name
	}
	return fmt.Sprintf("PDU type %02Xh", uint8(t))
}

// The flags of the common header.
const (
	FlagHDGST   uint8 = 1 << 0 // a header digest follows the header
	FlagDDGST   uint8 = 1 << 1 // a data digest follows the data
	FlagLast    uint8 = 1 << 2 // LAST_PDU: the last data of its command, or of its R2T
	FlagSuccess uint8 = 1 << 3 // SUCCESS: stands for a CapsuleResp with status 0
)

// Sizes on the wire, in bytes.
const (
	CommonHeaderBytes = 8
	DigestBytes       = 4
	ICBytes           = 128 // ICReq and ICResp
	CapsuleCmdBytes   = 72
	CapsuleRespBytes  = 24
	DataHeaderBytes   = 24 // H2CData and C2HData
	R2TBytes          = 24
	TermReqBytes      = 24  // without the header at fault
	TermReqBytesMax   = 152 // with it
	PDUHeaderBytesMax = ICBytes + DigestBytes
)

// AdminCapsuleBytesMax is the in-capsule data that Admin and Fabrics commands may carry, whatever IOCCSZ says: 8192.
// TCP Transport Specification 1.0, "Command Capsules".
const AdminCapsuleBytesMax = 8192

// FES is the Fatal Error Status of a TermReq: why the connection ends.
type FES uint16

// The fatal errors. 5 is one code with a name for each direction.
const (
	FESInvalidHeader        FES = 1
	FESSequence             FES = 2
	FESHeaderDigest         FES = 3
	FESDataOutOfRange       FES = 4
	FESLimitExceeded        FES = 5 // H2CData above MAXH2CDATA; or, from a host, more R2Ts than MAXR2T
	FESUnsupportedParameter FES = 6

	fesEnd FES = 7
)

// Offsets of what a decoder may find at fault.
const (
	offsetType      = 0
	offsetFlags     = 1
	offsetHLEN      = 2
	offsetPDO       = 3
	offsetPLEN      = 4
	offsetPFV       = 8
	offsetDataAlign = 10 // HPDA, CPDA
	offsetDGST      = 11
	offsetDataMax   = 12 // MAXH2CDATA
	offsetCCCID     = 8
	offsetTTAG      = 10
	offsetDataBytes = 16 // DATAL, R2TL
)

// Bounds of what ICReq and ICResp may say. TCP Transport Specification 1.0, "Setup & Initialization".
const (
	dataAlignMax = 31
	dataMaxMin   = 4096
)

var fesNames = [fesEnd]string{
	"no error", "Invalid PDU Header Field", "PDU Sequence Error", "Header Digest Error", "Data Transfer Out of Range",
	"Data Transfer or R2T Limit Exceeded", "Unsupported Parameter",
}

// String gives the standard's words.
func (f FES) String() string {
	if f < fesEnd {
		return fesNames[f]
	}
	return fmt.Sprintf("fatal error %d", uint16(f))
}

// PDUError says what is wrong with a PDU: what a TermReq tells the peer. The zero value means that nothing is. It is a
// value, so that the I/O path makes one without allocating.
type PDUError struct {
	FES FES
	FEI uint32 // offset of the lowest bad byte for FES 1 and 6, the digest received for FES 3, else 0
}

// OK reports that nothing is wrong.
func (e PDUError) OK() bool { return e.FES == 0 }

// Error gives the fault in words, for logs.
func (e PDUError) Error() string {
	switch e.FES {
	case FESInvalidHeader, FESUnsupportedParameter:
		return fmt.Sprintf("%s at byte %d", e.FES, e.FEI)
	case FESHeaderDigest:
		return fmt.Sprintf("%s: %08Xh received", e.FES, e.FEI)
	}
	return e.FES.String()
}

// ErrTTAG and its siblings are the faults that only the owner of the connection can see.
var (
	ErrTTAG        = PDUError{FESInvalidHeader, offsetTTAG}  // no transfer has this TTAG
	ErrCCCID       = PDUError{FESInvalidHeader, offsetCCCID} // the CCCID is not that of the TTAG, or of no command
	ErrSequence    = PDUError{FESSequence, 0}
	ErrOutOfRange  = PDUError{FESDataOutOfRange, 0}
	ErrR2TExceeded = PDUError{FESLimitExceeded, 0}
)

func badByte(offset uint32) PDUError { return PDUError{FESInvalidHeader, offset} }

// CommonHeader is the first 8 bytes of every PDU.
type CommonHeader struct {
	Type  PDUType
	Flags uint8
	HLEN  uint8
	PDO   uint8
	PLEN  uint32
}

// DecodeCommonHeader reads the first CommonHeaderBytes of b, which the caller has waited for.
func DecodeCommonHeader(b []byte) CommonHeader {
	_ = b[7]
	return CommonHeader{
		Type:  PDUType(b[0]),
		Flags: b[1],
		HLEN:  b[2],
		PDO:   b[3],
		PLEN:  binary.LittleEndian.Uint32(b[4:]),
	}
}

// AppendTo appends the header to b.
func (h CommonHeader) AppendTo(b []byte) []byte {
	b = append(b, byte(h.Type), h.Flags, h.HLEN, h.PDO)
	return binary.LittleEndian.AppendUint32(b, h.PLEN)
}

// Digests says which digests a connection uses, as the DGST byte of ICReq and ICResp.
type Digests uint8

// The digests.
const (
	HeaderDigests Digests = 1 << 0
	DataDigests   Digests = 1 << 1
	digestsMask           = HeaderDigests | DataDigests
)

// ICReq is the first PDU of a connection, from the host.
type ICReq struct {
	HPDA    uint8   // alignment of data in C2HData, 0-based, in dwords; see DataAlign
	Digests Digests // the digests that the host asks for
	MAXR2T  uint32  // R2Ts open per command, 0-based; see R2TsMax
}

// R2TsMax is the number of R2Ts that may be open for one command.
func (p ICReq) R2TsMax() uint32 {
	if p.MAXR2T == ^uint32(0) {
		return p.MAXR2T
	}
	return p.MAXR2T + 1
}

// DataAlign converts HPDA or CPDA to the bytes that PDO is a multiple of.
func DataAlign(pda uint8) uint32 { return (uint32(pda) + 1) * 4 }

// DecodeICReq reads the ICReq in b.
func DecodeICReq(b []byte) (ICReq, PDUError) {
	if len(b) < ICBytes {
		return ICReq{}, badByte(offsetPLEN)
	}
	if binary.LittleEndian.Uint16(b[8:]) != 0 {
		return ICReq{}, badByte(offsetPFV)
	}
	p := ICReq{HPDA: b[10], Digests: Digests(b[11]) & digestsMask, MAXR2T: binary.LittleEndian.Uint32(b[12:])}
	if p.HPDA > dataAlignMax {
		return ICReq{}, badByte(offsetDataAlign)
	}
	return p, PDUError{}
}

// AppendTo appends the PDU to b.
func (p ICReq) AppendTo(b []byte) []byte {
	b = CommonHeader{Type: PDUICReq, HLEN: ICBytes, PLEN: ICBytes}.AppendTo(b)
	b = append(b, 0, 0, p.HPDA, byte(p.Digests))
	b = binary.LittleEndian.AppendUint32(b, p.MAXR2T)
	return append(b, zeros[:112]...)
}

// ICResp answers ICReq, from the controller.
type ICResp struct {
	CPDA       uint8   // alignment of data in CapsuleCmd and H2CData, 0-based, in dwords; see DataAlign
	Digests    Digests // the digests in use
	MAXH2CDATA uint32  // bytes of data in one H2CData at most
}

// DecodeICResp reads the ICResp in b. asked are the digests of the ICReq: the controller may not choose others.
func DecodeICResp(b []byte, asked Digests) (ICResp, PDUError) {
	if len(b) < ICBytes {
		return ICResp{}, badByte(offsetPLEN)
	}
	if binary.LittleEndian.Uint16(b[8:]) != 0 {
		return ICResp{}, badByte(offsetPFV)
	}
	p := ICResp{CPDA: b[10], Digests: Digests(b[11]) & digestsMask, MAXH2CDATA: binary.LittleEndian.Uint32(b[12:])}
	if p.CPDA > dataAlignMax {
		return ICResp{}, badByte(offsetDataAlign)
	}
	if p.Digests != asked {
		return ICResp{}, badByte(offsetDGST)
	}
	if p.MAXH2CDATA < dataMaxMin || p.MAXH2CDATA%4 != 0 {
		return ICResp{}, badByte(offsetDataMax)
	}
	return p, PDUError{}
}

// AppendTo appends the PDU to b.
func (p ICResp) AppendTo(b []byte) []byte {
	b = CommonHeader{Type: PDUICResp, HLEN: ICBytes, PLEN: ICBytes}.AppendTo(b)
	b = append(b, 0, 0, p.CPDA, byte(p.Digests))
	b = binary.LittleEndian.AppendUint32(b, p.MAXH2CDATA)
	return append(b, zeros[:112]...)
}

// TermReq ends a connection.
type TermReq struct {
	Type   PDUType // PDUH2CTermReq or PDUC2HTermReq
	Err    PDUError
	Header []byte // of the PDU at fault; lent
}

// DecodeTermReq reads the TermReq in b, which is the whole PDU. Header is a part of b.
func DecodeTermReq(b []byte) (TermReq, PDUError) {
	if len(b) < TermReqBytes || len(b) > TermReqBytesMax {
		return TermReq{}, badByte(offsetPLEN)
	}
	e := PDUError{FES(binary.LittleEndian.Uint16(b[8:])), binary.LittleEndian.Uint32(b[10:])}
	return TermReq{PDUType(b[0]), e, b[TermReqBytes:]}, PDUError{}
}

// AppendTo appends the PDU to b, with as much of Header as it may have.
func (p TermReq) AppendTo(b []byte) []byte {
	header := p.Header[:min(len(p.Header), TermReqBytesMax-TermReqBytes)]
	b = CommonHeader{Type: p.Type, HLEN: TermReqBytes, PLEN: TermReqBytes + uint32(len(header))}.AppendTo(b)
	b = binary.LittleEndian.AppendUint16(b, uint16(p.Err.FES))
	b = binary.LittleEndian.AppendUint32(b, p.Err.FEI)
	b = append(b, zeros[:10]...)
	return append(b, header...)
}

// DecodeCapsuleCmd gives the submission queue entry in b: a view, lent as long as b is.
func DecodeCapsuleCmd(b []byte) (*SQE, PDUError) {
	if len(b) < CapsuleCmdBytes {
		return nil, badByte(offsetPLEN)
	}
	return (*SQE)(b[CommonHeaderBytes:CapsuleCmdBytes]), PDUError{}
}

// AppendCapsuleCmd appends a command and what precedes its data; dataBytes of data and, with data digests, the
// digest are to follow.
func AppendCapsuleCmd(b []byte, sqe *SQE, dataBytes uint32, d Digests, align uint32) []byte {
	start := len(b)
	b = dataHeader(PDUCapsuleCmd, 0, dataBytes, d, align).AppendTo(b)
	b = append(b, sqe[:]...)
	return finishHeader(b, start, d)
}

// DecodeCapsuleResp reads the completion queue entry in b.
func DecodeCapsuleResp(b []byte) (CQE, PDUError) {
	if len(b) < CapsuleRespBytes {
		return CQE{}, badByte(offsetPLEN)
	}
	return DecodeCQE(b[CommonHeaderBytes:]), PDUError{}
}

// AppendCapsuleResp appends a response, whole.
func AppendCapsuleResp(b []byte, cqe CQE, d Digests) []byte {
	start := len(b)
	b = dataHeader(PDUCapsuleResp, 0, 0, d, 4).AppendTo(b)
	b = cqe.AppendTo(b)
	return finishHeader(b, start, d)
}

// DataPDU is the header of H2CData and C2HData.
type DataPDU struct {
	CCCID   CID    // the command that the data belongs to
	TTAG    uint16 // H2CData: the R2T that is answered; C2HData: 0
	DATAO   uint32 // where the data lies in the command's
	DATAL   uint32 // bytes of data in this PDU
	Last    bool   // LAST_PDU
	Success bool   // SUCCESS; C2HData only
}

// DecodeData reads the H2CData or C2HData in b, whose frame is f.
func DecodeData(b []byte, f Frame) (DataPDU, PDUError) {
	if len(b) < DataHeaderBytes {
		return DataPDU{}, badByte(offsetPLEN)
	}
	p := DataPDU{
		CCCID: CID(binary.LittleEndian.Uint16(b[8:])),
		DATAO: binary.LittleEndian.Uint32(b[12:]),
		DATAL: binary.LittleEndian.Uint32(b[16:]),
		Last:  b[1]&FlagLast != 0,
	}
	if PDUType(b[0]) == PDUC2HData {
		p.Success = b[1]&FlagSuccess != 0
		if p.Success && !p.Last { // "Controller To Host Data Transfer PDU (C2HData)": SUCCESS only with LAST_PDU
			return DataPDU{}, badByte(offsetFlags)
		}
	} else {
		p.TTAG = binary.LittleEndian.Uint16(b[10:])
	}
	if p.DATAL != f.DataBytes {
		return DataPDU{}, badByte(offsetDataBytes)
	}
	return p, PDUError{}
}

// AppendH2CData appends the header and what precedes the data; DATAL bytes and, with data digests, the digest are to
// follow. align is the controller's, from CPDA.
func (p DataPDU) AppendH2CData(b []byte, d Digests, align uint32) []byte {
	return p.appendTo(b, PDUH2CData, d, align)
}

// AppendC2HData appends the header and what precedes the data; DATAL bytes and, with data digests, the digest are to
// follow. align is the host's, from HPDA.
func (p DataPDU) AppendC2HData(b []byte, d Digests, align uint32) []byte {
	return p.appendTo(b, PDUC2HData, d, align)
}

func (p DataPDU) appendTo(b []byte, t PDUType, d Digests, align uint32) []byte {
	var flags uint8
	if p.Last {
		flags |= FlagLast
	}
	if p.Success {
		flags |= FlagSuccess
	}
	start := len(b)
	b = dataHeader(t, flags, p.DATAL, d, align).AppendTo(b)
	b = binary.LittleEndian.AppendUint16(b, uint16(p.CCCID))
	b = binary.LittleEndian.AppendUint16(b, p.TTAG)
	b = binary.LittleEndian.AppendUint32(b, p.DATAO)
	b = binary.LittleEndian.AppendUint32(b, p.DATAL)
	b = append(b, 0, 0, 0, 0)
	return finishHeader(b, start, d)
}

// R2T asks the host for data.
type R2T struct {
	CCCID CID    // the command whose data is asked for
	TTAG  uint16 // the controller's name of this transfer
	R2TO  uint32 // where the data lies in the command's
	R2TL  uint32 // bytes asked for
}

// DecodeR2T reads the R2T in b.
func DecodeR2T(b []byte) (R2T, PDUError) {
	if len(b) < R2TBytes {
		return R2T{}, badByte(offsetPLEN)
	}
	p := R2T{
		CCCID: CID(binary.LittleEndian.Uint16(b[8:])),
		TTAG:  binary.LittleEndian.Uint16(b[10:]),
		R2TO:  binary.LittleEndian.Uint32(b[12:]),
		R2TL:  binary.LittleEndian.Uint32(b[16:]),
	}
	if p.R2TL == 0 {
		return R2T{}, badByte(offsetDataBytes)
	}
	return p, PDUError{}
}

// AppendTo appends the PDU to b, whole.
func (p R2T) AppendTo(b []byte, d Digests) []byte {
	start := len(b)
	b = dataHeader(PDUR2T, 0, 0, d, 4).AppendTo(b)
	b = binary.LittleEndian.AppendUint16(b, uint16(p.CCCID))
	b = binary.LittleEndian.AppendUint16(b, p.TTAG)
	b = binary.LittleEndian.AppendUint32(b, p.R2TO)
	b = binary.LittleEndian.AppendUint32(b, p.R2TL)
	b = append(b, 0, 0, 0, 0)
	return finishHeader(b, start, d)
}

// dataHeader is the common header of a PDU of type t that carries dataBytes. PDO is 0 without data, as the Linux host
// and target send it.
func dataHeader(t PDUType, flags uint8, dataBytes uint32, d Digests, align uint32) CommonHeader {
	h := CommonHeader{Type: t, Flags: flags, HLEN: pduKinds[t].hlen}
	at := uint32(h.HLEN)
	if d&HeaderDigests != 0 {
		h.Flags |= FlagHDGST
		at += DigestBytes
	}
	h.PLEN = at
	if dataBytes == 0 {
		return h
	}
	at = (at + align - 1) / align * align
	h.PDO = uint8(at)
	h.PLEN = at + dataBytes
	if d&DataDigests != 0 {
		h.Flags |= FlagDDGST
		h.PLEN += DigestBytes
	}
	return h
}

// finishHeader appends what stands between the header, which begins at start, and the data: digest and padding.
func finishHeader(b []byte, start int, d Digests) []byte {
	if d&HeaderDigests != 0 {
		b = AppendDigest(b, DataDigest(0, b[start:]))
	}
	if pdo := int(b[start+offsetPDO]); pdo > len(b)-start {
		b = append(b, zeros[:pdo-(len(b)-start)]...)
	}
	return b
}

// zeros pads and fills what is reserved.
var zeros [128]byte
