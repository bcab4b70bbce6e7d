package nvmf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
)

const authTestTID = 0x1234

// authReach brings the machines to where the controller stands in state, and gives the message that the host sends next
// and the job that is out, if there are such.
func authReach(t testing.TB, state AuthState, c AuthConfig) (target *AuthTarget, host *AuthHost, next []byte, job *DHJob) {
	t.Helper()
	target, host = authPair(t, c, nil)
	switch state {
	case AuthRefusing, AuthClosed:
		authWant(t, target.Send(nil), AuthComplete)
		if state == AuthClosed {
			authWant(t, target.Receive(8), AuthCompleteThenClose)
		}
		return target, host, nil, nil
	case AuthLapsed:
		authWantSuccess(t, target, host, authExchange(t, target, host, 1, nil))
	}
	next = bytes.Clone(authHostWant(t, host.Start(authTestTID), AuthHostSend).Data)
	if state == AuthIdle {
		return target, host, next, nil
	}
	s := target.Send(next)
	if state == AuthKeying {
		return target, host, nil, authWant(t, s, AuthHold).Job
	}
	if s.Do == AuthHold {
		s.Job.Run()
		s = target.Computed(s.Job)
	}
	authWant(t, s, AuthComplete)
	if state == AuthLapsed {
		authWant(t, target.Expire(), AuthNothing)
		return target, host, nil, nil
	}
	authHostWant(t, host.Sent(), AuthHostReceive)
	if state == AuthChallenging {
		return target, host, nil, nil
	}
	hs := host.Received(authWant(t, target.Receive(AuthReceiveBytes), AuthComplete).Data)
	if hs.Do == AuthHostCompute {
		hs = authHostRun(t, host, hs)
	}
	next = bytes.Clone(authHostWant(t, hs, AuthHostSend).Data)
	if state == AuthReplying {
		return target, host, next, nil
	}
	s = target.Send(next)
	if state == AuthVerifying {
		return target, host, nil, authWant(t, s, AuthHold).Job
	}
	if s.Do == AuthHold {
		s.Job.Run()
		s = target.Computed(s.Job)
	}
	authWant(t, s, AuthComplete)
	authHostWant(t, host.Sent(), AuthHostReceive)
	if state == AuthAccepting {
		return target, host, nil, nil
	}
	hs = host.Received(authWant(t, target.Receive(AuthReceiveBytes), AuthComplete).Data)
	next = bytes.Clone(authHostWant(t, hs, AuthHostSend).Data)
	if state != AuthConfirming {
		t.Fatalf("there is no way to %s", state)
	}
	return target, host, next, nil
}

func authStates() []AuthState {
	var list []AuthState
	for s := AuthIdle; s < authStateEnd; s++ {
		list = append(list, s)
	}
	return list
}

// authWantRefused checks that the failure is told in the next Receive, and that the queue is then over.
func authWantRefused(t testing.TB, target *AuthTarget, s AuthStep, tid uint16, e AuthExplanation) {
	t.Helper()
	authWant(t, s, AuthComplete)
	var a *AuthError
	if !errors.As(s.Err, &a) || a.Explanation != e {
		t.Fatalf("the error is %v, want %s", s.Err, e)
	}
	if target.State() != AuthRefusing || target.Authenticated() || !target.Waiting() {
		t.Fatalf("%v, authenticated %v, waiting %v", target, target.Authenticated(), target.Waiting())
	}
	// No second message changes that.
	authWant(t, target.Send(nil), AuthSequenceError)
	authWant(t, target.Receive(7), AuthInvalidField)
	s = authWant(t, target.Receive(8), AuthCompleteThenClose)
	if want := []byte{0, 0xf1, 0, 0, byte(tid), byte(tid >> 8), 1, byte(e)}; !bytes.Equal(s.Data, want) || s.Err != nil {
		t.Fatalf("the failure is %x (%v), want %x", s.Data, s.Err, want)
	}
	authWantOver(t, target)
}

