package iscsi

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

// golden reads testdata/pdus.txt.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/pdus.txt")
	if err != nil {
		t.Fatal(err)
	}
	var digits strings.Builder
	inside := false
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if n, ok := strings.CutSuffix(line, ":"); ok {
			inside = n == name
			continue
		}
		if inside {
			digits.WriteString(strings.ReplaceAll(line, " ", ""))
		}
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil || len(b) < BHSBytes {
		t.Fatalf("%s in testdata/pdus.txt: %d bytes, %v", name, len(b), err)
	}
	return b
}

func wantBytes(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\ngot\n%swant\n%s", what, hex.Dump(got), hex.Dump(want))
	}
}

// A golden PDU: what is sent, and what the other side makes of it.
type goldenPDU struct {
	name    string
	opcode  Opcode
	encode  func(b []byte) []byte
	ahs     []byte
	data    []byte
	digests Digests
	decode  func(b []byte) (any, Fault)
	want    any
}

func decoder[T any](f func(b []byte) (T, Fault)) func(b []byte) (any, Fault) {
	return func(b []byte) (any, Fault) { p, e := f(b); return p, e }
}

var (
	testRequest = Request{false, 0x21, 7}
	testNumbers = Numbers{8, 0x22, 0x3F}
	testISID    = ISID{0x80, 0x01, 0, 0, 0, 1}
	testWrite   = SCSICommand{
		Request: testRequest, Final: true, Write: true, Attribute: Simple, ITT: 0x11223344, EDTL: 0x1000,
		CDB: CDB{0x2A, 0, 0, 0, 0, 0x10, 0, 0, 1}, DataBytes: 5,
	}
	testBidi = SCSICommand{
		Request: Request{false, 2, 3}, Final: true, Read: true, Write: true, Attribute: Ordered, LUN: 0x4001 << 48, ITT: 1, EDTL: 0x200,
		CDB: CDB{0x53}, AHSBytes: 8,
	}
	testSense = []byte{0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0, 0, 0}
)

const bothDigests = HeaderDigests | DataDigests

func immediate(r Request) Request { r.Immediate = true; return r }

