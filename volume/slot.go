package volume

import (
	"fmt"

	"github.com/google/uuid"
)

// This file is the slot: the root of a pool. Two of them take turns, 64 KiB apart; the valid one with the higher generation is the pool.
//
//	   0..7     magic "PXPOOL1\0"
//	   8..11    major, minor version, 2 bytes each
//	  12..15    slot number, 0 or 1
//	  16..23    generation
//	  24..39    pool UUID
//	  40..55    server id: who may open it
//	  56..119   name
//	 120..123   log2 of pages in a cluster
//	 124..127   flags: bit 0 clean
//	 128..135   pages of the device that are in use by the pool
//	 136..151   UUID of the log device, zero where logs stand in the pool
//	 152..159   pages used, as the bitmap counts them
//	 160..167   sum of the CRCs of the current bitmap sides, modulo 2^64
//	 168..175   number of the next volume
//	 176..191   ref of the directory's top page
//	 192..195   volumes
//	 196..199   bitmap areas
//	 200..1735  the areas, at most 64: first page 8, first page covered 8, pages covered 8
//	1736..1751  boot id of the machine that wrote it
//	1752..1759  log generation: the opening of the log device to which this belongs, 0 without one
//	1760..4091  zero
//	4092..4095  CRC32C of 0 to 4091

// The version that this code writes. A newer minor version is opened for reading only, a newer major one not at all.
const (
	VersionMajor = 1
	VersionMinor = 0
)

const slotMagic = "PXPOOL1\x00"

// SlotPlace is the page of slot 0 and of slot 1. (Place 0 is no place, but for the slots, which nothing refers to.)
var SlotPlace = [2]Place{0, 16}

// AreasMax is how many bitmap areas a pool may have: one from its creation and at most one for each time it grew.
const AreasMax = 64

// Slot is the root of a pool.
type Slot struct {
	Minor        uint16 // as read; written is VersionMinor
	Number       uint32 // which slot it is, 0 or 1
	Generation   Generation
	Pool         uuid.UUID
	Server       uuid.UUID
	Name         Name
	ClusterShift uint32 // log2 of pages in a cluster
	Clean        bool   // the pool was closed in order
	Pages        uint64 // of the device, in use by the pool
	LogDevice    uuid.UUID
	PagesUsed    uint64
	BitmapSum    uint64
	NextVolume   VolumeNumber
	Directory    Ref
	Volumes      uint32
	Areas        []Area
	Boot         uuid.UUID
	LogOpened    uint64 // how often the log device was opened by then
}

// NewerMinor says that the pool was written by a newer version of the same major: it is opened for reading only.
func (s *Slot) NewerMinor() bool { return s.Minor > VersionMinor }

// EncodeTo fills a page.
func (s *Slot) EncodeTo(page []byte) {
	page = page[:PageBytes]
	clear(page)
	copy(page, slotMagic)
	le.PutUint16(page[8:], VersionMajor)
	le.PutUint16(page[10:], VersionMinor)
	le.PutUint32(page[12:], s.Number)
	le.PutUint64(page[16:], uint64(s.Generation))
	copy(page[24:], s.Pool[:])
	copy(page[40:], s.Server[:])
	copy(page[56:], s.Name[:])
	le.PutUint32(page[120:], s.ClusterShift)
	if s.Clean {
		page[124] = 1
	}
	le.PutUint64(page[128:], s.Pages)
	copy(page[136:], s.LogDevice[:])
	le.PutUint64(page[152:], s.PagesUsed)
	le.PutUint64(page[160:], s.BitmapSum)
	le.PutUint64(page[168:], uint64(s.NextVolume))
	s.Directory.encode(page[176:])
	le.PutUint32(page[192:], s.Volumes)
	le.PutUint32(page[196:], uint32(len(s.Areas)))
	for i := range s.Areas {
		s.Areas[i].encode(page[200+i*areaBytes:])
	}
	copy(page[1736:], s.Boot[:])
	le.PutUint64(page[1752:], s.LogOpened)
	le.PutUint32(page[4092:], crcOf(page[:4092]))
}

