package rdma

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is a queue pair on a reactor, from its making to its end.
//
//	made ─▶ live ─▶ ending ────▶ draining ─────────▶ flushed ──────▶ gone
//	control  Open   Ended;       the queue pair is   the card has     the queue pair is destroyed:
//	                control      in the error state, nothing of it    what is left, if the card did
//	                fails it     a marker is the     any more         not say, counts as flushed; then
//	                             last that it gets                    Closed, once Close was called
//
// A queue pair in the error state completes all that it was given as flushed, in order (InfiniBand Architecture Specification 1.4, volume 1,
// section 10.3.1, "Queue Pair and EE Context States", "Error State"): what is given to it last, a send of nothing, completes last. With receives
// of its own they are counted. Those of an SRQ that the queue pair had taken come back with their own completions, or with the SRQ's end.
//
// A card that does not flush is waited for as long as patience says. A queue pair that is destroyed touches no memory whatever it had, so that
// is how such a one ends.

// QueueConfig is what a connection is to have.
type QueueConfig struct {
	Movable     bool // completion queue and receives of its own, woken by its channel and not polled: it can go to another reactor
	SendDepth   int  // work requests that may be posted and not completed. Those without Signaled count until a later one has completed.
	RecvDepth   int
	HeaderBytes int // of a receive: its first bytes
	DataBytes   int // what comes behind these, in pages of its own; 0: none
	InlineBytes int // that a send is to carry itself; Queue.InlineBytes says what came of it
	ReadsOut    int // most RDMA READs in flight
	ReadsIn     int // RDMA READs of the peer that are answered at once
	Link        Link
}

// Handler is what a protocol makes of a queue. All is called on the queue's reactor, and may call the queue.
type Handler interface {
	// Received hears of a message. rx is the handler's until q.Release(rx), which may come after Closed.
	Received(rx *Receive)
	// Completed hears of a work request with Signaled, or of any that failed. id is the handler's own.
	Completed(id uint64, s Status)
	// Ended says that the peer or the card has ended the connection, or that something failed. What is in flight completes as StatusFlushed.
	// The handler calls Close, then or later, if it has not: until then the queue, its reactor's part of the card, and Net.Close wait for it.
	Ended(err error)
	// Closed is the last call: nothing of the queue is in flight, and the queue pair is gone.
	Closed()
}

// Opener takes a queue that begins, on its reactor, before anything arrives there. Without a handler the queue ends.
type Opener func(q *Queue) Handler

// Queue is a connection. Its methods are for its reactor, unless they say otherwise.
type Queue struct {
	n   *Net
	c   *card
	cfg QueueConfig
	id  ID
	qp  QP
	qpn uint32

	local, peer netip.AddrPort

	home   atomic.Pointer[reactor.Reactor] // nil while it is detached
	notice atomic.Pointer[error]           // why it is to end, as control knows

	stranded bool // its reactor had stopped when it was made: control ends it

	r      *reactor.Reactor
	lane   *lane // nil of a movable one
	mine   *ownCQ
	post   *poster
	own    *recvSet // nil: the lane's are shared
	slot   uint16
	gen    uint16
	shares bool // some of the lane's receives are there for it
	h      Handler
	state  queueState

	placed  bool // its reactor knows it
	dialled bool // by us
	broken  bool // something failed before the peer has answered
	closed  bool // by the handler
	told    bool // Closed was called
	why     error
	ender   reactor.Deferred
	closer  reactor.Deferred
	drain   reactor.Timer
	drained bool // the marker has come back
	last    bool // it takes nothing more of the SRQ
	early   *Receive
	earlier *Receive // the last of the early ones
	held    int      // receives that the handler has
	let     bool     // control was told that nothing is left

	ring       []sentWR
	tail, head uint32 // of what the card has, or gets in this turn
	waiting    []SendWR
	first      int // of waiting
	waits      int
	reads      int // on the card
	readsMax   int
	inline     int
	late       []uint64 // what was posted after the end
	later      reactor.Deferred
}

