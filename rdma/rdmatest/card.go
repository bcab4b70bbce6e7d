package rdmatest

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

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
	events    []rdma.CardEvent
	news      sync.Cond
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

func (c *card) NextEvent() (rdma.CardEvent, error) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	for len(c.events) == 0 {
		if err := c.usable("waiting for events"); err != nil {
			return rdma.CardEvent{}, err
		}
		c.news.Wait()
	}
	e := c.events[0]
	c.events = slices.Delete(c.events, 0, 1)
	return e, nil
}

// CardEvent lets a card tell something.
func (p *Provider) CardEvent(card int, e rdma.CardEvent) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	p.cards[card].tell(e)
}

// cardEventsMax is how many events wait for who never asks for them. The kernel keeps as many as there is memory for.
const cardEventsMax = 1024

func (c *card) tell(e rdma.CardEvent) {
	if len(c.events) == cardEventsMax {
		c.events = slices.Delete(c.events, 0, 1)
	}
	c.events = append(c.events, e)
	c.news.Signal()
}

// usable says why nothing can be made on a card.
func (c *card) usable(what string) error {
	if c.removed {
		return fmt.Errorf("rdmatest: %s on %s, which was removed: %w", what, c.info.Name, unix.EIO)
	}
	if c.p.closed {
		return fmt.Errorf("rdmatest: %s on %s, whose provider is closed: %w", what, c.info.Name, net.ErrClosed)
	}
	return nil
}
