package ctl

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/reactor"
)

// attachSelf lets the engine serve a device and attach it itself, over loopback, and opens what comes of it.
func attachSelf(t *testing.T, e testEngine, device string) *bdev.Channel {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	call := func(method, params string) {
		t.Helper()
		if err := e.Methods.Call(t.Context(), method, json.RawMessage(params), nil); err != nil {
			t.Fatal(err)
		}
	}
	nqn := "nqn.2026-01.io.pollux:self"
	call("nvmf_create_transport", `{"trtype": "TCP"}`)
	call("nvmf_create_subsystem", fmt.Sprintf(`{"nqn": %q, "allow_any_host": true}`, nqn))
	call("nvmf_subsystem_add_ns", fmt.Sprintf(`{"nqn": %q, "namespace": {"bdev_name": %q}}`, nqn, device))
	call("nvmf_subsystem_add_listener", fmt.Sprintf(`{"nqn": %q, "listen_address": {"trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": %q}}`, nqn, port))
	call("bdev_nvme_attach_controller", fmt.Sprintf(
		`{"name": "self", "trtype": "TCP", "adrfam": "IPv4", "traddr": "127.0.0.1", "trsvcid": %q, "subnqn": %q, "hostnqn": "nqn.2026-01.io.pollux:me", "num_io_queues": 1}`, port, nqn))
	call("bdev_wait_for_examine", `{}`) // which reads
	h, err := e.Bdevs.Open("selfn1", bdev.OpenOptions{Who: "a test"})
	if err != nil {
		t.Fatal(err)
	}
	var ch *bdev.Channel
	if err := e.Reactors.Reactor(0).Call(func() { ch, err = h.Channel(e.Reactors.Reactor(0)) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = e.Reactors.Reactor(0).Call(ch.Close)
		h.Close()
	})
	return ch
}

// oneRequest is a request that a test waits for.
type oneRequest struct {
	bdev.Request
	ended chan bdev.Status
}

func (q *oneRequest) RequestDone(*bdev.Request) { q.ended <- q.Status }

// submit carries out a request of one block.
func submit(t *testing.T, r *reactor.Reactor, ch *bdev.Channel, kind bdev.Kind, lba uint64) {
	t.Helper()
	q := &oneRequest{ended: make(chan bdev.Status, 1)}
	q.Kind, q.LBA, q.Blocks, q.Done = kind, lba, 1, q
	q.SetData(make([]byte, 4096))
	if err := r.Call(func() { ch.Submit(&q.Request) }); err != nil {
		t.Fatal(err)
	}
	if s := <-q.ended; s != bdev.StatusOK {
		t.Fatalf("%v of block %d: %v", kind, lba, s)
	}
	_ = r.Call(q.Release)
}

// sumOf adds up stages.
func sumOf(stages []api.TraceStage) (ns uint64, share float64) {
	for _, s := range stages {
		ns += s.SumNS
		share += s.Share
	}
	return ns, share
}

