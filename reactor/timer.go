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

// SetTimer lets t run run at the time at, or in the next tick if that has passed. A timer that waits is moved. Timers of one
// time run in the order in which they were set.
func (r *Reactor) SetTimer(t *Timer, at Ticks, run Runner) {
	if t.place != 0 {
		r.timers.remove(t)
	}
	t.at, t.run = at, run
	r.timers.add(t, max(at, r.now+1))
}

// StopTimer takes t back; stopping one that does not wait is nothing.
func (r *Reactor) StopTimer(t *Timer) {
	if t.place != 0 {
		r.timers.remove(t)
	}
}

// TimersSet is the number of timers that wait.
func (r *Reactor) TimersSet() int { return len(r.timers.t) }

// timerHeap is a binary heap, 1-based, by time and then by the order of setting. A timer knows its place, so that stopping one
// costs log n too; the slice grows only past its high-water mark.
type timerHeap struct {
	t   []timerPlace
	set uint64 // timers set so far
}

// timerPlace holds what the heap compares, so that moving through it does not touch the timers.
type timerPlace struct {
	due   Ticks
	order uint64
	timer *Timer
}

func (a *timerPlace) before(b *timerPlace) bool {
	return a.due < b.due || a.due == b.due && a.order < b.order
}

func (h *timerHeap) next() (Ticks, bool) {
	if len(h.t) == 0 {
		return 0, false
	}
	return h.t[0].due, true
}

func (h *timerHeap) add(t *Timer, due Ticks) {
	h.set++
	h.t = append(h.t, timerPlace{})
	h.up(len(h.t), timerPlace{due, h.set, t})
}

func (h *timerHeap) remove(t *Timer) {
	i, n := t.place, len(h.t)
	invariant.Check(i <= n && h.t[i-1].timer == t, "reactor: timer set on another reactor")
	t.place = 0
	last := h.t[n-1]
	h.t[n-1] = timerPlace{}
	h.t = h.t[:n-1]
	switch {
	case i == n:
	case i > 1 && last.before(&h.t[i/2-1]):
		h.up(i, last)
	default:
		h.down(i, last)
	}
}

func (h *timerHeap) put(i int, p timerPlace) {
	h.t[i-1] = p
	p.timer.place = i
}

// up puts p, for which place i is free, there or above.
func (h *timerHeap) up(i int, p timerPlace) {
	for ; i > 1 && p.before(&h.t[i/2-1]); i /= 2 {
		h.put(i, h.t[i/2-1])
	}
	h.put(i, p)
}

// down puts p, for which place i is free, there or below.
func (h *timerHeap) down(i int, p timerPlace) {
	for {
		c := 2 * i
		if c < len(h.t) && h.t[c].before(&h.t[c-1]) {
			c++
		}
		if c > len(h.t) || !h.t[c-1].before(&p) {
			h.put(i, p)
			return
		}
		h.put(i, h.t[c-1])
		i = c
	}
}

// expire runs the timers that are due, each once: what they set comes later than now (SetTimer).
func (h *timerHeap) expire(now Ticks) int {
	n := 0
	for ; len(h.t) > 0 && h.t[0].due <= now; n++ {
		t := h.t[0].timer
		h.remove(t)
		t.run.Run()
	}
	return n
}
