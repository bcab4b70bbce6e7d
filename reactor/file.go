package reactor

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor/ring"
)

const filesMax = 1024

// File is a descriptor as one reactor uses it, registered with its ring where there is room. It does not own the
// descriptor: who opened it closes it, after Close and after all operations have completed.
type File struct {
	r    *Reactor
	fd   int
	slot int // in the ring's file table, -1 for none
}

// NewFile makes fd known to the reactor.
func (r *Reactor) NewFile(fd int) *File { return &File{r, fd, r.takeFile(fd)} }

func (r *Reactor) takeFile(fd int) int {
	if !r.tables || len(r.files) == 0 {
		return -1
	}
	slot := int(r.files[len(r.files)-1])
	if r.ring.SetFile(slot, fd) != nil {
		return -1
	}
	r.files = r.files[:len(r.files)-1]
	return slot
}

func (r *Reactor) giveFile(slot int) {
	if slot >= 0 {
		_ = r.ring.SetFile(slot, -1)
		r.files = append(r.files, uint16(slot))
	}
}

// Close takes the descriptor out of the ring's table.
func (f *File) Close() {
	f.r.giveFile(f.slot)
	f.slot, f.fd = -1, -1
}

// Flags of Write and Writev.
const WriteDsync = unix.RWF_DSYNC // durable before it completes

func (f *File) start(op *Op) (*ring.SQE, int) {
	e := f.r.Start(op)
	if f.slot >= 0 {
		return e, f.slot
	}
	return e, f.fd
}

func (f *File) finish(e *ring.SQE) {
	if f.slot >= 0 {
		e.Flags |= ring.FixedFile
	}
}

// Read fills b from off.
func (f *File) Read(op *Op, b []byte, off uint64) {
	e, fd := f.start(op)
	op.lent = unsafe.Pointer(&b[0])
	if i, ok := f.r.memory.Registered(b); ok {
		ring.PrepReadFixed(e, fd, unsafe.Pointer(&b[0]), uint32(len(b)), off, i)
	} else {
		ring.PrepRead(e, fd, unsafe.Pointer(&b[0]), uint32(len(b)), off)
	}
	f.finish(e)
}

// Write writes b at off.
func (f *File) Write(op *Op, b []byte, off uint64, flags uint32) {
	e, fd := f.start(op)
	op.lent = unsafe.Pointer(&b[0])
	if i, ok := f.r.memory.Registered(b); ok {
		ring.PrepWriteFixed(e, fd, unsafe.Pointer(&b[0]), uint32(len(b)), off, i, flags)
	} else {
		ring.PrepWrite(e, fd, unsafe.Pointer(&b[0]), uint32(len(b)), off, flags)
	}
	f.finish(e)
}

// Readv fills a vector from off; iov is lent until the operation completes.
func (f *File) Readv(op *Op, iov []unix.Iovec, off uint64) {
	e, fd := f.start(op)
	op.lent = unsafe.Pointer(&iov[0])
	ring.PrepReadv(e, fd, &iov[0], len(iov), off)
	f.finish(e)
}

// Writev writes a vector at off; iov is lent until the operation completes.
func (f *File) Writev(op *Op, iov []unix.Iovec, off uint64, flags uint32) {
	e, fd := f.start(op)
	op.lent = unsafe.Pointer(&iov[0])
	ring.PrepWritev(e, fd, &iov[0], len(iov), off, flags)
	f.finish(e)
}

// Datasync is fdatasync(2): for a block device a flush of its cache.
func (f *File) Datasync(op *Op) {
	e, fd := f.start(op)
	ring.PrepFdatasync(e, fd)
	f.finish(e)
}

// Fallocate is fallocate(2).
func (f *File) Fallocate(op *Op, mode uint32, off, n uint64) {
	e, fd := f.start(op)
	ring.PrepFallocate(e, fd, mode, off, n)
	f.finish(e)
}

// Discard tells a block device that a range is no longer needed; what it reads as afterwards is the device's choice. Kernels
// before 6.12 answer EOPNOTSUPP.
func (f *File) Discard(op *Op, off, n uint64) {
	e, fd := f.start(op)
	ring.PrepDiscard(e, fd, off, n)
	f.finish(e)
}
