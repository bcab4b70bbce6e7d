package initiator

import (
	"math"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/nvmf"
)

// This file is the host's end of one queue's connection, without a socket: it says what arrived for which command, and judges
// it. What is to be sent is put together in output.go.
//
// TCP Transport Specification 1.0, "Data Transfer Model" and "Error Handling Model". What the target does wrong is final: the
// connection ends with an H2CTermReq, and reads nothing more.

// event is what conn.next found.
type event uint8

const (
	eventNothing event = iota // not enough bytes: receive more
	eventOpen                 // ICResp came: commands may be started
	eventAnswer               // a command ended
	eventFault                // the target broke the protocol: conn.fault says how, and a TermReq is ready to be sent
	eventTermReq              // the target gave up: in conn.in.TermReq
)

// offsetCID is where a CapsuleResp has the CID.
const offsetCID = nvmf.CommonHeaderBytes + 12

// The faults that only a host can see.
var (
	errCID       = nvmf.PDUError{FES: nvmf.FESInvalidHeader, FEI: offsetCID}
	errShortData = nvmf.ErrSequence
)

// conn is one queue's connection.
type conn struct {
	in   nvmf.Conn
	open bool // ICResp came

	align      uint32 // of data in our PDUs, by the target's CPDA
	h2cMax     uint32 // data in one H2CData
	capsuleMax uint32 // data in a capsule

	*slots

	placing *command // whose data arrives
	at      uint32   // where the next part of it goes

	fault nvmf.PDUError
	out   output
}

// r2tsMax is the number of R2Ts that a target may have open for one command: MAXR2T + 1.
const r2tsMax = 4

// transfer is an R2T that is not wholly answered.
type transfer struct {
	ttag     uint16
	off, end uint32 // what is still to be sent, of the command's data
}

// tcpMoves is where the data of a command is between host and target.
type tcpMoves struct {
	got      uint32 // data to the host: bytes whose arrival was announced
	last     bool   // no more of it is to come
	success  bool   // and it stands for the answer too
	bad      bool   // its digest was wrong
	asked    uint32 // data to the target: bytes that R2Ts asked for
	r2ts     [r2tsMax]transfer
	r2tsOpen uint8
	batch    uint64 // the last send with some of the data
}

// init makes the connection ready for a stream that begins. s are the commands of the queue; capsuleMax is the data that
// one may carry; buf the receive buffer.
func (k *conn) init(s *slots, capsuleMax uint32, digests nvmf.Digests, buf []byte) {
	k.slots, k.capsuleMax = s, capsuleMax
	k.in.Init(nvmf.SideHost, buf, digests)
	k.in.Limits(0, math.MaxUint32)
	k.out.init(nvmf.ICReq{Digests: digests, MAXR2T: r2tsMax - 1})
}

// start sends the command in c.sqe with the next output. Its CID and its data pointer are set here.
func (k *conn) start(c *command) {
	invariant.Check(k.open && c.state == commandFree, "initiator: a command started twice, or before there is a connection")
	c.sqe.SetCID(c.cid)
	// TCP Transport Specification 1.0, "Command Capsules": one descriptor, for data in the capsule or for the transport to move. A
	// Fabrics command may carry 8192 bytes on any queue, whatever IOCCSZ says.
	most := k.capsuleMax
	if c.sqe.Opcode() == nvmf.OpcodeFabrics {
		most = max(most, nvmf.AdminCapsuleBytesMax)
	}
	c.carried = !c.toHost && c.bytes > 0 && c.bytes <= most && len(c.data) <= piecesMax
	if c.carried {
		c.sqe.SetSGL(nvmf.SGL{Type: nvmf.SGLDataBlock, Subtype: nvmf.SGLOffset, Bytes: c.bytes})
	} else {
		c.sqe.SetSGL(nvmf.SGL{Type: nvmf.SGLTransport, Subtype: nvmf.SGLTransportData, Bytes: c.bytes})
	}
	c.state = commandQueued
	k.out.push(c)
}

