package ctl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/volume"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the methods about snapshots and clones. A snapshot is a device of three names:
//
//	UUID                     the device's own
//	POOL/VOLUME@SNAPSHOT     its alias
//	POOL/SNAPSHOT            SPDK's, as long as no volume and no other snapshot in the pool is meant by it: it is found, not taken

func (e *Engine) registerSnapshots() {
	e.Bdevs.Resolve(e.snapshotInPool)
	r := e.Methods
	Register(r, api.SnapshotCreate, func(_ context.Context, p *api.SnapshotCreateParams) (api.Snapshot, error) {
		v, err := e.volume(p.Volume)
		if err != nil {
			return api.Snapshot{}, err
		}
		i, err := createSnapshot(v, p.Name, parseUUID(p.UUID))
		if err != nil {
			return api.Snapshot{}, codeOf(err)
		}
		return describeSnapshot(v, &i)
	})
	RegisterDo(r, api.SnapshotDelete, func(_ context.Context, p *api.SnapshotParams) error {
		d, err := e.snapshot(p.Name)
		if err != nil {
			return err
		}
		return deleteSnapshot(d)
	})
	Register(r, api.SnapshotList, e.listSnapshots)
	Register(r, api.SnapshotRestore, func(_ context.Context, p *api.SnapshotRestoreParams) (api.JobStarted, error) {
		d, err := e.snapshot(p.Name)
		if err != nil {
			return api.JobStarted{}, err
		}
		o := volume.RestoreOptions{DropNewer: p.DropNewer, Force: p.Force, Request: parseUUID(p.Request)}
		return e.Jobs.Start(api.Job{Method: api.SnapshotRestore.Name, Object: snapshotPath(d)}, func(ctx context.Context, _ Progress) error {
			return d.Volume().RestoreSnapshot(ctx, d.Device().Name(), o)
		})
	})
	Register(r, api.SnapshotDiffOf, func(ctx context.Context, p *api.SnapshotDiffParams) (api.SnapshotDiff, error) {
		v, err := e.volume(p.Volume)
		if err != nil {
			return api.SnapshotDiff{}, err
		}
		out, err := diffOf(ctx, v, p)
		return out, codeOf(err)
	})
	Register(r, api.SnapshotClone, func(_ context.Context, p *api.SnapshotCloneParams) (api.Volume, error) {
		d, err := e.snapshot(p.Name)
		if err != nil {
			return api.Volume{}, err
		}
		v, err := cloneSnapshot(d, p)
		if err != nil {
			return api.Volume{}, codeOf(err)
		}
		return describeVolume(v)
	})
}

// snapshot finds one by any of its names.
func (e *Engine) snapshot(name string) (*volume.SnapshotDevice, error) {
	d, err := e.Bdevs.Lookup(name)
	if err != nil {
		if several := e.snapshotsInPool(name); len(several) > 1 {
			var names []string
			for _, s := range several {
				names = append(names, snapshotPath(s))
			}
			return nil, api.Errno(syscall.EINVAL, "%s may be any of %s: name one of them", name, strings.Join(names, ", "))
		}
		return nil, api.Errno(syscall.ENODEV, "there is no snapshot %q; snapshot_list lists them by UUID, and POOL/VOLUME@SNAPSHOT names one too", name)
	}
	s, ok := d.Driver().(*volume.SnapshotDevice)
	if !ok {
		return nil, api.Errno(syscall.EINVAL, "device %s is a %s, not a snapshot", name, kindOf(d))
	}
	return s, nil
}

// kindOf says what a device is.
func kindOf(d *bdev.Device) string {
	switch v := d.Driver().(type) {
	case *volume.Volume:
		return "volume"
	case *volume.SnapshotDevice:
		return "snapshot of volume " + v.Volume().Name()
	}
	return d.Product()
}

// snapshotsInPool are those that a name POOL/SNAPSHOT may mean.
func (e *Engine) snapshotsInPool(name string) []*volume.SnapshotDevice {
	for _, p := range e.pools.list() {
		if rest, ok := strings.CutPrefix(name, p.Name()+"/"); ok {
			if all := p.SnapshotsNamed(rest); len(all) > 0 {
				return all
			}
		}
	}
	return nil
}

