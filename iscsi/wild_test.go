package iscsi_test

import (
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/internal/patient"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

// wild is an initiator that has lost its mind: its PDUs are well-formed more often than not, its numbers and tags are right more often than
// not, and it remembers what it was asked for.
type wild struct {
	rnd     *rand.Rand
	digests iscsi.Digests
	cold    bool // it resets the whole target, too

	mu      sync.Mutex
	asked   []iscsi.R2T
	numbers iscsi.Numbers // as the target said last
	pings   []iscsi.TTT
}

func (s *wild) one(n int) bool { return s.rnd.IntN(n) == 0 }

// listen takes what the target sends, as an initiator does that keeps no account of it, until the connection ends.
func (s *wild) listen(c io.Reader) {
	for {
		b := make([]byte, iscsi.BHSBytes)
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		h := iscsi.DecodeHeader(b)
		rest := int64(h.AHSBytes) + int64(h.DataBytes) + int64(iscsi.DataEndBytes(h.DataBytes, s.digests))
		if s.digests&iscsi.HeaderDigests != 0 {
			rest += iscsi.DigestBytes
		}
		s.mu.Lock()
		nop, _ := iscsi.DecodeNOPIn(b)
		s.numbers = nop.Numbers
		switch h.Opcode {
		case iscsi.OpR2T:
			r, _ := iscsi.DecodeR2T(b)
			s.asked = append(s.asked, r)
		case iscsi.OpNOPIn:
			if nop.TTT != iscsi.NoTag {
				s.pings = append(s.pings, nop.TTT)
			}
		}
		s.mu.Unlock()
		if _, err := io.CopyN(io.Discard, c, rest); err != nil {
			return
		}
	}
}

func (s *wild) request() iscsi.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := iscsi.Request{Immediate: s.one(4), CmdSN: s.numbers.ExpCmdSN, ExpStatSN: s.numbers.StatSN + 1}
	switch s.rnd.IntN(12) {
	case 0:
		r.CmdSN = s.numbers.MaxCmdSN + iscsi.SerialNumber(s.rnd.IntN(3))
	case 1:
		r.CmdSN -= iscsi.SerialNumber(s.rnd.IntN(3))
	case 2:
		r.CmdSN = iscsi.SerialNumber(s.rnd.Uint32())
	}
	if !r.Immediate && r.CmdSN == s.numbers.ExpCmdSN {
		s.numbers.ExpCmdSN++ // it may have been taken
	}
	return r
}

func (s *wild) itt() iscsi.ITT {
	if s.one(40) {
		return iscsi.NoTag
	}
	return iscsi.ITT(s.rnd.IntN(12))
}

func (s *wild) length() uint32 {
	sizes := []uint32{0, 1, 3, 511, 512, 513, 4096, 8192, 65536, 65540, 131072, 262144, 262148, 1 << 20, 1<<20 + 1, 1 << 31, 0xFFFFFFFF}
	if s.one(3) {
		return s.rnd.Uint32N(20000)
	}
	return sizes[s.rnd.IntN(len(sizes))]
}

func (s *wild) lun() iscsi.LUN {
	if s.one(20) {
		return iscsi.LUN(s.rnd.Uint64())
	}
	return iscsitest.LUN(s.rnd.IntN(3))
}

func (s *wild) cdb() (c iscsi.CDB) {
	ops := []byte{
		0x00, 0x03, 0x08, 0x0A, 0x12, 0x15, 0x16, 0x17, 0x1A, 0x1B, 0x25, 0x28, 0x2A, 0x2E, 0x2F, 0x34, 0x35, 0x41, 0x42, 0x55, 0x56, 0x57, 0x5A,
		0x5E, 0x5F, 0x7F, 0x83, 0x84, 0x88, 0x89, 0x8A, 0x8B, 0x8E, 0x8F, 0x90, 0x91, 0x93, 0x9C, 0x9E, 0xA0, 0xA3, 0xA4, 0xA8, 0xAA, 0xAE, 0xAF,
	}
	for i := range c {
		if s.one(3) {
			c[i] = byte(s.rnd.Uint32())
		}
	}
	c[0] = ops[s.rnd.IntN(len(ops))]
	if s.one(2) { // READ (10) or WRITE (10) that is fine
		blocks := []int{0, 1, 8, 9, 31, 64, 256, 2048}[s.rnd.IntN(8)]
		c = iscsi.CDB{0x28 + 2*byte(s.rnd.IntN(2)), 0, 0, 0, 0, byte(s.rnd.Uint32()), 0, byte(blocks >> 8), byte(blocks)}
	}
	return c
}

