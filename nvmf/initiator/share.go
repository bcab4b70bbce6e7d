package initiator

import (
	"math"
	"slices"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is a controller on one reactor: the queues there, and the requests that wait. Its states:
//
//	held     there is no connection: requests wait
//	live     requests are sent
//	ending   requests fail, until there is a connection again, or for good
//
// Requests that wait are sent in the order in which they came, those whose connection ended first.

type shareState uint8

const (
	shareHeld shareState = iota
	shareLive
	shareEnding
)

// share is a controller on one reactor. It is touched there alone.
type share struct {
	r       *reactor.Reactor
	retries uint32 // how often a request is sent again
	state   shareState
	ends    bdev.Status // of requests, while ending

	// writeThrough makes every write durable on devices that were registered without a volatile cache: the controller has one
	// now, perhaps because of another namespace, and those devices promised that there is none.
	writeThrough bool

	queues []*queue
	turn   int    // the queue that has the next request
	via    *share // where requests go when there is no queue here

	seq     uint64
	kept    requestList // to be sent again, in order
	waiting requestList // to be sent, in order
	delayed requestList // to be repeated at their time
	timer   reactor.Timer

	requests []*request // all of this share
	free     *request
	retired  []*namespace // whose requests are not sent any more

	assoc *association  // to which the queues belong
	told  reactor.Ticks // when its keeper last heard from here that the target is alive
}

func newShare(r *reactor.Reactor, retries int) *share {
	s := &share{r: r, retries: uint32(retries)}
	if retries < 0 {
		s.retries = math.MaxUint32
	}
	return s
}

// submit takes a request of a device on this reactor.
func (s *share) submit(q *bdev.Request, ns *namespace) {
	x := s.free
	if x == nil {
		x = &request{home: s, index: int32(len(s.requests))}
		s.requests = append(s.requests, x)
	} else {
		s.free, x.next = x.next, nil
	}
	x.ready(q, ns)
	x.at = s
	q.Frame().Tag = uint64(x.index)
	s.take(x)
}

// take takes a request that was submitted here or handed over.
func (s *share) take(x *request) {
	s.seq++
	x.seq = s.seq
	s.place(x)
}

// place lets a request go on: to a queue, to those who wait, or to its end.
func (s *share) place(x *request) {
	switch {
	case s.state == shareEnding:
		s.endLater(x, s.ends)
	case len(s.retired) > 0 && slices.Contains(s.retired, x.ns):
		s.endLater(x, bdev.StatusGone)
	case s.state == shareLive && s.via != nil:
		s.handOver(x)
	case s.state == shareLive && s.waiting.first == nil:
		if q := s.queue(); q != nil {
			x.issue(q)
			return
		}
		fallthrough
	default:
		s.waiting.push(x)
	}
}

// handOver lets the share that has queues serve a request.
func (s *share) handOver(x *request) {
	if x.home == s {
		x.away = true
	}
	x.at = s.via
	s.r.Send(s.via.r, x)
}

// queue gives the next queue that has a slot.
func (s *share) queue() *queue {
	for range s.queues {
		q := s.queues[s.turn]
		if s.turn++; s.turn == len(s.queues) {
			s.turn = 0
		}
		if q.hasSlot() {
			return q
		}
	}
	return nil
}

// issue sends the request's next command by q.
func (x *request) issue(q *queue) {
	c := q.acquire(x)
	x.queue, x.command = q, c
	x.build(c)
	q.start(c)
}

// slotFree sends what waits.
func (s *share) slotFree() {
	for s.state == shareLive && s.waiting.first != nil {
		q := s.queue()
		if q == nil {
			return
		}
		s.waiting.pop().issue(q)
	}
}

// again sends the next command of a request whose last one succeeded.
func (s *share) again(x *request) {
	if s.state == shareLive && s.via == nil {
		if q := s.queue(); q != nil {
			x.issue(q)
			return
		}
	}
	s.keep(x)
}

// keep holds a request that has its turn before those who wait.
func (s *share) keep(x *request) {
	switch {
	case s.state == shareEnding:
		s.end(x, s.ends)
	case len(s.retired) > 0 && slices.Contains(s.retired, x.ns):
		s.end(x, bdev.StatusGone)
	case s.state == shareLive && s.via != nil:
		s.handOver(x)
	case s.state == shareLive:
		s.waiting.insert(x)
	default:
		s.kept.insert(x)
	}
}

// repeatDelay is how long the repetition of a command waits whose answer does not say.
const repeatDelay = 100 * reactor.Millisecond

// repeat sends a request again, after a while if the answer speaks of a state that has to change first.
func (s *share) repeat(x *request, st nvmf.Status) {
	switch st.Code() {
	case nvmf.StatusTransientTransport, nvmf.StatusDataTransfer:
		s.again(x)
		return
	}
	x.due = s.r.Now() + repeatDelay
	s.delayed.push(x)
	if !s.timer.Set() {
		s.r.SetTimer(&s.timer, x.due, s)
	}
}

// Run repeats requests whose time has come.
func (s *share) Run() {
	for x := s.delayed.first; x != nil; x = s.delayed.first {
		if x.due > s.r.Now() {
			s.r.SetTimer(&s.timer, x.due, s)
			return
		}
		s.delayed.pop()
		s.again(x)
	}
}

// end ends a request, here or on the reactor that it came from.
func (s *share) end(x *request, st bdev.Status) {
	x.status = st
	if x.home == s {
		s.finish(x)
		return
	}
	x.back = true
	s.r.Send(x.home.r, x)
}

// endLater is end for one who may be inside Submit.
func (s *share) endLater(x *request, st bdev.Status) {
	if x.home != s {
		s.end(x, st)
		return
	}
	q := s.put(x)
	q.CompleteLater(st)
}

// finish completes a request of this share.
func (s *share) finish(x *request) {
	st := x.status
	s.put(x).Complete(st)
}

// put takes a request back that has ended.
func (s *share) put(x *request) *bdev.Request {
	q := x.q
	q.Detail = x.detail
	x.q, x.ns = nil, nil
	x.next, s.free = s.free, x
	return q
}

// abort promises, if it can, that a request will complete as aborted: one that waits does so now; one that a target has, when
// that has answered, which the command that is returned may hurry. A write that a target may have carried out promises nothing:
// aborted says that nothing was done.
func (s *share) abort(q *bdev.Request) (promised bool, open *request) {
	x := s.requests[q.Frame().Tag]
	switch {
	case x.q != q, x.away:
		return false, nil // it has ended, or is with another reactor
	case q.Kind.Writes() && (x.sent || x.command != nil):
		return false, nil
	case x.command != nil:
		x.aborted = true
		return true, x
	case s.waiting.remove(x), s.kept.remove(x), s.delayed.remove(x):
		s.endLater(x, bdev.StatusAborted)
		return true, nil
	}
	return false, nil
}

// hold lets requests wait.
func (s *share) hold() {
	s.state, s.queues, s.via = shareHeld, nil, nil
	s.turn = 0
}

// resume sends requests again, by queues, or by another share if there are none.
func (s *share) resume(a *association, queues []*queue, via *share) {
	s.state, s.assoc, s.queues, s.via, s.turn = shareLive, a, queues, via, 0
	later := s.waiting
	s.waiting, s.kept = s.kept, requestList{}
	for x := later.pop(); x != nil; x = later.pop() {
		s.waiting.push(x)
	}
	for _, q := range queues {
		if q.user = s; q.state > queueOpen {
			s.queueLost(q, q.err)
		}
	}
	if via != nil {
		for x := s.waiting.pop(); x != nil; x = s.waiting.pop() {
			s.handOver(x)
		}
	}
	s.slotFree()
}

// fail ends all requests, and those to come.
func (s *share) fail(st bdev.Status) {
	s.state, s.ends = shareEnding, st
	s.r.StopTimer(&s.timer)
	for _, l := range []*requestList{&s.kept, &s.waiting, &s.delayed} {
		for x := l.pop(); x != nil; x = l.pop() {
			s.end(x, st)
		}
	}
}

// retire ends the requests of a namespace that is gone, or that is another one now, and those to come: what is sent from now on
// might reach the other.
func (s *share) retire(ns *namespace) {
	s.retired = append(s.retired, ns)
	for _, l := range []*requestList{&s.kept, &s.waiting, &s.delayed} {
		all := *l
		*l = requestList{}
		for x := all.pop(); x != nil; x = all.pop() {
			if x.ns == ns {
				s.endLater(x, bdev.StatusGone)
			} else {
				l.push(x)
			}
		}
	}
}

// forget ends that, when the namespace's device is gone.
func (s *share) forget(ns *namespace) {
	s.retired = slices.DeleteFunc(s.retired, func(r *namespace) bool { return r == ns })
}

// heard notes that the target answers, and tells the keeper now and then.
func (s *share) heard() {
	if k := &s.assoc.keeper; s.r.Now()-s.told >= k.every {
		s.told = s.r.Now()
		s.r.Send(k.r, k)
	}
}

// queueLost hears that a queue here ends: the controller has to connect anew.
func (s *share) queueLost(_ *queue, why error) { s.assoc.tellLost(why) }

// String names the state.
func (s shareState) String() string { return [...]string{"held", "live", "ending"}[s] }
