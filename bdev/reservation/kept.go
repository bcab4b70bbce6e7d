package reservation

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/pollux-storage/pollux/bdev"
)

// This file is the form in which a device keeps a state (bdev.ReservationStore). All numbers are little-endian.
//
//	 0      version, 2
//	 1      type
//	 2      PTPL
//	 3      zero
//	 4..7   generation
//	 8..9   the holder's place among the registrants, from 1; 0 if nobody holds alone
//	10..11  registrants
//	12..13  names
//	14..15  zero
//	16..    names: length 1, bytes; in the order in which the registrants use them first
//	 …      registrants: 1, HOSTID 16, key 8; or 2, key 8, relative target port 2, initiator port 2, target port 2, as places among the names, from 0
//
// A state has one such form. Version 1, of NVMe hosts alone, is read as well:
//
//	 0      version, 1
//	 1..7   as above
//	 8..23  holder, of types that one holds
//	24..25  registrants
//	26..    each of them: HOSTID 16, key 8
//
// Every change is durable there before it is answered, whatever PTPL says: who goes on serving the device elsewhere needs all of it. After a restart
// of the engine, which is the power on of its subsystems and targets, PTPL decides. NVMe Base Specification 2.1, section 5.1.25.1.30, "Reservation
// Persistence", and SPC-4, "Preserving persistent reservations and registrations through power loss": if it is set, reservation and registrants persist;
// if it is cleared, the one is released and the others are removed. The generation goes with the registrants.

const (
	version = 2

	headBytes   = 16
	hostKind    = 1
	hostBytes   = 25
	nexusKind   = 2
	nexusBytes  = 15
	nameMax     = 255
	head1Bytes  = 26
	entry1Bytes = 24
)

var le = binary.LittleEndian

// Encode gives the state's form; nothing is to be kept of one without registrants that does not persist.
func (s *State) Encode() []byte {
	if len(s.Registrants) == 0 && !s.PTPL {
		return nil
	}
	b := make([]byte, headBytes)
	b[0], b[1] = version, byte(s.Type)
	if s.PTPL {
		b[2] = 1
	}
	le.PutUint32(b[4:], s.Generation)
	le.PutUint16(b[10:], uint16(len(s.Registrants)))
	var names []string
	place := func(name string) int {
		for i, n := range names {
			if n == name {
				return i
			}
		}
		names = append(names, name)
		b = append(b, byte(len(name)))
		b = append(b, name...)
		return len(names) - 1
	}
	for i, g := range s.Registrants {
		if g.IsNexus() {
			place(g.Initiator)
			place(g.Target)
		}
		if s.Type != None && !s.Type.All() && g.Identity == s.Holder {
			le.PutUint16(b[8:], uint16(i+1))
		}
	}
	le.PutUint16(b[12:], uint16(len(names)))
	for _, g := range s.Registrants {
		if !g.IsNexus() {
			b = append(b, hostKind)
			b = append(b, g.Host[:]...)
			b = le.AppendUint64(b, g.Key)
			continue
		}
		b = append(b, nexusKind)
		b = le.AppendUint64(b, g.Key)
		b = le.AppendUint16(b, g.Port)
		b = le.AppendUint16(b, uint16(place(g.Initiator)))
		b = le.AppendUint16(b, uint16(place(g.Target)))
	}
	return b
}

