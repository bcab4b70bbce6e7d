package initiator

import "github.com/pollux-storage/pollux/nvmf"

// This file is the Asynchronous Event Requests by which a target tells of changes. Each waits at the target until there is an
// event; the controller's goroutine handles it, reads the log page that unmasks the next of its kind, and arms the request
// again.

// eventsMax is the number of requests that are armed. They leave the Admin queue adminSpare slots: one for a command, one for keep-alive.
const (
	eventsMax  = 4
	adminSpare = 2
)

// eventRequest is one of them.
type eventRequest struct{ a *association }

// armEvent lets the target tell one event.
func (a *association) armEvent() {
	q := a.admin
	_ = a.home.Go(func() {
		if !q.hasSlot() {
			return
		}
		c := q.acquire(eventRequest{a})
		c.sqe.Init(uint8(nvmf.AdminAER), 0, 0)
		c.patient = true
		q.start(c)
	})
}

// answered takes an event.
func (e eventRequest) answered(cqe nvmf.CQE) {
	if cqe.Status.OK() {
		e.a.events <- nvmf.DecodeEvent(cqe.DW0) // as many fit as there are requests
	}
}

// lost hears that the Admin queue ended.
func (e eventRequest) lost(bool) {}
