package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the way back to a snapshot, in place (S-7). It is an event at LSN r, logged while no request is under way (V-48):
//
//	drained, all home ─▶ event at r durable ─▶ a checkpoint, so that the map is as on the device ─▶ the snapshot's map beside the head's:
//	each cluster that differs becomes the snapshot's, changed at r ─▶ (checkpoints below r, when the cache has no more room) ─▶ go on behind r
//
// A power cut in its midst leaves a map of both, and the event above its checkpoint: the volume is not opened before the event was applied once
// more, and what has the snapshot's content already stays as it is. Older snapshots stay; LSNs go on.

// Errors of restoring.
var (
	ErrNewerSnapshots = fmt.Errorf("%w: there are newer snapshots", ErrBusy)
	ErrAttached       = fmt.Errorf("%w: hosts use the volume", ErrBusy)
)

// restoring is a restore that the flusher applies. It belongs to the volume's reactor.
type restoring struct {
	v      *Volume
	diff   *mapDiff
	node   mapWaiter
	later  reactor.Deferred
	lsn    wal.LSN // of the event; 0 if none is being applied
	cursor uint64
	leaves int
	pages  int // of the map, that are kept for its checkpoints
}

// restore applies the event, or goes on with it after a checkpoint.
func (v *Volume) restore(r *wal.Record) {
	x := &v.restoring
	if x.diff == nil {
		x.v, x.diff = v, newMapDiff(v.tree.c, x)
		x.node.init(x)
	}
	if x.lsn != r.LSN {
		x.lsn, x.cursor = r.LSN, 0
	}
	i, ok := v.snapshots.index(SnapshotNumber(r.Block))
	invariant.Check(ok && v.tree.dirtyN == 0, "volume: a restore of no snapshot, or beside changes of the map")
	x.diff.start(v.sideOf(i), v.tree.side(), false, 0, x.cursor)
	x.leaves = 0
	x.walk()
}

// Run goes on in a later tick.
func (x *restoring) Run() { x.diffReady(x.diff) }

// diffReady goes on when a page is there.
func (x *restoring) diffReady(*mapDiff) {
	if !x.v.flusher.over() {
		x.walk()
	}
}

func (x *restoring) walk() {
	v, d := x.v, x.diff
	for {
		switch d.next() {
		case diffWait:
			return
		case diffPage:
		case diffMore:
			if x.leaves++; x.leaves%turnLeaves == 0 {
				v.r.Defer(&x.later, x)
				return
			}
		case diffCluster:
			if !v.tree.room() {
				x.cursor = d.cursor
				v.flusher.checkpoint()
				return
			}
			e, s, now := v.tree.change(d.cluster, &x.node)
			if !now {
				return
			}
			if !x.take(e, s) {
				return
			}
		case diffEnd:
			x.lsn, x.pages = 0, 0
			v.restored()
			return
		case diffFailed:
			x.fail(d.status)
			return
		}
	}
}

// mapFound has an entry that had to be waited for.
func (x *restoring) mapFound(_ *mapWaiter, e Entry, s bdev.Status) {
	if x.take(e, s) && !x.v.flusher.over() {
		x.walk()
	}
}

// take makes an entry of the head what the snapshot's is, if it is not that already.
func (x *restoring) take(e Entry, s bdev.Status) bool {
	v, a := x.v, x.diff.a
	if s != bdev.StatusOK {
		x.fail(s)
		return false
	}
	if a.sameContent(e) {
		return true
	}
	if was := e.Place(); was != a.Place() && v.owned(x.diff.cluster, e) {
		v.unrefer(was)
	}
	e.CopyFrom(a)
	e.SetChange(x.lsn)
	return true
}

// sameContent compares two entries but for what is said of their history.
func (e Entry) sameContent(o Entry) bool {
	return e.Place() == o.Place() && bytes.Equal(e.b[24:], o.b[24:]) && bytes.Equal(e.crcs, o.crcs)
}

// fail is the end when a map cannot be read: what the volume should be is not known.
func (x *restoring) fail(s bdev.Status) {
	x.v.torn = true
	x.v.unsafe(s)
	x.v.flusher.over()
}

// RestoreOptions say what may stand in the way.
type RestoreOptions struct {
	DropNewer bool      // delete snapshots that are newer
	Force     bool      // though hosts use the volume
	Request   uuid.UUID // the same request twice acts once, over restarts too, as long as not RequestsMax others came between; zero: each is another
}

// requestOf is the request of a restore's event: it stands at the beginning of what is particular to the kind. Older versions left that zero.
func requestOf(r *wal.Record) uuid.UUID { return uuid.UUID(r.Extra[:16]) }

// remember notes that a restore is applied, so that its request acts once: from here on the next checkpoint's page says so, and before that the
// event in the log. Recovery may meet an event that the page knows.
func (v *Volume) remember(request uuid.UUID) {
	list := &v.page.Requests
	if request == uuid.Nil || slices.Contains(list[:], request) {
		return
	}
	n := slices.Index(list[:], uuid.Nil)
	if n < 0 {
		n = copy(list[:], list[1:])
	}
	list[n] = request
}

