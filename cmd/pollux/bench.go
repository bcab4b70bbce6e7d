package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/bench"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/reactor"
)

type benchCmd struct {
	Run    benchRunCmd    `cmd:"" default:"withargs" help:"Put a load on one device and measure it, or compare two reports. The word run may be left out; bench run --help explains the load."`
	Check  benchCheckCmd  `cmd:"" help:"Write to a device, read everything back, and say briefly how fast it is. What was on it is lost."`
	Peers  benchPeersCmd  `cmd:"" help:"Compare targets, whoever wrote them, in pairs under the same load of the same client: an engine of this program, others at host:port, block devices of the kernel's initiator. What is on them is lost."`
	Floors benchFloorsCmd `cmd:"" help:"Measure in little more than a minute what no change may lose, and end with status 1 where something is lost."`
	Child  benchChildCmd  `cmd:"" hidden:"" help:"What bench suite lets processes of their own do."`
	Suite  benchSuiteCmd  `cmd:"" help:"Measure this machine: the raw disk, local devices, and an engine over NVMe/TCP; keep tables, plots and conditions."`
}

// byteSize is a size on the command line.
type byteSize uint64

// UnmarshalText reads 4k, 1G and such.
func (b *byteSize) UnmarshalText(t []byte) error {
	n, err := bench.ParseBytes(string(t))
	*b = byteSize(n)
	return err
}

// span is a time on the command line; a bare number is seconds, as fio has it.
type span time.Duration

// UnmarshalText reads 30, 30s, 500ms and such.
func (s *span) UnmarshalText(t []byte) error {
	if n, err := strconv.ParseFloat(string(t), 64); err == nil {
		*s = span(n * float64(time.Second))
		return nil
	}
	d, err := time.ParseDuration(string(t))
	*s = span(d)
	return err
}

func (s span) seconds() float64 { return time.Duration(s).Seconds() }

type benchRunCmd struct {
	Bdev    string `group:"target" default:"mem:1G" placeholder:"TARGET" help:"Device to measure: mem:1G, null:1G, uring:PATH (a file or block device), volume:PATH or volatile:PATH (a volume on it without or with a write cache; all of PATH is lost), or raw:PATH for the same by fio; ?block=512 behind it sets the block size (${default})."`
	Connect string `group:"target" placeholder:"URL" help:"In its place a namespace of an NVMe/TCP or NVMe/RDMA target: tcp://127.0.0.1:4420/NQN or rdma://192.0.2.1:4420/NQN, with ?nsid=2, hostnqn=, hdgst=1, ddgst=1, sqflow=1 (flow control of queues, as Linux has it) or queues=2 (connections for each core)."`
	Against string `group:"target" placeholder:"TARGET" help:"A second device, measured in turns with the first: gives ratios."`

	RW            string   `group:"load" default:"randread" help:"read, write, trim or rw in sequence; randread, randwrite, randtrim or randrw at random places (${default})."`
	RWMixRead     int      `group:"load" name:"rwmixread" default:"50" placeholder:"PERCENT" help:"Reads in rw and randrw (${default})."`
	TrimMix       int      `group:"load" name:"trim-percentage" placeholder:"PERCENT" help:"Trims among all requests, in place of writes."`
	BS            byteSize `group:"load" name:"bs" default:"4k" help:"Size of each request (${default})."`
	IODepth       int      `group:"load" name:"iodepth" default:"32" help:"Requests in flight, each job (${default})."`
	NumJobs       int      `group:"load" name:"numjobs" default:"1" help:"Jobs, spread over the cores (${default})."`
	Offset        byteSize `group:"load" placeholder:"SIZE" help:"Where the region begins."`
	Size          byteSize `group:"load" placeholder:"SIZE" help:"Size of the region; up to the end of the device without it."`
	Zipf          float64  `group:"load" placeholder:"THETA" help:"Skew random places: 0.99 is common, 0 uniform."`
	Seed          uint64   `group:"load" default:"1" help:"Of random places; the same seed gives the same requests (${default})."`
	Fsync         int      `group:"load" placeholder:"N" help:"A flush after every N completed writes, each job."`
	FUA           int      `group:"load" name:"fua" placeholder:"N" help:"Every N-th write is durable when it completes."`
	RateIOPS      int      `group:"load" name:"rate-iops" placeholder:"N" help:"At most N requests a second, each job."`
	Runtime       span     `group:"load" placeholder:"TIME" help:"How long to measure (10s, where nothing else ends the run)."`
	RampTime      span     `group:"load" name:"ramp-time" placeholder:"TIME" help:"Load before it that is not counted."`
	NumberIOs     uint64   `group:"load" name:"number-ios" placeholder:"N" help:"End after N requests, each job."`
	IOSize        byteSize `group:"load" name:"io-size" placeholder:"SIZE" help:"End after so many bytes, each job."`
	ContinueOnErr bool     `group:"load" name:"continue-on-error" help:"Count errors and go on."`
	GtodReduce    bool     `group:"load" name:"gtod-reduce" help:"Measure no latencies: reads no clock at each request."`

	Verify       bool   `group:"verify" help:"Write a header and checksums into every block, check them at each read, and read everything back at the end."`
	VerifyState  string `group:"verify" name:"verify-state" placeholder:"FILE" help:"Keep there what was written, for another process to verify."`
	VerifyOnly   bool   `group:"verify" name:"verify-only" help:"Put on no load: read back what the state file says."`
	VerifyResume bool   `group:"verify" name:"verify-resume" help:"Go on writing from the state file."`

	Cores string `group:"machine" placeholder:"LIST" help:"Cores for the reactors that put the load on, such as 0 or 2-5; the last one without it."`
	Idle  string `group:"machine" enum:"poll,adaptive,interrupt" default:"poll" help:"What the reactors do without work: poll, adaptive, interrupt (${default})."`

	Runs   int    `group:"result" default:"1" help:"Repeat so many times; ${default}, and 3 at least for claims."`
	Output string `group:"result" enum:"table,json" default:"table" help:"table or json (${default})."`
	Save   string `group:"result" placeholder:"FILE" help:"Write the report there too, as JSON."`
	Plot   string `group:"result" placeholder:"FILE" help:"Draw the latencies there, as PNG."`
	Quiet  bool   `group:"result" help:"Show no progress."`

	Compare string `group:"compare" placeholder:"A.json" help:"Measure nothing: set report B.json against A.json, and say which differences are claims."`
	With    string `arg:"" optional:"" name:"B.json" help:"With --compare: the later report."`
	Limits  bool   `group:"compare" help:"With --compare: end with status 1 when IOPS fell by more than 5 % or the 99th percentile rose by more than 10 %, beyond the spread."`
}

