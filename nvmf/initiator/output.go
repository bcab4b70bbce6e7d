package initiator

import (
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is what a connection sends. Commands that have something to send wait in a list; when the socket is free, as many
// PDUs as fit are put together, headers from a buffer of ours and data from where the request has it, and the next ones only
// when all of these have left. So what gathers during one send is the next one, and headers need no memory of their own per
// command. Commands with much data take turns, a PDU each.

// Bounds of one send.
const (
	piecesMax     = 64       // of one capsule's data; a request in smaller pieces sends them by H2CData
	headerBytes   = 160      // the largest header, its digest, padding to PDO (128 at most), and the data's digest
	arenaBytes    = 16 << 10 // of headers
	batchBytesMax = 1 << 20  // from where on no further PDU is added
	vecMax        = reactor.SendVecMax
)

var (
	_ = uint(vecMax - piecesMax - 2)                                                // a capsule always fits into a send
	_ = uint(headerBytes - nvmf.CapsuleCmdBytes - 2*nvmf.DigestBytes - maxAlignPad) // and its header into its share
	_ = uint(arenaBytes - nvmf.TermReqBytesMax - headerBytes)
)

// maxAlignPad is what CPDA can ask for beyond the header: data begins at 128 bytes at most, and a header with its digest that
// is longer than that has none.
const maxAlignPad = 128 - nvmf.CapsuleCmdBytes - nvmf.DigestBytes

type output struct {
	ready, tail *command // have something to send
	late        *command // were answered, and end with this send

	batch  uint64   // number of the send
	pieces [][]byte // of it, those that have not left
	vec    [vecMax][]byte
	arena  [arenaBytes]byte
	used   int // bytes of arena
	bytes  int // of the send

	greeting nvmf.ICReq
	greeted  bool
	ending   bool // the TermReq is the next to be sent, and the last
	ended    bool // it was put into a send
	termreq  nvmf.TermReq
}

func (o *output) init(greeting nvmf.ICReq) { o.greeting = greeting }

// push lets c have its turn.
func (o *output) push(c *command) {
	c.next = nil
	if o.tail == nil {
		o.ready = c
	} else {
		o.tail.next = c
	}
	o.tail = c
}

func (o *output) pop() *command {
	c := o.ready
	if o.ready = c.next; o.ready == nil {
		o.tail = nil
	}
	c.next = nil
	return c
}

// terminate makes a TermReq the last thing that is sent, for the fault of in.
func (o *output) terminate(in *nvmf.Conn) {
	o.ending = true
	o.termreq = nvmf.TermReq{Type: nvmf.PDUH2CTermReq, Err: in.Fault, Header: in.FaultHeader[:in.FaultBytes]}
}

// holds reports whether the send that is under way has some of c's data.
func (o *output) holds(c *command) bool { return len(o.pieces) > 0 && c.batch == o.batch }

// output gives the pieces to send, in order: the rest of a send that was cut short, or the next one; none if there is nothing.
// They are lent until sent has counted them off.
func (k *conn) output() [][]byte {
	if len(k.out.pieces) == 0 {
		k.compose()
	}
	return k.out.pieces
}

// sent counts off n bytes that have left, and reports whether that was all of the send. Then the commands that takeLate gives
// have ended.
func (k *conn) sent(n int) bool {
	o := &k.out
	for n > 0 {
		invariant.Check(len(o.pieces) > 0, "initiator: more was sent than there was")
		p := &o.pieces[0]
		if n < len(*p) {
			*p = (*p)[n:]
			return false
		}
		n -= len(*p)
		*p = nil
		o.pieces = o.pieces[1:]
	}
	return len(o.pieces) == 0
}

// takeLate gives a command that was answered before its data had left, nil if there is none.
func (k *conn) takeLate() *command {
	c := k.out.late
	if c != nil {
		k.out.late, c.next = c.next, nil
	}
	return c
}

// compose puts the next send together.
func (k *conn) compose() {
	o := &k.out
	o.pieces, o.used, o.bytes = o.vec[:0], 0, 0
	o.batch++
	switch {
	case o.ended:
	case o.ending:
		o.ended = true
		o.put(o.termreq.AppendTo(o.header()))
	case !o.greeted:
		o.greeted = true
		o.put(o.greeting.AppendTo(o.header()))
	default:
		for o.ready != nil && o.bytes < batchBytesMax && arenaBytes-o.used >= headerBytes {
			free := vecMax - len(o.pieces)
			if c := o.ready; c.state == commandQueued {
				if c.carried && free < len(c.data)+2 || free < 1 {
					return
				}
				k.capsule(o.pop())
			} else {
				if free < 3 {
					return
				}
				k.h2cData(o.pop(), free-2)
			}
		}
	}
}

// capsule adds a command's capsule.
func (k *conn) capsule(c *command) {
	o, d := &k.out, k.in.Digests()
	c.state = commandSent
	if !c.carried {
		o.put(nvmf.AppendCapsuleCmd(o.header(), &c.sqe, 0, d, k.align))
		return
	}
	o.put(nvmf.AppendCapsuleCmd(o.header(), &c.sqe, c.bytes, d, k.align))
	o.data(c, 0, c.bytes, d)
}

// h2cData adds a PDU of the data that c's first R2T asks for, from as many pieces as are free.
func (k *conn) h2cData(c *command, free int) {
	o, d := &k.out, k.in.Digests()
	t := &c.r2ts[0]
	n := c.span(t.off, min(t.end-t.off, k.h2cMax), free)
	p := nvmf.DataPDU{CCCID: c.cid, TTAG: t.ttag, DATAO: t.off, DATAL: n, Last: t.off+n == t.end}
	o.put(p.AppendH2CData(o.header(), d, k.align))
	o.data(c, t.off, n, d)
	if t.off += n; t.off == t.end {
		// From here on the target may ask for more: it cannot have what it asked for before this send.
		copy(c.r2ts[:], c.r2ts[1:c.r2tsOpen])
		c.r2tsOpen--
	}
	if c.r2tsOpen > 0 {
		o.push(c)
	}
}

// span is how many of n bytes from off lie in the first free pieces.
func (c *command) span(off, n uint32, free int) uint32 {
	var got uint32
	for ; free > 0 && got < n; free-- {
		got += uint32(len(c.place(off+got, n-got)))
	}
	return got
}

// header gives the room for a header; what is appended to it is then put.
func (o *output) header() []byte { return o.arena[o.used:o.used:arenaBytes] }

// put adds what was appended to header. Headers that follow one another are one piece.
func (o *output) put(h []byte) {
	at := o.used
	o.used += len(h)
	o.bytes += len(h)
	if n := len(o.pieces); n > 0 {
		if p := o.pieces[n-1]; at >= len(p) && &p[0] == &o.arena[at-len(p)] {
			o.pieces[n-1] = o.arena[at-len(p) : o.used]
			return
		}
	}
	o.pieces = append(o.pieces, h)
}

// data adds n bytes of c's data from off, and their digest.
func (o *output) data(c *command, off, n uint32, d nvmf.Digests) {
	c.batch = o.batch
	o.bytes += int(n)
	var crc uint32
	for n > 0 {
		b := c.place(off, n)
		off += uint32(len(b))
		n -= uint32(len(b))
		if d&nvmf.DataDigests != 0 {
			crc = nvmf.DataDigest(crc, b)
		}
		o.pieces = append(o.pieces, b)
	}
	if d&nvmf.DataDigests != 0 {
		o.put(nvmf.AppendDigest(o.header(), crc))
	}
}