func authWantOver(t testing.TB, target *AuthTarget) {
	t.Helper()
	if target.State() != AuthClosed || target.Authenticated() || target.Waiting() {
		t.Fatalf("%v, authenticated %v, waiting %v", target, target.Authenticated(), target.Waiting())
	}
	authWant(t, target.Send(make([]byte, 72)), AuthClose)
	authWant(t, target.Receive(4096), AuthClose)
	authWant(t, target.Expire(), AuthNothing)
	if target.exponent != nil || target.public != nil || target.job != nil || target.c1 != [64]byte{} || target.r1 != [64]byte{} || target.r2 != [64]byte{} {
		t.Fatal("the machine still holds what the exchange held")
	}
}

// Every message in every state: the next one of the exchange goes on, any other is told as such.
//
// NVMe Base 2.1 section 8.3.4.5.1: "Incorrect protocol message", and the connection ends.
func TestAuthTargetMessageInWrongState(t *testing.T) {
	header := func(kind authKind, n int) []byte {
		b := authAppendHeader(nil, kind, authTestTID)
		return append(b, make([]byte, n-len(b))...)
	}
	for _, state := range authStates() {
		for _, kind := range []authKind{authKindNegotiate, authKindChallenge, authKindReply, authKindSuccess1, authKindSuccess2,
			authKindFailure1, authKindFailure2, 0x0100, 0x0105, 0x01f0, 0x0201, 0x0001, 0xffff} {
			t.Run(state.String()+" "+kind.String(), func(t *testing.T) {
				target, _, next, _ := authReach(t, state, authConfig(t, DHFFDHE2048))
				message := next
				right := next != nil && authKind(next[0])<<8|authKind(next[1]) == kind
				if !right {
					message = header(kind, map[authKind]int{authKindNegotiate: 72, authKindFailure2: 8}[kind]+16)
					if kind == authKindFailure2 {
						message = appendAuthFailure(nil, kind, authTestTID, AuthGroupUnusable)
					}
				}
				held := target.Authenticated()
				s := target.Send(message)
				switch {
				case state == AuthClosed:
					authWant(t, s, AuthClose)
				case state == AuthKeying || state == AuthVerifying || state == AuthRefusing:
					authWant(t, s, AuthSequenceError)
					if target.State() != state || target.Authenticated() != held {
						t.Errorf("now %v", target)
					}
				case state == AuthLapsed && kind != authKindNegotiate:
					authWant(t, s, AuthSequenceError)
					if target.State() != state || !target.Authenticated() {
						t.Errorf("now %v", target)
					}
				case right:
					if s.Err != nil {
						t.Errorf("refused: %v", s.Err)
					}
				case kind == authKindNegotiate && state == AuthLapsed:
					authWantRefused(t, target, s, authTestTID, AuthIncorrectPayload) // the right message, but all zeros
				case kind == authKindFailure2 && state != AuthIdle:
					authWant(t, s, AuthCompleteThenClose)
					var a *AuthError
					if !errors.As(s.Err, &a) || a.Explanation != AuthGroupUnusable {
						t.Errorf("the error is %v", s.Err)
					}
					authWantOver(t, target)
				default:
					authWantRefused(t, target, s, authTestTID, AuthUnexpectedMessage)
				}
			})
		}
	}
}

