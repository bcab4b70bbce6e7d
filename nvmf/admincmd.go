package nvmf

import "encoding/binary"

// This file is the fields of the Admin commands.
//
// Base Specification 2.0, "Admin Command Set":
//
//	              CDW10                               CDW11                     others
//	Identify      CNS 7:0, CNTID 31:16                CNSSPECID 15:0, CSI 31:24
//	Get Log Page  LID 7:0, LSP 14:8, RAE 15,          NUMDU 15:0, LSI 31:16     LPO CDW12, 13; OT CDW14 23, CSI 31:24
//	              NUMDL 31:16 (0-based dwords)
//	Get Features  FID 7:0, SEL 10:8                   by the feature
//	Set Features  FID 7:0, SV 31                      by the feature            CDW12 too, by the feature
//	Abort         SQID 15:0, CID 31:16

// CNS is what an Identify asks for.
type CNS uint8

// The values of CNS that we know. "Identify command, CNS Values".
const (
	CNSNamespace            CNS = 0x00
	CNSController           CNS = 0x01
	CNSActiveList           CNS = 0x02
	CNSDescriptors          CNS = 0x03
	CNSIONamespace          CNS = 0x05 // of one I/O command set
	CNSIOController         CNS = 0x06 // of one I/O command set
	CNSIOActiveList         CNS = 0x07 // of one I/O command set
	CNSIndependentNamespace CNS = 0x08
	CNSAllocatedList        CNS = 0x10
	CNSAllocatedNamespace   CNS = 0x11
	CNSAttachedControllers  CNS = 0x12 // of one namespace
	CNSControllers          CNS = 0x13 // of the subsystem
	CNSIOCommandSets        CNS = 0x1C
)

// CSINVM is the command set identifier of the NVM command set, the only one that we have.
const CSINVM = 0

// CNS gives what an Identify asks for.
func (s *SQE) CNS() CNS { return CNS(s[40]) }

// CNTID gives the controller that an Identify begins its list after.
func (s *SQE) CNTID() CNTLID { return CNTLID(s.uint16At(42)) }

// IdentifyCSI gives the command set that an Identify asks about.
func (s *SQE) IdentifyCSI() uint8 { return s[47] }

// SetIdentify sets the fields of an Identify.
func (s *SQE) SetIdentify(c CNS, csi uint8, after CNTLID) {
	s.SetCDW(10, uint32(c)|uint32(after)<<16)
	s.SetCDW(11, uint32(csi)<<24)
}

// LID is a log page identifier.
type LID uint8

// The log pages that we know. "Get Log Page command, Log Page Identifiers".
const (
	LIDSupported       LID = 0x00
	LIDError           LID = 0x01
	LIDHealth          LID = 0x02 // SMART / Health Information
	LIDFirmware        LID = 0x03
	LIDChanged         LID = 0x04 // Changed Namespace List
	LIDEffects         LID = 0x05 // Commands Supported and Effects
	LIDANA             LID = 0x0C
	LIDFeatures        LID = 0x12 // Feature Identifiers Supported and Effects
	LIDDiscovery       LID = 0x70
	LIDReservation     LID = 0x80
	LSPANAGroupsOnly       = 1 << 0 // RGO
	LSPDiscoveryExtend     = 1 << 0 // EXTDLPE: extended entries
	LSPDiscoveryPort       = 1 << 1 // PLEO: only this port's
	LSPDiscoveryAll        = 1 << 2 // ALLSUBE: all subsystems
)

// LogPage is the request of a Get Log Page.
type LogPage struct {
	LID         LID
	LSP         uint8  // log specific, 7 bits
	RAE         bool   // the event that told of this page stays masked
	LSI         uint16 // log specific identifier
	CSI         uint8
	Offset      uint64 // bytes from the start of the page; an index if OffsetIndex
	OffsetIndex bool   // OT
	Bytes       uint64 // asked for: a multiple of 4 from 4 to 2^34
}

// LogPage gives the request.
func (s *SQE) LogPage() LogPage {
	dwords := uint64(s.uint16At(44))<<16 | uint64(s.uint16At(42))
	return LogPage{
		LID:         LID(s[40]),
		LSP:         s[41] & 0x7F,
		RAE:         s[41]&0x80 != 0,
		LSI:         s.uint16At(46),
		CSI:         s[59],
		Offset:      s.uint64At(48),
		OffsetIndex: s[58]&0x80 != 0,
		Bytes:       (dwords + 1) * 4,
	}
}

// SetLogPage sets the request. Bytes is a multiple of 4 above 0.
func (s *SQE) SetLogPage(p LogPage) {
	dwords := uint32(p.Bytes/4 - 1)
	s[40], s[41] = byte(p.LID), p.LSP&0x7F
	if p.RAE {
		s[41] |= 0x80
	}
	binary.LittleEndian.PutUint16(s[42:], uint16(dwords))
	binary.LittleEndian.PutUint16(s[44:], uint16(dwords>>16))
	binary.LittleEndian.PutUint16(s[46:], p.LSI)
	binary.LittleEndian.PutUint64(s[48:], p.Offset)
	s[58], s[59] = 0, p.CSI
	if p.OffsetIndex {
		s[58] = 0x80
	}
}

