package nvmf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
)

// authHostReach brings a host to where it waits for the challenge or for the verdict, and gives the right message.
func authHostReach(t testing.TB, state AuthHostState, c AuthConfig) (host *AuthHost, next []byte) {
	t.Helper()
	target, host := authPair(t, c, nil)
	authWant(t, authSend(target, authHostWant(t, host.Start(authTestTID), AuthHostSend).Data), AuthComplete)
	authHostWant(t, host.Sent(), AuthHostReceive)
	challenge := bytes.Clone(authWant(t, target.Receive(AuthReceiveBytes), AuthComplete).Data)
	if state == AuthHostChallenge {
		return host, challenge
	}
	s := host.Received(challenge)
	if s.Do == AuthHostCompute {
		s = authHostRun(t, host, s)
	}
	authWant(t, authSend(target, authHostWant(t, s, AuthHostSend).Data), AuthComplete)
	authHostWant(t, host.Sent(), AuthHostReceive)
	if state != AuthHostSuccess {
		t.Fatalf("there is no way to %s", state)
	}
	return host, bytes.Clone(authWant(t, target.Receive(AuthReceiveBytes), AuthComplete).Data)
}

// authHostWantFailing checks that the host tells the failure and ends the connection.
func authHostWantFailing(t testing.TB, host *AuthHost, s AuthHostStep, e AuthExplanation) {
	t.Helper()
	authHostWant(t, s, AuthHostSend)
	var a *AuthError
	if !errors.As(s.Err, &a) || a.Explanation != e {
		t.Fatalf("the error is %v, want %s", s.Err, e)
	}
	if want := []byte{0, 0xf0, 0, 0, authTestTID & 0xff, authTestTID >> 8, 1, byte(e)}; !bytes.Equal(s.Data, want) {
		t.Fatalf("the failure is %x, want %x", s.Data, want)
	}
	if host.State() != AuthHostFailing || host.Authenticated() {
		t.Fatalf("%v, authenticated %v", host, host.Authenticated())
	}
	if s := authHostWant(t, host.Sent(), AuthHostClose); s.Err != nil || host.State() != AuthHostFailed {
		t.Fatalf("%v, %v", host, s.Err)
	}
	if host.want != [64]byte{} || host.challenge.challenge != nil || host.job != nil {
		t.Fatal("the machine still holds what the exchange held")
	}
}

// Every message of the controller cut at every byte. What follows it does not count.
func TestAuthHostTruncated(t *testing.T) {
	for _, state := range []AuthHostState{AuthHostChallenge, AuthHostSuccess} {
		for _, g := range []DHGroup{DHNull, DHFFDHE2048} {
			_, whole := authHostReach(t, state, authConfig(t, g))
			for n := range whole {
				host, next := authHostReach(t, state, authConfig(t, g))
				authHostWantFailing(t, host, host.Received(next[:n]), AuthIncorrectPayload)
			}
			// The Linux target returns the whole of the host's buffer.
			host, next := authHostReach(t, state, authConfig(t, g))
			s := host.Received(append(next, bytes.Repeat([]byte{0x99}, AuthReceiveBytes-len(next))...))
			if s.Do == AuthHostCompute {
				s = authHostRun(t, host, s)
			}
			authHostWant(t, s, AuthHostSend)
			if s.Err != nil {
				t.Errorf("%s with more behind it: %v", state, s.Err)
			}
		}
	}
}

func TestAuthHostMessageInWrongState(t *testing.T) {
	for _, state := range []AuthHostState{AuthHostChallenge, AuthHostSuccess} {
		_, right := authHostReach(t, state, authConfig(t))
		for _, kind := range []authKind{authKindNegotiate, authKindChallenge, authKindReply, authKindSuccess1, authKindSuccess2,
			authKindFailure2, 0x0100, 0x0105, 0x01f1, 0x0201, 0x0001, 0xffff} {
			host, next := authHostReach(t, state, authConfig(t))
			next[0], next[1] = byte(kind>>8), byte(kind)
			if bytes.Equal(next, right) {
				continue
			}
			t.Run(state.String()+" "+kind.String(), func(t *testing.T) {
				authHostWantFailing(t, host, host.Received(next), AuthUnexpectedMessage)
			})
		}
	}
}

