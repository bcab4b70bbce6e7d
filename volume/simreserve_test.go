package volume

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the reservations of volumes in the simulation: owners save theirs, one change each at a time, several owners at once. What was
// acknowledged is there after a power cut; what failed may be there or not.

// simSave is a change of an owner's reservations.
type simSave struct {
	s           *simulation
	x           *simVolume
	state       []byte
	begun, done int
	ok, without bool
	lsn         wal.LSN // it has this one or an older one, if ok
}

func init() {
	simOps = append(simOps,
		simOp{"reservations", 4, false, func(s *simulation, x *simVolume) { s.save(x) }},
		simOp{"reservations, waited for", 2, false, (*simulation).saveAndWait},
	)
}

// save lets an owner that waits for nothing save something.
func (s *simulation) save(x *simVolume) *simSave {
	owner := s.r.IntN(len(reserveOwners))
	list := x.saves[owner]
	if n := len(list); n > 0 && list[n-1].done == 0 {
		return nil
	}
	s.tick++
	v := &simSave{s: s, x: x, begun: s.tick}
	if s.r.Uint32N(4) > 0 {
		v.state = slices.Repeat([]byte{byte(s.tick), byte(s.tick >> 8)}, 1+s.r.IntN(800))
	}
	x.saves[owner] = append(list, v)
	x.saving++
	s.w.On(s.r.IntN(2), func(r *reactor.Reactor) {
		x.v.Device().Driver().(bdev.ReservationStore).SaveReservations(r, reserveOwners[owner], v.state, v)
	})
	return v
}

// ReservationsSaved is the end of a change.
func (v *simSave) ReservationsSaved(st bdev.Status) {
	s := v.s
	s.tick++
	v.done = s.tick
	v.x.saving--
	switch {
	case st == bdev.StatusOK:
		v.ok, v.lsn = true, v.x.appended()
	case st == bdev.StatusNoSpace && v.x.savedMost() > ReservationBytesMax:
		v.without = true
	default:
		s.mayFail("saving reservations", bdev.Write, v.x, st)
	}
}

// appended is the newest LSN.
func (x *simVolume) appended() wal.LSN {
	n, _, _ := x.v.log.Marks()
	return n
}

// savedMost is how long the page may be.
func (x *simVolume) savedMost() int {
	n := 0
	for _, list := range x.saves {
		most := 0
		for _, v := range list {
			if len(v.state) > 0 {
				most = max(most, len(v.state)+reserveEntryBytes)
			}
		}
		n += most
	}
	return n
}

// saveAndWait saves, while clients go on, and the power fails.
func (s *simulation) saveAndWait(x *simVolume) {
	s.t.Helper()
	if s.stalled {
		return
	}
	cut := s.during(func() {
		if v := s.save(x); v != nil {
			s.await(func() bool { return v.done > 0 })
		}
	})
	if cut != nil {
		s.crashAt(cut, s.choice())
	}
}

// compareReservations holds what is saved against the model.
func (s *simulation) compareReservations(what string, x *simVolume, sight simSight) {
	s.t.Helper()
	for i, o := range reserveOwners {
		got, err := x.v.LoadReservations(o)
		if err != nil {
			if !s.lied {
				s.t.Fatalf("%s: %v", what, err)
			}
			continue
		}
		if !x.maySave(i, got, sight) {
			s.t.Fatalf("%s: owner %d of volume %s has saved %.8x, %d bytes; what must be seen ended by %d; it may be of:%s",
				what, i, x.name, got, len(got), sight.at, x.saveHistory(i))
		}
	}
}

// maySave says whether an owner's state could be this.
func (x *simVolume) maySave(owner int, state []byte, s simSight) bool {
	list := x.saves[owner]
	could := func(v *simSave) bool {
		return s.ever || !slices.ContainsFunc(list, func(o *simSave) bool {
			return o != v && o.ok && s.ended(o.done, o.done, o.lsn) && v.done > 0 && v.done < o.begun
		})
	}
	if len(state) == 0 && could(&simSave{done: 1}) {
		return true
	}
	return slices.ContainsFunc(list, func(v *simSave) bool {
		return !v.without && v.begun <= s.until && bytes.Equal(v.state, state) && could(v)
	})
}

func (x *simVolume) saveHistory(owner int) string {
	s := ""
	list := x.saves[owner]
	for _, v := range list[max(0, len(list)-8):] {
		s += fmt.Sprintf("\n\t%.8x, %d bytes: begun %d, done %d (ok %v, without effect %v)", v.state, len(v.state), v.begun, v.done, v.ok, v.without)
	}
	return s
}

// settleSaves takes what is there for what was saved, beside what may come back.
func (s *simulation) settleSaves(x *simVolume, until int, lsn wal.LSN) {
	for i, o := range reserveOwners {
		for _, v := range x.saves[i] {
			if v.done == 0 {
				v.done = s.tick - 1
			}
			v.without = v.without || v.begun > until
		}
		if !s.apart {
			x.saves[i] = nil
		}
		if got, err := x.v.LoadReservations(o); err == nil {
			x.saves[i] = append(x.saves[i], &simSave{s: s, x: x, state: got, begun: s.tick, done: s.tick, ok: true, lsn: lsn})
		}
	}
}
