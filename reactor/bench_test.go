package reactor_test

import (
	"fmt"
	"testing"

	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/reactor/ring"
)

// go test -run '^$' -bench . -benchtime 1s ./reactor

// timed runs f, which does b.N of something on r, and reports the thread's processor time beside the clock's: on a shared
// machine it is the steadier of the two.
func timed(b *testing.B, r *reactor.Reactor, f func()) {
	u0, s0 := r.CPUTime()
	b.ResetTimer()
	f()
	b.StopTimer()
	u1, s1 := r.CPUTime()
	b.ReportMetric(float64(u1+s1-u0-s0)/float64(b.N), "cpu-ns/op")
}

func BenchmarkEmptyTick(b *testing.B) {
	for _, n := range []int{1, 4} {
		b.Run(fmt.Sprintf("reactors=%d", n), func(b *testing.B) {
			g := start(b, reactor.Config{Cores: unpinned(n), Idle: reactor.Interrupt})
			r := g.Reactor(0)
			on(b, r, func() {
				timed(b, r, func() {
					for range b.N {
						r.Tick()
					}
				})
			})
		})
	}
}

// A message from one polling reactor to another, on a core each: every hop is one message.
func BenchmarkMessageHop(b *testing.B) {
	g := start(b, reactor.Config{Cores: []int{0, 1}, Idle: reactor.Poll})
	r := g.Reactor(0)
	k := &token{g: g, hops: b.N, done: make(chan struct{})}
	b.ResetTimer()
	if err := r.Go(func() { r.Send(g.Reactor(1), k) }); err != nil {
		b.Fatal(err)
	}
	<-k.done
}

// Messages in a stream: batches of 64 to a reactor that only counts.
func BenchmarkMessageStream(b *testing.B) {
	g := start(b, reactor.Config{Cores: []int{0, 1}, Idle: reactor.Poll})
	r, to := g.Reactor(0), g.Reactor(1)
	k := &token{g: g, hops: 1, done: make(chan struct{})}
	var m reactor.Message = discard{}
	on(b, r, func() {
		b.ResetTimer()
		for i := range b.N {
			r.Send(to, m)
			if i%64 == 63 {
				r.Tick()
				for n, _ := r.Waiting(to); n > 0; n, _ = r.Waiting(to) {
					r.Tick()
				}
			}
		}
		r.Send(to, k)
	})
	<-k.done
}

func BenchmarkTimerSetStop(b *testing.B) {
	for _, n := range []int{1, 1024} {
		b.Run(fmt.Sprintf("others=%d", n), func(b *testing.B) {
			g := start(b, reactor.Config{Idle: reactor.Interrupt})
			r := g.Reactor(0)
			run := runFunc(func() {})
			on(b, r, func() {
				timers := make([]reactor.Timer, n+1)
				for i := range timers[1:] {
					r.SetTimer(&timers[i+1], r.Now()+reactor.Second*1000+reactor.Ticks(i), run)
				}
				timed(b, r, func() {
					for i := range b.N {
						r.SetTimer(&timers[0], r.Now()+reactor.Second*1000+reactor.Ticks(i%n), run)
						r.StopTimer(&timers[0])
					}
				})
				for i := range timers {
					r.StopTimer(&timers[i])
				}
			})
		})
	}
}

// nops keeps operations in flight that do nothing.
type nops struct {
	r    *reactor.Reactor
	left int
	ops  []reactor.Op
	done chan struct{}
}

func (n *nops) OpDone(op *reactor.Op, _ int32, _ uint32) {
	if n.left--; n.left >= len(n.ops) {
		ring.PrepNop(n.r.Start(op))
	} else if n.left == 0 {
		for i := range n.ops {
			n.r.Unbind(&n.ops[i])
		}
		close(n.done)
	}
}

// An operation that the kernel completes at once: what the ring and the loop cost.
func BenchmarkOperation(b *testing.B) {
	for _, batch := range []int{1, 8, 32, 128} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			g := start(b, reactor.Config{Idle: reactor.Poll})
			r := g.Reactor(0)
			n := &nops{r: r, left: max(b.N, batch), ops: make([]reactor.Op, batch), done: make(chan struct{})}
			on(b, r, func() {
				for i := range n.ops {
					r.Bind(&n.ops[i], n)
				}
				timed(b, r, func() {
					for i := range n.ops {
						ring.PrepNop(r.Start(&n.ops[i]))
					}
					for n.left > 0 {
						r.Tick()
					}
				})
			})
			<-n.done
		})
	}
}

func BenchmarkGetPut(b *testing.B) {
	for _, size := range []int{4096, 128 << 10} {
		for _, out := range []int{1, 64} {
			b.Run(fmt.Sprintf("%dKiB/out=%d", size>>10, out), func(b *testing.B) {
				g := start(b, reactor.Config{Idle: reactor.Interrupt})
				r := g.Reactor(0)
				bufs := make([][]byte, out)
				on(b, r, func() {
					m := r.Memory()
					timed(b, r, func() {
						for range b.N / out {
							for i := range bufs {
								bufs[i] = m.Get(size)
							}
							for i := range bufs {
								m.Put(bufs[i])
							}
						}
					})
				})
			})
		}
	}
}
