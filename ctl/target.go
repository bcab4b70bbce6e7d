package ctl

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the methods about the NVMe over Fabrics target.

const targetName = "nvmf_tgt"

// checkTarget refuses the name of another target than the one there is.
func checkTarget(t api.NVMFTarget) error {
	if t.TgtName != "" && t.TgtName != targetName {
		return api.Invalid("there is no target %q; there is one, %s", t.TgtName, targetName)
	}
	return nil
}

// closeTimeout is how long hosts' requests may take to end when what they use is taken away.
const closeTimeout = 60 * time.Second

// finish bounds a change that waits for hosts, and lets it go on when the client has gone.
func finish(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return codeOf(f(ctx))
}

// onTarget registers a change of the target.
func onTarget[P any](e *Engine, m api.Method[P, bool], target func(p *P) api.NVMFTarget, f func(ctx context.Context, p *P) error) {
	RegisterDo(e.Methods, m, func(ctx context.Context, p *P) error {
		if err := checkTarget(target(p)); err != nil {
			return err
		}
		return finish(ctx, func(ctx context.Context) error { return f(ctx, p) })
	})
}

func addressOf(a api.NVMFAddress) nvmf.Address {
	return nvmf.Address{TRType: a.TrType, AdrFam: a.AdrFam, TrAddr: a.TrAddr, TrSvcID: a.TrSvcID}
}

func listenAddress(a nvmf.Address) api.NVMFListenAddress {
	return api.NVMFListenAddress{TrType: a.TRType, AdrFam: a.AdrFam, TrAddr: a.TrAddr, TrSvcID: a.TrSvcID}
}

