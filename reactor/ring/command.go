package ring

import "unsafe"

const (
	opUringCmd = 46

	// _IO(0x12, 0) of linux/blkdev.h: BLOCK_URING_CMD_DISCARD, since Linux 6.12.
	blockDiscard = 0x12 << 8
)

// PrepDiscard discards n bytes at off of a block device. The command stands where other operations have the low half of the
// offset; its two arguments are addr and addr3, the first of the entry's last two words.
func PrepDiscard(e *SQE, fd int, off, n uint64) {
	e.OpCode, e.Fd, e.Off, e.Addr = opUringCmd, int32(fd), blockDiscard, off
	*(*uint64)(unsafe.Add(unsafe.Pointer(e), 48)) = n
}

var _ = [1]struct{}{}[unsafe.Sizeof(SQE{})-64]
