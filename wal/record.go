package wal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/google/uuid"
)

// This file is the bytes of a batch: a header page with up to 62 records, then the records' payloads, in order. docs/format.md draws
// both.

// Kind says what a record is.
type Kind uint8

// The kinds of records.
const (
	KindWrite          Kind = 1 + iota // payload: the blocks
	KindPlaced                         // payload: for each cluster its place and the CRCs of its blocks; the blocks are there already
	KindZeroes                         // the blocks read as zeros
	KindTrim                           // the same, and their places are given back
	KindSnapshot                       // Block: its number; payload: what it is called
	KindSnapshotDelete                 // Block: its number
	KindRestore                        // Block: its number
	KindResize                         // Block: the new size in bytes
	KindCut                            // the records before it, from LSN Block on, count for nothing
	KindEpoch                          // an epoch starts
	KindReservation                    // payload: the state
	kindEnd
)

var kindNames = [kindEnd]string{
	"", "write", "placed write", "zeroes", "trim", "snapshot", "snapshot delete", "restore", "resize", "cut", "epoch start", "reservation state",
}

func (k Kind) String() string {
	if k > 0 && k < kindEnd {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Event reports that a record of this kind changes more than blocks: all before it is brought home first.
func (k Kind) Event() bool { return k > KindTrim }

// Sizes.
const (
	PageBytes       = 4096
	recordBytes     = 64
	headerBytes     = 128
	batchRecordsMax = (PageBytes - headerBytes) / recordBytes
	batchPagesMax   = 256 // 1 MiB: one write to a device
	// RecordPagesMax is the largest payload, half a batch.
	RecordPagesMax = batchPagesMax / 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// PageCRC is the checksum of one page.
func PageCRC(page []byte) uint32 { return crc32.Checksum(page, castagnoli) }

// Record is what a record says.
type Record struct {
	Kind   Kind
	Flags  uint8
	Pages  uint16   // of payload
	CRC    uint32   // over the CRCs of the payload's pages
	Block  uint64   // first block, or as the kind says
	Blocks uint64   // number
	Place  uint64   // KindPlaced with one cluster: where it is
	Extra  [24]byte // particular to the kind

	LSN    LSN    // its number
	Epoch  Epoch  // of its batch
	Offset Offset // of its payload's first page
}

// crcOfCRCs is a record's checksum: over its pages' CRCs, as little-endian bytes. By the table, since the package's own function, which
// takes a slice through a variable, would have one made for each call.
func crcOfCRCs(crcs []uint32) uint32 {
	sum := ^uint32(0)
	for _, c := range crcs {
		for range 4 {
			sum = castagnoli[byte(sum)^byte(c)] ^ sum>>8
			c >>= 8
		}
	}
	return ^sum
}

// put writes the record's bytes.
func (r *Record) put(b []byte) {
	le := binary.LittleEndian
	b[0], b[1] = byte(r.Kind), r.Flags
	le.PutUint16(b[2:], r.Pages)
	le.PutUint32(b[4:], r.CRC)
	le.PutUint64(b[8:], r.Block)
	le.PutUint64(b[16:], r.Blocks)
	le.PutUint64(b[24:], r.Place)
	copy(b[32:56], r.Extra[:])
	clear(b[56:64])
}

// get reads them.
func (r *Record) get(b []byte) error {
	le := binary.LittleEndian
	r.Kind, r.Flags = Kind(b[0]), b[1]
	r.Pages = le.Uint16(b[2:])
	r.CRC = le.Uint32(b[4:])
	r.Block = le.Uint64(b[8:])
	r.Blocks = le.Uint64(b[16:])
	r.Place = le.Uint64(b[24:])
	copy(r.Extra[:], b[32:56])
	if r.Kind == 0 || r.Kind >= kindEnd {
		return fmt.Errorf("%w: record of kind %d", ErrVersion, b[0])
	}
	return nil
}

// header flags.
const (
	flagLife = 1 << iota // it begins a life
	flagPad              // it is a pad
)

const formatVersion = 1

var batchMagic = [8]byte{'P', 'X', 'L', 'O', 'G', '0', '1', 0}

// header is what a batch says of itself.
type header struct {
	version byte
	records int
	flags   byte
	offset  Offset
	volume  uuid.UUID
	lineage Lineage
	life    Life
	epoch   Epoch
	first   LSN // of its first record; without one, the next LSN to be given
	durable LSN // known when it was written
	pages   int // this one included
	// Of a batch that begins a life: what it follows.
	prevLife Life
	prevLSN  LSN
	boot     uuid.UUID // of the machine that begins it
}

// put writes the header's bytes around the records, which are there already, and the checksum.
func (h *header) put(b []byte) {
	le := binary.LittleEndian
	copy(b, batchMagic[:])
	le.PutUint16(b[12:], uint16(h.records))
	b[14], b[15] = h.flags, formatVersion
	le.PutUint64(b[16:], uint64(h.offset))
	copy(b[24:40], h.volume[:])
	le.PutUint64(b[40:], uint64(h.lineage))
	le.PutUint64(b[48:], uint64(h.life))
	le.PutUint64(b[56:], uint64(h.epoch))
	le.PutUint64(b[64:], uint64(h.first))
	le.PutUint64(b[72:], uint64(h.durable))
	le.PutUint32(b[80:], uint32(h.pages))
	le.PutUint32(b[84:], 0)
	le.PutUint64(b[88:], uint64(h.prevLife))
	le.PutUint64(b[96:], uint64(h.prevLSN))
	copy(b[104:120], h.boot[:])
	clear(b[120:headerBytes])
	clear(b[headerBytes+h.records*recordBytes : PageBytes])
	le.PutUint32(b[8:], crc32.Checksum(b[12:PageBytes], castagnoli))
}

// get reads a header that is whole. Whether it is of this log is the reader's question, and only then whether it is understood: a page
// that some newer program left of another log is no obstacle.
func (h *header) get(b []byte) error {
	le := binary.LittleEndian
	if [8]byte(b) != batchMagic {
		return fmt.Errorf("%w: no batch header", ErrEnd)
	}
	if sum := crc32.Checksum(b[12:PageBytes], castagnoli); sum != le.Uint32(b[8:]) {
		return fmt.Errorf("%w: a batch header with checksum %08x, which should be %08x", ErrEnd, le.Uint32(b[8:]), sum)
	}
	*h = header{
		version: b[15], records: int(le.Uint16(b[12:])), flags: b[14], offset: Offset(le.Uint64(b[16:])), volume: uuid.UUID(b[24:40]),
		lineage: Lineage(le.Uint64(b[40:])), life: Life(le.Uint64(b[48:])), epoch: Epoch(le.Uint64(b[56:])),
		first: LSN(le.Uint64(b[64:])), durable: LSN(le.Uint64(b[72:])), pages: int(le.Uint32(b[80:])),
		prevLife: Life(le.Uint64(b[88:])), prevLSN: LSN(le.Uint64(b[96:])), boot: uuid.UUID(b[104:120]),
	}
	return nil
}

// check says whether this program understands a header of its log. Flags that it does not know are not looked at.
func (h *header) check() error {
	life, pad := h.flags&flagLife != 0, h.flags&flagPad != 0
	switch {
	case h.version != formatVersion:
		return fmt.Errorf("%w: a batch of version %d, this program knows %d", ErrVersion, h.version, formatVersion)
	case h.records > batchRecordsMax, h.pages < 1, h.pages > batchPagesMax, life && pad, (life || pad) && h.records != 0, life && h.pages != 1:
		return fmt.Errorf("%w: a batch header with %d records, %d pages and flags %#x", ErrVersion, h.records, h.pages, h.flags)
	}
	return nil
}

// recordAt gives the bytes of the i-th record of a header page.
func recordAt(page []byte, i int) []byte {
	return page[headerBytes+i*recordBytes:][:recordBytes:recordBytes]
}
