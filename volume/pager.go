package volume

import "github.com/pollux-storage/pollux/bdev"

// This file is how the reads of a page cache become requests to a pool's device: one request for each slot.

// devicePager reads from one device, on the reactor of the cache.
type devicePager struct {
	c        *pageCache
	channel  *bdev.Channel
	shift    uint // log2 of the device's block size
	requests []pageRequest
}

type pageRequest struct {
	q bdev.Request
	p *devicePager
	r *pageRead
}

// newDevicePager makes the pager of a cache for a device. It is closed when no read is in flight.
func newDevicePager(c *pageCache, channel *bdev.Channel) *devicePager {
	p := &devicePager{c: c, channel: channel, shift: channel.Geometry().Shift(), requests: make([]pageRequest, len(c.reads))}
	for i := range p.requests {
		p.requests[i].p = p
		p.requests[i].q.Kind, p.requests[i].q.Done = bdev.Read, &p.requests[i]
	}
	return p
}

func (p *devicePager) readPage(r *pageRead) {
	q := &p.requests[r.slot]
	q.r = r
	q.q.LBA, q.q.Blocks = r.place.Byte()>>p.shift, PageBytes>>p.shift
	q.q.SetData(r.data)
	p.channel.Submit(&q.q)
}

// RequestDone hears that a page was read, or could not be.
func (q *pageRequest) RequestDone(*bdev.Request) { q.p.c.readDone(q.r, q.q.Status) }

// close gives back what the requests hold of their reactor.
func (p *devicePager) close() {
	for i := range p.requests {
		p.requests[i].q.Release()
	}
}
