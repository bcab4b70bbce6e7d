package rdma

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is a card as control sees it: what is made on it, and the making and taking apart, which happen one after the other.

type card struct {
	n       *Net
	v       Verbs
	info    CardInfo
	posters []*poster   // by reactor
	gone    atomic.Bool // it was removed, or has failed

	local  *cardMemory                // made with the first queue
	remote atomic.Pointer[cardMemory] // made when somebody dials; the same as local if that was first

	mu    sync.Mutex // held while something is made or taken apart, which may call reactors
	lanes []*lane    // by reactor; with mu held

	queues map[*Queue]struct{} // under Net.mu
}

func newCard(n *Net, v Verbs) *card {
	c := &card{n: n, v: v, info: v.Info(), queues: map[*Queue]struct{}{}, lanes: make([]*lane, n.group.Len())}
	for _, r := range n.group.Reactors() {
		c.posters = append(c.posters, newPoster(c, r))
	}
	return c
}

// clip fits a configuration to the card.
func (c *card) clip(q QueueConfig) (QueueConfig, error) {
	q.ReadsOut = min(q.ReadsOut, c.info.ReadsOut, 255)
	q.ReadsIn = min(q.ReadsIn, c.info.ReadsIn, 255)
	q.InlineBytes = min(q.InlineBytes, c.info.InlineMax, inlineBytes)
	switch {
	case q.SendDepth < 1 || q.RecvDepth < 1 || q.HeaderBytes < 1 || q.HeaderBytes > reactor.PageBytes || q.DataBytes < 0 || q.DataBytes > reactor.BufferMax:
		return q, fmt.Errorf("a queue of %d work requests and %d receives of %d and %d bytes: no such queue can be", q.SendDepth, q.RecvDepth, q.HeaderBytes, q.DataBytes)
	case q.SendDepth+1 > c.info.QPDepthMax || q.RecvDepth > c.info.QPDepthMax:
		return q, fmt.Errorf("%w: %s has queue pairs of %d work requests at most, %d and %d are asked for", ErrNoRoom, c.info.Name, c.info.QPDepthMax-1, q.SendDepth, q.RecvDepth)
	}
	return q, nil
}

// memory makes the keys of the reactors' pools, if there are none yet. All that is registered counts as locked memory, each time that it is: a Net that
// dials first needs one set for both.
func (c *card) memory(dials bool) error {
	if dials && c.remote.Load() == nil {
		m, err := openMemory(c.v, c.n.group, RemoteRead|RemoteWrite)
		if err != nil {
			return err
		}
		c.remote.Store(m)
		if c.local == nil {
			c.local = m
		}
	}
	if c.local == nil {
		m, err := openMemory(c.v, c.n.group, 0)
		if err != nil {
			return err
		}
		c.local = m
	}
	return nil
}

// make makes the queue pair of a connection, and a lane for it if there is none.
func (c *card) make(id ID, cfg QueueConfig, r *reactor.Reactor, dials bool) (q *Queue, err error) {
	if cfg, err = c.clip(cfg); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone.Load() {
		return nil, ErrRemoved
	}
	if err := c.memory(dials); err != nil {
		return nil, err
	}
	q = &Queue{n: c.n, c: c, cfg: cfg, id: id, r: r, post: c.posters[r.Index()], dialled: dials, readsMax: cfg.ReadsOut, inline: cfg.InlineBytes,
		ring: make([]sentWR, ringSize(cfg.SendDepth)), late: make([]uint64, 0, cfg.SendDepth)}
	if cfg.ReadsOut > 0 {
		q.waiting = make([]SendWR, cfg.SendDepth)
	}
	q.home.Store(r)
	w := QPConfig{SendDepth: cfg.SendDepth + 1, RecvDepth: cfg.RecvDepth, SGEs: SGEsMax, InlineBytes: cfg.InlineBytes}
	var undo func()
	if cfg.Movable {
		w.Send, err = c.v.CreateCQ(cfg.SendDepth + cfg.RecvDepth + cqDepthOfOwn)
		if err != nil {
			return nil, fmt.Errorf("making a completion queue on %s: %w", c.info.Name, err)
		}
		q.mine = &ownCQ{q: q, cq: w.Send}
		undo = func() { _ = c.v.DestroyCQ(w.Send) }
	} else {
		if q.lane, err = c.lane(r, &cfg); err != nil {
			return nil, err
		}
		undo = func() { c.unref(q.lane, 0) }
		w.Send = q.lane.cq
		if s := q.lane.shared; s != nil && s.headerBytes == cfg.HeaderBytes && s.dataBytes == cfg.DataBytes {
			w.Shared = s.srq
		}
		need := q.completions(w.Shared != 0)
		if q.lane.used+need > q.lane.depth {
			undo()
			return nil, fmt.Errorf("%w: the completion queue of %s on reactor %d has room for %d, of which %d are taken, and the queue needs %d",
				ErrNoRoom, c.info.Name, r.Index(), q.lane.depth, q.lane.used, need)
		}
	}
	if w.Shared == 0 {
		q.own = &recvSet{c: c, p: q.post, q: q, headerBytes: cfg.HeaderBytes, dataBytes: cfg.DataBytes, max: cfg.RecvDepth}
		if !cfg.Movable {
			q.own.memory = r.Memory()
		}
	}
	w.Recv = w.Send
	var caps QPCaps
	if q.qp, caps, err = c.v.CreateQP(id, w); err != nil {
		undo()
		return nil, fmt.Errorf("making a queue pair on %s: %w", c.info.Name, err)
	}
	q.qpn = caps.Number
	if q.lane != nil {
		q.lane.used += q.completions(q.own == nil)
	}
	return q, nil
}

