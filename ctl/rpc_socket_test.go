package ctl

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSocketIsPrivate(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	r := newRig(t)
	for _, path := range []string{r.path, r.path + ".lock"} {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %v", path, info.Mode())
		}
	}
}

func TestSecondEngineIsToldWhoHasTheSocket(t *testing.T) {
	r := newRig(t)
	_, err := Listen(r.path, r.reg, slog.New(slog.DiscardHandler))
	want := fmt.Sprintf("listen on the control socket %s: another engine has it (process %d); stop that one or choose another path with --rpc-socket",
		r.path, os.Getpid())
	if err == nil || err.Error() != want {
		t.Fatalf("got  %v\nwant %s", err, want)
	}
	p := r.dial(t)
	p.write(fmt.Sprintf(createX, "1"))
	p.want("the first engine is undisturbed", fmt.Sprintf(doneX, "1"))
}

// TestEngineThatWasKilledLeavesNothingInTheWay leaves a socket and a lock file behind, as a killed engine does.
func TestEngineThatWasKilledLeavesNothingInTheWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	if err := os.WriteFile(path+".lock", []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Listen(path, NewRegistry(slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestOneOwnerAtATime: engines that come and go at once never have the path together, though each removes the lock file
// that another may be opening.
func TestOneOwnerAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	var owners, owned atomic.Int32
	var engines sync.WaitGroup
	for range 4 {
		engines.Go(func() {
			for range 200 {
				s, err := openSocket(path)
				if err != nil {
					continue
				}
				if n := owners.Add(1); n != 1 {
					t.Errorf("%d engines have the socket", n)
				}
				owned.Add(1)
				if _, err := os.Stat(path); err != nil {
					t.Errorf("its owner does not find it: %v", err)
				}
				owners.Add(-1)
				if err := errors.Join(s.listener.Close(), s.unlock()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	engines.Wait()
	if owned.Load() == 0 {
		t.Error("nobody ever had it")
	}
}

func TestSocketErrorsSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, want string }{
		{"no path", "", "has 1 to 107 bytes, this one has 0"},
		{"too long", "/" + strings.Repeat("x", 107), "has 1 to 107 bytes, this one has 108"},
		{"a file of that name", file, "something that is no socket has this name"},
		{"no directory", filepath.Join(dir, "none", "s"), "no such file or directory; use a directory that this account may write to"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Listen(c.path, NewRegistry(slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v\nwant %s", err, c.want)
			}
		})
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Fatalf("the file is now %q, %v", text, err)
	}
	if _, err := os.Stat(file + ".lock"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lock file is left: %v", err)
	}
}

// TestLockIsNotInherited: a child process of the engine must not keep the path when the engine is gone.
func TestLockIsNotInherited(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	reg, log := NewRegistry(slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler)
	s, err := Listen(path, reg, log)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("cat")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = child.Wait() }()
	// As if the engine were killed: nothing is removed.
	s.socket.listener.SetUnlinkOnClose(false)
	s.cancel()
	s.socket.listener.Close()
	s.wait.Wait()
	s.socket.lock.Close()
	again, err := Listen(path, reg, log)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
