package nvmf

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
)

// This file is who may connect and what they see: hosts, masking of namespaces, ANA states, referrals. All of it is control
// work: it changes a subsystem and publishes it.

// alter changes a subsystem under the lock and publishes it. what says what is attempted, for the error.
func (t *Target) alter(nqn, what string, discoverable bool, f func(s *Subsystem) error) (*Subsystem, error) {
	t.mu.Lock()
	s, err := t.find(nqn)
	if err == nil {
		err = f(s)
	}
	t.mu.Unlock()
	if err == nil {
		err = t.publish(s, discoverable)
	}
	if err != nil {
		return nil, fmt.Errorf("%s, subsystem %s: %w", what, nqn, err)
	}
	return s, nil
}

// AddHost lets a host connect; with a key, after it has proved that it has it.
func (t *Target) AddHost(nqn, hostNQN string, keys HostKeys) error {
	_, err := t.alter(nqn, "allowing host "+hostNQN, true, func(s *Subsystem) error {
		if err := CheckNQN(hostNQN); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		if s.hosts[hostNQN] != nil {
			return fmt.Errorf("it is allowed, %w", ErrExists)
		}
		if err := s.checkKeys(hostNQN, keys); err != nil {
			return err
		}
		s.hosts[hostNQN] = &host{NQN: hostNQN, keys: keys, authFailures: new(atomic.Uint64)}
		return nil
	})
	return err
}

// SetHostKeys gives a host other keys, or none. They count for every authentication that begins from now on; queues that are
// authenticated go on.
func (t *Target) SetHostKeys(nqn, hostNQN string, keys HostKeys) error {
	_, err := t.alter(nqn, "setting the keys of host "+hostNQN, false, func(s *Subsystem) error {
		h := s.hosts[hostNQN]
		if h == nil {
			return ErrNotFound
		}
		if err := s.checkKeys(hostNQN, keys); err != nil {
			return err
		}
		h.keys = keys
		return nil
	})
	return err
}

