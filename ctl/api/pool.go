package api

// This file holds Pollux's own methods about pools and volumes. Those of SPDK, which act on the same objects, are in bdev_lvol.go.

// PoolCreateParams describe a new pool.
type PoolCreateParams struct {
	Name         string `json:"name" rpc:"required" doc:"of the pool"`
	Device       string `json:"device" rpc:"required" doc:"block device that it takes, and all that was on it"`
	ClusterBytes uint64 `json:"cluster_bytes,omitempty" default:"65536" doc:"unit of space: a power of two from 65536 to 1048576"`
	LogDevice    string `json:"log_device,omitempty" doc:"block device that the logs of its volumes are on, and nothing else; without it they are in the pool"`
	Force        bool   `json:"force,omitempty" default:"false" doc:"even if another pool is there, which is lost"`
}

// PoolParams name a pool.
type PoolParams struct {
	Name string `json:"name" rpc:"required" doc:"name or UUID of the pool"`
}

// PoolListParams select pools.
type PoolListParams struct {
	Name string `json:"name,omitempty" doc:"name or UUID of one; all without it"`
}

// PoolImportParams say where a pool is.
type PoolImportParams struct {
	Device   string `json:"device" rpc:"required" doc:"block device with the pool"`
	TakeOver bool   `json:"take_over,omitempty" default:"false" doc:"make another server's pool this one's own: only if that server is gone for good"`

	LogDevice     string `json:"log_device,omitempty" doc:"block device with its logs; without it every device is looked at. With accept_log_loss: an empty one that takes its place"`
	AcceptLogLoss bool   `json:"accept_log_loss,omitempty" default:"false" doc:"open it though its log device is missing: what that held and no checkpoint has is lost, and volume_status names it"`
	DeleteDamaged bool   `json:"delete_damaged,omitempty" default:"false" doc:"delete volumes for good that are damaged so that others could be given no free cluster beside them"`
}

// PoolRenameParams give a pool another name.
type PoolRenameParams struct {
	Name    string `json:"name" rpc:"required" doc:"name or UUID of the pool"`
	NewName string `json:"new_name" rpc:"required"`
}

// Pool is a pool as it is now.
type Pool struct {
	Name          string   `json:"name"`
	UUID          string   `json:"uuid"`
	Device        string   `json:"device"`
	Bytes         uint64   `json:"bytes"`
	FreeBytes     uint64   `json:"free_bytes" doc:"nobody has or was promised them"`
	ReservedBytes uint64   `json:"reserved_bytes" doc:"free and promised: to thick volumes, and to what is on its way"`
	RestingBytes  uint64   `json:"resting_bytes" doc:"free two commits later"`
	ClusterBytes  uint64   `json:"cluster_bytes" doc:"unit of space"`
	Clusters      uint64   `json:"clusters"`
	FreeClusters  uint64   `json:"free_clusters"`
	GrowableBytes uint64   `json:"growable_bytes" doc:"what pool_grow would add: the device has grown"`
	Fill          string   `json:"fill" doc:"normal, high, critical or full"`
	LogDevice     string   `json:"log_device,omitempty" doc:"with the logs of its volumes; without it they are in the pool"`
	LogBytes      uint64   `json:"log_device_bytes,omitempty"`
	LogFreeBytes  uint64   `json:"log_device_free_bytes,omitempty" doc:"that logs of more volumes could have"`
	Volumes       uint32   `json:"volumes"`
	State         string   `json:"state" doc:"healthy, degraded or unsafe: no better than the worst of its volumes"`
	Score         float64  `json:"score" doc:"the lowest of its volumes"`
	Reasons       []string `json:"reasons,omitempty" doc:"why the state is no better"`
	Commits       uint64   `json:"commits" doc:"since it was opened"`
	Problems      []string `json:"problems,omitempty"`
}

