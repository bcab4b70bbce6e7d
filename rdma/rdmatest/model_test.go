package rdmatest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/pollux-storage/pollux/rdma"
)

// This file is a slow, obvious twin of the fabric. All work is withheld; at each step the twin says which completions and which bytes of memory the
// next piece of work will change, and nothing else may. Choices come from a seed, or from the fuzzer.

const (
	twinQPs   = 3 // connections
	twinDepth = 6
	twinBytes = 2048
	twinReads = 2
)

// twinWR is a work request as the twin sees it. Places are offsets into the own, or the peer's, memory.
type twinWR struct {
	id       uint64
	op       rdma.Opcode
	at, n    int
	remote   int
	data     []byte // of an inline one
	silent   bool
	badKey   bool
	badLocal bool
}

type twinRecv struct {
	id    uint64
	at, n int
}

// twinQP is one end.
type twinQP struct {
	side   int // 0 host, 1 target
	number uint32
	link   *link
	peer   *twinQP
	failed bool
	sends  []twinWR
	recvs  []twinRecv

	posted, ended uint64   // of the send queue
	polled        uint64   // places that are known to be free
	reads         []uint64 // places of those in flight
	recvsHeld     int
}

type twin struct {
	t      testing.TB
	choose func(n int) int
	f      *Fabric
	p      [2]*Provider
	s      [2]*side
	mem    [2][]byte
	qps    []*twinQP
	next   uint64
	want   [2][]rdma.Completion
	log    []string
	told   map[string]int // completions by status and kind
}

func newTwin(t testing.TB, choose func(int) int) *twin {
	f := NewFabric()
	w := &twin{t: t, choose: choose, f: f, told: map[string]int{}}
	for i, name := range []string{"host", "target"} {
		w.p[i] = f.Provider(name, Options{})
		w.s[i] = newSide(t, w.p[i], "", 4*twinQPs*twinDepth, twinBytes)
		fill(w.s[i].mem, i)
		w.mem[i] = bytes.Clone(w.s[i].mem)
	}
	for range twinQPs {
		h, g := w.connect()
		w.qps = append(w.qps, h, g)
	}
	w.p[0].Withhold(AllWork)
	w.p[1].Withhold(AllWork)
	return w
}

// connect makes a connection.
func (w *twin) connect() (h, g *twinQP) {
	q := rdma.QPConfig{SendDepth: twinDepth, RecvDepth: twinDepth, SGEs: 2, InlineBytes: 32}
	params := rdma.ConnParams{ReadsIn: twinReads, ReadsOut: twinReads, RNR: 7}
	r := &rig{f: w.f, hp: w.p[0], tp: w.p[1], hs: w.s[0], ts: w.s[1]}
	r.connect(q, q, params, params)
	h = &twinQP{side: 0, link: r.host, number: r.host.caps.Number}
	g = &twinQP{side: 1, link: r.target, number: r.target.caps.Number, peer: h}
	h.peer = g
	return h, g
}

// reconnect replaces a connection whose ends have both failed, whatever is still on them.
func (w *twin) reconnect(i int) {
	h, g := w.qps[i], w.qps[i+1]
	if !h.failed || !g.failed {
		return
	}
	w.say("end %d and %d", h.number, g.number)
	h.link.end()
	g.link.end()
	w.qps[i], w.qps[i+1] = w.connect()
}

func (w *twin) end() {
	for _, q := range w.qps {
		q.link.end()
	}
	for i := range w.s {
		w.s[i].close()
	}
	if a := w.f.Alive(); a != (Alive{}) {
		w.t.Errorf("left: %v", a)
	}
}

func (w *twin) say(format string, a ...any) { w.log = append(w.log, fmt.Sprintf(format, a...)) }

func (w *twin) piece() (at, n int) {
	n = w.choose(200)
	return w.choose(twinBytes - n), n
}

