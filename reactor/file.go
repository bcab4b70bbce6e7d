package reactor

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor/ring"
)

// File is a descriptor as one reactor uses it, registered with its ring where there is room. It does not own the
// descriptor: who opened it closes it, after Close and after all operations have completed.
type File struct {
	r      *Reactor
	fd     int
	slot   int // in the ring's file table, -1 for none
	polled int // in the polled ring's file table; notPolled if it is not polled
}

const notPolled = -1

// NewFile makes fd known to the reactor.
func (r *Reactor) NewFile(fd int) *File { return &File{r, fd, r.files.take(fd), notPolled} }

// fileTable is the places of a ring's table of registered files.
type fileTable struct {
	ring *ring.Ring
	free []uint16
}

const filesMax = 1024

func newFileTable(r *ring.Ring, n int) fileTable {
	t := fileTable{r, make([]uint16, 0, n)}
	for i := n - 1; i >= 0; i-- {
		t.free = append(t.free, uint16(i))
	}
	return t
}

// take gives fd a place; -1 if there is none.
func (t *fileTable) take(fd int) int {
	if len(t.free) == 0 {
		return -1
	}
	slot := int(t.free[len(t.free)-1])
	if t.ring.SetFile(slot, fd) != nil {
		return -1
	}
	t.free = t.free[:len(t.free)-1]
	return slot
}

func (t *fileTable) give(slot int) {
	if slot >= 0 {
		_ = t.ring.SetFile(slot, -1)
		t.free = append(t.free, uint16(slot))
	}
}

// Close takes the descriptor out of the ring's table.
func (f *File) Close() {
	f.Unpoll()
	f.r.files.give(f.slot)
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
	e, fd := f.startIO(op, unsafe.Pointer(&b[0]))
	if i, ok := f.registered(b); ok {
		ring.PrepReadFixed(e, fd, unsafe.Pointer(&b[0]), uint32(len(b)), off, i)
	} else {
		ring.PrepRead(e, fd, unsafe.Pointer(&b[0]), uint32(len(b)), off)
	}
	f.finishIO(e)
}

// Write writes b at off.
func (f *File) Write(op *Op, b []byte, off uint64, flags uint32) {
	e, fd := f.startIO(op, unsafe.Pointer(&b[0]))
	if i, ok := f.registered(b); ok {
		ring.PrepWriteFixed(e, fd, unsafe.Pointer(&b[0]), uint32(len(b)), off, i, flags)
	} else {
		ring.PrepWrite(e, fd, unsafe.Pointer(&b[0]), uint32(len(b)), off, flags)
	}
	f.finishIO(e)
}

// Readv fills a vector from off; iov is lent until the operation completes.
func (f *File) Readv(op *Op, iov []unix.Iovec, off uint64) {
	e, fd := f.startIO(op, unsafe.Pointer(&iov[0]))
	ring.PrepReadv(e, fd, &iov[0], len(iov), off)
	f.finishIO(e)
}

// Writev writes a vector at off; iov is lent until the operation completes.
func (f *File) Writev(op *Op, iov []unix.Iovec, off uint64, flags uint32) {
	e, fd := f.startIO(op, unsafe.Pointer(&iov[0]))
	ring.PrepWritev(e, fd, &iov[0], len(iov), off, flags)
	f.finishIO(e)
}

// startIO starts what a polled device takes too. lent is what the kernel reads or writes.
func (f *File) startIO(op *Op, lent unsafe.Pointer) (*ring.SQE, int) {
	op.lent = lent
	if f.polled == notPolled {
		return f.start(op)
	}
	return f.r.startOn(f.r.polled.ring, op), f.polled
}

func (f *File) finishIO(e *ring.SQE) {
	if f.polled == notPolled {
		f.finish(e)
		return
	}
	e.Flags |= ring.FixedFile
}

func (f *File) registered(b []byte) (index int, ok bool) {
	index, ok = f.r.memory.Registered(b)
	if f.polled != notPolled {
		ok = index < f.r.polled.chunks
	}
	return index, ok
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

// Poll completes once when the file has one of the poll(2) events, with those it has.
func (f *File) Poll(op *Op, events uint32) {
	e, fd := f.start(op)
	ring.PrepPoll(e, fd, events)
	f.finish(e)
}

// PollMultishot completes each time that the file comes to have one of the poll(2) events, with ring.More as long as it goes on. It
// ends by Cancel, or by itself when many completions wait: then it is started again.
func (f *File) PollMultishot(op *Op, events uint32) {
	e, fd := f.start(op)
	ring.PrepPollMultishot(e, fd, events)
	f.finish(e)
}
