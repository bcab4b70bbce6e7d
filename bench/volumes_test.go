package bench

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// smallSuite measures briefly.
func smallSuite(t *testing.T, only ...string) SuiteConfig {
	return SuiteConfig{
		Exe: pollux(t), Output: t.TempDir(), Dir: t.TempDir(), Size: 320 << 20, Runs: 1, Seconds: 0.02, Depths: []int{1, 32},
		EngineCore: runtime.NumCPU() - 1, ClientCore: 0, Log: new(bytes.Buffer), Only: only, AmplifyBytes: 64 << 20,
	}
}

// measured runs the suite, and gives its report, which holds what the tables of results.md are made of.
func measured(t *testing.T, cfg SuiteConfig) (*Report, string) {
	t.Helper()
	dir, err := Suite(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	r, err := LoadReport(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "results.md"))
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(cfg.Dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	return r, string(text)
}

func TestVolumesAreMeasuredBesideTheRawDevice(t *testing.T) {
	r, text := measured(t, smallSuite(t, "volume"))
	loads := 2*2 + 2 + 2*2 // random ones, sequential ones, durable ones
	if want := 4 * loads; len(r.Rows) != want {
		t.Errorf("%d rows, want %d", len(r.Rows), want)
	}
	if want := (1 + 2 + 2) * loads; len(r.Ratios) != want {
		t.Errorf("%d ratios, want %d", len(r.Ratios), want)
	}
	caches := map[string]string{"raw": "volatile", "uring": "volatile", "volume": "none", "volatile": "volatile"}
	for _, row := range r.Rows {
		if row.Device.WriteCache != caches[row.Device.Target] || row.Device.Preconditions == "" || row.Summary.IOPS.Median == 0 {
			t.Errorf("%s: %+v", row.Name, row.Device)
		}
	}
	for _, want := range []string{"| volume / raw randwrite 4k qd32 fua |", "| volatile / uring write 128k qd8 |", "| volume randread 4k qd1 "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in results.md", want)
		}
	}
}

func TestWriteAmplificationCountsWhatTheDeviceWasGiven(t *testing.T) {
	r, text := measured(t, smallSuite(t, "amplification"))
	if len(r.Amplification) != 2*len(amplifySizes) {
		t.Fatalf("%d rows", len(r.Amplification))
	}
	for _, a := range r.Amplification {
		least := 1.0 // what is placed is written once, and named in the log
		if a.BlockBytes < a.Cluster {
			least = 1.5 // to the log, and home but for what was written again before that
		}
		if a.HostBytes != 64<<20 || a.Factor < least || a.Checkpoints == 0 || a.Flushes == 0 {
			t.Errorf("%+v", a)
		}
	}
	if !strings.Contains(text, "| volume randwrite 64k qd32 | 64.0 |") {
		t.Error("no row in results.md")
	}
}
