package rdmatest

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/pollux-storage/pollux/rdma"
)

// path is a request and its answer, as NVMe-oF has them: a capsule, an RDMA WRITE or READ of the data, or the data in the capsule, and the response.
type path struct {
	*rig
	batch  int
	asks   []rdma.SendWR
	serves []rdma.SendWR
	hr, tr []rdma.RecvWR
	done   []rdma.Completion
}

var deepQP = rdma.QPConfig{SendDepth: 128, RecvDepth: 64, SGEs: 2, InlineBytes: 64}

func newPath(t testing.TB, batch int, op rdma.Opcode, bytes int) *path {
	f := NewFabric()
	r := &rig{f: f, hp: f.Provider("host", Options{}), tp: f.Provider("target", Options{})}
	r.hs, r.ts = newSide(t, r.hp, "", 256, 1<<20), newSide(t, r.tp, "", 256, 1<<20)
	many := rdma.ConnParams{ReadsIn: 16, ReadsOut: 16, RNR: 7}
	r.connect(deepQP, deepQP, many, many)
	t.Cleanup(func() {
		r.host.end()
		r.target.end()
		r.hs.close()
		r.ts.close()
	})
	p := &path{rig: r, batch: batch, done: make([]rdma.Completion, 256)}
	capsule := make([]byte, 64)
	for i := range batch {
		ask, room := r.host.inline(1, capsule), 64
		if op == rdma.OpSend && bytes > 0 {
			room += bytes
			ask = r.host.wr(op, 1, 0, room)
		}
		p.asks = append(p.asks, ask)
		if room == 64 && bytes > 0 {
			w := of(r.target.wr(op, 2, 65536+i%16*bytes, bytes), r.host, 65536+i%16*bytes)
			if op == rdma.OpWrite {
				w.Flags = 0
			}
			p.serves = append(p.serves, w)
		}
		p.serves = append(p.serves, r.target.inline(3, capsule[:16]))
		p.tr = append(p.tr, rdma.RecvWR{ID: 4, SGEs: 1, SGE: [rdma.SGEsMax]rdma.SGE{r.ts.piece(i*room, room)}})
		p.hr = append(p.hr, rdma.RecvWR{ID: 5, SGEs: 1, SGE: [rdma.SGEsMax]rdma.SGE{r.hs.piece(i*16, 16)}})
	}
	return p
}

// turn carries a batch of requests, and reports how many completions there were.
func (p *path) turn() (n int) {
	take := func(k int, err error) {
		if err != nil {
			panic(err)
		}
		n += k
	}
	_, err := p.ts.card.PostRecv(p.target.qp, p.tr)
	take(0, err)
	_, err = p.hs.card.PostRecv(p.host.qp, p.hr)
	take(0, err)
	_, err = p.hs.card.Post(p.asks)
	take(0, err)
	take(p.ts.card.Poll(p.ts.cq, p.done))
	_, err = p.ts.card.Post(p.serves)
	take(0, err)
	take(p.hs.card.Poll(p.hs.cq, p.done))
	take(p.ts.card.Poll(p.ts.cq, p.done))
	return n
}

func TestTheDataPathAllocatesNothing(t *testing.T) {
	for _, op := range []rdma.Opcode{rdma.OpSend, rdma.OpWrite, rdma.OpRead} {
		p := newPath(t, 8, op, 4096)
		p.turn()
		if n := testing.AllocsPerRun(100, func() {
			p.turn()
			_ = p.hs.card.Arm(p.hs.cq)
			_ = p.ts.card.Arm(p.ts.cq)
			p.turn()
			_ = p.hs.card.Heard(p.hs.cq)
			_ = p.ts.card.Heard(p.ts.cq)
		}); n != 0 {
			t.Errorf("opcode %d: %v allocations in two turns", op, n)
		}
	}
	// Nor does what has to wait: for a receive, or because it is withheld.
	p := newPath(t, 1, 0, 0)
	late := func() {
		p.host.card.Post(p.asks)
		p.ts.card.PostRecv(p.target.qp, p.tr)
		p.ts.card.Poll(p.ts.cq, p.done)
		p.tp.Withhold(Sends)
		p.hs.card.PostRecv(p.host.qp, p.hr)
		p.ts.card.Post(p.serves)
		p.tp.Release()
		p.ts.card.Poll(p.ts.cq, p.done)
		p.hs.card.Poll(p.hs.cq, p.done)
	}
	late()
	if n := testing.AllocsPerRun(100, late); n != 0 {
		t.Errorf("%v allocations of what waits", n)
	}
}

