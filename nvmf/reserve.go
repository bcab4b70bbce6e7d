package nvmf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/reactor"
)

// This file brings the reservation commands from their queues to the state (reservation.go) and the outcome back to every
// reactor. They are seldom and change what many queues may do, so they are control work: a goroutine changes a copy of the state, lets
// the device keep it (reservationkeep.go) or the ptpl file if it is to persist, publishes the view, and only then lets the command be
// answered.

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
	var out reserved
	status := t.changeReservations(s, id, func(n *Namespace, next *reservations) (status Status) {
		switch op {
		case IOReservationRegister:
			out, status = next.register(host, sqe.ReservationAction(), k, sqe.IEKEY(), sqe.CPTPL(), n.keeps())
		case IOReservationAcquire:
			out, status = next.acquire(host, sqe.ReservationAction(), k, sqe.IEKEY(), sqe.RTYPE())
		case IOReservationRelease:
			out, status = next.release(host, sqe.ReservationAction(), k.CRKEY, sqe.IEKEY(), sqe.RTYPE())
		}
		return status
	})
	if !status.OK() {
		return status
	}
	t.notify(s, id, out.notices)
	if op == IOReservationAcquire && sqe.ReservationAction() == RACQAPreemptAbort {
		t.endCommands(s, id, out.ended)
	}
	return StatusSuccess
}

// changeReservations lets f change a namespace's reservations, and returns when what became of them is kept and every reactor knows. The
// target's lock is not held while a device keeps them: that takes reactors, which may wait for the lock.
func (t *Target) changeReservations(s *Subsystem, id NSID, f func(n *Namespace, next *reservations) Status) Status {
	t.mu.Lock()
	n, err := s.namespaceAt(id)
	t.mu.Unlock()
	if err != nil {
		return StatusInvalidNamespace | DNR
	}
	n.changing.Lock()
	defer n.changing.Unlock()
	next := n.reservations.clone()
	if status := f(n, next); !status.OK() {
		return status
	}
	// What persists is on the disk before anybody may rely on it.
	if status, err := n.keep(next); err != nil {
		t.log.Error("a reservation could not be kept", "subsystem", s.o.NQN, "nsid", id, "error", err)
		return status
	}
	t.mu.Lock()
	n.reservations = next
	t.mu.Unlock()
	if err := t.publish(s, false); err != nil {
		return StatusInternal
	}
	return StatusSuccess
}

// notify tells the hosts' controllers, wherever the subsystem is owned.
func (t *Target) notify(s *Subsystem, id NSID, notices []reservationNotice) {
	if len(notices) == 0 {
		return
	}
	_ = t.group.Reactor(s.owner).Call(func() {
		share := t.groups[s.owner].shares[s]
		if share == nil {
			return
		}
		for _, k := range share.sortedControllers() {
			for _, n := range notices {
				if k.host.id == n.host && k.namespace(id) != nil {
					k.reservationNotice(id, n.event)
				}
			}
		}
	})
}

// endCommands ends what preempted hosts still have in flight on the namespace: what can be ended early is, and the rest is waited
// for. "Preempt and Abort" is answered after that.
func (t *Target) endCommands(s *Subsystem, id NSID, hosts []hostID) {
	is := map[hostID]bool{}
	for _, h := range hosts {
		is[h] = true
	}
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
	r := q.sub.view.namespaces[c.sqe.NSID()-1].reservations
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

// keptReservations is the ptpl file: JSON, with a version of its own.
type keptReservations struct {
	Version int       `json:"version"`
	UUID    uuid.UUID `json:"uuid"` // of the namespace
	*reservations
}

const keptVersion = 1

// keep lets the device or the ptpl file keep the state, durably; that file is emptied when the state is not to persist. changing is held.
func (n *Namespace) keep(r *reservations) (Status, error) {
	switch {
	case n.store != nil:
		return n.save(r)
	case n.PTPLFile == "" || !r.PTPL && !n.reservations.PTPL:
		return StatusSuccess, nil
	}
	out := r
	if !r.PTPL {
		out = &reservations{}
	}
	b, err := json.MarshalIndent(keptReservations{keptVersion, n.UUID, out}, "", "  ")
	if err == nil {
		err = replaceFile(n.PTPLFile, b)
	}
	if err != nil {
		return StatusInternal, fmt.Errorf("keeping reservations in %s: %w", n.PTPLFile, err)
	}
	return StatusSuccess, nil
}

// replaceFile gives a file other contents, durably: a crash leaves the old ones or the new ones.
func replaceFile(path string, b []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		var dir *os.File
		if dir, err = os.Open(filepath.Dir(path)); err == nil {
			err = errors.Join(dir.Sync(), dir.Close())
		}
	}
	return err
}

// restore gets what the device or the ptpl file of a namespace has that is being added; none yet is an empty state.
func (t *Target) restore(n *Namespace) error {
	n.reservations = &reservations{}
	if n.store != nil {
		return t.load(n)
	}
	if n.PTPLFile == "" {
		return nil
	}
	b, err := os.ReadFile(n.PTPLFile)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) == 0 {
		return nil
	}
	k := keptReservations{reservations: &reservations{}}
	if err == nil {
		err = json.Unmarshal(b, &k)
	}
	switch {
	case err != nil:
		return fmt.Errorf("reading reservations from %s: %w", n.PTPLFile, err)
	case k.Version != keptVersion:
		return fmt.Errorf("reading reservations from %s: %w: version %d, this build knows %d", n.PTPLFile, ErrInvalid, k.Version, keptVersion)
	case k.UUID != n.UUID:
		return fmt.Errorf("reading reservations from %s: %w: they are of namespace %s, not %s; give this one a file of its own", n.PTPLFile, ErrInvalid, k.UUID, n.UUID)
	}
	n.reservations = k.reservations
	return nil
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
	return t.changeReservations(s, id, func(n *Namespace, next *reservations) Status {
		if on && !n.keeps() {
			return StatusInvalidField | DNR
		}
		next.PTPL = on
		return StatusSuccess
	})
}
