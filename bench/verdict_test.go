package bench

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/reactor"
)

// rowOf is a row of runs with these requests a second and 99th percentiles in milliseconds.
func rowOf(target, cache, disk string, w Workload, iops, p99 []float64) Row {
	r := Row{Name: target + " " + w.Name(), Device: DeviceConditions{Target: target, WriteCache: cache, Disk: disk}, Workload: w, Synced: w.Synced()}
	for i := range iops {
		run := Run{Seconds: 1}
		run.Total.IOPS, run.Total.Latency.P99 = iops[i], p99[i]*1e6
		r.Runs = append(r.Runs, run)
	}
	r.summarise()
	return r
}

func gateLoad(rw string, fua int) Workload {
	return Workload{RW: rw, BlockBytes: 4096, Depth: gateDepth, Jobs: 1, Number: gateNumber, FUAEvery: fua}
}

// failures are the figures that failed.
func failures(v []Verdict) string {
	var out []string
	for _, x := range v {
		if x.Result == Failed {
			out = append(out, x.Figure)
		}
	}
	return strings.Join(out, ", ")
}

func TestGatesFailJustPastTheirLimits(t *testing.T) {
	fast, quick := []float64{90000, 91000, 92000}, []float64{1, 1, 1}
	rawPlain, rawDurable := rowOf("raw", "volatile", "vda", gateLoad("randwrite", 0), fast, quick), rowOf("raw", "volatile", "vda", gateLoad("randwrite", 1), fast, quick)
	slowPlain, slowDurable := rowOf("raw", "volatile", "vda", gateLoad("randwrite", 0), fast, quick), rowOf("raw", "volatile", "vda", gateLoad("randwrite", 1), []float64{300, 400, 500}, []float64{60, 70, 80})
	for _, c := range []struct {
		name  string
		raw   []Row
		row   Row
		fails string
		by    string // of the first verdict
	}{
		{"at the floor", []Row{rawPlain, rawDurable}, rowOf("uring", "volatile", "vda", gateLoad("randwrite", 0), []float64{5000, 1000, 4000}, []float64{1, 100, 2}), "", "floor"},
		{"one run below the floor", []Row{rawPlain, rawDurable}, rowOf("uring", "volatile", "vda", gateLoad("randwrite", 0), []float64{5000, 999, 4000}, quick), "IOPS", "floor"},
		{"one run with a late tail", []Row{rawPlain, rawDurable}, rowOf("uring", "volatile", "vda", gateLoad("randwrite", 0), fast, []float64{1, 101, 1}), figureP99w, "floor"},
		{"no figure at all", []Row{rawPlain, rawDurable}, rowOf("uring", "volatile", "vda", gateLoad("randwrite", 0), []float64{math.NaN()}, quick), "IOPS", "floor"},
		{"a slow disk, half of it", []Row{slowPlain, slowDurable}, rowOf("uring", "volatile", "vda", gateLoad("randwrite", 1), []float64{150, 200, 300}, []float64{1, 160, 1}), "", "half of raw's worst, 300.0: the disk is slow"},
		{"a slow disk, less than half of it", []Row{slowPlain, slowDurable}, rowOf("uring", "volatile", "vda", gateLoad("randwrite", 1), []float64{149, 200, 300}, []float64{1, 161, 1}), "IOPS, " + figureP99w, "half of raw's worst, 300.0: the disk is slow"},
		{"a slow disk does not excuse what is not durable", []Row{slowPlain, slowDurable}, rowOf("uring", "volatile", "vda", gateLoad("randwrite", 0), []float64{150, 200, 300}, quick), "IOPS", "floor"},
		{"a volume's plain writes are durable", []Row{slowPlain, slowDurable}, rowOf("volume", "none", "vda", gateLoad("randwrite", 0), []float64{150, 200, 300}, quick), "", "half of raw's worst, 300.0: the disk is slow"},
		{"memory has no disk", []Row{slowPlain, slowDurable}, rowOf("tcp+mem", "none", "", gateLoad("randwrite", 0), []float64{999, 2000, 3000}, quick), "IOPS", "floor"},
		{"without fio", nil, rowOf("volume", "none", "vda", gateLoad("randwrite", 0), []float64{999, 2000, 3000}, quick), "IOPS", "floor"},
	} {
		rows := append(append([]Row{}, c.raw...), c.row)
		v := judgeGate(1000, 20, rows, &rows[len(rows)-1])
		if got := failures(v); got != c.fails || v[0].By != c.by {
			t.Errorf("%s: %q failed by %q, want %q by %q", c.name, got, v[0].By, c.fails, c.by)
		}
	}
	read := rowOf("uring", "volatile", "vda", gateLoad("randread", 0), []float64{4999, 9000, 9000}, []float64{500, 500, 500})
	if got := failures(judgeGate(5000, 20, []Row{read}, &read)); got != "IOPS" { // there is no limit to the latency of reads
		t.Errorf("reads below their floor: %q failed", got)
	}
	for others, want := range map[float64]Result{20: Failed, 21: NotJudged} {
		read.Runs[1].OthersPercent = others
		if v := judgeGate(5000, 20, []Row{read}, &read); v[0].Result != want {
			t.Errorf("others had %g %%: %+v", others, v[0])
		}
	}
}

