package nvmf

import (
	"bytes"
	"crypto/hmac"
	"fmt"

	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is the controller's end of DH-HMAC-CHAP for one queue. The states, in order:
//
//	AuthIdle         no exchange: none has begun, or the last one ended well
//	AuthKeying       g^x is being computed; the Send with AUTH_Negotiate is held
//	AuthChallenging  the challenge waits for a Receive
//	AuthReplying     the challenge was fetched; DH-HMAC-CHAP_Reply must come
//	AuthVerifying    g^xy is being computed; the Send with DH-HMAC-CHAP_Reply is held
//	AuthAccepting    the host has proved itself; DH-HMAC-CHAP_Success1 waits for a Receive
//	AuthConfirming   our own proof was fetched; DH-HMAC-CHAP_Success2 must come
//	AuthIdle
//
//	AuthRefusing     something was wrong; AUTH_Failure1 waits for a Receive
//	AuthLapsed       the time of a later exchange was up; the former result holds, and an exchange may begin
//	AuthClosed       over: the connection ends
//
// NVMe Base Specification 2.1 section 8.3.4.5.1, "DH-HMAC-CHAP Authentication Protocol".

// AuthState is where a controller's machine stands.
type AuthState uint8

// The states; the table above says what each is.
const (
	AuthIdle AuthState = iota
	AuthKeying
	AuthChallenging
	AuthReplying
	AuthVerifying
	AuthAccepting
	AuthConfirming
	AuthRefusing
	AuthLapsed
	AuthClosed

	authStateEnd
)

var authStateNames = [authStateEnd]string{
	"idle", "keying", "challenging", "replying", "verifying", "accepting", "confirming", "refusing", "lapsed", "closed",
}

// String names the state.
func (s AuthState) String() string {
	if s < authStateEnd {
		return authStateNames[s]
	}
	return "unknown state"
}

// authMoves holds the states that may follow each, as bits.
var authMoves = [authStateEnd]uint16{
	AuthIdle:        1<<AuthKeying | 1<<AuthChallenging | 1<<AuthRefusing | 1<<AuthClosed,
	AuthKeying:      1 << AuthChallenging,
	AuthChallenging: 1<<AuthReplying | 1<<AuthRefusing | 1<<AuthLapsed | 1<<AuthClosed,
	AuthReplying:    1<<AuthVerifying | 1<<AuthAccepting | 1<<AuthRefusing | 1<<AuthLapsed | 1<<AuthClosed,
	AuthVerifying:   1<<AuthAccepting | 1<<AuthRefusing,
	AuthAccepting:   1<<AuthConfirming | 1<<AuthIdle | 1<<AuthRefusing | 1<<AuthLapsed | 1<<AuthClosed,
	AuthConfirming:  1<<AuthIdle | 1<<AuthRefusing | 1<<AuthLapsed | 1<<AuthClosed,
	AuthRefusing:    1 << AuthClosed,
	AuthLapsed:      1<<AuthKeying | 1<<AuthChallenging | 1<<AuthRefusing,
	AuthClosed:      0,
}

// AuthDo is what the caller of the controller's machine does next.
type AuthDo uint8

// What there is to do. "The command" is the one given to Send or Receive, or, after Computed, the one that was held.
const (
	AuthNothing           AuthDo = iota // nothing
	AuthComplete                        // complete the command with success
	AuthHold                            // keep the command; run Job elsewhere, then call Computed
	AuthCompleteThenClose               // complete the command with success and end the connection when that is sent
	AuthInvalidField                    // complete the command with Invalid Field in Command
	AuthSequenceError                   // complete the command with Command Sequence Error
	AuthClose                           // end the connection
	authDoEnd
)

var authDoNames = [authDoEnd]string{
	"nothing", "complete", "hold", "complete, then close", "invalid field", "command sequence error", "close",
}

// String names it.
func (d AuthDo) String() string {
	if d < authDoEnd {
		return authDoNames[d]
	}
	return "unknown"
}

// AuthStep is the answer of the controller's machine to an event.
type AuthStep struct {
	Do   AuthDo
	Data []byte // what Receive returns to the host; lent until the next event
	Job  *DHJob // with AuthHold
	Err  error  // an *AuthError in the one step in which the authentication became a failure
}

// AuthTarget is the controller's end of one queue. It belongs to the queue's reactor.
//
// Its caller checks SECP, SPSP0, SPSP1 and a length above 0 before an event; holds at most one command for it (AuthHold);
// and refuses what is not an authentication command while Authenticated is false and authentication is required. When
// a result that held becomes a failure, it ends all other commands with Operation Denied (section 8.3.4.2).
type AuthTarget struct {
	config AuthConfig // of the exchange that runs
	next   AuthConfig // of the one after it

	state         AuthState
	authenticated bool // the result of the last exchange that ended; no state, since it outlives the exchange after it

	sequence authSequence
	job      *DHJob // in AuthKeying and AuthVerifying

	// The exchange that runs.
	tid         uint16
	hash        AuthHash
	group       DHGroup
	s1          uint32
	c1          [authHashMax]byte
	exponent    []byte // x
	public      []byte // g^x mod p
	s2          uint32
	r1          [authHashMax]byte // what the host answered
	c2          [authHashMax]byte // what the host asked
	wantsProof  bool              // the host asked
	r2          [authHashMax]byte // our answer
	explanation AuthExplanation   // in AuthRefusing

	out []byte
}

// NewAuthTarget makes the machine of a queue on which Connect has just succeeded.
func NewAuthTarget(c AuthConfig) (*AuthTarget, error) {
	c, err := c.check()
	if err != nil {
		return nil, err
	}
	return &AuthTarget{next: c, config: c}, nil
}

// Configure sets keys, hash functions and groups of the exchanges to come; one that runs ends with those it began with.
// The names must be the same.
func (t *AuthTarget) Configure(c AuthConfig) error {
	c, err := c.check()
	if err != nil {
		return err
	}
	if c.HostNQN != t.next.HostNQN || c.SubNQN != t.next.SubNQN {
		return fmt.Errorf("nvmf: configure authentication of host %q at subsystem %q: the queue belongs to host %q and subsystem %q; connect anew",
			c.HostNQN, c.SubNQN, t.next.HostNQN, t.next.SubNQN)
	}
	t.next = c
	return nil
}

// Format keeps every verb from showing what the machine holds.
func (t *AuthTarget) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "authentication, %s", t.state) }

