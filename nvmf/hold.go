package nvmf

import (
	"fmt"

	"github.com/pollux-storage/pollux/reactor"
)

// This file lets hosts wait until a target has all that it is to serve.
//
// A target comes to be piece by piece: the first subsystem has its listener before the second one is there. A host that comes back to the
// second one by that listener would be told that it does not exist, and Linux removes a controller for good when a Connect is answered with
// DNR (drivers/nvme/host/fabrics.c, nvmf_should_reconnect); one that comes before a namespace is added would lose a disk. So while a
// target holds, an address is listened on as soon as it is given, which tells whether it can be, but no connection is taken. The system
// keeps those that come, and Linux gives a target 10 s to answer on one before it tries anew (drivers/nvme/host/tcp.c,
// nvme_tcp_alloc_queue).
//
// Over RDMA the system keeps no connections: they are taken, and their Connects stay unread.

// Hold lets hosts wait from now on that come by a listener that is added from now on. Serve ends that.
func (t *Target) Hold() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.holding.Store(true)
}

// Serve takes the connections of hosts, those first that wait.
func (t *Target) Serve() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.holding.Store(false)
	for _, p := range t.portals {
		if err := p.door.accept(); err != nil {
			return fmt.Errorf("accepting connections at %v: %w", p.address, err)
		}
	}
	return t.group.Each(func(r *reactor.Reactor) {
		for q := t.groups[r.Index()].queues; q != nil; q = q.next {
			if q.paused && q.state == queueConnecting {
				q.paused = false
				q.expectConnect()
				q.t.resume()
			}
		}
	})
}
