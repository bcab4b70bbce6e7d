package bdev

import "testing"

func TestFlockHolder(t *testing.T) {
	const text = `1: POSIX  ADVISORY  WRITE 100 fe:00:131 0 EOF
2: FLOCK  ADVISORY  READ 200 fe:01:131 0 EOF
3: FLOCK  ADVISORY  WRITE 1234 fe:00:131 0 EOF
3: -> FLOCK  ADVISORY  WRITE 5 fe:00:131 0 EOF
4: FLOCK
`
	for _, c := range []struct {
		why          string
		major, minor uint32
		inode        uint64
		want         int
	}{
		{"a POSIX lock, then a lock of the file", 0xfe, 0, 131, 1234},
		{"another device", 0xfe, 1, 131, 200},
		{"another file", 0xfe, 0, 132, 0},
	} {
		if got := flockHolder(text, c.major, c.minor, c.inode); got != c.want {
			t.Errorf("%s: process %d, want %d", c.why, got, c.want)
		}
	}
}

func TestKernelVersions(t *testing.T) {
	if !kernelAtLeast(3, 0) || !kernelAtLeast(5, 6) || kernelAtLeast(99, 0) {
		t.Error("this kernel is said to be older than 5.6, which io_uring here needs, or newer than 99.0")
	}
}

func TestQueueLimits(t *testing.T) {
	if n := queueDir("/nowhere").limit("a", "b"); n != 0 {
		t.Errorf("a limit of a device that is not there: %d", n)
	}
}
