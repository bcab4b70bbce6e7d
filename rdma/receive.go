package rdma

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is what messages are received into: the receives of a lane, which its queues share, or of one queue.
//
//	idle ─▶ pending ─▶ on the card ─▶ held by a handler ─▶ pending …
//	  ▲        └ given to the card at the end of the turn       │
//	  └──────────────── no longer needed: its data buffer is given back

// Receive is a message that has arrived, in memory that is the handler's until Queue.Release.
type Receive struct {
	Header  []byte // the first bytes of it, HeaderBytes at most
	Data    []byte // what came behind these, in pages of its own
	Invalid uint32 // the key that the message has invalidated, 0 if none

	set    *recvSet
	q      *Queue // whose handler holds it, or will
	header []byte
	data   []byte
	wr     RecvWR
	state  recvState
	next   *Receive // idle, or early
}

type recvState uint8

const (
	recvIdle    recvState = iota
	recvPending           // goes to the card at the end of the turn
	recvCard
	recvBack // has come back, and is looked at
	recvHeld
)

// recvSet is receives of one kind, for an SRQ or a queue pair.
type recvSet struct {
	c           *card
	p           *poster
	srq         SRQ
	lane        *lane  // with SRQ
	q           *Queue // without
	headerBytes int
	dataBytes   int
	max         int

	rx      []*Receive // all
	idle    *Receive   // those without data buffer
	full    int        // those with one
	wanted  int        // as many as the queues' depths come to
	card    int        // on the card
	held    int        // by handlers
	pending []RecvWR

	memory  *reactor.Memory // where it comes from; nil: a mapping of its own
	headers [][]byte        // blocks
	mapped  []byte
	mr      MR

	dirty     bool // in the poster's list
	nextDirty *recvSet
}

// headerAlign keeps headers in cache lines of their own.
const headerAlign = 64

func (s *recvSet) stride() int { return (s.headerBytes + headerAlign - 1) &^ (headerAlign - 1) }

// join makes depth more of them, as far as the maximum allows, and gives them to the card. It runs on the reactor.
func (s *recvSet) join(depth int, id uint64) error {
	s.wanted += depth
	err := s.fill(min(s.wanted, s.max), id)
	if err == nil {
		err = s.post()
	}
	if err != nil {
		s.wanted -= depth
		for n := len(s.pending); n > 0 && s.full > min(s.wanted, s.max); n-- { // those that were made, and that the card has not
			s.drop(s.rx[uint32(s.pending[n-1].ID)])
			s.pending = s.pending[:n-1]
		}
	}
	return err
}

// fill makes receives until there are n.
func (s *recvSet) fill(n int, id uint64) error {
	if cap(s.pending) < n {
		s.pending = append(make([]RecvWR, 0, n), s.pending...)
	}
	for s.full < n {
		if s.idle == nil {
			if err := s.more(n-s.full, id); err != nil {
				return err
			}
		}
		x := s.idle
		if s.dataBytes > 0 && s.memory != nil {
			if x.data = s.memory.GetReceiveOnly(s.dataBytes); x.data == nil {
				return fmt.Errorf("%w: reactor %d's pool has no memory for %d receives of %d bytes: give reactors more memory, or queues less depth",
					ErrNoRoom, s.p.r.Index(), n, s.dataBytes)
			}
			x.wr.SGE[1], x.wr.SGEs = s.c.local.sge(s.p.r.Index(), x.data), 2
		}
		s.idle, x.next = x.next, nil
		s.full++
		s.repost(x)
	}
	return nil
}

