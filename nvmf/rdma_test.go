package nvmf_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
)

// overRDMA starts an engine with cards that share receives.
func overRDMA(t *testing.T, reactors int) *nvmftest.Engine {
	t.Helper()
	return nvmftest.Start(t, nvmftest.Options{Reactors: reactors, RDMA: &rdmatest.Options{SRQDepth: 4096}})
}

// What is written over RDMA is read, by whichever way the data went: in the capsule, and by RDMA READ and WRITE from 4 KiB to 1 MiB.
func TestRDMAWritesAndReads(t *testing.T) {
	for _, card := range []rdmatest.Options{{SRQDepth: 4096}, {}, {SRQDepth: 4096, InlineMax: -1}, {SRQDepth: 4096, ReadsOut: 1}} {
		for _, reactors := range []int{1, 2} {
			t.Run(fmt.Sprintf("%d shared, %d inline, %d reads, %d reactors", card.SRQDepth, card.InlineMax, card.ReadsOut, reactors), func(t *testing.T) {
				e := nvmftest.Start(t, nvmftest.Options{Reactors: reactors, RDMA: &card})
				a := e.AdminRDMA(t)
				p := e.QueueRDMA(t, a, 1, 32)
				if p.Accepted.CRQSIZE != 32 || a.Accepted.CRQSIZE != 32 {
					t.Errorf("accepted with %d and %d receives, want 32", a.Accepted.CRQSIZE, p.Accepted.CRQSIZE)
				}
				for i, blocks := range []uint32{1, 2, 16, 256} {
					want := pattern(int(blocks)*4096, uint64(i))
					p.WantStatus("write", p.Do(p.RW(nvmf.IOWrite, 300, blocks), want), nvmf.StatusSuccess)
					cqe, got := p.Read(p.RW(nvmf.IORead, 300, blocks), len(want))
					p.WantStatus("read", cqe, nvmf.StatusSuccess)
					if !bytes.Equal(got, want) {
						t.Errorf("%d blocks: read something else than was written", blocks)
					}
					p.Forget()
				}
				p.WantStatus("flush", p.Do(p.IO(nvmf.IOFlush), nil), nvmf.StatusSuccess)
				a.WantStatus("keep alive", a.Do(a.Cmd(nvmf.AdminKeepAlive), nil), nvmf.StatusSuccess)
				p.Close()
				a.Close()
				e.WantNothingLeft("after the host has gone")
			})
		}
	}
}

