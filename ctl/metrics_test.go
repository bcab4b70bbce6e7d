package ctl

import (
	"errors"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/pollux-storage/pollux/internal/hist"
)

var (
	mTestCount   = family(Counter, "test_total", "A counter.", "who")
	mTestLatency = family(Latency, "test_seconds", "A histogram.", "who")
)

// testSource gives whatever a test put into it.
type testSource struct {
	count  float64
	h      hist.Histogram
	labels []string
}

func (testSource) Families() []*Family { return []*Family{mTestCount, mTestLatency} }

func (s testSource) Scrape(out *Scrape) {
	out.Value(mTestCount, s.count, s.labels...)
	out.Latency(mTestLatency, &s.h, s.labels...)
}

func get(t *testing.T, s *MetricsServer, path, accept string) (*http.Response, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.Addr.String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", accept)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

func serveMetrics(t *testing.T, source MetricSource) *MetricsServer {
	t.Helper()
	m := NewMetrics()
	m.Add(source)
	s, err := ListenMetrics("127.0.0.1:0", m, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestMetricsAsText(t *testing.T) {
	source := testSource{count: 7, labels: []string{"me"}}
	source.h.Record(1000)    // 1 µs
	source.h.Record(1024)    // the border itself
	source.h.Record(1 << 34) // the last border
	source.h.Record(1 << 36)
	s := serveMetrics(t, source)
	_, body := get(t, s, "/metrics", "")
	for _, want := range []string{
		"# HELP test_total A counter.\n# TYPE test_total counter\ntest_total{who=\"me\"} 7\n",
		"# TYPE test_seconds histogram\n",
		"test_seconds_bucket{who=\"me\",le=\"1.024e-06\"} 2\n", "test_seconds_bucket{who=\"me\",le=\"4.096e-06\"} 2\n",
		"test_seconds_bucket{who=\"me\",le=\"17.179869184\"} 3\n", "test_seconds_bucket{who=\"me\",le=\"+Inf\"} 4\n",
		"test_seconds_count{who=\"me\"} 4\n",
	} {
		if !strings.Contains(string(body), want) {
			t.Errorf("there is no %q", want)
		}
	}
	if resp, body := get(t, s, "/", ""); resp.StatusCode != 200 || !strings.Contains(string(body), "/metrics") {
		t.Error(resp.Status, string(body))
	}
	if resp, _ := get(t, s, "/nothing", ""); resp.StatusCode != 404 {
		t.Error(resp.Status)
	}
}

// TestMetricsNative reads the native histogram as Prometheus does, and finds every value in the bucket it belongs to, or
// in the next where the units' scales do not meet.
func TestMetricsNative(t *testing.T) {
	source := testSource{labels: []string{"me"}}
	want := map[int]uint64{}
	r := rand.New(rand.NewPCG(5, 6))
	for range 10_000 {
		v := uint64(math.Exp(r.NormFloat64()*3 + 11))
		source.h.Record(v)
		want[hist.Index(v)-stepsOfSecond]++
	}
	s := serveMetrics(t, source)
	resp, body := get(t, s, "/metrics", string(expfmt.NewFormat(expfmt.TypeProtoDelim)))
	decoder := expfmt.NewDecoder(strings.NewReader(string(body)), expfmt.ResponseFormat(resp.Header))
	for {
		var f dto.MetricFamily
		if err := decoder.Decode(&f); err != nil {
			t.Fatal("there is no test_seconds: ", err)
		}
		if f.GetName() != "test_seconds" {
			continue
		}
		h := f.Metric[0].Histogram
		if h.GetSampleCount() != 10_000 || h.GetSchema() != 3 || math.Abs(h.GetSampleSum()-float64(source.h.Sum)/1e9) > 1e-6 {
			t.Errorf("%d, %d, %g", h.GetSampleCount(), h.GetSchema(), h.GetSampleSum())
		}
		if diff := cmp.Diff(want, nativeBuckets(h)); diff != "" {
			t.Error(diff)
		}
		return
	}
}

// nativeBuckets reads spans and deltas (io.prometheus.client.Histogram, metrics.proto).
func nativeBuckets(h *dto.Histogram) map[int]uint64 {
	buckets := map[int]uint64{}
	at, count, delta := 0, int64(0), 0
	for _, span := range h.PositiveSpan {
		at += int(span.GetOffset())
		for range span.GetLength() {
			count += h.PositiveDelta[delta]
			if count > 0 {
				buckets[at] = uint64(count)
			}
			at++
			delta++
		}
	}
	return buckets
}

// TestNativeEncodingAgreesWithClientGolang: the library's constant histogram is the twin.
func TestNativeEncodingAgreesWithClientGolang(t *testing.T) {
	var h hist.Histogram
	twin := map[int]int64{}
	for _, v := range []uint64{0, 1, 2, 2, 5, 1000, 1001, 50_000, 1 << 39, math.MaxInt64} {
		h.Record(v)
		twin[hist.Index(v)-stepsOfSecond]++
	}
	m, err := prometheus.NewConstNativeHistogram(mTestLatency.desc, h.Count, float64(h.Sum)*1e-9, twin, nil, 0, 3, 1e-12, time.Time{}, "me")
	if err != nil {
		t.Fatal(err)
	}
	var want, got dto.Metric
	if err := m.Write(&want); err != nil {
		t.Fatal(err)
	}
	if err := newLatency(mTestLatency.desc, &h, []string{"me"}).Write(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(nativeBuckets(want.Histogram), nativeBuckets(got.Histogram)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want.Label[0].String(), got.Label[0].String()); diff != "" {
		t.Error(diff)
	}
}

// TestScaleIsOffByLessThanAFifthOfABucket is the figure that the comment at the head of metrics_latency.go gives.
func TestScaleIsOffByLessThanAFifthOfABucket(t *testing.T) {
	steps := math.Log2(1e9)*(1<<hist.Schema) - stepsOfSecond
	if steps < 0 || steps > 0.2 {
		t.Errorf("off by %.3f of a bucket", steps)
	}
}

func TestMetricsSaySoWhenLabelsDoNotFit(t *testing.T) {
	s := serveMetrics(t, testSource{labels: []string{"one", "too many"}})
	_, body := get(t, s, "/metrics", "")
	if strings.Contains(string(body), "test_total{") || !strings.Contains(string(body), "go_goroutines") {
		t.Errorf("got %s", body)
	}
}

func TestMetricsAddressInUse(t *testing.T) {
	s := serveMetrics(t, testSource{labels: []string{"me"}})
	_, err := ListenMetrics(s.Addr.String(), NewMetrics(), slog.New(slog.DiscardHandler))
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "choose another address with --metrics") {
		t.Error(err)
	}
}
