package reactor

import (
	"runtime"
	"runtime/debug"
	"sync/atomic"
)

// spareProcs is how many goroutines may run beside the reactors: one for control work, one for the collector. With none, a timer of
// control work was measured 20 ms late; with one, 0.1 ms.
const spareProcs = 2

// procs is the number of processors of the Go scheduler that TuneRuntime has seen to, 0 before; spinning that of the process's reactors, each of which
// may keep one (linger).
var procs, spinning atomic.Int64

// TuneRuntime sets the Go runtime up to live beside n reactors: a processor for each and two more, and a collector that runs on a
// memory limit instead of by growth, so that an engine that allocates nothing for its I/O is never collected because of a busy
// control plane's first megabytes. GOMAXPROCS is set explicitly since the runtime would otherwise follow the process's affinity and
// might shrink it. Settings in the environment win.
func TuneRuntime(n int, memoryLimit int64, env func(string) string) {
	if env("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(n + spareProcs)
	}
	procs.Store(int64(runtime.GOMAXPROCS(0)))
	if env("GOGC") == "" && env("GOMEMLIMIT") == "" {
		debug.SetGCPercent(-1)
		debug.SetMemoryLimit(memoryLimit)
	}
}