// registerTarget registers the methods of this file.
func (e *Engine) registerTarget() {
	t, r := e.Target, e.Methods
	onTarget(e, api.NVMFCreateTransport, func(p *api.NVMFCreateTransportParams) api.NVMFTarget { return p.NVMFTarget }, func(_ context.Context, p *api.NVMFCreateTransportParams) error {
		return t.CreateTransport(transportOptions(p.TrType, &p.NVMFTransportOptions))
	})
	Register(r, api.NVMFGetTransports, func(_ context.Context, p *api.NVMFGetTransportsParams) ([]api.NVMFTransport, error) {
		return e.getTransports(p)
	})
	onTarget(e, api.NVMFCreateSubsystem, func(p *api.NVMFCreateSubsystemParams) api.NVMFTarget { return p.NVMFTarget }, func(_ context.Context, p *api.NVMFCreateSubsystemParams) error {
		if p.Passthrough {
			return api.Invalid("creating subsystem %s: passthrough is not offered", p.NQN)
		}
		o := nvmf.SubsystemOptions{
			NQN: p.NQN, Serial: p.SerialNumber, Model: p.ModelNumber, MaxNamespaces: p.MaxNamespaces, AllowAnyHost: p.AllowAnyHost, ANA: p.ANAReporting,
			MinCNTLID: nvmf.CNTLID(p.MinCntlID), MaxCNTLID: nvmf.CNTLID(p.MaxCntlID), NSSR: p.EnableNSSR,
		}
		if p.DMRSL != nil {
			o.DMRSL = uint64(*p.DMRSL)
		}
		if p.WZSL != nil {
			o.WZSL = *p.WZSL
		}
		return t.CreateSubsystem(o)
	})
	onTarget(e, api.NVMFDeleteSubsystem, func(p *api.NVMFSubsystemParams) api.NVMFTarget { return p.NVMFTarget }, func(ctx context.Context, p *api.NVMFSubsystemParams) error {
		return t.DeleteSubsystem(ctx, p.NQN)
	})
	Register(r, api.NVMFGetSubsystems, func(_ context.Context, p *api.NVMFGetSubsystemsParams) ([]api.NVMFSubsystem, error) {
		return e.getSubsystems(p)
	})
	onTarget(e, api.NVMFSubsystemAddListener, func(p *api.NVMFAddListenerParams) api.NVMFTarget { return p.NVMFTarget }, func(_ context.Context, p *api.NVMFAddListenerParams) error {
		if p.SecureChannel {
			return api.Invalid("adding a listener to %s: secure_channel needs TLS with pre-shared keys, which this build does not have", p.NQN)
		}
		state := nvmf.ANAOptimized
		if p.ANAState != "" {
			var err error
			if state, err = nvmf.ParseANAState(p.ANAState); err != nil {
				return err
			}
		}
		return t.AddListener(p.NQN, addressOf(p.ListenAddress), state)
	})
	onTarget(e, api.NVMFSubsystemRemoveListener, func(p *api.NVMFRemoveListenerParams) api.NVMFTarget { return p.NVMFTarget }, func(ctx context.Context, p *api.NVMFRemoveListenerParams) error {
		return t.RemoveListener(ctx, p.NQN, addressOf(p.ListenAddress))
	})
	Register(r, api.NVMFSubsystemGetListeners, func(_ context.Context, p *api.NVMFSubsystemParams) ([]api.NVMFListener, error) {
		s, err := e.subsystem(p.NQN)
		if err != nil {
			return nil, err
		}
		out := []api.NVMFListener{}
		for _, l := range s.Listeners {
			a := api.NVMFListener{Address: listenAddress(l.Address)}
			if s.ANA {
				states := []api.NVMFANAState{}
				for g, st := range l.ANA {
					states = append(states, api.NVMFANAState{ANAGroup: uint32(g + 1), ANAState: st.String()})
				}
				a.ANAStates = &states
			}
			out = append(out, a)
		}
		return out, nil
	})
	Register(r, api.NVMFSubsystemAddNS, func(ctx context.Context, p *api.NVMFAddNSParams) (uint32, error) {
		if err := checkTarget(p.NVMFTarget); err != nil {
			return 0, err
		}
		if p.Namespace.PTPLFile != "" && roleOf(ctx) < api.Admin { // the engine writes it
			return 0, api.Errno(syscall.EACCES, "adding %s as a namespace: ptpl_file needs the role admin; this client's is %s", p.Namespace.BdevName, roleOf(ctx))
		}
		o, err := namespaceOptions(&p.Namespace)
		if err != nil {
			return 0, err
		}
		d, err := e.Bdevs.Lookup(o.BdevName)
		if err != nil { // it may be in a pool that is being opened
			if err = e.pools.wait(ctx); err != nil {
				return 0, fmt.Errorf("adding %s as a namespace: %w", o.BdevName, err)
			}
			d, err = e.Bdevs.Lookup(o.BdevName)
		}
		if err == nil {
			o.BdevName = d.Name() // an alias may change
		}
		id, err := t.AddNamespace(p.NQN, o)
		return uint32(id), codeOf(err)
	})
	onTarget(e, api.NVMFSubsystemRemoveNS, func(p *api.NVMFRemoveNSParams) api.NVMFTarget { return p.NVMFTarget }, func(ctx context.Context, p *api.NVMFRemoveNSParams) error {
		return t.RemoveNamespace(ctx, p.NQN, nvmf.NSID(p.NSID))
	})
	onTarget(e, api.NVMFSubsystemRemoveHost, func(p *api.NVMFRemoveHostParams) api.NVMFTarget { return p.NVMFTarget }, func(ctx context.Context, p *api.NVMFRemoveHostParams) error {
		return t.RemoveHost(ctx, p.NQN, p.Host)
	})
	onTarget(e, api.NVMFSubsystemAllowAnyHost, func(p *api.NVMFAllowAnyHostParams) api.NVMFTarget { return p.NVMFTarget }, func(_ context.Context, p *api.NVMFAllowAnyHostParams) error {
		return t.AllowAnyHost(p.NQN, p.AllowAnyHost)
	})
	onTarget(e, api.NVMFNSAddHost, func(p *api.NVMFNSHostParams) api.NVMFTarget { return p.NVMFTarget }, func(_ context.Context, p *api.NVMFNSHostParams) error {
		return t.ShowNamespace(p.NQN, nvmf.NSID(p.NSID), p.Host, true)
	})
	onTarget(e, api.NVMFNSRemoveHost, func(p *api.NVMFNSHostParams) api.NVMFTarget { return p.NVMFTarget }, func(_ context.Context, p *api.NVMFNSHostParams) error {
		return t.ShowNamespace(p.NQN, nvmf.NSID(p.NSID), p.Host, false)
	})
	onTarget(e, api.NVMFSubsystemListenerSetANAState, func(p *api.NVMFSetANAStateParams) api.NVMFTarget { return p.NVMFTarget }, func(_ context.Context, p *api.NVMFSetANAStateParams) error {
		state, err := nvmf.ParseANAState(p.ANAState)
		if err != nil {
			return err
		}
		return t.SetANAState(p.NQN, addressOf(p.ListenAddress), state, p.ANAGrpID)
	})
	onTarget(e, api.NVMFSubsystemSetNSANAGroup, func(p *api.NVMFSetNSANAGroupParams) api.NVMFTarget { return p.NVMFTarget }, func(_ context.Context, p *api.NVMFSetNSANAGroupParams) error {
		return t.SetANAGroup(p.NQN, nvmf.NSID(p.NSID), p.ANAGrpID)
	})
	onTarget(e, api.NVMFDiscoveryAddReferral, func(p *api.NVMFAddReferralParams) api.NVMFTarget { return p.NVMFTarget }, func(_ context.Context, p *api.NVMFAddReferralParams) error {
		return t.AddReferral(nvmf.Referral{Address: addressOf(p.Address), SUBNQN: p.SubNQN, Secure: p.SecureChannel})
	})
	onTarget(e, api.NVMFDiscoveryRemoveReferral, func(p *api.NVMFRemoveReferralParams) api.NVMFTarget { return p.NVMFTarget }, func(_ context.Context, p *api.NVMFRemoveReferralParams) error {
		return t.RemoveReferral(nvmf.Referral{Address: addressOf(p.Address), SUBNQN: p.SubNQN})
	})
	Register(r, api.NVMFDiscoveryGetReferrals, func(_ context.Context, p *api.NVMFTarget) ([]api.NVMFReferral, error) {
		out := []api.NVMFReferral{}
		for _, f := range t.Referrals() {
			out = append(out, api.NVMFReferral{Address: listenAddress(f.Address), SecureChannel: f.Secure, SubNQN: f.SUBNQN})
		}
		return out, checkTarget(*p)
	})
	Register(r, api.NVMFSubsystemGetControllers, e.getControllers)
	Register(r, api.NVMFSubsystemGetQpairs, e.getQpairs)
	onTarget(e, api.NVMFSubsystemMoveQpair, func(p *api.NVMFMoveQpairParams) api.NVMFTarget { return p.NVMFTarget }, func(ctx context.Context, p *api.NVMFMoveQpairParams) error {
		to, err := e.reactorNamed(p.Thread)
		if err != nil {
			return fmt.Errorf("moving queue %d of controller %d: %w", p.QID, p.CntlID, err)
		}
		return t.MoveQueue(ctx, p.NQN, nvmf.CNTLID(p.CntlID), nvmf.QID(p.QID), to, time.Duration(p.TimeoutMS)*time.Millisecond)
	})
	Register(r, api.NVMFGetStats, e.getTargetStats)
	RegisterDo(r, api.NVMFSetCRDT, func(_ context.Context, p *api.NVMFSetCRDTParams) error {
		if err := t.SetCRDT([3]uint16{p.CRDT1, p.CRDT2, p.CRDT3}); err != nil {
			return codeOf(err)
		}
		e.targetOptions.mu.Lock()
		defer e.targetOptions.mu.Unlock()
		e.targetOptions.crdt = p
		return nil
	})
	RegisterDo(r, api.NVMFSetMaxSubsystems, func(_ context.Context, p *api.NVMFSetMaxSubsystemsParams) error {
		if err := t.SetMaxSubsystems(int(p.MaxSubsystems)); err != nil {
			return codeOf(err)
		}
		e.targetOptions.mu.Lock()
		defer e.targetOptions.mu.Unlock()
		e.targetOptions.maxSubsystems = p
		return nil
	})
	e.Frame.Add(Subsystem{Name: "nvmf", DependsOn: []string{"bdev", "keyring", "sock"}, Config: func(context.Context) ([]api.ConfigCall, error) { return e.targetConfig(), nil }})
}

