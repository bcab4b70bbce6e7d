package initiator

import (
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is a slot of a queue: one command and what its transport knows of it. Its states, in order:
//
//	free      nobody's
//	queued    its capsule waits to be sent
//	sent      the capsule is with the transport; the answer is to come
//	answered  the answer came while the transport still had its data: it ends when that has left

type commandState uint8

const (
	commandFree commandState = iota
	commandQueued
	commandSent
	commandAnswered
)

// The CID of a command: which slot it has, and how often that was used, so that an answer to the command before it, or an
// Abort of that, is not taken for this one's.
const (
	slotBits = 12
	slotsMax = 1 << slotBits
)

// owner hears of a command's end, on the queue's reactor. The slot is free again when it does.
type owner interface {
	// answered takes the completion.
	answered(cqe nvmf.CQE)
	// lost hears that the connection ended first. sent says that the target may have the command.
	lost(sent bool)
}

// command is one slot.
type command struct {
	index uint16
	uses  uint16
	cid   nvmf.CID
	state commandState
	next  *command // in one list: of the free ones, or one of the transport's

	sqe    nvmf.SQE
	toHost bool     // data comes; otherwise it goes
	lax    bool     // less data than was asked for is no error
	data   [][]byte // lent until the end
	bytes  uint32   // in data
	piece  int      // of data, where place looked last
	base   uint32   // where that piece begins

	carried bool // the data goes with the capsule
	tcpMoves

	cqe nvmf.CQE

	owner   owner
	at      reactor.Ticks // when it was started, or sent if it had to wait for that
	patient bool          // it may take for ever
}

// prepare makes the slot's fields those of a new command.
func (c *command) prepare(o owner) {
	c.uses++
	c.cid = nvmf.CID(c.index | c.uses<<slotBits)
	c.toHost, c.lax, c.patient = false, false, false
	c.data, c.bytes, c.piece, c.base, c.owner = nil, 0, 0, 0, o
	c.carried = false
	c.got, c.last, c.success, c.bad, c.asked, c.r2tsOpen, c.batch = 0, false, false, false, 0, 0, 0
}

// lend gives the command its data.
func (c *command) lend(data [][]byte, toHost bool) {
	c.data, c.toHost = data, toHost
	for _, b := range data {
		c.bytes += uint32(len(b))
	}
}

// place gives the part of the data that begins at off: as much as lies in one piece, n bytes at most. Offsets mostly ascend, so
// it looks on from where it looked last.
func (c *command) place(off, n uint32) []byte {
	if off < c.base {
		c.piece, c.base = 0, 0
	}
	for {
		b := c.data[c.piece]
		if at := off - c.base; at < uint32(len(b)) {
			return b[at:min(uint32(len(b)), at+n)]
		}
		c.base += uint32(len(b))
		c.piece++
	}
}
