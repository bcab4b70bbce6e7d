package rdmatest

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/rdma"
)

// completionQueue is a ring of what has ended.
//
//	polled <= shown <= added <= polled + depth
type completionQueue struct {
	card  *card
	h     uintptr
	ring  []ended
	event int // eventfd
	armed bool
	users int // queue pairs, twice if for sends and receives

	polled, shown, added uint64

	late []ended // of send queues, with HoldSends
}

// ended is a completion, and whose place in a queue it frees.
type ended struct {
	rdma.Completion
	q    *queuePair    // of a send
	seq  uint64        // in its send queue
	recv *receiveQueue // of a receive
}

// one is what an eventfd is written: eventfd(2).
var one = binary.NativeEndian.AppendUint64(nil, 1)

func (c *card) CreateCQ(depth int) (rdma.CQ, error) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	if err := c.usable("making a completion queue"); err != nil {
		return 0, err
	}
	if depth < 1 || depth > c.info.CQDepthMax {
		return 0, fmt.Errorf("rdmatest: making a completion queue of %d on %s, which has at most %d: %w", depth, c.info.Name, c.info.CQDepthMax, unix.EINVAL)
	}
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("rdmatest: making a completion channel: eventfd: %w", err)
	}
	q := &completionQueue{card: c, ring: make([]ended, depth), event: fd}
	q.h = c.f.cqs.add(q)
	return rdma.CQ(q.h), nil
}

func (c *card) CQFD(h rdma.CQ) int {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	return c.f.cqs.get(uintptr(h)).event
}

func (c *card) DestroyCQ(h rdma.CQ) error {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	q := c.f.cqs.get(uintptr(h))
	if q.users != 0 {
		return fmt.Errorf("rdmatest: destroying a completion queue that queue pairs use: %w", unix.EBUSY)
	}
	for ; q.polled < q.added; q.polled++ {
		q.ring[q.polled%uint64(len(q.ring))].free()
	}
	for i := range q.late {
		q.late[i].free()
	}
	c.f.cqs.remove(q.h)
	return unix.Close(q.event)
}

// add appends a completion.
func (q *completionQueue) add(e *ended) {
	if q.added-q.polled+uint64(len(q.late)) == uint64(len(q.ring)) {
		fault("completion queue overrun: it was made for %d, all of which are taken, and work request %#x of queue pair %#x has ended", len(q.ring), e.ID, e.QPN)
	}
	if e.q != nil && q.card.p.holdSends {
		q.late = append(q.late, *e)
		return
	}
	q.ring[q.added%uint64(len(q.ring))] = *e
	q.added++
	if !q.card.p.holdCompletions {
		q.show()
	}
}

// addLate appends those that were kept back.
func (q *completionQueue) addLate() {
	late := q.late
	q.late = nil
	for i := range late {
		q.add(&late[i])
	}
}

// show lets all that was added be polled.
func (q *completionQueue) show() {
	if q.shown == q.added {
		return
	}
	q.shown = q.added
	if q.armed {
		q.armed = false
		if _, err := unix.Write(q.event, one); err != nil {
			fault("telling of a completion: eventfd: %v", err)
		}
	}
}

func (c *card) Poll(h rdma.CQ, w []rdma.Completion) (int, error) {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	q := c.f.cqs.get(uintptr(h))
	if len(c.f.rnr) > 0 {
		c.f.retryRNR()
	}
	n := 0
	for ; n < len(w) && q.polled < q.shown; n++ {
		e := &q.ring[q.polled%uint64(len(q.ring))]
		w[n] = e.Completion
		e.free()
		q.polled++
	}
	return n, nil
}

// free frees the places that e's work request, and those before it, had.
func (e *ended) free() {
	if e.recv != nil {
		e.recv.held--
	} else if e.q != nil {
		e.q.retire(e.seq + 1)
	}
	*e = ended{}
}

func (c *card) Arm(h rdma.CQ) error {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.f.cqs.get(uintptr(h)).armed = true
	return nil
}

func (c *card) Heard(h rdma.CQ) error {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	q := c.f.cqs.get(uintptr(h))
	if _, err := unix.Read(q.event, c.heard[:]); err != nil && err != unix.EAGAIN {
		return fmt.Errorf("rdmatest: hearing of completions: eventfd: %w", err)
	}
	return nil
}
