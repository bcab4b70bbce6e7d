package initiator

import (
	"context"

	"github.com/pollux-storage/pollux/rdma"
)

// This file is the initiator's own use of the RDMA cards. It is apart from a target's: the keys by which others reach the memory of this engine
// are made with it, so an engine that attaches nothing over RDMA has none.

// rdmaCards is guarded by the initiator's lock.
type rdmaCards struct {
	open func() (rdma.Provider, error) // nil: there is none
	net  *rdma.Net                     // nil before the first controller over RDMA
}

// UseRDMA gives the initiator the way to cards, which it asks for when a controller is first attached over RDMA. Then Close is needed.
func (i *Initiator) UseRDMA(open func() (rdma.Provider, error)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.rdma.open = open
}

// RDMA gives the net by which Options with TrType RDMA connect.
func (i *Initiator) RDMA() (n *rdma.Net, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.rdma.net == nil {
		i.rdma.net, err = rdma.Open(i.registry.Group(), i.rdma.open, i.log)
	}
	return i.rdma.net, err
}

// RDMAStats counts what cards do for controllers, by reactor.
func (i *Initiator) RDMAStats() []rdma.Stats {
	i.mu.Lock()
	n := i.rdma.net
	i.mu.Unlock()
	return n.Stats()
}

// Close gives the cards back. Every controller has been detached. What could not be given back stays, for another try.
func (i *Initiator) Close(ctx context.Context) error {
	i.mu.Lock()
	n := i.rdma.net
	i.mu.Unlock()
	if n == nil {
		return nil
	}
	err := n.Close(ctx)
	if err == nil {
		i.mu.Lock()
		i.rdma.net = nil
		i.mu.Unlock()
	}
	return err
}
