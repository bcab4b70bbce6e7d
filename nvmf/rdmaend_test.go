package nvmf_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is how connections over RDMA end, and that memory comes back then, all of it, and not before the card has done with it.

// heldOverRDMA is an engine with a device that holds requests, as namespace 2.
func heldOverRDMA(t *testing.T, o nvmftest.Options) (*nvmftest.Engine, *nvmftest.Held) {
	t.Helper()
	if o.RDMA == nil {
		o.RDMA = &rdmatest.Options{SRQDepth: 4096}
	}
	e := nvmftest.Start(t, o)
	h := e.AddHeld("held", 4096)
	e.AddNamespace(nvmf.NamespaceOptions{BdevName: "held"})
	return e, h
}

// onHeld begins a Read or Write of the held device.
func onHeld(p *nvmftest.RDMAPeer, o nvmf.IOOpcode, blocks uint32) *nvmf.SQE {
	s := new(nvmf.SQE)
	s.Init(uint8(o), p.RW(o, 0, 1).CID(), 2)
	s.SetRW(nvmf.RW{NLB: blocks})
	return s
}

// sendKeyed sends a command with memory of the host's.
func sendKeyed(p *nvmftest.RDMAPeer, s *nvmf.SQE, n int) []byte {
	b, key := p.Memory(n)
	s.SetSGL(p.SGL(b, key))
	p.SendCapsule(s[:])
	return b
}

// lent is how much of the pools is out.
func lent(t *testing.T, e *nvmftest.Engine) (n int) {
	t.Helper()
	all := make([]int, e.Group.Len())
	if err := e.Group.Each(func(r *reactor.Reactor) { all[r.Index()] = r.Memory().Stats().InUse }); err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		n += v
	}
	return n
}

// TARGETS 1.2, "QP error": whatever a work request ends with, the connection ends, that one alone, and nothing of it is left.
func TestRDMAWorkRequestsThatFail(t *testing.T) {
	e := overRDMA(t, 1)
	a := e.AdminRDMA(t)
	other := e.QueueRDMA(t, a, 2, 32)
	for _, c := range []struct {
		kind rdma.CompletionKind
		name string
		op   nvmf.IOOpcode
	}{{rdma.DidSend, "response", nvmf.IORead}, {rdma.DidWrite, "RDMA WRITE", nvmf.IORead}, {rdma.DidRead, "RDMA READ", nvmf.IOWrite}} {
		for s := rdma.StatusLocalLength; s <= rdma.StatusGeneral; s++ {
			p := e.QueueRDMA(t, a, 1, 32)
			e.RDMA.Target.Wound(c.kind, 1, s)
			sendKeyed(p, p.RW(c.op, 0, 4), 4*4096)
			p.WantClosed(fmt.Sprintf("%s that ends with %v", c.name, s))
			p.Close()
			e.AwaitQueues("the queue whose work request failed ends", 1)
		}
	}
	other.WantStatus("another queue", other.Do(other.IO(nvmf.IOFlush), nil), nvmf.StatusSuccess)
	a.WantStatus("the Admin queue", a.Do(a.Cmd(nvmf.AdminKeepAlive), nil), nvmf.StatusSuccess)
	a.Close()
	other.Close()
	e.WantNothingLeft("after work requests that failed")
}

