package nvmf

import (
	"errors"
	"fmt"

	"github.com/pollux-storage/pollux/reactor"
)

// This file begins and ends traces, and takes what they found from the reactors. It runs on control goroutines.

// TraceEveryMax bounds of how many commands one is looked at.
const TraceEveryMax = 1 << 24

// Tracing is a trace of all reactors. Its methods are called one at a time.
type Tracing struct {
	target   *Target
	tracers  []*tracer
	spare    []TraceRecord // what Take leaves in exchange
	finished uint64
	stopped  bool
}

// TraceCounts count a trace's commands.
type TraceCounts struct {
	Seen       uint64 // that came while it ran, looked at or not
	Finished   uint64 // looked at to their end
	Lost       uint64 // that should have been looked at, and found no record
	Unfinished uint64 // that were looked at and will never be answered, since their queue was closed
}

// Trace looks at one of every so many I/O commands from now on, until Stop. A target has one trace at a time.
func (t *Target) Trace(every uint32) (*Tracing, error) {
	if every == 0 || every > TraceEveryMax {
		return nil, fmt.Errorf("tracing one of %d commands: %w: it must be one of 1 to %d", every, ErrInvalid, TraceEveryMax)
	}
	if !t.traced.CompareAndSwap(false, true) {
		return nil, fmt.Errorf("tracing commands: %w: another trace runs", ErrInUse)
	}
	x := &Tracing{target: t, spare: make([]TraceRecord, 0, traceDoneMax)}
	for i := range t.groups {
		x.tracers = append(x.tracers, newTracer(every, uint64(reactor.Clock())+uint64(i)<<32))
	}
	if err := x.set(func(pg *pollGroup) { pg.trace = x.tracers[pg.r.Index()] }); err != nil {
		t.traced.Store(false)
		return nil, err
	}
	return x, nil
}

// set changes each reactor's trace, and lets its queues know.
func (x *Tracing) set(change func(pg *pollGroup)) error {
	return x.target.group.Each(func(r *reactor.Reactor) {
		pg := x.target.groups[r.Index()]
		change(pg)
		for q := pg.queues; q != nil; q = q.next {
			q.setTrace()
		}
	})
}

// setTrace joins a queue to its reactor's trace, if there is one. Only I/O commands are looked at.
func (q *queue) setTrace() {
	if q.trace = nil; q.id > 0 {
		q.trace = q.pg.trace
	}
}

// Take gives each the records of commands that have ended since the last time, reactor by reactor, which are lent until it returns, and counts
// the trace's commands up to now.
func (x *Tracing) Take(each func(r *TraceRecord)) (TraceCounts, error) {
	var c TraceCounts
	for i, t := range x.tracers {
		r := x.target.group.Reactor(i)
		if err := r.Call(func() { x.swap(t, &c) }); err != nil {
			return c, err
		}
		for k := range x.spare {
			each(&x.spare[k])
		}
		x.finished += uint64(len(x.spare))
		clear(x.spare) // they hold names
	}
	c.Finished = x.finished
	return c, nil
}

// swap takes what a reactor has, on it.
func (x *Tracing) swap(t *tracer, c *TraceCounts) {
	x.spare, t.done = t.done, x.spare[:0]
	c.Seen += t.seen()
	c.Lost += t.lost
	c.Unfinished += t.unfinished
}

// Stop ends the trace. What has finished can still be taken; what is under way is not looked at to its end. Stopping twice is harmless.
func (x *Tracing) Stop() error {
	if x.stopped {
		return nil
	}
	x.stopped = true
	err := x.set(func(pg *pollGroup) {
		pg.trace = nil
		x.tracers[pg.r.Index()].ended = true
	})
	x.target.traced.Store(false)
	if err != nil {
		return errors.Join(errors.New("ending a trace of commands"), err)
	}
	return nil
}
