package iscsi

import (
	"net/netip"
	"strings"
)

// This file is what an initiator may: which targets it may use by which portal groups, which portals it is told of, and how it has to
// prove itself. A target's maps decide, in their order:
//
//	a map by another portal group       is passed over
//	no name of its list is the one      is passed over
//	the first that is, begins with !    refuses; no later map is asked
//	the first that is, address in none  is passed over
//	of the netmasks
//	both                                admits

// admits finds the map by which an initiator may use the target, nil if it may not.
func (n *nodeView) admits(tag int, initiator string, from netip.Addr) *mapView {
	for i := range n.maps {
		m := &n.maps[i]
		if m.group.tag != tag {
			continue
		}
		listed, refused := m.lists(initiator)
		if refused {
			return nil
		}
		if listed && m.allows(from) {
			return m
		}
	}
	return nil
}

// lists looks a name up. The first entry that is it decides.
func (m *mapView) lists(initiator string) (listed, refused bool) {
	for _, entry := range m.initiators {
		name, not := strings.CutPrefix(entry, "!")
		if strings.EqualFold(name, anyWord) || sameName(name, initiator) {
			return !not, not
		}
	}
	return false, false
}

// allows looks an address up.
func (m *mapView) allows(from netip.Addr) bool {
	for _, mask := range m.netmasks {
		if strings.EqualFold(mask, anyWord) {
			return true
		}
		if p, err := parseNetmask(mask); err == nil && p.Contains(from.Unmap().WithZone("")) {
			return true
		}
	}
	return false
}

// sameName compares iSCSI names. RFC 7143 section 4.2.7.2, "iSCSI Name Encoding": what is compared is in lower case already; hosts exist that
// send theirs as it was typed.
func sameName(a, b string) bool { return strings.EqualFold(a, b) }

// find finds a target by its name.
func (v *view) find(name string) *nodeView {
	for _, n := range v.nodes {
		if sameName(n.name, name) {
			return n
		}
	}
	return nil
}

// authOf is the rule for a session of a target, or, with nil, for a discovery session, that came by a portal group.
//
//	discovery   the portal group's, if it has one of its own, or else that of all discovery sessions
//	normal      the target's
func (v *view) authOf(n *nodeView, tag int) Auth {
	if n == nil {
		if g := v.group(tag); g != nil && g.authSet {
			return g.auth
		}
		return v.discovery
	}
	return n.auth
}

// asker is an initiator that asks for targets: who it is, and by which way it came.
type asker struct {
	name          string
	tag           int // of the portal group by which it came
	local, remote netip.AddrPort
}

// reaches lists the portal groups by which the asker may use a target, each once, in the order of the target's maps. A private group is
// told of only to those who came by it.
func (n *nodeView) reaches(a asker) []*groupView {
	var groups []*groupView
next:
	for i := range n.maps {
		g := n.maps[i].group
		if g.private && g.tag != a.tag {
			continue
		}
		for _, o := range groups {
			if o == g {
				continue next
			}
		}
		if n.admits(g.tag, a.name, a.remote.Addr()) != nil {
			groups = append(groups, g)
		}
	}
	return groups
}

// shown gives a portal as the asker can reach it, and false if it cannot. A wildcard is no address that one could connect to: it stands for the
// address to which the asker came.
func (a asker) shown(portal netip.AddrPort) (netip.AddrPort, bool) {
	ip := portal.Addr().Unmap()
	if ip.IsLoopback() && !a.remote.Addr().IsLoopback() && a.remote.Addr() != a.local.Addr() {
		return netip.AddrPort{}, false // of this machine alone
	}
	if !ip.IsUnspecified() {
		return netip.AddrPortFrom(ip.WithZone(""), portal.Port()), true
	}
	local := a.local.Addr().Unmap().WithZone("")
	if !local.IsValid() || local.IsUnspecified() || ip.Is4() && !local.Is4() {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(local, portal.Port()), true
}
