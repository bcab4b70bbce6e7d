package volume

import (
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/wal"
)

// This file is what may have been lost of a volume, and how it is known (V-39).
//
// A volatile cache acknowledges what is written and not yet flushed. When the engine is killed, the devices go on and have it all. When
// the machine loses its power or starts anew, they may not. Each life that a log begins has the boot id of its machine, durable before its
// first record; a volume that is closed in order says so with its last checkpoint. So whoever opens it goes through the lives, from the
// checkpoint on: where one follows another boot id, and the one before did not end in order, what was acknowledged above the durable mark
// known then may be gone. What the log still has is found; what it has not cannot be counted.
//
// The finding goes into the volume page with the next checkpoint, and until then is made again by every opening. It stays until somebody
// releases it.

// Loss is what may have been lost of a volume.
type Loss uint8

// The losses; the values stand on the device.
const (
	LossNone   Loss = iota
	LossCache       // what was acknowledged by a volatile cache and not flushed
	LossDevice      // what the log held above the checkpoint: its device is gone
	Losses          // how many there are
)

var lossNames = [Losses]string{"none", "cache", "log device"}

func (l Loss) String() string {
	if l < Losses {
		return lossNames[l]
	}
	return fmt.Sprintf("loss %d", uint8(l))
}

// unmarked says that the last checkpoint does not say yet that the volume was closed in order. One whose log has ended never is: what was
// appended and not written is not home.
func (v *Volume) unmarked() bool {
	return v.parting && !v.page.Flags.Has(VolumeClean) && v.log.Failed() == bdev.StatusOK
}

// markClean lets a checkpoint say so: it is closed, and everything is home.
func (v *Volume) markClean(p *VolumePage) {
	p.Flags &^= VolumeClean
	if appended, _, _ := v.log.Marks(); v.parting && p.Checkpoint == appended {
		p.Flags |= VolumeClean
	}
}

// judgeLoss notes what may have been lost before this opening.
func (v *Volume) judgeLoss(c *wal.Recovery) {
	if v.cache != CacheVolatile {
		return
	}
	boot, ended := v.page.Boot, v.page.Flags.Has(VolumeClean) || v.page.Life == 0
	next := func(known, found wal.LSN, now uuid.UUID) {
		if !ended && now != boot {
			v.page.loses(known, found)
		}
		boot, ended = now, false
	}
	for _, b := range c.Beginnings() {
		next(max(b.Durable, v.page.Durable), b.After, b.Boot)
	}
	_, found, _ := v.log.Marks()
	next(c.Durable(), found, v.pool.cfg.Boot)
}

// loses notes that what a cache held may be gone. An older finding that nobody released is part of it.
func (v *VolumePage) loses(known, found wal.LSN) {
	if v.Loss != LossNone {
		known, found = min(known, v.LossKnown), max(found, v.LossFound)
	} else {
		v.Loss = LossCache
	}
	v.LossKnown, v.LossFound = known, found
	if v.CacheLoss == CacheLossFence {
		v.Flags |= VolumeFenced
	}
}

// ReleaseLoss says that somebody knows what may have been lost: the volume no longer reports it, and is served again if it was fenced.
func (v *Volume) ReleaseLoss() error {
	err := v.act(func(pg *VolumePage) {
		pg.Loss, pg.LossKnown, pg.LossFound, pg.Flags = LossNone, 0, 0, pg.Flags&^VolumeFenced
	})
	if err != nil {
		return fmt.Errorf("releasing volume %s of pool %s: %w", v.Name(), v.pool.Name(), err)
	}
	return nil
}

// SetCacheLoss says what happens when the volume's cache may have been lost, from the next opening on.
func (v *Volume) SetCacheLoss(to CacheLoss) error {
	if err := v.act(func(pg *VolumePage) { pg.CacheLoss = to }); err != nil {
		return fmt.Errorf("setting on_cache_loss of volume %s of pool %s to %v: %w", v.Name(), v.pool.Name(), to, err)
	}
	return nil
}

// act changes the page as an act of control.
func (v *Volume) act(change func(pg *VolumePage)) error {
	v.pool.acts.Lock()
	defer v.pool.acts.Unlock()
	if v.pool.gone {
		return ErrPoolGone
	}
	return v.edit(change)
}

// ParseCacheLoss reads one of the two words.
func ParseCacheLoss(s string) (CacheLoss, error) {
	for c := range cacheLossEnd {
		if strings.EqualFold(c.String(), s) {
			return c, nil
		}
	}
	return 0, fmt.Errorf("no policy %q for a lost cache: choose report or fence", s)
}
