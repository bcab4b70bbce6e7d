package pollux

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// engine is the engine as a process of its own, serving one file, or with a cache a volume from a pool on it.
type engine struct {
	t                     *testing.T
	cache, served         string // write cache of the volume; the device that is served
	made                  bool   // the pool and the volume
	bin, sock, disk, port string
	cmd                   *exec.Cmd
}

const engineNQN = "nqn.2026-01.io.pollux:engine-test"

func newEngine(t *testing.T) *engine {
	t.Helper()
	dir := t.TempDir()
	e := &engine{t: t, bin: filepath.Join(dir, "pollux"), sock: filepath.Join(dir, "sock"), disk: filepath.Join(dir, "disk"), served: "disk"}
	if out, err := exec.Command("go", "build", "-o", e.bin, "./cmd/pollux").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	if err := os.WriteFile(e.disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(e.disk, 512<<20); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, e.port, _ = net.SplitHostPort(l.Addr().String())
	l.Close()
	t.Cleanup(func() {
		if e.cmd != nil {
			_ = e.cmd.Process.Kill()
			_ = e.cmd.Wait()
		}
	})
	return e
}

// start starts it and waits for its ready line, then serves the file.
func (e *engine) start() {
	e.t.Helper()
	e.cmd = exec.Command(e.bin, "serve", "--rpc-socket", e.sock, "--log-level", "warn", "--state", filepath.Dir(e.sock))
	e.cmd.Stderr = os.Stderr
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		e.t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "pollux: ready") {
		e.t.Fatalf("the engine's first line: %q, %v", line, err)
	}
	calls := [][2]string{{"bdev_uring_create", fmt.Sprintf(`{"name": "disk", "filename": %q}`, e.disk)}, {"bdev_wait_for_examine", "{}"}}
	if e.cache != "" && !e.made {
		e.made, e.served = true, "pool/volume"
		calls = append(calls, [][2]string{
			{"pool_create", `{"name": "pool", "device": "disk"}`},
			{"volume_create", fmt.Sprintf(`{"pool": "pool", "name": "volume", "bytes": 67108864, "log_bytes": 33554432, "write_cache": %q}`, e.cache)},
		}...)
	}
	for _, call := range append(calls, [][2]string{
		{"nvmf_create_transport", `{"trtype": "TCP"}`},
		{"nvmf_create_subsystem", fmt.Sprintf(`{"nqn": %q, "allow_any_host": true}`, engineNQN)},
		{"nvmf_subsystem_add_ns", fmt.Sprintf(`{"nqn": %q, "namespace": {"bdev_name": %q}}`, engineNQN, e.served)},
		{"nvmf_subsystem_add_listener", fmt.Sprintf(`{"nqn": %q, "listen_address": {"trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": %q}}`, engineNQN, e.port)},
	}...) {
		if out, err := e.rpc(call[0], call[1]); err != nil {
			e.t.Fatalf("%s: %v\n%s", call[0], err, out)
		}
	}
}

func (e *engine) rpc(method, params string) (string, error) {
	out, err := exec.Command(e.bin, "rpc", "-s", e.sock, method, params).CombinedOutput()
	return string(out), err
}

// stop sends a signal and gives the exit status, -1 for one that was killed.
func (e *engine) stop(sig syscall.Signal) int {
	e.t.Helper()
	if err := e.cmd.Process.Signal(sig); err != nil {
		e.t.Fatal(err)
	}
	err := e.cmd.Wait()
	e.cmd = nil
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		e.t.Fatal(err)
	}
	if exit != nil {
		return exit.ExitCode()
	}
	return 0
}

// writes is the number of writes that the device has completed.
func (e *engine) writes() int {
	e.t.Helper()
	out, err := e.rpc("bdev_get_iostat", fmt.Sprintf(`{"name": %q}`, e.served))
	if err != nil {
		e.t.Fatalf("bdev_get_iostat: %v\n%s", err, out)
	}
	_, after, _ := strings.Cut(out, `"num_write_ops":`)
	var n int
	if _, err := fmt.Sscan(strings.TrimLeft(after, " "), &n); err != nil {
		e.t.Fatalf("no num_write_ops in %s", out)
	}
	return n
}

