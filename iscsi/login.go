package iscsi

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is the login of one connection as the target sees it. RFC 7143 section 6.3, "Login Phase". The states, in order:
//
//	loginGoesOn  requests are answered: who is it, and may it (identify); does it prove it (chap.go); what holds (negotiate.go)
//	loginEnters  all is agreed on; the last answer waits for the session's TSIH
//	loginDone    that answer was given
//
//	loginRefused something was wrong; the answer said what, and the connection ends
//
// A request is judged in this order: header, version, the text as a whole, who and where to, redirect, proof, keys, stage.

// loginState is where a login stands.
type loginState uint8

const (
	loginGoesOn loginState = iota
	loginEnters
	loginDone
	loginRefused
)

var loginStateNames = [...]string{"goes on", "enters", "done", "refused"}

// String names the state.
func (s loginState) String() string { return loginStateNames[s] }

// loginMoves holds the states that may follow each, as bits.
var loginMoves = [...]uint8{
	loginGoesOn:  1<<loginGoesOn | 1<<loginEnters | 1<<loginRefused,
	loginEnters:  1<<loginDone | 1<<loginRefused,
	loginDone:    0,
	loginRefused: 1 << loginRefused,
}

const (
	loginTextMax     = 16384 // bytes of a request's text, its pieces joined by C
	loginRequestsMax = 64    // of one login: with the longest discussion that anybody needs, 8
	loginVersion     = 0     // the one there is: RFC 7143 section 11.12.4
)

// login is the machine. It keeps nothing of what it is given but what it has copied.
type login struct {
	live func(TSIH) bool // whether a TSIH names a session; nil knows of none

	v             *view // the caller may put a newer one here between requests
	local, remote netip.AddrPort

	params Params // the result
	node   *Node  // nil in a discovery session
	at     *nodeView
	why    string // of a refusal, for logs

	state    loginState
	status   LoginStatus // of a refusal
	requests int
	header   LoginRequest // the last one
	stage    Stage
	known    bool // who it is, and that it may
	tagged   bool // it has been told the portal group's tag
	declared bool // and what we take

	text []byte // of a request as it arrives
	out  []byte // of the answer, what has not been sent

	negotiation
	auth   Auth
	method string // AuthMethod: "CHAP", "None", "" as long as none is chosen
	chap   chap
}

// init begins the login of a connection that came from remote to local, by the portal group with this tag.
func (l *login) init(v *view, tag int, local, remote netip.AddrPort, random io.Reader) {
	*l = login{v: v, local: local, remote: remote, params: defaultParams()}
	l.params.Tag = tag
	l.chap.random = random
	l.negotiation = negotiation{options: &v.options, p: &l.params}
}

// request takes a Login Request, and gives what answers it; what is not of it in the response is the session's. answer is lent until the next
// request. After loginEnters it must not be sent: the session finds out what its TSIH is, or that there is no place for it, and sends what
// finish or refuse give. After loginRefused it is sent, and the connection ends.
func (l *login) request(h LoginRequest, text []byte) (resp LoginResponse, answer []byte, state loginState) {
	invariant.Check(l.state != loginDone, "iscsi: a request comes to a login that is done")
	switch l.state {
	case loginRefused:
		return l.refuse(l.status), nil, l.state
	case loginEnters:
		return l.refused(LoginInvalidRequest, "a request came while the login %s", l.state)
	}
	first := l.requests == 0
	last := l.header
	l.header = h
	l.requests++
	switch {
	case l.requests > loginRequestsMax:
		return l.refused(LoginInitiatorError, "more than %d requests", loginRequestsMax)
	case h.VersionMin > loginVersion:
		return l.refused(LoginVersion, "version %d at least, and 0 is what there is", h.VersionMin)
	case l.v.stopping:
		return l.refused(LoginServiceUnavailable, "the target is being stopped")
	case first:
		l.stage = h.CSG
		l.params.ISID, l.params.TSIH, l.params.CID = h.ISID, h.TSIH, h.CID
	case h.ISID != last.ISID, h.TSIH != last.TSIH, h.CID != last.CID:
		return l.refused(LoginInitiatorError, "ISID, TSIH or CID change within the login")
	}
	if why := l.badStage(h); why != "" {
		return l.refused(LoginInitiatorError, "%s", why)
	}
	if status := l.still(); status != LoginSuccess {
		return l.refused(status, "%s is gone, or does not let it in any more", l.at.name)
	}
	if len(l.text)+len(text) > loginTextMax {
		return l.refused(LoginInitiatorError, "more than %d bytes of text in a request", loginTextMax)
	}
	switch {
	case len(l.out) > 0 && (len(text) > 0 || h.Continue):
		// RFC 7143 section 11.13, "C (Continue) Bit": as long as our answer goes on, requests are empty.
		return l.refused(LoginInitiatorError, "text came before the answer was fetched")
	case len(l.out) > 0:
		return l.conclude()
	case h.Continue:
		l.text = append(l.text, text...)
		return l.response(), nil, loginGoesOn
	}
	if len(l.text) > 0 {
		text = append(l.text, text...)
		l.text = nil
	}
	pairs, err := parseText(text)
	if err != nil {
		return l.refused(LoginInitiatorError, "%v", err)
	}
	if status, why := l.take(pairs); status != LoginSuccess {
		return l.refused(status, "%s", why)
	}
	return l.conclude()
}

