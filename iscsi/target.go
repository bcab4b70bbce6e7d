package iscsi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the target as it is configured. The configuration belongs to control goroutines, under the target's lock. Each change makes a
// new view and gives it to every reactor in turn; a change is complete when all have it.

// Errors of the control path, with which callers decide.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("exists already")
	ErrInvalid  = errors.New("invalid")
	ErrInUse    = errors.New("in use")
)

// Target is the iSCSI target of an engine. Its methods are called on control goroutines.
type Target struct {
	group    *reactor.Group
	registry *bdev.Registry
	log      *slog.Logger
	groups   []*pollGroup // by reactor
	targetSessions
	hosts hosts // with which something went wrong; touched by the first reactor alone

	stopping atomic.Bool
	draining atomic.Bool // changes under mu
	drains   sync.Mutex  // one at a time

	mu         sync.Mutex // the configuration; never held while a reactor is waited for
	options    Options
	discovery  Auth // of discovery sessions
	portals    []*portalGroup
	initiators []*initiatorGroup
	secrets    []*authGroup
	deleted    []int // auth groups of the auth file that were deleted
	nodes      []*Node
	nextNode   int
	nextPortal int
	holding    bool // portals take no connection: Hold

	publishing sync.Mutex // views reach the reactors in the order in which they were made
}

// NewTarget makes a target that serves nothing yet.
func NewTarget(reg *bdev.Registry, log *slog.Logger) (*Target, error) {
	t := &Target{group: reg.Group(), registry: reg, log: log, options: DefaultOptions()}
	for _, r := range t.group.Reactors() {
		t.groups = append(t.groups, newPollGroup(t, r))
	}
	t.placed = make([]atomic.Int32, t.group.Len())
	return t, t.publish()
}

// DefaultNodeBase goes before the names of targets where nothing else is said.
const DefaultNodeBase = "iqn.2026-01.io.pollux"

// DefaultOptions are SPDK's, but for the name and FirstBurstLength: 65536, so that a write of that size is not asked for first.
func DefaultOptions() Options {
	return Options{
		NodeBase: DefaultNodeBase, NOPTimeout: 60 * time.Second, NOPInInterval: 30 * time.Second, MaxSessions: 128, MaxQueueDepth: 64,
		MaxConnections: 2, DefaultTime2Wait: 2, DefaultTime2Retain: 20, FirstBurstLength: 64 << 10, ImmediateData: true, MaxLargeDataIn: 64, MaxR2T: 4,
	}
}

// Bounds of the options.
const (
	queueDepthMax    = 256
	nopInIntervalMax = 60 * time.Second
	nopTimeoutMax    = time.Hour
	firstBurstMin    = 512 // RFC 7143 section 13.14, "FirstBurstLength"
)

// check says what is wrong with options.
func (o *Options) check() error {
	base, err := NormalName(o.NodeBase)
	if err != nil {
		return fmt.Errorf("node_base: %w", err)
	}
	o.NodeBase = base
	for _, n := range []struct {
		name             string
		v, least, most   int
		seconds, because string
	}{
		{"max_sessions", o.MaxSessions, 1, 65535, "", ""},
		{"max_queue_depth", o.MaxQueueDepth, 1, queueDepthMax, "", ""},
		{"max_connections_per_session", o.MaxConnections, 1, 65535, "", ""},
		{"default_time2wait", o.DefaultTime2Wait, 0, 3600, " s", ""},
		{"default_time2retain", o.DefaultTime2Retain, 0, 3600, " s", ""},
		{"first_burst_length", o.FirstBurstLength, firstBurstMin, reactor.BufferMax, " bytes", ""},
		{"error_recovery_level", o.ErrorRecoveryLevel, 0, 0, "", ": a session that fails is begun anew"},
		{"nop_timeout", int(o.NOPTimeout / time.Second), 0, int(nopTimeoutMax / time.Second), " s", ""},
		{"nop_in_interval", int(o.NOPInInterval / time.Second), 0, int(nopInIntervalMax / time.Second), " s", ""},
		{"max_large_datain_per_connection", o.MaxLargeDataIn, 1, 1 << 20, "", ""},
		{"max_r2t_per_connection", o.MaxR2T, 1, 1 << 20, "", ""},
	} {
		if n.v < n.least || n.v > n.most {
			return fmt.Errorf("%s %d: %w: %d to %d%s%s", n.name, n.v, ErrInvalid, n.least, n.most, n.seconds, n.because)
		}
	}
	return o.Auth.check()
}

// check says what is wrong with a rule of authentication.
func (a Auth) check() error {
	switch {
	case a.Disable && (a.Require || a.Mutual):
		return fmt.Errorf("disable_chap with require_chap or mutual_chap: %w: choose one", ErrInvalid)
	case a.Mutual && !a.Require:
		return fmt.Errorf("mutual_chap without require_chap: %w", ErrInvalid)
	case a.Group < 0:
		return fmt.Errorf("chap_group %d: %w: 0 is none, groups are numbered from 1", a.Group, ErrInvalid)
	}
	return nil
}

