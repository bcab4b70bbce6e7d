package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pollux-storage/pollux/internal/hist"
)

// This file serves metrics to Prometheus. A MetricSource reads its counters when Prometheus asks, and keeps nothing: what
// is counted on the way of a request is counted by whoever owns it, without a lock and without this package.

// Family is a metric's name and what its labels are.
type Family struct {
	Name   string // with its unit; a counter ends in _total
	Help   string
	Kind   MetricKind
	Labels []string
	desc   *prometheus.Desc
}

// MetricKind says what a metric's values mean.
type MetricKind uint8

const (
	Counter MetricKind = iota // only grows
	Gauge
	Latency // a native histogram of seconds
)

// family declares a metric.
func family(kind MetricKind, name, help string, labels ...string) *Family {
	return &Family{Name: name, Help: help, Kind: kind, Labels: labels, desc: prometheus.NewDesc(name, help, labels, nil)}
}

// MetricSource gives metrics when it is asked.
type MetricSource interface {
	// Families lists all that Scrape may give.
	Families() []*Family
	// Scrape gives the present values. It runs on a goroutine of the endpoint's own, at most one at a time.
	Scrape(*Scrape)
}

// Scrape takes the values of one scrape.
type Scrape struct{ out chan<- prometheus.Metric }

// Value gives a counter or a gauge.
func (s *Scrape) Value(f *Family, value float64, labels ...string) {
	kind := prometheus.GaugeValue
	if f.Kind == Counter {
		kind = prometheus.CounterValue
	}
	m, err := prometheus.NewConstMetric(f.desc, kind, value, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(f.desc, err) // labels that do not fit: the scrape says so
	}
	s.out <- m
}

// Latency gives a distribution of nanoseconds.
func (s *Scrape) Latency(f *Family, h *hist.Histogram, labels ...string) {
	s.out <- newLatency(f.desc, h, labels)
}

// Metrics is the metrics of one engine.
type Metrics struct{ registry *prometheus.Registry }

// NewMetrics makes a set with the metrics of the process and the Go runtime.
func NewMetrics() *Metrics {
	m := &Metrics{registry: prometheus.NewPedanticRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Add adds a source. Two sources that give the same metric are a defect of this program.
func (m *Metrics) Add(source MetricSource) { m.registry.MustRegister(collector{source}) }

// collector is a MetricSource in Prometheus' words.
type collector struct{ source MetricSource }

func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range c.source.Families() {
		out <- f.desc
	}
}

func (c collector) Collect(out chan<- prometheus.Metric) { c.source.Scrape(&Scrape{out}) }

// MetricsServer is the endpoint.
type MetricsServer struct {
	// Addr is where it listens.
	Addr   net.Addr
	server *http.Server
	done   chan error
}

// Limits of the endpoint.
const (
	scrapeMax         = 1 // at a time; the next one is told to come again
	metricsHeaderTime = 10 * time.Second
	metricsWriteTime  = 30 * time.Second
)

// ListenMetrics serves metrics at http://addr/metrics, in the text and the protobuf format: only the second has native
// histograms, and Prometheus asks for it where native histograms are turned on.
func ListenMetrics(addr string, m *Metrics, log *slog.Logger) (*MetricsServer, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("serve metrics on %s: %w; choose another address with --metrics", addr, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError), ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: scrapeMax, EnableOpenMetrics: true,
	}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "Pollux. Metrics are at /metrics.\n")
	})
	s := &MetricsServer{Addr: listener.Addr(), done: make(chan error, 1), server: &http.Server{
		Handler: mux, ReadHeaderTimeout: metricsHeaderTime, ReadTimeout: metricsHeaderTime, WriteTimeout: metricsWriteTime,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
	go func() { s.done <- s.server.Serve(listener) }()
	return s, nil
}

// Close ends the endpoint, scrapes under way included.
func (s *MetricsServer) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), lastAnswers)
	defer cancel()
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = s.server.Close()
	}
	if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
