package ctl

import (
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/reactor"
)

// dialEngine makes an engine in the runtime state, and a client at its socket.
func dialEngine(t *testing.T) (testEngine, *api.Client) {
	t.Helper()
	e := startEngine(t)
	path := serveEngine(t, e)
	if err := e.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	client, err := api.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return e, client
}

// serveEngine lets an engine answer at a socket, and gives its path.
func serveEngine(t *testing.T, e testEngine) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	server, err := Listen(path, e.Methods, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return path
}

// must calls a method that succeeds.
func must[P, R any](t *testing.T, c api.Caller, m api.Method[P, R], p P) R {
	t.Helper()
	r, err := m.Call(t.Context(), c, p)
	if err != nil {
		t.Fatalf("%s: %v", m.Name, err)
	}
	return r
}

// refused calls a method that fails so.
func refused[P, R any](t *testing.T, c api.Caller, m api.Method[P, R], p P, code int, want string) {
	t.Helper()
	if _, err := m.Call(t.Context(), c, p); err == nil || api.AsError(err).Code != code || !strings.Contains(err.Error(), want) {
		t.Errorf("%s %+v: %v; want %d, %q", m.Name, p, err, code, want)
	}
}

// reload saves subsystems, loads them into another engine and compares what that saves.
func reload(t *testing.T, client api.Caller, subsystems ...string) string {
	t.Helper()
	save := func(c api.Caller) string {
		saved, err := api.SaveConfig(t.Context(), c, subsystems...)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.MarshalIndent(saved, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	first := save(client)
	other := startEngine(t)
	if err := configureEngine(t, other, "saved.json", first, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, save(other.Methods)); diff != "" {
		t.Errorf("what was saved makes another engine:\n%s", diff)
	}
	return first
}

// user is someone who reads and writes a device.
type user struct {
	t  *testing.T
	h  *bdev.Handle
	cs []*bdev.Channel
}

func openDevice(t *testing.T, e testEngine, name string) *user {
	t.Helper()
	h, err := e.Bdevs.Open(name, bdev.OpenOptions{Who: "test"})
	if err != nil {
		t.Fatal(err)
	}
	cs, err := h.Channels()
	if err != nil {
		t.Fatal(err)
	}
	return &user{t, h, cs}
}

func (u *user) close() {
	bdev.CloseChannels(u.cs)
	u.h.Close()
}

type ended chan struct{}

func (e ended) RequestDone(*bdev.Request) { close(e) }

// submit begins a request of one block.
func (u *user) submit(e testEngine, k bdev.Kind, data []byte) *bdev.Request {
	q := &bdev.Request{Done: make(ended)}
	if err := e.Reactors.Reactor(0).Call(func() {
		q.Kind, q.Blocks = k, 1
		q.SetData(data)
		u.cs[0].Submit(q)
	}); err != nil {
		u.t.Fatal(err)
	}
	return q
}

// do carries out a request of one block.
func (u *user) do(e testEngine, k bdev.Kind, data []byte) bdev.Status {
	q := u.submit(e, k, data)
	<-q.Done.(ended)
	return q.Status
}

func TestResetIostat(t *testing.T) {
	e, c := dialEngine(t)
	must(t, c, api.BdevMallocCreate, api.BdevMallocCreateParams{Name: "m0", NumBlocks: 64, BlockSize: 512})
	u := openDevice(t, e, "m0")
	defer u.close()
	block := make([]byte, 512)
	load := func() {
		if s := u.do(e, bdev.Write, block); s != bdev.StatusOK {
			t.Fatal(s)
		}
		if s := u.do(e, bdev.Read, make([]byte, 1024)); s == bdev.StatusOK {
			t.Fatal("a block of two blocks' memory is read")
		}
	}
	stat := func(mode string) api.Iostat {
		return (*must(t, c, api.BdevGetIostat, api.BdevGetIostatParams{Names: []string{"m0"}, ResetMode: mode}).Bdevs)[0]
	}
	load()
	if s := stat("none"); s.NumWriteOps != 1 || s.BytesWritten != 512 || len(s.IOError) != 1 {
		t.Errorf("%+v", s)
	}
	must(t, c, api.BdevResetIostat, api.BdevResetIostatParams{Name: "m0", Mode: "maxmin"})
	if s := stat("none"); s.NumWriteOps != 1 || s.MaxWriteLatencyTicks != 0 || len(s.IOError) != 1 {
		t.Errorf("after maxmin: %+v", s)
	}
	must(t, c, api.BdevResetIostat, api.BdevResetIostatParams{Name: "m0", Mode: "error"})
	if s := stat("none"); s.NumWriteOps != 1 || len(s.IOError) != 0 {
		t.Errorf("after error: %+v", s)
	}
	must(t, c, api.BdevResetIostat, api.BdevResetIostatParams{Mode: "none"})
	if s := stat("all"); s.NumWriteOps != 1 {
		t.Errorf("none, and reading with all, reset before they gave: %+v", s)
	}
	if s := stat("none"); s.NumWriteOps != 0 {
		t.Errorf("after reading with all: %+v", s)
	}
	load()
	must(t, c, api.BdevResetIostat, api.BdevResetIostatParams{})
	if s := stat("none"); s.NumWriteOps != 0 || len(s.IOError) != 0 {
		t.Errorf("after a reset of all: %+v", s)
	}
	if l := must(t, c, api.EngineGetLatency, api.EngineGetLatencyParams{Name: "m0"}); len(l) != 0 {
		t.Errorf("after a reset of all: %+v", l)
	}
	if d, _ := e.Bdevs.Lookup("m0"); d.Stats().Kinds[bdev.Write].Ops != 2 {
		t.Error("a reset changed the counters of the metrics")
	}
	refused(t, c, api.BdevResetIostat, api.BdevResetIostatParams{Name: "none"}, -19, "none")
}

func TestChannelsOfReactors(t *testing.T) {
	e, c := dialEngine(t)
	must(t, c, api.BdevNullCreate, api.BdevNullCreateParams{Name: "n0", NumBlocks: 64, BlockSize: 512})
	if l := must(t, c, api.ThreadGetIOChannels, api.None{}); len(l.Threads) != 1 || len(l.Threads[0].IOChannels) != 0 {
		t.Errorf("%+v", l)
	}
	one, two := openDevice(t, e, "n0"), openDevice(t, e, "n0")
	l := must(t, c, api.ThreadGetIOChannels, api.None{})
	if diff := cmp.Diff([]api.ChannelsThread{{Name: "reactor_0", ID: 1, IOChannels: []api.IOChannel{{Name: "n0", Ref: 2}}}}, l.Threads); diff != "" {
		t.Error(diff)
	}
	one.close()
	two.close()
}

func TestQueueDepthSampling(t *testing.T) {
	_, c := dialEngine(t)
	must(t, c, api.BdevNullCreate, api.BdevNullCreateParams{Name: "n0", NumBlocks: 64, BlockSize: 512})
	must(t, c, api.BdevSetQDSamplingPeriod, api.BdevSetQDSamplingPeriodParams{Name: "n0", Period: 500})
	must(t, c, api.BdevSetQDSamplingPeriod, api.BdevSetQDSamplingPeriodParams{Name: "n0", Period: 1000})
	stat := func() api.Iostat { return (*must(t, c, api.BdevGetIostat, api.BdevGetIostatParams{}).Bdevs)[0] }
	if s := stat(); s.QueueDepthPollingPeriod == nil || *s.QueueDepthPollingPeriod != 1000 || *s.IOTime != 0 || *s.WeightedIOTime != 0 {
		t.Errorf("%+v", s)
	}
	if text := reload(t, c, "bdev"); !strings.Contains(text, "bdev_set_qd_sampling_period") {
		t.Errorf("it is not saved:\n%s", text)
	}
	must(t, c, api.BdevSetQDSamplingPeriod, api.BdevSetQDSamplingPeriodParams{Name: "n0"})
	if s := stat(); s.QueueDepthPollingPeriod != nil {
		t.Errorf("%+v", s)
	}
	must(t, c, api.BdevSetQDSamplingPeriod, api.BdevSetQDSamplingPeriodParams{Name: "n0", Period: 1000})
	must(t, c, api.BdevNullDelete, api.BdevNameParams{Name: "n0"}) // and nobody samples it any more, or TestMain finds who does
	refused(t, c, api.BdevSetQDSamplingPeriod, api.BdevSetQDSamplingPeriodParams{Name: "n0", Period: 1}, -19, "n0")

	one := depth{period: time.Millisecond}
	one.sample(0, 5*reactor.Microsecond)
	one.sample(3, 10*reactor.Microsecond)
	one.sample(1, 2*reactor.Microsecond)
	s := depths{of: map[string]*depth{"d": &one}}
	var st api.Iostat
	s.tell("d", &st)
	if *st.IOTime != 12 || *st.WeightedIOTime != 32 {
		t.Errorf("%d, %d", *st.IOTime, *st.WeightedIOTime)
	}
}

func TestResizedNullIsSavedSo(t *testing.T) {
	_, c := dialEngine(t)
	must(t, c, api.BdevNullCreate, api.BdevNullCreateParams{Name: "n0", NumBlocks: 64, BlockSize: 512})
	must(t, c, api.BdevNullResize, api.BdevNullResizeParams{Name: "n0", NewSize: 2})
	if text := reload(t, c, "bdev"); !strings.Contains(text, `"num_blocks": 4096`) {
		t.Error(text)
	}
	_, err := api.BdevNullResize.Call(t.Context(), c, api.BdevNullResizeParams{Name: "none", NewSize: 2})
	if !errors.Is(err, syscall.ENODEV) {
		t.Error(err)
	}
}
