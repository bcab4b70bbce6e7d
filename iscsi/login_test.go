package iscsi

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// loginHost is an initiator's end of a login under test.
type loginHost struct {
	l     login
	h     LoginRequest // the next request's header
	state loginState
	resp  LoginResponse
	text  string
	raw   string // text as it is
}

func newLoginHost(v *view, tag int) *loginHost {
	x := &loginHost{h: LoginRequest{ISID: ISID{0x40, 0, 1, 2, 3, 4}, ITT: 7, CID: 9}}
	x.l.init(v, tag, testLocal, testRemote, &testRandom{})
	x.l.live = func(tsih TSIH) bool { return tsih == 77 }
	return x
}

// send sends a request in stage from; with to above from T is set.
func (x *loginHost) send(from, to Stage, kv ...string) *loginHost {
	x.h.CSG, x.h.NSG, x.h.Transit, x.h.Continue = from, to, to > from, false
	return x.request(textOf(kv...))
}

func (x *loginHost) request(text []byte) *loginHost {
	resp, answer, state := x.l.request(x.h, text)
	if state == loginEnters {
		resp, answer = x.l.finish(0x1234)
	}
	x.resp, x.text, x.raw, x.state = resp, showText(answer), string(answer), state
	return x
}

// String is the answer in a line.
func (x *loginHost) String() string {
	s := fmt.Sprintf("%s %04X", x.state, uint16(x.resp.Status))
	if x.resp.Transit {
		s += fmt.Sprintf(" T%d%d", x.resp.CSG, x.resp.NSG)
	}
	if x.resp.Continue {
		s += " C"
	}
	return strings.TrimSpace(s + " " + x.text)
}

func (x *loginHost) want(t *testing.T, want string) {
	t.Helper()
	if got := x.String(); got != want {
		t.Fatalf("\n%s, want\n%s\n%s", got, want, x.l.why)
	}
	if x.resp.ITT != x.h.ITT || x.resp.VersionActive != 0 || x.resp.VersionMax != 0 {
		t.Fatalf("%+v does not answer %+v", x.resp, x.h)
	}
}

const (
	asHost   = "InitiatorName=" + testInitiator
	atTarget = "TargetName=" + testTarget
	sec      = SecurityNegotiation
	op       = OperationalStage
	ffp      = FullFeature
	told     = "TargetAlias=a disk TargetPortalGroupTag=1"
	ourLimit = "MaxRecvDataSegmentLength=262144"
)

