package reservation

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var (
	hostA  = Host([16]byte{1})
	hostB  = Host([16]byte{2})
	nexusC = Nexus("iqn.2026-01.test:c,i,0x000000000001", "iqn.2026-01.test:t,t,0x0001")
	nexusD = Nexus("iqn.2026-01.test:d,i,0x000000000002", "iqn.2026-01.test:t,t,0x0001")
)

// registered is a state in which A and B, hosts, and C and D, nexuses, have the keys 1 to 4.
func registered(t testing.TB) *State {
	t.Helper()
	s := &State{}
	want(t, "A", s.Register(hostA, 1), OK)
	want(t, "B", s.Register(hostB, 2), OK)
	for i, id := range []Identity{nexusC, nexusD} {
		_, v := s.RegisterNexus(Registrant{id, uint64(3 + i), 1}, 0, false, nil, nil)
		want(t, "nexus", v, OK)
	}
	return s
}

func want(t testing.TB, why string, got, verdict Verdict) {
	t.Helper()
	if got != verdict {
		t.Errorf("%s: verdict %d, want %d", why, got, verdict)
	}
}

func told(out Outcome) map[Identity]Event {
	m := map[Identity]Event{}
	for _, n := range out.Notices {
		m[n.To] = n.Event
	}
	return m
}

func wantTold(t testing.TB, why string, out Outcome, m map[Identity]Event) {
	t.Helper()
	if got := told(out); len(got) != len(out.Notices) || !reflect.DeepEqual(got, m) {
		t.Errorf("%s: told %v, want %v", why, out.Notices, m)
	}
}

// TestAcrossDoors: hosts and nexuses keep each other out, preempt each other by key, and hear of it.
func TestAcrossDoors(t *testing.T) {
	s := registered(t)
	want(t, "C reserves", s.Reserve(nexusC, 3, WriteExclusive), OK)
	for _, c := range []struct {
		who         string
		id          Identity
		read, write bool
	}{
		{"the holder", nexusC, false, false}, {"another nexus", nexusD, false, true}, {"a registered host", hostA, false, true},
		{"a host that is not registered", Host([16]byte{9}), false, true}, {"a nexus that is not", Nexus("i", "t"), false, true},
	} {
		if read, write := s.Deny(c.id); read != c.read || write != c.write {
			t.Errorf("%s is denied read %v, write %v", c.who, read, write)
		}
	}
	want(t, "A reserves what C has", s.Reserve(hostA, 1, WriteExclusive), Conflict)
	out, v := s.Preempt(hostA, 1, 3, ExclusiveAccess, false)
	want(t, "A preempts C", v, OK)
	wantTold(t, "A preempts C", out, map[Identity]Event{nexusC: RegistrationPreempted, hostB: Released, nexusD: Released})
	if !slices.Equal(out.Ended, []Identity{nexusC}) || !s.Holds(hostA) {
		t.Errorf("ended %v, holder %v", out.Ended, s.Holder)
	}
	out, v = s.Preempt(nexusD, 4, 1, ExclusiveAccess, true)
	want(t, "D preempts A", v, OK)
	wantTold(t, "D preempts A", out, map[Identity]Event{hostA: RegistrationPreempted})
	out, v = s.Clear(nexusD, 4)
	want(t, "D clears", v, OK)
	wantTold(t, "D clears", out, map[Identity]Event{hostB: Preempted})
}