var goldenPDUs = []goldenPDU{
	{
		name: "nop-out", opcode: OpNOPOut, data: []byte("ping"),
		encode: NOPOut{immediate(testRequest), 1 << 48, 0x11223344, NoTag, 4}.AppendTo,
		decode: decoder(DecodeNOPOut), want: NOPOut{immediate(testRequest), 1 << 48, 0x11223344, NoTag, 4},
	}, {
		name: "nop-in", opcode: OpNOPIn,
		encode: NOPIn{testNumbers, 1 << 48, NoTag, 0x55667788, 0}.AppendTo,
		decode: decoder(DecodeNOPIn), want: NOPIn{testNumbers, 1 << 48, NoTag, 0x55667788, 0},
	}, {
		name: "scsi-command", opcode: OpSCSICommand, data: []byte("Hello"),
		encode: testWrite.AppendTo, decode: decoder(DecodeSCSICommand), want: testWrite,
	}, {
		name: "scsi-command-digests", opcode: OpSCSICommand, data: []byte("Hello"), digests: bothDigests,
		encode: testWrite.AppendTo, decode: decoder(DecodeSCSICommand), want: testWrite,
	}, {
		name: "scsi-command-ahs", opcode: OpSCSICommand, ahs: AppendAHS(nil, AHSBidirectional, []byte{0, 0, 4, 0}),
		encode: testBidi.AppendTo, decode: decoder(DecodeSCSICommand), want: testBidi,
	}, {
		name: "scsi-response", opcode: OpSCSIResponse,
		encode: SCSIResponse{testNumbers, Residual{Underflow: true, Count: 0xE00}, TargetFailure, CheckCondition, 0x11223344, 3, 0}.AppendTo,
		decode: decoder(DecodeSCSIResponse),
		want:   SCSIResponse{testNumbers, Residual{Underflow: true, Count: 0xE00}, TargetFailure, CheckCondition, 0x11223344, 3, 0},
	}, {
		name: "scsi-response-sense", opcode: OpSCSIResponse, data: AppendSense(nil, testSense),
		encode: SCSIResponse{Numbers: testNumbers, Status: CheckCondition, ITT: 0x11223344, DataBytes: 20}.AppendTo,
		decode: decoder(DecodeSCSIResponse),
		want:   SCSIResponse{Numbers: testNumbers, Status: CheckCondition, ITT: 0x11223344, DataBytes: 20},
	}, {
		name: "task-request", opcode: OpTaskRequest,
		encode: TaskRequest{immediate(testRequest), AbortTask, 1 << 48, 0x11223344, 0x01020304, 0x20, 5}.AppendTo,
		decode: decoder(DecodeTaskRequest), want: TaskRequest{immediate(testRequest), AbortTask, 1 << 48, 0x11223344, 0x01020304, 0x20, 5},
	}, {
		name: "task-response", opcode: OpTaskResponse,
		encode: TaskAnswer{testNumbers, TaskDoesNotExist, 0x11223344}.AppendTo,
		decode: decoder(DecodeTaskAnswer), want: TaskAnswer{testNumbers, TaskDoesNotExist, 0x11223344},
	}, {
		name: "login-request", opcode: OpLoginRequest,
		encode: LoginRequest{Request: Request{CmdSN: 0x21}, Transit: true, CSG: OperationalStage, NSG: FullFeature, ISID: testISID, ITT: 0x11223344, CID: 2}.AppendTo,
		decode: decoder(DecodeLoginRequest),
		want:   LoginRequest{Request: Request{true, 0x21, 0}, Transit: true, CSG: OperationalStage, NSG: FullFeature, ISID: testISID, ITT: 0x11223344, CID: 2},
	}, {
		name: "login-request-continued", opcode: OpLoginRequest, data: []byte("HeaderDige"),
		encode: LoginRequest{testRequest, false, true, OperationalStage, 0, 2, 1, testISID, 0x1234, 0x11223344, 2, 10}.AppendTo,
		decode: decoder(DecodeLoginRequest),
		want:   LoginRequest{immediate(testRequest), false, true, OperationalStage, 0, 2, 1, testISID, 0x1234, 0x11223344, 2, 10},
	}, {
		name: "login-response", opcode: OpLoginResponse,
		encode: LoginResponse{Numbers: Numbers{8, 0x21, 0x40}, Transit: true, CSG: OperationalStage, NSG: FullFeature, ISID: testISID, TSIH: 0x1234, ITT: 0x11223344}.AppendTo,
		decode: decoder(DecodeLoginResponse),
		want:   LoginResponse{Numbers: Numbers{8, 0x21, 0x40}, Transit: true, CSG: OperationalStage, NSG: FullFeature, ISID: testISID, TSIH: 0x1234, ITT: 0x11223344},
	}, {
		name: "login-response-refused", opcode: OpLoginResponse,
		encode: LoginResponse{ISID: testISID, ITT: 0x11223344, Status: LoginAuthenticationFail}.AppendTo,
		decode: decoder(DecodeLoginResponse), want: LoginResponse{ISID: testISID, ITT: 0x11223344, Status: LoginAuthenticationFail},
	}, {
		name: "text-request", opcode: OpTextRequest, data: []byte("SendTargets=All\x00"),
		encode: TextRequest{testRequest, true, false, 0, 0x11223344, NoTag, 16}.AppendTo,
		decode: decoder(DecodeTextRequest), want: TextRequest{testRequest, true, false, 0, 0x11223344, NoTag, 16},
	}, {
		name: "text-response", opcode: OpTextResponse,
		encode: TextResponse{testNumbers, false, true, 0, 0x11223344, 9, 0}.AppendTo,
		decode: decoder(DecodeTextResponse), want: TextResponse{testNumbers, false, true, 0, 0x11223344, 9, 0},
	}, {
		name: "data-out", opcode: OpDataOut, data: []byte("data"),
		encode: DataOut{true, 1 << 48, 0x11223344, 0x55667788, 7, 2, 0x2000, 4}.AppendTo,
		decode: decoder(DecodeDataOut), want: DataOut{true, 1 << 48, 0x11223344, 0x55667788, 7, 2, 0x2000, 4},
	}, {
		name: "data-in", opcode: OpDataIn, data: []byte("data"),
		encode: DataIn{Numbers: testNumbers, ITT: 0x11223344, DataSN: 1, Offset: 0x1000, DataBytes: 4}.AppendTo,
		decode: decoder(DecodeDataIn),
		want:   DataIn{Numbers: Numbers{0, 0x22, 0x3F}, ITT: 0x11223344, DataSN: 1, Offset: 0x1000, DataBytes: 4},
	}, {
		name: "data-in-status", opcode: OpDataIn, data: []byte("data"),
		encode: DataIn{testNumbers, Residual{Underflow: true, Count: 0x200}, true, false, true, Good, 0x11223344, 2, 0x1000, 4}.AppendTo,
		decode: decoder(DecodeDataIn),
		want:   DataIn{testNumbers, Residual{Underflow: true, Count: 0x200}, true, false, true, Good, 0x11223344, 2, 0x1000, 4},
	}, {
		name: "r2t", opcode: OpR2T,
		encode: R2T{testNumbers, 1 << 48, 0x11223344, 0x55667788, 3, 0x2000, 0x40000}.AppendTo,
		decode: decoder(DecodeR2T), want: R2T{testNumbers, 1 << 48, 0x11223344, 0x55667788, 3, 0x2000, 0x40000},
	}, {
		name: "logout-request", opcode: OpLogout,
		encode: LogoutRequest{immediate(testRequest), LogoutConnection, 0x11223344, 2}.AppendTo,
		decode: decoder(DecodeLogoutRequest), want: LogoutRequest{immediate(testRequest), LogoutConnection, 0x11223344, 2},
	}, {
		name: "logout-response", opcode: OpLogoutResponse,
		encode: LogoutResponse{testNumbers, LogoutCIDNotFound, 0x11223344, 2, 20}.AppendTo,
		decode: decoder(DecodeLogoutResponse), want: LogoutResponse{testNumbers, LogoutCIDNotFound, 0x11223344, 2, 20},
	}, {
		name: "async", opcode: OpAsync,
		encode: Async{Numbers: testNumbers, Event: AsyncRequestLogout, Parameter3: 30}.AppendTo,
		decode: decoder(DecodeAsync), want: Async{Numbers: testNumbers, Event: AsyncRequestLogout, Parameter3: 30},
	}, {
		name: "snack", opcode: OpSNACK,
		encode: SNACK{SNACKDataACK, 1 << 48, 0x11223344, 0x55667788, 7, 5, 0}.AppendTo,
		decode: decoder(DecodeSNACK), want: SNACK{SNACKDataACK, 1 << 48, 0x11223344, 0x55667788, 7, 5, 0},
	}, {
		name: "reject", opcode: OpReject, data: TextRequest{testRequest, true, false, 0, 0x11223344, NoTag, 16}.AppendTo(nil),
		encode: Reject{testNumbers, RejectProtocol, 0, 48}.AppendTo,
		decode: decoder(DecodeReject), want: Reject{testNumbers, RejectProtocol, 0, 48},
	},
}

