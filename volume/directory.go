package volume

import "github.com/google/uuid"

// This file is the directory's arithmetic. Its pages are pages of references (refs.go): the top page (level 1, index 0) refers to directory
// pages (level 0), and those to volume pages. A volume keeps its position for life; at a position without volume the reference is zero.

// VolumesMax is how many volumes a pool can hold.
const VolumesMax = RefsMax * RefsMax

// DirectoryAt says where a position is: in which directory page, and where in that.
func DirectoryAt(position uint64) (page uint64, ref int) {
	return position / RefsMax, int(position % RefsMax)
}

// directoryHeader is that of the top page or of a directory page.
func directoryHeader(pool uuid.UUID, level uint8, index uint64, g Generation) Header {
	return Header{Kind: KindDirectory, Level: level, Pool: pool, Index: index, Stamp: StampGeneration(g)}
}

// SealDirectoryTop makes the top page ready to be written.
func SealDirectoryTop(page []byte, pool uuid.UUID, g Generation) (crc uint32) {
	return SealRefs(page, directoryHeader(pool, 1, 0, g))
}

// SealDirectory makes a directory page ready to be written.
func SealDirectory(page []byte, pool uuid.UUID, index uint64, g Generation) (crc uint32) {
	return SealRefs(page, directoryHeader(pool, 0, index, g))
}

// OpenDirectoryTop checks a top page that was read. pages is how many the pool has.
func OpenDirectoryTop(page []byte, pool uuid.UUID, crc uint32, pages uint64) (Header, error) {
	return OpenRefs(page, &Want{Kind: KindDirectory, Level: 1, Pool: pool, CRC: crc, Pages: pages})
}

// OpenDirectory checks a directory page that was read.
func OpenDirectory(page []byte, pool uuid.UUID, index uint64, crc uint32, pages uint64) (Header, error) {
	return OpenRefs(page, &Want{Kind: KindDirectory, Pool: pool, Index: index, CRC: crc, Pages: pages})
}
