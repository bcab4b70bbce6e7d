package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// phases carries the run through its phases: ramp, load, verify.
func (r *run) phases(ctx context.Context) error {
	samples := usageSamples()
	if !r.o.VerifyOnly {
		r.begin = reactor.Clock()
		measure := r.p.RampSeconds == 0
		if measure {
			r.before = processUsageNow(samples, &r.o)
		}
		r.each(func(j *job) {
			if measure {
				r.measure(j)
			}
			j.load()
		})
		var ramp *time.Timer
		if !measure {
			ramp = time.NewTimer(time.Duration(r.p.RampSeconds * float64(time.Second)))
			defer ramp.Stop()
		}
		err := r.await(ctx, "load", ramp, func() {
			r.before = processUsageNow(samples, &r.o)
			r.each(r.measure)
		})
		r.after = processUsageNow(samples, &r.o)
		if err != nil {
			return err
		}
	}
	if r.p.Verify && !r.o.NoReadBack && r.sound() {
		r.begin = reactor.Clock()
		r.each((*job).verify)
		return r.await(ctx, "verify", nil, nil)
	}
	return nil
}

// measure opens the reactor's window with its first job. It runs on the reactor.
func (r *run) measure(j *job) {
	if w := j.window; w.begin.at == 0 {
		w.begin = usageOf(w.r)
	}
	j.measure()
}

// sound reports whether everything went well so far, or does not matter.
func (r *run) sound() bool {
	for _, j := range r.jobs {
		if (j.errors > 0 || j.mismatches > 0) && !r.p.ContinueOnError {
			return false
		}
	}
	return true
}

// each runs f for each job on its reactor.
func (r *run) each(f func(j *job)) {
	for _, j := range r.jobs {
		_ = j.r.Call(func() { f(j) })
	}
}

// await returns when all jobs are idle. Jobs that end for an error or because ctx did take the others with them.
func (r *run) await(ctx context.Context, phase string, ramp *time.Timer, rampEnd func()) error {
	var rampC <-chan time.Time
	if ramp != nil {
		rampC = ramp.C
	}
	var report <-chan time.Time
	if r.o.Reporter != nil {
		t := time.NewTicker(reportEvery)
		defer t.Stop()
		report = t.C
		defer func() { r.report(phase, true) }()
	}
	var drain *time.Timer // since the phase should be over
	var drainC, overC <-chan time.Time
	over := func() {
		if drain == nil {
			drain = time.NewTimer(r.s.Drain)
			drainC = drain.C
		}
	}
	defer func() {
		if drain != nil {
			drain.Stop()
		}
	}()
	runtime := func() {
		if r.p.RuntimeSeconds > 0 && phase == "load" {
			overC = time.After(time.Duration(r.p.RuntimeSeconds * float64(time.Second)))
		}
	}
	if ramp == nil {
		runtime()
	}
	var err error
	done := ctx.Done()
	aborted := false
	for idle := 0; idle < len(r.jobs); {
		select {
		case j := <-r.ended:
			idle++
			if (j.errors > 0 || j.mismatches > 0) && !r.p.ContinueOnError {
				r.each((*job).stop)
				over()
			}
		case <-rampC:
			rampC = nil
			rampEnd()
			runtime()
		case <-overC:
			overC = nil
			over()
		case <-report:
			r.report(phase, false)
		case <-done:
			done, err = nil, context.Cause(ctx)
			r.each((*job).stop)
			over()
		case <-drainC:
			if aborted {
				return r.stuck()
			}
			aborted = true
			r.each((*job).abort)
			drain.Reset(r.s.Drain)
		}
	}
	return err
}

func (r *run) stuck() error {
	n := 0
	r.each(func(j *job) { n += j.inFlight })
	return fmt.Errorf("%w: %d are in flight %v after the run was over, half of it after they were aborted", ErrStuck, n, 2*r.s.Drain)
}