func (g *goldenPDU) appendTo(b []byte) []byte {
	start := len(b)
	b = append(g.encode(b), g.ahs...)
	b = AppendDigest(b, start, g.digests)
	b = append(b, g.data...)
	return AppendDataEnd(b, uint32(len(g.data)), DataCRC(0, g.data), g.digests)
}

func TestGoldenPDUs(t *testing.T) {
	for _, g := range goldenPDUs {
		t.Run(g.name, func(t *testing.T) {
			want := golden(t, g.name)
			wantBytes(t, "encoded", g.appendTo([]byte("before"))[6:], want)
			p, fault := g.decode(want[:BHSBytes])
			if !fault.OK() || p != g.want {
				t.Errorf("decoded: %v\n got %+v\nwant %+v", fault, p, g.want)
			}
			h := DecodeHeader(want)
			if h.Opcode != g.opcode || h.AHSBytes != uint32(len(g.ahs)) || h.DataBytes != uint32(len(g.data)) {
				t.Errorf("header %+v", h)
			}
			if n := DataEndBytes(h.DataBytes, g.digests); n != uint32(len(want))-BHSBytes-h.AHSBytes-h.DataBytes-uint32(g.digests&HeaderDigests)*DigestBytes {
				t.Errorf("%d bytes after the data, of %d", n, len(want))
			}
			for n := range BHSBytes {
				if _, fault := g.decode(want[:n]); fault.OK() {
					t.Errorf("%d bytes of it are fine", n)
				}
			}
		})
	}
}

