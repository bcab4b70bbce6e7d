package rdma_test

import (
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
	"github.com/pollux-storage/pollux/reactor"
)

// What a message, and the transport of a command, cost.

// requester asks a server, and asks again when it is answered.
type requester struct {
	end
	left    int
	done    atomic.Int64
	request rdma.SendWR
	out     int
}

func (c *requester) open(q *rdma.Queue) rdma.Handler {
	c.q, c.r = q, q.Reactor()
	b := c.buffer(64)
	c.request = rdma.SendWR{Opcode: rdma.OpSend, SGEs: 1, SGE: [2]rdma.SGE{q.SGE(b)}}
	return c
}

// ask sends n requests.
func (c *requester) ask(n int) {
	for range n {
		c.left--
		if c.out++; c.out%8 == 0 {
			c.request.Flags = rdma.Signaled
		} else {
			c.request.Flags = 0
		}
		c.q.Post(&c.request)
	}
}

func (c *requester) Received(rx *rdma.Receive) {
	c.q.Release(rx)
	c.done.Add(1)
	if c.left > 0 {
		c.ask(1)
	}
}

func (c *requester) Completed(_ uint64, s rdma.Status) {}

// server does for each request what a target does for a read: an RDMA write and an inline answer, of which it hears one completion.
type server struct {
	end
	key    uint32
	at     uint64
	write  rdma.SendWR
	answer rdma.SendWR
	cqe    [16]byte
	bytes  uint32
}

func (s *server) open(q *rdma.Queue) rdma.Handler {
	s.q, s.r = q, q.Reactor()
	b := s.buffer(4096)
	s.write = rdma.SendWR{Opcode: rdma.OpWrite, SGEs: 1, SGE: [2]rdma.SGE{q.SGE(b[:s.bytes])}}
	s.answer = rdma.SendWR{Opcode: rdma.OpSend, Flags: rdma.Inline | rdma.Signaled, SGEs: 1, SGE: [2]rdma.SGE{inlineSGE(s.cqe[:])}}
	return s
}

func (s *server) Received(rx *rdma.Receive) {
	s.q.Release(rx)
	s.write.Remote, s.write.RemoteKey = s.at, s.key
	s.q.Post(&s.write)
	s.q.Post(&s.answer)
}

func (s *server) Completed(uint64, rdma.Status) {}

type serverAcceptor struct {
	s   *server
	r   *reactor.Reactor
	cfg rdma.QueueConfig
}

func (a *serverAcceptor) Offered(*rdma.Offer) (*rdma.Answer, []byte) {
	return &rdma.Answer{Reactor: a.r, Queue: a.cfg, Open: a.s.open}, nil
}

// exchange is a requester and a server that know each other.
func exchange(t testing.TB, x *rig, movable bool) (*requester, *server) {
	t.Helper()
	cfg := rdma.QueueConfig{Movable: movable, SendDepth: 256, RecvDepth: 64, HeaderBytes: 64, InlineBytes: 16, ReadsOut: 4, ReadsIn: 4}
	a := &serverAcceptor{s: &server{bytes: 512}, r: x.target.reactor(), cfg: cfg}
	l, err := x.target.n.Listen(loopback, a)
	if err != nil {
		t.Fatal(err)
	}
	c := &requester{}
	if _, err := x.host.n.Dial(t.Context(), l.Addr(), nil, cfg, x.host.reactor(), c.open); err != nil {
		t.Fatal(err)
	}
	var at uint64
	var key uint32
	on(t, c.r, func() { b := c.buffer(4096); at, key = c.q.SGE(b).Address, c.q.RemoteKey(b) })
	on(t, a.r, func() { a.s.at, a.s.key = at, key })
	return c, a.s
}

// run lets n requests be answered, of which so many are under way.
func (c *requester) run(t testing.TB, n, depth int) {
	t.Helper()
	end := c.done.Load() + int64(n)
	on(t, c.r, func() { c.left = n; c.ask(min(n, depth)) })
	for c.done.Load() < end {
		runtime.Gosched()
	}
}

func TestMessagesAllocateNothing(t *testing.T) {
	for name, o := range map[string]rdmatest.Options{"srq": srq, "no srq": {}} {
		for _, movable := range []bool{false, true} {
			for _, p := range []reactor.Idle{reactor.Poll, reactor.Interrupt} {
				x := newRig(t, rigOptions{target: o, host: o, cfg: reactor.Config{Idle: p}})
				c, _ := exchange(t, x, movable)
				c.run(t, 1000, 16)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				c.run(t, 5000, 16)
				runtime.ReadMemStats(&after)
				if n := after.Mallocs - before.Mallocs; n > 400 { // those of the test, and of the runtime
					t.Errorf("%s, movable %v, %v: %d allocations for 5000 exchanges", name, movable, p, n)
				}
				x.close()
			}
		}
	}
}

// BenchmarkTransport is a request, an RDMA write of 512 bytes and an inline answer, with the host's side on the same reactor, so that nobody waits
// for a thread. What the fabric in memory takes is in it.
func BenchmarkTransport(b *testing.B) {
	for _, depth := range []int{1, 8, 32} {
		b.Run(map[int]string{1: "batch=1", 8: "batch=8", 32: "batch=32"}[depth], func(b *testing.B) {
			x := newRig(b, rigOptions{target: srq, host: srq, cfg: reactor.Config{Idle: reactor.Poll}, one: true})
			c, _ := exchange(b, x, false)
			c.run(b, 1000, depth)
			before := x.target.n.Stats()[0]
			b.ResetTimer()
			c.run(b, b.N, depth)
			b.StopTimer()
			s := x.target.n.Stats()[0]
			per := func(a, b uint64) float64 { return float64(a - b) }
			n := float64(b.N)
			b.ReportMetric(per(s.Posts, before.Posts)/n, "posts/op")
			b.ReportMetric(per(s.PostCalls, before.PostCalls)/n, "postcalls/op")
			b.ReportMetric(per(s.RecvCalls, before.RecvCalls)/n, "recvcalls/op")
			b.ReportMetric((per(s.Polls, before.Polls)-per(s.PollsEmpty, before.PollsEmpty))/n, "polls/op")
			b.ReportMetric((per(s.Crossings(), before.Crossings())-per(s.PollsEmpty, before.PollsEmpty))/n, "crossings/op")
		})
	}
}
