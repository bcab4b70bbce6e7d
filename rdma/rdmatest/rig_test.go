package rdmatest

import (
	"bytes"
	"net/netip"
	"testing"
	"unsafe"

	"github.com/pollux-storage/pollux/rdma"
)

// side is one end of a connection in a test.
type side struct {
	t    *testing.T
	p    *Provider
	card rdma.Verbs
	cm   rdma.CM
	cq   rdma.CQ
	srq  rdma.SRQ
	id   rdma.ID
	qp   rdma.QP
	caps rdma.QPCaps
	mem  []byte
	mr   rdma.MR
}

const sideBytes = 64 << 10

func newSide(t *testing.T, p *Provider, cqDepth int) *side {
	t.Helper()
	s := &side{t: t, p: p, mem: make([]byte, sideBytes)}
	cards, err := p.Cards()
	must(t, err)
	s.card = cards[0]
	s.cm, err = p.NewCM()
	must(t, err)
	s.cq, err = s.card.CreateCQ(cqDepth)
	must(t, err)
	s.mr, err = s.card.Register(s.mem, rdma.RemoteRead|rdma.RemoteWrite)
	must(t, err)
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *side) want(k rdma.EventKind) rdma.Event {
	s.t.Helper()
	e, err := s.cm.Next()
	must(s.t, err)
	if e.Kind != k {
		s.t.Fatalf("%s hears event %d with status %d, want %d", s.p.name, e.Kind, e.Status, k)
	}
	return e
}

func (s *side) makeQP(c rdma.QPConfig) {
	s.t.Helper()
	c.Send, c.Recv = s.cq, s.cq
	var err error
	s.qp, s.caps, err = s.card.CreateQP(s.id, c)
	must(s.t, err)
}

func (s *side) piece(at, n int) rdma.SGE {
	return rdma.SGE{Address: s.mr.Address + uint64(at), Bytes: uint32(n), Key: s.mr.Local}
}

func (s *side) recv(id uint64, at, n int) {
	s.t.Helper()
	w := []rdma.RecvWR{{ID: id, SGE: [2]rdma.SGE{s.piece(at, n)}, SGEs: 1}}
	var err error
	if s.srq != 0 {
		_, err = s.card.PostShared(s.srq, w)
	} else {
		_, err = s.card.PostRecv(s.qp, w)
	}
	must(s.t, err)
}

// wr is a signalled work request on memory at at.
func (s *side) wr(op rdma.Opcode, id uint64, at, n int) rdma.SendWR {
	return rdma.SendWR{ID: id, QP: s.qp, Opcode: op, Flags: rdma.Signaled, SGE: [2]rdma.SGE{s.piece(at, n)}, SGEs: 1}
}

// on lets an RDMA READ or WRITE be of o's memory.
func on(w rdma.SendWR, o *side, at int) rdma.SendWR {
	w.Remote, w.RemoteKey = o.mr.Address+uint64(at), o.mr.Remote
	return w
}

func (s *side) post(w ...rdma.SendWR) {
	s.t.Helper()
	_, err := s.card.Post(w)
	must(s.t, err)
}

// ended polls, and wants these IDs with these statuses in turn.
func (s *side) ended(want ...any) {
	s.t.Helper()
	var w [64]rdma.Completion
	n, err := s.card.Poll(s.cq, w[:])
	must(s.t, err)
	got := []any{}
	for _, c := range w[:n] {
		got = append(got, int(c.ID), c.Status)
	}
	if len(got) != len(want) {
		s.t.Fatalf("%s: completions (ID, status) %v, want %v", s.p.name, got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			s.t.Fatalf("%s: completions (ID, status) %v, want %v", s.p.name, got, want)
		}
	}
}

func (s *side) close() {
	s.t.Helper()
	if s.qp != 0 {
		must(s.t, s.card.DestroyQP(s.qp))
	}
	if s.id != 0 {
		must(s.t, s.cm.Destroy(s.id))
	}
	if s.srq != 0 {
		must(s.t, s.card.DestroySRQ(s.srq))
	}
	must(s.t, s.card.DestroyCQ(s.cq))
	must(s.t, s.card.Deregister(s.mr))
	must(s.t, s.cm.Close())
	must(s.t, s.p.Close())
}

