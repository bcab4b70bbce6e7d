package nvmf

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pollux-storage/pollux/reactor"
)

// This file empties a target, before an upgrade of the engine or of the machine below it:
//
//  1. New connections are refused, and Connects on those that are open. The discovery page shows no subsystem of this target, but
//     its referrals.
//  2. Every ANA group of a subsystem that reports them becomes inaccessible: hosts are told, and take their other paths. This
//     waits until they have nothing in flight here, but no longer than drainMoveMax: a host may have no other path.
//  3. I/O queues take no more commands: what arrives stays unread. This waits until what came before is answered, but no longer
//     than drainEndMax: a device may hold a command for long.
//  4. Controllers are closed. A host sends elsewhere, or here after the upgrade, what was not answered.
//
// Until the controllers are closed all of it can be taken back, and is when ctx ends. The configuration stays as it is: what is
// saved meanwhile is what was saved before.

// The longest waits of a drain's steps.
const (
	drainMoveMax = 5 * time.Second
	drainEndMax  = 10 * time.Second
)

// drainLook is how often is looked whether a step is over.
const drainLook = 10 * time.Millisecond

// Draining tells whether the target takes no connections because it was drained, or is being drained.
func (t *Target) Draining() bool { return t.draining.Load() }

// Drain empties the target. tell hears how many of how many queues are gone. When ctx ends before, the target takes connections
// again and Drain says what it left.
func (t *Target) Drain(ctx context.Context, tell func(done, total int)) error {
	t.drains.Lock()
	defer t.drains.Unlock()
	d := drain{t: t, tell: tell, tick: time.NewTicker(drainLook)}
	defer d.tick.Stop()
	err := t.setDraining(true)
	if err == nil {
		err = d.run(ctx)
	}
	if err != nil {
		left := d.left
		return errors.Join(fmt.Errorf("draining the NVMe-oF target: %d of %d queues were left: %w", left, d.total, err), t.undrain())
	}
	return nil
}

// Undrain lets a drained target take connections again.
func (t *Target) Undrain() error {
	t.drains.Lock()
	defer t.drains.Unlock()
	if err := t.undrain(); err != nil {
		return fmt.Errorf("serving again after a drain: %w", err)
	}
	return nil
}

func (t *Target) undrain() error {
	err := t.setDraining(false)
	return errors.Join(err, t.group.Each(func(r *reactor.Reactor) {
		for q := t.groups[r.Index()].queues; q != nil; q = q.next {
			if q.paused && q.state != queueConnecting { // a Connect waits for Serve
				q.paused = false
				q.t.resume()
			}
		}
	}))
}

// setDraining changes what hosts are shown.
func (t *Target) setDraining(on bool) error {
	t.mu.Lock()
	if t.draining.Load() == on {
		t.mu.Unlock()
		return nil
	}
	t.draining.Store(on)
	subsystems := slices.Clone(t.subsystems)
	for _, s := range subsystems {
		s.anaChanges++
	}
	t.mu.Unlock()
	for i, s := range subsystems {
		if err := t.publish(s, i == len(subsystems)-1); err != nil {
			return err
		}
	}
	return nil
}

// drain is one Drain under way.
type drain struct {
	t           *Target
	tell        func(done, total int)
	tick        *time.Ticker
	left, total int
}

func (d *drain) run(ctx context.Context) error {
	if _, err := d.wait(ctx, drainMoveMax, (*pollGroup).movable); err != nil {
		return err
	}
	if over, err := d.wait(ctx, drainEndMax, (*pollGroup).pause); err != nil {
		return err
	} else if !over {
		d.t.log.Warn("a drain closes connections with commands that a device has not ended", "waited", drainEndMax)
	}
	_, err := d.wait(ctx, 0, (*pollGroup).closeAll)
	return err
}

// wait looks again and again until nothing is left of what f counts on each reactor, or limit has passed (0 is none).
func (d *drain) wait(ctx context.Context, limit time.Duration, f func(pg *pollGroup) int) (over bool, err error) {
	var late <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		late = timer.C
	}
	for {
		n, queues := 0, 0
		err := d.t.group.Each(func(r *reactor.Reactor) {
			pg := d.t.groups[r.Index()]
			n += f(pg)
			queues += pg.count
		})
		if err != nil {
			return false, err
		}
		d.left, d.total = queues, max(d.total, queues)
		d.tell(d.total-queues, d.total)
		if n == 0 {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-late:
			return false, nil
		case <-d.tick.C:
		}
	}
}

// movable counts the commands of hosts that were told to take another path.
func (pg *pollGroup) movable() (n int) {
	for q := pg.queues; q != nil; q = q.next {
		if q.link != nil && q.sub.sub.o.ANA {
			n += int(q.open)
		}
	}
	return n
}

// pause lets I/O queues take no more commands, and counts those that came before and are not answered.
func (pg *pollGroup) pause() (n int) {
	for q := pg.queues; q != nil; q = q.next {
		if q.link == nil || q.state != queueLive {
			continue
		}
		q.paused = true
		if q.move != nil && !q.rested { // it stays
			q.move.err = errMoveDrain
			q.t.rest()
		}
		for i := range q.commands {
			if s := q.commands[i].state; s == commandExecuting || s == commandResponding {
				n++
			}
		}
	}
	return n
}

// closeAll closes the controllers that live here, and connections that are not a queue yet; it counts the queues that are left.
func (pg *pollGroup) closeAll() int {
	for _, share := range pg.shares {
		for _, k := range share.sortedControllers() {
			k.close("drained")
		}
	}
	for q := pg.queues; q != nil; {
		next := q.next
		if q.ctrl == nil && q.link == nil {
			q.close()
		}
		q = next
	}
	return pg.count
}
