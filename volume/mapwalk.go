package volume

import (
	"context"
	"fmt"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/wal"
)

// This file is control work that goes through a map, turn by turn. Each turn begins at the cursor with the map as it is then; a read's grace keeps
// the pages that it stands on. So the flusher waits for a turn, and not for the walk. But a checkpoint that was being made when a turn began gives up
// pages of the map that the turn began with: when one of these cannot be read, the next turn goes on there with the map as it is then.

// turnLeaves is how many leaves or skipped subtrees a turn goes through.
const turnLeaves = 64

// mapWalk is such a walk.
type mapWalk struct {
	v     *Volume
	diff  *mapDiff
	seen  func(d *mapDiff, s diffStep) // diffCluster and diffPage, on the reactor
	turn  *event
	ended bool
	left  int
}

// diffReady goes on when a page is there.
func (w *mapWalk) diffReady(*mapDiff) { w.walk() }

func (w *mapWalk) walk() {
	for {
		switch s := w.diff.next(); s {
		case diffWait:
			return
		case diffMore:
			if w.left--; w.left == 0 {
				w.turn.say(bdev.StatusOK)
				return
			}
		case diffEnd:
			w.ended = true
			w.turn.say(bdev.StatusOK)
			return
		case diffFailed:
			w.turn.say(w.diff.status)
			return
		default:
			w.seen(w.diff, s)
		}
	}
}

// walkMap goes through what sides gives, from a cluster on, and calls seen on the volume's reactor and turned on this goroutine after each turn,
// with the cluster up to which all was seen.
func (v *Volume) walkMap(ctx context.Context, from uint64, sides func() (a, b diffSide), onlyA bool, floor wal.LSN, seen func(d *mapDiff, s diffStep),
	turned func(cursor uint64) error) error {
	w := &mapWalk{v: v, seen: seen}
	for !w.ended {
		if err := ctx.Err(); err != nil {
			return err
		}
		w.turn, w.left = newEvent(), turnLeaves
		var phase uint8
		var commits uint64
		ended, stale := false, false
		if err := v.r.Call(func() {
			if ended = !v.open; ended {
				return
			}
			if w.diff == nil {
				w.diff = newMapDiff(v.tree.c, w)
			}
			phase = v.grace.enter()
			v.walks++
			commits = v.counters.Checkpoints
			a, b := sides()
			w.diff.start(a, b, onlyA, floor, from)
			w.walk()
		}); err != nil {
			return err
		}
		if ended {
			return ErrPoolGone
		}
		s := v.pool.disk.wait(w.turn)
		if err := v.r.Call(func() {
			v.walks--
			stale = v.counters.Checkpoints != commits
			v.grace.leave(phase)
			v.checkIdle()
		}); err != nil {
			return err
		}
		if s != bdev.StatusOK && !stale {
			return fmt.Errorf("its map at cluster %d: %w", w.diff.cursor, w.diff.fault)
		}
		from = w.diff.cursor
		if err := turned(from); err != nil {
			return err
		}
	}
	return nil
}
