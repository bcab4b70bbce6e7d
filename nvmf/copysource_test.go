package nvmf

import (
	"testing"

	"github.com/pollux-storage/pollux/bdev"
)

// TestASourceOfACopyKeepsItsPromise: what a device writes whole over a power failure is never more than one write of a copy's steps, unless a
// source is no longer than that.
func TestASourceOfACopyKeepsItsPromise(t *testing.T) {
	for _, c := range []struct {
		name        string
		size, atom  uint32
		want        uint64
		oneWriteMax bool
	}{
		{"a device that promises a block", 4096, 1, 4096, false},
		{"the same in blocks of 512", 512, 1, 32768, false},
		{"a volume with clusters of 64 KiB", 4096, 16, 4096, false},
		{"one step", 4096, 32, 4096, false},
		{"a volume with clusters of 1 MiB", 4096, 128, 32, true},
		{"the same in blocks of 512", 512, 1024, 256, true},
	} {
		g := bdev.Geometry{BlockSize: c.size, AtomicBlocks: c.atom}
		got := copySource(&g)
		if got != c.want {
			t.Errorf("%s: sources of %d blocks, want %d", c.name, got, c.want)
		}
		if c.oneWriteMax != (got*uint64(c.size) <= bdev.CopyStepBytes) {
			t.Errorf("%s: sources of %d bytes", c.name, got*uint64(c.size))
		}
	}
}
