package initiator

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
)

// What the standard lets a target do, and ours does not.
func TestWhatOtherTargetsMayDo(t *testing.T) {
	const n = 64 << 10
	data := pattern(n, 9)
	// r2ts asks for a write's data in parts of part bytes, open of them at once.
	r2ts := func(part uint32, open int) func(f *fake) {
		return func(f *fake) {
			f.io = func(k *fakeConn, s *nvmf.SQE, b []byte) bool {
				if b != nil || nvmf.IOOpcode(s.Opcode()) != nvmf.IOWrite {
					return false
				}
				total := s.SGL().Bytes
				w := &fakeWrite{*s, make([]byte, total), int(total)}
				k.data[s.CID()] = w
				asked := uint32(0)
				k.more = func() {
					for asked < total && int(asked/part) < (int(total)-w.left)/int(part)+open {
						m := min(part, total-asked)
						k.send(nvmf.R2T{CCCID: s.CID(), TTAG: uint16(0xABC0 + asked/part), R2TO: asked, R2TL: m}.AppendTo(nil, k.in.Digests()))
						asked += m
					}
				}
				k.more()
				return true
			}
		}
	}
	read := func(give func(k *fakeConn, s *nvmf.SQE, b []byte)) func(f *fake) {
		return func(f *fake) {
			f.io = func(k *fakeConn, s *nvmf.SQE, _ []byte) bool {
				if nvmf.IOOpcode(s.Opcode()) != nvmf.IORead {
					return false
				}
				at := s.SLBA() * 4096
				give(k, s, f.disk[at:at+uint64(s.NLB())*4096])
				return true
			}
		}
	}
	for _, c := range []struct {
		why   string
		stage func(f *fake)
	}{
		{"R2Ts one after another", r2ts(4096, 1)},
		{"R2Ts of odd lengths", r2ts(5000, 1)},
		{"several R2Ts at once", r2ts(8192, 3)},
		{"as many R2Ts at once as allowed", r2ts(2048, r2tsMax)},
		{"one R2T for all", r2ts(n, 1)},
		{"data in many PDUs", read(func(k *fakeConn, s *nvmf.SQE, b []byte) {
			for at := 0; at < len(b); at += 1000 {
				end := min(at+1000, len(b))
				k.send(k.c2h(nvmf.DataPDU{CCCID: s.CID(), DATAO: uint32(at), Last: end == len(b)}, b[at:end]))
			}
			k.respond(s, 0, 0)
		})},
		{"success without a response", read(func(k *fakeConn, s *nvmf.SQE, b []byte) {
			k.send(k.c2h(nvmf.DataPDU{CCCID: s.CID(), Last: true, Success: true}, b))
		})},
		{"an error after some data, and the data again", func(f *fake) {
			once := false
			read(func(k *fakeConn, s *nvmf.SQE, b []byte) {
				if !once {
					once = true
					k.send(k.c2h(nvmf.DataPDU{CCCID: s.CID()}, make([]byte, 512)))
					k.respond(s, nvmf.StatusTransientTransport, 0)
					return
				}
				k.give(s, b)
			})(f)
		}},
		{"CPDA 31", func(f *fake) {
			f.icresp = func(k *fakeConn, q nvmf.ICReq) bool {
				k.send(nvmf.ICResp{CPDA: 31, Digests: q.Digests, MAXH2CDATA: 4096}.AppendTo(nil))
				return true
			}
		}},
		{"MAXH2CDATA 5000", func(f *fake) {
			f.icresp = func(k *fakeConn, q nvmf.ICReq) bool {
				k.send(nvmf.ICResp{Digests: q.Digests, MAXH2CDATA: 5000}.AppendTo(nil))
				return true
			}
		}},
		{"no data in capsules", func(f *fake) { f.id.IOCCSZ = 4 }},
		{"much data in capsules", func(f *fake) { f.id.IOCCSZ = (64 + 64<<10) / 16 }},
		{"ICDOFF not 0", func(f *fake) { f.id.ICDOFF = 4 }},
		{"MDTS of 8192 bytes", func(f *fake) { f.id.MDTS = 1 }},
		{"no MDTS", func(f *fake) { f.id.MDTS = 0 }},
		{"MAXCMD 1", func(f *fake) { f.id.MAXCMD = 1 }},
		{"a revision without limits and descriptors", func(f *fake) { f.id.CTRATT, f.id.OAES, f.id.LPA = 0, 0, 0 }},
	} {
		for _, digests := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, digests %v", c.why, digests), func(t *testing.T) {
				f := newFake(t)
				c.stage(f)
				h := newHost(t, 1)
				o := f.options()
				o.HeaderDigest, o.DataDigest = digests, digests
				h.attach(o)
				d := h.open("Nvme0n1")
				defer d.close()
				most := int(d.handle.Device().Geometry().MaxBlocks) * 4096
				for _, size := range []int{4096, 12288, n} {
					for _, piece := range []int{4096, size} {
						size := min(size, most)
						got := make([]byte, size)
						d.want(c.why, 0, &bdev.Request{Kind: bdev.Write, LBA: 3, Blocks: uint64(size / 4096), Data: pieces(data[:size], piece)}, bdev.StatusOK)
						d.want(c.why, 0, &bdev.Request{Kind: bdev.Read, LBA: 3, Blocks: uint64(size / 4096), Data: pieces(got, piece)}, bdev.StatusOK)
						if !bytes.Equal(got, data[:size]) {
							t.Fatalf("%d bytes: read something else than was written", size)
						}
					}
				}
				if l := h.in.Controllers()[0].Losses; l > 0 {
					t.Errorf("%d connections were lost", l)
				}
			})
		}
	}
}

