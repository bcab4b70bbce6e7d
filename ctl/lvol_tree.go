package ctl

import (
	"context"
	"syscall"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/volume"
)

// This file is snapshots and clones as SPDK has them. There a volume of which a snapshot is taken becomes a clone of that snapshot, so that
// each volume is the end of a chain, and names belong to the pool:
//
//	s1 ◀── s2 ◀── volume          base_snapshot points to the left, clones to the right
//	 ▲
//	 └──── clone
//
// What is told here has that form. What is done is our own: a snapshot with its volume alone behind it may be deleted, and decoupling
// a volume from its own snapshots is refused, for it does not need them.

func (e *Engine) registerLvolTree() {
	r := e.Methods
	Register(r, api.BdevLvolSnapshot, func(_ context.Context, p *api.LvolSnapshotParams) (string, error) {
		if e.isSnapshot(p.LvolName) {
			return "", api.Errno(syscall.EINVAL, "taking a snapshot of %s: it is one; clone it, and take one of the clone", p.LvolName)
		}
		v, err := e.volume(p.LvolName)
		if err != nil {
			return "", err
		}
		if err := lvolNameFree(v.Pool(), p.SnapshotName); err != nil {
			return "", err
		}
		i, err := v.CreateSnapshot(volume.SnapshotConfig{Name: p.SnapshotName})
		if err != nil {
			return "", codeOf(err)
		}
		return i.UUID.String(), nil
	})
	Register(r, api.BdevLvolClone, func(_ context.Context, p *api.LvolCloneParams) (string, error) {
		d, err := e.snapshot(p.SnapshotName)
		if err != nil {
			return "", err
		}
		if err := lvolNameFree(d.Volume().Pool(), p.CloneName); err != nil {
			return "", err
		}
		v, err := cloneSnapshot(d, &api.SnapshotCloneParams{Clone: p.CloneName})
		if err != nil {
			return "", codeOf(err)
		}
		return v.Device().Name(), nil
	})
	RegisterDo(r, api.BdevLvolInflate, func(ctx context.Context, p *api.BdevNameParams) error {
		v, err := e.volume(p.Name)
		if err != nil || v.Parent() == nil {
			return err
		}
		return e.flattenNow(ctx, v)
	})
	RegisterDo(r, api.BdevLvolDecoupleParent, func(ctx context.Context, p *api.BdevNameParams) error {
		v, err := e.volume(p.Name)
		if err != nil {
			return err
		}
		return e.flattenNow(ctx, v)
	})
}

// flattenVolume begins to end a clone's tie to its parent.
func (e *Engine) flattenVolume(v *volume.Volume) (api.JobStarted, error) {
	about := api.Job{Method: api.VolumeFlatten.Name, Object: v.Pool().Name() + "/" + v.Name(), Unit: "clusters"}
	return e.Jobs.Start(about, func(ctx context.Context, progress Progress) error { return v.Flatten(ctx, progress.Set) })
}

// flattenNow answers when that is done, as SPDK does; the client may go, the job goes on.
func (e *Engine) flattenNow(ctx context.Context, v *volume.Volume) error {
	started, err := e.flattenVolume(v)
	if err != nil {
		return err
	}
	return e.Jobs.await(ctx, started.Job)
}

// isSnapshot says that a name is a snapshot's, or may mean several.
func (e *Engine) isSnapshot(name string) bool {
	d, err := e.Bdevs.Lookup(name)
	if err != nil {
		return len(e.snapshotsInPool(name)) > 0
	}
	_, ok := d.Driver().(*volume.SnapshotDevice)
	return ok
}

// lvolNameFree refuses a name that a volume or a snapshot in the pool has.
func lvolNameFree(p *volume.Pool, name string) error {
	for _, v := range p.Volumes() {
		if v.Name() == name {
			return api.Errno(syscall.EEXIST, "the name %s is taken in pool %s, by a volume", name, p.Name())
		}
	}
	if d := p.SnapshotsNamed(name); len(d) > 0 {
		return api.Errno(syscall.EEXIST, "the name %s is taken in pool %s, by a snapshot of volume %s", name, p.Name(), d[0].Volume().Name())
	}
	return nil
}

// lvolSnapshotName is a snapshot's name in its pool. Where that could mean another one too, the volume stands before it.
func lvolSnapshotName(d *volume.SnapshotDevice) string {
	v, name := d.Volume(), d.Name()
	several := len(v.Pool().SnapshotsNamed(name)) > 1
	for _, other := range v.Pool().Volumes() {
		several = several || other.Name() == name
	}
	if several {
		return v.Name() + "@" + name
	}
	return name
}

// lvol is a volume or a snapshot as SPDK tells of it.
type lvol struct {
	pool     *volume.Pool
	name     string
	uuid     string
	snapshot bool
	degraded bool
	thick    bool
	clusters uint64
	base     string // "" if there is none
	clones   []string
}

func (l *lvol) alias() string { return l.pool.Name() + "/" + l.name }

func lvolOfVolume(v *volume.Volume) *lvol {
	l := &lvol{pool: v.Pool(), name: v.Name(), uuid: v.Device().UUID().String()}
	i, err := v.Info()
	l.degraded = err != nil || i.Health(time.Now()).State != volume.Healthy
	l.thick, l.clusters = i.Thick, i.Clusters+i.Reserved // SPDK gives a thick one all its clusters at once
	if all := v.SnapshotDevices(); len(all) > 0 {
		l.base = lvolSnapshotName(all[len(all)-1])
	} else if d := v.Parent(); d != nil {
		l.base = lvolSnapshotName(d)
	}
	return l
}

func lvolOfSnapshot(d *volume.SnapshotDevice) *lvol {
	v := d.Volume()
	l := &lvol{pool: v.Pool(), name: lvolSnapshotName(d), uuid: d.Device().UUID().String(), snapshot: true}
	if i, err := d.Info(); err == nil {
		l.clusters = i.Clusters
	}
	base, next := v.Parent(), v.Name()
	for _, other := range v.SnapshotDevices() {
		if other.Number() < d.Number() {
			base = other
		}
		if other.Number() > d.Number() {
			next = lvolSnapshotName(other)
			break
		}
	}
	if base != nil {
		l.base = lvolSnapshotName(base)
	}
	l.clones = []string{next}
	for _, c := range d.Clones() {
		l.clones = append(l.clones, c.Name())
		if all := c.SnapshotDevices(); len(all) > 0 {
			l.clones[len(l.clones)-1] = lvolSnapshotName(all[0])
		}
	}
	return l
}

// list is what bdev_lvol_get_lvols tells.
func (l *lvol) list() api.Lvol {
	return api.Lvol{
		Alias: l.alias(), UUID: l.uuid, Name: l.name, IsThinProvisioned: !l.thick, IsSnapshot: l.snapshot, IsClone: l.base != "", IsDegraded: l.degraded,
		NumAllocatedClusters: l.clusters, Lvs: api.LvolLvs{Name: l.pool.Name(), UUID: l.pool.ID().String()},
	}
}

// describe is what bdev_get_bdevs tells.
func (l *lvol) describe() map[string]any {
	m := map[string]any{
		"lvol_store_uuid": l.pool.ID().String(), "base_bdev": l.pool.DeviceName(), "thin_provision": !l.thick, "num_allocated_clusters": l.clusters,
		"snapshot": l.snapshot, "clone": l.base != "", "esnap_clone": false,
	}
	if l.base != "" {
		m["base_snapshot"] = l.base
	}
	if l.snapshot {
		m["clones"] = l.clones
	}
	return map[string]any{"lvol": m}
}