// What a decoder must refuse, and the byte that it names.
func TestWrongPDUs(t *testing.T) {
	edit := func(name string, at int, with ...byte) []byte {
		b := golden(t, name)[:BHSBytes]
		copy(b[at:], with)
		return b
	}
	none := []byte{0xFF, 0xFF, 0xFF, 0xFF}
	for _, c := range []struct {
		name   string
		decode func(b []byte) (any, Fault)
		b      []byte
		at     uint8
	}{
		{"SCSI Command: neither F nor W", decoder(DecodeSCSICommand), edit("scsi-command", 1, 0x01), 1},
		{"SCSI Command: F 0 with R alone", decoder(DecodeSCSICommand), edit("scsi-command", 1, 0x41), 1},
		{"SCSI Command: ATTR 5", decoder(DecodeSCSICommand), edit("scsi-command", 1, 0xA5), 1},
		{"SCSI Command: ATTR 7", decoder(DecodeSCSICommand), edit("scsi-command", 1, 0xA7), 1},
		{"SCSI Command: data of a read", decoder(DecodeSCSICommand), edit("scsi-command", 1, 0xC1), 5},
		{"SCSI Command: reserved ITT", decoder(DecodeSCSICommand), edit("scsi-command", 16, none...), 16},
		{"SCSI Response: both residuals", decoder(DecodeSCSIResponse), edit("scsi-response", 1, 0x86), 1},
		{"Data-Out: reserved ITT", decoder(DecodeDataOut), edit("data-out", 16, none...), 16},
		{"Data-In: S without F", decoder(DecodeDataIn), edit("data-in-status", 1, 0x01), 1},
		{"Data-In: both residuals", decoder(DecodeDataIn), edit("data-in-status", 1, 0x87), 1},
		{"R2T: reserved TTT", decoder(DecodeR2T), edit("r2t", 20, none...), 20},
		{"R2T: for nothing", decoder(DecodeR2T), edit("r2t", 44, 0, 0, 0, 0), 44},
		{"Task Management: reserved ITT", decoder(DecodeTaskRequest), edit("task-request", 16, none...), 16},
		{"Text Request: F and C", decoder(DecodeTextRequest), edit("text-request", 1, 0xC0), 1},
		{"Text Request: reserved ITT", decoder(DecodeTextRequest), edit("text-request", 16, none...), 16},
		{"Text Response: F and C", decoder(DecodeTextResponse), edit("text-response", 1, 0xC0), 1},
		{"Text Response: F and a TTT", decoder(DecodeTextResponse), edit("text-response", 1, 0x80), 20},
		{"Text Response: neither F nor TTT", decoder(DecodeTextResponse), edit("text-response", 20, none...), 20},
		{"Logout: reserved ITT", decoder(DecodeLogoutRequest), edit("logout-request", 16, none...), 16},
		{"Reject: an ITT", decoder(DecodeReject), edit("reject", 16, 0), 16},
		{"Asynchronous Message: an ITT", decoder(DecodeAsync), edit("async", 16, 0), 16},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, got := c.decode(c.b); got != badByte(c.at) {
				t.Errorf("%v, want %v", got, badByte(c.at))
			}
		})
	}
}

// What must be taken although it looks odd: real initiators send it, or RFC 7143 section 11 says that the receiver ignores it.
func TestOddPDUs(t *testing.T) {
	for _, g := range goldenPDUs {
		b := golden(t, g.name)[:BHSBytes]
		b[0] |= 0x80
		if p, fault := g.decode(b); !fault.OK() || p != g.want {
			t.Errorf("%s, with the reserved bit of byte 0: %v, %+v", g.name, fault, p)
		}
	}
	b := golden(t, "scsi-command")[:BHSBytes]
	b[1], b[7] = 0x80, 0
	if p, fault := DecodeSCSICommand(b); !fault.OK() || p.Read || p.Write || p.EDTL != 0x1000 {
		t.Errorf("data expected in no direction: %v, %+v", fault, p)
	}
}

func TestSerialNumbersWrap(t *testing.T) {
	for _, c := range []struct {
		a, b   SerialNumber
		before bool
	}{
		{0, 1, true}, {1, 0, false}, {5, 5, false}, {0xFFFFFFFF, 0, true}, {0, 0xFFFFFFFF, false}, {0xFFFFFFF0, 0x10, true},
		{0, 0x7FFFFFFF, true}, {0, 0x80000000, false}, {0x80000000, 0, false}, {0, 0x80000001, false}, {0x80000001, 0, true},
	} {
		if c.a.Before(c.b) != c.before {
			t.Errorf("%#x before %#x: %v", c.a, c.b, !c.before)
		}
	}
	for _, c := range []struct {
		s, first, last SerialNumber
		in             bool
	}{
		{5, 5, 5, true}, {4, 5, 9, false}, {9, 5, 9, true}, {10, 5, 9, false}, {5, 5, 4, false}, {4, 5, 4, false}, {0xFFFFFFFF, 0, 0xFFFFFFFF, false},
		{0, 0xFFFFFFFE, 3, true}, {0xFFFFFFFD, 0xFFFFFFFE, 3, false}, {4, 0xFFFFFFFE, 3, false}, {0x80000005, 5, 9, false},
	} {
		if c.s.In(c.first, c.last) != c.in {
			t.Errorf("%#x in %#x…%#x: %v", c.s, c.first, c.last, !c.in)
		}
	}
}

