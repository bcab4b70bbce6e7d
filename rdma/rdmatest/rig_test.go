package rdmatest

import (
	"net/netip"
	"testing"

	"github.com/pollux-storage/pollux/rdma"
)

// rig is a fabric with a connection from a host to a target.
type rig struct {
	f            *Fabric
	hp, tp       *Provider
	hs, ts       *side
	host, target *link
}

const memBytes = 64 << 10

var (
	shallow  = rdma.QPConfig{SendDepth: 8, RecvDepth: 8, SGEs: 2, InlineBytes: 64}
	plain    = rdma.ConnParams{ReadsIn: 4, ReadsOut: 4, RNR: 7}
	loopback = netip.MustParseAddr("127.0.0.1")
)

func newRig(t testing.TB, ho, to Options) *rig {
	t.Helper()
	f := NewFabric()
	r := &rig{f: f, hp: f.Provider("host", ho), tp: f.Provider("target", to)}
	r.hs, r.ts = newSide(t, r.hp, "", 64, memBytes), newSide(t, r.tp, "", 64, memBytes)
	t.Cleanup(func() {
		if t.Failed() {
			return
		}
		r.hp.Events(nil)
		r.tp.Release()
		r.hp.Release()
		if r.host != nil {
			r.host.end()
			r.target.end()
			if r.target.srq != 0 {
				r.ts.must(r.ts.card.DestroySRQ(r.target.srq))
			}
		}
		r.hs.close()
		r.ts.close()
		r.hs.must(r.hp.Close())
		r.hs.must(r.tp.Close())
		if a := f.Alive(); a != (Alive{}) {
			t.Errorf("left: %v", a)
		}
	})
	return r
}

func (r *rig) connect(hq, tq rdma.QPConfig, hp, tp rdma.ConnParams) *rig {
	l, at := r.ts.listen(loopback)
	r.host = r.hs.resolve(netip.Addr{}, at).makeQP(hq)
	r.hs.must(r.hs.cm.Connect(r.host.id, hp))
	r.target = &link{side: r.ts, id: r.ts.want(rdma.EventConnect).ID}
	r.target.makeQP(tq)
	r.ts.must(r.ts.cm.Accept(r.target.id, tp))
	r.hs.want(rdma.EventEstablished)
	r.ts.want(rdma.EventEstablished)
	r.ts.must(r.ts.cm.Destroy(l))
	return r
}

func plainRig(t testing.TB) *rig {
	t.Helper()
	return newRig(t, Options{}, Options{}).connect(shallow, shallow, plain, plain)
}

// exactly wants these completions to be there, and no more.
func (s *side) exactly(want ...ending) {
	s.t.Helper()
	var w [64]rdma.Completion
	n, err := s.card.Poll(s.cq, w[:])
	s.must(err)
	ok := n == len(want)
	for i := 0; ok && i < n; i++ {
		ok = w[i].ID == want[i].id && want[i].allows(w[i].Status)
	}
	if !ok {
		s.t.Fatalf("%s: completions %v, want %v", s.p.Name(), endings(w[:n]), want)
	}
}