// badStage says what is wrong with a request's stages. RFC 7143 sections 6.3 and 11.12.1 to 11.12.3.
func (l *login) badStage(h LoginRequest) string {
	switch {
	case h.CSG != SecurityNegotiation && h.CSG != OperationalStage:
		return fmt.Sprintf("CSG is %d, which is no stage of a login", h.CSG)
	case h.CSG != l.stage:
		return fmt.Sprintf("CSG is %v, and the login is in %v", h.CSG, l.stage)
	case h.Transit && h.Continue:
		return "T and C are set"
	case h.Transit && h.NSG != OperationalStage && h.NSG != FullFeature:
		return fmt.Sprintf("NSG is %d, which no stage can be followed by", h.NSG)
	case h.Transit && h.NSG <= h.CSG:
		return fmt.Sprintf("NSG is %v, no step on from %v", h.NSG, h.CSG)
	}
	return ""
}

// take judges the keys of a request and makes the answer.
func (l *login) take(pairs []pair) (LoginStatus, string) {
	if key := l.again(pairs); key != "" {
		return LoginInitiatorError, key + " came twice"
	}
	initiator, target, session := l.initiator, l.target, l.session
	l.out = l.out[:0]
	if !l.known {
		// Names and the kind of session come before all others, wherever they stand: what other keys mean depends on them.
		for _, p := range pairs {
			switch p.key {
			case "InitiatorName":
				l.initiator = p.value
			case "TargetName":
				l.target = p.value
			case "SessionType":
				l.session = p.value
			}
		}
		if status, why := l.identify(); status != LoginSuccess {
			return status, why
		}
		initiator, target, session = l.initiator, l.target, l.session
	}
	security := l.stage == SecurityNegotiation
	if security {
		if why := l.prove(pairs); why != "" {
			return LoginAuthenticationFail, why
		}
	}
	l.out = l.settle(l.out, pairs, security)
	// RFC 7143 sections 13.4 and 13.5: names are not declared anew. libiscsi repeats them in the operational stage.
	if l.initiator != initiator || l.target != target || l.session != session {
		return LoginInitiatorError, "InitiatorName, TargetName or SessionType change within the login"
	}
	if l.target != "" && !l.tagged {
		// RFC 7143 section 13.9, "TargetPortalGroupTag": with the first answer.
		l.tagged = true
		if l.at != nil && l.at.alias != "" {
			l.out = appendPair(l.out, "TargetAlias", l.at.alias)
		}
		l.out = appendPair(l.out, "TargetPortalGroupTag", fmt.Sprint(l.params.Tag))
	}
	if !security && !l.declared {
		l.declared = true
		l.params.RecvBytesMax = recvBytesOurs
		l.out = appendPair(l.out, "MaxRecvDataSegmentLength", fmt.Sprint(recvBytesOurs))
	}
	return LoginSuccess, ""
}

