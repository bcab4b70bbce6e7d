package hist

import (
	"fmt"
	"math/bits"
)

// This file is the histogram that SPDK's tools read (its include/spdk/histogram_data.h): a power of two is a range, and each
// range is cut into 2^granularity buckets of one width. With granularity g:
//
//	range 0        values 0 to 2^g-1, a bucket to each
//	range r >= 1   values 2^(g+r-1) to 2^(g+r)-1, a bucket to 2^(r-1) of them
//
// Only the ranges between the smallest and the largest value asked for are kept. What is below the first goes into its first
// bucket, what is above the last into its last.

// LogLinear is a set of counters by ranges of equal buckets.
type LogLinear struct {
	Granularity        uint8
	MinRange, MaxRange uint32   // inclusive
	Counts             []uint64 // by range and bucket, from MinRange on
}

// LogLinearBucketsMax bounds the counters of one LogLinear, so that copying it takes no time worth mentioning.
const LogLinearBucketsMax = 1 << 17

// NewLogLinear makes an empty one for values from low up to, but not with, high.
func NewLogLinear(granularity uint8, low, high uint64) (*LogLinear, error) {
	if low >= high {
		return nil, fmt.Errorf("a histogram of values from %d to %d: the largest must be above the smallest", low, high)
	}
	h := &LogLinear{Granularity: granularity}
	if granularity < 64 {
		h.MinRange, h.MaxRange = h.rangeOf(low), h.rangeOf(high-1)
	}
	if granularity >= 17 || uint64(h.MaxRange-h.MinRange+1)<<granularity > LogLinearBucketsMax {
		return nil, fmt.Errorf("a histogram of values from %d to %d with granularity %d: it would have more than %d buckets; choose a lower granularity",
			low, high, granularity, LogLinearBucketsMax)
	}
	h.Counts = make([]uint64, uint64(h.MaxRange-h.MinRange+1)<<granularity)
	return h, nil
}

// rangeOf is the range of v.
func (h *LogLinear) rangeOf(v uint64) uint32 {
	return uint32(max(0, bits.Len64(v)-int(h.Granularity)))
}

// index is the bucket of v.
func (h *LogLinear) index(v uint64) int {
	r := h.rangeOf(v)
	switch {
	case r < h.MinRange:
		return 0
	case r > h.MaxRange:
		return len(h.Counts) - 1
	}
	bucket := v >> (max(r, 1) - 1) & (1<<h.Granularity - 1)
	return int(uint64(r-h.MinRange)<<h.Granularity + bucket)
}

// Record counts v.
func (h *LogLinear) Record(v uint64) { h.Counts[h.index(v)]++ }

// Add adds the counts of another with the same buckets.
func (h *LogLinear) Add(o *LogLinear) {
	for i, n := range o.Counts {
		h.Counts[i] += n
	}
}

// UpTo counts the values in all buckets up to that of border, it included; SPDK's bdev_get_histogram_borders counts so too.
func (h *LogLinear) UpTo(border uint64) (n uint64) {
	if h.rangeOf(border) < h.MinRange {
		return 0
	}
	for _, c := range h.Counts[:h.index(border)+1] {
		n += c
	}
	return n
}

// Total counts all.
func (h *LogLinear) Total() (n uint64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}
