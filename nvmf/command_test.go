package nvmf

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// A Read of the Linux host and a Compare of a fused pair, byte by byte.
func TestSQE(t *testing.T) {
	b := golden(t, "sqe_read")
	s := (*SQE)(b)
	if s.Opcode() != uint8(IORead) || s.CID() != 0xBEEF || s.NSID() != 0x01020304 || s.PSDT() != PSDTSGL || s.Fuse() != FuseNone {
		t.Errorf("opcode %02X CID %04X NSID %08X PSDT %d FUSE %d", s.Opcode(), s.CID(), s.NSID(), s.PSDT(), s.Fuse())
	}
	if got, want := s.SGL(), (SGL{Type: SGLTransport, Subtype: SGLTransportData, Bytes: 4096}); got != want {
		t.Errorf("SGL %+v, want %+v", got, want)
	}
	if s.SLBA() != 0x1122334455667788 || s.NLB() != 8 || !s.FUA() || !s.LR() || s.DEAC() {
		t.Errorf("SLBA %x NLB %d FUA %t LR %t DEAC %t", s.SLBA(), s.NLB(), s.FUA(), s.LR(), s.DEAC())
	}
	if s.CDW(10) != 0x55667788 || s.CDW(11) != 0x11223344 || s.CDW(12) != 0xC0000007 || s.CDW(13) != 0x40 {
		t.Errorf("CDW10 to 13: %08X %08X %08X %08X", s.CDW(10), s.CDW(11), s.CDW(12), s.CDW(13))
	}

	var made SQE
	made.Init(uint8(IORead), 0xBEEF, 0x01020304)
	made.SetSGL(SGL{Type: SGLTransport, Subtype: SGLTransportData, Bytes: 4096})
	made.SetRW(RW{SLBA: 0x1122334455667788, NLB: 8, FUA: true, LR: true})
	made.SetCDW(13, 0x40)
	wantBytes(t, "made", made[:], b)

	made.SetFuse(FuseSecond)
	if made.Fuse() != FuseSecond || made.PSDT() != PSDTSGL {
		t.Errorf("FUSE %d, PSDT %d", made.Fuse(), made.PSDT())
	}
}

func TestSGL(t *testing.T) {
	for _, c := range []struct {
		d SGL
		b [16]byte
	}{
		{SGL{SGLDataBlock, SGLOffset, 0, 0x1000, 0}, [16]byte{9: 0x10, 15: 0x01}},
		{SGL{SGLTransport, SGLTransportData, 0, 0x01020304, 0}, [16]byte{8: 4, 3, 2, 1, 15: 0x5A}},
		{SGL{SGLKeyed, SGLInvalidate, 0x0102030405060708, 0x010203, 0x0A0B0C0D},
			[16]byte{8, 7, 6, 5, 4, 3, 2, 1, 3, 2, 1, 0x0D, 0x0C, 0x0B, 0x0A, 0x4F}},
		{SGL{SGLLastSegment, SGLOffset, 64, 32, 0}, [16]byte{0: 64, 8: 32, 15: 0x31}},
	} {
		var b [16]byte
		c.d.encode(&b)
		wantBytes(t, "SGL", b[:], c.b[:])
		if got := decodeSGL(&c.b); got != c.d {
			t.Errorf("% X: %+v, want %+v", c.b, got, c.d)
		}
	}
}

