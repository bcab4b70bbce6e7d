package rdma_test

import (
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
	"github.com/pollux-storage/pollux/reactor"
)

// These are the ways in which connections end.

// srq is cards with shared receive queues.
var srq = rdmatest.Options{SRQDepth: 1024}

func TestEveryStatusOfEveryKindEndsTheQueueAndNothingElse(t *testing.T) {
	kinds := map[string]struct {
		kind rdma.CompletionKind
		op   rdma.Opcode
	}{"send": {rdma.DidSend, rdma.OpSend}, "write": {rdma.DidWrite, rdma.OpWrite}, "read": {rdma.DidRead, rdma.OpRead}, "receive": {rdma.DidRecv, rdma.OpSend}}
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			x := newRig(t, rigOptions{target: srq, host: srq})
			a := &acceptor{}
			l := x.target.listen(a)
			_, other := x.connect(a, l)
			for s := rdma.StatusLocalLength; s <= rdma.StatusGeneral; s++ {
				// The target posts: only a queue that was dialled gives its peer keys.
				h, g := x.connect(a, l)
				_, remote, key := h.lend(t)
				failing := g
				if k.kind == rdma.DidRecv {
					failing = h // which receives
					x.host.p.Wound(k.kind, 1, s)
				} else {
					x.target.p.Wound(k.kind, 1, s)
				}
				on(t, g.r, func() {
					b := g.buffer(4096)
					for id := range uint64(3) {
						g.q.Post(&rdma.SendWR{ID: id, Opcode: k.op, Flags: rdma.Signaled, Remote: remote.Address, RemoteKey: key, SGEs: 1, SGE: [2]rdma.SGE{g.q.SGE(b[:64])}})
					}
				})
				g.wantClosed(t)
				on(t, h.r, func() { h.q.Close() })
				h.wantClosed(t)
				on(t, failing.r, func() {
					var w *rdma.WorkError
					switch {
					case len(failing.ended) != 1:
						t.Errorf("%v: %v", s, failing)
					case s == rdma.StatusFlushed || k.kind == rdma.DidRecv && !errors.As(failing.ended[0], &w): // the peer may have been faster
						if !errors.Is(failing.ended[0], rdma.ErrDisconnected) {
							t.Errorf("%v", failing)
						}
					case !errors.As(failing.ended[0], &w) || w.Status != s:
						t.Errorf("%v: %v", s, failing)
					}
				})
				on(t, g.r, func() {
					if len(g.completed) != 3 || k.kind != rdma.DidRecv && g.completed[0] != (completion{0, s}) || g.completed[2].s == rdma.StatusOK && k.kind != rdma.DidRecv {
						t.Errorf("%v: %v", s, g)
					}
				})
			}
			on(t, other.r, func() {
				if len(other.ended) != 0 {
					t.Errorf("another connection: %v", other)
				}
			})
		})
	}
}

func TestAPeerThatVanishesIsFoundByARequest(t *testing.T) {
	eachKind(t, func(t *testing.T, o rdmatest.Options) {
		x := newRig(t, rigOptions{target: o, host: o})
		a := &acceptor{}
		_, g := x.connect(a, x.target.listen(a))
		x.host.p.Cut()
		on(t, g.r, func() { g.send(7, "anybody?"); g.send(8, "there?") })
		g.wantClosed(t)
		on(t, g.r, func() {
			if len(g.completed) != 2 || g.completed[0] != (completion{7, rdma.StatusRetry}) || g.completed[1] != (completion{8, rdma.StatusFlushed}) {
				t.Errorf("%v", g)
			}
		})
	})
}

