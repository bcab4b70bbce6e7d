package nvmf

import (
	"slices"

	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is how a connection goes on elsewhere: what it has received and nobody has acted on is taken out of one Conn, byte for byte
// as it came, and is the first that the next one reads. PDUs may be put off in between, while those that must not be are acted on.
//
//	received:   command  command  H2CData  command, in part
//	kept:       command  command           command, in part      the next Conn's Resume
//	acted on:                     H2CData

// Keep appends the PDU that has just arrived to kept, as it came. The place of its data is there too, so kept must stay where it
// is until ArrivedDataEnd; then KeepEnd follows.
func (c *Conn) Keep(kept []byte) []byte {
	n := len(c.last)
	if c.framing.Digests&HeaderDigests != 0 {
		n += DigestBytes
	}
	kept = append(kept, c.buf[c.head-n:c.head]...)
	if !c.await {
		return kept
	}
	begin := len(kept)
	at := begin + int(c.skip)
	kept = slices.Grow(kept, int(c.skip+c.left))[:at+int(c.left)]
	clear(kept[begin:at])
	c.Place(kept[at:])
	return kept
}

// KeepEnd appends the digest of the data that has just arrived, right or wrong.
func (c *Conn) KeepEnd(kept []byte) []byte {
	if c.frame.DataDigest {
		kept = append(kept, c.buf[c.head-DigestBytes:c.head]...)
	}
	return kept
}

// Remains appends what was received and not consumed. Of the PDU that is being kept, if partly, only a part is there so far.
func (c *Conn) Remains(kept []byte, partly bool) []byte {
	if partly {
		kept = kept[:len(kept)-int(c.skip+c.left)]
	}
	return append(kept, c.buf[c.head:c.tail]...)
}

// Between reports whether the next byte begins a PDU, or is of a header that is not whole yet.
func (c *Conn) Between() bool { return c.state == connHeader }

// Resume lets the connection go on with what Remains gave, which begins with a PDU. It is lent until it is consumed; then the
// receive buffer serves again.
func (c *Conn) Resume(remains []byte) {
	invariant.Check(c.state != connFaulty, "nvmf: a connection at fault goes on")
	own := c.Buffer()
	c.state, c.dest, c.await, c.skip, c.left = connHeader, nil, false, 0, 0
	c.buf, c.own, c.head, c.tail = own, nil, 0, 0
	if len(remains) > 0 {
		c.buf, c.own, c.tail = remains, own, len(remains)
	}
}

// toOwn leaves the memory that Resume brought: all of it is consumed, but for a part of a header or a digest.
func (c *Conn) toOwn() {
	invariant.Check(c.Unread() <= len(c.own), "nvmf: more unread than the receive buffer holds")
	n := copy(c.own, c.buf[c.head:c.tail])
	c.buf, c.own, c.head, c.tail = c.own, nil, 0, n
}
