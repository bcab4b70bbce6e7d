package iscsi

// This file is the PDUs of a SCSI command and its data. RFC 7143 sections 11.3, 11.4, 11.7 and 11.8.
//
//	      SCSI Command 01   SCSI Response 21    Data-Out 05    Data-In 25          R2T 31
//	 1    F R W .. ATTR     1 .. o u O U .      F              F A ... O U S       1
//	 2                      Response
//	 3                      Status                             Status, with S
//	 8    LUN               reserved            LUN            LUN, with A         LUN
//	16    ITT               ITT                 ITT            ITT                 ITT
//	20    EDTL              SNACK Tag           TTT            TTT, with A         TTT
//	24    CmdSN             StatSN              reserved       StatSN, with S      StatSN
//	28    ExpStatSN         ExpCmdSN            ExpStatSN      ExpCmdSN            ExpCmdSN
//	32    CDB 16            MaxCmdSN            reserved       MaxCmdSN            MaxCmdSN
//	36                      ExpDataSN           DataSN         DataSN              R2TSN
//	40                      read residual       Buffer Offset  Buffer Offset       Buffer Offset
//	44                      Residual Count      reserved       Residual Count      Desired Data Transfer Length
//	data  immediate data    SenseLength, sense  data           data                none

const (
	flagRead     = 0x40
	flagWrite    = 0x20
	attrMask     = 0x07
	flagOverflow = 0x04
	flagUnder    = 0x02
	flagStatus   = 0x01
	flagAck      = 0x40
)

// SCSICommand is a command. RFC 7143 section 11.3, "SCSI Command".
type SCSICommand struct {
	Request
	Final     bool // no unsolicited Data-Out follows
	Read      bool
	Write     bool
	Attribute TaskAttribute
	LUN       LUN
	ITT       ITT
	EDTL      uint32 // Expected Data Transfer Length, in bytes
	CDB       CDB
	AHSBytes  uint32 // of additional header segments, which follow; a multiple of 4
	DataBytes uint32 // of immediate data
}

// DecodeSCSICommand reads the SCSI Command whose BHS is b.
func DecodeSCSICommand(b []byte) (SCSICommand, Fault) {
	if len(b) < BHSBytes {
		return SCSICommand{}, badByte(0)
	}
	p := SCSICommand{
		Request:   decodeRequest(b),
		Final:     b[1]&flagFinal != 0,
		Read:      b[1]&flagRead != 0,
		Write:     b[1]&flagWrite != 0,
		Attribute: TaskAttribute(b[1] & attrMask),
		LUN:       LUN(be.Uint64(b[8:])),
		ITT:       ITT(be.Uint32(b[16:])),
		EDTL:      be.Uint32(b[20:]),
		CDB:       CDB(b[32:48]),
		AHSBytes:  uint32(b[4]) * 4,
		DataBytes: dataBytesOf(b),
	}
	switch {
	case !p.Final && !p.Write: // section 11.3.1: "Setting both the W and the F bit to 0 is an error"
		return SCSICommand{}, badByte(atFlags)
	case p.Attribute > ACA:
		return SCSICommand{}, badByte(atFlags)
	case p.DataBytes > 0 && !p.Write:
		return SCSICommand{}, badByte(atDataSegment)
	case p.ITT == NoTag:
		return SCSICommand{}, badByte(atITT)
	}
	return p, Fault{}
}

// AppendTo appends the BHS to b.
func (p SCSICommand) AppendTo(b []byte) []byte {
	flags := byte(p.Attribute) & attrMask
	if p.Final {
		flags |= flagFinal
	}
	if p.Read {
		flags |= flagRead
	}
	if p.Write {
		flags |= flagWrite
	}
	b, h := appendBHS(b, OpSCSICommand, flags, p.DataBytes)
	p.Request.put(h)
	h[4] = byte(p.AHSBytes / 4)
	be.PutUint64(h[8:], uint64(p.LUN))
	be.PutUint32(h[16:], uint32(p.ITT))
	be.PutUint32(h[20:], p.EDTL)
	copy(h[32:], p.CDB[:])
	return b
}

// AHSType says what an additional header segment is. RFC 7143 section 11.2.2.1, "AHSType".
type AHSType uint8

// The additional header segments.
const (
	AHSExtendedCDB    AHSType = 1 // a reserved byte and the CDB from byte 16 on
	AHSBidirectional  AHSType = 2 // a reserved byte and the Bidirectional Read Expected Data Transfer Length
	ahsTypeMask               = 0x3F
	ahsHeaderBytes            = 3
	ahsLengthReserved         = 1 // AHSLength counts the reserved byte too
)

