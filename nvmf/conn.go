package nvmf

import "github.com/pollux-storage/pollux/internal/invariant"

// This file is an NVMe/TCP connection without a socket, for either side: bytes in, arrivals out. It keeps no data: what a PDU
// carries goes straight to where the owner of the connection says, from the receive buffer or, when much is outstanding,
// from the socket.
//
// The states, in order, for each PDU: header → padding → data → digest → header. A fault is final: the connection reads
// nothing more.

// Arrival is what has arrived at a connection.
type Arrival uint8

// The arrivals.
const (
	ArrivedNothing  Arrival = iota // not enough bytes: receive more
	ArrivedIC                      // ICReq, or at a host ICResp: in Conn.ICReq, Conn.ICResp
	ArrivedCommand                 // in Conn.SQE; Conn.DataBytes of data follow
	ArrivedResponse                // at a host: in Conn.CQE
	ArrivedData                    // H2CData, or at a host C2HData: in Conn.Data; its data follows
	ArrivedR2T                     // at a host: in Conn.R2T
	ArrivedDataMore                // the place that Place gave is full: the rest of the data needs one too
	ArrivedDataEnd                 // the data is where Place said; Conn.DigestOK judges it
	ArrivedTermReq                 // the peer gave up: in Conn.TermReq
	ArrivedFault                   // the peer broke the protocol: Conn.Fault and Conn.FaultHeader say how
)

// Conn cuts the stream of one connection.
type Conn struct {
	side    Side
	framing Framing
	state   connState

	buf        []byte // received and not consumed: buf[head:tail]
	head, tail int
	own        []byte // the receive buffer while buf is what Resume brought; nil otherwise

	frame Frame
	skip  uint32 // padding that is still to come
	left  uint32 // data that is still to come
	dest  []byte // where it goes; nil to throw it away
	await bool   // the owner has not said yet where data goes
	crc   uint32
	last  []byte // the header that arrived last, lent until the next Room

	// What arrived last. Views into the buffer are lent until the next Next.
	ICReq       ICReq
	ICResp      ICResp
	SQE         *SQE
	CQE         CQE
	Data        DataPDU
	R2T         R2T
	TermReq     TermReq
	DataBytes   uint32
	DigestOK    bool
	Fault       PDUError
	FaultHeader [TermReqBytesMax - TermReqBytes]byte
	FaultBytes  int
}

type connState uint8

const (
	connHeader connState = iota
	connPadding
	connData
	connDigest
	connFaulty
)

// directBytesMin is from where on data is received straight to its place: below it one receive into the buffer, which
// brings more PDUs with it, and a copy are cheaper than a receive of its own.
const directBytesMin = 16 << 10

// Init makes the connection ready for a stream that begins. buf is its receive buffer, at least PDUHeaderBytesMax long; side is
// ours. asked are the digests of a host's ICReq.
func (c *Conn) Init(side Side, buf []byte, asked Digests) {
	invariant.Check(len(buf) >= PDUHeaderBytesMax, "nvmf: receive buffer too small for a header")
	*c = Conn{side: side, buf: buf, framing: Framing{From: SideController - side, Align: 4}}
	c.ICResp.Digests = asked
}

// Limits sets what the peer may send, from its first PDU on.
func (c *Conn) Limits(capsuleBytesMax, dataBytesMax uint32) {
	c.framing.CapsuleBytesMax, c.framing.DataBytesMax = capsuleBytesMax, dataBytesMax
}

// Digests are those in use.
func (c *Conn) Digests() Digests { return c.framing.Digests }

// Buffer gives the receive buffer back, when the connection has ended.
func (c *Conn) Buffer() []byte {
	if c.own != nil {
		return c.own
	}
	return c.buf
}

// Unread is the number of bytes received and not consumed.
func (c *Conn) Unread() int { return c.tail - c.head }

// Room gives the memory to receive into: the data's own place, when all that is in the buffer was consumed and much is to
// come, else the free part of the buffer. It is empty when the owner owes a Place.
func (c *Conn) Room() []byte {
	if c.direct() {
		return c.dest
	}
	if c.own != nil {
		c.toOwn()
	}
	if c.head > 0 {
		c.tail = copy(c.buf, c.buf[c.head:c.tail])
		c.head = 0
	}
	return c.buf[c.tail:]
}

// Feed tells that the first n bytes of the last Room were received.
func (c *Conn) Feed(n int) {
	if c.direct() {
		c.consumeData(c.dest[:n])
		return
	}
	c.tail += n
	invariant.Check(c.tail <= len(c.buf), "nvmf: more received than there was room for")
}

// direct reports whether data is received straight to its place.
func (c *Conn) direct() bool {
	return c.state == connData && !c.await && c.head == c.tail && len(c.dest) >= directBytesMin
}

// Place says where the data that an arrival announced goes; dest is lent until ArrivedDataEnd, or, if it holds only the first
// part of the data, until ArrivedDataMore asks for a place for the rest. It is called before the next Next.
func (c *Conn) Place(dest []byte) {
	invariant.Check(c.await && len(dest) > 0 && len(dest) <= int(c.left), "nvmf: a place for data that none was asked for, or of another length")
	c.dest, c.await = dest, false
}

