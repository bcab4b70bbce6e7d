package iscsi

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is the target's end of CHAP for one login. RFC 7143 section 12.1.3, "Challenge Handshake Authentication Protocol (CHAP)":
//
//	initiator   CHAP_A=7,5                                    the algorithms that it knows, best first
//	target      CHAP_A=5 CHAP_I=… CHAP_C=0x…                  chapIdle → chapChallenging
//	initiator   CHAP_N=user CHAP_R=0x… [CHAP_I=… CHAP_C=0x…]  its proof, and its challenge if the target is to prove itself
//	target      [CHAP_N=user CHAP_R=0x…]                      chapChallenging → chapProved
//
// Whatever is wrong ends the login with "authentication failure", and no answer says what it was: an initiator is not told whether a user exists.
// The target proves itself only to an initiator that has proved itself.

// chapState is where an exchange stands.
type chapState uint8

const (
	chapIdle chapState = iota
	chapChallenging
	chapProved
)

var chapStateNames = [...]string{"idle", "challenging", "proved"}

// String names the state.
func (s chapState) String() string { return chapStateNames[s] }

// chapAlgorithm is a hash function. The numbers are those of IANA's registry "PPP Authentication Algorithms".
type chapAlgorithm uint8

const (
	chapMD5    chapAlgorithm = 5 // RFC 1994 section 3; every implementation has it
	chapSHA256 chapAlgorithm = 7
)

const (
	chapHashMax     = sha256.Size // bytes of a response, and of a challenge of ours
	chapBinaryMax   = 1024        // bytes of CHAP_R and CHAP_C, decoded: RFC 7143 section 12.1.3
	chapIdentifiers = 256         // CHAP_I is one byte: RFC 1994 section 4.1, "Challenge and Response"
)

// size is the length of a response; our challenges are as long.
func (a chapAlgorithm) size() int {
	if a == chapMD5 {
		return md5.Size
	}
	return sha256.Size
}

// response computes one. RFC 1994 section 4.1: the hash of identifier, secret and challenge, one behind the other.
func (a chapAlgorithm) response(identifier byte, secret string, challenge []byte) []byte {
	b := make([]byte, 0, 1+len(secret)+len(challenge))
	b = append(append(append(b, identifier), secret...), challenge...)
	defer clear(b)
	if a == chapMD5 {
		sum := md5.Sum(b)
		return sum[:]
	}
	sum := sha256.Sum256(b)
	return sum[:]
}

// chapKeys are the values of the CHAP keys that a request had; nil where it had none.
type chapKeys struct {
	a, n, r, i, c *string
}

// none reports whether it had none of them.
func (k *chapKeys) none() bool { return *k == chapKeys{} }

// put keeps the value of a key, if it is one of CHAP's.
func (k *chapKeys) put(key, value string) bool {
	to := map[string]**string{"CHAP_A": &k.a, "CHAP_N": &k.n, "CHAP_R": &k.r, "CHAP_I": &k.i, "CHAP_C": &k.c}[key]
	if to == nil {
		return false
	}
	*to = &value
	return true
}

// chap is the machine.
type chap struct {
	secrets []Secret // that count
	mutual  bool     // the target has to prove itself too
	random  io.Reader

	state      chapState
	algorithm  chapAlgorithm
	identifier byte
	challenge  [chapHashMax]byte
	user       string // who has proved itself
}

// Format keeps every verb from showing what the machine holds.
func (c *chap) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "CHAP, %s", c.state) }

// step takes the keys of a request and gives those of the answer, as pairs. why says what is wrong, "" if nothing is.
func (c *chap) step(k chapKeys) (answer []pair, why string) {
	switch {
	case k.none():
		return nil, ""
	case k.a != nil:
		if c.state != chapIdle || k != (chapKeys{a: k.a}) {
			return nil, "CHAP_A came while " + c.state.String() + ", or with keys that answer a challenge"
		}
		return c.begin(*k.a)
	case c.state != chapChallenging:
		return nil, "an answer to a challenge came while " + c.state.String()
	case k.n == nil || k.r == nil:
		return nil, "CHAP_N or CHAP_R is missing"
	case (k.i == nil) != (k.c == nil):
		return nil, "one of CHAP_I and CHAP_C is missing"
	}
	return c.prove(k)
}

