package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
)

// iscsiCmd is about hosts over iSCSI.
type iscsiCmd struct {
	List        iscsiListCmd        `cmd:"" help:"List the targets: what they show, where they can be reached, and who may."`
	Show        iscsiShowCmd        `cmd:"" help:"Show all of one target."`
	Export      iscsiExportCmd      `cmd:"" help:"Show a block device to hosts, as a target of its own, and say how to log in."`
	Unexport    iscsiUnexportCmd    `cmd:"" help:"Take a target away; hosts are asked to log out, and lose their sessions."`
	Allow       iscsiAllowCmd       `cmd:"" help:"Let an initiator log in to a target."`
	Deny        iscsiDenyCmd        `cmd:"" help:"Let an initiator log in no more, and end its sessions."`
	CHAP        iscsiCHAPCmd        `cmd:"" name:"chap" help:"Let initiators of a target prove who they are, by secrets."`
	Connections iscsiConnectionsCmd `cmd:"" help:"List the connections of initiators."`
	Failures    iscsiFailuresCmd    `cmd:"" help:"List the initiators with which something went wrong: what, how often, and why the last time."`
}

// iscsiLook is all that is configured.
type iscsiLook struct {
	nodes      []api.ISCSITargetNode
	portals    []api.ISCSIPortalGroup
	initiators []api.ISCSIInitiatorGroup
}

func lookAtISCSI(ctx context.Context, engine api.Caller) (l iscsiLook, err error) {
	if l.nodes, err = api.ISCSIGetTargetNodes.Call(ctx, engine, api.None{}); err == nil {
		if l.portals, err = api.ISCSIGetPortalGroups.Call(ctx, engine, api.None{}); err == nil {
			l.initiators, err = api.ISCSIGetInitiatorGroups.Call(ctx, engine, api.None{})
		}
	}
	return l, err
}

// lookAtISCSITarget is lookAtISCSI, and one target of what is there.
func lookAtISCSITarget(ctx context.Context, engine api.Caller, name string) (l iscsiLook, n *api.ISCSITargetNode, err error) {
	if l, err = lookAtISCSI(ctx, engine); err == nil {
		n, err = l.node(name)
	}
	return l, n, err
}

