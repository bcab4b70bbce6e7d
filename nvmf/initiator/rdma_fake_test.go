package initiator

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"unsafe"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
	"github.com/pollux-storage/pollux/reactor"
)

// rdmaFake is a target over RDMA made by hand, which a test can make do anything. Left alone it serves one namespace of 4 MiB in blocks of 4096
// bytes, honestly.
type rdmaFake struct {
	t        testing.TB
	fabric   *rdmatest.Fabric
	provider *rdmatest.Provider // of the target
	near     *rdmatest.Provider // of the host
	group    *reactor.Group
	net      *rdma.Net
	addr     netip.AddrPort

	mu     sync.Mutex
	queues map[*rdmaFakeQueue]bool
	made   int // queues ever
	asked  []nvmf.RDMARequest
	played
	carried int // writes whose data came in their capsules

	// What a test has it do otherwise.
	offered func(o *rdma.Offer, r nvmf.RDMARequest) (reject []byte)
	accept  []byte
	depth   int // of its send queues
	admin   func(k *rdmaFakeQueue, s *nvmf.SQE) bool
	io      func(k *rdmaFakeQueue, s *nvmf.SQE, inCapsule []byte) bool
}

// newRDMAFake makes one that lives until the test ends, and a host's net on the same fabric.
func newRDMAFake(t testing.TB, near rdmatest.Options) *rdmaFake {
	t.Helper()
	g, err := reactor.Start(reactor.Config{Cores: []int{-1}, MemoryBytes: 128 << 20})
	if err != nil {
		t.Fatal(err)
	}
	f := newRDMAFakeOn(t, near, g)
	t.Cleanup(func() {
		f.stop()
		if n := g.Reactor(0).Memory().Stats().InUse; n > 0 {
			t.Errorf("%d bytes are left at the target", n)
		}
		if err := g.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return f
}

// newRDMAFakeOn makes one on reactors that are there, which stop ends.
func newRDMAFakeOn(t testing.TB, near rdmatest.Options, g *reactor.Group) *rdmaFake {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	f := &rdmaFake{t: t, group: g, fabric: rdmatest.NewFabric(), queues: map[*rdmaFakeQueue]bool{}, played: newPlayed()}
	f.provider = f.fabric.Provider("target", rdmatest.Options{SRQDepth: 4096})
	f.near = f.fabric.Provider("host", near)
	f.id = nvmf.IdentifyController{
		SN: "1", MN: "fake", FR: "1", MDTS: 8, CNTLID: 7, VER: nvmf.Version20, CNTRLTYPE: nvmf.ControllerIO, AERL: 3, KAS: 1, SQES: 0x66,
		CQES: 0x44, MAXCMD: 64, NN: 16, ONCS: nvmf.ONCSCompare | nvmf.ONCSDSM | nvmf.ONCSWriteZeroes,
		CTRATT: nvmf.CTRATTTBKAS, LPA: nvmf.LPAExtended, SGLS: nvmf.SGLSAnyAlign | nvmf.SGLSKeyed | nvmf.SGLSOffset,
		SUBNQN: nvmftest.NQN, IOCCSZ: (64 + fakeCapsule) / 16, IORCSZ: 1, VWC: nvmf.VWCPresent,
	}
	var err error
	f.net, err = rdma.New(f.group, f.provider, slog.New(slog.DiscardHandler))
	must(err)
	l, err := f.net.Listen(netip.MustParseAddrPort("127.0.0.1:0"), f)
	must(err)
	f.addr = l.Addr()
	return f
}

func (f *rdmaFake) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.net.Close(ctx); err != nil {
		f.t.Error(err)
	}
	if a := f.fabric.Alive(); a != (rdmatest.Alive{}) {
		f.t.Errorf("left on the fabric: %v", a)
	}
	for _, p := range []*rdmatest.Provider{f.provider, f.near} {
		if err := p.Close(); err != nil {
			f.t.Error(err)
		}
	}
}

// set changes what the fake does.
func (f *rdmaFake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// drop ends every connection; the next ones are served.
func (f *rdmaFake) drop() {
	_ = f.group.Reactor(0).Call(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for k := range f.queues {
			k.q.Close()
		}
		f.csts = 0
	})
}

// rdmaFakeQueue is one connection to a fake.
type rdmaFakeQueue struct {
	f    *rdmaFake
	q    *rdma.Queue
	qid  nvmf.QID
	ops  []rdmaFakeOp // by number of work request
	aers []nvmf.CID

	quiet *rdmaQuiet // serves in its place
}

// rdmaQuiet answers every command at once, moves no data and allocates nothing.
type rdmaQuiet struct {
	k      *rdmaFakeQueue
	answer []byte // memory for responses
	turn   int
	w      rdma.SendWR
}

const rdmaQuietID = 1 << 31

// hush lets the I/O queues that there are answer at once, move no data and allocate nothing, until what is returned is called.
func (f *rdmaFake) hush() (end func()) {
	r := f.group.Reactor(0)
	var all []*rdmaQuiet
	_ = r.Call(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for k := range f.queues {
			if k.qid > 0 {
				k.quiet = &rdmaQuiet{k: k, answer: r.Memory().Get(4096)}
				all = append(all, k.quiet)
			}
		}
	})
	return func() {
		_ = r.Call(func() {
			for _, q := range all {
				r.Memory().Put(q.answer)
				q.k.quiet = nil
			}
		})
	}
}

