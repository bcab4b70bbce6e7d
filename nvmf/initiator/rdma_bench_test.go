package initiator

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
	"github.com/pollux-storage/pollux/reactor"
)

// BenchmarkRDMA gives what a command costs over RDMA, by how many are started at once: at each end the work requests, receives, completions, calls
// into the card's driver and rings of its doorbell; and the time of the whole way. Our initiator and our target have one reactor, which polls, and a
// fabric in memory: nobody waits, nobody sleeps, and the target's device does nothing. What the fabric takes, of which no card asks a processor,
// is in the time. Time is the median of the turns.
func BenchmarkRDMA(b *testing.B) {
	for _, kind := range []bdev.Kind{bdev.Read, bdev.Write} {
		for _, batch := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("%v,batch=%d", kind, batch), func(b *testing.B) { benchmarkRDMA(b, kind, batch) })
		}
	}
}

// warmUp is turns before anything is measured.
const warmUp = 200

// turnOf starts so many requests at once, waits for all of them, and does so again.
type turnOf struct {
	ch    *bdev.Channel
	qs    []bdev.Request
	open  int
	left  int
	began reactor.Ticks
	r     *reactor.Reactor
	times []reactor.Ticks
	bad   bdev.Status
	ended chan struct{}
	again reactor.Deferred
}

func (s *turnOf) Run() {
	s.began = reactor.Clock()
	s.open = len(s.qs)
	for j := range s.qs {
		s.ch.Submit(&s.qs[j])
	}
}

func (s *turnOf) RequestDone(q *bdev.Request) {
	if q.Status != bdev.StatusOK {
		s.bad = q.Status
	}
	if s.open--; s.open > 0 {
		return
	}
	s.times = append(s.times, reactor.Clock()-s.began)
	if s.left--; s.left > 0 {
		s.r.Defer(&s.again, s)
		return
	}
	s.ended <- struct{}{}
}

func benchmarkRDMA(b *testing.B, kind bdev.Kind, batch int) {
	e := nvmftest.Start(b, nvmftest.Options{Empty: true, MemoryBytes: 64 << 20, RDMA: &rdmatest.Options{SRQDepth: 4096}})
	if _, err := bdev.NewNull(e.Bdevs, "Null0", uuid.Nil, 4096, 1<<20); err != nil {
		b.Fatal(err)
	}
	e.AddNamespace(nvmf.NamespaceOptions{BdevName: "Null0"})
	h := &host{t: b, group: e.Group, bdevs: e.Bdevs, in: New(e.Bdevs, slog.New(slog.DiscardHandler))}
	n := h.useRDMA(e.RDMA.Host)
	defer func() {
		if err := h.in.Detach(context.Background(), "Nvme0"); err != nil {
			b.Error(err)
		}
		for _, f := range h.before {
			f()
		}
	}()
	o := rdmaOptions(n, e.RDMA.Addr)
	o.QueueDepth, o.KeepAlive = 64, 0
	h.attach(o)
	d := h.open("Nvme0n1")
	defer d.close()
	r := h.group.Reactor(0)
	r.SetIdle(reactor.Poll)
	s := &turnOf{ch: d.channels[0], qs: make([]bdev.Request, batch), r: r, ended: make(chan struct{}, 1)}
	for j := range s.qs {
		q := &s.qs[j]
		q.Kind, q.LBA, q.Blocks, q.Done = kind, uint64(j), 1, s
		q.Data = [][]byte{h.pool(0, 4096)}
	}
	begin := s.Run
	run := func(turns int) {
		s.left, s.times = turns, s.times[:0]
		if err := r.Go(begin); err != nil {
			b.Fatal(err)
		}
		<-s.ended
	}
	s.times = make([]reactor.Ticks, 0, max(warmUp, b.N))
	run(warmUp)
	runtime.GC()
	host, target := n.Stats()[0], e.Target.RDMAStats()[0]
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	run(b.N)
	b.StopTimer()
	runtime.ReadMemStats(&after)
	if s.bad != bdev.StatusOK {
		b.Fatal(s.bad)
	}
	slices.Sort(s.times)
	commands := float64(b.N * batch)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(s.times[len(s.times)/2])/float64(batch), "ns/command")
	b.ReportMetric(float64((after.Mallocs-before.Mallocs)/uint64(b.N)), "allocs/turn")
	reportRDMA(b, "host", host, n.Stats()[0], commands)
	reportRDMA(b, "target", target, e.Target.RDMAStats()[0], commands)
}

// reportRDMA tells what one end did for each command. While a reactor spins, how often it looks in vain says nothing of commands: that is left out.
func reportRDMA(b *testing.B, who string, x, y rdma.Stats, commands float64) {
	for _, m := range []struct {
		what string
		of   func(*rdma.Stats) uint64
	}{
		{"posts", func(s *rdma.Stats) uint64 { return s.Posts }},
		{"receives", func(s *rdma.Stats) uint64 { return s.RecvPosts }},
		{"completions", func(s *rdma.Stats) uint64 { return s.Completions }},
		{"polls", func(s *rdma.Stats) uint64 { return s.Polls - s.PollsEmpty }},
		{"crossings", func(s *rdma.Stats) uint64 { return s.Crossings() - s.PollsEmpty }},
		{"doorbells", func(s *rdma.Stats) uint64 { return s.Chains + s.RecvCalls }},
	} {
		b.ReportMetric(float64(m.of(&y)-m.of(&x))/commands, who+"-"+m.what+"/command")
	}
}
