package rdmatest

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/rdma"
)

// receiveQueue is the receives of a queue pair, or shared by several.
type receiveQueue struct {
	card    *card
	h       uintptr // of a shared one
	sges    int
	ring    []receive
	posted  uint64
	taken   uint64
	held    int // posted, and no completion of them polled
	users   int
	waiting []*queuePair // whose next send has found it empty
}

type receive struct {
	wr      rdma.RecvWR
	sum     uint32 // with watch, of its memory
	watched bool
}

func (c *card) CreateSRQ(depth, sges int) (rdma.SRQ, error) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	if err := c.usable("making a shared receive queue"); err != nil {
		return 0, err
	}
	if c.info.SRQDepth == 0 {
		return 0, fmt.Errorf("rdmatest: making a shared receive queue: %s has none: %w", c.info.Name, unix.EOPNOTSUPP)
	}
	if depth < 1 || depth > c.info.SRQDepth || sges < 1 || sges > c.info.SGEsMax {
		return 0, fmt.Errorf("rdmatest: making a shared receive queue of %d with %d pieces each on %s, which has at most %d with %d: %w",
			depth, sges, c.info.Name, c.info.SRQDepth, c.info.SGEsMax, unix.EINVAL)
	}
	r := &receiveQueue{card: c, sges: sges, ring: make([]receive, depth)}
	r.h = c.f.srqs.add(r)
	return rdma.SRQ(r.h), nil
}

func (c *card) DestroySRQ(h rdma.SRQ) error {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	r := c.f.srqs.get(uintptr(h))
	if r.users != 0 {
		return fmt.Errorf("rdmatest: destroying a shared receive queue that %d queue pairs use: %w", r.users, unix.EBUSY)
	}
	c.f.srqs.remove(r.h)
	return nil
}

func (c *card) PostShared(h rdma.SRQ, w []rdma.RecvWR) (int, error) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	n, err := c.f.srqs.get(uintptr(h)).post(w)
	c.f.drain()
	return n, err
}

func (c *card) PostRecv(h rdma.QP, w []rdma.RecvWR) (int, error) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	q := c.f.qps.get(uintptr(h))
	if q.recv != &q.own {
		return 0, fmt.Errorf("rdmatest: posting receives to queue pair %#x, which has a shared receive queue: %w", q.number, unix.EINVAL)
	}
	n, err := q.own.post(w)
	if q.state == failed {
		q.ready()
	}
	c.f.drain()
	return n, err
}

func (r *receiveQueue) post(w []rdma.RecvWR) (int, error) {
	for i := range w {
		if r.held == len(r.ring) {
			return i, fmt.Errorf("rdmatest: posting receive %#x: the queue was made for %d, and so many are posted whose completions were not polled: %w", w[i].ID, len(r.ring), unix.ENOMEM)
		}
		if int(w[i].SGEs) > r.sges {
			return i, fmt.Errorf("rdmatest: posting receive %#x with %d pieces of memory to a queue that takes %d: %w", w[i].ID, w[i].SGEs, r.sges, unix.EINVAL)
		}
		e := &r.ring[r.posted%uint64(len(r.ring))]
		*e = receive{wr: w[i]}
		if r.card.f.watch {
			e.watched, e.sum = true, r.card.sum(e.wr.SGE[:e.wr.SGEs])
		}
		r.posted++
		r.held++
	}
	r.wake()
	return len(w), nil
}

// wake lets the sends go on that have waited.
func (r *receiveQueue) wake() {
	for len(r.waiting) > 0 {
		r.waiting[0].ready()
	}
}

// first is the oldest receive, nil if there is none.
func (r *receiveQueue) first() *receive {
	if r.taken == r.posted {
		return nil
	}
	return &r.ring[r.taken%uint64(len(r.ring))]
}
