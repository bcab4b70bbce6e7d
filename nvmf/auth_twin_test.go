package nvmf

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"hash"
	"math/big"
	"sync"
	"testing"
)

// This file is a second DH-HMAC-CHAP, slow and obvious: byte offsets written out from the figures of NVMe Base
// Specification 2.1 section 8.3.4, arithmetic of math/big, moduli from the formula of RFC 7919. It shares no code with the
// machines, and takes both their parts against them.

const (
	twinHost = "nqn.2014-08.org.nvmexpress:uuid:5f2b7c1e-3d44-4b0a-9d55-1c1f6a0e9b01"
	twinSub  = "nqn.2026-01.io.example:volume-7"
)

// twinPrimes are the moduli by group identifier, computed once.
var twinPrimes = sync.OnceValue(func() []*big.Int {
	primes := []*big.Int{nil}
	for _, c := range []struct {
		bits uint
		x    int64
	}{{2048, 560316}, {3072, 2625351}, {4096, 5736041}, {6144, 15705020}, {8192, 10965728}} {
		one := big.NewInt(1)
		p := new(big.Int).Lsh(one, c.bits)
		p.Sub(p, new(big.Int).Lsh(one, c.bits-64))
		e := dhTestE(c.bits - 130)
		p.Add(p, e.Add(e, big.NewInt(c.x)).Lsh(e, 64))
		primes = append(primes, p.Sub(p, one))
	}
	return primes
})

func twinHash(id byte) func() hash.Hash {
	return []func() hash.Hash{nil, sha256.New, sha512.New384, sha512.New}[id]
}

