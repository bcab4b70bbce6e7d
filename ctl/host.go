package ctl

import (
	"context"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/nvmf"
)

// This file is the methods about the hosts of a subsystem, and their keys.

func (e *Engine) registerHosts() {
	onTarget(e, api.NVMFSubsystemAddHost, func(p *api.NVMFAddHostParams) api.NVMFTarget { return p.NVMFTarget }, func(_ context.Context, p *api.NVMFAddHostParams) error {
		switch {
		case p.PSK != "":
			return api.Invalid("allowing host %s: psk needs TLS with pre-shared keys, which this build does not have", p.Host)
		case p.DHCHAPKey != "" || p.DHCHAPCtrlrKey != "":
			return api.Invalid("allowing host %s: authentication is not offered by this build", p.Host)
		}
		return e.Target.AddHost(p.NQN, p.Host, nvmf.HostKeys{})
	})
}

func describeHost(h *nvmf.Host) api.NVMFHost { return api.NVMFHost{NQN: h.NQN} }
