package reactor

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor/ring"
)

// This file is I/O on devices that are polled instead of interrupting: an NVMe drive, or null_blk, with poll queues. The kernel wants
// a ring of its own for them (IORING_SETUP_IOPOLL), which takes reads and writes and nothing else. A reactor makes it when the
// first such file is opened, and does not sleep while something is in flight there: nothing would wake it.

// polledRing is a reactor's ring for polled files.
type polledRing struct {
	ring   *ring.Ring
	files  fileTable
	chunks int // of the reactor's memory that are registered with it, from the first
}

const (
	polledEntries  = 256
	polledFilesMax = 64
)

// ErrNoPolling is returned for a file whose reads and writes cannot be polled for; NewFile serves it.
var ErrNoPolling = errors.New("reactor: no polled I/O")

// NewPolledFile makes fd known to the reactor as a file whose reads and writes are polled for; flushes and the like go the usual way.
// fd is opened with O_DIRECT, on a device with poll queues or a file system on one. Where that does not hold it says what is missing
// (ErrNoPolling). A file system may still refuse: then operations end with EOPNOTSUPP, and Unpoll makes a usual file of it.
func (r *Reactor) NewPolledFile(fd int) (*File, error) {
	if err := canPoll(fd); err != nil {
		return nil, err
	}
	return r.newPolledFile(fd)
}

func (r *Reactor) newPolledFile(fd int) (*File, error) {
	invariant.Check(!r.ringless, "reactor: a simulated reactor has no ring for operations")
	if r.polled == nil {
		p, err := r.openPolled()
		if err != nil {
			return nil, err
		}
		r.polled = p
	}
	f := &File{r, fd, notPolled, r.polled.files.take(fd)}
	if f.polled < 0 {
		return nil, fmt.Errorf("%w: all %d places for polled files of reactor %d are taken", ErrNoPolling, polledFilesMax, r.index)
	}
	f.slot = r.files.take(fd)
	return f, nil
}

func (r *Reactor) openPolled() (*polledRing, error) {
	fail := func(err error) (*polledRing, error) {
		return nil, fmt.Errorf("%w: making the ring of reactor %d for it: %w", ErrNoPolling, r.index, err)
	}
	u, err := ring.Open(ring.Config{Entries: polledEntries, CQEntries: 4 * polledEntries, IOPoll: true, Setup: r.cfg.RingSetup, Requests: &r.requests})
	if err != nil {
		return fail(err)
	}
	if err := u.RegisterTables(r.cfg.chunksMax(), polledFilesMax); err != nil {
		_ = u.Close()
		return fail(err)
	}
	_ = u.RegisterSelf()
	p := &polledRing{ring: u, files: newFileTable(u, polledFilesMax)}
	for at := 0; at < r.memory.ready; at += chunkBytes {
		p.register(at/chunkBytes, r.memory.pool[at:at+chunkBytes])
	}
	return p, nil
}

// register makes a chunk of the reactor's memory known to the ring; past RLIMIT_MEMLOCK it works on, without.
func (p *polledRing) register(i int, chunk []byte) {
	if p.chunks == i && p.ring.SetBuffer(i, chunk) == nil {
		p.chunks++
	}
}

// polling reports that something is in flight on a polled device.
func (r *Reactor) polling() bool { return r.polled != nil && r.polled.ring.Outstanding() > 0 }

// Polled reports whether reads and writes are polled for.
func (f *File) Polled() bool { return f.polled != notPolled }

// Unpoll lets reads and writes that start from now on go the usual way.
func (f *File) Unpoll() {
	if f.polled != notPolled {
		f.r.polled.files.give(f.polled)
		f.polled = notPolled
	}
}

// canPoll says what keeps reads and writes of fd from being polled for.
func canPoll(fd int) error {
	var st unix.Stat_t
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err != nil {
		return fmt.Errorf("%w: asking about its descriptor: %w", ErrNoPolling, err)
	}
	device := st.Dev
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		device = st.Rdev
	case unix.S_IFREG:
	default:
		return fmt.Errorf("%w: neither a block device nor a file", ErrNoPolling)
	}
	if flags&unix.O_DIRECT == 0 {
		return fmt.Errorf("%w: the file is not open for direct I/O", ErrNoPolling)
	}
	return devicePolls(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(device), unix.Minor(device)))
}

// devicePolls reads the attribute io_poll of the device's request queue (Documentation/ABI/stable/sysfs-block): 1 if it has poll
// queues. A partition's queue is that of the disk above it.
func devicePolls(dir string) error {
	polls, err := os.ReadFile(dir + "/queue/io_poll")
	if errors.Is(err, os.ErrNotExist) {
		polls, err = os.ReadFile(dir + "/../queue/io_poll")
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: no request queue is known of the device (%s)", ErrNoPolling, dir)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNoPolling, err)
	case strings.TrimSpace(string(polls)) != "1":
		name, _ := os.Readlink(dir)
		return fmt.Errorf("%w: %s has no poll queues (an NVMe drive gets them by the parameter poll_queues of the module nvme)", ErrNoPolling, name[strings.LastIndexByte(name, '/')+1:])
	}
	return nil
}
