package api

// This file holds the methods about the iSCSI target: portal groups, initiator groups, authentication groups, nodes.

// ISCSIAuth says how initiators prove themselves, by CHAP.
type ISCSIAuth struct {
	DisableCHAP bool  `json:"disable_chap,omitempty" default:"false" doc:"they need not, and cannot"`
	RequireCHAP bool  `json:"require_chap,omitempty" default:"false" doc:"they have to; otherwise they may choose not to"`
	MutualCHAP  bool  `json:"mutual_chap,omitempty" default:"false" doc:"the target proves itself too; needs require_chap"`
	CHAPGroup   int32 `json:"chap_group,omitempty" default:"0" min:"0" doc:"authentication group whose secrets count; 0 is none"`
}

// ISCSISetOptionsParams bound and tune the whole target.
type ISCSISetOptionsParams struct {
	AuthFile                    string  `json:"auth_file,omitempty" doc:"file of CHAP secrets, in SPDK's form; the role admin is needed for it"`
	NodeBase                    string  `json:"node_base,omitempty" default:"iqn.2026-01.io.pollux" doc:"goes before the name of a target that does not begin with iqn., eui. or naa."`
	NOPTimeout                  *int32  `json:"nop_timeout,omitempty" default:"60" min:"0" doc:"seconds that an initiator has to answer a NOP-In; 0 is for ever"`
	NOPInInterval               *int32  `json:"nop_in_interval,omitempty" default:"30" min:"0" doc:"seconds of silence until an initiator is asked by a NOP-In; 0 is never"`
	MaxSessions                 uint32  `json:"max_sessions,omitempty" default:"128" min:"1" doc:"sessions of all targets"`
	MaxQueueDepth               uint32  `json:"max_queue_depth,omitempty" default:"64" min:"1" doc:"commands of one session"`
	MaxConnectionsPerSession    uint32  `json:"max_connections_per_session,omitempty" default:"2" min:"1" doc:"no effect: a session has one connection"`
	DefaultTime2Wait            *uint32 `json:"default_time2wait,omitempty" default:"2" doc:"seconds"`
	DefaultTime2Retain          *uint32 `json:"default_time2retain,omitempty" default:"20" doc:"seconds; no effect: nothing is retained at error recovery level 0"`
	FirstBurstLength            uint32  `json:"first_burst_length,omitempty" default:"65536" doc:"bytes that an initiator may send without being asked for them"`
	ImmediateData               *bool   `json:"immediate_data,omitempty" default:"true" doc:"data may come with its command"`
	ErrorRecoveryLevel          uint32  `json:"error_recovery_level,omitempty" default:"0" doc:"only 0"`
	AllowDuplicatedISID         bool    `json:"allow_duplicated_isid,omitempty" default:"false" doc:"let an initiator have two sessions with the same ISID; otherwise the second replaces the first"`
	MaxLargeDatainPerConnection uint32  `json:"max_large_datain_per_connection,omitempty" default:"64" min:"1" doc:"no effect: reads are bounded by the queue depth and the memory"`
	MaxR2TPerConnection         uint32  `json:"max_r2t_per_connection,omitempty" default:"4" min:"1" doc:"no effect: writes are bounded by the queue depth and the memory"`
	PDUPoolSize                 uint32  `json:"pdu_pool_size,omitempty" doc:"no effect: buffers are the reactors' own"`
	ImmediateDataPoolSize       uint32  `json:"immediate_data_pool_size,omitempty" doc:"no effect: buffers are the reactors' own"`
	DataOutPoolSize             uint32  `json:"data_out_pool_size,omitempty" doc:"no effect: buffers are the reactors' own"`
	ISCSIAuth                           // of discovery sessions
}