// A refusal of the controller is not answered.
func TestAuthHostRefused(t *testing.T) {
	for _, state := range []AuthHostState{AuthHostChallenge, AuthHostSuccess} {
		for _, c := range []struct {
			what    string
			message []byte
			want    AuthExplanation
		}{
			{"right", appendAuthFailure(nil, authKindFailure1, authTestTID, AuthGroupUnusable), AuthGroupUnusable},
			{"of another exchange", appendAuthFailure(nil, authKindFailure1, 1, AuthFailed), AuthFailed},
			{"with an explanation that is none", appendAuthFailure(nil, authKindFailure1, 1, 99), 99},
			{"cut", appendAuthFailure(nil, authKindFailure1, authTestTID, AuthFailed)[:7], 0},
			{"with more behind it", append(appendAuthFailure(nil, authKindFailure1, authTestTID, AuthFailed), make([]byte, 4088)...), AuthFailed},
		} {
			host, _ := authHostReach(t, state, authConfig(t))
			s := authHostWant(t, host.Received(c.message), AuthHostClose)
			var a *AuthError
			if !errors.As(s.Err, &a) || a.Explanation != c.want || host.State() != AuthHostFailed || host.Authenticated() {
				t.Errorf("%s, %s: %v, %v", state, c.what, host, s.Err)
			}
		}
	}
}

func TestAuthHostWrongField(t *testing.T) {
	put := func(at int, v byte) func([]byte) []byte {
		return func(m []byte) []byte { m[at] = v; return m }
	}
	const value = 16 + 64 // of the challenge, with SHA-512
	p := dhGroups[DHFFDHE2048].prime
	for _, c := range []struct {
		what  string
		state AuthHostState
		group DHGroup
		alter func(m []byte) []byte
		want  AuthExplanation // 0: nothing is wrong
	}{
		{"T_ID", AuthHostChallenge, DHNull, put(4, 0), AuthIncorrectPayload},
		{"HL of another hash", AuthHostChallenge, DHNull, put(6, 48), AuthIncorrectPayload},
		{"HashID 0", AuthHostChallenge, DHNull, put(8, 0), AuthHashUnusable},
		{"HashID 4", AuthHostChallenge, DHNull, put(8, 4), AuthHashUnusable},
		{"a hash that was not offered", AuthHostChallenge, DHNull, func(m []byte) []byte { m[6], m[8] = 48, 2; return m }, AuthHashUnusable},
		{"DHgID 6", AuthHostChallenge, DHNull, put(9, 6), AuthGroupUnusable},
		{"a group that was not offered", AuthHostChallenge, DHNull, func(m []byte) []byte {
			m[9] = byte(DHFFDHE3072)
			binary.LittleEndian.PutUint16(m[10:], 384)
			return append(m, bytes.Repeat([]byte{5}, 384)...)
		}, AuthGroupUnusable},
		{"null, which was not offered", AuthHostChallenge, DHFFDHE2048, func(m []byte) []byte { m[9], m[10], m[11] = 0, 0, 0; return m }, AuthGroupUnusable},
		{"SEQNUM 0", AuthHostChallenge, DHNull, func(m []byte) []byte { clear(m[12:16]); return m }, AuthIncorrectPayload},
		{"DHVLEN with null", AuthHostChallenge, DHNull, func(m []byte) []byte { m[10] = 1; return append(m, 2) }, AuthIncorrectPayload},
		{"DHVLEN 0", AuthHostChallenge, DHFFDHE2048, func(m []byte) []byte { clear(m[10:12]); return m }, AuthIncorrectPayload},
		{"DHVLEN of more than there is", AuthHostChallenge, DHFFDHE2048, func(m []byte) []byte { m[10]++; return m }, AuthIncorrectPayload},
		{"DHVLEN of a larger group", AuthHostChallenge, DHFFDHE2048, func(m []byte) []byte { m[10] = 4; return append(m, 0, 0, 0, 0) }, AuthIncorrectPayload},
		{"DHV 0", AuthHostChallenge, DHFFDHE2048, func(m []byte) []byte { clear(m[value:]); return m }, AuthIncorrectPayload},
		{"DHV 1", AuthHostChallenge, DHFFDHE2048, func(m []byte) []byte { clear(m[value:]); m[len(m)-1] = 1; return m }, AuthIncorrectPayload},
		{"DHV 2", AuthHostChallenge, DHFFDHE2048, func(m []byte) []byte { clear(m[value:]); m[len(m)-1] = 2; return m }, 0},
		{"DHV p", AuthHostChallenge, DHFFDHE2048, func(m []byte) []byte { copy(m[value:], p); return m }, AuthIncorrectPayload},
		{"DHV p-1", AuthHostChallenge, DHFFDHE2048, func(m []byte) []byte { copy(m[value:], p); m[len(m)-1]--; return m }, AuthIncorrectPayload},
		{"DHV p-2", AuthHostChallenge, DHFFDHE2048, func(m []byte) []byte { copy(m[value:], p); m[len(m)-1] -= 2; return m }, 0},
		{"DHV without its leading zeros", AuthHostChallenge, DHFFDHE2048, func(m []byte) []byte { m[10], m[11] = 200, 0; return m }, 0},

		{"T_ID", AuthHostSuccess, DHNull, put(5, 0), AuthIncorrectPayload},
		{"HL of another hash", AuthHostSuccess, DHNull, put(6, 32), AuthIncorrectPayload},
		{"RVALID 2", AuthHostSuccess, DHNull, put(8, 2), AuthIncorrectPayload},
		{"RVALID 0, though we asked", AuthHostSuccess, DHNull, put(8, 0), AuthIncorrectPayload},
		{"R2", AuthHostSuccess, DHNull, func(m []byte) []byte { m[16] ^= 1; return m }, AuthFailed},
		{"R2 in its last byte", AuthHostSuccess, DHFFDHE2048, func(m []byte) []byte { m[16+63] ^= 0x80; return m }, AuthFailed},
		{"R2 all zeros", AuthHostSuccess, DHNull, func(m []byte) []byte { clear(m[16:]); return m }, AuthFailed},
	} {
		t.Run(c.state.String()+" "+c.what, func(t *testing.T) {
			config := authConfig(t, c.group)
			config.Hashes = []AuthHash{AuthSHA256, AuthSHA512}
			host, next := authHostReach(t, c.state, config)
			s := host.Received(c.alter(next))
			if c.want != 0 {
				authHostWantFailing(t, host, s, c.want)
				return
			}
			if s.Err != nil {
				t.Error(s.Err)
			}
		})
	}
}