// identify judges who wants what.
func (l *login) identify() (LoginStatus, string) {
	p := &l.params
	switch {
	case l.initiator == "":
		return LoginMissingParameter, "the first request has no InitiatorName"
	case len(l.initiator) > NameBytesMax:
		return LoginInitiatorError, fmt.Sprintf("InitiatorName has %d bytes, %d are allowed", len(l.initiator), NameBytesMax)
	}
	// RFC 7143 section 4.2.7.2: names are compared in lower case. What is kept by name, a session to be replaced or a reservation, is
	// that of the same initiator however it writes its name.
	if p.InitiatorName = strings.ToLower(l.initiator); len(p.InitiatorName) > NameBytesMax { // some letters are longer so
		return LoginInitiatorError, fmt.Sprintf("InitiatorName has %d bytes in lower case, %d are allowed", len(p.InitiatorName), NameBytesMax)
	}
	switch l.session {
	case "Discovery":
		p.Discovery = true
	case "", "Normal":
	default:
		return LoginSessionType, fmt.Sprintf("SessionType is %.60q", l.session)
	}
	if !p.Discovery {
		if status, why := l.locate(); status != LoginSuccess {
			return status, why
		}
	}
	if p.TSIH != 0 {
		return l.join()
	}
	l.auth = l.v.authOf(l.at, p.Tag)
	l.chap.mutual = l.auth.Mutual
	l.chap.secrets = l.v.secrets[l.auth.Group]
	if l.auth.Require && l.stage != SecurityNegotiation {
		return LoginAuthenticationFail, "the login begins behind the stage in which the initiator has to prove itself"
	}
	l.known = true
	return LoginSuccess, ""
}

// locate finds the target that a session is for.
func (l *login) locate() (LoginStatus, string) {
	p := &l.params
	if l.target == "" {
		return LoginMissingParameter, "the first request has no TargetName"
	}
	node := l.v.find(l.target)
	if node == nil {
		return LoginNotFound, fmt.Sprintf("there is no target %.223q", l.target)
	}
	m := node.admits(p.Tag, p.InitiatorName, l.remote.Addr())
	switch {
	case m == nil:
		return LoginNotAllowed, fmt.Sprintf("no map of %s lets it in by portal group %d", node.name, p.Tag)
	case m.redirect != "" && m.redirect != portalOf(netip.AddrPortFrom(l.local.Addr().Unmap().WithZone(""), l.local.Port())).String():
		// Who came to the very address, by a portal at all addresses, would be sent in a circle.
		// RFC 7143 section 13.8, "TargetAddress": with a redirect without the tag of a portal group.
		l.out = appendPair(l.out[:0], "TargetAddress", m.redirect)
		return LoginMovedForNow, "it is sent to " + m.redirect
	}
	l.node, l.at, p.TargetName = node.node, node, node.name
	if node.header {
		l.required |= HeaderDigests
	}
	if node.data {
		l.required |= DataDigests
	}
	return LoginSuccess, ""
}

// still looks the target up again: what is configured may have changed since the last request.
func (l *login) still() LoginStatus {
	if l.at == nil {
		return LoginSuccess
	}
	n := l.v.find(l.at.name)
	switch {
	case n == nil || n.node != l.node:
		return LoginRemoved
	case n.admits(l.params.Tag, l.params.InitiatorName, l.remote.Addr()) == nil:
		return LoginNotAllowed
	}
	l.at = n
	return LoginSuccess
}

// join refuses a connection for a session that exists: a session has one. RFC 7143 section 6.3.1, "Login Phase Start".
func (l *login) join() (LoginStatus, string) {
	if l.live == nil || !l.live(l.params.TSIH) {
		return LoginNoSuchSession, fmt.Sprintf("there is no session with TSIH %d", l.params.TSIH)
	}
	return LoginTooManyConnections, fmt.Sprintf("session %d has its connection, and takes no second one", l.params.TSIH)
}

// prove sees to AuthMethod and to CHAP. RFC 7143 section 12.1, "AuthMethod".
func (l *login) prove(pairs []pair) string {
	var keys chapKeys
	for _, p := range pairs {
		if p.key != "AuthMethod" || isAnswer(p.value) {
			keys.put(p.key, p.value)
			continue
		}
		var usable []string
		if !l.auth.Disable && len(l.chap.secrets) > 0 {
			usable = append(usable, "CHAP")
		}
		if !l.auth.Require {
			usable = append(usable, "None")
		}
		method, ok := first(p.value, usable...)
		if !ok {
			return fmt.Sprintf("AuthMethod is %.60q, usable are %q", p.value, usable)
		}
		l.method = method
		l.out = appendPair(l.out, "AuthMethod", method)
	}
	if l.method != "CHAP" {
		if !keys.none() {
			return "CHAP was not agreed on"
		}
		if l.auth.Require && l.method == "" && l.header.Transit {
			return "the initiator wants to go on without having proved itself"
		}
		return ""
	}
	answer, why := l.chap.step(keys)
	for _, p := range answer {
		l.out = appendPair(l.out, p.key, p.value)
	}
	l.params.User = l.chap.user
	return why
}

