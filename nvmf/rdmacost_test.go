package nvmf_test

import (
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