// TestAnEngineEndsWhileItsConfigurationWaits for a file that a process which has ended still holds, as after a crash.
func TestAnEngineEndsWhileItsConfigurationWaits(t *testing.T) {
	e := newEngine(t)
	f, err := os.OpenFile(e.disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lock := exec.Command("flock", "--exclusive", "3")
	lock.ExtraFiles = []*os.File{f}
	if out, err := lock.CombinedOutput(); err != nil {
		t.Fatalf("flock (of util-linux): %v\n%s", err, out)
	}
	config := filepath.Join(t.TempDir(), "config.yaml")
	text := fmt.Sprintf("subsystems:\n  - subsystem: bdev\n    config:\n      - {method: bdev_uring_create, params: {name: disk, filename: %q}}\n", e.disk)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e.cmd = exec.Command(e.bin, "serve", "--rpc-socket", e.sock, "--state", filepath.Dir(e.sock), "--config", config)
	log, err := e.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(log)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("it does not wait for the file: %v", err)
		}
		if strings.Contains(line, "the file is waited for") {
			break
		}
	}
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, _ := io.ReadAll(lines)
	if err := e.cmd.Wait(); err != nil { // one that does not hear it fails later, since the file is held
		t.Errorf("SIGTERM while it waits: %v\n%s", err, rest)
	}
	e.cmd = nil
	if _, err := os.Lstat(e.sock); err == nil {
		t.Error("its socket is left")
	}
}

// TestAnEngineThatEndsUnderLoadLosesNothing ends the engine by SIGTERM and by SIGKILL while a host writes. The host comes back by
// itself each time, and every block that it was told is written has what it wrote: on a file, and on a volume with either write cache.
func TestAnEngineThatEndsUnderLoadLosesNothing(t *testing.T) {
	for _, cache := range []string{"", "none", "volatile"} {
		t.Run("cache "+cache, func(t *testing.T) {
			e := newEngine(t)
			e.cache = cache
			endUnderLoad(t, e)
		})
	}
}

func endUnderLoad(t *testing.T, e *engine) {
	e.start()
	host := exec.Command(e.bin, "bench", "--connect", "tcp://127.0.0.1:"+e.port+"/"+engineNQN, "--rw", "randwrite", "--bs", "4k", "--iodepth", "16",
		"--size", "32M", "--number-ios", "6000", "--rate-iops", "1500", "--verify", "--cores", "0", "--idle", "adaptive", "--quiet")
	var said strings.Builder
	host.Stdout, host.Stderr = &said, &said
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGTERM} {
		for e.writes() < 200 { // the load runs
		}
		status := e.stop(sig)
		if sig == syscall.SIGTERM && status != 0 {
			t.Errorf("SIGTERM under load: the engine ended with status %d", status)
		}
		e.start()
	}
	if err := host.Wait(); err != nil {
		t.Errorf("the host: %v", err)
	}
	if !strings.Contains(said.String(), " 0 wrong") {
		t.Errorf("the host found blocks that are not what it wrote:\n%s", said.String())
	}
	if status := e.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("SIGTERM at rest: status %d", status)
	}
	for _, f := range []string{e.sock, e.sock + ".lock"} {
		if _, err := os.Lstat(f); err == nil {
			t.Errorf("the engine left %s behind", f)
		}
	}
}

// TestOneEngineForOneSocketAndOneDevice starts what must not be started twice.
func TestOneEngineForOneSocketAndOneDevice(t *testing.T) {
	e := newEngine(t)
	e.start()
	second := exec.Command(e.bin, "serve", "--rpc-socket", e.sock)
	out, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(out), e.sock) {
		t.Errorf("a second engine on the socket: %v\n%s", err, out)
	}
	other := &engine{t: t, bin: e.bin, sock: e.sock + "2"}
	other.cmd = exec.Command(e.bin, "serve", "--rpc-socket", other.sock)
	pipe, _ := other.cmd.StdoutPipe()
	if err := other.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(pipe).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	said, err := other.rpc("bdev_uring_create", fmt.Sprintf(`{"name": "disk", "filename": %q}`, e.disk))
	if err == nil || !strings.Contains(said, "in use") {
		t.Errorf("a second engine on the device: %v\n%s", err, said)
	}
	if status := other.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("the second engine: status %d", status)
	}
	if status := e.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("the first engine: status %d", status)
	}
}
