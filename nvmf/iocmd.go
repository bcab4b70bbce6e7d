package nvmf

import "encoding/binary"

// This file is the fields of the I/O commands, and the lists that some of them carry.
//
// NVM Command Set Specification 1.0, "I/O Commands"; Base Specification 2.0, "Reservations".
//
//	                        CDW10, 11          CDW12
//	Read, Write, Compare,   SLBA               NLB 15:0 (0-based), DEAC 25, PRINFO 29:26, FUA 30, LR 31
//	Verify, Write Zeroes
//	Copy                    SDLBA              NR 7:0 (0-based), format 11:8, FUA 30, LR 31
//	                        CDW10              CDW11
//	Dataset Management      NR 7:0 (0-based)   IDR 0, IDW 1, AD 2
//	Reservation Register    RREGA 2:0, IEKEY 3, CPTPL 31:30
//	Reservation Acquire     RACQA 2:0, IEKEY 3, RTYPE 15:8
//	Reservation Release     RRELA 2:0, IEKEY 3, RTYPE 15:8
//	Reservation Report      NUMD (0-based)     EDS 0

const (
	rwDEAC = 1 << 25
	rwFUA  = 1 << 30
	rwLR   = 1 << 31
)

// SLBA is the first block. In Copy it is the destination.
func (s *SQE) SLBA() uint64 { return s.uint64At(40) }

// NLB is the number of blocks, 1 to 65,536: on the wire it is one less.
func (s *SQE) NLB() uint32 { return uint32(s.uint16At(48)) + 1 }

// FUA: durable before the answer; a Read returns what is durable.
func (s *SQE) FUA() bool { return s.CDW(12)&rwFUA != 0 }

// LR, limited retry: an early error is better than a late answer.
func (s *SQE) LR() bool { return s.CDW(12)&rwLR != 0 }

// DEAC of Write Zeroes: the blocks may be deallocated.
func (s *SQE) DEAC() bool { return s.CDW(12)&rwDEAC != 0 }

// RW are the fields that a host sets in Read, Write, Compare, Verify and Write Zeroes.
type RW struct {
	SLBA uint64
	NLB  uint32 // 1 to 65,536
	FUA  bool
	LR   bool
	DEAC bool
}

// SetRW sets the fields; NLB above 65,536 or 0 does not fit.
func (s *SQE) SetRW(rw RW) {
	binary.LittleEndian.PutUint64(s[40:], rw.SLBA)
	v := (rw.NLB - 1) & 0xFFFF
	if rw.FUA {
		v |= rwFUA
	}
	if rw.LR {
		v |= rwLR
	}
	if rw.DEAC {
		v |= rwDEAC
	}
	s.SetCDW(12, v)
}

// Ranges is the number of ranges that a Dataset Management or a Copy carries, 1 to 256: on the wire it is one less. It
// is CDW10 7:0 of the one and CDW12 7:0 of the other.
func (s *SQE) Ranges() int {
	if IOOpcode(s[0]) == IOCopy {
		return int(s[48]) + 1
	}
	return int(s[40]) + 1
}

// AD of Dataset Management: the ranges may be deallocated.
func (s *SQE) AD() bool { return s[44]&4 != 0 }

// SetDSM sets the fields of a Dataset Management with n ranges.
func (s *SQE) SetDSM(n int, deallocate bool) {
	s.SetCDW(10, uint32(n-1)&0xFF)
	var v uint32
	if deallocate {
		v = 4
	}
	s.SetCDW(11, v)
}

// DSMRangeBytes is the size of a range on the wire.
const DSMRangeBytes = 16

// DSMRange is one range of a Dataset Management: attributes, which are hints, in 0..3, then
type DSMRange struct {
	NLB  uint32 // 4..7; 1-based on the wire too, and 0 is an empty range
	SLBA uint64 // 8..15
}

// DecodeDSMRange reads range i of the list b.
func DecodeDSMRange(b []byte, i int) DSMRange {
	b = b[i*DSMRangeBytes:][:DSMRangeBytes]
	return DSMRange{binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint64(b[8:])}
}

// AppendTo appends the range to b, without hints.
func (r DSMRange) AppendTo(b []byte) []byte {
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, r.NLB)
	return binary.LittleEndian.AppendUint64(b, r.SLBA)
}

// CopyFormat is the descriptor format of a Copy.
func (s *SQE) CopyFormat() uint8 { return s[49] & 0xF }

// SetCopy sets the fields of a Copy of n sources, in format 0, to sdlba.
func (s *SQE) SetCopy(sdlba uint64, n int, fua bool) {
	binary.LittleEndian.PutUint64(s[40:], sdlba)
	v := uint32(n-1) & 0xFF
	if fua {
		v |= rwFUA
	}
	s.SetCDW(12, v)
}

// CopySourceBytes is the size of a source on the wire, in format 0.
const CopySourceBytes = 32

// CopySource is one source of a Copy, in descriptor format 0: reserved 0..7, then
type CopySource struct {
	SLBA uint64 // 8..15
	NLB  uint32 // 16..17, 1 to 65,536; on the wire it is one less
}

