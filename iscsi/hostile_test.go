package iscsi_test

import (
	"io"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
	"github.com/pollux-storage/pollux/reactor"
)

// What initiators do that mean harm, or are broken: it is answered, or their connection ends, and nobody else notices.

// withText gives a request that has no data according to the standard some.
func withText(p *iscsitest.Peer, b []byte) []byte {
	b[7] = 4
	return iscsi.AppendDataEnd(append(b, "text"...), 4, iscsi.DataCRC(0, []byte("text")), p.Digests)
}

func TestRequestsWithDataThatTheyDoNotHave(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e)
	logout := iscsi.LogoutRequest{Request: p.Request(), Reason: 99, ITT: p.ITT()}.AppendTo(nil)
	p.Send(withText(p, logout))
	p.WantReject("a Logout for an unknown reason, with data", iscsi.RejectInvalidField, logout)
	p.Quiet("after it")

	manage := iscsi.TaskRequest{Request: p.Immediate(), Function: 99, ITT: p.ITT(), RefITT: iscsi.NoTag}
	p.Send(withText(p, manage.AppendTo(nil)))
	wantManaged(t, "an unknown function, with data", p.WantManaged("it", manage.ITT), iscsi.FunctionRejected)

	q := iscsi.LogoutRequest{Request: p.Request(), Reason: iscsi.LogoutRecovery, ITT: p.ITT()}
	p.Send(withText(p, q.AppendTo(nil)))
	p.Want("a Logout for recovery, with data", iscsi.OpLogoutResponse)
	p.Logout("after all")
}

// The window never goes back, and never has room for more commands than there is: what is taken counts from its header on.
func TestWindowWhileTextArrives(t *testing.T) {
	const depth = 4
	e := iscsitest.Start(t, iscsitest.Options{Node: func(o *iscsi.NodeOptions) { o.QueueDepth = depth }})
	h := e.AddHeld(1)
	p := ready(t, e)
	p.Unit(1)
	c := hold(p, 1)[0]
	h.Want("the read", 1)
	text := iscsitest.Text("SendTargets=All")
	b := p.PDU(iscsi.TextRequest{Request: p.Request(), Final: true, ITT: p.ITT(), TTT: iscsi.NoTag, DataBytes: uint32(len(text))}, text)
	p.Send(b[:iscsi.BHSBytes+1])
	h.End(bdev.StatusOK)
	wantGood(t, "a read that is answered while text arrives", p.Response(c, nil))
	if n := p.MaxCmdSN - p.ExpCmdSN + 1; p.ExpCmdSN == p.CmdSN && n != depth-1 {
		t.Errorf("a window of %d while one request of %d arrives", n, depth)
	}
	p.Send(b[iscsi.BHSBytes+1:])
	p.Want("the text", iscsi.OpTextResponse)
}

// drain takes all of a pool, and gives what gives it back.
func drain(t *testing.T, e *iscsitest.Engine) (giveBack func()) {
	t.Helper()
	var taken [][]byte
	on := func(f func(m *reactor.Memory)) {
		t.Helper()
		if err := e.Group.Each(func(r *reactor.Reactor) { f(r.Memory()) }); err != nil {
			t.Fatal(err)
		}
	}
	on(func(m *reactor.Memory) {
		for _, n := range []int{reactor.BufferMax, reactor.PageBytes} {
			for b := m.Get(n); b != nil; b = m.Get(n) {
				taken = append(taken, b)
			}
		}
	})
	return func() {
		on(func(m *reactor.Memory) {
			for _, b := range taken {
				m.Put(b)
			}
		})
	}
}

// A ping for whose data there is no room is answered with none of it.
func TestPingWithoutMemory(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e)
	c := p.SCSI(0, iscsitest.Write10(0, 1), iscsitest.Writes, 512)
	p.Send(p.PDU(c, nil))
	r := p.WantR2T("a write")
	giveBack := drain(t, e)
	q := iscsi.NOPOut{Request: p.Request(), ITT: p.ITT(), TTT: iscsi.NoTag, DataBytes: 100 << 10}
	p.Send(p.PDU(q, make([]byte, 100<<10)))
	if pdu := p.Want("a ping", iscsi.OpNOPIn); len(pdu.Data) > 0 {
		t.Errorf("%d bytes come back", len(pdu.Data))
	}
	giveBack()
	p.Solicited(r, make([]byte, 512))
	wantGood(t, "the write", p.Response(c, nil))
}