// A Receive in every state.
func TestAuthTargetReceiveInWrongState(t *testing.T) {
	for _, state := range authStates() {
		t.Run(state.String(), func(t *testing.T) {
			target, _, _, _ := authReach(t, state, authConfig(t, DHFFDHE2048))
			held := target.Authenticated()
			s := target.Receive(4096)
			switch state {
			case AuthClosed:
				authWant(t, s, AuthClose)
			case AuthKeying, AuthVerifying, AuthLapsed:
				authWant(t, s, AuthSequenceError)
				if target.State() != state || target.Authenticated() != held {
					t.Errorf("now %v", target)
				}
			case AuthChallenging, AuthAccepting:
				authWant(t, s, AuthComplete)
			case AuthRefusing:
				authWant(t, s, AuthCompleteThenClose)
				authWantOver(t, target)
			default:
				authWant(t, s, AuthCompleteThenClose)
				tid := uint16(authTestTID)
				if state == AuthIdle {
					tid = 0
				}
				if want := []byte{0, 0xf1, 0, 0, byte(tid), byte(tid >> 8), 1, 7}; !bytes.Equal(s.Data, want) || s.Err == nil {
					t.Errorf("%x, %v", s.Data, s.Err)
				}
				authWantOver(t, target)
			}
		})
	}
}

// What is too short for the message changes nothing.
func TestAuthTargetReceiveTooShort(t *testing.T) {
	for _, c := range []struct {
		state AuthState
		need  int
	}{
		{AuthChallenging, 16 + 64 + 256},
		{AuthAccepting, 16 + 64},
		{AuthRefusing, 8},
	} {
		target, _, _, _ := authReach(t, c.state, authConfig(t, DHFFDHE2048))
		for length := range c.need {
			authWant(t, target.Receive(length), AuthInvalidField)
			if target.State() != c.state {
				t.Fatalf("%s, %d bytes: now %v", c.state, length, target)
			}
		}
		if s := target.Receive(c.need); len(s.Data) != c.need || s.Err != nil {
			t.Errorf("%s: %d bytes, %v", c.state, len(s.Data), s.Err)
		}
	}
	// With nothing to fetch the failure is kept until there is room for it.
	target, _, _, _ := authReach(t, AuthReplying, authConfig(t))
	s := authWant(t, target.Receive(7), AuthInvalidField)
	if s.Err == nil || target.State() != AuthRefusing {
		t.Errorf("%v, %v", target, s.Err)
	}
	if s := authWant(t, target.Receive(8), AuthCompleteThenClose); s.Data[7] != 7 {
		t.Errorf("%x", s.Data)
	}
}

// Every message of the host cut at every byte, and with a byte too many.
func TestAuthTargetTruncated(t *testing.T) {
	for _, state := range []AuthState{AuthIdle, AuthReplying, AuthConfirming} {
		for _, g := range []DHGroup{DHNull, DHFFDHE2048} {
			_, _, whole, _ := authReach(t, state, authConfig(t, g))
			for n := range len(whole) + 2 {
				if n == len(whole) {
					continue
				}
				target, _, next, _ := authReach(t, state, authConfig(t, g))
				tid := uint16(authTestTID)
				if state == AuthIdle && n < 6 {
					tid = 0
				}
				authWantRefused(t, target, target.Send(append(next, 0)[:n]), tid, AuthIncorrectPayload)
			}
		}
	}
	for n := range 10 {
		if n == 8 {
			continue
		}
		target, _, _, _ := authReach(t, AuthConfirming, authConfig(t))
		m := append(appendAuthFailure(nil, authKindFailure2, authTestTID, AuthFailed), 0)
		authWantRefused(t, target, target.Send(m[:n]), authTestTID, AuthIncorrectPayload)
	}
}

