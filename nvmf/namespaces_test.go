package nvmf_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/patient"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/nvmftest"
)

// changedList reads log page 04h, which clears it.
func changedList(t *testing.T, p *nvmftest.Peer) string {
	t.Helper()
	cqe, b := logPage(p, nvmf.LogPage{LID: nvmf.LIDChanged, Bytes: nvmf.ChangedBytes})
	p.WantStatus("log page 04h", cqe, nvmf.StatusSuccess)
	var ids []uint32
	for i := 0; i < len(b); i += 4 {
		id := uint32(b[i]) | uint32(b[i+1])<<8 | uint32(b[i+2])<<16 | uint32(b[i+3])<<24
		if id == 0 {
			break
		}
		ids = append(ids, id)
	}
	return fmt.Sprint(ids)
}

func activeList(t *testing.T, p *nvmftest.Peer) string {
	t.Helper()
	ids, ok := nvmf.DecodeNSIDList(nil, identify(t, p, nvmf.CNSActiveList, 0))
	if !ok {
		t.Fatal("no list of namespaces")
	}
	return fmt.Sprint(ids)
}

// TARGETS 1.11, "add, remove, resize live" and "masking": the event, log page 04h and the list of namespaces of a host that sees it all, and of one that
// does not see namespace 3.
func TestRow_NamespacesLive(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Reactors: 2})
		other := nvmftest.Host + "-other"
		a := e.Admin()
		b := found(e, nvmftest.NQN, other)
		var devices []*bdev.Device
		for i := range 2 {
			d, err := bdev.NewMem(e.Bdevs, fmt.Sprintf("More%d", i), [16]byte{byte(i + 1)}, 4096, 256)
			if err != nil {
				t.Fatal(err)
			}
			devices = append(devices, d)
		}
		aerA, aerB := listen(a, nvmf.OAESNamespaces), listen(b, nvmf.OAESNamespaces)
		for _, c := range []struct {
			why            string
			change         func() error
			changed        string // NSIDs that A is told of
			listA, listB   string
			bHears, bBlind bool
		}{
			{why: "added", change: func() error {
				_, err := e.Target.AddNamespace(nvmftest.NQN, nvmf.NamespaceOptions{BdevName: "More0"})
				return err
			}, changed: "[2]", listA: "[1 2]", listB: "[1 2]", bHears: true},
			{why: "resized", change: func() error { return devices[0].Resize(128) }, changed: "[2]", listA: "[1 2]", listB: "[1 2]", bHears: true},
			{why: "removed", change: func() error { return e.Target.RemoveNamespace(t.Context(), nvmftest.NQN, 2) }, changed: "[2]", listA: "[1]", listB: "[1]", bHears: true},
			{why: "added for A alone", change: func() error {
				if _, err := e.Target.AddNamespace(nvmftest.NQN, nvmf.NamespaceOptions{BdevName: "More1", NSID: 3, NoAutoVisible: true}); err != nil {
					return err
				}
				return e.Target.ShowNamespace(nvmftest.NQN, 3, nvmftest.Host, true)
			}, changed: "[3]", listA: "[1 3]", listB: "[1]", bBlind: true},
			{why: "shown to B too", change: func() error { return e.Target.ShowNamespace(nvmftest.NQN, 3, other, true) }, listA: "[1 3]", listB: "[1 3]", bHears: true},
			{why: "hidden from A", change: func() error { return e.Target.ShowNamespace(nvmftest.NQN, 3, nvmftest.Host, false) }, changed: "[3]", listA: "[1]", listB: "[1 3]"},
		} {
			if err := c.change(); err != nil {
				t.Fatal(c.why, err)
			}
			if c.changed != "" {
				wantEvent(t, a, aerA, nvmf.EventNamespaces)
				if got := changedList(t, a); got != c.changed {
					t.Errorf("%s: log page 04h is %s, want %s", c.why, got, c.changed)
				}
				aerA = listen(a, nvmf.OAESNamespaces)
			}
			if c.bHears {
				wantEvent(t, b, aerB, nvmf.EventNamespaces)
				changedList(t, b)
				aerB = listen(b, nvmf.OAESNamespaces)
			} else if got := changedList(t, b); got != "[]" {
				t.Errorf("%s: B is told of %s", c.why, got)
			}
			if got, also := activeList(t, a), activeList(t, b); got != c.listA || also != c.listB {
				t.Errorf("%s: A sees %s, B %s; want %s, %s", c.why, got, also, c.listA, c.listB)
			}
			if n := identifyNS(t, b, 3); c.bBlind && n.NSZE != 0 {
				t.Errorf("%s: B sees %d blocks of namespace 3", c.why, n.NSZE)
			}
		}
		if n := identifyNS(t, b, 3); n.NSZE != 256 || n.NCAP != n.NSZE {
			t.Errorf("namespace 3: %d blocks", n.NSZE)
		}
	})
}

// TARGETS 1.11, "add, remove": I/O in flight on a namespace that is removed ends 0/0B+DNR.
func TestRow_RemovedWithIOInFlight(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Empty: true, Reactors: 2})
		d := e.AddHeld("held", 4096)
		e.AddNamespace(nvmf.NamespaceOptions{BdevName: "held"})
		a := e.Admin()
		p := e.Queue(a, 1, 32)
		w := p.RW(nvmf.IOWrite, 0, 1)
		p.Begin(w, make([]byte, 4096))
		d.Want("a write", 1)
		gone := make(chan error, 1)
		go func() { gone <- e.Target.RemoveNamespace(t.Context(), nvmftest.NQN, 1) }()
		nvmftest.Await(t, "no namespace is listed", func() bool { return activeList(t, a) == "[]" })
		// The queue's own reactor may hear of it later. Until then this command ends before it reaches the device.
		probe := p.IO(nvmf.IOFlush)
		probe.SetFuse(nvmf.FuseReserved)
		nvmftest.Await(t, "the queue's reactor hears of it", func() bool { return p.Do(probe, nil).Status != invalidField })
		p.WantStatus("a new command", p.Do(p.IO(nvmf.IOFlush), nil), nvmf.StatusInvalidNamespace|nvmf.DNR)
		d.End(bdev.StatusOK)
		cqe, _ := p.Completion(w)
		p.WantStatus("the write", cqe, nvmf.StatusInvalidNamespace|nvmf.DNR)
		if err := nvmftest.Take(t, "the removal ends", gone); err != nil {
			t.Fatal(err)
		}
	})
}