// TestReactorsShareAFabric is for the race detector: two threads each way, and memory that is not mapped apart from the heap.
func TestReactorsShareAFabric(t *testing.T) {
	for _, background := range []bool{false, true} {
		f := NewFabric()
		if background {
			defer f.InBackground()()
		}
		var w sync.WaitGroup
		for k := range 2 {
			r := &rig{f: f, hp: f.Provider(fmt.Sprint("host", k), Options{}), tp: f.Provider(fmt.Sprint("target", k), Options{})}
			r.hs, r.ts = newSide(t, r.hp, "", 64, memBytes), newSide(t, r.tp, "", 64, memBytes)
			for _, s := range []*side{r.hs, r.ts} {
				s.must(s.card.Deregister(s.mr))
				own := s.mem
				s.mem = make([]byte, memBytes)
				var err error
				s.mr, err = s.card.Register(s.mem, rdma.RemoteRead|rdma.RemoteWrite)
				s.must(err)
				s.mem = own // for close
			}
			r.connect(shallow, shallow, plain, plain)
			r.host.recv(0, 0, 64)
			r.target.recv(0, 0, 64)
			for _, l := range []*link{r.host, r.target} {
				w.Go(func() {
					if err := l.play(300, l == r.host); err != nil {
						t.Error(err)
					}
				})
			}
			t.Cleanup(func() {
				r.host.end()
				r.target.end()
				r.hs.close()
				r.ts.close()
			})
		}
		w.Wait()
	}
}

func BenchmarkPath(b *testing.B) {
	for _, c := range []struct {
		name  string
		op    rdma.Opcode
		bytes int
	}{{"capsules", 0, 0}, {"in-capsule-4k", rdma.OpSend, 4096}, {"write-4k", rdma.OpWrite, 4096}, {"read-4k", rdma.OpRead, 4096}} {
		for _, batch := range []int{1, 8, 16} {
			if c.op != rdma.OpRead && batch == 16 {
				batch = 32 // no more than 16 RDMA READs may be in flight
			}
			b.Run(fmt.Sprintf("%s/batch=%d", c.name, batch), func(b *testing.B) {
				p := newPath(b, batch, c.op, c.bytes)
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					p.turn()
					n += batch
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/request")
			})
		}
	}
}

// BenchmarkPost is posting and polling of RDMA WRITEs of a cache line: what the fabric itself costs a work request.
func BenchmarkPost(b *testing.B) {
	for _, batch := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			p := newPath(b, 1, 0, 0)
			w := slices.Repeat([]rdma.SendWR{of(p.host.wr(rdma.OpWrite, 1, 0, 64), p.target, 0)}, batch)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if _, err := p.hs.card.Post(w); err != nil {
					b.Fatal(err)
				}
				if k, err := p.hs.card.Poll(p.hs.cq, p.done); k != batch || err != nil {
					b.Fatal(k, err)
				}
				n += batch
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/wr")
		})
	}
}

// BenchmarkPoll is a look at a completion queue in which there is nothing.
func BenchmarkPoll(b *testing.B) {
	p := newPath(b, 1, 0, 0)
	b.ReportAllocs()
	for b.Loop() {
		if n, err := p.hs.card.Poll(p.hs.cq, p.done); n != 0 || err != nil {
			b.Fatal(n, err)
		}
	}
	runtime.KeepAlive(p)
}
