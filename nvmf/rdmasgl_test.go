package nvmf

import (
	"bytes"
	"testing"
)

// rdmaList is descriptors as they lie in a capsule.
func rdmaList(list ...SGL) []byte {
	var out []byte
	for _, d := range list {
		var b [SGLBytes]byte
		d.encode(&b)
		out = append(out, b[:]...)
	}
	return out
}

func TestRDMAData(t *testing.T) {
	keyed := func(at uint64, n, key uint32) SGL { return SGL{Type: SGLKeyed, Address: at, Bytes: n, Key: key} }
	spent := func(at uint64, n, key uint32) SGL {
		return SGL{Type: SGLKeyed, Subtype: SGLInvalidate, Address: at, Bytes: n, Key: key}
	}
	offset := func(at uint64, n uint32) SGL {
		return SGL{Type: SGLDataBlock, Subtype: SGLOffset, Address: at, Bytes: n}
	}
	last := func(at uint64, n uint32) SGL {
		return SGL{Type: SGLLastSegment, Subtype: SGLOffset, Address: at, Bytes: n}
	}
	many := make([]SGL, rdmaPiecesMax+1)
	for i := range many {
		many[i] = keyed(uint64(i)<<20, 4096, uint32(i))
	}
	for _, c := range []struct {
		what    string
		opcode  uint8
		psdt    PSDT
		d       SGL
		capsule []byte
		status  Status
		want    RDMAData
	}{
		{"keyed", 1, PSDTSGL, keyed(0x1000, 4096, 7), nil, 0, RDMAData{Place: DataTransfer, Bytes: 4096, Pieces: 1, Piece: [16]RDMAPiece{{0x1000, 7, 4096}}}},
		{"keyed, to be invalidated", 1, PSDTSGL, spent(0x1000, 4096, 7), nil, 0, RDMAData{Place: DataTransfer, Bytes: 4096, Pieces: 1, Invalidates: true, Key: 7, Piece: [16]RDMAPiece{{0x1000, 7, 4096}}}},
		{"nothing, as the Linux host says it", 0, PSDTSGL, keyed(0, 0, 0), nil, 0, RDMAData{}},
		{"nothing, with a key to be invalidated", 0, PSDTSGL, spent(0, 0, 9), nil, 0, RDMAData{Invalidates: true, Key: 9}},
		{"Connect, whose PSDT is reserved", OpcodeFabrics, PSDTPRP, keyed(0x1000, 1024, 7), nil, 0, RDMAData{Place: DataTransfer, Bytes: 1024, Pieces: 1, Piece: [16]RDMAPiece{{0x1000, 7, 1024}}}},
		{"in the capsule", 1, PSDTSGL, offset(0, 512), make([]byte, 512), 0, RDMAData{Place: DataInCapsule, Bytes: 512}},
		{"in the capsule, further on", 1, PSDTSGL, offset(512, 512), make([]byte, 1024), 0, RDMAData{Place: DataInCapsule, Bytes: 512, Offset: 512}},
		{"in a capsule that has more", 1, PSDTSGL, offset(0, 512), make([]byte, 4096), 0, RDMAData{Place: DataInCapsule, Bytes: 512}},
		{"nothing, in a capsule", 1, PSDTSGL, offset(0, 0), nil, 0, RDMAData{}},
		{"several, the last two keys to be invalidated", 1, PSDTSGL, last(0, 48), rdmaList(keyed(1<<20, 4096, 1), spent(2<<20, 8192, 2), spent(3<<20, 512, 3)), 0,
			RDMAData{Place: DataTransfer, Bytes: 12800, Pieces: 3, Invalidates: true, Key: 3, Piece: [16]RDMAPiece{{1 << 20, 1, 4096}, {2 << 20, 2, 8192}, {3 << 20, 3, 512}}}},
		{"several, one of nothing among them", 1, PSDTSGL, last(0, 48), rdmaList(keyed(1<<20, 4096, 1), keyed(0, 0, 0), keyed(3<<20, 512, 3)), 0,
			RDMAData{Place: DataTransfer, Bytes: 4608, Pieces: 2, Piece: [16]RDMAPiece{{1 << 20, 1, 4096}, {3 << 20, 3, 512}}}},
		{"several, behind something else", 1, PSDTSGL, last(16, 16), rdmaList(keyed(0, 1, 0), keyed(1<<20, 4096, 1)), 0,
			RDMAData{Place: DataTransfer, Bytes: 4096, Pieces: 1, Piece: [16]RDMAPiece{{1 << 20, 1, 4096}}}},

		{"PRP", 1, PSDTPRP, keyed(0, 512, 1), nil, 0x002 | DNR, RDMAData{}},
		{"PSDT reserved", 1, 3, keyed(0, 512, 1), nil, 0x002 | DNR, RDMAData{}},
		{"keyed, with another sub-type", 1, PSDTSGL, SGL{Type: SGLKeyed, Subtype: 1, Bytes: 512}, nil, 0x011 | DNR, RDMAData{}},
		{"an address, which no host's memory has here", 1, PSDTSGL, SGL{Type: SGLDataBlock, Bytes: 512}, nil, 0x011 | DNR, RDMAData{}},
		{"Bit Bucket", 1, PSDTSGL, SGL{Type: 1, Bytes: 512}, nil, 0x011 | DNR, RDMAData{}},
		{"Segment", 1, PSDTSGL, SGL{Type: 2, Subtype: SGLOffset, Bytes: 16}, rdmaList(keyed(0, 512, 1)), 0x011 | DNR, RDMAData{}},
		{"Last Segment by an address", 1, PSDTSGL, SGL{Type: SGLLastSegment, Bytes: 16}, rdmaList(keyed(0, 512, 1)), 0x011 | DNR, RDMAData{}},
		{"TCP's", 1, PSDTSGL, SGL{Type: SGLTransport, Subtype: SGLTransportData, Bytes: 512}, nil, 0x011 | DNR, RDMAData{}},
		{"vendor's", 1, PSDTSGL, SGL{Type: 0xF, Bytes: 512}, nil, 0x011 | DNR, RDMAData{}},
		{"longer than we take", 1, PSDTSGL, keyed(0, 1<<20+1, 1), nil, 0x00F | DNR, RDMAData{}},
		{"several, together longer", 1, PSDTSGL, last(0, 32), rdmaList(keyed(0, 1<<20, 1), keyed(0, 1, 2)), 0x00F | DNR, RDMAData{}},
		{"several of the largest", 1, PSDTSGL, last(0, 256), rdmaList(bytesOf(keyed(0, 0xFFFFFF, 1), 16)...), 0x00F | DNR, RDMAData{}},
		{"more in the capsule than it brought", 1, PSDTSGL, offset(0, 513), make([]byte, 512), 0x00F | DNR, RDMAData{}},
		{"in a capsule without data", 1, PSDTSGL, offset(0, 512), nil, 0x00F | DNR, RDMAData{}},
		{"behind the capsule", 1, PSDTSGL, offset(513, 0), make([]byte, 512), 0x016 | DNR, RDMAData{}},
		{"so far behind that a sum would wrap", 1, PSDTSGL, offset(^uint64(0), 512), make([]byte, 512), 0x016 | DNR, RDMAData{}},
		{"too many", 1, PSDTSGL, last(0, 17*16), rdmaList(many...), 0x00E | DNR, RDMAData{}},
		{"no descriptor", 1, PSDTSGL, last(0, 0), nil, 0x00D | DNR, RDMAData{}},
		{"half a descriptor", 1, PSDTSGL, last(0, 24), make([]byte, 64), 0x00D | DNR, RDMAData{}},
		{"descriptors that did not come", 1, PSDTSGL, last(0, 32), rdmaList(keyed(0, 512, 1)), 0x00D | DNR, RDMAData{}},
		{"descriptors behind the capsule", 1, PSDTSGL, last(64, 16), make([]byte, 32), 0x016 | DNR, RDMAData{}},
		{"a list in a list", 1, PSDTSGL, last(0, 32), rdmaList(keyed(0, 512, 1), last(0, 16)), 0x011 | DNR, RDMAData{}},
		{"a list with data of the capsule", 1, PSDTSGL, last(0, 32), rdmaList(spent(0, 512, 1), offset(0, 16)), 0x011 | DNR, RDMAData{}},
	} {
		t.Run(c.what, func(t *testing.T) {
			var s SQE
			s.Init(c.opcode, 1, 1)
			s[1] = byte(c.psdt) << 6
			s.SetSGL(c.d)
			var d RDMAData
			status := s.RDMAData(&d, c.capsule, 1<<20)
			clear(d.Piece[d.Pieces:])
			if !d.Invalidates {
				d.Key = 0
			}
			if status != c.status || d != c.want {
				t.Errorf("%v, %+v; want %v, %+v", status, d, c.status, c.want)
			}
		})
	}
}

