package api

// This file holds the methods about remote NVMe namespaces, which the engine's own initiator attaches as block devices.

// NVMePath is an address of a remote controller.
type NVMePath struct {
	TrType    string `json:"trtype,omitempty" doc:"TCP or RDMA"`
	TrAddr    string `json:"traddr,omitempty" doc:"IP address"`
	AdrFam    string `json:"adrfam,omitempty" enum:"IPv4,IPv6,IB,FC,intra_host"`
	TrSvcID   string `json:"trsvcid,omitempty" doc:"port, as a string"`
	SubNQN    string `json:"subnqn,omitempty" doc:"subsystem"`
	HostAddr  string `json:"hostaddr,omitempty" doc:"address to connect from"`
	HostSvcID string `json:"hostsvcid,omitempty" doc:"port to connect from"`
}

// MultipathOpts say which path an operation takes.
type MultipathOpts struct {
	Policy   string `json:"policy,omitempty" enum:"active_passive,active_active"`
	Selector string `json:"selector,omitempty" enum:"round_robin,queue_depth"`
	MinIO    uint32 `json:"min_io,omitempty" doc:"operations on one path before the next, for round_robin"`
}

// BdevNVMeAttachControllerParams describe a remote controller, or another path to one.
type BdevNVMeAttachControllerParams struct {
	Name                    string         `json:"name" rpc:"required" doc:"controller; its namespaces become name and n1, n2 and on"`
	TrType                  string         `json:"trtype" rpc:"required" doc:"TCP or RDMA"`
	TrAddr                  string         `json:"traddr" rpc:"required" doc:"IP address"`
	AdrFam                  string         `json:"adrfam,omitempty" enum:"IPv4,IPv6,IB,FC,intra_host"`
	TrSvcID                 string         `json:"trsvcid,omitempty" doc:"port, as a string"`
	Priority                string         `json:"priority,omitempty" doc:"socket priority, as a string"`
	SubNQN                  string         `json:"subnqn,omitempty" doc:"subsystem"`
	HostNQN                 string         `json:"hostnqn,omitempty" doc:"name of this host"`
	HostAddr                string         `json:"hostaddr,omitempty" doc:"address to connect from"`
	HostSvcID               string         `json:"hostsvcid,omitempty" doc:"port to connect from"`
	PrchkReftag             bool           `json:"prchk_reftag,omitempty" default:"false" doc:"only false"`
	PrchkGuard              bool           `json:"prchk_guard,omitempty" default:"false" doc:"only false"`
	HDGST                   bool           `json:"hdgst,omitempty" default:"false" doc:"header digest"`
	DDGST                   bool           `json:"ddgst,omitempty" default:"false" doc:"data digest"`
	FabricsConnectTimeoutUS uint64         `json:"fabrics_connect_timeout_us,omitempty" doc:"microseconds"`
	Multipath               string         `json:"multipath,omitempty" default:"failover" enum:"failover,multipath,disable" doc:"what a second path under the same name is for"`
	NumIOQueues             uint32         `json:"num_io_queues,omitempty" default:"1024" min:"1" max:"65536" doc:"at most"`
	CtrlrLossTimeoutSec     *int32         `json:"ctrlr_loss_timeout_sec,omitempty" doc:"seconds until a lost controller is given up; -1 is never, 0 is at once"`
	ReconnectDelaySec       *uint32        `json:"reconnect_delay_sec,omitempty" doc:"seconds between attempts; 0 is no attempt"`
	FastIOFailTimeoutSec    *uint32        `json:"fast_io_fail_timeout_sec,omitempty" doc:"seconds until operations fail; 0 is not before the controller is given up"`
	PSK                     string         `json:"psk,omitempty" doc:"key in the keyring, for TLS"`
	MaxBdevs                uint32         `json:"max_bdevs,omitempty" default:"128" doc:"names in the answer, at most"`
	DHCHAPKey               string         `json:"dhchap_key,omitempty" doc:"key in the keyring"`
	DHCHAPCtrlrKey          string         `json:"dhchap_ctrlr_key,omitempty" doc:"key in the keyring; needs dhchap_key"`
	AllowUnrecognizedCSI    bool           `json:"allow_unrecognized_csi,omitempty" default:"false" doc:"only false"`
	MultipathOpts           *MultipathOpts `json:"multipath_opts,omitempty"`
	DisableSQFlowControl    bool           `json:"disable_sq_flow_control,omitempty" default:"false"`
}