// NextAHS takes the first of the additional header segments in b apart; more reports whether there was one. One that is cut off is
// given as what is there of it.
//
//	0..1  AHSLength  in bytes, of what follows byte 2, without padding
//	2     AHSType    in the lower 6 bits
//	3     reserved
//	4..   body       then padding to whole words
func NextAHS(b []byte) (t AHSType, body, rest []byte, more bool) {
	if len(b) < ahsHeaderBytes+ahsLengthReserved {
		return 0, nil, nil, false
	}
	end := min(ahsHeaderBytes+int(be.Uint16(b)), len(b))
	next := min((end+3)&^3, len(b))
	t = AHSType(b[2] & ahsTypeMask)
	// AHSLength 0 leaves out even the reserved byte; the segment still takes a word.
	if end <= ahsHeaderBytes+ahsLengthReserved {
		return t, nil, b[ahsHeaderBytes+ahsLengthReserved:], true
	}
	return t, b[ahsHeaderBytes+ahsLengthReserved : end], b[next:], true
}

// AppendAHS appends one.
func AppendAHS(b []byte, t AHSType, body []byte) []byte {
	n := ahsLengthReserved + len(body)
	b = append(b, byte(n>>8), byte(n), byte(t), 0)
	b = append(b, body...)
	return append(b, zeros[:Padding(uint32(ahsHeaderBytes+n))]...)
}

// Residual is what an initiator expected too little or too much. RFC 7143 section 11.4.5, "Residual Count".
type Residual struct {
	Overflow, Underflow bool
	Count               uint32 // bytes
}

func decodeResidual(b []byte) Residual {
	return Residual{b[1]&flagOverflow != 0, b[1]&flagUnder != 0, be.Uint32(b[44:])}
}

func (r Residual) flags() byte {
	var f byte
	if r.Overflow {
		f |= flagOverflow
	}
	if r.Underflow {
		f |= flagUnder
	}
	return f
}

// SCSIResponse ends a command. RFC 7143 section 11.4, "SCSI Response". The residual of bidirectional commands is not kept: there are none.
type SCSIResponse struct {
	Numbers
	Residual
	Response  ServiceResponse
	Status    SCSIStatus
	ITT       ITT
	ExpDataSN uint32 // Data-In and R2Ts that were sent for the command
	DataBytes uint32 // SenseLength and sense data
}

// DecodeSCSIResponse reads the SCSI Response whose BHS is b.
func DecodeSCSIResponse(b []byte) (SCSIResponse, Fault) {
	if len(b) < BHSBytes {
		return SCSIResponse{}, badByte(0)
	}
	p := SCSIResponse{
		Numbers:   decodeNumbers(b),
		Residual:  decodeResidual(b),
		Response:  ServiceResponse(b[2]),
		Status:    SCSIStatus(b[3]),
		ITT:       ITT(be.Uint32(b[16:])),
		ExpDataSN: be.Uint32(b[36:]),
		DataBytes: dataBytesOf(b),
	}
	if p.Overflow && p.Underflow {
		return SCSIResponse{}, badByte(atFlags)
	}
	return p, Fault{}
}

// AppendTo appends the BHS to b.
func (p SCSIResponse) AppendTo(b []byte) []byte {
	b, h := appendBHS(b, OpSCSIResponse, flagFinal|p.Residual.flags(), p.DataBytes)
	h[2], h[3] = byte(p.Response), byte(p.Status)
	be.PutUint32(h[16:], uint32(p.ITT))
	p.Numbers.put(h)
	be.PutUint32(h[36:], p.ExpDataSN)
	be.PutUint32(h[44:], p.Count)
	return b
}

// SenseLengthBytes stand before the sense data in a SCSI Response. RFC 7143 section 11.4.7.1, "SenseLength".
const SenseLengthBytes = 2

// AppendSense appends the data segment of a SCSI Response with sense data.
func AppendSense(b, sense []byte) []byte {
	return append(be.AppendUint16(b, uint16(len(sense))), sense...)
}

// SenseOf gives the sense data in the data segment of a SCSI Response; nil if there is none, or not as much as it says.
func SenseOf(data []byte) []byte {
	if len(data) < SenseLengthBytes {
		return nil
	}
	n := int(be.Uint16(data))
	if n == 0 || n > len(data)-SenseLengthBytes {
		return nil
	}
	return data[SenseLengthBytes : SenseLengthBytes+n]
}

// DataOut brings data of a command. RFC 7143 section 11.7, "SCSI Data-Out and SCSI Data-In".
type DataOut struct {
	Final     bool // the last of the burst, or of what is unsolicited
	LUN       LUN  // with a TTT: that of the R2T
	ITT       ITT
	TTT       TTT // of the R2T that is answered; NoTag: unsolicited
	ExpStatSN SerialNumber
	DataSN    uint32 // from 0 in every burst
	Offset    uint32 // in the command's data
	DataBytes uint32
}

// DecodeDataOut reads the Data-Out whose BHS is b.
func DecodeDataOut(b []byte) (DataOut, Fault) {
	if len(b) < BHSBytes {
		return DataOut{}, badByte(0)
	}
	p := DataOut{
		Final:     b[1]&flagFinal != 0,
		LUN:       LUN(be.Uint64(b[8:])),
		ITT:       ITT(be.Uint32(b[16:])),
		TTT:       TTT(be.Uint32(b[20:])),
		ExpStatSN: SerialNumber(be.Uint32(b[28:])),
		DataSN:    be.Uint32(b[36:]),
		Offset:    be.Uint32(b[40:]),
		DataBytes: dataBytesOf(b),
	}
	if p.ITT == NoTag {
		return DataOut{}, badByte(atITT)
	}
	return p, Fault{}
}