// VolumeCreateParams describe a new volume.
type VolumeCreateParams struct {
	Pool       string `json:"pool" rpc:"required" doc:"name or UUID of the pool"`
	Name       string `json:"name" rpc:"required" doc:"of the volume, in its pool"`
	Bytes      uint64 `json:"bytes" rpc:"required" doc:"size"`
	Thick      bool   `json:"thick,omitempty" default:"false" doc:"reserve its space: no write to it finds the pool full, and a snapshot of it needs a full set of space again; without it space is taken as it is written"`
	BlockSize  uint32 `json:"block_size,omitempty" default:"4096" doc:"bytes: 512 or 4096; hosts that write parts of 4096 bytes cost a read more each"`
	WriteCache string `json:"write_cache,omitempty" default:"none" enum:"none,volatile" doc:"none: a write is durable when it is acknowledged; volatile: when it is flushed"`
	CacheLoss  string `json:"on_cache_loss,omitempty" default:"report" enum:"report,fence" doc:"when a volatile cache may have lost something: report it, or do not serve the volume until volume_release"`
	Verify     bool   `json:"verify,omitempty" default:"false" doc:"verify checksums on every read"`
	Use        string `json:"use,omitempty" default:"general" doc:"what it is for, which decides how large its log is at least: general (32 MiB), database or throughput (128 MiB); another word counts as general, with a warning"`
	LogBytes   uint64 `json:"log_bytes,omitempty" default:"0" doc:"size of its log; 0 is the engine's choice: 64 MiB, or what the use needs"`
	UUID       string `json:"uuid,omitempty" format:"uuid" doc:"a new one without it"`
}

// VolumeDeleteParams name a volume that is to be deleted.
type VolumeDeleteParams struct {
	Name  string `json:"name" rpc:"required" doc:"UUID of the volume, or POOL/VOLUME"`
	Force bool   `json:"force,omitempty" doc:"of a damaged one: though it is not known what it has, or it has snapshots; all other volumes of the pool are read to find out"`
}

// VolumeParams name a volume.
type VolumeParams struct {
	Name string `json:"name" rpc:"required" doc:"UUID of the volume, or POOL/VOLUME"`
}

// VolumeListParams select volumes.
type VolumeListParams struct {
	Pool string `json:"pool,omitempty" doc:"name or UUID of their pool; all without it"`
	Name string `json:"name,omitempty" doc:"UUID of one, or POOL/VOLUME"`
}

// VolumeSetWriteCacheParams change what an acknowledged write means.
type VolumeSetWriteCacheParams struct {
	Name       string `json:"name" rpc:"required" doc:"UUID of the volume, or POOL/VOLUME"`
	WriteCache string `json:"write_cache" rpc:"required" enum:"none,volatile"`
}

// VolumePromoteParams make a volume the primary.
type VolumePromoteParams struct {
	Name  string `json:"name" rpc:"required" doc:"UUID of the volume, or POOL/VOLUME"`
	Epoch uint64 `json:"epoch,omitempty" default:"0" doc:"above the volume's; 0 is the next one"`
}

// ReplicaAssignParams give a volume's copy on this server a role.
type ReplicaAssignParams struct {
	Name  string `json:"name" rpc:"required" doc:"UUID of the volume, or POOL/VOLUME"`
	Role  string `json:"role" rpc:"required" enum:"primary,replica,stale,rebuilding" doc:"primary to stale waits 10 s for requests under way"`
	Epoch uint64 `json:"epoch,omitempty" default:"0" doc:"not below the volume's, and for a primary above it; 0 is that"`
}

// VolumeSetCacheLossParams change what happens when a volatile cache may have lost something.
type VolumeSetCacheLossParams struct {
	Name      string `json:"name" rpc:"required" doc:"UUID of the volume, or POOL/VOLUME"`
	CacheLoss string `json:"on_cache_loss" rpc:"required" enum:"report,fence"`
}

// VolumeResizeParams make a volume larger.
type VolumeResizeParams struct {
	Name  string `json:"name" rpc:"required" doc:"UUID of the volume, or POOL/VOLUME"`
	Bytes uint64 `json:"bytes" rpc:"required" doc:"its new size; not less than it has"`
}

// VolumeSetReadOnlyParams protect a volume, or end that.
type VolumeSetReadOnlyParams struct {
	Name     string `json:"name" rpc:"required" doc:"UUID of the volume, or POOL/VOLUME"`
	ReadOnly *bool  `json:"read_only,omitempty" default:"true"`
}

