package volume

import (
	"bytes"
	"unsafe"
)

// This file is what tests fill pages with, and how they read it: many pages at a time, and no loop that the race detector would follow word by word.

// fillWord fills b with a word, again and again.
func fillWord(b []byte, w uint64) {
	le.PutUint64(b, w)
	for n := 8; n < len(b); n *= 2 {
		copy(b[n:], b[:n])
	}
}

// isOneWord reports whether b is one word again and again: each byte is the same as that one word behind it.
func isOneWord(b []byte) bool { return bytes.Equal(b[8:], b[:len(b)-8]) }

// fillCounting fills whole pages with words that no other word is equal to, and gives the last. They are made on the stack.
func fillCounting(b []byte, last uint64) uint64 {
	var words [PageBytes / 8]uint64
	page := unsafe.Slice((*byte)(unsafe.Pointer(&words)), PageBytes)
	for ; len(b) > 0; b = b[copy(b, page):] {
		for i := range words {
			last++
			words[i] = last
		}
	}
	return last
}
