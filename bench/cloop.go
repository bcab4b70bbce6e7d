package bench

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the same loop in C (cloop/loop.c) as a target: a server that polls one connection and sends blocks from memory, and a
// client that polls another core. It is compiled when it is needed. Its latencies come one by one, and are counted here in the same
// buckets as the engine's.

//go:embed cloop/loop.c
var cLoopSource []byte

// cLoop is the program.
type cLoop struct {
	exe                    string
	serverCore, clientCore int
	bytes                  uint64 // of its memory
}

// buildCLoop compiles the program into a folder.
func buildCLoop(ctx context.Context, dir string) (exe string, err error) {
	compiler := ""
	for _, name := range []string{"cc", "gcc", "clang"} {
		if compiler, err = exec.LookPath(name); err == nil {
			break
		}
	}
	if err != nil {
		return "", errors.New("compiling the loop in C: there is no C compiler: install one (on Debian: apt-get install gcc libc6-dev), " +
			"or name the groups to measure without it by --only")
	}
	exe = filepath.Join(dir, "cloop")
	cmd := exec.CommandContext(ctx, compiler, "-O2", "-Wall", "-x", "c", "-o", exe, "-")
	cmd.Stdin = bytes.NewReader(cLoopSource)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compiling the loop in C with %s: %w: %s", compiler, err, out)
	}
	return exe, nil
}

// Name tells it from the engine.
func (l *cLoop) Name() string { return "c-loop" }

// Describe tells what it is.
func (l *cLoop) Describe() DeviceConditions {
	return DeviceConditions{
		Target: l.Name(), SizeBytes: l.bytes, BlockSize: 4096, WriteCache: "none", Idle: reactor.Poll.String(), Cores: []int{l.clientCore},
		Remote: fmt.Sprintf("a loop in C on core %d, which polls one TCP connection on loopback and sends from memory", l.serverCore),
	}
}

// Close has nothing to do: it runs only while it is measured.
func (l *cLoop) Close() error { return nil }

// Run lets both of its processes run for as long as w says. It knows one load: random reads, one after the other.
func (l *cLoop) Run(ctx context.Context, w Workload, _ Options) (*Run, error) {
	if w.RW != "randread" || w.Depth != 1 || w.Jobs != 1 {
		return nil, fmt.Errorf("%s on the loop in C: it does random reads, one after the other", w.Name())
	}
	decimal := func(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
	cmd := exec.CommandContext(ctx, l.exe, strconv.Itoa(l.serverCore), strconv.Itoa(l.clientCore), decimal(w.RuntimeSeconds), decimal(w.RampSeconds),
		strconv.FormatUint(w.BlockBytes, 10), strconv.FormatUint(l.bytes, 10))
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("starting the loop in C: %w", err)
	}
	run, err := parseCLoop(out, &w, l.clientCore, l.serverCore)
	if e := cmd.Wait(); e != nil {
		err = e
	}
	if err != nil {
		return nil, fmt.Errorf("%s on the loop in C: %w: %s", w.Name(), err, said.Bytes())
	}
	return run, nil
}

// parseCLoop reads what it says: loop.c has the format.
func parseCLoop(out io.Reader, w *Workload, clientCore, serverCore int) (*Run, error) {
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("reading its figures: %w", err)
	}
	var n uint64
	var took, client, server float64
	if _, err := fmt.Sscanf(line, "%d %f %f %f\n", &n, &took, &client, &server); err != nil || took <= 0 {
		return nil, fmt.Errorf("reading its figures: it says %q", line)
	}
	var c kindCount
	var b [4]byte
	for range n {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, fmt.Errorf("reading its latencies: %w", err)
		}
		d := reactor.Ticks(binary.NativeEndian.Uint32(b[:]))
		c.record(d, w.BlockBytes)
	}
	if rest, _ := r.Peek(1); len(rest) > 0 {
		return nil, fmt.Errorf("reading its latencies: there are more than the %d that it names", n)
	}
	f := c.figures(took)
	return &Run{
		Seconds: took, Total: f, Kinds: map[string]KindFigures{kindNames[bdev.Read]: f},
		Reactors: []ReactorFigures{{Core: clientCore, BusyPercent: 100, CPUPercent: 100 * client / took}, {Core: serverCore, BusyPercent: 100, CPUPercent: 100 * server / took}},
		CPU:      CPUFigures{MicrosPerIO: 1e6 * (client + server) / float64(max(n, 1))},
	}, nil
}
