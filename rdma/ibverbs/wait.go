//go:build cgo

package ibverbs

import "C"

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// waiter lets a goroutine wait for a descriptor of the libraries in Go's poller. It watches a duplicate: the libraries close their own.
type waiter struct {
	file   *os.File
	raw    syscall.RawConn
	closed atomic.Bool
}

func newWaiter(fd int, name string) (*waiter, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate the descriptor of %s: %w", name, err)
	}
	f := os.NewFile(uintptr(dup), name)
	raw, err := f.SyscallConn()
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("watch %s: %w", name, err)
	}
	return &waiter{file: f, raw: raw}, nil
}

// next returns when take has something to tell of, or could not read: take says which. It waits as long as there is nothing to read.
func (w *waiter) next(take func() (told bool, errno C.int)) (errno C.int, err error) {
	err = w.until(func() bool {
		for {
			told, e := take()
			switch {
			case told:
				return true
			case e == C.int(syscall.EAGAIN):
				return false
			case e != 0 && e != C.int(syscall.EINTR): // else it was not one to tell of
				errno = e
				return true
			}
		}
	})
	return errno, err
}

// until calls take, and again whenever the descriptor has become readable, or nudge was called, until it is true. take returns false only when nothing
// is left to read.
func (w *waiter) until(take func() bool) error {
	for {
		err := w.raw.Read(func(uintptr) bool { return take() })
		if err != nil && w.closed.Load() {
			return os.ErrClosed
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		_ = w.file.SetReadDeadline(time.Time{}) // and only then take looks
	}
}

// nudge lets take be called once more: what it looks for has come on another way.
func (w *waiter) nudge() { _ = w.file.SetReadDeadline(time.Unix(1, 0)) }

// close ends until, and returns when take is not running.
func (w *waiter) close() {
	w.closed.Store(true)
	_ = w.file.Close()
}
