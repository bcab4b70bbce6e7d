package rdmatest

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/rdma"
)

// limit ends tests that hang: nothing takes so long that works, and no test passes because of it.
const limit = 60 * time.Second

// side is who tests one end of connections: a card, a connection manager, a completion queue and memory.
type side struct {
	t    testing.TB
	p    rdma.Provider
	card rdma.Verbs
	cm   rdma.CM
	cq   rdma.CQ
	mem  []byte
	mr   rdma.MR

	polled []rdma.Completion // and not taken yet
}

// link is one end of a connection.
type link struct {
	*side
	id   rdma.ID
	qp   rdma.QP
	srq  rdma.SRQ // 0: receives of its own
	caps rdma.QPCaps
	kept [][]byte // what work requests name by its address alone: so it is of the heap, which stays where it is, and is not freed
}

// newSide opens the card of this name, or the first; its memory is away from the heap, as memory for cards is.
func newSide(t testing.TB, p rdma.Provider, card string, cqDepth, memory int) *side {
	t.Helper()
	s := &side{t: t, p: p}
	cards, err := p.Cards()
	s.must(err)
	for _, c := range cards {
		if s.card == nil && (card == "" || c.Info().Name == card) {
			s.card = c
		}
	}
	if s.card == nil {
		t.Fatalf("%s has no card %q among its %d", p.Name(), card, len(cards))
	}
	s.mem, err = unix.Mmap(-1, 0, memory, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	s.must(err)
	s.cm, err = p.NewCM()
	s.must(err)
	s.cq, err = s.card.CreateCQ(cqDepth)
	s.must(err)
	s.mr, err = s.card.Register(s.mem, rdma.RemoteRead|rdma.RemoteWrite)
	s.must(err)
	return s
}

func (s *side) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// close destroys what newSide has made.
func (s *side) close() {
	s.t.Helper()
	s.must(s.card.DestroyCQ(s.cq))
	s.must(s.card.Deregister(s.mr))
	s.must(s.cm.Close())
	s.must(unix.Munmap(s.mem))
}

// next waits for an event, whatever it is.
func (s *side) next() rdma.Event {
	s.t.Helper()
	type heard struct {
		e   rdma.Event
		err error
	}
	c := make(chan heard, 1)
	go func() {
		e, err := s.cm.Next()
		c <- heard{e, err}
	}()
	select {
	case h := <-c:
		s.must(h.err)
		return h.e
	case <-time.After(limit):
		s.t.Fatalf("%s: no event in %v", s.p.Name(), limit)
		return rdma.Event{}
	}
}

// want waits for an event, which shall be of one of these kinds.
func (s *side) want(kinds ...rdma.EventKind) rdma.Event {
	s.t.Helper()
	for {
		e := s.next()
		for _, k := range kinds {
			if e.Kind == k {
				return e
			}
		}
		if e.Kind != rdma.EventTimewait { // which comes when it likes
			s.t.Fatalf("%s: event %d with status %d, want one of %d", s.p.Name(), e.Kind, e.Status, kinds)
		}
	}
}

// listen listens at a free port of an address.
func (s *side) listen(at netip.Addr) (rdma.ID, netip.AddrPort) {
	s.t.Helper()
	l, to, err := s.cm.Listen(netip.AddrPortFrom(at, 0), 16)
	s.must(err)
	if to.Port() == 0 || to.Addr() != at {
		s.t.Fatalf("listening at a free port of %v gives %v", at, to)
	}
	return l, to
}

// resolve begins a connection, as far as that its queue pair can be made.
func (s *side) resolve(from netip.Addr, to netip.AddrPort) *link {
	s.t.Helper()
	id, err := s.cm.Resolve(from, to, rdma.Link{})
	s.must(err)
	if e := s.want(rdma.EventRoute); e.ID != id || e.Card != s.card {
		s.t.Fatalf("the route of connection %#x is known, on card %v; want %#x on %v", e.ID, e.Card, id, s.card)
	}
	return &link{side: s, id: id}
}

// makeQP makes the queue pair of a link.
func (l *link) makeQP(c rdma.QPConfig) *link {
	l.t.Helper()
	c.Send, c.Recv, l.srq = l.cq, l.cq, c.Shared
	var err error
	l.qp, l.caps, err = l.card.CreateQP(l.id, c)
	l.must(err)
	return l
}

// end destroys a link.
func (l *link) end() {
	l.t.Helper()
	if l.qp != 0 {
		l.must(l.card.DestroyQP(l.qp))
	}
	l.must(l.cm.Destroy(l.id))
}

// piece is n bytes of a side's memory.
func (s *side) piece(at, n int) rdma.SGE {
	return rdma.SGE{Address: s.mr.Address + uint64(at), Bytes: uint32(n), Key: s.mr.Local}
}

// recv posts a receive.
func (l *link) recv(id uint64, at, n int) {
	l.t.Helper()
	w := [1]rdma.RecvWR{{ID: id, SGE: [rdma.SGEsMax]rdma.SGE{l.piece(at, n)}, SGEs: 1}}
	var err error
	if l.srq != 0 {
		_, err = l.card.PostShared(l.srq, w[:])
	} else {
		_, err = l.card.PostRecv(l.qp, w[:])
	}
	l.must(err)
}

// wr is a signalled work request on a side's own memory.
func (l *link) wr(op rdma.Opcode, id uint64, at, n int) rdma.SendWR {
	return rdma.SendWR{ID: id, QP: l.qp, Opcode: op, Flags: rdma.Signaled, SGE: [rdma.SGEsMax]rdma.SGE{l.piece(at, n)}, SGEs: 1}
}

// inline is a signalled send that carries b itself.
func (l *link) inline(id uint64, b []byte) rdma.SendWR {
	l.kept = append(l.kept, b)
	w := rdma.SendWR{ID: id, QP: l.qp, Flags: rdma.Signaled | rdma.Inline, SGEs: 1}
	w.SGE[0] = rdma.SGE{Address: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))), Bytes: uint32(len(b))}
	return w
}

