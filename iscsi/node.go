package iscsi

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/pollux-storage/pollux/bdev"
)

// This file is target nodes: a name, logical units, and maps that say which initiators reach it by which portals.

// Node is a target node. What is below mu is changed under the target's lock and copied into views.
type Node struct {
	target *Target
	name   string // as names are compared
	alias  string
	number int // counts nodes from 0 on, for scsi_get_devices
	owner  int // index of the reactor that knows its sessions by their names
	header bool
	data   bool

	queueDepth int
	auth       Auth
	maps       []nodeMap
	redirects  map[*portalGroup]Portal // to which logins by that group are sent
	units      []*Unit                 // by LUN, nil where there is none
	latency    *latencies              // nil: none are kept
	deleting   bool                    // nothing is added any more, and nobody may log in
}

// nodeMap lets the initiators of a group reach the node by a portal group.
type nodeMap struct {
	portals    *portalGroup
	initiators *initiatorGroup
}

// Map names the groups of a map.
type Map struct{ PortalGroup, InitiatorGroup int }

// LUNOptions name a device and its number. A LUN of -1 is the lowest free one.
type LUNOptions struct {
	BdevName string
	LUN      int
}

// NodeOptions describe a node at its creation.
type NodeOptions struct {
	Name         string
	Alias        string
	Maps         []Map
	LUNs         []LUNOptions
	QueueDepth   int // 0, and more than the options allow, is what they allow
	Auth         Auth
	HeaderDigest bool // initiators must use them
	DataDigest   bool
}

// Most nodes, and maps of a node.
const (
	nodesMax    = 4096
	nodeMapsMax = 256
)

// CreateNode makes a target node. Its devices are open before initiators can see it.
func (t *Target) CreateNode(ctx context.Context, o NodeOptions) error {
	t.mu.Lock()
	name, err := fullName(t.options.NodeBase, o.Name)
	t.mu.Unlock()
	what := fmt.Sprintf("creating target node %.300s", o.Name)
	if err == nil {
		err = o.Auth.check()
	}
	if err == nil && (checkValue("TargetAlias", o.Alias) != nil || len(o.Alias) > valueBytesMax) {
		err = fmt.Errorf("alias_name: %w: at most 255 bytes of UTF-8 without control characters", ErrInvalid) // RFC 7143 section 6.1, "Text Format"
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	n := &Node{target: t, name: name, alias: o.Alias, auth: o.Auth, header: o.HeaderDigest, data: o.DataDigest, redirects: map[*portalGroup]Portal{}}
	var units []*Unit
	for _, l := range o.LUNs {
		u, e := t.openUnit(n, l.BdevName)
		if err = e; err != nil {
			break
		}
		units = append(units, u)
	}
	if err == nil {
		err = t.enlist(n, &o, units)
	}
	if err == nil {
		err = t.publish()
	}
	if err != nil {
		t.mu.Lock()
		t.nodes = slices.DeleteFunc(t.nodes, func(x *Node) bool { return x == n })
		n.take()
		t.mu.Unlock()
		return errors.Join(fmt.Errorf("%s: %w", what, err), t.withdraw(ctx, units))
	}
	return nil
}

// enlist puts a new node among the others.
func (t *Target) enlist(n *Node, o *NodeOptions, units []*Unit) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.stopping.Load():
		return fmt.Errorf("%w: the target is being stopped", ErrInvalid)
	case slices.ContainsFunc(t.nodes, func(x *Node) bool { return x.name == n.name }):
		return fmt.Errorf("it %w", ErrExists)
	case len(t.nodes) >= nodesMax:
		return fmt.Errorf("%w: there are %d already", ErrInvalid, nodesMax)
	}
	for _, m := range o.Maps {
		if err := n.addMap(m); err != nil {
			return err
		}
	}
	for i, u := range units {
		if err := n.place(u, o.LUNs[i].LUN); err != nil {
			return err
		}
	}
	if n.queueDepth = o.QueueDepth; o.QueueDepth <= 0 || o.QueueDepth > t.options.MaxQueueDepth {
		n.queueDepth = t.options.MaxQueueDepth
	}
	n.number, n.owner = t.nextNode, t.nextNode%t.group.Len()
	t.nextNode++
	t.nodes = append(t.nodes, n)
	return nil
}

// addMap adds a map. The lock is held.
func (n *Node) addMap(m Map) error {
	pg, err := n.target.findPortalGroup(m.PortalGroup)
	if err != nil {
		return err
	}
	ig, err := n.target.findInitiatorGroup(m.InitiatorGroup)
	if err != nil {
		return err
	}
	switch {
	case slices.Contains(n.maps, nodeMap{pg, ig}):
		return fmt.Errorf("the map of portal group %d and initiator group %d: it %w", pg.tag, ig.tag, ErrExists)
	case len(n.maps) >= nodeMapsMax:
		return fmt.Errorf("%w: a node has at most %d maps", ErrInvalid, nodeMapsMax)
	}
	n.maps = append(n.maps, nodeMap{pg, ig})
	return nil
}