// rig is a fabric with a connection from host to target.
type rig struct {
	f            *Fabric
	host, target *side
}

var shallow = rdma.QPConfig{SendDepth: 8, RecvDepth: 8, SGEs: 2, InlineBytes: 64}

func newRig(t *testing.T, ho, to Options, hq, tq rdma.QPConfig, params rdma.ConnParams) *rig {
	t.Helper()
	f := NewFabric()
	r := &rig{f: f, host: newSide(t, f.Provider("host", ho), 32), target: newSide(t, f.Provider("target", to), 32)}
	r.connect(t, hq, tq, params)
	t.Cleanup(func() {
		if t.Failed() {
			return
		}
		r.host.p.Events(nil)
		r.target.p.Release()
		r.host.p.Release()
		r.host.close()
		r.target.close()
		if a := f.Alive(); a != (Alive{}) {
			t.Errorf("left: %v", a)
		}
	})
	return r
}

func (r *rig) connect(t *testing.T, hq, tq rdma.QPConfig, p rdma.ConnParams) {
	t.Helper()
	h, g := r.host, r.target
	l, at, err := g.cm.Listen(netip.MustParseAddrPort("127.0.0.1:0"), 10)
	must(t, err)
	h.id, err = h.cm.Resolve(netip.Addr{}, at)
	must(t, err)
	h.want(rdma.EventRoute)
	h.makeQP(hq)
	must(t, h.cm.Connect(h.id, p))
	e := g.want(rdma.EventConnect)
	g.id = e.ID
	if e.Listener != l {
		t.Fatal("the event names another listener")
	}
	if tq.RecvDepth == 0 {
		g.srq, err = g.card.CreateSRQ(16, 2)
		must(t, err)
		tq.Shared = g.srq
	}
	g.makeQP(tq)
	must(t, g.cm.Accept(g.id, p))
	h.want(rdma.EventEstablished)
	g.want(rdma.EventEstablished)
	must(t, g.cm.Destroy(l))
}

var plain = rdma.ConnParams{ReadsIn: 4, ReadsOut: 4, RNR: 7}

func plainRig(t *testing.T) *rig {
	t.Helper()
	return newRig(t, Options{}, Options{}, shallow, shallow, plain)
}

func fill(b []byte, seed byte) {
	for i := range b {
		b[i] = seed + byte(i*7)
	}
}

func TestSendsReadsAndWritesMoveMemory(t *testing.T) {
	r := plainRig(t)
	h, g := r.host, r.target
	fill(h.mem[:4096], 1)
	g.recv(1, 0, 4096)
	h.post(h.wr(rdma.OpSend, 2, 0, 4096))
	g.ended(1, rdma.StatusOK)
	h.ended(2, rdma.StatusOK)
	if !bytes.Equal(g.mem[:4096], h.mem[:4096]) {
		t.Fatal("the receive does not hold what was sent")
	}
	g.post(on(g.wr(rdma.OpWrite, 3, 0, 1000), h, 8192), on(g.wr(rdma.OpRead, 4, 5000, 1000), h, 8192))
	g.ended(3, rdma.StatusOK, 4, rdma.StatusOK)
	if !bytes.Equal(g.mem[5000:6000], h.mem[:1000]) || !bytes.Equal(h.mem[8192:9192], h.mem[:1000]) {
		t.Fatal("an RDMA WRITE and the READ of it brought something else")
	}
}

func TestAnInlineSendTakesWhatWasThereAtThePost(t *testing.T) {
	r := plainRig(t)
	h, g := r.host, r.target
	b := []byte("inline, and not registered")
	w := rdma.SendWR{ID: 1, QP: h.qp, Flags: rdma.Signaled | rdma.Inline, SGEs: 1}
	w.SGE[0] = rdma.SGE{Address: uint64(uintptr(unsafe.Pointer(&b[0]))), Bytes: uint32(len(b))}
	h.post(w) // it waits: there is no receive
	clear(b)
	h.ended()
	g.recv(2, 0, 64)
	g.ended(2, rdma.StatusOK)
	h.ended(1, rdma.StatusOK)
	if !bytes.HasPrefix(g.mem, []byte("inline, and not registered")) {
		t.Fatalf("received %q", g.mem[:26])
	}
}
