package nvmf

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/pollux-storage/pollux/bdev/reservation"
)

var (
	hostA = hostID{1}
	hostB = hostID{2}
	hostC = hostID{3}
)

// registered is a state in which A, B and C have the keys 10, 20 and 30.
func registered(t testing.TB) reservations {
	t.Helper()
	r := reservations{&reservation.State{}}
	for i, h := range []hostID{hostA, hostB, hostC} {
		if _, s := r.register(h, RREGARegister, ReservationKeys{Other: uint64(10 * (i + 1))}, false, PTPLKeep, false); !s.OK() {
			t.Fatal(s)
		}
	}
	return r
}

func want(t testing.TB, why string, got, status Status) {
	t.Helper()
	if got != status {
		t.Errorf("%s: %v, want %v", why, got, status)
	}
}

func TestReservationRegister(t *testing.T) {
	r := registered(t)
	_, s := r.register(hostA, RREGARegister, ReservationKeys{Other: 10}, false, PTPLKeep, false)
	want(t, "the same key again", s, StatusSuccess)
	_, s = r.register(hostA, RREGARegister, ReservationKeys{Other: 11}, false, PTPLKeep, false)
	want(t, "another key", s, StatusReservationConflict)
	_, s = r.register(hostID{9}, RREGARegister, ReservationKeys{}, false, PTPLKeep, false)
	want(t, "key 0", s, StatusInvalidField|DNR)
	_, s = r.register(hostA, RREGAReplace, ReservationKeys{CRKEY: 99, Other: 11}, false, PTPLKeep, false)
	want(t, "replace with a wrong key", s, StatusReservationConflict)
	_, s = r.register(hostA, RREGAReplace, ReservationKeys{CRKEY: 99, Other: 11}, true, PTPLKeep, false)
	want(t, "replace without looking at the key", s, StatusSuccess)
	_, s = r.register(hostID{9}, RREGAReplace, ReservationKeys{Other: 90}, true, PTPLKeep, false)
	want(t, "replace that registers", s, StatusSuccess)
	_, s = r.register(hostID{8}, RREGAUnregister, ReservationKeys{}, true, PTPLKeep, false)
	want(t, "unregister without a registration", s, StatusReservationConflict)
	_, s = r.register(hostA, RREGAUnregister, ReservationKeys{CRKEY: 10}, false, PTPLKeep, false)
	want(t, "unregister with the old key", s, StatusReservationConflict)
	_, s = r.register(hostA, RREGAUnregister, ReservationKeys{CRKEY: 11}, false, PTPLKeep, false)
	want(t, "unregister", s, StatusSuccess)
	_, s = r.register(hostA, 3, ReservationKeys{Other: 1}, false, PTPLKeep, false)
	want(t, "reserved action", s, StatusInvalidField|DNR)
	_, s = r.register(hostA, RREGARegister, ReservationKeys{Other: 1}, false, PTPLReserved, true)
	want(t, "reserved CPTPL", s, StatusInvalidField|DNR)
	_, s = r.register(hostA, RREGARegister, ReservationKeys{Other: 1}, false, PTPLSet, false)
	want(t, "persistence that is not there", s, StatusInvalidField|DNR)
	_, s = r.register(hostA, RREGARegister, ReservationKeys{Other: 1}, false, PTPLSet, true)
	want(t, "persistence", s, StatusSuccess)
	if r.Generation != 8 || !r.PTPL {
		t.Errorf("generation %d, PTPL %v, want 8 and true", r.Generation, r.PTPL)
	}
}

func TestReservationAccess(t *testing.T) {
	type access struct{ read, write bool } // denied
	var none, w, rw = access{}, access{false, true}, access{true, true}
	for _, c := range []struct {
		t                             ReservationType
		holder, registrant, unrelated access
	}{
		{WriteExclusive, none, w, w},
		{ExclusiveAccess, none, rw, rw},
		{WriteExclusiveRegistrants, none, none, w},
		{ExclusiveAccessRegistrant, none, none, rw},
		{WriteExclusiveAll, none, none, w},
		{ExclusiveAccessAll, none, none, rw},
	} {
		r := registered(t)
		_, s := r.acquire(hostA, RACQAAcquire, ReservationKeys{CRKEY: 10}, false, c.t)
		want(t, "acquire", s, StatusSuccess)
		for _, h := range []struct {
			who  string
			id   hostID
			want access
		}{{"holder", hostA, c.holder}, {"registrant", hostB, c.registrant}, {"unrelated", hostID{9}, c.unrelated}} {
			read, write := r.Deny(reservation.Host(h.id))
			if (access{read, write}) != h.want {
				t.Errorf("%v: %s is denied read %v, write %v", c.t, h.who, read, write)
			}
		}
	}
	var nobody *reservation.State
	if r, w := nobody.Deny(reservation.Host(hostA)); r || w {
		t.Error("denied without a reservation")
	}
}

