package iscsi

// This file is the PDUs that are not of a SCSI command. RFC 7143 sections 11.5, 11.6 and 11.9 to 11.19. Where nothing is said of bytes
// 16 to 35 they are: ITT 16; in requests CmdSN 24, ExpStatSN 28; in responses StatSN 24, ExpCmdSN 28, MaxCmdSN 32.
//
//	      Task Management 02, 22                    Login 03, 23
//	 1    1 Function        1                       T C .. CSG NSG   the same
//	 2                      Response                Version-max      Version-max
//	 3                                              Version-min      Version-active
//	 8    LUN               reserved                ISID 6, TSIH 2   the same
//	20    Referenced Tag    reserved                CID 2            reserved
//	32    RefCmdSN          MaxCmdSN                reserved         MaxCmdSN
//	36    ExpDataSN         reserved                                 Status-Class, Status-Detail
//
//	      Text 04, 24       NOP 00, 20              Logout 06, 26                  Reject 3F          Async 32
//	 1    F C               1                       1 Reason         1             1                  1
//	 2                                                               Response      Reason
//	 8    LUN               LUN                     reserved         reserved      reserved           LUN
//	16                                                                             FFFFFFFFh          FFFFFFFFh
//	20    TTT               TTT                     CID 2            reserved      reserved           reserved
//	36                                                                             DataSN or R2TSN    AsyncEvent, AsyncVCode, Parameter1 2
//	40                                                               Time2Wait 2                      Parameter2 2
//	42                                                               Time2Retain 2                    Parameter3 2
//	data  text              as it pleases           none             none          the bad header     sense, by the event
//
//	SNACK 10: 1 Type 4 bits; LUN 8, ITT 16, TTT or SNACK Tag 20, ExpStatSN 28, BegRun 40, RunLength 44

// TaskRequest is a task management function. RFC 7143 section 11.5, "Task Management Function Request".
type TaskRequest struct {
	Request
	Function  TaskFunction
	LUN       LUN
	ITT       ITT
	RefITT    ITT          // Referenced Task Tag: what is to be aborted, else NoTag
	RefCmdSN  SerialNumber // its CmdSN
	ExpDataSN uint32       // for TASK REASSIGN
}

// DecodeTaskRequest reads the Task Management Function Request whose BHS is b. Functions that are not known are for the session.
func DecodeTaskRequest(b []byte) (TaskRequest, Fault) {
	if len(b) < BHSBytes {
		return TaskRequest{}, badByte(0)
	}
	p := TaskRequest{
		Request:   decodeRequest(b),
		Function:  TaskFunction(b[1] &^ flagFinal),
		LUN:       LUN(be.Uint64(b[8:])),
		ITT:       ITT(be.Uint32(b[16:])),
		RefITT:    ITT(be.Uint32(b[20:])),
		RefCmdSN:  SerialNumber(be.Uint32(b[32:])),
		ExpDataSN: be.Uint32(b[36:]),
	}
	if p.ITT == NoTag {
		return TaskRequest{}, badByte(atITT)
	}
	return p, Fault{}
}

// AppendTo appends the PDU to b.
func (p TaskRequest) AppendTo(b []byte) []byte {
	b, h := appendBHS(b, OpTaskRequest, flagFinal|byte(p.Function), 0)
	p.Request.put(h)
	be.PutUint64(h[8:], uint64(p.LUN))
	be.PutUint32(h[16:], uint32(p.ITT))
	be.PutUint32(h[20:], uint32(p.RefITT))
	be.PutUint32(h[32:], uint32(p.RefCmdSN))
	be.PutUint32(h[36:], p.ExpDataSN)
	return b
}

// TaskAnswer answers it. RFC 7143 section 11.6, "Task Management Function Response".
type TaskAnswer struct {
	Numbers
	Response TaskResponse
	ITT      ITT
}

// DecodeTaskAnswer reads the Task Management Function Response whose BHS is b.
func DecodeTaskAnswer(b []byte) (TaskAnswer, Fault) {
	if len(b) < BHSBytes {
		return TaskAnswer{}, badByte(0)
	}
	return TaskAnswer{decodeNumbers(b), TaskResponse(b[2]), ITT(be.Uint32(b[16:]))}, Fault{}
}

// AppendTo appends the PDU to b.
func (p TaskAnswer) AppendTo(b []byte) []byte {
	b, h := appendBHS(b, OpTaskResponse, flagFinal, 0)
	h[2] = byte(p.Response)
	be.PutUint32(h[16:], uint32(p.ITT))
	p.Numbers.put(h)
	return b
}

