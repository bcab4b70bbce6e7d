package volume

// This file is pages whose content is 252 references: index pages of a map, both levels of the directory, the top of the snapshots.

// RefsMax is how many references a page holds.
const RefsMax = contentBytes / refBytes

// RefAt gives the i-th reference of a page, zero if there is none.
func RefAt(page []byte, i int) Ref {
	return decodeRef(page[headerBytes+i*refBytes : headerBytes+(i+1)*refBytes])
}

// SetRef changes the i-th reference. The page must be sealed before it is written.
func SetRef(page []byte, i int, r Ref) {
	r.encode(page[headerBytes+i*refBytes : headerBytes+(i+1)*refBytes])
}

// SealRefs makes a page of references ready to be written; Entries is counted. It gives the CRC for who refers to it.
func SealRefs(page []byte, h Header) (crc uint32) {
	h.Entries = 0
	for i := range RefsMax {
		if !RefAt(page, i).IsZero() {
			h.Entries++
		}
	}
	return h.seal(page)
}

// OpenRefs checks a page of references that was read.
func OpenRefs(page []byte, w *Want) (Header, error) {
	h, err := w.open(page)
	if err != nil {
		return h, err
	}
	n := uint32(0)
	for i := range RefsMax {
		r := RefAt(page, i)
		if uint64(r.Place) >= w.Pages {
			return h, w.fault("refers to place %d, and the pool has %d pages", r.Place, w.Pages)
		}
		if !r.IsZero() {
			n++
		}
	}
	if n != h.Entries {
		return h, w.fault("has %d references and says %d", n, h.Entries)
	}
	return h, nil
}
