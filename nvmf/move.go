package nvmf

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the move of an I/O queue from one reactor to another while its host uses it. The host sees a pause.
//
//	the owner of the subsystem     where the queue is               where it goes
//	asked ───────────────────────▶ begins no command any more
//	                               those that had begun end; what the host sends for them is read, and
//	                               what comes in between is kept as it came
//	decides ◀──────────────────────rested: nothing is in flight
//	going ───────────────────────▶ gives the connection up ───────▶ arriving: goes on with it, and first
//	                                                                with what was kept
//	ended ◀───────────────────────────────────────────────────────┘
//
// A move that does not come to rest in its time is given up: the queue goes on where it is, first with what it kept, and the
// owner hears that too. So does it if the queue closes. Every move ends once.
//
// Invariants
//   - A command begins once and is answered where it began: none is in flight when the connection is given up.
//   - Nothing is lost or reordered: what was read and not begun is the first that is read afterwards, byte for byte.
//   - Messages for the queue find it: from going to ended the owner sends it none; Aborts and its end wait until then. Before, the
//     queue is where it was, after that where it went.
//   - Either reactor touches the queue's link only while the queue is there; the message that hands it over is what orders them.
//
// The Admin queue does not move: it is where the controller is. A queue whose host is proving itself moves when that is over.

// Why a move did not come about.
var (
	ErrMoveTime  = errors.New("its commands did not end in time")
	errMoveGone  = errors.New("the queue closes")
	errMoveKept  = errors.New("its host sent too much meanwhile")
	errMoveDrain = errors.New("the target is being drained")
	errMoveAuth  = errors.New("its host is authenticating itself")
	errMoveFixed = fmt.Errorf("a connection over RDMA stays on the reactor that it was made on: %w", ErrInvalid)
)

// MoveTime is how long a queue may take to come to rest where nothing else is said.
const MoveTime = time.Second

type moveStep uint8

const (
	moveAsked moveStep = iota
	moveRested
	moveGoing
	moveStaying
	moveArriving
	moveEnded
)

// queueMove is one move. It belongs to whoever it was sent to.
type queueMove struct {
	l        *queueLink
	sub      *Subsystem
	from, to *reactor.Reactor
	limit    reactor.Ticks
	step     moveStep
	err      error // why it does not come about
	done     func(error)

	timer reactor.Timer // where the queue is: gives up

	// What goes along, beside the link.
	origin  origin
	entries uint32
	sqhd    uint16
	noFlow  bool
	auth    *AuthTarget // nil if there was none
	port    *portal
}

// beginMove begins a move of one of the controller's queues, on the owner. done hears how it ended, there.
func (k *controller) beginMove(qid QID, to *reactor.Reactor, limit reactor.Ticks, done func(error)) {
	l := k.queues[qid]
	switch {
	case l == nil:
		done(fmt.Errorf("controller %d has no I/O queue %d: %w", k.id, qid, ErrNotFound))
	case l.move != nil:
		done(fmt.Errorf("it is moving already: %w", ErrInUse))
	case l.end.sent || k.closing || k.disabled:
		done(errMoveGone)
	case l.home == to:
		done(nil)
	case l.fixed:
		done(errMoveFixed)
	default:
		m := &queueMove{l: l, sub: k.share.sub, from: l.home, to: to, limit: limit, done: done}
		l.move = m
		k.share.pg.r.Send(m.from, m)
	}
}

// Receive takes the next step.
func (m *queueMove) Receive(r *reactor.Reactor) {
	pg := m.sub.target.groups[r.Index()]
	switch m.step {
	case moveAsked:
		m.begin(pg)
	case moveRested:
		m.decide(pg)
	case moveGoing, moveStaying:
		q := m.l.q
		if q == nil || q.move != m { // it closed while the owner decided
			m.end(pg, errMoveGone)
			return
		}
		if m.step == moveStaying {
			m.err = errMoveGone
			q.rested = false
			q.t.rest()
			return
		}
		m.depart(q)
	case moveArriving:
		m.arrive(pg)
	case moveEnded:
		m.finish(pg)
	}
}

// begin brings the queue to rest.
func (m *queueMove) begin(pg *pollGroup) {
	q := m.l.q
	switch {
	case q == nil || q.state != queueLive:
		m.end(pg, errMoveGone)
	case pg.target.draining.Load():
		m.end(pg, errMoveDrain)
	case q.auth != nil && !q.auth.machine.idle():
		m.end(pg, errMoveAuth)
	default:
		q.move, q.rested = m, false
		pg.r.SetTimer(&m.timer, pg.r.Now()+m.limit, m)
		q.t.rest()
	}
}

// Run gives the move up, its time being over. The transport takes the queue back when it can.
func (m *queueMove) Run() {
	m.err = ErrMoveTime
	m.l.q.t.rest()
}

// atRest reports whether no command of the queue is open.
func (q *queue) atRest() bool { return q.slots == uint32(len(q.commands)) }

// tellRest tells the owner that nothing is in flight.
func (q *queue) tellRest() {
	m := q.move
	q.rested = true
	q.r.StopTimer(&m.timer)
	m.step = moveRested
	q.r.Send(m.l.owner, m)
}

// endMove ends a move that does not come about, at the queue: it goes on here.
func (q *queue) endMove() {
	m := q.move
	q.move, q.rested = nil, false
	q.r.StopTimer(&m.timer)
	m.end(q.pg, m.err)
}

