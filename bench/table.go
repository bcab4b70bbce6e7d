package bench

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pollux-storage/pollux/reactor"
)

// table is cells that can be shown in a terminal or in Markdown. The first column is text, the others are numbers.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// text writes the table with its columns in line.
func (t *table) text(w io.Writer) error {
	width := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	var b strings.Builder
	for _, row := range append([][]string{t.head}, t.rows...) {
		line := ""
		for i, c := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(c))
			if i == 0 {
				line += c + pad
			} else {
				line += "  " + pad + c
			}
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// markdown writes the table as Markdown.
func (t *table) markdown(w io.Writer) error {
	var b strings.Builder
	b.WriteString("| " + strings.Join(t.head, " | ") + " |\n| ---" + strings.Repeat(" | ---:", len(t.head)-1) + " |\n")
	for _, row := range t.rows {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// rowsTable shows rows: medians over the runs, and of mixed ones a line for each kind, from the run nearest to the median.
func rowsTable(rows []Row) *table {
	t := &table{head: []string{"target and workload", "IOPS", "±", "worst", "MiB/s", "avg µs", "p50", "p99", "p99.9", "max", "CPU µs/IO", "allocs/IO"}}
	for i := range rows {
		r := &rows[i]
		s := &r.Summary
		spread := "–"
		if len(r.Runs) > 1 {
			spread = percent(s.IOPS.Spread / 2)
		}
		allocs := number(s.AllocsPerIO.Median)
		if r.Device.Target == "raw" {
			allocs = "–"
		}
		name := r.Name
		if r.sharedCore() != "" {
			name += " †"
		}
		t.add(name, number(s.IOPS.Median), spread, number(s.IOPS.Worst), number(s.BytesPerSecond.Median/(1<<20)),
			micros(s.Mean.Median), micros(s.P50.Median), micros(s.P99.Median), micros(s.P999.Median), micros(s.Max.Median),
			number(s.CPUPerIO.Median), allocs)
		m := r.MedianRun()
		if len(m.Kinds) < 2 {
			continue
		}
		for _, k := range []string{"read", "write", "unmap", "flush"} {
			f, ok := m.Kinds[k]
			if !ok {
				continue
			}
			l := &f.Latency
			t.add("  "+k, number(f.IOPS), "", "", number(f.BytesPerSecond/(1<<20)), micros(l.Mean), micros(l.P50), micros(l.P99), micros(l.P999), micros(l.Max), "", "")
		}
	}
	return t
}

// sharedCore says so when something else used the core of a reactor that polls: then throughput and latency are those of a
// part of the core, and only the processor time of a request can be trusted.
func (r *Row) sharedCore() string {
	for _, run := range r.Runs {
		for _, x := range run.Reactors {
			if r.Device.Idle == reactor.Poll.String() && x.CPUPercent < 90 {
				return fmt.Sprintf("the reactor on core %d had only %.0f %% of it, others took the rest: IOPS and latency say little", x.Core, x.CPUPercent)
			}
		}
	}
	return ""
}

func ratiosTable(ratios []Ratio) *table {
	t := &table{head: []string{"ratio of pairs", "IOPS", "lowest–highest", "p50", "p99", "p99.9", "CPU/IO", "a difference?"}}
	for i := range ratios {
		r := &ratios[i]
		t.add(r.Name, ratio(r.IOPS.Median), ratio(r.IOPS.Low)+"–"+ratio(r.IOPS.High), ratio(r.P50.Median), ratio(r.P99.Median), ratio(r.P999.Median), ratio(r.CPU.Median), r.IOPS.verdict())
	}
	return t
}

// reactorsTable shows how busy the reactors were, in each row's median run.
func reactorsTable(rows []Row) *table {
	t := &table{head: []string{"target and workload", "reactor cores: busy (thread)", "other processes", "enters/IO", "GC cycles"}}
	for i := range rows {
		m := rows[i].MedianRun()
		var cores, others []string
		for _, r := range m.Reactors {
			cores = append(cores, fmt.Sprintf("%d: %.0f %% (%.0f %%)", r.Core, r.BusyPercent, r.CPUPercent))
		}
		for _, o := range m.Others {
			others = append(others, fmt.Sprintf("%s %.0f %%", o.Name, o.CPUPercent))
		}
		enters := "–"
		if len(m.Reactors) > 0 {
			enters = number(m.EntersPerIO)
		}
		t.add(rows[i].Name, strings.Join(cores, ", "), strings.Join(others, ", "), enters, strconv.FormatUint(m.GCCycles, 10))
	}
	return t
}

func idleTable(rows []IdleRow) *table {
	t := &table{head: []string{"with nothing to do", "idle policy", "CPU of a core", "wake-ups/s", "sleeps of reactors/s", "CPU of the hosts", "over"}}
	for _, r := range rows {
		host := "–"
		if r.HostCPUPercent > 0 {
			host = fmt.Sprintf("%.2f %%", r.HostCPUPercent)
		}
		t.add(r.What, r.Idle, fmt.Sprintf("%.2f %%", r.CPUPercent), number(r.WakesPerSecond), number(r.SleepsPerSecond), host, fmt.Sprintf("%.0f s", r.Seconds))
	}
	return t
}

// turnsTable shows how long the engine's reactors did not look around at the most, over all runs of a row.
func turnsTable(rows []Row) *table {
	t := &table{head: []string{"target and workload", "turns over 20 µs, each second", "the longest, µs"}}
	for i := range rows {
		var slow, took, longest float64
		for _, run := range rows[i].Runs {
			if x := run.Turns; x != nil {
				slow, took, longest = slow+float64(x.Slow), took+run.Seconds, max(longest, x.LongestNS)
			}
		}
		if took > 0 {
			t.add(rows[i].Name, number(slow/took), micros(longest))
		}
	}
	return t
}

func excessTable(list []Excess) *table {
	t := &table{head: []string{"difference of pairs", "p50 µs", "lowest–highest", "p99 µs", "lowest–highest"}}
	for _, d := range list {
		t.add(d.Name, micros(d.P50.Median), micros(d.P50.Low)+" – "+micros(d.P50.High), micros(d.P99.Median), micros(d.P99.Low)+" – "+micros(d.P99.High))
	}
	return t
}

func allocsTable(rows []AllocRow) *table {
	t := &table{head: []string{"objects allocated for each request", "requests", "client", "engine"}}
	for _, r := range rows {
		t.add(r.What, number(float64(r.IOs)), number(r.Client), number(r.Engine))
	}
	return t
}

// WriteTable shows the report to a person.
func (r *Report) WriteTable(w io.Writer) error {
	var loaded []Row
	for _, row := range r.Rows {
		if row.Summary.IOPS.Median > 0 {
			loaded = append(loaded, row)
		}
	}
	if len(loaded) > 0 {
		if err := rowsTable(loaded).text(w); err != nil {
			return err
		}
		fmt.Fprintln(w)
		if err := reactorsTable(loaded).text(w); err != nil {
			return err
		}
	}
	for i := range r.Rows {
		if note := r.Rows[i].sharedCore(); note != "" {
			fmt.Fprintf(w, "\n† %s: %s\n", r.Rows[i].Name, note)
		}
	}
	for _, row := range r.Rows {
		for _, run := range row.Runs {
			if v := run.Verify; v != nil {
				fmt.Fprintf(w, "\nverified %s: %d blocks right, %d wrong\n", row.Name, v.Blocks, v.Mismatches)
				for _, m := range v.First {
					fmt.Fprintf(w, "  LBA %d: %s\n", m.LBA, m.Text)
				}
			}
			if run.Errors > 0 {
				fmt.Fprintf(w, "\n%s: %d requests failed; %s\n", row.Name, run.Errors, run.FirstError)
			}
		}
	}
	if len(r.Ratios) > 0 {
		fmt.Fprintln(w)
		if err := ratiosTable(r.Ratios).text(w); err != nil {
			return err
		}
	}
	if len(r.Idle) > 0 {
		fmt.Fprintln(w)
		if err := idleTable(r.Idle).text(w); err != nil {
			return err
		}
	}
	if len(r.Allocs) > 0 {
		fmt.Fprintln(w)
		if err := allocsTable(r.Allocs).text(w); err != nil {
			return err
		}
	}
	return nil
}

// number writes x with three digits that say something, whole above 1000, with thin groups of thousands.
func number(x float64) string {
	switch a := math.Abs(x); {
	case a == 0:
		return "0"
	case a < 0.0005:
		return "0.000"
	case a < 10:
		return strconv.FormatFloat(x, 'f', max(0, 2-int(math.Floor(math.Log10(max(a, 0.1))))), 64)
	case a < 1000:
		return strconv.FormatFloat(x, 'f', 1, 64)
	}
	s := strconv.FormatFloat(x, 'f', 0, 64)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func micros(ns float64) string     { return number(ns / 1000) }
func percent(share float64) string { return strconv.FormatFloat(100*share, 'f', 1, 64) + " %" }
func ratio(x float64) string       { return strconv.FormatFloat(x, 'f', 3, 64) }
