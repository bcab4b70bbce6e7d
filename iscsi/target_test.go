package iscsi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/patient"
	"github.com/pollux-storage/pollux/reactor"
)

// targetRig is a target on reactors, with three devices.
type targetRig struct {
	*testing.T
	*Target
}

const testNode = "iqn.2026-01.io.pollux:disk"

func newTargetRig(t *testing.T, reactors int) targetRig {
	t.Helper()
	g, err := reactor.Start(reactor.Config{Cores: slices.Repeat([]int{-1}, reactors), Idle: reactor.Interrupt, MemoryBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	reg := bdev.NewRegistry(g)
	for i := range 3 {
		if _, err := bdev.NewMem(reg, fmt.Sprint("mem", i), uuid.Nil, 512, 2048); err != nil {
			t.Fatal(err)
		}
	}
	target, err := NewTarget(reg, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := errors.Join(target.Stop(ctx), g.Stop(ctx)); err != nil {
			t.Error(err)
		}
	})
	return targetRig{t, target}
}

func (x targetRig) good(err error) {
	x.Helper()
	if err != nil {
		x.Fatal(err)
	}
}

// made makes a node with mem0 and mem1, reached by portal group 1 on a free port for everybody of initiator group 1.
func (x targetRig) made() targetRig {
	x.Helper()
	x.good(x.CreatePortalGroup(PortalGroupOptions{Tag: 1, Portals: []Portal{{"127.0.0.1", "0"}}}))
	x.good(x.CreateInitiatorGroup(InitiatorGroup{1, []string{"any"}, []string{"127.0.0.0/8"}}))
	x.good(x.CreateNode(x.Context(), NodeOptions{Name: "disk", Maps: []Map{{1, 1}}, LUNs: []LUNOptions{{"mem0", 0}, {"mem1", 5}}}))
	return x
}

// views gives what every reactor knows, and fails unless that is the same.
func (x targetRig) view() *view {
	x.Helper()
	x.publishing.Lock() // what a device's end publishes comes from elsewhere
	defer x.publishing.Unlock()
	var v *view
	x.good(x.group.Each(func(r *reactor.Reactor) {
		if now := x.groups[r.Index()].view; v == nil {
			v = now
		} else if v != now {
			x.Errorf("reactor %d has another view", r.Index())
		}
	}))
	return v
}

// node gives a node as the reactors know it, nil if they do not.
func (x targetRig) nodeView(name string) *nodeView {
	x.Helper()
	return x.view().find(name)
}

// lunsOf lists a node's units as LUN=device.
func (x targetRig) lunsOf(name string) string {
	x.Helper()
	n := x.nodeView(name)
	if n == nil {
		return "no node"
	}
	var out []string
	for lun, u := range n.units {
		if u != nil {
			out = append(out, fmt.Sprintf("%d=%s", lun, u.BdevName))
			if u.LUN != lun || u.Node != n.node {
				x.Errorf("unit %d says that it is %d", lun, u.LUN)
			}
		}
	}
	return strings.Join(out, " ")
}

func TestWhatTheConfigurationRefuses(t *testing.T) {
	x := newTargetRig(t, 1).made()
	ctx := t.Context()
	x.good(x.CreatePortalGroup(PortalGroupOptions{Tag: 2, Portals: []Portal{{"127.0.0.1", "1"}}, Wait: true, Private: true}))
	x.good(x.CreateAuthGroup(AuthGroup{Tag: 1, Secrets: []Secret{{User: "u", Secret: "topsecret"}}}))
	options := func(f func(o *Options)) error {
		o := DefaultOptions()
		f(&o)
		return x.SetOptions(o)
	}
	before := x.view()
	for _, c := range []struct {
		why  string
		err  error
		is   error
		says string
	}{
		{"no sessions", options(func(o *Options) { o.MaxSessions = 0 }), ErrInvalid, "max_sessions 0"},
		{"a queue of 257", options(func(o *Options) { o.MaxQueueDepth = 257 }), ErrInvalid, "max_queue_depth 257: invalid: 1 to 256"},
		{"no connection", options(func(o *Options) { o.MaxConnections = 0 }), ErrInvalid, "max_connections_per_session 0"},
		{"level 1", options(func(o *Options) { o.ErrorRecoveryLevel = 1 }), ErrInvalid, "error_recovery_level 1"},
		{"a first burst of 511", options(func(o *Options) { o.FirstBurstLength = 511 }), ErrInvalid, "first_burst_length 511"},
		{"a first burst over the largest", options(func(o *Options) { o.FirstBurstLength = 1<<20 + 1 }), ErrInvalid, "512 to 1048576 bytes"},
		{"more than an hour", options(func(o *Options) { o.DefaultTime2Wait = 3601 }), ErrInvalid, "default_time2wait 3601"},
		{"a NOP every two minutes", options(func(o *Options) { o.NOPInInterval = 2 * time.Minute }), ErrInvalid, "nop_in_interval 120: invalid: 0 to 60 s"},
		{"a base that is no name", options(func(o *Options) { o.NodeBase = "pollux" }), ErrInvalid, "node_base"},
		{"CHAP both ways", options(func(o *Options) { o.Auth = Auth{Disable: true, Require: true} }), ErrInvalid, "disable_chap"},

		{"mutual alone", x.SetDiscoveryAuth(Auth{Mutual: true}), ErrInvalid, "mutual_chap without require_chap"},
		{"a group below 0", x.SetDiscoveryAuth(Auth{Group: -1}), ErrInvalid, "chap_group -1"},

		{"portal group 0", x.CreatePortalGroup(PortalGroupOptions{Tag: 0, Portals: []Portal{{"127.0.0.1", "0"}}}), ErrInvalid, "1 to 65535"},
		{"portal group 65536", x.CreatePortalGroup(PortalGroupOptions{Tag: 65536, Portals: []Portal{{"127.0.0.1", "0"}}}), ErrInvalid, "1 to 65535"},
		{"no portal", x.CreatePortalGroup(PortalGroupOptions{Tag: 3}), ErrInvalid, "a portal at least"},
		{"a host name", x.CreatePortalGroup(PortalGroupOptions{Tag: 3, Portals: []Portal{{"localhost", "0"}}}), ErrInvalid, `host "localhost"`},
		{"a port that is a word", x.CreatePortalGroup(PortalGroupOptions{Tag: 3, Portals: []Portal{{"127.0.0.1", "iscsi"}}}), ErrInvalid, `port "iscsi"`},
		{"an address of another machine", x.CreatePortalGroup(PortalGroupOptions{Tag: 3, Portals: []Portal{{"192.0.2.1", "3260"}}}), nil, "listening on 192.0.2.1:3260"},
		{"a group twice", x.CreatePortalGroup(PortalGroupOptions{Tag: 1, Portals: []Portal{{"127.0.0.1", "0"}}}), ErrExists, "creating portal group 1: it exists already"},
		{"a portal of another group", x.CreatePortalGroup(PortalGroupOptions{Tag: 3, Portals: []Portal{{"127.0.0.1", "1"}}}), ErrExists, "in portal group 2"},
		{"a portal twice", x.CreatePortalGroup(PortalGroupOptions{Tag: 3, Portals: []Portal{{"127.0.0.1", "2"}, {"127.0.0.1", "2"}}, Wait: true}), ErrExists, "in the same list"},
		{"starting none", x.StartPortalGroup(3), ErrNotFound, "portal group 3"},
		{"deleting none", x.DeletePortalGroup(ctx, 3), ErrNotFound, "portal group 3"},
		{"a rule for none", x.SetPortalGroupAuth(3, Auth{}), ErrNotFound, "portal group 3"},

		{"initiator group 0", x.CreateInitiatorGroup(InitiatorGroup{Tag: 0}), ErrInvalid, "1 and up"},
		{"initiator group twice", x.CreateInitiatorGroup(InitiatorGroup{Tag: 1}), ErrExists, ""},
		{"a name that is none", x.CreateInitiatorGroup(InitiatorGroup{2, []string{"host"}, nil}), ErrInvalid, `initiator "host"`},
		{"a denied name that is none", x.CreateInitiatorGroup(InitiatorGroup{2, []string{"!host"}, nil}), ErrInvalid, `initiator "!host"`},
		{"a name in capitals again", x.CreateInitiatorGroup(InitiatorGroup{2, []string{"iqn.1992-01.com.example", "IQN.1992-01.com.example"}, nil}), ErrExists, ""},
		{"a mask that is none", x.CreateInitiatorGroup(InitiatorGroup{2, nil, []string{"10.0.0.0/33"}}), ErrInvalid, `netmask "10.0.0.0/33"`},
		{"a mask of no bits", x.CreateInitiatorGroup(InitiatorGroup{2, nil, []string{"0.0.0.0/0"}}), ErrInvalid, `netmask "0.0.0.0/0"`},
		{"adding what is there", x.AddInitiators(ctx, InitiatorGroup{1, []string{"ANY"}, nil}), ErrExists, "ANY"},
		{"removing what is not", x.RemoveInitiators(ctx, InitiatorGroup{1, nil, []string{"10.0.0.1"}}), ErrNotFound, "10.0.0.1"},
		{"adding to none", x.AddInitiators(ctx, InitiatorGroup{9, []string{"ANY"}, nil}), ErrNotFound, "initiator group 9"},
		{"deleting none", x.DeleteInitiatorGroup(ctx, 9), ErrNotFound, "initiator group 9"},

		{"a node without a name", x.CreateNode(ctx, NodeOptions{}), ErrInvalid, "creating target node"},
		{"a node twice", x.CreateNode(ctx, NodeOptions{Name: "DISK"}), ErrExists, "creating target node DISK: it exists already"},
		{"no such device", x.CreateNode(ctx, NodeOptions{Name: "a", LUNs: []LUNOptions{{"mem0", 0}, {"none", 1}}}), bdev.ErrNotFound, `"none"`},
		{"no such portal group", x.CreateNode(ctx, NodeOptions{Name: "a", Maps: []Map{{9, 1}}}), ErrNotFound, "portal group 9"},
		{"no such initiator group", x.CreateNode(ctx, NodeOptions{Name: "a", Maps: []Map{{1, 9}}}), ErrNotFound, "initiator group 9"},
		{"a map twice", x.CreateNode(ctx, NodeOptions{Name: "a", Maps: []Map{{1, 1}, {1, 1}}}), ErrExists, "the map"},
		{"a LUN twice", x.CreateNode(ctx, NodeOptions{Name: "a", LUNs: []LUNOptions{{"mem0", 1}, {"mem1", 1}}}), ErrExists, "LUN 1"},
		{"LUN 256", x.CreateNode(ctx, NodeOptions{Name: "a", LUNs: []LUNOptions{{"mem0", 256}}}), ErrInvalid, "LUN 256"},
		{"an alias of 256 bytes", x.CreateNode(ctx, NodeOptions{Name: "a", Alias: strings.Repeat("a", 256)}), ErrInvalid, "alias_name"},
		{"CHAP both ways of a node", x.SetNodeAuth("disk", Auth{Disable: true, Mutual: true}), ErrInvalid, "disable_chap"},
		{"a rule for no node", x.SetNodeAuth("a", Auth{}), ErrNotFound, `target node "a"`},
		{"a map of no node", x.AddMaps("a", []Map{{1, 1}}), ErrNotFound, ""},
		{"a map that is there, after one that is not", x.AddMaps("disk", []Map{{2, 1}, {1, 1}}), ErrExists, ""},
		{"removing a map that is not, after one that is", x.RemoveMaps(ctx, "disk", []Map{{1, 1}, {2, 1}}), ErrNotFound, "portal group 2"},
		{"a LUN that is there", lunError(x.AddLUN(ctx, "disk", LUNOptions{"mem2", 5})), ErrExists, "LUN 5"},
		{"a LUN of no node", lunError(x.AddLUN(ctx, "a", LUNOptions{"mem2", 5})), ErrNotFound, ""},
		{"removing a LUN that is not", x.RemoveLUN(ctx, "disk", 1), ErrNotFound, "LUN 1"},
		{"deleting no node", x.DeleteNode(ctx, "a"), ErrNotFound, ""},

		{"redirecting by no group", x.Redirect("disk", 9, Portal{"127.0.0.1", "3260"}), ErrNotFound, "portal group 9"},
		{"redirecting by a private one", x.Redirect("disk", 2, Portal{"127.0.0.1", "3260"}), ErrInvalid, "private"},
		{"redirecting to no port", x.Redirect("disk", 1, Portal{"127.0.0.1", ""}), ErrInvalid, "go together"},
		{"redirecting to a wildcard", x.Redirect("disk", 1, Portal{"0.0.0.0", "3260"}), ErrInvalid, "that initiators can reach"},
		{"redirecting to where they came", x.Redirect("disk", 1, portalOf(x.portals[0].portals[0].addr)), ErrInvalid, "same portal group"},
		{"asking nobody to log out", x.RequestLogout("a", -1), ErrNotFound, ""},
		{"asking by no group", x.RequestLogout("disk", 9), ErrNotFound, "portal group 9"},

		{"authentication group 0", x.CreateAuthGroup(AuthGroup{Tag: 0}), ErrInvalid, "1 and up"},
		{"authentication group twice", x.CreateAuthGroup(AuthGroup{Tag: 1}), ErrExists, ""},
		{"no user", x.AddSecret(1, Secret{Secret: "topsecret"}), ErrInvalid, "a user and its secret"},
		{"no secret", x.AddSecret(1, Secret{User: "v"}), ErrInvalid, "a user and its secret"},
		{"a user twice", x.AddSecret(1, Secret{User: "u", Secret: "topsecret"}), ErrExists, "user u"},
		{"half of the target's", x.AddSecret(1, Secret{User: "v", Secret: "topsecret", MutualUser: "t"}), ErrInvalid, "go together"},
		{"a NUL", x.AddSecret(1, Secret{User: "v", Secret: "topsecret\x00"}), ErrInvalid, "NUL"},
		{"a secret of none", x.RemoveSecret(1, "v"), ErrNotFound, "v"},
		{"a secret of no group", x.AddSecret(2, Secret{User: "v", Secret: "topsecret"}), ErrNotFound, "authentication group 2"},
		{"deleting no authentication group", x.DeleteAuthGroup(2), ErrNotFound, "authentication group 2"},

		{"a histogram of none", x.EnableHistogram("a", true), ErrNotFound, ""},
		{"a histogram that is off", histogramError(x.Target), ErrInvalid, "iscsi_enable_histogram"},
	} {
		if c.err == nil || c.is != nil && !errors.Is(c.err, c.is) || !strings.Contains(c.err.Error(), c.says) || strings.Contains(c.err.Error(), "topsecret") {
			t.Errorf("%s: %v", c.why, c.err)
		}
	}
	if v := x.view(); len(v.nodes) != 1 || len(v.groups) != 2 || v.options != before.options || len(v.secrets[1]) != 1 || len(v.nodes[0].maps) != 1 {
		t.Errorf("something was changed: %+v", v)
	}
	for _, d := range x.registry.Devices() {
		if users := d.Users(); d.Name() == "mem2" && len(users) > 0 || len(users) > 1 {
			t.Errorf("%s is open for %v", d.Name(), users)
		}
	}
}

func lunError(_ int, err error) error { return err }

func histogramError(t *Target) error {
	_, err := t.Histogram("disk")
	return err
}

func TestEveryReactorFollowsTheConfiguration(t *testing.T) {
	x := newTargetRig(t, 2).made()
	ctx := t.Context()
	n := x.nodeView(testNode)
	if n == nil || x.lunsOf(testNode) != "0=mem0 5=mem1" || n.queueDepth != 64 || len(n.maps) != 1 || n.maps[0].group != x.view().group(1) {
		t.Fatalf("%+v", n)
	}
	if diff := cmp.Diff([]string{"ANY"}, n.maps[0].initiators); diff != "" {
		t.Error(diff)
	}
	before := n

	lun, err := x.AddLUN(ctx, "disk", LUNOptions{"mem2", -1})
	if err != nil || lun != 1 || x.lunsOf(testNode) != "0=mem0 1=mem2 5=mem1" {
		t.Errorf("%d, %v, %s", lun, err, x.lunsOf(testNode))
	}
	if len(before.units) != 6 || before.units[1] != nil {
		t.Error("a view was altered")
	}
	x.good(x.RemoveLUN(ctx, "disk", 0))
	if got := x.lunsOf(testNode); got != "1=mem2 5=mem1" {
		t.Error(got)
	}

	x.good(x.CreatePortalGroup(PortalGroupOptions{Tag: 2, Portals: []Portal{{"[::1]", "0"}}, Private: true}))
	x.good(x.AddMaps("disk", []Map{{2, 1}}))
	x.good(x.Redirect("disk", 1, Portal{"[2001:db8::1]", "3261"}))
	n = x.nodeView(testNode)
	if len(n.maps) != 2 || n.maps[0].redirect != "[2001:db8::1]:3261" || n.maps[1].redirect != "" || !n.maps[1].group.private {
		t.Errorf("%+v", n.maps)
	}
	x.good(x.RemoveMaps(ctx, "disk", []Map{{1, 1}}))
	x.good(x.AddMaps("disk", []Map{{1, 1}}))
	if n = x.nodeView(testNode); len(n.maps) != 2 || n.maps[1].redirect != "" {
		t.Errorf("a redirection outlives the map: %+v", n.maps)
	}
	x.good(x.Redirect("disk", 1, Portal{"192.0.2.1", "3260"}))
	x.good(x.Redirect("disk", 1, Portal{}))
	if n = x.nodeView(testNode); n.maps[1].redirect != "" {
		t.Errorf("%+v", n.maps)
	}

	x.good(x.AddInitiators(ctx, InitiatorGroup{1, []string{"!iqn.1992-01.com.Example"}, []string{"ALL"}}))
	x.good(x.RemoveInitiators(ctx, InitiatorGroup{1, []string{"any"}, []string{"127.0.0.0/8"}}))
	n = x.nodeView(testNode)
	if diff := cmp.Diff([]string{"!iqn.1992-01.com.example"}, n.maps[0].initiators) + cmp.Diff([]string{"ANY"}, n.maps[0].netmasks); diff != "" {
		t.Error(diff)
	}

	x.good(x.SetNodeAuth("disk", Auth{Require: true, Mutual: true, Group: 7}))
	x.good(x.SetDiscoveryAuth(Auth{Require: true, Group: 3}))
	x.good(x.SetPortalGroupAuth(2, Auth{Disable: true}))
	v := x.view()
	if v.authOf(nil, 1) != (Auth{Require: true, Group: 3}) || v.authOf(nil, 2) != (Auth{Disable: true}) || v.authOf(v.find(testNode), 1) != (Auth{Require: true, Mutual: true, Group: 7}) {
		t.Errorf("%+v", v)
	}
	x.good(x.SetNodeAuth("disk", Auth{}))
	if v = x.view(); v.authOf(v.find(testNode), 1) != (Auth{}) {
		t.Error("a node that says nothing has the rule of discovery")
	}

	x.good(x.DeletePortalGroup(ctx, 2))
	if v = x.view(); v.group(2) != nil || len(v.find(testNode).maps) != 1 {
		t.Errorf("%+v", v.find(testNode).maps)
	}
	x.good(x.DeleteInitiatorGroup(ctx, 1))
	if v = x.view(); len(v.find(testNode).maps) != 0 {
		t.Errorf("%+v", v.find(testNode).maps)
	}
	x.good(x.DeleteNode(ctx, testNode))
	if v = x.view(); len(v.nodes) != 0 {
		t.Errorf("%+v", v)
	}
	for _, d := range x.registry.Devices() {
		if users := d.Users(); len(users) > 0 {
			t.Errorf("%s is open for %v", d.Name(), users)
		}
	}
}

func TestOptionsBoundTheQueueOfANode(t *testing.T) {
	x := newTargetRig(t, 1).made()
	for _, c := range []struct{ asked, want int }{{0, 64}, {-1, 64}, {1, 1}, {64, 64}, {65, 64}} {
		x.good(x.CreateNode(t.Context(), NodeOptions{Name: "a", QueueDepth: c.asked}))
		if got := x.nodeView(DefaultNodeBase + ":a").queueDepth; got != c.want {
			t.Errorf("queue depth %d becomes %d, want %d", c.asked, got, c.want)
		}
		x.good(x.DeleteNode(t.Context(), "a"))
	}
}

func TestPortalsListenWhenTheyShould(t *testing.T) {
	x := newTargetRig(t, 2)
	// A connection is taken when the target closes it or answers on it. Here nothing is sent: a connection that nobody takes is there all the
	// same, so that taking shows in the count.
	taken := func() (n int) {
		x.good(x.group.Each(func(r *reactor.Reactor) { n += x.groups[r.Index()].count }))
		return n
	}
	becomes := func(want int) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); taken() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%d connections are taken, want %d", taken(), want)
			}
		}
	}
	dial := func(group int) error {
		c, err := net.Dial("tcp", x.portalGroup(group).portals[0].addr.String())
		if err == nil {
			t.Cleanup(func() { c.Close() })
		}
		return err
	}
	x.Hold()
	x.good(x.CreatePortalGroup(PortalGroupOptions{Tag: 1, Portals: []Portal{{"127.0.0.1", "0"}}}))
	x.good(x.CreatePortalGroup(PortalGroupOptions{Tag: 2, Portals: []Portal{{"127.0.0.1", "0"}}, Wait: true}))
	x.good(dial(1))
	if v := x.view(); len(v.group(2).portals) != 0 || v.group(1).portals[0].Port() == 0 {
		t.Errorf("%+v", v.groups)
	}
	if taken() != 0 {
		t.Error("a connection is taken while the target holds")
	}
	x.good(x.Serve())
	becomes(1)
	if x.portalGroup(2).portals[0].fd != -1 {
		t.Error("a group that waits listens")
	}
	x.good(x.StartPortalGroup(2))
	x.good(x.StartPortalGroup(2)) // it stays as it is
	x.good(dial(2))
	becomes(2)
	if v := x.view(); len(v.group(2).portals) != 1 {
		t.Errorf("%+v", v.groups)
	}
	addr := x.portalGroup(2).portals[0].addr
	x.good(x.DeletePortalGroup(t.Context(), 2))
	x.good(x.CreatePortalGroup(PortalGroupOptions{Tag: 3, Portals: []Portal{portalOf(addr)}})) // its address is free
	x.good(dial(3))
	becomes(3) // one of a login that is not over stays with those who made it
}

