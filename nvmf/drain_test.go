package nvmf_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

// draining is a Drain under way.
type draining struct {
	cancel context.CancelFunc
	end    chan error
}

// startDrain begins a drain, and returns when it has looked so often: the first time when all reactors know of it, the second time,
// where no host is to be moved, when the queues are paused.
func startDrain(e *nvmftest.Engine, looks int) *draining {
	ctx, cancel := context.WithCancel(context.Background())
	d := &draining{cancel, make(chan error, 1)}
	looked := make(chan struct{})
	go func() {
		d.end <- e.Target.Drain(ctx, func(int, int) {
			if looks--; looks == 0 {
				close(looked)
			}
		})
	}()
	nvmftest.Take(e.T, "the drain looks at the queues", looked)
	return d
}

// wantRefused wants a new connection to be refused, over TCP to be closed before anything is said on it.
func wantRefused(t *testing.T, e *nvmftest.Portal) {
	t.Helper()
	if e.RDMA != nil {
		o := nvmftest.RDMAOptions{Request: nvmf.RDMARequest{HRQSIZE: 32, HSQSIZE: 31}, IRD: 16}
		if p, why := e.TryRDMA(t, e.RDMA.Addr, o); p != nil || why != nvmf.RDMANoResources {
			t.Errorf("a new connection is answered with %v", why)
		}
		return
	}
	c, err := net.Dial("tcp", e.Addr.String())
	if err != nil {
		return
	}
	defer c.Close()
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("a new connection is served: %d bytes", n)
	}
}

// held is an engine whose one host has a write at a device that holds it, and the host's queues.
func held(start func(nvmftest.Options) *nvmftest.Portal, ana bool) (e *nvmftest.Portal, d *nvmftest.Held, a, p *nvmftest.Peer, write *nvmf.SQE) {
	e = start(nvmftest.Options{Reactors: 2, Empty: true, Subsystem: func(o *nvmf.SubsystemOptions) { o.ANA = ana }})
	d = e.AddHeld("Held0", 256)
	e.AddNamespace(nvmf.NamespaceOptions{BdevName: "Held0"})
	a = e.Admin()
	p = e.Queue(a, 1, 32)
	write = p.RW(nvmf.IOWrite, 0, 1)
	p.Begin(write, make([]byte, 4096))
	d.Want("a write", 1)
	return e, d, a, p, write
}

// What is at a device when a drain begins is answered; what comes later is not carried out. After that the connections end, and none
// is taken any more.
func TestDrainAnswersWhatIsInFlight(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e, d, a, p, write := held(start, false)
		drain := startDrain(e.Engine, 2)
		wantRefused(t, e)
		p.Begin(p.RW(nvmf.IOWrite, 8, 1), make([]byte, 4096))
		d.End(bdev.StatusOK)
		if cqe, _ := p.Completion(write); !cqe.Status.OK() {
			t.Errorf("the write ended as %v", cqe.Status)
		}
		p.WantClosed("an I/O queue, after the drain")
		a.WantClosed("the Admin queue, after the drain")
		if err := nvmftest.Take(t, "the drain ends", drain.end); err != nil {
			t.Fatal(err)
		}
		d.Want("nothing of the write that came later", 0)
		e.WantNothingLeft("after the drain")
		wantRefused(t, e)
		if err := e.Target.Undrain(); err != nil {
			t.Fatal(err)
		}
		e.Queue(e.Admin(), 1, 32)
	})
}

// A connection that was open before a drain becomes no queue during it: its host is to come again.
func TestDrainRefusesConnects(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e, d, a, p, write := held(start, false)
		admin, queue := e.Open(0, 32, 0), e.Open(2, 32, a.CNTLID)
		drain := startDrain(e.Engine, 2)
		admin.WantStatus("Connect of a new controller", admin.Connect(0, 32, nvmf.CNTLIDDynamic), nvmf.StatusConnectBusy)
		queue.WantStatus("Connect of another I/O queue", queue.Connect(2, 32, a.CNTLID), nvmf.StatusConnectBusy)
		d.End(bdev.StatusOK)
		p.Completion(write)
		for _, p := range []*nvmftest.Peer{p, a, admin, queue} {
			p.WantClosed("after the drain")
		}
		if err := nvmftest.Take(t, "the drain ends", drain.end); err != nil {
			t.Fatal(err)
		}
		e.WantNothingLeft("after the drain")
	})
}

// A drain that is taken back leaves all as it was: the command that arrived meanwhile is carried out.
func TestDrainIsTakenBack(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e, d, _, p, write := held(start, false)
		drain := startDrain(e.Engine, 2)
		later := p.RW(nvmf.IOWrite, 8, 1)
		p.Begin(later, make([]byte, 4096))
		drain.cancel()
		if err := nvmftest.Take(t, "the drain ends", drain.end); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "2 of 2 queues were left") {
			t.Error(err)
		}
		d.Want("both writes", 2)
		d.End(bdev.StatusOK)
		p.Completion(write)
		p.Completion(later)
		e.Admin()
	})
}

// A host that knows ANA is told to take another path, and is refused on this one while it does.
func TestDrainMovesHostsByANA(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e, d, _, p, write := held(start, true)
		flush := func(why string, want nvmf.Status) {
			t.Helper()
			s := p.IO(nvmf.IOFlush)
			p.Begin(s, nil)
			cqe, _ := p.Completion(s)
			p.WantStatus(why, cqe, want)
		}
		drain := startDrain(e.Engine, 1)
		flush("while hosts are moved", nvmf.StatusANAInaccessible)
		drain.cancel()
		if err := nvmftest.Take(t, "the drain ends", drain.end); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		read := p.RW(nvmf.IORead, 0, 1)
		p.BeginRead(read, 4096)
		d.Want("the write, and a read when the drain was taken back", 2)
		drain = startDrain(e.Engine, 1)
		flush("while hosts are moved once more", nvmf.StatusANAInaccessible)
		d.End(bdev.StatusOK)
		if cqe, _ := p.Completion(write); !cqe.Status.OK() {
			t.Errorf("the write ended as %v", cqe.Status)
		}
		p.Completion(read)
		p.WantClosed("after the drain")
		if err := nvmftest.Take(t, "the drain ends", drain.end); err != nil {
			t.Fatal(err)
		}
	})
}
