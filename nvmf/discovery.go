package nvmf

import (
	"net/netip"
)

// This file is the discovery service: which subsystems a host may connect to, and where. Base Specification 2.0, "Discovery
// Service" and "Discovery Log Page".

// discoveryEntries lists what is to be found, whoever asks. It is made on control goroutines and never altered.
type discoveryView struct {
	generation uint64
	subsystems []*subsystemView
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
		if _, ok := s.host(k.host.nqn); !ok {
			continue
		}
		for i := range s.listeners {
			l := s.listeners[i].l
			e := DiscoveryEntry{
				TRTYPE: TransportTCP, ADRFAM: AddressIPv4, SUBTYPE: SubsystemNVMe, TREQ: TREQNotSecure | TREQNoSQFlow, PORTID: l.id,
				CNTLID: CNTLIDDynamic, ASQSZ: uint16(t.limits.Load().MaxAdminDepth), TRSVCID: l.Address.TrSvcID, SUBNQN: s.sub.o.NQN, TRADDR: l.Address.TrAddr,
			}
			if s.sub.discovery {
				e.SUBTYPE, e.EFLAGS = SubsystemDiscovery, EFLAGSPersistent
			}
			if ip := l.port.bound.Addr(); ip.IsUnspecified() && came.IsValid() {
				e.TRADDR = came.Addr().String()
			}
			if l.Address.AdrFam == "IPv6" {
				e.ADRFAM = AddressIPv6
			}
			add(e)
		}
	}
	return append(DiscoveryHeader{GENCTR: v.generation, NUMREC: n}.AppendTo(nil), body...)
}
