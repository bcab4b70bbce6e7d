package iscsi

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// Addresses of IPv4 may be written as those of IPv6 that stand for them, with a mask too.
func TestNetmaskOfIPv4InIPv6(t *testing.T) {
	for _, c := range []struct {
		mask, from string
		in         bool
	}{
		{"::ffff:192.0.2.77", "192.0.2.77", true},
		{"[::ffff:192.0.2.0]/120", "192.0.2.77", true},
		{"[::ffff:192.0.2.0]/120", "192.0.3.77", false},
		{"[::ffff:192.0.2.0]/120", "::ffff:192.0.2.77", true},
	} {
		mask, err := normalNetmask(c.mask)
		if err != nil {
			t.Errorf("%s: %v", c.mask, err)
			continue
		}
		m := mapView{netmasks: []string{mask}}
		if m.allows(netip.MustParseAddr(c.from)) != c.in {
			t.Errorf("%s in %s: %v", c.from, c.mask, !c.in)
		}
	}
	for _, mask := range []string{"::ffff:0.0.0.0/96", "::ffff:0.0.0.0/90"} { // all of IPv4, and more
		if _, err := normalNetmask(mask); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", mask, err)
		}
	}
}

// A redirection that leads back to where the login came is refused, however many portal groups it leads through.
func TestRedirectInACircle(t *testing.T) {
	x := newTargetRig(t, 1).made()
	portal := func(tag int) Portal {
		for _, g := range x.PortalGroups() {
			if g.Tag == tag {
				return g.Portals[0]
			}
		}
		t.Fatalf("there is no portal group %d", tag)
		return Portal{}
	}
	for tag := 2; tag <= 3; tag++ {
		x.good(x.CreatePortalGroup(PortalGroupOptions{Tag: tag, Portals: []Portal{{"127.0.0.1", "0"}}}))
		x.good(x.AddMaps("disk", []Map{{tag, 1}}))
	}
	x.good(x.Redirect("disk", 1, portal(2)))
	x.good(x.Redirect("disk", 2, portal(3)))
	if err := x.Redirect("disk", 3, portal(1)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "back") {
		t.Errorf("a redirection by three groups that ends where it began: %v", err)
	}
	x.good(x.Redirect("disk", 2, Portal{}))
	x.good(x.Redirect("disk", 3, portal(1)))
}

// A login that is sent to the very address to which it came would be for ever: a portal at all addresses has that of the redirection too.
func TestRedirectToWhereTheLoginCame(t *testing.T) {
	v := testView()
	v.nodes[0].maps[0].redirect = testLocal.String()
	var l login
	l.init(v, v.nodes[0].maps[0].group.tag, testLocal, testRemote, nil)
	r, _, _ := l.request(LoginRequest{CSG: OperationalStage, Transit: true, NSG: FullFeature}, appendPair(appendPair(nil, "InitiatorName", testInitiator), "TargetName", v.nodes[0].name))
	if r.Status != LoginSuccess {
		t.Errorf("%v: %s", r.Status, l.why)
	}
}

// A portal that only this machine reaches is not shown to others.
func TestLoopbackIsNotShownToOthers(t *testing.T) {
	for _, c := range []struct {
		remote, portal string
		shown          bool
	}{
		{"192.0.2.77:40000", "127.0.0.1:3260", false},
		{"192.0.2.77:40000", "[::1]:3260", false},
		{"127.0.0.1:40000", "127.0.0.1:3260", true},
		{"[::1]:40000", "127.0.0.1:3260", true},
	} {
		a := asker{local: testLocal, remote: netip.MustParseAddrPort(c.remote)}
		if _, shown := a.shown(netip.MustParseAddrPort(c.portal)); shown != c.shown {
			t.Errorf("%s to %s: %v", c.portal, c.remote, shown)
		}
	}
}

// What people call a target is text in a login: what would be another pair there is refused.
func TestAliasThatIsNoText(t *testing.T) {
	x := newTargetRig(t, 1)
	for _, alias := range []string{"a\x00TargetAddress=192.0.2.66:3260", "a\nb", "\xff"} {
		if err := x.CreateNode(t.Context(), NodeOptions{Name: "a", Alias: alias}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", alias, err)
		}
	}
	x.good(x.CreateNode(t.Context(), NodeOptions{Name: "a", Alias: "Größe = 1"}))
}

// An initiator's name is kept in lower case, with its reservations as well: it must not have grown over what a name may have by that.
func TestNameThatGrowsInLowerCase(t *testing.T) {
	v := testView()
	name := strings.Repeat("\u023A", 111) // two bytes each; in lower case three
	var l login
	l.init(v, v.nodes[0].maps[0].group.tag, testLocal, testRemote, nil)
	r, _, _ := l.request(LoginRequest{CSG: OperationalStage, Transit: true, NSG: FullFeature}, appendPair(appendPair(nil, "InitiatorName", name), "TargetName", v.nodes[0].name))
	if r.Status != LoginInitiatorError {
		t.Errorf("%v: a name of %d bytes", r.Status, len(l.params.InitiatorName))
	}
}

// A file of secrets that is read once more replaces what was read before, but not what was changed since.
func TestAuthFileAgain(t *testing.T) {
	x := newTargetRig(t, 1)
	file := func(secret string) []AuthGroup {
		return []AuthGroup{{Tag: 1, Secrets: []Secret{{User: "a", Secret: secret}}, FromFile: true}, {Tag: 2, FromFile: true}}
	}
	for _, g := range file("aaaaaaaaaaaa") {
		x.good(x.CreateAuthGroup(g))
	}
	x.good(x.AddSecret(2, Secret{User: "b", Secret: "bbbbbbbbbbbb"}))
	for _, g := range file("cccccccccccc") {
		x.good(x.CreateAuthGroup(g))
	}
	if v := x.view(); len(v.secrets) != 2 || len(v.secrets[1]) != 1 || v.secrets[1][0].Secret != "cccccccccccc" || len(v.secrets[2]) != 1 {
		t.Errorf("%+v", v.secrets)
	}
}