// more makes up to n receives without data buffers.
func (s *recvSet) more(n int, id uint64) error {
	stride := s.stride()
	var block []byte
	var key uint32
	if s.memory == nil {
		if err := s.mapOwn(n); err != nil {
			return err
		}
		block, key = s.mapped, s.mr.Local
	} else {
		n = min(n, reactor.BufferMax/stride)
		if block = s.memory.GetReceiveOnly(n * stride); block == nil {
			return fmt.Errorf("%w: reactor %d's pool has no memory for the headers of %d receives", ErrNoRoom, s.p.r.Index(), n)
		}
		s.headers = append(s.headers, block)
		key = s.c.local.sge(s.p.r.Index(), block).Key
	}
	data := roundUp(n*stride, reactor.PageBytes)
	for i := range n {
		x := &Receive{set: s, header: block[i*stride : i*stride+s.headerBytes : i*stride+s.headerBytes]}
		x.wr = RecvWR{ID: id | uint64(len(s.rx)), SGEs: 1}
		x.wr.SGE[0] = SGE{Address: uint64(uintptr(unsafe.Pointer(&x.header[0]))), Bytes: uint32(s.headerBytes), Key: key}
		if s.memory == nil && s.dataBytes > 0 {
			at := data + i*roundUp(s.dataBytes, reactor.PageBytes)
			x.data = block[at : at+s.dataBytes : at+s.dataBytes]
			x.wr.SGE[1] = SGE{Address: uint64(uintptr(unsafe.Pointer(&x.data[0]))), Bytes: uint32(s.dataBytes), Key: key}
			x.wr.SGEs = 2
		}
		s.rx = append(s.rx, x)
		x.next, s.idle = s.idle, x
	}
	return nil
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// mapOwn maps memory for n receives of a queue that may leave its reactor, and registers it.
func (s *recvSet) mapOwn(n int) error {
	size := roundUp(n*s.stride(), reactor.PageBytes) + n*roundUp(s.dataBytes, reactor.PageBytes)
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err == nil {
		if s.mr, err = s.c.v.Register(b, 0); err == nil {
			s.mapped = b
			return nil
		}
		_ = unix.Munmap(b)
	}
	return fmt.Errorf("taking %d KiB for the receives of a queue: %w", size>>10, err)
}

// repost lets a receive go to the card at the end of the turn.
func (s *recvSet) repost(x *Receive) {
	x.state, x.q, x.Header, x.Data = recvPending, nil, nil, nil
	s.pending = append(s.pending, x.wr)
	s.p.touch(s)
}

// post gives the card what is pending.
func (s *recvSet) post() error {
	w := s.pending
	for len(w) > 0 {
		n, err := s.give(w)
		s.p.stats.RecvPosts += uint64(n)
		s.p.stats.RecvCalls++
		for i := range w[:n] {
			x := s.rx[uint32(w[i].ID)]
			x.state = recvCard
			s.card++
			s.p.stats.Receives++
			if invariant.Expensive {
				s.c.local.hold(x.wr.SGE[:x.wr.SGEs], 1)
			}
		}
		w = w[n:]
		if err != nil || n == 0 {
			s.pending = s.pending[:copy(s.pending, w)]
			return fmt.Errorf("giving %s buffers to receive into: %w", s.c.info.Name, err)
		}
	}
	s.pending = s.pending[:0]
	return nil
}

func (s *recvSet) give(w []RecvWR) (int, error) {
	if s.srq != 0 {
		return s.c.v.PostShared(s.srq, w)
	}
	return s.c.v.PostRecv(s.q.qp, w)
}

// back takes a receive from the card.
func (s *recvSet) back(index uint32) *Receive {
	invariant.Check(int(index) < len(s.rx) && s.rx[index].state == recvCard, "rdma: completion of a receive that the card did not have")
	x := s.rx[index]
	s.card--
	s.p.stats.Receives--
	x.state = recvBack
	if invariant.Expensive {
		s.c.local.hold(x.wr.SGE[:x.wr.SGEs], -1)
	}
	return x
}

// put takes a receive that nobody needs any more: it goes to the card again, unless there are more than are wanted.
func (s *recvSet) put(x *Receive) {
	if s.srq != 0 && s.full <= min(s.wanted, s.max) || s.srq == 0 && s.q.state <= queueLive && !s.q.broken {
		s.repost(x)
		return
	}
	s.drop(x)
}

// drop gives a receive's data buffer back.
func (s *recvSet) drop(x *Receive) {
	x.state, x.q, x.Header, x.Data = recvIdle, nil, nil, nil
	if s.memory != nil && x.data != nil {
		s.memory.PutReceive(x.data)
		x.data = nil
	}
	x.next, s.idle = s.idle, x
	s.full--
}

// lost takes back what the card had of a receive queue that is destroyed. It runs on the reactor.
func (s *recvSet) lost() {
	for i, x := range s.rx {
		switch x.state {
		case recvCard:
			s.drop(s.back(uint32(i)))
		case recvPending:
			s.drop(x)
		}
	}
	s.pending = s.pending[:0]
}

// free gives all memory back; nothing is held or on the card. It runs on the reactor, and the mapping of a movable queue is left to unmap.
func (s *recvSet) free() {
	s.lost()
	invariant.Check(s.full == 0 && s.card == 0 && s.held == 0, "rdma: memory of receives is given back that somebody has")
	for _, b := range s.headers {
		s.memory.PutReceive(b)
	}
	s.headers, s.rx, s.idle = nil, nil, nil
}

// unmap gives back the mapping of a queue that may leave its reactor. It is for control goroutines.
func (s *recvSet) unmap() error {
	if s.mapped == nil {
		return nil
	}
	err := s.c.v.Deregister(s.mr)
	_ = unix.Munmap(s.mapped)
	s.mapped = nil
	return err
}

// arrived describes what came.
func (x *Receive) arrived(c *Completion) {
	n := int(c.Bytes)
	h := min(n, len(x.header))
	x.Header, x.Data = x.header[:h:h], x.data[:min(n-h, len(x.data))]
	x.Invalid = 0
	if c.Flags&Invalidated != 0 {
		x.Invalid = c.Invalid
	}
}
