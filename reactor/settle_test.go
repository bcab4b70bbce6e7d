package reactor_test

import (
	"context"
	"errors"
	"testing"

	"github.com/pollux-storage/pollux/reactor"
)

// Settle waits for every reactor, at once or later, and no longer than its context; what has settled counts whatever became of that, and what is to be done
// then is done whoever waits.
func TestSettle(t *testing.T) {
	g := start(t, reactor.Config{Cores: unpinned(2)})
	later := make(chan func(), 1)
	over := false
	settled := make(chan error, 1)
	go func() {
		settled <- g.Settle(t.Context(), func(r *reactor.Reactor, done func()) {
			if r.Index() == 0 {
				done()
				return
			}
			later <- done
		}, func() { over = true })
	}()
	done := <-later
	select {
	case err := <-settled:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	if err := g.Reactor(1).Call(done); err != nil {
		t.Fatal(err)
	}
	if err := <-settled; err != nil || !over {
		t.Error(err, over)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dones, then := make(chan func(), 2), make(chan struct{})
	if err := g.Settle(ctx, func(_ *reactor.Reactor, done func()) { dones <- done }, func() { close(then) }); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
	(<-dones)()
	select {
	case <-then:
		t.Error("it is over with one of two")
	default:
	}
	(<-dones)()
	<-then
	for range 100 {
		if err := g.Settle(ctx, func(_ *reactor.Reactor, done func()) { done() }, func() {}); err != nil {
			t.Fatalf("all have settled: %v", err)
		}
	}
}