// TestDeviceGoes: a unit goes with its device, after the last command on it.
func TestDeviceGoes(t *testing.T) {
	x := newTargetRig(t, 2).made()
	u := x.nodeView(testNode).units[5]
	on := func(i int, f func()) { x.good(x.group.Reactor(i).Call(f)) }
	on(1, u.shares[1].enter)
	removed := make(chan error, 1)
	go func() { removed <- x.registry.Unregister(t.Context(), "mem1") }()
	patient.Await(t, "the unit goes from every reactor", func() bool {
		has := 0 // while a view is on its way reactors differ
		x.good(x.group.Each(func(r *reactor.Reactor) {
			if x.groups[r.Index()].view.find(testNode).units[5] != nil {
				has++
			}
		}))
		return has == 0
	})
	if got := x.lunsOf(testNode); got != "0=mem0" {
		t.Fatal(got)
	}
	select {
	case err := <-removed:
		t.Fatalf("the device is gone under a command: %v", err)
	default:
	}
	if _, err := x.AddLUN(t.Context(), "disk", LUNOptions{"mem1", 5}); !errors.Is(err, bdev.ErrNotFound) {
		t.Errorf("a device that goes: %v", err)
	}
	on(1, u.shares[1].leave)
	x.good(<-removed)
	x.good(x.RemoveLUN(t.Context(), "disk", 0))
	if got := x.lunsOf(testNode); got != "" {
		t.Error(got)
	}
}

