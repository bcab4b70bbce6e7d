package volume

import (
	"unsafe"

	"github.com/pollux-storage/pollux/wal"
)

// This file is what a volume takes of memory, by what it has made. The pages of its map are not in it: they are in the cache of its reactor
// (mapcache.go). Nor is what grows with the pool.

// VolumeMemory is what a volume has made, in bytes. All of it is made when the volume is opened, and most of it follows from the size of
// its log, none of it from the size of the volume or from how much of that is mapped.
type VolumeMemory struct {
	DirtyMap uint64 // entries and tables for what waits in the log to go home: by the log's size
	Segments uint64 // records on their way into the log, with a page each for those of placed writes
	Ops      uint64 // requests under way, and transfers
	Flusher  uint64 // what one round brings home
	Window   uint64 // of the log's reader, out of the reactor's buffers for I/O; its records
}

// Total is all of them.
func (m *VolumeMemory) Total() uint64 { return m.DirtyMap + m.Segments + m.Ops + m.Flusher + m.Window }

// Memory tells what the volume takes.
func (v *Volume) Memory() (VolumeMemory, error) {
	var m VolumeMemory
	err := v.r.Call(func() {
		m.DirtyMap = v.dirty.bytes()
		m.Segments = segmentsMax * (uint64(unsafe.Sizeof(segment{})) + PageBytes + 4*wal.RecordPagesMax)
		m.Ops = opsMax*uint64(unsafe.Sizeof(op{})) + partsMax*uint64(unsafe.Sizeof(part{}))
		m.Flusher = uint64(cap(v.flusher.items))*uint64(unsafe.Sizeof(homeItem{})) + uint64(len(v.flusher.homings))*uint64(unsafe.Sizeof(homing{}))
		m.Window = wal.ReaderBytes
	})
	return m, err
}

// bytes is what the map has made.
func (d *dirtyMap) bytes() uint64 {
	return uint64(cap(d.clusters))*uint64(unsafe.Sizeof(dirtyCluster{})) + uint64(cap(d.blocks))*uint64(unsafe.Sizeof(dirtyBlock{})) +
		4*uint64(cap(d.clusterHeads)+cap(d.blockHeads)+cap(d.crcs)+cap(d.crcsFree))
}

// bytes is what the bitmap has made.
func (b *bitmap) bytes() uint64 {
	n := 8*uint64(cap(b.used)+cap(b.committed)) + uint64(cap(b.sides))*uint64(unsafe.Sizeof(bitmapSides{}))
	for _, s := range []*numbers{&b.whole, &b.broken, &b.dirty} {
		for _, l := range s.levels {
			n += 8 * uint64(cap(l))
		}
	}
	return n
}

// MemoryBytes is what the pool's allocator has in memory: the bitmap as it is used now, as the committed root has it, and what rests. It
// follows from the size of the pool alone.
func (p *Pool) MemoryBytes() (n uint64, err error) {
	err = p.r.Call(func() { n = p.alloc.bits.bytes() })
	return n, err
}
