package volume

import (
	"fmt"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is how control does something to a whole volume while no request sees half of it (V-48):
//
//	stop admission ─▶ drain: what has passed the door ends ─▶ act ─▶ admit
//
// Requests that come meanwhile wait in the order in which they came, not longer than at the door. The flusher and the log go on: an act
// that needs them at rest forces them itself.

// exclusive runs act, on the goroutine of control that calls it, while no request is under way. It holds the pool's acts, so that there is
// one at a time. Should what is under way not end in time, nothing was done: ErrBusy.
func (v *Volume) exclusive(act func() error) error {
	s, err := v.drainOps(admitTimeout, true)
	switch {
	case err != nil:
		return err
	case s == bdev.StatusOK:
		err = act()
	default:
		err = fmt.Errorf("%w: its requests did not end within %d s; try again when it has less to do, volume_stats says where it stands",
			ErrBusy, admitTimeout/reactor.Second)
	}
	if e := v.r.Call(v.admission); err == nil {
		err = e
	}
	return err
}

// admission lets requests in again.
func (v *Volume) admission() {
	v.shut = false
	v.r.StopTimer(&v.shutTimer)
	v.letWaiting()
}

// drainOps waits until no op is under way, not longer than a limit, and lets requests wait from now on if it is to shut.
func (v *Volume) drainOps(limit reactor.Ticks, shut bool) (bdev.Status, error) {
	d := &drain{v: v, event: newEvent()}
	if err := v.r.Call(func() {
		v.shut = v.shut || shut
		v.drains = append(v.drains, d)
		v.r.SetTimer(&d.timer, v.r.Now()+limit, (*drainTimeout)(d))
		if v.opsOut == 0 {
			v.drained()
		}
	}); err != nil {
		return bdev.StatusOK, err
	}
	return v.pool.disk.wait(d.event), nil
}

// drain waits until no op is under way.
type drain struct {
	*event
	v     *Volume
	timer reactor.Timer
}

// drainTimeout is a drain's timer.
type drainTimeout drain

// Run ends a drain that took too long.
func (t *drainTimeout) Run() { (*drain)(t).end(bdev.StatusBusy) }

// Run is the drain's end in time.
func (d *drain) Run() { d.end(bdev.StatusOK) }

func (d *drain) end(s bdev.Status) {
	d.v.r.StopTimer(&d.timer)
	for i, r := range d.v.drains {
		if r == reactor.Runner(d) {
			d.v.drains = append(d.v.drains[:i], d.v.drains[i+1:]...)
			break
		}
	}
	d.say(s)
}

// drained tells those who wait for it that no op is under way.
func (v *Volume) drained() {
	all := v.drains
	v.drains = nil
	for _, d := range all {
		d.Run()
	}
}

// setShutTimer lets those who wait for the end of an act, or for an op, be looked at when the first has waited too long.
func (v *Volume) setShutTimer() {
	if v.waiting.n > 0 && !v.shutTimer.Set() {
		v.r.SetTimer(&v.shutTimer, v.waiting.first().since+admitTimeout, (*shutTimeout)(v))
	}
}

// shutTimeout is the timer of those who wait.
type shutTimeout Volume

// Run refuses who has waited too long.
func (t *shutTimeout) Run() {
	v := (*Volume)(t)
	for v.waiting.n > 0 && v.r.Now()-v.waiting.first().since >= admitTimeout {
		e := v.waiting.pop()
		v.answer(e.q, e.x, bdev.StatusBusy)
	}
	v.setShutTimer()
}