// State is where the machine stands.
func (t *AuthTarget) State() AuthState { return t.state }

// idle reports that no exchange is under way, and that one may begin.
func (t *AuthTarget) idle() bool { return t.state == AuthIdle || t.state == AuthLapsed }

// Authenticated reports whether the host has proved itself and no failure has undone that.
func (t *AuthTarget) Authenticated() bool { return t.authenticated }

// Hash is the hash function of the last exchange, for reports.
func (t *AuthTarget) Hash() AuthHash { return t.hash }

// Group is the group of the last exchange, for reports.
func (t *AuthTarget) Group() DHGroup { return t.group }

// Waiting reports whether the host must do something next, within the Keep Alive Timeout or, without one, two minutes.
// The caller starts that time anew after each event and calls Expire at its end. While a job runs it is our turn. Where
// authentication is not required, the caller passes over AuthIdle.
func (t *AuthTarget) Waiting() bool {
	switch t.state {
	case AuthIdle:
		return !t.authenticated
	case AuthChallenging, AuthReplying, AuthAccepting, AuthConfirming, AuthRefusing:
		return true
	}
	return false
}

// Expire ends an exchange of which the host has not sent the next command in time.
//
// NVMe Base 2.1 section 8.3.4.2, "NVMe In-band Authentication": a first authentication has failed then; a later one is forgotten, which is no failure,
// and commands that continue it get Command Sequence Error.
func (t *AuthTarget) Expire() AuthStep {
	if !t.Waiting() {
		return AuthStep{}
	}
	if t.authenticated {
		t.forget()
		t.move(AuthLapsed)
		return AuthStep{}
	}
	told := t.state == AuthRefusing // that it failed was said when it did
	t.forget()
	t.move(AuthClosed)
	if told {
		return AuthStep{Do: AuthClose}
	}
	return AuthStep{Do: AuthClose, Err: t.config.failure(0, "the host did not send the next command in time")}
}

// Send takes the data of an Authentication Send command. It keeps nothing of data.
func (t *AuthTarget) Send(data []byte) AuthStep {
	switch t.state {
	case AuthClosed:
		return AuthStep{Do: AuthClose}
	case AuthKeying, AuthVerifying, AuthRefusing:
		return AuthStep{Do: AuthSequenceError} // the host has to wait for the answer to its last command, or fetch it
	}
	kind, tid, fault := decodeAuthHeader(data)
	idle := t.idle()
	if t.state == AuthLapsed && (fault != nil || kind != authKindNegotiate) {
		return AuthStep{Do: AuthSequenceError}
	}
	if idle {
		t.config, t.tid = t.next, tid
	}
	switch {
	case fault != nil:
		return t.refuse(fault.explanation, fault.what)
	case kind == authKindNegotiate && idle:
		return t.negotiate(data)
	case idle, !t.expects(kind):
		return t.refuse(AuthUnexpectedMessage, fmt.Sprintf("%s came while %s", kind, t.state))
	case tid != t.tid:
		return t.refuse(AuthIncorrectPayload, fmt.Sprintf("%s, byte 4: T_ID is %d and must be %d", kind, tid, t.tid))
	}
	switch kind {
	case authKindReply:
		return t.reply(data)
	case authKindSuccess2:
		return t.confirm(data)
	default:
		return t.giveUp(data)
	}
}

