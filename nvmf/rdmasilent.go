package nvmf

import (
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is which answers the card tells of when they have left. Of a host that has one command answered after the other most leave in silence, and
// the next that is told of tells of those before it: a queue pair completes what it was given in order (InfiniBand Architecture Specification
// 1.4, volume 1, section 10.8.6, "Unsignaled Completions"). What is not told wakes nobody, so that a reactor that sleeps is woken once for a command, and not again
// because the host has its answer.
//
// Until then those commands keep their slots and their memory. So it is for small ones, for no more than there are slots beside the entries, and where memory is
// not short; and in time a write of nothing is sent behind the last one, which tells.

const (
	silentMax   = 8                        // answers in silence
	silentBytes = 16 << 10                 // most data of one
	silentEnd   = 50 * reactor.Millisecond // until they are asked for
	silentFree  = 4 << 20                  // least memory that the pool still has
)

// silence is the answers of a queue that have left in silence.
type silence struct {
	last  *command      // each knows the one before (rdmaSlot.next)
	count int           // of them
	at    reactor.Ticks // of the last answer, told or not
	asked *command      // those of whom a write of nothing tells, which is on the card
	timer reactor.Timer // as long as there may be some
}

// silent decides whether c's answer leaves in silence, with those before it; else it tells of them.
func (t *rdmaQueue) silent(c *command) bool {
	q, now := &t.silence, t.r.Now()
	soon := now-q.at < patience.soon
	q.at, t.slot(c).next = now, q.last
	beside := len(t.commands) - int(t.entries)
	if t.place == nil || !soon || c.trace != nil || c.send+c.transfer > silentBytes || q.count >= min(silentMax, beside/2) ||
		t.q.Posted() > t.sends/2 || t.r.Memory().Free() < silentFree {
		q.last, q.count = nil, 0
		return false
	}
	q.last = c
	q.count++
	if !q.timer.Set() {
		t.r.SetTimer(&q.timer, now+silentEnd, (*rdmaSilent)(t))
	}
	return true
}

// told ends a command whose answer has left, and those before it.
func (t *rdmaQueue) told(c *command) {
	for c != nil {
		before := t.slot(c).next
		t.release(c)
		c = before
	}
}

// rdmaSilent asks for those that nothing has told of yet. Whether more follow is not looked at: a queue on which answers leave in silence has some 25 of them and
// more in this time, beside which one completion is little.
type rdmaSilent rdmaQueue

func (m *rdmaSilent) Run() {
	t := (*rdmaQueue)(m)
	q := &t.silence
	if q.last == nil {
		return
	}
	if q.asked != nil || t.q.Posted() == t.sends {
		t.r.SetTimer(&q.timer, t.r.Now()+silentEnd, m)
		return
	}
	q.asked, q.last, q.count = q.last, nil, 0
	t.q.Post(&rdma.SendWR{ID: rdmaNothing, Opcode: rdma.OpWrite, Flags: rdma.Signaled})
}

// answered hears that the write of nothing has left.
func (q *silence) answered() (c *command) {
	invariant.Check(q.asked != nil, "nvmf: a write of nothing has left that was not sent")
	c, q.asked = q.asked, nil
	return c
}
