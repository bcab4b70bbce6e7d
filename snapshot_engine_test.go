package pollux

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestSnapshotsSurviveAKilledEngine: a snapshot that was reported has what was acknowledged before it, after the engine was killed while the
// volume was written on, and so has a clone of it.
func TestSnapshotsSurviveAKilledEngine(t *testing.T) {
	e := newEngine(t)
	e.cache = "volatile"
	e.start()
	state := filepath.Join(t.TempDir(), "state")
	bench := func(args ...string) *exec.Cmd {
		return exec.Command(e.bin, append([]string{"bench", "--connect", "tcp://127.0.0.1:" + e.port + "/" + engineNQN, "--bs", "4k", "--size", "8M",
			"--cores", "0", "--idle", "adaptive", "--quiet"}, args...)...)
	}
	must := func(method, params string) string {
		t.Helper()
		out, err := e.rpc(method, params)
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", method, params, err, out)
		}
		return out
	}
	if out, err := bench("--rw", "randwrite", "--number-ios", "1500", "--verify", "--verify-state", state).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	must("snapshot_create", `{"volume": "pool/volume", "name": "s"}`)
	must("snapshot_clone", `{"name": "pool/volume@s", "clone": "c", "log_bytes": 33554432}`)
	load := bench("--rw", "randwrite", "--number-ios", "100000", "--rate-iops", "2000")
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	for before := e.writes(); e.writes() < before+300; { // the load runs
	}
	e.stop(syscall.SIGKILL)
	_ = load.Process.Kill()
	_ = load.Wait()

	for _, device := range []string{"pool/volume@s", "pool/c"} {
		e.served = device
		e.start()
		if list := must("snapshot_list", `{}`); !regexp.MustCompile(`(?s)"name": *"s".*"clones": *\[\s*"c"\s*\]`).MatchString(list) {
			t.Errorf("the engine lists\n%s", list)
		}
		out, err := bench("--verify-only", "--verify-state", state).CombinedOutput()
		if err != nil || !strings.Contains(string(out), " 0 wrong") {
			t.Errorf("%s is not what was written: %v\n%s", device, err, out)
		}
		if status := e.stop(syscall.SIGKILL); status != -1 {
			t.Error(fmt.Sprint("status ", status))
		}
	}
}