func TestLoginStages(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(x *loginHost) *loginHost
		want string
	}{
		{"at once, in the operational stage", func(x *loginHost) *loginHost { return x.send(op, ffp, asHost, atTarget) },
			"enters 0000 T13 " + told + " " + ourLimit},
		{"at once, in the security stage", func(x *loginHost) *loginHost { return x.send(sec, ffp, asHost, atTarget, "AuthMethod=None") },
			"enters 0000 T03 AuthMethod=None " + told},
		{"at once, and says nothing of security", func(x *loginHost) *loginHost { return x.send(sec, ffp, asHost, atTarget) }, "enters 0000 T03 " + told},
		{"both stages", func(x *loginHost) *loginHost {
			return x.send(sec, op, asHost, atTarget, "AuthMethod=CHAP,None").send(op, ffp, "MaxConnections=1")
		}, "enters 0000 T13 MaxConnections=1 " + ourLimit},
		{"slowly", func(x *loginHost) *loginHost {
			return x.send(sec, sec, asHost, atTarget).send(sec, sec, "AuthMethod=None").send(sec, op).send(op, op, "MaxConnections=1").send(op, ffp)
		}, "enters 0000 T13"},
		{"T not set", func(x *loginHost) *loginHost { return x.send(op, op, asHost, atTarget) }, "goes on 0000 " + told + " " + ourLimit},
		{"Discovery", func(x *loginHost) *loginHost { return x.send(op, ffp, asHost, "SessionType=Discovery") }, "enters 0000 T13 " + ourLimit},
		{"Discovery with a target", func(x *loginHost) *loginHost { return x.send(op, ffp, asHost, "SessionType=Discovery", atTarget) },
			"enters 0000 T13 TargetPortalGroupTag=1 " + ourLimit},
		{"Discovery with a target that there is not", func(x *loginHost) *loginHost { return x.send(op, ffp, asHost, "SessionType=Discovery", atTarget+"0") },
			"enters 0000 T13 TargetPortalGroupTag=1 " + ourLimit},
		{"SessionType behind the keys that depend on it", func(x *loginHost) *loginHost {
			return x.send(op, ffp, "MaxConnections=1", "SessionType=Discovery", asHost)
		},
			"enters 0000 T13 MaxConnections=Irrelevant " + ourLimit},
		{"a target's name in capitals", func(x *loginHost) *loginHost {
			return x.send(op, ffp, asHost, "TargetName="+strings.ToUpper(testTarget))
		},
			"enters 0000 T13 " + told + " " + ourLimit},
		{"names again, as libiscsi says them", func(x *loginHost) *loginHost {
			return x.send(sec, op, asHost, atTarget, "SessionType=Normal", "AuthMethod=CHAP,None").send(op, ffp, asHost, atTarget, "SessionType=Normal")
		}, "enters 0000 T13 " + ourLimit},

		{"CSG 2", func(x *loginHost) *loginHost { return x.send(2, ffp, asHost, atTarget) }, "refused 0200"},
		{"CSG 3", func(x *loginHost) *loginHost { return x.send(ffp, ffp, asHost, atTarget) }, "refused 0200"},
		{"NSG 2", func(x *loginHost) *loginHost { return x.send(op, 2, asHost, atTarget) }, "refused 0200"},
		{"NSG 2 from security", func(x *loginHost) *loginHost { return x.send(sec, 2, asHost, atTarget) }, "refused 0200"},
		{"to where it is", func(x *loginHost) *loginHost {
			x.h.Transit, x.h.CSG, x.h.NSG = true, op, op
			return x.request(textOf(asHost, atTarget))
		}, "refused 0200"},
		{"back", func(x *loginHost) *loginHost {
			x.h.Transit, x.h.CSG, x.h.NSG = true, op, sec
			return x.request(textOf(asHost, atTarget))
		}, "refused 0200"},
		{"T with C", func(x *loginHost) *loginHost {
			x.h.Transit, x.h.Continue, x.h.CSG, x.h.NSG = true, true, op, ffp
			return x.request(textOf(asHost, atTarget))
		}, "refused 0200"},
		{"a stage that was left", func(x *loginHost) *loginHost { return x.send(sec, op, asHost, atTarget).send(sec, op) }, "refused 0200"},
		{"a stage that was not entered", func(x *loginHost) *loginHost { return x.send(sec, sec, asHost, atTarget).send(op, ffp) }, "refused 0200"},
		{"NSG without T does not matter", func(x *loginHost) *loginHost {
			x.h.Transit, x.h.CSG, x.h.NSG = false, op, 2
			return x.request(textOf(asHost, atTarget))
		}, "goes on 0000 " + told + " " + ourLimit},
		{"version 1 at least", func(x *loginHost) *loginHost {
			x.h.VersionMin, x.h.VersionMax = 1, 1
			return x.send(op, ffp, asHost, atTarget)
		}, "refused 0205"},
		{"version 1 at most", func(x *loginHost) *loginHost {
			x.h.VersionMax = 1
			return x.send(op, ffp, asHost, atTarget)
		}, "enters 0000 T13 " + told + " " + ourLimit},
		{"another ISID", func(x *loginHost) *loginHost {
			x.send(op, op, asHost, atTarget)
			x.h.ISID[5]++
			return x.send(op, ffp)
		}, "refused 0200"},
		{"another CID", func(x *loginHost) *loginHost {
			x.send(op, op, asHost, atTarget)
			x.h.CID++
			return x.send(op, ffp)
		}, "refused 0200"},
		{"a TSIH all at once", func(x *loginHost) *loginHost {
			x.send(op, op, asHost, atTarget)
			x.h.TSIH = 77
			return x.send(op, ffp)
		}, "refused 0200"},
		{"requests without end", func(x *loginHost) *loginHost {
			x.send(op, op, asHost, atTarget)
			for range loginRequestsMax - 1 {
				if x.state != loginGoesOn {
					panic(x.String())
				}
				x.send(op, op)
			}
			return x.send(op, op)
		}, "refused 0200"},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(newLoginHost(testView(), 1)).want(t, c.want) })
	}
}

