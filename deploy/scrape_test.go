package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/rdmatest"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is what a running engine gives to Prometheus: one with a pool, a volume, a snapshot, a subsystem, and a card in memory, after a request of each
// kind that is asked for in an expression, and an initiator that cannot log in.

// metric is what was seen of one.
type metric struct {
	kind   dto.MetricType
	values map[string]map[string]bool // of each label
}

// scrapeEngine gives the metrics by name.
func scrapeEngine(t *testing.T) map[string]metric {
	t.Helper()
	log := ctl.NewLog(io.Discard, slog.LevelError)
	e, err := ctl.NewEngine(ctl.EngineConfig{Reactors: reactor.Config{Cores: []int{-1}, MemoryBytes: 64 << 20}, Server: uuid.New()}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	if err := e.Frame.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	fabric := rdmatest.NewFabric()
	e.Target.UseRDMA(func() (rdma.Provider, error) { return fabric.Provider("card", rdmatest.Options{SRQDepth: 4096}), nil })
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 256<<20); err != nil {
		t.Fatal(err)
	}
	file, _ := json.Marshal(map[string]string{"name": "disk", "filename": disk})
	for _, call := range [][2]string{
		{"bdev_uring_create", string(file)},
		{"pool_create", `{"name": "p", "device": "disk"}`},
		{"volume_create", `{"pool": "p", "name": "v", "bytes": 16777216}`},
		{"snapshot_create", `{"volume": "p/v", "name": "s"}`},
		{"nvmf_create_transport", `{"trtype": "TCP"}`},
		{"nvmf_create_transport", `{"trtype": "RDMA"}`},
		{"iscsi_create_portal_group", `{"tag": 1, "portals": [{"host": "127.0.0.1", "port": "0"}]}`},
		{"nvmf_create_subsystem", `{"nqn": "nqn.2024-01.com.example:v"}`},
	} {
		if err := e.Methods.Call(t.Context(), call[0], json.RawMessage(call[1]), new(json.RawMessage)); err != nil {
			t.Fatalf("%s: %v", call[0], err)
		}
	}
	for _, k := range []bdev.Kind{bdev.Write, bdev.Read, bdev.Flush, bdev.Unmap} {
		if status := request(t, e, "p/v", k); status != bdev.StatusOK {
			t.Fatalf("%v: %v", k, status)
		}
	}
	failToLogIn(t, e)
	s, err := ctl.ListenMetrics("127.0.0.1:0", e.Metrics(), log.For("metrics"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + s.Addr.String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %s, %v", resp.Status, text, err)
	}
	return parse(t, text)
}

// failToLogIn is an initiator that begins with a NOP-Out, and waits for its end.
func failToLogIn(t *testing.T, e *ctl.Engine) {
	t.Helper()
	c, err := net.Dial("tcp", e.ISCSI.PortalGroups()[0].Portals[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_, err = c.Write(make([]byte, iscsi.BHSBytes))
	if err == nil {
		_, err = io.Copy(io.Discard, c)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
}

// parse reads what Prometheus would. The series of a histogram are named one by one.
func parse(t *testing.T, text []byte) map[string]metric {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]metric{}
	for name, f := range families {
		m := metric{f.GetType(), map[string]map[string]bool{}}
		see := func(label, value string) {
			if m.values[label] == nil {
				m.values[label] = map[string]bool{}
			}
			m.values[label][value] = true
		}
		for _, one := range f.Metric {
			for _, l := range one.Label {
				see(l.GetName(), l.GetValue())
			}
		}
		switch m.kind {
		case dto.MetricType_SUMMARY:
			see("quantile", "0")
			see("quantile", "1")
		case dto.MetricType_HISTOGRAM:
			all[name+"_sum"], all[name+"_count"] = m, m
			bucket := metric{m.kind, map[string]map[string]bool{"le": {"+Inf": true}}}
			for label, values := range m.values {
				bucket.values[label] = values
			}
			all[name+"_bucket"] = bucket
		}
		all[name] = m
	}
	return all
}

// done tells that a request has ended.
type done chan struct{}

// RequestDone is called by the device.
func (d done) RequestDone(*bdev.Request) { close(d) }

// request carries out one of 4096 bytes.
func request(t *testing.T, e *ctl.Engine, device string, k bdev.Kind) bdev.Status {
	t.Helper()
	h, err := e.Bdevs.Open(device, bdev.OpenOptions{Who: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	channels, err := h.Channels()
	if err != nil {
		t.Fatal(err)
	}
	defer bdev.CloseChannels(channels)
	end := make(done)
	q := &bdev.Request{Done: end}
	if err := e.Reactors.Reactor(0).Call(func() {
		if q.Kind = k; k != bdev.Flush {
			q.Blocks = 1
		}
		if k == bdev.Write || k == bdev.Read {
			q.SetData(make([]byte, 4096))
		}
		channels[0].Submit(q)
	}); err != nil {
		t.Fatal(err)
	}
	<-end
	return q.Status
}
