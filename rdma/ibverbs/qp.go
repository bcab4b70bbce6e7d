//go:build cgo

package ibverbs

// #include "shim.h"
import "C"

import (
	"fmt"
	"syscall"

	"github.com/pollux-storage/pollux/rdma"
)

// This file is queue pairs, which belong to a connection and to a card.

// CreateQP makes the queue pair of a connection whose card this is.
func (c *card) CreateQP(id rdma.ID, q rdma.QPConfig) (rdma.QP, rdma.QPCaps, error) {
	const what = "create the queue pair of a connection (rdma_create_qp)"
	of := c.p.find(id)
	if of == nil {
		return 0, rdma.QPCaps{}, c.failure(fmt.Sprintf("%s: there is no connection %d", what, id), C.int(syscall.EINVAL))
	}
	of.m.mu.Lock()
	defer of.m.mu.Unlock()
	if of.gone || of.qp != 0 || C.s_id_context(of.at) != c.context {
		return 0, rdma.QPCaps{}, c.failure(fmt.Sprintf("%s: connection %d is destroyed, has one, or is another card's", what, id), C.int(syscall.EINVAL))
	}
	if err := c.begins("create a queue pair"); err != nil {
		return 0, rdma.QPCaps{}, err
	}
	n := C.struct_s_qp{
		send_cq: C.uintptr_t(q.Send), recv_cq: C.uintptr_t(q.Recv), srq: C.uintptr_t(q.Shared),
		send_depth: C.uint32_t(q.SendDepth), recv_depth: C.uint32_t(q.RecvDepth), sges: C.uint32_t(q.SGEs), inline_bytes: C.uint32_t(q.InlineBytes),
	}
	if rc := C.s_create_qp(c.p.lib, of.at, c.pd, &n); rc < 0 {
		c.ends()
		err := c.failure(fmt.Sprintf("%s: send depth %d, receive depth %d, of which the card allows %d; %d SGEs, of %d; %d bytes inline, of %d", what,
			q.SendDepth, q.RecvDepth, c.info.QPDepthMax, q.SGEs, c.info.SGEsMax, q.InlineBytes, c.info.InlineMax), -rc)
		return 0, rdma.QPCaps{}, advise(err, -rc)
	}
	qp := rdma.QP(n.handle)
	of.qp, of.card = qp, c
	c.mu.Lock()
	c.qps[qp] = of
	c.mu.Unlock()
	return qp, rdma.QPCaps{Number: uint32(n.number), SendDepth: int(n.send_depth), RecvDepth: int(n.recv_depth), InlineBytes: int(n.inline_bytes)}, nil
}

// Fail puts a queue pair into the error state.
func (c *card) Fail(q rdma.QP) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.qps[q] == nil {
		return c.failure("fail a queue pair that is not there", C.int(syscall.EINVAL))
	}
	if rc := C.s_fail_qp(c.p.lib, C.uintptr_t(q)); rc < 0 {
		return c.failure("put a queue pair into the error state (ibv_modify_qp)", -rc)
	}
	return nil
}

// DestroyQP destroys a queue pair. librdmacm does not say whether the card agreed.
func (c *card) DestroyQP(q rdma.QP) error {
	c.mu.Lock()
	of := c.qps[q]
	c.mu.Unlock()
	if of == nil {
		return c.failure("destroy a queue pair that is not there", C.int(syscall.EINVAL))
	}
	of.m.mu.Lock()
	defer of.m.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if of.qp != q {
		return c.failure("destroy a queue pair that was destroyed meanwhile", C.int(syscall.EINVAL))
	}
	C.s_destroy_qp(c.p.lib, of.at)
	of.qp = 0
	delete(c.qps, q)
	c.endsLocked()
	return nil
}
