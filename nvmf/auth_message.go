package nvmf

import (
	"encoding/binary"
	"fmt"
)

// This file is the seven messages of DH-HMAC-CHAP. All numbers are little endian; HL is the length of a digest.
//
//	           0          1         3:2   5:4    6         7          8        9       11:10    15:12
//	Negotiate  AUTH_TYPE  AUTH_ID   –     T_ID   SC_C      NAPD       then NAPD descriptors of 64 bytes
//	Failure    AUTH_TYPE  AUTH_ID   –     T_ID   reason    explanation
//	Challenge  AUTH_TYPE  AUTH_ID   –     T_ID   HL        –          HashID   DHgID   DHVLEN   SEQNUM  C1[HL] DHV[DHVLEN]
//	Reply      AUTH_TYPE  AUTH_ID   –     T_ID   HL        –          CVALID   –       DHVLEN   SEQNUM  R1[HL] C2[HL] DHV[DHVLEN]
//	Success1   AUTH_TYPE  AUTH_ID   –     T_ID   HL        –          RVALID   –       –        –       R2[HL]
//	Success2   AUTH_TYPE  AUTH_ID   –     T_ID   –         –          –        –       –        –
//
//	descriptor of DH-HMAC-CHAP: AuthID@0 –@1 HALEN@2 DHLEN@3 hash identifiers @4 (30) group identifiers @34 (30)
//
// NVMe Base Specification 2.1 sections 8.3.4.4, "Common Authentication Messages", and 8.3.4.5.2 to 8.3.4.5.6.
//
// Lengths: what a host sends fills the transfer (TL) exactly. What a controller sends may be followed by more, up to
// the allocation length: the Linux target always returns the whole buffer.
//
// Decoded slices lie in the bytes that were decoded: they are lent as those are.

// authKind is AUTH_TYPE and AUTH_ID together, which tell a message.
type authKind uint16

const (
	authKindNegotiate authKind = 0x0000
	authKindFailure2  authKind = 0x00f0 // host to controller
	authKindFailure1  authKind = 0x00f1 // controller to host
	authKindChallenge authKind = 0x0101
	authKindReply     authKind = 0x0102
	authKindSuccess1  authKind = 0x0103
	authKindSuccess2  authKind = 0x0104
)

// String names the message.
func (k authKind) String() string {
	switch k {
	case authKindNegotiate:
		return "AUTH_Negotiate"
	case authKindFailure2:
		return "AUTH_Failure2"
	case authKindFailure1:
		return "AUTH_Failure1"
	case authKindChallenge:
		return "DH-HMAC-CHAP_Challenge"
	case authKindReply:
		return "DH-HMAC-CHAP_Reply"
	case authKindSuccess1:
		return "DH-HMAC-CHAP_Success1"
	case authKindSuccess2:
		return "DH-HMAC-CHAP_Success2"
	}
	return fmt.Sprintf("message of type %02x and identifier %02x", uint8(k>>8), uint8(k))
}

const (
	authHeaderBytes     = 6 // up to T_ID
	authNegotiateBytes  = 8
	authDescriptorBytes = 64
	authChallengeBytes  = 16
	authReplyBytes      = 16
	authSuccess1Bytes   = 16
	authSuccess2Bytes   = 16
	authFailureBytes    = 8

	authProtocolDHHMACCHAP = 1  // AuthID
	authIDsMax             = 30 // identifiers in each list of a descriptor

	authReasonFailure = 1 // the only reason code there is
)

// AuthReceiveBytes is the allocation length with which AuthHost fetches messages. The longest, a challenge with SHA-512
// and ffdhe8192, has 1104 bytes; Linux and SPDK ask for 4096 too.
const AuthReceiveBytes = 4096

var _ = uint(AuthReceiveBytes - (authChallengeBytes + authHashMax + 1024))

// authFault is what is wrong with a message, and the byte at which it is.
type authFault struct {
	explanation AuthExplanation
	at          int
	what        string
}

func authPayloadFault(at int, format string, a ...any) *authFault {
	return &authFault{AuthIncorrectPayload, at, fmt.Sprintf(format, a...)}
}

// in says the fault in a sentence.
func (f *authFault) in(k authKind) string { return fmt.Sprintf("%s, byte %d: %s", k, f.at, f.what) }

func authLengthFault(have, want int) *authFault {
	return authPayloadFault(min(have, want), "the message has %d bytes and must have %d", have, want)
}

func authAppendHeader(b []byte, k authKind, tid uint16) []byte {
	b = append(b, byte(k>>8), byte(k), 0, 0)
	return binary.LittleEndian.AppendUint16(b, tid)
}

// decodeAuthHeader gives what all messages begin with.
func decodeAuthHeader(b []byte) (authKind, uint16, *authFault) {
	if len(b) < authHeaderBytes {
		return 0, 0, authPayloadFault(len(b), "the message has %d bytes, too few to tell what it is", len(b))
	}
	return authKind(b[0])<<8 | authKind(b[1]), binary.LittleEndian.Uint16(b[4:]), nil
}