// ISCSIOptions are the options as they are.
type ISCSIOptions struct {
	AuthFile                    string `json:"auth_file,omitempty"`
	NodeBase                    string `json:"node_base"`
	MaxSessions                 uint32 `json:"max_sessions"`
	MaxConnectionsPerSession    uint32 `json:"max_connections_per_session"`
	MaxQueueDepth               uint32 `json:"max_queue_depth"`
	DefaultTime2Wait            uint32 `json:"default_time2wait" doc:"seconds"`
	DefaultTime2Retain          uint32 `json:"default_time2retain" doc:"seconds"`
	FirstBurstLength            uint32 `json:"first_burst_length" doc:"bytes"`
	ImmediateData               bool   `json:"immediate_data"`
	AllowDuplicatedISID         bool   `json:"allow_duplicated_isid"`
	ErrorRecoveryLevel          uint32 `json:"error_recovery_level"`
	NOPTimeout                  int32  `json:"nop_timeout" doc:"seconds"`
	NOPInInterval               int32  `json:"nop_in_interval" doc:"seconds"`
	DisableCHAP                 bool   `json:"disable_chap" doc:"in discovery sessions, as the next three"`
	RequireCHAP                 bool   `json:"require_chap"`
	MutualCHAP                  bool   `json:"mutual_chap"`
	CHAPGroup                   int32  `json:"chap_group"`
	MaxLargeDatainPerConnection uint32 `json:"max_large_datain_per_connection"`
	MaxR2TPerConnection         uint32 `json:"max_r2t_per_connection"`
}

// ISCSIPortal is an address of this machine.
type ISCSIPortal struct {
	Host    string `json:"host" rpc:"required" doc:"IPv4 address, IPv6 address in brackets, or * for all"`
	Port    string `json:"port" rpc:"required" doc:"port, as a string; 3260 is the registered one"`
	CPUMask string `json:"cpumask,omitempty" doc:"older form: no effect"`
}

// ISCSICreatePortalGroupParams describe a portal group.
type ISCSICreatePortalGroupParams struct {
	Tag     int32         `json:"tag" rpc:"required" min:"1" max:"65535" doc:"number of the group, and of the targets' ports in it; engines that serve a target of one name need different ones"`
	Portals []ISCSIPortal `json:"portals" rpc:"required"`
	Private bool          `json:"private,omitempty" default:"false" doc:"discovery does not show it: initiators come when a login is redirected there"`
	Wait    bool          `json:"wait,omitempty" default:"false" doc:"listen only after iscsi_start_portal_group"`
}

// ISCSIPortalGroup is a portal group.
type ISCSIPortalGroup struct {
	Tag     int32               `json:"tag"`
	Portals []ISCSIPortalListed `json:"portals"`
	Private bool                `json:"private"`
}

// ISCSIPortalListed is a portal as SPDK lists it.
type ISCSIPortalListed struct {
	Host string `json:"host"`
	Port string `json:"port"`
}

// ISCSITagParams name a group.
type ISCSITagParams struct {
	Tag int32 `json:"tag" rpc:"required" doc:"number of the group"`
}

// ISCSICreateInitiatorGroupParams describe an initiator group.
type ISCSICreateInitiatorGroupParams struct {
	Tag        int32    `json:"tag" rpc:"required" min:"1" doc:"number of the group"`
	Initiators []string `json:"initiators" rpc:"required" doc:"names, ANY, and with ! before them those who are kept out; the first that matches counts"`
	Netmasks   []string `json:"netmasks" rpc:"required" doc:"addresses, addresses/bits, ANY"`
}

// ISCSIChangeInitiatorsParams add initiators to a group, or take them out.
type ISCSIChangeInitiatorsParams struct {
	Tag        int32    `json:"tag" rpc:"required" doc:"number of the group"`
	Initiators []string `json:"initiators,omitempty" doc:"names, ANY, !name"`
	Netmasks   []string `json:"netmasks,omitempty" doc:"addresses, addresses/bits, ANY"`
}

// ISCSIInitiatorGroup is an initiator group.
type ISCSIInitiatorGroup struct {
	Tag        int32    `json:"tag"`
	Initiators []string `json:"initiators"`
	Netmasks   []string `json:"netmasks"`
}

// ISCSIMap lets the initiators of a group reach a target by a portal group.
type ISCSIMap struct {
	PGTag int32 `json:"pg_tag" rpc:"required" doc:"portal group"`
	IGTag int32 `json:"ig_tag" rpc:"required" doc:"initiator group"`
}

// ISCSILUN is a device with its number.
type ISCSILUN struct {
	BdevName string `json:"bdev_name" rpc:"required" doc:"block device"`
	LunID    int32  `json:"lun_id" rpc:"required" min:"0" max:"255" doc:"0 to 255"`
}