// expects reports whether the message is one that an exchange goes on with in this state. A host may give up at any time.
func (t *AuthTarget) expects(k authKind) bool {
	switch k {
	case authKindReply:
		return t.state == AuthReplying
	case authKindSuccess2:
		return t.state == AuthConfirming
	case authKindFailure2:
		return true
	}
	return false
}

// negotiate begins an exchange.
func (t *AuthTarget) negotiate(data []byte) AuthStep {
	m, fault := decodeAuthNegotiate(data)
	if fault != nil {
		return t.refuse(fault.explanation, fault.in(authKindNegotiate))
	}
	if m.channel != authChannelNone {
		return t.refuse(AuthChannelMismatch, fmt.Sprintf("the host asks for secure channel concatenation %d, which is not offered", m.channel))
	}
	hash := authStrongest(m.hashes, t.config.Hashes)
	if hash < 0 {
		return t.refuse(AuthHashUnusable, fmt.Sprintf("the host offers the hash functions %v, allowed are %v", authNames[AuthHash](m.hashes), t.config.Hashes))
	}
	group := authStrongest(m.groups, t.config.Groups)
	if group < 0 {
		return t.refuse(AuthGroupUnusable, fmt.Sprintf("the host offers the groups %v, allowed are %v", authNames[DHGroup](m.groups), t.config.Groups))
	}
	t.hash, t.group = AuthHash(hash), DHGroup(group)

	var err error
	if t.s1, err = t.sequence.next(t.config.Rand); err != nil {
		return t.noRandomness(err)
	}
	if err = authRead(t.config.Rand, t.c1[:t.hash.size()]); err != nil {
		return t.noRandomness(err)
	}
	if t.group == DHNull {
		t.move(AuthChallenging)
		return AuthStep{Do: AuthComplete}
	}
	if t.exponent, err = t.group.newExponent(t.config.Rand); err != nil {
		return t.noRandomness(err)
	}
	t.move(AuthKeying)
	return t.hold(newDHJob(t.group, t.exponent, nil, true))
}

// reply checks the form of the host's answer and sees to the shared secret.
//
// NVMe Base 2.1 section 8.3.4.5.1: the format is validated before any other security computation.
func (t *AuthTarget) reply(data []byte) AuthStep {
	m, fault := decodeAuthReply(data, t.hash, t.group)
	if fault != nil {
		return t.refuse(fault.explanation, fault.in(authKindReply))
	}
	// Section 8.3.4.5.4: a host that asks what it was asked hopes to hear the answer from us.
	if m.challengeValid && bytes.Equal(m.challenge, t.c1[:t.hash.size()]) {
		return t.refuse(AuthFailed, "the host sent our challenge back as its own")
	}
	copy(t.r1[:], m.response)
	copy(t.c2[:], m.challenge)
	t.s2, t.wantsProof = m.sequence, m.wantsProof()
	if t.group == DHNull {
		return t.verify(nil)
	}
	t.move(AuthVerifying)
	return t.hold(newDHJob(t.group, t.exponent, m.public, false))
}

// hold gives a job out.
func (t *AuthTarget) hold(j *DHJob) AuthStep {
	t.job = j
	return AuthStep{Do: AuthHold, Job: j}
}

// Computed takes back a job that has run. A job of an exchange that is over is dropped.
func (t *AuthTarget) Computed(j *DHJob) AuthStep {
	invariant.Check(j.done, "nvmf: a Diffie-Hellman job was handed back before it ran")
	defer j.wipe()
	if j != t.job {
		return AuthStep{}
	}
	t.job = nil
	if t.state == AuthKeying {
		t.public = j.publicValue
		t.move(AuthChallenging)
		return AuthStep{Do: AuthComplete}
	}
	invariant.Check(t.state == AuthVerifying, "nvmf: a Diffie-Hellman job is out in a state that has none")
	return t.verify(j.secret)
}

// verify compares the host's proof, and computes ours if it is wanted.
func (t *AuthTarget) verify(secret []byte) AuthStep {
	c := &t.config
	var want [authHashMax]byte
	r1 := authResponse(&want, t.hash, c.HostKey, authRoleHost, c.HostNQN, c.SubNQN, t.c1[:t.hash.size()], t.s1, t.tid, secret)
	defer clear(r1)
	if !hmac.Equal(r1, t.r1[:t.hash.size()]) {
		return t.refuse(AuthFailed, "the host's response to the challenge is wrong")
	}
	if t.wantsProof {
		if c.CtrlKey == nil {
			return t.refuse(AuthFailed, "the host wants the controller to prove itself, and there is no key of the controller; set one, or take it from the host")
		}
		authResponse(&t.r2, t.hash, c.CtrlKey, authRoleCtrl, c.SubNQN, c.HostNQN, t.c2[:t.hash.size()], t.s2, t.tid, secret)
	}
	clear(t.exponent)
	t.move(AuthAccepting)
	return AuthStep{Do: AuthComplete}
}

