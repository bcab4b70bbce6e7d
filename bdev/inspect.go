package bdev

import "github.com/pollux-storage/pollux/reactor"

// Supports reports whether requests of kind k are served, natively or by emulation. It is for control goroutines.
func (d *Device) Supports(k Kind) bool {
	g := d.Geometry()
	return g.Native.Has(k) || emulated(&g, k)
}

// ChannelStats gives the counters of the channels that are open, by reactor; nil where none is. It runs on a control goroutine.
func (d *Device) ChannelStats() []*Stats {
	out := make([]*Stats, len(d.channels))
	_ = d.registry.group.Each(func(r *reactor.Reactor) {
		if c := d.channels[r.Index()]; c != nil {
			s := c.stats
			out[r.Index()] = &s
		}
	})
	return out
}
