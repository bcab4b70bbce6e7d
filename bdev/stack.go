package bdev

import (
	"context"
	"sync"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is what devices that stand on one other have in common: they claim it, go when it goes, and give its requests
// back to it.

// base is the device below. A driver that embeds it has all of Driver but Describe.
type base struct {
	g      *Registry
	h      *Handle
	follow bool // the device above has its size

	mu    sync.Mutex
	above *Device
	lost  bool // it was removed before there was one above
}

// stand claims the device below, for a device that is about to be made.
func (g *Registry) stand(below, who, share string, follow bool) (*base, error) {
	b := &base{g: g, follow: follow}
	h, err := g.Open(below, OpenOptions{Who: who, Claim: true, Share: share, Event: b.event})
	if err != nil {
		return nil, err
	}
	b.h = h
	return b, nil
}

// raise registers the device above. On an error the claim below is given back.
func (b *base) raise(cfg Config) (*Device, error) {
	below := b.h.Device()
	cfg.Layers = below.Layers() + 1
	d, err := b.g.Register(cfg)
	if err != nil {
		b.h.Close()
		return nil, err
	}
	b.mu.Lock()
	b.above = d
	lost := b.lost
	b.mu.Unlock()
	if lost {
		b.remove(d)
	} else if b.follow { // it may have been resized meanwhile
		if err := d.Resize(below.Geometry().Blocks); err != nil {
			b.remove(d)
			return nil, err
		}
	}
	return d, nil
}

// event hears of the device below.
func (b *base) event(e Event) {
	b.mu.Lock()
	d := b.above
	if d == nil && e.Kind == Removing {
		b.lost = true
	}
	b.mu.Unlock()
	switch {
	case d == nil:
	case e.Kind == Removing:
		b.remove(d)
	case e.Kind == LowSpace:
		d.TellLowSpace()
	case e.Kind == Resized && b.follow:
		_ = d.Resize(e.Device.Geometry().Blocks) // a size that is valid below is valid above
	}
}

// remove lets the device above go. Its users have the time that removals give them, and nobody waits for it here.
func (b *base) remove(d *Device) {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	_ = b.g.Unregister(now, d.name)
}

// Base is the device below.
func (b *base) Base() *Device { return b.h.Device() }

// Close gives the device below back.
func (b *base) Close() error {
	b.h.Close()
	return nil
}

// geometry is that of a device which passes everything on: what the one below serves, by itself or by emulation, is native
// above, so that each emulation happens once and as far down as it can, where it sees all users.
func (b *base) geometry() Geometry {
	g := b.h.Device().Geometry()
	g.Native = g.Supported() &^ SetOf(Reset)
	g.NativeFUA = g.Native
	return g
}

// derived is a name's UUID on a device: the same again whenever both come back.
func derived(id uuid.UUID, below *Device, name string) uuid.UUID {
	if id != uuid.Nil {
		return id
	}
	return uuid.NewSHA1(below.UUID(), []byte(name))
}

// below is the queue's side of base.
type below struct{ c *Channel }

func (b *base) open(r *reactor.Reactor) (below, error) {
	c, err := b.h.Channel(r)
	return below{c}, err
}

func (b *below) Close() { b.c.Close() }
