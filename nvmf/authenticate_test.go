package nvmf

import (
	"context"
	"crypto/rand"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pollux-storage/pollux/reactor"
)

func newKey(t testing.TB) *AuthKey {
	t.Helper()
	k, err := GenerateAuthKey(rand.Reader, AuthSHA256, 32)
	authMust(t, err)
	return k
}

// host makes the host's end, which allows the group that costs nothing unless told.
func (rig *authRig) host(nqn string, key, ctrlKey *AuthKey, groups ...DHGroup) *AuthHost {
	rig.t.Helper()
	if len(groups) == 0 {
		groups = []DHGroup{DHNull}
	}
	h, err := NewAuthHost(AuthConfig{SubNQN: authSub, HostNQN: nqn, HostKey: key, CtrlKey: ctrlKey, Groups: groups})
	authMust(rig.t, err)
	return h
}

func (rig *authRig) dial() *authWire {
	rig.t.Helper()
	w, err := dialAuth(rig.addr)
	authMust(rig.t, err)
	rig.t.Cleanup(w.close)
	return w
}

// connect makes a queue of a new connection, and says whether authentication is required.
func (rig *authRig) connect(host string, id QID, cntlid CNTLID, kato uint32) (w *authWire, k CNTLID, required bool) {
	rig.t.Helper()
	w = rig.dial()
	a, err := w.connect(host, id, cntlid, kato)
	authMust(rig.t, err)
	if !a.Status.OK() {
		rig.t.Fatalf("Connect ended with %v", a.Status)
	}
	return w, CNTLID(a.DW0), a.DW0&ConnectATR != 0
}

// ready makes an authenticated, enabled controller.
func (rig *authRig) ready(host string, h *AuthHost) (w *authWire, k CNTLID) {
	rig.t.Helper()
	w, k, required := rig.connect(host, 0, CNTLIDDynamic, 0)
	if required {
		authMust(rig.t, w.authenticate(h, 0))
	}
	authMust(rig.t, w.enable())
	return w, k
}

// failures is how often a host failed.
func (rig *authRig) failures(nqn string) uint64 {
	for _, s := range rig.target.Subsystems() {
		for _, h := range s.Hosts {
			if s.NQN == authSub && h.NQN == nqn {
				return h.AuthFailures
			}
		}
	}
	rig.t.Fatalf("host %s is not listed", nqn)
	return 0
}

func wantAnswer(t testing.TB, what string, have CQE, err error, want Status) {
	t.Helper()
	if err != nil || have.Status != want {
		t.Fatalf("%s ended with %v (%v), want %v", what, have.Status, err, want)
	}
}

func TestAuthenticate(t *testing.T) {
	for _, c := range []struct {
		name        string
		both, byR2T bool
		group       DHGroup
	}{
		{name: "the host alone", group: DHNull},
		{name: "both", both: true, group: DHNull},
		{name: "both, with a Diffie-Hellman exchange, messages fetched by R2T", both: true, byR2T: true, group: DHFFDHE2048},
	} {
		t.Run(c.name, func(t *testing.T) {
			rig := newAuthRig(t)
			keys := HostKeys{Host: newKey(t), Ctrl: newKey(t), HostName: "key-host", CtrlName: "key-ctrl"}
			authMust(t, rig.target.AddHost(authSub, authHost1, keys))
			end := func() *AuthHost {
				if c.both {
					return rig.host(authHost1, keys.Host, keys.Ctrl, c.group)
				}
				return rig.host(authHost1, keys.Host, nil, c.group)
			}
			admin, k, required := rig.connect(authHost1, 0, CNTLIDDynamic, 0)
			if !required {
				t.Fatal("the Admin queue needs no authentication")
			}
			admin.byR2T = c.byR2T
			authMust(t, admin.authenticate(end(), 0))
			authMust(t, admin.enable())
			homes := map[int]bool{}
			for id := QID(1); id <= 2; id++ {
				io, _, required := rig.connect(authHost1, id, k, 0)
				if !required {
					t.Fatalf("queue %d needs no authentication", id)
				}
				io.byR2T = c.byR2T
				authMust(t, io.authenticate(end(), 0))
				authMust(t, io.writeRead(uint64(id), byte(id)))
			}
			queues, err := rig.target.Queues(authSub)
			authMust(t, err)
			for _, q := range queues {
				homes[q.Reactor] = true
				want := &AuthInfo{AuthIdle, true, AuthSHA512, c.group}
				if q.State != "enabled" || !reflect.DeepEqual(q.Auth, want) {
					t.Errorf("queue %d is %s with %+v, want %+v", q.QID, q.State, q.Auth, want)
				}
			}
			if len(queues) != 3 || len(homes) != 2 {
				t.Errorf("there are %d queues on %d reactors, want 3 on 2", len(queues), len(homes))
			}
			for _, s := range rig.target.Subsystems() {
				if s.NQN == authSub {
					want := []Host{{authHost1, "key-host", "key-ctrl", true, 0}}
					if !reflect.DeepEqual(s.Hosts, want) {
						t.Errorf("the hosts are %+v, want %+v", s.Hosts, want)
					}
				}
			}
			if !strings.Contains(rig.log.String(), "a host authenticated") {
				t.Error("success was not logged")
			}
		})
	}
}

