package nvmf

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/reservation"
)

// This file is a namespace as a door to the reservations of its device (package reservation). They are the device's: other namespaces on it, in whichever
// subsystem, and logical units have the same.

// namespaceDoor is that door.
type namespaceDoor struct {
	t *Target
	s *Subsystem
	n *Namespace
}

// openReservations opens the book of the namespace's device, when it is being added. A ptpl_file keeps it where the device does not.
func (t *Target) openReservations(s *Subsystem, n *Namespace) error {
	n.door = &namespaceDoor{t, s, n}
	b, err := reservation.Open(n.handle.Device(), n.door, reservation.Options{
		File: n.PTPLFile, FileID: n.UUID, Before: uuid.NewSHA1(n.UUID, []byte("nvme "+s.o.NQN)), Log: t.log,
	})
	if err != nil {
		if errors.Is(err, bdev.ErrInvalid) {
			err = fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		return err
	}
	t.mu.Lock()
	n.book, n.reservations = b, b.State() // what is published from here on comes after
	t.mu.Unlock()
	return nil
}

// closeReservations closes it, when the namespace is gone.
func (n *Namespace) closeReservations() {
	if n.book != nil {
		n.book.Close(n.door)
	}
}

// Publish gives the state to every reactor.
func (d *namespaceDoor) Publish(s *reservation.State) error {
	d.t.mu.Lock()
	d.n.reservations = s
	d.t.mu.Unlock()
	return d.t.publish(d.s, false)
}

// Tell tells the hosts' controllers, wherever the subsystem is owned.
func (d *namespaceDoor) Tell(notices []reservation.Notice) {
	t, s, id := d.t, d.s, d.nsid()
	if id == 0 {
		return
	}
	_ = t.group.Reactor(s.owner).Call(func() {
		share := t.groups[s.owner].shares[s]
		if share == nil {
			return
		}
		for _, k := range share.sortedControllers() {
			for _, n := range notices {
				if n.To == reservation.Host(k.host.id) && k.namespace(id) != nil {
					k.reservationNotice(id, ReservationEvent(n.Event))
				}
			}
		}
	})
}

// End ends what preempted hosts have in flight.
func (d *namespaceDoor) End(gone []reservation.Identity) {
	hosts := map[hostID]bool{}
	for _, id := range gone {
		if !id.IsNexus() {
			hosts[id.Host] = true
		}
	}
	if id := d.nsid(); id != 0 && len(hosts) > 0 {
		d.t.endCommands(d.s, id, hosts)
	}
}

// nsid is the namespace's, 0 before it has one.
func (d *namespaceDoor) nsid() NSID {
	d.t.mu.Lock()
	defer d.t.mu.Unlock()
	return d.n.NSID
}