func (u *rdmaQuiet) received(rx *rdma.Receive) {
	cid := nvmf.CID(binary.LittleEndian.Uint16(rx.Header[2:]))
	u.k.q.Release(rx)
	b := u.answer[u.turn*nvmf.CQEBytes:][:nvmf.CQEBytes]
	u.turn = (u.turn + 1) % (len(u.answer) / nvmf.CQEBytes)
	clear(b)
	binary.LittleEndian.PutUint16(b[12:], uint16(cid))
	u.w = rdma.SendWR{ID: rdmaQuietID, Opcode: rdma.OpSend, Flags: rdma.Signaled, SGEs: 1}
	u.w.SGE[0] = u.k.q.SGE(b)
	u.k.q.Post(&u.w)
}

// rdmaFakeOp is what becomes of a work request's end.
type rdmaFakeOp struct {
	buf  []byte
	then func() // of a READ that succeeded
}

// Offered takes everybody.
func (f *rdmaFake) Offered(o *rdma.Offer) (*rdma.Answer, []byte) {
	r, why := nvmf.DecodeRDMARequest(o.Private)
	if why != 0 {
		return nil, why.AppendReject(nil)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r)
	if f.offered != nil {
		if reject := f.offered(o, r); reject != nil {
			return nil, reject
		}
	}
	accept := f.accept
	if accept == nil {
		accept = nvmf.RDMAAccept{CRQSIZE: r.HSQSIZE + 1}.AppendTo(nil)
	}
	k := &rdmaFakeQueue{f: f}
	return &rdma.Answer{
		Reactor: f.group.Reactor(0), Private: accept,
		Queue: rdma.QueueConfig{SendDepth: cmp.Or(f.depth, 1024), RecvDepth: int(r.HSQSIZE) + 1, HeaderBytes: nvmf.SQEBytes, DataBytes: fakeCapsule, InlineBytes: 16, ReadsOut: 16},
		Open: func(q *rdma.Queue) rdma.Handler {
			k.q = q
			f.mu.Lock()
			f.queues[k] = true
			f.made++
			f.mu.Unlock()
			return k
		},
	}, nil
}

func (k *rdmaFakeQueue) Ended(error) { k.q.Close() }

func (k *rdmaFakeQueue) Closed() {
	k.f.mu.Lock()
	delete(k.f.queues, k)
	k.f.mu.Unlock()
	for i := range k.ops {
		k.release(&k.ops[i])
	}
}

func (k *rdmaFakeQueue) release(o *rdmaFakeOp) {
	if o.buf != nil {
		k.f.group.Reactor(0).Memory().Put(o.buf)
		o.buf = nil
	}
}

