package volume

import (
	"context"
	"fmt"
	"slices"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the end of a clone's tie to its parent (S-6): what it and its snapshots share with it, they get of their own, one copy for all of them.
//
//	control: places and pages are set aside ─▶ a turn through the oldest map ─▶ each leaf with clusters born up to the branching off, or the parent's
//	         its clusters: read ─▶ write to new places         (the parent's do not change)
//	         the snapshots' maps: pages that lead there, anew  (reweave.go)
//	flusher: between two checkpoints: the head's entries change, the snapshots' roots change; the next checkpoint takes all of it along
//	the end: nothing of the parent is left in any map: the volume page forgets the parent
//
// The copies are born with the first LSN after the branching off, as if the clone had begun with writing all that it was given. So they are the oldest
// snapshot's, which has what any map still has of the parent, and the others and the head share them as they shared the parent's: the rule of
// births (S-4) holds before, between and after. What was copied before a power cut, a cancellation or a full pool stays; flattening again goes
// on from there.

// flatLeaf is a leaf of which something is shared with the parent.
type flatLeaf struct {
	leaf     uint64
	clusters []uint64 // the parent's, ascending; none if only the leaf itself is
	from     []Place  // theirs
	to       []Place  // their copies
	used     []bool   // copies to which something refers now
}

// flattening is a leaf that changes hands. It belongs to the volume's reactor.
type flattening struct {
	v       *Volume
	node    mapWaiter
	leaf    *flatLeaf // nil if there is nothing to do
	woven   *reweave
	applied bool
	done    *event
}

// flattens begins with a leaf, if there is one, and reports that.
func (v *Volume) flattens() bool {
	x := &v.flattening
	if x.leaf == nil {
		return false
	}
	v.flusher.state = flushClearing
	if v.flusher.ending || !v.tree.roomFor(2*changePages) {
		x.end(bdev.StatusBusy) // the checkpoint that comes makes some
		return true
	}
	// The leaf and those above it become the head's own with the first; the others are at hand then.
	if e, s, now := v.tree.change(x.first(), &x.node); now {
		x.mapFound(&x.node, e, s)
	}
	return true
}

// first is the first cluster to be changed.
func (x *flattening) first() uint64 {
	if len(x.leaf.clusters) > 0 {
		return x.leaf.clusters[0]
	}
	return x.leaf.leaf * uint64(x.v.shape.entries)
}

// mapFound changes all at once: either the next checkpoint has the copies in all maps, or none.
func (x *flattening) mapFound(_ *mapWaiter, e Entry, s bdev.Status) {
	if s != bdev.StatusOK || x.v.flusher.ending {
		x.end(s)
		return
	}
	v, l := x.v, x.leaf
	for i, c := range l.clusters {
		if i > 0 {
			var now bool
			e, s, now = v.tree.change(c, &x.node)
			invariant.Check(now && s == bdev.StatusOK, "volume: a leaf that was changed is not at hand")
		}
		x.change(e, i)
	}
	x.woven.apply(l)
	x.applied = true
	x.end(bdev.StatusOK)
}

// change gives the head's cluster its copy, unless it has another place by now.
func (x *flattening) change(e Entry, i int) {
	v, l := x.v, x.leaf
	if e.Place() != l.from[i] || e.Birth() > v.page.BranchedAt {
		return
	}
	e.moveTo(l.to[i], v.page.BranchedAt+1)
	if l.used[i] = true; len(v.snapshots.list) == 0 {
		v.refer(l.to[i])
	}
}

// moveTo gives an entry another place with the same content.
func (e Entry) moveTo(p Place, birth wal.LSN) {
	e.SetPlace(p, birth)
	e.SetChange(max(e.Change(), birth))
}

// roomFor reports whether so many pages may become dirty, and lends what is lacking.
func (t *mapTree) roomFor(pages int) bool {
	left := t.roomLeft()
	return left >= pages || left+t.widen(pages-left) >= pages
}

// end tells control.
func (x *flattening) end(s bdev.Status) {
	v := x.v
	x.leaf, x.woven = nil, nil
	if v.flusher.over() {
		x.done.say(bdev.StatusClosed)
		return
	}
	x.done.say(s)
	v.flusher.force = true
	v.flusher.cleared()
}

// abandon tells control that the leaf that waits will not change hands.
func (x *flattening) abandon() {
	if x.leaf != nil {
		x.leaf, x.woven = nil, nil
		x.done.say(bdev.StatusClosed)
	}
}

// Flatten gives a clone and its snapshots places of their own for all that they share with the parent, and ends the tie. progress hears how many
// clusters of how many were gone through.
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
	f := &flat{v: v, progress: progress, opened: v.openedSnapshots()}
	parent := VolumeNumber(0)
	if err := v.r.Call(func() {
		parent, f.branched, f.total = v.page.Parent, v.page.BranchedAt, v.shape.Clusters(v.page.Bytes)
		if x := &v.flattening; x.v == nil {
			x.v = v
			x.node.init(x)
		}
	}); err != nil {
		return err
	}
	if parent == 0 {
		return fmt.Errorf("%w: it is no clone", ErrInvalid)
	}
	if err := v.noneBeingDeleted(ctx); err != nil {
		return err
	}
	var list []Snapshot
	if err := v.r.Call(func() { list = slices.Clone(v.snapshots.list) }); err != nil {
		return err
	}
	f.snapshots = len(list)
	for i := range list {
		if clones := v.pool.clonesOf(v, list[i].Number); len(clones) > 0 {
			return fmt.Errorf("%w %v has the clones %v, which share places with the parent too: flatten or delete them first", ErrSnapshotInUse, list[i].Name, clones)
		}
	}
	if err := f.setAside(ctx); err != nil {
		return err
	}
	defer f.giveUp()
	// The tie ends when the maps as they were committed have nothing of the parent: a checkpoint that has yet to come would give up the pages
	// that it replaces, and they are the parent's.
	for shared := true; shared; {
		if err := v.settleNow(); err != nil {
			return err
		}
		n, err := f.copyShared(ctx)
		if err != nil {
			return err
		}
		shared = n > 0
	}
	if err := f.noneLeft(ctx); err != nil {
		return err
	}
	if err := v.edit(func(pg *VolumePage) {
		pg.Parent, pg.ParentSnapshot, pg.BranchedAt = 0, 0, 0
		v.setSharing()
		v.tree.sharedTo = 0
		for _, d := range f.opened {
			d.tree.sharedTo = 0
		}
	}); err != nil {
		return err
	}
	v.pool.branched(&VolumePage{Number: v.page.Number})
	return nil
}