// ISCSICreateTargetNodeParams describe a target.
type ISCSICreateTargetNodeParams struct {
	Name         string     `json:"name" rpc:"required" doc:"iSCSI name such as iqn.2026-01.io.pollux:disk1, or disk1, before which node_base goes"`
	AliasName    string     `json:"alias_name" rpc:"required" doc:"for people"`
	PGIGMaps     []ISCSIMap `json:"pg_ig_maps" rpc:"required"`
	LUNs         []ISCSILUN `json:"luns" rpc:"required"`
	QueueDepth   int32      `json:"queue_depth" rpc:"required" doc:"commands of one session; 0, and more than max_queue_depth, is max_queue_depth"`
	HeaderDigest bool       `json:"header_digest,omitempty" default:"false" doc:"initiators have to use it"`
	DataDigest   bool       `json:"data_digest,omitempty" default:"false" doc:"initiators have to use it"`
	ISCSIAuth
}

// ISCSITargetNode is a target.
type ISCSITargetNode struct {
	Name         string           `json:"name"`
	AliasName    string           `json:"alias_name,omitempty"`
	PGIGMaps     []ISCSIMap       `json:"pg_ig_maps"`
	LUNs         []ISCSILUN       `json:"luns"`
	QueueDepth   int32            `json:"queue_depth"`
	DisableCHAP  bool             `json:"disable_chap"`
	RequireCHAP  bool             `json:"require_chap"`
	MutualCHAP   bool             `json:"mutual_chap"`
	CHAPGroup    int32            `json:"chap_group"`
	HeaderDigest bool             `json:"header_digest"`
	DataDigest   bool             `json:"data_digest"`
	Redirects    *[]ISCSIRedirect `json:"redirects,omitempty" doc:"where logins are sent elsewhere"`
}

// ISCSIRedirect is where logins by a portal group are sent.
type ISCSIRedirect struct {
	PGTag        int32  `json:"pg_tag"`
	RedirectHost string `json:"redirect_host"`
	RedirectPort string `json:"redirect_port"`
}

// ISCSINodeParams name a target.
type ISCSINodeParams struct {
	Name string `json:"name" rpc:"required" doc:"target, with or without node_base"`
}

// ISCSIAddLUNParams add a device to a target.
type ISCSIAddLUNParams struct {
	Name     string `json:"name" rpc:"required" doc:"target"`
	BdevName string `json:"bdev_name" rpc:"required" doc:"block device"`
	LunID    *int32 `json:"lun_id,omitempty" default:"-1" min:"-1" max:"255" doc:"0 to 255; -1 is the lowest free one"`
}

// ISCSIRemoveLUNParams take one away.
type ISCSIRemoveLUNParams struct {
	Name  string `json:"name" rpc:"required" doc:"target"`
	LunID int32  `json:"lun_id" rpc:"required" min:"0" max:"255"`
}

// ISCSIMapsParams add maps to a target, or take them away.
type ISCSIMapsParams struct {
	Name     string     `json:"name" rpc:"required" doc:"target"`
	PGIGMaps []ISCSIMap `json:"pg_ig_maps" rpc:"required"`
}

// ISCSISetRedirectParams send logins elsewhere.
type ISCSISetRedirectParams struct {
	Name         string `json:"name" rpc:"required" doc:"target"`
	PGTag        int32  `json:"pg_tag" rpc:"required" doc:"portal group by which they come; a public one"`
	RedirectHost string `json:"redirect_host,omitempty" doc:"IP address; without it and the port logins stay here again"`
	RedirectPort string `json:"redirect_port,omitempty" doc:"port, as a string"`
}

// ISCSIRequestLogoutParams ask initiators to log out.
type ISCSIRequestLogoutParams struct {
	Name  string `json:"name" rpc:"required" doc:"target"`
	PGTag *int32 `json:"pg_tag,omitempty" default:"-1" doc:"those who came by this portal group; all without it"`
}

// ISCSISecret is what an initiator and a target know of each other.
type ISCSISecret struct {
	User    string `json:"user" rpc:"required" doc:"name of the initiator"`
	Secret  string `json:"secret" rpc:"required" secret:"true" doc:"what it proves that it knows; 12 bytes or more"`
	MUser   string `json:"muser,omitempty" doc:"name of the target"`
	MSecret string `json:"msecret,omitempty" secret:"true" doc:"what the target proves that it knows"`
}

