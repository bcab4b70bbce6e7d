package volume

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is a volume of which something cannot be brought home: it failed in another place as well, or there is none (V-31).
//
//	fails again ─▶ parked: the homing keeps what it has ─ every retryPeriod ─▶ tried again ─ it goes ─▶ the pass goes on, the log becomes free
//	                 │                                         └─ it fails: parked
//	                 └─▶ the volume is stranded: unsafe. Nothing else comes home, no checkpoint is made, and the log keeps everything. Writes go
//	                     on into it up to the hard mark; from there on they are refused (StatusReadOnly), and taken again when there is room
//
// Control acts that need something to come home are refused meanwhile, and those that wait for it end. A volume that is closed so tries it once
// more, and is closed without a clean mark if that fails; its next opening finds everything in the log.

// retryPeriod is how long a homing that failed twice is left alone.
const retryPeriod = reactor.Second

// stranded is what the flusher knows of homings that wait to be tried again.
type stranded struct {
	n     int         // that failed and have not come home since
	cause bdev.Status // of the last
}

// isStranded says that something cannot be brought home for now.
func (v *Volume) isStranded() bool { return v.flusher.stranded.n > 0 }

// rests says that nothing comes home any more, for good or for now.
func (v *Volume) rests() bool { return v.flusher.state == flushEnded || v.isStranded() }

// atHardMark says that a stranded volume takes no more changes: its log is needed for what it has.
func (v *Volume) atHardMark() bool {
	if !v.isStranded() {
		return false
	}
	p, _ := wal.Admission(v.log.Used(), v.log.Size())
	return p == wal.PressureWait
}

// park lets a homing wait that failed twice.
func (h *homing) park(s bdev.Status) {
	f := h.f
	v := f.v
	if f.ending {
		h.end(s)
		return
	}
	h.cause, h.waits = s, true
	if x := &f.stranded; !h.parked {
		h.parked = true
		x.n++
		f.tell(h, s, true)
	}
	f.stranded.cause = s
	if !f.retry.Set() {
		v.r.SetTimer(&f.retry, v.r.Now()+retryPeriod, (*retry)(f))
	}
	v.ckpt.tell(bdev.StatusReadOnly)
	v.roomFreed()
	v.forced()
}

// unpark notes that a homing came home after all, or is over.
func (h *homing) unpark() {
	if !h.parked {
		return
	}
	h.parked = false
	f := h.f
	if f.stranded.n--; f.stranded.n == 0 {
		f.toldLast = false
		f.v.roomFreed()
	}
}

// retry is the flusher as it tries again.
type retry flusher

// Run lets all that wait begin with what failed.
func (t *retry) Run() {
	f := (*flusher)(t)
	f.v.r.StopTimer(&f.retry)
	for i := range f.homings {
		h := &f.homings[i]
		if !h.waits {
			continue
		}
		h.waits = false
		if f.ending {
			h.end(h.cause)
			continue
		}
		h.status = bdev.StatusOK
		switch h.state {
		case homingCopy:
			h.copy()
		case homingWrite:
			h.write()
		default: // there was no other place
			h.find(homingFind)
		}
	}
}
