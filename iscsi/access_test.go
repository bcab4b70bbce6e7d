package iscsi

import (
	"net/netip"
	"slices"
	"testing"
)

// Names and addresses of the tests of logins.
const (
	testTarget    = "iqn.2026-01.io.pollux:disk1"
	testInitiator = "iqn.2004-10.com.example:host1"
)

var (
	testLocal  = netip.MustParseAddrPort("192.0.2.1:3260")
	testRemote = netip.MustParseAddrPort("192.0.2.77:40000")
)

func TestAdmits(t *testing.T) {
	one, two := &groupView{tag: 1}, &groupView{tag: 2}
	everybody := []string{"ANY"}
	for _, c := range []struct {
		name  string
		maps  []mapView
		tag   int
		who   string
		from  string
		admit int // index of the map, -1 for none
	}{
		{"no map", nil, 1, testInitiator, "192.0.2.77", -1},
		{"everybody from everywhere", []mapView{{one, everybody, everybody, ""}}, 1, testInitiator, "192.0.2.77", 0},
		{"ANY in another case", []mapView{{one, []string{"any"}, []string{"Any"}, ""}}, 1, testInitiator, "192.0.2.77", 0},
		{"another portal group", []mapView{{two, everybody, everybody, ""}}, 1, testInitiator, "192.0.2.77", -1},
		{"the second map is of the portal group", []mapView{{two, everybody, everybody, ""}, {one, everybody, everybody, ""}}, 1, testInitiator, "192.0.2.77", 1},
		{"by name", []mapView{{one, []string{testInitiator}, everybody, ""}}, 1, testInitiator, "192.0.2.77", 0},
		{"a name is as good in capitals", []mapView{{one, []string{testInitiator}, everybody, ""}}, 1, "IQN.2004-10.com.example:HOST1", "192.0.2.77", 0},
		{"another name", []mapView{{one, []string{testInitiator + "0"}, everybody, ""}}, 1, testInitiator, "192.0.2.77", -1},
		{"a prefix of a name", []mapView{{one, []string{testInitiator}, everybody, ""}}, 1, testInitiator[:len(testInitiator)-1], "192.0.2.77", -1},
		{"no names", []mapView{{one, nil, everybody, ""}}, 1, testInitiator, "192.0.2.77", -1},
		{"no addresses", []mapView{{one, everybody, nil, ""}}, 1, testInitiator, "192.0.2.77", -1},
		{"refused by name before everybody", []mapView{{one, []string{"!" + testInitiator, "ANY"}, everybody, ""}}, 1, testInitiator, "192.0.2.77", -1},
		{"everybody before refused", []mapView{{one, []string{"ANY", "!" + testInitiator}, everybody, ""}}, 1, testInitiator, "192.0.2.77", 0},
		{"another is refused", []mapView{{one, []string{"!" + testInitiator, "ANY"}, everybody, ""}}, 1, testInitiator + "2", "192.0.2.77", 0},
		{"everybody is refused", []mapView{{one, []string{"!ANY"}, everybody, ""}, {one, everybody, everybody, ""}}, 1, testInitiator, "192.0.2.77", -1},
		{"a refusal ends the search", []mapView{{one, []string{"!" + testInitiator}, everybody, ""}, {one, everybody, everybody, ""}}, 1, testInitiator, "192.0.2.77", -1},
		{"a refusal of another portal group does not", []mapView{{two, []string{"!ANY"}, everybody, ""}, {one, everybody, everybody, ""}}, 1, testInitiator, "192.0.2.77", 1},
		{"an address outside does not end it", []mapView{{one, everybody, []string{"198.51.100.0/24"}, ""}, {one, everybody, everybody, ""}}, 1, testInitiator, "192.0.2.77", 1},
		{"an initiator called ANY", []mapView{{one, []string{testInitiator}, everybody, ""}}, 1, "ANY", "192.0.2.77", -1},
		{"inside a netmask", []mapView{{one, everybody, []string{"192.0.2.0/24"}, ""}}, 1, testInitiator, "192.0.2.77", 0},
		{"outside a netmask", []mapView{{one, everybody, []string{"192.0.2.0/26"}, ""}}, 1, testInitiator, "192.0.2.77", -1},
		{"the second netmask", []mapView{{one, everybody, []string{"198.51.100.0/24", "192.0.2.64/26"}, ""}}, 1, testInitiator, "192.0.2.77", 0},
		{"an address alone", []mapView{{one, everybody, []string{"192.0.2.77"}, ""}}, 1, testInitiator, "192.0.2.77", 0},
		{"another address alone", []mapView{{one, everybody, []string{"192.0.2.78"}, ""}}, 1, testInitiator, "192.0.2.77", -1},
		{"IPv4 in IPv6", []mapView{{one, everybody, []string{"192.0.2.0/24"}, ""}}, 1, testInitiator, "::ffff:192.0.2.77", 0},
		{"IPv4 is not IPv6", []mapView{{one, everybody, []string{"128.0.0.0/1", "0.0.0.0/1"}, ""}}, 1, testInitiator, "2001:db8::7", -1},
		{"IPv6 in brackets", []mapView{{one, everybody, []string{"[2001:db8::]/32"}, ""}}, 1, testInitiator, "2001:db8::7", 0},
		{"IPv6 without", []mapView{{one, everybody, []string{"2001:db8::/32"}, ""}}, 1, testInitiator, "2001:db8::7", 0},
		{"IPv6 outside", []mapView{{one, everybody, []string{"[2001:db8:1::]/48"}, ""}}, 1, testInitiator, "2001:db8::7", -1},
		{"IPv6 with a zone", []mapView{{one, everybody, []string{"[fe80::]/10"}, ""}}, 1, testInitiator, "fe80::7%eth0", 0},
		{"a netmask that is none", []mapView{{one, everybody, []string{"192.0.2.0/33", "192.0.2.0/", "192.0.2.0/-1", "host", ""}, ""}}, 1, testInitiator, "192.0.2.77", -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := &nodeView{name: testTarget, maps: c.maps}
			got := n.admits(c.tag, c.who, netip.MustParseAddr(c.from))
			at := slices.IndexFunc(c.maps, func(m mapView) bool { return got != nil && m.group == got.group })
			for i := range c.maps {
				if got == &n.maps[i] {
					at = i
				}
			}
			if at != c.admit {
				t.Errorf("map %d, want %d", at, c.admit)
			}
		})
	}
}

