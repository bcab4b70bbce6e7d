package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/pollux-storage/pollux/bench"
	"github.com/pollux-storage/pollux/reactor"
)

type benchPeersCmd struct {
	Target []string       `group:"target" required:"" sep:"none" placeholder:"NAME=TARGET" help:"A target, given twice or more: tcp://127.0.0.1:4420/NQN (or rdma://…) is whoever serves there, engine:mem:1G (null:1G, uring:PATH) an engine that is started for it, engine-iscsi:mem:1G one that serves it over iSCSI, iscsi://127.0.0.1:3260/IQN/LUN whoever serves there, by libiscsi's programs, raw:/dev/nvme0n1 a block device by fio, such as one of the kernel's initiator. The first is compared to each other that has the same client; NAME@GROUP= makes groups of which each has a first. What is on them is lost."`
	PID    map[string]int `group:"target" name:"pid" placeholder:"NAME=PID" help:"Process of a target, whose processor time is the target's."`
	Pause  bool           `group:"target" help:"Stop (SIGSTOP) each target whose process is known while another is measured, so that those that poll can have the same core. Engines that are started here are, too."`

	RW         []string `group:"load" name:"rw" default:"randread,randwrite,randrw,read,write" help:"Loads: randread, randwrite, randrw (70 % reads) of 4 KiB, read and write of 128 KiB in sequence (${default}). With one that writes, each target is filled first."`
	IODepth    []int    `group:"load" name:"iodepth" placeholder:"N" default:"1,8,32,128" help:"Requests in flight of the small ones (${default})."`
	LargeDepth []int    `group:"load" name:"large-iodepth" placeholder:"N" default:"8" help:"And of the large ones (${default})."`
	Runtime    span     `group:"load" placeholder:"TIME" default:"2" help:"Of each run, in seconds (${default})."`
	RampTime   span     `group:"load" name:"ramp-time" placeholder:"TIME" default:"0.3" help:"Before it, not counted (${default}). Runs by fio whose target's processor time is counted have none."`
	Runs       int      `group:"load" default:"5" help:"Pairs of runs of each load (${default})."`

	Cores       string `group:"machine" placeholder:"LIST" default:"0" help:"Cores of the client (${default})."`
	Idle        string `group:"machine" enum:"poll,adaptive,interrupt" default:"poll" help:"What the client's reactors do without work (${default})."`
	EngineCores string `group:"machine" name:"engine-cores" placeholder:"LIST" help:"Cores of engines that are started here; the last one without it."`
	EngineIdle  string `group:"machine" name:"engine-idle" enum:"poll,adaptive,interrupt" default:"adaptive" help:"And what they do without work (${default})."`
	Machine     bool   `group:"machine" help:"Count a target's processor time as that of the whole machine without the client's: for one that is no process, such as the kernel's."`
	TargetCPUs  string `group:"machine" name:"target-cpus" placeholder:"LIST" help:"Count it as the busy time of these processors: the targets, and nothing of the client, have to work there."`

	Results string `group:"result" placeholder:"DIR" help:"Make a folder of results there: report.json, results.md."`
	As      string `group:"result" placeholder:"NAME" help:"What it is called behind the date; after the machine without it."`
	Note    string `group:"result" placeholder:"TEXT" help:"What else the results should say of their conditions."`
	Output  string `group:"result" enum:"table,json" default:"table" help:"table or json (${default})."`
	Quiet   bool   `group:"result" help:"Show no progress."`
}

// config is what the flags ask for.
func (c *benchPeersCmd) config() (cfg bench.PeersConfig, err error) {
	cfg = bench.PeersConfig{Runs: c.Runs, EngineCores: c.EngineCores, Pause: c.Pause, Note: c.Note}
	left := map[string]int{}
	for name, pid := range c.PID {
		left[name] = pid
	}
	for _, s := range c.Target {
		p, err := bench.ParsePeer(s)
		if err != nil {
			return cfg, err
		}
		p.PID = c.PID[p.Name]
		delete(left, p.Name)
		cfg.Targets = append(cfg.Targets, p)
	}
	for name := range left {
		return cfg, fmt.Errorf("pid %s=%d: no target is called so", name, left[name])
	}
	if cfg.Loads, err = bench.PeerLoads(c.RW, c.IODepth, c.LargeDepth, c.Runtime.seconds(), c.RampTime.seconds()); err != nil {
		return cfg, err
	}
	if cfg.Client, err = parseCores(c.Cores); err != nil {
		return cfg, err
	}
	if len(cfg.Client) == 0 {
		return cfg, errors.New("cores: the client needs one")
	}
	if cfg.EngineCores == "" {
		cfg.EngineCores = fmt.Sprint(reactor.DefaultCores()[0])
	}
	if cfg.ClientIdle, err = reactor.ParseIdle(c.Idle); err != nil {
		return cfg, err
	}
	if cfg.EngineIdle, err = reactor.ParseIdle(c.EngineIdle); err != nil {
		return cfg, err
	}
	target, err := parseCores(c.TargetCPUs)
	if err != nil {
		return cfg, err
	}
	if c.Machine || target != nil {
		cfg.Machine = &bench.MachineTime{Target: target}
	}
	return cfg, nil
}

// Run compares.
func (c *benchPeersCmd) Run() error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	if cfg.Exe, err = os.Executable(); err != nil {
		return fmt.Errorf("finding this program, to start it as the engine: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if !c.Quiet {
		cfg.Reporter = bench.NewReporter(os.Stderr, isTerminal(os.Stderr))
	}
	reactor.TuneRuntime(len(cfg.Client), 1<<30, os.Getenv)
	report, err := bench.Peers(ctx, cfg)
	if report == nil || len(report.Rows) == 0 {
		return err
	}
	return errors.Join(err, c.show(report))
}

// show prints and keeps the report.
func (c *benchPeersCmd) show(report *bench.Report) error {
	if c.Output == "json" {
		b, err := report.Encode()
		if err != nil {
			return err
		}
		if _, err := os.Stdout.Write(b); err != nil {
			return err
		}
	} else if err := report.WritePeers(os.Stdout); err != nil {
		return err
	}
	if c.Results == "" {
		return nil
	}
	if c.As == "" {
		c.As = report.Conditions.Machine.Slug() + "-peers"
	}
	dir, err := report.SavePeers(c.Results, c.As)
	if err == nil {
		fmt.Fprintln(os.Stderr, dir)
	}
	return err
}
