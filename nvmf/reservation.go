package nvmf

import (
	"crypto/sha256"

	"github.com/pollux-storage/pollux/bdev/reservation"
)

// This file is the reservation commands as the state sees them that all doors of a device share (package reservation). Base Specification 2.0, "Reservations"
// and the four Reservation commands. A host is its 128-bit HOSTID, whatever its controllers.

// hostID is a host's identifier.
type hostID = [16]byte

// reservations is the state with NVMe's commands. They answer a command's status and, on success, what follows from it.
type reservations struct{ *reservation.State }

// statusOfVerdict gives what a host is told.
func statusOfVerdict(v reservation.Verdict) Status {
	switch v {
	case reservation.OK:
		return StatusSuccess
	case reservation.Conflict:
		return StatusReservationConflict
	}
	return StatusInvalidField | DNR // key 0, another type
}

// register is Reservation Register. ptpl says whether the namespace can keep its state.
func (r reservations) register(h hostID, a ReservationAction, k ReservationKeys, ignoreKey bool, cptpl CPTPL, ptpl bool) (out reservation.Outcome, s Status) {
	if cptpl == PTPLReserved || cptpl == PTPLSet && !ptpl {
		return out, StatusInvalidField | DNR
	}
	var v reservation.Verdict
	switch id := reservation.Host(h); a {
	case RREGARegister:
		v = r.Register(id, k.Other)
	case RREGAUnregister:
		out, v = r.Unregister(id, k.CRKEY, ignoreKey)
	case RREGAReplace:
		v = r.Replace(id, k.CRKEY, k.Other, ignoreKey)
	default:
		return out, StatusInvalidField | DNR
	}
	if v == reservation.OK && cptpl != PTPLKeep {
		r.PTPL = cptpl == PTPLSet
	}
	return out, statusOfVerdict(v)
}

// acquire is Reservation Acquire.
func (r reservations) acquire(h hostID, a ReservationAction, k ReservationKeys, ignoreKey bool, t ReservationType) (out reservation.Outcome, s Status) {
	if ignoreKey || t < WriteExclusive || t > ExclusiveAccessAll {
		return out, StatusInvalidField | DNR
	}
	var v reservation.Verdict
	switch id := reservation.Host(h); a {
	case RACQAAcquire:
		v = r.Reserve(id, k.CRKEY, reservation.Type(t))
	case RACQAPreempt, RACQAPreemptAbort:
		out, v = r.Preempt(id, k.CRKEY, k.Other, reservation.Type(t), false)
	default:
		return out, StatusInvalidField | DNR
	}
	return out, statusOfVerdict(v)
}

// release is Reservation Release.
func (r reservations) release(h hostID, a ReservationAction, key uint64, ignoreKey bool, t ReservationType) (out reservation.Outcome, s Status) {
	if ignoreKey {
		return out, StatusInvalidField | DNR
	}
	var v reservation.Verdict
	switch id := reservation.Host(h); a {
	case RRELARelease:
		out, v = r.Release(id, key, reservation.Type(t))
	case RRELAClear:
		out, v = r.Clear(id, key)
	default:
		return out, StatusInvalidField | DNR
	}
	return out, statusOfVerdict(v)
}

// report is the data of a Reservation Report; cntlid gives a host's controller, FFFFh where it has none.
func (r reservations) report(cntlid func(h hostID) CNTLID) []byte {
	b := ReservationReport{GEN: r.Generation, RTYPE: ReservationType(r.Type), REGCTL: uint16(len(r.Registrants)), PTPLS: r.PTPL}.AppendTo(nil)
	for _, g := range r.Registrants {
		e := Registrant{CNTLID: CNTLIDDynamic, Holder: r.Holds(g.Identity), RKEY: g.Key, HOSTID: hostOf(g.Identity)}
		if !g.IsNexus() {
			e.CNTLID = cntlid(g.Host)
		}
		b = e.AppendTo(b)
	}
	return b
}

// hostOf is how a registrant is shown to hosts. A SCSI I_T nexus has no HOSTID: it is shown with one that is made from its names, always the same and
// nobody else's, and with no controller, as a host that is not connected. Hosts go by the keys, and can preempt it by its key as they can each other.
func hostOf(id reservation.Identity) hostID {
	if !id.IsNexus() {
		return id.Host
	}
	sum := sha256.Sum256([]byte("nexus " + id.Initiator + " " + id.Target))
	return hostID(sum[:16])
}
