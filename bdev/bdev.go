// Package bdev is the contract between the storage side of the engine and everything that uses it.
//
// The model: a Device is a named array of blocks. A kind of device (a Driver) is wrapped by the same Device and the same
// Channel, which check every request, count it, and emulate what the kind cannot do, so that all kinds keep one contract.
// A Channel is a device on one reactor: requests are submitted to it there and completed there. Devices stack: a driver may
// hold a Handle of another device and pass requests on to that one's Channel.
//
// Invariants
//   - A request that Submit took is completed exactly once, on the reactor that submitted it, after Submit has returned.
//   - Submit never refuses: what is wrong with a request comes back as its Status.
//   - Between Submit and completion the request and its memory belong to the device.
//   - A completed write is readable by everyone at once. It is durable when it carried FUA, or after a later Flush, or when
//     the device has no volatile cache.
//   - After completion the request's fields are as they were at Submit, but for Status, Detail and what a read filled in.
//
// Units: LBA and Blocks count blocks of Geometry.BlockSize bytes; ranges are half-open.
//
// It knows no protocol, and not which device stands on which.
package bdev

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/reactor"
)

// Geometry is a device's shape and abilities. It changes only by Device.Resize.
type Geometry struct {
	BlockSize         uint32 // bytes, 512 or 4096
	Blocks            uint64
	PhysicalBlockSize uint32 // bytes written without reading first; 0 is BlockSize
	OptimalBlocks     uint32 // requests should not cross multiples of it; 0 if it makes no difference
	MaxBlocks         uint32 // largest Read, Write, Compare; 0 is what BufferMax holds
	AtomicBlocks      uint32 // written wholly or not at all over a power failure; 0 is one
	MemoryAlign       uint32 // what addresses of memory must be multiples of, a power of two; other memory is copied. 0 is 1

	Native      KindSet // what the driver does itself; the channel emulates or refuses the rest
	NativeFUA   KindSet // those of which the driver honours FUA itself (others do not count); for the rest the channel flushes
	Volatile    bool    // a completed write may be lost by a power failure until it is flushed
	UnmapZeroes bool    // unmapped blocks read as zeros
	ReadOnly    bool
	LowSpace    uint8 // percent that are left of the space that it takes from others, when its users hear LowSpace; 0: they never do
}

// Supports reports whether requests of kind k are served, by the driver or by emulation.
func (g *Geometry) Supports(k Kind) bool {
	if g.Native.Has(k) {
		return true
	}
	switch k {
	case Reset:
		return true
	case Flush:
		return !g.Volatile
	case WriteZeroes:
		return g.Native.Has(Write)
	case Compare:
		return g.Native.Has(Read)
	case CompareAndWrite, Copy:
		return g.Native.Has(Read) && g.Native.Has(Write)
	}
	return false // Unmap: zeros written in its place would take the room that the host wants to give back
}

// Supported is the set of what the device serves.
func (g *Geometry) Supported() KindSet {
	var s KindSet
	for k := Read; k < kindEnd; k++ {
		if g.Supports(k) {
			s |= 1 << k
		}
	}
	return s
}

// KindSet is a set of Kinds.
type KindSet uint16

// SetOf makes a set.
func SetOf(kinds ...Kind) KindSet {
	var s KindSet
	for _, k := range kinds {
		s |= 1 << k
	}
	return s
}

// Has reports whether k is in the set.
func (s KindSet) Has(k Kind) bool { return s&(1<<k) != 0 }

// Shift is the logarithm of the block size.
func (g *Geometry) Shift() uint {
	if g.BlockSize == 512 {
		return 9
	}
	return 12
}

// Bytes is the device's size.
func (g *Geometry) Bytes() uint64 { return g.Blocks << g.Shift() }

// check refuses a geometry that the rest of the engine could not serve.
func (g *Geometry) check() error {
	if g.BlockSize != 512 && g.BlockSize != 4096 {
		return fmt.Errorf("block size %d: it must be 512 or 4096", g.BlockSize)
	}
	if g.Blocks == 0 || g.Blocks > 1<<63>>g.Shift() {
		return fmt.Errorf("%d blocks of %d bytes: a device has at least one block and at most 2^63 bytes", g.Blocks, g.BlockSize)
	}
	if m := g.MaxBlocks; m == 0 || uint64(m)<<g.Shift() > reactor.BufferMax {
		g.MaxBlocks = reactor.BufferMax >> g.Shift()
	}
	if g.Volatile && !g.Native.Has(Flush) {
		return fmt.Errorf("a volatile cache and no flush: nothing could be made durable")
	}
	if g.MemoryAlign == 0 {
		g.MemoryAlign = 1
	}
	if g.MemoryAlign&(g.MemoryAlign-1) != 0 || g.MemoryAlign > reactor.PageBytes {
		return fmt.Errorf("memory aligned to %d bytes: it must be a power of two and at most a page", g.MemoryAlign)
	}
	if g.PhysicalBlockSize == 0 {
		g.PhysicalBlockSize = g.BlockSize
	}
	if g.AtomicBlocks == 0 {
		g.AtomicBlocks = 1
	}
	return nil
}

// Driver is one kind of device, as its author writes it. Its methods run on control goroutines, but for Open.
type Driver interface {
	// Open makes the driver's side of a channel, on reactor r.
	Open(r *reactor.Reactor) (Queue, error)
	// Describe gives what is particular to the kind, for bdev_get_bdevs' driver_specific; nil for nothing.
	Describe() any
	// Close releases the device when no channel of it is open any more.
	Close() error
}

// Queue is the driver's side of a channel. It lives on one reactor.
type Queue interface {
	// Submit starts a request that was checked, of a kind in Geometry.Native, with FUA only if the kind is in NativeFUA or
	// nothing is volatile. It ends it by Request.Complete from a later event, by Request.CompleteLater inside Submit, or by
	// passing it on to another channel; before that it may change LBA, LBA2 and Blocks.
	Submit(q *Request)
	// Close is called when nothing is in flight.
	Close()
}

// Finisher is a Queue that wants to see requests again that it passed on, when they return. Finish reports whether the
// request may go on upwards; if not, the queue keeps it and calls Complete later.
type Finisher interface {
	Finish(q *Request) bool
}

// Aborter is a Queue that can end a request early which it still holds: it lets go of it, calls CompleteLater with
// StatusAborted and reports true; or it reports false and nothing has changed.
type Aborter interface {
	Abort(q *Request) bool
}

// Config names a device and gives its driver.
type Config struct {
	Name    string
	Product string // the kind, as shown: "Malloc disk", "URING bdev", …
	UUID    uuid.UUID
	Aliases []string
	Layers  int // devices below it; 0 for one that stands on none
	Geometry
	Driver Driver
}
