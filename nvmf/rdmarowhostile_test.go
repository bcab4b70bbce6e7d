package nvmf_test

import (
	"bytes"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
	"github.com/pollux-storage/pollux/reactor"
)

// TARGETS 1.2, "SGL", "in-capsule data", "invalidate": what a host may get wrong in a command's data pointer without losing its connection.
func TestRDMADescriptorsThatAreRefused(t *testing.T) {
	e := overRDMA(t, 1)
	a := e.AdminRDMA(t)
	p := e.QueueRDMA(t, a, 1, 32)
	b, key := p.Memory(8192)
	whole := p.SGL(b, key)
	keyed := func(change func(d *nvmf.SGL)) nvmf.SGL {
		d := whole
		change(&d)
		return d
	}
	inside := nvmf.SGL{Type: nvmf.SGLDataBlock, Subtype: nvmf.SGLOffset, Bytes: 4096}
	for _, c := range []struct {
		what    string
		op      nvmf.IOOpcode
		sgl     nvmf.SGL
		data    int // behind the command
		want    nvmf.Status
		invalid uint32
	}{
		{"a read into the capsule", nvmf.IORead, inside, 4096, nvmf.StatusSGLLength | nvmf.DNR, 0},
		{"a read into a capsule without data", nvmf.IORead, inside, 0, nvmf.StatusSGLLength | nvmf.DNR, 0},
		{"a read of nothing", nvmf.IORead, nvmf.SGL{Type: nvmf.SGLKeyed}, 0, nvmf.StatusSGLLength | nvmf.DNR, 0},
		{"a write of nothing, by a key", nvmf.IOWrite, keyed(func(d *nvmf.SGL) { d.Bytes = 0 }), 0, nvmf.StatusSGLLength | nvmf.DNR, 0},
		{"data in the capsule that the pointer does not mention", nvmf.IORead, keyed(func(d *nvmf.SGL) { d.Bytes = 4096 }), 4096, nvmf.StatusSuccess, 0},
		{"a read of one block too many", nvmf.IORead, whole, 0, nvmf.StatusSGLLength | nvmf.DNR, 0},
		{"another sub-type", nvmf.IORead, keyed(func(d *nvmf.SGL) { d.Bytes, d.Subtype = 4096, 2 }), 0, nvmf.StatusSGLType | nvmf.DNR, 0},
		{"a write of nothing, by a key that is spent with it", nvmf.IOWrite, keyed(func(d *nvmf.SGL) { d.Bytes, d.Subtype = 0, nvmf.SGLInvalidate }), 0, nvmf.StatusSGLLength | nvmf.DNR, key},
	} {
		s := p.RW(c.op, 0, 1)
		s.SetSGL(c.sgl)
		p.SendCapsule(s[:], make([]byte, c.data))
		r := p.Response(s)
		p.WantStatus(c.what, r.CQE, c.want)
		if r.Invalid != c.invalid {
			t.Errorf("%s: key %#x was invalidated, want %#x", c.what, r.Invalid, c.invalid)
		}
	}
	b, key = p.Memory(4096)
	s := p.RW(nvmf.IORead, 0, 1)
	s.SetSGL(p.SGL(b, key))
	s[1] = byte(nvmf.PSDTSGLSegment) << 6 // metadata by a segment, of which there are none
	p.SendCapsule(s[:])
	p.WantStatus("PSDT 10b", p.Response(s).CQE, nvmf.StatusSuccess)

	f := a.Cmd(nvmf.AdminSetFeatures)
	f.SetSGL(nvmf.SGL{Type: nvmf.SGLDataBlock, Subtype: nvmf.SGLOffset, Bytes: 8})
	a.SendCapsule(f[:])
	if got := a.Response(f).CQE; got.Status != nvmf.StatusSGLLength|nvmf.DNR {
		t.Errorf("data in the capsule of an Admin command: %v", got.Status)
	}
	// An Admin queue's receives have room for a command and nothing else: the card refuses more.
	a.SendCapsule(f[:], make([]byte, 8))
	a.WantClosed("an Admin capsule of more than 64 bytes")
}

