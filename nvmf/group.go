package nvmf

import "github.com/pollux-storage/pollux/reactor"

// This file is a reactor's share of the target, the poll group of SPDK: the queues on it, and what it knows of each subsystem.

// pollGroup is the target on one reactor. It is touched there alone.
type pollGroup struct {
	target *Target
	r      *reactor.Reactor

	shares map[*Subsystem]*subsystemShare
	byNQN  map[string]*subsystemShare

	discovery *discoveryView

	foundBytes int // of discovery pages that are kept for hosts

	lender reactor.Lender

	queues *queue // a list of all
	count  int
	trace  *tracer // nil as long as nobody looks closely at commands

	stopping bool   // no queue is made here any more
	stop     func() // hears once that the last queue has closed, while the target stops

	faults, refused, denied uint64 // connections ended for a protocol error; Connects refused; for their host
	authFailures            uint64 // authentications that failed
	served                  uint64 // commands of queues that have closed
	adminMade, ioMade       uint64 // queues made
	movedIn, movedOut       uint64 // queues that came from another reactor, and that went to one
}

func (pg *pollGroup) add(q *queue) {
	q.next, q.prev = pg.queues, nil
	if q.next != nil {
		q.next.prev = q
	}
	pg.queues = q
	pg.count++
}

// queueClosed forgets a queue of which nothing is left, and tells who waits for that.
func (pg *pollGroup) queueClosed(q *queue) {
	if q.prev != nil {
		q.prev.next = q.next
	} else {
		pg.queues = q.next
	}
	if q.next != nil {
		q.next.prev = q.prev
	}
	pg.count--
	pg.served += q.after
	if q.sub != nil {
		q.sub.detach(q)
	}
	switch {
	case q.ctrl != nil:
		q.ctrl.adminGone()
	case q.link != nil:
		q.link.q = nil
		pg.send(q.link.owner, &q.link.gone)
	}
	if pg.count == 0 && pg.stop != nil {
		pg.stop()
		pg.stop = nil
	}
}

// send hands a message to a reactor, which may be this one.
func (pg *pollGroup) send(to *reactor.Reactor, m reactor.Message) {
	if to == pg.r {
		m.Receive(to)
		return
	}
	pg.r.Send(to, m)
}

// unknownSubsystem is the answer to a Connect to a subsystem that is not here. While the target stops, hosts are to try
// again: it may be back at once.
func (pg *pollGroup) unknownSubsystem() Status {
	if pg.target.stopping.Load() {
		return StatusConnectBusy
	}
	return StatusConnectParameters | DNR
}

// install takes over a subsystem's new view, nil when it is deleted.
func (pg *pollGroup) install(s *Subsystem, v *subsystemView) {
	share := pg.shares[s]
	if v == nil {
		if share == nil {
			return
		}
		delete(pg.byNQN, s.o.NQN)
		delete(pg.shares, s)
		return
	}
	if share == nil {
		share = &subsystemShare{pg: pg, sub: s, nextCNTLID: s.o.MinCNTLID}
		if s.owner == pg.r.Index() {
			share.controllers = map[CNTLID]*controller{}
		}
		pg.shares[s], pg.byNQN[s.o.NQN] = share, share
		if s.discovery {
			pg.byNQN[pg.target.discoveryNQN] = share
		}
	}
	share.install(v)
}

// discoveryChanged tells the discovery controllers on this reactor.
func (pg *pollGroup) discoveryChanged() {
	if share := pg.byNQN[DiscoveryNQN]; share != nil {
		for _, k := range share.sortedControllers() {
			k.events.raise(k, eventDiscovery)
		}
	}
}
