package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is what an engine tells of itself while it serves: what its reactors have done, and how a volume of its is.

// engineCounts are an engine's, of all its reactors together. They never fall.
type engineCounts struct {
	enters     float64 // system calls into the ring
	operations float64 // that ended: receptions, sends, reads and writes of the disk
}

// counts asks for them.
func (e *Engine) counts(ctx context.Context) (c engineCounts, err error) {
	reactors, err := e.Reactors(ctx)
	for i := range reactors {
		c.enters += float64(reactors[i].Enters)
		c.operations += float64(reactors[i].Completions)
	}
	return c, err
}

// serveVolume makes a pool of a file and a volume in it, and gives the name of the volume's device.
func (e *Engine) serveVolume(name string, t *TargetSpec) (device string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), engineCallMax)
	defer cancel()
	if _, err := api.BdevUringCreate.Call(ctx, e.client, api.BdevUringCreateParams{Name: name + "file", Filename: t.Path, BlockSize: t.BlockSize}); err != nil {
		return "", err
	}
	if _, err := api.PoolCreate.Call(ctx, e.client, api.PoolCreateParams{Name: name, Device: name + "file"}); err != nil {
		return "", err
	}
	v, err := api.VolumeCreate.Call(ctx, e.client, api.VolumeCreateParams{Pool: name, Name: "volume", Bytes: t.Bytes})
	e.volume = name + "/volume"
	return v.UUID, err
}

// alive says how the engine ended, "" if it did not.
func (e *Engine) alive() string {
	select {
	case <-e.ended:
		return fmt.Sprintf("it ended by itself: %v; its log ends: %s", e.err, e.logEnd())
	default:
		return ""
	}
}

// rest waits until the engine's volume has brought home what it has acknowledged.
func (e *Engine) rest(ctx context.Context) error {
	if e.volume == "" {
		return nil
	}
	return await(ctx, func() (string, error) {
		s, err := api.VolumeStatsOf.Call(ctx, e.client, api.VolumeParams{Name: e.volume})
		if err != nil || s.HomeLSN >= s.AppendedLSN {
			return "", err
		}
		return fmt.Sprintf("the engine's volume has brought home LSN %d, where it is at %d", s.AppendedLSN, s.HomeLSN), nil
	})
}

// scrub lets the engine compare all of its volume, and waits for the end.
func (e *Engine) scrub(ctx context.Context) error {
	of := api.VolumeParams{Name: e.volume}
	before, err := api.VolumeStatsOf.Call(ctx, e.client, of)
	if err != nil {
		return err
	}
	if _, err := api.VolumeScrubStart.Call(ctx, e.client, api.VolumeScrubParams{Name: e.volume}); err != nil {
		return err
	}
	return await(ctx, func() (string, error) {
		s, err := api.VolumeStatsOf.Call(ctx, e.client, of)
		if err != nil || s.Scrub.Passes > before.Scrub.Passes {
			return "", err
		}
		return fmt.Sprintf("the scrub of the engine's volume ends, which is at %s of %s", FormatBytes(s.Scrub.AtBytes), FormatBytes(s.Scrub.Bytes)), nil
	})
}

// state asks how the engine and its volume are. run is the load that was verified.
func (e *Engine) state(ctx context.Context, run *Run) (s EngineState, err error) {
	if v := run.Verify; v != nil {
		s.Blocks, s.Mismatches = v.Blocks, v.Mismatches
	}
	s.Refused = run.Errors
	of := api.VolumeParams{Name: e.volume}
	stats, err := api.VolumeStatsOf.Call(ctx, e.client, of)
	if err != nil {
		return s, err
	}
	for _, d := range stats.Admissions {
		if d.Door == "timeout" {
			s.Refused += d.Count
		} else {
			s.Changes += d.Count
		}
	}
	s.HomeErrors, s.Lag, s.Pressure = stats.HomeErrors, stats.AppendedLSN-stats.HomeLSN, stats.LogPressure
	s.LogUsed, s.LogBytes = stats.LogUsed, stats.LogBytes
	s.Scrubbed, s.ScrubErrors = stats.Scrub.Checked, stats.Scrub.AllErrors
	status, err := api.VolumeStatusOf.Call(ctx, e.client, of)
	if err != nil {
		return s, err
	}
	health, err := api.EngineGetHealth.Call(ctx, e.client, api.None{})
	if err != nil {
		return s, err
	}
	s.Volume, s.Health, s.WhyNotHealth = status.State, health.State, status.Reasons
	for _, r := range health.Reasons {
		s.WhyNotHealth = append(s.WhyNotHealth, r.Object+": "+r.Why)
	}
	return s, nil
}

// served is a device of an engine's. The engine polls while it is measured, and sleeps while others are; what its volume does afterwards is
// waited for.
type served struct {
	*Rig
	e *Engine
}

// Run carries w out.
func (s served) Run(ctx context.Context, w Workload, o Options) (*Run, error) {
	run, err := s.load(ctx, w, o)
	if err == nil {
		err = s.rest(ctx)
	}
	return run, err
}

func (s served) load(ctx context.Context, w Workload, o Options) (*Run, error) {
	idle := func(p reactor.Idle) error {
		_, err := api.EngineSetIdlePolicy.Call(ctx, s.e.client, api.EngineSetIdlePolicyParams{Policy: p.String()})
		return err
	}
	o.PIDs = []int{s.e.PID()}
	if err := idle(s.idle); err != nil {
		return nil, err
	}
	run, err := s.Rig.load(ctx, w, o)
	if e := s.e.alive(); e != "" {
		return run, errors.Join(err, fmt.Errorf("the engine died: %s", e))
	}
	return run, errors.Join(err, idle(reactor.Interrupt))
}

func (s served) rest(ctx context.Context) error { return s.e.rest(ctx) }

// counted is a run with what it cost the engine.
func (s served) counted(ctx context.Context, w Workload) (*Run, engineCounts, error) {
	before, err := s.e.counts(ctx)
	if err != nil {
		return nil, before, err
	}
	run, err := s.Run(ctx, w, Options{})
	if err != nil {
		return nil, before, err
	}
	after, err := s.e.counts(ctx)
	n := float64(run.Total.Ops)
	return run, engineCounts{(after.enters - before.enters) / n, (after.operations - before.operations) / n}, err
}
