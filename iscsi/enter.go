package iscsi

import (
	"math/bits"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is how a connection whose login is all but over becomes a session: it leaves the reactor that accepted it, gets its TSIH from the one that owns
// the node, and goes on where least is to do.
//
//	accepted ── arrival ──▶ owner: an older session of the same I_T nexus ends first ── arrival ──▶ home: last Login Response
//	                        entered ◀─────────────────────────────── settled ─────────────────────┤
//	                        ends it ───────────────────────────────▶ close                        │
//	                        forgets it ◀──────────────────────────── left ────────────────────────┘
//
// RFC 7143 section 6.3.5, "Session Reinstatement, Closure, and Timeout": a login with the initiator name, ISID and portal group of a session that is there
// ends that session and takes its place. The new one waits until the tasks of the old one are over. If another comes meanwhile, that one waits, and who
// waited is let go.
//
// On the way it is judged twice: the owner lets no more sessions be than there may be, and home asks the view that it has whether the node still lets
// the initiator in. Who is refused there hears it in the last Login Response.
//
// A discovery session stays where it was accepted.

// entryKey names the sessions of which there is one at a time.
type entryKey struct {
	node      *Node
	initiator string
	isid      ISID
	tag       int
	apart     uint64 // a number of its own where AllowDuplicatedISID lets there be several
}

// entry is a session as the owner of its node knows it.
type entry struct {
	key  entryKey
	tsih TSIH
	home *reactor.Reactor

	// On the owner.
	owner     *pollGroup
	settled   bool // it is at home: messages find it there
	ending    bool
	successor *arrival

	s *session // at home, nil before it is settled and after it has closed
}

// arrival is a connection on its way to become a session.
type arrival struct {
	entry    *entry // nil before it has one
	key      entryKey
	owner    *pollGroup
	fd       int
	port     *portal
	login    *login
	expCmdSN SerialNumber
	statSN   SerialNumber
	local    netip.AddrPort
	remote   netip.AddrPort
}

// targetSessions is what the reactors share of the target's sessions.
type targetSessions struct {
	tsihs  tsihs
	placed []atomic.Int32 // sessions of each reactor, from the time that they are sent there
	count  atomic.Int32   // of them all
	moving atomic.Int32   // connections that are between two reactors
	aparts atomic.Uint64

	discoveries atomic.Int32 // discovery sessions
}

// owner is where it is known which sessions a node has.
func (t *Target) owner(n *Node) *pollGroup { return t.groups[n.number%len(t.groups)] }

// tsihs are the TSIHs in use, by all reactors.
type tsihs [1 << 16 / 64]atomic.Uint64

// take gives one that is free, 0 if there is none.
func (x *tsihs) take() TSIH {
	for i := range x {
		for {
			w := x[i].Load()
			free := ^w
			if i == 0 {
				free &^= 1 // 0 names no session
			}
			if free == 0 {
				break
			}
			bit := free & -free
			if x[i].CompareAndSwap(w, w|bit) {
				return TSIH(i*64 + bits.TrailingZeros64(bit))
			}
		}
	}
	return 0
}

func (x *tsihs) give(t TSIH) { x[t/64].And(^(uint64(1) << (t % 64))) }

// live reports whether t names a session.
func (x *tsihs) live(t TSIH) bool { return t != 0 && x[t/64].Load()&(1<<(t%64)) != 0 }

// enter makes a session of a connection whose login has agreed on everything.
func (s *session) enter() {
	if s.params.Discovery {
		s.discover()
		return
	}
	if s.conn.Unread() > 0 {
		s.fault("it sends requests before its login is over")
		return
	}
	s.state = sessionEntering
	if s.outHead == len(s.out) && !s.sock.Sending() {
		s.depart()
	}
}

// discover makes it a discovery session. Of those there are no more than of others.
func (s *session) discover() {
	t := s.pg.target
	if s.pg.view.group(s.params.Tag) == nil { // since its last request
		s.refuseLogin(LoginServiceUnavailable, "its portal group is gone")
		return
	}
	if int(t.discoveries.Add(1)) <= s.pg.view.options.MaxSessions {
		if h := t.tsihs.take(); h != 0 {
			s.r.StopTimer(&s.timer)
			s.full(h)
			return
		}
	}
	t.discoveries.Add(-1)
	s.refuseLogin(LoginOutOfResources, whyFull)
}

const whyFull = "there are as many sessions as there may be"

// refuseLogin ends a login that the machine would have let go on.
func (s *session) refuseLogin(status LoginStatus, why string) {
	s.login.why = why
	s.answerLogin(s.login.refuse(status), nil, loginRefused)
}

// depart gives the connection to the owner of its node.
func (s *session) depart() {
	s.r.StopTimer(&s.timer)
	node := s.login.node
	a := &arrival{
		key: entryKey{node, s.params.InitiatorName, s.params.ISID, s.params.Tag, 0}, owner: s.pg.target.owner(node),
		port: s.port, login: s.login, expCmdSN: s.expCmdSN, statSN: s.statSN, local: s.local, remote: s.remote,
	}
	if s.pg.view.options.AllowDuplicatedISID {
		a.key.apart = s.pg.target.aparts.Add(1)
	}
	s.pg.target.moving.Add(1)
	a.fd = s.sock.Detach()
	s.r.Memory().PutReceive(s.conn.Buffer())
	s.state, s.gone = sessionClosed, true
	s.pg.closed(s)
	s.pg.send(a.owner.r, a)
}

// Receive takes the next step: on the owner, then at home.
func (a *arrival) Receive(r *reactor.Reactor) {
	if a.entry != nil {
		a.settle(a.owner.target.groups[r.Index()])
		return
	}
	pg := a.owner
	if pg.stopping {
		a.drop()
		return
	}
	old := pg.entries[a.key]
	if old == nil {
		a.register()
		return
	}
	if old.successor != nil {
		old.successor.drop()
	}
	old.successor = a
	old.end()
}

// drop ends a connection that becomes no session.
func (a *arrival) drop() {
	_ = unix.Close(a.fd)
	a.owner.target.moving.Add(-1)
}

// refuse ends a login where the connection is now. It still counts as moving.
func (a *arrival) refuse(pg *pollGroup, status LoginStatus, why string) {
	s := a.session(pg, recvBytesSmall)
	s.r.SetTimer(&s.timer, s.r.Now()+patience.login, (*loginTimer)(s))
	s.refuseLogin(status, why)
}

// session goes on with the connection on a reactor.
func (a *arrival) session(pg *pollGroup, recv int) *session {
	s := &session{
		pg: pg, r: pg.r, port: a.port, login: a.login, params: a.login.params, expCmdSN: a.expCmdSN, statSN: a.statSN,
		local: a.local, remote: a.remote,
	}
	s.attach(a.fd, recv)
	pg.add(s)
	return s
}

// register gives the session its name, and sends it home.
func (a *arrival) register() {
	pg := a.owner
	t := pg.target
	if pg.stopping {
		a.drop()
		return
	}
	e := &entry{key: a.key, owner: pg}
	if int(t.count.Add(1)) <= pg.view.options.MaxSessions {
		e.tsih = t.tsihs.take()
	}
	if e.tsih == 0 {
		t.count.Add(-1)
		a.refuse(pg, LoginOutOfResources, whyFull)
		t.moving.Add(-1)
		return
	}
	home := 0
	for i := range t.placed {
		if t.placed[i].Load() < t.placed[home].Load() {
			home = i
		}
	}
	t.placed[home].Add(1)
	e.home = t.group.Reactor(home)
	pg.entries[a.key] = e
	a.entry = e
	pg.send(e.home, a)
}

// settle makes the session at home. What is configured may have changed since its login was judged; who ends sessions for that looks at those that
// have settled.
func (a *arrival) settle(pg *pollGroup) {
	e := a.entry
	defer pg.target.moving.Add(-1)
	v := pg.view.nodeOf(a.key.node)
	switch {
	case pg.stopping:
		_ = unix.Close(a.fd)
		e.left(pg)
		return
	case pg.view.stopping:
		a.refuse(pg, LoginServiceUnavailable, "the target is being stopped")
		e.left(pg)
		return
	case v == nil:
		a.refuse(pg, LoginRemoved, "its target is gone")
		e.left(pg)
		return
	case v.admits(a.key.tag, a.key.initiator, a.remote.Addr()) == nil:
		a.refuse(pg, LoginNotAllowed, "its target does not let it in any more")
		e.left(pg)
		return
	}
	s := a.session(pg, recvBytes)
	s.node, s.entry, e.s = a.key.node, e, s
	s.nexus.begin(v, &s.params, pg.r)
	s.full(e.tsih)
	pg.send(e.owner.r, &settledMessage{e})
}

// full begins the full feature phase, with the last Login Response.
func (s *session) full(tsih TSIH) {
	s.params.TSIH = tsih
	resp, text := s.login.finish(tsih)
	depth := 4
	if s.node != nil {
		depth = s.nexus.node.queueDepth
	}
	s.share.Init(s.r, &s.pg.lender, int(s.params.FirstBurst), 1)
	s.newTasks(depth)
	s.texting.ttt = NoTag
	s.answerLogin(resp, text, loginGoesOn)
	s.conn.SetDigests(s.params.Digests)
	s.login, s.state = nil, sessionFull
	s.queued.leave()
	s.pg.stats.logins++
	s.watch()
	s.receive()
}

// settledMessage tells the owner that a session is at home.
type settledMessage struct{ e *entry }

func (m *settledMessage) Receive(*reactor.Reactor) {
	m.e.settled = true
	if m.e.ending {
		m.e.owner.send(m.e.home, &endMessage{m.e})
	}
}

// end lets the session end, on the owner.
func (e *entry) end() {
	if e.ending {
		return
	}
	e.ending = true
	if e.settled {
		e.owner.send(e.home, &endMessage{e})
	}
}

// endMessage ends a session at home.
type endMessage struct{ e *entry }

func (m *endMessage) Receive(*reactor.Reactor) {
	if s := m.e.s; s != nil {
		s.close()
	}
}

// left tells the owner that nothing of the session is left at home.
func (e *entry) left(pg *pollGroup) {
	e.s = nil
	pg.send(e.owner.r, &leftMessage{e})
}

// leftMessage lets the owner forget a session, and lets in who waited for its end.
type leftMessage struct{ e *entry }

func (m *leftMessage) Receive(*reactor.Reactor) {
	e := m.e
	t := e.owner.target
	delete(e.owner.entries, e.key)
	t.tsihs.give(e.tsih)
	t.placed[e.home.Index()].Add(-1)
	t.count.Add(-1)
	if a := e.successor; a != nil {
		e.successor = nil
		a.register()
	}
}

// endOthers ends every session of the node but this one, wherever they are.
func (s *session) endOthers() {
	for _, o := range s.pg.target.groups {
		s.pg.send(o.r, &endOthersMessage{o, s})
	}
}

type endOthersMessage struct {
	pg *pollGroup
	of *session
}

func (m *endOthersMessage) Receive(*reactor.Reactor) {
	m.pg.each(func(s *session) {
		if s != m.of && s.node == m.of.node {
			s.close()
		}
	})
}
