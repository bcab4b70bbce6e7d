package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the suite: the figures that a release leaves in bench/results. In each group the targets are measured in turns,
// the first of them being what the others are compared to:
//
//	disk    raw (fio on a file)  uring (the engine's bdev, in this process)   tcp+uring (served by an engine, through the initiator)
//	volume  raw                  uring    volume, volatile (a volume on such a file, without and with a write cache)
//	null                         null                                         tcp+null
//	mem                          mem                                          tcp+mem
//
// disk and volume are one group if both are wanted. Then come volumes with snapshots (snapshots.go), and the figures of volumes that are
// no rates: amplify.go, recovery.go, footprint.go. What an engine costs and how it answers when there is little to do is in idle.go, tail.go
// and wake.go; what a second core adds in reactors.go.
//
// The load on local devices, and the engine of remote ones, have one core; the client of remote ones has another.

// SuiteConfig says what is measured, and how long.
type SuiteConfig struct {
	Exe          string // the pollux program, which is started as the engine
	Output       string // folder in which the folder of results is made
	Dir          string // where the files to measure are made; they are removed at the end
	Size         uint64 // of each device
	Runs         int
	Seconds      float64 // of each run
	Ramp         float64
	Idle         float64 // seconds of each idle measurement
	AllocIOs     uint64  // requests over which allocations are counted
	AmplifyBytes uint64  // that each load writes whose amplification is measured
	Depths       []int

	RecoverySizes []uint64 // mapped, of volumes whose recovery is measured
	MemoryPools   []uint64 // sizes of pools that are weighed
	MemoryVolumes []int    // how many volumes are weighed
	MemoryWrites  uint64   // to each volume that is weighed

	EngineCore int // also of local loads
	ClientCore int
	Only       []string // groups; nil for all
	Reporter   Reporter
	Log        io.Writer // hears what is being done
}

// suite is one run of it.
type suite struct {
	cfg    SuiteConfig
	dir    string // of the results
	work   string // of the files that are measured, the engine's socket and log
	report *Report
	raw    int            // outputs of fio kept so far
	drawn  map[string]int // pictures, and how many targets are on each
}

// Suite measures this machine and gives the folder of the results. What was measured before a failure is there all the same.
func Suite(ctx context.Context, cfg SuiteConfig) (dir string, err error) {
	s := &suite{cfg: cfg, report: NewReport(), drawn: map[string]int{}}
	s.report.Conditions.Transport = "NVMe/TCP on the loopback interface"
	if s.dir, err = resultsDir(cfg.Output, s.report.Conditions.day()+"-"+s.report.Conditions.Machine.Slug()); err != nil {
		return "", err
	}
	if s.work, err = os.MkdirTemp(cfg.Dir, "pollux-bench-"); err != nil {
		return s.dir, fmt.Errorf("making a folder for the files to measure: %w", err)
	}
	defer os.RemoveAll(s.work)
	for _, g := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"disk", s.disk}, {"volume", s.volumes}, {"amplification", s.amplification}, {"snapshots", s.snapshots}, {"recovery", s.recovery},
		{"memory", s.footprint}, {"null", s.memory("null")}, {"mem", s.memory("mem")}, {"allocations", s.allocations}, {"idle", s.idle},
		{"tail", s.tail}, {"wake", s.wake}, {"reactors", s.reactors},
	} {
		if !cfg.wants(g.name) {
			continue
		}
		fmt.Fprintf(cfg.Log, "bench suite: %s\n", g.name)
		err = errors.Join(g.run(ctx), s.save())
		if err != nil {
			return s.dir, fmt.Errorf("bench suite, %s: %w", g.name, err)
		}
	}
	return s.dir, nil
}

func (c *SuiteConfig) wants(group string) bool {
	for _, o := range c.Only {
		if o == group {
			return true
		}
	}
	return len(c.Only) == 0
}

// resultsDir makes the folder, with a number if there is one already.
func resultsDir(output, name string) (string, error) {
	name = filepath.Join(output, name)
	if err := os.MkdirAll(output, 0o755); err != nil {
		return "", fmt.Errorf("making the folder of results: %w", err)
	}
	for n := 1; ; n++ {
		dir := name
		if n > 1 {
			dir += "-" + strconv.Itoa(n)
		}
		err := os.Mkdir(dir, 0o755)
		if err == nil || !os.IsExist(err) {
			return dir, err
		}
	}
}