// op numbers a work request.
func (k *rdmaFakeQueue) op(buf []byte, then func()) uint64 {
	k.ops = append(k.ops, rdmaFakeOp{buf, then})
	return uint64(len(k.ops) - 1)
}

func (k *rdmaFakeQueue) Completed(id uint64, s rdma.Status) {
	if id == rdmaQuietID {
		return
	}
	o := &k.ops[id]
	if then := o.then; s == rdma.StatusOK && then != nil {
		k.f.mu.Lock()
		then()
		k.f.mu.Unlock()
		o = &k.ops[id]
	}
	k.release(o)
}

// buffer is n bytes that the card reaches.
func (k *rdmaFakeQueue) buffer(n int) []byte {
	b := k.f.group.Reactor(0).Memory().Get(n)
	if b == nil {
		k.f.t.Error("the fake target has no memory")
		return make([]byte, n)
	}
	return b
}

// respond sends a response.
func (k *rdmaFakeQueue) respond(s *nvmf.SQE, st nvmf.Status, dw0 uint32) {
	k.answer(nvmf.CQE{CID: s.CID(), Status: st, DW0: dw0})
}

func (k *rdmaFakeQueue) answer(c nvmf.CQE) { k.send(c.AppendTo(nil)) }

func (k *rdmaFakeQueue) keep(id nvmf.CID) { k.aers = append(k.aers, id) }

// invalidate answers, and takes a key of the host away.
func (k *rdmaFakeQueue) invalidate(key uint32, c nvmf.CQE) {
	m := k.buffer(nvmf.CQEBytes)
	copy(m, c.AppendTo(nil))
	w := rdma.SendWR{ID: k.op(m, nil), Opcode: rdma.OpSendInvalidate, Flags: rdma.Signaled, Invalidate: key, SGEs: 1}
	w.SGE[0] = k.q.SGE(m)
	k.q.Post(&w)
}

func (k *rdmaFakeQueue) send(b []byte) {
	m := k.buffer(max(1, len(b)))[:len(b)]
	copy(m, b)
	w := rdma.SendWR{ID: k.op(m[:len(b):cap(m)], nil), Opcode: rdma.OpSend, Flags: rdma.Signaled}
	if len(b) > 0 {
		w.SGE[0], w.SGEs = k.q.SGE(m), 1
	}
	k.q.Post(&w)
}

// write writes data into the host's memory, as it is described by its command.
func (k *rdmaFakeQueue) write(s *nvmf.SQE, data []byte) {
	d := s.SGL()
	m := k.buffer(len(data))
	copy(m, data)
	w := rdma.SendWR{ID: k.op(m, nil), Opcode: rdma.OpWrite, Flags: rdma.Signaled, Remote: d.Address, RemoteKey: d.Key, SGEs: 1}
	w.SGE[0] = k.q.SGE(m)
	k.q.Post(&w)
}

// give writes data and responds.
func (k *rdmaFakeQueue) give(s *nvmf.SQE, data []byte) {
	n := int(s.SGL().Bytes)
	if len(data) < n {
		data = append(data[:len(data):len(data)], make([]byte, n-len(data))...)
	}
	if n > 0 {
		k.write(s, data[:n])
	}
	k.respond(s, nvmf.StatusSuccess, 0)
}

// fetch reads the command's data from the host's memory, and goes on with it.
func (k *rdmaFakeQueue) fetch(s *nvmf.SQE, then func(data []byte)) {
	d := s.SGL()
	m := k.buffer(int(d.Bytes))
	w := rdma.SendWR{Opcode: rdma.OpRead, Flags: rdma.Signaled, Remote: d.Address, RemoteKey: d.Key, SGEs: 1}
	w.ID = k.op(m, func() { then(m) })
	w.SGE[0] = k.q.SGE(m)
	k.q.Post(&w)
}