func bytesOf(d SGL, n int) (list []SGL) {
	for range n {
		list = append(list, d)
	}
	return list
}

// Whatever a capsule says, no more pieces come of it than there is room for, none is empty, and they add up.
func FuzzRDMACapsule(f *testing.F) {
	for _, d := range []SGL{
		{Type: SGLKeyed, Subtype: SGLInvalidate, Address: 1 << 20, Bytes: 4096, Key: 7},
		{Type: SGLDataBlock, Subtype: SGLOffset, Bytes: 512},
		{Type: SGLLastSegment, Subtype: SGLOffset, Bytes: 32},
	} {
		s := testSQE()
		s.SetSGL(d)
		f.Add(append(bytes.Clone(s[:]), rdmaList(SGL{Type: SGLKeyed, Bytes: 4096, Key: 1}, SGL{Type: SGLKeyed, Subtype: SGLInvalidate, Bytes: 512, Key: 2})...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < SQEBytes {
			return
		}
		s, capsule := (*SQE)(b), b[SQEBytes:]
		var d RDMAData
		status := s.RDMAData(&d, capsule, 1<<20)
		sum := uint32(0)
		for _, p := range d.Piece[:d.Pieces] {
			if p.Bytes == 0 {
				t.Errorf("an empty piece")
			}
			sum += p.Bytes
		}
		switch {
		case !status.OK() && (d.Place != DataNone || d.Bytes != 0 || d.Pieces != 0 || d.Invalidates):
			t.Errorf("%v, and %+v", status, d)
		case d.Bytes > 1<<20, (d.Place == DataNone) != (d.Bytes == 0):
			t.Errorf("%+v", d)
		case d.Place == DataTransfer && (sum != d.Bytes || d.Pieces == 0):
			t.Errorf("%d pieces of %d bytes together, not %d", d.Pieces, sum, d.Bytes)
		case d.Place == DataInCapsule && (int(d.Offset)+int(d.Bytes) > len(capsule) || d.Pieces != 0):
			t.Errorf("%+v of a capsule with %d bytes", d, len(capsule))
		}
	})
}
