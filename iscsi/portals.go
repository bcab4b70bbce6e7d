package iscsi

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is portal groups: the addresses by which initiators come, and their sockets. A portal belongs to one group: the group by which a
// session came is a part of its name.

// portalGroup is a portal group. Its tag, its portals and private do not change.
type portalGroup struct {
	tag     int
	private bool
	waiting bool // it does not listen until it is started
	auth    Auth // of discovery sessions by it
	authSet bool
	portals []*portal
}

// portal is a listening address.
type portal struct {
	target *Target
	tag    int // of its group
	addr   netip.AddrPort
	pg     *pollGroup        // on whose reactor connections are accepted
	fd     int               // the listening socket, -1 before there is one; l's as soon as there is one
	l      *reactor.Listener // nil until it accepts; under the target's lock, as long as the target has the portal
	ended  chan error

	logins logins // touched by pg's reactor alone
}

// Portal is an address as it is configured.
type Portal struct{ Host, Port string }

// String gives it as it is told to initiators.
func (p Portal) String() string { return p.Host + ":" + p.Port }

// ParsePortal reads an address: an IPv4 or IPv6 address of this machine, the second with or without brackets, or * and [*] for all; without
// a port it is 3260.
func ParsePortal(p Portal) (netip.AddrPort, error) {
	host := strings.TrimSuffix(strings.TrimPrefix(p.Host, "["), "]")
	switch p.Host {
	case "*":
		host = "0.0.0.0"
	case "[*]":
		host = "::"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("host %q: %w: an IPv4 or IPv6 address, or * for all addresses", p.Host, ErrInvalid)
	}
	if p.Port == "" {
		p.Port = "3260" // the registered one: RFC 7143, "IANA Considerations"
	}
	port, err := strconv.ParseUint(p.Port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("port %q: %w: a number up to 65535", p.Port, ErrInvalid)
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(port)), nil
}

// portalOf gives an address as SPDK lists it: IPv6 in brackets.
func portalOf(a netip.AddrPort) Portal {
	host := a.Addr().String()
	if a.Addr().Is6() {
		host = "[" + host + "]"
	}
	return Portal{host, strconv.Itoa(int(a.Port()))}
}

// tagMax is the largest tag of a portal group: it has 16 bits. RFC 7143 section 13.9, "TargetPortalGroupTag".
const tagMax = 65535

// PortalGroupOptions describe a portal group at its creation.
type PortalGroupOptions struct {
	Tag     int
	Portals []Portal
	Private bool // only those who are sent there know of it
	Wait    bool // listen only after StartPortalGroup
}

// CreatePortalGroup makes a portal group, and listens unless it is to wait.
func (t *Target) CreatePortalGroup(o PortalGroupOptions) error {
	what := fmt.Sprintf("creating portal group %d", o.Tag)
	g := &portalGroup{tag: o.Tag, private: o.Private, waiting: true}
	if o.Tag < 1 || o.Tag > tagMax {
		return fmt.Errorf("%s: tag: %w: 1 to %d", what, ErrInvalid, tagMax)
	}
	if len(o.Portals) == 0 {
		return fmt.Errorf("%s: %w: it needs a portal at least", what, ErrInvalid)
	}
	for _, p := range o.Portals {
		addr, err := ParsePortal(p)
		if err != nil {
			return fmt.Errorf("%s: portal %v: %w", what, p, err)
		}
		g.portals = append(g.portals, &portal{target: t, tag: o.Tag, addr: addr, fd: -1, ended: make(chan error, 1)})
	}
	return t.alter(what, func() error {
		if t.stopping.Load() {
			return fmt.Errorf("%w: the target is being stopped", ErrInvalid)
		}
		if t.portalGroup(o.Tag) != nil {
			return fmt.Errorf("it %w", ErrExists)
		}
		for i, p := range g.portals {
			if owner := t.ownerOf(p.addr); owner != nil {
				return fmt.Errorf("portal %v: it %w, in portal group %d", p.addr, ErrExists, owner.tag)
			}
			if slices.ContainsFunc(g.portals[:i], func(o *portal) bool { return o.addr == p.addr && p.addr.Port() != 0 }) {
				return fmt.Errorf("portal %v: it %w, in the same list", p.addr, ErrExists)
			}
		}
		if !o.Wait {
			if err := t.start(g); err != nil {
				return err
			}
		}
		t.portals = append(t.portals, g)
		return nil
	})
}

// portalGroup finds one, nil if there is none. The lock is held.
func (t *Target) portalGroup(tag int) *portalGroup {
	for _, g := range t.portals {
		if g.tag == tag {
			return g
		}
	}
	return nil
}

