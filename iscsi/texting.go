package iscsi

import (
	"cmp"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is the requests of a session that are text: its login, which login.go judges, and Text requests in the full feature phase. RFC 7143 sections
// 11.10 to 11.13. Their data is small and seldom: it is gathered in memory of the process.

// textMax bounds the data of one request.
const textMax = 8192

// texting is a Text exchange in the full feature phase.
type texting struct {
	request TextRequest
	login   LoginRequest
	asked   []byte // what came in earlier requests of it, with C
	rest    []byte // of the answer, for the next request
	ttt     TTT    // of the exchange that goes on, NoTag if none does
	final   bool
}

// takeText begins to take the data of a request.
func (s *session) takeText() {
	n := s.conn.DataBytes
	s.text = make([]byte, n)
	if n == 0 {
		s.textEnd()
		return
	}
	s.conn.Place(s.text)
}

// loginPDU takes a PDU in the login phase.
func (s *session) loginPDU(op Opcode) {
	h, bad := DecodeLoginRequest(s.conn.BHS)
	if op != OpLoginRequest || !bad.OK() {
		// RFC 7143 section 6.3, "Login Phase": nothing else may come; the answer is a Login Response.
		s.ignoreData()
		s.answerLogin(s.login.refusal(h, LoginInvalidRequest), nil, loginRefused)
		return
	}
	if s.statSN == 1 { // the first
		s.expCmdSN = h.CmdSN
	}
	s.texting.login = h
	if s.conn.DataBytes > textMax {
		s.ignoreData()
		s.answerLogin(s.login.refusal(h, LoginInitiatorError), nil, loginRefused)
		return
	}
	s.takeText()
}

// textEnd hears that the text of a request is there.
func (s *session) textEnd() {
	text, t := s.text, s.placing
	s.text, s.placing = nil, nil
	switch {
	case s.state == sessionLogin:
	case t.aborted:
		s.release(t)
		return
	case !s.conn.DigestOK:
		s.release(t)
		s.rejectLast(RejectDataDigest)
		return
	default:
		s.textRequest(t, text)
		return
	}
	s.login.v = s.pg.view // what is configured may have changed since the last request
	resp, answer, state := s.login.request(s.texting.login, text)
	if state == loginEnters {
		s.params = s.login.params
		s.enter()
		return
	}
	s.answerLogin(resp, answer, state)
}

// answerLogin sends a Login Response.
func (s *session) answerLogin(r LoginResponse, text []byte, state loginState) {
	r.StatSN, r.ExpCmdSN, r.MaxCmdSN = s.statSN, s.expCmdSN, s.expCmdSN
	if s.depth > 0 {
		r.MaxCmdSN = s.maxCmdSN()
	}
	s.statSN++
	r.DataBytes = uint32(len(text))
	b := append(r.AppendTo(nil), text...)
	s.send(outItem{kind: outRaw, raw: AppendDataEnd(b, r.DataBytes, 0, 0)})
	if state == loginRefused {
		s.pg.stats.refused++
		f := FailureLogin
		switch r.Status {
		case LoginAuthenticationFail:
			f = FailureCHAP
		case LoginNotAllowed:
			f = FailureDenied
		}
		if f != FailureLogin {
			s.pg.stats.denied++
		}
		if r.Status != LoginMovedForNow {
			s.failed(f, cmp.Or(s.login.why, r.Status.String()))
		}
		s.pg.logRefusal(s, r.Status)
		s.last = true
	}
}

// refusalsApart is how often a reactor logs a refused login at most: an initiator that tries for ever must not fill the log.
const refusalsApart = reactor.Second

// logRefusal logs a login that was refused, with the number of those before it that were not.
func (pg *pollGroup) logRefusal(s *session, status LoginStatus) {
	if now := pg.r.Now(); now < pg.refusalLogged+refusalsApart && pg.refusalLogged > 0 {
		pg.refusalsUnsaid++
		return
	}
	l := s.login
	pg.target.log.Warn("a login was refused", "initiator", l.initiator, "from", s.remote.String(), "target", l.target, "status", status.String(),
		"why", l.why, "not logged before it", pg.refusalsUnsaid)
	pg.refusalLogged, pg.refusalsUnsaid = pg.r.Now(), 0
}

// textPDU takes a Text request in the full feature phase.
func (s *session) textPDU() {
	h, bad := DecodeTextRequest(s.conn.BHS)
	if !bad.OK() {
		s.reject(bad.Reason)
		return
	}
	if !s.admitted(h.ITT) {
		return
	}
	x := &s.texting
	if s.conn.DataBytes > textMax || len(x.asked)+int(s.conn.DataBytes) > textMax ||
		h.TTT != NoTag && (h.TTT != x.ttt || x.ttt == NoTag) || h.Final && h.Continue {
		s.reject(RejectProtocol)
		return
	}
	if h.TTT == NoTag { // a new exchange; one that was under way is over
		x.asked, x.rest = nil, nil
	}
	x.request = h
	s.placing = s.acquire(kindText, h.ITT, h.CmdSN, h.Immediate)
	s.placing.lun = h.LUN
	s.takeText()
}

// textRequest answers a Text request whose text is there.
func (s *session) textRequest(t *task, text []byte) {
	x := &s.texting
	h := &x.request
	switch {
	case h.Continue:
		x.asked = append(x.asked, text...)
	case x.rest != nil && len(text) == 0: // the next piece
	default:
		answer, why := s.answerText(append(x.asked, text...))
		x.asked = nil
		if why != 0 {
			x.ttt = NoTag
			s.release(t)
			s.rejectLast(why)
			return
		}
		x.rest = answer
	}
	n := min(len(x.rest), int(s.params.SendBytesMax), textMax)
	t.data, x.rest = x.rest[:n], x.rest[n:]
	if len(x.rest) == 0 {
		x.rest = nil
	}
	x.final = h.Final && !h.Continue && x.rest == nil
	x.ttt = NoTag
	if !x.final {
		x.ttt = TTT(s.statSN)
		if x.ttt == NoTag {
			x.ttt = 0
		}
	}
	s.answer(t)
}

// answerText gives the answer to a whole request: SendTargets, or keys that may be said again.
func (s *session) answerText(text []byte) ([]byte, RejectReason) {
	return answerText(s.pg.view, &s.params, s.local, s.remote, text)
}

// textAnswer is the header of the answer that was made last: an exchange has one at a time.
func (s *session) textAnswer(t *task, n Numbers) TextResponse {
	x := &s.texting
	return TextResponse{LUN: t.lun, ITT: t.itt, TTT: x.ttt, DataBytes: uint32(len(t.data)), Final: x.final, Continue: x.rest != nil, Numbers: n}
}
