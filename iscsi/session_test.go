package iscsi_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/patient"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

// ready logs in, and takes the unit attentions of LUN 0.
func ready(t *testing.T, e *iscsitest.Engine, keys ...string) *iscsitest.Peer {
	t.Helper()
	p := iscsitest.Login(t, e.Addr, keys...)
	p.Unit(0)
	return p
}

// sessions waits until the target has n sessions past their login.
func sessions(t *testing.T, e *iscsitest.Engine, why string, n int) {
	t.Helper()
	patient.Await(t, why, func() bool {
		list, err := e.Target.Connections()
		if err != nil {
			t.Fatal(err)
		}
		return len(list) == n
	})
}

func wantGood(t *testing.T, why string, r iscsitest.Response) {
	t.Helper()
	if r.Status != iscsi.Good || r.Overflow || r.Underflow {
		t.Fatalf("%s: %02Xh, sense %06X, residual %+v", why, r.Status, r.Code(), r.Residual)
	}
}

func wantSense(t *testing.T, why string, r iscsitest.Response, code int) {
	t.Helper()
	if r.Status != iscsi.CheckCondition || r.Code() != code {
		t.Errorf("%s: %02Xh with sense %06X, want CHECK CONDITION with %06X", why, r.Status, r.Code(), code)
	}
}

func TestLoginAndLogout(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	for range 3 {
		p := ready(t, e)
		if p.TSIH == 0 {
			t.Error("a session without TSIH")
		}
		p.Logout("at the end of a session")
	}
	sessions(t, e, "after they logged out", 0)
}

// RFC 7143 section 4.2.2.1: what is outside of ExpCmdSN…MaxCmdSN is ignored in silence, and the connection stays.
func TestCmdSNOutsideTheWindow(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e)
	for _, c := range []struct {
		name string
		sn   func() iscsi.SerialNumber
	}{
		{"one beyond the window", func() iscsi.SerialNumber { return p.MaxCmdSN + 1 }},
		{"far beyond it", func() iscsi.SerialNumber { return p.MaxCmdSN + 1<<30 }},
		{"the one before", func() iscsi.SerialNumber { return p.ExpCmdSN - 1 }},
		{"long ago", func() iscsi.SerialNumber { return p.ExpCmdSN - 1<<30 }},
	} {
		for _, data := range []int{0, 512} {
			q := p.SCSI(0, iscsitest.Write10(0, 1), iscsitest.Writes, 512)
			p.CmdSN-- // it does not count
			q.CmdSN, q.DataBytes = c.sn(), uint32(data)
			expected := p.ExpCmdSN
			p.Send(p.PDU(q, make([]byte, data)))
			p.Quiet(c.name)
			if p.ExpCmdSN != expected {
				t.Errorf("%s: ExpCmdSN %d, it was %d before", c.name, p.ExpCmdSN, expected)
			}
		}
		wantGood(t, "a command after "+c.name, p.Command(0, make([]byte, 6), 0, 0, nil))
	}
}

// The window is the free queue depth, and a command that is answered opens it again.
func TestWindowIsTheFreeQueueDepth(t *testing.T) {
	const depth = 8
	e := iscsitest.Start(t, iscsitest.Options{Node: func(o *iscsi.NodeOptions) { o.QueueDepth = depth }})
	h := e.AddHeld(1)
	p := ready(t, e)
	p.Unit(1)
	if n := p.MaxCmdSN - p.ExpCmdSN + 1; n != depth {
		t.Fatalf("a window of %d commands, want %d", n, depth)
	}
	var open []iscsi.SCSICommand
	for i := range depth {
		c := p.SCSI(1, iscsitest.Read10(uint32(i), 1), iscsitest.Reads, 4096)
		open = append(open, c)
		p.Send(p.PDU(c, nil))
	}
	h.Want("as many commands as the queue is deep", depth)
	p.Quiet("the window is used up")
	if p.MaxCmdSN != p.ExpCmdSN-1 {
		t.Errorf("the window is %d…%d with %d commands open", p.ExpCmdSN, p.MaxCmdSN, depth)
	}
	c := p.SCSI(1, iscsitest.Read10(0, 1), iscsitest.Reads, 4096)
	p.CmdSN--
	p.Send(p.PDU(c, nil))
	p.Quiet("a command for which there is no room")
	if n := h.Count(); n != depth {
		t.Errorf("the device has %d commands, the queue is %d deep", n, depth)
	}
	h.End(0)
	for _, c := range open {
		wantGood(t, "a command that was held", p.Response(c, nil))
	}
	if n := p.MaxCmdSN - p.ExpCmdSN + 1; n != depth {
		t.Errorf("a window of %d commands after all are answered, want %d", n, depth)
	}
}

