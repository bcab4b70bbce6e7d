package ctl

import (
	"context"
	"fmt"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/volume"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the methods about volumes.

func (e *Engine) registerVolumes() {
	r := e.Methods
	Register(r, api.VolumeCreate, func(_ context.Context, p *api.VolumeCreateParams) (api.Volume, error) {
		v, err := e.createVolume(p)
		if err != nil {
			return api.Volume{}, codeOf(err)
		}
		a, err := describeVolume(v)
		if w := volume.UseProblem(wal.Use(p.Use)); w != "" {
			e.pools.log.Warn("a volume was made", "volume", a.Pool+"/"+a.Name, "warning", w)
			a.Warnings = append(a.Warnings, w)
		}
		return a, err
	})
	Register(r, api.VolumeList, e.listVolumes)
	Register(r, api.VolumeDelete, func(_ context.Context, p *api.VolumeDeleteParams) (api.JobStarted, error) {
		if d := e.damagedVolume(p.Name); d != nil {
			return e.deleteDamaged(d, p.Force)
		}
		v, err := e.volume(p.Name)
		if err != nil {
			return api.JobStarted{}, err
		}
		return e.deleteVolume(v)
	})
	Register(r, api.VolumeFlatten, func(_ context.Context, p *api.VolumeParams) (api.JobStarted, error) {
		v, err := e.volume(p.Name)
		if err != nil {
			return api.JobStarted{}, err
		}
		return e.flattenVolume(v)
	})
	RegisterDo(r, api.VolumeSetWriteCache, func(_ context.Context, p *api.VolumeSetWriteCacheParams) error {
		v, err := e.volume(p.Name)
		if err != nil {
			return err
		}
		cache, err := volume.ParseWriteCache(p.WriteCache)
		if err != nil {
			return api.Invalid("%v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), deleteTimeout)
		defer cancel()
		_, err = v.Pool().SetWriteCache(ctx, v, cache)
		return codeOf(err)
	})
	RegisterDo(r, api.VolumeSetCacheLoss, func(_ context.Context, p *api.VolumeSetCacheLossParams) error {
		v, err := e.volume(p.Name)
		if err != nil {
			return err
		}
		to, err := volume.ParseCacheLoss(p.CacheLoss)
		if err != nil {
			return api.Invalid("%v", err)
		}
		return codeOf(v.SetCacheLoss(to))
	})
	RegisterDo(r, api.VolumePromote, func(_ context.Context, p *api.VolumePromoteParams) error {
		v, err := e.volume(p.Name)
		if err != nil {
			return err
		}
		return codeOf(v.Assign(volume.RolePrimary, wal.Epoch(p.Epoch)))
	})
	RegisterDo(r, api.ReplicaAssign, func(_ context.Context, p *api.ReplicaAssignParams) error {
		v, err := e.volume(p.Name)
		if err != nil {
			return err
		}
		return codeOf(v.Assign(volume.ParseRole(p.Role), wal.Epoch(p.Epoch)))
	})
	RegisterDo(r, api.VolumeRelease, func(_ context.Context, p *api.VolumeParams) error {
		v, err := e.volume(p.Name)
		if err != nil {
			return err
		}
		return codeOf(v.ReleaseLoss())
	})
	RegisterDo(r, api.VolumeResize, func(_ context.Context, p *api.VolumeResizeParams) error {
		v, err := e.volume(p.Name)
		if err != nil {
			return err
		}
		return codeOf(v.Resize(p.Bytes))
	})
	RegisterDo(r, api.VolumeSetReadOnly, func(_ context.Context, p *api.VolumeSetReadOnlyParams) error {
		v, err := e.volume(p.Name)
		if err != nil {
			return err
		}
		return codeOf(v.SetReadOnly(p.ReadOnly == nil || *p.ReadOnly))
	})
	Register(r, api.VolumeStatusOf, func(_ context.Context, p *api.VolumeParams) (api.VolumeStatus, error) {
		if d := e.damagedVolume(p.Name); d != nil {
			h := d.Health()
			return api.VolumeStatus{Name: d.Name, UUID: d.UUID.String(), State: damagedState, Score: h.Score, Reasons: h.Reasons}, nil
		}
		v, err := e.volume(p.Name)
		if err != nil {
			return api.VolumeStatus{}, err
		}
		i, err := v.Info()
		if err != nil {
			return api.VolumeStatus{}, err
		}
		vs, err := versionsOf(v)
		if err != nil {
			return api.VolumeStatus{}, err
		}
		unit := v.Pool().ClusterBytes()
		out := api.VolumeStatus{
			Name: i.Name, UUID: i.UUID.String(), Reasons: []string{}, AllocatedBytes: i.Clusters * unit, Snapshots: vs.snapshots,
			SnapshotsMax: volume.SnapshotsMax, SnapshotBytes: vs.clusters * unit, Parent: vs.parent, CloneDepth: uint32(v.CloneDepth()),
			CloneDepthMax: volume.CloneDepthMax,
		}
		h := i.Health(time.Now())
		out.State, out.Score, out.Reasons = h.State.String(), h.Score, append(out.Reasons, h.Reasons...)
		if i.Loss != volume.LossNone {
			out.Loss = &api.VolumeLoss{Of: i.Loss.String(), KnownLSN: uint64(i.LossKnown), FoundLSN: uint64(i.LossFound), Fenced: i.Fenced}
		}
		return out, nil
	})
	Register(r, api.VolumeStatsOf, func(_ context.Context, p *api.VolumeParams) (api.VolumeStats, error) {
		v, err := e.volume(p.Name)
		if err != nil {
			return api.VolumeStats{}, err
		}
		i, err := v.Stats()
		if err != nil {
			return api.VolumeStats{}, err
		}
		return describeStats(&i), nil
	})
}

// volume finds one by UUID or pool/volume.
func (e *Engine) volume(name string) (*volume.Volume, error) {
	d, err := e.Bdevs.Lookup(name)
	if damaged := e.damagedVolume(name); err != nil && damaged != nil {
		return nil, api.Errno(5, "%s", damaged.Problem())
	}
	if err != nil {
		return nil, api.Errno(19, "there is no volume %q; volume_list lists them by UUID, and POOL/VOLUME names one too", name)
	}
	v, ok := d.Driver().(*volume.Volume)
	if !ok {
		return nil, api.Errno(22, "device %s is a %s, not a volume", name, kindOf(d))
	}
	return v, nil
}

// createVolume makes a volume, or gives the one that was asked for before.
func (e *Engine) createVolume(p *api.VolumeCreateParams) (*volume.Volume, error) {
	pool, err := e.pools.find(p.Pool)
	if err != nil {
		return nil, err
	}
	cache, err := volume.ParseWriteCache(p.WriteCache)
	if err != nil {
		return nil, api.Invalid("%v", err)
	}
	loss, err := volume.ParseCacheLoss(p.CacheLoss)
	if err != nil {
		return nil, api.Invalid("%v", err)
	}
	for _, v := range pool.Volumes() {
		if v.Name() != p.Name {
			continue
		}
		i, err := v.Info()
		if err != nil {
			return nil, err
		}
		if i.Bytes != p.Bytes || i.BlockBytes != p.BlockSize || i.Cache != cache || p.UUID != "" && i.UUID != parseUUID(p.UUID) ||
			i.Verify != p.Verify || i.CacheLoss != loss || i.Use != volume.LogUseOf(wal.Use(p.Use)) || i.Thick != p.Thick || p.LogBytes != 0 && roundUp(p.LogBytes, pool.ClusterBytes()) != i.LogAreaBytes {
			return nil, fmt.Errorf("creating volume %s in pool %s: %w by a volume of %d bytes in blocks of %d, write cache %s, on_cache_loss %v, verify %v, thick %v, for use %v with a log of %d bytes, %s",
				p.Name, pool.Name(), volume.ErrExists, i.Bytes, i.BlockBytes, i.Cache, i.CacheLoss, i.Verify, i.Thick, i.Use, i.LogAreaBytes, i.UUID)
		}
		return v, nil
	}
	return pool.CreateVolume(volume.VolumeConfig{
		Name: p.Name, Bytes: p.Bytes, BlockBytes: p.BlockSize, LogBytes: p.LogBytes, Use: wal.Use(p.Use), Cache: cache, CacheLoss: loss, Verify: p.Verify, UUID: parseUUID(p.UUID),
		Thick: p.Thick,
	})
}

// roundUp makes n a multiple of unit.
func roundUp(n, unit uint64) uint64 { return (n + unit - 1) / unit * unit }

// deleteVolume begins the deletion. It goes on until those who use the volume have let it go.
func (e *Engine) deleteVolume(v *volume.Volume) (api.JobStarted, error) {
	about := api.Job{Method: api.VolumeDelete.Name, Object: v.Pool().Name() + "/" + v.Name(), Unit: "clusters"}
	return e.Jobs.Start(about, func(ctx context.Context, progress Progress) error {
		return v.Pool().DeleteVolume(ctx, v, progress.Set)
	})
}

func (e *Engine) listVolumes(_ context.Context, p *api.VolumeListParams) ([]api.Volume, error) {
	var list []*volume.Volume
	out := []api.Volume{}
	if p.Name == "" {
		for _, d := range e.damagedVolumes(p.Pool) {
			out = append(out, describeDamaged(d))
		}
	} else if d := e.damagedVolume(p.Name); d != nil {
		return append(out, describeDamaged(d)), nil
	}
	switch {
	case p.Name != "":
		v, err := e.volume(p.Name)
		if err != nil {
			return nil, err
		}
		list = []*volume.Volume{v}
	case p.Pool != "":
		pool, err := e.pools.find(p.Pool)
		if err != nil {
			return nil, err
		}
		list = pool.Volumes()
	default:
		for _, pool := range e.pools.list() {
			list = append(list, pool.Volumes()...)
		}
	}
	for _, v := range list {
		a, err := describeVolume(v)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}

func describeVolume(v *volume.Volume) (api.Volume, error) {
	i, err := v.Info()
	if err != nil {
		return api.Volume{}, err
	}
	vs, err := versionsOf(v)
	h := i.Health(time.Now())
	return api.Volume{
		Snapshots: vs.snapshots, SnapshotBytes: vs.clusters * v.Pool().ClusterBytes(), Parent: vs.parent,
		Name: i.Name, Pool: v.Pool().Name(), UUID: i.UUID.String(), Bytes: i.Bytes, BlockSize: i.BlockBytes, AllocatedBytes: i.Clusters * v.Pool().ClusterBytes(),
		Thick: i.Thick, ReservedBytes: i.Reserved * v.Pool().ClusterBytes(),
		WriteCache: i.Cache.String(), CacheLoss: i.CacheLoss.String(), ReadOnly: i.ReadOnly, Verify: i.Verify, Use: i.Use.String(), Role: i.Role.String(), State: h.State.String(), Created: i.Created.UTC().Format(time.RFC3339),
	}, err
}

// describeStats is a volume's counters in the words of the interface.
func describeStats(i *volume.VolumeStats) api.VolumeStats {
	out := api.VolumeStats{
		Name: i.Name, UUID: i.UUID.String(), Epoch: uint64(i.Epoch), AppendedLSN: uint64(i.Appended), WrittenLSN: uint64(i.Written),
		DurableLSN: uint64(i.Durable), HomeLSN: uint64(i.Home), LogBytes: i.LogBytes, LogUsed: i.LogUsed, Checkpoints: i.Checkpoints,
		HomeErrors: i.HomeErrors, LogPressure: i.Pressure.String(), DirtyBytes: i.Dirty * volume.PageBytes, HomePasses: i.HomePasses,
		HomeBytes: i.HomeBytes, MapBytes: i.MapBytes, LogBatches: i.Log.Batches, LogFlushes: i.Log.Flushes, LogWritten: i.Log.Bytes,
		LogPayload: i.Log.PayloadBytes, Scrub: describeScrub(&i.Scrub),
	}
	for d := range volume.Doors {
		out.Admissions = append(out.Admissions, api.VolumeDoor{Door: d.String(), Count: i.Door[d], WaitNS: uint64(i.DoorWait[d])})
	}
	for s := range volume.Stages {
		h := &i.Stages[s]
		out.Stages = append(out.Stages, api.VolumeStage{
			Stage: s.String(), Count: h.Count, SumNS: h.Sum, MeanNS: uint64(h.Mean()), P50NS: uint64(h.Quantile(0.5)), P99NS: uint64(h.Quantile(0.99)),
		})
	}
	return out
}
