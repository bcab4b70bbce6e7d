package iscsi_test

import (
	"bytes"
	"testing"

	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

// TestTagOfALiveTask: whatever it comes with, it is rejected, and the task that has it goes on; when that is answered the tag is free.
// RFC 7143 section 11.2.1.8, "Initiator Task Tag".
func TestTagOfALiveTask(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	h := e.AddHeld(1)
	p := ready(t, e)
	p.Unit(1)
	alive := p.SCSI(1, iscsitest.Read10(0, 1), iscsitest.Reads, 4096)
	p.Send(p.PDU(alive, nil))
	h.Want("a command", 1)
	again := func(why string, b []byte) {
		t.Helper()
		p.Send(b)
		p.WantReject(why, iscsi.RejectTaskInProgress, b)
	}
	read := p.SCSI(0, iscsitest.Read10(0, 1), iscsitest.Reads, 512)
	read.ITT = alive.ITT
	again("a command with the tag of one", p.PDU(read, nil))
	write := p.SCSI(0, iscsitest.Write10(0, 1), iscsitest.Writes, 512)
	write.ITT, write.DataBytes = alive.ITT, 512
	b := p.PDU(write, make([]byte, 512))
	p.Send(b)
	p.WantReject("a write with it, and with data", iscsi.RejectTaskInProgress, b[:iscsi.BHSBytes])
	again("a NOP-Out with it", p.PDU(iscsi.NOPOut{Request: p.Immediate(), ITT: alive.ITT, TTT: iscsi.NoTag}, nil))
	again("task management with it", p.PDU(iscsi.TaskRequest{Request: p.Immediate(), Function: iscsi.LogicalUnitReset, ITT: alive.ITT}, nil))
	again("a logout with it", p.PDU(iscsi.LogoutRequest{Request: p.Request(), ITT: alive.ITT}, nil))
	text := iscsitest.Text("SendTargets=All")
	b = p.PDU(iscsi.TextRequest{Request: p.Request(), Final: true, ITT: alive.ITT, TTT: iscsi.NoTag, DataBytes: uint32(len(text))}, text)
	p.Send(b)
	p.WantReject("text with it", iscsi.RejectTaskInProgress, b[:iscsi.BHSBytes])
	h.End(0)
	wantGood(t, "the command", p.Response(alive, nil))
	read.Request = p.Request()
	p.Send(p.PDU(read, nil))
	wantGood(t, "its tag is free", p.Response(read, nil))

	// One that waits for its data.
	data := bytes.Repeat([]byte("data"), 16<<10)
	w := p.SCSI(0, iscsitest.Write10(8, 128), iscsitest.Writes, 64<<10)
	p.Send(p.PDU(w, nil))
	q := p.WantR2T("the data of a write")
	read.Request, read.ITT = p.Request(), w.ITT
	again("a command with the tag of one that waits for data", p.PDU(read, nil))
	p.Solicited(q, data)
	wantGood(t, "the write", p.Response(w, data))
	if r := p.Command(0, iscsitest.Read10(8, 128), iscsitest.Reads, 64<<10, nil); !bytes.Equal(r.Data, data) {
		t.Error("what is read is not what was written")
	}
	if got := p.Manage("a task that is over", iscsi.AbortTask, 0, w); got != iscsi.TaskDoesNotExist {
		t.Errorf("ABORT TASK: %v", got)
	}
}

// TestNumbersOfWhatIsRejected: a request that is rejected has used its number, so that what comes behind it is served.
func TestNumbersOfWhatIsRejected(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e)
	command := func(f func(c *iscsi.SCSICommand)) func() []byte {
		return func() []byte {
			c := p.SCSI(0, make([]byte, 6), 0, 0)
			f(&c)
			return p.PDU(c, make([]byte, c.DataBytes))
		}
	}
	for _, c := range []struct {
		name   string
		b      func() []byte
		reason iscsi.RejectReason
	}{
		{"a command with neither F nor W", command(func(c *iscsi.SCSICommand) { c.Final = false }), iscsi.RejectInvalidField},
		{"a task attribute that there is not", command(func(c *iscsi.SCSICommand) { c.Attribute = 7 }), iscsi.RejectInvalidField},
		{"the reserved tag", command(func(c *iscsi.SCSICommand) { c.ITT = iscsi.NoTag }), iscsi.RejectInvalidField},
		{"immediate data of a read", command(func(c *iscsi.SCSICommand) { c.Read, c.DataBytes = true, 512 }), iscsi.RejectInvalidField},
		{"more immediate data than is expected", command(func(c *iscsi.SCSICommand) { c.Write, c.EDTL, c.DataBytes = true, 512, 1024 }), iscsi.RejectProtocol},
		{"text with F and C", func() []byte {
			return p.PDU(iscsi.TextRequest{Request: p.Request(), Final: true, Continue: true, ITT: p.ITT(), TTT: iscsi.NoTag}, nil)
		}, iscsi.RejectInvalidField},
		{"text that goes on with what was not begun", func() []byte {
			return p.PDU(iscsi.TextRequest{Request: p.Request(), Final: true, ITT: p.ITT(), TTT: 5}, nil)
		}, iscsi.RejectProtocol},
		{"a reason for a logout that there is not", func() []byte { return p.PDU(iscsi.LogoutRequest{Request: p.Request(), Reason: 9, ITT: p.ITT()}, nil) }, iscsi.RejectInvalidField},
		{"a request of a vendor", func() []byte {
			b := p.PDU(iscsi.NOPOut{Request: p.Request(), ITT: p.ITT(), TTT: iscsi.NoTag}, nil)
			b[0] = 0x1C
			return b
		}, iscsi.RejectNotSupported},
	} {
		expected := p.ExpCmdSN
		b := c.b()
		p.Send(b)
		p.WantReject(c.name, c.reason, b[:iscsi.BHSBytes])
		if p.ExpCmdSN != expected+1 {
			t.Errorf("%s: ExpCmdSN %d, it was %d before", c.name, p.ExpCmdSN, expected)
		}
		wantGood(t, "a command after "+c.name, p.Command(0, make([]byte, 6), 0, 0, nil))

		if c.reason == iscsi.RejectNotSupported {
			continue
		}
		// And one whose number is none of the window is ignored, whatever is wrong with it.
		b = c.b()
		p.CmdSN--
		b[24] ^= 0x40
		p.Send(b)
		p.Quiet("beyond the window, " + c.name)
	}
}