// An immediate command does not count. Of too many one is rejected, and the connection stays.
func TestImmediateCommands(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	h := e.AddHeld(1)
	p := ready(t, e)
	p.Unit(1)
	immediate := func() iscsi.SCSICommand {
		c := p.SCSI(1, iscsitest.Read10(0, 1), iscsitest.Reads, 4096)
		p.CmdSN--
		c.Request = p.Immediate()
		return c
	}
	before := p.ExpCmdSN
	var open []iscsi.SCSICommand
	var rejected bool
	for range 64 {
		c := immediate()
		b := p.PDU(c, nil)
		p.Send(b)
		itt := p.ITT()
		p.Send(p.PDU(iscsi.NOPOut{Request: p.Request(), ITT: itt, TTT: iscsi.NoTag}, nil))
		pdu := p.Recv("the answer to a ping, or a Reject before it")
		if pdu.Opcode == iscsi.OpReject {
			if r, _ := iscsi.DecodeReject(pdu.BHS); r.Reason != iscsi.RejectTooManyImmediate || !bytes.Equal(pdu.Data, b[:iscsi.BHSBytes]) {
				t.Fatalf("Reject for %v: % x", r.Reason, pdu.Data)
			}
			p.Want("the answer to a ping", iscsi.OpNOPIn)
			rejected = true
			break
		}
		open = append(open, c)
	}
	if !rejected || len(open) < 2 {
		t.Fatalf("%d immediate commands are taken at once", len(open))
	}
	if n := p.ExpCmdSN - before; int(n) != len(open)+1 {
		t.Errorf("ExpCmdSN went on by %d, want %d: only the pings count", n, len(open)+1)
	}
	h.Want("the immediate commands", len(open))
	h.End(0)
	for _, c := range open {
		wantGood(t, "an immediate command", p.Response(c, nil))
	}
	wantGood(t, "a command after that", p.Command(0, make([]byte, 6), 0, 0, nil))
}

