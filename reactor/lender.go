package reactor

// This file is who hears that memory is wanted: whoever lends it to hosts, who decide how long they keep it.

// Lender is a target on a reactor. While somebody waits for the pool, whoever it is, each of the pool's lenders looks from time to time
// for hosts that stall.
type Lender struct {
	Every Ticks
	Look  Runner // ends the connections of hosts that keep memory, and for this long neither sent nor took anything

	r     *Reactor // nil until it lends something
	next  *Lender
	timer Timer // runs while somebody waits for the pool
}

// join makes the pool of r know the lender, which it does for good.
func (l *Lender) join(r *Reactor) {
	if l.r == nil {
		l.r, l.next, r.memory.lenders = r, r.memory.lenders, l
	}
}

// wanted tells the lenders that somebody waits.
func (m *Memory) wanted() {
	for l := m.lenders; l != nil; l = l.next {
		if !l.timer.Set() {
			m.r.SetTimer(&l.timer, m.r.now+l.Every, l)
		}
	}
}

// Run looks for hosts that stall, as long as somebody waits for the pool.
func (l *Lender) Run() {
	if l.r.memory.waiters == 0 {
		return
	}
	l.Look.Run()
	l.r.SetTimer(&l.timer, l.r.now+l.Every, l)
}