// unmap takes out the maps that match, and the redirections of groups by which the node is not reached any more. The lock is held.
func (n *Node) unmap(match func(m nodeMap) bool) {
	n.maps = slices.DeleteFunc(slices.Clone(n.maps), match)
	for pg := range n.redirects {
		if !slices.ContainsFunc(n.maps, func(m nodeMap) bool { return m.portals == pg }) {
			delete(n.redirects, pg)
		}
	}
}

// node finds a node by its name, with or without the base. The lock is held.
func (t *Target) findNode(name string) (*Node, error) {
	full, err := fullName(t.options.NodeBase, name)
	if err == nil {
		for _, n := range t.nodes {
			if n.name == full && !n.deleting {
				return n, nil
			}
		}
	}
	return nil, fmt.Errorf("target node %.300q: %w; iscsi_get_target_nodes lists those there are", name, ErrNotFound)
}

// alterNode changes a node under the lock and publishes it.
func (t *Target) alterNode(name, what string, f func(n *Node) error) error {
	return t.alter(fmt.Sprintf("%s, target node %.300s", what, name), func() error {
		n, err := t.findNode(name)
		if err != nil {
			return err
		}
		return f(n)
	})
}

// DeleteNode ends a node: nobody may log in any more, its initiators are asked to log out, its sessions end, and its devices are given back.
func (t *Target) DeleteNode(ctx context.Context, name string) error {
	what := fmt.Sprintf("deleting target node %.300s", name)
	var n *Node
	err := t.alter(what, func() (err error) {
		if n, err = t.findNode(name); err == nil {
			n.deleting = true
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := t.evict(ctx, func(s *session) bool { return s.node == n }, func(int) {}); err != nil {
		t.mu.Lock()
		n.deleting = false // it can be tried again, and serves until then
		t.mu.Unlock()
		return errors.Join(fmt.Errorf("%s: %w", what, err), t.publish())
	}
	t.mu.Lock()
	t.nodes = slices.DeleteFunc(t.nodes, func(o *Node) bool { return o == n })
	units := n.take()
	t.mu.Unlock()
	if err := t.withdraw(ctx, units); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// AddMaps lets initiators reach a node by portal groups: all of the maps, or none.
func (t *Target) AddMaps(name string, maps []Map) error {
	return t.alterNode(name, "adding maps", func(n *Node) error {
		before := slices.Clone(n.maps)
		for _, m := range maps {
			if err := n.addMap(m); err != nil {
				n.maps = before
				return err
			}
		}
		return nil
	})
}

// RemoveMaps takes maps away, all of them or none, and ends the sessions that are not allowed any more.
func (t *Target) RemoveMaps(ctx context.Context, name string, maps []Map) error {
	const what = "removing maps"
	err := t.alterNode(name, what, func(n *Node) error {
		for _, m := range maps {
			if !slices.ContainsFunc(n.maps, func(o nodeMap) bool { return o.is(m) }) {
				return fmt.Errorf("the map of portal group %d and initiator group %d: %w", m.PortalGroup, m.InitiatorGroup, ErrNotFound)
			}
		}
		n.unmap(func(o nodeMap) bool { return slices.ContainsFunc(maps, o.is) })
		return nil
	})
	if err == nil {
		if err = t.evictDenied(ctx); err != nil {
			err = fmt.Errorf("%s, target node %s: %w", what, name, err)
		}
	}
	return err
}

func (m nodeMap) is(o Map) bool {
	return m.portals.tag == o.PortalGroup && m.initiators.tag == o.InitiatorGroup
}

// SetNodeAuth says how initiators prove themselves to a node. It counts for every login that begins from now on.
func (t *Target) SetNodeAuth(name string, a Auth) error {
	return t.alterNode(name, "setting the authentication", func(n *Node) error {
		if err := a.check(); err != nil {
			return err
		}
		n.auth = a
		return nil
	})
}

// Redirect sends logins to a node by a portal group elsewhere, or no more where host and port are empty. Initiators that are logged in stay
// until they are asked to log out. The address may be of this target, in a private group, or of another one.
func (t *Target) Redirect(name string, tag int, to Portal) error {
	return t.alterNode(name, fmt.Sprintf("redirecting logins by portal group %d", tag), func(n *Node) error {
		pg, err := t.findPortalGroup(tag)
		switch {
		case err != nil:
			return err
		case pg.private:
			return fmt.Errorf("%w: the portal group is private, nobody begins there", ErrInvalid)
		case !slices.ContainsFunc(n.maps, func(m nodeMap) bool { return m.portals == pg }):
			return fmt.Errorf("%w: the node is not reached by it; add a map", ErrInvalid)
		case to == Portal{}:
			delete(n.redirects, pg)
			return nil
		case to.Host == "" || to.Port == "":
			return fmt.Errorf("%w: redirect_host and redirect_port go together", ErrInvalid)
		}
		addr, err := ParsePortal(to)
		switch {
		case err != nil:
			return err
		case addr.Addr().IsUnspecified() || addr.Port() == 0:
			return fmt.Errorf("redirecting to %v: %w: an address and a port that initiators can reach", addr, ErrInvalid)
		case t.ownerOf(addr) == pg:
			return fmt.Errorf("redirecting to %v: %w: it is of the same portal group", addr, ErrInvalid)
		case n.leads(addr, pg):
			return fmt.Errorf("redirecting to %v: %w: from there logins are sent back to portal group %d", addr, ErrInvalid, tag)
		}
		n.redirects[pg] = portalOf(addr)
		return nil
	})
}

// leads reports whether a login at an address is sent on until it comes by a portal group. The lock is held.
func (n *Node) leads(at netip.AddrPort, to *portalGroup) bool {
	for range n.redirects { // none leads in a circle, so there are no more steps
		g := n.target.ownerOf(at)
		if g == nil || g == to {
			return g == to
		}
		next, ok := n.redirects[g]
		if !ok {
			return false
		}
		at, _ = ParsePortal(next)
	}
	return n.target.ownerOf(at) == to
}

// RequestLogout asks the initiators of a node, by a portal group or by all with -1, to log out.
func (t *Target) RequestLogout(name string, tag int) error {
	t.mu.Lock()
	n, err := t.findNode(name)
	if err == nil && tag != -1 {
		_, err = t.findPortalGroup(tag)
	}
	t.mu.Unlock()
	if err == nil {
		_, err = t.ask(func(s *session) bool { return s.node == n && (tag == -1 || s.params.Tag == tag) })
	}
	if err != nil {
		return fmt.Errorf("asking the initiators of target node %.300s to log out: %w", name, err)
	}
	return nil
}

// AddLUN lets a node serve a device, and gives the number of it. Initiators hear that the list of units has changed.
func (t *Target) AddLUN(ctx context.Context, name string, o LUNOptions) (int, error) {
	what := fmt.Sprintf("adding device %s", o.BdevName)
	t.mu.Lock()
	n, err := t.findNode(name)
	t.mu.Unlock()
	var u *Unit
	if err == nil {
		u, err = t.openUnit(n, o.BdevName)
	}
	if err != nil {
		return 0, fmt.Errorf("%s, target node %.300s: %w", what, name, err)
	}
	err = t.alterNode(name, what, func(now *Node) error {
		if now != n {
			return fmt.Errorf("target node %.300q: %w", name, ErrNotFound)
		}
		return n.place(u, o.LUN)
	})
	if err != nil {
		return 0, errors.Join(err, t.withdraw(ctx, []*Unit{u}))
	}
	return u.LUN, nil
}

// RemoveLUN takes a device away. Commands in flight on it end first; new ones find no unit.
func (t *Target) RemoveLUN(ctx context.Context, name string, lun int) error {
	t.mu.Lock()
	n, err := t.findNode(name)
	var u *Unit
	if err == nil {
		if lun < 0 || lun >= len(n.units) || n.units[lun] == nil {
			err = fmt.Errorf("LUN %d: %w", lun, ErrNotFound)
		} else {
			u, n.units[lun] = n.units[lun], nil
		}
	}
	t.mu.Unlock()
	if err == nil {
		err = t.withdraw(ctx, []*Unit{u})
	}
	if err != nil {
		return fmt.Errorf("removing LUN %d, target node %.300s: %w", lun, name, err)
	}
	return nil
}

// deviceEvent follows what happens to a unit's device.
func (t *Target) deviceEvent(u *Unit, e bdev.Event) {
	switch e.Kind {
	case bdev.Removing:
		t.mu.Lock()
		u.gone = true
		found := u.LUN >= 0 && u.LUN < len(u.Node.units) && u.Node.units[u.LUN] == u
		if found {
			u.Node.units[u.LUN] = nil
		}
		t.mu.Unlock()
		if found {
			t.log.Warn("a logical unit goes, its device is being removed", "node", u.Node.name, "lun", strconv.Itoa(u.LUN), "device", u.BdevName)
			if err := t.withdraw(context.Background(), []*Unit{u}); err != nil {
				t.log.Error("a logical unit could not be withdrawn", "error", err)
			}
		}
	case bdev.Resized:
		t.resized(u)
	case bdev.LowSpace:
		u.lowSpace()
	}
}
