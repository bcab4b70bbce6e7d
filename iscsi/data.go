package iscsi

import (
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is how the data of tasks comes from the initiator. RFC 7143 section 4.2.5.2, "Data Transfer Overview", sections 11.7, 11.8 and 13.10 to 13.14.
//
//	 0            immediate       FirstBurst                                out
//	 ├──────────────┼──────────────────┼───────────────┬───────────────┬─────┤
//	 with the command  Data-Out unasked   R2T, one open, MaxBurst at most each
//
// The whole of it has its memory before any of it is asked for. What comes unasked needs memory at once: a task whose data comes so waits for none
// as long as others of the session wait for data behind it on the same connection; the initiator then hears that the task set is full. So it does when
// a session that has memory would take of the last part of the pool for data that it sends when it likes.
//
// A task that is refused, or whose data is wrong, is answered when the burst that is under way has come: what is sent for it then is not mistaken for
// another's.

// What a command is told whose data did not come as it should. SPC-4 annex F.2: PROTOCOL SERVICE CRC ERROR, and SCSI PARITY ERROR, which RFC 7143
// section 11.4.7.2, "Sense Data", gives for what is wrong with the sequence of data: it calls it unexpected or not enough.
const (
	senseDataDigest   senseCode = 0x0B4705
	senseDataSequence senseCode = 0x0B4700
)

// burst is a sequence of Data-Out PDUs, unasked or for an R2T.
type burst struct {
	open    bool
	asked   bool   // by an R2T
	at, end uint32 // what comes next, and where it ends
	sn      uint32 // DataSN of the next
	r2tsn   uint32 // of the next R2T
	got     uint32 // bytes that lie in their place
	refused bool   // nothing of it counts any more: status and sense are set

	waits  bool          // for the initiator: not for an R2T that has still to leave
	since  reactor.Ticks // when data of it came last, or could begin to come, by the session's patience
	beside uint64        // bytes that the initiator owed then, of all bursts
}

// left is the bytes of an open burst that are still to come.
func (b *burst) left() uint64 { return uint64(b.end - min(b.at, b.end)) }

// gather begins to bring a task's data: carried bytes come with it, and more unasked if more is set. good is false if it was refused.
func (s *session) gather(t *task, carried uint32, more, good bool) {
	t.in.refused = !good
	if !good {
		t.out = 0
	}
	if more {
		t.in.open, t.in.at, t.in.end = true, carried, min(s.params.FirstBurst, t.edtl)
		s.owes(t)
		s.waitsFor(t)
	}
	switch {
	case t.out == 0:
	case carried == 0 && !more:
		s.gatherAgain(t)
		return
	case s.lendUnasked(t, carried):
	case s.owing > 0 && !(s.owing == 1 && more), s.beyond(t, carried):
		if t.kind == kindPing { // nothing of it comes back
			t.ping, t.out = 0, 0
			break
		}
		t.refuse(TaskSetFull, sense{})
	default:
		s.rests()
		s.stalled, s.carried = t, carried
		s.share.Await(&t.loan, (*stalledRun)(s))
		return
	}
	s.takeCarried(t, carried)
}

// lendUnasked gets a task memory for all of its data, of which carried bytes arrive. How long that is out for the rest the initiator decides.
func (s *session) lendUnasked(t *task, carried uint32) bool {
	if carried < t.out && !s.share.LendBegun(&t.loan, int(t.out)) || carried >= t.out && !s.share.LendArriving(&t.loan, int(t.out)) {
		return false
	}
	t.data = t.loan.B
	return true
}

// beyond reports that a task that got no memory is for the initiator to send again: what the pool has left is not for a session that has some.
func (s *session) beyond(t *task, carried uint32) bool {
	return carried < t.out && s.share.Bytes() > 0
}

// stalledRun goes on with the connection when there is memory for the task that it stands at.
type stalledRun session

func (r *stalledRun) Run() {
	s := (*session)(r)
	t := s.stalled
	if s.state >= sessionClosing || t == nil {
		return
	}
	switch {
	case s.lendUnasked(t, s.carried):
	case s.beyond(t, s.carried):
		t.refuse(TaskSetFull, sense{})
	default:
		s.share.Await(&t.loan, r)
		return
	}
	s.stalled = nil
	s.goesOn()
	s.takeCarried(t, s.carried)
	s.arrive()
}

// discardStalled goes on with the connection when the task that it stood at has been ended.
func (s *session) discardStalled() {
	if s.carried > 0 {
		s.conn.Discard()
	}
	s.resume()
}

// takeCarried places what comes with a request.
func (s *session) takeCarried(t *task, carried uint32) {
	if carried == 0 {
		s.gathered(t)
		return
	}
	s.place(t, 0, carried, false)
}

// place says where n bytes go that are about to arrive for a task, at an offset of its data.
func (s *session) place(t *task, at, n uint32, final bool) {
	s.placing, s.final = t, final
	if t.in.refused || t.aborted || at >= t.out {
		s.conn.Discard()
		return
	}
	m := min(n, t.out-at)
	t.in.got = at + m
	s.conn.Place(t.data[at : at+m])
}

// dataEnd hears that a PDU's data is there.
func (s *session) dataEnd() {
	t := s.placing
	s.placing = nil
	switch {
	case t == nil:
		return
	case t.aborted || s.state >= sessionClosing:
		s.release(t)
		return
	case !s.conn.DigestOK:
		s.rejectLast(RejectDataDigest)
		t.refuse(CheckCondition, sense{code: senseDataDigest})
	}
	if s.final {
		s.endBurst(t)
	}
	if !t.in.open {
		s.gathered(t)
	}
}

// gathered goes on with a task of which no burst is open.
func (s *session) gathered(t *task) {
	switch {
	case t.in.open: // the first burst goes on
	case t.in.refused && t.kind != kindSCSI: // what was wrong with it has been rejected
		s.release(t)
	case t.in.refused:
		t.end()
	case t.in.got < t.out:
		s.ask(t)
	case t.kind == kindPing:
		t.s.answer(t)
	case t.kind == kindSCSI:
		t.begin()
	default:
		invariant.Check(false, "iscsi: data for a request that has none")
	}
}

// gatherAgain gets a task the memory for data that it is about to ask for.
func (s *session) gatherAgain(t *task) {
	if !s.share.Lend(&t.loan, int(t.out), t) {
		return
	}
	t.data = t.loan.B
	s.ask(t)
}

// ask sends an R2T. MaxOutstandingR2T is 1.
func (s *session) ask(t *task) {
	in := &t.in
	in.open, in.asked, in.sn = true, true, 0
	in.at, in.end = in.got, min(in.got+s.params.MaxBurst, t.out)
	s.owes(t)
	s.send(outItem{kind: outR2T, t: t, num: uint32(t.turn)})
}

// tag is the TTT of a task's R2T: its slot, and how often that was used.
func (t *task) tag() TTT { return TTT(t.turn&0x7fff)<<16 | TTT(t.index) }

// dataOutPDU takes a Data-Out.
func (s *session) dataOutPDU() {
	h, bad := DecodeDataOut(s.conn.BHS)
	if !bad.OK() {
		s.reject(bad.Reason)
		return
	}
	t, why := s.burstOf(&h)
	if t == nil {
		if why == 0 {
			s.ignoreData()
		} else {
			s.reject(why)
		}
		return
	}
	in, n := &t.in, s.conn.DataBytes
	switch {
	case in.refused:
	case h.DataSN != in.sn || h.Offset != in.at || n > in.end-in.at,
		in.asked && h.Final != (h.Offset+n == in.end):
		t.refuse(CheckCondition, sense{code: senseDataSequence})
	}
	in.sn++
	at, left := in.at, in.left()
	in.at += n
	s.owed -= left - in.left()
	if n > 0 {
		s.waitsFor(t)
	}
	if n == 0 {
		if h.Final {
			s.endBurst(t)
			s.gathered(t)
		}
		return
	}
	s.place(t, at, n, h.Final)
}

// burstOf finds the task that a Data-Out is for. If there is none it gives the reason for a Reject, 0 where it is to be ignored: the task's end came
// before its data, or it never was, since its command was outside the window.
func (s *session) burstOf(h *DataOut) (*task, RejectReason) {
	if h.TTT == NoTag {
		t := s.tags.find(h.ITT)
		switch {
		case t == nil || t.aborted:
			return nil, 0
		case !t.in.open || t.in.asked: // more than it announced
			return nil, RejectProtocol
		}
		return t, 0
	}
	i := int(h.TTT & 0xffff)
	if i >= len(s.tasks) {
		return nil, RejectInvalidField
	}
	t := &s.tasks[i]
	switch {
	case t.tag() != h.TTT && int16(t.turn<<1-uint16(h.TTT>>16)<<1) > 0:
		return nil, 0 // of an earlier use of the slot: it was ended while its initiator still sent
	case t.tag() == h.TTT && t.aborted:
		return nil, 0
	case t.tag() != h.TTT, t.itt != h.ITT, !t.in.open, !t.in.asked:
		return nil, RejectInvalidField
	}
	return t, 0
}

// refuse makes a task end so when its burst is over, whatever else comes.
func (t *task) refuse(status SCSIStatus, why sense) {
	if !t.in.refused {
		t.in.refused, t.status, t.sense = true, status, why
		t.out = 0
	}
}

// ignoreData throws away what comes with a request that does not count.
func (s *session) ignoreData() {
	if s.conn.DataBytes > 0 {
		s.placing = nil
		s.conn.Discard()
	}
}