// TestTraceOfAVolume traces changes and reads of a volume through the whole engine, and compares the sums with each other and with what the
// volume itself counts.
func TestTraceOfAVolume(t *testing.T) {
	e := startServer(t, testServer, newDisk(t, 512<<20))
	must := func(method, params string, result any) {
		t.Helper()
		if err := e.Methods.Call(t.Context(), method, json.RawMessage(params), result); err != nil {
			t.Fatal(err)
		}
	}
	must("pool_create", `{"name": "pool", "device": "disk"}`, nil)
	must("volume_create", `{"pool": "pool", "name": "v", "bytes": 67108864, "log_bytes": 33554432, "write_cache": "none"}`, nil)
	ch := attachSelf(t, e, "pool/v")
	r := e.Reactors.Reactor(0)
	var before, after api.VolumeStats
	must("volume_stats", `{"name": "pool/v"}`, &before)
	var began api.TraceStarted
	must("trace_start", `{"sample": 1, "seconds": 3600, "slowest": 3}`, &began)
	const n = 20
	for i := range uint64(n) {
		submit(t, r, ch, bdev.Write, i)
		submit(t, r, ch, bdev.Read, i)
	}
	var tr api.Trace
	read := func(params string) {
		t.Helper()
		tr = api.Trace{}
		must("trace_read", params, &tr)
	}
	for deadline := time.Now().Add(time.Minute); tr.Finished < 2*n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d commands of %d are finished after a minute", tr.Finished, 2*n)
		}
		read(`{"by": ["kind"]}`)
	}
	must("volume_stats", `{"name": "pool/v"}`, &after)
	if tr.Schema != api.TraceSchema || tr.Version != api.TraceVersion || tr.State != "running" || tr.Trace != began.Trace || tr.Sample != 1 || tr.Seen != 2*n || tr.Lost+tr.Unfinished != 0 ||
		len(tr.Groups) != 2 || len(tr.Slowest) != 6 {
		t.Fatalf("%+v", tr)
	}
	for _, g := range tr.Groups {
		want := map[string][]string{"write": {"reach", "admit", "place", "append", "write", "flush", "return"}, "read": {"reach", "read", "return"}}[g.Kind]
		ns, share := sumOf(g.Stages)
		if g.Count != n || g.Bytes != n*4096 || g.Errors != 0 || ns != g.Total.SumNS || share < 0.999999 || share > 1.000001 {
			t.Errorf("%s: %d commands, stages of %d ns, in all %d: %+v", g.Kind, g.Count, ns, g.Total.SumNS, g)
		}
		for _, s := range g.Stages {
			if s.P50NS > s.P99NS || s.P99NS > s.MaxNS || s.Buckets != nil {
				t.Errorf("%s: %+v", g.Kind, s)
			}
			if s.Stage != "device" {
				continue
			}
			if len(s.Layers) != 1 || s.Layers[0].SumNS != s.SumNS || s.Layers[0].Alias != "pool/v" {
				t.Errorf("%s: the layers of a volume: %+v", g.Kind, s.Layers)
				continue
			}
			inside := s.Layers[0].Stages
			var ns uint64
			for _, in := range inside {
				ns += in.SumNS
			}
			if ns != s.SumNS || len(inside) != len(want) {
				t.Errorf("%s: inside the volume %d ns of %d: %+v", g.Kind, ns, s.SumNS, inside)
				continue
			}
			for i, name := range want {
				if inside[i].Stage != name || inside[i].Count != n {
					t.Errorf("%s: stage %d: %+v, want %s", g.Kind, i, inside[i], name)
				}
			}
			for _, st := range after.Stages { // the volume's own figures, in the ticks of its reactor
				if i := indexOf(inside, st.Stage); g.Kind == "write" && i >= 0 {
					own := st.SumNS
					for _, b := range before.Stages {
						if b.Stage == st.Stage {
							own -= b.SumNS
						}
					}
					// A trace begins at the moment the volume got the request, the volume's own figures with the tick.
					if got := inside[i].SumNS; got > own || st.Stage == "flush" && got != own {
						t.Errorf("stage %s: the trace has %d ns, the volume %d", st.Stage, got, own)
					}
				}
			}
		}
	}
	for i, c := range tr.Slowest {
		var ns uint64
		for _, s := range c.Stages {
			ns += s.NS
		}
		if ns != c.TotalNS || c.Alias != "pool/v" || c.LBA == nil || c.Blocks != 1 || c.Bytes != 4096 || c.Host != "nqn.2026-01.io.pollux:me" || c.QID != 1 || !strings.Contains(c.Status, "Successful Completion") ||
			i > 0 && c.TotalNS > tr.Slowest[i-1].TotalNS {
			t.Errorf("%+v", c)
		}
	}
	for params, want := range map[string][2]int{
		`{}`:                                    {1, 6},
		`{"kind": "read", "slowest": 2}`:        {1, 2},
		`{"kind": "flush"}`:                     {0, 0},
		`{"device": "pool/v", "slowest": 0}`:    {1, 0},
		`{"device": "disk"}`:                    {0, 0},
		`{"host": "nqn.2026-01.io.pollux:you"}`: {0, 0},
		`{"by": ["kind", "device", "queue"]}`:   {2, 6},
		`{"by": ["queue"], "histogram": true}`:  {1, 6},
		`{"trace": "trace1", "by": ["device"]}`: {1, 6},
	} {
		read(params)
		if len(tr.Groups) != want[0] || len(tr.Slowest) != want[1] {
			t.Errorf("%s: %d groups, %d slowest, want %v", params, len(tr.Groups), len(tr.Slowest), want)
		}
	}
	read(`{"by": ["queue"], "histogram": true}`)
	var counted uint64
	for _, b := range tr.Groups[0].Total.Buckets {
		counted += b.Count
	}
	if g := tr.Groups[0]; counted != 2*n || g.CNTLID == nil || *g.QID != 1 || g.Host == "" || g.Kind != "" {
		t.Errorf("%+v", g)
	}
	must("trace_stop", `{}`, nil)
	must("trace_stop", `{"trace": "trace1"}`, nil) // twice is harmless
	submit(t, r, ch, bdev.Write, 1)
	if read(`{}`); tr.State != "ended" || tr.Seen != 2*n {
		t.Errorf("after its end: %+v", tr)
	}
}

