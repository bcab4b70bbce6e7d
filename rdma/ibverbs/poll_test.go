//go:build cgo

package ibverbs

import (
	"testing"

	"golang.org/x/sys/unix"
)

func readable(t testing.TB, fd int) bool {
	t.Helper()
	f := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(f, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}
