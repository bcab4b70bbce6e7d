package api

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// This file makes names that hosts see out of names of devices. Those of iSCSI take letters, digits, dash, dot and colon alone and are compared
// without regard to case; a device is called as its owner likes.

// ErrName says that a device's name cannot be made into one for hosts.
var ErrName = errors.New("no name for hosts")

// Sizes in bytes.
const (
	namePartMax   = 64
	nameHashBytes = 8 // of the SHA-256 of what does not fit
)

// HostName gives the part of a target's name that stands for a device: of POOL/VOLUME the two with a colon between them. What is lower case
// letters, digits, dots and dashes stays as it is, up to 64 characters each; anything else is left out and a dash and 16 digits of a hash
// stand behind, so that no two devices get the same.
func HostName(device string) (string, error) {
	if device == "" {
		return "", fmt.Errorf("%w: the device's is empty", ErrName)
	}
	parts := strings.SplitN(device, "/", 2)
	for i, p := range parts {
		parts[i] = namePart(p)
	}
	return strings.Join(parts, ":"), nil
}

func namePart(s string) string {
	kept := strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' {
			return c - 'A' + 'a'
		}
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-' {
			return c
		}
		return -1
	}, s)
	if kept == s && s != "" && len(s) <= namePartMax && !endsInHash(s) {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	hash := hex.EncodeToString(sum[:nameHashBytes])
	kept = strings.Trim(kept[:min(len(kept), namePartMax-1-len(hash))], ".-")
	if kept == "" {
		kept = "x"
	}
	return kept + "-" + hash
}

// endsInHash tells whether a name looks as if it had a hash behind it: such a one gets another, so that it is no other device's.
func endsInHash(s string) bool {
	at := len(s) - 2*nameHashBytes
	return at > 0 && s[at-1] == '-' && strings.Trim(s[at:], "0123456789abcdef") == ""
}
