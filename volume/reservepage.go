package volume

// This file is the page that keeps the state of a volume's reservations, as the targets encode it: from byte 64 on, as many bytes as the
// header's Entries says.

// ReservationBytesMax is how long the state may be.
const ReservationBytesMax = contentBytes

// EncodeReservations fills a page and gives the CRC for who refers to it. Of h Pool, Volume and Stamp count.
func EncodeReservations(page, state []byte, h Header) (crc uint32) {
	page = page[:PageBytes]
	n := copy(page[headerBytes:], state)
	clear(page[headerBytes+n:])
	h.Kind, h.Level, h.Index, h.Entries = KindReservations, 0, 0, uint32(n)
	return h.seal(page)
}

// DecodeReservations gives the state in a page that was read, lent as long as the page is. Of w Pool, Volume and CRC count.
func DecodeReservations(page []byte, w Want) ([]byte, error) {
	w.Kind, w.Level, w.Index = KindReservations, 0, 0
	h, err := w.open(page)
	switch {
	case err != nil:
		return nil, err
	case h.Entries > ReservationBytesMax:
		return nil, w.fault("has a state of %d bytes", h.Entries)
	}
	return page[headerBytes : headerBytes+h.Entries], nil
}
