package nvmf_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

// A host names the length of its data. What no buffer holds is refused before one is asked for.
func TestDataLongerThanAnyBufferIsRefused(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{})
	a := nvmftest.Admin(t, e.Addr)
	p := nvmftest.Queue(t, e.Addr, a, 1, 32)
	for _, o := range []nvmf.IOOpcode{nvmf.IODatasetManagement, nvmf.IOReservationRegister, nvmf.IOReservationAcquire, nvmf.IOReservationRelease, nvmf.IOWrite, nvmf.IOCompare, nvmf.IOCopy} {
		s := p.IO(o)
		p.Send(p.Capsule(nvmftest.Wants(s, 1<<31), nil))
		if cqe, _ := p.Completion(s); cqe.Status.OK() {
			t.Errorf("opcode %#x with 2 GiB of data: success", uint8(o))
		}
	}
	s := a.Cmd(nvmf.AdminSetFeatures)
	a.Send(a.Capsule(nvmftest.Wants(s, 1<<31), nil))
	cqe, _ := a.Completion(s)
	a.WantStatus("Set Features with 2 GiB", cqe, nvmf.StatusInvalidField|nvmf.DNR)
	c := nvmftest.Open(t, e.Addr, 0)
	s = c.Fabrics(nvmf.FabricsConnect)
	s.SetConnect(0, 32, 0, 0)
	c.Send(c.Capsule(nvmftest.Wants(s, 1<<31), nil))
	cqe, _ = c.Completion(s)
	c.WantStatus("Connect with 2 GiB", cqe, nvmf.StatusSGLLength|nvmf.DNR)
}

// The connection of a Connect goes from reactor to reactor: nothing else may be on it, and it may end meanwhile.
func TestConnectionsThatEndWhileTheyTravel(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{Reactors: 2})
	connect := func(p *nvmftest.TCPPeer) []byte {
		s := p.Fabrics(nvmf.FabricsConnect)
		s.SetConnect(0, 32, 0, 0)
		d := nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: nvmftest.NQN, HOSTNQN: nvmftest.Host}
		return p.Capsule(s, d.AppendTo(nil))
	}
	p := nvmftest.Open(t, e.Addr, 0)
	p.Send(append(connect(p), p.Capsule(p.Cmd(nvmf.AdminKeepAlive), nil)...))
	p.WantTerm("a command behind Connect", nvmf.ErrSequence)
	p.Close()
	for range 50 {
		p := nvmftest.Dial(t, e.Addr)
		p.Send(append(nvmf.ICReq{}.AppendTo(nil), connect(p)...))
		p.Reset()
	}
	e.WantNothingLeft("after connections ended while they travelled")
}