func TestTCPData(t *testing.T) {
	offset := SGL{Type: SGLDataBlock, Subtype: SGLOffset, Bytes: 512}
	transport := SGL{Type: SGLTransport, Subtype: SGLTransportData, Bytes: 512}
	for _, c := range []struct {
		name    string
		opcode  uint8
		psdt    PSDT
		d       SGL
		carried uint32
		place   DataPlace
		bytes   uint32
		status  Status
	}{
		{"in the capsule", 1, PSDTSGL, offset, 512, DataInCapsule, 512, StatusSuccess},
		{"in the capsule, metadata in a segment", 1, PSDTSGLSegment, offset, 512, DataInCapsule, 512, StatusSuccess},
		{"by R2T", 1, PSDTSGL, transport, 0, DataTransfer, 512, StatusSuccess},
		{"none, as the Linux host says it", 0, PSDTSGL, SGL{Type: SGLTransport, Subtype: SGLTransportData}, 0, DataNone, 0, StatusSuccess},
		{"none, in a capsule", 0, PSDTSGL, SGL{Type: SGLDataBlock, Subtype: SGLOffset}, 0, DataNone, 0, StatusSuccess},
		{"Connect, whose PSDT is reserved", OpcodeFabrics, PSDTPRP, offset, 512, DataInCapsule, 512, StatusSuccess},

		{"PRP", 1, PSDTPRP, offset, 512, DataNone, 0, 0x002 | DNR},
		{"PSDT reserved", 1, 3, offset, 512, DataNone, 0, 0x002 | DNR},
		{"Data Block, Address", 1, PSDTSGL, SGL{Type: SGLDataBlock, Bytes: 512}, 0, DataNone, 0, 0x011 | DNR},
		{"Bit Bucket", 1, PSDTSGL, SGL{Type: 1, Bytes: 512}, 0, DataNone, 0, 0x011 | DNR},
		{"Segment", 1, PSDTSGL, SGL{Type: 2, Bytes: 512}, 0, DataNone, 0, 0x011 | DNR},
		{"Last Segment", 1, PSDTSGL, SGL{Type: 3, Subtype: SGLOffset, Bytes: 512}, 0, DataNone, 0, 0x011 | DNR},
		{"keyed", 1, PSDTSGL, SGL{Type: SGLKeyed, Bytes: 512}, 0, DataNone, 0, 0x011 | DNR},
		{"transport, other sub-type", 1, PSDTSGL, SGL{Type: SGLTransport, Subtype: 0, Bytes: 512}, 0, DataNone, 0, 0x011 | DNR},
		{"vendor's", 1, PSDTSGL, SGL{Type: 0xF, Bytes: 512}, 0, DataNone, 0, 0x011 | DNR},
		{"transport, and data in the capsule", 1, PSDTSGL, transport, 512, DataNone, 0, 0x011 | DNR},
		{"offset not 0", 1, PSDTSGL, SGL{Type: SGLDataBlock, Subtype: SGLOffset, Address: 4, Bytes: 512}, 512, DataNone, 0, 0x016 | DNR},
		{"more than was carried", 1, PSDTSGL, offset, 508, DataNone, 0, 0x00F | DNR},
		{"less than was carried", 1, PSDTSGL, offset, 516, DataNone, 0, 0x00F | DNR},
		{"nothing was carried", 1, PSDTSGL, offset, 0, DataNone, 0, 0x00F | DNR},
		{"Connect that carries nothing", OpcodeFabrics, PSDTPRP, offset, 0, DataNone, 0, 0x00F | DNR},
		{"Connect with a keyed SGL", OpcodeFabrics, PSDTSGL, SGL{Type: SGLKeyed}, 512, DataNone, 0, 0x011 | DNR},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s SQE
			s.Init(c.opcode, 1, 1)
			s[1] = byte(c.psdt) << 6
			s.SetSGL(c.d)
			place, n, st := s.TCPData(c.carried)
			if place != c.place || n != c.bytes || st != c.status {
				t.Errorf("got %d, %d bytes, %v; want %d, %d bytes, %v", place, n, st, c.place, c.bytes, c.status)
			}
		})
	}
}

func TestCQE(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		c := CQE{rng.Uint32(), rng.Uint32(), uint16(rng.Uint32()), CID(rng.Uint32()), Status(rng.Uint32() & 0x7FFF)}
		b := c.AppendTo(nil)
		if len(b) != CQEBytes || b[10] != 0 || b[11] != 0 || b[14]&1 != 0 {
			t.Fatalf("% X: SQID and phase are not zero", b)
		}
		if got := DecodeCQE(b); got != c {
			t.Fatalf("%+v came back as %+v", c, got)
		}
	}
	// A controller that sets SQID and the phase, as one over PCIe would.
	if got := DecodeCQE([]byte{0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 3, 0, 0x05, 0x80}); got != (CQE{SQHD: 1, CID: 3, Status: StatusInvalidField | DNR}) {
		t.Errorf("%+v", got)
	}
}

