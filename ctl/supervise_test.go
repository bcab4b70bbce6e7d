package ctl

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/reactor"
)

// manager plays the service manager.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	env  map[string]string
}

func newManager(t *testing.T, name string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &manager{t, conn, map[string]string{"NOTIFY_SOCKET": name}}
}

func (m *manager) getenv(name string) string { return m.env[name] }

// hears gives the next message.
func (m *manager) hears() string {
	m.t.Helper()
	b := make([]byte, 4096)
	n, err := m.conn.Read(b)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b[:n])
}

func TestTheManagerHears(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), fmt.Sprintf("@pollux-test-%s", filepath.Base(t.TempDir()))} {
		m := newManager(t, name)
		m.env["WATCHDOG_USEC"], m.env["WATCHDOG_PID"] = "40000", "7"
		s, err := NewSupervisor(m.getenv, 7, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		e := startEngine(t)
		s.Ready("serving,\non one core")
		if got := m.hears(); got != "READY=1\nSTATUS=serving, on one core" {
			t.Errorf("%s: %q", name, got)
		}
		s.Watch(e.Reactors)
		for range 3 {
			if got := m.hears(); got != "WATCHDOG=1" {
				t.Errorf("%s: %q", name, got)
			}
		}
		s.Stopping()
		for got := m.hears(); got != "STOPPING=1\nSTATUS=closing volumes and pools"; got = m.hears() {
			if got != "WATCHDOG=1" {
				t.Fatalf("%s: %q", name, got)
			}
		}
		e.stop() // the watchdog goes on while reactors end
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestAStuckReactorStopsTheWatchdog: however often it looks, and it goes on when the reactor does.
func TestAStuckReactorStopsTheWatchdog(t *testing.T) {
	g, err := reactor.Start(reactor.Config{Cores: []int{-1, -1}, MemoryBytes: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	signs := 0
	w := newWatchdog(g, func() { signs++ }, slog.New(slog.NewTextHandler(&log, nil)))
	answered := func() {
		if err := g.Each(func(*reactor.Reactor) {}); err != nil { // calls run in order
			t.Fatal(err)
		}
	}
	want := func(n int, why string) {
		t.Helper()
		if signs != n {
			t.Fatalf("%s: %d signs of life, want %d", why, signs, n)
		}
	}
	w.look()
	want(1, "the first")
	answered()
	w.look()
	want(2, "both turn")
	answered()

	stuck, release := make(chan struct{}), make(chan struct{})
	if err := g.Reactor(1).Go(func() { close(stuck); <-release }); err != nil {
		t.Fatal(err)
	}
	<-stuck
	w.look() // what was asked before was answered
	want(3, "the last question was answered")
	if err := g.Reactor(0).Call(func() {}); err != nil { // now only the stuck one owes an answer
		t.Fatal(err)
	}
	for range 100 {
		w.look()
	}
	want(3, "one is stuck")
	if n := strings.Count(log.String(), "does not turn"); n != 1 || !strings.Contains(log.String(), "reactor=1") {
		t.Errorf("the log has %s", log.String())
	}
	close(release)
	answered()
	w.look()
	want(4, "it turns again")
	answered()
	if err := g.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.look()
	w.look()
	want(6, "reactors that have ended are not stuck")
}

func TestSupervisorFromTheEnvironment(t *testing.T) {
	discard := slog.New(slog.NewTextHandler(io.Discard, nil))
	for _, c := range []struct {
		what    string
		env     map[string]string
		want    string // of the error
		nobody  bool
		noWatch bool
	}{
		{what: "no manager", env: map[string]string{"WATCHDOG_USEC": "1000000"}, nobody: true},
		{what: "a relative path", env: map[string]string{"NOTIFY_SOCKET": "run/notify"}, want: "neither a path nor an abstract name"},
		{what: "nobody listens", env: map[string]string{"NOTIFY_SOCKET": "/nonexistent/notify"}, want: "NOTIFY_SOCKET"},
		{what: "an interval that is no number", env: map[string]string{"WATCHDOG_USEC": "soon"}, want: `WATCHDOG_USEC is "soon"`},
		{what: "an interval of nothing", env: map[string]string{"WATCHDOG_USEC": "0"}, want: `WATCHDOG_USEC is "0"`},
		{what: "an interval that cannot be counted", env: map[string]string{"WATCHDOG_USEC": "9223372036854775807"}, want: "WATCHDOG_USEC"},
		{what: "another process's watchdog", env: map[string]string{"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "8"}, noWatch: true},
		{what: "no watchdog", env: map[string]string{}, noWatch: true},
	} {
		m := newManager(t, filepath.Join(t.TempDir(), "n"))
		if c.nobody {
			delete(m.env, "NOTIFY_SOCKET")
		}
		for k, v := range c.env {
			m.env[k] = v
		}
		s, err := NewSupervisor(m.getenv, 7, discard)
		if c.want != "" {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", c.what, err)
			}
			continue
		}
		if err != nil || (s == nil) != c.nobody || s != nil && (s.period == 0) != c.noWatch {
			t.Errorf("%s: %+v, %v", c.what, s, err)
		}
		s.Ready("x") // nobody, or the manager
		s.Stopping()
		s.Watch(nil)
		if err := s.Close(); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}
