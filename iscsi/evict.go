package iscsi

import (
	"context"
	"fmt"
	"time"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is how control goroutines end sessions:
//
//  1. Asynchronous Message 1 asks for a logout: an initiator ends what it has in flight, and uses another path if it has one.
//  2. Those that have not logged out in time are told by Asynchronous Message 3 that their session is dropped.
//  3. What is left is closed at the next look.
//
// RFC 7143 section 11.9.1, "AsyncEvent".

// look is how often is looked whether sessions are gone.
const look = 10 * time.Millisecond

// ask asks the initiators of the sessions that match to log out, and counts them.
func (t *Target) ask(match func(s *session) bool) (n int, err error) {
	err = t.group.Each(func(r *reactor.Reactor) {
		t.groups[r.Index()].each(func(s *session) {
			if match(s) {
				s.requestLogout(uint16(max(1, patience.logout/reactor.Second)))
				n++
			}
		})
	})
	return n, err
}

// evict ends the sessions that match so, and waits until all are gone. match is called on the sessions' reactors; tell hears how many are left.
func (t *Target) evict(ctx context.Context, match func(s *session) bool, tell func(left int)) error {
	n, err := t.ask(match)
	if err != nil {
		return err
	}
	tell(n)
	over := time.NewTimer(time.Duration(patience.logout))
	defer over.Stop()
	tick := time.NewTicker(look)
	defer tick.Stop()
	late, told := false, false
	for {
		left := 0 // without connections that are between two reactors: where they arrive they are judged anew
		err := t.group.Each(func(r *reactor.Reactor) {
			t.groups[r.Index()].each(func(s *session) {
				if !match(s) {
					return
				}
				left++
				switch {
				case told:
					s.close()
				case late:
					s.announceDrop()
				}
			})
		})
		if err != nil {
			return err
		}
		told = late
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

// announceDrop tells the initiator that its session ends. It may come back at once: nothing is kept.
func (s *session) announceDrop() {
	if s.state == sessionFull {
		s.send(outItem{kind: outAsync, num: uint32(AsyncDropSession)})
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
