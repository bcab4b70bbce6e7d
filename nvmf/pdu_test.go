package nvmf

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// golden reads testdata/name.hex: hex digits in any arrangement, "#" begins a comment.
func golden(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		for _, field := range strings.Fields(line) {
			if body, ok := strings.CutPrefix(field, "00*"); ok { // 00*112: that many zeros
				var n int
				for _, c := range body {
					n = n*10 + int(c-'0')
				}
				field = strings.Repeat("00", n)
			}
			digits.WriteString(field)
		}
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatalf("testdata/%s.hex: %v", name, err)
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
	file    string
	encode  func(b []byte) []byte
	framing Framing
	frame   Frame
	decode  func(b []byte, f Frame) (any, PDUError)
	want    any
}

func testSQE() *SQE {
	var s SQE
	s.Init(uint8(IOWrite), 0x1234, 1)
	s.SetSGL(SGL{Type: SGLDataBlock, Subtype: SGLOffset, Bytes: 8})
	s.SetRW(RW{SLBA: 0x0102030405060708, NLB: 1, FUA: true})
	return &s
}

func fromHost() Framing {
	return Framing{From: SideHost, Open: true, Align: 4, CapsuleBytesMax: AdminCapsuleBytesMax, DataBytesMax: 131072}
}

func fromController() Framing {
	return Framing{From: SideController, Open: true, Align: 4, DataBytesMax: 131072}
}

func with(f Framing, d Digests, align uint32) Framing {
	f.Digests, f.Align = d, align
	return f
}

const both = HeaderDigests | DataDigests

var goldenPDUs = []goldenPDU{
	{
		"icreq", ICReq{HPDA: 3, Digests: both, MAXR2T: 7}.AppendTo,
		Framing{From: SideHost},
		Frame{HeaderBytes: 128, DataAt: 128},
		func(b []byte, _ Frame) (any, PDUError) { p, e := DecodeICReq(b); return p, e },
		ICReq{HPDA: 3, Digests: both, MAXR2T: 7},
	}, {
		"icresp", ICResp{CPDA: 1, Digests: HeaderDigests, MAXH2CDATA: 131072}.AppendTo,
		Framing{From: SideController},
		Frame{HeaderBytes: 128, DataAt: 128},
		func(b []byte, _ Frame) (any, PDUError) { p, e := DecodeICResp(b, HeaderDigests); return p, e },
		ICResp{CPDA: 1, Digests: HeaderDigests, MAXH2CDATA: 131072},
	}, {
		"capsulecmd", func(b []byte) []byte {
			b = AppendCapsuleCmd(b, testSQE(), 8, 0, 4)
			return append(b, "pollux!!"...)
		},
		fromHost(),
		Frame{HeaderBytes: 72, DataAt: 72, DataBytes: 8},
		func(b []byte, _ Frame) (any, PDUError) { p, e := DecodeCapsuleCmd(b); return *p, e },
		*testSQE(),
	}, {
		"capsulecmd_digests", func(b []byte) []byte {
			b = AppendCapsuleCmd(b, testSQE(), 8, both, 16)
			b = append(b, "pollux!!"...)
			return AppendDigest(b, DataDigest(0, []byte("pollux!!")))
		},
		with(fromHost(), both, 16),
		Frame{HeaderBytes: 76, DataAt: 80, DataBytes: 8, DataDigest: true},
		func(b []byte, _ Frame) (any, PDUError) { p, e := DecodeCapsuleCmd(b); return *p, e },
		*testSQE(),
	}, {
		"capsuleresp", func(b []byte) []byte {
			return AppendCapsuleResp(b, CQE{0x11223344, 0x55667788, 0x0201, 0x1234, StatusInvalidField | DNR}, HeaderDigests)
		},
		with(fromController(), HeaderDigests, 4),
		Frame{HeaderBytes: 28, DataAt: 28},
		func(b []byte, _ Frame) (any, PDUError) { p, e := DecodeCapsuleResp(b); return p, e },
		CQE{0x11223344, 0x55667788, 0x0201, 0x1234, StatusInvalidField | DNR},
	}, {
		"h2cdata", func(b []byte) []byte {
			b = DataPDU{CCCID: 0x1234, TTAG: 0x5678, DATAO: 0x1000, DATAL: 4, Last: true}.AppendH2CData(b, 0, 4)
			return append(b, "data"...)
		},
		fromHost(),
		Frame{HeaderBytes: 24, DataAt: 24, DataBytes: 4},
		func(b []byte, f Frame) (any, PDUError) { p, e := DecodeData(b, f); return p, e },
		DataPDU{CCCID: 0x1234, TTAG: 0x5678, DATAO: 0x1000, DATAL: 4, Last: true},
	}, {
		"c2hdata", func(b []byte) []byte {
			b = DataPDU{CCCID: 0x1234, DATAO: 0x1000, DATAL: 4, Last: true, Success: true}.AppendC2HData(b, both, 64)
			b = append(b, "data"...)
			return AppendDigest(b, DataDigest(0, []byte("data")))
		},
		with(fromController(), both, 64),
		Frame{HeaderBytes: 28, DataAt: 64, DataBytes: 4, DataDigest: true},
		func(b []byte, f Frame) (any, PDUError) { p, e := DecodeData(b, f); return p, e },
		DataPDU{CCCID: 0x1234, DATAO: 0x1000, DATAL: 4, Last: true, Success: true},
	}, {
		"r2t", func(b []byte) []byte {
			return R2T{CCCID: 0x1234, TTAG: 0x5678, R2TO: 0x1000, R2TL: 0x2000}.AppendTo(b, 0)
		},
		fromController(),
		Frame{HeaderBytes: 24, DataAt: 24},
		func(b []byte, _ Frame) (any, PDUError) { p, e := DecodeR2T(b); return p, e },
		R2T{CCCID: 0x1234, TTAG: 0x5678, R2TO: 0x1000, R2TL: 0x2000},
	},
}

