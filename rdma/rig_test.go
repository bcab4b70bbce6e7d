package rdma_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"

	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is two engines on one fabric, and a protocol of messages between them.

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// rig is a target and a host, each with its reactors, its provider and its Net.
type rig struct {
	t            testing.TB
	fabric       *rdmatest.Fabric
	target, host *engine
	closed       bool
}

type engine struct {
	t testing.TB
	g *reactor.Group
	p *rdmatest.Provider
	n *rdma.Net

	guest bool // the reactors are another's
}

// begin begins to use a provider.
func (e *engine) begin(p rdma.Provider) {
	e.t.Helper()
	var err error
	if e.n, err = rdma.New(e.g, p, slog.New(slog.NewTextHandler(io.Discard, nil))); err != nil {
		e.t.Fatal(err)
	}
}

type rigOptions struct {
	target, host rdmatest.Options
	cfg          reactor.Config
	reactors     int  // of the target
	one          bool // the host's reactors are the target's
}

func newRig(t testing.TB, o rigOptions) *rig {
	t.Helper()
	if o.cfg.MemoryBytes == 0 {
		o.cfg.MemoryBytes = 16 << 20
	}
	f := rdmatest.NewFabric()
	x := &rig{t: t, fabric: f}
	x.target = newEngine(t, f, "target", o.target, o.cfg, max(1, o.reactors))
	if o.one {
		x.host = &engine{t: t, g: x.target.g, p: f.Provider("host", o.host), guest: true}
		x.host.begin(x.host.p)
	} else {
		x.host = newEngine(t, f, "host", o.host, o.cfg, 1)
	}
	t.Cleanup(x.close)
	return x
}

func newEngine(t testing.TB, f *rdmatest.Fabric, name string, o rdmatest.Options, cfg reactor.Config, reactors int) *engine {
	t.Helper()
	cfg.Cores = make([]int, reactors)
	for i := range cfg.Cores {
		cfg.Cores[i] = -1
	}
	g, err := reactor.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{t: t, g: g, p: f.Provider(name, o)}
	e.begin(e.p)
	return e
}

// close ends both, and says what is left.
func (x *rig) close() {
	if x.closed {
		return
	}
	x.closed = true
	x.host.close()
	x.target.close()
	if a := x.fabric.Alive(); a != (rdmatest.Alive{}) {
		x.t.Errorf("left on the fabric: %v", a)
	}
}

func (e *engine) close() {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := e.n.Close(ctx); err != nil {
		e.t.Error(err)
	}
	if err := e.p.Close(); err != nil {
		e.t.Error(err)
	}
	if e.guest {
		return
	}
	for _, r := range e.g.Reactors() {
		_ = r.Call(func() {
			if s := r.Memory().Stats(); s.InUse != 0 {
				e.t.Errorf("%d bytes of reactor %d's pool are lent", s.InUse, r.Index())
			}
			if p := r.Pollers(); len(p) != 0 {
				e.t.Errorf("pollers are left: %v", p)
			}
		})
	}
	if err := e.g.Stop(ctx); err != nil {
		e.t.Error(err)
	}
}

func (e *engine) reactor() *reactor.Reactor { return e.g.Reactor(0) }

func on(t testing.TB, r *reactor.Reactor, f func()) {
	t.Helper()
	if err := r.Call(f); err != nil {
		t.Fatal(err)
	}
}

// until lets r take turns until f holds.
func until(t testing.TB, r *reactor.Reactor, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		ok := false
		on(t, r, func() { ok = f() })
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("it never came to be: %s", what)
		}
		time.Sleep(50 * time.Microsecond)
	}
}

var plain = rdma.QueueConfig{SendDepth: 32, RecvDepth: 16, HeaderBytes: 64, DataBytes: 4096, InlineBytes: 32, ReadsOut: 4, ReadsIn: 4}

// completion is what a handler heard of a work request.
type completion struct {
	id uint64
	s  rdma.Status
}

// end is a handler, and the end of a connection of which it keeps a diary. All of it is its reactor's.
type end struct {
	q         *rdma.Queue
	r         *reactor.Reactor
	got       []string
	rx        []*rdma.Receive
	completed []completion
	ended     []error
	closed    int
	count     atomic.Int64 // of got, for those who must not wake the reactor
	buffers   [][]byte

	keep     bool // receives are not released
	stay     bool // Close is not called when it has ended
	received func(*rdma.Receive)
	complete func(id uint64, s rdma.Status)
}

func (e *end) open(q *rdma.Queue) rdma.Handler {
	e.q, e.r = q, q.Reactor()
	return e
}