// snapshotInPool is the one that it means.
func (e *Engine) snapshotInPool(name string) *bdev.Device {
	if all := e.snapshotsInPool(name); len(all) == 1 {
		return all[0].Device()
	}
	return nil
}

// snapshotPath is the name of a snapshot that is good in any case.
func snapshotPath(d *volume.SnapshotDevice) string {
	v := d.Volume()
	return v.Pool().Name() + "/" + v.Name() + "@" + d.Name()
}

// createSnapshot takes one, or gives the one that was taken when the same UUID was asked for before. A name alone does not do that: who asks
// for it again expects the volume as it is now.
func createSnapshot(v *volume.Volume, name string, id uuid.UUID) (volume.SnapshotInfo, error) {
	if id != uuid.Nil {
		for _, d := range v.SnapshotDevices() {
			if d.Device().UUID() == id && d.Name() == name {
				return d.Info()
			}
		}
	}
	return v.CreateSnapshot(volume.SnapshotConfig{Name: name, UUID: id})
}

func deleteSnapshot(d *volume.SnapshotDevice) error {
	ctx, cancel := context.WithTimeout(context.Background(), deleteTimeout)
	defer cancel()
	return codeOf(d.Volume().DeleteSnapshot(ctx, d.Device().Name()))
}

// cloneSnapshot makes a volume of a snapshot, or gives the one that was asked for before.
func cloneSnapshot(d *volume.SnapshotDevice, p *api.SnapshotCloneParams) (*volume.Volume, error) {
	parent := d.Volume()
	of, err := parent.Info()
	if err != nil {
		return nil, err
	}
	cfg := volume.VolumeConfig{
		Name: p.Clone, LogBytes: p.LogBytes, Use: wal.Use(p.Use), Cache: of.Cache, CacheLoss: of.CacheLoss, Verify: of.Verify,
		UUID: parseUUID(p.UUID),
	}
	if p.Use == "" {
		cfg.Use = wal.Use(of.Use.String())
	}
	if p.WriteCache != "" {
		if cfg.Cache, err = volume.ParseWriteCache(p.WriteCache); err != nil {
			return nil, api.Invalid("%v", err)
		}
	}
	if p.Verify != nil {
		cfg.Verify = *p.Verify
	}
	for _, v := range d.Clones() {
		if v.Name() != p.Clone {
			continue
		}
		i, err := v.Info()
		if err != nil {
			return nil, err
		}
		if i.Cache != cfg.Cache || i.Verify != cfg.Verify || i.Use != volume.LogUseOf(cfg.Use) || p.UUID != "" && i.UUID != cfg.UUID ||
			p.LogBytes != 0 && roundUp(p.LogBytes, parent.Pool().ClusterBytes()) != i.LogAreaBytes {
			return nil, fmt.Errorf("cloning snapshot %s as %s: %w by a clone of it with write cache %s, verify %v, for use %v with a log of %d bytes, %s",
				snapshotPath(d), p.Clone, volume.ErrExists, i.Cache, i.Verify, i.Use, i.LogAreaBytes, i.UUID)
		}
		return v, nil
	}
	return parent.CloneSnapshot(d.Device().Name(), cfg)
}

func (e *Engine) listSnapshots(_ context.Context, p *api.SnapshotListParams) ([]api.Snapshot, error) {
	var of []*volume.Volume
	only := volume.SnapshotNumber(0)
	switch {
	case p.Name != "":
		d, err := e.snapshot(p.Name)
		if err != nil {
			return nil, err
		}
		of, only = []*volume.Volume{d.Volume()}, d.Number()
	case p.Volume != "":
		v, err := e.volume(p.Volume)
		if err != nil {
			return nil, err
		}
		of = []*volume.Volume{v}
	case p.Pool != "":
		pool, err := e.pools.find(p.Pool)
		if err != nil {
			return nil, err
		}
		of = pool.Volumes()
	default:
		for _, pool := range e.pools.list() {
			of = append(of, pool.Volumes()...)
		}
	}
	out := []api.Snapshot{}
	for _, v := range of {
		list, err := v.Snapshots()
		if err != nil {
			return nil, err
		}
		for i := range list {
			if only != 0 && list[i].Number != only {
				continue
			}
			a, err := describeSnapshot(v, &list[i])
			if err != nil {
				return nil, err
			}
			out = append(out, a)
		}
	}
	return out, nil
}

