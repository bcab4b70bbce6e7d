package bdev

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"

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
	LowSpace // to those who opened it: little is left of the space for blocks that are not mapped
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
	resolve  func(name string) *Device // of names that no device has; nil: there are none

	parts sync.Mutex // held while one is made

	reserves []reserves    // by reactor; each place belongs to its reactor
	grace    time.Duration // see removalGrace
}

// NewRegistry makes an empty registry for the reactors of g.
func NewRegistry(g *reactor.Group) *Registry {
	return &Registry{
		group: g, devices: map[string]*Device{}, names: map[string]*Device{},
		reserves: make([]reserves, g.Len()), grace: removalGrace,
	}
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
		geometry: cfg.Geometry, registry: g, handles: map[*Handle]struct{}{}, gone: make(chan struct{}), removed: make(chan struct{}),
		before: new(Stats), closed: new(Stats), here: make([]here, g.group.Len()),
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

// SetAliases gives a device other aliases in place of those that it has.
func (d *Device) SetAliases(aliases []string) error {
	g := d.registry
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.names[d.name] != d {
		return fmt.Errorf("naming device %s: %w", d.name, ErrNotFound)
	}
	for _, n := range aliases {
		if o := g.names[n]; o != nil && o != d {
			return fmt.Errorf("naming device %s: %w: %s is device %s", d.name, ErrExists, n, o.name)
		}
	}
	for _, n := range d.aliases {
		if n != d.name && n != d.uuid.String() {
			delete(g.names, n)
		}
	}
	d.aliases = slices.Clone(aliases)
	for _, n := range d.aliases {
		g.names[n] = d
	}
	return nil
}

// Resolve lets f say which device a name means that no device has, nil if none: such names keep nobody else from taking them. f is called
// on the goroutine that asks, and may use the registry.
func (g *Registry) Resolve(f func(name string) *Device) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.resolve = f
}

// own gives the name that a device has, for one that only resolves to it.
func (g *Registry) own(name string) string {
	g.mu.Lock()
	known, f := g.names[name] != nil, g.resolve
	g.mu.Unlock()
	if known || f == nil {
		return name
	}
	if d := f(name); d != nil {
		return d.name
	}
	return name
}

// Lookup finds a device by name, alias or UUID.
func (g *Registry) Lookup(name string) (*Device, error) {
	name = g.own(name)
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

// Unregister removes a device: no one can open it any more, those who did are told and waited for, then its driver is
// closed. Those who have not closed it within a grace find their requests refused with StatusGone. When ctx ends first, the
// removal goes on without the caller; calling again waits for it again.
func (g *Registry) Unregister(ctx context.Context, name string) error {
	name = g.own(name)
	g.mu.Lock()
	d := g.names[name]
	if d == nil {
		g.mu.Unlock()
		return fmt.Errorf("removing device %q: %w", name, ErrNotFound)
	}
	if !d.removing {
		d.removing = true
		if len(d.handles) == 0 {
			close(d.gone)
		}
		go d.remove(d.listeners())
	}
	g.mu.Unlock()
	select {
	case <-d.removed:
		return d.failure
	case <-ctx.Done():
		return fmt.Errorf("removing device %q: %w by %v: %w", name, ErrBusy, d.Users(), ctx.Err())
	}
}

// remove does it, in the order: tell, wait, refuse, wait, close the driver, forget the name.
func (d *Device) remove(tell []func(Event)) {
	g := d.registry
	for _, f := range tell {
		f(Event{Removing, d})
	}
	g.mu.Lock()
	grace := time.NewTimer(g.grace)
	g.mu.Unlock()
	defer grace.Stop()
	select {
	case <-d.gone:
	case <-grace.C:
		_ = d.fail()
		<-d.gone
	}
	if err := d.driver.Close(); err != nil {
		d.failure = fmt.Errorf("removing device %q: closing it: %w", d.name, err)
	}
	g.mu.Lock()
	delete(g.devices, d.name)
	for n, o := range g.names {
		if o == d {
			delete(g.names, n)
		}
	}
	g.mu.Unlock()
	g.tell(Event{Unregistered, d})
	close(d.removed)
}

// SetGrace sets how long those who have a device open may go on using it when it is removed.
func (g *Registry) SetGrace(t time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.grace = t
}