func (e *end) Received(rx *rdma.Receive) {
	if e.received != nil {
		e.received(rx)
		return
	}
	e.got = append(e.got, string(rx.Header)+string(rx.Data))
	e.count.Add(1)
	if e.keep {
		e.rx = append(e.rx, rx)
		return
	}
	e.q.Release(rx)
}

func (e *end) Completed(id uint64, s rdma.Status) {
	if e.complete != nil {
		e.complete(id, s)
		return
	}
	e.completed = append(e.completed, completion{id, s})
}

func (e *end) Ended(err error) {
	e.ended = append(e.ended, err)
	if !e.stay {
		e.q.Close()
	}
}

func (e *end) Closed() {
	e.closed++
	for _, b := range e.buffers {
		e.r.Memory().Put(b)
	}
	e.buffers = nil
}

// buffer is memory of the pool, which goes back when the queue is closed.
func (e *end) buffer(n int) []byte {
	b := e.r.Memory().Get(n)
	e.buffers = append(e.buffers, b)
	return b
}

// lend gives 4 KiB of the pool, and what the peer needs to reach them.
func (e *end) lend(t testing.TB) (b []byte, at rdma.SGE, key uint32) {
	t.Helper()
	on(t, e.r, func() {
		b = e.buffer(4096)
		at, key = e.q.SGE(b), e.q.RemoteKey(b)
	})
	return b, at, key
}

// send posts a message, signalled.
func (e *end) send(id uint64, text string) {
	b := e.buffer(max(1, len(text)))
	copy(b, text)
	e.q.Post(&rdma.SendWR{ID: id, Opcode: rdma.OpSend, Flags: rdma.Signaled, SGEs: 1, SGE: [2]rdma.SGE{e.q.SGE(b[:len(text)])}})
}

// acceptor takes what comes, with an end each.
type acceptor struct {
	mu     sync.Mutex
	cfg    rdma.QueueConfig
	r      func(i int) *reactor.Reactor
	offers []*rdma.Offer
	ends   []*end
	failed []error
	judge  func(o *rdma.Offer) (bool, []byte)
	make   func(e *end)
	reply  []byte
}

func (a *acceptor) Offered(o *rdma.Offer) (*rdma.Answer, []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.offers = append(a.offers, o)
	if a.judge != nil {
		if ok, why := a.judge(o); !ok {
			return nil, why
		}
	}
	e := &end{}
	if a.make != nil {
		a.make(e)
	}
	a.ends = append(a.ends, e)
	return &rdma.Answer{Reactor: a.r(len(a.ends) - 1), Queue: a.cfg, Private: a.reply, Open: e.open, Refuse: []byte("no room"),
		Failed: func(err error) { a.mu.Lock(); a.failed = append(a.failed, err); a.mu.Unlock() }}, nil
}

func (a *acceptor) end(i int) *end {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ends[i]
}

func (e *engine) listen(a *acceptor) *rdma.Listener {
	e.t.Helper()
	if a.r == nil {
		a.r = func(i int) *reactor.Reactor { return e.g.Reactor(i % e.g.Len()) }
	}
	if a.cfg == (rdma.QueueConfig{}) {
		a.cfg = plain
	}
	l, err := e.n.Listen(loopback, a)
	if err != nil {
		e.t.Fatal(err)
	}
	return l
}

func (e *engine) dial(l *rdma.Listener, cfg rdma.QueueConfig) (*end, []byte, error) {
	h := &end{}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	p, err := e.n.Dial(ctx, l.Addr(), []byte("hello"), cfg, e.reactor(), h.open)
	return h, p, err
}

// connect is one connection between the two: the host's end and the target's.
func (x *rig) connect(a *acceptor, l *rdma.Listener) (host, target *end) {
	x.t.Helper()
	h, _, err := x.host.dial(l, plain)
	if err != nil {
		x.t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return h, a.ends[len(a.ends)-1]
}

func (e *end) want(t testing.TB, what string, f func() bool) {
	t.Helper()
	until(t, e.r, what, f)
}

func (e *end) String() string {
	return fmt.Sprintf("got %q, completed %v, ended %v, closed %d", e.got, e.completed, e.ended, e.closed)
}

// wantClosed returns when the end was told that it is over.
func (e *end) wantClosed(t testing.TB) {
	t.Helper()
	e.want(t, "closed", func() bool { return e.closed > 0 })
	on(t, e.r, func() {
		if e.closed != 1 {
			t.Errorf("closed %d times", e.closed)
		}
	})
}

// inlineSGE describes b, which is neither on a stack nor need be registered, for a work request with Inline.
func inlineSGE(b []byte) rdma.SGE {
	return rdma.SGE{Address: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))), Bytes: uint32(len(b))}
}
