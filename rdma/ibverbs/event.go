//go:build cgo

package ibverbs

// #include "shim.h"
import "C"

import (
	"fmt"
	"syscall"
	"unsafe"

	"github.com/pollux-storage/pollux/rdma"
)

// This file is the events of the connection manager: rdma_get_cm_event(3).

// rejectNoListener is the reason with which the kernel answers for a port that nobody listens at. InfiniBand Architecture Specification 1.4,
// volume 1, section 12.6.7.2 "Rejection Reason", "Invalid Service ID".
const rejectNoListener = 8

// Next waits for the next event.
func (m *cm) Next() (rdma.Event, error) {
	var out rdma.Event
	errno, err := m.wait.next(func() (bool, C.int) { return m.take(&out) })
	if err != nil {
		return rdma.Event{}, fmt.Errorf("ibverbs: wait for an event of the connection manager: %w", err)
	}
	if errno != 0 {
		return out, failure("read an event of the connection manager (rdma_get_cm_event)", errno)
	}
	return out, nil
}

// take reads an event, and reports whether it is one to tell of, or why there is none.
func (m *cm) take(out *rdma.Event) (told bool, errno C.int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var e C.struct_s_event
	if rc := C.s_next_event(m.p.lib, m.channel, &e); rc < 0 {
		return false, -rc
	}
	*out = rdma.Event{
		Status: int(max(e.status, -e.status)),
		Local:  fromC(e.local),
		Remote: fromC(e.peer),
		Params: rdma.ConnParams{
			ReadsIn: uint8(e.params.reads_in), ReadsOut: uint8(e.params.reads_out), Retries: uint8(e.params.retries), RNR: uint8(e.params.rnr),
		},
	}
	if c := m.p.cardOf(e.context); c != nil {
		out.Card = c
	}
	if e.private_bytes > 0 {
		out.Private = C.GoBytes(unsafe.Pointer(&e.private_data[0]), C.int(e.private_bytes))
	}
	out.Params.Private = out.Private
	if e.kind == C.V_CM_CONNECT_REQUEST {
		return m.come(&e, out), 0
	}
	out.ID = rdma.ID(e.number)
	if m.p.find(out.ID) == nil {
		return false, 0
	}
	switch e.kind {
	case C.V_CM_ROUTE_RESOLVED:
		out.Kind = rdma.EventRoute
	case C.V_CM_ESTABLISHED:
		out.Kind = rdma.EventEstablished
	case C.V_CM_REJECTED:
		out.Kind = rdma.EventRejected
		if e.status == rejectNoListener {
			out.Kind, out.Status = rdma.EventUnreachable, int(syscall.ECONNREFUSED)
		}
	case C.V_CM_ADDR_ERROR, C.V_CM_ROUTE_ERROR, C.V_CM_UNREACHABLE, C.V_CM_CONNECT_ERROR:
		out.Kind = rdma.EventUnreachable
	case C.V_CM_DISCONNECTED:
		out.Kind = rdma.EventDisconnected
	case C.V_CM_DEVICE_REMOVAL:
		out.Kind = rdma.EventRemoval
		if c, is := out.Card.(*card); is {
			c.goes()
		}
	case C.V_CM_ADDR_CHANGE:
		out.Kind = rdma.EventAddress
	case C.V_CM_TIMEWAIT_EXIT:
		out.Kind = rdma.EventTimewait
	default:
		// V_CM_ADDR_RESOLVED, which has led to the search for the route. Others are of connections without queue pairs, and of multicast.
		return false, 0
	}
	return true, 0
}

// come takes in a connection that somebody wants. Its listener may have been destroyed since the event was made: then nobody wants it here.
func (m *cm) come(e *C.struct_s_event, out *rdma.Event) bool {
	c := &conn{m: m, at: e.id}
	of := m.p.find(rdma.ID(e.listener_no))
	if of == nil || of.at != e.listener {
		C.s_reject(m.p.lib, c.at, nil, 0)
		C.s_destroy_id(m.p.lib, c.at)
		return false
	}
	m.p.enter(c)
	C.s_number_id(c.at, C.uint64_t(c.id))
	out.Kind, out.ID, out.Listener = rdma.EventConnect, c.id, of.id
	return true
}