// findPortalGroup finds one. The lock is held.
func (t *Target) findPortalGroup(tag int) (*portalGroup, error) {
	if g := t.portalGroup(tag); g != nil {
		return g, nil
	}
	return nil, fmt.Errorf("portal group %d: %w; iscsi_get_portal_groups lists those there are", tag, ErrNotFound)
}

// ownerOf finds the group that has an address. The lock is held.
func (t *Target) ownerOf(addr netip.AddrPort) *portalGroup {
	for _, g := range t.portals {
		if addr.Port() != 0 && slices.ContainsFunc(g.portals, func(p *portal) bool { return p.addr == addr }) {
			return g
		}
	}
	return nil
}

// start opens a group's portals. The lock is held; a reactor that accepts takes no lock.
func (t *Target) start(g *portalGroup) error {
	for _, p := range g.portals {
		err := p.open()
		if err == nil && !t.holding {
			err = p.accept()
		}
		if err != nil {
			g.close()
			return err
		}
	}
	g.waiting = false
	return nil
}

// StartPortalGroup lets a group that was created with Wait listen. One that listens stays as it is.
func (t *Target) StartPortalGroup(tag int) error {
	return t.alter(fmt.Sprintf("starting portal group %d", tag), func() error {
		g, err := t.findPortalGroup(tag)
		if err != nil || !g.waiting {
			return err
		}
		return t.start(g)
	})
}

// SetPortalGroupAuth says how initiators prove themselves in discovery sessions by a portal group.
func (t *Target) SetPortalGroupAuth(tag int, a Auth) error {
	return t.alter(fmt.Sprintf("setting the authentication of portal group %d", tag), func() error {
		g, err := t.findPortalGroup(tag)
		if err == nil {
			err = a.check()
		}
		if err != nil {
			return err
		}
		g.auth, g.authSet = a, true
		return nil
	})
}

// DeletePortalGroup closes a group's portals, takes it out of all maps, and ends the sessions that came by it.
func (t *Target) DeletePortalGroup(ctx context.Context, tag int) error {
	what := fmt.Sprintf("deleting portal group %d", tag)
	t.mu.Lock()
	g, err := t.findPortalGroup(tag)
	if err == nil {
		t.portals = slices.DeleteFunc(t.portals, func(o *portalGroup) bool { return o == g })
		for _, n := range t.nodes {
			n.unmap(func(m nodeMap) bool { return m.portals == g })
		}
	}
	t.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	g.close()
	if err := errors.Join(t.publish(), t.evictDenied(ctx)); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// open makes the portal's socket. With port 0 it gets one that is free, and keeps it.
func (p *portal) open() error {
	if p.fd >= 0 {
		return nil
	}
	fd, err := reactor.ListenTCP(p.addr)
	if err != nil {
		return err
	}
	p.target.group.Sockets().Tune(fd) // nobody knows of the address yet
	if p.addr.Port() == 0 {
		bound, err := unix.Getsockname(fd)
		if err != nil {
			_ = unix.Close(fd)
			return fmt.Errorf("listening on %v: reading the port: %w", p.addr, err)
		}
		p.addr = netip.AddrPortFrom(p.addr.Addr(), reactor.AddrPort(bound).Port())
	}
	t := p.target
	p.pg = t.groups[t.nextPortal%len(t.groups)]
	t.nextPortal++
	p.fd = fd
	return nil
}

// accept takes connections from now on, those first that came since the portal was opened.
func (p *portal) accept() error {
	if p.l != nil {
		return nil
	}
	if err := p.pg.r.Call(func() { p.l = p.pg.r.Listen(p.fd, p) }); err != nil {
		return fmt.Errorf("accepting connections at %v: %w", p.addr, err)
	}
	return nil
}

// close closes the portals of a group; they may be opened again.
func (g *portalGroup) close() {
	for _, p := range g.portals {
		p.close()
	}
}

func (p *portal) close() {
	switch {
	case p.fd < 0:
		return
	case p.l == nil:
		_ = unix.Close(p.fd)
	default:
		_ = p.pg.r.Call(p.l.Close)
		<-p.ended
	}
	p.fd, p.l = -1, nil
}

// Accepted takes a new connection.
func (p *portal) Accepted(fd int) {
	if t := p.target; t.draining.Load() || t.stopping.Load() {
		_ = unix.Close(fd)
		return
	}
	p.pg.accepted(p, fd)
}

// ListenEnded hears that the portal is closed.
func (p *portal) ListenEnded(err error) { p.ended <- err }