func TestGoldenPDUs(t *testing.T) {
	for _, g := range goldenPDUs {
		t.Run(g.file, func(t *testing.T) {
			want := golden(t, g.file)
			wantBytes(t, "encoded", g.encode(nil), want)
			wantBytes(t, "encoded behind other bytes", g.encode([]byte("before"))[len("before"):], want)

			h := DecodeCommonHeader(want)
			g.frame.CommonHeader = h
			f, e := g.framing.Frame(h)
			if !e.OK() {
				t.Fatalf("frame: %v", e)
			}
			if f != g.frame {
				t.Fatalf("frame %+v, want %+v", f, g.frame)
			}
			if e := f.CheckHeader(want); !e.OK() {
				t.Fatalf("header digest: %v", e)
			}
			if f.DataDigest {
				data := want[f.DataAt:][:f.DataBytes]
				if DataDigest(0, data) != Digest(want[f.DataAt+f.DataBytes:]) {
					t.Error("data digest is wrong")
				}
			}
			got, e := g.decode(want[:f.HLEN], f)
			if !e.OK() || got != g.want {
				t.Errorf("decoded %+v, %v, want %+v", got, e, g.want)
			}
		})
	}
}

// The Linux host and target send TermReqs only to be logged; both forms are here.
func TestTermReq(t *testing.T) {
	var fault [200]byte
	for i := range fault {
		fault[i] = byte(i)
	}
	for _, typ := range []PDUType{PDUH2CTermReq, PDUC2HTermReq} {
		b := TermReq{typ, PDUError{FESInvalidHeader, 0x01020304}, fault[:24]}.AppendTo(nil)
		want := append([]byte{byte(typ), 0, 24, 0, 48, 0, 0, 0, 1, 0, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, fault[:24]...)
		wantBytes(t, typ.String(), b, want)

		f := Framing{From: pduKinds[typ].from}
		for _, f.Open = range []bool{false, true} {
			fr, e := f.Frame(DecodeCommonHeader(b))
			if !e.OK() || fr.HeaderBytes != 24 || fr.DataAt != 24 || fr.DataBytes != 24 {
				t.Fatalf("frame %+v, %v", fr, e)
			}
		}
		p, e := DecodeTermReq(b)
		if !e.OK() || p.Type != typ || p.Err != (PDUError{FESInvalidHeader, 0x01020304}) || !bytes.Equal(p.Header, fault[:24]) {
			t.Errorf("decoded %+v, %v", p, e)
		}
		if n := len(TermReq{typ, ErrSequence, fault[:]}.AppendTo(nil)); n != TermReqBytesMax {
			t.Errorf("with %d bytes of header it is %d long, want %d", len(fault), n, TermReqBytesMax)
		}
		if _, e := DecodeTermReq(make([]byte, TermReqBytesMax+1)); e != badByte(4) {
			t.Errorf("a long one: %v", e)
		}
	}
}

func TestEveryTruncationFails(t *testing.T) {
	for _, g := range goldenPDUs {
		b := golden(t, g.file)
		f, _ := g.framing.Frame(DecodeCommonHeader(b))
		decode := g.decode
		if strings.HasPrefix(g.file, "capsulecmd") {
			decode = func(b []byte, _ Frame) (any, PDUError) { p, e := DecodeCapsuleCmd(b); return p, e }
		}
		for n := range int(f.HLEN) {
			if _, e := decode(b[:n:n], f); e != badByte(offsetPLEN) {
				t.Errorf("%s cut to %d bytes: %v", g.file, n, e)
			}
		}
	}
	b := TermReq{PDUH2CTermReq, ErrSequence, nil}.AppendTo(nil)
	for n := range len(b) {
		if _, e := DecodeTermReq(b[:n:n]); e != badByte(offsetPLEN) {
			t.Errorf("TermReq cut to %d bytes: %v", n, e)
		}
	}
}

// Every field of the common header wrong, and the byte that is named.
func TestWrongHeaders(t *testing.T) {
	const hdgst, ddgst = HeaderDigests, DataDigests
	cmd := CommonHeader{PDUCapsuleCmd, 0, 72, 0, 72}
	data := CommonHeader{PDUH2CData, 0, 24, 24, 24 + 512}
	c2h := CommonHeader{PDUC2HData, 0, 24, 24, 24 + 512}
	edit := func(h CommonHeader, change func(*CommonHeader)) CommonHeader { change(&h); return h }
	unopened := Framing{From: SideHost}

	for _, c := range []struct {
		name    string
		framing Framing
		h       CommonHeader
		want    PDUError
	}{
		{"type unknown: 08", fromHost(), edit(cmd, func(h *CommonHeader) { h.Type = 0x08 }), badByte(0)},
		{"type unknown: 0A", fromHost(), edit(cmd, func(h *CommonHeader) { h.Type = 0x0A }), badByte(0)},
		{"type unknown: FF", fromHost(), edit(cmd, func(h *CommonHeader) { h.Type = 0xFF }), badByte(0)},
		{"ICResp from a host", fromHost(), CommonHeader{PDUICResp, 0, 128, 0, 128}, badByte(0)},
		{"CapsuleResp from a host", fromHost(), CommonHeader{PDUCapsuleResp, 0, 24, 0, 24}, badByte(0)},
		{"C2HData from a host", fromHost(), c2h, badByte(0)},
		{"R2T from a host", fromHost(), CommonHeader{PDUR2T, 0, 24, 0, 24}, badByte(0)},
		{"C2HTermReq from a host", fromHost(), CommonHeader{PDUC2HTermReq, 0, 24, 0, 24}, badByte(0)},
		{"ICReq from a controller", fromController(), CommonHeader{PDUICReq, 0, 128, 0, 128}, badByte(0)},
		{"CapsuleCmd from a controller", fromController(), cmd, badByte(0)},
		{"H2CData from a controller", fromController(), data, badByte(0)},

		{"CapsuleCmd before ICReq", unopened, cmd, ErrSequence},
		{"H2CData before ICReq", unopened, data, ErrSequence},
		{"R2T before ICResp", Framing{From: SideController}, CommonHeader{PDUR2T, 0, 24, 0, 24}, ErrSequence},
		{"second ICReq", fromHost(), CommonHeader{PDUICReq, 0, 128, 0, 128}, ErrSequence},
		{"second ICResp", fromController(), CommonHeader{PDUICResp, 0, 128, 0, 128}, ErrSequence},

		{"HDGSTF missing", with(fromHost(), hdgst, 4), edit(cmd, func(h *CommonHeader) { h.PLEN = 76 }), badByte(1)},
		{"HDGSTF without header digests", fromHost(), edit(cmd, func(h *CommonHeader) { h.Flags = FlagHDGST; h.PLEN = 76 }), badByte(1)},
		{"DDGSTF missing", with(fromHost(), ddgst, 4), edit(data, func(h *CommonHeader) { h.PLEN += 4 }), badByte(1)},
		{"DDGSTF without data digests", fromHost(), edit(data, func(h *CommonHeader) { h.Flags = FlagDDGST }), badByte(1)},

		{"ICReq: HLEN", unopened, CommonHeader{PDUICReq, 0, 120, 0, 128}, badByte(2)},
		{"ICReq: HLEN 0", unopened, CommonHeader{PDUICReq, 0, 0, 0, 128}, badByte(2)},
		{"CapsuleCmd: HLEN short", fromHost(), edit(cmd, func(h *CommonHeader) { h.HLEN = 64 }), badByte(2)},
		{"CapsuleCmd: HLEN long", fromHost(), edit(cmd, func(h *CommonHeader) { h.HLEN = 73 }), badByte(2)},
		{"H2CData: HLEN", fromHost(), edit(data, func(h *CommonHeader) { h.HLEN = 20 }), badByte(2)},
		{"H2CTermReq: HLEN", fromHost(), CommonHeader{PDUH2CTermReq, 0, 8, 0, 24}, badByte(2)},
		{"HLEN and PLEN", fromHost(), edit(cmd, func(h *CommonHeader) { h.HLEN = 64; h.PLEN = 64 }), badByte(2)},

		{"PDO inside the header", fromHost(), edit(data, func(h *CommonHeader) { h.PDO = 20 }), badByte(3)},
		{"PDO 0 with data", fromHost(), edit(cmd, func(h *CommonHeader) { h.PLEN = 76 }), badByte(3)},
		{"PDO inside the header digest", with(fromHost(), hdgst, 4), edit(data, func(h *CommonHeader) { h.Flags = FlagHDGST }), badByte(3)},
		{"PDO not a multiple of 4", fromHost(), edit(data, func(h *CommonHeader) { h.PDO = 26 }), badByte(3)},
		{"PDO not a multiple of CPDA", with(fromHost(), 0, 16), edit(data, func(h *CommonHeader) { h.PDO = 40 }), badByte(3)},

		{"ICReq: PLEN short", unopened, CommonHeader{PDUICReq, 0, 128, 0, 127}, badByte(4)},
		{"ICReq: PLEN long", unopened, CommonHeader{PDUICReq, 0, 128, 0, 132}, badByte(4)},
		{"CapsuleCmd: PLEN 0", fromHost(), edit(cmd, func(h *CommonHeader) { h.PLEN = 0 }), badByte(4)},
		{"CapsuleCmd: PLEN short", fromHost(), edit(cmd, func(h *CommonHeader) { h.PLEN = 71 }), badByte(4)},
		{"CapsuleCmd: no room for the header digest", with(fromHost(), hdgst, 4), edit(cmd, func(h *CommonHeader) { h.Flags = FlagHDGST }), badByte(4)},
		{"CapsuleCmd: PLEN ends in the padding", fromHost(), CommonHeader{PDUCapsuleCmd, 0, 72, 80, 76}, badByte(4)},
		{"CapsuleCmd: PLEN ends at the padding", fromHost(), CommonHeader{PDUCapsuleCmd, 0, 72, 80, 80}, badByte(4)},
		{"CapsuleCmd: a data digest and no data", with(fromHost(), ddgst, 4), CommonHeader{PDUCapsuleCmd, FlagDDGST, 72, 72, 76}, badByte(4)},
		{"CapsuleCmd: more data than IOCCSZ", fromHost(), CommonHeader{PDUCapsuleCmd, 0, 72, 72, 72 + 8193}, badByte(4)},
		{"CapsuleCmd: PLEN FFFFFFFF", fromHost(), CommonHeader{PDUCapsuleCmd, 0, 72, 72, 0xFFFFFFFF}, badByte(4)},
		{"H2CData: no data", fromHost(), edit(data, func(h *CommonHeader) { h.PLEN = 24 }), badByte(4)},
		{"H2CData: PLEN short", fromHost(), edit(data, func(h *CommonHeader) { h.PLEN = 8 }), badByte(4)},
		{"CapsuleResp: data", fromController(), CommonHeader{PDUCapsuleResp, 0, 24, 24, 28}, badByte(4)},
		{"R2T: data", fromController(), CommonHeader{PDUR2T, 0, 24, 24, 28}, badByte(4)},
		{"H2CTermReq: PLEN short", fromHost(), CommonHeader{PDUH2CTermReq, 0, 24, 0, 20}, badByte(4)},
		{"H2CTermReq: PLEN long", fromHost(), CommonHeader{PDUH2CTermReq, 0, 24, 0, 153}, badByte(4)},
		{"H2CTermReq: PLEN FFFFFFFF", unopened, CommonHeader{PDUH2CTermReq, 0, 24, 0, 0xFFFFFFFF}, badByte(4)},

		{"H2CData: above MAXH2CDATA", fromHost(), edit(data, func(h *CommonHeader) { h.PLEN = 24 + 131072 + 1 }), PDUError{FESLimitExceeded, 0}},
		{"H2CData: PLEN FFFFFFFF", fromHost(), edit(data, func(h *CommonHeader) { h.PLEN = 0xFFFFFFFF }), PDUError{FESLimitExceeded, 0}},
		{"C2HData: above what was asked for", fromController(), edit(c2h, func(h *CommonHeader) { h.PLEN = 0xFFFFFFFF }), PDUError{FESLimitExceeded, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, e := c.framing.Frame(c.h)
			if e != c.want {
				t.Errorf("got %v, want %v", e, c.want)
			}
			if f != (Frame{}) {
				t.Errorf("a frame in spite of it: %+v", f)
			}
		})
	}
}

// What must be taken although it looks odd.
func TestOddHeaders(t *testing.T) {
	for _, c := range []struct {
		name      string
		framing   Framing
		h         CommonHeader
		dataBytes uint32
	}{
		{"reserved flags", fromHost(), CommonHeader{PDUCapsuleCmd, 0xFC, 72, 0, 72}, 0},
		{"PDO without data", fromHost(), CommonHeader{PDUCapsuleCmd, 0, 72, 72, 72}, 0},
		{"DDGSTF without data", with(fromHost(), DataDigests, 4), CommonHeader{PDUCapsuleCmd, FlagDDGST, 72, 72, 72}, 0},
		{"more padding than is needed", fromHost(), CommonHeader{PDUCapsuleCmd, 0, 72, 128, 132}, 4},
		{"an odd number of bytes", fromHost(), CommonHeader{PDUH2CData, 0, 24, 24, 27}, 3},
		{"in-capsule data of 8192 bytes", fromHost(), CommonHeader{PDUCapsuleCmd, 0, 72, 72, 72 + 8192}, 8192},
		{"data of MAXH2CDATA", fromHost(), CommonHeader{PDUH2CData, 0, 24, 24, 24 + 131072}, 131072},
		{"TermReq with digests on", with(fromHost(), both, 4), CommonHeader{PDUH2CTermReq, 0, 24, 0, 48}, 24},
		{"the largest TermReq", fromHost(), CommonHeader{PDUH2CTermReq, 0, 24, 0, 152}, 128},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, e := c.framing.Frame(c.h)
			if !e.OK() || f.DataBytes != c.dataBytes {
				t.Errorf("%+v, %v; want %d bytes", f, e, c.dataBytes)
			}
		})
	}
}

