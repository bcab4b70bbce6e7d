package nvmf

import (
	"crypto/hmac"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"strings"
)

// This file is the secret of one NQN, in the form that people and tools pass around:
//
//	DHHC-1 : 01 : base64 of secret || CRC-32 of secret, little endian :
//	         |     32, 48 or 64 bytes  4 bytes
//	         00 used as it is; 01, 02, 03 transformed with SHA-256, SHA-384, SHA-512
//
// NVMe Base Specification 2.1 section 8.3.4.5.8, "Secret Representation". Any hash may go with any length.

const (
	authKeyPrefix   = "DHHC-1:"
	authKeySuffix   = "NVMe-over-Fabrics" // what the transformation appends to the NQN, section 8.3.4.5.7
	authSecretMax   = 64
	authKeyCRCBytes = 4
)

// AuthKey is a secret with the hash that makes a key of it. It never changes and is safe to share. It shows its secret in
// Reveal alone: printing it, logging it and encoding it as JSON or text gives a mask.
type AuthKey struct {
	hash AuthHash // AuthHashNone: the secret is the key

	// secret is behind two pointers: printing a structure that holds an AuthKey in an unexported field asks no method
	// of it, and follows one pointer if the verb does not fit (%s).
	secret *authSecret
}

type authSecret struct {
	bytes *[authSecretMax]byte // zeros after n
	n     int                  // 32, 48 or 64
}

// NewAuthKey makes a key of a secret of 32, 48 or 64 bytes, which it copies.
func NewAuthKey(hash AuthHash, secret []byte) (*AuthKey, error) {
	if hash >= authHashEnd {
		return nil, fmt.Errorf("nvmf: make DH-HMAC-CHAP key: hash identifier %d is unknown; use 0 (none), 1 (SHA-256), 2 (SHA-384) or 3 (SHA-512)", uint8(hash))
	}
	switch len(secret) {
	case 32, 48, 64:
	default:
		return nil, fmt.Errorf("nvmf: make DH-HMAC-CHAP key: the secret has %d bytes; use 32, 48 or 64", len(secret))
	}
	k := &AuthKey{hash: hash, secret: &authSecret{new([authSecretMax]byte), len(secret)}}
	copy(k.secret.bytes[:], secret)
	return k, nil
}

// GenerateAuthKey draws a secret of the given length.
func GenerateAuthKey(rand io.Reader, hash AuthHash, secretBytes int) (*AuthKey, error) {
	if secretBytes < 0 || secretBytes > authSecretMax {
		return nil, fmt.Errorf("nvmf: generate DH-HMAC-CHAP key: a secret of %d bytes was asked for; use 32, 48 or 64", secretBytes)
	}
	secret := make([]byte, secretBytes)
	defer clear(secret)
	if _, err := io.ReadFull(rand, secret); err != nil {
		return nil, fmt.Errorf("nvmf: generate DH-HMAC-CHAP key: the source of randomness failed: %w", err)
	}
	return NewAuthKey(hash, secret)
}