// transportOptions takes over what was asked for; the defaults come with the schema. They are SPDK's, but for in_capsule_data_size over TCP: 8192,
// as on the Admin queue, so that a write of 8 KiB travels with its command and is not asked for first.
func transportOptions(trtype string, p *api.NVMFTransportOptions) nvmf.TransportOptions {
	o := nvmf.DefaultTransport(trtype)
	o.MaxQueueDepth, o.MaxAdminDepth, o.MaxQueues, o.MaxIOBytes = uint32(p.MaxQueueDepth), p.MaxAQDepth, uint32(p.MaxIOQpairsPerCtrlr), p.MaxIOSize
	if p.InCapsuleDataSize != nil {
		o.InCapsuleDataBytes = *p.InCapsuleDataSize
	}
	if p.KAS != nil {
		o.KAS = *p.KAS
	}
	if p.MinKATO != nil {
		o.MinKATO = *p.MinKATO
	}
	if p.C2HSuccess != nil {
		o.C2HSuccess = *p.C2HSuccess
	}
	o.MaxSRQDepth, o.NoSRQ, o.AckTimeout = p.MaxSRQDepth, p.NoSRQ, p.AckTimeout
	return o
}

func transportParams(o *nvmf.TransportOptions) api.NVMFTransportOptions {
	capsule, kas, kato, success := o.InCapsuleDataBytes, o.KAS, o.MinKATO, o.C2HSuccess
	p := api.NVMFTransportOptions{
		MaxQueueDepth: uint16(o.MaxQueueDepth), MaxIOQpairsPerCtrlr: uint16(o.MaxQueues), InCapsuleDataSize: &capsule, MaxIOSize: o.MaxIOBytes,
		MaxAQDepth: o.MaxAdminDepth, KAS: &kas, MinKATO: &kato,
	}
	if o.TRType == "RDMA" {
		p.MaxSRQDepth, p.NoSRQ, p.AckTimeout = o.MaxSRQDepth, o.NoSRQ, o.AckTimeout
	} else {
		p.C2HSuccess = &success
	}
	return p
}

