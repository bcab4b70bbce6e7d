package iscsi

import "net/netip"

// This file bounds the connections of a portal that are not logged in: who has not said yet who it is costs memory all the same, for as long as a login may
// take. There may be as many as sessions, and loginsMin at least. Of one too many the one goes that has been there for longest: a host that means it
// needs a few round trips, and who only connects would have to do so that much faster than all of them. To refuse the last one instead would shut
// everybody out whom somebody silent comes before.
//
// Where more than half are of one address, the oldest of that goes: so it is its own connections that it crowds out. An address of IPv6 is its network's, 64 bits,
// of which a host has all.

// loginsMin is how many connections of a portal may be logging in, however few sessions there may be.
const loginsMin = 64

// logins are the connections of a portal that are logging in, on its reactor: the oldest first.
type logins struct {
	first, last *session
	n           int
}

// loginPlace is where a connection stands among them.
type loginPlace struct {
	of         *logins // nil: nowhere
	next, prev *session
}

// source is where a connection comes from, as it is counted.
func source(a netip.Addr) netip.Addr {
	if a = a.Unmap(); a.Is6() {
		p, _ := a.WithZone("").Prefix(64)
		return p.Addr()
	}
	return a
}

// enter puts a connection behind the others.
func (l *logins) enter(s *session) {
	s.queued = loginPlace{of: l, prev: l.last}
	if l.last == nil {
		l.first = s
	} else {
		l.last.queued.next = s
	}
	l.last = s
	l.n++
}

// leave takes it out, if it is in.
func (p *loginPlace) leave() {
	l := p.of
	if l == nil {
		return
	}
	if p.prev == nil {
		l.first = p.next
	} else {
		p.prev.queued.next = p.next
	}
	if p.next == nil {
		l.last = p.prev
	} else {
		p.next.queued.prev = p.prev
	}
	l.n--
	*p = loginPlace{}
}

// tooMany gives the connection that is to go, nil as long as there are no more than most.
func (l *logins) tooMany(most int) *session {
	if l.n <= most {
		return nil
	}
	// Who has more than half is left when each pair of two takes each other out. It is found so, and then counted.
	var from netip.Addr
	lead := 0
	for s := l.first; s != nil; s = s.queued.next {
		switch a := source(s.remote.Addr()); {
		case lead == 0:
			from, lead = a, 1
		case a == from:
			lead++
		default:
			lead--
		}
	}
	var oldest *session
	n := 0
	for s := l.last; s != nil; s = s.queued.prev {
		if source(s.remote.Addr()) == from {
			oldest = s
			n++
		}
	}
	if 2*n > l.n {
		return oldest
	}
	return l.first
}

// crowded lets one go if there are too many.
func (p *portal) crowded(v *view) {
	s := p.logins.tooMany(max(loginsMin, v.options.MaxSessions))
	if s == nil {
		return
	}
	s.login.why = "others came to log in, and it did not"
	s.pg.stats.refused++
	s.failed(FailureLogin, s.login.why)
	s.pg.logRefusal(s, LoginOutOfResources)
	s.close()
}
