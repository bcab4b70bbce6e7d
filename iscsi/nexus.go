package iscsi

import "github.com/pollux-storage/pollux/bdev"

// This file is a session as SCSI sees it: an I_T nexus, and for each logical unit that it reaches an I_T_L nexus.

// nexus is an I_T nexus. It lives on its session's reactor.
type nexus struct {
	node      *nodeView // as this reactor sees the target now
	initiator string    // the initiator port's name
	tag       int       // the target portal group: the target port
	units     []nexusUnit
}

// nexusUnit is one logical unit as one nexus sees it.
type nexusUnit struct {
	unit *Unit         // nil where there is none
	ch   *bdev.Channel // on this reactor

	attentions attentions // unit attentions that it has not been told of

	denyRead, denyWrite bool // by a persistent reservation of another
	registered          bool // with a reservation key
}
