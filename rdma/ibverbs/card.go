//go:build cgo

package ibverbs

// #include "shim.h"
import "C"

import (
	"fmt"
	"sync"
	"syscall"
	"unsafe"

	"github.com/pollux-storage/pollux/rdma"
)

// card is an open card.
type card struct {
	p       *provider
	context C.uintptr_t
	pd      C.uintptr_t
	name    string
	info    rdma.CardInfo // when it was opened
	dev     *device
	wait    *waiter // for events of the card

	mu     *sync.Mutex      // the device's
	told   []rdma.CardEvent // that another provider has read
	qps    map[rdma.QP]*conn
	vector C.int // of the next CQ: interrupts spread over the processors
	made   int   // what is made on it and not destroyed
	gone   bool  // it was pulled out, or has failed: it is closed when nothing is made on it
	closed bool

	retiring bool
}

func openCard(p *provider, context C.uintptr_t) (*card, error) {
	c := &card{p: p, context: context, qps: make(map[rdma.QP]*conn)}
	c.enter()
	var name [64]C.char
	c.name = C.GoStringN(&name[0], C.s_name(p.lib, context, &name[0], C.int(len(name))))
	if rc := C.s_alloc_pd(p.lib, context, &c.pd); rc < 0 {
		c.leave()
		return nil, advise(c.failure("open it (ibv_alloc_pd)", -rc), -rc)
	}
	err := c.begin()
	if err != nil {
		c.leave()
		C.s_dealloc_pd(p.lib, c.pd)
		return nil, err
	}
	return c, nil
}

func (c *card) begin() error {
	i, err := c.query()
	if err != nil {
		return err
	}
	inline := C.s_inline_max(c.p.lib, c.context, c.pd, C.int(min(i.SGEsMax, rdma.SGEsMax)))
	if inline < 0 {
		return advise(c.failure("find out how much a send carries inline (ibv_create_cq)", -inline), -inline)
	}
	i.InlineMax = int(inline)
	c.info = i
	fd := C.s_async_fd(c.context)
	if fd < 0 {
		return c.failure("make the descriptor of its events non-blocking", -fd)
	}
	w, err := newWaiter(int(fd), "events of "+c.name)
	if err != nil {
		return fmt.Errorf("ibverbs: %s: %w", c.name, err)
	}
	c.mu.Lock()
	c.wait = w
	c.mu.Unlock()
	return nil
}

func (c *card) close() error {
	c.mu.Lock()
	done := c.closed
	c.closed = true
	c.mu.Unlock()
	if done {
		return nil
	}
	c.leave()
	c.wait.close()
	if rc := C.s_dealloc_pd(c.p.lib, c.pd); rc < 0 {
		return c.failure("close it (ibv_dealloc_pd), probably since something was left that was made on it", -rc)
	}
	return nil
}

func (c *card) failure(what string, errno C.int) error {
	return failure(c.name+": "+what, errno)
}

func (c *card) query() (rdma.CardInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return rdma.CardInfo{}, c.failure("ask what it can do", C.int(syscall.ENODEV))
	}
	var i C.struct_s_card_info
	if rc := C.s_card_info(c.p.lib, c.context, &i); rc < 0 {
		return rdma.CardInfo{}, c.failure("ask what it can do (ibv_query_device, ibv_query_port)", -rc)
	}
	return rdma.CardInfo{
		Name:        c.name,
		GUID:        uint64(i.guid),
		QPDepthMax:  int(i.qp_depth),
		SGEsMax:     int(i.sges),
		CQDepthMax:  int(i.cq_depth),
		SRQDepth:    int(i.srq_depth),
		ReadsIn:     int(i.reads_in),
		ReadsOut:    int(i.reads_out),
		InlineMax:   c.info.InlineMax,
		MTU:         int(i.mtu),
		Ethernet:    i.ethernet != 0,
		Invalidates: i.invalidates != 0,
	}, nil
}

// Info asks the card: ports come and go. One that does not answer any more has no active port.
func (c *card) Info() rdma.CardInfo {
	i, err := c.query()
	if err != nil {
		i = c.info
		i.MTU = 0
	}
	return i
}