// Every field behind the common header wrong, and the byte that is named.
func TestWrongFields(t *testing.T) {
	frame := Frame{DataBytes: 4}
	decoders := map[string]func(b []byte) PDUError{
		"icreq":   func(b []byte) PDUError { _, e := DecodeICReq(b); return e },
		"icresp":  func(b []byte) PDUError { _, e := DecodeICResp(b, HeaderDigests); return e },
		"h2cdata": func(b []byte) PDUError { _, e := DecodeData(b, frame); return e },
		"c2hdata": func(b []byte) PDUError { _, e := DecodeData(b, frame); return e },
		"r2t":     func(b []byte) PDUError { _, e := DecodeR2T(b); return e },
	}
	for _, c := range []struct {
		name, file string
		at         int
		bytes      []byte
		want       uint32
	}{
		{"PFV 1", "icreq", 8, []byte{1}, 8},
		{"PFV 100h", "icreq", 9, []byte{1}, 8},
		{"HPDA 32", "icreq", 10, []byte{32}, 10},
		{"HPDA 255", "icreq", 10, []byte{255}, 10},
		{"PFV and HPDA: the lower is named", "icreq", 8, []byte{1, 0, 32}, 8},
		{"PFV 1", "icresp", 8, []byte{1}, 8},
		{"CPDA 32", "icresp", 10, []byte{32}, 10},
		{"digests not asked for", "icresp", 11, []byte{3}, 11},
		{"digests refused", "icresp", 11, []byte{0}, 11},
		{"MAXH2CDATA below 4096", "icresp", 12, []byte{0xFC, 0x0F, 0, 0}, 12},
		{"MAXH2CDATA not a multiple of 4", "icresp", 12, []byte{0x02, 0x10, 0, 0}, 12},
		{"DATAL less than the PDU has", "h2cdata", 16, []byte{3}, 16},
		{"DATAL more than the PDU has", "h2cdata", 16, []byte{5}, 16},
		{"DATAL 0", "h2cdata", 16, []byte{0}, 16},
		{"DATAL more than the PDU has", "c2hdata", 19, []byte{1}, 16},
		{"SUCCESS without LAST_PDU", "c2hdata", 1, []byte{FlagSuccess}, 1},
		{"R2TL 0", "r2t", 16, []byte{0, 0, 0, 0}, 16},
	} {
		t.Run(c.file+" "+c.name, func(t *testing.T) {
			b := golden(t, c.file)
			copy(b[c.at:], c.bytes)
			if e := decoders[c.file](b); e != badByte(c.want) {
				t.Errorf("got %v, want byte %d", e, c.want)
			}
		})
	}
}