// What is wrong with a message of the right kind in the right state.
func TestAuthTargetWrongField(t *testing.T) {
	put16 := func(at int, v uint16) func([]byte) []byte {
		return func(m []byte) []byte { binary.LittleEndian.PutUint16(m[at:], v); return m }
	}
	put := func(at int, v byte) func([]byte) []byte {
		return func(m []byte) []byte { m[at] = v; return m }
	}
	const values = 16 + 2*64 // of the reply, with SHA-512
	value := func(v ...byte) func([]byte) []byte {
		return func(m []byte) []byte { clear(m[values:]); copy(m[len(m)-len(v):], v); return m }
	}
	p := dhGroups[DHFFDHE2048].prime
	pLess1 := bytes.Clone(p)
	pLess1[len(p)-1]--
	for _, c := range []struct {
		what  string
		state AuthState
		group DHGroup
		alter func(m []byte) []byte
		want  AuthExplanation // 0: nothing is wrong
	}{
		{"SC_C 1", AuthIdle, DHNull, put(6, 1), AuthChannelMismatch},
		{"SC_C NEWTLSPSK", AuthIdle, DHNull, put(6, 2), AuthChannelMismatch},
		{"SC_C REPLACETLSPSK", AuthIdle, DHNull, put(6, 3), AuthChannelMismatch},
		{"SC_C 255", AuthIdle, DHNull, put(6, 255), AuthChannelMismatch},
		{"NAPD 0", AuthIdle, DHNull, put(7, 0), AuthIncorrectPayload},
		{"NAPD 0 and no descriptor", AuthIdle, DHNull, func(m []byte) []byte { m[7] = 0; return m[:8] }, AuthProtocolUnusable},
		{"NAPD 2", AuthIdle, DHNull, put(7, 2), AuthIncorrectPayload},
		{"NAPD 255", AuthIdle, DHNull, put(7, 255), AuthIncorrectPayload},
		{"another protocol", AuthIdle, DHNull, put(8, 2), AuthProtocolUnusable},
		{"another protocol, then ours", AuthIdle, DHNull, func(m []byte) []byte {
			other := bytes.Clone(m[8:])
			other[0], other[2], other[3] = 0xe0, 255, 255
			m[7] = 2
			return append(append(m[:8:8], other...), m[8:]...)
		}, 0},
		{"255 protocols, none ours", AuthIdle, DHNull, func(m []byte) []byte {
			m[7] = 255
			return append(m[:8], make([]byte, 255*64)...)
		}, AuthProtocolUnusable},
		{"HALEN 0", AuthIdle, DHNull, put(10, 0), AuthIncorrectPayload},
		{"HALEN 30", AuthIdle, DHNull, put(10, 30), 0},
		{"HALEN 31", AuthIdle, DHNull, put(10, 31), AuthIncorrectPayload},
		{"DHLEN 0", AuthIdle, DHNull, put(11, 0), AuthIncorrectPayload},
		{"DHLEN 30", AuthIdle, DHNull, put(11, 30), 0},
		{"DHLEN 31", AuthIdle, DHNull, put(11, 31), AuthIncorrectPayload},
		{"DHLEN 255", AuthIdle, DHNull, put(11, 255), AuthIncorrectPayload},
		{"unknown hash functions", AuthIdle, DHNull, func(m []byte) []byte { copy(m[12:], []byte{0, 4, 0xe0}); return m }, AuthHashUnusable},
		{"unknown groups", AuthIdle, DHNull, func(m []byte) []byte { copy(m[42:], []byte{6, 0xe0, 0xff}); return m }, AuthGroupUnusable},

		{"T_ID", AuthReplying, DHNull, put16(4, authTestTID+1), AuthIncorrectPayload},
		{"HL of another hash", AuthReplying, DHNull, put(6, 32), AuthIncorrectPayload},
		{"HL 0", AuthReplying, DHNull, put(6, 0), AuthIncorrectPayload},
		{"CVALID 2", AuthReplying, DHNull, put(8, 2), AuthIncorrectPayload},
		{"CVALID 0 with a challenge", AuthReplying, DHNull, put(8, 0), 0},
		{"SEQNUM 0 with a challenge", AuthReplying, DHNull, func(m []byte) []byte { clear(m[12:16]); return m }, 0},
		{"DHVLEN with null", AuthReplying, DHNull, func(m []byte) []byte { m[10] = 4; return append(m, 0, 0, 0, 2) }, AuthIncorrectPayload},
		{"DHVLEN with null, nothing there", AuthReplying, DHNull, put(10, 4), AuthIncorrectPayload},
		{"DHVLEN 0", AuthReplying, DHFFDHE2048, func(m []byte) []byte { clear(m[10:12]); return m[:values] }, AuthIncorrectPayload},
		{"DHVLEN of more than there is", AuthReplying, DHFFDHE2048, put16(10, 0xffff), AuthIncorrectPayload},
		{"DHVLEN of less than there is", AuthReplying, DHFFDHE2048, put16(10, 252), AuthIncorrectPayload},
		{"DHVLEN of another group", AuthReplying, DHFFDHE2048, func(m []byte) []byte {
			binary.LittleEndian.PutUint16(m[10:], 384)
			return append(m, make([]byte, 128)...)
		}, AuthIncorrectPayload},
		{"DHV 0", AuthReplying, DHFFDHE2048, value(0), AuthIncorrectPayload},
		{"DHV 1", AuthReplying, DHFFDHE2048, value(1), AuthIncorrectPayload},
		{"DHV 2, which is not ours", AuthReplying, DHFFDHE2048, value(2), AuthFailed},
		{"DHV p-1", AuthReplying, DHFFDHE2048, value(pLess1...), AuthIncorrectPayload},
		{"DHV p", AuthReplying, DHFFDHE2048, value(p...), AuthIncorrectPayload},
		{"R1", AuthReplying, DHNull, func(m []byte) []byte { m[16] ^= 1; return m }, AuthFailed},
		{"R1 in its last byte", AuthReplying, DHNull, func(m []byte) []byte { m[16+63] ^= 0x80; return m }, AuthFailed},
		{"R1 all zeros", AuthReplying, DHNull, func(m []byte) []byte { clear(m[16 : 16+64]); return m }, AuthFailed},

		{"T_ID", AuthConfirming, DHNull, put16(4, authTestTID-1), AuthIncorrectPayload},
		{"T_ID of a failure", AuthConfirming, DHNull, func([]byte) []byte {
			return appendAuthFailure(nil, authKindFailure2, authTestTID+1, AuthFailed)
		}, AuthIncorrectPayload},
	} {
		t.Run(c.state.String()+" "+c.what, func(t *testing.T) {
			target, _, next, _ := authReach(t, c.state, authConfig(t, c.group))
			s := authSend(target, c.alter(next))
			if c.want != 0 {
				authWantRefused(t, target, s, authTestTID, c.want)
				return
			}
			authWant(t, s, AuthComplete)
			if s.Err != nil || target.State() == AuthRefusing {
				t.Errorf("%v: %v", target, s.Err)
			}
		})
	}
}

