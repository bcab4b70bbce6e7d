package ctl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/ctl/api"
)

// theJob asks for one job, and waits for its end if told to.
func theJob(t *testing.T, c api.Caller, name string, wait bool) api.Job {
	t.Helper()
	p := api.EngineJobsParams{Job: name}
	if wait {
		p.WaitMS = 60_000
	}
	return must(t, c, api.EngineJobs, p)[0]
}

func runtimeJobs(t *testing.T) (*Jobs, *Registry) {
	reg := newReg()
	jobs := NewJobs(reg)
	reg.SetState(api.Runtime)
	t.Cleanup(func() {
		if err := jobs.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return jobs, reg
}

func TestJobs(t *testing.T) {
	jobs, reg := runtimeJobs(t)
	about := api.Job{Method: "pool_scrub", Object: "p0", Unit: "clusters", Total: 10}
	start := func(run func(ctx context.Context, p Progress) error) string {
		started, err := jobs.Start(about, run)
		if err != nil {
			t.Fatal(err)
		}
		return started.Job
	}
	half, goOn := make(chan struct{}), make(chan struct{})
	one := start(func(_ context.Context, p Progress) error {
		p.Set(5, 10)
		close(half)
		<-goOn
		p.Set(10, 10)
		return nil
	})
	<-half
	if j := theJob(t, reg, one, false); j.State != JobRunning || j.Done != 5 || j.Total != 10 || j.Unit != "clusters" || j.Object != "p0" || j.Started == "" || j.Ended != "" {
		t.Errorf("%+v", j)
	}
	close(goOn)
	if j := theJob(t, reg, one, true); j.State != JobDone || j.Done != 10 || j.Ended == "" || j.Error != "" {
		t.Errorf("%+v", j)
	}
	for _, c := range []struct {
		name, state, err string
		cancel           bool
		run              func(ctx context.Context, p Progress) error
	}{
		{"fails", JobFailed, "no space", false, func(context.Context, Progress) error { return errors.New("no space") }},
		{"is cancelled", JobCancelled, "left 3: context canceled", true, func(ctx context.Context, _ Progress) error { <-ctx.Done(); return fmt.Errorf("left 3: %w", ctx.Err()) }},
		{"is done before it hears of the cancelling", JobDone, "", true, func(ctx context.Context, _ Progress) error { <-ctx.Done(); return nil }},
		{"fails as it is cancelled", JobFailed, "odd", true, func(ctx context.Context, _ Progress) error { <-ctx.Done(); return errors.New("odd") }},
	} {
		name := start(c.run)
		if c.cancel {
			must(t, reg, api.EngineCancel, api.EngineCancelParams{Job: name})
		}
		if j := theJob(t, reg, name, true); j.State != c.state || j.Error != c.err {
			t.Errorf("a job that %s: %+v", c.name, j)
		}
		refused(t, reg, api.EngineCancel, api.EngineCancelParams{Job: name}, api.CodeReason, "it has ended as "+c.state)
	}
	refused(t, reg, api.EngineCancel, api.EngineCancelParams{Job: "77"}, api.CodeReason, `there is no job "77"`)
	refused(t, reg, api.EngineJobs, api.EngineJobsParams{Job: "77"}, api.CodeReason, `there is no job "77"`)
	if list := must(t, reg, api.EngineJobs, api.EngineJobsParams{}); len(list) != 5 || list[0].Job != one {
		t.Errorf("%+v", list)
	}
}

func TestJobsThatEndedAreForgottenInTheirOrder(t *testing.T) {
	jobs, reg := runtimeJobs(t)
	stay, err := jobs.Start(api.Job{Method: "m"}, func(ctx context.Context, _ Progress) error { <-ctx.Done(); return ctx.Err() })
	if err != nil {
		t.Fatal(err)
	}
	for range jobsMax + 5 {
		s, err := jobs.Start(api.Job{Method: "m"}, func(context.Context, Progress) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		theJob(t, reg, s.Job, true)
	}
	list := must(t, reg, api.EngineJobs, api.EngineJobsParams{})
	if len(list) != jobsMax+2 || list[0].Job != stay.Job || list[1].Job != "6" { // the last one had not ended when it began
		t.Errorf("%d jobs, the first are %s and %s", len(list), list[0].Job, list[1].Job)
	}
}

func TestJobsEndWithTheEngine(t *testing.T) {
	jobs, reg := runtimeJobs(t)
	s, err := jobs.Start(api.Job{Method: "m"}, func(ctx context.Context, _ Progress) error { <-ctx.Done(); return ctx.Err() })
	if err != nil {
		t.Fatal(err)
	}
	if err := jobs.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if j := theJob(t, reg, s.Job, false); j.State != JobCancelled {
		t.Errorf("%+v", j)
	}
	if _, err := jobs.Start(api.Job{Method: "m"}, nil); err == nil || !strings.Contains(err.Error(), "the engine is ending") {
		t.Error(err)
	}
}

// TestDrain empties an engine under a host, which comes back when it serves again.
func TestDrain(t *testing.T) {
	target, host := startEngine(t), startEngine(t)
	port := exportLoop(t, target)
	m := target.Methods
	if err := host.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	attach := api.BdevNVMeAttachControllerParams{Name: "Nvme0", TrType: "TCP", TrAddr: "127.0.0.1", TrSvcID: port, SubNQN: loopNQN, ReconnectDelaySec: new(uint32(1)), CtrlrLossTimeoutSec: new(int32(-1))}
	must(t, host.Methods, api.BdevNVMeAttachController, attach)
	if h := must(t, m, api.EngineGetHealth, api.None{}); h.State != HealthOK {
		t.Errorf("%+v", h)
	}
	saved := func() string {
		c, err := api.SaveConfig(t.Context(), m, "nvmf")
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(c.Subsystems)
	}
	before := saved()
	job := must(t, m, api.EngineDrain, api.EngineDrainParams{TimeoutSec: 60}).Job
	if j := theJob(t, m, job, true); j.State != JobDone || j.Unit != "connections" || j.Total < 2 || j.Done != j.Total {
		t.Errorf("%+v", j)
	}
	if q := must(t, m, api.NVMFSubsystemGetControllers, api.NVMFSubsystemParams{NQN: loopNQN}); len(q) != 0 {
		t.Errorf("%+v", q)
	}
	if h := must(t, m, api.EngineGetHealth, api.None{}); h.State != HealthDegraded || !strings.Contains(h.Reasons[0].Why, "engine_undrain") {
		t.Errorf("%+v", h)
	}
	if after := saved(); after != before {
		t.Error("a drain changed the configuration")
	}
	other := attach
	other.Name = "Nvme1"
	if _, err := api.BdevNVMeAttachController.Call(t.Context(), host.Methods, other); err == nil {
		t.Error("a drained engine takes a connection")
	}
	must(t, m, api.EngineUndrain, api.None{})
	if h := must(t, m, api.EngineGetHealth, api.None{}); h.State != HealthOK {
		t.Errorf("%+v", h)
	}
	must(t, host.Methods, api.BdevNVMeAttachController, other)
	for len(must(t, m, api.NVMFSubsystemGetControllers, api.NVMFSubsystemParams{NQN: loopNQN})) < 2 { // the first one comes back by itself
	}
}
