package reactor

import "github.com/pollux-storage/pollux/internal/invariant"

// This file is a connection's share of its reactor's pool: which of its commands get memory, and which wait.
//
// A host decides how long memory is out that waits for its data, or for it to take data: if it stalls, until its connection ends. Hosts
// that stall must not take what others need, however many they are:
//
//   - A connection may have one command's memory, and beyond it a share of what is free then. Each that stalls takes less than the one
//     before it, and none takes from the last part of the pool, which is for connections that have nothing.
//   - Beyond it a command waits in its own connection's turn, for that connection's memory, and other connections go on.
//   - While somebody waits for the pool, hosts that stall lose their connections sooner (Lender).
//
// Data that arrives unasked is different: while it waits for memory, so does the whole connection, and with it the data of earlier
// commands that hold memory. If that is all of the pool, they would wait for each other for ever. So a connection has room for such
// data beside the pool, its spares, which come back whatever the host does. Where the rest is to be asked for, it gets memory for all
// beyond its share, since it cannot wait in turn, but none of the last part of the pool, unless it has nothing.

// lentShare is the part of what is free that one connection may have, and lentLast that of the pool which is kept for connections that
// have nothing.
const (
	lentShare = 8
	lentLast  = 4
)

// Share is what one connection has of its reactor's pool, and who waits for it to have less. It lives on that reactor.
type Share struct {
	r     *Reactor
	bytes int // lent, but for what arrived unasked and whole
	kept  int // of the pool, for connections that have nothing

	first, last *Loan // those who wait in turn
	serving     *Loan // whose turn it is
	waking      Deferred

	spares     []spare
	spareBytes int // of each
}

// spare is room for data that arrives unasked, made when first needed.
type spare struct {
	b   []byte
	out bool
}

// Loan is the memory of one command, which it is part of.
type Loan struct {
	B []byte // nil if it has none; its owner changes nothing in it

	counted int    // bytes of it that count against the share
	spare   *spare // it is of, nil if of the pool

	next  *Loan // that waits in turn
	waits bool
	run   Runner
	wait  Waiter // for the pool
}

// Init makes it ready, with so many spares. It may allocate; of what comes later only the first use of a spare does.
func (s *Share) Init(r *Reactor, l *Lender, spareBytes, spares int) {
	l.join(r)
	*s = Share{r: r, kept: r.memory.limit / lentLast, spares: make([]spare, spares), spareBytes: spareBytes}
}

// Bytes is what its host keeps from others, for as long as it likes: memory for data that it is to send or to take.
func (s *Share) Bytes() int { return s.bytes }

// may reports whether the connection may have n bytes more, of free ones.
func (s *Share) may(n, free int) bool {
	return s.bytes == 0 || free-n >= s.kept && s.bytes+n <= free/lentShare
}

// Lend gets l memory for n bytes that the host is to send or to take. If there is none l waits, and run runs when it is worth asking
// again. Who asks again at once keeps his place.
func (s *Share) Lend(l *Loan, n int, run Runner) bool {
	invariant.Check(l.B == nil && !l.waits, "reactor: memory lent to a command that has some, or waits for it")
	if !s.may(n, s.r.memory.Free()) || s.first != nil && s.serving != l {
		s.queue(l, run)
		return false
	}
	if l.B = s.r.memory.Get(n); l.B == nil {
		s.Await(l, run)
		return false
	}
	l.counted = n
	s.bytes += n
	return true
}

// queue lets l wait for its turn.
func (s *Share) queue(l *Loan, run Runner) {
	l.next, l.run, l.waits = nil, run, true
	switch {
	case s.first == nil:
		s.first, s.last = l, l
	case s.serving == l: // it keeps its place
		l.next, s.first = s.first, l
	default:
		s.last.next, s.last = l, l
	}
}

// LendArriving gets l memory for n bytes that arrive unasked. If there is none the connection has to stop at them: Await, and GiveBack
// says when a spare has come back.
func (s *Share) LendArriving(l *Loan, n int) bool {
	invariant.Check(l.B == nil && !l.waits, "reactor: memory lent to a command that has some, or waits for it")
	if l.B = s.r.memory.Get(n); l.B != nil {
		return true
	}
	if n > s.spareBytes {
		return false
	}
	for i := range s.spares {
		x := &s.spares[i]
		if x.out {
			continue
		}
		if x.b == nil {
			x.b = make([]byte, s.spareBytes)
		}
		x.out = true
		l.B, l.spare = x.b[:n], x
		return true
	}
	return false
}

// LendBegun gets l memory for n bytes of which the first arrive unasked, and the host is to send the rest when it likes. It counts against the
// share, but may be more than that. Of the last part of the pool it is only for a connection that has nothing. If it is false a connection that has
// something gets none for now, and cannot await it.
func (s *Share) LendBegun(l *Loan, n int) bool {
	if s.bytes > 0 && s.r.memory.Free()-n < s.kept || !s.LendArriving(l, n) {
		return false
	}
	if l.spare == nil { // which nobody else wants
		l.counted = n
		s.bytes += n
	}
	return true
}

// Await lets run run when l may have the memory that the pool has just refused.
func (s *Share) Await(l *Loan, run Runner) {
	s.r.memory.Await(&l.wait, run)
	s.r.memory.wanted()
}

// GiveBack takes l's memory, if it has any, and wakes those who wait for it. It reports that a spare came back: data that waits for
// room may try again.
func (s *Share) GiveBack(l *Loan) (spare bool) {
	if l.B == nil {
		return false
	}
	if spare = l.spare != nil; spare {
		l.spare.out, l.spare = false, nil
	} else {
		s.r.memory.Put(l.B)
	}
	s.bytes -= l.counted
	l.B, l.counted = nil, 0
	if s.first != nil && !s.waking.queued {
		s.r.Defer(&s.waking, (*shareTurn)(s))
	}
	return spare
}

type shareTurn Share

// Run gives those who wait their turn, in the order in which they came, as long as there is something for them.
func (t *shareTurn) Run() {
	s := (*Share)(t)
	for s.first != nil {
		l := s.first
		s.Forget(l)
		s.serving = l
		l.run.Run()
		s.serving = nil
		if l.waits {
			return
		}
	}
}

// Forget takes l out of those who wait for memory, and reports whether it waited.
func (s *Share) Forget(l *Loan) bool {
	if !l.waits {
		return s.r.memory.Forget(&l.wait)
	}
	var before *Loan
	for p := s.first; p != l; p = p.next {
		before = p
	}
	if before == nil {
		s.first = l.next
	} else {
		before.next = l.next
	}
	if s.last == l {
		s.last = before
	}
	l.next, l.waits = nil, false
	return true
}