func (e *Engine) getTransports(p *api.NVMFGetTransportsParams) ([]api.NVMFTransport, error) {
	if err := checkTarget(p.NVMFTarget); err != nil {
		return nil, err
	}
	out := []api.NVMFTransport{}
	for _, o := range e.Target.Transports() {
		if p.TrType == "" || strings.EqualFold(p.TrType, o.TRType) {
			out = append(out, api.NVMFTransport{TrType: o.TRType, NVMFTransportOptions: transportParams(&o)})
		}
	}
	if p.TrType != "" && len(out) == 0 {
		return nil, api.Errno(19, "there is no transport %s; create it with nvmf_create_transport", p.TrType)
	}
	return out, nil
}

// namespaceOptions reads the identifiers of a namespace.
func namespaceOptions(p *api.NVMFNamespaceParams) (nvmf.NamespaceOptions, error) {
	o := nvmf.NamespaceOptions{
		BdevName: p.BdevName, NSID: nvmf.NSID(p.NSID), UUID: parseUUID(p.UUID), PTPLFile: p.PTPLFile, ProtectionFile: p.WriteProtect, ANAGroup: p.ANAGrpID, NoAutoVisible: p.NoAutoVisible,
	}
	for _, f := range []struct {
		name, v string
		to      []byte
	}{{"nguid", p.NGUID, o.NGUID[:]}, {"eui64", p.EUI64, o.EUI64[:]}} {
		if f.v == "" {
			continue
		}
		b, err := hex.DecodeString(f.v)
		if err != nil || len(b) != len(f.to) {
			return o, api.Invalid("adding %s as a namespace: %s %q is not %d hexadecimal digits", p.BdevName, f.name, f.v, 2*len(f.to))
		}
		copy(f.to, b)
	}
	return o, nil
}

// subsystem finds one.
func (e *Engine) subsystem(nqn string) (nvmf.SubsystemInfo, error) {
	for _, s := range e.Target.Subsystems() {
		if s.NQN == nqn || s.Discovery && nqn == "discovery" {
			return s, nil
		}
	}
	return nvmf.SubsystemInfo{}, api.Invalid("there is no subsystem %q; nvmf_get_subsystems lists those there are", nqn)
}

func (e *Engine) getSubsystems(p *api.NVMFGetSubsystemsParams) ([]api.NVMFSubsystem, error) {
	if err := checkTarget(p.NVMFTarget); err != nil {
		return nil, err
	}
	list := e.Target.Subsystems()
	if p.NQN != "" {
		s, err := e.subsystem(p.NQN)
		if err != nil {
			return nil, err
		}
		list = []nvmf.SubsystemInfo{s}
	}
	out := []api.NVMFSubsystem{}
	for _, s := range list {
		out = append(out, describeSubsystem(&s))
	}
	return out, nil
}

