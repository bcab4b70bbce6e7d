package volume

import (
	"bytes"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Name of a pool, a volume or a snapshot: 1 to 64 bytes of UTF-8 without control characters, padded with zeros.
type Name [64]byte

// MakeName checks a name.
func MakeName(s string) (n Name, err error) {
	if err := checkName([]byte(s)); err != nil {
		return n, fmt.Errorf("%w: %q %s", ErrName, s, err)
	}
	copy(n[:], s)
	return n, nil
}

type nameFault string

func (f nameFault) Error() string { return string(f) }

func checkName(b []byte) error {
	switch {
	case len(b) == 0:
		return nameFault("is empty")
	case len(b) > len(Name{}):
		return nameFault("has more than 64 bytes")
	}
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n == 1:
			return nameFault("is not UTF-8")
		case unicode.IsControl(r):
			return nameFault("has a control character in it")
		}
		b = b[n:]
	}
	return nil
}

// check says what is wrong with a name that was read.
func (n *Name) check() error {
	b := n[:n.len()]
	if err := checkName(b); err != nil {
		return err
	}
	for _, c := range n[len(b):] {
		if c != 0 {
			return nameFault("goes on after its end")
		}
	}
	return nil
}

func (n *Name) len() int {
	if i := bytes.IndexByte(n[:], 0); i >= 0 {
		return i
	}
	return len(n)
}

func (n Name) String() string { return string(n[:n.len()]) }
