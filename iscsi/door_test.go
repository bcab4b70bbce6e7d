package iscsi_test

import (
	"encoding/binary"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

// reserver is an initiator that reserves.
type reserver struct{ *iscsitest.Peer }

func newReserver(t *testing.T, e *iscsitest.Engine, name string, luns ...int) reserver {
	t.Helper()
	p := iscsitest.Login(t, e.Addr, "InitiatorName=iqn.2026-01.test:"+name)
	for _, lun := range luns {
		p.Unit(lun)
	}
	return reserver{p}
}

// prout sends a PERSISTENT RESERVE OUT with its list.
func (r reserver) prout(lun int, action, typ byte, key, actionKey uint64) iscsitest.Response {
	b := binary.BigEndian.AppendUint64(nil, key)
	b = append(binary.BigEndian.AppendUint64(b, actionKey), make([]byte, 8)...)
	return r.WithData(lun, []byte{0x5F, action, typ, 0, 0, 0, 0, 0, 24, 0}, b)
}

func want(t *testing.T, why string, r iscsitest.Response, s iscsi.SCSIStatus) {
	t.Helper()
	if r.Status != s {
		t.Errorf("%s: status %02Xh, sense %06X, want %02Xh", why, uint8(r.Status), r.Code(), uint8(s))
	}
}

// TestPreemptAndAbort: what the preempted have in flight on the unit is over when PREEMPT AND ABORT is answered, and has no answer; what they have on other
// units goes on.
func TestPreemptAndAbort(t *testing.T) {
	e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
	held := e.AddHeld(1)
	a, b := newReserver(t, e, "a", 0, 1), newReserver(t, e, "b", 0, 1)
	want(t, "register", a.prout(1, 0, 0, 0, 1), iscsi.Good)
	want(t, "register", b.prout(1, 0, 0, 0, 2), iscsi.Good)
	want(t, "reserve", a.prout(1, 1, 3, 1, 0), iscsi.Good)
	a.Send(a.PDU(a.SCSI(1, iscsitest.Read10(0, 1), iscsitest.Reads, 4096), nil))
	held.Want("a read is in flight", 1)
	a.Send(a.PDU(a.SCSI(1, iscsitest.Write10(0, 1), iscsitest.Writes, 4096), nil))
	a.WantR2T("a write waits for its data")
	other := a.SCSI(0, iscsitest.Write10(0, 1), iscsitest.Writes, 512)
	a.Send(a.PDU(other, nil))
	q := a.WantR2T("another waits, on another unit")
	want(t, "preempt and abort", b.prout(1, 5, 3, 2, 1), iscsi.Good)
	held.Want("nothing is in flight", 0)
	a.Quiet("what was ended has no answer")
	a.Solicited(q, make([]byte, 512))
	want(t, "the other unit's goes on", a.Response(other, nil), iscsi.Good)
	if r := a.Command(1, make([]byte, 6), 0, 0, nil); r.Code() != 0x062A05 {
		t.Errorf("the preempted is told %06X", r.Code())
	}
	want(t, "it reads", a.Command(1, iscsitest.Read10(0, 1), iscsitest.Reads, 4096, nil), iscsi.ReservationConflict)
	read := b.SCSI(1, iscsitest.Read10(0, 1), iscsitest.Reads, 4096)
	b.Send(b.PDU(read, nil))
	held.Want("the new holder reads", 1)
	held.End(bdev.StatusIO)
	want(t, "its read", b.Response(read, nil), iscsi.CheckCondition)
}

// TestReserveEndsWithItsNexus: RESERVE is gone when the logout is answered, when the connection is lost, when the session is reinstated, and
// after resets; a persistent reservation outlives them all.
func TestReserveEndsWithItsNexus(t *testing.T) {
	reserve := []byte{0x16, 0, 0, 0, 0, 0}
	for _, c := range []struct {
		why string
		end func(t *testing.T, e *iscsitest.Engine, a reserver)
	}{
		{"a logout", func(_ *testing.T, _ *iscsitest.Engine, a reserver) { a.Logout("logout") }},
		{"a lost connection", func(_ *testing.T, _ *iscsitest.Engine, a reserver) { a.Close() }},
		{"a reinstatement", func(t *testing.T, e *iscsitest.Engine, _ reserver) { newReserver(t, e, "a") }},
		{"a reset of the unit", func(_ *testing.T, _ *iscsitest.Engine, a reserver) {
			a.Manage("reset", iscsi.LogicalUnitReset, 0, iscsi.SCSICommand{})
		}},
		{"a reset of the target", func(_ *testing.T, _ *iscsitest.Engine, a reserver) {
			a.Manage("reset", iscsi.TargetWarmReset, 0, iscsi.SCSICommand{})
		}},
	} {
		t.Run(c.why, func(t *testing.T) {
			e := iscsitest.Start(t, iscsitest.Options{Reactors: 2})
			a, b := newReserver(t, e, "a", 0), newReserver(t, e, "b", 0)
			want(t, "reserve", a.Command(0, reserve, 0, 0, nil), iscsi.Good)
			want(t, "another reserves", b.Command(0, reserve, 0, 0, nil), iscsi.ReservationConflict)
			c.end(t, e, a)
			r := b.Command(0, reserve, 0, 0, nil)
			for c.why == "a lost connection" && r.Status == iscsi.ReservationConflict { // when it is heard of is the network's affair
				r = b.Command(0, reserve, 0, 0, nil)
			}
			if r.Code() == 0x062900 { // of the reset
				r = b.Command(0, reserve, 0, 0, nil)
			}
			want(t, "another reserves then", r, iscsi.Good)
			b.Command(0, []byte{0x17, 0, 0, 0, 0, 0}, 0, 0, nil)

			a = newReserver(t, e, "a", 0)
			want(t, "register", a.prout(0, 6, 0, 0, 1), iscsi.Good)
			want(t, "reserve", a.prout(0, 1, 1, 1, 0), iscsi.Good)
			c.end(t, e, a)
			b.Unit(0)
			want(t, "another writes", b.WithData(0, iscsitest.Write10(0, 1), make([]byte, 512)), iscsi.ReservationConflict)
			a = newReserver(t, e, "a", 0)
			want(t, "the holder is back", a.WithData(0, iscsitest.Write10(0, 1), make([]byte, 512)), iscsi.Good)
		})
	}
}