func twinHMAC(id byte, key []byte, parts ...[]byte) []byte {
	m := hmac.New(twinHash(id), key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

// twinKey is what a secret and the hash of its representation make for an NQN.
func twinKey(keyHash byte, secret []byte, nqn string) []byte {
	if keyHash == 0 {
		return secret
	}
	return twinHMAC(keyHash, secret, []byte(nqn+"NVMe-over-Fabrics"))
}

// twinResponse is R1 or R2.
func twinResponse(id byte, key, c []byte, s uint32, tid uint16, role, prover, other string, shared []byte) []byte {
	if shared != nil {
		h := twinHash(id)()
		h.Write(shared)
		c = twinHMAC(id, h.Sum(nil), c)
	}
	text := bytes.Clone(c)
	text = append(text, byte(s), byte(s>>8), byte(s>>16), byte(s>>24))
	text = append(text, byte(tid), byte(tid>>8))
	text = append(text, 0) // SC_C
	text = append(text, role...)
	text = append(text, prover...)
	text = append(text, 0)
	text = append(text, other...)
	return twinHMAC(id, key, text)
}

// twinCase is one combination.
type twinCase struct {
	hash, group        byte
	hostHash, ctrlHash byte // of the keys; ctrlHash is used with both
	secretBytes        int
	both               bool // the controller proves itself too
}

func (c twinCase) String() string {
	direction := "one"
	if c.both {
		direction = "both"
	}
	return fmt.Sprintf("%s-%s-%s-key%d%d-%d", AuthHash(c.hash), DHGroup(c.group), direction, c.hostHash, c.ctrlHash, c.secretBytes)
}

// twinCases are all hash functions with all groups in one and both directions, and all kinds of keys over them in turn.
func twinCases() []twinCase {
	var cases []twinCase
	for h := byte(1); h <= 3; h++ {
		for g := byte(0); g <= 5; g++ {
			for _, both := range []bool{false, true} {
				n := byte(len(cases))
				cases = append(cases, twinCase{h, g, n % 4, n / 4 % 4, []int{32, 48, 64}[n%3], both})
			}
		}
	}
	return cases
}

func (c twinCase) secrets() (host, ctrl []byte) {
	host, ctrl = authCount(c.secretBytes), authCount(c.secretBytes)
	ctrl[0] = 0xcc
	return host, ctrl
}

// config is the same for the machine under test.
func (c twinCase) config(t testing.TB) AuthConfig {
	host, ctrl := c.secrets()
	config := AuthConfig{SubNQN: twinSub, HostNQN: twinHost, Rand: authTestRand(c.String())}
	var err error
	if config.HostKey, err = NewAuthKey(AuthHash(c.hostHash), host); err != nil {
		t.Fatal(err)
	}
	if c.both {
		if config.CtrlKey, err = NewAuthKey(AuthHash(c.ctrlHash), ctrl); err != nil {
			t.Fatal(err)
		}
	}
	return config
}

// twinPower is base^x mod p, as long as p.
func twinPower(group byte, base, x *big.Int) []byte {
	p := twinPrimes()[group]
	return new(big.Int).Exp(base, x, p).FillBytes(make([]byte, (p.BitLen()+7)/8))
}

// The twin is the host, the machine the controller.
func TestAuthTargetAgainstTwin(t *testing.T) {
	for _, c := range twinCases() {
		t.Run(c.String(), func(t *testing.T) {
			target, err := NewAuthTarget(c.config(t))
			if err != nil {
				t.Fatal(err)
			}
			const tid = 0xbeef
			hostSecret, ctrlSecret := c.secrets()

			negotiate := make([]byte, 8+64)
			binary.LittleEndian.PutUint16(negotiate[4:], tid)
			negotiate[7] = 1                    // NAPD
			negotiate[8] = 1                    // AuthID
			negotiate[10], negotiate[11] = 1, 1 // HALEN, DHLEN
			negotiate[12], negotiate[42] = c.hash, c.group
			authWant(t, authSend(target, negotiate), AuthComplete)

			challenge := bytes.Clone(authWant(t, target.Receive(4096), AuthComplete).Data)
			hl := []int{0, 32, 48, 64}[c.hash]
			dhvlen := []int{0, 256, 384, 512, 768, 1024}[c.group]
			front := []byte{1, 1, 0, 0, 0xef, 0xbe, byte(hl), 0, c.hash, c.group, byte(dhvlen), byte(dhvlen >> 8)}
			if !bytes.Equal(challenge[:12], front) || len(challenge) != 16+hl+dhvlen {
				t.Fatalf("the challenge is %x", challenge)
			}
			s1 := binary.LittleEndian.Uint32(challenge[12:])
			if s1 == 0 {
				t.Fatal("S1 is 0")
			}

			var shared, public []byte
			if c.group != 0 {
				y := new(big.Int).SetBytes(bytes.Repeat([]byte{0xa5, c.hash, c.group, 0x11}, 9))
				public = twinPower(c.group, big.NewInt(2), y)
				shared = twinPower(c.group, new(big.Int).SetBytes(challenge[16+hl:]), y)
			}
			reply := make([]byte, 16+2*hl+dhvlen)
			copy(reply, []byte{1, 2, 0, 0, 0xef, 0xbe, byte(hl), 0, 0, 0, byte(dhvlen), byte(dhvlen >> 8)})
			copy(reply[16:], twinResponse(c.hash, twinKey(c.hostHash, hostSecret, twinHost), challenge[16:16+hl], s1, tid, "HostHost", twinHost, twinSub, shared))
			c2 := bytes.Repeat([]byte{0xc2}, hl)
			if c.both {
				reply[8] = 1
				binary.LittleEndian.PutUint32(reply[12:], 0xfffffffe)
				copy(reply[16+hl:], c2)
			}
			copy(reply[16+2*hl:], public)
			authWant(t, authSend(target, reply), AuthComplete)

			want := make([]byte, 16+hl)
			copy(want, []byte{1, 3, 0, 0, 0xef, 0xbe, byte(hl)})
			if c.both {
				want[8] = 1
				copy(want[16:], twinResponse(c.hash, twinKey(c.ctrlHash, ctrlSecret, twinSub), c2, 0xfffffffe, tid, "Controller", twinSub, twinHost, shared))
				if target.Authenticated() {
					t.Fatal("authenticated before the last message")
				}
			}
			if have := authWant(t, target.Receive(4096), AuthComplete).Data; !bytes.Equal(have, want) {
				t.Fatalf("the verdict is\n%x, want\n%x", have, want)
			}
			if c.both {
				if target.Authenticated() {
					t.Fatal("authenticated before the last message")
				}
				authWant(t, target.Send([]byte{1, 4, 0, 0, 0xef, 0xbe, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}), AuthComplete)
			}
			if !target.Authenticated() || target.State() != AuthIdle || target.Hash() != AuthHash(c.hash) || target.Group() != DHGroup(c.group) {
				t.Fatalf("%v, authenticated %v, with %s and %s", target, target.Authenticated(), target.Hash(), target.Group())
			}
		})
	}
}

// The twin is the controller, the machine the host.
func TestAuthHostAgainstTwin(t *testing.T) {
	for _, c := range twinCases() {
		t.Run(c.String(), func(t *testing.T) {
			host, err := NewAuthHost(c.config(t))
			if err != nil {
				t.Fatal(err)
			}
			const tid = 0x0102
			hostSecret, ctrlSecret := c.secrets()

			want := make([]byte, 8+64)
			copy(want, []byte{0, 0, 0, 0, 2, 1, 0, 1, 1, 0, 3, 6, 1, 2, 3})
			copy(want[42:], []byte{0, 1, 2, 3, 4, 5})
			if have := authHostWant(t, host.Start(tid), AuthHostSend).Data; !bytes.Equal(have, want) {
				t.Fatalf("the first message is\n%x, want\n%x", have, want)
			}
			authHostWant(t, host.Sent(), AuthHostReceive)

			hl := []int{0, 32, 48, 64}[c.hash]
			dhvlen := []int{0, 256, 384, 512, 768, 1024}[c.group]
			challenge := make([]byte, 16+hl+dhvlen)
			copy(challenge, []byte{1, 1, 0, 0, 2, 1, byte(hl), 0, c.hash, c.group, byte(dhvlen), byte(dhvlen >> 8), 0x78, 0x56, 0x34, 0x12})
			c1 := bytes.Repeat([]byte{0xc1}, hl)
			copy(challenge[16:], c1)
			x := new(big.Int).SetBytes(bytes.Repeat([]byte{0x5a, c.hash, c.group, 0x22}, 9))
			if c.group != 0 {
				copy(challenge[16+hl:], twinPower(c.group, big.NewInt(2), x))
			}
			step := host.Received(challenge)
			if c.group != 0 {
				step = authHostRun(t, host, authHostWant(t, step, AuthHostCompute))
			}
			reply := bytes.Clone(authHostWant(t, step, AuthHostSend).Data)
			cvalid := byte(0)
			if c.both {
				cvalid = 1
			}
			front := []byte{1, 2, 0, 0, 2, 1, byte(hl), 0, cvalid, 0, byte(dhvlen), byte(dhvlen >> 8)}
			if !bytes.Equal(reply[:12], front) || len(reply) != 16+2*hl+dhvlen {
				t.Fatalf("the reply is %x", reply)
			}
			var shared []byte
			if c.group != 0 {
				shared = twinPower(c.group, new(big.Int).SetBytes(reply[16+2*hl:]), x)
			}
			r1 := twinResponse(c.hash, twinKey(c.hostHash, hostSecret, twinHost), c1, 0x12345678, tid, "HostHost", twinHost, twinSub, shared)
			if !bytes.Equal(reply[16:16+hl], r1) {
				t.Fatalf("R1 is %x, want %x", reply[16:16+hl], r1)
			}
			s2, c2 := binary.LittleEndian.Uint32(reply[12:]), reply[16+hl:16+2*hl]
			if zero := bytes.Equal(c2, make([]byte, hl)); zero == c.both || (s2 == 0) == c.both {
				t.Fatalf("S2 is %x, C2 is %x", s2, c2)
			}
			authHostWant(t, host.Sent(), AuthHostReceive)

			success := make([]byte, 16+hl)
			copy(success, []byte{1, 3, 0, 0, 2, 1, byte(hl), 0, cvalid})
			if c.both {
				copy(success[16:], twinResponse(c.hash, twinKey(c.ctrlHash, ctrlSecret, twinSub), c2, s2, tid, "Controller", twinSub, twinHost, shared))
			}
			step = host.Received(success)
			if c.both {
				if host.Authenticated() {
					t.Fatal("authenticated before the last message")
				}
				want := []byte{1, 4, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
				if have := authHostWant(t, step, AuthHostSend).Data; !bytes.Equal(have, want) {
					t.Fatalf("the last message is %x, want %x", have, want)
				}
				step = host.Sent()
			}
			authHostWant(t, step, AuthHostSucceed)
			if !host.Authenticated() || host.State() != AuthHostDone || host.Hash() != AuthHash(c.hash) || host.Group() != DHGroup(c.group) {
				t.Fatalf("%v, authenticated %v, with %s and %s", host, host.Authenticated(), host.Hash(), host.Group())
			}
		})
	}
}
