package ctl

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/internal/hist"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the methods that tell of the iSCSI target, and how it is saved: authentication groups and portal and initiator groups before the
// nodes that name them. SPDK saves authentication groups last, so that a node may name one that is not there yet; nobody can log in to it until
// then.

func (e *Engine) registerISCSIInfo() {
	t, r := e.ISCSI, e.Methods
	Register(r, api.ISCSIGetOptions, func(context.Context, *api.None) (api.ISCSIOptions, error) {
		return describeISCSIOptions(t.Options()), nil
	})
	Register(r, api.ISCSIGetPortalGroups, func(context.Context, *api.None) ([]api.ISCSIPortalGroup, error) {
		out := []api.ISCSIPortalGroup{}
		for _, g := range t.PortalGroups() {
			one := api.ISCSIPortalGroup{Tag: int32(g.Tag), Private: g.Private}
			for _, p := range g.Portals {
				one.Portals = append(one.Portals, api.ISCSIPortalListed(p))
			}
			out = append(out, one)
		}
		return out, nil
	})
	Register(r, api.ISCSIGetInitiatorGroups, func(context.Context, *api.None) ([]api.ISCSIInitiatorGroup, error) {
		out := []api.ISCSIInitiatorGroup{}
		for _, g := range t.InitiatorGroups() {
			out = append(out, api.ISCSIInitiatorGroup{Tag: int32(g.Tag), Initiators: g.Initiators, Netmasks: g.Netmasks})
		}
		return out, nil
	})
	Register(r, api.ISCSIGetTargetNodes, func(context.Context, *api.None) ([]api.ISCSITargetNode, error) {
		out := []api.ISCSITargetNode{}
		for _, n := range t.Nodes() {
			out = append(out, describeNode(&n))
		}
		return out, nil
	})
	Register(r, api.ISCSIGetAuthGroups, func(ctx context.Context, _ *api.None) ([]api.ISCSIAuthGroup, error) {
		out := []api.ISCSIAuthGroup{}
		groups, _ := t.AuthGroups()
		for _, g := range groups {
			out = append(out, api.ISCSIAuthGroup{Tag: int32(g.Tag), Secrets: secretsOf(&g, roleOf(ctx) >= api.Admin)})
		}
		return out, nil
	})
	Register(r, api.ISCSIGetConnections, func(context.Context, *api.None) ([]api.ISCSIConnection, error) {
		list, err := t.Connections()
		out := []api.ISCSIConnection{}
		for _, c := range list {
			out = append(out, describeConnection(&c))
		}
		return out, codeOf(err)
	})
	Register(r, api.ISCSIGetStats, func(context.Context, *api.None) (api.ISCSIStats, error) { return e.iscsiStats() })
	Register(r, api.SCSIGetDevices, func(context.Context, *api.None) ([]api.SCSIDevice, error) {
		out := []api.SCSIDevice{}
		for _, n := range t.Nodes() {
			out = append(out, api.SCSIDevice{ID: int32(n.Number), DeviceName: n.Name})
		}
		return out, nil
	})
	Register(r, api.ISCSIGetHistogram, func(_ context.Context, p *api.ISCSINodeParams) (api.Histogram, error) {
		h, err := t.Histogram(p.Name)
		if err != nil {
			return api.Histogram{}, codeOf(err)
		}
		return describeHistogram(h), nil
	})
	e.Frame.Add(Subsystem{Name: "scsi", DependsOn: []string{"bdev"}})
	e.Frame.Add(Subsystem{Name: "iscsi", DependsOn: []string{"scsi", "sock"}, Config: func(context.Context) ([]api.ConfigCall, error) { return e.iscsiConfig(), nil }})
}

// describeHistogram gives a histogram as SPDK's tools read it.
func describeHistogram(h *hist.LogLinear) api.Histogram {
	counts := make([]byte, 0, 8*len(h.Counts))
	for _, n := range h.Counts {
		counts = binary.LittleEndian.AppendUint64(counts, n)
	}
	return api.Histogram{
		Histogram: base64.StdEncoding.EncodeToString(counts), Granularity: int64(h.Granularity), MinRange: h.MinRange, MaxRange: h.MaxRange,
		TSCRate: int64(reactor.TickRate),
	}
}

