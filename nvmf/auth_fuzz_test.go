package nvmf

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// FuzzAuthTarget lets the input play a host that does not know the key: a script of sends, fetches, expiries and jobs, in
// which a message may also be taken from an honest exchange and altered. Whatever it does, it is not authenticated.
//
// The script, a byte each with its operands: 0 n bytes: Send them; 1 n16: Receive n; 2: Expire; 3: run the job and hand it
// back; 4 at value: Send the message that the guessing host has, with one byte changed; 5: Send it as it is; 6: fetch for
// the guessing host; 7: begin an exchange of the guessing host.
func FuzzAuthTarget(f *testing.F) {
	f.Add([]byte{7, 5, 3, 6, 5, 3, 6}, false)
	f.Add([]byte{7, 5, 6, 5, 6}, true)
	f.Add([]byte{7, 5, 6, 4, 8, 0, 6}, true)
	f.Add([]byte{7, 5, 3, 6, 2, 7, 5, 3}, false)
	f.Add([]byte{7, 4, 6, 1, 1, 8, 0}, true)
	f.Add([]byte{7, 5, 6, 7, 5, 6, 5}, true)
	f.Add([]byte{1, 255, 255}, true)
	f.Add(append([]byte{0, 16}, appendAuthSuccess2(nil, 0)...), true)
	f.Add(append([]byte{7, 5, 6, 0, 8}, appendAuthFailure(nil, authKindFailure2, authTestTID, AuthFailed)...), true)
	whole := (&authNegotiate{tid: 1, hashes: []byte{1, 2, 3}, groups: []byte{0, 1}}).appendTo(nil)
	f.Add(append(append([]byte{0, byte(len(whole))}, whole...), 3, 1, 0, 16, 0, 5, 1, 2, 3, 4, 5), false)
	f.Fuzz(func(t *testing.T, script []byte, null bool) {
		group := DHFFDHE2048
		if null {
			group = DHNull
		}
		config := authConfig(t, group)
		config.Rand = authTestRand("controller")
		target, err := NewAuthTarget(config)
		if err != nil {
			t.Fatal(err)
		}
		config.Rand = authTestRand("host")
		if config.HostKey, err = NewAuthKey(AuthSHA256, bytes.Repeat([]byte{7}, 32)); err != nil {
			t.Fatal(err)
		}
		host, err := NewAuthHost(config)
		if err != nil {
			t.Fatal(err)
		}
		var message []byte // of the guessing host
		var job *DHJob
		take := func(n int) []byte {
			n = min(n, len(script))
			b := script[:n]
			script = script[n:]
			return b
		}
		jobs := 0
		check := func(s AuthStep, room int) []byte {
			if target.Authenticated() {
				t.Fatal("authenticated without the key")
			}
			if s.Do >= authDoEnd || target.State() >= authStateEnd {
				t.Fatalf("%d in state %d", s.Do, target.State())
			}
			if len(s.Data) > room {
				t.Fatalf("%d bytes for %d", len(s.Data), room)
			}
			if hold := s.Do == AuthHold; hold != (s.Job != nil) || hold && job != nil {
				t.Fatalf("%s with job %v while %v is out", s.Do, s.Job, job)
			}
			if s.Job != nil {
				job = s.Job
			}
			if s.Err != nil && target.State() != AuthRefusing && target.State() != AuthClosed {
				t.Fatalf("%v in %v", s.Err, target)
			}
			return s.Data
		}
		feed := func(data []byte) {
			if host.State() != AuthHostChallenge && host.State() != AuthHostSuccess {
				return
			}
			s := host.Received(data)
			if s.Do == AuthHostCompute {
				s.Job.Run()
				s = host.Computed(s.Job)
			}
			message = bytes.Clone(s.Data)
		}
		sent := func() {
			switch host.State() {
			case AuthHostNegotiating, AuthHostReplying, AuthHostConfirming, AuthHostFailing:
				host.Sent()
			}
		}
		for len(script) > 0 {
			switch take(1)[0] {
			case 0:
				n := take(1)
				if len(n) == 1 {
					check(target.Send(take(int(n[0]))), 0)
				}
			case 1:
				var n [2]byte
				copy(n[:], take(2))
				length := int(binary.LittleEndian.Uint16(n[:]))
				check(target.Receive(length), length)
			case 2:
				check(target.Expire(), 0)
			case 3:
				if job == nil || jobs >= 4 {
					continue
				}
				jobs++
				j := job
				job = nil
				j.Run()
				check(target.Computed(j), 0)
			case 4:
				at := take(2)
				if len(at) < 2 || len(message) == 0 {
					continue
				}
				message[int(at[0])%len(message)] = at[1]
				check(target.Send(message), 0)
				sent()
			case 5:
				check(target.Send(message), 0)
				sent()
			case 6:
				feed(check(target.Receive(AuthReceiveBytes), AuthReceiveBytes))
			case 7:
				if s := host.State(); s == AuthHostIdle || s == AuthHostDone {
					message = bytes.Clone(host.Start(authTestTID).Data)
				}
			}
		}
	})
}

