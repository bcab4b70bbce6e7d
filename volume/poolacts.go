package volume

import (
	"context"
	"errors"
	"fmt"

	"github.com/pollux-storage/pollux/bdev"
)

// This file is what control changes about a pool.

// Rename gives the pool another name, while its volumes are in use or not.
func (p *Pool) Rename(to string) error {
	p.acts.Lock()
	defer p.acts.Unlock()
	old := p.Name()
	if err := p.rename(to); err != nil {
		return fmt.Errorf("renaming pool %s to %s: %w", old, to, err)
	}
	return nil
}

func (p *Pool) rename(to string) error {
	name, err := MakeName(to)
	if err != nil {
		return err
	}
	if p.gone {
		return ErrPoolGone
	}
	old := p.Name()
	if err := p.setAliases(to); err != nil {
		return errors.Join(err, p.setAliases(old))
	}
	if err := p.change(&commitMessage{rename: &name}); err != nil {
		return errors.Join(err, p.setAliases(old))
	}
	if err := p.twice(); err != nil {
		return err
	}
	p.mu.Lock()
	p.name = name
	p.mu.Unlock()
	p.signDevices()
	return nil
}

func (p *Pool) setAliases(pool string) error {
	for _, v := range p.Volumes() {
		if err := v.setAliases(pool); err != nil {
			return err
		}
	}
	return nil
}

// setAliases names the devices of a volume and its snapshots, as far as they are there.
func (v *Volume) setAliases(pool string) error {
	v.pool.mu.Lock()
	alias := v.alias(pool)
	v.pool.mu.Unlock()
	if err := v.device.SetAliases([]string{alias}); err != nil && !errors.Is(err, bdev.ErrNotFound) {
		return err
	}
	for _, d := range v.openedSnapshots() {
		if err := d.device.SetAliases([]string{d.alias(pool)}); err != nil && !errors.Is(err, bdev.ErrNotFound) {
			return err
		}
	}
	return nil
}

// change commits a change of the pool's own.
func (p *Pool) change(m *commitMessage) error {
	m.tell = newEvent()
	if err := p.r.Call(func() { p.enlist(m) }); err != nil {
		return err
	}
	if s := p.disk.wait(m.tell); s != bdev.StatusOK {
		return fmt.Errorf("committing it: %v", s)
	}
	return nil
}

// Grow lets the pool use all of its device, which has grown. Without that it does nothing. What is new is free two commits later.
func (p *Pool) Grow() error {
	p.acts.Lock()
	defer p.acts.Unlock()
	if err := p.grow(); err != nil {
		return fmt.Errorf("growing pool %s: %w", p.Name(), err)
	}
	return nil
}

func (p *Pool) grow() error {
	if p.gone {
		return ErrPoolGone
	}
	g := p.handle.Device().Geometry()
	pages := g.Bytes() / PageBytes
	if pages <= p.pages {
		return nil
	}
	var old []Area
	if err := p.r.Call(func() { old = append(old, p.slot.Areas...) }); err != nil {
		return err
	}
	areas, err := GrownAreas(old, pages, p.shape.shift)
	if err != nil {
		return err
	}
	// Nothing of an older pool may look like a side of this one, and every volume knows places that are new before there are any.
	for _, a := range areas[len(old):] {
		if err := p.blankSides(a); err != nil {
			return err
		}
	}
	if err := p.disk.flush(); err != nil {
		return err
	}
	for i, in := range p.caches {
		if in.c == nil {
			continue
		}
		if err := p.registry.Group().Reactor(i).Call(func() { in.c.growSource(in.source, pages) }); err != nil {
			return err
		}
	}
	if err := p.change(&commitMessage{grow: areas, growTo: pages}); err != nil {
		return err
	}
	p.mu.Lock()
	p.pages = pages
	p.mu.Unlock()
	for range 2 {
		if err := p.change(&commitMessage{}); err != nil {
			return err
		}
	}
	return nil
}

// Destroy ends the pool and all that is in it: the slots are wiped, so no import finds it again.
func (p *Pool) Destroy(ctx context.Context) error {
	g := p.vigil()
	if err := p.lockActs(g); err != nil {
		return fmt.Errorf("deleting pool %s: %w", p.Name(), err)
	}
	defer p.acts.Unlock()
	if err := p.destroy(ctx, g); err != nil {
		return fmt.Errorf("deleting pool %s: %w", p.Name(), err)
	}
	return nil
}

func (p *Pool) destroy(ctx context.Context, g *vigil) error {
	if p.gone {
		return ErrPoolGone
	}
	if err := p.closeVolumes(ctx, g); errors.Is(err, ErrStuck) {
		p.gone, p.failure = true, err
		p.giveUp()
		return err
	} else if err != nil {
		return err
	}
	p.gone = true
	defer p.release()
	// The commits that were asked for end first: a slot that is written after this would bring the pool back.
	if err := p.change(&commitMessage{}); err != nil {
		return err
	}
	disks := []*disk{&p.disk}
	if p.logs != nil {
		disks = append(disks, &p.logs.disk)
	}
	for _, d := range disks {
		if err := d.blankSlots(); err != nil {
			return err
		}
		if err := d.flush(); err != nil {
			return err
		}
	}
	return nil
}
