package bdev

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/reactor"
)

// Errors of the control path, with which callers decide.
var (
	ErrNotFound = errors.New("no such device")
	ErrExists   = errors.New("the name is taken")
	ErrClaimed  = errors.New("claimed by another user")
	ErrBusy     = errors.New("in use")
	ErrInvalid  = errors.New("invalid")
)

// EventKind says what happened to a device.
type EventKind uint8

// The events.
const (
	Registered EventKind = iota
	Unregistered
	Resized
	Removing // to those who opened it: close it now
)

// Event is told to watchers of the registry and to those who opened the device, on a control goroutine.
type Event struct {
	Kind   EventKind
	Device *Device
}

// Registry knows the devices of one engine. Its methods are called on control goroutines, never on a reactor.
type Registry struct {
	group *reactor.Group

	mu       sync.Mutex
	devices  map[string]*Device
	names    map[string]*Device // aliases and UUIDs too
	watchers []func(Event)
	retired  map[*Device]Stats // counters of channels that closed
}

// NewRegistry makes an empty registry for the reactors of g.
func NewRegistry(g *reactor.Group) *Registry {
	return &Registry{group: g, devices: map[string]*Device{}, names: map[string]*Device{}, retired: map[*Device]Stats{}}
}

// Group is the reactors on which devices are opened.
func (g *Registry) Group() *reactor.Group { return g.group }

// Watch lets f hear of every device that comes, goes or changes.
func (g *Registry) Watch(f func(Event)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.watchers = append(g.watchers, f)
}

func (g *Registry) tell(e Event) {
	g.mu.Lock()
	ws := g.watchers
	g.mu.Unlock()
	for _, w := range ws {
		w(e)
	}
}

// Register makes a device known. On an error the driver stays the caller's.
func (g *Registry) Register(cfg Config) (*Device, error) {
	if cfg.Name == "" {
		return nil, fmt.Errorf("registering a %s: %w: it has no name", cfg.Product, ErrInvalid)
	}
	if err := cfg.Geometry.check(); err != nil {
		return nil, fmt.Errorf("registering %s: %w: %w", cfg.Name, ErrInvalid, err)
	}
	if cfg.Layers >= layersMax {
		return nil, fmt.Errorf("registering %s: %w: it would stand on %d devices, the most is %d", cfg.Name, ErrInvalid, cfg.Layers, layersMax-1)
	}
	if cfg.UUID == uuid.Nil {
		cfg.UUID = uuid.New()
	}
	d := &Device{
		name: cfg.Name, product: cfg.Product, uuid: cfg.UUID, aliases: cfg.Aliases, layers: cfg.Layers, driver: cfg.Driver,
		geometry: cfg.Geometry, channels: make([]*Channel, g.group.Len()), registry: g, handles: map[*Handle]struct{}{},
		gone: make(chan struct{}),
	}
	g.mu.Lock()
	names := append([]string{d.name, d.uuid.String()}, d.aliases...)
	for _, n := range names {
		if g.names[n] != nil {
			g.mu.Unlock()
			return nil, fmt.Errorf("registering %s: %w: %s is device %s", cfg.Name, ErrExists, n, g.names[n].name)
		}
	}
	for _, n := range names {
		g.names[n] = d
	}
	g.devices[d.name] = d
	g.mu.Unlock()
	g.tell(Event{Registered, d})
	return d, nil
}

// Lookup finds a device by name, alias or UUID.
func (g *Registry) Lookup(name string) (*Device, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if d := g.names[name]; d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("device %q: %w", name, ErrNotFound)
}

// Devices lists them by name.
func (g *Registry) Devices() []*Device {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]*Device, 0, len(g.devices))
	for _, d := range g.devices {
		out = append(out, d)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out
}

// Handle is the right to use a device.
type Handle struct {
	d     *Device
	who   string
	event func(Event)
	open  bool
}

// OpenOptions say how a device is to be used.
type OpenOptions struct {
	Who   string      // who opens it, for messages: "subsystem nqn…", "part Malloc0p0"
	Claim bool        // nobody else may claim it: for those who write to it by their own layout
	Event func(Event) // hears Removing and Resized; on Removing it must close the handle soon
}

// Open gives the right to use a device.
func (g *Registry) Open(name string, o OpenOptions) (*Handle, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.names[name]
	if d == nil || d.removing {
		return nil, fmt.Errorf("opening device %q for %s: %w", name, o.Who, ErrNotFound)
	}
	if o.Claim && d.writer != nil {
		return nil, fmt.Errorf("opening device %q for %s: %w: %s", name, o.Who, ErrClaimed, d.writer.who)
	}
	h := &Handle{d: d, who: o.Who, event: o.Event, open: true}
	d.handles[h] = struct{}{}
	if o.Claim {
		d.writer = h
	}
	return h, nil
}

