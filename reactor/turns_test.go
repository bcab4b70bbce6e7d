package reactor_test

import (
	"testing"

	"github.com/pollux-storage/pollux/reactor"
)

func TestSlowTurnsAreCounted(t *testing.T) {
	g := start(t, reactor.Config{Cores: unpinned(1), Idle: reactor.Interrupt})
	r := g.Reactor(0)
	const slow = 2 * reactor.Millisecond
	var before, after reactor.Turns
	on(t, r, func() { r.Turns(&before) })
	on(t, r, func() {
		for end := reactor.Clock() + slow; reactor.Clock() < end; {
		}
	})
	on(t, r, func() { r.Turns(&after) })
	if after.Longest < slow || after.Slow.Count == before.Slow.Count || after.Slow.Sum-before.Slow.Sum < uint64(slow) {
		t.Errorf("a turn of %d ns: %d and %d slow ones before and after it, the longest %d", slow, before.Slow.Count, after.Slow.Count, after.Longest)
	}
	if after.Slow.Quantile(0) < 0.9*float64(reactor.SlowTurn) {
		t.Errorf("a turn of %.0f ns counts as slow", after.Slow.Quantile(0))
	}
}

func TestSleepIsNoSlowTurn(t *testing.T) {
	g := start(t, reactor.Config{Cores: unpinned(1), Idle: reactor.Interrupt})
	r := g.Reactor(0)
	const nap = 50 * reactor.Millisecond
	rung := make(chan struct{})
	var timer reactor.Timer
	on(t, r, func() { r.SetTimer(&timer, r.Now()+nap, runFunc(func() { close(rung) })) })
	<-rung
	on(t, r, func() {
		var turns reactor.Turns
		r.Turns(&turns)
		s := r.Stats()
		if awake := s.Busy + s.Idle - s.Asleep; s.Asleep == 0 || turns.Slow.Sum > uint64(awake) {
			t.Errorf("slow turns took %d ns, and the reactor was awake for %d, asleep for %d", turns.Slow.Sum, awake, s.Asleep)
		}
	})
}

func TestTurnsAllocateNothing(t *testing.T) {
	g := start(t, reactor.Config{Cores: unpinned(1)})
	r := g.Reactor(0)
	on(t, r, func() {
		var turns reactor.Turns
		if n := testing.AllocsPerRun(100, func() { r.Turns(&turns) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}
