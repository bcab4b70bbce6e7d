package rdma_test

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
)

// Who lives longer than whom: a provider than its Net, reactors than the Net, a queue than its handler wants it.

func says(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("the error is %v, and does not say %q", err, w)
		}
	}
}

// soon is a context for what is to run into it.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestReactorsDoNotStopUnderAConnection(t *testing.T) {
	for _, movable := range []bool{false, true} {
		x := newRig(t, rigOptions{target: srq, host: srq})
		cfg := plain
		cfg.Movable = movable
		a := &acceptor{cfg: cfg}
		h, g := x.connect(a, x.target.listen(a))
		err := x.target.g.Stop(soon(t))
		for err != nil && strings.Contains(err.Error(), "it does not answer") { // a machine that is busy elsewhere
			err = x.target.g.Stop(soon(t))
		}
		says(t, err, "operations still in flight")
		on(t, h.r, func() { h.send(1, "it goes on") })
		g.want(t, "a message", func() bool { return len(g.got) == 1 })
	}
}

func TestReactorsThatStoppedBeforeTheNetTakeNoConnection(t *testing.T) {
	for _, movable := range []bool{false, true} {
		eachKind(t, func(t *testing.T, o rdmatest.Options) {
			x := newRig(t, rigOptions{target: o, host: o})
			cfg := plain
			cfg.Movable = movable
			a := &acceptor{cfg: cfg}
			l := x.target.listen(a)
			other := x.host.listen(&acceptor{})
			h, g := x.connect(a, l) // the card's memory is known
			on(t, h.r, func() { h.q.Close() })
			h.wantClosed(t)
			g.wantClosed(t)
			if err := x.target.g.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, _, err := x.host.dial(l, plain); err == nil {
				t.Error("a connection to reactors that have stopped came about")
			}
			if _, _, err := x.target.dial(other, cfg); err == nil {
				t.Error("a connection from reactors that have stopped came about")
			}
			x.close() // nothing is left
		})
	}
}

func TestCloseSaysWhoseHandlerHoldsIt(t *testing.T) {
	x := newRig(t, rigOptions{target: srq, host: srq})
	a := &acceptor{make: func(e *end) { e.stay, e.keep = true, true }}
	h, g := x.connect(a, x.target.listen(a))
	on(t, h.r, func() { h.send(1, "kept") })
	g.want(t, "a message", func() bool { return len(g.rx) == 1 })
	says(t, x.target.n.Close(soon(t)), "1 connections have not ended")
	h.wantClosed(t)
	for { // its queue pair goes meanwhile
		err := x.target.n.Close(soon(t))
		if says(t, err, "1 connections", g.q.String()); err != nil && strings.Contains(err.Error(), "the card still has") {
			continue
		}
		says(t, err, "its handler has not called Close")
		break
	}
	on(t, g.r, func() { g.q.Close() })
	g.wantClosed(t)
	says(t, x.target.n.Close(soon(t)), "its handler has not released 1 receives")
	on(t, g.r, func() { g.q.Release(g.rx[0]) })
}

func TestAProviderIsOneNets(t *testing.T) {
	x := newRig(t, rigOptions{})
	_, err := rdma.New(x.host.g, x.host.p, slog.New(slog.NewTextHandler(io.Discard, nil)))
	says(t, err, "another has the provider")
	if err := x.host.n.Close(t.Context()); err != nil {
		t.Error(err)
	}
	x.host.begin(x.host.p) // now nobody has
}

// TestWhoDialsFirstRegistersOnce: registered memory counts as locked each time.
func TestWhoDialsFirstRegistersOnce(t *testing.T) {
	x, c := badRig(t, srq)
	l := x.host.listen(&acceptor{})
	h, _, err := x.target.dial(l, plain)
	if err != nil {
		t.Fatal(err)
	}
	on(t, h.r, func() {
		h.q.RemoteKey(h.buffer(64))
		h.send(1, "sent with the same registration")
	})
	h.want(t, "its completion", func() bool { return len(h.completed) == 1 && h.completed[0].s == rdma.StatusOK })
	if n, m := c.mrs[0].Load(), c.mrs[rdma.RemoteRead|rdma.RemoteWrite].Load(); n != 0 || m == 0 {
		t.Errorf("%d registrations without rights, %d with all", n, m)
	}
	x2, c2 := badRig(t, srq)
	c2.noMemory.Store(true)
	_, _, err = x2.target.dial(x2.host.listen(&acceptor{}), plain)
	says(t, err, "registering 8 MiB of buffers with target0", "locked memory", "ulimit -l")
}

// TestReceivesOfOtherSizesAreTheQueuesOwn: an SRQ has receives as long as its first queue's.
func TestReceivesOfOtherSizesAreTheQueuesOwn(t *testing.T) {
	x := newRig(t, rigOptions{target: srq, host: srq})
	var all []*end
	for _, bytes := range []int{4096, 16384, 0, 4096} {
		cfg := plain
		cfg.DataBytes = bytes
		a := &acceptor{cfg: cfg}
		h, g := x.connect(a, x.target.listen(a))
		full := strings.Repeat("h", 64) + strings.Repeat("d", bytes)
		for i := range 3 * plain.RecvDepth { // each receive is used again
			on(t, h.r, func() { h.send(uint64(i), full) })
			g.want(t, "a message", func() bool { return len(g.got) == i+1 })
			on(t, g.r, func() {
				if g.got[i] != full {
					t.Errorf("%d bytes came, of %d", len(g.got[i]), len(full))
				}
			})
			h.want(t, "its completion", func() bool { return len(h.completed) == i+1 })
			on(t, h.r, func() {
				for _, b := range h.buffers {
					h.r.Memory().Put(b)
				}
				h.buffers = nil
			})
		}
		on(t, h.r, func() { h.send(1000, full+"!") })
		g.wantClosed(t) // it is longer than its receives
		h.wantClosed(t)
		h, g = x.connect(a, x.target.listen(a))
		on(t, h.r, func() { h.send(1, full) })
		g.want(t, "a message", func() bool { return len(g.got) == 1 })
		all = append(all, g)
	}
	if s := x.target.n.Stats()[0]; s.SharedQueues != 1 || s.QueuePairs != 4 || s.Receives != 4*plain.RecvDepth {
		t.Errorf("%+v", s)
	}
	for _, g := range all {
		on(t, g.r, func() {
			if len(g.ended) != 0 {
				t.Errorf("%v", g)
			}
		})
	}
}
