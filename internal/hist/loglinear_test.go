package hist

import (
	"math"
	"math/rand/v2"
	"testing"
)

func newLogLinear(t *testing.T, g uint8, low, high uint64) *LogLinear {
	t.Helper()
	h, err := NewLogLinear(g, low, high)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// start is the smallest value of bucket i, found the slow way: by walking over all buckets before it.
func (h *LogLinear) start(i int) uint64 {
	v, width, r := uint64(0), uint64(1), uint32(0)
	for n := 0; ; n++ {
		if n == 1<<h.Granularity {
			n, r = 0, r+1
			if r > 1 {
				width *= 2
			}
		}
		if r == h.MinRange {
			return v + uint64(n)*width + h.beyond(i, width, n)
		}
		v += width
	}
}

// beyond walks on from bucket n of range MinRange, whose buckets are width wide.
func (h *LogLinear) beyond(i int, width uint64, n int) (v uint64) {
	r := h.MinRange
	for range i {
		v += width
		if n++; n == 1<<h.Granularity {
			n, r = 0, r+1
			if r > 1 {
				width *= 2
			}
		}
	}
	return v
}

func TestLogLinearRanges(t *testing.T) {
	for _, c := range []struct {
		name      string
		g         uint8
		low, high uint64
		min, max  uint32
	}{
		{"all values", 7, 0, math.MaxUint64, 0, 57}, // SPDK's own default: 57 is its last range
		{"1 us to 2 min in ns", 7, 1000, 120_000_000_000, 3, 30},
		{"a power of two is not in the range below", 7, 256, 512, 2, 2},
		{"one value", 7, 0, 1, 0, 0},
		{"no granularity", 0, 0, math.MaxUint64, 0, 64},
	} {
		h := newLogLinear(t, c.g, c.low, c.high)
		if h.MinRange != c.min || h.MaxRange != c.max || len(h.Counts) != int(c.max-c.min+1)<<c.g {
			t.Errorf("%s: ranges %d to %d, %d buckets", c.name, h.MinRange, h.MaxRange, len(h.Counts))
		}
	}
	for name, c := range map[string]struct {
		g         uint8
		low, high uint64
	}{
		"empty": {7, 10, 10}, "upside down": {7, 11, 10}, "too fine": {13, 0, math.MaxUint64}, "much too fine": {255, 0, 10}, "as fine as a word": {64, 0, 10},
	} {
		if h, err := NewLogLinear(c.g, c.low, c.high); err == nil {
			t.Errorf("%s: %d buckets", name, len(h.Counts))
		}
	}
}

func TestLogLinearBucketsHoldTheirValues(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, h := range []*LogLinear{newLogLinear(t, 7, 0, 1<<40), newLogLinear(t, 4, 1000, 1<<30), newLogLinear(t, 0, 3, 1<<20), newLogLinear(t, 1, 0, 1<<12)} {
		low, high := h.start(0), h.start(len(h.Counts))
		for range 2000 {
			v := r.Uint64() >> (24 + r.IntN(40))
			i := h.index(v)
			switch {
			case v < low:
				if i != 0 {
					t.Errorf("granularity %d: %d is in bucket %d", h.Granularity, v, i)
				}
			case v >= high:
				if i != len(h.Counts)-1 {
					t.Errorf("granularity %d: %d is in bucket %d", h.Granularity, v, i)
				}
			case v < h.start(i) || v >= h.start(i+1):
				t.Errorf("granularity %d: %d is in bucket %d, from %d to %d", h.Granularity, v, i, h.start(i), h.start(i+1))
			}
		}
	}
}

// TestLogLinearBorders counts as SPDK's own test of its histogram does: 10000 lies in a bucket that ends at 10048.
func TestLogLinearBorders(t *testing.T) {
	h := newLogLinear(t, 7, 0, math.MaxUint64)
	for v := range uint64(1 << 16) {
		h.Record(v)
	}
	for _, c := range []struct{ border, want uint64 }{{0, 1}, {1000, 1004}, {1003, 1004}, {1004, 1008}, {10000, 10048}, {10011, 10048}, {30000, 30080}, {1 << 40, 1 << 16}} {
		if got := h.UpTo(c.border); got != c.want {
			t.Errorf("up to %d there are %d, want %d", c.border, got, c.want)
		}
	}
	twice := newLogLinear(t, 7, 0, math.MaxUint64)
	twice.Add(h)
	twice.Add(h)
	if twice.Total() != 2<<16 {
		t.Error(twice.Total())
	}
	late := newLogLinear(t, 7, 1000, 2000)
	late.Record(5)
	late.Record(5000)
	if late.UpTo(100) != 0 || late.UpTo(600) != 1 || late.UpTo(1<<20) != 2 || late.Total() != 2 {
		t.Error(late.UpTo(100), late.UpTo(600), late.UpTo(1<<20))
	}
}

func TestLogLinearRecordAllocatesNothing(t *testing.T) {
	h := newLogLinear(t, 7, 0, math.MaxUint64)
	if n := testing.AllocsPerRun(100, func() { h.Record(12345) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
