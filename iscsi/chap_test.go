package iscsi

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// testRandom is a source that repeats itself: 00, 01, 02 …
type testRandom struct{ next byte }

func (r *testRandom) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = r.next
		r.next++
	}
	return len(b), nil
}

type noRandom struct{}

func (noRandom) Read([]byte) (int, error) { return 0, errors.New("empty") }

var testSecret = Secret{User: "alice", Secret: "correct-horse-battery", MutualUser: "target1", MutualSecret: "other-horse-battery-9"}

func newTestChap(mutual bool) *chap {
	return &chap{secrets: []Secret{{User: "bob", Secret: "bobs-secret-1234"}, testSecret}, mutual: mutual, random: &testRandom{}}
}

func keysOf(kv ...string) chapKeys {
	var k chapKeys
	for _, p := range kv {
		key, value, _ := strings.Cut(p, "=")
		if !k.put(key, value) {
			panic("no key of CHAP: " + p)
		}
	}
	return k
}

// valueOf finds a key in an answer.
func valueOf(answer []pair, key string) string {
	for _, p := range answer {
		if p.key == key {
			return p.value
		}
	}
	return ""
}

// proofOf is what an initiator with the secret answers to a challenge, computed beside the code under test.
func proofOf(algorithm, identifier, secret, challenge string) []byte {
	var id int
	fmt.Sscan(identifier, &id)
	c, err := hex.DecodeString(strings.TrimPrefix(challenge, "0x"))
	if err != nil {
		panic(err)
	}
	b := append([]byte{byte(id)}, secret...)
	b = append(b, c...)
	if algorithm == "5" {
		s := md5.Sum(b)
		return s[:]
	}
	s := sha256.Sum256(b)
	return s[:]
}

func TestChap(t *testing.T) {
	for _, a := range []struct {
		algorithm string
		bytes     int
	}{{"5", 16}, {"7", 32}} {
		for _, form := range []string{"0x", "0X", "0b", "0B"} {
			for _, mutual := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/mutual %v", a.algorithm, form, mutual), func(t *testing.T) {
					c := newTestChap(mutual)
					answer, why := c.step(keysOf("CHAP_A=" + a.algorithm))
					if why != "" || valueOf(answer, "CHAP_A") != a.algorithm || len(valueOf(answer, "CHAP_C")) != 2+2*a.bytes {
						t.Fatalf("%v, %q", answer, why)
					}
					proof := proofOf(a.algorithm, valueOf(answer, "CHAP_I"), testSecret.Secret, valueOf(answer, "CHAP_C"))
					in := keysOf("CHAP_N=alice", "CHAP_R="+form+hex.EncodeToString(proof))
					if strings.EqualFold(form, "0b") {
						in = keysOf("CHAP_N=alice", "CHAP_R="+form+base64.StdEncoding.EncodeToString(proof))
					}
					challenge := "0x" + strings.Repeat("a5", 24)
					if mutual {
						in.put("CHAP_I", "255")
						in.put("CHAP_C", challenge)
					}
					answer, why = c.step(in)
					if why != "" || c.state != chapProved || c.user != "alice" {
						t.Fatalf("%v, %q, user %q", c.state, why, c.user)
					}
					if !mutual {
						if len(answer) != 0 {
							t.Errorf("an answer to no challenge: %v", answer)
						}
						return
					}
					want := "0x" + hex.EncodeToString(proofOf(a.algorithm, "255", testSecret.MutualSecret, challenge))
					if valueOf(answer, "CHAP_N") != "target1" || valueOf(answer, "CHAP_R") != want {
						t.Errorf("%v, want CHAP_R %s", answer, want)
					}
				})
			}
		}
	}
}

// TestChapChoosesTheInitiatorsFirst: the public suite offers 5,6,7,8 and then computes MD5, whatever the answer is.
func TestChapChoosesTheInitiatorsFirst(t *testing.T) {
	for in, want := range map[string]string{
		"5": "5", "7": "7", "5,6,7,8": "5", "7,5": "7", "8,6,7,5": "7", "6,8": "", "": "", "56": "", "5 ": "", "-5": "", "0x5": "5", "0x07": "7", ",5": "5",
		"4294967301": "", "18446744073709551621": "", "MD5": "",
	} {
		c := newTestChap(false)
		answer, why := c.step(keysOf("CHAP_A=" + in))
		if (why == "") != (want != "") || valueOf(answer, "CHAP_A") != want {
			t.Errorf("CHAP_A=%s: %v, %q, want %q", in, answer, why, want)
		}
	}
}

