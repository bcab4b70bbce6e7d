package initiator

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
)

func invalid(at uint32) nvmf.PDUError {
	return nvmf.PDUError{FES: nvmf.FESInvalidHeader, FEI: at}
}

// A target that breaks the protocol is told so and left; the request that was open is sent again, to the target that behaves.
func TestWrongPDUsEndTheConnectionAndTheRequestIsSentAgain(t *testing.T) {
	const n = 16 << 10
	data := pattern(n, 3)
	for _, c := range []struct {
		why    string
		writes bool // the request is a write of n bytes, else a read of n bytes
		send   func(k *fakeConn, s *nvmf.SQE) []byte
		want   nvmf.PDUError // told to the target; none if that is closed without a word
	}{
		{"unknown PDU type", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			b := nvmf.AppendCapsuleResp(nil, nvmf.CQE{CID: s.CID()}, 0)
			b[0] = 0x0A
			return b
		}, invalid(0)},
		{"PDU of the other direction", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return nvmf.DataPDU{CCCID: s.CID(), DATAL: 4, Last: true}.AppendH2CData(nil, 0, 4)
		}, invalid(0)},
		{"HLEN", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			b := nvmf.AppendCapsuleResp(nil, nvmf.CQE{CID: s.CID()}, 0)
			b[2]++
			return b
		}, invalid(2)},
		{"PLEN too small", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return put32(nvmf.AppendCapsuleResp(nil, nvmf.CQE{CID: s.CID()}, 0), 4, 20)
		}, invalid(4)},
		{"data in a CapsuleResp", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return put32(nvmf.AppendCapsuleResp(nil, nvmf.CQE{CID: s.CID()}, 0), 4, 28)
		}, invalid(4)},
		{"header digest that was not agreed", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return flagged(nvmf.AppendCapsuleResp(nil, nvmf.CQE{CID: s.CID()}, 0), nvmf.FlagHDGST)
		}, invalid(1)},
		{"a second ICResp", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return nvmf.ICResp{MAXH2CDATA: 4096}.AppendTo(nil)
		}, nvmf.ErrSequence},
		{"answer to a CID of no slot", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return nvmf.AppendCapsuleResp(nil, nvmf.CQE{CID: 0x0FFF}, 0)
		}, errCID},
		{"answer to a slot's former use", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return nvmf.AppendCapsuleResp(nil, nvmf.CQE{CID: s.CID() ^ 1<<slotBits}, 0)
		}, errCID},
		{"two answers", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			b := nvmf.AppendCapsuleResp(nil, nvmf.CQE{CID: s.CID(), Status: nvmf.StatusTransientTransport}, 0)
			return append(b, b...)
		}, errCID},
		{"data of no command", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return k.c2h(nvmf.DataPDU{CCCID: 0x0FFF, Last: true}, data)
		}, nvmf.ErrCCCID},
		{"data beyond the end", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return k.c2h(nvmf.DataPDU{CCCID: s.CID(), DATAO: 512, Last: true}, data)
		}, nvmf.ErrOutOfRange},
		{"data far beyond the end", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return k.c2h(nvmf.DataPDU{CCCID: s.CID(), DATAO: 0xFFFFFFFF, Last: true}, data[:512])
		}, nvmf.ErrOutOfRange},
		{"more data than was asked for", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return k.c2h(nvmf.DataPDU{CCCID: s.CID(), Last: true}, make([]byte, n+4))
		}, nvmf.ErrOutOfRange},
		{"a gap in the data", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return k.c2h(nvmf.DataPDU{CCCID: s.CID(), DATAO: 512}, data[:512])
		}, nvmf.ErrSequence},
		{"data twice", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			b := k.c2h(nvmf.DataPDU{CCCID: s.CID()}, data[:512])
			return append(b, b...)
		}, nvmf.ErrSequence},
		{"data after the last", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			b := k.c2h(nvmf.DataPDU{CCCID: s.CID(), Last: true}, data[:512])
			return append(b, k.c2h(nvmf.DataPDU{CCCID: s.CID(), DATAO: 512, Last: true}, data[512:])...)
		}, nvmf.ErrSequence},
		{"all data without a last", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return k.c2h(nvmf.DataPDU{CCCID: s.CID()}, data)
		}, nvmf.ErrSequence},
		{"success without last", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return k.c2h(nvmf.DataPDU{CCCID: s.CID(), Success: true}, data[:512])
		}, invalid(1)},
		{"success of a read that is short", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return k.c2h(nvmf.DataPDU{CCCID: s.CID(), Last: true, Success: true}, data[:512])
		}, nvmf.ErrSequence},
		{"answer to a read that is short", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return append(k.c2h(nvmf.DataPDU{CCCID: s.CID(), Last: true}, data[:512]), nvmf.AppendCapsuleResp(nil, nvmf.CQE{CID: s.CID()}, 0)...)
		}, nvmf.ErrSequence},
		{"answer to a read without data", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return nvmf.AppendCapsuleResp(nil, nvmf.CQE{CID: s.CID()}, 0)
		}, nvmf.ErrSequence},
		{"DATAL is not that of the PDU", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return put32(k.c2h(nvmf.DataPDU{CCCID: s.CID()}, data[:512]), 16, 508)
		}, invalid(16)},
		{"PDO inside the header", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			b := k.c2h(nvmf.DataPDU{CCCID: s.CID()}, data[:512])
			b[3] = 8
			return b
		}, invalid(3)},
		{"PDO unaligned", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			b := k.c2h(nvmf.DataPDU{CCCID: s.CID()}, data[:512])
			b[3] = 27
			return b
		}, invalid(3)},
		{"data for a write", true, func(k *fakeConn, s *nvmf.SQE) []byte {
			return k.c2h(nvmf.DataPDU{CCCID: s.CID(), Last: true}, data[:512])
		}, nvmf.ErrOutOfRange},
		{"R2T for a read", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return nvmf.R2T{CCCID: s.CID(), R2TL: 512}.AppendTo(nil, 0)
		}, nvmf.ErrOutOfRange},
		{"R2T of no command", true, func(k *fakeConn, s *nvmf.SQE) []byte {
			return nvmf.R2T{CCCID: s.CID() ^ 1<<slotBits, R2TL: 512}.AppendTo(nil, 0)
		}, nvmf.ErrCCCID},
		{"R2T of nothing", true, func(k *fakeConn, s *nvmf.SQE) []byte {
			return put32(nvmf.R2T{CCCID: s.CID(), R2TL: 512}.AppendTo(nil, 0), 16, 0)
		}, invalid(16)},
		{"R2T beyond the end", true, func(k *fakeConn, s *nvmf.SQE) []byte {
			return nvmf.R2T{CCCID: s.CID(), R2TL: n + 4}.AppendTo(nil, 0)
		}, nvmf.ErrOutOfRange},
		{"R2T that wraps", true, func(k *fakeConn, s *nvmf.SQE) []byte {
			return nvmf.R2T{CCCID: s.CID(), R2TO: 4096, R2TL: 0xFFFFF000}.AppendTo(nil, 0)
		}, nvmf.ErrOutOfRange},
		{"R2T with a gap", true, func(k *fakeConn, s *nvmf.SQE) []byte {
			return nvmf.R2T{CCCID: s.CID(), R2TO: 512, R2TL: 512}.AppendTo(nil, 0)
		}, nvmf.ErrSequence},
		{"R2T twice for the same", true, func(k *fakeConn, s *nvmf.SQE) []byte {
			b := nvmf.R2T{CCCID: s.CID(), R2TL: 512}.AppendTo(nil, 0)
			return append(b, b...)
		}, nvmf.ErrSequence},
		{"more R2Ts than MAXR2T", true, func(k *fakeConn, s *nvmf.SQE) (b []byte) {
			for i := range uint32(r2tsMax + 1) {
				b = nvmf.R2T{CCCID: s.CID(), TTAG: uint16(i), R2TO: i * 512, R2TL: 512}.AppendTo(b, 0)
			}
			return b
		}, nvmf.ErrR2TExceeded},
		{"answer while data is asked for", true, func(k *fakeConn, s *nvmf.SQE) []byte {
			b := nvmf.R2T{CCCID: s.CID(), R2TL: n}.AppendTo(nil, 0)
			return nvmf.AppendCapsuleResp(b, nvmf.CQE{CID: s.CID(), Status: nvmf.StatusInternal}, 0)
		}, nvmf.ErrSequence},
		{"success of a write whose data it has not asked for", true, func(k *fakeConn, s *nvmf.SQE) []byte {
			return nvmf.AppendCapsuleResp(nil, nvmf.CQE{CID: s.CID()}, 0)
		}, nvmf.ErrSequence},
		{"success of a write of whose data it has some", true, func(k *fakeConn, s *nvmf.SQE) []byte {
			k.data[s.CID()] = &fakeWrite{*s, make([]byte, n), n}
			k.more = func() { k.answer(nvmf.CQE{CID: s.CID()}) }
			return nvmf.R2T{CCCID: s.CID(), R2TL: 512}.AppendTo(nil, 0)
		}, nvmf.ErrSequence},
		{"C2HTermReq", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return nvmf.TermReq{Type: nvmf.PDUC2HTermReq, Err: nvmf.ErrSequence, Header: make([]byte, 72)}.AppendTo(nil)
		}, nvmf.PDUError{}},
		{"C2HTermReq that is too long", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			return put32(nvmf.TermReq{Type: nvmf.PDUC2HTermReq, Err: nvmf.ErrSequence}.AppendTo(nil), 4, 153)
		}, nvmf.PDUError{}},
		{"end of the stream inside a PDU", false, func(k *fakeConn, s *nvmf.SQE) []byte {
			k.send(k.c2h(nvmf.DataPDU{CCCID: s.CID(), Last: true}, data)[:n/2])
			_ = k.c.CloseWrite()
			return nil
		}, nvmf.PDUError{}},
	} {
		t.Run(c.why, func(t *testing.T) {
			f := newFake(t)
			once := false
			f.io = func(k *fakeConn, s *nvmf.SQE, _ []byte) bool {
				if once {
					return false
				}
				once = true
				k.send(c.send(k, s))
				return true
			}
			copy(f.disk[8192:], data)
			h := newHost(t, 1)
			h.attach(f.options())
			d := h.open("Nvme0n1")
			defer d.close()
			got := make([]byte, n)
			q := &bdev.Request{Kind: bdev.Read, LBA: 2, Blocks: n / 4096, Data: [][]byte{got}}
			if c.writes {
				q.Kind = bdev.Write
				copy(got, data)
				clear(f.disk)
			}
			d.want(c.why, 0, q, bdev.StatusOK)
			f.mu.Lock()
			if !bytes.Equal(got, data) || !bytes.Equal(f.disk[8192:][:n], data) {
				t.Error("the data is not what it must be")
			}
			f.mu.Unlock()
			if c.want != (nvmf.PDUError{}) {
				f.wantTerm(c.why, c.want)
			}
			if got := h.in.Controllers()[0]; got.Losses != 1 || got.State != StateConnected {
				t.Errorf("%d connections were lost, state %v; last %s", got.Losses, got.State, got.LastLoss)
			}
			if len(f.terms) > 0 {
				t.Errorf("the host says %v too", <-f.terms)
			}
		})
	}
}

