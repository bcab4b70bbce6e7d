package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// This file is the folder of results that the suite leaves:
//
//	report.json   everything, a row on each line (docs/BENCH.md lists the fields)
//	results.md    the conditions and the tables, for people
//	*.png         latencies, a picture for each load that matters most
//	raw/          what fio said

// save writes the folder as far as the suite is. It is called after each load, so that nothing measured is lost.
func (s *suite) save() error {
	b, err := s.report.Encode()
	if err != nil {
		return err
	}
	plots, err := s.savePlots()
	return errors.Join(err,
		os.WriteFile(filepath.Join(s.dir, "report.json"), b, 0o644),
		os.WriteFile(filepath.Join(s.dir, "results.md"), s.report.Markdown(plots), 0o644))
}

// savePlots draws the median run of every target under one load, where targets have come since it was drawn. It gives the files'
// names.
func (s *suite) savePlots() (names []string, err error) {
	for _, w := range append(s.cfg.plain(), s.cfg.synced()...) {
		if w.BlockBytes != 4096 || w.Depth != 1 && w.Depth != 32 || w.RW == "randrw" {
			continue
		}
		var rows []Row
		for _, r := range s.report.Rows {
			if r.Workload.Name() == w.Name() {
				r.Runs = []Run{*r.MedianRun()}
				rows = append(rows, r)
			}
		}
		if len(rows) == 0 {
			continue
		}
		name := slug(w.Name()) + ".png"
		names = append(names, name)
		if s.drawn[name] == len(rows) {
			continue
		}
		picture, err := Plot(w.Name()+": median run of each", rows)
		if err != nil {
			return names, err
		}
		if err := os.WriteFile(filepath.Join(s.dir, name), picture, 0o644); err != nil {
			return names, err
		}
		s.drawn[name] = len(rows)
	}
	return names, nil
}

// Markdown is the report for people who read it in a repository.
func (r *Report) Markdown(plots []string) []byte {
	var b bytes.Buffer
	c := &r.Conditions
	day, _, _ := strings.Cut(c.Time, "T")
	fmt.Fprintf(&b, "# Figures of %s on %s, %d cores\n\n", day, c.Machine.CPU, c.Machine.Cores)
	fmt.Fprintf(&b, "Medians of the runs; ± is half of what lies between the lowest and the highest, as a share of the median. Percentiles are\n"+
		"exact to 4.5 %%. CPU µs/IO is the processor time of all processes that took part. Ratios are of runs made in turns, one right after the\n"+
		"other; a difference is claimed only where it shows in every pair, and there are at least %d.\n\n", RunsMin)
	r.conditionsMarkdown(&b)
	if n := r.sharedCores(); n > 0 {
		fmt.Fprintf(&b, "\n**The machine was not quiet** in %d of %d rows, marked †: others took a part of a polling reactor's core, so that IOPS and\n"+
			"latencies are those of the rest. The processor time of a request is the figure to look at there.\n", n, len(r.Rows))
	}
	for _, g := range []struct {
		title, text string
		targets     []string
	}{
		{"Disk", "`raw` is fio on the file, `uring` the engine's bdev on it in one process, `tcp+uring` the same in an engine over NVMe/TCP, `volume` and `volatile` a volume on it without and with a write cache. What `volume` completes is durable: its plain writes stand beside `raw` with FUA.",
			[]string{"raw", "uring", "tcp+uring", "volume", "volatile"}},
		{"Snapshots", "`volume+N` is a volume with N snapshots, the newest of which was made right before each run: all clusters are shared when it begins. Its write cache is `none`.",
			snapshotTargets()},
		{"Nothing behind it", "`null` forgets what it is given: what is left is the way there.", []string{"null", "tcp+null"}},
		{"Memory", "`mem` keeps it in memory.", []string{"mem", "tcp+mem"}},
		{"Tail", "`engine` serves memory over NVMe/TCP, `c-loop` is a server and a client in C that poll one connection each; `+control` is with a scrape of the metrics and looks like those of `pollux top` and `pollux iostat` once a second, of the engine, which beside `c-loop` has nothing else to do.",
			tailTargets()},
		{"The first request after idle", "One read each 20 ms of an engine that serves memory: in `adaptive` it sleeps by then, in `poll` it never does. The client polls.",
			wakeTargets()},
		{"A second reactor", "The load on one reactor, and on two with a job each, on a core each. The second adds what the ratio is above 1.",
			reactorsTargets()},
	} {
		rows := r.rowsOf(func(x *Row) bool { return slices.Contains(g.targets, x.Device.Target) })
		if len(rows) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", g.title, g.text)
		r.groupMarkdown(&b, rows)
	}
	r.volumesMarkdown(&b)
	if len(r.Idle) > 0 {
		b.WriteString("\n## With nothing to do\n\n")
		_ = idleTable(r.Idle).markdown(&b)
	}
	if len(r.Allocs) > 0 {
		b.WriteString("\n## Allocations\n\nOf the Go heap, in the whole process.\n\n")
		_ = allocsTable(r.Allocs).markdown(&b)
	}
	if len(plots) > 0 {
		b.WriteString("\n## Latencies\n")
		for _, p := range plots {
			fmt.Fprintf(&b, "\n![%s](%s)\n", strings.TrimSuffix(p, ".png"), p)
		}
	}
	return b.Bytes()
}

