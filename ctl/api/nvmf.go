package api

// This file holds the methods about the NVMe over Fabrics target. Every method takes the target's name; there is one target.

// NVMFTarget names the target.
type NVMFTarget struct {
	TgtName string `json:"tgt_name,omitempty" doc:"only nvmf_tgt"`
}

// NVMFAddress is where a subsystem can be reached.
type NVMFAddress struct {
	TrType  string `json:"trtype" rpc:"required" doc:"TCP or RDMA"`
	AdrFam  string `json:"adrfam,omitempty" default:"IPv4" enum:"IPv4,IPv6,IB,FC,intra_host"`
	TrAddr  string `json:"traddr" rpc:"required" doc:"IP address"`
	TrSvcID string `json:"trsvcid,omitempty" doc:"port, as a string"`
}

// NVMFTransportOptions are the options of a transport as they are asked for and as they are listed.
type NVMFTransportOptions struct {
	MaxQueueDepth          uint16  `json:"max_queue_depth,omitempty" default:"128" min:"2" doc:"commands of one I/O queue"`
	MaxIOQpairsPerCtrlr    uint16  `json:"max_io_qpairs_per_ctrlr,omitempty" default:"127" min:"1" doc:"I/O queues of one controller"`
	InCapsuleDataSize      *uint32 `json:"in_capsule_data_size,omitempty" doc:"bytes of a write that may come with its command: 8192 unless it is said, over RDMA 4096"`
	MaxIOSize              uint32  `json:"max_io_size,omitempty" default:"131072" min:"4096" doc:"bytes of one command"`
	MaxAQDepth             uint32  `json:"max_aq_depth,omitempty" default:"128" min:"2" doc:"commands of the admin queue"`
	AbortTimeoutSec        *uint32 `json:"abort_timeout_sec,omitempty" default:"1" doc:"seconds an Abort waits for its command"`
	AcceptorPollRate       uint32  `json:"acceptor_poll_rate,omitempty" default:"10000" doc:"microseconds; no effect, a new connection wakes the reactor"`
	KAS                    *uint16 `json:"kas,omitempty" default:"100" doc:"granularity of keep-alive timeouts in 100 ms"`
	MinKATO                *uint32 `json:"min_kato,omitempty" default:"10000" doc:"milliseconds: shortest keep-alive timeout"`
	IOBufSmallCacheSize    *uint32 `json:"iobuf_small_cache_size,omitempty" doc:"no effect: buffers are the reactors' own"`
	IOBufLargeCacheSize    *uint32 `json:"iobuf_large_cache_size,omitempty" doc:"no effect: buffers are the reactors' own"`
	Zcopy                  bool    `json:"zcopy,omitempty" default:"false" doc:"no effect: buffers are always lent"`
	DIFInsertOrStrip       bool    `json:"dif_insert_or_strip,omitempty" default:"false" doc:"only false"`
	MaskedONCS             Words   `json:"masked_oncs,omitempty" enum:"all,nvmcmps,nvmdsmsv,nvmwzsv,reservs,nvmcpys" doc:"optional commands not to offer"`
	MaskedFUSES            Words   `json:"masked_fuses,omitempty" enum:"all,fcws" doc:"fused commands not to offer"`
	AckTimeout             uint32  `json:"ack_timeout,omitempty" doc:"RDMA: milliseconds until a host that does not answer is given up, rounded up by up to two, and some cards take four times as long; 0 is the system's. TCP: no effect"`
	DataWRPoolSize         uint32  `json:"data_wr_pool_size,omitempty" doc:"RDMA: no effect, each queue has room for what its commands need"`
	DisableCommandPassthru bool    `json:"disable_command_passthru,omitempty" default:"false" doc:"no effect: nothing is passed through"`
	C2HSuccess             *bool   `json:"c2h_success,omitempty" default:"true" doc:"TCP: end a good read without a completion"`
	SockPriority           uint32  `json:"sock_priority,omitempty" default:"0" doc:"TCP: priority of the connections' sockets"`
	ControlMsgNum          uint16  `json:"control_msg_num,omitempty" default:"32" doc:"TCP: no effect"`
	NumCQE                 int32   `json:"num_cqe,omitempty" default:"4096" min:"1" doc:"RDMA: no effect, completion queues are as long as the card and their queues allow"`
	MaxSRQDepth            uint32  `json:"max_srq_depth,omitempty" default:"4096" doc:"RDMA: receives that the queues of a card and a reactor share at most"`
	MaxSGLEntries          uint32  `json:"max_sgl_entries,omitempty" doc:"RDMA: no effect, a command has up to 16 descriptors"`
	NoSRQ                  bool    `json:"no_srq,omitempty" default:"false" doc:"RDMA: every queue has receives of its own"`
	AcceptorBacklog        int32   `json:"acceptor_backlog,omitempty" default:"100" min:"1" doc:"RDMA: no effect, 128 connections may wait to be accepted"`
	NoWRBatching           bool    `json:"no_wr_batching,omitempty" default:"false" doc:"RDMA: no effect, all of a turn of a reactor are posted at once"`
	IOUnitSize             uint32  `json:"io_unit_size,omitempty" doc:"older form: no effect"`
	NumSharedBuffers       uint32  `json:"num_shared_buffers,omitempty" doc:"older form: no effect"`
	BufCacheSize           uint32  `json:"buf_cache_size,omitempty" doc:"older form: no effect"`
}

