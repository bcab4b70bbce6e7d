package volume

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/wal"
)

// This file is the page: its header, and the reference by which one page knows another.
//
//	 0..3   'P' 'X' 'm' and the kind's letter
//	 4..7   CRC32C of bytes 8 to 4095
//	 8..15  volume number, 0 for the pool's own pages
//	16..23  index: its number among those of its kind and level
//	24..31  stamp: LSN of the checkpoint that wrote it; of the pool's pages, the generation
//	32      level
//	33..35  zero
//	36..39  entries in it that are not empty
//	40..55  UUID of the pool
//	56..63  zero
//	64..    content
//
// A reference is a place and the CRC that stands in the header of the page there: a page is known by where it is and by what is in it,
// since an older page of the same kind and index may lie at the right place.
//
// Bytes called zero are written as zero and not looked at.

// Sizes of a page and of its parts.
const (
	PageBytes    = 4096
	headerBytes  = 64
	contentBytes = PageBytes - headerBytes
)

// What is wrong with a page. Which page, and in what, stands in the error around it.
var (
	ErrCorrupt     = errors.New("damaged, or not what should be there")
	ErrVersion     = errors.New("written by a newer version")
	ErrPoolCorrupt = errors.New("the pool is damaged")
	ErrName        = errors.New("not a name")
)

