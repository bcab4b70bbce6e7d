package iscsi

import (
	"crypto/rand"
	"net/netip"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is a session and its one connection. It lives on one reactor; between its login and its first command it may go to another (enter.go).
//
// A session's states, in order: login → entering (everything is agreed, and the connection is on its way) → full (feature phase) → logging out (no
// request is taken, those open end) → closing (the connection is shut, tasks in flight end) → closed.

type sessionState uint8

const (
	sessionLogin sessionState = iota
	sessionEntering
	sessionFull
	sessionLoggingOut
	sessionClosing
	sessionClosed
)

var sessionStateNames = [...]string{"login", "entering", "full feature", "logging out", "closing", "closed"}

// String gives the state in words.
func (s sessionState) String() string { return sessionStateNames[s] }

// session is one session of an initiator, or a connection that is to become one.
type session struct {
	pg    *pollGroup
	r     *reactor.Reactor
	port  *portal
	state sessionState

	local   netip.AddrPort
	remote  netip.AddrPort
	login   *login  // nil from the full feature phase on
	params  Params  // what it agreed on
	text    []byte  // the data of a Login or Text request as it arrives
	texting texting // text in the full feature phase
	node    *Node   // nil in a discovery session
	entry   *entry  // its place among the sessions of the node; nil in a discovery session
	nexus   nexus

	expCmdSN SerialNumber
	statSN   SerialNumber // of the next response
	depth    uint32       // commands in the window
	open     uint32       // of them, those taken and not answered

	immediates uint32
	tasks      []task
	tags       tags
	free       *task
	slots      int
	share      reactor.Share
	answered   uint64
	dropped    uint64 // requests whose CmdSN was not the next

	tcp // the connection

	leaving *task // the Logout that ends it
	ping    ping
	heard   reactor.Ticks // when the initiator last sent something
	timer   reactor.Timer // of the login, then of silence

	next, prev *session // in the poll group's list
	queued     loginPlace

	failures    [Failures]uint64 // that were not told
	lastFailure string
}

// begin makes a connection ready for its login.
func (s *session) begin(fd int) {
	s.login = &login{}
	s.local, s.remote = s.pg.endpoints(fd)
	s.login.init(s.pg.view, s.port.tag, s.local, s.remote, rand.Reader)
	s.login.live = s.pg.target.tsihs.live
	s.attach(fd, recvBytesSmall)
	s.statSN = 1
	s.pg.add(s)
	s.r.SetTimer(&s.timer, s.r.Now()+patience.login, (*loginTimer)(s))
}

// loginTimer ends a connection that does not become a session in time.
type loginTimer session

func (t *loginTimer) Run() {
	s := (*session)(t)
	s.pg.stats.refused++
	s.failed(FailureLogin, "it did not log in in its time")
	s.close()
}

// maxCmdSN is the end of the window: it has a place for each command that may still come.
func (s *session) maxCmdSN() SerialNumber { return s.expCmdSN + SerialNumber(s.depth-s.open) - 1 }

// takeNumber judges the CmdSN of the request that has arrived, and reports whether the request counts. RFC 7143 section 4.2.2.1, "Command Numbering and
// Acknowledging": what is outside the window is ignored in silence. So is what leaves a gap: on one connection commands come in their order, and
// what is missing will never come.
//
// A request that is rejected afterwards has used its number all the same. RFC 7143 section 7.3, "Usage of Reject PDU in Recovery", says that it must not, so that
// the initiator fills the gap that is left, by the command again or by an abort. That asks for a target which keeps what comes behind a gap, and for an initiator
// which sends a command again; both are recovery above level 0. Linux' initiator and libiscsi do not: they go on with the next number, of which
// each would be out of order until the session is begun anew. So a Reject tells by its ExpCmdSN that nothing is missing, as SPDK's does.
func (s *session) takeNumber() bool {
	if s.conn.Immediate {
		return true
	}
	if s.state == sessionLoggingOut || SerialNumber(be.Uint32(s.conn.BHS[atCmdSN:])) != s.expCmdSN || s.open == s.depth {
		s.dropped++
		return false
	}
	s.expCmdSN++
	return true
}

// numbered reports whether the PDU that has arrived has a CmdSN. The NOP-Out that answers ours has none that counts.
func (s *session) numbered() bool {
	switch s.conn.Opcode {
	case OpSCSICommand, OpTaskRequest, OpTextRequest, OpLogout:
		return true
	case OpNOPOut:
		return ITT(be.Uint32(s.conn.BHS[atITT:])) != NoTag
	}
	return false
}

// pdu takes a PDU whose header has arrived; its data follows.
func (s *session) pdu() {
	s.heard = s.r.Now()
	op := s.conn.Opcode
	if s.state == sessionLogin {
		s.loginPDU(op)
		return
	}
	if s.params.Discovery && op != OpTextRequest && op != OpLogout {
		s.fault("a discovery session takes Text and Logout alone")
		return
	}
	if s.numbered() && !s.takeNumber() {
		s.ignoreData()
		return
	}
	switch op {
	case OpSCSICommand:
		s.scsiPDU()
	case OpDataOut:
		s.dataOutPDU()
	case OpNOPOut:
		s.pingPDU()
	case OpTaskRequest:
		s.managePDU()
	case OpTextRequest:
		s.textPDU()
	case OpLogout:
		s.logoutPDU()
	case OpSNACK, OpLoginRequest:
		s.reject(RejectProtocol) // at error recovery level 0 there is nothing to ask for again
	default:
		if op >= opVendor && op <= opVendorEnd {
			s.takeNumber() // if it has one
		}
		s.reject(RejectNotSupported)
	}
}

// admitted reports whether a request whose number counts is to be served: as long as there is room for it, and if its tag is its own. RFC 7143 section
// 11.17.1, "Reason": "Task in progress"; the task that has the tag goes on.
func (s *session) admitted(itt ITT) bool {
	switch {
	case s.state == sessionLoggingOut:
		s.ignoreData()
	case s.conn.Immediate && s.immediates == immediateMax:
		s.reject(RejectTooManyImmediate)
	case s.tags.find(itt) != nil:
		s.reject(RejectTaskInProgress)
	default:
		return true
	}
	return false
}

// scsiPDU takes a SCSI Command.
func (s *session) scsiPDU() {
	h, bad := DecodeSCSICommand(s.conn.BHS)
	if !bad.OK() {
		s.reject(bad.Reason)
		return
	}
	if !s.admitted(h.ITT) {
		return
	}
	if s.conn.DataBytes > 0 && (!h.Write || !s.params.ImmediateData || s.conn.DataBytes > min(s.params.FirstBurst, h.EDTL)) ||
		h.Write && !h.Final && s.params.InitialR2T {
		// RFC 7143 section 11.3.4 and 13.10 to 13.14: more data than was agreed on.
		s.reject(RejectProtocol)
		return
	}
	t := s.acquire(kindSCSI, h.ITT, h.CmdSN, h.Immediate)
	t.lun, t.cdb, t.attr, t.reads, t.writes, t.edtl = h.LUN, h.CDB, h.Attribute, h.Read, h.Write, h.EDTL
	t.tooBig = len(s.conn.AHS) > 0 || h.Read && h.Write
	if t.unit = s.nexus.find(t.lun); t.unit != nil {
		t.unit.here.enter()
	}
	t.start()
	good := t.admit()
	s.gather(t, s.conn.DataBytes, h.Write && !h.Final, good)
}

// pingPDU takes a NOP-Out: one that wants an answer, or the answer to ours. RFC 7143 section 11.18.
func (s *session) pingPDU() {
	h, bad := DecodeNOPOut(s.conn.BHS)
	if !bad.OK() {
		s.reject(bad.Reason)
		return
	}
	if h.ITT == NoTag {
		s.ping.answered(h.TTT)
		s.ignoreData()
		return
	}
	if !s.admitted(h.ITT) {
		return
	}
	t := s.acquire(kindPing, h.ITT, h.CmdSN, h.Immediate)
	t.lun = h.LUN
	t.ping = min(s.conn.DataBytes, s.params.SendBytesMax)
	t.out = t.ping
	s.gather(t, s.conn.DataBytes, false, true)
}

// logoutPDU takes a Logout. RFC 7143 section 11.14.
func (s *session) logoutPDU() {
	h, bad := DecodeLogoutRequest(s.conn.BHS)
	if !bad.OK() {
		s.reject(bad.Reason)
		return
	}
	if !s.admitted(h.ITT) {
		return
	}
	if h.Reason > LogoutRecovery {
		s.reject(RejectInvalidField)
		return
	}
	s.ignoreData()
	t := s.acquire(kindLogout, h.ITT, h.CmdSN, h.Immediate)
	t.logout = LogoutDone
	switch {
	case h.Reason == LogoutRecovery:
		t.logout = LogoutRecoveryNotSupported
	case h.Reason == LogoutConnection && h.CID != s.params.CID:
		t.logout = LogoutCIDNotFound
	}
	if t.logout != LogoutDone {
		s.answer(t)
		return
	}
	s.state, s.leaving = sessionLoggingOut, t
	for i := range s.tasks {
		if o := &s.tasks[i]; o != t {
			s.cut(o)
		}
	}
	s.logoutIfDone()
}

// logoutIfDone answers the Logout when every other task is over; those end without an answer.
func (s *session) logoutIfDone() {
	if t := s.leaving; t != nil && s.slots == len(s.tasks)-1 && t.state == taskGathering {
		s.nexus.letGo()
		s.answer(t)
	}
}

// close ends the session: its connection is shut, tasks in flight end, then those are told who have to know. Closing twice is harmless.
func (s *session) close() {
	if s.state >= sessionClosing {
		return
	}
	s.state = sessionClosing
	s.queued.leave()
	s.r.StopTimer(&s.timer)
	s.shut()
	for i := range s.tasks {
		if t := &s.tasks[i]; t.state == taskExecuting {
			s.cut(t)
		}
	}
}

// closeIfDone goes on with the end when nothing of the session is in flight any more.
func (s *session) closeIfDone() {
	if s.state != sessionClosing || !s.gone || s.slots < len(s.tasks) {
		return
	}
	s.state = sessionClosed
	s.nexus.letGo()
	invariant.Check(s.share.Bytes() == 0, "iscsi: memory is lent to a session that ends")
	invariant.Check(s.owed == 0, "iscsi: data is owed of no task")
	s.pg.stats.commands += s.answered
	s.pg.stats.dropped += s.dropped
	if h := s.takeFailures(); h != nil {
		s.pg.send(s.pg.target.groups[0].r, h)
	}
	s.pg.closed(s)
	switch {
	case s.entry != nil:
		s.pg.stats.ended++
		s.entry.left(s.pg)
	case s.params.TSIH != 0: // of discovery
		s.pg.target.tsihs.give(s.params.TSIH)
		s.pg.target.discoveries.Add(-1)
	}
}

// fault ends the session for what its initiator did.
func (s *session) fault(why string) { s.faultOf(FailureProtocol, why) }

func (s *session) faultOf(f Failure, why string) {
	s.count(f, why)
	s.pg.target.log.Warn("an initiator broke the protocol, its session ends", "initiator", s.initiator(), "why", why)
	s.pg.stats.faults++
	s.close()
}

// initiator names the initiator for messages.
func (s *session) initiator() string {
	if s.params.InitiatorName == "" {
		return "not logged in yet"
	}
	return s.params.InitiatorName
}

// requestLogout asks the initiator to log out within so many seconds. RFC 7143 section 11.9.1, "AsyncEvent" 1.
func (s *session) requestLogout(seconds uint16) {
	if s.state == sessionFull {
		s.send(outItem{kind: outAsync, num: uint32(AsyncRequestLogout) | uint32(seconds)<<16})
	}
}
