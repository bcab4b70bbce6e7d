package nvmf

import (
	"slices"
)

// This file is the reservations of a namespace, without the namespace: who is registered with which key, who holds it, and what
// that allows. Base Specification 2.0, "Reservations" and the four Reservation commands. A host is its 128-bit HOSTID, whatever
// its controllers.

// hostID is a host's identifier.
type hostID = [16]byte

// reservations is the state. Its methods answer a command's status and, on success, what follows from it.
type reservations struct {
	Generation  uint32          `json:"generation"`
	Type        ReservationType `json:"type"`
	Holder      hostID          `json:"holder"` // of types without "All Registrants"
	Registrants []registrant    `json:"registrants"`
	PTPL        bool            `json:"ptpl"` // the state survives a power loss
}

type registrant struct {
	Host hostID `json:"host"`
	Key  uint64 `json:"key"`
}

// reserved is what follows from a command that succeeded.
type reserved struct {
	notices []reservationNotice
	ended   []hostID // preempted: of "Preempt and Abort", their commands are to end
}

type reservationNotice struct {
	host  hostID
	event ReservationEvent
}

func (r *reservations) clone() *reservations {
	c := *r
	c.Registrants = slices.Clone(r.Registrants)
	return &c
}

// find gives a host's registration, nil if it has none.
func (r *reservations) find(h hostID) *registrant {
	for i := range r.Registrants {
		if r.Registrants[i].Host == h {
			return &r.Registrants[i]
		}
	}
	return nil
}

// all reports whether every registrant holds the reservation.
func (t ReservationType) all() bool { return t == WriteExclusiveAll || t == ExclusiveAccessAll }

// registrants reports whether registrants share what the holder may do.
func (t ReservationType) registrants() bool { return t >= WriteExclusiveRegistrants }

// exclusive reports whether reading is kept from others too.
func (t ReservationType) exclusive() bool {
	return t == ExclusiveAccess || t == ExclusiveAccessRegistrant || t == ExclusiveAccessAll
}

// holds reports whether a host holds the reservation.
func (r *reservations) holds(h hostID) bool {
	return r.Type != ReservationNone && (r.Type.all() && r.find(h) != nil || !r.Type.all() && r.Holder == h)
}

// deny says what a host may not do. "Command Behavior in the Presence of a Reservation".
func (r *reservations) deny(h hostID) (read, write bool) {
	if r == nil || r.Type == ReservationNone || r.holds(h) || r.Type.registrants() && r.find(h) != nil {
		return false, false
	}
	return r.Type.exclusive(), true
}

// tell adds a notice for every registrant but one.
func (r *reservations) tell(out *reserved, but hostID, e ReservationEvent) {
	for _, g := range r.Registrants {
		if g.Host != but {
			out.notices = append(out.notices, reservationNotice{g.Host, e})
		}
	}
}

// register is Reservation Register. ptpl says whether the namespace can keep its state.
func (r *reservations) register(h hostID, a ReservationAction, k ReservationKeys, ignoreKey bool, cptpl CPTPL, ptpl bool) (out reserved, s Status) {
	g := r.find(h)
	switch {
	case cptpl == PTPLReserved, cptpl == PTPLSet && !ptpl:
		return out, StatusInvalidField | DNR
	case a == RREGARegister:
		if k.Other == 0 {
			return out, StatusInvalidField | DNR
		}
		if g != nil && g.Key != k.Other {
			return out, StatusReservationConflict
		}
		if g == nil {
			r.Registrants = append(r.Registrants, registrant{h, k.Other})
		}
	case a == RREGAUnregister:
		if g == nil || !ignoreKey && g.Key != k.CRKEY {
			return out, StatusReservationConflict
		}
		r.unregister(&out, h)
	case a == RREGAReplace:
		switch {
		case k.Other == 0:
			return out, StatusInvalidField | DNR
		case g == nil && ignoreKey:
			r.Registrants = append(r.Registrants, registrant{h, k.Other})
		case g == nil || !ignoreKey && g.Key != k.CRKEY:
			return out, StatusReservationConflict
		default:
			g.Key = k.Other
		}
	default:
		return out, StatusInvalidField | DNR
	}
	switch cptpl {
	case PTPLClear:
		r.PTPL = false
	case PTPLSet:
		r.PTPL = true
	}
	r.Generation++
	return out, StatusSuccess
}

