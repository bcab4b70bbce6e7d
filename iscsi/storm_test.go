package iscsi_test

import (
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/patient"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

// stormer is an initiator that says whatever it likes, and listens to nothing but the login.
type stormer struct {
	rnd *rand.Rand
	p   *iscsitest.Peer
	exp atomic.Uint32 // ExpCmdSN
	r2t chan iscsi.R2T
}

// listen takes what comes.
func (s *stormer) listen() {
	for {
		b := make([]byte, iscsi.BHSBytes)
		if _, err := io.ReadFull(s.p.Conn, b); err != nil {
			return
		}
		h := iscsi.DecodeHeader(b)
		if _, err := io.CopyN(io.Discard, s.p.Conn, int64(h.DataBytes+iscsi.Padding(h.DataBytes))); err != nil {
			return
		}
		n, _ := iscsi.DecodeNOPIn(b)
		s.exp.Store(uint32(n.ExpCmdSN))
		if r, f := iscsi.DecodeR2T(b); h.Opcode == iscsi.OpR2T && f.OK() {
			select {
			case s.r2t <- r:
			default:
			}
		}
	}
}

func (s *stormer) tag() iscsi.ITT { return iscsi.ITT(s.rnd.IntN(12)) }

func (s *stormer) request() iscsi.Request {
	if s.rnd.IntN(4) == 0 {
		return s.p.Immediate()
	}
	if e := s.exp.Load(); e != 0 && s.rnd.IntN(4) == 0 {
		s.p.CmdSN = iscsi.SerialNumber(e)
	}
	return s.p.Request()
}

// say makes one PDU that makes some sense.
func (s *stormer) say() []byte {
	r, p := s.rnd, s.p
	lun := iscsitest.LUN(r.IntN(3))
	select {
	case q := <-s.r2t:
		if r.IntN(4) > 0 {
			n := int(q.Bytes)
			if r.IntN(4) == 0 {
				n = r.IntN(n + 1)
			}
			return p.Burst(iscsi.DataOut{LUN: q.LUN, ITT: q.ITT, TTT: q.TTT, Offset: q.Offset}, make([]byte, n), r.IntN(10) > 0)
		}
	default:
	}
	switch r.IntN(14) {
	case 0, 1, 2, 3:
		blocks := []uint16{0, 1, 8, 9, 64, 256, 2048}[r.IntN(7)]
		c := iscsi.SCSICommand{Request: s.request(), Final: r.IntN(3) > 0, Write: true, Attribute: iscsi.Simple, LUN: lun, ITT: s.tag(), EDTL: uint32(blocks) * 512}
		copy(c.CDB[:], iscsitest.Write10(uint32(r.IntN(100)), blocks))
		if r.IntN(2) == 0 {
			c.DataBytes = min(c.EDTL, uint32(r.IntN(65536)))
		}
		return p.PDU(c, make([]byte, c.DataBytes))
	case 4, 5, 6:
		blocks := []uint16{0, 1, 8, 9, 64, 256, 2048}[r.IntN(7)]
		c := iscsi.SCSICommand{Request: s.request(), Final: true, Read: true, Attribute: iscsi.Simple, LUN: lun, ITT: s.tag(), EDTL: uint32(blocks) * 512}
		copy(c.CDB[:], iscsitest.Read10(uint32(r.IntN(100)), blocks))
		return p.PDU(c, nil)
	case 7, 8:
		d := iscsi.DataOut{ITT: s.tag(), TTT: iscsi.NoTag, DataSN: uint32(r.IntN(2)), Final: r.IntN(2) == 0, DataBytes: uint32(r.IntN(40000))}
		if r.IntN(3) > 0 {
			d.TTT = iscsi.TTT(r.IntN(40)<<16 | r.IntN(24))
		}
		return p.PDU(d, make([]byte, d.DataBytes))
	case 9:
		q := iscsi.TaskRequest{Request: s.request(), Function: iscsi.TaskFunction(1 + r.IntN(6)), LUN: lun, ITT: s.tag(), RefITT: s.tag()}
		return p.PDU(q, nil)
	case 10:
		n := r.IntN(100000)
		return p.PDU(iscsi.NOPOut{Request: s.request(), ITT: s.tag(), TTT: iscsi.NoTag, DataBytes: uint32(n)}, make([]byte, n))
	case 11:
		text := iscsitest.Text("SendTargets=All")
		return p.PDU(iscsi.TextRequest{Request: s.request(), Final: r.IntN(2) == 0, ITT: s.tag(), TTT: iscsi.NoTag, DataBytes: uint32(len(text))}, text)
	case 12:
		if r.IntN(8) == 0 {
			return p.PDU(iscsi.LogoutRequest{Request: s.request(), Reason: iscsi.LogoutReason(r.IntN(4)), ITT: s.tag(), CID: 1}, nil)
		}
		if r.IntN(20) == 0 {
			return p.PDU(iscsi.TaskRequest{Request: s.request(), Function: iscsi.TargetColdReset, LUN: lun, ITT: s.tag(), RefITT: iscsi.NoTag}, nil)
		}
	case 13:
		cdb := make([]byte, 10)
		cdb[0] = []byte{0x56, 0x57, 0x35}[r.IntN(3)] // RESERVE, RELEASE, SYNCHRONIZE CACHE
		return p.PDU(p.SCSI(int(lun>>48), cdb, 0, 0), nil)
	}
	return nil
}

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
	s := &stormer{rnd: rnd, p: p, r2t: make(chan iscsi.R2T, 100)}
	if rnd.IntN(3) > 0 {
		go s.listen()
	}
	for range rnd.IntN(200) {
		b := s.say()
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
