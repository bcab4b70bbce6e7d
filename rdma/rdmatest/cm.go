package rdmatest

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/rdma"
)

// This file is the connection manager: InfiniBand Architecture Specification volume 1, chapter 12, "Communication Management", as far as librdmacm shows it.
//
//	Resolve ── resolving ── EventRoute ── routed ── Connect ── connecting ── EventEstablished ── connected ── Disconnect ── over
//	                                                               └── EventRejected, EventUnreachable ── over
//	EventConnect ── offered ── Accept ── connected
//	                   └── Reject ── over

// manager is rdma.CM.
type manager struct {
	p      *Provider
	events []rdma.Event
	held   []rdma.Event
	news   sync.Cond
	closed bool
	err    error // that Next ends with, once
}

// idState is where a connection stands.
type idState uint8

const (
	resolving idState = iota
	routed
	connecting
	offered
	connected
	over
	listening
)

func (s idState) String() string {
	return [...]string{"resolving", "routed", "connecting", "offered", "connected", "over", "listening"}[s]
}

// ident is a connection, or a listener.
type ident struct {
	cm            *manager
	h             rdma.ID
	card          *card
	state         idState
	local, remote netip.AddrPort
	peer          *ident
	qp            *queuePair
	params        rdma.ConnParams
	link          rdma.Link

	backlog  int    // of a listener
	listener *ident // of an offered one
}

// How much private data messages hold. IBA volume 1, section 12.6, "CM Messages"; of a request the IP addressing takes 36 bytes (annex A11.6).
const (
	requestBytes = 92 - 36
	acceptBytes  = 196
	rejectBytes  = 148
)

// RejectedByConsumer is the status of a rejection: IBA volume 1, section 12.6.7.2, "Rejection Reason", Consumer Reject.
const RejectedByConsumer = 28

// NewCM opens a connection manager.
func (p *Provider) NewCM() (rdma.CM, error) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	m := &manager{p: p}
	m.news.L = &p.f.mu
	p.cms = append(p.cms, m)
	return m, nil
}

func (m *manager) Next() (rdma.Event, error) {
	m.p.f.mu.Lock()
	defer m.p.f.mu.Unlock()
	for len(m.events) == 0 && m.err == nil && !m.closed {
		m.news.Wait()
	}
	if err := m.err; err != nil {
		m.err = nil
		return rdma.Event{}, err
	}
	if m.closed {
		return rdma.Event{}, fmt.Errorf("rdmatest: waiting for events of a connection manager: %w", net.ErrClosed)
	}
	e := m.events[0]
	m.events = slices.Delete(m.events, 0, 1)
	return e, nil
}

func (m *manager) Close() error {
	f := m.p.f
	f.mu.Lock()
	defer f.mu.Unlock()
	left := 0
	f.ids.each(func(d *ident) { left += count(d.cm == m) })
	if left != 0 {
		return fmt.Errorf("rdmatest: closing a connection manager that has %d connections and listeners: %w", left, unix.EBUSY)
	}
	m.closed = true
	m.news.Broadcast()
	m.p.cms = slices.DeleteFunc(m.p.cms, func(o *manager) bool { return o == m })
	return nil
}

// tell hands out an event of d.
func (d *ident) tell(e rdma.Event) {
	m := d.cm
	e.ID, e.Local, e.Remote, e.Params.Private = d.h, d.local, d.remote, e.Private
	if d.card != nil {
		e.Card = d.card
	}
	verdict := Pass
	if m.p.onEvent != nil {
		verdict = m.p.onEvent(&e)
	}
	switch verdict {
	case Pass:
		m.events = append(m.events, e)
		m.news.Signal()
	case Hold:
		m.held = append(m.held, e)
	case Drop:
		if d.state == offered {
			d.peer.peer = nil // who connects hears nothing
			m.p.f.ids.remove(uintptr(d.h))
		}
	}
}

// private is how private data arrive.
func (p *Provider) private(b []byte, room int) []byte {
	if !p.o.ExactPrivate {
		return append(slices.Clip(b), make([]byte, room-len(b))...)
	}
	return slices.Clone(b)
}

func (m *manager) add(d *ident) *ident {
	d.cm = m
	d.h = rdma.ID(m.p.f.ids.add(d))
	return d
}

func (m *manager) Listen(at netip.AddrPort, backlog int) (rdma.ID, netip.AddrPort, error) {
	f := m.p.f
	f.mu.Lock()
	defer f.mu.Unlock()
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	refuse := func(why string, err error) (rdma.ID, netip.AddrPort, error) {
		return 0, netip.AddrPort{}, fmt.Errorf("rdmatest: listening at %v: %s: %w", at, why, err)
	}
	if !at.Addr().IsLoopback() && !at.Addr().IsUnspecified() {
		return refuse("no card has this address", unix.EADDRNOTAVAIL)
	}
	if at.Port() == 0 {
		at = netip.AddrPortFrom(at.Addr(), f.freePort())
	}
	if f.listeners[at] != nil {
		return refuse("somebody else listens there", unix.EADDRINUSE)
	}
	d := m.add(&ident{state: listening, local: at, backlog: backlog})
	if !at.Addr().IsUnspecified() {
		if d.card = m.p.cardOf(at.Addr()); d.card.removed {
			f.ids.remove(uintptr(d.h))
			return refuse("the card was removed", unix.ENODEV)
		}
	}
	f.listeners[at] = d
	return d.h, at, nil
}

