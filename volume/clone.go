package volume

import (
	"fmt"
	"slices"
)

// This file is clones: volumes that begin as a snapshot of another one. A clone has the snapshot's map as its root, and goes on from the
// snapshot's LSN in a lineage of its own; what was born up to there is its parent's, and is never written in place nor freed by the clone.
//
//	parent   ──●──●──●── s ──●──●──▶
//	                     └──●──●──▶  clone: LSNs from s+1 on
//
// The snapshot cannot be deleted while there is a clone. Flattening ends that.

// origin is where a clone branched off.
type origin struct {
	volume   VolumeNumber
	snapshot SnapshotNumber
}

// CloneDepthMax is how many clones may follow each other (S-19).
const CloneDepthMax = 16

// clonesOf names the clones of a snapshot.
func (p *Pool) clonesOf(v *Volume, n SnapshotNumber) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for number, o := range p.origins {
		if o.volume == v.page.Number && o.snapshot == n {
			name := fmt.Sprintf("number %d, which is being deleted", number)
			if c := p.volumes[number]; c != nil {
				name = c.name.String()
			}
			all = append(all, name)
		}
	}
	for _, d := range p.damaged {
		if d.Number == 0 {
			all = append(all, fmt.Sprintf("maybe the damaged volume at position %d", d.Position))
		}
	}
	slices.Sort(all)
	return all
}

// branched notes where a volume branched off, if it did. As long as that is noted, the snapshot stays.
func (p *Pool) branched(pg *VolumePage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.origins, pg.Number)
	if pg.Parent != 0 {
		p.origins[pg.Number] = origin{pg.Parent, pg.ParentSnapshot}
	}
}

// depth is how many clones a volume follows.
func (p *Pool) depth(n VolumeNumber) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := 0
	for o, ok := p.origins[n]; ok; o, ok = p.origins[o.volume] {
		k++
	}
	return k
}

// CloneSnapshot makes a volume that begins as a snapshot. Of the config, name, log size, cache, verification and UUID count.
func (v *Volume) CloneSnapshot(snapshot string, cfg VolumeConfig) (*Volume, error) {
	p := v.pool
	v.acts.Lock()
	err := p.lockActs(p.cfg.vigil(p.registry.Group(), p.devices))
	if err != nil {
		v.acts.Unlock()
		return nil, fmt.Errorf("cloning snapshot %s of volume %s as %s: %w", snapshot, v.Name(), cfg.Name, err)
	}
	c, err := p.begins(func() { p.acts.Unlock(); v.acts.Unlock() }, func() (*Volume, error) { return v.cloneSnapshot(snapshot, cfg) })
	if err != nil {
		return nil, fmt.Errorf("cloning snapshot %s of volume %s as %s: %w", snapshot, v.Name(), cfg.Name, err)
	}
	return c, nil
}

func (v *Volume) cloneSnapshot(snapshot string, cfg VolumeConfig) (*Volume, error) {
	p := v.pool
	d, err := v.findSnapshot(snapshot)
	if err != nil {
		return nil, err
	}
	if n := p.depth(v.page.Number); n >= CloneDepthMax {
		return nil, fmt.Errorf("%w: volume %s is a clone of a clone, %d deep already; flatten it", ErrLimit, v.Name(), n)
	}
	s := d.of
	if err := v.r.Call(func() { // flattening may have given it another map since it was opened
		if i, ok := v.snapshots.index(d.number); ok {
			s = v.snapshots.list[i]
		}
	}); err != nil {
		return nil, err
	}
	cfg.Bytes, cfg.BlockBytes = s.Bytes, v.page.BlockBytes
	c, err := p.newVolume(&cfg)
	if err != nil {
		return nil, err
	}
	pg := &c.page
	pg.Parent, pg.ParentSnapshot, pg.BranchedAt = v.page.Number, d.number, s.LSN
	pg.Checkpoint, pg.Durable, pg.Map, pg.Levels = s.LSN, s.LSN, s.Map, s.Levels
	pg.Epochs = []EpochStart{{1, s.LSN + 1}}
	if err := p.begin(c, cfg.LogBytes); err != nil {
		return nil, err
	}
	return c, nil
}