// Volume is a volume as it is now.
type Volume struct {
	Name           string `json:"name" doc:"in its pool"`
	Pool           string `json:"pool"`
	UUID           string `json:"uuid" doc:"name of its block device"`
	Bytes          uint64 `json:"bytes"`
	BlockSize      uint32 `json:"block_size"`
	AllocatedBytes uint64 `json:"allocated_bytes" doc:"clusters that it has and no snapshot or parent; what stands in the log alone is not counted"`
	Snapshots      uint32 `json:"snapshots" doc:"how many it has"`
	SnapshotBytes  uint64 `json:"snapshot_bytes" doc:"clusters that its snapshots have; those of which two have the same are counted once"`
	Parent         string `json:"parent,omitempty" doc:"snapshot that it branched off and still needs, as POOL/VOLUME@SNAPSHOT"`
	WriteCache     string `json:"write_cache" doc:"none or volatile"`
	ReadOnly       bool   `json:"read_only"`
	Thick          bool   `json:"thick" doc:"its space is reserved"`
	ReservedBytes  uint64 `json:"reserved_bytes" doc:"of a thick volume: clusters that it has not written yet, or shares with a snapshot"`
	CacheLoss      string `json:"on_cache_loss" doc:"report or fence"`
	Verify         bool   `json:"verify" doc:"checksums are verified on every read"`
	Use            string `json:"use" doc:"general, database or throughput"`
	Role           string `json:"role"`
	State          string `json:"state" doc:"healthy, degraded or unsafe; or damaged: it could not be opened with its pool, and is not served; volume_status says why"`
	Created        string `json:"created" doc:"RFC 3339"`

	Warnings []string `json:"warnings,omitempty" doc:"of the call that made it"`
}

// VolumeStatus is what a volume is fit for, with every reason.
type VolumeStatus struct {
	Name    string   `json:"name"`
	UUID    string   `json:"uuid"`
	State   string   `json:"state" doc:"healthy, degraded, unsafe or damaged"`
	Score   float64  `json:"score" doc:"1, less 0.1 for each error of a scrub, at most 0.5, and 0.1 if the last scrub is older than two days"`
	Reasons []string `json:"reasons" doc:"why state and score are no better"`

	Loss *VolumeLoss `json:"loss,omitempty" doc:"what may be gone, until volume_release"`

	AllocatedBytes uint64 `json:"allocated_bytes" doc:"clusters that it has and no snapshot or parent"`
	Snapshots      uint32 `json:"snapshots" doc:"how many it has"`
	SnapshotsMax   uint32 `json:"snapshots_max" doc:"how many it may have"`
	SnapshotBytes  uint64 `json:"snapshot_bytes" doc:"clusters that its snapshots have"`
	Parent         string `json:"parent,omitempty" doc:"snapshot that it branched off and still needs, as POOL/VOLUME@SNAPSHOT"`
	CloneDepth     uint32 `json:"clone_depth" doc:"clones that follow each other up to it; 0 if it is none"`
	CloneDepthMax  uint32 `json:"clone_depth_max"`
}

// VolumeLoss is what may be gone of a volume.
type VolumeLoss struct {
	Of       string `json:"of" doc:"cache: what was acknowledged and not flushed; log device: what that held and no checkpoint has"`
	KnownLSN uint64 `json:"known_lsn" doc:"up to here all was known to be durable"`
	FoundLSN uint64 `json:"found_lsn" doc:"up to here all was found; what came after it is gone, if there was more"`
	Fenced   bool   `json:"fenced" doc:"the volume is not served"`
}