// Device is what the handle opens.
func (h *Handle) Device() *Device { return h.d }

// Channel gives the device's channel on r. It runs on r.
func (h *Handle) Channel(r *reactor.Reactor) (*Channel, error) {
	return h.d.open(r, h.d.Geometry())
}

// Channels gives the device's channel on every reactor. It runs on a control goroutine.
func (h *Handle) Channels() ([]*Channel, error) {
	g := h.d.registry.group
	out := make([]*Channel, g.Len())
	var failed error
	err := g.Each(func(r *reactor.Reactor) {
		if failed == nil {
			out[r.Index()], failed = h.d.open(r, h.d.Geometry())
		}
	})
	if err = errors.Join(err, failed); err != nil {
		CloseChannels(out)
		return nil, err
	}
	return out, nil
}

// CloseChannels gives channels back, each on its reactor; nil ones are passed over.
func CloseChannels(cs []*Channel) {
	for _, c := range cs {
		if c != nil {
			_ = c.r.Call(c.Close)
		}
	}
}

// Close gives the handle back. The channels taken through it were closed before.
func (h *Handle) Close() {
	g := h.d.registry
	g.mu.Lock()
	defer g.mu.Unlock()
	if !h.open {
		return
	}
	h.open = false
	delete(h.d.handles, h)
	if h.d.writer == h {
		h.d.writer = nil
	}
	if h.d.removing && len(h.d.handles) == 0 {
		close(h.d.gone)
	}
}

// Claim tells who claimed the device, "" if nobody.
func (d *Device) Claim() string {
	d.registry.mu.Lock()
	defer d.registry.mu.Unlock()
	if d.writer == nil {
		return ""
	}
	return d.writer.who
}

// Users lists who has the device open.
func (d *Device) Users() []string {
	d.registry.mu.Lock()
	defer d.registry.mu.Unlock()
	var out []string
	for h := range d.handles {
		out = append(out, h.who)
	}
	sort.Strings(out)
	return out
}

// Unregister removes a device: no one can open it any more, those who did are told and waited for, then its driver is closed.
func (g *Registry) Unregister(ctx context.Context, name string) error {
	g.mu.Lock()
	d := g.names[name]
	if d == nil || d.removing {
		g.mu.Unlock()
		return fmt.Errorf("removing device %q: %w", name, ErrNotFound)
	}
	d.removing = true
	var tell []func(Event)
	for h := range d.handles {
		if h.event != nil {
			tell = append(tell, h.event)
		}
	}
	if len(d.handles) == 0 {
		close(d.gone)
	}
	g.mu.Unlock()
	for _, f := range tell {
		f(Event{Removing, d})
	}
	select {
	case <-d.gone:
	case <-ctx.Done():
		return fmt.Errorf("removing device %q: %w by %v: %w", name, ErrBusy, d.Users(), ctx.Err())
	}
	err := d.driver.Close()
	g.mu.Lock()
	delete(g.devices, d.name)
	for n, o := range g.names {
		if o == d {
			delete(g.names, n)
		}
	}
	delete(g.retired, d)
	g.mu.Unlock()
	g.tell(Event{Unregistered, d})
	if err != nil {
		return fmt.Errorf("removing device %q: closing it: %w", name, err)
	}
	return nil
}

// Resize changes the number of blocks, on every reactor, and tells those who opened the device.
func (d *Device) Resize(blocks uint64) error {
	g := d.registry
	g.mu.Lock()
	if d.geometry.Blocks == blocks {
		g.mu.Unlock()
		return nil
	}
	next := d.geometry
	next.Blocks = blocks
	if err := next.check(); err != nil {
		g.mu.Unlock()
		return fmt.Errorf("resizing %s: %w: %w", d.name, ErrInvalid, err)
	}
	d.geometry = next
	var tell []func(Event)
	for h := range d.handles {
		if h.event != nil {
			tell = append(tell, h.event)
		}
	}
	g.mu.Unlock()
	err := g.group.Each(func(r *reactor.Reactor) {
		if c := d.channels[r.Index()]; c != nil {
			c.g, c.blocks = next, next.Blocks
		}
	})
	for _, f := range tell {
		f(Event{Resized, d})
	}
	g.tell(Event{Resized, d})
	return err
}

// retire keeps the counters of a channel that closes, so that the device's totals never fall.
func (d *Device) retire(c *Channel) {
	g := d.registry
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.retired[d]
	s.Add(&c.stats)
	g.retired[d] = s
}

// Stats adds up the counters of all channels, open and closed. It runs on a control goroutine.
func (d *Device) Stats() Stats {
	g := d.registry
	var sum Stats
	_ = g.group.Each(func(r *reactor.Reactor) {
		if c := d.channels[r.Index()]; c != nil {
			sum.Add(&c.stats)
		}
	})
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.retired[d]
	sum.Add(&s)
	return sum
}
