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

// The largest and the smallest that is allowed.
func TestBounds(t *testing.T) {
	if p, e := DecodeICReq(ICReq{HPDA: 31}.AppendTo(nil)); !e.OK() || p.HPDA != 31 {
		t.Errorf("HPDA 31: %v", e)
	}
	if p, e := DecodeICResp(ICResp{CPDA: 31, MAXH2CDATA: 4096}.AppendTo(nil), 0); !e.OK() || p.CPDA != 31 {
		t.Errorf("CPDA 31, MAXH2CDATA 4096: %v", e)
	}
	for _, n := range []int{0, 128} {
		if p, e := DecodeTermReq(TermReq{PDUH2CTermReq, ErrSequence, make([]byte, n)}.AppendTo(nil)); !e.OK() || len(p.Header) != n {
			t.Errorf("TermReq with %d bytes of header: %v", n, e)
		}
	}
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
		AppendDigest(buf, DataDigest(0, b))
		if _, e := framing.Frame(CommonHeader{Type: 0xFF}); e.OK() {
			t.Error("type FF is fine")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