// The leading zeros of a value may be missing, as SPDK leaves them out.
func TestAuthTargetShortValue(t *testing.T) {
	config := authConfig(t, DHFFDHE2048)
	for seed := 0; ; seed++ {
		host, err := NewAuthHost(config)
		if err != nil {
			t.Fatal(err)
		}
		config.Rand = authTestRand(strings.Repeat("s", seed))
		target, err := NewAuthTarget(config)
		if err != nil {
			t.Fatal(err)
		}
		short := false
		o := authExchange(t, target, host, 1, func(n int, m []byte) []byte {
			if n != 2 || m[16+2*64] != 0 {
				return m
			}
			short = true
			m[10], m[11] = 255, 0
			return slices.Delete(m, 16+2*64, 16+2*64+1)
		})
		authWantSuccess(t, target, host, o)
		if short {
			return
		}
	}
}

// With SEQNUM 0 or CVALID 0 the controller is not asked, and the exchange ends with its verdict.
func TestAuthTargetNotAsked(t *testing.T) {
	for what, alter := range map[string]func(m []byte){
		"SEQNUM 0": func(m []byte) { clear(m[12:16]) },
		"CVALID 0": func(m []byte) { m[8] = 0 },
	} {
		for _, key := range []*AuthKey{authConfig(t).CtrlKey, nil} {
			target, _, next, _ := authReach(t, AuthReplying, authConfig(t))
			target.config.CtrlKey = key
			alter(next)
			authWant(t, target.Send(next), AuthComplete)
			s := authWant(t, target.Receive(4096), AuthComplete)
			if s.Data[8] != 0 || !bytes.Equal(s.Data[16:], make([]byte, 64)) || !target.Authenticated() || target.State() != AuthIdle {
				t.Errorf("%s: %x, %v", what, s.Data, target)
			}
		}
	}
}

