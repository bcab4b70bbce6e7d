package bench

import (
	"context"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/reactor"
)

// This file measures the first request after idle: what it costs that an engine sleeps when it has nothing to do. One engine serves memory
// and is in one policy after the other; the client never sleeps, so that the difference is the engine's.

// wakeRate is the requests in a second: far enough apart for the engine to sleep before each.
const wakeRate = 50

func wakeTargets() []string { return []string{"engine-poll", "engine-adaptive"} }

func (s *suite) wake(ctx context.Context) error {
	return s.engine(ctx, reactor.Adaptive, func(e *Engine) error {
		remote, err := s.remote(e, TargetSpec{Kind: "mem", Bytes: min(s.cfg.Size, tailBytes), BlockSize: 4096})
		if err != nil {
			return err
		}
		defer func() { _ = remote.Close() }()
		if err := s.touch(ctx, remote); err != nil {
			return err
		}
		w := Workload{
			RW: "randread", BlockBytes: 4096, Depth: 1, Jobs: 1, Seed: 1, RateIOPS: wakeRate, RuntimeSeconds: 2 * s.cfg.Seconds, RampSeconds: s.cfg.Ramp,
		}
		o := Options{Reporter: s.cfg.Reporter, PIDs: []int{e.PID()}}
		rows, err := Turns(ctx, []Target{&inPolicy{filled{remote}, e, reactor.Poll}, &inPolicy{filled{remote}, e, reactor.Adaptive}}, w, s.cfg.Runs, []Options{o, o})
		if err != nil {
			return err
		}
		s.report.Rows = append(s.report.Rows, rows...)
		s.report.Excesses = append(s.report.Excesses, NewExcess(&rows[1], &rows[0]))
		return nil
	})
}

// inPolicy is a target whose engine is in a policy while it is measured.
type inPolicy struct {
	Target
	e      *Engine
	policy reactor.Idle
}

// Name has the policy.
func (p *inPolicy) Name() string { return "engine-" + p.policy.String() }

// Describe tells which; the policy in it is the client's.
func (p *inPolicy) Describe() DeviceConditions {
	d := p.Target.Describe()
	d.Target = p.Name()
	d.Remote += ", in policy " + p.policy.String()
	return d
}

// Run changes the policy first.
func (p *inPolicy) Run(ctx context.Context, w Workload, o Options) (*Run, error) {
	if err := p.e.call(api.EngineSetIdlePolicy.Name, api.EngineSetIdlePolicyParams{Policy: p.policy.String()}); err != nil {
		return nil, err
	}
	return p.Target.Run(ctx, w, o)
}
