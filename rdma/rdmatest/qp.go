package rdmatest

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/rdma"
)

// qpState is where a queue pair stands. InfiniBand Architecture Specification volume 1, section 10.3.1, "Queue Pair and EE Context States": those
// that can be told apart from outside.
type qpState uint8

const (
	made   qpState = iota // may be given receives
	ready                 // connected
	failed                // all it has, and is given, is flushed
	gone                  // destroyed
)

// queuePair is a reliable connected queue pair. Its send queue is a ring, whose places are counted from the first post on:
//
//	retired <= done <= started <= posted <= retired + SendDepth
//
// retired: a completion of it, or of a later one, was polled · done: ended, in order · started: handed to the peer, in order; only RDMA READs
// with ReadsLate are started and not finished.
type queuePair struct {
	card   *card
	id     *ident
	h      uintptr
	number uint32
	state  qpState
	cfg    rdma.QPConfig
	send   *completionQueue
	got    *completionQueue
	own    receiveQueue
	recv   *receiveQueue // own, or the shared one

	peer     *queuePair // nil before it is connected, and after the peer is destroyed
	readsOut int        // that may be in flight
	rnr      uint8      // of the peer: how often a send may find no receive. 7: for ever
	rnrLeft  uint8

	sq     []sendEntry
	inline []byte
	posted, started, done,
	retired uint64
	reads int // RDMA READs that are posted and not retired

	place    qpPlace
	waitsFor *receiveQueue
}

// qpPlace says in which list a queue pair is.
type qpPlace uint8

const (
	nowhere qpPlace = iota
	running         // Provider.run
	parked          // Provider.parked
	waiting         // receiveQueue.waiting
	stalled         // in none: its port is down
)

// sendEntry is a work request in a send queue.
type sendEntry struct {
	wr       rdma.SendWR
	sum      uint32 // with watch, of its memory
	watched  bool
	finished bool
}

func (c *card) CreateQP(id rdma.ID, cfg rdma.QPConfig) (rdma.QP, rdma.QPCaps, error) {
	f := c.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := c.usable("making a queue pair"); err != nil {
		return 0, rdma.QPCaps{}, err
	}
	d := f.ids.find(uintptr(id))
	if d == nil {
		return 0, rdma.QPCaps{}, destroyed("making a queue pair of")
	}
	refuse := func(why string, a ...any) (rdma.QP, rdma.QPCaps, error) {
		return 0, rdma.QPCaps{}, fmt.Errorf("rdmatest: making a queue pair on %s: %s: %w", c.info.Name, fmt.Sprintf(why, a...), unix.EINVAL)
	}
	switch {
	case d.card != c:
		return refuse("the connection is not one of this card")
	case d.qp != nil:
		return refuse("the connection has one")
	case d.state != routed && d.state != offered:
		return refuse("the connection is %v", d.state)
	case cfg.SendDepth < 1 || cfg.SendDepth > c.info.QPDepthMax:
		return refuse("%d sends, of at most %d", cfg.SendDepth, c.info.QPDepthMax)
	case cfg.Shared == 0 && (cfg.RecvDepth < 1 || cfg.RecvDepth > c.info.QPDepthMax):
		return refuse("%d receives, of at most %d", cfg.RecvDepth, c.info.QPDepthMax)
	case cfg.SGEs < 1 || cfg.SGEs > c.info.SGEsMax:
		return refuse("%d pieces of memory, of at most %d", cfg.SGEs, c.info.SGEsMax)
	case cfg.InlineBytes < 0 || cfg.InlineBytes > c.info.InlineMax:
		return refuse("%d bytes inline, of at most %d", cfg.InlineBytes, c.info.InlineMax)
	}
	q := &queuePair{
		card: c, id: d, cfg: cfg,
		send: f.cqs.get(uintptr(cfg.Send)), got: f.cqs.get(uintptr(cfg.Recv)),
		sq:     make([]sendEntry, cfg.SendDepth),
		inline: make([]byte, cfg.SendDepth*cfg.InlineBytes),
	}
	if q.send.card != c || q.got.card != c {
		return refuse("a completion queue is of another card")
	}
	caps := rdma.QPCaps{SendDepth: cfg.SendDepth, InlineBytes: cfg.InlineBytes}
	if cfg.Shared != 0 {
		q.recv = f.srqs.get(uintptr(cfg.Shared))
		if q.recv.card != c {
			return refuse("the shared receive queue is of another card")
		}
		q.recv.users++
	} else {
		q.own = receiveQueue{card: c, sges: cfg.SGEs, ring: make([]receive, cfg.RecvDepth)}
		q.recv = &q.own
		caps.RecvDepth = cfg.RecvDepth
	}
	f.number++
	q.number = f.number
	caps.Number = q.number
	q.h = f.qps.add(q)
	q.send.users++
	q.got.users++
	d.qp = q
	return rdma.QP(q.h), caps, nil
}

