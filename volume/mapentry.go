package volume

import (
	"math/bits"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the leaf of a map and its entries, one for each cluster of the volume.
//
//	 0..7   place of the cluster, 0 if it has none
//	 8..15  birth: LSN with which the place was first written for this volume's history
//	16..23  change: LSN of the last change of content, a trim included
//	24..    a bit for each block, in whole 8 bytes: it was written. Other blocks read as zeros
//	  ..    for each block the CRC32C of its 4096 bytes, if it was written
//
//	cluster    blocks   bytes of an entry   entries in a leaf
//	 64 KiB      16            96                  42
//	128 KiB      32           160                  25
//	256 KiB      64           288                  14
//	512 KiB     128           552                   7
//	  1 MiB     256          1080                   3
//
// Leaves are kept in memory as they are on the device: an Entry is a view of its bytes. An entry without place may have a change (it
// was trimmed), and has no birth and no written blocks. An entry without both was never touched.

// Cluster sizes, as log2 of pages.
const (
	ClusterShiftMin = 4
	ClusterShiftMax = 8
)

// Shape is how clusters lie in leaves, for one cluster size.
type Shape struct {
	shift      uint32
	bitBytes   int
	entryBytes int
	entries    int
}

// ShapeOf gives the shape for clusters of 2^shift pages, 4 to 8.
func ShapeOf(shift uint32) Shape {
	invariant.Check(shift >= ClusterShiftMin && shift <= ClusterShiftMax, "volume: a cluster has 16 to 256 pages")
	blocks := 1 << shift
	s := Shape{shift: shift, bitBytes: (blocks + 63) / 64 * 8}
	s.entryBytes = 24 + s.bitBytes + 4*blocks
	s.entries = contentBytes / s.entryBytes
	return s
}

// Blocks of a cluster, which are its pages.
func (s Shape) Blocks() int { return 1 << s.shift }

// step says how many of the blocks from b to end are cleared at once: a whole cluster, or one block of one that is not whole.
func (s Shape) step(b, end uint64) uint64 {
	if per := uint64(s.Blocks()); b&(per-1) == 0 && end-b >= per {
		return per
	}
	return 1
}

// ClusterBytes of data.
func (s Shape) ClusterBytes() uint64 { return PageBytes << s.shift }

// Entries in a leaf.
func (s Shape) Entries() int { return s.entries }

// Clusters of a volume of so many bytes.
func (s Shape) Clusters(bytes uint64) uint64 {
	n := bytes >> s.shift / PageBytes
	if bytes&(s.ClusterBytes()-1) != 0 {
		n++
	}
	return n
}

// Levels of index pages above the leaves of a map of so many clusters: 0 if one leaf holds them all.
func (s Shape) Levels(clusters uint64) uint32 {
	levels := uint32(0)
	for pages := s.Leaves(clusters); pages > 1; levels++ {
		pages = (pages + RefsMax - 1) / RefsMax
	}
	return levels
}

// Leaves of a map of so many clusters.
func (s Shape) Leaves(clusters uint64) uint64 {
	n := clusters / uint64(s.entries)
	if clusters%uint64(s.entries) != 0 {
		n++
	}
	return n
}

// Leaf says in which leaf a cluster's entry is, and where in it.
func (s Shape) Leaf(cluster uint64) (index uint64, entry int) {
	return cluster / uint64(s.entries), int(cluster % uint64(s.entries))
}

// Entry is the view of one cluster's entry in a leaf. It lives as long as the page is lent.
type Entry struct {
	b    []byte
	crcs []byte
}

// Entry gives the i-th entry of a leaf.
func (s Shape) Entry(page []byte, i int) Entry {
	at := headerBytes + i*s.entryBytes
	b := page[at : at+s.entryBytes : at+s.entryBytes]
	return Entry{b[:24+s.bitBytes], b[24+s.bitBytes:]}
}

// Place of the cluster, 0 if it has none.
func (e Entry) Place() Place { return Place(le.Uint64(e.b)) }

// Birth of the place.
func (e Entry) Birth() wal.LSN { return wal.LSN(le.Uint64(e.b[8:])) }

// Change of the content, the last one.
func (e Entry) Change() wal.LSN { return wal.LSN(le.Uint64(e.b[16:])) }

// SetPlace changes place and birth, which belong together.
func (e Entry) SetPlace(p Place, birth wal.LSN) {
	le.PutUint64(e.b, uint64(p))
	le.PutUint64(e.b[8:], uint64(birth))
}

// SetChange notes a change of content.
func (e Entry) SetChange(l wal.LSN) { le.PutUint64(e.b[16:], uint64(l)) }

// IsEmpty says that the cluster was never touched.
func (e Entry) IsEmpty() bool { return e.Place() == 0 && e.Change() == 0 }

// Written says whether a block of the cluster was; others read as zeros.
func (e Entry) Written(block int) bool { return e.b[24+block>>3]>>(block&7)&1 == 1 }

// stretch says how many blocks, of the n from first on, are alike: written and in a place, or neither.
func (e Entry) stretch(first int, n uint64) (written bool, blocks uint64) {
	if e.Place() == 0 {
		return false, n
	}
	written = e.Written(first)
	for blocks = 1; blocks < n && e.Written(first+int(blocks)) == written; {
		blocks++
	}
	return written, blocks
}

// CRC of a block that was written.
func (e Entry) CRC(block int) uint32 { return le.Uint32(e.crcs[4*block:]) }

// SetBlock notes that a block was written.
func (e Entry) SetBlock(block int, crc uint32) {
	e.b[24+block>>3] |= 1 << (block & 7)
	le.PutUint32(e.crcs[4*block:], crc)
}

// ClearBlock makes a block read as zeros.
func (e Entry) ClearBlock(block int) {
	e.b[24+block>>3] &^= 1 << (block & 7)
	le.PutUint32(e.crcs[4*block:], 0)
}

// WrittenBlocks is how many were written.
func (e Entry) WrittenBlocks() int {
	n := 0
	for b := e.b[24:]; len(b) > 0; b = b[8:] {
		n += bits.OnesCount64(le.Uint64(b))
	}
	return n
}

// Trim takes place, birth and blocks from the entry; the change stays as a trace of it.
func (e Entry) Trim(change wal.LSN) {
	clear(e.b)
	clear(e.crcs)
	e.SetChange(change)
}

// CopyFrom makes the entry what another is.
func (e Entry) CopyFrom(o Entry) {
	copy(e.b, o.b)
	copy(e.crcs, o.crcs)
}

// SealLeaf makes a leaf ready to be written; Entries is counted. It gives the CRC for who refers to it.
func (s Shape) SealLeaf(page []byte, h Header) (crc uint32) {
	h.Kind, h.Level, h.Entries = KindLeaf, 0, 0
	for i := range s.entries {
		if !s.Entry(page, i).IsEmpty() {
			h.Entries++
		}
	}
	return h.seal(page)
}

// OpenLeaf checks a leaf that was read.
func (s Shape) OpenLeaf(page []byte, w *Want) (Header, error) {
	h, err := w.open(page)
	if err != nil {
		return h, err
	}
	n := uint32(0)
	for i := range s.entries {
		e := s.Entry(page, i)
		if what := s.wrong(e, w.Pages); what != "" {
			return h, w.fault("has in entry %d %s (place %d, birth %d, change %d)", i, what, e.Place(), e.Birth(), e.Change())
		}
		if !e.IsEmpty() {
			n++
		}
	}
	if n != h.Entries {
		return h, w.fault("has %d entries and says %d", n, h.Entries)
	}
	return h, nil
}

// wrong says what cannot be in an entry, "" if all of it can.
func (s Shape) wrong(e Entry, pages uint64) string {
	blocks := uint64(1) << s.shift
	place := uint64(e.Place())
	switch {
	case place&(blocks-1) != 0:
		return "a place where no cluster begins"
	case place != 0 && (place >= pages || pages-place < blocks):
		return "a place outside the pool"
	case place != 0 && e.Birth() == 0:
		return "a place without birth"
	case place == 0 && e.Birth() != 0:
		return "a birth without place"
	case e.Birth() > e.Change():
		return "a birth after the last change"
	case place == 0 && e.WrittenBlocks() != 0:
		return "written blocks and no place"
	case blocks < 64 && le.Uint64(e.b[24:])>>blocks != 0:
		return "more blocks than a cluster has"
	}
	return ""
}
