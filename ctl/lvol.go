package ctl

import (
	"context"
	"syscall"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/volume"
)

// This file is SPDK's methods about pools and volumes, which it calls lvstores and lvols.

func (e *Engine) registerLvols() {
	r := e.Methods
	ps := &e.pools
	Register(r, api.BdevLvolCreateLvstore, func(_ context.Context, p *api.LvolCreateStoreParams) (string, error) {
		if _, err := ps.find(p.LvsName); err == nil {
			return "", api.Errno(syscall.EEXIST, "creating pool %s on %s: there is one of that name", p.LvsName, p.BdevName)
		}
		pool, err := ps.create(&api.PoolCreateParams{Name: p.LvsName, Device: p.BdevName, ClusterBytes: min(p.ClusterSz, clusterBytesMax)})
		if err != nil {
			return "", codeOf(err)
		}
		return pool.ID().String(), nil
	})
	RegisterDo(r, api.BdevLvolDeleteLvstore, func(_ context.Context, p *api.LvolStoreParams) error {
		pool, err := ps.store(p)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), deleteTimeout)
		defer cancel()
		return codeOf(ps.destroy(ctx, pool))
	})
	RegisterDo(r, api.BdevLvolRenameLvstore, func(_ context.Context, p *api.LvolRenameParams) error {
		pool, err := ps.store(&api.LvolStoreParams{LvsName: p.OldName})
		if err != nil {
			return err
		}
		return codeOf(ps.rename(pool, p.NewName))
	})
	RegisterDo(r, api.BdevLvolGrowLvstore, func(_ context.Context, p *api.LvolStoreParams) error {
		pool, err := ps.store(p)
		if err != nil {
			return err
		}
		return codeOf(pool.Grow())
	})
	Register(r, api.BdevLvolGetLvstores, func(_ context.Context, p *api.LvolStoreParams) ([]api.LvolStore, error) {
		list, err := ps.stores(p)
		if err != nil {
			return nil, err
		}
		out := []api.LvolStore{}
		for _, pool := range list {
			i, err := pool.Info()
			if err != nil {
				return nil, codeOf(err)
			}
			d, err := e.Bdevs.Lookup(pool.device)
			if err != nil {
				return nil, codeOf(err)
			}
			out = append(out, api.LvolStore{
				UUID: i.UUID.String(), Name: i.Name, BaseBdev: i.Device, TotalDataClusters: i.Clusters, FreeClusters: i.ClustersFree,
				BlockSize: d.Geometry().BlockSize, ClusterSize: i.ClusterBytes, MaxGrowableSize: volume.PoolBytesMax,
			})
		}
		return out, nil
	})

	Register(r, api.BdevLvolCreate, func(_ context.Context, p *api.LvolCreateParams) (string, error) {
		v, err := e.createLvol(p)
		if err != nil {
			return "", codeOf(err)
		}
		return v.Device().Name(), nil
	})
	Register(r, api.BdevLvolGetLvols, func(_ context.Context, p *api.LvolGetParams) ([]api.Lvol, error) {
		list, err := ps.stores(&api.LvolStoreParams{UUID: p.LvsUUID, LvsName: p.LvsName})
		if err != nil {
			return nil, err
		}
		out := []api.Lvol{}
		for _, pool := range list {
			for _, v := range pool.Volumes() {
				for _, d := range v.SnapshotDevices() {
					out = append(out, lvolOfSnapshot(d).list())
				}
				out = append(out, lvolOfVolume(v).list())
			}
		}
		return out, nil
	})
	RegisterDo(r, api.BdevLvolDelete, func(_ context.Context, p *api.BdevNameParams) error {
		if e.isSnapshot(p.Name) {
			d, err := e.snapshot(p.Name)
			if err != nil {
				return err
			}
			return deleteSnapshot(d)
		}
		v, err := e.volume(p.Name)
		if err != nil {
			return err
		}
		started, err := e.deleteVolume(v)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), deleteTimeout)
		defer cancel()
		return e.Jobs.await(ctx, started.Job)
	})
	RegisterDo(r, api.BdevLvolRename, func(_ context.Context, p *api.LvolRenameParams) error {
		if e.isSnapshot(p.OldName) {
			return api.Errno(syscall.EOPNOTSUPP, "renaming %s to %s: a snapshot keeps its name", p.OldName, p.NewName)
		}
		v, err := e.volume(p.OldName)
		if err == nil && v.Name() != p.NewName {
			err = lvolNameFree(v.Pool(), p.NewName)
		}
		if err != nil {
			return err
		}
		return codeOf(v.Pool().RenameVolume(v, p.NewName))
	})
	RegisterDo(r, api.BdevLvolResize, func(_ context.Context, p *api.LvolResizeParams) error {
		v, err := e.volume(p.Name)
		if err != nil {
			return err
		}
		if p.SizeInMiB > volume.PoolBytesMax>>20 {
			return api.Errno(syscall.EINVAL, "resizing volume %s: %d MiB are more than any pool has", p.Name, p.SizeInMiB)
		}
		return codeOf(v.Resize(p.SizeInMiB << 20))
	})
	RegisterDo(r, api.BdevLvolSetReadOnly, func(_ context.Context, p *api.BdevNameParams) error {
		if e.isSnapshot(p.Name) {
			return nil // it is
		}
		v, err := e.volume(p.Name)
		if err != nil {
			return err
		}
		return codeOf(v.SetReadOnly(true))
	})
}

