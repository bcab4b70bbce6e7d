package bench

import (
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
)

func TestWorkloadsThatDoNotFit(t *testing.T) {
	good := Workload{RW: "randrw", ReadPercent: 50, BlockBytes: 4096, Depth: 8, Jobs: 1}
	for _, c := range []struct {
		name string
		set  func(w *Workload, g *bdev.Geometry)
		want string
	}{
		{"unknown rw", func(w *Workload, _ *bdev.Geometry) { w.RW = "randwrit" }, "choose read, write"},
		{"mix over 100", func(w *Workload, _ *bdev.Geometry) { w.TrimPercent = 60 }, "50 % reads and 60 % trims"},
		{"no depth", func(w *Workload, _ *bdev.Geometry) { w.Depth = 0 }, "iodepth 0"},
		{"depth past the limit", func(w *Workload, _ *bdev.Geometry) { w.Depth = 5000 }, "iodepth 5000"},
		{"no job", func(w *Workload, _ *bdev.Geometry) { w.Jobs = 0 }, "numjobs 0"},
		{"block size not a multiple", func(w *Workload, _ *bdev.Geometry) { w.BlockBytes = 6144 }, "multiples of 4096"},
		{"block size too large", func(w *Workload, _ *bdev.Geometry) { w.BlockBytes = 2 << 20 }, "at most 1M"},
		{"offset misaligned", func(w *Workload, _ *bdev.Geometry) { w.Offset = 512 }, "offset 512"},
		{"offset past the end", func(w *Workload, _ *bdev.Geometry) { w.Offset = 1 << 40 }, "offset"},
		{"region past the end", func(w *Workload, _ *bdev.Geometry) { w.Offset, w.Size = 4096, 1024*4096 }, "the device ends at 4194304"},
		{"region smaller than a request", func(w *Workload, _ *bdev.Geometry) { w.Size, w.BlockBytes = 4096, 8192 }, "too small"},
		{"zipf of a sequence", func(w *Workload, _ *bdev.Geometry) { w.RW, w.Zipf = "write", 1 }, "only random places"},
		{"writes to a read-only device", func(_ *Workload, g *bdev.Geometry) { g.ReadOnly = true }, "read-only"},
		{"trims without unmap", func(w *Workload, g *bdev.Geometry) { w.TrimPercent, g.Native = 10, 0 }, "no unmap"},
		{"flushes without flush", func(w *Workload, g *bdev.Geometry) { w.FsyncEvery, g.Native = 1, 0 }, "no flush"},
		{"verify with undefined trims", func(w *Workload, g *bdev.Geometry) { w.Verify, w.TrimPercent, g.UnmapZeroes = true, 10, false }, "no defined content"},
		{"two faults are told at once", func(w *Workload, _ *bdev.Geometry) { w.Depth, w.Jobs = 0, 0 }, "numjobs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := good
			g := bdev.Geometry{BlockSize: 4096, Blocks: 1024, MaxBlocks: 256, UnmapZeroes: true, Native: ^bdev.KindSet(0)}
			c.set(&w, &g)
			_, err := w.fit(&g, g.Native.Has)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want something with %q", err, c.want)
			}
		})
	}
}

func TestWorkloadNames(t *testing.T) {
	for want, w := range map[string]Workload{
		"randread 4k qd32":                  {RW: "randread", BlockBytes: 4096, Depth: 32, Jobs: 1},
		"randrw70 4k qd8 x2 fua":            {RW: "randrw", ReadPercent: 70, BlockBytes: 4096, Depth: 8, Jobs: 2, FUAEvery: 1},
		"write 128k qd1 fsync/8":            {RW: "write", BlockBytes: 128 << 10, Depth: 1, Jobs: 1, FsyncEvery: 8},
		"randwrite 512 qd1 zipf1.2 rate100": {RW: "randwrite", BlockBytes: 512, Depth: 1, Jobs: 1, Zipf: 1.2, RateIOPS: 100},
	} {
		if got := w.Name(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestSizes(t *testing.T) {
	for s, want := range map[string]uint64{"4096": 4096, "4k": 4096, "128KiB": 128 << 10, "1G": 1 << 30, "3mb": 3 << 20, "512b": 512, "2T": 2 << 40} {
		if got, err := ParseBytes(s); err != nil || got != want {
			t.Errorf("%s: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "k", "-1", "4x", "1.5G", "99999999999P"} {
		if n, err := ParseBytes(s); err == nil {
			t.Errorf("%q was taken for %d", s, n)
		}
	}
	for want, n := range map[string]uint64{"0": 0, "512": 512, "4k": 4096, "1G": 1 << 30, "1500k": 1500 << 10} {
		if got := FormatBytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