func TestACardThatIsRemovedEndsAllOfIt(t *testing.T) {
	for _, silent := range []bool{false, true} {
		for _, movable := range []bool{false, true} {
			t.Run(fmt.Sprintf("silent %v, movable %v", silent, movable), func(t *testing.T) {
				eachKind(t, func(t *testing.T, o rdmatest.Options) {
					two := o
					two.Cards = 2
					x := newRig(t, rigOptions{target: two, host: o, reactors: 2})
					cfg := plain
					cfg.Movable = movable
					a := &acceptor{cfg: cfg}
					l := x.target.listen(a)
					var ends []*end
					for range 4 {
						_, g := x.connect(a, l)
						on(t, g.r, func() { g.send(1, "x") })
						ends = append(ends, g)
					}
					x.target.p.Withhold(rdmatest.AllWork)
					for _, g := range ends {
						on(t, g.r, func() { g.send(2, "under way") })
					}
					x.target.p.Remove(0, silent)
					if !silent {
						x.target.p.Release()
					}
					for _, g := range ends {
						g.wantClosed(t)
						on(t, g.r, func() {
							if len(g.ended) != 1 || !errors.Is(g.ended[0], rdma.ErrRemoved) && !errors.Is(g.ended[0], rdma.ErrDisconnected) || len(g.completed) != 2 ||
								g.completed[1] != (completion{2, rdma.StatusFlushed}) {
								t.Errorf("%v", g)
							}
						})
					}
					if l.Err() == nil {
						t.Error("the listener says nothing")
					}
					if n := len(x.target.n.Cards()); n != 1 {
						t.Errorf("%d cards are left", n)
					}
				})
			})
		}
	}
}

func TestACardThatFailsEndsAllOfIt(t *testing.T) {
	x := newRig(t, rigOptions{target: srq, host: srq})
	a := &acceptor{}
	_, g := x.connect(a, x.target.listen(a))
	x.target.p.CardEvent(0, rdma.CardEvent{Kind: rdma.CardPortDown, Port: 1})
	x.target.p.CardEvent(0, rdma.CardEvent{Kind: rdma.CardFatal})
	g.wantClosed(t)
}

func TestBuffersComeBackWhenTheCardHasNothingOfThem(t *testing.T) {
	eachKind(t, func(t *testing.T, o rdmatest.Options) {
		x := newRig(t, rigOptions{target: o, host: o})
		x.fabric.Watch()
		a := &acceptor{}
		_, g := x.connect(a, x.target.listen(a))
		x.target.p.Withhold(rdmatest.AllWork)
		on(t, g.r, func() { g.send(1, "one"); g.send(2, "two") })
		on(t, g.r, func() { g.q.Close() })
		for range 1000 {
			on(t, g.r, func() {
				if g.closed != 0 || len(g.completed) != 0 {
					t.Fatalf("the card still has its memory: %v", g)
				}
			})
		}
		for x.target.p.Step(0) { // one at a time
			on(t, g.r, func() {})
		}
		x.target.p.Release()
		g.wantClosed(t)
		on(t, g.r, func() {
			if len(g.completed) != 2 || g.completed[0].s != rdma.StatusFlushed || g.completed[1].s != rdma.StatusFlushed || len(g.ended) != 0 {
				t.Errorf("%v", g)
			}
		})
	})
}

func TestWhatIsPostedAfterTheEndIsFlushed(t *testing.T) {
	x := newRig(t, rigOptions{target: srq, host: srq})
	a := &acceptor{make: func(e *end) { e.stay = true }}
	h, g := x.connect(a, x.target.listen(a))
	on(t, h.r, func() { h.q.Close() })
	g.want(t, "its end", func() bool { return len(g.ended) == 1 })
	h.wantClosed(t)
	on(t, g.r, func() {
		g.send(1, "late")
		if len(g.completed) != 0 {
			t.Error("completed inside Post")
		}
		g.q.Close()
		if g.closed != 0 {
			t.Error("closed inside Close")
		}
		g.q.Close()
	})
	g.wantClosed(t)
	on(t, g.r, func() {
		if len(g.completed) != 1 || g.completed[0] != (completion{1, rdma.StatusFlushed}) {
			t.Errorf("%v", g)
		}
	})
}

func TestReceivesThatAreHeldOutliveTheConnection(t *testing.T) {
	eachKind(t, func(t *testing.T, o rdmatest.Options) {
		x := newRig(t, rigOptions{target: o, host: o})
		a := &acceptor{make: func(e *end) { e.keep = true }}
		h, g := x.connect(a, x.target.listen(a))
		on(t, h.r, func() { h.send(1, "kept") })
		g.want(t, "a message", func() bool { return len(g.rx) == 1 })
		on(t, h.r, func() { h.q.Close() })
		g.wantClosed(t)
		if s := x.target.n.Stats(); s[0].ReceivesHeld != 1 {
			t.Errorf("%+v", s)
		}
		on(t, g.r, func() {
			if string(g.rx[0].Header) != "kept" {
				t.Errorf("%q", g.rx[0].Header)
			}
			g.q.Release(g.rx[0])
		})
	})
}

