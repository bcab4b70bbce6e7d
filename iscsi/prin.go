package iscsi

import (
	"encoding/binary"

	"github.com/pollux-storage/pollux/bdev/reservation"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is PERSISTENT RESERVE IN. SPC-4 section 6.15:
//
//	READ KEYS            PRGENERATION 0..3  ADDITIONAL LENGTH 4..7  then keys of 8
//	READ RESERVATION     likewise; 16 bytes if there is one: key 8..15, SCOPE and TYPE 21
//	REPORT CAPABILITIES  LENGTH 0..1, 8  CRH SIP_C ATP_C PTPL_C 2  TMV, ALLOW COMMANDS, PTPL_A 3  PERSISTENT RESERVATION TYPE MASK 4..5
//	READ FULL STATUS     as READ KEYS, then descriptors: key 0..7, ALL_TG_PT and R_HOLDER 12, SCOPE and TYPE 13, RELATIVE TARGET PORT
//	                     IDENTIFIER 18..19, ADDITIONAL DESCRIPTOR LENGTH 20..23, TransportID
//
// An allocation length cuts what is sent and changes no field. It is answered from what the reactor knows: what it shows was kept before it was published.

// typeCodes are TYPE, of SPC-4 table 199, "Persistent reservation type codes".
var typeCodes = [...]byte{
	reservation.WriteExclusive: 1, reservation.ExclusiveAccess: 3, reservation.WriteExclusiveRegistrants: 5, reservation.ExclusiveAccessRegistrants: 6,
	reservation.WriteExclusiveAll: 7, reservation.ExclusiveAccessAll: 8,
}

// typeOf is the type of a code.
func typeOf(code byte) (reservation.Type, bool) {
	for t, c := range typeCodes {
		if c == code && c != 0 {
			return reservation.Type(t), true
		}
	}
	return reservation.None, false
}

// reservations is the state that the reactor knows. While the unit is reserved by RESERVE it is not shown to anybody, and the command is answered.
func (c *command) reservations() *reservation.State {
	s := c.unit.here.reservations
	if s.Held.Live() {
		c.settled(reservation.Conflict, nil)
		return nil
	}
	return s
}

// report answers with b, cut to the allocation length.
func (c *command) report(b []byte) {
	allocated := uint32(binary.BigEndian.Uint16(c.cdb[7:]))
	if c.page(min(uint32(len(b)), max(allocated, 1), reactor.BufferMax)) != nil {
		c.answer(b, allocated)
	}
}

// list begins what has a generation and a length, and lets f append the rest.
func list(s *reservation.State, f func(b []byte) []byte) []byte {
	b := make([]byte, 8)
	binary.BigEndian.PutUint32(b, s.Generation)
	b = f(b)
	binary.BigEndian.PutUint32(b[4:], uint32(len(b)-8))
	return b
}

// readKeys serves READ KEYS.
func (c *command) readKeys() {
	s := c.reservations()
	if s == nil {
		return
	}
	c.report(list(s, func(b []byte) []byte {
		for _, g := range s.Registrants {
			b = binary.BigEndian.AppendUint64(b, g.Key)
		}
		return b
	}))
}

// readReservation serves READ RESERVATION.
func (c *command) readReservation() {
	s := c.reservations()
	if s == nil {
		return
	}
	c.report(list(s, func(b []byte) []byte {
		if s.Type == reservation.None {
			return b
		}
		key := uint64(0) // of those that all hold
		if g := s.Find(s.Holder); !s.Type.All() && g != nil {
			key = g.Key
		}
		return append(binary.BigEndian.AppendUint64(b, key), 0, 0, 0, 0, 0, typeCodes[s.Type], 0, 0)
	}))
}

// reportCapabilities serves REPORT CAPABILITIES: SIP_C, ATP_C and, where the state can be kept, PTPL_C; TEST UNIT READY is always allowed; all types.
func (c *command) reportCapabilities() {
	s := c.reservations()
	if s == nil {
		return
	}
	b := []byte{0, 8, 0x08 | 0x04, 0x80 | 1<<4, 0xEA, 0x01, 0, 0}
	if c.unit.unit.book.Keeps() {
		b[2] |= 0x01
	}
	if s.PTPL {
		b[3] |= 0x01
	}
	c.report(b)
}

// readFullStatus serves READ FULL STATUS: a descriptor for each nexus, so that none stands for several (ALL_TG_PT 0), and for each NVMe host.
func (c *command) readFullStatus() {
	s := c.reservations()
	if s == nil {
		return
	}
	c.report(list(s, func(b []byte) []byte {
		for _, g := range s.Registrants {
			b = append(binary.BigEndian.AppendUint64(b, g.Key), 0, 0, 0, 0)
			if s.Holds(g.Identity) {
				b = append(b, 0x01, typeCodes[s.Type])
			} else {
				b = append(b, 0, 0)
			}
			b = binary.BigEndian.AppendUint16(append(b, 0, 0, 0, 0), g.Port)
			id := appendTransportID(nil, initiatorOf(g.Identity))
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(id))), id...)
		}
		return b
	}))
}