// BdevNVMeDetachControllerParams name a controller, or one path to it.
type BdevNVMeDetachControllerParams struct {
	Name string `json:"name" rpc:"required" doc:"controller"`
	NVMePath
}

// BdevNVMeControllerParams name a controller, or one of those behind its name.
type BdevNVMeControllerParams struct {
	Name   string  `json:"name" rpc:"required" doc:"controller"`
	CntlID *uint16 `json:"cntlid,omitempty" doc:"one of its paths; all without it"`
}

// BdevNVMeGetControllersParams name a controller, or none for all.
type BdevNVMeGetControllersParams struct {
	Name string `json:"name,omitempty" doc:"controller"`
}

// NVMeController is a remote controller with its paths.
type NVMeController struct {
	Name   string     `json:"name"`
	Ctrlrs []NVMePeer `json:"ctrlrs"`
}

// NVMePeer is one path.
type NVMePeer struct {
	State  string   `json:"state"`
	CntlID uint16   `json:"cntlid"`
	TrID   NVMePath `json:"trid"`
	Host   NVMeHost `json:"host"`
}

// NVMeHost is what this engine calls itself on a path.
type NVMeHost struct {
	NQN   string `json:"nqn"`
	Addr  string `json:"addr"`
	SvcID string `json:"svcid"`
}

// BdevNVMeSetOptionsParams hold for controllers attached later. Members without a meaning here are taken and ignored, since
// they come with every saved configuration.
type BdevNVMeSetOptionsParams struct {
	ActionOnTimeout        string         `json:"action_on_timeout,omitempty" enum:"none,reset,abort"`
	TimeoutUS              uint64         `json:"timeout_us,omitempty" doc:"microseconds of a command; 0 is no limit"`
	TimeoutAdminUS         uint64         `json:"timeout_admin_us,omitempty" doc:"microseconds of an admin command; 0 is timeout_us"`
	KeepAliveTimeoutMS     *uint32        `json:"keep_alive_timeout_ms,omitempty" default:"10000" doc:"milliseconds"`
	TransportRetryCount    *uint32        `json:"transport_retry_count,omitempty" doc:"ignored: cards try again seven times, the most there is"`
	ArbitrationBurst       uint32         `json:"arbitration_burst,omitempty" doc:"ignored"`
	LowPriorityWeight      uint32         `json:"low_priority_weight,omitempty" doc:"ignored"`
	MediumPriorityWeight   uint32         `json:"medium_priority_weight,omitempty" doc:"ignored"`
	HighPriorityWeight     uint32         `json:"high_priority_weight,omitempty" doc:"ignored"`
	NVMeAdminqPollPeriodUS uint64         `json:"nvme_adminq_poll_period_us,omitempty" doc:"ignored: completions wake the reactor"`
	NVMeIOQPollPeriodUS    uint64         `json:"nvme_ioq_poll_period_us,omitempty" doc:"ignored: completions wake the reactor"`
	IOQueueRequests        uint32         `json:"io_queue_requests,omitempty" doc:"ignored"`
	DelayCmdSubmit         *bool          `json:"delay_cmd_submit,omitempty" doc:"ignored: commands of one turn always go out together"`
	BdevRetryCount         *int32         `json:"bdev_retry_count,omitempty" default:"3" doc:"attempts before an operation fails; -1 is no end"`
	TransportAckTimeout    uint8          `json:"transport_ack_timeout,omitempty" max:"31" doc:"RDMA: the card sends again after 4.096 us * 2^n without an answer, eight times; 0 is the system's. TCP: no effect"`
	CtrlrLossTimeoutSec    int32          `json:"ctrlr_loss_timeout_sec,omitempty" default:"0" doc:"seconds; see bdev_nvme_attach_controller"`
	ReconnectDelaySec      uint32         `json:"reconnect_delay_sec,omitempty" default:"0" doc:"seconds; see bdev_nvme_attach_controller"`
	FastIOFailTimeoutSec   uint32         `json:"fast_io_fail_timeout_sec,omitempty" default:"0" doc:"seconds; see bdev_nvme_attach_controller"`
	DisableAutoFailback    bool           `json:"disable_auto_failback,omitempty" default:"false" doc:"stay on the second path when the first is back"`
	GenerateUUIDs          bool           `json:"generate_uuids,omitempty" default:"false" doc:"make a UUID for a namespace that has none"`
	TransportTOS           uint8          `json:"transport_tos,omitempty" doc:"RDMA: type of service of the packets, of both sides: DSCP * 4; 0 is the system's"`
	NVMeErrorStat          bool           `json:"nvme_error_stat,omitempty" doc:"ignored: errors are always counted"`
	RDMASRQSize            uint32         `json:"rdma_srq_size,omitempty" doc:"ignored: queues of a card and a reactor always share receives, up to 4096"`
	IOPathStat             bool           `json:"io_path_stat,omitempty" doc:"ignored: paths are always counted"`
	AllowAccelSequence     bool           `json:"allow_accel_sequence,omitempty" doc:"ignored"`
	RDMAMaxCQSize          uint32         `json:"rdma_max_cq_size,omitempty" doc:"ignored: completion queues are as long as the card allows, up to 65536"`
	RDMACMEventTimeoutMS   uint16         `json:"rdma_cm_event_timeout_ms,omitempty" doc:"ignored: timeout_admin_us bounds each step of connecting"`
	DHCHAPDigests          Words          `json:"dhchap_digests,omitempty" enum:"sha256,sha384,sha512" doc:"hash functions to offer"`
	DHCHAPDHGroups         Words          `json:"dhchap_dhgroups,omitempty" enum:"null,ffdhe2048,ffdhe3072,ffdhe4096,ffdhe6144,ffdhe8192" doc:"groups to offer"`
	RDMAUMRPerIO           bool           `json:"rdma_umr_per_io,omitempty" doc:"ignored: memory is registered once"`
	TCPConnectTimeoutMS    uint32         `json:"tcp_connect_timeout_ms,omitempty" default:"0" doc:"ignored: timeout_admin_us bounds each step of connecting"`
	EnableFlush            bool           `json:"enable_flush,omitempty" doc:"ignored: a flush always goes to a remote device that caches"`
	MultipathOpts          *MultipathOpts `json:"multipath_opts,omitempty"`
}

