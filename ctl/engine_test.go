package ctl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/reactor"
)

// testEngine is an engine that a test may end before its end.
type testEngine struct {
	*Engine
	stop func()
}

// startEngine makes a real engine on one reactor, in the startup state.
func startEngine(t *testing.T) testEngine {
	t.Helper()
	return startReactors(t, 1)
}

// startReactors makes one on n reactors.
func startReactors(t *testing.T, n int) testEngine {
	t.Helper()
	e, err := NewEngine(EngineConfig{Reactors: reactor.Config{Cores: slices.Repeat([]int{-1}, n), MemoryBytes: 16 << 20}}, NewLog(io.Discard, slog.LevelError))
	if err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return testEngine{e, stop}
}

func engineYAML(t *testing.T) string {
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`
subsystems:
  - subsystem: sock
    config:
      - method: sock_impl_set_options
        params: {impl_name: posix, recv_buf_size: 4096}
  - subsystem: bdev
    config:
      - method: bdev_malloc_create
        params: {name: Malloc0, num_blocks: 256, block_size: 4096, uuid: fcf37ff5-e8c9-4fb3-98d1-b56e6cf9a0a2}
      - method: bdev_null_create
        params: {name: Null0, num_blocks: 256, block_size: 512, uuid: 0aafa1a9-bcb6-4d42-a9f5-1b5c1c6f5a04}
      - method: bdev_uring_create
        params: {name: Uring0, filename: %q, uuid: 1dd4fbc8-7b88-4d53-9f04-8d1e9e3f2a55}
      - method: bdev_wait_for_examine
  - subsystem: nvmf
    config:
      - method: nvmf_create_transport
        params: {trtype: TCP}
      - method: nvmf_create_subsystem
        params: {nqn: "nqn.2024-01.com.example:disk", serial_number: "0001", ana_reporting: true}
      - method: nvmf_subsystem_add_host
        params: {nqn: "nqn.2024-01.com.example:disk", host: "nqn.2024-01.com.example:host"}
      - method: nvmf_subsystem_add_ns
        params: {nqn: "nqn.2024-01.com.example:disk", namespace: {bdev_name: Malloc0, nsid: 3, write_protect_file: %q}}
      - method: nvmf_discovery_add_referral
        params: {address: {trtype: TCP, traddr: 127.0.0.1, trsvcid: "8009"}}
`, file, filepath.Join(t.TempDir(), "protection"))
}

func configureEngine(t *testing.T, e testEngine, source, text string, wait bool) error {
	t.Helper()
	config, err := ParseConfig(source, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return e.Configure(t.Context(), config, wait)
}

// TestEngineConfigRoundTrip: what an engine saves makes another one that saves the same.
func TestEngineConfigRoundTrip(t *testing.T) {
	one := startEngine(t)
	if err := configureEngine(t, one, "c.yaml", engineYAML(t), false); err != nil {
		t.Fatal(err)
	}
	save := func(e testEngine) string {
		saved, err := api.SaveConfig(t.Context(), e.Methods)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.MarshalIndent(saved, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	first := save(one)
	for _, want := range []string{`"recv_buf_size": 4096`, `"Uring0"`, `"bdev_malloc_create"`, `"nvmf_subsystem_add_ns"`, `"nvmf_discovery_add_referral"`, `"write_protect_file"`} {
		if !strings.Contains(first, want) {
			t.Errorf("%s is not saved", want)
		}
	}
	one.stop() // a file belongs to one engine at a time
	two := startEngine(t)
	if err := configureEngine(t, two, "c.json", first, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, save(two)); diff != "" {
		t.Error(diff)
	}
}

func TestEngineThatWaitsLoadsTheRestLater(t *testing.T) {
	e := startEngine(t)
	if err := configureEngine(t, e, "c.yaml", engineYAML(t), true); err != nil {
		t.Fatal(err)
	}
	if options := e.Sock.Options(); *options.RecvBufSize != 4096 || len(e.Bdevs.Devices()) != 0 || e.Methods.State() != api.Startup {
		t.Errorf("%v, %v, %v", *options.RecvBufSize, e.Bdevs.Devices(), e.Methods.State())
	}
	if _, err := api.FrameworkStartInit.Call(t.Context(), e.Methods, api.None{}); err != nil {
		t.Fatal(err)
	}
	bdevs, err := api.BdevGetBdevs.Call(t.Context(), e.Methods, api.BdevGetBdevsParams{})
	if err != nil || len(bdevs) != 3 {
		t.Error(bdevs, err)
	}
}

func TestEngineRefusesABrokenConfigWhole(t *testing.T) {
	e := startEngine(t)
	text := strings.Replace(engineYAML(t), "trsvcid: \"8009\"", "trsvcid: 8009", 1)
	err := configureEngine(t, e, "c.yaml", text, false)
	if !errors.Is(err, api.ErrConfig) || !strings.Contains(err.Error(), `the parameter "address.trsvcid" is 8009 (line 27, column 69); it has to be a string: put it in quotes`) {
		t.Error(err)
	}
	if e.Methods.State() != api.Startup || *e.Sock.Options().RecvBufSize == 4096 {
		t.Error("something was changed")
	}
}

// TestEngineMetrics scrapes a real engine over HTTP.
func TestEngineMetrics(t *testing.T) {
	e := startEngine(t)
	if err := configureEngine(t, e, "c.yaml", engineYAML(t), false); err != nil {
		t.Fatal(err)
	}
	e.Health.Report("bdev:Null0", HealthDegraded, "for the test", time.Now())
	s, err := ListenMetrics("127.0.0.1:0", e.Metrics(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	http := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := http.Get("http://" + s.Addr.String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %s, %v", resp.Status, text, err)
	}
	for _, want := range []string{
		"\npollux_bdev_size_bytes{bdev=\"Malloc0\"} 1.048576e+06\n", "\npollux_health{state=\"degraded\"} 1\n", "\npollux_health{state=\"ok\"} 0\n",
		"\npollux_reactor_busy_seconds_total{core=\"-1\",reactor=\"0\"} ", "\npollux_nvmf_queues{kind=\"io\",reactor=\"0\"} 0\n", "\ngo_goroutines ",
		"\npollux_memory_limit_bytes{core=\"-1\",reactor=\"0\"} 1.6777216e+07\n",
	} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("there is no %q", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", text)
	}
}

// TestMetricNames compares the metrics' names and labels with those on file: dashboards and alerts are written against them.
func TestMetricNames(t *testing.T) {
	var b strings.Builder
	for _, f := range slices.Concat((engineMetrics{}).Families(), (volumeMetrics{}).Families(), (rdmaMetrics{}).Families()) {
		fmt.Fprintf(&b, "%s %v\n  %s\n", f.Name, f.Labels, f.Help)
	}
	compareGolden(t, "testdata/metrics.txt", b.String())
}
