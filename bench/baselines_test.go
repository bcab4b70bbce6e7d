package bench

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	lineA1 = `{"row":"uring / raw randread 4k qd1","figure":"IOPS","version":1,"date":"2026-11-23","commit":"abc","machine":"m","median":0.9,"low":0.8,"high":1,"pairs":3}` + "\n"
	lineB1 = `{"row":"uring / raw randread 4k qd1","figure":"p99","version":1,"date":"2026-11-23","commit":"abc","machine":"m","median":0.9,"low":0.8,"high":1,"pairs":3}` + "\n"
	lineA2 = `{"row":"uring / raw randread 4k qd1","figure":"IOPS","version":2,"date":"2026-11-24","commit":"abd","machine":"m","median":0.7,"low":0.6,"high":0.8,"pairs":3,"why":"a check more"}` + "\n"
)

func TestTheBaselinesOfAMachineCountFromTheLastReasonOn(t *testing.T) {
	// Another hour of the same disk, and then one that is better.
	hour := strings.NewReplacer(`,"why":"a check more"`, "").Replace(lineA2)
	again := strings.NewReplacer(`"version":2`, `"version":3`, `"low":0.6`, `"low":0.7`, `"high":0.8`, `"high":0.9`).Replace
	for name, x := range map[string]struct {
		lines     string
		version   int
		low, high float64
	}{
		"one line":                     {lineA1 + lineB1, 1, 0.8, 1},
		"two hours":                    {lineA1 + lineB1 + hour, 2, 0.6, 1},
		"a reason":                     {lineA1 + lineB1 + lineA2, 2, 0.6, 0.8},
		"a better hour after a reason": {lineA1 + lineA2 + again(hour), 3, 0.6, 0.9},
		"a reason after hours without": {lineA1 + hour + again(lineA2), 3, 0.7, 0.9},
	} {
		b, err := DecodeBaselines([]byte(x.lines))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if n := b.Standing("uring / raw randread 4k qd1", "IOPS", "m"); n == nil || n.Version != x.version || n.Low != x.low || n.High != x.high {
			t.Errorf("%s: %+v", name, n)
		}
		if n := b.Standing("uring / raw randread 4k qd1", "IOPS", "another"); n != nil {
			t.Errorf("%s: of another machine, %+v", name, n)
		}
	}
}

func TestBaselinesToWhichLinesWereNotOnlyAddedAreRefused(t *testing.T) {
	swap := strings.NewReplacer
	for name, text := range map[string]string{
		"a line was taken out":      lineB1 + lineA2,
		"a line twice":              lineA1 + lineA1,
		"lines in another order":    lineA2 + lineA1,
		"an earlier date below":     lineA1 + swap("2026-11-24", "2026-11-22").Replace(lineA2),
		"no end":                    strings.TrimSuffix(lineA1, "\n"),
		"an empty line":             lineA1 + "\n",
		"two entries on a line":     strings.TrimSuffix(lineA1, "\n") + lineB1,
		"a date that is none":       swap("2026-11-23", "2026-13-23").Replace(lineA1),
		"no commit":                 swap(`"abc"`, `""`).Replace(lineA1),
		"a commit with changes":     swap(`"abc"`, `"abc+"`).Replace(lineA1),
		"a figure nobody knows":     swap(`"IOPS"`, `"p50"`).Replace(lineA1),
		"a field nobody knows":      swap(`"pairs"`, `"pears"`).Replace(lineA1),
		"a low above the median":    swap(`"low":0.8`, `"low":0.95`).Replace(lineA1),
		"a ratio of nothing":        swap(`"low":0.8`, `"low":0`).Replace(lineA1),
		"too few pairs for a claim": swap(`"pairs":3`, `"pairs":2`).Replace(lineA1),
		"no machine":                swap(`"machine":"m"`, `"machine":""`).Replace(lineA1),
	} {
		if _, err := DecodeBaselines([]byte(text)); !errors.Is(err, ErrBaselines) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAppendingLeavesWhatIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b")
	if err := os.WriteFile(path, []byte(lineA1), 0o644); err != nil {
		t.Fatal(err)
	}
	more := Baseline{Row: "uring / raw randread 4k qd1", Figure: "IOPS", Date: "2026-11-24", Commit: "abd", Machine: "m", Median: 0.7, Low: 0.6, High: 0.8, Pairs: 3, Why: "a check more"}
	if err := AppendBaselines(path, []Baseline{more}); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != lineA1+lineA2 {
		t.Errorf("%s", got)
	}
	more.Date = "2026-11-22"
	if err := AppendBaselines(path, []Baseline{more}); !errors.Is(err, ErrBaselines) {
		t.Errorf("a line of an earlier date: %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != lineA1+lineA2 {
		t.Errorf("after a failure: %s", got)
	}
}

// The repository's own file has the form, and begins with what it began with in the commit before; where there is no history, as in an
// archive, the form is all there is to see.
func TestTheRepositorysBaselinesWereOnlyAddedTo(t *testing.T) {
	now, err := os.ReadFile("baselines.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeBaselines(now); err != nil {
		t.Error(err)
	}
	commits, err := exec.Command("git", "log", "--format=%H", "--", "baselines.jsonl").Output()
	if err != nil {
		t.Logf("no history: %v", err)
	}
	for _, c := range strings.Fields(string(commits)) {
		then, err := exec.Command("git", "show", c+":./baselines.jsonl").Output()
		if err != nil {
			t.Fatalf("git show %s: %v", c, err)
		}
		if !bytes.HasPrefix(now, then) {
			t.Errorf("what commit %s had is not there any more as it was: take it back, and add a line", c)
		}
	}
}

func TestAWorseBaselineSaysWhy(t *testing.T) {
	old, err := DecodeBaselines([]byte(lineA1 + lineB1))
	if err != nil {
		t.Fatal(err)
	}
	r := Report{Conditions: Conditions{Commit: "abd"}}
	r.Rows = []Row{{Device: DeviceConditions{Target: "uring"}}}
	machine := machineOf(&r.Conditions.Machine, r.Rows[0].Device)
	for i := range old.all {
		old.all[i].Machine = machine
	}
	good, worse := Span{0.9, 0.8, 1, 3}, Span{0.7, 0.6, 0.75, 3}
	r.Ratios = []Ratio{{Name: "uring / raw randread 4k qd1", IOPS: good, P99: good}}
	if add, err := r.Baselines(old, "2026-11-24", ""); err != nil || len(add) != 2 || add[0].Why != "" {
		t.Errorf("as good: %v, %v", add, err)
	}
	r.Ratios[0].IOPS = worse
	if _, err := r.Baselines(old, "2026-11-24", ""); err == nil || !strings.Contains(err.Error(), "say why") {
		t.Errorf("worse, and nobody says why: %v", err)
	}
	if add, err := r.Baselines(old, "2026-11-24", "a check more"); err != nil || add[0].Why != "a check more" || add[1].Why != "" {
		t.Errorf("worse, with a reason: %v, %v", add, err)
	}
	r.Conditions.Commit = "abd+"
	if _, err := r.Baselines(old, "2026-11-24", "x"); err == nil || !strings.Contains(err.Error(), "clone") {
		t.Errorf("of a program with changes: %v", err)
	}
	r.Conditions.Commit, r.Ratios[0].IOPS.Pairs = "abd", 2
	if _, err := r.Baselines(old, "2026-11-24", "x"); err == nil || !strings.Contains(err.Error(), "quiet") {
		t.Errorf("too few pairs: %v", err)
	}
}
