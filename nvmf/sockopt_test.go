package nvmf_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/nvmf/nvmftest"
	"github.com/pollux-storage/pollux/reactor"
)

// What is chosen of sockets holds for the listeners that are opened after that, and the connections that they take.
func TestSocketOptionsReachConnections(t *testing.T) {
	e := nvmftest.Start(t, nvmftest.Options{})
	const asked = 12345
	if _, err := e.Group.SetSockets(reactor.SocketOptions{RecvBytes: asked, SendBytes: asked}); err != nil {
		t.Fatal(err)
	}
	addr := e.Listen(nvmftest.NQN)
	nvmftest.Queue(t, addr, nvmftest.Admin(t, addr), 1, 32)
	// This process has both ends of every connection; the target's is bound to the listener's port.
	found := 0
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range fds {
		link, _ := os.Readlink(filepath.Join("/proc/self/fd", entry.Name()))
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || len(link) < 7 || link[:7] != "socket:" {
			continue
		}
		local, err := unix.Getsockname(fd)
		if err != nil || reactor.AddrPort(local) != addr {
			continue
		}
		for _, option := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF} {
			if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option); err != nil || n != 2*asked {
				t.Errorf("option %d of a socket is %d, want %d: %v", option, n, 2*asked, err)
			}
		}
		found++
	}
	if found != 3 { // the listener, and two queues
		t.Errorf("%d sockets of the target, want 3", found)
	}
}
