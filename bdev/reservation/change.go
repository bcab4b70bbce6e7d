package reservation

import "slices"

// This file is how a state changes. NVMe Base Specification 2.0, "Reservations", and SPC-4, "Persistent reservations", agree on reserving,
// releasing, clearing and unregistering; they differ in
//
//	                       NVMe                                      SCSI
//	registering            Register with the same key again is fine,  REGISTER with the old key; key 0 unregisters, and is
//	                       another conflicts; key 0 is an error       no error of who is not registered
//	preempting its own     conflicts, unless it holds                 removes its own registration, unless it holds
//	key
//	moving                 —                                          REGISTER AND MOVE
//
// and in how they call what is wrong, which the doors know. A change that does not end OK leaves the state as it was.

// Verdict says what became of a change.
type Verdict uint8

// The verdicts.
const (
	OK          Verdict = iota
	Conflict            // not registered, another key, held by another
	NoKey               // key 0 where there must be one
	WrongType           // a release names another type than is held
	NotReserved         // there is nothing to move
	Registered          // who names others is registered already, or one of them is
)

// Register gives an NVMe host its first key.
func (s *State) Register(id Identity, key uint64) Verdict {
	g := s.Find(id)
	switch {
	case key == 0:
		return NoKey
	case s.Held.Live(), g != nil && g.Key != key:
		return Conflict
	case g == nil:
		s.Registrants = append(s.Registrants, Registrant{Identity: id, Key: key})
	}
	s.Generation++
	return OK
}

// Replace gives an NVMe host another key; one that has none gets it if its old key is not looked at.
func (s *State) Replace(id Identity, current, key uint64, ignore bool) Verdict {
	g := s.Find(id)
	switch {
	case key == 0:
		return NoKey
	case s.Held.Live(), g == nil && !ignore, g != nil && !ignore && g.Key != current:
		return Conflict
	case g == nil:
		s.Registrants = append(s.Registrants, Registrant{Identity: id, Key: key})
	default:
		g.Key = key
	}
	s.Generation++
	return OK
}

// Unregister takes an NVMe host's registration.
func (s *State) Unregister(id Identity, current uint64, ignore bool) (out Outcome, v Verdict) {
	if g := s.Find(id); s.Held.Live() || g == nil || !ignore && g.Key != current {
		return out, Conflict
	}
	s.unregister(&out, id, id)
	s.Generation++
	return out, OK
}

// RegisterNexus is REGISTER, and with ignore REGISTER AND IGNORE EXISTING KEY, of a nexus; key 0 unregisters it. ports are the same initiator
// port's nexuses by other target ports (ALL_TG_PT), which get the same; others are those of initiator ports that it names (SPEC_I_PT), which get the key
// too: nil if it names none, which is not the same as none of them. SPC-4, "Registering" and "Unregistering".
func (s *State) RegisterNexus(by Registrant, current uint64, ignore bool, ports, others []Registrant) (out Outcome, v Verdict) {
	g, key := s.Find(by.Identity), by.Key
	switch {
	case s.Held.Live(), !ignore && g == nil && current != 0, !ignore && g != nil && g.Key != current:
		return out, Conflict
	case g == nil && key == 0:
		return out, OK // nothing changes, the generation neither
	case others != nil && (g != nil || slices.ContainsFunc(others, func(o Registrant) bool { return s.Find(o.Identity) != nil })):
		return out, Registered // SPC-4 table 67
	}
	for _, p := range append([]Registrant{by}, ports...) {
		switch g := s.Find(p.Identity); {
		case key == 0:
			if g != nil {
				s.unregister(&out, p.Identity, by.Identity)
			}
		case g != nil:
			g.Key = key
		default:
			s.Registrants = append(s.Registrants, Registrant{p.Identity, key, p.Port})
		}
	}
	for _, o := range others {
		if s.Find(o.Identity) == nil { // it may be named twice
			s.Registrants = append(s.Registrants, Registrant{o.Identity, key, o.Port})
		}
	}
	s.Generation++
	return out, OK
}

// unregister takes a registration, and with it the reservation if nobody holds it any more. but is not told. NVMe, "Unregistering"; SPC-4, "Unregistering".
func (s *State) unregister(out *Outcome, id, but Identity) {
	held := s.Holds(id)
	s.Registrants = slices.DeleteFunc(s.Registrants, func(g Registrant) bool { return g.Identity == id })
	if !held || s.Type.All() && len(s.Registrants) > 0 {
		return
	}
	if s.Type.shared() {
		s.tell(out, but, Released)
	}
	s.Type, s.Holder = None, Identity{}
}

// known reports whether who asks is registered with the key that it says.
func (s *State) known(id Identity, key uint64) bool {
	g := s.Find(id)
	return g != nil && g.Key == key && !s.Held.Live()
}

