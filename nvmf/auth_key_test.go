package nvmf

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash"
	"log/slog"
	"strings"
	"testing"
)

func authTestKey(t testing.TB, s string) *AuthKey {
	t.Helper()
	k, err := ParseAuthKey(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// authCount gives the bytes 0, 1, 2 and so on, the secrets of the vectors below.
func authCount(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// The first key is the example of the standard (NVMe Base 2.1 section 8.3.4.5.8), the others are of
// `nvme gen-dhchap-key --hmac=0 --secret=000102… --key-length=…`, nvme-cli 2.3. `nvme check-dhchap-key` finds the
// checksum of the first to be a70d69fa.
func TestParseAuthKeyVectors(t *testing.T) {
	for _, c := range []struct {
		key    string
		hash   AuthHash
		secret []byte // nil: not published
	}{
		{"DHHC-1:00:ia6zGodOr4SEG0Zzaw398rpY0wqipUWj4jWjUh4HWUz6aQ2n:", AuthHashNone, nil},
		{"DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:", AuthHashNone, authCount(32)},
		{"DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vcSEgBQ==:", AuthHashNone, authCount(48)},
		{"DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P4zODhA=:", AuthHashNone, authCount(64)},
		{"DHHC-1:03:ia6zGodOr4SEG0Zzaw398rpY0wqipUWj4jWjUh4HWUz6aQ2n:", AuthSHA512, nil},
		{"  DHHC-1:01:ia6zGodOr4SEG0Zzaw398rpY0wqipUWj4jWjUh4HWUz6aQ2n:\r\n", AuthSHA256, nil},
	} {
		k := authTestKey(t, c.key)
		if k.Hash() != c.hash {
			t.Errorf("%s: the hash is %s", c.key, k.Hash())
		}
		if len(c.secret) > 0 && !bytes.Equal(k.secret.bytes[:k.SecretBytes()], c.secret) {
			t.Errorf("%s: the secret is %x", c.key, k.secret.bytes[:k.SecretBytes()])
		}
		if have, want := k.Reveal(), strings.TrimSpace(c.key); have != want {
			t.Errorf("revealed as %s, want %s", have, want)
		}
	}
}

// The key that `nvme gen-dhchap-key --hmac=H --nqn=N --secret=000102… --key-length=…` of nvme-cli 2.3 prints is the secret
// transformed with H and N.
func TestAuthKeyTransformVectors(t *testing.T) {
	const nqn = "nqn.2014-08.org.nvmexpress:uuid:0e1b3c5d-7f90-4a2b-8c6d-e1f203142536"
	for _, c := range []struct {
		hash AuthHash
		n    int
		want string
	}{
		{AuthSHA256, 32, "DHHC-1:01:P/xp006wRCZBwwswhEheMqcZIDu+nVSI/WjXB+AJxEXXyiRg:"},
		{AuthSHA384, 48, "DHHC-1:02:GsAiK7zLTU8jfGHvpibp1aEgCUcvoX5f6yV/rHlRM/Q9dJeHgsbRyF34NXclJsagEtheug==:"},
		{AuthSHA512, 64, "DHHC-1:03:2bnCCuuiSgWxhKDKwKEO3YvGkzH2PbVP1KlaEjMbwjCJkgYZ4IUQBzG81jmXdRJxlqAARb6MxG6J7WNfXC//d4eDkQY=:"},
	} {
		k, err := NewAuthKey(c.hash, authCount(c.n))
		if err != nil {
			t.Fatal(err)
		}
		want := authTestKey(t, c.want)
		if have := k.key(nqn); !bytes.Equal(have, want.secret.bytes[:want.secret.n]) {
			t.Errorf("%s: the key is %x, nvme-cli makes %s", c.hash, have, c.want)
		}
	}
}

// Any hash goes with any length, and the key has the length of the hash.
func TestAuthKeyTransformAnyLength(t *testing.T) {
	hashes := [authHashEnd]func() hash.Hash{AuthSHA256: sha256.New, AuthSHA384: sha512.New384, AuthSHA512: sha512.New}
	for _, n := range []int{32, 48, 64} {
		for h := AuthHashNone; h < authHashEnd; h++ {
			k, err := NewAuthKey(h, authCount(n))
			if err != nil {
				t.Fatal(err)
			}
			want := authCount(n)
			if h != AuthHashNone {
				m := hmac.New(hashes[h], authCount(n))
				m.Write([]byte("nqn.2026-01.io.example:host" + "NVMe-over-Fabrics"))
				want = m.Sum(nil)
			}
			if have := k.key("nqn.2026-01.io.example:host"); !bytes.Equal(have, want) {
				t.Errorf("%s of %d bytes: %x, want %x", h, n, have, want)
			}
		}
	}
}

func TestParseAuthKeyRefuses(t *testing.T) {
	const secret = "ia6zGodOr4SEG0Zzaw398rpY0wqipUWj4jWjUh4HWUz6aQ2n"
	encode := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for _, c := range []struct{ what, key string }{
		{"nothing", ""},
		{"another kind of key", "NVMeTLSkey-1:01:" + secret + ":"},
		{"another version", "DHHC-2:00:" + secret + ":"},
		{"small letters", "dhhc-1:00:" + secret + ":"},
		{"no hash", "DHHC-1:"},
		{"hash of one digit", "DHHC-1:0:" + secret + ":"},
		{"hash of three digits", "DHHC-1:001:" + secret + ":"},
		{"hash 04", "DHHC-1:04:" + secret + ":"},
		{"hash 10", "DHHC-1:10:" + secret + ":"},
		{"hash of letters", "DHHC-1:0x:" + secret + ":"},
		{"no colon at the end", "DHHC-1:00:" + secret},
		{"two colons at the end", "DHHC-1:00:" + secret + "::"},
		{"more after the end", "DHHC-1:00:" + secret + ":x"},
		{"not base64", "DHHC-1:00:" + strings.Replace(secret, "G", "*", 1) + ":"},
		{"url base64", "DHHC-1:00:" + strings.Replace(secret, "G", "_", 1) + ":"},
		{"a line break", "DHHC-1:00:" + secret[:8] + "\n" + secret[8:] + ":"},
		{"a blank", "DHHC-1:00:" + secret[:8] + " " + secret[8:] + ":"},
		{"padding missing", "DHHC-1:00:" + strings.TrimRight(encode(52), "=") + ":"},
		{"bits after the end", "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vcSEgBR==:"},
		{"empty secret", "DHHC-1:00::"},
		{"3 bytes", "DHHC-1:00:" + encode(3) + ":"},
		{"checksum alone", "DHHC-1:00:" + encode(4) + ":"},
		{"a secret of 31 bytes", "DHHC-1:00:" + encode(35) + ":"},
		{"a secret of 33 bytes", "DHHC-1:00:" + encode(37) + ":"},
		{"a secret of 65 bytes", "DHHC-1:00:" + encode(69) + ":"},
		{"checksum big endian", "DHHC-1:00:" + authSwapped(secret) + ":"},
		{"one letter mistyped", "DHHC-1:00:" + strings.Replace(secret, "G", "H", 1) + ":"},
	} {
		k, err := ParseAuthKey(c.key)
		if err == nil {
			t.Errorf("%s: taken, as %v", c.what, k)
			continue
		}
		for _, part := range []string{secret[:8], secret[len(secret)-8:], "AAAAAAAA"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error shows a part of the key: %v", c.what, err)
			}
		}
	}
	// Every mistake in a single letter is found: a CRC finds all bursts of up to 32 bits.
	good := "DHHC-1:01:" + secret + ":"
	for i := range good {
		for _, letter := range "AZaz09+/:=-" {
			if bad := good[:i] + string(letter) + good[i+1:]; bad != good && bad[:10] == good[:10] {
				if _, err := ParseAuthKey(bad); err == nil {
					t.Errorf("%s is taken", bad)
				}
			}
		}
		if _, err := ParseAuthKey(good[:i]); err == nil {
			t.Errorf("%s is taken", good[:i])
		}
	}
}

// authSwapped turns the checksum around.
func authSwapped(secret string) string {
	raw, _ := base64.StdEncoding.DecodeString(secret)
	n := len(raw)
	raw[n-1], raw[n-2], raw[n-3], raw[n-4] = raw[n-4], raw[n-3], raw[n-2], raw[n-1]
	return base64.StdEncoding.EncodeToString(raw)
}

func TestGenerateAuthKey(t *testing.T) {
	r := authTestRand("generate")
	var last *AuthKey
	for _, n := range []int{32, 48, 64} {
		for h := AuthHashNone; h < authHashEnd; h++ {
			k, err := GenerateAuthKey(r, h, n)
			if err != nil {
				t.Fatal(err)
			}
			if back := authTestKey(t, k.Reveal()); !back.Equal(k) || back.Hash() != h || back.SecretBytes() != n {
				t.Errorf("%s comes back as %s", k, back)
			}
			if last.Equal(k) || k.Equal(last) {
				t.Error("two keys are equal")
			}
			last = k
		}
	}
	for _, n := range []int{-1, 0, 31, 33, 63, 65, 128} {
		if _, err := GenerateAuthKey(r, AuthSHA256, n); err == nil {
			t.Errorf("a secret of %d bytes was made", n)
		}
	}
	if _, err := GenerateAuthKey(r, authHashEnd, 32); err == nil {
		t.Error("an unknown hash is taken")
	}
	if _, err := GenerateAuthKey(&authBrokenRand{31}, AuthSHA256, 32); err == nil {
		t.Error("a key came from a source that ended")
	}
}

func TestAuthKeyEqual(t *testing.T) {
	key := func(h AuthHash, secret []byte) *AuthKey {
		k, err := NewAuthKey(h, secret)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	a := key(AuthSHA256, make([]byte, 32))
	for what, b := range map[string]*AuthKey{
		"another hash":    key(AuthSHA384, make([]byte, 32)),
		"zeros, but more": key(AuthSHA256, make([]byte, 48)),
		"another secret":  key(AuthSHA256, authCount(32)),
		"no key at all":   nil,
	} {
		if a.Equal(b) || b.Equal(a) {
			t.Errorf("%s: they are equal", what)
		}
	}
	if !a.Equal(key(AuthSHA256, make([]byte, 32))) || !(*AuthKey)(nil).Equal(nil) {
		t.Error("what is equal is not")
	}
	secret := authCount(32)
	k := key(AuthHashNone, secret)
	secret[0] = 0xff
	if k.secret.bytes[0] != 0 {
		t.Error("the key changes with what it was made of")
	}
}

// A key shows its secret in Reveal alone.
func TestAuthKeyIsMasked(t *testing.T) {
	k, err := GenerateAuthKey(authTestRand("masked"), AuthSHA256, 32)
	if err != nil {
		t.Fatal(err)
	}
	const mask = "DHHC-1:01:32 bytes, hidden:"
	config := AuthConfig{SubNQN: "s", HostNQN: "h", HostKey: k, CtrlKey: k}
	hidden := struct {
		pointer *AuthKey
		value   AuthKey
	}{k, *k}
	target, err := NewAuthTarget(config)
	if err != nil {
		t.Fatal(err)
	}
	host, err := NewAuthHost(config)
	if err != nil {
		t.Fatal(err)
	}
	verbs := []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "% x", "%X", "%d", "%b", "%o", "%c", "%U", "%t", "%e"}
	var out, forms []string
	for _, verb := range verbs {
		for _, v := range []any{k, *k} {
			if s := fmt.Sprintf(verb, v); s != mask {
				t.Errorf("%s gives %s", verb, s)
			}
		}
		for _, v := range []any{target, host} {
			if s := fmt.Sprintf(verb, v); s != "authentication, idle" {
				t.Errorf("%s gives %s", verb, s)
			}
		}
		out = append(out, fmt.Sprintf(verb, config), fmt.Sprintf(verb, &config), fmt.Sprintf(verb, hidden), fmt.Sprintf(verb, &hidden))
		// How the verb shows the first bytes of a secret, without the brackets around them.
		form := fmt.Sprintf(verb, k.secret.bytes[:6])
		form = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(form, "[]byte"), "{"), "}")
		forms = append(forms, strings.Trim(form, "[]\""))
	}
	forms = append(forms, k.Reveal()[10:18])
	for _, v := range []any{k, *k, config, map[string]any{"key": k}} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(b))
	}
	text, err := k.MarshalText()
	out = append(out, string(text), fmt.Sprint(err), k.LogValue().String())
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("key", "key", k, "value", *k, "config", config)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("key", "key", k, "value", *k, "config", config)
	out = append(out, log.String())
	for _, s := range out {
		for _, form := range forms {
			if strings.Contains(s, form) {
				t.Errorf("the secret shows as %q: %s", form, s)
			}
		}
	}
	if s := fmt.Sprintf("%v %s", (*AuthKey)(nil), AuthKey{}); s != "<nil> no DH-HMAC-CHAP key" {
		t.Error(s)
	}
}

func TestAuthHashNames(t *testing.T) {
	for _, h := range AuthHashes() {
		if have, err := ParseAuthHash(h.String()); err != nil || have != h {
			t.Errorf("%s: parsed as %v, %v", h, have, err)
		}
	}
	for _, bad := range []string{"", "none", "SHA256", "sha-256", "sha1"} {
		if _, err := ParseAuthHash(bad); err == nil {
			t.Errorf("%q is taken for a hash function", bad)
		}
	}
	if s := AuthHash(9).String(); s != "unknown hash function 9" {
		t.Error(s)
	}
}