// ParseAuthKey reads the form above. White space around it is ignored, since key files end with a line feed. No error it
// returns holds a part of the key.
func ParseAuthKey(s string) (*AuthKey, error) {
	const hint = "; make one with `nvme gen-dhchap-key`"
	rest, ok := strings.CutPrefix(strings.TrimSpace(s), authKeyPrefix)
	if !ok {
		return nil, fmt.Errorf("nvmf: parse DH-HMAC-CHAP key: it does not begin with %q%s", authKeyPrefix, hint)
	}
	id, rest, ok := strings.Cut(rest, ":")
	if !ok || len(id) != 2 || id[0] != '0' || id[1] < '0' || id[1] > '3' {
		return nil, fmt.Errorf("nvmf: parse DH-HMAC-CHAP key: %q is not followed by 00, 01, 02 or 03 and a colon%s", authKeyPrefix, hint)
	}
	text, ok := strings.CutSuffix(rest, ":")
	if !ok {
		return nil, fmt.Errorf("nvmf: parse DH-HMAC-CHAP key: it does not end with a colon: it may have been cut%s", hint)
	}
	// DecodeString passes over line feeds, which no key holds.
	if strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("nvmf: parse DH-HMAC-CHAP key: there is a line break in it%s", hint)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	defer clear(raw)
	if err != nil {
		return nil, fmt.Errorf("nvmf: parse DH-HMAC-CHAP key: its secret is not base64 (%w)%s", err, hint)
	}
	if len(raw) < authKeyCRCBytes {
		return nil, fmt.Errorf("nvmf: parse DH-HMAC-CHAP key: its secret and checksum have %d bytes together; 36, 52 or 68 are right%s", len(raw), hint)
	}
	secret, sum := raw[:len(raw)-authKeyCRCBytes], raw[len(raw)-authKeyCRCBytes:]
	k, err := NewAuthKey(AuthHash(id[1]-'0'), secret)
	if err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(secret) != binary.LittleEndian.Uint32(sum) {
		return nil, fmt.Errorf("nvmf: parse DH-HMAC-CHAP key: its checksum does not fit its secret: it was mistyped or cut; copy it again")
	}
	return k, nil
}

// Reveal gives the key in the form above, for the one who generates it or writes it to a key file.
func (k *AuthKey) Reveal() string {
	s := k.secret.bytes[:k.secret.n]
	raw := binary.LittleEndian.AppendUint32(append(make([]byte, 0, authSecretMax+authKeyCRCBytes), s...), crc32.ChecksumIEEE(s))
	defer clear(raw)
	return fmt.Sprintf("%s%02d:%s:", authKeyPrefix, uint8(k.hash), base64.StdEncoding.EncodeToString(raw))
}

// Hash is the hash that transforms the secret.
func (k *AuthKey) Hash() AuthHash { return k.hash }

// SecretBytes is the length of the secret.
func (k *AuthKey) SecretBytes() int { return k.secret.n }

// Equal reports whether both are the same secret with the same hash, in a time that does not depend on the secrets. The
// standard asks for a warning when two NQNs have the same key (section 8.3.4.5.7).
func (k *AuthKey) Equal(o *AuthKey) bool {
	if k == nil || o == nil {
		return k == o
	}
	same := subtle.ConstantTimeCompare(k.secret.bytes[:], o.secret.bytes[:])
	return same == 1 && k.hash == o.hash && k.secret.n == o.secret.n
}

// key gives the HMAC key that the owner of nqn uses; the caller clears it.
//
// NVMe Base 2.1 section 8.3.4.5.7: key = HMAC(secret, NQN || "NVMe-over-Fabrics").
func (k *AuthKey) key(nqn string) []byte {
	secret := k.secret.bytes[:k.secret.n]
	if k.hash == AuthHashNone {
		return append([]byte(nil), secret...)
	}
	m := hmac.New(k.hash.new, secret)
	io.WriteString(m, nqn)
	io.WriteString(m, authKeySuffix)
	return m.Sum(nil)
}

// String gives the key with its secret masked.
func (k AuthKey) String() string {
	if k.secret == nil {
		return "no DH-HMAC-CHAP key"
	}
	return fmt.Sprintf("%s%02d:%d bytes, hidden:", authKeyPrefix, uint8(k.hash), k.secret.n)
}

// GoString gives the key with its secret masked.
func (k AuthKey) GoString() string { return k.String() }

// Format gives the key with its secret masked, whatever the verb is.
func (k AuthKey) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// MarshalJSON gives the key with its secret masked.
func (k AuthKey) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }

// MarshalText gives the key with its secret masked.
func (k AuthKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// LogValue gives the key with its secret masked.
func (k AuthKey) LogValue() slog.Value { return slog.StringValue(k.String()) }
