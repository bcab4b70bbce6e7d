package iscsi

import (
	"github.com/pollux-storage/pollux/internal/crc32c"
	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is an iSCSI connection without a socket, for either side: bytes in, arrivals out. It keeps no data: what a PDU carries goes
// straight to where the owner of the connection says, from the receive buffer or, when much is outstanding, from the socket.
//
//	          header whole          ArrivedPDU, data follows       all data there             padding and digest there
//	 header ────────────────▶ (no data: header) ─────────▶ data ─────────────────▶ dataEnd ──────────────────▶ header
//	    │                                                  ▲  │ place full              ArrivedDataEnd
//	    │ header digest wrong, data over the limit         └──┘ ArrivedDataMore
//	    ▼
//	  faulty: ArrivedFault, for ever; nothing more is read, since nobody knows where the next PDU begins, or whether it is meant
//
// A data digest that is wrong is not a fault: the stream can still be cut, and ArrivedDataEnd says so in DigestOK.

// Arrival is what has arrived at a connection.
type Arrival uint8

// The arrivals.
const (
	ArrivedNothing  Arrival = iota // not enough bytes: receive more
	ArrivedPDU                     // in Conn.Opcode, BHS, AHS; Conn.DataBytes of data follow
	ArrivedDataMore                // the place that Place gave is full: the rest of the data needs one too
	ArrivedDataEnd                 // the data is where Place said; Conn.DigestOK judges it
	ArrivedFault                   // the stream cannot be read on: Conn.Fault says why
)

// ConnFault is why a stream cannot be read on.
type ConnFault uint8

// The faults.
const (
	NoFault           ConnFault = iota
	FaultHeaderDigest           // RFC 7143 section 7.8, "Digest Errors": at level 0 the connection ends
	FaultDataTooLong            // more data in a PDU than MaxRecvDataSegmentLength; section 7.7, "Format Errors"
)

// Error gives the fault in words, for logs.
func (f ConnFault) Error() string {
	switch f {
	case FaultHeaderDigest:
		return "wrong header digest"
	case FaultDataTooLong:
		return "data segment longer than MaxRecvDataSegmentLength"
	}
	return "no fault"
}

// Conn cuts the stream of one connection.
type Conn struct {
	state connState

	buf          []byte // received and not consumed: buf[head:tail]
	head, tail   int
	dataBytesMax uint32
	digests      Digests // of the next PDU

	left     uint32 // data that is still to come
	dest     []byte // where it goes; nil to throw it away
	await    bool   // the owner has not said yet where data goes
	digested bool   // a data digest follows
	crc      uint32
	bhs      [BHSBytes]byte

	// What arrived last.
	Opcode    Opcode
	Immediate bool
	BHS       []byte // lent until the next ArrivedPDU: also while and after its data arrives, and with FaultDataTooLong
	AHS       []byte // lent until the next Next or Room
	DataBytes uint32 // without padding; if it is 0 no ArrivedDataEnd follows
	DigestOK  bool
	Fault     ConnFault
}

type connState uint8

const (
	connHeader connState = iota
	connData
	connDataEnd
	connFaulty
)

// directBytesMin is from where on data is received straight to its place: below it one receive into the buffer, which brings more PDUs
// with it, and a copy are cheaper than a receive of its own.
const directBytesMin = 16 << 10

// Init makes the connection ready for a stream that begins, without digests. buf is its receive buffer, at least HeaderBytesMax long.
// No data is taken before Limits.
func (c *Conn) Init(buf []byte) {
	invariant.Check(len(buf) >= HeaderBytesMax, "iscsi: receive buffer too small for a header")
	*c = Conn{buf: buf}
}

// Limits sets how much data one PDU may carry, from the next one on: our MaxRecvDataSegmentLength.
func (c *Conn) Limits(dataBytesMax uint32) { c.dataBytesMax = dataBytesMax }

// SetDigests sets what the peer sends, from the next PDU on.
func (c *Conn) SetDigests(d Digests) { c.digests = d }

// Digests are those in use.
func (c *Conn) Digests() Digests { return c.digests }

// Buffer gives the receive buffer back, when the connection has ended.
func (c *Conn) Buffer() []byte { return c.buf }

// Unread is the number of bytes received and not consumed.
func (c *Conn) Unread() int { return c.tail - c.head }

// Between reports whether the next byte begins a PDU, or is of a header that is not whole yet.
func (c *Conn) Between() bool { return c.state == connHeader }

// Room gives the memory to receive into: the data's own place, when all that is in the buffer was consumed and much is to come, else the
// free part of the buffer. It is not empty after ArrivedNothing.
func (c *Conn) Room() []byte {
	if c.direct() {
		return c.dest
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
	invariant.Check(c.tail <= len(c.buf), "iscsi: more received than there was room for")
}

// direct reports whether data is received straight to its place.
func (c *Conn) direct() bool {
	return c.state == connData && !c.await && c.head == c.tail && len(c.dest) >= directBytesMin
}

// Place says where the data that an arrival announced goes; dest is lent until ArrivedDataEnd, or, if it holds only the first part of the
// data, until ArrivedDataMore asks for a place for the rest. It is called before the next Next.
func (c *Conn) Place(dest []byte) {
	invariant.Check(c.await && len(dest) > 0 && len(dest) <= int(c.left), "iscsi: a place for data that none was asked for, or of another length")
	c.dest, c.await = dest, false
}

// Discard throws that data away, all that is still to come.
func (c *Conn) Discard() {
	invariant.Check(c.await, "iscsi: data thrown away that was not announced")
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
		case connData:
			invariant.Check(!c.await, "iscsi: data arrives for which there is no place")
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
				c.state = connDataEnd
			case c.dest != nil && len(c.dest) == 0:
				c.await = true
				return ArrivedDataMore
			default:
				return ArrivedNothing
			}
		case connDataEnd:
			return c.dataEnd()
		case connFaulty:
			return ArrivedFault
		}
	}
}