// NVMFCreateTransportParams name a transport and its options.
type NVMFCreateTransportParams struct {
	TrType string `json:"trtype" rpc:"required" doc:"TCP or RDMA"`
	NVMFTarget
	NVMFTransportOptions
}

// NVMFTransport is a transport.
type NVMFTransport struct {
	TrType string `json:"trtype"`
	NVMFTransportOptions
}

// NVMFGetTransportsParams name a transport, or none for all.
type NVMFGetTransportsParams struct {
	TrType string `json:"trtype,omitempty"`
	NVMFTarget
}

// NVMFCreateSubsystemParams describe a subsystem.
type NVMFCreateSubsystemParams struct {
	NQN           string  `json:"nqn" rpc:"required" doc:"name of the subsystem, such as nqn.2024-01.com.example:disk1"`
	SerialNumber  string  `json:"serial_number,omitempty" default:"00000000000000000000" doc:"up to 20 ASCII characters"`
	ModelNumber   string  `json:"model_number,omitempty" doc:"up to 40 ASCII characters"`
	AdminLabel    string  `json:"admin_label,omitempty" doc:"4 to 256 ASCII characters, for the extended discovery log"`
	MaxNamespaces uint32  `json:"max_namespaces,omitempty" default:"32"`
	AllowAnyHost  bool    `json:"allow_any_host,omitempty" default:"false" doc:"otherwise only hosts added by nvmf_subsystem_add_host"`
	ANAReporting  bool    `json:"ana_reporting,omitempty" default:"false" doc:"tell hosts which path is best"`
	MinCntlID     uint16  `json:"min_cntlid,omitempty" default:"1" min:"1" max:"65519" doc:"lowest controller id"`
	MaxCntlID     uint16  `json:"max_cntlid,omitempty" default:"65519" min:"1" max:"65519" doc:"highest controller id"`
	DMRSL         *uint32 `json:"dmrsl,omitempty" default:"2097152" doc:"blocks of one deallocated range; 0 is no limit"`
	WZSL          *uint8  `json:"wzsl,omitempty" default:"12" doc:"write zeroes up to 2^wzsl pages of 4 KiB; 0 is no limit"`
	Passthrough   bool    `json:"passthrough,omitempty" default:"false" doc:"only false"`
	EnableNSSR    bool    `json:"enable_nssr,omitempty" default:"false" doc:"let a host reset the whole subsystem"`
	NVMFTarget
}

// NVMFSubsystemParams name a subsystem.
type NVMFSubsystemParams struct {
	NQN string `json:"nqn" rpc:"required" doc:"subsystem"`
	NVMFTarget
}

// NVMFGetSubsystemsParams name a subsystem, or none for all.
type NVMFGetSubsystemsParams struct {
	NQN string `json:"nqn,omitempty" doc:"subsystem"`
	NVMFTarget
}

