package rdma

import (
	"errors"
	"fmt"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is a card on a reactor: the completion queue of its queue pairs, which the reactor polls, and their shared receives. Control makes
// it for the first queue and takes it apart after the last.

const (
	cqDepthMax   = 1 << 16 // completions that a lane has room for, if the card does
	srqDepthMax  = 4096    // receives that its queues share, unless Net.Share says otherwise
	pollBudget   = 64      // completions that one turn takes
	slotsMax     = 1 << 16
	generations  = 1 << 14
	slotShift    = 32
	genShift     = 48
	kindShift    = 62
	cqDepthOfOwn = 16 // room beside what was asked for
)

// IDs of work requests, as the card gives them back: it says what completed, and of which queue, where the card says nothing else.
//
//	63 62   61 … 48      47 … 32   31 … 0
//	kind    generation   slot      place in the queue's ring, or among the receives
const (
	idSend   = 0
	idRecv   = 1 << kindShift // of a queue's own receives
	idShared = 2 << kindShift // of the lane's: the queue is known by its number
	idKind   = 3 << kindShift
)

func (q *Queue) tag(kind uint64) uint64 {
	return kind | uint64(q.gen)<<genShift | uint64(q.slot)<<slotShift
}

// lane is a card on a reactor.
type lane struct {
	c     *card
	r     *reactor.Reactor
	post  *poster
	cq    CQ
	depth int

	// Of control, under card.mu.
	used int // completions that its queue pairs may have at once
	refs int // queues

	srq    SRQ
	shared *recvSet // nil without SRQ

	slots []*Queue
	gens  []uint16
	free  []uint16
	byQPN map[uint32]*Queue
	comps [pollBudget]Completion
	watch *watch
	ended chan struct{} // closed when the channel is watched no more
	live  int
}

// newLane makes a lane, with the receives of its first queue in mind. It is for control goroutines, with card.mu held.
func newLane(c *card, r *reactor.Reactor, q *QueueConfig) (*lane, error) {
	l := &lane{c: c, r: r, post: c.posters[r.Index()], byQPN: map[uint32]*Queue{}, ended: make(chan struct{})}
	l.depth = min(c.info.CQDepthMax, cqDepthMax)
	var err error
	if l.cq, err = c.v.CreateCQ(l.depth); err != nil {
		return nil, fmt.Errorf("making a completion queue of %d entries on %s: %w", l.depth, c.info.Name, err)
	}
	if depth := min(c.info.SRQDepth, int(c.n.shared.Load()), l.depth/2); depth > 0 {
		if l.srq, err = c.v.CreateSRQ(depth, SGEsMax); err == nil {
			l.shared = &recvSet{c: c, p: l.post, lane: l, srq: l.srq, headerBytes: q.HeaderBytes, dataBytes: q.DataBytes, max: depth, memory: r.Memory()}
			l.used = depth
		} else {
			c.n.log.Warn("a card makes no shared receive queue: each queue has receives of its own", "card", c.info.Name, "depth", depth, "error", err.Error())
		}
	}
	l.watch = &watch{r: r, v: c.v, cq: l.cq, stats: &l.post.stats, to: l}
	err = r.Call(func() {
		l.watch.begin()
		err = r.AddPoller("rdma "+c.info.Name, l, reactor.Wake{Arm: l.arm})
		invariant.Check(err == nil, "rdma: a lane's poller was refused")
	})
	if err != nil {
		if l.srq != 0 {
			err = errors.Join(err, c.v.DestroySRQ(l.srq))
		}
		return nil, fmt.Errorf("using %s on reactor %d: %w", c.info.Name, r.Index(), errors.Join(err, c.v.DestroyCQ(l.cq)))
	}
	return l, nil
}

// close takes the lane apart. It is for control goroutines, with card.mu held; nothing uses the lane any more.
func (l *lane) close() (failed []error) {
	err := l.r.Call(func() {
		l.r.RemovePoller(l)
		l.watch.close()
	})
	if err == nil {
		<-l.ended
	}
	failed = append(failed, err)
	if l.srq != 0 {
		failed = append(failed, l.c.v.DestroySRQ(l.srq))
	}
	failed = append(failed, l.c.v.DestroyCQ(l.cq))
	if l.shared != nil {
		failed = append(failed, l.r.Call(l.shared.free))
	}
	return failed
}

// woken hears that there may be completions: the poller, which comes later in this turn, takes them.
func (l *lane) woken() {}

// unwatched hears that the channel's descriptor is not used any more.
func (l *lane) unwatched() { close(l.ended) }

// add gives q a slot.
func (l *lane) add(q *Queue) {
	if n := len(l.free); n > 0 {
		q.slot = l.free[n-1]
		l.free = l.free[:n-1]
	} else {
		invariant.Check(len(l.slots) < slotsMax, "rdma: more queues than a completion queue has room for")
		q.slot = uint16(len(l.slots))
		l.slots = append(l.slots, nil)
		l.gens = append(l.gens, 0)
	}
	q.gen = l.gens[q.slot]
	l.slots[q.slot] = q
	l.byQPN[q.qpn] = q
	l.live++
}

// remove takes it back. What still comes for the queue finds nobody.
func (l *lane) remove(q *Queue) {
	l.slots[q.slot] = nil
	l.gens[q.slot] = (l.gens[q.slot] + 1) % generations
	l.free = append(l.free, q.slot)
	if l.byQPN[q.qpn] == q {
		delete(l.byQPN, q.qpn)
	}
	if q.shares {
		l.shared.wanted -= q.cfg.RecvDepth
	}
	l.live--
}

// Poll takes completions.
func (l *lane) Poll(reactor.Ticks) int { return l.poll() }

func (l *lane) poll() int {
	n, err := l.c.v.Poll(l.cq, l.comps[:])
	s := &l.post.stats
	s.Polls++
	if n == 0 {
		s.PollsEmpty++
	}
	s.Completions += uint64(n)
	for i := range l.comps[:n] {
		l.take(&l.comps[i])
	}
	if err != nil {
		l.broken(err)
	}
	return n
}

func (l *lane) take(c *Completion) {
	switch c.ID & idKind {
	case idShared:
		x := l.shared.back(uint32(c.ID))
		if q := l.byQPN[c.QPN]; q != nil {
			q.received(x, c)
		} else {
			l.shared.put(x)
		}
	case idRecv:
		if q := l.find(c.ID); q != nil {
			q.received(q.own.back(uint32(c.ID)), c)
		}
	case idSend:
		if q := l.find(c.ID); q != nil {
			q.sent(uint32(c.ID), c)
		}
	default:
		invariant.Check(false, "rdma: completion of something that was never posted")
	}
}

// find gives the queue that an ID is of, nil if it is gone.
func (l *lane) find(id uint64) *Queue {
	slot := int(id >> slotShift & (slotsMax - 1))
	invariant.Check(slot < len(l.slots), "rdma: completion of a queue that never was")
	q := l.slots[slot]
	if q == nil || uint64(q.gen) != id>>genShift&(generations-1) {
		return nil
	}
	return q
}

// broken ends all queues of a completion queue that cannot be polled.
func (l *lane) broken(err error) {
	for _, q := range l.slots {
		if q != nil && q.state <= queueLive {
			q.end(fmt.Errorf("polling %s: %w", l.c.info.Name, err))
		}
	}
}

// arm lets the next completion wake the reactor, and looks once more.
func (l *lane) arm() bool {
	if l.live == 0 {
		return false
	}
	if err := l.watch.arm(); err != nil {
		l.broken(err)
		return true
	}
	return l.poll() > 0
}
