package bdevtest

import (
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// Cache is a device in memory with a volatile cache, whose power can be cut. It takes its time: requests are done a little
// later, in another order than they came in, and a flush covers what had completed when it was submitted, no more.
//
// It serves tests, so one lock for all reactors will do.
type Cache struct {
	mu      sync.Mutex
	shift   uint
	now     []byte // what is read
	durable []byte // what a power failure leaves
	dirty   map[uint64]bool
	flushes int
	failing bool // flushes fail
}

// CacheOptions say what such a device does by itself.
type CacheOptions struct {
	BlockSize uint32
	Native    bdev.KindSet // besides Read, Write and Flush
	FUA       bdev.KindSet
}

// NewCache registers one of Bytes bytes.
func NewCache(g *bdev.Registry, name string, o CacheOptions) (*bdev.Device, error) {
	geometry := bdev.Geometry{
		BlockSize: o.BlockSize, Blocks: uint64(Bytes / o.BlockSize), Volatile: true, UnmapZeroes: true,
		Native: o.Native | bdev.SetOf(bdev.Read, bdev.Write, bdev.Flush), NativeFUA: o.FUA,
	}
	c := &Cache{shift: geometry.Shift(), now: make([]byte, Bytes), durable: make([]byte, Bytes), dirty: map[uint64]bool{}}
	d, err := g.Register(bdev.Config{Name: name, Product: "volatile memory", UUID: uuid.New(), Geometry: geometry, Driver: c})
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	return d, nil
}

// Crash cuts the power: what was not durable is lost.
func (c *Cache) Crash() {
	c.mu.Lock()
	defer c.mu.Unlock()
	copy(c.now, c.durable)
	clear(c.dirty)
}

// Flushes counts the flushes that reached the device.
func (c *Cache) Flushes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flushes
}

// FailFlushes lets flushes fail, or not any more.
func (c *Cache) FailFlushes(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failing = yes
}

// Describe tells nothing more.
func (c *Cache) Describe() any { return nil }

// Close has nothing to release.
func (c *Cache) Close() error { return nil }

// Open gives the queue of one reactor.
func (c *Cache) Open(r *reactor.Reactor) (bdev.Queue, error) {
	return &cacheQueue{c: c, r: r, random: rand.New(rand.NewPCG(uint64(r.Index()), 5))}, nil
}

type cacheQueue struct {
	c      *Cache
	r      *reactor.Reactor
	open   []cached
	spare  [][]uint64 // for the dirty blocks of a flush
	timer  reactor.Timer
	random *rand.Rand
}

// cached is a request that was submitted. A flush makes durable what was dirty when it came.
type cached struct {
	q     *bdev.Request
	dirty []uint64
}

func (c *cacheQueue) Close() {}

func (c *cacheQueue) Submit(q *bdev.Request) {
	e := cached{q: q}
	if q.Kind == bdev.Flush {
		if n := len(c.spare); n > 0 {
			e.dirty = c.spare[n-1][:0]
			c.spare = c.spare[:n-1]
		}
		c.c.mu.Lock()
		for b := range c.c.dirty {
			e.dirty = append(e.dirty, b)
		}
		c.c.mu.Unlock()
	}
	c.open = append(c.open, e)
	if !c.timer.Set() {
		c.r.SetTimer(&c.timer, c.r.Now()+reactor.Microsecond, c)
	}
}

// Run does about half of what is open.
func (c *cacheQueue) Run() {
	for n := len(c.open)/2 + 1; n > 0 && len(c.open) > 0; n-- {
		i := c.random.IntN(len(c.open))
		e := c.take(i)
		s := c.c.do(e)
		c.free(e)
		e.q.Complete(s)
	}
	if len(c.open) > 0 && !c.timer.Set() {
		c.r.SetTimer(&c.timer, c.r.Now()+reactor.Microsecond, c)
	}
}

func (c *cacheQueue) free(e cached) {
	if e.dirty != nil {
		c.spare = append(c.spare, e.dirty)
	}
}

func (c *cacheQueue) take(i int) cached {
	e := c.open[i]
	last := len(c.open) - 1
	c.open[i] = c.open[last]
	c.open[last] = cached{}
	c.open = c.open[:last]
	return e
}

// Abort ends what was not done yet.
func (c *cacheQueue) Abort(q *bdev.Request) bool {
	for i := range c.open {
		if c.open[i].q == q {
			c.free(c.take(i))
			q.CompleteLater(bdev.StatusAborted)
			return true
		}
	}
	return false
}

func (c *Cache) do(e cached) bdev.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := e.q
	at := q.LBA << c.shift
	switch q.Kind {
	case bdev.Read:
		for _, b := range q.Data {
			at += uint64(copy(b, c.now[at:]))
		}
		c.settle(q)
	case bdev.Write:
		c.write(q, q.Data)
	case bdev.WriteZeroes, bdev.Unmap:
		clear(c.now[at:][:q.Blocks<<c.shift])
		c.mark(q)
	case bdev.Compare, bdev.CompareAndWrite:
		from := at
		for _, b := range q.Data {
			for i := range b {
				if c.now[at] != b[i] {
					q.Detail = uint32(at - from)
					return bdev.StatusMiscompare
				}
				at++
			}
		}
		c.settle(q)
		if q.Kind == bdev.CompareAndWrite {
			c.write(q, q.Data2)
		}
	case bdev.Copy:
		copy(c.now[at:], c.now[q.LBA2<<c.shift:][:q.Blocks<<c.shift])
		c.mark(q)
	case bdev.Flush:
		c.flushes++
		if c.failing {
			return bdev.StatusIO
		}
		for _, b := range e.dirty {
			c.keep(b)
		}
	}
	return bdev.StatusOK
}

func (c *Cache) write(q *bdev.Request, data [][]byte) {
	at := q.LBA << c.shift
	for _, b := range data {
		at += uint64(copy(c.now[at:], b))
	}
	c.mark(q)
}

// mark notes the blocks of a request as dirty, or makes them durable.
func (c *Cache) mark(q *bdev.Request) {
	for b := q.LBA; b < q.LBA+q.Blocks; b++ {
		if c.dirty[b] = true; q.FUA {
			c.keep(b)
		}
	}
}

// settle makes durable what was read with FUA.
func (c *Cache) settle(q *bdev.Request) {
	for b := q.LBA; q.FUA && b < q.LBA+q.Blocks; b++ {
		c.keep(b)
	}
}

func (c *Cache) keep(block uint64) {
	at, end := block<<c.shift, (block+1)<<c.shift
	copy(c.durable[at:end], c.now[at:end])
	delete(c.dirty, block)
}
