package bench

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// smallSuite measures briefly.
func smallSuite(t *testing.T, only ...string) SuiteConfig {
	return SuiteConfig{
		Exe: pollux(t), Output: t.TempDir(), Dir: t.TempDir(), Size: 128 << 20, Runs: 1, Seconds: 0.02, Depths: []int{1, 32},
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
		if parts := a.Logged + a.Homed + a.Mapped; parts > a.DeviceBytes || a.BlockBytes < a.Cluster && parts < a.DeviceBytes*9/10 {
			t.Errorf("the log, what came home and the map are %d bytes: %+v", parts, a)
		}
	}
	if !strings.Contains(text, "| volume randwrite 64k qd32 | 64.0 |") {
		t.Error("no row in results.md")
	}
}

func TestRecoveryIsOfAPoolThatWasKilled(t *testing.T) {
	cfg := smallSuite(t, "recovery")
	cfg.RecoverySizes = []uint64{256 << 20}
	r, text := measured(t, cfg)
	if want := len(recoveryFills) + 1; len(r.Recovery) != want {
		t.Fatalf("%d rows, want %d", len(r.Recovery), want)
	}
	for _, row := range r.Recovery {
		if row.Seconds <= 0 || row.LogUsed == 0 || row.DeviceBytes < row.LogUsed || row.Fitted != (row.Load == "randwrite 4k") {
			t.Errorf("%+v", row)
		}
	}
	if r.RecoveryFit != nil || !strings.Contains(text, "| 256M, randwrite 4k ") { // one size says nothing of sizes
		t.Errorf("%+v", r.RecoveryFit)
	}
}

func TestTheFitFindsWhatTimesAreMadeOf(t *testing.T) {
	var r Report
	for _, gib := range []uint64{4, 16, 64} {
		for _, mib := range []uint64{4, 16, 32} {
			row := RecoveryRow{MappedBytes: gib << 30, LogUsed: mib << 20, Fitted: true}
			row.Seconds = 0.5 + 2*float64(row.MappedBytes)/1e12 + 3*float64(row.LogUsed)/(1<<30)
			r.Recovery = append(r.Recovery, row)
		}
	}
	r.Recovery = append(r.Recovery, RecoveryRow{MappedBytes: 1 << 30, LogUsed: 1 << 20, Seconds: 100}) // not of the fit
	r.fitRecovery()
	f := r.RecoveryFit
	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-6 }
	if f == nil || !near(f.Constant, 0.5) || !near(f.PerTB, 2) || !near(f.PerGiB, 3) || !near(f.PerTBMax, 2) || !near(f.FullLog, 2.5+3.0/32) || f.Residual > 1e-6 {
		t.Errorf("%+v", f)
	}
	for _, rows := range []int{3, 6} { // one size says nothing of sizes, and two lie on a line whatever they are
		two := Report{Recovery: r.Recovery[:rows]}
		if two.fitRecovery(); two.RecoveryFit != nil {
			t.Errorf("of %d rows: %+v", rows, two.RecoveryFit)
		}
	}
}

func TestMemoryIsWeighedStepByStep(t *testing.T) {
	cfg := smallSuite(t, "memory")
	cfg.MemoryPools, cfg.MemoryVolumes, cfg.MemoryWrites = []uint64{16 << 30, 32 << 30}, []int{1, 3}, 100
	r, text := measured(t, cfg)
	if want := 2 + 2 + 1 + 2; len(r.Memory) != want {
		t.Fatalf("%d rows, want %d", len(r.Memory), want)
	}
	for _, m := range r.Memory {
		if m.Resident == 0 || m.Volumes > 0 && (m.Volume.Total() < 1<<20 || m.Cache.Bytes == 0) {
			t.Errorf("%+v", m)
		}
	}
	if !strings.Contains(text, "A TB (10^12 bytes) more of a pool") || !strings.Contains(text, "| dirty map |") {
		t.Error("no summary in results.md")
	}
}

func TestSnapshotsAreThereWhenARunBegins(t *testing.T) {
	cfg := smallSuite(t, "snapshots")
	cfg.Size, cfg.AmplifyBytes = 32<<20, 32<<20
	r, text := measured(t, cfg)
	loads := 6
	if len(r.Rows) != 3*loads || len(r.Ratios) != 2*loads || len(r.Amplification) != 3*2 {
		t.Fatalf("%d rows, %d ratios, %d of amplification", len(r.Rows), len(r.Ratios), len(r.Amplification))
	}
	factor := map[string]float64{}
	for _, a := range r.Amplification {
		factor[a.Target+" "+a.Load] = a.Factor
	}
	plain, one, many := factor["volume+0 randwrite 4k qd32"], factor["volume+1 randwrite 4k qd32"], factor["volume+16 randwrite 4k qd32"]
	if one < plain+0.5 || many < plain+0.5 { // each cluster is moved once, for 32 MiB in blocks
		t.Errorf("4 KiB: %.2f without a snapshot, %.2f with one, %.2f with sixteen: no cluster was moved", plain, one, many)
	}
	for _, want := range []string{"| volume+16 / volume+0 randwrite 4k qd32 |", "| volume+1 randread 4k qd1 ", "| volume+1 randwrite 64k qd32 |"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in results.md", want)
		}
	}
}
