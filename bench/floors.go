package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is the floors: what no change may lose, measured in little more than a minute on any machine, in turns with the raw disk.
//
//	gates    requests a second and write latency that every machine has to reach, or half of what its disk does by itself
//	ratios   of pairs, against the baselines that were stored for this machine
//	costs    what a request costs, which does not depend on how fast the machine is (floorcosts.go)
//	state    what the engine says of itself after a load that was verified
//
// The machine is shared and not quiet. So what fails is measured again, and fails only if it does each time; verdict.go has the rules by
// which a figure is a failure, and docs/BENCH.md what they cannot see.

// FloorsConfig says what is measured.
type FloorsConfig struct {
	Exe        string // the pollux program, which is started as the engine
	Dir        string // where the files to measure are made; they are removed at the end
	Size       uint64 // of each device
	Rounds     int    // each figure is of so many runs; more, where it is measured again
	Seconds    float64
	Attempts   int // the most that what fails is measured
	EngineCore int
	ClientCore int
	Only       []string // groups; nil for all
	Baselines  *Baselines
	NoiseMax   float64       // percent of a core that others may have of a run's cores, for it to say something
	Delay      time.Duration // added to each read and write of the local file
	Reporter   Reporter
	Log        io.Writer

	before func(group string, e *Engine) // of tests
}

// FloorGroups are the groups, in order.
var FloorGroups = []string{"gates", "ratios", "costs", "state"}

// Workload of the gates: so many requests are measured after so many that are not.
const (
	gateWarm   = 200
	gateNumber = 1000
	gateDepth  = 32
)

// gates are the floors of requirement B-4. The depth is not in it; 32 is where a disk is no longer waited for one request at a time.
var gates = []struct {
	rw   string
	iops float64
}{{"randread", 5000}, {"read", 10000}, {"randwrite", 1000}, {"write", 2000}}

// floors is one run of it.
type floors struct {
	suite
	cfg     FloorsConfig
	machine string
	local   struct{ raw, uring, volume, mem Target }
	remote  struct{ mem, volume served }
	rigs    []*Rig
	verdict []Verdict
}

// Floors measures and judges. The report has all that was measured before an error, and the verdicts.
func Floors(ctx context.Context, cfg FloorsConfig) (*Report, error) {
	f := &floors{cfg: cfg, suite: suite{report: NewReport(), cfg: SuiteConfig{
		Exe: cfg.Exe, Dir: cfg.Dir, Size: cfg.Size, Seconds: cfg.Seconds, Depths: []int{1, 32, 128}, EngineCore: cfg.EngineCore, ClientCore: cfg.ClientCore,
		Reporter: cfg.Reporter, Log: cfg.Log,
	}}}
	f.report.Conditions.Transport = "NVMe/TCP on the loopback interface"
	var err error
	if f.work, err = os.MkdirTemp(cfg.Dir, "pollux-floors-"); err != nil {
		return f.report, fmt.Errorf("making a folder for the files to measure: %w", err)
	}
	defer os.RemoveAll(f.work)
	err = f.engine(ctx, reactor.Interrupt, func(e *Engine) error {
		closeAll, err := f.open(ctx, e)
		if err == nil {
			err = f.groups(ctx, e)
		}
		closed := closeAll()
		if e.alive() != "" { // which says more, and is told as its end
			closed = nil
		}
		return errors.Join(err, closed)
	})
	f.report.Verdicts = append([]Verdict{judgeSynced(f.report.Rows)}, f.verdict...)
	return f.report, err
}

