package volume

import (
	"fmt"

	"github.com/google/uuid"
)

// This file is the head of a log device: whose logs are on it, and which of the pool's openings it belongs to. It stands twice, where
// the slots of a pool stand; the valid one with the higher generation counts.
//
//	   0..7     magic "PXLDEV1\0"
//	   8..11    major, minor version, 2 bytes each
//	  12..15    number, 0 or 1
//	  16..23    generation: how often the pool was opened with it
//	  24..39    pool UUID
//	  40..55    UUID of the log device, which the pool's slots have too
//	  56..63    pages of the device that are in use
//	  64..4091  zero
//	4092..4095  CRC32C of 0 to 4091

const logMagic = "PXLDEV1\x00"

// LogHead is one of the two.
type LogHead struct {
	Number     uint32
	Generation uint64
	Pool       uuid.UUID
	UUID       uuid.UUID
	Pages      uint64
}

// EncodeTo fills a page.
func (h *LogHead) EncodeTo(page []byte) {
	page = page[:PageBytes]
	clear(page)
	copy(page, logMagic)
	le.PutUint16(page[8:], VersionMajor)
	le.PutUint16(page[10:], VersionMinor)
	le.PutUint32(page[12:], h.Number)
	le.PutUint64(page[16:], h.Generation)
	copy(page[24:], h.Pool[:])
	copy(page[40:], h.UUID[:])
	le.PutUint64(page[56:], h.Pages)
	le.PutUint32(page[4092:], crcOf(page[:4092]))
}

// Decode reads head `number` from a page and checks it. What is in h is not to be relied on after an error.
func (h *LogHead) Decode(page []byte, number uint32) error {
	fault := func(format string, args ...any) error {
		return fmt.Errorf("head %d of the log device: %w: it %s", number, ErrPoolCorrupt, fmt.Sprintf(format, args...))
	}
	switch {
	case len(page) != PageBytes:
		return fault("has %d bytes instead of %d", len(page), PageBytes)
	case string(page[:8]) != logMagic:
		return fault("begins with % x: it is none, or was lost", page[:8])
	}
	if crc, has := crcOf(page[:4092]), le.Uint32(page[4092:]); crc != has {
		return fault("ends with the CRC %08x, and its bytes have %08x: it was torn or damaged", has, crc)
	}
	if major := le.Uint16(page[8:]); major != VersionMajor {
		return fmt.Errorf("head %d of the log device: %w: its format is %d.%d, this program knows %d.x", number, ErrVersion,
			major, le.Uint16(page[10:]), VersionMajor)
	}
	*h = LogHead{
		Number: le.Uint32(page[12:]), Generation: le.Uint64(page[16:]), Pool: uuid.UUID(page[24:40]), UUID: uuid.UUID(page[40:56]),
		Pages: le.Uint64(page[56:]),
	}
	switch {
	case h.Number != number:
		return fault("says that it is head %d", h.Number)
	case h.Generation == 0:
		return fault("has the generation 0")
	case h.Pool == uuid.Nil || h.UUID == uuid.Nil:
		return fault("has no UUID of the pool, or none of its own")
	case h.Pages <= logFirst || h.Pages > pagesMax:
		return fault("has %d pages", h.Pages)
	}
	return nil
}

// newestHead gives the head that counts, of the two pages where heads stand.
func newestHead(page [2][]byte) (LogHead, error) {
	var h [2]LogHead
	err0, err1 := h[0].Decode(page[0], 0), h[1].Decode(page[1], 1)
	switch {
	case err0 != nil && err1 != nil:
		return h[0], fmt.Errorf("%w; %w", err0, err1)
	case err1 != nil, err0 == nil && h[0].Generation > h[1].Generation:
		return h[0], nil
	}
	return h[1], nil
}