// A queue that closes while its commands are in any state ends when the device has let go of their memory, and not before.
func TestQueuesCloseInEveryState(t *testing.T) {
	z, big, huge := make([]byte, 4096), make([]byte, 64<<10), make([]byte, 1<<20)
	half := func(p *nvmftest.TCPPeer, n int) {
		b, cut := newPair(p.Peer, 0, 4096, z, z).bytes(p, 8192)
		p.Send(b[:cut+n])
	}
	for _, c := range []struct {
		why  string
		send func(p *nvmftest.Peer)
		tcp  func(p *nvmftest.TCPPeer) // what cannot be over RDMA: a part of a capsule, or of data
		held int                       // requests at the device; -1 is some
	}{
		{why: "a write from the capsule at the device", held: 1, send: func(p *nvmftest.Peer) { p.Begin(p.RW(nvmf.IOWrite, 0, 1), z) }},
		{why: "a write whose data was asked for at the device", held: 1, send: func(p *nvmftest.Peer) {
			p.BeginLate(p.RW(nvmf.IOWrite, 0, 16), big)
			p.Asked(1)
			p.Give()
		}},
		{why: "a write whose data was asked for", send: func(p *nvmftest.Peer) {
			p.BeginLate(p.RW(nvmf.IOWrite, 0, 16), big)
			p.Asked(1)
		}},
		{why: "a read at the device", held: 1, send: func(p *nvmftest.Peer) { p.BeginRead(p.RW(nvmf.IORead, 0, 256), 1<<20) }},
		{why: "reads for which there is no memory", held: -1, send: func(p *nvmftest.Peer) {
			for range 31 {
				p.BeginRead(p.RW(nvmf.IORead, 0, 256), 1<<20)
			}
		}},
		{why: "writes for which there is no memory", send: func(p *nvmftest.Peer) {
			for range 31 {
				p.BeginLate(p.RW(nvmf.IOWrite, 0, 256), huge)
			}
			p.Asked(1)
		}},
		{why: "half of the data of a write has arrived", tcp: func(p *nvmftest.TCPPeer) {
			p.BeginLate(p.RW(nvmf.IOWrite, 0, 32), huge[:128<<10])
			r := p.WantR2T("write")
			p.Send(p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, Last: true}, huge[:128<<10])[:70000])
		}},
		{why: "half of a pair", send: func(p *nvmftest.Peer) { p.Begin(newPair(p, 0, 4096, z, z).first, z) }},
		{why: "half of a pair that is not in its capsule", send: func(p *nvmftest.Peer) { p.BeginLate(newPair(p, 0, 4096, z, z).first, z) }},
		{why: "half of half a pair", tcp: func(p *nvmftest.TCPPeer) { half(p, -1000) }},
		{why: "one and a half of a pair", tcp: func(p *nvmftest.TCPPeer) { half(p, 1000) }},
		{why: "a pair at the device", held: 1, send: func(p *nvmftest.Peer) { newPair(p, 0, 4096, z, z).begin() }},
		{why: "a pair whose data was asked for at the device", held: 1, send: func(p *nvmftest.Peer) {
			newPair(p, 0, 4096, big, big).beginLate()
			p.Asked(2)
			p.Give()
		}},
		{why: "a pair of which the data of one half and a part of the other's has arrived", tcp: func(p *nvmftest.TCPPeer) {
			newPair(p.Peer, 0, 4096, big, big).beginLate()
			r, s := p.WantR2T("the first"), p.WantR2T("the second")
			p.Send(p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, Last: true}, big))
			p.Send(p.H2C(nvmf.DataPDU{CCCID: s.CCCID, TTAG: s.TTAG, Last: true}, big)[:40000])
		}},
		{why: "pairs for which there is no memory", send: func(p *nvmftest.Peer) {
			for range 10 {
				p.BeginLate(p.RW(nvmf.IOWrite, 0, 256), huge)
				newPair(p, 0, 4096, big, big).beginLate()
			}
			p.Asked(1)
		}},
		{why: "a Verify and a Dataset Management", held: 2, send: func(p *nvmftest.Peer) {
			p.Begin(p.RW(nvmf.IOVerify, 0, 100), nil)
			s := p.IO(nvmf.IODatasetManagement)
			s.SetDSM(1, true)
			p.Begin(s, nvmf.DSMRange{NLB: 1}.AppendTo(nil))
		}},
	} {
		for _, how := range []string{"the host resets", "the controller is disabled", "the host is removed"} {
			t.Run(c.why+", "+how, func(t *testing.T) {
				o := nvmftest.Options{Reactors: 2, MemoryBytes: 16 << 20, Empty: true, Subsystem: func(o *nvmf.SubsystemOptions) { o.AllowAnyHost = false }}
				if c.tcp != nil {
					e, d := closing(t, nvmftest.Start(t, o))
					a := nvmftest.Admin(t, e.Addr)
					p := nvmftest.Queue(t, e.Addr, a, 1, 32)
					c.tcp(p)
					closes(t, e, d, a.Peer, p.Peer, c.why, how, c.held)
					return
				}
				nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
					at := start(o)
					e, d := closing(t, at.Engine)
					a := at.Admin()
					p := at.Queue(a, 1, 32)
					c.send(p)
					closes(t, e, d, a, p, c.why, how, c.held)
				})
			})
		}
	}
}

