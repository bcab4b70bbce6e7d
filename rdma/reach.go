package rdma

import (
	"unsafe"

	"github.com/pollux-storage/pollux/reactor"
)

// Reaches reports whether b lies in one chunk of a reactor's pool, so that SGE and RemoteKey have a key for all of it.
func (q *Queue) Reaches(b []byte) bool {
	k, chunk := q.c.local.find(q.r.Index(), b)
	if k == nil {
		return false
	}
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b))) - k.base
	return k.local[chunk] != 0 && at%reactor.ChunkBytes+uintptr(len(b)) <= reactor.ChunkBytes
}