// node finds a target by its name, or by the part behind the last colon where that means one.
func (l *iscsiLook) node(name string) (*api.ISCSITargetNode, error) {
	var found []*api.ISCSITargetNode
	for i := range l.nodes {
		n := &l.nodes[i]
		if strings.EqualFold(n.Name, name) {
			return n, nil
		}
		if strings.HasSuffix(n.Name, ":"+strings.ToLower(name)) {
			found = append(found, n)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	return nil, fmt.Errorf("there is no target %q; pollux iscsi list lists those there are", name)
}

func (l *iscsiLook) portalGroup(tag int32) *api.ISCSIPortalGroup {
	i := slices.IndexFunc(l.portals, func(g api.ISCSIPortalGroup) bool { return g.Tag == tag })
	if i < 0 {
		return &api.ISCSIPortalGroup{Tag: tag}
	}
	return &l.portals[i]
}

func (l *iscsiLook) initiatorGroup(tag int32) *api.ISCSIInitiatorGroup {
	i := slices.IndexFunc(l.initiators, func(g api.ISCSIInitiatorGroup) bool { return g.Tag == tag })
	if i < 0 {
		return &api.ISCSIInitiatorGroup{Tag: tag}
	}
	return &l.initiators[i]
}

// addresses are those of a target.
func (l *iscsiLook) addresses(n *api.ISCSITargetNode) string {
	var list []string
	for _, m := range n.PGIGMaps {
		for _, p := range l.portalGroup(m.PGTag).Portals {
			if a := p.Host + ":" + p.Port; !slices.Contains(list, a) {
				list = append(list, a)
			}
		}
	}
	return strings.Join(list, ", ")
}

// admitted says who may log in.
func (l *iscsiLook) admitted(n *api.ISCSITargetNode) string {
	var list []string
	for _, m := range n.PGIGMaps {
		for _, name := range l.initiatorGroup(m.IGTag).Initiators {
			if name == "ANY" {
				return "any"
			}
			if !strings.HasPrefix(name, "!") && !slices.Contains(list, name) {
				list = append(list, name)
			}
		}
	}
	return fmt.Sprintf("%d allowed", len(list))
}

func luns(n *api.ISCSITargetNode) string {
	var list []string
	for _, u := range n.LUNs {
		list = append(list, fmt.Sprintf("%d=%s", u.LunID, u.BdevName))
	}
	return strings.Join(list, " ")
}

func chapOf(n *api.ISCSITargetNode) string {
	switch {
	case n.MutualCHAP:
		return "mutual"
	case n.RequireCHAP:
		return "required"
	case n.DisableCHAP || n.CHAPGroup == 0:
		return "none"
	}
	return "optional"
}

type iscsiListCmd struct {
	engineFlags
	outputFlags
}

// Run lists.
func (c *iscsiListCmd) Run() error {
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	l, err := lookAtISCSI(context.Background(), engine)
	if err != nil {
		return err
	}
	return c.print(l.nodes, func(t *table) {
		t.columns("TARGET", "LUNS", "ADDRESSES", "INITIATORS", "CHAP")
		for _, n := range l.nodes {
			t.row(n.Name, luns(&n), l.addresses(&n), l.admitted(&n), chapOf(&n))
		}
	})
}

type iscsiShowCmd struct {
	engineFlags
	outputFlags
	Target string `arg:"" help:"Target, as iscsi list names it, or the part behind the last colon."`
}

// iscsiTarget is a target with the groups that it names and its connections.
type iscsiTarget struct {
	api.ISCSITargetNode
	PortalGroups    []api.ISCSIPortalGroup    `json:"portal_groups"`
	InitiatorGroups []api.ISCSIInitiatorGroup `json:"initiator_groups"`
	Connections     []api.ISCSIConnection     `json:"connections"`
}

// Run shows it.
func (c *iscsiShowCmd) Run() error {
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	ctx := context.Background()
	l, n, err := lookAtISCSITarget(ctx, engine, c.Target)
	if err != nil {
		return err
	}
	all, err := api.ISCSIGetConnections.Call(ctx, engine, api.None{})
	if err != nil {
		return err
	}
	t := iscsiTarget{ISCSITargetNode: *n, Connections: []api.ISCSIConnection{}}
	for _, k := range all {
		if k.TargetNodeName == n.Name {
			t.Connections = append(t.Connections, k)
		}
	}
	for _, m := range n.PGIGMaps {
		if g := l.portalGroup(m.PGTag); !slices.ContainsFunc(t.PortalGroups, func(o api.ISCSIPortalGroup) bool { return o.Tag == g.Tag }) {
			t.PortalGroups = append(t.PortalGroups, *g)
		}
		if g := l.initiatorGroup(m.IGTag); !slices.ContainsFunc(t.InitiatorGroups, func(o api.ISCSIInitiatorGroup) bool { return o.Tag == g.Tag }) {
			t.InitiatorGroups = append(t.InitiatorGroups, *g)
		}
	}
	return c.print(t, func(tab *table) {
		tab.columns("WHAT", "OF", "IS")
		tab.row("target", n.AliasName, n.Name)
		tab.row("chap", group(n.CHAPGroup), chapOf(n))
		for _, u := range n.LUNs {
			tab.row("lun", fmt.Sprint(u.LunID), u.BdevName)
		}
		for _, g := range t.PortalGroups {
			for _, p := range g.Portals {
				tab.row("portal", group(g.Tag), p.Host+":"+p.Port)
			}
		}
		for _, g := range t.InitiatorGroups {
			tab.row("initiators", group(g.Tag), strings.Join(g.Initiators, " "))
			tab.row("netmasks", group(g.Tag), strings.Join(g.Netmasks, " "))
		}
		if n.Redirects != nil {
			for _, r := range *n.Redirects {
				tab.row("redirect", group(r.PGTag), r.RedirectHost+":"+r.RedirectPort)
			}
		}
		for _, k := range t.Connections {
			tab.row("session", fmt.Sprint(k.TSIH), k.InitiatorName+" "+k.InitiatorAddr)
		}
	})
}

func group(tag int32) string { return fmt.Sprintf("group %d", tag) }

type iscsiExportCmd struct {
	engineFlags
	Bdev         string   `arg:"" help:"Block device, as bdev list names it, or POOL/VOLUME."`
	Name         string   `placeholder:"NAME" help:"iSCSI name of the target; iqn.2026-01.io.pollux: and the device's name without it."`
	Address      string   `default:"127.0.0.1" placeholder:"IP" help:"Address to listen at (${default})."`
	Port         uint16   `default:"3260" help:"Port to listen at (${default})."`
	PortalGroup  int32    `placeholder:"TAG" help:"Tag of the portal group at that address; a free one without it. Engines that serve a target of one name need different ones."`
	Initiator    []string `placeholder:"NAME" sep:"none" help:"Let this initiator log in; may be given again. Without it, allow initiators later: pollux iscsi allow."`
	AnyInitiator bool     `help:"Let every initiator log in."`
	Netmask      []string `placeholder:"ADDRESS/BITS" sep:"none" help:"Only from these addresses; all without it."`
}

// Run exports. What it made is taken away again where a later step fails.
func (c *iscsiExportCmd) Run() error {
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	ctx := context.Background()
	if c.AnyInitiator {
		c.Initiator = append(c.Initiator, "ANY")
	}
	if c.Name == "" {
		part, err := api.HostName(c.Bdev)
		if err != nil {
			return fmt.Errorf("export %q: %w", c.Bdev, err)
		}
		c.Name = part
	}
	made, err := c.steps(ctx, engine)
	if err != nil {
		return fmt.Errorf("export %s: %w", c.Bdev, errors.Join(err, undo(ctx, engine, made)))
	}
	l, n, err := lookAtISCSITarget(ctx, engine, made.node)
	if err != nil {
		return err
	}
	address := l.addresses(n)
	for _, all := range []string{"0.0.0.0:", "[::]:"} { // no address to log in at: the machine's name is one
		if port, wild := strings.CutPrefix(address, all); wild {
			if host, err := os.Hostname(); err == nil {
				address = host + ":" + port
			}
		}
	}
	fmt.Printf("%s is target %s. Log in from a Linux host with\n\n%s", c.Bdev, n.Name, loginLines(n.Name, address))
	if len(c.Initiator) == 0 {
		fmt.Printf("\nafter allowing it here, by the name in its /etc/iscsi/initiatorname.iscsi, with\n\n  pollux iscsi allow %s INITIATOR\n", n.Name)
	}
	return nil
}

// loginLines are the commands of open-iscsi and of libiscsi.
func loginLines(name, address string) string {
	return fmt.Sprintf("  iscsiadm -m discovery -t sendtargets -p %s\n  iscsiadm -m node -T %s -p %s --login\n\nor look at it without a kernel's help with\n\n  iscsi-ls -s iscsi://%s\n", address, name, address, address)
}

// iscsiMade is what an export has made.
type iscsiMade struct {
	node               string
	portals, initiator int32
}

func (c *iscsiExportCmd) steps(ctx context.Context, engine api.Caller) (made iscsiMade, err error) {
	l, err := lookAtISCSI(ctx, engine)
	if err != nil {
		return made, err
	}
	host := c.Address
	if strings.Contains(host, ":") {
		host = "[" + strings.Trim(host, "[]") + "]"
	}
	at := api.ISCSIPortalListed{Host: host, Port: fmt.Sprint(c.Port)}
	portals, top := int32(0), int32(0)
	for _, g := range l.portals {
		top = max(top, g.Tag)
		if slices.Contains(g.Portals, at) {
			portals = g.Tag
		}
	}
	if portals != 0 && c.PortalGroup != 0 && portals != c.PortalGroup {
		return made, fmt.Errorf("portal group %d: %s:%s is in portal group %d already", c.PortalGroup, at.Host, at.Port, portals)
	}
	if portals == 0 {
		if portals = top + 1; c.PortalGroup != 0 {
			portals = c.PortalGroup
		}
		_, err := api.ISCSICreatePortalGroup.Call(ctx, engine, api.ISCSICreatePortalGroupParams{Tag: portals, Portals: []api.ISCSIPortal{{Host: at.Host, Port: at.Port}}})
		if err != nil {
			return made, err
		}
		made.portals = portals
	}
	initiators := int32(1)
	for _, g := range l.initiators {
		initiators = max(initiators, g.Tag+1)
	}
	if c.Netmask == nil {
		c.Netmask = []string{"ANY"}
	}
	if c.Initiator == nil {
		c.Initiator = []string{}
	}
	if _, err := api.ISCSICreateInitiatorGroup.Call(ctx, engine, api.ISCSICreateInitiatorGroupParams{Tag: initiators, Initiators: c.Initiator, Netmasks: c.Netmask}); err != nil {
		return made, err
	}
	made.initiator = initiators
	_, err = api.ISCSICreateTargetNode.Call(ctx, engine, api.ISCSICreateTargetNodeParams{
		Name: c.Name, AliasName: c.Bdev, PGIGMaps: []api.ISCSIMap{{PGTag: portals, IGTag: initiators}}, LUNs: []api.ISCSILUN{{BdevName: c.Bdev, LunID: 0}},
	})
	if err == nil {
		made.node = c.Name
	}
	return made, err
}

// undo takes away what an export has made.
func undo(ctx context.Context, engine api.Caller, made iscsiMade) (all error) {
	if made.initiator != 0 {
		_, err := api.ISCSIDeleteInitiatorGroup.Call(ctx, engine, api.ISCSITagParams{Tag: made.initiator})
		all = errors.Join(all, err)
	}
	if made.portals != 0 {
		_, err := api.ISCSIDeletePortalGroup.Call(ctx, engine, api.ISCSITagParams{Tag: made.portals})
		all = errors.Join(all, err)
	}
	return all
}

type iscsiUnexportCmd struct {
	engineFlags
	Target string `arg:"" help:"Target, as iscsi list names it, or the part behind the last colon."`
}

// Run deletes the target, and the groups that no other one uses.
func (c *iscsiUnexportCmd) Run() error {
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	ctx := context.Background()
	l, n, err := lookAtISCSITarget(ctx, engine, c.Target)
	if err != nil {
		return err
	}
	if _, err := api.ISCSIDeleteTargetNode.Call(ctx, engine, api.ISCSINodeParams{Name: n.Name}); err != nil {
		return err
	}
	used := func(match func(m api.ISCSIMap) bool) bool {
		return slices.ContainsFunc(l.nodes, func(o api.ISCSITargetNode) bool { return o.Name != n.Name && slices.ContainsFunc(o.PGIGMaps, match) })
	}
	gone := iscsiMade{}
	for _, m := range n.PGIGMaps {
		one := iscsiMade{}
		if m.IGTag != gone.initiator && !used(func(o api.ISCSIMap) bool { return o.IGTag == m.IGTag }) {
			one.initiator, gone.initiator = m.IGTag, m.IGTag
		}
		if m.PGTag != gone.portals && !used(func(o api.ISCSIMap) bool { return o.PGTag == m.PGTag }) {
			one.portals, gone.portals = m.PGTag, m.PGTag
		}
		if err := undo(ctx, engine, one); err != nil {
			return err
		}
	}
	return nil
}

type iscsiAllowCmd struct {
	engineFlags
	Target    string `arg:"" help:"Target, as iscsi list names it, or the part behind the last colon."`
	Initiator string `arg:"" help:"Name of the initiator, or ANY; on Linux it stands in /etc/iscsi/initiatorname.iscsi."`
}

// Run allows the initiator in every group of the target.
func (c *iscsiAllowCmd) Run() error {
	return changeInitiators(&c.engineFlags, c.Target, c.Initiator, api.ISCSIInitiatorGroupAddInitiators, false)
}

type iscsiDenyCmd struct {
	engineFlags
	Target    string `arg:"" help:"Target, as iscsi list names it, or the part behind the last colon."`
	Initiator string `arg:"" help:"Name of the initiator, or ANY."`
}

// Run takes the initiator out of every group of the target that has it.
func (c *iscsiDenyCmd) Run() error {
	return changeInitiators(&c.engineFlags, c.Target, c.Initiator, api.ISCSIInitiatorGroupRemoveInitiators, true)
}

// changeInitiators changes those groups of a target in which the initiator is, or is not.
func changeInitiators(f *engineFlags, target, initiator string, m api.Method[api.ISCSIChangeInitiatorsParams, bool], there bool) error {
	engine, err := f.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	ctx := context.Background()
	l, n, err := lookAtISCSITarget(ctx, engine, target)
	if err != nil {
		return err
	}
	done := map[int32]bool{}
	for _, mp := range n.PGIGMaps {
		has := slices.ContainsFunc(l.initiatorGroup(mp.IGTag).Initiators, func(s string) bool { return strings.EqualFold(s, initiator) })
		if has != there || done[mp.IGTag] {
			continue
		}
		done[mp.IGTag] = true
		if _, err := m.Call(ctx, engine, api.ISCSIChangeInitiatorsParams{Tag: mp.IGTag, Initiators: []string{initiator}}); err != nil {
			return err
		}
	}
	if len(done) == 0 {
		state := "is allowed already"
		if there {
			state = "is not allowed"
			if l.admitted(n) == "any" && !strings.EqualFold(initiator, "ANY") {
				return fmt.Errorf("initiator %s: it has no place of its own in target %s, which lets ANY in: allow those who may, and then deny ANY", initiator, n.Name)
			}
		}
		return fmt.Errorf("initiator %s: it %s in every group of target %s", initiator, state, n.Name)
	}
	return nil
}

type iscsiConnectionsCmd struct {
	engineFlags
	outputFlags
}

// Run lists.
func (c *iscsiConnectionsCmd) Run() error {
	list, err := ask(&c.engineFlags, api.ISCSIGetConnections, api.None{})
	if err != nil {
		return err
	}
	return c.print(list, func(t *table) { connectionTable(t, list) })
}

type iscsiFailuresCmd struct {
	engineFlags
	outputFlags
}

// Run lists.
func (c *iscsiFailuresCmd) Run() error {
	stats, err := ask(&c.engineFlags, api.ISCSIGetStats, api.None{})
	if err != nil {
		return err
	}
	return c.print(stats.Hosts, func(t *table) {
		t.columns("INITIATOR", "FROM", "CHAP", "DENIED", "LOGIN", "DIGEST", "REJECTED", "PROTOCOL", "AGO", "WHY")
		for _, h := range stats.Hosts {
			ago := time.Duration(h.LastSeconds) * time.Second
			t.row(h.InitiatorName, h.InitiatorAddr, h.CHAP, h.Denied, h.Login, h.Digest, h.Rejected, h.Protocol, ago, h.LastReason)
		}
	})
}

// connectionTable is the connections of initiators.
func connectionTable(t *table, list []api.ISCSIConnection) {
	t.columns("TARGET", "INITIATOR", "FROM", "TSIH", "GROUP", "STATE", "REACTOR", "OPEN", "COMMANDS")
	for _, k := range list {
		state := k.State
		if k.LoginPhase != "full_feature_phase" {
			state = "logging in"
		}
		name := k.TargetNodeName
		if name == "" && state != "logging in" {
			name = "discovery"
		}
		t.row(name, k.InitiatorName, k.InitiatorAddr, k.TSIH, k.PGTag, state, k.ThreadName, k.Open, k.Commands)
	}
}