// Receive takes an Authentication Receive command that has room for length bytes. If the message is longer, nothing
// changes, and the host may ask again.
func (t *AuthTarget) Receive(length int) AuthStep {
	switch t.state {
	case AuthClosed:
		return AuthStep{Do: AuthClose}
	case AuthKeying, AuthVerifying, AuthLapsed:
		return AuthStep{Do: AuthSequenceError}
	case AuthChallenging:
		m := authChallenge{tid: t.tid, hash: t.hash, group: t.group, sequence: t.s1, challenge: t.c1[:t.hash.size()], public: t.public}
		if length < m.bytes() {
			return AuthStep{Do: AuthInvalidField}
		}
		t.out = m.appendTo(t.out[:0])
		t.move(AuthReplying)
		return AuthStep{Do: AuthComplete, Data: t.out}
	case AuthAccepting:
		m := authSuccess1{tid: t.tid, hash: t.hash, response: t.r2[:t.hash.size()], responseValid: t.wantsProof}
		if length < m.bytes() {
			return AuthStep{Do: AuthInvalidField}
		}
		t.out = m.appendTo(t.out[:0])
		if t.wantsProof {
			t.move(AuthConfirming)
		} else {
			t.succeed()
		}
		return AuthStep{Do: AuthComplete, Data: t.out}
	case AuthRefusing:
		return t.tellFailure(length, nil)
	}
	// There is nothing to fetch: AuthIdle, AuthReplying, AuthConfirming.
	s := t.refuse(AuthUnexpectedMessage, fmt.Sprintf("the host fetched a message while %s", t.state))
	return t.tellFailure(length, s.Err)
}

// tellFailure gives AUTH_Failure1 to a Receive.
func (t *AuthTarget) tellFailure(length int, err error) AuthStep {
	if length < authFailureBytes {
		return AuthStep{Do: AuthInvalidField, Err: err}
	}
	t.out = appendAuthFailure(t.out[:0], authKindFailure1, t.tid, t.explanation)
	t.move(AuthClosed)
	return AuthStep{Do: AuthCompleteThenClose, Data: t.out, Err: err}
}

// confirm takes DH-HMAC-CHAP_Success2.
func (t *AuthTarget) confirm(data []byte) AuthStep {
	if len(data) != authSuccess2Bytes {
		return t.refuse(AuthIncorrectPayload, authLengthFault(len(data), authSuccess2Bytes).in(authKindSuccess2))
	}
	t.succeed()
	return AuthStep{Do: AuthComplete}
}

// giveUp takes AUTH_Failure2.
func (t *AuthTarget) giveUp(data []byte) AuthStep {
	if len(data) != authFailureBytes {
		return t.refuse(AuthIncorrectPayload, authLengthFault(len(data), authFailureBytes).in(authKindFailure2))
	}
	e, _ := decodeAuthFailure(data)
	t.authenticated = false
	t.forget()
	t.move(AuthClosed)
	return AuthStep{Do: AuthCompleteThenClose, Err: t.config.failure(e, "the host gave up")}
}

func (t *AuthTarget) succeed() {
	t.authenticated = true
	t.forget()
	t.move(AuthIdle)
}

// refuse makes the exchange, and with it any former result, a failure.
func (t *AuthTarget) refuse(e AuthExplanation, why string) AuthStep {
	t.authenticated = false
	t.explanation = e
	t.forget()
	t.move(AuthRefusing)
	return AuthStep{Do: AuthComplete, Err: t.config.failure(e, why)}
}

func (t *AuthTarget) noRandomness(err error) AuthStep {
	return t.refuse(AuthFailed, fmt.Sprintf("the source of randomness failed: %v", err))
}

// forget zeroes what the exchange held.
func (t *AuthTarget) forget() {
	clear(t.exponent)
	t.exponent, t.public, t.job = nil, nil, nil
	clear(t.c1[:])
	clear(t.c2[:])
	clear(t.r1[:])
	clear(t.r2[:])
	t.s1, t.s2, t.wantsProof = 0, 0, false
}

func (t *AuthTarget) move(to AuthState) {
	invariant.Check(authMoves[t.state]&(1<<to) != 0, "nvmf: the controller's authentication moves where it may not")
	t.state = to
}
