package iscsitest

import (
	"encoding/binary"

	"github.com/pollux-storage/pollux/iscsi"
)

// This file is how a Peer sends SCSI commands, and what it makes of the answers.

// Flags say in which directions a command has data.
type Flags uint8

// The directions.
const (
	Reads Flags = 1 << iota
	Writes
)

// Response is how a command ended.
type Response struct {
	iscsi.SCSIResponse        // of a Data-In with status what that says
	Sense              []byte // nil if there is none
	Data               []byte // that came
	DataIns, R2Ts      int
}

// Code is sense key, additional sense code and qualifier: 0x052400 is 05/24/00. Without sense it is 0.
func (r Response) Code() int {
	s := r.Sense
	switch {
	case len(s) >= 14 && s[0]&0x7F == 0x70:
		return int(s[2]&15)<<16 | int(s[12])<<8 | int(s[13])
	case len(s) >= 4 && s[0]&0x7F == 0x72:
		return int(s[1]&15)<<16 | int(s[2])<<8 | int(s[3])
	}
	return 0
}

// LUN is logical unit n as on the wire, by peripheral device addressing.
func LUN(n int) iscsi.LUN { return iscsi.LUN(n) << 48 }

// SCSI is a SCSI Command with numbers and a tag; it has no immediate data.
func (p *Peer) SCSI(lun int, cdb []byte, f Flags, edtl uint32) iscsi.SCSICommand {
	c := iscsi.SCSICommand{
		Request: p.Request(), Final: true, Read: f&Reads != 0, Write: f&Writes != 0, Attribute: iscsi.Simple, LUN: LUN(lun), ITT: p.ITT(), EDTL: edtl,
	}
	copy(c.CDB[:], cdb)
	return c
}

// Command sends a command without immediate data, and takes all until its end: it answers R2Ts out of data.
func (p *Peer) Command(lun int, cdb []byte, f Flags, edtl uint32, data []byte) Response {
	p.t.Helper()
	c := p.SCSI(lun, cdb, f, edtl)
	p.Send(p.PDU(c, nil))
	return p.Response(c, data)
}

// WithData sends a command with all of its data in the command.
func (p *Peer) WithData(lun int, cdb, data []byte) Response {
	p.t.Helper()
	c := p.SCSI(lun, cdb, Writes, uint32(len(data)))
	c.DataBytes = uint32(len(data))
	p.Send(p.PDU(c, data))
	return p.Response(c, data)
}

// Unit sees that a unit is ready, and takes the unit attentions that wait there.
func (p *Peer) Unit(lun int) {
	p.t.Helper()
	for range 8 {
		r := p.Command(lun, make([]byte, 6), 0, 0, nil)
		if r.Status == iscsi.Good {
			return
		}
		if r.Code()>>16 != 6 {
			p.t.Fatalf("TEST UNIT READY: %02Xh %06X", r.Status, r.Code())
		}
	}
	p.t.Fatal("there is always another unit attention")
}

// Response takes all that comes for a command until its end, which is the next to be answered. R2Ts are answered out of data.
func (p *Peer) Response(c iscsi.SCSICommand, data []byte) (r Response) {
	p.t.Helper()
	for {
		pdu := p.Recv("the response to a command")
		switch pdu.Opcode {
		case iscsi.OpR2T:
			q, fault := iscsi.DecodeR2T(pdu.BHS)
			if !fault.OK() || q.ITT != c.ITT || q.LUN != c.LUN || int(q.R2TSN) != r.R2Ts {
				p.t.Fatalf("R2T of command %d: %v: %+v", c.ITT, fault, q)
			}
			if uint64(q.Offset)+uint64(q.Bytes) > uint64(min(len(data), int(c.EDTL))) {
				p.t.Fatalf("an R2T for bytes %d to %d of %d", q.Offset, q.Offset+q.Bytes, len(data))
			}
			r.R2Ts++
			p.Solicited(q, data[q.Offset:][:q.Bytes])
		case iscsi.OpDataIn:
			d, fault := iscsi.DecodeDataIn(pdu.BHS)
			if !fault.OK() || d.ITT != c.ITT || int(d.DataSN) != r.DataIns || int(d.Offset) != len(r.Data) {
				p.t.Fatalf("Data-In of command %d, of which %d bytes have come: %v: %+v", c.ITT, len(r.Data), fault, d)
			}
			r.DataIns++
			r.Data = append(r.Data, pdu.Data...)
			if len(r.Data) > int(c.EDTL) {
				p.t.Fatalf("%d bytes for a command that expects %d", len(r.Data), c.EDTL)
			}
			if d.Ends {
				r.SCSIResponse = iscsi.SCSIResponse{Numbers: d.Numbers, Residual: d.Residual, Status: d.Status, ITT: d.ITT}
				return r
			}
		case iscsi.OpSCSIResponse:
			var fault iscsi.Fault
			if r.SCSIResponse, fault = iscsi.DecodeSCSIResponse(pdu.BHS); !fault.OK() || r.ITT != c.ITT {
				p.t.Fatalf("SCSI Response of command %d: %v: %+v", c.ITT, fault, r.SCSIResponse)
			}
			r.Sense = iscsi.SenseOf(pdu.Data)
			return r
		default:
			p.t.Fatalf("%v, want what belongs to a command: % x %q", pdu.Opcode, pdu.BHS, pdu.Data)
		}
	}
}

