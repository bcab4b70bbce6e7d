package rdma_test

import (
	"runtime"
	"slices"
	"testing"

	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
)

// What an end must not let happen: that something leaves behind what did not, that memory counts as free before it is, and that a queue is touched
// where it no longer lives.

// TestNothingLeavesBehindARequestThatWasNotTaken: the first would be data that a host is told of by the last.
func TestNothingLeavesBehindARequestThatWasNotTaken(t *testing.T) {
	x, c := badRig(t, srq)
	cfg := plain
	cfg.SendDepth = 300
	a := &acceptor{cfg: cfg}
	h, g := x.connect(a, x.target.listen(a))
	refuse := func(w *rdma.SendWR) error {
		if w.SGE[0].Bytes == 13 {
			return errBad
		}
		return nil
	}
	c.refuse.Store(&refuse)
	on(t, g.r, func() {
		for id := range uint64(290) { // more than leave in one call
			g.send(id, []string{"not this one!", "behind it"}[min(id, 1)])
		}
	})
	g.wantClosed(t)
	h.wantClosed(t)
	on(t, g.r, func() {
		if len(g.completed) != 290 || slices.ContainsFunc(g.completed, func(c completion) bool { return c.s != rdma.StatusFlushed }) {
			t.Errorf("%d completed", len(g.completed))
		}
	})
	on(t, h.r, func() {
		if len(h.got) != 0 {
			t.Errorf("the host got %q", h.got[0])
		}
	})
}

// TestWhatIsPostedLateCompletesAfterWhatTheCardHas: its completion lets the memory of all before it be used again.
func TestWhatIsPostedLateCompletesAfterWhatTheCardHas(t *testing.T) {
	eachKind(t, func(t *testing.T, o rdmatest.Options) {
		x := newRig(t, rigOptions{target: o, host: o})
		x.fabric.Watch()
		a := &acceptor{make: func(e *end) { e.stay = true }}
		h, g := x.connect(a, x.target.listen(a))
		_, remote, key := h.lend(t)
		x.target.p.Withhold(rdmatest.AllWork)
		on(t, g.r, func() {
			b := g.buffer(4096)
			for id := range uint64(6) { // two of them wait
				g.q.Post(&rdma.SendWR{ID: id, Opcode: rdma.OpRead, Flags: rdma.Signaled, Remote: remote.Address, RemoteKey: key, SGEs: 1, SGE: [2]rdma.SGE{g.q.SGE(b[:64])}})
			}
			g.q.Post(&rdma.SendWR{ID: 6, Opcode: rdma.OpSend, SGEs: 1, SGE: [2]rdma.SGE{g.q.SGE(g.buffer(64))}})
		})
		x.target.p.LoseAddress(0)
		g.want(t, "its end", func() bool { return len(g.ended) == 1 })
		on(t, g.r, func() { g.send(7, "late") })
		h.want(t, "the other's end", func() bool { return len(h.ended) == 1 })
		for range 1000 {
			on(t, g.r, func() {
				if len(g.completed) != 0 {
					t.Errorf("the card still has what was posted before: %v", g)
				}
			})
		}
		x.target.p.Release()
		g.want(t, "completions", func() bool { return len(g.completed) == 8 })
		on(t, g.r, func() {
			for i, id := range []uint64{0, 1, 2, 3, 6, 4, 5, 7} {
				if g.completed[i] != (completion{id, rdma.StatusFlushed}) {
					t.Errorf("%v", g)
				}
			}
			g.q.Close()
		})
		g.wantClosed(t)
	})
}

// TestAMovableQueueIsTakenAwayWhileItMoves: wherever it is then, or between two reactors, it ends once and well.
func TestAMovableQueueIsTakenAwayWhileItMoves(t *testing.T) {
	for what, hurt := range map[string]func(x *rig, h *end){
		"the card is removed": func(x *rig, _ *end) { x.target.p.Remove(0, false) },
		"the card vanishes":   func(x *rig, _ *end) { x.target.p.Remove(0, true) },
		"the address is lost": func(x *rig, _ *end) { x.target.p.LoseAddress(0) },
		"the peer closes":     func(_ *rig, h *end) { _ = h.r.Go(func() { h.q.Close() }) },
	} {
		t.Run(what, func(t *testing.T) {
			for round := range 3 {
				x, _, h, g := movable(t)
				hurting := make(chan struct{})
				go func() {
					for range round * 50 {
						runtime.Gosched()
					}
					hurt(x, h)
					close(hurting)
				}()
				for i := 0; ; i++ {
					to := x.target.g.Reactor((i + 1) % 2)
					n := &end{}
					m := &arrival{open: n.open, q: make(chan *rdma.Queue, 1)}
					on(t, g.r, func() {
						if m.d = g.q.Detach(); m.d != nil {
							g.r.Send(to, m)
						}
					})
					if m.d == nil {
						break
					}
					<-m.q
					g = n
				}
				<-hurting
				g.wantClosed(t)
				on(t, g.r, func() {
					if len(g.ended) != 1 {
						t.Errorf("%v", g)
					}
				})
				x.close()
			}
		})
	}
}
