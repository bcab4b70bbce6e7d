package ctl

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pollux-storage/pollux/ctl/api"
)

// logRig is a log whose output and events a test reads, driven by its methods.
type logRig struct {
	*Log
	reg *Registry
	out *bytes.Buffer
}

func newLogRig(level slog.Level) *logRig {
	r := &logRig{out: &bytes.Buffer{}}
	r.Log = NewLog(r.out, level)
	r.reg = NewRegistry(slog.New(slog.DiscardHandler))
	RegisterLog(r.reg, r.Log)
	r.timestamps.Store(false)
	return r
}

func (r *logRig) messages(t *testing.T, level string) []string {
	t.Helper()
	events, err := api.EngineEvents.Call(t.Context(), r.reg, api.EngineEventsParams{Level: level})
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range events {
		list = append(list, e.Flag+" "+e.Level+" "+e.Message)
	}
	return list
}

func (r *logRig) printed() string {
	text := r.out.String()
	r.out.Reset()
	return text
}

func TestLogPrintsAndKeepsByItsLevels(t *testing.T) {
	r := newLogRig(slog.LevelWarn)
	nvmf := r.For("nvmf")
	nvmf.Warn("slow host", "host", "h1")
	nvmf.Info("connected")
	nvmf.Debug("details")
	if got := r.printed(); got != "level=WARNING msg=\"slow host\" pkg=nvmf host=h1\n" {
		t.Errorf("printed %q", got)
	}
	if diff := cmp.Diff([]string{"nvmf WARNING slow host", "nvmf INFO connected"}, r.messages(t, "")); diff != "" {
		t.Error(diff)
	}
	for _, level := range []string{"debug", "ERROR"} {
		want := level == "debug"
		if _, err := api.LogSetPrintLevel.Call(t.Context(), r.reg, api.LogLevelParams{Level: level}); err != nil {
			t.Fatal(err)
		}
		nvmf.Log(t.Context(), LevelNotice, "new")
		if got := strings.Contains(r.printed(), "level=NOTICE msg=new"); got != want {
			t.Errorf("print level %s: printed is %v", level, got)
		}
	}
	if level, err := api.LogGetPrintLevel.Call(t.Context(), r.reg, api.None{}); err != nil || level != "ERROR" {
		t.Error(level, err)
	}
	if _, err := api.LogSetLevel.Call(t.Context(), r.reg, api.LogLevelParams{Level: "ERROR"}); err != nil {
		t.Fatal(err)
	}
	nvmf.Warn("not kept")
	if got := r.messages(t, "WARNING"); len(got) != 1 {
		t.Errorf("kept %v", got)
	}
	if nvmf.Enabled(t.Context(), slog.LevelWarn) {
		t.Error("a message that goes nowhere is made all the same")
	}
}

func TestLogFlagLetsOnePackageThrough(t *testing.T) {
	r := newLogRig(slog.LevelError)
	nvmf, bdev := r.For("nvmf"), r.For("bdev")
	if _, err := api.LogSetFlag.Call(t.Context(), r.reg, api.LogFlagParams{Flag: "nvmf"}); err != nil {
		t.Fatal(err)
	}
	nvmf.Debug("seen")
	bdev.Debug("not seen")
	if got := r.printed(); got != "level=DEBUG msg=seen pkg=nvmf\n" {
		t.Errorf("printed %q", got)
	}
	flags, err := api.LogGetFlags.Call(t.Context(), r.reg, api.None{})
	if diff := cmp.Diff(map[string]bool{"nvmf": true, "bdev": false}, flags); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err := api.LogClearFlag.Call(t.Context(), r.reg, api.LogFlagParams{Flag: "all"}); err != nil {
		t.Fatal(err)
	}
	nvmf.Debug("not seen")
	if got := r.printed(); got != "" {
		t.Errorf("printed %q", got)
	}
	if _, err := api.LogSetFlag.Call(t.Context(), r.reg, api.LogFlagParams{Flag: "nvm"}); api.AsError(err).Code != api.CodeInvalidParams {
		t.Error(err)
	}
}

func TestLogKeepsAttributesOfEveryKind(t *testing.T) {
	r := newLogRig(slog.LevelInfo)
	r.For("nvmf").With("a", 1).WithGroup("g").With("b", 2).Info("m", "c", 3)
	if got := r.printed(); got != "level=INFO msg=m pkg=nvmf a=1 g.b=2 g.c=3\n" {
		t.Errorf("printed %q", got)
	}
	events, err := api.EngineEvents.Call(t.Context(), r.reg, api.EngineEventsParams{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a": "1", "g.b": "2", "g.c": "3"}, events[0].Attrs); diff != "" {
		t.Error(diff)
	}
	if _, err := api.LogEnableTimestamps.Call(t.Context(), r.reg, api.LogTimestampsParams{Enabled: true}); err != nil {
		t.Fatal(err)
	}
	r.For("nvmf").Info("m")
	if got := r.printed(); !strings.HasPrefix(got, "time=") {
		t.Errorf("printed %q", got)
	}
}

func TestHistoryKeepsTheNewest(t *testing.T) {
	h := history[uint64]{limit: 3}
	all := func(*uint64) bool { return true }
	if got := h.from(0, nil, all); got != nil {
		t.Errorf("an empty one has %v", got)
	}
	for range 5 {
		h.add(func(id uint64) uint64 { return id })
	}
	two := uint64(2)
	for _, c := range []struct {
		from  uint64
		limit *uint64
		want  []uint64
	}{{0, nil, []uint64{2, 3, 4}}, {3, nil, []uint64{3, 4}}, {0, &two, []uint64{2, 3}}, {5, nil, nil}, {9, nil, nil}} {
		if diff := cmp.Diff(c.want, h.from(c.from, c.limit, all)); diff != "" {
			t.Errorf("from %d: %s", c.from, diff)
		}
	}
	if diff := cmp.Diff([]uint64{3}, h.from(0, nil, func(n *uint64) bool { return *n%2 == 1 })); diff != "" {
		t.Error(diff)
	}
}

// TestChangesAreLoggedWithWhoAsked (and what only reads is not, nor are parameters, which may be secrets).
func TestChangesAreLoggedWithWhoAsked(t *testing.T) {
	log := NewLog(&bytes.Buffer{}, slog.LevelError)
	reg := NewRegistry(log.For("rpc"))
	RegisterLog(reg, log)
	reg.SetState(api.Runtime)
	RegisterDo(reg, api.NVMFSubsystemAddHost, func(_ context.Context, p *api.NVMFAddHostParams) error {
		if p.Host == "bad" {
			return api.Invalid("no such host")
		}
		return nil
	})
	ctx := withOrigin(t.Context(), "uid 7, process 9", "3", api.Admin)
	for _, host := range []string{"good", "bad"} {
		_, _ = api.NVMFSubsystemAddHost.Call(ctx, reg, api.NVMFAddHostParams{NQN: "n", Host: host, PSK: "secret"})
	}
	events, err := api.EngineEvents.Call(ctx, reg, api.EngineEventsParams{})
	if err != nil || len(events) != 2 {
		t.Fatal(events, err)
	}
	want := map[string]string{"method": "nvmf_subsystem_add_host", "who": "uid 7, process 9", "request": "3", "object": "n"}
	if diff := cmp.Diff(want, events[0].Attrs); diff != "" {
		t.Error(diff)
	}
	want["code"], want["error"] = "-32602", "no such host"
	if diff := cmp.Diff(want, events[1].Attrs); diff != "" {
		t.Error(diff)
	}
}