// FuzzAuthHost lets the input play a controller that knows no key: it gives the two messages that a host fetches, on their
// own or as changes to those of a controller that guesses. The host must not believe it.
func FuzzAuthHost(f *testing.F) {
	for _, g := range []DHGroup{DHNull, DHFFDHE2048} {
		challenge := authChallenge{tid: authTestTID, hash: AuthSHA256, group: g, sequence: 1, challenge: make([]byte, 32)}
		if g != DHNull {
			challenge.public = append(make([]byte, 255), 2)
		}
		verdict := authSuccess1{tid: authTestTID, hash: AuthSHA256, response: make([]byte, 32), responseValid: true}
		f.Add(challenge.appendTo(nil), verdict.appendTo(nil))
		verdict.responseValid = false
		f.Add(challenge.appendTo(nil), verdict.appendTo(nil))
		f.Add(challenge.appendTo(nil), verdict.appendTo(nil)[:16])
		f.Add(challenge.appendTo(nil), appendAuthFailure(nil, authKindFailure1, authTestTID, AuthFailed))
	}
	f.Add(appendAuthFailure(nil, authKindFailure1, authTestTID, AuthHashUnusable), []byte{})
	f.Add([]byte{}, []byte{})
	f.Add(appendAuthSuccess2(nil, authTestTID), []byte{1})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		config := authConfig(t, DHNull, DHFFDHE2048)
		config.Rand = authTestRand("host")
		host, err := NewAuthHost(config)
		if err != nil {
			t.Fatal(err)
		}
		check := func(s AuthHostStep) AuthHostStep {
			if host.Authenticated() || s.Do == AuthHostSucceed {
				t.Fatal("a controller without the key is believed")
			}
			if s.Do == AuthHostSend && host.State() == AuthHostConfirming {
				t.Fatal("the proof of a controller without the key is confirmed")
			}
			if s.Do >= authHostDoEnd || host.State() >= authHostStateEnd || len(s.Data) > AuthReceiveBytes+authReplyBytes {
				t.Fatalf("%d with %d bytes in state %d", s.Do, len(s.Data), host.State())
			}
			return s
		}
		check(host.Start(authTestTID))
		check(host.Sent())
		s := check(host.Received(first))
		if s.Do == AuthHostCompute {
			s.Job.Run()
			s = check(host.Computed(s.Job))
		}
		if s.Do == AuthHostSend {
			s = check(host.Sent())
		}
		if s.Do == AuthHostReceive {
			if s = check(host.Received(second)); s.Do == AuthHostSend {
				s = check(host.Sent())
			}
		}
		if s.Do != AuthHostClose || host.State() != AuthHostFailed {
			t.Fatalf("it ends with %s in %v", s.Do, host)
		}
	})
}

// FuzzParseAuthKey: what is taken comes back the same.
func FuzzParseAuthKey(f *testing.F) {
	f.Add("DHHC-1:01:ia6zGodOr4SEG0Zzaw398rpY0wqipUWj4jWjUh4HWUz6aQ2n:")
	f.Add("DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vcSEgBQ==:\n")
	f.Add("DHHC-1:00::")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseAuthKey(s)
		if err != nil {
			return
		}
		if back := k.Reveal(); back != string(bytes.TrimSpace([]byte(s))) {
			t.Fatalf("%q comes back as %q", s, back)
		}
	})
}
