//go:build cgo

package ibverbs

import (
	"fmt"
	"os"
	"sync/atomic"
	"syscall"

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

// until calls take, and again whenever the descriptor has become readable, until it is true. take returns false only when nothing is left to read.
func (w *waiter) until(take func() bool) error {
	err := w.raw.Read(func(uintptr) bool { return take() })
	if err != nil && w.closed.Load() {
		return os.ErrClosed
	}
	return err
}

// close ends until, and returns when take is not running.
func (w *waiter) close() {
	w.closed.Store(true)
	_ = w.file.Close()
}
