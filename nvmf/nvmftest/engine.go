// Package nvmftest stages a target for tests, and plays the host against it: rightly, wrongly, or not at all.
//
// An Engine is reactors, a registry and a target in this process, listening on loopback, or on a fabric in memory. A Peer is one connection to it,
// made by hand: over TCP from PDUs, so that a test can send any byte, over RDMA from work requests. What is the same over both is tested over both, by a
// Portal (Each). When an Engine ends it checks that nothing of any connection was left behind: queues, buffers, operations in flight.
package nvmftest

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
	"github.com/pollux-storage/pollux/internal/patient"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
	"github.com/pollux-storage/pollux/reactor"
)

// NQN is the name of the subsystem that an Engine begins with.
const NQN = "nqn.2026-01.io.pollux:test"

// Host is the name that a Peer gives itself.
const Host = "nqn.2026-01.io.pollux:host"

// Options say what an Engine begins with. The zero value is one reactor, and a subsystem NQN that any host may connect to with a
// device of memory, "Malloc0", 16 MiB in blocks of 4096 bytes, as namespace 1.
type Options struct {
	Reactors    int
	Cores       []int // of the reactors, in their place; -1 is not pinned
	BlockSize   uint32
	MemoryBytes int
	Transport   func(o *nvmf.TransportOptions)
	Subsystem   func(o *nvmf.SubsystemOptions)
	Empty       bool // no device, no namespace

	RDMA *rdmatest.Options // not nil: a transport over RDMA too, on a fabric with one such provider

	noTCP bool
}

// Engine is a target under test.
type Engine struct {
	T      testing.TB
	Group  *reactor.Group
	Bdevs  *bdev.Registry
	Target *nvmf.Target
	Addr   netip.AddrPort // over TCP
	RDMA   *RDMA          // nil without Options.RDMA

	ports int
}

// Start starts an engine that ends with the test.
func Start(t testing.TB, o Options) *Engine {
	t.Helper()
	cores := o.Cores
	if cores == nil {
		cores = slices.Repeat([]int{-1}, max(1, o.Reactors))
	}
	if o.MemoryBytes == 0 {
		o.MemoryBytes = 32 << 20
	}
	g, err := reactor.Start(reactor.Config{Cores: cores, MemoryBytes: o.MemoryBytes})
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{T: t, Group: g, Bdevs: bdev.NewRegistry(g)}
	if e.Target, err = nvmf.NewTarget(e.Bdevs, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.stop)
	if !o.noTCP {
		e.createTransport("TCP", &o)
	}
	if o.RDMA != nil {
		e.startRDMA(&o)
	}
	s := nvmf.SubsystemOptions{NQN: NQN, AllowAnyHost: true, WZSL: 12, DMRSL: 1 << 20}
	if o.Subsystem != nil {
		o.Subsystem(&s)
	}
	e.must(e.Target.CreateSubsystem(s))
	if !o.Empty {
		bs := o.BlockSize
		if bs == 0 {
			bs = 4096
		}
		_, err := bdev.NewMem(e.Bdevs, "Malloc0", uuid.Nil, bs, uint64(16<<20/bs))
		e.must(err)
		e.AddNamespace(nvmf.NamespaceOptions{BdevName: "Malloc0"})
	}
	if !o.noTCP {
		e.Addr = e.Listen(NQN)
	}
	if o.RDMA != nil {
		e.RDMA.Addr = e.ListenRDMA(NQN)
	}
	return e
}

func (e *Engine) createTransport(trtype string, o *Options) {
	e.T.Helper()
	tr := nvmf.DefaultTransport(trtype)
	if o.Transport != nil {
		o.Transport(&tr)
	}
	e.must(e.Target.CreateTransport(tr))
}

func (e *Engine) must(err error) {
	e.T.Helper()
	if err != nil {
		e.T.Fatal(err)
	}
}

// AddNamespace adds a namespace to NQN.
func (e *Engine) AddNamespace(o nvmf.NamespaceOptions) nvmf.NSID {
	e.T.Helper()
	id, err := e.Target.AddNamespace(NQN, o)
	e.must(err)
	return id
}

// Listen gives a subsystem one more address on loopback.
func (e *Engine) Listen(nqn string) netip.AddrPort {
	e.T.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		e.must(err)
		addr := netip.MustParseAddrPort(l.Addr().String())
		l.Close()
		// Somebody else may take the port in between: then another one is tried.
		if err = e.Target.AddListener(nqn, Address(addr), nvmf.ANAOptimized); err == nil {
			return addr
		}
		e.T.Log(err)
	}
	e.T.Fatal("no free port in 20 tries")
	return netip.AddrPort{}
}

// Address is a loopback address as the target names it.
func Address(a netip.AddrPort) nvmf.Address {
	return nvmf.Address{TRType: "TCP", AdrFam: "IPv4", TrAddr: a.Addr().String(), TrSvcID: netip.AddrPortFrom(a.Addr(), a.Port()).String()[len(a.Addr().String())+1:]}
}

// patience bounds waits that only a defect makes long.
const patience = patient.Limit

// Await waits until a fact has come to pass, and fails the test with why if it does not.
func Await(t testing.TB, why string, fact func() bool) {
	t.Helper()
	patient.Await(t, why, fact)
}

// Within runs f, which may ask reactors, and fails the test with why if it does not return.
func Within(t testing.TB, why string, f func()) {
	t.Helper()
	patient.Within(t, why, f)
}

// Take waits for what comes on a channel, and fails the test with why if nothing does.
func Take[V any](t testing.TB, why string, c <-chan V) V {
	t.Helper()
	return patient.Take(t, why, c)
}

// AwaitQueues waits until the target has n I/O queues.
func (e *Engine) AwaitQueues(why string, n int) {
	e.T.Helper()
	Await(e.T, why, func() bool {
		stats, err := e.Target.Stats()
		e.must(err)
		queues := 0
		for _, s := range stats {
			queues += s.CurrentIOQueues
		}
		return queues == n
	})
}

// WantNothingLeft waits until no queue and no buffer is left, and fails if that does not come.
func (e *Engine) WantNothingLeft(why string) {
	e.T.Helper()
	var queues, bytes, waiting int
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		Within(e.T, why, func() {
			stats, err := e.Target.Stats()
			e.must(err)
			queues, bytes, waiting = 0, 0, 0
			for _, s := range stats {
				queues += s.CurrentAdminQueues + s.CurrentIOQueues + s.CurrentUnassociated
			}
			e.must(e.Group.Each(func(r *reactor.Reactor) {
				m := r.Memory().Stats()
				bytes += m.InUse
				waiting += m.Waiting
			}))
		})
		if queues == 0 && bytes == 0 && waiting == 0 {
			return
		}
	}
	e.T.Errorf("%s: left behind: %d queues, %d bytes of buffers, %d waiting for buffers", why, queues, bytes, waiting)
}

func (e *Engine) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	Within(e.T, "the target stops", func() {
		if err := e.Target.Stop(ctx); err != nil {
			e.T.Error(err)
		}
	})
	e.WantNothingLeft("after the target stopped")
	if e.RDMA != nil {
		e.wantNoRDMA()
	}
	if err := bdevtest.UnregisterAll(ctx, e.Bdevs); err != nil {
		e.T.Error(err)
	}
	if err := e.Group.Stop(ctx); err != nil {
		e.T.Error(err)
	}
}