// ISCSIAuthGroup is an authentication group, as it is made and as it is listed.
type ISCSIAuthGroup struct {
	Tag     int32         `json:"tag"`
	Secrets []ISCSISecret `json:"secrets"`
}

// ISCSICreateAuthGroupParams describe an authentication group.
type ISCSICreateAuthGroupParams struct {
	Tag     int32         `json:"tag" rpc:"required" min:"1" doc:"number of the group"`
	Secrets []ISCSISecret `json:"secrets,omitempty"`
}

// ISCSIAddSecretParams add a secret to a group.
type ISCSIAddSecretParams struct {
	Tag int32 `json:"tag" rpc:"required" doc:"number of the group"`
	ISCSISecret
}

// ISCSIRemoveSecretParams take one away.
type ISCSIRemoveSecretParams struct {
	Tag  int32  `json:"tag" rpc:"required" doc:"number of the group"`
	User string `json:"user" rpc:"required"`
}

// ISCSINodeAuthParams say how initiators prove themselves to a target.
type ISCSINodeAuthParams struct {
	Name string `json:"name" rpc:"required" doc:"target"`
	ISCSIAuth
}

// ISCSIPortalGroupAuthParams say how initiators prove themselves in discovery sessions by a portal group.
type ISCSIPortalGroupAuthParams struct {
	Tag int32 `json:"tag" rpc:"required" doc:"portal group"`
	ISCSIAuth
}

// ISCSIConnection is a connection of an initiator.
type ISCSIConnection struct {
	ID             int32  `json:"id" doc:"counts connections"`
	CID            int32  `json:"cid"`
	TSIH           int32  `json:"tsih" doc:"of its session; -1 before its login is over"`
	State          string `json:"state" doc:"running or exiting"`
	LoginPhase     string `json:"login_phase" doc:"not_started, security_negotiation_phase, operational_negotiation_phase, full_feature_phase"`
	InitiatorAddr  string `json:"initiator_addr"`
	TargetAddr     string `json:"target_addr"`
	TargetNodeName string `json:"target_node_name"`
	ThreadName     string `json:"thread_name" doc:"reactor"`
	InitiatorName  string `json:"initiator_name"`
	PGTag          int32  `json:"pg_tag" doc:"portal group by which it came"`
	User           string `json:"user,omitempty" doc:"as whom the initiator has proved itself"`
	HeaderDigest   bool   `json:"header_digest"`
	DataDigest     bool   `json:"data_digest"`
	Commands       uint64 `json:"commands" doc:"SCSI commands answered"`
	Open           uint32 `json:"open_commands" doc:"that came and are not answered"`
}

// ISCSIStats count connections by their state, and what the target has done.
type ISCSIStats struct {
	Invalid    uint32           `json:"invalid" doc:"before their login is over"`
	Running    uint32           `json:"running"`
	Exiting    uint32           `json:"exiting"`
	Exited     uint32           `json:"exited" doc:"0: what has ended is counted nowhere"`
	PollGroups []ISCSIPollGroup `json:"poll_groups"`
	Hosts      []ISCSIHost      `json:"hosts" doc:"initiators with which something went wrong"`
}

// ISCSIHost is what went wrong with an initiator since the engine started.
type ISCSIHost struct {
	InitiatorName string `json:"initiator_name" doc:"as it says; empty of those that said none, OTHER of those for which there is no room"`
	InitiatorAddr string `json:"initiator_addr" doc:"where the last one came from"`
	CHAP          uint64 `json:"chap_failures" doc:"logins in which it did not prove who it is"`
	Denied        uint64 `json:"denied_logins" doc:"logins for which it has no right"`
	Login         uint64 `json:"other_login_failures" doc:"other logins that were refused, or did not end in time"`
	Digest        uint64 `json:"digest_errors"`
	Rejected      uint64 `json:"rejected_pdus"`
	Protocol      uint64 `json:"protocol_errors" doc:"sessions that ended for what it did"`
	LastReason    string `json:"last_reason"`
	LastSeconds   uint64 `json:"last_seconds_ago"`
}

