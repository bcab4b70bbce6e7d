package nvmf

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// This file is the NVMe Qualified Name. Base Specification 2.0, "NVMe Qualified Names" and "Unique Identifier":
//
//	nqn.yyyy-mm.reverse.domain:name
//	nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555
//	nqn.2014-08.org.nvmexpress.discovery
//
// in UTF-8, at most 223 bytes, and on the wire in a field of 256 bytes with a NUL behind it.

// Sizes of names, in bytes.
const (
	NQNBytesMax   = 223
	NQNFieldBytes = 256
)

// DiscoveryNQN is the well-known name of every discovery subsystem.
const DiscoveryNQN = "nqn.2014-08.org.nvmexpress.discovery"

// NQNUUIDPrefix begins the names that are made of a UUID.
const NQNUUIDPrefix = "nqn.2014-08.org.nvmexpress:uuid:"

// CheckNQN says what is wrong with a name.
func CheckNQN(nqn string) error {
	bad := func(why string) error { return fmt.Errorf("NQN %q: %s", nqn, why) }
	switch {
	case len(nqn) > NQNBytesMax:
		return bad(fmt.Sprintf("%d bytes long, %d are allowed", len(nqn), NQNBytesMax))
	case !utf8.ValidString(nqn):
		return bad("not UTF-8")
	case strings.IndexByte(nqn, 0) >= 0:
		return bad("contains a NUL")
	case nqn == DiscoveryNQN:
		return nil
	case !strings.HasPrefix(nqn, "nqn."):
		return bad(`does not begin with "nqn."`)
	}
	if uuid, ok := strings.CutPrefix(nqn, NQNUUIDPrefix); ok {
		if !isUUID(uuid) {
			return bad("no UUID behind \"uuid:\"")
		}
		return nil
	}
	authority, name, ok := strings.Cut(nqn[len("nqn."):], ":")
	if !ok || name == "" {
		return bad("no name; the form is nqn.yyyy-mm.reverse.domain:name")
	}
	if !isYearMonth(authority) {
		return bad("no date; the form is nqn.yyyy-mm.reverse.domain:name")
	}
	for label := range strings.SplitSeq(authority[len("yyyy-mm."):], ".") {
		if !isLabel(label) {
			return bad("no domain name behind the date; the form is nqn.yyyy-mm.reverse.domain:name")
		}
	}
	return nil
}

// isYearMonth reports that s begins with a date and a dot.
func isYearMonth(s string) bool {
	if len(s) < len("yyyy-mm.") || s[4] != '-' || s[7] != '.' {
		return false
	}
	for _, i := range [...]int{0, 1, 2, 3, 5, 6} {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	month := s[5:7]
	return month >= "01" && month <= "12"
}

// isLabel reports that s is a label of a domain name: RFC 1034 section 3.5, and RFC 1123 section 2.1, which allows a
// digit in front.
func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c != '-' && !(c >= '0' && c <= '9') && !(c|0x20 >= 'a' && c|0x20 <= 'z') {
			return false
		}
	}
	return true
}

// isUUID reports that s is 8-4-4-4-12 hexadecimal digits.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !(c >= '0' && c <= '9') && !(c|0x20 >= 'a' && c|0x20 <= 'f') {
				return false
			}
		}
	}
	return true
}

// decodeNQN reads a name from its field. What stands behind the NUL is not looked at.
func decodeNQN(field []byte) (string, bool) {
	end := bytes.IndexByte(field, 0)
	if end < 0 || end > NQNBytesMax {
		return "", false
	}
	nqn := string(field[:end])
	return nqn, CheckNQN(nqn) == nil
}