type queueState uint8

const (
	queueMade queueState = iota
	queueLive
	queueEnding
	queueDraining
	queueFlushed
	queueGone
)

// sentWR is a work request that the card has.
type sentWR struct {
	id     uint64
	op     Opcode
	flags  SendFlags
	marker bool
	sges   uint8
	sge    [SGEsMax]SGE
}

// Local and Remote are the ends of the connection. Any goroutine may ask.
func (q *Queue) Local() netip.AddrPort { return q.local }

// Remote is the peer's end.
func (q *Queue) Remote() netip.AddrPort { return q.peer }

// Card is what the card of the connection can do. Any goroutine may ask.
func (q *Queue) Card() CardInfo { return q.c.info }

// Reactor is where the queue lives.
func (q *Queue) Reactor() *reactor.Reactor { return q.r }

// InlineBytes is what a send may carry itself.
func (q *Queue) InlineBytes() int { return q.inline }

// ReadsOut is how many RDMA READs may be in flight.
func (q *Queue) ReadsOut() int { return q.readsMax }

// Posted is how many work requests have not completed. SendDepth is the most.
func (q *Queue) Posted() int { return int(q.head-q.tail) + q.waits }

// SGE describes b, which lies in the pool of a reactor of the engine.
func (q *Queue) SGE(b []byte) SGE { return q.c.local.sge(q.r.Index(), b) }

// RemoteKey is the key by which the peer reads and writes b, which lies in the pool of a reactor. Only a queue that was dialled has one.
func (q *Queue) RemoteKey(b []byte) uint32 {
	m := q.c.remote.Load()
	invariant.Check(m != nil, "rdma: a key for a peer that is not given any")
	k, chunk := m.find(q.r.Index(), b)
	invariant.Check(k != nil && k.remote[chunk] != 0, "rdma: memory that is of no reactor's pool, or not registered")
	return k.remote[chunk]
}

// Post takes a work request, which leaves at the end of the turn with all others. w.ID is the handler's own; w.QP is not looked at. Inline data may
// be used again at once, other memory when the request, or a later one with Signaled, has completed. RDMA READs beyond ReadsOut wait here,
// and others pass them; each completes by itself, for the next that waits. What is posted after the end completes as flushed, after all that was
// posted before.
func (q *Queue) Post(w *SendWR) {
	invariant.Check(q.Posted() < q.cfg.SendDepth || q.state > queueLive, "rdma: more work requests than the queue has room for")
	if q.state > queueLive {
		q.late = append(q.late, w.ID)
		if q.state == queueGone && !q.later.Queued() {
			q.r.Defer(&q.later, (*lateRun)(q))
		}
		return
	}
	if w.Opcode == OpRead {
		invariant.Check(q.readsMax > 0 && w.Flags&Signaled != 0, "rdma: an RDMA READ where the peer allows none, or without a completion of its own")
		if q.reads == q.readsMax || q.waits > 0 {
			q.waiting[(q.first+q.waits)%len(q.waiting)] = *w
			q.waits++
			return
		}
	}
	q.begin(w)
}

// lateRun tells of what was posted after the end, when the card has nothing any more: that these complete says so of what was posted before.
type lateRun Queue

func (l *lateRun) Run() {
	q := (*Queue)(l)
	for i := 0; i < len(q.late); i++ {
		if !q.told {
			q.complete(q.late[i], StatusFlushed)
		}
	}
	q.late = q.late[:0]
}

func (q *Queue) begin(w *SendWR) {
	if w.Opcode == OpRead {
		q.reads++
	}
	q.post.add(q, w, q.note(w, false))
}