// What is not to be taken is given back, with its header, and the connection stays. RFC 7143 section 11.17.
func TestRejected(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e)
	nop := iscsi.NOPOut{Request: p.Immediate(), ITT: 77, TTT: iscsi.NoTag}.AppendTo(nil)
	edit := func(at int, with ...byte) []byte {
		b := bytes.Clone(nop)
		copy(b[at:], with)
		return b
	}
	withData := func(b []byte) []byte {
		b[7] = 5
		return append(b, "hello\x00\x00\x00"...)
	}
	none := []byte{0xFF, 0xFF, 0xFF, 0xFF}
	write := iscsi.SCSICommand{Request: p.Immediate(), Final: true, Write: true, ITT: 78, EDTL: 512}.AppendTo(nil)
	for _, c := range []struct {
		name   string
		b      []byte
		reason iscsi.RejectReason
	}{
		{"opcode 1Ch", edit(0, 0x5C), iscsi.RejectNotSupported},
		{"opcode 07h", edit(0, 0x47), iscsi.RejectNotSupported},
		{"opcode 3Fh, which is the target's", edit(0, 0x7F), iscsi.RejectNotSupported},
		{"opcode 1Ch with data", withData(edit(0, 0x5C)), iscsi.RejectNotSupported},
		{"a SNACK", iscsi.SNACK{ITT: 79, TTT: iscsi.NoTag}.AppendTo(nil), iscsi.RejectProtocol},
		{"a login in full feature phase", iscsi.LoginRequest{ITT: 80, CSG: 1}.AppendTo(nil), iscsi.RejectProtocol},
		{"a command with neither F nor W", bytes.Replace(bytes.Clone(write), []byte{0x41, 0xA0}, []byte{0x41, 0x00}, 1), iscsi.RejectInvalidField},
		{"a command with the reserved tag", append(append(bytes.Clone(write[:16]), none...), write[20:]...), iscsi.RejectInvalidField},
		{"immediate data of a read", withData(iscsi.SCSICommand{Request: p.Immediate(), Final: true, Read: true, ITT: 81, EDTL: 512}.AppendTo(nil)), iscsi.RejectInvalidField},
		{"text with F and C", iscsi.TextRequest{Request: p.Immediate(), Final: true, Continue: true, ITT: 82, TTT: iscsi.NoTag}.AppendTo(nil), iscsi.RejectInvalidField},
		{"text that goes on with what was not begun", iscsi.TextRequest{Request: p.Immediate(), Final: true, ITT: 83, TTT: 5}.AppendTo(nil), iscsi.RejectProtocol},
		{"Data-Out for an R2T that there was not", withData(iscsi.DataOut{ITT: 84, TTT: 0xABCD, Final: true}.AppendTo(nil)), iscsi.RejectInvalidField},
		{"more immediate data than is expected", append(iscsi.SCSICommand{Request: p.Immediate(), Final: true, Write: true, ITT: 85, EDTL: 512, DataBytes: 1024}.AppendTo(nil), make([]byte, 1024)...), iscsi.RejectProtocol},
	} {
		p.Send(c.b)
		p.WantReject(c.name, c.reason, c.b)
		p.Quiet("after " + c.name)
	}
	wantGood(t, "a command after that", p.Command(0, make([]byte, 6), 0, 0, nil))
}

// Extended CDBs and bidirectional commands end with a status, their data taken. RFC 7143 sections 11.2.2.3 and 11.2.2.4.
func TestAdditionalHeaderSegments(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	for _, digests := range []string{"None", "CRC32C"} {
		p := ready(t, e, "HeaderDigest="+digests, "DataDigest="+digests)
		for _, c := range []struct {
			name string
			ahs  []byte
			f    iscsitest.Flags
		}{
			{"an extended CDB", iscsi.AppendAHS(nil, iscsi.AHSExtendedCDB, make([]byte, 16)), iscsitest.Writes},
			{"the longest header", bytes.Repeat(iscsi.AppendAHS(nil, iscsi.AHSExtendedCDB, make([]byte, 16)), 51), iscsitest.Writes},
			{"both directions", iscsi.AppendAHS(nil, iscsi.AHSBidirectional, []byte{0, 0, 2, 0}), iscsitest.Reads | iscsitest.Writes},
		} {
			q := p.SCSI(0, []byte{0x7F}, c.f, 512)
			q.AHSBytes, q.DataBytes = uint32(len(c.ahs)), 512
			p.Send(p.PDUWith(q, c.ahs, make([]byte, 512)))
			wantSense(t, c.name, p.Response(q, nil), 0x052400)
		}
		wantGood(t, "a command after that", p.Command(0, make([]byte, 6), 0, 0, nil))
		p.Logout("digests " + digests)
	}
}

