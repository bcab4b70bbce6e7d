//go:build cgo

package ibverbs

// #include "shim.h"
import "C"

import (
	"fmt"
	"slices"
	"sync"
	"syscall"

	"github.com/pollux-storage/pollux/rdma"
)

// This file is what cards tell outside of completions. librdmacm opens a card once for all of a process: a target and an initiator have a provider each, with
// protection domains of their own, and one descriptor for events, of which each is read once. So who reads one gives it to all whom it concerns.

// device is a card as the process has it open.
type device struct {
	mu    sync.Mutex // held while an event is read, and while what it could be about is destroyed. Taken after cm.mu.
	cards []*card    // of all providers, as long as they have it open
}

var devices = struct {
	sync.Mutex
	of map[C.uintptr_t]*device // by context
}{of: map[C.uintptr_t]*device{}}

// enter finds the device of a card, or makes it known.
func (c *card) enter() {
	devices.Lock()
	defer devices.Unlock()
	d := devices.of[c.context]
	if d == nil {
		d = &device{}
		devices.of[c.context] = d
	}
	c.dev, c.mu = d, &d.mu
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cards = append(d.cards, c)
}

// leave ends that. Its context may then be closed, and another's be made in the same place.
func (c *card) leave() {
	devices.Lock()
	defer devices.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dev.cards = slices.DeleteFunc(c.dev.cards, func(o *card) bool { return o == c }); len(c.dev.cards) == 0 {
		delete(devices.of, c.context)
	}
}

// NextEvent waits for the next event.
func (c *card) NextEvent() (rdma.CardEvent, error) {
	var out rdma.CardEvent
	errno, err := c.wait.next(func() (bool, C.int) { return c.takeEvent(&out) })
	if err != nil {
		return out, fmt.Errorf("ibverbs: %s: wait for an event of the card: %w", c.name, err)
	}
	if errno != 0 {
		return out, c.failure("read an event of the card (ibv_get_async_event)", errno)
	}
	return out, nil
}

// toldMax is how many events wait for a card that does not ask for them.
const toldMax = 256

// takeEvent gives an event that was read for c, or reads one, and reports whether it is one to tell of, or why there is none.
func (c *card) takeEvent(out *rdma.CardEvent) (told bool, errno C.int) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return false, C.int(syscall.ENODEV)
	}
	if len(c.told) > 0 {
		*out = c.told[0]
		c.told = slices.Delete(c.told, 0, 1)
		c.mu.Unlock()
		return true, 0
	}
	var e C.struct_s_async
	if rc := C.s_next_async(c.p.lib, c.context, &e); rc < 0 {
		c.mu.Unlock()
		return false, -rc
	}
	var of *conn
	to := c.dev.cards
	if e.qp != 0 {
		to = nil // of one that is destroyed: nobody
		for i, o := range c.dev.cards {
			if of = o.qps[rdma.QP(e.qp)]; of != nil {
				to = c.dev.cards[i : i+1]
				break
			}
		}
	}
	event, is := cardEvent(&e)
	if of != nil {
		event.ID = of.id
	}
	for _, o := range to {
		switch {
		case !is:
		case o == c:
			*out, told = event, true
		default:
			o.told = append(o.told[max(0, len(o.told)-toldMax+1):], event)
			if o.wait != nil {
				o.wait.nudge()
			}
		}
		if event.Kind == rdma.CardFatal {
			o.goesLocked()
		}
	}
	c.mu.Unlock()
	if e.event == C.V_EVENT_COMM_EST && of != nil {
		of.m.communication(of)
	}
	return told, 0
}

// cardEvent is an event as package rdma has it, without the ID, if it is one to tell of.
func cardEvent(e *C.struct_s_async) (out rdma.CardEvent, is bool) {
	out = rdma.CardEvent{Port: int(e.port), CQ: rdma.CQ(e.cq), SRQ: rdma.SRQ(e.srq)}
	switch e.event {
	case C.V_EVENT_PORT_ACTIVE:
		out.Kind = rdma.CardPortUp
	case C.V_EVENT_PORT_ERR:
		out.Kind = rdma.CardPortDown
	case C.V_EVENT_DEVICE_FATAL:
		out.Kind = rdma.CardFatal
	case C.V_EVENT_CQ_ERR:
		out.Kind = rdma.CardCQFatal
	case C.V_EVENT_SRQ_ERR:
		out.Kind = rdma.CardSRQFatal
	case C.V_EVENT_QP_FATAL, C.V_EVENT_QP_REQ_ERR, C.V_EVENT_QP_ACCESS_ERR:
		out.Kind = rdma.CardQPFatal
	case C.V_EVENT_QP_LAST_WQE_REACHED:
		out.Kind = rdma.CardLastReceive
	default:
		return rdma.CardEvent{}, false
	}
	return out, true
}