// VolumeStats are a volume's marks and counters.
type VolumeStats struct {
	Name        string `json:"name"`
	UUID        string `json:"uuid"`
	Epoch       uint64 `json:"epoch"`
	AppendedLSN uint64 `json:"appended_lsn"`
	WrittenLSN  uint64 `json:"written_lsn"`
	DurableLSN  uint64 `json:"durable_lsn" doc:"a power cut takes nothing up to here"`
	HomeLSN     uint64 `json:"home_lsn" doc:"up to here nothing of the log is needed"`
	LogBytes    uint64 `json:"log_bytes"`
	LogUsed     uint64 `json:"log_used_bytes"`
	Checkpoints uint64 `json:"checkpoints" doc:"since it was opened"`
	HomeErrors  uint64 `json:"home_errors" doc:"writes that failed behind the log"`

	LogPressure string        `json:"log_pressure" doc:"none, delay (writes are slowed down), urgent, or wait"`
	DirtyBytes  uint64        `json:"dirty_bytes" doc:"that wait to go home"`
	HomePasses  uint64        `json:"home_passes"`
	HomeBytes   uint64        `json:"home_bytes" doc:"that were brought home"`
	MapBytes    uint64        `json:"map_bytes" doc:"of map and volume pages that were written"`
	LogBatches  uint64        `json:"log_batches"`
	LogFlushes  uint64        `json:"log_flushes" doc:"of its device that the log joined"`
	LogWritten  uint64        `json:"log_written_bytes" doc:"headers included"`
	LogPayload  uint64        `json:"log_payload_bytes"`
	Admissions  []VolumeDoor  `json:"admissions" doc:"how changes passed the door"`
	Stages      []VolumeStage `json:"stages" doc:"where changes spent their time; they add up to total"`
	Scrub       VolumeScrub   `json:"scrub"`
}

// VolumeDoor counts the changes that passed the door in one way.
type VolumeDoor struct {
	Door   string `json:"door" doc:"open, space (the pool was asked), soft (slowed down), hard (waited for room) or timeout (turned away)"`
	Count  uint64 `json:"count"`
	WaitNS uint64 `json:"wait_ns" doc:"of all together"`
}

// VolumeStage is the time that changes took in one stage.
type VolumeStage struct {
	Stage  string `json:"stage" doc:"admit, place, append, write, flush or total"`
	Count  uint64 `json:"count"`
	SumNS  uint64 `json:"sum_ns" doc:"of all together"`
	MeanNS uint64 `json:"mean_ns"`
	P50NS  uint64 `json:"p50_ns"`
	P99NS  uint64 `json:"p99_ns"`
}

// VolumeScrub is a volume's scrub.
type VolumeScrub struct {
	State      string        `json:"state" doc:"idle, running or paused"`
	Why        string        `json:"why,omitempty" doc:"it paused by itself"`
	Snapshot   string        `json:"snapshot,omitempty" doc:"in which the pass is; the volume itself comes first, then its snapshots, the newest first"`
	AtBytes    uint64        `json:"at_bytes" doc:"how far the pass is"`
	Bytes      uint64        `json:"bytes" doc:"of all: the volume's, and each snapshot's"`
	Errors     uint64        `json:"errors" doc:"of the pass under way"`
	First      *ScrubFinding `json:"first,omitempty" doc:"the first error of the last run"`
	Last       string        `json:"last,omitempty" doc:"end of the last pass, RFC 3339"`
	LastErrors uint64        `json:"last_errors" doc:"that it found"`
	Passes     uint64        `json:"passes" doc:"since the volume was opened, and so are the following"`
	AllErrors  uint64        `json:"all_errors"`
	Checked    uint64        `json:"checked_bytes"`
	Seconds    float64       `json:"seconds"`
}

// ScrubFinding is a block that is not what it should be.
type ScrubFinding struct {
	Snapshot string `json:"snapshot,omitempty" doc:"the newest that has it; none: the volume itself has it"`
	LBA      uint64 `json:"lba" doc:"in the volume's blocks; of a page of the map the first that it is about"`
	Place    uint64 `json:"place" doc:"in pages of 4096 bytes on the pool's device"`
	Map      bool   `json:"map" doc:"it is a page of the map"`
	Status   string `json:"status"`
}

// VolumeScrubParams start the scrub of a volume.
type VolumeScrubParams struct {
	Name  string `json:"name" rpc:"required" doc:"UUID of the volume, or POOL/VOLUME"`
	Limit uint64 `json:"limit_bytes_per_second,omitempty" default:"0" doc:"at most; 0 is no limit"`
}

// PoolScrubParams scrub the volumes of a pool.
type PoolScrubParams struct {
	Name  string `json:"name" rpc:"required" doc:"name or UUID of the pool"`
	Limit uint64 `json:"limit_bytes_per_second,omitempty" default:"0" doc:"at most; 0 is no limit"`
}

// VolumeScrubOptionsParams are for the scrubs that the engine begins by itself.
type VolumeScrubOptionsParams struct {
	EveryHours *uint32 `json:"every_hours,omitempty" default:"24" doc:"after the last pass of a volume; 0 begins none"`
	Limit      uint64  `json:"limit_bytes_per_second,omitempty" default:"0" doc:"at most; 0 is no limit"`
}