// A NOP-Out that asks has its data returned; one that does not ask has no answer. RFC 7143 section 11.18.
func TestPing(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	for _, digests := range []string{"None", "CRC32C"} {
		p := ready(t, e, "HeaderDigest="+digests, "DataDigest="+digests)
		for _, n := range []int{0, 1, 3, 4, 100, 4096, 262144} {
			for _, immediate := range []bool{false, true} {
				data := []byte(strings.Repeat("ping!", n/5+1))[:n]
				q := iscsi.NOPOut{ITT: p.ITT(), TTT: iscsi.NoTag, LUN: 1 << 48, DataBytes: uint32(n)}
				if q.Request = p.Immediate(); !immediate {
					q.Request = p.Request()
				}
				p.Send(p.PDU(q, data))
				pdu := p.Want("the answer to a ping", iscsi.OpNOPIn)
				in, _ := iscsi.DecodeNOPIn(pdu.BHS)
				if in.ITT != q.ITT || in.TTT != iscsi.NoTag || !bytes.Equal(pdu.Data, data) {
					t.Errorf("%d bytes of ping data: %+v and %d bytes", n, in, len(pdu.Data))
				}
				if p.ExpCmdSN != p.CmdSN {
					t.Errorf("ExpCmdSN %d after a ping, want %d", p.ExpCmdSN, p.CmdSN)
				}
			}
		}
		p.Send(p.PDU(iscsi.NOPOut{Request: p.Immediate(), ITT: iscsi.NoTag, TTT: iscsi.NoTag, DataBytes: 3}, []byte("abc")))
		p.Quiet("a ping that asks for no answer")
	}
}

// The target asks an initiator that is silent, and ends the session of one that does not answer. RFC 7143 section 11.19.
func TestPingOfTheTarget(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Target: func(o *iscsi.Options) { o.NOPInInterval, o.NOPTimeout = 20*time.Millisecond, 60*time.Millisecond }})
	p := iscsitest.Login(t, e.Addr)
	for range 3 {
		pdu := p.Want("a ping of the target", iscsi.OpNOPIn)
		in, _ := iscsi.DecodeNOPIn(pdu.BHS)
		if in.ITT != iscsi.NoTag || in.TTT == iscsi.NoTag {
			t.Fatalf("a ping that cannot be answered: %+v", in)
		}
		p.Send(p.PDU(iscsi.NOPOut{Request: p.Immediate(), ITT: iscsi.NoTag, TTT: in.TTT, LUN: in.LUN}, nil))
	}
	p.Want("the ping that is not answered", iscsi.OpNOPIn)
	p.WantClosed("a ping was not answered")
	sessions(t, e, "after that", 0)
}

// RFC 7143 sections 11.14 and 11.15.
func TestLogoutReasons(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	for _, c := range []struct {
		name   string
		reason iscsi.LogoutReason
		cid    iscsi.CID
		want   iscsi.LogoutCode
		ends   bool
	}{
		{"the session", iscsi.LogoutSession, 0, iscsi.LogoutDone, true},
		{"the connection", iscsi.LogoutConnection, 1, iscsi.LogoutDone, true},
		{"another connection", iscsi.LogoutConnection, 9, iscsi.LogoutCIDNotFound, false},
		{"recovery", iscsi.LogoutRecovery, 1, iscsi.LogoutRecoveryNotSupported, false},
	} {
		for _, immediate := range []bool{false, true} {
			p := ready(t, e)
			q := iscsi.LogoutRequest{Request: p.Request(), Reason: c.reason, ITT: p.ITT(), CID: c.cid}
			if immediate {
				p.CmdSN--
				q.Request = p.Immediate()
			}
			p.Send(p.PDU(q, nil))
			r, _ := iscsi.DecodeLogoutResponse(p.Want(c.name, iscsi.OpLogoutResponse).BHS)
			if r.Response != c.want || r.ITT != q.ITT {
				t.Errorf("%s: response %d, want %d", c.name, r.Response, c.want)
			}
			if c.ends {
				p.WantClosed(c.name)
				continue
			}
			wantGood(t, "a command after "+c.name, p.Command(0, make([]byte, 6), 0, 0, nil))
			p.Logout(c.name)
		}
	}
	sessions(t, e, "after they logged out", 0)
}

// Tasks that are open end without an answer, and before the logout's. RFC 7143 section 11.14.
func TestLogoutEndsTasks(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	h := e.AddHeld(1)
	p := ready(t, e)
	p.Unit(1)
	for i := range 4 {
		p.Send(p.PDU(p.SCSI(1, iscsitest.Read10(uint32(i), 1), iscsitest.Reads, 4096), nil))
	}
	p.Send(p.PDU(p.SCSI(1, iscsitest.Write10(0, 1), iscsitest.Writes, 4096), nil)) // its data never comes
	h.Want("the reads", 4)
	p.WantR2T("the write's data")
	p.Logout("with tasks open")
	if n := h.Count(); n != 0 {
		t.Errorf("the device has %d commands of a session that logged out", n)
	}
}

