package bench

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is how noise is told from loss: what a run's cores did for others. A reactor that polls uses its core whole, and is put behind whoever
// else wants it; so is a thread of the kernel that writes for it.

// coresBusy adds up what some cores did, interrupts left out: those are the run's own for the most part. What the hypervisor gave to
// other machines counts. proc_stat(5), "cpu": user, nice, system, idle, iowait, irq, softirq, steal, in hundredths of a second.
func coresBusy(stat string, cores []int) (busy reactor.Ticks, err error) {
	found := 0
	for _, line := range strings.Split(stat, "\n") {
		f := strings.Fields(line)
		if len(f) < 9 || !strings.HasPrefix(f[0], "cpu") {
			continue
		}
		for _, core := range cores {
			if f[0] != "cpu"+strconv.Itoa(core) {
				continue
			}
			found++
			for _, i := range []int{1, 2, 3, 8} {
				n, err := strconv.ParseInt(f[i], 10, 64)
				if err != nil {
					return 0, fmt.Errorf("/proc/stat says %q of core %d", line, core)
				}
				busy += reactor.Ticks(n) * procTick
			}
		}
	}
	if found != len(cores) {
		return 0, fmt.Errorf("/proc/stat does not tell of all of the cores %v", cores)
	}
	return busy, nil
}

// used is what cores did, and this process, its children that ended and the engine among it.
type used struct{ at, busy, ours reactor.Ticks }

func (w *watched) used() (u used, err error) {
	u.at = reactor.Clock()
	if u.busy, err = coresBusy(readFile("/proc/stat"), w.cores); err != nil {
		return u, err
	}
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if err := unix.Getrusage(who, &r); err != nil {
			return u, os.NewSyscallError("getrusage", err)
		}
		u.ours += reactor.Ticks(r.Utime.Nano() + r.Stime.Nano())
	}
	if w.pid != 0 {
		t, err := ReadProcessTime(w.pid)
		if err != nil {
			return u, err
		}
		u.ours += t.User + t.System
	}
	return u, nil
}

// watched is a target whose runs say how much others had of its cores.
type watched struct {
	Target
	cores []int
	pid   int // of the engine that serves it, 0 for none
}

// Run carries w out.
func (w *watched) Run(ctx context.Context, load Workload, o Options) (*Run, error) {
	before, err := w.used()
	if err != nil {
		return nil, err
	}
	run, err := w.Target.Run(ctx, load, o)
	if err != nil {
		return run, err
	}
	after, err := w.used()
	if err != nil {
		return nil, err
	}
	run.OthersPercent = othersPercent(before, after)
	return run, nil
}

func othersPercent(before, after used) float64 {
	others := (after.busy - before.busy) - (after.ours - before.ours)
	return 100 * max(0, float64(others)) / float64(max(1, after.at-before.at))
}
