package iscsi

import (
	"fmt"
	"slices"
)

// This file is what the target tells of its configuration: copies, for RPC and metrics.

// PortalGroupInfo describes a portal group.
type PortalGroupInfo struct {
	Tag     int
	Portals []Portal
	Private bool
	Waiting bool  // it does not listen
	Auth    *Auth // of discovery sessions by it, if it has a rule of its own
}

// PortalGroups lists them, in the order in which they were made.
func (t *Target) PortalGroups() []PortalGroupInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []PortalGroupInfo
	for _, g := range t.portals {
		i := PortalGroupInfo{Tag: g.tag, Private: g.private, Waiting: g.waiting}
		for _, p := range g.portals {
			i.Portals = append(i.Portals, portalOf(p.addr))
		}
		if g.authSet {
			a := g.auth
			i.Auth = &a
		}
		out = append(out, i)
	}
	return out
}

// InitiatorGroups lists them, in the order in which they were made.
func (t *Target) InitiatorGroups() []InitiatorGroup {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []InitiatorGroup
	for _, g := range t.initiators {
		out = append(out, InitiatorGroup{g.tag, slices.Clone(g.names), slices.Clone(g.netmasks)})
	}
	return out
}

// AuthGroups lists them with their secrets. deleted are those of the auth file that were deleted since.
func (t *Target) AuthGroups() (groups []AuthGroup, deleted []int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range t.secrets {
		groups = append(groups, AuthGroup{g.tag, slices.Clone(g.secrets), g.fromFile})
	}
	return groups, slices.Clone(t.deleted)
}

// NodeInfo describes a target node.
type NodeInfo struct {
	NodeOptions
	Number    int
	Redirects []Redirect
	Histogram bool // it is on
}

// Redirect is where logins by a portal group are sent.
type Redirect struct {
	PortalGroup int
	To          Portal
}

// Nodes lists them, in the order in which they were made.
func (t *Target) Nodes() []NodeInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []NodeInfo
	for _, n := range t.nodes {
		if n.deleting {
			continue
		}
		i := NodeInfo{
			NodeOptions: NodeOptions{Name: n.name, Alias: n.alias, QueueDepth: n.queueDepth, Auth: n.auth, HeaderDigest: n.header, DataDigest: n.data},
			Number:      n.number, Histogram: n.latency != nil,
		}
		for _, m := range n.maps {
			i.Maps = append(i.Maps, Map{m.portals.tag, m.initiators.tag})
		}
		for _, g := range t.portals {
			if to, ok := n.redirects[g]; ok {
				i.Redirects = append(i.Redirects, Redirect{g.tag, to})
			}
		}
		for lun, u := range n.units {
			if u != nil {
				i.LUNs = append(i.LUNs, LUNOptions{u.BdevName, lun})
			}
		}
		out = append(out, i)
	}
	return out
}

// Node finds a node by its name, with or without the base.
func (t *Target) Node(name string) (NodeInfo, error) {
	t.mu.Lock()
	n, err := t.findNode(name)
	t.mu.Unlock()
	if err != nil {
		return NodeInfo{}, err
	}
	for _, i := range t.Nodes() {
		if i.Name == n.name {
			return i, nil
		}
	}
	return NodeInfo{}, fmt.Errorf("target node %s: %w", n.name, ErrNotFound)
}