func describeISCSIOptions(o iscsi.Options) api.ISCSIOptions {
	return api.ISCSIOptions{
		AuthFile: o.AuthFile, NodeBase: o.NodeBase, MaxSessions: uint32(o.MaxSessions), MaxConnectionsPerSession: uint32(o.MaxConnections),
		MaxQueueDepth: uint32(o.MaxQueueDepth), DefaultTime2Wait: uint32(o.DefaultTime2Wait), DefaultTime2Retain: uint32(o.DefaultTime2Retain),
		FirstBurstLength: uint32(o.FirstBurstLength), ImmediateData: o.ImmediateData, AllowDuplicatedISID: o.AllowDuplicatedISID,
		ErrorRecoveryLevel: uint32(o.ErrorRecoveryLevel), NOPTimeout: int32(o.NOPTimeout / time.Second), NOPInInterval: int32(o.NOPInInterval / time.Second),
		DisableCHAP: o.Auth.Disable, RequireCHAP: o.Auth.Require, MutualCHAP: o.Auth.Mutual, CHAPGroup: int32(o.Auth.Group),
		MaxLargeDatainPerConnection: uint32(o.MaxLargeDataIn), MaxR2TPerConnection: uint32(o.MaxR2T),
	}
}

func describeAuthRule(a iscsi.Auth) api.ISCSIAuth {
	return api.ISCSIAuth{DisableCHAP: a.Disable, RequireCHAP: a.Require, MutualCHAP: a.Mutual, CHAPGroup: int32(a.Group)}
}

// secretsOf lists a group's secrets, those that are secret masked unless they may be told.
func secretsOf(g *iscsi.AuthGroup, tell bool) (out []api.ISCSISecret) {
	for _, s := range g.Secrets {
		one := api.ISCSISecret{User: s.User, Secret: s.Secret, MUser: s.MutualUser, MSecret: s.MutualSecret}
		if !tell {
			one.Secret = api.SecretMask
			if one.MSecret != "" {
				one.MSecret = api.SecretMask
			}
		}
		out = append(out, one)
	}
	return out
}

func describeMaps(n *iscsi.NodeInfo) []api.ISCSIMap {
	out := []api.ISCSIMap{}
	for _, m := range n.Maps {
		out = append(out, api.ISCSIMap{PGTag: int32(m.PortalGroup), IGTag: int32(m.InitiatorGroup)})
	}
	return out
}

func describeLUNs(n *iscsi.NodeInfo) []api.ISCSILUN {
	out := []api.ISCSILUN{}
	for _, l := range n.LUNs {
		out = append(out, api.ISCSILUN{BdevName: l.BdevName, LunID: int32(l.LUN)})
	}
	return out
}

func describeNode(n *iscsi.NodeInfo) api.ISCSITargetNode {
	out := api.ISCSITargetNode{
		Name: n.Name, AliasName: n.Alias, PGIGMaps: describeMaps(n), LUNs: describeLUNs(n), QueueDepth: int32(n.QueueDepth),
		DisableCHAP: n.Auth.Disable, RequireCHAP: n.Auth.Require, MutualCHAP: n.Auth.Mutual, CHAPGroup: int32(n.Auth.Group),
		HeaderDigest: n.HeaderDigest, DataDigest: n.DataDigest,
	}
	if len(n.Redirects) > 0 {
		list := []api.ISCSIRedirect{}
		for _, r := range n.Redirects {
			list = append(list, api.ISCSIRedirect{PGTag: int32(r.PortalGroup), RedirectHost: r.To.Host, RedirectPort: r.To.Port})
		}
		out.Redirects = &list
	}
	return out
}

func describeConnection(c *iscsi.ConnectionInfo) api.ISCSIConnection {
	out := api.ISCSIConnection{
		ID: int32(c.ID), CID: int32(c.CID), TSIH: int32(c.TSIH), State: "running", LoginPhase: "full_feature_phase", InitiatorAddr: c.Remote.Addr().String(),
		TargetAddr: c.Local.Addr().String(), TargetNodeName: c.TargetName, ThreadName: reactorName(c.Reactor), InitiatorName: c.InitiatorName, PGTag: int32(c.Tag),
		User: c.User, HeaderDigest: c.Digests&iscsi.HeaderDigests != 0, DataDigest: c.Digests&iscsi.DataDigests != 0, Commands: c.Commands, Open: c.Open,
	}
	switch {
	case c.LoggingIn:
		out.TSIH, out.LoginPhase = -1, "security_negotiation_phase" // the words are SPDK's, lib/iscsi/conn.c
		if c.Stage == iscsi.OperationalStage {
			out.LoginPhase = "operational_negotiation_phase"
		}
	case c.Ending:
		out.State = "exiting"
	}
	return out
}

