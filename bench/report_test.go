package bench

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pollux-storage/pollux/reactor"
)

var update = flag.Bool("update", false, "record the golden files anew")

// golden compares got with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s has changed; if that is right, run make golden and raise the version where a field changed its meaning:\n%s", path, d)
	}
}

// madeRun is a run of which every figure is known.
func madeRun(iops float64, p99 float64) Run {
	var c kindCount
	for i := range 1000 {
		d := reactor.Ticks(10000 + 10*i)
		c.ops, c.bytes = c.ops+1, c.bytes+4096
		c.latency.Record(uint64(d))
		c.max = d
	}
	c.min = 10000
	r := Run{Seconds: 1000 / iops, Kinds: map[string]KindFigures{}, EntersPerIO: 0.25}
	f := c.figures(r.Seconds)
	f.Latency.P99 = p99
	r.Total, r.Kinds["read"] = f, f
	r.Reactors = []ReactorFigures{{Core: 1, BusyPercent: 80, CPUPercent: 99.5, Sleeps: 3, Enters: 250}}
	r.CPU = CPUFigures{UserPercent: 60, SystemPercent: 39.5, MicrosPerIO: 995e3 / iops}
	return r
}

// madeTarget gives made runs, and remembers the order in which it was asked.
type madeTarget struct {
	name  string
	runs  []Run
	order *[]string
}

func (m *madeTarget) Name() string { return m.name }
func (m *madeTarget) Close() error { return nil }
func (m *madeTarget) Describe() DeviceConditions {
	return DeviceConditions{Target: m.name, SizeBytes: 1 << 30, BlockSize: 4096, WriteCache: "none"}
}
func (m *madeTarget) Run(context.Context, Workload, Options) (*Run, error) {
	if m.order != nil {
		*m.order = append(*m.order, m.name)
	}
	r := m.runs[0]
	m.runs = append(m.runs[1:], m.runs[0])
	return &r, nil
}

var madeWorkload = Workload{RW: "randread", BlockBytes: 4096, Depth: 32, Jobs: 1, RuntimeSeconds: 5}

func madeReport(t *testing.T, factor float64) *Report {
	t.Helper()
	r := &Report{Schema: SchemaName, Version: SchemaVersion}
	r.Conditions = Conditions{
		Time: "2026-01-02T03:04:05Z", Pollux: "0.1.0", Commit: "abc", Go: "go1.26.0", GOMAXPROCS: 3, Command: []string{"pollux", "bench"},
		Machine: Machine{CPU: "Test CPU", Cores: 2, OS: "Test", Kernel: "6.1"},
	}
	var order []string
	a := &madeTarget{"mem", []Run{madeRun(100000*factor, 19000/factor), madeRun(110000*factor, 20000/factor), madeRun(105000*factor, 18000/factor)}, &order}
	b := &madeTarget{"raw", []Run{madeRun(50000, 40000), madeRun(55000, 41000), madeRun(52500, 42000)}, &order}
	rows, err := Turns(t.Context(), []Target{a, b}, madeWorkload, 3, make([]Options, 2))
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, " "); got != "mem raw raw mem mem raw" {
		t.Errorf("the pairs were run as %s", got)
	}
	r.Rows, r.Ratios = rows, []Ratio{NewRatio(&rows[0], &rows[1])}
	r.Allocs = []AllocRow{{"tcp+mem randread 4k qd32", 200000, 0, 0.001}}
	r.Idle = []IdleRow{{What: "mem, one volume attached", Idle: "adaptive", Seconds: 10, CPUPercent: 0.31, WakesPerSecond: 2.5, SleepsPerSecond: 1.5}}
	return r
}

func TestReportGolden(t *testing.T) {
	r := madeReport(t, 1)
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", b)
	back, err := DecodeReport(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r, back, cmp.AllowUnexported(Run{}, State{}, entry{})); d != "" {
		t.Errorf("read back it differs:\n%s", d)
	}
	var table bytes.Buffer
	if err := r.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	golden(t, "table.txt", table.Bytes())
}

func TestReportsOfAnotherVersionAreRefused(t *testing.T) {
	for _, s := range []string{`{}`, `{"schema":"pollux-bench","version":2}`, `{"schema":"other","version":1}`, `[`} {
		if _, err := DecodeReport([]byte(s)); err == nil {
			t.Errorf("%s was read", s)
		}
	}
}

