package bdev

import (
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/reactor"
)

// Device is a named array of blocks.
type Device struct {
	name    string
	product string
	uuid    uuid.UUID
	aliases []string
	layers  int
	driver  Driver

	registry *Registry

	// control is held by one change of the device at a time: resize, limits, histogram, reset of the counters.
	control sync.Mutex

	// These are under the registry's lock.
	geometry  Geometry // what control goroutines see; each channel has its own copy
	handles   map[*Handle]struct{}
	claim     claim
	removing  bool
	gone      chan struct{} // closed when the last handle went, after removing was set
	removed   chan struct{} // closed when the removal is complete
	failure   error         // of closing the driver, once removed is closed
	before    *Stats        // what was counted before the last reset
	closed    *Stats        // what closed channels counted since
	limits    Limits
	treasurer *treasurer // nil without limits

	histogram HistogramOptions // without a kind there is none; under control

	attaching sync.Mutex
	attached  any // what those who serve the device share of it

	here  []here // by reactor; each place belongs to its reactor
	locks lockTable
}

// here is what a device has on one reactor, whether or not a channel is open there.
type here struct {
	channel *Channel
	removed bool // requests are refused with StatusGone
	locks   []*rangeLock
	spare   []*rangeLock
	payer   *payer // nil without limits

	histogram *histogram // nil without one
}

// layersMax bounds a stack of devices; it is the number of frames in a request.
const layersMax = 8

// Name is the device's name, unique in its registry.
func (d *Device) Name() string { return d.name }

// Product names the kind of device.
func (d *Device) Product() string { return d.product }

// UUID identifies the device for its life.
func (d *Device) UUID() uuid.UUID { return d.uuid }

// Aliases are further names.
func (d *Device) Aliases() []string {
	d.registry.mu.Lock()
	defer d.registry.mu.Unlock()
	return d.aliases
}

// Layers is the number of devices it stands on.
func (d *Device) Layers() int { return d.layers }

// Driver gives the driver, for what only its kind has.
func (d *Device) Driver() Driver { return d.driver }

// Registry is where the device is registered.
func (d *Device) Registry() *Registry { return d.registry }

// Geometry gives the shape as it is now. It is for control goroutines; on a reactor ask the Channel.
func (d *Device) Geometry() Geometry {
	d.registry.mu.Lock()
	defer d.registry.mu.Unlock()
	return d.geometry
}

// Supports reports whether requests of kind k are served. It is for control goroutines.
func (d *Device) Supports(k Kind) bool {
	g := d.Geometry()
	return g.Supports(k)
}

// open gives the device's channel on reactor r, made when it is the first use there. It runs on r.
func (d *Device) open(r *reactor.Reactor, g Geometry) (*Channel, error) {
	h := &d.here[r.Index()]
	if h.channel != nil {
		h.channel.refs++
		return h.channel, nil
	}
	if err := d.registry.provide(r, d.layers); err != nil {
		return nil, fmt.Errorf("opening %s on reactor %d: %w", d.name, r.Index(), err)
	}
	q, err := d.driver.Open(r)
	if err != nil {
		return nil, fmt.Errorf("opening %s on reactor %d: %w", d.name, r.Index(), err)
	}
	h.channel = newChannel(d, r, q, g)
	return h.channel, nil
}

// each runs f on each reactor, with what the device has there.
func (d *Device) each(f func(h *here)) error {
	return d.registry.group.Each(func(r *reactor.Reactor) { f(&d.here[r.Index()]) })
}

// Resize changes the number of blocks, on every reactor, and tells those who opened the device. Requests in flight past a
// new, lower end finish or fail as the medium decides; later ones are out of range.
func (d *Device) Resize(blocks uint64) error {
	return d.reshape("resizing", func(g *Geometry) { g.Blocks = blocks })
}

// SetReadOnly lets the device refuse what changes it, or take it again. What was submitted before goes on.
func (d *Device) SetReadOnly(on bool) error {
	return d.reshape("protecting", func(g *Geometry) { g.ReadOnly = on })
}

// reshape changes the geometry.
func (d *Device) reshape(what string, change func(g *Geometry)) error {
	d.control.Lock()
	defer d.control.Unlock()
	g := d.registry
	g.mu.Lock()
	next := d.geometry
	change(&next)
	if next == d.geometry {
		g.mu.Unlock()
		return nil
	}
	if err := next.check(); err != nil {
		g.mu.Unlock()
		return fmt.Errorf("%s %s: %w: %w", what, d.name, ErrInvalid, err)
	}
	d.geometry = next
	tell := d.listeners()
	g.mu.Unlock()
	err := d.each(func(h *here) {
		if h.channel != nil {
			h.channel.setGeometry(next)
		}
	})
	for _, f := range tell {
		f(Event{Resized, d})
	}
	g.tell(Event{Resized, d})
	return err
}

// TellLowSpace tells those who opened the device, and those of devices above that share its space, that little of it is left. Who does it looks
// that they hear it once, until there was more again.
func (d *Device) TellLowSpace() {
	d.registry.mu.Lock()
	tell := d.listeners()
	d.registry.mu.Unlock()
	for _, f := range tell {
		f(Event{LowSpace, d})
	}
}

// listeners are the openers who want to hear events. The registry's lock is held.
func (d *Device) listeners() []func(Event) {
	var out []func(Event)
	for h := range d.handles {
		if h.event != nil {
			out = append(out, h.event)
		}
	}
	return out
}

// fail lets every channel refuse what comes with StatusGone, and end what it can of what waits.
func (d *Device) fail() error {
	return d.each(func(h *here) {
		h.removed = true
		if h.channel != nil {
			h.channel.fail()
		}
	})
}

// removalGrace is how long those who opened a device that is removed may go on using it, to end in their own order.
const removalGrace = 5 * time.Second