// unregister takes a host's registration, and with it the reservation if nobody holds it any more. "Unregistering".
func (r *reservations) unregister(out *reserved, h hostID) {
	held := r.holds(h)
	r.Registrants = slices.DeleteFunc(r.Registrants, func(g registrant) bool { return g.Host == h })
	if !held || r.Type.all() && len(r.Registrants) > 0 {
		return
	}
	if r.Type.registrants() {
		r.tell(out, h, ReservationReleased)
	}
	r.Type, r.Holder = ReservationNone, hostID{}
}

// acquire is Reservation Acquire.
func (r *reservations) acquire(h hostID, a ReservationAction, k ReservationKeys, ignoreKey bool, t ReservationType) (out reserved, s Status) {
	if ignoreKey || t < WriteExclusive || t > ExclusiveAccessAll {
		return out, StatusInvalidField | DNR
	}
	if g := r.find(h); g == nil || g.Key != k.CRKEY {
		return out, StatusReservationConflict
	}
	switch a {
	case RACQAAcquire:
		switch {
		case r.Type == ReservationNone:
			r.take(h, t)
		case !r.holds(h) || r.Type != t:
			return out, StatusReservationConflict
		}
		return out, StatusSuccess
	case RACQAPreempt, RACQAPreemptAbort:
		return r.preempt(h, k.Other, t)
	}
	return out, StatusInvalidField | DNR
}

func (r *reservations) take(h hostID, t ReservationType) {
	r.Type, r.Holder = t, h
	if t.all() {
		r.Holder = hostID{}
	}
}

// preempt takes registrations from others, and the reservation when its holder's key is named. "Preempting".
func (r *reservations) preempt(h hostID, key uint64, t ReservationType) (out reserved, s Status) {
	all := r.Type.all()
	if key == 0 && !all {
		return out, StatusInvalidField | DNR
	}
	takes := all && key == 0
	if holder := r.find(r.Holder); r.Type != ReservationNone && !all && holder != nil && holder.Key == key {
		takes = true
	}
	victims := 0
	var keep []registrant
	for _, g := range r.Registrants {
		if g.Host != h && (takes && all || g.Key == key) {
			victims++
			out.ended = append(out.ended, g.Host)
			out.notices = append(out.notices, reservationNotice{g.Host, RegistrationPreempted})
			continue
		}
		keep = append(keep, g)
	}
	if victims == 0 && !takes {
		return reserved{}, StatusReservationConflict
	}
	r.Registrants = keep
	if takes {
		if r.Type != t {
			r.tell(&out, h, ReservationReleased)
		}
		r.take(h, t)
	}
	r.Generation++
	return out, StatusSuccess
}

// release is Reservation Release.
func (r *reservations) release(h hostID, a ReservationAction, key uint64, ignoreKey bool, t ReservationType) (out reserved, s Status) {
	if ignoreKey {
		return out, StatusInvalidField | DNR
	}
	if g := r.find(h); g == nil || g.Key != key {
		return out, StatusReservationConflict
	}
	switch a {
	case RRELARelease:
		if !r.holds(h) {
			return out, StatusSuccess // there is nothing of this host's to release
		}
		if r.Type != t {
			return out, StatusInvalidField | DNR
		}
		if t.registrants() {
			r.tell(&out, h, ReservationReleased)
		}
		r.Type, r.Holder = ReservationNone, hostID{}
		return out, StatusSuccess
	case RRELAClear:
		r.tell(&out, h, ReservationPreempted)
		r.Registrants, r.Type, r.Holder = nil, ReservationNone, hostID{}
		r.Generation++
		return out, StatusSuccess
	}
	return out, StatusInvalidField | DNR
}

// report is the data of a Reservation Report; cntlid gives a host's controller, FFFFh where it has none.
func (r *reservations) report(cntlid func(h hostID) CNTLID) []byte {
	b := ReservationReport{GEN: r.Generation, RTYPE: r.Type, REGCTL: uint16(len(r.Registrants)), PTPLS: r.PTPL}.AppendTo(nil)
	for _, g := range r.Registrants {
		e := Registrant{CNTLID: cntlid(g.Host), Holder: r.holds(g.Host), RKEY: g.Key, HOSTID: g.Host}
		b = e.AppendTo(b)
	}
	return b
}
