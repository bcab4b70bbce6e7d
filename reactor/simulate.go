package reactor

import (
	"fmt"

	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is reactors without thread, ring or clock, for simulations: one goroutine, who owns the whole group, lets them take
// their turns in an order of its choice and at times of its choice. What a turn does is the same code as that of a running reactor.
//
//   - Step is a tick. Its time may stand still, and does not go back.
//   - Call and Each run f at once, after what Go had brought, between two ticks; called inside a tick or another Call they are
//     refused as on a running reactor, where they would wait for ever.
//   - Operations do not exist: binding one is a broken invariant. So there are no files, sockets or listeners; timers, messages,
//     calls, pollers, deferred work and memory are all there is.
//
// Nothing but the caller decides anything: no thread is started, and memory is a plain mapping that begins as zeros.

// simulation is what a simulated group has.
type simulation struct {
	inside bool // a tick or a call runs
	ended  bool
}

// Simulate makes n reactors that move only by Step. Of cfg it uses MemoryBytes. Stop or Abandon gives back their memory.
func Simulate(n int, cfg Config) (*Group, error) {
	if n < 1 {
		return nil, fmt.Errorf("simulating %d reactors: there must be one at least", n)
	}
	cfg.complete()
	cfg.plainMemory = true
	cfg.Cores = make([]int, n)
	for i := range cfg.Cores {
		cfg.Cores[i] = -1
	}
	g := newGroup(&cfg)
	g.simulated = &simulation{}
	for _, r := range g.reactors {
		r.ringless = true
		var err error
		if r.memory, err = newMemory(r, &cfg); err != nil {
			g.Abandon()
			return nil, fmt.Errorf("simulating reactor %d: %w", r.index, err)
		}
	}
	return g, nil
}

// Simulated reports whether the group moves by Step.
func (g *Group) Simulated() bool { return g.simulated != nil }

// Step lets each reactor take one turn, by index, and reports whether any found something to do.
func (g *Group) Step(now Ticks) bool {
	worked := false
	for _, r := range g.reactors {
		worked = r.Step(now) || worked
	}
	return worked
}

// Step is one tick of a simulated reactor at time now; it reports whether it found something to do. If it did not, it will not at
// the same time again, unless another reactor or a call gives it something.
func (r *Reactor) Step(now Ticks) bool {
	r.group.enter()
	defer r.group.leave()
	invariant.Check(now >= r.now, "reactor: a simulated reactor's time goes back")
	r.advance(now)
	r.turn(0)
	return r.busy
}

func (g *Group) enter() {
	invariant.Check(g.simulated != nil && !g.simulated.ended, "reactor: stepping reactors that are not simulated, or have ended")
	invariant.Check(!g.simulated.inside, "reactor: stepping a reactor inside a step or a call")
	g.simulated.inside = true
}

func (g *Group) leave() { g.simulated.inside = false }

// NextTimer is the time of the reactor's next timer; ok is false if none is set.
func (r *Reactor) NextTimer() (at Ticks, ok bool) { return r.timers.next() }

// NextTimer is the time of the next timer of all.
func (g *Group) NextTimer() (at Ticks, ok bool) {
	for _, r := range g.reactors {
		if t, set := r.timers.next(); set && (!ok || t < at) {
			at, ok = t, true
		}
	}
	return at, ok
}

// BusyPoller reports that a poller of the group waits for something that no timer or message announces: time must pass for it.
func (g *Group) BusyPoller() bool {
	for _, r := range g.reactors {
		if r.busyPoller() != nil {
			return true
		}
	}
	return false
}

// callSimulated runs f, after what was brought before it.
func (r *Reactor) callSimulated(f func()) error {
	if r.Go(f) != nil {
		return ErrStopped
	}
	r.group.enter()
	defer r.group.leave()
	r.calls.run()
	return nil
}

// stopSimulated ends a group in which nothing is left to do; nobody but the caller could do it meanwhile.
func (g *Group) stopSimulated() error {
	if g.simulated.ended {
		return nil
	}
	for _, r := range g.reactors {
		if left := r.stopLeft(); left != (stopLeft{timers: left.timers}) || !r.calls.empty() {
			return fmt.Errorf("stopping simulated reactor %d: %s, %d calls: step the group on, or abandon it", r.index, &left, r.calls.len())
		}
	}
	g.Abandon()
	return nil
}

// Abandon ends a simulated group in the middle of whatever it does, as a power failure would. Its memory is gone, lent buffers too.
func (g *Group) Abandon() {
	g.checkOutside()
	invariant.Check(g.simulated != nil, "reactor: abandoning reactors that run")
	if g.simulated.ended {
		return
	}
	g.simulated.ended = true
	for i, r := range g.reactors {
		r.calls.last.Store(callsClosed)
		if r.memory != nil {
			r.memory.unmap()
		}
		close(g.ended[i])
	}
}