// NVMFSubsystem is a subsystem. What follows Hosts is there for subtype NVMe only.
type NVMFSubsystem struct {
	NQN             string              `json:"nqn"`
	Subtype         string              `json:"subtype" doc:"NVMe or Discovery"`
	ListenAddresses []NVMFListenAddress `json:"listen_addresses"`
	AllowAnyHost    bool                `json:"allow_any_host"`
	Hosts           []NVMFHost          `json:"hosts"`
	SerialNumber    *string             `json:"serial_number,omitempty"`
	ModelNumber     *string             `json:"model_number,omitempty"`
	AdminLabel      string              `json:"admin_label,omitempty"`
	MaxNamespaces   *uint32             `json:"max_namespaces,omitempty"`
	Passthrough     *bool               `json:"passthrough,omitempty"`
	MinCntlID       *uint16             `json:"min_cntlid,omitempty"`
	MaxCntlID       *uint16             `json:"max_cntlid,omitempty"`
	DMRSL           *uint32             `json:"dmrsl,omitempty" doc:"blocks"`
	WZSL            *uint8              `json:"wzsl,omitempty"`
	Namespaces      *[]NVMFNamespace    `json:"namespaces,omitempty"`
}

// NVMFListenAddress is an address as SPDK lists it.
type NVMFListenAddress struct {
	TrType  string `json:"trtype"`
	AdrFam  string `json:"adrfam"`
	TrAddr  string `json:"traddr"`
	TrSvcID string `json:"trsvcid"`
}

// NVMFHost is a host that may connect.
type NVMFHost struct {
	NQN            string `json:"nqn"`
	DHCHAPKey      string `json:"dhchap_key,omitempty" doc:"key in the keyring"`
	DHCHAPCtrlrKey string `json:"dhchap_ctrlr_key,omitempty" doc:"key in the keyring"`
}

// NVMFNamespace is a namespace of a subsystem.
type NVMFNamespace struct {
	NSID     uint32  `json:"nsid"`
	BdevName string  `json:"bdev_name"`
	Name     string  `json:"name" doc:"the same as bdev_name"`
	NGUID    string  `json:"nguid,omitempty" doc:"32 hexadecimal digits"`
	EUI64    string  `json:"eui64,omitempty" doc:"16 hexadecimal digits"`
	UUID     string  `json:"uuid,omitempty"`
	ANAGrpID *uint32 `json:"anagrpid,omitempty" doc:"with ana_reporting"`

	WriteProtection string `json:"write_protection,omitempty" doc:"write_protect or until_power_cycle, where a host protected it"`
}

// NVMFAddListenerParams give a subsystem an address.
type NVMFAddListenerParams struct {
	NQN           string      `json:"nqn" rpc:"required" doc:"subsystem, or discovery"`
	ListenAddress NVMFAddress `json:"listen_address" rpc:"required"`
	SecureChannel bool        `json:"secure_channel,omitempty" default:"false" doc:"TLS from the first byte; not together with allow_any_host"`
	ANAState      string      `json:"ana_state,omitempty" default:"optimized" enum:"optimized,non_optimized,inaccessible"`
	SockImpl      string      `json:"sock_impl,omitempty" doc:"uring, or posix as another name for it"`
	NUMAID        *int32      `json:"numa_id,omitempty" default:"-1" doc:"only -1"`
	NVMFTarget
}

// NVMFRemoveListenerParams take an address away.
type NVMFRemoveListenerParams struct {
	NQN           string      `json:"nqn" rpc:"required" doc:"subsystem, or discovery"`
	ListenAddress NVMFAddress `json:"listen_address" rpc:"required"`
	NVMFTarget
}

// NVMFListener is an address of a subsystem.
type NVMFListener struct {
	Address   NVMFListenAddress `json:"address"`
	ANAStates *[]NVMFANAState   `json:"ana_states,omitempty" doc:"with ana_reporting"`
}

// NVMFANAState is how well one group of namespaces is reached here.
type NVMFANAState struct {
	ANAGroup uint32 `json:"ana_group"`
	ANAState string `json:"ana_state"`
}

// NVMFNamespaceParams describe a namespace.
type NVMFNamespaceParams struct {
	BdevName      string `json:"bdev_name" rpc:"required" doc:"block device"`
	NSID          uint32 `json:"nsid,omitempty" doc:"1 and up; the lowest free one without it"`
	NGUID         string `json:"nguid,omitempty" doc:"32 hexadecimal digits"`
	EUI64         string `json:"eui64,omitempty" doc:"16 hexadecimal digits"`
	UUID          string `json:"uuid,omitempty" format:"uuid" doc:"the device's own without it"`
	PTPLFile      string `json:"ptpl_file,omitempty" doc:"path of a file that keeps reservations over a restart; a volume keeps them itself, and takes over what the file has"`
	WriteProtect  string `json:"write_protect_file,omitempty" doc:"path of a file that keeps write protection over a restart; without it hosts cannot write protect the namespace"`
	ANAGrpID      uint32 `json:"anagrpid,omitempty" doc:"ANA group; the nsid without it"`
	NoAutoVisible bool   `json:"no_auto_visible,omitempty" default:"false" doc:"seen only by hosts added by nvmf_ns_add_host"`
	HideMetadata  bool   `json:"hide_metadata,omitempty" default:"false" doc:"no effect: devices have no metadata"`
}

