package nvmf

import "encoding/binary"

// This file is the data of Reservation Report, and log page 80h, "Reservation Notification". Base Specification 2.0,
// "Reservation Report command":
//
//	report      0..3 GEN   4 RTYPE   5..6 REGCTL, the registrants   9 PTPLS   up to 63 reserved   then the registrants
//	registrant  0..1 CNTLID   2 RCSTS   8..15 RKEY   16..31 HOSTID   up to 63 reserved
//
// This is the extended structure, of 128-bit host identifiers, the only one over fabrics.

// Sizes on the wire, in bytes.
const (
	ReservationReportBytes       = 64
	RegistrantBytes              = 64
	ReservationNotificationBytes = 64
)

// ReservationReport is the head of the data.
type ReservationReport struct {
	GEN    uint32
	RTYPE  ReservationType
	REGCTL uint16
	PTPLS  bool
}

// AppendTo appends the head to b; REGCTL registrants are to follow.
func (r ReservationReport) AppendTo(b []byte) []byte {
	b, page := grow(b, ReservationReportBytes)
	binary.LittleEndian.PutUint32(page, r.GEN)
	page[4] = byte(r.RTYPE)
	binary.LittleEndian.PutUint16(page[5:], r.REGCTL)
	if r.PTPLS {
		page[9] = 1
	}
	return b
}

// DecodeReservationReport reads the head in b; ok is false if b is too short for one.
func DecodeReservationReport(b []byte) (r ReservationReport, ok bool) {
	if len(b) < ReservationReportBytes {
		return r, false
	}
	return ReservationReport{
		binary.LittleEndian.Uint32(b), ReservationType(b[4]), binary.LittleEndian.Uint16(b[5:]), b[9] != 0,
	}, true
}

// Registrant is a host that has a key.
type Registrant struct {
	CNTLID CNTLID // FFFFh where the host has no controller now
	Holder bool   // RCSTS 0
	RKEY   uint64
	HOSTID [16]byte
}

// AppendTo appends the registrant to b.
func (r *Registrant) AppendTo(b []byte) []byte {
	b, page := grow(b, RegistrantBytes)
	binary.LittleEndian.PutUint16(page, uint16(r.CNTLID))
	if r.Holder {
		page[2] = 1
	}
	binary.LittleEndian.PutUint64(page[8:], r.RKEY)
	copy(page[16:], r.HOSTID[:])
	return b
}

// DecodeRegistrant reads the registrant in b; ok is false if b is too short for one.
func DecodeRegistrant(b []byte) (r Registrant, ok bool) {
	if len(b) < RegistrantBytes {
		return r, false
	}
	return Registrant{
		CNTLID(binary.LittleEndian.Uint16(b)), b[2]&1 != 0, binary.LittleEndian.Uint64(b[8:]), [16]byte(b[16:32]),
	}, true
}

// ReservationEvent is the type of a reservation notification.
type ReservationEvent uint8

// The types.
const (
	ReservationEventNone      ReservationEvent = 0 // the page is empty
	RegistrationPreempted     ReservationEvent = 1
	ReservationReleased       ReservationEvent = 2
	ReservationPreempted      ReservationEvent = 3
	reservationEventMaskWidth                  = 4
)

// Mask is the bit of the event in feature 82h: set, the event is not told of.
func (e ReservationEvent) Mask() uint32 { return 1 << e }

// ReservationMaskAll are the bits of feature 82h that have a meaning.
const ReservationMaskAll = 1<<reservationEventMaskWidth - 2

// ReservationNotification is page 80h: one event, which reading it takes away. LPC@0 TYPE@8 NALP@9 NSID@12.
type ReservationNotification struct {
	LPC  uint64 // counts the pages, from 1; 0 is an empty page
	Type ReservationEvent
	NALP uint8 // further pages, at most 255
	NSID NSID
}

// AppendTo appends the page to b.
func (n ReservationNotification) AppendTo(b []byte) []byte {
	b, page := grow(b, ReservationNotificationBytes)
	binary.LittleEndian.PutUint64(page, n.LPC)
	page[8] = byte(n.Type)
	page[9] = n.NALP
	binary.LittleEndian.PutUint32(page[12:], uint32(n.NSID))
	return b
}

// DecodeReservationNotification reads the page in b; ok is false if b is too short for one.
func DecodeReservationNotification(b []byte) (n ReservationNotification, ok bool) {
	if len(b) < ReservationNotificationBytes {
		return n, false
	}
	return ReservationNotification{
		binary.LittleEndian.Uint64(b), ReservationEvent(b[8]), b[9], NSID(binary.LittleEndian.Uint32(b[12:])),
	}, true
}