func TestAuthenticateWrongKey(t *testing.T) {
	for _, group := range []DHGroup{DHNull, DHFFDHE2048} {
		t.Run(group.String(), func(t *testing.T) {
			rig := newAuthRig(t)
			authMust(t, rig.target.AddHost(authSub, authHost1, HostKeys{Host: newKey(t)}))
			w, _, _ := rig.connect(authHost1, 0, CNTLIDDynamic, 0)
			err := w.authenticate(rig.host(authHost1, newKey(t), nil, group), 0)
			var told *AuthError
			if !errors.As(err, &told) || told.Explanation != AuthFailed {
				t.Fatalf("the host was told %v", err)
			}
			authMust(t, w.wantEnd())
			if n := rig.failures(authHost1); n != 1 {
				t.Errorf("%d failures were counted", n)
			}
			stats, err := rig.target.Stats()
			authMust(t, err)
			if n := stats[0].AuthFailures + stats[1].AuthFailures; n != 1 {
				t.Errorf("%d failures were counted by the reactors", n)
			}
			if l := rig.log.String(); !strings.Contains(l, "failed to authenticate") || !strings.Contains(l, authHost1) {
				t.Errorf("the failure was not logged: %s", l)
			}
		})
	}
}

// A connection stays for a moment when the failure was told, though no command is open on it. Then it takes nothing.
func TestAuthenticateToldStays(t *testing.T) {
	rig := newAuthRigLeaving(t, 3600*reactor.Second)
	authMust(t, rig.target.AddHost(authSub, authHost1, HostKeys{Host: newKey(t)}))
	w, _, _ := rig.connect(authHost1, 0, CNTLIDDynamic, 0)
	var told *AuthError
	if err := w.authenticate(rig.host(authHost1, newKey(t), nil), 0); !errors.As(err, &told) {
		t.Fatalf("the host was told %v", err)
	}
	for range 2 { // the first answer has left when the second command is taken
		a, _, err := w.command(authCommand(FabricsAuthSend, 16), make([]byte, 16), 0)
		wantAnswer(t, "another message", a, err, StatusSequence|DNR)
	}
	a, _, err := w.command(authCommand(FabricsAuthReceive, 16), nil, 16)
	wantAnswer(t, "another fetch", a, err, StatusSequence|DNR)
}

// A host that does not fetch the failure gets nothing else.
func TestAuthenticateNotFetched(t *testing.T) {
	rig := newAuthRig(t)
	authMust(t, rig.target.AddHost(authSub, authHost1, HostKeys{Host: newKey(t)}))
	w, _, _ := rig.connect(authHost1, 0, CNTLIDDynamic, 200)
	_ = w.authenticate(rig.host(authHost1, newKey(t), nil), AuthHostSuccess)
	var s SQE
	s.InitFabrics(FabricsPropertyGet, 0)
	s.SetProperty(PropertyVS, 4, 0)
	a, _, err := w.command(&s, nil, 0)
	wantAnswer(t, "a Property Get", a, err, StatusAuthenticationNeeded)
	a, _, err = w.command(authCommand(FabricsAuthSend, 16), make([]byte, 16), 0)
	wantAnswer(t, "another message", a, err, StatusSequence|DNR)
	authMust(t, w.wantEnd())
	if n := rig.failures(authHost1); n != 1 {
		t.Errorf("%d failures were counted", n)
	}
}

// Base Specification 2.1 section 8.3.4.2: until it is authenticated, a queue takes nothing else.
func TestAuthenticateFirst(t *testing.T) {
	rig := newAuthRig(t)
	key := newKey(t)
	authMust(t, rig.target.AddHost(authSub, authHost1, HostKeys{Host: key}))
	admin, k, _ := rig.connect(authHost1, 0, CNTLIDDynamic, 0)

	var get, set, aer, identify SQE
	get.InitFabrics(FabricsPropertyGet, 0)
	get.SetProperty(PropertyCAP, 8, 0)
	set.InitFabrics(FabricsPropertySet, 0)
	set.SetProperty(PropertyCC, 4, uint64(CCEnable))
	aer.Init(uint8(AdminAER), 0, 0)
	identify.Init(uint8(AdminIdentify), 0, 0)
	for name, s := range map[string]*SQE{"Property Get": &get, "Property Set": &set, "Asynchronous Event Request": &aer, "Identify": &identify} {
		a, _, err := admin.command(s, nil, 0)
		wantAnswer(t, name, a, err, StatusAuthenticationNeeded)
	}
	a, err := admin.connect(authHost1, 0, CNTLIDDynamic, 0)
	wantAnswer(t, "a second Connect", a, err, StatusAuthenticationNeeded)
	early := rig.dial()
	a, err = early.connect(authHost1, 1, k, 0)
	wantAnswer(t, "the Connect of an I/O queue before the Admin queue is authenticated", a, err, StatusAuthenticationNeeded)

	authMust(t, admin.authenticate(rig.host(authHost1, key, nil), 0))
	authMust(t, admin.enable())
	io, _, _ := rig.connect(authHost1, 1, k, 0)
	a, _, err = io.command(authRW(IORead, 1, 0), nil, 4096)
	wantAnswer(t, "a Read", a, err, StatusAuthenticationNeeded)
	io.byR2T = true
	a, _, err = io.command(authRW(IOWrite, 1, 0), make([]byte, 4096), 0)
	wantAnswer(t, "a Write, whose data is not asked for", a, err, StatusAuthenticationNeeded)
	authMust(t, io.authenticate(rig.host(authHost1, key, nil), 0))
	authMust(t, io.writeRead(0, 7))
	if n := rig.failures(authHost1); n != 0 {
		t.Errorf("%d failures were counted", n)
	}
}

