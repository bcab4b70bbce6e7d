package bdev

import (
	"fmt"
	"os"
	"sync/atomic"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
)

// Uring is a file or a block device of the system, reached through the reactors' rings, with O_DIRECT where it is possible.
//
// What makes a write durable: FUA is RWF_DSYNC on the write itself; Flush is fdatasync, which for a block device flushes its
// cache. Both reach the medium as far as the kernel can tell. Fallocate has no such flag: zeroes and unmaps with FUA are
// flushed by the channel.
//
//	            file                                  block device
//	Unmap       PUNCH_HOLE: reads as zeros            PUNCH_HOLE where the device zeroes without writing, and then it reads
//	                                                  as zeros; else a discard (Linux 6.12) that promises nothing
//	WriteZeroes ZERO_RANGE: stays allocated;          ZERO_RANGE: the kernel lets the device do it, or writes
//	            or PUNCH_HOLE and allocate again;
//	            or zeros are written
//
// Fallocate serves block devices too since Linux 4.9, and goes through the ring, which the BLKDISCARD and BLKZEROOUT ioctls
// do not. Its PUNCH_HOLE never falls back to writing zeros (blkdev_fallocate, BLKDEV_ZERO_NOFALLBACK), so it is an unmap.
type Uring struct {
	path     string
	file     *os.File
	direct   bool
	block    bool
	discard  bool // a block device that can only discard
	polling  bool // polling was possible when the file was opened
	readOnly bool
	shift    uint

	// shrunk is set when a request met an end before the device's. A file would grow again by a write past its end, and what
	// it has lost would read as zeros: so no write is taken until Rescan has accepted the new size.
	shrunk atomic.Bool

	// polled is that and that no file system has refused since.
	polled atomic.Bool
}

// UringOptions say how a file is opened.
type UringOptions struct {
	BlockSize uint32 // 0: the block device's own, 4096 for a file where the file system allows it, else 512
	UUID      uuid.UUID
	ReadOnly  bool
	Polling   Polling

	// Waits hears once, before the device is there, that the file is still in use by a process that has ended, and is waited for.
	Waits func(why error)
	// Ending ends that wait when it is closed.
	Ending <-chan struct{}
}

// Polling says whether completions of reads and writes are polled for, on devices with poll queues. That is faster, and keeps
// a reactor awake while any are in flight.
type Polling uint8

// The choices.
const (
	PollingWhereItCan Polling = iota
	PollingNever
	PollingAlways // a device that cannot is refused
)

// NewUring opens path and registers it as a device.
func NewUring(g *Registry, name, path string, o UringOptions) (*Device, error) {
	if o.UUID == uuid.Nil {
		o.UUID = fileUUID(path)
	}
	u := &Uring{path: path, readOnly: o.ReadOnly}
	geometry, err := u.open(o)
	if err != nil {
		return nil, fmt.Errorf("creating %s on %s: %w", name, path, err)
	}
	if err := u.poll(g, o.Polling, &geometry); err != nil {
		_ = u.file.Close()
		return nil, fmt.Errorf("creating %s on %s: %w", name, path, err)
	}
	d, err := g.Register(Config{Name: name, Product: "URING bdev", UUID: o.UUID, Driver: u, Geometry: geometry})
	if err != nil {
		_ = u.file.Close()
		return nil, err
	}
	return d, nil
}

// poll tries whether reads and writes can be polled for. If so, FUA is left to flushes, which do not go that way: whether a write
// with RWF_DSYNC may be polled for differs between kernels and file systems.
func (u *Uring) poll(g *Registry, p Polling, geometry *Geometry) error {
	if p == PollingNever {
		return nil
	}
	r := g.group.Reactor(0)
	var err error
	if e := r.Call(func() {
		var f *reactor.File
		if f, err = r.NewPolledFile(int(u.file.Fd())); err == nil {
			f.Close()
		}
	}); e != nil {
		return e
	}
	if err != nil && p == PollingAlways {
		return fmt.Errorf("%w: polling was asked for: %w", ErrInvalid, err)
	}
	if u.polling = err == nil; u.polling {
		geometry.NativeFUA = 0
		u.polled.Store(true)
	}
	return nil
}

func (u *Uring) open(o UringOptions) (Geometry, error) {
	st, err := os.Stat(u.path)
	if err != nil {
		return Geometry{}, err
	}
	mode := os.O_RDWR | unix.O_CLOEXEC
	if o.ReadOnly {
		mode = os.O_RDONLY | unix.O_CLOEXEC
	}
	switch m := st.Mode(); {
	case m.IsRegular():
	case m&os.ModeDevice != 0 && m&os.ModeCharDevice == 0:
		u.block = true
		if !o.ReadOnly {
			mode |= os.O_EXCL // on a block device: not while it is mounted, or part of something, or opened so by another
		}
	default:
		return Geometry{}, fmt.Errorf("%w: it is neither a file nor a block device but %v", ErrInvalid, m)
	}
	if err := u.openFile(mode, o.Waits, o.Ending); err != nil {
		return Geometry{}, err
	}
	g, err := u.geometry(o)
	if err != nil {
		_ = u.file.Close()
		return Geometry{}, err
	}
	u.shift = g.Shift()
	return g, nil
}

