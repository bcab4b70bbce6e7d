package iscsi_test

import (
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
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
