package iscsi

import (
	"errors"
	"slices"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/reservation"
)

// This file is RESERVE and RELEASE, of 6 and of 10 bytes. SPC-2 sections 7.21 to 7.24; they are obsolete since, but hosts of clusters and the public
// suite use them. One nexus has the whole unit, until it releases it, logs out, is lost, or the unit is reset; the NVMe hosts of the device are
// kept out too. SPC-2 section 5.5.1, "Reservations overview": where somebody is registered both conflict, whoever asks; and while a unit is reserved so,
// all PERSISTENT RESERVE commands do.

// admitReserve judges both: there are no reservations for third parties, nor of extents.
func (c *command) admitReserve() bool {
	for bit := int8(4); bit >= 0; bit-- {
		if c.cdb[1]>>bit&1 != 0 {
			return c.refuseCDB(1, bit)
		}
	}
	return true
}

// reserve serves RESERVE.
func (c *command) reserve() {
	u, h := c.unit, &reservation.Hold{By: c.nexus.identity}
	u.holds = append(u.holds, h) // a reset ends it from here on
	c.changeReservations(false, func(next *reservation.State, _ bool) (out reservation.Outcome, v reservation.Verdict) {
		return out, next.Take(h)
	}, func(v reservation.Verdict, err error) {
		if v != reservation.OK || err != nil {
			h.End()
		}
		u.holds = slices.DeleteFunc(u.holds, func(o *reservation.Hold) bool { return !o.Live() })
		c.settled(v, err)
	})
}

// release serves RELEASE: of who has not reserved the unit it is good, and does nothing.
func (c *command) release() {
	id := c.nexus.identity
	c.changeReservations(false, func(next *reservation.State, _ bool) (out reservation.Outcome, v reservation.Verdict) {
		if len(next.Registrants) > 0 {
			return out, reservation.Conflict
		}
		if next.Held.Live() && next.Held.By == id {
			next.Held = nil
		}
		return out, reservation.OK
	}, c.settled)
}

// settled answers a command about reservations.
func (c *command) settled(v reservation.Verdict, err error) {
	kept := (*reservation.KeepError)(nil)
	switch {
	case errors.As(err, &kept) && kept.Status == bdev.StatusNoSpace:
		c.refuse(senseNoRegistrations)
	case errors.As(err, &kept) && kept.Status != bdev.StatusOK:
		status, code := statusOf(kept.Status, bdev.Write)
		c.refuse(code)
		c.status = status
	case err != nil:
		c.refuse(senseInternalError)
	case v == reservation.Conflict:
		c.refuse(senseNone)
		c.status = ReservationConflict
	case v == reservation.NoKey: // SERVICE ACTION RESERVATION KEY
		c.refuseList(senseInvalidList, 8, -1)
	case v == reservation.WrongType:
		c.refuse(senseReleaseInvalid)
	case v == reservation.NotReserved:
		c.refuseCDB(1, 4)
	}
	c.port.end()
}

// letGo ends what the nexus has reserved of the unit with RESERVE. It counts at once; that it is over is published by a goroutine, for NVMe hosts.
func (u *nexusUnit) letGo() {
	if len(u.holds) == 0 {
		return
	}
	for _, h := range u.holds {
		h.End()
	}
	u.holds = nil
	book := u.unit.book
	go func() {
		_, _ = book.Change(false, func(next *reservation.State, _ bool) (out reservation.Outcome, v reservation.Verdict) {
			if !next.Held.Live() {
				next.Held = nil
			}
			return out, reservation.OK
		})
	}()
}

// letGo ends what the nexus has reserved with RESERVE, when it logs out or is lost.
func (n *nexus) letGo() {
	for _, u := range n.units {
		if u != nil {
			u.letGo()
		}
	}
}
