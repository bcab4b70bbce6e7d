package nvmf

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
)

// This file is what both ends of NVMe in-band authentication share: how it is configured, the identifiers and failures of
// the standard, and the formula of a response. The rest: auth_key.go secrets, auth_dh.go groups, auth_message.go the
// messages, auth_target.go the controller's machine, auth_host.go the host's.
//
// NVMe Base Specification 2.1 section 8.3.4, "NVMe over Fabrics Secure Channel and In-band Authentication" (TP 8006).
//
//	host                                                              controller
//	  AuthHostNegotiating    AUTH_Negotiate          Send     ─▶        AuthKeying (not with DHNull)
//	  AuthHostChallenge      DH-HMAC-CHAP_Challenge  Receive  ◀─        AuthChallenging
//	  AuthHostComputing (not with DHNull)
//	  AuthHostReplying       DH-HMAC-CHAP_Reply      Send     ─▶        AuthReplying, AuthVerifying (not with DHNull)
//	  AuthHostSuccess        DH-HMAC-CHAP_Success1   Receive  ◀─        AuthAccepting
//	in both directions only:
//	  AuthHostConfirming     DH-HMAC-CHAP_Success2   Send     ─▶        AuthConfirming
//	  AuthHostDone                                                      AuthIdle
//
// A failure found by the controller is told in the next Receive (AUTH_Failure1, AuthRefusing), one found by the host in a
// Send (AUTH_Failure2, AuthHostFailing); the connection then ends. A queue may be authenticated again while it works: the
// former result holds until the new one is a failure.
//
// Invariants: a machine has no socket, clock or goroutine; randomness comes from AuthConfig.Rand; a queue counts as
// authenticated only after the proof of the host was compared equal, and, where the host asked for ours, after it
// accepted that; exponents and shared secrets are zeroed when the step that needs them ends.
//
// What is not done: secure channel concatenation (SC_C), which needs a TLS that takes external PSKs; and the
// authentication verification entity of section 8.3.4.6.

// AuthHash is the identifier of a hash function, both of the exchange and of a key's transformation.
//
// NVMe Base 2.1 section 8.3.4.5.2, figure 740, "DH-HMAC-CHAP hash function identifiers". A higher one is a stronger one.
type AuthHash uint8

// The hash functions. AuthHashNone is legal in a key alone.
const (
	AuthHashNone AuthHash = iota
	AuthSHA256
	AuthSHA384
	AuthSHA512

	authHashEnd
)

// authHashMax is the length of the longest digest, and so of a challenge and of a response.
const authHashMax = sha512.Size

var authHashNames = [authHashEnd]string{"none", "sha256", "sha384", "sha512"}

// AuthHashes gives the hash functions of the exchange, the weakest first.
func AuthHashes() []AuthHash { return []AuthHash{AuthSHA256, AuthSHA384, AuthSHA512} }

// ParseAuthHash finds a hash function of the exchange by the name that String gives it.
func ParseAuthHash(name string) (AuthHash, error) {
	for h := AuthSHA256; h < authHashEnd; h++ {
		if authHashNames[h] == name {
			return h, nil
		}
	}
	return 0, fmt.Errorf("nvmf: parse DH-HMAC-CHAP hash function %q: no such function; there are sha256, sha384 and sha512", name)
}

// String gives the name of the hash function.
func (h AuthHash) String() string {
	if h < authHashEnd {
		return authHashNames[h]
	}
	return fmt.Sprintf("unknown hash function %d", uint8(h))
}

// size is the length of a digest; 0 for what is not a hash function.
func (h AuthHash) size() int {
	switch h {
	case AuthSHA256:
		return sha256.Size
	case AuthSHA384:
		return sha512.Size384
	case AuthSHA512:
		return sha512.Size
	}
	return 0
}

// new starts a digest; h must be a hash function.
func (h AuthHash) new() hash.Hash {
	switch h {
	case AuthSHA256:
		return sha256.New()
	case AuthSHA384:
		return sha512.New384()
	default:
		return sha512.New()
	}
}

