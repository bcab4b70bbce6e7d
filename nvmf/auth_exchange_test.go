package nvmf

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

// authWant checks what the controller's machine wants done.
func authWant(t testing.TB, s AuthStep, do AuthDo) AuthStep {
	t.Helper()
	if s.Do != do {
		t.Fatalf("the controller says %s (%v), want %s", s.Do, s.Err, do)
	}
	return s
}

// authHostWant checks what the host's machine wants done.
func authHostWant(t testing.TB, s AuthHostStep, do AuthHostDo) AuthHostStep {
	t.Helper()
	if s.Do != do {
		t.Fatalf("the host says %s (%v), want %s", s.Do, s.Err, do)
	}
	return s
}

// authSend sends, and runs the job if there is one.
func authSend(target *AuthTarget, data []byte) AuthStep {
	s := target.Send(data)
	for s.Do == AuthHold {
		s.Job.Run()
		s = target.Computed(s.Job)
	}
	return s
}

func authHostRun(t testing.TB, host *AuthHost, s AuthHostStep) AuthHostStep {
	t.Helper()
	s.Job.Run()
	return host.Computed(s.Job)
}

// authOutcome is how an exchange went.
type authOutcome struct {
	messages         [][]byte // as they were sent, the host's first
	hostErr, ctrlErr error
	hostDo           AuthHostDo
	ctrlClosed       bool
}

// authExchange lets both machines talk. alter, if any, changes message n (the first is 0) on its way.
func authExchange(t testing.TB, target *AuthTarget, host *AuthHost, tid uint16, alter func(n int, m []byte) []byte) (o authOutcome) {
	t.Helper()
	pass := func(m []byte) []byte {
		m = bytes.Clone(m)
		o.messages = append(o.messages, m)
		if alter != nil {
			m = alter(len(o.messages)-1, bytes.Clone(m))
		}
		return m
	}
	note := func(s AuthStep) {
		if s.Err != nil {
			if o.ctrlErr != nil {
				t.Fatalf("the controller failed twice: %v; %v", o.ctrlErr, s.Err)
			}
			o.ctrlErr = s.Err
		}
		o.ctrlClosed = o.ctrlClosed || s.Do == AuthCompleteThenClose || s.Do == AuthClose
	}
	s := host.Start(tid)
	for range 20 {
		if s.Err != nil {
			if o.hostErr != nil {
				t.Fatalf("the host failed twice: %v; %v", o.hostErr, s.Err)
			}
			o.hostErr = s.Err
		}
		o.hostDo = s.Do
		switch s.Do {
		case AuthHostSend:
			r := authSend(target, pass(s.Data))
			note(r)
			if r.Do != AuthComplete && r.Do != AuthCompleteThenClose {
				s = host.Abort(errors.New(r.Do.String()))
				continue
			}
			s = host.Sent()
		case AuthHostReceive:
			r := target.Receive(AuthReceiveBytes)
			note(r)
			if r.Do != AuthComplete && r.Do != AuthCompleteThenClose {
				s = host.Abort(errors.New(r.Do.String()))
				continue
			}
			s = host.Received(pass(r.Data))
		case AuthHostCompute:
			s = authHostRun(t, host, s)
		default:
			return o
		}
	}
	t.Fatal("the exchange does not end")
	return o
}

// authPair makes both ends of one configuration; what change does to the host's is not done to the controller's.
func authPair(t testing.TB, c AuthConfig, change func(host *AuthConfig)) (*AuthTarget, *AuthHost) {
	t.Helper()
	c.Rand = authTestRand("controller")
	target, err := NewAuthTarget(c)
	if err != nil {
		t.Fatal(err)
	}
	c.Rand = authTestRand("host")
	if change != nil {
		change(&c)
	}
	host, err := NewAuthHost(c)
	if err != nil {
		t.Fatal(err)
	}
	return target, host
}

// authConfig is what most tests use: one group that costs nothing, both directions.
func authConfig(t testing.TB, groups ...DHGroup) AuthConfig {
	c := twinCase{hostHash: 1, ctrlHash: 2, secretBytes: 32, both: true}.config(t)
	c.Groups = groups
	if len(groups) == 0 {
		c.Groups = []DHGroup{DHNull}
	}
	return c
}

func authWantSuccess(t testing.TB, target *AuthTarget, host *AuthHost, o authOutcome) {
	t.Helper()
	if o.hostErr != nil || o.ctrlErr != nil || o.hostDo != AuthHostSucceed || o.ctrlClosed {
		t.Fatalf("the host: %s, %v; the controller: closed %v, %v", o.hostDo, o.hostErr, o.ctrlClosed, o.ctrlErr)
	}
	if !target.Authenticated() || !host.Authenticated() || target.State() != AuthIdle || host.State() != AuthHostDone {
		t.Fatalf("%v: %v; %v: %v", target, target.Authenticated(), host, host.Authenticated())
	}
}