// TARGETS 1.2, "SGL", "in-capsule data": every way in which a command may say where its data is, and what those are answered that it may not. They
// belong to the command; the connection goes on.
func TestRDMADescriptors(t *testing.T) {
	e := overRDMA(t, 1)
	a := e.AdminRDMA(t)
	p := e.QueueRDMA(t, a, 1, 32)
	offset := func(at uint64, n uint32) nvmf.SGL {
		return nvmf.SGL{Type: nvmf.SGLDataBlock, Subtype: nvmf.SGLOffset, Address: at, Bytes: n}
	}
	last := func(n int) nvmf.SGL {
		return nvmf.SGL{Type: nvmf.SGLLastSegment, Subtype: nvmf.SGLOffset, Bytes: uint32(n * nvmf.SGLBytes)}
	}
	type piece struct{ at, n int }
	for _, c := range []struct {
		what   string
		blocks uint32
		pieces []piece // of memory with the data; none: in the capsule
		sgl    func(s nvmf.SGL) nvmf.SGL
		behind []byte // in the capsule, before the data
		want   nvmf.Status
	}{
		{"in the capsule", 1, nil, func(nvmf.SGL) nvmf.SGL { return offset(0, 4096) }, nil, nvmf.StatusSuccess},
		{"one piece", 4, []piece{{0, 16384}}, nil, nil, nvmf.StatusSuccess},
		{"two pieces", 4, []piece{{0, 4096}, {4096, 12288}}, nil, nil, nvmf.StatusSuccess},
		{"pieces that begin and end anywhere", 1, []piece{{0, 1}, {1, 100}, {101, 3995}}, nil, nil, nvmf.StatusSuccess},
		{"sixteen pieces", 16, func() (list []piece) {
			for i := range 16 {
				list = append(list, piece{i * 4096, 4096})
			}
			return list
		}(), nil, nil, nvmf.StatusSuccess},
		{"seventeen", 17, func() (list []piece) {
			for i := range 17 {
				list = append(list, piece{i * 4096, 4096})
			}
			return list
		}(), nil, nil, nvmf.StatusSGLCount | nvmf.DNR},
		{"less than the blocks", 2, []piece{{0, 4096}}, nil, nil, nvmf.StatusSGLLength | nvmf.DNR},
		{"more than the blocks", 1, []piece{{0, 8192}}, nil, nil, nvmf.StatusSGLLength | nvmf.DNR},
		{"less than the blocks in the capsule", 1, nil, func(nvmf.SGL) nvmf.SGL { return offset(0, 512) }, nil, nvmf.StatusSGLLength | nvmf.DNR},
		{"in a capsule that ends before", 1, nil, func(nvmf.SGL) nvmf.SGL { return offset(64, 4096) }, nil, nvmf.StatusSGLLength | nvmf.DNR},
		{"behind the capsule", 1, nil, func(nvmf.SGL) nvmf.SGL { return offset(4097, 4096) }, nil, nvmf.StatusSGLOffset | nvmf.DNR},
		{"TCP's", 1, []piece{{0, 4096}}, func(nvmf.SGL) nvmf.SGL {
			return nvmf.SGL{Type: nvmf.SGLTransport, Subtype: nvmf.SGLTransportData, Bytes: 4096}
		}, nil, nvmf.StatusSGLType | nvmf.DNR},
		{"longer than a transfer", 1, []piece{{0, 4096}}, func(s nvmf.SGL) nvmf.SGL { s.Bytes = 1<<20 + 4096; return s }, nil, nvmf.StatusSGLLength | nvmf.DNR},
	} {
		t.Run(c.what, func(t *testing.T) {
			total := 4096 * int(c.blocks)
			want := pattern(total, uint64(total))
			s := p.RW(nvmf.IOWrite, 0, c.blocks)
			var list [][]byte
			b, key := p.Memory(total + 4096)
			copy(b, want)
			for _, x := range c.pieces {
				d := p.SGL(b, key)
				d.Address, d.Bytes = d.Address+uint64(x.at), uint32(x.n)
				list = append(list, nvmftest.Descriptor(d))
				s.SetSGL(d)
			}
			if len(list) > 1 {
				s.SetSGL(last(len(list)))
			}
			if c.sgl != nil {
				s.SetSGL(c.sgl(s.SGL()))
			}
			switch {
			case len(list) == 0:
				p.SendCapsule(s[:], want)
			case len(list) == 1:
				p.SendCapsule(s[:])
			default:
				p.SendCapsule(append([][]byte{s[:]}, list...)...)
			}
			p.WantStatus("write", p.Response(s).CQE, c.want)
			if c.want.OK() {
				// Back the same way, if it was not the capsule.
				r := p.RW(nvmf.IORead, 0, c.blocks)
				got, readKey := p.Memory(total)
				list = nil
				for _, x := range c.pieces {
					d := p.SGL(got, readKey)
					d.Address, d.Bytes = d.Address+uint64(x.at), uint32(x.n)
					list = append(list, nvmftest.Descriptor(d))
				}
				r.SetSGL(p.SGL(got, readKey))
				if len(list) > 1 {
					r.SetSGL(last(len(list)))
					p.SendCapsule(append([][]byte{r[:]}, list...)...)
				} else {
					p.SendCapsule(r[:])
				}
				p.WantStatus("read", p.Response(r).CQE, nvmf.StatusSuccess)
				if !bytes.Equal(got, want) {
					t.Error("read something else than was written")
				}
			}
			p.Forget()
		})
	}
	s := a.Cmd(nvmf.AdminSetFeatures)
	s.SetSGL(offset(0, 8))
	a.SendCapsule(s[:])
	if got := a.Response(s); got.Status.OK() {
		t.Error("data in the capsule of an Admin command were taken")
	}
	a.WantStatus("keep alive", a.Do(a.Cmd(nvmf.AdminKeepAlive), nil), nvmf.StatusSuccess)
}

