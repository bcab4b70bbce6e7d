package bdev

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is a device made of several: striped over them, or one after the other. There is no copy of anything: when one member
// goes, the whole device goes, and who uses it hears that it is gone.

// Stripe is such a device.
type Stripe struct {
	g       *Registry
	level   StripeLevel
	layout  stripeMap
	blocks  uint32 // of a strip
	members []*Handle
	sizes   []uint64 // blocks in use of each member

	mu    sync.Mutex
	above *Device
	lost  bool // a member was removed before there was a device
}

// StripeLevel is how members are joined.
type StripeLevel uint8

// The levels, with SPDK's names for them.
const (
	StripeRAID0  StripeLevel = iota // strips on one member after the other
	StripeConcat                    // all of one member, then all of the next
)

// String gives SPDK's name.
func (l StripeLevel) String() string {
	if l == StripeConcat {
		return "concat"
	}
	return "raid0"
}

// StripeOptions say how members are joined.
type StripeOptions struct {
	Level      StripeLevel
	Members    []string // in order
	StripBytes uint64   // a power of two, at least a block; of each member whole strips are used
	UUID       uuid.UUID
}

// stripeMembersMax is the most members, that of SPDK: RPC_MAX_BASE_BDEVS in module/bdev/raid/bdev_raid_rpc.c.
const stripeMembersMax = 255

// NewStripe registers name, which stands on the members together. Their sizes now are what it has for good: it does not follow
// when one is resized.
func NewStripe(g *Registry, name string, o StripeOptions) (*Device, error) {
	d, err := newStripe(g, name, o)
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	return d, nil
}

func newStripe(g *Registry, name string, o StripeOptions) (*Device, error) {
	if n := len(o.Members); n == 0 || n > stripeMembersMax {
		return nil, fmt.Errorf("%w: %d devices below it: from 1 to %d", ErrInvalid, n, stripeMembersMax)
	}
	s := &Stripe{g: g, level: o.Level}
	for _, below := range o.Members {
		h, err := g.Open(below, OpenOptions{Who: "stripe " + name, Claim: true, Event: s.event})
		if err != nil {
			_ = s.Close()
			return nil, err
		}
		s.members = append(s.members, h)
	}
	geometry, layers, err := s.join(o.StripBytes)
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	d, err := g.Register(Config{
		Name: name, Product: "Raid Volume", UUID: derived(o.UUID, s.members[0].Device(), "stripe "+name), Layers: layers,
		Geometry: geometry, Driver: s,
	})
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	s.mu.Lock()
	s.above = d
	lost := s.lost
	s.mu.Unlock()
	if lost {
		s.remove(d)
	}
	return d, nil
}

// join makes one geometry of the members', and the layout.
func (s *Stripe) join(stripBytes uint64) (g Geometry, layers int, err error) {
	for i, h := range s.members {
		d := h.Device()
		layers = max(layers, d.Layers()+1)
		one := d.Geometry()
		one.Native = one.Supported()
		if i == 0 {
			g = one
			continue
		}
		if one.BlockSize != g.BlockSize {
			return g, 0, fmt.Errorf("%w: %s has blocks of %d bytes, %s of %d: they must be the same",
				ErrInvalid, s.members[0].Device().Name(), g.BlockSize, d.Name(), one.BlockSize)
		}
		g.PhysicalBlockSize = max(g.PhysicalBlockSize, one.PhysicalBlockSize)
		g.MaxBlocks = min(g.MaxBlocks, one.MaxBlocks)
		g.Native &= one.Native
		g.Volatile = g.Volatile || one.Volatile
		g.UnmapZeroes = g.UnmapZeroes && one.UnmapZeroes
		g.ReadOnly = g.ReadOnly || one.ReadOnly
		g.LowSpace = max(g.LowSpace, one.LowSpace)
	}
	if stripBytes < uint64(g.BlockSize) || stripBytes&(stripBytes-1) != 0 || stripBytes>>g.Shift() > math.MaxUint32 {
		return g, 0, fmt.Errorf("%w: strips of %d bytes: a power of two, and at least a block of %d bytes", ErrInvalid, stripBytes, g.BlockSize)
	}
	s.blocks = uint32(stripBytes >> g.Shift())
	if err := s.lay(&g); err != nil {
		return g, 0, err
	}
	// Those that need two places at once are the channel's.
	g.Native &= SetOf(Read, Write, Flush, Unmap, WriteZeroes, Compare, Extent)
	g.NativeFUA = g.Native
	g.AtomicBlocks = 1 // a write may lie on two members
	g.MemoryAlign = 1  // each member looks after the pieces that it gets
	if uint64(g.PhysicalBlockSize) > stripBytes {
		g.PhysicalBlockSize = g.BlockSize
	}
	g.OptimalBlocks = 0
	if s.level == StripeRAID0 && len(s.members) > 1 {
		g.OptimalBlocks = s.blocks
	}
	return g, layers, nil
}