// SPDK leaves R2 out where there is none; a controller that gives a proof nobody asked for is not understood.
func TestAuthHostNotAsking(t *testing.T) {
	config := authConfig(t)
	config.CtrlKey = nil
	for _, c := range []struct {
		what  string
		alter func(m []byte) []byte
		ok    bool
	}{
		{"as it should be", func(m []byte) []byte { return m }, true},
		{"without R2", func(m []byte) []byte { return m[:16] }, true},
		{"with a part of R2", func(m []byte) []byte { return m[:40] }, true},
		{"cut before that", func(m []byte) []byte { return m[:15] }, false},
		{"with a proof", func(m []byte) []byte { m[8] = 1; return m }, false},
	} {
		host, next := authHostReach(t, AuthHostSuccess, config)
		s := host.Received(c.alter(next))
		if c.ok {
			authHostWant(t, s, AuthHostSucceed)
			if !host.Authenticated() {
				t.Errorf("%s: not authenticated", c.what)
			}
		} else {
			authHostWantFailing(t, host, s, AuthIncorrectPayload)
		}
	}
}

// A source that repeats what the controller's gave must not make us ask what we were asked.
func TestAuthHostSameChallenge(t *testing.T) {
	config := authConfig(t)
	host, challenge := authHostReach(t, AuthHostChallenge, config)
	host.config.Rand = bytes.NewReader(slices.Concat([]byte{1, 0, 0, 0}, challenge[16:]))
	s := host.Received(challenge)
	authHostWantFailing(t, host, s, AuthFailed)
	if !strings.Contains(s.Err.Error(), "randomness") {
		t.Error(s.Err)
	}
}

// A command that fails, at any point, ends it.
func TestAuthHostAbort(t *testing.T) {
	why := errors.New("Command Sequence Error")
	for steps := range 12 {
		target, host := authPair(t, authConfig(t, DHFFDHE2048), nil)
		s := host.Start(authTestTID)
		for range steps {
			switch s.Do {
			case AuthHostSend:
				authWant(t, authSend(target, s.Data), AuthComplete)
				s = host.Sent()
			case AuthHostReceive:
				s = host.Received(authWant(t, target.Receive(4096), AuthComplete).Data)
			case AuthHostCompute:
				s.Job.Run()
				s = host.Computed(s.Job)
			}
		}
		if ended := s.Do == AuthHostSucceed; ended != host.Authenticated() {
			t.Errorf("after %d steps: %v, authenticated %v", steps, host, host.Authenticated())
		}
		job := host.job
		a := authHostWant(t, host.Abort(why), AuthHostClose)
		if a.Err == nil || !strings.Contains(a.Err.Error(), why.Error()) || host.State() != AuthHostFailed || host.Authenticated() {
			t.Errorf("after %d steps: %v, %v", steps, host, a.Err)
		}
		if a := authHostWant(t, host.Abort(why), AuthHostClose); a.Err != nil {
			t.Errorf("told twice: %v", a.Err)
		}
		if job != nil {
			job.Run()
			authHostWant(t, host.Computed(job), AuthHostNothing)
		}
	}
	// While the failure is on its way, it has been told already.
	host, next := authHostReach(t, AuthHostSuccess, authConfig(t))
	next[16] ^= 1
	authHostWant(t, host.Received(next), AuthHostSend)
	if a := authHostWant(t, host.Abort(why), AuthHostClose); a.Err != nil {
		t.Errorf("told twice: %v", a.Err)
	}
}
