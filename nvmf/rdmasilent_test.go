package nvmf_test

import (
	"testing"
	"time"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
	"github.com/pollux-storage/pollux/reactor"
)

// REQUIREMENTS T-19: the memory of commands whose answers leave in silence is the card's until it tells of a later one; where none follows it is asked.
func TestRDMASilentAnswersKeepTheirMemory(t *testing.T) {
	nvmf.SetPatience(t, nvmf.Patience{Soon: time.Hour})
	e := overRDMA(t, 1)
	e.RDMA.Fabric.Watch()
	p := e.QueueRDMA(t, e.AdminRDMA(t), 1, 32)
	idle := lent(t, e)
	const commands, bytes = 4, 4096
	for range 3 { // after which it is as before
		e.RDMA.Target.Withhold(rdmatest.Sends)
		var sent []*nvmf.SQE
		for i := range commands {
			s := p.RW(nvmf.IORead, uint64(i), 1)
			sendKeyed(p, s, bytes)
			sent = append(sent, s)
		}
		nvmftest.Await(t, "the card has the memory of the commands", func() bool { return lent(t, e)-idle >= commands*bytes })
		has := lent(t, e)
		for _, s := range sent[:commands-1] {
			nvmftest.Await(t, "an answer is on the card", func() bool { return e.RDMA.Target.Step(0) })
			p.WantStatus("read", p.Response(s).CQE, nvmf.StatusSuccess)
			if now := lent(t, e); now != has {
				t.Fatalf("%d bytes came back before the card told of the answer, or of one behind it", has-now)
			}
		}
		e.RDMA.Target.Release()
		p.WantStatus("read", p.Response(sent[commands-1]).CQE, nvmf.StatusSuccess)
		nvmftest.Await(t, "the memory is back although no answer follows", func() bool { return lent(t, e) == idle })
	}
	p.Close()
}

