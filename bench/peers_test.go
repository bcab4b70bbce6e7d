package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pollux-storage/pollux/reactor"
)

func TestParsePeer(t *testing.T) {
	for s, want := range map[string]string{
		"pollux=engine:mem":                      "pollux engine mem:1G",
		"pollux@block=engine:uring:/dev/sdb":     "pollux@block engine uring:/dev/sdb",
		"spdk=tcp://127.0.0.1:4421/nqn.x:y":      "spdk tcp://127.0.0.1:4421/nqn.x:y",
		"nvmet@mem=raw:/dev/nvme0n1":             "fio+nvmet@mem raw:/dev/nvme0n1",
		"a-1.b_2=engine:null:16M":                "a-1.b_2 engine null:16M",
		"tcp://127.0.0.1:4421/nqn.x:y":           "it has no name",
		"a b=engine:mem":                         "it has no name",
		"a/b=engine:mem":                         "it has no name",
		"=engine:mem":                            "it has no name",
		"a=mem:1G":                               "engine:mem has one",
		"a=engine:tcp://127.0.0.1:4421/nqn.x":    "an engine serves mem, null and uring",
		"a=engine:volume:/x":                     "an engine serves mem, null and uring",
		"a=engine:mem:lots":                      "lots",
		"a=tcp://127.0.0.1:4421":                 "a subsystem",
		"a@=engine:mem":                          "it has no name",
		"a=raw:":                                 "it has no kind",
		"i=engine-iscsi:mem":                     "i engine mem:1G",
		"tgt@f=iscsi://127.0.0.1:3260/iqn.x:y/1": "tgt@f iscsi://127.0.0.1:3260/iqn.x:y/1",
		"a=iscsi://127.0.0.1/iqn.x:y/1":          "an address",
		"a=iscsi://127.0.0.1:3260/iqn.x:y":       "the number of a LUN",
		"a=iscsi://127.0.0.1:3260/x/0":           "a target's name",
		"a=engine-iscsi:iscsi://h:1/iqn.x:y/1":   "an engine serves mem, null and uring",
		"a=tcp://127.0.0.1:4421/nqn.x?depth=100": "depth",
	} {
		p, err := ParsePeer(s)
		got := fmt.Sprint(err)
		if err == nil {
			got = p.label() + " " + p.Spec.String()
			if p.Engine {
				got = p.label() + " engine " + p.Spec.String()
			}
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", s, got, want)
		}
	}
}

