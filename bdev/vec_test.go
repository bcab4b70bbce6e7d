package bdev

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// pieces cuts b into some.
func pieces(t *rapid.T, b []byte) [][]byte {
	var vec [][]byte
	for len(b) > 0 {
		n := rapid.IntRange(0, len(b)).Draw(t, "piece")
		vec = append(vec, b[:n:n])
		b = b[n:]
	}
	return vec
}

func TestPiecesAreOneArray(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "whole")
		flat := bytes.Clone(whole)
		vec := pieces(t, flat)
		if bytesOf(vec) != len(whole) {
			t.Fatalf("%d bytes in pieces of %d", bytesOf(vec), len(whole))
		}
		at := rapid.IntRange(0, len(whole)-1).Draw(t, "at")
		n := rapid.IntRange(0, len(whole)-at).Draw(t, "n")

		got := make([]byte, n)
		gather(got, vec, uint64(at))
		if !bytes.Equal(got, whole[at:at+n]) {
			t.Fatalf("gathered %v of %v at %d", got, whole, at)
		}
		if i := miscompare(got, vec, uint64(at)); i >= 0 {
			t.Fatalf("equal, and said to differ at %d", i)
		}
		if n > 0 {
			k := rapid.IntRange(0, n-1).Draw(t, "differs")
			got[k]++
			if i := miscompare(got, vec, uint64(at)); i != at+k {
				t.Fatalf("differs at %d, said %d", at+k, i)
			}
			got[k]--
		}
		b := rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "b")
		scatter(vec, uint64(at), b)
		copy(whole[at:], b)
		if !bytes.Equal(bytes.Join(vec, nil), whole) {
			t.Fatalf("scattered %v at %d: %v, want %v", b, at, flat, whole)
		}

		var w uringLong
		w.done = at
		sum := 0
		for _, v := range w.vector(vec) {
			if *v.Base != whole[at+sum] || v.Len == 0 {
				t.Fatalf("a vector from %d on begins elsewhere, or has an empty piece", at)
			}
			sum += int(v.Len)
		}
		if sum != len(whole)-at {
			t.Fatalf("a vector of %d bytes for the last %d", sum, len(whole)-at)
		}
	})
}