// of lets an RDMA READ or WRITE be of o's memory.
func of(w rdma.SendWR, o *link, at int) rdma.SendWR {
	w.Remote, w.RemoteKey = o.mr.Address+uint64(at), o.mr.Remote
	return w
}

func (l *link) post(w ...rdma.SendWR) {
	l.t.Helper()
	if n, err := l.card.Post(w); err != nil || n != len(w) {
		l.t.Fatalf("%d of %d work requests were taken: %v", n, len(w), err)
	}
}

// await polls until there are n completions, and takes them.
func (s *side) await(n int) []rdma.Completion {
	s.t.Helper()
	var w [32]rdma.Completion
	for end := time.Now().Add(limit); len(s.polled) < n; runtime.Gosched() {
		k, err := s.card.Poll(s.cq, w[:])
		s.must(err)
		s.polled = append(s.polled, w[:k]...)
		if time.Now().After(end) {
			s.t.Fatalf("%s: %d completions in %v, want %d: %+v", s.p.Name(), len(s.polled), limit, n, s.polled)
		}
	}
	c := s.polled[:n:n]
	s.polled = s.polled[n:]
	return c
}

// forget takes all completions there are, of queue pairs that are gone.
func (s *side) forget() {
	s.t.Helper()
	var w [32]rdma.Completion
	for n := 1; n > 0; {
		var err error
		n, err = s.card.Poll(s.cq, w[:])
		s.must(err)
	}
	s.polled = nil
}

// ends wants these IDs to complete next, in this order, and each with one of its statuses.
func (s *side) ends(want ...ending) []rdma.Completion {
	s.t.Helper()
	c := s.await(len(want))
	for i, w := range want {
		if c[i].ID != w.id || !w.allows(c[i].Status) {
			s.t.Fatalf("%s: completions %v, want %v", s.p.Name(), endings(c), want)
		}
	}
	return c
}

// ending is how a work request may end.
type ending struct {
	id       uint64
	statuses []rdma.Status
}

func well(id uint64) ending    { return ending{id, []rdma.Status{rdma.StatusOK}} }
func flushed(id uint64) ending { return ending{id, []rdma.Status{rdma.StatusFlushed}} }
func ill(id uint64, s ...rdma.Status) ending {
	return ending{id, s}
}

func (e ending) allows(s rdma.Status) bool {
	for _, a := range e.statuses {
		if a == s {
			return true
		}
	}
	return false
}

func (e ending) String() string { return fmt.Sprintf("%d:%d", e.id, e.statuses) }

func endings(c []rdma.Completion) (s []string) {
	for _, c := range c {
		s = append(s, fmt.Sprintf("%d:%d", c.ID, c.Status))
	}
	return s
}

// fill writes what is different at each place and for each seed.
func fill(b []byte, seed int) {
	x := uint32(seed)*2654435761 + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
}