func TestTextInFullFeaturePhase(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e)
	portal := fmt.Sprintf("TargetAddress=%v,%d", e.Addr, iscsitest.Tag)
	for _, keys := range []string{"SendTargets=", "SendTargets=" + iscsitest.Node, "SendTargets=All"} {
		if got := p.Ask(keys, keys); len(got) != 2 || got[0] != "TargetName="+iscsitest.Node || got[1] != portal {
			t.Errorf("%s: %q", keys, got)
		}
	}
	if got := p.Ask("an unknown key", "InitiatorAlias=me", "X-com.example.nothing=1"); len(got) != 1 || got[0] != "X-com.example.nothing=NotUnderstood" {
		t.Errorf("an unknown key: %q", got)
	}
	for _, keys := range [][]string{{"SendTargets=all"}, {"sendtargets=All", "SendTargets=ALL"}, {"SendTargets=All", "SendTargets=All"}, {"SendTargets=All", "InitiatorAlias=me"}, {"no pair"}} {
		text := iscsitest.Text(keys...)
		p.Send(p.PDU(iscsi.TextRequest{Request: p.Request(), Final: true, ITT: p.ITT(), TTT: iscsi.NoTag, DataBytes: uint32(len(text))}, text))
		p.WantReject(fmt.Sprintf("%q", keys), iscsi.RejectProtocol, nil)
	}
	// A request in two PDUs: the first is answered with nothing, and a tag to go on.
	text := iscsitest.Text("SendTargets=All")
	q := iscsi.TextRequest{Request: p.Request(), Continue: true, ITT: p.ITT(), TTT: iscsi.NoTag, DataBytes: 7}
	p.Send(p.PDU(q, text[:7]))
	r, fault := iscsi.DecodeTextResponse(p.Want("half of a request", iscsi.OpTextResponse).BHS)
	if !fault.OK() || r.Final || r.TTT == iscsi.NoTag || r.DataBytes > 0 {
		t.Fatalf("half of a request: %v %+v", fault, r)
	}
	q = iscsi.TextRequest{Request: p.Request(), Final: true, ITT: q.ITT, TTT: r.TTT, LUN: r.LUN, DataBytes: uint32(len(text) - 7)}
	p.Send(p.PDU(q, text[7:]))
	pdu := p.Want("the other half", iscsi.OpTextResponse)
	if r, fault = iscsi.DecodeTextResponse(pdu.BHS); !fault.OK() || !r.Final || len(iscsitest.Pairs(pdu.Data)) != 2 {
		t.Errorf("the other half: %v %+v %q", fault, r, pdu.Data)
	}
	wantGood(t, "a command after that", p.Command(0, make([]byte, 6), 0, 0, nil))
}

// A discovery session takes Text and Logout alone.
func TestDiscoverySession(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := iscsitest.Discovery(t, e.Addr)
	if got := p.Ask("discovery", "SendTargets=All"); len(got) != 2 || got[0] != "TargetName="+iscsitest.Node {
		t.Errorf("SendTargets=All: %q", got)
	}
	p.Logout("discovery")
	for _, h := range []interface{ AppendTo([]byte) []byte }{
		iscsi.SCSICommand{Request: iscsi.Request{CmdSN: 1}, Final: true, ITT: 1},
		iscsi.NOPOut{Request: iscsi.Request{Immediate: true, CmdSN: 1}, ITT: 1, TTT: iscsi.NoTag},
		iscsi.TaskRequest{Request: iscsi.Request{Immediate: true, CmdSN: 1}, Function: iscsi.TargetWarmReset, ITT: 1},
	} {
		p := iscsitest.Discovery(t, e.Addr)
		p.Send(p.PDU(h, nil))
		p.WantClosed(fmt.Sprintf("%T in a discovery session", h))
	}
	sessions(t, e, "after that", 0)
}

