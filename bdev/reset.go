package bdev

// This file is the reset of a channel. States, in order: open → resetting (what is in flight is aborted or ends; what comes
// waits) → open (the resets complete, then what waited begins).

// reset begins one, or joins the one that is going on.
func (c *Channel) reset(q *Request) {
	c.resets.Push(q)
	c.gates |= gateReset
	for f := c.flight.next; f != &c.flight; f = f.next {
		if f.kind != Reset {
			c.Abort(f.request)
		}
	}
	c.endResets()
}

// endResets completes the resets when only they and what waits for them are in flight.
func (c *Channel) endResets() {
	if c.resets.n == 0 || c.inFlight > c.resets.n+c.behind.n {
		return
	}
	c.gates &^= gateReset
	for q := c.resets.Pop(); q != nil; q = c.resets.Pop() {
		q.CompleteLater(StatusOK)
	}
	for q := c.behind.Pop(); q != nil; q = c.behind.Pop() {
		f := q.Frame()
		f.held = holdNone
		if c.gates == 0 || !c.gate(q, f) {
			c.begin(q, f)
		}
	}
}
