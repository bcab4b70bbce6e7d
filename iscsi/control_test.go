package iscsi_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/patient"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

// This file is what administrators do to sessions that there are.

const logoutLimit = 50 * time.Millisecond

// wantAsync takes an Asynchronous Message.
func wantAsync(t *testing.T, p *iscsitest.Peer, why string, event iscsi.AsyncEvent) iscsi.Async {
	t.Helper()
	a, fault := iscsi.DecodeAsync(p.Want(why, iscsi.OpAsync).BHS)
	if !fault.OK() || a.Event != event {
		t.Fatalf("%s: %+v, %v, want event %d", why, a, fault, event)
	}
	return a
}

// TestSessionsEndWithWhatAllowsThem: one initiator logs out when it is asked to, the other is told that its session is dropped; a session that is
// still allowed stays.
func TestSessionsEndWithWhatAllowsThem(t *testing.T) {
	iscsi.SetPatience(t, iscsi.Patience{Logout: logoutLimit})
	const other = "iqn.2026-01.io.pollux:other"
	named := func(name string) []string { return iscsitest.Keys("InitiatorName=" + name) }
	for why, end := range map[string]func(ctx context.Context, target *iscsi.Target) error{
		"the node is deleted": func(ctx context.Context, target *iscsi.Target) error { return target.DeleteNode(ctx, iscsitest.Node) },
		"the map is removed": func(ctx context.Context, target *iscsi.Target) error {
			return target.RemoveMaps(ctx, iscsitest.Node, []iscsi.Map{{PortalGroup: iscsitest.Tag, InitiatorGroup: iscsitest.Tag}})
		},
		"the name is denied": func(ctx context.Context, target *iscsi.Target) error {
			return errors.Join(
				target.AddInitiators(ctx, iscsi.InitiatorGroup{Tag: iscsitest.Tag, Initiators: []string{other}}),
				target.RemoveInitiators(ctx, iscsi.InitiatorGroup{Tag: iscsitest.Tag, Initiators: []string{"ANY"}}),
			)
		},
		"the address is taken out": func(ctx context.Context, target *iscsi.Target) error {
			return target.RemoveInitiators(ctx, iscsi.InitiatorGroup{Tag: iscsitest.Tag, Netmasks: []string{"127.0.0.0/8"}})
		},
		"the initiator group is deleted": func(ctx context.Context, target *iscsi.Target) error {
			return target.DeleteInitiatorGroup(ctx, iscsitest.Tag)
		},
		"the portal group is deleted": func(ctx context.Context, target *iscsi.Target) error {
			return target.DeletePortalGroup(ctx, iscsitest.Tag)
		},
	} {
		t.Run(why, func(t *testing.T) {
			e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
			good, deaf := ready(t, e), ready(t, e, "InitiatorName=iqn.2026-01.io.pollux:deaf")
			var stays *iscsitest.Peer
			if why == "the name is denied" {
				stays = ready(t, e, named(other)...)
			}
			ended := make(chan error, 1)
			go func() { ended <- end(t.Context(), e.Target) }()
			for _, p := range []*iscsitest.Peer{good, deaf} {
				if a := wantAsync(t, p, "a logout is asked for", iscsi.AsyncRequestLogout); a.Parameter3 == 0 {
					t.Errorf("%+v", a)
				}
			}
			good.Logout("as it was asked to")
			wantAsync(t, deaf, "it has not logged out", iscsi.AsyncDropSession)
			deaf.WantClosed("its session is dropped")
			patient.Within(t, "the change ends", func() {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
			left := 0
			if stays != nil {
				stays.Quiet("it is allowed")
				left = 1
			}
			sessions(t, e, "after the change", left)
		})
	}
}

// TestDiscoveryEndsWithItsPortalGroup: and with nothing else.
func TestDiscoveryEndsWithItsPortalGroup(t *testing.T) {
	iscsi.SetPatience(t, iscsi.Patience{Logout: logoutLimit})
	e := iscsitest.Start(t, iscsitest.Options{})
	p := iscsitest.Discovery(t, e.Addr)
	if err := e.Target.DeleteNode(t.Context(), iscsitest.Node); err != nil {
		t.Fatal(err)
	}
	if got := p.Ask("after the node is gone", "SendTargets=All"); len(got) != 0 {
		t.Errorf("%q", got)
	}
	if err := e.Target.DeletePortalGroup(t.Context(), iscsitest.Tag); err != nil {
		t.Fatal(err)
	}
	wantAsync(t, p, "a logout is asked for", iscsi.AsyncRequestLogout)
	wantAsync(t, p, "it has not logged out", iscsi.AsyncDropSession)
	p.WantClosed("its portal group is gone")
}

// TestDrain: everybody is asked to go, nobody is let in, and all of it can be taken back.
func TestDrain(t *testing.T) {
	iscsi.SetPatience(t, iscsi.Patience{Logout: logoutLimit})
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	good, deaf := ready(t, e), ready(t, e, "InitiatorName=iqn.2026-01.io.pollux:deaf")
	type progress struct{ done, total int }
	var told []progress
	drained := make(chan error, 1)
	go func() {
		drained <- e.Target.Drain(t.Context(), func(done, total int) { told = append(told, progress{done, total}) })
	}()
	wantAsync(t, good, "a logout is asked for", iscsi.AsyncRequestLogout)
	good.Logout("as it was asked to")
	wantAsync(t, deaf, "a logout is asked for", iscsi.AsyncRequestLogout)
	wantAsync(t, deaf, "it has not logged out", iscsi.AsyncDropSession)
	deaf.WantClosed("its session is dropped")
	patient.Within(t, "the drain ends", func() {
		if err := <-drained; err != nil {
			t.Error(err)
		}
	})
	if len(told) == 0 || told[len(told)-1] != (progress{2, 2}) || !e.Target.Draining() {
		t.Errorf("%v", told)
	}
	iscsitest.Dial(t, e.Addr).WantClosed("a drained target takes no connection")
	if len(e.Target.Nodes()) != 1 {
		t.Error("the configuration has changed")
	}
	if err := e.Target.Undrain(); err != nil {
		t.Fatal(err)
	}
	again := ready(t, e)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Target.Drain(ctx, func(int, int) {}); !errors.Is(err, context.Canceled) || e.Target.Draining() {
		t.Errorf("%v", err)
	}
	wantAsync(t, again, "a logout is asked for", iscsi.AsyncRequestLogout)
	again.Quiet("the drain was given up")
	ready(t, e, "InitiatorName=iqn.2026-01.io.pollux:third").Logout("it serves again")
}

// TestRequestLogout asks those of a portal group, or all.
func TestRequestLogout(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e)
	for _, tag := range []int{iscsitest.Tag, -1} {
		if err := e.Target.RequestLogout("test", tag); err != nil {
			t.Fatal(err)
		}
		wantAsync(t, p, fmt.Sprintf("by portal group %d", tag), iscsi.AsyncRequestLogout)
	}
	if err := e.Target.CreatePortalGroup(iscsi.PortalGroupOptions{Tag: 2, Portals: []iscsi.Portal{{Host: "127.0.0.1", Port: "0"}}}); err != nil {
		t.Fatal(err)
	}
	if err := e.Target.RequestLogout("test", 2); err != nil {
		t.Fatal(err)
	}
	p.Quiet("it came by another portal group")
}

// TestUnitsComeAndGoUnderASession: initiators are told, and a command finds what is there.
func TestUnitsComeAndGoUnderASession(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	p := ready(t, e)
	held := e.AddHeld(3)
	wantSense(t, "a unit has come", p.Command(0, iscsitest.Read10(0, 1), iscsitest.Reads, 512, nil), 0x063F0E)
	p.Unit(3)
	late := p.SCSI(3, iscsitest.Read10(0, 1), iscsitest.Reads, 4096)
	p.Send(p.PDU(late, nil))
	held.Want("the read", 1)
	removed := make(chan error, 1)
	go func() { removed <- e.Target.RemoveLUN(t.Context(), iscsitest.Node, 3) }()
	patient.Await(t, "the unit goes", func() bool { return len(e.Target.Nodes()[0].LUNs) == 1 })
	select {
	case err := <-removed:
		t.Fatalf("the unit is gone under a command: %v", err)
	default:
	}
	held.End(bdev.StatusOK)
	wantGood(t, "a command that came before", p.Response(late, nil))
	patient.Within(t, "the removal ends", func() {
		if err := <-removed; err != nil {
			t.Error(err)
		}
	})
	wantSense(t, "a unit is gone", p.Command(3, iscsitest.Read10(0, 1), iscsitest.Reads, 4096, nil), 0x052500)
	wantSense(t, "the list has changed", p.Command(0, iscsitest.Read10(0, 1), iscsitest.Reads, 512, nil), 0x063F0E)
	wantGood(t, "and is known", p.Command(0, iscsitest.Read10(0, 1), iscsitest.Reads, 512, nil))
}

// TestResizedUnit: initiators hear of a new capacity, once.
func TestResizedUnit(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	p, q := ready(t, e), ready(t, e, "InitiatorName=iqn.2026-01.io.pollux:second")
	d, err := e.Bdevs.Lookup("Malloc0")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Resize(d.Geometry().Blocks * 2); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*iscsitest.Peer{p, q} {
		wantSense(t, "the capacity has changed", p.Command(0, iscsitest.Read10(0, 1), iscsitest.Reads, 512, nil), 0x062A09)
		wantGood(t, "and is known", p.Command(0, iscsitest.Read10(0, 1), iscsitest.Reads, 512, nil))
	}
}

// TestHistogramCountsCommands from the time that it is asked for.
func TestHistogramCountsCommands(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	p := ready(t, e)
	if err := e.Target.EnableHistogram("test", true); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		wantGood(t, "a read", p.Command(0, iscsitest.Read10(0, 1), iscsitest.Reads, 512, nil))
	}
	p.Quiet("a ping is no command")
	if err := e.Target.EnableHistogram("test", true); err != nil { // it goes on
		t.Fatal(err)
	}
	h, err := e.Target.Histogram("test")
	if err != nil || h.Total() != 5 {
		t.Fatalf("%v commands, %v", h.Total(), err)
	}
	if err := errors.Join(e.Target.EnableHistogram("test", false), e.Target.EnableHistogram("test", true)); err != nil {
		t.Fatal(err)
	}
	if h, err = e.Target.Histogram("test"); err != nil || h.Total() != 0 {
		t.Errorf("%v commands, %v", h.Total(), err)
	}
}

