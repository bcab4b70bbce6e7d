package nvmf

import (
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the Admin commands: what each is answered by, and where. Identify is in identifying.go, features are in
// features.go, log pages in pages.go.

// admin executes an Admin command.
func (k *controller) admin(c *command) {
	op := AdminOpcode(c.sqe.Opcode())
	if k.discovery() && !discoveryCommand(op) {
		k.aq.respond(c, StatusInvalidOpcode|DNR)
		return
	}
	switch op {
	case AdminIdentify:
		k.identify(c)
	case AdminGetLogPage:
		k.logPage(c)
	case AdminGetFeatures:
		k.getFeature(c)
	case AdminSetFeatures:
		k.setFeature(c)
	case AdminAER:
		k.events.request(k, c)
	case AdminKeepAlive:
		k.keepAlive()
		k.aq.respond(c, StatusSuccess)
	case AdminAbort:
		k.abort(c)
	default:
		k.aq.respond(c, StatusInvalidOpcode|DNR)
	}
}

// discoveryCommand reports what a discovery controller takes. Base Specification 2.0, "Discovery Controller".
func discoveryCommand(op AdminOpcode) bool {
	switch op {
	case AdminIdentify, AdminGetLogPage, AdminGetFeatures, AdminSetFeatures, AdminAER, AdminKeepAlive:
		return true
	}
	return false
}

// abort ends another command. Base Specification 2.0, "Abort command": DW0 bit 0 is set if nothing was aborted.
func (k *controller) abort(c *command) {
	qid, cid := c.sqe.AbortSQID(), c.sqe.AbortCID()
	c.dw0 = 1
	if qid == 0 {
		if o := k.aq.find(cid); o != nil && o != c && k.events.abort(k, o) {
			c.dw0 = 0
		}
		k.aq.respond(c, StatusSuccess)
		return
	}
	l := k.queues[qid]
	if l == nil {
		k.aq.respond(c, StatusSuccess)
		return
	}
	if k.aborts == abortsMax {
		k.aq.respond(c, StatusAbortLimit)
		return
	}
	k.aborts++
	l.sendAbort(k.share.pg, &abortMessage{k: k, c: c, l: l, cid: cid})
}

// abortMessage looks for a command on its queue's reactor and comes back with the answer.
type abortMessage struct {
	k     *controller
	c     *command
	l     *queueLink
	cid   CID
	asked bool
	ended bool
}

// Receive goes on, at the queue and then at the controller.
func (m *abortMessage) Receive(r *reactor.Reactor) {
	if !m.asked {
		m.asked = true
		if q := m.l.q; q != nil && q.state == queueLive {
			if o := q.find(m.cid); o != nil {
				m.ended = q.abort(o)
			}
		}
		m.k.share.pg.target.groups[r.Index()].send(m.l.owner, m)
		return
	}
	m.k.aborts--
	if m.ended {
		m.c.dw0 = 0
	}
	m.c.q.respond(m.c, StatusSuccess)
}

// abort ends a command if it still can be: one that waits for memory at once, one that waits for its data when that is here, one at a
// device if the device still holds it back.
func (q *queue) abort(c *command) bool {
	if (c.pair != nil || c == q.half) && c.state != commandResponding {
		return q.abortHalf(c)
	}
	switch c.state {
	case commandFetching:
		if c.place == DataTransfer && q.memory.Forget(&c.loan) { // no data was asked for
			q.respond(c, StatusAbortRequested)
			return true
		}
		c.aborted = true
		return true
	case commandExecuting:
		if c.ns != nil && c.req.InFlight() {
			return c.ns.ch.Abort(&c.req)
		}
		if q.memory.Forget(&c.loan) {
			q.respond(c, StatusAbortRequested)
			return true
		}
	}
	return false
}