// note enters a work request into the ring of those that the card has, and gives the ID by which it knows it.
func (q *Queue) note(w *SendWR, marker bool) uint64 {
	e := &q.ring[q.head%uint32(len(q.ring))]
	*e = sentWR{id: w.ID, op: w.Opcode, flags: w.Flags, marker: marker}
	if invariant.Expensive && w.Flags&Inline == 0 {
		e.sge, e.sges = w.SGE, w.SGEs
		q.c.local.hold(e.sge[:e.sges], 1)
	}
	id := q.tag(idSend) | uint64(q.head)
	q.head++
	return id
}

// sent takes the completion of a work request. Those before it that did not complete by themselves were not asked to. The handler is called last:
// it may have the queue go to another reactor.
func (q *Queue) sent(seq uint32, c *Completion) {
	invariant.Check(seq-q.tail < q.head-q.tail, "rdma: completion of a work request that is not in flight")
	for q.tail != seq {
		if e := q.retire(); e.flags&Signaled != 0 && !e.marker { // the card never took it
			q.complete(e.id, StatusFlushed)
		}
	}
	e := q.retire()
	if e.marker {
		q.drained = true
		q.settle()
		return
	}
	for q.waits > 0 && q.reads < q.readsMax && q.state == queueLive {
		w := &q.waiting[q.first]
		q.first = (q.first + 1) % len(q.waiting)
		q.waits--
		q.begin(w)
	}
	if c.Status != StatusOK {
		err := q.fails(e.op.String(), c)
		q.complete(e.id, c.Status)
		q.ends(err)
	} else if e.flags&Signaled != 0 {
		q.complete(e.id, StatusOK)
	}
}

// retire takes the oldest work request out of the ring.
func (q *Queue) retire() sentWR {
	e := q.ring[q.tail%uint32(len(q.ring))]
	q.tail++
	if e.op == OpRead && !e.marker {
		q.reads--
	}
	if invariant.Expensive {
		q.c.local.hold(e.sge[:e.sges], -1)
	}
	return e
}

func (q *Queue) complete(id uint64, s Status) {
	if q.h != nil {
		q.h.Completed(id, s)
	}
}

// fails begins the end of a queue by a work request, and says why; nil if it was ending. Those that are flushed say nothing of why.
func (q *Queue) fails(what string, c *Completion) error {
	switch {
	case q.state > queueLive:
		return nil
	case q.state == queueMade && q.dialled: // a peer that refuses says why, and the connection is kept until that is heard
		q.broken = true
		return nil
	case c.Status != StatusFlushed:
		q.begins(&WorkError{what, c.Status, c.Vendor})
	case q.notice.Load() != nil:
		q.begins(*q.notice.Load())
	default:
		q.begins(ErrDisconnected)
	}
	return q.why
}

// received takes the completion of a receive.
func (q *Queue) received(x *Receive, c *Completion) {
	if c.Status != StatusOK {
		err := q.fails("receive", c)
		x.set.put(x)
		q.settle()
		q.ends(err)
		return
	}
	if q.state > queueLive {
		x.set.put(x)
		q.settle()
		return
	}
	x.arrived(c)
	x.state, x.q = recvHeld, q
	q.holds(x, 1)
	if q.h != nil {
		q.h.Received(x)
		return
	}
	x.next = nil
	if q.early == nil {
		q.early = x
	} else {
		q.earlier.next = x
	}
	q.earlier = x
}

// holds counts a receive that a handler gets, or gives back.
func (q *Queue) holds(x *Receive, by int) {
	x.set.held += by
	q.held += by
	q.post.stats.ReceivesHeld += by
}

// Release gives a receive back. It comes before what lets the peer send again is posted.
func (q *Queue) Release(x *Receive) {
	invariant.Check(x.state == recvHeld && x.q == q, "rdma: a receive released twice, or by another queue")
	q.holds(x, -1)
	x.set.put(x)
	if q.state == queueGone {
		q.leave()
	}
}

// errNoRoom is why a connection is refused that nobody handles.
var errNoRoom = errors.New("whom it is for has no room for it")