// Data may lie anywhere in a capsule: what is written is what the pointer names, not what comes first.
func TestRDMADataFurtherOnInTheCapsule(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{RDMA: &rdmatest.Options{SRQDepth: 4096}, BlockSize: 512})
	p := e.QueueRDMA(t, e.AdminRDMA(t), 1, 32)
	s, want := p.RW(nvmf.IOWrite, 0, 2), pattern(1024, 8)
	s.SetSGL(nvmf.SGL{Type: nvmf.SGLDataBlock, Subtype: nvmf.SGLOffset, Address: 768, Bytes: 1024})
	p.SendCapsule(s[:], make([]byte, 768), want, make([]byte, 100))
	p.WantStatus("write", p.Response(s).CQE, nvmf.StatusSuccess)
	cqe, got := p.Read(p.RW(nvmf.IORead, 0, 2), 1024)
	p.WantStatus("read", cqe, nvmf.StatusSuccess)
	if !bytes.Equal(got, want) {
		t.Error("read something else than was written")
	}
}

// A host that uses up a key twice, or gives one that is none, loses its connection, and nothing is left of it.
func TestRDMAKeysThatAreSpent(t *testing.T) {
	e, held := heldOverRDMA(t, nvmftest.Options{})
	a := e.AdminRDMA(t)
	for _, op := range []nvmf.IOOpcode{nvmf.IORead, nvmf.IOWrite} {
		p := e.QueueRDMA(t, a, 1, 32)
		b, key := p.Memory(4096)
		d := p.SGL(b, key)
		d.Subtype = nvmf.SGLInvalidate
		for range 2 { // both have been begun before the first is answered
			s := onHeld(p, op, 1)
			s.SetSGL(d)
			p.SendCapsule(s[:])
		}
		held.Want("two commands with one key", 2)
		held.End(bdev.StatusOK)
		p.WantDisconnected("a key that is invalidated twice")
		p.Close()
		e.AwaitQueues("the queue of a host that spent a key twice ends", 0)

		p = e.QueueRDMA(t, a, 1, 32)
		s := p.RW(op, 0, 1)
		s.SetSGL(nvmf.SGL{Type: nvmf.SGLKeyed, Bytes: 4096})
		p.SendCapsule(s[:])
		p.WantClosed("key 0")
		p.Close()
		e.AwaitQueues("the queue of a host with key 0 ends", 0)
	}
	a.Close()
	e.WantNothingLeft("after keys that were spent")
}

// TARGETS 1.2, "depth", "accept, reject": no more RDMA READs are in flight than the host answers at once, and it is asked for none itself.
func TestRDMAReadsThatTheHostAnswers(t *testing.T) {
	e := overRDMA(t, 1)
	a := e.AdminRDMA(t)
	p, why := e.TryRDMA(t, e.RDMA.Addr, nvmftest.RDMAOptions{Request: nvmf.RDMARequest{QID: 1, HRQSIZE: 32, HSQSIZE: 31, CNTLID: a.CNTLID}, IRD: 1})
	if p == nil {
		t.Fatal(why)
	}
	if p.Terms.ReadsOut != 0 || p.Terms.ReadsIn != 1 || p.Terms.RNR != 7 {
		t.Errorf("accepted with %+v: want no READs of the host's, one of ours, and no end of tries", p.Terms)
	}
	p.WantStatus("Connect", p.Connect(1, 32, a.CNTLID), nvmf.StatusSuccess)
	b, key := p.Memory(4096)
	d := p.SGL(b, key)
	var list []byte
	for i := range 4 {
		x := d
		x.Address, x.Bytes = d.Address+uint64(i)*1024, 1024
		list = append(list, nvmftest.Descriptor(x)...)
	}
	for i := range 32 {
		s := p.RW(nvmf.IOWrite, uint64(i), 1)
		s.SetSGL(nvmf.SGL{Type: nvmf.SGLLastSegment, Subtype: nvmf.SGLOffset, Bytes: uint32(len(list))})
		p.SendCapsule(s[:], list)
	}
	for range 32 {
		p.WantStatus("a write of four pieces", p.Next("a full queue").CQE, nvmf.StatusSuccess)
	}
}

