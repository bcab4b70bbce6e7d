package iscsi

import "fmt"

// This file is what a login agrees on.

// ISID is the initiator's part of a session's identifier. RFC 7143 section 11.12.5.
type ISID [6]byte

// TSIH is the target's part of it: 0 names none. RFC 7143 section 11.12.6.
type TSIH uint16

// CID is a connection of a session.
type CID uint16

// Digests are those in use on a connection.
type Digests uint8

// The digests, both CRC32C.
const (
	HeaderDigests Digests = 1 << iota
	DataDigests
)

// Params are what a login has agreed on. Lengths in bytes. RFC 7143 section 13.
type Params struct {
	InitiatorName  string
	InitiatorAlias string
	TargetName     string // "" in a discovery session
	Tag            int    // the portal group by which it came
	ISID           ISID
	TSIH           TSIH
	CID            CID
	Discovery      bool
	User           string // CHAP_N, "" if the initiator had not to prove itself

	Digests           Digests
	SendBytesMax      uint32 // MaxRecvDataSegmentLength of the initiator
	RecvBytesMax      uint32 // ours
	MaxBurst          uint32
	FirstBurst        uint32
	InitialR2T        bool
	ImmediateData     bool
	MaxOutstandingR2T uint32
}

// InitiatorPort is the name of the initiator port: the I of the nexus. RFC 7143 section 4.4.2, "SCSI Architecture Model": the initiator's name,
// ",i,0x" and the ISID.
func (p *Params) InitiatorPort() string {
	return fmt.Sprintf("%s,i,0x%012x", p.InitiatorName, p.ISID[:])
}

// TargetPort is the name of the target port: the T.
func (p *Params) TargetPort() string { return TargetPort(p.TargetName, p.Tag) }

// TargetPort is the name of a node's port in a portal group: its name, ",t,0x" and the tag.
func TargetPort(node string, tag int) string { return fmt.Sprintf("%s,t,0x%04x", node, tag) }
