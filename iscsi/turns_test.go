package iscsi_test

import (
	"encoding/binary"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

// orWrite sends an ORWRITE(16) of one block of the held unit, with its data.
func orWrite(p *iscsitest.Peer) iscsi.SCSICommand {
	b := make([]byte, 16)
	b[0], b[13] = 0x8B, 1
	return withData(p, 1, b, make([]byte, 4096))
}

// copyAcross sends an EXTENDED COPY of n segments of four blocks of 4096 bytes each, from LUN 0 to LUN 1.
func copyAcross(p *iscsitest.Peer, by, n int) iscsi.SCSICommand {
	list := make([]byte, 16, 256)
	list[1], list[3], list[11] = 3<<3, 2*32, byte(n*28) // no list identifier; two targets and the segments
	for lun, size := range []uint32{512, 4096} {
		// The NAA designator of the page Device Identification.
		page := p.Command(lun, []byte{0x12, 1, 0x83, 0, 255}, iscsitest.Reads, 255, nil).Data[4:]
		for page[1]&0x3F != 3 {
			page = page[4+page[3]:]
		}
		d := make([]byte, 32)
		d[0] = 0xE4
		copy(d[4:], page[:4+page[3]])
		binary.BigEndian.PutUint32(d[28:], size)
		list = append(list, d...)
	}
	for range n {
		segment := make([]byte, 28)
		segment[0], segment[3], segment[7], segment[11] = 0x02, 24, 1, 32
		list = append(list, segment...)
	}
	cdb := make([]byte, 16)
	cdb[0], cdb[13] = 0x83, byte(len(list))
	return withData(p, by, cdb, list)
}

func withData(p *iscsitest.Peer, lun int, cdb, data []byte) iscsi.SCSICommand {
	c := p.SCSI(lun, cdb, iscsitest.Writes, uint32(len(data)))
	c.DataBytes = uint32(len(data))
	p.Send(p.PDU(c, data))
	return c
}

// Commands that use something of a unit one after the other give it on when they are ended without an answer, those that have it and those that wait.
func TestCommandsThatEndWithoutAnAnswerGiveTheirTurnOn(t *testing.T) {
	for _, kind := range []struct {
		name string
		send func(*iscsitest.Peer) iscsi.SCSICommand
		ends int // requests of one that is not ended
	}{{"ORWRITE", orWrite, 2}, {"EXTENDED COPY", func(p *iscsitest.Peer) iscsi.SCSICommand { return copyAcross(p, 1, 1) }, 1}} {
		for _, end := range []struct {
			name string
			f    func(p *iscsitest.Peer)
		}{
			{"a reset", func(p *iscsitest.Peer) { p.Manage("reset", iscsi.LogicalUnitReset, 1, iscsi.SCSICommand{}) }},
			{"a lost connection", func(p *iscsitest.Peer) { p.Reset() }},
			{"a logout", func(p *iscsitest.Peer) { p.Logout("logout") }},
		} {
			t.Run(kind.name+", "+end.name, func(t *testing.T) {
				e := iscsitest.Start(t, iscsitest.Options{})
				h := e.AddHeld(1)
				p := ready(t, e)
				p.Unit(1)
				kind.send(p)
				h.Want("the first", 1)
				kind.send(p)
				p.Send(p.PDU(iscsi.NOPOut{Request: p.Request(), ITT: p.ITT(), TTT: iscsi.NoTag}, nil))
				p.Want("the second waits", iscsi.OpNOPIn)
				end.f(p)
				h.Want("both are ended", 0)

				o := iscsitest.Dial(t, e.Addr)
				o.ISID[5] = 9
				o.Login()
				o.Unit(0)
				o.Unit(1)
				c := kind.send(o)
				for range kind.ends {
					h.Want("another", 1)
					h.End(bdev.StatusOK)
				}
				wantGood(t, "another", o.Response(c, nil))
				if err := e.Target.RemoveLUN(t.Context(), iscsitest.Node, 1); err != nil {
					t.Error(err)
				}
				if err := e.Target.RemoveLUN(t.Context(), iscsitest.Node, 0); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// Who is preempted on a unit writes nothing there any more, by a copy that another unit has either: none of it is under way after PREEMPT AND ABORT, and after
// PREEMPT no more of it begins.
func TestCopiesOfThePreempted(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	h := e.AddHeld(1)
	a, b := newReserver(t, e, "a", 0, 1), newReserver(t, e, "b", 0, 1)
	for _, action := range []byte{4, 5} { // PREEMPT, PREEMPT AND ABORT
		want(t, "register", a.prout(1, 6, 0, 0, 1), iscsi.Good)
		want(t, "register", b.prout(1, 6, 0, 0, 2), iscsi.Good)
		want(t, "reserve", a.prout(1, 1, 1, 1, 0), iscsi.Good) // Write Exclusive
		c := copyAcross(a.Peer, 0, 2)
		h.Want("the first segment", 1)
		want(t, "preempt", b.prout(1, action, 1, 2, 1), iscsi.Good)
		if action == 4 {
			h.End(bdev.StatusOK)
			wantSense(t, "the copy", a.Response(c, nil), 0x0A0D01)
		}
		h.Want("no more is copied", 0)
		a.Quiet("after the copy")
		want(t, "release", b.prout(1, 3, 0, 2, 0), iscsi.Good) // CLEAR
		a.Unit(1)
		b.Unit(1)
	}
}
