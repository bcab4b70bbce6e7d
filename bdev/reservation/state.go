package reservation

import (
	"slices"
	"sync/atomic"
)

// This file is the state: who is registered, who holds, and what that lets others do.

// Identity is who can be registered: an NVMe host, or a SCSI I_T nexus. It can be compared.
type Identity struct {
	Host [16]byte // HOSTID; zero of a nexus

	Initiator, Target string // names of the nexus' ports; "" of a host
}

// Host is the identity of an NVMe host, whatever its controllers.
func Host(id [16]byte) Identity { return Identity{Host: id} }

// Nexus is the identity of an I_T nexus.
func Nexus(initiator, target string) Identity { return Identity{Initiator: initiator, Target: target} }

// IsNexus tells a nexus from a host.
func (id Identity) IsNexus() bool { return id.Initiator != "" }

// Registrant is who has a key.
type Registrant struct {
	Identity
	Key  uint64
	Port uint16 // of a nexus: the relative identifier of its target port
}

// Type is what a reservation keeps from whom, as NVMe numbers it.
type Type uint8

// The types.
const (
	None                       Type = 0
	WriteExclusive             Type = 1
	ExclusiveAccess            Type = 2
	WriteExclusiveRegistrants  Type = 3
	ExclusiveAccessRegistrants Type = 4
	WriteExclusiveAll          Type = 5
	ExclusiveAccessAll         Type = 6
)

// All reports whether every registrant holds the reservation.
func (t Type) All() bool { return t == WriteExclusiveAll || t == ExclusiveAccessAll }

// shared reports whether registrants may do what the holder may.
func (t Type) shared() bool { return t >= WriteExclusiveRegistrants }

// exclusive reports whether reading is kept from others too.
func (t Type) exclusive() bool {
	return t == ExclusiveAccess || t == ExclusiveAccessRegistrants || t == ExclusiveAccessAll
}

// State is the reservations of a device at one time.
type State struct {
	Generation  uint32
	Type        Type
	Holder      Identity // of types that one holds
	Registrants []Registrant
	PTPL        bool // it survives a power loss

	Held *Hold // SPC-2's RESERVE, which knows no keys and survives nothing; nil, or ended, if there is none
}

// Hold is a reservation as SPC-2's RESERVE makes it: everything, for one nexus, until that releases it or is gone. It ends on any reactor, at once.
type Hold struct {
	By    Identity
	ended atomic.Bool
}

// End ends it. Who is told of the state next finds it ended; doors that keep something worked out from it hear with the next change.
func (h *Hold) End() { h.ended.Store(true) }

// Live reports whether it counts; nil does not.
func (h *Hold) Live() bool { return h != nil && !h.ended.Load() }

// Clone is a copy that can be changed.
func (s *State) Clone() *State {
	c := *s
	c.Registrants = slices.Clone(s.Registrants)
	return &c
}

// Find gives who is registered, nil if it is not.
func (s *State) Find(id Identity) *Registrant {
	for i := range s.Registrants {
		if s.Registrants[i].Identity == id {
			return &s.Registrants[i]
		}
	}
	return nil
}

// Holds reports whether it holds the reservation.
func (s *State) Holds(id Identity) bool {
	return s.Type != None && (s.Type.All() && s.Find(id) != nil || !s.Type.All() && s.Holder == id)
}

// Deny says what it may not do. NVMe: "Command Behavior in the Presence of a Reservation"; SPC-4: "Persistent reservations", the table of commands
// that are allowed in the presence of various reservations.
func (s *State) Deny(id Identity) (read, write bool) {
	switch {
	case s == nil:
		return false, false
	case s.Held.Live() && s.Held.By != id:
		return true, true
	case s.Type == None, s.Holds(id), s.Type.shared() && s.Find(id) != nil:
		return false, false
	}
	return s.Type.exclusive(), true
}

// Event is what has happened to who is to hear of it.
type Event uint8

// The events, as NVMe numbers them. SPC-4 has the additional sense codes REGISTRATIONS PREEMPTED, RESERVATIONS RELEASED and RESERVATIONS PREEMPTED.
const (
	RegistrationPreempted Event = 1
	Released              Event = 2
	Preempted             Event = 3 // all of it was cleared
)

// Notice is an event, and who is to hear of it.
type Notice struct {
	To Identity
	Event
}

// Outcome is what follows from a change.
type Outcome struct {
	Notices []Notice
	Ended   []Identity // preempted, and their commands are to end too
}

// tell adds a notice for every registrant but one.
func (s *State) tell(out *Outcome, but Identity, e Event) {
	for _, g := range s.Registrants {
		if g.Identity != but {
			out.Notices = append(out.Notices, Notice{g.Identity, e})
		}
	}
}