// Decode reads slot `number` from a page and checks it (V-12). The memory of Areas is used again. What is in the slot is not to be
// relied on after an error.
func (s *Slot) Decode(page []byte, number uint32) error {
	switch {
	case len(page) != PageBytes:
		return slotFault(number, "has %d bytes instead of %d", len(page), PageBytes)
	case string(page[:8]) != slotMagic:
		return slotFault(number, "begins with % x: no pool was made here, or the slot was lost", page[:8])
	}
	// The CRC comes before the version: a damaged version must not read as a newer one. It stands at the same place in all versions.
	if crc, has := crcOf(page[:4092]), le.Uint32(page[4092:]); crc != has {
		return slotFault(number, "ends with the CRC %08x, and its bytes have %08x: it was torn or damaged", has, crc)
	}
	if major := le.Uint16(page[8:]); major != VersionMajor {
		return fmt.Errorf("slot %d of the pool: %w: its format is %d.%d, this program knows %d.x", number, ErrVersion,
			major, le.Uint16(page[10:]), VersionMajor)
	}
	*s = Slot{
		Minor:        le.Uint16(page[10:]),
		Number:       le.Uint32(page[12:]),
		Generation:   Generation(le.Uint64(page[16:])),
		Pool:         uuid.UUID(page[24:40]),
		Server:       uuid.UUID(page[40:56]),
		Name:         Name(page[56:120]),
		ClusterShift: le.Uint32(page[120:]),
		Clean:        page[124]&1 == 1,
		Pages:        le.Uint64(page[128:]),
		LogDevice:    uuid.UUID(page[136:152]),
		PagesUsed:    le.Uint64(page[152:]),
		BitmapSum:    le.Uint64(page[160:]),
		NextVolume:   VolumeNumber(le.Uint64(page[168:])),
		Directory:    decodeRef(page[176:]),
		Volumes:      le.Uint32(page[192:]),
		Areas:        s.Areas[:0],
		Boot:         uuid.UUID(page[1736:1752]),
		LogOpened:    le.Uint64(page[1752:]),
	}
	areas := le.Uint32(page[196:])
	switch {
	case s.Number != number:
		return slotFault(number, "says that it is slot %d", s.Number)
	case s.Generation == 0:
		return slotFault(number, "has the generation 0")
	case s.Pool == uuid.Nil:
		return slotFault(number, "has no pool UUID")
	case s.ClusterShift < ClusterShiftMin || s.ClusterShift > ClusterShiftMax:
		return slotFault(number, "has clusters of 2^%d pages, where 2^%d to 2^%d are possible", s.ClusterShift, ClusterShiftMin, ClusterShiftMax)
	case s.Pages == 0 || s.Pages > pagesMax:
		return slotFault(number, "has %d pages", s.Pages)
	case s.PagesUsed > s.Pages:
		return slotFault(number, "has %d pages, %d of them used", s.Pages, s.PagesUsed)
	case s.NextVolume == 0:
		return slotFault(number, "gives the next volume the number 0")
	case uint64(s.Volumes) >= uint64(s.NextVolume) || s.Volumes > VolumesMax:
		return slotFault(number, "has %d volumes, and the next one is number %d", s.Volumes, s.NextVolume)
	case s.Volumes > 0 && s.Directory.IsZero():
		return slotFault(number, "has %d volumes and no directory", s.Volumes)
	case uint64(s.Directory.Place) >= s.Pages:
		return slotFault(number, "has its directory at place %d of %d", s.Directory.Place, s.Pages)
	case areas == 0 || areas > AreasMax:
		return slotFault(number, "has %d bitmap areas, where 1 to %d are possible", areas, AreasMax)
	}
	if err := s.Name.check(); err != nil {
		return slotFault(number, "has a name that %v", err)
	}
	for i := range int(areas) {
		s.Areas = append(s.Areas, decodeArea(page[200+i*areaBytes:]))
	}
	if err := checkAreas(s.Areas, s.Pages, s.ClusterShift); err != nil {
		return slotFault(number, "%v", err)
	}
	return nil
}

func slotFault(number uint32, format string, args ...any) error {
	return fmt.Errorf("slot %d of the pool: %w: it %s", number, ErrPoolCorrupt, fmt.Sprintf(format, args...))
}
