package reactor_test

import (
	"context"
	"errors"
	"testing"

	"github.com/pollux-storage/pollux/reactor"
)

// Settle waits for every reactor, at once or later, and no longer than its context; what has settled counts whatever became of that.
func TestSettle(t *testing.T) {
	g := start(t, reactor.Config{Cores: unpinned(2)})
	later := make(chan func(), 1)
	settled := make(chan error, 1)
	go func() {
		settled <- g.Settle(t.Context(), func(r *reactor.Reactor, done func()) {
			if r.Index() == 0 {
				done()
				return
			}
			later <- done
		})
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
	if err := <-settled; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Settle(ctx, func(*reactor.Reactor, func()) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
	for range 100 {
		if err := g.Settle(ctx, func(_ *reactor.Reactor, done func()) { done() }); err != nil {
			t.Fatalf("all have settled: %v", err)
		}
	}
}
