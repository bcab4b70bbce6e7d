package iscsi

import (
	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is a reactor's share of the target: the sessions on it, and what it knows of the configuration.

// pollGroup is the target on one reactor. It is touched there alone.
type pollGroup struct {
	target *Target
	r      *reactor.Reactor
	view   *view

	sessions *session // a list of all, those that log in among them
	count    int
	entries  map[entryKey]*entry // of the nodes that this reactor owns

	lender reactor.Lender

	stopping bool // no session is made here any more

	refusalLogged  reactor.Ticks
	refusalsUnsaid int

	stats groupStats
}

// newPollGroup makes the target's share of a reactor.
func newPollGroup(t *Target, r *reactor.Reactor) *pollGroup {
	pg := &pollGroup{target: t, r: r, entries: map[entryKey]*entry{}}
	pg.lender.Every, pg.lender.Look = patience.wanted, (*stalling)(pg)
	return pg
}

// stalling looks for initiators that keep memory which others wait for.
type stalling pollGroup

func (l *stalling) Run() {
	pg := (*pollGroup)(l)
	var next *session
	for s := pg.sessions; s != nil; s = next {
		next = s.next
		if s.state < sessionClosing && s.share.Bytes() > 0 && s.stalls(patience.wanted) {
			pg.target.log.Warn("an initiator neither sends what it was asked for nor takes what it is sent, and others want the memory: its session ends",
				"initiator", s.initiator(), "bytes", s.share.Bytes())
			s.close()
		}
	}
}

// groupStats are what a reactor has counted since it started.
type groupStats struct {
	logins   uint64 // that succeeded
	refused  uint64 // that did not
	denied   uint64 // of them, for want of the right or of the proof
	faults   uint64 // connections ended for what the initiator did
	ended    uint64 // sessions that were, and are over
	commands uint64 // SCSI commands answered, of sessions that have ended
	dropped  uint64 // requests whose CmdSN was not the next, of such
}

// Sizes of receive buffers, in bytes. The small one holds the longest header.
const (
	recvBytes      = 64 << 10
	recvBytesSmall = 16 << 10
)

func (pg *pollGroup) add(s *session) {
	s.next, s.prev = pg.sessions, nil
	if s.next != nil {
		s.next.prev = s
	}
	pg.sessions = s
	pg.count++
}

// closed forgets a session of which nothing is left.
func (pg *pollGroup) closed(s *session) {
	s.queued.leave()
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		pg.sessions = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	pg.count--
}

// send hands a message to a reactor, which may be this one.
func (pg *pollGroup) send(to *reactor.Reactor, m reactor.Message) {
	if to == pg.r {
		m.Receive(to)
		return
	}
	pg.r.Send(to, m)
}

// install takes a new view over.
func (pg *pollGroup) install(v *view) {
	pg.view = v
	for s := pg.sessions; s != nil; s = s.next {
		if s.node == nil {
			continue
		}
		if n := v.nodeOf(s.node); n != nil {
			s.nexus.install(n, pg.r)
		} else {
			s.close()
		}
	}
}

// each lets f see every session here that is past its login.
func (pg *pollGroup) each(f func(s *session)) {
	var next *session
	for s := pg.sessions; s != nil; s = next {
		next = s.next
		if s.state == sessionFull || s.state == sessionLoggingOut {
			f(s)
		}
	}
}

// resized tells the sessions that use a unit of its new capacity.
func (pg *pollGroup) resized(u *Unit) { u.tell(attentionCapacity) }

// end ends every session here, those that log in too.
func (pg *pollGroup) end() {
	var next *session
	for s := pg.sessions; s != nil; s = next {
		next = s.next
		s.close()
	}
}

// accepted takes a new connection.
func (pg *pollGroup) accepted(p *portal, fd int) {
	if pg.stopping || pg.view == nil || pg.view.stopping {
		_ = unix.Close(fd)
		return
	}
	tuneTCP(fd)
	pg.target.group.Sockets().TuneOpen(fd)
	s := &session{pg: pg, r: pg.r, port: p}
	s.begin(fd)
	p.logins.enter(s)
	s.receive()
	p.crowded(pg.view)
}
