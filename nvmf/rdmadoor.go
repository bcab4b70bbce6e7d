package nvmf

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/pollux-storage/pollux/rdma"
)

// This file is how connections over RDMA come in. What a host asks for says which queue it makes. An I/O queue's reactor is chosen then (rdmaplace.go), and its
// queue pair stays there. An Admin queue is to be where its subsystem is, which only its Connect says; so it has a completion queue of its own, and goes
// there (rdmaconnect.go).

// UseRDMA gives the target the way to cards, which it asks for when a transport over RDMA is created.
func (t *Target) UseRDMA(open func() (rdma.Provider, error)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rdma.open = open
}

// rdmaCards is the target's RDMA, under its lock.
type rdmaCards struct {
	open func() (rdma.Provider, error) // nil: there is none
	net  *rdma.Net                     // nil as long as there is no transport

	families rdmaFamilies // not under the lock
}

// start finds the cards, for a transport with such options. The lock is held.
func (c *rdmaCards) start(t *Target, o *TransportOptions) (err error) {
	if c.net, err = rdma.Open(t.group, c.open, t.log); err != nil {
		return err
	}
	c.net.Share(int(o.MaxSRQDepth))
	if o.NoSRQ {
		c.net.Share(0)
	}
	return nil
}

// stopRDMA gives the cards back. All queues have closed. What could not be given back stays, for another try.
func (t *Target) stopRDMA(ctx context.Context) error {
	t.mu.Lock()
	n := t.rdma.net
	t.mu.Unlock()
	if n == nil {
		return nil
	}
	err := n.Close(ctx)
	if err == nil {
		t.mu.Lock()
		t.rdma.net = nil
		t.mu.Unlock()
	}
	return err
}

// RDMAStats counts what cards do, by reactor.
func (t *Target) RDMAStats() []rdma.Stats {
	t.mu.Lock()
	n := t.rdma.net
	t.mu.Unlock()
	return n.Stats()
}

// rdmaDoor is a listener of the connection manager.
type rdmaDoor struct {
	t *Target
	p *portal
	l *rdma.Listener
}

// openRDMA begins to listen for p. The lock is held.
func (t *Target) openRDMA(p *portal) (door, error) {
	d := &rdmaDoor{t: t, p: p}
	if t.rdma.net == nil {
		return nil, fmt.Errorf("listening over RDMA: the target has stopped: %w", rdma.ErrClosed)
	}
	l, err := t.rdma.net.Listen(p.bound, d)
	if err != nil {
		return nil, err
	}
	d.l = l
	p.bound = l.Addr()
	return d, nil
}

// accept has nothing to do: connections come as soon as the door is made, and their Connects wait while the target holds.
func (d *rdmaDoor) accept() error { return nil }

func (d *rdmaDoor) close() { d.l.Close() }

// Offered judges a connection that a host asks for, on a goroutine of package rdma.
func (d *rdmaDoor) Offered(o *rdma.Offer) (*rdma.Answer, []byte) {
	t := d.t
	refuse := func(why RDMAReason) (*rdma.Answer, []byte) {
		t.log.Warn("a host's connection is refused", "listener", d.p.address.String(), "from", o.Remote.String(), "card", o.Card.Name, "why", why.String())
		return nil, why.AppendReject(nil)
	}
	if t.draining.Load() || t.stopping.Load() {
		return refuse(RDMANoResources)
	}
	depthMax := (o.Card.QPDepthMax - 1 - rdmaSends(0)) / 2
	terms, why := d.p.limits.judgeRDMA(o.Private, int(o.ReadsOut), depthMax, o.Card.ReadsOut)
	if why != 0 {
		return refuse(why)
	}
	a := &rdma.Answer{
		Queue: rdma.QueueConfig{
			SendDepth: rdmaSends(terms.entries), RecvDepth: int(terms.entries), HeaderBytes: SQEBytes, InlineBytes: CQEBytes, ReadsOut: terms.reads,
			Link: rdma.Link{AckTimeout: rdma.AckTimeout(time.Duration(d.p.limits.AckTimeout) * time.Millisecond)},
		},
		Private: RDMAAccept{CRQSIZE: uint16(min(terms.entries, math.MaxUint16))}.AppendTo(nil),
		Refuse:  RDMANoResources.AppendReject(nil),
	}
	var at *rdmaPlace
	if terms.request.QID == 0 {
		a.Reactor, a.Queue.Movable = t.group.Reactor(int(d.p.id-1)%t.group.Len()), true
	} else {
		at = t.rdma.families.place(o.Remote.Addr(), terms.request, t.reactorLoads())
		a.Reactor, a.Queue.DataBytes = t.group.Reactor(at.reactor), int(d.p.limits.InCapsuleDataBytes)
		a.Failed = func(error) { at.gone.Store(true) }
	}
	a.Open = func(q *rdma.Queue) rdma.Handler { return d.opened(q, &terms, at) }
	return a, nil
}

// opened makes the queue of a connection, on its reactor, if there is room for its responses.
func (d *rdmaDoor) opened(q *rdma.Queue, terms *rdmaTerms, at *rdmaPlace) rdma.Handler {
	pg := d.t.groups[q.Reactor().Index()]
	t := newRDMAQueue(pg, d.p, terms.request.QID, terms.entries)
	if t.place = at; at != nil {
		d.t.placed[pg.r.Index()].Add(1)
	}
	h := t.begin(q)
	if t.sends == 0 {
		t.state = queueClosing
		t.end()
		return nil
	}
	if t.paused = d.t.holding.Load(); !t.paused {
		t.expectConnect()
	}
	t.resume()
	return h
}
