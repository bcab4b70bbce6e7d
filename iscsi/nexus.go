package iscsi

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is a session as SCSI sees it: an I_T nexus, and for each logical unit that it reaches an I_T_L nexus.

// nexus is an I_T nexus. It lives on its session's reactor.
type nexus struct {
	node      *nodeView // as this reactor sees the target now
	initiator string    // the initiator port's name
	tag       int       // the target portal group: the target port
	units     []*nexusUnit
}

// nexusUnit is one logical unit as one nexus sees it.
type nexusUnit struct {
	unit *Unit
	ch   *bdev.Channel // on this reactor
	here *unitShare    // likewise: counts the commands

	attentions attentions // unit attentions that it has not been told of

	denyRead, denyWrite bool // by a persistent reservation of another
	registered          bool // with a reservation key
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
	n.node = v
	units := make([]*nexusUnit, len(v.units))
	for lun, u := range v.units {
		if u == nil {
			continue
		}
		if lun < len(n.units) && n.units[lun] != nil && n.units[lun].unit == u {
			units[lun] = n.units[lun]
			continue
		}
		units[lun] = &nexusUnit{unit: u, ch: u.channels[r.Index()], here: u.shares[r.Index()]}
	}
	n.units = units
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
			u.attentions.raise(attentionReset)
		}
	}
}
