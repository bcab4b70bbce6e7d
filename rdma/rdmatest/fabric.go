package rdmatest

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/pollux-storage/pollux/rdma"
)

// Fabric is what the cards of its providers are connected by.
type Fabric struct {
	mu        sync.Mutex
	providers []*Provider
	qps       table[queuePair]
	cqs       table[completionQueue]
	srqs      table[receiveQueue]
	ids       table[ident]
	regions   table[region]

	listeners map[netip.AddrPort]*ident
	port      uint16 // the last that was given
	number    uint32 // the last queue pair's
	rnr       []*queuePair
	watch     bool

	background bool
	work       sync.Cond // with background
	ended      chan struct{}
}

// NewFabric makes a fabric that nothing is connected to.
func NewFabric() *Fabric {
	f := &Fabric{listeners: map[netip.AddrPort]*ident{}, port: 49151, number: 0x10}
	f.work.L = &f.mu
	f.qps.kind, f.qps.what = 1, "queue pair"
	f.cqs.kind, f.cqs.what = 2, "completion queue"
	f.srqs.kind, f.srqs.what = 3, "shared receive queue"
	f.ids.kind, f.ids.what = 4, "connection or listener"
	f.regions.kind, f.regions.what = 5, "memory region"
	return f
}

// Alive is what was made on a fabric and is not destroyed.
type Alive struct {
	QPs, CQs, SRQs, MRs, IDs, Listeners, CMs int
}

func (a Alive) String() string {
	return fmt.Sprintf("%d queue pairs, %d completion queues, %d shared receive queues, %d memory regions, %d connections, %d listeners, %d connection managers",
		a.QPs, a.CQs, a.SRQs, a.MRs, a.IDs, a.Listeners, a.CMs)
}

// Alive counts what is alive. Its zero value says that nothing leaks.
func (f *Fabric) Alive() Alive {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.alive(nil)
}

// alive counts what is alive of p, or of all if it is nil.
func (f *Fabric) alive(p *Provider) Alive {
	var a Alive
	of := func(c *card) bool { return p == nil || c.p == p }
	f.qps.each(func(q *queuePair) { a.QPs += count(of(q.card)) })
	f.cqs.each(func(q *completionQueue) { a.CQs += count(of(q.card)) })
	f.srqs.each(func(q *receiveQueue) { a.SRQs += count(of(q.card)) })
	f.regions.each(func(m *region) { a.MRs += count(of(m.card)) })
	f.ids.each(func(d *ident) {
		if p == nil || d.cm.p == p {
			a.Listeners += count(d.state == listening)
			a.IDs += count(d.state != listening)
		}
	})
	for _, o := range f.providers {
		if p == nil || o == p {
			a.CMs += len(o.cms)
		}
	}
	return a
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

// freePort is a port that nobody uses.
func (f *Fabric) freePort() uint16 {
	for {
		if f.port++; f.port < 49152 {
			f.port = 49152
		}
		used := false
		f.ids.each(func(d *ident) { used = used || d.local.Port() == f.port })
		if !used {
			return f.port
		}
	}
}

// fault is a mistake of the program that uses the fabric. Cards do anything then.
func fault(format string, a ...any) { panic("rdmatest: " + fmt.Sprintf(format, a...)) }

var _ rdma.Provider = (*Provider)(nil)
var _ rdma.Verbs = (*card)(nil)
var _ rdma.CM = (*manager)(nil)
