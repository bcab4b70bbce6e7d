package api

// This file holds the methods about block devices of every kind. SPDK's library word for one is bdev.

// BdevGetBdevsParams names a device, or none for all.
type BdevGetBdevsParams struct {
	Name    string `json:"name,omitempty" doc:"name, alias or UUID"`
	Timeout uint64 `json:"timeout,omitempty" default:"0" doc:"milliseconds to wait for the named device to appear"`
}

// Bdev is one device.
type Bdev struct {
	Name                      string           `json:"name"`
	Aliases                   []string         `json:"aliases"`
	ProductName               string           `json:"product_name" doc:"kind of device"`
	BlockSize                 uint32           `json:"block_size" doc:"bytes"`
	NumBlocks                 uint64           `json:"num_blocks"`
	UUID                      string           `json:"uuid"`
	OptimalIOBoundary         uint32           `json:"optimal_io_boundary,omitempty" doc:"blocks"`
	PreferredWriteGranularity uint32           `json:"preferred_write_granularity,omitempty" doc:"blocks"`
	PreferredWriteAlignment   uint32           `json:"preferred_write_alignment,omitempty" doc:"blocks"`
	OptimalWriteSize          uint32           `json:"optimal_write_size,omitempty" doc:"blocks"`
	PreferredUnmapGranularity uint32           `json:"preferred_unmap_granularity,omitempty" doc:"blocks"`
	PreferredUnmapAlignment   uint32           `json:"preferred_unmap_alignment,omitempty" doc:"blocks"`
	NUMAID                    *int32           `json:"numa_id,omitempty"`
	AssignedRateLimits        RateLimits       `json:"assigned_rate_limits"`
	Claimed                   bool             `json:"claimed" doc:"another device or a pool holds it"`
	ClaimType                 string           `json:"claim_type,omitempty"`
	Zoned                     bool             `json:"zoned"`
	SupportedIOTypes          SupportedIOTypes `json:"supported_io_types"`
	MemoryDomains             []MemoryDomain   `json:"memory_domains"`
	DriverSpecific            map[string]any   `json:"driver_specific" doc:"by kind of device"`
}

// RateLimits bound a device; 0 is no limit.
type RateLimits struct {
	RWIOsPerSec    uint64 `json:"rw_ios_per_sec"`
	RWMBytesPerSec uint64 `json:"rw_mbytes_per_sec" doc:"MiB"`
	RMBytesPerSec  uint64 `json:"r_mbytes_per_sec" doc:"MiB"`
	WMBytesPerSec  uint64 `json:"w_mbytes_per_sec" doc:"MiB"`
}

// SupportedIOTypes says what a device can do, in SPDK's list of all that any device could.
type SupportedIOTypes struct {
	Read            bool `json:"read"`
	Write           bool `json:"write"`
	Unmap           bool `json:"unmap"`
	Flush           bool `json:"flush"`
	Reset           bool `json:"reset"`
	NVMeAdmin       bool `json:"nvme_admin"`
	NVMeIO          bool `json:"nvme_io"`
	NVMeIOMD        bool `json:"nvme_io_md"`
	WriteZeroes     bool `json:"write_zeroes"`
	Zcopy           bool `json:"zcopy"`
	GetZoneInfo     bool `json:"get_zone_info"`
	ZoneManagement  bool `json:"zone_management"`
	ZoneAppend      bool `json:"zone_append"`
	Compare         bool `json:"compare"`
	CompareAndWrite bool `json:"compare_and_write"`
	Abort           bool `json:"abort"`
	SeekHole        bool `json:"seek_hole"`
	SeekData        bool `json:"seek_data"`
	Copy            bool `json:"copy"`
	NVMeIOVMD       bool `json:"nvme_iov_md"`
}

// MemoryDomain is memory that a device can take data from.
type MemoryDomain struct {
	DMADeviceID   string `json:"dma_device_id"`
	DMADeviceType uint32 `json:"dma_device_type"`
}

// BdevGetIostatParams selects devices.
type BdevGetIostatParams struct {
	Names      []string `json:"names,omitempty" doc:"devices; all without it"`
	Name       string   `json:"name,omitempty" doc:"one device; the older form of names"`
	PerChannel bool     `json:"per_channel,omitempty" default:"false" doc:"for each reactor; of one device only"`
	ResetMode  string   `json:"reset_mode,omitempty" default:"none" enum:"all,maxmin,error,none" doc:"what to set to zero after reading"`
}