// dropMove lets go of the move of a queue that closes. Who was told that it rests hears when the owner has decided.
func (q *queue) dropMove() {
	if q.rested {
		q.move, q.rested = nil, false
		return
	}
	q.move.err = errMoveGone
	q.endMove()
}

// decide lets the queue go, on the owner, unless it is to end.
func (m *queueMove) decide(pg *pollGroup) {
	m.step = moveGoing
	if k := m.l.k; k == nil || k.closing || k.disabled || m.l.end.sent || pg.target.stopping.Load() || pg.target.draining.Load() {
		m.step = moveStaying
	}
	m.l.going = m.step == moveGoing
	pg.r.Send(m.from, m)
}

// depart sends the queue on.
func (m *queueMove) depart(q *queue) {
	r, pg := q.r, q.pg
	m.entries, m.sqhd, m.noFlow, m.port = q.entries, q.sqhd, q.noFlow, q.port
	if q.auth != nil {
		m.auth = q.auth.machine
		invariant.Check(m.auth.idle() && !q.auth.timer.Set(), "nvmf: a queue moves in the middle of an authentication")
		q.auth = nil
	}
	q.move, q.rested = nil, false
	q.link, m.l.q = nil, nil
	m.step = moveArriving
	pg.target.departed.Add(1)
	m.origin = q.t.detach()
	pg.movedOut++
	r.Send(m.to, m)
}

// arrive makes the queue anew where it goes.
func (m *queueMove) arrive(pg *pollGroup) {
	defer pg.target.arrived.Add(1)
	l, share := m.l, pg.shares[m.sub]
	if pg.stopping || share == nil {
		m.origin.close(pg)
		pg.send(l.owner, &l.gone)
		m.end(pg, errMoveGone)
		return
	}
	q := m.origin.open(pg, l.qid, m.entries)
	q.link, l.q = l, q
	share.attach(q, l.host, m.port)
	q.state, q.sqhd, q.noFlow = queueLive, m.sqhd, m.noFlow
	if m.auth != nil {
		q.auth = &queueAuth{q: q, machine: m.auth}
	}
	pg.movedIn++
	q.t.resume()
	m.end(pg, nil)
}

// end tells the owner how it ended.
func (m *queueMove) end(pg *pollGroup, err error) {
	m.step, m.err = moveEnded, err
	pg.r.Send(m.l.owner, m)
}

// finish hears the end, on the owner, and sends the queue what waited for that.
func (m *queueMove) finish(pg *pollGroup) {
	l := m.l
	waited := l.going
	l.move, l.going = nil, false
	if m.err == nil {
		if l.k != nil {
			pg.target.placed[l.home.Index()].Add(-1)
			pg.target.placed[m.to.Index()].Add(1)
		}
		l.home = m.to
	}
	for _, a := range l.aborts {
		pg.send(l.home, a)
	}
	l.aborts = nil
	if waited && l.end.sent {
		pg.send(l.home, &l.end)
	}
	m.done(m.err)
}

// sendEnd tells the queue to close, as soon as it is known where it is.
func (l *queueLink) sendEnd(pg *pollGroup) {
	if l.end.sent {
		return
	}
	l.end.sent = true
	if !l.going {
		pg.send(l.home, &l.end)
	}
}

// sendAbort sends an Abort to the queue, as soon as it is known where it is.
func (l *queueLink) sendAbort(pg *pollGroup, a *abortMessage) {
	if l.going {
		l.aborts = append(l.aborts, a)
		return
	}
	pg.send(l.home, a)
}

// moveGrace is how much longer than its limit a move is waited for.
const moveGrace = 2 * time.Second

// MoveQueue moves an I/O queue to another reactor, and returns when it is there or stays where it was. limit bounds how long its commands
// in flight may take to end; the move is given up after that. A host that stops in the middle of a PDU holds its queue where it is beyond that: then
// the move ends by itself when the host goes on or goes, and the caller does not wait for it.
func (t *Target) MoveQueue(ctx context.Context, nqn string, id CNTLID, qid QID, to int, limit time.Duration) error {
	fail := func(err error) error {
		return fmt.Errorf("moving queue %d of controller %d of subsystem %s to reactor %d: %w", qid, id, nqn, to, err)
	}
	t.mu.Lock()
	s, err := t.find(nqn)
	t.mu.Unlock()
	if err != nil {
		return fail(err)
	}
	if to < 0 || to >= t.group.Len() {
		return fail(fmt.Errorf("there are reactors 0 to %d: %w", t.group.Len()-1, ErrInvalid))
	}
	if qid == 0 {
		return fail(fmt.Errorf("the Admin queue stays with its controller: %w", ErrInvalid))
	}
	ctx, cancel := context.WithTimeout(ctx, limit+moveGrace)
	defer cancel()
	ended := make(chan error, 1)
	err = t.group.Reactor(s.owner).Call(func() {
		share := t.groups[s.owner].shares[s]
		if share == nil || share.controllers[id] == nil {
			ended <- fmt.Errorf("the controller: %w", ErrNotFound)
			return
		}
		share.controllers[id].beginMove(qid, t.group.Reactor(to), reactor.Ticks(limit), func(err error) { ended <- err })
	})
	if err != nil {
		return fail(err)
	}
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = fmt.Errorf("it goes on, and its end was not waited for: %w", ctx.Err())
	}
	if err != nil {
		return fail(err)
	}
	return nil
}
