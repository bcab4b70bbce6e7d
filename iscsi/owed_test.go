package iscsi_test

import (
	"testing"
	"time"

	"github.com/pollux-storage/pollux/internal/patient"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

// asked sends a write and gives the R2T for all of its data.
func asked(p *iscsitest.Peer, lba, bytes uint32) iscsi.R2T {
	p.Send(p.PDU(p.SCSI(0, iscsitest.Write10(lba, uint16(bytes/512)), iscsitest.Writes, bytes), nil))
	return p.WantR2T("the data of a write")
}

// feed keeps an initiator busy with f until the target closes the connection.
func feed(t *testing.T, why string, p *iscsitest.Peer, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patient.Limit); time.Now().Before(end); {
		if !f() {
			return
		}
		<-tick.C
	}
	t.Errorf("%s: the session goes on", why)
}

// TestOneWriteStarvesBesideAnother: each write has its own time, whatever comes of others (T-10).
func TestOneWriteStarvesBesideAnother(t *testing.T) {
	iscsi.SetPatience(t, iscsi.Patience{Data: 150 * time.Millisecond, Beside: 1 << 40})
	e := iscsitest.Start(t, iscsitest.Options{})

	p := ready(t, e)
	asked(p, 0, 64<<10) // of which nothing comes
	fed := asked(p, 256, 128<<10)
	at := uint32(0)
	feed(t, "a write is fed, another starves", p, func() bool {
		_, err := p.Conn.Write(p.PDU(iscsi.DataOut{LUN: fed.LUN, ITT: fed.ITT, TTT: fed.TTT, DataSN: at / 16, Offset: at, DataBytes: 16}, make([]byte, 16)))
		at += 16
		return err == nil
	})
	sessions(t, e, "after that", 0)

	p = ready(t, e)
	c := p.SCSI(0, iscsitest.Write10(0, 8), iscsitest.Writes, 4096)
	c.Final = false
	p.Send(p.PDU(c, nil)) // and nothing of what it announces
	fed, at = asked(p, 256, 128<<10), 0
	feed(t, "a write is fed, another that was announced starves", p, func() bool {
		_, err := p.Conn.Write(p.PDU(iscsi.DataOut{LUN: fed.LUN, ITT: fed.ITT, TTT: fed.TTT, DataSN: at / 16, Offset: at, DataBytes: 16}, make([]byte, 16)))
		at += 16
		return err == nil
	})
	sessions(t, e, "after that", 0)
	e.WantNothingLent("after that")
}

// TestManyWritesOneAfterTheOther: who owes much, and sends it in its order, has time for all of it.
func TestManyWritesOneAfterTheOther(t *testing.T) {
	iscsi.SetPatience(t, iscsi.Patience{Data: 100 * time.Millisecond, Beside: 1 << 10})
	e := iscsitest.Start(t, iscsitest.Options{})
	p := ready(t, e)
	const n, bytes = 8, 64 << 10
	var owed []iscsi.R2T
	for i := range uint32(n) {
		owed = append(owed, asked(p, i*bytes/512, bytes))
	}
	for _, q := range owed {
		<-time.After(50 * time.Millisecond) // 400 ms for all of them
		p.Solicited(q, make([]byte, bytes))
	}
	for range n {
		p.Want("the end of a write", iscsi.OpSCSIResponse)
	}
	p.Logout("at the end")
}