func TestCommandNames(t *testing.T) {
	for got, want := range map[string]string{
		AdminIdentify.String():      "Identify",
		AdminOpcode(0xC0).String():  "Admin opcode C0h",
		IOWriteZeroes.String():      "Write Zeroes",
		IOOpcode(0x7D).String():     "I/O opcode 7Dh",
		FabricsAuthReceive.String(): "Authentication Receive",
		FCTYPE(0x77).String():       "Fabrics command type 77h",
		PDUCapsuleCmd.String():      "CapsuleCmd",
		PDUType(8).String():         "PDU type 08h",
		PDUType(0x0A).String():      "PDU type 0Ah",
		FES(7).String():             "fatal error 7",
		PDUType(0x99).String():      "PDU type 99h",
		FESSequence.String():        "PDU Sequence Error",
		FES(9).String():             "fatal error 9",
		badByte(4).Error():          "Invalid PDU Header Field at byte 4",
		PDUError{3, 0xABC}.Error():  "Header Digest Error: 00000ABCh received",
		ErrOutOfRange.Error():       "Data Transfer Out of Range",
		WriteExclusiveAll.String():  "Write Exclusive - All Registrants",
		ReservationType(7).String(): "reserved reservation type",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestCommandAllocatesNothing(t *testing.T) {
	var s SQE
	buf := make([]byte, 0, 64)
	list := make([]byte, 64)
	if n := testing.AllocsPerRun(100, func() {
		s.Init(uint8(IOWrite), 7, 1)
		s.SetRW(RW{SLBA: 1, NLB: 8})
		s.SetSGL(SGL{Type: SGLTransport, Subtype: SGLTransportData, Bytes: 4096})
		s.TCPData(0)
		DecodeCQE(CQE{CID: s.CID()}.AppendTo(buf))
		DecodeDSMRange(list, 1)
		DecodeCopySource(list, 1)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzSQE reads every field of an arbitrary entry: none may panic, and each stays in its range.
func FuzzSQE(f *testing.F) {
	f.Add(testSQE()[:], uint32(8))
	f.Add(make([]byte, SQEBytes), uint32(0))
	f.Add(bytes.Repeat([]byte{0xFF}, SQEBytes), uint32(0xFFFFFFFF))
	f.Fuzz(func(t *testing.T, b []byte, carried uint32) {
		if len(b) < SQEBytes {
			return
		}
		s := (*SQE)(b)
		place, n, st := s.TCPData(carried)
		if (place == DataNone) != (n == 0) || place != DataNone && !st.OK() || place == DataInCapsule && n != carried {
			t.Errorf("%d, %d bytes of %d, %v", place, n, carried, st)
		}
		if s.Opcode() == OpcodeFabrics && st.Code() == StatusInvalidField {
			t.Errorf("Fabrics: %v", st)
		}
		if n := s.NLB(); n < 1 || n > 65536 {
			t.Errorf("%d blocks", n)
		}
		if n := s.Ranges(); n < 1 || n > 256 {
			t.Errorf("%d ranges", n)
		}
		if n := s.QueueEntries(); n < 1 || n > 65536 {
			t.Errorf("%d entries", n)
		}
		if n := s.ReportBytes(); n < 4 || n > 1<<34 || n%4 != 0 {
			t.Errorf("report of %d bytes", n)
		}
		p := s.LogPage()
		page := make([]byte, 64)
		if w, st := p.Window(page); st.OK() && (uint64(len(w)) > p.Bytes || uint64(len(w))+p.Offset > 64) {
			t.Errorf("%+v: %d bytes of 64", p, len(w))
		}
		again := *s
		again.SetLogPage(p)
		if again.LogPage() != p {
			t.Errorf("%+v came back as %+v", p, again.LogPage())
		}
		again.SetRW(RW{SLBA: s.SLBA(), NLB: s.NLB(), FUA: s.FUA(), LR: s.LR(), DEAC: s.DEAC()})
		if again.SLBA() != s.SLBA() || again.NLB() != s.NLB() {
			t.Errorf("SLBA %x NLB %d", again.SLBA(), again.NLB())
		}
		d := s.SGL()
		again.SetSGL(d)
		if again.SGL() != d {
			t.Errorf("%+v came back as %+v", d, again.SGL())
		}
	})
}
