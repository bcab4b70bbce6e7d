package bench

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
)

// This file is the content of a block written with Verify, version 1. Numbers are little-endian.
//
//	bytes   field
//	0–7     magic "PXBENCH1"; its last character is the version
//	8–15    seed of the run
//	16–23   LBA
//	24–27   generation: 1 for the first write of this LBA, one more for each further one
//	28–31   length of the block
//	32–35   CRC32C of the payload
//	36–39   CRC32C of bytes 0–35
//	40–end  payload, a function of seed, LBA and generation
//
// Every block of a request has a header of its own, so that a request of which only a part arrived is found out. The payload
// can be computed again, so that a wrong one is not only detected but described.
const (
	blockMagic  = "PXBENCH1"
	blockHeader = 40
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// writeBlock makes b the content of generation gen of lba.
func writeBlock(b []byte, seed, lba uint64, gen uint32) {
	fillPayload(b[blockHeader:], seed, lba, gen)
	writeHeader(b, seed, lba, gen)
}

func writeHeader(b []byte, seed, lba uint64, gen uint32) {
	copy(b, blockMagic)
	binary.LittleEndian.PutUint64(b[8:], seed)
	binary.LittleEndian.PutUint64(b[16:], lba)
	binary.LittleEndian.PutUint32(b[24:], gen)
	binary.LittleEndian.PutUint32(b[28:], uint32(len(b)))
	binary.LittleEndian.PutUint32(b[32:], crc32.Checksum(b[blockHeader:], castagnoli))
	binary.LittleEndian.PutUint32(b[36:], crc32.Checksum(b[:36], castagnoli))
}

// fillPayload is the sequence of SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014) from
// a state that the three numbers are mixed into.
func fillPayload(b []byte, seed, lba uint64, gen uint32) {
	x := mix64(seed ^ mix64(lba^mix64(uint64(gen)+goldenRatio)))
	for ; len(b) >= 8; b = b[8:] {
		x += goldenRatio
		binary.LittleEndian.PutUint64(b, mix64(x))
	}
}

const goldenRatio = 0x9e3779b97f4a7c15

func mix64(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// fault is what is wrong with a block that was read.
type fault uint8

const (
	faultNone      fault = iota
	faultZero            // zeros, where no trim may be seen
	faultForeign         // not a block of ours
	faultHeader          // the header's own checksum is wrong
	faultSeed            // of an earlier run
	faultMisplaced       // of another LBA
	faultStale           // a generation that later acknowledged writes replaced
	faultFuture          // a generation that was never written
	faultPayload         // the payload's checksum is wrong
	faultEnd
)

var faultNames = [faultEnd]string{"none", "zeros", "foreign", "header", "earlier run", "misplaced", "stale", "future", "payload"}

// String names the fault in one word, as the report's JSON does.
func (f fault) String() string { return faultNames[f] }

// header is a decoded block header.
type header struct {
	seed, lba    uint64
	gen, length  uint32
	payload, sum uint32
}

func readHeader(b []byte) (h header, f fault) {
	if string(b[:8]) != blockMagic {
		if isZero(b) {
			return h, faultZero
		}
		return h, faultForeign
	}
	h = header{
		seed: binary.LittleEndian.Uint64(b[8:]), lba: binary.LittleEndian.Uint64(b[16:]),
		gen: binary.LittleEndian.Uint32(b[24:]), length: binary.LittleEndian.Uint32(b[28:]),
		payload: binary.LittleEndian.Uint32(b[32:]), sum: binary.LittleEndian.Uint32(b[36:]),
	}
	if h.sum != crc32.Checksum(b[:36], castagnoli) || h.length != uint32(len(b)) {
		return h, faultHeader
	}
	return h, faultNone
}

func isZero(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
	}
	return true
}

// checkBlock judges b, read from lba, by what may be seen there: v is from before the read began, e as it is now.
func checkBlock(b []byte, seed, lba uint64, v *view, e *entry) fault {
	if v.allows(0) {
		return faultNone // never written: whatever was there before the run may still be
	}
	h, f := readHeader(b)
	switch {
	case f == faultZero && e.mayBeTrimmed(v):
		return faultNone
	case f != faultNone:
		return f
	case h.seed != seed:
		return faultSeed
	case h.lba != lba:
		return faultMisplaced
	case h.gen > e.newest:
		return faultFuture
	case h.payload != crc32.Checksum(b[blockHeader:], castagnoli):
		return faultPayload // before the generation: what is torn may well carry an old header
	case h.gen <= v.newest && !v.allows(h.gen):
		return faultStale
	}
	return faultNone
}

// describe says in words what is wrong with b. It is for people, and takes its time.
func describe(b []byte, f fault, seed, lba uint64, v *view, e *entry) string {
	h, _ := readHeader(b)
	want := "expected generation " + v.String()
	switch f {
	case faultZero:
		return "zeros: a write was lost; " + want
	case faultForeign:
		return fmt.Sprintf("foreign: no block of this program, it begins with % x; %s", b[:16], want)
	case faultHeader, faultPayload:
		return f.String() + " damaged: " + describeDamage(b, seed, lba, v, e) + "; " + want
	case faultSeed:
		return fmt.Sprintf("of an earlier run: seed %#x instead of %#x; %s", h.seed, seed, want)
	case faultMisplaced:
		return fmt.Sprintf("misplaced: generation %d of LBA %d lies here; %s", h.gen, h.lba, want)
	case faultStale:
		return fmt.Sprintf("stale: generation %d; %s", h.gen, want)
	case faultFuture:
		return fmt.Sprintf("generation %d, and the newest written is %d; %s", h.gen, e.newest, want)
	}
	return f.String()
}

// tornUnit is the smallest piece that disks write whole.
const tornUnit = 512

// describeDamage compares b with all generations that may have been written there, and tells which it is, or of which it is
// pieced together.
func describeDamage(b []byte, seed, lba uint64, v *view, e *entry) string {
	first := uint32(1)
	if e.newest > maskBits {
		first = e.newest - maskBits
	}
	whole := make([]byte, len(b))
	pieces := make([]uint32, len(b)/tornUnit) // by unit: the generation it belongs to, 0 for none
	var best string
	bestBits := len(b) // the fewest wrong bits of all generations, if few
	for gen := e.newest; gen >= first; gen-- {
		writeBlock(whole, seed, lba, gen)
		wrong, at := 0, -1
		for i := range b {
			if x := b[i] ^ whole[i]; x != 0 {
				if at < 0 {
					at = i
				}
				wrong += bits.OnesCount8(x)
			}
		}
		if wrong < bestBits {
			bestBits = wrong
			best = fmt.Sprintf("%d wrong bits of generation %d, the first in byte %d", wrong, gen, at)
		}
		for i := range pieces {
			if pieces[i] == 0 && string(b[i*tornUnit:(i+1)*tornUnit]) == string(whole[i*tornUnit:(i+1)*tornUnit]) {
				pieces[i] = gen
			}
		}
	}
	if bestBits <= 64 {
		return best
	}
	text, torn := "torn:", false
	for i := 0; i < len(pieces); {
		n := i
		for n < len(pieces) && pieces[n] == pieces[i] {
			n++
		}
		torn = torn || n-i < len(pieces)
		if pieces[i] == 0 {
			text += fmt.Sprintf(" bytes %d–%d unknown,", i*tornUnit, n*tornUnit-1)
		} else {
			text += fmt.Sprintf(" bytes %d–%d generation %d,", i*tornUnit, n*tornUnit-1, pieces[i])
		}
		i = n
	}
	if !torn {
		return "like no generation written there"
	}
	return text[:len(text)-1]
}
