package nvmf_test

import (
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

// short is a patience that ends within a test.
const short = 300 * time.Millisecond

func TestDataThatStaysAwayEndsTheConnection(t *testing.T) {
	nvmf.SetPatience(t, nvmf.Patience{Data: short})
	e := nvmftest.Start(t, nvmftest.Options{})
	a := nvmftest.Admin(t, e.Addr)
	for _, c := range []struct {
		why  string
		sent func(p *nvmftest.TCPPeer, r nvmf.R2T) []byte
	}{
		{"nothing came", func(*nvmftest.TCPPeer, nvmf.R2T) []byte { return nil }},
		{"half of a header came", func(p *nvmftest.TCPPeer, r nvmf.R2T) []byte {
			return p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, Last: true}, make([]byte, 64<<10))[:12]
		}},
		{"half of the data came", func(p *nvmftest.TCPPeer, r nvmf.R2T) []byte {
			return p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, Last: true}, make([]byte, 64<<10))[:40000]
		}},
		{"the first PDU of two came", func(p *nvmftest.TCPPeer, r nvmf.R2T) []byte {
			return p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG}, make([]byte, 32<<10))
		}},
	} {
		t.Run(c.why, func(t *testing.T) {
			p := nvmftest.Queue(t, e.Addr, a, 1, 32)
			p.Send(p.Capsule(nvmftest.Wants(p.RW(nvmf.IOWrite, 0, 16), 64<<10), nil))
			p.Send(c.sent(p, p.WantR2T("write")))
			p.WantClosed("a host that does not send the data of its write")
			a.WantStatus("the Admin queue", a.Do(a.Cmd(nvmf.AdminKeepAlive), nil), nvmf.StatusSuccess)
			e.AwaitQueues("the queue of the host that sends no data ends", 0)
		})
	}
	a.Close()
	e.WantNothingLeft("after hosts that sent no data")
}

// TCP Transport Specification 1.0, "Error Handling Model": after a C2HTermReq nothing is read any more, and a host that does not close
// is closed.
func TestAHostThatDoesNotCloseAfterATermReqIsClosed(t *testing.T) {
	nvmf.SetPatience(t, nvmf.Patience{Terminate: short})
	e := nvmftest.Start(t, nvmftest.Options{})
	a := nvmftest.Admin(t, e.Addr)
	p := nvmftest.Queue(t, e.Addr, a, 1, 32)
	b := p.Capsule(nvmftest.Wants(p.RW(nvmf.IOWrite, 0, 16), 64<<10), nil)
	p.Send(b)
	r := p.WantR2T("write")
	p.Send(p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG + 1, Last: true}, make([]byte, 512)))
	p.WantTerm("data for another TTAG", nvmf.ErrTTAG)
	p.Send(p.H2C(nvmf.DataPDU{CCCID: r.CCCID, TTAG: r.TTAG, Last: true}, make([]byte, 64<<10)))
	p.WantClosed("the host after a C2HTermReq")
	a.Close()
	e.WantNothingLeft("after a host that did not close")
}

// Base Specification 2.0, "Keep Alive": when it expires the controller fails and its connections end. What a device still has of the host
// keeps its memory and the controller's identifier until it ends.
func TestKeepAliveExpiresWithCommandsAtTheDevice(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{
			Reactors: 2, Empty: true,
			Transport: func(o *nvmf.TransportOptions) { o.MinKATO = 100 },
			Subsystem: func(o *nvmf.SubsystemOptions) { o.MinCNTLID, o.MaxCNTLID = 7, 7 },
		})
		d := e.AddHeld("held", 4096)
		e.AddNamespace(nvmf.NamespaceOptions{BdevName: "held"})
		connect := func() (*nvmftest.Peer, nvmf.CQE) {
			p := e.Open(0, 32, 0)
			return p, p.ConnectAs(0, 32, 0, 100, host())
		}
		a, cqe := connect()
		a.WantStatus("Connect", cqe, nvmf.StatusSuccess)
		a.Enable()
		var queues []*nvmftest.Peer
		for qid := nvmf.QID(1); qid <= 2; qid++ { // one on each reactor
			p := e.Queue(a, qid, 32)
			x := newPair(p, 0, 4096, make([]byte, 16<<10), make([]byte, 16<<10))
			x.beginLate()
			p.BeginRead(p.RW(nvmf.IORead, 0, 256), 1<<20)
			p.Begin(p.RW(nvmf.IOWrite, 0, 1), make([]byte, 4096))
			p.Asked(2)
			p.Give()
			queues = append(queues, p)
		}
		for _, p := range append(queues, a) {
			p.WantClosed("a connection of a host that is silent")
		}
		d.Want("what the host left behind", 6)
		csts, last, ok := e.Target.ControllerState(nvmftest.NQN, 7)
		if !ok || csts&nvmf.CSTSCFS == 0 || last.Status.Code() != nvmf.StatusKeepAliveExpired {
			t.Errorf("controller there: %t, CSTS %#x, last error %v: want CFS and 0/19", ok, csts, last.Status)
		}
		refused, cqe := connect()
		refused.WantStatus("Connect while the device still has commands of the old controller", cqe, nvmf.StatusConnectBusy)
		refused.Close()
		d.End(bdev.StatusOK)
		e.WantNothingLeft("after the device let go")
		b, cqe := connect()
		b.WantStatus("Connect when they have ended", cqe, nvmf.StatusSuccess)
		if b.CNTLID != 7 {
			t.Errorf("CNTLID %d", b.CNTLID)
		}
	})
}