// open makes the devices. What it gives closes those that there are.
func (f *floors) open(ctx context.Context, e *Engine) (closeAll func() error, err error) {
	var open []Target
	closeAll = func() (err error) {
		for _, t := range slices.Backward(open) {
			err = errors.Join(err, t.Close())
		}
		return err
	}
	say := func(what string) { fmt.Fprintf(f.cfg.Log, "bench floors: %s\n", what) }
	say("making the devices")
	own, there := filepath.Join(f.work, "disk0"), filepath.Join(f.work, "disk1")
	if err := errors.Join(f.fill(ctx, own), f.fillTo(ctx, there, f.volumeRoom())); err != nil {
		return closeAll, err
	}
	// Without fio nothing says what the disk does by itself; the rest is measured all the same.
	raw, err := OpenFio(TargetSpec{Kind: "raw", Path: own}, f.cfg.EngineCore)
	switch {
	case errors.Is(err, ErrNoFio):
		f.verdict = append(f.verdict, Verdict{Group: "gates", Row: "raw", Figure: "fio", Result: Failed, Why: err.Error()})
	case err != nil:
		return closeAll, err
	default:
		f.local.raw, f.report.Conditions.Fio = filled{raw}, raw.Version()
		f.machine = machineOf(&f.report.Conditions.Machine, raw.Describe())
	}
	uring, err := f.suite.local(TargetSpec{Kind: "uring", Path: own, Delay: reactor.Ticks(f.cfg.Delay)})
	if err != nil {
		return closeAll, err
	}
	f.local.uring, open, f.rigs = filled{uring}, append(open, uring), append(f.rigs, uring)
	if f.machine == "" {
		f.machine = machineOf(&f.report.Conditions.Machine, uring.Describe())
	}
	volume, err := f.volume(ctx, "volume")
	if err != nil {
		return closeAll, err
	}
	f.local.volume, open, f.rigs = filled{volume}, append(open, volume), append(f.rigs, volume)
	mem := TargetSpec{Kind: "mem", Bytes: f.cfg.Size, BlockSize: 4096}
	local, err := f.suite.local(mem)
	if err != nil {
		return closeAll, err
	}
	f.local.mem, open, f.rigs = local, append(open, local), append(f.rigs, local)
	fill := Workload{RW: "write", BlockBytes: 128 << 10, Depth: 8, Jobs: 1, Seed: 1}
	if _, err := local.Run(ctx, fill, Options{}); err != nil {
		return closeAll, err
	}
	for _, x := range []struct {
		spec TargetSpec
		to   *served
	}{{mem, &f.remote.mem}, {TargetSpec{Kind: "volume", Path: there, Bytes: f.cfg.Size}, &f.remote.volume}} {
		rig, err := f.suite.remote(e, x.spec)
		if err != nil {
			return closeAll, err
		}
		*x.to, open, f.rigs = served{rig, e}, append(open, rig), append(f.rigs, rig)
		if _, err := x.to.Run(ctx, fill, Options{}); err != nil {
			return closeAll, err
		}
	}
	return closeAll, nil
}

// machineOf is what a ratio of this machine depends on that is no fault of the engine: processor, kernel, driver of the disk, file system.
func machineOf(m *Machine, disk DeviceConditions) string {
	kernel := strings.SplitN(m.Kernel, ".", 3)
	fs, _, _ := strings.Cut(disk.FileSystem, " ")
	return fmt.Sprintf("%s, Linux %s, %s, %s", m.Slug(), strings.Join(kernel[:min(2, len(kernel))], "."), disk.Model, fs)
}

// idle is what reactors do without work from now on, while they are measured.
func (f *floors) idle(p reactor.Idle) {
	for _, r := range f.rigs {
		r.idle = p
	}
}

// watch lets the runs of a target say what others had of its cores.
func (f *floors) watch(t Target) Target {
	w := &watched{Target: t, cores: []int{f.cfg.EngineCore}}
	if s, ok := t.(served); ok {
		w.pid = s.e.PID()
		if f.cfg.ClientCore != f.cfg.EngineCore {
			w.cores = append(w.cores, f.cfg.ClientCore)
		}
	}
	return w
}

func (f *floors) watchAll(targets ...Target) (all []Target) {
	for _, t := range targets {
		if t != nil {
			all = append(all, f.watch(t))
		}
	}
	return all
}

// groups measures what is wanted.
func (f *floors) groups(ctx context.Context, e *Engine) error {
	for i, run := range []func() error{
		func() error { return f.gates(ctx) }, func() error { return f.ratios(ctx) }, func() error { return f.costs(ctx) },
		func() error { return f.state(ctx, e) },
	} {
		name := FloorGroups[i]
		if len(f.cfg.Only) > 0 && !slices.Contains(f.cfg.Only, name) {
			continue
		}
		fmt.Fprintf(f.cfg.Log, "bench floors: %s\n", name)
		if f.cfg.before != nil {
			f.cfg.before(name, e)
		}
		if err := run(); err != nil {
			return fmt.Errorf("bench floors, %s: %w", name, err)
		}
	}
	return nil
}

