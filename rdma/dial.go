package rdma

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is connections that we want of others.

// dial is one of them, until it has come about or not.
type dial struct {
	events chan Event // there are few of a connection
	done   <-chan struct{}
	cancel context.CancelFunc
}

// hear takes an event.
func (d *dial) hear(e *Event) {
	select {
	case d.events <- *e:
	case <-d.done:
	}
}

// Dial connects to a listener. The queue begins on r by open, once the peer has accepted: it may post at once. What the peer said with it is returned;
// if it refused, the error is a *Rejected. After an error nothing is opened, nor after ctx was cancelled on r.
func (n *Net) Dial(ctx context.Context, to netip.AddrPort, private []byte, cfg QueueConfig, r *reactor.Reactor, open Opener) (accept []byte, err error) {
	fail := func(err error) ([]byte, error) {
		return nil, fmt.Errorf("connecting to %v by RDMA (%s): %w", to, n.p.Name(), err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d := &dial{events: make(chan Event, 8), done: ctx.Done(), cancel: func() { cancel(ErrClosed) }}
	n.mu.Lock()
	if n.closing {
		n.mu.Unlock()
		return fail(ErrClosed)
	}
	id, err := n.cm.Resolve(netip.Addr{}, to, cfg.Link)
	if err != nil {
		n.mu.Unlock()
		return fail(err)
	}
	n.dials[id] = d
	n.alive++
	n.mu.Unlock()
	forget := func() {
		n.mu.Lock()
		delete(n.dials, id)
		n.mu.Unlock()
	}
	defer n.less()

	e, err := d.next(ctx, EventRoute)
	if err != nil {
		forget()
		_ = n.cm.Destroy(id)
		return fail(err)
	}
	q, err := n.connection(&e, cfg, r, true)
	if q == nil {
		forget()
		_ = n.cm.Destroy(id)
		return fail(err)
	}
	if err == nil {
		err = n.cm.Connect(id, ConnParams{Private: private, ReadsIn: uint8(q.cfg.ReadsIn), ReadsOut: uint8(q.cfg.ReadsOut), Retries: retries, RNR: rnrForEver})
	}
	if err == nil {
		e, err = d.next(ctx, EventEstablished)
	}
	forget()
	if err != nil {
		if why := q.notice.Load(); why != nil && errors.Is(err, ErrDisconnected) {
			err = *why
		}
		q.drop(err)
		return fail(err)
	}
	stopped := r.Call(func() {
		if q.state != queueMade {
			err = q.why
			return
		}
		if q.broken {
			err = ErrDisconnected
			return
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
			return
		}
		q.readsMax = min(q.readsMax, int(e.Params.ReadsOut))
		q.local, q.peer = e.Local, e.Remote
		err = q.open(open)
	})
	if err = errors.Join(err, stopped); err != nil {
		q.drop(err)
		return fail(err)
	}
	return e.Private, nil
}

// next waits for an event.
func (d *dial) next(ctx context.Context, want EventKind) (Event, error) {
	for {
		select {
		case e := <-d.events:
			switch e.Kind {
			case want:
				return e, nil
			case EventRejected:
				return e, &Rejected{Private: e.Private, Reason: e.Status}
			case EventUnreachable:
				if e.Status > 0 {
					return e, fmt.Errorf("%w: %w", ErrUnreachable, syscall.Errno(e.Status))
				}
				return e, ErrUnreachable
			case EventDisconnected:
				return e, ErrDisconnected
			case EventRemoval:
				return e, ErrRemoved
			}
		case <-ctx.Done():
			return Event{}, context.Cause(ctx)
		}
	}
}
