package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// floorsBriefly measures these groups briefly. It judges no speed: the tests' own machine is busy.
func floorsBriefly(t *testing.T, only ...string) (*Report, string) {
	t.Helper()
	var log bytes.Buffer
	dir := t.TempDir()
	cfg := FloorsConfig{
		Exe: pollux(t), Dir: dir, Size: 64 << 20, Rounds: 3, Seconds: 0.02, Attempts: 3, EngineCore: runtime.NumCPU() - 1, ClientCore: 0,
		NoiseMax: 20, Only: only, Baselines: new(Baselines), Log: &log,
	}
	r, err := Floors(t.Context(), cfg)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	var table bytes.Buffer
	if err := r.WriteVerdicts(&table); err != nil {
		t.Fatal(err)
	}
	return r, table.String()
}

func TestFloorsFailOnADeviceThatIsSlow(t *testing.T) {
	dir := t.TempDir()
	saved := filepath.Join(dir, "floors.json")
	cmd := exec.Command(pollux(t), "bench", "floors", "--only", "gates", "--delay", "12ms", "--attempts", "1", "--noise", "10000", "--size", "64M", "--dir", dir,
		"--baselines", "baselines.jsonl", "--save", saved)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	r, err := LoadReport(saved)
	if err != nil {
		t.Fatal(err)
	}
	failed := map[string]bool{}
	for _, v := range r.FailedVerdicts() {
		failed[v.Row] = true
	}
	// 32 in flight for 12 ms are 2,667 a second, less than reads have to be. The disk below is faster than half of that, or there is no gate.
	for i := range r.Rows {
		raw := &r.Rows[i]
		if w := raw.Workload; raw.Device.Target == "raw" && !w.Writes() && raw.Summary.IOPS.Worst > 6000 && !failed["uring "+w.Name()] {
			t.Errorf("uring %s passed on a slow device:\n%s", w.Name(), out)
		}
	}
	if len(failed) == 0 || !strings.Contains(string(out), "FAIL") || !strings.Contains(string(out), "are past their limits") {
		t.Errorf("the output does not say what failed:\n%s", out)
	}
}

func TestFloorsJudgeAnEngineThatWasLoaded(t *testing.T) {
	r, table := floorsBriefly(t, "costs", "state")
	if r.State == nil || r.State.Blocks < 1000 || r.State.Changes < 1000 || r.State.Scrubbed < 1<<20 || r.State.Health != "ok" {
		t.Errorf("%+v", r.State)
	}
	groups := map[string]int{}
	for _, v := range r.Verdicts {
		groups[v.Group]++
		if v.Result != Passed {
			t.Errorf("%+v", v)
		}
	}
	if want := 2*(len(uringCosts)+len(volumeCosts)) + 4*len(tcpCosts) + 2*4; groups["costs"] != want || groups["state"] < 8 {
		t.Errorf("%v, want %d costs\n%s", groups, want, table)
	}
	for _, want := range []string{"tcp+mem randwrite 8k qd1", "system calls, engine", "objects, client", "errors of the scrub"} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
}

func TestFloorsCompareWithTheBaselinesOfThisMachine(t *testing.T) {
	r, table := floorsBriefly(t, "ratios")
	want := 2 * 2 * 7 // depths, figures, pairs
	n := 0
	for _, v := range r.Verdicts {
		if v.Group != "ratios" {
			continue
		}
		if n++; v.Result != NotJudged || v.Why == "" {
			t.Errorf("without a baseline: %+v", v)
		}
	}
	if n != want || len(r.Ratios) != want/2 {
		t.Errorf("%d verdicts and %d ratios, want %d\n%s", n, len(r.Ratios), want, table)
	}
	if v := judgeSynced(r.Rows); v.Result != Passed {
		t.Errorf("%+v", v)
	}
}