// again measures until nothing fails, or is only excused by noise, or it was tried often enough.
func (f *floors) again(measure func() ([]Verdict, error)) error {
	for n := 1; ; n++ {
		v, err := measure()
		if err != nil {
			return err
		}
		if n < f.cfg.Attempts && slices.ContainsFunc(v, func(v Verdict) bool { return v.Result == Failed || v.excused }) {
			continue
		}
		for i := range v {
			v[i].Attempts = n
		}
		f.verdict = append(f.verdict, v...)
		return nil
	}
}

// gates measures each load twice, with writes that are durable when they count and then without: the disk's durable writes are what a volume's
// plain ones stand beside. Reactors sleep when there is nothing to do, as fio does: where others use the core too, the kernel puts behind them
// who polls.
func (f *floors) gates(ctx context.Context) error {
	f.idle(reactor.Interrupt)
	defer f.idle(reactor.Poll)
	targets := f.watchAll(f.local.raw, f.local.uring, f.local.volume, f.remote.mem, f.remote.volume)
	options := make([]Options, len(targets))
	for i := range options {
		options[i] = Options{Reporter: f.cfg.Reporter, Warm: gateWarm}
	}
	for _, g := range gates {
		plain := Workload{RW: g.rw, BlockBytes: 4096, Depth: gateDepth, Jobs: 1, Seed: 1, Number: gateNumber}
		loads := []Workload{plain}
		if plain.Writes() {
			durable := plain
			durable.FUAEvery = 1
			loads = []Workload{durable, plain}
		}
		var rows []Row
		err := f.again(func() (out []Verdict, err error) {
			rows = nil
			for _, w := range loads {
				r, err := Turns(ctx, targets, w, f.cfg.Rounds, options)
				if err != nil {
					return nil, err
				}
				rows = append(rows, r...)
			}
			for i := range rows {
				out = append(out, judgeGate(g.iops, f.cfg.NoiseMax, rows, &rows[i])...)
			}
			return out, nil
		})
		f.report.Rows = append(f.report.Rows, rows...)
		if err != nil {
			return err
		}
	}
	return nil
}

// judgeGate judges a row by the row of the disk that it stands beside, if there is one among the rows. The disk itself is not judged.
func judgeGate(floor, noiseMax float64, rows []Row, row *Row) []Verdict {
	if row.Device.Target == "raw" {
		return []Verdict{{Group: "gates", Row: row.Name, Figure: figureIOPS, Found: row.Summary.IOPS, Result: Reference}}
	}
	w := row.Workload
	if row.Device.WriteCache == "none" && w.Writes() {
		w.FUAEvery = 1
	}
	i := slices.IndexFunc(rows, func(r Row) bool {
		return row.Device.Disk != "" && r.Device.Target == "raw" && r.Workload.Name() == w.Name()
	})
	var out []Verdict
	if i < 0 {
		out = judgeFloor(floor, row, nil)
	} else {
		out = judgeFloor(floor, row, &rows[i])
	}
	for k := range out {
		if most := row.othersMost(); out[k].Result == Failed && most > noiseMax {
			out[k].excused = true
			out[k].Result, out[k].Why = NotJudged, fmt.Sprintf("it is past the limit, and others had up to %.0f %% of a core", most)
		}
	}
	return out
}

// othersMost is what others had of the cores, in the run in which they had most.
func (r *Row) othersMost() (most float64) {
	for i := range r.Runs {
		most = max(most, r.Runs[i].OthersPercent)
	}
	return most
}

