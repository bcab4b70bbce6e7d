package rdma

import (
	"fmt"
	"net/netip"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is a queue that may go from one reactor to another: its completion queue is its own and is not polled, and so is the memory that it
// receives into. Where it leaves it comes to rest first; the card keeps what arrives in between.

// ownCQ is the completion queue of a movable queue, on one reactor.
type ownCQ struct {
	q     *Queue
	cq    CQ
	watch *watch
	again reactor.Deferred // there may be more
	left  bool             // the queue is no longer here: it must not be touched
	comp  [1]Completion    // one at a time: the handler may let the queue go
}

// begin looks after the completions, on the queue's reactor.
func (o *ownCQ) begin(q *Queue) {
	o.watch = &watch{r: q.r, v: q.c.v, cq: o.cq, stats: &q.post.stats, to: o}
	o.watch.begin()
	q.r.Defer(&o.again, o)
}

func (o *ownCQ) close() { o.watch.close() }

func (o *ownCQ) woken() {
	if !o.again.Queued() {
		o.q.r.Defer(&o.again, o)
	}
}

// unwatched hears that nothing happens here any more.
func (o *ownCQ) unwatched() { go o.q.n.destroy(o.q) }

// Run takes completions, and asks to hear of the next.
func (o *ownCQ) Run() {
	if o.left || o.q.state >= queueFlushed || o.poll() {
		return
	}
	if err := o.watch.arm(); err != nil {
		o.q.end(err)
		return
	}
	o.poll()
}

// poll takes what is there and reports whether there may be more: then Run comes again.
func (o *ownCQ) poll() bool {
	q := o.q
	n, err := q.c.v.Poll(o.cq, o.comp[:])
	s := &q.post.stats
	s.Polls++
	if n == 0 {
		s.PollsEmpty++
	}
	s.Completions += uint64(n)
	if err != nil {
		q.endSoon(fmt.Errorf("polling %s: %w", q.c.info.Name, err))
	}
	if n == 0 {
		return false
	}
	o.woken()
	switch c := &o.comp[0]; c.ID & idKind {
	case idRecv:
		q.received(q.own.back(uint32(c.ID)), c)
	case idSend:
		q.sent(uint32(c.ID), c)
	default:
		invariant.Check(false, "rdma: completion of something that was never posted")
	}
	return true
}

// Detached is a movable queue between two reactors.
type Detached struct{ q *Queue }

// Detach takes a movable queue off its reactor. Nothing that was posted may be in flight; receives may be held. It is nil if the queue is
// ending: its handler hears the rest as usual, and else nothing any more.
func (q *Queue) Detach() *Detached {
	invariant.Check(q.mine != nil, "rdma: detaching a queue that is not movable")
	if q.state != queueLive || q.closed || q.ender.Queued() {
		return nil
	}
	invariant.Check(q.Posted() == 0, "rdma: detaching a queue that is not at rest")
	q.post.Run() // its receives
	if q.ender.Queued() {
		return nil
	}
	o := q.mine
	fresh := &ownCQ{q: q, cq: o.cq}
	o.left = true
	o.watch.to = nobody{} // it ends by itself
	o.watch.close()
	q.mine = fresh
	q.h = nil
	q.carry(-1)
	q.home.Store(nil)
	return &Detached{q}
}

// carry moves what is counted of the queue's receives from or to its reactor.
func (q *Queue) carry(by int) {
	q.post.stats.Receives += by * q.own.card
	q.post.stats.ReceivesHeld += by * q.own.held
}

// nobody listens to the watch that a queue left behind.
type nobody struct{}

func (nobody) woken()     {}
func (nobody) unwatched() {}

// Attach gives the queue to a reactor, on which it runs, and a handler there. One that was to end meanwhile ends later in this turn.
func (d *Detached) Attach(r *reactor.Reactor, open Opener) *Queue {
	q := d.q
	q.r, q.post = r, q.c.posters[r.Index()]
	q.own.p = q.post
	q.carry(1)
	q.home.Store(r)
	q.mine.begin(q)
	if err := q.open(open); err != nil {
		q.endSoon(err)
	} else if why := q.notice.Load(); why != nil {
		q.endSoon(*why)
	}
	return q
}

// Close ends a queue that goes nowhere. Any goroutine may call it. Receives that are held are given back by it.
func (d *Detached) Close() { go d.q.n.abandon(d.q) }

// Local and Remote are the ends of the connection.
func (d *Detached) Local() netip.AddrPort { return d.q.local }

// Remote is the peer's end.
func (d *Detached) Remote() netip.AddrPort { return d.q.peer }