// authWantFailure checks that both ends know that it failed, and what was told.
func authWantFailure(t testing.TB, target *AuthTarget, host *AuthHost, o authOutcome, e AuthExplanation) {
	t.Helper()
	if o.hostErr == nil || o.ctrlErr == nil || o.hostDo != AuthHostClose || !o.ctrlClosed {
		t.Fatalf("the host: %s, %v; the controller: closed %v, %v", o.hostDo, o.hostErr, o.ctrlClosed, o.ctrlErr)
	}
	if target.Authenticated() || host.Authenticated() || target.State() != AuthClosed || host.State() != AuthHostFailed {
		t.Fatalf("%v: %v; %v: %v", target, target.Authenticated(), host, host.Authenticated())
	}
	for _, err := range []error{o.hostErr, o.ctrlErr} {
		var a *AuthError
		if !errors.As(err, &a) || a.Explanation != e || a.HostNQN != twinHost || a.SubNQN != twinSub {
			t.Fatalf("the error is %v, want %s", err, e)
		}
	}
	last := o.messages[len(o.messages)-1]
	if len(last) != 8 || last[0] != 0 || last[1]&0xf0 != 0xf0 || last[6] != 1 || AuthExplanation(last[7]) != e {
		t.Fatalf("the last message is %x, want a failure with %s", last, e)
	}
}

func TestAuthBothEnds(t *testing.T) {
	for _, c := range twinCases() {
		t.Run(c.String(), func(t *testing.T) {
			config := c.config(t)
			config.Hashes, config.Groups = []AuthHash{AuthHash(c.hash)}, []DHGroup{DHGroup(c.group)}
			target, host := authPair(t, config, nil)
			o := authExchange(t, target, host, 7, nil)
			authWantSuccess(t, target, host, o)
			if want := map[bool]int{false: 4, true: 5}[c.both]; len(o.messages) != want {
				t.Errorf("%d messages", len(o.messages))
			}
			if host.Hash() != AuthHash(c.hash) || target.Group() != DHGroup(c.group) || host.Group() != target.Group() {
				t.Errorf("%s and %s were chosen", host.Hash(), target.Group())
			}
		})
	}
}

// A host that does not ask for it gets no proof, whatever keys there are.
func TestAuthOneDirectionWithCtrlKey(t *testing.T) {
	target, host := authPair(t, authConfig(t), func(c *AuthConfig) { c.CtrlKey = nil })
	o := authExchange(t, target, host, 7, nil)
	authWantSuccess(t, target, host, o)
	verdict := o.messages[3]
	if len(verdict) != 16+64 || !bytes.Equal(verdict[8:], make([]byte, len(verdict)-8)) {
		t.Errorf("the verdict is %x", verdict)
	}
}

func TestAuthChoosesTheStrongest(t *testing.T) {
	for _, c := range []struct {
		what                   string
		ctrlHashes, hostHashes []AuthHash
		ctrlGroups, hostGroups []DHGroup
		hash                   AuthHash
		group                  DHGroup
		fault                  AuthExplanation
	}{
		{"both have all but the dear groups", nil, nil, []DHGroup{DHNull, DHFFDHE2048}, nil, AuthSHA512, DHFFDHE2048, 0},
		{"order and repetition do not count", []AuthHash{AuthSHA256, AuthSHA384, AuthSHA256}, []AuthHash{AuthSHA512, AuthSHA384, AuthSHA256},
			[]DHGroup{DHNull, DHFFDHE2048, DHNull}, []DHGroup{DHFFDHE2048, DHNull}, AuthSHA384, DHFFDHE2048, 0},
		{"the host has one", nil, []AuthHash{AuthSHA256}, nil, []DHGroup{DHNull}, AuthSHA256, DHNull, 0},
		{"the controller has one", []AuthHash{AuthSHA384}, nil, []DHGroup{DHNull}, nil, AuthSHA384, DHNull, 0},
		{"no hash in common", []AuthHash{AuthSHA384, AuthSHA512}, []AuthHash{AuthSHA256}, nil, nil, 0, 0, AuthHashUnusable},
		{"null is forbidden", nil, nil, []DHGroup{DHFFDHE2048, DHFFDHE3072}, []DHGroup{DHNull}, 0, 0, AuthGroupUnusable},
		{"no group in common", nil, nil, []DHGroup{DHFFDHE3072}, []DHGroup{DHNull, DHFFDHE2048}, 0, 0, AuthGroupUnusable},
		{"neither in common", []AuthHash{AuthSHA512}, []AuthHash{AuthSHA256}, []DHGroup{DHFFDHE3072}, []DHGroup{DHNull}, 0, 0, AuthHashUnusable},
	} {
		t.Run(c.what, func(t *testing.T) {
			config := authConfig(t)
			config.Hashes, config.Groups = c.ctrlHashes, c.ctrlGroups
			target, host := authPair(t, config, func(h *AuthConfig) { h.Hashes, h.Groups = c.hostHashes, c.hostGroups })
			o := authExchange(t, target, host, 7, nil)
			if c.fault != 0 {
				authWantFailure(t, target, host, o, c.fault)
				return
			}
			authWantSuccess(t, target, host, o)
			if target.Hash() != c.hash || target.Group() != c.group {
				t.Errorf("%s and %s were chosen", target.Hash(), target.Group())
			}
		})
	}
}