// ratios measures pairs. What fails is measured again, and the new pairs count with the old ones, which can only be to its good.
func (f *floors) ratios(ctx context.Context) error {
	type pair struct{ a, b int } // of targets
	load := func(rw string, depth, fua int) Workload {
		return Workload{RW: rw, BlockBytes: 4096, Depth: depth, Jobs: 1, Seed: 1, RuntimeSeconds: f.cfg.Seconds, RampSeconds: f.cfg.Seconds / 5, FUAEvery: fua}
	}
	disk, memory, all := f.watchAll(f.local.uring, f.local.raw), f.watchAll(f.remote.mem, f.local.mem), f.watchAll(f.local.volume, f.local.uring, f.local.raw)
	for _, depth := range []int{1, 32} {
		for _, m := range []struct {
			load    Workload
			targets []Target
			pairs   []pair
		}{
			{load("randread", depth, 0), all, []pair{{1, 2}, {0, 1}}},
			{load("randwrite", depth, 0), disk, []pair{{0, 1}}},
			{load("randwrite", depth, 1), all, []pair{{1, 2}, {0, 1}}},
			{load("randread", depth, 0), memory, []pair{{0, 1}}},
			{load("randwrite", depth, 0), memory, []pair{{0, 1}}},
		} {
			m.pairs = slices.DeleteFunc(m.pairs, func(p pair) bool { return max(p.a, p.b) >= len(m.targets) }) // without raw, which failed already
			if len(m.pairs) == 0 {
				continue
			}
			options := make([]Options, len(m.targets))
			for i := range options {
				options[i].Reporter = f.cfg.Reporter
			}
			var rows []Row
			var found []Ratio
			err := f.again(func() (out []Verdict, err error) {
				more, err := Turns(ctx, m.targets, m.load, f.cfg.Rounds, options)
				if err != nil {
					return nil, err
				}
				if rows == nil {
					rows = more
				} else {
					for i := range rows {
						rows[i].Runs = append(rows[i].Runs, more[i].Runs...)
						rows[i].summarise()
					}
				}
				found = nil
				for _, p := range m.pairs {
					q := quietRatio(&rows[p.a], &rows[p.b], f.cfg.NoiseMax)
					found = append(found, q)
					for figure, span := range q.judged() {
						out = append(out, judgeRatio(q.Name, figure, span, f.cfg.Baselines.Standing(q.Name, figure, f.machine)))
					}
				}
				return out, nil
			})
			f.report.Ratios = append(f.report.Ratios, found...)
			f.report.Rows = append(f.report.Rows, rows...)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// judged are the figures of a ratio that have baselines.
func (r *Ratio) judged() func(yield func(string, Span) bool) {
	return func(yield func(string, Span) bool) {
		_ = yield(figureIOPS, r.IOPS) && yield(figureP99, r.P99)
	}
}

// quietRatio is the ratio of those pairs in which others had little of the cores.
func quietRatio(a, b *Row, noiseMax float64) Ratio {
	x, y := *a, *b
	x.Runs, y.Runs = nil, nil
	for i := range min(len(a.Runs), len(b.Runs)) {
		if a.Runs[i].OthersPercent <= noiseMax && b.Runs[i].OthersPercent <= noiseMax {
			x.Runs, y.Runs = append(x.Runs, a.Runs[i]), append(y.Runs, b.Runs[i])
		}
	}
	return NewRatio(&x, &y)
}

// Baselines are the ratios of a report as lines to add to the file. date is today's, why says what made a ratio worse, if one is.
func (r *Report) Baselines(old *Baselines, date, why string) ([]Baseline, error) {
	if c := r.Conditions.Commit; c == "" || strings.HasSuffix(c, "+") {
		return nil, fmt.Errorf("baselines name the commit that they were made of, and this program is of %q: build it by make from a clone without changes (Go names no commit in a linked worktree)", c)
	}
	machine := ""
	for i := range r.Rows {
		if r.Rows[i].Device.Target == "uring" {
			machine = machineOf(&r.Conditions.Machine, r.Rows[i].Device)
		}
	}
	var out []Baseline
	for i := range r.Ratios {
		q := &r.Ratios[i]
		for figure, s := range q.judged() {
			b := Baseline{
				Row: q.Name, Figure: figure, Version: 1, Date: date, Commit: r.Conditions.Commit, Machine: machine,
				Median: s.Median, Low: s.Low, High: s.High, Pairs: s.Pairs,
			}
			if s.Pairs < RunsMin {
				return nil, fmt.Errorf("no baseline can be made of %s: %d pairs on cores of their own, and %d are needed; try again when the machine is quiet", q.Name, s.Pairs, RunsMin)
			}
			if n := old.Standing(b.Row, figure, machine); n != nil && judgeRatio(q.Name, figure, s, n).Result == Failed {
				if why == "" {
					return nil, fmt.Errorf("the baseline of %s, %s, would be worse than the last: say why it may be", q.Name, figure)
				}
				b.Why = why
			}
			out = append(out, b)
		}
	}
	return out, nil
}

// FailedVerdicts are those that failed.
func (r *Report) FailedVerdicts() []Verdict {
	return slices.DeleteFunc(slices.Clone(r.Verdicts), func(v Verdict) bool { return v.Result != Failed })
}

// WriteVerdicts shows them to a person.
func (r *Report) WriteVerdicts(w io.Writer) error { return writeVerdicts(w, r.Verdicts) }
