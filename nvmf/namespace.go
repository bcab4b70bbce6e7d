package nvmf

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/reservation"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is namespaces as they come and go. One opens its device once, for all reactors, before it is in a view; it gives the device back after the last
// view that had it is gone from every reactor and the last request on it has ended there.

// Namespace is a device in a subsystem. What it is made of never changes; what does is in its view.
type Namespace struct {
	NSID     NSID
	BdevName string
	UUID     uuid.UUID
	NGUID    [16]byte
	EUI64    [8]byte
	PTPLFile string

	ProtectionFile string // keeps write protection over a restart; "": it cannot be write protected

	handle   *bdev.Handle
	channels []*bdev.Channel // by reactor

	// Under the target's lock, copied into views.
	gone   bool   // its device is being removed
	group  uint32 // ANA group
	hidden bool   // only hosts in hosts see it
	hosts  map[string]bool

	protection   WriteProtection
	reservations *reservation.State // as the book has published it; never altered

	book *reservation.Book // of its device
	door *namespaceDoor
}

// NamespaceOptions describe a namespace at its addition.
type NamespaceOptions struct {
	BdevName string
	NSID     NSID // 0: the lowest free one
	NGUID    [16]byte
	EUI64    [8]byte
	UUID     [16]byte
	PTPLFile string
	// ProtectionFile keeps write protection over a restart; without it hosts cannot write protect the namespace.
	ProtectionFile string
	ANAGroup       uint32 // 0: as the NSID
	NoAutoVisible  bool
}

// AddNamespace lets a subsystem serve a device.
func (t *Target) AddNamespace(nqn string, o NamespaceOptions) (NSID, error) {
	fail := func(err error) (NSID, error) {
		return 0, fmt.Errorf("adding device %s to subsystem %s: %w", o.BdevName, nqn, err)
	}
	t.mu.Lock()
	s, err := t.find(nqn)
	t.mu.Unlock()
	if err != nil {
		return fail(err)
	}
	n := &Namespace{BdevName: o.BdevName, UUID: o.UUID, NGUID: o.NGUID, EUI64: o.EUI64, PTPLFile: o.PTPLFile, ProtectionFile: o.ProtectionFile, hidden: o.NoAutoVisible, hosts: map[string]bool{}}
	if n.handle, err = t.registry.Open(o.BdevName, bdev.OpenOptions{Who: "subsystem " + nqn, Event: func(e bdev.Event) { t.deviceEvent(s, n, e) }}); err != nil {
		return fail(err)
	}
	if n.channels, err = n.handle.Channels(); err != nil {
		n.handle.Close()
		return fail(err)
	}
	newIDs(n, n.handle.Device().UUID())
	if err = t.openReservations(s, n); err == nil {
		err = n.restoreProtection()
	}
	if err == nil {
		t.mu.Lock()
		err = s.place(n, o)
		t.mu.Unlock()
	}
	if err == nil {
		err = t.publish(s, false)
	}
	if err != nil {
		n.closeReservations()
		bdev.CloseChannels(n.channels)
		n.handle.Close()
		return fail(err)
	}
	return n.NSID, nil
}

// place gives a namespace its NSID. The lock is held.
func (s *Subsystem) place(n *Namespace, o NamespaceOptions) error {
	switch {
	case s.discovery:
		return fmt.Errorf("%w: the discovery service has no namespaces", ErrInvalid)
	case s.deleting || s.deleted:
		return fmt.Errorf("the subsystem is being deleted: %w", ErrNotFound)
	case n.gone:
		return fmt.Errorf("the device is being removed: %w", ErrNotFound)
	}
	id := o.NSID
	if id == 0 {
		id = 1
		for int(id) <= len(s.namespaces) && s.namespaces[id-1] != nil {
			id++
		}
	}
	if uint32(id) > s.o.MaxNamespaces {
		return fmt.Errorf("NSID %d: %w: the subsystem has at most %d namespaces (max_namespaces)", id, ErrInvalid, s.o.MaxNamespaces)
	}
	if int(id) <= len(s.namespaces) && s.namespaces[id-1] != nil {
		return fmt.Errorf("NSID %d: it %w", id, ErrExists)
	}
	n.NSID, n.group = id, o.ANAGroup
	if n.group == 0 {
		n.group = uint32(id)
	}
	if n.group > s.o.MaxNamespaces {
		return fmt.Errorf("ANA group %d: %w: 1 to %d", n.group, ErrInvalid, s.o.MaxNamespaces)
	}
	for len(s.namespaces) < int(id) {
		s.namespaces = append(s.namespaces, nil)
	}
	s.namespaces[id-1] = n
	s.anaChanges++
	return nil
}

// RemoveNamespace takes a namespace out. Requests in flight on it end first; new ones find no namespace.
func (t *Target) RemoveNamespace(ctx context.Context, nqn string, id NSID) error {
	t.mu.Lock()
	s, err := t.find(nqn)
	if err == nil && (id == 0 || int(id) > len(s.namespaces) || s.namespaces[id-1] == nil) {
		err = fmt.Errorf("NSID %d: %w", id, ErrNotFound)
	}
	if err != nil {
		t.mu.Unlock()
		return fmt.Errorf("removing namespace %d from subsystem %s: %w", id, nqn, err)
	}
	n := s.namespaces[id-1]
	s.namespaces[id-1] = nil
	s.anaChanges++
	t.mu.Unlock()
	return t.withdraw(ctx, s, n)
}

// withdraw takes a namespace out of all views that is not configured any more, waits for the last request on it, and closes its
// device: with ctx ends the waiting alone. Another change may have published its absence already, so it is looked for after that.
func (t *Target) withdraw(ctx context.Context, s *Subsystem, n *Namespace) error {
	if err := t.publish(s, false); err != nil {
		return err
	}
	err := t.group.Settle(ctx, func(r *reactor.Reactor, left func()) {
		if share := t.groups[r.Index()].shares[s]; share != nil {
			share.whenLeft(n, left)
		} else { // deleted, after its last queue had closed
			left()
		}
	}, func() {
		n.closeReservations()
		bdev.CloseChannels(n.channels)
		n.handle.Close()
	})
	if err != nil {
		return fmt.Errorf("removing namespace %d from subsystem %s: waiting for the last requests on device %s, which is given back when they have ended: %w", n.NSID, s.o.NQN, n.BdevName, err)
	}
	return nil
}

// deviceEvent follows what happens to a namespace's device.
func (t *Target) deviceEvent(s *Subsystem, n *Namespace, e bdev.Event) {
	switch e.Kind {
	case bdev.Removing:
		t.mu.Lock()
		n.gone = true
		found := int(n.NSID) <= len(s.namespaces) && n.NSID > 0 && s.namespaces[n.NSID-1] == n
		if found {
			s.namespaces[n.NSID-1] = nil
			s.anaChanges++
		}
		t.mu.Unlock()
		if found {
			t.log.Warn("a namespace goes, its device is being removed", "subsystem", s.o.NQN, "nsid", n.NSID, "device", n.BdevName)
			if err := t.withdraw(context.Background(), s, n); err != nil {
				t.log.Error("a namespace could not be withdrawn", "error", err)
			}
		}
	case bdev.Resized:
		owner := t.group.Reactor(s.owner)
		_ = owner.Call(func() {
			if share := t.groups[s.owner].shares[s]; share != nil {
				for _, k := range share.sortedControllers() {
					if k.namespace(n.NSID) != nil { // a host hears of what it sees
						k.reconfigured([]NSID{n.NSID})
					}
				}
			}
		})
	}
}
