package nvmf

import "encoding/binary"

// This file is the log pages but those of discovery, ANA and reservations. Base Specification 2.0, "Get Log Page
// command". The part that a host asks for is cut out by LogPage.Window.

// Sizes of the pages, in bytes.
const (
	SupportedPagesBytes = 256 * 4
	ErrorEntryBytes     = 64
	HealthBytes         = 512
	FirmwareBytes       = 512
	ChangedBytes        = ChangedMax * 4
	EffectsBytes        = 4096
	FeaturesBytes       = 256 * 4
)

// AppendSupportedPages appends page 00h, "Supported Log Pages": for each LID 4 bytes, LSUPP 0, LIDSP 31:16. A page
// that takes no offset as an index, as none of ours does, has IOS 1 clear.
func AppendSupportedPages(b []byte, pages []LID) []byte {
	b, page := grow(b, SupportedPagesBytes)
	for _, lid := range pages {
		page[4*int(lid)] = 1
	}
	return b
}

// Effects are what a command or a feature does beside its own work: an entry of page 05h or 12h.
type Effects uint32

// The effects.
const (
	EffectsSupported Effects = 1 << 0 // CSUPP, FSUPP
	EffectsContent   Effects = 1 << 1 // LBCC, UDCC: logical blocks may change
	EffectsNamespace Effects = 1 << 2 // NCC: the capabilities of a namespace may change
	EffectsInventory Effects = 1 << 3 // NIC: the number of namespaces, or their capabilities
	EffectsControl   Effects = 1 << 4 // CCC: the capabilities of a controller may change

	ScopeNamespace  Effects = 1 << 20 // CSP, FSP: what it works on
	ScopeController Effects = 1 << 21
	ScopeSubsystem  Effects = 1 << 25
)

// AdminEffects and IOEffects are entries of page 05h.
type (
	AdminEffects struct {
		Opcode  AdminOpcode
		Effects Effects
	}
	IOEffects struct {
		Opcode  IOOpcode
		Effects Effects
	}
)

// AppendEffects appends page 05h, "Commands Supported and Effects": 256 Admin commands, 256 I/O commands, 4 bytes each.
func AppendEffects(b []byte, admin []AdminEffects, io []IOEffects) []byte {
	b, page := grow(b, EffectsBytes)
	for _, e := range admin {
		binary.LittleEndian.PutUint32(page[4*int(e.Opcode):], uint32(e.Effects))
	}
	for _, e := range io {
		binary.LittleEndian.PutUint32(page[1024+4*int(e.Opcode):], uint32(e.Effects))
	}
	return b
}

// DecodeEffects gives the effects of one I/O command from page 05h in b.
func DecodeEffects(b []byte, o IOOpcode) (Effects, bool) {
	if len(b) < EffectsBytes {
		return 0, false
	}
	return Effects(binary.LittleEndian.Uint32(b[1024+4*int(o):])), true
}

// FeatureEffects is an entry of page 12h.
type FeatureEffects struct {
	FID     FID
	Effects Effects
}

// AppendFeatures appends page 12h, "Feature Identifiers Supported and Effects": for each FID 4 bytes.
func AppendFeatures(b []byte, features []FeatureEffects) []byte {
	b, page := grow(b, FeaturesBytes)
	for _, e := range features {
		binary.LittleEndian.PutUint32(page[4*int(e.FID):], uint32(e.Effects))
	}
	return b
}

// ErrorEntry is an entry of page 01h, "Error Information"; the newest is first. Count 0 is an unused entry.
type ErrorEntry struct {
	Count  uint64
	SQID   QID // FFFFh: of no command
	CID    CID // FFFFh: of no command
	Status Status
	Byte   uint16 // of the SQE at fault: byte 7:0, bit 10:8; FFFFh: none
	LBA    uint64
	NSID   NSID
	TRTYPE TRTYPE
	Opcode uint8 // of the command, with Count above 0
}

func (e *ErrorEntry) layout(l layout) {
	l.u64(0, &e.Count)
	l.u16(8, (*uint16)(&e.SQID))
	l.u16(10, (*uint16)(&e.CID))
	status := uint16(e.Status) << 1 // bit 0 is the phase
	l.u16(12, &status)
	e.Status = Status(status >> 1)
	l.u16(14, &e.Byte)
	l.u64(16, &e.LBA)
	l.u32(24, (*uint32)(&e.NSID))
	l.u8(29, (*uint8)(&e.TRTYPE))
	l.u8(31, &e.Opcode)
}

