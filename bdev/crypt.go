package bdev

import (
	"fmt"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is a device whose blocks are encrypted on the one below: AES-XTS, a data unit is a block, its tweak the LBA (xts.go).
//
// A read is decrypted in its own memory when the device below has filled it. A write's memory is lent and must stay as it is, so it
// is encrypted into a buffer of the reactor's pool. When the pool has none, the queue's own buffer in reserve goes to one write
// after the other, and a write that is longer goes in steps. Who has it waits only for the device below, so it ends (compare
// reserve.go; the layer's reserve would not do: a copy of this channel may hold it while it waits for a write here).
//
// Unmap goes down, so that a thin device gets the room back; what is then read is the decryption of whatever is there: noise, and
// the device does not say that unmapped blocks are zeros. Zeroes are written as encrypted zeros, by the channel: blocks that are
// zero below would read as noise. Compare, compare-and-write and copy are the channel's too: ciphertext is no use to them.

// Crypt is an encrypted device.
type Crypt struct {
	*base
	key     *XTSKey
	keyName string
}

// CryptOptions say how it is encrypted.
type CryptOptions struct {
	Key     *XTSKey
	KeyName string // as it is shown
	UUID    uuid.UUID
}

// NewCrypt registers name, which encrypts what it writes to the device below.
func NewCrypt(g *Registry, name, below string, o CryptOptions) (*Device, error) {
	b, err := g.stand(below, "crypt "+name, "", true)
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	geometry := b.geometry()
	geometry.Native &= SetOf(Read, Write, Flush, Unmap, Extent)
	geometry.NativeFUA &= geometry.Native
	geometry.UnmapZeroes = false
	geometry.MemoryAlign = 1 // writes are copied anyway, and the device below looks after reads
	geometry.AtomicBlocks = min(geometry.AtomicBlocks, stepBytes>>geometry.Shift())
	d, err := b.raise(Config{
		Name: name, Product: "crypto", UUID: derived(o.UUID, b.Base(), "crypt "+name), Geometry: geometry,
		Driver: &Crypt{base: b, key: o.Key, keyName: o.KeyName},
	})
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	return d, nil
}

// KeyName is the name of the key.
func (v *Crypt) KeyName() string { return v.keyName }

// Describe tells what it stands on and which key it has, by name.
func (v *Crypt) Describe() any {
	return map[string]any{"crypto": map[string]any{"base_bdev_name": v.Base().Name(), "key_name": v.keyName}}
}

// Open gives the queue of one reactor.
func (v *Crypt) Open(r *reactor.Reactor) (Queue, error) {
	b, err := v.open(r)
	if err != nil {
		return nil, err
	}
	c := &cryptQueue{below: b, r: r, key: v.key, shift: b.c.g.Shift()}
	if c.reserve.buf, err = unix.Mmap(-1, 0, stepBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err != nil {
		b.Close()
		return nil, fmt.Errorf("mapping %d bytes for a buffer in reserve: %w", stepBytes, err)
	}
	return c, nil
}

type cryptQueue struct {
	below
	r       *reactor.Reactor
	key     *XTSKey
	shift   uint
	tweak   tweak
	reserve reserve // what waits in it has a cryptWrite
	writes  []*cryptWrite
	spare   []*cryptWrite
}

// cryptWrite is a write under way. The frame's Tag keeps its place in the queue's list, plus one.
type cryptWrite struct {
	place  uint64
	data   [][]byte // as it came
	lba    uint64
	blocks uint64
	done   uint64 // blocks
	now    uint64 // blocks of this step
	buf    []byte
	one    [1][]byte
}

// Close gives the reserve back.
func (c *cryptQueue) Close() {
	invariant.Check(len(c.spare) == len(c.writes) && !c.reserve.lent, "bdev: a crypt queue is closed with writes in it")
	_ = unix.Munmap(c.reserve.buf)
	c.below.Close()
}

// Submit passes on, but for writes.
func (c *cryptQueue) Submit(q *Request) {
	q.Frame().Tag = 0
	if q.Kind != Write {
		c.c.Submit(q)
		return
	}
	w := c.take()
	w.data, w.lba, w.blocks, w.done = q.Data, q.LBA, q.Blocks, 0
	q.Frame().Tag = w.place + 1
	c.borrow(q, w)
}

// take gives a record. There are as many as there ever were writes at once.
func (c *cryptQueue) take() *cryptWrite {
	if n := len(c.spare); n > 0 {
		w := c.spare[n-1]
		c.spare = c.spare[:n-1]
		return w
	}
	w := &cryptWrite{place: uint64(len(c.writes))}
	c.writes = append(c.writes, w)
	return w
}

func (c *cryptQueue) write(q *Request) *cryptWrite { return c.writes[q.Frame().Tag-1] }

// borrow gets a write's buffer and begins it, or lets it wait.
func (c *cryptQueue) borrow(q *Request, w *cryptWrite) {
	n := int(w.blocks << c.shift)
	if w.buf = c.r.Memory().Get(n); w.buf == nil {
		if c.reserve.lent {
			c.reserve.waiting.Push(q)
			return
		}
		c.reserve.lent = true
		w.buf = c.reserve.buf[:min(n, stepBytes)]
	}
	c.next(q, w)
}

// next encrypts and writes what the buffer holds.
func (c *cryptQueue) next(q *Request, w *cryptWrite) {
	w.now = min(w.blocks-w.done, uint64(len(w.buf))>>c.shift)
	w.one[0] = w.buf[:w.now<<c.shift]
	c.encrypt(w.one[0], w.data, w.lba+w.done, w.done<<c.shift)
	q.Data, q.LBA, q.Blocks = w.one[:], w.lba+w.done, w.now
	c.c.Submit(q)
}

// encrypt fills b with the blocks from lba on, which begin at a byte offset of vec.
func (c *cryptQueue) encrypt(b []byte, vec [][]byte, lba, at uint64) {
	size := 1 << c.shift
	for _, p := range vec {
		if at >= uint64(len(p)) {
			at -= uint64(len(p))
			continue
		}
		for p, at = p[at:], 0; len(p) > 0 && len(b) > 0; lba++ {
			c.tweak.of(lba)
			c.key.encrypt(b[:size], p[:size], &c.tweak)
			b, p = b[size:], p[size:]
		}
	}
}

// Finish decrypts what was read, and goes on with what was written in part.
func (c *cryptQueue) Finish(q *Request) bool {
	if q.Frame().Tag != 0 {
		return c.written(q, c.write(q))
	}
	if q.Kind == Read && q.Status == StatusOK {
		size := 1 << c.shift
		lba := q.LBA
		for _, p := range q.Data {
			for ; len(p) > 0; p = p[size:] {
				c.tweak.of(lba)
				c.key.decrypt(p[:size], p[:size], &c.tweak)
				lba++
			}
		}
	}
	return true
}

func (c *cryptQueue) written(q *Request, w *cryptWrite) bool {
	w.done += w.now
	if q.Status == StatusOK && w.done < w.blocks {
		c.next(q, w)
		return false
	}
	c.end(q, w)
	return true
}

// end gives back what a write took. Its buffer may begin another one.
func (c *cryptQueue) end(q *Request, w *cryptWrite) {
	q.Data, q.LBA, q.Blocks = w.data, w.lba, w.blocks
	q.Frame().Tag = 0
	buf := w.buf
	w.data, w.buf, w.one[0] = nil, nil, nil
	c.spare = append(c.spare, w)
	v := &c.reserve
	switch {
	case buf == nil:
	case &buf[0] != &v.buf[0]:
		c.r.Memory().Put(buf)
	default:
		v.lent = false
		for !v.lent && v.waiting.n > 0 {
			next := v.waiting.Pop()
			c.borrow(next, c.write(next))
		}
	}
}

// Abort ends a write that waits for a buffer.
func (c *cryptQueue) Abort(q *Request) bool {
	if !c.reserve.waiting.Remove(q) {
		return false
	}
	c.end(q, c.write(q))
	q.CompleteLater(StatusAborted)
	return true
}
