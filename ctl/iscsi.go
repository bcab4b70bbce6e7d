package ctl

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/iscsi"
)

// This file is the methods about the iSCSI target that change it. What they change is listed and saved in iscsi_config.go.

// onISCSI registers a change of the iSCSI target.
func onISCSI[P any](e *Engine, m api.Method[P, bool], f func(ctx context.Context, p *P) error) {
	RegisterDo(e.Methods, m, func(ctx context.Context, p *P) error {
		return finish(ctx, func(ctx context.Context) error { return f(ctx, p) })
	})
}

// registerISCSI registers the methods about the iSCSI target.
func (e *Engine) registerISCSI() {
	t := e.ISCSI
	RegisterDo(e.Methods, api.ISCSISetOptions, e.setISCSIOptions)
	onISCSI(e, api.ISCSISetDiscoveryAuth, func(_ context.Context, p *api.ISCSIAuth) error { return t.SetDiscoveryAuth(authOf(p)) })

	onISCSI(e, api.ISCSICreatePortalGroup, func(_ context.Context, p *api.ISCSICreatePortalGroupParams) error {
		o := iscsi.PortalGroupOptions{Tag: int(p.Tag), Private: p.Private, Wait: p.Wait}
		for _, a := range p.Portals {
			o.Portals = append(o.Portals, iscsi.Portal{Host: a.Host, Port: a.Port})
		}
		return t.CreatePortalGroup(o)
	})
	onISCSI(e, api.ISCSIStartPortalGroup, func(_ context.Context, p *api.ISCSITagParams) error { return t.StartPortalGroup(int(p.Tag)) })
	onISCSI(e, api.ISCSIDeletePortalGroup, func(ctx context.Context, p *api.ISCSITagParams) error { return t.DeletePortalGroup(ctx, int(p.Tag)) })
	onISCSI(e, api.ISCSIPortalGroupSetAuth, func(_ context.Context, p *api.ISCSIPortalGroupAuthParams) error {
		return t.SetPortalGroupAuth(int(p.Tag), authOf(&p.ISCSIAuth))
	})

	onISCSI(e, api.ISCSICreateInitiatorGroup, func(_ context.Context, p *api.ISCSICreateInitiatorGroupParams) error {
		return t.CreateInitiatorGroup(iscsi.InitiatorGroup{Tag: int(p.Tag), Initiators: p.Initiators, Netmasks: p.Netmasks})
	})
	onISCSI(e, api.ISCSIInitiatorGroupAddInitiators, func(ctx context.Context, p *api.ISCSIChangeInitiatorsParams) error {
		return t.AddInitiators(ctx, iscsi.InitiatorGroup{Tag: int(p.Tag), Initiators: p.Initiators, Netmasks: p.Netmasks})
	})
	onISCSI(e, api.ISCSIInitiatorGroupRemoveInitiators, func(ctx context.Context, p *api.ISCSIChangeInitiatorsParams) error {
		return t.RemoveInitiators(ctx, iscsi.InitiatorGroup{Tag: int(p.Tag), Initiators: p.Initiators, Netmasks: p.Netmasks})
	})
	onISCSI(e, api.ISCSIDeleteInitiatorGroup, func(ctx context.Context, p *api.ISCSITagParams) error { return t.DeleteInitiatorGroup(ctx, int(p.Tag)) })

	onISCSI(e, api.ISCSICreateTargetNode, e.createNode)
	onISCSI(e, api.ISCSIDeleteTargetNode, func(ctx context.Context, p *api.ISCSINodeParams) error {
		if _, err := t.Node(p.Name); err != nil {
			return api.Errno(syscall.ENOENT, "%v", err) // as SPDK answers this one, lib/iscsi/tgt_node.c
		}
		return t.DeleteNode(ctx, p.Name)
	})
	onISCSI(e, api.ISCSITargetNodeAddLUN, func(ctx context.Context, p *api.ISCSIAddLUNParams) error {
		device, err := e.deviceToServe(ctx, p.BdevName)
		if err != nil {
			return err
		}
		_, err = t.AddLUN(ctx, p.Name, iscsi.LUNOptions{BdevName: device, LUN: int(*p.LunID)})
		return err
	})
	onISCSI(e, api.ISCSITargetNodeRemoveLUN, func(ctx context.Context, p *api.ISCSIRemoveLUNParams) error {
		return t.RemoveLUN(ctx, p.Name, int(p.LunID))
	})
	onISCSI(e, api.ISCSITargetNodeAddMaps, func(_ context.Context, p *api.ISCSIMapsParams) error { return t.AddMaps(p.Name, mapsOf(p.PGIGMaps)) })
	onISCSI(e, api.ISCSITargetNodeRemoveMaps, func(ctx context.Context, p *api.ISCSIMapsParams) error {
		return t.RemoveMaps(ctx, p.Name, mapsOf(p.PGIGMaps))
	})
	onISCSI(e, api.ISCSITargetNodeSetRedirect, func(_ context.Context, p *api.ISCSISetRedirectParams) error {
		return t.Redirect(p.Name, int(p.PGTag), iscsi.Portal{Host: p.RedirectHost, Port: p.RedirectPort})
	})
	onISCSI(e, api.ISCSITargetNodeRequestLogout, func(_ context.Context, p *api.ISCSIRequestLogoutParams) error {
		return t.RequestLogout(p.Name, int(*p.PGTag))
	})
	onISCSI(e, api.ISCSITargetNodeSetAuth, func(_ context.Context, p *api.ISCSINodeAuthParams) error {
		return t.SetNodeAuth(p.Name, authOf(&p.ISCSIAuth))
	})

	onISCSI(e, api.ISCSICreateAuthGroup, func(_ context.Context, p *api.ISCSICreateAuthGroupParams) error {
		g := iscsi.AuthGroup{Tag: int(p.Tag)}
		for _, s := range p.Secrets {
			g.Secrets = append(g.Secrets, secretOf(&s))
		}
		return t.CreateAuthGroup(g)
	})
	onISCSI(e, api.ISCSIDeleteAuthGroup, func(_ context.Context, p *api.ISCSITagParams) error { return t.DeleteAuthGroup(int(p.Tag)) })
	onISCSI(e, api.ISCSIAuthGroupAddSecret, func(_ context.Context, p *api.ISCSIAddSecretParams) error {
		return t.AddSecret(int(p.Tag), secretOf(&p.ISCSISecret))
	})
	onISCSI(e, api.ISCSIAuthGroupRemoveSecret, func(_ context.Context, p *api.ISCSIRemoveSecretParams) error {
		return t.RemoveSecret(int(p.Tag), p.User)
	})

	onISCSI(e, api.ISCSIEnableHistogram, func(_ context.Context, p *api.ISCSIEnableHistogramParams) error {
		return t.EnableHistogram(p.Name, p.Enable)
	})
	e.registerISCSIInfo()
}

