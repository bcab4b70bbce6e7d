package iscsi

import (
	"time"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is how a session finds out that its initiator has gone without a word: after a while of silence it sends a NOP-In, and one that stays
// unanswered ends the session. RFC 7143 sections 11.18 and 11.19.

// ping is the NOP-In of a session that is not answered.
type ping struct {
	out  bool
	ttt  uint32
	sent reactor.Ticks
}

// answered hears a NOP-Out that answers one of ours.
func (p *ping) answered(ttt TTT) {
	if p.out && uint32(ttt) == p.ttt {
		p.out = false
	}
}

// watch begins to look for silence.
func (s *session) watch() {
	if s.params.Discovery {
		s.r.SetTimer(&s.timer, s.r.Now()+patience.discovery, (*idleDiscovery)(s))
		return
	}
	every := reactor.Ticks(s.pg.view.options.NOPInInterval)
	if every <= 0 {
		every = pingsOff
	}
	s.r.SetTimer(&s.timer, s.r.Now()+every, (*silence)(s))
}

// pingsOff is how often is looked whether pings are switched on again.
const pingsOff = 30 * reactor.Second

// idleDiscovery ends a discovery session that asks nothing any more: it takes no pings, and its initiator need not log out.
type idleDiscovery session

func (w *idleDiscovery) Run() {
	s := (*session)(w)
	if due := s.heard + patience.discovery; s.r.Now() < due {
		s.r.SetTimer(&s.timer, due, w)
		return
	}
	s.close()
}

// silence looks when the initiator was heard last.
type silence session

func (w *silence) Run() {
	s := (*session)(w)
	now, o := s.r.Now(), &s.pg.view.options
	every, patience := reactor.Ticks(o.NOPInInterval), reactor.Ticks(o.NOPTimeout)
	if every <= 0 {
		s.ping.out = false
		s.r.SetTimer(&s.timer, now+pingsOff, w)
		return
	}
	if s.held() {
		s.heard = now // it is us who do not listen
	}
	if s.ping.out && s.heard > s.ping.sent {
		s.ping.out = false // whatever it sends, it is there
	}
	due := s.heard + every
	switch {
	case s.ping.out && patience > 0 && now >= s.ping.sent+patience: // 0 is for ever
		s.pg.target.log.Warn("an initiator does not answer, its session ends", "initiator", s.initiator(), "silent", time.Duration(now-s.heard))
		s.close()
		return
	case s.ping.out && patience > 0:
		due = s.ping.sent + patience
	case s.ping.out:
		due = now + every
	case now >= due:
		s.ping.out, s.ping.sent = true, now
		if s.ping.ttt++; s.ping.ttt == NoTag {
			s.ping.ttt = 0
		}
		s.send(outItem{kind: outPing, num: s.ping.ttt})
		due = now + patience
	}
	s.r.SetTimer(&s.timer, due, w)
}