// NVMe Base 2.1 section 8.3.4.2: the time of a first exchange is fatal, that of a later one makes it forgotten.
func TestAuthTargetExpire(t *testing.T) {
	for _, state := range authStates() {
		for _, again := range []bool{false, true} {
			if again && (state == AuthLapsed || state == AuthClosed || state == AuthRefusing) {
				continue
			}
			target, _, _, job := authReach(t, state, authConfig(t, DHFFDHE2048))
			if again {
				target.authenticated = true // as after an exchange before
			}
			waiting := target.Waiting()
			s := target.Expire()
			switch {
			case state == AuthKeying || state == AuthVerifying || state == AuthClosed || state == AuthLapsed || state == AuthIdle && again:
				if authWant(t, s, AuthNothing); waiting || s.Err != nil || target.State() != state {
					t.Errorf("%s, again %v: %v, waiting %v, %v", state, again, target, waiting, s.Err)
				}
				if job != nil {
					job.Run()
					authWant(t, target.Computed(job), AuthComplete)
				}
			case again:
				if authWant(t, s, AuthNothing); !waiting || s.Err != nil || target.State() != AuthLapsed || !target.Authenticated() || target.Waiting() {
					t.Errorf("%s: %v, %v", state, target, s.Err)
				}
				if target.exponent != nil || target.c1 != [64]byte{} {
					t.Errorf("%s: the exchange is not forgotten", state)
				}
			default:
				authWant(t, s, AuthClose)
				if told := state == AuthRefusing; !waiting || (s.Err == nil) != told {
					t.Errorf("%s: waiting %v, %v", state, waiting, s.Err)
				}
				authWantOver(t, target)
			}
		}
	}
}

// After a later exchange was forgotten its messages are refused, and a new one may begin.
func TestAuthTargetLapsedThenAgain(t *testing.T) {
	config := authConfig(t, DHFFDHE2048)
	target, host, _, _ := authReach(t, AuthLapsed, config)
	authHostWant(t, host.Abort(errors.New("the time was up")), AuthHostClose)
	authWant(t, target.Send(nil), AuthSequenceError)
	authWant(t, target.Send(appendAuthSuccess2(nil, authTestTID)), AuthSequenceError)
	authWant(t, target.Receive(4096), AuthSequenceError)
	if !target.Authenticated() {
		t.Fatal("the former result is gone")
	}
	fresh, err := NewAuthHost(config)
	if err != nil {
		t.Fatal(err)
	}
	authWantSuccess(t, target, fresh, authExchange(t, target, fresh, 3, nil))
}

// A job of an exchange that is over changes nothing, and is wiped.
func TestAuthTargetStaleJob(t *testing.T) {
	config := authConfig(t, DHFFDHE2048)
	target, _, _, _ := authReach(t, AuthReplying, config)
	_, _, _, foreign := authReach(t, AuthVerifying, config)
	foreign.Run()
	authWant(t, target.Computed(foreign), AuthNothing)
	if target.State() != AuthReplying || target.Authenticated() {
		t.Errorf("now %v", target)
	}
	if !bytes.Equal(foreign.secret, make([]byte, 256)) {
		t.Error("the secret is still in the job")
	}
	// A job handed back twice is stale the second time.
	target, _, _, job := authReach(t, AuthVerifying, config)
	job.Run()
	authWant(t, target.Computed(job), AuthComplete)
	authWant(t, target.Computed(job), AuthNothing)
	if target.State() != AuthAccepting {
		t.Errorf("now %v", target)
	}
}