func TestReservationAcquire(t *testing.T) {
	r := registered(t)
	acquire := func(h hostID, a ReservationAction, cur, pre uint64, typ ReservationType) Status {
		_, s := r.acquire(h, a, ReservationKeys{CRKEY: cur, Other: pre}, false, typ)
		return s
	}
	_, s := r.acquire(hostA, RACQAAcquire, ReservationKeys{CRKEY: 10}, true, WriteExclusive)
	want(t, "IEKEY", s, StatusInvalidField|DNR)
	want(t, "type 0", acquire(hostA, RACQAAcquire, 10, 0, 0), StatusInvalidField|DNR)
	want(t, "type 7", acquire(hostA, RACQAAcquire, 10, 0, 7), StatusInvalidField|DNR)
	want(t, "no registrant", acquire(hostID{9}, RACQAAcquire, 10, 0, WriteExclusive), StatusReservationConflict)
	want(t, "wrong key", acquire(hostA, RACQAAcquire, 11, 0, WriteExclusive), StatusReservationConflict)
	want(t, "acquire", acquire(hostA, RACQAAcquire, 10, 0, WriteExclusive), StatusSuccess)
	want(t, "the same again", acquire(hostA, RACQAAcquire, 10, 0, WriteExclusive), StatusSuccess)
	want(t, "another type", acquire(hostA, RACQAAcquire, 10, 0, ExclusiveAccess), StatusReservationConflict)
	want(t, "held by another", acquire(hostB, RACQAAcquire, 20, 0, WriteExclusive), StatusReservationConflict)
	want(t, "preempt key 0 of a single holder", acquire(hostB, RACQAPreempt, 20, 0, WriteExclusive), StatusInvalidField|DNR)
	want(t, "preempt nobody", acquire(hostB, RACQAPreempt, 20, 77, WriteExclusive), StatusReservationConflict)
	want(t, "preempt one who does not hold", acquire(hostB, RACQAPreempt, 20, 30, ExclusiveAccess), StatusSuccess)
	if !r.Holds(reservation.Host(hostA)) || r.Type != reservation.WriteExclusive || r.Find(reservation.Host(hostC)) != nil {
		t.Error("preempting a registrant changed the reservation, or left the registrant")
	}
	want(t, "preempt the holder", acquire(hostB, RACQAPreempt, 20, 10, ExclusiveAccess), StatusSuccess)
	if !r.Holds(reservation.Host(hostB)) || r.Type != reservation.ExclusiveAccess || r.Find(reservation.Host(hostA)) != nil {
		t.Error("the reservation was not taken over")
	}
	want(t, "preempt oneself", acquire(hostB, RACQAPreempt, 20, 20, WriteExclusiveAll), StatusSuccess)
	if !r.Holds(reservation.Host(hostB)) || r.Type != reservation.WriteExclusiveAll {
		t.Error("self-preemption did not change the type")
	}
	if r.Generation != 6 {
		t.Errorf("generation %d, want 6: acquiring does not count", r.Generation)
	}
}

