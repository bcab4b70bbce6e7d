package ctl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
)

// This file is long work: what a call begins that answers with the name of a job and does not wait for its end. The job outlives
// the client. Whoever asks hears how far it is and, after its end, what came of it; the newest jobs that ended are remembered.
//
//	running --engine_cancel--> cancelling --> cancelled
//	   |                           |
//	   +-----------> done, failed <+
//
// A job that is asked to end may be done before it hears of that, or fail; its state says what became of it, and its error what it left.

// Jobs are the long work of an engine.
type Jobs struct {
	mu      sync.Mutex
	next    int
	list    []*job // in the order in which they began
	stopped bool
	wait    sync.WaitGroup
}

type job struct {
	cancel context.CancelFunc
	ended  chan struct{}

	mu  sync.Mutex
	now api.Job
	err error // once it has ended
}

// The states of a job.
const (
	JobRunning    = "running"
	JobCancelling = "cancelling"
	JobDone       = "done"
	JobFailed     = "failed"
	JobCancelled  = "cancelled"
)

// jobsMax is how many jobs that ended are remembered.
const jobsMax = 100

// NewJobs makes an empty list and registers the methods about it.
func NewJobs(r *Registry) *Jobs {
	j := &Jobs{}
	Register(r, api.EngineJobs, j.get)
	RegisterDo(r, api.EngineCancel, func(_ context.Context, p *api.EngineCancelParams) error { return j.stop(p.Job) })
	return j
}

// Progress is where a job tells how far it is.
type Progress struct{ j *job }

// Set says that done of total are done.
func (p Progress) Set(done, total uint64) {
	p.j.mu.Lock()
	defer p.j.mu.Unlock()
	p.j.now.Done, p.j.now.Total = done, total
}

// Start begins a job. Its ctx ends when it is to be cancelled: it then puts back what it can, and its error says what it left. In
// the job only Job's members that describe it are given: Method, Object, Unit, Total.
func (js *Jobs) Start(about api.Job, run func(ctx context.Context, p Progress) error) (api.JobStarted, error) {
	ctx, cancel := context.WithCancel(context.Background())
	js.mu.Lock()
	defer js.mu.Unlock()
	if js.stopped {
		cancel()
		return api.JobStarted{}, api.Reason("ErrStopping", "%s: the engine is ending; nothing new is begun", about.Method)
	}
	js.next++
	about.Job, about.State, about.Started = strconv.Itoa(js.next), JobRunning, time.Now().Format(time.RFC3339)
	j := &job{cancel: cancel, ended: make(chan struct{}), now: about}
	js.list = append(js.list, j)
	js.forget()
	js.wait.Go(func() {
		defer cancel()
		j.end(run(ctx, Progress{j}))
	})
	return api.JobStarted{Job: about.Job}, nil
}

// forget drops the oldest jobs that have ended, beyond those that are remembered.
func (js *Jobs) forget() {
	over := -jobsMax
	for _, j := range js.list {
		if j.isOver() {
			over++
		}
	}
	js.list = slices.DeleteFunc(js.list, func(j *job) bool {
		if over <= 0 || !j.isOver() {
			return false
		}
		over--
		return true
	})
}

func (j *job) isOver() bool {
	select {
	case <-j.ended:
		return true
	default:
		return false
	}
}

// end keeps what became of a job.
func (j *job) end(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.now.Ended = time.Now().Format(time.RFC3339)
	if j.err = err; err != nil {
		e := api.AsError(codeOf(err))
		if j.now.Code = e.Code; e.Data != nil {
			j.now.Reason = e.Data.Reason
		}
	}
	switch {
	case err == nil:
		j.now.State = JobDone
	case j.now.State == JobCancelling && errors.Is(err, context.Canceled):
		j.now.State, j.now.Error = JobCancelled, err.Error()
	default:
		j.now.State, j.now.Error = JobFailed, err.Error()
	}
	close(j.ended)
}

func (j *job) state() api.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.now
}

func (js *Jobs) find(name string) (*job, error) {
	js.mu.Lock()
	defer js.mu.Unlock()
	for _, j := range js.list {
		if j.now.Job == name { // never altered
			return j, nil
		}
	}
	return nil, api.Reason("ErrNotFound", "there is no job %q; engine_jobs lists those that run, and the last %d that ended", name, jobsMax)
}

// get lists jobs, or tells of one, when it has ended or the time to wait for that has passed.
func (js *Jobs) get(ctx context.Context, p *api.EngineJobsParams) ([]api.Job, error) {
	if p.Job == "" {
		js.mu.Lock()
		defer js.mu.Unlock()
		var out []api.Job
		for _, j := range js.list {
			out = append(out, j.state())
		}
		return out, nil
	}
	j, err := js.find(p.Job)
	if err != nil {
		return nil, err
	}
	if p.WaitMS > 0 {
		timer := time.NewTimer(time.Duration(p.WaitMS) * time.Millisecond)
		defer timer.Stop()
		select {
		case <-j.ended:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return []api.Job{j.state()}, nil
}

// stop asks a job to end.
func (js *Jobs) stop(name string) error {
	j, err := js.find(name)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch j.now.State {
	case JobRunning:
		j.now.State = JobCancelling
		j.cancel()
	case JobCancelling:
	default:
		return api.Reason("ErrEnded", "cancel job %s, %s: it has ended as %s", name, j.now.Method, j.now.State)
	}
	return nil
}

// running finds a job of a method that has not ended; "" if there is none.
func (js *Jobs) running(method string) string {
	js.mu.Lock()
	defer js.mu.Unlock()
	for _, j := range js.list {
		if s := j.state(); s.Method == method && !j.isOver() {
			return s.Job
		}
	}
	return ""
}

// Close begins nothing more, asks all that runs to end, and waits for that.
func (js *Jobs) Close(ctx context.Context) error {
	js.mu.Lock()
	js.stopped = true
	list := slices.Clone(js.list)
	js.mu.Unlock()
	for _, j := range list {
		if !j.isOver() {
			_ = js.stop(j.now.Job)
		}
	}
	over := make(chan struct{})
	go func() {
		js.wait.Wait()
		close(over)
	}()
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for long work to end: %w", ctx.Err())
	}
}