func TestChapRefuses(t *testing.T) {
	begin := keysOf("CHAP_A=5")
	type try struct {
		name   string
		mutual bool
		keys   func(i, c, r string) chapKeys // of our challenge, and the response that is right
	}
	for _, c := range []try{
		{"a wrong response", false, func(_, _, r string) chapKeys {
			flip := map[byte]string{'0': "1"}[r[len(r)-1]]
			if flip == "" {
				flip = "0"
			}
			return keysOf("CHAP_N=alice", "CHAP_R="+r[:len(r)-1]+flip)
		}},
		{"a response of zeros", false, func(_, _, _ string) chapKeys { return keysOf("CHAP_N=alice", "CHAP_R=0x"+strings.Repeat("00", 16)) }},
		{"an unknown user", false, func(_, _, r string) chapKeys { return keysOf("CHAP_N=eve", "CHAP_R="+r) }},
		{"another user", false, func(_, _, r string) chapKeys { return keysOf("CHAP_N=bob", "CHAP_R="+r) }},
		{"a user in other case", false, func(_, _, r string) chapKeys { return keysOf("CHAP_N=Alice", "CHAP_R="+r) }},
		{"no user", false, func(_, _, r string) chapKeys { return keysOf("CHAP_N=", "CHAP_R="+r) }},
		{"an unknown user that knows the empty secret", false, func(i, ch, _ string) chapKeys {
			return keysOf("CHAP_N=eve", "CHAP_R=0x"+hex.EncodeToString(proofOf("5", i, "", ch)))
		}},
		{"no user that knows the empty secret", false, func(i, ch, _ string) chapKeys {
			return keysOf("CHAP_N=", "CHAP_R=0x"+hex.EncodeToString(proofOf("5", i, "", ch)))
		}},
		{"another identifier", false, func(_, ch, _ string) chapKeys {
			return keysOf("CHAP_N=alice", "CHAP_R=0x"+hex.EncodeToString(proofOf("5", "77", testSecret.Secret, ch)))
		}},
		{"the target's secret", false, func(i, ch, _ string) chapKeys {
			return keysOf("CHAP_N=alice", "CHAP_R=0x"+hex.EncodeToString(proofOf("5", i, testSecret.MutualSecret, ch)))
		}},
		{"a response that is too short", false, func(_, _, r string) chapKeys { return keysOf("CHAP_N=alice", "CHAP_R="+r[:len(r)-2]) }},
		{"a response that is too long", false, func(_, _, r string) chapKeys { return keysOf("CHAP_N=alice", "CHAP_R="+r+"00") }},
		{"an odd number of digits", false, func(_, _, r string) chapKeys { return keysOf("CHAP_N=alice", "CHAP_R="+r[:len(r)-1]) }},
		{"an empty response", false, func(_, _, _ string) chapKeys { return keysOf("CHAP_N=alice", "CHAP_R=0x") }},
		{"a response without 0x", false, func(_, _, r string) chapKeys { return keysOf("CHAP_N=alice", "CHAP_R="+r[2:]) }},
		{"a response that is no number", false, func(_, _, _ string) chapKeys { return keysOf("CHAP_N=alice", "CHAP_R=0x"+strings.Repeat("zz", 16)) }},
		{"Base64 that is none", false, func(_, _, _ string) chapKeys { return keysOf("CHAP_N=alice", "CHAP_R=0b****************") }},
		{"no CHAP_R", false, func(_, _, _ string) chapKeys { return keysOf("CHAP_N=alice") }},
		{"no CHAP_N", false, func(_, _, r string) chapKeys { return keysOf("CHAP_R=" + r) }},
		{"CHAP_A again", false, func(_, _, _ string) chapKeys { return begin }},
		{"CHAP_A with the proof", false, func(_, _, r string) chapKeys { return keysOf("CHAP_A=5", "CHAP_N=alice", "CHAP_R="+r) }},
		{"CHAP_I alone", false, func(_, _, r string) chapKeys { return keysOf("CHAP_N=alice", "CHAP_R="+r, "CHAP_I=1") }},
		{"CHAP_C alone", false, func(_, _, r string) chapKeys { return keysOf("CHAP_N=alice", "CHAP_R="+r, "CHAP_C=0xa5a5") }},
		{"a challenge of no bytes", false, func(_, _, r string) chapKeys { return keysOf("CHAP_N=alice", "CHAP_R="+r, "CHAP_I=1", "CHAP_C=0x") }},
		{"a challenge of 1025 bytes", false, func(_, _, r string) chapKeys {
			return keysOf("CHAP_N=alice", "CHAP_R="+r, "CHAP_I=1", "CHAP_C=0x"+strings.Repeat("a5", 1025))
		}},
		{"an identifier above 255", false, func(_, _, r string) chapKeys {
			return keysOf("CHAP_N=alice", "CHAP_R="+r, "CHAP_I=256", "CHAP_C=0xa5a5")
		}},
		{"our challenge as the initiator's", false, func(i, ch, r string) chapKeys {
			return keysOf("CHAP_N=alice", "CHAP_R="+r, "CHAP_I="+i, "CHAP_C="+ch)
		}},
		{"our challenge as the initiator's, in capitals", true, func(_, ch, r string) chapKeys {
			return keysOf("CHAP_N=alice", "CHAP_R="+r, "CHAP_I=9", "CHAP_C=0X"+strings.ToUpper(ch[2:]))
		}},
		{"the target must prove itself, and is not asked to", true, func(_, _, r string) chapKeys { return keysOf("CHAP_N=alice", "CHAP_R="+r) }},
		{"the target is asked, and has no secret", false, func(i, ch, _ string) chapKeys {
			return keysOf("CHAP_N=bob", "CHAP_R=0x"+hex.EncodeToString(proofOf("5", i, "bobs-secret-1234", ch)), "CHAP_I=1", "CHAP_C=0xa5a5")
		}},
		{"a challenge with a wrong response", true, func(_, _, _ string) chapKeys {
			return keysOf("CHAP_N=alice", "CHAP_R=0x"+strings.Repeat("11", 16), "CHAP_I=1", "CHAP_C=0xa5a5")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newTestChap(c.mutual)
			first, why := m.step(begin)
			if why != "" {
				t.Fatal(why)
			}
			i, ch := valueOf(first, "CHAP_I"), valueOf(first, "CHAP_C")
			r := "0x" + hex.EncodeToString(proofOf("5", i, testSecret.Secret, ch))
			answer, why := m.step(c.keys(i, ch, r))
			if why == "" || m.state == chapProved || m.user != "" || len(answer) != 0 {
				t.Errorf("%v, %q, user %q, answer %v", m.state, why, m.user, answer)
			}
			if strings.Contains(why, testSecret.Secret) || strings.Contains(fmt.Sprintf("%+v", m), "correct-horse") {
				t.Error("a secret is shown")
			}
		})
	}
	t.Run("a proof before a challenge", func(t *testing.T) {
		if _, why := newTestChap(false).step(keysOf("CHAP_N=alice", "CHAP_R=0x00")); why == "" {
			t.Error("taken")
		}
	})
	t.Run("a second proof", func(t *testing.T) {
		m := newTestChap(false)
		first, _ := m.step(begin)
		proof := keysOf("CHAP_N=alice", "CHAP_R=0x"+hex.EncodeToString(proofOf("5", valueOf(first, "CHAP_I"), testSecret.Secret, valueOf(first, "CHAP_C"))))
		if _, why := m.step(proof); why != "" {
			t.Fatal(why)
		}
		if _, why := m.step(proof); why == "" {
			t.Error("taken")
		}
	})
	t.Run("no randomness", func(t *testing.T) {
		m := newTestChap(false)
		m.random = noRandom{}
		if _, why := m.step(begin); why == "" || m.state != chapIdle {
			t.Error("a challenge without randomness")
		}
	})
}