func TestLoginIdentifies(t *testing.T) {
	long := "iqn.2004-10.com.example:" + strings.Repeat("a", 200)
	for _, c := range []struct {
		name, keys string
		set        func(x *loginHost)
		want       string
	}{
		{"no InitiatorName", atTarget, nil, "refused 0207"},
		{"an empty InitiatorName", "InitiatorName= " + atTarget, nil, "refused 0207"},
		{"an InitiatorName that is too long", "InitiatorName=" + long + " " + atTarget, nil, "refused 0200"},
		{"no keys", "", nil, "refused 0207"},
		{"no TargetName", asHost, nil, "refused 0207"},
		{"no TargetName, and Normal", asHost + " SessionType=Normal", nil, "refused 0207"},
		{"a SessionType that is none", asHost + " SessionType=Boot " + atTarget, nil, "refused 0209"},
		{"a SessionType in another case", asHost + " SessionType=discovery", nil, "refused 0209"},
		{"an unknown target", asHost + " TargetName=iqn.2026-01.io.pollux:none", nil, "refused 0203"},
		{"a target of another portal group", asHost + " " + atTarget, func(x *loginHost) { x.l.params.Tag = 2 }, "refused 0202"},
		{"a target of others", asHost + " TargetName=iqn.2026-01.io.pollux:others", nil, "refused 0202"},
		{"a target without maps", asHost + " TargetName=iqn.2026-01.io.pollux:unmapped", nil, "refused 0202"},
		{"an address that may not", asHost + " TargetName=iqn.2026-01.io.pollux:elsewhere", nil, "refused 0202"},
		{"an address that may", asHost + " TargetName=iqn.2026-01.io.pollux:elsewhere", func(x *loginHost) { x.l.remote = netip.MustParseAddrPort("10.1.2.3:4") },
			"enters 0000 T13 TargetPortalGroupTag=1 " + ourLimit},
		{"a redirect", asHost + " TargetName=iqn.2026-01.io.pollux:redirected", nil, "refused 0101 TargetAddress=203.0.113.1:3260"},
		{"where the redirect leads", asHost + " TargetName=iqn.2026-01.io.pollux:redirected", func(x *loginHost) { x.l.params.Tag = 3 },
			"enters 0000 T13 TargetPortalGroupTag=3 " + ourLimit},
		{"an unknown TSIH", asHost + " " + atTarget, func(x *loginHost) { x.h.TSIH = 78 }, "refused 020A"},
		{"an unknown TSIH, and nobody knows any", asHost + " " + atTarget, func(x *loginHost) { x.h.TSIH, x.l.live = 77, nil }, "refused 020A"},
		{"a second connection", asHost + " " + atTarget, func(x *loginHost) { x.h.TSIH = 77 }, "refused 0206"},
		{"a second connection of one that may not", "InitiatorName=iqn.2004-10.com.example:eve TargetName=iqn.2026-01.io.pollux:others", func(x *loginHost) { x.h.TSIH = 77 }, "refused 0202"},
		{"a target that is being stopped", asHost + " " + atTarget, func(x *loginHost) { x.l.v.stopping = true }, "refused 0301"},
		{"a key twice", asHost + " " + atTarget + " MaxConnections=1 MaxConnections=1", nil, "refused 0200"},
		{"a name twice", asHost + " " + asHost + " " + atTarget, nil, "refused 0200"},
		{"header digests are required", asHost + " " + atTarget + " HeaderDigest=None", func(x *loginHost) { x.l.v.nodes[0].header = true }, "refused 0200"},
		{"header digests are required, and not spoken of", asHost + " " + atTarget, func(x *loginHost) { x.l.v.nodes[0].header = true }, "refused 0200"},
		{"data digests are required", asHost + " " + atTarget + " HeaderDigest=CRC32C", func(x *loginHost) { x.l.v.nodes[0].data = true }, "refused 0200"},
		{"both digests are required", asHost + " " + atTarget + " HeaderDigest=None,CRC32C DataDigest=CRC32C,None", func(x *loginHost) { x.l.v.nodes[0].header, x.l.v.nodes[0].data = true, true },
			"enters 0000 T13 HeaderDigest=CRC32C DataDigest=CRC32C " + told + " " + ourLimit},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newLoginHost(testView(), 1)
			if c.set != nil {
				c.set(x)
			}
			x.send(op, ffp, strings.Fields(c.keys)...).want(t, c.want)
			if x.state != loginRefused {
				return
			}
			if x.l.why == "" {
				t.Error("the refusal has no reason")
			}
			first := x.resp.Status
			if x.send(op, ffp, asHost, atTarget); x.state != loginRefused || x.resp.Status != first || x.text != "" {
				t.Errorf("a second try: %v", x)
			}
		})
	}
	for _, c := range []struct {
		name string
		text []byte
	}{
		{"a pair without =", []byte("InitiatorName\x00")},
		{"no key", []byte("=a\x00")},
		{"a key that is too long", textOf(strings.Repeat("K", 64) + "=1")},
		{"bytes that are no text", textOf(asHost, atTarget, "InitiatorAlias=\xff")},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newLoginHost(testView(), 1)
			x.h.CSG = op
			if x.request(c.text); x.state != loginRefused || x.resp.Status != LoginInitiatorError {
				t.Error(x)
			}
		})
	}
}

