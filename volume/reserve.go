package volume

import (
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the reservations that targets keep in a volume (T-16): bdev.ReservationStore. They commit like a write, in the same log.
//
//	SaveReservations ─▶ event with the whole set ─ in the log ─▶ newest ─ durable ─▶ who asked hears
//	                                                  all before it is home ─▶ home ─▶ the next checkpoint: one page, to a new place
//
// An event has the whole set, so that the newest counts and none before it is needed. Changes are made one after the other: each builds on
// what the one before has made durable. Opening reads the page that the checkpoint has, and then the events above it.
//
// Restoring a snapshot does not bring back old reservations, and a clone begins without.

// reserves is the reservations. It belongs to the volume's reactor.
type reserves struct {
	newest  reserveSet // that is in the log, or home
	home    reserveSet // of the events that were applied
	changed bool       // home, since the last checkpoint
	page    []byte     // that the checkpoint writes
	damaged error      // why the page cannot be had, if no event of the log has taken its place

	first, last *reserveSave // that wait; the first is under way, if saving
	saving      bool
	event       logEvent
	payload     []byte
}

// reserveSave is one change, on its way from reactor to reactor and back.
type reserveSave struct {
	v      *Volume
	from   *reactor.Reactor
	next   *reserveSave
	owner  uuid.UUID
	state  []byte
	done   bdev.ReservationsSaved
	status bdev.Status
	back   bool
}

// LoadReservations gives what an owner has saved. It is control work.
func (v *Volume) LoadReservations(owner uuid.UUID) (state []byte, err error) {
	if e := v.r.Call(func() { state, err = slices.Clone(v.reserves.newest.of(owner)), v.reserves.damaged }); e != nil {
		err = e
	}
	if err != nil {
		return nil, fmt.Errorf("reading the reservations of volume %s: %w", v.Name(), err)
	}
	return state, nil
}

// SaveReservations lets an owner's state be replaced.
func (v *Volume) SaveReservations(r *reactor.Reactor, owner uuid.UUID, state []byte, done bdev.ReservationsSaved) {
	r.Send(v.r, &reserveSave{v: v, from: r, owner: owner, state: slices.Clone(state), done: done})
}

// Receive is the change at the volume, and back.
func (s *reserveSave) Receive(*reactor.Reactor) {
	if s.back {
		s.done.ReservationsSaved(s.status)
		return
	}
	x := &s.v.reserves
	if x.last == nil {
		x.first = s
	} else {
		x.last.next = s
	}
	x.last = s
	s.v.saveReservations()
}

// saveReservations begins with the next change, if none is under way.
func (v *Volume) saveReservations() {
	x := &v.reserves
	for !x.saving && x.first != nil {
		s := x.first
		set, fits := x.newest.with(s.owner, s.state)
		gate := v.gate(bdev.Write)
		switch {
		case gate != bdev.StatusOK:
			v.reservationsSaved(gate)
		case x.damaged != nil:
			v.reservationsSaved(bdev.StatusCorrupt)
		case !fits:
			v.reservationsSaved(bdev.StatusNoSpace)
		case set.equal(x.newest):
			v.reservationsSaved(bdev.StatusOK)
		default:
			x.saving = true
			if x.payload == nil {
				x.payload = pageMemory(1)
			}
			clear(x.payload[copy(x.payload, set):])
			v.logEvent(&x.event, wal.KindReservation, uint64(len(set)), x.payload, x)
		}
	}
}

// reservationsSaved answers the first change.
func (v *Volume) reservationsSaved(status bdev.Status) {
	x := &v.reserves
	s := x.first
	if x.first = s.next; x.first == nil {
		x.last = nil
	}
	s.next, s.status, s.back = nil, status, true
	v.r.Send(s.from, s)
}

// eventLogged hears that the change is durable, or will never be.
func (x *reserves) eventLogged(e *logEvent, s bdev.Status) {
	x.saving = false
	e.v.reservationsSaved(s)
	e.v.saveReservations()
	e.v.checkIdle()
}

// checkReservations says why such an event cannot be applied.
func checkReservations(r *wal.Record, payload []byte) error {
	if len(payload) != PageBytes || r.Block > ReservationBytesMax {
		return fmt.Errorf("%w: LSN %d is a %v of %d bytes, in %d", ErrCorrupt, r.LSN, r.Kind, r.Block, len(payload))
	}
	if err := reserveSet(payload[:r.Block]).check(); err != nil {
		return fmt.Errorf("LSN %d is a %v: %w", r.LSN, r.Kind, err)
	}
	return nil
}

// noteReservations takes the set of an event that is in the log, or came out of it.
func (v *Volume) noteReservations(r *wal.Record, payload []byte) {
	v.reserves.newest, v.reserves.damaged = slices.Clone(reserveSet(payload[:r.Block])), nil
}

// applyReservations lets the next checkpoint have them.
func (v *Volume) applyReservations(r *wal.Record, payload []byte) {
	v.reserves.home, v.reserves.changed = slices.Clone(reserveSet(payload[:r.Block])), true
}

// freezeReservations gives the number of pages that a checkpoint writes them to.
func (v *Volume) freezeReservations() int {
	if x := &v.reserves; x.changed && len(x.home) > 0 {
		return 1
	}
	return 0
}

// sealReservations lets the commit know of the page that a checkpoint gives up.
func (v *Volume) sealReservations(c *checkpoint) {
	x, p := &v.reserves, &c.page
	if !x.changed {
		return
	}
	x.changed = false
	if !p.Reservations.IsZero() {
		c.commit.unrefer = append(c.commit.unrefer, p.Reservations.Place)
	}
	p.Reservations = Ref{}
}

// writeReservations writes the page to its place, if there is one.
func (v *Volume) writeReservations(c *checkpoint, places []Place) {
	x, p := &v.reserves, &c.page
	if len(places) == 0 {
		return
	}
	if x.page == nil {
		x.page = pageMemory(1)
	}
	h := Header{Pool: v.pool.id, Volume: p.Number, Stamp: StampLSN(p.Checkpoint)}
	p.Reservations = Ref{places[0], EncodeReservations(x.page, x.home, h)}
	c.write(places[0], x.page)
}

// readReservations reads the page that a volume page leads to. Without it the volume is served to who does not ask for them: whom they
// keep out is not known.
func (v *Volume) readReservations() {
	x := &v.reserves
	x.newest, x.damaged = v.pool.readReservations(&v.page, v.pool.pages)
	x.home = x.newest
}

// readReservations reads the reservations of a volume page. It is control work.
func (p *Pool) readReservations(pg *VolumePage, pages uint64) (reserveSet, error) {
	if pg.Reservations.IsZero() {
		return nil, nil
	}
	page := pageMemory(1)
	err := p.disk.read(pg.Reservations.Place, page)
	var b []byte
	if err == nil {
		b, err = DecodeReservations(page, Want{Pool: p.id, Volume: pg.Number, CRC: pg.Reservations.CRC, Pages: pages})
	}
	if err == nil {
		err = reserveSet(b).check()
	}
	if err != nil {
		return nil, fmt.Errorf("its page of reservations: %w", err)
	}
	return reserveSet(b), nil
}
