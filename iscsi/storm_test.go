package iscsi_test

import (
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/patient"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

// Many at once, of the same few names, on units that are slow to answer, while what they may changes: all sessions come to their end, and the target
// serves on.
func TestInitiatorsThatSayWhatTheyLike(t *testing.T) {
	iscsi.SetPatience(t, iscsi.Patience{Data: 400 * time.Millisecond, Wanted: 100 * time.Millisecond, Logout: 100 * time.Millisecond})
	for _, reactors := range []int{1, 2} {
		e := iscsitest.Start(t, iscsitest.Options{Reactors: reactors, MemoryBytes: 16 << 20, Node: func(o *iscsi.NodeOptions) { o.QueueDepth = 16 }})
		h := e.AddHeld(1)
		ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
		var said sync.WaitGroup
		for i := range 6 {
			said.Go(func() {
				for rnd := rand.New(rand.NewPCG(uint64(reactors), uint64(i))); ctx.Err() == nil; {
					storm(t, e, rnd)
				}
			})
		}
		said.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(reactors), 99))
			m := []iscsi.Map{{PortalGroup: iscsitest.Tag, InitiatorGroup: iscsitest.Tag}}
			for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
				if rnd.IntN(40) == 0 {
					_ = e.Target.RemoveMaps(t.Context(), iscsitest.Node, m)
					_ = e.Target.AddMaps(iscsitest.Node, m)
				}
				h.End([]bdev.Status{bdev.StatusOK, bdev.StatusIO}[rnd.IntN(2)])
			}
		})
		said.Wait()
		stop()
		patient.Await(t, "all sessions end", func() bool {
			h.End(bdev.StatusOK)
			list, err := e.Target.Connections()
			return err == nil && len(list) == 0
		})
		ready(t, e).Logout("after all of them")
	}
}

// storm is one connection of such an initiator.
func storm(t *testing.T, e *iscsitest.Engine, rnd *rand.Rand) {
	p := iscsitest.Dial(t, e.Addr)
	defer p.Close()
	p.ISID[5] = byte(rnd.IntN(4))
	r, ok := tryLogin(p)
	if !ok {
		return
	}
	p.Enter(r)
	s := &wild{rnd: rnd, cold: true, numbers: r.Numbers}
	if rnd.IntN(3) > 0 {
		go s.listen(p.Conn)
	}
	for range rnd.IntN(200) {
		b := s.pdu(p)
		if rnd.IntN(50) == 0 && len(b) > 0 {
			b = b[:rnd.IntN(len(b))]
		}
		_ = p.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := p.Conn.Write(b); err != nil {
			return
		}
	}
	if rnd.IntN(2) == 0 {
		p.Reset()
	}
}

// tryLogin logs in, where that may fail.
func tryLogin(p *iscsitest.Peer) (r iscsi.LoginResponse, ok bool) {
	text := iscsitest.Text(iscsitest.Keys("MaxRecvDataSegmentLength=8192")...)
	q := iscsi.LoginRequest{Request: p.Immediate(), Transit: true, CSG: iscsi.OperationalStage, NSG: iscsi.FullFeature, ISID: p.ISID, ITT: 1, CID: 1, DataBytes: uint32(len(text))}
	_ = p.Conn.SetDeadline(time.Now().Add(3 * time.Second))
	defer p.Conn.SetDeadline(time.Time{})
	if _, err := p.Conn.Write(p.PDU(q, text)); err != nil {
		return r, false
	}
	b := make([]byte, iscsi.BHSBytes)
	if _, err := io.ReadFull(p.Conn, b); err != nil {
		return r, false
	}
	r, _ = iscsi.DecodeLoginResponse(b)
	n := iscsi.DecodeHeader(b).DataBytes
	if _, err := io.CopyN(io.Discard, p.Conn, int64(n+iscsi.Padding(n))); err != nil {
		return r, false
	}
	return r, r.Status == iscsi.LoginSuccess && r.Transit
}