// The stages in byte 1 of Login: CSG in bits 3:2, NSG in bits 1:0.
const (
	csgShift  = 2
	stageMask = 3
)

// LoginRequest negotiates a connection. RFC 7143 section 11.12, "Login Request". It is always immediate.
type LoginRequest struct {
	Request
	Transit    bool // T: ready for NSG
	Continue   bool // C: the text goes on in the next
	CSG, NSG   Stage
	VersionMax uint8
	VersionMin uint8
	ISID       ISID
	TSIH       TSIH
	ITT        ITT
	CID        CID
	DataBytes  uint32 // of text
}

// DecodeLoginRequest reads the Login Request whose BHS is b. What may not follow what is for the login to judge.
func DecodeLoginRequest(b []byte) (LoginRequest, Fault) {
	if len(b) < BHSBytes {
		return LoginRequest{}, badByte(0)
	}
	return LoginRequest{
		Request:    decodeRequest(b),
		Transit:    b[1]&flagFinal != 0,
		Continue:   b[1]&flagContinue != 0,
		CSG:        Stage(b[1] >> csgShift & stageMask),
		NSG:        Stage(b[1] & stageMask),
		VersionMax: b[2],
		VersionMin: b[3],
		ISID:       ISID(b[8:14]),
		TSIH:       TSIH(be.Uint16(b[14:])),
		ITT:        ITT(be.Uint32(b[16:])),
		CID:        CID(be.Uint16(b[20:])),
		DataBytes:  dataBytesOf(b),
	}, Fault{}
}

// AppendTo appends the BHS to b.
func (p LoginRequest) AppendTo(b []byte) []byte {
	b, h := appendBHS(b, OpLoginRequest, loginFlags(p.Transit, p.Continue, p.CSG, p.NSG), p.DataBytes)
	p.Immediate = true
	p.Request.put(h)
	h[2], h[3] = p.VersionMax, p.VersionMin
	copy(h[8:], p.ISID[:])
	be.PutUint16(h[14:], uint16(p.TSIH))
	be.PutUint32(h[16:], uint32(p.ITT))
	be.PutUint16(h[20:], uint16(p.CID))
	return b
}

func loginFlags(transit, goesOn bool, csg, nsg Stage) byte {
	flags := byte(csg&stageMask)<<csgShift | byte(nsg&stageMask)
	if transit {
		flags |= flagFinal
	}
	if goesOn {
		flags |= flagContinue
	}
	return flags
}

// LoginResponse answers it. RFC 7143 section 11.13, "Login Response".
type LoginResponse struct {
	Numbers
	Transit       bool
	Continue      bool
	CSG, NSG      Stage
	VersionMax    uint8
	VersionActive uint8
	ISID          ISID
	TSIH          TSIH
	ITT           ITT
	Status        LoginStatus
	DataBytes     uint32 // of text
}

// DecodeLoginResponse reads the Login Response whose BHS is b.
func DecodeLoginResponse(b []byte) (LoginResponse, Fault) {
	if len(b) < BHSBytes {
		return LoginResponse{}, badByte(0)
	}
	return LoginResponse{
		Numbers:       decodeNumbers(b),
		Transit:       b[1]&flagFinal != 0,
		Continue:      b[1]&flagContinue != 0,
		CSG:           Stage(b[1] >> csgShift & stageMask),
		NSG:           Stage(b[1] & stageMask),
		VersionMax:    b[2],
		VersionActive: b[3],
		ISID:          ISID(b[8:14]),
		TSIH:          TSIH(be.Uint16(b[14:])),
		ITT:           ITT(be.Uint32(b[16:])),
		Status:        LoginStatus(be.Uint16(b[36:])),
		DataBytes:     dataBytesOf(b),
	}, Fault{}
}

// AppendTo appends the BHS to b.
func (p LoginResponse) AppendTo(b []byte) []byte {
	b, h := appendBHS(b, OpLoginResponse, loginFlags(p.Transit, p.Continue, p.CSG, p.NSG), p.DataBytes)
	h[2], h[3] = p.VersionMax, p.VersionActive
	copy(h[8:], p.ISID[:])
	be.PutUint16(h[14:], uint16(p.TSIH))
	be.PutUint32(h[16:], uint32(p.ITT))
	p.Numbers.put(h)
	be.PutUint16(h[36:], uint16(p.Status))
	return b
}

