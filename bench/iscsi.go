package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// This file is an iSCSI target that is measured by programs which others wrote, since there is no initiator for iSCSI in this one: reads by
// iscsi-perf, of libiscsi's tools, and writes by `qemu-img bench`, whose iSCSI driver is libiscsi too, since iscsi-perf only reads. Neither
// tells latencies: the mean is that of Little's law, requests in flight over requests a second.

// iscsiClient is what puts the load on such a target.
const iscsiClient = "libiscsi"

// iscsiPath is what is behind the address: a name, and the number of a LUN.
var iscsiPath = regexp.MustCompile(`^((?:iqn|eui|naa)\.[^/]+)/([0-9]+)$`)

// parseISCSI reads iscsi://HOST:PORT/IQN/LUN.
func parseISCSI(s string) (TargetSpec, error) {
	address, path, _ := strings.Cut(strings.TrimPrefix(s, "iscsi://"), "/")
	if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
		return TargetSpec{}, fmt.Errorf("an address is needed, such as 127.0.0.1:3260")
	}
	if !iscsiPath.MatchString(path) {
		return TargetSpec{}, fmt.Errorf("a target's name and the number of a LUN are needed, such as iqn.2026-01.io.pollux:disk0/0")
	}
	return TargetSpec{Kind: "iscsi", Path: s}, nil
}

// ISCSI is a LUN of an iSCSI target. It is a Target.
type ISCSI struct {
	url       string
	core      int // of the client
	bytes     uint64
	blockSize uint64
	rates     map[string]float64 // requests a second that were last found, by the load's name
}

// ErrNoISCSI is returned where the programs are missing.
var ErrNoISCSI = errors.New("run scripts/deps bench, or apt-get install libiscsi-bin qemu-utils qemu-block-extra")

// iscsiPrograms are those that are used.
var iscsiPrograms = []string{"iscsi-perf", "iscsi-readcapacity16", "qemu-img", "taskset"}

// OpenISCSI looks for the programs, and asks the LUN for its size. Clients run on core.
func OpenISCSI(ctx context.Context, t TargetSpec, core int) (*ISCSI, error) {
	for _, name := range iscsiPrograms {
		if _, err := exec.LookPath(name); err != nil {
			return nil, fmt.Errorf("target %s: %s is not installed: %w", t.Path, name, ErrNoISCSI)
		}
	}
	i := &ISCSI{url: t.Path, core: core, rates: map[string]float64{}}
	out, err := i.command(ctx, "iscsi-readcapacity16", i.url).CombinedOutput()
	if err == nil {
		err = i.readCapacity(string(out))
	}
	if err != nil {
		return nil, fmt.Errorf("target %s: asking for its capacity: %w: %s", t.Path, err, firstLine(string(out)))
	}
	return i, nil
}

var (
	capacityLast  = regexp.MustCompile(`(?i)RETURNED LOGICAL BLOCK ADDRESS:\s*(\d+)`)
	capacityBlock = regexp.MustCompile(`(?i)LOGICAL BLOCK LENGTH IN BYTES:\s*(\d+)`)
)

// readCapacity reads what iscsi-readcapacity16 prints.
func (i *ISCSI) readCapacity(said string) error {
	last, block := capacityLast.FindStringSubmatch(said), capacityBlock.FindStringSubmatch(said)
	if last == nil || block == nil {
		return errors.New("iscsi-readcapacity16 prints no capacity")
	}
	n, err := strconv.ParseUint(last[1], 10, 62)
	size, err2 := strconv.ParseUint(block[1], 10, 20)
	if err := errors.Join(err, err2); err != nil || size == 0 {
		return fmt.Errorf("a block of %s bytes, and the last one is %s", block[1], last[1])
	}
	i.blockSize, i.bytes = size, (n+1)*size
	return nil
}

// command is a program on the client's core.
func (i *ISCSI) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "taskset", append([]string{"-c", strconv.Itoa(i.core), name}, args...)...)
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	return c
}

// Name is iscsi; a comparison has names of its own.
func (i *ISCSI) Name() string { return "iscsi" }

// Describe tells what is known of it.
func (i *ISCSI) Describe() DeviceConditions {
	return DeviceConditions{Target: i.Name(), SizeBytes: i.bytes, BlockSize: uint32(i.blockSize), Cores: []int{i.core}, WriteCache: "its own", Remote: i.url}
}

// Close has nothing to close.
func (i *ISCSI) Close() error { return nil }

// Run carries w out. There is no ramp: both programs count from the first request on, behind their login.
func (i *ISCSI) Run(ctx context.Context, w Workload, o Options) (*Run, error) {
	fail := func(err error) (*Run, error) { return nil, fmt.Errorf("%s on %s: %w", w.Name(), i.url, err) }
	if w.Verify || w.Jobs != 1 || w.FsyncEvery+w.FUAEvery+w.RateIOPS != 0 || w.BlockBytes%i.blockSize != 0 {
		return fail(errors.New("libiscsi's programs put on plain loads of one job"))
	}
	if o.Reporter != nil {
		o.Reporter.Report(Progress{Label: o.Label, Phase: iscsiClient})
		defer o.Reporter.Done()
	}
	var r *Run
	var err error
	switch w.RW {
	case "read", "randread":
		r, err = i.reads(ctx, &w, &o)
	case "write", "randwrite":
		r, err = i.writes(ctx, &w, &o)
	default:
		err = fmt.Errorf("rw %q: libiscsi's programs read, or write", w.RW)
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fail(err)
	}
	return r, nil
}

