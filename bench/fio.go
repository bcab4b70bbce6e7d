package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pollux-storage/pollux/reactor"
)

// Fio is a file or block device measured by fio: the raw device, to which everything else is compared. It is a Target.
type Fio struct {
	path string
	core int // -1: any
	exe  string

	// Keep hears what fio said, word for word; nil if nobody wants it.
	Keep func(w *Workload, output []byte) error
}

// ErrNoFio is returned where fio is missing.
var ErrNoFio = errors.New("fio is not installed: run scripts/deps test, or apt-get install fio")

// errFioIdle is of a run in which fio had no time for anything.
var errFioIdle = fmt.Errorf("%w: fio did nothing", ErrFailed)

// OpenFio looks for fio, and for what it is to measure. Its jobs run on core, -1 for any.
func OpenFio(t TargetSpec, core int) (*Fio, error) {
	exe, err := exec.LookPath(fioName)
	if err != nil {
		return nil, fmt.Errorf("target raw:%s: %w", t.Path, ErrNoFio)
	}
	if _, err := os.Stat(t.Path); err != nil {
		return nil, fmt.Errorf("target raw:%s: %w", t.Path, err)
	}
	return &Fio{path: t.Path, core: core, exe: exe}, nil
}

// Version is fio's.
func (f *Fio) Version() string { return fioVersion() }

func fioVersion() string {
	b, _ := exec.Command(fioName, "--version").Output()
	return strings.TrimSpace(string(b))
}

// Name is raw.
func (f *Fio) Name() string { return "raw" }

// Describe tells what the device is.
func (f *Fio) Describe() DeviceConditions {
	d := DeviceConditions{Target: "raw", WriteCache: "volatile"}
	if f.core >= 0 {
		d.Cores = []int{f.core}
	}
	if d.addFile(f.path); d.FileSystem == "" && d.DiskCache == "write through" {
		d.WriteCache = "none" // a block device's own word
	}
	return d
}

// Close has nothing to close.
func (f *Fio) Close() error { return nil }

// fioPercentiles are those that are asked for. fio takes 20 at most.
var fioPercentiles = []float64{1, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 99.999}

// args is the job of w in fio's words: one that asks of the device what the engine's uring bdev asks of it, direct, with
// registered buffers and file, random places drawn with repetition.
func (f *Fio) args(w *Workload) ([]string, error) {
	a, err := w.access()
	if err != nil {
		return nil, err
	}
	switch {
	case w.Verify:
		return nil, fmt.Errorf("verify is not done by fio's jobs here: verify through the engine's bdev")
	case w.TrimPercent > 0:
		return nil, fmt.Errorf("fio has no mix of trims with reads and writes")
	case w.FUAEvery > 1:
		return nil, fmt.Errorf("fio has no FUA for each n-th write: choose fua 1")
	}
	x := []string{
		"--name=raw", "--filename=" + f.path, "--allow_file_create=0", "--output-format=json", "--group_reporting=1",
		"--ioengine=io_uring", "--direct=1", "--registerfiles=1", "--fixedbufs=1", "--nonvectored=1",
		"--norandommap=1", "--lat_percentiles=1", "--percentile_list=" + joinFloats(fioPercentiles),
		"--rw=" + w.RW, fmt.Sprintf("--bs=%d", w.BlockBytes), fmt.Sprintf("--iodepth=%d", w.Depth), fmt.Sprintf("--numjobs=%d", w.Jobs),
		fmt.Sprintf("--offset=%d", w.Offset), fmt.Sprintf("--randseed=%d", w.Seed+1),
	}
	add := func(on bool, format string, v any) {
		if on {
			x = append(x, fmt.Sprintf(format, v))
		}
	}
	add(a.reads > 0 && a.reads < 100, "--rwmixread=%d", a.reads)
	add(w.Size > 0, "--size=%d", w.Size)
	add(w.Zipf > 0, "--random_distribution=zipf:%g", w.Zipf)
	add(w.FsyncEvery > 0, "--fdatasync=%d", w.FsyncEvery)
	add(w.FUAEvery == 1, "--sync=%s", "dsync")
	add(w.RateIOPS > 0, "--rate_iops=%d", w.RateIOPS)
	add(w.RuntimeSeconds > 0, "--time_based=1%s", "")
	add(w.RuntimeSeconds > 0, "--runtime=%s", microseconds(w.RuntimeSeconds))
	add(w.RampSeconds > 0, "--ramp_time=%s", microseconds(w.RampSeconds))
	add(w.Number > 0, "--number_ios=%d", w.Number)
	add(w.IOBytes > 0, "--io_size=%d", w.IOBytes)
	add(w.ContinueOnError, "--continue_on_error=%s", "all")
	add(f.core >= 0, "--cpus_allowed=%d", f.core)
	return x, nil
}