// TestConnectionsAreListed with what their logins agreed on.
func TestConnectionsAreListed(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	p := ready(t, e, "HeaderDigest=CRC32C")
	iscsitest.Dial(t, e.Addr) // it says nothing
	sessions(t, e, "both", 2)
	list, err := e.Target.Connections()
	if err != nil {
		t.Fatal(err)
	}
	a, b := list[0], list[1]
	if a.TSIH != p.TSIH || a.LoggingIn || a.InitiatorName != iscsitest.Initiator || a.TargetName != iscsitest.Node || a.Tag != iscsitest.Tag || a.Commands == 0 ||
		a.Digests != iscsi.HeaderDigests || !a.Remote.Addr().IsLoopback() || a.Local != e.Addr {
		t.Errorf("%+v", a)
	}
	if !b.LoggingIn || b.TSIH != 0 || b.ID != 1 {
		t.Errorf("%+v", b)
	}
	stats, err := e.Target.Stats()
	if err != nil {
		t.Fatal(err)
	}
	var sum iscsi.GroupStats
	for _, g := range stats {
		sum.Sessions += g.Sessions
		sum.LoggingIn += g.LoggingIn
		sum.Logins += g.Logins
		sum.Commands += g.Commands
	}
	if sum.Sessions != 1 || sum.LoggingIn != 1 || sum.Logins != 1 || sum.Commands == 0 {
		t.Errorf("%+v", sum)
	}
}

// TestDiscoveryLoginWithoutItsPortalGroup: one that is under way when its portal group goes becomes no session.
func TestDiscoveryLoginWithoutItsPortalGroup(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := iscsitest.Dial(t, e.Addr)
	if r, _ := p.Step(iscsi.OperationalStage, iscsi.OperationalStage, "InitiatorName="+iscsitest.Initiator, "SessionType=Discovery"); r.Status != iscsi.LoginSuccess {
		t.Fatal(r.Status)
	}
	if err := e.Target.DeletePortalGroup(t.Context(), iscsitest.Tag); err != nil {
		t.Fatal(err)
	}
	r, _ := p.Step(iscsi.OperationalStage, iscsi.FullFeature)
	p.WantRefused("its portal group is gone", r, iscsi.LoginServiceUnavailable)
}
