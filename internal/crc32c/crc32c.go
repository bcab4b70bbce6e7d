// Package crc32c is the digest that NVMe/TCP and iSCSI put behind headers and data.
//
// Both mean the same: CRC32C, reflected, begun with ones and inverted at the end, its bytes sent as a little-endian number. TCP Transport
// Specification 1.0, "Data Integrity"; RFC 7143 section 13.1, "HeaderDigest and DataDigest".
package crc32c

import (
	"encoding/binary"
	"hash/crc32"
)

// Bytes is the length of a digest.
const Bytes = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Update continues the digest crc, which begins at 0, over b.
func Update(crc uint32, b []byte) uint32 { return crc32.Update(crc, castagnoli, b) }

// Read reads a digest from the first Bytes of b.
func Read(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }

// Append appends a digest to b.
func Append(b []byte, crc uint32) []byte { return binary.LittleEndian.AppendUint32(b, crc) }
