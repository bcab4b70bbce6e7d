package initiator

import (
	"fmt"
	"unsafe"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the memory of a queue's commands as the card and the target reach it. NVM Express RDMA Transport Specification 1.0, "Capsules"
// and "Key Management".
//
//   - Data that is one piece of a reactor's pool stays where it is. Other data, in pieces or of the heap, goes by a buffer of the pool.
//   - Where the pool has none a command waits, and those behind it. One of them at a time has the queue's spare buffer, which is there for that:
//     who has it waits for the target alone, so it ends, whoever holds the pool.
//   - The target gets a key apart from that by which the card itself reads and writes. It is the one of the pool's chunk, and stays valid as long as
//     the card is used: there is nothing to be invalidated, so the sub-type is 0h. That a target does not touch a command's memory after its answer
//     is its word: so a target over RDMA is one that is trusted, as it is by all who keep their keys.
//   - A buffer is given back when the command is answered and its capsule has left; else when the queue pair is gone, through which alone the target
//     reaches memory. A command that is not answered in time ends the connection, so its memory waits for that too.

// loan is what a command has.
type loan struct {
	at      []byte // its data, where the card reaches it
	buf     []byte // the pool's, if at is not the request's own; of the spare it is a part
	spare   bool
	leaving bool // the card may still read the capsule
}

// rdmaMemory is that of a queue.
type rdmaMemory struct {
	loans    []loan // by slot
	capsules []byte // SQEs that do not go inline, by slot
	spare    []byte
	spareOut bool
	waiter   reactor.Waiter
	waits    bool
}

// setUp takes what the queue needs as long as it lives.
func (t *rdmaWire) setUp() error {
	q := t.q
	t.loans = make([]loan, len(q.commands))
	m := q.r.Memory()
	most := q.dataMax
	if most == 0 || most > reactor.BufferMax {
		most = reactor.BufferMax
	}
	if t.capsules = m.Get(len(q.commands) * nvmf.SQEBytes); t.capsules != nil {
		t.spare = m.Get(int(most))
	}
	if t.spare == nil {
		return fmt.Errorf("reactor %d's pool has no memory for %v: give reactors more, or make fewer queues", q.r.Index(), q)
	}
	return nil
}

// tearDown gives it back.
func (t *rdmaWire) tearDown() {
	m := t.q.r.Memory()
	m.Forget(&t.waiter)
	for _, b := range [][]byte{t.capsules, t.spare} {
		if b != nil {
			m.Put(b)
		}
	}
	t.loans, t.capsules, t.spare = nil, nil, nil
}

func (m *rdmaMemory) capsule(slot uint16) []byte {
	return m.capsules[int(slot)*nvmf.SQEBytes:][:nvmf.SQEBytes]
}

// reach puts a command's data where the card reaches it, and reports false if there is no memory for that yet.
func (t *rdmaWire) reach(c *command) bool {
	l := &t.loans[c.index]
	if c.bytes == 0 {
		return true
	}
	if b := whole(c); b != nil && t.rq.Reaches(b) {
		l.at = b
		return true
	}
	if !t.lend(l, int(c.bytes)) {
		return false
	}
	if l.at = l.buf; c.toHost {
		clear(l.at) // what a target does not write is not to show what others had here
		return true
	}
	at := 0
	for _, b := range c.data {
		at += copy(l.at[at:], b)
	}
	return true
}

// whole is the data of c if it is one piece of memory, or pieces that adjoin.
func whole(c *command) []byte {
	b := c.data[0]
	end := uintptr(unsafe.Pointer(unsafe.SliceData(b))) + uintptr(len(b))
	for _, p := range c.data[1:] {
		if uintptr(unsafe.Pointer(unsafe.SliceData(p))) != end {
			return nil
		}
		end += uintptr(len(p))
	}
	return unsafe.Slice(unsafe.SliceData(b), c.bytes)
}

// lend gets a buffer of n bytes.
func (t *rdmaWire) lend(l *loan, n int) bool {
	invariant.Check(n <= reactor.BufferMax, "initiator: a command with more data than a buffer has")
	if !t.waits {
		m := t.q.r.Memory()
		if l.buf = m.Get(n); l.buf != nil {
			return true
		}
		if t.spareOut || n > len(t.spare) {
			m.Await(&t.waiter, (*rdmaTurn)(t))
			t.waits = true
			return false
		}
	}
	if t.spareOut || n > len(t.spare) {
		return false
	}
	l.buf, l.spare, t.spareOut = t.spare[:n], true, true
	return true
}

type rdmaTurn rdmaWire

// Run hears that there may be memory.
func (w *rdmaTurn) Run() {
	t := (*rdmaWire)(w)
	t.waits = false
	t.goOn()
}

// describe gives the data pointer of a command.
func (t *rdmaWire) describe(c *command, l *loan) nvmf.SGL {
	switch {
	case c.bytes == 0:
		return nvmf.SGL{Type: nvmf.SGLKeyed}
	case c.carried:
		return nvmf.SGL{Type: nvmf.SGLDataBlock, Subtype: nvmf.SGLOffset, Bytes: c.bytes}
	}
	return nvmf.SGL{
		Type: nvmf.SGLKeyed, Subtype: nvmf.SGLAddress, Address: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(l.at)))), Bytes: c.bytes, Key: t.rq.RemoteKey(l.at),
	}
}

// settle brings data to the host to where it belongs, and gives a command's memory back.
func (t *rdmaWire) settle(c *command) {
	l := &t.loans[c.index]
	if l.buf != nil && c.toHost && c.cqe.Status.OK() {
		at := 0
		for _, b := range c.data {
			at += copy(b, l.buf[at:])
		}
	}
	t.giveBack(l)
}

func (t *rdmaWire) giveBack(l *loan) {
	switch {
	case l.spare:
		t.spareOut = false
	case l.buf != nil:
		t.q.r.Memory().Put(l.buf)
	}
	*l = loan{}
}