func (u *Uring) geometry(o UringOptions) (Geometry, error) {
	g := Geometry{
		BlockSize: o.BlockSize, ReadOnly: o.ReadOnly, Volatile: true,
		Native: SetOf(Read, Write, Flush, WriteZeroes), NativeFUA: SetOf(Write),
	}
	logical := uint32(512)
	var err error
	if u.block {
		logical, err = u.blockGeometry(&g)
	} else {
		logical, err = u.fileGeometry(&g)
	}
	if err != nil {
		return g, err
	}
	if g.BlockSize < logical {
		return g, fmt.Errorf("%w: block size %d: direct I/O there needs multiples of %d", ErrInvalid, g.BlockSize, logical)
	}
	bytes, err := u.size()
	if err != nil {
		return g, err
	}
	g.Blocks = bytes / uint64(g.BlockSize)
	if g.Blocks == 0 {
		return g, fmt.Errorf("%w: it holds %d bytes, less than a block: make it larger first, for example truncate -s 1G %s", ErrInvalid, bytes, u.path)
	}
	return g, nil
}

// fileGeometry asks the file system. It gives the multiple that offsets must be of.
func (u *Uring) fileGeometry(g *Geometry) (logical uint32, err error) {
	logical, g.MemoryAlign = u.directAlignment(512)
	if g.BlockSize == 0 {
		g.BlockSize = 4096
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(u.file.Fd()), &st); err != nil {
		return 0, err
	}
	if n := uint32(st.Blksize); n&(n-1) == 0 && n > g.BlockSize && n <= 64<<10 {
		g.PhysicalBlockSize = n
	}
	// A hole past the end changes nothing, and tells whether there can be holes.
	if size, err := u.size(); err == nil && !u.readOnly {
		past := int64(size+0xffff) &^ 0xffff
		if unix.Fallocate(int(u.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, past, 4096) == nil {
			g.Native |= SetOf(Unmap)
			g.UnmapZeroes = true
		}
	}
	return logical, nil
}

// blockGeometry asks the block layer.
func (u *Uring) blockGeometry(g *Geometry) (logical uint32, err error) {
	fd := int(u.file.Fd())
	n, err := unix.IoctlGetInt(fd, unix.BLKSSZGET)
	if err != nil {
		return 0, fmt.Errorf("asking for its block size: %w", err)
	}
	logical = uint32(n)
	_, g.MemoryAlign = u.directAlignment(logical)
	if g.BlockSize == 0 {
		g.BlockSize = logical
	}
	if n, err := unix.IoctlGetInt(fd, unix.BLKPBSZGET); err == nil && n >= int(g.BlockSize) {
		g.PhysicalBlockSize = uint32(n)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	q := blockQueue(unix.Major(st.Rdev), unix.Minor(st.Rdev))
	switch {
	case u.readOnly:
	case q.limit("write_zeroes_unmap_max_bytes", "write_zeroes_max_bytes") > 0:
		g.Native |= SetOf(Unmap)
		g.UnmapZeroes = true
	case q.limit("discard_max_bytes") > 0 && kernelAtLeast(6, 12):
		u.discard = true
		g.Native |= SetOf(Unmap)
	}
	return logical, nil
}

// directAlignment is what offsets and memory of direct I/O must be multiples of; otherwise is for kernels that do not tell.
func (u *Uring) directAlignment(otherwise uint32) (offset, memory uint32) {
	if !u.direct {
		return 512, 1
	}
	var st unix.Statx_t
	if err := unix.Statx(int(u.file.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &st); err == nil && st.Mask&unix.STATX_DIOALIGN != 0 && st.Dio_offset_align != 0 {
		return st.Dio_offset_align, st.Dio_mem_align
	}
	return otherwise, otherwise
}

// size is the number of bytes it has now. It asks the inode, and so neither blocks nor does I/O.
func (u *Uring) size() (uint64, error) {
	n, err := unix.Seek(int(u.file.Fd()), 0, unix.SEEK_END)
	if err != nil {
		return 0, fmt.Errorf("asking for its size: %w", err)
	}
	return uint64(n), nil
}

// Path is the file's name.
func (u *Uring) Path() string { return u.path }

// Describe tells the file's name, as SPDK's uring module does, and whether it is polled.
func (u *Uring) Describe() any {
	about := map[string]any{"filename": u.path}
	if u.polled.Load() {
		about["polled"] = true
	}
	return map[string]any{"uring": about}
}

// Rescan takes over the file's present size and resizes the device by it.
func (u *Uring) Rescan(d *Device) error {
	bytes, err := u.size()
	if err == nil {
		err = d.Resize(bytes >> u.shift)
	}
	if err != nil {
		return fmt.Errorf("rescanning %s on %s: %w", d.Name(), u.path, err)
	}
	u.shrunk.Store(false)
	return nil
}

// Close closes the file.
func (u *Uring) Close() error { return u.file.Close() }
