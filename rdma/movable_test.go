package rdma_test

import (
	"context"
	"errors"
	"testing"

	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/reactor"
)

// Queues that go from one reactor to another.

func movable(t *testing.T) (x *rig, a *acceptor, h, g *end) {
	x = newRig(t, rigOptions{target: srq, host: srq, reactors: 2})
	cfg := plain
	cfg.Movable = true
	a = &acceptor{cfg: cfg}
	h, g = x.connect(a, x.target.listen(a))
	return x, a, h, g
}

// arrival takes a detached queue over, as a message.
type arrival struct {
	d    *rdma.Detached
	open rdma.Opener
	q    chan *rdma.Queue
}

func (a *arrival) Receive(r *reactor.Reactor) { a.q <- a.d.Attach(r, a.open) }

// move brings g's queue to another reactor, and gives its new end there.
func move(t *testing.T, g *end, to *reactor.Reactor) *end {
	t.Helper()
	n := &end{}
	m := &arrival{open: n.open, q: make(chan *rdma.Queue, 1)}
	on(t, g.r, func() {
		if m.d = g.q.Detach(); m.d == nil {
			t.Fatal("it does not move")
		}
		g.r.Send(to, m)
	})
	if q := <-m.q; q != g.q || q.Reactor() != to {
		t.Error("it is not the same queue, or not there")
	}
	return n
}

func TestAMovableQueueGoesToAndFroAndLosesNothing(t *testing.T) {
	x, _, h, g := movable(t)
	want := 0
	for i := range 40 {
		on(t, h.r, func() { h.send(uint64(i), "before or after") })
		before := g
		g = move(t, g, x.target.g.Reactor((i+1)%2))
		got := 0
		g.want(t, "the message, here or where it was", func() bool { return len(g.got)+len(before.got) >= 1 })
		on(t, before.r, func() { got += len(before.got); before.got = nil })
		on(t, g.r, func() { got += len(g.got); g.got = nil })
		want++
		if got != 1 || len(before.ended)+before.closed != 0 {
			t.Fatalf("round %d: %d messages; %v", i, got, before)
		}
		on(t, g.r, func() { g.send(uint64(i), "answer") })
		g.want(t, "its completion", func() bool { return len(g.completed) == 1 })
		on(t, g.r, func() {
			for _, b := range g.buffers {
				g.r.Memory().Put(b)
			}
			g.buffers = nil
		})
	}
	h.want(t, "answers", func() bool { return len(h.got) == want })
	on(t, h.r, func() { h.q.Close() })
	g.wantClosed(t)
	for _, s := range x.target.n.Stats() {
		if s.Receives != 0 || s.ReceivesHeld != 0 {
			t.Errorf("%+v", s)
		}
	}
}

func TestAReceiveThatIsHeldMovesAlong(t *testing.T) {
	x, _, h, g := movable(t)
	on(t, g.r, func() { g.keep = true })
	on(t, h.r, func() { h.send(1, "held") })
	g.want(t, "a message", func() bool { return len(g.rx) == 1 })
	n := move(t, g, x.target.g.Reactor(1))
	on(t, n.r, func() {
		if string(g.rx[0].Header) != "held" {
			t.Errorf("%q", g.rx[0].Header)
		}
		n.q.Release(g.rx[0])
	})
	on(t, n.r, func() { n.q.Close() })
	n.wantClosed(t)
	h.wantClosed(t)
}

func TestAQueueWhosePeerGoesWhileItIsNowhereEndsWhereItArrives(t *testing.T) {
	x, _, h, g := movable(t)
	var d *rdma.Detached
	on(t, g.r, func() { d = g.q.Detach() })
	on(t, h.r, func() { h.q.Close() })
	h.wantClosed(t)
	n := &end{}
	on(t, x.target.g.Reactor(1), func() { d.Attach(x.target.g.Reactor(1), n.open) })
	n.wantClosed(t)
	if len(n.ended) != 1 || !errors.Is(n.ended[0], rdma.ErrDisconnected) || g.closed != 0 {
		t.Errorf("%v", n)
	}
}

// Who takes a queue over is done with that before its handler hears that it is to end.
func TestAQueueThatIsToEndIsTakenOverFirst(t *testing.T) {
	x, _, h, g := movable(t)
	var d *rdma.Detached
	on(t, g.r, func() { d = g.q.Detach() })
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.target.n.Close(over); !errors.Is(err, context.Canceled) {
		t.Fatalf("closed with a queue that is nowhere: %v", err)
	}
	n := &end{}
	on(t, x.target.g.Reactor(1), func() {
		d.Attach(x.target.g.Reactor(1), n.open)
		if len(n.ended) > 0 {
			t.Error("it ended as it was taken over")
		}
	})
	n.wantClosed(t)
	h.wantClosed(t)
	if len(n.ended) != 1 || !errors.Is(n.ended[0], rdma.ErrClosed) {
		t.Errorf("%v", n)
	}
}

func TestAQueueThatGoesNowhereIsClosed(t *testing.T) {
	_, _, h, g := movable(t)
	var d *rdma.Detached
	on(t, g.r, func() { d = g.q.Detach() })
	d.Close()
	h.wantClosed(t)
}

func TestAQueueThatEndsIsNotDetached(t *testing.T) {
	x, _, h, g := movable(t)
	x.target.p.HoldCompletions(true)
	on(t, g.r, func() { g.stay = true; g.send(1, "x") })
	x.target.p.HoldCompletions(false)
	g.want(t, "its completion", func() bool { return len(g.completed) == 1 })
	on(t, h.r, func() { h.q.Close() })
	g.want(t, "its end", func() bool { return len(g.ended) == 1 })
	on(t, g.r, func() {
		if g.q.Detach() != nil {
			t.Error("it was detached")
		}
		g.q.Close()
	})
	g.wantClosed(t)
}

func TestAMovableQueueIsNotPolled(t *testing.T) {
	x := newRig(t, rigOptions{target: srq, host: srq, cfg: reactor.Config{Idle: reactor.Poll}})
	cfg := plain
	cfg.Movable = true
	a := &acceptor{cfg: cfg}
	h, g := x.connect(a, x.target.listen(a))
	for i := range 20 {
		on(t, h.r, func() { h.send(uint64(i), "x") })
		g.want(t, "a message", func() bool { return len(g.got) == i+1 })
	}
	if s := x.target.n.Stats()[0]; s.Polls > 200 || s.Arms == 0 {
		t.Errorf("%+v", s)
	}
}