// The data of two reads comes in turns, the later read's first.
func TestDataOfDifferentCommandsInterleaves(t *testing.T) {
	f := newFake(t)
	copy(f.disk, pattern(16384, 1))
	var waits []*nvmf.SQE
	f.io = func(k *fakeConn, s *nvmf.SQE, _ []byte) bool {
		c := *s
		if waits = append(waits, &c); len(waits) < 2 {
			return true
		}
		for at := uint32(0); at < 8192; at += 512 {
			for _, i := range []int{1, 0} {
				w := waits[i]
				k.send(k.c2h(nvmf.DataPDU{CCCID: w.CID(), DATAO: at, Last: at == 8192-512}, f.disk[w.SLBA()*4096+uint64(at):][:512]))
			}
		}
		k.respond(waits[1], 0, 0)
		k.respond(waits[0], 0, 0)
		return true
	}
	h := newHost(t, 1)
	h.attach(f.options())
	d := h.open("Nvme0n1")
	defer d.close()
	ended := make(done, 2)
	got := make([]byte, 16384)
	qs := []*bdev.Request{
		{Kind: bdev.Read, LBA: 0, Blocks: 2, Data: [][]byte{got[:8192]}, Done: ended},
		{Kind: bdev.Read, LBA: 2, Blocks: 2, Data: [][]byte{got[8192:]}, Done: ended},
	}
	_ = h.group.Reactor(0).Go(func() {
		for _, q := range qs {
			d.channels[0].Submit(q)
		}
	})
	for range qs {
		if s := <-ended; s != bdev.StatusOK {
			t.Error(s)
		}
	}
	if !bytes.Equal(got, f.disk[:16384]) {
		t.Error("the data is not what it must be")
	}
}

// A target may answer a write before all of it has left: the request ends only when its memory is the owner's again.
func TestAnswerBeforeTheDataHasLeft(t *testing.T) {
	f := newFake(t)
	f.id.IOCCSZ = (64 + 64<<10) / 16
	h := newHost(t, 1)
	f.io = func(k *fakeConn, s *nvmf.SQE, b []byte) bool {
		k.respond(s, nvmf.StatusWriteProtected|nvmf.DNR, 0)
		return true
	}
	h.attach(f.options())
	d := h.open("Nvme0n1")
	defer d.close()
	for range 50 {
		d.want("write", 0, &bdev.Request{Kind: bdev.Write, LBA: 0, Blocks: 16, Data: [][]byte{make([]byte, 64<<10)}}, bdev.StatusReadOnly)
	}
}

// Wrong digests: of a header, the stream cannot be cut any more; of data, the request is repeated.
func TestWrongDigests(t *testing.T) {
	for _, c := range []struct {
		why    string
		spoil  func(k *fakeConn, s *nvmf.SQE, b []byte) []byte
		losses int
	}{
		{"header digest of a response", func(k *fakeConn, s *nvmf.SQE, b []byte) []byte {
			r := nvmf.AppendCapsuleResp(nil, nvmf.CQE{CID: s.CID(), Status: nvmf.StatusInternal | nvmf.DNR}, k.in.Digests())
			r[len(r)-1] ^= 1
			return r
		}, 1},
		{"a bit of a header", func(k *fakeConn, s *nvmf.SQE, b []byte) []byte {
			r := k.c2h(nvmf.DataPDU{CCCID: s.CID(), Last: true, Success: true}, b)
			r[9] ^= 1
			return r
		}, 1},
		{"data digest", func(k *fakeConn, s *nvmf.SQE, b []byte) []byte {
			r := k.c2h(nvmf.DataPDU{CCCID: s.CID(), Last: true, Success: true}, b)
			r[len(r)-1] ^= 1
			return r
		}, 0},
		{"a bit of the data", func(k *fakeConn, s *nvmf.SQE, b []byte) []byte {
			r := k.c2h(nvmf.DataPDU{CCCID: s.CID(), Last: true}, b)
			r[1000] ^= 1
			return nvmf.AppendCapsuleResp(r, nvmf.CQE{CID: s.CID()}, k.in.Digests())
		}, 0},
	} {
		t.Run(c.why, func(t *testing.T) {
			f := newFake(t)
			copy(f.disk, pattern(32<<10, 4))
			once := false
			f.io = func(k *fakeConn, s *nvmf.SQE, _ []byte) bool {
				if once {
					return false
				}
				once = true
				k.send(c.spoil(k, s, f.disk[:32<<10]))
				return true
			}
			h := newHost(t, 1)
			o := f.options()
			o.HeaderDigest, o.DataDigest = true, true
			h.attach(o)
			d := h.open("Nvme0n1")
			defer d.close()
			got := make([]byte, 32<<10)
			d.want(c.why, 0, &bdev.Request{Kind: bdev.Read, Blocks: 8, Data: [][]byte{got}}, bdev.StatusOK)
			if !bytes.Equal(got, f.disk[:32<<10]) {
				t.Error("wrong data was taken")
			}
			if l := h.in.Controllers()[0].Losses; l != c.losses {
				t.Errorf("%d connections were lost, want %d", l, c.losses)
			}
			if c.losses > 0 {
				if e := <-f.terms; e.FES != nvmf.FESHeaderDigest {
					t.Errorf("the host says %v", e)
				}
			}
		})
	}
}

