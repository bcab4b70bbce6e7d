package reactor

import (
	"fmt"
	"math/bits"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is a reactor's memory for I/O: mapped outside the Go heap, so that the collector never looks at it, and registered
// with the ring, so that the kernel need not pin its pages at each operation.
//
//	address range, reserved at start, chunk by chunk backed by memory when first needed
//	├── chunk 0, 8 MiB: one registered buffer, hugepages if the system has them
//	│   ├── slab 0, 1 MiB: buffers of one size class
//	│   └── slab 7
//	└── chunk n
//
// A size class is a power of two from a page to a slab. A slab that is wholly free may change its class, so that memory
// used for small buffers is there for large ones later.

// Sizes of the pool.
const (
	PageBytes  = 4096
	BufferMax  = 1 << 20 // the largest buffer, and a slab
	chunkBytes = 8 << 20

	classes       = 9 // 4 KiB … 1 MiB
	slabsPerChunk = chunkBytes / BufferMax
	pagesPerSlab  = BufferMax / PageBytes
	noClass       = 0xff
)

var _ = [1]struct{}{}[BufferMax-PageBytes<<(classes-1)] // the largest class is a slab

// Memory is a reactor's pool of buffers. Only its reactor takes and gives.
type Memory struct {
	r     *Reactor
	base  []byte // the reserved range
	pool  []byte // limit bytes of it, from a hugepage's start
	ready int    // bytes of pool backed by memory
	limit int
	fixed bool // chunks are registered with the ring
	huge  int  // chunks backed by hugepages

	free  [classes][]uint32 // by class: buffers, as page numbers from base
	slabs []slab
	spare []uint32 // slabs without a class

	waiters  waiterList
	wakeup   Deferred
	inUse    int
	peak     int
	retries  uint64
	takeouts uint64
}

type slab struct {
	class uint8
	used  uint16
	taken [pagesPerSlab / 64]uint64 // by page: the first page of a buffer that is out
}

// MemoryStats is the state of a pool.
type MemoryStats struct {
	Limit, Ready, InUse, Peak int // bytes
	Takeouts, Retries         uint64
	Waiting                   int
	Registered                bool
	HugeChunks                int
}

func newMemory(r *Reactor, cfg *Config) (*Memory, error) {
	limit := (cfg.MemoryBytes + chunkBytes - 1) / chunkBytes * chunkBytes
	base, err := unix.Mmap(-1, 0, limit+hugeBytes, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("reserving %d MiB of addresses for buffers: %w", limit>>20, err)
	}
	m := &Memory{r: r, base: base, limit: limit, fixed: r.tables}
	skip := -int(uintptr(unsafe.Pointer(&base[0]))) & (hugeBytes - 1)
	m.pool = base[skip : skip+limit : skip+limit]
	m.slabs = make([]slab, 0, limit/BufferMax)
	m.spare = make([]uint32, 0, limit/BufferMax)
	if !m.grow() {
		m.unmap()
		return nil, fmt.Errorf("mapping %d MiB for buffers: out of memory", chunkBytes>>20)
	}
	return m, nil
}

const hugeBytes = 2 << 20

// grow backs the next chunk with memory.
func (m *Memory) grow() bool {
	if m.ready+chunkBytes > m.limit {
		return false
	}
	chunk := m.pool[m.ready : m.ready+chunkBytes : m.ready+chunkBytes]
	const prot, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED
	at := unsafe.Pointer(&chunk[0])
	if _, err := unix.MmapPtr(-1, 0, at, chunkBytes, prot, flags|unix.MAP_HUGETLB|unix.MAP_POPULATE); err == nil {
		m.huge++
	} else {
		if _, err := unix.MmapPtr(-1, 0, at, chunkBytes, prot, flags); err != nil {
			return false
		}
		_ = unix.Madvise(chunk, unix.MADV_HUGEPAGE)
	}
	// Registered memory counts against RLIMIT_MEMLOCK: past it the pool works on, without.
	if m.fixed && m.r.ring.SetBuffer(m.ready/chunkBytes, chunk) != nil {
		m.fixed = false
	}
	for i := 0; i < slabsPerChunk; i++ {
		m.spare = append(m.spare, uint32(len(m.slabs)))
		m.slabs = append(m.slabs, slab{class: noClass})
	}
	m.ready += chunkBytes
	return true
}

func (m *Memory) unmap() {
	_ = unix.Munmap(m.base)
	m.base = nil
}

// classOf is the class whose buffers hold n bytes.
func classOf(n int) int {
	if n <= PageBytes {
		return 0
	}
	return bits.Len(uint(n-1)) - 12
}

// Get lends a buffer of n bytes, page-aligned, with the capacity of its class. Its content is whatever was there. It is nil
// when the pool is at its limit: then Await.
func (m *Memory) Get(n int) []byte {
	invariant.Check(n > 0 && n <= BufferMax, "reactor: buffer of a size that no pool has")
	c := classOf(n)
	if len(m.free[c]) == 0 && !m.carve(c) {
		m.retries++
		return nil
	}
	f := m.free[c]
	page := f[len(f)-1]
	m.free[c] = f[:len(f)-1]
	s, bit := &m.slabs[page/pagesPerSlab], page%pagesPerSlab
	invariant.Check(s.taken[bit/64]&(1<<(bit%64)) == 0, "reactor: free buffer that is out")
	s.taken[bit/64] |= 1 << (bit % 64)
	s.used++
	size := PageBytes << c
	m.inUse += size
	m.peak = max(m.peak, m.inUse)
	m.takeouts++
	off := int(page) * PageBytes
	return m.pool[off : off+n : off+size]
}

// Put takes back what Get lent.
func (m *Memory) Put(b []byte) {
	off := m.offset(b)
	invariant.Check(off < uintptr(m.ready) && off%PageBytes == 0, "reactor: buffer of another pool given back")
	page := uint32(off / PageBytes)
	s, bit := &m.slabs[page/pagesPerSlab], page%pagesPerSlab
	invariant.Check(s.taken[bit/64]&(1<<(bit%64)) != 0, "reactor: buffer given back twice")
	s.taken[bit/64] &^= 1 << (bit % 64)
	s.used--
	size := PageBytes << s.class
	m.inUse -= size
	if invariant.Expensive {
		for i := range b[:size:size] {
			b[:size:size][i] = 0xdb
		}
	}
	m.free[s.class] = append(m.free[s.class], page)
	if m.waiters.head != nil && !m.wakeup.queued {
		m.r.Defer(&m.wakeup, m)
	}
}

// offset is where b begins in the pool; past its end if elsewhere.
func (m *Memory) offset(b []byte) uintptr {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b))) - uintptr(unsafe.Pointer(unsafe.SliceData(m.pool)))
}

