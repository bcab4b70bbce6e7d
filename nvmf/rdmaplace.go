package nvmf

import (
	"net/netip"
	"slices"
	"sync/atomic"
)

// This file is the reactor of an I/O queue over RDMA, which is chosen as placement.go says when its connection is offered: a queue pair cannot move, and hosts make
// the connections of all queues before the first Connect says whose they are.
//
// Known by then are the host's address, the queue's identifier and, from newer hosts, its controller's, which is unique in its subsystem only. So
// queues of one address and one CNTLID are taken for those of one controller as long as they have different identifiers: a queue that is there already is
// another controller's. Hosts that make the queues of one controller after another's, as they do when they attach them, are understood
// rightly whatever they say; where several controllers come back at once that look alike, their queues spread together.

// rdmaPlace is where a connection of an I/O queue is.
type rdmaPlace struct {
	qid     QID
	reactor int
	gone    atomic.Bool // it has ended, or never began
}

// rdmaFamily is queues that are taken for those of one controller.
type rdmaFamily struct {
	from   netip.Addr
	cntlid CNTLID // 0 if the host does not say it
	queues []*rdmaPlace
}

// rdmaFamilies is those of a target, the newest last. Only who judges offers touches it: one after the other.
type rdmaFamilies []*rdmaFamily

// place chooses the reactor of a queue that the host at an address asks for.
func (all *rdmaFamilies) place(from netip.Addr, r RDMARequest, loads []reactorLoad) *rdmaPlace {
	f := all.of(from, r)
	for _, p := range f.queues {
		loads[p.reactor].own++
	}
	p := &rdmaPlace{qid: r.QID, reactor: place(loads, int(r.CNTLID)+int(r.QID)-1)}
	f.queues = append(f.queues, p)
	return p
}

// of finds the queue's family, and forgets those that are gone.
func (all *rdmaFamilies) of(from netip.Addr, r RDMARequest) *rdmaFamily {
	*all = slices.DeleteFunc(*all, func(f *rdmaFamily) bool {
		f.queues = slices.DeleteFunc(f.queues, func(p *rdmaPlace) bool { return p.gone.Load() })
		return len(f.queues) == 0
	})
	for _, f := range slices.Backward(*all) {
		if f.from == from && f.cntlid == r.CNTLID && !slices.ContainsFunc(f.queues, func(p *rdmaPlace) bool { return p.qid == r.QID }) {
			return f
		}
	}
	f := &rdmaFamily{from: from, cntlid: r.CNTLID}
	*all = append(*all, f)
	return f
}
