package ring

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// io_uring_register(2) opcodes.
const (
	unregBuffers     = 1
	unregFiles       = 3
	regBuffers2      = 15
	regBuffersUpdate = 16
	regFiles2        = 13
	regFilesUpdate2  = 14
	regIOWQAff       = 17
	regRingFDs       = 20
	unregRingFDs     = 21
	regProbe         = 8

	rsrcSparse = 1 << 0
)

// rsrcRegister is struct io_uring_rsrc_register.
type rsrcRegister struct {
	nr, flags  uint32
	_          uint64
	data, tags uint64
}

// rsrcUpdate2 is struct io_uring_rsrc_update2.
type rsrcUpdate2 struct {
	offset, _  uint32
	data, tags uint64
	nr, _      uint32
}

// ringFDUpdate is struct io_uring_rsrc_update as REGISTER_RING_FDS takes it.
type ringFDUpdate struct {
	offset, _ uint32
	data      uint64
}

func (r *Ring) register(op uintptr, arg unsafe.Pointer, n uintptr) error {
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), op, uintptr(arg), n, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// RegisterSelf registers the ring's own descriptor with the calling thread, so that entering need not look it up (5.18).
func (r *Ring) RegisterSelf() error {
	u := ringFDUpdate{offset: ^uint32(0), data: uint64(r.fd)}
	if err := r.register(regRingFDs, unsafe.Pointer(&u), 1); err != nil {
		return fmt.Errorf("registering the ring's descriptor: %w", err)
	}
	r.enterFD, r.enterFlags = uintptr(u.offset), enterRegisteredRing
	return nil
}

// unregister gives back what is registered, at once: closing the descriptor leaves that to a worker of the kernel.
func (r *Ring) unregister() {
	_ = r.register(unregBuffers, nil, 0)
	_ = r.register(unregFiles, nil, 0)
	r.unregisterSelf()
}

func (r *Ring) unregisterSelf() {
	if r.enterFlags&enterRegisteredRing == 0 {
		return
	}
	u := ringFDUpdate{offset: uint32(r.enterFD)}
	_ = r.register(unregRingFDs, unsafe.Pointer(&u), 1)
	r.enterFD, r.enterFlags = uintptr(r.fd), 0
}

// probe is struct io_uring_probe with room for every opcode.
type probe struct {
	lastOp, opsLen uint8
	_              uint16
	_              [3]uint32
	ops            [256]struct {
		op, _ uint8
		flags uint16
		_     uint32
	}
}

const probeSupported = 1 << 0

// Supports says which opcodes the kernel has. It allocates.
func (r *Ring) Supports(ops ...uint8) bool {
	p := new(probe)
	if r.register(regProbe, unsafe.Pointer(p), uintptr(len(p.ops))) != nil {
		return false
	}
	for _, op := range ops {
		if op > p.lastOp || p.ops[op].flags&probeSupported == 0 {
			return false
		}
	}
	return true
}

// RegisterTables makes empty tables for n buffers and n files, filled by SetBuffer and SetFile (5.19).
func (r *Ring) RegisterTables(buffers, files int) error {
	t := rsrcRegister{nr: uint32(buffers), flags: rsrcSparse}
	if err := r.register(regBuffers2, unsafe.Pointer(&t), unsafe.Sizeof(t)); err != nil {
		return fmt.Errorf("registering a table of %d buffers: %w", buffers, err)
	}
	t = rsrcRegister{nr: uint32(files), flags: rsrcSparse}
	if err := r.register(regFiles2, unsafe.Pointer(&t), unsafe.Sizeof(t)); err != nil {
		return fmt.Errorf("registering a table of %d files: %w", files, err)
	}
	return nil
}

// SetBuffer puts memory at an index of the buffer table; the kernel pins its pages. nil empties the place.
func (r *Ring) SetBuffer(index int, b []byte) error {
	r.reg.iov = unix.Iovec{}
	if len(b) > 0 {
		r.reg.iov.Base = &b[0]
		r.reg.iov.SetLen(len(b))
	}
	u := rsrcUpdate2{offset: uint32(index), data: uint64(uintptr(unsafe.Pointer(&r.reg.iov))), nr: 1}
	if err := r.register(regBuffersUpdate, unsafe.Pointer(&u), unsafe.Sizeof(u)); err != nil {
		return fmt.Errorf("registering buffer %d of %d bytes: %w", index, len(b), err)
	}
	return nil
}

// SetFile puts a descriptor at an index of the file table; -1 empties the place.
func (r *Ring) SetFile(index, fd int) error {
	r.reg.fd = int32(fd)
	u := rsrcUpdate2{offset: uint32(index), data: uint64(uintptr(unsafe.Pointer(&r.reg.fd))), nr: 1}
	if err := r.register(regFilesUpdate2, unsafe.Pointer(&u), unsafe.Sizeof(u)); err != nil {
		return fmt.Errorf("registering file descriptor %d: %w", fd, err)
	}
	return nil
}

// SetWorkerCores lets the kernel's workers run on cores. Without it they inherit the core of the thread that made them,
// and wait there for a polling thread to yield.
func (r *Ring) SetWorkerCores(cores *unix.CPUSet) error {
	if err := r.register(regIOWQAff, unsafe.Pointer(cores), unsafe.Sizeof(*cores)); err != nil {
		return fmt.Errorf("setting the cores of io_uring workers: %w", err)
	}
	return nil
}
