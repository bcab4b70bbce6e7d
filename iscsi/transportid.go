package iscsi

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev/reservation"
)

// This file is the TransportID of an initiator port. SPC-4 section 7.6.4.6, "TransportID for initiator ports using iSCSI":
//
//	0      FORMAT CODE 7:6, PROTOCOL IDENTIFIER 3:0, 5
//	2..3   ADDITIONAL LENGTH: 20 at least, a multiple of 4
//	4..    FORMAT CODE 0: the initiator's name; 1: its name, ",i,0x" and the ISID. It ends in zeros, one at least

const (
	transportISCSI    = 0x05
	transportPort     = 0x40 // FORMAT CODE 1
	transportHead     = 4
	transportNameLeft = 20 // the least ADDITIONAL LENGTH
)

// portMark is between an initiator's name and its ISID.
const portMark = ",i,0x"

// appendTransportID appends the TransportID of an initiator port, or of an initiator.
func appendTransportID(b []byte, name string) []byte {
	n := max(transportNameLeft, (len(name)+4)&^3)
	format := byte(transportISCSI)
	if strings.Contains(name, portMark) {
		format |= transportPort
	}
	b = binary.BigEndian.AppendUint16(append(b, format, 0), uint16(n))
	b = append(b, name...)
	return append(b, make([]byte, n-len(name))...)
}

// initiatorOf is how a registrant is shown to initiators. SPC-4 has no TransportID for NVMe: a host is shown as an iSCSI initiator whose name is an NQN
// made of its HOSTID (NVMe Base Specification 2.0, "NVMe Qualified Names"), which is no name that an iSCSI initiator can have, at no port of the target.
func initiatorOf(id reservation.Identity) string {
	if id.IsNexus() {
		return id.Initiator
	}
	return "nqn.2014-08.org.nvmexpress:uuid:" + uuid.UUID(id.Host).String()
}

// parseTransportID takes the first TransportID of b: the name of an initiator port, or of an initiator if whole is false. at is the byte that is wrong if
// ok is false.
func parseTransportID(b []byte) (name string, whole bool, rest []byte, at int, ok bool) {
	if len(b) < transportHead+transportNameLeft {
		return "", false, nil, 0, false
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	end := bytes.IndexByte(b[transportHead:], 0)
	switch {
	case b[0]&0x0F != transportISCSI || b[0]>>6 > 1:
		return "", false, nil, 0, false
	case n < transportNameLeft || n%4 != 0 || n > len(b)-transportHead:
		return "", false, nil, 2, false
	case end <= 0 || end >= n:
		return "", false, nil, transportHead, false
	}
	name, rest = string(b[transportHead:transportHead+end]), b[transportHead+n:]
	port := ""
	if b[0]>>6 == 1 {
		var marked bool
		name, port, marked = strings.Cut(name, portMark)
		isid, err := strconv.ParseUint(port, 16, 48)
		if !marked || err != nil || len(port) > 12 {
			return "", false, nil, transportHead, false
		}
		port = fmt.Sprintf("%s%012x", portMark, isid)
	}
	name, err := NormalName(name)
	if err != nil {
		return "", false, nil, transportHead, false
	}
	return name + port, port != "", rest, 0, true
}