// TestLoginResult: what a session is made of.
func TestLoginResult(t *testing.T) {
	v := testView()
	x := newLoginHost(v, 1)
	x.send(op, ffp, asHost, "InitiatorAlias=h1", atTarget, "HeaderDigest=CRC32C", "MaxRecvDataSegmentLength=131072", "MaxBurstLength=524288", "FirstBurstLength=32768",
		"InitialR2T=No", "ImmediateData=Yes", "MaxOutstandingR2T=4").want(t,
		"enters 0000 T13 HeaderDigest=CRC32C MaxBurstLength=524288 FirstBurstLength=32768 InitialR2T=No ImmediateData=Yes MaxOutstandingR2T=1 "+told+" "+ourLimit)
	want := Params{
		InitiatorName: testInitiator, InitiatorAlias: "h1", TargetName: testTarget, Tag: 1, ISID: ISID{0x40, 0, 1, 2, 3, 4}, TSIH: 0x1234, CID: 9,
		Digests: HeaderDigests, SendBytesMax: 131072, RecvBytesMax: 262144, MaxBurst: 524288, FirstBurst: 32768, ImmediateData: true, MaxOutstandingR2T: 1,
	}
	if x.l.params != want {
		t.Errorf("\n%+v, want\n%+v", x.l.params, want)
	}
	if x.l.node != v.nodes[0].node || x.resp.TSIH != 0x1234 || x.resp.ISID != want.ISID {
		t.Errorf("node %p, response %+v", x.l.node, x.resp)
	}
	x = newLoginHost(v, 1)
	x.send(sec, ffp, asHost, "SessionType=Discovery", "AuthMethod=None").want(t, "enters 0000 T03 AuthMethod=None")
	if p := x.l.params; x.l.node != nil || !p.Discovery || p.RecvBytesMax != 8192 || p.SendBytesMax != 8192 || p.TargetName != "" {
		t.Errorf("%+v", p)
	}
	// One initiator has one name.
	x = newLoginHost(v, 1)
	if x.send(op, ffp, "InitiatorName="+strings.ToUpper(testInitiator), atTarget); x.l.params.InitiatorName != testInitiator {
		t.Errorf("%+v", x.l.params)
	}
	// Lengths that came in requests of their own.
	x = newLoginHost(v, 1)
	x.send(op, op, asHost, atTarget, "FirstBurstLength=65536").send(op, ffp, "MaxBurstLength=4096").want(t, "enters 0000 T13 MaxBurstLength=4096")
	if x.l.params.FirstBurst != 4096 {
		t.Errorf("FirstBurst %d above MaxBurst", x.l.params.FirstBurst)
	}
}

