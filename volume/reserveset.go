package volume

import (
	"bytes"
	"fmt"

	"github.com/google/uuid"
)

// This file is the content of a reservation page, and of the log's records of that kind: what each owner has saved, one after the other.
//
//	 0..15  owner
//	16..17  bytes of its state, never 0
//	18..    the state, as its target encodes it
//
// An owner has one entry. A set is never altered: each change makes a new one.

const reserveEntryBytes = 18

// reserveSet is such a content.
type reserveSet []byte

// next splits the first entry off. The set was checked.
func (s reserveSet) next() (owner uuid.UUID, state []byte, rest reserveSet) {
	end := reserveEntryBytes + int(le.Uint16(s[16:]))
	return uuid.UUID(s[:16]), s[reserveEntryBytes:end], s[end:]
}

// check says what is wrong with a set.
func (s reserveSet) check() error {
	if len(s) > ReservationBytesMax {
		return fmt.Errorf("%w: reservations of %d bytes, there are %d at most", ErrCorrupt, len(s), ReservationBytesMax)
	}
	var seen []uuid.UUID
	for at, rest := 0, s; len(rest) > 0; at = len(s) - len(rest) {
		if len(rest) < reserveEntryBytes || len(rest) < reserveEntryBytes+int(le.Uint16(rest[16:])) {
			return fmt.Errorf("%w: the reservations end within the entry at byte %d", ErrCorrupt, at)
		}
		var owner uuid.UUID
		var state []byte
		owner, state, rest = rest.next()
		if len(state) == 0 {
			return fmt.Errorf("%w: the reservations at byte %d are empty", ErrCorrupt, at)
		}
		for _, o := range seen {
			if o == owner {
				return fmt.Errorf("%w: the reservations at byte %d are those of %s, whose are there already", ErrCorrupt, at, owner)
			}
		}
		seen = append(seen, owner)
	}
	return nil
}

// of gives what an owner has in it, lent, nil if nothing.
func (s reserveSet) of(owner uuid.UUID) []byte {
	for len(s) > 0 {
		o, state, rest := s.next()
		if o == owner {
			return state
		}
		s = rest
	}
	return nil
}

// with gives the set in which an owner has another state, or none; false if it has no room.
func (s reserveSet) with(owner uuid.UUID, state []byte) (reserveSet, bool) {
	var out reserveSet
	for rest := s; len(rest) > 0; {
		entry := rest
		var o uuid.UUID
		if o, _, rest = entry.next(); o != owner {
			out = append(out, entry[:len(entry)-len(rest)]...)
		}
	}
	if len(state) == 0 {
		return out, true
	}
	if len(out)+reserveEntryBytes+len(state) > ReservationBytesMax {
		return nil, false
	}
	out = append(out, owner[:]...)
	out = le.AppendUint16(out, uint16(len(state)))
	return append(out, state...), true
}

func (s reserveSet) equal(o reserveSet) bool { return bytes.Equal(s, o) }
