package initiator

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/nvmf"
)

// This file is what an engine asks of its initiator.

// Initiator knows the controllers that are attached. Its methods are called on control goroutines.
type Initiator struct {
	registry *bdev.Registry
	log      *slog.Logger

	mu          sync.Mutex
	controllers map[string]*Controller // nil while it connects
	next        int                    // reactor of the next one's Admin queue
	rdma        rdmaCards
}

// New makes an initiator whose devices are known to reg.
func New(reg *bdev.Registry, log *slog.Logger) *Initiator {
	return &Initiator{registry: reg, log: log, controllers: map[string]*Controller{}}
}

// Attach connects to a subsystem and gives the names of the devices that its namespaces have become: Name + "n" + NSID.
func (i *Initiator) Attach(ctx context.Context, o Options) ([]string, error) {
	if strings.EqualFold(o.TrType, "RDMA") && o.RDMA == nil {
		var err error
		if o.RDMA, err = i.RDMA(); err != nil {
			return nil, fmt.Errorf("attaching controller %q: %w", o.Name, err)
		}
	}
	addr, err := o.complete()
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	if _, ok := i.controllers[o.Name]; ok {
		i.mu.Unlock()
		return nil, fmt.Errorf("attaching controller %q: %w", o.Name, bdev.ErrExists)
	}
	i.controllers[o.Name] = nil
	home := i.next
	i.next++
	i.mu.Unlock()

	c := newController(o, addr, i.registry, i.log, home)
	err = c.begin(ctx)
	i.mu.Lock()
	if err == nil {
		i.controllers[o.Name] = c
	} else {
		delete(i.controllers, o.Name)
	}
	i.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("attaching controller %q: %w", o.Name, err)
	}
	go i.forget(c)
	var names []string
	for _, d := range c.list() {
		names = append(names, d.name)
	}
	return names, nil
}

// forget drops a controller when it is gone.
func (i *Initiator) forget(c *Controller) {
	<-c.ended
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.controllers[c.o.Name] == c {
		delete(i.controllers, c.o.Name)
	}
}

func (i *Initiator) find(name string) (*Controller, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if c := i.controllers[name]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("controller %q: %w", name, bdev.ErrNotFound)
}

// Detach removes a controller's devices and ends its connections. It returns when all who had a device open have closed it; if
// ctx ends first, it says so and the rest follows when they have.
func (i *Initiator) Detach(ctx context.Context, name string) error {
	c, err := i.find(name)
	if err == nil {
		if err = c.ask(ctx, &order{kind: orderDetach}); err == nil {
			i.forget(c)
		} else if users := c.users(); len(users) > 0 {
			err = fmt.Errorf("%w by %s: %w", bdev.ErrBusy, strings.Join(users, ", "), err)
		}
	}
	if err != nil {
		return fmt.Errorf("detaching %w", err)
	}
	return nil
}

// users lists who has devices open.
func (c *Controller) users() []string {
	var out []string
	for _, d := range c.list() {
		out = append(out, d.bdev.Users()...)
	}
	return out
}

// Reset connects a controller anew. Requests wait meanwhile; those that were open are sent again.
func (i *Initiator) Reset(ctx context.Context, name string) error {
	return i.ask(ctx, "resetting", name, &order{kind: orderReset})
}

// Disable disconnects a controller. Its devices stay, and their requests fail as not ready.
func (i *Initiator) Disable(ctx context.Context, name string) error {
	return i.ask(ctx, "disabling", name, &order{kind: orderDisable})
}

// Enable lets a controller connect that was disabled.
func (i *Initiator) Enable(ctx context.Context, name string) error {
	return i.ask(ctx, "enabling", name, &order{kind: orderEnable})
}

// SetKeys lets a controller authenticate with other keys: at once on the queues that have authenticated, and from then on.
func (i *Initiator) SetKeys(ctx context.Context, name string, host, ctrl *nvmf.AuthKey) error {
	if host == nil {
		return fmt.Errorf("setting the keys of controller %q: %w: there is no key of the host", name, bdev.ErrInvalid)
	}
	return i.ask(ctx, "setting the keys of", name, &order{kind: orderKeys, hostKey: host, ctrlKey: ctrl})
}

func (i *Initiator) ask(ctx context.Context, what, name string, o *order) error {
	c, err := i.find(name)
	if err == nil {
		err = c.ask(ctx, o)
	}
	if err != nil {
		return fmt.Errorf("%s controller %q: %w", what, name, err)
	}
	return nil
}

// Info is what is known of an attached controller.
type Info struct {
	Name                             string
	State                            State
	CNTLID                           nvmf.CNTLID // 0 while there is no connection
	TrType, AdrFam, TrAddr, TrSvcID  string
	SubNQN, HostNQN                  string
	Model, Serial, Firmware, Version string
	IOQueues, QueueDepth             int
	Devices                          []string
	Losses                           int    // connections lost
	LastLoss                         string // why the last one was
}

// Controllers lists the controllers by name.
func (i *Initiator) Controllers() []Info {
	i.mu.Lock()
	var cs []*Controller
	for _, c := range i.controllers {
		if c != nil {
			cs = append(cs, c)
		}
	}
	i.mu.Unlock()
	slices.SortFunc(cs, func(a, b *Controller) int { return strings.Compare(a.o.Name, b.o.Name) })
	var out []Info
	for _, c := range cs {
		out = append(out, c.info())
	}
	return out
}

func (c *Controller) info() Info {
	n := Info{
		Name: c.o.Name, TrType: c.o.TrType, AdrFam: c.o.AdrFam, TrAddr: c.o.TrAddr, TrSvcID: c.o.TrSvcID,
		SubNQN: c.o.SubNQN, HostNQN: c.o.HostNQN,
	}
	for _, d := range c.list() {
		n.Devices = append(n.Devices, d.name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n.State, n.Losses = c.state, c.losses
	if c.last != nil {
		n.LastLoss = c.last.Error()
	}
	if a := c.a; a != nil {
		n.CNTLID, n.Model, n.Serial, n.Firmware = a.cntlid, a.id.MN, a.id.SN, a.id.FR
		n.Version = fmt.Sprintf("%d.%d", a.version>>16, a.version>>8&0xFF)
		if n.IOQueues = len(a.io); n.IOQueues > 0 {
			n.QueueDepth = a.io[0].depth()
		}
	}
	return n
}

// trid is the address as SPDK shows it.
func (c *Controller) trid() map[string]any {
	return map[string]any{"trtype": c.o.TrType, "adrfam": c.o.AdrFam, "traddr": c.o.TrAddr, "trsvcid": c.o.TrSvcID, "subnqn": c.o.SubNQN}
}
