package iscsi_test

import (
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

// Task management: RFC 7143 sections 11.5 and 11.6, SAM-5 section 7.

// hold sends reads that the device keeps.
func hold(p *iscsitest.Peer, n int) (open []iscsi.SCSICommand) {
	for i := range n {
		c := p.SCSI(1, iscsitest.Read10(uint32(i), 1), iscsitest.Reads, 4096)
		p.Send(p.PDU(c, nil))
		open = append(open, c)
	}
	return open
}

func wantManaged(t *testing.T, why string, got, want iscsi.TaskResponse) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", why, got, want)
	}
}

func TestAbortTask(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	h := e.AddHeld(1)
	p := ready(t, e)
	p.Unit(1)
	open := hold(p, 3)
	h.Want("the reads", 3)
	wantManaged(t, "a task", p.Manage("ABORT TASK", iscsi.AbortTask, 1, open[1]), iscsi.FunctionComplete)
	if n := h.Count(); n != 2 {
		t.Errorf("the device has %d commands after one of 3 was aborted", n)
	}
	wantManaged(t, "it again", p.Manage("ABORT TASK", iscsi.AbortTask, 1, open[1]), iscsi.TaskDoesNotExist)
	wantManaged(t, "a task of another unit", p.Manage("ABORT TASK", iscsi.AbortTask, 0, open[0]), iscsi.TaskDoesNotExist)
	h.End(bdev.StatusOK)
	wantGood(t, "the first", p.Response(open[0], nil))
	wantGood(t, "the third", p.Response(open[2], nil))
	wantManaged(t, "one that is answered", p.Manage("ABORT TASK", iscsi.AbortTask, 1, open[0]), iscsi.TaskDoesNotExist)
	p.Quiet("what was aborted has no answer")
}

// A write that waits for its data ends too; what of it comes later is taken and thrown away.
func TestAbortTaskWhoseDataIsOnTheWay(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e)
	c := p.SCSI(0, iscsitest.Write10(0, 16), iscsitest.Writes, 8192)
	p.Send(p.PDU(c, nil))
	r := p.WantR2T("a write")
	wantManaged(t, "a write that waits for data", p.Manage("ABORT TASK", iscsi.AbortTask, 0, c), iscsi.FunctionComplete)
	p.Solicited(r, make([]byte, 8192))
	p.Quiet("data that comes too late")
	wantGood(t, "a write after that", p.Command(0, iscsitest.Write10(0, 16), iscsitest.Writes, 8192, make([]byte, 8192)))

	// Unsolicited data in two PDUs, the abort between them.
	c = p.SCSI(0, iscsitest.Write10(0, 16), iscsitest.Writes, 8192)
	c.Final = false
	d := iscsi.DataOut{ITT: c.ITT, TTT: iscsi.NoTag, DataBytes: 4096}
	p.Send(append(p.PDU(c, nil), p.PDU(d, make([]byte, 4096))...))
	wantManaged(t, "a write in its first burst", p.Manage("ABORT TASK", iscsi.AbortTask, 0, c), iscsi.FunctionComplete)
	d.DataSN, d.Offset, d.Final = 1, 4096, true
	p.Send(p.PDU(d, make([]byte, 4096)))
	p.Quiet("unsolicited data that comes too late")
	wantGood(t, "a write after that", p.Command(0, iscsitest.Write10(0, 16), iscsitest.Writes, 8192, make([]byte, 8192)))
}