// ISCSIPollGroup are the counters of one reactor.
type ISCSIPollGroup struct {
	Name            string `json:"name" doc:"reactor"`
	Sessions        uint32 `json:"sessions" doc:"logged in"`
	LoggingIn       uint32 `json:"logging_in"`
	PendingCommands uint64 `json:"pending_commands"`
	Commands        uint64 `json:"completed_commands"`
	Logins          uint64 `json:"logins" doc:"that succeeded"`
	RefusedLogins   uint64 `json:"refused_logins"`
	DeniedLogins    uint64 `json:"denied_logins" doc:"of them, for want of the right or of the proof"`
	ProtocolErrors  uint64 `json:"protocol_errors" doc:"connections ended for what the initiator did"`
}

// SCSIDevice is a target as a SCSI device.
type SCSIDevice struct {
	ID         int32  `json:"id"`
	DeviceName string `json:"device_name"`
}

// ISCSIEnableHistogramParams turn the histogram of a target on or off.
type ISCSIEnableHistogramParams struct {
	Name   string `json:"name" rpc:"required" doc:"target"`
	Enable bool   `json:"enable" rpc:"required"`
}

var (
	ISCSISetOptions = alias(changes[ISCSISetOptionsParams, bool]("iscsi_set_options", Startup,
		"Set what holds for the whole iSCSI target."), "set_iscsi_options")
	ISCSIGetOptions = alias(reads[None, ISCSIOptions]("iscsi_get_options", Runtime,
		"Give what holds for the whole iSCSI target."), "get_iscsi_global_params")
	ISCSISetDiscoveryAuth = alias(changes[ISCSIAuth, bool]("iscsi_set_discovery_auth", Runtime,
		"Say how initiators prove themselves in discovery sessions."), "set_iscsi_discovery_auth")

	ISCSICreatePortalGroup = alias(changes[ISCSICreatePortalGroupParams, bool]("iscsi_create_portal_group", Runtime,
		"Let initiators come by addresses of this machine."), "add_portal_group")
	ISCSIStartPortalGroup = changes[ISCSITagParams, bool]("iscsi_start_portal_group", Runtime,
		"Listen at the addresses of a portal group that was made to wait.")
	ISCSIDeletePortalGroup = alias(changes[ISCSITagParams, bool]("iscsi_delete_portal_group", Runtime,
		"Delete a portal group and its maps; the sessions that came by it end."), "delete_portal_group")
	ISCSIGetPortalGroups    = alias(reads[None, []ISCSIPortalGroup]("iscsi_get_portal_groups", Runtime, "List the portal groups."), "get_portal_groups")
	ISCSIPortalGroupSetAuth = changes[ISCSIPortalGroupAuthParams, bool]("iscsi_portal_group_set_auth", Runtime,
		"Say how initiators prove themselves in discovery sessions by a portal group.")

	ISCSICreateInitiatorGroup = alias(changes[ISCSICreateInitiatorGroupParams, bool]("iscsi_create_initiator_group", Runtime,
		"Name initiators that may reach targets, and the addresses that they have."), "add_initiator_group")
	ISCSIInitiatorGroupAddInitiators = alias(changes[ISCSIChangeInitiatorsParams, bool]("iscsi_initiator_group_add_initiators", Runtime,
		"Add initiators or addresses to a group."), "add_initiators_to_initiator_group")
	ISCSIInitiatorGroupRemoveInitiators = alias(changes[ISCSIChangeInitiatorsParams, bool]("iscsi_initiator_group_remove_initiators", Runtime,
		"Take initiators or addresses out of a group; sessions that are not allowed any more end."), "delete_initiators_from_initiator_group")
	ISCSIDeleteInitiatorGroup = alias(changes[ISCSITagParams, bool]("iscsi_delete_initiator_group", Runtime,
		"Delete an initiator group and its maps; sessions that are not allowed any more end."), "delete_initiator_group")
	ISCSIGetInitiatorGroups = alias(reads[None, []ISCSIInitiatorGroup]("iscsi_get_initiator_groups", Runtime, "List the initiator groups."), "get_initiator_groups")

	ISCSICreateTargetNode = alias(changes[ISCSICreateTargetNodeParams, bool]("iscsi_create_target_node", Runtime,
		"Show block devices to initiators as the logical units of a target."), "construct_target_node")
	ISCSIDeleteTargetNode = alias(changes[ISCSINodeParams, bool]("iscsi_delete_target_node", Runtime,
		"Delete a target; its initiators are asked to log out, and its sessions end."), "delete_target_node")
	ISCSIGetTargetNodes   = alias(reads[None, []ISCSITargetNode]("iscsi_get_target_nodes", Runtime, "List the targets."), "get_target_nodes")
	ISCSITargetNodeAddLUN = alias(changes[ISCSIAddLUNParams, bool]("iscsi_target_node_add_lun", Runtime,
		"Add a block device to a target, whose initiators are told."), "target_node_add_lun")
	ISCSITargetNodeRemoveLUN = changes[ISCSIRemoveLUNParams, bool]("iscsi_target_node_remove_lun", Runtime,
		"Take a block device away from a target, whose initiators are told.")
	ISCSITargetNodeAddMaps = alias(changes[ISCSIMapsParams, bool]("iscsi_target_node_add_pg_ig_maps", Runtime,
		"Let initiators reach a target by portal groups."), "add_pg_ig_maps")
	ISCSITargetNodeRemoveMaps = alias(changes[ISCSIMapsParams, bool]("iscsi_target_node_remove_pg_ig_maps", Runtime,
		"Let initiators reach a target by portal groups no more; sessions that are not allowed any more end."), "delete_pg_ig_maps")
	ISCSITargetNodeSetRedirect = changes[ISCSISetRedirectParams, bool]("iscsi_target_node_set_redirect", Runtime,
		"Send logins to a target by a portal group elsewhere, or no more.")
	ISCSITargetNodeRequestLogout = changes[ISCSIRequestLogoutParams, bool]("iscsi_target_node_request_logout", Runtime,
		"Ask the initiators of a target to log out; they come back by the portal that they are sent to.")
	ISCSITargetNodeSetAuth = alias(changes[ISCSINodeAuthParams, bool]("iscsi_target_node_set_auth", Runtime,
		"Say how initiators prove themselves to a target."), "set_iscsi_target_node_auth")

	ISCSICreateAuthGroup = alias(admin(changes[ISCSICreateAuthGroupParams, bool]("iscsi_create_auth_group", Runtime,
		"Make an authentication group of CHAP secrets.")), "add_iscsi_auth_group")
	ISCSIDeleteAuthGroup = alias(admin(changes[ISCSITagParams, bool]("iscsi_delete_auth_group", Runtime,
		"Delete an authentication group; where it is asked for, nobody can prove himself any more.")), "delete_iscsi_auth_group")
	ISCSIAuthGroupAddSecret = alias(admin(changes[ISCSIAddSecretParams, bool]("iscsi_auth_group_add_secret", Runtime,
		"Add a CHAP secret to an authentication group.")), "add_secret_to_iscsi_auth_group")
	ISCSIAuthGroupRemoveSecret = alias(admin(changes[ISCSIRemoveSecretParams, bool]("iscsi_auth_group_remove_secret", Runtime,
		"Take a CHAP secret out of an authentication group.")), "delete_secret_from_iscsi_auth_group")
	ISCSIGetAuthGroups = alias(reads[None, []ISCSIAuthGroup]("iscsi_get_auth_groups", Runtime,
		"List the authentication groups. Their secrets are masked for who is no admin."), "get_iscsi_auth_groups")

	ISCSIGetConnections = alias(reads[None, []ISCSIConnection]("iscsi_get_connections", Runtime, "List the connections of initiators."), "get_iscsi_connections")
	ISCSIGetStats       = reads[None, ISCSIStats]("iscsi_get_stats", Runtime, "Give the target's counters.")
	SCSIGetDevices      = alias(reads[None, []SCSIDevice]("scsi_get_devices", Runtime, "List the SCSI devices: each target is one."), "get_scsi_devices")

	ISCSIEnableHistogram = changes[ISCSIEnableHistogramParams, bool]("iscsi_enable_histogram", Runtime,
		"Count how long the commands of a target take, in SPDK's buckets, or end that.")
	ISCSIGetHistogram = reads[ISCSINodeParams, Histogram]("iscsi_get_histogram", Runtime, "Give the latencies of a target's commands.")
)