// A list of namespaces that goes on and on is not read to its end: there may be 2^32.
func TestNamespacesWithoutEnd(t *testing.T) {
	f := newFake(t)
	f.admin = func(k *fakeConn, s *nvmf.SQE) bool {
		if nvmf.AdminOpcode(s.Opcode()) != nvmf.AdminIdentify || s.CNS() != nvmf.CNSActiveList {
			return false
		}
		var ids []nvmf.NSID
		for i := range nvmf.NSID(nvmf.NSIDListMax) {
			ids = append(ids, s.NSID()+1+i)
		}
		k.give(s, nvmf.AppendNSIDList(nil, ids))
		return true
	}
	h := newHost(t, 1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := h.in.Attach(ctx, f.options()); err == nil || !strings.Contains(err.Error(), "it lists more than 65536 namespaces") {
		t.Errorf("attached: %v", err)
	}
}

// Whatever a controller says of its pages and of WZSL, a Write Zeroes has a block or more, and no more than the controller takes: of none there is no
// command, and what would be sent for it are zeros over 65536 blocks.
func TestWriteZeroesOfAnyLimit(t *testing.T) {
	for page := range uint64(16) { // CAP.MPSMIN
		for wzsl := range uint8(255) {
			for _, shift := range []uint8{9, 12} {
				a := &association{cap: nvmf.CAP(page << 48)}
				n := nvmf.IdentifyNamespace{NSZE: 1 << 20, NCAP: 1 << 20}
				n.LBAF[0].LBADS = shift
				d, err := describe(a, 1, &n, nvmf.NamespaceIDs{}, &nvmf.NVMController{WZSL: wzsl})
				if err != nil {
					t.Fatal(err)
				}
				want := uint64(nlbMax)
				if bits := 12 + int(page) + int(wzsl) - int(shift); wzsl > 0 && bits < 16 {
					want = 1 << bits
				}
				if d.zeroesMax != want {
					t.Errorf("MPSMIN %d, WZSL %d, blocks of 2^%d bytes: %d blocks, want %d", page, wzsl, shift, d.zeroesMax, want)
				}
			}
		}
	}
}

// A target that breaks the same request each time does not keep it for ever.
func TestARequestThatBreaksEachConnectionFails(t *testing.T) {
	f := newFake(t)
	f.io = func(k *fakeConn, s *nvmf.SQE, _ []byte) bool {
		if s.SLBA() != 5 {
			return false
		}
		k.respond(s, nvmf.StatusSuccess, 0) // without data
		return true
	}
	h := newHost(t, 1)
	o := f.options()
	o.ReconnectDelay = time.Millisecond
	h.attach(o)
	d := h.open("Nvme0n1")
	defer d.close()
	d.want("broken", 0, &bdev.Request{Kind: bdev.Read, LBA: 5, Blocks: 1, Data: [][]byte{make([]byte, 4096)}}, bdev.StatusIO)
	if got := h.in.Controllers()[0]; got.Losses != 6 {
		t.Errorf("%d connections were lost, want %d", got.Losses, 6)
	}
	d.want("another", 0, &bdev.Request{Kind: bdev.Read, LBA: 6, Blocks: 1, Data: [][]byte{make([]byte, 4096)}}, bdev.StatusOK)
}