// Data that stays away ends the session, whatever comes beside it.
func TestDataThatStaysAway(t *testing.T) {
	iscsi.SetPatience(t, iscsi.Patience{Data: 300 * time.Millisecond})
	e := iscsitest.Start(t, iscsitest.Options{})

	p := ready(t, e)
	c := p.SCSI(0, iscsitest.Write10(0, 8), iscsitest.Writes, 4096)
	c.DataBytes = 4096
	p.Send(p.PDU(c, make([]byte, 4096))[:1000])
	p.WantClosed("the data of a command that stops in the middle")

	p = ready(t, e)
	p.Send(p.PDU(p.SCSI(0, iscsitest.Write10(0, 8), iscsitest.Writes, 4096), nil))
	p.WantR2T("a write")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 { // 10 s
		<-tick.C
		if _, err := p.Conn.Write(p.PDU(p.SCSI(0, make([]byte, 6), 0, 0), nil)); err != nil {
			return
		}
		b := make([]byte, iscsi.BHSBytes)
		if _, err := io.ReadFull(p.Conn, b); err != nil {
			return
		}
	}
	t.Error("a write has waited for its data as long as other commands came")
}

// A command of several steps that was aborted takes no other.
func TestAbortBetweenSteps(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	h := e.AddHeld(1)
	h.Keep()
	p := ready(t, e)
	p.Unit(1)
	list := make([]byte, 8+3*16)
	list[3] = 3 * 16
	for i := range 3 {
		list[8+16*i+7], list[8+16*i+11] = byte(i), 1
	}
	cdb := make([]byte, 10)
	cdb[0], cdb[8] = 0x42, byte(len(list)) // UNMAP, SBC-3 section 5.28
	c := p.SCSI(1, cdb, iscsitest.Writes, uint32(len(list)))
	c.DataBytes = uint32(len(list))
	p.Send(p.PDU(c, list))
	h.Want("the first step", 1)
	q := iscsi.TaskRequest{Request: p.Immediate(), Function: iscsi.AbortTask, LUN: iscsitest.LUN(1), ITT: p.ITT(), RefITT: c.ITT}
	p.Send(p.PDU(q, nil))
	p.Quiet("the device works on")
	h.End(bdev.StatusOK)
	wantManaged(t, "ABORT TASK", p.WantManaged("after the step", q.ITT), iscsi.FunctionComplete)
	if n := h.Count(); n != 0 {
		t.Errorf("the device has %d requests of a command that was aborted", n)
	}
}

// A session that takes the place of its older one is not one more.
func TestReinstatementWhenThereAreAsManySessionsAsMayBe(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2, Target: func(o *iscsi.Options) { o.MaxSessions = 2 }})
	first := ready(t, e)
	other := iscsitest.Dial(t, e.Addr)
	other.ISID[5] = 2
	other.Login()
	for range 3 {
		next := ready(t, e)
		first.WantClosed("its place is taken")
		first = next
	}
	third := iscsitest.Dial(t, e.Addr)
	third.ISID[5] = 3
	r, _ := third.Step(iscsi.OperationalStage, iscsi.FullFeature, iscsitest.Keys()...)
	third.WantRefused("one more", r, iscsi.LoginOutOfResources)
	other.Logout("the other")
	sessions(t, e, "after a logout", 1)
	third = iscsitest.Dial(t, e.Addr)
	third.ISID[5] = 3
	third.Login()
}

// What is taken away while a login is under way counts.
func TestRightsTakenAwayDuringTheLogin(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	p := iscsitest.Dial(t, e.Addr)
	if r, text := p.Step(iscsi.OperationalStage, iscsi.OperationalStage, iscsitest.Keys()...); r.Status != iscsi.LoginSuccess {
		t.Fatal(r.Status, text)
	}
	must(t, e.Target.RemoveMaps(t.Context(), iscsitest.Node, []iscsi.Map{{PortalGroup: iscsitest.Tag, InitiatorGroup: iscsitest.Tag}}))
	r, _ := p.Step(iscsi.OperationalStage, iscsi.FullFeature)
	p.WantRefused("its map is gone", r, iscsi.LoginNotAllowed)
}

// A discovery session that asks nothing any more ends. There are no more of them than of others.
func TestIdleDiscovery(t *testing.T) {
	iscsi.SetPatience(t, iscsi.Patience{Discovery: 300 * time.Millisecond})
	e := iscsitest.Start(t, iscsitest.Options{Target: func(o *iscsi.Options) { o.MaxSessions = 1 }})
	p := iscsitest.Discovery(t, e.Addr)
	p.Ask("discovery", "SendTargets=All")
	other := iscsitest.Dial(t, e.Addr)
	r, _ := other.Step(iscsi.OperationalStage, iscsi.FullFeature, "InitiatorName="+iscsitest.Initiator, "SessionType=Discovery")
	other.WantRefused("a second one where there may be one", r, iscsi.LoginOutOfResources)
	ready(t, e).Logout("a session beside it")
	p.WantClosed("it asks nothing")
	sessions(t, e, "after that", 0)
	iscsitest.Discovery(t, e.Addr).Logout("another after it")
}
