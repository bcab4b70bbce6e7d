package bench

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/ctl/api"
)

func TestWhatTheLoopInCSays(t *testing.T) {
	said := func(line string, latencies ...uint32) []byte {
		b := []byte(line)
		for _, l := range latencies {
			b = binary.NativeEndian.AppendUint32(b, l)
		}
		return b
	}
	w := &Workload{RW: "randread", BlockBytes: 4096, Depth: 1, Jobs: 1}
	whole := said("4 2.0 1.5 1.0\n", 10_000, 20_000, 30_000, 4_000_000)
	r, err := parseCLoop(bytes.NewReader(whole), w, 3, 5)
	if err != nil {
		t.Fatal(err)
	}
	l := r.Total.Latency
	if r.Seconds != 2 || r.Total.Ops != 4 || r.Total.Bytes != 4*4096 || r.Total.IOPS != 2 || l.Min != 10_000 || l.Max != 4_000_000 || l.Mean != 1_015_000 {
		t.Errorf("%+v", r)
	}
	if r.Reactors[0].Core != 3 || r.Reactors[0].CPUPercent != 75 || r.Reactors[1].Core != 5 || r.Reactors[1].CPUPercent != 50 || r.CPU.MicrosPerIO != 2.5e6/4 {
		t.Errorf("%+v, %+v", r.Reactors, r.CPU)
	}
	for n := range whole {
		if _, err := parseCLoop(bytes.NewReader(whole[:n]), w, 0, 1); err == nil {
			t.Errorf("the first %d of %d bytes were taken for all", n, len(whole))
		}
	}
	for name, b := range map[string][]byte{
		"more latencies than it names": said("1 2.0 1.5 1.0\n", 1, 2),
		"no time":                      said("1 0.0 1.5 1.0\n", 1),
		"not a line of figures":        said("segmentation fault\n"),
	} {
		if _, err := parseCLoop(bytes.NewReader(b), w, 0, 1); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
	if _, err := (&cLoop{}).Run(t.Context(), Workload{RW: "randread", BlockBytes: 4096, Depth: 8, Jobs: 1}, Options{}); err == nil {
		t.Error("a load that it does not know was taken")
	}
}

func TestWithoutACompilerTheTailSaysWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := buildCLoop(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "apt-get install gcc") {
		t.Errorf("%v", err)
	}
}

func TestTurnsBetweenTwoLooks(t *testing.T) {
	turns := func(list ...uint64) (out api.EngineReactor) {
		for i := 0; i < len(list); i += 2 {
			out.SlowTurns = append(out.SlowTurns, api.SlowTurns{UpToNS: list[i], Turns: list[i+1]})
		}
		return out
	}
	for _, c := range []struct {
		name          string
		before, after []api.EngineReactor
		want          TurnFigures
	}{
		{"nothing happened", []api.EngineReactor{turns(20000, 3)}, []api.EngineReactor{turns(20000, 3)}, TurnFigures{}},
		{"the longest was before", []api.EngineReactor{turns(20000, 3, 90000, 1)}, []api.EngineReactor{turns(20000, 5, 90000, 1)}, TurnFigures{2, 20000}},
		{"the first of its length", []api.EngineReactor{turns(20000, 3)}, []api.EngineReactor{turns(20000, 3, 90000, 1)}, TurnFigures{1, 90000}},
		{"two reactors", []api.EngineReactor{turns(), turns(30000, 1)}, []api.EngineReactor{turns(40000, 2), turns(30000, 4)}, TurnFigures{5, 40000}},
	} {
		if got := turnsBetween(c.before, c.after); *got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, *got, c.want)
		}
	}
}

func TestDifferenceOfPairs(t *testing.T) {
	row := func(target string, p50 ...float64) *Row {
		r := &Row{Device: DeviceConditions{Target: target}, Workload: madeWorkload}
		for _, x := range p50 {
			run := Run{}
			run.Total.Latency.P50, run.Total.Latency.P99 = x, 10*x
			r.Runs = append(r.Runs, run)
		}
		return r
	}
	d := NewExcess(row("a", 50, 70, 90), row("b", 40, 80, 30))
	if d.Name != "a - b randread 4k qd32" || d.P50 != (Span{10, -10, 60, 3}) || d.P99 != (Span{100, -100, 600, 3}) {
		t.Errorf("%+v", d)
	}
	if d := NewExcess(row("a"), row("b")); d.P50 != (Span{}) {
		t.Errorf("of no runs: %+v", d)
	}
}

func TestWakesAreReadFromStatus(t *testing.T) {
	if n, err := parseWakes([]byte("Name:\tpollux\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t545\n")); n != 150 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for _, wrong := range []string{"", "Name:\tpollux\n", "voluntary_ctxt_switches:\tmany\n"} {
		if _, err := parseWakes([]byte(wrong)); err == nil {
			t.Errorf("%q was taken", wrong)
		}
	}
	if n, err := readWakes(os.Getpid()); n == 0 || err != nil {
		t.Errorf("of this process: %d, %v", n, err)
	}
}

// TestSuiteMeasuresAnEngineWithLittleToDo runs each of these groups for a moment. It says nothing of what is measured but that it is there.
func TestSuiteMeasuresAnEngineWithLittleToDo(t *testing.T) {
	var log bytes.Buffer
	work := t.TempDir()
	cfg := SuiteConfig{
		Exe: pollux(t), Output: t.TempDir(), Dir: work, Size: 16 << 20, Runs: 1, Seconds: 0.05, Idle: 0.1, Depths: []int{1},
		EngineCore: runtime.NumCPU() - 1, ClientCore: 0, Log: &log, Only: []string{"tail", "wake", "idle", "reactors"},
	}
	dir, err := Suite(t.Context(), cfg)
	if err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	r, err := LoadReport(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"engine randread 4k qd1", "engine+control randread 4k qd1", "c-loop randread 4k qd1", "c-loop+control randread 4k qd1",
		"engine-poll randread 4k qd1 rate50", "engine-adaptive randread 4k qd1 rate50",
	}
	if runtime.NumCPU() > 1 {
		want = append(want, "null-r1 randread 4k qd32", "null-r2 randread 4k qd32", "mem-r1 randread 4k qd32", "mem-r2 randread 4k qd32")
	}
	var got []string
	for _, row := range r.Rows {
		got = append(got, row.Name)
		if row.Summary.IOPS.Median == 0 || row.Summary.P999.Median == 0 {
			t.Errorf("%s: %+v", row.Name, row.Summary)
		}
		if asked := row.Device.Target == "engine" || row.Device.Target == "engine+control"; asked != (row.Runs[0].Turns != nil) {
			t.Errorf("%s: turns %v", row.Name, row.Runs[0].Turns)
		}
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("rows %q, want %q", got, want)
	}
	if len(r.Excesses) != 1 || r.Excesses[0].P50.Pairs != 1 {
		t.Errorf("differences %+v", r.Excesses)
	}
	if len(r.Idle) != 5 || !strings.Contains(r.Idle[3].What, "pool of 16 volumes, a host attached to each") || r.Idle[3].Idle != "adaptive" || r.Idle[4].Idle != "interrupt" {
		t.Errorf("idle %+v", r.Idle)
	}
	text, err := os.ReadFile(filepath.Join(dir, "results.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"## Tail", "| engine+control / c-loop randread 4k qd1 |", "turns over 20 µs", "## The first request after idle",
		"| engine-adaptive - engine-poll randread 4k qd1 rate50 |", "## With nothing to do", "wake-ups/s",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in results.md", want)
		}
	}
	if left, _ := os.ReadDir(work); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