// report tells the reporter how far the phase is.
func (r *run) report(phase string, end bool) {
	c := counted{at: reactor.Clock()}
	var issued, left float64
	ramping := false
	r.each(func(j *job) {
		for k := range j.stats {
			c.ops += j.stats[k].ops
			c.bytes += j.stats[k].bytes
		}
		issued += float64(j.issued)
		ramping = ramping || !j.measuring && j.state == jobLoad
		if phase == "verify" {
			left += j.verifyLeft()
			c.bytes += j.verified << j.plan.shift
			c.ops += j.verified
		}
	})
	p := Progress{Label: r.o.Label, Phase: phase}
	switch {
	case end:
		p.Share = 1
	case phase == "verify":
		p.Share = 1 - left/float64(len(r.jobs))
	case ramping:
		p.Phase = "ramp"
		p.Share = seconds(c.at-r.begin) / r.p.RampSeconds
	default:
		if s := r.p.RuntimeSeconds; s > 0 {
			p.Share = (seconds(c.at-r.begin) - r.p.RampSeconds) / s
		}
		if n := r.p.limit; n > 0 {
			p.Share = max(p.Share, issued/float64(n)/float64(len(r.jobs)))
		}
	}
	p.Share = min(max(p.Share, 0), 1)
	if last := r.counted; last.at > 0 && c.at > last.at && c.ops >= last.ops {
		p.IOPS = float64(c.ops-last.ops) / seconds(c.at-last.at)
		p.BytesPerSecond = float64(c.bytes-last.bytes) / seconds(c.at-last.at)
	}
	r.counted = c
	r.o.Reporter.Report(p)
}

// figures adds up what the jobs counted. The jobs are idle.
func (r *run) figures() *Run {
	f := &Run{Kinds: map[string]KindFigures{}, state: r.state}
	var kinds [bdev.Kinds]kindCount
	total := new(kindCount)
	first, last := reactor.Ticks(-1), reactor.Ticks(0)
	for _, j := range r.jobs {
		if j.measuring {
			if first < 0 || j.opened < first {
				first = j.opened
			}
			last = max(last, j.last)
		}
		for k := range j.stats {
			kinds[k].add(&j.stats[k])
		}
		if j.errors > 0 && f.Errors == 0 {
			e := &j.firstError
			f.FirstError = fmt.Sprintf("job %d: %v of LBA %d: %v", j.number, e.kind, e.lba, e.status)
			if e.detail != 0 {
				f.FirstError += fmt.Sprintf(" (detail %#x)", e.detail)
			}
		}
		f.Errors += j.errors
		if r.p.Verify {
			if f.Verify == nil {
				f.Verify = &VerifyFigures{}
			}
			f.Verify.Blocks += j.verified
			f.Verify.Mismatches += j.mismatches
			f.Verify.First = append(f.Verify.First, j.firstWrongs...)
		}
	}
	if last > first && first >= 0 {
		f.Seconds = seconds(last - first)
	}
	for k, name := range kindNames {
		if c := &kinds[k]; c.ops+c.errors > 0 {
			f.Kinds[name] = c.figures(f.Seconds)
			if k != bdev.Flush {
				total.add(c)
			}
		}
	}
	f.Total = total.figures(f.Seconds)
	r.costs(f)
	return f
}

// costs adds what the run cost.
func (r *run) costs(f *Run) {
	var enters uint64
	for _, w := range r.windows {
		if w.begin.at == 0 || w.end.at == 0 {
			continue
		}
		x := w.begin.figures(&w.end, w.r.Core())
		enters += x.Enters
		f.Reactors = append(f.Reactors, x)
	}
	n := float64(f.Total.Ops)
	if n == 0 || f.Seconds == 0 {
		return
	}
	a, b := &r.after, &r.before
	f.EntersPerIO = float64(enters) / n
	f.AllocsPerIO = float64(a.allocs-b.allocs) / n
	f.GCCycles = a.gcs - b.gcs
	f.CPU = CPUFigures{
		UserPercent:   100 * seconds(a.user-b.user) / f.Seconds,
		SystemPercent: 100 * seconds(a.system-b.system) / f.Seconds,
		MicrosPerIO:   1e6 * seconds(a.user+a.system-b.user-b.system) / n,
	}
	if r.o.Machine != nil {
		f.Machine = b.machine.figures(&a.machine, a.user+a.system-b.user-b.system, f.Total.Ops, r.o.Machine)
	}
	for i := range a.others {
		if i < len(b.others) {
			t := seconds(a.others[i].User + a.others[i].System - b.others[i].User - b.others[i].System)
			f.Others = append(f.Others, ProcessFigures{a.others[i].Name, 100 * t / f.Seconds, 1e6 * t / n})
		}
	}
}

// failure says what went wrong in the run, if anything did.
func (f *Run) failure() error {
	var errs []error
	if v := f.Verify; v != nil && v.Mismatches > 0 {
		errs = append(errs, fmt.Errorf("%w: %d blocks came back wrong; LBA %d: %s", ErrFailed, v.Mismatches, v.First[0].LBA, v.First[0].Text))
	}
	if f.Errors > 0 {
		errs = append(errs, fmt.Errorf("%w: %d requests ended with an error; %s", ErrFailed, f.Errors, f.FirstError))
	}
	return errors.Join(errs...)
}
