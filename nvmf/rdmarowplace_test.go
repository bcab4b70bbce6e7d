package nvmf

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// rdmaPlacing is a target that RDMA queues come to and leave.
type rdmaPlacing struct {
	all   rdmaFamilies
	total []int
}

func (x *rdmaPlacing) place(from netip.Addr, id CNTLID, qid QID) *rdmaPlace {
	loads := make([]reactorLoad, len(x.total))
	for i := range loads {
		loads[i].queues, loads[i].sample = x.total[i], x.total[i]
	}
	p := x.all.place(from, RDMARequest{QID: qid, CNTLID: id}, loads)
	x.total[p.reactor]++
	return p
}

func (x *rdmaPlacing) leave(p *rdmaPlace) {
	p.gone.Store(true)
	x.total[p.reactor]--
}

// The queues of each controller over RDMA spread, as they do over TCP, though nobody says whose they are: hosts that name their controller and hosts that
// do not, several controllers of one host with the same name in different subsystems, and whoever leaves.
func TestRDMAPlacedQueuesSpread(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		x := rdmaPlacing{total: make([]int, 1+rnd.IntN(6))}
		var alive [][]*rdmaPlace
		for range 1 + rnd.IntN(12) {
			from := netip.AddrFrom4([4]byte{10, 0, 0, byte(rnd.IntN(3))})
			id := CNTLID(rnd.IntN(3))
			own := make([]int, len(x.total))
			var mine []*rdmaPlace
			for qid := range 1 + rnd.IntN(20) {
				p := x.place(from, id, QID(qid+1))
				own[p.reactor]++
				mine = append(mine, p)
			}
			if slices.Max(own)-slices.Min(own) > 1 {
				t.Fatalf("seed %d: queues of a controller on the reactors: %v", seed, own)
			}
			if alive = append(alive, mine); rnd.IntN(3) == 0 {
				i := rnd.IntN(len(alive))
				for _, p := range alive[i] {
					x.leave(p)
				}
				alive = slices.Delete(alive, i, i+1)
			}
		}
	}
}

// What counts beside that is what counts over TCP, and nothing is kept of queues that have gone.
func TestRDMAPlace(t *testing.T) {
	host, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	x := rdmaPlacing{total: []int{5, 0}}
	for qid, want := range []int{1, 0, 1, 0} {
		if p := x.place(host, 7, QID(qid+1)); p.reactor != want {
			t.Errorf("queue %d is on reactor %d, want %d: a controller's queues spread, though one reactor has more of others", qid+1, p.reactor, want)
		}
	}
	if p := x.place(other, 7, 1); p.reactor != 1 {
		t.Error("another host's first queue is where there are more")
	}
	if p := x.place(host, 8, 1); p.reactor != 1 {
		t.Error("another controller's first queue is where there are more")
	}
	// A queue comes again: it is taken for what it was before.
	x = rdmaPlacing{total: []int{0, 0}}
	var a []*rdmaPlace
	for qid := range 4 {
		a = append(a, x.place(host, 0, QID(qid+1)))
	}
	for qid := range 3 {
		x.place(host, 0, QID(qid+1))
	}
	b := x.all[1].queues
	x.leave(a[2])
	x.total[a[2].reactor] += 9 // of others
	if again := x.place(host, 0, 3); again.reactor != a[2].reactor || len(x.all) != 2 {
		t.Errorf("queue 3 comes again on reactor %d, was on %d; %d controllers are known", again.reactor, a[2].reactor, len(x.all))
	}
	for _, p := range append(a, b...) {
		p.gone.Store(true)
	}
	x.all.of(other, RDMARequest{QID: 1})
	if len(x.all) != 2 || len(x.all[0].queues) != 1 {
		t.Errorf("%d controllers are known: one queue is left, and another begins", len(x.all))
	}
	hot := []reactorLoad{{busy: 900}, {busy: 100, queues: 4, sample: 4}}
	if p := new(rdmaFamilies).place(host, RDMARequest{QID: 1}, hot); p.reactor != 1 {
		t.Error("a hot reactor gets a queue")
	}
}
