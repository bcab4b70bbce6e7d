package api

// This file holds the methods that make, change and delete each kind of block device, but for those of remote namespaces
// (bdev_nvme.go).

// Metadata are the members that describe per-block metadata and its protection. Devices here have none: a size or a type
// other than 0 is refused with -22.
type Metadata struct {
	MDSize        uint32 `json:"md_size,omitempty" default:"0" doc:"bytes of metadata per block; only 0"`
	DIFType       int32  `json:"dif_type,omitempty" default:"0" doc:"protection information; only 0"`
	DIFIsHeadOfMD bool   `json:"dif_is_head_of_md,omitempty" default:"false" doc:"where protection information would stand"`
	DIFPIFormat   uint32 `json:"dif_pi_format,omitempty" default:"0" doc:"format of protection information"`
}

// BdevMallocCreateParams describe a device in memory.
type BdevMallocCreateParams struct {
	NumBlocks         uint64 `json:"num_blocks" rpc:"required"`
	BlockSize         uint32 `json:"block_size" rpc:"required" doc:"bytes: 512 or 4096"`
	Name              string `json:"name,omitempty" doc:"MallocN without it"`
	UUID              string `json:"uuid,omitempty" format:"uuid"`
	OptimalIOBoundary uint32 `json:"optimal_io_boundary,omitempty" default:"0" doc:"blocks"`
	PhysicalBlockSize uint32 `json:"physical_block_size,omitempty" doc:"bytes; block_size without it"`
	NUMAID            *int32 `json:"numa_id,omitempty" default:"-1" doc:"memory of this node; -1 is any"`
	MDInterleave      bool   `json:"md_interleave,omitempty" default:"false"`
	Metadata
}

// BdevNullCreateParams describe a device that forgets what is written and reads whatever is in the buffer.
type BdevNullCreateParams struct {
	Name                      string `json:"name" rpc:"required"`
	NumBlocks                 uint64 `json:"num_blocks" rpc:"required"`
	BlockSize                 uint32 `json:"block_size" rpc:"required" doc:"bytes: 512 or 4096"`
	UUID                      string `json:"uuid,omitempty" format:"uuid"`
	PhysicalBlockSize         uint32 `json:"physical_block_size,omitempty" doc:"bytes; block_size without it"`
	PreferredWriteGranularity uint32 `json:"preferred_write_granularity,omitempty" doc:"blocks"`
	PreferredWriteAlignment   uint32 `json:"preferred_write_alignment,omitempty" doc:"blocks"`
	OptimalWriteSize          uint32 `json:"optimal_write_size,omitempty" doc:"blocks"`
	PreferredUnmapGranularity uint32 `json:"preferred_unmap_granularity,omitempty" doc:"blocks"`
	PreferredUnmapAlignment   uint32 `json:"preferred_unmap_alignment,omitempty" doc:"blocks"`
	Metadata
}

// BdevNullResizeParams give a new size.
type BdevNullResizeParams struct {
	Name    string `json:"name" rpc:"required" doc:"device"`
	NewSize uint64 `json:"new_size" rpc:"required" doc:"MiB"`
}

// BdevUringCreateParams describe a device on a file or a block device of the kernel.
type BdevUringCreateParams struct {
	Filename  string `json:"filename" rpc:"required" doc:"path of a file or a block device"`
	Name      string `json:"name" rpc:"required"`
	BlockSize uint32 `json:"block_size,omitempty" doc:"bytes: 512 or 4096; the file's own without it"`
	UUID      string `json:"uuid,omitempty" format:"uuid"`
}

// BdevAIOCreateParams describe the same device in the words of another of SPDK's modules.
type BdevAIOCreateParams struct {
	Name      string `json:"name" rpc:"required"`
	Filename  string `json:"filename" rpc:"required" doc:"path of a file or a block device"`
	BlockSize uint32 `json:"block_size,omitempty" doc:"bytes: 512 or 4096; the file's own without it"`
	Readonly  bool   `json:"readonly,omitempty" default:"false" doc:"refuse writes"`
	Fallocate bool   `json:"fallocate,omitempty" default:"false" doc:"no effect: unmap and write zeroes are always there"`
	UUID      string `json:"uuid,omitempty" format:"uuid"`
	NoWait    bool   `json:"nowait,omitempty" default:"false" doc:"no effect"`
}

