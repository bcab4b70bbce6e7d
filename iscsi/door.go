package iscsi

import (
	"context"

	"github.com/pollux-storage/pollux/bdev/reservation"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is a logical unit as a door to the reservations of its device (package reservation): those that other units on it have, and NVMe
// namespaces. Each reactor has the state as it was published last; what it means for a nexus is worked out when either changes, so that the way of
// a command looks at booleans.

// unitDoor is that door.
type unitDoor struct {
	t *Target
	u *Unit
}

// openReservations opens the book of the unit's device, when the unit is being added.
func (t *Target) openReservations(u *Unit) error {
	u.door = &unitDoor{t, u}
	b, err := reservation.Open(u.handle.Device(), u.door, reservation.Options{Log: t.log})
	if err != nil {
		return err
	}
	u.book = b
	s := b.State()
	return t.group.Each(func(r *reactor.Reactor) {
		if here := u.shares[r.Index()]; here.reservations == nil { // what was published in between is newer
			here.reservations = s
		}
	})
}

// closeReservations closes it, when the unit is gone.
func (u *Unit) closeReservations() {
	if u.book != nil {
		u.book.Close(u.door)
	}
}

// each lets f see every nexus of the unit, on its reactor.
func (d *unitDoor) each(f func(n *nexus, u *nexusUnit)) error {
	return d.t.group.Each(func(r *reactor.Reactor) {
		for s := d.t.groups[r.Index()].sessions; s != nil; s = s.next {
			for _, u := range s.nexus.units {
				if u != nil && u.unit == d.u {
					f(&s.nexus, u)
				}
			}
		}
	})
}

// Publish gives the state to every reactor.
func (d *unitDoor) Publish(s *reservation.State) error {
	err := d.t.group.Each(func(r *reactor.Reactor) { d.u.shares[r.Index()].reservations = s })
	if err == nil {
		err = d.each(func(n *nexus, u *nexusUnit) { u.reserved(n.identity) })
	}
	return err
}

// attentionOf says what an initiator is told. SPC-4, "Preempting", "Releasing", "Unregistering" and "Clearing".
var attentionOf = [...]attention{
	reservation.RegistrationPreempted: attentionRegistrations, reservation.Released: attentionReleased, reservation.Preempted: attentionPreempted,
}

// Tell raises unit attentions.
func (d *unitDoor) Tell(notices []reservation.Notice) {
	_ = d.each(func(n *nexus, u *nexusUnit) {
		for _, o := range notices {
			if o.To == n.identity {
				u.attentions.raise(attentionOf[o.Event])
			}
		}
	})
}

// End ends the tasks of nexuses that were preempted. SPC-4, "Preempting a persistent reservation with the PREEMPT AND ABORT service action".
func (d *unitDoor) End(gone []reservation.Identity) {
	is := map[reservation.Identity]bool{}
	for _, id := range gone {
		if id.IsNexus() {
			is[id] = true
		}
	}
	if len(is) == 0 {
		return
	}
	_ = d.t.endTasks(context.Background(), func(o *task) bool {
		return o.kind == kindSCSI && o.uses(d.u) && is[o.nexus.identity] && !o.reserves()
	})
}

// reserves reports whether the command is about reservations, and may be waiting for what it would be ended for.
func (c *command) reserves() bool { return c.rule != nil && c.rule.is(reserves) }

// reserved works out what the reservations mean for the nexus that has this identity.
func (u *nexusUnit) reserved(id reservation.Identity) {
	s := u.here.reservations
	u.held, u.denyRead, u.denyWrite = nil, false, false
	switch {
	case s == nil:
	case s.Held.Live():
		if s.Held.By != id {
			u.held = s.Held
		}
	default:
		u.denyRead, u.denyWrite = s.Deny(id)
	}
}

// changeReservations lets f change the reservations of the command's unit, and then goes on with done on the command's reactor: v says what became of
// it, err why it could not be kept. It is control work: the command waits on a goroutine, no reactor does.
func (c *command) changeReservations(abort bool, f func(next *reservation.State, persists bool) (reservation.Outcome, reservation.Verdict), done func(v reservation.Verdict, err error)) {
	book, r := c.unit.unit.book, c.nexus.r
	go func() {
		v, err := book.Change(abort, f)
		_ = r.Go(func() { done(v, err) })
	}()
}
