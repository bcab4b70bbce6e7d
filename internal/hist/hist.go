// Package hist counts latencies in buckets whose borders are powers of 2^(1/8), the borders of Prometheus' native
// histograms of schema 3: a value is known to within 4.5 %, recording one costs a few instructions and no allocation, and
// an exporter copies the counts as they are.
//
// Invariants: bucket i holds the values in (2^((i-1)/8), 2^(i/8)]; counts never fall.
//
// Units: whatever the caller records, as positive integers; here nanoseconds.
package hist

import (
	"math"
	"math/bits"
)

// Schema is the resolution in Prometheus' terms: 2^Schema buckets to an octave.
const Schema = 3

const (
	perOctave = 1 << Schema
	octaves   = 40 // up to 2^40 ns, 18 minutes
	buckets   = octaves*perOctave + 1
)

// Histogram is a set of counters. The zero value is empty.
type Histogram struct {
	Count  uint64
	Sum    uint64
	Counts [buckets]uint64
}

// borders are the mantissas, scaled to 63 bits, of 2^(k/8): a value with a larger mantissa lies in a later bucket. None is above the last.
var borders = func() (b [perOctave + 1]uint64) {
	for k := range perOctave {
		b[k] = uint64(math.Exp2(float64(k)/perOctave) * (1 << 62) * 2)
	}
	b[perOctave] = math.MaxUint64
	return b
}()

// below counts, for each 64th of an octave, the borders that are below all of it. No two borders lie in one, so that one comparison remains.
var below = func() (n [64]uint8) {
	for i := range n {
		for k := range perOctave {
			if borders[k] < 1<<63|uint64(i)<<57 {
				n[i]++
			}
		}
	}
	return n
}()

// Index is the bucket of v.
func Index(v uint64) int {
	if v <= 1 {
		return 0
	}
	n := bits.Len64(v) - 1 // 2^n <= v
	m := v << (63 - n)     // the mantissa, its top bit set
	k := int(below[m>>57&63])
	if m > borders[k] {
		k++
	}
	return min(n*perOctave+k, buckets-1)
}

// Border is the upper border of bucket i, inclusive.
func Border(i int) float64 { return math.Exp2(float64(i) / perOctave) }

// Record counts v.
func (h *Histogram) Record(v uint64) {
	h.Count++
	h.Sum += v
	h.Counts[Index(v)]++
}

// Add adds another's counts.
func (h *Histogram) Add(o *Histogram) {
	h.Count += o.Count
	h.Sum += o.Sum
	if o.Count == 0 {
		return
	}
	for i, n := range o.Counts {
		h.Counts[i] += n
	}
}

// Sub takes an earlier state of the same counters away.
func (h *Histogram) Sub(o *Histogram) {
	h.Count -= o.Count
	h.Sum -= o.Sum
	for i, n := range o.Counts {
		h.Counts[i] -= n
	}
}

// Quantile estimates the value below which the share q of all lies, as the middle of its bucket; 0 if there is none.
func (h *Histogram) Quantile(q float64) float64 {
	if h.Count == 0 {
		return 0
	}
	rank := uint64(math.Ceil(q * float64(h.Count)))
	rank = max(rank, 1)
	for i, n := range h.Counts {
		if rank <= n {
			return Border(i) * math.Exp2(-0.5/perOctave)
		}
		rank -= n
	}
	return Border(buckets - 1)
}

// Mean is the average of what was recorded; 0 if there is none.
func (h *Histogram) Mean() float64 {
	if h.Count == 0 {
		return 0
	}
	return float64(h.Sum) / float64(h.Count)
}