// begin chooses the algorithm, the first of the initiator's that is known, and makes a challenge.
func (c *chap) begin(algorithms string) ([]pair, string) {
	for a := range strings.SplitSeq(algorithms, ",") {
		// The whole number: 56 is not 5.
		if n, ok := parseNumber(a); ok && (n == uint64(chapMD5) || n == uint64(chapSHA256)) {
			c.algorithm = chapAlgorithm(n)
			break
		}
	}
	if c.algorithm == 0 {
		return nil, fmt.Sprintf("CHAP_A is %.60q, and 5 (MD5) and 7 (SHA-256) are known", algorithms)
	}
	var id [1]byte
	if _, err := io.ReadFull(c.random, id[:]); err != nil {
		return nil, "the source of randomness failed: " + err.Error()
	}
	if _, err := io.ReadFull(c.random, c.ours()); err != nil {
		return nil, "the source of randomness failed: " + err.Error()
	}
	c.identifier = id[0]
	c.state = chapChallenging
	return []pair{
		{"CHAP_A", strconv.Itoa(int(c.algorithm))},
		{"CHAP_I", strconv.Itoa(int(c.identifier))},
		{"CHAP_C", "0x" + hex.EncodeToString(c.ours())},
	}, ""
}

// ours is our challenge.
func (c *chap) ours() []byte { return c.challenge[:c.algorithm.size()] }

// prove judges the initiator's answer to our challenge, and gives ours to its own.
func (c *chap) prove(k chapKeys) ([]pair, string) {
	invariant.Check(c.state == chapChallenging, "iscsi: a proof is judged without a challenge")
	response, ok := decodeBinary(*k.r)
	if !ok || len(response) != c.algorithm.size() {
		return nil, "CHAP_R is not as long as a response of its algorithm"
	}
	var identifier uint64
	var challenge []byte
	if k.c != nil {
		if identifier, ok = parseNumber(*k.i); !ok || identifier >= chapIdentifiers {
			return nil, "CHAP_I is no number below 256"
		}
		if challenge, ok = decodeBinary(*k.c); !ok || len(challenge) == 0 {
			return nil, "CHAP_C is no binary value of 1 to 1024 bytes"
		}
		// RFC 7143 section 9.2.1, "CHAP Considerations": a challenge that comes back as one is not answered, and the connection ends. Who
		// sends it hopes to hear from us what it has to say.
		if bytes.Equal(challenge, c.ours()) {
			return nil, "the initiator sent our challenge back as its own"
		}
	} else if c.mutual {
		return nil, "the target has to prove itself, and the initiator did not challenge it"
	}
	var secret Secret
	known := 0
	for _, s := range c.secrets {
		if s.User == *k.n {
			secret, known = s, 1
			break
		}
	}
	// The same work, whether there is such a user or not.
	want := c.algorithm.response(c.identifier, secret.Secret, c.ours())
	if subtle.ConstantTimeCompare(want, response)&known == 0 || *k.n == "" || secret.Secret == "" {
		return nil, fmt.Sprintf("the response of user %.60q is wrong, or there is no such user", *k.n)
	}
	if challenge != nil && secret.MutualSecret == "" {
		return nil, fmt.Sprintf("the initiator challenges the target, and beside user %.60q there is no secret of the target", *k.n)
	}
	c.state, c.user = chapProved, *k.n
	if challenge == nil {
		return nil, ""
	}
	proof := c.algorithm.response(byte(identifier), secret.MutualSecret, challenge)
	return []pair{{"CHAP_N", secret.MutualUser}, {"CHAP_R", "0x" + hex.EncodeToString(proof)}}, ""
}

// decodeBinary reads a large binary value. RFC 7143 section 6.1, "Text Format": hexadecimal behind 0x, Base64 behind 0b.
func decodeBinary(s string) ([]byte, bool) {
	if len(s) < 2 || s[0] != '0' {
		return nil, false
	}
	var b []byte
	var err error
	switch s[1] {
	case 'x', 'X':
		b, err = hex.DecodeString(s[2:])
	case 'b', 'B':
		b, err = base64.StdEncoding.Strict().DecodeString(s[2:])
	default:
		return nil, false
	}
	return b, err == nil && len(b) <= chapBinaryMax
}
