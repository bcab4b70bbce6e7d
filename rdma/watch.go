package rdma

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/reactor/ring"
)

// This file is how completions wake a reactor that sleeps: the channel of the completion queue is watched by an operation of the ring that goes
// on until it is cancelled. A completion queue tells of one completion each time it is armed.

// watched hears of what a watch sees.
type watched interface {
	woken()     // something has completed since it was armed
	unwatched() // the descriptor is not used any more
}

// watch watches the channel of a completion queue, on one reactor.
type watch struct {
	r     *reactor.Reactor
	v     Verbs
	cq    CQ
	op    reactor.Op
	armed bool
	ends  bool
	stats *Stats
	to    watched // nil: nobody wants to hear any more
}

func (w *watch) begin() {
	w.r.Bind(&w.op, w)
	w.start()
}

func (w *watch) start() {
	ring.PrepPollMultishot(w.r.Start(&w.op), w.v.CQFD(w.cq), unix.POLLIN)
}

// arm asks to be woken by the next completion.
func (w *watch) arm() error {
	if w.armed {
		return nil
	}
	w.stats.Arms++
	if err := w.v.Arm(w.cq); err != nil {
		return fmt.Errorf("asking to hear of completions: %w", err)
	}
	w.armed = true
	return nil
}

// close ends the watch; to hears unwatched.
func (w *watch) close() {
	w.ends = true
	w.r.Cancel(&w.op)
}

// OpDone hears that the channel is readable, or that it is no longer watched.
func (w *watch) OpDone(_ *reactor.Op, res int32, flags uint32) {
	if res > 0 && !w.ends {
		w.armed = false
		w.stats.Wakes++
		_ = w.v.Heard(w.cq) // what cannot be read was read before
		w.to.woken()
	}
	switch {
	case flags&ring.More != 0:
	case w.ends:
		w.r.Unbind(&w.op)
		w.to.unwatched()
	default:
		w.start()
	}
}