// authNegotiate is AUTH_Negotiate with one descriptor.
//
// NVMe Base 2.1 section 8.3.4.4.1, "AUTH_Negotiate Message", and 8.3.4.5.2, figure 739.
type authNegotiate struct {
	tid     uint16
	channel uint8  // SC_C
	hashes  []byte // identifiers, also unknown ones; lent
	groups  []byte
}

func (m *authNegotiate) appendTo(b []byte) []byte {
	b = authAppendHeader(b, authKindNegotiate, m.tid)
	b = append(b, m.channel, 1, authProtocolDHHMACCHAP, 0, byte(len(m.hashes)), byte(len(m.groups)))
	var ids [2 * authIDsMax]byte
	copy(ids[:authIDsMax], m.hashes)
	copy(ids[authIDsMax:], m.groups)
	return append(b, ids[:]...)
}

func decodeAuthNegotiate(b []byte) (m authNegotiate, _ *authFault) {
	if len(b) < authNegotiateBytes {
		return m, authLengthFault(len(b), authNegotiateBytes)
	}
	m.tid, m.channel = binary.LittleEndian.Uint16(b[4:]), b[6]
	if want := authNegotiateBytes + int(b[7])*authDescriptorBytes; len(b) != want {
		return m, authLengthFault(len(b), want)
	}
	for at := authNegotiateBytes; at < len(b); at += authDescriptorBytes {
		d := b[at : at+authDescriptorBytes]
		if d[0] != authProtocolDHHMACCHAP {
			continue
		}
		hashes, groups := int(d[2]), int(d[3])
		if hashes < 1 || hashes > authIDsMax {
			return m, authPayloadFault(at+2, "HALEN is %d and must be 1 to %d", hashes, authIDsMax)
		}
		if groups < 1 || groups > authIDsMax {
			return m, authPayloadFault(at+3, "DHLEN is %d and must be 1 to %d", groups, authIDsMax)
		}
		m.hashes, m.groups = d[4:4+hashes], d[34:34+groups]
		return m, nil
	}
	return m, &authFault{AuthProtocolUnusable, authNegotiateBytes, "no descriptor is of DH-HMAC-CHAP"}
}

// authChallenge is DH-HMAC-CHAP_Challenge. NVMe Base 2.1 section 8.3.4.5.3, figure 742.
type authChallenge struct {
	tid       uint16
	hash      AuthHash
	group     DHGroup
	sequence  uint32 // S1
	challenge []byte // C1
	public    []byte // g^x mod p; empty with DHNull
}

func (m *authChallenge) bytes() int { return authChallengeBytes + len(m.challenge) + len(m.public) }

func (m *authChallenge) appendTo(b []byte) []byte {
	b = authAppendHeader(b, authKindChallenge, m.tid)
	b = append(b, byte(len(m.challenge)), 0, byte(m.hash), byte(m.group))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(m.public)))
	b = binary.LittleEndian.AppendUint32(b, m.sequence)
	b = append(b, m.challenge...)
	return append(b, m.public...)
}

// decodeAuthChallenge takes what stands at the front of b.
func decodeAuthChallenge(b []byte) (m authChallenge, _ *authFault) {
	if len(b) < authChallengeBytes {
		return m, authLengthFault(len(b), authChallengeBytes)
	}
	m.tid, m.hash, m.group = binary.LittleEndian.Uint16(b[4:]), AuthHash(b[8]), DHGroup(b[9])
	hl, dhvlen := int(b[6]), int(binary.LittleEndian.Uint16(b[10:]))
	m.sequence = binary.LittleEndian.Uint32(b[12:])
	if m.hash.size() == 0 {
		return m, &authFault{AuthHashUnusable, 8, fmt.Sprintf("HashID is %d, which is no hash function", b[8])}
	}
	if m.group >= dhGroupEnd {
		return m, &authFault{AuthGroupUnusable, 9, fmt.Sprintf("DHgID is %d, which is no group", b[9])}
	}
	if hl != m.hash.size() {
		return m, authPayloadFault(6, "HL is %d and must be %d with %s", hl, m.hash.size(), m.hash)
	}
	if m.sequence == 0 {
		return m, authPayloadFault(12, "SEQNUM is 0")
	}
	if want := authChallengeBytes + hl + dhvlen; len(b) < want {
		return m, authLengthFault(len(b), want)
	}
	at := authChallengeBytes + hl
	m.challenge, m.public = b[authChallengeBytes:at], b[at:at+dhvlen]
	return m, authPublicFault(m.group, m.public, at)
}

// authReply is DH-HMAC-CHAP_Reply. NVMe Base 2.1 section 8.3.4.5.4, figure 743.
type authReply struct {
	tid            uint16
	sequence       uint32 // S2; 0: the controller is not to prove itself
	response       []byte // R1
	challenge      []byte // C2
	challengeValid bool
	public         []byte // g^y mod p; empty with DHNull
}

// wantsProof reports whether the controller is to prove itself. With SEQNUM 0 a valid challenge serves a secure channel
// alone, and is nothing to answer.
func (m *authReply) wantsProof() bool { return m.challengeValid && m.sequence != 0 }