// Base Specification 2.0, "Shutdown Processing": the host hears that a shutdown is complete, and that it went wrong if what it wrote
// could not be made durable. One namespace that fails does not keep the others from being flushed.
func TestAFlushThatFailsAtShutdown(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		for _, s := range []bdev.Status{bdev.StatusOK, bdev.StatusIO} {
			e := start(nvmftest.Options{Empty: true})
			first, second := e.AddHeld("first", 4096), e.AddHeld("second", 4096)
			e.AddNamespace(nvmf.NamespaceOptions{BdevName: "first"})
			e.AddNamespace(nvmf.NamespaceOptions{BdevName: "second"})
			a := e.Admin()
			p := e.Queue(a, 1, 32)
			a.WantStatus("shutdown", a.SetProperty(nvmf.PropertyCC, uint64(nvmf.CCEnable.WithSHN(nvmf.SHNNormal))), nvmf.StatusSuccess)
			p.WantClosed("an I/O queue at the shutdown")
			first.Want("a flush", 1)
			if v := nvmf.CSTS(a.Property(nvmf.PropertyCSTS, 4)); v&nvmf.CSTSShutMask != nvmf.CSTSShutting {
				t.Errorf("CSTS %#x while a device flushes", v)
			}
			first.End(s)
			second.Want("a flush", 1)
			second.End(bdev.StatusOK)
			var v nvmf.CSTS
			nvmftest.Await(t, "the shutdown is done", func() bool {
				v = nvmf.CSTS(a.Property(nvmf.PropertyCSTS, 4))
				return v&nvmf.CSTSShutMask == nvmf.CSTSShutDone
			})
			if failed := v&nvmf.CSTSCFS != 0; failed != (s != bdev.StatusOK) {
				t.Errorf("the flush ended %v: CSTS %#x", s, v)
			}
			a.Close()
			e.WantNothingLeft("after a shutdown")
		}
	})
}

