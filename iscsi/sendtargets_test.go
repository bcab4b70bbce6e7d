package iscsi

import (
	"net/netip"
	"strings"
	"testing"
)

// testView has two portal groups for everybody and a private one, and targets with several maps.
func testView() *view {
	addr := func(s ...string) (a []netip.AddrPort) {
		for _, s := range s {
			a = append(a, netip.MustParseAddrPort(s))
		}
		return a
	}
	one := &groupView{tag: 1, portals: addr("192.0.2.1:3260", "[2001:db8::1]:3260")}
	two := &groupView{tag: 2, portals: addr("198.51.100.1:3261")}
	hidden := &groupView{tag: 3, portals: addr("203.0.113.1:3260"), private: true}
	wild := &groupView{tag: 4, portals: addr("0.0.0.0:3262", "[::]:3262", "0.0.0.0:3263")}
	waiting := &groupView{tag: 5}
	everybody := []string{"ANY"}
	return &view{
		options: testOptions(),
		groups:  []*groupView{one, two, hidden, wild, waiting},
		secrets: map[int][]Secret{1: {testSecret}},
		nodes: []*nodeView{
			{node: &Node{}, name: testTarget, alias: "a disk", maps: []mapView{{one, everybody, everybody, ""}}},
			{node: &Node{}, name: "iqn.2026-01.io.pollux:two", maps: []mapView{
				{two, everybody, everybody, ""}, {one, everybody, everybody, ""}, {two, everybody, []string{"10.0.0.0/8"}, ""},
			}},
			{node: &Node{}, name: "iqn.2026-01.io.pollux:redirected", maps: []mapView{{one, everybody, everybody, "203.0.113.1:3260"}, {hidden, everybody, everybody, ""}}},
			{node: &Node{}, name: "iqn.2026-01.io.pollux:others", maps: []mapView{{one, []string{"iqn.2004-10.com.example:host2"}, everybody, ""}}},
			{node: &Node{}, name: "iqn.2026-01.io.pollux:elsewhere", maps: []mapView{{one, everybody, []string{"10.0.0.0/8"}, ""}}},
			{node: &Node{}, name: "iqn.2026-01.io.pollux:wild", maps: []mapView{{wild, everybody, everybody, ""}}},
			{node: &Node{}, name: "iqn.2026-01.io.pollux:waiting", maps: []mapView{{waiting, everybody, everybody, ""}}},
			{node: &Node{}, name: "iqn.2026-01.io.pollux:unmapped"},
		},
	}
}

func TestSendTargets(t *testing.T) {
	const (
		disk1      = "TargetName=" + testTarget + " TargetAddress=192.0.2.1:3260,1 TargetAddress=[2001:db8::1]:3260,1"
		two        = "TargetName=iqn.2026-01.io.pollux:two TargetAddress=198.51.100.1:3261,2 TargetAddress=192.0.2.1:3260,1 TargetAddress=[2001:db8::1]:3260,1"
		redirected = "TargetName=iqn.2026-01.io.pollux:redirected TargetAddress=192.0.2.1:3260,1 TargetAddress=[2001:db8::1]:3260,1"
		wild       = "TargetName=iqn.2026-01.io.pollux:wild TargetAddress=192.0.2.1:3262,4 TargetAddress=192.0.2.1:3263,4"
	)
	discovery := Params{InitiatorName: testInitiator, Tag: 1, Discovery: true, SendBytesMax: 8192}
	normal := Params{InitiatorName: testInitiator, Tag: 1, TargetName: testTarget, SendBytesMax: 8192}
	private := discovery
	private.Tag = 3
	for _, c := range []struct {
		name  string
		p     Params
		local string
		text  string
		want  string
		why   RejectReason
	}{
		{"all", discovery, "192.0.2.1:3260", "SendTargets=All", strings.Join([]string{disk1, two, redirected, wild}, " "), 0},
		{"all, by IPv6", discovery, "[2001:db8::1]:3260", "SendTargets=All",
			strings.Join([]string{disk1, two, redirected, "TargetName=iqn.2026-01.io.pollux:wild TargetAddress=[2001:db8::1]:3262,4"}, " "), 0},
		{"all, by a private portal group", private, "203.0.113.1:3260", "SendTargets=All",
			strings.Join([]string{disk1, two, redirected + " TargetAddress=203.0.113.1:3260,3", strings.ReplaceAll(wild, "192.0.2.1", "203.0.113.1")}, " "), 0},
		{"one", discovery, "192.0.2.1:3260", "SendTargets=iqn.2026-01.io.pollux:two", two, 0},
		{"one in capitals", discovery, "192.0.2.1:3260", "SendTargets=IQN.2026-01.io.pollux:TWO", two, 0},
		{"one that it may not use", discovery, "192.0.2.1:3260", "SendTargets=iqn.2026-01.io.pollux:others", "", 0},
		{"one that there is not", discovery, "192.0.2.1:3260", "SendTargets=iqn.2026-01.io.pollux:none", "", 0},
		{"one whose portals do not listen", discovery, "192.0.2.1:3260", "SendTargets=iqn.2026-01.io.pollux:waiting", "", 0},
		{"nothing, in a discovery session", discovery, "192.0.2.1:3260", "SendTargets=", "", RejectProtocol},
		{"All misspelt", discovery, "192.0.2.1:3260", "SendTargets=Alle", "", RejectProtocol},
		{"All in another case", discovery, "192.0.2.1:3260", "SendTargets=all", "", RejectProtocol},
		{"the key in another case", discovery, "192.0.2.1:3260", "sENDtARGETS=All", "", RejectProtocol},
		{"another key", discovery, "192.0.2.1:3260", "SendTargetsPlease=All", "", RejectProtocol},
		{"a key that is of logins", discovery, "192.0.2.1:3260", "MaxRecvDataSegmentLength=8192", "", RejectProtocol},
		{"two keys", discovery, "192.0.2.1:3260", "SendTargets=All InitiatorAlias=a", "", RejectProtocol},
		{"twice", discovery, "192.0.2.1:3260", "SendTargets=All SendTargets=All", "", RejectProtocol},
		{"no text", discovery, "192.0.2.1:3260", "", "", 0},

		{"normal: all", normal, "192.0.2.1:3260", "SendTargets=All", strings.Join([]string{disk1, two, redirected, wild}, " "), 0},
		{"normal: its own", normal, "192.0.2.1:3260", "SendTargets=", disk1, 0},
		{"normal: its own by name", normal, "192.0.2.1:3260", "SendTargets=" + testTarget, disk1, 0},
		{"normal: another", normal, "192.0.2.1:3260", "SendTargets=iqn.2026-01.io.pollux:two", "", RejectProtocol},
		{"normal: All misspelt", normal, "192.0.2.1:3260", "SendTargets=A", "", RejectProtocol},
		{"normal: the key in another case", normal, "192.0.2.1:3260", "sENDtARGETS=aLL", "", RejectProtocol},
		{"normal: another key", normal, "192.0.2.1:3260", "SendTargetsPlease=All", "", RejectProtocol},
		{"normal: a length", normal, "192.0.2.1:3260", "MaxRecvDataSegmentLength=65536", "", 0},
		{"normal: a length and what nobody knows", normal, "192.0.2.1:3260", "MaxRecvDataSegmentLength=65536 X-a=b HeaderDigest=None", "X-a=NotUnderstood HeaderDigest=Reject", 0},
		{"normal: no text", normal, "192.0.2.1:3260", "", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := c.p
			text := textOf(strings.Fields(c.text)...)
			got, why := answerText(testView(), &p, netip.MustParseAddrPort(c.local), testRemote, text)
			if showText(got) != c.want || why != c.why {
				t.Errorf("%v\n%s, want %v\n%s", why, showText(got), c.why, c.want)
			}
			if strings.Contains(string(got), "0.0.0.0") || strings.Contains(string(got), "[::]") {
				t.Error("a wildcard leaves the process")
			}
		})
	}
	t.Run("not key=value", func(t *testing.T) {
		p := discovery
		if _, why := answerText(testView(), &p, testLocal, testRemote, []byte("SendTargets\x00")); why != RejectProtocol {
			t.Error(why)
		}
	})
}
