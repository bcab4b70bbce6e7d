package rdma

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is the engine's use of a provider: its cards, who listens and who dials, and the events of the connection manager, which one
// goroutine takes.

// Net is the cards of a provider on the reactors of a group. Its methods are for control goroutines. It is closed before the reactors are stopped:
// they do not stop as long as a completion queue is watched on one. Where they have stopped all the same, no connection comes about any more, and
// Close has what is left on the cards taken apart.
type Net struct {
	group *reactor.Group
	p     Provider
	owns  bool // the provider
	log   *slog.Logger
	cm    CM

	shared atomic.Int32 // receives that the queues of a card and a reactor share at most

	offering sync.Mutex // held while an offer is judged and answered

	mu        sync.Mutex
	cards     []*card
	conns     map[ID]*Queue // those that have a queue pair, until it is destroyed
	dials     map[ID]*dial
	listeners map[ID]*Listener
	all       map[*Listener]struct{}
	lost      map[Verbs]struct{} // cards that were removed
	alive     int                // queues of which something is left, and dials
	closing   bool

	news  chan struct{} // alive has become less
	ended chan struct{} // no more events are taken
}

// Open opens a provider and begins to use its cards. Closing the Net closes the provider. A nil open is that of an engine without RDMA.
func Open(g *reactor.Group, open func() (Provider, error), log *slog.Logger) (*Net, error) {
	if open == nil {
		return nil, fmt.Errorf("%w: nothing was set up for it", ErrUnavailable)
	}
	p, err := open()
	if err != nil {
		return nil, err
	}
	n, err := New(g, p, log)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	n.owns = true
	return n, nil
}

// used are the providers that Nets have: two would each get a part of what their cards tell.
var used sync.Map

// New begins to use p's cards, which no other Net has until this one is closed. The provider stays the caller's, who closes it after the Net.
func New(g *reactor.Group, p Provider, log *slog.Logger) (n *Net, err error) {
	fail := func(what string, err error) (*Net, error) {
		return nil, fmt.Errorf("using RDMA by %s: %s: %w", p.Name(), what, err)
	}
	if g.Simulated() {
		return fail("starting", errors.New("simulated reactors have no ring on which completions could wake them"))
	}
	if _, is := used.LoadOrStore(p, struct{}{}); is {
		return fail("starting", errors.New("another has the provider: open one for each"))
	}
	defer func() {
		if err != nil {
			used.Delete(p)
		}
	}()
	cards, err := p.Cards()
	if err != nil {
		return fail("looking for cards", err)
	}
	cm, err := p.NewCM()
	if err != nil {
		return fail("opening the connection manager", err)
	}
	n = &Net{group: g, p: p, log: log, cm: cm, conns: map[ID]*Queue{}, dials: map[ID]*dial{}, listeners: map[ID]*Listener{}, all: map[*Listener]struct{}{}, lost: map[Verbs]struct{}{},
		news: make(chan struct{}, 1), ended: make(chan struct{})}
	n.shared.Store(srqDepthMax)
	for _, v := range cards {
		n.card(v)
	}
	go n.run()
	return n, nil
}

// Share lets the queues of a card and a reactor share so many receives at most, where there are none yet; 0: each has receives of its own.
func (n *Net) Share(receives int) { n.shared.Store(int32(receives)) }

// find gives what is known of a card. With mu held.
func (n *Net) find(v Verbs) *card {
	for _, c := range n.cards {
		if c.v == v {
			return c
		}
	}
	return nil
}

// card takes one in that is new, unless it was removed. With mu held, or before anybody else knows of n.
func (n *Net) card(v Verbs) *card {
	if c := n.find(v); c != nil {
		return c
	}
	if _, lost := n.lost[v]; lost {
		return nil
	}
	c := newCard(n, v)
	n.cards = append(n.cards, c)
	go c.listen()
	return c
}

// Cards lists the cards that there are.
func (n *Net) Cards() (list []CardInfo) {
	n.mu.Lock()
	cards := slices.Clone(n.cards)
	n.mu.Unlock()
	for _, c := range cards {
		if !c.gone.Load() {
			list = append(list, c.v.Info())
		}
	}
	return list
}

// run takes events.
func (n *Net) run() {
	defer close(n.ended)
	for failures := 0; ; {
		e, err := n.cm.Next()
		if err == nil {
			failures = 0
			n.event(&e)
			continue
		}
		n.mu.Lock()
		closing := n.closing
		n.mu.Unlock()
		if closing {
			return
		}
		n.log.Error("the connection manager failed to give an event", "provider", n.p.Name(), "error", err.Error())
		if failures++; failures == eventFailuresMax {
			n.log.Error("the connection manager is given up: no RDMA connections come about any more", "provider", n.p.Name())
			return
		}
	}
}