// AuthConfig is what one end knows of one pair of host and subsystem.
type AuthConfig struct {
	SubNQN  string
	HostNQN string

	HostKey *AuthKey // proves the host to the controller; required
	CtrlKey *AuthKey // proves the controller to the host; nil where a host is not to ask for it, or cannot be answered

	Hashes []AuthHash // allowed; none means all
	Groups []DHGroup  // allowed; none means all, DHNull too

	Rand io.Reader // challenges, exponents, first sequence numbers; nil means crypto/rand
}

// check gives a copy with the defaults filled in.
func (c AuthConfig) check() (AuthConfig, error) {
	fail := func(why string) (AuthConfig, error) {
		return AuthConfig{}, fmt.Errorf("nvmf: configure authentication of host %q at subsystem %q: %s", c.HostNQN, c.SubNQN, why)
	}
	switch {
	case c.SubNQN == "" || c.HostNQN == "":
		return fail("one of the names is empty; give both")
	case c.SubNQN == c.HostNQN:
		// A key belongs to a name: with one name for both, the two keys could not be told apart.
		return fail("both have the same name; give the host its own")
	case c.HostKey == nil:
		return fail("there is no key of the host; set one")
	}
	if len(c.Hashes) == 0 {
		c.Hashes = AuthHashes()
	}
	for _, h := range c.Hashes {
		if h.size() == 0 {
			return fail(fmt.Sprintf("%s is not a hash function of the exchange; allow sha256, sha384 or sha512", h))
		}
	}
	if len(c.Groups) == 0 {
		c.Groups = DHGroups()
	}
	for _, g := range c.Groups {
		if g >= dhGroupEnd {
			return fail(fmt.Sprintf("%s is not a Diffie-Hellman group; allow some of null, ffdhe2048, ffdhe3072, ffdhe4096, ffdhe6144, ffdhe8192", g))
		}
	}
	c.Hashes, c.Groups = authSet(c.Hashes), authSet(c.Groups)
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	return c, nil
}

// AuthExplanation is the reason code explanation of AUTH_Failure1 and AUTH_Failure2. The reason code itself is always 1.
//
// NVMe Base 2.1 section 8.3.4.4.2, "AUTH_Failure1 and AUTH_Failure2 Messages".
type AuthExplanation uint8

// The explanations.
const (
	AuthFailed            AuthExplanation = iota + 1 // the peer could not prove who it is
	AuthProtocolUnusable                             // no authentication protocol in common
	AuthChannelMismatch                              // secure channel concatenation asked for or missing
	AuthHashUnusable                                 // no hash function in common
	AuthGroupUnusable                                // no Diffie-Hellman group in common
	AuthIncorrectPayload                             // a field of the message is wrong
	AuthUnexpectedMessage                            // not the next message of the exchange
	authExplanationEnd
)

var authExplanationNames = [authExplanationEnd]string{
	"", "authentication failed", "authentication protocol not usable", "secure channel concatenation mismatch",
	"hash function not usable", "Diffie-Hellman group not usable", "incorrect payload", "incorrect protocol message",
}

var authExplanationAdvice = [authExplanationEnd]string{
	"",
	"check that both ends hold the same key, and the same names of host and subsystem",
	"let the host offer DH-HMAC-CHAP",
	"switch secure channel concatenation off at the host",
	"allow a hash function that both ends know",
	"allow a Diffie-Hellman group that both ends know",
	"the peer does not keep to the standard: look for an update of it",
	"the peer does not keep to the standard: look for an update of it",
}

// String gives the explanation in the words of the standard.
func (e AuthExplanation) String() string {
	if e > 0 && e < authExplanationEnd {
		return authExplanationNames[e]
	}
	return fmt.Sprintf("unknown explanation %d", uint8(e))
}

// AuthError says why an authentication did not succeed, for the log and for a count by host.
type AuthError struct {
	HostNQN string
	SubNQN  string
	// Explanation is what was told to the peer, or what the peer told; 0 if nothing was, because the time was up or the
	// exchange was given up.
	Explanation AuthExplanation
	Why         string
}