// listenerAt is who takes connections to an address.
func (f *Fabric) listenerAt(to netip.AddrPort) *ident {
	if d := f.listeners[to]; d != nil {
		return d
	}
	for a, d := range maps.All(f.listeners) { // at most one of an address and port
		if a.Addr().IsUnspecified() && a.Port() == to.Port() && (a.Addr().Is6() || to.Addr().Is4()) {
			return d
		}
	}
	return nil
}

func (m *manager) Resolve(from netip.Addr, to netip.AddrPort, l rdma.Link) (rdma.ID, error) {
	f := m.p.f
	f.mu.Lock()
	defer f.mu.Unlock()
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if !from.IsValid() || from.IsUnspecified() {
		from = to.Addr()
	}
	from = from.Unmap()
	d := m.add(&ident{local: netip.AddrPortFrom(from, f.freePort()), remote: to, link: l})
	c := m.p.cardOf(from)
	if !to.Addr().IsLoopback() || !from.IsLoopback() || c.removed {
		d.state = over
		d.tell(rdma.Event{Kind: rdma.EventUnreachable, Status: int(unix.ENODEV)})
		return d.h, nil
	}
	d.card, d.state = c, routed
	d.tell(rdma.Event{Kind: rdma.EventRoute})
	return d.h, nil
}

// destroyed is no fault: another goroutine may have found out at once that the connection ends.
func destroyed(what string) error {
	return fmt.Errorf("rdmatest: %s a connection that is destroyed: %w", what, unix.ENOENT)
}

func (d *ident) wrong(what string) error {
	return fmt.Errorf("rdmatest: %s a connection from %v to %v, which is %v: %w", what, d.local, d.remote, d.state, unix.EINVAL)
}

// check says what is wrong with parameters.
func (d *ident) check(what string, p *rdma.ConnParams, room int) error {
	switch {
	case d.qp == nil:
		return fmt.Errorf("rdmatest: %s a connection that has no queue pair: %w", what, unix.EINVAL)
	case len(p.Private) > room:
		return fmt.Errorf("rdmatest: %s a connection with %d bytes of private data, of at most %d: %w", what, len(p.Private), room, unix.EINVAL)
	case int(p.ReadsIn) > d.card.info.ReadsIn || int(p.ReadsOut) > d.card.info.ReadsOut:
		return fmt.Errorf("rdmatest: %s a connection with %d RDMA READs in and %d out; %s has %d and %d: %w",
			what, p.ReadsIn, p.ReadsOut, d.card.info.Name, d.card.info.ReadsIn, d.card.info.ReadsOut, unix.EINVAL)
	}
	return nil
}

func (m *manager) Connect(id rdma.ID, p rdma.ConnParams) error {
	f := m.p.f
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.ids.find(uintptr(id))
	if d == nil {
		return destroyed("connecting")
	}
	if d.state != routed {
		return d.wrong("connecting")
	}
	if err := d.check("connecting", &p, requestBytes); err != nil {
		return err
	}
	d.params = p
	d.params.Private = nil
	d.state = connecting
	l := f.listenerAt(d.remote)
	if l == nil {
		d.state = over
		d.qp.fail()
		d.tell(rdma.Event{Kind: rdma.EventUnreachable, Status: int(unix.ECONNREFUSED)})
		f.drain()
		return nil
	}
	c := l.card
	if c == nil {
		c = l.cm.p.cardOf(d.remote.Addr())
	}
	if d.card.wayTo(c) != open {
		d.state = over
		d.tell(rdma.Event{Kind: rdma.EventUnreachable, Status: int(unix.ETIMEDOUT)})
		return nil
	}
	waiting := 0
	f.ids.each(func(o *ident) { waiting += count(o.state == offered && o.listener == l) })
	if l.backlog > 0 && waiting >= l.backlog {
		d.rejected(RejectedByConsumer, nil)
		f.drain()
		return nil
	}
	o := l.cm.add(&ident{card: c, state: offered, local: d.remote, remote: d.local, peer: d, listener: l})
	d.peer = o
	o.tell(rdma.Event{
		Kind: rdma.EventConnect, Listener: l.h, Private: o.cm.p.private(p.Private, requestBytes),
		Params: rdma.ConnParams{ReadsIn: p.ReadsOut, ReadsOut: p.ReadsIn, Retries: p.Retries, RNR: p.RNR}, // as seen from there: rdma_get_cm_event(3)
	})
	return nil
}

