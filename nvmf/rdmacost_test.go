package nvmf_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
)

// rdmaRound is n commands of each kind: writes in capsules, writes that are fetched, and reads.
func rdmaRound(p *nvmftest.RDMAPeer, n int) *nvmftest.RDMARound {
	var sqes []*nvmf.SQE
	var data [][]byte
	for i := range n {
		w := p.RW(nvmf.IOWrite, uint64(i), 1)
		sqes, data = append(sqes, nvmftest.InlineData(w, 4096)), append(data, make([]byte, 4096))
		for _, op := range []nvmf.IOOpcode{nvmf.IOWrite, nvmf.IORead} {
			s := p.RW(op, uint64(100+4*i), 4)
			b, key := p.Memory(4 * 4096)
			s.SetSGL(p.SGL(b, key))
			sqes, data = append(sqes, s), append(data, nil)
		}
	}
	return p.Round(sqes, data)
}

// Nothing on the whole path of a command over RDMA allocates, from the card's completion to the response, whatever way its data takes.
func TestRDMAAllocatesNothing(t *testing.T) {
	for _, shared := range []int{0, 4096} {
		e := nvmftest.Start(t, nvmftest.Options{RDMA: &rdmatest.Options{SRQDepth: shared}})
		p := e.QueueRDMA(t, e.AdminRDMA(t), 1, 32)
		r := rdmaRound(p, 8)
		for range 20 {
			r.Run() // what is made once is made
		}
		const rounds = 200
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range rounds {
			r.Run()
		}
		runtime.ReadMemStats(&after)
		if n := after.Mallocs - before.Mallocs; n > rounds {
			t.Errorf("%d shared: %d allocations for %d commands", shared, n, rounds*24)
		}
	}
}

// What a command costs on the fabric, in calls of the card and in time, by how many come at once: the transport alone is what changes with that.
func BenchmarkRDMA(b *testing.B) {
	for _, n := range []int{1, 8, 32} {
		b.Run(fmt.Sprintf("reads-%d", n), func(b *testing.B) {
			e := nvmftest.Start(b, nvmftest.Options{RDMA: &rdmatest.Options{SRQDepth: 4096}})
			p := e.QueueRDMA(b, e.AdminRDMA(b), 1, 64)
			var sqes []*nvmf.SQE
			for i := range n {
				s := p.RW(nvmf.IORead, uint64(i), 1)
				m, key := p.Memory(4096)
				s.SetSGL(p.SGL(m, key))
				sqes = append(sqes, s)
			}
			r := p.Round(sqes, make([][]byte, n))
			crossings := func() (posts, calls, polls uint64) {
				for _, s := range e.Target.RDMAStats() {
					posts, calls, polls = posts+s.Posts+s.RecvPosts, calls+s.PostCalls+s.RecvCalls, polls+s.Polls-s.PollsEmpty
				}
				return posts, calls, polls
			}
			posts, calls, polls := crossings()
			b.ReportAllocs()
			commands := 0
			for b.Loop() {
				r.Run()
				commands += n
			}
			posts2, calls2, polls2 := crossings()
			b.ReportMetric(float64(posts2-posts)/float64(commands), "posts/command")
			b.ReportMetric(float64(calls2-calls)/float64(commands), "postcalls/command")
			b.ReportMetric(float64(polls2-polls)/float64(commands), "polls/command")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(commands), "ns/command")
		})
	}
}

// What was said of shared receives is done.
func TestRDMASharedReceivesAsTheyWereAskedFor(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(o *nvmf.TransportOptions)
		queues int // shared receive queues
		most   int // receives on the card: 32 of the Admin queue, and those of two queues of 32
	}{
		{"as it is made", func(*nvmf.TransportOptions) {}, 1, 96},
		{"none", func(o *nvmf.TransportOptions) { o.NoSRQ = true }, 0, 96},
		{"few", func(o *nvmf.TransportOptions) { o.MaxQueueDepth, o.MaxSRQDepth = 32, 40 }, 1, 72},
	} {
		e := nvmftest.Start(t, nvmftest.Options{RDMA: &rdmatest.Options{SRQDepth: 4096}, Transport: func(o *nvmf.TransportOptions) {
			if o.TRType == "RDMA" {
				c.change(o)
			}
		}})
		a := e.AdminRDMA(t)
		for qid := nvmf.QID(1); qid <= 2; qid++ {
			p := e.QueueRDMA(t, a, qid, 32)
			p.WantStatus("write", p.Do(p.RW(nvmf.IOWrite, 0, 1), make([]byte, 4096)), nvmf.StatusSuccess)
		}
		var s rdma.Stats
		nvmftest.Await(t, c.what+": the receives are on the card", func() bool {
			s = e.Target.RDMAStats()[0]
			return s.SharedQueues == 0 || s.Receives == c.most
		})
		if s.SharedQueues != c.queues {
			t.Errorf("%s: %d shared receive queues, want %d", c.what, s.SharedQueues, c.queues)
		}
	}
}

// A drain waits for what was begun over RDMA, and then lets connections go; none comes before it is taken back.
func TestRDMADrain(t *testing.T) {
	e, held := heldOverRDMA(t, nvmftest.Options{Reactors: 2})
	a := e.AdminRDMA(t)
	p := e.QueueRDMA(t, a, 1, 32)
	s := onHeld(p, nvmf.IOWrite, 1)
	p.Send(s, pattern(4096, 1))
	held.Want("a command", 1)
	drained := make(chan error, 1)
	go func() { drained <- e.Target.Drain(t.Context(), func(int, int) {}) }()
	nvmftest.Await(t, "the target is being drained", e.Target.Draining)
	held.End(0)
	p.WantStatus("what was begun", p.Completion(s).CQE, nvmf.StatusSuccess)
	if err := nvmftest.Take(t, "the drain", drained); err != nil {
		t.Fatal(err)
	}
	p.WantClosed("an I/O queue of a drained target")
	a.WantClosed("an Admin queue of a drained target")
	if err := e.Target.Undrain(); err != nil {
		t.Fatal(err)
	}
	e.QueueRDMA(t, e.AdminRDMA(t), 1, 32)
}
