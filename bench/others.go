package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is how noise is told from loss: what a run's cores did for others. A reactor that polls uses its core whole, and is put behind whoever
// else wants it; so is a thread of the kernel that writes for it.

// busy is what a processor did, interrupts left out: those are the run's own for the most part. What the hypervisor gave to other machines
// counts.
func (t *cpuTime) busy() reactor.Ticks { return t.user + t.nice + t.system + t.stolen }

// coresBusy adds up what some cores did.
func coresBusy(stat string, cores []int) (busy reactor.Ticks, err error) {
	cpus, err := parseProcStat(stat)
	if err != nil {
		return 0, err
	}
	for _, core := range cores {
		i := slices.IndexFunc(cpus, func(t cpuTime) bool { return t.cpu == core })
		if i < 0 {
			return 0, fmt.Errorf("/proc/stat does not tell of all of the cores %v", cores)
		}
		busy += cpus[i].busy()
	}
	return busy, nil
}

// kernelThread reads how much processor time a thread of the kernel had, and where it ran last; ok says whether it is one. They carry out what is
// written to a file, and flush disks, some on the core that asked. proc_pid_stat(5): fields 9 flags, 14 utime, 15 stime, 39 processor;
// include/linux/sched.h: PF_KTHREAD.
func kernelThread(stat []byte) (time reactor.Ticks, core int, ok bool) {
	const flagKernelThread = 0x00200000
	t, err := parseStat(stat)
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from field 3 on
	if err != nil || len(f) < 37 {
		return 0, 0, false
	}
	flags, err := strconv.ParseUint(f[9-3], 10, 32)
	core, err2 := strconv.Atoi(f[39-3])
	return t.User + t.System, core, err == nil && err2 == nil && flags&flagKernelThread != 0
}

// onCore is the processor time that a thread of the kernel had, and the core that it ran on last.
type onCore struct {
	time reactor.Ticks
	core int
}

// kernelThreads lists them by their paths. In a container that does not see them they count as others.
func kernelThreads() map[string]onCore {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	threads := map[string]onCore{}
	for _, path := range stats {
		b, _ := os.ReadFile(path) // nothing of one that has ended
		if t, core, ok := kernelThread(b); ok {
			threads[path] = onCore{t, core}
		}
	}
	return threads
}

// used is what cores did, and this process, its children that ended and the engine among it; and what threads of the kernel did anywhere.
type used struct {
	at, busy, ours reactor.Ticks
	kernel         map[string]onCore
}

func (w *watched) used() (u used, err error) {
	u.at = reactor.Clock()
	if u.busy, err = coresBusy(readFile("/proc/stat"), w.cores); err != nil {
		return u, err
	}
	u.kernel = kernelThreads()
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

// rester is a target that has something to do after a load, which is not watched.
type rester interface {
	load(ctx context.Context, w Workload, o Options) (*Run, error)
	rest(ctx context.Context) error
}

// idleRunsMax is how often fio may come to nothing.
const idleRunsMax = 10

// Run carries w out.
func (w *watched) Run(ctx context.Context, load Workload, o Options) (*Run, error) {
	t := w.Target
	if f, ok := t.(filled); ok {
		t = f.Target
	}
	carryOut, rest := t.Run, func(context.Context) error { return nil }
	if r, ok := t.(rester); ok {
		carryOut, rest = r.load, r.rest
	}
	before, err := w.used()
	if err != nil {
		return nil, err
	}
	run, err := carryOut(ctx, load, o)
	for n := 1; errors.Is(err, errFioIdle) && n < idleRunsMax; n++ { // others had the core all the time
		run, err = carryOut(ctx, load, o)
	}
	if err != nil {
		return run, err
	}
	after, err := w.used()
	if err != nil {
		return nil, err
	}
	run.OthersPercent = othersPercent(before, after, w.cores)
	return run, rest(ctx)
}

func othersPercent(before, after used, cores []int) float64 {
	others := (after.busy - before.busy) - (after.ours - before.ours)
	for path, t := range after.kernel {
		if slices.Contains(cores, t.core) {
			others -= t.time - before.kernel[path].time
		}
	}
	return 100 * max(0, float64(others)) / float64(max(1, after.at-before.at))
}
