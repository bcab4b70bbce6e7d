package nvmf

import (
	"encoding/binary"
	"fmt"
)

// This file is what the two sides of an NVMe/RDMA connection tell each other in the private data of the connection manager, and how a
// controller judges what a host asks for. NVM Express RDMA Transport Specification 1.0, "Setup & Initialization" and "Fabric Dependent
// Settings".
//
//	     request 32           accept 32          reject 4
//	 0   RECFMT 2, 0          RECFMT 2, 0        RECFMT 2, 0
//	 2   QID 2                CRQSIZE 2          STS 2
//	 4   HRQSIZE 2            reserved
//	 6   HSQSIZE 2, 0-based
//	 8   CNTLID 2
//	10   reserved
//
// A connection manager may give more bytes than the peer sent, zeros at the end.

// Sizes of the private data, in bytes.
const (
	RDMARequestBytes = 32
	RDMAAcceptBytes  = 32
	RDMARejectBytes  = 4
)

// RDMARequest is what a host says when it asks for a connection.
type RDMARequest struct {
	QID     QID
	HRQSIZE uint16 // receives that the host posts
	HSQSIZE uint16 // entries of its submission queue, less one
	CNTLID  CNTLID // of an I/O queue; hosts from before it was defined send 0
}

// AppendTo appends the request to b.
func (r RDMARequest) AppendTo(b []byte) []byte {
	b, p := grow(b, RDMARequestBytes)
	binary.LittleEndian.PutUint16(p[2:], uint16(r.QID))
	binary.LittleEndian.PutUint16(p[4:], r.HRQSIZE)
	binary.LittleEndian.PutUint16(p[6:], r.HSQSIZE)
	binary.LittleEndian.PutUint16(p[8:], uint16(r.CNTLID))
	return b
}

// DecodeRDMARequest reads the request in b; a reason other than 0 says what it is refused for.
func DecodeRDMARequest(b []byte) (r RDMARequest, why RDMAReason) {
	switch {
	case len(b) < RDMARequestBytes:
		return r, RDMALength
	case binary.LittleEndian.Uint16(b) != 0:
		return r, RDMAFormat
	}
	return RDMARequest{
		QID:     QID(binary.LittleEndian.Uint16(b[2:])),
		HRQSIZE: binary.LittleEndian.Uint16(b[4:]),
		HSQSIZE: binary.LittleEndian.Uint16(b[6:]),
		CNTLID:  CNTLID(binary.LittleEndian.Uint16(b[8:])),
	}, 0
}

// RDMAAccept is what a controller says when it takes the connection.
type RDMAAccept struct {
	CRQSIZE uint16 // receives that it posts
}

// AppendTo appends it to b.
func (a RDMAAccept) AppendTo(b []byte) []byte {
	b, p := grow(b, RDMAAcceptBytes)
	binary.LittleEndian.PutUint16(p[2:], a.CRQSIZE)
	return b
}

// DecodeRDMAAccept reads it; ok is false if b is too short for one or has a format that is not known.
func DecodeRDMAAccept(b []byte) (a RDMAAccept, ok bool) {
	if len(b) < 4 || binary.LittleEndian.Uint16(b) != 0 {
		return a, false
	}
	return RDMAAccept{CRQSIZE: binary.LittleEndian.Uint16(b[2:])}, true
}

// RDMAReason is STS of a rejection.
type RDMAReason uint16

// The reasons.
const (
	RDMALength      RDMAReason = 1 // of the private data
	RDMAFormat      RDMAReason = 2 // RECFMT
	RDMAQID         RDMAReason = 3
	RDMAHSQSIZE     RDMAReason = 4
	RDMAHRQSIZE     RDMAReason = 5
	RDMANoResources RDMAReason = 6
	RDMAIRD         RDMAReason = 7
	RDMAORD         RDMAReason = 8
	RDMACNTLID      RDMAReason = 9
)

var rdmaReasonNames = [...]string{
	RDMALength: "invalid private data length", RDMAFormat: "invalid record format", RDMAQID: "invalid queue id", RDMAHSQSIZE: "invalid host submission queue size",
	RDMAHRQSIZE: "invalid host receive queue size", RDMANoResources: "no resources", RDMAIRD: "invalid IRD", RDMAORD: "invalid ORD", RDMACNTLID: "invalid controller id",
}

// String gives the reason.
func (r RDMAReason) String() string {
	if int(r) < len(rdmaReasonNames) && rdmaReasonNames[r] != "" {
		return rdmaReasonNames[r]
	}
	return fmt.Sprintf("reason %d", uint16(r))
}

// AppendReject appends the private data of a rejection to b.
func (r RDMAReason) AppendReject(b []byte) []byte {
	b, p := grow(b, RDMARejectBytes)
	binary.LittleEndian.PutUint16(p[2:], uint16(r))
	return b
}

// DecodeRDMAReject reads them; ok is false if b is too short for that or has a format that is not known.
func DecodeRDMAReject(b []byte) (r RDMAReason, ok bool) {
	if len(b) < RDMARejectBytes || binary.LittleEndian.Uint16(b) != 0 {
		return 0, false
	}
	return RDMAReason(binary.LittleEndian.Uint16(b[2:])), true
}

// rdmaTerms are what a connection is taken with.
type rdmaTerms struct {
	request RDMARequest
	entries uint32 // commands that the host may have open
	reads   int    // RDMA READs that may be in flight
}

// judgeRDMA judges what a host asks for: private is its request, ird the RDMA READs that it answers at once, depthMax and readsMax what the card
// can do for a queue.
func (o *TransportOptions) judgeRDMA(private []byte, ird, depthMax, readsMax int) (t rdmaTerms, why RDMAReason) {
	r, why := DecodeRDMARequest(private)
	if why != 0 {
		return t, why
	}
	switch {
	case uint32(r.QID) > o.MaxQueues:
		return t, RDMAQID
	case r.HSQSIZE == 0: // a queue has two entries at least
		return t, RDMAHSQSIZE
	case r.HRQSIZE < 2: // each command needs a receive for its response
		return t, RDMAHRQSIZE
	case ird == 0: // data of a write could not be fetched
		return t, RDMAIRD
	case r.QID > 0 && r.CNTLID > CNTLIDMax:
		return t, RDMACNTLID
	case depthMax < 2 || readsMax < 1:
		return t, RDMANoResources
	}
	entries := min(o.queueEntries(r.QID), uint32(depthMax), uint32(r.HRQSIZE), uint32(r.HSQSIZE)+1)
	return rdmaTerms{request: r, entries: entries, reads: min(ird, readsMax)}, 0
}
