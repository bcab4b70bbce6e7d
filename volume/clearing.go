package volume

import (
	"context"
	"fmt"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the end of a snapshot. The event that deletes it marks it; from then on it is no device, and what it has is given up bit by
// bit, between two checkpoints of the volume:
//
//	its map beside the one after it (the next snapshot's, or the head's)
//	                     ─▶ places and pages that only it has ─▶ freed by the next checkpoint, whose volume page has the cursor
//	                     ─▶ those that the next one has too belong to that one from now on
//
// The head's map is what the last checkpoint left, and stays so while a step walks: the flusher waits. When the snapshot is the newest, the
// head has alone what the snapshot had, below the cursor, from that moment on (mapSharing).

// Limits of a step: how much a checkpoint gives up, and how long the flusher waits.
const (
	clearPlaces = 4096
	clearLeaves = 256
)

// clearing is a snapshot's end. It belongs to the volume's reactor.
type clearing struct {
	v      *Volume
	diff   *mapDiff
	i      int // of the snapshot
	floor  wal.LSN
	leaves int
	places []Place
	pages  []Place
	failed error
}

// markDeleted applies the event.
func (v *Volume) markDeleted(r *wal.Record) {
	s := &v.snapshots
	i, ok := s.index(SnapshotNumber(r.Block))
	invariant.Check(ok, "volume: a snapshot is deleted that there is not")
	s.list[i].Flags |= SnapshotDeleting
	s.changed = true
	v.flusher.force = true
	v.flusher.round()
}

// clears says whether there is something to be cleared, and begins a step of it.
func (v *Volume) clears() bool {
	c := &v.clearing
	s, pg := &v.snapshots, &v.page
	if c.failed != nil {
		return false
	}
	if pg.Deleting == 0 {
		for i := range s.list {
			if s.list[i].Flags&SnapshotDeleting != 0 {
				pg.Deleting, pg.DeletingCluster = s.list[i].Number, 0
				break
			}
		}
		if pg.Deleting == 0 {
			return false
		}
	}
	if c.diff == nil {
		c.v, c.diff = v, newMapDiff(v.tree.c, c)
	}
	c.i, _ = s.index(pg.Deleting)
	c.floor, c.leaves, c.places, c.pages = v.bornBefore(c.i), 0, c.places[:0], c.pages[:0]
	next := v.tree.side()
	if c.i+1 < len(s.list) {
		next = v.sideOf(c.i + 1)
	}
	c.diff.start(v.sideOf(c.i), next, true, c.floor, pg.DeletingCluster)
	v.flusher.state = flushClearing
	c.walk()
	return true
}

// sideOf is the map of a snapshot.
func (v *Volume) sideOf(i int) diffSide {
	s := &v.snapshots.list[i]
	return diffSide{v.tree.mapOwner, mapRoot{s.Map, uint8(s.Levels)}}
}

// diffReady goes on when a page is there.
func (c *clearing) diffReady(*mapDiff) {
	if !c.v.flusher.over() {
		c.walk()
	}
}

func (c *clearing) walk() {
	d := c.diff
	for {
		switch d.next() {
		case diffWait:
			return
		case diffCluster:
			if p := d.a.Place(); p != 0 && p != d.b.Place() && d.a.Birth() > c.floor {
				c.places = append(c.places, p)
			}
		case diffPage:
			c.pages = append(c.pages, d.page.place)
		case diffMore:
			if c.leaves++; c.leaves >= clearLeaves || len(c.places)+len(c.pages) >= clearPlaces {
				c.step(false)
				return
			}
		case diffEnd:
			c.step(true)
			return
		case diffFailed:
			c.failed = d.fault
			c.v.flusher.cleared()
			return
		}
	}
}

// step gives the next checkpoint what was found.
func (c *clearing) step(ended bool) {
	v := c.v
	s, pg := &v.snapshots, &v.page
	v.unreferred = append(v.unreferred, c.places...)
	v.ckpt.commit.unrefer = append(v.ckpt.commit.unrefer, c.pages...)
	s.list[c.i].Clusters -= uint64(len(c.places))
	s.changed = true
	if pg.DeletingCluster = c.diff.cursor; ended {
		rest := s.list[c.i].Clusters // the one after it has them
		s.list = append(s.list[:c.i], s.list[c.i+1:]...)
		if c.i < len(s.list) {
			s.list[c.i].Clusters += rest
		} else {
			v.alone += rest
		}
		pg.Deleting, pg.DeletingCluster = 0, 0
	}
	v.setSharing()
	v.flusher.force = true
	v.flusher.cleared()
}

// cleared goes on after a step: with what is written meanwhile, then with the next step.
func (f *flusher) cleared() {
	f.state = flushIdle
	f.v.passed()
	if f.force {
		f.v.hurry()
	}
}

// DeleteSnapshot deletes a snapshot that nobody uses and from which no clone branched off. When it returns, the snapshot is gone for good;
// its space comes back by and by.
func (v *Volume) DeleteSnapshot(ctx context.Context, name string) error {
	v.acts.Lock()
	defer v.acts.Unlock()
	if err := v.deleteSnapshot(ctx, name); err != nil {
		return fmt.Errorf("deleting snapshot %s of volume %s: %w", name, v.Name(), err)
	}
	return nil
}

func (v *Volume) deleteSnapshot(ctx context.Context, name string) error {
	d, err := v.findSnapshot(name)
	if err != nil {
		return err
	}
	if err := v.mayChange(); err != nil {
		return err
	}
	if err := v.mayDrop(d); err != nil {
		return err
	}
	if err := v.pool.registry.Unregister(ctx, d.device.Name()); err != nil {
		return err
	}
	if err := v.logNow(wal.KindSnapshotDelete, uint64(d.number), nil); err != nil {
		return err
	}
	return v.settleNow()
}

// mayDrop says why a snapshot cannot be deleted.
func (v *Volume) mayDrop(d *SnapshotDevice) error {
	if users := d.device.Users(); len(users) > 0 {
		return fmt.Errorf("%w is used by %v", ErrSnapshotInUse, users)
	}
	if clones := v.pool.clonesOf(v, d.number); len(clones) > 0 {
		return fmt.Errorf("%w has the clones %v: flatten or delete them", ErrSnapshotInUse, clones)
	}
	return nil
}

// mayChange asks the volume's reactor for changeable.
func (v *Volume) mayChange() error {
	var err error
	if e := v.r.Call(func() { err = v.changeable() }); e != nil {
		return e
	}
	return err
}

// changeable says why the volume's history or size cannot be changed.
func (v *Volume) changeable() error {
	switch {
	case !v.open:
		return ErrPoolGone
	case v.role != RolePrimary:
		return fmt.Errorf("%w, it is %v", ErrNotPrimary, v.role)
	case v.failed != bdev.StatusOK || v.isStranded():
		return errEnded
	}
	return nil
}