// Iostats are the counters of devices. With per_channel it has Name and Channels instead of Bdevs.
type Iostats struct {
	TickRate uint64    `json:"tick_rate" doc:"ticks per second of every time in this answer"`
	Ticks    uint64    `json:"ticks" doc:"now"`
	Name     string    `json:"name,omitempty"`
	Bdevs    *[]Iostat `json:"bdevs,omitempty"`
	Channels *[]Iostat `json:"channels,omitempty"`
}

// Iostat are the counters of one device, or of one reactor's part of it. Times are sums over all operations.
type Iostat struct {
	Name                    string            `json:"name,omitempty"`
	ThreadID                *uint64           `json:"thread_id,omitempty" doc:"reactor, with per_channel"`
	BytesRead               uint64            `json:"bytes_read"`
	NumReadOps              uint64            `json:"num_read_ops"`
	BytesWritten            uint64            `json:"bytes_written"`
	NumWriteOps             uint64            `json:"num_write_ops"`
	BytesUnmapped           uint64            `json:"bytes_unmapped"`
	NumUnmapOps             uint64            `json:"num_unmap_ops"`
	BytesCopied             uint64            `json:"bytes_copied"`
	NumCopyOps              uint64            `json:"num_copy_ops"`
	ReadLatencyTicks        uint64            `json:"read_latency_ticks"`
	MaxReadLatencyTicks     uint64            `json:"max_read_latency_ticks"`
	MinReadLatencyTicks     uint64            `json:"min_read_latency_ticks"`
	WriteLatencyTicks       uint64            `json:"write_latency_ticks"`
	MaxWriteLatencyTicks    uint64            `json:"max_write_latency_ticks"`
	MinWriteLatencyTicks    uint64            `json:"min_write_latency_ticks"`
	UnmapLatencyTicks       uint64            `json:"unmap_latency_ticks"`
	MaxUnmapLatencyTicks    uint64            `json:"max_unmap_latency_ticks"`
	MinUnmapLatencyTicks    uint64            `json:"min_unmap_latency_ticks"`
	CopyLatencyTicks        uint64            `json:"copy_latency_ticks"`
	MaxCopyLatencyTicks     uint64            `json:"max_copy_latency_ticks"`
	MinCopyLatencyTicks     uint64            `json:"min_copy_latency_ticks"`
	IOError                 map[string]uint64 `json:"io_error" doc:"failed operations by status, those only that came"`
	QueueDepthPollingPeriod *uint64           `json:"queue_depth_polling_period,omitempty" doc:"microseconds"`
	QueueDepth              *uint64           `json:"queue_depth,omitempty"`
	IOTime                  *uint64           `json:"io_time,omitempty" doc:"microseconds with at least one operation under way"`
	WeightedIOTime          *uint64           `json:"weighted_io_time,omitempty" doc:"microseconds, times the operations under way"`
	DriverSpecific          map[string]any    `json:"driver_specific,omitempty"`
}

// BdevResetIostatParams selects a device and counters.
type BdevResetIostatParams struct {
	Name string `json:"name,omitempty" doc:"device; all without it"`
	Mode string `json:"mode,omitempty" default:"all" enum:"all,maxmin,error,none" doc:"which counters to set to zero"`
}

// BdevEnableHistogramParams turns a device's latency histogram on or off.
type BdevEnableHistogramParams struct {
	Name        string  `json:"name" rpc:"required" doc:"device"`
	Enable      bool    `json:"enable" rpc:"required"`
	Opc         string  `json:"opc,omitempty" enum:"read,write,unmap,flush,reset,write_zeroes,compare,compare_and_write,copy" doc:"one kind of operation; all without it"`
	Granularity *uint8  `json:"granularity,omitempty" default:"7" doc:"each power of two is cut in 2^granularity buckets"`
	MinNsec     *uint64 `json:"min_nsec,omitempty" default:"1000" doc:"nanoseconds; what is quicker goes into the first bucket"`
	MaxNsec     uint64  `json:"max_nsec,omitempty" default:"120000000000" doc:"nanoseconds; what is slower goes into the last bucket"`
}

// Histogram is a latency histogram.
type Histogram struct {
	Histogram   string `json:"histogram" doc:"base64 of 64-bit little-endian counts"`
	Granularity int64  `json:"granularity"`
	MinRange    uint32 `json:"min_range"`
	MaxRange    uint32 `json:"max_range"`
	TSCRate     int64  `json:"tsc_rate" doc:"ticks per second of the buckets' bounds"`
}

