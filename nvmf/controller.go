package nvmf

import (
	"slices"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is a controller: what a host made by an Admin Connect. It lives, with its Admin queue, on the reactor that owns its
// subsystem; its I/O queues live anywhere and are tied to it by a queueLink.
//
// Its life, in order: made by Connect → enabled by CC.EN → ready → shut down or disabled, and enabled again → closing (its
// connections end) → gone (its identifier is free).

// readyTimeout is what CAP.TO and CRTO say, in 500 ms: a controller is ready at once, but Linux takes 0 for a defect.
const readyTimeout = 1

// asyncEventsMax is the number of Asynchronous Event Requests that may be outstanding: AERL + 1.
const asyncEventsMax = 4

// abortsMax is ACL + 1.
const abortsMax = 4

// controller is one association of a host with a subsystem.
type controller struct {
	share *subsystemShare
	id    CNTLID
	host  hostIdentity
	aq    *queue

	limits *TransportOptions // of the transport by which the host came

	queues map[QID]*queueLink

	cap  CAP
	cc   CC
	csts CSTS

	kato reactor.Ticks // 0: none

	connected reactor.Ticks // kato as the Connect said it, to which a reset goes back

	heard  reactor.Ticks // when a command last came
	timer  reactor.Timer
	events asyncEvents
	f      features
	errors errorLog

	notices reservationNotices
	found   discoveryRead // of a discovery controller

	closing  bool
	aborts   int // on their way
	flush    shutdownFlush
	disabled bool // I/O queues close for CC.EN 0 or a shutdown; when they have, csts follows
	whenGone []func()
}

// queueLink ties an I/O queue to its controller. Each side touches its own fields on its own reactor and tells the other by
// the messages that are part of it.
type queueLink struct {
	cntlid CNTLID
	qid    QID
	host   *hostIdentity
	owner  *reactor.Reactor
	home   *reactor.Reactor // where the owner finds the queue
	every  reactor.Ticks    // how often the home tells of commands
	kato   reactor.Ticks    // the controller's at the Connect; 0: none
	fixed  bool             // its connection stays on its reactor, which counts it itself
	delays bool             // answers name a retry delay; what the host said before it made the queue counts

	k    *controller // the owner's; nil when the queue is gone
	move *queueMove  // the owner's; nil when the queue does not move
	next *handoff    // the owner's: a Connect for the same QID that waits for this queue to be gone
	q    *queue      // the home's; nil before it is made and after it is gone

	going  bool            // the owner's: the queue is between two reactors
	aborts []*abortMessage // the owner's: they wait for its arrival

	gone  linkGone
	end   linkEnd
	alive linkAlive
}

// linkGone tells the owner that the queue has closed.
type linkGone struct{ l *queueLink }

// linkEnd tells the home to close the queue.
type linkEnd struct {
	l    *queueLink
	sent bool
}

// linkAlive tells the owner that commands came by the queue.
type linkAlive struct {
	l *queueLink
}

// Receive ends the queue.
func (m *linkEnd) Receive(*reactor.Reactor) {
	if m.l.q != nil {
		m.l.q.close()
	}
}

// Receive forgets the queue.
func (m *linkGone) Receive(*reactor.Reactor) {
	if k := m.l.k; k != nil {
		m.l.k = nil
		if !m.l.fixed {
			k.share.pg.target.placed[m.l.home.Index()].Add(-1)
		}
		delete(k.queues, m.l.qid)
		if h := m.l.next; h != nil {
			m.l.next = nil
			k.share.pg.r.StopTimer(&h.wait)
			h.Receive(k.share.pg.r)
		}
		k.queueGone()
	}
}

// Receive restarts the keep-alive interval.
func (m *linkAlive) Receive(r *reactor.Reactor) {
	if k := m.l.k; k != nil {
		k.heard = r.Now()
	}
}

// newController makes a controller and its Admin queue, for a Connect that was judged.
func (s *subsystemShare) newController(h *handoff) {
	id := s.nextCNTLID
	for s.controllers[id] != nil {
		id = s.after(id)
	}
	s.nextCNTLID = s.after(id)
	q := h.origin.open(s.pg, 0, h.sqe.QueueEntries())
	k := &controller{
		share: s, id: id, limits: h.port.limits, aq: q, host: hostIdentity{h.data.HOSTNQN, h.data.HOSTID}, queues: map[QID]*queueLink{},
		cap: MakeCAP(h.port.limits.queueEntries(1), readyTimeout, s.sub.o.NSSR),
	}
	q.ctrl = k
	k.setKATO(h.sqe.ConnectKATO())
	k.connected = k.kato
	k.events.init(s.pg.target)
	s.controllers[id] = k
	s.attach(q, &k.host, h.port)
	s.pg.adminMade++
	h.accept(q, id)
	s.pg.target.log.Info("a host connected", "subsystem", s.sub.o.NQN, "host", k.host.nqn, "controller", id, "reactor", s.pg.r.Index())
}

func (s *subsystemShare) after(id CNTLID) CNTLID {
	if id >= s.sub.o.MaxCNTLID {
		return s.sub.o.MinCNTLID
	}
	return id + 1
}

// newIOQueue makes the tie to an I/O queue, and chooses its reactor.
func (s *subsystemShare) newIOQueue(h *handoff) *queueLink {
	k := s.controllers[h.data.CNTLID]
	qid := h.sqe.ConnectQID()
	home := h.origin.home()
	fixed := home != nil
	if !fixed {
		home = k.home(qid, h.origin.cpu())
		s.pg.target.placed[home.Index()].Add(1)
	}
	// The timeout may be set anew later, but never below the minimum.
	every := min(2*reactor.Second, reactor.Ticks(k.limits.MinKATO)*reactor.Millisecond/4)
	l := &queueLink{cntlid: k.id, qid: qid, host: &k.host, owner: s.pg.r, home: home, fixed: fixed, k: k, every: every, delays: k.delaysRetries(), kato: k.kato}
	l.gone.l, l.end.l, l.alive.l = l, l, l
	k.queues[qid] = l
	return l
}

// ready reports that I/O queues may be made.
func (k *controller) ready() bool {
	return k.csts&CSTSRDY != 0 && k.csts&CSTSShutMask == 0 && !k.disabled
}

// queuesMax is the number of I/O queues that the host may make.
func (k *controller) queuesMax() uint32 { return k.limits.MaxQueues }

// configure takes a write of CC. Base Specification 2.0, "Controller Configuration".
func (k *controller) configure(c *command, cc CC) {
	was := k.cc
	k.cc = cc
	switch {
	case cc.EN() && !was.EN():
		if cc.MPS() != 0 || cc.CSS() != 0 || cc.AMS() != 0 || !k.discovery() && (cc.IOSQES() != IOSQES || cc.IOCQES() != IOCQES) {
			k.csts |= CSTSCFS
			break
		}
		k.csts = CSTSRDY
		// No setting of the host outlives a reset. Base Specification 2.1, "Set Features command, Feature Identifiers".
		k.f, k.kato, k.notices.mask = newFeatures(k.share.pg.r.Now()), k.connected, nil
		k.keepAlive()
	case !cc.EN() && was.EN():
		// "Controller Level Reset": queues and events go, the association stays.
		k.share.pg.r.StopTimer(&k.timer)
		k.csts &^= CSTSCFS
		k.events.drop(k)
		k.disable()
	}
	if shn := cc.SHN(); shn != SHNNone && shn != was.SHN() {
		k.csts = k.csts&^CSTSShutMask | CSTSShutting
		k.share.pg.r.StopTimer(&k.timer)
		k.disable()
	}
	k.aq.respond(c, StatusSuccess)
}

// discovery reports whether this is a controller of the discovery service.
func (k *controller) discovery() bool { return k.share.sub.discovery }

// disable closes the I/O queues; when the last has gone, queueGone says so in CSTS.
func (k *controller) disable() {
	k.disabled = true
	k.closeQueues()
	k.queueGone()
}

// shutdownFlush makes durable what the host wrote, namespace by namespace, before a shutdown is reported complete. Base
// Specification 2.0, "Shutdown Processing".
type shutdownFlush struct {
	k       *controller
	req     bdev.Request
	ns      *namespaceShare
	at      int
	running bool
	done    bool
}

func (f *shutdownFlush) start(k *controller) {
	if f.running {
		return
	}
	f.k, f.at, f.running, f.done = k, 0, true, false
	f.req.Done = f
	f.next()
}

func (f *shutdownFlush) next() {
	for ; f.k.aq != nil && f.at < len(f.k.aq.ns); f.at++ {
		if n := f.k.aq.ns[f.at].ns; n != nil && n.ch.Geometry().Volatile && !n.ch.Geometry().ReadOnly {
			f.at++
			f.ns = n
			n.enter()
			f.req.Kind = bdev.Flush
			n.ch.Submit(&f.req)
			return
		}
	}
	f.req.Release()
	f.running, f.done = false, true
	f.k.queueGone()
}

// RequestDone goes on with the next namespace.
func (f *shutdownFlush) RequestDone(q *bdev.Request) {
	if q.Status != bdev.StatusOK {
		f.k.csts |= CSTSCFS // no other way to tell the host: its commands have all been answered
		f.k.share.pg.target.log.Error("a flush at the shutdown of a controller failed", "namespace", f.ns.ns.NSID, "device", f.ns.ns.BdevName, "status", q.Status.String())
	}
	f.ns.leave(StatusSuccess)
	f.next()
}

func (k *controller) closeQueues() {
	ids := make([]QID, 0, len(k.queues))
	for id := range k.queues {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		if l := k.queues[id]; l != nil {
			l.sendEnd(k.share.pg)
		}
	}
}

// queueGone hears that an I/O queue has closed.
func (k *controller) queueGone() {
	if len(k.queues) > 0 {
		return
	}
	if k.disabled {
		if k.csts&CSTSShutMask == CSTSShutting && !k.closing && !k.flush.done {
			k.flush.start(k)
			return
		}
		k.disabled, k.flush.done = false, false
		if k.csts&CSTSShutMask == CSTSShutting {
			k.csts = k.csts&^CSTSShutMask | CSTSShutDone
		}
		if !k.cc.EN() {
			k.csts &^= CSTSRDY | CSTSShutMask
		}
	}
	k.endIfDone()
}

// close ends the association: every connection of it closes.
func (k *controller) close(why string) {
	if k.closing {
		return
	}
	k.closing = true
	k.share.pg.target.log.Info("a host's controller ends", "subsystem", k.share.sub.o.NQN, "host", k.host.nqn, "controller", k.id, "why", why)
	k.share.pg.r.StopTimer(&k.timer)
	k.closeQueues()
	if k.aq != nil {
		k.aq.close()
	}
	k.endIfDone()
}

// adminGone hears that the Admin queue has closed, and with it the association.
func (k *controller) adminGone() {
	k.aq = nil
	k.close("its connection closed")
	k.endIfDone()
}

func (k *controller) endIfDone() {
	if !k.closing || k.aq != nil || len(k.queues) > 0 || k.flush.running || k.share.controllers[k.id] != k {
		return
	}
	k.dropDiscovery()
	delete(k.share.controllers, k.id)
	for _, f := range k.whenGone {
		f()
	}
}

// setKATO takes over the keep-alive timeout in milliseconds, rounded up to our granularity and minimum.
func (k *controller) setKATO(ms uint32) {
	if ms == 0 && k.discovery() {
		ms = discoveryIdle
	}
	if ms == 0 {
		k.kato = 0
		k.share.pg.r.StopTimer(&k.timer)
		return
	}
	o := k.limits
	unit := uint32(o.KAS) * 100
	ms = max(ms, o.MinKATO)
	ms = (ms + unit - 1) / unit * unit
	k.kato = reactor.Ticks(ms) * reactor.Millisecond
	k.keepAlive()
}

// discoveryIdle is the keep-alive timeout, in milliseconds, of a discovery controller that asked for none: half of the two
// idle minutes after which it is closed. Base Specification 2.0, "Discovery Controller Initialization".
const discoveryIdle = 60_000

// keepAlive starts the interval anew, where there is a timeout and the controller runs.
func (k *controller) keepAlive() {
	r := k.share.pg.r
	k.heard = r.Now()
	if k.kato > 0 && k.csts&CSTSRDY != 0 && k.csts&CSTSShutMask == 0 {
		r.SetTimer(&k.timer, k.heard+k.kato, k)
	}
}

// Run looks whether the host is alive. With traffic based keep alive any command counts, and I/O queues report theirs once in
// an interval, so the connection ends within twice the timeout. Base Specification 2.0, "Keep Alive".
func (k *controller) Run() {
	r := k.share.pg.r
	if k.kato == 0 || k.closing {
		return
	}
	if due := k.heard + 2*k.kato; r.Now() < due {
		r.SetTimer(&k.timer, due, k)
		return
	}
	k.errors.add(ErrorEntry{SQID: 0xFFFF, CID: 0xFFFF, Status: StatusKeepAliveExpired, Byte: 0xFFFF})
	k.csts |= CSTSCFS
	k.close("its keep-alive timeout expired")
}

// heardOf tells the controller of an I/O queue that a command came, four times in its interval at most.
func (q *queue) heardOf(now reactor.Ticks) {
	if now-q.told < q.link.every {
		return
	}
	q.told = now
	q.pg.send(q.link.owner, &q.link.alive)
}

// admit judges an Admin command before its data is asked for.
func (k *controller) admit(c *command) Status {
	if k.csts&CSTSRDY == 0 {
		return StatusSequence | DNR
	}
	if c.transfer > k.limits.MaxIOBytes {
		return StatusInvalidField | DNR
	}
	return StatusSuccess
}

// reconfigured hears that namespaces came, went or changed, or that ANA states did.
func (k *controller) reconfigured(changed []NSID) {
	if k.aq == nil || len(changed) == 0 {
		return
	}
	k.events.namespaces(k, changed)
}

// dropEvents answers nothing: it frees the requests that wait for events, when the queue closes.
func (k *controller) dropEvents() {
	for _, c := range k.events.waiting[:k.events.n] {
		k.aq.release(c)
	}
	k.events.n = 0
}

// resetSubsystem ends every controller, as NVM Subsystem Reset does. Base Specification 2.0, "NVM Subsystem Reset".
func (s *subsystemShare) resetSubsystem() {
	for _, k := range s.sortedControllers() {
		k.csts |= CSTSNSSRO
		k.close("NVM subsystem reset")
	}
}

// asyncEvents is what a controller has to tell its host, and the requests by which the host lets it. Base Specification 2.0,
// "Asynchronous Event Request command": an event is masked from when it is told until its log page is read.
type asyncEvents struct {
	waiting [asyncEventsMax]*command
	n       int
	config  uint32 // feature 0Bh
	pending [4]bool
	masked  [4]bool
	changed []NSID // log page 04h; nil entry list is none
	over    bool   // more than the page holds
}

// The events, in the order in which they are told.
const (
	eventNamespaces = iota
	eventANA
	eventDiscovery
	eventReservation
)

var asyncEventOf = [...]Event{eventNamespaces: EventNamespaces, eventANA: EventANA, eventDiscovery: EventDiscovery, eventReservation: EventReservation}

// configBit is what must be set in feature 0Bh for an event to be told; 0 for none.
var configBit = [...]uint32{eventNamespaces: OAESNamespaces, eventANA: OAESANA, eventDiscovery: OAESDiscovery, eventReservation: 0}

func (e *asyncEvents) init(*Target) { e.changed = make([]NSID, 0, 16) }

// request takes an Asynchronous Event Request.
func (e *asyncEvents) request(k *controller, c *command) {
	if e.n == asyncEventsMax {
		k.aq.respond(c, StatusAERLimit)
		return
	}
	e.waiting[e.n] = c
	e.n++
	e.tell(k)
}

// raise notes an event and tells it if the host lets us.
func (e *asyncEvents) raise(k *controller, i int) {
	if bit := configBit[i]; bit != 0 && e.config&bit == 0 {
		return
	}
	e.pending[i] = true
	e.tell(k)
}

func (e *asyncEvents) tell(k *controller) {
	for i := range e.pending {
		if !e.pending[i] || e.masked[i] || e.n == 0 {
			continue
		}
		c := e.waiting[0]
		copy(e.waiting[:], e.waiting[1:e.n])
		e.n--
		e.pending[i], e.masked[i] = false, true
		c.dw0 = asyncEventOf[i].DW0()
		k.aq.respond(c, StatusSuccess)
	}
}

// read hears that the host has read an event's page with RAE 0, which unmasks it.
func (e *asyncEvents) read(k *controller, i int) {
	e.masked[i] = false
	e.tell(k)
}

// namespaces notes which namespaces changed, for log page 04h.
func (e *asyncEvents) namespaces(k *controller, ids []NSID) {
	for _, id := range ids {
		if at, found := slices.BinarySearch(e.changed, id); !found {
			if len(e.changed) == ChangedMax {
				e.over = true
				break
			}
			e.changed = slices.Insert(e.changed, at, id)
		}
	}
	e.raise(k, eventNamespaces)
}

// abort ends the request with a CID, if it is one.
func (e *asyncEvents) abort(k *controller, c *command) bool {
	for i, w := range e.waiting[:e.n] {
		if w == c {
			copy(e.waiting[i:], e.waiting[i+1:e.n])
			e.n--
			k.aq.respond(c, StatusAbortRequested)
			return true
		}
	}
	return false
}

// drop answers every waiting request, at a reset of the controller.
func (e *asyncEvents) drop(k *controller) {
	for e.n > 0 {
		e.n--
		k.aq.respond(e.waiting[e.n], StatusAbortRequested)
	}
	e.pending, e.masked, e.config = [4]bool{}, [4]bool{}, 0
	invariant.Check(e.n == 0, "nvmf: events left")
}

// errorLog keeps the newest errors for log page 01h.
type errorLog struct {
	entries [errorLogMax]ErrorEntry // a ring
	count   uint64
}

const errorLogMax = 64

func (l *errorLog) add(e ErrorEntry) {
	l.count++
	e.Count = l.count
	l.entries[l.count%errorLogMax] = e
}

// noteError keeps the error of an Admin command. A failed Connect or Fabrics command leaves none.
func (k *controller) noteError(c *command) {
	if c.sqe.Opcode() == OpcodeFabrics {
		return
	}
	k.errors.add(ErrorEntry{SQID: 0, CID: c.cid, Status: c.status, Byte: 0xFFFF, NSID: c.sqe.NSID(), TRTYPE: TransportTCP, Opcode: c.sqe.Opcode()})
}
