package rdma_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
	"github.com/pollux-storage/pollux/reactor"
)

// eachKind runs f on cards with and without a shared receive queue.
func eachKind(t *testing.T, f func(t *testing.T, o rdmatest.Options)) {
	t.Run("srq", func(t *testing.T) { f(t, rdmatest.Options{SRQDepth: 1024}) })
	t.Run("no srq", func(t *testing.T) { f(t, rdmatest.Options{}) })
}

func TestMessagesGoBothWays(t *testing.T) {
	eachKind(t, func(t *testing.T, o rdmatest.Options) {
		x := newRig(t, rigOptions{target: o, host: o})
		a := &acceptor{reply: []byte("welcome")}
		l := x.target.listen(a)
		h, accept, err := x.host.dial(l, plain)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(accept, []byte("welcome")) {
			t.Errorf("the host heard %q", accept)
		}
		g := a.end(0)
		if p := a.offers[0]; !bytes.HasPrefix(p.Private, []byte("hello")) || p.ReadsOut != 4 || p.ReadsIn != 4 {
			t.Errorf("the target was offered %+v", p)
		}
		long := strings.Repeat("x", 64) + "and the rest"
		on(t, h.r, func() { h.send(1, "one"); h.send(2, long) })
		g.want(t, "two messages", func() bool { return len(g.got) == 2 })
		on(t, g.r, func() {
			if g.got[0] != "one" || g.got[1] != long {
				t.Errorf("%v", g)
			}
			g.send(3, "back")
		})
		h.want(t, "one message and two completions", func() bool { return len(h.got) == 1 && len(h.completed) == 2 })
		on(t, h.r, func() { h.q.Close() })
		h.wantClosed(t)
		g.wantClosed(t)
		on(t, g.r, func() {
			if len(g.ended) != 1 || !errors.Is(g.ended[0], rdma.ErrDisconnected) || len(h.ended) != 0 {
				t.Errorf("target %v, host %v", g, h)
			}
		})
		x.close()
		for _, e := range []*engine{x.target, x.host} {
			if s := e.n.Stats(); len(s) != 0 {
				t.Errorf("left: %+v", s)
			}
		}
	})
}

func TestARejectionCarriesWhatWasSaid(t *testing.T) {
	x := newRig(t, rigOptions{})
	a := &acceptor{judge: func(*rdma.Offer) (bool, []byte) { return false, []byte{1, 2, 3, 4} }}
	l := x.target.listen(a)
	h, _, err := x.host.dial(l, plain)
	var r *rdma.Rejected
	if !errors.As(err, &r) || !bytes.HasPrefix(r.Private, []byte{1, 2, 3, 4}) || h.q != nil {
		t.Errorf("%v", err)
	}
}

func TestWhereNobodyListens(t *testing.T) {
	x := newRig(t, rigOptions{})
	l := x.target.listen(&acceptor{})
	l.Close()
	l.Close()
	if _, _, err := x.host.dial(l, plain); err == nil {
		t.Error("it connected")
	}
	x.target.p.Cut()
	if _, _, err := x.host.dial(l, plain); err == nil {
		t.Error("it connected")
	}
}