// NVMFAddNSParams add a namespace.
type NVMFAddNSParams struct {
	NQN       string              `json:"nqn" rpc:"required" doc:"subsystem"`
	Namespace NVMFNamespaceParams `json:"namespace" rpc:"required"`
	NVMFTarget
}

// NVMFRemoveNSParams take one away.
type NVMFRemoveNSParams struct {
	NQN  string `json:"nqn" rpc:"required" doc:"subsystem"`
	NSID uint32 `json:"nsid" rpc:"required" min:"1"`
	NVMFTarget
}

// NVMFAddHostParams let a host connect.
type NVMFAddHostParams struct {
	NQN            string `json:"nqn" rpc:"required" doc:"subsystem"`
	Host           string `json:"host" rpc:"required" doc:"NQN of the host"`
	PSK            string `json:"psk,omitempty" doc:"key in the keyring, for TLS"`
	DHCHAPKey      string `json:"dhchap_key,omitempty" doc:"key in the keyring: the host proves that it has it"`
	DHCHAPCtrlrKey string `json:"dhchap_ctrlr_key,omitempty" doc:"key in the keyring: the subsystem proves that it has it; needs dhchap_key"`
	NVMFTarget
}

// NVMFRemoveHostParams keep a host out again.
type NVMFRemoveHostParams struct {
	NQN       string  `json:"nqn" rpc:"required" doc:"subsystem"`
	Host      string  `json:"host" rpc:"required" doc:"NQN of the host"`
	TimeoutMS *uint64 `json:"timeout_ms,omitempty" doc:"milliseconds its commands have to end in"`
	NVMFTarget
}

// NVMFAllowAnyHostParams open a subsystem or close it.
type NVMFAllowAnyHostParams struct {
	NQN          string `json:"nqn" rpc:"required" doc:"subsystem"`
	AllowAnyHost bool   `json:"allow_any_host" rpc:"required"`
	NVMFTarget
}

// NVMFSetKeysParams give a host other keys.
type NVMFSetKeysParams struct {
	NQN            string `json:"nqn" rpc:"required" doc:"subsystem"`
	Host           string `json:"host" rpc:"required" doc:"NQN of the host"`
	DHCHAPKey      string `json:"dhchap_key,omitempty" doc:"key in the keyring; none lets the host in without proof"`
	DHCHAPCtrlrKey string `json:"dhchap_ctrlr_key,omitempty" doc:"key in the keyring; needs dhchap_key"`
	NVMFTarget
}

// NVMFNSHostParams name a namespace and a host.
type NVMFNSHostParams struct {
	NQN  string `json:"nqn" rpc:"required" doc:"subsystem"`
	NSID uint32 `json:"nsid" rpc:"required" min:"1"`
	Host string `json:"host" rpc:"required" doc:"NQN of the host"`
	NVMFTarget
}

// NVMFSetANAStateParams say how well namespaces are reached through an address.
type NVMFSetANAStateParams struct {
	NQN           string      `json:"nqn" rpc:"required" doc:"subsystem"`
	ListenAddress NVMFAddress `json:"listen_address" rpc:"required"`
	ANAState      string      `json:"ana_state" rpc:"required" enum:"optimized,non_optimized,inaccessible"`
	ANAGrpID      uint32      `json:"anagrpid,omitempty" doc:"ANA group; all without it"`
	NVMFTarget
}

// NVMFSetNSANAGroupParams move a namespace to another group.
type NVMFSetNSANAGroupParams struct {
	NQN      string `json:"nqn" rpc:"required" doc:"subsystem"`
	NSID     uint32 `json:"nsid" rpc:"required" min:"1"`
	ANAGrpID uint32 `json:"anagrpid" rpc:"required" min:"1" doc:"ANA group"`
	NVMFTarget
}

// NVMFController is a host's association with a subsystem.
type NVMFController struct {
	CntlID      uint16 `json:"cntlid"`
	CntrlType   string `json:"cntrltype" doc:"I/O or discovery"`
	HostNQN     string `json:"hostnqn"`
	HostID      string `json:"hostid" doc:"UUID"`
	NumIOQpairs uint32 `json:"num_io_qpairs"`
}