// ringSize is a power of two with room for depth work requests and the marker, so that places follow from a counter that wraps.
func ringSize(depth int) int {
	n := 2
	for n < depth+1 {
		n *= 2
	}
	return n
}

// completions is how many the queue may cause before one is polled. Shared receives were counted when the lane was made.
func (q *Queue) completions(shared bool) int {
	n := q.cfg.SendDepth + 1
	if !shared {
		n += q.cfg.RecvDepth
	}
	return n
}

// lane gives the card's lane on a reactor, with one more who uses it.
func (c *card) lane(r *reactor.Reactor, cfg *QueueConfig) (*lane, error) {
	l := c.lanes[r.Index()]
	if l == nil {
		var err error
		if l, err = newLane(c, r, cfg); err != nil {
			return nil, err
		}
		c.lanes[r.Index()] = l
	}
	l.refs++
	return l, nil
}

// unref says that one fewer uses the lane, who may have caused so many completions.
func (c *card) unref(l *lane, completions int) {
	l.used -= completions
	if l.refs--; l.refs > 0 {
		return
	}
	c.lanes[l.r.Index()] = nil
	c.n.complain(c, "taking a completion queue apart", l.close()...)
}

// close gives back what is left of a card without queues.
func (c *card) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	remote := c.remote.Swap(nil)
	if c.local != nil {
		c.n.complain(c, "deregistering memory", c.local.close())
	}
	if remote != nil && remote != c.local {
		c.n.complain(c, "deregistering memory", remote.close())
	}
	c.local = nil
}

// complain logs what did not work and cannot be helped.
func (n *Net) complain(c *card, what string, errs ...error) {
	if err := errors.Join(errs...); err != nil {
		n.log.Warn("a card did not do what it was asked", "card", c.info.Name, "while", what, "error", err.Error())
	}
}

// listen hears what the card tells outside of completions, until it has nothing more to say.
func (c *card) listen() {
	for {
		e, err := c.v.NextEvent()
		if err != nil {
			return
		}
		c.event(e)
	}
}

func (c *card) event(e CardEvent) {
	n := c.n
	switch e.Kind {
	case CardPortUp:
		n.log.Info("a card's port is up", "card", c.info.Name, "port", e.Port)
	case CardPortDown:
		n.log.Warn("a card's port is down: connections over it end if it stays so", "card", c.info.Name, "port", e.Port)
	case CardFatal:
		n.log.Error("a card has failed: its connections end", "card", c.info.Name)
		n.lose(c, fmt.Errorf("%s has failed: %w", c.info.Name, ErrRemoved))
	case CardCQFatal, CardSRQFatal:
		n.log.Error("a completion queue or a shared receive queue of a card has failed: its connections end", "card", c.info.Name)
		n.endAll(c, fmt.Errorf("a queue of %s has failed", c.info.Name), func(q *Queue) bool {
			return q.mine != nil && q.mine.cq == e.CQ || q.lane != nil && (q.lane.cq == e.CQ && e.Kind == CardCQFatal || q.lane.srq == e.SRQ && e.Kind == CardSRQFatal)
		})
	case CardQPFatal:
		n.endAll(c, fmt.Errorf("a queue pair of %s has failed", c.info.Name), func(q *Queue) bool { return q.id == e.ID })
	case CardLastReceive:
		n.mu.Lock()
		q := n.conns[e.ID]
		n.mu.Unlock()
		if q == nil {
			return
		}
		if r := q.home.Load(); r != nil {
			_ = r.Go(func() { q.lastReceive() })
		}
	}
}
