package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
)

// jobCmd is about long work, which goes on in the engine whether or not anybody waits for it.
type jobCmd struct {
	List   jobListCmd   `cmd:"" help:"List long work that goes on or has ended."`
	Wait   jobWaitCmd   `cmd:"" help:"Wait until a job has ended, and show how far it is. Fails if the job does."`
	Cancel jobCancelCmd `cmd:"" help:"End a job before it is done, and wait until it has."`
}

type jobListCmd struct {
	engineFlags
	outputFlags
}

// Run lists.
func (c *jobListCmd) Run() error {
	jobs, err := ask(&c.engineFlags, api.EngineJobs, api.EngineJobsParams{})
	if err != nil {
		return err
	}
	return c.print(jobs, func(t *table) {
		t.columns("JOB", "METHOD", "OBJECT", "STATE", "PROGRESS", "STARTED", "ERROR")
		for _, j := range jobs {
			t.row(j.Job, j.Method, j.Object, j.State, progress(&j), j.Started, j.Error)
		}
	})
}

// progress says how far a job is.
func progress(j *api.Job) string {
	if j.Total == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d %s, %d %%", j.Done, j.Total, j.Unit, int(100*float64(j.Done)/float64(j.Total)))
}

type jobWaitCmd struct {
	engineFlags
	Job string `arg:"" help:"Name of the job."`
}

// Run waits.
func (c *jobWaitCmd) Run() error {
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	return waitForJob(engine, c.Job)
}

// waitForJob waits for a job's end, and shows on a terminal how far it is. An interrupt ends the wait, not the job.
func waitForJob(engine *api.Client, name string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	info, err := os.Stderr.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	for {
		jobs, err := api.EngineJobs.Call(ctx, engine, api.EngineJobsParams{Job: name, WaitMS: uint32(jobLook / time.Millisecond)})
		if ctx.Err() != nil {
			return fmt.Errorf("job %s goes on; wait for it again with pollux job wait %s, or end it with pollux job cancel %s", name, name, name)
		}
		if err != nil {
			return err
		}
		j := &jobs[0]
		if terminal {
			fmt.Fprintf(os.Stderr, "\r\033[K%s %s: %s  %s", j.Method, j.Object, j.State, progress(j))
		}
		if j.Ended == "" {
			continue
		}
		if terminal {
			fmt.Fprintln(os.Stderr)
		}
		if j.Error != "" {
			return errors.New("job " + name + " " + j.State + ": " + j.Error)
		}
		fmt.Printf("job %s: %s\n", name, j.State)
		return nil
	}
}

// jobLook is how often the progress of a job is shown.
const jobLook = 500 * time.Millisecond

type jobCancelCmd struct {
	engineFlags
	Job string `arg:"" help:"Name of the job."`
}

// Run cancels.
func (c *jobCancelCmd) Run() error {
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	ctx := context.Background()
	if _, err := api.EngineCancel.Call(ctx, engine, api.EngineCancelParams{Job: c.Job}); err != nil {
		return err
	}
	for {
		jobs, err := api.EngineJobs.Call(ctx, engine, api.EngineJobsParams{Job: c.Job, WaitMS: 60_000})
		if err != nil {
			return err
		}
		if j := &jobs[0]; j.Ended != "" {
			fmt.Printf("job %s: %s\n", c.Job, j.State)
			if j.Error != "" {
				fmt.Println(j.Error)
			}
			return nil
		}
	}
}

// drainCmd empties an engine.
type drainCmd struct {
	engineFlags
	Undo    bool          `help:"Take connections again after a drain."`
	Timeout time.Duration `placeholder:"TIME" help:"Give up after so long, and serve again; without it, wait as long as it takes."`
	NoWait  bool          `name:"no-wait" help:"Print the name of the job and do not wait for its end."`
}

// Run drains.
func (c *drainCmd) Run() error {
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	if c.Undo {
		_, err := api.EngineUndrain.Call(context.Background(), engine, api.None{})
		return err
	}
	if c.Timeout < 0 || c.Timeout > 0 && c.Timeout < time.Second {
		return fmt.Errorf("drain the engine: a timeout of %v; at least 1s", c.Timeout)
	}
	started, err := api.EngineDrain.Call(context.Background(), engine, api.EngineDrainParams{TimeoutSec: uint32(c.Timeout / time.Second)})
	if err != nil {
		return err
	}
	if c.NoWait {
		fmt.Println(started.Job)
		return nil
	}
	return waitForJob(engine, started.Job)
}
