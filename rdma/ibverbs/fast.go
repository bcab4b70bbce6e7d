//go:build cgo

package ibverbs

// #cgo noescape s_post
// #cgo nocallback s_post
// #cgo noescape s_post_recv
// #cgo nocallback s_post_recv
// #cgo noescape s_post_shared
// #cgo nocallback s_post_shared
// #cgo noescape s_poll
// #cgo nocallback s_poll
// #cgo nocallback s_arm
// #cgo noescape s_heard
// #cgo nocallback s_heard
// #include "shim.h"
import "C"

import (
	"unsafe"

	"github.com/pollux-storage/pollux/rdma"
)

// This file is what reactors call. The work requests and completions of package rdma are read and written by C where they are: both
// sides have the same layout, which the compiler is asked to check.

const (
	_ = -(unsafe.Sizeof(rdma.SendWR{}) ^ C.sizeof_struct_s_send)
	_ = -(unsafe.Offsetof(rdma.SendWR{}.SGE) ^ unsafe.Offsetof(C.struct_s_send{}.sge))
	_ = -(unsafe.Offsetof(rdma.SendWR{}.Invalidate) ^ unsafe.Offsetof(C.struct_s_send{}.invalidate))
	_ = -(unsafe.Offsetof(rdma.SendWR{}.Opcode) ^ unsafe.Offsetof(C.struct_s_send{}.opcode))
	_ = -(unsafe.Offsetof(rdma.SendWR{}.Flags) ^ unsafe.Offsetof(C.struct_s_send{}.flags))
	_ = -(unsafe.Offsetof(rdma.SendWR{}.SGEs) ^ unsafe.Offsetof(C.struct_s_send{}.sges))
	_ = -(unsafe.Sizeof(rdma.SGE{}) ^ C.sizeof_struct_v_sge)
	_ = -(unsafe.Sizeof(rdma.RecvWR{}) ^ C.sizeof_struct_s_recv)
	_ = -(unsafe.Offsetof(rdma.RecvWR{}.SGE) ^ unsafe.Offsetof(C.struct_s_recv{}.sge))
	_ = -(unsafe.Offsetof(rdma.RecvWR{}.SGEs) ^ unsafe.Offsetof(C.struct_s_recv{}.sges))
	_ = -(unsafe.Sizeof(rdma.Completion{}) ^ C.sizeof_struct_s_completion)
	_ = -(unsafe.Offsetof(rdma.Completion{}.Bytes) ^ unsafe.Offsetof(C.struct_s_completion{}.bytes))
	_ = -(unsafe.Offsetof(rdma.Completion{}.Invalid) ^ unsafe.Offsetof(C.struct_s_completion{}.invalid))
	_ = -(unsafe.Offsetof(rdma.Completion{}.Vendor) ^ unsafe.Offsetof(C.struct_s_completion{}.vendor))
	_ = -(unsafe.Offsetof(rdma.Completion{}.Kind) ^ unsafe.Offsetof(C.struct_s_completion{}.kind))
	_ = -(unsafe.Offsetof(rdma.Completion{}.Flags) ^ unsafe.Offsetof(C.struct_s_completion{}.flags))
)

// counted is how many were taken, and the errno of the first that was not.
func counted(c C.s_count) (int, C.int) { return int(uint32(c)), C.int(c >> 32) }

// Post gives the card work requests. Those of one queue pair that stand together reach it together.
func (c *card) Post(w []rdma.SendWR) (int, error) {
	if len(w) == 0 {
		return 0, nil
	}
	n, errno := counted(C.s_post((*C.struct_s_send)(unsafe.Pointer(&w[0])), C.int(len(w))))
	if errno != 0 {
		return n, c.failure("post to the send queue of a queue pair", errno)
	}
	return n, nil
}

// PostRecv gives a queue pair buffers.
func (c *card) PostRecv(q rdma.QP, w []rdma.RecvWR) (int, error) {
	if len(w) == 0 {
		return 0, nil
	}
	n, errno := counted(C.s_post_recv(C.uintptr_t(q), (*C.struct_s_recv)(unsafe.Pointer(&w[0])), C.int(len(w))))
	if errno != 0 {
		return n, c.failure("post to the receive queue of a queue pair", errno)
	}
	return n, nil
}

// PostShared gives a shared receive queue buffers.
func (c *card) PostShared(s rdma.SRQ, w []rdma.RecvWR) (int, error) {
	if len(w) == 0 {
		return 0, nil
	}
	n, errno := counted(C.s_post_shared(C.uintptr_t(s), (*C.struct_s_recv)(unsafe.Pointer(&w[0])), C.int(len(w))))
	if errno != 0 {
		return n, c.failure("post to a shared receive queue", errno)
	}
	return n, nil
}

// Poll takes completions.
func (c *card) Poll(q rdma.CQ, w []rdma.Completion) (int, error) {
	if len(w) == 0 {
		return 0, nil
	}
	n, errno := counted(C.s_poll(C.uintptr_t(q), (*C.struct_s_completion)(unsafe.Pointer(&w[0])), C.int(len(w))))
	if errno != 0 {
		return n, c.failure("poll a completion queue", errno)
	}
	return n, nil
}

// Arm lets the next completion make the CQ's descriptor readable.
func (c *card) Arm(q rdma.CQ) error {
	if rc := C.s_arm(C.uintptr_t(q)); rc < 0 {
		return c.failure("ask a completion queue to tell of the next completion", -rc)
	}
	return nil
}

// Heard takes what makes the descriptor readable.
func (c *card) Heard(q rdma.CQ) error {
	if rc := C.s_heard(c.p.lib, C.uintptr_t(q)); rc < 0 {
		return c.failure("read what a completion queue's channel tells", -rc)
	}
	return nil
}