func TestPeersThatDoNotGoTogetherAreRefused(t *testing.T) {
	peer := func(s string, pid int) PeerSpec {
		p, err := ParsePeer(s)
		if err != nil {
			t.Fatal(err)
		}
		p.PID = pid
		return p
	}
	loads, err := PeerLoads([]string{"randread"}, []int{1}, nil, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	two := []PeerSpec{peer("a=tcp://127.0.0.1:1/nqn.a", 0), peer("b=tcp://127.0.0.1:1/nqn.b", 0)}
	for want, cfg := range map[string]PeersConfig{
		"takes two targets":         {Targets: two[:1], Loads: loads, Runs: 1},
		"two targets are called a":  {Targets: []PeerSpec{two[0], two[0]}, Loads: loads, Runs: 1},
		"runs 0":                    {Targets: two, Loads: loads},
		"there is no load":          {Targets: two, Runs: 1},
		"no process is known":       {Targets: two, Loads: loads, Runs: 1, Pause: true},
		"cannot be paused":          {Targets: []PeerSpec{two[0], peer("k=raw:/dev/nvme0n1", os.Getpid())}, Loads: loads, Runs: 1, Pause: true},
		"give no pid":               {Targets: []PeerSpec{two[0], peer("e=engine:mem", os.Getpid())}, Loads: loads, Runs: 1},
		"process 4194304 of target": {Targets: []PeerSpec{two[0], peer("p=tcp://127.0.0.1:1/nqn.p", 1<<22)}, Loads: loads, Runs: 1}, // above PID_MAX_LIMIT
	} {
		if _, err := Peers(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestPeerLoads(t *testing.T) {
	loads, err := PeerLoads([]string{"write", "randrw", "randread"}, []int{1, 128}, []int{8, 16}, 2, 0.5)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, w := range loads {
		names = append(names, w.Name())
		if w.RuntimeSeconds != 2 || w.RampSeconds != 0.5 {
			t.Errorf("%s: %g s after %g s", w.Name(), w.RuntimeSeconds, w.RampSeconds)
		}
	}
	if d := cmp.Diff([]string{"randread 4k qd1", "randread 4k qd128", "randrw70 4k qd1", "randrw70 4k qd128", "write 128k qd8", "write 128k qd16"}, names); d != "" {
		t.Error(d)
	}
	if _, err := PeerLoads([]string{"trim"}, []int{1}, nil, 2, 0); err == nil || !strings.Contains(err.Error(), `rw "trim"`) {
		t.Errorf("%v", err)
	}
}

func TestMachineTimes(t *testing.T) {
	const before = "cpu  300 0 300 900 20 0 0 30 0 0\ncpu0 100 0 100 500 10 0 0 20 0 0\ncpu1 200 0 200 400 10 0 0 10 0 0\nintr 1 2 3\nctxt 1\n"
	const after = "cpu  x\ncpu0 150 0 100 540 20 0 0 20 0 0\ncpu1 210 0 200 480 10 0 0 20 0 0\nintr 1 2 3\n"
	m, end := machineTimes{at: 7 * reactor.Second}, machineTimes{at: 8 * reactor.Second}
	var err error
	if m.cpus, err = parseProcStat(before); err != nil {
		t.Fatal(err)
	}
	if end.cpus, err = parseProcStat(after); err != nil {
		t.Fatal(err)
	}
	// In that second processor 0 was free for 0.5 s, and processor 1 for 0.9 s.
	got := m.figures(&end, reactor.Second/4, 1000, &MachineTime{Target: []int{1}})
	want := &MachineFigures{CPUs: []CPUBusy{{0, 50}, {1, 10}}, ClientPercent: 25, RestMicrosPerIO: 350, TargetMicrosPerIO: 100}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if f := m.figures(&end, reactor.Second, 1000, &MachineTime{}); f.RestMicrosPerIO != 0 || f.TargetMicrosPerIO != 0 {
		t.Errorf("a client that used more than there was: %+v", f)
	}
	if f := m.figures(&m, 0, 1000, &MachineTime{}); f != nil {
		t.Errorf("in no time: %+v", f)
	}
	for _, s := range []string{"", "cpu 1 2 3\n", "cpu0 1 2 3 4 5 6 7\n", "cpux 1 2 3 4 5 6 7 8\n", "cpu0 1 2 3 four 5 6 7 8\n"} {
		if _, err := parseProcStat(s); err == nil {
			t.Errorf("%q was read", s)
		}
	}
	if now, err := machineNow(); err != nil || len(now.cpus) < 1 {
		t.Errorf("%v, %v", now, err)
	}
}

func TestTheTargetsProcessorTime(t *testing.T) {
	for _, c := range []struct {
		name string
		run  Run
		us   float64
		core float64
	}{
		{"nobody knows", Run{Others: []ProcessFigures{{fioName, 100, 30}}}, 0, 0},
		{"its process", Run{Others: []ProcessFigures{{fioName, 100, 30}, {"spdk", 96, 4}}}, 4, 250000},
		{"the machine's", Run{Machine: &MachineFigures{RestMicrosPerIO: 10}, Others: []ProcessFigures{{"spdk", 96, 4}}}, 10, 100000},
		{"its processors'", Run{Machine: &MachineFigures{RestMicrosPerIO: 10, TargetMicrosPerIO: 5}}, 5, 200000},
	} {
		if us, core := c.run.targetMicros(), c.run.iopsPerCore(); us != c.us || core != c.core {
			t.Errorf("%s: %g µs, %g a second, want %g and %g", c.name, us, core, c.us, c.core)
		}
	}
}

// madePeers is a comparison of which every figure is known.
func madePeers(t *testing.T) *Report {
	t.Helper()
	r := &Report{Schema: SchemaName, Version: SchemaVersion}
	r.Conditions = Conditions{
		Time: "2026-01-02T03:04:05Z", Pollux: "0.1.0", Go: "go1.26.0", Command: []string{"pollux", "bench", "peers"}, Note: "It was made up.",
		Machine: Machine{CPU: "Test CPU", Cores: 2, OS: "Test", Kernel: "6.1"},
	}
	run := func(iops, p99, us float64) Run {
		r := madeRun(iops, p99)
		r.Machine = &MachineFigures{RestMicrosPerIO: us}
		return r
	}
	var order []string
	for _, w := range []Workload{madeWorkload, {RW: "write", BlockBytes: 128 << 10, Depth: 8, Jobs: 1, RuntimeSeconds: 5}} {
		a := &madeTarget{"pollux@mem", []Run{run(100000, 20000, 10), run(120000, 24000, 8), run(110000, 22000, 9)}, &order}
		b := &madeTarget{"nvmet@mem", []Run{run(50000, 40000, 20), run(50000, 30000, 20), run(50000, 44000, 18)}, &order}
		c := &madeTarget{"other@mem", []Run{run(100000, 20000, 0), run(130000, 24000, 0), run(100000, 22000, 0)}, &order}
		b.runs[1].Beside = []ProcessFigures{{"other@mem", 96, 0}}
		rows, err := Turns(t.Context(), []Target{a, b, c}, w, 3, make([]Options, 3))
		if err != nil {
			t.Fatal(err)
		}
		r.Rows = append(r.Rows, rows...)
		r.Ratios = append(r.Ratios, newPeerRatio(&rows[0], &rows[1]), newPeerRatio(&rows[0], &rows[2]))
	}
	return r
}

func TestPeersGolden(t *testing.T) {
	r := madePeers(t)
	q := &r.Ratios[0]
	if d := cmp.Diff(Span{Median: 2.2, Low: 2, High: 2.4, Pairs: 3}, q.IOPS); d != "" {
		t.Errorf("IOPS:\n%s", d)
	}
	// 100,000 over 50,000; 125,000 over 50,000; 111,111 over 55,556.
	if d := cmp.Diff(Span{Median: 2, Low: 2, High: 2.5, Pairs: 3}, q.PerCore, cmp.Comparer(func(a, b float64) bool { return max(a-b, b-a) < 1e-9 })); d != "" {
		t.Errorf("IOPS per core:\n%s", d)
	}
	if p := r.Ratios[1].PerCore; p.Pairs != 0 {
		t.Errorf("a ratio to a target whose processor time is not known: %+v", p)
	}
	var b bytes.Buffer
	if err := r.WritePeers(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "peers.txt", b.Bytes())
	golden(t, "peers.md", r.PeersMarkdown())
	dir, err := r.SavePeers(t.TempDir(), "guest-peers")
	if err != nil || filepath.Base(dir) != "2026-01-02-guest-peers" {
		t.Fatalf("%s, %v", dir, err)
	}
	if back, err := LoadReport(filepath.Join(dir, "report.json")); err != nil || len(back.Ratios) != 4 || back.Ratios[0].PerCore != q.PerCore {
		t.Errorf("%v, %v", back, err)
	}
}

func TestPeersArePairedPausedAndLeftAsTheyWere(t *testing.T) {
	exe := pollux(t)
	e, err := StartEngine(t.Context(), EngineConfig{Exe: exe, Cores: "0", Idle: "poll", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Stop(); err != nil { // it is running again, or this would take a minute and fail
			t.Error(err)
		}
	}()
	there, err := e.Serve(TargetSpec{Kind: "mem", Bytes: 4 << 20, BlockSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	loads, err := PeerLoads([]string{"randwrite"}, []int{4}, nil, 0.05, 0.01)
	if err != nil {
		t.Fatal(err)
	}
	parse := func(s string) PeerSpec {
		p, err := ParsePeer(s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	file := filepath.Join(t.TempDir(), "file")
	if out, err := exec.Command("truncate", "-s", "4M", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	foreign := parse("foreign=" + there.String())
	foreign.PID = e.PID()
	cfg := PeersConfig{
		Exe: exe, Loads: loads, Runs: 2, Client: []int{0}, EngineCores: fmt.Sprint(runtime.NumCPU() - 1), EngineIdle: reactor.Adaptive,
		Targets: []PeerSpec{parse("pollux=engine:mem:4M"), foreign, parse("disk=raw:" + file), parse("again=raw:" + file)}, Pause: true,
	}
	r, err := Peers(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, q := range r.Ratios {
		names = append(names, q.Name)
		if q.IOPS.Pairs != 2 || q.Mean.Median <= 0 {
			t.Errorf("%+v", q)
		}
	}
	if d := cmp.Diff([]string{"pollux / foreign randwrite 4k qd4", "fio+disk / fio+again randwrite 4k qd4"}, names); d != "" {
		t.Error(d)
	}
	for _, row := range r.Rows {
		if row.Device.SizeBytes != 4<<20 || row.Device.Preconditions == "" {
			t.Errorf("%s: %+v", row.Name, row.Device)
		}
		for _, run := range row.Runs {
			if run.Total.Ops == 0 || len(run.Beside) > 0 { // the foreign one polls, but not while it is paused
				t.Errorf("%s: %d requests, beside %v", row.Name, run.Total.Ops, run.Beside)
			}
		}
	}
	if r.Conditions.Fio == "" {
		t.Error("fio has no version")
	}

	cfg.Pause, cfg.Machine, cfg.Runs = false, &MachineTime{}, 1
	if r, err = Peers(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for _, row := range r.Rows {
		run := row.Runs[0]
		if run.Machine == nil || len(run.Machine.CPUs) != runtime.NumCPU() || run.Machine.RestMicrosPerIO <= 0 {
			t.Errorf("%s: %+v", row.Name, run.Machine)
		}
	}
}

func TestWhatOthersUsedMeanwhile(t *testing.T) {
	at := func(name string, ms reactor.Ticks) ProcessTime {
		return ProcessTime{Name: name, User: ms * reactor.Millisecond / 2, System: ms * reactor.Millisecond / 2}
	}
	got := beside([]ProcessTime{at("spdk", 100), at("idle", 100), at("gone", 100)}, []ProcessTime{at("spdk", 1060), at("idle", 150), at("gone", 0)}, reactor.Second)
	if d := cmp.Diff([]ProcessFigures{{Name: "spdk", CPUPercent: 96}}, got); d != "" {
		t.Error(d)
	}
}