func (c *card) DestroyQP(h rdma.QP) error {
	f := c.f
	f.mu.Lock()
	defer f.mu.Unlock()
	q := f.qps.get(uintptr(h))
	q.leave()
	f.qps.remove(q.h)
	q.send.users--
	q.got.users--
	if q.recv != &q.own {
		q.recv.users--
	}
	// Completions that are in a completion queue stay there, as they do with some cards.
	if q.peer != nil {
		q.peer.peer = nil
		q.peer.ready()
		q.peer = nil
	}
	c.events = slices.DeleteFunc(c.events, func(e rdma.CardEvent) bool { return e.ID != 0 && e.ID == q.id.h }) // none follows: ibv_destroy_qp(3)
	q.id.qp = nil
	q.state = gone
	f.drain()
	return nil
}

func (c *card) Fail(h rdma.QP) error {
	f := c.f
	f.mu.Lock()
	defer f.mu.Unlock()
	f.qps.get(uintptr(h)).fail()
	f.drain()
	return nil
}

// fail begins the error state.
func (q *queuePair) fail() {
	if q.state == failed || q.state == gone {
		return
	}
	q.state = failed
	q.leave()
	q.ready()
	if q.recv != &q.own {
		q.card.tell(rdma.CardEvent{Kind: rdma.CardLastReceive, ID: q.id.h})
	}
	if q.peer != nil {
		q.peer.ready() // it may wait for a receive, which nothing will take the place of
	}
}

// Post is ibv_post_send(3).
func (c *card) Post(w []rdma.SendWR) (int, error) {
	f := c.f
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range w {
		q := f.qps.get(uintptr(w[i].QP))
		if err := q.post(c, &w[i]); err != nil {
			f.drain()
			return i, err
		}
	}
	f.drain()
	return len(w), nil
}

func (q *queuePair) post(c *card, w *rdma.SendWR) error {
	if why := q.refuses(c, w); why != "" {
		return fmt.Errorf("rdmatest: posting work request %#x to queue pair %#x: %s: %w", w.ID, q.number, why, unix.EINVAL)
	}
	if q.posted-q.retired == uint64(len(q.sq)) {
		return fmt.Errorf("rdmatest: posting work request %#x to queue pair %#x: it was made for %d, and so many are posted that no polled completion has ended: %w",
			w.ID, q.number, len(q.sq), unix.ENOMEM)
	}
	if w.Opcode == rdma.OpRead {
		if q.reads == q.readsOut && q.state == ready {
			fault("%d RDMA READs are in flight on queue pair %#x, as many as its peer answers at once, and work request %#x is one more", q.reads, q.number, w.ID)
		}
		q.reads++
	}
	i := int(q.posted % uint64(len(q.sq)))
	e := &q.sq[i]
	*e = sendEntry{wr: *w}
	switch {
	case w.Flags&rdma.Inline != 0:
		b := q.inline[i*q.cfg.InlineBytes:]
		for k := range e.wr.SGE[:e.wr.SGEs] {
			s := &e.wr.SGE[k]
			b = b[copy(b, memoryAt(s.Address, s.Bytes)):]
		}
	case c.f.watch:
		e.watched, e.sum = true, c.sum(e.wr.SGE[:e.wr.SGEs])
	}
	q.posted++
	q.ready()
	return nil
}

// refuses says why a work request is not taken.
func (q *queuePair) refuses(c *card, w *rdma.SendWR) string {
	if q.card != c {
		return "it is of another card"
	}
	if q.state == made {
		return "it is not connected"
	}
	if int(w.SGEs) > q.cfg.SGEs {
		return "more pieces of memory than it takes"
	}
	if w.Opcode > rdma.OpRead {
		return "no such opcode"
	}
	if w.Opcode == rdma.OpSendInvalidate && !c.info.Invalidates {
		return "the card has no such opcode"
	}
	if w.Flags&rdma.Inline != 0 {
		if w.Opcode == rdma.OpRead {
			return "an RDMA READ cannot be inline"
		}
		if n := bytesOf(w); n > uint64(q.cfg.InlineBytes) {
			return "more bytes inline than it takes"
		}
	}
	return ""
}

// entry is the work request that was the n-th to be posted.
func (q *queuePair) entry(n uint64) *sendEntry { return &q.sq[n%uint64(len(q.sq))] }

// retire frees the places of all work requests before the n-th.
func (q *queuePair) retire(n uint64) {
	for ; q.retired < n; q.retired++ {
		e := q.entry(q.retired)
		if e.wr.Opcode == rdma.OpRead {
			q.reads--
		} else {
			q.verifySent(e)
		}
	}
}