// BdevErrorCreateParams put a device that fails at will on another.
type BdevErrorCreateParams struct {
	BaseName string `json:"base_name" rpc:"required" doc:"device below; the new one is EE_ and its name"`
	UUID     string `json:"uuid,omitempty" format:"uuid"`
}

// BdevErrorInjectErrorParams say what shall fail, and how.
type BdevErrorInjectErrorParams struct {
	Name          string  `json:"name" rpc:"required" doc:"device made by bdev_error_create"`
	IOType        string  `json:"io_type" rpc:"required" enum:"clear,read,write,unmap,flush,all" doc:"which operations; clear ends all injection"`
	ErrorType     string  `json:"error_type" rpc:"required" enum:"failure,pending,corrupt_data,nomem,nvme_failure" doc:"how they fail"`
	Num           *uint32 `json:"num,omitempty" default:"1" doc:"how many; 0 ends this injection"`
	QueueDepth    uint64  `json:"queue_depth,omitempty" default:"0" doc:"only with this many operations under way"`
	CorruptOffset uint64  `json:"corrupt_offset,omitempty" default:"0" doc:"byte to change, for corrupt_data"`
	CorruptValue  uint8   `json:"corrupt_value,omitempty" doc:"what it is XORed with, 1 to 255, for corrupt_data"`
	NVMeSCT       uint32  `json:"nvme_sct,omitempty" default:"0" max:"7" doc:"status code type, for nvme_failure"`
	NVMeSC        uint32  `json:"nvme_sc,omitempty" default:"0" max:"255" doc:"status code, for nvme_failure"`
}

// BdevDelayCreateParams put a device that takes its time on another.
type BdevDelayCreateParams struct {
	Name            string `json:"name" rpc:"required"`
	BaseBdevName    string `json:"base_bdev_name" rpc:"required" doc:"device below"`
	AvgReadLatency  uint64 `json:"avg_read_latency" rpc:"required" doc:"microseconds"`
	P99ReadLatency  uint64 `json:"p99_read_latency" rpc:"required" doc:"microseconds, of one in a hundred"`
	AvgWriteLatency uint64 `json:"avg_write_latency" rpc:"required" doc:"microseconds"`
	P99WriteLatency uint64 `json:"p99_write_latency" rpc:"required" doc:"microseconds, of one in a hundred"`
	UUID            string `json:"uuid,omitempty" format:"uuid"`
}

// BdevDelayUpdateLatencyParams change one of its four times.
type BdevDelayUpdateLatencyParams struct {
	DelayBdevName string `json:"delay_bdev_name" rpc:"required" doc:"device made by bdev_delay_create"`
	LatencyType   string `json:"latency_type" rpc:"required" enum:"avg_read,p99_read,avg_write,p99_write"`
	LatencyUS     uint64 `json:"latency_us" rpc:"required" doc:"microseconds"`
}

// BdevCryptoCreateParams put encryption on a device.
type BdevCryptoCreateParams struct {
	BaseBdevName string `json:"base_bdev_name" rpc:"required" doc:"device below"`
	Name         string `json:"name" rpc:"required"`
	KeyName      string `json:"key_name,omitempty" doc:"key made by accel_crypto_key_create"`
	CryptoPMD    string `json:"crypto_pmd,omitempty" doc:"older form: ignored"`
	Key          string `json:"key,omitempty" secret:"true" doc:"older form: first half of the key, hexadecimal"`
	Cipher       string `json:"cipher,omitempty" doc:"older form: AES_XTS"`
	Key2         string `json:"key2,omitempty" secret:"true" doc:"older form: second half of the key, hexadecimal"`
}

// BdevSplitCreateParams cut a device in parts of one size.
type BdevSplitCreateParams struct {
	BaseBdev    string `json:"base_bdev" rpc:"required" doc:"device below; the parts are its name and p0, p1 and on"`
	SplitCount  uint32 `json:"split_count" rpc:"required" min:"1" doc:"parts"`
	SplitSizeMB uint64 `json:"split_size_mb,omitempty" doc:"MiB of each part; what fits without it"`
}

// BdevSplitDeleteParams name the device below.
type BdevSplitDeleteParams struct {
	BaseBdev string `json:"base_bdev" rpc:"required" doc:"device below"`
}

