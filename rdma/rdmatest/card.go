package rdmatest

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/rdma"
)

// card is rdma.Verbs. All that is made on it is of one protection domain.
type card struct {
	f         *Fabric
	p         *Provider
	address   netip.Addr
	info      rdma.CardInfo
	removed   bool
	connected bool // its port is up
	heard     [8]byte
}

func (c *card) Info() rdma.CardInfo {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	i := c.info
	if !c.connected {
		i.MTU = 0
	}
	return i
}

// usable says why nothing can be made on a card.
func (c *card) usable(what string) error {
	if c.removed {
		return fmt.Errorf("rdmatest: %s on %s, which was removed: %w", what, c.info.Name, unix.EIO)
	}
	return nil
}
