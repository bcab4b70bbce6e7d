package nvmf

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
)

// authTestRand is a source of randomness that a seed decides.
func authTestRand(seed string) *rand.ChaCha8 { return rand.NewChaCha8(sha256.Sum256([]byte(seed))) }

// dhTestE gives floor(2^bits * e), from the series of 1/n!.
func dhTestE(bits uint) *big.Int {
	const guard = 64
	term := new(big.Int).Lsh(big.NewInt(1), bits+guard)
	sum := new(big.Int)
	for n := int64(1); term.Sign() > 0; n++ {
		sum.Add(sum, term)
		term.Quo(term, big.NewInt(n))
	}
	return sum.Rsh(sum, guard)
}

// RFC 7919 appendix A gives every modulus as 2^b - 2^(b-64) + ([2^(b-130) e] + X) 2^64 - 1, and each as a safe prime.
func TestDHPrimes(t *testing.T) {
	for _, c := range []struct {
		group DHGroup
		bits  uint
		x     int64
	}{
		{DHFFDHE2048, 2048, 560316},
		{DHFFDHE3072, 3072, 2625351},
		{DHFFDHE4096, 4096, 5736041},
		{DHFFDHE6144, 6144, 15705020},
		{DHFFDHE8192, 8192, 10965728},
	} {
		t.Run(c.group.String(), func(t *testing.T) {
			one := big.NewInt(1)
			want := new(big.Int).Lsh(one, c.bits)
			want.Sub(want, new(big.Int).Lsh(one, c.bits-64))
			middle := dhTestE(c.bits - 130)
			middle.Add(middle, big.NewInt(c.x))
			want.Add(want, middle.Lsh(middle, 64))
			want.Sub(want, one)
			p := new(big.Int).SetBytes(dhGroups[c.group].prime)
			if p.Cmp(want) != 0 {
				t.Fatalf("the modulus is %x and the formula gives %x", p, want)
			}
			if c.group.valueBytes() != int(c.bits/8) {
				t.Fatalf("a value has %d bytes", c.group.valueBytes())
			}
			q := new(big.Int).Rsh(p, 1) // (p-1)/2
			if !p.ProbablyPrime(0) || !q.ProbablyPrime(0) {
				t.Fatal("the modulus is not a safe prime")
			}
		})
	}
}

