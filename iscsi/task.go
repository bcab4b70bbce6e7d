package iscsi

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is a task: a slot of a session, one request of the initiator, and all that serving it needs. The slots are made when the session begins.
//
// A task's states, in order: free → gathering (its data is on the way, or it waits for memory) → executing → answering (what goes to the initiator is on its
// way) → free.

type taskState uint8

const (
	taskFree taskState = iota
	taskGathering
	taskExecuting
	taskAnswering
)

// taskKind is what a task is of.
type taskKind uint8

const (
	kindSCSI taskKind = iota
	kindPing          // NOP-Out
	kindText
	kindManage // task management
	kindLogout
)

// task is a slot.
type task struct {
	command
	s     *session
	index uint16
	turn  uint16 // how often the slot was used: late data of an earlier use is known by it
	state taskState
	kind  taskKind

	itt       ITT
	cmdSN     SerialNumber
	immediate bool
	came      reactor.Ticks
	next      *task // free
	chained   *task // open, in a chain of the session's tags

	loan    reactor.Loan
	aborted bool         // ends without an answer
	parts   []*sweepPart // of the sweeps that wait for its end
	sweep   *sweep       // of kindManage: what it waits for

	in  burst  // data from the initiator
	at  uint32 // of the data that goes to it: bytes sent
	sn  uint32 // DataSN of the next Data-In
	fed uint32 // residual counts from it: bytes that it had to take or give

	manage TaskRequest // of kindManage
	result TaskResponse
	ping   uint32 // bytes that are echoed
	logout LogoutCode
}

// newTasks makes the slots of a session that takes depth commands. A slot is free only when its answer has left, and the initiator may use its place in
// the window before we hear of that; and immediate requests have no place in the window. So there are more slots than the window shows.
func (s *session) newTasks(depth int) {
	s.depth = uint32(depth)
	s.tasks = make([]task, depth+min(depth, 16)+immediateMax)
	for i := len(s.tasks) - 1; i >= 0; i-- {
		t := &s.tasks[i]
		t.s, t.index, t.next = s, uint16(i), s.free
		t.port, t.nexus, t.req.Done = t, &s.nexus, t
		s.free = t
	}
	s.slots = len(s.tasks)
	s.tags.init(len(s.tasks))
	s.asking = make([]asked, 0, headsMax)
}

// immediateMax is how many immediate requests a session may have open.
const immediateMax = 8

// hasSlot reports whether a request can be taken; otherwise the connection rests until one is released.
func (s *session) hasSlot() bool {
	if s.free != nil || s.tasks == nil {
		return true
	}
	s.rests()
	s.starved = true
	return false
}

// acquire takes a slot for a request whose place in the order is known.
func (s *session) acquire(kind taskKind, itt ITT, cmdSN SerialNumber, immediate bool) *task {
	t := s.free
	invariant.Check(t != nil && t.state == taskFree && t.loan.B == nil, "iscsi: free task that is not")
	s.free = t.next
	s.slots--
	if immediate {
		s.immediates++
	} else {
		s.open++
	}
	t.state, t.kind, t.itt, t.cmdSN, t.immediate, t.next, t.came = taskGathering, kind, itt, cmdSN, immediate, nil, s.r.Now()
	t.aborted, t.in, t.at, t.sn, t.data = false, burst{}, 0, 0, nil
	s.tags.put(t)
	return t
}

// lend gets the task memory for n bytes. If there is none it waits, and Run goes on.
func (t *task) lend(n uint32) bool {
	if !t.s.share.Lend(&t.loan, int(n), t) {
		return false
	}
	t.data = t.loan.B
	return true
}

// Run goes on with a task that waited for memory.
func (t *task) Run() {
	switch {
	case t.aborted || t.s.state >= sessionClosing:
		t.s.release(t)
	case t.state == taskGathering:
		t.s.gatherAgain(t)
	default:
		t.execute()
	}
}

// begin executes a task that has its data.
func (t *task) begin() {
	t.state = taskExecuting
	t.execute()
}

// RequestDone goes on with a command whose request has ended, unless it is to have no other.
func (t *task) RequestDone(q *bdev.Request) {
	if t.aborted || t.s.state >= sessionClosing {
		t.command.letGo()
		t.s.release(t)
		return
	}
	t.command.RequestDone(q)
}

// end answers the task's command.
func (t *task) end() {
	invariant.Check(t.state == taskGathering || t.state == taskExecuting, "iscsi: task answered twice")
	s := t.s
	if t.aborted || s.state >= sessionClosing {
		s.release(t)
		return
	}
	if t.status != Good && t.status != ConditionMet || !t.reads {
		t.fed = 0
	} else {
		t.fed = min(t.send, t.edtl)
	}
	if t.fed == 0 {
		s.giveBack(t)
	}
	s.answer(t)
}

// answer sends what the initiator is to hear of a task; after that its slot is free.
func (s *session) answer(t *task) {
	t.state = taskAnswering
	if t.kind == kindSCSI && s.nexus.node.latency != nil {
		s.nexus.node.latency.count(s.r, s.r.Now()-t.came)
	}
	s.notOpen(t)
	s.answered++
	s.send(outItem{kind: outAnswer, t: t})
}

// notOpen takes a task out of those that the initiator waits for.
func (s *session) notOpen(t *task) {
	s.tags.drop(t)
	if t.immediate {
		s.immediates--
	} else {
		s.open--
	}
}

// giveBack returns a task's memory.
func (s *session) giveBack(t *task) {
	t.data = nil
	if s.share.GiveBack(&t.loan) && s.stalled != nil {
		s.resume() // with the spare
	}
}

// release makes the slot of a task free whose answer has left, or that has none.
func (s *session) release(t *task) {
	invariant.Check(t.state != taskFree && s.placing != t, "iscsi: task released that is free, or that data arrives for")
	if t.state != taskAnswering {
		s.notOpen(t)
	}
	s.endBurst(t)
	s.giveBack(t)
	t.state, t.sweep = taskFree, nil
	t.turn++
	if t.unit != nil {
		t.unit.here.leave()
		t.unit = nil
	}
	t.next, s.free = s.free, t
	s.slots++
	if len(t.parts) > 0 {
		s.sweptOff(t)
	}
	if s.state >= sessionClosing {
		s.closeIfDone()
		return
	}
	if s.state == sessionLoggingOut {
		s.logoutIfDone()
	}
	if s.starved {
		s.starved = false
		s.goesOn()
		s.resume()
	}
}

// cut ends a task early without an answer: now, if it can, else when the device lets go of it.
func (s *session) cut(t *task) {
	if t.aborted || t.state == taskFree || t.state == taskAnswering {
		return
	}
	t.aborted = true
	switch {
	case t == s.stalled:
		s.share.Forget(&t.loan)
		s.release(t)
		s.stalled = nil
		s.goesOn()
		s.discardStalled()
	case s.share.Forget(&t.loan):
		s.release(t)
	case t.state == taskGathering && s.placing != t:
		s.release(t)
	case t.sweep != nil: // that goes on, whoever hears of its end; the tasks that it waits for may be others'
		s.release(t)
	case t.state == taskExecuting && t.kind == kindSCSI:
		t.abort()
	}
}
