package bdev

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
)

// Uring is a file or a block device of the system, reached through the reactors' rings, with O_DIRECT where it is possible.
//
// What makes a write durable: FUA is RWF_DSYNC on the write itself; Flush is fdatasync, which for a block device flushes its
// cache. Both reach the medium as far as the kernel can tell.
type Uring struct {
	path     string
	file     *os.File
	block    bool
	direct   bool
	readOnly bool
	shift    uint
}

// UringOptions say how a file is opened.
type UringOptions struct {
	BlockSize uint32 // 0: the block device's own, 4096 for a file where the file system allows it, else 512
	UUID      uuid.UUID
	ReadOnly  bool
}

// NewUring opens path and registers it as a device.
func NewUring(g *Registry, name, path string, o UringOptions) (*Device, error) {
	u := &Uring{path: path, readOnly: o.ReadOnly}
	geometry, err := u.open(o)
	if err != nil {
		return nil, fmt.Errorf("creating %s on %s: %w", name, path, err)
	}
	d, err := g.Register(Config{Name: name, Product: "URING bdev", UUID: o.UUID, Driver: u, Geometry: geometry})
	if err != nil {
		_ = u.file.Close()
		return nil, err
	}
	return d, nil
}

func (u *Uring) open(o UringOptions) (Geometry, error) {
	mode := os.O_RDWR
	if o.ReadOnly {
		mode = os.O_RDONLY
	}
	var err error
	u.direct = true
	u.file, err = os.OpenFile(u.path, mode|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if errors.Is(err, syscall.EINVAL) { // tmpfs before Linux 6.6 and others have no direct I/O
		u.direct = false
		u.file, err = os.OpenFile(u.path, mode|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return Geometry{}, err
	}
	g, err := u.geometry(o)
	if err == nil {
		err = u.lock()
	}
	if err != nil {
		_ = u.file.Close()
		return Geometry{}, err
	}
	u.shift = g.Shift()
	return g, nil
}

// lock keeps two engines from one device: the lock is advisory, but every engine asks for it.
func (u *Uring) lock() error {
	how := unix.LOCK_EX
	if u.readOnly {
		how = unix.LOCK_SH
	}
	err := unix.Flock(int(u.file.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%w by another process: stop that one, or give this device another file", ErrBusy)
	}
	return err
}

func (u *Uring) geometry(o UringOptions) (Geometry, error) {
	st, err := u.file.Stat()
	if err != nil {
		return Geometry{}, err
	}
	g := Geometry{
		BlockSize: o.BlockSize, ReadOnly: o.ReadOnly,
		Native: SetOf(Read, Write, Flush, Unmap, WriteZeroes), NativeFUA: true, Volatile: true, UnmapZeroes: true,
	}
	logical := uint32(512)
	switch {
	case st.Mode().IsRegular():
		if logical, err = u.directAlignment(); err != nil {
			return g, err
		}
		if g.BlockSize == 0 {
			g.BlockSize = 4096
		}
	case st.Mode()&os.ModeDevice != 0 && st.Mode()&os.ModeCharDevice == 0:
		u.block = true
		n, err := unix.IoctlGetInt(int(u.file.Fd()), unix.BLKSSZGET)
		if err != nil {
			return g, fmt.Errorf("asking for its block size: %w", err)
		}
		logical = uint32(n)
		if g.BlockSize == 0 {
			g.BlockSize = logical
		}
		if n, err := unix.IoctlGetInt(int(u.file.Fd()), unix.BLKPBSZGET); err == nil && n >= int(g.BlockSize) {
			g.PhysicalBlockSize = uint32(n)
		}
		g.Native = SetOf(Read, Write, Flush, Unmap, WriteZeroes)
	default:
		return g, fmt.Errorf("it is neither a file nor a block device but %v", st.Mode())
	}
	if g.BlockSize < logical {
		return g, fmt.Errorf("block size %d: direct I/O there needs multiples of %d", g.BlockSize, logical)
	}
	bytes, err := u.size()
	if err != nil {
		return g, err
	}
	g.Blocks = bytes / uint64(g.BlockSize)
	if g.Blocks == 0 {
		return g, fmt.Errorf("it holds %d bytes, less than a block: make it larger first, for example truncate -s 1G %s", bytes, u.path)
	}
	return g, nil
}

// directAlignment is the multiple that direct I/O on the file needs.
func (u *Uring) directAlignment() (uint32, error) {
	if !u.direct {
		return 512, nil
	}
	var st unix.Statx_t
	if err := unix.Statx(int(u.file.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st); err == nil && st.Mask&unix.STATX_DIOALIGN != 0 && st.Dio_offset_align != 0 {
		return st.Dio_offset_align, nil
	}
	return 512, nil
}

func (u *Uring) size() (uint64, error) {
	n, err := u.file.Seek(0, 2)
	if err != nil {
		return 0, fmt.Errorf("asking for its size: %w", err)
	}
	return uint64(n), nil
}

// Path is the file's name.
func (u *Uring) Path() string { return u.path }

// Describe tells the file's name, as SPDK's uring module does.
func (u *Uring) Describe() any {
	return map[string]any{"uring": map[string]any{"filename": u.path}}
}

// Rescan takes over the file's present size and resizes the device by it.
func (u *Uring) Rescan(d *Device) error {
	bytes, err := u.size()
	if err != nil {
		return fmt.Errorf("rescanning %s on %s: %w", d.Name(), u.path, err)
	}
	return d.Resize(bytes >> u.shift)
}

// Close closes the file.
func (u *Uring) Close() error { return u.file.Close() }

// Open gives the queue of one reactor.
func (u *Uring) Open(r *reactor.Reactor) (Queue, error) {
	return &uringQueue{u: u, file: r.NewFile(int(u.file.Fd()))}, nil
}

// uringQueue is the file on one reactor.
type uringQueue struct {
	u    *Uring
	file *reactor.File
	iovs [][]unix.Iovec // vectors for requests in several pieces, lent by index
	free []int32
}

func (c *uringQueue) Close() { c.file.Close() }

func (c *uringQueue) Submit(q *Request) {
	op := q.Op(c)
	off := q.LBA << c.u.shift
	var flags uint32
	if q.FUA {
		flags = reactor.WriteDsync
	}
	switch q.Kind {
	case Read:
		if len(q.Data) == 1 {
			c.file.Read(op, q.Data[0], off)
		} else {
			c.file.Readv(op, c.vector(q), off)
		}
	case Write:
		if len(q.Data) == 1 {
			c.file.Write(op, q.Data[0], off, flags)
		} else {
			c.file.Writev(op, c.vector(q), off, flags)
		}
	case Flush:
		c.file.Datasync(op)
	case Unmap:
		c.file.Fallocate(op, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, q.Blocks<<c.u.shift)
	case WriteZeroes:
		mode := uint32(unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE)
		c.file.Fallocate(op, mode, off, q.Blocks<<c.u.shift)
	}
}

// vector lends a vector with q's pieces; the frame keeps which.
func (c *uringQueue) vector(q *Request) []unix.Iovec {
	if len(c.free) == 0 {
		c.iovs = append(c.iovs, nil)
		c.free = append(c.free, int32(len(c.iovs)-1))
	}
	i := c.free[len(c.free)-1]
	c.free = c.free[:len(c.free)-1]
	iov := c.iovs[i][:0]
	for _, b := range q.Data {
		v := unix.Iovec{Base: &b[0]}
		v.SetLen(len(b))
		iov = append(iov, v)
	}
	c.iovs[i] = iov
	q.Frame().Tag = uint64(i) + 1
	return iov
}

// OpDone hears the end of one operation.
func (c *uringQueue) OpDone(q *Request, res int32) {
	if t := q.Frame().Tag; t > 0 {
		c.free = append(c.free, int32(t-1))
		q.Frame().Tag = 0
	}
	q.Complete(c.status(q, res))
}

// status judges the result of an operation. A short read or write can only be the file's end moving under the device.
func (c *uringQueue) status(q *Request, res int32) Status {
	if res >= 0 {
		if (q.Kind == Read || q.Kind == Write) && int(res) != q.Bytes() {
			return StatusIO
		}
		return StatusOK
	}
	switch syscall.Errno(-res) {
	case syscall.ENOSPC, syscall.EDQUOT:
		return StatusNoSpace
	case syscall.EOPNOTSUPP:
		return StatusNotSupported
	case syscall.ENODEV, syscall.ENXIO:
		return StatusGone
	case syscall.EROFS, syscall.EPERM:
		return StatusReadOnly
	}
	return StatusIO
}
