package ctl

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the methods about traces. There is one at a time. It belongs to no client: one that is left alone ends when its time has passed,
// and what it found is forgotten five minutes after its end.

// traces are those of an engine.
type traces struct {
	mu      sync.Mutex
	run     *traceRun   // the present one, running or ended; nil: none
	forgets *time.Timer // the present one, once it has ended
	made    int         // for names
}

// traceRun is one trace.
type traceRun struct {
	name    string
	sample  uint32
	began   time.Time
	ticks   reactor.Ticks // the same moment, as reactors count
	limit   time.Duration
	cancel  context.CancelFunc
	ended   chan struct{} // closed when it has ended and all is added up
	tracing *nvmf.Tracing

	mu     sync.Mutex
	sum    *traceSum
	counts nvmf.TraceCounts
	took   time.Duration // that it ran, once it has ended
	err    error         // why it ended early, or not in order
}

// Times of a trace.
const (
	traceTake = 25 * time.Millisecond // between two times that records are taken from the reactors
	traceKeep = 5 * time.Minute       // what was found is kept after the end
)

func (e *Engine) registerTraces() {
	Register(e.Methods, api.TraceStart, func(_ context.Context, p *api.TraceStartParams) (api.TraceStarted, error) { return e.startTrace(p) })
	RegisterDo(e.Methods, api.TraceStop, func(_ context.Context, p *api.TraceParams) error {
		t, err := e.traces.find(p.Trace)
		if err != nil {
			return err
		}
		return t.stop()
	})
	Register(e.Methods, api.TraceRead, func(_ context.Context, p *api.TraceReadParams) (api.Trace, error) { return e.readTrace(p) })
}

func (e *Engine) startTrace(p *api.TraceStartParams) (api.TraceStarted, error) {
	ts := &e.traces
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.run; t != nil && t.running() {
		return api.TraceStarted{}, api.Reason("ErrBusy", "start a trace: %s runs until %s; read it with trace_read, or end it with trace_stop", t.name, t.ends().Format(time.RFC3339))
	}
	tracing, err := e.Target.Trace(p.Sample)
	if err != nil {
		return api.TraceStarted{}, codeOf(err)
	}
	ts.made++
	t := &traceRun{
		name: fmt.Sprintf("trace%d", ts.made), sample: p.Sample, began: time.Now(), ticks: reactor.Clock(), limit: time.Duration(p.Seconds) * time.Second,
		ended: make(chan struct{}), tracing: tracing, sum: newTraceSum(int(p.Slowest)),
	}
	var ctx context.Context
	ctx, t.cancel = context.WithTimeout(e.life, t.limit)
	if ts.forgets != nil {
		ts.forgets.Stop() // the timer would keep the trace before this one
		ts.forgets = nil
	}
	ts.run = t
	go func() {
		t.gather(ctx)
		ts.mu.Lock()
		defer ts.mu.Unlock()
		if ts.run == t {
			ts.forgets = time.AfterFunc(traceKeep, func() { ts.forget(t) })
		}
	}()
	return api.TraceStarted{Trace: t.name, Ends: t.ends().Format(time.RFC3339)}, nil
}

// find gives a trace by its name; the present one has no need of it.
func (ts *traces) find(name string) (*traceRun, error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.run; t != nil && (name == "" || name == t.name) {
		return t, nil
	}
	if name == "" {
		name = "a trace"
	}
	return nil, api.Reason("ErrNotFound", "look for %s: there is none, or it ended long ago; begin one with trace_start", name)
}

func (ts *traces) forget(t *traceRun) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.run == t {
		ts.run = nil
	}
}

// close waits for the end of a trace that the end of the engine ends.
func (ts *traces) close() {
	ts.mu.Lock()
	t := ts.run
	ts.mu.Unlock()
	if t != nil {
		<-t.ended
	}
}

func (t *traceRun) ends() time.Time { return t.began.Add(t.limit) }