// plain are the loads of every group, synced those that make each write durable.
func (c *SuiteConfig) plain() (ws []Workload) {
	base := Workload{Jobs: 1, Seed: 1, RuntimeSeconds: c.Seconds, RampSeconds: c.Ramp}
	for _, rw := range []string{"randread", "randwrite", "randrw"} {
		for _, d := range c.Depths {
			w := base
			w.RW, w.BlockBytes, w.Depth = rw, 4096, d
			if rw == "randrw" {
				w.ReadPercent = 70
			}
			ws = append(ws, w)
		}
	}
	for _, rw := range []string{"read", "write"} {
		w := base
		w.RW, w.BlockBytes, w.Depth = rw, 128<<10, 8
		ws = append(ws, w)
	}
	return ws
}

func (c *SuiteConfig) synced() (ws []Workload) {
	depths := append([]int{1, 32}, c.Depths...)
	slices.Sort(depths)
	for _, d := range slices.Compact(depths) {
		w := Workload{RW: "randwrite", BlockBytes: 4096, Depth: d, Jobs: 1, Seed: 1, RuntimeSeconds: c.Seconds, RampSeconds: c.Ramp}
		w.FUAEvery = 1
		ws = append(ws, w)
		if d == 1 || d == 32 {
			w.FUAEvery, w.FsyncEvery = 0, 1
			ws = append(ws, w)
		}
	}
	return ws
}

// memoryBytes is enough for every load of the suite.
func (c *SuiteConfig) memoryBytes() int {
	n := 0
	for _, w := range append(c.plain(), c.synced()...) {
		n = max(n, MemoryFor(&w, 1))
	}
	return n
}

// group measures all loads on all targets, in turns, and compares each target with the first two.
func (s *suite) group(ctx context.Context, targets []Target, options []Options, loads []Workload) error {
	for _, w := range loads {
		rows, err := Turns(ctx, targets, w, s.cfg.Runs, options)
		if err != nil {
			return err
		}
		s.report.Rows = append(s.report.Rows, rows...)
		for i := range rows {
			for j := range min(i, 2) {
				s.report.Ratios = append(s.report.Ratios, NewRatio(&rows[i], &rows[j]))
			}
		}
		if err := s.save(); err != nil {
			return err
		}
	}
	return nil
}

// engine starts an engine in a policy and stops it at the end of use.
func (s *suite) engine(ctx context.Context, idle reactor.Idle, use func(e *Engine) error) error {
	return s.engineAs(ctx, EngineConfig{Idle: idle.String()}, use)
}

// engineAs starts one of which some is said already.
func (s *suite) engineAs(ctx context.Context, cfg EngineConfig, use func(e *Engine) error) error {
	cfg.Exe, cfg.Cores, cfg.Dir = s.cfg.Exe, strconv.Itoa(s.cfg.EngineCore), s.work
	e, err := StartEngine(ctx, cfg)
	if err != nil {
		return err
	}
	return errors.Join(use(e), e.Stop())
}

// local opens a device in this process; remote one that an engine serves.
func (s *suite) local(t TargetSpec) (*Rig, error) {
	return OpenRig(t, RigConfig{Cores: []int{s.cfg.EngineCore}, Idle: reactor.Poll, MemoryBytes: s.cfg.memoryBytes()})
}

func (s *suite) remote(e *Engine, t TargetSpec) (*Rig, error) {
	at, err := e.Serve(t)
	if err != nil {
		return nil, err
	}
	r, err := OpenRig(at, RigConfig{Cores: []int{s.cfg.ClientCore}, Idle: reactor.Poll, MemoryBytes: s.cfg.memoryBytes()})
	if err != nil {
		return nil, err
	}
	r.As, r.Serves, r.Served = "tcp+"+t.Kind, e.Describe(), t.Path
	return r, nil
}

