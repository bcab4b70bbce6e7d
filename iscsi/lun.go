package iscsi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/reservation"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is logical units as they come and go. A unit opens its device once, for all reactors, before it is in a view; it gives the device
// back after the last view that had it is gone from every reactor and the last command on it has ended there.

// lunsMax bounds the units of a node: a LUN of one byte, SAM-5 section 4.7.5.1, "Peripheral device addressing".
const lunsMax = 256

// unitShare is a logical unit on one reactor. It is touched there alone.
type unitShare struct {
	ch       *bdev.Channel
	inFlight int    // commands that entered and have not left
	idle     func() // hears once that the last one has left after the unit was withdrawn

	reservations *reservation.State // of the device, as it was published last

	or      oring
	copying copyShare
}

// enter counts a command that may use the unit's channel; leave ends that.
func (s *unitShare) enter() { s.inFlight++ }

func (s *unitShare) leave() {
	s.inFlight--
	invariant.Check(s.inFlight >= 0, "iscsi: unit left more often than entered")
	if s.inFlight == 0 && s.idle != nil {
		s.idle()
		s.idle = nil
	}
}

// whenLeft runs idle when the last command has left a unit that is in no view any more: at once, if none is there.
func (s *unitShare) whenLeft(idle func()) {
	if s.inFlight == 0 {
		idle()
		return
	}
	s.idle = idle
}

// openUnit opens a device for a node; it has no LUN yet.
func (t *Target) openUnit(n *Node, device string) (*Unit, error) {
	u := &Unit{Node: n, LUN: -1, BdevName: device}
	var err error
	if u.handle, err = t.registry.Open(device, bdev.OpenOptions{Who: "target node " + n.name, Event: func(e bdev.Event) { t.deviceEvent(u, e) }}); err != nil {
		return nil, err
	}
	u.BdevName = u.handle.Device().Name() // an alias may change
	if u.channels, err = u.handle.Channels(); err != nil {
		u.handle.Close()
		return nil, err
	}
	for _, ch := range u.channels {
		u.shares = append(u.shares, &unitShare{ch: ch})
	}
	if err = t.openReservations(u); err != nil {
		u.closeReservations()
		bdev.CloseChannels(u.channels)
		u.handle.Close()
		return nil, err
	}
	return u, nil
}

// place gives a unit its LUN, -1 for the lowest free one. The lock is held.
func (n *Node) place(u *Unit, lun int) error {
	switch {
	case u.gone:
		return fmt.Errorf("device %s: it is being removed: %w", u.BdevName, bdev.ErrNotFound)
	case lun < -1 || lun >= lunsMax:
		return fmt.Errorf("LUN %d: %w: 0 to %d", lun, ErrInvalid, lunsMax-1)
	case lun == -1:
		if lun = slices.Index(n.units, nil); lun < 0 {
			lun = len(n.units)
		}
		if lun == lunsMax {
			return fmt.Errorf("%w: the node has %d units already", ErrInvalid, lunsMax)
		}
	case lun < len(n.units) && n.units[lun] != nil:
		return fmt.Errorf("LUN %d: it %w", lun, ErrExists)
	}
	for len(n.units) <= lun {
		n.units = append(n.units, nil)
	}
	n.units[lun], u.LUN = u, lun
	return nil
}

// take takes all units of a node out, to be withdrawn. The lock is held.
func (n *Node) take() (units []*Unit) {
	for _, u := range n.units {
		if u != nil {
			units = append(units, u)
		}
	}
	n.units = nil
	return units
}

// withdraw publishes that units are not configured any more, waits for the last commands on them, and closes their devices: each by itself, so
// that one whose device does not answer keeps no other.
func (t *Target) withdraw(ctx context.Context, units []*Unit) error {
	if err := t.publish(); err != nil {
		return err
	}
	var wait sync.WaitGroup
	errs := make([]error, len(units))
	for i, u := range units {
		wait.Go(func() { errs[i] = t.close(ctx, u) })
	}
	wait.Wait()
	return errors.Join(errs...)
}

// close gives the device of a unit back that is in no view any more, when the last commands have left it: with ctx ends the waiting for that alone.
func (t *Target) close(ctx context.Context, u *Unit) error {
	err := t.group.Settle(ctx, func(r *reactor.Reactor, left func()) { u.shares[r.Index()].whenLeft(left) }, func() {
		u.closeReservations()
		bdev.CloseChannels(u.channels)
		u.handle.Close()
	})
	if err != nil {
		return fmt.Errorf("LUN %d of target node %s: waiting for the last commands on device %s, which is given back when they have ended: %w", u.LUN, u.Node.name, u.BdevName, err)
	}
	return nil
}

// resized tells those who use a unit that its capacity has changed.
func (t *Target) resized(u *Unit) {
	_ = t.group.Each(func(r *reactor.Reactor) { t.groups[r.Index()].resized(u) })
}
