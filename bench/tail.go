package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/reactor"
)

// This file measures the tail of one request at a time: what the Go runtime, and control work beside the reactors, cost those who wait. The
// measure is the same loop in C, in turns, without and with the same control traffic. A mean would not show it: a stall of a millisecond
// once a second is 0.1 % of the time, and the slowest of forty thousand requests.

// tailBytes is the memory that is read, if devices are to be larger.
const tailBytes = 256 << 20

// controlEveryMS is how long it is from one round of looks to the next: what Prometheus and people ask for at the most.
const controlEveryMS = 1000

func tailTargets() []string { return []string{"engine", "engine+control", "c-loop", "c-loop+control"} }

func (s *suite) tail(ctx context.Context) error {
	exe, err := buildCLoop(ctx, s.work)
	if err != nil {
		return err
	}
	spec := TargetSpec{Kind: "mem", Bytes: min(s.cfg.Size, tailBytes), BlockSize: 4096}
	w := Workload{RW: "randread", BlockBytes: 4096, Depth: 1, Jobs: 1, Seed: 1, RuntimeSeconds: 2 * s.cfg.Seconds, RampSeconds: s.cfg.Ramp}
	return s.engineAs(ctx, EngineConfig{Idle: reactor.Adaptive.String(), Metrics: true}, func(e *Engine) error {
		remote, err := s.remote(e, spec)
		if err != nil {
			return err
		}
		defer func() { _ = remote.Close() }()
		remote.As = "engine"
		if err := s.touch(ctx, remote); err != nil {
			return err
		}
		loop := &cLoop{exe: exe, serverCore: s.cfg.EngineCore, clientCore: s.cfg.ClientCore, bytes: spec.Bytes}
		traffic := &ControlTask{Socket: e.socket(), Metrics: e.metrics, EveryMS: controlEveryMS}
		there, beside := Options{Reporter: s.cfg.Reporter, PIDs: []int{e.PID()}}, Options{}
		rows, err := Turns(ctx, []Target{
			&looked{Target: filled{remote}, s: s, at: e}, &looked{Target: filled{remote}, s: s, at: e, traffic: traffic},
			loop, &looked{Target: loop, s: s, traffic: traffic},
		}, w, s.cfg.Runs, []Options{there, there, beside, beside})
		if err != nil {
			return err
		}
		s.report.Rows = append(s.report.Rows, rows...)
		for _, pair := range [][2]int{{0, 2}, {1, 2}, {1, 3}, {1, 0}, {3, 2}} {
			s.ratio(&rows[pair[0]], &rows[pair[1]])
		}
		return nil
	})
}

// touch writes all of a device once, or the first rows would measure how the kernel gives memory.
func (s *suite) touch(ctx context.Context, t Target) error {
	w := Workload{RW: "write", BlockBytes: 128 << 10, Depth: 8, Jobs: 1, Seed: 1}
	_, err := t.Run(ctx, w, Options{Label: "filling", Reporter: s.cfg.Reporter})
	return err
}

// looked is a target that is run beside control traffic, or whose engine's turns are counted.
type looked struct {
	Target
	s       *suite
	at      *Engine      // whose turns; nil: nobody's
	traffic *ControlTask // nil: none
}

// Name says whether there is control traffic.
func (l *looked) Name() string {
	if l.traffic != nil {
		return l.Target.Name() + "+control"
	}
	return l.Target.Name()
}

// Describe tells which.
func (l *looked) Describe() DeviceConditions {
	d := l.Target.Describe()
	d.Target = l.Name()
	if l.traffic != nil {
		d.Remote += fmt.Sprintf("; from a process of its own every %d ms a scrape, a look of top and one of iostat at the engine", l.traffic.EveryMS)
	}
	return d
}

// Run runs the target meanwhile.
func (l *looked) Run(ctx context.Context, w Workload, o Options) (run *Run, err error) {
	if l.traffic != nil {
		c, err := l.s.startControl(ctx, l.traffic)
		if err != nil {
			return nil, err
		}
		defer func() {
			done, e := c.stop()
			if err = errors.Join(err, e); err == nil {
				fmt.Fprintf(l.s.cfg.Log, "%s: %d rounds of looks, of %.0f us each, scrapes of %d bytes\n", l.Name(), done.Rounds, done.Micros, done.ScrapeBytes)
			}
		}()
	}
	if l.at == nil {
		return l.Target.Run(ctx, w, o)
	}
	before, err := l.at.Reactors(ctx)
	if err != nil {
		return nil, err
	}
	if run, err = l.Target.Run(ctx, w, o); err != nil {
		return run, err
	}
	after, err := l.at.Reactors(ctx)
	if err != nil {
		return nil, err
	}
	run.Turns = turnsBetween(before, after)
	return run, nil
}

// turnsBetween counts the slow turns of all reactors between two looks.
func turnsBetween(before, after []api.EngineReactor) *TurnFigures {
	f := &TurnFigures{}
	for i := range after {
		was := map[uint64]uint64{}
		if i < len(before) {
			for _, b := range before[i].SlowTurns {
				was[b.UpToNS] = b.Turns
			}
		}
		for _, b := range after[i].SlowTurns {
			if n := b.Turns - was[b.UpToNS]; n > 0 {
				f.Slow += n
				f.LongestNS = max(f.LongestNS, float64(b.UpToNS))
			}
		}
	}
	return f
}
