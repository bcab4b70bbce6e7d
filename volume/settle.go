package volume

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/wal"
)

// This file is how control waits until what was written before is home, and both slots say so, while hosts go on: what they write later is not
// waited for, or acts on a volume that is always written to would never end.

// settling is one who waits.
type settling struct {
	done   *event
	end    wal.Offset // of the log when it asked
	commit uint64     // and so many checkpoints will have been made when two have begun and ended since
}

// awaitHome lets control hear.
func (v *Volume) awaitHome(e *event) {
	n := v.counters.Checkpoints + 2
	if v.ckpt.step != checkpointNone {
		n++
	}
	v.settlings = append(v.settlings, settling{e, v.log.Head(), n})
	v.flusher.force = true
	v.hurry()
}

// settles tells those who may go on: all of them, if nothing is left to do or nothing will be done.
func (v *Volume) settles(all bool) {
	left := v.settlings[:0]
	for _, s := range v.settlings {
		if all || v.log.Tail() >= s.end && v.counters.Checkpoints >= s.commit {
			s.done.say(bdev.StatusOK)
		} else {
			left = append(left, s)
		}
	}
	v.settlings = left
}