// The private keys, the digests of their public values and of the shared secret are those of OpenSSL 3.0.19:
// `openssl genpkey -algorithm DH -pkeyopt group:ffdhe2048` and `openssl pkeyutl -derive -pkeyopt pad:1`.
func TestDHJobAgainstOpenSSL(t *testing.T) {
	for _, c := range []struct {
		group                          DHGroup
		a, publicA, b, publicB, secret string
	}{
		{DHFFDHE2048,
			"15ed1976b054841b4a7bc6cb6884d4fc12d6353b948151c3cf3b136b9",
			"640a75181267e7f8d60d56438edf208fa8dcfed98da514150c11c2b851e6ee3b",
			"1e114743900aaa0d653756a56140f5b50695dab56d12e5136f768ce56",
			"da634838c2d8ea392714a91613bcc0255d43558cd76c53ac29879293fc98706a",
			"e8596b78003812abb25d42dd51b2c8afdb0f71eeb6b38555bbaa13021f865f1c"},
		{DHFFDHE3072,
			"1fb3cc8387f2ecdae108daefc968d5bb15c373cd2595ee26020206381cd56fbb3d758",
			"6d0aea676595801d463256f2a22831f28a66cfeb123b73512db6085ab932daab",
			"50327932b1289fb99ad8cc5cb7e23b257a8e0d360bcc1c12ea99a69ae67dc33fe9d77",
			"46bc559d89b18107c7359cd995b76005c4205e6f587d48a4f9ccfb227b55ad1f",
			"f326d8dbcc28433cc37c44dcc12fe03f529c093430894ee9a987158ae6ca146c"},
		{DHFFDHE4096,
			"11aba6c940112ec0ebd41b2a50975a6f8ef3d75cc929b7eec74ef1ac42d4d8bb1b1abc6f231e74bca9",
			"3f2fed96f6b1597a2dfc0aff8dd1a42d886111bef36b6224d0eec9bf95e2c0a2",
			"2dee5cefe5483a49b79819f419077006e00a3bc09faf6cfc7c060098bb41b7a5ba5e3994100fa9b30",
			"a78b74f17487864927ca42485f017f05e228a5f9468921925a705ded515ebcc9",
			"6f5a311962f8f483411148397f9c16df4448eb75396fc8d6f65e69254228a020"},
		{DHFFDHE6144,
			"415de099768f0853210388005f890da60525534fe0c82cda0df3ee4ad67763aca10aa636d37e6affcb9a4d95af138a",
			"7176cf4a50a5537a81b3cc00be7efecd8ffc7211acafcdc9928aba45156592fe",
			"6d125cb537532c92b0f6ef48f9b93081fa4dff4cdb3297fe15742ad390ffbe36332bff73ec63791fe116a9d9ee6a79",
			"43b4c8004888383032021e6a44b15e639c34819b68febb369f350e9d3e93b6c7",
			"eeafbed10e7fc076ca4cd7c5abe8e95519e2e012888000b740b605980799b1fd"},
		{DHFFDHE8192,
			"e5d9a18967cd0a0cfec8863736e8ab64581e2e0c407cff10118899fd58ca9b5c65fb5a2a7f815a2a981c0154c2cddd90e057",
			"07324e8b02d32ba92dea27b33fad6d0ce6ab7fdeef84e09cc00d789b94092558",
			"f99fa0599d9f0cf95b7f3c8a53ec5e2994b572dc80dd2fd97793a063d54517ef5ee4a412fdcd5898bab0aac29f93de66f878",
			"be14cd235de3baa681d1db65e63990d1f1da1f610cd049b763db2698b7de42a1",
			"5ab946d48fef5c97a09d972875dbcfaf6caff3c7a7ce4f3539924d92abbc993b"},
	} {
		t.Run(c.group.String(), func(t *testing.T) {
			a, b := dhTestHex(t, c.a), dhTestHex(t, c.b)
			jobA := newDHJob(c.group, a, nil, true)
			jobA.Run()
			dhWantDigest(t, "g^a", jobA.publicValue, c.publicA)
			jobB := newDHJob(c.group, b, jobA.publicValue, true)
			jobB.Run()
			dhWantDigest(t, "g^b", jobB.publicValue, c.publicB)
			dhWantDigest(t, "(g^a)^b", jobB.secret, c.secret)
			last := newDHJob(c.group, a, jobB.publicValue, false)
			last.Run()
			dhWantDigest(t, "(g^b)^a", last.secret, c.secret)
			if last.publicValue != nil {
				t.Error("the job computed what it was not asked for")
			}
		})
	}
}

func dhTestHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Repeat("0", len(s)%2) + s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func dhWantDigest(t *testing.T, what string, have []byte, want string) {
	t.Helper()
	if d := sha256.Sum256(have); hex.EncodeToString(d[:]) != want {
		t.Errorf("%s is %x with SHA-256 %x, want SHA-256 %s", what, have, d, want)
	}
}

func TestDHPublicFault(t *testing.T) {
	for _, g := range DHGroups()[1:] {
		p := new(big.Int).SetBytes(dhGroups[g].prime)
		n := len(dhGroups[g].prime)
		full := func(v *big.Int) []byte { return v.FillBytes(make([]byte, n)) }
		plus := func(d int64) []byte { return full(new(big.Int).Add(p, big.NewInt(d))) }
		for _, c := range []struct {
			what  string
			value []byte
			fault bool
		}{
			{"empty", nil, true},
			{"zero", full(big.NewInt(0)), true},
			{"zero in one byte", []byte{0}, true},
			{"one", full(big.NewInt(1)), true},
			{"one in one byte", []byte{1}, true},
			{"two", full(big.NewInt(2)), false},
			{"two in one byte", []byte{2}, false},
			{"256", full(big.NewInt(256)), false},
			{"p-2", plus(-2), false},
			{"p-1", plus(-1), true},
			{"p", plus(0), true},
			{"p+1", plus(1), true},
			{"all ones", bytes.Repeat([]byte{0xff}, n), true},
			{"a byte too long", append([]byte{0}, plus(-2)...), true},
			{"leading zero cut off", bytes.Repeat([]byte{0xff}, n-1), false},
		} {
			if why := g.publicFault(c.value); (why != "") != c.fault {
				t.Errorf("%s, %s: the fault is %q", g, c.what, why)
			}
		}
	}
}

