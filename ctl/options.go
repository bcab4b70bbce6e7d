package ctl

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/nvmf"
)

// This file is the methods that need nothing of the engine.

// kill sends this process one of the signals that SPDK allows (lib/event/app_rpc.c), by its name or its number.
func kill(name string) error {
	for _, signal := range []syscall.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGHUP, unix.SIGKILL, unix.SIGUSR1} {
		if strings.EqualFold(name, unix.SignalName(signal)) || name == strconv.Itoa(int(signal)) {
			return unix.Kill(os.Getpid(), signal)
		}
	}
	return api.Invalid("spdk_kill_instance: the parameter \"sig_name\" is %q; it has to be SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGKILL or SIGUSR1", name)
}

// keptCalls are the option calls that set nothing here, as they were last made: rpc.py refuses a whole file for one method that the
// engine does not know, and what was loaded is saved again, so that the file stays one for SPDK. Each says so in its description.
type keptCalls struct {
	mu    sync.Mutex
	calls map[string]api.ConfigCall
}

// keep registers an option call that is kept if check, where there is one, has nothing against it.
func keep[P any](r *Registry, k *keptCalls, m api.Method[P, bool], check func(p *P) error) {
	RegisterDo(r, m, func(_ context.Context, p *P) error {
		if check != nil {
			if err := check(p); err != nil {
				return err
			}
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.calls == nil {
			k.calls = map[string]api.ConfigCall{}
		}
		k.calls[m.Name] = m.Config(*p)
		return nil
	})
}

// list gives those of the methods that were called.
func (k *keptCalls) list(methods ...*api.Spec) []api.ConfigCall {
	k.mu.Lock()
	defer k.mu.Unlock()
	calls := []api.ConfigCall{}
	for _, m := range methods {
		if c, ok := k.calls[m.Name]; ok {
			calls = append(calls, c)
		}
	}
	return calls
}

// subsystem is a part of SPDK of which nothing but such options is here.
func (k *keptCalls) subsystem(name string, methods ...*api.Spec) Subsystem {
	return Subsystem{Name: name, Config: func(context.Context) ([]api.ConfigCall, error) { return k.list(methods...), nil }}
}

// registerWithoutEffect adds the option calls that every configuration saved by SPDK holds and that set nothing here.
func registerWithoutEffect(r *Registry, k *keptCalls) {
	keep(r, k, api.AccelSetOptions, nil)
	keep(r, k, api.BdevISCSISetOptions, nil)
	keep(r, k, api.BdevRaidSetOptions, nil)
	keep(r, k, api.BdevNVMeSetHotplug, nil)
	keep(r, k, api.IOBufSetOptions, nil)
	keep(r, k, api.FSDevSetOpts, nil)
	keep(r, k, api.SchedulerSetOptions, nil)
}

// Names of schedulers. Threads stay on their cores with either; what moves is queues.
const (
	schedulerStatic  = "static"
	schedulerDynamic = "dynamic"
)

// registerScheduler adds the methods that say whether queues move between reactors.
func registerScheduler(r *Registry, k *keptCalls, t *nvmf.Target) {
	t.Balance(nvmf.DefaultBalance())
	keep(r, k, api.FrameworkSetScheduler, func(p *api.SetSchedulerParams) error {
		if p.Name != schedulerStatic && p.Name != schedulerDynamic {
			return api.Errno(syscall.EINVAL, "use the scheduler %q: reactors stay on their cores here; static leaves queues on their reactors too, dynamic moves them when reactors are uneven", p.Name)
		}
		period := time.Duration(p.Period) * time.Microsecond
		if period < balancePeriodMin {
			return api.Invalid("using the scheduler %q: period %d: %v or more, in microseconds", p.Name, p.Period, balancePeriodMin)
		}
		t.Balance(nvmf.BalanceOptions{Move: p.Name == schedulerDynamic, Period: period, Hot: int(p.CoreBusy)})
		return nil
	})
	Register(r, api.FrameworkGetScheduler, func(context.Context, *api.None) (api.Scheduler, error) {
		o, name := t.Balancing(), schedulerStatic
		if o.Move {
			name = schedulerDynamic
		}
		return api.Scheduler{SchedulerName: name, SchedulerPeriod: uint64(o.Period / time.Microsecond), IsolatedCoreMask: "0x0"}, nil
	})
}

// balancePeriodMin keeps looking at the reactors from being their load.
const balancePeriodMin = 10 * time.Millisecond

// addParts adds the parts of SPDK that are options and no more.
func (k *keptCalls) addParts(f *Frame) {
	f.Add(k.subsystem("scheduler", api.SchedulerSetOptions.Spec, api.FrameworkSetScheduler.Spec))
	f.Add(k.subsystem("fsdev", api.FSDevSetOpts.Spec))
	f.Add(k.subsystem("iobuf", api.IOBufSetOptions.Spec))
}