// AppendTo appends the entry to b.
func (e ErrorEntry) AppendTo(b []byte) []byte {
	b, page := grow(b, ErrorEntryBytes)
	e.layout(layout{page, false})
	return b
}

// DecodeErrorEntry reads the entry in b; ok is false if b is too short for one.
func DecodeErrorEntry(b []byte) (e ErrorEntry, ok bool) {
	if len(b) < ErrorEntryBytes {
		return e, false
	}
	e.layout(layout{b, true})
	return e, true
}

// The bits of Health.Warning.
const (
	WarningSpare       uint8 = 1 << 0
	WarningTemperature uint8 = 1 << 1
	WarningReliability uint8 = 1 << 2
	WarningReadOnly    uint8 = 1 << 3
)

// Health is page 02h, "SMART / Health Information". The counters have 16 bytes on the wire.
type Health struct {
	Warning         uint8
	Kelvins         uint16
	SparePercent    uint8
	SpareThreshold  uint8
	UsedPercent     uint8  // of the endurance; may pass 100
	UnitsRead       uint64 // of 1000 blocks of 512 bytes, rounded up
	UnitsWritten    uint64
	ReadCommands    uint64
	WriteCommands   uint64
	BusyMinutes     uint64
	PowerCycles     uint64
	PowerOnHours    uint64
	UnsafeShutdowns uint64
	MediaErrors     uint64
	ErrorEntries    uint64 // ever made
}

func (h *Health) layout(l layout) {
	l.u8(0, &h.Warning)
	l.u16(1, &h.Kelvins)
	l.u8(3, &h.SparePercent)
	l.u8(4, &h.SpareThreshold)
	l.u8(5, &h.UsedPercent)
	l.u128(32, &h.UnitsRead)
	l.u128(48, &h.UnitsWritten)
	l.u128(64, &h.ReadCommands)
	l.u128(80, &h.WriteCommands)
	l.u128(96, &h.BusyMinutes)
	l.u128(112, &h.PowerCycles)
	l.u128(128, &h.PowerOnHours)
	l.u128(144, &h.UnsafeShutdowns)
	l.u128(160, &h.MediaErrors)
	l.u128(176, &h.ErrorEntries)
}

// HealthUnits converts bytes to the unit of UnitsRead and UnitsWritten.
func HealthUnits(bytes uint64) uint64 {
	const unit = 1000 * 512
	if bytes%unit == 0 {
		return bytes / unit
	}
	return bytes/unit + 1
}

// AppendTo appends the page to b.
func (h Health) AppendTo(b []byte) []byte {
	b, page := grow(b, HealthBytes)
	h.layout(layout{page, false})
	return b
}

// DecodeHealth reads the page in b; ok is false if b is too short for one.
func DecodeHealth(b []byte) (h Health, ok bool) {
	if len(b) < HealthBytes {
		return h, false
	}
	h.layout(layout{b, true})
	return h, true
}

// AppendFirmware appends page 03h, "Firmware Slot Information", with one slot, which is active: AFI@0 2:0, FRS1@8.
func AppendFirmware(b []byte, revision string) []byte {
	b, page := grow(b, FirmwareBytes)
	page[0] = 1
	layout{page, false}.text(8, 8, &revision)
	return b
}

// ChangedMax is the number of namespaces that page 04h can name.
const ChangedMax = 1024

// AppendChanged appends page 04h, "Changed Namespace List". More ids than it can name are answered by FFFFFFFFh alone:
// the host is to look at all namespaces.
func AppendChanged(b []byte, ids []NSID) []byte {
	b, page := grow(b, ChangedBytes)
	if len(ids) > ChangedMax {
		binary.LittleEndian.PutUint32(page, uint32(NSIDAll))
		return b
	}
	for i, id := range ids {
		binary.LittleEndian.PutUint32(page[4*i:], uint32(id))
	}
	return b
}

// DecodeChanged appends to ids what page 04h in b names. Of an overflow all is true and ids stay as they were; ok is
// false if b is too short.
func DecodeChanged(ids []NSID, b []byte) (changed []NSID, all, ok bool) {
	if len(b) < ChangedBytes {
		return ids, false, false
	}
	changed = ids
	for i := range ChangedMax {
		id := NSID(binary.LittleEndian.Uint32(b[4*i:]))
		if id == NSIDAll {
			return ids, true, true
		}
		if id == 0 {
			break
		}
		changed = append(changed, id)
	}
	return changed, false, true
}
