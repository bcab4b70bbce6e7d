package nvmf

import "github.com/pollux-storage/pollux/reactor"

// This file is the memory of commands: who gets some of the reactor's pool, and who waits.
//
// A host decides how long memory is out that waits for its data, or for it to take data: if it stalls, until its connection ends. So
// of such memory one queue has at most a share of the pool; beyond it a command waits in its own queue, and other queues go on.
//
// Data in a capsule is different: while it waits for memory, so does the whole connection, and with it the data of earlier
// writes that hold memory. If that is all of the pool, they would wait for each other for ever. So a queue has room for such
// writes beside the pool, which comes back whatever the host does: for one, and for another while the first of a fused pair holds
// that one and waits for the second.

// lentShare is the part of the pool that one queue may have: so many queues of stalled hosts leave the others none.
const lentShare = 8

// lending is what a queue has of the pool, and who waits for it to have less.
type lending struct {
	bytes, bytesMax int
	first, last     *command // those who wait
	serving         *command // whose turn it is
	waking          reactor.Deferred

	spares [2]spare
}

// spare is room for one write in its capsule, made when first needed.
type spare struct {
	b   []byte
	out bool
}

func (l *lending) init(r *reactor.Reactor) {
	l.bytesMax = max(reactor.BufferMax, r.Memory().Stats().Limit/lentShare)
}

// lend gets c memory for n bytes that the host is to send or to take. If there is none c waits, and Run tries again.
func (q *queue) lend(c *command, n uint32) bool {
	l := &q.lent
	if l.bytes+int(n) > l.bytesMax && l.bytes > 0 || l.first != nil && l.serving != c {
		c.nextOf, c.waits = nil, true
		switch {
		case l.first == nil:
			l.first, l.last = c, c
		case l.serving == c: // it keeps its place
			c.nextOf, l.first = l.first, c
		default:
			l.last.nextOf, l.last = c, c
		}
		return false
	}
	if c.data = q.r.Memory().Get(int(n)); c.data == nil {
		q.r.Memory().Await(&c.wait, c)
		return false
	}
	c.lent = n
	l.bytes += int(n)
	return true
}

// lendCapsule gets c memory for data that arrives in its capsule. If there is none the connection has to wait.
func (q *queue) lendCapsule(c *command) bool {
	if c.data = q.r.Memory().Get(int(c.transfer)); c.data != nil {
		return true
	}
	for i := range q.lent.spares {
		s := &q.lent.spares[i]
		if s.out {
			continue
		}
		if s.b == nil {
			s.b = make([]byte, q.pg.target.capsuleBytes(q.id))
		}
		if int(c.transfer) <= len(s.b) {
			c.data, s.out = s.b[:c.transfer], true
			return true
		}
	}
	return false
}

// putSpare takes b back if it is of a spare.
func (l *lending) putSpare(b []byte) bool {
	for i := range l.spares {
		if s := &l.spares[i]; s.out && &s.b[0] == &b[0] {
			s.out = false
			return true
		}
	}
	return false
}

// giveBack takes c's memory, if it has any, and wakes those who wait for it.
func (q *queue) giveBack(c *command) {
	if c.data == nil {
		return
	}
	b := c.data
	c.data = nil
	if c.borrows {
		return
	}
	l := &q.lent
	if l.putSpare(b) {
		q.t.resume()
	} else {
		q.r.Memory().Put(b)
	}
	l.bytes -= int(c.lent)
	c.lent = 0
	if l.first != nil && !l.waking.Queued() {
		q.r.Defer(&l.waking, (*lendAgain)(q))
	}
}

type lendAgain queue

// Run gives those who wait their turn, in the order in which they came, as long as there is something for them.
func (w *lendAgain) Run() {
	q := (*queue)(w)
	l := &q.lent
	for n := q.open; n > 0 && l.first != nil; n-- {
		c := l.first
		q.forget(c)
		l.serving = c
		c.Run()
		l.serving = nil
		if c.waits {
			return
		}
	}
}

// forget takes c out of those who wait for memory, and reports whether it waited.
func (q *queue) forget(c *command) bool {
	if !c.waits {
		return q.r.Memory().Forget(&c.wait)
	}
	l := &q.lent
	var before *command
	for p := l.first; p != c; p = p.nextOf {
		before = p
	}
	if before == nil {
		l.first = c.nextOf
	} else {
		before.nextOf = c.nextOf
	}
	if l.last == c {
		l.last = before
	}
	c.nextOf, c.waits = nil, false
	return true
}