func TestAuthenticateFields(t *testing.T) {
	rig := newAuthRig(t)
	key := newKey(t)
	authMust(t, rig.target.AddHost(authSub, authHost1, HostKeys{Host: key}))
	authMust(t, rig.target.AddHost(authSub, authHost2, HostKeys{}))
	w, _, _ := rig.connect(authHost1, 0, CNTLIDDynamic, 0)
	for _, c := range []struct {
		name  string
		at    int
		value byte
		want  Status
	}{
		{"SPSP0 is not 1", 41, 0, StatusInvalidField | DNR},
		{"SPSP1 is not 1", 42, 2, StatusInvalidField | DNR},
		{"SECP is not E9h", 43, 0, StatusInvalidField | DNR},
		{"the length is 0", 44, 0, StatusInvalidField | DNR},
		{"the length is not that of the data", 44, 15, StatusSGLLength | DNR},
	} {
		s := authCommand(FabricsAuthSend, 16)
		s[c.at] = c.value
		a, _, err := w.command(s, make([]byte, 16), 0)
		wantAnswer(t, "Authentication Send: "+c.name, a, err, c.want)
		s = authCommand(FabricsAuthReceive, 16)
		s[c.at] = c.value
		a, _, err = w.command(s, nil, 16)
		wantAnswer(t, "Authentication Receive: "+c.name, a, err, c.want)
	}
	a, _, err := w.command(authCommand(FabricsAuthReceive, 2<<20), nil, 2<<20)
	wantAnswer(t, "an Authentication Receive of more than a transfer may have", a, err, StatusInvalidField|DNR)
	s := authCommand(FabricsAuthReceive, 16)
	s.SetSGL(SGL{Type: SGLDataBlock, Subtype: SGLOffset})
	a, _, err = w.command(s, nil, 0)
	wantAnswer(t, "an Authentication Receive without a buffer", a, err, StatusInvalidField|DNR)
	// Nothing of this was a step of an exchange.
	authMust(t, w.authenticate(rig.host(authHost1, key, nil), 0))

	// A host without a key has nothing to authenticate with.
	w, _, required := rig.connect(authHost2, 0, CNTLIDDynamic, 0)
	if required {
		t.Error("authentication is required of a host without a key")
	}
	a, _, err = w.command(authCommand(FabricsAuthSend, 16), make([]byte, 16), 0)
	wantAnswer(t, "an Authentication Send of a host without a key", a, err, StatusSequence|DNR)
	a, _, err = w.command(authCommand(FabricsAuthReceive, 16), nil, 16)
	wantAnswer(t, "an Authentication Receive of a host without a key", a, err, StatusSequence|DNR)
	authMust(t, w.enable())
}

