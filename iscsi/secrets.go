package iscsi

import (
	"fmt"
	"slices"
)

// This file is authentication groups: what initiators and targets prove that they know. A secret is told to nobody but who may read the
// configuration, and stands in no error and no log.

// authGroup is an authentication group.
type authGroup struct {
	tag      int
	secrets  []Secret
	ofFile   bool // the auth file has one of this number
	fromFile bool // and it is as it stands there
}

// AuthGroup describes an authentication group.
type AuthGroup struct {
	Tag      int
	Secrets  []Secret
	FromFile bool // the auth file has it, so that it need not be saved
}

// Sizes of names and secrets, in bytes, as SPDK has them; and what RFC 7143 section 9.2.1, "CHAP Considerations", asks of a secret: 96 random
// bits where nothing else protects the connection. Shorter ones are taken, with a warning: configurations have them.
const (
	chapBytesMax    = 255
	chapSecretBytes = 12
)

// check says what is wrong with a secret, without telling it.
func (s *Secret) check() error {
	if s.User == "" || s.Secret == "" {
		return fmt.Errorf("%w: a user and its secret are needed", ErrInvalid)
	}
	if (s.MutualUser == "") != (s.MutualSecret == "") {
		return fmt.Errorf("user %s: %w: muser and msecret go together", s.User, ErrInvalid)
	}
	for _, f := range []struct{ name, v string }{{"user", s.User}, {"secret", s.Secret}, {"muser", s.MutualUser}, {"msecret", s.MutualSecret}} {
		if len(f.v) > chapBytesMax {
			return fmt.Errorf("user %.40s: %s: %w: at most %d bytes", s.User, f.name, ErrInvalid, chapBytesMax)
		}
		for i := range len(f.v) {
			if f.v[i] == 0 {
				return fmt.Errorf("user %.40s: %s: %w: it has a NUL", s.User, f.name, ErrInvalid)
			}
		}
	}
	return nil
}

// warn tells of secrets that are weak.
func (t *Target) warnOf(tag int, s *Secret) {
	switch {
	case len(s.Secret) < chapSecretBytes || s.MutualSecret != "" && len(s.MutualSecret) < chapSecretBytes:
		t.log.Warn("a CHAP secret is short; give it 12 bytes or more, chosen at random", "group", tag, "user", s.User)
	case s.Secret == s.MutualSecret:
		t.log.Warn("a CHAP secret is the same in both directions; give each its own", "group", tag, "user", s.User)
	}
}

// authGroup finds one, nil if there is none. The lock is held.
func (t *Target) authGroup(tag int) *authGroup {
	for _, g := range t.secrets {
		if g.tag == tag {
			return g
		}
	}
	return nil
}

// findAuthGroup finds one. The lock is held.
func (t *Target) findAuthGroup(tag int) (*authGroup, error) {
	if g := t.authGroup(tag); g != nil {
		return g, nil
	}
	return nil, fmt.Errorf("authentication group %d: %w; iscsi_get_auth_groups lists those there are", tag, ErrNotFound)
}

// add adds a secret. The lock is held.
func (t *Target) addSecret(g *authGroup, s Secret) error {
	if err := s.check(); err != nil {
		return err
	}
	if slices.ContainsFunc(g.secrets, func(o Secret) bool { return o.User == s.User }) {
		return fmt.Errorf("user %s: it %w", s.User, ErrExists)
	}
	t.warnOf(g.tag, &s)
	g.secrets = append(slices.Clone(g.secrets), s)
	return nil
}

// CreateAuthGroup makes an authentication group. One of that number out of the auth file it replaces: a configuration that was saved has those
// that were changed since; and the file itself, when it is read again, does not bring back what was changed.
func (t *Target) CreateAuthGroup(o AuthGroup) error {
	return t.alter(fmt.Sprintf("creating authentication group %d", o.Tag), func() error {
		if o.Tag < 1 {
			return fmt.Errorf("tag: %w: 1 and up", ErrInvalid)
		}
		old := t.authGroup(o.Tag)
		switch {
		case o.FromFile && slices.Contains(t.deleted, o.Tag):
			return nil
		case o.FromFile && old != nil && !old.fromFile:
			old.ofFile = true
			return nil
		case old != nil && !old.fromFile:
			return fmt.Errorf("it %w", ErrExists)
		}
		g := &authGroup{tag: o.Tag, ofFile: o.FromFile || old != nil, fromFile: o.FromFile}
		for _, s := range o.Secrets {
			if err := t.addSecret(g, s); err != nil {
				return err
			}
		}
		t.secrets = slices.DeleteFunc(t.secrets, func(o *authGroup) bool { return o == old })
		t.secrets = append(t.secrets, g)
		return nil
	})
}

// DeleteAuthGroup deletes one. Where it is asked for, nobody can prove who he is any more.
func (t *Target) DeleteAuthGroup(tag int) error {
	return t.alter(fmt.Sprintf("deleting authentication group %d", tag), func() error {
		g, err := t.findAuthGroup(tag)
		if err != nil {
			return err
		}
		if g.ofFile {
			t.deleted = append(t.deleted, tag)
		}
		t.secrets = slices.DeleteFunc(t.secrets, func(o *authGroup) bool { return o == g })
		return nil
	})
}

// AddSecret adds a secret to a group. It counts for every login that begins from now on.
func (t *Target) AddSecret(tag int, s Secret) error {
	return t.alter(fmt.Sprintf("adding a secret to authentication group %d", tag), func() error {
		g, err := t.findAuthGroup(tag)
		if err == nil {
			err = t.addSecret(g, s)
		}
		if err != nil {
			return err
		}
		g.fromFile = false
		return nil
	})
}

// RemoveSecret takes a user's secret out of a group. Sessions that have proved that they know it stay.
func (t *Target) RemoveSecret(tag int, user string) error {
	return t.alter(fmt.Sprintf("removing the secret of %.40s from authentication group %d", user, tag), func() error {
		g, err := t.findAuthGroup(tag)
		if err != nil {
			return err
		}
		left := slices.DeleteFunc(slices.Clone(g.secrets), func(s Secret) bool { return s.User == user })
		if len(left) == len(g.secrets) {
			return ErrNotFound
		}
		g.secrets, g.fromFile = left, false
		return nil
	})
}