// Discard throws that data away.
func (c *Conn) Discard() {
	invariant.Check(c.await, "nvmf: data thrown away that was not announced")
	c.dest, c.await = nil, false
}

// Awaiting reports whether the owner owes a Place or a Discard.
func (c *Conn) Awaiting() bool { return c.await }

// Next gives the next arrival.
func (c *Conn) Next() Arrival {
	for {
		switch c.state {
		case connHeader:
			return c.header()
		case connPadding:
			n := min(c.skip, uint32(c.Unread()))
			c.head += int(n)
			if c.skip -= n; c.skip > 0 {
				return ArrivedNothing
			}
			c.state = connData
		case connData:
			invariant.Check(!c.await, "nvmf: data arrives for which there is no place")
			n := min(c.left, uint32(c.Unread()))
			if c.dest != nil {
				n = min(n, uint32(len(c.dest)))
			}
			b := c.buf[c.head : c.head+int(n)]
			c.head += int(n)
			copy(c.dest, b)
			c.consumeData(b)
			switch {
			case c.left == 0:
				c.state = connDigest
			case c.dest != nil && len(c.dest) == 0:
				c.await = true
				return ArrivedDataMore
			default:
				return ArrivedNothing
			}
		case connDigest:
			c.DigestOK = true
			if c.frame.DataDigest {
				if c.Unread() < DigestBytes {
					return ArrivedNothing
				}
				c.DigestOK = Digest(c.buf[c.head:]) == c.crc
				c.head += DigestBytes
			}
			c.state, c.dest = connHeader, nil
			return ArrivedDataEnd
		case connFaulty:
			return ArrivedFault
		}
	}
}

// consumeData counts b, which lies in its place, as arrived.
func (c *Conn) consumeData(b []byte) {
	if c.frame.DataDigest {
		c.crc = DataDigest(c.crc, b)
	}
	c.left -= uint32(len(b))
	if c.dest != nil {
		c.dest = c.dest[len(b):]
	}
}

// header takes the next PDU's header when all of it is there. What it says is checked as soon as the common header is there,
// so that nothing is waited for that will not be taken.
func (c *Conn) header() Arrival {
	b := c.buf[c.head:c.tail]
	if len(b) < CommonHeaderBytes {
		return ArrivedNothing
	}
	f, fault := c.framing.Frame(DecodeCommonHeader(b))
	if !fault.OK() {
		return c.fail(fault, b)
	}
	need := f.HeaderBytes
	if f.Type == PDUH2CTermReq || f.Type == PDUC2HTermReq {
		need = f.PLEN
	}
	if uint32(len(b)) < need {
		return ArrivedNothing
	}
	if fault = f.CheckHeader(b); !fault.OK() {
		return c.fail(fault, b)
	}
	a, fault := c.decode(f, b[:need])
	if !fault.OK() {
		return c.fail(fault, b)
	}
	c.head += int(need)
	c.last, c.DataBytes = b[:f.HLEN], 0
	if a != ArrivedTermReq && f.DataBytes > 0 {
		c.frame, c.skip, c.left, c.crc = f, f.DataAt-f.HeaderBytes, f.DataBytes, 0
		c.state, c.await, c.DataBytes = connPadding, true, f.DataBytes
	}
	return a
}

func (c *Conn) decode(f Frame, b []byte) (a Arrival, fault PDUError) {
	switch f.Type {
	case PDUICReq:
		if c.ICReq, fault = DecodeICReq(b); fault.OK() {
			c.opened(c.ICReq.Digests)
		}
		a = ArrivedIC
	case PDUICResp:
		asked := c.ICResp.Digests
		if c.ICResp, fault = DecodeICResp(b, asked); fault.OK() {
			c.opened(c.ICResp.Digests)
		}
		a = ArrivedIC
	case PDUCapsuleCmd:
		c.SQE, fault = DecodeCapsuleCmd(b)
		a = ArrivedCommand
	case PDUCapsuleResp:
		c.CQE, fault = DecodeCapsuleResp(b)
		a = ArrivedResponse
	case PDUH2CData, PDUC2HData:
		c.Data, fault = DecodeData(b, f)
		a = ArrivedData
	case PDUR2T:
		c.R2T, fault = DecodeR2T(b)
		a = ArrivedR2T
	default:
		c.TermReq, fault = DecodeTermReq(b)
		a = ArrivedTermReq
	}
	return a, fault
}

func (c *Conn) opened(d Digests) {
	c.framing.Open, c.framing.Digests = true, d
}

// Reject ends the connection for a fault that only its owner can see, in the PDU whose header arrived last.
func (c *Conn) Reject(fault PDUError) {
	c.FaultBytes = copy(c.FaultHeader[:], c.last)
	c.Fault, c.state, c.await = fault, connFaulty, false
}

func (c *Conn) fail(fault PDUError, b []byte) Arrival {
	c.last = b[:min(len(b), PDUHeaderBytesMax)]
	c.Reject(fault)
	return ArrivedFault
}