func TestConnectionsComeAndGoUnderLoad(t *testing.T) {
	for _, o := range []rdmatest.Options{srq, {}, {SRQDepth: 8}} {
		x := newRig(t, rigOptions{target: o, host: o, reactors: 2})
		x.fabric.Watch()
		stop := x.fabric.InBackground()
		a := &acceptor{}
		l := x.target.listen(a)
		busy := func(e *end) { // posts as long as it can
			e.complete = func(id uint64, s rdma.Status) {
				if s == rdma.StatusOK && e.closed == 0 {
					e.q.Post(&rdma.SendWR{ID: id, Opcode: rdma.OpSend, Flags: rdma.Signaled, SGEs: 1, SGE: [2]rdma.SGE{e.q.SGE(e.buffers[id])}})
				}
			}
			e.received = func(rx *rdma.Receive) { e.q.Release(rx) }
			for id := range uint64(8) {
				b := e.buffer(256)
				e.q.Post(&rdma.SendWR{ID: id, Opcode: rdma.OpSend, Flags: rdma.Signaled, SGEs: 1, SGE: [2]rdma.SGE{e.q.SGE(b)}})
			}
		}
		for range 12 {
			h, g := x.connect(a, l)
			on(t, h.r, func() { busy(h) })
			on(t, g.r, func() { busy(g) })
		}
		for i := range 6 {
			g := a.end(i)
			on(t, g.r, func() { g.q.Close() })
		}
		l.Close()
		x.close() // with the rest under way
		stop()
	}
}

func TestClosingTheNetEndsItsConnections(t *testing.T) {
	x := newRig(t, rigOptions{target: srq, host: srq})
	a := &acceptor{}
	l := x.target.listen(a)
	h, g := x.connect(a, l)
	x.target.close()
	if _, _, err := x.target.dial(l, plain); !errors.Is(err, rdma.ErrClosed) {
		t.Errorf("dialling afterwards gave %v", err)
	}
	if _, err := x.target.n.Listen(loopback, a); !errors.Is(err, rdma.ErrClosed) {
		t.Errorf("listening afterwards gave %v", err)
	}
	if g.closed != 1 || !errors.Is(g.ended[0], rdma.ErrClosed) {
		t.Errorf("%v", g)
	}
	h.wantClosed(t)
	x.host.close()
	x.closed = true
}

func TestIdleCostsNothingAndTrafficWakes(t *testing.T) {
	for _, p := range []reactor.Idle{reactor.Adaptive, reactor.Interrupt} {
		t.Run(p.String(), func(t *testing.T) {
			x := newRig(t, rigOptions{target: srq, host: srq, cfg: reactor.Config{Idle: p}})
			a := &acceptor{}
			h, g := x.connect(a, x.target.listen(a))
			for i := range 50 {
				for !g.r.Asleep() || !h.r.Asleep() {
					runtime.Gosched()
				}
				on(t, h.r, func() { h.send(uint64(i), "wake up") })
				g.want(t, "a message", func() bool { return len(g.got) == i+1 })
				h.want(t, "its completion", func() bool { return len(h.completed) == i+1 })
			}
			s := x.target.n.Stats()[0]
			if s.Wakes == 0 || s.Arms < s.Wakes {
				t.Errorf("%+v", s)
			}
			for !g.r.Asleep() {
				runtime.Gosched()
			}
			polls := x.target.n.Stats()[0].Polls
			for !g.r.Asleep() {
				runtime.Gosched()
			}
			if n := x.target.n.Stats()[0].Polls - polls; n > 20_000 { // one wake-up of ours, and a spin
				t.Errorf("%d polls of an idle card", n)
			}
		})
	}
	t.Run("poll", func(t *testing.T) {
		x := newRig(t, rigOptions{target: srq, host: srq, cfg: reactor.Config{Idle: reactor.Poll}})
		a := &acceptor{}
		h, g := x.connect(a, x.target.listen(a))
		on(t, h.r, func() { h.send(1, "x") })
		g.want(t, "a message", func() bool { return len(g.got) == 1 })
		if s := x.target.n.Stats()[0]; s.Arms != 0 || s.PollsEmpty == 0 {
			t.Errorf("%+v", s)
		}
	})
}