// TestStopWithACommandThatDoesNotEnd: the device that has it is told of and stays until that has ended; the others are given back.
func TestStopWithACommandThatDoesNotEnd(t *testing.T) {
	x := newTargetRig(t, 2).made()
	u := x.nodeView(testNode).units[0]
	x.good(x.group.Reactor(0).Call(u.shares[0].enter))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.Stop(ctx); err == nil || !strings.Contains(err.Error(), "LUN 0 of target node "+testNode+": waiting for the last commands on device mem0") || strings.Contains(err.Error(), "mem1") {
		t.Error(err)
	}
	for _, d := range x.registry.Devices() {
		if got, want := len(d.Users()), map[string]int{"mem0": 1}[d.Name()]; got != want {
			t.Errorf("%s is open for %v", d.Name(), d.Users())
		}
	}
	x.good(x.group.Reactor(0).Call(u.shares[0].leave))
	patient.Await(t, "it is given back when it has answered", func() bool { return len(u.handle.Device().Users()) == 0 })
	if err := x.CreatePortalGroup(PortalGroupOptions{Tag: 9, Portals: []Portal{{"127.0.0.1", "0"}}}); err == nil {
		t.Error("a portal group is made after the end")
	}
	if err := x.CreateNode(t.Context(), NodeOptions{Name: "late"}); err == nil {
		t.Error("a node is made after the end")
	}
}