func TestADialThatIsGivenUp(t *testing.T) {
	x := newRig(t, rigOptions{})
	l := x.target.listen(&acceptor{})
	x.host.p.Events(func(e *rdma.Event) rdmatest.Verdict {
		if e.Kind == rdma.EventEstablished {
			return rdmatest.Drop
		}
		return rdmatest.Pass
	})
	ctx, cancel := context.WithCancel(context.Background())
	h := &end{}
	done := make(chan error)
	go func() {
		_, err := x.host.n.Dial(ctx, l.Addr(), nil, plain, x.host.reactor(), h.open)
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || h.q != nil {
		t.Errorf("%v", err)
	}
}

func TestACardThatHasNoRoomRefuses(t *testing.T) {
	for name, o := range map[string]rdmatest.Options{"completions": {CQDepthMax: 100}, "queue pairs": {QPDepthMax: 32}} {
		t.Run(name, func(t *testing.T) {
			x := newRig(t, rigOptions{target: o})
			a := &acceptor{}
			l := x.target.listen(a)
			var refused *rdma.Rejected
			n := 0
			for ; n < 4; n++ {
				_, _, err := x.host.dial(l, plain)
				if errors.As(err, &refused) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if refused == nil || !bytes.HasPrefix(refused.Private, []byte("no room")) {
				t.Fatalf("%d were taken, then %v", n, refused)
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			if len(a.failed) != 1 || !errors.Is(a.failed[0], rdma.ErrNoRoom) || a.ends[n].q != nil {
				t.Errorf("%v", a.failed)
			}
		})
	}
}

func TestAPoolWithoutMemoryForReceivesRefuses(t *testing.T) {
	eachKind(t, func(t *testing.T, o rdmatest.Options) {
		x := newRig(t, rigOptions{target: o, cfg: reactor.Config{MemoryBytes: 8 << 20}})
		a := &acceptor{cfg: rdma.QueueConfig{SendDepth: 8, RecvDepth: 512, HeaderBytes: 64, DataBytes: 8192}}
		l := x.target.listen(a)
		_, _, err := x.host.dial(l, plain)
		var refused *rdma.Rejected
		if !errors.As(err, &refused) {
			t.Fatal(err)
		}
		a.mu.Lock()
		a.cfg = plain
		a.mu.Unlock()
		x.connect(a, l)
	})
}

func TestAListenerThatLostItsAddressListensAgain(t *testing.T) {
	x := newRig(t, rigOptions{target: srq, host: srq})
	a := &acceptor{}
	l := x.target.listen(a)
	_, g := x.connect(a, l)
	x.target.p.LoseAddress(0)
	g.wantClosed(t)
	for l.Err() != nil {
		time.Sleep(time.Millisecond)
	}
	x.connect(a, l)
	x.target.p.LoseAddress(0)
	for l.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	l.Close() // while it cannot listen
	if !errors.Is(l.Err(), rdma.ErrClosed) {
		t.Errorf("%v", l.Err())
	}
}

func TestNoOfferAfterAListenerWasClosed(t *testing.T) {
	x := newRig(t, rigOptions{target: srq, host: srq})
	judging, judge := make(chan struct{}), make(chan struct{})
	a := &acceptor{judge: func(*rdma.Offer) (bool, []byte) {
		judging <- struct{}{}
		<-judge
		return false, nil
	}}
	l := x.target.listen(a)
	dialled := make(chan error)
	for range 2 {
		go func() {
			_, _, err := x.host.dial(l, plain)
			dialled <- err
		}()
	}
	<-judging // one is judged, and the other waits or is still to come
	closed := make(chan struct{})
	go func() { l.Close(); close(closed) }()
	select {
	case <-closed:
		t.Error("it is closed, and an offer is being judged")
	case <-time.After(10 * time.Millisecond):
	}
	close(judge)
	for range 2 {
		select {
		case err := <-dialled:
			if err == nil {
				t.Error("it connected")
			}
		case <-judging: // it came before the listener was closed
			if err := <-dialled; err == nil {
				t.Error("it connected")
			}
		}
	}
	<-closed
}

// Who gives a dial up on the queue's reactor hears of no queue from then on, though the peer had accepted already: he would not know that it is to be closed.
func TestADialThatIsGivenUpOpensNothing(t *testing.T) {
	x := newRig(t, rigOptions{target: srq, host: srq})
	a := &acceptor{}
	l := x.target.listen(a)
	ctx, cancel := context.WithCancel(t.Context())
	accepted, giveUp := make(chan struct{}), make(chan struct{})
	x.host.p.Events(func(v *rdma.Event) rdmatest.Verdict {
		if v.Kind == rdma.EventEstablished {
			_ = x.host.reactor().Go(func() { <-giveUp; cancel() })
			close(accepted)
		}
		return rdmatest.Pass
	})
	failed := make(chan error)
	go func() {
		_, err := x.host.n.Dial(ctx, l.Addr(), nil, plain, x.host.reactor(), func(q *rdma.Queue) rdma.Handler {
			t.Error("it was opened")
			return (&end{}).open(q)
		})
		failed <- err
	}()
	<-accepted
	for x.host.n.Dials() > 0 { // until the dial has heard of it
		time.Sleep(time.Millisecond)
	}
	close(giveUp)
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("the dial ended with: %v", err)
	}
	a.end(0).wantClosed(t)
}

func TestHostsThatComeAndGoLeaveNothing(t *testing.T) {
	eachKind(t, func(t *testing.T, o rdmatest.Options) {
		x := newRig(t, rigOptions{target: o, host: o, reactors: 2})
		a := &acceptor{}
		l := x.target.listen(a)
		for i := range 100 {
			h, g := x.connect(a, l)
			on(t, h.r, func() { h.send(1, "x") })
			who := h
			if i%2 == 0 {
				who = g
			}
			on(t, who.r, func() { who.q.Close() })
			h.wantClosed(t)
			g.wantClosed(t)
		}
		l.Close()
		for {
			left := 0
			for _, s := range append(x.target.n.Stats(), x.host.n.Stats()...) {
				left += s.QueuePairs + s.CompletionQueues + s.SharedQueues + s.Receives + s.ReceivesHeld
			}
			if left == 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if a := x.fabric.Alive(); a.QPs+a.CQs+a.SRQs+a.IDs+a.Listeners != 0 {
			t.Errorf("left: %v", a)
		}
	})
}
