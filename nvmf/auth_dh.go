package nvmf

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"

	"filippo.io/bigmod"

	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is the Diffie-Hellman half of DH-HMAC-CHAP: the groups, the check of a value from the wire, and the one
// costly step, which is a value of its own so that it can run away from the reactor that needs its result.
//
// NVMe Base Specification 2.1 section 8.3.4.5.2, figure 741, "DH-HMAC-CHAP Diffie-Hellman group identifiers".

// DHGroup is the identifier of a group. A higher one is a stronger one.
type DHGroup uint8

// The groups. DHNull leaves the Diffie-Hellman exchange out, which leaves a listener that knows the traffic a guess at
// the key for every recorded response.
const (
	DHNull DHGroup = iota
	DHFFDHE2048
	DHFFDHE3072
	DHFFDHE4096
	DHFFDHE6144
	DHFFDHE8192

	dhGroupEnd
)

// dhGenerator is g in every group of RFC 7919.
var dhGenerator = []byte{2}

// dhGroups holds what a group consists of.
//
// The exponents are short on purpose: the work of an exponentiation is proportional to their length (on a 2-core Zen 3
// guest ffdhe8192 takes 35 ms with 56 bytes and 550 ms with 1024). RFC 7919 section 5.2 and appendix A ask for
// at least 225, 275, 325, 375 and 400 bits; NVMe Base 2.1 section 8.3.4.5.4 for at least 256. The top bit is always set.
var dhGroups = [dhGroupEnd]struct {
	name          string
	prime         []byte // p, big endian; none in DHNull
	exponentBytes int
}{
	DHNull:      {name: "null"},
	DHFFDHE2048: {"ffdhe2048", dhDecodePrime(dhPrime2048), 32},
	DHFFDHE3072: {"ffdhe3072", dhDecodePrime(dhPrime3072), 40},
	DHFFDHE4096: {"ffdhe4096", dhDecodePrime(dhPrime4096), 48},
	DHFFDHE6144: {"ffdhe6144", dhDecodePrime(dhPrime6144), 48},
	DHFFDHE8192: {"ffdhe8192", dhDecodePrime(dhPrime8192), 56},
}

func dhDecodePrime(s string) []byte {
	p, err := hex.DecodeString(s)
	invariant.Check(err == nil, "nvmf: a group's modulus is not hexadecimal")
	return p
}

// DHGroups gives every group, the weakest first.
func DHGroups() []DHGroup {
	return []DHGroup{DHNull, DHFFDHE2048, DHFFDHE3072, DHFFDHE4096, DHFFDHE6144, DHFFDHE8192}
}

// ParseDHGroup finds a group by the name that String gives it.
func ParseDHGroup(name string) (DHGroup, error) {
	for g := range dhGroups {
		if dhGroups[g].name == name {
			return DHGroup(g), nil
		}
	}
	return 0, fmt.Errorf("nvmf: parse Diffie-Hellman group %q: no such group; there are null, ffdhe2048, ffdhe3072, ffdhe4096, ffdhe6144 and ffdhe8192", name)
}

// String gives the group's name.
func (g DHGroup) String() string {
	if g < dhGroupEnd {
		return dhGroups[g].name
	}
	return fmt.Sprintf("unknown group %d", uint8(g))
}

// valueBytes is the length of the group's values on the wire; 0 for DHNull.
func (g DHGroup) valueBytes() int {
	invariant.Check(g < dhGroupEnd, "nvmf: a Diffie-Hellman group that was not checked")
	return len(dhGroups[g].prime)
}

// publicFault says what is wrong with a value that the peer sent, or "". The value is public, so the time this takes
// may depend on it.
//
// NVMe Base 2.1 section 8.3.4.5.4, "DH-HMAC-CHAP_Reply Message": 0, 1 and p-1 are refused, since with them the peer
// would know the shared secret without an exponent. Shorter values than p are taken, though the standard wants a multiple
// of 4: SPDK sends none of the leading zeros.
func (g DHGroup) publicFault(y []byte) string {
	p := dhGroups[g].prime
	if len(y) == 0 {
		return "is empty"
	}
	if len(y) > len(p) {
		return fmt.Sprintf("has %d bytes, the group %s has %d", len(y), g, len(p))
	}
	y = bytes.TrimLeft(y, "\x00")
	switch {
	case len(y) == 0:
		return "is 0"
	case len(y) == 1 && y[0] == 1:
		return "is 1"
	case len(y) == len(p) && bytes.Compare(y, p) >= 0:
		return "is not below the modulus"
	case len(y) == len(p) && bytes.Equal(y[:len(y)-1], p[:len(p)-1]) && y[len(y)-1] == p[len(p)-1]-1:
		return "is the modulus less 1" // p is odd: p-1 differs in the last byte alone
	}
	return ""
}

// newExponent draws a private exponent.
func (g DHGroup) newExponent(rand io.Reader) ([]byte, error) {
	x := make([]byte, dhGroups[g].exponentBytes)
	if _, err := io.ReadFull(rand, x); err != nil {
		return nil, err
	}
	x[0] |= 0x80
	return x, nil
}

// DHJob is the arithmetic of one step of one authentication: one or two modular exponentiations, which take from half a
// millisecond to tens of them. A machine gives it out with AuthHold or AuthHostCompute; its owner then is whoever runs it,
// on any goroutine but a reactor's, until it is handed back to Computed of the same machine. It shares no memory with
// the machine, so a connection may end while its job runs: the job is then simply dropped.
type DHJob struct {
	group    DHGroup
	exponent []byte // our private exponent, a copy; zeroed by Run
	peer     []byte // the other side's value; nil if no secret is wanted
	public   bool   // whether our own value is wanted

	done        bool
	publicValue []byte // g^exponent, as long as p
	secret      []byte // peer^exponent, as long as p
}

// newDHJob describes the work; peer must have passed publicFault.
func newDHJob(g DHGroup, exponent, peer []byte, public bool) *DHJob {
	return &DHJob{group: g, exponent: bytes.Clone(exponent), peer: bytes.Clone(peer), public: public}
}

// Run does the work. The time it takes depends on the group, not on the exponent.
func (j *DHJob) Run() {
	invariant.Check(!j.done, "nvmf: a Diffie-Hellman job ran twice")
	m, err := bigmod.NewModulus(dhGroups[j.group].prime)
	invariant.Check(err == nil, "nvmf: a group's modulus is not a modulus")
	if j.public {
		j.publicValue = dhPower(dhGenerator, j.exponent, m)
	}
	if j.peer != nil {
		j.secret = dhPower(j.peer, j.exponent, m)
	}
	clear(j.exponent)
	j.done = true
}

func dhPower(base, exponent []byte, m *bigmod.Modulus) []byte {
	b, err := bigmod.NewNat().SetBytes(base, m)
	invariant.Check(err == nil, "nvmf: a Diffie-Hellman value was not checked against the modulus")
	return bigmod.NewNat().Exp(b, exponent, m).Bytes(m)
}

// wipe forgets the results.
func (j *DHJob) wipe() {
	clear(j.exponent)
	clear(j.secret)
}

// String names the work without its numbers.
func (j *DHJob) String() string { return "Diffie-Hellman job in " + j.group.String() }

// GoString keeps %#v from showing the exponent.
func (j *DHJob) GoString() string { return j.String() }

// Format keeps every verb from showing the exponent.
func (j *DHJob) Format(f fmt.State, _ rune) { io.WriteString(f, j.String()) }