// closing gives an engine a device that holds, and one host.
func closing(t *testing.T, e *nvmftest.Engine) (*nvmftest.Engine, *nvmftest.Held) {
	t.Helper()
	if err := e.Target.AddHost(nvmftest.NQN, nvmftest.Host, nvmf.HostKeys{}); err != nil {
		t.Fatal(err)
	}
	d := e.AddHeld("held", 4096)
	e.AddNamespace(nvmf.NamespaceOptions{BdevName: "held"})
	return e, d
}

// closes lets a host's queues close, and sees that nothing is left when the device has let go.
func closes(t *testing.T, e *nvmftest.Engine, d *nvmftest.Held, a, p *nvmftest.Peer, why, how string, held int) {
	t.Helper()
	if held >= 0 {
		d.Want(why, held)
	} else {
		nvmftest.Await(t, "the device has a request", func() bool { return d.Count() > 0 })
	}
	gone := make(chan struct{})
	switch how {
	case "the host resets":
		p.Reset()
		a.Reset()
		close(gone)
	case "the controller is disabled":
		a.WantStatus("CC.EN 0", a.SetProperty(nvmf.PropertyCC, 0), nvmf.StatusSuccess)
		a.Close()
		close(gone)
	default:
		go func() {
			defer close(gone)
			if err := e.Target.RemoveHost(t.Context(), nvmftest.NQN, nvmftest.Host); err != nil {
				t.Error(err)
			}
		}()
		a.WantClosed("the Admin queue of a host that was removed")
	}
	nvmftest.Await(t, "the device has no requests any more", func() bool {
		d.End(bdev.StatusOK)
		return d.Count() == 0
	})
	nvmftest.Take(t, how, gone)
	nvmftest.Await(t, "the queues close", func() bool {
		d.End(bdev.StatusOK)
		s, err := e.Target.Stats()
		return err != nil || s[0].CurrentIOQueues+s[1].CurrentIOQueues == 0
	})
	e.WantNothingLeft(why)
}

// A host that stalls keeps its own commands waiting, and nobody else's.
func TestAHostThatStallsHoldsUpNoOther(t *testing.T) {
	for _, how := range []nvmf.IOOpcode{nvmf.IOWrite, nvmf.IORead} {
		t.Run(fmt.Sprintf("opcode %d", how), func(t *testing.T) {
			e := nvmftest.Start(t, nvmftest.Options{MemoryBytes: 16 << 20})
			a := nvmftest.Admin(t, e.Addr)
			stalled := nvmftest.Queue(t, e.Addr, a, 1, 128)
			var b []byte
			for range 100 { // it never sends the data of these writes, or never takes that of these reads
				b = append(b, stalled.Capsule(nvmftest.Wants(stalled.RW(how, 0, 256), 1<<20), nil)...)
			}
			stalled.Send(b)
			p := nvmftest.Queue(t, e.Addr, a, 2, 32)
			for i := range 20 {
				write(t, p, uint64(i), pattern(4096, uint64(i)), true)
				write(t, p, 256, pattern(1<<20, uint64(i)), false)
				cqe, _ := p.Read(p.RW(nvmf.IORead, 256, 256), 1<<20)
				p.WantStatus("read beside a stalled host", cqe, nvmf.StatusSuccess)
			}
		})
	}
}