// Received takes a capsule.
func (k *rdmaFakeQueue) Received(rx *rdma.Receive) {
	if k.quiet != nil {
		k.quiet.received(rx)
		return
	}
	f := k.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(rx.Header) != nvmf.SQEBytes {
		f.t.Errorf("a capsule of %d bytes", len(rx.Header))
		k.q.Release(rx)
		return
	}
	s := new(nvmf.SQE)
	copy(s[:], rx.Header)
	data := append([]byte(nil), rx.Data...)
	k.q.Release(rx)
	d := s.SGL()
	switch in := d.Type == nvmf.SGLDataBlock && d.Subtype == nvmf.SGLOffset; {
	case in && (int(d.Bytes) != len(data) || d.Address != 0):
		f.t.Errorf("a capsule with %d bytes of data that says %d at %d", len(data), d.Bytes, d.Address)
	case !in && (d.Type != nvmf.SGLKeyed || d.Subtype != nvmf.SGLAddress || len(data) > 0):
		f.t.Errorf("a capsule with the data pointer %+v and %d bytes of data", d, len(data))
	case in && k.qid == 0:
		f.t.Error("data in a capsule of the Admin queue")
	}
	switch {
	case s.Opcode() == nvmf.OpcodeFabrics:
		if s.FCTYPE() == nvmf.FabricsConnect {
			k.fetch(s, func(b []byte) { k.connect(s, b) })
			return
		}
		f.property(k, s)
	case k.qid == 0:
		if f.admin == nil || !f.admin(k, s) {
			f.adminCommand(k, s)
		}
	default:
		f.log = append(f.log, nvmf.IOOpcode(s.Opcode()))
		if f.io == nil || !f.io(k, s, data) {
			k.ioCommand(s, data)
		}
	}
}

func (k *rdmaFakeQueue) connect(s *nvmf.SQE, data []byte) {
	d, st, ipo := nvmf.DecodeConnectData(data)
	if !st.OK() || d.SUBNQN != nvmftest.NQN {
		k.respond(s, nvmf.StatusConnectParameters|nvmf.DNR, uint32(ipo))
		return
	}
	if k.qid = s.ConnectQID(); k.qid == 0 {
		k.f.csts = 0
	}
	k.answer(nvmf.CQE{CID: s.CID(), DW0: 7, SQHD: 0xFFFF})
}

func (k *rdmaFakeQueue) ioCommand(s *nvmf.SQE, data []byte) {
	f := k.f
	if s.Opcode() != uint8(nvmf.IOWrite) {
		f.ioCommand(k, s, data)
		return
	}
	if len(data) > 0 {
		f.carried++
		f.ioCommand(k, s, data)
		return
	}
	k.fetch(s, func(b []byte) { f.ioCommand(k, s, b) })
}

// newRDMAHost makes a host with a net of its own on the provider, which ends with the test and leaves nothing.
func newRDMAHost(t testing.TB, p *rdmatest.Provider, reactors int) (*host, *rdma.Net) {
	t.Helper()
	h := newHost(t, reactors)
	return h, h.useRDMA(p)
}

// useRDMA gives a host a net, which ends with it and leaves nothing.
func (h *host) useRDMA(p *rdmatest.Provider) *rdma.Net {
	t := h.t
	t.Helper()
	n, err := rdma.New(h.group, p, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	h.before = append(h.before, func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			t.Error(err)
		}
		for _, s := range n.Stats() {
			if s.QueuePairs+s.CompletionQueues+s.SharedQueues+s.Regions+s.Receives+s.ReceivesHeld > 0 {
				t.Errorf("left of RDMA: %+v", s)
			}
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// rdmaOptions are those to reach a target over RDMA.
func rdmaOptions(n *rdma.Net, addr netip.AddrPort) Options {
	o := options(addr)
	o.TrType, o.RDMA = "RDMA", n
	return o
}

// pool gives n bytes of a reactor's pool, which go back when the host ends.
func (h *host) pool(i, n int) (b []byte) {
	h.t.Helper()
	r := h.group.Reactor(i)
	if err := r.Call(func() { b = r.Memory().Get(n) }); err != nil || b == nil {
		h.t.Fatal(fmt.Errorf("no memory: %w", err))
	}
	h.before = append(h.before, func() { _ = r.Call(func() { r.Memory().Put(b) }) })
	return b
}

// address is where b begins.
func address(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }
