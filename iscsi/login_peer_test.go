package iscsi_test

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/internal/patient"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

// The logins of this file go over TCP to a whole target; the rules one by one are in login_test.go.

const (
	sec = iscsi.SecurityNegotiation
	op  = iscsi.OperationalStage
	ffp = iscsi.FullFeature
)

var (
	peerSecret = iscsi.Secret{User: "alice", Secret: "correct-horse-battery", MutualUser: "target1", MutualSecret: "other-horse-battery-9"}
	names      = []string{"InitiatorName=" + iscsitest.Initiator, "TargetName=" + iscsitest.Node}
	discovery  = []string{"InitiatorName=" + iscsitest.Initiator, "SessionType=Discovery"}
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// chapResponse is the hash of RFC 1994 section 4.1.
func chapResponse(t *testing.T, algorithm, identifier, secret, challenge string) string {
	t.Helper()
	id, err := strconv.Atoi(identifier)
	must(t, err)
	c, err := hex.DecodeString(strings.TrimPrefix(challenge, "0x"))
	must(t, err)
	b := append(append([]byte{byte(id)}, secret...), c...)
	if algorithm == "5" {
		s := md5.Sum(b)
		return "0x" + hex.EncodeToString(s[:])
	}
	s := sha256.Sum256(b)
	return "0x" + hex.EncodeToString(s[:])
}

// proveTo goes through the stage of proofs. With a challenge the target must prove itself too, and does.
func proveTo(t *testing.T, p *iscsitest.Peer, who []string, algorithm, secret, challenge string) iscsi.LoginResponse {
	t.Helper()
	r, text := p.Step(sec, op, append(slices.Clone(who), "AuthMethod=CHAP,None")...)
	if r.Status != iscsi.LoginSuccess || r.Transit || p.Keys["AuthMethod"] != "CHAP" {
		t.Fatalf("%v %v %q", r.Status, r.Transit, text)
	}
	if r, text = p.Step(sec, sec, "CHAP_A="+algorithm); r.Status != iscsi.LoginSuccess {
		t.Fatalf("%v %q", r.Status, text)
	}
	say := []string{"CHAP_N=alice", "CHAP_R=" + chapResponse(t, algorithm, p.Keys["CHAP_I"], secret, p.Keys["CHAP_C"])}
	if challenge != "" {
		say = append(say, "CHAP_I=200", "CHAP_C="+challenge)
	}
	r, text = p.Step(sec, op, say...)
	if challenge != "" && r.Status == iscsi.LoginSuccess {
		want := chapResponse(t, algorithm, "200", peerSecret.MutualSecret, challenge)
		if p.Keys["CHAP_N"] != "target1" || p.Keys["CHAP_R"] != want {
			t.Fatalf("the target's proof: %q, want %s", text, want)
		}
	}
	return r
}

// TestLoginOverTCP: from the first byte to a command and a logout.
func TestLoginOverTCP(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2, Node: func(o *iscsi.NodeOptions) { o.Alias = "a disk" }})
	t.Run("one step", func(t *testing.T) {
		p := iscsitest.Login(t, e.Addr)
		if p.TSIH == 0 || p.Keys["TargetPortalGroupTag"] != "1" || p.Keys["TargetAlias"] != "a disk" || p.Keys["MaxRecvDataSegmentLength"] != "262144" {
			t.Errorf("TSIH %d, keys %v", p.TSIH, p.Keys)
		}
		p.Unit(0)
		p.Logout("after a command")
	})
	t.Run("three steps, a byte at a time", func(t *testing.T) {
		p := iscsitest.Dial(t, e.Addr)
		text := iscsitest.Text(append(slices.Clone(names), "AuthMethod=None")...)
		b := p.PDU(iscsi.LoginRequest{Request: p.Immediate(), Transit: true, CSG: sec, NSG: op, ISID: p.ISID, ITT: 1, CID: 1, DataBytes: uint32(len(text))}, text)
		for i := range b {
			p.Send(b[i : i+1])
		}
		if r, _ := p.WantLogin("the first step"); !r.Transit || r.NSG != op || r.TSIH != 0 {
			t.Fatalf("%+v", r)
		}
		if r, _ := p.Step(op, op, "MaxConnections=4"); r.Transit || p.Keys["MaxConnections"] != "1" {
			t.Fatalf("%+v, %v", r, p.Keys)
		}
		r, _ := p.Step(op, ffp)
		if !r.Transit || r.TSIH == 0 {
			t.Fatalf("%+v", r)
		}
		p.Enter(r)
		p.Unit(0)
	})
	t.Run("digests begin behind the login", func(t *testing.T) {
		p := iscsitest.Login(t, e.Addr, "HeaderDigest=CRC32C", "DataDigest=CRC32C,None")
		p.Unit(0)
		if r := p.Command(0, iscsitest.Inquiry(96), iscsitest.Reads, 96, nil); r.Status != iscsi.Good || len(r.Data) == 0 {
			t.Errorf("%+v", r)
		}
		p.Logout("with digests")
	})
	t.Run("text in pieces", func(t *testing.T) {
		p := iscsitest.Dial(t, e.Addr)
		text := iscsitest.Text(iscsitest.Keys()...)
		for len(text) > 100 {
			p.Send(p.PDU(iscsi.LoginRequest{Request: p.Immediate(), Continue: true, CSG: op, ISID: p.ISID, ITT: 1, CID: 1, DataBytes: 100}, text[:100]))
			if r, answer := p.WantLogin("a piece"); r.Status != iscsi.LoginSuccess || r.Transit || len(answer) > 0 {
				t.Fatalf("%+v %q", r, answer)
			}
			text = text[100:]
		}
		p.Send(p.PDU(iscsi.LoginRequest{Request: p.Immediate(), Transit: true, CSG: op, NSG: ffp, ISID: p.ISID, ITT: 1, CID: 1, DataBytes: uint32(len(text))}, text))
		if r, _ := p.WantLogin("the last piece"); !r.Transit || r.TSIH == 0 {
			t.Errorf("%+v", r)
		}
	})
}

// TestLoginRefusedOverTCP: each refusal is heard, and ends the connection.
func TestLoginRefusedOverTCP(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	live := iscsitest.Login(t, e.Addr)
	for _, c := range []struct {
		name string
		h    iscsi.LoginRequest
		keys []string
		want iscsi.LoginStatus
	}{
		{"no InitiatorName", iscsi.LoginRequest{}, names[1:], iscsi.LoginMissingParameter},
		{"no TargetName", iscsi.LoginRequest{}, names[:1], iscsi.LoginMissingParameter},
		{"an unknown target", iscsi.LoginRequest{}, []string{names[0], names[1] + "0"}, iscsi.LoginNotFound},
		{"a session type that is none", iscsi.LoginRequest{}, append(slices.Clone(names), "SessionType=Boot"), iscsi.LoginSessionType},
		{"version 1", iscsi.LoginRequest{VersionMin: 1, VersionMax: 2}, names, iscsi.LoginVersion},
		{"an unknown TSIH", iscsi.LoginRequest{TSIH: live.TSIH + 1}, names, iscsi.LoginNoSuchSession},
		{"a second connection", iscsi.LoginRequest{TSIH: live.TSIH, CID: 2}, names, iscsi.LoginTooManyConnections},
		{"T with C", iscsi.LoginRequest{Continue: true}, names, iscsi.LoginInitiatorError},
		{"NSG 2", iscsi.LoginRequest{NSG: 2}, names, iscsi.LoginInitiatorError},
		{"a key twice", iscsi.LoginRequest{}, append(slices.Clone(names), "MaxConnections=1", "MaxConnections=1"), iscsi.LoginInitiatorError},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := iscsitest.Dial(t, e.Addr)
			text := iscsitest.Text(c.keys...)
			c.h.Request, c.h.Transit, c.h.CSG, c.h.ITT, c.h.DataBytes = p.Immediate(), true, op, 99, uint32(len(text))
			if c.h.NSG == 0 {
				c.h.NSG = ffp
			}
			p.Send(p.PDU(c.h, text))
			r, _ := p.WantLogin(c.name)
			if r.ITT != 99 || r.Transit {
				t.Errorf("%+v", r)
			}
			p.WantRefused(c.name, r, c.want)
		})
	}
	t.Run("not a login", func(t *testing.T) {
		for _, first := range []bool{true, false} {
			p := iscsitest.Dial(t, e.Addr)
			if !first {
				if r, _ := p.Step(op, op, names...); r.Status != iscsi.LoginSuccess {
					t.Fatal(r.Status)
				}
			}
			p.Send(p.PDU(iscsi.NOPOut{Request: p.Immediate(), ITT: 5, TTT: iscsi.NoTag, DataBytes: 8}, []byte("pingpong")))
			r, _ := p.WantLogin("not a login")
			p.WantRefused("not a login", r, iscsi.LoginInvalidRequest)
		}
	})
	t.Run("more text than a request may have", func(t *testing.T) {
		p := iscsitest.Dial(t, e.Addr)
		text := iscsitest.Text(append(slices.Clone(names), "X-com.example.much="+strings.Repeat("a,", 4200))...)
		p.Send(p.PDU(iscsi.LoginRequest{Request: p.Immediate(), Transit: true, CSG: op, NSG: ffp, DataBytes: uint32(len(text))}, text))
		r, _ := p.WantLogin("8400 bytes")
		p.WantRefused("8400 bytes", r, iscsi.LoginInitiatorError)
	})
	live.Quiet("the session that is there is not troubled")
}

// TestLoginRightsOverTCP: by name and by address, as they change.
func TestLoginRightsOverTCP(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	must(t, e.Target.CreateInitiatorGroup(iscsi.InitiatorGroup{Tag: 2, Initiators: []string{"!iqn.2026-01.io.pollux:eve", "ANY"}, Netmasks: []string{"127.0.0.0/8"}}))
	must(t, e.Target.CreateInitiatorGroup(iscsi.InitiatorGroup{Tag: 3, Initiators: []string{"ANY"}, Netmasks: []string{"192.0.2.0/24"}}))
	const other = "iqn.2026-01.io.pollux:other"
	must(t, e.Target.CreateNode(t.Context(), iscsi.NodeOptions{Name: other, Maps: []iscsi.Map{{PortalGroup: 1, InitiatorGroup: 2}}}))
	const far = "iqn.2026-01.io.pollux:far"
	must(t, e.Target.CreateNode(t.Context(), iscsi.NodeOptions{Name: far, Maps: []iscsi.Map{{PortalGroup: 1, InitiatorGroup: 3}}}))
	try := func(initiator, target string) iscsi.LoginStatus {
		p := iscsitest.Dial(t, e.Addr)
		r, _ := p.Step(op, ffp, "InitiatorName="+initiator, "TargetName="+target)
		p.Close()
		return r.Status
	}
	for _, c := range []struct {
		initiator, target string
		want              iscsi.LoginStatus
	}{
		{"iqn.2026-01.io.pollux:alice", other, iscsi.LoginSuccess},
		{"iqn.2026-01.io.pollux:eve", other, iscsi.LoginNotAllowed},
		{"IQN.2026-01.io.pollux:EVE", other, iscsi.LoginNotAllowed},
		{"iqn.2026-01.io.pollux:eve", iscsitest.Node, iscsi.LoginSuccess},
		{"iqn.2026-01.io.pollux:alice", far, iscsi.LoginNotAllowed},
	} {
		if got := try(c.initiator, c.target); got != c.want {
			t.Errorf("%s at %s: %v, want %v", c.initiator, c.target, got, c.want)
		}
	}
	for initiator, want := range map[string][]string{
		"iqn.2026-01.io.pollux:eve":   {iscsitest.Node},
		"iqn.2026-01.io.pollux:alice": {iscsitest.Node, other},
	} {
		p := iscsitest.Dial(t, e.Addr)
		r, _ := p.Step(op, ffp, "InitiatorName="+initiator, "SessionType=Discovery")
		p.Enter(r)
		var got []string
		for _, s := range sendTargets(t, p, "SendTargets=All") {
			if n, ok := strings.CutPrefix(s, "TargetName="); ok {
				got = append(got, n)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s sees %q, want %q", initiator, got, want)
		}
	}
}

// sendTargets asks, and takes an answer that comes whole.
func sendTargets(t *testing.T, p *iscsitest.Peer, text string) []string {
	t.Helper()
	b := iscsitest.Text(text)
	p.Send(p.PDU(iscsi.TextRequest{Request: p.Request(), Final: true, ITT: p.ITT(), TTT: iscsi.NoTag, DataBytes: uint32(len(b))}, b))
	pdu := p.Want("the answer to "+text, iscsi.OpTextResponse)
	r, fault := iscsi.DecodeTextResponse(pdu.BHS)
	if !fault.OK() || !r.Final || r.Continue {
		t.Fatalf("%v: %+v", fault, r)
	}
	return iscsitest.Pairs(pdu.Data)
}

// TestLoginCHAPOverTCP: one way and mutual, for a node and for discovery.
func TestLoginCHAPOverTCP(t *testing.T) {
	const challenge = "0x00112233445566778899aabbccddeeff"
	e := iscsitest.Start(t, iscsitest.Options{})
	must(t, e.Target.CreateAuthGroup(iscsi.AuthGroup{Tag: 1, Secrets: []iscsi.Secret{peerSecret}}))
	for _, mutual := range []bool{false, true} {
		rule := iscsi.Auth{Require: true, Mutual: mutual, Group: 1}
		must(t, e.Target.SetNodeAuth(iscsitest.Node, rule))
		must(t, e.Target.SetDiscoveryAuth(rule))
		asks := ""
		if mutual {
			asks = challenge
		}
		for _, who := range [][]string{names, discovery} {
			for _, algorithm := range []string{"5", "7"} {
				t.Run(fmt.Sprintf("mutual %v/%s/%s", mutual, who[1], algorithm), func(t *testing.T) {
					p := iscsitest.Dial(t, e.Addr)
					if r := proveTo(t, p, who, algorithm, peerSecret.Secret, asks); r.Status != iscsi.LoginSuccess || !r.Transit {
						t.Fatalf("%+v", r)
					}
					r, _ := p.Step(op, ffp)
					if r.Status != iscsi.LoginSuccess || r.TSIH == 0 {
						t.Fatalf("%+v", r)
					}
					p.Enter(r)
					p.Logout("after CHAP")

					p = iscsitest.Dial(t, e.Addr)
					p.WantRefused("a wrong secret", proveTo(t, p, who, algorithm, "wrong", asks), iscsi.LoginAuthenticationFail)

					p = iscsitest.Dial(t, e.Addr)
					r, _ = p.Step(op, ffp, who...)
					p.WantRefused("no proof", r, iscsi.LoginAuthenticationFail)

					p = iscsitest.Dial(t, e.Addr)
					r, _ = p.Step(sec, op, append(slices.Clone(who), "AuthMethod=None")...)
					p.WantRefused("None", r, iscsi.LoginAuthenticationFail)

					if mutual {
						p = iscsitest.Dial(t, e.Addr)
						p.WantRefused("the target is not asked", proveTo(t, p, who, algorithm, peerSecret.Secret, ""), iscsi.LoginAuthenticationFail)
					}
				})
			}
		}
	}
	// What the public suite offers (test_iscsi_chap.c: it is newer than Debian's): it computes MD5 whatever is chosen.
	t.Run("offers of the public suite", func(t *testing.T) {
		for offer, want := range map[string]iscsi.LoginStatus{
			"5,6,7,8": iscsi.LoginSuccess, "56": iscsi.LoginAuthenticationFail, "": iscsi.LoginAuthenticationFail,
		} {
			p := iscsitest.Dial(t, e.Addr)
			p.Step(sec, op, append(slices.Clone(names), "AuthMethod=CHAP,None")...)
			r, _ := p.Step(sec, sec, "CHAP_A="+offer)
			if want != iscsi.LoginSuccess {
				p.WantRefused(offer, r, want)
			} else if p.Keys["CHAP_A"] != "5" {
				t.Errorf("CHAP_A=%s: %v, CHAP_A=%s", offer, r.Status, p.Keys["CHAP_A"])
			}
		}
	})
	t.Run("the user is told of", func(t *testing.T) {
		p := iscsitest.Dial(t, e.Addr)
		proveTo(t, p, names, "7", peerSecret.Secret, challenge)
		r, _ := p.Step(op, ffp)
		p.Enter(r)
		p.Unit(0)
		cs, err := e.Target.Connections()
		must(t, err)
		if !slices.ContainsFunc(cs, func(c iscsi.ConnectionInfo) bool { return c.User == "alice" && c.TSIH == p.TSIH }) {
			t.Errorf("%+v", cs)
		}
	})
	t.Run("a portal group with a rule of its own", func(t *testing.T) {
		must(t, e.Target.SetPortalGroupAuth(iscsitest.Tag, iscsi.Auth{Disable: true}))
		iscsitest.Discovery(t, e.Addr)
	})
}

// TestDiscoveryOverTCP: what SendTargets tells, and what else a discovery session takes.
func TestDiscoveryOverTCP(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	here := []string{"TargetName=" + iscsitest.Node, fmt.Sprintf("TargetAddress=%v,1", e.Addr)}
	p := iscsitest.Discovery(t, e.Addr)
	if got := sendTargets(t, p, "SendTargets=All"); !slices.Equal(got, here) {
		t.Errorf("%q, want %q", got, here)
	}
	if got := sendTargets(t, p, "SendTargets="+iscsitest.Node); !slices.Equal(got, here) {
		t.Errorf("%q, want %q", got, here)
	}
	if got := sendTargets(t, p, "SendTargets=iqn.2026-01.io.pollux:none"); len(got) != 0 {
		t.Errorf("%q, want nothing", got)
	}
	// What the public suite sends, immediate, and goes on behind it (test_iscsi_sendtargets.c: it is newer than Debian's).
	rejects := func(p *iscsitest.Peer, texts ...string) {
		t.Helper()
		for _, bad := range texts {
			b := iscsitest.Text(bad)
			pdu := p.PDU(iscsi.TextRequest{Request: p.Immediate(), Final: true, ITT: p.ITT(), TTT: iscsi.NoTag, DataBytes: uint32(len(b))}, b)
			p.Send(pdu)
			p.WantReject(bad, iscsi.RejectProtocol, pdu)
		}
		if got := sendTargets(t, p, "SendTargets=All"); !slices.Equal(got, here) {
			t.Errorf("behind what was rejected: %q, want %q", got, here)
		}
	}
	rejects(p, "SendTargetsPlease=All", "SendTargets=Alle", "SendTargets=A", "sENDtARGETS=aLL", "SendTargets=")
	p.Logout("discovery")

	p = iscsitest.Login(t, e.Addr)
	for _, text := range []string{"SendTargets=All", "SendTargets=", "SendTargets=" + iscsitest.Node} {
		if got := sendTargets(t, p, text); !slices.Equal(got, here) {
			t.Errorf("in a normal session: %s: %q, want %q", text, got, here)
		}
	}

	rejects(p, "SendTargetsPlease=All", "SendTargets=Alle", "SendTargets=A", "sENDtARGETS=aLL")

	p = iscsitest.Discovery(t, e.Addr)
	p.Send(p.PDU(p.SCSI(0, make([]byte, 6), 0, 0), nil))
	p.WantClosed("a command in a discovery session")

	// A wildcard is told as the address to which one came, and targets that do not fit into one PDU come in pieces.
	must(t, e.Target.CreatePortalGroup(iscsi.PortalGroupOptions{Tag: 2, Portals: []iscsi.Portal{{Host: "0.0.0.0", Port: "0"}}}))
	groups := e.Target.PortalGroups()
	port := groups[slices.IndexFunc(groups, func(g iscsi.PortalGroupInfo) bool { return g.Tag == 2 })].Portals[0].Port
	want := slices.Clone(here)
	for i := range 60 {
		n := fmt.Sprintf("iqn.2026-01.io.pollux:wild%02d", i)
		must(t, e.Target.CreateNode(t.Context(), iscsi.NodeOptions{Name: n, Maps: []iscsi.Map{{PortalGroup: 2, InitiatorGroup: iscsitest.Tag}}}))
		want = append(want, "TargetName="+n, "TargetAddress=127.0.0.1:"+port+",2")
	}
	if got := sendTargets(t, iscsitest.Discovery(t, e.Addr), "SendTargets=All"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	b := iscsitest.Text("SendTargets=All")
	p = iscsitest.Dial(t, e.Addr)
	r, _ := p.Step(op, ffp, append(slices.Clone(discovery), "MaxRecvDataSegmentLength=512")...)
	p.Enter(r)
	var all []byte
	pieces := 0
	request := iscsi.TextRequest{Final: true, ITT: p.ITT(), TTT: iscsi.NoTag, DataBytes: uint32(len(b))}
	for data := b; ; data = nil {
		request.Request, request.DataBytes = p.Request(), uint32(len(data))
		p.Send(p.PDU(request, data))
		pdu := p.Want("a piece", iscsi.OpTextResponse)
		r, fault := iscsi.DecodeTextResponse(pdu.BHS)
		if !fault.OK() || len(pdu.Data) > 512 || r.Continue == r.Final || r.ITT != request.ITT {
			t.Fatalf("%v: %+v with %d bytes", fault, r, len(pdu.Data))
		}
		all = append(all, pdu.Data...)
		if pieces++; r.Final {
			break
		}
		request.TTT = r.TTT
	}
	if got := iscsitest.Pairs(all); !slices.Equal(got, want) || pieces != (len(all)+511)/512 {
		t.Errorf("in %d pieces %q, want %q", pieces, got, want)
	}
}

// TestRedirectOverTCP: to a private portal group of the same target, where the login goes on. Discovery does not tell.
func TestRedirectOverTCP(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	must(t, e.Target.CreatePortalGroup(iscsi.PortalGroupOptions{Tag: 2, Private: true, Portals: []iscsi.Portal{{Host: "127.0.0.2", Port: "0"}}}))
	must(t, e.Target.AddMaps(iscsitest.Node, []iscsi.Map{{PortalGroup: 2, InitiatorGroup: iscsitest.Tag}}))
	groups := e.Target.PortalGroups()
	to := groups[slices.IndexFunc(groups, func(g iscsi.PortalGroupInfo) bool { return g.Tag == 2 })].Portals[0]
	must(t, e.Target.Redirect(iscsitest.Node, iscsitest.Tag, to))

	p := iscsitest.Dial(t, e.Addr)
	r, text := p.Step(op, ffp, names...)
	if !slices.Equal(text, []string{"TargetAddress=" + to.String()}) {
		t.Errorf("%q, want the address %v without a tag", text, to)
	}
	p.WantRefused("it is elsewhere", r, iscsi.LoginMovedForNow)

	addr, err := iscsi.ParsePortal(to)
	must(t, err)
	p = iscsitest.Login(t, addr)
	if p.Keys["TargetPortalGroupTag"] != "2" {
		t.Errorf("portal group %s", p.Keys["TargetPortalGroupTag"])
	}
	p.Unit(0)

	got := sendTargets(t, iscsitest.Discovery(t, e.Addr), "SendTargets=All")
	if want := []string{"TargetName=" + iscsitest.Node, fmt.Sprintf("TargetAddress=%v,1", e.Addr)}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}

	must(t, e.Target.Redirect(iscsitest.Node, iscsitest.Tag, iscsi.Portal{}))
	iscsitest.Login(t, e.Addr, "InitiatorName=iqn.2026-01.io.pollux:later").Unit(0)
}

// TestReinstatementOverTCP: a login with the same initiator, ISID and portal group takes the place of the session that is there. Others are others.
func TestReinstatementOverTCP(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	old := iscsitest.Login(t, e.Addr)
	old.Unit(0)
	otherISID := iscsitest.Dial(t, e.Addr)
	otherISID.ISID[5] = 77
	otherISID.Login()
	otherName := iscsitest.Login(t, e.Addr, "InitiatorName=iqn.2026-01.io.pollux:another")
	for range 8 {
		next := iscsitest.Login(t, e.Addr)
		if next.TSIH == 0 {
			t.Fatal("no TSIH")
		}
		old.WantClosed("the session that was replaced")
		next.Unit(0)
		old = next
	}
	otherISID.Unit(0)
	otherName.Unit(0)
	old.Logout("the last")
}

// TestLoginTimeout: a connection that does not become a session is closed in its time, whatever it does meanwhile; one that has is not.
func TestLoginTimeout(t *testing.T) {
	iscsi.SetPatience(t, iscsi.Patience{Login: 300 * time.Millisecond})
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	in := iscsitest.Login(t, e.Addr)
	silent := iscsitest.Dial(t, e.Addr)
	begun := iscsitest.Dial(t, e.Addr)
	if r, _ := begun.Step(op, op, names...); r.Status != iscsi.LoginSuccess {
		t.Fatal(r.Status)
	}
	half := iscsitest.Dial(t, e.Addr)
	text := iscsitest.Text(names...)
	b := half.PDU(iscsi.LoginRequest{Request: half.Immediate(), CSG: op, DataBytes: uint32(len(text))}, text)
	half.Send(b[:70])
	silent.WantClosed("it says nothing")
	begun.WantClosed("it stops in the middle")
	half.WantClosed("it stops within a request")
	in.Unit(0)
	in.Logout("it is logged in")
}

// TestLoginSeesChangesOverTCP: what is configured while a login goes on counts for it.
func TestLoginSeesChangesOverTCP(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	begin := func() *iscsitest.Peer {
		t.Helper()
		p := iscsitest.Dial(t, e.Addr)
		if r, _ := p.Step(op, op, names...); r.Status != iscsi.LoginSuccess {
			t.Fatal(r.Status)
		}
		return p
	}
	p := begin()
	must(t, e.Target.RemoveMaps(t.Context(), iscsitest.Node, []iscsi.Map{{PortalGroup: 1, InitiatorGroup: 1}}))
	r, _ := p.Step(op, ffp)
	p.WantRefused("its map is gone", r, iscsi.LoginNotAllowed)
	must(t, e.Target.AddMaps(iscsitest.Node, []iscsi.Map{{PortalGroup: 1, InitiatorGroup: 1}}))

	p = begin()
	must(t, e.Target.SetNodeAuth(iscsitest.Node, iscsi.Auth{Require: true, Group: 1}))
	if r, _ = p.Step(op, ffp); r.Status != iscsi.LoginSuccess {
		t.Fatalf("a rule of authentication counts for a login that began before it: %v", r.Status)
	}
	p.Enter(r)
	p.Logout("before the drain")
	must(t, e.Target.SetNodeAuth(iscsitest.Node, iscsi.Auth{}))

	p = begin()
	must(t, e.Target.Drain(t.Context(), func(int, int) {}))
	r, _ = p.Step(op, ffp)
	p.WantRefused("the target is drained", r, iscsi.LoginServiceUnavailable)
	must(t, e.Target.Undrain())

	p = begin()
	must(t, e.Target.DeleteNode(t.Context(), iscsitest.Node))
	r, _ = p.Step(op, ffp)
	p.WantRefused("its node is gone", r, iscsi.LoginRemoved)
}

// TestLoginsWithoutEndOverTCP: sessions come and go, of discovery too, and what they had is had by others.
func TestLoginsWithoutEndOverTCP(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2, Target: func(o *iscsi.Options) { o.MaxSessions = 4 }})
	seen := map[iscsi.TSIH]bool{}
	for range 100 {
		p := iscsitest.Discovery(t, e.Addr)
		seen[p.TSIH] = true
		p.Logout("discovery")
		p = iscsitest.Login(t, e.Addr)
		seen[p.TSIH] = true
		p.Logout("normal")
	}
	if len(seen) > 8 {
		t.Errorf("%d TSIHs for one session at a time", len(seen))
	}
	// The fifth finds no place, and the others are not troubled.
	var in []*iscsitest.Peer
	for i := range 4 {
		in = append(in, iscsitest.Login(t, e.Addr, fmt.Sprintf("InitiatorName=iqn.2026-01.io.pollux:host%d", i)))
	}
	p := iscsitest.Dial(t, e.Addr)
	r, _ := p.Step(op, ffp, names...)
	p.WantRefused("a fifth session", r, iscsi.LoginOutOfResources)
	for _, p := range in {
		p.Unit(0)
	}
}

// TestReinstatementsAtOnceOverTCP: of many that log in as one and the same, each becomes the session for a while, or is let go; in the end
// there is one, which works, and nothing is left of the others.
func TestReinstatementsAtOnceOverTCP(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 3})
	text := iscsitest.Text(iscsitest.Keys()...)
	login := iscsi.AppendDataEnd(append(iscsi.LoginRequest{
		Request: iscsi.Request{Immediate: true, CmdSN: 1}, Transit: true, CSG: op, NSG: ffp, ISID: iscsi.ISID{0x80, 0, 0, 0, 0, 1}, ITT: 1, CID: 1, DataBytes: uint32(len(text)),
	}.AppendTo(nil), text...), uint32(len(text)), 0, 0)
	var in, out atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				c, err := net.Dial("tcp", e.Addr.String())
				if err != nil {
					t.Error(err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(patient.Limit))
				_, _ = c.Write(login)
				h := make([]byte, iscsi.BHSBytes)
				if _, err := io.ReadFull(c, h); err != nil {
					if errors.Is(err, os.ErrDeadlineExceeded) {
						t.Error("neither let in nor let go")
					}
					out.Add(1)
				} else if r, _ := iscsi.DecodeLoginResponse(h); r.Status != iscsi.LoginSuccess || r.TSIH == 0 {
					t.Errorf("%+v", r)
				} else {
					in.Add(1)
				}
				c.Close()
			}
		})
	}
	wg.Wait()
	t.Logf("%d were let in, %d let go", in.Load(), out.Load())
	last := iscsitest.Login(t, e.Addr)
	last.Unit(0)
	for end := time.Now().Add(patient.Limit); ; time.Sleep(time.Millisecond) {
		cs, err := e.Target.Connections()
		must(t, err)
		if len(cs) == 1 && cs[0].TSIH == last.TSIH {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d connections are left: %+v", len(cs), cs)
		}
	}
	last.Logout("the last")
}
