package reactor_test

import (
	"runtime"
	"testing"

	"github.com/pollux-storage/pollux/reactor"
)

// tune lets the runtime have processors beside n reactors until the test ends. The collector is as it was.
func tune(t *testing.T, n int) {
	procs := runtime.GOMAXPROCS(0)
	t.Cleanup(func() {
		runtime.GOMAXPROCS(procs)
		reactor.ForgetTuning()
	})
	reactor.TuneRuntime(n, 0, func(name string) string { return map[string]string{"GOGC": "100"}[name] })
}

// The runtime's monitor asks a reactor that spins to make room, and is let pass; whoever stops the world is not.
func TestASpinningReactorKeepsItsProcessor(t *testing.T) {
	tune(t, 2)
	g := start(t, reactor.Config{Cores: unpinned(2), Idle: reactor.Poll})
	for passed := uint64(0); passed < 3; {
		on(t, g.Reactor(0), func() { passed = g.Reactor(0).RequestsPassed() })
	}
	for range 20 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
	}
}

// While it waits for something to do a reactor sees each of its sources: timers when they are due, calls and messages at once.
func TestAReactorThatLingersSeesItsSources(t *testing.T) {
	g := start(t, reactor.Config{Cores: unpinned(2), Idle: reactor.Poll})
	r := g.Reactor(0)
	for range 100 {
		rung := make(chan reactor.Ticks, 1)
		var timer reactor.Timer
		var due reactor.Ticks
		on(t, r, func() {
			due = r.Now() + 50*reactor.Microsecond
			r.SetTimer(&timer, due, runFunc(func() { rung <- r.Now() }))
		})
		if at := <-rung; at < due {
			t.Errorf("a timer rang %d ns early", due-at)
		}
	}
	<-pass(t, g, 2000).done
}

// Where there are no processors but the reactors', others run when the monitor has asked for room.
func TestOrdinaryGoroutinesRunThoughReactorsHaveAllProcessors(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(procs) })
	runtime.GOMAXPROCS(2)
	g := start(t, reactor.Config{Cores: unpinned(2), Idle: reactor.Poll})
	for range 10 {
		for _, r := range g.Reactors() {
			on(t, r, func() {})
		}
	}
	on(t, g.Reactor(0), func() {
		if n := g.Reactor(0).RequestsPassed(); n > 0 {
			t.Errorf("%d requests were let pass", n)
		}
	})
}

// What a reactor that spins has let pass is served before it sleeps: the scheduler would otherwise have its room when the reactor is woken.
func TestWhatWasLetPassIsServedBeforeASleep(t *testing.T) {
	tune(t, 1)
	g := start(t, reactor.Config{Cores: unpinned(1), Idle: reactor.Adaptive})
	r := g.Reactor(0)
	on(t, r, func() { r.SetSpin(50 * reactor.Millisecond) })
	for slept, passed := uint64(0), uint64(0); slept < 3; {
		on(t, r, r.BeginSpin)
		awaitSleep(r)
		on(t, r, func() {
			if r.RequestOwed() {
				t.Error("it slept, and owes room that it was asked for before")
			}
			if n := r.RequestsPassed(); n > passed {
				passed, slept = n, slept+1
			}
		})
	}
}