// TextRequest asks or negotiates in full feature phase. RFC 7143 section 11.10, "Text Request".
type TextRequest struct {
	Request
	Final     bool
	Continue  bool // the text goes on in the next
	LUN       LUN  // with a TTT: as the target said
	ITT       ITT
	TTT       TTT    // NoTag begins; else what the target gave to go on
	DataBytes uint32 // of text
}

// DecodeTextRequest reads the Text Request whose BHS is b.
func DecodeTextRequest(b []byte) (TextRequest, Fault) {
	if len(b) < BHSBytes {
		return TextRequest{}, badByte(0)
	}
	p := TextRequest{
		Request:   decodeRequest(b),
		Final:     b[1]&flagFinal != 0,
		Continue:  b[1]&flagContinue != 0,
		LUN:       LUN(be.Uint64(b[8:])),
		ITT:       ITT(be.Uint32(b[16:])),
		TTT:       TTT(be.Uint32(b[20:])),
		DataBytes: dataBytesOf(b),
	}
	switch {
	case p.Final && p.Continue: // section 11.10.2: with C, F is 0
		return TextRequest{}, badByte(atFlags)
	case p.ITT == NoTag:
		return TextRequest{}, badByte(atITT)
	}
	return p, Fault{}
}

// AppendTo appends the BHS to b.
func (p TextRequest) AppendTo(b []byte) []byte {
	b, h := appendBHS(b, OpTextRequest, textFlags(p.Final, p.Continue), p.DataBytes)
	p.Request.put(h)
	be.PutUint64(h[8:], uint64(p.LUN))
	be.PutUint32(h[16:], uint32(p.ITT))
	be.PutUint32(h[20:], uint32(p.TTT))
	return b
}

func textFlags(final, goesOn bool) byte {
	var flags byte
	if final {
		flags |= flagFinal
	}
	if goesOn {
		flags |= flagContinue
	}
	return flags
}

// TextResponse answers it. RFC 7143 section 11.11, "Text Response".
type TextResponse struct {
	Numbers
	Final     bool
	Continue  bool // the text goes on in the next
	LUN       LUN
	ITT       ITT
	TTT       TTT    // NoTag with Final; else what the next request must carry
	DataBytes uint32 // of text
}

// DecodeTextResponse reads the Text Response whose BHS is b.
func DecodeTextResponse(b []byte) (TextResponse, Fault) {
	if len(b) < BHSBytes {
		return TextResponse{}, badByte(0)
	}
	p := TextResponse{
		Numbers:   decodeNumbers(b),
		Final:     b[1]&flagFinal != 0,
		Continue:  b[1]&flagContinue != 0,
		LUN:       LUN(be.Uint64(b[8:])),
		ITT:       ITT(be.Uint32(b[16:])),
		TTT:       TTT(be.Uint32(b[20:])),
		DataBytes: dataBytesOf(b),
	}
	switch {
	case p.Final && p.Continue: // section 11.11.2
		return TextResponse{}, badByte(atFlags)
	case p.Final != (p.TTT == NoTag): // section 11.11.4: F 0 and a TTT, or F 1 and none
		return TextResponse{}, badByte(atTTT)
	}
	return p, Fault{}
}

// AppendTo appends the BHS to b.
func (p TextResponse) AppendTo(b []byte) []byte {
	b, h := appendBHS(b, OpTextResponse, textFlags(p.Final, p.Continue), p.DataBytes)
	be.PutUint64(h[8:], uint64(p.LUN))
	be.PutUint32(h[16:], uint32(p.ITT))
	be.PutUint32(h[20:], uint32(p.TTT))
	p.Numbers.put(h)
	return b
}

// NOPOut asks whether the target is there, or answers its NOP-In. RFC 7143 section 11.18, "NOP-Out".
type NOPOut struct {
	Request
	LUN       LUN    // with a TTT: that of the NOP-In
	ITT       ITT    // NoTag: no answer is wanted
	TTT       TTT    // of the NOP-In that is answered; NoTag: none
	DataBytes uint32 // ping data
}

// DecodeNOPOut reads the NOP-Out whose BHS is b.
func DecodeNOPOut(b []byte) (NOPOut, Fault) {
	if len(b) < BHSBytes {
		return NOPOut{}, badByte(0)
	}
	return NOPOut{decodeRequest(b), LUN(be.Uint64(b[8:])), ITT(be.Uint32(b[16:])), TTT(be.Uint32(b[20:])), dataBytesOf(b)}, Fault{}
}

