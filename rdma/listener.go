package rdma

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is who listens, and what becomes of a connection that somebody wants.

// Acceptor judges connections that are wanted.
type Acceptor interface {
	// Offered judges one, on a goroutine of the Net's, one after the other. Without an answer it is refused, with reject as private data. It does not
	// close its listener, or the Net.
	Offered(o *Offer) (a *Answer, reject []byte)
}

// Offer is a connection that somebody wants.
type Offer struct {
	Card          CardInfo
	Private       []byte // it may be padded with zeros
	ReadsIn       uint8  // RDMA READs of the peer that it wants answered at once
	ReadsOut      uint8  // ours that it answers at once
	Local, Remote netip.AddrPort
}

// Answer takes it.
type Answer struct {
	Reactor *reactor.Reactor
	Queue   QueueConfig // ReadsOut is no more than what the peer and the card allow, whatever is said here
	Private []byte
	Open    Opener // without a handler there is no room

	// If there is no room for the connection, or the card does not make it, it is refused with these private data, and Failed, unless it is
	// nil, hears of it.
	Refuse []byte
	Failed func(error)
}

// Listener takes connections. Its methods are for control goroutines.
type Listener struct {
	n    *Net
	at   netip.AddrPort
	a    Acceptor
	stop chan struct{}

	// Under Net.mu.
	id     ID // 0 while it cannot listen
	addr   netip.AddrPort
	why    error // of that
	closed bool
}

const backlog = 128

// Listen takes connections to an address, or to all with an unspecified one. Port 0 is any that is free.
func (n *Net) Listen(at netip.AddrPort, a Acceptor) (*Listener, error) {
	fail := func(err error) (*Listener, error) {
		return nil, fmt.Errorf("listening on %v by RDMA (%s): %w", at, n.p.Name(), err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closing {
		return fail(ErrClosed)
	}
	l := &Listener{n: n, at: at, a: a, stop: make(chan struct{})}
	var err error
	if l.id, l.addr, err = n.cm.Listen(at, backlog); err != nil {
		return fail(err)
	}
	n.listeners[l.id] = l
	n.all[l] = struct{}{}
	return l, nil
}

// Addr is where it listens.
func (l *Listener) Addr() netip.AddrPort { return l.addr }

// Err says why it takes no connections at present, nil if it does.
func (l *Listener) Err() error {
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	return l.why
}

// Close ends it: no connection is offered any more when it has returned. Those that were taken stay.
func (l *Listener) Close() {
	n := l.n
	n.mu.Lock()
	if l.closed {
		n.mu.Unlock()
		return
	}
	l.closed, l.why = true, ErrClosed
	close(l.stop)
	id := l.id
	l.id = 0
	delete(n.listeners, id)
	delete(n.all, l)
	n.mu.Unlock()
	if id != 0 {
		if err := n.cm.Destroy(id); err != nil {
			n.log.Warn("a listener was not given up properly", "address", l.addr, "error", err.Error())
		}
	}
	n.judged()
}

// judged returns when the offer that is being judged is answered.
func (n *Net) judged() {
	n.offering.Lock()
	defer n.offering.Unlock()
}

// relisten is how often a listener whose card or address is gone tries to listen again.
const relisten = 500 * time.Millisecond

// lost hears that nobody comes here any more: the card or the address is gone. It listens again when they are back.
func (l *Listener) lost(why error) {
	n := l.n
	n.mu.Lock()
	id := l.id
	if l.closed || id == 0 {
		n.mu.Unlock()
		return
	}
	l.id, l.why = 0, why
	delete(n.listeners, id)
	n.alive++
	n.mu.Unlock()
	n.log.Warn("a listener has lost its card or its address: it listens again when they are back", "address", l.addr, "error", why.Error())
	if err := n.cm.Destroy(id); err != nil {
		n.log.Warn("a listener was not given up properly", "address", l.addr, "error", err.Error())
	}
	go l.again()
}

// again listens as soon as it can be.
func (l *Listener) again() {
	n := l.n
	defer n.less()
	t := time.NewTicker(relisten)
	defer t.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-t.C:
		}
		n.mu.Lock()
		if l.closed {
			n.mu.Unlock()
			return
		}
		id, _, err := n.cm.Listen(l.addr, backlog)
		if err == nil {
			l.id, l.why = id, nil
			n.listeners[id] = l
		} else {
			l.why = err
		}
		n.mu.Unlock()
		if err == nil {
			n.log.Info("a listener is back", "address", l.addr)
			return
		}
	}
}

// offered asks the listener about a connection, and answers.
func (n *Net) offered(e *Event) {
	n.offering.Lock()
	defer n.offering.Unlock()
	n.mu.Lock()
	l := n.listeners[e.Listener]
	n.mu.Unlock()
	refuse := func(private []byte) {
		if err := errors.Join(n.cm.Reject(e.ID, private), n.cm.Destroy(e.ID)); err != nil {
			n.log.Debug("a connection could not be refused", "peer", e.Remote, "error", err.Error())
		}
	}
	if l == nil || e.Card == nil {
		refuse(nil)
		return
	}
	a, reject := l.a.Offered(&Offer{Card: e.Card.Info(), Private: e.Private, ReadsIn: e.Params.ReadsIn, ReadsOut: e.Params.ReadsOut, Local: e.Local, Remote: e.Remote})
	if a == nil {
		refuse(reject)
		return
	}
	cfg := a.Queue
	cfg.ReadsOut = min(cfg.ReadsOut, int(e.Params.ReadsOut))
	cfg.ReadsIn = min(cfg.ReadsIn, int(e.Params.ReadsIn))
	q, err := n.connection(e, cfg, a.Reactor, false)
	if err == nil {
		_ = a.Reactor.Call(func() {
			if err = q.why; q.state == queueMade { // the card has not gone away meanwhile
				err = q.open(a.Open)
			}
		})
	}
	if err != nil {
		n.log.Warn("a connection is refused", "card", e.Card.Info().Name, "peer", e.Remote, "error", err.Error())
		if a.Failed != nil { // before the peer hears, who may come again at once
			a.Failed(err)
		}
		if q == nil {
			refuse(a.Refuse)
		} else {
			_ = n.cm.Reject(e.ID, a.Refuse)
			q.drop(err)
		}
		return
	}
	err = n.cm.Accept(e.ID, ConnParams{Private: a.Private, ReadsIn: uint8(q.cfg.ReadsIn), ReadsOut: uint8(q.cfg.ReadsOut), RNR: e.Params.RNR, Retries: retries,
		AckTimeout: q.cfg.Link.AckTimeout})
	if err != nil {
		q.drop(fmt.Errorf("accepting the connection: %w", err))
	}
}

// retries is how often a card tries again to reach its peer, the most there is; rnrForEver is the same for a peer without a receive, without end.
const (
	retries    = 7
	rnrForEver = 7
)
