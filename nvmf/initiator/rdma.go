package initiator

import (
	"context"
	"errors"
	"fmt"
	"unsafe"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/rdma"
)

// This file is a queue's connection over RDMA: how it comes about, what is sent and received, how it ends. Where data lies is in
// rdmamemory.go. NVM Express RDMA Transport Specification 1.0, "Setup & Initialization" and "Capsules".
//
//	command   SEND of the SQE, inline where the card can; behind it, from where they lie, the data of a small write
//	data      the target reads and writes the command's memory, by a key in the command
//	response  SEND of the CQE, into one of the receives, of which there is one for each entry of the queue
//
// Most sends complete in silence. Those whose memory the card reads after Post tell when they have left; a command whose answer is there before
// that ends with it.

const (
	signalEvery = 16      // of sends that need not, one tells that it has left: so the card's queue has room again
	signalRoom  = 32      // work requests beside the commands'
	silentID    = 1 << 31 // of a send whose end nobody waits for
	readsIn     = 16      // RDMA READs of the target that the card answers at once
)

var _ = uint(signalRoom - signalEvery - 1)

// rdmaWire is a queue's connection over RDMA.
type rdmaWire struct {
	q      *queue
	net    *rdma.Net
	cancel context.CancelFunc // of the dialling

	dialling bool
	rq       *rdma.Queue // nil before there is one
	closed   bool        // it is gone

	inline bool // a capsule without data goes inline
	silent int  // sends since the last that tells
	wr     rdma.SendWR

	first, last *command // wait for memory, or for room in the card's queue
	rdmaMemory
}