func (r *Report) rowsOf(want func(*Row) bool) (rows []Row) {
	for i := range r.Rows {
		if want(&r.Rows[i]) {
			rows = append(rows, r.Rows[i])
		}
	}
	return rows
}

// groupMarkdown writes rows with writes that are made durable apart from those that are not: neither stands for the other.
func (r *Report) groupMarkdown(b *bytes.Buffer, rows []Row) {
	var plain, synced []Row
	names := map[string]bool{}
	for _, x := range rows {
		names[x.Device.Target] = true
		if x.Synced {
			synced = append(synced, x)
		} else {
			plain = append(plain, x)
		}
	}
	ratios := func(of []Row) (out []Ratio) {
		for _, q := range r.Ratios {
			a, rest, _ := strings.Cut(q.Name, " / ")
			base, load, _ := strings.Cut(rest, " ")
			if names[a] && names[base] && slices.ContainsFunc(of, func(x Row) bool { return x.Workload.Name() == load }) {
				out = append(out, q)
			}
		}
		return out
	}
	for _, part := range []struct {
		title string
		rows  []Row
	}{{"Reads, and writes that are not made durable", plain}, {"Writes that are durable when they count", synced}} {
		if len(part.rows) == 0 {
			continue
		}
		fmt.Fprintf(b, "\n### %s\n\n", part.title)
		_ = rowsTable(part.rows).markdown(b)
		if list := ratios(part.rows); len(list) > 0 {
			b.WriteString("\n")
			_ = ratiosTable(list).markdown(b)
		}
		b.WriteString("\n")
		_ = reactorsTable(part.rows).markdown(b)
		if t := turnsTable(part.rows); len(t.rows) > 0 {
			b.WriteString("\n")
			_ = t.markdown(b)
		}
		if list := r.excessesOf(names); len(list) > 0 {
			b.WriteString("\n")
			_ = excessTable(list).markdown(b)
		}
	}
}

// excessesOf lists those of targets with the given names.
func (r *Report) excessesOf(names map[string]bool) (list []Excess) {
	for _, d := range r.Excesses {
		if a, _, _ := strings.Cut(d.Name, " - "); names[a] {
			list = append(list, d)
		}
	}
	return list
}

func (r *Report) sharedCores() (n int) {
	for i := range r.Rows {
		if r.Rows[i].sharedCore() != "" {
			n++
		}
	}
	return n
}

