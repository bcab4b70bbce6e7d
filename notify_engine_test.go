package pollux

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestTheEngineTellsItsManager runs the engine as systemd would: ready when it serves, signs of life, and its end.
func TestTheEngineTellsItsManager(t *testing.T) {
	e := newEngine(t)
	dir, err := os.MkdirTemp("", "n") // short: a socket's path has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	hears := func() string {
		t.Helper()
		b := make([]byte, 4096)
		n, err := manager.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	t.Setenv("NOTIFY_SOCKET", name)
	t.Setenv("WATCHDOG_USEC", "200000")
	e.start()
	if got := hears(); !strings.HasPrefix(got, "READY=1\nSTATUS=serving, cores ") {
		t.Errorf("the first is %q", got)
	}
	for range 3 {
		if got := hears(); got != "WATCHDOG=1" {
			t.Errorf("heard %q", got)
		}
	}
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for got := hears(); !strings.HasPrefix(got, "STOPPING=1\n"); got = hears() {
		if got != "WATCHDOG=1" {
			t.Fatalf("heard %q", got)
		}
	}
	if err := e.cmd.Wait(); err != nil {
		t.Error(err)
	}
	e.cmd = nil
}