func TestCompareGolden(t *testing.T) {
	a := madeReport(t, 1)
	for _, c := range []struct {
		name        string
		b           func() *Report
		regressions int
	}{
		{"slower", func() *Report { return madeReport(t, 0.7) }, 2},
		{"faster", func() *Report { return madeReport(t, 1.5) }, 0},
		{"within the spread", func() *Report { return madeReport(t, 0.96) }, 0},
		{"one run", func() *Report {
			r := madeReport(t, 0.5)
			for i := range r.Rows {
				r.Rows[i].Runs = r.Rows[i].Runs[:1]
				r.Rows[i].summarise()
			}
			return r
		}, 0},
		{"other rows, other machine", func() *Report {
			r := madeReport(t, 1)
			r.Rows[0].Name = "uring randread 4k qd32"
			r.Conditions.Machine.Kernel = "6.6"
			return r
		}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := Compare(a, c.b())
			if n := len(x.Regressions()); n != c.regressions {
				t.Errorf("%d regressions, want %d", n, c.regressions)
			}
			var out bytes.Buffer
			if err := x.WriteTable(&out); err != nil {
				t.Fatal(err)
			}
			golden(t, "compare_"+strings.ReplaceAll(strings.ReplaceAll(c.name, ",", ""), " ", "_")+".txt", out.Bytes())
		})
	}
}

func TestStatsOfRuns(t *testing.T) {
	for _, c := range []struct {
		x    []float64
		more bool
		want Stat
	}{
		{nil, true, Stat{}},
		{[]float64{5}, true, Stat{5, 5, 0}},
		{[]float64{10, 8, 12}, true, Stat{10, 8, 0.4}},
		{[]float64{10, 8, 12}, false, Stat{10, 12, 0.4}},
		{[]float64{4, 1, 3, 2}, true, Stat{2.5, 1, 1.2}},
	} {
		if got := newStat(c.x, c.more); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.x, got, c.want)
		}
	}
}

func TestARatioClaimsNothingItCannot(t *testing.T) {
	for want, s := range map[string]Span{
		"too few pairs": {Median: 2, Low: 1.9, High: 2.1, Pairs: 2},
		"1 lies within": {Median: 1.2, Low: 0.98, High: 1.4, Pairs: 5},
	} {
		if s.Claims() {
			t.Errorf("%s, and yet it claims a difference", want)
		}
	}
	if s := (Span{Median: 0.8, Low: 0.7, High: 0.99, Pairs: 3}); !s.Claims() {
		t.Error("three pairs below 1 claim nothing")
	}
}

func TestPercentilesAreWithinTheStatedError(t *testing.T) {
	var c kindCount
	for i := 1; i <= 100000; i++ {
		c.latency.Record(uint64(i))
	}
	c.min, c.max = 1, 100000
	f := c.figures(1)
	for want, got := range map[float64]float64{50000: f.Latency.P50, 90000: f.Latency.P90, 99000: f.Latency.P99, 99900: f.Latency.P999} {
		if math.Abs(got/want-1) > 0.045 {
			t.Errorf("%.0f instead of %.0f", got, want)
		}
	}
	if f.Latency.Min != 1 || f.Latency.Max != 100000 || f.Latency.Mean != 50000.5 {
		t.Errorf("%+v", f.Latency)
	}
	for i := 1; i < len(f.Curve); i++ {
		if a, b := f.Curve[i-1], f.Curve[i]; a.NS > b.NS || a.Share >= b.Share {
			t.Errorf("the curve falls from %v to %v", a, b)
		}
	}
}

func TestPlotIsAPicture(t *testing.T) {
	b, err := Plot("4 KiB random reads", madeReport(t, 1).Rows)
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if s := img.Bounds().Size(); s.X != 1000 || s.Y != 600 {
		t.Errorf("%v", s)
	}
	colors := map[string]bool{}
	for y := range 600 {
		for x := range 1000 {
			r, g, b, _ := img.At(x, y).RGBA()
			colors[fmt.Sprint(r>>8, g>>8, b>>8)] = true
		}
	}
	for i := range 2 {
		r, g, b, _ := plotColors[i].RGBA()
		if !colors[fmt.Sprint(r>>8, g>>8, b>>8)] {
			t.Errorf("row %d left no line", i)
		}
	}
	if _, err := Plot("nothing", nil); err == nil {
		t.Error("a plot of nothing")
	}
}

