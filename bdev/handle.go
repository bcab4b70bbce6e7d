package bdev

import (
	"errors"
	"fmt"
	"sort"

	"github.com/pollux-storage/pollux/reactor"
)

// Handle is the right to use a device.
type Handle struct {
	d       *Device
	who     string
	event   func(Event)
	claimed bool
	open    bool
}

// OpenOptions say how a device is to be used.
type OpenOptions struct {
	Who   string // who opens it, for messages: "subsystem nqn…", "part Malloc0p0"
	Claim bool   // nobody else may claim it: for those who write to it by their own layout
	Share string // with Claim: those who name the same layout share one claim

	// Event hears Removing, Resized and LowSpace, on a control goroutine. On Removing it must see to it that the handle is closed soon;
	// it may do so before it returns, or later.
	Event func(Event)
}

// claim is what the handles hold that claimed a device.
type claim struct {
	who   string
	share string
	n     int
}

// Open gives the right to use a device.
func (g *Registry) Open(name string, o OpenOptions) (*Handle, error) {
	name = g.own(name)
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.names[name]
	if d == nil || d.removing {
		return nil, fmt.Errorf("opening device %q for %s: %w", name, o.Who, ErrNotFound)
	}
	if o.Claim && d.claim.n > 0 && (o.Share == "" || o.Share != d.claim.share) {
		return nil, fmt.Errorf("opening device %q for %s: %w: %s", name, o.Who, ErrClaimed, d.claim.who)
	}
	h := &Handle{d: d, who: o.Who, event: o.Event, claimed: o.Claim, open: true}
	d.handles[h] = struct{}{}
	if o.Claim {
		if d.claim.n == 0 {
			d.claim = claim{who: o.Who, share: o.Share}
		}
		d.claim.n++
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
	if h.claimed {
		h.d.claim.n--
	}
	if h.d.removing && len(h.d.handles) == 0 {
		close(h.d.gone)
	}
}

// SetWho says anew who has the handle: for one that learns its own name from the device, or changes it.
func (h *Handle) SetWho(who string) {
	h.d.registry.mu.Lock()
	defer h.d.registry.mu.Unlock()
	h.who = who
	if h.open && h.claimed && h.d.claim.share == "" {
		h.d.claim.who = who
	}
}

// Claim tells who claimed the device, "" if nobody.
func (d *Device) Claim() string {
	d.registry.mu.Lock()
	defer d.registry.mu.Unlock()
	if d.claim.n == 0 {
		return ""
	}
	return d.claim.who
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