// perfAverage is what iscsi-perf prints again and again, and at last of the whole run.
var perfAverage = regexp.MustCompile(`iops average (\d+) `)

// reads is iscsi-perf, which runs for whole seconds. Random places are those of any block: on a LUN whose blocks are as large as the
// requests they are aligned.
func (i *ISCSI) reads(ctx context.Context, w *Workload, o *Options) (*Run, error) {
	seconds := math.Ceil(max(1, w.RuntimeSeconds))
	args := []string{"-t", fmt.Sprintf("%.0f", seconds), "-m", strconv.Itoa(w.Depth), "-b", strconv.FormatUint(w.BlockBytes/i.blockSize, 10)}
	if w.RW == "randread" {
		args = append(args, "-r")
	}
	m, err := i.run(ctx, o, "iscsi-perf", append(args, i.url)...)
	if err != nil {
		return nil, err
	}
	all := perfAverage.FindAllStringSubmatch(m.said, -1)
	if all == nil {
		return nil, fmt.Errorf("iscsi-perf prints no average: %s", lastLine(m.said))
	}
	iops, _ := strconv.ParseFloat(all[len(all)-1][1], 64)
	return m.figures(w, "read", iops*seconds, seconds)
}

// benchSeconds is what `qemu-img bench` prints at its end.
var benchSeconds = regexp.MustCompile(`Run completed in ([0-9.]+) seconds`)

// probeSeconds is how long writes go at least before their number for a run is known.
const probeSeconds = 0.2

// writes is `qemu-img bench`, which ends by the number of requests, so that their rate has to be known. Random places are those of a walk
// through all of the LUN in steps of 0.38 of it: no two of a queue are near each other.
func (i *ISCSI) writes(ctx context.Context, w *Workload, o *Options) (*Run, error) {
	blocks := i.bytes / w.BlockBytes
	step := w.BlockBytes
	if w.RW == "randwrite" {
		step *= uint64(float64(blocks)*0.382) | 1
	}
	once := func(n float64, o *Options) (m programRun, seconds float64, err error) {
		m, err = i.run(ctx, o, "qemu-img", "bench", "-w", "-t", "none", "-f", "raw", "-d", strconv.Itoa(w.Depth),
			"-s", strconv.FormatUint(w.BlockBytes, 10), "-S", strconv.FormatUint(step, 10), "-c", fmt.Sprintf("%.0f", n), i.url)
		if err != nil {
			return m, 0, err
		}
		end := benchSeconds.FindStringSubmatch(m.said)
		if end == nil {
			return m, 0, fmt.Errorf("qemu-img prints no time: %s", lastLine(m.said))
		}
		seconds, err = strconv.ParseFloat(end[1], 64)
		return m, max(seconds, 1e-3), err
	}
	n := float64(blocks)
	if key := w.Name(); w.RuntimeSeconds > 0 { // otherwise one pass
		for probe := float64(4 * w.Depth); i.rates[key] == 0; probe *= 4 {
			_, seconds, err := once(probe, &Options{})
			if err != nil {
				return nil, err
			}
			if seconds >= probeSeconds {
				i.rates[key] = probe / seconds
			}
		}
		n = max(float64(w.Depth), math.Round(i.rates[key]*w.RuntimeSeconds))
	}
	m, seconds, err := once(n, o)
	if err != nil {
		return nil, err
	}
	i.rates[w.Name()] = n / seconds
	return m.figures(w, "write", n, seconds)
}

// programRun is a program that has run, and what was counted meanwhile.
type programRun struct {
	said          string
	before, after processUsage
	client        *os.ProcessState
	options       *Options
}

// run runs a program to its end.
func (i *ISCSI) run(ctx context.Context, o *Options, name string, args ...string) (m programRun, err error) {
	c := i.command(ctx, name, args...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	samples := usageSamples()
	m.options, m.before = o, processUsageNow(samples, o)
	err = c.Run()
	m.after, m.client, m.said = processUsageNow(samples, o), c.ProcessState, out.String()
	if err != nil {
		return m, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, lastLine(m.said))
	}
	return m, nil
}

// figures are those of so many requests in that time. What others used is counted from the start of the program to its end.
func (m *programRun) figures(w *Workload, kind string, ops, seconds float64) (*Run, error) {
	if ops < 1 {
		return nil, fmt.Errorf("%w: nothing was done", ErrFailed)
	}
	f := KindFigures{Ops: uint64(ops), Bytes: uint64(ops) * w.BlockBytes, IOPS: ops / seconds}
	f.BytesPerSecond = f.IOPS * float64(w.BlockBytes)
	f.Latency.Mean = 1e9 * float64(w.Depth) / f.IOPS
	r := &Run{Seconds: seconds, Total: f, Kinds: map[string]KindFigures{kind: f}}
	r.others(&m.before, &m.after, m.client, m.options)
	client := 1e-9 * float64(m.client.UserTime()+m.client.SystemTime())
	r.Others = append(r.Others, ProcessFigures{iscsiClient, 100 * client / seconds, 1e6 * client / ops})
	return r, nil
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexAny(s, "\r\n")+1:]
}