// pdu makes the next PDU.
func (s *wild) pdu(p *iscsitest.Peer) []byte {
	data := func(n uint32) []byte { return make([]byte, min(n, 262144+4)) }
	switch s.rnd.IntN(16) {
	case 0, 1, 2, 3, 4, 5:
		c := iscsi.SCSICommand{
			Request: s.request(), Final: !s.one(4), Read: s.one(2), Write: s.one(2), Attribute: iscsi.TaskAttribute(s.rnd.IntN(5)), LUN: s.lun(), ITT: s.itt(),
			EDTL: s.length(), CDB: s.cdb(),
		}
		if s.one(4) {
			c.EDTL = (uint32(c.CDB[7])<<8 | uint32(c.CDB[8])) * 512
		}
		if s.one(8) { // an ORWRITE that is fine: they take turns
			c.Final, c.Read, c.Write, c.LUN, c.EDTL, c.CDB = true, false, true, iscsitest.LUN(1), 4096, iscsi.CDB{0x8B, 13: 1}
		}
		if c.Final = c.Final || !c.Write; c.Write && s.one(2) {
			c.DataBytes = min(s.length(), c.EDTL, 262144)
		}
		var ahs []byte
		if s.one(16) {
			ahs = iscsi.AppendAHS(nil, iscsi.AHSType(s.rnd.IntN(4)), make([]byte, s.rnd.IntN(32)))
			c.AHSBytes = uint32(len(ahs))
		}
		return p.PDUWith(c, ahs, data(c.DataBytes))
	case 6, 7, 8: // an R2T that is answered
		s.mu.Lock()
		var r iscsi.R2T
		if n := len(s.asked); n > 0 {
			r = s.asked[0]
			s.asked = s.asked[1:]
		}
		s.mu.Unlock()
		if r.Bytes == 0 {
			return nil
		}
		d := iscsi.DataOut{LUN: r.LUN, ITT: r.ITT, TTT: r.TTT, Offset: r.Offset}
		b := p.Burst(d, make([]byte, r.Bytes), !s.one(10))
		if s.one(6) { // a part of it, in any place
			b = b[:0]
			for range 1 + s.rnd.IntN(3) {
				d.DataBytes, d.Final = min(s.length(), 262144), s.one(2)
				d.DataSN += uint32(s.rnd.IntN(2))
				d.Offset += uint32(s.rnd.IntN(2)) * d.DataBytes
				b = append(b, p.PDU(d, data(d.DataBytes))...)
			}
		}
		return b
	case 9: // unsolicited, or for nothing
		d := iscsi.DataOut{LUN: s.lun(), ITT: s.itt(), TTT: iscsi.NoTag, DataSN: uint32(s.rnd.IntN(3)), Offset: min(s.length(), 1<<20), Final: s.one(2), DataBytes: min(s.length(), 262144)}
		if s.one(3) {
			d.TTT = iscsi.TTT(s.rnd.Uint32())
		}
		if s.one(3) {
			d.TTT = iscsi.TTT(s.rnd.IntN(64))
		}
		return p.PDU(d, data(d.DataBytes))
	case 10, 11:
		q := iscsi.TaskRequest{
			Request: s.request(), Function: iscsi.TaskFunction(s.rnd.IntN(6)), LUN: s.lun(), ITT: s.itt(), RefITT: s.itt(), RefCmdSN: iscsi.SerialNumber(s.rnd.Uint32()),
		}
		switch {
		case s.cold && s.one(40):
			q.Function = iscsi.TargetColdReset
		case s.cold:
		case q.Function >= iscsi.ClearTaskSet: // it ends the commands of others too, without an answer
			q.LUN = iscsitest.LUN(1)
		}
		return p.PDU(q, nil)
	case 12:
		n := min(s.length(), 262144)
		q := iscsi.NOPOut{Request: s.request(), LUN: s.lun(), ITT: s.itt(), TTT: iscsi.NoTag, DataBytes: n}
		s.mu.Lock()
		if len(s.pings) > 0 && s.one(2) {
			q.ITT, q.TTT, s.pings = iscsi.NoTag, s.pings[0], s.pings[1:]
		}
		s.mu.Unlock()
		return p.PDU(q, data(n))
	case 13:
		text := iscsitest.Text([]string{"SendTargets=All", "SendTargets=", "InitiatorAlias=x", "MaxRecvDataSegmentLength=512", "A=B", "=", "MaxBurstLength=512"}[s.rnd.IntN(7)])
		q := iscsi.TextRequest{Request: s.request(), Final: s.one(2), Continue: s.one(3), ITT: s.itt(), TTT: iscsi.NoTag, DataBytes: uint32(len(text))}
		if s.one(3) {
			q.TTT = iscsi.TTT(s.rnd.IntN(4))
		}
		return p.PDU(q, text)
	case 14:
		if s.one(8) {
			return p.PDU(iscsi.LogoutRequest{Request: s.request(), Reason: iscsi.LogoutReason(s.rnd.IntN(4)), ITT: s.itt(), CID: iscsi.CID(s.rnd.IntN(3))}, nil)
		}
		return p.PDU(iscsi.SNACK{ITT: s.itt(), TTT: iscsi.NoTag}, nil)
	default:
		b := p.PDU(iscsi.NOPOut{Request: s.request(), ITT: s.itt(), TTT: iscsi.NoTag}, nil)
		if s.one(3) {
			b[s.rnd.IntN(len(b))] ^= 1 << s.rnd.IntN(8)
		} else {
			b[0] = byte(s.rnd.Uint32())
		}
		return b
	}
}

