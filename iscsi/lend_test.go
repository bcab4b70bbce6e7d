package iscsi_test

import (
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

// begun sends a write of n bytes of which only the first come, unasked.
func begun(p *iscsitest.Peer, lun int, cdb []byte, n, first int) iscsi.SCSICommand {
	c := p.SCSI(lun, cdb, iscsitest.Writes, uint32(n))
	c.DataBytes = uint32(first)
	p.Send(p.PDU(c, make([]byte, first)))
	return c
}

// Initiators that send the first part of their writes, and what they are asked for never, have memory that others want: their sessions end.
func TestInitiatorsThatBeginWritesAndStallHoldUpNoOther(t *testing.T) {
	iscsi.SetPatience(t, iscsi.Patience{Data: time.Hour, Wanted: 300 * time.Millisecond})
	e := iscsitest.Start(t, iscsitest.Options{MemoryBytes: 16 << 20})
	for n := range 3 {
		p := iscsitest.Dial(t, e.Addr)
		p.ISID[5] = byte(10 + n)
		p.Login()
		p.Unit(0)
		for range 8 {
			begun(p, 0, iscsitest.Write10(0, 2048), 1<<20, 4096)
		}
		for range 8 { // an R2T, or that the task set is full
			p.Recv("a write that has begun")
		}
	}
	p := iscsitest.Login(t, e.Addr)
	p.Unit(0)
	for range 4 {
		if r := p.Command(0, iscsitest.Read10(0, 2048), iscsitest.Reads, 1<<20, nil); r.Status != iscsi.Good || len(r.Data) != 1<<20 {
			t.Errorf("a read beside initiators that stall: status %v, %d bytes", r.Status, len(r.Data))
		}
	}
}

// One that has begun more writes than there is memory for hears that its task set is full, and others have what they need at once.
func TestAnInitiatorThatBeginsManyWritesLeavesMemoryToOthers(t *testing.T) {
	iscsi.SetPatience(t, iscsi.Patience{Data: time.Hour, Wanted: time.Hour})
	e := iscsitest.Start(t, iscsitest.Options{MemoryBytes: 16 << 20})
	s := iscsitest.Dial(t, e.Addr)
	s.ISID[5] = 10
	s.Login()
	s.Unit(0)
	r2ts, full := 0, 0
	for range 32 {
		begun(s, 0, iscsitest.Write10(0, 2048), 1<<20, 4096)
		switch pdu := s.Recv("a write that has begun"); pdu.Opcode {
		case iscsi.OpR2T:
			r2ts++
		case iscsi.OpSCSIResponse:
			if r, _ := iscsi.DecodeSCSIResponse(pdu.BHS); r.Status == iscsi.TaskSetFull {
				full++
			}
		}
	}
	if r2ts == 0 || full == 0 || r2ts+full != 32 {
		t.Fatalf("of 32 writes %d are asked for more, and of %d the task set is full", r2ts, full)
	}
	p := iscsitest.Login(t, e.Addr)
	p.Unit(0)
	data := make([]byte, 1<<20)
	for range 4 {
		if r := p.Response(begun(p, 0, iscsitest.Write10(0, 2048), len(data), 8192), data); r.Status != iscsi.Good {
			t.Fatalf("a write beside it: %v", r.Status)
		}
		if r := p.Command(0, iscsitest.Read10(0, 2048), iscsitest.Reads, 1<<20, nil); r.Status != iscsi.Good {
			t.Fatalf("a read beside it: %v", r.Status)
		}
	}
}

// A write whose data comes with it has room beside the pool, again and again: a connection that stands at the next one goes on when that
// comes back, whoever has the pool.
func TestWritesWithTheirDataNeedNoPool(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	d := e.AddHeld(1)
	p := iscsitest.Login(t, e.Addr)
	p.Unit(1)
	giveBack := drain(t, e)
	var sent []iscsi.SCSICommand
	for i := range 4 {
		sent = append(sent, begun(p, 1, iscsitest.Write10(uint32(i), 1), 4096, 4096))
	}
	for _, c := range sent {
		d.Want("a write in the room beside the pool", 1)
		d.End(bdev.StatusOK)
		if r := p.Response(c, nil); r.Status != iscsi.Good {
			t.Errorf("a write without the pool: %v, %06X", r.Status, r.Code())
		}
	}
	giveBack()
}