func TestRegisterNexus(t *testing.T) {
	port := func(n uint16) Registrant { // C by another port of the target
		return Registrant{Nexus(nexusC.Initiator, fmt.Sprintf("iqn.2026-01.test:t,t,0x%04x", n)), 0, n}
	}
	for _, c := range []struct {
		what          string
		by            Identity
		current, key  uint64
		ignore        bool
		ports, others []Registrant
		want          Verdict
		generation    uint32
		keys          []uint64
	}{
		{what: "the first key", by: Nexus("i", "t"), key: 9, generation: 5, keys: []uint64{1, 2, 3, 4, 9}},
		{what: "the first, with an old one", by: Nexus("i", "t"), current: 1, key: 9, want: Conflict},
		{what: "the first, with an old one that is ignored", by: Nexus("i", "t"), current: 1, key: 9, ignore: true, generation: 5, keys: []uint64{1, 2, 3, 4, 9}},
		{what: "none of who has none", by: Nexus("i", "t"), generation: 4, keys: []uint64{1, 2, 3, 4}},
		{what: "none of who has none, ignored", by: Nexus("i", "t"), current: 7, ignore: true, generation: 4, keys: []uint64{1, 2, 3, 4}},
		{what: "another", by: nexusC, current: 3, key: 9, generation: 5, keys: []uint64{1, 2, 9, 4}},
		{what: "another, with a wrong one", by: nexusC, current: 4, key: 9, want: Conflict},
		{what: "another, with none", by: nexusC, key: 9, want: Conflict},
		{what: "another, ignored", by: nexusC, key: 9, ignore: true, generation: 5, keys: []uint64{1, 2, 9, 4}},
		{what: "unregister", by: nexusC, current: 3, generation: 5, keys: []uint64{1, 2, 4}},
		{what: "unregister with a wrong key", by: nexusC, current: 4, want: Conflict},
		{what: "all ports", by: nexusC, current: 3, key: 9, ports: []Registrant{port(2), port(3)}, generation: 5, keys: []uint64{1, 2, 9, 4, 9, 9}},
		{what: "others", by: Nexus("i", "t"), key: 9, others: []Registrant{{Nexus("j", "t"), 0, 1}, {Nexus("j", "t"), 0, 1}}, generation: 5, keys: []uint64{1, 2, 3, 4, 9, 9}},
		{what: "others, one of whom is registered", by: Nexus("i", "t"), key: 9, others: []Registrant{{Nexus("j", "t"), 0, 1}, {nexusD, 0, 1}}, want: Registered},
		{what: "no others of who is registered", by: nexusC, current: 3, key: 9, others: []Registrant{}, want: Registered},
		{what: "no others with a wrong key", by: nexusC, current: 4, key: 9, others: []Registrant{}, want: Conflict},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := registered(t)
			before := s.Clone()
			_, v := s.RegisterNexus(Registrant{c.by, c.key, 1}, c.current, c.ignore, c.ports, c.others)
			want(t, "register", v, c.want)
			if v != OK {
				if !reflect.DeepEqual(s, before) {
					t.Errorf("a refused change left %+v", s)
				}
				return
			}
			var keys []uint64
			for _, g := range s.Registrants {
				keys = append(keys, g.Key)
			}
			if !slices.Equal(keys, c.keys) || s.Generation != c.generation {
				t.Errorf("keys %v, generation %d, want %v and %d", keys, s.Generation, c.keys, c.generation)
			}
		})
	}
	// Unregistering by all ports lets the holder's reservation go, once.
	s := registered(t)
	_, _ = s.RegisterNexus(Registrant{nexusC, 9, 1}, 3, false, []Registrant{port(2)}, nil)
	want(t, "reserve by the other port", s.Reserve(port(2).Identity, 9, WriteExclusiveRegistrants), OK)
	out, v := s.RegisterNexus(Registrant{nexusC, 0, 1}, 9, false, []Registrant{port(2)}, nil)
	want(t, "unregister by all ports", v, OK)
	wantTold(t, "unregister by all ports", out, map[Identity]Event{hostA: Released, hostB: Released, nexusD: Released})
	if s.Type != None || len(s.Registrants) != 3 {
		t.Errorf("left: %+v", s)
	}
}

func TestPreemptOwnKey(t *testing.T) {
	s := registered(t)
	if _, v := s.Preempt(hostA, 1, 1, WriteExclusive, false); v != Conflict {
		t.Errorf("a host preempts its own key and holds nothing: verdict %d", v)
	}
	out, v := s.Preempt(nexusC, 3, 3, WriteExclusive, true)
	want(t, "a nexus preempts its own key and holds nothing", v, OK)
	if s.Find(nexusC) != nil || len(out.Notices) > 0 || len(out.Ended) > 0 {
		t.Errorf("left %+v, outcome %+v", s, out)
	}
	s = registered(t)
	want(t, "reserve", s.Reserve(nexusC, 3, WriteExclusive), OK)
	_, v = s.Preempt(nexusC, 3, 3, ExclusiveAccessAll, true)
	want(t, "a nexus preempts its own reservation", v, OK)
	if !s.Holds(nexusC) || s.Type != ExclusiveAccessAll {
		t.Errorf("left %+v", s)
	}
	// The last registrant of a reservation that all hold takes it along.
	s = &State{}
	_, _ = s.RegisterNexus(Registrant{nexusC, 3, 1}, 0, false, nil, nil)
	want(t, "reserve", s.Reserve(nexusC, 3, WriteExclusiveAll), OK)
	_, v = s.Preempt(nexusC, 3, 3, WriteExclusive, true)
	want(t, "the last registrant removes itself", v, OK)
	if s.Type != None || len(s.Registrants) != 0 {
		t.Errorf("left %+v", s)
	}
}