// NVMFQpair is a queue pair.
type NVMFQpair struct {
	CntlID        uint16            `json:"cntlid"`
	QID           uint16            `json:"qid"`
	State         string            `json:"state"`
	Thread        string            `json:"thread" doc:"reactor"`
	HostNQN       string            `json:"hostnqn"`
	ListenAddress NVMFListenAddress `json:"listen_address"`
	PeerAddress   NVMFListenAddress `json:"peer_address"`
	Auth          *NVMFQpairAuth    `json:"auth,omitempty" doc:"where the host proved who it is"`
}

// NVMFMoveQpairParams move an I/O queue.
type NVMFMoveQpairParams struct {
	NQN       string `json:"nqn" rpc:"required" doc:"subsystem"`
	CntlID    uint16 `json:"cntlid" rpc:"required" doc:"controller, as nvmf_subsystem_get_qpairs lists it"`
	QID       uint16 `json:"qid" rpc:"required" min:"1" doc:"I/O queue; an Admin queue stays with its controller"`
	Thread    string `json:"thread" rpc:"required" doc:"reactor to move it to, such as reactor_1"`
	TimeoutMS uint32 `json:"timeout_ms,omitempty" default:"1000" min:"1" max:"30000" doc:"milliseconds that its commands have to end in; it stays if they do not"`
	NVMFTarget
}

// NVMFQpairAuth is how a queue was authenticated.
type NVMFQpairAuth struct {
	State   string `json:"state"`
	Digest  string `json:"digest"`
	DHGroup string `json:"dhgroup"`
}

// NVMFAddReferralParams name another discovery service.
type NVMFAddReferralParams struct {
	Address       NVMFAddress `json:"address" rpc:"required"`
	SecureChannel bool        `json:"secure_channel,omitempty" default:"false" doc:"it is reached over TLS only"`
	SubNQN        string      `json:"subnqn,omitempty" doc:"its NQN; the well-known one without it"`
	NVMFTarget
}

// NVMFRemoveReferralParams take it away.
type NVMFRemoveReferralParams struct {
	Address NVMFAddress `json:"address" rpc:"required"`
	SubNQN  string      `json:"subnqn,omitempty" doc:"its NQN; the well-known one without it"`
	NVMFTarget
}

// NVMFReferral is another discovery service.
type NVMFReferral struct {
	Address       NVMFListenAddress `json:"address"`
	SecureChannel bool              `json:"secure_channel"`
	SubNQN        string            `json:"subnqn"`
}

// NVMFStats are the target's counters.
type NVMFStats struct {
	TickRate   uint64          `json:"tick_rate" doc:"ticks per second"`
	PollGroups []NVMFPollGroup `json:"poll_groups"`
}

// NVMFPollGroup are the counters of one reactor.
type NVMFPollGroup struct {
	Name                      string               `json:"name" doc:"reactor"`
	AdminQpairs               uint32               `json:"admin_qpairs" doc:"ever"`
	IOQpairs                  uint32               `json:"io_qpairs" doc:"ever"`
	CurrentAdminQpairs        uint32               `json:"current_admin_qpairs"`
	CurrentIOQpairs           uint32               `json:"current_io_qpairs"`
	CurrentUnassociatedQpairs uint32               `json:"current_unassociated_qpairs" doc:"connected, before Connect"`
	PendingBdevIO             uint64               `json:"pending_bdev_io"`
	CompletedNVMeIO           uint64               `json:"completed_nvme_io"`
	IOQpairsMovedIn           uint64               `json:"io_qpairs_moved_in" doc:"from other reactors, ever"`
	IOQpairsMovedOut          uint64               `json:"io_qpairs_moved_out" doc:"to other reactors, ever"`
	Transports                []NVMFTransportStats `json:"transports"`
}

// NVMFTransportStats are the counters of one transport on one reactor.
type NVMFTransportStats struct {
	TrType  string          `json:"trtype"`
	Devices []NVMFRDMAStats `json:"devices,omitempty" doc:"of RDMA: the cards"`
}

