package bdev

import (
	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/reactor"
)

// ReservationStore is a Driver that keeps the reservations of the targets that serve its device, beside the blocks: they are durable like a
// write, and go where the device goes. What they mean is the target's; the driver keeps bytes, for each owner apart.
//
// Devices that stand on others do not pass it on: who reserves a `qos`, `delay` or `crypt` device has not reserved what it stands on, and a
// stripe has no one place for it. A target asks the device that it serves, by Device.Driver.
type ReservationStore interface {
	// LoadReservations gives what the owner has saved last, nil if nothing. It runs on a control goroutine.
	LoadReservations(owner uuid.UUID) ([]byte, error)
	// SaveReservations replaces what the owner has saved; without bytes nothing is kept any more. It runs on reactor r, and does not
	// block it; state is lent until it returns. done hears on r, later, once: after StatusOK the state is durable, else it is the one before.
	SaveReservations(r *reactor.Reactor, owner uuid.UUID, state []byte, done ReservationsSaved)
}

// ReservationsSaved hears the end of a SaveReservations.
type ReservationsSaved interface {
	ReservationsSaved(s Status)
}