func authOf(p *api.ISCSIAuth) iscsi.Auth {
	return iscsi.Auth{Disable: p.DisableCHAP, Require: p.RequireCHAP, Mutual: p.MutualCHAP, Group: int(p.CHAPGroup)}
}

func secretOf(p *api.ISCSISecret) iscsi.Secret {
	return iscsi.Secret{User: p.User, Secret: p.Secret, MutualUser: p.MUser, MutualSecret: p.MSecret}
}

func mapsOf(list []api.ISCSIMap) (out []iscsi.Map) {
	for _, m := range list {
		out = append(out, iscsi.Map{PortalGroup: int(m.PGTag), InitiatorGroup: int(m.IGTag)})
	}
	return out
}

// deviceToServe finds a device by any of its names, and waits for it where it may be in a pool that is being opened.
func (e *Engine) deviceToServe(ctx context.Context, name string) (string, error) {
	d, err := e.Bdevs.Lookup(name)
	if err != nil {
		if err = e.pools.wait(ctx); err != nil {
			return "", fmt.Errorf("serving device %s: %w", name, err)
		}
		if d, err = e.Bdevs.Lookup(name); err != nil {
			return name, nil // opening it says what is wrong
		}
	}
	return d.Name(), nil
}

func (e *Engine) createNode(ctx context.Context, p *api.ISCSICreateTargetNodeParams) error {
	o := iscsi.NodeOptions{
		Name: p.Name, Alias: p.AliasName, Maps: mapsOf(p.PGIGMaps), QueueDepth: int(p.QueueDepth), Auth: authOf(&p.ISCSIAuth),
		HeaderDigest: p.HeaderDigest, DataDigest: p.DataDigest,
	}
	for _, l := range p.LUNs {
		device, err := e.deviceToServe(ctx, l.BdevName)
		if err != nil {
			return err
		}
		o.LUNs = append(o.LUNs, iscsi.LUNOptions{BdevName: device, LUN: int(l.LunID)})
	}
	return e.ISCSI.CreateNode(ctx, o)
}

