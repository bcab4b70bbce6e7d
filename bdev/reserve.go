package bdev

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is where an emulation gets its buffer. Usually that is the reactor's pool. When the pool is at its limit, all of
// it may be lent to the very requests that wait here, so waiting for the pool alone could last for ever. Therefore every
// reactor has, for every layer of devices, one buffer that is lent to one request of that layer at a time, first come, first
// served. Who holds it needs only what the layers below do, and they have reserves of their own: so it ends, and the next
// one goes on.

// reserve is the buffer of one layer on one reactor.
type reserve struct {
	buf     []byte
	lent    bool
	waiting RequestList
}

// reserves are those of one reactor, by the number of devices below.
type reserves [layersMax]reserve

// provide makes the reserve of a layer. Until it is used it costs addresses only.
func (g *Registry) provide(r *reactor.Reactor, layer int) error {
	v := &g.reserves[r.Index()][layer]
	if v.buf != nil {
		return nil
	}
	b, err := unix.Mmap(-1, 0, stepBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("mapping %d bytes for a buffer in reserve: %w", stepBytes, err)
	}
	v.buf = b
	return nil
}

func (c *Channel) reserve() *reserve { return &c.d.registry.reserves[c.r.Index()][c.d.layers] }

// borrow gets the buffer of a request that is ready but for that, and begins its steps, now or later.
func (c *Channel) borrow(q *Request, f *frame) {
	shift := c.g.Shift()
	n := int(min(f.blocks, uint64(c.g.MaxBlocks), stepBytes>>shift) << shift)
	v := c.reserve()
	f.more.buf = c.r.Memory().Get(n)
	if f.more.buf == nil {
		if v.lent {
			f.held = holdMemory
			v.waiting.Push(q)
			return
		}
		v.lent = true
		f.more.buf = v.buf[:n]
	}
	c.begins(q, f)
}

// giveBack returns a buffer and lets the next go on who waits for the reserve.
func (c *Channel) giveBack(b []byte) {
	v := c.reserve()
	if &b[0] != &v.buf[0] {
		c.r.Memory().Put(b)
		return
	}
	invariant.Check(v.lent, "bdev: reserve given back twice")
	v.lent = false
	for !v.lent && v.waiting.n > 0 {
		q := v.waiting.Pop()
		f := q.Frame()
		f.held = holdNone
		f.c.borrow(q, f)
	}
}

// forget takes a request out of those that wait for a buffer.
func (c *Channel) forget(q *Request) {
	q.Frame().held = holdNone
	c.reserve().waiting.Remove(q)
}

// zeros is written in the place of zeroes. It can only be read: a driver that writes to the memory of a write is found out.
// All of it is the kernel's one page of zeros.
var zeros = func() []byte {
	b, err := unix.Mmap(-1, 0, reactor.BufferMax, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		panic(fmt.Sprintf("bdev: mapping a buffer of zeros: %v", err))
	}
	return b
}()
