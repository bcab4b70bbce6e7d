package ctl

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/reactor"
)

// This file samples the depth of devices' queues, for who asked for it with bdev_set_qd_sampling_period. A sample counts for
// the time since the one before, which is at least the period: so the sums are right where the engine is too busy for a short
// one. Each sample asks all reactors: a short period keeps them awake.

// depths are the devices that are sampled.
type depths struct {
	mu sync.Mutex
	of map[string]*depth
}

type depth struct {
	device *bdev.Device
	period time.Duration
	stop   chan struct{}

	mu             sync.Mutex
	busy, weighted reactor.Ticks
}

// depthPeriodMax is the longest period that can be set, a day.
const depthPeriodMax = 24 * time.Hour

func (e *Engine) sampleDepth(_ context.Context, p *api.BdevSetQDSamplingPeriodParams) error {
	d, err := e.Bdevs.Lookup(p.Name)
	if err != nil {
		return codeOf(err)
	}
	if p.Period > uint64(depthPeriodMax/time.Microsecond) {
		return api.Errno(22, "sampling the queue depth of %s: a period of %d us; at most a day", d.Name(), p.Period)
	}
	e.depths.set(d, time.Duration(p.Period)*time.Microsecond)
	if again, err := e.Bdevs.Lookup(d.Name()); err != nil || again != d { // it went while this began
		e.depths.set(d, 0)
	}
	return nil
}

// set begins to sample a device, or ends it where the period is 0. The sums begin anew.
func (s *depths) set(d *bdev.Device, period time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.of[d.Name()]; old != nil && (old.device == d || period > 0) {
		close(old.stop)
		delete(s.of, d.Name())
	}
	if period == 0 {
		return
	}
	if s.of == nil {
		s.of = map[string]*depth{}
	}
	one := &depth{device: d, period: period, stop: make(chan struct{})}
	s.of[d.Name()] = one
	go one.run()
}

func (s *depth) run() {
	tick := time.NewTicker(s.period)
	defer tick.Stop()
	last := reactor.Clock()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		n := s.device.InFlight()
		now := reactor.Clock()
		s.sample(n, now-last)
		last = now
	}
}

func (s *depth) sample(inFlight int, span reactor.Ticks) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if inFlight > 0 {
		s.busy += span
		s.weighted += span * reactor.Ticks(inFlight)
	}
}

// tell adds what was sampled of a device to its counters.
func (s *depths) tell(device string, st *api.Iostat) {
	s.mu.Lock()
	one := s.of[device]
	s.mu.Unlock()
	if one == nil {
		return
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	period, busy, weighted := uint64(one.period/time.Microsecond), uint64(one.busy/reactor.Microsecond), uint64(one.weighted/reactor.Microsecond)
	st.QueueDepthPollingPeriod, st.IOTime, st.WeightedIOTime = &period, &busy, &weighted
}

// config gives the calls that begin the sampling again.
func (s *depths) config() []api.ConfigCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []api.ConfigCall
	for name, one := range s.of {
		out = append(out, api.BdevSetQDSamplingPeriod.Config(api.BdevSetQDSamplingPeriodParams{Name: name, Period: uint64(one.period / time.Microsecond)}))
	}
	slices.SortFunc(out, func(a, b api.ConfigCall) int { return strings.Compare(string(a.Params), string(b.Params)) })
	return out
}