// A removal that is waited for no longer goes on: the device is given back when it has answered.
func TestADeviceThatAnswersAfterItsRemovalIsGivenBack(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{Empty: true, Reactors: 2})
	d := e.AddHeld("held", 4096)
	e.AddNamespace(nvmf.NamespaceOptions{BdevName: "held"})
	p := nvmftest.Queue(t, e.Addr, nvmftest.Admin(t, e.Addr), 1, 32)
	w := p.RW(nvmf.IOWrite, 0, 1)
	p.Send(p.Capsule(w, make([]byte, 4096)))
	d.Want("a write", 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Target.RemoveNamespace(ctx, nvmftest.NQN, 1); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "held") {
		t.Errorf("a removal that nobody waits for: %v", err)
	}
	d.End(bdev.StatusOK)
	cqe, _ := p.Completion(w)
	p.WantStatus("the write", cqe, nvmf.StatusInvalidNamespace|nvmf.DNR)
	patient.Within(t, "the device is given back", func() {
		if err := e.Bdevs.Unregister(t.Context(), "held"); err != nil {
			t.Error(err)
		}
	})
}

// TARGETS 1.11, "allow-list": closed unless a host is added or any is allowed, and removing a host closes its controllers, no other's.
func TestRow_AllowList(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Reactors: 2, Subsystem: func(o *nvmf.SubsystemOptions) { o.AllowAnyHost = false }})
		other := nvmftest.Host + "-other"
		refused := func(host string) {
			t.Helper()
			p, cqe := e.Try(0, nvmf.ConnectData{CNTLID: nvmf.CNTLIDDynamic, SUBNQN: nvmftest.NQN, HOSTNQN: host})
			p.WantStatus(host, cqe, nvmf.StatusConnectHost|nvmf.DNR)
		}
		refused(nvmftest.Host)
		for _, h := range []string{nvmftest.Host, other} {
			if err := e.Target.AddHost(nvmftest.NQN, h, nvmf.HostKeys{}); err != nil {
				t.Fatal(err)
			}
		}
		a := e.Admin()
		q := e.Queue(a, 1, 32)
		b := found(e, nvmftest.NQN, other)
		if err := e.Target.RemoveHost(t.Context(), nvmftest.NQN, nvmftest.Host); err != nil {
			t.Fatal(err)
		}
		a.WantClosed("its Admin queue")
		q.WantClosed("its I/O queue")
		refused(nvmftest.Host)
		b.WantStatus("the other host", b.Do(b.Cmd(nvmf.AdminKeepAlive), nil), nvmf.StatusSuccess)
	})
}

// TARGETS 1.8, "states, events": an event on entering a state and on a change of group, one until its page is read; the states of a
// listener are its own.
func TestRow_ANAEvents(t *testing.T) {
	nvmftest.Each(t, func(t *testing.T, start func(nvmftest.Options) *nvmftest.Portal) {
		e := start(nvmftest.Options{Reactors: 2, Subsystem: func(o *nvmf.SubsystemOptions) { o.ANA = true }})
		second := e.Another(nvmftest.NQN)
		a, b := e.Admin(), second.Admin()
		aer := listen(a, nvmf.OAESANA)
		aerB := listen(b, nvmf.OAESANA)
		set := func(s nvmf.ANAState) func() error {
			return func() error { return e.Target.SetANAState(nvmftest.NQN, e.At, s, 1) }
		}
		for _, c := range []struct {
			why    string
			change func() error
			state  nvmf.ANAState
		}{
			{"non-optimized", set(nvmf.ANANonOptimized), nvmf.ANANonOptimized},
			{"inaccessible", set(nvmf.ANAInaccessible), nvmf.ANAInaccessible},
			{"optimized", set(nvmf.ANAOptimized), nvmf.ANAOptimized},
		} {
			if err := c.change(); err != nil {
				t.Fatal(c.why, err)
			}
			wantEvent(t, a, aer, nvmf.EventANA)
			// Not told again before the page is read.
			again := a.Cmd(nvmf.AdminAER)
			a.Begin(again, nil)
			a.WantStatus("keep alive", a.Do(a.Cmd(nvmf.AdminKeepAlive), nil), nvmf.StatusSuccess)
			if _, groups := anaPage(t, a, false); groups[0].State != c.state {
				t.Errorf("%s: %v", c.why, groups[0].State)
			}
			if _, groups := anaPage(t, b, false); groups[0].State != nvmf.ANAOptimized {
				t.Errorf("%s: by the other listener %v", c.why, groups[0].State)
			}
			aer = again
		}
		// A state of the other listener is no event here, nor was one of this listener there; a change of group is one for both.
		if err := e.Target.SetANAGroup(nvmftest.NQN, 1, 2); err != nil {
			t.Fatal(err)
		}
		wantEvent(t, a, aer, nvmf.EventANA)
		wantEvent(t, b, aerB, nvmf.EventANA)
		if n := identifyNS(t, a, 1); n.ANAGRPID != 2 {
			t.Errorf("ANAGRPID %d", n.ANAGRPID)
		}
	})
}
