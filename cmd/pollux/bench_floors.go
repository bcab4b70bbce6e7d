package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pollux-storage/pollux/bench"
	"github.com/pollux-storage/pollux/reactor"
)

type benchFloorsCmd struct {
	Dir        string   `placeholder:"DIR" default:"/var/tmp" help:"Where the files to measure are made, and removed again (${default})."`
	Size       byteSize `placeholder:"SIZE" default:"128M" help:"Of each device (${default})."`
	Rounds     int      `default:"3" help:"Runs of each load (${default}), and as many again each time that something fails."`
	Attempts   int      `default:"3" help:"How often a load is measured that fails, before it has failed (${default})."`
	Runtime    span     `placeholder:"TIME" default:"0.3" help:"Of each run that is timed, in seconds (${default})."`
	Noise      float64  `placeholder:"PERCENT" default:"20" help:"Of a core that others may have of the cores of a run, for it to say something (${default})."`
	Only       []string `placeholder:"GROUP" enum:"gates,ratios,costs,state" help:"These groups only: gates, ratios, costs, state."`
	Baselines  string   `placeholder:"FILE" default:"bench/baselines.jsonl" help:"Ratios that may not fall (${default})."`
	Append     bool     `help:"Add the ratios found to the baselines, when nothing else fails. Take a quiet machine, and more rounds."`
	Because    string   `placeholder:"WHY" help:"With --append: why a ratio may be worse than its last baseline."`
	Save       string   `placeholder:"FILE" help:"Write the report there, as JSON."`
	Delay      span     `placeholder:"TIME" help:"Let each read and write of the local file take so much longer, to see the gates fail."`
	EngineCore int      `name:"engine-core" placeholder:"CORE" default:"-1" help:"Core of the engine, and of loads on local devices; the last one without it."`
	ClientCore int      `name:"client-core" placeholder:"CORE" default:"0" help:"Core of the client of remote devices (${default})."`
	Quiet      bool     `help:"Show no progress."`
}

// Run measures and judges.
func (c *benchFloorsCmd) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if c.Rounds < bench.RunsMin || c.Attempts < 1 {
		return fmt.Errorf("--rounds %d --attempts %d: at least %d and 1", c.Rounds, c.Attempts, bench.RunsMin)
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program, to start it as the engine: %w", err)
	}
	baselines, err := bench.LoadBaselines(c.Baselines)
	if err != nil {
		return err
	}
	if c.EngineCore < 0 {
		c.EngineCore = reactor.DefaultCores()[0]
	}
	reactor.TuneRuntime(1, 1<<30, os.Getenv)
	cfg := bench.FloorsConfig{
		Exe: exe, Dir: c.Dir, Size: uint64(c.Size), Rounds: c.Rounds, Attempts: c.Attempts, Seconds: c.Runtime.seconds(), EngineCore: c.EngineCore, ClientCore: c.ClientCore,
		Only: c.Only, Baselines: baselines, NoiseMax: c.Noise, Delay: time.Duration(c.Delay), Log: os.Stderr,
	}
	if !c.Quiet && isTerminal(os.Stderr) {
		cfg.Reporter = bench.NewReporter(os.Stderr, true)
	}
	report, err := bench.Floors(ctx, cfg)
	err = errors.Join(err, report.WriteVerdicts(os.Stdout))
	if c.Save != "" {
		b, e := report.Encode()
		if e == nil {
			e = os.WriteFile(c.Save, b, 0o644)
		}
		err = errors.Join(err, e)
	}
	if err != nil {
		return err
	}
	failed := report.FailedVerdicts()
	if c.Append {
		return c.append(report, baselines, failed)
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d figures are past their limits; the first: %s, %s", len(failed), failed[0].Row, failed[0].Figure)
	}
	return nil
}

// append adds what was found to the baselines. Ratios that failed may be among it, if somebody says why.
func (c *benchFloorsCmd) append(report *bench.Report, old *bench.Baselines, failed []bench.Verdict) error {
	for _, v := range failed {
		if v.Group != "ratios" {
			return fmt.Errorf("no baselines are made of a run in which something fails: %s, %s", v.Row, v.Figure)
		}
	}
	lines, err := report.Baselines(old, time.Now().UTC().Format(time.DateOnly), strings.TrimSpace(c.Because))
	if err != nil {
		return err
	}
	return bench.AppendBaselines(c.Baselines, lines)
}
