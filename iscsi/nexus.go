package iscsi

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/reservation"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is a session as SCSI sees it: an I_T nexus, and for each logical unit that it reaches an I_T_L nexus.

// nexus is an I_T nexus. It lives on its session's reactor.
type nexus struct {
	node      *nodeView   // as this reactor sees the target now
	initiator string      // the initiator port's name
	tag       int         // the target portal group: the target port
	state     accessState // of that
	identity  reservation.Identity
	r         *reactor.Reactor
	units     []*nexusUnit
}

// nexusUnit is one logical unit as one nexus sees it.
type nexusUnit struct {
	unit *Unit
	ch   *bdev.Channel // on this reactor
	here *unitShare    // likewise: counts the commands

	attentions attentions // unit attentions that it has not been told of

	denyRead, denyWrite bool // by a persistent reservation of another

	held  *reservation.Hold   // another's RESERVE, nil or ended without one
	holds []*reservation.Hold // its own, those that are being made too

	copies []copyRecord // the last ones of which it may ask, the oldest first
}

// begin makes the nexus of a session that begins.
func (n *nexus) begin(v *nodeView, p *Params, r *reactor.Reactor) {
	n.initiator, n.tag = p.InitiatorPort(), p.Tag
	n.install(v, r)
}

// install takes a new view of the node over; nil when the node is gone, and the session is about to end.
func (n *nexus) install(v *nodeView, r *reactor.Reactor) {
	if v == nil {
		return
	}
	first := n.node == nil
	n.node, n.r, n.identity = v, r, reservation.Nexus(n.initiator, TargetPort(v.name, n.tag))
	n.setState(v.states[n.tag])
	units := make([]*nexusUnit, len(v.units))
	changed := false
	for lun, u := range v.units {
		var old *nexusUnit
		if lun < len(n.units) {
			old = n.units[lun]
		}
		switch {
		case u == nil:
			changed = changed || old != nil
			continue
		case old != nil && old.unit == u:
			units[lun] = old
			continue
		}
		changed = true
		units[lun] = &nexusUnit{unit: u, ch: u.channels[r.Index()], here: u.shares[r.Index()]}
		units[lun].attentions.begin(u)
		units[lun].reserved(n.identity)
	}
	changed = changed || len(n.units) > len(units)
	n.units = units
	if changed && !first {
		n.raise(attentionLUNs)
	}
}

// setState takes the state of the port over. SPC-4, "Transitions between target port asymmetric access states": initiators are told when it has changed.
func (n *nexus) setState(s accessState) {
	if n.state != s {
		n.state = s
		n.raise(attentionALUA)
	}
}

// raise notes a unit attention on every unit.
func (n *nexus) raise(what attention) {
	for _, u := range n.units {
		if u != nil {
			u.attentions.raise(what)
		}
	}
}

// find gives the unit of a LUN, nil if there is none. SAM-5 section 4.7.3: a LUN of one level, by peripheral device or flat space addressing.
func (n *nexus) find(l LUN) *nexusUnit {
	i, ok := l.index()
	if !ok || i >= len(n.units) {
		return nil
	}
	return n.units[i]
}

// index gives the number of a LUN of one level.
func (l LUN) index() (int, bool) {
	if l<<16 != 0 {
		return 0, false
	}
	switch v := int(l >> 48); v >> 14 {
	case 0: // peripheral device addressing: bus identifier 0 alone
		return v & 0xff, v>>8 == 0
	case 1: // flat space addressing
		return v & 0x3fff, true
	}
	return 0, false
}

// reset tells the nexus that a unit was reset; nil is all of them.
func (n *nexus) reset(unit *Unit) {
	for _, u := range n.units {
		if u != nil && (unit == nil || u.unit == unit) {
			u.unit.modes.set(^uint32(0), 0) // SPC-4 section 5.7, "Mode parameters": the current values are the default ones again
			u.attentions.raise(attentionReset)
			u.letGo()
		}
	}
}
