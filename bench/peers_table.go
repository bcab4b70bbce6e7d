package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// newPeerRatio is the ratio of two targets' rows with all that a comparison of targets shows.
func newPeerRatio(a, b *Row) Ratio {
	r := NewRatio(a, b)
	r.Mean = pairs(a, b, func(r *Run) float64 { return r.Total.Latency.Mean })
	r.PerCore = pairs(a, b, (*Run).iopsPerCore)
	return r
}

// peersTable has a line for each target under each load, and for each pair of targets one of ratios.
func peersTable(r *Report) *table {
	t := &table{head: []string{"load and target", "IOPS", "±", "avg µs", "p50", "p99", "p99.9", "target's CPU µs/IO", "IOPS per core", "a difference in IOPS?"}}
	load := ""
	ratios := r.Ratios
	for i := range r.Rows {
		row := &r.Rows[i]
		if name := row.Workload.Name(); name != load {
			load = name
			t.add(load, "", "", "", "", "", "", "", "", "")
		}
		s := &row.Summary
		cpu := row.stat(false, (*Run).targetMicros).Median
		core := row.stat(true, (*Run).iopsPerCore).Median
		mark := ""
		if row.sharedCore() != "" || len(row.beside()) > 0 {
			mark = " †"
		}
		t.add("  "+row.Device.Target+mark, number(s.IOPS.Median), percent(s.IOPS.Spread/2), micros(s.Mean.Median), known(s.P50.Median/1000),
			known(s.P99.Median/1000), known(s.P999.Median/1000), known(cpu), known(core), "")
		for len(ratios) > 0 && ratios[0].ends(row) {
			q := &ratios[0]
			names := strings.TrimSuffix(q.Name, " "+load)
			t.add("  "+names, spanned(q.IOPS), "", spanned(q.Mean), spanned(q.P50), spanned(q.P99), spanned(q.P999), "", spanned(q.PerCore), q.IOPS.verdict())
			ratios = ratios[1:]
		}
	}
	return t
}

// ends reports whether b is the row that the ratio has below the line: it stands right behind it.
func (q *Ratio) ends(b *Row) bool {
	return strings.HasSuffix(q.Name, " / "+b.Device.Target+" "+b.Workload.Name())
}

// known writes a figure, or that there is none.
func known(x float64) string {
	if x == 0 {
		return "–"
	}
	return number(x)
}

// spanned writes a ratio with its range.
func spanned(s Span) string {
	if s.Pairs == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Low, s.High)
}

// beside lists the targets that used processor time while this row was measured, with the most that each used.
func (r *Row) beside() (list []ProcessFigures) {
	for _, run := range r.Runs {
		for _, p := range run.Beside {
			i := slices.IndexFunc(list, func(x ProcessFigures) bool { return x.Name == p.Name })
			if i < 0 {
				list = append(list, p)
			} else if p.CPUPercent > list[i].CPUPercent {
				list[i] = p
			}
		}
	}
	return list
}

// WritePeers shows a comparison to a person.
func (r *Report) WritePeers(w io.Writer) error {
	err := peersTable(r).text(w)
	for _, note := range r.peerNotes() {
		_, e := fmt.Fprintf(w, "\n%s\n", note)
		err = errors.Join(err, e)
	}
	return err
}

// peerNotes say what the figures mean, and what disturbed them.
func (r *Report) peerNotes() (notes []string) {
	how := "The target's CPU is the processor time of its process, in steps of 10 ms; where no process is known there is none."
	for i := range r.Rows {
		for _, run := range r.Rows[i].Runs {
			switch m := run.Machine; {
			case m == nil:
			case m.TargetMicrosPerIO > 0:
				how = "The target's CPU is the busy time of its own processors: what passed less idle, iowait and steal of /proc/stat, so\n" +
					"interrupts and kernel threads there are in it. With fio it is counted from fio's start to its end."
			default:
				how = "The target's CPU is the busy time of all processors (what passed less idle, iowait and steal of /proc/stat) less the\n" +
					"processor time of the client's process. What the client's side costs in interrupts and kernel threads is in it, for each\n" +
					"target alike; with the kernel's initiator that is much. With fio it is counted from fio's start to its end."
			}
		}
	}
	notes = append(notes, how+" IOPS per core are a second of it, divided by what\na request took. Ratios are medians of pairs, with the lowest and the highest.")
	if slices.ContainsFunc(r.Rows, func(row Row) bool { return strings.Contains(row.Device.Remote, "iscsi://") }) {
		notes = append(notes, "iSCSI targets are measured by libiscsi: reads by iscsi-perf, writes by qemu-img bench, whose random writes are a walk through the\n"+
			"LUN in large steps. Both tell no latencies: the mean is requests in flight over IOPS. Other clients are the bundled initiator.")
	}
	for i := range r.Rows {
		row := &r.Rows[i]
		if s := row.sharedCore(); s != "" {
			notes = append(notes, "† "+row.Name+": "+s)
		}
		for _, p := range row.beside() {
			notes = append(notes, fmt.Sprintf("† %s: meanwhile %s used %.0f %% of a core; --pause stops it when its process is known", row.Name, p.Name, p.CPUPercent))
		}
	}
	return notes
}

// PeersMarkdown is a comparison for people who read it in a repository.
func (r *Report) PeersMarkdown() []byte {
	var b bytes.Buffer
	c := &r.Conditions
	day, _, _ := strings.Cut(c.Time, "T")
	fmt.Fprintf(&b, "# Targets side by side on %s, %s\n\n", day, c.Machine.CPU)
	if c.Note != "" {
		fmt.Fprintf(&b, "%s\n\n", c.Note)
	}
	r.conditionsMarkdown(&b)
	b.WriteString("\n")
	_ = peersTable(r).markdown(&b)
	for _, note := range r.peerNotes() {
		fmt.Fprintf(&b, "\n%s\n", note)
	}
	return b.Bytes()
}

// SavePeers leaves a comparison in a folder of its own below output: report.json and results.md.
func (r *Report) SavePeers(output, name string) (dir string, err error) {
	b, err := r.Encode()
	if err != nil {
		return "", err
	}
	if dir, err = resultsDir(output, r.Conditions.day()+"-"+name); err != nil {
		return "", err
	}
	return dir, errors.Join(
		os.WriteFile(filepath.Join(dir, "report.json"), b, 0o644),
		os.WriteFile(filepath.Join(dir, "results.md"), r.PeersMarkdown(), 0o644))
}
