package bdev

import (
	"fmt"

	"github.com/pollux-storage/pollux/internal/hist"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the histogram of latencies that a device keeps for who asked for it, in SPDK's buckets. It stands beside the
// counters of stats.go, whose buckets are Prometheus'. Each reactor counts for itself; who reads adds up.
//
// A device without one pays one branch per request.

// HistogramOptions say what is counted, and how finely.
type HistogramOptions struct {
	Kinds       KindSet       // of requests; failed ones count too, as they do in SPDK
	Granularity uint8         // each power of two is cut into 2^Granularity buckets
	Min, Max    reactor.Ticks // what is quicker or slower counts in the first or last bucket
}

// histogram is that of one reactor.
type histogram struct {
	kinds  KindSet
	counts *hist.LogLinear
}

// EnableHistogram begins to count latencies. Where it is on already with the same options it goes on counting; with others it
// begins anew.
func (d *Device) EnableHistogram(o HistogramOptions) error {
	if o.Kinds == 0 || o.Min < 0 {
		return fmt.Errorf("the histogram of %s: %w: no kind of request, or a latency below 0", d.name, ErrInvalid)
	}
	hs := make([]*histogram, len(d.here))
	for i := range hs {
		counts, err := hist.NewLogLinear(o.Granularity, uint64(o.Min), uint64(o.Max))
		if err != nil {
			return fmt.Errorf("the histogram of %s: %w: %w", d.name, ErrInvalid, err)
		}
		hs[i] = &histogram{kinds: o.Kinds, counts: counts}
	}
	d.control.Lock()
	defer d.control.Unlock()
	if d.histogram == o {
		return nil
	}
	d.histogram = o
	return d.setHistograms(hs)
}

// DisableHistogram ends it.
func (d *Device) DisableHistogram() error {
	d.control.Lock()
	defer d.control.Unlock()
	d.histogram = HistogramOptions{}
	return d.setHistograms(make([]*histogram, len(d.here)))
}

// setHistograms gives each reactor its own. The device's control lock is held.
func (d *Device) setHistograms(hs []*histogram) error {
	i := 0
	return d.each(func(h *here) {
		h.histogram = hs[i]
		if h.channel != nil {
			h.channel.histogram = h.histogram
		}
		i++
	})
}

// Histogram gives the latencies counted since they were first asked for, in nanoseconds; nil if nobody asked. It runs on a
// control goroutine.
func (d *Device) Histogram() (*hist.LogLinear, error) {
	d.control.Lock()
	defer d.control.Unlock()
	o := d.histogram
	if o.Kinds == 0 {
		return nil, nil
	}
	sum, err := hist.NewLogLinear(o.Granularity, uint64(o.Min), uint64(o.Max))
	if err != nil {
		return nil, err
	}
	return sum, d.each(func(h *here) {
		if h.histogram != nil {
			sum.Add(h.histogram.counts)
		}
	})
}

// count takes the end of a request that took d.
func (h *histogram) count(k Kind, d reactor.Ticks) {
	if h.kinds.Has(k) {
		h.counts.Record(uint64(d))
	}
}
