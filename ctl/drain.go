package ctl

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
)

// This file empties the engine before an upgrade: nvmf/drain.go and iscsi/drain.go say how hosts fare. Like a drained engine, one whose configuration could not
// be loaded whole takes no connections until engine_undrain.

// drainObject is what a drained engine's health is about.
const drainObject = "engine"

func (e *Engine) registerDrain() {
	Register(e.Methods, api.EngineDrain, e.drain)
	RegisterDo(e.Methods, api.EngineUndrain, func(context.Context, *api.None) error {
		if job := e.Jobs.running(api.EngineDrain.Name); job != "" {
			return api.Reason("ErrBusy", "serve again: the drain is under way; cancel it with engine_cancel, job %s", job)
		}
		if !e.Frame.up() {
			return api.Reason("ErrBusy", "serve again: the engine's configuration is being loaded; hosts are served when it is there")
		}
		if err := errors.Join(e.Target.Undrain(), e.ISCSI.Undrain(), e.serveHosts()); err != nil {
			return err
		}
		for _, object := range []string{drainObject, configObject} {
			e.Health.Report(object, HealthOK, "", time.Now())
		}
		return nil
	})
}

func (e *Engine) drain(_ context.Context, p *api.EngineDrainParams) (api.JobStarted, error) {
	e.draining.Lock()
	defer e.draining.Unlock()
	if job := e.Jobs.running(api.EngineDrain.Name); job != "" {
		return api.JobStarted{}, api.Reason("ErrBusy", "drain the engine: that is under way as job %s", job)
	}
	return e.Jobs.Start(api.Job{Method: api.EngineDrain.Name, Object: "engine", Unit: "connections"}, func(ctx context.Context, progress Progress) error {
		limit := context.Background()
		if p.TimeoutSec > 0 {
			var cancel context.CancelFunc
			limit, cancel = context.WithTimeout(limit, time.Duration(p.TimeoutSec)*time.Second)
			defer cancel()
		}
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(limit, func() { cancel(limit.Err()) })()
		err := e.drainTargets(ctx, func(done, total int) { progress.Set(uint64(done), uint64(total)) })
		switch {
		case err == nil:
			e.Health.Report(drainObject, HealthDegraded, "it was drained and takes no connections; engine_undrain lets it serve again", time.Now())
		case errors.Is(context.Cause(ctx), context.DeadlineExceeded):
			return fmt.Errorf("the time of %d s has passed, and the engine serves again: %v", p.TimeoutSec, err) // not cancelled by anybody
		}
		return err
	})
}

// drainTargets empties both targets side by side. If one cannot be emptied, both serve again.
func (e *Engine) drainTargets(ctx context.Context, tell func(done, total int)) error {
	var mu sync.Mutex
	var counts [2]struct{ done, total int }
	part := func(i int) func(done, total int) {
		return func(done, total int) {
			mu.Lock()
			defer mu.Unlock()
			counts[i].done, counts[i].total = done, total
			tell(counts[0].done+counts[1].done, counts[0].total+counts[1].total)
		}
	}
	other := make(chan error, 1)
	go func() { other <- e.ISCSI.Drain(ctx, part(1)) }()
	err := errors.Join(e.Target.Drain(ctx, part(0)), <-other)
	if err != nil {
		err = errors.Join(err, e.Target.Undrain(), e.ISCSI.Undrain())
	}
	return err
}