// TARGETS 1.2, "invalidate": the answer invalidates the last key that asks for it, and none where none does.
func TestRDMAKeysAreInvalidated(t *testing.T) {
	e := overRDMA(t, 1)
	p := e.QueueRDMA(t, e.AdminRDMA(t), 1, 32)
	spent := func(d nvmf.SGL) nvmf.SGL { d.Subtype = nvmf.SGLInvalidate; return d }
	for _, op := range []nvmf.IOOpcode{nvmf.IOWrite, nvmf.IORead} {
		b1, k1 := p.Memory(4096)
		b2, k2 := p.Memory(4096)
		b3, k3 := p.Memory(4096)
		for _, c := range []struct {
			what string
			list []nvmf.SGL
			want uint32
		}{
			{"none", []nvmf.SGL{p.SGL(b1, k1)}, 0},
			{"one", []nvmf.SGL{spent(p.SGL(b1, k1))}, k1},
			{"the first of two", []nvmf.SGL{spent(p.SGL(b2, k2)), p.SGL(b3, k3)}, k2},
		} {
			s := p.RW(op, 0, uint32(len(c.list)))
			s.SetSGL(c.list[0])
			var list []byte
			for _, d := range c.list {
				list = append(list, nvmftest.Descriptor(d)...)
			}
			if len(c.list) > 1 {
				s.SetSGL(nvmf.SGL{Type: nvmf.SGLLastSegment, Subtype: nvmf.SGLOffset, Bytes: uint32(len(list))})
			} else {
				list = nil
			}
			p.SendCapsule(s[:], list)
			r := p.Response(s)
			p.WantStatus(c.what, r.CQE, nvmf.StatusSuccess)
			if r.Invalid != c.want {
				t.Errorf("opcode %#x, %s: key %#x was invalidated, want %#x", op, c.what, r.Invalid, c.want)
			}
		}
	}
	// Two ask for it: the last is.
	b1, k1 := p.Memory(4096)
	b2, k2 := p.Memory(4096)
	s := p.RW(nvmf.IORead, 0, 2)
	s.SetSGL(nvmf.SGL{Type: nvmf.SGLLastSegment, Subtype: nvmf.SGLOffset, Bytes: 32})
	p.SendCapsule(s[:], nvmftest.Descriptor(spent(p.SGL(b1, k1))), nvmftest.Descriptor(spent(p.SGL(b2, k2))))
	if r := p.Response(s); !r.Status.OK() || r.Invalid != k2 {
		t.Errorf("%v, key %#x was invalidated, want %#x", r.Status, r.Invalid, k2)
	}
	// A key is used once: the slot that it was in begins anew.
	s = p.IO(nvmf.IOFlush)
	p.SendCapsule(s[:])
	if r := p.Response(s); r.Invalid != 0 {
		t.Errorf("a flush invalidates key %#x", r.Invalid)
	}
	// Failed commands whose data were looked at.
	b, k := p.Memory(4096)
	s = p.RW(nvmf.IOWrite, 1<<40, 1)
	s.SetSGL(spent(p.SGL(b, k)))
	p.SendCapsule(s[:])
	if r := p.Response(s); r.Status != nvmf.StatusLBAOutOfRange|nvmf.DNR || r.Invalid != k {
		t.Errorf("%v, key %#x was invalidated, want %#x", r.Status, r.Invalid, k)
	}
	p.WantStatus("flush", p.Do(p.IO(nvmf.IOFlush), nil), nvmf.StatusSuccess)
}

// A card that cannot send so that a key is invalidated answers all the same: a host sees by the answer that its key is as it was, and invalidates it itself
// (Linux, drivers/nvme/host/rdma.c, nvme_rdma_process_nvme_rsp).
func TestRDMACardThatCannotInvalidate(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{RDMA: &rdmatest.Options{NoSendInvalidate: true}})
	p := e.QueueRDMA(t, e.AdminRDMA(t), 1, 32)
	b, key := p.Memory(4096)
	for _, op := range []nvmf.IOOpcode{nvmf.IOWrite, nvmf.IORead, nvmf.IOWrite} {
		s := p.RW(op, 0, 1)
		d := p.SGL(b, key)
		d.Subtype = nvmf.SGLInvalidate
		s.SetSGL(d)
		p.SendCapsule(s[:])
		r := p.Response(s)
		p.WantStatus("a command that asks for the end of its key", r.CQE, nvmf.StatusSuccess)
		if r.Invalid != 0 {
			t.Errorf("key %#x was invalidated", r.Invalid)
		}
	}
}

// TARGETS 1.2, "order": the host has its data before it hears so, and the data of a write is fetched before the write begins.
func TestRDMAOrder(t *testing.T) {
	e := overRDMA(t, 1)
	p := e.QueueRDMA(t, e.AdminRDMA(t), 1, 32)
	want := pattern(8192, 7)
	e.RDMA.Target.Withhold(rdmatest.Reads)
	b, key := p.Memory(8192)
	copy(b, want)
	w := p.RW(nvmf.IOWrite, 8, 2)
	w.SetSGL(p.SGL(b, key))
	p.SendCapsule(w[:])
	nvmftest.Await(t, "the read is on the card", func() bool { return e.RDMA.Target.Withheld() == 1 })
	p.WantIdle("a write whose data has not come")
	e.RDMA.Target.Release()
	p.WantStatus("write", p.Response(w).CQE, nvmf.StatusSuccess)

	e.RDMA.Target.Withhold(rdmatest.Writes)
	got, key := p.Memory(8192)
	r := p.RW(nvmf.IORead, 8, 2)
	r.SetSGL(p.SGL(got, key))
	p.SendCapsule(r[:])
	nvmftest.Await(t, "the write is on the card", func() bool { return e.RDMA.Target.Withheld() == 1 })
	p.WantIdle("a read whose data has not gone")
	e.RDMA.Target.Step(0)
	e.RDMA.Target.Release()
	p.WantStatus("read", p.Response(r).CQE, nvmf.StatusSuccess)
	if !bytes.Equal(got, want) {
		t.Error("read something else than was written")
	}

	// The receive of a command is the card's again before its response goes.
	e.RDMA.Target.Withhold(rdmatest.Sends)
	f := p.IO(nvmf.IOFlush)
	p.SendCapsule(f[:])
	nvmftest.Await(t, "the response is on the card", func() bool { return e.RDMA.Target.Withheld() == 1 })
	for _, s := range e.Target.RDMAStats() {
		if s.ReceivesHeld != 0 || s.Receives != 64 { // 32 of either queue
			t.Errorf("%d receives are on the card and %d are not, want 64", s.Receives, s.ReceivesHeld)
		}
	}
	e.RDMA.Target.Release()
	p.WantStatus("flush", p.Response(f).CQE, nvmf.StatusSuccess)
}