// NVMFRDMAStats are the counters of one RDMA card on one reactor.
type NVMFRDMAStats struct {
	Name                string `json:"name"`
	Polls               uint64 `json:"polls" doc:"looks for completions"`
	IdlePolls           uint64 `json:"idle_polls" doc:"looks that found none"`
	Completions         uint64 `json:"completions"`
	TotalSendWRs        uint64 `json:"total_send_wrs" doc:"work requests that the card was given"`
	SendDoorbellUpdates uint64 `json:"send_doorbell_updates" doc:"calls that brought them"`
	TotalRecvWRs        uint64 `json:"total_recv_wrs" doc:"buffers to receive into that it was given"`
	RecvDoorbellUpdates uint64 `json:"recv_doorbell_updates" doc:"calls that brought them"`
}

// NVMFSetConfigParams hold for the whole target.
type NVMFSetConfigParams struct {
	DiscoveryFilters Words                 `json:"discovery_filters,omitempty" enum:"match_any,transport,address,svcid" doc:"tell a host only addresses like the one it came by"`
	DHCHAPDigests    Words                 `json:"dhchap_digests,omitempty" enum:"sha256,sha384,sha512" doc:"hash functions to accept; all without it"`
	DHCHAPDHGroups   Words                 `json:"dhchap_dhgroups,omitempty" enum:"null,ffdhe2048,ffdhe3072,ffdhe4096,ffdhe6144,ffdhe8192" doc:"groups to accept; all without it"`
	DupHostPolicy    string                `json:"dup_host_policy,omitempty" default:"allow" enum:"allow,restrict_per_listener" doc:"whether a host may have two associations by one address"`
	PollGroupsMask   string                `json:"poll_groups_mask,omitempty" doc:"cores to serve connections, hexadecimal"`
	AdminCmdPassthru *NVMFAdminCmdPassthru `json:"admin_cmd_passthru,omitempty" doc:"only false: nothing is passed through"`
}

// NVMFAdminCmdPassthru are commands that SPDK can pass through to a drive.
type NVMFAdminCmdPassthru struct {
	IdentifyCtrlr    bool `json:"identify_ctrlr,omitempty"`
	IdentifyUUIDList bool `json:"identify_uuid_list,omitempty"`
	GetLogPage       bool `json:"get_log_page,omitempty"`
	GetSetFeatures   bool `json:"get_set_features,omitempty"`
	Sanitize         bool `json:"sanitize,omitempty"`
	SecuritySendRecv bool `json:"security_send_recv,omitempty"`
	FWUpdate         bool `json:"fw_update,omitempty"`
	NVMeMI           bool `json:"nvme_mi,omitempty"`
	VendorSpecific   bool `json:"vendor_specific,omitempty"`
}

// NVMFSetMaxSubsystemsParams bound the target.
type NVMFSetMaxSubsystemsParams struct {
	MaxSubsystems uint32 `json:"max_subsystems" rpc:"required" min:"1" doc:"1024 where this is never called"`
}

// NVMFSetCRDTParams are the Command Retry Delay Times.
type NVMFSetCRDTParams struct {
	CRDT1 uint16 `json:"crdt1,omitempty" default:"0" doc:"100 ms"`
	CRDT2 uint16 `json:"crdt2,omitempty" default:"0" doc:"100 ms"`
	CRDT3 uint16 `json:"crdt3,omitempty" default:"0" doc:"100 ms"`
}