// BdevGetHistogramBordersParams asks for counts between bounds of the caller's choice.
type BdevGetHistogramBordersParams struct {
	Name    string   `json:"name" rpc:"required" doc:"device"`
	Borders []uint64 `json:"borders" rpc:"required" doc:"microseconds, rising"`
}

// HistogramBorders are the counts.
type HistogramBorders struct {
	BordersCount []uint64 `json:"borders_count" doc:"operations up to each border, to within its bucket; then all"`
}

// BdevSetQoSLimitParams bounds a device; what is left out stays as it is.
type BdevSetQoSLimitParams struct {
	Name           string  `json:"name" rpc:"required" doc:"device"`
	RWIOsPerSec    *uint64 `json:"rw_ios_per_sec,omitempty" doc:"operations per second, at least 1000; 0 is no limit"`
	RWMBytesPerSec *uint64 `json:"rw_mbytes_per_sec,omitempty" doc:"MiB per second read and written; 0 is no limit"`
	RMBytesPerSec  *uint64 `json:"r_mbytes_per_sec,omitempty" doc:"MiB per second read; 0 is no limit"`
	WMBytesPerSec  *uint64 `json:"w_mbytes_per_sec,omitempty" doc:"MiB per second written; 0 is no limit"`
}

// BdevSetOptionsParams come with every saved configuration. The sizes are taken and ignored: pools are the reactors' own.
type BdevSetOptionsParams struct {
	BdevIOPoolSize      *uint32 `json:"bdev_io_pool_size,omitempty" doc:"ignored"`
	BdevIOCacheSize     *uint32 `json:"bdev_io_cache_size,omitempty" doc:"ignored"`
	BdevAutoExamine     *bool   `json:"bdev_auto_examine,omitempty" default:"true" doc:"look for pools on every new device"`
	IOBufSmallCacheSize *uint32 `json:"iobuf_small_cache_size,omitempty" doc:"ignored"`
	IOBufLargeCacheSize *uint32 `json:"iobuf_large_cache_size,omitempty" doc:"ignored"`
}

// BdevNameParams name a device.
type BdevNameParams struct {
	Name string `json:"name" rpc:"required" doc:"device"`
}

// BdevSetQDSamplingPeriodParams turns the measuring of queue depth on or off.
type BdevSetQDSamplingPeriodParams struct {
	Name   string `json:"name" rpc:"required" doc:"device"`
	Period uint64 `json:"period" rpc:"required" doc:"microseconds; 0 is off"`
}

var (
	BdevGetBdevs = reads[BdevGetBdevsParams, []Bdev]("bdev_get_bdevs", Runtime,
		"List the block devices.")
	BdevGetIostat = reads[BdevGetIostatParams, Iostats]("bdev_get_iostat", Runtime,
		"Give devices' counters of operations, bytes, times and errors.")
	BdevResetIostat = changes[BdevResetIostatParams, bool]("bdev_reset_iostat", Runtime,
		"Set devices' counters to zero, for everybody who reads them.")
	BdevEnableHistogram = changes[BdevEnableHistogramParams, bool]("bdev_enable_histogram", Runtime,
		"Turn a device's latency histogram on or off.")
	BdevGetHistogram = reads[BdevNameParams, Histogram]("bdev_get_histogram", Runtime,
		"Give a device's latency histogram.")
	BdevGetHistogramBorders = reads[BdevGetHistogramBordersParams, HistogramBorders]("bdev_get_histogram_borders", Runtime,
		"Count a device's operations between bounds of your choice.")
	BdevSetQoSLimit = changes[BdevSetQoSLimitParams, bool]("bdev_set_qos_limit", Runtime,
		"Limit a device's operations and bytes per second.")
	BdevSetOptions = changes[BdevSetOptionsParams, bool]("bdev_set_options", Startup,
		"Set what holds for all block devices.")
	BdevExamine = changes[BdevNameParams, bool]("bdev_examine", Runtime,
		"Look for a pool on a device and open it.")
	BdevWaitForExamine = reads[None, bool]("bdev_wait_for_examine", Runtime,
		"Answer when every device has been looked through for pools.")
	BdevSetQDSamplingPeriod = changes[BdevSetQDSamplingPeriodParams, bool]("bdev_set_qd_sampling_period", Runtime,
		"Measure a device's queue depth every so often.")
)