// Solicited answers an R2T, in PDUs as long as the target takes.
func (p *Peer) Solicited(q iscsi.R2T, data []byte) {
	p.t.Helper()
	p.Send(p.Burst(iscsi.DataOut{LUN: q.LUN, ITT: q.ITT, TTT: q.TTT, Offset: q.Offset}, data, true))
}

// Burst is the bytes of Data-Outs that carry data; first says what they have in common and where they begin. The last has F if final is set.
func (p *Peer) Burst(first iscsi.DataOut, data []byte, final bool) (b []byte) {
	most := int(p.Number("MaxRecvDataSegmentLength", 8192))
	d := first
	for {
		n := min(len(data), most)
		d.ExpStatSN, d.DataBytes, d.Final = p.ExpStatSN, uint32(n), final && n == len(data)
		b = append(b, p.PDU(d, data[:n])...)
		if data = data[n:]; len(data) == 0 {
			return b
		}
		d.DataSN++
		d.Offset += uint32(n)
	}
}

// Manage sends a task management function, immediate, and takes the answer.
func (p *Peer) Manage(why string, f iscsi.TaskFunction, lun int, ref iscsi.SCSICommand) iscsi.TaskResponse {
	p.t.Helper()
	q := iscsi.TaskRequest{Request: p.Immediate(), Function: f, LUN: LUN(lun), ITT: p.ITT(), RefITT: ref.ITT, RefCmdSN: ref.CmdSN}
	if f != iscsi.AbortTask {
		q.RefITT, q.RefCmdSN = iscsi.NoTag, 0
	}
	p.Send(p.PDU(q, nil))
	return p.WantManaged(why, q.ITT)
}

// WantManaged takes the answer to a task management function.
func (p *Peer) WantManaged(why string, itt iscsi.ITT) iscsi.TaskResponse {
	p.t.Helper()
	pdu := p.Want(why, iscsi.OpTaskResponse)
	a, fault := iscsi.DecodeTaskAnswer(pdu.BHS)
	if !fault.OK() || a.ITT != itt {
		p.t.Fatalf("%s: %v: %+v, want the answer to %d", why, fault, a, itt)
	}
	return a.Response
}

// The CDBs that tests use. SBC-3 sections 5.10 and 5.33, "READ (10)" and "WRITE (10)"; SPC-4 section 6.6, "INQUIRY".

// Read10 reads blocks.
func Read10(lba uint32, blocks uint16) []byte { return cdb10(0x28, lba, blocks) }

// Write10 writes blocks.
func Write10(lba uint32, blocks uint16) []byte { return cdb10(0x2A, lba, blocks) }

func cdb10(op byte, lba uint32, blocks uint16) []byte {
	b := make([]byte, 10)
	b[0] = op
	binary.BigEndian.PutUint32(b[2:], lba)
	binary.BigEndian.PutUint16(b[7:], blocks)
	return b
}

// Inquiry asks for standard data.
func Inquiry(bytes uint16) []byte {
	return []byte{0x12, 0, 0, byte(bytes >> 8), byte(bytes), 0}
}
