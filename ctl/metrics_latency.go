package ctl

import (
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/pollux-storage/pollux/internal/hist"
)

// This file turns a histogram of nanoseconds into one of seconds that Prometheus takes both ways: native, and as a few
// classic buckets for whoever reads the text format. client_golang has constant histograms of either kind, not of both in
// one.
//
// Both count on a logarithmic scale of the same steps, 2^(1/8), but in different units: a second is 2^29.897 nanoseconds,
// 239.18 steps. Bucket i becomes bucket i - 239; every value so appears at most 0.18 steps, 1.6 %, larger than it was, less
// than a fifth of a bucket's own width. The classic borders are exact.

// stepsOfSecond is how many steps a second is above a nanosecond, rounded down.
const stepsOfSecond = 239

// classicFirst and classicStep choose the classic buckets: 2^10 ns (1 microsecond), and then by fours to 2^34 (17 s).
const (
	classicFirst = 10 << hist.Schema
	classicLast  = 34 << hist.Schema
	classicStep  = 2 << hist.Schema
)

// latency is one histogram with its labels.
type latency struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	h      hist.Histogram
	err    error
}

func newLatency(desc *prometheus.Desc, h *hist.Histogram, labels []string) prometheus.Metric {
	// NewConstMetric knows whether the labels fit the description, and puts them in order.
	named, err := prometheus.NewConstMetric(desc, prometheus.UntypedValue, 0, labels...)
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	var pairs dto.Metric
	err = named.Write(&pairs)
	return &latency{desc: desc, labels: pairs.Label, h: *h, err: err}
}

func (l *latency) Desc() *prometheus.Desc { return l.desc }

func (l *latency) Write(out *dto.Metric) error {
	if l.err != nil {
		return fmt.Errorf("label a histogram: %w", l.err)
	}
	schema, sum := int32(hist.Schema), float64(l.h.Sum)*1e-9
	zeroThreshold, zeroCount := 1e-12, uint64(0)
	d := &dto.Histogram{
		SampleCount: &l.h.Count, SampleSum: &sum,
		Schema: &schema, ZeroThreshold: &zeroThreshold, ZeroCount: &zeroCount,
	}
	d.PositiveSpan, d.PositiveDelta = spans(l.h.Counts[:])
	d.Bucket = classic(l.h.Counts[:])
	out.Label, out.Histogram = slices.Clone(l.labels), d
	return nil
}

// spans lists the buckets that hold something: where each run of them begins, counted from the end of the last one, and
// how much each bucket holds more than the one before.
func spans(counts []uint64) (list []*dto.BucketSpan, deltas []int64) {
	end, before := int32(0), int64(0)
	for i, n := range counts {
		if n == 0 {
			continue
		}
		at := int32(i) - stepsOfSecond
		if len(list) == 0 || at != end {
			offset, length := at-end, uint32(0)
			list = append(list, &dto.BucketSpan{Offset: &offset, Length: &length})
		}
		*list[len(list)-1].Length++
		deltas = append(deltas, int64(n)-before)
		end, before = at+1, int64(n)
	}
	return list, deltas
}

// classic counts up to each of the chosen borders. The last bucket of hist holds also what is beyond its border.
func classic(counts []uint64) []*dto.Bucket {
	var list []*dto.Bucket
	below := uint64(0)
	for i, n := range counts {
		below += n
		if i >= classicFirst && i <= classicLast && (i-classicFirst)%classicStep == 0 {
			count, border := below, hist.Border(i)*1e-9
			list = append(list, &dto.Bucket{CumulativeCount: &count, UpperBound: &border})
		}
	}
	return list
}
