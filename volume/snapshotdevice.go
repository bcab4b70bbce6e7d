package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is a snapshot as a device: read only, over the map that a checkpoint left. Its reads go the way of the volume's, on the volume's
// reactor, but for the dirty map, of which it has nothing (read.go).

// SnapshotDevice is a snapshot that can be read.
type SnapshotDevice struct {
	v      *Volume
	number SnapshotNumber
	of     Snapshot // as it was when it was opened
	tree   *mapTree // belongs to the volume's reactor
	device *bdev.Device
}

// SnapshotInfo is what is told about a snapshot.
type SnapshotInfo struct {
	Number    SnapshotNumber
	LSN       wal.LSN // it holds the records up to here
	UUID      uuid.UUID
	Name      string
	Bytes     uint64
	Created   time.Time
	Clusters  uint64 // that it has and none before it
	Temporary bool
	Deleting  bool
	Device    *bdev.Device // nil while it is being deleted
	Clones    []string     // names of volumes that branched off
}

// openSnapshot makes a snapshot a device.
func (v *Volume) openSnapshot(n SnapshotNumber) (*SnapshotDevice, error) {
	d := &SnapshotDevice{v: v, number: n}
	found := false
	if err := v.r.Call(func() {
		var i int
		if i, found = v.snapshots.index(n); found {
			d.of = v.snapshots.list[i]
			d.tree = newMapTree(v.tree.c, v.tree.mapOwner, mapRoot{d.of.Map, uint8(d.of.Levels)}, true)
		}
	}); err != nil {
		return nil, err
	}
	if !found {
		return nil, ErrSnapshotNotFound
	}
	g := v.geometry(d.of.Bytes)
	g.Volatile, g.ReadOnly, g.LowSpace = false, true, 0
	var err error
	if d.device, err = v.pool.registry.Register(bdev.Config{
		Name: d.of.UUID.String(), Product: "Logical Volume", UUID: d.of.UUID, Aliases: []string{d.alias(v.pool.Name())},
		Layers: v.pool.handle.Device().Layers() + 1, Geometry: g, Driver: d,
	}); err != nil {
		return nil, fmt.Errorf("making snapshot %v a device: %w", d.of.Name, err)
	}
	v.pool.mu.Lock()
	v.opened = append(v.opened, d)
	v.pool.mu.Unlock()
	return d, nil
}

// openSnapshots makes all of them devices, but those that are being deleted.
func (v *Volume) openSnapshots() error {
	var list []Snapshot
	if err := v.r.Call(func() { list = slices.Clone(v.snapshots.list) }); err != nil {
		return err
	}
	for _, s := range list {
		if s.Flags&SnapshotDeleting == 0 {
			if _, err := v.openSnapshot(s.Number); err != nil {
				return err
			}
		}
	}
	return nil
}

// closeSnapshots takes their devices away. It waits until nobody uses them.
func (v *Volume) closeSnapshots(ctx context.Context) error {
	for _, d := range v.openedSnapshots() {
		if err := v.pool.registry.Unregister(ctx, d.device.Name()); err != nil && !errors.Is(err, bdev.ErrNotFound) {
			return err
		}
	}
	return nil
}

func (v *Volume) openedSnapshots() []*SnapshotDevice {
	v.pool.mu.Lock()
	defer v.pool.mu.Unlock()
	return slices.Clone(v.opened)
}

// findSnapshot finds the device of a snapshot by the snapshot's name or UUID.
func (v *Volume) findSnapshot(name string) (*SnapshotDevice, error) {
	for _, d := range v.openedSnapshots() {
		if d.of.Name.String() == name || d.of.UUID.String() == name {
			return d, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrSnapshotNotFound, name)
}

// alias is the device's name for people.
func (d *SnapshotDevice) alias(pool string) string {
	return pool + "/" + d.v.Name() + "@" + d.of.Name.String()
}

// Volume is the snapshot's.
func (d *SnapshotDevice) Volume() *Volume { return d.v }

// Open gives the snapshot's queue on a reactor.
func (d *SnapshotDevice) Open(r *reactor.Reactor) (bdev.Queue, error) {
	return &door{v: d.v, r: r, tree: d.tree}, nil
}

// Describe gives what is particular to a snapshot.
func (d *SnapshotDevice) Describe() any { return nil }

// Close is the end of the device.
func (d *SnapshotDevice) Close() error {
	v := d.v
	v.pool.mu.Lock()
	v.opened = slices.DeleteFunc(v.opened, func(o *SnapshotDevice) bool { return o == d })
	v.pool.mu.Unlock()
	return v.r.Call(d.tree.close)
}

func (d *SnapshotDevice) info() SnapshotInfo {
	i := infoOf(&d.of)
	i.Device = d.device
	return i
}

func infoOf(s *Snapshot) SnapshotInfo {
	return SnapshotInfo{
		Number: s.Number, LSN: s.LSN, UUID: s.UUID, Name: s.Name.String(), Bytes: s.Bytes, Created: time.Unix(s.Created, 0), Clusters: s.Clusters,
		Temporary: s.Flags&SnapshotTemporary != 0, Deleting: s.Flags&SnapshotDeleting != 0,
	}
}

// Snapshots lists them, the oldest first, with those that are being deleted.
func (v *Volume) Snapshots() ([]SnapshotInfo, error) {
	var list []Snapshot
	if err := v.r.Call(func() { list = slices.Clone(v.snapshots.list) }); err != nil {
		return nil, err
	}
	opened := v.openedSnapshots()
	all := make([]SnapshotInfo, len(list))
	for i := range list {
		all[i] = infoOf(&list[i])
		all[i].Clones = v.pool.clonesOf(v, list[i].Number)
		for _, d := range opened {
			if d.number == list[i].Number {
				all[i].Device = d.device
			}
		}
	}
	return all, nil
}
