package nvmf

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// This file is the addresses at which hosts reach a subsystem.

// Listener is a subsystem's address.
type Listener struct {
	Address Address
	port    *portal
	id      uint16
	ana     []ANAState // by group, 1-based; under the target's lock, copied into views
}

// AddListener lets hosts reach a subsystem at an address.
func (t *Target) AddListener(nqn string, a Address, state ANAState) error {
	a, bound, err := t.parseAddress(a)
	if err != nil {
		return fmt.Errorf("adding listener %v to subsystem %s: %w", a, nqn, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s, err := t.find(nqn)
	if err == nil && slices.ContainsFunc(s.listeners, func(l *Listener) bool { return l.Address == a }) {
		err = fmt.Errorf("it %w", ErrExists)
	}
	if err == nil && s.deleting {
		err = fmt.Errorf("it is being deleted: %w", ErrNotFound)
	}
	if err == nil && t.transports[a.TRType] == nil {
		err = fmt.Errorf("transport %s: %w: create it first (nvmf_create_transport)", a.TRType, ErrNotFound)
	}
	var p *portal
	if err == nil {
		p, err = t.openPortal(a, bound)
	}
	if err != nil {
		return fmt.Errorf("adding listener %v to subsystem %s: %w", a, nqn, err)
	}
	l := &Listener{Address: a, port: p, id: p.id, ana: make([]ANAState, s.o.MaxNamespaces+1)}
	for i := range l.ana {
		l.ana[i] = state
	}
	s.listeners = append(s.listeners, l)
	t.mu.Unlock()
	err = t.publish(s, true)
	t.mu.Lock()
	return err
}

// parseAddress completes and checks an address.
func (t *Target) parseAddress(a Address) (Address, netip.AddrPort, error) {
	a.TRType = strings.ToUpper(a.TRType)
	if a.TrSvcID == "" {
		a.TrSvcID = "4420"
	}
	port, err := strconv.ParseUint(a.TrSvcID, 10, 16)
	if err != nil {
		return a, netip.AddrPort{}, fmt.Errorf("trsvcid %q: %w: a port number", a.TrSvcID, ErrInvalid)
	}
	ip, err := netip.ParseAddr(a.TrAddr)
	if err != nil {
		return a, netip.AddrPort{}, fmt.Errorf("traddr %q: %w: an IPv4 or IPv6 address of this machine", a.TrAddr, ErrInvalid)
	}
	family := "IPv6"
	if ip.Is4() {
		family = "IPv4"
	}
	if a.AdrFam == "" {
		a.AdrFam = family
	}
	if !strings.EqualFold(a.AdrFam, family) {
		return a, netip.AddrPort{}, fmt.Errorf("adrfam %s: %w: %s is %s", a.AdrFam, ErrInvalid, a.TrAddr, family)
	}
	a.AdrFam = family
	return a, netip.AddrPortFrom(ip, uint16(port)), nil
}

// RemoveListener closes an address of a subsystem, and the connections that came by it.
func (t *Target) RemoveListener(ctx context.Context, nqn string, a Address) error {
	a, _, err := t.parseAddress(a)
	if err != nil {
		return fmt.Errorf("removing listener %v from subsystem %s: %w", a, nqn, err)
	}
	t.mu.Lock()
	s, err := t.find(nqn)
	i := -1
	if err == nil {
		if i = slices.IndexFunc(s.listeners, func(l *Listener) bool { return l.Address == a }); i < 0 {
			err = ErrNotFound
		}
	}
	if err != nil {
		t.mu.Unlock()
		return fmt.Errorf("removing listener %v from subsystem %s: %w", a, nqn, err)
	}
	l := s.listeners[i]
	s.listeners = slices.Delete(s.listeners, i, i+1)
	l.port.users--
	last := l.port.users == 0
	if last {
		t.portals = slices.DeleteFunc(t.portals, func(p *portal) bool { return p == l.port })
	}
	t.mu.Unlock()
	if last {
		l.port.door.close()
	}
	if err := t.publish(s, true); err != nil {
		return err
	}
	return t.closeControllers(ctx, s, func(k *controller) bool { return k.aq != nil && k.aq.port == l.port })
}