func TestRatiosFailOnlyBeyondBothSpreads(t *testing.T) {
	base := &Baseline{Low: 0.80, Median: 0.90, High: 1.00, Version: 3}
	for _, c := range []struct {
		name   string
		figure string
		found  Span
		base   *Baseline
		want   Result
	}{
		{"the same", figureIOPS, Span{0.9, 0.8, 1.0, 3}, base, Passed},
		{"much lower in the median, but one pair is as good", figureIOPS, Span{0.5, 0.4, 0.80, 3}, base, Passed},
		{"the best pair at the limit", figureIOPS, Span{0.5, 0.4, 0.76, 3}, base, Passed},
		{"the best pair past the limit", figureIOPS, Span{0.5, 0.4, 0.759, 3}, base, Failed},
		{"better", figureIOPS, Span{9, 8, 10, 3}, base, Passed},
		{"too few pairs to claim anything", figureIOPS, Span{0.1, 0.1, 0.1, 2}, base, NotJudged},
		{"a machine that is not known", figureIOPS, Span{0.1, 0.1, 0.1, 3}, nil, NotJudged},
		{"latency at the limit", figureP99, Span{2, 1.1, 3, 3}, base, Passed},
		{"latency past the limit", figureP99, Span{2, 1.101, 3, 3}, base, Failed},
		{"lower latency", figureP99, Span{0.1, 0.1, 0.1, 3}, base, Passed},
	} {
		if v := judgeRatio("a / b", c.figure, c.found, c.base); v.Result != c.want {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
}

func TestPairsWithOthersOnTheirCoresAreNoPairs(t *testing.T) {
	w := Workload{RW: "randread", BlockBytes: 4096, Depth: 1, Jobs: 1}
	row := func(target string, others ...float64) Row {
		r := rowOf(target, "none", "", w, []float64{100, 200, 300, 400}, []float64{1, 1, 1, 1})
		for i := range r.Runs {
			r.Runs[i].OthersPercent = others[i]
		}
		return r
	}
	a, b := row("a", 0, 21, 0, 20), row("b", 0, 0, 99, 20)
	if q := quietRatio(&a, &b, 20); q.IOPS.Pairs != 2 {
		t.Errorf("%d pairs, want 2", q.IOPS.Pairs)
	}
	if q := quietRatio(&a, &b, 100); q.IOPS.Pairs != 4 {
		t.Errorf("%d pairs, want 4", q.IOPS.Pairs)
	}
}

func TestOthersAreWhoeverElseUsedTheCores(t *testing.T) {
	const before = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 100 1 50 1000 7 5 6 2 0 0\ncpu1 1 1 1 1 1 1 1 1 0 0\ncpu10 9 9 9 9 9 9 9 9 0 0\nintr 1\n"
	const after = "cpu0 130 2 60 1100 9 50 60 7 0 0\ncpu1 2 1 1 1 1 1 1 1 0 0\ncpu10 9 9 9 9 9 9 9 9 0 0\n" // 46 more, and interrupts, which do not count
	a, err := coresBusy(before, []int{0})
	b, err2 := coresBusy(after, []int{0})
	if err != nil || err2 != nil || b-a != 46*procTick {
		t.Errorf("%d, %v, %v", (b-a)/procTick, err, err2)
	}
	second := 100 * procTick
	kernel := func(written, flushed, elsewhere int64) map[string]onCore {
		return map[string]onCore{"w": {reactor.Ticks(written) * procTick, 0}, "f": {reactor.Ticks(flushed) * procTick, 0}, "e": {reactor.Ticks(elsewhere) * procTick, 1}}
	}
	moved := map[string]onCore{"w": {500 * procTick, 1}} // it wrote elsewhere until now
	for _, c := range []struct {
		ours          int64
		before, after map[string]onCore
		want          float64
	}{
		{26, nil, nil, 20},
		{90, nil, nil, 0}, // ours ran elsewhere too
		{26, kernel(500, 3, 7), kernel(510, 5, 99), 8},
		{26, moved, kernel(512, 0, 0), 8},
	} {
		if p := othersPercent(used{0, a, 0, c.before}, used{second, b, reactor.Ticks(c.ours) * procTick, c.after}, []int{0}); p != c.want {
			t.Errorf("%+v: %g %%", c, p)
		}
	}
	for _, bad := range []string{"", "cpu0 x 1 1 1 1 1 1 1\n", "cpu0 1 1\n"} {
		if _, err := coresBusy(bad, []int{0}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestThreadsOfTheKernelAreNoOthers(t *testing.T) {
	const line = "77 (kworker/1:2H-k) b) I 2 0 0 0 -1 69238880 0 0 0 0 3 32 0 0 0 -20 1 0 12 0 0 18446744073709551615 0 0 0 0 0 0 0 2147483647 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
	if d, core, ok := kernelThread([]byte(line)); !ok || d != 35*procTick || core != 1 {
		t.Errorf("%d, %d, %v", d/procTick, core, ok)
	}
	for name, bad := range map[string]string{"a process": strings.Replace(line, "69238880", "4194560", 1), "one that ended": "", "half a line": line[:40]} {
		if _, _, ok := kernelThread([]byte(bad)); ok {
			t.Errorf("%s passed", name)
		}
	}
}

func TestCostsFailWhenEvenTheLeastIsTooMuch(t *testing.T) {
	for _, c := range []struct {
		found []float64
		want  Result
	}{{[]float64{2.2, 9, 9}, Passed}, {[]float64{2.21, 9, 2.3}, Failed}, {[]float64{0}, Passed}, {nil, Failed}, {[]float64{math.NaN()}, Failed}} {
		if v := judgeCost("r", "f", c.found, 2.2); v.Result != c.want {
			t.Errorf("%v: %+v", c.found, v)
		}
	}
	v := judgeCounts("r", "", []engineCounts{{2.3, 1}, {2.4, 1}}, engineCounts{2.2, 1.1})
	if failures(v) != "system calls" {
		t.Errorf("%+v", v)
	}
}

func TestWritesWithoutTheirDurableRowFail(t *testing.T) {
	one := []float64{1}
	plain, durable := rowOf("uring", "volatile", "vda", gateLoad("randwrite", 0), one, one), rowOf("uring", "volatile", "vda", gateLoad("randwrite", 1), one, one)
	read, other := rowOf("uring", "volatile", "vda", gateLoad("randread", 0), one, one), rowOf("volume", "none", "vda", gateLoad("randwrite", 1), one, one)
	always := rowOf("volume", "none", "vda", gateLoad("write", 0), one, one)
	if v := judgeSynced([]Row{plain, read, durable, always}); v.Result != Passed {
		t.Errorf("%+v", v)
	}
	for name, rows := range map[string][]Row{"none at all": {plain, read}, "that of another device": {plain, other}} {
		if v := judgeSynced(rows); v.Result != Failed || !strings.Contains(v.Why, "uring randwrite 4k qd32") {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestAnEnginesStateFailsJustPastTheLimits(t *testing.T) {
	good := EngineState{Blocks: 1, Changes: 95, Refused: 5, Lag: 1000, Pressure: "none", LogBytes: 64 << 20, Scrubbed: 4096, Health: "ok", Volume: "healthy"}
	if got := failures(judgeState("r", &good)); got != "" {
		t.Errorf("a good state fails: %s", got)
	}
	for _, c := range []struct {
		want  string
		spoil func(s *EngineState)
	}{
		{"the engine lives", func(s *EngineState) { s.Died = "signal: killed" }},
		{"verified", func(s *EngineState) { s.Blocks = 0 }},
		{"blocks that came back wrong", func(s *EngineState) { s.Mismatches = 1 }},
		{"commits that failed, share", func(s *EngineState) { s.Refused = 6 }},
		{"commits that failed, share", func(s *EngineState) { s.Changes, s.Refused = 0, 0 }},
		{"failed writes behind the log", func(s *EngineState) { s.HomeErrors = 1 }},
		{"records not home, at rest", func(s *EngineState) { s.Lag = 1001 }},
		{"log is not full, at rest", func(s *EngineState) { s.Pressure = "delay" }},
		{"log is not full, at rest", func(s *EngineState) { s.Pressure = "wait" }},
		{"scrubbed", func(s *EngineState) { s.Scrubbed = 0 }},
		{"errors of the scrub", func(s *EngineState) { s.ScrubErrors = 1 }},
		{"health", func(s *EngineState) { s.Health = "degraded" }},
		{"health", func(s *EngineState) { s.Volume = "degraded" }},
	} {
		s := good
		c.spoil(&s)
		if got := failures(judgeState("r", &s)); got != c.want {
			t.Errorf("%q failed, want %q", got, c.want)
		}
	}
}

func TestVerdictsSayWhichLimitWasTaken(t *testing.T) {
	var b bytes.Buffer
	err := writeVerdicts(&b, []Verdict{
		{Group: "gates", Row: "volume randwrite", Figure: "IOPS", Found: Stat{Median: 300, Worst: 200, Spread: 0.5}, Limit: 150, By: "half of raw's worst, 300.0: the disk is slow", Result: Passed},
		{Group: "state", Row: "volume", Figure: "health", Result: Failed, Why: "engine degraded", Attempts: 3},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"gates\n", "200.0", "25.0 %", "150.0", "ok: half of raw's worst, 300.0: the disk is slow\n    volume randwrite, IOPS\n", "FAIL (measured 3 times)", "FAIL: engine degraded\n    volume, health\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