// FuzzInitiators lets several initiators do whatever they like at the same time, beside a device that may not let go of what it has. Nothing of it
// stops the engine, or keeps another initiator from its work, and when they are gone nothing is left of them.
func FuzzInitiators(f *testing.F) {
	for seed := range uint64(24) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		e := iscsitest.Start(t, iscsitest.Options{Reactors: 2, MemoryBytes: 12 << 20, Node: func(o *iscsi.NodeOptions) { o.QueueDepth = 8 }})
		h := e.AddHeld(1)
		rnd := rand.New(rand.NewPCG(seed, 1))
		if rnd.IntN(2) == 0 {
			h.Keep()
		}
		good := iscsitest.Dial(t, e.Addr)
		good.ISID[5] = 0xEE
		good.Login()
		good.Unit(0)
		var all sync.WaitGroup
		for i := range 3 {
			s := &wild{rnd: rand.New(rand.NewPCG(seed, uint64(i)+2))}
			p := iscsitest.Dial(t, e.Addr)
			p.ISID[5] = byte(i)
			yes := []string{"Yes", "No"}
			digest := []string{"None", "CRC32C"}
			p.Login("InitialR2T="+yes[s.rnd.IntN(2)], "ImmediateData="+yes[s.rnd.IntN(2)], "HeaderDigest="+digest[s.rnd.IntN(2)], "DataDigest="+digest[s.rnd.IntN(2)],
				"MaxBurstLength=65536", "FirstBurstLength=16384", "MaxRecvDataSegmentLength=8192")
			s.digests = p.Digests
			s.numbers = iscsi.Numbers{StatSN: p.ExpStatSN - 1, ExpCmdSN: p.ExpCmdSN, MaxCmdSN: p.MaxCmdSN}
			all.Go(func() { s.listen(p.Conn) })
			all.Go(func() {
				for range 120 {
					b := s.pdu(p)
					_ = p.Conn.SetWriteDeadline(time.Now().Add(patient.Limit))
					if _, err := p.Conn.Write(b); err != nil {
						break // it was thrown out
					}
				}
				if s.one(2) {
					p.Reset()
				} else {
					p.Close()
				}
			})
		}
		over := make(chan struct{})
		go func() { all.Wait(); close(over) }()
		for going := true; going; {
			select {
			case <-over:
				going = false
			default:
			}
			h.End(0)
			r := good.Command(0, iscsitest.Read10(0, 8), iscsitest.Reads, 4096, nil)
			if r.Status != iscsi.Good && r.Status != iscsi.ReservationConflict && r.Code()>>16 != 6 && r.Code()>>16 != 7 {
				t.Fatalf("a read beside them: %02Xh %06X", r.Status, r.Code())
			}
		}
		patient.Await(t, "their sessions end", func() bool {
			h.End(0)
			list, err := e.Target.Connections()
			return err == nil && len(list) == 1
		})
		good.Logout("at the end")
	})
}
