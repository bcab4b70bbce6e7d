package bdev

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/reactor"
)

// Part is a slice of a device. Parts of one device share their claim on it and do not overlap.
type Part struct {
	*base
	first, blocks uint64
}

// PartOptions say which slice a part is.
type PartOptions struct {
	First, Blocks uint64 // blocks of the device below
	UUID          uuid.UUID
}

const partShare = "parts"

// NewPart registers a slice of the device below.
func NewPart(g *Registry, name, below string, o PartOptions) (*Device, error) {
	b, err := g.stand(below, "part "+name, partShare, false)
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	d, err := raisePart(b, name, o)
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	return d, nil
}

func raisePart(b *base, name string, o PartOptions) (*Device, error) {
	geometry := b.geometry()
	if o.Blocks == 0 || o.First > geometry.Blocks || o.Blocks > geometry.Blocks-o.First {
		b.h.Close()
		return nil, fmt.Errorf("%w: %d blocks from %d on of %s, which has %d", ErrInvalid, o.Blocks, o.First, b.Base().Name(), geometry.Blocks)
	}
	if geometry.OptimalBlocks > 0 && o.First%uint64(geometry.OptimalBlocks) != 0 {
		geometry.OptimalBlocks = 0
	}
	if o.First<<geometry.Shift()%uint64(geometry.PhysicalBlockSize) != 0 {
		geometry.PhysicalBlockSize = geometry.BlockSize
	}
	geometry.Blocks = o.Blocks
	b.g.parts.Lock() // two that overlap are not made at once
	defer b.g.parts.Unlock()
	for _, other := range Parts(b.Base()) {
		if p := other.driver.(*Part); o.First < p.first+p.blocks && p.first < o.First+o.Blocks {
			b.h.Close()
			return nil, fmt.Errorf("%w: it would overlap part %s", ErrClaimed, other.Name())
		}
	}
	return b.raise(Config{
		Name: name, Product: "Split Disk", UUID: derived(o.UUID, b.Base(), fmt.Sprintf("part %d", o.First)),
		Driver: &Part{b, o.First, o.Blocks}, Geometry: geometry,
	})
}

// Parts lists the parts of a device.
func Parts(below *Device) []*Device {
	var out []*Device
	for _, d := range below.registry.Devices() {
		if p, ok := d.driver.(*Part); ok && p.Base() == below {
			out = append(out, d)
		}
	}
	return out
}

// NewSplit divides a device into count parts named after it, p0 and on, of equal size: sizeBytes, or 0 for all there is.
// When the device has no room for so many, there are as many as there is room for.
func NewSplit(g *Registry, below string, count int, sizeBytes uint64) ([]*Device, error) {
	d, err := g.Lookup(below)
	if err != nil {
		return nil, fmt.Errorf("splitting %s: %w", below, err)
	}
	geometry := d.Geometry()
	if count <= 0 {
		return nil, fmt.Errorf("splitting %s into %d parts: %w", below, count, ErrInvalid)
	}
	size := sizeBytes >> geometry.Shift()
	if sizeBytes == 0 {
		size = geometry.Blocks / uint64(count)
	}
	if o := uint64(geometry.OptimalBlocks); o > 1 && size > o {
		size -= size % o
	}
	if size == 0 || size > geometry.Blocks || sizeBytes%uint64(geometry.BlockSize) != 0 {
		return nil, fmt.Errorf("splitting %s into %d parts of %d bytes: %w: it has %d blocks of %d bytes", below, count, sizeBytes, ErrInvalid, geometry.Blocks, geometry.BlockSize)
	}
	count = int(min(uint64(count), geometry.Blocks/size))
	var out []*Device
	for i := range count {
		p, err := NewPart(g, fmt.Sprintf("%sp%d", d.Name(), i), d.Name(), PartOptions{First: uint64(i) * size, Blocks: size})
		if err != nil {
			for _, p := range out {
				err = errors.Join(err, g.Unregister(context.Background(), p.Name()))
			}
			return nil, fmt.Errorf("splitting %s: %w", below, err)
		}
		out = append(out, p)
	}
	return out, nil
}

// RemoveSplit removes all parts of a device.
func RemoveSplit(ctx context.Context, g *Registry, below string) error {
	d, err := g.Lookup(below)
	if err != nil {
		return fmt.Errorf("removing the parts of %s: %w", below, err)
	}
	parts := Parts(d)
	if len(parts) == 0 {
		return fmt.Errorf("removing the parts of %s: %w: it has none", below, ErrNotFound)
	}
	for _, p := range parts {
		err = errors.Join(err, g.Unregister(ctx, p.Name()))
	}
	return err
}

// First is the part's first block on the device below.
func (p *Part) First() uint64 { return p.first }

// Describe tells what it is a part of.
func (p *Part) Describe() any {
	return map[string]any{"split": map[string]any{"base_bdev": p.Base().Name(), "offset_blocks": p.first}}
}

// Open gives the queue of one reactor.
func (p *Part) Open(r *reactor.Reactor) (Queue, error) {
	b, err := p.open(r)
	return &partQueue{b, p.first}, err
}

type partQueue struct {
	below
	first uint64
}

func (c *partQueue) Submit(q *Request) {
	if q.Kind != Flush {
		q.LBA += c.first
		q.LBA2 += c.first
	}
	c.c.Submit(q)
}
