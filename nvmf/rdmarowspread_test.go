package nvmf_test

import (
	"testing"

	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
)

// rdmaHomes gives how many I/O queues of a controller each reactor has.
func rdmaHomes(t *testing.T, e *nvmftest.Engine, id nvmf.CNTLID) []int {
	t.Helper()
	queues, err := e.Target.Queues(nvmftest.NQN)
	if err != nil {
		t.Fatal(err)
	}
	on := make([]int, e.Group.Len())
	for _, q := range queues {
		if q.CNTLID == id && q.QID > 0 {
			on[q.Reactor]++
		}
	}
	return on
}

// The queues of a controller go to different reactors, though one has nothing to do and the other has many queues; whether the host names its controller
// when it asks for connections, or not.
func TestRDMAQueuesOfAControllerSpread(t *testing.T) {
	for _, says := range []bool{true, false} {
		e := overRDMA(t, 2)
		open := func(a *nvmftest.RDMAPeer, first, last nvmf.QID) (peers []*nvmftest.RDMAPeer) { // all connections first, as Linux does
			id := a.CNTLID
			if !says {
				id = 0
			}
			for qid := first; qid <= last; qid++ {
				peers = append(peers, e.DialRDMA(t, e.RDMA.Addr, qid, 32, id))
			}
			for i, p := range peers {
				p.WantStatus("Connect", p.Connect(first+nvmf.QID(i), 32, a.CNTLID), nvmf.StatusSuccess)
			}
			return peers
		}
		want := func(a *nvmftest.RDMAPeer, zero, one int) {
			t.Helper()
			if on := rdmaHomes(t, e, a.CNTLID); on[0] != zero || on[1] != one {
				t.Errorf("the host names its controller: %t; its queues are on the reactors %v, want %d and %d", says, on, zero, one)
			}
		}
		a, b, c := e.AdminRDMA(t), e.AdminRDMA(t), e.AdminRDMA(t)
		ofA, ofB := open(a, 1, 4), open(b, 1, 6)
		want(a, 2, 2)
		want(b, 3, 3)
		queues, err := e.Target.Queues(nvmftest.NQN)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range queues { // each reactor loses one controller's
			switch {
			case q.QID > 0 && q.CNTLID == a.CNTLID && q.Reactor == 1:
				ofA[q.QID-1].Close()
			case q.QID > 0 && q.CNTLID == b.CNTLID && q.Reactor == 0:
				ofB[q.QID-1].Close()
			}
		}
		e.AwaitQueues("half of the queues end", 5)
		open(c, 1, 2)
		want(c, 1, 1)
		if says {
			open(a, 5, 5) // where it has none, though there are more queues of others
			want(a, 2, 1)
		}
	}
}

// A connection that the card has no room for leaves nothing behind that counts for the next.
func TestRDMARefusedQueuesCountNowhere(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{Reactors: 2, RDMA: &rdmatest.Options{CQDepthMax: 300}})
	a := e.AdminRDMA(t)
	refused := 0
	var peers []*nvmftest.RDMAPeer
	for qid := nvmf.QID(1); qid <= 8; qid++ {
		p, why := e.TryRDMA(t, e.RDMA.Addr, nvmftest.RDMAOptions{Request: nvmf.RDMARequest{QID: qid, HRQSIZE: 32, HSQSIZE: 31, CNTLID: a.CNTLID}, IRD: 16})
		if p == nil {
			if refused++; why != nvmf.RDMANoResources {
				t.Errorf("queue %d: %v", qid, why)
			}
			continue
		}
		peers = append(peers, p)
	}
	if refused == 0 || len(peers) < 2 {
		t.Fatalf("%d connections are refused, %d are not", refused, len(peers))
	}
	for _, p := range peers {
		p.Close()
	}
	nvmftest.Await(t, "the connections are gone, and their room is free", func() bool {
		n, pairs := e.Target.Placed(), 0
		for _, s := range e.Target.RDMAStats() {
			pairs += s.QueuePairs
		}
		return n[0] == 0 && n[1] == 0 && pairs == 1
	})
	for qid := nvmf.QID(1); qid <= 2; qid++ {
		e.QueueRDMA(t, a, qid, 32)
	}
	if on := rdmaHomes(t, e, a.CNTLID); on[0] != 1 || on[1] != 1 {
		t.Errorf("queues are on the reactors %v", on)
	}
}
