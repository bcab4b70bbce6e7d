package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/internal/ktrace"
)

// This file is the kernel's part of a trace: what this process, not the engine, asks the kernel to watch.

// watchKernel begins to watch what the kernel does for an engine on this machine.
func watchKernel(ctx context.Context, engine api.Caller) (*ktrace.Trace, error) {
	info, err := api.EngineGetInfo.Call(ctx, engine, api.None{})
	if err != nil {
		return nil, err
	}
	reactors, err := api.FrameworkGetReactors.Call(ctx, engine, api.None{})
	if err != nil {
		return nil, err
	}
	subsystems, err := api.NVMFGetSubsystems.Call(ctx, engine, api.NVMFGetSubsystemsParams{})
	if err != nil {
		return nil, err
	}
	target := ktrace.Target{PID: info.PID}
	for _, r := range reactors.Reactors {
		target.Threads = append(target.Threads, r.TID)
	}
	known := map[uint16]bool{}
	for _, s := range subsystems {
		for _, l := range s.ListenAddresses {
			if port, err := strconv.ParseUint(l.TrSvcID, 10, 16); err == nil && !known[uint16(port)] {
				known[uint16(port)] = true
				target.Ports = append(target.Ports, uint16(port))
			}
		}
	}
	return ktrace.Start(target)
}

// kernelText draws what the kernel did.
func kernelText(b *strings.Builder, r *ktrace.Report, histogram bool) {
	var t table
	t.columns("KERNEL", "COUNT", "MEAN", "P50", "P99", "MAX")
	row := func(name string, s *ktrace.Times) {
		if s != nil && s.Count > 0 {
			t.row(name, s.Count, span10(s.MeanNS), span10(s.P50NS), span10(s.P99NS), span10(s.MaxNS))
		}
	}
	for i := range r.Ring {
		op := &r.Ring[i]
		row("io_uring "+op.Name, &op.Times)
		row("  given to io-wq", op.Punted)
		row("  from ready on", op.Ready)
	}
	for i := range r.Block {
		row("block "+r.Block[i].Name, &r.Block[i].Times)
	}
	for i := range r.Threads {
		th := &r.Threads[i]
		name := fmt.Sprintf("reactor_%d", th.Index)
		row(name+" processor taken", &th.Taken)
		row(name+" woken, not running", &th.Woken)
		for k := range th.Soft {
			row(name+" softirq "+th.Soft[k].Name, &th.Soft[k].Times)
		}
	}
	b.WriteString(t.String())
	if histogram {
		for i := range r.Ring {
			kernelBars(b, "io_uring "+r.Ring[i].Name, &r.Ring[i].Times)
		}
		for i := range r.Block {
			kernelBars(b, "block "+r.Block[i].Name, &r.Block[i].Times)
		}
		b.WriteByte('\n')
	}
	if r.Retransmits != nil {
		fmt.Fprintf(b, "TCP sent %d segments to hosts again\n", *r.Retransmits)
	}
	if r.Lost > 0 {
		fmt.Fprintf(b, "not seen: %d operations, since too many were under way\n", r.Lost)
	}
	for _, m := range r.Missing {
		fmt.Fprintf(b, "not seen: %s: %s\n", m.What, m.Why)
	}
}

// kernelBars draws a distribution.
func kernelBars(b *strings.Builder, title string, t *ktrace.Times) {
	var buckets []api.TraceBucket
	for _, k := range t.Buckets {
		buckets = append(buckets, api.TraceBucket{UpToNS: k.UpToNS, Count: k.Count})
	}
	bars(b, title, buckets)
}
