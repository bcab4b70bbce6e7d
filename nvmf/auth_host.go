package nvmf

import (
	"bytes"
	"crypto/hmac"
	"fmt"

	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is the host's end of DH-HMAC-CHAP for one queue. The states, in order:
//
//	AuthHostIdle         no exchange has begun
//	AuthHostNegotiating  the Send with AUTH_Negotiate is on its way
//	AuthHostChallenge    the Receive of the challenge is on its way
//	AuthHostComputing    g^y and g^xy are being computed
//	AuthHostReplying     the Send with DH-HMAC-CHAP_Reply is on its way
//	AuthHostSuccess      the Receive of DH-HMAC-CHAP_Success1 is on its way
//	AuthHostConfirming   the Send with DH-HMAC-CHAP_Success2 is on its way
//	AuthHostDone         both have what they asked for
//
//	AuthHostFailing      the Send with AUTH_Failure2 is on its way
//	AuthHostFailed       over: the connection ends
//
// NVMe Base Specification 2.1 section 8.3.4.5.1, "DH-HMAC-CHAP Authentication Protocol".

// AuthHostState is where a host's machine stands.
type AuthHostState uint8

// The states; the table above says what each is.
const (
	AuthHostIdle AuthHostState = iota
	AuthHostNegotiating
	AuthHostChallenge
	AuthHostComputing
	AuthHostReplying
	AuthHostSuccess
	AuthHostConfirming
	AuthHostDone
	AuthHostFailing
	AuthHostFailed

	authHostStateEnd
)

var authHostStateNames = [authHostStateEnd]string{
	"idle", "negotiating", "awaiting the challenge", "computing", "replying", "awaiting the verdict", "confirming", "done", "failing", "failed",
}

// String names the state.
func (s AuthHostState) String() string {
	if s < authHostStateEnd {
		return authHostStateNames[s]
	}
	return "unknown state"
}

// authHostMoves holds the states that may follow each, as bits. Any but the last may end in AuthHostFailed.
var authHostMoves = [authHostStateEnd]uint16{
	AuthHostIdle:        1<<AuthHostNegotiating | 1<<AuthHostFailed,
	AuthHostNegotiating: 1<<AuthHostChallenge | 1<<AuthHostFailed,
	AuthHostChallenge:   1<<AuthHostComputing | 1<<AuthHostReplying | 1<<AuthHostFailing | 1<<AuthHostFailed,
	AuthHostComputing:   1<<AuthHostReplying | 1<<AuthHostFailing | 1<<AuthHostFailed,
	AuthHostReplying:    1<<AuthHostSuccess | 1<<AuthHostFailed,
	AuthHostSuccess:     1<<AuthHostConfirming | 1<<AuthHostDone | 1<<AuthHostFailing | 1<<AuthHostFailed,
	AuthHostConfirming:  1<<AuthHostDone | 1<<AuthHostFailed,
	AuthHostDone:        1<<AuthHostNegotiating | 1<<AuthHostFailed,
	AuthHostFailing:     1 << AuthHostFailed,
	AuthHostFailed:      0,
}

// AuthHostDo is what the caller of the host's machine does next.
type AuthHostDo uint8

// What there is to do.
const (
	AuthHostNothing AuthHostDo = iota // nothing: the job belonged to an exchange that is over
	AuthHostSend                      // send Data with Authentication Send; call Sent when that has succeeded
	AuthHostReceive                   // send Authentication Receive of AuthReceiveBytes; call Received with what came
	AuthHostCompute                   // run Job elsewhere, then call Computed
	AuthHostSucceed                   // go on using the queue
	AuthHostClose                     // end the connection
	authHostDoEnd
)

var authHostDoNames = [authHostDoEnd]string{"nothing", "send", "receive", "compute", "succeed", "close"}

// String names it.
func (d AuthHostDo) String() string {
	if d < authHostDoEnd {
		return authHostDoNames[d]
	}
	return "unknown"
}

// AuthHostStep is the answer of the host's machine to an event.
type AuthHostStep struct {
	Do   AuthHostDo
	Data []byte // with AuthHostSend; lent until the next event
	Job  *DHJob // with AuthHostCompute
	Err  error  // an *AuthError in the one step in which the authentication became a failure
}

// AuthHost is the host's end of one queue. It belongs to the queue's reactor. With CtrlKey in its configuration it wants
// the controller to prove itself too, and does not succeed before that.
type AuthHost struct {
	config AuthConfig // of the exchange that runs
	next   AuthConfig // of the one after it

	state         AuthHostState
	authenticated bool // the result of the last exchange that ended; no state, since it outlives the exchange after it

	sequence authSequence
	job      *DHJob // in AuthHostComputing

	// The exchange that runs.
	tid       uint16
	hash      AuthHash
	group     DHGroup
	challenge authChallenge // copied from the wire while a job runs
	want      [authHashMax]byte

	out []byte
}

// NewAuthHost makes the machine of a queue on which Connect has just succeeded.
func NewAuthHost(c AuthConfig) (*AuthHost, error) {
	c, err := c.check()
	if err != nil {
		return nil, err
	}
	return &AuthHost{next: c, config: c}, nil
}

// Configure sets keys, hash functions and groups of the exchanges to come. The names must be the same.
func (h *AuthHost) Configure(c AuthConfig) error {
	c, err := c.check()
	if err != nil {
		return err
	}
	if c.HostNQN != h.next.HostNQN || c.SubNQN != h.next.SubNQN {
		return fmt.Errorf("nvmf: configure authentication of host %q at subsystem %q: the queue belongs to host %q and subsystem %q; connect anew",
			c.HostNQN, c.SubNQN, h.next.HostNQN, h.next.SubNQN)
	}
	h.next = c
	return nil
}

// Format keeps every verb from showing what the machine holds.
func (h *AuthHost) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "authentication, %s", h.state) }

