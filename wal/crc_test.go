package wal

import (
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// TestTheChecksumOfChecksums is that of their bytes.
func TestTheChecksumOfChecksums(t *testing.T) {
	crcs := []uint32{0, 1, 0xdeadbeef, 0xffffffff, 0x80000000}
	var bytes []byte
	for i := range crcs {
		if got, want := crcOfCRCs(crcs[:i]), crc32.Checksum(bytes, castagnoli); got != want {
			t.Errorf("of %d: %08x, want %08x", i, got, want)
		}
		bytes = binary.LittleEndian.AppendUint32(bytes, crcs[i])
	}
}