// setISCSIOptions sets the options, and reads the auth file once: what it says counts until the engine ends.
func (e *Engine) setISCSIOptions(ctx context.Context, p *api.ISCSISetOptionsParams) error {
	o := iscsi.Options{
		NodeBase: p.NodeBase, NOPTimeout: time.Duration(*p.NOPTimeout) * time.Second, NOPInInterval: time.Duration(*p.NOPInInterval) * time.Second,
		Auth: authOf(&p.ISCSIAuth), AuthFile: p.AuthFile, MaxSessions: int(p.MaxSessions), MaxQueueDepth: int(p.MaxQueueDepth),
		MaxConnections: int(p.MaxConnectionsPerSession), DefaultTime2Wait: int(*p.DefaultTime2Wait), DefaultTime2Retain: int(*p.DefaultTime2Retain),
		FirstBurstLength: int(p.FirstBurstLength), ImmediateData: *p.ImmediateData, ErrorRecoveryLevel: int(p.ErrorRecoveryLevel),
		AllowDuplicatedISID: p.AllowDuplicatedISID, MaxLargeDataIn: int(p.MaxLargeDatainPerConnection), MaxR2T: int(p.MaxR2TPerConnection),
	}
	if p.ErrorRecoveryLevel != 0 {
		return api.Errno(syscall.EINVAL, "setting the iSCSI options: error_recovery_level %d: only 0 is offered, a session that fails is begun anew", p.ErrorRecoveryLevel)
	}
	var groups []iscsi.AuthGroup
	if p.AuthFile != "" {
		if roleOf(ctx) < api.Admin { // the engine reads it
			return api.Errno(syscall.EACCES, "setting the iSCSI options: auth_file needs the role admin; this client's is %s", roleOf(ctx))
		}
		var err error
		if groups, err = readAuthFile(p.AuthFile); err != nil {
			return codeOf(fmt.Errorf("setting the iSCSI options: auth_file %s: %w", p.AuthFile, err))
		}
	}
	err := e.ISCSI.SetOptions(o)
	for i := 0; err == nil && i < len(groups); i++ {
		err = e.ISCSI.CreateAuthGroup(groups[i])
	}
	return codeOf(err)
}

// authFileBytesMax bounds what is read.
const authFileBytesMax = 1 << 20

// readAuthFile reads a file of CHAP secrets. As of a key, nobody but its owner may be able to open it.
func readAuthFile(path string) ([]iscsi.AuthGroup, error) {
	if !filepath.IsAbs(path) {
		return nil, api.Errno(syscall.EINVAL, "the path is not absolute")
	}
	file, err := openKey(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, authFileBytesMax+1))
	if err != nil {
		return nil, err
	}
	if len(text) > authFileBytesMax {
		return nil, api.Errno(syscall.EFBIG, "it has more than %d bytes", authFileBytesMax)
	}
	return iscsi.ParseAuthFile(string(text))
}