// However many hosts stall, those that do not get what they need: at once if the ones that stall are not more than the pool has room
// for, otherwise when the first of these have lost their connections.
func TestManyHostsThatStallHoldUpNoOther(t *testing.T) {
	for _, c := range []struct {
		how    nvmf.IOOpcode
		stall  int
		bytes  int
		memory int
		wanted time.Duration
	}{
		{nvmf.IOWrite, 12, 1 << 20, 32 << 20, time.Hour},
		{nvmf.IORead, 12, 1 << 20, 32 << 20, time.Hour},
		{nvmf.IOWrite, 12, 128 << 10, 32 << 20, time.Hour},
		{nvmf.IORead, 40, 128 << 10, 32 << 20, time.Hour},
		{nvmf.IOWrite, 40, 1 << 20, 16 << 20, time.Second},
		{nvmf.IORead, 40, 1 << 20, 16 << 20, time.Second},
	} {
		t.Run(fmt.Sprintf("opcode %d of %d bytes, %d hosts", c.how, c.bytes, c.stall), func(t *testing.T) {
			nvmf.SetPatience(t, nvmf.Patience{Data: time.Hour, Wanted: c.wanted})
			e := nvmftest.Start(t, nvmftest.Options{MemoryBytes: c.memory})
			a := nvmftest.Admin(t, e.Addr)
			p := nvmftest.Queue(t, e.Addr, a, 100, 32)
			for i := range c.stall {
				s := nvmftest.Queue(t, e.Addr, a, nvmf.QID(i+1), 128)
				var b []byte
				for range 64 { // it never sends the data of these writes, or never takes that of these reads
					b = append(b, s.Capsule(nvmftest.Wants(s.RW(c.how, 0, uint32(c.bytes/4096)), c.bytes), nil)...)
				}
				s.Send(b)
				write(t, p, 5, pattern(4096, uint64(i)), true) // by now they are there
			}
			for i := range 20 {
				for _, n := range []int{8192, 64 << 10, 1 << 20} {
					write(t, p, 256, pattern(n, uint64(i)), false)
					cqe, got := p.Read(p.RW(nvmf.IORead, 256, uint32(n/4096)), n)
					p.WantStatus("read beside stalled hosts", cqe, nvmf.StatusSuccess)
					if !bytes.Equal(got, pattern(n, uint64(i))) {
						t.Error("read something else than was written")
					}
				}
			}
			s, err := e.Target.Stats()
			if err != nil {
				t.Fatal(err)
			}
			if n := s[0].CurrentIOQueues; c.wanted == time.Hour && n != c.stall+1 || n < 2 {
				t.Errorf("%d queues are left of %d", n, c.stall+1)
			}
		})
	}
}

// A write in its capsule stops its connection when there is no memory. The data of earlier writes, which hold the memory, is behind
// it in the stream.
func TestAWriteInItsCapsuleBehindWritesThatHoldAllMemory(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{MemoryBytes: 8 << 20})
	a := nvmftest.Admin(t, e.Addr)
	const queues, each, pairs = 16, 2, 3
	const all = each + 4 + 2*pairs
	var ps []*nvmftest.TCPPeer
	var b []byte
	for i := range queues {
		p := nvmftest.Queue(t, e.Addr, a, nvmf.QID(i+1), 32)
		b = b[:0]
		for range each {
			b = append(b, p.Capsule(nvmftest.Wants(p.RW(nvmf.IOWrite, 0, 256), 1<<20), nil)...)
		}
		for range 4 {
			b = append(b, p.Capsule(p.RW(nvmf.IOWrite, 300, 2), make([]byte, 8192))...)
		}
		for range pairs { // the second stops the connection while the first has what there was beside the pool
			x, _ := newPair(p.Peer, 300, 4096, make([]byte, 8192), make([]byte, 8192)).bytes(p, 8192)
			b = append(b, x...)
		}
		p.Send(b)
		ps = append(ps, p)
	}
	data := make([]byte, 128<<10)
	done := make([]int, queues)
	for left := queues; left > 0; {
		for i, p := range ps {
			if done[i] == all {
				continue
			}
			pdu, err := p.Poll(10 * time.Millisecond)
			switch {
			case err != nil:
			case pdu.Type == nvmf.PDUR2T:
				r, _ := nvmf.DecodeR2T(pdu.Header)
				for at := 0; at < 1<<20; at += len(data) {
					p.Send(p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, DATAO: uint32(at), Last: at+len(data) == 1<<20}, data))
				}
			case pdu.Type == nvmf.PDUCapsuleResp:
				cqe, _ := nvmf.DecodeCapsuleResp(pdu.Header)
				p.WantStatus("write", cqe, nvmf.StatusSuccess)
				if done[i]++; done[i] == all {
					left--
				}
			default:
				t.Fatalf("%v", pdu.Type)
			}
		}
	}
}

