package bdev

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// This file is how two engines, and two devices of one engine, are kept from one file. A regular file is locked by flock(2), which is
// advisory, but every engine asks for it; a block device is opened with O_EXCL too, which also keeps it from what is mounted.
//
// An engine that was killed may hold both for a moment after its process is gone: the files that were registered with its rings are
// given back when the kernel has ended the rings, and that it does on a work queue of its own (io_ring_exit_work, io_uring.c). So who
// holds a lock decides what is done:
//
//	holder                            |
//	a process that lives              | refused at once
//	a process that has ended          | waited for, for lockPatience at most
//	nobody whom /proc/locks can name  | the same: the process has ended, or lives in another PID namespace
//	no lock, a block device is busy   | refused at once: it is mounted, or part of something

// lockPatience is how long what a dead process holds is waited for. Measured: some milliseconds, up to a second on a busy machine.
var lockPatience = 10 * time.Second

// lockPause is the time between two tries.
const lockPause = 10 * time.Millisecond

// openFile opens the file as its own, once whoever had it before is gone.
func (u *Uring) openFile(mode int, waits func(why error), ending <-chan struct{}) error {
	for until := time.Now().Add(lockPatience); ; {
		holder, err := u.tryFile(mode)
		if !errors.Is(err, ErrBusy) {
			return err
		}
		switch {
		case holder > 0 && alive(holder), holder < 0:
			return err
		case time.Now().After(until):
			return fmt.Errorf("%w; it was waited for %v", err, lockPatience)
		case waits != nil:
			waits(err)
			waits = nil
		}
		select {
		case <-ending:
			return fmt.Errorf("%w; it is not waited for any longer, since the program ends", err)
		case <-time.After(lockPause):
		}
	}
}

// tryFile tries it once. With ErrBusy goes who holds the file: a process, 0 for one that cannot be named, -1 for the system.
func (u *Uring) tryFile(mode int) (holder int, err error) {
	u.direct = true
	u.file, err = os.OpenFile(u.path, mode|unix.O_DIRECT, 0)
	if errors.Is(err, syscall.EINVAL) { // a file system without direct I/O
		u.direct = false
		u.file, err = os.OpenFile(u.path, mode, 0)
	}
	if errors.Is(err, syscall.EBUSY) && mode&os.O_EXCL != 0 {
		return u.tryBusy(mode)
	}
	if err != nil {
		return 0, err
	}
	if holder, err = u.lock(); err != nil {
		_ = u.file.Close()
	}
	return holder, err
}

// tryBusy finds out about a block device that is busy whether an engine holds it: that has locked it as well.
func (u *Uring) tryBusy(mode int) (holder int, err error) {
	if u.file, err = os.OpenFile(u.path, mode&^os.O_EXCL, 0); err != nil {
		return 0, err
	}
	defer u.file.Close()
	if holder, err = u.lock(); !errors.Is(err, ErrBusy) {
		holder = -1
	}
	return holder, fmt.Errorf("%w by the system (mounted, swap, or part of a RAID or volume group) or by another engine: release it first, or choose another device", ErrBusy)
}

// lock locks the file that is open.
func (u *Uring) lock() (holder int, err error) {
	how := unix.LOCK_EX
	if u.readOnly {
		how = unix.LOCK_SH
	}
	err = unix.Flock(int(u.file.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		holder = u.lockHolder()
		by := ""
		switch {
		case holder > 0 && alive(holder):
			by = fmt.Sprintf(" (process %d)", holder)
		case holder > 0:
			by = fmt.Sprintf(" (process %d, which has ended; the system still holds what it had)", holder)
		}
		return holder, fmt.Errorf("%w by another device or engine%s: stop that one, or give this device another file", ErrBusy, by)
	}
	if err != nil {
		return 0, fmt.Errorf("locking it: %w", err)
	}
	return 0, nil
}

// lockHolder is the process that has the lock, as far as /proc/locks tells.
func (u *Uring) lockHolder() int {
	var st unix.Stat_t
	if unix.Fstat(int(u.file.Fd()), &st) != nil {
		return 0
	}
	text, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0
	}
	return flockHolder(string(text), unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
}

// alive reports whether a process runs. One that has ended, and whose parent has not yet asked how, does not: proc_pid_stat(5), state.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH)
	}
	text := string(stat)
	state := strings.TrimLeft(text[strings.LastIndexByte(text, ')')+1:], " ")
	return !strings.HasPrefix(state, "Z") && !strings.HasPrefix(state, "X")
}
