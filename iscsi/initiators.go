package iscsi

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// This file is initiator groups: who may reach a target. A group names initiators and addresses; an initiator has to be of both lists.
//
//	initiators	a name, ANY for all, !name and !ANY to keep out; the first that matches counts
//	netmasks	an address, an address/bits, an IPv6 one in brackets or not, ANY
//
// The words are SPDK's; ALL is an older one for ANY.

// initiatorGroup is an initiator group.
type initiatorGroup struct {
	tag      int
	names    []string // in the form in which names are compared, ANY in capitals
	netmasks []string
}

// anyWord stands for all names, or for all addresses.
const anyWord = "ANY"

// Most entries of a list, as SPDK has them.
const initiatorsMax = 256

// InitiatorGroup describes an initiator group.
type InitiatorGroup struct {
	Tag        int
	Initiators []string
	Netmasks   []string
}

// normalInitiator checks an entry of the first list and gives it as it is compared.
func normalInitiator(s string) (string, error) {
	name, not := strings.CutPrefix(s, "!")
	prefix := ""
	if not {
		prefix = "!"
	}
	if strings.EqualFold(name, anyWord) || strings.EqualFold(name, "ALL") {
		return prefix + anyWord, nil
	}
	name, err := NormalName(name)
	if err != nil {
		return "", fmt.Errorf("initiator %q: %w", s, err)
	}
	return prefix + name, nil
}

// normalNetmask checks an entry of the second list.
func normalNetmask(s string) (string, error) {
	if strings.EqualFold(s, anyWord) || strings.EqualFold(s, "ALL") {
		return anyWord, nil
	}
	if _, err := parseNetmask(s); err != nil {
		return "", fmt.Errorf("netmask %q: %w: an address, an address/bits or ANY", s, ErrInvalid)
	}
	return s, nil
}

// parseNetmask reads an address with a mask: 192.0.2.1, 192.0.2.0/24, [2001:db8::]/48. Bits of the address below the mask do not count.
func parseNetmask(s string) (netip.Prefix, error) {
	host, bits, masked := strings.Cut(s, "/")
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if masked {
		p, err := netip.ParsePrefix(host + "/" + bits)
		if err == nil && p.Addr().Is4In6() { // addresses are compared as IPv4
			p = netip.PrefixFrom(p.Addr().Unmap(), max(0, p.Bits()-96))
		}
		if err == nil && p.Bits() == 0 {
			return p, errors.New("no bits; ANY is all addresses")
		}
		return p.Masked(), err
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}, err
	}
	ip = ip.Unmap().WithZone("")
	return netip.PrefixFrom(ip, ip.BitLen()), nil
}

// normal checks a group's lists and gives them as they are kept. Neither has an entry twice.
func (g InitiatorGroup) normal() (names, netmasks []string, err error) {
	for _, s := range g.Initiators {
		n, err := normalInitiator(s)
		if err != nil {
			return nil, nil, err
		}
		if slices.Contains(names, n) {
			return nil, nil, fmt.Errorf("initiator %q: it %w", s, ErrExists)
		}
		names = append(names, n)
	}
	for _, s := range g.Netmasks {
		n, err := normalNetmask(s)
		if err != nil {
			return nil, nil, err
		}
		if slices.Contains(netmasks, n) {
			return nil, nil, fmt.Errorf("netmask %q: it %w", s, ErrExists)
		}
		netmasks = append(netmasks, n)
	}
	if len(names) > initiatorsMax || len(netmasks) > initiatorsMax {
		return nil, nil, fmt.Errorf("%d initiators and %d netmasks: %w: at most %d each", len(names), len(netmasks), ErrInvalid, initiatorsMax)
	}
	return names, netmasks, nil
}

// CreateInitiatorGroup makes an initiator group.
func (t *Target) CreateInitiatorGroup(o InitiatorGroup) error {
	return t.alter(fmt.Sprintf("creating initiator group %d", o.Tag), func() error {
		names, netmasks, err := o.normal()
		switch {
		case err != nil:
			return err
		case o.Tag < 1:
			return fmt.Errorf("tag: %w: 1 and up", ErrInvalid)
		case t.initiatorGroup(o.Tag) != nil:
			return fmt.Errorf("it %w", ErrExists)
		}
		t.initiators = append(t.initiators, &initiatorGroup{o.Tag, names, netmasks})
		return nil
	})
}