var le = binary.LittleEndian

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crcOf is CRC32C.
func crcOf(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// Place is the number of a page on the pool's device (or on the log's, in the extents of a log). 0 is no place.
type Place uint64

// Byte is where the page begins on the device. It is the one place where a Place becomes an address.
func (p Place) Byte() uint64 { return uint64(p) * PageBytes }

// Generation numbers the commits of a pool: 1, 2, … One stands in each slot.
type Generation uint64

// VolumeNumber is a volume's number in its pool, never used again. 0 is the pool itself.
type VolumeNumber uint64

// Stamp says when a page was written: at which checkpoint of its volume, or in which generation of the pool.
type Stamp uint64

// StampLSN is the stamp of a volume's page.
func StampLSN(l wal.LSN) Stamp { return Stamp(l) }

// StampGeneration is the stamp of a page of the pool.
func StampGeneration(g Generation) Stamp { return Stamp(g) }

// LSN is the checkpoint that wrote a volume's page.
func (s Stamp) LSN() wal.LSN { return wal.LSN(s) }

// Generation is the commit that wrote a page of the pool.
func (s Stamp) Generation() Generation { return Generation(s) }

// Kind is what a page holds.
type Kind uint8

// The kinds; the value is the letter on the device.
const (
	KindBitmap       Kind = 'B'
	KindDirectory    Kind = 'D'
	KindVolume       Kind = 'V'
	KindSnapshots    Kind = 'S'
	KindIndex        Kind = 'I'
	KindLeaf         Kind = 'L'
	KindReservations Kind = 'R'
)

func (k Kind) String() string {
	switch k {
	case KindBitmap:
		return "bitmap page"
	case KindDirectory:
		return "directory page"
	case KindVolume:
		return "volume page"
	case KindSnapshots:
		return "snapshot page"
	case KindIndex:
		return "index page"
	case KindLeaf:
		return "leaf"
	case KindReservations:
		return "reservation page"
	}
	return fmt.Sprintf("page of kind %q", byte(k))
}

// Ref is one page's knowledge of another.
type Ref struct {
	Place Place
	CRC   uint32
}

// IsZero says that it refers to nothing.
func (r Ref) IsZero() bool { return r.Place == 0 }

const refBytes = 16

func (r Ref) encode(b []byte) {
	le.PutUint64(b, uint64(r.Place))
	le.PutUint32(b[8:], r.CRC)
	le.PutUint32(b[12:], 0)
}

func decodeRef(b []byte) Ref { return Ref{Place(le.Uint64(b)), le.Uint32(b[8:])} }

// Header is what a page says of itself.
type Header struct {
	Kind    Kind
	Level   uint8 // index pages: 1 is above the leaves; of a directory and of snapshots, the top has 1; else 0
	Pool    uuid.UUID
	Volume  VolumeNumber
	Index   uint64
	Stamp   Stamp
	Entries uint32
}

// seal writes the header over the first 64 bytes of the page, whose content is there already, and gives the CRC for who refers to it.
func (h *Header) seal(page []byte) (crc uint32) {
	page = page[:PageBytes]
	clear(page[:headerBytes])
	page[0], page[1], page[2], page[3] = 'P', 'X', 'm', byte(h.Kind)
	le.PutUint64(page[8:], uint64(h.Volume))
	le.PutUint64(page[16:], h.Index)
	le.PutUint64(page[24:], uint64(h.Stamp))
	page[32] = h.Level
	le.PutUint32(page[36:], h.Entries)
	copy(page[40:56], h.Pool[:])
	crc = crcOf(page[8:])
	le.PutUint32(page[4:], crc)
	return crc
}

// Want is what must be in a page for the reader to believe it.
type Want struct {
	Kind   Kind
	Level  uint8
	Pool   uuid.UUID
	Volume VolumeNumber
	Index  uint64
	CRC    uint32 // as in the Ref

	// SharedTo: where the volume is a clone, the LSN at which it branched off. A page of the map that was written up to there may
	// be another volume's.
	SharedTo wal.LSN

	// Pages of the pool's device: every place in the page lies below.
	Pages uint64
}

// open checks a page that was read and gives its header.
func (w *Want) open(page []byte) (Header, error) {
	h, err := w.identify(page)
	if err == nil {
		if crc := le.Uint32(page[4:]); crc != w.CRC {
			err = w.fault("has the CRC %08x, and who refers to it expects %08x: it is an older page, or a write to it was lost", crc, w.CRC)
		}
	}
	return h, err
}

// identify is open without a Ref: the page is whole, and of the right kind, pool, volume, level and index.
func (w *Want) identify(page []byte) (Header, error) {
	if len(page) != PageBytes {
		return Header{}, w.fault("has %d bytes instead of %d", len(page), PageBytes)
	}
	if page[0] != 'P' || page[1] != 'X' || page[2] != 'm' {
		return Header{}, w.fault("begins with % x, which no page of a pool does", page[:4])
	}
	if crc, has := crcOf(page[8:]), le.Uint32(page[4:]); crc != has {
		return Header{}, w.fault("has the CRC %08x in its header, and its bytes have %08x", has, crc)
	}
	h := Header{
		Kind:    Kind(page[3]),
		Level:   page[32],
		Pool:    uuid.UUID(page[40:56]),
		Volume:  VolumeNumber(le.Uint64(page[8:])),
		Index:   le.Uint64(page[16:]),
		Stamp:   Stamp(le.Uint64(page[24:])),
		Entries: le.Uint32(page[36:]),
	}
	switch {
	case h.Kind != w.Kind:
		return h, w.fault("is of another kind: %v", h.Kind)
	case h.Pool != w.Pool:
		return h, w.fault("belongs to pool %v, not to %v", h.Pool, w.Pool)
	case h.Volume != w.Volume && (h.Volume == 0 || w.SharedTo == 0 || h.Stamp.LSN() > w.SharedTo):
		return h, w.fault("belongs to volume %d and is of LSN %d", h.Volume, h.Stamp.LSN())
	case h.Index != w.Index:
		return h, w.fault("has the index %d", h.Index)
	case h.Level != w.Level:
		return h, w.fault("is of level %d", h.Level)
	}
	return h, nil
}

// fault makes the error about the page that is wanted.
func (w *Want) fault(format string, args ...any) error {
	return fmt.Errorf("%w: %v %d (level %d) of volume %d %s", ErrCorrupt, w.Kind, w.Index, w.Level, w.Volume, fmt.Sprintf(format, args...))
}
