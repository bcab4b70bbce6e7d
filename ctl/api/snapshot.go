package api

// This file holds Pollux's own methods about snapshots and clones. Those of SPDK, which act on the same objects, are in bdev_lvol.go.

// SnapshotCreateParams describe a new snapshot.
type SnapshotCreateParams struct {
	Volume string `json:"volume" rpc:"required" doc:"UUID of the volume, or POOL/VOLUME"`
	Name   string `json:"name" rpc:"required" doc:"of the snapshot, in its volume"`
	UUID   string `json:"uuid,omitempty" format:"uuid" doc:"a new one without it; asking again with the same one gives the snapshot that was taken then"`
}

// SnapshotParams name a snapshot.
type SnapshotParams struct {
	Name string `json:"name" rpc:"required" doc:"UUID of the snapshot, POOL/VOLUME@SNAPSHOT, or POOL/SNAPSHOT if one in the pool has that name"`
}

// SnapshotListParams select snapshots.
type SnapshotListParams struct {
	Pool   string `json:"pool,omitempty" doc:"name or UUID of their pool; all without it"`
	Volume string `json:"volume,omitempty" doc:"UUID of their volume, or POOL/VOLUME"`
	Name   string `json:"name,omitempty" doc:"UUID of one, POOL/VOLUME@SNAPSHOT, or POOL/SNAPSHOT if one in the pool has that name"`
}

// SnapshotCloneParams describe a new volume that begins as a snapshot.
type SnapshotCloneParams struct {
	Name       string `json:"name" rpc:"required" doc:"UUID of the snapshot, POOL/VOLUME@SNAPSHOT, or POOL/SNAPSHOT if one in the pool has that name"`
	Clone      string `json:"clone" rpc:"required" doc:"name of the new volume, in the same pool"`
	WriteCache string `json:"write_cache,omitempty" enum:"none,volatile" doc:"none: a write is durable when it is acknowledged; volatile: when it is flushed; as the snapshot's volume without it"`
	Verify     *bool  `json:"verify,omitempty" doc:"verify checksums on every read; as the snapshot's volume without it"`
	Use        string `json:"use,omitempty" doc:"what it is for, as in volume_create; as the snapshot's volume without it"`
	LogBytes   uint64 `json:"log_bytes,omitempty" default:"0" doc:"size of its log; 0 is the engine's choice"`
	UUID       string `json:"uuid,omitempty" format:"uuid" doc:"a new one without it"`
}

// SnapshotRestoreParams say which snapshot a volume becomes again, and what may stand in the way.
type SnapshotRestoreParams struct {
	Name      string `json:"name" rpc:"required" doc:"UUID of the snapshot, POOL/VOLUME@SNAPSHOT, or POOL/SNAPSHOT if one in the pool has that name"`
	DropNewer bool   `json:"drop_newer,omitempty" default:"false" doc:"delete the volume's snapshots that are newer; without it there may be none"`
	Force     bool   `json:"force,omitempty" default:"false" doc:"though hosts use the volume, whose content changes under them"`
	Request   string `json:"request,omitempty" format:"uuid" doc:"of this call: asking again with the same one does nothing more, as long as not 16 others came between; after a restart of the engine too"`
}

// SnapshotDiffParams say of what and since when changes are asked for.
type SnapshotDiffParams struct {
	Volume        string `json:"volume" rpc:"required" doc:"UUID of the volume, or POOL/VOLUME"`
	Snapshot      string `json:"snapshot,omitempty" doc:"name or UUID of the volume's snapshot in which they are looked for; without it the volume as it is now"`
	SinceSnapshot string `json:"since_snapshot,omitempty" doc:"name or UUID of the volume's snapshot since which; without it and since_lsn all that was ever written"`
	SinceLSN      uint64 `json:"since_lsn,omitempty" default:"0" doc:"LSN since which, instead"`
	Offset        uint64 `json:"offset,omitempty" default:"0" doc:"byte to begin at: next_offset of the answer before"`
	MaxRanges     uint32 `json:"max_ranges,omitempty" default:"10000" doc:"so many at most in one answer, and 100000 in any"`
}

// SnapshotDiff is what has changed. It may name too much, since a cluster is the unit, and never too little.
type SnapshotDiff struct {
	SinceLSN     uint64         `json:"since_lsn"`
	LSN          uint64         `json:"lsn" doc:"all changes up to here are among them: since_lsn of the next question"`
	ClusterBytes uint64         `json:"cluster_bytes" doc:"unit of space"`
	Ranges       []ChangedRange `json:"ranges" doc:"ascending, of what was written or trimmed"`
	NextOffset   uint64         `json:"next_offset,omitempty" doc:"there is more from this byte on"`
}

// ChangedRange is a part of a volume.
type ChangedRange struct {
	Offset uint64 `json:"offset"`
	Bytes  uint64 `json:"bytes"`
}

// Snapshot is a snapshot as it is now.
type Snapshot struct {
	Name           string   `json:"name" doc:"in its volume"`
	Volume         string   `json:"volume"`
	Pool           string   `json:"pool"`
	UUID           string   `json:"uuid" doc:"name of its block device, which is read only"`
	Number         uint64   `json:"number" doc:"never used again in its volume"`
	LSN            uint64   `json:"lsn" doc:"it holds the changes up to here"`
	Bytes          uint64   `json:"bytes"`
	BlockSize      uint32   `json:"block_size"`
	AllocatedBytes uint64   `json:"allocated_bytes" doc:"clusters that it has and none before it"`
	Created        string   `json:"created" doc:"RFC 3339"`
	Clones         []string `json:"clones" doc:"volumes in the pool that began as it and still need it"`
	Temporary      bool     `json:"temporary,omitempty" doc:"the engine's own"`
	Deleting       bool     `json:"deleting,omitempty" doc:"it was deleted, and its space is coming back"`
}

var (
	SnapshotCreate = changes[SnapshotCreateParams, Snapshot]("snapshot_create", Runtime,
		"Take a snapshot of a volume: all that was acknowledged before, and perhaps what is under way.")
	SnapshotDelete = changes[SnapshotParams, bool]("snapshot_delete", Runtime,
		"Delete a snapshot that nobody uses and from which no clone branched off.")
	SnapshotList  = reads[SnapshotListParams, []Snapshot]("snapshot_list", Runtime, "List snapshots, the oldest of each volume first.")
	SnapshotClone = changes[SnapshotCloneParams, Volume]("snapshot_clone", Runtime,
		"Make a volume that begins as a snapshot; asking again for one that is there gives that one.")
	SnapshotRestore = changes[SnapshotRestoreParams, JobStarted]("snapshot_restore", Runtime,
		"Make the content of a volume what a snapshot of it is.")
	SnapshotDiffOf = reads[SnapshotDiffParams, SnapshotDiff]("snapshot_diff", Runtime,
		"List what has changed in a volume or snapshot since a snapshot or an LSN.")
)