// begin lets a goroutine dial.
func (t *rdmaWire) begin() error {
	q := t.q
	r := nvmf.RDMARequest{QID: q.id, HRQSIZE: uint16(q.entries), HSQSIZE: uint16(q.entries - 1), CNTLID: q.cntlid}
	cfg := rdma.QueueConfig{
		SendDepth: q.depth() + signalRoom, RecvDepth: int(q.entries), HeaderBytes: nvmf.CQEBytes, InlineBytes: nvmf.SQEBytes, ReadsIn: readsIn, Link: q.link,
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel, t.dialling = cancel, true
	go func() {
		accept, err := t.net.Dial(ctx, q.addr, r.AppendTo(nil), cfg, q.r, t.open)
		cancel()
		_ = q.r.Go(func() { t.dialled(accept, err) })
	}()
	return nil
}

// open takes the queue pair, before anything arrives there.
func (t *rdmaWire) open(rq *rdma.Queue) rdma.Handler {
	t.rq, t.inline = rq, rq.InlineBytes() >= nvmf.SQEBytes
	return t
}

// dialled hears what came of the dialling.
func (t *rdmaWire) dialled(accept []byte, err error) {
	q := t.q
	t.dialling = false
	switch {
	case q.state == queueClosing: // given up
		t.ended()
	case err != nil:
		q.fail(fmt.Errorf("%v: %w", q, rejected(err)))
	default:
		a, ok := nvmf.DecodeRDMAAccept(accept)
		if !ok {
			q.fail(fmt.Errorf("connecting to %v over RDMA: the target's private data are none of NVMe: % x", q.addr, accept))
			return
		}
		if a.CRQSIZE > 0 { // it has so many receives, and each command needs one
			q.limit(int(a.CRQSIZE))
		}
		if err := t.setUp(); err != nil {
			q.fail(fmt.Errorf("connecting to %v over RDMA: %w", q.addr, err))
			return
		}
		q.open()
	}
}

// refusal is a target that did not take the connection.
type refusal struct {
	why string
	by  *rdma.Rejected
}

func (e *refusal) Error() string { return e.why }
func (e *refusal) Unwrap() error { return e.by }

// rejected explains why a target did not take the connection.
func rejected(err error) error {
	var by *rdma.Rejected
	if errors.Is(err, rdma.ErrUnreachable) {
		return fmt.Errorf("%w: look at the address, and at the target's listeners over RDMA", err)
	}
	if !errors.As(err, &by) {
		return err
	}
	e := &refusal{by: by}
	switch why, ok := nvmf.DecodeRDMAReject(by.Private); {
	case ok && why != 0:
		e.why = fmt.Sprintf("the target refuses the connection over RDMA: %v (%d)", why, uint16(why))
		switch why {
		case nvmf.RDMAHSQSIZE, nvmf.RDMAHRQSIZE:
			e.why += ": ask for another queue depth"
		case nvmf.RDMANoResources:
			e.why += ": it has no room for another queue"
		case nvmf.RDMACNTLID:
			e.why += ": it has no such controller any more"
		}
	default:
		e.why = fmt.Sprintf("the target refuses the connection over RDMA and does not say why (reason %d of the connection manager)", by.Reason)
	}
	return e
}

// start sends a command, now or when there is memory and room.
func (t *rdmaWire) start(c *command) {
	c.sqe.SetCID(c.cid)
	c.carried = t.q.id > 0 && !c.toHost && c.bytes > 0 && c.bytes <= t.q.capsule && c.sqe.Opcode() != nvmf.OpcodeFabrics
	if t.first == nil && t.ready(c) {
		t.post(c)
		return
	}
	c.state, c.next = commandQueued, nil
	if t.first == nil {
		t.first = c
	} else {
		t.last.next = c
	}
	t.last = c
}

// ready reports whether c has its memory and the card has room for it.
func (t *rdmaWire) ready(c *command) bool {
	return t.rq.Posted() < t.q.depth()+signalRoom && t.reach(c)
}

// goOn sends those who wait, as far as it can.
func (t *rdmaWire) goOn() {
	for t.q.state == queueOpen && t.first != nil && t.ready(t.first) {
		c := t.first
		t.first, c.next = c.next, nil
		c.at = t.q.r.Now() // from here on it waits for the target
		t.post(c)
	}
}

// post gives the card a command's capsule.
func (t *rdmaWire) post(c *command) {
	l := &t.loans[c.index]
	c.sqe.SetSGL(t.describe(c, l))
	w := &t.wr
	*w = rdma.SendWR{ID: silentID, Opcode: rdma.OpSend, SGEs: 1}
	if t.inline && !c.carried {
		w.Flags = rdma.Inline
		w.SGE[0] = rdma.SGE{Address: uint64(uintptr(unsafe.Pointer(&c.sqe))), Bytes: nvmf.SQEBytes}
		t.silent++
	} else {
		b := t.capsule(c.index)
		copy(b, c.sqe[:])
		w.ID, w.SGE[0] = uint64(c.index), t.rq.SGE(b)
		if c.carried {
			w.SGE[1], w.SGEs = t.rq.SGE(l.at), 2
		}
		l.leaving = true
	}
	if l.leaving || t.silent == signalEvery {
		w.Flags |= rdma.Signaled
		t.silent = 0
	}
	c.state = commandSent
	t.rq.Post(w)
}

// Completed hears that a capsule has left, or never will.
func (t *rdmaWire) Completed(id uint64, _ rdma.Status) {
	q := t.q
	if id != silentID {
		invariant.Check(id < uint64(len(t.loans)) && t.loans[id].leaving, "initiator: a capsule has left that was not sent")
		t.loans[id].leaving = false
		if c := &q.commands[id]; c.state == commandAnswered && q.state == queueOpen {
			t.end(c)
		}
	}
	t.goOn()
}

// Received takes a response.
func (t *rdmaWire) Received(rx *rdma.Receive) {
	q := t.q
	n, invalid := len(rx.Header)+len(rx.Data), rx.Invalid
	var cqe nvmf.CQE
	if len(rx.Header) == nvmf.CQEBytes {
		cqe = nvmf.DecodeCQE(rx.Header)
	}
	t.rq.Release(rx)
	if q.state != queueOpen {
		return
	}
	c := q.find(cqe.CID)
	switch {
	case n != nvmf.CQEBytes:
		q.fail(fmt.Errorf("%v: the target broke the protocol: a response of %d bytes, where they have %d", q, n, nvmf.CQEBytes))
	case invalid != 0:
		q.fail(fmt.Errorf("%v: the target broke the protocol: it invalidates a key (%#x) without being asked to", q, invalid))
	case c == nil:
		q.fail(fmt.Errorf("%v: the target broke the protocol: an answer to command %#x, which is not open", q, uint16(cqe.CID)))
	default:
		if c.cqe = cqe; t.loans[c.index].leaving {
			c.state = commandAnswered
			return
		}
		t.end(c)
		t.goOn()
	}
}

// end ends a command that is answered, and whose memory nobody touches any more.
func (t *rdmaWire) end(c *command) {
	t.settle(c)
	t.q.end(c)
}

// Ended hears that the connection is lost.
func (t *rdmaWire) Ended(err error) {
	t.q.fail(fmt.Errorf("%v over RDMA: %w", t.q, err))
}

// close ends the connection, or the attempt to make one.
func (t *rdmaWire) close() {
	t.cancel()
	if t.rq != nil {
		t.rq.Close()
	}
	t.ended()
}

// Closed hears that the queue pair is gone.
func (t *rdmaWire) Closed() {
	t.closed = true
	t.ended()
}

// ended ends the queue, if nothing can touch the memory of its commands any more.
func (t *rdmaWire) ended() {
	if t.dialling || t.rq != nil && !t.closed {
		return
	}
	t.first = nil
	for i := range t.loans {
		c := &t.q.commands[i]
		if c.state == commandAnswered {
			t.settle(c)
		} else {
			t.giveBack(&t.loans[i])
		}
	}
	t.tearDown()
	t.q.finish()
}
