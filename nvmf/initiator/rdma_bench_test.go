package initiator

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
	"github.com/pollux-storage/pollux/reactor"
)

// BenchmarkRDMA gives what a command costs the host's side of the transport, on the fabric in memory, by how many are started at once: work
// requests, receives, calls into the card's driver, and time. The target is on the same reactor and answers at once, so nobody waits, and what is
// measured has no data, disk or network in it; its turn and the fabric's work, which no card asks of a processor, are in the time. Time is that
// of the fastest tenth of the turns.
func BenchmarkRDMA(b *testing.B) {
	for _, c := range []struct {
		kind  bdev.Kind
		bytes int
	}{{bdev.Read, 4096}, {bdev.Write, 4096}, {bdev.Write, 64 << 10}} {
		for _, batch := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("%v,%dk,batch=%d", c.kind, c.bytes>>10, batch), func(b *testing.B) { benchmarkRDMA(b, c.kind, c.bytes, batch) })
		}
	}
}

// turnOf starts so many requests at once, waits for all of them, and does so again.
type turnOf struct {
	ch    *bdev.Channel
	qs    []bdev.Request
	open  int
	left  int
	began reactor.Ticks
	r     *reactor.Reactor
	times []reactor.Ticks
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

func (s *turnOf) RequestDone(*bdev.Request) {
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

func benchmarkRDMA(b *testing.B, kind bdev.Kind, bytes, batch int) {
	h := newHost(b, 1)
	f := newRDMAFakeOn(b, rdmatest.Options{SRQDepth: 4096}, h.group)
	n := h.useRDMA(f.near)
	h.before = append(h.before, f.stop)
	o := rdmaOptions(n, f.addr)
	o.QueueDepth, o.KeepAlive = 64, 0
	h.attach(o)
	quiet := f.hush()
	defer quiet()
	d := h.open("Nvme0n1")
	defer d.close()
	r := h.group.Reactor(0)
	s := &turnOf{ch: d.channels[0], qs: make([]bdev.Request, batch), r: r, ended: make(chan struct{}, 1)}
	for j := range s.qs {
		q := &s.qs[j]
		q.Kind, q.LBA, q.Blocks, q.Done = kind, uint64(j*16), uint64(bytes/4096), s
		q.Data = [][]byte{h.pool(0, bytes)}
	}
	run := func(turns int) {
		s.left, s.times = turns, make([]reactor.Ticks, 0, turns)
		if err := r.Go(s.Run); err != nil {
			b.Fatal(err)
		}
		<-s.ended
	}
	run(100)
	before := n.Stats()[0]
	b.ResetTimer()
	run(b.N)
	b.StopTimer()
	after := n.Stats()[0]
	per := func(v uint64) float64 { return float64(v) / float64(b.N*batch) }
	slices.Sort(s.times)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(time.Duration(s.times[len(s.times)/20]))/float64(batch), "ns/command")
	b.ReportMetric(per(after.Posts-before.Posts), "posts/command")
	b.ReportMetric(per(after.RecvPosts-before.RecvPosts), "receives/command")
	b.ReportMetric(per(after.Completions-before.Completions), "completions/command")
	b.ReportMetric(per(crossings(&after)-crossings(&before)), "crossings/command")
	b.ReportMetric(per(after.Polls-before.Polls-(after.PollsEmpty-before.PollsEmpty)), "polls/command")
}

// crossings is calls into the driver that had something to do: while a reactor spins, how often it looks in vain says nothing of commands.
func crossings(s *rdma.Stats) uint64 { return s.Crossings() - s.PollsEmpty }
