package bdev

import (
	"fmt"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
)

// Mem is a device in memory. Nothing of it survives the process.
type Mem struct {
	mem   []byte
	shift uint
}

// NewMem makes and registers a device of zeros. The memory is taken as it is written.
func NewMem(g *Registry, name string, id uuid.UUID, blockSize uint32, blocks uint64) (*Device, error) {
	m := &Mem{}
	cfg := Config{
		Name: name, Product: "Malloc disk", UUID: id, Driver: m,
		Geometry: Geometry{
			BlockSize: blockSize, Blocks: blocks, AtomicBlocks: 1,
			Native: SetOf(Read, Write, Flush, Unmap, WriteZeroes, Compare), UnmapZeroes: true,
		},
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
func (m *Mem) Open(*reactor.Reactor) (Queue, error) { return &memQueue{m}, nil }

// Describe tells nothing more.
func (m *Mem) Describe() any { return nil }

// Close gives the memory back.
func (m *Mem) Close() error {
	err := unix.Munmap(m.mem)
	m.mem = nil
	return err
}

type memQueue struct{ m *Mem }

func (c *memQueue) Close() {}

func (c *memQueue) Submit(q *Request) {
	mem := c.m.mem[q.LBA<<c.m.shift:]
	s := StatusOK
	switch q.Kind {
	case Read:
		for _, b := range q.Data {
			mem = mem[copy(b, mem):]
		}
	case Write:
		for _, b := range q.Data {
			mem = mem[copy(mem, b):]
		}
	case Unmap, WriteZeroes:
		c.zero(mem[:q.Blocks<<c.m.shift])
	case Compare:
		if at := miscompare(mem[:q.Blocks<<c.m.shift], q.Data, 0); at >= 0 {
			q.Detail, s = uint32(at), StatusMiscompare
		}
	}
	q.CompleteLater(s)
}

// zeroBytesMin is from where on giving pages back is cheaper than clearing them.
const zeroBytesMin = 256 << 10

func (c *memQueue) zero(mem []byte) {
	if len(mem) >= zeroBytesMin && uintptr(len(mem))%reactor.PageBytes == 0 && unix.Madvise(mem, unix.MADV_DONTNEED) == nil {
		return
	}
	clear(mem)
}
