package ctl

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/nvmf"
)

// This file is the methods about the hosts of a subsystem, and their keys.

func (e *Engine) registerHosts() {
	onTarget(e, api.NVMFSubsystemAddHost, func(p *api.NVMFAddHostParams) api.NVMFTarget { return p.NVMFTarget }, func(_ context.Context, p *api.NVMFAddHostParams) error {
		if p.PSK != "" {
			return api.Invalid("allowing host %s: psk needs TLS with pre-shared keys, which this build does not have", p.Host)
		}
		keys, err := e.hostKeys(p.DHCHAPKey, p.DHCHAPCtrlrKey)
		if err != nil {
			return fmt.Errorf("allowing host %s: %w", p.Host, err)
		}
		return e.Target.AddHost(p.NQN, p.Host, keys)
	})
	onTarget(e, api.NVMFSubsystemSetKeys, func(p *api.NVMFSetKeysParams) api.NVMFTarget { return p.NVMFTarget }, func(_ context.Context, p *api.NVMFSetKeysParams) error {
		keys, err := e.hostKeys(p.DHCHAPKey, p.DHCHAPCtrlrKey)
		if err != nil {
			return fmt.Errorf("setting the keys of host %s: %w", p.Host, err)
		}
		return e.Target.SetHostKeys(p.NQN, p.Host, keys)
	})
	RegisterDo(e.Methods, api.NVMFSetConfig, e.setTargetConfig)
}

// hostKeys reads keys out of the keyring. They are read once: for a key whose file has changed nvmf_subsystem_set_keys is
// called again.
func (e *Engine) hostKeys(host, ctrl string) (keys nvmf.HostKeys, err error) {
	keys.HostName, keys.CtrlName = host, ctrl
	if keys.Host, err = e.authKey(host); err == nil {
		keys.Ctrl, err = e.authKey(ctrl)
	}
	return keys, err
}

func describeHost(h *nvmf.Host) api.NVMFHost {
	return api.NVMFHost{NQN: h.NQN, DHCHAPKey: h.KeyName, DHCHAPCtrlrKey: h.CtrlKeyName}
}

// describeAuth gives how a queue was authenticated, in SPDK's words.
func describeAuth(a *nvmf.AuthInfo) *api.NVMFQpairAuth {
	if a == nil {
		return nil
	}
	state := authStateNames[a.State]
	if a.State == nvmf.AuthIdle && !a.Authenticated {
		state = "negotiate"
	}
	out := &api.NVMFQpairAuth{State: state, Digest: a.Hash.String(), DHGroup: a.Group.String()}
	if a.Hash == nvmf.AuthHashNone { // nothing was agreed on yet
		out.Digest, out.DHGroup = "unknown", "unknown"
	}
	return out
}

var authStateNames = map[nvmf.AuthState]string{
	nvmf.AuthIdle: "completed", nvmf.AuthLapsed: "completed", nvmf.AuthKeying: "challenge", nvmf.AuthChallenging: "challenge",
	nvmf.AuthReplying: "reply", nvmf.AuthVerifying: "reply", nvmf.AuthAccepting: "success1", nvmf.AuthConfirming: "success2",
	nvmf.AuthRefusing: "failure1", nvmf.AuthClosed: "error",
}

// targetOptions are the calls that set what holds for the whole target, to be saved; nil where they were not made.
type targetOptions struct {
	mu            sync.Mutex
	config        *api.NVMFSetConfigParams
	maxSubsystems *api.NVMFSetMaxSubsystemsParams
	crdt          *api.NVMFSetCRDTParams
}

func (o *targetOptions) calls() []api.ConfigCall {
	o.mu.Lock()
	defer o.mu.Unlock()
	calls := []api.ConfigCall{}
	if o.config != nil {
		calls = append(calls, api.NVMFSetConfig.Config(*o.config))
	}
	if o.maxSubsystems != nil {
		calls = append(calls, api.NVMFSetMaxSubsystems.Config(*o.maxSubsystems))
	}
	if o.crdt != nil {
		calls = append(calls, api.NVMFSetCRDT.Config(*o.crdt))
	}
	return calls
}

// setTargetConfig takes what this target can do of SPDK's options, and refuses the rest.
func (e *Engine) setTargetConfig(_ context.Context, p *api.NVMFSetConfigParams) error {
	for _, refused := range []struct {
		on  bool
		why string
	}{
		{p.PollGroupsMask != "", "connections are served by all reactors; leave poll_groups_mask out"},
		{p.AdminCmdPassthru != nil && *p.AdminCmdPassthru != (api.NVMFAdminCmdPassthru{}), "nothing is passed through; leave admin_cmd_passthru at false"},
	} {
		if refused.on {
			return api.Invalid("setting the target's options: %s", refused.why)
		}
	}
	rules, err := authRules(p.DHCHAPDigests, p.DHCHAPDHGroups)
	if err != nil {
		return fmt.Errorf("setting the target's options: %w", err)
	}
	filter, err := nvmf.ParseDiscoveryFilters(p.DiscoveryFilters)
	if err != nil {
		return api.Invalid("setting the target's options: discovery_filters: %v", err)
	}
	if err := e.Target.SetAuthRules(rules); err != nil {
		return codeOf(err)
	}
	if err := errors.Join(e.Target.SetDiscoveryFilter(filter), e.Target.RestrictHosts(p.DupHostPolicy == "restrict_per_listener")); err != nil {
		return codeOf(err)
	}
	e.targetOptions.mu.Lock()
	defer e.targetOptions.mu.Unlock()
	e.targetOptions.config = p
	return nil
}

// authRules reads the names of hash functions and groups that authentication may use; none are all.
func authRules(digests, groups []string) (rules nvmf.AuthRules, err error) {
	for _, name := range digests {
		h, err := nvmf.ParseAuthHash(name)
		if err != nil {
			return rules, api.Invalid("dhchap_digests: %v", err)
		}
		rules.Hashes = append(rules.Hashes, h)
	}
	for _, name := range groups {
		g, err := nvmf.ParseDHGroup(name)
		if err != nil {
			return rules, api.Invalid("dhchap_dhgroups: %v", err)
		}
		rules.Groups = append(rules.Groups, g)
	}
	return rules, nil
}