// TestChapNamesAreText: a user may be called 0x41.
func TestChapNamesAreText(t *testing.T) {
	m := &chap{secrets: []Secret{{User: "0x41", Secret: "twelve-bytes-or-more"}}, random: &testRandom{}}
	first, _ := m.step(keysOf("CHAP_A=5"))
	r := proofOf("5", valueOf(first, "CHAP_I"), "twelve-bytes-or-more", valueOf(first, "CHAP_C"))
	if _, why := m.step(keysOf("CHAP_N=0x41", "CHAP_R=0x"+hex.EncodeToString(r))); why != "" || m.user != "0x41" {
		t.Errorf("%q, user %q", why, m.user)
	}
}

// TestChapKnownAnswers: computed with md5sum and sha256sum over the bytes.
func TestChapKnownAnswers(t *testing.T) {
	challenge := []byte("0123456789abcdef")
	for _, c := range []struct {
		a    chapAlgorithm
		want string
	}{
		{chapMD5, "4477b409a5c081f862fcc0e126fa293d"},
		{chapSHA256, "299a500a30754568658bf57636fc6f49a5d9257a1b55979d872a0bce99997c30"},
	} {
		if got := hex.EncodeToString(c.a.response(0x2a, "secretsecret", challenge)); got != c.want {
			t.Errorf("algorithm %d: %s, want %s", c.a, got, c.want)
		}
	}
}

func FuzzDecodeBinary(f *testing.F) {
	for _, s := range []string{"0x", "0x00", "0xABcd", "0b", "0bAAAA", "0bQQ==", "0", "", "0q", "1x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, ok := decodeBinary(s)
		if !ok {
			return
		}
		if len(b) > chapBinaryMax {
			t.Fatalf("%d bytes", len(b))
		}
		again, ok := decodeBinary("0x" + hex.EncodeToString(b))
		if !ok || !bytes.Equal(again, b) {
			t.Fatalf("%x is not read back", b)
		}
	})
}