// A function is answered when what it ends is over, not before: here the device does not let go.
func TestTaskManagementWaitsForItsTasks(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	h := e.AddHeld(1)
	h.Keep()
	p := ready(t, e)
	p.Unit(1)
	for _, f := range []iscsi.TaskFunction{iscsi.AbortTask, iscsi.AbortTaskSet, iscsi.ClearTaskSet, iscsi.LogicalUnitReset, iscsi.TargetWarmReset} {
		open := hold(p, 2)
		h.Want("the reads", 2)
		q := iscsi.TaskRequest{Request: p.Immediate(), Function: f, LUN: iscsitest.LUN(1), ITT: p.ITT(), RefITT: iscsi.NoTag}
		if f == iscsi.AbortTask {
			q.RefITT = open[0].ITT
		}
		p.Send(p.PDU(q, nil))
		p.Quiet(f.String() + " while the device works on")
		h.End(bdev.StatusOK)
		if f == iscsi.AbortTask { // the other one was not aborted; which is first is not said
			answered, managed := 0, 0
			for range 2 {
				switch pdu := p.Recv("what is over"); pdu.Opcode {
				case iscsi.OpTaskResponse:
					managed++
				case iscsi.OpDataIn:
					answered++
				default:
					t.Fatalf("%v", pdu.Opcode)
				}
			}
			if answered != 1 || managed != 1 {
				t.Errorf("%v: %d commands and %d functions are answered", f, answered, managed)
			}
		} else {
			wantManaged(t, f.String(), p.WantManaged(f.String(), q.ITT), iscsi.FunctionComplete)
		}
		p.Quiet("what it ended has no answer")
		p.Unit(1)
	}
}

// A session ends although a function of it waits for a task of another: who sent it hears no answer then, and is not kept from coming back.
func TestSessionsEndBesideTasksOfOthers(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	h := e.AddHeld(1)
	h.Keep()
	b := iscsitest.Dial(t, e.Addr)
	b.ISID[5] = 9
	b.Login()
	b.Unit(1)
	hold(b, 1)
	h.Want("the read of the other", 1)
	for _, leave := range []func(p *iscsitest.Peer){
		func(p *iscsitest.Peer) { p.Logout("with a function that waits") },
		func(p *iscsitest.Peer) { p.Reset() },
		func(p *iscsitest.Peer) {},
	} {
		p := ready(t, e)
		p.Send(p.PDU(iscsi.TaskRequest{Request: p.Immediate(), Function: iscsi.LogicalUnitReset, LUN: iscsitest.LUN(1), ITT: p.ITT(), RefITT: iscsi.NoTag}, nil))
		p.Quiet("the device works on")
		leave(p)
	}
	ready(t, e).Logout("after those")
	h.End(bdev.StatusOK)
	b.Quiet("what was ended has no answer")
}

func TestTaskSets(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	h := e.AddHeld(1)
	var peers []*iscsitest.Peer
	for i := range 3 {
		p := iscsitest.Dial(t, e.Addr)
		p.ISID[5] = byte(i + 1)
		p.Login()
		p.Unit(0)
		p.Unit(1)
		peers = append(peers, p)
	}
	a, b, idle := peers[0], peers[1], peers[2]
	attention := func(p *iscsitest.Peer, why string, lun, code int) {
		t.Helper()
		r := p.Command(lun, make([]byte, 6), 0, 0, nil)
		if code == 0 {
			wantGood(t, why, r)
			return
		}
		wantSense(t, why, r, code)
		wantGood(t, why+", told once", p.Command(lun, make([]byte, 6), 0, 0, nil))
	}

	hold(a, 2)
	others := hold(b, 2)
	h.Want("the reads of two sessions", 4)
	wantManaged(t, "ABORT TASK SET", a.Manage("ABORT TASK SET", iscsi.AbortTaskSet, 1, iscsi.SCSICommand{}), iscsi.FunctionComplete)
	h.Want("those of the other session go on", 2)
	attention(a, "who aborted", 1, 0)
	h.End(bdev.StatusOK)
	for _, c := range others {
		wantGood(t, "a read of the other session", b.Response(c, nil))
	}

	hold(a, 2)
	hold(b, 2)
	h.Want("the reads of two sessions", 4)
	wantManaged(t, "CLEAR TASK SET", a.Manage("CLEAR TASK SET", iscsi.ClearTaskSet, 1, iscsi.SCSICommand{}), iscsi.FunctionComplete)
	h.Want("none is left", 0)
	attention(a, "who cleared", 1, 0)
	attention(b, "whose commands were cleared", 1, 0x062F00)
	attention(b, "of another unit", 0, 0)
	attention(idle, "who had no commands", 1, 0)

	hold(a, 2)
	hold(b, 2)
	h.Want("the reads of two sessions", 4)
	wantManaged(t, "LOGICAL UNIT RESET", a.Manage("LOGICAL UNIT RESET", iscsi.LogicalUnitReset, 1, iscsi.SCSICommand{}), iscsi.FunctionComplete)
	h.Want("none is left", 0)
	for _, p := range peers {
		attention(p, "after LOGICAL UNIT RESET", 1, 0x062900)
		attention(p, "another unit after it", 0, 0)
		p.Quiet("commands that were ended")
	}

	hold(a, 2)
	hold(b, 2)
	h.Want("the reads of two sessions", 4)
	wantManaged(t, "TARGET WARM RESET", a.Manage("TARGET WARM RESET", iscsi.TargetWarmReset, 0, iscsi.SCSICommand{}), iscsi.FunctionComplete)
	h.Want("none is left", 0)
	for _, p := range peers {
		attention(p, "after TARGET WARM RESET", 1, 0x062900)
		attention(p, "another unit after it", 0, 0x062900)
	}

	hold(a, 2)
	hold(b, 2)
	h.Want("the reads of two sessions", 4)
	wantManaged(t, "TARGET COLD RESET", a.Manage("TARGET COLD RESET", iscsi.TargetColdReset, 0, iscsi.SCSICommand{}), iscsi.FunctionComplete)
	for _, p := range peers {
		p.WantClosed("after TARGET COLD RESET")
	}
	sessions(t, e, "after TARGET COLD RESET", 0)
}