// A login of the same initiator port takes the place of its older session, whose tasks end first. RFC 7143 section 6.3.5.
func TestSessionReinstatement(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	h := e.AddHeld(1)
	var old *iscsitest.Peer
	for i := range 4 {
		p := iscsitest.Login(t, e.Addr)
		if old != nil {
			old.WantClosed("another session took its place")
			if n := h.Count(); n != 0 {
				t.Errorf("login %d: %d commands of the older session are open", i, n)
			}
		}
		p.Unit(1)
		p.Send(p.PDU(p.SCSI(1, iscsitest.Read10(0, 1), iscsitest.Reads, 4096), nil))
		h.Want("the command of the session", 1)
		old = p
	}
	other := iscsitest.Dial(t, e.Addr)
	other.ISID[5] = 2
	other.Login()
	other.Unit(0)
	old.Quiet("a session of another ISID beside it")
	sessions(t, e, "two at the end", 2)
}

// The new session begins when the tasks of the older one are over, not before: here the device does not let go.
func TestReinstatementWaitsForTasks(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	h := e.AddHeld(1)
	h.Keep()
	old := iscsitest.Login(t, e.Addr)
	old.Unit(1)
	hold(old, 2)
	h.Want("the reads of the older session", 2)
	next := iscsitest.Dial(t, e.Addr)
	text := iscsitest.Text(iscsitest.Keys()...)
	next.Send(next.PDU(iscsi.LoginRequest{
		Request: next.Immediate(), Transit: true, CSG: iscsi.OperationalStage, NSG: iscsi.FullFeature, ISID: next.ISID, CID: 1, DataBytes: uint32(len(text)),
	}, text))
	old.WantClosed("another session takes its place")
	other := iscsitest.Dial(t, e.Addr)
	other.ISID[5] = 2
	other.Login()
	other.Unit(0)
	next.Silent("while tasks of the older session are open")
	if n := h.Count(); n != 2 {
		t.Errorf("the device has %d commands, want the 2 of the older session", n)
	}
	h.End(bdev.StatusOK)
	r, _ := next.WantLogin("when they are over")
	if r.Status != iscsi.LoginSuccess || r.TSIH == 0 {
		t.Fatalf("the login: %v", r.Status)
	}
	next.Enter(r)
	next.Unit(0)
	sessions(t, e, "at the end", 2)
}

// Many sessions at once write and read, each in its place.
func TestManySessionsAtOnce(t *testing.T) {
	const peers, n = 64, 128 << 10
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	var all sync.WaitGroup
	for i := range peers {
		p := iscsitest.Dial(t, e.Addr)
		p.ISID[5] = byte(i)
		digest := []string{"None", "CRC32C"}[i%2]
		p.Login("DataDigest="+digest, "HeaderDigest="+digest)
		p.Unit(0)
		all.Go(func() {
			at := uint32(i * n / 512)
			for round := range byte(6) {
				data := pattern(n, byte(i)*6+round)
				wantGood(t, "a write", p.Command(0, iscsitest.Write10(at, n/512), iscsitest.Writes, n, data))
				if r := p.Command(0, iscsitest.Read10(at, n/512), iscsitest.Reads, n, nil); !bytes.Equal(r.Data, data) {
					t.Errorf("session %d reads what it did not write", i)
				}
			}
			if i%4 == 0 {
				p.Reset()
			} else {
				p.Logout("at the end")
			}
		})
	}
	all.Wait()
	sessions(t, e, "all are gone", 0)
	e.WantNothingLent("all are gone")
}

// RFC 7143 section 7.8: a wrong header digest ends the connection.
func TestHeaderDigestWrong(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e, "HeaderDigest=CRC32C")
	b := p.PDU(p.SCSI(0, make([]byte, 6), 0, 0), nil)
	b[20] ^= 1
	p.Send(b)
	p.WantClosed("a wrong header digest")
	sessions(t, e, "after that", 0)
}

