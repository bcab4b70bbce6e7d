package ctl

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
)

// TestIostatAndMetricsAgree: what pollux iostat and pollux top read of a device is what Prometheus gets, after a load that is known; a
// reset of the one leaves the other alone.
func TestIostatAndMetricsAgree(t *testing.T) {
	e, c := dialEngine(t)
	must(t, c, api.BdevMallocCreate, api.BdevMallocCreateParams{Name: "m0", NumBlocks: 64, BlockSize: 512})
	s, err := ListenMetrics("127.0.0.1:0", e.Metrics(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	u := openDevice(t, e, "m0")
	defer u.close()
	load := func(writes, reads, unmaps int) {
		t.Helper()
		for k, n := range map[bdev.Kind]int{bdev.Write: writes, bdev.Read: reads, bdev.Unmap: unmaps} {
			for range n {
				var data []byte
				if k != bdev.Unmap {
					data = make([]byte, 512)
				}
				if status := u.do(e, k, data); status != bdev.StatusOK {
					t.Fatalf("%v: %v", k, status)
				}
			}
		}
	}
	scraped := func(writes, reads, unmaps uint64) {
		t.Helper()
		_, body := get(t, s, "/metrics", "")
		for op, n := range map[string]uint64{"write": writes, "read": reads, "unmap": unmaps} {
			for _, want := range []string{
				fmt.Sprintf("\npollux_bdev_requests_total{bdev=\"m0\",op=%q} %d\n", op, n),
				fmt.Sprintf("\npollux_bdev_bytes_total{bdev=\"m0\",op=%q} %d\n", op, n*512),
				fmt.Sprintf("\npollux_bdev_request_seconds_count{bdev=\"m0\",op=%q} %d\n", op, n),
			} {
				if !strings.Contains(string(body), want) {
					t.Errorf("there is no %q", want)
				}
			}
		}
		if want := "\npollux_bdev_errors_total{bdev=\"m0\",status=\"i/o error\"} 0\n"; !strings.Contains(string(body), want) {
			t.Errorf("there is no %q", want)
		}
	}
	told := func(writes, reads, unmaps uint64) {
		t.Helper()
		d := (*must(t, c, api.BdevGetIostat, api.BdevGetIostatParams{Name: "m0"}).Bdevs)[0]
		got := []uint64{d.NumWriteOps, d.BytesWritten, d.NumReadOps, d.BytesRead, d.NumUnmapOps, d.BytesUnmapped}
		want := []uint64{writes, writes * 512, reads, reads * 512, unmaps, unmaps * 512}
		if fmt.Sprint(got) != fmt.Sprint(want) || len(d.IOError) != 0 {
			t.Errorf("iostat has %v, %v; want %v", got, d.IOError, want)
		}
	}
	load(7, 5, 3)
	told(7, 5, 3)
	scraped(7, 5, 3)
	must(t, c, api.BdevResetIostat, api.BdevResetIostatParams{Name: "m0", Mode: "all"})
	load(2, 1, 1)
	told(2, 1, 1)
	scraped(9, 6, 4)
}