func TestAuthGroupsOfTheAuthFile(t *testing.T) {
	x := newTargetRig(t, 1)
	x.good(x.CreateAuthGroup(AuthGroup{Tag: 1, Secrets: []Secret{{User: "a", Secret: "aaaaaaaaaaaa"}}, FromFile: true}))
	x.good(x.CreateAuthGroup(AuthGroup{Tag: 2, FromFile: true}))
	x.good(x.CreateAuthGroup(AuthGroup{Tag: 3, FromFile: true}))
	x.good(x.CreateAuthGroup(AuthGroup{Tag: 4, Secrets: []Secret{{User: "d", Secret: "d"}}}))
	x.good(x.AddSecret(1, Secret{User: "b", Secret: "bbbbbbbbbbbb"}))
	x.good(x.DeleteAuthGroup(2))
	x.good(x.DeleteAuthGroup(4))
	groups, deleted := x.AuthGroups()
	want := []AuthGroup{{Tag: 1, Secrets: []Secret{{User: "a", Secret: "aaaaaaaaaaaa"}, {User: "b", Secret: "bbbbbbbbbbbb"}}}, {Tag: 3, FromFile: true}}
	if diff := cmp.Diff(want, groups) + cmp.Diff([]int{2}, deleted); diff != "" {
		t.Error(diff)
	}
	x.good(x.CreateAuthGroup(AuthGroup{Tag: 3, Secrets: []Secret{{User: "c", Secret: "cccccccccccc"}}})) // as a saved configuration does
	if v := x.view(); len(v.secrets) != 2 || v.secrets[3][0].User != "c" || len(v.secrets[1]) != 2 {
		t.Errorf("%+v", v.secrets)
	}
}