// A data segment longer than we declared cannot be read: it ends the connection.
func TestDataSegmentTooLong(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e)
	most := p.Number("MaxRecvDataSegmentLength", 8192)
	p.Send(p.PDU(iscsi.NOPOut{Request: p.Immediate(), ITT: p.ITT(), TTT: iscsi.NoTag, DataBytes: most + 1}, nil))
	p.WantClosed("a data segment that is too long")
}

// An initiator that stalls in the midst of a write keeps nobody else waiting, on the same reactor, with the pool as small as it may be.
func TestStalledInitiatorBesideOthers(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{MemoryBytes: 8 << 20})
	const n = 256 << 10
	var stalled []*iscsitest.Peer
	for i := range 6 {
		p := iscsitest.Dial(t, e.Addr)
		p.ISID[4] = byte(i + 1)
		p.Login()
		p.Unit(0)
		for range 4 {
			c := p.SCSI(0, iscsitest.Write10(0, n/512), iscsitest.Writes, n)
			p.Send(p.PDU(c, nil))
		}
		q := p.WantR2T("the data of a write")
		b := p.PDU(iscsi.DataOut{ITT: q.ITT, TTT: q.TTT, LUN: q.LUN, DataBytes: q.Bytes, Final: true}, make([]byte, q.Bytes))
		p.Send(b[:len(b)/2])
		stalled = append(stalled, p)
	}
	p := ready(t, e)
	data := bytes.Repeat([]byte("pollux"), n/6+1)[:n]
	for range 8 {
		wantGood(t, "a write beside them", p.Command(0, iscsitest.Write10(4096, n/512), iscsitest.Writes, n, data))
		r := p.Command(0, iscsitest.Read10(4096, n/512), iscsitest.Reads, n, nil)
		wantGood(t, "a read beside them", r)
		if !bytes.Equal(r.Data, data) {
			t.Fatal("what is read is not what was written")
		}
	}
	for _, s := range stalled {
		s.Reset()
	}
	p.Logout("at the end")
	sessions(t, e, "all are gone", 0)
	e.WantNothingLent("all are gone")
}

// Sessions that come and go in every way leave nothing behind.
func TestSessionsComeAndGo(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	h := e.AddHeld(1)
	for i := range 40 {
		p := iscsitest.Dial(t, e.Addr)
		p.ISID[4] = byte(i)
		switch i % 8 {
		case 0: // says nothing
			p.Close()
			continue
		case 1: // gives up in the midst of a login
			b := p.PDU(iscsi.LoginRequest{CSG: iscsi.OperationalStage, DataBytes: 40}, make([]byte, 40))
			p.Send(b[:60])
			p.Reset()
			continue
		}
		p.Login()
		switch i % 8 {
		case 2:
			p.Logout("at once")
			continue
		case 3:
			p.Unit(0)
		case 4: // in the midst of a write
			p.Unit(0)
			p.Send(p.PDU(p.SCSI(0, iscsitest.Write10(0, 256), iscsitest.Writes, 128<<10), nil))
			q := p.WantR2T("the data of a write")
			p.Send(p.PDU(iscsi.DataOut{ITT: q.ITT, TTT: q.TTT, LUN: q.LUN, DataBytes: q.Bytes}, make([]byte, q.Bytes))[:5000])
		case 5: // with a command that the device keeps
			p.Unit(1)
			p.Send(p.PDU(p.SCSI(1, iscsitest.Read10(uint32(i), 1), iscsitest.Reads, 4096), nil))
			h.Want("the read", 1)
		case 6: // with answers that nobody takes
			p.Unit(0)
			for range 16 {
				p.Send(p.PDU(p.SCSI(0, iscsitest.Read10(0, 2048), iscsitest.Reads, 1<<20), nil))
			}
		}
		if i%16 < 8 {
			p.Close()
		} else {
			p.Reset()
		}
		patient.Await(t, "the device is let go of", func() bool { return h.Count() == 0 })
	}
	sessions(t, e, "all are gone", 0)
	e.WantNothingLent("all are gone")
}