// AppendTo appends the BHS to b.
func (p NOPOut) AppendTo(b []byte) []byte {
	b, h := appendBHS(b, OpNOPOut, flagFinal, p.DataBytes)
	p.Request.put(h)
	be.PutUint64(h[8:], uint64(p.LUN))
	be.PutUint32(h[16:], uint32(p.ITT))
	be.PutUint32(h[20:], uint32(p.TTT))
	return b
}

// NOPIn answers a NOP-Out, or asks whether the initiator is there. RFC 7143 section 11.19, "NOP-In".
type NOPIn struct {
	Numbers          // StatSN is the next one's if it is no answer: it does not count then
	LUN       LUN    // with a TTT
	ITT       ITT    // of the NOP-Out that is answered; NoTag: none
	TTT       TTT    // NoTag: no answer is wanted
	DataBytes uint32 // the ping data, returned
}

// DecodeNOPIn reads the NOP-In whose BHS is b.
func DecodeNOPIn(b []byte) (NOPIn, Fault) {
	if len(b) < BHSBytes {
		return NOPIn{}, badByte(0)
	}
	return NOPIn{decodeNumbers(b), LUN(be.Uint64(b[8:])), ITT(be.Uint32(b[16:])), TTT(be.Uint32(b[20:])), dataBytesOf(b)}, Fault{}
}

// AppendTo appends the BHS to b.
func (p NOPIn) AppendTo(b []byte) []byte {
	b, h := appendBHS(b, OpNOPIn, flagFinal, p.DataBytes)
	be.PutUint64(h[8:], uint64(p.LUN))
	be.PutUint32(h[16:], uint32(p.ITT))
	be.PutUint32(h[20:], uint32(p.TTT))
	p.Numbers.put(h)
	return b
}

// LogoutRequest ends a session or a connection. RFC 7143 section 11.14, "Logout Request".
type LogoutRequest struct {
	Request
	Reason LogoutReason
	ITT    ITT
	CID    CID // of the connection, unless the session ends
}

// DecodeLogoutRequest reads the Logout Request whose BHS is b. Reasons that are not known are for the session.
func DecodeLogoutRequest(b []byte) (LogoutRequest, Fault) {
	if len(b) < BHSBytes {
		return LogoutRequest{}, badByte(0)
	}
	p := LogoutRequest{decodeRequest(b), LogoutReason(b[1] &^ flagFinal), ITT(be.Uint32(b[16:])), CID(be.Uint16(b[20:]))}
	if p.ITT == NoTag {
		return LogoutRequest{}, badByte(atITT)
	}
	return p, Fault{}
}

// AppendTo appends the PDU to b.
func (p LogoutRequest) AppendTo(b []byte) []byte {
	b, h := appendBHS(b, OpLogout, flagFinal|byte(p.Reason), 0)
	p.Request.put(h)
	be.PutUint32(h[16:], uint32(p.ITT))
	be.PutUint16(h[20:], uint16(p.CID))
	return b
}

// LogoutResponse answers it. RFC 7143 section 11.15, "Logout Response".
type LogoutResponse struct {
	Numbers
	Response    LogoutCode
	ITT         ITT
	Time2Wait   uint16 // seconds
	Time2Retain uint16
}

// DecodeLogoutResponse reads the Logout Response whose BHS is b.
func DecodeLogoutResponse(b []byte) (LogoutResponse, Fault) {
	if len(b) < BHSBytes {
		return LogoutResponse{}, badByte(0)
	}
	return LogoutResponse{decodeNumbers(b), LogoutCode(b[2]), ITT(be.Uint32(b[16:])), be.Uint16(b[40:]), be.Uint16(b[42:])}, Fault{}
}

// AppendTo appends the PDU to b.
func (p LogoutResponse) AppendTo(b []byte) []byte {
	b, h := appendBHS(b, OpLogoutResponse, flagFinal, 0)
	h[2] = byte(p.Response)
	be.PutUint32(h[16:], uint32(p.ITT))
	p.Numbers.put(h)
	be.PutUint16(h[40:], p.Time2Wait)
	be.PutUint16(h[42:], p.Time2Retain)
	return b
}

// Reject gives a PDU back. RFC 7143 section 11.17, "Reject".
type Reject struct {
	Numbers
	Reason    RejectReason
	DataSN    uint32 // the next DataSN or R2TSN, where a Data or R2T SNACK is rejected
	DataBytes uint32 // the header of the bad PDU, without digest
}