// SetOptions replaces the options. Sessions that there are keep what they agreed on.
func (t *Target) SetOptions(o Options) error {
	if err := o.check(); err != nil {
		return fmt.Errorf("setting the iSCSI options: %w", err)
	}
	return t.alter("setting the iSCSI options", func() error {
		t.options, t.discovery = o, o.Auth
		for _, n := range t.nodes {
			n.queueDepth = min(n.queueDepth, o.MaxQueueDepth)
		}
		return nil
	})
}

// Options gives the options as they are now.
func (t *Target) Options() Options {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.options
	o.Auth = t.discovery
	return o
}

// SetDiscoveryAuth says how initiators prove themselves in discovery sessions by portal groups that say nothing else.
func (t *Target) SetDiscoveryAuth(a Auth) error {
	return t.alter("setting the authentication of discovery", func() error {
		if err := a.check(); err != nil {
			return err
		}
		t.discovery = a
		return nil
	})
}

// alter changes the configuration under the lock and publishes it. what says what is attempted, for the error.
func (t *Target) alter(what string, f func() error) error {
	t.mu.Lock()
	err := f()
	t.mu.Unlock()
	if err == nil {
		err = t.publish()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// publish gives every reactor the configuration as it is now, and returns when all have it. The lock is not held.
func (t *Target) publish() error {
	t.publishing.Lock()
	defer t.publishing.Unlock()
	t.mu.Lock()
	v := t.viewNow()
	t.mu.Unlock()
	return t.group.Each(func(r *reactor.Reactor) { t.groups[r.Index()].install(v) })
}

// viewNow makes the view of now. The lock is held.
func (t *Target) viewNow() *view {
	v := &view{options: t.options, discovery: t.discovery, secrets: map[int][]Secret{}, listed: map[string]bool{}, stopping: t.stopping.Load() || t.draining.Load()}
	v.options.Auth = Auth{} // it is of discovery
	for _, g := range t.portals {
		gv := &groupView{tag: g.tag, private: g.private, auth: g.auth, authSet: g.authSet}
		if !g.waiting {
			for _, p := range g.portals {
				gv.portals = append(gv.portals, p.addr)
			}
		}
		v.groups = append(v.groups, gv)
	}
	for _, g := range t.secrets {
		v.secrets[g.tag] = slices.Clone(g.secrets)
	}
	for _, g := range t.initiators {
		for _, name := range g.names {
			v.listed[strings.TrimPrefix(name, "!")] = true
		}
	}
	for _, n := range t.nodes {
		nv := &nodeView{
			node: n, name: n.name, alias: n.alias, queueDepth: n.queueDepth, auth: n.auth, header: n.header, data: n.data,
			units: slices.Clone(n.units), latency: n.latency,
		}
		for _, m := range n.maps {
			if n.deleting {
				break
			}
			mv := mapView{group: v.group(m.portals.tag), initiators: slices.Clone(m.initiators.names), netmasks: slices.Clone(m.initiators.netmasks)}
			if to, ok := n.redirects[m.portals]; ok {
				mv.redirect = to.String()
			}
			nv.maps = append(nv.maps, mv)
		}
		v.nodes = append(v.nodes, nv)
	}
	return v
}

// group finds a portal group, nil if there is none.
func (v *view) group(tag int) *groupView {
	for _, g := range v.groups {
		if g.tag == tag {
			return g
		}
	}
	return nil
}

// nodeOf finds a node, nil if it is gone.
func (v *view) nodeOf(n *Node) *nodeView {
	for _, nv := range v.nodes {
		if nv.node == n {
			return nv
		}
	}
	return nil
}

// Stop closes every portal, ends every session, and gives every device back. One device that does not answer keeps no other.
func (t *Target) Stop(ctx context.Context) error {
	t.stopping.Store(true)
	t.mu.Lock()
	groups := t.portals
	t.portals = nil
	for _, n := range t.nodes {
		n.maps = nil
	}
	t.mu.Unlock()
	for _, g := range groups {
		g.close()
	}
	if err := t.publish(); err != nil {
		return fmt.Errorf("stopping the iSCSI target: %w", err)
	}
	all := t.endAll(ctx)
	t.mu.Lock()
	var units []*Unit
	for _, n := range t.nodes {
		units = append(units, n.take()...)
	}
	t.nodes = nil
	t.mu.Unlock()
	if err := errors.Join(all, t.withdraw(ctx, units)); err != nil {
		return fmt.Errorf("stopping the iSCSI target: %w", err)
	}
	return nil
}