// remembers says that a request was applied.
func (v *Volume) remembers(request uuid.UUID) (known bool, err error) {
	if request == uuid.Nil {
		return false, nil
	}
	err = v.r.Call(func() { known = slices.Contains(v.page.Requests[:], request) })
	return known, err
}

// RestoreSnapshot makes the content of a volume what a snapshot is. When it returns, that is durable.
func (v *Volume) RestoreSnapshot(ctx context.Context, name string, o RestoreOptions) error {
	v.acts.Lock()
	defer v.acts.Unlock()
	if err := v.restoreSnapshot(ctx, name, o); err != nil {
		return fmt.Errorf("restoring snapshot %s of volume %s: %w", name, v.Name(), err)
	}
	return nil
}

func (v *Volume) restoreSnapshot(ctx context.Context, name string, o RestoreOptions) error {
	if known, err := v.remembers(o.Request); known || err != nil {
		return err
	}
	d, err := v.findSnapshot(name)
	if err == nil {
		err = v.mayChange()
	}
	if err != nil {
		return err
	}
	if users := v.device.Users(); len(users) > 0 && !o.Force {
		return fmt.Errorf("%w: %v; their content would change under them, take the volume away from them or force it", ErrAttached, users)
	}
	var newer []string
	for _, s := range v.openedSnapshots() {
		if s.number > d.number {
			newer = append(newer, s.of.Name.String())
		}
	}
	if len(newer) > 0 && !o.DropNewer {
		return fmt.Errorf("%w, %v: they would have to be dropped", ErrNewerSnapshots, newer)
	}
	v.pool.acts.Lock()
	defer v.pool.acts.Unlock()
	if v.pool.gone {
		return ErrPoolGone
	}
	for _, name := range newer {
		s, err := v.findSnapshot(name)
		if err == nil {
			err = v.mayDrop(s)
		}
		if err != nil {
			return fmt.Errorf("dropping the newer snapshot %s: %w", name, err)
		}
	}
	return v.exclusive(func() error { return v.restoreNow(ctx, d.number, newer, o.Request) })
}

// restoreNow logs and applies it, while no request is under way. Newer snapshots are dropped when nothing refuses it any more.
func (v *Volume) restoreNow(ctx context.Context, n SnapshotNumber, newer []string, request uuid.UUID) error {
	if err := v.settleNow(); err != nil {
		return err
	}
	if err := v.reserveSet("restoring a snapshot of a thick volume"); err != nil {
		return err
	}
	defer v.giveSet()
	if err := v.keepPages(ctx, n); err != nil {
		return err
	}
	var extra [24]byte
	copy(extra[:], request[:])
	err := v.dropNewer(ctx, newer)
	if err == nil {
		err = v.logWith(wal.KindRestore, uint64(n), extra, nil)
	}
	if err != nil {
		return errors.Join(err, v.r.Call(func() { v.restoring.pages = 0 }))
	}
	return v.settleNow()
}

// dropNewer deletes snapshots, the newest first.
func (v *Volume) dropNewer(ctx context.Context, newer []string) error {
	for i := len(newer) - 1; i >= 0; i-- {
		if err := v.deleteSnapshot(ctx, newer[i]); err != nil {
			return fmt.Errorf("dropping the newer snapshot %s: %w", newer[i], err)
		}
	}
	return nil
}

// keepPages reserves the pages of the map that restoring a snapshot will write: those in which its map and the head's differ.
func (v *Volume) keepPages(ctx context.Context, n SnapshotNumber) error {
	pages := 0
	var last [mapLevels + 1]uint64
	for l := range last {
		last[l] = ^uint64(0)
	}
	missing := false
	err := v.walkMap(ctx, 0, func() (a, b diffSide) {
		i, ok := v.snapshots.index(n)
		if missing = !ok; missing {
			return diffSide{mapOwner: mapOwner{shape: v.shape}}, diffSide{mapOwner: mapOwner{shape: v.shape}}
		}
		return v.sideOf(i), v.tree.side()
	}, false, 0, func(d *mapDiff, s diffStep) {
		if s != diffCluster {
			return
		}
		leaf, _ := v.shape.Leaf(d.cluster)
		var at pageNumbers
		at.of(leaf)
		for l := range int(v.tree.root.levels) + 1 {
			if at[l] != last[l] {
				last[l] = at[l]
				pages++
			}
		}
	}, func(uint64) error { return nil })
	if err != nil || missing {
		return err
	}
	if err := v.haveCredits(credits{pages: pages}); err != nil {
		return err
	}
	return v.r.Call(func() {
		v.restoring.pages += pages
		v.have.pages -= pages
		v.mapPages += pages
	})
}
