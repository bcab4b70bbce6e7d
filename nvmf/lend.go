package nvmf

import "github.com/pollux-storage/pollux/reactor"

// This file is the memory of commands: who gets some of the reactor's pool, and who waits.
//
// A host decides how long memory is out that waits for its data, or for it to take data: if it stalls, until its connection ends. Hosts
// that stall must not take what others need, however many they are:
//
//   - A queue may have one command's memory, and beyond it a share of what is free then. Each that stalls takes less than the one
//     before it, and none takes from the last part of the pool, which is for queues that have nothing.
//   - Beyond it a command waits in its own queue, for that queue's memory, and other queues go on.
//   - While somebody waits for the pool, hosts that stall lose their connections after a few seconds in place of thirty.
//
// Data in a capsule is different: while it waits for memory, so does the whole connection, and with it the data of earlier
// writes that hold memory. If that is all of the pool, they would wait for each other for ever. So a queue has room for such
// writes beside the pool, which comes back whatever the host does: for one, and for another while the first of a fused pair holds
// that one and waits for the second.

// lentShare is the part of what is free that one queue may have, and of the pool what is kept for queues that have nothing.
const (
	lentShare = 8
	lentLast  = 4
)

// lending is what a queue has of the pool, and who waits for it to have less.
type lending struct {
	bytes       int
	kept        int      // of the pool, for queues that have nothing
	first, last *command // those who wait
	serving     *command // whose turn it is
	waking      reactor.Deferred

	spares [2]spare
}

// spare is room for one write in its capsule, made when first needed.
type spare struct {
	b   []byte
	out bool
}

func (l *lending) init(r *reactor.Reactor) {
	l.kept = r.Memory().Stats().Limit / lentLast
}

// may reports whether the queue may have n bytes more, of free ones.
func (l *lending) may(n, free int) bool {
	return l.bytes == 0 || free-n >= l.kept && l.bytes+n <= free/lentShare
}

// lend gets c memory for n bytes that the host is to send or to take. If there is none c waits, and Run tries again.
func (q *queue) lend(c *command, n uint32) bool {
	l := &q.lent
	if !l.may(int(n), q.r.Memory().Free()) || l.first != nil && l.serving != c {
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
		q.await(c, c)
		return false
	}
	c.lent = n
	l.bytes += int(n)
	c.mark(TraceMemory)
	return true
}

// await lets run run when c may have the memory that the pool has just refused.
func (q *queue) await(c *command, run reactor.Runner) {
	q.r.Memory().Await(&c.wait, run)
	if pg := q.pg; !pg.want.Set() {
		q.r.SetTimer(&pg.want, q.r.Now()+patience.wanted, (*wanted)(pg))
	}
}

// wanted looks for hosts that stall, as long as somebody waits for the pool.
type wanted pollGroup

func (w *wanted) Run() {
	pg := (*pollGroup)(w)
	if pg.r.Memory().Stats().Waiting == 0 {
		return
	}
	now := pg.r.Now()
	var next *queue
	for q := pg.queues; q != nil; q = next {
		next = q.next
		if q.state < queueClosing && q.lent.bytes > 0 && q.t.stalls(now-patience.wanted) {
			pg.target.log.Warn("a host neither sends what it was asked for nor takes what it is sent, and others want the memory: its connection ends",
				"host", q.hostNQN(), "queue", q.id, "bytes", q.lent.bytes)
			q.close()
		}
	}
	pg.r.SetTimer(&pg.want, now+patience.wanted, w)
}

// lendCapsule gets c memory for data that arrives in its capsule. If there is none the connection has to wait.
func (q *queue) lendCapsule(c *command) bool {
	if c.data = q.r.Memory().Get(int(c.transfer)); c.data != nil {
		c.mark(TraceMemory)
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
			c.mark(TraceMemory)
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
