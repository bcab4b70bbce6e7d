package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/ctl"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/reactor"
)

// shell is a person at a terminal beside a running engine.
type shell struct {
	t      *testing.T
	socket string
}

func newShell(t *testing.T) *shell {
	t.Helper()
	log := ctl.NewLog(io.Discard, slog.LevelError)
	e, err := ctl.NewEngine(ctl.EngineConfig{Reactors: reactor.Config{Cores: []int{-1}, MemoryBytes: 64 << 20}, Server: uuid.New()}, log)
	if err != nil {
		t.Fatal(err)
	}
	sh := &shell{t, filepath.Join(t.TempDir(), "s")}
	server, err := ctl.Listen(sh.socket, e.Methods, log.For("rpc"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := e.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return sh
}

// run types a command and returns what it prints.
func (sh *shell) run(line string) (string, error) {
	sh.t.Helper()
	k, err := kong.New(new(cli), options...)
	if err != nil {
		sh.t.Fatal(err)
	}
	args := strings.Fields(line)
	out, err := os.Create(filepath.Join(sh.t.TempDir(), "out"))
	if err != nil {
		sh.t.Fatal(err)
	}
	defer out.Close()
	terminal := os.Stdout
	os.Stdout = out
	defer func() { os.Stdout = terminal }()
	sh.t.Setenv("POLLUX_SOCKET", sh.socket)
	parsed, err := k.Parse(args)
	if err == nil {
		err = parsed.Run(k)
	}
	text, readErr := os.ReadFile(out.Name())
	if readErr != nil {
		sh.t.Fatal(readErr)
	}
	return string(text), err
}

// must runs a command that succeeds.
func (sh *shell) must(line string) string {
	sh.t.Helper()
	out, err := sh.run(line)
	if err != nil {
		sh.t.Fatalf("%s: %v", line, err)
	}
	return out
}

// fails runs a command whose error says so.
func (sh *shell) fails(line, want string) {
	sh.t.Helper()
	if out, err := sh.run(line); err == nil || !strings.Contains(err.Error(), want) {
		sh.t.Errorf("%s: %v\n%s", line, err, out)
	}
}

// looks runs a command that prints what the pattern says, and nothing else.
func (sh *shell) looks(line, want string) {
	sh.t.Helper()
	if out := sh.must(line); !regexp.MustCompile("^(?s:" + want + ")$").MatchString(out) {
		sh.t.Errorf("%s prints\n%s", line, out)
	}
}

// diskFile makes a file of holes to make a device of.
func diskFile(t *testing.T, bytes int64) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, bytes); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestBdevListDeleteAndRescan(t *testing.T) {
	sh := newShell(t)
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := sh.must("bdev create mem m0 8M"); out != "m0\n" {
		t.Errorf("printed %q", out)
	}
	sh.must("bdev delete m0")
	sh.must("bdev create file r0 " + file + " --read-only")
	sh.must("bdev delete r0")
	sh.must("bdev create null n0 1T --block-size 4096")
	sh.must("bdev create file f0 " + file + " --block-size 512")
	lines := strings.Split(sh.must("bdev list"), "\n")
	if strings.Join(strings.Fields(lines[0]), " ") != "NAME KIND SIZE BLOCK CLAIMED UUID" || len(lines) != 4 {
		t.Errorf("printed %q", lines)
	}
	table := strings.Join(lines, "\n")
	for _, want := range []string{"Null disk   1 TiB   4096", "URING bdev  1 MiB    512"} {
		if !strings.Contains(table, want) {
			t.Errorf("there is no %q in\n%s", want, table)
		}
	}
	if err := os.Truncate(file, 2<<20); err != nil {
		t.Fatal(err)
	}
	sh.must("bdev rescan f0")
	var bdevs []api.Bdev
	if err := json.Unmarshal([]byte(sh.must("bdev list f0 -o json")), &bdevs); err != nil || len(bdevs) != 1 || bdevs[0].NumBlocks != 4096 {
		t.Error(bdevs, err)
	}
	sh.must("bdev delete f0")
	sh.must("bdev delete n0")
	if out := sh.must("bdev list"); out != "NAME  KIND  SIZE  BLOCK  CLAIMED  UUID\n" {
		t.Errorf("printed %q", out)
	}
	sh.fails("bdev delete n0", "n0")
	sh.fails("bdev create null n1 1000", "1000 B is no multiple of the block size 512; choose another size")
	sh.fails("bdev create null n1 12X", `"12X" is no size; write for example 4096, 64K, 512M or 10G`)
	sh.fails("bdev create file f1 /nonexistent/file", "no such file")
}

func TestNVMFCommands(t *testing.T) {
	sh := newShell(t)
	sh.must("bdev create mem m0 8M")
	out := sh.must("nvmf export m0 --port 0")
	if !strings.Contains(out, "nvme connect -t tcp -a 127.0.0.1 -s 0 -n nqn.2026-01.io.pollux:m0\n") ||
		!strings.Contains(out, "pollux nvmf allow nqn.2026-01.io.pollux:m0 HOSTNQN") {
		t.Errorf("printed %s", out)
	}
	sh.must("nvmf allow nqn.2026-01.io.pollux:m0 nqn.2024-01.com.example:host")
	list := sh.must("nvmf list nqn.2026-01.io.pollux:m0")
	if !strings.Contains(list, "1=m0") || !strings.Contains(list, "1 allowed") || !strings.Contains(list, "tcp 127.0.0.1:") {
		t.Errorf("printed %s", list)
	}
	if list := sh.must("nvmf list"); !strings.Contains(list, "discovery") {
		t.Errorf("printed %s", list)
	}
	if out := sh.must("nvmf hosts"); out != "NQN  HOST  CNTLID  KIND  QUEUES\n" {
		t.Errorf("printed %q", out)
	}
	sh.must("nvmf deny nqn.2026-01.io.pollux:m0 nqn.2024-01.com.example:host")
	sh.must("nvmf unexport nqn.2026-01.io.pollux:m0")
	sh.fails("nvmf export none", "none")
	if list := sh.must("nvmf list"); strings.Contains(list, "pollux:none") {
		t.Errorf("a failed export left something:\n%s", list)
	}
}

func TestRPCAndConfigCommands(t *testing.T) {
	sh := newShell(t)
	if out := sh.must(`rpc bdev_null_create {"name":"n0","num_blocks":8,"block_size":512}`); out != "\"n0\"\n" {
		t.Errorf("printed %q", out)
	}
	sh.fails(`rpc bdev_null_create {"name":"n0","num_blocks":8,"block_size":512}`, "n0")
	sh.fails(`rpc bdev_null_create {"name"`, "call bdev_null_create: the parameters are not JSON: line 1, column 8")
	saved := sh.must("config save bdev")
	file := filepath.Join(t.TempDir(), "c.json")
	if err := os.WriteFile(file, []byte(saved), 0o600); err != nil {
		t.Fatal(err)
	}
	sh.must("config check " + file)
	sh.must("bdev delete n0")
	sh.must("config load " + file)
	if out := sh.must("bdev list"); !strings.Contains(out, "n0") {
		t.Errorf("printed %s", out)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(saved, "num_blocks", "blocks", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"check", "load"} {
		sh.fails("config "+command+" "+file, `the configuration is refused, nothing was changed: `+file+`: subsystem bdev, call 1: bdev_null_create: unknown parameter "blocks"`)
	}
}

func TestIostatCommand(t *testing.T) {
	sh := newShell(t)
	sh.must("bdev create null n0 1M")
	out := sh.must("iostat n0 -i 1ms -c 2")
	if n := strings.Count(out, "DEVICE"); n != 2 || strings.Count(out, "n0") != 2 {
		t.Errorf("printed %s", out)
	}
	var list []deviceRate
	if err := json.Unmarshal([]byte(sh.must("iostat -i 1ms -c 1 -o json")), &list); err != nil || len(list) != 1 || list[0].Name != "n0" {
		t.Error(list, err)
	}
	sh.fails("iostat -i 0s", "the interval 0s is no time")
	sh.fails("iostat none", "none")
}

func TestRates(t *testing.T) {
	look := func(ticks uint64, bdevs ...api.Iostat) *api.Iostats {
		return &api.Iostats{TickRate: 1e9, Ticks: ticks, Bdevs: &bdevs}
	}
	before := look(0, api.Iostat{Name: "a", NumReadOps: 10, BytesRead: 1000, ReadLatencyTicks: 5e6, IOError: map[string]uint64{"x": 1}}, api.Iostat{Name: "reset", NumReadOps: 9})
	now := look(2e9, api.Iostat{Name: "new"}, api.Iostat{Name: "reset"},
		api.Iostat{Name: "a", NumReadOps: 30, BytesRead: 5000, ReadLatencyTicks: 9e6, QueueDepth: new(uint64(3)), IOError: map[string]uint64{"x": 2, "y": 1}})
	want := []deviceRate{{Name: "a", Reads: 10, ReadBytes: 2000, ReadMicros: 200, Depth: 3, Errors: 2}}
	if diff := cmp.Diff(want, rates(before, now)); diff != "" {
		t.Error(diff)
	}
	if got := rates(now, now); len(got) != 0 {
		t.Errorf("no time has passed, and there are rates: %v", got)
	}
}

func TestByteCount(t *testing.T) {
	for text, want := range map[string]uint64{"0": 0, "512": 512, "64K": 64 << 10, "64k": 64 << 10, "10GiB": 10 << 30, "1TB": 1 << 40, "16383P": 16383 << 50} {
		var b byteCount
		if err := b.UnmarshalText([]byte(text)); err != nil || uint64(b) != want {
			t.Errorf("%s: %d, %v", text, b, err)
		}
	}
	for _, text := range []string{"", "K", "-1", "1.5G", "1X", "16384P", "99999999999999999999"} {
		var b byteCount
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %d", text, b)
		}
	}
}