// BdevPassthruCreateParams put a device on another that only passes on.
type BdevPassthruCreateParams struct {
	Name         string `json:"name" rpc:"required"`
	BaseBdevName string `json:"base_bdev_name" rpc:"required" doc:"device below"`
	UUID         string `json:"uuid,omitempty" format:"uuid"`
}

// BdevRaidCreateParams join devices.
type BdevRaidCreateParams struct {
	Name        string   `json:"name" rpc:"required"`
	RaidLevel   string   `json:"raid_level" rpc:"required" enum:"raid0,0,raid1,1,raid5f,5f,concat" doc:"raid0 and concat; copies are replicas here"`
	BaseBdevs   []string `json:"base_bdevs" rpc:"required" doc:"devices below, in order"`
	StripSizeKB uint32   `json:"strip_size_kb,omitempty" doc:"KiB, a power of two"`
	UUID        string   `json:"uuid,omitempty" format:"uuid"`
	Superblock  bool     `json:"superblock,omitempty" default:"false" doc:"only false: write the layout on the devices"`
}

// BdevRaidDeleteParams take it apart.
type BdevRaidDeleteParams struct {
	Name    string `json:"name" rpc:"required"`
	ClearSB bool   `json:"clear_sb,omitempty" default:"false" doc:"remove the layout from the devices"`
}

// BdevRaidGetBdevsParams select by state.
type BdevRaidGetBdevsParams struct {
	Category string `json:"category" rpc:"required" enum:"all,online,configuring,offline"`
}

// RaidBdev is one set of joined devices.
type RaidBdev struct {
	Name                    string         `json:"name"`
	UUID                    string         `json:"uuid"`
	StripSizeKB             uint32         `json:"strip_size_kb"`
	State                   string         `json:"state"`
	RaidLevel               string         `json:"raid_level"`
	Superblock              bool           `json:"superblock"`
	NumBaseBdevs            uint32         `json:"num_base_bdevs"`
	NumBaseBdevsDiscovered  uint32         `json:"num_base_bdevs_discovered"`
	NumBaseBdevsOperational uint32         `json:"num_base_bdevs_operational"`
	BaseBdevsList           []RaidBaseBdev `json:"base_bdevs_list"`
}

// RaidBaseBdev is one device of a set.
type RaidBaseBdev struct {
	Name         *string `json:"name"`
	UUID         string  `json:"uuid"`
	IsConfigured bool    `json:"is_configured"`
	DataOffset   uint64  `json:"data_offset" doc:"blocks"`
	DataSize     uint64  `json:"data_size" doc:"blocks"`
}

// BdevRaidAddBaseBdevParams add a device to a set.
type BdevRaidAddBaseBdevParams struct {
	RaidBdev string `json:"raid_bdev" rpc:"required"`
	BaseBdev string `json:"base_bdev" rpc:"required"`
}

// BdevRaidSetOptionsParams come with every saved configuration.
type BdevRaidSetOptionsParams struct {
	ProcessWindowSizeKB      *uint32 `json:"process_window_size_kb,omitempty" doc:"KiB"`
	ProcessMaxBandwidthMBSec *uint32 `json:"process_max_bandwidth_mb_sec,omitempty" doc:"MiB per second; 0 is no limit"`
}

// BdevISCSISetOptionsParams come with every saved configuration; there is no iSCSI initiator here to heed them.
type BdevISCSISetOptionsParams struct {
	TimeoutSec uint64 `json:"timeout_sec,omitempty" doc:"seconds"`
}

