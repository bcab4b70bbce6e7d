package reactor_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/reactor/ring"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// start starts a group that ends with the test, leaving no descriptor.
func start(t testing.TB, cfg reactor.Config) *reactor.Group {
	t.Helper()
	if cfg.Cores == nil {
		cfg.Cores = []int{-1}
	}
	if cfg.MemoryBytes == 0 {
		cfg.MemoryBytes = 16 << 20
	}
	before := descriptors(t)
	g, err := reactor.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) // a test that failed may have left something
		defer cancel()
		if err := g.Stop(ctx); err != nil {
			t.Error(err)
			return
		}
		if after := descriptors(t); after != before {
			t.Errorf("%s before the reactors, %s after", before, after)
		}
	})
	return g
}

// descriptors lists the process's open descriptors by what they are. Those of the Go runtime come when they are first needed.
func descriptors(t testing.TB) string {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, fd := range fds {
		l, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err != nil {
			continue // the one that read the folder
		}
		switch kind, _, _ := strings.Cut(l, ":"); {
		case strings.Contains(l, "io_uring"):
			n["io_uring"]++
		case kind == "socket", kind == "pipe":
			n[kind]++
		case strings.Contains(l, "memfd"):
			n["memfd"]++
		}
	}
	return fmt.Sprint(n)
}

// on runs f on the reactor and returns when it has run.
func on(t testing.TB, r *reactor.Reactor, f func()) {
	t.Helper()
	if err := r.Call(f); err != nil {
		t.Fatal(err)
	}
}

// awaitSleep returns when r has been seen asleep.
func awaitSleep(r *reactor.Reactor) {
	for !r.Asleep() {
		runtime.Gosched()
	}
}

// unpinned is n reactors without a core of their own.
func unpinned(n int) []int {
	cores := make([]int, n)
	for i := range cores {
		cores[i] = -1
	}
	return cores
}

var policies = []reactor.Idle{reactor.Adaptive, reactor.Poll, reactor.Interrupt}

// eachPolicy runs f with each idle policy.
func eachPolicy(t *testing.T, f func(t *testing.T, cfg reactor.Config)) {
	for _, p := range policies {
		t.Run(p.String(), func(t *testing.T) { f(t, reactor.Config{Idle: p}) })
	}
}

// eachSetup runs f with each way in which a kernel may set the rings up, the last one without what later kernels brought.
func eachSetup(t *testing.T, f func(t *testing.T, cfg reactor.Config)) {
	for i, s := range ring.Setups {
		t.Run(s.String(), func(t *testing.T) { f(t, reactor.Config{RingSetup: ring.Setups[i : i+1]}) })
	}
	t.Run("old", func(t *testing.T) {
		var cfg reactor.Config
		cfg.OldKernel()
		f(t, cfg)
	})
}

// opFunc is a Completion made of a function.
type opFunc func(res int32)

func (f opFunc) OpDone(_ *reactor.Op, res int32, _ uint32) { f(res) }

// runFunc is a Runner made of a function.
type runFunc func()

func (f runFunc) Run() { f() }
