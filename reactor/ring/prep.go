package ring

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Opcodes (enum io_uring_op, linux/io_uring.h). go-uring names those up to 5.15, without the fixed ones.
const (
	opNop         = 0
	opReadv       = 1
	opWritev      = 2
	opFsync       = 3
	opReadFixed   = 4
	opWriteFixed  = 5
	opPollAdd     = 6
	opSendmsg     = 9
	opAccept      = 13
	opAsyncCancel = 14
	opConnect     = 16
	opFallocate   = 17
	opRead        = 22
	opWrite       = 23
	opSend        = 26
	opRecv        = 27
	opMsgRing     = 40
	opSocket      = 45
)

// Opcodes by which a caller asks with Supports what the kernel can. Multishot accept came with the socket opcode (5.19).
const (
	OpMsgRing         = opMsgRing
	OpAcceptMultishot = opSocket
)

// Flags of entries, operations and completions.
const (
	FixedFile   = 1 << 0 // SQE.Flags: Fd is an index of the registered files
	IOLink      = 1 << 2 // SQE.Flags: the next entry starts when this one has succeeded
	SkipSuccess = 1 << 6 // SQE.Flags: only a failure is reported (5.17)

	More = 1 << 1 // CQE.Flags: the multishot operation goes on

	fsyncDatasync = 1 << 0
	acceptMulti   = 1 << 0 // in IoPrio
	pollMulti     = 1 << 0 // in Len
)

// addr gives p as an entry carries it, and makes p escape: what the kernel will read or write after we returned must not lie
// on a goroutine's stack, which moves.
func addr(p unsafe.Pointer) uint64 {
	if escapes {
		sink = p
	}
	return uint64(uintptr(p))
}

var (
	escapes bool // never true, which the compiler cannot know
	//lint:ignore U1000 it is never read: writing to it is what makes a pointer escape
	sink unsafe.Pointer
)

// PrepNop fills e with an operation that does nothing but complete.
func PrepNop(e *SQE) { e.OpCode = opNop }

// PrepRead fills e with a read of n bytes at off to buf.
func PrepRead(e *SQE, fd int, buf unsafe.Pointer, n uint32, off uint64) {
	e.OpCode, e.Fd, e.Addr, e.Len, e.Off = opRead, int32(fd), addr(buf), n, off
}

// PrepWrite fills e with a write; rw takes RWF_DSYNC.
func PrepWrite(e *SQE, fd int, buf unsafe.Pointer, n uint32, off uint64, rw uint32) {
	e.OpCode, e.Fd, e.Addr, e.Len, e.Off, e.OpcodeFlags = opWrite, int32(fd), addr(buf), n, off, rw
}

// PrepReadFixed reads to memory inside the registered buffer index.
func PrepReadFixed(e *SQE, fd int, buf unsafe.Pointer, n uint32, off uint64, index int) {
	e.OpCode, e.Fd, e.Addr, e.Len, e.Off, e.BufIG = opReadFixed, int32(fd), addr(buf), n, off, uint16(index)
}

// PrepWriteFixed writes from memory inside the registered buffer index.
func PrepWriteFixed(e *SQE, fd int, buf unsafe.Pointer, n uint32, off uint64, index int, rw uint32) {
	e.OpCode, e.Fd, e.Addr, e.Len, e.Off, e.BufIG, e.OpcodeFlags = opWriteFixed, int32(fd), addr(buf), n, off, uint16(index), rw
}

// PrepReadv reads to a vector.
func PrepReadv(e *SQE, fd int, iov *unix.Iovec, n int, off uint64) {
	e.OpCode, e.Fd, e.Addr, e.Len, e.Off = opReadv, int32(fd), addr(unsafe.Pointer(iov)), uint32(n), off
}

// PrepWritev writes from a vector.
func PrepWritev(e *SQE, fd int, iov *unix.Iovec, n int, off uint64, rw uint32) {
	e.OpCode, e.Fd, e.Addr, e.Len, e.Off, e.OpcodeFlags = opWritev, int32(fd), addr(unsafe.Pointer(iov)), uint32(n), off, rw
}

// PrepFdatasync makes what was written durable, with the metadata needed to read it back.
func PrepFdatasync(e *SQE, fd int) {
	e.OpCode, e.Fd, e.OpcodeFlags = opFsync, int32(fd), fsyncDatasync
}

// PrepFallocate is fallocate(2) with mode.
func PrepFallocate(e *SQE, fd int, mode uint32, off, n uint64) {
	e.OpCode, e.Fd, e.Off, e.Addr, e.Len = opFallocate, int32(fd), off, n, mode
}

// PrepPoll waits once for the poll(2) events of fd.
func PrepPoll(e *SQE, fd int, events uint32) {
	e.OpCode, e.Fd, e.OpcodeFlags = opPollAdd, int32(fd), events
}

// PrepPollMultishot reports each time that fd has events.
func PrepPollMultishot(e *SQE, fd int, events uint32) {
	e.OpCode, e.Fd, e.OpcodeFlags, e.Len = opPollAdd, int32(fd), events, pollMulti
}

// PrepAcceptMultishot accepts connections until it is cancelled; each completion's result is a descriptor.
func PrepAcceptMultishot(e *SQE, fd int) {
	e.OpCode, e.Fd, e.IoPrio, e.OpcodeFlags = opAccept, int32(fd), acceptMulti, unix.SOCK_CLOEXEC
}

// PrepAccept accepts one connection; the completion's result is a descriptor.
func PrepAccept(e *SQE, fd int) {
	e.OpCode, e.Fd, e.OpcodeFlags = opAccept, int32(fd), unix.SOCK_CLOEXEC
}

// PrepConnect connects fd to the socket address at sa.
func PrepConnect(e *SQE, fd int, sa unsafe.Pointer, n uint32) {
	e.OpCode, e.Fd, e.Addr, e.Off = opConnect, int32(fd), addr(sa), uint64(n)
}

// PrepRecv receives at most n bytes.
func PrepRecv(e *SQE, fd int, buf unsafe.Pointer, n uint32, flags uint32) {
	e.OpCode, e.Fd, e.Addr, e.Len, e.OpcodeFlags = opRecv, int32(fd), addr(buf), n, flags
}

// PrepSendmsg sends a message header's vector.
func PrepSendmsg(e *SQE, fd int, msg *unix.Msghdr, flags uint32) {
	e.OpCode, e.Fd, e.Addr, e.Len, e.OpcodeFlags = opSendmsg, int32(fd), addr(unsafe.Pointer(msg)), 1, flags
}

// PrepMsgRing posts a completion with userData and res to the ring whose descriptor is fd.
func PrepMsgRing(e *SQE, fd int, userData uint64, res uint32) {
	e.OpCode, e.Fd, e.Off, e.Len = opMsgRing, int32(fd), userData, res
}

// PrepCancel cancels the operation with userData.
func PrepCancel(e *SQE, userData uint64) {
	e.OpCode, e.Fd, e.Addr = opAsyncCancel, -1, userData
}