// Base Specification 2.0, "Abort command": DW0 bit 0 says whether the command was left alone.
func TestAbortInEveryState(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Reactors: 2, Empty: true, MemoryBytes: 16 << 20})
		d := e.AddHeld("held", 4096)
		e.AddNamespace(nvmf.NamespaceOptions{BdevName: "held"})
		a := e.Admin()
		p := e.Queue(a, 1, 32)
		aborts := func(why string, qid nvmf.QID, s *nvmf.SQE, want bool) {
			t.Helper()
			if abort(a, qid, s) != want {
				t.Errorf("%s: aborted %t, want %t", why, !want, want)
			}
		}
		ends := func(why string, s *nvmf.SQE, want nvmf.Status) {
			t.Helper()
			cqe, _ := p.Completion(s)
			p.WantStatus(why, cqe, want)
		}
		big := func(o nvmf.IOOpcode) *nvmf.SQE {
			s := p.RW(o, 0, 256)
			if o == nvmf.IOWrite {
				p.BeginLate(s, make([]byte, 1<<20))
			} else {
				p.BeginRead(s, 1<<20)
			}
			return s
		}

		// Waiting for its data: it ends when that is there, for what the host has been asked for it sends.
		w := p.RW(nvmf.IOWrite, 0, 16)
		p.BeginLate(w, make([]byte, 64<<10))
		p.Asked(1)
		aborts("a write that waits for its data", 1, w, true)
		p.Give()
		ends("a write that waited for its data", w, nvmf.StatusAbortRequested)
		if n := d.Count(); n != 0 {
			t.Errorf("the device has %d requests of an aborted write", n)
		}

		// Waiting for memory, of which reads at the device have the queue's share.
		var reads []*nvmf.SQE
		for range 8 {
			reads = append(reads, big(nvmf.IORead))
		}
		waiting := []*nvmf.SQE{big(nvmf.IORead), big(nvmf.IOWrite)}
		waitOpen(t, e.Engine, 10)
		for _, s := range waiting {
			aborts("a command that waits for memory", 1, s, true)
			ends("a command that waited for memory", s, nvmf.StatusAbortRequested)
		}

		for half := range 2 {
			x := newPair(p, 0, 4096, make([]byte, 64<<10), make([]byte, 64<<10))
			x.begin()
			waitOpen(t, e.Engine, 10)
			if half == 0 {
				aborts("the first of a pair that waits for memory", 1, x.first, true)
				x.want(t, "a pair that waited for memory", nvmf.StatusAbortRequested, fusedFailed)
			} else {
				aborts("the second of a pair that waits for memory", 1, x.second, true)
				x.want(t, "a pair that waited for memory", fusedFailed, nvmf.StatusAbortRequested)
			}
		}

		// At the device, and those behind them that wait.
		for i := len(reads) - 1; i >= 0; i-- {
			aborts("a read", 1, reads[i], true)
			ends("a read", reads[i], nvmf.StatusAbortRequested)
		}

		// Answered.
		aborts("a command that was answered", 1, w, false)
		aborts("a command of a queue that there is not", 9, w, false)

		// An Asynchronous Event Request.
		aer := a.Cmd(nvmf.AdminAER)
		a.Begin(aer, nil)
		c := a.Cmd(nvmf.AdminAbort)
		c.SetAbort(0, aer.CID())
		a.Begin(c, nil)
		cqe, _ := a.Completion(aer)
		a.WantStatus("an event request that was aborted", cqe, nvmf.StatusAbortRequested)
		if cqe, _ = a.Completion(c); !cqe.Status.OK() || cqe.DW0&1 != 0 {
			t.Errorf("Abort of an event request: %v, DW0 %#x", cqe.Status, cqe.DW0)
		}
		aborts("an event request that was answered", 0, aer, false)
		p.Close()
		a.Close()
		e.WantNothingLeft("after commands that were aborted")
	})
}

// Base Specification 2.0, "Submission Queue Flow Control Negotiation": with flow control SQHD goes round the queue by one for each
// command; without it SQHD is FFFFh in the answer to Connect, and means nothing after it.
func TestSQHD(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{})
		a := e.Admin()
		const entries = 5
		for _, off := range []bool{false, true} {
			d, cattr, want := host(), uint8(0), uint16(1)
			d.CNTLID = a.CNTLID
			p := e.Open(1, entries, a.CNTLID)
			if off {
				cattr, want = nvmf.CATTRNoFlow, 0xFFFF
			}
			cqe := p.ConnectAs(1, entries, cattr, 0, d)
			p.WantStatus("Connect", cqe, nvmf.StatusSuccess)
			if cqe.SQHD != want {
				t.Errorf("flow control off %t: SQHD %#x in the answer to Connect, want %#x", off, cqe.SQHD, want)
			}
			head := uint16(1)
			for i := range 3 * entries {
				head = (head + 1) % entries
				if i%3 == 0 {
					cqe, _ = p.Read(p.RW(nvmf.IORead, 0, 1), 4096)
				} else {
					cqe = p.Do(p.IO(nvmf.IOFlush), nil)
				}
				p.WantStatus("command", cqe, nvmf.StatusSuccess)
				if !off && cqe.SQHD != head {
					t.Errorf("command %d: SQHD %d, want %d", i, cqe.SQHD, head)
				}
			}
			p.Close()
			e.AwaitQueues("the queue ends", 0)
		}
	})
}

// Base Specification 2.0, "Submission Queue Flow Control Negotiation": with it a read has a completion of its own; without it its last data stand for that.
func TestReadsEndWithTheirData(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{})
	a := nvmftest.Admin(t, e.Addr)
	for qid, cattr := range map[nvmf.QID]uint8{1: 0, 2: nvmf.CATTRNoFlow} {
		p := nvmftest.Open(t, e.Addr, 0)
		d := host()
		d.CNTLID = a.CNTLID
		p.WantStatus("Connect", p.ConnectAs(qid, 32, cattr, 0, d), nvmf.StatusSuccess)
		s := p.RW(nvmf.IORead, 0, 1)
		p.BeginRead(s, 4096)
		pdu := p.Recv("read")
		if pdu.Type != nvmf.PDUC2HData || pdu.Flags&nvmf.FlagSuccess != 0 != (cattr != 0) {
			t.Fatalf("CATTR %d: %v with flags %#x", cattr, pdu.Type, pdu.Flags)
		}
	}
}