// open gives the queue its handler, if there is one, and the handler what came before.
func (q *Queue) open(o Opener) error {
	if q.h = o(q); q.h == nil {
		return errNoRoom
	}
	if q.state == queueMade {
		q.state = queueLive
	}
	for q.early != nil {
		x := q.early
		q.early, x.next = x.next, nil
		q.h.Received(x)
	}
	return nil
}

// Close ends the connection. Closed follows, never inside this call. Closing twice is harmless.
func (q *Queue) Close() {
	if q.closed {
		return
	}
	q.closed = true
	q.end(ErrClosed)
	if q.state == queueGone && !q.closer.Queued() {
		q.r.Defer(&q.closer, (*queueCloser)(q))
	}
}

// endSoon ends the queue later in this turn, or in the next: its caller may be called by the handler.
func (q *Queue) endSoon(err error) {
	if q.state <= queueLive && q.why == nil {
		q.why = err
		q.r.Defer(&q.ender, (*queueEnder)(q))
	}
}

type queueEnder Queue

func (e *queueEnder) Run() {
	q := (*Queue)(e)
	if err := q.why; q.state <= queueLive {
		q.why = nil
		q.end(err)
	}
}

// end ends the queue, and tells the handler.
func (q *Queue) end(err error) {
	if q.state <= queueLive {
		q.begins(err)
		q.ends(err)
	}
}

// begins begins the end: control puts the queue pair into the error state.
func (q *Queue) begins(err error) {
	q.state, q.why = queueEnding, err
	for q.early != nil { // nobody will have them
		x := q.early
		q.early, x.next = x.next, nil
		q.holds(x, -1)
		x.set.put(x)
	}
	go q.n.fail(q)
}

// ends tells the handler that the queue has begun to end, unless it wanted that itself.
func (q *Queue) ends(err error) {
	if err != nil && q.h != nil && !q.closed {
		q.h.Ended(err)
	}
}

// patience is how long a card may take to flush a queue pair, before that is destroyed in any case.
const (
	patienceFlush   = 10 * reactor.Second
	patienceRemoved = 250 * reactor.Millisecond // of a card that goes away, and need not answer
	patienceLast    = 100 * reactor.Millisecond // of one that does not say when it has taken the last receive of an SRQ
)

// draining hears, on the reactor, that the queue pair is in the error state.
func (q *Queue) draining() {
	invariant.Check(q.state == queueEnding, "rdma: a queue pair that has failed twice")
	q.state = queueDraining
	q.post.Run() // all that was posted before the marker goes before it
	grace := reactor.Ticks(patienceFlush)
	if q.c.gone.Load() {
		grace = patienceRemoved
	}
	q.r.SetTimer(&q.drain, q.r.Now()+grace, (*queueGivenUp)(q))
	marker := [1]SendWR{{QP: q.qp, Opcode: OpSend, Flags: Signaled}}
	marker[0].ID = q.note(&marker[0], true)
	n, err := q.c.v.Post(marker[:])
	q.post.stats.PostCalls++
	q.post.stats.Posts += uint64(n)
	if err != nil || n != 1 {
		q.destroy() // a card that takes nothing tells nothing
	}
}

// queueGivenUp is the end of patience.
type queueGivenUp Queue

func (g *queueGivenUp) Run() {
	q := (*Queue)(g)
	if q.state == queueDraining {
		if q.drained {
			q.destroy()
			return
		}
		go q.n.log.Warn("a card did not flush a queue pair: it is destroyed as it is", "card", q.c.info.Name, "peer", q.peer)
		q.destroy()
	}
}

// settle destroys a queue pair of which the card has nothing any more.
func (q *Queue) settle() {
	switch {
	case q.state != queueDraining || !q.drained:
	case q.own != nil && q.own.card > 0:
	case q.own == nil && !q.last:
		q.r.SetTimer(&q.drain, min(q.drain.At(), q.r.Now()+patienceLast), (*queueGivenUp)(q))
	default:
		q.destroy()
	}
}