func describeSnapshot(v *volume.Volume, i *volume.SnapshotInfo) (api.Snapshot, error) {
	of, err := v.Info()
	if err != nil {
		return api.Snapshot{}, err
	}
	return api.Snapshot{
		Name: i.Name, Volume: of.Name, Pool: v.Pool().Name(), UUID: i.UUID.String(), Number: uint64(i.Number), LSN: uint64(i.LSN), Bytes: i.Bytes,
		BlockSize: of.BlockBytes, AllocatedBytes: i.Clusters * v.Pool().ClusterBytes(), Created: i.Created.UTC().Format(time.RFC3339), Clones: i.Clones,
		Temporary: i.Temporary, Deleting: i.Deleting,
	}, nil
}

// diffMax is how many ranges one answer has at most.
const diffMax = 100_000

// diffOf lists what has changed, as far as one answer goes.
func diffOf(ctx context.Context, v *volume.Volume, p *api.SnapshotDiffParams) (api.SnapshotDiff, error) {
	if p.SinceSnapshot != "" && p.SinceLSN != 0 {
		return api.SnapshotDiff{}, api.Invalid("since_snapshot %s and since_lsn %d are both given; give one of them", p.SinceSnapshot, p.SinceLSN)
	}
	i, err := v.Info() // before it is looked: what is appended by now will be home
	if err != nil {
		return api.SnapshotDiff{}, err
	}
	out := api.SnapshotDiff{SinceLSN: p.SinceLSN, LSN: uint64(i.Written), ClusterBytes: v.Pool().ClusterBytes(), Ranges: []api.ChangedRange{}}
	for _, d := range v.SnapshotDevices() {
		s, err := d.Info()
		if err != nil {
			return api.SnapshotDiff{}, err
		}
		if s.Name == p.Snapshot || s.UUID.String() == p.Snapshot {
			out.LSN, i.Bytes = uint64(s.LSN), s.Bytes
		}
		if s.Name == p.SinceSnapshot || s.UUID.String() == p.SinceSnapshot {
			out.SinceLSN = uint64(s.LSN)
		}
	}
	enough := errors.New("enough")
	most := int(max(1, min(p.MaxRanges, diffMax)))
	err = v.Changed(ctx, volume.ChangedOptions{
		Since: wal.LSN(p.SinceLSN), SinceSnapshot: p.SinceSnapshot, Snapshot: p.Snapshot, First: p.Offset / volume.PageBytes,
	}, func(first, blocks uint64) error {
		at := first * volume.PageBytes
		switch {
		case at >= i.Bytes: // it has grown meanwhile
			return enough
		case len(out.Ranges) == most:
			out.NextOffset = at
			return enough
		}
		out.Ranges = append(out.Ranges, api.ChangedRange{Offset: at, Bytes: min(blocks*volume.PageBytes, i.Bytes-at)})
		return nil
	})
	if errors.Is(err, enough) {
		err = nil
	}
	return out, err
}

// versions is what a volume's snapshots and parent are.
type versions struct {
	snapshots uint32 // without those that are being deleted
	clusters  uint64 // that they have, with those
	parent    string
}

func versionsOf(v *volume.Volume) (h versions, err error) {
	list, err := v.Snapshots()
	for _, s := range list {
		if h.clusters += s.Clusters; !s.Deleting {
			h.snapshots++
		}
	}
	if d := v.Parent(); d != nil {
		h.parent = snapshotPath(d)
	}
	return h, err
}