// workload is what the flags ask for.
func (c *benchRunCmd) workload() bench.Workload {
	w := bench.Workload{
		RW: c.RW, ReadPercent: c.RWMixRead, TrimPercent: c.TrimMix, BlockBytes: uint64(c.BS), Depth: c.IODepth, Jobs: c.NumJobs,
		Offset: uint64(c.Offset), Size: uint64(c.Size), Zipf: c.Zipf, Seed: c.Seed, FsyncEvery: c.Fsync, FUAEvery: c.FUA, RateIOPS: c.RateIOPS,
		RuntimeSeconds: c.Runtime.seconds(), RampSeconds: c.RampTime.seconds(), Number: c.NumberIOs, IOBytes: uint64(c.IOSize),
		Verify: c.Verify || c.VerifyOnly || c.VerifyResume || c.VerifyState != "", ContinueOnError: c.ContinueOnErr, NoLatency: c.GtodReduce,
	}
	if w.RuntimeSeconds == 0 && w.Number == 0 && w.IOBytes == 0 && !w.Verify {
		w.RuntimeSeconds = 10
	}
	return w
}

// Run measures.
func (c *benchRunCmd) Run() error {
	if c.Compare != "" && c.With != "" {
		return compareReports(os.Stdout, c.Compare, c.With, c.Limits)
	}
	if c.Compare != "" || c.With != "" {
		return fmt.Errorf("comparing takes two reports: pollux bench --compare A.json B.json")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	w := c.workload()
	if c.VerifyState == "" && (c.VerifyOnly || c.VerifyResume) {
		return fmt.Errorf("--verify-only and --verify-resume need --verify-state FILE: what the writing run kept")
	}
	if c.Runs < 1 {
		return fmt.Errorf("--runs %d: at least 1", c.Runs)
	}
	if w.Verify && (c.Runs > 1 || c.Against != "") {
		return fmt.Errorf("--verify goes with one run on one device: measure first, verify then")
	}
	o := bench.Options{VerifyOnly: c.VerifyOnly}
	if c.VerifyOnly || c.VerifyResume {
		state, err := bench.LoadState(c.VerifyState)
		if err != nil {
			return err
		}
		o.State = state
		w.Offset, w.Size = state.Region()
	}
	if !c.Quiet {
		o.Reporter = bench.NewReporter(os.Stderr, isTerminal(os.Stderr))
	}
	name := c.Bdev
	if c.Connect != "" {
		name = c.Connect
	}
	target, err := c.open(name, &w)
	if err != nil {
		return err
	}
	defer func() { _ = target.Close() }()
	report := bench.NewReport()
	if c.Against != "" {
		err = c.pair(ctx, report, target, w, o)
	} else {
		err = c.repeat(ctx, report, target, w, o)
	}
	if len(report.Rows) == 0 {
		return err
	}
	if e := c.show(report); err == nil {
		err = e
	}
	return err
}

func (c *benchRunCmd) repeat(ctx context.Context, report *bench.Report, t bench.Target, w bench.Workload, o bench.Options) error {
	row, err := bench.Repeat(ctx, t, w, c.Runs, o)
	if len(row.Runs) > 0 {
		report.Rows = append(report.Rows, row)
	}
	if c.VerifyState != "" && !c.VerifyOnly && len(row.Runs) > 0 {
		if s := row.Runs[0].State(); s != nil {
			if e := s.Save(c.VerifyState); err == nil {
				err = e
			}
		}
	}
	return err
}

func (c *benchRunCmd) pair(ctx context.Context, report *bench.Report, t bench.Target, w bench.Workload, o bench.Options) error {
	against, err := c.open(c.Against, &w)
	if err != nil {
		return err
	}
	defer func() { _ = against.Close() }()
	rows, err := bench.Turns(ctx, []bench.Target{t, against}, w, c.Runs, []bench.Options{o, o})
	if err == nil {
		report.Rows, report.Ratios = rows, []bench.Ratio{bench.NewRatio(&rows[0], &rows[1])}
	}
	return err
}

// open opens a target by its name.
func (c *benchRunCmd) open(name string, w *bench.Workload) (bench.Target, error) {
	spec, err := bench.ParseTarget(name)
	if err != nil {
		return nil, err
	}
	cores, err := parseCores(c.Cores)
	if err != nil {
		return nil, err
	}
	if cores == nil {
		cores = reactor.DefaultCores()
	}
	if spec.Kind == "raw" {
		return bench.OpenFio(spec, cores[0])
	}
	idle, err := reactor.ParseIdle(c.Idle)
	if err != nil {
		return nil, err
	}
	reactor.TuneRuntime(len(cores), 1<<30, os.Getenv)
	return bench.OpenRig(spec, bench.RigConfig{Cores: cores, Idle: idle, MemoryBytes: bench.MemoryFor(w, len(cores))})
}

// show prints and keeps the report.
func (c *benchRunCmd) show(report *bench.Report) error {
	b, err := report.Encode()
	if err != nil {
		return err
	}
	if c.Output == "json" {
		_, err = os.Stdout.Write(b)
	} else {
		err = report.WriteTable(os.Stdout)
	}
	if err == nil && c.Save != "" {
		err = os.WriteFile(c.Save, b, 0o644)
	}
	if err != nil || c.Plot == "" {
		return err
	}
	picture, err := bench.Plot(report.Rows[0].Workload.Name(), report.Rows)
	if err != nil {
		return err
	}
	return os.WriteFile(c.Plot, picture, 0o644)
}

// compareReports sets two reports side by side.
func compareReports(w io.Writer, a, b string, limits bool) error {
	before, err := bench.LoadReport(a)
	if err != nil {
		return err
	}
	after, err := bench.LoadReport(b)
	if err != nil {
		return err
	}
	x := bench.Compare(before, after)
	if err := x.WriteTable(w); err != nil {
		return err
	}
	if bad := x.Regressions(); limits && len(bad) > 0 {
		return fmt.Errorf("%d figures of %s are worse than those of %s by more than the limits; the first is %s of %s: %.3f", len(bad), b, a, bad[0].Figure, bad[0].Row, bad[0].Ratio)
	}
	return nil
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

type benchCheckCmd struct {
	Bdev    string   `placeholder:"TARGET" xor:"target" required:"" help:"Device: mem:1G, or uring:PATH for a file or block device."`
	Connect string   `placeholder:"URL" xor:"target" required:"" help:"Or a namespace of an NVMe/TCP or NVMe/RDMA target: tcp://127.0.0.1:4420/NQN, rdma://192.0.2.1:4420/NQN."`
	Size    byteSize `placeholder:"SIZE" default:"256M" help:"How much of it to write (${default})."`
	Runtime span     `placeholder:"TIME" default:"3" help:"Length of each measurement in seconds (${default})."`
	Cores   string   `placeholder:"LIST" help:"Core that puts the load on; the first one without it, as the engine takes the last."`
	Quiet   bool     `help:"Show no progress."`
}

// Run checks.
func (c *benchCheckCmd) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	name := c.Bdev
	if c.Connect != "" {
		name = c.Connect
	}
	spec, err := bench.ParseTarget(name)
	if err != nil {
		return err
	}
	cores, err := parseCores(c.Cores)
	if err != nil {
		return err
	}
	if cores == nil {
		cores = []int{0}
	}
	reactor.TuneRuntime(len(cores), 1<<30, os.Getenv)
	rig, err := bench.OpenRig(spec, bench.RigConfig{Cores: cores, Idle: reactor.Adaptive, MemoryBytes: bench.CheckMemory()})
	if err != nil {
		return err
	}
	o := bench.CheckOptions{Size: uint64(c.Size), Seconds: c.Runtime.seconds()}
	if !c.Quiet {
		o.Reporter = bench.NewReporter(os.Stderr, isTerminal(os.Stderr))
	}
	err = bench.Check(ctx, rig, o, os.Stdout)
	if e := rig.Close(); err == nil {
		err = e
	}
	return err
}

type benchSuiteCmd struct {
	Results      string     `name:"output" placeholder:"DIR" default:"bench/results" help:"Where the folder of results is made (${default})."`
	Dir          string     `placeholder:"DIR" default:"/var/tmp" help:"Where the files to measure are made, and removed again (${default})."`
	Size         byteSize   `placeholder:"SIZE" default:"1G" help:"Of each device (${default})."`
	Runs         int        `default:"3" help:"Of each load on each target (${default})."`
	Runtime      span       `placeholder:"TIME" default:"2" help:"Of each run, in seconds (${default})."`
	RampTime     span       `name:"ramp-time" placeholder:"TIME" default:"0.3" help:"Before it, not counted (${default})."`
	IdleTime     span       `name:"idle-time" placeholder:"TIME" default:"10" help:"Of each idle measurement (${default})."`
	IODepth      []int      `name:"iodepth" placeholder:"N" default:"1,8,32,128" help:"Requests in flight of the small loads (${default})."`
	Only         []string   `placeholder:"GROUP" enum:"disk,volume,amplification,snapshots,recovery,memory,null,mem,allocations,idle,tail,wake,reactors" help:"Measure these groups only: disk, volume, amplification, snapshots, recovery, memory, null, mem, allocations, idle, tail, wake, reactors."`
	RecoverySize []byteSize `name:"recovery-size" placeholder:"SIZE" default:"4G,16G,64G" help:"Mapped sizes of the volumes whose recovery is measured (${default})."`
	EngineCore   int        `name:"engine-core" placeholder:"CORE" default:"-1" help:"Core of the engine, and of loads on local devices; the last one without it."`
	ClientCore   int        `name:"client-core" placeholder:"CORE" default:"0" help:"Core of the client of remote devices (${default})."`
	Quiet        bool       `help:"Show no progress."`
}

// Run measures the machine.
func (c *benchSuiteCmd) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program, to start it as the engine: %w", err)
	}
	if c.EngineCore < 0 {
		c.EngineCore = reactor.DefaultCores()[0]
	}
	reactor.TuneRuntime(1, 1<<30, os.Getenv)
	cfg := bench.SuiteConfig{
		Exe: exe, Output: c.Results, Dir: c.Dir, Size: uint64(c.Size), Runs: c.Runs, Seconds: c.Runtime.seconds(), Ramp: c.RampTime.seconds(),
		Idle: c.IdleTime.seconds(), AllocIOs: 400000, AmplifyBytes: bench.AmplifyBytes,
		MemoryPools: bench.MemoryPools, MemoryVolumes: bench.MemoryVolumes, MemoryWrites: bench.MemoryWrites, Depths: c.IODepth, EngineCore: c.EngineCore, ClientCore: c.ClientCore, Only: c.Only, Log: os.Stderr,
	}
	for _, n := range c.RecoverySize {
		cfg.RecoverySizes = append(cfg.RecoverySizes, uint64(n))
	}
	if !c.Quiet {
		cfg.Reporter = bench.NewReporter(os.Stderr, isTerminal(os.Stderr))
	}
	dir, err := bench.Suite(ctx, cfg)
	if dir != "" {
		fmt.Println(dir)
	}
	return err
}

type benchChildCmd struct {
	Task string `arg:"" help:"As JSON."`
}

// Run does it.
func (c *benchChildCmd) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	reactor.TuneRuntime(1, 1<<30, os.Getenv)
	look := func(ctx context.Context, engine api.Caller) error {
		_, err := lookAround(ctx, engine)
		return err
	}
	return bench.RunChild(ctx, c.Task, look, os.Stdout)
}