// lastReceive hears that the queue pair takes nothing more of the SRQ. What it took has completed by now.
func (q *Queue) lastReceive() {
	if q.last || q.own != nil {
		return
	}
	q.last = true
	q.settle()
}

// hurry shortens the wait for a card that goes away. It runs on a reactor, which may no longer be the queue's: then who ends it there looks.
func (q *Queue) hurry(r *reactor.Reactor) {
	if q.home.Load() == r && q.state == queueDraining {
		q.r.SetTimer(&q.drain, min(q.drain.At(), q.r.Now()+patienceRemoved), (*queueGivenUp)(q))
	}
}

func (q *Queue) destroy() {
	q.state = queueFlushed
	q.r.StopTimer(&q.drain)
	if q.mine != nil {
		q.mine.close() // and then it is destroyed
		return
	}
	q.r.Defer(&q.later, (*queuePolled)(q))
}

// queuePolled polls what has completed before a queue pair is destroyed. Some cards take completions away with it, and receives of an SRQ that were
// among them would not be given to the card again.
type queuePolled Queue

func (p *queuePolled) Run() {
	q := (*Queue)(p)
	for q.lane.poll() == pollBudget {
	}
	go q.n.destroy(q)
}

// gone hears, on the reactor, that there is no queue pair any more.
func (q *Queue) gone() {
	for q.tail != q.head { // a card that did not flush
		if e := q.retire(); !e.marker {
			q.complete(e.id, StatusFlushed)
		}
	}
	for ; q.waits > 0; q.waits-- {
		q.complete(q.waiting[q.first].ID, StatusFlushed)
		q.first = (q.first + 1) % len(q.waiting)
	}
	(*lateRun)(q).Run()
	q.state = queueGone
	if q.lane != nil {
		q.lane.remove(q)
	}
	if q.own != nil {
		q.own.lost()
	}
	if q.h == nil {
		q.closed = true
	}
	if q.closed {
		q.tell()
	}
}

type queueCloser Queue

func (c *queueCloser) Run() { (*Queue)(c).tell() }

// tell says that it is over.
func (q *Queue) tell() {
	if q.told {
		return
	}
	if q.later.Queued() { // what was posted late is told first
		if !q.closer.Queued() {
			q.r.Defer(&q.closer, (*queueCloser)(q))
		}
		return
	}
	q.told = true
	if q.h != nil {
		q.h.Closed()
	}
	q.leave()
}

// leave lets control take apart what is left, when the handler has nothing of it any more.
func (q *Queue) leave() {
	if q.told && q.held == 0 && !q.let {
		q.let = true
		if q.own != nil {
			q.own.free()
		}
		go q.n.leave(q)
	}
}

// noticed ends the queue for a reason that control knows. It runs on a reactor, which may no longer be the queue's, or not know it yet: then who takes
// it over looks.
func (q *Queue) noticed(r *reactor.Reactor) {
	if q.placed && q.home.Load() == r && q.state <= queueLive {
		q.end(*q.notice.Load())
	}
}

// place makes the queue known on its reactor.
func (q *Queue) place() {
	if q.lane != nil {
		q.lane.add(q)
	}
	if q.mine != nil {
		q.mine.begin(q)
	}
	q.placed = true
	if why := q.notice.Load(); why != nil { // it was to end before: without a place its completions would be another's
		q.end(*why)
	}
}

// attach gives the queue its receives. If that fails it has to be ended.
func (q *Queue) attach() error {
	set, id := q.own, uint64(idShared)
	if set == nil {
		set = q.lane.shared
	} else {
		id = q.tag(idRecv)
	}
	if err := set.join(q.cfg.RecvDepth, id); err != nil {
		return err
	}
	q.shares = q.own == nil
	return nil
}

// String names the queue pair. Any goroutine may ask.
func (q *Queue) String() string { return fmt.Sprintf("queue pair %d of %s", q.qpn, q.c.info.Name) }