func TestMove(t *testing.T) {
	e := Registrant{Nexus("iqn.2026-01.test:e,i,0x000000000003", nexusC.Target), 5, 1}
	s := registered(t)
	want(t, "nothing to move", s.Move(nexusC, 3, e, false), NotReserved)
	want(t, "reserve", s.Reserve(nexusC, 3, WriteExclusive), OK)
	want(t, "a wrong key", s.Move(nexusC, 4, e, false), Conflict)
	want(t, "not the holder", s.Move(nexusD, 4, e, false), Conflict)
	want(t, "not registered", s.Move(Nexus("i", "t"), 0, e, false), Conflict)
	want(t, "key 0", s.Move(nexusC, 3, Registrant{e.Identity, 0, 1}, false), NoKey)
	want(t, "move", s.Move(nexusC, 3, e, true), OK)
	if !s.Holds(e.Identity) || s.Find(nexusC) != nil || s.Find(e.Identity).Key != 5 || s.Generation != 5 {
		t.Errorf("moved: %+v", s)
	}
	want(t, "to one who is registered", s.Move(e.Identity, 5, Registrant{nexusD, 6, 1}, false), OK)
	if !s.Holds(nexusD) || s.Find(nexusD).Key != 6 || s.Find(e.Identity) == nil {
		t.Errorf("moved: %+v", s)
	}
	s = registered(t)
	want(t, "reserve", s.Reserve(nexusC, 3, WriteExclusiveAll), OK)
	want(t, "what all hold", s.Move(nexusC, 3, e, false), Conflict)
}

// TestHold: while SPC-2's reservation lasts nobody else does anything, and nobody changes the persistent ones; it is not to be had while somebody is
// registered, and ends at once.
func TestHold(t *testing.T) {
	s := registered(t)
	want(t, "with registrants", s.Take(&Hold{By: nexusC}), Conflict)
	s = &State{}
	h := &Hold{By: nexusC}
	want(t, "take", s.Take(h), OK)
	want(t, "take again", s.Take(&Hold{By: nexusC}), OK)
	h = s.Held
	want(t, "another takes it", s.Take(&Hold{By: nexusD}), Conflict)
	want(t, "a host registers", s.Register(hostA, 1), Conflict)
	_, v := s.RegisterNexus(Registrant{nexusC, 1, 1}, 0, true, nil, nil)
	want(t, "the holder registers", v, Conflict)
	for id, denied := range map[Identity]bool{nexusC: false, nexusD: true, hostA: true} {
		if read, write := s.Deny(id); read != denied || write != denied {
			t.Errorf("%v is denied read %v, write %v", id, read, write)
		}
	}
	h.End()
	if read, _ := s.Deny(nexusD); read || s.Held.Live() {
		t.Error("it outlives its end")
	}
	want(t, "another takes it then", s.Take(&Hold{By: nexusD}), OK)
}

// twin is the state, slow and obvious: every rule by the standards' words, over a map.
type twin struct {
	keys   map[Identity]uint64
	typ    Type
	holder Identity
}

func (w *twin) holders() (all []Identity) {
	for id := range w.keys {
		if w.typ != None && (w.typ.All() || id == w.holder) {
			all = append(all, id)
		}
	}
	return all
}

// remove takes registrations; a reservation that nobody holds any more is released.
func (w *twin) remove(ids ...Identity) {
	for _, id := range ids {
		delete(w.keys, id)
	}
	if len(w.holders()) == 0 {
		w.typ, w.holder = None, Identity{}
	}
}

func (w *twin) with(key uint64, but Identity) (ids []Identity) {
	for id, k := range w.keys {
		if k == key && id != but {
			ids = append(ids, id)
		}
	}
	return ids
}