func TestTaskFunctionsThatAreNotDone(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e)
	for _, c := range []struct {
		name string
		f    iscsi.TaskFunction
		lun  int
		want iscsi.TaskResponse
	}{
		{"ABORT TASK, nothing there", iscsi.AbortTask, 0, iscsi.TaskDoesNotExist},
		{"ABORT TASK SET, no such unit", iscsi.AbortTaskSet, 9, iscsi.LUNDoesNotExist},
		{"CLEAR TASK SET, no such unit", iscsi.ClearTaskSet, 9, iscsi.LUNDoesNotExist},
		{"LOGICAL UNIT RESET, no such unit", iscsi.LogicalUnitReset, 9, iscsi.LUNDoesNotExist},
		{"CLEAR ACA", iscsi.ClearACA, 0, iscsi.FunctionNotSupported},
		{"TASK REASSIGN", iscsi.TaskReassign, 0, iscsi.ReassignNotSupported},
		{"function 0", 0, 0, iscsi.FunctionRejected},
		{"function 127", 127, 0, iscsi.FunctionRejected},
	} {
		wantManaged(t, c.name, p.Manage(c.name, c.f, c.lun, iscsi.SCSICommand{ITT: 99}), c.want)
	}
	wantGood(t, "a command after that", p.Command(0, make([]byte, 6), 0, 0, nil))
}

// A reset takes back what MODE SELECT has set, for everybody.
func TestResetTakesModesBack(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e)
	// SPC-4 section 7.5.8, "Control mode page": byte 4, bit 3 is SWP.
	list := append(make([]byte, 4), 0x0A, 0x0A, 0, 0x10, 0x08, 0, 0, 0, 0, 0, 0, 0)
	for _, f := range []iscsi.TaskFunction{iscsi.LogicalUnitReset, iscsi.TargetWarmReset} {
		wantGood(t, "MODE SELECT", p.WithData(0, []byte{0x15, 0x10, 0, 0, byte(len(list)), 0}, list))
		wantSense(t, "a write while SWP is set", p.WithData(0, iscsitest.Write10(0, 1), make([]byte, 512)), 0x072702)
		if r := p.Manage("a reset", f, 0, iscsi.SCSICommand{}); r != iscsi.FunctionComplete {
			t.Fatalf("%v: %v", f, r)
		}
		p.Unit(0)
		wantGood(t, "a write after the reset", p.WithData(0, iscsitest.Write10(0, 1), make([]byte, 512)))
	}
}