// act does one thing, by choice.
func (w *twin) act() {
	q := w.qps[w.choose(len(w.qps))]
	switch k := w.choose(20); {
	case k < 5:
		w.postRecv(q)
	case k < 11:
		w.post(q)
	case k == 11:
		w.reconnect(w.choose(twinQPs) * 2)
	case k == 12 && w.choose(8) == 0:
		w.say("fail %d", q.number)
		w.s[q.side].must(w.s[q.side].card.Fail(q.link.qp))
		w.fail(q)
	default:
		w.step(w.choose(2), w.choose(twinQPs))
	}
}

func (w *twin) postRecv(q *twinQP) {
	if q.recvsHeld == twinDepth {
		return
	}
	w.next++
	r := twinRecv{id: w.next}
	if r.at, r.n = w.piece(); w.choose(10) != 0 {
		r.at, r.n = w.choose(twinBytes-200), 200 // room for any
	}
	w.say("receive %d at %d: [%d, +%d)", r.id, q.number, r.at, r.n)
	q.link.recv(r.id, r.at, r.n)
	q.recvs = append(q.recvs, r)
	q.recvsHeld++
}

func (w *twin) post(q *twinQP) {
	if q.posted-q.polled == twinDepth {
		return
	}
	w.next++
	m := twinWR{id: w.next, op: rdma.Opcode(w.choose(4))}
	if m.op == rdma.OpSendInvalidate || m.op == rdma.OpRead && len(q.reads) == twinReads {
		m.op = rdma.OpSend
	}
	m.at, m.n = w.piece()
	m.remote = w.choose(twinBytes - m.n)
	m.silent = m.op != rdma.OpRead && q.posted-q.polled < twinDepth-1 && w.choose(3) == 0
	m.badKey = m.op != rdma.OpSend && m.n > 0 && w.choose(40) == 0
	m.badLocal = m.n > 0 && w.choose(60) == 0
	wr := of(q.link.wr(m.op, m.id, m.at, m.n), q.peer.link, m.remote)
	if k := w.choose(m.n + 1); w.choose(2) == 0 { // the same bytes in two pieces
		wr.SGE[0].Bytes = uint32(k)
		wr.SGE[1], wr.SGEs = q.link.piece(m.at+k, m.n-k), 2
	}
	if m.silent {
		wr.Flags = 0
	}
	if m.badKey {
		wr.RemoteKey ^= 0x55
	}
	if m.op != rdma.OpRead && m.n <= 32 && w.choose(2) == 0 {
		wr.Flags |= rdma.Inline
		m.data = bytes.Clone(w.mem[q.side][m.at:][:m.n])
		m.badLocal = false
	}
	if m.badLocal {
		wr.SGE[0].Bytes, wr.SGE[0].Address = 1, wr.SGE[0].Address+twinBytes // beyond the end
	}
	w.say("post %d at %d: opcode %d [%d, +%d), remote %d, %+v", m.id, q.number, m.op, m.at, m.n, m.remote, m)
	q.link.post(wr)
	if m.op == rdma.OpRead {
		q.reads = append(q.reads, q.posted)
	}
	q.sends = append(q.sends, m)
	q.posted++
}

func (w *twin) fail(q *twinQP) { q.failed = true }

// step has the fabric do one thing, and says what that must be.
func (w *twin) step(side, n int) bool {
	w.f.mu.Lock()
	var q *twinQP
	if l := w.p[side].parked; len(l) > 0 {
		i := slices.IndexFunc(w.qps, func(q *twinQP) bool { return q.number == l[n%len(l)].number })
		q = w.qps[i]
	}
	w.f.mu.Unlock()
	if q == nil {
		return false
	}
	w.say("step %d", q.number)
	w.p[side].Step(n)
	w.carry(q)
	w.check()
	return true
}

