package reactor

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
)

// This file is how a group ends. A reactor with nothing in flight may still hear from another that has, so they end together:
//
//  1. each is asked, in rounds, to say when it is quiet, and how many messages it has sent and received;
//  2. when two rounds tell the same numbers, and all that was sent was received, nothing moves any more;
//  3. then each closes its queue of calls, and ends.

// stopState is a reactor's part of it.
type stopState struct {
	asked  bool                 // something below is to be done
	asks   []chan<- quietReport // told when the reactor is quiet
	ending bool                 // the group has agreed
	left   atomic.Pointer[stopLeft]
}

// stopLeft is what keeps a reactor from being quiet.
type stopLeft struct {
	ops, waiters, timers int
	messages, deferred   bool
	poller               string // a busy one
}

// quietReport is what a quiet reactor says.
type quietReport struct{ sent, received uint64 }

// Stop ends the reactors when nothing is in flight on them any more; whoever uses them has closed what they opened. Timers that
// are set do not hold it up, and are forgotten. If ctx ends first, it says what was left, and the reactors go on. Any goroutine
// but a reactor may call it, also again.
func (g *Group) Stop(ctx context.Context) error {
	g.checkOutside()
	if g.simulated != nil {
		return g.stopSimulated()
	}
	for before, sum := (quietReport{1, 0}), (quietReport{}); ; before = sum {
		var err error
		if sum, err = g.quietRound(ctx); err != nil {
			return err
		}
		if sum == before && sum.sent == sum.received {
			break
		}
	}
	for _, r := range g.reactors {
		_ = r.Go(func() { r.stop.asked, r.stop.ending = true, true })
	}
	for i, r := range g.reactors {
		select {
		case <-g.ended[i]:
		case <-ctx.Done():
			return fmt.Errorf("stopping reactor %d: work was given to it while the reactors stopped: %w", r.index, ctx.Err())
		}
	}
	return nil
}

// quietRound returns when each reactor has been quiet, with the sum of what they said.
func (g *Group) quietRound(ctx context.Context) (sum quietReport, err error) {
	for i, r := range g.reactors {
		answer := make(chan quietReport, 1)
		r.stop.left.Store(nil)
		if r.Go(func() { r.stop.asked = true; r.stop.asks = append(r.stop.asks, answer) }) != nil {
			continue // ended before
		}
		select {
		case q := <-answer:
			sum.sent += q.sent
			sum.received += q.received
		case <-g.ended[i]:
		case <-ctx.Done():
			_ = r.Go(func() { r.stopForget(answer) })
			left := "it does not answer"
			if p := r.stop.left.Load(); p != nil {
				left = p.String()
			}
			return sum, fmt.Errorf("stopping reactor %d: %s: %w", r.index, left, ctx.Err())
		}
	}
	return sum, nil
}

// stopStep answers those who asked, once the reactor is quiet; it reports whether the reactor is to end now.
func (r *Reactor) stopStep() bool {
	if left := r.stopLeft(); left != (stopLeft{timers: left.timers}) {
		if p := r.stop.left.Load(); p == nil || *p != left {
			changed := left
			r.stop.left.Store(&changed)
		}
		return false
	}
	for _, a := range r.stop.asks {
		a <- quietReport{r.sent, r.stats.Messages}
	}
	r.stop.asks = nil
	r.stop.asked = r.stop.ending
	return r.stop.ending && r.calls.closeIfEmpty()
}

func (r *Reactor) stopForget(answer chan<- quietReport) {
	kept := r.stop.asks[:0]
	for _, a := range r.stop.asks {
		if a != answer {
			kept = append(kept, a)
		}
	}
	r.stop.asks = kept
	r.stop.asked = r.stop.ending || len(kept) > 0
}

func (r *Reactor) stopLeft() stopLeft {
	left := stopLeft{
		ops:      r.inFlight,
		waiters:  r.memory.waiters,
		timers:   len(r.timers.t),
		messages: r.hasMessages(), // not calls: those who ask come that way
		deferred: r.deferred.head != nil || r.flushes.head != nil,
	}
	if p := r.busyPoller(); p != nil {
		left.poller = p.name
	}
	return left
}

// String says it to an operator.
func (l stopLeft) String() string {
	var s []string
	if l.ops > 0 {
		s = append(s, fmt.Sprintf("%d operations still in flight", l.ops))
	}
	if l.waiters > 0 {
		s = append(s, fmt.Sprintf("%d waiting for memory", l.waiters))
	}
	if l.messages {
		s = append(s, "messages on their way")
	}
	if l.deferred {
		s = append(s, "work deferred")
	}
	if l.poller != "" {
		s = append(s, fmt.Sprintf("poller %q busy", l.poller))
	}
	return strings.Join(append(s, fmt.Sprintf("%d timers set", l.timers)), ", ")
}