// proved reports whether the initiator may leave the stage in which it proves itself.
func (l *login) proved() bool {
	if l.method == "CHAP" {
		return l.chap.state == chapProved
	}
	return !l.auth.Require
}

// conclude sends what there is of the answer, and moves on if it is whole and both sides are ready.
func (l *login) conclude() (LoginResponse, []byte, loginState) {
	resp := l.response()
	most := int(min(l.params.SendBytesMax, segmentBytesDefault))
	if len(l.out) > most {
		// RFC 7143 section 11.13, "C (Continue) Bit": the initiator fetches the rest with empty requests.
		piece := l.out[:most]
		l.out = l.out[most:]
		resp.Continue = true
		resp.DataBytes = uint32(len(piece))
		return resp, piece, loginGoesOn
	}
	answer := l.out
	l.out = nil
	resp.DataBytes = uint32(len(answer))
	if !l.header.Transit || !l.proved() {
		return resp, answer, loginGoesOn
	}
	resp.Transit, resp.NSG = true, l.header.NSG
	if l.header.NSG != FullFeature {
		l.stage = l.header.NSG
		return resp, answer, loginGoesOn
	}
	if missing := l.required &^ l.params.Digests; missing != 0 {
		return l.refused(LoginInitiatorError, "%s asks for digests, and the initiator did not agree to them", l.at.name)
	}
	// What came in requests of their own.
	l.params.FirstBurst = min(l.params.FirstBurst, l.params.MaxBurst)
	l.out = answer
	l.move(loginEnters)
	return resp, answer, l.state
}

// response is what answers the last request, before it is known what the answer is.
func (l *login) response() LoginResponse {
	return LoginResponse{
		CSG: l.header.CSG, VersionMax: loginVersion, VersionActive: loginVersion, ISID: l.header.ISID, TSIH: l.header.TSIH, ITT: l.header.ITT,
	}
}

// finish ends a login that enters: the session has this TSIH. The answer is the last.
func (l *login) finish(tsih TSIH) (LoginResponse, []byte) {
	invariant.Check(tsih != 0, "iscsi: a session with TSIH 0")
	l.move(loginDone)
	l.params.TSIH = tsih
	resp := l.response()
	resp.Transit, resp.NSG, resp.TSIH = true, FullFeature, tsih
	resp.DataBytes = uint32(len(l.out))
	return resp, l.out
}

// refuse ends the login with a status, at any time before it is done: when what comes is no login, when there is no place for the session. The
// first refusal stays.
func (l *login) refuse(status LoginStatus) LoginResponse {
	invariant.Check(status != LoginSuccess, "iscsi: a login is refused with success")
	if l.state != loginRefused {
		l.status = status
	}
	l.move(loginRefused)
	resp := l.response()
	resp.CSG = 0 // RFC 7143 section 11.13.5: without success T, CSG and NSG mean nothing
	resp.Status = l.status
	return resp
}

// refusal is refuse for a PDU that request is not given: one that is no login, or is too long. h is what it would be as a Login Request.
func (l *login) refusal(h LoginRequest, status LoginStatus) LoginResponse {
	if status == LoginInvalidRequest || l.requests > 0 {
		l.header.ITT = h.ITT
	} else {
		l.header = h
	}
	return l.refuse(status)
}

// refused ends it with a reason for logs. A redirect has an answer beside its status.
func (l *login) refused(status LoginStatus, format string, a ...any) (LoginResponse, []byte, loginState) {
	l.why = fmt.Sprintf(format, a...)
	resp := l.refuse(status)
	if status != LoginMovedForNow {
		return resp, nil, l.state
	}
	resp.DataBytes = uint32(len(l.out))
	return resp, l.out, l.state
}

func (l *login) move(to loginState) {
	invariant.Check(loginMoves[l.state]&(1<<to) != 0, "iscsi: a login moves where it may not")
	l.state = to
}
