package initiator

import (
	"context"
	"errors"
	"fmt"

	"github.com/pollux-storage/pollux/rdma"
)

// This file is the initiator's own use of the RDMA cards. It is apart from a target's: the keys by which others reach the memory of this engine
// are made with it, so an engine that attaches nothing over RDMA has none.

// rdmaCards is guarded by the initiator's lock.
type rdmaCards struct {
	open     func() (rdma.Provider, error) // nil: there is none
	provider rdma.Provider
	net      *rdma.Net // nil before the first controller over RDMA
}

// UseRDMA gives the initiator the way to cards, which it asks for when a controller is first attached over RDMA. Then Close is needed.
func (i *Initiator) UseRDMA(open func() (rdma.Provider, error)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.rdma.open = open
}

// RDMA gives the net by which Options with TrType RDMA connect.
func (i *Initiator) RDMA() (*rdma.Net, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	c := &i.rdma
	switch {
	case c.net != nil:
		return c.net, nil
	case c.open == nil:
		return nil, fmt.Errorf("%w: nothing was set up for it", rdma.ErrUnavailable)
	}
	p, err := c.open()
	if err != nil {
		return nil, err
	}
	n, err := rdma.New(i.registry.Group(), p, i.log)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	c.provider, c.net = p, n
	return n, nil
}

// RDMAStats counts what cards do for controllers, by reactor.
func (i *Initiator) RDMAStats() []rdma.Stats {
	i.mu.Lock()
	n := i.rdma.net
	i.mu.Unlock()
	if n == nil {
		return nil
	}
	return n.Stats()
}

// Close gives the cards back. Every controller has been detached.
func (i *Initiator) Close(ctx context.Context) error {
	i.mu.Lock()
	c := i.rdma
	i.rdma = rdmaCards{open: c.open}
	i.mu.Unlock()
	if c.net == nil {
		return nil
	}
	if err := c.net.Close(ctx); err != nil {
		return err
	}
	return c.provider.Close()
}