func TestHeaderDigestWrong(t *testing.T) {
	good := golden(t, "capsulecmd_digests")
	f, _ := (&goldenPDUs[3].framing).Frame(DecodeCommonHeader(good))
	received := Digest(good[72:])
	for at := range 76 {
		b := bytes.Clone(good)
		b[at] ^= 0x10
		want := PDUError{FESHeaderDigest, received}
		if at >= 72 {
			want.FEI = Digest(b[72:])
		}
		if e := f.CheckHeader(b); e != want {
			t.Errorf("byte %d flipped: %v, want %v", at, e, want)
		}
	}
}

// The check value of CRC32C, and digests continued over parts.
func TestDigest(t *testing.T) {
	if got := DataDigest(0, []byte("123456789")); got != 0xE3069283 {
		t.Errorf("digest of 123456789 is %08X, want E3069283", got)
	}
	if got := DataDigest(DataDigest(0, []byte("1234")), []byte("56789")); got != 0xE3069283 {
		t.Errorf("in two parts it is %08X", got)
	}
	// RFC 3720 appendix B.4: 32 bytes of zeros, as they are sent.
	wantBytes(t, "32 zeros", AppendDigest(nil, DataDigest(0, make([]byte, 32))), []byte{0xAA, 0x36, 0x91, 0x8A})
}

