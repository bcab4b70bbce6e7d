package volume

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/wal"
)

// This file is the list of a volume's snapshots: a top page (level 1) of references, in refs.go, to pages (level 0) of 28 each.
//
//	  0..7    number
//	  8..15   LSN
//	 16..31   UUID
//	 32..95   name
//	 96..103  size in bytes
//	104..111  created, Unix seconds
//	112..127  ref of its map's root
//	128..131  levels of the map
//	132..135  flags: bit 0 it is being deleted, 1 temporary
//	136..143  clusters that it has and none before it
//
// A page's snapshots stand at its beginning, ascending in number and LSN; the header's Entries says how many there are.

const snapshotBytes = 144

// Limits of the list of snapshots.
const (
	SnapshotsPerPage = contentBytes / snapshotBytes
	SnapshotsMax     = 1024 // S-19
)

const _ = uint(SnapshotsPerPage*RefsMax - SnapshotsMax) // does not compile if the pages could not hold so many

// levelsMax bounds the levels of a map: 252^7 leaves are more than any pool has pages.
const levelsMax = 7

// SnapshotFlags are the states of a snapshot.
type SnapshotFlags uint32

// The flags.
const (
	SnapshotDeleting  SnapshotFlags = 1 << iota // its clusters are being freed; it cannot be opened
	SnapshotTemporary                           // made by an export for itself
)

// Snapshot is one of them.
type Snapshot struct {
	Number   SnapshotNumber
	LSN      wal.LSN // it holds the records up to here
	UUID     uuid.UUID
	Name     Name
	Bytes    uint64
	Created  int64 // Unix seconds
	Map      Ref
	Levels   uint32
	Flags    SnapshotFlags
	Clusters uint64 // mapped
}

func (s *Snapshot) encode(b []byte) {
	le.PutUint64(b, uint64(s.Number))
	le.PutUint64(b[8:], uint64(s.LSN))
	copy(b[16:], s.UUID[:])
	copy(b[32:], s.Name[:])
	le.PutUint64(b[96:], s.Bytes)
	le.PutUint64(b[104:], uint64(s.Created))
	s.Map.encode(b[112:])
	le.PutUint32(b[128:], s.Levels)
	le.PutUint32(b[132:], uint32(s.Flags))
	le.PutUint64(b[136:], s.Clusters)
}

func decodeSnapshot(b []byte) Snapshot {
	return Snapshot{
		Number:   SnapshotNumber(le.Uint64(b)),
		LSN:      wal.LSN(le.Uint64(b[8:])),
		UUID:     uuid.UUID(b[16:32]),
		Name:     Name(b[32:96]),
		Bytes:    le.Uint64(b[96:]),
		Created:  int64(le.Uint64(b[104:])),
		Map:      decodeRef(b[112:]),
		Levels:   le.Uint32(b[128:]),
		Flags:    SnapshotFlags(le.Uint32(b[132:])),
		Clusters: le.Uint64(b[136:]),
	}
}

// EncodeSnapshots fills a page with at most SnapshotsPerPage snapshots and gives the CRC for who refers to it. Of h Pool, Volume, Index
// and Stamp count.
func EncodeSnapshots(page []byte, list []Snapshot, h Header) (crc uint32) {
	page = page[:PageBytes]
	clear(page)
	for i := range list {
		list[i].encode(page[headerBytes+i*snapshotBytes:][:snapshotBytes])
	}
	h.Kind, h.Level, h.Entries = KindSnapshots, 0, uint32(len(list))
	return h.seal(page)
}

// DecodeSnapshots appends the snapshots of a page of level 0 to the list, which holds those of the pages before it. Of w all but Kind and
// Level must be set.
func DecodeSnapshots(list []Snapshot, page []byte, w Want) ([]Snapshot, error) {
	w.Kind, w.Level = KindSnapshots, 0
	h, err := w.open(page)
	switch {
	case err != nil:
		return list, err
	case h.Entries > SnapshotsPerPage || len(list)+int(h.Entries) > SnapshotsMax:
		return list, w.fault("has %d snapshots, after %d before it", h.Entries, len(list))
	}
	for i := range int(h.Entries) {
		s := decodeSnapshot(page[headerBytes+i*snapshotBytes:][:snapshotBytes])
		if err := s.check(w.Pages); err != nil {
			return list, w.fault("has at %d a snapshot of number %d that %v", i, s.Number, err)
		}
		if n := len(list); n > 0 && (s.Number <= list[n-1].Number || s.LSN < list[n-1].LSN) {
			return list, w.fault("has snapshot %d of LSN %d after snapshot %d of LSN %d", s.Number, s.LSN, list[n-1].Number, list[n-1].LSN)
		}
		list = append(list, s)
	}
	return list, nil
}

func (s *Snapshot) check(pages uint64) error {
	switch {
	case s.Number == 0:
		return fmt.Errorf("has no number")
	case s.Bytes > pagesMax*PageBytes || s.Bytes%512 != 0:
		return fmt.Errorf("has %d bytes", s.Bytes)
	case uint64(s.Map.Place) >= pages:
		return fmt.Errorf("has its map at place %d of %d", s.Map.Place, pages)
	case s.Levels > levelsMax:
		return fmt.Errorf("has a map of %d levels", s.Levels)
	}
	if err := s.Name.check(); err != nil {
		return fmt.Errorf("has a name that %w", err)
	}
	return nil
}