// Connections whose hosts never say what they are to be end in time. Until then a card has room for so many (TestRDMARefusedQueuesCountNowhere).
func TestRDMAHostsThatNeverConnect(t *testing.T) {
	nvmf.SetConnectPatience(t, short)
	e := overRDMA(t, 1)
	silent := []*nvmftest.RDMAPeer{e.DialRDMA(t, e.RDMA.Addr, 0, 32, 0), e.DialRDMA(t, e.RDMA.Addr, 1, 32, 0), e.DialRDMA(t, e.RDMA.Addr, 1, 32, 7)}
	for _, p := range silent {
		p.WantClosed("a connection without a Connect")
		p.Close()
	}
	e.WantNothingLeft("after hosts that never connect")
}

// While a target is drained commands that come are not begun, nor are those that waited for others to end; what was begun is answered.
func TestRDMADrainBeginsNothing(t *testing.T) {
	e, held := heldOverRDMA(t, nvmftest.Options{})
	a := e.AdminRDMA(t)
	p, q := e.QueueRDMA(t, a, 1, 32), e.QueueRDMA(t, a, 2, 16)
	first := onHeld(p, nvmf.IOWrite, 1)
	p.Begin(first, pattern(4096, 1))
	held.Want("a command", 1)
	e.RDMA.Target.Withhold(rdmatest.Sends)
	came := 0
	waits := func(why string, capsules, held int) {
		t.Helper()
		came += capsules
		nvmftest.Await(t, why, func() bool {
			s := e.Target.RDMAStats()[0]
			return e.Target.Open(a.CNTLID, 2) == came && s.ReceivesHeld == held
		})
	}
	for range 2 { // all slots are taken until the responses have left
		for range 16 {
			q.SendCapsule(q.IO(nvmf.IOFlush)[:])
		}
		waits("as many as there are entries are answered", 16, 1)
	}
	q.Begin(onHeld(q, nvmf.IOWrite, 1), pattern(4096, 2))
	waits("a command waits for a slot", 0, 2)
	paused, drained, looks := make(chan bool, 1), make(chan error, 1), 0
	go func() {
		drained <- e.Target.Drain(t.Context(), func(int, int) {
			if looks++; looks == 2 { // that hosts take other paths was waited for, and now queues take nothing more
				paused <- true
			}
		})
	}()
	nvmftest.Take(t, "the queues take nothing more", paused)
	p.Begin(onHeld(p, nvmf.IOWrite, 1), pattern(4096, 3))
	waits("a command waits for the end of the drain", 0, 3)
	e.RDMA.Target.Release()
	for range 32 {
		q.WantStatus("what was answered", q.Next("a full queue").CQE, nvmf.StatusSuccess)
	}
	for range 16 {
		q.SendCapsule(q.IO(nvmf.IOFlush)[:])
	}
	q.WantClosed("a host that sends more than its queue holds, of which none was begun")
	held.Want("what was begun before, and nothing else", 1)
	held.End(bdev.StatusOK)
	p.WantStatus("what was begun", p.Response(first).CQE, nvmf.StatusSuccess)
	if err := nvmftest.Take(t, "the drain", drained); err != nil {
		t.Fatal(err)
	}
	p.WantClosed("an I/O queue of a drained target")
	held.Want("nothing more", 0)
	if err := e.Target.Undrain(); err != nil {
		t.Fatal(err)
	}
}