// appendTo writes C2 always, in zeros if there is none: the field is there whatever CVALID says.
func (m *authReply) appendTo(b []byte) []byte {
	b = authAppendHeader(b, authKindReply, m.tid)
	b = append(b, byte(len(m.response)), 0, authFlag(m.challengeValid), 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(m.public)))
	b = binary.LittleEndian.AppendUint32(b, m.sequence)
	b = append(b, m.response...)
	if m.challengeValid {
		b = append(b, m.challenge...)
	} else {
		b = append(b, make([]byte, len(m.response))...)
	}
	return append(b, m.public...)
}

func decodeAuthReply(b []byte, h AuthHash, g DHGroup) (m authReply, _ *authFault) {
	if len(b) < authReplyBytes {
		return m, authLengthFault(len(b), authReplyBytes)
	}
	hl, dhvlen := int(b[6]), int(binary.LittleEndian.Uint16(b[10:]))
	if hl != h.size() {
		return m, authPayloadFault(6, "HL is %d and must be %d with %s", hl, h.size(), h)
	}
	if b[8] > 1 {
		return m, authPayloadFault(8, "CVALID is %d", b[8])
	}
	if want := authReplyBytes + 2*hl + dhvlen; len(b) != want {
		return m, authLengthFault(len(b), want)
	}
	m.tid, m.sequence = binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint32(b[12:])
	m.challengeValid = b[8] == 1
	m.response, m.challenge = b[authReplyBytes:authReplyBytes+hl], b[authReplyBytes+hl:authReplyBytes+2*hl]
	m.public = b[authReplyBytes+2*hl:]
	return m, authPublicFault(g, m.public, authReplyBytes+2*hl)
}

// authPublicFault checks the DH value at byte at of a message.
func authPublicFault(g DHGroup, public []byte, at int) *authFault {
	if g == DHNull {
		if len(public) > 0 {
			return authPayloadFault(10, "DHVLEN is %d and must be 0 with the group null", len(public))
		}
		return nil
	}
	if why := g.publicFault(public); why != "" {
		return authPayloadFault(at, "the Diffie-Hellman value %s", why)
	}
	return nil
}

// authSuccess1 is DH-HMAC-CHAP_Success1. NVMe Base 2.1 section 8.3.4.5.5, figure 744.
type authSuccess1 struct {
	tid           uint16
	hash          AuthHash
	response      []byte // R2
	responseValid bool
}

func (m *authSuccess1) bytes() int { return authSuccess1Bytes + m.hash.size() }

// appendTo writes R2 always, in zeros if there is none. Linux counts on HL whatever RVALID says.
func (m *authSuccess1) appendTo(b []byte) []byte {
	b = authAppendHeader(b, authKindSuccess1, m.tid)
	b = append(b, byte(m.hash.size()), 0, authFlag(m.responseValid), 0, 0, 0, 0, 0, 0, 0)
	if m.responseValid {
		return append(b, m.response...)
	}
	return append(b, make([]byte, m.hash.size())...)
}

// decodeAuthSuccess1 takes what stands at the front of b. R2 may be missing if it is not valid: SPDK leaves it out.
func decodeAuthSuccess1(b []byte, h AuthHash) (m authSuccess1, _ *authFault) {
	if len(b) < authSuccess1Bytes {
		return m, authLengthFault(len(b), authSuccess1Bytes)
	}
	m.tid, m.hash = binary.LittleEndian.Uint16(b[4:]), h
	if int(b[6]) != h.size() {
		return m, authPayloadFault(6, "HL is %d and must be %d with %s", b[6], h.size(), h)
	}
	switch b[8] {
	case 0:
		return m, nil
	case 1:
		m.responseValid = true
	default:
		return m, authPayloadFault(8, "RVALID is %d", b[8])
	}
	if len(b) < m.bytes() {
		return m, authLengthFault(len(b), m.bytes())
	}
	m.response = b[authSuccess1Bytes:m.bytes()]
	return m, nil
}

// appendAuthSuccess2 writes DH-HMAC-CHAP_Success2. NVMe Base 2.1 section 8.3.4.5.6, figure 745.
func appendAuthSuccess2(b []byte, tid uint16) []byte {
	return append(authAppendHeader(b, authKindSuccess2, tid), make([]byte, authSuccess2Bytes-authHeaderBytes)...)
}

// appendAuthFailure writes AUTH_Failure1 or AUTH_Failure2. NVMe Base 2.1 section 8.3.4.4.2.
func appendAuthFailure(b []byte, k authKind, tid uint16, e AuthExplanation) []byte {
	return append(authAppendHeader(b, k, tid), authReasonFailure, byte(e))
}

// decodeAuthFailure takes what stands at the front of b.
func decodeAuthFailure(b []byte) (AuthExplanation, *authFault) {
	if len(b) < authFailureBytes {
		return 0, authLengthFault(len(b), authFailureBytes)
	}
	return AuthExplanation(b[7]), nil
}

func authFlag(set bool) byte {
	if set {
		return 1
	}
	return 0
}