// eventFailuresMax is how often in a row an event cannot be had, before the connection manager is given up.
const eventFailuresMax = 16

func (n *Net) event(e *Event) {
	if e.Kind == EventConnect {
		n.offered(e)
		return
	}
	n.mu.Lock()
	q, d, l := n.conns[e.ID], n.dials[e.ID], n.listeners[e.ID]
	var c *card
	if e.Card != nil {
		c = n.find(e.Card)
	}
	n.mu.Unlock()
	if d != nil {
		d.hear(e)
	}
	switch e.Kind {
	case EventRemoval:
		if c == nil && q != nil {
			c = q.c
		}
		if c != nil {
			n.lose(c, fmt.Errorf("%s: %w", c.info.Name, ErrRemoved))
		}
		if l != nil {
			l.lost(ErrRemoved)
		}
	case EventAddress:
		if l != nil {
			l.lost(errors.New("its address is gone"))
		}
		if q != nil {
			q.endBy(errors.New("the address of the connection is gone"))
		}
	case EventDisconnected, EventTimewait:
		if q != nil {
			q.endBy(ErrDisconnected)
		}
	case EventUnreachable, EventRejected:
		if q != nil && d == nil {
			q.endBy(ErrUnreachable)
		}
	}
}

// endBy ends a queue for a reason that control knows. Any goroutine may call it.
func (q *Queue) endBy(err error) {
	if !q.notice.CompareAndSwap(nil, &err) {
		return
	}
	if r := q.home.Load(); r != nil { // else who attaches it looks
		_ = r.Go(func() { q.noticed(r) })
	}
}

// endAll ends the queues of a card that are chosen.
func (n *Net) endAll(c *card, err error, which func(*Queue) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for q := range c.queues {
		if which(q) {
			q.endBy(err)
		}
	}
}

// lose ends all that is on a card that goes away. What comes back is another.
func (n *Net) lose(c *card, err error) {
	if c.gone.Swap(true) {
		return
	}
	n.log.Warn("a card is gone: its connections end", "card", c.info.Name, "error", err.Error())
	n.endAll(c, err, func(q *Queue) bool {
		if r := q.home.Load(); r != nil {
			_ = r.Go(func() { q.hurry(r) })
		}
		return true
	})
	n.forget(c)
}

// forget gives up a card that was removed and has no queues any more.
func (n *Net) forget(c *card) {
	n.mu.Lock()
	is := c.gone.Load() && len(c.queues) == 0 && slices.Contains(n.cards, c)
	if is {
		n.lost[c.v] = struct{}{}
		n.cards = slices.DeleteFunc(n.cards, func(o *card) bool { return o == c })
	}
	n.mu.Unlock()
	if is {
		c.close()
	}
}

// connection makes the queue of a connection, on its reactor, with its receives.
func (n *Net) connection(e *Event, cfg QueueConfig, r *reactor.Reactor, dials bool) (*Queue, error) {
	n.mu.Lock()
	c := n.card(e.Card)
	if n.closing || c == nil {
		closing := n.closing
		n.mu.Unlock()
		if closing {
			return nil, ErrClosed
		}
		return nil, ErrRemoved
	}
	n.alive++
	n.mu.Unlock()
	q, err := c.make(e.ID, cfg, r, dials)
	if err != nil {
		n.less()
		return nil, err
	}
	q.local, q.peer = e.Local, e.Remote
	n.mu.Lock()
	n.conns[q.id] = q
	c.queues[q] = struct{}{}
	gone, closing := c.gone.Load(), n.closing
	n.mu.Unlock()
	if gone {
		err = ErrRemoved
	} else if closing {
		err = ErrClosed
	}
	stopped := r.Call(func() {
		if q.place(); err == nil {
			err = q.why // it was to end meanwhile
		}
		if err == nil {
			err = q.attach()
		}
	})
	q.stranded = stopped != nil
	return q, errors.Join(err, stopped)
}

// drop ends a queue that its maker has no use for.
func (q *Queue) drop(err error) {
	if q.stranded { // nobody is there to end it
		q.n.abandon(q)
		return
	}
	q.endBy(err)
}

// less says that one fewer is alive.
func (n *Net) less() {
	n.mu.Lock()
	n.alive--
	n.mu.Unlock()
	select {
	case n.news <- struct{}{}:
	default:
	}
}

