package bench

import (
	"bytes"
	"fmt"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is a device that makes large mapped volumes in little time and space: it passes everything on to the device below, a new file of
// holes, but for writes of zeros where nothing else was ever written. Those read as zeros below as well. So a volume that is written with
// zeros has its map, log and bitmap on the disk as any other, and its data nowhere.
//
// It remembers in memory where something was written, so it is right on a new file only, and for one process.

// hollow is its driver. It is used by one reactor.
type hollow struct {
	h       *bdev.Handle
	written []uint64 // a bit for each page
}

// newHollow registers a hollow device on the one below.
func newHollow(reg *bdev.Registry, name, below string) (*bdev.Device, error) {
	h, err := reg.Open(below, bdev.OpenOptions{Who: name, Claim: true})
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	g := h.Device().Geometry()
	g.Native = g.Supported() &^ bdev.SetOf(bdev.Reset, bdev.Unmap) // unmapping would make the bits wrong, and nobody needs it
	g.NativeFUA = g.Native
	v := &hollow{h: h, written: make([]uint64, g.Bytes()/reactor.PageBytes/64+1)}
	d, err := reg.Register(bdev.Config{Name: name, Product: "hollow", UUID: uuid.New(), Layers: h.Device().Layers() + 1, Geometry: g, Driver: v})
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	return d, nil
}

// Describe tells nothing more.
func (v *hollow) Describe() any { return nil }

// Close gives the device below back.
func (v *hollow) Close() error {
	v.h.Close()
	return nil
}

// Open gives the queue of the reactor.
func (v *hollow) Open(r *reactor.Reactor) (bdev.Queue, error) {
	c, err := v.h.Channel(r)
	if err != nil {
		return nil, err
	}
	return &hollowQueue{v, c, c.Geometry().Shift()}, nil
}

type hollowQueue struct {
	v     *hollow
	c     *bdev.Channel
	shift uint
}

func (q *hollowQueue) Close() { q.c.Close() }

var zeros [reactor.PageBytes]byte

// Submit leaves out writes of zeros to where there are only zeros.
func (q *hollowQueue) Submit(r *bdev.Request) {
	first := r.LBA << q.shift / reactor.PageBytes
	end := ((r.LBA+r.Blocks)<<q.shift + reactor.PageBytes - 1) / reactor.PageBytes
	switch {
	case r.Kind == bdev.Write && q.untouched(first, end) && onlyZeros(r.Data), r.Kind == bdev.WriteZeroes && q.untouched(first, end):
		r.CompleteLater(bdev.StatusOK)
		return
	case r.Kind.Writes():
		for p := first; p < end; p++ {
			q.v.written[p/64] |= 1 << (p % 64)
		}
	}
	q.c.Submit(r)
}

func (q *hollowQueue) untouched(first, end uint64) bool {
	for p := first; p < end; p++ {
		if q.v.written[p/64]>>(p%64)&1 == 1 {
			return false
		}
	}
	return true
}

func onlyZeros(data [][]byte) bool {
	for _, b := range data {
		for len(b) > 0 {
			n := min(len(b), len(zeros))
			if !bytes.Equal(b[:n], zeros[:n]) {
				return false
			}
			b = b[n:]
		}
	}
	return true
}
