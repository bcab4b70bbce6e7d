package volume

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is what making and opening do about a device that does not answer, as stuck.go is what closing does. When it has kept a request
// for openLimit, who asked does not wait any longer:
//
//	a device is looked at   it is let go when it has answered
//	a pool is made, opened  given up ─▶ nothing more is sent to its devices but reads ─▶ what is open of it is closed ─▶ they are let go
//	a volume is made        goes on alone, and keeps other acts of control away from the pool meanwhile: what it has committed is the pool's
//
// A pool that was given up is nobody's, so the device's answer must not bring it back: another server may have it by then.

// openLimit is how long a device may keep a request while a pool or a volume is made or opened. It is more than closing grants, since a drive may
// try for some seconds to read a bad sector, and Linux gives a SCSI command 30 s before it resets the drive.
const openLimit = 30 * time.Second

// errGivenUp ends what went on alone.
var errGivenUp = fmt.Errorf("%w, and it was given up", ErrStuck)

// vigil watches devices for those who make and open.
func (cfg *PoolConfig) vigil(g *reactor.Group, watched func() [2][]*bdev.Channel) *vigil {
	v := &vigil{
		group: g, watched: watched, simulated: cfg.Await != nil, began: time.Now(), limit: cfg.OpenLimit, hasty: cfg.CloseLimit, ending: cfg.Ending,
		next: "nothing more is sent there, and it is let go when it has answered: mend it, then try again",
	}
	if v.limit == 0 {
		v.limit = openLimit
	}
	if v.hasty == 0 {
		v.hasty = closeLimit
	}
	return v
}

// arrival is how far the making or opening of a pool is. Mu of the pool is held for it, but for given.
type arrival struct {
	given   atomic.Bool // up, while it was under way
	over    bool        // it has ended
	failed  bool        // in an error
	volumes []*Volume   // that are being opened
}

// arrive makes or opens the pool, which f does, or gives it up. acts is held, and is free when f has ended.
func (p *Pool) arrive(f func() error) error {
	err := p.cfg.vigil(p.registry.Group(), p.devices).during(func() error {
		defer p.acts.Unlock()
		err := f()
		if e := p.arrived(err == nil); err == nil {
			err = e
		}
		if err != nil {
			p.gone = true
			p.dismantle()
			p.release()
			return err
		}
		p.signDevices()
		return nil
	})
	if errors.Is(err, ErrStuck) && p.leave() {
		return nil
	}
	return err
}

// arrived ends the opening, unless it was given up.
func (p *Pool) arrived(open bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.arrival.over, p.arrival.failed = true, !open
	if open && p.arrival.given.Load() {
		return errGivenUp
	}
	p.arrival.volumes = nil
	return nil
}

// leave gives the pool up that is being opened, and reports false; true if it has just been opened after all.
func (p *Pool) leave() (open bool) {
	p.mu.Lock()
	if p.arrival.over {
		defer p.mu.Unlock()
		return !p.arrival.given.Load() && !p.arrival.failed
	}
	_ = p.r.Call(func() { // first: what hears that it is given up may let commits go on that waited for it
		if c := &p.committer; c.failed == bdev.StatusOK {
			c.failed = bdev.StatusClosed
		}
	})
	p.arrival.given.Store(true)
	volumes := p.arrival.volumes
	p.mu.Unlock()
	for _, v := range volumes {
		_ = v.r.Call(v.leave)
	}
	return false
}

// leave lets nothing of a volume begin that is being opened.
func (v *Volume) leave() {
	if v.log == nil { // it has sent nothing but reads
		v.given = true
		return
	}
	v.giveUp()
}

// opens notes a volume that is about to send something.
func (p *Pool) opens(v *Volume) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.arrival.given.Load():
		return errGivenUp
	case !p.arrival.over:
		p.arrival.volumes = append(p.arrival.volumes, v)
	}
	return nil
}

// dismantle closes what is open of a pool that was given up.
func (p *Pool) dismantle() {
	for _, v := range p.Volumes() {
		_ = v.remove(context.Background())
	}
}

// begins lets f make a volume, which acts is held for and free when it has ended. It may end later than this does.
func (p *Pool) begins(free func(), f func() (*Volume, error)) (*Volume, error) {
	g := p.cfg.vigil(p.registry.Group(), p.devices)
	g.next = "it goes on by itself when the device answers, and the volume is there then, or the pool is as it was"
	var made *Volume // is looked at only when f has ended
	if err := g.during(func() (err error) {
		defer free()
		made, err = f()
		return err
	}); err != nil {
		return nil, err
	}
	return made, nil
}
