package iscsi

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// This file is text: the key=value pairs of Login and Text. RFC 7143 section 6.1, "Text Format". It is the text of a whole request: what comes
// in several PDUs, with C, is joined before.
//
//	key "=" value NUL  key "=" value NUL …
//
// Keys are case-sensitive and come once. What is more than one NUL between pairs, and the NUL missing behind the last, is passed over: nothing
// else can be meant.

// Limits of the text format, in bytes. RFC 7143 section 6.1: a key is a standard-label, a simple-value is counted without its encoding.
const (
	keyBytesMax     = 63
	valueBytesMax   = 255
	encodedBytesMax = len("0x") + 2*valueBytesMax // in hex; base64 is shorter
)

// pair is a key with its value.
type pair struct{ key, value string }

var (
	errNoKey      = errors.New("a pair without a key")
	errNoValue    = errors.New("a key without =")
	errKeyTooLong = fmt.Errorf("a key of more than %d bytes", keyBytesMax)
	errKeyBytes   = errors.New("a key with bytes that no key has")
)

// parseText takes a text apart.
func parseText(text []byte) ([]pair, error) {
	var pairs []pair
	seen := make(map[string]bool)
	for s := range bytes.SplitSeq(text, []byte{0}) {
		if len(s) == 0 {
			continue
		}
		k, v, isPair := strings.Cut(string(s), "=")
		if err := checkKey(k); err != nil {
			return nil, err
		}
		if !isPair {
			return nil, errNoValue
		}
		if err := checkValue(k, v); err != nil {
			return nil, err
		}
		if seen[k] {
			return nil, fmt.Errorf("the key %s twice", k)
		}
		seen[k] = true
		pairs = append(pairs, pair{k, v})
	}
	return pairs, nil
}

// checkKey judges a key. RFC 7143 section 6.1 gives letters, digits and . - + @ _ to a standard-label, and RFC 4850 has X#NodeArchitecture. Which
// of them are known is for the negotiation, so that others are answered with NotUnderstood.
func checkKey(k string) error {
	switch {
	case k == "":
		return errNoKey
	case len(k) > keyBytesMax:
		return errKeyTooLong
	}
	for i := range len(k) {
		if k[i] <= ' ' || k[i] > '~' {
			return errKeyBytes
		}
	}
	return nil
}

// checkValue judges a value's form: UTF-8 without control characters, each element of a list no longer than a simple-value may be. The values of
// CHAP have limits of their own.
func checkValue(k, v string) error {
	if !utf8.ValidString(v) {
		return fmt.Errorf("the value of %s is not UTF-8", k)
	}
	if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7F }) {
		return fmt.Errorf("control characters in the value of %s", k)
	}
	if strings.HasPrefix(k, "CHAP_") {
		return nil
	}
	for e := range strings.SplitSeq(v, ",") {
		limit := valueBytesMax
		if isEncoded(e) {
			limit = encodedBytesMax
		}
		if len(e) > limit {
			return fmt.Errorf("a value of %s of more than %d bytes", k, limit)
		}
	}
	return nil
}

// isEncoded reports whether a value begins as binary ones do: hex or base64.
func isEncoded(v string) bool {
	return len(v) >= 2 && v[0] == '0' && strings.ContainsRune("xXbB", rune(v[1]))
}

// appendPair appends a pair to text.
func appendPair(text []byte, key, value string) []byte {
	text = append(text, key...)
	text = append(text, '=')
	text = append(text, value...)
	return append(text, 0)
}

// parseNumber reads a regular-numerical-value: decimal, or hex with 0x. A decimal does not begin with 0, where some would take it for octal.
func parseNumber(s string) (uint64, bool) {
	if isEncoded(s) && s[1] != 'b' && s[1] != 'B' {
		return parseDigits(s[2:], 16)
	}
	if len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	return parseDigits(s, 10)
}

// parseDigits reads digits and nothing else: no sign, no underscore.
func parseDigits(s string, base int) (uint64, bool) {
	if s == "" || s[0] == '+' || s[0] == '-' {
		return 0, false
	}
	v, err := strconv.ParseUint(s, base, 64)
	return v, err == nil
}

// parseBool reads a boolean-value.
func parseBool(s string) (v, ok bool) { return s == "Yes", s == "Yes" || s == "No" }