// Decode reads either form; none is an empty state.
func Decode(b []byte) (*State, error) {
	s := &State{}
	var err error
	switch {
	case len(b) == 0:
		return s, nil
	case b[0] == 1:
		err = s.decode1(b)
	case b[0] != version:
		err = fmt.Errorf("%w: version %d, this build knows %d", bdev.ErrInvalid, b[0], version)
	default:
		err = s.decode(b)
	}
	if err == nil {
		err = s.check()
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *State) decode(b []byte) error {
	if len(b) < headBytes {
		return fmt.Errorf("%w: they have %d bytes, the least are %d", bdev.ErrInvalid, len(b), headBytes)
	}
	all := b
	holder, registrants, count := int(le.Uint16(b[8:])), int(le.Uint16(b[10:])), int(le.Uint16(b[12:]))
	s.Type, s.PTPL, s.Generation = Type(b[1]), b[2] == 1, le.Uint32(b[4:])
	b = b[headBytes:]
	var names []string
	for range count {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return fmt.Errorf("%w: byte %d: a name is cut off", bdev.ErrInvalid, len(all)-len(b))
		}
		names = append(names, string(b[1:1+b[0]]))
		b = b[1+b[0]:]
	}
	for range registrants {
		var g Registrant
		switch at := len(all) - len(b); {
		case len(b) >= hostBytes && b[0] == hostKind:
			g = Registrant{Identity: Host([16]byte(b[1:])), Key: le.Uint64(b[17:])}
			b = b[hostBytes:]
		case len(b) >= nexusBytes && b[0] == nexusKind:
			i, t := int(le.Uint16(b[11:])), int(le.Uint16(b[13:]))
			if i >= count || t >= count || names[i] == "" {
				return fmt.Errorf("%w: byte %d: names %d and %d of %d", bdev.ErrInvalid, at+11, i, t, count)
			}
			g = Registrant{Nexus(names[i], names[t]), le.Uint64(b[1:]), le.Uint16(b[9:])}
			b = b[nexusBytes:]
		default:
			return fmt.Errorf("%w: byte %d: no registrant, or cut off", bdev.ErrInvalid, at)
		}
		s.Registrants = append(s.Registrants, g)
	}
	if holder > registrants {
		return fmt.Errorf("%w: byte 8: holder %d of %d", bdev.ErrInvalid, holder, registrants)
	}
	if holder > 0 {
		s.Holder = s.Registrants[holder-1].Identity
	}
	// A state has one form, so what differs from it has something in it that should not be there.
	if again := s.Encode(); !bytes.Equal(again, all) {
		at := 0
		for at < min(len(again), len(all)) && again[at] == all[at] {
			at++
		}
		return fmt.Errorf("%w: byte %d is not as such a state has it", bdev.ErrInvalid, at)
	}
	return nil
}

func (s *State) decode1(b []byte) error {
	if len(b) < head1Bytes {
		return fmt.Errorf("%w: they have %d bytes, the least are %d", bdev.ErrInvalid, len(b), head1Bytes)
	}
	n := int(le.Uint16(b[24:]))
	switch {
	case b[2] > 1, b[3] != 0:
		return fmt.Errorf("%w: bytes 2 and 3: %#x, %#x", bdev.ErrInvalid, b[2], b[3])
	case len(b) != head1Bytes+n*entry1Bytes:
		return fmt.Errorf("%w: byte 24: %d registrants in %d bytes", bdev.ErrInvalid, n, len(b))
	}
	s.Type, s.PTPL, s.Generation, s.Holder = Type(b[1]), b[2] == 1, le.Uint32(b[4:]), Host([16]byte(b[8:24]))
	for b = b[head1Bytes:]; len(b) > 0; b = b[entry1Bytes:] {
		s.Registrants = append(s.Registrants, Registrant{Identity: Host([16]byte(b)), Key: le.Uint64(b[16:])})
	}
	return nil
}

// check says what is wrong with a state that was read.
func (s *State) check() error {
	seen := make(map[Identity]bool, len(s.Registrants))
	for _, g := range s.Registrants {
		if seen[g.Identity] {
			return fmt.Errorf("%w: %s is registered twice", bdev.ErrInvalid, g.Identity)
		}
		seen[g.Identity] = true
		if len(g.Initiator) > nameMax || len(g.Target) > nameMax || g.Initiator != "" && g.Host != [16]byte{} || g.Initiator == "" && (g.Target != "" || g.Port != 0) {
			return fmt.Errorf("%w: %s is neither a host nor a nexus", bdev.ErrInvalid, g.Identity)
		}
	}
	switch {
	case s.Type > ExclusiveAccessAll:
		return fmt.Errorf("%w: type %d", bdev.ErrInvalid, s.Type)
	case s.Type != None && !s.Type.All() && !seen[s.Holder]:
		return fmt.Errorf("%w: the holder %s is not registered", bdev.ErrInvalid, s.Holder)
	case s.Type != None && len(s.Registrants) == 0:
		return fmt.Errorf("%w: reserved, and nobody is registered", bdev.ErrInvalid)
	case (s.Type == None || s.Type.All()) && s.Holder != Identity{}:
		return fmt.Errorf("%w: a holder of type %d", bdev.ErrInvalid, s.Type)
	}
	return nil
}

// String names it.
func (id Identity) String() string {
	if id.IsNexus() {
		return id.Initiator + " at " + id.Target
	}
	return fmt.Sprintf("host %x", id.Host[:])
}
