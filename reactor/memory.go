package reactor

import (
	"math/bits"
	"unsafe"

	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is a reactor's memory for I/O: mapped outside the Go heap, so that the collector never looks at it, and registered
// with the ring, so that the kernel need not pin its pages at each operation.
//
//	address range, reserved at start, chunk by chunk backed by memory when first needed (backing.go)
//	├── chunk 0, 8 MiB: one registered buffer, hugepages if the system has them
//	│   ├── slab 0, 1 MiB: buffers of one size class
//	│   └── slab 7
//	└── chunk n
//
// A size class is a power of two from a page to a slab. A slab has a class as long as a buffer of it is out; a wholly free one
// is there for every class, but each class keeps one as long as no other needs it, so that taking and giving by turns does not
// move it to and fro. So both cost a few steps whatever the pool holds, and only slabs in use keep memory from another class.
// When they do, and someone waits, see waiter.go.

// Sizes of the pool.
const (
	PageBytes  = 4096
	BufferMax  = 1 << 20 // the largest buffer, and a slab
	ChunkBytes = 8 << 20 // memory is backed by so much at once

	chunkBytes = ChunkBytes

	pageShift     = 12
	classes       = 9 // 4 KiB … 1 MiB
	slabsPerChunk = chunkBytes / BufferMax
	pagesPerSlab  = BufferMax / PageBytes
	noClass       = 0xff
	noSlab        = -1
)

var _ = [1]struct{}{}[BufferMax-PageBytes<<(classes-1)] // the largest class is a slab
var _ = [1]struct{}{}[PageBytes-1<<pageShift]

// Memory is a reactor's pool of buffers. Only its reactor takes and gives.
type Memory struct {
	r *Reactor
	backing

	slabs   []slab
	partial [classes]int32 // by class: the first slab of those that have a free buffer
	kept    [classes]int32 // by class: the one of those that is wholly free, and is kept
	spare   int32          // the first slab of those that are wholly free and have no class

	waiting
	lenders   *Lender // a list of those who lend to hosts
	receiving int     // bytes that are receive buffers

	inUse    int
	peak     int
	takeouts uint64
	refusals uint64
}

// slab is one MiB, in the list of its class, in the list of spare ones, or (full or draining) in none.
type slab struct {
	class      uint8
	listed     bool
	used       uint16
	next, prev int32                     // in its list
	taken      [pagesPerSlab / 64]uint64 // by buffer: it is out
}

// MemoryStats is the state of a pool.
type MemoryStats struct {
	Limit, Ready, InUse, Peak int // bytes
	Takeouts, Retries         uint64
	Waiting                   int
	Registered                bool // all that is ready is registered with the ring
	HugeBytes                 int
	WhyPlain                  error // why not all that is ready is of hugepages, nil if it is
	WhyUnregistered           error // why not all that is ready is registered, nil if it is
}

func newMemory(r *Reactor, cfg *Config) (*Memory, error) {
	limit := (cfg.MemoryBytes + chunkBytes - 1) / chunkBytes * chunkBytes
	m := &Memory{r: r, spare: noSlab}
	m.waiting.draining = noSlab
	for c := range m.partial {
		m.partial[c], m.kept[c] = noSlab, noSlab
	}
	if err := m.backing.reserve(limit, cfg.plainMemory); err != nil {
		return nil, err
	}
	m.slabs = make([]slab, 0, limit/BufferMax)
	if err := m.grow(); err != nil {
		m.unmap()
		return nil, err
	}
	return m, nil
}

// grow adds a chunk of spare slabs.
func (m *Memory) grow() error {
	if err := m.backing.grow(m.r); err != nil {
		return err
	}
	for range slabsPerChunk {
		m.slabs = append(m.slabs, slab{class: noClass})
	}
	for i := len(m.slabs) - 1; i >= len(m.slabs)-slabsPerChunk; i-- {
		m.list(&m.spare, int32(i))
	}
	return nil
}

// classOf is the class whose buffers hold n bytes.
func classOf(n int) int {
	if n <= PageBytes {
		return 0
	}
	return bits.Len(uint(n-1)) - pageShift
}

// buffersOf is the number of buffers in a slab of class c.
func buffersOf(c int) int { return pagesPerSlab >> c }

// Get lends a buffer of n bytes, page-aligned, with the capacity of its class. Its content is whatever was there. It is nil
// when the pool is at its limit, or others wait for such a buffer already: then Await.
func (m *Memory) Get(n int) []byte {
	invariant.Check(n > 0 && n <= BufferMax, "reactor: buffer of a size that no pool has")
	c := classOf(n)
	i := m.partial[c]
	if m.waiters > 0 && !m.mayTake(c, i) || i == noSlab && !m.newSlab(c, &i) {
		m.refusals++
		m.refused = uint8(c)
		return nil
	}
	s := &m.slabs[i]
	if s.used == 0 {
		m.kept[c] = noSlab
	}
	k := s.firstFree()
	invariant.Check(k < buffersOf(c), "reactor: no free buffer in a slab that has one")
	s.taken[k/64] |= 1 << (k % 64)
	if s.used++; int(s.used) == buffersOf(c) {
		m.unlist(&m.partial[c], i)
	}
	size := PageBytes << c
	m.inUse += size
	m.peak = max(m.peak, m.inUse)
	m.takeouts++
	off := int(i)*BufferMax + k<<(pageShift+c)
	return m.pool[off : off+n : off+size]
}

// newSlab gives class c a slab that is wholly free: a spare one, one that another class keeps, or one of newly backed memory.
func (m *Memory) newSlab(c int, i *int32) bool {
	if m.spare == noSlab && !m.unkeep() && m.grow() != nil {
		return false
	}
	*i = m.spare
	m.unlist(&m.spare, *i)
	m.slabs[*i].class = uint8(c)
	m.list(&m.partial[c], *i)
	m.kept[c] = *i
	if m.spare == noSlab || m.slabs[m.spare].next == noSlab {
		m.backing.prepare() // one is left: let another thread back the next chunk meanwhile
	}
	return true
}

// unkeep makes a slab spare that a class keeps.
func (m *Memory) unkeep() bool {
	for c, i := range m.kept {
		if i != noSlab {
			m.kept[c] = noSlab
			m.unlist(&m.partial[c], i)
			m.free(i)
			return true
		}
	}
	return false
}

func (m *Memory) free(i int32) {
	m.slabs[i].class = noClass
	m.list(&m.spare, i)
}

func (s *slab) firstFree() int {
	for w := range &s.taken {
		if t := ^s.taken[w]; t != 0 {
			return w*64 + bits.TrailingZeros64(t)
		}
	}
	return pagesPerSlab
}

// Put takes back what Get lent.
func (m *Memory) Put(b []byte) {
	off := m.offset(b)
	invariant.Check(off < uintptr(m.ready), "reactor: buffer of another pool given back")
	i := int32(off / BufferMax)
	s := &m.slabs[i]
	invariant.Check(s.class != noClass, "reactor: buffer given back twice")
	c := int(s.class)
	size := PageBytes << c
	in := int(off % BufferMax)
	k := in >> (pageShift + c)
	invariant.Check(in == k<<(pageShift+c), "reactor: something else than a whole buffer given back")
	invariant.Check(s.taken[k/64]&(1<<(k%64)) != 0, "reactor: buffer given back twice")
	if invariant.Expensive {
		invariant.Check(!m.watch.holds(m.pool[off:int(off)+size]), "reactor: buffer given back that a card still reads or writes")
		poison(m.pool[off : int(off)+size])
	}
	s.taken[k/64] &^= 1 << (k % 64)
	s.used--
	m.inUse -= size
	if !s.listed && i != m.draining {
		m.list(&m.partial[c], i)
	}
	if s.used == 0 {
		m.emptied(i, c)
	}
	if m.waiters > 0 {
		m.wakeWaiters()
	}
}

// emptied hears that slab i, of class c, is wholly free.
func (m *Memory) emptied(i int32, c int) {
	switch {
	case i == m.draining:
		m.draining, m.drainFor = noSlab, nil
	case m.kept[c] == noSlab && m.waiters == 0:
		m.kept[c] = i
		return
	default:
		m.unlist(&m.partial[c], i)
	}
	m.free(i)
}

// poison makes a buffer that is used after it was given back show.
func poison(b []byte) {
	for i := range b {
		b[i] = 0xdb
	}
}

// list puts slab i at the head of a list.
func (m *Memory) list(head *int32, i int32) {
	s := &m.slabs[i]
	s.next, s.prev, s.listed = *head, noSlab, true
	if s.next != noSlab {
		m.slabs[s.next].prev = i
	}
	*head = i
}

func (m *Memory) unlist(head *int32, i int32) {
	s := &m.slabs[i]
	if s.prev == noSlab {
		*head = s.next
	} else {
		m.slabs[s.prev].next = s.next
	}
	if s.next != noSlab {
		m.slabs[s.next].prev = s.prev
	}
	s.listed = false
}

// offset is where b begins in the pool; past its end if elsewhere.
func (m *Memory) offset(b []byte) uintptr {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b))) - uintptr(unsafe.Pointer(unsafe.SliceData(m.pool)))
}

// Registered gives the index of the ring's registered buffer in which b lies.
func (m *Memory) Registered(b []byte) (index int, ok bool) {
	off := m.offset(b)
	return int(off / chunkBytes), off < uintptr(m.registered)
}

// Owns reports whether b lies in this pool.
func (m *Memory) Owns(b []byte) bool { return m.offset(b) < uintptr(m.ready) }

// Free is the number of bytes that are not lent. They need not lie together.
func (m *Memory) Free() int { return m.limit - m.inUse }

// Stats gives the pool's state.
func (m *Memory) Stats() MemoryStats {
	s := MemoryStats{
		Limit: m.limit, Ready: m.ready, InUse: m.inUse, Peak: m.peak,
		Takeouts: m.takeouts, Retries: m.refusals,
		Waiting:    m.waiters,
		Registered: m.registered == m.ready, WhyUnregistered: m.whyApart,
		HugeBytes: m.huge * chunkBytes,
	}
	if why := m.whyPlain.Load(); why != nil {
		s.WhyPlain = *why
	}
	return s
}
