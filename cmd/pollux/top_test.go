package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/pollux-storage/pollux/ctl/api"
)

var update = flag.Bool("update", false, "write testdata instead of comparing with it")

// golden compares text with a file, or writes the file.
func golden(t *testing.T, path, text string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s is no longer so; read the difference, then run go test with -update\n%s", path, diff)
	}
}

// fixedLooks are two looks at one engine, two seconds apart.
func fixedLooks() (before, now topLook) {
	reactor := func(busy, idle uint64, asleep bool) api.Reactor {
		return api.Reactor{Lcore: 3, Busy: busy, Idle: idle, InInterrupt: asleep, LwThreads: []api.LwThread{{Name: "reactor_0"}}}
	}
	group := func(done uint64) api.NVMFStats {
		return api.NVMFStats{PollGroups: []api.NVMFPollGroup{{Name: "reactor_0", CurrentAdminQpairs: 1, CurrentIOQpairs: 4, PendingBdevIO: 7, CompletedNVMeIO: done}}}
	}
	before = topLook{
		reactors: api.Reactors{Reactors: []api.Reactor{reactor(1e9, 1e9, true)}},
		devices: api.Iostats{TickRate: 1e9, Ticks: 10e9, Bdevs: &[]api.Iostat{
			{Name: "idle"}, {Name: "busy", NumReadOps: 1000, BytesRead: 4096000, ReadLatencyTicks: 1e9}, {Name: "reset", NumWriteOps: 9}, {Name: "11111111-2222-4333-8444-555555555555"},
		}},
		target: group(100),
	}
	now = topLook{
		reactors: api.Reactors{Reactors: []api.Reactor{reactor(1.5e9, 2.5e9, false)}},
		devices: api.Iostats{TickRate: 1e9, Ticks: 12e9, Bdevs: &[]api.Iostat{
			{Name: "idle"},
			{Name: "busy", NumReadOps: 3000, BytesRead: 4096000 + 8<<20, ReadLatencyTicks: 1.2e9, NumWriteOps: 20, BytesWritten: 1 << 20,
				WriteLatencyTicks: 10e6, QueueDepth: new(uint64(32)), IOError: map[string]uint64{"media error": 2}},
			{Name: "reset"}, {Name: "new", NumReadOps: 5}, {Name: "11111111-2222-4333-8444-555555555555", NumWriteOps: 200},
		}},
		latencies: []api.Latency{{Name: "busy", Op: "read", P99NS: 250500}, {Name: "busy", Op: "write", P99NS: 1e6}, {Name: "idle", Op: "flush", P99NS: 9}},
		target:    group(2100),
		hosts:     []connectedHost{{"nqn.2024-01.com.example:disk", api.NVMFController{CntlID: 1, CntrlType: "io", HostNQN: "nqn.2024-01.com.example:host", NumIOQpairs: 4}}},
	}
	login := api.ISCSIConnection{
		TSIH: 7, State: "running", LoginPhase: "full_feature_phase", InitiatorAddr: "192.0.2.1", TargetNodeName: "iqn.2026-01.io.pollux:disk", ThreadName: "reactor_0",
		InitiatorName: "iqn.1992-01.com.example:host", PGTag: 1, Commands: 700, Open: 3,
	}
	before.iscsi.PollGroups = []api.ISCSIPollGroup{{Name: "reactor_0", Commands: 100}}
	now.iscsi.PollGroups = []api.ISCSIPollGroup{{Name: "reactor_0", Sessions: 1, LoggingIn: 2, PendingCommands: 3, Commands: 700}, {Name: "reactor_1"}}
	now.logins = []api.ISCSIConnection{login, {TSIH: -1, LoginPhase: "security_negotiation_phase", InitiatorAddr: "192.0.2.2", ThreadName: "reactor_0", PGTag: 1}}
	stages := func(n uint64) []api.VolumeStage {
		return []api.VolumeStage{
			{Stage: "admit", Count: n, SumNS: n * 1000}, {Stage: "place"}, {Stage: "append", Count: n, SumNS: n * 2500}, {Stage: "write", Count: n, SumNS: n * 20_000},
			{Stage: "flush", Count: n, SumNS: n * 100_000}, {Stage: "total", Count: n, SumNS: n * 123_500, P99NS: 410_000},
		}
	}
	volumes := []api.Volume{{Name: "v", Pool: "p", UUID: "11111111-2222-4333-8444-555555555555", State: "healthy"}, {Name: "new", Pool: "p", UUID: "6"}}
	before.volumes, now.volumes = volumes, volumes
	before.stats = map[string]api.VolumeStats{volumes[0].UUID: {Stages: stages(100), HomeBytes: 1 << 20}}
	now.stats = map[string]api.VolumeStats{volumes[0].UUID: {
		Stages: stages(300), HomeBytes: 5 << 20, LogBytes: 1000, LogUsed: 250, DirtyBytes: 3 << 20,
		Scrub: api.VolumeScrub{State: "running", AtBytes: 40, Bytes: 100, Errors: 2},
	}, "6": {}}
	return before, now
}