// NVMe Base 2.1 section 8.3.4.5.4 asks for exponents of at least 256 bits, RFC 7919 appendix A for at least this many.
func TestDHExponent(t *testing.T) {
	want := [dhGroupEnd]int{DHFFDHE2048: 256, DHFFDHE3072: 275, DHFFDHE4096: 325, DHFFDHE6144: 375, DHFFDHE8192: 400}
	r := authTestRand("exponents")
	for _, g := range DHGroups()[1:] {
		var seen [][]byte
		for range 20 {
			x, err := g.newExponent(r)
			if err != nil {
				t.Fatal(err)
			}
			if n := new(big.Int).SetBytes(x).BitLen(); n < want[g] || n > 8*len(dhGroups[g].prime)-1 {
				t.Errorf("%s: an exponent of %d bits", g, n)
			}
			for _, s := range seen {
				if bytes.Equal(s, x) {
					t.Errorf("%s: an exponent came twice", g)
				}
			}
			seen = append(seen, x)
		}
		if _, err := g.newExponent(strings.NewReader("short")); err == nil {
			t.Errorf("%s: an exponent came from a source that ended", g)
		}
	}
}

func TestDHGroupNames(t *testing.T) {
	for _, g := range DHGroups() {
		if have, err := ParseDHGroup(g.String()); err != nil || have != g {
			t.Errorf("%s: parsed as %v, %v", g, have, err)
		}
	}
	for _, bad := range []string{"", "NULL", "ffdhe1024", "ffdhe2048 "} {
		if _, err := ParseDHGroup(bad); err == nil {
			t.Errorf("%q is taken for a group", bad)
		}
	}
	if s := DHGroup(9).String(); s != "unknown group 9" {
		t.Error(s)
	}
}

// A job is handed between goroutines and may be printed on the way.
func TestDHJobKeepsItsSecret(t *testing.T) {
	x, _ := DHFFDHE2048.newExponent(authTestRand("job"))
	j := newDHJob(DHFFDHE2048, x, []byte{2}, true)
	for range 2 {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if s := fmt.Sprintf(format, j); s != "Diffie-Hellman job in ffdhe2048" {
				t.Errorf("%s gives %s", format, s)
			}
		}
		if !j.done {
			j.Run()
		}
	}
	if !bytes.Equal(j.exponent, make([]byte, len(x))) {
		t.Error("the exponent is still in the job after it ran")
	}
	j.wipe()
	if !bytes.Equal(j.secret, make([]byte, len(j.secret))) {
		t.Error("the secret is still in the job after it was wiped")
	}
}

func BenchmarkDHJob(b *testing.B) {
	for _, g := range DHGroups()[1:] {
		b.Run(g.String(), func(b *testing.B) {
			x, _ := g.newExponent(authTestRand("bench"))
			for range b.N {
				newDHJob(g, x, nil, true).Run()
			}
		})
	}
}

// authBrokenRand fails after n bytes.
type authBrokenRand struct {
	n int
}

var errAuthBroken = errors.New("no entropy")

func (r *authBrokenRand) Read(b []byte) (int, error) {
	if r.n < len(b) {
		return 0, errAuthBroken
	}
	r.n -= len(b)
	for i := range b {
		b[i] = byte(r.n + i)
	}
	return len(b), nil
}