// tells says that a completion comes.
func (w *twin) tells(q *twinQP, id uint64, s rdma.Status, k rdma.CompletionKind, bytes int) {
	if s != rdma.StatusOK {
		k, bytes = undefined, 0
	}
	w.told[fmt.Sprintf("status %d of kind %d", s, k)]++
	w.want[q.side] = append(w.want[q.side], rdma.Completion{ID: id, QPN: q.number, Status: s, Kind: k, Bytes: uint32(bytes)})
}

// ends takes the first send.
func (w *twin) ends(q *twinQP, s rdma.Status) {
	m := q.sends[0]
	q.sends = q.sends[1:]
	q.ended++
	if s != rdma.StatusOK || !m.silent {
		w.tells(q, m.id, s, did[m.op], 0)
		q.polled = q.ended // it is polled at once
		q.reads = slices.DeleteFunc(q.reads, func(at uint64) bool { return at < q.polled })
	}
	if s != rdma.StatusOK {
		w.fail(q)
	}
}

// receives takes the first receive.
func (w *twin) receives(q *twinQP, s rdma.Status, n int) {
	r := q.recvs[0]
	q.recvs = q.recvs[1:]
	q.recvsHeld--
	w.tells(q, r.id, s, rdma.DidRecv, n)
}

// carry is what one piece of work of q does.
func (w *twin) carry(q *twinQP) {
	if q.failed {
		switch {
		case len(q.sends) > 0:
			w.ends(q, rdma.StatusFlushed)
		case len(q.recvs) > 0:
			w.receives(q, rdma.StatusFlushed, 0)
		}
		return
	}
	if len(q.sends) == 0 {
		return
	}
	m := q.sends[0]
	own, far := w.mem[q.side], w.mem[q.peer.side]
	data := m.data
	if data == nil {
		data = own[m.at:][:m.n]
	}
	switch {
	case m.badLocal:
		w.ends(q, rdma.StatusLocalProtection)
	case q.peer.failed:
		w.ends(q, rdma.StatusRetry)
	case m.badKey:
		w.ends(q, rdma.StatusRemoteAccess)
		w.fail(q.peer)
	case m.op == rdma.OpWrite:
		copy(far[m.remote:], data)
		w.ends(q, rdma.StatusOK)
	case m.op == rdma.OpRead:
		copy(own[m.at:][:m.n], far[m.remote:])
		w.ends(q, rdma.StatusOK)
	case len(q.peer.recvs) == 0:
	case q.peer.recvs[0].n < m.n:
		w.receives(q.peer, rdma.StatusLocalLength, 0)
		w.fail(q.peer)
		w.ends(q, rdma.StatusRemoteInvalid)
	default:
		copy(far[q.peer.recvs[0].at:], data)
		w.receives(q.peer, rdma.StatusOK, m.n)
		w.ends(q, rdma.StatusOK)
	}
}

// check compares.
func (w *twin) check() {
	w.t.Helper()
	for i, s := range w.s {
		var c [4]rdma.Completion
		n, err := s.card.Poll(s.cq, c[:])
		s.must(err)
		got := c[:n]
		for k := range got {
			got[k].Vendor = 0
		}
		if !slices.Equal(got, w.want[i]) {
			w.fatal("%s: completions %+v, want %+v", s.p.Name(), got, w.want[i])
		}
		w.want[i] = w.want[i][:0]
		if !bytes.Equal(s.mem, w.mem[i]) {
			at := 0
			for s.mem[at] == w.mem[i][at] {
				at++
			}
			w.fatal("%s: memory differs at %d", s.p.Name(), at)
		}
	}
}

func (w *twin) fatal(format string, a ...any) {
	w.t.Helper()
	for _, l := range w.log[max(0, len(w.log)-30):] {
		w.t.Log(l)
	}
	w.t.Fatalf(format, a...)
}

