package reactor

import "github.com/pollux-storage/pollux/internal/invariant"

// Timer runs its Runner once at a time, on the reactor that it was set on. It is part of its owner.
type Timer struct {
	at    Ticks
	run   Runner
	place int // in the heap, 1-based; 0 is not set
}

// Set reports whether the timer waits.
func (t *Timer) Set() bool { return t.place != 0 }

// At is the time it was set to.
func (t *Timer) At() Ticks { return t.at }

// SetTimer lets t run run at the time at, or in the next tick if that has passed. A timer that waits is moved.
func (r *Reactor) SetTimer(t *Timer, at Ticks, run Runner) {
	if t.place != 0 {
		r.timers.remove(t)
	}
	t.at, t.run = at, run
	r.timers.add(t)
}

// StopTimer takes t back; stopping one that does not wait is nothing.
func (r *Reactor) StopTimer(t *Timer) {
	if t.place != 0 {
		r.timers.remove(t)
	}
}

// timerHeap is a binary heap by time, 1-based. A timer knows its place, so that stopping one costs log n too; the slice
// grows only past its high-water mark.
type timerHeap struct{ t []*Timer }

func (h *timerHeap) next() (Ticks, bool) {
	if len(h.t) == 0 {
		return 0, false
	}
	return h.t[0].at, true
}

func (h *timerHeap) add(t *Timer) {
	h.t = append(h.t, t)
	t.place = len(h.t)
	h.up(t.place)
}

func (h *timerHeap) remove(t *Timer) {
	i, n := t.place, len(h.t)
	invariant.Check(i <= n && h.t[i-1] == t, "reactor: timer set on another reactor")
	h.swap(i, n)
	h.t[n-1] = nil
	h.t = h.t[:n-1]
	t.place = 0
	if i < n {
		h.down(i)
		h.up(i)
	}
}

func (h *timerHeap) swap(i, j int) {
	h.t[i-1], h.t[j-1] = h.t[j-1], h.t[i-1]
	h.t[i-1].place, h.t[j-1].place = i, j
}

func (h *timerHeap) up(i int) {
	for i > 1 && h.t[i-1].at < h.t[i/2-1].at {
		h.swap(i, i/2)
		i /= 2
	}
}

func (h *timerHeap) down(i int) {
	for {
		c := 2 * i
		if c > len(h.t) {
			return
		}
		if c < len(h.t) && h.t[c].at < h.t[c-1].at {
			c++
		}
		if h.t[i-1].at <= h.t[c-1].at {
			return
		}
		h.swap(i, c)
		i = c
	}
}

// expire runs the timers that are due. One that sets itself again for now waits for the next tick.
func (h *timerHeap) expire(now Ticks) int {
	n := 0
	for due := len(h.t); n < due && len(h.t) > 0 && h.t[0].at <= now; n++ {
		t := h.t[0]
		h.remove(t)
		t.run.Run()
	}
	return n
}
