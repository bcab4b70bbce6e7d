package api

// This file holds SPDK's methods about pools and volumes: an lvstore is a pool, an lvol a volume, with its UUID as the name of
// its block device and pool/volume as its alias. A snapshot is an lvol too: lvs/snapshot names it, as long as the name means one. Facts of
// module/bdev/lvol/vbdev_lvol_rpc.c and vbdev_lvol.c.

// LvolStoreParams name a pool by one of the two.
type LvolStoreParams struct {
	UUID    string `json:"uuid,omitempty" format:"uuid" doc:"of the pool"`
	LvsName string `json:"lvs_name,omitempty" doc:"name of the pool, instead"`
}

// LvolCreateStoreParams describe a new pool.
type LvolCreateStoreParams struct {
	BdevName    string `json:"bdev_name" rpc:"required" doc:"block device that it takes"`
	LvsName     string `json:"lvs_name" rpc:"required" doc:"name of the pool"`
	ClusterSz   uint64 `json:"cluster_sz,omitempty" default:"65536" doc:"bytes, a power of two; from 1048576 on it is that, the largest"`
	ClearMethod string `json:"clear_method,omitempty" default:"unmap" enum:"none,unmap,write_zeroes" doc:"no effect: what was never written reads as zeros"`
	MDRatio     uint32 `json:"num_md_pages_per_cluster_ratio,omitempty" doc:"ignored"`
	MDPageSize  uint32 `json:"md_page_size,omitempty" doc:"ignored"`
}

// LvolRenameParams give a pool or volume another name.
type LvolRenameParams struct {
	OldName string `json:"old_name" rpc:"required"`
	NewName string `json:"new_name" rpc:"required"`
}

// LvolStore is a pool.
type LvolStore struct {
	UUID              string `json:"uuid"`
	Name              string `json:"name"`
	BaseBdev          string `json:"base_bdev"`
	TotalDataClusters uint64 `json:"total_data_clusters"`
	FreeClusters      uint64 `json:"free_clusters"`
	BlockSize         uint32 `json:"block_size"`
	ClusterSize       uint64 `json:"cluster_size"`
	MaxGrowableSize   uint64 `json:"max_growable_size" doc:"bytes that a pool may have"`
}

// LvolCreateParams describe a new volume.
type LvolCreateParams struct {
	LvolName      string `json:"lvol_name" rpc:"required"`
	SizeInMiB     uint64 `json:"size_in_mib" rpc:"required"`
	ThinProvision bool   `json:"thin_provision,omitempty" default:"false" doc:"take space as it is written; without it all of it is reserved, and stays so: a snapshot needs a full set of space again"`
	LvolStoreParams
	ClearMethod string `json:"clear_method,omitempty" default:"unmap" enum:"none,unmap,write_zeroes" doc:"no effect"`
}

// LvolResizeParams make a volume larger.
type LvolResizeParams struct {
	Name      string `json:"name" rpc:"required"`
	SizeInMiB uint64 `json:"size_in_mib" rpc:"required" doc:"not less than it has: a volume does not shrink here"`
}

// LvolGetParams select volumes.
type LvolGetParams struct {
	LvsUUID string `json:"lvs_uuid,omitempty" format:"uuid" doc:"of their pool"`
	LvsName string `json:"lvs_name,omitempty" doc:"name of their pool, instead"`
}

// LvolSnapshotParams describe a new snapshot.
type LvolSnapshotParams struct {
	LvolName     string `json:"lvol_name" rpc:"required" doc:"volume"`
	SnapshotName string `json:"snapshot_name" rpc:"required" doc:"that no volume or snapshot in the pool has"`
}

// LvolCloneParams describe a volume that begins as a snapshot.
type LvolCloneParams struct {
	SnapshotName string `json:"snapshot_name" rpc:"required"`
	CloneName    string `json:"clone_name" rpc:"required" doc:"that no volume or snapshot in the pool has"`
}

// Lvol is a volume or a snapshot.
type Lvol struct {
	Alias                string  `json:"alias"`
	UUID                 string  `json:"uuid"`
	Name                 string  `json:"name"`
	IsThinProvisioned    bool    `json:"is_thin_provisioned"`
	IsSnapshot           bool    `json:"is_snapshot"`
	IsClone              bool    `json:"is_clone"`
	IsEsnapClone         bool    `json:"is_esnap_clone"`
	IsDegraded           bool    `json:"is_degraded"`
	NumAllocatedClusters uint64  `json:"num_allocated_clusters"`
	Lvs                  LvolLvs `json:"lvs"`
}

// LvolLvs is the pool of a volume.
type LvolLvs struct {
	Name string `json:"name"`
	UUID string `json:"uuid"`
}

var (
	BdevLvolCreateLvstore = changes[LvolCreateStoreParams, string]("bdev_lvol_create_lvstore", Runtime,
		"Make a pool on a block device.")
	BdevLvolDeleteLvstore = changes[LvolStoreParams, bool]("bdev_lvol_delete_lvstore", Runtime,
		"Delete a pool and all its volumes.")
	BdevLvolRenameLvstore = changes[LvolRenameParams, bool]("bdev_lvol_rename_lvstore", Runtime, "Give a pool another name.")
	BdevLvolGrowLvstore   = changes[LvolStoreParams, bool]("bdev_lvol_grow_lvstore", Runtime,
		"Let a pool take all of its block device, which has grown.")
	BdevLvolGetLvstores = reads[LvolStoreParams, []LvolStore]("bdev_lvol_get_lvstores", Runtime, "List the pools.")
	BdevLvolCreate      = changes[LvolCreateParams, string]("bdev_lvol_create", Runtime, "Make a volume.")
	BdevLvolGetLvols    = reads[LvolGetParams, []Lvol]("bdev_lvol_get_lvols", Runtime, "List the volumes and their snapshots.")
	BdevLvolSnapshot    = changes[LvolSnapshotParams, string]("bdev_lvol_snapshot", Runtime, "Take a snapshot of a volume.")
	BdevLvolClone       = changes[LvolCloneParams, string]("bdev_lvol_clone", Runtime, "Make a volume that begins as a snapshot.")
	BdevLvolInflate     = changes[BdevNameParams, bool]("bdev_lvol_inflate", Runtime,
		"End a clone's tie to its parent; what was never written takes no space.")
	BdevLvolDecoupleParent = changes[BdevNameParams, bool]("bdev_lvol_decouple_parent", Runtime, "End a clone's tie to its parent.")
	BdevLvolDelete         = changes[BdevNameParams, bool]("bdev_lvol_delete", Runtime, "Delete a volume and what is on it, or a snapshot.")
	BdevLvolRename         = changes[LvolRenameParams, bool]("bdev_lvol_rename", Runtime, "Give a volume another name in its pool.")
	BdevLvolResize         = changes[LvolResizeParams, bool]("bdev_lvol_resize", Runtime, "Make a volume larger.")
	BdevLvolSetReadOnly    = changes[BdevNameParams, bool]("bdev_lvol_set_read_only", Runtime, "Let a volume refuse writes.")
)
