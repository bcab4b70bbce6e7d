package iscsi

import (
	"fmt"
	"strings"
)

// This file is the iSCSI name, of a target or of an initiator. RFC 7143 section 4.2.7, "iSCSI Names":
//
//	iqn.yyyy-mm.reverse.domain:name	section 4.2.7.4, Type "iqn."; ":name" may be missing
//	eui.0123456789abcdef		section 4.2.7.5, Type "eui.": 16 hexadecimal digits
//	naa.0123456789abcdef		section 4.2.7.6, Type "naa.": 16 or 32 of them
//
// at most 223 bytes. Names are compared as RFC 3722 prepares them: that is, in lower case. Of its characters those of ASCII are taken: letters,
// digits, dash, dot and colon.

// NameBytesMax is the longest name. RFC 7143 section 4.2.7.2, "iSCSI Name Encoding".
const NameBytesMax = 223

const nameForms = "the forms are iqn.yyyy-mm.reverse.domain:name, eui. and 16 hexadecimal digits, naa. and 16 or 32"

// NormalName checks a name and gives it as names are compared.
func NormalName(name string) (string, error) {
	bad := func(format string, a ...any) (string, error) {
		return "", fmt.Errorf("iSCSI name %.300q: %w: %s", name, ErrInvalid, fmt.Sprintf(format, a...))
	}
	if len(name) > NameBytesMax {
		return bad("%d bytes long, %d are allowed", len(name), NameBytesMax)
	}
	for i := range len(name) {
		if !isNameByte(name[i]) {
			return bad("the byte %#02x at %d: letters, digits, dash, dot and colon are allowed", name[i], i)
		}
	}
	name = strings.ToLower(name)
	kind, rest, _ := strings.Cut(name, ".")
	switch kind {
	case "iqn":
		if why := checkIQN(rest); why != "" {
			return bad("%s; %s", why, nameForms)
		}
	case "eui":
		if len(rest) != 16 || !isHex(rest) {
			return bad("no 16 hexadecimal digits behind eui.")
		}
	case "naa":
		if len(rest) != 16 && len(rest) != 32 || !isHex(rest) {
			return bad("no 16 or 32 hexadecimal digits behind naa.")
		}
	default:
		return bad("it begins with no type; %s", nameForms)
	}
	return name, nil
}

// isNameByte says that RFC 3722 section 6, "Prohibited Output", leaves a character of ASCII.
func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == ':'
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

// checkIQN says what is wrong behind "iqn.", "" if nothing is.
func checkIQN(s string) string {
	authority, name, named := strings.Cut(s, ":")
	date, domain, ok := strings.Cut(authority, ".")
	switch {
	case !isYearMonth(date):
		return "no date behind iqn."
	case !ok:
		return "no domain name behind the date"
	case named && name == "":
		return "nothing behind the colon"
	}
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return "no domain name behind the date"
		}
	}
	return ""
}

func isYearMonth(s string) bool {
	if len(s) != len("yyyy-mm") || s[4] != '-' || strings.Trim(s[:4]+s[5:], "0123456789") != "" {
		return false
	}
	return s[5:] >= "01" && s[5:] <= "12"
}

// isTyped says that a name is meant as a whole one.
func isTyped(name string) bool {
	for _, kind := range [...]string{"iqn.", "eui.", "naa."} {
		if len(name) >= len(kind) && strings.EqualFold(name[:len(kind)], kind) {
			return true
		}
	}
	return false
}

// fullName gives the name of a target: base goes before one that does not begin as an iSCSI name does.
func fullName(base, name string) (string, error) {
	if name != "" && !isTyped(name) {
		name = base + ":" + name
	}
	return NormalName(name)
}