// next works off what was received, up to the next event.
func (k *conn) next() (event, *command) {
	for {
		switch k.in.Next() {
		case nvmf.ArrivedNothing:
			return eventNothing, nil
		case nvmf.ArrivedIC:
			k.open = true
			k.align, k.h2cMax = nvmf.DataAlign(k.in.ICResp.CPDA), k.in.ICResp.MAXH2CDATA
			return eventOpen, nil
		case nvmf.ArrivedResponse:
			if c := k.response(); c != nil {
				return eventAnswer, c
			}
		case nvmf.ArrivedData:
			k.data()
		case nvmf.ArrivedDataMore:
			k.placeNext()
		case nvmf.ArrivedDataEnd:
			if c := k.dataEnd(); c != nil {
				return eventAnswer, c
			}
		case nvmf.ArrivedR2T:
			k.r2t()
		case nvmf.ArrivedTermReq:
			return eventTermReq, nil
		case nvmf.ArrivedFault:
			k.fault = k.in.Fault
			// "Error Handling Model": a TermReq is not answered by one.
			if k.in.FaultBytes > 0 && nvmf.PDUType(k.in.FaultHeader[0]) != nvmf.PDUC2HTermReq {
				k.out.terminate(&k.in)
			}
			return eventFault, nil
		default:
			invariant.Check(false, "initiator: arrival that a host does not have")
		}
	}
}

// response takes a CapsuleResp.
func (k *conn) response() *command {
	c := k.find(k.in.CQE.CID)
	switch {
	case c == nil:
		k.in.Reject(errCID)
	case c.r2tsOpen > 0:
		k.in.Reject(nvmf.ErrSequence) // it still waits for data
	default:
		c.cqe = k.in.CQE
		return k.answer(c)
	}
	return nil
}

// answer ends a command whose completion is in c.cqe: now, or when what the socket has of its data has left.
func (k *conn) answer(c *command) *command {
	if c.cqe.Status.OK() && c.toHost && c.bad {
		// "Data Integrity": a wrong data digest is not fatal, the command is to be repeated.
		c.cqe.Status = nvmf.StatusTransientTransport
	} else if c.cqe.Status.OK() && !c.lax && c.moved() < c.bytes {
		k.in.Reject(errShortData)
		return nil
	}
	if k.out.holds(c) {
		c.state = commandAnswered
		c.next, k.out.late = k.out.late, c
		return nil
	}
	return c
}

// moved is how much of the command's data has gone where it belongs: what came, or what the target took with the capsule or asked for.
func (c *command) moved() uint32 {
	switch {
	case c.toHost:
		return c.got
	case c.carried:
		return c.bytes
	}
	return c.asked
}

// data takes the header of a C2HData: of one command the data comes in order, with LAST_PDU on the last of it.
func (k *conn) data() {
	d := k.in.Data
	c := k.find(d.CCCID)
	if c == nil {
		k.in.Reject(nvmf.ErrCCCID)
		return
	}
	room := c.bytes
	if !c.toHost {
		room = 0
	}
	switch end := uint64(d.DATAO) + uint64(d.DATAL); {
	case end > uint64(room):
		k.in.Reject(nvmf.ErrOutOfRange)
	case d.DATAO != c.got, c.last, end == uint64(room) && !d.Last:
		k.in.Reject(nvmf.ErrSequence)
	default:
		c.got, c.last, c.success = uint32(end), d.Last, d.Success
		k.placing, k.at = c, d.DATAO
		k.placeNext()
	}
}

func (k *conn) placeNext() {
	b := k.placing.place(k.at, k.placing.got-k.at)
	k.at += uint32(len(b))
	k.in.Place(b)
}

// dataEnd hears that the data of a PDU is in its place.
func (k *conn) dataEnd() *command {
	c := k.placing
	k.placing = nil
	c.bad = c.bad || !k.in.DigestOK
	if !c.success {
		return nil
	}
	c.cqe = nvmf.CQE{CID: c.cid}
	return k.answer(c)
}

// r2t takes an R2T: of one command they come in order and without a gap, a few at once.
func (k *conn) r2t() {
	r := k.in.R2T
	c := k.find(r.CCCID)
	if c == nil {
		k.in.Reject(nvmf.ErrCCCID)
		return
	}
	room := c.bytes
	if c.toHost || c.carried {
		room = 0
	}
	switch end := uint64(r.R2TO) + uint64(r.R2TL); {
	case end > uint64(room):
		k.in.Reject(nvmf.ErrOutOfRange)
	case r.R2TO != c.asked:
		k.in.Reject(nvmf.ErrSequence)
	case c.r2tsOpen == r2tsMax:
		k.in.Reject(nvmf.ErrR2TExceeded)
	default:
		c.asked = uint32(end)
		c.r2ts[c.r2tsOpen] = transfer{r.TTAG, r.R2TO, uint32(end)}
		if c.r2tsOpen++; c.r2tsOpen == 1 {
			k.out.push(c)
		}
	}
}