// TestTraceOfAVolumeOnAnotherReactor: the way to a volume's reactor and back has its time, and all adds up when the host's queue lives elsewhere.
func TestTraceOfAVolumeOnAnotherReactor(t *testing.T) {
	e, err := NewEngine(EngineConfig{Reactors: reactor.Config{Cores: []int{-1, -1}, MemoryBytes: 64 << 20}, Server: testServer}, NewLog(io.Discard, slog.LevelError))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := e.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	call := func(method, params string, result any) {
		t.Helper()
		if err := e.Methods.Call(t.Context(), method, json.RawMessage(params), result); err != nil {
			t.Fatal(err)
		}
	}
	call("bdev_uring_create", fmt.Sprintf(`{"name": "disk", "filename": %q}`, newDisk(t, 512<<20)), nil)
	call("pool_create", `{"name": "pool", "device": "disk"}`, nil)
	call("volume_create", `{"pool": "pool", "name": "v", "bytes": 67108864, "log_bytes": 33554432, "write_cache": "none"}`, nil)
	ch := attachSelf(t, testEngine{Engine: e}, "pool/v")
	const n, nqn = 10, "nqn.2026-01.io.pollux:self"
	controllers, err := e.Target.Controllers(nqn)
	if err != nil || len(controllers) != 1 {
		t.Fatal(controllers, err)
	}
	var reach [2]uint64
	for at := range reach {
		if err := e.Target.MoveQueue(t.Context(), nqn, controllers[0].CNTLID, 1, at, time.Minute); err != nil {
			t.Fatal(err)
		}
		call("trace_start", `{"sample": 1, "seconds": 3600, "slowest": 64}`, nil)
		for i := range uint64(n) {
			submit(t, e.Reactors.Reactor(0), ch, bdev.Write, i)
			submit(t, e.Reactors.Reactor(0), ch, bdev.Read, i)
		}
		var tr api.Trace
		for deadline := time.Now().Add(time.Minute); tr.Finished < 2*n && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			tr = api.Trace{}
			call("trace_read", `{"slowest": 64}`, &tr)
		}
		if len(tr.Slowest) != 2*n {
			t.Fatalf("%d commands of %d", len(tr.Slowest), 2*n)
		}
		for _, c := range tr.Slowest {
			var sum uint64
			for _, s := range c.Stages {
				sum += s.NS
				for _, l := range s.Layers {
					var inside uint64
					for _, in := range l.Stages {
						if inside += in.NS; in.Stage == "reach" {
							reach[at] += in.NS
						}
					}
					if l.NS != s.NS || inside != s.NS {
						t.Errorf("%+v", c)
					}
				}
			}
			if sum != c.TotalNS || c.Reactor != reactorName(at) {
				t.Errorf("on reactor %d: %+v", at, c)
			}
		}
		call("trace_stop", `{}`, nil)
	}
	if max(reach[0], reach[1]) == 0 {
		t.Error("no command had a way to its volume")
	}
}

func indexOf(stages []api.TraceInside, name string) int {
	for i := range stages {
		if stages[i].Stage == name {
			return i
		}
	}
	return -1
}

// TestTraceIsRefused: what a caller hears who asks for what cannot be.
func TestTraceIsRefused(t *testing.T) {
	e := startEngine(t)
	if err := e.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	call := func(method, params string) error {
		return e.Methods.Call(t.Context(), method, json.RawMessage(params), nil)
	}
	for _, method := range []string{"trace_read", "trace_stop"} {
		if err := call(method, `{}`); api.AsError(err).Data == nil || api.AsError(err).Data.Reason != "ErrNotFound" {
			t.Errorf("%s without a trace: %v", method, err)
		}
	}
	for _, params := range []string{`{"sample": 0}`, `{"sample": 16777217}`, `{"seconds": 0}`, `{"seconds": 3601}`, `{"slowest": 65}`} {
		if err := call("trace_start", params); err == nil || api.AsError(err).Code != api.CodeInvalidParams {
			t.Errorf("%s: %v", params, err)
		}
	}
	if err := call("trace_start", `{"seconds": 3600}`); err != nil {
		t.Fatal(err)
	}
	if err := call("trace_start", `{}`); api.AsError(err).Data == nil || api.AsError(err).Data.Reason != "ErrBusy" {
		t.Errorf("a second trace: %v", err)
	}
	for _, params := range []string{`{"by": ["colour"]}`, `{"trace": "trace7"}`, `{"slowest": 65}`} {
		if err := call("trace_read", params); err == nil {
			t.Errorf("trace_read %s succeeds", params)
		}
	}
	e.stop() // ends the trace, whose hour has not passed
}

// TestTraceEndsByItself: nobody asks again, and its time passes.
func TestTraceEndsByItself(t *testing.T) {
	e := startEngine(t)
	if err := e.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := api.TraceStart.Call(t.Context(), e.Methods, api.TraceStartParams{Sample: 1, Seconds: 1}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case <-e.traces.run.ended:
	case <-ctx.Done():
		t.Fatal("a trace of one second runs on")
	}
	if e.traces.run.tracing != nil {
		t.Error("a trace that has ended keeps the records of its reactors")
	}
	tracing, err := e.Target.Trace(1) // the reactors are free for another
	if err != nil {
		t.Fatal(err)
	}
	if err := tracing.Stop(); err != nil {
		t.Error(err)
	}
	tr, err := api.TraceRead.Call(t.Context(), e.Methods, api.TraceReadParams{})
	if err != nil || tr.State != "ended" || tr.Seconds < 1 || len(tr.Groups) != 0 {
		t.Errorf("%+v, %v", tr, err)
	}
}
