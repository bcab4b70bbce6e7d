package volume

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/wal"
)

// This file is the volume page: all that the pool keeps of one volume, but for its map, its snapshots and its log. Offsets count from
// byte 64 of the page.
//
//	  0..15   UUID
//	 16..79   name
//	 80..87   size in bytes
//	 88..91   block size, 512 or 4096
//	 92..95   flags
//	 96       role
//	 97       what happens when the cache may have been lost: 0 report, 1 fence
//	 98..99   snapshots
//	100..103  levels of the map above the leaves
//	104..111  epoch
//	112..119  lineage
//	120..127  life at the checkpoint
//	128..135  checkpoint LSN
//	136..143  log offset after the checkpoint's record: where recovery begins
//	144..151  durable LSN known then
//	152..159  clusters that the head has alone
//	160..207  refs of the map's root, of the first snapshot page, of the reservation page
//	208..231  parent: volume number 8, snapshot number 8, LSN at which it branched off 8
//	232..239  number of the next snapshot
//	240..247  created, Unix seconds
//	248..255  scrub cursor, in clusters
//	256..271  deletion under way: snapshot number 8, next cluster 8
//	272..287  boot id under which it was opened for writing
//	288..295  thick: clusters reserved and not yet used
//	296..303  extents of the log, epochs in the table, 4 bytes each
//	304..815  the extents, at most 32: place 8, pages 8
//	816..1839 the last 64 epochs: epoch 8, first LSN 8
//	1840..1863 scrub: end of the last pass, Unix seconds 8; errors of that pass 8; errors so far of the pass under way 8
//	1864      what it is for: 0 general, 1 database, 2 throughput
//	1865      what may have been lost, and is not released: 0 nothing, 1 what a cache held, 2 what a log device held
//	1872..1887 of that: the LSN up to which all was durable, the LSN up to which all was found
//	1888..1895 scrub: the snapshot in whose map its cursor is, 0: in the volume's own
//	1896..1903 thick: pages reserved and not yet used
//	1904..2159 requests of the last 16 restores, the oldest first, then zeros
//
// The header's volume number is the volume's, its index the position in the directory, its stamp the checkpoint LSN.

// Limits of a volume page.
const (
	LogExtentsMax = 32
	EpochsMax     = 64
	RequestsMax   = 16
)

// SnapshotNumber is a snapshot's number in its volume, never used again. 0 is none.
type SnapshotNumber uint64

// VolumeFlags are what a volume is, and in what state it was left.
type VolumeFlags uint32

// The flags.
const (
	VolumeThick         VolumeFlags = 1 << iota // its clusters are reserved
	VolumeCacheVolatile                         // write cache: acknowledged when written
	VolumeReadOnly
	VolumeVerify   // checksums are verified on read
	VolumeClean    // it was closed in order
	VolumeHidden   // an import fills it
	VolumeWounded  // its log lost a durable record
	VolumeDeleting // it is being deleted, from DeletingCluster on
	VolumeFenced   // something may have been lost, and it is not served until that is released
)

// Has says whether all of f are set.
func (v VolumeFlags) Has(f VolumeFlags) bool { return v&f == f }

// Role of a volume on this server (V-45).
type Role uint8

// The roles; the values stand on the device.
const (
	RoleNone Role = iota
	RolePrimary
	RoleReplica
	RoleStale
	RoleRebuilding
	RoleDraining
	roleEnd
)

// Roles is how many there are.
const Roles = roleEnd

var roleNames = [roleEnd]string{"none", "primary", "replica", "stale", "rebuilding", "draining"}

func (r Role) String() string {
	if r < roleEnd {
		return roleNames[r]
	}
	return fmt.Sprintf("role %d", uint8(r))
}

// CacheLoss is what a volume does that comes back after a loss of its cache (V-39).
type CacheLoss uint8

// The policies; the values stand on the device.
const (
	CacheLossReport CacheLoss = iota
	CacheLossFence
	cacheLossEnd
)

func (c CacheLoss) String() string {
	switch c {
	case CacheLossReport:
		return "report"
	case CacheLossFence:
		return "fence"
	}
	return fmt.Sprintf("policy %d", uint8(c))
}

