package nvmf

import (
	"bytes"
	"testing"
)

func keptExample() *reservations {
	return &reservations{Generation: 7, Type: WriteExclusive, Holder: hostA, PTPL: true, Registrants: []registrant{{hostB, 20}, {hostA, 1 << 40}}}
}

func TestKeptReservationsThatAreNone(t *testing.T) {
	whole := encodeReservations(keptExample())
	for _, c := range []struct {
		what  string
		alter func(b []byte) []byte
	}{
		{"another version", func(b []byte) []byte { b[0] = 2; return b }},
		{"a type that there is not", func(b []byte) []byte { b[1] = 7; return b }},
		{"PTPL is no bit", func(b []byte) []byte { b[2] = 2; return b }},
		{"a byte that is zero is not", func(b []byte) []byte { b[3] = 1; return b }},
		{"a holder who is not registered", func(b []byte) []byte { b[8] = 9; return b }},
		{"a holder of no reservation", func(b []byte) []byte { b[1] = 0; return b }},
		{"one registrant more", func(b []byte) []byte { b[24] = 3; return b }},
		{"a host registered twice", func(b []byte) []byte { b[keptHeadBytes] = hostA[0]; return b }},
		{"a part of the head", func(b []byte) []byte { return b[:keptHeadBytes-1] }},
		{"a byte less", func(b []byte) []byte { return b[:len(b)-1] }},
	} {
		t.Run(c.what, func(t *testing.T) {
			if r, err := decodeReservations(c.alter(bytes.Clone(whole))); err == nil {
				t.Errorf("read as %+v", r)
			}
		})
	}
}

// FuzzKeptReservations reads what may be none; what is accepted is written as the same bytes.
func FuzzKeptReservations(f *testing.F) {
	f.Add(encodeReservations(keptExample()))
	f.Add(make([]byte, keptHeadBytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeReservations(b)
		if err != nil {
			return
		}
		if again := encodeReservations(r); len(again) > 0 && !bytes.Equal(again, b) {
			t.Fatalf("%x was accepted, and is written as %x", b, again)
		}
	})
}
