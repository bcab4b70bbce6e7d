package bdev

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
)

// Mem is a device in memory. Nothing of it survives the process.
//
// A block is read as one write left it, never as a mix of two, whatever other reactors do meanwhile (NVM Command Set
// Specification, "Atomic Operations": a block is the least that is written as a whole). As soon as a second reactor uses the
// device, copying a block is done under one of a set of locks, which its number picks; alone there is nobody to lock out.
type Mem struct {
	mem   []byte
	shift uint
	users atomic.Int32
	locks [memLocks]memLock
}

const memLocks = 64

// memLock has a cache line for itself. Who waits for it waits for the copying of a block, or for the clearing of zeroBytesMax at most, and spins:
// a mutex would put its goroutine to sleep, and with it all that is on the reactor.
type memLock struct {
	held atomic.Uint32
	_    [60]byte
}

// memSpins is how often a waiter looks before it offers its core to others, of whom one may have the lock and no core.
const memSpins = 1000

func (l *memLock) lock() {
	for !l.held.CompareAndSwap(0, 1) {
		for spins := 0; l.held.Load() != 0; spins++ {
			if spins == memSpins {
				reactor.OfferCore()
				spins = 0
			}
		}
	}
}

func (l *memLock) unlock() { l.held.Store(0) }

// Hints are what hosts are told of a made-up device; 0 says nothing.
type Hints struct {
	PhysicalBlockSize uint32
	OptimalBlocks     uint32
}

func (h Hints) put(g *Geometry) {
	g.PhysicalBlockSize, g.OptimalBlocks = h.PhysicalBlockSize, h.OptimalBlocks
}

// NewMem makes and registers a device of zeros. The memory is taken as it is written.
func NewMem(g *Registry, name string, id uuid.UUID, blockSize uint32, blocks uint64, hints ...Hints) (*Device, error) {
	m := &Mem{}
	cfg := Config{
		Name: name, Product: "Malloc disk", UUID: id, Driver: m,
		Geometry: Geometry{
			BlockSize: blockSize, Blocks: blocks,
			Native: SetOf(Read, Write, Flush, Unmap, WriteZeroes, Compare, Extent), UnmapZeroes: true,
		},
	}
	for _, h := range hints {
		h.put(&cfg.Geometry)
	}
	if err := cfg.Geometry.check(); err != nil {
		return nil, fmt.Errorf("creating %s: %w: %w", name, ErrInvalid, err)
	}
	m.shift = cfg.Geometry.Shift()
	var err error
	if m.mem, err = unix.Mmap(-1, 0, int(cfg.Geometry.Bytes()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE); err != nil {
		return nil, fmt.Errorf("creating %s: mapping %d bytes of memory: %w", name, cfg.Geometry.Bytes(), err)
	}
	d, err := g.Register(cfg)
	if err != nil {
		_ = m.Close()
		return nil, err
	}
	return d, nil
}

// Open gives the queue of one reactor.
func (m *Mem) Open(*reactor.Reactor) (Queue, error) {
	m.users.Add(1)
	return &memQueue{m}, nil
}

// Describe tells nothing more.
func (m *Mem) Describe() any { return nil }

// Close gives the memory back.
func (m *Mem) Close() error {
	err := unix.Munmap(m.mem)
	m.mem = nil
	return err
}

type memQueue struct{ m *Mem }

func (c *memQueue) Close() { c.m.users.Add(-1) }

func (c *memQueue) Submit(q *Request) {
	mem := c.m.mem[q.LBA<<c.m.shift:][:q.Blocks<<c.m.shift]
	s := StatusOK
	shared := c.m.users.Load() > 1
	switch q.Kind {
	case Read, Write, Compare:
		if shared {
			s = c.blocks(q, mem)
		} else {
			s = c.move(q, mem, q.Data)
		}
	case Unmap, WriteZeroes:
		if shared {
			c.m.zeroShared(q.LBA, mem)
		} else {
			zero(mem)
		}
	case Extent:
		c.m.extent(q, mem, shared)
	}
	q.CompleteLater(s)
}

// move reads, writes or compares mem and the pieces of vec.
func (c *memQueue) move(q *Request, mem []byte, vec [][]byte) Status {
	switch q.Kind {
	case Read:
		for _, b := range vec {
			mem = mem[copy(b, mem):]
		}
	case Write:
		for _, b := range vec {
			mem = mem[copy(mem, b):]
		}
	case Compare:
		if at := miscompare(mem, vec, 0); at >= 0 {
			q.Detail = uint32(at)
			return StatusMiscompare
		}
	}
	return StatusOK
}

// blocks does it block by block, each under its lock.
func (c *memQueue) blocks(q *Request, mem []byte) Status {
	size := 1 << c.m.shift
	lba, done := q.LBA, uint32(0)
	for _, b := range q.Data {
		for ; len(b) > 0; b = b[size:] {
			piece := [1][]byte{b[:size]}
			l := &c.m.locks[lba%memLocks]
			l.lock()
			s := c.move(q, mem[:size], piece[:])
			l.unlock()
			if s != StatusOK {
				q.Detail += done
				return s
			}
			mem = mem[size:]
			lba++
			done += uint32(size)
		}
	}
	return StatusOK
}

// memExtentBytes is how much is looked at to find an extent.
const memExtentBytes = 256 << 10

var memZeros [4096]byte

// extent tells of blocks that are nothing but zeros as not mapped: what was never written takes no memory, and what was, and then unmapped, cannot be
// told from it.
func (m *Mem) extent(q *Request, mem []byte, shared bool) {
	size := 1 << m.shift
	mem = mem[:min(len(mem), memExtentBytes)]
	q.Alike = 0
	for lba := q.LBA; len(mem) > 0; mem, lba = mem[size:], lba+1 {
		l := &m.locks[lba%memLocks]
		if shared {
			l.lock()
		}
		mapped := !bytes.Equal(mem[:size], memZeros[:size])
		if shared {
			l.unlock()
		}
		if q.Alike > 0 && mapped != q.Mapped {
			return
		}
		q.Mapped = mapped
		q.Alike++
	}
}

// zeroShared clears mem, which begins at block lba: few blocks one by one, many in pieces under all locks.
func (m *Mem) zeroShared(lba uint64, mem []byte) {
	for len(mem) >= zeroBytesMin {
		piece := mem[:min(len(mem), zeroBytesMax)]
		for i := range m.locks {
			m.locks[i].lock()
		}
		zero(piece)
		for i := range m.locks {
			m.locks[i].unlock()
		}
		mem, lba = mem[len(piece):], lba+uint64(len(piece))>>m.shift
	}
	for size := 1 << m.shift; len(mem) > 0; mem, lba = mem[size:], lba+1 {
		l := &m.locks[lba%memLocks]
		l.lock()
		clear(mem[:size])
		l.unlock()
	}
}

// zeroBytesMax is what is cleared at once while others may want to read it.
const zeroBytesMax = 1 << 20

// zeroBytesMin is from where on giving pages back is cheaper than clearing them.
const zeroBytesMin = 256 << 10

// zero clears mem, and gives the pages that lie in it back to the system where they are many.
func zero(mem []byte) {
	if len(mem) >= zeroBytesMin {
		head := -int(uintptr(unsafe.Pointer(&mem[0]))) & (reactor.PageBytes - 1)
		whole := (len(mem) - head) &^ (reactor.PageBytes - 1)
		if unix.Madvise(mem[head:head+whole], unix.MADV_DONTNEED) == nil {
			clear(mem[:head])
			mem = mem[head+whole:]
		}
	}
	clear(mem)
}