func describeSubsystem(s *nvmf.SubsystemInfo) api.NVMFSubsystem {
	out := api.NVMFSubsystem{NQN: s.NQN, Subtype: "NVMe", AllowAnyHost: s.AllowAnyHost}
	for _, l := range s.Listeners {
		out.ListenAddresses = append(out.ListenAddresses, listenAddress(l.Address))
	}
	for _, h := range s.Hosts {
		out.Hosts = append(out.Hosts, describeHost(&h))
	}
	if s.Discovery {
		out.Subtype = "Discovery"
		return out
	}
	no, low, high, dmrsl := false, uint16(s.MinCNTLID), uint16(s.MaxCNTLID), uint32(s.DMRSL)
	out.SerialNumber, out.ModelNumber, out.MaxNamespaces, out.Passthrough = &s.Serial, &s.Model, &s.MaxNamespaces, &no
	out.MinCntlID, out.MaxCntlID, out.DMRSL, out.WZSL = &low, &high, &dmrsl, &s.WZSL
	namespaces := []api.NVMFNamespace{}
	for _, n := range s.Namespaces {
		a := api.NVMFNamespace{NSID: uint32(n.NSID), BdevName: n.BdevName, Name: n.BdevName, NGUID: strings.ToUpper(hex.EncodeToString(n.NGUID[:])), UUID: n.UUID.String()}
		if n.EUI64 != [8]byte{} {
			a.EUI64 = strings.ToUpper(hex.EncodeToString(n.EUI64[:]))
		}
		if s.ANA {
			a.ANAGrpID = &n.ANAGroup
		}
		if n.Protection != nvmf.WriteProtectNone {
			a.WriteProtection = n.Protection.String()
		}
		namespaces = append(namespaces, a)
	}
	out.Namespaces = &namespaces
	return out
}

func (e *Engine) getControllers(_ context.Context, p *api.NVMFSubsystemParams) ([]api.NVMFController, error) {
	if err := checkTarget(p.NVMFTarget); err != nil {
		return nil, err
	}
	list, err := e.Target.Controllers(p.NQN)
	out := []api.NVMFController{}
	for _, k := range list {
		kind := "io"
		if k.Discovery {
			kind = "discovery"
		}
		out = append(out, api.NVMFController{CntlID: uint16(k.CNTLID), CntrlType: kind, HostNQN: k.HostNQN, HostID: k.HostID.String(), NumIOQpairs: uint32(k.IOQueues)})
	}
	return out, codeOf(err)
}

func (e *Engine) getQpairs(_ context.Context, p *api.NVMFSubsystemParams) ([]api.NVMFQpair, error) {
	if err := checkTarget(p.NVMFTarget); err != nil {
		return nil, err
	}
	list, err := e.Target.Queues(p.NQN)
	out := []api.NVMFQpair{}
	for _, q := range list {
		peer := q.Listener
		if a, err := netip.ParseAddrPort(q.Remote); err == nil {
			peer.TrAddr, peer.TrSvcID = a.Addr().String(), fmt.Sprint(a.Port())
		}
		out = append(out, api.NVMFQpair{
			CntlID: uint16(q.CNTLID), QID: uint16(q.QID), State: q.State, Thread: reactorName(q.Reactor), HostNQN: q.HostNQN,
			ListenAddress: listenAddress(q.Listener), PeerAddress: listenAddress(peer), Auth: describeAuth(q.Auth),
		})
	}
	return out, codeOf(err)
}

func (e *Engine) getTargetStats(_ context.Context, p *api.NVMFTarget) (api.NVMFStats, error) {
	if err := checkTarget(*p); err != nil {
		return api.NVMFStats{}, err
	}
	groups, err := e.Target.Stats()
	transports, cards := e.Target.Transports(), e.Target.RDMAStats()
	out := api.NVMFStats{TickRate: reactor.TickRate, PollGroups: []api.NVMFPollGroup{}}
	for _, g := range groups {
		out.PollGroups = append(out.PollGroups, api.NVMFPollGroup{
			Name: reactorName(g.Reactor), AdminQpairs: uint32(g.AdminQueues), IOQpairs: uint32(g.IOQueues), CurrentAdminQpairs: uint32(g.CurrentAdminQueues),
			CurrentIOQpairs: uint32(g.CurrentIOQueues), CurrentUnassociatedQpairs: uint32(g.CurrentUnassociated), PendingBdevIO: uint64(g.PendingCommands),
			CompletedNVMeIO: g.CompletedCommands, IOQpairsMovedIn: g.MovedIn, IOQpairsMovedOut: g.MovedOut, Transports: transportStats(g.Reactor, transports, cards),
		})
	}
	return out, err
}