// Hosts that do with their keys what they must not: the card refuses, and the connection ends.
func TestRDMAWrongKeys(t *testing.T) {
	e := overRDMA(t, 1)
	a := e.AdminRDMA(t)
	for _, c := range []struct {
		what string
		sgl  func(p *nvmftest.RDMAPeer, d nvmf.SGL) nvmf.SGL
	}{
		{"a key of nothing", func(_ *nvmftest.RDMAPeer, d nvmf.SGL) nvmf.SGL { d.Key ^= 0x5A5A5A5A; return d }},
		{"an address before the memory", func(_ *nvmftest.RDMAPeer, d nvmf.SGL) nvmf.SGL { d.Address -= 4096; return d }},
		{"memory that ends before", func(_ *nvmftest.RDMAPeer, d nvmf.SGL) nvmf.SGL { d.Address += 4096; return d }},
		{"an address that wraps", func(_ *nvmftest.RDMAPeer, d nvmf.SGL) nvmf.SGL { d.Address = ^uint64(0) - 10; return d }},
		{"a key that was given up", func(p *nvmftest.RDMAPeer, d nvmf.SGL) nvmf.SGL { p.Forget(); return d }},
	} {
		for _, op := range []nvmf.IOOpcode{nvmf.IORead, nvmf.IOWrite} {
			p := e.QueueRDMA(t, a, 1, 32)
			b, key := p.Memory(8192)
			s := p.RW(op, 0, 2)
			s.SetSGL(c.sgl(p, p.SGL(b, key)))
			p.SendCapsule(s[:])
			p.WantClosed(c.what)
			p.Close()
			e.AwaitQueues("the queue of a host with a wrong key ends", 0)
		}
	}
	// An answer that is to invalidate a key which is none.
	p := e.QueueRDMA(t, a, 1, 32)
	b, key := p.Memory(4096)
	d := p.SGL(b, key)
	list := append(nvmftest.Descriptor(d), nvmftest.Descriptor(nvmf.SGL{Type: nvmf.SGLKeyed, Subtype: nvmf.SGLInvalidate, Key: key ^ 0x3C3C3C3C})...)
	s := p.RW(nvmf.IORead, 0, 1)
	s.SetSGL(nvmf.SGL{Type: nvmf.SGLLastSegment, Subtype: nvmf.SGLOffset, Bytes: 32})
	p.SendCapsule(s[:], list)
	p.WantClosed("an answer that invalidates a key which is none")
	p.Close()
	a.Close()
	e.WantNothingLeft("after hosts with wrong keys")
}

// Hosts that break the protocol lose their connection, and nothing else happens.
func TestRDMAHostsThatBreakTheProtocol(t *testing.T) {
	e, held := heldOverRDMA(t, nvmftest.Options{})
	a := e.AdminRDMA(t)
	other := e.QueueRDMA(t, a, 2, 32) // whose receives are shared
	for _, c := range []struct {
		what  string
		does  func(p *nvmftest.RDMAPeer)
		fault bool // the target says so; otherwise the card does
	}{
		{"a capsule shorter than a command", func(p *nvmftest.RDMAPeer) { p.SendCapsule(make([]byte, 63)) }, true},
		{"an empty capsule", func(p *nvmftest.RDMAPeer) { p.SendCapsule() }, true},
		{"a capsule longer than IOCCSZ", func(p *nvmftest.RDMAPeer) { p.SendCapsule(make([]byte, 64+4097)) }, false},
		{"more commands than entries", func(p *nvmftest.RDMAPeer) {
			for range 17 {
				sendKeyed(p, onHeld(p, nvmf.IORead, 1), 4096)
			}
		}, true},
	} {
		was := faults(t, e)
		p := e.QueueRDMA(t, a, 1, 16)
		c.does(p)
		p.WantClosed(c.what)
		p.Close()
		held.End(bdev.StatusOK)
		e.AwaitQueues("the queue of a host that broke the protocol ends", 1)
		if n := faults(t, e) - was; n == 1 != c.fault {
			t.Errorf("%s: counted as %d protocol errors", c.what, n)
		}
	}
	// A command that comes before the answer to the Connect, while that is away.
	for _, qid := range []nvmf.QID{0, 1} {
		p := e.DialRDMA(t, e.RDMA.Addr, qid, 32, a.CNTLID)
		s := p.Fabrics(nvmf.FabricsConnect)
		s.SetConnect(qid, 32, 0, 0)
		d := nvmf.ConnectData{CNTLID: a.CNTLID, SUBNQN: nvmftest.NQN, HOSTNQN: nvmftest.Host}
		p.Begin(s, d.AppendTo(nil))
		for range 8 {
			p.SendCapsule(p.Cmd(nvmf.AdminKeepAlive)[:])
		}
		p.Close() // it may have been closed, or answered: it depends on who was first
	}
	a.WantStatus("the Admin queue", a.Do(a.Cmd(nvmf.AdminKeepAlive), nil), nvmf.StatusSuccess)
	other.WantStatus("another queue", other.Do(other.IO(nvmf.IOFlush), nil), nvmf.StatusSuccess)
	other.Close()
	a.Close()
	e.WantNothingLeft("after hosts that broke the protocol")
}

func faults(t *testing.T, e *nvmftest.Engine) (n uint64) {
	t.Helper()
	stats, err := e.Target.Stats()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stats {
		n += s.ProtocolErrors
	}
	return n
}