func TestAHSAreTakenApart(t *testing.T) {
	type segment struct {
		t    AHSType
		body string
	}
	list := func(b []byte) (out []segment) {
		for {
			k, body, rest, more := NextAHS(b)
			if !more {
				return out
			}
			if len(rest) >= len(b) {
				t.Fatalf("% X: the rest is as long as the whole", b)
			}
			out = append(out, segment{k, string(body)})
			b = rest
		}
	}
	two := AppendAHS(AppendAHS(nil, AHSExtendedCDB, []byte("sixteen and more")), AHSBidirectional, []byte{0, 0, 2, 0})
	for _, c := range []struct {
		name string
		b    []byte
		want []segment
	}{
		{"none", nil, nil},
		{"an extended CDB and a length", two, []segment{{AHSExtendedCDB, "sixteen and more"}, {AHSBidirectional, "\x00\x00\x02\x00"}}},
		{"padding", AppendAHS(nil, AHSExtendedCDB, []byte("cdb")), []segment{{AHSExtendedCDB, "cdb"}}},
		{"length 0", []byte{0, 0, 1, 0, 0, 5, 2, 0, 0, 0, 2, 0}, []segment{{AHSExtendedCDB, ""}, {AHSBidirectional, "\x00\x00\x02\x00"}}},
		{"longer than the header", []byte{0xFF, 0xFF, 1, 0, 'a', 'b', 'c', 'd'}, []segment{{AHSExtendedCDB, "abcd"}}},
		{"reserved bits in the type", []byte{0, 2, 0xC1, 0, 'x', 0, 0, 0}, []segment{{AHSExtendedCDB, "x"}}},
	} {
		got := list(c.b)
		if len(got) != len(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: %v, want %v", c.name, got, c.want)
			}
		}
	}
}

func TestSenseInASCSIResponse(t *testing.T) {
	wantBytes(t, "sense", SenseOf(AppendSense(nil, testSense)), testSense)
	wantBytes(t, "response data behind it", SenseOf([]byte{0, 1, 0x70, 1, 2, 3}), []byte{0x70})
	for _, b := range [][]byte{nil, {0}, {0, 0}, {0, 2, 1}, {0xFF, 0xFF, 1, 2}} {
		if s := SenseOf(b); s != nil {
			t.Errorf("% X has the sense % X", b, s)
		}
	}
}

func TestNamesOfCodes(t *testing.T) {
	for _, c := range []struct {
		got  interface{ String() string }
		want string
	}{
		{OpR2T, "R2T"}, {Opcode(0x1C), "opcode 1Ch"}, {Opcode(0x30), "opcode 30h"}, {RejectProtocol, "protocol error"}, {RejectReason(0x0B), "reason 0Bh"},
		{LogicalUnitReset, "LOGICAL UNIT RESET"}, {TaskFunction(0), "task management function 0"}, {FunctionRejected, "function rejected"},
		{ReassignNotSupported, "task allegiance reassignment not supported"}, {TaskResponse(8), "task management response 8"},
		{LoginVersion, "unsupported version (0205)"}, {LoginInvalidRequest, "invalid during login (020B)"}, {LoginStatus(0x0100), "login status 0100"},
		{LoginStatus(0x0400), "login status 0400"}, {LoginOutOfResources, "out of resources (0302)"}, {FullFeature, "FullFeaturePhase"}, {Stage(2), "stage 2"},
	} {
		if c.got.String() != c.want {
			t.Errorf("%q, want %q", c.got.String(), c.want)
		}
	}
}