// TestLoginTextInPieces: C in requests and answers.
func TestLoginTextInPieces(t *testing.T) {
	full := textOf(asHost, atTarget, "MaxConnections=1")
	for cut := range full {
		x := newLoginHost(testView(), 1)
		x.h.CSG, x.h.Continue = op, true
		if x.request(full[:cut]); x.String() != "goes on 0000" {
			t.Fatal(cut, x)
		}
		x.h.Continue, x.h.Transit, x.h.NSG = false, true, ffp
		x.request(full[cut:]).want(t, "enters 0000 T13 MaxConnections=1 "+told+" "+ourLimit)
	}
	t.Run("without end", func(t *testing.T) {
		x := newLoginHost(testView(), 1)
		x.h.CSG, x.h.Continue = op, true
		for range loginTextMax / 4096 {
			if x.request(make([]byte, 4096)); x.state != loginGoesOn {
				t.Fatal(x)
			}
		}
		x.request([]byte{'a'}).want(t, "refused 0200")
	})
	// An initiator that takes little gets the answer in pieces; the last has T.
	many := []string{asHost, atTarget, "MaxRecvDataSegmentLength=512"}
	for i := range 40 {
		many = append(many, fmt.Sprintf("X-com.example.number%02d=%d", i, i))
	}
	var whole bytes.Buffer
	x := newLoginHost(testView(), 1)
	x.send(op, ffp, many...)
	pieces := 0
	for ; x.resp.Continue; pieces++ {
		if x.state != loginGoesOn || x.resp.Transit || x.resp.DataBytes != 512 {
			t.Fatal(x)
		}
		whole.WriteString(x.text + " ")
		x.send(op, ffp)
	}
	whole.WriteString(x.text)
	if pieces < 2 || x.state != loginEnters || strings.Count(whole.String(), "NotUnderstood") < 38 {
		t.Errorf("%d pieces, %v", pieces, x)
	}
	t.Run("text before the answer was fetched", func(t *testing.T) {
		x := newLoginHost(testView(), 1)
		if x.send(op, ffp, many...); !x.resp.Continue {
			t.Fatal(x)
		}
		x.send(op, ffp, "MaxConnections=1").want(t, "refused 0200")
	})
	t.Run("no T with the last piece", func(t *testing.T) {
		x := newLoginHost(testView(), 1)
		for x.send(op, ffp, many...); x.resp.Continue; x.send(op, op) {
		}
		if x.state != loginGoesOn || x.resp.Transit {
			t.Fatal(x)
		}
		x.send(op, ffp).want(t, "enters 0000 T13")
	})
}