// Where the randomness ends, the exchange fails; nothing is sent that was not random.
func TestAuthNoRandomness(t *testing.T) {
	for n := range 4 + 64 + 32 + 1 {
		config := authConfig(t, DHFFDHE2048)
		config.Rand = &authBrokenRand{n}
		target, err := NewAuthTarget(config)
		if err != nil {
			t.Fatal(err)
		}
		_, _, negotiate, _ := authReach(t, AuthIdle, config)
		s := authSend(target, negotiate)
		if n == 4+64+32 {
			authWant(t, s, AuthComplete)
			if s.Err != nil {
				t.Error(s.Err)
			}
			continue
		}
		if !strings.Contains(s.Err.Error(), "no entropy") {
			t.Errorf("%d bytes: %v", n, s.Err)
		}
		authWantRefused(t, target, s, authTestTID, AuthFailed)
	}
	// An exponent of 32 bytes, S2, C2.
	for n := range 32 + 4 + 64 + 1 {
		config := authConfig(t, DHFFDHE2048)
		target, host := authPair(t, config, func(h *AuthConfig) { h.Rand = &authBrokenRand{n} })
		o := authExchange(t, target, host, 1, nil)
		if n == 32+4+64 {
			authWantSuccess(t, target, host, o)
		} else if o.hostErr == nil || !strings.Contains(o.hostErr.Error(), "no entropy") || target.Authenticated() {
			t.Errorf("%d bytes: %v, %v", n, o.hostErr, o.ctrlErr)
		} else {
			authWantFailure(t, target, host, o, AuthFailed)
		}
	}
}

// NVMe Base 2.1 sections 8.3.4.5.3 and 8.3.4.5.4: 0 is skipped.
func TestAuthSequence(t *testing.T) {
	var s authSequence
	if n, err := s.next(bytes.NewReader([]byte{0xfe, 0xff, 0xff, 0xff})); err != nil || n != 0xfffffffe {
		t.Errorf("%x, %v", n, err)
	}
	for _, want := range []uint32{0xffffffff, 1, 2} {
		if n, err := s.next(nil); err != nil || n != want {
			t.Errorf("%x, %v, want %x", n, err, want)
		}
	}
	s = 0
	if n, err := s.next(bytes.NewReader(make([]byte, 4))); err != nil || n != 1 {
		t.Errorf("%x, %v", n, err)
	}
	s = 0
	if _, err := s.next(bytes.NewReader(make([]byte, 3))); err == nil {
		t.Error("a sequence number came from a source that ended")
	}
}

func TestAuthErrorsSayWhatToDo(t *testing.T) {
	target, _, next, _ := authReach(t, AuthReplying, authConfig(t))
	next[16] ^= 1
	err := target.Send(next).Err
	want := `nvmf: authenticate host "` + twinHost + `" at subsystem "` + twinSub + `": the host's response to the challenge is wrong (authentication failed); check that both ends hold the same key, and the same names of host and subsystem`
	if err == nil || err.Error() != want {
		t.Errorf("the error is\n%v, want\n%s", err, want)
	}
	for e := AuthFailed; e < authExplanationEnd; e++ {
		if authExplanationNames[e] == "" || authExplanationAdvice[e] == "" {
			t.Errorf("%d has no words", e)
		}
	}
	if s := AuthExplanation(0).String() + AuthExplanation(99).String(); s != "unknown explanation 0unknown explanation 99" {
		t.Error(s)
	}
	for s := AuthIdle; s < authStateEnd; s++ {
		if s.String() == "" {
			t.Errorf("state %d has no name", s)
		}
	}
	for s := AuthHostIdle; s < authHostStateEnd; s++ {
		if s.String() == "" {
			t.Errorf("state %d has no name", s)
		}
	}
}
