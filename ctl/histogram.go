package ctl

import (
	"context"
	"math"
	"slices"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/internal/hist"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the methods about the histogram of a device's latencies, in SPDK's buckets, so that its scripts/histogram.py
// reads it. A tick is a nanosecond here, and tsc_rate says so.

func (e *Engine) registerHistograms() {
	RegisterDo(e.Methods, api.BdevEnableHistogram, e.enableHistogram)
	Register(e.Methods, api.BdevGetHistogram, func(_ context.Context, p *api.BdevNameParams) (api.Histogram, error) {
		h, err := e.histogram(p.Name)
		if err != nil {
			return api.Histogram{}, err
		}
		return describeHistogram(h), nil
	})
	Register(e.Methods, api.BdevGetHistogramBorders, func(_ context.Context, p *api.BdevGetHistogramBordersParams) (api.HistogramBorders, error) {
		if !slices.IsSorted(p.Borders) {
			return api.HistogramBorders{}, api.Errno(22, "counting operations of %s between borders: they have to rise", p.Name)
		}
		h, err := e.histogram(p.Name)
		if err != nil {
			return api.HistogramBorders{}, err
		}
		out := api.HistogramBorders{}
		for _, us := range p.Borders {
			out.BordersCount = append(out.BordersCount, h.UpTo(min(us, math.MaxUint64/uint64(reactor.Microsecond))*uint64(reactor.Microsecond)))
		}
		out.BordersCount = append(out.BordersCount, h.Total())
		return out, nil
	})
}

// countedKinds are the kinds of requests by the names that SPDK gives them (lib/bdev/bdev.c, spdk_bdev_get_io_type).
var countedKinds = map[string]bdev.KindSet{
	"":     1<<bdev.Kinds - 1,
	"read": bdev.SetOf(bdev.Read), "write": bdev.SetOf(bdev.Write), "unmap": bdev.SetOf(bdev.Unmap), "flush": bdev.SetOf(bdev.Flush),
	"reset": bdev.SetOf(bdev.Reset), "write_zeroes": bdev.SetOf(bdev.WriteZeroes), "compare": bdev.SetOf(bdev.Compare),
	"compare_and_write": bdev.SetOf(bdev.CompareAndWrite), "copy": bdev.SetOf(bdev.Copy),
}

func (e *Engine) enableHistogram(_ context.Context, p *api.BdevEnableHistogramParams) error {
	d, err := e.Bdevs.Lookup(p.Name)
	if err != nil {
		return codeOf(err)
	}
	if !p.Enable {
		return codeOf(d.DisableHistogram())
	}
	return codeOf(d.EnableHistogram(bdev.HistogramOptions{
		Kinds: countedKinds[p.Opc], Granularity: *p.Granularity, Min: clampTicks(*p.MinNsec), Max: clampTicks(p.MaxNsec),
	}))
}

func clampTicks(ns uint64) reactor.Ticks { return reactor.Ticks(min(ns, math.MaxInt64)) }

// histogram gives that of a device. Where there is none the code is SPDK's.
func (e *Engine) histogram(name string) (*hist.LogLinear, error) {
	d, err := e.Bdevs.Lookup(name)
	if err != nil {
		return nil, codeOf(err)
	}
	h, err := d.Histogram()
	if err != nil {
		return nil, codeOf(err)
	}
	if h == nil {
		return nil, &api.Error{Code: api.CodeInternal, Message: "device " + d.Name() + " keeps no histogram; turn it on with bdev_enable_histogram"}
	}
	return h, nil
}