func TestAuthWrongKeys(t *testing.T) {
	other, err := NewAuthKey(AuthSHA256, bytes.Repeat([]byte{0xee}, 32))
	if err != nil {
		t.Fatal(err)
	}
	same := func(h AuthHash, k *AuthKey) *AuthKey {
		k, err := NewAuthKey(h, k.secret.bytes[:k.secret.n])
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for _, c := range []struct {
		what   string
		change func(h *AuthConfig)
		from   byte // AUTH_ID of the failure
	}{
		{"another key of the host", func(h *AuthConfig) { h.HostKey = other }, 0xf1},
		{"the controller's key for the host's", func(h *AuthConfig) { h.HostKey = h.CtrlKey }, 0xf1},
		{"the host's key with another hash", func(h *AuthConfig) { h.HostKey = same(AuthSHA384, h.HostKey) }, 0xf1},
		{"the host's key without a hash", func(h *AuthConfig) { h.HostKey = same(AuthHashNone, h.HostKey) }, 0xf1},
		{"another key of the controller", func(h *AuthConfig) { h.CtrlKey = other }, 0xf0},
		{"the controller's key with another hash", func(h *AuthConfig) { h.CtrlKey = same(AuthSHA512, h.CtrlKey) }, 0xf0},
		{"the host's key for the controller's", func(h *AuthConfig) { h.CtrlKey = h.HostKey }, 0xf0},
	} {
		for _, g := range []DHGroup{DHNull, DHFFDHE2048} {
			t.Run(c.what+" "+g.String(), func(t *testing.T) {
				target, host := authPair(t, authConfig(t, g), c.change)
				o := authExchange(t, target, host, 7, nil)
				authWantFailure(t, target, host, o, AuthFailed)
				if last := o.messages[len(o.messages)-1]; last[1] != c.from {
					t.Errorf("the last message is %x", last)
				}
			})
		}
	}
	t.Run("the controller has no key and is asked for its proof", func(t *testing.T) {
		config := authConfig(t)
		ctrlKey := config.CtrlKey
		config.CtrlKey = nil
		target, host := authPair(t, config, func(h *AuthConfig) { h.CtrlKey = ctrlKey })
		authWantFailure(t, target, host, authExchange(t, target, host, 7, nil), AuthFailed)
	})
}

// The names are part of the proof: a key that two share does not let one stand for the other.
func TestAuthNamesAreProved(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(h *AuthConfig)
	}{
		{"another host", func(h *AuthConfig) { h.HostNQN += "x" }},
		{"another subsystem", func(h *AuthConfig) { h.SubNQN += "x" }},
		{"the names exchanged", func(h *AuthConfig) { h.HostNQN, h.SubNQN = h.SubNQN, h.HostNQN }},
		{"a byte moved from one to the other", func(h *AuthConfig) { h.HostNQN, h.SubNQN = h.HostNQN+h.SubNQN[:1], h.SubNQN[1:] }},
	} {
		t.Run(c.what, func(t *testing.T) {
			config := authConfig(t)
			// Without a hash the names enter nowhere but into the response.
			config.HostKey, _ = NewAuthKey(AuthHashNone, authCount(32))
			target, host := authPair(t, config, c.change)
			o := authExchange(t, target, host, 7, nil)
			var a *AuthError
			if !errors.As(o.ctrlErr, &a) || a.Explanation != AuthFailed || target.Authenticated() || host.Authenticated() {
				t.Errorf("%v, %v", o.ctrlErr, o.hostErr)
			}
		})
	}
}

