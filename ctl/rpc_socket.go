package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// This file makes the control socket so that one engine has it, and its owner alone can open it.
//
//  1. Lock <path>.lock. Whoever has the lock owns the path; the kernel lets go of it when its owner dies.
//  2. Make sure that the locked file is still the one under that name: its last owner removes it when it ends.
//  3. Remove the socket of an engine that died. What is not a socket is left alone, and is an error.
//  4. Bind. The mode is set before: nobody can connect in between.

// socketPathMax is what fits into a sockaddr_un with its final NUL (unix(7)).
const socketPathMax = 107

type socket struct {
	path     string
	lock     *os.File
	listener *net.UnixListener
}

func openSocket(path string) (*socket, error) {
	if len(path) == 0 || len(path) > socketPathMax {
		return nil, fmt.Errorf("listen on the control socket %q: a socket's path has 1 to %d bytes, this one has %d; choose a shorter one with --rpc-socket",
			path, socketPathMax, len(path))
	}
	s := &socket{path: path}
	if err := s.takeLock(); err != nil {
		return nil, err
	}
	if err := s.listen(); err != nil {
		return nil, errors.Join(err, s.unlock())
	}
	return s, nil
}

func (s *socket) lockPath() string { return s.path + ".lock" }

func (s *socket) takeLock() error {
	for {
		lock, err := os.OpenFile(s.lockPath(), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return fmt.Errorf("lock the control socket %s: %w; use a directory that this account may write to, with --rpc-socket", s.path, err)
		}
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			owner, _ := io.ReadAll(io.LimitReader(lock, 32))
			lock.Close()
			if !errors.Is(err, unix.EWOULDBLOCK) {
				return fmt.Errorf("lock the control socket %s: %w", s.path, err)
			}
			return fmt.Errorf("listen on the control socket %s: another engine has it (process %s); stop that one or choose another path with --rpc-socket",
				s.path, strings.TrimSpace(string(owner)))
		}
		held, err := lock.Stat()
		if err != nil {
			lock.Close()
			return fmt.Errorf("lock the control socket %s: %w", s.path, err)
		}
		named, err := os.Stat(s.lockPath())
		if err == nil && os.SameFile(held, named) {
			s.lock = lock
			return s.signLock()
		}
		lock.Close() // its owner ended between our open and our lock, and took the file with it
	}
}

// signLock writes who has the lock into it, for the message that the next one gets.
func (s *socket) signLock() error {
	err := s.lock.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(s.lock, "%d\n", os.Getpid())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write the lock file %s: %w", s.lockPath(), err), s.unlock())
	}
	return nil
}

func (s *socket) listen() error {
	info, err := os.Lstat(s.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return fmt.Errorf("listen on the control socket %s: %w", s.path, err)
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("listen on the control socket %s: something that is no socket has this name; remove it or choose another path with --rpc-socket", s.path)
	default:
		if err := os.Remove(s.path); err != nil {
			return fmt.Errorf("remove the control socket %s of an engine that is gone: %w", s.path, err)
		}
	}
	// Linux gives the name the mode that the socket has when it is bound (net/unix/af_unix.c, unix_bind_bsd).
	private := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }), err)
	}}
	listener, err := private.Listen(context.Background(), "unix", s.path)
	if err != nil {
		return fmt.Errorf("listen on the control socket %s: %w", s.path, err)
	}
	s.listener = listener.(*net.UnixListener)
	return nil
}

// unlock removes the lock file while it is still locked, and lets go.
func (s *socket) unlock() error {
	return errors.Join(os.Remove(s.lockPath()), s.lock.Close())
}