// FuzzPDU: whatever a decoder takes it gives back, but for what is reserved.
func FuzzPDU(f *testing.F) {
	for _, g := range goldenPDUs {
		f.Add(golden(f, g.name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < BHSBytes {
			return
		}
		h := DecodeHeader(b)
		again := func(p interface{ AppendTo([]byte) []byte }, fault Fault, decode func(b []byte) (any, Fault)) {
			if !fault.OK() {
				return
			}
			second, fault := decode(p.AppendTo(nil))
			if login, ok := second.(LoginRequest); ok {
				login.Immediate = h.Immediate // always set where it is sent
				second = login
			}
			if in, ok := p.(DataIn); ok && !in.Ends { // not sent without status
				in.Residual, in.Status, in.StatSN = Residual{}, 0, 0
				p = in
			}
			if !fault.OK() || second != p {
				t.Fatalf("%v: %v\nfirst  %+v\nsecond %+v", h.Opcode, fault, p, second)
			}
		}
		switch h.Opcode {
		case OpNOPOut:
			p, e := DecodeNOPOut(b)
			again(p, e, decoder(DecodeNOPOut))
		case OpNOPIn:
			p, e := DecodeNOPIn(b)
			again(p, e, decoder(DecodeNOPIn))
		case OpSCSICommand:
			p, e := DecodeSCSICommand(b)
			again(p, e, decoder(DecodeSCSICommand))
			for rest, more := b[BHSBytes:], true; more; {
				n := len(rest)
				if _, _, rest, more = NextAHS(rest); more && len(rest) >= n {
					t.Fatalf("of %d bytes of AHS %d are left", n, len(rest))
				}
			}
		case OpSCSIResponse:
			p, e := DecodeSCSIResponse(b)
			again(p, e, decoder(DecodeSCSIResponse))
			SenseOf(b[BHSBytes:])
		case OpTaskRequest:
			p, e := DecodeTaskRequest(b)
			again(p, e, decoder(DecodeTaskRequest))
		case OpTaskResponse:
			p, e := DecodeTaskAnswer(b)
			again(p, e, decoder(DecodeTaskAnswer))
		case OpLoginRequest:
			p, e := DecodeLoginRequest(b)
			again(p, e, decoder(DecodeLoginRequest))
		case OpLoginResponse:
			p, e := DecodeLoginResponse(b)
			again(p, e, decoder(DecodeLoginResponse))
		case OpTextRequest:
			p, e := DecodeTextRequest(b)
			again(p, e, decoder(DecodeTextRequest))
		case OpTextResponse:
			p, e := DecodeTextResponse(b)
			again(p, e, decoder(DecodeTextResponse))
		case OpDataOut:
			p, e := DecodeDataOut(b)
			again(p, e, decoder(DecodeDataOut))
		case OpDataIn:
			p, e := DecodeDataIn(b)
			again(p, e, decoder(DecodeDataIn))
		case OpLogout:
			p, e := DecodeLogoutRequest(b)
			again(p, e, decoder(DecodeLogoutRequest))
		case OpLogoutResponse:
			p, e := DecodeLogoutResponse(b)
			again(p, e, decoder(DecodeLogoutResponse))
		case OpR2T:
			p, e := DecodeR2T(b)
			again(p, e, decoder(DecodeR2T))
		case OpAsync:
			p, e := DecodeAsync(b)
			again(p, e, decoder(DecodeAsync))
		case OpSNACK:
			p, e := DecodeSNACK(b)
			again(p, e, decoder(DecodeSNACK))
		case OpReject:
			p, e := DecodeReject(b)
			again(p, e, decoder(DecodeReject))
		}
	})
}

func TestPDUAllocatesNothing(t *testing.T) {
	buf := make([]byte, 0, 512)
	n := testing.AllocsPerRun(100, func() {
		b := testWrite.AppendTo(buf)
		b = AppendDigest(b, 0, bothDigests)
		c, fault := DecodeSCSICommand(b)
		if DecodeHeader(b).Opcode != OpSCSICommand || !fault.OK() || c.EDTL != 0x1000 {
			t.Error("the command changed on its way")
		}
		b = DataOut{ITT: 1, TTT: 2, DataBytes: 5}.AppendTo(buf)
		DecodeDataOut(b)
		b = AppendDataEnd(append(b, "Hello"...), 5, DataCRC(0, b[:5]), bothDigests)
		b = R2T{ITT: 1, TTT: 2, Bytes: 512}.AppendTo(b[:0])
		DecodeR2T(b)
		b = DataIn{Final: true, Ends: true, ITT: 1, DataBytes: 512}.AppendTo(buf)
		DecodeDataIn(b)
		b = SCSIResponse{ITT: 1, Residual: Residual{Underflow: true, Count: 1}}.AppendTo(buf)
		DecodeSCSIResponse(b)
		b = AppendSense(buf, testSense)
		SenseOf(b)
		clear(b[:1])
		if _, fault := DecodeSCSICommand(buf[:48]); fault.OK() {
			t.Error("rubbish is a command")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
