package iscsi_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

// What an initiator owes is not waited for without end.
func TestPatienceEnds(t *testing.T) {
	iscsi.SetPatience(t, iscsi.Patience{Data: 100 * time.Millisecond})
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e)
	p.Send(p.PDU(p.SCSI(0, iscsitest.Write10(0, 256), iscsitest.Writes, 128<<10), nil))
	p.WantR2T("the data of a write")
	p.WantClosed("data that was asked for does not come")

	p = ready(t, e)
	c := p.SCSI(0, iscsitest.Write10(0, 8), iscsitest.Writes, 4096)
	c.Final = false
	p.Send(p.PDU(c, nil))
	p.WantClosed("data that was announced does not come")

	p = ready(t, e)
	c = p.SCSI(0, iscsitest.Write10(0, 8), iscsitest.Writes, 4096)
	c.DataBytes = 4096
	b := p.PDU(c, make([]byte, 4096))
	p.Send(b[:1000])
	p.WantClosed("the rest of a command's data does not come")
	sessions(t, e, "after that", 0)
	e.WantNothingLent("after that")
}

// A command fails in the device: the status, no data, and the residual says so. Status goes with the data only when it is good.
// RFC 7143 section 11.4.2.
func TestDeviceFails(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	h := e.AddHeld(1)
	p := ready(t, e)
	p.Unit(1)
	for _, c := range []struct {
		status bdev.Status
		code   int
	}{
		{bdev.StatusIO, 0x031100},
		{bdev.StatusCorrupt, 0x031100},
	} {
		q := hold(p, 1)[0]
		h.Want("the read", 1)
		h.End(c.status)
		r := p.Response(q, nil)
		wantSense(t, fmt.Sprintf("a read that ends with %v", c.status), r, c.code)
		if r.DataIns != 0 || !r.Underflow || r.Count != 4096 {
			t.Errorf("a read that ends with %v: %d Data-Ins, residual %+v", c.status, r.DataIns, r.Residual)
		}
	}
	p.Quiet("after that")
}

// Data that is expected to be moved and cuts a block: nothing of that block is written, whatever the answer.
func TestExpectedLengthCutsABlock(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e)
	was := pattern(2048, 3)
	for _, edtl := range []uint32{100, 511, 700, 1023} {
		for _, carried := range []bool{false, true} {
			wantGood(t, "before", p.Command(0, iscsitest.Write10(0, 4), iscsitest.Writes, 2048, was))
			q := p.SCSI(0, iscsitest.Write10(0, 2), iscsitest.Writes, edtl)
			data := bytes.Repeat([]byte{0xEE}, int(edtl))
			if carried {
				q.DataBytes = edtl
			}
			p.Send(p.PDU(q, data[:q.DataBytes]))
			r := p.Response(q, data)
			name := fmt.Sprintf("%d bytes for 2 blocks, carried %v", edtl, carried)
			whole := int(edtl) / 512 * 512
			switch {
			case r.Status == iscsi.Good && r.Overflow && r.Count == 1024-edtl:
			case r.Status == iscsi.CheckCondition && r.Code() == 0x050E03:
				whole = 0
			default:
				t.Errorf("%s: %02Xh %06X, residual %+v", name, r.Status, r.Code(), r.Residual)
			}
			got := p.Command(0, iscsitest.Read10(0, 4), iscsitest.Reads, 2048, nil).Data
			if want := append(bytes.Clone(data[:whole]), was[whole:]...); !bytes.Equal(got, want) {
				t.Errorf("%s: other bytes are written", name)
			}
		}
	}
	for _, edtl := range []uint32{100, 700} {
		r := p.Command(0, iscsitest.Read10(0, 2), iscsitest.Reads, edtl, nil)
		if r.Status != iscsi.Good || len(r.Data) != int(edtl) || !bytes.Equal(r.Data, was[:edtl]) || !r.Overflow || r.Count != 1024-edtl {
			t.Errorf("a read of %d bytes of 2 blocks: %02Xh, %d bytes, residual %+v", edtl, r.Status, len(r.Data), r.Residual)
		}
	}
}

// Data comes unasked while all memory is lent to others: each write ends, good or with TASK SET FULL, and in the first case it is there.
func TestUnaskedDataWithoutMemory(t *testing.T) {
	iscsi.SetPatience(t, iscsi.Patience{Wanted: 200 * time.Millisecond})
	e := iscsitest.Start(t, iscsitest.Options{MemoryBytes: 8 << 20})
	var hogs []*iscsitest.Peer
	for i := range 8 {
		p := iscsitest.Dial(t, e.Addr)
		p.ISID[4] = byte(i + 1)
		p.Login()
		p.Unit(0)
		for range 8 {
			p.Send(p.PDU(p.SCSI(0, iscsitest.Write10(0, 2048), iscsitest.Writes, 1<<20), nil))
		}
		hogs = append(hogs, p)
	}
	hogs[0].WantR2T("the data of the first")
	p := ready(t, e)
	const n = 64 << 10
	var open []iscsi.SCSICommand
	for i := range 48 {
		q := p.SCSI(0, iscsitest.Write10(uint32(8192+i*128), n/512), iscsitest.Writes, n)
		q.DataBytes = n
		p.Send(p.PDU(q, pattern(n, byte(i))))
		open = append(open, q)
	}
	full, good := 0, map[iscsi.ITT]bool{}
	for range open {
		pdu := p.Want("the end of a write", iscsi.OpSCSIResponse)
		r, _ := iscsi.DecodeSCSIResponse(pdu.BHS)
		switch r.Status {
		case iscsi.Good:
			good[r.ITT] = true
		case iscsi.TaskSetFull:
			full++
		default:
			t.Errorf("a write ends with %02Xh % x", r.Status, pdu.Data)
		}
	}
	for i, q := range open {
		if !good[q.ITT] {
			continue
		}
		if r := p.Command(0, iscsitest.Read10(uint32(8192+i*128), n/512), iscsitest.Reads, n, nil); r.Status != iscsi.Good || !bytes.Equal(r.Data, pattern(n, byte(i))) {
			t.Errorf("write %d ended well, and is not there", i)
		}
	}
	if full+len(good) != len(open) {
		t.Errorf("of %d writes %d ended well, and %d found no memory", len(open), len(good), full)
	}
	for _, h := range hogs {
		h.Reset()
	}
	p.Logout("at the end")
	sessions(t, e, "all are gone", 0)
	e.WantNothingLent("all are gone")
}
