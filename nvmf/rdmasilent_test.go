package nvmf_test

import (
	"testing"
	"time"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
)

// REQUIREMENTS T-19: the memory of commands whose answers leave in silence is the card's until it tells of a later one; where none follows it is asked.
func TestRDMASilentAnswersKeepTheirMemory(t *testing.T) {
	nvmf.SetPatience(t, nvmf.Patience{Soon: time.Hour})
	e := overRDMA(t, 1)
	e.RDMA.Fabric.Watch()
	p := e.QueueRDMA(t, e.AdminRDMA(t), 1, 32)
	idle := lent(t, e)
	const commands, bytes = 4, 4096
	for range 3 { // after which it is as before
		e.RDMA.Target.Withhold(rdmatest.Sends)
		var sent []*nvmf.SQE
		for i := range commands {
			s := p.RW(nvmf.IORead, uint64(i), 1)
			sendKeyed(p, s, bytes)
			sent = append(sent, s)
		}
		nvmftest.Await(t, "the card has the memory of the commands", func() bool { return lent(t, e)-idle >= commands*bytes })
		has := lent(t, e)
		for _, s := range sent[:commands-1] {
			nvmftest.Await(t, "an answer is on the card", func() bool { return e.RDMA.Target.Step(0) })
			p.WantStatus("read", p.Response(s).CQE, nvmf.StatusSuccess)
			if now := lent(t, e); now != has {
				t.Fatalf("%d bytes came back before the card told of the answer, or of one behind it", has-now)
			}
		}
		e.RDMA.Target.Release()
		p.WantStatus("read", p.Response(sent[commands-1]).CQE, nvmf.StatusSuccess)
		nvmftest.Await(t, "the memory is back although no answer follows", func() bool { return lent(t, e) == idle })
	}
	p.Close()
}

// Answers that follow one another leave in silence but for one in so many; those that do not are told, each.
func TestRDMASilentAnswers(t *testing.T) {
	for _, c := range []struct {
		soon  time.Duration
		least uint64 // completions for 64 commands, their capsules among them
		most  uint64
	}{{time.Hour, 64 + 7, 64 + 48}, {1, 128, 128}} {
		nvmf.SetPatience(t, nvmf.Patience{Soon: c.soon})
		e := overRDMA(t, 1)
		p := e.QueueRDMA(t, e.AdminRDMA(t), 1, 32)
		idle := lent(t, e)
		count := func() uint64 {
			nvmftest.Await(t, "all is back", func() bool { return lent(t, e) == idle })
			return e.Target.RDMAStats()[0].Completions
		}
		s := p.RW(nvmf.IORead, 0, 1)
		m, key := p.Memory(4096)
		s.SetSGL(p.SGL(m, key))
		r := p.Round([]*nvmf.SQE{s}, make([][]byte, 1))
		before := count()
		for range 64 {
			r.Run()
		}
		if n := count() - before; n < c.least || n > c.most {
			t.Errorf("within %v: %d completions for 64 commands, want %d to %d", c.soon, n, c.least, c.most)
		}
	}
}
