package initiator

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/reactor"
)

// This file finds the namespaces of a controller and keeps its devices like them: those that come are registered, those that
// grow are resized, those that go are removed.

// version13 and version20 are revisions of the standard that brought commands: the descriptors, and the limits of CNS 06h.
const (
	version13 = 0x010300
	version20 = 0x020000
)

// scan brings the devices in line with the namespaces.
func (c *Controller) scan(ctx context.Context, a *association) error {
	// What a controller can may depend on its namespaces: VWC does at ours.
	id, err := a.identify(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	a.id = id
	c.mu.Unlock()
	// Before the shares send anything that the new state of the cache is about.
	err = c.group.Each(func(r *reactor.Reactor) { c.shares[r.Index()].writeThrough = id.VWC&nvmf.VWCPresent != 0 })
	if err != nil {
		return err
	}
	limits, err := a.limits(ctx)
	if err != nil {
		return err
	}
	ids, err := a.active(ctx)
	if err != nil {
		return err
	}
	states, err := a.anaStates(ctx)
	if err != nil {
		return err
	}
	found := map[nvmf.NSID]bool{}
	for _, id := range ids {
		d, err := a.describe(ctx, id, limits)
		if errors.As(err, new(*StatusError)) || err == nil && d == nil {
			continue // it went meanwhile
		}
		if err != nil {
			return err
		}
		found[id] = true
		c.adopt(d, states[id])
	}
	for _, d := range c.list() {
		if !found[d.made.id] {
			c.retire(d, "its namespace is gone")
		}
	}
	return nil
}

// limits asks for the limits of commands, which older controllers do not tell.
func (a *association) limits(ctx context.Context) (*nvmf.NVMController, error) {
	if a.version < version20 {
		return &nvmf.NVMController{}, nil
	}
	page, err := a.identifyPage(ctx, nvmf.CNSIOController, 0)
	if errors.As(err, new(*StatusError)) {
		return &nvmf.NVMController{}, nil
	}
	l, _ := nvmf.DecodeNVMController(page)
	return &l, err
}

// namespacesMax bounds a list of namespaces, which a target could go on with for ever.
const namespacesMax = 1 << 16

// active lists the namespaces.
func (a *association) active(ctx context.Context) (ids []nvmf.NSID, err error) {
	var above nvmf.NSID
	for {
		page, err := a.identifyPage(ctx, nvmf.CNSActiveList, above)
		if err != nil {
			return nil, err
		}
		n := len(ids)
		var ok bool
		if ids, ok = nvmf.DecodeNSIDList(ids, page); !ok || len(ids) > n && ids[n] <= above {
			return nil, fmt.Errorf("controller %d of %s: its list of namespaces does not ascend", a.cntlid, a.o.SubNQN)
		}
		if len(ids)-n < nvmf.NSIDListMax {
			return ids, nil
		}
		if len(ids) >= namespacesMax {
			return nil, fmt.Errorf("controller %d of %s: it lists more than %d namespaces", a.cntlid, a.o.SubNQN, namespacesMax)
		}
		above = ids[len(ids)-1]
	}
}

// describe asks for one namespace; nil if it is none, or none that can be a device.
func (a *association) describe(ctx context.Context, id nvmf.NSID, limits *nvmf.NVMController) (*description, error) {
	page, err := a.identifyPage(ctx, nvmf.CNSNamespace, id)
	if err != nil {
		return nil, err
	}
	n, _ := nvmf.DecodeIdentifyNamespace(page)
	if n.NCAP == 0 || n.NSZE == 0 {
		return nil, nil
	}
	ids := nvmf.NamespaceIDs{NGUID: n.NGUID, EUI64: n.EUI64}
	if a.version >= version13 {
		page, err := a.identifyPage(ctx, nvmf.CNSDescriptors, id)
		if err != nil && !errors.As(err, new(*StatusError)) {
			return nil, err
		}
		if more, ok := nvmf.DecodeNamespaceIDs(page); err == nil && ok {
			ids.UUID, ids.CSI = more.UUID, more.CSI
		}
	}
	d, err := describe(a, id, &n, ids, limits)
	if err != nil {
		a.log.Warn("a namespace cannot be a device", "controller", a.o.Name, "nsid", id, "why", err)
		return nil, nil
	}
	return d, nil
}

// anaStates reads how each namespace is reached, where the controller tells.
func (a *association) anaStates(ctx context.Context) (map[nvmf.NSID]nvmf.ANAState, error) {
	states := map[nvmf.NSID]nvmf.ANAState{}
	if a.id.CMIC&nvmf.CMICANA == 0 || a.id.NANAGRPID == 0 {
		return states, nil
	}
	size := nvmf.ANALogBytes(int(min(a.id.NANAGRPID, anaMax)), int(min(a.id.MNAN, anaMax)))
	page, err := a.logPage(ctx, nvmf.LIDANA, size)
	if err != nil {
		return nil, err
	}
	_, groups, err := nvmf.DecodeANALog(page)
	if err != nil {
		return nil, fmt.Errorf("controller %d of %s: %w", a.cntlid, a.o.SubNQN, err)
	}
	for _, g := range groups {
		for _, id := range g.NSIDs {
			states[id] = g.State
		}
	}
	return states, nil
}

// anaMax bounds what an ANA log page may have.
const anaMax = 1 << 14

// pieceBytes is the part of a log page that is read at once; any MDTS allows it.
const pieceBytes = 4096

// logPage reads size bytes of a log page, in pieces where the controller has offsets.
func (a *association) logPage(ctx context.Context, lid nvmf.LID, size int) ([]byte, error) {
	page := make([]byte, (size+3)&^3)
	piece := len(page)
	if a.id.LPA&nvmf.LPAExtended != 0 {
		piece = pieceBytes
	}
	for at := 0; at < len(page); at += piece {
		if err := a.readPage(ctx, lid, uint64(at), page[at:min(len(page), at+piece)]); err != nil {
			return nil, err
		}
	}
	return page, nil
}

// readPage fills b from a log page. The event that told of it may then come again.
func (a *association) readPage(ctx context.Context, lid nvmf.LID, offset uint64, b []byte) error {
	var sqe nvmf.SQE
	id := nvmf.NSIDAll
	if lid == nvmf.LIDDiscovery {
		id = 0 // where there are no namespaces
	}
	sqe.Init(uint8(nvmf.AdminGetLogPage), 0, id)
	sqe.SetLogPage(nvmf.LogPage{LID: lid, Offset: offset, Bytes: uint64(len(b))})
	_, err := a.command(ctx, fmt.Sprintf("Get Log Page %02Xh", uint8(lid)), &sqe, b)
	return err
}

// adopt makes a device of a namespace, or brings the one that there is in line with it.
func (c *Controller) adopt(d *description, ana nvmf.ANAState) {
	c.mu.Lock()
	old, n := c.devices[d.id], len(c.devices)
	if old != nil && !old.removing {
		old.ana = ana
	}
	c.mu.Unlock()
	switch {
	case old == nil && n >= c.o.MaxBdevs:
		c.log.Warn("a namespace gets no device: there are max_bdevs", "controller", c.o.Name, "nsid", d.id, "max_bdevs", c.o.MaxBdevs)
	case old == nil:
		if err := c.register(d, ana); err != nil {
			c.log.Error("a namespace gets no device", "controller", c.o.Name, "nsid", d.id, "error", err)
		}
	case old.removing: // another scan follows its end
	case d.replaces(old.made):
		c.retire(old, "its namespace is another one now")
	default:
		c.mu.Lock()
		old.now = d
		c.mu.Unlock()
		if err := old.bdev.Resize(d.geometry.Blocks); err != nil {
			c.log.Error("a device cannot have its namespace's size", "device", old.name, "error", err)
		}
	}
}

// register makes a device known.
func (c *Controller) register(d *description, ana nvmf.ANAState) error {
	dev := &device{c: c, name: fmt.Sprintf("%sn%d", c.o.Name, d.id), made: d, now: d, ana: ana}
	cfg := bdev.Config{Name: dev.name, Product: product, UUID: d.uuid(c.o.SubNQN), Driver: dev, Geometry: d.geometry}
	var err error
	if dev.bdev, err = c.registry.Register(cfg); errors.Is(err, bdev.ErrExists) {
		// The device that the target serves may be in this engine too, under the same UUID. The name is the one that is asked for.
		c.log.Warn("a namespace's UUID is that of another device here: its own gets another", "device", dev.name, "uuid", cfg.UUID)
		cfg.UUID = uuid.NewSHA1(cfg.UUID, []byte(dev.name))
		dev.bdev, err = c.registry.Register(cfg)
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.devices[d.id] = dev
	c.mu.Unlock()
	return nil
}

// retire removes the device of a namespace that is not there any more.
func (c *Controller) retire(d *device, why string) {
	c.mu.Lock()
	known := d.retired
	d.retired = true
	c.mu.Unlock()
	if !known {
		_ = c.group.Each(func(r *reactor.Reactor) { c.shares[r.Index()].retire(&d.made.namespace) })
	}
	c.remove(d, why)
}

// remove takes a device away: those who have it open are told, and when all have closed it the controller looks again.
func (c *Controller) remove(d *device, why string) {
	c.mu.Lock()
	was := d.removing
	d.removing = true
	c.mu.Unlock()
	if was {
		return
	}
	c.log.Info("a device goes", "device", d.name, "why", why)
	go func() {
		if err := c.registry.Unregister(context.Background(), d.name); err != nil {
			c.log.Error("a device could not be removed", "device", d.name, "error", err)
		}
		_ = c.group.Each(func(r *reactor.Reactor) { c.shares[r.Index()].forget(&d.made.namespace) })
		c.mu.Lock()
		delete(c.devices, d.made.id)
		c.mu.Unlock()
		c.poke()
	}()
}

// list gives the devices by NSID.
func (c *Controller) list() []*device {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*device, 0, len(c.devices))
	for _, d := range c.devices {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b *device) int { return int(a.made.id) - int(b.made.id) })
	return out
}