func microseconds(s float64) string { return strconv.FormatInt(int64(s*1e6), 10) + "us" }

func joinFloats(x []float64) string {
	s := make([]string, len(x))
	for i, v := range x {
		s[i] = strconv.FormatFloat(v, 'g', -1, 64)
	}
	return strings.Join(s, ":")
}

// fioName is the process that puts the load on.
const fioName = "fio"

// Run lets fio run w. Of the options it knows the label, the reporter, other processes and the machine. What those use is counted from the
// start of fio to its end, so that with them there is no ramp: what they did for it would be counted, and the ramp's requests not.
func (f *Fio) Run(ctx context.Context, w Workload, o Options) (*Run, error) {
	counted := o.Machine != nil || len(o.PIDs) > 0
	if counted {
		w.RampSeconds = 0
	}
	args, err := f.args(&w)
	if err != nil {
		return nil, fmt.Errorf("%s on raw:%s: %w", w.Name(), f.path, err)
	}
	if o.Reporter != nil {
		defer o.Reporter.Done()
		stop := make(chan struct{})
		told := make(chan struct{})
		go func() {
			defer close(told)
			tick := time.NewTicker(reportEvery)
			defer tick.Stop()
			began, all := reactor.Clock(), w.RuntimeSeconds+w.RampSeconds
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
					if all > 0 {
						o.Reporter.Report(Progress{Label: o.Label, Phase: "fio", Share: min(1, seconds(reactor.Clock()-began)/all)})
					}
				}
			}
		}()
		defer func() { close(stop); <-told }()
	}
	cmd := exec.CommandContext(ctx, f.exe, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	samples := usageSamples()
	before := processUsageNow(samples, &o)
	err = cmd.Run()
	after := processUsageNow(samples, &o)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s on raw:%s: %w", w.Name(), f.path, context.Cause(ctx))
	}
	if err != nil {
		return nil, fmt.Errorf("%s on raw:%s: fio %s: %w: %s", w.Name(), f.path, strings.Join(args, " "), err, firstLine(errs.String()+out.String()))
	}
	if f.Keep != nil {
		if err := f.Keep(&w, out.Bytes()); err != nil {
			return nil, err
		}
	}
	run, err := parseFio(out.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%s on raw:%s: reading what fio says: %w", w.Name(), f.path, err)
	}
	if counted {
		run.others(&before, &after, cmd.ProcessState, &o)
	}
	return run, nil
}