// Reserve is NVMe's Acquire and RESERVE: to have it already, as the same type, is fine.
func (s *State) Reserve(id Identity, key uint64, t Type) Verdict {
	switch {
	case !s.known(id, key):
		return Conflict
	case s.Type == None:
		s.take(id, t)
	case !s.Holds(id) || s.Type != t:
		return Conflict
	}
	return OK
}

func (s *State) take(id Identity, t Type) {
	s.Type, s.Holder = t, id
	if t.All() {
		s.Holder = Identity{}
	}
}

// Preempt takes registrations with the victim's key from others, and the reservation when its holder has that key; of one that all registrants hold,
// victim 0 takes it from all. own says that a registration of who asks goes as well if it has that key and does not hold. NVMe, "Preempting a
// Reservation or Registration"; SPC-4, "Preempting".
func (s *State) Preempt(id Identity, key, victim uint64, t Type, own bool) (out Outcome, v Verdict) {
	all := s.Type.All()
	switch {
	case !s.known(id, key):
		return out, Conflict
	case victim == 0 && !all:
		return out, NoKey
	}
	takes := all && victim == 0
	if g := s.Find(s.Holder); s.Type != None && !all && g != nil && g.Key == victim {
		takes = true
	}
	var gone []Identity
	for _, g := range s.Registrants {
		if own && !takes && g.Key == victim || g.Identity != id && (takes && all || g.Key == victim) {
			gone = append(gone, g.Identity)
		}
	}
	if len(gone) == 0 && !takes {
		return out, Conflict
	}
	was := s.Type
	if takes {
		s.Type, s.Holder = None, Identity{} // nobody is told of it as released who hears that he is preempted
	}
	for _, g := range gone {
		s.unregister(&out, g, id)
		if g != id {
			out.Ended = append(out.Ended, g)
			out.Notices = append(out.Notices, Notice{g, RegistrationPreempted})
		}
	}
	if takes {
		if was != t {
			s.tell(&out, id, Released)
		}
		s.take(id, t)
	}
	s.Generation++
	return out, OK
}

// Release gives the reservation up; of who does not hold it there is nothing to release, and that is fine.
func (s *State) Release(id Identity, key uint64, t Type) (out Outcome, v Verdict) {
	switch {
	case !s.known(id, key):
		return out, Conflict
	case !s.Holds(id):
		return out, OK
	case s.Type != t:
		return out, WrongType
	}
	if t.shared() {
		s.tell(&out, id, Released)
	}
	s.Type, s.Holder = None, Identity{}
	return out, OK
}

// Clear takes the reservation and all registrations.
func (s *State) Clear(id Identity, key uint64) (out Outcome, v Verdict) {
	if !s.known(id, key) {
		return out, Conflict
	}
	s.tell(&out, id, Preempted)
	s.Registrants, s.Type, s.Holder = nil, None, Identity{}
	s.Generation++
	return out, OK
}

// Move is REGISTER AND MOVE: to is registered with its key and holds the reservation, and who held it stays registered unless it is to be
// unregistered. SPC-4, "Registering and moving the reservation".
func (s *State) Move(id Identity, key uint64, to Registrant, unregister bool) Verdict {
	switch {
	case !s.known(id, key):
		return Conflict
	case s.Type == None:
		return NotReserved
	case !s.Holds(id), s.Type.All():
		return Conflict
	case to.Key == 0:
		return NoKey
	}
	if g := s.Find(to.Identity); g != nil {
		g.Key = to.Key
	} else {
		s.Registrants = append(s.Registrants, to)
	}
	s.Holder = to.Identity
	if unregister {
		s.Registrants = slices.DeleteFunc(s.Registrants, func(g Registrant) bool { return g.Identity == id })
	}
	s.Generation++
	return OK
}

// Take is RESERVE as SPC-2 has it: for one nexus, while nobody is registered and no other has it. SPC-2 section 5.5.1, "Reservations overview": where there
// are registrants it conflicts, whoever asks, and while it lasts everything about persistent reservations does.
func (s *State) Take(h *Hold) Verdict {
	if len(s.Registrants) > 0 || s.Held.Live() && s.Held.By != h.By {
		return Conflict
	}
	s.Held = h
	return OK
}

// join takes in what was kept of the same device elsewhere, and reports whether nothing of it was left out. A registrant that is there already stays
// as it is, and so does a reservation: of two there can be one.
func (s *State) join(o *State) bool {
	whole := true
	for _, g := range o.Registrants {
		switch have := s.Find(g.Identity); {
		case have == nil:
			s.Registrants = append(s.Registrants, g)
		case have.Key != g.Key:
			whole = false
		}
	}
	switch {
	case o.Type == None || s.Type == o.Type && s.Holder == o.Holder:
	case s.Type == None:
		s.Type, s.Holder = o.Type, o.Holder
	default:
		whole = false
	}
	s.PTPL = s.PTPL || o.PTPL
	s.Generation = max(s.Generation, o.Generation)
	return whole
}
