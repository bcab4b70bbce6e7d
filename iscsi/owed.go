package iscsi

import "github.com/pollux-storage/pollux/reactor"

// This file is how long an initiator is waited for that owes data (T-10). Each burst has its own time: while one write is fed, another may starve.
// A session has one timer, which looks at all of its bursts.
//
//	since                                       since + patience
//	├──────────────────────────────────────────────┼──────────── longer by as long for every patience.beside bytes ──┤ the session ends
//	the burst's last data; before any came: when it was announced, or its R2T had left
//
// An initiator sends what it owes in an order of its own, mostly that of the R2Ts. So who owes much beside a burst is waited for longer: the last of many
// writes over a slow link is not late as long as the others come. What is owed is bounded by the memory that a session has.
//
// While we do not receive, for want of memory or of a slot, no time passes.

// asked is an R2T in the send that is under way.
type asked struct {
	t    *task
	turn uint16 // its task's: that may be over
	end  int    // how many pieces of the send have left when it has
}

// owes notes that the initiator owes the data of a task's burst.
func (s *session) owes(t *task) {
	t.in.waits = false
	s.owed += t.in.left()
	s.owesOne()
}

// owesOne counts something that the initiator owes.
func (s *session) owesOne() {
	if s.owing++; s.owing == 1 {
		s.r.SetTimer(&s.late, s.r.Now()+patience.data, (*dataTimer)(s))
	}
}

// waitsFor begins the time of a task's burst anew.
func (s *session) waitsFor(t *task) {
	t.in.waits, t.in.since, t.in.beside = true, s.patience(), s.owed
}

// asks notes an R2T whose last piece so far is in the send.
func (s *session) asks(t *task) {
	s.asking = append(s.asking, asked{t, t.turn, len(s.vec)})
}

// haveAsked begins to wait for the data of R2Ts that have left.
func (s *session) haveAsked() {
	for s.askingHead < len(s.asking) && s.asking[s.askingHead].end <= s.vecHead {
		if a := s.asking[s.askingHead]; a.t.turn == a.turn && a.t.in.open && !a.t.in.waits {
			s.waitsFor(a.t)
		}
		s.askingHead++
	}
}

// endBurst closes a task's burst, if one is open.
func (s *session) endBurst(t *task) {
	if !t.in.open {
		return
	}
	s.owed -= t.in.left()
	t.in.open, t.in.asked, t.in.waits = false, false, false
	s.paid()
}

// paid ends what owesOne has counted.
func (s *session) paid() {
	if s.owing--; s.owing == 0 {
		s.r.StopTimer(&s.late)
	}
}

// fed notes that some of the data of a PDU has come.
func (s *session) fed() {
	if t := s.placing; t != nil && t.in.open {
		s.waitsFor(t)
	}
	s.midwaySince = s.patience()
}

// amidst notes that we wait for the rest of a request's data, which holds memory and is of no burst.
func (s *session) amidst() {
	if t := s.placing; t != nil && !t.in.open && !s.midway {
		s.midway, s.midwaySince = true, s.patience()
		s.owesOne()
	}
}

// whole notes that all data of a PDU is there.
func (s *session) whole() {
	if s.midway {
		s.midway = false
		s.paid()
	}
}

// held reports whether we do not receive, for want of memory or of a slot: then it is not the initiator that waits.
func (s *session) held() bool { return s.stalled != nil || s.starved }

// rests stops the time of what the initiator owes, before we begin not to receive; goesOn lets it go on, after that has ended.
func (s *session) rests() {
	if !s.held() {
		s.restsSince = s.r.Now()
	}
}

func (s *session) goesOn() {
	if !s.held() {
		s.rested += s.r.Now() - s.restsSince
	}
}

// patience is the time as what is owed counts it.
func (s *session) patience() reactor.Ticks {
	if s.held() {
		return s.restsSince - s.rested
	}
	return s.r.Now() - s.rested
}

// overdue gives the time until the first of what is owed is overdue that may take so long, and at most that.
func (s *session) overdue(limit reactor.Ticks) reactor.Ticks {
	now, first := s.patience(), limit
	if s.midway {
		first = min(first, s.midwaySince+limit-now)
	}
	for i := range s.tasks {
		if b := &s.tasks[i].in; b.open && b.waits {
			first = min(first, b.since+limit+limit*reactor.Ticks(b.beside/1024)/reactor.Ticks(patience.beside/1024)-now)
		}
	}
	return first
}

// dataTimer ends a session whose initiator does not send the data that it owes.
type dataTimer session

func (d *dataTimer) Run() {
	s := (*session)(d)
	if s.owing == 0 || s.state >= sessionClosing {
		return
	}
	left := s.overdue(patience.data)
	if left > 0 || s.held() {
		s.r.SetTimer(&s.late, s.r.Now()+max(left, patience.data/looks), d)
		return
	}
	s.pg.target.log.Warn("an initiator did not send the data of its write, its session ends", "initiator", s.initiator())
	s.close()
}

// looks is how often is looked at most, within the time that an initiator has, whether it is over.
const looks = 16

// stalls reports whether the initiator has kept us waiting for so long: for what it owes, or to take what it is sent.
func (s *session) stalls(limit reactor.Ticks) bool {
	if s.sock.Sending() && s.r.Now()-s.taken >= limit {
		return true
	}
	return s.owing > 0 && !s.held() && s.overdue(limit) <= 0
}
