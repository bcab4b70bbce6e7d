package volume

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/pollux-storage/pollux/bdev"
)

// This file is what control asks about the tree of snapshots and clones.

// Device is the snapshot as a device.
func (d *SnapshotDevice) Device() *bdev.Device { return d.device }

// Name is the snapshot's name, in its volume.
func (d *SnapshotDevice) Name() string { return d.of.Name.String() }

// Number is the snapshot's number, never used again in its volume.
func (d *SnapshotDevice) Number() SnapshotNumber { return d.number }

// Info tells about the snapshot as it is now.
func (d *SnapshotDevice) Info() (SnapshotInfo, error) {
	v, s, found := d.v, Snapshot{}, false
	if err := v.r.Call(func() {
		var at int
		if at, found = v.snapshots.index(d.number); found {
			s = v.snapshots.list[at]
		}
	}); err != nil {
		return SnapshotInfo{}, err
	}
	if !found {
		return SnapshotInfo{}, fmt.Errorf("%w: %s", ErrSnapshotNotFound, d.Name())
	}
	i := infoOf(&s)
	i.Device, i.Clones = d.device, v.pool.clonesOf(v, d.number)
	return i, nil
}

// Clones are the volumes that branched off, by name.
func (d *SnapshotDevice) Clones() []*Volume {
	p := d.v.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*Volume
	for number, o := range p.origins {
		if o.volume == d.v.page.Number && o.snapshot == d.number && p.volumes[number] != nil {
			all = append(all, p.volumes[number])
		}
	}
	slices.SortFunc(all, func(a, b *Volume) int { return slices.Compare(a.name[:], b.name[:]) })
	return all
}

// SnapshotDevices are the snapshots that can be read, the oldest first.
func (v *Volume) SnapshotDevices() []*SnapshotDevice {
	all := v.openedSnapshots()
	slices.SortFunc(all, func(a, b *SnapshotDevice) int { return cmp.Compare(a.number, b.number) })
	return all
}

// Parent is the snapshot that a volume branched off and still needs; nil if there is none.
func (v *Volume) Parent() *SnapshotDevice {
	p := v.pool
	p.mu.Lock()
	o, ok := p.origins[v.page.Number]
	parent := p.volumes[o.volume]
	p.mu.Unlock()
	if !ok || parent == nil {
		return nil
	}
	for _, d := range parent.openedSnapshots() {
		if d.number == o.snapshot {
			return d
		}
	}
	return nil
}

// CloneDepth is how many clones a volume stands on, itself counted; CloneDepthMax is the most.
func (v *Volume) CloneDepth() int { return v.pool.depth(v.page.Number) }

// SnapshotsNamed finds the snapshots of a name, in all volumes.
func (p *Pool) SnapshotsNamed(name string) []*SnapshotDevice {
	var all []*SnapshotDevice
	for _, v := range p.Volumes() {
		for _, d := range v.openedSnapshots() {
			if d.Name() == name {
				all = append(all, d)
			}
		}
	}
	return all
}

// mayBeDevice says why a new snapshot could not be made a device. Once its event is in the log it is too late: a snapshot that cannot be one
// keeps its pool from being opened.
func (v *Volume) mayBeDevice(s *Snapshot) error {
	d := &SnapshotDevice{v: v, of: *s}
	for _, name := range []string{s.UUID.String(), d.alias(v.pool.Name())} {
		if o, err := v.pool.registry.Lookup(name); err == nil {
			return fmt.Errorf("%w: %s is device %s", ErrExists, name, o.Name())
		}
	}
	return nil
}
