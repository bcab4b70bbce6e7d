package rdmatest

import (
	"cmp"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/rdma"
)

// Options are what a provider's cards are like. A zero means what is said with each.
type Options struct {
	Cards int // 1
	// Addresses are those of the cards, one each: 127.0.0.1, 127.0.0.2 and so on. All others are the first card's.
	Addresses []netip.Addr

	QPDepthMax int // 4096
	SGEsMax    int // rdma.SGEsMax
	CQDepthMax int // 65536
	SRQDepth   int // none: the cards have no shared receive queues
	ReadsIn    int // 16
	ReadsOut   int // 16
	InlineMax  int // 256; less than 0: none
	MTU        int // 4096

	ExactPrivate     bool // private data arrive as long as they were sent: RoCE and InfiniBand pad them with zeros
	NoSendInvalidate bool // they cannot send so that a key of the peer's is invalidated
	NoInvalidate     bool // a peer cannot invalidate registered memory: so do cards with what ibv_reg_mr has registered
}

// Provider is one user of a fabric's.
type Provider struct {
	f      *Fabric
	name   string
	o      Options
	cards  []*card
	cms    []*manager
	closed bool

	run    []*queuePair // with work to carry out
	parked []*queuePair // whose next work is withheld
	wounds
}

// Provider connects cards to the fabric.
func (f *Fabric) Provider(name string, o Options) *Provider {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &Provider{f: f, name: name, o: o}
	for i := range cmp.Or(o.Cards, 1) {
		c := &card{f: f, p: p, address: netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + i)}), connected: true}
		if i < len(o.Addresses) {
			c.address = o.Addresses[i].Unmap()
		}
		c.info = rdma.CardInfo{
			Name:        fmt.Sprintf("%s%d", name, i),
			GUID:        uint64(len(f.providers)+1)<<8 | uint64(i),
			QPDepthMax:  cmp.Or(o.QPDepthMax, 4096),
			SGEsMax:     cmp.Or(o.SGEsMax, rdma.SGEsMax),
			CQDepthMax:  cmp.Or(o.CQDepthMax, 65536),
			SRQDepth:    o.SRQDepth,
			ReadsIn:     cmp.Or(o.ReadsIn, 16),
			ReadsOut:    cmp.Or(o.ReadsOut, 16),
			InlineMax:   max(0, cmp.Or(o.InlineMax, 256)),
			MTU:         cmp.Or(o.MTU, 4096),
			Ethernet:    true,
			Invalidates: !o.NoSendInvalidate,
		}
		c.news.L = &f.mu
		p.cards = append(p.cards, c)
	}
	f.providers = append(f.providers, p)
	return p
}

// Name is as it was given.
func (p *Provider) Name() string { return p.name }

// Cards lists the cards that were not removed.
func (p *Provider) Cards() ([]rdma.Verbs, error) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	var v []rdma.Verbs
	for _, c := range p.cards {
		if !c.removed {
			v = append(v, c)
		}
	}
	return v, nil
}

// Close says what is left, if anything is.
func (p *Provider) Close() error {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	if a := p.f.alive(p); a != (Alive{}) {
		return fmt.Errorf("rdmatest: closing %s, of which there are still %s: %w", p.name, a, unix.EBUSY)
	}
	p.closed = true
	for _, c := range p.cards {
		c.news.Broadcast()
	}
	return nil
}

// cardOf is the card with an address.
func (p *Provider) cardOf(a netip.Addr) *card {
	for _, c := range p.cards {
		if c.address == a {
			return c
		}
	}
	return p.cards[0]
}