// lay decides how much of each member is used, and where.
func (s *Stripe) lay(g *Geometry) error {
	s.layout = stripeMap{members: uint64(len(s.members)), shift: stripeShift(uint64(s.blocks))}
	least := uint64(math.MaxUint64)
	g.Blocks = 0
	for _, h := range s.members {
		below := h.Device().Geometry().Blocks
		size := below >> s.layout.shift << s.layout.shift
		if size == 0 {
			return fmt.Errorf("%w: %s has %d blocks, less than a strip of %d", ErrInvalid, h.Device().Name(), below, s.blocks)
		}
		least = min(least, size)
		s.sizes = append(s.sizes, size)
		if g.Blocks += size; g.Blocks < size {
			return fmt.Errorf("%w: together they have 2^64 blocks or more", ErrInvalid)
		}
		if s.level == StripeConcat {
			s.layout.ends = append(s.layout.ends, g.Blocks)
		}
	}
	if s.level == StripeRAID0 {
		for i := range s.sizes {
			s.sizes[i] = least
		}
		g.Blocks = least * s.layout.members
	}
	return nil
}

// event hears of a member.
func (s *Stripe) event(e Event) {
	s.mu.Lock()
	d := s.above
	s.lost = s.lost || e.Kind == Removing
	s.mu.Unlock()
	switch {
	case d == nil:
	case e.Kind == Removing:
		s.remove(d)
	case e.Kind == LowSpace:
		d.TellLowSpace()
	}
}

// remove lets the device go; nobody waits for it here.
func (s *Stripe) remove(d *Device) {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.g.Unregister(now, d.name)
}

// Level is how the members are joined.
func (s *Stripe) Level() StripeLevel { return s.level }

// StripBlocks is the number of blocks in a strip.
func (s *Stripe) StripBlocks() uint32 { return s.blocks }

// Member is one device below.
type Member struct {
	Device *Device
	Blocks uint64 // in use, from its first on
}

// Members lists them in order.
func (s *Stripe) Members() []Member {
	var out []Member
	for i, h := range s.members {
		out = append(out, Member{h.Device(), s.sizes[i]})
	}
	return out
}

// Describe tells what it is made of, in SPDK's words.
func (s *Stripe) Describe() any {
	var members []map[string]any
	for _, m := range s.Members() {
		members = append(members, map[string]any{
			"name": m.Device.Name(), "uuid": m.Device.UUID().String(), "is_configured": true, "data_offset": 0, "data_size": m.Blocks,
		})
	}
	n, bytes := len(members), uint64(s.blocks)*uint64(s.members[0].Device().Geometry().BlockSize)
	return map[string]any{"raid": map[string]any{
		"raid_level": s.level.String(), "strip_size_kb": bytes >> 10, "state": "online", "superblock": false,
		"num_base_bdevs": n, "num_base_bdevs_discovered": n, "num_base_bdevs_operational": n, "base_bdevs_list": members,
	}}
}

// Open gives the queue of one reactor.
func (s *Stripe) Open(r *reactor.Reactor) (Queue, error) {
	c := &stripeQueue{layout: &s.layout}
	for _, h := range s.members {
		m, err := h.Channel(r)
		if err != nil {
			c.closeMembers()
			return nil, err
		}
		c.members = append(c.members, m)
	}
	c.shift = c.members[0].g.Shift()
	c.prepare()
	return c, nil
}

// Close gives the members back.
func (s *Stripe) Close() error {
	for _, h := range s.members {
		h.Close()
	}
	return nil
}
