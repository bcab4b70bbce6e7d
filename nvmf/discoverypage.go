package nvmf

import (
	"encoding/binary"
	"fmt"
)

// This file is log page 70h, "Discovery". Base Specification 2.0, "Discovery Log Page": a header of 1024 bytes, GENCTR@0
// NUMREC@8 RECFMT@16, and entries of 1024 bytes, whose fields stand in DiscoveryEntry.layout. A host reads it in pieces,
// and from the start again when GENCTR has moved.

// Sizes on the wire, in bytes.
const (
	DiscoveryHeaderBytes = 1024
	DiscoveryEntryBytes  = 1024
)

// TRTYPE is the type of a transport.
type TRTYPE uint8

// The transports.
const (
	TransportRDMA TRTYPE = 1
	TransportFC   TRTYPE = 2
	TransportTCP  TRTYPE = 3
)

// String gives the name of the transport as it stands in RPCs.
func (t TRTYPE) String() string {
	switch t {
	case TransportRDMA:
		return "RDMA"
	case TransportFC:
		return "FC"
	case TransportTCP:
		return "TCP"
	}
	return fmt.Sprintf("transport type %d", uint8(t))
}

// ADRFAM is the family of an address.
type ADRFAM uint8

// The families.
const (
	AddressIPv4 ADRFAM = 1
	AddressIPv6 ADRFAM = 2
)

// String gives the name of the family as it stands in RPCs.
func (a ADRFAM) String() string {
	switch a {
	case AddressIPv4:
		return "IPv4"
	case AddressIPv6:
		return "IPv6"
	}
	return fmt.Sprintf("address family %d", uint8(a))
}

// SUBTYPE says what a discovery entry leads to.
type SUBTYPE uint8

// The subsystem types.
const (
	SubsystemReferral  SUBTYPE = 1 // another discovery service
	SubsystemNVMe      SUBTYPE = 2
	SubsystemDiscovery SUBTYPE = 3 // this discovery service
)

// The bits of DiscoveryEntry.
const (
	TREQSecure    uint8 = 1 << 0 // a secure channel is required
	TREQNotSecure uint8 = 2 << 0 // and here not
	TREQNoSQFlow  uint8 = 1 << 2 // SQ flow control can be given up

	EFLAGSDuplicate  uint16 = 1 << 0 // DUPRETINFO: another entry leads to the same place
	EFLAGSPersistent uint16 = 1 << 1 // EPCSD: the connection may be kept

	QPTypeConnected uint8 = 1 // RDMA_QPTYPE, TSAS 0, of RDMA
	ProviderRoCEv2  uint8 = 4 // RDMA_PRTYPE, TSAS 1
	ManagerRDMACM   uint8 = 1 // RDMA_CMS, TSAS 2

	SecurityNone  uint8 = 0 // SECTYPE, TSAS 0, of TCP
	SecurityTLS13 uint8 = 2
)

// tsasRoCE is how a host reaches us over RDMA. RDMA Transport Specification 1.0, "Transport Specific Address Subtype".
var tsasRoCE = [3]uint8{QPTypeConnected, ProviderRoCEv2, ManagerRDMACM}

// DiscoveryEntry is an entry of the page.
type DiscoveryEntry struct {
	TRTYPE  TRTYPE
	ADRFAM  ADRFAM
	SUBTYPE SUBTYPE
	TREQ    uint8
	PORTID  uint16
	CNTLID  CNTLID
	ASQSZ   uint16
	EFLAGS  uint16
	TRSVCID string // at most 32 bytes of ASCII
	SUBNQN  string
	TRADDR  string // at most 256 bytes of ASCII
	TSAS    [3]uint8
}

func (e *DiscoveryEntry) layout(l layout) {
	l.u8(0, (*uint8)(&e.TRTYPE))
	l.u8(1, (*uint8)(&e.ADRFAM))
	l.u8(2, (*uint8)(&e.SUBTYPE))
	l.u8(3, &e.TREQ)
	l.u16(4, &e.PORTID)
	l.u16(6, (*uint16)(&e.CNTLID))
	l.u16(8, &e.ASQSZ)
	l.u16(10, &e.EFLAGS)
	l.text(32, 32, &e.TRSVCID)
	l.nqn(256, &e.SUBNQN)
	l.text(512, 256, &e.TRADDR)
	l.bytes(768, e.TSAS[:]) // TCP: SECTYPE; RDMA: queue pair type, provider, connection management
}

// AppendTo appends the entry to b.
func (e DiscoveryEntry) AppendTo(b []byte) []byte {
	b, page := grow(b, DiscoveryEntryBytes)
	e.layout(layout{page, false})
	return b
}

// DecodeDiscoveryEntry reads the entry in b; ok is false if b is too short for one.
func DecodeDiscoveryEntry(b []byte) (e DiscoveryEntry, ok bool) {
	if len(b) < DiscoveryEntryBytes {
		return e, false
	}
	e.layout(layout{b, true})
	return e, true
}

// DiscoveryHeader is the head of the page.
type DiscoveryHeader struct {
	GENCTR uint64 // moves with every change that the host could see
	NUMREC uint64 // entries
}

// AppendTo appends the header to b.
func (h DiscoveryHeader) AppendTo(b []byte) []byte {
	b, page := grow(b, DiscoveryHeaderBytes)
	binary.LittleEndian.PutUint64(page, h.GENCTR)
	binary.LittleEndian.PutUint64(page[8:], h.NUMREC)
	return b
}

// DiscoveryHeaderMin is the part of the header that a host needs.
const DiscoveryHeaderMin = 20

// DecodeDiscoveryHeader reads the header from the first DiscoveryHeaderMin bytes of b, or more.
func DecodeDiscoveryHeader(b []byte) (DiscoveryHeader, error) {
	if len(b) < DiscoveryHeaderMin {
		return DiscoveryHeader{}, fmt.Errorf("discovery log page: %d bytes are less than its header", len(b))
	}
	if f := binary.LittleEndian.Uint16(b[16:]); f != 0 {
		return DiscoveryHeader{}, fmt.Errorf("discovery log page: record format %d, only 0 is known", f)
	}
	return DiscoveryHeader{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}, nil
}