// State is where the machine stands.
func (h *AuthHost) State() AuthHostState { return h.state }

// Authenticated reports whether an exchange has succeeded and no failure has undone that.
func (h *AuthHost) Authenticated() bool { return h.authenticated }

// Hash is the hash function of the last exchange.
func (h *AuthHost) Hash() AuthHash { return h.hash }

// Group is the group of the last exchange.
func (h *AuthHost) Group() DHGroup { return h.group }

// Start begins an exchange: the first, or a later one on a queue that works. tid must differ from that of every other
// exchange that this host has under way with the same controller.
func (h *AuthHost) Start(tid uint16) AuthHostStep {
	h.config, h.tid = h.next, tid
	m := authNegotiate{tid: tid, channel: authChannelNone, hashes: authIDs(h.config.Hashes), groups: authIDs(h.config.Groups)}
	h.out = m.appendTo(h.out[:0])
	h.move(AuthHostNegotiating)
	return AuthHostStep{Do: AuthHostSend, Data: h.out}
}

// Sent tells that the Authentication Send of the last step succeeded.
func (h *AuthHost) Sent() AuthHostStep {
	switch h.state {
	case AuthHostNegotiating:
		h.move(AuthHostChallenge)
		return AuthHostStep{Do: AuthHostReceive}
	case AuthHostReplying:
		h.move(AuthHostSuccess)
		return AuthHostStep{Do: AuthHostReceive}
	case AuthHostConfirming:
		return h.succeed()
	}
	invariant.Check(h.state == AuthHostFailing, "nvmf: the host's authentication heard of a Send that it did not ask for")
	h.move(AuthHostFailed)
	return AuthHostStep{Do: AuthHostClose}
}

// Abort tells that a command of the last step did not succeed, or that the time was up.
func (h *AuthHost) Abort(why error) AuthHostStep {
	if h.state == AuthHostFailed {
		return AuthHostStep{Do: AuthHostClose}
	}
	told := h.state == AuthHostFailing
	h.end()
	h.move(AuthHostFailed)
	if told {
		return AuthHostStep{Do: AuthHostClose}
	}
	return AuthHostStep{Do: AuthHostClose, Err: h.config.failure(0, why.Error())}
}

// Received takes what the Authentication Receive of the last step returned. It keeps nothing of data.
func (h *AuthHost) Received(data []byte) AuthHostStep {
	want := authKindChallenge
	if h.state != AuthHostChallenge {
		invariant.Check(h.state == AuthHostSuccess, "nvmf: the host's authentication heard of a Receive that it did not ask for")
		want = authKindSuccess1
	}
	kind, tid, fault := decodeAuthHeader(data)
	switch {
	case fault != nil:
		return h.fail(fault.explanation, fault.what)
	case kind == authKindFailure1:
		// Not answered, whatever else is wrong with it: the controller closes.
		e, _ := decodeAuthFailure(data)
		h.end()
		h.move(AuthHostFailed)
		return AuthHostStep{Do: AuthHostClose, Err: h.config.failure(e, "the controller refused")}
	case kind != want:
		return h.fail(AuthUnexpectedMessage, fmt.Sprintf("%s came while %s", kind, h.state))
	case tid != h.tid:
		return h.fail(AuthIncorrectPayload, fmt.Sprintf("%s, byte 4: T_ID is %d and must be %d", kind, tid, h.tid))
	case kind == authKindChallenge:
		return h.challenged(data)
	}
	return h.accepted(data)
}

