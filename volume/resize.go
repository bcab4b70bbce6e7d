package volume

import (
	"errors"
	"fmt"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/wal"
)

// This file is how a volume becomes larger (V-49), as an exclusive act:
//
//	1. the map is made as high as the new size needs
//	2. the event is in the log, durable: from here on a crash leaves the new size
//	3. the device has its new blocks, and those who use it hear of them
//
// Until 3 the channels refuse what lies behind the old end. A snapshot has the size that it was taken with. A page that is written between
// the event and its checkpoint may have the new size already; so has the log, and the larger of both counts.

// ErrShrink refuses to make a volume smaller: what lies behind the new end would be lost.
var ErrShrink = fmt.Errorf("%w: a volume cannot become smaller", ErrInvalid)

// Resize makes a volume larger. Its own size again is no change.
func (v *Volume) Resize(bytes uint64) error {
	v.acts.Lock()
	defer v.acts.Unlock()
	v.pool.acts.Lock()
	defer v.pool.acts.Unlock()
	if err := v.resize(bytes); err != nil {
		return fmt.Errorf("resizing volume %s of pool %s to %d bytes: %w", v.Name(), v.pool.Name(), bytes, err)
	}
	return nil
}

func (v *Volume) resize(bytes uint64) error {
	if v.pool.gone {
		return ErrPoolGone
	}
	was := v.page.Bytes // changed under acts alone; more than the device has where a growth has failed with the log
	switch block := uint64(v.page.BlockBytes); {
	case bytes == v.device.Geometry().Blocks*block:
		return nil
	case bytes < was:
		return fmt.Errorf("%w: it has %d bytes", ErrShrink, was)
	case bytes%block != 0 || bytes > PoolBytesMax:
		return fmt.Errorf("%w: a volume has a whole number of blocks of %d bytes, and %d bytes at most", ErrInvalid, block, uint64(PoolBytesMax))
	}
	return v.exclusive(func() error {
		if err := v.growFloor(bytes); err != nil {
			return err
		}
		defer func() { _ = v.growFloor(0) }()
		if err := v.heighten(bytes); err != nil {
			return err
		}
		if err := v.logNow(wal.KindResize, bytes, nil); err != nil {
			return err
		}
		return v.device.Resize(bytes / uint64(v.page.BlockBytes))
	})
}

// heighten makes the map high enough for a size. It is control work.
func (v *Volume) heighten(bytes uint64) error {
	for range 2 {
		var err error
		done := false
		if e := v.r.Call(func() {
			if err = v.changeable(); err == nil {
				done = v.tree.canGrow(v.levelsFor(bytes))
			}
			if done {
				v.tree.grow(v.levelsFor(bytes))
			}
		}); e != nil || err != nil || done {
			return errors.Join(e, err)
		}
		if err := v.settleNow(); err != nil { // a checkpoint makes room in the map's cache
			return err
		}
	}
	return fmt.Errorf("%w: its map has no room in the cache; try again when it has less to do", ErrBusy)
}

func (v *Volume) levelsFor(bytes uint64) uint8 { return uint8(v.shape.Levels(v.shape.Clusters(bytes))) }

// resized notes an event of a new size, which is in the log, or came out of it. There the map grows here.
func (v *Volume) resized(r *wal.Record) {
	bytes := max(v.page.Bytes, r.Block)
	if l := v.levelsFor(bytes); !v.open {
		v.tree.grow(l)
	}
	invariant.Check(v.tree.root.levels >= v.levelsFor(bytes), "volume: a size for which the map is too low")
	v.page.Bytes = bytes
}

// checkResize says why such an event cannot be applied.
func (v *Volume) checkResize(r *wal.Record) error {
	if r.Block == 0 || r.Block%uint64(v.page.BlockBytes) != 0 || r.Block > PoolBytesMax {
		return fmt.Errorf("%w: LSN %d is a %v to %d bytes, in blocks of %d", ErrCorrupt, r.LSN, r.Kind, r.Block, v.page.BlockBytes)
	}
	return nil
}
