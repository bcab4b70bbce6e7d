package iscsi

import (
	"context"
	"fmt"
	"time"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is how control goroutines end sessions: they ask for a logout, which an initiator with another path takes as a reason to use that,
// and close what is left after a while.

// logoutSeconds is how long initiators have to log out after they were asked to. RFC 7143 section 11.9.1, "AsyncEvent".
const logoutSeconds = 3

// look is how often is looked whether sessions are gone.
const look = 10 * time.Millisecond

// ask asks the initiators of the sessions that match to log out, and counts them.
func (t *Target) ask(match func(s *session) bool) (n int, err error) {
	err = t.group.Each(func(r *reactor.Reactor) {
		t.groups[r.Index()].each(func(s *session) {
			if match(s) {
				s.requestLogout(logoutSeconds)
				n++
			}
		})
	})
	return n, err
}

// evict asks the sessions that match to log out, ends those that are left when their time is over, and waits until all are gone. match is
// called on the sessions' reactors; tell hears how many are left.
func (t *Target) evict(ctx context.Context, match func(s *session) bool, tell func(left int)) error {
	if _, err := t.ask(match); err != nil {
		return err
	}
	over := time.NewTimer(logoutSeconds * time.Second)
	defer over.Stop()
	tick := time.NewTicker(look)
	defer tick.Stop()
	late := false
	for {
		left := int(t.moving.Load()) // these may match where they arrive
		err := t.group.Each(func(r *reactor.Reactor) {
			t.groups[r.Index()].each(func(s *session) {
				if !match(s) {
					return
				}
				left++
				if late {
					s.close()
				}
			})
		})
		if err != nil {
			return err
		}
		if tell(left); left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d sessions to end: %w", left, ctx.Err())
		case <-over.C:
			late = true
		case <-tick.C:
		}
	}
}

// evictDenied ends the sessions that the present configuration does not allow.
func (t *Target) evictDenied(ctx context.Context) error {
	return t.evict(ctx, func(s *session) bool { return s.pg.view.denies(s) }, func(int) {})
}

// denies tells whether a session may not be here: its node or its portal group is gone, or no map lets its initiator in.
func (v *view) denies(s *session) bool {
	if v.group(s.params.Tag) == nil {
		return true
	}
	if s.node == nil { // a discovery session
		return false
	}
	n := v.nodeOf(s.node)
	return n == nil || n.admits(s.params.Tag, s.params.InitiatorName, s.remote.Addr()) == nil
}

// endAll ends every session, those that log in too, and waits until nothing is left of them.
func (t *Target) endAll(ctx context.Context) error {
	err := t.group.Each(func(r *reactor.Reactor) {
		pg := t.groups[r.Index()]
		pg.stopping = true
		pg.end()
	})
	if err != nil {
		return err
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		left := int(t.moving.Load())
		if err := t.group.Each(func(r *reactor.Reactor) { left += t.groups[r.Index()].count }); err != nil {
			return err
		}
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d sessions did not end: %w", left, ctx.Err())
		case <-tick.C:
		}
	}
}