// challenged checks the challenge and sees to the shared secret.
func (h *AuthHost) challenged(data []byte) AuthHostStep {
	m, fault := decodeAuthChallenge(data)
	if fault != nil {
		return h.fail(fault.explanation, fault.in(authKindChallenge))
	}
	if authStrongest([]byte{byte(m.hash)}, h.config.Hashes) < 0 {
		return h.fail(AuthHashUnusable, fmt.Sprintf("the controller chose the hash function %s, offered were %v", m.hash, h.config.Hashes))
	}
	if authStrongest([]byte{byte(m.group)}, h.config.Groups) < 0 {
		return h.fail(AuthGroupUnusable, fmt.Sprintf("the controller chose the group %s, offered were %v", m.group, h.config.Groups))
	}
	h.hash, h.group, h.challenge = m.hash, m.group, m
	h.challenge.challenge = bytes.Clone(m.challenge)
	h.challenge.public = nil // it goes into the job
	if h.group == DHNull {
		return h.reply(nil, nil)
	}
	exponent, err := h.group.newExponent(h.config.Rand)
	if err != nil {
		return h.noRandomness(err)
	}
	h.job = newDHJob(h.group, exponent, m.public, true)
	clear(exponent)
	h.move(AuthHostComputing)
	return AuthHostStep{Do: AuthHostCompute, Job: h.job}
}

// Computed takes back a job that has run. A job of an exchange that is over is dropped.
func (h *AuthHost) Computed(j *DHJob) AuthHostStep {
	invariant.Check(j.done, "nvmf: a Diffie-Hellman job was handed back before it ran")
	defer j.wipe()
	if j != h.job {
		return AuthHostStep{}
	}
	h.job = nil
	return h.reply(j.publicValue, j.secret)
}

// reply proves the host, and asks for the proof of the controller if that is wanted, whose right answer it computes now:
// the shared secret is not kept.
func (h *AuthHost) reply(public, secret []byte) AuthHostStep {
	c := &h.config
	var response, challenge [authHashMax]byte
	m := authReply{tid: h.tid, public: public}
	m.response = authResponse(&response, h.hash, c.HostKey, authRoleHost, c.HostNQN, c.SubNQN,
		h.challenge.challenge, h.challenge.sequence, h.tid, secret)
	if c.CtrlKey != nil {
		m.challenge, m.challengeValid = challenge[:h.hash.size()], true
		var err error
		if m.sequence, err = h.sequence.next(c.Rand); err != nil {
			return h.noRandomness(err)
		}
		if err = authRead(c.Rand, m.challenge); err != nil {
			return h.noRandomness(err)
		}
		if bytes.Equal(m.challenge, h.challenge.challenge) {
			return h.noRandomness(errAuthChallengeRepeats)
		}
		authResponse(&h.want, h.hash, c.CtrlKey, authRoleCtrl, c.SubNQN, c.HostNQN, m.challenge, m.sequence, h.tid, secret)
	}
	h.out = m.appendTo(h.out[:0])
	h.move(AuthHostReplying)
	return AuthHostStep{Do: AuthHostSend, Data: h.out}
}

// accepted takes DH-HMAC-CHAP_Success1, and compares the controller's proof.
func (h *AuthHost) accepted(data []byte) AuthHostStep {
	m, fault := decodeAuthSuccess1(data, h.hash)
	if fault != nil {
		return h.fail(fault.explanation, fault.in(authKindSuccess1))
	}
	// The machine goes by what it asked for, not by what came: a controller that leaves its proof out has not proved
	// itself.
	if wanted := h.config.CtrlKey != nil; m.responseValid != wanted {
		return h.fail(AuthIncorrectPayload, fmt.Sprintf("%s, byte 8: RVALID is %d and must be %d", authKindSuccess1, authFlag(m.responseValid), authFlag(wanted)))
	}
	if !m.responseValid {
		return h.succeed()
	}
	if !hmac.Equal(m.response, h.want[:h.hash.size()]) {
		return h.fail(AuthFailed, "the controller's response to the challenge is wrong")
	}
	h.out = appendAuthSuccess2(h.out[:0], h.tid)
	h.move(AuthHostConfirming)
	return AuthHostStep{Do: AuthHostSend, Data: h.out}
}

func (h *AuthHost) succeed() AuthHostStep {
	h.authenticated = true
	h.forget()
	h.move(AuthHostDone)
	return AuthHostStep{Do: AuthHostSucceed}
}

// fail makes the exchange, and with it any former result, a failure, and tells the controller.
func (h *AuthHost) fail(e AuthExplanation, why string) AuthHostStep {
	h.end()
	h.out = appendAuthFailure(h.out[:0], authKindFailure2, h.tid, e)
	h.move(AuthHostFailing)
	return AuthHostStep{Do: AuthHostSend, Data: h.out, Err: h.config.failure(e, why)}
}

func (h *AuthHost) noRandomness(err error) AuthHostStep {
	return h.fail(AuthFailed, fmt.Sprintf("the source of randomness failed: %v", err))
}

func (h *AuthHost) end() {
	h.authenticated = false
	h.forget()
}

// forget drops and zeroes what the exchange held.
func (h *AuthHost) forget() {
	h.job = nil
	h.challenge = authChallenge{}
	clear(h.want[:])
}

func (h *AuthHost) move(to AuthHostState) {
	invariant.Check(authHostMoves[h.state]&(1<<to) != 0, "nvmf: the host's authentication moves where it may not")
	h.state = to
}
