package bdev_test

import (
	"fmt"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevtest"
	"github.com/pollux-storage/pollux/reactor"
)

// benchT lets a benchmark make devices as tests do.
type benchT struct{ *testing.B }

// loaded keeps requests in flight until enough have ended.
type loaded struct {
	ch        *bdev.Channel
	left, out int
	mask      uint64
	seed      uint64
	end       chan struct{}
}

func (l *loaded) RequestDone(q *bdev.Request) {
	if q.Status != bdev.StatusOK {
		panic(q.Status)
	}
	if l.left == 0 {
		if l.out--; l.out == 0 {
			l.end <- struct{}{}
		}
		return
	}
	l.left--
	l.seed = l.seed*6364136223846793005 + 1442695040888963407
	q.LBA = l.seed >> 33 & l.mask
	l.ch.Submit(q)
}

// BenchmarkRequest measures 4 KiB requests at random blocks on one reactor, submit to end.
func BenchmarkRequest(b *testing.B) {
	for _, c := range []struct {
		name string
		make maker
	}{
		{"null", null}, {"mem", mem}, {"passthru-null", on(null, passthru)}, {"qos-null", on(null, qos(bdev.Limits{IOs: 1 << 40}))},
		{"crypt-null", on(null, crypt(32))}, {"stripe-null", stripe(bdev.StripeRAID0, 64<<10, halves(bdevtest.Bytes), nullMember)},
		{"uring", uringFile},
	} {
		for _, kind := range []bdev.Kind{bdev.Read, bdev.Write} {
			for _, depth := range []int{1, 32} {
				b.Run(fmt.Sprintf("%s/%v/qd%d", c.name, kind, depth), func(b *testing.B) {
					g := bdevtest.Start(benchT{b}, 1)
					e := bdevtest.NewEnv(benchT{b}, g, bdevtest.Subject{Make: c.make}, 4096)
					r := g.Reactor(0)
					r.SetIdle(reactor.Poll)
					l := &loaded{ch: e.Channels[0], mask: e.G.Blocks - 1, end: make(chan struct{}, 1)}
					var jobs []*bdev.Request
					var memory [][]byte
					call(r, func() {
						for range depth {
							m := r.Memory().Get(4096)
							memory = append(memory, m)
							q := &bdev.Request{Kind: kind, Blocks: 1, Done: l}
							q.SetData(m)
							jobs = append(jobs, q)
						}
					})
					run := func(n int) {
						call(r, func() {
							l.left, l.out = max(n-depth, 0), depth
							for _, q := range jobs {
								l.ch.Submit(q)
							}
						})
						<-l.end
					}
					run(1000)
					b.ResetTimer()
					run(b.N)
					b.StopTimer()
					call(r, func() {
						for i, q := range jobs {
							q.Release()
							r.Memory().Put(memory[i])
						}
					})
				})
			}
		}
	}
}