func TestMAXR2T(t *testing.T) {
	for raw, want := range map[uint32]uint32{0: 1, 15: 16, 0xFFFFFFFE: 0xFFFFFFFF, 0xFFFFFFFF: 0xFFFFFFFF} {
		if got := (ICReq{MAXR2T: raw}).R2TsMax(); got != want {
			t.Errorf("MAXR2T %d: %d, want %d", raw, got, want)
		}
	}
}

// Every size, digest and alignment comes back as it was sent.
func TestDataRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		d := Digests(rng.UintN(4))
		align := DataAlign(uint8(rng.UintN(32)))
		data := make([]byte, 1+rng.UintN(300))
		p := DataPDU{CID(rng.Uint32()), uint16(rng.Uint32()), rng.Uint32(), uint32(len(data)), rng.UintN(2) == 0, false}
		b := p.AppendH2CData(nil, d, align)
		if len(b)%int(align) != 0 {
			t.Fatalf("data begins at %d, not a multiple of %d", len(b), align)
		}
		b = append(b, data...)
		if d&DataDigests != 0 {
			b = AppendDigest(b, DataDigest(0, data))
		}
		framing := with(fromHost(), d, align)
		f, e := framing.Frame(DecodeCommonHeader(b))
		if !e.OK() || int(f.PLEN) != len(b) || f.DataBytes != p.DATAL || f.CheckHeader(b) != (PDUError{}) {
			t.Fatalf("%+v digests %d align %d: %+v, %v", p, d, align, f, e)
		}
		if got, e := DecodeData(b, f); !e.OK() || got != p {
			t.Fatalf("%+v came back as %+v, %v", p, got, e)
		}
	}
}

