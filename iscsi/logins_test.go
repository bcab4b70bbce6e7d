package iscsi_test

import (
	"net/netip"
	"testing"

	"github.com/pollux-storage/pollux/internal/patient"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

func loggingIn(t *testing.T, e *iscsitest.Engine) (n int) {
	t.Helper()
	groups, err := e.Target.Stats()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		n += g.LoggingIn
	}
	return n
}

// TestManyConnectionsThatDoNotLogIn: they are bounded, and whoever logs in meanwhile can, even if it had begun before them.
func TestManyConnectionsThatDoNotLogIn(t *testing.T) {
	const most = 64
	at := func(i byte) netip.AddrPort { return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, i}), 0) }
	for _, c := range []struct {
		name  string
		n     int
		froms byte // addresses from which they come
		early bool // it had begun before them
	}{
		{"from one address", 3 * most, 1, true},
		{"from its own address", 3 * most, 0, false},
		{"from many addresses", 3 * most, 20, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := iscsitest.Start(t, iscsitest.Options{Reactors: 2, Target: func(o *iscsi.Options) { o.MaxSessions = 2 }})
			in := iscsitest.DialFrom(t, at(100), e.Addr)
			in.ISID[5] = 2
			in.Login()
			late := iscsitest.DialFrom(t, at(101), e.Addr)
			if c.early {
				if r, _ := late.Step(op, op, names...); r.Status != iscsi.LoginSuccess {
					t.Fatal(r.Status)
				}
			}
			var first *iscsitest.Peer
			for i := range c.n {
				p := iscsitest.DialFrom(t, at(101-c.froms+byte(i)%max(c.froms, 1)), e.Addr)
				if i == 0 {
					first = p
				}
			}
			patient.Await(t, "the target bounds them", func() bool { return loggingIn(t, e) == most })
			first.WantClosed("the oldest of them")
			if !c.early {
				late = iscsitest.DialFrom(t, at(101), e.Addr)
				if r, _ := late.Step(op, op, names...); r.Status != iscsi.LoginSuccess {
					t.Fatal(r.Status)
				}
			}
			r, _ := late.Step(op, ffp)
			if r.Status != iscsi.LoginSuccess {
				t.Fatalf("a login beside them: %v", r.Status)
			}
			late.Enter(r)
			late.Unit(0)
			in.Unit(0)
			if n := loggingIn(t, e); n > most {
				t.Errorf("%d log in, %d may", n, most)
			}
		})
	}
}