// Error implements error.
func (e *AuthError) Error() string {
	s := fmt.Sprintf("nvmf: authenticate host %q at subsystem %q: %s", e.HostNQN, e.SubNQN, e.Why)
	if e.Explanation > 0 && e.Explanation < authExplanationEnd {
		s += fmt.Sprintf(" (%s); %s", e.Explanation, authExplanationAdvice[e.Explanation])
	}
	return s
}

func (c *AuthConfig) failure(e AuthExplanation, why string) *AuthError {
	return &AuthError{HostNQN: c.HostNQN, SubNQN: c.SubNQN, Explanation: e, Why: why}
}

// errAuthChallengeRepeats tells of a source of randomness that is none.
var errAuthChallengeRepeats = errors.New("the source of randomness gave the challenge of the other end")

// authSequence counts the sequence numbers S1 or S2 of one machine.
//
// NVMe Base 2.1 section 8.3.4.5.3 and 8.3.4.5.4: random and not 0 at first, then one more each time, leaving 0 out.
type authSequence uint32

func (s *authSequence) next(rand io.Reader) (uint32, error) {
	if *s == 0 {
		var b [4]byte
		if _, err := io.ReadFull(rand, b[:]); err != nil {
			return 0, err
		}
		*s = authSequence(binary.LittleEndian.Uint32(b[:]))
	} else {
		*s++
	}
	if *s == 0 {
		*s = 1
	}
	return uint32(*s), nil
}

// Who computes a response, in the bytes that go into it.
const (
	authRoleHost = "HostHost"
	authRoleCtrl = "Controller"
)

// authChannelNone is SC_C: no secure channel is concatenated. It is part of what a response proves.
const authChannelNone = 0

// authResponse computes R1 or R2 into the front of out and returns that. prover is the NQN of the one that proves itself,
// other the NQN of the one it proves itself to. secret is g^xy mod p, as long as p, or nil with DHNull.
//
// NVMe Base 2.1 section 8.3.4.5.4, "DH-HMAC-CHAP_Reply Message", and 8.3.4.5.5, "DH-HMAC-CHAP_Success1 Message":
//
//	Ca = C with DHNull, else HMAC(H(g^xy mod p), C)
//	R  = HMAC(K, Ca || S || T_ID || SC_C || role || NQN of the prover || 00h || NQN of the other)
func authResponse(out *[authHashMax]byte, h AuthHash, key *AuthKey, role, prover, other string,
	challenge []byte, sequence uint32, tid uint16, secret []byte) []byte {
	if secret != nil {
		d := h.new()
		d.Write(secret)
		session := d.Sum(nil)
		m := hmac.New(h.new, session)
		m.Write(challenge)
		challenge = m.Sum(nil)
		clear(session)
	}
	k := key.key(prover)
	defer clear(k)
	m := hmac.New(h.new, k)
	m.Write(challenge)
	var b [7]byte
	binary.LittleEndian.PutUint32(b[0:], sequence)
	binary.LittleEndian.PutUint16(b[4:], tid)
	b[6] = authChannelNone
	m.Write(b[:])
	io.WriteString(m, role)
	io.WriteString(m, prover)
	m.Write([]byte{0})
	io.WriteString(m, other)
	return m.Sum(out[:0])
}

// authRead fills b.
func authRead(rand io.Reader, b []byte) error {
	_, err := io.ReadFull(rand, b)
	return err
}

// authStrongest gives the highest identifier that is both offered and allowed, or -1 if there is none.
func authStrongest[T ~uint8](offered []byte, allowed []T) int {
	best := -1
	for _, a := range allowed {
		if int(a) > best && slices.Contains(offered, byte(a)) {
			best = int(a)
		}
	}
	return best
}

// authSet gives a copy of list in order, with nothing twice.
func authSet[T ~uint8](list []T) []T {
	return slices.Compact(slices.Sorted(slices.Values(list)))
}

// authIDs gives identifiers as they stand on the wire.
func authIDs[T ~uint8](list []T) []byte {
	ids := make([]byte, len(list))
	for i, v := range list {
		ids[i] = byte(v)
	}
	return ids
}

// authNames gives identifiers from the wire their names.
func authNames[T ~uint8](ids []byte) []T {
	list := make([]T, len(ids))
	for i, id := range ids {
		list[i] = T(id)
	}
	return list
}