func TestPDUAllocatesNothing(t *testing.T) {
	framing := with(fromHost(), both, 8)
	back := with(fromController(), both, 8)
	buf := make([]byte, 0, 512)
	sqe := testSQE()
	n := testing.AllocsPerRun(100, func() {
		b := AppendCapsuleCmd(buf, sqe, 8, both, 8)
		f, _ := framing.Frame(DecodeCommonHeader(b))
		f.CheckHeader(b)
		s, _ := DecodeCapsuleCmd(b)
		s.TCPData(f.DataBytes)

		b = DataPDU{CCCID: s.CID(), DATAL: 512, Last: true}.AppendH2CData(buf, both, 8)
		f, _ = framing.Frame(DecodeCommonHeader(b))
		DecodeData(b, f)

		b = DataPDU{CCCID: s.CID(), DATAL: 512, Last: true}.AppendC2HData(buf, both, 8)
		f, _ = back.Frame(DecodeCommonHeader(b))
		DecodeData(b, f)

		b = R2T{CCCID: s.CID(), R2TL: 512}.AppendTo(buf, both)
		DecodeR2T(b)
		b = AppendCapsuleResp(buf, CQE{CID: s.CID()}, both)
		DecodeCapsuleResp(b)
		b = AppendDigest(buf, DataDigest(0, b))
		if _, e := framing.Frame(CommonHeader{Type: 0xFF}); e.OK() {
			t.Error("type FF is fine")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzStream cuts a stream of PDUs at the bytes that the second argument names, as a socket would, and reads it.
func FuzzStream(f *testing.F) {
	for _, g := range goldenPDUs {
		if g.framing.From == SideHost {
			f.Add(g.encode(nil), uint8(g.framing.Digests), uint8(0))
		}
	}
	var all []byte
	all = ICReq{}.AppendTo(all)
	all = AppendCapsuleCmd(all, testSQE(), 0, 0, 4)
	all = append(DataPDU{DATAL: 3, Last: true}.AppendH2CData(all, 0, 4), 1, 2, 3)
	f.Add(all, uint8(0), uint8(7))
	f.Add(TermReq{PDUH2CTermReq, ErrSequence, all[:24]}.AppendTo(nil), uint8(3), uint8(1))

	f.Fuzz(func(t *testing.T, stream []byte, digests, pda uint8) {
		for _, from := range []Side{SideHost, SideController} {
			framing := Framing{From: from, Align: 4, CapsuleBytesMax: 8192, DataBytesMax: 131072}
			for b := stream; len(b) >= CommonHeaderBytes; {
				h := DecodeCommonHeader(b)
				fr, e := framing.Frame(h)
				if !e.OK() {
					break
				}
				if fr.HeaderBytes < CommonHeaderBytes || fr.HeaderBytes > PDUHeaderBytesMax || fr.HeaderBytes > h.PLEN ||
					fr.DataAt < fr.HeaderBytes || fr.DataBytes > 131072 || uint64(fr.DataAt)+uint64(fr.DataBytes) > uint64(h.PLEN) {
					t.Fatalf("frame out of itself: %+v", fr)
				}
				if uint64(h.PLEN) > uint64(len(b)) {
					break
				}
				pdu := b[:h.PLEN]
				if !fr.CheckHeader(pdu).OK() {
					break
				}
				switch h.Type {
				case PDUICReq:
					_, e = DecodeICReq(pdu)
				case PDUICResp:
					_, e = DecodeICResp(pdu, Digests(pdu[11])&digestsMask)
				case PDUH2CTermReq, PDUC2HTermReq:
					var p TermReq
					p, e = DecodeTermReq(pdu)
					wantBytes(t, "TermReq there and back", p.AppendTo(nil)[:14], append([]byte{pdu[0], 0, 24, 0}, pdu[4:14]...))
				case PDUCapsuleCmd:
					var s *SQE
					s, e = DecodeCapsuleCmd(pdu)
					s.TCPData(fr.DataBytes)
				case PDUCapsuleResp:
					_, e = DecodeCapsuleResp(pdu)
				case PDUH2CData, PDUC2HData:
					_, e = DecodeData(pdu, fr)
				case PDUR2T:
					_, e = DecodeR2T(pdu)
				}
				if !e.OK() {
					break
				}
				if !framing.Open && (h.Type == PDUICReq || h.Type == PDUICResp) {
					framing.Open, framing.Digests, framing.Align = true, Digests(digests)&digestsMask, DataAlign(pda%32)
				}
				b = b[h.PLEN:]
			}
		}
	})
}
