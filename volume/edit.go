package volume

import (
	"context"
	"errors"
	"fmt"

	"github.com/pollux-storage/pollux/bdev"
)

// This file is what control changes about a volume: its name, what its hosts may do, its write cache. All of that stands in the volume
// page. While the volume is open, the page is written by its checkpoints alone, and so is the change: the page in memory is changed
// between two checkpoints, and the next one takes it to the device. While it is closed, control writes the page itself.

// errEnded refuses to change what is said of a volume that takes no changes.
var errEnded = errors.New("nothing of it can be brought home; its health and the log tell why")

// edit changes the page of an open volume and returns when that is durable, in both slots. Should it fail, the page may be changed all the same.
func (v *Volume) edit(change func(pg *VolumePage)) error {
	for {
		e := newEvent()
		ended, changed := false, false
		if err := v.r.Call(func() {
			if ended = !v.open || v.rests(); ended {
				return
			}
			// A page that is being written does not have the change, and takes the place of the one in memory when it is committed.
			if v.ckpt.step < checkpointVolumePage {
				change(&v.page)
				changed = true
				v.flusher.force = true
				v.hurry()
			}
			v.ckpt.heard = append(v.ckpt.heard, e)
		}); err != nil {
			return err
		}
		if ended {
			return errEnded
		}
		if s := v.pool.disk.wait(e); s != bdev.StatusOK {
			return fmt.Errorf("writing its page: %v", s)
		}
		if changed {
			return v.pool.twice()
		}
	}
}

// RenameVolume gives a volume another name, while it is in use or not.
func (p *Pool) RenameVolume(v *Volume, to string) error {
	p.acts.Lock()
	defer p.acts.Unlock()
	old := v.Name()
	if to == old {
		return nil
	}
	if err := p.renameVolume(v, to); err != nil {
		return fmt.Errorf("renaming volume %s of pool %s to %s: %w", old, p.Name(), to, err)
	}
	return nil
}

func (p *Pool) renameVolume(v *Volume, to string) error {
	name, err := p.freeName(to)
	if err != nil {
		return err
	}
	old := v.called(name)
	if err := v.setAliases(p.Name()); err != nil {
		v.called(old)
		return err
	}
	if err := v.edit(func(pg *VolumePage) { pg.Name = name }); err != nil {
		v.called(old)
		return errors.Join(err, v.setAliases(p.Name()))
	}
	return nil
}

// called sets the name that control knows and gives the one before.
func (v *Volume) called(n Name) (before Name) {
	v.pool.mu.Lock()
	defer v.pool.mu.Unlock()
	before, v.name = v.name, n
	return before
}

// Name is the volume's.
func (v *Volume) Name() string {
	v.pool.mu.Lock()
	defer v.pool.mu.Unlock()
	return v.name.String()
}

// SetReadOnly lets a volume refuse writes, or take them again. When it returns, no later write is taken, and an import keeps it so.
func (v *Volume) SetReadOnly(on bool) error {
	p := v.pool
	p.acts.Lock()
	defer p.acts.Unlock()
	was := v.device.Geometry().ReadOnly
	if was == on {
		return nil
	}
	err := ErrPoolGone
	if !p.gone {
		// Refusing begins before it is durable, and ends after that is: what is on the device never refuses less than was promised.
		if on {
			err = v.device.SetReadOnly(true)
		} else {
			err = nil
		}
		if err == nil {
			err = v.edit(func(pg *VolumePage) {
				pg.Flags &^= VolumeReadOnly
				if on {
					pg.Flags |= VolumeReadOnly
				}
			})
		}
		if err == nil && !on {
			err = v.device.SetReadOnly(false)
		}
	}
	if err != nil {
		return fmt.Errorf("setting volume %s of pool %s read only to %v: %w", v.Name(), p.Name(), on, err)
	}
	return nil
}

// SetWriteCache changes what an acknowledged write means. Hosts learn of a cache when they attach: one that knows of none flushes nothing.
// So the volume must not be in use; it is closed and opened again, as another Volume with the same device name.
func (p *Pool) SetWriteCache(ctx context.Context, v *Volume, cache WriteCache) (*Volume, error) {
	p.acts.Lock()
	defer p.acts.Unlock()
	now, err := p.setWriteCache(ctx, v, cache)
	if err != nil {
		return v, fmt.Errorf("setting the write cache of volume %s of pool %s to %v: %w", v.Name(), p.Name(), cache, err)
	}
	return now, nil
}

func (p *Pool) setWriteCache(ctx context.Context, v *Volume, cache WriteCache) (*Volume, error) {
	if p.gone {
		return nil, ErrPoolGone
	}
	if v.cache == cache { // never altered while it is open
		return v, nil
	}
	if users := v.device.Users(); len(users) > 0 {
		return nil, fmt.Errorf("%w by %v: hosts learn of a write cache when they attach; take its namespace away, and add it again after", ErrBusy, users)
	}
	ended := false
	if err := v.r.Call(func() { ended = v.rests() }); err != nil {
		return nil, err
	}
	if ended {
		return nil, errEnded
	}
	if err := v.closeSnapshots(ctx); err != nil {
		return nil, err
	}
	if err := v.r.Call(func() { v.thick.stays = v.thick.on }); err != nil {
		return nil, err
	}
	if err := p.registry.Unregister(ctx, v.device.Name()); err != nil {
		return nil, errors.Join(err, v.r.Call(func() { v.thick.stays = false }))
	}
	pg := v.page
	pg.Flags &^= VolumeCacheVolatile
	if cache == CacheVolatile {
		pg.Flags |= VolumeCacheVolatile
	}
	err := p.replacePage(v, &pg, &commitMessage{})
	if err == nil {
		err = p.twice()
	}
	again := &Volume{pool: p, page: v.page, ref: v.ref, name: v.name}
	again.inherit(v)
	if e := p.handOver(v, again); e != nil {
		return nil, errors.Join(err, e)
	}
	if e := p.openAll([]*Volume{again}, nil); e != nil {
		return nil, errors.Join(err, fmt.Errorf("opening it again, which the next import of the pool tries too: %w", e))
	}
	return again, err
}

// replacePage commits another page of a volume that is closed, and with it what m has more.
func (p *Pool) replacePage(v *Volume, pg *VolumePage, m *commitMessage) error {
	var place [1]Place
	granted := 0
	if err := p.r.Call(func() { granted = p.alloc.GrantPages(place[:], Freeing) }); err != nil {
		return err
	}
	if granted == 0 {
		return fmt.Errorf("%w: its page needs one more", ErrNoSpace)
	}
	buf := pageMemory(1)
	ref := Ref{place[0], pg.EncodeTo(buf, p.id)}
	if err := p.disk.write(ref.Place, buf); err != nil {
		return errors.Join(err, p.r.Call(func() { p.alloc.GiveBack(ref.Place, 1) }))
	}
	m.refer, m.unrefer = append(m.refer, ref.Place), append(m.unrefer, v.ref.Place)
	if err := p.commitNow(v, ref, m); err != nil {
		return err
	}
	v.page, v.ref = *pg, ref
	return nil
}

// commitNow commits the page of a closed volume, or its end.
func (p *Pool) commitNow(v *Volume, ref Ref, m *commitMessage) error {
	m.v, m.ref, m.tell = v, ref, newEvent()
	if err := p.r.Call(func() { p.enlist(m) }); err != nil {
		return err
	}
	if s := p.disk.wait(m.tell); s != bdev.StatusOK {
		return fmt.Errorf("committing it: %v", s)
	}
	return nil
}
