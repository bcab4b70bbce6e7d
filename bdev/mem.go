package bdev

import (
	"fmt"
	"sync"
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

// memLock has a cache line for itself. Who waits for it waits for the copying of a block; it spins before it sleeps.
type memLock struct {
	sync.Mutex
	_ [56]byte
}

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
			Native: SetOf(Read, Write, Flush, Unmap, WriteZeroes, Compare), UnmapZeroes: true,
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
			c.m.lockAll()
		}
		zero(mem)
		if shared {
			c.m.unlockAll()
		}
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
			l.Lock()
			s := c.move(q, mem[:size], piece[:])
			l.Unlock()
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

func (m *Mem) lockAll() {
	for i := range m.locks {
		m.locks[i].Lock()
	}
}

func (m *Mem) unlockAll() {
	for i := range m.locks {
		m.locks[i].Unlock()
	}
}

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