// DecodeCopySource reads source i of the list b.
func DecodeCopySource(b []byte, i int) CopySource {
	b = b[i*CopySourceBytes:][:CopySourceBytes]
	return CopySource{binary.LittleEndian.Uint64(b[8:]), uint32(binary.LittleEndian.Uint16(b[16:])) + 1}
}

// AppendTo appends the source to b.
func (c CopySource) AppendTo(b []byte) []byte {
	b = append(b, zeros[:8]...)
	b = binary.LittleEndian.AppendUint64(b, c.SLBA)
	b = binary.LittleEndian.AppendUint16(b, uint16(c.NLB-1))
	return append(b, zeros[:14]...)
}

// ReservationAction is RREGA, RACQA or RRELA, by the command.
type ReservationAction uint8

// The actions.
const (
	RREGARegister     ReservationAction = 0
	RREGAUnregister   ReservationAction = 1
	RREGAReplace      ReservationAction = 2
	RACQAAcquire      ReservationAction = 0
	RACQAPreempt      ReservationAction = 1
	RACQAPreemptAbort ReservationAction = 2 // "Preempt and Abort"
	RRELARelease      ReservationAction = 0
	RRELAClear        ReservationAction = 1
)

// ReservationType is RTYPE.
type ReservationType uint8

// The reservation types. Base Specification 2.0, "Reservations".
const (
	ReservationNone           ReservationType = 0
	WriteExclusive            ReservationType = 1
	ExclusiveAccess           ReservationType = 2
	WriteExclusiveRegistrants ReservationType = 3
	ExclusiveAccessRegistrant ReservationType = 4
	WriteExclusiveAll         ReservationType = 5
	ExclusiveAccessAll        ReservationType = 6
)

var reservationTypeNames = [...]string{
	"none", "Write Exclusive", "Exclusive Access", "Write Exclusive - Registrants Only",
	"Exclusive Access - Registrants Only", "Write Exclusive - All Registrants", "Exclusive Access - All Registrants",
}

// String gives the standard's name.
func (t ReservationType) String() string {
	if int(t) < len(reservationTypeNames) {
		return reservationTypeNames[t]
	}
	return "reserved reservation type"
}

// CPTPL asks a Reservation Register to change whether reservations persist through power loss.
type CPTPL uint8

// The values of CPTPL.
const (
	PTPLKeep     CPTPL = 0
	PTPLReserved CPTPL = 1
	PTPLClear    CPTPL = 2
	PTPLSet      CPTPL = 3
)

// ReservationAction gives what a Reservation Register, Acquire or Release is to do.
func (s *SQE) ReservationAction() ReservationAction { return ReservationAction(s[40] & 7) }

// IEKEY: the current key is not checked.
func (s *SQE) IEKEY() bool { return s[40]&8 != 0 }

// RTYPE gives the type that a Reservation Acquire or Release names.
func (s *SQE) RTYPE() ReservationType { return ReservationType(s[41]) }

// CPTPL gives what a Reservation Register asks of persistence.
func (s *SQE) CPTPL() CPTPL { return CPTPL(s[43] >> 6) }

// EDS: a Reservation Report asks for 128-bit host identifiers, which over fabrics it must.
func (s *SQE) EDS() bool { return s[44]&1 != 0 }

// ReportBytes is the length that a Reservation Report asks for. NUMD counts dwords from 0, so it may pass 32 bits.
func (s *SQE) ReportBytes() uint64 { return (uint64(s.CDW(10)) + 1) * 4 }

// SetReservation sets CDW10 of a Reservation Register, Acquire or Release.
func (s *SQE) SetReservation(a ReservationAction, ignoreKey bool, t ReservationType, p CPTPL) {
	v := uint32(a&7) | uint32(t)<<8 | uint32(p)<<30
	if ignoreKey {
		v |= 8
	}
	s.SetCDW(10, v)
}

// Bytes of data that the Reservation commands carry.
const (
	ReservationKeysBytes = 16 // Register, Acquire
	ReservationKeyBytes  = 8  // Release
)

// ReservationKeys is the data of a Reservation Register, Acquire or Release.
type ReservationKeys struct {
	CRKEY uint64 // 0..7, the current key
	Other uint64 // 8..15, Register: NRKEY, the new key; Acquire: PRKEY, the key preempted; Release has none
}

// DecodeReservationKeys reads the data in b; a missing second key is 0.
func DecodeReservationKeys(b []byte) (k ReservationKeys, ok bool) {
	if len(b) < ReservationKeyBytes {
		return k, false
	}
	k.CRKEY = binary.LittleEndian.Uint64(b)
	if len(b) >= ReservationKeysBytes {
		k.Other = binary.LittleEndian.Uint64(b[8:])
	}
	return k, true
}

// AppendTo appends both keys to b.
func (k ReservationKeys) AppendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, k.CRKEY)
	return binary.LittleEndian.AppendUint64(b, k.Other)
}
