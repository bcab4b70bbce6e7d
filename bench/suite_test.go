package bench

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// programDir is where the program was built, if it was.
var programDir string

// program builds the pollux program once, for the tests that start an engine.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pollux-test-")
	if err != nil {
		return "", err
	}
	programDir = dir
	exe := filepath.Join(dir, "pollux")
	out, err := exec.Command("go", "build", "-o", exe, "../cmd/pollux").CombinedOutput()
	if err != nil {
		return string(out), err
	}
	return exe, nil
})

func pollux(t *testing.T) string {
	t.Helper()
	exe, err := program()
	if err != nil {
		t.Fatalf("building pollux: %v\n%s", err, exe)
	}
	return exe
}

func TestSuiteMeasuresEverythingAndLeavesItsConditions(t *testing.T) {
	var log bytes.Buffer
	work := t.TempDir()
	cfg := SuiteConfig{
		Exe: pollux(t), Output: t.TempDir(), Dir: work, Size: 16 << 20, Runs: 1, Seconds: 0.02, Idle: 0.1, AllocIOs: 16000, Depths: []int{32},
		EngineCore: runtime.NumCPU() - 1, ClientCore: 0, Log: &log, Only: []string{"disk", "null", "mem", "allocations", "idle"},
	}
	dir, err := Suite(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	r, err := LoadReport(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	if want := 3*(3+2+4) + 2*2*(3+2); len(r.Rows) != want {
		t.Errorf("%d rows, want %d", len(r.Rows), want)
	}
	synced := map[string]bool{}
	for _, row := range r.Rows {
		if len(row.Runs) != 1 || row.Summary.IOPS.Median == 0 || row.Device.SizeBytes != 16<<20 || row.Device.WriteCache == "" {
			t.Errorf("%s: %d runs, %+v, %+v", row.Name, len(row.Runs), row.Summary.IOPS, row.Device)
		}
		if row.Synced {
			synced[row.Device.Target] = true
		}
		if strings.HasPrefix(row.Name, "tcp+") && (row.Device.Remote == "" || len(row.Runs[0].Others) != 1) {
			t.Errorf("%s: served by %q, %v", row.Name, row.Device.Remote, row.Runs[0].Others)
		}
	}
	for _, target := range []string{"raw", "uring", "tcp+uring"} {
		if !synced[target] {
			t.Errorf("%s has no row whose writes are durable", target)
		}
	}
	if len(r.Idle) != 5 || len(r.Allocs) != 3 || r.Conditions.Fio == "" {
		t.Errorf("idle %v, allocations %v, fio %q", r.Idle, r.Allocs, r.Conditions.Fio)
	}
	for _, a := range r.Allocs {
		if a.Client > 0.1 || a.Engine > 0.1 || a.IOs < 1000 { // what goes by time, over few requests
			t.Errorf("%s: the client allocates %.3f objects for each request, the engine %.3f", a.What, a.Client, a.Engine)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "results.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"## Disk", "Writes that are durable when they count", "| raw randwrite 4k qd1 fua |", "| tcp+uring / raw randread 4k qd32 |", "| tcp+null / null randread 4k qd32 |",
		"## With nothing to do", "interrupt", "## Allocations", "![randread-4k-qd32](randread-4k-qd32.png)", "runs | 1 of 0.02 s each", "pollux serve --cores ",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in results.md", want)
		}
	}
	pictures, _ := filepath.Glob(filepath.Join(dir, "*.png"))
	raw, _ := filepath.Glob(filepath.Join(dir, "raw", "fio-*.json"))
	if len(pictures) != 6 || len(raw) != 9 {
		t.Errorf("%d pictures, %d outputs of fio", len(pictures), len(raw))
	}
	if left, _ := os.ReadDir(work); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	cfg.Only, cfg.Depths, cfg.Runs = []string{"null"}, []int{1}, 1
	if again, err := Suite(t.Context(), cfg); err != nil || again != dir+"-2" {
		t.Errorf("another suite on the same day: %s, %v", again, err)
	}
}

// servingEngine is an engine that serves 16 MiB of memory until the test ends.
func servingEngine(t *testing.T) (*Engine, TargetSpec) {
	t.Helper()
	e, err := StartEngine(t.Context(), EngineConfig{Exe: pollux(t), Cores: "0", Idle: "interrupt", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	at, err := e.Serve(TargetSpec{Kind: "mem", Bytes: 16 << 20, BlockSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	return e, at
}

func TestVerifyOverTCP(t *testing.T) {
	e, at := servingEngine(t)
	w := Workload{RW: "randrw", ReadPercent: 40, TrimPercent: 10, BlockBytes: 16384, Depth: 32, Jobs: 2, Zipf: 1.1, Number: 2000, Verify: true, FUAEvery: 3, FsyncEvery: 20}
	rig, err := OpenRig(at, RigConfig{Cores: []int{-1}, MemoryBytes: MemoryFor(&w, 1)})
	if err != nil {
		t.Fatal(err)
	}
	run, err := rig.Run(t.Context(), w, Options{PIDs: []int{e.PID()}})
	if err != nil {
		t.Error(err)
	} else if run.Total.Ops != 4000 || run.Verify.Blocks == 0 {
		t.Errorf("%+v", run)
	}
	if err := rig.Close(); err != nil {
		t.Error(err)
	}
	at.NSID = 5
	if _, err := OpenRig(at, RigConfig{Cores: []int{-1}}); err == nil || !strings.Contains(err.Error(), "no namespace 5") {
		t.Errorf("%v", err)
	}
}

func TestAnEngineThatDoesNotStartIsExplained(t *testing.T) {
	_, err := StartEngine(t.Context(), EngineConfig{Exe: pollux(t), Cores: "9999", Idle: "poll", Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "core 9999") {
		t.Errorf("%v", err)
	}
}
