package bench

import (
	"context"
	"fmt"

	"github.com/pollux-storage/pollux/reactor"
)

// This file measures what a second reactor adds, where there is a core for it: the load of one job on one reactor, and of two jobs on two, in
// this process and without a network. What is below 2 is what reactors share: the device, the memory, and the machine.

// reactorsName is the target of a kind on so many reactors.
func reactorsName(kind string, n int) string { return fmt.Sprintf("%s-r%d", kind, n) }

func reactorsTargets() (names []string) {
	for _, kind := range []string{"null", "mem"} {
		names = append(names, reactorsName(kind, 1), reactorsName(kind, 2))
	}
	return names
}

func (s *suite) reactors(ctx context.Context) error {
	if s.cfg.EngineCore == s.cfg.ClientCore {
		fmt.Fprintf(s.cfg.Log, "bench suite, reactors: core %d is all that may be used; a second reactor needs another\n", s.cfg.EngineCore)
		return nil
	}
	for _, kind := range []string{"null", "mem"} {
		if err := s.reactorsOf(ctx, kind); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) reactorsOf(ctx context.Context, kind string) error {
	var targets []Target
	cores := []int{s.cfg.EngineCore, s.cfg.ClientCore}
	for n := 1; n <= len(cores); n++ {
		spec := TargetSpec{Kind: kind, Bytes: min(s.cfg.Size, tailBytes), BlockSize: 4096}
		rig, err := OpenRig(spec, RigConfig{Cores: cores[:n], Idle: reactor.Poll, MemoryBytes: s.cfg.memoryBytes()})
		if err != nil {
			return err
		}
		defer func() { _ = rig.Close() }()
		rig.As = reactorsName(kind, n)
		if kind == "mem" {
			if err := s.touch(ctx, rig); err != nil {
				return err
			}
		}
		targets = append(targets, &onEach{rig, n})
	}
	w := Workload{RW: "randread", BlockBytes: 4096, Depth: 32, Jobs: 1, Seed: 1, RuntimeSeconds: s.cfg.Seconds, RampSeconds: s.cfg.Ramp}
	o := Options{Reporter: s.cfg.Reporter}
	rows, err := Turns(ctx, targets, w, s.cfg.Runs, []Options{o, o})
	if err != nil {
		return err
	}
	s.report.Rows = append(s.report.Rows, rows...)
	s.ratio(&rows[1], &rows[0])
	return nil
}

// onEach is a target whose load has a job on each of its reactors.
type onEach struct {
	Target
	jobs int
}

// Run multiplies the jobs.
func (t *onEach) Run(ctx context.Context, w Workload, o Options) (*Run, error) {
	w.Jobs = t.jobs
	return t.Target.Run(ctx, w, o)
}