// disk measures a file, and volumes on such files if they are wanted too, so that all of it has the same raw rows to be compared to. Each
// target but raw and uring has a file of its own, made alike, since an engine locks it.
func (s *suite) disk(ctx context.Context) error {
	loads := append(s.cfg.plain(), s.cfg.synced()...)
	return s.engine(ctx, reactor.Adaptive, func(e *Engine) error {
		served := filepath.Join(s.work, "disk1")
		if err := s.fill(ctx, served); err != nil {
			return err
		}
		remote, err := s.remote(e, TargetSpec{Kind: "uring", Path: served})
		if err != nil {
			return err
		}
		defer func() { _ = remote.Close() }()
		there := Options{Reporter: s.cfg.Reporter, PIDs: []int{e.PID()}}
		return s.onDisk(ctx, loads, []Target{filled{remote}}, []Options{there}, s.cfg.wants("volume"))
	})
}

// volumes measures volumes alone, where disk does not.
func (s *suite) volumes(ctx context.Context) error {
	if s.cfg.wants("disk") {
		return nil
	}
	loads := slices.DeleteFunc(append(s.cfg.plain(), s.cfg.synced()...), func(w Workload) bool { return w.RW == "randrw" })
	return s.onDisk(ctx, loads, nil, nil, true)
}

// onDisk measures raw, uring and the others in turns.
func (s *suite) onDisk(ctx context.Context, loads []Workload, others []Target, options []Options, volumes bool) error {
	own := filepath.Join(s.work, "disk0")
	if err := s.fill(ctx, own); err != nil {
		return err
	}
	fio, err := OpenFio(TargetSpec{Kind: "raw", Path: own}, s.cfg.EngineCore)
	if err != nil {
		return err
	}
	fio.Keep = s.keep
	s.report.Conditions.Fio = fio.Version()
	local, err := s.local(TargetSpec{Kind: "uring", Path: own})
	if err != nil {
		return err
	}
	defer func() { _ = local.Close() }()
	o := Options{Reporter: s.cfg.Reporter}
	targets, all := append([]Target{filled{fio}, filled{local}}, others...), append([]Options{o, o}, options...)
	if volumes {
		for _, kind := range []string{"volume", "volatile"} {
			v, err := s.volume(ctx, kind)
			if err != nil {
				return err
			}
			defer func() { _ = v.Close() }()
			targets, all = append(targets, filled{v}), append(all, o)
		}
	}
	return s.group(ctx, targets, all, loads)
}

