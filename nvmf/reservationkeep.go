package nvmf

import (
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the reservations of a namespace whose device keeps them (bdev.ReservationStore), and the form in which it does:
//
//	 0      version, 1
//	 1      type
//	 2      PTPL
//	 3      zero
//	 4..7   generation
//	 8..23  holder, of types without "All Registrants"
//	24..25  registrants
//	26..    each of them: HOSTID 16, key 8
//
// Every change is durable there before it is answered, whatever PTPL says: who goes on serving the namespace elsewhere needs all of it. After
// a restart of the engine, which is the power on of its subsystems, PTPL decides. Base Specification 2.1, section 5.1.25.1.30, "Reservation
// Persistence": if it is set, reservation and registrants persist; if it is cleared, the one is released and the others are cleared. The
// generation goes with the registrants.

const (
	keptHeadBytes       = 26
	keptRegistrantBytes = 24
)

// encodeReservations gives the state; nothing is to be kept of one without registrants that does not persist.
func encodeReservations(r *reservations) []byte {
	if len(r.Registrants) == 0 && !r.PTPL {
		return nil
	}
	b := make([]byte, keptHeadBytes, keptHeadBytes+len(r.Registrants)*keptRegistrantBytes)
	b[0], b[1] = keptVersion, byte(r.Type)
	if r.PTPL {
		b[2] = 1
	}
	binary.LittleEndian.PutUint32(b[4:], r.Generation)
	copy(b[8:], r.Holder[:])
	binary.LittleEndian.PutUint16(b[24:], uint16(len(r.Registrants)))
	for _, g := range r.Registrants {
		b = append(b, g.Host[:]...)
		b = binary.LittleEndian.AppendUint64(b, g.Key)
	}
	return b
}

// decodeReservations reads the state; none is an empty one.
func decodeReservations(b []byte) (*reservations, error) {
	r := &reservations{}
	if len(b) == 0 {
		return r, nil
	}
	if b[0] != keptVersion {
		return nil, fmt.Errorf("%w: version %d, this build knows %d", ErrInvalid, b[0], keptVersion)
	}
	if len(b) < keptHeadBytes {
		return nil, fmt.Errorf("%w: they have %d bytes, the least are %d", ErrInvalid, len(b), keptHeadBytes)
	}
	n := int(binary.LittleEndian.Uint16(b[24:]))
	switch {
	case b[1] > byte(ExclusiveAccessAll):
		return nil, fmt.Errorf("%w: byte 1: type %d", ErrInvalid, b[1])
	case b[2] > 1, b[3] != 0:
		return nil, fmt.Errorf("%w: bytes 2 and 3: %#x, %#x", ErrInvalid, b[2], b[3])
	case len(b) != keptHeadBytes+n*keptRegistrantBytes:
		return nil, fmt.Errorf("%w: byte 24: %d registrants in %d bytes", ErrInvalid, n, len(b))
	}
	r.Type, r.PTPL, r.Generation, r.Holder = ReservationType(b[1]), b[2] == 1, binary.LittleEndian.Uint32(b[4:]), hostID(b[8:24])
	for b = b[keptHeadBytes:]; len(b) > 0; b = b[keptRegistrantBytes:] {
		g := registrant{hostID(b[:16]), binary.LittleEndian.Uint64(b[16:])}
		if r.find(g.Host) != nil {
			return nil, fmt.Errorf("%w: host %x is registered twice", ErrInvalid, g.Host)
		}
		r.Registrants = append(r.Registrants, g)
	}
	switch {
	case r.Type != ReservationNone && !r.Type.all() && r.find(r.Holder) == nil:
		return nil, fmt.Errorf("%w: byte 8: the holder %x is not registered", ErrInvalid, r.Holder)
	case r.Type != ReservationNone && len(r.Registrants) == 0:
		return nil, fmt.Errorf("%w: byte 24: reserved, and nobody is registered", ErrInvalid)
	case (r.Type == ReservationNone || r.Type.all()) && r.Holder != hostID{}:
		return nil, fmt.Errorf("%w: byte 8: a holder of type %d", ErrInvalid, r.Type)
	}
	return r, nil
}

// keeps reports whether the namespace can keep its reservations over a restart.
func (n *Namespace) keeps() bool { return n.PTPLFile != "" || n.store != nil }

// findStore finds out whether the namespace's device keeps its reservations. A ptpl file that it was given goes first. A device that is twice
// in a subsystem under one UUID keeps them for the first: to it they would be the same namespace. The lock is held.
func (n *Namespace) findStore(s *Subsystem, keeper *reactor.Reactor) {
	if n.PTPLFile != "" {
		return
	}
	for _, o := range s.namespaces {
		if o != nil && o.UUID == n.UUID {
			return
		}
	}
	n.store, _ = n.handle.Device().Driver().(bdev.ReservationStore)
	n.keeper = keeper
	n.owner = uuid.NewSHA1(n.UUID, []byte("nvme "+s.o.NQN))
}

// reservationsSaved is control work that waits for the device.
type reservationsSaved chan bdev.Status

// ReservationsSaved hears that the state is durable, or why not.
func (c reservationsSaved) ReservationsSaved(s bdev.Status) { c <- s }

// save lets the device keep the state, and returns when it is durable.
func (n *Namespace) save(r *reservations) (Status, error) {
	b, c := encodeReservations(r), make(reservationsSaved, 1)
	if err := n.keeper.Call(func() { n.store.SaveReservations(n.keeper, n.owner, b, c) }); err != nil {
		return StatusInternal, err
	}
	if s := <-c; s != bdev.StatusOK {
		return StatusOf(s, bdev.Write), fmt.Errorf("keeping reservations with device %s: %v", n.BdevName, s)
	}
	return StatusSuccess, nil
}

// load gets the state from the device, at the namespace's addition.
func (t *Target) load(n *Namespace) error {
	b, err := n.store.LoadReservations(n.owner)
	if err == nil {
		n.reservations, err = decodeReservations(b)
	}
	if err != nil {
		return fmt.Errorf("reading the reservations that device %s keeps: %w; with a ptpl_file they are kept there instead", n.BdevName, err)
	}
	if len(b) > 0 && !n.reservations.PTPL {
		n.reservations = &reservations{}
		if _, err := n.save(n.reservations); err != nil { // nobody goes by it: the next addition clears it again
			t.log.Warn("reservations that do not persist are still with their device", "device", n.BdevName, "error", err)
		}
	}
	return nil
}