// BdevNVMeSetHotplugParams come with every saved configuration; devices on the PCIe bus are the kernel's here.
type BdevNVMeSetHotplugParams struct {
	Enable   bool   `json:"enable" rpc:"required" doc:"no effect"`
	PeriodUS uint64 `json:"period_us,omitempty" max:"10000000" doc:"microseconds"`
}

var (
	BdevNVMeAttachController = changes[BdevNVMeAttachControllerParams, []string]("bdev_nvme_attach_controller", Runtime,
		"Attach a remote NVMe controller; its namespaces become block devices.")
	BdevNVMeDetachController = changes[BdevNVMeDetachControllerParams, bool]("bdev_nvme_detach_controller", Runtime,
		"Let a remote controller go, or one path to it.")
	BdevNVMeResetController = changes[BdevNVMeControllerParams, bool]("bdev_nvme_reset_controller", Runtime,
		"Reset a remote controller.")
	BdevNVMeEnableController = changes[BdevNVMeControllerParams, bool]("bdev_nvme_enable_controller", Runtime,
		"Let a disabled controller connect again.")
	BdevNVMeDisableController = changes[BdevNVMeControllerParams, bool]("bdev_nvme_disable_controller", Runtime,
		"Disconnect a remote controller and keep its devices.")
	BdevNVMeGetControllers = reads[BdevNVMeGetControllersParams, []NVMeController]("bdev_nvme_get_controllers", Runtime,
		"List the remote controllers.")
	BdevNVMeSetOptions = changes[BdevNVMeSetOptionsParams, bool]("bdev_nvme_set_options", Always,
		"Set what holds for controllers attached later.")
	BdevNVMeSetHotplug = changes[BdevNVMeSetHotplugParams, bool]("bdev_nvme_set_hotplug", Runtime,
		"Take the option of a saved configuration; devices on the PCIe bus are the kernel's here.")
)
