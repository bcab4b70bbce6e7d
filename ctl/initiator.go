package ctl

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/initiator"
	"github.com/pollux-storage/pollux/rdma"
)

// This file is the methods about remote NVMe namespaces, which the engine's own initiator makes devices of.

// initiatorOptions are what bdev_nvme_set_options has set; nil where it was not called. Without it a lost controller is
// looked for during ten minutes; SPDK's own defaults, which come with every configuration it saves, give it up at once.
type initiatorOptions struct {
	mu  sync.Mutex
	set *api.BdevNVMeSetOptionsParams
}

func (o *initiatorOptions) get() *api.BdevNVMeSetOptionsParams {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.set
}

// config is the call that sets them again.
func (o *initiatorOptions) config() []api.ConfigCall {
	set := o.get()
	if set == nil {
		return []api.ConfigCall{}
	}
	return []api.ConfigCall{api.BdevNVMeSetOptions.Config(*set)}
}

// controllerCall is the name under which a controller's call stands among those that made devices.
func controllerCall(name string) string { return "controller " + name }

func (e *Engine) registerInitiator() {
	r := e.Methods
	Register(r, api.BdevNVMeAttachController, e.attach)
	RegisterDo(r, api.BdevNVMeDetachController, e.detach)
	e.orders(api.BdevNVMeResetController, "reset", "", e.Initiator.Reset)
	e.orders(api.BdevNVMeEnableController, "enable", "enabled", e.Initiator.Enable)
	e.orders(api.BdevNVMeDisableController, "disable", "disabled", e.Initiator.Disable)
	Register(r, api.BdevNVMeGetControllers, func(_ context.Context, p *api.BdevNVMeGetControllersParams) ([]api.NVMeController, error) {
		list, err := e.controllers(p.Name)
		var out []api.NVMeController
		for _, c := range list {
			out = append(out, describeController(&c))
		}
		return out, err
	})
	RegisterDo(r, api.BdevNVMeSetOptions, func(_ context.Context, p *api.BdevNVMeSetOptionsParams) error {
		if len(e.Initiator.Controllers()) > 0 {
			return api.Errno(syscall.EPERM, "set the options of remote controllers: some are attached; set them before the first one")
		}
		if _, err := authRules(p.DHCHAPDigests, p.DHCHAPDHGroups); err != nil {
			return fmt.Errorf("set the options of remote controllers: %w", err)
		}
		e.initiatorOptions.mu.Lock()
		defer e.initiatorOptions.mu.Unlock()
		e.initiatorOptions.set = p
		return nil
	})
}

// orders registers a method that does something to one controller. Where that is in the state already which the method leads to,
// the answer is -EALREADY, as from SPDK.
func (e *Engine) orders(m api.Method[api.BdevNVMeControllerParams, bool], what, to string, do func(ctx context.Context, name string) error) {
	RegisterDo(e.Methods, m, func(ctx context.Context, p *api.BdevNVMeControllerParams) error {
		list, err := e.controllers(p.Name)
		if err != nil {
			return err
		}
		if p.CntlID != nil && uint16(list[0].CNTLID) != *p.CntlID {
			return api.Errno(syscall.ENODEV, "%s controller %s: its cntlid is %d, not %d", what, p.Name, list[0].CNTLID, *p.CntlID)
		}
		if list[0].State.String() == to {
			return api.Errno(syscall.EALREADY, "%s controller %s: it is %s already", what, p.Name, to)
		}
		return finish(ctx, func(ctx context.Context) error { return do(ctx, p.Name) })
	})
}

// controllers lists the one of that name, or all.
func (e *Engine) controllers(name string) ([]initiator.Info, error) {
	list := e.Initiator.Controllers()
	if name == "" {
		return list, nil
	}
	i := slices.IndexFunc(list, func(c initiator.Info) bool { return c.Name == name })
	if i < 0 {
		return nil, api.Errno(syscall.ENODEV, "there is no controller %s; bdev_nvme_get_controllers lists those there are", name)
	}
	return list[i : i+1], nil
}

func describeController(c *initiator.Info) api.NVMeController {
	return api.NVMeController{Name: c.Name, Ctrlrs: []api.NVMePeer{{
		State: c.State.String(), CntlID: uint16(c.CNTLID), TrID: pathOf(c), Host: api.NVMeHost{NQN: c.HostNQN},
	}}}
}

func pathOf(c *initiator.Info) api.NVMePath {
	return api.NVMePath{TrType: c.TrType, AdrFam: c.AdrFam, TrAddr: c.TrAddr, TrSvcID: c.TrSvcID, SubNQN: c.SubNQN}
}

func (e *Engine) attach(ctx context.Context, p *api.BdevNVMeAttachControllerParams) ([]string, error) {
	o, err := e.attachOptions(p)
	if err != nil {
		return nil, err
	}
	names, err := e.Initiator.Attach(ctx, o)
	if err != nil {
		return nil, codeOf(err)
	}
	e.devices.made(controllerCall(p.Name), api.BdevNVMeAttachController.Config(*p))
	return names, nil
}

