package bench

import (
	"context"
	"errors"
)

// This file is the last group of floors: a load that is verified, over NVMe/TCP on a volume, and what the engine says of itself afterwards.

// stateBytes are written in the load that is verified.
const stateBytes = 64 << 20

func (f *floors) state(ctx context.Context, e *Engine) error {
	t := f.remote.volume
	w := Workload{RW: "randrw", ReadPercent: 50, BlockBytes: 4096, Depth: 32, Jobs: 1, Seed: 1, IOBytes: 2 * stateBytes, Verify: true, FsyncEvery: 64}
	row := t.Name() + " " + w.Name()
	run, err := t.Run(ctx, w, Options{Reporter: f.cfg.Reporter})
	if died := e.alive(); died != "" {
		f.verdict = append(f.verdict, judgeState(row, &EngineState{Died: died})...)
		return nil
	}
	if err != nil && (run == nil || !errors.Is(err, ErrFailed)) {
		return err
	}
	if err := errors.Join(e.rest(ctx), e.scrub(ctx)); err != nil {
		return err
	}
	s, err := e.state(ctx, run)
	if err != nil {
		return err
	}
	f.report.State = &s
	f.verdict = append(f.verdict, judgeState(row, &s)...)
	return nil
}
