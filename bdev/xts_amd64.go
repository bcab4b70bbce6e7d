package bdev

import (
	"encoding/binary"
	"math/bits"

	"github.com/klauspost/cpuid/v2"
)

// This file is XTS-AES for processors with AES instructions, eight blocks at once. The standard library has these instructions too,
// but gives them out one block at a time.

// roundKeys are those of AES, FIPS 197 section 5.2, "KeyExpansion()", in the order of their use.
type roundKeys [15][xtsBlock]byte

// xtsFast is a data key as the instructions want it.
type xtsFast struct {
	rounds       uint64 // 10 or 14
	encode, undo roundKeys
}

// xtsGroup is what the instructions take at once, in bytes.
const xtsGroup = 8 * xtsBlock

var xtsInstructions = cpuid.CPU.Supports(cpuid.AESNI, cpuid.SSE4)

// ready expands the key, and reports whether the processor can use it.
func (f *xtsFast) ready(key []byte) bool {
	if !xtsInstructions {
		return false
	}
	words := len(key) / 4
	f.rounds = uint64(words) + 6
	var w [4 * len(f.encode)]uint32
	for i := range words {
		w[i] = binary.LittleEndian.Uint32(key[4*i:])
	}
	// Words are little-endian here: the first byte is the lowest, and RotWord goes to the right.
	constant := uint32(1)
	for i := words; i < 4*int(f.rounds+1); i++ {
		t := w[i-1]
		switch {
		case i%words == 0:
			t = subWord(bits.RotateLeft32(t, -8)) ^ constant
			constant = constant<<1 ^ 0x11b&-(constant>>7)
		case words > 6 && i%words == 4:
			t = subWord(t)
		}
		w[i] = w[i-words] ^ t
	}
	for i, v := range w {
		binary.LittleEndian.PutUint32(f.encode[i/4][i%4*4:], v)
	}
	clear(w[:])
	// FIPS 197 section 5.3.5, "Equivalent inverse cipher".
	last := int(f.rounds)
	f.undo[0], f.undo[last] = f.encode[last], f.encode[0]
	for i := 1; i < last; i++ {
		inverseMix(&f.undo[i], &f.encode[last-i])
	}
	return true
}

// encrypt encrypts whole groups; there is at least one.
func (f *xtsFast) encrypt(dst, src []byte, lo, hi uint64) (uint64, uint64) {
	_ = dst[len(src)-1]
	return xtsEncrypt(&f.encode, f.rounds, &dst[0], &src[0], uint64(len(src)/xtsGroup), lo, hi)
}

// decrypt decrypts whole groups; there is at least one.
func (f *xtsFast) decrypt(dst, src []byte, lo, hi uint64) (uint64, uint64) {
	_ = dst[len(src)-1]
	return xtsDecrypt(&f.undo, f.rounds, &dst[0], &src[0], uint64(len(src)/xtsGroup), lo, hi)
}

//go:noescape
func xtsEncrypt(keys *roundKeys, rounds uint64, dst, src *byte, groups, lo, hi uint64) (nextLo, nextHi uint64)

//go:noescape
func xtsDecrypt(keys *roundKeys, rounds uint64, dst, src *byte, groups, lo, hi uint64) (nextLo, nextHi uint64)

// subWord puts each byte of w through the S-box, without a table whose cache lines could tell the key.
func subWord(w uint32) uint32

//go:noescape
func inverseMix(dst, src *[xtsBlock]byte)