// TestLoginEnds: by others than the login.
func TestLoginEnds(t *testing.T) {
	t.Run("no place for the session", func(t *testing.T) {
		x := newLoginHost(testView(), 1)
		x.h.CSG, x.h.NSG, x.h.Transit = op, ffp, true
		if _, _, state := x.l.request(x.h, textOf(asHost, atTarget)); state != loginEnters {
			t.Fatal(state)
		}
		r := x.l.refuse(LoginOutOfResources)
		if r.Status != LoginOutOfResources || r.Transit || r.TSIH != 0 || r.ITT != 7 || r.ISID != x.h.ISID {
			t.Errorf("%+v", r)
		}
	})
	t.Run("a request before the session is there", func(t *testing.T) {
		x := newLoginHost(testView(), 1)
		x.h.CSG, x.h.NSG, x.h.Transit = op, ffp, true
		x.l.request(x.h, textOf(asHost, atTarget))
		if r, _, state := x.l.request(x.h, nil); state != loginRefused || r.Status != LoginInvalidRequest {
			t.Error(state, r.Status)
		}
	})
	t.Run("not a login", func(t *testing.T) {
		x := newLoginHost(testView(), 1)
		x.send(op, op, asHost, atTarget)
		r := x.l.refusal(LoginRequest{ITT: 8, ISID: ISID{9}}, LoginInvalidRequest)
		if r.Status != LoginInvalidRequest || r.ITT != 8 || r.ISID != x.h.ISID {
			t.Errorf("%+v", r)
		}
		x.send(op, ffp)
		if x.state != loginRefused || x.resp.Status != LoginInvalidRequest {
			t.Error(x)
		}
	})
	t.Run("the target is gone", func(t *testing.T) {
		x := newLoginHost(testView(), 1)
		x.send(op, op, asHost, atTarget)
		v := testView()
		v.nodes = v.nodes[1:]
		x.l.v = v
		x.send(op, ffp).want(t, "refused 0204")
	})
	t.Run("another of its name", func(t *testing.T) {
		x := newLoginHost(testView(), 1)
		x.send(op, op, asHost, atTarget)
		x.l.v = testView()
		x.send(op, ffp).want(t, "refused 0204")
	})
	t.Run("the target changes", func(t *testing.T) {
		v := testView()
		x := newLoginHost(v, 1)
		x.send(op, op, asHost, atTarget)
		changed := *v.nodes[0]
		changed.alias = "another"
		x.l.v = &view{nodes: []*nodeView{&changed}}
		x.send(op, ffp).want(t, "enters 0000 T13")
		if x.l.at != &changed {
			t.Error("it is that of the old view")
		}
	})
	t.Run("its rights are gone", func(t *testing.T) {
		x := newLoginHost(testView(), 1)
		x.send(op, op, asHost, atTarget)
		changed := *x.l.at
		changed.maps = nil
		x.l.v = &view{nodes: []*nodeView{&changed}}
		x.send(op, ffp).want(t, "refused 0202")
	})
	t.Run("the target stops", func(t *testing.T) {
		x := newLoginHost(testView(), 1)
		x.send(op, op, asHost, atTarget)
		v := testView()
		v.stopping = true
		x.l.v = v
		x.send(op, ffp).want(t, "refused 0301")
	})
}

// chapHost goes through a login with CHAP.
type chapHost struct {
	*loginHost
	algorithm, i, c string
}

// begin offers AuthMethod and CHAP_A, and hears the challenge.
func (x *chapHost) begin(t *testing.T, methods, algorithm string, keys ...string) {
	t.Helper()
	x.algorithm = algorithm
	x.send(sec, op, append(keys, "AuthMethod="+methods)...)
	if x.state != loginGoesOn || x.resp.Transit || !strings.HasPrefix(x.text, "AuthMethod=CHAP") {
		t.Fatal(x)
	}
	x.send(sec, sec, "CHAP_A="+algorithm)
	pairs := pairsOf(strings.Fields(x.text)...)
	x.i, x.c = valueOf(pairs, "CHAP_I"), valueOf(pairs, "CHAP_C")
	if x.state != loginGoesOn || x.c == "" || valueOf(pairs, "CHAP_A") != algorithm {
		t.Fatal(x)
	}
}

func (x *chapHost) proof(secret string) string {
	return "CHAP_R=0x" + hex.EncodeToString(proofOf(x.algorithm, x.i, secret, x.c))
}