// Window gives the part of page that is asked for: from Offset, at most Bytes, and less where the page ends. An
// Offset that is no multiple of 4 or lies behind the page is answered StatusInvalidField. "Get Log Page command".
func (p LogPage) Window(page []byte) ([]byte, Status) {
	if p.OffsetIndex || p.Offset%4 != 0 || p.Offset > uint64(len(page)) {
		return nil, StatusInvalidField | DNR
	}
	page = page[p.Offset:]
	return page[:min(uint64(len(page)), p.Bytes)], StatusSuccess
}

// FID is a feature identifier.
type FID uint8

// The features that we know. "Set Features command, Feature Identifiers".
const (
	FIDArbitration     FID = 0x01
	FIDPower           FID = 0x02
	FIDTemperature     FID = 0x04
	FIDErrorRecovery   FID = 0x05
	FIDVolatileCache   FID = 0x06
	FIDQueues          FID = 0x07 // Number of Queues
	FIDInterrupts      FID = 0x08
	FIDInterruptConfig FID = 0x09
	FIDAtomicity       FID = 0x0A // Write Atomicity Normal
	FIDEvents          FID = 0x0B // Asynchronous Event Configuration
	FIDTimestamp       FID = 0x0E
	FIDKeepAlive       FID = 0x0F
	FIDHostBehavior    FID = 0x16
	FIDHostID          FID = 0x81
	FIDReservationMask FID = 0x82 // Reservation Notification Mask
	FIDReservationPTPL FID = 0x83 // Reservation Persistence
	FIDWriteProtect    FID = 0x84 // Namespace Write Protection Config
)

// SEL says which value of a feature a Get Features asks for.
type SEL uint8

// The values of SEL.
const (
	SELCurrent   SEL = 0
	SELDefault   SEL = 1
	SELSaved     SEL = 2
	SELSupported SEL = 3 // which of saveable 0, per namespace 1, changeable 2 it is
)

// The answer to SELSupported, in DW0.
const (
	FeatureSaveable   = 1 << 0
	FeatureNamespace  = 1 << 1
	FeatureChangeable = 1 << 2
)

// FID gives the feature of a Get or Set Features.
func (s *SQE) FID() FID { return FID(s[40]) }

// SEL gives which value a Get Features asks for.
func (s *SQE) SEL() SEL { return SEL(s[41] & 7) }

// SV: a Set Features is to be saved.
func (s *SQE) SV() bool { return s[43]&0x80 != 0 }

// SetFID sets the fields of a Get or Set Features but SEL.
func (s *SQE) SetFID(f FID, cdw11 uint32) {
	s.SetCDW(10, uint32(f))
	s.SetCDW(11, cdw11)
}

// AbortSQID gives the queue of the command that an Abort names.
func (s *SQE) AbortSQID() QID { return QID(s.uint16At(40)) }

// AbortCID gives the command that an Abort names.
func (s *SQE) AbortCID() CID { return CID(s.uint16At(42)) }

// SetAbort sets the fields of an Abort.
func (s *SQE) SetAbort(q QID, c CID) { s.SetCDW(10, uint32(q)|uint32(c)<<16) }

// EventType is the type of an asynchronous event.
type EventType uint8

// The types.
const (
	EventError  EventType = 0
	EventHealth EventType = 1
	EventNotice EventType = 2
	EventIOSet  EventType = 6 // I/O command specific
)

// Event is an asynchronous event: DW0 of the completion of an Asynchronous Event Request. Type 2:0, information 15:8,
// log page 23:16. "Asynchronous Event Request command".
type Event struct {
	Type EventType
	Info uint8
	Page LID
}

// The events that we know.
var (
	EventNamespaces  = Event{EventNotice, 0x00, LIDChanged}
	EventANA         = Event{EventNotice, 0x03, LIDANA}
	EventDiscovery   = Event{EventNotice, 0xF0, LIDDiscovery}
	EventReservation = Event{EventIOSet, 0x00, LIDReservation}
)

// DW0 encodes the event.
func (e Event) DW0() uint32 { return uint32(e.Type&7) | uint32(e.Info)<<8 | uint32(e.Page)<<16 }

// DecodeEvent decodes DW0.
func DecodeEvent(dw0 uint32) Event {
	return Event{EventType(dw0 & 7), uint8(dw0 >> 8), LID(dw0 >> 16)}
}

// Queues is the value of feature 07h, Number of Queues: CDW11 of Set Features and DW0 of its answer. On the wire both are
// one less; FFFFh, which is not allowed, reads as 65,536. Submission 15:0, completion 31:16.
type Queues struct{ Submission, Completion uint32 }

// DecodeQueues decodes CDW11 or DW0.
func DecodeQueues(v uint32) Queues { return Queues{v&0xFFFF + 1, v>>16 + 1} }

// Encode gives CDW11 or DW0.
func (q Queues) Encode() uint32 { return (q.Submission-1)&0xFFFF | (q.Completion-1)<<16 }