// Requirement B-5: a write of 8 KiB travels with its command to an engine that was told nothing, so that it takes one send and one answer. One
// of 16 KiB is asked for first, which shows that the count tells the difference.
func TestAWriteOf8KiBTravelsWithItsCommand(t *testing.T) {
	e, at := servingEngine(t)
	rig, err := OpenRig(at, RigConfig{Cores: []int{-1}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := rig.Close(); err != nil {
			t.Error(err)
		}
	}()
	for bytes, want := range map[uint64]float64{4096: 2, 8192: 2, 16384: 4} {
		w := Workload{RW: "randwrite", BlockBytes: bytes, Depth: 1, Jobs: 1, Number: 1000}
		run, engine, err := served{rig, e}.counted(t.Context(), w)
		if err != nil {
			t.Fatal(err)
		}
		if client := run.spent().operations; client < want-0.1 || client > want+0.1 || engine.operations < want-0.1 || engine.operations > want+0.1 {
			t.Errorf("%d bytes: %.2f operations of the client, %.2f of the engine for each write, want %.0f", bytes, client, engine.operations, want)
		}
	}
}

func TestWhatFailsIsMeasuredAgain(t *testing.T) {
	for _, c := range []struct {
		good, attempts, want int
		result               Result
	}{{1, 3, 1, Passed}, {3, 3, 3, Passed}, {4, 3, 3, Failed}, {2, 1, 1, Failed}} {
		f := floors{cfg: FloorsConfig{Attempts: c.attempts}}
		n := 0
		err := f.again(func() ([]Verdict, error) {
			if n++; n >= c.good {
				return []Verdict{{Result: Passed}}, nil
			}
			if n == 1 { // noise is measured again too
				return []Verdict{{Result: NotJudged, excused: true}, {Result: Failed}}, nil
			}
			return []Verdict{{Result: Passed}, {Result: Failed}}, nil
		})
		last := f.verdict[len(f.verdict)-1]
		if err != nil || n != c.want || last.Attempts != n || last.Result != c.result {
			t.Errorf("%+v: measured %d times, %+v, %v", c, n, last, err)
		}
	}
}

func TestAnEngineThatDiedIsAVerdict(t *testing.T) {
	e, err := StartEngine(t.Context(), EngineConfig{Exe: pollux(t), Cores: "0", Idle: "interrupt", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if why := e.alive(); why != "" {
		t.Errorf("it serves, and %s", why)
	}
	if err := e.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-e.ended
	if why := e.alive(); !strings.Contains(why, "killed") {
		t.Errorf("it was killed, and %q", why)
	}
	_ = e.Stop()
}

func TestFloorsFailWhenTheEngineDies(t *testing.T) {
	cfg := FloorsConfig{
		Exe: pollux(t), Dir: t.TempDir(), Size: 64 << 20, Rounds: 3, Attempts: 1, EngineCore: runtime.NumCPU() - 1, Only: []string{"state"},
		Baselines: new(Baselines), Log: new(bytes.Buffer),
		before: func(group string, e *Engine) {
			if err := e.cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
			<-e.ended
		},
	}
	r, err := Floors(t.Context(), cfg)
	if got := failures(r.Verdicts); got != "the engine lives" || err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("%q failed, and %v", got, err)
	}
}

func TestFloorsFailWithoutFio(t *testing.T) {
	cfg := FloorsConfig{
		Exe: pollux(t), Dir: t.TempDir(), Size: 64 << 20, Rounds: 3, Attempts: 1, EngineCore: runtime.NumCPU() - 1, Only: []string{"none"},
		Baselines: new(Baselines), Log: new(bytes.Buffer),
	}
	t.Setenv("PATH", t.TempDir())
	r, err := Floors(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if bad := r.FailedVerdicts(); len(bad) != 1 || bad[0].Row != "raw" || !strings.Contains(bad[0].Why, "apt-get install fio") {
		t.Errorf("%+v", bad)
	}
}

// idler comes to nothing some times.
type idler struct {
	Target
	left int
}

func (i *idler) Run(context.Context, Workload, Options) (*Run, error) {
	if i.left--; i.left >= 0 {
		return nil, fmt.Errorf("raw: %w", errFioIdle)
	}
	return &Run{}, nil
}

func TestARunThatHadNoTimeIsMadeAgain(t *testing.T) {
	for left, ok := range map[int]bool{0: true, idleRunsMax - 1: true, idleRunsMax: false} {
		w := watched{Target: &idler{left: left}, cores: []int{0}}
		if _, err := w.Run(t.Context(), Workload{}, Options{}); (err == nil) != ok {
			t.Errorf("after %d runs that came to nothing: %v", left, err)
		}
	}
}
