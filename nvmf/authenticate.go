package nvmf

import (
	"fmt"
	"slices"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the authentication of a queue: it brings the commands of DH-HMAC-CHAP to the machine of auth_target.go, and
// does what that says. What an exchange goes by, keys, hash functions and groups, is looked up when it begins: so a change
// counts for the next exchange, and queues that work go on.
//
// A host with a key hears ATR in the answer to each Connect, and the queue is authenticating until it has proved itself. A
// host may begin an exchange at any time after that, also where none was asked of it. NVM Express Base Specification 2.1
// section 8.3.4.2, "NVMe In-band Authentication".
//
// How a failure ends: the machine refuses → on a queue that worked, commands end with Operation Denied (denied) → the host
// fetches AUTH_Failure1 → a moment later the connection closes. A host that does not fetch it is closed when its time is up.

// queueAuth is what authenticating takes. A queue has none until it is needed.
type queueAuth struct {
	q       *queue
	machine *AuthTarget
	held    *command      // the Send that waits for work; nil if none does
	work    *authWork     // out; nil if none is
	timer   reactor.Timer // until the host's next command, or, once told, until the end
	told    bool          // a failure was told: the connection ends in a moment
}

// authTimeout is how long a host without keep-alive timeout may take for its next command. Section 8.3.4.2.
const authTimeout = 2 * 60 * reactor.Second

// authLeaveTimeout is how long a connection stays open after a failure was told: until the host has read that, and for what a
// device still holds. Linux needs the time: when a connection goes while a command of an authentication is open on its live
// controller, it wants to send that again on the next one, which it does not make before that command has ended. Only a test
// changes it.
var authLeaveTimeout = 2 * reactor.Second

// authenticates reports whether c is a command of an authentication.
func (c *command) authenticates() bool {
	t := c.sqe.FCTYPE()
	return c.sqe.Opcode() == OpcodeFabrics && (t == FabricsAuthSend || t == FabricsAuthReceive)
}

// admitEarly judges a command on a queue that is not live. An authentication goes on until the queue closes.
func (q *queue) admitEarly(c *command) Status {
	connects := c.sqe.Opcode() == OpcodeFabrics && c.sqe.FCTYPE() == FabricsConnect
	switch {
	case q.state == queueConnecting && !connects:
		return StatusSequence | DNR
	case q.state == queueAuthenticating && !c.authenticates():
		return StatusAuthenticationNeeded
	case q.state == queueDenied && !c.authenticates():
		return StatusOperationDenied
	}
	return StatusSuccess
}

// admitAuth checks the fields of an Authentication Send or Receive, and how much data goes either way.
//
// Base Specification 2.1 sections 6.1 and 6.2, "Authentication Receive" and "Authentication Send Command and Response".
func (q *queue) admitAuth(c *command) Status {
	if !c.sqe.AuthProtocol() || c.sqe.AuthBytes() == 0 {
		return StatusInvalidField | DNR
	}
	bytes := c.transfer
	if !c.writes() {
		var place DataPlace
		var s Status
		if place, bytes, s = q.t.locate(c, 0); !s.OK() {
			return s
		}
		if place != DataTransfer || bytes > q.limits.MaxIOBytes {
			return StatusInvalidField | DNR
		}
		c.send = bytes
	}
	if bytes != c.sqe.AuthBytes() {
		return StatusSGLLength | DNR
	}
	return StatusSuccess
}

// authConfig is what an exchange that begins now goes by; ok is false if the host has no key.
func (q *queue) authConfig() (c AuthConfig, ok bool) {
	h := q.sub.view.hosts[q.host.nqn]
	if h == nil || h.keys.Host == nil {
		return AuthConfig{}, false
	}
	rules := q.pg.target.authRules.Load()
	return AuthConfig{
		SubNQN: q.sub.sub.o.NQN, HostNQN: h.NQN, HostKey: h.keys.Host, CtrlKey: h.keys.Ctrl, Hashes: rules.Hashes, Groups: rules.Groups,
	}, true
}

// requireAuth makes a queue wait for its host's proof, if the host has a key, and reports whether.
func (q *queue) requireAuth() bool {
	if !q.configureAuth() {
		return false
	}
	q.state = queueAuthenticating
	q.auth.awaitHost()
	return true
}

// configureAuth gives the machine what the next exchange goes by. The queue needs none if the host has no key; then it
// answers false, unless an exchange is under way, which ends with what it began with.
func (q *queue) configureAuth() bool {
	cfg, ok := q.authConfig()
	switch {
	case !ok:
		return q.auth != nil && !q.auth.machine.idle()
	case q.auth == nil:
		m, err := NewAuthTarget(cfg)
		invariant.Check(err == nil, "nvmf: authentication that was checked when it was set, and is wrong")
		q.auth = &queueAuth{q: q, machine: m}
	default:
		err := q.auth.machine.Configure(cfg)
		invariant.Check(err == nil, "nvmf: authentication that was checked when it was set, and is wrong")
	}
	return true
}

// authSend takes a message of the host's.
func (q *queue) authSend(c *command) {
	if !q.configureAuth() {
		// The standard does not say. Others answer so too: there is no exchange that this could belong to.
		q.respond(c, StatusSequence|DNR)
		return
	}
	a := q.auth
	was := a.machine.State()
	a.follow(c, was, a.machine.Send(c.data))
}

// authReceive gives the host the message that waits for it. Its buffer is filled whole.
func (q *queue) authReceive(c *command) {
	if !q.configureAuth() {
		q.respond(c, StatusSequence|DNR)
		return
	}
	if !q.lend(c, c.send) {
		return
	}
	a := q.auth
	was := a.machine.State()
	s := a.machine.Receive(int(c.send))
	clear(c.data[copy(c.data, s.Data):])
	a.follow(c, was, s)
}

// follow does what the machine says after c, which found it in the state was.
func (a *queueAuth) follow(c *command, was AuthState, s AuthStep) {
	q := a.q
	if s.Err != nil {
		a.failed(s.Err)
	}
	if q.state == queueAuthenticating && a.machine.Authenticated() {
		q.state = queueLive
	}
	if s.Do == AuthCompleteThenClose {
		a.told = true
		q.r.SetTimer(&a.timer, q.r.Now()+authLeaveTimeout, a)
	}
	if a.machine.State() != was {
		a.awaitHost() // a command that brings the exchange no further gains the host no time
	}
	switch s.Do {
	case AuthHold:
		a.held, a.work = c, &authWork{a: a, r: q.r, job: s.Job}
		q.pg.target.authPool.add(a.work)
	case AuthComplete, AuthCompleteThenClose:
		if a.machine.State() == AuthIdle && was != AuthIdle {
			a.succeeded()
		}
		q.respond(c, StatusSuccess)
	case AuthInvalidField:
		q.respond(c, StatusInvalidField|DNR)
	default: // AuthSequenceError, and AuthClose: a failure was told, and the connection is ending
		q.respond(c, StatusSequence|DNR)
	}
}

// computed takes back work that was done. If the queue has closed meanwhile, nobody waits for it.
func (a *queueAuth) computed(w *authWork) {
	if a.work != w {
		w.job.wipe()
		return
	}
	c := a.held
	a.held, a.work = nil, nil
	was := a.machine.State()
	a.follow(c, was, a.machine.Computed(w.job))
}

// awaitHost gives the host time for its next command, where it is its turn.
func (a *queueAuth) awaitHost() {
	r := a.q.r
	switch {
	case a.told:
	case a.machine.Waiting():
		r.SetTimer(&a.timer, r.Now()+a.q.authPatience(), a)
	default:
		r.StopTimer(&a.timer)
	}
}

// authPatience is the keep-alive timeout, if there is one.
func (q *queue) authPatience() reactor.Ticks {
	kato := reactor.Ticks(0)
	switch {
	case q.ctrl != nil:
		kato = q.ctrl.kato
	case q.link != nil:
		kato = q.link.kato
	}
	if kato == 0 {
		return authTimeout
	}
	return kato
}

// Run hears that the time is up: of a first authentication, which has failed then; of a later one, which is forgotten; or after
// a failure was told.
func (a *queueAuth) Run() {
	if a.told {
		a.q.close()
		return
	}
	s := a.machine.Expire()
	if s.Err != nil {
		a.failed(s.Err)
	}
	if s.Do == AuthClose {
		a.q.close()
	}
}

// succeeded tells of a host that has proved itself, once for its controller.
func (a *queueAuth) succeeded() {
	q := a.q
	if q.ctrl != nil {
		q.pg.target.log.Info("a host authenticated", "subsystem", q.sub.sub.o.NQN, "host", q.host.nqn, "controller", q.ctrl.id,
			"hash", a.machine.Hash().String(), "group", a.machine.Group().String())
	}
}

// failed counts and tells of a failure, and ends what a host that was believed has open.
func (a *queueAuth) failed(err error) {
	q := a.q
	q.pg.authFailures++
	if h := q.sub.view.hosts[q.host.nqn]; h != nil {
		h.authFailures.Add(1)
	}
	q.pg.target.log.Warn("a host failed to authenticate, its connection ends", "subsystem", q.sub.sub.o.NQN, "host", q.host.nqn, "queue", q.id, "error", err.Error())
	if q.state == queueLive {
		q.deny()
	}
}

// deny ends every command but those of the authentication with Operation Denied: what can be ended at once, and the rest
// when its data or the device's answer is there. Section 8.3.4.2.
func (q *queue) deny() {
	q.state = queueDenied
	if q.ctrl != nil {
		q.ctrl.events.drop(q.ctrl)
	}
	for i := range q.commands {
		if c := &q.commands[i]; !c.authenticates() {
			q.abort(c)
		}
	}
}

// close drops what is under way, when the queue closes.
func (a *queueAuth) close() {
	a.q.r.StopTimer(&a.timer)
	a.machine.forget()
	if a.work == nil {
		return
	}
	if a.q.pg.target.authPool.drop(a.work) {
		a.work.job.wipe()
	}
	c := a.held
	a.held, a.work = nil, nil
	a.q.release(c)
}

// AuthInfo describes the authentication of a queue.
type AuthInfo struct {
	State         AuthState
	Authenticated bool
	Hash          AuthHash
	Group         DHGroup
}

// authInfo is nil for a queue without.
func (q *queue) authInfo() *AuthInfo {
	if q.auth == nil {
		return nil
	}
	m := q.auth.machine
	return &AuthInfo{m.State(), m.Authenticated(), m.Hash(), m.Group()}
}

// AuthRules are the hash functions and groups that the target's authentications may use; none means all.
type AuthRules struct {
	Hashes []AuthHash
	Groups []DHGroup
}

// SetAuthRules changes them for the exchanges to come.
func (t *Target) SetAuthRules(r AuthRules) error {
	for _, h := range r.Hashes {
		if h.size() == 0 {
			return fmt.Errorf("setting the hash functions of authentication: %v: %w: sha256, sha384 or sha512", h, ErrInvalid)
		}
	}
	for _, g := range r.Groups {
		if g >= dhGroupEnd {
			return fmt.Errorf("setting the groups of authentication: %v: %w: null, ffdhe2048, ffdhe3072, ffdhe4096, ffdhe6144 or ffdhe8192", g, ErrInvalid)
		}
	}
	t.authRules.Store(&AuthRules{slices.Clone(r.Hashes), slices.Clone(r.Groups)})
	return nil
}

// AuthRules gives them.
func (t *Target) AuthRules() AuthRules {
	r := t.authRules.Load()
	return AuthRules{slices.Clone(r.Hashes), slices.Clone(r.Groups)}
}