// transportStats gives what is counted of each transport on a reactor.
func transportStats(on int, transports []nvmf.TransportOptions, cards []rdma.Stats) []api.NVMFTransportStats {
	out := []api.NVMFTransportStats{}
	for _, o := range transports {
		t := api.NVMFTransportStats{TrType: o.TRType}
		for _, c := range cards {
			if o.TRType == "RDMA" && c.Reactor == on {
				t.Devices = append(t.Devices, api.NVMFRDMAStats{
					Name: c.Card, Polls: c.Polls, IdlePolls: c.PollsEmpty, Completions: c.Completions,
					TotalSendWRs: c.Posts, SendDoorbellUpdates: c.Chains, TotalRecvWRs: c.RecvPosts, RecvDoorbellUpdates: c.RecvCalls,
				})
			}
		}
		out = append(out, t)
	}
	return out
}

// targetConfig gives the calls that make the target what it is now.
func (e *Engine) targetConfig() []api.ConfigCall {
	calls := e.targetOptions.calls()
	for _, o := range e.Target.Transports() {
		calls = append(calls, api.NVMFCreateTransport.Config(api.NVMFCreateTransportParams{TrType: o.TRType, NVMFTransportOptions: transportParams(&o)}))
	}
	for _, f := range e.Target.Referrals() {
		calls = append(calls, api.NVMFDiscoveryAddReferral.Config(api.NVMFAddReferralParams{Address: address(f.Address), SubNQN: f.SUBNQN, SecureChannel: f.Secure}))
	}
	for _, s := range e.Target.Subsystems() {
		if !s.Discovery {
			calls = append(calls, subsystemConfig(&s)...)
		}
	}
	return calls
}

func address(a nvmf.Address) api.NVMFAddress {
	return api.NVMFAddress{TrType: a.TRType, AdrFam: a.AdrFam, TrAddr: a.TrAddr, TrSvcID: a.TrSvcID}
}

func subsystemConfig(s *nvmf.SubsystemInfo) []api.ConfigCall {
	dmrsl := uint32(s.DMRSL)
	calls := []api.ConfigCall{api.NVMFCreateSubsystem.Config(api.NVMFCreateSubsystemParams{
		NQN: s.NQN, SerialNumber: s.Serial, ModelNumber: s.Model, MaxNamespaces: s.MaxNamespaces, AllowAnyHost: s.AllowAnyHost, ANAReporting: s.ANA,
		MinCntlID: uint16(s.MinCNTLID), MaxCntlID: uint16(s.MaxCNTLID), DMRSL: &dmrsl, WZSL: &s.WZSL, EnableNSSR: s.NSSR,
	})}
	for _, h := range s.Hosts {
		d := describeHost(&h)
		calls = append(calls, api.NVMFSubsystemAddHost.Config(api.NVMFAddHostParams{NQN: s.NQN, Host: h.NQN, DHCHAPKey: d.DHCHAPKey, DHCHAPCtrlrKey: d.DHCHAPCtrlrKey}))
	}
	for _, n := range s.Namespaces {
		p := api.NVMFNamespaceParams{BdevName: n.BdevName, NSID: uint32(n.NSID), NGUID: hex.EncodeToString(n.NGUID[:]), UUID: uuid.UUID(n.UUID).String(), PTPLFile: n.PTPLFile, WriteProtect: n.ProtectionFile, ANAGrpID: n.ANAGroup, NoAutoVisible: n.Hidden}
		if n.EUI64 != [8]byte{} {
			p.EUI64 = hex.EncodeToString(n.EUI64[:])
		}
		calls = append(calls, api.NVMFSubsystemAddNS.Config(api.NVMFAddNSParams{NQN: s.NQN, Namespace: p}))
		for _, h := range n.Hosts {
			calls = append(calls, api.NVMFNSAddHost.Config(api.NVMFNSHostParams{NQN: s.NQN, NSID: uint32(n.NSID), Host: h}))
		}
	}
	for _, l := range s.Listeners {
		calls = append(calls, api.NVMFSubsystemAddListener.Config(api.NVMFAddListenerParams{NQN: s.NQN, ListenAddress: address(l.Address), ANAState: nvmf.ANAOptimized.String()}))
		for g, st := range l.ANA {
			if s.ANA && st != nvmf.ANAOptimized {
				calls = append(calls, api.NVMFSubsystemListenerSetANAState.Config(api.NVMFSetANAStateParams{NQN: s.NQN, ListenAddress: address(l.Address), ANAState: st.String(), ANAGrpID: uint32(g + 1)}))
			}
		}
	}
	return calls
}