// A queue may be authenticated any number of times. The former result holds while a later exchange runs.
func TestAuthAgain(t *testing.T) {
	for _, g := range []DHGroup{DHNull, DHFFDHE2048} {
		t.Run(g.String(), func(t *testing.T) {
			config := authConfig(t, g)
			target, host := authPair(t, config, nil)
			var challenges [][]byte
			var last uint32
			for tid := range uint16(5) {
				o := authExchange(t, target, host, tid, func(n int, m []byte) []byte {
					if held := tid > 0; target.Authenticated() != held {
						t.Errorf("exchange %d, message %d: authenticated is %v", tid, n, !held)
					}
					return m
				})
				authWantSuccess(t, target, host, o)
				m, fault := decodeAuthChallenge(o.messages[1])
				if fault != nil {
					t.Fatal(fault)
				}
				if slices.ContainsFunc(challenges, func(c []byte) bool {
					return bytes.Equal(c, m.challenge) || len(m.public) > 0 && bytes.Equal(c, m.public)
				}) {
					t.Error("a challenge or a public value came twice")
				}
				challenges = append(challenges, m.challenge, m.public)
				if tid > 0 && m.sequence != last+1 {
					t.Errorf("S1 is %d after %d", m.sequence, last)
				}
				last = m.sequence
			}

			// Rotation: the controller has a new key, and the host learns of it too late.
			old := config.HostKey
			config.HostKey, _ = NewAuthKey(AuthSHA512, bytes.Repeat([]byte{9}, 64))
			if err := target.Configure(config); err != nil {
				t.Fatal(err)
			}
			if !target.Authenticated() || !old.Equal(authConfig(t).HostKey) {
				t.Error("a new key alone undid the result")
			}
			if err := host.Configure(config); err != nil {
				t.Fatal(err)
			}
			authWantSuccess(t, target, host, authExchange(t, target, host, 100, nil))
			config.HostKey = old
			if err := host.Configure(config); err != nil {
				t.Fatal(err)
			}
			authWantFailure(t, target, host, authExchange(t, target, host, 101, nil), AuthFailed)
		})
	}
}

// An exchange ends with the keys it began with.
func TestAuthConfigureInTheMiddle(t *testing.T) {
	config := authConfig(t)
	fresh := config
	fresh.HostKey, _ = NewAuthKey(AuthHashNone, bytes.Repeat([]byte{9}, 48))
	fresh.CtrlKey = nil
	fresh.Hashes = []AuthHash{AuthSHA256}
	target, host := authPair(t, config, nil)
	o := authExchange(t, target, host, 1, func(n int, m []byte) []byte {
		if n == 0 {
			return m // the exchange begins when the controller has it
		}
		for _, err := range []error{target.Configure(fresh), host.Configure(fresh)} {
			if err != nil {
				t.Error(err)
			}
		}
		return m
	})
	authWantSuccess(t, target, host, o)
	if host.Hash() != AuthSHA512 || len(o.messages) != 5 {
		t.Errorf("%s in %d messages", host.Hash(), len(o.messages))
	}
	o = authExchange(t, target, host, 2, nil)
	authWantSuccess(t, target, host, o)
	if host.Hash() != AuthSHA256 || len(o.messages) != 4 {
		t.Errorf("%s in %d messages", host.Hash(), len(o.messages))
	}
}

func TestAuthConfigRefuses(t *testing.T) {
	good := authConfig(t)
	target, host := authPair(t, good, nil)
	for _, c := range []struct {
		what, want string
		change     func(c *AuthConfig)
	}{
		{"no host", "empty", func(c *AuthConfig) { c.HostNQN = "" }},
		{"no subsystem", "empty", func(c *AuthConfig) { c.SubNQN = "" }},
		{"one name for both", "same name", func(c *AuthConfig) { c.HostNQN = c.SubNQN }},
		{"no key", "no key", func(c *AuthConfig) { c.HostKey = nil }},
		{"no hash", "none is not", func(c *AuthConfig) { c.Hashes = []AuthHash{AuthSHA256, AuthHashNone} }},
		{"unknown hash", "unknown hash function 4", func(c *AuthConfig) { c.Hashes = []AuthHash{4} }},
		{"unknown group", "unknown group 6", func(c *AuthConfig) { c.Groups = []DHGroup{DHNull, 6} }},
	} {
		bad := good
		c.change(&bad)
		_, err1 := NewAuthTarget(bad)
		_, err2 := NewAuthHost(bad)
		for _, err := range []error{err1, err2, target.Configure(bad), host.Configure(bad)} {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", c.what, err)
			}
		}
	}
	moved := good
	moved.HostNQN += "x"
	for _, err := range []error{target.Configure(moved), host.Configure(moved)} {
		if err == nil || !strings.Contains(err.Error(), "connect anew") {
			t.Errorf("another host: %v", err)
		}
	}
	authWantSuccess(t, target, host, authExchange(t, target, host, 1, nil))
}