// TARGETS 1.2, "order": the receive of a read, too, is the card's again before its response goes.
func TestRDMAReceivesBeforeResponses(t *testing.T) {
	e := overRDMA(t, 1)
	p := e.QueueRDMA(t, e.AdminRDMA(t), 1, 32)
	e.RDMA.Target.Withhold(rdmatest.Sends)
	s := p.RW(nvmf.IORead, 0, 1)
	sendKeyed(p, s, 4096)
	nvmftest.Await(t, "the response is on the card", func() bool { return e.RDMA.Target.Withheld() == 1 })
	if n := e.Target.RDMAStats()[0].ReceivesHeld; n != 0 {
		t.Errorf("%d receives are not on the card", n)
	}
	e.RDMA.Target.Release()
	p.WantStatus("read", p.Response(s).CQE, nvmf.StatusSuccess)
}

// takeAll takes all memory of a reactor's pool, until it is given back.
func takeAll(t *testing.T, r *reactor.Reactor) (giveBack func()) {
	t.Helper()
	var all [][]byte
	call := func(f func()) {
		if err := r.Call(f); err != nil {
			t.Fatal(err)
		}
	}
	call(func() {
		for n := reactor.BufferMax; n >= reactor.PageBytes; n /= 2 {
			for b := r.Memory().Get(n); b != nil; b = r.Memory().Get(n) {
				all = append(all, b)
			}
		}
	})
	return func() {
		call(func() {
			for _, b := range all {
				r.Memory().Put(b)
			}
		})
	}
}

// A connection for whose responses there is no memory, on a card that cannot take them as they are posted, is refused.
func TestRDMANoMemoryForResponses(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{RDMA: &rdmatest.Options{InlineMax: -1}})
	giveBack := takeAll(t, e.Group.Reactor(0))
	for qid := range nvmf.QID(2) {
		request := nvmf.RDMARequest{QID: qid, HRQSIZE: 32, HSQSIZE: 31}
		if p, why := e.TryRDMA(t, e.RDMA.Addr, nvmftest.RDMAOptions{Request: request, IRD: 16}); p != nil || why != nvmf.RDMANoResources {
			t.Errorf("the connection of queue %d, for whose responses there is no memory, is answered with %v", qid, why)
		}
	}
	giveBack()
	e.WantNothingLeft("after a connection that there was no memory for")
	e.AdminRDMA(t)
}

// One that finds none at the owner of its subsystem, where its Connect would be answered, ends: with a success, or with a refusal.
func TestRDMANoMemoryForResponsesAtTheOwner(t *testing.T) {
	for _, id := range []nvmf.CNTLID{nvmf.CNTLIDDynamic, 1} {
		e := nvmftest.Start(t, nvmftest.Options{Reactors: 2, RDMA: &rdmatest.Options{InlineMax: -1}})
		a := e.AdminRDMA(t)
		p, owner := awayFromOwner(t, e)
		giveBack := takeAll(t, owner)
		p.SendCapsule(rdmaConnect(p, 0, id)[:])
		p.WantClosed("a connection for whose responses there is no memory")
		p.Close()
		giveBack()
		a.WantStatus("keep alive", a.Do(a.Cmd(nvmf.AdminKeepAlive), nil), nvmf.StatusSuccess)
		a.Close()
		e.WantNothingLeft("after a connection that there was no memory for")
	}
}

// TARGETS 1.2, "depth": a card whose queues are short has room for all work requests of the commands it lets a host open, and for the one that ends them.
func TestRDMACardWithShortQueues(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{RDMA: &rdmatest.Options{QPDepthMax: 2*16 + 34}})
	p := e.DialRDMA(t, e.RDMA.Addr, 0, 32, 0)
	if p.Accepted.CRQSIZE != 15 {
		t.Errorf("accepted with %d receives", p.Accepted.CRQSIZE)
	}
	p.WantStatus("Connect", p.Connect(0, 15, nvmf.CNTLIDDynamic), nvmf.StatusSuccess)
}
