package bdev

// This file is what a channel does for drivers that cannot: FUA by a flush after the write, and a flush of a device that has
// nothing to flush.

// emulated reports whether the channel can serve kind k on a device of geometry g whose driver does not.
func emulated(g *Geometry, k Kind) bool {
	switch k {
	case Reset:
		return true
	case Flush:
		return !g.Volatile
	}
	return false
}

// emulate serves a request that the driver does not.
func (c *Channel) emulate(q *Request) {
	switch q.Kind {
	case Flush:
		q.CompleteLater(StatusOK)
	default:
		q.CompleteLater(StatusNotSupported)
	}
}
