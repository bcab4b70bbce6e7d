package bdev

import "bytes"

// This file is about memory in pieces: vec is a list of pieces, at a byte offset in all of them together.

func bytesOf(vec [][]byte) int {
	n := 0
	for _, b := range vec {
		n += len(b)
	}
	return n
}

// scatter copies b to vec, from at on.
func scatter(vec [][]byte, at uint64, b []byte) {
	for _, p := range vec {
		if at >= uint64(len(p)) {
			at -= uint64(len(p))
			continue
		}
		b = b[copy(p[at:], b):]
		if at = 0; len(b) == 0 {
			return
		}
	}
}

// gather fills b from vec, from at on.
func gather(b []byte, vec [][]byte, at uint64) {
	for _, p := range vec {
		if at >= uint64(len(p)) {
			at -= uint64(len(p))
			continue
		}
		b = b[copy(b, p[at:]):]
		if at = 0; len(b) == 0 {
			return
		}
	}
}

// miscompare compares b with vec from at on, and gives the offset in vec of the first byte that differs, -1 if none does.
func miscompare(b []byte, vec [][]byte, at uint64) int {
	skip, passed := at, uint64(0)
	for _, p := range vec {
		if skip >= uint64(len(p)) {
			skip -= uint64(len(p))
			passed += uint64(len(p))
			continue
		}
		n := min(len(b), len(p)-int(skip))
		if x, y := b[:n], p[skip:int(skip)+n]; !bytes.Equal(x, y) {
			for i := range x {
				if x[i] != y[i] {
					return int(passed+skip) + i
				}
			}
		}
		if b = b[n:]; len(b) == 0 {
			break
		}
		passed += uint64(len(p))
		skip = 0
	}
	return -1
}
