package iscsi_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/internal/patient"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/iscsi/iscsitest"
)

// FuzzTarget lets an initiator that is logged in send whatever it likes. The target goes on serving another, and when the engine ends nothing is left.
//
// The input is pieces: a byte that says what to send, then what varies in it. PDUs are made so that much of it is right, else all would end at the first
// check.
func FuzzTarget(f *testing.F) {
	e := iscsitest.Start(f, iscsitest.Options{Reactors: 2, MemoryBytes: 16 << 20})
	for op := range byte(16) {
		f.Add([]byte{op, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, op, 0x2A, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0})
	}
	f.Add([]byte{1, 0x2A, 0, 0, 64, 3, 200, 0, 0, 2, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 3, 1, 0, 0})
	f.Add([]byte{1, 0x28, 0, 0, 64, 1, 255, 15, 40, 0, 0, 0, 0, 0, 0, 0, 3, 5, 0, 0, 0, 0, 0, 0, 0})
	n := byte(0)
	f.Fuzz(func(t *testing.T, in []byte) {
		good := iscsitest.Dial(t, e.Addr)
		good.ISID[5] = 9
		good.Login()
		good.Unit(0)
		p := iscsitest.Dial(t, e.Addr)
		p.ISID[5] = 7
		p.Login("FirstBurstLength=4096", "MaxBurstLength=8192")
		go func() { // what comes back is of no interest, but it has to be taken
			b := make([]byte, 64<<10)
			for {
				if _, err := p.Conn.Read(b); err != nil {
					return
				}
			}
		}()
		for len(in) > 0 {
			var b []byte
			b, in = piece(p, in)
			_ = p.Conn.SetWriteDeadline(time.Now().Add(20 * time.Second))
			if _, err := p.Conn.Write(b); err != nil {
				break // it was shut out
			}
		}
		p.Close()
		patient.Await(t, "its session is gone", func() bool {
			list, err := e.Target.Connections()
			return err == nil && len(list) == 1
		})
		good.Unit(0) // it may have been reset
		n++
		data := pattern(4096, n)
		if r := good.Command(0, iscsitest.Write10(2048, 8), iscsitest.Writes, 4096, data); r.Status != iscsi.Good {
			t.Fatalf("another session's write: %02Xh, sense %06X", r.Status, r.Code())
		}
		if r := good.Command(0, iscsitest.Read10(2048, 8), iscsitest.Reads, 4096, nil); r.Status != iscsi.Good || string(r.Data) != string(data) {
			t.Fatalf("another session's read: %02Xh, or other data", r.Status)
		}
		good.Logout("the other session")
	})
}

// piece makes the next PDU out of the input, and gives what is left of that. It writes nothing from block 2048 on, where the other session is.
func piece(p *iscsitest.Peer, in []byte) (pdu, rest []byte) {
	var v [12]byte
	kind := in[0]
	m := copy(v[:], in[1:])
	rest = in[1+m:]
	request := p.Request()
	switch {
	case v[11]&0xC0 == 0x40:
		request = p.Immediate()
	case v[11]&0xC0 == 0x80:
		request.CmdSN += iscsi.SerialNumber(v[10])
	}
	itt := iscsi.ITT(v[9] & 7)
	lun := iscsitest.LUN(int(v[8] >> 6))
	number := binary.BigEndian.Uint16(v[6:])
	data := make([]byte, int(v[5])<<(v[4]&7))
	switch kind % 16 {
	case 0:
		return p.PDU(iscsi.NOPOut{Request: request, ITT: itt, TTT: iscsi.NoTag, LUN: lun, DataBytes: uint32(len(data))}, data), rest
	case 1, 2, 8, 9:
		c := iscsi.SCSICommand{
			Request: request, Final: v[3]&1 == 0, Read: v[3]&2 != 0, Write: v[3]&4 == 0, LUN: lun, ITT: itt, EDTL: uint32(v[1]) << (v[2] & 15), DataBytes: uint32(len(data)),
		}
		c.CDB[0] = v[0]
		c.CDB[4], c.CDB[5], c.CDB[8], c.CDB[13] = v[1]&0x7F, v[2]&7, v[1], v[1] // blocks below 2048, whatever the command
		return p.PDU(c, data), rest
	case 3, 4, 10, 11:
		d := iscsi.DataOut{
			Final: v[3]&1 == 0, LUN: lun, ITT: itt, TTT: iscsi.TTT(v[0]) | iscsi.TTT(v[1]&3)<<16, DataSN: uint32(v[2] & 3), Offset: uint32(number) & 0xFE00, DataBytes: uint32(len(data)),
		}
		if v[3]&2 == 0 {
			d.TTT = iscsi.NoTag
		}
		return p.PDU(d, data), rest
	case 5:
		f := iscsi.TaskFunction(v[0] & 15)
		if f == iscsi.TargetColdReset { // which ends the other session too
			f = iscsi.TargetWarmReset
		}
		return p.PDU(iscsi.TaskRequest{Request: request, Function: f, LUN: lun, ITT: itt, RefITT: iscsi.ITT(v[1] & 7)}, nil), rest
	case 6:
		text := iscsitest.Text("SendTargets=All")
		if v[0]&1 != 0 {
			text = data
		}
		ttt := iscsi.TTT(iscsi.NoTag)
		if v[0]&2 != 0 {
			ttt = iscsi.TTT(v[1])
		}
		return p.PDU(iscsi.TextRequest{Request: request, Final: v[0]&4 == 0, Continue: v[0]&8 != 0, ITT: itt, TTT: ttt, DataBytes: uint32(len(text))}, text), rest
	case 7:
		return p.PDU(iscsi.LogoutRequest{Request: request, Reason: iscsi.LogoutReason(v[0] & 3), ITT: itt, CID: iscsi.CID(v[1] & 3)}, nil), rest
	case 12:
		return p.PDU(iscsi.SNACK{ITT: itt, BegRun: uint32(number)}, nil), rest
	}
	return append([]byte{kind}, v[:m]...), rest // bytes as they come
}