// REQUIREMENTS T-19, G-71: a connection ends while the card has its memory, in every way in which that can be. It comes back when the card gives
// it back, and not before; what the host reads, and what it has written, is what it was.
func TestRDMAMemoryIsLentUntilTold(t *testing.T) {
	ends := []struct {
		name string
		end  func(e *nvmftest.Engine, a, p *nvmftest.RDMAPeer)
	}{
		{"the host disconnects", func(_ *nvmftest.Engine, _, p *nvmftest.RDMAPeer) { p.Disconnect() }},
		{"CC.EN 0", func(_ *nvmftest.Engine, a, _ *nvmftest.RDMAPeer) {
			s := a.Fabrics(nvmf.FabricsPropertySet)
			s.SetProperty(nvmf.PropertyCC, 4, 0)
			a.SendCapsule(s[:])
		}},
		{"the listener goes", func(e *nvmftest.Engine, _, _ *nvmftest.RDMAPeer) {
			go func() { _ = e.Target.RemoveListener(e.T.Context(), nvmftest.NQN, nvmftest.RDMAAddress(e.RDMA.Addr)) }()
		}},
		{"the subsystem goes", func(e *nvmftest.Engine, _, _ *nvmftest.RDMAPeer) {
			go func() { _ = e.Target.DeleteSubsystem(e.T.Context(), nvmftest.NQN) }()
		}},
		{"the card's port loses its address", func(e *nvmftest.Engine, _, _ *nvmftest.RDMAPeer) { e.RDMA.Target.LoseAddress(0) }},
	}
	for _, work := range []struct {
		name string
		kind rdmatest.Work
		op   nvmf.IOOpcode
	}{{"reads", rdmatest.Reads, nvmf.IOWrite}, {"writes", rdmatest.Writes, nvmf.IORead}, {"responses", rdmatest.Sends, nvmf.IORead}} {
		for _, c := range ends {
			t.Run(work.name+", "+c.name, func(t *testing.T) {
				e := overRDMA(t, 2)
				e.RDMA.Fabric.Watch()
				a := e.AdminRDMA(t)
				p := e.QueueRDMA(t, a, 1, 32)
				q := e.QueueRDMA(t, a, 2, 32)
				_ = q
				idle := lent(t, e)
				e.RDMA.Target.Withhold(work.kind | rdmatest.Flushes)
				const commands, bytes = 8, 64 << 10
				for range commands {
					sendKeyed(p, p.RW(work.op, 0, bytes/4096), bytes)
				}
				nvmftest.Await(t, "the card has the memory of commands", func() bool { return e.RDMA.Target.Withheld() == 1 && lent(t, e)-idle >= commands*bytes/2 })
				has := lent(t, e) - idle
				c.end(e, a, p)
				nvmftest.Await(t, "the queue closes", func() bool {
					queues, err := e.Target.Queues(nvmftest.NQN)
					if err != nil {
						return true
					}
					for _, i := range queues {
						if i.QID == 1 && i.State != "closing" {
							return false
						}
					}
					return true
				})
				if now := lent(t, e) - idle; now > has || now < has-2*32*4096-64<<10 { // receives of queues that went may be back
					t.Errorf("%d bytes are lent while the card has them, %d before", now, has)
				}
				e.RDMA.Target.Release()
				p.Close()
				q.Close()
				a.Close()
				e.WantNothingLeft("after the card gave everything back")
			})
		}
	}
}

// The halves of a pair share memory: it is not given back because the data of one have come while its queue ends, for those of the other may still come.
func TestRDMAMemoryOfPairsIsLentUntilTold(t *testing.T) {
	e := overRDMA(t, 1)
	a := e.AdminRDMA(t)
	p := e.QueueRDMA(t, a, 1, 32)
	idle := lent(t, e)
	card := e.RDMA.Target
	card.Withhold(rdmatest.Reads | rdmatest.Flushes)
	compare, write := p.RW(nvmf.IOCompare, 0, 1), p.RW(nvmf.IOWrite, 0, 1)
	compare.SetFuse(nvmf.FuseFirst)
	write.SetFuse(nvmf.FuseSecond)
	sendKeyed(p, compare, 4096)
	sendKeyed(p, write, 4096)
	nvmftest.Await(t, "the card has the memory of both", func() bool { return card.Withheld() == 1 && lent(t, e) == idle+2*4096 })
	card.HoldCompletions(true)
	card.Step(0) // the data of the first, of which nobody hears yet
	p.Disconnect()
	nvmftest.Await(t, "the queue closes", func() bool {
		queues, err := e.Target.Queues(nvmftest.NQN)
		return err == nil && slices.ContainsFunc(queues, func(q nvmf.QueueInfo) bool { return q.QID == 1 && q.State == "closing" })
	})
	has, told := lent(t, e), e.Target.RDMAStats()[0].Completions
	card.HoldCompletions(false)
	nvmftest.Await(t, "the first is told of", func() bool { return e.Target.RDMAStats()[0].Completions == told+1 })
	if now := lent(t, e); now != has {
		t.Errorf("%d bytes came back while the card reads into them", has-now)
	}
	card.Release()
	p.Close()
	a.Close()
	e.WantNothingLeft("after the card gave the memory back")
}

