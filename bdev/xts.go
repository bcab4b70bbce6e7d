package bdev

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
)

// This file is XTS-AES: IEEE 1619-2018 section 5, "XTS-AES transform", for data units that are whole numbers of AES blocks, which
// blocks of a device always are.
//
//	T     = AES(key2, tweak)             one per data unit, then doubled in GF(2^128) from block to block
//	C[j]  = AES(key1, P[j] ^ T[j]) ^ T[j]
//
// golang.org/x/crypto/xts takes a number that becomes the first half of the tweak and nothing else; SPDK's tweak has it in the
// other half (tweak.of). That package also works byte by byte where this does it in two words, and takes twice the time; with the
// processor's own instructions for eight blocks at once (xts_amd64.go) it would take many times as long.

// XTSKey is a pair of keys made ready. It does not show what they were. All reactors may use one.
type XTSKey struct {
	data, tweak cipher.Block
	fast        *xtsFast // data for eight blocks at once; nil if the processor cannot
}

// NewXTSKey makes a key from its halves, both of 16 or both of 32 bytes. They must differ: IEEE 1619-2018 section 5.1 and
// NIST's SP 800-38E; equal ones would let an attacker who chooses data learn from the ciphertext.
func NewXTSKey(key, key2 []byte) (*XTSKey, error) {
	switch {
	case len(key) != 16 && len(key) != 32:
		return nil, fmt.Errorf("%w: an AES-XTS key of %d bytes: its halves have 16 bytes each, or 32", ErrInvalid, len(key))
	case len(key2) != len(key):
		return nil, fmt.Errorf("%w: the halves of an AES-XTS key have %d and %d bytes: they must be of one length", ErrInvalid, len(key), len(key2))
	case bytes.Equal(key, key2):
		return nil, fmt.Errorf("%w: the halves of an AES-XTS key are the same: that is not secure, choose two", ErrInvalid)
	}
	data, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	tweak, err := aes.NewCipher(key2)
	if err != nil {
		return nil, err
	}
	k := &XTSKey{data: data, tweak: tweak, fast: new(xtsFast)}
	if !k.fast.ready(key) {
		k.fast = nil
	}
	return k, nil
}

const xtsBlock = aes.BlockSize

// tweak is where a tweak is encrypted. It is no local variable, because what is given to a cipher.Block goes to the heap.
type tweak [xtsBlock]byte

// of makes it the tweak of a device's block as SPDK's software module forms it in the mode SIMPLE_LBA: eight zeros, then the LBA in
// little-endian order (lib/accel/accel_sw.c, _sw_accel_crypto_operation). Linux' dm-crypt and IEEE 1619 itself would have the
// number first, and so has SPDK's module for DPDK's devices.
func (t *tweak) of(lba uint64) {
	binary.LittleEndian.PutUint64(t[:8], 0)
	binary.LittleEndian.PutUint64(t[8:], lba)
}

// start encrypts the tweak and gives it as two words.
func (k *XTSKey) start(t *tweak) (lo, hi uint64) {
	k.tweak.Encrypt(t[:], t[:])
	return binary.LittleEndian.Uint64(t[:8]), binary.LittleEndian.Uint64(t[8:])
}

// double multiplies the tweak by alpha: section 5.2, "Multiplication by a primitive element alpha".
func double(lo, hi uint64) (uint64, uint64) {
	carry := hi >> 63
	return lo<<1 ^ 0x87&-carry, hi<<1 | lo>>63
}

// xor puts src xor the tweak into dst.
func xor(dst, src []byte, lo, hi uint64) {
	_, _ = dst[xtsBlock-1], src[xtsBlock-1]
	a, b := binary.LittleEndian.Uint64(src)^lo, binary.LittleEndian.Uint64(src[8:])^hi
	binary.LittleEndian.PutUint64(dst, a)
	binary.LittleEndian.PutUint64(dst[8:], b)
}

// encrypt encrypts one data unit into dst, which is src or does not overlap it. The tweak is used up.
func (k *XTSKey) encrypt(dst, src []byte, t *tweak) {
	lo, hi := k.start(t)
	if n := len(src) &^ (xtsGroup - 1); n > 0 && k.fast != nil {
		lo, hi = k.fast.encrypt(dst[:n], src[:n], lo, hi)
		dst, src = dst[n:], src[n:]
	}
	for ; len(src) >= xtsBlock; dst, src = dst[xtsBlock:], src[xtsBlock:] {
		d := dst[:xtsBlock:xtsBlock]
		xor(d, src, lo, hi)
		k.data.Encrypt(d, d)
		xor(d, d, lo, hi)
		lo, hi = double(lo, hi)
	}
}

// decrypt decrypts one data unit, as encrypt encrypts it.
func (k *XTSKey) decrypt(dst, src []byte, t *tweak) {
	lo, hi := k.start(t)
	if n := len(src) &^ (xtsGroup - 1); n > 0 && k.fast != nil {
		lo, hi = k.fast.decrypt(dst[:n], src[:n], lo, hi)
		dst, src = dst[n:], src[n:]
	}
	for ; len(src) >= xtsBlock; dst, src = dst[xtsBlock:], src[xtsBlock:] {
		d := dst[:xtsBlock:xtsBlock]
		xor(d, src, lo, hi)
		k.data.Decrypt(d, d)
		xor(d, d, lo, hi)
		lo, hi = double(lo, hi)
	}
}
