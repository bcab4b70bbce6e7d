package bdev

import (
	"fmt"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is the limits that a device may be given. One reactor of the group, the treasurer, makes tokens by the clock and
// hands them out in small amounts (budget.go); each reactor's channel pays from what it got, and asks for more before it runs
// out. Requests that cannot be paid for wait there, reads in their order and writes in theirs: a write that waits for
// bytes of writes does not hold up a read.
//
//	channel                          treasurer
//	ask (how much) ────────────────▶ gives at once if there is something, else by its timer,
//	                                 to all who ask in equal shares
//	receive ◀─────────────────────── give
//
// A device without limits pays one branch per request, the same as for the other gates.

// Limits are per second, over all reactors together; 0 is none.
type Limits struct {
	IOs        uint64 // requests, but for flush and reset
	Bytes      uint64
	ReadBytes  uint64
	WriteBytes uint64
}

func (l Limits) rates() rates {
	per := float64(reactor.Second)
	return rates{float64(l.IOs) / per, float64(l.Bytes) / per, float64(l.ReadBytes) / per, float64(l.WriteBytes) / per}
}

// SetLimits changes the device's limits, for requests that wait already too. The zero Limits lifts them.
func (d *Device) SetLimits(l Limits) error {
	d.control.Lock()
	defer d.control.Unlock()
	for _, n := range []uint64{l.IOs, l.Bytes, l.ReadBytes, l.WriteBytes} {
		if n > 1<<53 {
			return fmt.Errorf("limiting %s to %d: %w: the most is 2^53", d.name, n, ErrInvalid)
		}
	}
	t := d.treasurer // set here alone, under control
	if t == nil && l != (Limits{}) {
		t = newTreasurer(d) // asks the reactors, one of which may be waiting for the registry: its lock is not held
	}
	d.registry.mu.Lock()
	d.limits, d.treasurer = l, t
	if l == (Limits{}) {
		d.treasurer = nil
	}
	d.registry.mu.Unlock()
	if t == nil {
		return nil
	}
	err := t.r.Call(func() { t.set(l.rates()) })
	if err == nil {
		err = d.registry.group.Each(func(r *reactor.Reactor) { t.payers[r.Index()].set(l.rates()) })
	}
	if err != nil {
		return fmt.Errorf("limiting %s: %w", d.name, err)
	}
	return nil
}

// Limits are those in force.
func (d *Device) Limits() Limits {
	d.registry.mu.Lock()
	defer d.registry.mu.Unlock()
	return d.limits
}

// treasurer gives out the tokens of one device. It lives on one reactor.
type treasurer struct {
	pot
	r      *reactor.Reactor
	payers []*payer // by reactor
	timer  reactor.Timer
}

// newTreasurer chooses a reactor that uses the device already, if one does: then no other has to be woken for it.
func newTreasurer(d *Device) *treasurer {
	group := d.registry.group
	n := group.Len()
	t := &treasurer{r: group.Reactor(0), pot: pot{accounts: make([]account, n)}}
	_ = group.Each(func(r *reactor.Reactor) {
		if d.here[r.Index()].channel != nil && d.here[t.r.Index()].channel == nil {
			t.r = r
		}
	})
	for i, r := range group.Reactors() {
		t.payers = append(t.payers, &payer{here: &d.here[i], r: r, t: t})
	}
	return t
}

// set changes the rates.
func (t *treasurer) set(r rates) {
	t.fill(t.r.Now())
	t.rates = r
	t.serve()
}

// serve gives what there is to those who wait for it, and looks again in a moment if some still do.
func (t *treasurer) serve() {
	now := t.r.Now()
	t.give(now, t)
	if t.waits() && !t.timer.Set() {
		t.r.SetTimer(&t.timer, now+turnSpan, t)
	}
}

// gave sends a payer what it got.
func (t *treasurer) gave(i int, got *tokens) {
	p := t.payers[i]
	p.got, p.giving = *got, true
	t.r.Send(p.r, p)
}

// Run is the treasurer's timer.
func (t *treasurer) Run() { t.serve() }

// payer is a device's purse on one reactor, and the message in which it asks and is given.
type payer struct {
	purse
	here *here
	r    *reactor.Reactor
	t    *treasurer

	reads, writes RequestList
	turn          uint64 // the order in which requests came, over both lists
	waiting       tokens // what those cost together

	asking bool   // the message is away
	giving bool   // on its way back
	want   tokens // what it asked for
	got    tokens
}

// set changes the rates here, and lets go what may go now. No rates lift the limits.
func (p *payer) set(r rates) {
	for d := range r {
		if p.rates[d] == 0 || r[d] == 0 {
			p.have[d] = 0 // new limits start with an empty purse, and old debts are forgiven
		}
	}
	p.rates = r
	p.here.payer = p
	if r == (rates{}) {
		p.here.payer = nil
	}
	if c := p.here.channel; c != nil {
		c.gates |= gateLimits
		p.release(c)
		if r == (rates{}) {
			c.gates &^= gateLimits
		}
	}
}

// Receive is the message arriving at the treasurer, or back at the payer.
func (p *payer) Receive(*reactor.Reactor) {
	if !p.giving {
		p.asked()
		return
	}
	p.giving, p.asking = false, false
	p.add(&p.got, p.r.Now())
	if c := p.here.channel; c != nil && p.here.payer == p {
		p.release(c)
	}
}

// ask asks for more, unless it has already.
func (p *payer) ask() {
	if p.asking || p.rates == (rates{}) || !p.low() {
		return
	}
	p.asking = true
	p.want = p.purse.want(&p.waiting)
	if p.r == p.t.r {
		p.asked()
		return
	}
	p.r.Send(p.t.r, p)
}

// asked is the message at the treasurer.
func (p *payer) asked() {
	p.t.ask(p.r.Index(), &p.want, p.t.r.Now())
	p.t.serve()
}

// cost is what a request takes of each limit.
func (c *Channel) cost(f *frame) tokens {
	n := float64(f.blocks << c.g.Shift())
	switch f.kind {
	case Flush, Reset, Extent:
		return tokens{}
	case Read, Compare:
		return tokens{tokenIO: 1, tokenBytes: n, tokenReadBytes: n}
	case Write, CompareAndWrite, Copy:
		return tokens{tokenIO: 1, tokenBytes: n, tokenWriteBytes: n}
	case WriteZeroes:
		if !c.direct.Has(WriteZeroes) { // they are written
			return tokens{tokenIO: 1, tokenBytes: n, tokenWriteBytes: n}
		}
	}
	return tokens{tokenIO: 1}
}

// gateLimits pays for a request, or holds it until it can be paid for.
func (c *Channel) gateLimits(q *Request, f *frame) bool {
	if c.gates&gateLimits == 0 {
		return false
	}
	cost := c.cost(f)
	if cost == (tokens{}) {
		return false
	}
	p := c.d.here[c.r.Index()].payer
	p.expire(c.r.Now())
	list := p.list(f)
	if list.n == 0 && p.admits(&cost) {
		p.pay(&cost)
		p.ask()
		return false
	}
	f.held = holdLimits
	p.turn++
	f.Tag = p.turn
	list.Push(q)
	for d := range cost {
		p.waiting[d] += cost[d]
	}
	p.ask()
	return true
}

func (p *payer) list(f *frame) *RequestList {
	switch f.kind {
	case Read, Compare:
		return &p.reads
	}
	return &p.writes
}

// release lets go what can be paid for, in the order in which it came.
func (p *payer) release(c *Channel) {
	for {
		q, cost := p.first(c)
		if q == nil {
			break
		}
		p.list(q.Frame()).Pop()
		p.pay(&cost)
		p.leave(c, q.Frame())
		if f := q.Frame(); !c.gateLock(q, f) {
			c.begin(q, f)
		}
	}
	p.ask()
}

// first is the eldest of those who may go.
func (p *payer) first(c *Channel) (*Request, tokens) {
	var eldest *Request
	var price tokens
	for _, l := range [2]*RequestList{&p.reads, &p.writes} {
		if q := l.First(); q != nil && (eldest == nil || q.Frame().Tag < eldest.Frame().Tag) {
			if cost := c.cost(q.Frame()); p.admits(&cost) {
				eldest, price = q, cost
			}
		}
	}
	return eldest, price
}

// leave takes a request off the account of those who wait.
func (p *payer) leave(c *Channel, f *frame) {
	cost := c.cost(f)
	for d := range cost {
		p.waiting[d] -= cost[d]
	}
	if p.reads.n+p.writes.n == 0 {
		p.waiting = tokens{} // what rounding left
	}
	f.held, f.Tag = holdNone, 0
}

// cancel takes a request out that waits.
func (p *payer) cancel(c *Channel, q *Request) {
	f := q.Frame()
	p.list(f).Remove(q)
	p.leave(c, f)
	f.held = holdLimits // it never began
}