// fail puts a queue pair into the error state, and tells the peer.
func (n *Net) fail(q *Queue) {
	n.complain(q.c, "failing a queue pair", q.c.v.Fail(q.qp))
	n.mu.Lock()
	d := n.dials[q.id]
	n.mu.Unlock()
	if d != nil { // it waits for an event that may not come any more
		d.hear(&Event{Kind: EventDisconnected})
	}
	_ = n.cm.Disconnect(q.id) // it may never have been connected
	_ = q.home.Load().Go(q.draining)
}

// destroy destroys a queue pair.
func (n *Net) destroy(q *Queue) {
	n.destroyed(q)
	_ = q.home.Load().Go(q.gone)
}

func (n *Net) destroyed(q *Queue) {
	n.mu.Lock()
	delete(n.conns, q.id)
	n.mu.Unlock()
	errs := []error{q.c.v.DestroyQP(q.qp), n.cm.Destroy(q.id)}
	if q.mine != nil {
		errs = append(errs, q.c.v.DestroyCQ(q.mine.cq))
	}
	n.complain(q.c, "destroying a queue pair", errs...)
}

// leave takes apart what is left of a queue.
func (n *Net) leave(q *Queue) {
	c := q.c
	if q.own != nil {
		n.complain(c, "deregistering memory", q.own.unmap())
	}
	c.mu.Lock()
	if q.lane != nil {
		c.unref(q.lane, q.completions(q.own == nil))
	}
	c.mu.Unlock()
	n.mu.Lock()
	delete(c.queues, q)
	n.mu.Unlock()
	n.forget(c)
	n.less()
}

// abandon ends a queue that is on no reactor.
func (n *Net) abandon(q *Queue) {
	n.complain(q.c, "failing a queue pair", q.c.v.Fail(q.qp))
	_ = n.cm.Disconnect(q.id)
	n.destroyed(q)
	n.leave(q)
}

// Close ends all connections and listeners, and returns when nothing is left: handlers have closed their queues (Handler.Ended), and released what
// they had received. If ctx ends before that it says who has not; it may be called again.
func (n *Net) Close(ctx context.Context) error {
	n.mu.Lock()
	n.closing = true
	listeners := make([]*Listener, 0, len(n.all))
	for l := range n.all {
		listeners = append(listeners, l)
	}
	n.mu.Unlock()
	for _, l := range listeners {
		l.Close()
	}
	n.offering.Lock() // an offer that was being answered
	n.mu.Lock()
	for _, q := range n.conns {
		q.endBy(ErrClosed)
	}
	for _, d := range n.dials {
		d.cancel()
	}
	n.mu.Unlock()
	n.offering.Unlock()
	for {
		n.mu.Lock()
		alive := n.alive
		n.mu.Unlock()
		if alive == 0 {
			break
		}
		select {
		case <-n.news:
		case <-ctx.Done():
			return fmt.Errorf("closing RDMA by %s: %d connections have not ended (%s): %w", n.p.Name(), alive, n.lacks(), ctx.Err())
		}
	}
	n.mu.Lock()
	cards := n.cards
	n.cards = nil
	n.mu.Unlock()
	for _, c := range cards {
		c.close()
	}
	if err := n.cm.Close(); err != nil {
		return fmt.Errorf("closing RDMA by %s: closing the connection manager: %w", n.p.Name(), err)
	}
	used.Delete(n.p)
	select {
	case <-n.ended:
	case <-ctx.Done():
		return fmt.Errorf("closing RDMA by %s: the connection manager does not end: %w", n.p.Name(), ctx.Err())
	}
	if n.owns {
		return n.p.Close()
	}
	return nil
}

// lacks says what some of the queues wait for that have not ended.
func (n *Net) lacks() string {
	const some = 3
	var queues []*Queue
	n.mu.Lock()
	for _, c := range n.cards {
		for q := range c.queues {
			if len(queues) < some {
				queues = append(queues, q)
			}
		}
	}
	n.mu.Unlock()
	var says []string
	for _, q := range queues {
		says = append(says, fmt.Sprintf("%v with %v: %s", q, q.Remote(), q.lacks()))
	}
	if len(says) == 0 {
		return "they are being made"
	}
	return strings.Join(says, "; ")
}

// lacks says what a queue that is to end waits for. It is for control goroutines.
func (q *Queue) lacks() (what string) {
	r := q.home.Load()
	if r == nil {
		return "it was detached, and neither attached nor closed"
	}
	err := r.Call(func() {
		switch {
		case q.home.Load() != r:
			what = "it moves"
		case q.state < queueGone:
			what = "the card still has something of it"
		case !q.closed:
			what = "its handler has not called Close"
		case q.held > 0:
			what = fmt.Sprintf("its handler has not released %d receives", q.held)
		default:
			what = "it is being taken apart"
		}
	})
	if err != nil {
		return err.Error()
	}
	return what
}