// volume makes a volume of the size of the other devices on a file of its own, both written once. The file has room for the volume's log, and
// for what a pool has free beside it.
func (s *suite) volume(ctx context.Context, kind string) (*Rig, error) {
	path := filepath.Join(s.work, kind)
	if err := s.fillTo(ctx, path, s.volumeRoom()); err != nil {
		return nil, err
	}
	v, err := s.local(TargetSpec{Kind: kind, Path: path, Bytes: s.cfg.Size})
	if err != nil {
		return nil, err
	}
	w := Workload{RW: "write", BlockBytes: 128 << 10, Depth: 8, Jobs: 1, Seed: 1}
	if _, err := v.Run(ctx, w, Options{Label: "filling " + kind, Reporter: s.cfg.Reporter}); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

// volumeRoom is how large the file of such a volume is.
func (s *suite) volumeRoom() uint64 {
	n := s.cfg.Size + wal.DefaultBytes
	return n + n/8 + min(n, poolHeadroom)
}

// filled is a target that was written before.
type filled struct{ Target }

func (f filled) Describe() DeviceConditions {
	d := f.Target.Describe()
	d.Preconditions = "every block written once, in sequence, with random bytes; then the rows in order"
	return d
}

// fill makes a file of random bytes that are on the medium.
func (s *suite) fill(ctx context.Context, path string) error { return s.fillTo(ctx, path, s.cfg.Size) }

func (s *suite) fillTo(ctx context.Context, path string, bytes uint64) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("making a file to measure: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	piece := make([]byte, 1<<20)
	_, _ = rand.Read(piece)
	for at := uint64(0); at < bytes; at += uint64(len(piece)) {
		for i := 0; i < len(piece); i += 4096 { // no two blocks alike
			copy(piece[i:], strconv.FormatUint(at+uint64(i), 16))
		}
		if _, err := f.Write(piece[:min(uint64(len(piece)), bytes-at)]); err != nil {
			return fmt.Errorf("filling %s: %w", path, err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("filling %s: %w", path, err)
	}
	return nil
}

// keep keeps what fio says.
func (s *suite) keep(w *Workload, output []byte) error {
	dir := filepath.Join(s.dir, "raw")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keeping what fio says: %w", err)
	}
	s.raw++
	var b bytes.Buffer
	if json.Compact(&b, output) == nil {
		output = append(b.Bytes(), '\n')
	}
	name := fmt.Sprintf("fio-%03d-%s.json", s.raw, slug(w.Name()))
	return os.WriteFile(filepath.Join(dir, name), output, 0o644)
}

func slug(s string) string { return strings.NewReplacer(" ", "-", "/", "_").Replace(s) }

// memory measures a device without a medium, here and in an engine.
func (s *suite) memory(kind string) func(context.Context) error {
	spec := TargetSpec{Kind: kind, Bytes: s.cfg.Size, BlockSize: 4096}
	return func(ctx context.Context) error {
		return s.engine(ctx, reactor.Adaptive, func(e *Engine) error {
			local, err := s.local(spec)
			if err != nil {
				return err
			}
			defer func() { _ = local.Close() }()
			remote, err := s.remote(e, spec)
			if err != nil {
				return err
			}
			defer func() { _ = remote.Close() }()
			o := Options{Reporter: s.cfg.Reporter}
			there := o
			there.PIDs = []int{e.PID()}
			targets := []Target{local, remote}
			if kind == "mem" { // or the rows would measure how the kernel gives memory at the first touch
				fill := Workload{RW: "write", BlockBytes: 128 << 10, Depth: 8, Jobs: 1, Seed: 1}
				for i, t := range targets {
					if _, err := t.Run(ctx, fill, Options{Label: "filling", Reporter: s.cfg.Reporter}); err != nil {
						return err
					}
					targets[i] = filled{t}
				}
			}
			return s.group(ctx, targets, []Options{o, there}, s.cfg.plain())
		})
	}
}

// allocations counts what both ends allocate for a request.
func (s *suite) allocations(ctx context.Context) error {
	spec := TargetSpec{Kind: "mem", Bytes: s.cfg.Size, BlockSize: 4096}
	return s.engine(ctx, reactor.Adaptive, func(e *Engine) error {
		remote, err := s.remote(e, spec)
		if err != nil {
			return err
		}
		defer func() { _ = remote.Close() }()
		n := s.cfg.AllocIOs
		for _, w := range []Workload{
			{RW: "randread", BlockBytes: 4096, Depth: 32, Jobs: 1, Seed: 1, Number: n},
			{RW: "randwrite", BlockBytes: 4096, Depth: 32, Jobs: 1, Seed: 1, Number: n},
			{RW: "write", BlockBytes: 128 << 10, Depth: 8, Jobs: 1, Seed: 1, Number: n / 8},
		} {
			row, err := allocRow(ctx, remote, e, w)
			if err != nil {
				return err
			}
			s.report.Allocs = append(s.report.Allocs, row)
		}
		return nil
	})
}

// allocRow is the difference of a long run and a short one, so that what asking and beginning a run take falls out.
func allocRow(ctx context.Context, t Target, e *Engine, w Workload) (row AllocRow, err error) {
	short := w
	short.Number /= 10
	var of [3]allocated // the first makes what later ones use again
	for i, w := range []Workload{short, short, w} {
		if of[i], err = allocatedBy(ctx, t, e, w); err != nil {
			return row, err
		}
	}
	ios := of[2].ios - of[1].ios
	return AllocRow{
		What: t.Name() + " " + w.Name(), IOs: ios,
		Client: max(0, of[2].client-of[1].client) / float64(ios), Engine: max(0, of[2].engine-of[1].engine) / float64(ios),
	}, nil
}

// allocated is the objects that both ends have allocated in a run.
type allocated struct {
	ios            uint64
	client, engine float64
}

// allocatedBy runs w. The count is exact: the runtime stops the world for it, before and after the run.
func allocatedBy(ctx context.Context, t Target, e *Engine, w Workload) (a allocated, err error) {
	var before, after runtime.MemStats
	engine, err := e.Mallocs(ctx)
	if err != nil {
		return a, err
	}
	runtime.ReadMemStats(&before)
	run, err := t.Run(ctx, w, Options{})
	if err != nil {
		return a, err
	}
	runtime.ReadMemStats(&after)
	if a.engine, err = e.Mallocs(ctx); err != nil {
		return a, err
	}
	a.ios, a.client, a.engine = run.Total.Ops, float64(after.Mallocs-before.Mallocs), a.engine-engine
	return a, nil
}
