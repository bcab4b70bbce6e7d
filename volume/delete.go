package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// This file is the end of a volume. Its map tells what it has, so that is walked, in the order of the clusters, and given up step by step:
//
//	1. the device goes, and everything comes home: nothing but the root knows of places of the volume
//	2. a commit says that the volume is being deleted: from here on it is never opened again
//	3. so many clusters and pages of the map are given up with a commit whose volume page has the cursor: the first cluster that still
//	   has what the map says. A page of the map goes when all clusters below it are behind the cursor, for the walk needs it until then
//	4. the last commit gives up what is left, the log and the volume page, and takes the volume out of the directory
//
// A crash before 2 leaves the volume as it was. After it the next import goes on at the cursor. What a step gives up rests until two
// commits later, like everything that leaves the root.

// eraseStep is how many places one commit gives up.
const eraseStep = 4096

// DeleteVolume deletes a volume for good. It tells how many clusters of how many it has gone through. When ctx ends while somebody still
// uses the device, the volume is closed later and stays; when it ends after the deletion has begun, that stops after its step, and the next
// import of the pool goes on with it: the volume does not come back.
func (p *Pool) DeleteVolume(ctx context.Context, v *Volume, progress func(done, total uint64)) error {
	name := v.Name()
	if err := p.deleteVolume(ctx, v, progress); err != nil {
		return fmt.Errorf("deleting volume %s of pool %s: %w", name, p.Name(), err)
	}
	return nil
}

func (p *Pool) deleteVolume(ctx context.Context, v *Volume, progress func(done, total uint64)) error {
	v.acts.Lock()
	defer v.acts.Unlock()
	if err := v.mayDelete(ctx); err != nil {
		return err
	}
	if err := p.closeVolume(ctx, p.vigil(), v); err != nil {
		return err
	}
	p.acts.Lock()
	defer p.acts.Unlock()
	if p.gone {
		return ErrPoolGone
	}
	return (&eraser{p: p, v: v, page: v.page, progress: progress, step: eraseStep, ctx: ctx}).run()
}

// mayDelete says why a volume cannot be deleted. What is left of snapshots that were deleted is waited for.
func (v *Volume) mayDelete(ctx context.Context) error {
	for {
		var list []Snapshot
		ended := false
		if err := v.r.Call(func() {
			list, ended = slices.Clone(v.snapshots.list), v.rests() || v.clearing.failed != nil
		}); err != nil {
			return err
		}
		if len(list) == 0 {
			return nil
		}
		for _, s := range list {
			if s.Flags&SnapshotDeleting == 0 {
				return fmt.Errorf("%w: it has the snapshot %v; delete its snapshots first", ErrBusy, s.Name)
			}
		}
		if ended {
			return fmt.Errorf("%w: the snapshot %v was deleted, and what it had cannot be given up", ErrBusy, list[0].Name)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := v.settleNow(); err != nil {
			return err
		}
	}
}

// eraser is a deletion under way.
type eraser struct {
	p        *Pool
	v        *Volume
	page     VolumePage // as the next commit has it
	clusters []Place
	pages    []Place
	released []Place // clusters that only its log named
	progress func(done, total uint64)
	step     int
	ctx      context.Context // where others may change the pool between two steps: it may end there
	most     int             // steps; for tests that interrupt it, 0 is no limit
}

// errInterrupted is how a test ends a deletion in its midst.
var errInterrupted = errors.New("interrupted")

// erase deletes a volume that an import found so.
func (p *Pool) erase(v *Volume) error {
	return (&eraser{p: p, v: v, page: v.page, step: eraseStep}).run()
}

func (x *eraser) run() error {
	if !x.page.Flags.Has(VolumeDeleting) {
		x.page.Flags |= VolumeDeleting
		x.page.DeletingCluster = 0
		if err := x.commit(); err != nil {
			return err
		}
	}
	if err := x.walk(x.page.Map, x.page.Levels, 0); err != nil {
		return fmt.Errorf("its map: %w", err)
	}
	if r := x.page.Reservations; !r.IsZero() {
		x.pages = append(x.pages, r.Place)
	}
	m := &commitMessage{unclusters: x.clusters, unrefer: append(x.pages, x.v.ref.Place), unextents: x.page.Log, released: x.released}
	if err := x.p.commitNow(x.v, Ref{}, m); err != nil {
		return err
	}
	x.page.Parent = 0
	x.p.branched(&x.page) // the snapshot that it came from may go now
	return nil
}

// commit gives up what was gathered.
func (x *eraser) commit() error {
	if x.most--; x.most == 0 {
		return errInterrupted
	}
	m := &commitMessage{unclusters: x.clusters, unrefer: x.pages}
	x.page.ClustersAlone -= uint64(len(x.clusters))
	x.clusters, x.pages = nil, nil
	if err := x.p.replacePage(x.v, &x.page, m); err != nil {
		return err
	}
	if x.progress != nil {
		x.progress(x.page.DeletingCluster, x.p.shape.Clusters(x.page.Bytes))
	}
	if x.ctx != nil {
		if err := x.ctx.Err(); err != nil {
			x.p.problem("volume %s is deleted in part; the next import goes on", x.v.name)
			return fmt.Errorf("%w: it is deleted in part, and gone; the next import of the pool frees the rest", err)
		}
		x.p.acts.Unlock()
		x.p.acts.Lock()
		if x.p.gone {
			return fmt.Errorf("%w; its next import goes on", ErrPoolGone)
		}
	}
	return nil
}

// walk gathers what lies below a ref and is not behind the cursor, and then the page itself.
func (x *eraser) walk(ref Ref, level uint32, index uint64) error {
	sh := x.p.shape
	each := span(int(level)) * uint64(sh.entries)
	if ref.IsZero() || (index+1)*each <= x.v.page.DeletingCluster {
		return nil
	}
	if level == 0 && len(x.clusters)+len(x.pages) >= x.step {
		x.page.DeletingCluster = index * each // all pages that end before are gathered
		if err := x.commit(); err != nil {
			return err
		}
	}
	buf := pageMemory(1)
	if err := x.p.disk.read(ref.Place, buf); err != nil {
		return err
	}
	w := Want{
		Kind: KindIndex, Level: uint8(level), Pool: x.p.id, Volume: x.page.Number, Index: index, CRC: ref.CRC, SharedTo: x.page.BranchedAt,
		Pages: x.p.pages,
	}
	var h Header
	var err error
	if level == 0 {
		w.Kind = KindLeaf
		h, err = sh.OpenLeaf(buf, &w)
	} else {
		h, err = OpenRefs(buf, &w)
	}
	switch {
	case err != nil:
		return err
	case h.Stamp.LSN() <= x.page.BranchedAt: // its parent's, with all below
		return nil
	case level == 0:
		for i := range sh.entries {
			if e := sh.Entry(buf, i); e.Birth() > x.page.BranchedAt {
				x.clusters = append(x.clusters, e.Place())
			}
		}
	default:
		for k := range RefsMax {
			if err := x.walk(RefAt(buf, k), level-1, index*RefsMax+uint64(k)); err != nil {
				return err
			}
		}
	}
	x.pages = append(x.pages, ref.Place)
	return nil
}