// conditionsMarkdown lists the conditions.
func (r *Report) conditionsMarkdown(b *bytes.Buffer) {
	c, m := &r.Conditions, &r.Conditions.Machine
	virtual := ""
	if m.Hypervisor {
		virtual = ", a virtual machine"
	}
	t := &table{head: []string{"condition", "value"}}
	t.add("machine", fmt.Sprintf("%s, %d cores, %s of memory%s", m.CPU, m.Cores, FormatBytes(m.MemoryBytes>>30<<30), virtual))
	t.add("system", m.OS+", Linux "+m.Kernel)
	t.add("pollux", strings.TrimSpace(c.Pollux+" "+c.Commit)+", "+c.Go+fmt.Sprintf(", GOMAXPROCS %d", c.GOMAXPROCS))
	if c.Fio != "" {
		t.add("fio", c.Fio)
	}
	t.add("command", "`"+strings.Join(c.Command, " ")+"`")
	if len(r.Rows) > 0 {
		w := &r.Rows[0].Workload
		t.add("runs", fmt.Sprintf("%d of %g s each, after %g s that are not counted", len(r.Rows[0].Runs), w.RuntimeSeconds, w.RampSeconds))
	}
	if c.Transport != "" {
		t.add("transport", c.Transport)
	}
	seen := map[string]bool{}
	for i := range r.Rows {
		d := &r.Rows[i].Device
		if seen[d.Target] {
			continue
		}
		seen[d.Target] = true
		t.add("`"+d.Target+"`", d.text())
	}
	_ = t.markdown(b)
}

// text is the device in words.
func (d *DeviceConditions) text() string {
	s := FormatBytes(d.SizeBytes)
	if d.BlockSize > 0 {
		s += fmt.Sprintf(" in blocks of %d", d.BlockSize)
	}
	s += ", write cache " + d.WriteCache
	if d.FileSystem != "" {
		s += ", a file on " + d.FileSystem
	}
	if d.Disk != "" {
		s += fmt.Sprintf(", disk %s (%s, %s, scheduler %s)", d.Disk, d.Model, d.DiskCache, d.Scheduler)
	}
	if len(d.Cores) > 0 {
		s += fmt.Sprintf("; load from core %v", strings.Trim(fmt.Sprint(d.Cores), "[]"))
	}
	if d.Idle != "" {
		s += ", idle policy " + d.Idle
	}
	if d.Remote != "" {
		s += "; served by " + d.Remote
	}
	if d.Preconditions != "" {
		s += "; " + d.Preconditions
	}
	return s
}

// volumesMarkdown writes the figures of volumes that are no rates.
func (r *Report) volumesMarkdown(b *bytes.Buffer) {
	if len(r.Amplification) > 0 {
		b.WriteString("\n## Write amplification\n\nBytes that the pool's device was given to write, by its own counters, for each byte of the host: the log, what went\n" +
			"home, the map and the pool's commits, from before the first write until everything was home and a checkpoint said so. The volume's\n" +
			"clusters all had places before; with snapshots none was the volume's alone.\n\n")
		_ = amplifyTable(r.Amplification).markdown(b)
	}
	if len(r.Recovery) > 0 {
		b.WriteString("\n## Recovery\n\nFrom the call that imports a pool, after a SIGKILL, until its volume takes requests. The volume was mapped with writes of 1 MiB of\n" +
			"zeros, which go to places of their own, on a device that leaves out zeros where nothing else was written: its map, log and bitmap are\n" +
			"on the disk as any other's, its data nowhere. The log was filled while checkpoints were held. Marked †: the reactor had less than 90 %\n" +
			"of its core.\n\n")
		_ = recoveryTable(r.Recovery).markdown(b)
		if r.RecoveryFit != nil {
			b.WriteString("\n" + r.RecoveryFit.text())
		}
	}
	if len(r.Memory) > 0 {
		b.WriteString("\n## Memory\n\nResident memory of a process with one reactor that is of no file, step by step, after the collector gave back what it could;\n" +
			"beside it what pool and volumes have made by their own account, of which only what is touched is resident, in MiB.\n\n")
		_ = memoryTable(r.Memory).markdown(b)
		for i := range r.Memory {
			if r.Memory[i].Volumes > 0 {
				b.WriteString("\n")
				_ = volumeMemoryTable(&r.Memory[i].Volume).markdown(b)
				break
			}
		}
		if measured, made, ok := perTB(r.Memory); ok {
			fmt.Fprintf(b, "\nA TB (10^12 bytes) more of a pool, mapped or not: **%s MiB** resident, %s MiB by account, between the smallest and the largest\n"+
				"pool. Pages of maps are in the cache of each reactor, which has a limit whatever is mapped.\n", number(measured), number(made))
		}
	}
}
