package reactor_test

import (
	"math"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/reactor"
)

func TestTuneRuntime(t *testing.T) {
	procs, percent, limit := runtime.GOMAXPROCS(0), debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	t.Cleanup(func() {
		runtime.GOMAXPROCS(procs)
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
		reactor.ForgetTuning()
	})
	const bytes = 3 << 30
	for name, c := range map[string]struct {
		env     map[string]string
		procs   int
		percent int
		limit   int64
	}{
		"nothing is set":        {nil, 7, -1, bytes},
		"GOMAXPROCS is set":     {map[string]string{"GOMAXPROCS": "3"}, 3, -1, bytes},
		"GOGC is set":           {map[string]string{"GOGC": "100"}, 7, 100, math.MaxInt64},
		"GOMEMLIMIT is set":     {map[string]string{"GOMEMLIMIT": "1GiB"}, 7, 100, math.MaxInt64},
		"all of them are taken": {map[string]string{"GOMAXPROCS": "3", "GOGC": "100"}, 3, 100, math.MaxInt64},
	} {
		t.Run(name, func(t *testing.T) {
			runtime.GOMAXPROCS(3)
			debug.SetGCPercent(100)
			debug.SetMemoryLimit(math.MaxInt64)
			reactor.TuneRuntime(5, bytes, func(k string) string { return c.env[k] })
			if got := runtime.GOMAXPROCS(0); got != c.procs {
				t.Errorf("GOMAXPROCS %d, want %d", got, c.procs)
			}
			if got := debug.SetGCPercent(100); got != c.percent {
				t.Errorf("GOGC %d, want %d", got, c.percent)
			}
			if got := debug.SetMemoryLimit(-1); got != c.limit {
				t.Errorf("memory limit %d, want %d", got, c.limit)
			}
		})
	}
}

// A reactor that spins holds a processor, and leaves the others to ordinary goroutines and the collector.
func TestOrdinaryGoroutinesRunBesideSpinningReactors(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(procs) })
	runtime.GOMAXPROCS(4)
	start(t, reactor.Config{Cores: unpinned(2), Idle: reactor.Poll})
	turns := make(chan int)
	go func() {
		for i := range 1000 {
			turns <- i
		}
		close(turns)
	}()
	for range turns {
	}
	for range 3 {
		runtime.GC()
	}
}

// What would leave a group that can never end stops the process, with the reason.
func TestMisuseStopsTheProcess(t *testing.T) {
	misuses := map[string]func(g *reactor.Group){
		"Goexit on a reactor": func(g *reactor.Group) { _ = g.Reactor(0).Go(runtime.Goexit) },
		"Call of its own reactor": func(g *reactor.Group) {
			_ = g.Reactor(0).Go(func() { _ = g.Reactor(0).Call(func() {}) })
		},
		"Call of another reactor": func(g *reactor.Group) {
			_ = g.Reactor(0).Go(func() { _ = g.Reactor(1).Call(func() {}) })
		},
		"Stop on a reactor": func(g *reactor.Group) {
			_ = g.Reactor(0).Go(func() { _ = g.Stop(t.Context()) })
		},
		"a panic on a reactor": func(g *reactor.Group) {
			_ = g.Reactor(0).Go(func() { panic("something else") })
		},
	}
	if name := os.Getenv("POLLUX_TEST_MISUSE"); name != "" {
		misuses[name](start(t, reactor.Config{Cores: unpinned(2)}))
		select {}
	}
	for name, want := range map[string]string{
		"Goexit on a reactor":     "invariant broken: reactor: something that ran on a reactor ended its goroutine",
		"Call of its own reactor": "invariant broken: reactor: a reactor may not wait",
		"Call of another reactor": "invariant broken: reactor: a reactor may not wait",
		"Stop on a reactor":       "invariant broken: reactor: a reactor may not wait",
		"a panic on a reactor":    "panic: something else",
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestMisuseStopsTheProcess$", "-test.timeout=60s")
			cmd.Env = append(os.Environ(), "POLLUX_TEST_MISUSE="+name)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), want) {
				t.Errorf("%v, and it said %s", err, out)
			}
		})
	}
}
