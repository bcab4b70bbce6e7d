package iscsi

import (
	"context"
	"errors"
	"fmt"
)

// This file empties a target, before an upgrade of the engine or of the machine below it:
//
//  1. New connections are refused, and logins under way are told to come again (0301).
//  2. Initiators are asked to log out by Async Message 1: those with another path take it, all of them end what they have in flight. This waits
//     until they have, but no longer than they were given.
//  3. The sessions that are left are ended; their tasks end first. An initiator sends elsewhere, or here after the upgrade, what was not
//     answered.
//
// When ctx ends before, the target takes connections again. The configuration stays as it is.

// Draining tells whether the target takes no connections because it was drained, or is being drained.
func (t *Target) Draining() bool { return t.draining.Load() }

// Drain empties the target. tell hears how many of how many sessions are gone.
func (t *Target) Drain(ctx context.Context, tell func(done, total int)) error {
	t.drains.Lock()
	defer t.drains.Unlock()
	left, err := t.drain(ctx, tell)
	if err != nil {
		return errors.Join(fmt.Errorf("draining the iSCSI target: %d sessions were left: %w", left, err), t.setDraining(false))
	}
	return nil
}

// Undrain lets a drained target take connections again.
func (t *Target) Undrain() error {
	t.drains.Lock()
	defer t.drains.Unlock()
	if err := t.setDraining(false); err != nil {
		return fmt.Errorf("serving again after a drain: %w", err)
	}
	return nil
}

// setDraining changes what initiators are told.
func (t *Target) setDraining(on bool) error {
	t.mu.Lock()
	was := t.draining.Swap(on)
	t.mu.Unlock()
	if was == on {
		return nil
	}
	return t.publish()
}

func (t *Target) drain(ctx context.Context, tell func(done, total int)) (left int, err error) {
	if err := t.setDraining(true); err != nil {
		return 0, err
	}
	total := 0
	err = t.evict(ctx, func(*session) bool { return true }, func(n int) {
		left, total = n, max(total, n)
		tell(total-n, total)
	})
	return left, err
}
