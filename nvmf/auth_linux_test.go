package nvmf

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// authRecorded is an exchange with another implementation, from testdata.
type authRecorded struct {
	name     string
	config   AuthConfig
	messages [][]byte // the host's first, then in turn
}

// authReadRecorded reads the file that was recorded with the given peer of Linux.
//
// Which bytes are drawn at random, and in which order, is part of what is compared: a change to that needs new records.
func authReadRecorded(t *testing.T, peer string) []authRecorded {
	t.Helper()
	text, err := os.ReadFile("testdata/auth-linux-" + peer + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	var list []authRecorded
	for _, line := range strings.Split(string(text), "\n") {
		word, value, _ := strings.Cut(line, " ")
		if word == "exchange" {
			seed := sha256.Sum256([]byte("linux " + peer + " " + value))
			list = append(list, authRecorded{name: value, config: AuthConfig{SubNQN: twinSub, HostNQN: twinHost, Rand: rand.NewChaCha8(seed)}})
			r := &list[len(list)-1]
			part := strings.Split(value, "-")
			h, err := ParseAuthHash(part[0])
			if err != nil {
				t.Fatal(err)
			}
			g, err := ParseDHGroup(part[1])
			if err != nil {
				t.Fatal(err)
			}
			r.config.Hashes, r.config.Groups = []AuthHash{h}, []DHGroup{g}
			if peer == "target" && g == DHNull {
				r.config.Groups = nil // the Linux target takes null from a list, but not from a list of its own
			}
			continue
		}
		if word == "" || word == "#" {
			continue
		}
		r := &list[len(list)-1]
		switch word {
		case "hostkey":
			r.config.HostKey = authTestKey(t, value)
		case "ctrlkey":
			if strings.HasSuffix(r.name, "-both") {
				r.config.CtrlKey = authTestKey(t, value)
			}
		case "host", "ctrl":
			m, err := hex.DecodeString(value)
			if err != nil {
				t.Fatal(err)
			}
			if fromHost := len(r.messages)%2 == 0; fromHost != (word == "host") {
				t.Fatalf("%s: message %d is of the wrong end", r.name, len(r.messages))
			}
			r.messages = append(r.messages, m)
		default:
			t.Fatalf("%s: the line %q is not understood", r.name, line)
		}
	}
	if len(list) != 12 {
		t.Fatalf("%d exchanges", len(list))
	}
	return list
}

func TestAuthHostAgainstLinuxTarget(t *testing.T) {
	for _, r := range authReadRecorded(t, "target") {
		t.Run(r.name, func(t *testing.T) {
			host, err := NewAuthHost(r.config)
			if err != nil {
				t.Fatal(err)
			}
			_, tid, fault := decodeAuthHeader(r.messages[0])
			if fault != nil {
				t.Fatal(fault.what)
			}
			s := host.Start(tid)
			for i, m := range r.messages {
				if i%2 == 0 {
					if s = authHostWant(t, s, AuthHostSend); !bytes.Equal(s.Data, m) {
						t.Fatalf("message %d is\n%x, and was\n%x", i, s.Data, m)
					}
					s = host.Sent()
					continue
				}
				authHostWant(t, s, AuthHostReceive)
				s = host.Received(append(m, make([]byte, AuthReceiveBytes-len(m))...))
				if s.Do == AuthHostCompute {
					s = authHostRun(t, host, s)
				}
			}
			authHostWant(t, s, AuthHostSucceed)
		})
	}
}

func TestAuthTargetAgainstLinuxHost(t *testing.T) {
	for _, r := range authReadRecorded(t, "host") {
		t.Run(r.name, func(t *testing.T) {
			target, err := NewAuthTarget(r.config)
			if err != nil {
				t.Fatal(err)
			}
			for i, m := range r.messages {
				if target.Authenticated() {
					t.Fatalf("authenticated before message %d", i)
				}
				if i%2 == 0 {
					if s := authWant(t, authSend(target, m), AuthComplete); s.Err != nil {
						t.Fatal(s.Err)
					}
				} else if s := authWant(t, target.Receive(AuthReceiveBytes), AuthComplete); !bytes.Equal(s.Data, m) {
					t.Fatalf("message %d is\n%x, and was\n%x", i, s.Data, m)
				}
			}
			if !target.Authenticated() {
				t.Fatalf("not authenticated: %v", target)
			}
		})
	}
}