func (e *Engine) iscsiStats() (api.ISCSIStats, error) {
	groups, err := e.ISCSI.Stats()
	out := api.ISCSIStats{}
	for _, g := range groups {
		out.Invalid += uint32(g.LoggingIn)
		out.Running += uint32(g.Sessions)
		out.Exiting += uint32(g.Ending)
		out.PollGroups = append(out.PollGroups, api.ISCSIPollGroup{
			Name: reactorName(g.Reactor), Sessions: uint32(g.Sessions), LoggingIn: uint32(g.LoggingIn), PendingCommands: uint64(g.Pending), Commands: g.Commands,
			Logins: g.Logins, RefusedLogins: g.Refused, DeniedLogins: g.Denied, ProtocolErrors: g.Faults,
		})
	}
	if err != nil {
		return out, codeOf(err)
	}
	hosts, err := e.ISCSI.HostFailures()
	out.Hosts = []api.ISCSIHost{}
	for _, h := range hosts {
		out.Hosts = append(out.Hosts, api.ISCSIHost{
			InitiatorName: h.Initiator, InitiatorAddr: h.From.String(), LastReason: h.Why, LastSeconds: uint64(h.Ago / time.Second),
			CHAP: h.Counts[iscsi.FailureCHAP], Denied: h.Counts[iscsi.FailureDenied], Login: h.Counts[iscsi.FailureLogin],
			Digest: h.Counts[iscsi.FailureDigest], Rejected: h.Counts[iscsi.FailureReject], Protocol: h.Counts[iscsi.FailureProtocol],
		})
	}
	return out, codeOf(err)
}

// iscsiConfig gives the calls that make the iSCSI target what it is now.
func (e *Engine) iscsiConfig() []api.ConfigCall {
	t := e.ISCSI
	calls := []api.ConfigCall{api.ISCSISetOptions.Config(iscsiOptionsParams(t.Options()))}
	groups, deleted := t.AuthGroups()
	for _, tag := range deleted {
		calls = append(calls, api.ISCSIDeleteAuthGroup.Config(api.ISCSITagParams{Tag: int32(tag)}))
	}
	for _, g := range groups {
		if !g.FromFile {
			calls = append(calls, api.ISCSICreateAuthGroup.Config(api.ISCSICreateAuthGroupParams{Tag: int32(g.Tag), Secrets: secretsOf(&g, true)}))
		}
	}
	for _, g := range t.PortalGroups() {
		p := api.ISCSICreatePortalGroupParams{Tag: int32(g.Tag), Private: g.Private, Wait: g.Waiting}
		for _, a := range g.Portals {
			p.Portals = append(p.Portals, api.ISCSIPortal{Host: a.Host, Port: a.Port})
		}
		calls = append(calls, api.ISCSICreatePortalGroup.Config(p))
		if g.Auth != nil {
			calls = append(calls, api.ISCSIPortalGroupSetAuth.Config(api.ISCSIPortalGroupAuthParams{Tag: p.Tag, ISCSIAuth: describeAuthRule(*g.Auth)}))
		}
	}
	for _, g := range t.InitiatorGroups() {
		calls = append(calls, api.ISCSICreateInitiatorGroup.Config(api.ISCSICreateInitiatorGroupParams{
			Tag: int32(g.Tag), Initiators: append([]string{}, g.Initiators...), Netmasks: append([]string{}, g.Netmasks...),
		}))
	}
	for _, n := range t.Nodes() {
		calls = append(calls, api.ISCSICreateTargetNode.Config(api.ISCSICreateTargetNodeParams{
			Name: n.Name, AliasName: n.Alias, PGIGMaps: describeMaps(&n), LUNs: describeLUNs(&n), QueueDepth: int32(n.QueueDepth), ISCSIAuth: describeAuthRule(n.Auth),
			HeaderDigest: n.HeaderDigest, DataDigest: n.DataDigest,
		}))
		for _, r := range n.Redirects {
			calls = append(calls, api.ISCSITargetNodeSetRedirect.Config(api.ISCSISetRedirectParams{
				Name: n.Name, PGTag: int32(r.PortalGroup), RedirectHost: r.To.Host, RedirectPort: r.To.Port,
			}))
		}
	}
	return calls
}

func iscsiOptionsParams(o iscsi.Options) api.ISCSISetOptionsParams {
	d := describeISCSIOptions(o)
	return api.ISCSISetOptionsParams{
		AuthFile: d.AuthFile, NodeBase: d.NodeBase, NOPTimeout: &d.NOPTimeout, NOPInInterval: &d.NOPInInterval, MaxSessions: d.MaxSessions,
		MaxQueueDepth: d.MaxQueueDepth, MaxConnectionsPerSession: d.MaxConnectionsPerSession, DefaultTime2Wait: &d.DefaultTime2Wait,
		DefaultTime2Retain: &d.DefaultTime2Retain, FirstBurstLength: d.FirstBurstLength, ImmediateData: &d.ImmediateData, ErrorRecoveryLevel: d.ErrorRecoveryLevel,
		AllowDuplicatedISID: d.AllowDuplicatedISID, MaxLargeDatainPerConnection: d.MaxLargeDatainPerConnection, MaxR2TPerConnection: d.MaxR2TPerConnection,
		ISCSIAuth: describeAuthRule(o.Auth),
	}
}