var (
	NVMFCreateTransport = lenient(changes[NVMFCreateTransportParams, bool]("nvmf_create_transport", Runtime,
		"Make a transport. Members it does not know are ignored."))
	NVMFGetTransports = reads[NVMFGetTransportsParams, []NVMFTransport]("nvmf_get_transports", Runtime,
		"List the transports with their options.")
	NVMFCreateSubsystem = changes[NVMFCreateSubsystemParams, bool]("nvmf_create_subsystem", Runtime, "Make a subsystem.")
	NVMFDeleteSubsystem = changes[NVMFSubsystemParams, bool]("nvmf_delete_subsystem", Runtime,
		"Delete a subsystem; its hosts lose their connections.")
	NVMFGetSubsystems = reads[NVMFGetSubsystemsParams, []NVMFSubsystem]("nvmf_get_subsystems", Runtime,
		"List the subsystems, the discovery subsystem first.")
	NVMFSubsystemAddListener = lenient(changes[NVMFAddListenerParams, bool]("nvmf_subsystem_add_listener", Runtime,
		"Let a subsystem be reached at an address."))
	NVMFSubsystemRemoveListener = changes[NVMFRemoveListenerParams, bool]("nvmf_subsystem_remove_listener", Runtime,
		"Take an address of a subsystem away.")
	NVMFSubsystemGetListeners = reads[NVMFSubsystemParams, []NVMFListener]("nvmf_subsystem_get_listeners", Runtime,
		"List a subsystem's addresses and their ANA states.")
	NVMFSubsystemAddNS = lenient(changes[NVMFAddNSParams, uint32]("nvmf_subsystem_add_ns", Runtime,
		"Show a block device to a subsystem's hosts as a namespace."))
	NVMFSubsystemRemoveNS = changes[NVMFRemoveNSParams, bool]("nvmf_subsystem_remove_ns", Runtime,
		"Take a namespace away.")
	NVMFSubsystemAddHost = lenient(changes[NVMFAddHostParams, bool]("nvmf_subsystem_add_host", Runtime,
		"Let a host connect to a subsystem."))
	NVMFSubsystemRemoveHost = changes[NVMFRemoveHostParams, bool]("nvmf_subsystem_remove_host", Runtime,
		"Keep a host out of a subsystem and end its connections.")
	NVMFSubsystemAllowAnyHost = changes[NVMFAllowAnyHostParams, bool]("nvmf_subsystem_allow_any_host", Runtime,
		"Open a subsystem to every host, or close it.")
	NVMFSubsystemSetKeys = changes[NVMFSetKeysParams, bool]("nvmf_subsystem_set_keys", Runtime,
		"Give a host other keys; its connections stay.")
	NVMFNSAddHost = changes[NVMFNSHostParams, bool]("nvmf_ns_add_host", Runtime,
		"Show a namespace with no_auto_visible to a host.")
	NVMFNSRemoveHost = changes[NVMFNSHostParams, bool]("nvmf_ns_remove_host", Runtime,
		"Hide a namespace with no_auto_visible from a host.")
	NVMFSubsystemListenerSetANAState = changes[NVMFSetANAStateParams, bool]("nvmf_subsystem_listener_set_ana_state", Runtime,
		"Tell hosts how well namespaces are reached through an address.")
	NVMFSubsystemSetNSANAGroup = changes[NVMFSetNSANAGroupParams, bool]("nvmf_subsystem_set_ns_ana_group", Runtime,
		"Move a namespace to another ANA group.")
	NVMFSubsystemGetControllers = reads[NVMFSubsystemParams, []NVMFController]("nvmf_subsystem_get_controllers", Runtime,
		"List the associations of hosts with a subsystem.")
	NVMFSubsystemGetQpairs = reads[NVMFSubsystemParams, []NVMFQpair]("nvmf_subsystem_get_qpairs", Runtime,
		"List the queue pairs of a subsystem.")
	NVMFSubsystemMoveQpair = changes[NVMFMoveQpairParams, bool]("nvmf_subsystem_move_qpair", Runtime,
		"Move an I/O queue to another reactor while its host uses it, which sees a pause.")
	NVMFDiscoveryAddReferral = lenient(changes[NVMFAddReferralParams, bool]("nvmf_discovery_add_referral", Runtime,
		"Tell hosts of another discovery service; doing so twice changes nothing."))
	NVMFDiscoveryRemoveReferral = changes[NVMFRemoveReferralParams, bool]("nvmf_discovery_remove_referral", Runtime,
		"Tell hosts no more of another discovery service.")
	NVMFDiscoveryGetReferrals = reads[NVMFTarget, []NVMFReferral]("nvmf_discovery_get_referrals", Runtime,
		"List the other discovery services.")
	NVMFGetStats         = reads[NVMFTarget, NVMFStats]("nvmf_get_stats", Runtime, "Give the target's counters.")
	NVMFSetConfig        = changes[NVMFSetConfigParams, bool]("nvmf_set_config", Startup, "Set what holds for the whole target.")
	NVMFSetMaxSubsystems = changes[NVMFSetMaxSubsystemsParams, bool]("nvmf_set_max_subsystems", Startup,
		"Bound the number of subsystems.")
	NVMFSetCRDT = changes[NVMFSetCRDTParams, bool]("nvmf_set_crdt", Startup,
		"Set the three Command Retry Delay Times.")
	NVMFPublishMDNSPRR = changes[NVMFTarget, bool]("nvmf_publish_mdns_prr", Runtime,
		"Make the discovery service known by multicast DNS.")
	NVMFStopMDNSPRR = changes[NVMFTarget, bool]("nvmf_stop_mdns_prr", Runtime,
		"Make it known no more.")
)
