package volume

import (
	"math/bits"

	"github.com/google/uuid"
)

// This file is one side of a bitmap page: 504 words of 64 bits, bit i of word w for page 64·w + i of those that it covers. The header's
// Entries is the number of ones, its stamp the generation of the commit that wrote it.
//
// No Ref leads to a side. What it is known by is the pool's UUID in its header (another pool may have stood on this device), its
// generation, and the sum of CRCs in the slot.

const wordsPerPage = bitsPerPage / 64

// encodeBitmap fills a page with a side and gives its CRC.
func encodeBitmap(page []byte, words []uint64, pool uuid.UUID, index uint64, g Generation) (crc uint32) {
	page = page[:PageBytes]
	ones := 0
	for i := range wordsPerPage {
		w := uint64(0)
		if i < len(words) {
			w = words[i]
		}
		ones += bits.OnesCount64(w)
		le.PutUint64(page[headerBytes+8*i:], w)
	}
	h := Header{Kind: KindBitmap, Pool: pool, Index: index, Stamp: StampGeneration(g), Entries: uint32(ones)}
	return h.seal(page)
}

// checkBitmap checks a side that was read and gives its generation and CRC.
func checkBitmap(page []byte, pool uuid.UUID, index uint64) (Generation, uint32, error) {
	w := Want{Kind: KindBitmap, Pool: pool, Index: index}
	h, err := w.identify(page)
	if err != nil {
		return 0, 0, err
	}
	ones := 0
	for i := range wordsPerPage {
		ones += bits.OnesCount64(bitmapWord(page, i))
	}
	switch {
	case h.Stamp.Generation() == 0:
		return 0, 0, w.fault("has the generation 0")
	case uint32(ones) != h.Entries:
		return 0, 0, w.fault("has %d ones and says %d", ones, h.Entries)
	}
	return h.Stamp.Generation(), le.Uint32(page[4:]), nil
}

func bitmapWord(page []byte, i int) uint64 { return le.Uint64(page[headerBytes+8*i:]) }
