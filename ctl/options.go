package ctl

import (
	"context"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/ctl/api"
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

// registerWithoutEffect adds the option calls that every configuration saved by SPDK holds and that set nothing here: rpc.py
// refuses the whole file for one method that the engine does not know. Each of them says so in its description.
func registerWithoutEffect(r *Registry) {
	RegisterDo(r, api.AccelSetOptions, func(context.Context, *api.AccelSetOptionsParams) error { return nil })
	RegisterDo(r, api.BdevISCSISetOptions, func(context.Context, *api.BdevISCSISetOptionsParams) error { return nil })
	RegisterDo(r, api.BdevRaidSetOptions, func(context.Context, *api.BdevRaidSetOptionsParams) error { return nil })
	RegisterDo(r, api.BdevNVMeSetHotplug, func(context.Context, *api.BdevNVMeSetHotplugParams) error { return nil })
	RegisterDo(r, api.IOBufSetOptions, func(context.Context, *api.IOBufSetOptionsParams) error { return nil })
	RegisterDo(r, api.FSDevSetOpts, func(context.Context, *api.FSDevSetOptsParams) error { return nil })
	RegisterDo(r, api.SchedulerSetOptions, func(context.Context, *api.SchedulerSetOptionsParams) error { return nil })
	RegisterDo(r, api.FrameworkSetScheduler, func(_ context.Context, p *api.SetSchedulerParams) error {
		if p.Name != "static" {
			return api.Errno(syscall.EINVAL, "use the scheduler %q: reactors stay on their cores here; the only one is static", p.Name)
		}
		return nil
	})
	Register(r, api.FrameworkGetScheduler, func(context.Context, *api.None) (api.Scheduler, error) {
		return api.Scheduler{SchedulerName: "static", IsolatedCoreMask: "0x0"}, nil
	})
}
