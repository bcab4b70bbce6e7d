package iscsi_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/internal/patient"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

// TestFailuresByHost: each kind of failure is counted for the host that it is of, with its last reason (T-17).
func TestFailuresByHost(t *testing.T) {
	iscsi.SetPatience(t, iscsi.Patience{Login: 200 * time.Millisecond})
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	must(t, e.Target.CreateAuthGroup(iscsi.AuthGroup{Tag: 1, Secrets: []iscsi.Secret{{User: "u", Secret: "a secret of many bytes"}}}))
	host := func(name string) string { return "iqn.2026-01.io.pollux:" + name }
	refused := func(why string, status iscsi.LoginStatus, keys ...string) {
		t.Helper()
		p := iscsitest.Dial(t, e.Addr)
		r, _ := p.Step(op, ffp, iscsitest.Keys(keys...)...)
		p.WantRefused(why, r, status)
	}

	must(t, e.Target.SetNodeAuth(iscsitest.Node, iscsi.Auth{Require: true, Group: 1}))
	refused("it does not prove itself", iscsi.LoginAuthenticationFail, "InitiatorName="+host("CHAP"))
	must(t, e.Target.SetNodeAuth(iscsitest.Node, iscsi.Auth{}))
	must(t, e.Target.CreateInitiatorGroup(iscsi.InitiatorGroup{Tag: 2, Initiators: []string{"!" + host("denied"), "ANY"}, Netmasks: []string{"ANY"}}))
	must(t, e.Target.RemoveMaps(t.Context(), iscsitest.Node, []iscsi.Map{{PortalGroup: 1, InitiatorGroup: 1}}))
	must(t, e.Target.AddMaps(iscsitest.Node, []iscsi.Map{{PortalGroup: 1, InitiatorGroup: 2}}))
	for range 2 {
		refused("it is denied", iscsi.LoginNotAllowed, "InitiatorName="+host("denied"))
	}
	refused("there is no such target", iscsi.LoginNotFound, "InitiatorName="+host("lost"), "TargetName="+host("none"))
	refused("it says no name", iscsi.LoginMissingParameter, "InitiatorName")
	silent := iscsitest.Dial(t, e.Addr)
	silent.WantClosed("it says nothing at all")

	p := iscsitest.Login(t, e.Addr, "InitiatorName="+host("wild"), "DataDigest=CRC32C", "HeaderDigest=CRC32C")
	ping := iscsi.NOPOut{Request: p.Immediate(), ITT: p.ITT(), TTT: iscsi.NoTag, DataBytes: 4}
	for range 3 {
		b := p.PDU(ping, []byte("ping"))
		b[len(b)-1] ^= 1
		p.Send(b)
		p.WantReject("a wrong data digest", iscsi.RejectDataDigest, nil)
	}
	p.Send(p.PDU(iscsi.SNACK{ITT: p.ITT(), TTT: iscsi.NoTag}, nil))
	p.WantReject("a SNACK", iscsi.RejectProtocol, nil)
	list := func() (out []string) {
		got, err := e.Target.HostFailures()
		must(t, err)
		for _, h := range got {
			s := h.Initiator[strings.LastIndex(h.Initiator, ":")+1:]
			for f, n := range h.Counts {
				for range n {
					s += " " + iscsi.Failure(f).String()
				}
			}
			if h.From.String() != "127.0.0.1" || h.Why == "" || h.Ago < 0 || h.Ago > patient.Limit {
				t.Errorf("%+v", h)
			}
			out = append(out, s)
		}
		return out
	}
	want := " login login, chap chap, denied denied denied, lost login, wild digest digest digest reject"
	patient.Await(t, want, func() bool { return strings.Join(list(), ", ") == want })

	b := p.PDU(ping, []byte("ping"))
	b[iscsi.BHSBytes] ^= 1
	p.Send(b)
	p.WantClosed("a wrong header digest")
	p = iscsitest.Login(t, e.Addr, "InitiatorName="+host("wild"))
	p.Send(p.PDU(iscsi.NOPOut{Request: p.Immediate(), ITT: p.ITT(), TTT: iscsi.NoTag, DataBytes: 1 << 20}, nil))
	p.WantClosed("a data segment that is too long")
	want = " login login, chap chap, denied denied denied, lost login, wild digest digest digest digest reject protocol"
	patient.Await(t, want, func() bool { return strings.Join(list(), ", ") == want })
}