func TestReservationNotices(t *testing.T) {
	told := func(out reservation.Outcome) map[hostID]ReservationEvent {
		m := map[hostID]ReservationEvent{}
		for _, n := range out.Notices {
			m[n.To.Host] = ReservationEvent(n.Event)
		}
		return m
	}
	r := registered(t)
	_, _ = r.acquire(hostA, RACQAAcquire, ReservationKeys{CRKEY: 10}, false, WriteExclusiveRegistrants)
	out, s := r.acquire(hostB, RACQAPreempt, ReservationKeys{CRKEY: 20, Other: 10}, false, WriteExclusive)
	want(t, "preempt", s, StatusSuccess)
	if m := told(out); len(m) != 2 || m[hostA] != RegistrationPreempted || m[hostC] != ReservationReleased {
		t.Errorf("preempt with another type: %v", m)
	}
	r = registered(t)
	_, _ = r.acquire(hostA, RACQAAcquire, ReservationKeys{CRKEY: 10}, false, WriteExclusiveRegistrants)
	out, _ = r.release(hostA, RRELARelease, 10, false, WriteExclusiveRegistrants)
	if m := told(out); len(m) != 2 || m[hostB] != ReservationReleased {
		t.Errorf("release: %v", m)
	}
	_, _ = r.acquire(hostA, RACQAAcquire, ReservationKeys{CRKEY: 10}, false, WriteExclusive)
	if out, _ = r.release(hostA, RRELARelease, 10, false, WriteExclusive); len(out.Notices) != 0 {
		t.Errorf("release of Write Exclusive: %v", out.Notices)
	}
	out, _ = r.release(hostB, RRELAClear, 20, false, 0)
	if m := told(out); len(m) != 2 || m[hostA] != ReservationPreempted || m[hostB] != 0 {
		t.Errorf("clear: %v", m)
	}
	if len(r.Registrants) != 0 {
		t.Error("clear left registrants")
	}
}

func TestReservationRelease(t *testing.T) {
	r := registered(t)
	_, _ = r.acquire(hostA, RACQAAcquire, ReservationKeys{CRKEY: 10}, false, ExclusiveAccess)
	rel := func(h hostID, key uint64, typ ReservationType) Status {
		_, s := r.release(h, RRELARelease, key, false, typ)
		return s
	}
	want(t, "wrong key", rel(hostA, 11, ExclusiveAccess), StatusReservationConflict)
	want(t, "no registrant", rel(hostID{9}, 10, ExclusiveAccess), StatusReservationConflict)
	want(t, "another type", rel(hostA, 10, WriteExclusive), StatusInvalidField|DNR)
	want(t, "not the holder", rel(hostB, 20, ExclusiveAccess), StatusSuccess)
	if !r.Holds(reservation.Host(hostA)) {
		t.Error("somebody else released it")
	}
	want(t, "the holder", rel(hostA, 10, ExclusiveAccess), StatusSuccess)
	want(t, "nothing held", rel(hostA, 10, ExclusiveAccess), StatusSuccess)
	_, s := r.release(hostA, RRELARelease, 10, true, ExclusiveAccess)
	want(t, "IEKEY", s, StatusInvalidField|DNR)
}

// TestReservationsStayConsistent drives random commands and holds what must be true of any state.
func TestReservationsStayConsistent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := reservations{&reservation.State{}}
		hosts := []hostID{hostA, hostB, hostC}
		for range rapid.IntRange(1, 40).Draw(t, "commands") {
			h := rapid.SampledFrom(hosts).Draw(t, "host")
			k := ReservationKeys{CRKEY: rapid.Uint64Range(0, 3).Draw(t, "key"), Other: rapid.Uint64Range(0, 3).Draw(t, "other")}
			a := ReservationAction(rapid.IntRange(0, 3).Draw(t, "action"))
			typ := ReservationType(rapid.IntRange(0, 7).Draw(t, "type"))
			iekey := rapid.Bool().Draw(t, "iekey")
			before := r.Clone()
			var s Status
			switch rapid.IntRange(0, 2).Draw(t, "command") {
			case 0:
				_, s = r.register(h, a, k, iekey, PTPLKeep, false)
			case 1:
				_, s = r.acquire(h, a, k, iekey, typ)
			case 2:
				_, s = r.release(h, a, k.CRKEY, iekey, typ)
			}
			if !s.OK() && (r.Generation != before.Generation || r.Type != before.Type || len(r.Registrants) != len(before.Registrants)) {
				t.Fatalf("a refused command changed the state: %+v, then %+v", before, r)
			}
			holders := 0
			for _, g := range r.Registrants {
				if g.Key == 0 {
					t.Fatalf("registered with key 0: %+v", r)
				}
				if r.Holds(g.Identity) {
					holders++
				}
			}
			if (r.Type != reservation.None) != (holders > 0) {
				t.Fatalf("type %v with %d holders: %+v", r.Type, holders, r)
			}
		}
	})
}
