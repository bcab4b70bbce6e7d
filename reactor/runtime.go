package reactor

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// spareProcs is how many goroutines may run beside the reactors: one for control work, one for the collector. With none, a timer of
// control work was measured 20 ms late; with one, 0.1 ms.
const spareProcs = 2

// TuneRuntime sets the Go runtime up to live beside n reactors: a processor for each and two more, and a collector that runs on a
// memory limit instead of by growth, so that an engine that allocates nothing for its I/O is never collected because of a busy
// control plane's first megabytes. GOMAXPROCS is set explicitly since the runtime would otherwise follow the process's affinity and
// might shrink it. Settings in the environment win.
func TuneRuntime(n int, memoryLimit int64, env func(string) string) {
	if env("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(n + spareProcs)
	}
	if env("GOGC") == "" && env("GOMEMLIMIT") == "" {
		debug.SetGCPercent(-1)
		debug.SetMemoryLimit(memoryLimit)
	}
}

// KeepOff keeps all other threads of this process off the reactors' cores, those that the runtime makes later too: a thread has the
// cores of the one that made it, and the runtime lets none be made by a thread that is locked as a reactor's is. Where control work may run
// on a reactor's core, the kernel lets it run in place of the reactor, for milliseconds. With a reactor on every core there is nowhere else.
// It is for a program whose only purpose is its reactors.
func (g *Group) KeepOff() error {
	if g.free.Count() == 0 {
		return nil
	}
	done := map[int]bool{}
	for _, r := range g.reactors {
		done[r.tid] = true
	}
	for more := true; more; { // threads may be made meanwhile, by those whose turn has not come
		more = false
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("keeping control work off the reactors' cores: %w", err)
		}
		for _, t := range tasks {
			tid, err := strconv.Atoi(t.Name())
			if err != nil || done[tid] {
				continue
			}
			done[tid], more = true, true
			switch err := unix.SchedSetaffinity(tid, &g.free); err {
			case nil, syscall.ESRCH: // it has ended
			case syscall.EINVAL: // one of the kernel's own, which has its cores from SetWorkerCores
			default:
				return fmt.Errorf("keeping control work off the reactors' cores: thread %d: %w", tid, err)
			}
		}
	}
	return nil
}
