package iscsi

import (
	"net/netip"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/reservation"
)

// This file is what is configured, as the reactors see it. A view is never altered once it is published; the next one replaces it.

// Options bound and tune the whole target. The names are those of SPDK's iscsi_set_options.
type Options struct {
	NodeBase            string // goes before a target's name that does not begin as an iSCSI name does
	NOPTimeout          time.Duration
	NOPInInterval       time.Duration // 0: no NOP-In of our own
	Auth                Auth          // of discovery sessions; the view has it in discovery, and nothing here
	AuthFile            string
	MaxSessions         int
	MaxQueueDepth       int // tasks of a session
	MaxConnections      int // told, and no more than one is taken
	DefaultTime2Wait    int
	DefaultTime2Retain  int
	FirstBurstLength    int
	ImmediateData       bool
	ErrorRecoveryLevel  int
	AllowDuplicatedISID bool
	MaxLargeDataIn      int
	MaxR2T              int // of a connection; MaxOutstandingR2T is 1
}

// Auth says how an initiator proves itself.
type Auth struct {
	Disable bool // never
	Require bool // always; otherwise the initiator decides
	Mutual  bool // and the target proves itself too
	Group   int  // whose secrets count; 0 is none
}

// Secret is what an initiator and the target know of each other.
type Secret struct {
	User, Secret             string // of the initiator
	MutualUser, MutualSecret string // of the target, "" if it has none
}

// view is all of it.
type view struct {
	options   Options
	groups    []*groupView
	nodes     []*nodeView // in the order in which they were made
	discovery Auth
	secrets   map[int][]Secret
	listed    map[string]bool // names of initiators that stand in a group
	stopping  bool
}

// groupView is a portal group.
type groupView struct {
	tag     int
	portals []netip.AddrPort
	private bool // not shown by SendTargets to those who come by another group
	auth    Auth // of discovery sessions by it
	authSet bool // auth counts, not the view's discovery
}

// nodeView is a target node.
type nodeView struct {
	node       *Node
	name       string
	alias      string
	queueDepth int
	auth       Auth
	header     bool // initiators must use a header digest
	data       bool // and a data digest
	maps       []mapView
	units      []*Unit             // by LUN, nil where there is none
	latency    *latencies          // nil: none are kept
	states     map[int]accessState // of its ports, by portal group; those that are not in it are optimized
}

// mapView lets initiators reach a node by a portal group.
type mapView struct {
	group      *groupView
	initiators []string // names, ANY, !name
	netmasks   []string // addresses with a mask, ANY
	redirect   string   // HOST:PORT to which logins are sent, "" if they are not
}

// Unit is a logical unit: a device under a LUN of a node. What it is, does not change. It opens the device once for all reactors.
type Unit struct {
	Node     *Node
	LUN      int
	BdevName string

	handle   *bdev.Handle
	channels []*bdev.Channel // by reactor
	shares   []*unitShare    // by reactor: commands enter and leave
	gone     bool            // its device is being removed; under the target's lock

	modes      modes      // what MODE SELECT has set
	happenings happenings // what every nexus is to be told

	book *reservation.Book // of its device
	door *unitDoor
}
