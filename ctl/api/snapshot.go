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
)
