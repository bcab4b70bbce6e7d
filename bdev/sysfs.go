package bdev

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// This file is what only the text files of the kernel tell about block devices and locks.

// queueDir is where sysfs describes the queue of a block device.
type queueDir string

// blockQueue finds it; a partition has that of its disk.
func blockQueue(major, minor uint32) queueDir {
	dev := fmt.Sprintf("/sys/dev/block/%d:%d", major, minor)
	if _, err := os.Stat(filepath.Join(dev, "queue")); err == nil {
		return queueDir(filepath.Join(dev, "queue"))
	}
	if real, err := filepath.EvalSymlinks(dev); err == nil {
		return queueDir(filepath.Join(filepath.Dir(real), "queue"))
	}
	return ""
}

// limit reads a number of bytes, the first of names that there is; 0 if there is none.
func (q queueDir) limit(names ...string) uint64 {
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(string(q), name))
		if err != nil {
			continue
		}
		n, _ := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		return n
	}
	return 0
}

// kernelAtLeast compares the kernel's version.
func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var a, b int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b); err != nil {
		return false
	}
	return a > major || a == major && b >= minor
}

// flockHolder finds in the text of /proc/locks the process that has a file locked by flock(2), 0 if there is none.
//
//	1: FLOCK  ADVISORY  WRITE 1234 fe:00:131 0 EOF
func flockHolder(text string, major, minor uint32, inode uint64) int {
	file := fmt.Sprintf("%02x:%02x:%d", major, minor, inode)
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) >= 6 && f[1] == "FLOCK" && f[5] == file {
			pid, _ := strconv.Atoi(f[4])
			return pid
		}
	}
	return 0
}