// clusterBytesMax is the largest cluster; SPDK's default is four times that.
const clusterBytesMax = volume.PageBytes << volume.ClusterShiftMax

// store finds the pool that one of the two names.
func (ps *pools) store(p *api.LvolStoreParams) (*openPool, error) {
	switch {
	case p.UUID == "" && p.LvsName == "":
		return nil, api.Errno(syscall.EINVAL, "no pool is named; give uuid or lvs_name")
	case p.UUID != "" && p.LvsName != "":
		return nil, api.Errno(syscall.EINVAL, "uuid %s and lvs_name %s are both given; give one of them", p.UUID, p.LvsName)
	}
	for _, pool := range ps.list() {
		if p.UUID != "" && pool.ID() == parseUUID(p.UUID) || p.LvsName != "" && pool.Name() == p.LvsName {
			return pool, nil
		}
	}
	return nil, api.Errno(syscall.ENODEV, "there is no pool %s%s; bdev_lvol_get_lvstores lists them", p.UUID, p.LvsName)
}

// stores gives the pool that is named, or all.
func (ps *pools) stores(p *api.LvolStoreParams) ([]*openPool, error) {
	if *p == (api.LvolStoreParams{}) {
		return ps.list(), nil
	}
	one, err := ps.store(p)
	return []*openPool{one}, err
}

// createLvol makes a volume. One that is not thin is thick, and stays so; SPDK's becomes thin with its first snapshot.
func (e *Engine) createLvol(p *api.LvolCreateParams) (*volume.Volume, error) {
	pool, err := e.pools.store(&p.LvolStoreParams)
	if err != nil {
		return nil, err
	}
	if p.SizeInMiB > volume.PoolBytesMax>>20 {
		return nil, api.Errno(syscall.EINVAL, "creating volume %s: %d MiB are more than any pool has", p.LvolName, p.SizeInMiB)
	}
	if err := lvolNameFree(pool.Pool, p.LvolName); err != nil {
		return nil, err
	}
	return pool.CreateVolume(volume.VolumeConfig{Name: p.LvolName, Bytes: p.SizeInMiB << 20, Thick: !p.ThinProvision})
}

// await waits for the end of a job, for calls that answer only then.
func (js *Jobs) await(ctx context.Context, name string) error {
	j, err := js.find(name)
	if err != nil {
		return err
	}
	select {
	case <-j.ended:
	case <-ctx.Done():
		return api.Errno(syscall.EBUSY, "%s goes on as job %s, and nobody waits for it any more: engine_jobs tells how far it is", j.state().Method, name)
	}
	return j.failure()
}

// failure is what a job ended with.
func (j *job) failure() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return codeOf(j.err)
}
