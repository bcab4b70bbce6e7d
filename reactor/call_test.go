package reactor_test

import (
	"sync"
	"testing"

	"github.com/pollux-storage/pollux/internal/hist"
	"github.com/pollux-storage/pollux/reactor"
)

// Calls of one goroutine run in their order, none is lost, and each caller hears of its end: while the reactor spins, while it sleeps, and when a
// call takes so long that the caller no longer looks.
func TestCallsFromManyGoroutines(t *testing.T) {
	const callers, calls = 8, 300
	eachPolicy(t, func(t *testing.T, cfg reactor.Config) {
		cfg.Cores = unpinned(1)
		g := start(t, cfg)
		r := g.Reactor(0)
		var last [callers]int // the reactor's
		var wait sync.WaitGroup
		for i := range callers {
			wait.Go(func() {
				for n := 1; n <= calls; n++ {
					ran := false
					call := func() {
						if last[i]++; last[i] != n {
							t.Errorf("caller %d: call %d ran as number %d", i, n, last[i])
						}
						if n%100 == 0 { // longer than a caller looks
							for end := reactor.Clock() + 200*reactor.Microsecond; reactor.Clock() < end; {
							}
						}
						ran = true
					}
					if n%3 == 0 {
						if err := r.Go(call); err != nil {
							t.Error(err)
						}
						continue
					}
					if err := r.Call(call); err != nil || !ran {
						t.Errorf("caller %d: call %d: %v, it ran: %v", i, n, err, ran)
					}
				}
			})
		}
		wait.Wait()
		on(t, r, func() {
			for i, n := range last {
				if n != calls {
					t.Errorf("caller %d: %d calls ran", i, n)
				}
			}
		})
	})
}

// What a call brings runs in a later turn, so that calls that bring calls leave the others their turn.
func TestCallsOfCallsWait(t *testing.T) {
	g := start(t, reactor.Config{Cores: unpinned(1)})
	r := g.Reactor(0)
	order := make(chan string, 3)
	on(t, r, func() {
		_ = r.Go(func() {
			order <- "first"
			_ = r.Go(func() { order <- "what the first brought" })
		})
		_ = r.Go(func() { order <- "second" })
	})
	for _, want := range []string{"first", "second", "what the first brought"} {
		if got := <-order; got != want {
			t.Errorf("%q ran, want %q", got, want)
		}
	}
}

// BenchmarkCall tells what a call costs the reactor: the middle of all, since others run on its core too.
func BenchmarkCall(b *testing.B) {
	for _, p := range []reactor.Idle{reactor.Poll, reactor.Interrupt} {
		b.Run(p.String(), func(b *testing.B) {
			r := start(b, reactor.Config{Idle: p}).Reactor(0)
			var busy hist.Histogram
			var before reactor.Ticks
			call := func() {
				now := r.Stats().Busy
				busy.Record(uint64(now - before))
				before = now
			}
			for range b.N {
				_ = r.Call(call)
			}
			b.ReportMetric(busy.Quantile(0.5), "ns-of-reactor/op")
		})
	}
}