// run does so many things, and then lets all end that can.
func (w *twin) run(acts int) {
	for range acts {
		w.act()
	}
	for w.step(0, 0) || w.step(1, 0) {
	}
	for _, q := range w.qps {
		if q.failed && len(q.sends)+len(q.recvs) > 0 || !q.failed && len(q.sends) > 0 && (q.sends[0].op != rdma.OpSend || len(q.peer.recvs) > 0 || q.peer.failed) {
			w.fatal("queue pair %d is at rest with %+v and %+v", q.number, q.sends, q.recvs)
		}
	}
	w.end()
}

func TestTheFabricDoesWhatItsTwinSays(t *testing.T) {
	seeds := uint64(150)
	if testing.Short() {
		seeds = 20
	}
	told := map[string]int{}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newTwin(t, rand.New(rand.NewPCG(seed, 6)).IntN)
			w.run(2000)
			for k, n := range w.told {
				told[k] += n
			}
		})
	}
	for _, k := range []string{ // so that the choices do not come to nothing
		"status 0 of kind 0", "status 0 of kind 1", "status 0 of kind 2", "status 0 of kind 3",
		"status 1 of kind 255", "status 4 of kind 255", "status 5 of kind 255", "status 9 of kind 255", "status 10 of kind 255", "status 12 of kind 255",
	} {
		if told[k] < 10 {
			t.Errorf("only %d times %s", told[k], k)
		}
	}
	t.Log(told)
}

// FuzzFabric has the fuzzer choose.
func FuzzFabric(f *testing.F) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 7))
		b := make([]byte, 400)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		acts := len(b) / 4
		newTwin(t, func(n int) int {
			if len(b) == 0 {
				return 0
			}
			v := int(b[0])
			b = b[1:]
			if n > 256 && len(b) > 0 {
				v = v<<8 | int(b[0])
				b = b[1:]
			}
			return v % max(n, 1)
		}).run(acts)
	})
}

// FuzzPrivateData: what is given to the connection manager arrives, with nothing but zeros behind, or is refused at once.
func FuzzPrivateData(f *testing.F) {
	f.Add([]byte("ask"), []byte("answer"), true)
	f.Add(make([]byte, 57), []byte{}, false)
	f.Add([]byte{}, make([]byte, 197), true)
	f.Add([]byte{1}, make([]byte, 149), false)
	f.Fuzz(func(t *testing.T, ask, answer []byte, accept bool) {
		e := LoopbackEnds(Options{}, Options{})
		p := &pair{Ends: e, server: newSide(t, e.Server, "", 16, 4096), client: newSide(t, e.Client, "", 16, 4096)}
		l, at := p.server.listen(p.At)
		c := p.client.resolve(netip.Addr{}, at).makeQP(shallow)
		refused := func(err error, b []byte, room int) bool {
			if (err != nil) != (len(b) > room) {
				t.Fatalf("%d bytes of private data, of at most %d: %v", len(b), room, err)
			}
			return err != nil
		}
		given := plain
		given.Private = ask
		if !refused(p.client.cm.Connect(c.id, given), ask, requestBytes) {
			o := p.server.want(rdma.EventConnect)
			s := (&link{side: p.server, id: o.ID}).makeQP(shallow)
			arrived := func(got, want []byte, room int) {
				if len(got) != room || !bytes.HasPrefix(got, want) || len(bytes.Trim(got[len(want):], "\x00")) != 0 {
					t.Fatalf("private data %x arrived as %x", want, got)
				}
			}
			arrived(o.Private, ask, requestBytes)
			given.Private = answer
			switch {
			case accept && !refused(p.server.cm.Accept(s.id, given), answer, acceptBytes):
				arrived(p.client.want(rdma.EventEstablished).Private, answer, acceptBytes)
			case !accept && !refused(p.server.cm.Reject(s.id, answer), answer, rejectBytes):
				arrived(p.client.want(rdma.EventRejected).Private, answer, rejectBytes)
			}
			s.end()
		}
		c.end()
		p.server.must(p.server.cm.Destroy(l))
		p.server.close()
		p.client.close()
		if a := p.Alive(); a != 0 {
			t.Fatalf("%d objects are left", a)
		}
	})
}
