package nvmf

import (
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the Fabrics commands: Connect, by which a connection becomes a queue, and the properties.
//
// The way of a Connect: the reactor that accepted the connection reads it and hands the connection to the reactor that owns the
// subsystem. There it is judged, all controllers of a subsystem being owned in one place. An Admin queue stays there; an I/O
// queue goes on to the reactor that is to serve it. The answer leaves from wherever the queue came to rest.
//
// A connection that is fixed to its reactor (an I/O queue over RDMA) stays there: its Connect travels to the owner by itself, and is answered,
// refusals too, when it has come back.

// fabrics executes a Fabrics command.
func (q *queue) fabrics(c *command) {
	switch t := c.sqe.FCTYPE(); {
	case t == FabricsConnect:
		q.connect(c)
	case t == FabricsAuthSend:
		q.authSend(c)
	case t == FabricsAuthReceive:
		q.authReceive(c)
	case q.id == 0 && t == FabricsPropertyGet:
		q.ctrl.propertyGet(c)
	case q.id == 0 && t == FabricsPropertySet:
		q.ctrl.propertySet(c)
	case t == FabricsDisconnect:
		q.respond(c, StatusInvalidOpcode|DNR) // not offered: OFCS says so
	default:
		// Base Specification 2.0, "Fabrics Command Set": on an I/O queue only Connect, authentication and Disconnect.
		q.respond(c, StatusInvalidField|DNR)
	}
}

// origin is a connection on its way to a reactor.
type origin interface {
	// open makes the queue there; it is nil if the connection has ended meanwhile.
	open(pg *pollGroup, id QID, entries uint32) *queue
	// home is the only reactor on which it can be opened; nil: any.
	home() *reactor.Reactor
	// entries is how many commands the connection can have open as the queue of an identifier; 0: it cannot be that queue.
	entries(id QID) uint32
	cpu() int // on which its packets come in, -1 if that is not known
	// close ends a connection that finds no reactor. One that is fixed to another reactor than pg's ends there.
	close(pg *pollGroup)
}

// handoff carries a connection and its Connect from reactor to reactor.
type handoff struct {
	origin  origin
	command *command // at the reactor that accepted it, until the connection leaves
	sub     *Subsystem
	port    *portal
	sqe     SQE
	data    ConnectData
	link    *queueLink // decided: the I/O queue that it becomes

	refused Status // decided: the answer, not a success, and its DW0
	dw0     uint32

	waitsFor *queueLink // the queue of the same QID that is to be gone first
	wait     reactor.Timer
	waited   bool
}

// queueGoneTimeout is how long a Connect waits for a queue of the same QID to be gone: after a reset a host comes back before
// we have done with its old connection.
const queueGoneTimeout = 2 * reactor.Second

// Run refuses a Connect that has waited long enough.
func (h *handoff) Run() {
	if l := h.waitsFor; l != nil && l.next == h {
		l.next = nil
	}
	pg := h.sub.target.groups[h.sub.owner]
	h.refuse(pg, StatusSequence, 0)
}

// connect begins to serve a Connect.
func (q *queue) connect(c *command) {
	if q.state != queueConnecting {
		q.respond(c, StatusSequence|DNR)
		return
	}
	data, s, ipo := DecodeConnectData(c.data)
	if !s.OK() {
		c.dw0 = uint32(ipo)
		q.respond(c, s)
		return
	}
	if c.sqe.RECFMT() != 0 {
		q.respond(c, StatusConnectFormat|DNR)
		return
	}
	share := q.pg.byNQN[data.SUBNQN]
	if share == nil {
		c.dw0 = uint32(IPOSUBNQN)
		q.respond(c, q.pg.unknownSubsystem())
		return
	}
	h := &handoff{command: c, sub: share.sub, port: q.t.portal(), sqe: c.sqe, data: data}
	q.t.handOver(h)
}

// depart sends the connection on to the reactor that owns the subsystem, or judges it here if that is this one.
func (h *handoff) depart(from *pollGroup) {
	owner := from.target.group.Reactor(h.sub.owner)
	if owner == from.r {
		h.Receive(owner)
		return
	}
	from.r.Send(owner, h)
}

// Receive goes on with the Connect on the reactor that it came to.
func (h *handoff) Receive(r *reactor.Reactor) {
	pg := h.sub.target.groups[r.Index()]
	if pg.stopping {
		h.origin.close(pg)
		if h.link != nil {
			pg.send(h.link.owner, &h.link.gone)
		}
		return
	}
	switch {
	case h.link != nil:
		h.settle(pg)
		return
	case !h.refused.OK():
		h.refuse(pg, h.refused, h.dw0)
		return
	}
	share := pg.shares[h.sub]
	if share == nil {
		h.refuse(pg, pg.unknownSubsystem(), uint32(IPOSUBNQN)) // deleted while the connection travelled
		return
	}
	s, dw0 := share.judge(h)
	if s == StatusSequence && !h.waited {
		if l := share.controllers[h.data.CNTLID].queues[h.sqe.ConnectQID()]; l.next == nil {
			h.waited, h.waitsFor, l.next = true, l, h
			r.SetTimer(&h.wait, r.Now()+queueGoneTimeout, h)
			return
		}
	}
	if !s.OK() {
		h.refuse(pg, s, dw0)
		return
	}
	if h.sqe.ConnectQID() == 0 {
		share.newController(h)
		return
	}
	h.link = share.newIOQueue(h)
	if h.link.home == pg.r {
		h.settle(pg)
		return
	}
	pg.r.Send(h.link.home, h)
}

// refuse answers the Connect with an error. The host may try again on the same connection.
func (h *handoff) refuse(pg *pollGroup, s Status, dw0 uint32) {
	if pg.stopping {
		h.origin.close(pg)
		return
	}
	if home := h.origin.home(); home != nil && home != pg.r {
		h.refused, h.dw0 = s, dw0
		pg.r.Send(home, h)
		return
	}
	pg.refused++
	q := h.origin.open(pg, 0, 1)
	if q == nil {
		return
	}
	q.expectConnect()
	c := h.slot(q)
	c.dw0 = dw0
	q.respond(c, s)
	q.t.resume()
}

// slot takes a slot of the new queue for the Connect itself, which every queue answers as its first command.
func (h *handoff) slot(q *queue) *command {
	c, _, _ := q.acquire(&h.sqe)
	c.state = commandExecuting
	return c
}

// accept answers the Connect with success.
func (h *handoff) accept(q *queue, id CNTLID) {
	invariant.Check(q.state == queueConnecting, "nvmf: a queue is made of a connection that has ended")
	c := h.slot(q)
	c.dw0 = uint32(id)
	q.state = queueLive
	if q.requireAuth() {
		c.dw0 |= ConnectATR
	}
	// CATTR bit 2: the host asks to do without SQ flow control, and SQHD FFFFh in this answer says that we agree.
	noFlow := h.sqe.CATTR()&CATTRNoFlow != 0
	q.sqhd = 1 % uint16(min(q.entries, 0xFFFF))
	if noFlow {
		q.sqhd = 0xFFFF
	}
	q.respond(c, StatusSuccess)
	q.noFlow = noFlow
	q.t.resume()
}

// settle makes the I/O queue on its reactor.
func (h *handoff) settle(pg *pollGroup) {
	share := pg.shares[h.sub]
	var q *queue
	if share == nil {
		h.origin.close(pg)
	} else {
		q = h.origin.open(pg, h.sqe.ConnectQID(), h.sqe.QueueEntries())
	}
	if q == nil {
		pg.send(h.link.owner, &h.link.gone)
		return
	}
	q.link, h.link.q = h.link, q
	share.attach(q, h.link.host, h.port)
	pg.ioMade++
	h.accept(q, h.link.cntlid)
}

// judge checks a Connect in the order of Base Specification 2.0, "Connect Command and Response". With StatusConnectParameters
// the second result names the parameter. No answer carries DNR that a failover or a restart could mend: Linux gives up for good
// on one that does.
func (s *subsystemShare) judge(h *handoff) (Status, uint32) {
	v, d := s.view, &h.data
	if s.pg.target.draining.Load() {
		return StatusConnectBusy, 0 // the connection came before the drain
	}
	if d.HOSTNQN == "" {
		return StatusConnectParameters | DNR, uint32(IPOHOSTNQN)
	}
	if v.listenerOn(h.port) == nil {
		return StatusConnectHost | DNR, 0
	}
	if !v.allows(d.HOSTNQN) {
		s.pg.denied++
		return StatusConnectHost | DNR, 0
	}
	entries, qid := h.sqe.QueueEntries(), h.sqe.ConnectQID()
	most := min(h.port.limits.queueEntries(qid), h.origin.entries(qid))
	if most == 0 {
		return StatusConnectParameters | DNR, uint32(IPOQID)
	}
	if entries < 2 || entries > most {
		return StatusConnectParameters | DNR, uint32(IPOSQSIZE)
	}
	if qid == 0 {
		if d.CNTLID != CNTLIDDynamic {
			return StatusConnectParameters | DNR, uint32(IPOCNTLID)
		}
		if v.dupRestricted && s.duplicate(h) {
			return StatusConnectBusy, 0 // what it takes for one of two may be one that it has lost
		}
		if len(s.controllers) >= int(s.sub.o.MaxCNTLID-s.sub.o.MinCNTLID)+1 {
			return StatusConnectBusy, 0
		}
		return StatusSuccess, 0
	}
	// A host whose controller ended with the engine, or with the Admin queue, while it was making I/O queues, comes with the identifier of
	// none, or of another's: it is to begin with a new controller, so these carry no DNR.
	ctrl := s.controllers[d.CNTLID]
	switch {
	case s.sub.discovery:
		return StatusConnectParameters | DNR, uint32(IPOQID)
	case ctrl == nil || ctrl.closing:
		return StatusConnectParameters, uint32(IPOCNTLID)
	case ctrl.host.nqn != d.HOSTNQN:
		return StatusConnectParameters, uint32(IPOHOSTNQN)
	case h.port.limits != ctrl.limits: // one association has one transport
		return StatusConnectParameters, uint32(IPOCNTLID)
	case d.HOSTID != ctrl.host.id && d.HOSTID != [16]byte{}:
		return StatusConnectParameters, uint32(IPOHOSTID)
	case ctrl.aq.state == queueAuthenticating, ctrl.aq.state == queueDenied:
		return StatusAuthenticationNeeded, 0
	case !ctrl.ready():
		return StatusConnectParameters, uint32(IPOQID)
	case uint32(qid) > ctrl.queuesMax():
		return StatusConnectParameters | DNR, uint32(IPOQID)
	case ctrl.queues[qid] != nil:
		return StatusSequence, 0 // an old queue that is closing will be gone soon: without DNR the host tries again
	}
	return StatusSuccess, 0
}

// duplicate reports whether the host of a Connect has a controller by the same listener already.
func (s *subsystemShare) duplicate(h *handoff) bool {
	for _, k := range s.controllers {
		if !k.closing && k.aq != nil && k.aq.port == h.port && k.host.nqn == h.data.HOSTNQN && k.host.id == h.data.HOSTID {
			return true
		}
	}
	return false
}

// propertyGet answers Property Get. Base Specification 2.0, "Property Get Command and Response".
func (k *controller) propertyGet(c *command) {
	bytes := c.sqe.PropertyBytes()
	var v uint64
	want := 4
	switch c.sqe.PropertyOffset() {
	case PropertyCAP:
		v, want = uint64(k.cap), 8
	case PropertyVS:
		v = uint64(Version)
	case PropertyCC:
		v = uint64(k.cc)
	case PropertyCSTS:
		v = uint64(k.csts)
	case PropertyNSSR:
		if !k.cap.NSSRS() {
			want = 0
		}
	case PropertyCRTO:
		v = uint64(MakeCRTO(readyTimeout))
	default:
		want = 0
	}
	if bytes != want {
		k.aq.respond(c, StatusInvalidField|DNR)
		return
	}
	c.dw0, c.dw1 = uint32(v), uint32(v>>32)
	k.aq.respond(c, StatusSuccess)
}

// propertySet answers Property Set: only CC can be written, and NSSR, which does nothing where it is not enabled.
func (k *controller) propertySet(c *command) {
	v := uint32(c.sqe.PropertyValue())
	switch off := c.sqe.PropertyOffset(); {
	case c.sqe.PropertyBytes() != 4:
		k.aq.respond(c, StatusInvalidField|DNR)
	case off == PropertyCC:
		k.configure(c, CC(v))
	case off == PropertyNSSR:
		// Base Specification 2.0, "NVM Subsystem Reset": any other value than "NVMe" does nothing.
		k.aq.respond(c, StatusSuccess)
		if v == nssrValue && k.cap.NSSRS() {
			k.share.resetSubsystem()
		}
	default:
		k.aq.respond(c, StatusInvalidField|DNR)
	}
}

const nssrValue = 0x4E564D65 // "NVMe"
