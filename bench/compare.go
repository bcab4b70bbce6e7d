package bench

import (
	"fmt"
	"io"
	"math"
)

// Difference is one figure of a row in two reports.
type Difference struct {
	Row    string
	Figure string
	A, B   float64 // medians
	Ratio  float64 // B / A
	Spread float64 // the larger of both rows' spreads
	Runs   int     // of the row that has fewer
	More   bool    // more is better
}

// Claims reports whether the difference is more than the runs differ among themselves.
func (d *Difference) Claims() bool { return d.Runs >= RunsMin && math.Abs(d.Ratio-1) > d.Spread }

// Limits of a regression: what IOPS may fall and what the 99th percentile may rise before it counts.
const (
	iopsFallMax = 0.05
	p99RiseMax  = 0.10
)

// Regressed reports whether the difference is a claim, for the worse, and past the limits.
func (d *Difference) Regressed() bool {
	switch {
	case !d.Claims():
		return false
	case d.Figure == "IOPS":
		return d.Ratio < 1-iopsFallMax
	case d.Figure == "p99":
		return d.Ratio > 1+p99RiseMax
	}
	return false
}

// Comparison is two reports side by side.
type Comparison struct {
	Differences  []Difference
	OnlyA, OnlyB []string // rows that the other does not have
	Conditions   []string // what differs between the two, in words
}

// Compare sets b against a.
func Compare(a, b *Report) *Comparison {
	c := &Comparison{Conditions: conditionsDiffer(&a.Conditions, &b.Conditions)}
	find := func(r *Report, name string) *Row {
		for i := range r.Rows {
			if r.Rows[i].Name == name {
				return &r.Rows[i]
			}
		}
		return nil
	}
	for i := range a.Rows {
		x := &a.Rows[i]
		y := find(b, x.Name)
		if y == nil {
			c.OnlyA = append(c.OnlyA, x.Name)
			continue
		}
		for _, f := range []struct {
			name string
			more bool
			x, y Stat
		}{
			{"IOPS", true, x.Summary.IOPS, y.Summary.IOPS},
			{"p50", false, x.Summary.P50, y.Summary.P50},
			{"p99", false, x.Summary.P99, y.Summary.P99},
			{"p99.9", false, x.Summary.P999, y.Summary.P999},
			{"CPU/IO", false, x.Summary.CPUPerIO, y.Summary.CPUPerIO},
		} {
			if f.x.Median == 0 || f.y.Median == 0 {
				continue
			}
			c.Differences = append(c.Differences, Difference{
				Row: x.Name, Figure: f.name, A: f.x.Median, B: f.y.Median, Ratio: f.y.Median / f.x.Median,
				Spread: max(f.x.Spread, f.y.Spread), Runs: min(len(x.Runs), len(y.Runs)), More: f.more,
			})
		}
	}
	for i := range b.Rows {
		if find(a, b.Rows[i].Name) == nil {
			c.OnlyB = append(c.OnlyB, b.Rows[i].Name)
		}
	}
	return c
}

func conditionsDiffer(a, b *Conditions) (out []string) {
	say := func(what, x, y string) {
		if x != y {
			out = append(out, fmt.Sprintf("%s: %s, and %s", what, x, y))
		}
	}
	say("processor", a.Machine.CPU, b.Machine.CPU)
	say("cores", fmt.Sprint(a.Machine.Cores), fmt.Sprint(b.Machine.Cores))
	say("kernel", a.Machine.Kernel, b.Machine.Kernel)
	say("Go", a.Go, b.Go)
	say("commit", a.Commit, b.Commit)
	return out
}

// Regressions lists the differences past the limits.
func (c *Comparison) Regressions() (out []Difference) {
	for _, d := range c.Differences {
		if d.Regressed() {
			out = append(out, d)
		}
	}
	return out
}

// WriteTable shows the comparison to a person.
func (c *Comparison) WriteTable(w io.Writer) error {
	t := &table{head: []string{"row", "figure", "a", "b", "b/a", "spread", "verdict"}}
	last := ""
	for i := range c.Differences {
		d := &c.Differences[i]
		name := d.Row
		if name == last {
			name = ""
		}
		last = d.Row
		show := number
		if d.Figure[0] == 'p' {
			show = micros
		}
		t.add(name, d.Figure, show(d.A), show(d.B), ratio(d.Ratio), percent(d.Spread), d.verdict())
	}
	if err := t.text(w); err != nil {
		return err
	}
	for _, n := range c.OnlyA {
		fmt.Fprintf(w, "only in a: %s\n", n)
	}
	for _, n := range c.OnlyB {
		fmt.Fprintf(w, "only in b: %s\n", n)
	}
	for _, s := range c.Conditions {
		fmt.Fprintf(w, "made under different conditions: %s\n", s)
	}
	return nil
}

func (d *Difference) verdict() string {
	switch {
	case d.Runs < RunsMin:
		return fmt.Sprintf("no claim: fewer than %d runs", RunsMin)
	case !d.Claims():
		return "no claim: below the spread"
	case d.Regressed():
		return "REGRESSION"
	case d.Ratio > 1 == d.More:
		return "better"
	}
	return "worse"
}