// passes waits until time has passed on a reactor, and what was due by then is done.
func passes(t *testing.T, e *nvmftest.Engine, d time.Duration) {
	t.Helper()
	r := e.Group.Reactor(0)
	now := func() (n reactor.Ticks) {
		if err := r.Call(func() { n = r.Now() }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	until := now() + reactor.Ticks(d)
	nvmftest.Await(t, "time passes", func() bool { return now() > until })
	now() // a turn later
}

// asked is longer than an answer in silence stays without being asked for.
const asked = 150 * time.Millisecond

// While the card has a write that asks for answers in silence, there is no other: what has left since waits.
func TestRDMASilentAnswersAreAskedForOnce(t *testing.T) {
	nvmf.SetPatience(t, nvmf.Patience{Soon: time.Hour})
	e := overRDMA(t, 1)
	a := e.AdminRDMA(t)
	p := e.QueueRDMA(t, a, 1, 32)
	nvmftest.Await(t, "the answer to the Connect is told of", func() bool { return e.Target.Open(a.CNTLID, 1) == 0 })
	e.RDMA.Target.Withhold(rdmatest.Writes)
	p.WantStatus("flush", p.Do(p.IO(nvmf.IOFlush), nil), nvmf.StatusSuccess)
	nvmftest.Await(t, "it is asked for", func() bool { return e.RDMA.Target.Withheld() == 1 })
	posts := e.Target.RDMAStats()[0].Posts
	s := p.IO(nvmf.IOFlush)
	p.SendCapsule(s[:])
	nvmftest.Await(t, "another answer is on the card", func() bool { return e.Target.RDMAStats()[0].Posts == posts+1 })
	passes(t, e, asked)
	if n := e.Target.RDMAStats()[0].Posts; n != posts+1 {
		t.Errorf("%d work requests were posted behind one that asks", n-posts)
	}
	if n := e.Target.Open(a.CNTLID, 1); n != 2 {
		t.Errorf("%d commands have their slots, of which the card told nothing; want 2", n)
	}
	e.RDMA.Target.Release()
	p.WantStatus("flush", p.Response(s).CQE, nvmf.StatusSuccess)
	nvmftest.Await(t, "both are told of", func() bool { return e.Target.Open(a.CNTLID, 1) == 0 })
}

// A queue that ends has no timer any more, whatever it waited for.
func TestRDMAQueuesEndWithTheirTimers(t *testing.T) {
	nvmf.SetPatience(t, nvmf.Patience{Soon: time.Hour})
	e := overRDMA(t, 1)
	a := e.AdminRDMA(t)
	r := e.Group.Reactor(0)
	passes(t, e, asked)
	idle := timers(t, r)
	p := e.QueueRDMA(t, a, 1, 32)
	nvmftest.Await(t, "the answer to the Connect is told of", func() bool { return e.Target.Open(a.CNTLID, 1) == 0 })
	e.RDMA.Target.Withhold(rdmatest.Writes)
	p.WantStatus("flush", p.Do(p.IO(nvmf.IOFlush), nil), nvmf.StatusSuccess)
	nvmftest.Await(t, "it is asked for", func() bool { return e.RDMA.Target.Withheld() == 1 })
	posts := e.Target.RDMAStats()[0].Posts
	p.SendCapsule(p.IO(nvmf.IOFlush)[:])
	nvmftest.Await(t, "another answer is on the card", func() bool { return e.Target.RDMAStats()[0].Posts == posts+1 })
	if n := timers(t, r); n < idle+2 {
		t.Errorf("%d timers wait, %d before there was the queue: want one more for its host and one for its answers", n, idle)
	}
	p.Close()
	e.AwaitQueues("the queue ends", 0)
	e.RDMA.Target.Release()
	nvmftest.Await(t, "its timers have ended", func() bool { return timers(t, r) == idle })
}

// Answers that another has told of are not asked for.
func TestRDMAToldAnswersAreNotAskedFor(t *testing.T) {
	nvmf.SetPatience(t, nvmf.Patience{Soon: time.Hour})
	e := overRDMA(t, 1)
	a := e.AdminRDMA(t)
	p := e.QueueRDMA(t, a, 1, 2) // one of two answers tells
	flush := []*nvmf.SQE{p.IO(nvmf.IOFlush), p.IO(nvmf.IOFlush)}
	nvmftest.Await(t, "the answer to the Connect is told of", func() bool { return e.Target.Open(a.CNTLID, 1) == 0 })
	passes(t, e, asked)
	posts := e.Target.RDMAStats()[0].Posts
	p.Round(flush, make([][]byte, 2)).Run()
	passes(t, e, asked)
	if n := e.Target.RDMAStats()[0].Posts - posts; n != 2 {
		t.Errorf("%d work requests for two answers, of which the second is told of", n)
	}
}

// A send queue that is full has no room for a write that asks: it waits.
func TestRDMASilentAnswersOfAFullQueue(t *testing.T) {
	nvmf.SetPatience(t, nvmf.Patience{Soon: time.Hour})
	e := overRDMA(t, 1)
	a := e.AdminRDMA(t)
	p := e.QueueRDMA(t, a, 1, 4) // 42 work requests, and two answers in silence
	posted := func(why string, from uint64, n uint64) {
		t.Helper()
		nvmftest.Await(t, why, func() bool { return e.Target.RDMAStats()[0].Posts == from+n })
	}
	nvmftest.Await(t, "the answer to the Connect is told of", func() bool { return e.Target.Open(a.CNTLID, 1) == 0 })
	e.RDMA.Target.Withhold(rdmatest.AllWork)
	from := e.Target.RDMAStats()[0].Posts
	p.SendCapsule(p.IO(nvmf.IOFlush)[:])
	posted("an answer, and a write that asks for it", from, 2)
	p.SendCapsule(p.IO(nvmf.IOFlush)[:])
	posted("an answer that is not asked for yet", from, 3)
	b, key := p.Memory(16 * 4096)
	d := p.SGL(b, key)
	for i, pieces := range []int{16, 16, 7, 2} { // of which the last finds no room
		s := p.RW(nvmf.IOWrite, uint64(i*16), 1)
		capsule := [][]byte{s[:]}
		for k := range pieces {
			x := d
			x.Address, x.Bytes = d.Address+uint64(k*4096), 4096/uint32(pieces)
			if k == 0 {
				x.Bytes += 4096 % uint32(pieces)
			}
			capsule = append(capsule, nvmftest.Descriptor(x))
		}
		s.SetSGL(nvmf.SGL{Type: nvmf.SGLLastSegment, Subtype: nvmf.SGLOffset, Bytes: uint32(pieces * nvmf.SGLBytes)})
		p.SendCapsule(capsule...)
	}
	nvmftest.Await(t, "four writes have come", func() bool { return e.Target.Open(a.CNTLID, 1) == 6 })
	e.RDMA.Target.Step(0) // the first answer, and what asks for it: then the last write fills the queue again
	e.RDMA.Target.Step(0)
	nvmftest.Await(t, "the first answer is told of", func() bool { return e.Target.Open(a.CNTLID, 1) == 5 })
	passes(t, e, asked)
	e.RDMA.Target.Release()
	for range 6 {
		p.WantStatus("a command of a full queue", p.Next("a full queue").CQE, nvmf.StatusSuccess)
	}
	nvmftest.Await(t, "all are told of", func() bool { return e.Target.Open(a.CNTLID, 1) == 0 })
}

// Answers that follow one another leave in silence but for one in so many; those that do not are told, each.
func TestRDMASilentAnswers(t *testing.T) {
	for _, c := range []struct {
		soon  time.Duration
		least uint64 // completions for 64 commands, their capsules among them
		most  uint64
	}{{time.Hour, 64 + 7, 64 + 48}, {1, 128, 128}} {
		nvmf.SetPatience(t, nvmf.Patience{Soon: c.soon})
		e := overRDMA(t, 1)
		p := e.QueueRDMA(t, e.AdminRDMA(t), 1, 32)
		idle := lent(t, e)
		count := func() uint64 {
			nvmftest.Await(t, "all is back", func() bool { return lent(t, e) == idle })
			return e.Target.RDMAStats()[0].Completions
		}
		s := p.RW(nvmf.IORead, 0, 1)
		m, key := p.Memory(4096)
		s.SetSGL(p.SGL(m, key))
		r := p.Round([]*nvmf.SQE{s}, make([][]byte, 1))
		before := count()
		for range 64 {
			r.Run()
		}
		if n := count() - before; n < c.least || n > c.most {
			t.Errorf("within %v: %d completions for 64 commands, want %d to %d", c.soon, n, c.least, c.most)
		}
	}
}
