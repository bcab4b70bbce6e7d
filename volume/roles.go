package volume

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the role of a volume on this server and the epoch in which it has it (V-45 to V-47).
//
//	none ─▶ primary, replica, rebuilding      primary ─▶ draining ─▶ stale
//	replica ─▶ primary                        stale ─▶ rebuilding, replica      rebuilding ─▶ replica
//
//	promote: epoch and role are durable ─▶ the log's epoch ─▶ the gate opens
//	demote:  the gate closes: draining ─▶ what has passed it ends, in 10 s ─▶ stale ─▶ role and epoch are durable
//
// So a power cut finds the primary of the epoch before, or that of the new one; and who was demoted, a primary of an epoch that whoever
// demoted it has left behind, or a stale one. A volume that is made here is primary, with its own epoch and no lease.

// Errors of roles and epochs.
var (
	ErrTransition      = errors.New("no such change of role")
	ErrEpochRegression = errors.New("the epoch is not a later one")
	ErrDrainTimeout    = errors.New("requests did not end in time")
)

var transitions = [roleEnd][]Role{
	RoleNone:       {RolePrimary, RoleReplica, RoleRebuilding},
	RolePrimary:    {RoleDraining},
	RoleDraining:   {RoleStale},
	RoleReplica:    {RolePrimary},
	RoleStale:      {RoleRebuilding, RoleReplica},
	RoleRebuilding: {RoleReplica},
}

// CheckTransition says whether a role may follow another.
func CheckTransition(from, to Role) error {
	if from < roleEnd {
		for _, r := range transitions[from] {
			if r == to {
				return nil
			}
		}
	}
	return fmt.Errorf("%w: from %v to %v", ErrTransition, from, to)
}

// ParseRole reads the word for a role; one that is not known is none.
func ParseRole(s string) Role {
	for r, name := range roleNames {
		if strings.EqualFold(name, s) {
			return Role(r)
		}
	}
	return RoleNone
}

// Assign gives a volume another role, in an epoch that is not below its own and for a primary above it; 0 is the next one for a primary, and
// its own for others. A primary becomes stale by way of draining.
func (v *Volume) Assign(to Role, epoch wal.Epoch) error {
	p := v.pool
	p.acts.Lock()
	defer p.acts.Unlock()
	err := ErrPoolGone
	if !p.gone {
		err = v.assign(to, epoch)
	}
	if err != nil {
		return fmt.Errorf("making volume %s of pool %s %v: %w", v.Name(), p.Name(), to, err)
	}
	return nil
}

func (v *Volume) assign(to Role, epoch wal.Epoch) error {
	var from Role
	var now wal.Epoch
	if err := v.r.Call(func() { from, now = v.role, v.page.epochNow() }); err != nil {
		return err
	}
	if epoch == 0 {
		epoch = now
		if to == RolePrimary {
			epoch++
		}
	}
	if epoch < now || to == RolePrimary && epoch == now {
		return fmt.Errorf("%w: %d, and the volume has had %d", ErrEpochRegression, epoch, now)
	}
	if from == RolePrimary && to == RoleStale {
		if err := v.turn(RoleDraining); err != nil {
			return err
		}
		from = RoleDraining
	}
	if to == RoleDraining {
		return fmt.Errorf("%w: draining is on the way to stale, and nowhere to stay", ErrTransition)
	}
	if err := CheckTransition(from, to); err != nil {
		return err
	}
	if from == RoleDraining {
		if err := v.drainRequests(); err != nil {
			return err
		}
		if err := v.turn(to); err != nil {
			return err
		}
	}
	if err := v.edit(func(pg *VolumePage) {
		if pg.Role = to; epoch > pg.epochNow() {
			appended, _, _ := v.log.Marks()
			pg.beginEpoch(epoch, appended+1)
		}
	}); err != nil {
		return err
	}
	return v.r.Call(func() { // it is durable: nobody was let in before
		v.log.SetEpoch(max(v.log.Epoch(), epoch))
		v.role = to
	})
}

// turn changes the role at the gate alone.
func (v *Volume) turn(to Role) error {
	return v.r.Call(func() { v.role = to })
}

// drainMax is how long a demotion waits.
const drainMax = 10 * reactor.Second

// drainRequests waits until what has passed the gate has ended. Should that take too long, the gate stays closed, and who asks again
// waits again.
func (v *Volume) drainRequests() error {
	s, err := v.drainOps(drainMax, false)
	if err == nil && s != bdev.StatusOK {
		err = fmt.Errorf("%w: %d s; it is draining and takes no others; ask again", ErrDrainTimeout, drainMax/reactor.Second)
	}
	return err
}

// stillServes is the gate for what has passed it, when it is to be acknowledged: a volume that drains is the primary until that is over.
func (v *Volume) stillServes(k bdev.Kind) bdev.Status {
	if v.role == RoleDraining && v.open {
		if k.Writes() {
			return v.failed
		}
		return bdev.StatusOK
	}
	return v.gate(k)
}