// carve gives class c another slab: a spare one, one of new memory, or one that lies wholly free in another class.
func (m *Memory) carve(c int) bool {
	if len(m.spare) == 0 && !m.grow() && !m.reclaim(c) {
		return false
	}
	i := m.spare[len(m.spare)-1]
	m.spare = m.spare[:len(m.spare)-1]
	m.slabs[i].class = uint8(c)
	step := uint32(1) << c
	n := pagesPerSlab / step
	// Room for every buffer of the class that could be free at once, so that Put never allocates.
	m.free[c] = slices.Grow(m.free[c], int(n)*m.slabsOf(uint8(c)))
	for k := n; k > 0; k-- {
		m.free[c] = append(m.free[c], i*pagesPerSlab+(k-1)*step)
	}
	return true
}

func (m *Memory) slabsOf(class uint8) int {
	n := 0
	for i := range m.slabs {
		if m.slabs[i].class == class {
			n++
		}
	}
	return n
}

// reclaim makes a slab spare that another class has wholly free.
func (m *Memory) reclaim(except int) bool {
	for i := range m.slabs {
		s := &m.slabs[i]
		if s.used > 0 || s.class == noClass || int(s.class) == except {
			continue
		}
		m.free[s.class] = slices.DeleteFunc(m.free[s.class], func(page uint32) bool { return page/pagesPerSlab == uint32(i) })
		s.class = noClass
		m.spare = append(m.spare, uint32(i))
		return true
	}
	return false
}

// Registered gives the index of the ring's registered buffer in which b lies.
func (m *Memory) Registered(b []byte) (index int, ok bool) {
	off := m.offset(b)
	if !m.fixed || off >= uintptr(m.ready) {
		return 0, false
	}
	return int(off / chunkBytes), true
}

// Owns reports whether b lies in this pool.
func (m *Memory) Owns(b []byte) bool {
	return m.offset(b) < uintptr(m.ready)
}

// Stats gives the pool's state.
func (m *Memory) Stats() MemoryStats {
	return MemoryStats{m.limit, m.ready, m.inUse, m.peak, m.takeouts, m.retries, m.waiters.n, m.fixed, m.huge}
}

// Waiter waits for a buffer. It is part of its owner and in one list at most.
type Waiter struct {
	next *Waiter
	run  Runner
	in   bool
}

type waiterList struct {
	head, tail *Waiter
	n          int
}

// Await lets run run when a buffer was given back; it tries again and may have to wait again. First come, first served.
func (m *Memory) Await(w *Waiter, run Runner) {
	invariant.Check(!w.in, "reactor: waits for memory twice")
	w.run, w.next, w.in = run, nil, true
	if m.waiters.tail == nil {
		m.waiters.head = w
	} else {
		m.waiters.tail.next = w
	}
	m.waiters.tail = w
	m.waiters.n++
}

// Forget takes a waiter out and reports whether it waited.
func (m *Memory) Forget(w *Waiter) bool {
	if !w.in {
		return false
	}
	var before *Waiter
	for p := m.waiters.head; p != w; p = p.next {
		before = p
	}
	if before == nil {
		m.waiters.head = w.next
	} else {
		before.next = w.next
	}
	if m.waiters.tail == w {
		m.waiters.tail = before
	}
	w.next, w.in = nil, false
	m.waiters.n--
	return true
}

// Run gives every waiter that was there a try, once.
func (m *Memory) Run() {
	for n := m.waiters.n; n > 0 && m.waiters.head != nil; n-- {
		w := m.waiters.head
		m.Forget(w)
		w.run.Run()
	}
}