func TestTopScreen(t *testing.T) {
	before, now := fixedLooks()
	var m tea.Model = newTopScreen(t.Context(), nil, time.Second, "name")
	var text strings.Builder
	show := func(what string) { text.WriteString("--- " + what + "\n" + m.(topScreen).text() + "\n") }
	send := func(msg tea.Msg) (cmd tea.Cmd) { m, cmd = m.Update(msg); return cmd }
	show("nothing yet")
	if send(lookMsg{look: before}) == nil {
		t.Error("after the first look none follows")
	}
	show("one look")
	send(lookMsg{look: now})
	show("two looks")
	send(tea.KeyPressMsg{Code: 's', Text: "s"})
	send(tea.KeyPressMsg{Code: '+', Text: "+"})
	show("by IOPS, every two seconds")
	send(tea.WindowSizeMsg{Width: 40, Height: 6})
	show("a small terminal")
	golden(t, "testdata/top.txt", text.String())
	if m.View().AltScreen != true {
		t.Error("it draws over the shell's screen")
	}
}

func TestTopScreenEnds(t *testing.T) {
	for name, msg := range map[string]tea.Msg{"q": tea.KeyPressMsg{Code: 'q', Text: "q"}, "ctrl+c": tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}, "engine gone": lookMsg{err: errors.New("gone")}} {
		m, cmd := newTopScreen(t.Context(), nil, time.Second, "name").Update(msg)
		if cmd == nil {
			t.Errorf("%s: it goes on", name)
			continue
		}
		if _, quit := cmd().(tea.QuitMsg); !quit || (m.(topScreen).err != nil) != (name == "engine gone") {
			t.Errorf("%s: %v", name, m.(topScreen).err)
		}
	}
	m := newTopScreen(t.Context(), failing{}, time.Second, "name")
	if msg := m.Init()(); msg.(lookMsg).err == nil {
		t.Error("a look at no engine succeeds")
	}
}

// failing is an engine that is gone.
type failing struct{}

func (failing) Call(context.Context, string, any, any) error { return errors.New("gone") }

func TestTopIntervalStaysInBounds(t *testing.T) {
	var m tea.Model = newTopScreen(t.Context(), nil, time.Second, "name")
	for range 20 {
		m, _ = m.Update(tea.KeyPressMsg{Code: '-', Text: "-"})
	}
	if i := m.(topScreen).interval; i != topIntervalMin {
		t.Error(i)
	}
	for range 20 {
		m, _ = m.Update(tea.KeyPressMsg{Code: '+', Text: "+"})
	}
	if i := m.(topScreen).interval; i != topIntervalMax {
		t.Error(i)
	}
}

func TestTopSort(t *testing.T) {
	load := engineLoad{Devices: []deviceLoad{
		{deviceRate: deviceRate{Name: "c", Reads: 1, ReadBytes: 9, ReadMicros: 5}}, {deviceRate: deviceRate{Name: "a", Writes: 3, Errors: 1}},
		{deviceRate: deviceRate{Name: "b", Depth: 2, WriteMicros: 7}},
	}}
	for key, want := range map[string]string{"name": "abc", "iops": "acb", "mib": "cab", "latency": "bca", "depth": "bac", "errors": "abc"} {
		load.sort(key)
		got := load.Devices[0].Name + load.Devices[1].Name + load.Devices[2].Name
		if got != want {
			t.Errorf("by %s: %s, not %s", key, got, want)
		}
	}
}

func TestTopOnce(t *testing.T) {
	sh := newShell(t)
	sh.must("bdev create null n0 1M")
	sh.must("nvmf export n0 --port 0")
	out := sh.must("top --once -i 1ms")
	for _, want := range []string{"REACTOR", "reactor_0", "DEVICE", "n0", "NVMe-oF", "NQN  HOST  CNTLID  KIND  QUEUES", "iSCSI", "TARGET  INITIATOR"} {
		if !strings.Contains(out, want) {
			t.Errorf("there is no %q in\n%s", want, out)
		}
	}
	var load engineLoad
	if err := json.Unmarshal([]byte(sh.must("top --once -i 1ms -o json")), &load); err != nil || len(load.Devices) != 1 || load.Devices[0].Name != "n0" ||
		len(load.Reactors) != 1 || len(load.Groups) != 1 || len(load.ISCSI) != 1 || load.Seconds <= 0 {
		t.Errorf("%+v, %v", load, err)
	}
	sh.fails("top --once -i 0s", "the interval 0s is no time")
	sh.fails("top", "the output is no terminal; add --once")
	sh.fails("top -o json", "a screen is not JSON; add --once")
}