// AppendTo appends the BHS to b.
func (p DataOut) AppendTo(b []byte) []byte {
	var flags byte
	if p.Final {
		flags = flagFinal
	}
	b, h := appendBHS(b, OpDataOut, flags, p.DataBytes)
	be.PutUint64(h[8:], uint64(p.LUN))
	be.PutUint32(h[16:], uint32(p.ITT))
	be.PutUint32(h[20:], uint32(p.TTT))
	be.PutUint32(h[28:], uint32(p.ExpStatSN))
	be.PutUint32(h[36:], p.DataSN)
	be.PutUint32(h[40:], p.Offset)
	return b
}

// DataIn brings data to the initiator, and with Ends the status. RFC 7143 section 11.7. Acknowledgements of data (A, and with it LUN and
// TTT) are of higher error recovery levels: they are not asked for.
type DataIn struct {
	Numbers // StatSN only if Ends
	Residual
	Final     bool // the last of the sequence
	Acks      bool // A: the initiator shall say that it has it
	Ends      bool // S: Status, Residual and StatSN are there, and no SCSI Response follows
	Status    SCSIStatus
	ITT       ITT
	DataSN    uint32 // from 0 in the command
	Offset    uint32 // in the command's data
	DataBytes uint32
}

// DecodeDataIn reads the Data-In whose BHS is b.
func DecodeDataIn(b []byte) (DataIn, Fault) {
	if len(b) < BHSBytes {
		return DataIn{}, badByte(0)
	}
	p := DataIn{
		Numbers:   decodeNumbers(b),
		Residual:  decodeResidual(b),
		Final:     b[1]&flagFinal != 0,
		Acks:      b[1]&flagAck != 0,
		Ends:      b[1]&flagStatus != 0,
		Status:    SCSIStatus(b[3]),
		ITT:       ITT(be.Uint32(b[16:])),
		DataSN:    be.Uint32(b[36:]),
		Offset:    be.Uint32(b[40:]),
		DataBytes: dataBytesOf(b),
	}
	if p.Ends && !p.Final || p.Overflow && p.Underflow { // section 11.7.3: if S is 1, F is 1 too
		return DataIn{}, badByte(atFlags)
	}
	return p, Fault{}
}

// AppendTo appends the BHS to b.
func (p DataIn) AppendTo(b []byte) []byte {
	var flags byte
	if p.Final {
		flags |= flagFinal
	}
	if p.Acks {
		flags |= flagAck
	}
	if p.Ends {
		flags |= flagStatus | p.Residual.flags()
	}
	b, h := appendBHS(b, OpDataIn, flags, p.DataBytes)
	be.PutUint32(h[16:], uint32(p.ITT))
	be.PutUint32(h[20:], NoTag)
	p.Numbers.put(h)
	if p.Ends {
		h[3] = byte(p.Status)
		be.PutUint32(h[44:], p.Count)
	} else {
		be.PutUint32(h[24:], 0)
	}
	be.PutUint32(h[36:], p.DataSN)
	be.PutUint32(h[40:], p.Offset)
	return b
}

// R2T asks for data of a command. RFC 7143 section 11.8, "Ready To Transfer (R2T)".
type R2T struct {
	Numbers // StatSN is the next one's: an R2T does not count
	LUN     LUN
	ITT     ITT
	TTT     TTT
	R2TSN   uint32 // from 0 in the command
	Offset  uint32 // in the command's data
	Bytes   uint32 // Desired Data Transfer Length
}

// DecodeR2T reads the R2T whose BHS is b.
func DecodeR2T(b []byte) (R2T, Fault) {
	if len(b) < BHSBytes {
		return R2T{}, badByte(0)
	}
	p := R2T{
		Numbers: decodeNumbers(b),
		LUN:     LUN(be.Uint64(b[8:])),
		ITT:     ITT(be.Uint32(b[16:])),
		TTT:     TTT(be.Uint32(b[20:])),
		R2TSN:   be.Uint32(b[36:]),
		Offset:  be.Uint32(b[40:]),
		Bytes:   be.Uint32(b[44:]),
	}
	switch {
	case p.TTT == NoTag:
		return R2T{}, badByte(atTTT)
	case p.Bytes == 0: // section 11.8.4: it must not be 0
		return R2T{}, badByte(44)
	}
	return p, Fault{}
}

// AppendTo appends the PDU to b.
func (p R2T) AppendTo(b []byte) []byte {
	b, h := appendBHS(b, OpR2T, flagFinal, 0)
	be.PutUint64(h[8:], uint64(p.LUN))
	be.PutUint32(h[16:], uint32(p.ITT))
	be.PutUint32(h[20:], uint32(p.TTT))
	p.Numbers.put(h)
	be.PutUint32(h[36:], p.R2TSN)
	be.PutUint32(h[40:], p.Offset)
	be.PutUint32(h[44:], p.Bytes)
	return b
}