// Each status of the target, how often it comes, and what becomes of the request.
func TestStatuses(t *testing.T) {
	for _, c := range []struct {
		s     nvmf.Status
		times int // then success
		want  bdev.Status
		tries int
	}{
		{nvmf.StatusLBAOutOfRange | nvmf.DNR, 9, bdev.StatusOutOfRange, 1},
		{nvmf.StatusWriteProtected | nvmf.DNR, 9, bdev.StatusReadOnly, 1},
		{nvmf.StatusCapacityExceeded | nvmf.DNR, 9, bdev.StatusNoSpace, 1},
		{nvmf.StatusReadError | nvmf.DNR, 9, bdev.StatusIO, 1},
		{nvmf.StatusInvalidNamespace | nvmf.DNR, 9, bdev.StatusGone, 1},
		{nvmf.StatusInterrupted | nvmf.DNR, 9, bdev.StatusBusy, 1},
		{nvmf.StatusTransientTransport, 3, bdev.StatusOK, 4},
		{nvmf.StatusTransientTransport, 99, bdev.StatusBusy, 6},
		{nvmf.StatusInterrupted, 2, bdev.StatusOK, 3},
		{nvmf.StatusNamespaceNotReady, 1, bdev.StatusOK, 2},
		{nvmf.StatusANATransition, 1, bdev.StatusOK, 2},
	} {
		t.Run(fmt.Sprintf("%v, %d times", c.s, c.times), func(t *testing.T) {
			f := newFake(t)
			tries := 0
			f.io = func(k *fakeConn, s *nvmf.SQE, _ []byte) bool {
				if tries++; tries <= c.times {
					k.respond(s, c.s, 0)
					return true
				}
				return false
			}
			h := newHost(t, 1)
			h.attach(f.options())
			d := h.open("Nvme0n1")
			defer d.close()
			d.want("read", 0, &bdev.Request{Kind: bdev.Read, Blocks: 1, Data: [][]byte{make([]byte, 4096)}}, c.want)
			f.set(func() {
				if tries != c.tries {
					t.Errorf("%d tries, want %d", tries, c.tries)
				}
			})
		})
	}
}

// A target that falls silent is found out, and so is one whose connections are dead.
func TestSilence(t *testing.T) {
	for _, c := range []struct {
		why   string
		stage func(f *fake, o *Options)
	}{
		{"a request without an answer", func(f *fake, o *Options) {
			o.IOTimeout = 200 * time.Millisecond
			once := false
			f.io = func(*fakeConn, *nvmf.SQE, []byte) bool {
				was := once
				once = true
				return !was
			}
		}},
		{"half an answer", func(f *fake, o *Options) {
			o.IOTimeout = 200 * time.Millisecond
			once := false
			f.io = func(k *fakeConn, s *nvmf.SQE, _ []byte) bool {
				was := once
				if once = true; !was {
					k.send(k.c2h(nvmf.DataPDU{CCCID: s.CID(), Last: true, Success: true}, make([]byte, 4096))[:2000])
				}
				return !was
			}
		}},
		{"no answer to Keep Alive", func(f *fake, o *Options) {
			o.KeepAlive = 200 * time.Millisecond
			var mute, latest *fakeConn // its first admin connection, and the latest
			f.admin = func(k *fakeConn, s *nvmf.SQE) bool {
				if latest = k; mute == nil {
					mute = k
				}
				return k == mute && nvmf.AdminOpcode(s.Opcode()) == nvmf.AdminKeepAlive
			}
			f.io = func(*fakeConn, *nvmf.SQE, []byte) bool { return latest == mute } // the request waits as long
		}},
	} {
		t.Run(c.why, func(t *testing.T) {
			f := newFake(t)
			o := options(f.addr)
			c.stage(f, &o)
			f.start()
			h := newHost(t, 1)
			h.attach(o)
			d := h.open("Nvme0n1")
			defer d.close()
			d.want(c.why, 0, &bdev.Request{Kind: bdev.Read, Blocks: 1, Data: [][]byte{make([]byte, 4096)}}, bdev.StatusOK)
			if got := h.in.Controllers()[0]; got.Losses != 1 {
				t.Errorf("%d connections were lost; the last: %s", got.Losses, got.LastLoss)
			}
		})
	}
}
