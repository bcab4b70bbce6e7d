package reactor

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// This file is what lies under a pool of buffers: a range of addresses, reserved whole, so that a buffer's place follows from its
// address, and backed by memory chunk by chunk.
//
// Backing a chunk takes from one to eight milliseconds, nearly all of it to clear its pages. So another thread does it ahead of
// need, and tells those who watch the pool (watch.go); only registering it with the ring is left to the reactor, which alone may
// (SINGLE_ISSUER).
//
// Hugepages come from a memfd: allocating them is then apart from mapping them, and a system that has none says so before an
// address is touched. (mmap with MAP_FIXED | MAP_HUGETLB over the reserved range leaves, before Linux 6.12, a hole in it when it
// fails, where another thread's mapping may land.) A chunk without them asks for transparent ones.

// backing is the range and what is backed of it.
type backing struct {
	base       []byte // the reserved range
	pool       []byte // limit bytes of it, from a hugepage's start
	limit      int
	ready      int                   // bytes of pool that are backed
	registered int                   // bytes of pool that are registered with the ring
	huge       int                   // chunks of hugepages
	whyPlain   atomic.Pointer[error] // why a chunk is not of hugepages, the first time; nil where all are
	whyApart   error                 // why a chunk is not registered, the first time; nil where all are
	hugeFD     int                   // where they come from, -1 for nowhere
	plain      bool                  // pages as they are touched, no hugepages, nothing done by other threads: for simulated reactors
	next       atomic.Uint32
	whyNot     error // why the next chunk failed; whoever backs it writes it before next says so
	watch      chunkWatch
}

// States of the chunk after the last ready one, in order: untouched → being backed by another thread → one of the last three.
const (
	chunkUntouched = iota
	chunkBusy
	chunkPlain
	chunkHuge
	chunkFailed
)

const hugeBytes = 2 << 20

func (b *backing) reserve(limit int, plain bool) error {
	base, err := unix.Mmap(-1, 0, limit+hugeBytes, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("reserving %d MiB of addresses for buffers: %w: give each reactor less memory, or raise the limit of addresses (ulimit -v)", limit>>20, err)
	}
	skip := -int(uintptr(unsafe.Pointer(&base[0]))) & (hugeBytes - 1)
	b.base, b.pool, b.limit, b.plain, b.hugeFD = base, base[skip:skip+limit:skip+limit], limit, plain, -1
	if plain {
		b.isPlain(errors.New("none are asked for"))
		return nil
	}
	if b.hugeFD, err = unix.MemfdCreate("pollux buffers", unix.MFD_CLOEXEC|unix.MFD_HUGETLB|unix.MFD_HUGE_2MB); err == nil {
		if err = unix.Ftruncate(b.hugeFD, int64(limit)); err != nil {
			_ = unix.Close(b.hugeFD)
		}
	}
	if err != nil {
		b.hugeFD = -1
		b.isPlain(fmt.Errorf("making a file of hugepages: %w", err))
	}
	return nil
}

// isPlain keeps the first reason why there are no hugepages. Any thread calls it.
func (b *backing) isPlain(why error) { b.whyPlain.CompareAndSwap(nil, &why) }

var errNoTables = errors.New("the kernel's io_uring has no tables of buffers")

var errPoolFull = errors.New("the pool is at its limit")

// grow makes one more chunk ready, and waits for the thread that backs it if that is not done. If the system has no memory for it,
// the pool's limit is what it has.
func (b *backing) grow(r *Reactor) error {
	if b.ready == b.limit {
		return errPoolFull
	}
	if b.next.CompareAndSwap(chunkUntouched, chunkBusy) {
		b.back()
	}
	for b.next.Load() == chunkBusy {
		runtime.Gosched()
	}
	state := b.next.Load()
	b.next.Store(chunkUntouched)
	chunk := b.pool[b.ready : b.ready+chunkBytes : b.ready+chunkBytes]
	switch state {
	case chunkHuge:
		b.huge++
	case chunkFailed:
		b.limit = b.ready
		return b.whyNot
	}
	// Registered memory counts against RLIMIT_MEMLOCK: past it the pool works on, without.
	if !r.tables && b.whyApart == nil {
		b.whyApart = errNoTables
	}
	if b.whyApart == nil {
		if b.whyApart = r.ring.SetBuffer(b.ready/chunkBytes, chunk); b.whyApart == nil {
			b.registered += chunkBytes
		}
	}
	if r.polled != nil {
		r.polled.register(b.ready/chunkBytes, chunk)
	}
	b.ready += chunkBytes
	return nil
}

// prepare lets another thread back the next chunk.
func (b *backing) prepare() {
	if b.ready < b.limit && !b.plain && b.next.CompareAndSwap(chunkUntouched, chunkBusy) {
		go b.back()
	}
}

// back backs the chunk after the last ready one, and lets those hear of it who watch the pool. It runs on any thread; nobody else touches
// that chunk, or b.ready, meanwhile.
func (b *backing) back() {
	chunk := b.pool[b.ready : b.ready+chunkBytes : b.ready+chunkBytes]
	state, err := b.fill(chunk)
	if err == nil {
		err = b.watch.announce(b.ready/chunkBytes, chunk)
	}
	if err != nil {
		state, b.whyNot = chunkFailed, err
	}
	b.next.Store(state)
}

func (b *backing) fill(chunk []byte) (state uint32, err error) {
	if b.hugeFD >= 0 {
		if err = unix.Fallocate(b.hugeFD, 0, int64(b.ready), chunkBytes); err == nil {
			const prot, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_FIXED | unix.MAP_POPULATE
			if _, err = unix.MmapPtr(b.hugeFD, int64(b.ready), unsafe.Pointer(&chunk[0]), chunkBytes, prot, flags); err != nil {
				return chunkFailed, fmt.Errorf("mapping %d MiB of hugepages for buffers: %w", chunkBytes>>20, err)
			}
			return chunkHuge, nil
		}
		b.isPlain(fmt.Errorf("taking %d MiB of hugepages: %w", chunkBytes>>20, err))
		_ = unix.Fallocate(b.hugeFD, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, int64(b.ready), chunkBytes) // there were some
	}
	if unix.Mprotect(chunk, unix.PROT_READ|unix.PROT_WRITE) != nil {
		return chunkFailed, fmt.Errorf("backing %d MiB for buffers: out of memory", chunkBytes>>20)
	}
	if !b.plain {
		_ = unix.Madvise(chunk, unix.MADV_HUGEPAGE)
		_ = unix.Madvise(chunk, unix.MADV_POPULATE_WRITE) // Linux 5.14; else the pages come when they are touched
	}
	return chunkPlain, nil
}

// unmap gives everything back.
func (b *backing) unmap() {
	for b.next.Load() == chunkBusy {
		runtime.Gosched()
	}
	_ = unix.Munmap(b.base)
	b.base, b.pool, b.ready = nil, nil, 0
	if b.hugeFD >= 0 {
		_ = unix.Close(b.hugeFD)
	}
}
