package volume

import (
	"context"
	"fmt"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the end of a clone's tie to its parent (S-6): what it shares with it, it gets of its own.
//
//	control: a turn through the map ─▶ clusters born up to the branching off, and leaves that are the parent's ─▶ places for them
//	flusher: between two checkpoints, each cluster: find ─▶ read ─▶ write to the new place ─▶ change the entry
//	the end: nothing of the parent is left in the map: the volume page forgets the parent
//
// Content does not change, but the places are born now: at the LSN after the last that is home, with which the clusters are stamped as changed
// too. Hosts go on meanwhile. What was copied before a power cut, a cancellation or a full pool stays; flattening again goes on from there.

// flattenBatch is how many clusters are copied between two checkpoints.
const flattenBatch = 32

// flattening is such a batch. It belongs to the volume's reactor.
type flattening struct {
	v        *Volume
	node     mapWaiter
	clusters []uint64 // nil if there is nothing to do
	places   []Place  // for them
	next     int
	changing bool
	memory   []byte
	from     Place
	done     *event
	status   bdev.Status
}

// flattens begins a batch, if there is one, and reports that.
func (v *Volume) flattens() bool {
	x := &v.flattening
	if len(x.clusters) == 0 {
		return false
	}
	x.next, x.status = 0, bdev.StatusOK
	v.flusher.state = flushClearing
	x.step()
	return true
}

// step goes on with the next cluster, or ends the batch.
func (x *flattening) step() {
	v := x.v
	for {
		if x.next == len(x.clusters) || x.status != bdev.StatusOK || v.flusher.ending {
			x.end()
			return
		}
		x.changing = false
		if e, s, now := v.tree.find(x.clusters[x.next], &x.node); !now || !x.found(e, s) {
			return
		}
	}
}

// mapFound goes on with an entry that had to be waited for.
func (x *flattening) mapFound(_ *mapWaiter, e Entry, s bdev.Status) {
	if x.found(e, s) {
		x.step()
	}
}

// found takes an entry, to copy its cluster or to change it. It reports that the next cluster may come.
func (x *flattening) found(e Entry, s bdev.Status) bool {
	v := x.v
	switch {
	case s != bdev.StatusOK:
		x.status = s
		return true
	case x.changing:
		x.change(e)
		return true
	case e.Place() == 0 || v.owned(x.clusters[x.next], e.Birth()): // its leaf alone becomes the clone's own
		return x.enter()
	}
	x.from = e.Place()
	x.transfer(bdev.Read, x.from)
	return false
}

// enter looks the entry up to change it, if the cache has room for that.
func (x *flattening) enter() bool {
	v := x.v
	if !v.tree.room() {
		x.status = bdev.StatusBusy // the checkpoint that comes makes some
		return true
	}
	x.changing = true
	e, s, now := v.tree.change(x.clusters[x.next], &x.node)
	return now && x.found(e, s)
}

func (x *flattening) transfer(k bdev.Kind, at Place) {
	v := x.v
	p := v.newPart()
	p.done, p.n = x, v.shape.Blocks()
	p.vec = append(p.vec, x.memory)
	v.transfer(p, v.data, k, at.Byte())
}

// partEnd goes on after the read, and after the write. The CRCs go along as they are: what is damaged stays known as that.
func (x *flattening) partEnd(p *part, s bdev.Status) {
	v := x.v
	read := p.req.Kind == bdev.Read
	v.givePart(p)
	switch {
	case s != bdev.StatusOK:
		x.status = s
	case read:
		x.transfer(bdev.Write, x.places[x.next])
		return
	case !x.enter():
		return
	}
	x.step()
}

// change gives the cluster its place.
func (x *flattening) change(e Entry) {
	v := x.v
	c := x.clusters[x.next]
	if e.Place() != 0 && !v.owned(c, e.Birth()) {
		birth := max(v.flusher.home.LSN, v.page.BranchedAt) + 1
		e.SetPlace(x.places[x.next], birth)
		e.SetChange(max(e.Change(), birth))
		v.refer(x.places[x.next])
		x.places[x.next] = 0
	}
	x.next++
}

// end tells control. Places that were not used are the volume's again.
func (x *flattening) end() {
	v := x.v
	for _, p := range x.places {
		if p != 0 {
			v.places = append(v.places, p)
		}
	}
	x.clusters, x.places = x.clusters[:0], x.places[:0]
	if v.flusher.over() {
		x.done.say(bdev.StatusClosed)
		return
	}
	x.done.say(x.status)
	v.flusher.force = true
	v.flusher.cleared()
}

// Flatten gives a clone places of its own for all that it shares with its parent, and ends the tie. progress hears how many clusters of how many
// were gone through.
func (v *Volume) Flatten(ctx context.Context, progress func(done, total uint64)) error {
	v.acts.Lock()
	defer v.acts.Unlock()
	if err := v.flatten(ctx, progress); err != nil {
		return fmt.Errorf("flattening volume %s: %w", v.Name(), err)
	}
	return nil
}

func (v *Volume) flatten(ctx context.Context, progress func(done, total uint64)) error {
	if err := v.mayChange(); err != nil {
		return err
	}
	var parent VolumeNumber
	var branched wal.LSN
	snapshots, total := 0, uint64(0)
	if err := v.r.Call(func() {
		parent, branched, snapshots = v.page.Parent, v.page.BranchedAt, len(v.snapshots.list)
		total = v.shape.Clusters(v.page.Bytes)
		if x := &v.flattening; x.v == nil {
			x.v, x.memory = v, pageMemory(v.shape.Blocks())
			x.node.init(x)
		}
	}); err != nil {
		return err
	}
	switch {
	case parent == 0:
		return fmt.Errorf("%w: it is no clone", ErrInvalid)
	case snapshots > 0:
		return fmt.Errorf("%w: its snapshots share places with the parent too; delete them first", ErrBusy)
	}
	// The tie ends when the map as it was committed has nothing of the parent: a checkpoint that has yet to come would give up the pages
	// that it replaces, and they are the parent's.
	for shared := true; shared; {
		if err := v.settleNow(); err != nil {
			return err
		}
		n, err := v.copyShared(ctx, branched, total, progress)
		if err != nil {
			return err
		}
		shared = n > 0
	}
	if err := v.edit(func(pg *VolumePage) {
		pg.Parent, pg.ParentSnapshot, pg.BranchedAt = 0, 0, 0
		v.setSharing()
		v.tree.sharedTo = 0
	}); err != nil {
		return err
	}
	v.pool.branched(&VolumePage{Number: v.page.Number})
	return nil
}

// copyShared goes through the map and lets the flusher copy what is shared. It tells how many clusters and leaves that were.
func (v *Volume) copyShared(ctx context.Context, branched wal.LSN, total uint64, progress func(done, total uint64)) (shared int, err error) {
	nothing := diffSide{mapOwner: mapOwner{shape: v.shape}}
	var found []uint64
	err = v.walkMap(ctx, 0, func() (a, b diffSide) { return v.tree.side(), nothing }, true, 0, func(d *mapDiff, s diffStep) {
		switch {
		case s == diffCluster && d.a.Place() != 0 && d.a.Birth() <= branched:
			found = append(found, d.cluster)
		case s == diffPage && d.page.level == 0 && d.page.stamp.LSN() <= branched:
			if first := d.page.index * uint64(v.shape.entries); len(found) == 0 || found[len(found)-1] < first {
				found = append(found, first)
			}
		}
	}, func(cursor uint64) error {
		shared += len(found)
		for len(found) > 0 {
			n := min(len(found), flattenBatch)
			busy, err := v.copyBatch(found[:n])
			if err != nil {
				return err
			}
			if !busy {
				found = append(found[:0], found[n:]...)
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		if progress != nil {
			progress(min(cursor, total), total)
		}
		return nil
	})
	return shared, err
}

// copyBatch lets the flusher copy clusters. It reports that not all of it was done, for want of room in the map's cache.
func (v *Volume) copyBatch(clusters []uint64) (busy bool, err error) {
	pages := len(clusters) * v.creditsFor(1, false).pages
	if err := v.haveCredits(credits{pages: pages}); err != nil {
		return false, err
	}
	for {
		have, ended := false, false
		e := newEvent()
		if err := v.r.Call(func() {
			x := &v.flattening
			if ended = v.rests() || !v.open; ended {
				return
			}
			if have = len(v.places) >= len(clusters); !have {
				v.askDone = e
				v.askPool(nil, credits{}, len(clusters), Ordinary)
				return
			}
			k := min(pages, v.have.pages)
			v.have.pages -= k
			v.mapPages += k
			x.clusters = append(x.clusters[:0], clusters...)
			x.places = v.takePlaces(x.places[:0], len(clusters))
			x.done = e
			v.flusher.force = true
			v.hurry()
		}); err != nil {
			return false, err
		}
		if ended {
			return false, errEnded
		}
		s := v.pool.disk.wait(e)
		switch {
		case s == bdev.StatusOK && have:
			return false, nil
		case s == bdev.StatusBusy && have:
			return true, nil
		case s == bdev.StatusNoSpace && !have:
			return false, fmt.Errorf("%w: its copies need it; what was copied stays", ErrNoSpace)
		case s != bdev.StatusOK:
			return false, fmt.Errorf("copying clusters: %v", s)
		}
	}
}