func TestAuthOf(t *testing.T) {
	need := Auth{Require: true, Group: 7}
	v := &view{
		discovery: Auth{Group: 2},
		groups:    []*groupView{{tag: 1}, {tag: 2, auth: need, authSet: true}, {tag: 3, authSet: true}},
	}
	for _, c := range []struct {
		name string
		node *nodeView
		tag  int
		want Auth
	}{
		{"discovery", nil, 1, Auth{Group: 2}},
		{"discovery by a portal group with a rule of its own", nil, 2, need},
		{"discovery by a portal group that asks for nothing", nil, 3, Auth{}},
		{"discovery by a portal group that is gone", nil, 4, Auth{Group: 2}},
		{"a target that says nothing", &nodeView{}, 2, Auth{}},
		{"a target with a rule of its own", &nodeView{auth: need}, 1, need},
		{"a target that forbids it", &nodeView{auth: Auth{Disable: true}}, 2, Auth{Disable: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := v.authOf(c.node, c.tag); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestShownPortals(t *testing.T) {
	for _, c := range []struct{ name, local, portal, want string }{
		{"as it is", "192.0.2.1:3260", "198.51.100.5:3261", "198.51.100.5:3261"},
		{"IPv6", "192.0.2.1:3260", "[2001:db8::1]:3260", "[2001:db8::1]:3260"},
		{"a wildcard is the address to which one came", "192.0.2.1:3260", "0.0.0.0:3261", "192.0.2.1:3261"},
		{"a wildcard of IPv6 too", "[2001:db8::9]:3260", "[::]:3260", "[2001:db8::9]:3260"},
		{"a wildcard of IPv6 takes IPv4 as well", "192.0.2.1:3260", "[::]:3260", "192.0.2.1:3260"},
		{"a wildcard of IPv4 does not take IPv6", "[2001:db8::9]:3260", "0.0.0.0:3260", ""},
		{"IPv4 in IPv6 is IPv4", "[::ffff:192.0.2.1]:3260", "0.0.0.0:3260", "192.0.2.1:3260"},
		{"no zone leaves the machine", "[fe80::1%eth0]:3260", "[::]:3260", "[fe80::1]:3260"},
		{"nor does a wildcard", "0.0.0.0:0", "0.0.0.0:3260", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := asker{local: netip.MustParseAddrPort(c.local)}.shown(netip.MustParseAddrPort(c.portal))
			if want := c.want; ok != (want != "") || ok && got.String() != want {
				t.Errorf("%v, %v, want %q", got, ok, want)
			}
		})
	}
}