// initiatorGroup finds one, nil if there is none. The lock is held.
func (t *Target) initiatorGroup(tag int) *initiatorGroup {
	for _, g := range t.initiators {
		if g.tag == tag {
			return g
		}
	}
	return nil
}

// findInitiatorGroup finds one. The lock is held.
func (t *Target) findInitiatorGroup(tag int) (*initiatorGroup, error) {
	if g := t.initiatorGroup(tag); g != nil {
		return g, nil
	}
	return nil, fmt.Errorf("initiator group %d: %w; iscsi_get_initiator_groups lists those there are", tag, ErrNotFound)
}

// AddInitiators adds names and addresses to a group, behind those that are there. A !name that is added ends the sessions of that initiator, unless an
// earlier entry, ANY for one, lets it in.
func (t *Target) AddInitiators(ctx context.Context, o InitiatorGroup) error {
	return t.changeInitiators(ctx, fmt.Sprintf("adding initiators to group %d", o.Tag), o, func(g *initiatorGroup, names, netmasks []string) error {
		all := InitiatorGroup{Initiators: slices.Concat(g.names, names), Netmasks: slices.Concat(g.netmasks, netmasks)}
		var err error
		if names, netmasks, err = all.normal(); err != nil {
			return err
		}
		g.names, g.netmasks = names, netmasks
		return nil
	})
}

// RemoveInitiators takes names and addresses out of a group, and ends the sessions that are not allowed any more.
func (t *Target) RemoveInitiators(ctx context.Context, o InitiatorGroup) error {
	return t.changeInitiators(ctx, fmt.Sprintf("removing initiators from group %d", o.Tag), o, func(g *initiatorGroup, names, netmasks []string) error {
		for _, n := range names {
			if !slices.Contains(g.names, n) {
				return fmt.Errorf("initiator %s: %w", n, ErrNotFound)
			}
		}
		for _, n := range netmasks {
			if !slices.Contains(g.netmasks, n) {
				return fmt.Errorf("netmask %s: %w", n, ErrNotFound)
			}
		}
		g.names = slices.DeleteFunc(slices.Clone(g.names), func(n string) bool { return slices.Contains(names, n) })
		g.netmasks = slices.DeleteFunc(slices.Clone(g.netmasks), func(n string) bool { return slices.Contains(netmasks, n) })
		return nil
	})
}

func (t *Target) changeInitiators(ctx context.Context, what string, o InitiatorGroup, f func(g *initiatorGroup, names, netmasks []string) error) error {
	err := t.alter(what, func() error {
		names, netmasks, err := o.normal()
		if err != nil {
			return err
		}
		g, err := t.findInitiatorGroup(o.Tag)
		if err != nil {
			return err
		}
		return f(g, names, netmasks)
	})
	if err == nil {
		if err = t.evictDenied(ctx); err != nil {
			err = fmt.Errorf("%s: %w", what, err)
		}
	}
	return err
}

// DeleteInitiatorGroup deletes a group, takes it out of all maps, and ends the sessions that are not allowed any more.
func (t *Target) DeleteInitiatorGroup(ctx context.Context, tag int) error {
	what := fmt.Sprintf("deleting initiator group %d", tag)
	err := t.alter(what, func() error {
		g, err := t.findInitiatorGroup(tag)
		if err != nil {
			return err
		}
		t.initiators = slices.DeleteFunc(t.initiators, func(o *initiatorGroup) bool { return o == g })
		for _, n := range t.nodes {
			n.unmap(func(m nodeMap) bool { return m.initiators == g })
		}
		return nil
	})
	if err == nil {
		if err = t.evictDenied(ctx); err != nil {
			err = fmt.Errorf("%s: %w", what, err)
		}
	}
	return err
}