var (
	PoolCreate = changes[PoolCreateParams, Pool]("pool_create", Runtime,
		"Make a pool on a block device; asking again for one that is there gives that one.")
	PoolDelete = changes[PoolParams, JobStarted]("pool_delete", Runtime,
		"Delete a pool and all its volumes.")
	PoolList   = reads[PoolListParams, []Pool]("pool_list", Runtime, "List the pools that are open.")
	PoolImport = changes[PoolImportParams, JobStarted]("pool_import", Runtime,
		"Open the pool on a block device, with its volumes.")
	PoolExport = changes[PoolParams, JobStarted]("pool_export", Runtime,
		"Close a pool and its volumes in order; its device may go elsewhere.")
	PoolRename = changes[PoolRenameParams, bool]("pool_rename", Runtime, "Give a pool another name.")
	PoolGrow   = changes[PoolParams, Pool]("pool_grow", Runtime,
		"Let a pool take all of its block device, which has grown.")

	VolumeCreate = changes[VolumeCreateParams, Volume]("volume_create", Runtime,
		"Make a volume; asking again for one that is there gives that one.")
	VolumeResize = changes[VolumeResizeParams, bool]("volume_resize", Runtime,
		"Make a volume larger while it is in use. Its hosts are told; its snapshots keep their size.")
	VolumeDelete  = changes[VolumeDeleteParams, JobStarted]("volume_delete", Runtime, "Delete a volume and what is on it.")
	VolumeFlatten = changes[VolumeParams, JobStarted]("volume_flatten", Runtime,
		"Give a clone, and its snapshots, space of their own for all that they share with its parent, and end that tie. They share one copy. It is refused where clones of its snapshots share with the parent too.")
	VolumeList = reads[VolumeListParams, []Volume]("volume_list", Runtime, "List volumes.")

	VolumeSetWriteCache = changes[VolumeSetWriteCacheParams, bool]("volume_set_write_cache", Runtime,
		"Change what an acknowledged write means, of a volume that nobody uses.")
	VolumeSetCacheLoss = changes[VolumeSetCacheLossParams, bool]("volume_set_cache_loss", Runtime,
		"Say what happens when a volatile cache may have lost something, from the next opening on.")
	VolumePromote = changes[VolumePromoteParams, bool]("volume_promote", Runtime,
		"Make a volume the primary in a new epoch, which is durable before any request is served.")
	ReplicaAssign = changes[ReplicaAssignParams, bool]("replica_assign", Runtime,
		"Give a volume's copy on this server a role in an epoch.")
	VolumeRelease = changes[VolumeParams, bool]("volume_release", Runtime,
		"Take note of what may be gone of a volume: it is no longer reported, and a fenced volume is served again.")
	VolumeSetReadOnly = changes[VolumeSetReadOnlyParams, bool]("volume_set_read_only", Runtime,
		"Let a volume refuse writes, or take them again.")
	VolumeStatusOf   = reads[VolumeParams, VolumeStatus]("volume_status", Runtime, "Say what a volume is fit for, with every reason.")
	VolumeStatsOf    = reads[VolumeParams, VolumeStats]("volume_stats", Runtime, "Give a volume's marks and counters.")
	VolumeScrubStart = changes[VolumeScrubParams, bool]("volume_scrub_start", Runtime,
		"Compare a volume's blocks with their checksums; goes on with a pass that was paused or cut short.")
	VolumeScrubPause = changes[VolumeParams, bool]("volume_scrub_pause", Runtime,
		"Let a volume's scrub rest where it is. It goes on when it is started, or after the next start of the engine.")
	VolumeScrubStop       = changes[VolumeParams, bool]("volume_scrub_stop", Runtime, "Give a volume's scrub up.")
	VolumeScrubSetOptions = changes[VolumeScrubOptionsParams, bool]("volume_scrub_set_options", Always,
		"Say how often volumes are scrubbed without being asked, and how fast.")
	PoolScrub = changes[PoolScrubParams, JobStarted]("pool_scrub", Runtime,
		"Compare the blocks of all volumes of a pool with their checksums, one volume after the other.")
)