// Register lets the card reach memory, which lies outside Go's heap and stays where it is.
func (c *card) Register(b []byte, a rdma.Access) (rdma.MR, error) {
	if len(b) == 0 {
		return rdma.MR{}, c.failure("register no memory", C.int(syscall.EINVAL))
	}
	access := C.int(C.V_ACCESS_LOCAL_WRITE)
	if a&rdma.RemoteRead != 0 {
		access |= C.V_ACCESS_REMOTE_READ
	}
	if a&rdma.RemoteWrite != 0 {
		access |= C.V_ACCESS_REMOTE_WRITE
	}
	if err := c.begins("register memory"); err != nil {
		return rdma.MR{}, err
	}
	var mr C.struct_s_mr
	at := unsafe.Pointer(&b[0])
	if rc := C.s_reg_mr(c.p.lib, c.pd, at, C.size_t(len(b)), access, &mr); rc < 0 {
		c.ends()
		return rdma.MR{}, advise(c.failure(fmt.Sprintf("register %d bytes of memory (ibv_reg_mr)", len(b)), -rc), -rc)
	}
	return rdma.MR{
		Handle: uintptr(mr.handle), Local: uint32(mr.lkey), Remote: uint32(mr.rkey),
		Address: uint64(uintptr(at)), Bytes: uint64(len(b)),
	}, nil
}

// Deregister takes the memory back.
func (c *card) Deregister(m rdma.MR) error {
	if rc := C.s_dereg_mr(c.p.lib, C.uintptr_t(m.Handle)); rc < 0 {
		return c.failure("deregister memory (ibv_dereg_mr)", -rc)
	}
	c.ends()
	return nil
}

// CreateCQ makes a completion queue with a channel of its own.
func (c *card) CreateCQ(depth int) (rdma.CQ, error) {
	if err := c.begins("create a completion queue"); err != nil {
		return 0, err
	}
	c.mu.Lock()
	vector := c.vector
	if n := C.s_comp_vectors(c.context); n > 0 {
		c.vector = (c.vector + 1) % n
	}
	c.mu.Unlock()
	var cq C.uintptr_t
	if rc := C.s_create_cq(c.p.lib, c.context, C.int(depth), vector, &cq); rc < 0 {
		c.ends()
		return 0, advise(c.failure(fmt.Sprintf("create a completion queue of %d entries, of which the card allows %d", depth, c.info.CQDepthMax), -rc), -rc)
	}
	return rdma.CQ(cq), nil
}

// CQFD is the descriptor of the CQ's channel.
func (c *card) CQFD(q rdma.CQ) int { return int(C.s_cq_fd(C.uintptr_t(q))) }

// DestroyCQ destroys a completion queue that no queue pair uses.
func (c *card) DestroyCQ(q rdma.CQ) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if rc := C.s_destroy_cq(c.p.lib, C.uintptr_t(q)); rc < 0 {
		return c.failure("destroy a completion queue", -rc)
	}
	c.endsLocked()
	return nil
}

// CreateSRQ makes a shared receive queue.
func (c *card) CreateSRQ(depth, sges int) (rdma.SRQ, error) {
	if err := c.begins("create a shared receive queue"); err != nil {
		return 0, err
	}
	var srq C.uintptr_t
	if rc := C.s_create_srq(c.p.lib, c.pd, C.int(depth), C.int(sges), &srq); rc < 0 {
		c.ends()
		return 0, advise(c.failure(fmt.Sprintf("create a shared receive queue of %d entries, of which the card allows %d", depth, c.info.SRQDepth), -rc), -rc)
	}
	return rdma.SRQ(srq), nil
}

// DestroySRQ destroys a shared receive queue that no queue pair uses.
func (c *card) DestroySRQ(s rdma.SRQ) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if rc := C.s_destroy_srq(c.p.lib, C.uintptr_t(s)); rc < 0 {
		return c.failure("destroy a shared receive queue", -rc)
	}
	c.endsLocked()
	return nil
}