// A recorded exchange is worth nothing later.
func TestAuthReplay(t *testing.T) {
	for _, g := range []DHGroup{DHNull, DHFFDHE2048} {
		t.Run(g.String(), func(t *testing.T) {
			target, host := authPair(t, authConfig(t, g), nil)
			o := authExchange(t, target, host, 7, nil)
			authWantSuccess(t, target, host, o)

			// The host's part, against the same queue and against a new one.
			config := authConfig(t, g)
			config.Rand = authTestRand("another")
			fresh, err := NewAuthTarget(config)
			if err != nil {
				t.Fatal(err)
			}
			for _, target := range []*AuthTarget{target, fresh} {
				authWant(t, authSend(target, o.messages[0]), AuthComplete)
				authWant(t, target.Receive(AuthReceiveBytes), AuthComplete)
				s := authWant(t, authSend(target, o.messages[2]), AuthComplete)
				if s.Err == nil || target.Authenticated() || target.State() != AuthRefusing {
					t.Errorf("a recorded reply: %v, %v", target, s.Err)
				}
			}

			// The controller's part, against another host machine.
			other, err := NewAuthHost(config)
			if err != nil {
				t.Fatal(err)
			}
			authHostWant(t, other.Start(7), AuthHostSend)
			authHostWant(t, other.Sent(), AuthHostReceive)
			s := other.Received(o.messages[1])
			if s.Do == AuthHostCompute {
				s = authHostRun(t, other, s)
			}
			authHostWant(t, s, AuthHostSend)
			authHostWant(t, other.Sent(), AuthHostReceive)
			s = authHostWant(t, other.Received(o.messages[3]), AuthHostSend)
			if s.Err == nil || other.State() != AuthHostFailing {
				t.Errorf("a recorded verdict: %v, %v", other, s.Err)
			}
		})
	}
}

// A host may send the controller its own challenge back to have it answered. NVMe Base 2.1 section 8.3.4.5.4.
func TestAuthReflectedChallenge(t *testing.T) {
	target, host := authPair(t, authConfig(t), nil)
	var challenge []byte
	o := authExchange(t, target, host, 7, func(n int, m []byte) []byte {
		switch n {
		case 1:
			challenge = m[16 : 16+64]
		case 2:
			copy(m[16+64:], challenge)
		}
		return m
	})
	authWantFailure(t, target, host, o, AuthFailed)
	if !strings.Contains(o.ctrlErr.Error(), "our challenge back") {
		t.Error(o.ctrlErr)
	}
}

// Every single bit of every message counts, but for the reserved ones and the padding of the lists.
func TestAuthEveryBitCounts(t *testing.T) {
	for _, g := range []DHGroup{DHNull, DHFFDHE2048} {
		t.Run(g.String(), func(t *testing.T) {
			config := authConfig(t, g)
			config.Hashes = []AuthHash{AuthSHA256}
			target, host := authPair(t, config, nil)
			clean := authExchange(t, target, host, 7, nil)
			for n, m := range clean.messages {
				for i := range m {
					if g != DHNull && i > 24 && i < len(m)-4 && i%37 != 0 {
						continue // the values are long, and an exponentiation is dear
					}
					free := i == 2 || i == 3
					switch n {
					case 0:
						// Reserved, the identifiers beyond the lists, and lists that end in padding. The lists are not
						// proved: what each end allows is what protects the choice.
						free = free || i == 9 || i == 10 || i == 11 || i > 12 && i < 42 || i > 42
					case 1:
						free = free || i == 7
					case 2:
						free = free || i == 7 || i == 9
					case 3:
						free = free || i == 7 || i > 8 && i < 16
					case 4:
						free = free || i > 5
					}
					bit := byte(1) << (i % 8)
					target, host := authPair(t, config, nil)
					o := authExchange(t, target, host, 7, func(k int, m []byte) []byte {
						if k == n {
							m[i] ^= bit
						}
						return m
					})
					if ok := target.Authenticated() && host.Authenticated(); ok != free {
						t.Errorf("message %d, byte %d, bit %02x changed: both authenticated is %v (%v; %v)", n, i, bit, ok, o.ctrlErr, o.hostErr)
					}
					if !free && o.ctrlErr == nil && o.hostErr == nil {
						t.Errorf("message %d, byte %d: nobody failed", n, i)
					}
				}
			}
		})
	}
}