// attachOptions puts a call's own options over those of bdev_nvme_set_options.
func (e *Engine) attachOptions(p *api.BdevNVMeAttachControllerParams) (initiator.Options, error) {
	o := initiator.DefaultOptions()
	for _, refused := range []struct {
		on  bool
		why string
	}{
		{p.PSK != "", "psk needs TLS with pre-shared keys, which this build does not have"},
		{p.PrchkReftag || p.PrchkGuard, "protection information is not offered; leave prchk_reftag and prchk_guard off"},
		{p.HostAddr != "" || p.HostSvcID != "", "the address to connect from cannot be chosen; leave hostaddr and hostsvcid out"},
		{p.AllowUnrecognizedCSI, "only namespaces of blocks are attached; leave allow_unrecognized_csi off"},
	} {
		if refused.on {
			return o, api.Errno(syscall.EINVAL, "attach controller %s: %s", p.Name, refused.why)
		}
	}
	if s := e.initiatorOptions.get(); s != nil {
		o.IOTimeout = time.Duration(s.TimeoutUS) * time.Microsecond
		if s.TimeoutAdminUS > 0 {
			o.AdminTimeout = time.Duration(s.TimeoutAdminUS) * time.Microsecond
		}
		o.KeepAlive = time.Duration(*s.KeepAliveTimeoutMS) * time.Millisecond
		o.LossTimeout, o.ReconnectDelay, o.FastIOFail = lossTimeout(s.CtrlrLossTimeoutSec), seconds32(s.ReconnectDelaySec), seconds32(s.FastIOFailTimeoutSec)
		o.Retries = int(*s.BdevRetryCount)
		o.Link = rdma.Link{AckTimeout: s.TransportAckTimeout, TOS: s.TransportTOS}
		rules, err := authRules(s.DHCHAPDigests, s.DHCHAPDHGroups)
		if err != nil {
			return o, err
		}
		o.Hashes, o.Groups = rules.Hashes, rules.Groups
	}
	o.Name, o.TrType, o.AdrFam, o.TrAddr, o.TrSvcID = p.Name, p.TrType, p.AdrFam, p.TrAddr, p.TrSvcID
	o.SubNQN, o.HostNQN, o.HeaderDigest, o.DataDigest = p.SubNQN, p.HostNQN, p.HDGST, p.DDGST
	o.NumIOQueues, o.MaxBdevs = int(p.NumIOQueues), int(p.MaxBdevs)
	if p.CtrlrLossTimeoutSec != nil {
		o.LossTimeout = lossTimeout(*p.CtrlrLossTimeoutSec)
	}
	if p.ReconnectDelaySec != nil {
		o.ReconnectDelay = seconds32(*p.ReconnectDelaySec)
	}
	if p.FastIOFailTimeoutSec != nil {
		o.FastIOFail = seconds32(*p.FastIOFailTimeoutSec)
	}
	var err error
	if o.HostKey, err = e.authKey(p.DHCHAPKey); err == nil {
		o.CtrlKey, err = e.authKey(p.DHCHAPCtrlrKey)
	}
	if err != nil {
		return o, fmt.Errorf("attach controller %s: %w", p.Name, err)
	}
	return o, nil
}

func seconds32(n uint32) time.Duration { return time.Duration(n) * time.Second }

func lossTimeout(seconds int32) time.Duration {
	if seconds < 0 {
		return initiator.Forever
	}
	return time.Duration(seconds) * time.Second
}

// authKey reads a DH-HMAC-CHAP key out of the keyring; no name is no key.
func (e *Engine) authKey(name string) (*nvmf.AuthKey, error) {
	if name == "" {
		return nil, nil
	}
	key, err := e.Keyring.Get(name)
	if err != nil {
		return nil, err
	}
	defer key.Put()
	secret, err := key.Read()
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	parsed, err := nvmf.ParseAuthKey(string(secret))
	if err != nil {
		return nil, api.Errno(syscall.EINVAL, "the key %s: %v", name, err)
	}
	return parsed, nil
}

// detach lets a controller go. A path that is named along with it has to be its path: there is one to each.
func (e *Engine) detach(ctx context.Context, p *api.BdevNVMeDetachControllerParams) error {
	list, err := e.controllers(p.Name)
	if err != nil {
		return err
	}
	has := pathOf(&list[0])
	for _, member := range []struct{ name, asked, has string }{
		{"trtype", p.TrType, has.TrType}, {"adrfam", p.AdrFam, has.AdrFam}, {"traddr", p.TrAddr, has.TrAddr}, {"trsvcid", p.TrSvcID, has.TrSvcID},
		{"subnqn", p.SubNQN, has.SubNQN}, {"hostaddr", p.HostAddr, ""}, {"hostsvcid", p.HostSvcID, ""},
	} {
		if member.asked != "" && !strings.EqualFold(member.asked, member.has) {
			return api.Errno(syscall.ENODEV, "detach controller %s: its %s is %q, not %q", p.Name, member.name, member.has, member.asked)
		}
	}
	if err := finish(ctx, func(ctx context.Context) error { return e.Initiator.Detach(ctx, p.Name) }); err != nil {
		return err
	}
	e.devices.gone(controllerCall(p.Name))
	return nil
}

// controllerOf is the controller of which a device is a namespace, or nothing.
func (e *Engine) controllerOf(device string) string {
	for _, c := range e.Initiator.Controllers() {
		if slices.Contains(c.Devices, device) {
			return c.Name
		}
	}
	return ""
}