func (t *traceRun) running() bool {
	select {
	case <-t.ended:
		return false
	default:
		return true
	}
}

// stop ends it, and returns when all that it found is added up.
func (t *traceRun) stop() error {
	t.cancel()
	<-t.ended
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// gather adds up what the reactors find until ctx ends.
func (t *traceRun) gather(ctx context.Context) {
	defer close(t.ended)
	defer t.cancel()
	tick := time.NewTicker(traceTake)
	defer tick.Stop()
	var err error
	for ctx.Err() == nil && err == nil {
		select {
		case <-tick.C:
			err = t.take()
		case <-ctx.Done():
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = errors.Join(err, t.tracing.Stop())
	if t.err == nil {
		t.err = t.takeLocked()
	}
	t.took = time.Since(t.began)
	t.tracing = nil // its records are megabytes for each reactor
}

// take adds up what has finished since the last time.
func (t *traceRun) take() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.takeLocked()
}

func (t *traceRun) takeLocked() (err error) {
	t.counts, err = t.tracing.Take(t.sum.add)
	return err
}

func (e *Engine) readTrace(p *api.TraceReadParams) (api.Trace, error) {
	t, err := e.traces.find(p.Trace)
	if err != nil {
		return api.Trace{}, err
	}
	device := p.Device
	if device != "" {
		if d, err := e.Bdevs.Lookup(device); err == nil {
			device = d.Name() // it may be gone, and was there
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.took == 0 {
		if err := t.takeLocked(); err != nil {
			return api.Trace{}, err
		}
	}
	out := api.Trace{
		Schema: api.TraceSchema, Version: api.TraceVersion, Trace: t.name, State: "running", Started: t.began.Format(time.RFC3339), Seconds: time.Since(t.began).Seconds(),
		Sample: t.sample, Seen: t.counts.Seen, Finished: t.counts.Finished, Lost: t.counts.Lost, Unfinished: t.counts.Unfinished,
	}
	if t.took > 0 {
		out.State, out.Seconds = "ended", t.took.Seconds()
	}
	var slowest []nvmf.TraceRecord
	out.Groups, slowest = t.sum.fold(p, device)
	for i := range slowest {
		out.Slowest = append(out.Slowest, t.command(&slowest[i]))
	}
	e.nameTraced(&out)
	return out, nil
}

// nameTraced says of each device what people call it.
func (e *Engine) nameTraced(t *api.Trace) {
	for i := range t.Groups {
		g := &t.Groups[i]
		g.Alias = e.aliasOf(g.Device)
		for _, s := range g.Stages {
			for k := range s.Layers {
				s.Layers[k].Alias = e.aliasOf(s.Layers[k].Device)
			}
		}
	}
	for i := range t.Slowest {
		c := &t.Slowest[i]
		c.Alias = e.aliasOf(c.Device)
		for _, s := range c.Stages {
			for k := range s.Layers {
				s.Layers[k].Alias = e.aliasOf(s.Layers[k].Device)
			}
		}
	}
}

// aliasOf is what people call a volume, whose device has a UUID for a name.
func (e *Engine) aliasOf(device string) string {
	if d, err := e.Bdevs.Lookup(device); err == nil && len(d.Aliases()) > 0 {
		return d.Aliases()[0]
	}
	return ""
}

// command tells of one command whole.
func (t *traceRun) command(r *nvmf.TraceRecord) api.TraceCommand {
	c := api.TraceCommand{
		Kind: traceKind(r), Device: r.Device, Blocks: r.Blocks, Bytes: r.Bytes, Status: r.Status.String(), Host: r.Host, CNTLID: uint16(r.CNTLID), QID: uint16(r.QID),
		Reactor: reactorName(r.Reactor), Began: t.began.Add(time.Duration(r.Began - t.ticks)).Format(time.RFC3339Nano), TotalNS: uint64(r.Total), Stages: commandSpans(r),
	}
	if r.Blocks > 0 {
		lba := r.LBA
		c.LBA = &lba
	}
	return c
}
