package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/internal/ktrace"
)

// This file is the command; trace_print.go draws what the engine answers.

type traceCmd struct {
	engineFlags
	outputFlags
	Seconds   uint32   `default:"5" help:"How long to look (${default})."`
	Sample    uint32   `default:"64" placeholder:"N" help:"Look closely at one of N commands (${default}); docs/trace.md says what it costs."`
	By        []string `enum:"kind,device,queue" default:"kind" placeholder:"WHAT" help:"What each table has in common: kind, device, queue, or several of them (${default})."`
	Kind      string   `placeholder:"KIND" help:"Only these commands, such as read, write or flush."`
	Device    string   `placeholder:"NAME" help:"Only those of this block device."`
	Host      string   `placeholder:"NQN" help:"Only those of this host."`
	Slowest   uint32   `default:"5" placeholder:"K" help:"Show the K slowest of the commands that were looked at, stage by stage (${default})."`
	Histogram bool     `help:"Draw how the times are distributed."`
	Kernel    bool     `negatable:"" default:"true" help:"Watch the kernel too, where it lets who asks: io_uring, block devices, what keeps reactors from running."`
}

// Run looks, and prints what was seen. An interrupt ends the looking early.
func (c *traceCmd) Run() error {
	switch {
	case c.Seconds == 0:
		return errors.New("trace commands: 0 seconds are no time; write for example --seconds 5")
	case c.Seconds > traceSecondsMax:
		return fmt.Errorf("trace commands: %d seconds are too long; an hour (%d) is the most", c.Seconds, traceSecondsMax)
	case c.Sample == 0:
		return errors.New("trace commands: one of 0 is none; write --sample 1 for all of them")
	}
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report, err := c.look(ctx, engine)
	if err != nil {
		return err
	}
	if c.Output == "json" {
		return printJSON(os.Stdout, report)
	}
	_, err = io.WriteString(os.Stdout, report.text(c.Histogram))
	return err
}

// traceReport is all that is seen in a trace.
type traceReport struct {
	api.Trace
	Kernel   *ktrace.Report `json:"kernel,omitempty"`
	NoKernel string         `json:"no_kernel,omitempty" doc:"why there is no kernel"`
}

// A trace lasts at most as long as the engine allows one to, and should this process end without its word no longer than a few seconds more.
const (
	traceSecondsMax = 3600
	traceGrace      = 5
)

// look traces for the time that was asked for, or until ctx ends.
func (c *traceCmd) look(ctx context.Context, engine api.Caller) (*traceReport, error) {
	report := &traceReport{}
	kernel, err := c.watch(ctx, engine)
	if err != nil {
		report.NoKernel = err.Error()
	}
	if kernel != nil {
		defer kernel.Close()
	}
	began, err := api.TraceStart.Call(ctx, engine, api.TraceStartParams{Sample: c.Sample, Seconds: min(c.Seconds+traceGrace, traceSecondsMax), Slowest: max(c.Slowest, 1)})
	if err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(c.Seconds) * time.Second):
	}
	ctx = context.WithoutCancel(ctx)
	if _, err := api.TraceStop.Call(ctx, engine, api.TraceParams{Trace: began.Trace}); err != nil {
		return nil, err
	}
	if kernel != nil {
		if report.Kernel, err = kernel.Read(); err != nil {
			report.NoKernel = err.Error()
		}
	}
	report.Trace, err = api.TraceRead.Call(ctx, engine, api.TraceReadParams{
		Trace: began.Trace, By: c.By, Kind: c.Kind, Device: c.Device, Host: c.Host, Slowest: &c.Slowest, Histogram: c.Histogram || c.Output == "json",
	})
	return report, err
}

// watch begins to watch the kernel, if that was asked for and the engine runs here.
func (c *traceCmd) watch(ctx context.Context, engine api.Caller) (*ktrace.Trace, error) {
	switch {
	case !c.Kernel:
		return nil, nil
	case c.Server != "":
		return nil, errors.New("watch the kernel: the engine is on another machine; run pollux trace there")
	}
	return watchKernel(ctx, engine)
}

// text is the report for people.
func (r *traceReport) text(histogram bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%.1f s, %d commands; one of %d was looked at, %d in all\n", r.Seconds, r.Seen, r.Sample, r.Finished)
	if r.Lost > 0 {
		fmt.Fprintf(&b, "%d more could not be looked at; with a larger --sample none are missed\n", r.Lost)
	}
	if len(r.Groups) == 0 {
		b.WriteString("no command was looked at: do hosts use the engine?\n")
	}
	for i := range r.Groups {
		b.WriteByte('\n')
		groupText(&b, &r.Groups[i], histogram)
	}
	if len(r.Slowest) > 0 {
		b.WriteByte('\n')
		slowestText(&b, r.Slowest)
	}
	if r.Kernel != nil {
		b.WriteByte('\n')
		kernelText(&b, r.Kernel, histogram)
	}
	if r.NoKernel != "" {
		fmt.Fprintf(&b, "\nwithout the kernel's part: %s\n", r.NoKernel)
	}
	return b.String()
}
