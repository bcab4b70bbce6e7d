package nvmf

import (
	"errors"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/reservation"
	"github.com/pollux-storage/pollux/reactor"
)

// This file brings the reservation commands from their queues to the state (reservation.go) and the outcome back to every
// reactor. They are seldom and change what many queues may do, so they are control work: a goroutine has the device's book (package reservation) change a
// copy of the state, keep it and publish it by all doors (reservationdoor.go), and only then lets the command be answered.

// reserveCommand serves a reservation command whose data is there.
func (q *queue) reserveCommand(c *command) {
	t, s, id, host := q.pg.target, q.sub.sub, c.sqe.NSID(), q.host.id
	sqe, op := c.sqe, IOOpcode(c.sqe.Opcode())
	if op == IOReservationReport {
		q.reservationReport(c)
		return
	}
	keys, _ := DecodeReservationKeys(c.data)
	go func() {
		status := t.reserve(s, id, host, op, &sqe, keys)
		_ = q.r.Go(func() {
			if q.state >= queueClosing {
				q.release(c)
				return
			}
			q.respond(c, status)
		})
	}()
}

// reserve changes a namespace's reservations and returns when every reactor knows.
func (t *Target) reserve(s *Subsystem, id NSID, host hostID, op IOOpcode, sqe *SQE, k ReservationKeys) Status {
	abort := op == IOReservationAcquire && sqe.ReservationAction() == RACQAPreemptAbort
	return t.changeReservations(s, id, abort, func(next reservations, persists bool) (out reservation.Outcome, status Status) {
		switch op {
		case IOReservationRegister:
			out, status = next.register(host, sqe.ReservationAction(), k, sqe.IEKEY(), sqe.CPTPL(), persists)
		case IOReservationAcquire:
			out, status = next.acquire(host, sqe.ReservationAction(), k, sqe.IEKEY(), sqe.RTYPE())
		case IOReservationRelease:
			out, status = next.release(host, sqe.ReservationAction(), k.CRKEY, sqe.IEKEY(), sqe.RTYPE())
		}
		return out, status
	})
}

// changeReservations lets f change a namespace's reservations, and returns when what became of them is kept, every reactor knows and, with abort, what
// preempted hosts had in flight is over. The target's lock is not held while a device keeps them: that takes reactors, which may wait for the lock.
func (t *Target) changeReservations(s *Subsystem, id NSID, abort bool, f func(next reservations, persists bool) (reservation.Outcome, Status)) Status {
	t.mu.Lock()
	n, err := s.namespaceAt(id)
	t.mu.Unlock()
	if err != nil {
		return StatusInvalidNamespace | DNR
	}
	status := StatusInternal
	_, err = n.book.Change(abort, func(next *reservation.State, persists bool) (reservation.Outcome, reservation.Verdict) {
		var out reservation.Outcome
		if out, status = f(reservations{next}, persists); !status.OK() {
			return out, reservation.Conflict
		}
		return out, reservation.OK
	})
	if err == nil {
		return status
	}
	t.log.Error("a reservation could not be changed", "subsystem", s.o.NQN, "nsid", id, "error", err)
	if kept := (*reservation.KeepError)(nil); errors.As(err, &kept) && kept.Status != bdev.StatusOK {
		return StatusOf(kept.Status, bdev.Write)
	}
	return StatusInternal
}

// endCommands ends what preempted hosts still have in flight on the namespace: what can be ended early is, and the rest is waited
// for. "Preempt and Abort" is answered after that.
func (t *Target) endCommands(s *Subsystem, id NSID, is map[hostID]bool) {
	for left := -1; left != 0; {
		left = 0
		_ = t.group.Each(func(r *reactor.Reactor) {
			share := t.groups[r.Index()].shares[s]
			if share == nil {
				return
			}
			for _, q := range share.queues {
				if is[q.host.id] && q.id > 0 {
					left += q.preempt(id)
				}
			}
		})
		if left > 0 {
			time.Sleep(time.Millisecond) // control work: the reactors go on meanwhile
		}
	}
}

// preempt ends the queue's commands on a namespace as preempted, and counts those that have not ended yet.
func (q *queue) preempt(id NSID) int {
	left := 0
	for i := range q.commands {
		c := &q.commands[i]
		if c.ns == nil || c.ns.ns.NSID != id || c.state != commandFetching && c.state != commandExecuting {
			continue
		}
		if c.state == commandExecuting && ioRules[c.sqe.Opcode()].reserve {
			continue // it changes no block, and may be waiting for what waits here
		}
		if !c.preempted {
			c.preempted = true
			q.abort(c)
		}
		if c.state == commandFetching || c.state == commandExecuting {
			left++
		}
	}
	return left
}

// reservationReport gives the registrants of a namespace, as the reactor's view has them.
func (q *queue) reservationReport(c *command) {
	if !c.sqe.EDS() {
		q.respond(c, StatusHostIDInconsistent|DNR) // over fabrics host identifiers have 128 bits
		return
	}
	r := reservations{q.sub.view.namespaces[c.sqe.NSID()-1].reservations}
	t, sub := q.pg.target, q.sub.sub
	go func() {
		ids := map[hostID]CNTLID{}
		_ = t.group.Reactor(sub.owner).Call(func() {
			if share := t.groups[sub.owner].shares[sub]; share != nil {
				for _, k := range share.sortedControllers() {
					ids[k.host.id] = k.id
				}
			}
		})
		page := r.report(func(h hostID) CNTLID {
			if id, ok := ids[h]; ok {
				return id
			}
			return CNTLIDDynamic
		})
		_ = q.r.Go(func() {
			if q.state >= queueClosing {
				q.release(c)
				return
			}
			q.give(c, page, uint32(min(c.sqe.ReportBytes(), uint64(len(page)))))
		})
	}()
}

// reservationNotices is what a controller has to tell of reservations: one log page for each, oldest first.
type reservationNotices struct {
	list []ReservationNotification
	lpc  uint64
	mask []nsValue // feature 82h
}

const reservationNoticesMax = 256

// reservationNotice notes an event, unless the host masked it, and raises the asynchronous event.
func (k *controller) reservationNotice(id NSID, e ReservationEvent) {
	n := &k.notices
	if valueOf(n.mask, id)&e.Mask() != 0 {
		return
	}
	if len(n.list) == reservationNoticesMax {
		n.list = n.list[1:]
	}
	n.lpc++
	if n.lpc == 0 {
		n.lpc = 1 // "Reservation Notification": it wraps to 1, 0 is an empty page
	}
	n.list = append(n.list, ReservationNotification{LPC: n.lpc, Type: e, NSID: id})
	k.events.raise(k, eventReservation)
}

// reservationPage gives the oldest notice. Reading it takes it away.
func (k *controller) reservationPage() []byte {
	n := &k.notices
	if len(n.list) == 0 {
		return ReservationNotification{}.AppendTo(nil)
	}
	p := n.list[0]
	p.NALP = uint8(min(255, len(n.list)-1))
	return p.AppendTo(nil)
}

// setPTPL is feature 83h: whether the state persists. It is the same state as Register's CPTPL sets.
func (t *Target) setPTPL(s *Subsystem, id NSID, on bool) Status {
	return t.changeReservations(s, id, false, func(next reservations, persists bool) (out reservation.Outcome, status Status) {
		if on && !persists {
			return out, StatusInvalidField | DNR
		}
		next.PTPL = on
		return out, StatusSuccess
	})
}