// consumeData counts b, which lies in its place, as arrived.
func (c *Conn) consumeData(b []byte) {
	if c.digested {
		c.crc = crc32c.Update(c.crc, b)
	}
	c.left -= uint32(len(b))
	if c.dest != nil {
		c.dest = c.dest[len(b):]
	}
}

// dataEnd takes padding and digest when both are there. RFC 7143 section 13.1: the digest covers the padding, whatever is in it.
func (c *Conn) dataEnd() Arrival {
	pad := int(Padding(c.DataBytes))
	need := pad
	if c.digested {
		need += DigestBytes
	}
	if c.Unread() < need {
		return ArrivedNothing
	}
	b := c.buf[c.head : c.head+need]
	c.head += need
	c.DigestOK = !c.digested || crc32c.Update(c.crc, b[:pad]) == crc32c.Read(b[pad:])
	c.state, c.dest = connHeader, nil
	return ArrivedDataEnd
}

// header takes the next PDU's header when all of it is there. What it says counts only when its digest is right.
func (c *Conn) header() Arrival {
	b := c.buf[c.head:c.tail]
	if len(b) < BHSBytes {
		return ArrivedNothing
	}
	h := DecodeHeader(b)
	end := BHSBytes + int(h.AHSBytes)
	need := end
	if c.digests&HeaderDigests != 0 {
		need += DigestBytes
	}
	if len(b) < need {
		return ArrivedNothing
	}
	if need > end && crc32c.Update(0, b[:end]) != crc32c.Read(b[end:]) {
		return c.fail(FaultHeaderDigest)
	}
	c.head += need
	copy(c.bhs[:], b)
	c.Opcode, c.Immediate, c.BHS, c.AHS, c.DataBytes, c.DigestOK = h.Opcode, h.Immediate, c.bhs[:], b[BHSBytes:end], h.DataBytes, true
	if h.DataBytes > c.dataBytesMax {
		return c.fail(FaultDataTooLong)
	}
	if h.DataBytes > 0 {
		c.left, c.crc, c.digested = h.DataBytes, 0, c.digests&DataDigests != 0
		c.state, c.await = connData, true
	}
	return ArrivedPDU
}

func (c *Conn) fail(f ConnFault) Arrival {
	c.Fault, c.state = f, connFaulty
	return ArrivedFault
}