// A full queue, again and again, of all sizes and with few RDMA READs at a time: every entry has a receive, and nothing has to wait for ever. The
// fabric sees to depths and to READs in flight.
func TestRDMAFullQueues(t *testing.T) {
	for _, card := range []rdmatest.Options{{SRQDepth: 4096}, {}, {SRQDepth: 4096, ReadsOut: 1}, {SRQDepth: 128}} {
		t.Run(fmt.Sprintf("%d shared, %d reads", card.SRQDepth, card.ReadsOut), func(t *testing.T) {
			e := nvmftest.Start(t, nvmftest.Options{Reactors: 2, RDMA: &card})
			a := e.AdminRDMA(t)
			p := e.QueueRDMA(t, a, 1, 64)
			q := e.QueueRDMA(t, a, 2, 64)
			for round := range 4 {
				for i := range 64 {
					for n, x := range []*nvmftest.RDMAPeer{p, q} {
						lba, blocks := uint64(n*2000+i*16), uint32(1+(i+round)%16)
						s := x.RW(nvmf.IOWrite, lba, blocks)
						if i%3 == 0 {
							s = x.RW(nvmf.IORead, lba, blocks)
						}
						b, key := x.Memory(int(blocks) * 4096)
						if half := len(b) / 2 / 4096 * 4096; i%5 == 0 && half > 0 {
							d := x.SGL(b, key)
							d1, d2 := d, d
							d1.Bytes, d2.Address, d2.Bytes = uint32(half), d.Address+uint64(half), d.Bytes-uint32(half)
							s.SetSGL(nvmf.SGL{Type: nvmf.SGLLastSegment, Subtype: nvmf.SGLOffset, Bytes: 32})
							x.SendCapsule(s[:], nvmftest.Descriptor(d1), nvmftest.Descriptor(d2))
							continue
						}
						s.SetSGL(x.SGL(b, key))
						x.SendCapsule(s[:])
					}
				}
				for _, x := range []*nvmftest.RDMAPeer{p, q} {
					for range 64 {
						x.WantStatus("a command of a full queue", x.Next("a full queue").CQE, nvmf.StatusSuccess)
					}
					x.Forget()
				}
			}
		})
	}
}

// Sixteen pieces each, on all entries of a queue: more work requests than the queue pair has room for, which wait for their turn.
func TestRDMACommandsWaitForRoom(t *testing.T) {
	e := overRDMA(t, 1)
	p := e.QueueRDMA(t, e.AdminRDMA(t), 1, 64)
	for _, op := range []nvmf.IOOpcode{nvmf.IOWrite, nvmf.IORead} {
		want := pattern(64*16*4096, 3)
		b, key := p.Memory(len(want))
		if op == nvmf.IOWrite {
			copy(b, want)
		}
		for i := range 64 {
			s := p.RW(op, uint64(i*16), 16)
			s.SetSGL(nvmf.SGL{Type: nvmf.SGLLastSegment, Subtype: nvmf.SGLOffset, Bytes: 256})
			capsule := [][]byte{s[:]}
			for k := range 16 {
				d := p.SGL(b, key)
				d.Address, d.Bytes = d.Address+uint64((i*16+k)*4096), 4096
				capsule = append(capsule, nvmftest.Descriptor(d))
			}
			p.SendCapsule(capsule...)
		}
		for range 64 {
			p.WantStatus("a command of sixteen pieces", p.Next("sixteen pieces").CQE, nvmf.StatusSuccess)
		}
		if !bytes.Equal(b, want) {
			t.Error("read something else than was written")
		}
		p.Forget()
	}
}