// noneBeingDeleted waits until nothing is left of snapshots that were deleted.
func (v *Volume) noneBeingDeleted(ctx context.Context) error {
	for {
		left := false
		var failed error
		if err := v.r.Call(func() {
			for i := range v.snapshots.list {
				left = left || v.snapshots.list[i].Flags&SnapshotDeleting != 0
			}
			failed = v.clearing.failed
		}); err != nil {
			return err
		}
		switch {
		case !left:
			return nil
		case failed != nil:
			return fmt.Errorf("%w: a snapshot was deleted, and what it had cannot be given up: %w", ErrBusy, failed)
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if err := v.settleNow(); err != nil {
			return err
		}
	}
}

// flat is a flattening as control goes about it.
type flat struct {
	v         *Volume
	branched  wal.LSN
	total     uint64            // clusters
	snapshots int               // that there are: none comes or goes meanwhile
	opened    []*SnapshotDevice // theirs
	aside     Need              // that is reserved and not taken
	ways      uint64            // pages that should be reserved beyond those that the maps will have more
	progress  func(done, total uint64)
	memory    []byte // of a cluster
	pages     [mapLevels + 1][]byte
}

// oldest is the map that has all that is the parent's: places and pages that the parent has do not come back to a newer one.
func (f *flat) oldest() (a, b diffSide) {
	v := f.v
	nothing := diffSide{mapOwner: mapOwner{shape: v.shape}}
	if len(v.snapshots.list) > 0 {
		return v.sideOf(0), nothing
	}
	return v.tree.side(), nothing
}

// walkShared goes through a map, and gives each leaf of which something is the parent's, and how many pages are the parent's.
func (f *flat) walkShared(ctx context.Context, sides func() (a, b diffSide), seen func(leaves []flatLeaf, pages uint64, cursor uint64) error) error {
	var found []flatLeaf
	pages := uint64(0)
	leafOf := func(leaf uint64) *flatLeaf {
		if n := len(found); n == 0 || found[n-1].leaf != leaf {
			found = append(found, flatLeaf{leaf: leaf})
		}
		return &found[len(found)-1]
	}
	return f.v.walkMap(ctx, 0, sides, true, 0, func(d *mapDiff, s diffStep) {
		switch {
		case s == diffCluster && d.a.Place() != 0 && d.a.Birth() <= f.branched:
			leaf, _ := f.v.shape.Leaf(d.cluster)
			l := leafOf(leaf)
			l.clusters, l.from = append(l.clusters, d.cluster), append(l.from, d.a.Place())
		case s == diffPage && d.page.stamp.LSN() <= f.branched:
			if pages++; d.page.level == 0 {
				leafOf(d.page.index)
			}
		}
	}, func(cursor uint64) error {
		err := seen(found, pages, cursor)
		found, pages = found[:0], 0
		return err
	})
}

// copyShared goes through the oldest map and lets what is shared be copied. It tells how many leaves that were.
func (f *flat) copyShared(ctx context.Context) (shared int, err error) {
	err = f.walkShared(ctx, f.oldest, func(leaves []flatLeaf, _, cursor uint64) error {
		shared += len(leaves)
		for i := range leaves {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := f.copyLeaf(&leaves[i]); err != nil {
				return err
			}
		}
		if f.progress != nil {
			f.progress(min(cursor, f.total), f.total)
		}
		return nil
	})
	return shared, err
}

// noneLeft makes sure that the parent may go: no map refers to anything of it.
func (f *flat) noneLeft(ctx context.Context) error {
	v := f.v
	for i := range f.snapshots + 1 {
		sides := func() (a, b diffSide) {
			a, b = v.tree.side(), diffSide{mapOwner: mapOwner{shape: v.shape}}
			if i < f.snapshots {
				a = v.sideOf(i)
			}
			if i > 0 {
				b = v.sideOf(i - 1)
			}
			return a, b
		}
		if err := f.walkShared(ctx, sides, func(leaves []flatLeaf, pages, _ uint64) error {
			if len(leaves)+int(pages) > 0 {
				return fmt.Errorf("%w: its map %d refers to places of the parent that no older one has; check the pool", ErrCorrupt, i)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// copyLeaf copies a leaf's clusters, and lets all maps have the copies with the next checkpoint.
func (f *flat) copyLeaf(l *flatLeaf) (err error) {
	v := f.v
	applied := false
	w := &reweave{f: f, l: l}
	defer func() {
		err = f.settle(l, w, applied, err)
	}()
	if err := f.takeClusters(l); err != nil {
		return err
	}
	if f.memory == nil {
		f.memory = pageMemory(v.shape.Blocks())
	}
	for i, from := range l.from { // as they are: what is damaged keeps the CRCs that say so
		if err := v.pool.disk.read(from, f.memory); err != nil {
			return err
		}
		if err := v.pool.disk.write(l.to[i], f.memory); err != nil {
			return err
		}
	}
	if err := w.weave(); err != nil {
		return err
	}
	for {
		s, did, err := f.hand(l, w)
		if applied = did; err != nil {
			return err
		}
		switch s {
		case bdev.StatusOK:
			return nil
		case bdev.StatusBusy: // the map's cache had no room; a checkpoint made some
		case bdev.StatusClosed:
			return errEnded
		default:
			return fmt.Errorf("changing its map: %v", s)
		}
	}
}

// hand gives the leaf to the flusher, and waits until it has changed hands.
func (f *flat) hand(l *flatLeaf, w *reweave) (s bdev.Status, applied bool, err error) {
	v := f.v
	pages := v.creditsFor(1, false).pages
	if err := v.haveCredits(credits{pages: pages}); err != nil {
		return 0, false, err
	}
	ended := false
	e := newEvent()
	if err := v.r.Call(func() {
		x := &v.flattening
		if ended = v.rests() || !v.open; ended {
			return
		}
		k := min(pages, v.have.pages)
		v.have.pages -= k
		v.mapPages += k
		x.leaf, x.woven, x.applied, x.done = l, w, false, e
		v.flusher.force = true
		v.hurry()
	}); err != nil {
		return 0, false, err
	}
	if ended {
		return 0, false, errEnded
	}
	s = v.pool.disk.wait(e)
	err = v.r.Call(func() { applied = v.flattening.applied })
	return s, applied, err
}