func (m *manager) Accept(id rdma.ID, p rdma.ConnParams) error {
	f := m.p.f
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.ids.find(uintptr(id))
	if d == nil {
		return destroyed("accepting")
	}
	if d.state != offered || d.peer == nil {
		return d.wrong("accepting")
	}
	if err := d.check("accepting", &p, acceptBytes); err != nil {
		return err
	}
	o := d.peer
	d.params = p
	d.params.Private = nil
	d.link = rdma.Link{AckTimeout: p.AckTimeout, TOS: o.link.TOS}
	d.state, o.state = connected, connected
	join(d, o)
	join(o, d)
	d.qp.ready()
	o.qp.ready()
	o.tell(rdma.Event{
		Kind: rdma.EventEstablished, Private: o.cm.p.private(p.Private, acceptBytes),
		Params: rdma.ConnParams{ReadsIn: p.ReadsOut, ReadsOut: p.ReadsIn, RNR: p.RNR},
	})
	d.tell(rdma.Event{Kind: rdma.EventEstablished})
	f.drain()
	return nil
}

// join readies d's queue pair for its peer. How often a send waits for a receive is what the peer wants: rdma_connect(3), rnr_retry_count.
func join(d, o *ident) {
	q := d.qp
	if q.state == made {
		q.state = ready
	}
	q.peer = o.qp
	q.readsOut = int(min(d.params.ReadsOut, o.params.ReadsIn))
	q.rnr = o.params.RNR
	q.rnrLeft = q.rnr
}

func (m *manager) Reject(id rdma.ID, private []byte) error {
	f := m.p.f
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.ids.find(uintptr(id))
	if d == nil {
		return destroyed("rejecting")
	}
	if d.state != offered {
		return d.wrong("rejecting")
	}
	if len(private) > rejectBytes {
		return fmt.Errorf("rdmatest: rejecting a connection with %d bytes of private data, of at most %d: %w", len(private), rejectBytes, unix.EINVAL)
	}
	d.state = over
	if o := d.peer; o != nil {
		d.peer, o.peer = nil, nil
		o.rejected(RejectedByConsumer, private)
	}
	f.drain()
	return nil
}

// rejected ends a connection that did not come about.
func (d *ident) rejected(reason int, private []byte) {
	d.state = over
	if d.qp != nil {
		d.qp.fail()
	}
	d.tell(rdma.Event{Kind: rdma.EventRejected, Status: reason, Private: d.cm.p.private(private, rejectBytes)})
}

func (m *manager) Disconnect(id rdma.ID) error {
	f := m.p.f
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.ids.find(uintptr(id))
	if d == nil {
		return destroyed("disconnecting")
	}
	if d.state != connected && d.state != over {
		return d.wrong("disconnecting")
	}
	if d.qp != nil {
		d.qp.fail()
	}
	if d.state == connected {
		d.part()
		d.tell(rdma.Event{Kind: rdma.EventDisconnected})
		d.tell(rdma.Event{Kind: rdma.EventTimewait})
	}
	f.drain()
	return nil
}

// part ends a connection that came about, and tells the peer.
func (d *ident) part() {
	o := d.peer
	d.state, d.peer = over, nil
	if o == nil {
		return
	}
	o.peer = nil
	if o.state == connected && d.card.wayTo(o.card) == open {
		o.state = over
		o.tell(rdma.Event{Kind: rdma.EventDisconnected})
	}
}

func (m *manager) Destroy(id rdma.ID) error {
	f := m.p.f
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.ids.get(uintptr(id))
	if d.qp != nil {
		return fmt.Errorf("rdmatest: destroying a connection whose queue pair %#x is not: %w", d.qp.number, unix.EBUSY)
	}
	d.destroy()
	f.drain()
	return nil
}

func (d *ident) destroy() {
	f := d.cm.p.f
	switch d.state {
	case listening:
		delete(f.listeners, d.local)
		for _, e := range slices.Concat(d.cm.events, d.cm.held) {
			if e.Kind == rdma.EventConnect && e.Listener == d.h {
				f.ids.get(uintptr(e.ID)).destroy() // nobody will ever hear of it
			}
		}
	case connecting:
		if o := d.peer; o != nil {
			o.peer = nil
			o.state = over
			o.tell(rdma.Event{Kind: rdma.EventRejected, Status: RejectedByConsumer, Private: o.cm.p.private(nil, rejectBytes)})
		}
	case offered:
		if o := d.peer; o != nil {
			o.peer = nil
			o.rejected(RejectedByConsumer, nil)
		}
	case connected:
		d.part()
	}
	of := func(e rdma.Event) bool { return e.ID == d.h }
	d.cm.events = slices.DeleteFunc(d.cm.events, of)
	d.cm.held = slices.DeleteFunc(d.cm.held, of)
	f.ids.remove(uintptr(d.h))
}

// Links is how the provider's connections send.
func (p *Provider) Links() (all []rdma.Link) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.f.ids.each(func(d *ident) {
		if d.cm.p == p && d.state == connected {
			all = append(all, d.link)
		}
	})
	return all
}
