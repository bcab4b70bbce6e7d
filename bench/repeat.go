package bench

import (
	"context"
	"fmt"
	"slices"
)

// Ratio compares two targets measured in turns: each pair of runs, one right after the other, gives one ratio, so that what
// changes on the machine from minute to minute falls out.
type Ratio struct {
	Name string `json:"name"` // "uring / raw randread 4k qd32"
	IOPS Span   `json:"iops"`
	P50  Span   `json:"latency_p50"`
	P99  Span   `json:"latency_p99"`
	P999 Span   `json:"latency_p99.9"`
	CPU  Span   `json:"cpu_per_io"`

	// Of targets that are compared (peers.go).
	Mean    Span `json:"latency_mean,omitzero"`
	PerCore Span `json:"iops_per_core,omitzero"`
}

// Span is a ratio over several pairs.
type Span struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Pairs  int     `json:"pairs"`
}

// RunsMin is the number of runs that a figure needs before a difference can be claimed from it.
const RunsMin = 3

// Claims reports whether the ratio says that there is a difference: 1 lies outside of all that was seen, and enough was.
func (s Span) Claims() bool { return s.Pairs >= RunsMin && (s.Low > 1 || s.High < 1) }

// verdict says in words whether there is a difference.
func (s Span) verdict() string {
	switch {
	case s.Pairs < RunsMin:
		return fmt.Sprintf("cannot be said: %d pairs, and %d are needed", s.Pairs, RunsMin)
	case s.Claims():
		return "yes"
	}
	return "no: 1 lies within what was seen"
}

// newSpan takes ratios of pairs in which both sides are there.
func newSpan(a, b []float64) Span {
	var x []float64
	for i := range a {
		if b[i] > 0 && a[i] > 0 {
			x = append(x, a[i]/b[i])
		}
	}
	if len(x) == 0 {
		return Span{}
	}
	st := newStat(x, true)
	high := newStat(x, false).Worst
	return Span{Median: st.Median, Low: st.Worst, High: high, Pairs: len(x)}
}

// Excess is how much longer one target takes than another one that was measured in turns with it, in nanoseconds: the medians of
// each pair of runs, and the 99th percentiles, one less the other.
type Excess struct {
	Name string `json:"name"` // "engine-adaptive - engine-poll randread 4k qd1"
	P50  Span   `json:"latency_p50_ns"`
	P99  Span   `json:"latency_p99_ns"`
}

// NewExcess is that of two rows of one workload whose runs were made in pairs.
func NewExcess(a, b *Row) Excess {
	less := func(of func(*Run) float64) Span {
		x := make([]float64, min(len(a.Runs), len(b.Runs)))
		for i := range x {
			x[i] = of(&a.Runs[i]) - of(&b.Runs[i])
		}
		if len(x) == 0 {
			return Span{}
		}
		return Span{Median: newStat(x, true).Median, Low: slices.Min(x), High: slices.Max(x), Pairs: len(x)}
	}
	return Excess{
		Name: fmt.Sprintf("%s - %s %s", a.Device.Target, b.Device.Target, a.Workload.Name()),
		P50:  less(func(r *Run) float64 { return r.Total.Latency.P50 }),
		P99:  less(func(r *Run) float64 { return r.Total.Latency.P99 }),
	}
}

// Repeat runs w on t n times. A run that failed ends it; its figures, if there are any, are the row's last.
func Repeat(ctx context.Context, t Target, w Workload, n int, o Options) (Row, error) {
	var runs []Run
	for i := range n {
		run, err := t.Run(ctx, w, labelled(o, t, &w, i, n))
		if run != nil {
			runs = append(runs, *run)
		}
		if err != nil {
			return NewRow(t, w, runs), err
		}
	}
	return NewRow(t, w, runs), nil
}

// Turns runs w on each target in turns, n rounds, and gives a row of each. options are the targets'. Every other round goes
// backwards, so that none profits from always following the same one.
func Turns(ctx context.Context, targets []Target, w Workload, n int, options []Options) ([]Row, error) {
	runs := make([][]Run, len(targets))
	for i := range n {
		for k := range targets {
			if i%2 == 1 {
				k = len(targets) - 1 - k
			}
			run, err := targets[k].Run(ctx, w, labelled(options[k], targets[k], &w, i, n))
			if err != nil {
				return nil, err
			}
			runs[k] = append(runs[k], *run)
		}
	}
	rows := make([]Row, len(targets))
	for k, t := range targets {
		rows[k] = NewRow(t, w, runs[k])
	}
	return rows, nil
}

// NewRatio is the ratio of two rows of one workload whose runs were made in pairs.
func NewRatio(a, b *Row) Ratio {
	pick := func(of func(*Run) float64) Span { return pairs(a, b, of) }
	return Ratio{
		Name: fmt.Sprintf("%s / %s %s", a.Device.Target, b.Device.Target, a.Workload.Name()),
		IOPS: pick(func(r *Run) float64 { return r.Total.IOPS }),
		P50:  pick(func(r *Run) float64 { return r.Total.Latency.P50 }),
		P99:  pick(func(r *Run) float64 { return r.Total.Latency.P99 }),
		P999: pick(func(r *Run) float64 { return r.Total.Latency.P999 }),
		CPU:  pick((*Run).cpuPerIO),
	}
}

// pairs is the ratio of one figure.
func pairs(a, b *Row, of func(*Run) float64) Span {
	n := min(len(a.Runs), len(b.Runs))
	x, y := make([]float64, n), make([]float64, n)
	for i := range n {
		x[i], y[i] = of(&a.Runs[i]), of(&b.Runs[i])
	}
	return newSpan(x, y)
}

// ratio adds one of two rows to the report.
func (s *suite) ratio(a, b *Row) { s.report.Ratios = append(s.report.Ratios, NewRatio(a, b)) }

func labelled(o Options, t Target, w *Workload, i, n int) Options {
	o.Label = t.Name() + " " + w.Name()
	if n > 1 {
		o.Label += fmt.Sprintf(" %d/%d", i+1, n)
	}
	return o
}
