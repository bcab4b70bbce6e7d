package volume

import (
	"errors"
	"testing"

	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/wal"
)

// TestALogBelowItsFloorIsRefused: the floors of V-44 at the door of CreateVolume, and the use is there after a power cut.
func TestALogBelowItsFloorIsRefused(t *testing.T) {
	const mib = 1 << 20
	h := newHouse(t, 1, 1, 1<<30)
	h.pool.cfg.SmallLogs = false
	for _, c := range []struct {
		name  string
		bytes uint64
		use   wal.Use
		has   LogUse
		want  uint64 // 0: refused
	}{
		{"default", 0, "", LogUseGeneral, 64 * mib},
		{"general-below", 31 * mib, wal.UseGeneral, 0, 0},
		{"general-floor", 32 * mib, wal.UseGeneral, LogUseGeneral, 32 * mib},
		{"database-below", 64 * mib, wal.UseDatabase, 0, 0},
		{"database-default", 0, wal.UseDatabase, LogUseDatabase, 128 * mib},
		{"throughput-below", 127 * mib, wal.UseThroughput, 0, 0},
		{"throughput-floor", 128 * mib, wal.UseThroughput, LogUseThroughput, 128 * mib},
		{"unknown", 0, "archive", LogUseGeneral, 64 * mib},
		{"unknown-below", 16 * mib, "archive", 0, 0},
	} {
		v, err := h.pool.CreateVolume(VolumeConfig{Name: c.name, Bytes: 16 * mib, LogBytes: c.bytes, Use: c.use})
		if (err == nil) != (c.want > 0) || err != nil && !errors.Is(err, wal.ErrLogTooSmall) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if err != nil {
			continue
		}
		var has uint64
		for _, e := range v.page.Log {
			has += e.Pages * PageBytes
		}
		if has != c.want || v.page.Use != c.has {
			t.Errorf("%s: a log of %d bytes for use %v, want %d for %v", c.name, has, v.page.Use, c.want, c.has)
		}
		if (UseProblem(c.use) != "") != (c.use == "archive") {
			t.Errorf("%s: the warning is %q", c.name, UseProblem(c.use))
		}
	}
	h.crash(func(i *sim.Image) *sim.Image { return i.Crash(sim.None) })
	for name, want := range map[string]LogUse{"default": LogUseGeneral, "database-default": LogUseDatabase, "throughput-floor": LogUseThroughput} {
		if got := h.find(name).page.Use; got != want {
			t.Errorf("%s is for %v after a power cut, was for %v", name, got, want)
		}
	}
}