// Extent is a run of pages.
type Extent struct {
	Place Place
	Pages uint64
}

// End is the page after the last.
func (e Extent) End() Place { return e.Place + Place(e.Pages) }

// EpochStart is one row of the table of epochs: from which LSN on an epoch's records are.
type EpochStart struct {
	Epoch wal.Epoch
	First wal.LSN
}

// VolumePage is what stands in it.
type VolumePage struct {
	Number   VolumeNumber
	Position uint64 // in the directory
	UUID     uuid.UUID
	Name     Name
	Bytes    uint64

	BlockBytes uint32
	Flags      VolumeFlags
	Role       Role
	CacheLoss  CacheLoss
	Snapshots  uint16
	Levels     uint32 // of index pages above the map's leaves

	Epoch      wal.Epoch
	Lineage    wal.Lineage
	Life       wal.Life // at the checkpoint
	Checkpoint wal.LSN
	LogOffset  wal.Offset // after the checkpoint's record: where recovery begins
	Durable    wal.LSN    // known at the checkpoint

	ClustersAlone uint64 // that the head has alone

	Map          Ref
	SnapshotTop  Ref
	Reservations Ref

	Parent         VolumeNumber // 0 if it is no clone
	ParentSnapshot SnapshotNumber
	BranchedAt     wal.LSN
	NextSnapshot   SnapshotNumber

	Created          int64  // Unix seconds
	ScrubCursor      uint64 // in clusters
	Deleting         SnapshotNumber
	DeletingCluster  uint64 // the next one
	Boot             uuid.UUID
	ClustersReserved uint64         // thick: not yet used
	PagesReserved    uint64         // the same
	Scrubbed         int64          // end of the last pass, Unix seconds; 0: there was none
	ScrubErrors      uint64         // that it found
	ScrubFound       uint64         // that the pass under way found so far
	ScrubSnapshot    SnapshotNumber // in whose map ScrubCursor is; 0: in the volume's own

	Use       LogUse
	Loss      Loss
	LossKnown wal.LSN // all up to there was durable
	LossFound wal.LSN // and all up to there was found; what came after it is gone, if it ever was

	Requests [RequestsMax]uuid.UUID // of the last restores, the oldest first

	Log    []Extent     // on the pool's device or on its log device
	Epochs []EpochStart // ascending
}

// EncodeTo fills a page and gives the CRC for who refers to it.
func (v *VolumePage) EncodeTo(page []byte, pool uuid.UUID) (crc uint32) {
	page = page[:PageBytes]
	clear(page)
	b := page[headerBytes:]
	copy(b, v.UUID[:])
	copy(b[16:], v.Name[:])
	le.PutUint64(b[80:], v.Bytes)
	le.PutUint32(b[88:], v.BlockBytes)
	le.PutUint32(b[92:], uint32(v.Flags))
	b[96], b[97] = byte(v.Role), byte(v.CacheLoss)
	le.PutUint16(b[98:], v.Snapshots)
	le.PutUint32(b[100:], v.Levels)
	le.PutUint64(b[104:], uint64(v.Epoch))
	le.PutUint64(b[112:], uint64(v.Lineage))
	le.PutUint64(b[120:], uint64(v.Life))
	le.PutUint64(b[128:], uint64(v.Checkpoint))
	le.PutUint64(b[136:], uint64(v.LogOffset))
	le.PutUint64(b[144:], uint64(v.Durable))
	le.PutUint64(b[152:], v.ClustersAlone)
	v.Map.encode(b[160:])
	v.SnapshotTop.encode(b[176:])
	v.Reservations.encode(b[192:])
	le.PutUint64(b[208:], uint64(v.Parent))
	le.PutUint64(b[216:], uint64(v.ParentSnapshot))
	le.PutUint64(b[224:], uint64(v.BranchedAt))
	le.PutUint64(b[232:], uint64(v.NextSnapshot))
	le.PutUint64(b[240:], uint64(v.Created))
	le.PutUint64(b[248:], v.ScrubCursor)
	le.PutUint64(b[256:], uint64(v.Deleting))
	le.PutUint64(b[264:], v.DeletingCluster)
	copy(b[272:], v.Boot[:])
	le.PutUint64(b[288:], v.ClustersReserved)
	le.PutUint32(b[296:], uint32(len(v.Log)))
	le.PutUint32(b[300:], uint32(len(v.Epochs)))
	for i, e := range v.Log {
		le.PutUint64(b[304+16*i:816], uint64(e.Place))
		le.PutUint64(b[312+16*i:816], e.Pages)
	}
	for i, e := range v.Epochs {
		le.PutUint64(b[816+16*i:1840], uint64(e.Epoch))
		le.PutUint64(b[824+16*i:1840], uint64(e.First))
	}
	le.PutUint64(b[1840:], uint64(v.Scrubbed))
	le.PutUint64(b[1848:], v.ScrubErrors)
	le.PutUint64(b[1856:], v.ScrubFound)
	b[1864], b[1865] = byte(v.Use), byte(v.Loss)
	le.PutUint64(b[1872:], uint64(v.LossKnown))
	le.PutUint64(b[1880:], uint64(v.LossFound))
	le.PutUint64(b[1888:], uint64(v.ScrubSnapshot))
	le.PutUint64(b[1896:], v.PagesReserved)
	for i := range v.Requests {
		copy(b[1904+16*i:], v.Requests[i][:])
	}
	h := Header{Kind: KindVolume, Pool: pool, Volume: v.Number, Index: v.Position, Stamp: StampLSN(v.Checkpoint), Entries: 1}
	return h.seal(page)
}