// others adds what other processes, and the machine, did while fio ran, which has ended with the processes that it started.
func (r *Run) others(before, after *processUsage, fio *os.ProcessState, o *Options) {
	n := float64(r.Total.Ops)
	for i := range after.others {
		a, b := &after.others[i], &before.others[i]
		t := seconds(a.User + a.System - b.User - b.System)
		r.Others = append(r.Others, ProcessFigures{a.Name, 100 * t / r.Seconds, 1e6 * t / n})
	}
	if o.Machine != nil {
		client := reactor.Ticks(fio.UserTime()+fio.SystemTime()) + after.user + after.system - before.user - before.system
		r.Machine = before.machine.figures(&after.machine, client, r.Total.Ops, o.Machine)
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// fioOutput is what we read of fio's JSON: HOWTO, section "JSON output", and the fields of its stat.c.
type fioOutput struct {
	Jobs []struct {
		Error      int
		Read       fioKind
		Write      fioKind
		Trim       fioKind
		Sync       fioKind
		UserCPU    float64 `json:"usr_cpu"` // percent of job_runtime
		SystemCPU  float64 `json:"sys_cpu"`
		JobRuntime float64 `json:"job_runtime"` // milliseconds, of all jobs together
	}
}

type fioKind struct {
	Bytes   float64    `json:"io_bytes"`
	IOs     float64    `json:"total_ios"`
	Runtime float64    `json:"runtime"` // milliseconds
	IOPS    float64    `json:"iops"`
	Latency fioLatency `json:"lat_ns"`
}

type fioLatency struct {
	Min        float64
	Max        float64
	Mean       float64
	N          float64
	Percentile map[string]float64
}

// parseFio turns fio's JSON into a run. fio may say something before it.
func parseFio(b []byte) (*Run, error) {
	if i := bytes.IndexByte(b, '{'); i > 0 {
		b = b[i:]
	}
	var out fioOutput
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, err
	}
	if len(out.Jobs) != 1 {
		return nil, fmt.Errorf("%d jobs where one group was asked for", len(out.Jobs))
	}
	j := &out.Jobs[0]
	if j.Error != 0 {
		return nil, fmt.Errorf("%w: fio's error %d", ErrFailed, j.Error)
	}
	r := &Run{Kinds: map[string]KindFigures{}}
	for name, k := range map[string]*fioKind{"read": &j.Read, "write": &j.Write, "unmap": &j.Trim, "flush": &j.Sync} {
		if name == "flush" {
			k.IOs = max(k.IOs, k.Latency.N) // older versions count flushes only here
		}
		if k.IOs == 0 {
			continue
		}
		f := k.figures()
		r.Kinds[name] = f
		if name != "flush" {
			r.Seconds = max(r.Seconds, k.Runtime/1000)
		}
	}
	for name, f := range r.Kinds {
		if name != "flush" {
			r.Total.add(&f)
		}
	}
	if r.Total.Ops == 0 {
		return nil, errFioIdle
	}
	cpu := (j.UserCPU + j.SystemCPU) / 100 * j.JobRuntime / 1000 // seconds
	p := ProcessFigures{Name: fioName, MicrosPerIO: 1e6 * cpu / float64(r.Total.Ops)}
	if r.Seconds > 0 {
		p.CPUPercent = 100 * cpu / r.Seconds
	}
	r.Others = []ProcessFigures{p}
	return r, nil
}

func (k *fioKind) figures() KindFigures {
	f := KindFigures{Ops: uint64(k.IOs), Bytes: uint64(k.Bytes), IOPS: k.IOPS}
	if k.Runtime > 0 {
		f.BytesPerSecond = k.Bytes / (k.Runtime / 1000)
	}
	l := &k.Latency
	at := func(p float64) float64 { return l.Percentile[strconv.FormatFloat(p, 'f', 6, 64)] }
	f.Latency = Latency{Min: l.Min, Mean: l.Mean, P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: l.Max}
	for _, p := range fioPercentiles {
		if v, share := at(p), p/100; v > 0 && k.IOs*(1-share) >= 1 {
			f.Curve = append(f.Curve, Point{share, v})
		}
	}
	if len(f.Curve) > 0 {
		f.Curve = append(f.Curve, Point{1 - 1/(k.IOs+1), l.Max})
	}
	return f
}

// add joins two kinds of which only percentiles are known: those of a mix lie between its parts', and are taken in proportion
// to their numbers. That is an estimate; each kind's own are exact.
func (f *KindFigures) add(o *KindFigures) {
	n, m := float64(f.Ops), float64(o.Ops)
	mix := func(a, b float64) float64 { return (a*n + b*m) / (n + m) }
	l, p := &f.Latency, &o.Latency
	if n == 0 {
		*f = *o
		return
	}
	*l = Latency{
		Min: min(l.Min, p.Min), Max: max(l.Max, p.Max), Mean: mix(l.Mean, p.Mean),
		P50: mix(l.P50, p.P50), P90: mix(l.P90, p.P90), P99: mix(l.P99, p.P99), P999: mix(l.P999, p.P999),
	}
	var curve []Point
	for _, a := range f.Curve {
		if i := slices.IndexFunc(o.Curve, func(b Point) bool { return b.Share == a.Share }); i >= 0 {
			curve = append(curve, Point{a.Share, mix(a.NS, o.Curve[i].NS)})
		}
	}
	f.Curve = curve
	f.Ops += o.Ops
	f.Bytes += o.Bytes
	f.IOPS += o.IOPS
	f.BytesPerSecond += o.BytesPerSecond
}