// A namespace that is removed while a command is in flight on it waits for that command, whatever else is changed at the same time.
func TestANamespaceIsRemovedWhileOtherThingsChange(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Reactors: 2, Empty: true})
		d := e.AddHeld("held", 4096)
		a := e.Admin()
		p := e.Queue(a, 1, 32)
		ctx := t.Context()
		for range 40 {
			id := e.AddNamespace(nvmf.NamespaceOptions{BdevName: "held"})
			s := p.RW(nvmf.IORead, 0, 1)
			p.BeginRead(s, 4096)
			d.Want("a read", 1)
			done := make(chan error, 3)
			stop := make(chan struct{})
			go func() {
				for {
					select {
					case <-stop:
						done <- nil
						return
					default:
					}
					if err := e.Target.AllowAnyHost(nvmftest.NQN, true); err != nil {
						done <- err
						return
					}
				}
			}()
			removed := make(chan error, 1)
			go func() { removed <- e.Target.RemoveNamespace(ctx, nvmftest.NQN, id) }()
			// Past its end there is no block, as long as there is a namespace.
			nvmftest.Await(t, "the namespace refuses commands", func() bool {
				cqe, _ := p.Read(p.RW(nvmf.IORead, 1<<40, 1), 4096)
				return cqe.Status == nvmf.StatusInvalidNamespace|nvmf.DNR
			})
			select {
			case err := <-removed:
				t.Fatalf("removed with a read in flight: %v", err)
			default:
			}
			close(stop)
			if err := nvmftest.Take(t, "the changes of the subsystem end", done); err != nil {
				t.Fatal(err)
			}
			d.End(bdev.StatusOK)
			cqe, _ := p.Completion(s)
			p.WantStatus("a read on a namespace that went", cqe, nvmf.StatusInvalidNamespace|nvmf.DNR)
			if err := nvmftest.Take(t, "the removal ends", removed); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Hosts come and go while subsystems and listeners do, and while the target stops.
func TestHostsConnectWhileAllIsTakenAway(t *testing.T) {
	const nqn = "nqn.2026-01.io.pollux:passing"
	for range 4 {
		e := nvmftest.Start(t, nvmftest.Options{Reactors: 2})
		stop := make(chan struct{})
		var wait sync.WaitGroup
		for range 4 {
			wait.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					passing(e.Addr, nqn, nvmftest.NQN)
				}
			})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for range 5 {
			if err := e.Target.CreateSubsystem(nvmf.SubsystemOptions{NQN: nqn, AllowAnyHost: true}); err != nil {
				t.Fatal(err)
			}
			if err := e.Target.AddListener(nqn, nvmftest.Address(e.Addr), nvmf.ANAOptimized); err != nil {
				t.Fatal(err)
			}
			var w sync.WaitGroup
			for range 2 {
				w.Go(func() { _ = e.Target.DeleteSubsystem(ctx, nqn) })
				w.Go(func() { _ = e.Target.AllowAnyHost(nqn, true) })
			}
			w.Wait()
		}
		if err := e.Target.Stop(ctx); err != nil {
			t.Error(err)
		}
		close(stop)
		wait.Wait()
	}
}

// passing plays hosts that connect to subsystems and take what comes.
func passing(addr netip.AddrPort, nqns ...string) {
	for _, nqn := range nqns {
		c, err := net.DialTimeout("tcp", addr.String(), time.Second)
		if err != nil {
			return
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		var s nvmf.SQE
		s.InitFabrics(nvmf.FabricsConnect, 1)
		s.SetConnect(0, 32, 0, 0)
		d := nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: nqn, HOSTNQN: nvmftest.Host}
		s.SetSGL(nvmf.SGL{Type: nvmf.SGLDataBlock, Subtype: nvmf.SGLOffset, Bytes: 1024})
		_, _ = c.Write(nvmf.ICReq{}.AppendTo(nil))
		b := make([]byte, 128)
		if _, err := io.ReadFull(c, b); err == nil {
			_, _ = c.Write(d.AppendTo(nvmf.AppendCapsuleCmd(nil, &s, 1024, 0, 4)))
			_, _ = io.ReadFull(c, b[:24])
		}
		_ = c.Close()
	}
}
