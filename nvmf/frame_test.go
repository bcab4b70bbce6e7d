package nvmf

import (
	"bytes"
	"testing"
)

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