// A device that still has a command's memory when its connection is gone keeps it, in the capsule's pages and in the pool, until it answers.
func TestRDMADevicesKeepMemoryOfClosedQueues(t *testing.T) {
	for _, shared := range []int{0, 4096} {
		e, held := heldOverRDMA(t, nvmftest.Options{RDMA: &rdmatest.Options{SRQDepth: shared}})
		a := e.AdminRDMA(t)
		p := e.QueueRDMA(t, a, 1, 32)
		p.Begin(onHeld(p, nvmf.IOWrite, 1), pattern(4096, 1))
		p.Begin(onHeld(p, nvmf.IOWrite, 4), pattern(4*4096, 2))
		sendKeyed(p, onHeld(p, nvmf.IORead, 4), 4*4096)
		held.Want("three commands", 3)
		p.Close()
		nvmftest.Await(t, "the queue pair is gone", func() bool { return e.RDMA.Fabric.Alive().QPs == 2 }) // the Admin queue's two ends
		if n := lent(t, e); n < 9*4096 {
			t.Errorf("%d bytes are lent while a device has nine pages", n)
		}
		held.End(bdev.StatusOK)
		a.Close()
		e.WantNothingLeft("after the device has answered")
	}
}

// Hosts and cards that go without a word.
func TestRDMAHostsThatVanish(t *testing.T) {
	for _, c := range []struct {
		name string
		gone func(e *nvmftest.Engine, p *nvmftest.RDMAPeer)
	}{
		{"the host's card", func(e *nvmftest.Engine, _ *nvmftest.RDMAPeer) { e.RDMA.Host.Cut() }},
		{"the host's queue pair", func(_ *nvmftest.Engine, p *nvmftest.RDMAPeer) { p.Fail() }},
		{"our card, which flushes", func(e *nvmftest.Engine, _ *nvmftest.RDMAPeer) { e.RDMA.Target.Remove(0, false) }},
		{"our card, which does not", func(e *nvmftest.Engine, _ *nvmftest.RDMAPeer) { e.RDMA.Target.Remove(0, true) }},
		{"the link, for long", func(e *nvmftest.Engine, _ *nvmftest.RDMAPeer) { e.RDMA.Target.PortDown(0) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, held := heldOverRDMA(t, nvmftest.Options{Reactors: 2})
			a := e.AdminRDMA(t)
			p := e.QueueRDMA(t, a, 1, 32)
			for range 4 {
				sendKeyed(p, onHeld(p, nvmf.IORead, 4), 4*4096)
				p.Begin(onHeld(p, nvmf.IOWrite, 1), pattern(4096, 1))
			}
			held.Want("eight commands", 8)
			c.gone(e, p)
			held.End(bdev.StatusOK)
			nvmftest.Await(t, "the queue ends", func() bool {
				e.RDMA.Target.Expire()
				queues, err := e.Target.Queues(nvmftest.NQN)
				for _, q := range queues {
					if q.QID == 1 {
						return false
					}
				}
				return err == nil
			})
			e.RDMA.Target.PortUp(0)
		})
	}
}

// A host that takes no responses holds memory, and loses its connection when its time is over.
func TestRDMAHostThatTakesNothing(t *testing.T) {
	nvmf.SetPatience(t, nvmf.Patience{Data: short})
	e := overRDMA(t, 1)
	a := e.AdminRDMA(t)
	p, why := e.TryRDMA(t, e.RDMA.Addr, nvmftest.RDMAOptions{Request: nvmf.RDMARequest{QID: 1, HRQSIZE: 32, HSQSIZE: 31}, IRD: 16, Responses: -1})
	if p == nil {
		t.Fatal(why)
	}
	s := p.Fabrics(nvmf.FabricsConnect)
	s.SetConnect(1, 32, 0, 0)
	d := nvmf.ConnectData{CNTLID: a.CNTLID, SUBNQN: nvmftest.NQN, HOSTNQN: nvmftest.Host}
	p.Begin(s, d.AppendTo(nil))
	p.WantClosed("a host that takes no responses")
	a.WantStatus("the Admin queue", a.Do(a.Cmd(nvmf.AdminKeepAlive), nil), nvmf.StatusSuccess)
}
