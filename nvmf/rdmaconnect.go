package nvmf

import (
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the way of a Connect over RDMA (fabrics.go). An I/O queue's connection stays where it is, and its Connect goes to the owner of the subsystem and
// comes back by itself. An Admin queue's goes along, as soon as its queue pair is at rest; at the owner's there is a new queue for it.

// handOver passes the connection's Connect on: an Admin queue goes along, as soon as nothing of it is on the card.
func (t *rdmaQueue) handOver(h *handoff) {
	t.leaving = h
	if t.place != nil {
		h.origin = rdmaFixed{t}
		h.depart(t.pg)
		return
	}
	t.part()
}

// part lets an Admin queue's connection go, as soon as nothing of it is on the card: in a moment, for this may be the call of a completion.
func (t *rdmaQueue) part() {
	if t.leaving != nil && t.place == nil && t.q.Posted() == 0 && !t.parting.Queued() {
		t.r.Defer(&t.parting, (*rdmaParting)(t))
	}
}

type rdmaParting rdmaQueue

// Run takes the connection from this queue.
func (p *rdmaParting) Run() {
	t := (*rdmaQueue)(p)
	h := t.leaving
	if h == nil { // it closes
		return
	}
	t.giveBack(h.command)
	d := t.q.Detach()
	if d == nil {
		return // it has ended, and is about to hear of it
	}
	t.leaving = nil
	h.origin = rdmaMovable{d, t.port, t.depth}
	t.state = queueClosing
	t.r.StopTimer(&t.timer)
	t.release(h.command)
	t.end()
	h.depart(t.pg)
}

// rdmaMovable is an Admin queue's connection on its way to a reactor.
type rdmaMovable struct {
	d     *rdma.Detached
	port  *portal
	depth uint32
}

func (o rdmaMovable) open(pg *pollGroup, id QID, entries uint32) *queue {
	t := newRDMAQueue(pg, o.port, id, o.depth)
	t.queue.entries = entries
	o.d.Attach(pg.r, t.begin)
	return &t.queue
}

func (o rdmaMovable) home() *reactor.Reactor { return nil }

func (o rdmaMovable) entries(id QID) uint32 {
	if id > 0 {
		return 0
	}
	return o.depth
}

func (o rdmaMovable) cpu() int { return -1 }

func (o rdmaMovable) close(*pollGroup) { o.d.Close() }

// rdmaFixed is an I/O queue's connection while its Connect is away.
type rdmaFixed struct{ t *rdmaQueue }

// open lets the queue go on where it is, with the Connect as its first command.
func (o rdmaFixed) open(_ *pollGroup, id QID, entries uint32) *queue {
	t := o.t
	h := t.leaving
	if h == nil {
		return nil
	}
	t.leaving = nil
	t.r.StopTimer(&t.expected)
	t.release(h.command)
	t.id, t.queue.entries = id, entries
	return &t.queue
}

func (o rdmaFixed) home() *reactor.Reactor { return o.t.r }

func (o rdmaFixed) entries(id QID) uint32 {
	if id != o.t.made {
		return 0
	}
	return o.t.depth
}

func (o rdmaFixed) cpu() int { return -1 }

func (o rdmaFixed) close(pg *pollGroup) {
	if pg == o.t.pg {
		o.t.close()
	}
}

// rest has nothing to do: a queue over RDMA does not move.
func (t *rdmaQueue) rest() bool {
	invariant.Check(t.move == nil, "nvmf: a queue over RDMA moves")
	return false
}

func (t *rdmaQueue) detach() origin {
	invariant.Check(false, "nvmf: a queue over RDMA is to move")
	return nil
}