// checkKeys judges keys of a host, and warns of one that more than one name has: then each can pretend to be the other. Base
// Specification 2.1 section 8.3.4.5.7. The lock is held.
func (s *Subsystem) checkKeys(hostNQN string, k HostKeys) error {
	if k.Host == nil && k.Ctrl == nil {
		return nil
	}
	if _, err := (AuthConfig{SubNQN: s.o.NQN, HostNQN: hostNQN, HostKey: k.Host, CtrlKey: k.Ctrl}).check(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	warn := func(whose string) {
		s.target.log.Warn("a host has the same authentication key as another; give each its own", "subsystem", s.o.NQN, "host", hostNQN, "other", whose)
	}
	if k.Host.Equal(k.Ctrl) {
		warn(s.o.NQN)
	}
	for _, n := range slices.Sorted(maps.Keys(s.hosts)) {
		if o := s.hosts[n]; n != hostNQN && k.Host.Equal(o.keys.Host) {
			warn(n)
		}
	}
	return nil
}

// RemoveHost lets a host connect no more, and closes its controllers.
func (t *Target) RemoveHost(ctx context.Context, nqn, host string) error {
	s, err := t.alter(nqn, "removing host "+host, true, func(s *Subsystem) error {
		if s.hosts[host] == nil {
			return ErrNotFound
		}
		delete(s.hosts, host)
		for _, n := range s.namespaces {
			if n != nil {
				delete(n.hosts, host)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return t.closeControllers(ctx, s, func(k *controller) bool { return k.host.nqn == host })
}

// AllowAnyHost opens a subsystem to every host, or closes it to those that are not listed. Hosts that are connected stay.
func (t *Target) AllowAnyHost(nqn string, allow bool) error {
	_, err := t.alter(nqn, "allowing any host", true, func(s *Subsystem) error {
		s.anyHost = allow
		return nil
	})
	return err
}

// namespaceAt finds a namespace. The lock is held.
func (s *Subsystem) namespaceAt(id NSID) (*Namespace, error) {
	if id == 0 || int(id) > len(s.namespaces) || s.namespaces[id-1] == nil {
		return nil, fmt.Errorf("namespace %d: %w", id, ErrNotFound)
	}
	return s.namespaces[id-1], nil
}

// ShowNamespace lets a host see a namespace that is hidden by default, or hides it from it again.
func (t *Target) ShowNamespace(nqn string, id NSID, host string, show bool) error {
	_, err := t.alter(nqn, fmt.Sprintf("changing who sees namespace %d", id), false, func(s *Subsystem) error {
		n, err := s.namespaceAt(id)
		switch {
		case err != nil:
			return err
		case !n.hidden:
			return fmt.Errorf("namespace %d: %w: every host sees it, add it with no_auto_visible", id, ErrInvalid)
		case show && n.hosts[host]:
			return fmt.Errorf("host %s: it sees the namespace, %w", host, ErrExists)
		case !show && !n.hosts[host]:
			return fmt.Errorf("host %s: %w", host, ErrNotFound)
		}
		if err := CheckNQN(host); err != nil {
			return fmt.Errorf("host %q: %w: %w", host, ErrInvalid, err)
		}
		if show {
			n.hosts[host] = true
		} else {
			delete(n.hosts, host)
		}
		s.anaChanges++
		return nil
	})
	return err
}

// RestrictHosts lets a host have one controller of a subsystem by each listener at most, or as many as it wants. Those that there
// are stay.
func (t *Target) RestrictHosts(on bool) error {
	t.mu.Lock()
	t.dup = on
	subsystems := slices.Clone(t.subsystems)
	t.mu.Unlock()
	for _, s := range subsystems {
		if err := t.publish(s, false); err != nil {
			return fmt.Errorf("changing how often a host may connect: %w", err)
		}
	}
	return nil
}

// SetANAState changes the access that a listener gives to an ANA group, or to all with group 0.
func (t *Target) SetANAState(nqn string, a Address, state ANAState, group uint32) error {
	a, _, err := t.parseAddress(a)
	if err != nil {
		return fmt.Errorf("setting the ANA state of %v: %w", a, err)
	}
	_, err = t.alter(nqn, "setting the ANA state of "+a.String(), false, func(s *Subsystem) error {
		i := slices.IndexFunc(s.listeners, func(l *Listener) bool { return l.Address == a })
		switch {
		case !s.o.ANA:
			return fmt.Errorf("%w: the subsystem was made without ana_reporting", ErrInvalid)
		case i < 0:
			return fmt.Errorf("listener: %w", ErrNotFound)
		case group > s.o.MaxNamespaces:
			return fmt.Errorf("ANA group %d: %w: 1 to %d", group, ErrInvalid, s.o.MaxNamespaces)
		}
		for g := range s.listeners[i].ana {
			if group == 0 || uint32(g) == group {
				s.listeners[i].ana[g] = state
			}
		}
		s.anaChanges++
		return nil
	})
	return err
}

// SetANAGroup moves a namespace to another ANA group.
func (t *Target) SetANAGroup(nqn string, id NSID, group uint32) error {
	_, err := t.alter(nqn, fmt.Sprintf("moving namespace %d to ANA group %d", id, group), false, func(s *Subsystem) error {
		n, err := s.namespaceAt(id)
		if err != nil {
			return err
		}
		if !s.o.ANA || group == 0 || group > s.o.MaxNamespaces {
			return fmt.Errorf("ANA group %d: %w: 1 to %d, in a subsystem made with ana_reporting", group, ErrInvalid, s.o.MaxNamespaces)
		}
		n.group = group
		s.anaChanges++
		return nil
	})
	return err
}

// AddReferral shows another discovery service to hosts.
func (t *Target) AddReferral(r Referral) error {
	a, _, err := t.parseAddress(r.Address)
	if err != nil {
		return fmt.Errorf("adding a referral to %v: %w", r.Address, err)
	}
	r.Address = a
	if r.SUBNQN == "" {
		r.SUBNQN = DiscoveryNQN
	}
	_, err = t.alter(DiscoveryNQN, "adding a referral to "+a.String(), true, func(*Subsystem) error {
		if slices.ContainsFunc(t.referrals, func(o Referral) bool { return o.Address == a && o.SUBNQN == r.SUBNQN }) {
			return fmt.Errorf("it %w", ErrExists)
		}
		t.referrals = append(t.referrals, r)
		return nil
	})
	return err
}

// RemoveReferral takes it out again.
func (t *Target) RemoveReferral(r Referral) error {
	a, _, err := t.parseAddress(r.Address)
	if err != nil {
		return fmt.Errorf("removing the referral to %v: %w", r.Address, err)
	}
	if r.SUBNQN == "" {
		r.SUBNQN = DiscoveryNQN
	}
	_, err = t.alter(DiscoveryNQN, "removing the referral to "+a.String(), true, func(*Subsystem) error {
		n := len(t.referrals)
		t.referrals = slices.DeleteFunc(t.referrals, func(o Referral) bool { return o.Address == a && o.SUBNQN == r.SUBNQN })
		if len(t.referrals) == n {
			return ErrNotFound
		}
		return nil
	})
	return err
}

// Referrals lists them.
func (t *Target) Referrals() []Referral {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.referrals)
}

// SetMaxSubsystems bounds the number of subsystems.
func (t *Target) SetMaxSubsystems(n int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n < 1 || n < len(t.subsystems)-1 {
		return fmt.Errorf("setting the most subsystems to %d: %w: at least 1, and those that there are, %d", n, ErrInvalid, len(t.subsystems)-1)
	}
	t.subsMax = n
	return nil
}
