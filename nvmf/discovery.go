package nvmf

import (
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

// discoveryView is what is to be found, whoever asks. It is made on control goroutines and never altered.
type discoveryView struct {
	generation uint64
	subsystems []*subsystemView
	referrals  []Referral
	crdt       [3]uint16 // not to be found by hosts, but like the rest the same for all subsystems
}

// discoveryPage builds the page for one host: what it may connect to. A listener on a wildcard address is shown as the address
// that the host came to, since no other is known to lead here from there.
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
		if !s.allows(k.host.nqn) || t.draining.Load() && !s.sub.discovery {
			continue
		}
		for i := range s.listeners {
			l := s.listeners[i].l
			// TREQ leaves the secure channel "not specified": with "not required" beside the other bit, nvme-cli
			// prints "unrecognized".
			e := DiscoveryEntry{
				TRTYPE: l.Address.trtype(), ADRFAM: l.Address.adrfam(), SUBTYPE: SubsystemNVMe, TREQ: TREQNoSQFlow, PORTID: l.id,
				CNTLID: CNTLIDDynamic, ASQSZ: uint16(t.limits.Load().MaxAdminDepth), TRSVCID: l.Address.TrSvcID, SUBNQN: s.sub.o.NQN, TRADDR: l.Address.TrAddr,
			}
			if s.sub.discovery {
				e.SUBTYPE, e.EFLAGS = SubsystemDiscovery, EFLAGSPersistent
			}
			if ip := l.port.bound.Addr(); ip.IsUnspecified() && came.IsValid() {
				e.TRADDR = came.Addr().String()
			}
			add(e)
		}
	}
	for i, r := range v.referrals {
		e := DiscoveryEntry{
			TRTYPE: r.Address.trtype(), ADRFAM: r.Address.adrfam(), SUBTYPE: SubsystemReferral, TREQ: TREQNotSecure, PORTID: uint16(0xFFFF - i),
			CNTLID: CNTLIDDynamic, ASQSZ: asqszMin, TRSVCID: r.Address.TrSvcID, SUBNQN: r.SUBNQN, TRADDR: r.Address.TrAddr, EFLAGS: EFLAGSPersistent,
		}
		if r.Secure {
			e.TREQ, e.TSAS[0] = TREQSecure, SecurityTLS13
		}
		add(e)
	}
	return append(DiscoveryHeader{GENCTR: v.generation, NUMREC: n}.AppendTo(nil), body...)
}
