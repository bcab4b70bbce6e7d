package nvmf_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
)

// This file is hosts over RDMA that say what they like: capsules of any bytes, commands with any field wrong, descriptors of memory that is theirs,
// was theirs, or never was. The engine and another host go on, and when such a host has gone nothing of it is left.

// hostileSteps bounds what one host sends: it posts no more than its send queue holds.
const hostileSteps = 96

// hostileCapsule makes a capsule out of the first bytes of script, and gives the rest of it.
func hostileCapsule(p *nvmftest.RDMAPeer, mine []byte, key uint32, script []byte) (capsule, rest []byte) {
	var v [16]byte
	rest = script[copy(v[:], script):]
	opcodes := []nvmf.IOOpcode{
		nvmf.IOFlush, nvmf.IOWrite, nvmf.IORead, nvmf.IOCompare, nvmf.IOWriteZeroes, nvmf.IODatasetManagement, nvmf.IOVerify, nvmf.IOCopy,
		nvmf.IOReservationRegister, nvmf.IOReservationReport, nvmf.IOReservationRelease, nvmf.OpcodeFabrics, nvmf.IOOpcode(v[1]),
	}
	s := p.RW(opcodes[int(v[0])%len(opcodes)], uint64(v[2]), 1+uint32(v[3]&31))
	if v[4]&3 == 3 {
		s[v[5]&63] = v[6]
	}
	if s.Opcode() == uint8(nvmf.IOReservationAcquire) { // which may keep the other host out, by right
		s[0] = uint8(nvmf.IOReservationReport)
	}
	if v[4]&4 != 0 {
		s.SetFuse(nvmf.Fuse(v[4] >> 3 & 3))
	}
	if v[4]&32 != 0 {
		s.SetCID(nvmf.CID(v[5] & 3)) // of one that may be open
	}
	d := p.SGL(mine, key)
	d.Bytes = (1 + uint32(v[3]&31)) * 4096
	if v[7]&1 != 0 {
		d.Subtype = nvmf.SGLInvalidate
	}
	if v[7]&30 == 30 {
		d.Key ^= uint32(v[8])
	}
	if v[8]&15 == 15 {
		d.Address += uint64(int64(int8(v[9]))) << (v[10] & 63)
	}
	if v[8]&48 == 48 {
		d.Bytes = binary.LittleEndian.Uint32(v[11:]) >> (v[10] & 31)
	}
	data := bytes.Repeat(v[:], 257)[:int(binary.LittleEndian.Uint16(v[14:]))%4097]
	switch v[13] & 15 {
	case 0, 1, 2, 3: // several
		n := 1 + int(v[12]&31)
		d.Bytes /= uint32(n)
		s.SetSGL(nvmf.SGL{Type: nvmf.SGLLastSegment, Subtype: nvmf.SGLOffset, Address: uint64(v[12] >> 5), Bytes: uint32(n * nvmf.SGLBytes)})
		return append(s[:], bytes.Repeat(nvmftest.Descriptor(d), n)...), rest
	case 4, 5, 6: // in the capsule
		nvmftest.InlineData(s, len(data))
		return append(s[:], data...), rest
	case 7: // of any type
		d.Type, d.Subtype = nvmf.SGLType(v[12]>>4), v[12]&15
		s.SetSGL(d)
		return append(s[:], data...), rest
	case 8: // bytes as they come
		return data, rest
	default:
		s.SetSGL(d)
		return s[:], rest
	}
}

func FuzzRDMAHost(f *testing.F) {
	random := rand.NewChaCha8([32]byte{19})
	for range 24 {
		b := make([]byte, 16*hostileSteps)
		_, _ = random.Read(b)
		f.Add(b, byte(random.Uint64()))
	}
	f.Fuzz(func(t *testing.T, script []byte, how byte) {
		card := rdmatest.Options{SRQDepth: 4096}
		if how&1 != 0 {
			card.SRQDepth = 0
		}
		e := nvmftest.Start(t, nvmftest.Options{Reactors: 1 + int(how>>1&1), RDMA: &card})
		admin := e.AdminRDMA(t)
		honest := e.QueueRDMA(t, admin, 1, 32)
		hers := e.AdminRDMA(t)
		var p *nvmftest.RDMAPeer
		var mine []byte
		var key uint32
		begin := func() {
			p = e.QueueRDMA(t, hers, 1, 16+uint32(how>>2))
			mine, key = p.Memory(1 << 20)
		}
		begin()
		for n := 0; len(script) > 0 && n < hostileSteps; n++ {
			var capsule []byte
			capsule, script = hostileCapsule(p, mine, key, script)
			p.SendCapsule(capsule)
			if p.Take(); len(p.Failed) > 0 { // the target, or a card, has had enough: it comes again
				p.Close()
				begin()
			}
			if n%8 == 7 {
				honest.WantStatus("a command of another host", honest.Do(honest.IO(nvmf.IOFlush), nil), nvmf.StatusSuccess)
			}
		}
		if how&128 != 0 {
			p.Fail()
		}
		p.Close()
		hers.Close()
		e.AwaitQueues("the hostile host's queue ends", 1)
		want := pattern(64<<10, uint64(how))
		honest.WantStatus("a write of another host", honest.Do(honest.RW(nvmf.IOWrite, 16, 16), want), nvmf.StatusSuccess)
		cqe, got := honest.Read(honest.RW(nvmf.IORead, 16, 16), len(want))
		honest.WantStatus("a read of another host", cqe, nvmf.StatusSuccess)
		if !bytes.Equal(got, want) {
			t.Error("another host read something else than it wrote")
		}
		honest.Close()
		admin.Close()
		e.WantNothingLeft("after a hostile host")
	})
}