// DecodeReject reads the Reject whose BHS is b.
func DecodeReject(b []byte) (Reject, Fault) {
	if len(b) < BHSBytes {
		return Reject{}, badByte(0)
	}
	if be.Uint32(b[16:]) != NoTag {
		return Reject{}, badByte(atITT)
	}
	return Reject{decodeNumbers(b), RejectReason(b[2]), be.Uint32(b[36:]), dataBytesOf(b)}, Fault{}
}

// AppendTo appends the BHS to b.
func (p Reject) AppendTo(b []byte) []byte {
	b, h := appendBHS(b, OpReject, flagFinal, p.DataBytes)
	h[2] = byte(p.Reason)
	be.PutUint32(h[16:], NoTag)
	p.Numbers.put(h)
	be.PutUint32(h[36:], p.DataSN)
	return b
}

// Async tells of what nobody asked for. RFC 7143 section 11.9, "Asynchronous Message".
type Async struct {
	Numbers
	LUN        LUN // with AsyncSense and AsyncTasksTerminated
	Event      AsyncEvent
	VCode      uint8
	Parameter1 uint16
	Parameter2 uint16
	Parameter3 uint16
	DataBytes  uint32 // with AsyncSense: SenseLength and sense data
}

// DecodeAsync reads the Asynchronous Message whose BHS is b.
func DecodeAsync(b []byte) (Async, Fault) {
	if len(b) < BHSBytes {
		return Async{}, badByte(0)
	}
	if be.Uint32(b[16:]) != NoTag {
		return Async{}, badByte(atITT)
	}
	return Async{
		Numbers:    decodeNumbers(b),
		LUN:        LUN(be.Uint64(b[8:])),
		Event:      AsyncEvent(b[36]),
		VCode:      b[37],
		Parameter1: be.Uint16(b[38:]),
		Parameter2: be.Uint16(b[40:]),
		Parameter3: be.Uint16(b[42:]),
		DataBytes:  dataBytesOf(b),
	}, Fault{}
}

// AppendTo appends the BHS to b.
func (p Async) AppendTo(b []byte) []byte {
	b, h := appendBHS(b, OpAsync, flagFinal, p.DataBytes)
	be.PutUint64(h[8:], uint64(p.LUN))
	be.PutUint32(h[16:], NoTag)
	p.Numbers.put(h)
	h[36], h[37] = byte(p.Event), p.VCode
	be.PutUint16(h[38:], p.Parameter1)
	be.PutUint16(h[40:], p.Parameter2)
	be.PutUint16(h[42:], p.Parameter3)
	return b
}

// SNACKType is what a SNACK asks for. RFC 7143 section 11.16.1, "Type".
type SNACKType uint8

// The types.
const (
	SNACKData    SNACKType = 0 // or R2Ts
	SNACKStatus  SNACKType = 1
	SNACKDataACK SNACKType = 2
	SNACKRData   SNACKType = 3
)

const snackTypeMask = 0x0F

// SNACK asks for PDUs again. RFC 7143 section 11.16, "SNACK Request". At error recovery level 0 it is rejected.
type SNACK struct {
	Type      SNACKType
	LUN       LUN // with SNACKDataACK
	ITT       ITT
	TTT       TTT // or SNACK Tag
	ExpStatSN SerialNumber
	BegRun    uint32
	RunLength uint32
}

// DecodeSNACK reads the SNACK Request whose BHS is b.
func DecodeSNACK(b []byte) (SNACK, Fault) {
	if len(b) < BHSBytes {
		return SNACK{}, badByte(0)
	}
	return SNACK{
		Type:      SNACKType(b[1] & snackTypeMask),
		LUN:       LUN(be.Uint64(b[8:])),
		ITT:       ITT(be.Uint32(b[16:])),
		TTT:       TTT(be.Uint32(b[20:])),
		ExpStatSN: SerialNumber(be.Uint32(b[28:])),
		BegRun:    be.Uint32(b[40:]),
		RunLength: be.Uint32(b[44:]),
	}, Fault{}
}

// AppendTo appends the PDU to b.
func (p SNACK) AppendTo(b []byte) []byte {
	b, h := appendBHS(b, OpSNACK, flagFinal|byte(p.Type)&snackTypeMask, 0)
	be.PutUint64(h[8:], uint64(p.LUN))
	be.PutUint32(h[16:], uint32(p.ITT))
	be.PutUint32(h[20:], uint32(p.TTT))
	be.PutUint32(h[28:], uint32(p.ExpStatSN))
	be.PutUint32(h[40:], p.BegRun)
	be.PutUint32(h[44:], p.RunLength)
	return b
}
