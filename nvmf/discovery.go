package nvmf

import (
	"fmt"
	"net/netip"
)

// This file is the discovery service: which subsystems a host may connect to, and where. Base Specification 2.0, "Discovery
// Service" and "Discovery Log Page".

// asqszMin is the smallest Admin queue that a discovery entry may promise. Base Specification 2.0, "Discovery Log Page".
const asqszMin = 32

// Referral names another discovery service.
type Referral struct {
	Address Address
	SUBNQN  string
	Secure  bool
}

// DiscoveryFilter says which listeners a host is told of, by the address that it came to. SPDK's discovery_filters.
type DiscoveryFilter uint8

// The filters; none is SPDK's match_any.
const (
	MatchTransport DiscoveryFilter = 1 << iota // only those of the same transport
	MatchAddress                               // only those at the same address
	MatchService                               // only those at the same port
)

// ParseDiscoveryFilters reads their names.
func ParseDiscoveryFilters(names []string) (f DiscoveryFilter, err error) {
	for _, n := range names {
		switch n {
		case "match_any":
			if len(names) > 1 {
				return 0, fmt.Errorf("discovery filter match_any stands alone, not beside others")
			}
		case "transport":
			f |= MatchTransport
		case "address":
			f |= MatchAddress
		case "svcid":
			f |= MatchService
		default:
			return 0, fmt.Errorf("no discovery filter %q: choose match_any, or some of transport, address and svcid", n)
		}
	}
	return f, nil
}

// SetDiscoveryFilter changes which listeners hosts are told of.
func (t *Target) SetDiscoveryFilter(f DiscoveryFilter) error {
	_, err := t.alter(DiscoveryNQN, "setting the discovery filter", true, func(*Subsystem) error {
		t.filter = f
		return nil
	})
	return err
}

// discoveryView is what is to be found, whoever asks. It is made on control goroutines and never altered.
type discoveryView struct {
	generation uint64
	subsystems []*subsystemView
	referrals  []Referral
	filter     DiscoveryFilter
	crdt       [3]uint16 // not to be found by hosts, but like the rest the same for all subsystems
}

// discoveryRead is a page that a host reads in pieces: all of them are of one generation, whatever changes meanwhile. The host sees
// that at the end, from GENCTR, and begins again.
type discoveryRead struct {
	generation uint64 // of the page that the host began to read; 0: it began none
	page       []byte // nil where it was read to its end, or there was no room to keep it
}

// discoveryKept bounds the pages that one reactor keeps for hosts between their pieces, in bytes. A host whose page is not kept is
// told to begin again (1/90) if there is another generation by then.
const discoveryKept = 4 << 20

// readDiscovery gives the page of which a host wants a piece.
func (k *controller) readDiscovery(p LogPage) ([]byte, Status) {
	now, d := k.share.pg.discovery.generation, &k.found
	if p.Offset == 0 && d.generation != now || d.generation == 0 {
		k.dropDiscovery()
		d.generation = now
	}
	if d.page != nil {
		return d.page, StatusSuccess
	}
	if d.generation != now {
		return nil, StatusDiscoveryRestart
	}
	page := k.share.pg.target.discoveryPage(k)
	if pg := k.share.pg; pg.foundBytes+len(page) <= discoveryKept {
		pg.foundBytes += len(page)
		d.page = page
	}
	return page, StatusSuccess
}

// discoveryGiven hears that a host got a piece: after the last the page is not kept any longer.
func (k *controller) discoveryGiven(p LogPage) {
	if d := &k.found; d.page != nil && p.Offset+p.Bytes >= uint64(len(d.page)) {
		k.dropDiscovery()
	}
}

func (k *controller) dropDiscovery() {
	k.share.pg.foundBytes -= len(k.found.page)
	k.found.page = nil
}

// shownAt gives the address under which a listener is shown to a host: one on a wildcard as the address that the host came to,
// since no other is known to lead here from there. That has to be of the listener's family; but a socket on [::] takes IPv4 too where
// it did for this host.
func (p *portal) shownAt(by *portal, came netip.AddrPort) (netip.Addr, bool) {
	own, to := p.bound.Addr().Unmap(), came.Addr().Unmap().WithZone("")
	switch {
	case !own.IsUnspecified():
		return own, true
	case p.address.TRType == "RDMA" && by.address.TRType != "RDMA": // who knows whether a card has that address
		return own, false
	case !came.IsValid():
		return own, false
	case own.Is4() == to.Is4():
		return to, true
	}
	through := by.bound.Addr()
	return to, own.Is6() && through.Is6() && through.IsUnspecified()
}

// discoveryPage builds the page for one host: what it may connect to.
func (t *Target) discoveryPage(k *controller) []byte {
	v := k.share.pg.discovery
	local, _ := k.aq.t.peer()
	came, _ := netip.ParseAddrPort(local)
	var body []byte
	var n uint64
	add := func(e DiscoveryEntry) {
		body = e.AppendTo(body)
		n++
	}
	for _, s := range v.subsystems {
		if !s.allows(k.host.nqn) {
			continue
		}
		for i := range s.listeners {
			l := s.listeners[i].l
			at, ok := l.port.shownAt(k.aq.port, came)
			if !ok || !v.filter.passes(l, at, k.aq.port, came) {
				continue
			}
			// TREQ leaves the secure channel "not specified": with "not required" beside the other bit, nvme-cli
			// prints "unrecognized".
			e := DiscoveryEntry{
				TRTYPE: l.Address.trtype(), ADRFAM: AddressIPv6, SUBTYPE: SubsystemNVMe, TREQ: TREQNoSQFlow, PORTID: l.id,
				CNTLID: CNTLIDDynamic, ASQSZ: uint16(l.port.limits.MaxAdminDepth), TRSVCID: l.Address.TrSvcID, SUBNQN: s.sub.o.NQN, TRADDR: at.String(),
			}
			if at.Is4() {
				e.ADRFAM = AddressIPv4
			}
			if e.TRTYPE == TransportRDMA {
				e.TSAS = tsasRoCE
			}
			if s.sub.discovery {
				e.SUBTYPE, e.EFLAGS = SubsystemDiscovery, EFLAGSPersistent
			}
			add(e)
		}
	}
	for i, r := range v.referrals {
		e := DiscoveryEntry{
			TRTYPE: r.Address.trtype(), ADRFAM: r.Address.adrfam(), SUBTYPE: SubsystemReferral, TREQ: TREQNotSecure, PORTID: uint16(0xFFFF - i),
			CNTLID: CNTLIDDynamic, ASQSZ: asqszMin, TRSVCID: r.Address.TrSvcID, SUBNQN: r.SUBNQN, TRADDR: r.Address.TrAddr, EFLAGS: EFLAGSPersistent,
		}
		if e.TRTYPE == TransportRDMA {
			e.TSAS = tsasRoCE
		}
		if r.Secure {
			e.TREQ = TREQSecure
			if e.TRTYPE == TransportTCP {
				e.TSAS[0] = SecurityTLS13
			}
		}
		add(e)
	}
	return append(DiscoveryHeader{GENCTR: v.generation, NUMREC: n}.AppendTo(nil), body...)
}

// passes reports whether a host that came to an address of by is told of a listener that it would see at an address.
func (f DiscoveryFilter) passes(l *Listener, at netip.Addr, by *portal, came netip.AddrPort) bool {
	switch {
	case f&MatchTransport != 0 && l.Address.TRType != by.address.TRType,
		f&MatchAddress != 0 && at.WithZone("") != came.Addr().Unmap().WithZone(""),
		f&MatchService != 0 && l.port.bound.Port() != by.bound.Port():
		return false
	}
	return true
}
