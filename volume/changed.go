package volume

import (
	"context"
	"errors"
	"fmt"

	"github.com/pollux-storage/pollux/wal"
)

// This file lists what has changed since an LSN (S-11): the clusters whose stamp of the last change is above it. It may name too much, since
// a cluster is the unit; never too little, since what was trimmed keeps its stamp, and restoring stamps what it changes.

// ErrNoHistory says that what changed since then cannot be told.
var ErrNoHistory = errors.New("its history does not reach there")

// ChangedOptions say of what and since when.
type ChangedOptions struct {
	Since         wal.LSN // 0: all that was ever written
	SinceSnapshot string  // instead of it, the LSN of a snapshot
	Snapshot      string  // in which; "" for the volume as it is now
	First         uint64  // block of 4096 bytes to begin at; its cluster is told from its own beginning
}

// Changed calls f for each run of blocks of 4096 bytes of which something has changed, in their order.
func (v *Volume) Changed(ctx context.Context, o ChangedOptions, f func(first, blocks uint64) error) error {
	v.acts.Lock()
	defer v.acts.Unlock()
	if err := v.changedSince(ctx, o, f); err != nil {
		return fmt.Errorf("listing what has changed in volume %s: %w", v.Name(), err)
	}
	return nil
}

func (v *Volume) changedSince(ctx context.Context, o ChangedOptions, f func(first, blocks uint64) error) error {
	until, sides, bytes, err := v.historyOf(o.Snapshot)
	if err != nil {
		return err
	}
	if o.SinceSnapshot != "" {
		d, err := v.findSnapshot(o.SinceSnapshot)
		if err != nil {
			return err
		}
		o.Since = d.of.LSN
	}
	if o.Since > until {
		return fmt.Errorf("%w: it is at LSN %d, and LSN %d is after that", ErrNoHistory, until, o.Since)
	}
	per := uint64(v.shape.Blocks())
	blocks := (bytes + PageBytes - 1) / PageBytes
	if o.First >= blocks {
		return nil
	}
	var first, end uint64
	var found []uint64
	tell := func() error {
		if first == end {
			return nil
		}
		return f(first, min(end, blocks)-first)
	}
	err = v.walkMap(ctx, o.First/per, sides, true, o.Since, func(d *mapDiff, s diffStep) {
		if s == diffCluster && d.a.Change() > o.Since && d.cluster >= o.First/per { // a walk begins with a whole leaf
			found = append(found, d.cluster)
		}
	}, func(uint64) error {
		for _, c := range found {
			if c*per != end {
				if err := tell(); err != nil {
					return err
				}
				first = c * per
			}
			end = (c + 1) * per
		}
		found = found[:0]
		return nil
	})
	if err != nil {
		return err
	}
	return tell()
}

// historyOf gives the newest LSN of a snapshot or of the volume, its map beside nothing, and its size.
func (v *Volume) historyOf(snapshot string) (until wal.LSN, sides func() (a, b diffSide), bytes uint64, err error) {
	nothing := diffSide{mapOwner: mapOwner{shape: v.shape}}
	if snapshot != "" {
		d, err := v.findSnapshot(snapshot)
		if err != nil {
			return 0, nil, 0, err
		}
		return d.of.LSN, func() (a, b diffSide) { return d.tree.side(), nothing }, d.of.Bytes, nil
	}
	if err := v.settleNow(); err != nil { // what is not home yet is in no map
		return 0, nil, 0, err
	}
	err = v.r.Call(func() { until, _, _ = v.log.Marks(); bytes = v.page.Bytes })
	return until, func() (a, b diffSide) { return v.tree.side(), nothing }, bytes, err
}