// preempt is SPC-4's PREEMPT, in its three cases.
func (w *twin) preempt(id Identity, key, victim uint64, t Type) Verdict {
	if k, ok := w.keys[id]; !ok || k != key {
		return Conflict
	}
	all := w.typ.All()
	switch {
	case victim == 0 && !all:
		return NoKey
	case victim == 0: // everybody else goes, and who asks holds
		for o := range w.keys {
			if o != id {
				delete(w.keys, o)
			}
		}
	case !all && w.typ != None && w.keys[w.holder] == victim: // the holder is preempted
		for _, o := range w.with(victim, id) {
			delete(w.keys, o)
		}
	default: // registrations are removed
		gone := w.with(victim, Identity{})
		if len(gone) == 0 {
			return Conflict
		}
		w.remove(gone...)
		return OK
	}
	w.typ, w.holder = t, id
	if t.All() {
		w.holder = Identity{}
	}
	return OK
}

// TestStateIsLikeItsTwin drives random commands of nexuses and hosts at both, and holds what must be true of any state.
func TestStateIsLikeItsTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, w := &State{}, &twin{keys: map[Identity]uint64{}}
		ids := []Identity{hostA, hostB, nexusC, nexusD}
		for range rapid.IntRange(1, 60).Draw(t, "commands") {
			id := rapid.SampledFrom(ids).Draw(t, "who")
			key, other := rapid.Uint64Range(0, 3).Draw(t, "key"), rapid.Uint64Range(0, 3).Draw(t, "other")
			typ := Type(rapid.IntRange(1, 6).Draw(t, "type"))
			ignore := rapid.Bool().Draw(t, "ignore")
			have, known := w.keys[id]
			before := s.Clone()
			var v, expect Verdict
			counts := true
			switch op := rapid.IntRange(0, 5).Draw(t, "command"); op {
			case 0:
				_, v = s.RegisterNexus(Registrant{id, other, 0}, key, ignore, nil, nil)
				switch {
				case !ignore && key != have:
					expect = Conflict
				case other == 0 && !known:
					counts = false
				case other == 0:
					w.remove(id)
				default:
					w.keys[id] = other
				}
			case 1:
				_, v = s.Preempt(id, key, other, typ, true)
				expect = w.preempt(id, key, other, typ)
			case 2:
				v, counts = s.Reserve(id, key, typ), false
				switch {
				case !known || key != have:
					expect = Conflict
				case w.typ == None:
					w.typ, w.holder = typ, id
					if typ.All() {
						w.holder = Identity{}
					}
				case w.typ != typ || !slices.Contains(w.holders(), id):
					expect = Conflict
				}
			case 3:
				_, v = s.Release(id, key, typ)
				counts = false
				switch {
				case !known || key != have:
					expect = Conflict
				case !slices.Contains(w.holders(), id):
				case w.typ != typ:
					expect = WrongType
				default:
					w.typ, w.holder = None, Identity{}
				}
			case 4:
				_, v = s.Clear(id, key)
				if !known || key != have {
					expect = Conflict
				} else {
					w.keys, w.typ, w.holder = map[Identity]uint64{}, None, Identity{}
				}
			case 5:
				v = s.Register(id, other)
				switch {
				case other == 0:
					expect = NoKey
				case known && have != other:
					expect = Conflict
				default:
					w.keys[id] = other
				}
			}
			if v != expect {
				t.Fatalf("verdict %d, the twin's is %d; before %+v", v, expect, before)
			}
			if v != OK && !reflect.DeepEqual(s, before) {
				t.Fatalf("a refused command changed the state: %+v, then %+v", before, s)
			}
			if grown := s.Generation != before.Generation; grown != (v == OK && counts) {
				t.Fatalf("the generation went from %d to %d", before.Generation, s.Generation)
			}
			if len(s.Registrants) != len(w.keys) || s.Type != w.typ || s.Holder != w.holder {
				t.Fatalf("state %+v, the twin has %+v", s, w)
			}
			for _, g := range s.Registrants {
				if w.keys[g.Identity] != g.Key || g.Key == 0 {
					t.Fatalf("%v has key %d, the twin %d", g.Identity, g.Key, w.keys[g.Identity])
				}
			}
			if err := s.check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