// Decode reads a volume page that a directory page refers to. The position is known from there; the volume's number is what the page
// says. The memory of Log and Epochs is used again. What is in v is not to be relied on after an error.
func (v *VolumePage) Decode(page []byte, pool uuid.UUID, position uint64, crc uint32, pages uint64) error {
	w := Want{Kind: KindVolume, Pool: pool, Index: position, CRC: crc, Pages: pages}
	if len(page) == PageBytes {
		w.Volume = VolumeNumber(le.Uint64(page[8:]))
	}
	h, err := w.open(page)
	if err != nil {
		return err
	}
	b := page[headerBytes:]
	*v = VolumePage{
		Number:           h.Volume,
		Position:         h.Index,
		UUID:             uuid.UUID(b[0:16]),
		Name:             Name(b[16:80]),
		Bytes:            le.Uint64(b[80:]),
		BlockBytes:       le.Uint32(b[88:]),
		Flags:            VolumeFlags(le.Uint32(b[92:])),
		Role:             Role(b[96]),
		CacheLoss:        CacheLoss(b[97]),
		Snapshots:        le.Uint16(b[98:]),
		Levels:           le.Uint32(b[100:]),
		Epoch:            wal.Epoch(le.Uint64(b[104:])),
		Lineage:          wal.Lineage(le.Uint64(b[112:])),
		Life:             wal.Life(le.Uint64(b[120:])),
		Checkpoint:       wal.LSN(le.Uint64(b[128:])),
		LogOffset:        wal.Offset(le.Uint64(b[136:])),
		Durable:          wal.LSN(le.Uint64(b[144:])),
		ClustersAlone:    le.Uint64(b[152:]),
		Map:              decodeRef(b[160:]),
		SnapshotTop:      decodeRef(b[176:]),
		Reservations:     decodeRef(b[192:]),
		Parent:           VolumeNumber(le.Uint64(b[208:])),
		ParentSnapshot:   SnapshotNumber(le.Uint64(b[216:])),
		BranchedAt:       wal.LSN(le.Uint64(b[224:])),
		NextSnapshot:     SnapshotNumber(le.Uint64(b[232:])),
		Created:          int64(le.Uint64(b[240:])),
		ScrubCursor:      le.Uint64(b[248:]),
		Deleting:         SnapshotNumber(le.Uint64(b[256:])),
		DeletingCluster:  le.Uint64(b[264:]),
		Boot:             uuid.UUID(b[272:288]),
		ClustersReserved: le.Uint64(b[288:]),
		Scrubbed:         int64(le.Uint64(b[1840:])),
		ScrubErrors:      le.Uint64(b[1848:]),
		ScrubFound:       le.Uint64(b[1856:]),
		Use:              LogUse(b[1864]),
		Loss:             Loss(b[1865]),
		LossKnown:        wal.LSN(le.Uint64(b[1872:])),
		LossFound:        wal.LSN(le.Uint64(b[1880:])),
		ScrubSnapshot:    SnapshotNumber(le.Uint64(b[1888:])),
		PagesReserved:    le.Uint64(b[1896:]),
		Log:              v.Log[:0],
		Epochs:           v.Epochs[:0],
	}
	for i := range v.Requests {
		v.Requests[i] = uuid.UUID(b[1904+16*i:][:16])
	}
	extents, epochs := le.Uint32(b[296:]), le.Uint32(b[300:])
	switch {
	case v.Number == 0:
		return w.fault("has no volume number")
	case h.Stamp.LSN() != v.Checkpoint:
		return w.fault("has the stamp %d and the checkpoint %d", h.Stamp.LSN(), v.Checkpoint)
	case v.BlockBytes != 512 && v.BlockBytes != PageBytes:
		return w.fault("has blocks of %d bytes", v.BlockBytes)
	case v.Bytes%uint64(v.BlockBytes) != 0 || v.Bytes > pagesMax*PageBytes:
		return w.fault("has %d bytes, in blocks of %d", v.Bytes, v.BlockBytes)
	case v.Role >= roleEnd:
		return w.fault("has a role of number %d", v.Role)
	case v.CacheLoss >= cacheLossEnd:
		return w.fault("has a policy %d for a lost cache", v.CacheLoss)
	case v.Use >= logUseEnd:
		return w.fault("is for a use of number %d", v.Use)
	case v.PagesReserved > pages:
		return w.fault("has %d pages reserved, and the pool has %d", v.PagesReserved, pages)
	case v.Loss >= Losses:
		return w.fault("has a loss of number %d", v.Loss)
	case v.Levels > levelsMax:
		return w.fault("has a map of %d levels", v.Levels)
	case v.Snapshots > SnapshotsMax || v.Snapshots > 0 && v.SnapshotTop.IsZero():
		return w.fault("has %d snapshots, and their page at place %d", v.Snapshots, v.SnapshotTop.Place)
	case v.NextSnapshot == 0 || v.Deleting >= v.NextSnapshot:
		return w.fault("gives the next snapshot the number %d, and %d is being deleted", v.NextSnapshot, v.Deleting)
	case (v.Parent == 0) != (v.ParentSnapshot == 0) || v.Parent == 0 && v.BranchedAt != 0:
		return w.fault("branched off volume %d, snapshot %d, LSN %d", v.Parent, v.ParentSnapshot, v.BranchedAt)
	case extents > LogExtentsMax:
		return w.fault("has a log of %d extents", extents)
	case epochs > EpochsMax:
		return w.fault("has a table of %d epochs", epochs)
	}
	if err := v.Name.check(); err != nil {
		return w.fault("has a name that %v", err)
	}
	for _, r := range [...]Ref{v.Map, v.SnapshotTop, v.Reservations} {
		if uint64(r.Place) >= pages {
			return w.fault("refers to place %d, and the pool has %d pages", r.Place, pages)
		}
	}
	for i := range int(extents) {
		e := Extent{Place(le.Uint64(b[304+16*i:])), le.Uint64(b[312+16*i:])}
		if e.Place == 0 || e.Pages == 0 || e.Place >= pagesMax || e.Pages > pagesMax {
			return w.fault("has in its log an extent of %d pages at place %d", e.Pages, e.Place)
		}
		v.Log = append(v.Log, e)
	}
	for i := range int(epochs) {
		e := EpochStart{wal.Epoch(le.Uint64(b[816+16*i:])), wal.LSN(le.Uint64(b[824+16*i:]))}
		if i > 0 && (e.Epoch <= v.Epochs[i-1].Epoch || e.First < v.Epochs[i-1].First) {
			return w.fault("has epoch %d from LSN %d on after epoch %d from %d on", e.Epoch, e.First, v.Epochs[i-1].Epoch, v.Epochs[i-1].First)
		}
		v.Epochs = append(v.Epochs, e)
	}
	return nil
}