func TestLoginCHAP(t *testing.T) {
	const challenge = "0x000102030405060708090a0b0c0d0e0ff0"
	for _, session := range []string{"Normal", "Discovery"} {
		for _, rule := range []Auth{{Group: 1}, {Require: true, Group: 1}, {Require: true, Mutual: true, Group: 1}} {
			t.Run(fmt.Sprintf("%s/%+v", session, rule), func(t *testing.T) {
				who := []string{asHost, "SessionType=" + session}
				if session == "Normal" {
					who = append(who, atTarget)
				}
				start := func() *chapHost {
					v := testView()
					v.nodes[0].auth, v.discovery = rule, rule
					return &chapHost{loginHost: newLoginHost(v, 1)}
				}
				refused := func(name string, run func(x *chapHost)) {
					t.Run(name, func(t *testing.T) {
						x := start()
						run(x)
						if x.String() != "refused 0201" {
							t.Error(x, x.l.why)
						}
					})
				}
				for _, algorithm := range []string{"5", "7"} {
					t.Run("right/"+algorithm, func(t *testing.T) {
						x := start()
						x.begin(t, "CHAP,None", algorithm, who...)
						keys := []string{"CHAP_N=alice", x.proof(testSecret.Secret), "CHAP_I=9", "CHAP_C=" + challenge}
						if !rule.Mutual {
							keys = keys[:2]
						}
						x.send(sec, op, keys...)
						want := "goes on 0000 T01"
						if rule.Mutual {
							want += " CHAP_N=target1 CHAP_R=0x" + hex.EncodeToString(proofOf(algorithm, "9", testSecret.MutualSecret, challenge))
						}
						x.want(t, want)
						x.send(op, ffp).want(t, "enters 0000 T13 "+ourLimit)
						if x.l.params.User != "alice" {
							t.Errorf("user %q", x.l.params.User)
						}
					})
				}
				t.Run("straight to the full feature phase", func(t *testing.T) {
					x := start()
					x.begin(t, "CHAP", "5", who...)
					x.send(sec, ffp, "CHAP_N=alice", x.proof(testSecret.Secret), "CHAP_I=9", "CHAP_C="+challenge)
					if x.state != loginEnters {
						t.Error(x)
					}
				})
				refused("a wrong secret", func(x *chapHost) {
					x.begin(t, "CHAP", "5", who...)
					x.send(sec, op, "CHAP_N=alice", x.proof("wrong"), "CHAP_I=9", "CHAP_C="+challenge)
				})
				refused("an unknown user", func(x *chapHost) {
					x.begin(t, "CHAP", "5", who...)
					x.send(sec, op, "CHAP_N=eve", x.proof(""), "CHAP_I=9", "CHAP_C="+challenge)
				})
				refused("an unknown method", func(x *chapHost) { x.send(sec, op, append(who, "AuthMethod=KRB5,SRP")...) })
				refused("an empty method", func(x *chapHost) { x.send(sec, op, append(who, "AuthMethod=")...) })
				refused("algorithms that nobody knows", func(x *chapHost) {
					x.send(sec, op, append(who, "AuthMethod=CHAP")...)
					x.send(sec, sec, "CHAP_A=6,8")
				})
				refused("a proof at once", func(x *chapHost) {
					x.send(sec, op, append(who, "AuthMethod=CHAP")...)
					x.send(sec, op, "CHAP_N=alice", "CHAP_R=0x00")
				})
				t.Run("on without a proof", func(t *testing.T) {
					x := start()
					x.begin(t, "CHAP", "5", who...)
					if x.send(sec, op); x.resp.Transit || x.state != loginGoesOn {
						t.Error("it may go on", x)
					}
					if x.send(op, ffp); x.state != loginRefused {
						t.Error("it is in the next stage", x)
					}
				})
				if !rule.Require {
					return
				}
				refused("None", func(x *chapHost) { x.send(sec, op, append(who, "AuthMethod=None")...) })
				refused("no method, and on", func(x *chapHost) { x.send(sec, op, who...) })
				refused("no method, and straight on", func(x *chapHost) { x.send(sec, ffp, who...) })
				t.Run("on while it fetches a long answer", func(t *testing.T) {
					x := start()
					keys := append(who[:len(who):len(who)], "MaxRecvDataSegmentLength=512")
					for i := range 40 {
						keys = append(keys, fmt.Sprintf("X-com.example.number%02d=1", i))
					}
					if x.send(sec, sec, keys...); !x.resp.Continue {
						t.Fatal(x)
					}
					for x.resp.Continue {
						x.send(sec, op)
					}
					if x.resp.Transit || x.state != loginGoesOn {
						t.Error("it may go on", x)
					}
				})
				refused("begins behind the stage", func(x *chapHost) { x.send(op, ffp, who...) })
				refused("begins behind the stage, slowly", func(x *chapHost) { x.send(op, op, who...) })
				refused("no secrets to know", func(x *chapHost) {
					x.l.v.secrets = nil
					x.send(sec, op, append(who, "AuthMethod=CHAP,None")...)
				})
				if !rule.Mutual {
					return
				}
				refused("does not ask the target", func(x *chapHost) {
					x.begin(t, "CHAP", "5", who...)
					x.send(sec, op, "CHAP_N=alice", x.proof(testSecret.Secret))
				})
				refused("asks what it was asked", func(x *chapHost) {
					x.begin(t, "CHAP", "5", who...)
					x.send(sec, op, "CHAP_N=alice", x.proof(testSecret.Secret), "CHAP_I="+x.i, "CHAP_C="+x.c)
				})
			})
		}
	}
	t.Run("all in one request", func(t *testing.T) {
		v := testView()
		v.nodes[0].auth = Auth{Require: true, Group: 1}
		x := newLoginHost(v, 1).send(sec, sec, asHost, atTarget, "AuthMethod=CHAP", "CHAP_A=5")
		x.want(t, "goes on 0000 AuthMethod=CHAP CHAP_A=5 CHAP_I=0 CHAP_C=0x0102030405060708090a0b0c0d0e0f10 "+told)
	})
	t.Run("CHAP without a group is passed over", func(t *testing.T) {
		newLoginHost(testView(), 1).send(sec, op, asHost, atTarget, "AuthMethod=CHAP,None").want(t, "goes on 0000 T01 AuthMethod=None "+told)
	})
	t.Run("CHAP that is forbidden", func(t *testing.T) {
		v := testView()
		v.nodes[0].auth = Auth{Disable: true, Group: 1}
		newLoginHost(v, 1).send(sec, op, asHost, atTarget, "AuthMethod=CHAP").want(t, "refused 0201")
	})
	t.Run("None before CHAP, where neither is required", func(t *testing.T) {
		v := testView()
		v.nodes[0].auth = Auth{Group: 1}
		newLoginHost(v, 1).send(sec, op, asHost, atTarget, "AuthMethod=None,CHAP").want(t, "goes on 0000 T01 AuthMethod=None "+told)
	})
	t.Run("another method later", func(t *testing.T) {
		v := testView()
		v.nodes[0].auth = Auth{Group: 1}
		x := newLoginHost(v, 1).send(sec, op, asHost, atTarget, "AuthMethod=CHAP")
		x.send(sec, op, "AuthMethod=None").want(t, "refused 0200")
	})
	t.Run("a redirect comes before the proof", func(t *testing.T) {
		v := testView()
		v.nodes[2].auth = Auth{Require: true, Group: 1}
		newLoginHost(v, 1).send(sec, op, asHost, "TargetName=iqn.2026-01.io.pollux:redirected", "AuthMethod=CHAP").want(t, "refused 0101 TargetAddress=203.0.113.1:3260")
	})
	t.Run("the source of randomness fails", func(t *testing.T) {
		v := testView()
		v.nodes[0].auth = Auth{Require: true, Group: 1}
		x := newLoginHost(v, 1)
		x.l.chap.random = noRandom{}
		x.send(sec, sec, asHost, atTarget, "AuthMethod=CHAP", "CHAP_A=5").want(t, "refused 0201")
	})
}

// TestLoginShowsNoSecret: neither what it says nor what it is printed as.
func TestLoginShowsNoSecret(t *testing.T) {
	v := testView()
	v.nodes[0].auth = Auth{Require: true, Group: 1}
	x := &chapHost{loginHost: newLoginHost(v, 1)}
	x.begin(t, "CHAP", "5", asHost, atTarget)
	x.send(sec, op, "CHAP_N=alice", x.proof("wrong"))
	if x.state != loginRefused {
		t.Fatal(errors.New(x.String()))
	}
	if s := x.l.why + fmt.Sprintf("%v %+v", &x.l.chap, &x.l.chap); strings.Contains(s, testSecret.Secret) {
		t.Errorf("a secret is shown: %s", s)
	}
}