var (
	BdevMallocCreate = changes[BdevMallocCreateParams, string]("bdev_malloc_create", Runtime,
		"Make a device in memory. Its data ends with the engine.")
	BdevMallocDelete = changes[BdevNameParams, bool]("bdev_malloc_delete", Runtime, "Delete a device in memory.")
	BdevNullCreate   = changes[BdevNullCreateParams, string]("bdev_null_create", Runtime,
		"Make a device that keeps nothing, for measuring everything above it.")
	BdevNullDelete  = changes[BdevNameParams, bool]("bdev_null_delete", Runtime, "Delete a null device.")
	BdevNullResize  = changes[BdevNullResizeParams, bool]("bdev_null_resize", Runtime, "Give a null device a new size.")
	BdevUringCreate = admin(changes[BdevUringCreateParams, string]("bdev_uring_create", Runtime,
		"Make a device on a file or a block device of the kernel."))
	BdevUringDelete = changes[BdevNameParams, bool]("bdev_uring_delete", Runtime,
		"Delete a device on a file; the file stays.")
	BdevUringRescan = changes[BdevNameParams, bool]("bdev_uring_rescan", Runtime,
		"Take over the size that the file has now.")
	BdevAIOCreate = admin(changes[BdevAIOCreateParams, string]("bdev_aio_create", Runtime,
		"Make a device on a file or a block device of the kernel; the same kind as bdev_uring_create makes."))
	BdevAIODelete = changes[BdevNameParams, bool]("bdev_aio_delete", Runtime,
		"Delete a device on a file; the file stays.")
	BdevAIORescan = changes[BdevNameParams, bool]("bdev_aio_rescan", Runtime,
		"Take over the size that the file has now.")
	BdevErrorCreate = changes[BdevErrorCreateParams, bool]("bdev_error_create", Runtime,
		"Put a device that fails at will on another.")
	BdevErrorDelete      = changes[BdevNameParams, bool]("bdev_error_delete", Runtime, "Delete a failing device.")
	BdevErrorInjectError = changes[BdevErrorInjectErrorParams, bool]("bdev_error_inject_error", Runtime,
		"Make operations on a failing device fail.")
	BdevErrorResumePending = changes[BdevNameParams, bool]("bdev_error_resume_pending", Runtime,
		"Let the operations go on that a failing device holds back.")
	BdevDelayCreate = changes[BdevDelayCreateParams, string]("bdev_delay_create", Runtime,
		"Put a device that takes its time on another.")
	BdevDelayDelete        = changes[BdevNameParams, bool]("bdev_delay_delete", Runtime, "Delete a slow device.")
	BdevDelayUpdateLatency = changes[BdevDelayUpdateLatencyParams, bool]("bdev_delay_update_latency", Runtime,
		"Change one of a slow device's times.")
	BdevCryptoCreate = admin(changes[BdevCryptoCreateParams, string]("bdev_crypto_create", Runtime,
		"Put encryption (AES-XTS) on a device."))
	BdevCryptoDelete = changes[BdevNameParams, bool]("bdev_crypto_delete", Runtime,
		"Take encryption off a device; what is on it stays encrypted.")
	BdevSplitCreate = changes[BdevSplitCreateParams, []string]("bdev_split_create", Runtime,
		"Cut a device in parts of one size.")
	BdevSplitDelete    = changes[BdevSplitDeleteParams, bool]("bdev_split_delete", Runtime, "Take the parts of a device away.")
	BdevPassthruCreate = changes[BdevPassthruCreateParams, string]("bdev_passthru_create", Runtime,
		"Put a device on another that only passes on.")
	BdevPassthruDelete = changes[BdevNameParams, bool]("bdev_passthru_delete", Runtime, "Delete a device that passes on.")
	BdevRaidCreate     = changes[BdevRaidCreateParams, bool]("bdev_raid_create", Runtime,
		"Join devices into one, striped or one after the other.")
	BdevRaidDelete      = changes[BdevRaidDeleteParams, bool]("bdev_raid_delete", Runtime, "Take joined devices apart.")
	BdevRaidGetBdevs    = reads[BdevRaidGetBdevsParams, []RaidBdev]("bdev_raid_get_bdevs", Runtime, "List joined devices.")
	BdevRaidAddBaseBdev = changes[BdevRaidAddBaseBdevParams, bool]("bdev_raid_add_base_bdev", Runtime,
		"Add a device to joined ones; those here have all their places taken.")
	BdevRaidRemoveBaseBdev = changes[BdevNameParams, bool]("bdev_raid_remove_base_bdev", Runtime,
		"Take a device out of joined ones, which end with it.")
	BdevRaidSetOptions = changes[BdevRaidSetOptionsParams, bool]("bdev_raid_set_options", Always,
		"Take the options of a saved configuration; nothing is rebuilt inside a joined device here.")
	BdevISCSISetOptions = changes[BdevISCSISetOptionsParams, bool]("bdev_iscsi_set_options", Always,
		"Take the options of a saved configuration; there is no iSCSI initiator here.")
)