func TestAuthenticateConfiguration(t *testing.T) {
	rig := newAuthRig(t)
	key := newKey(t)
	for name, err := range map[string]error{
		"a host with the name of the subsystem": rig.target.AddHost(authSub, authSub, HostKeys{Host: key}),
		"a controller key alone":                rig.target.AddHost(authSub, authHost1, HostKeys{Ctrl: key}),
		"a hash function that is none":          rig.target.SetAuthRules(AuthRules{Hashes: []AuthHash{AuthHashNone}}),
		"a group that is none":                  rig.target.SetAuthRules(AuthRules{Groups: []DHGroup{dhGroupEnd}}),
	} {
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := rig.target.SetHostKeys(authSub, authHost1, HostKeys{Host: key}); !errors.Is(err, ErrNotFound) {
		t.Errorf("keys of a host that is not there: %v", err)
	}
	w := rig.dial()
	a, err := w.connect(authSub, 0, CNTLIDDynamic, 0)
	wantAnswer(t, "the Connect of a host with the name of the subsystem", a, err, StatusConnectHost|DNR)

	authMust(t, rig.target.AddHost(authSub, authHost1, HostKeys{Host: key, Ctrl: key}))
	authMust(t, rig.target.AddHost(authSub, authHost2, HostKeys{Host: key}))
	if n := strings.Count(rig.log.String(), "the same authentication key"); n != 2 {
		t.Errorf("%d warnings of keys that more than one has, want 2", n)
	}
	if strings.Contains(rig.log.String(), key.Reveal()[10:30]) {
		t.Error("a key was logged")
	}
}

func TestAuthenticateRules(t *testing.T) {
	rig := newAuthRig(t)
	key := newKey(t)
	authMust(t, rig.target.AddHost(authSub, authHost1, HostKeys{Host: key}))
	rules := AuthRules{Hashes: []AuthHash{AuthSHA384}, Groups: []DHGroup{DHNull, DHFFDHE2048}}
	authMust(t, rig.target.SetAuthRules(rules))
	if have := rig.target.AuthRules(); !reflect.DeepEqual(have, rules) {
		t.Errorf("the rules are %v, want %v", have, rules)
	}
	w, _, _ := rig.connect(authHost1, 0, CNTLIDDynamic, 0)
	h := rig.host(authHost1, key, nil, DHGroups()...)
	authMust(t, w.authenticate(h, 0))
	if h.Hash() != AuthSHA384 || h.Group() != DHFFDHE2048 {
		t.Errorf("the target chose %v and %v", h.Hash(), h.Group())
	}
	// On the same queue, without the group null.
	authMust(t, rig.target.SetAuthRules(AuthRules{Groups: []DHGroup{DHFFDHE2048}}))
	var told *AuthError
	if err := w.authenticate(rig.host(authHost1, key, nil, DHNull), 0); !errors.As(err, &told) || told.Explanation != AuthGroupUnusable {
		t.Errorf("a host that offers null alone was told %v", err)
	}
	authMust(t, w.wantEnd())
}

// New keys count for the next exchange; queues that work go on.
func TestAuthenticateRekey(t *testing.T) {
	rig := newAuthRig(t)
	old, next := newKey(t), newKey(t)
	authMust(t, rig.target.AddHost(authSub, authHost1, HostKeys{Host: old, HostName: "old"}))
	admin, k := rig.ready(authHost1, rig.host(authHost1, old, nil))
	io, _, _ := rig.connect(authHost1, 1, k, 0)
	authMust(t, io.authenticate(rig.host(authHost1, old, nil), 0))

	// An exchange that is under way ends with the keys that it began with.
	h := rig.host(authHost1, old, nil)
	authMust(t, admin.authenticate(h, AuthHostChallenge))
	authMust(t, rig.target.SetHostKeys(authSub, authHost1, HostKeys{Host: next, HostName: "next"}))
	authMust(t, io.writeRead(1, 1))
	authMust(t, admin.goOn(h, AuthHostStep{Do: AuthHostReceive}, 0))

	authMust(t, io.writeRead(2, 2))
	for _, w := range []*authWire{admin, io} {
		authMust(t, w.authenticate(rig.host(authHost1, next, nil), 0))
		authMust(t, w.authenticate(rig.host(authHost1, next, nil), 0))
	}
	authMust(t, io.writeRead(3, 3))
	later, _, _ := rig.connect(authHost1, 2, k, 0)
	authMust(t, later.authenticate(rig.host(authHost1, next, nil), 0))
	if n := rig.failures(authHost1); n != 0 {
		t.Errorf("%d failures were counted", n)
	}
	// The old key is worth nothing any more: that queue ends, the others stay.
	if err := later.authenticate(rig.host(authHost1, old, nil), 0); err == nil {
		t.Error("the old key still counts")
	}
	authMust(t, later.wantEnd())
	authMust(t, io.writeRead(4, 4))

	// Without a key nothing is required, and there is nothing to authenticate with; what works goes on.
	authMust(t, rig.target.SetHostKeys(authSub, authHost1, HostKeys{}))
	var status errAuthStatus
	if err := io.authenticate(rig.host(authHost1, next, nil), 0); !errors.As(err, &status) || Status(status) != StatusSequence|DNR {
		t.Errorf("an exchange without a key: %v", err)
	}
	authMust(t, io.writeRead(5, 5))
	free, _, required := rig.connect(authHost1, 3, k, 0)
	if required {
		t.Error("authentication is required of a host without a key")
	}
	// A queue that was made without may authenticate when there is a key.
	authMust(t, rig.target.SetHostKeys(authSub, authHost1, HostKeys{Host: old}))
	authMust(t, free.writeRead(6, 6))
	authMust(t, free.authenticate(rig.host(authHost1, old, nil), 0))
	authMust(t, free.writeRead(7, 7))
}

// A queue does not move in the middle of an exchange, nor keep what a host sends after one that failed: the data of an Authentication Send may be on its
// way when the move begins.
func TestAuthenticateAsTheQueueMoves(t *testing.T) {
	for _, c := range []struct {
		what string
		bad  bool
	}{{"an exchange begins", false}, {"a bad message ends it", true}} {
		t.Run(c.what, func(t *testing.T) {
			rig := newAuthRig(t)
			key := newKey(t)
			authMust(t, rig.target.AddHost(authSub, authHost1, HostKeys{Host: key}))
			_, k := rig.ready(authHost1, rig.host(authHost1, key, nil))
			w, _, _ := rig.connect(authHost1, 1, k, 0)
			authMust(t, w.authenticate(rig.host(authHost1, key, nil), 0))
			at := -1
			rig.onQueues(func(q *queue) {
				if q.id == 1 {
					at = q.r.Index()
				}
			})

			h := rig.host(authHost1, key, nil)
			message := h.Start(77).Data
			if c.bad {
				message = make([]byte, len(message))
			}
			send, asked, err := w.withhold(authCommand(FabricsAuthSend, len(message)), message)
			authMust(t, err)
			ended := make(chan error, 1)
			go func() { ended <- rig.target.MoveQueue(t.Context(), authSub, k, 1, 1-at, authPatience) }()
			until(t, "the queue comes to rest", func() bool { moves, _ := rig.target.Rest(k, 1); return moves })
			authMust(t, w.answerR2T(asked))
			if err := <-ended; !errors.Is(err, errMoveAuth) {
				t.Errorf("the move: %v, want %v", err, errMoveAuth)
			}
			a, _, err := w.await(send)
			wantAnswer(t, "the message", a, err, StatusSuccess)
			if c.bad {
				a, _, err = w.command(authCommand(FabricsAuthReceive, AuthReceiveBytes), nil, AuthReceiveBytes)
				wantAnswer(t, "what the failure is told by", a, err, StatusSuccess)
				authMust(t, w.wantEnd())
				return
			}
			authMust(t, w.goOn(h, h.Sent(), 0))
			authMust(t, w.writeRead(3, 3))
			authMust(t, rig.target.MoveQueue(t.Context(), authSub, k, 1, 1-at, authPatience))
			authMust(t, w.writeRead(4, 4))
		})
	}
}

// Section 8.3.4.2: when a queue that worked fails to authenticate again, its commands end with Operation Denied.
func TestAuthenticateDenied(t *testing.T) {
	rig := newAuthRig(t)
	key := newKey(t)
	authMust(t, rig.target.AddHost(authSub, authHost1, HostKeys{Host: key}))
	admin, k := rig.ready(authHost1, rig.host(authHost1, key, nil))
	w, _, _ := rig.connect(authHost1, 1, k, 0)
	authMust(t, w.authenticate(rig.host(authHost1, key, nil), 0))
	authMust(t, w.writeRead(9, 9))

	read, err := w.submit(authRW(IORead, 2, 0), nil, 4096)
	authMust(t, err)
	until(t, "the device has a request", func() bool { return rig.held.count() == 1 })
	write, asked, err := w.withhold(authRW(IOWrite, 1, 9), make([]byte, 4096))
	authMust(t, err)
	h := rig.host(authHost1, newKey(t), nil)
	authMust(t, w.authenticate(h, AuthHostSuccess))

	a, _, err := w.command(authRW(IORead, 1, 9), nil, 4096)
	wantAnswer(t, "a Read that comes after the failure", a, err, StatusOperationDenied)
	a, _, err = w.command(authRW(IOWrite, 1, 9), make([]byte, 4096), 0)
	wantAnswer(t, "a Write that comes after the failure", a, err, StatusOperationDenied)
	rig.held.letGo()
	a, d, err := w.await(read)
	wantAnswer(t, "a Read that the device had", a, err, StatusOperationDenied)
	if d != nil {
		t.Error("its data came, too")
	}
	authMust(t, w.answerR2T(asked))
	a, _, err = w.await(write)
	wantAnswer(t, "a Write whose data was on its way", a, err, StatusOperationDenied)
	if err := w.goOn(h, AuthHostStep{Do: AuthHostReceive}, 0); err == nil {
		t.Error("the wrong key is right")
	}
	authMust(t, w.wantEnd())

	// No write was done, the Admin queue was not touched, and the queue's identifier is free again.
	w, _, _ = rig.connect(authHost1, 1, k, 0)
	authMust(t, w.authenticate(rig.host(authHost1, key, nil), 0))
	a, d, err = w.command(authRW(IORead, 1, 9), nil, 4096)
	wantAnswer(t, "a Read", a, err, StatusSuccess)
	if d[0] != 9 {
		t.Error("a denied write was done")
	}

	// A request for events is open at the Admin queue, whose failure ends the association. A device that does not answer
	// does not keep the connection open.
	_, err = w.submit(authRW(IORead, 2, 0), nil, 4096)
	authMust(t, err)
	until(t, "the device has a request", func() bool { return rig.held.count() == 1 })
	var s SQE
	s.Init(uint8(AdminAER), 0, 0)
	aer, err := admin.submit(&s, nil, 0)
	authMust(t, err)
	h = rig.host(authHost1, newKey(t), nil)
	authMust(t, admin.authenticate(h, AuthHostSuccess))
	a, _, err = admin.await(aer)
	wantAnswer(t, "an Asynchronous Event Request", a, err, StatusOperationDenied)
	_ = admin.goOn(h, AuthHostStep{Do: AuthHostReceive}, 0)
	authMust(t, admin.wantEnd())
	authMust(t, w.wantEnd())
	rig.held.letGo()
	until(t, "the controllers are gone", func() bool {
		list, err := rig.target.Controllers(authSub)
		return err == nil && len(list) == 0
	})
}

// A device that keeps a command of a denied queue keeps the connection open for a moment only.
func TestAuthenticateDeniedAtTheDevice(t *testing.T) {
	rig := newAuthRig(t)
	key := newKey(t)
	authMust(t, rig.target.AddHost(authSub, authHost1, HostKeys{Host: key}))
	_, k := rig.ready(authHost1, rig.host(authHost1, key, nil))
	w, _, _ := rig.connect(authHost1, 1, k, 0)
	authMust(t, w.authenticate(rig.host(authHost1, key, nil), 0))
	_, err := w.submit(authRW(IORead, 2, 0), nil, 4096)
	authMust(t, err)
	until(t, "the device has a request", func() bool { return rig.held.count() == 1 })
	if err := w.authenticate(rig.host(authHost1, newKey(t), nil), 0); err == nil {
		t.Error("the wrong key is right")
	}
	authMust(t, w.wantEnd())
	rig.held.letGo()
}

func TestAuthenticateTimeout(t *testing.T) {
	rig := newAuthRig(t)
	key := newKey(t)
	authMust(t, rig.target.AddHost(authSub, authHost1, HostKeys{Host: key}))

	// The first exchange: at any step.
	for i, stop := range []AuthHostState{AuthHostIdle, AuthHostChallenge, AuthHostSuccess} {
		w, _, _ := rig.connect(authHost1, 0, CNTLIDDynamic, 200)
		if stop != AuthHostIdle {
			authMust(t, w.authenticate(rig.host(authHost1, key, nil), stop))
		}
		authMust(t, w.wantEnd())
		if n := rig.failures(authHost1); n != uint64(i+1) {
			t.Errorf("%d failures were counted, want %d", n, i+1)
		}
	}

	// A later one is forgotten, and what continues it is out of sequence.
	w, k, _ := rig.connect(authHost1, 0, CNTLIDDynamic, 0)
	authMust(t, w.authenticate(rig.host(authHost1, key, nil), 0))
	authMust(t, w.enable())
	io, _, _ := rig.connect(authHost1, 1, k, 0)
	authMust(t, io.authenticate(rig.host(authHost1, key, nil), 0))
	h := rig.host(authHost1, key, nil)
	authMust(t, io.authenticate(h, AuthHostChallenge))
	rig.onQueues(func(q *queue) {
		if q.id == 1 {
			q.r.SetTimer(&q.auth.timer, q.r.Now(), q.auth)
		}
	})
	until(t, "the time for the exchange is up", func() (lapsed bool) {
		rig.onQueues(func(q *queue) { lapsed = lapsed || q.id == 1 && q.auth.machine.State() == AuthLapsed })
		return lapsed
	})
	var status errAuthStatus
	if err := io.goOn(h, AuthHostStep{Do: AuthHostReceive}, 0); !errors.As(err, &status) || Status(status) != StatusSequence|DNR {
		t.Errorf("a Receive after the time was up: %v", err)
	}
	authMust(t, io.writeRead(1, 1))
	authMust(t, io.authenticate(rig.host(authHost1, key, nil), 0))
	authMust(t, io.writeRead(2, 2))
}

// The time that a host has: its keep-alive timeout or two minutes, from its last command that brought the exchange further.
func TestAuthenticatePatience(t *testing.T) {
	rig := newAuthRig(t)
	key := newKey(t)
	authMust(t, rig.target.AddHost(authSub, authHost1, HostKeys{Host: key}))
	var w *authWire
	due := func() (at, now reactor.Ticks) {
		rig.onQueues(func(q *queue) {
			if q.auth.timer.Set() {
				at, now = q.auth.timer.At(), q.r.Now()
			}
		})
		return at, now
	}
	w, _, _ = rig.connect(authHost1, 0, CNTLIDDynamic, 0)
	first, now := due()
	if first > now+authTimeout || first < now+authTimeout/2 {
		t.Errorf("%v are left, want two minutes", first-now)
	}
	authMust(t, w.authenticate(rig.host(authHost1, key, nil), AuthHostChallenge))
	second, _ := due()
	if second <= first {
		t.Error("a step of the exchange gives no more time")
	}
	a, _, err := w.command(authCommand(FabricsAuthReceive, 8), nil, 8)
	wantAnswer(t, "an Authentication Receive that is too short", a, err, StatusInvalidField|DNR)
	a, _, err = w.command(authRW(IORead, 1, 0), nil, 4096)
	wantAnswer(t, "another command", a, err, StatusAuthenticationNeeded)
	if third, _ := due(); third != second {
		t.Error("what is no step of the exchange gives more time")
	}
	w.close()
	until(t, "the controller is gone", func() bool {
		list, err := rig.target.Controllers(authSub)
		return err == nil && len(list) == 0
	})

	for id, k := QID(0), CNTLIDDynamic; id < 2; id++ {
		w, k, _ = rig.connect(authHost1, id, k, 30_000)
		if at, now := due(); at > now+30*reactor.Second || at < now+15*reactor.Second {
			t.Errorf("queue %d: %v are left, want the keep-alive timeout, 30 s", id, at-now)
		}
		authMust(t, w.authenticate(rig.host(authHost1, key, nil), 0))
		if at, _ := due(); at != 0 {
			t.Errorf("queue %d: the time runs on after the exchange", id)
		}
		if id == 0 {
			authMust(t, w.enable())
		}
	}
}

// A queue that closes drops its job, wherever that is.
func TestAuthenticateCloseWithJobOut(t *testing.T) {
	for _, c := range []struct{ job, end string }{
		{"waiting", "the host closes"}, {"waiting", "the target closes"}, {"waiting", "the target stops"},
		{"running", "the host closes"}, {"running", "the target closes"}, {"running", "the target stops"},
		{"on its way back", "the target closes"},
	} {
		t.Run(c.job+", "+c.end, func(t *testing.T) {
			rig := newAuthRig(t)
			key := newKey(t)
			authMust(t, rig.target.AddHost(authSub, authHost1, HostKeys{Host: key}))
			begun, gate := make(chan *DHJob, 2), make(chan struct{})
			release := sync.OnceFunc(func() { close(gate) })
			t.Cleanup(release)
			pool := &rig.target.authPool
			pool.stage(1, func(j *DHJob) { begun <- j; <-gate; j.Run() })

			if c.job == "waiting" { // behind another's
				w, _, _ := rig.connect(authHost1, 0, CNTLIDDynamic, 0)
				submitNegotiate(t, rig, w, key)
				awaited(t, "a job begins", begun)
			}
			w, _, _ := rig.connect(authHost1, 0, CNTLIDDynamic, 0)
			submitNegotiate(t, rig, w, key)
			q := rig.queueWithJob()
			var job *DHJob
			authMust(t, q.r.Call(func() { job = q.auth.work.job }))
			if c.job != "waiting" {
				awaited(t, "a job begins", begun)
			}
			closed := func() (yes bool) {
				_ = q.r.Call(func() { yes = q.state == queueClosed })
				return yes
			}
			switch {
			case c.job == "on its way back":
				// The reactor is kept from taking the result until the queue is closing.
				authMust(t, q.r.Call(func() {
					release()
					pool.awaitIdle()
					q.close()
				}))
				until(t, "the queue is closed", closed)
			case c.end == "the host closes":
				w.close()
				until(t, "the queue is closed", closed)
			case c.end == "the target closes":
				authMust(t, q.r.Call(q.close))
				until(t, "the queue is closed", closed)
			default:
				stopped := make(chan error)
				go func() { stopped <- rig.target.Stop(context.Background()) }()
				until(t, "the queue is closed", closed) // the queue does not wait for its job, but the target does
				for range 200 {
					authMust(t, q.r.Call(runtime.Gosched))
					select {
					case <-stopped:
						t.Fatal("the target has stopped, and still computes")
					default:
					}
				}
				release()
				authMust(t, awaited(t, "the target stops", stopped))
			}
			release()
			pool.awaitIdle()
			authMust(t, q.r.Call(func() {})) // what came back is taken
			authMust(t, q.r.Call(func() {
				if ran := c.job != "waiting"; job.done != ran {
					t.Errorf("the job has run: %v", job.done)
				}
				for _, b := range append(job.exponent, job.secret...) {
					if b != 0 {
						t.Error("the secrets of a dropped job are left")
						break
					}
				}
			}))
		})
	}
}

// What comes back to a queue that has closed is wiped.
func TestAuthenticateResultForNobody(t *testing.T) {
	x, err := DHFFDHE2048.newExponent(rand.Reader)
	authMust(t, err)
	job := newDHJob(DHFFDHE2048, x, []byte{3}, false)
	job.Run()
	if len(job.secret) == 0 {
		t.Fatal("no secret was computed")
	}
	(&queueAuth{}).computed(&authWork{job: job})
	for _, b := range job.secret {
		if b != 0 {
			t.Fatal("the secret is left")
		}
	}
}

// stage changes how the pool works, before it does.
func (p *authPool) stage(workers int, run func(*DHJob)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.workers, p.run = workers, run
}

// awaitIdle waits for the goroutines of the pool to end.
func (p *authPool) awaitIdle() { p.working.Wait() }

// submitNegotiate begins an exchange, and does not wait for the answer.
func submitNegotiate(t testing.TB, rig *authRig, w *authWire, key *AuthKey) {
	t.Helper()
	b := rig.host(authHost1, key, nil, DHFFDHE2048).Start(1).Data
	_, err := w.submit(authCommand(FabricsAuthSend, len(b)), b, 0)
	authMust(t, err)
}

// queueWithJob waits for a queue whose job is out, the last one to have one.
func (rig *authRig) queueWithJob() (found *queue) {
	rig.t.Helper()
	var last CNTLID
	until(rig.t, "a job is out", func() bool {
		n, out := 0, 0
		rig.onQueues(func(q *queue) {
			n++
			if q.auth != nil && q.auth.held != nil {
				out++
				if q.ctrl.id > last {
					last, found = q.ctrl.id, q
				}
			}
		})
		return n == out
	})
	return found
}

// However many authenticate, the work has its bounds, and another queue goes on.
func TestAuthenticateMany(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(5)) // as an engine with two reactors, and a processor for the hosts
	rig := newAuthRig(t)
	key := newKey(t)
	authMust(t, rig.target.AddHost(authSub, authHost1, HostKeys{Host: key, Ctrl: newKey(t)}))
	authMust(t, rig.target.AddHost(authSub, authHost2, HostKeys{}))
	pool := &rig.target.authPool
	var at, most, jobs atomic.Int64
	pool.stage(2, func(j *DHJob) {
		if n := at.Add(1); n > most.Load() {
			most.Store(n) // a maximum that is missed by two at once is found by the next
		}
		j.Run()
		jobs.Add(1)
		at.Add(-1)
	})
	_, k := rig.ready(authHost2, nil)
	other, _, _ := rig.connect(authHost2, 1, k, 0)

	const queues = 64
	done, finish := make(chan error, queues), make(chan struct{})
	hosts, turns := make([]*authWire, queues), &sync.Mutex{}
	for i := range hosts {
		hosts[i], _, _ = rig.connect(authHost1, 0, CNTLIDDynamic, 0)
		hosts[i].turns = turns
	}
	for _, w := range hosts {
		h := rig.host(authHost1, key, nil, DHFFDHE2048)
		go func() { done <- w.authenticate(h, 0) }()
	}
	go func() {
		defer close(finish)
		for range queues {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}()
	for n := 0; ; n++ {
		authMust(t, other.writeRead(uint64(n%256), byte(n)))
		select {
		case <-finish:
		default:
			continue
		}
		t.Logf("%d writes and reads meanwhile", n)
		break
	}
	if most.Load() > 2 || jobs.Load() != 2*queues {
		t.Errorf("%d jobs ran, up to %d at once; want %d, 2 at most", jobs.Load(), most.Load(), 2*queues)
	}
}

// A message waits for memory like any data.
func TestAuthenticateWithoutMemory(t *testing.T) {
	rig := newAuthRig(t)
	key := newKey(t)
	authMust(t, rig.target.AddHost(authSub, authHost1, HostKeys{Host: key}))
	w, _, _ := rig.connect(authHost1, 0, CNTLIDDynamic, 0)
	h := rig.host(authHost1, key, nil)
	authMust(t, w.authenticate(h, AuthHostChallenge))
	var r *reactor.Reactor
	rig.onQueues(func(q *queue) { r = q.r })
	var taken [][]byte
	authMust(t, r.Call(func() {
		for b := r.Memory().Get(4096); b != nil; b = r.Memory().Get(4096) {
			taken = append(taken, b)
		}
	}))
	ended := make(chan error, 1)
	go func() { ended <- w.goOn(h, AuthHostStep{Do: AuthHostReceive}, 0) }()
	until(t, "the message waits for memory", func() (waits bool) {
		rig.onQueues(func(q *queue) {
			waits = waits || q.auth != nil && q.open == 1 && q.auth.machine.State() == AuthChallenging
		})
		return waits
	})
	authMust(t, r.Call(func() {
		for _, b := range taken {
			for i := range b {
				b[i] = 0xEE // nothing of which may reach the host
			}
			r.Memory().Put(b)
		}
	}))
	authMust(t, awaited(t, "the authentication ends", ended))

	// A queue that closes while it waits.
	authMust(t, w.authenticate(h, AuthHostChallenge))
	authMust(t, r.Call(func() {
		taken = taken[:0]
		for b := r.Memory().Get(4096); b != nil; b = r.Memory().Get(4096) {
			taken = append(taken, b)
		}
	}))
	_, err := w.submit(authCommand(FabricsAuthReceive, 4096), nil, 4096)
	authMust(t, err)
	w.close()
	until(t, "the queue is gone", func() bool {
		n := 0
		rig.onQueues(func(*queue) { n++ })
		return n == 0
	})
	authMust(t, r.Call(func() {
		for _, b := range taken {
			r.Memory().Put(b)
		}
	}))
}

// The discovery service asks for authentication of hosts that have keys there, and of no other.
func TestAuthenticateAtDiscovery(t *testing.T) {
	rig := newAuthRig(t)
	key := newKey(t)
	authMust(t, rig.target.AddHost(DiscoveryNQN, authHost1, HostKeys{Host: key}))
	for _, c := range []struct {
		host     string
		required bool
	}{{authHost1, true}, {authHost2, false}} {
		w := rig.dial()
		a, err := w.connectTo(DiscoveryNQN, c.host, 0, CNTLIDDynamic, 0)
		wantAnswer(t, "Connect", a, err, StatusSuccess)
		if have := a.DW0&ConnectATR != 0; have != c.required {
			t.Errorf("%s: authentication is required: %v", c.host, have)
		}
		if c.required {
			h, err := NewAuthHost(AuthConfig{SubNQN: DiscoveryNQN, HostNQN: c.host, HostKey: key, Groups: []DHGroup{DHNull}})
			authMust(t, err)
			authMust(t, w.authenticate(h, 0))
		}
		authMust(t, w.enable())
	}
}

func TestAuthWorkers(t *testing.T) {
	for _, c := range []struct{ processors, reactors, want int }{{3, 1, 1}, {4, 2, 1}, {2, 2, 1}, {1, 1, 1}, {16, 4, 11}} {
		if have := authWorkers(c.processors, c.reactors); have != c.want {
			t.Errorf("%d processors, %d reactors: %d, want %d", c.processors, c.reactors, have, c.want)
		}
	}
}

// A host whose connection goes is not a failure of its.
func TestAuthenticateHostLeaves(t *testing.T) {
	rig := newAuthRig(t)
	authMust(t, rig.target.AddHost(authSub, authHost1, HostKeys{Host: newKey(t)}))
	w, _, _ := rig.connect(authHost1, 0, CNTLIDDynamic, 0)
	var left *queue
	rig.onQueues(func(q *queue) { left = q })
	w.close()
	until(t, "the controller is gone", func() bool {
		list, err := rig.target.Controllers(authSub)
		return err == nil && len(list) == 0
	})
	if n := rig.failures(authHost1); n != 0 {
		t.Errorf("%d failures were counted", n)
	}
	authMust(t, left.r.Call(func() {
		if left.auth.timer.Set() {
			t.Error("a queue that is gone still waits for its host")
		}
	}))
	authMust(t, rig.target.RemoveHost(t.Context(), authSub, authHost1))
	w = rig.dial()
	a, err := w.connect(authHost1, 0, CNTLIDDynamic, 0)
	wantAnswer(t, "the Connect of a host that was removed", a, err, StatusConnectHost|DNR)
}