func TestFioOutput(t *testing.T) {
	b, err := os.ReadFile("testdata/fio.json")
	if err != nil {
		t.Fatal(err)
	}
	r, err := parseFio(append([]byte("fio: a note before the JSON\n"), b...))
	if err != nil {
		t.Fatal(err)
	}
	read, write := r.Kinds["read"], r.Kinds["write"]
	if read.Ops != 3761 || read.Latency.P50 != 5792 || write.Latency.Max != 45715594 || r.Total.Ops != 7461 || r.Total.Bytes != 15405056+15175680 {
		t.Errorf("%+v", r)
	}
	if cpu := r.Others[0]; math.Abs(cpu.MicrosPerIO-(1.596806+4.291417)/100*1.002e6/7461) > 0.01 {
		t.Errorf("%+v", cpu)
	}
	for name, s := range map[string]string{
		"cut off": string(b[:len(b)/2]), "no job": `{"jobs":[]}`, "an error": `{"jobs":[{"error":5,"read":{"total_ios":1}}]}`, "nothing done": `{"jobs":[{"error":0}]}`,
	} {
		if _, err := parseFio([]byte(s)); err == nil {
			t.Errorf("%s: was read", name)
		}
	}
}

func TestFioArguments(t *testing.T) {
	f := &Fio{path: "/dev/x", core: 1}
	w := Workload{RW: "randrw", ReadPercent: 70, BlockBytes: 4096, Depth: 8, Jobs: 2, RuntimeSeconds: 2.5, RampSeconds: 1, FUAEvery: 1, Size: 1 << 20, Zipf: 1.1}
	args, err := f.args(&w)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(args, " ") + " "
	for _, want := range []string{
		"--filename=/dev/x", "--allow_file_create=0", "--rw=randrw ", "--rwmixread=70 ", "--bs=4096 ", "--iodepth=8 ", "--numjobs=2 ", "--runtime=2500000us ",
		"--ramp_time=1000000us ", "--time_based=1 ", "--sync=dsync ", "--size=1048576 ", "--random_distribution=zipf:1.1 ", "--cpus_allowed=1 ", "--direct=1 ",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no %s in %s", want, all)
		}
	}
	for name, w := range map[string]Workload{
		"verify": {RW: "write", BlockBytes: 4096, Verify: true}, "trims": {RW: "write", BlockBytes: 4096, TrimPercent: 5}, "some FUA": {RW: "write", BlockBytes: 4096, FUAEvery: 2},
	} {
		if _, err := f.args(&w); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
}

func TestFioMissingIsSaid(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := OpenFio(TargetSpec{Kind: "raw", Path: "testdata/fio.json"}, -1)
	if !errors.Is(err, ErrNoFio) || !strings.Contains(err.Error(), "scripts/deps test") {
		t.Errorf("%v", err)
	}
}

func TestFioMeasuresAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFio(TargetSpec{Kind: "raw", Path: path}, -1)
	if err != nil {
		t.Fatal(err) // what is missing is named, not passed over
	}
	rec := &recorder{}
	run, err := f.Run(t.Context(), Workload{RW: "randrw", ReadPercent: 50, BlockBytes: 4096, Depth: 4, Jobs: 1, RuntimeSeconds: 0.6}, Options{Reporter: rec})
	if err != nil {
		t.Fatal(err)
	}
	if run.Total.Ops == 0 || run.Kinds["read"].Latency.P99 == 0 || len(run.Total.Curve) == 0 || !rec.done {
		t.Errorf("%+v", run)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Run(ctx, Workload{RW: "randread", BlockBytes: 4096, Depth: 4, Jobs: 1, RuntimeSeconds: 60}, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestTargets(t *testing.T) {
	for s, want := range map[string]TargetSpec{
		"mem:1G":                {Kind: "mem", Bytes: 1 << 30, BlockSize: 4096},
		"null:64M?block=512":    {Kind: "null", Bytes: 64 << 20, BlockSize: 512},
		"uring:/a:b?c":          {Kind: "uring", Path: "/a:b?c"},
		"volatile:/dev/x":       {Kind: "volatile", Path: "/dev/x"},
		"raw:/dev/x?block=4096": {Kind: "raw", Path: "/dev/x", BlockSize: 4096},
	} {
		got, err := ParseTarget(s)
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%s: %v\n%s", s, err, d)
		}
	}
	const remote = "tcp://[::1]:4420/nqn.2026-01.io.pollux:a"
	got, err := ParseTarget(remote + "?nsid=3&hdgst=1&sqflow=1&hostnqn=nqn.2026-01.io.pollux:h&queues=2")
	if o := got.Remote; err != nil || got.NSID != 3 || o.TrAddr != "::1" || o.TrSvcID != "4420" || o.SubNQN != "nqn.2026-01.io.pollux:a" ||
		!o.HeaderDigest || !o.SQFlow || o.DataDigest || o.HostNQN != "nqn.2026-01.io.pollux:h" || o.QueuesPerReactor != 2 || got.String() != remote {
		t.Errorf("%+v, %v", got, err)
	}
	for _, s := range []string{
		"", "mem", "mem:", "mem:x", "disk:/a", "mem:1G?block=1000", "tcp://127.0.0.1:4420", "tcp:///nqn", "tcp://h/nqn?nsid=0", "tcp://h/nqn?digest=1", "tcp://h/nqn?queues=x",
	} {
		if got, err := ParseTarget(s); err == nil {
			t.Errorf("%q was taken for %+v", s, got)
		}
	}
}

func TestRigOnAVolume(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRig(TargetSpec{Kind: "volume", Path: path}, RigConfig{Cores: []int{-1}}); err == nil {
		t.Error("a volume on an empty file")
	}
	if err := os.Truncate(path, 64<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRig(TargetSpec{Kind: "volume", Path: path}, RigConfig{Cores: []int{-1}}); err == nil || !strings.Contains(err.Error(), "needs 256 MiB") {
		t.Errorf("a volume on a file that is too small: %v", err)
	}
	if err := os.Truncate(path, 256<<20); err != nil {
		t.Fatal(err)
	}
	for kind, cache := range map[string]string{"volume": "none", "volatile": "volatile"} {
		w := Workload{RW: "randrw", ReadPercent: 30, TrimPercent: 10, BlockBytes: 16384, Depth: 16, Jobs: 2, Number: 500, Verify: true, FsyncEvery: 50}
		rig, err := OpenRig(TargetSpec{Kind: kind, Path: path}, RigConfig{Cores: []int{-1}, MemoryBytes: MemoryFor(&w, 1)})
		if err != nil {
			t.Fatal(err)
		}
		run, err := rig.Run(t.Context(), w, Options{})
		if err != nil {
			t.Error(err)
		} else if run.Verify.Blocks == 0 || run.Kinds["flush"].Ops == 0 {
			t.Errorf("%s: %+v", kind, run)
		}
		if d := rig.Describe(); d.WriteCache != cache || d.Target != kind {
			t.Errorf("%+v", d)
		}
		if err := rig.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestRigOnAFileIsMeasuredVerifiedAndDescribed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 4<<20); err != nil {
		t.Fatal(err)
	}
	w := Workload{RW: "randrw", ReadPercent: 30, TrimPercent: 10, BlockBytes: 16384, Depth: 16, Jobs: 2, Number: 500, Verify: true, FUAEvery: 4, FsyncEvery: 50}
	rig, err := OpenRig(TargetSpec{Kind: "uring", Path: path}, RigConfig{Cores: []int{-1}, MemoryBytes: MemoryFor(&w, 1)})
	if err != nil {
		t.Fatal(err)
	}
	run, err := rig.Run(t.Context(), w, Options{})
	if err != nil {
		t.Error(err)
	} else if run.Verify.Blocks == 0 || run.Kinds["flush"].Ops == 0 || run.EntersPerIO == 0 || len(run.Reactors) != 1 {
		t.Errorf("%+v", run)
	}
	d := rig.Describe()
	if d.Target != "uring" || d.SizeBytes != 4<<20 || d.WriteCache != "volatile" || d.FileSystem == "" || d.Path != path {
		t.Errorf("%+v", d)
	}
	if err := rig.Close(); err != nil {
		t.Error(err)
	}
	if _, err := OpenRig(TargetSpec{Kind: "uring", Path: path + "x"}, RigConfig{Cores: []int{-1}}); err == nil || !strings.Contains(err.Error(), "truncate -s 1G") {
		t.Errorf("%v", err)
	}
}

func TestMemoryForIsEnough(t *testing.T) {
	for _, w := range []Workload{
		{RW: "read", BlockBytes: 4096, Depth: 128, Jobs: 3}, {RW: "read", BlockBytes: 1 << 20, Depth: 32, Jobs: 1}, {RW: "write", BlockBytes: 12288, Depth: 64, Jobs: 2, Verify: true},
	} {
		rig, err := OpenRig(TargetSpec{Kind: "null", Bytes: 64 << 20, BlockSize: 4096}, RigConfig{Cores: []int{-1}, MemoryBytes: MemoryFor(&w, 1)})
		if err != nil {
			t.Fatal(err)
		}
		w.Number = 1
		w.Verify = false // null has nothing to verify, and the buffers were sized for it
		if _, err := rig.Run(t.Context(), w, Options{}); err != nil {
			t.Error(err)
		}
		if err := rig.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestConditionsAreThere(t *testing.T) {
	c := ConditionsNow()
	if c.Machine.CPU == "" || c.Machine.Cores == 0 || c.Machine.Kernel == "" || c.Go == "" || c.Time == "" || c.Machine.MemoryBytes == 0 {
		t.Errorf("%+v", c)
	}
	if s := (&Machine{CPU: "AMD EPYC (tm) 7B13", Cores: 2}).Slug(); s != "amd-epyc-tm-7b13-2c" {
		t.Error(s)
	}
}

func TestProcStat(t *testing.T) {
	line := "123 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 100 0 0"
	p, err := parseStat([]byte(line))
	if err != nil || p.Name != "a (b) c" || p.User != 2500*reactor.Millisecond || p.System != 500*reactor.Millisecond {
		t.Errorf("%+v, %v", p, err)
	}
	for _, s := range []string{"", "1 (a", "1 (a) S 1", "1 (a) S 1 2 3 4 5 6 7 8 9 10 x 50 0"} {
		if _, err := parseStat([]byte(s)); err == nil {
			t.Errorf("%q was read", s)
		}
	}
	if _, err := ReadProcessTime(os.Getpid()); err != nil {
		t.Error(err)
	}
}

func TestProgressAsLines(t *testing.T) {
	var out bytes.Buffer
	r := NewReporter(&out, false)
	for _, p := range []Progress{
		{Label: "a", Phase: "load"}, {Label: "a", Phase: "load", Share: 0.4}, {Label: "a", Phase: "load", Share: 1, IOPS: 1234, BytesPerSecond: 5 << 20},
		{Label: "a", Phase: "load", Share: 1}, {Label: "a", Phase: "verify", Share: 1},
	} {
		r.Report(p)
	}
	r.Done()
	const want = "a load: 0 %\na load: 100 %, 1,234 IOPS, 5.00 MiB/s\na verify: 100 %\n"
	if out.String() != want {
		t.Errorf("got:\n%swant:\n%s", out.String(), want)
	}
	var bar bytes.Buffer
	r = NewReporter(&bar, true)
	r.Report(Progress{Label: "b", Phase: "load", Share: 0.5, IOPS: 10})
	r.Done()
	if !strings.Contains(bar.String(), "b load") || !strings.Contains(bar.String(), "100%") {
		t.Errorf("%q", bar.String())
	}
}

func TestNumbers(t *testing.T) {
	for want, x := range map[string]float64{"0": 0, "0.000": 0.0001, "0.123": 0.1234, "1.23": 1.234, "9.99": 9.99, "12.3": 12.34, "999.0": 999, "1,000": 1000, "1,234,567": 1234567} {
		if got := number(x); got != want {
			t.Errorf("%g: %q, want %q", x, got, want)
		}
	}
}
