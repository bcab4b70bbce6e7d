package bdev

import (
	"github.com/pollux-storage/pollux/internal/hist"
	"github.com/pollux-storage/pollux/reactor"
)

// Stats counts what a device did.
type Stats struct {
	Kinds    [Kinds]KindStats
	Errors   [statusEnd]uint64 // by status; StatusOK is not counted
	DepthMax int               // most requests in flight at once on one reactor
	InFlight int
}

// KindStats counts the requests of one kind: Ops, Bytes and the latencies of those that succeeded, in nanoseconds, and how
// many failed. Bytes are those of the range, for Unmap too; Flush and Reset have none.
type KindStats struct {
	Ops, Bytes uint64
	Errors     uint64
	Min, Max   reactor.Ticks
	Latency    hist.Histogram
	seen       bool // Min and Max are of something
}

func (s *Stats) depth(n int) {
	s.InFlight = n
	if n > s.DepthMax {
		s.DepthMax = n
	}
}

// count takes the end of a request that took d, on blocks of 1 << shift bytes.
func (s *Stats) count(q *Request, d reactor.Ticks, shift uint) {
	s.InFlight--
	k := &s.Kinds[q.Kind]
	if q.Status != StatusOK {
		s.Errors[q.Status]++
		k.Errors++
		return
	}
	k.Ops++
	if q.Kind != Flush && q.Kind != Reset && q.Kind != Extent {
		k.Bytes += q.Blocks << shift
	}
	k.Latency.Record(uint64(d))
	k.Max = max(k.Max, d)
	if d < k.Min || !k.seen {
		k.Min, k.seen = d, true
	}
}

// Add adds another's counters.
func (s *Stats) Add(o *Stats) {
	for i := range s.Kinds {
		k, p := &s.Kinds[i], &o.Kinds[i]
		if p.seen && (p.Min < k.Min || !k.seen) {
			k.Min, k.seen = p.Min, true
		}
		k.Ops += p.Ops
		k.Bytes += p.Bytes
		k.Errors += p.Errors
		k.Max = max(k.Max, p.Max)
		k.Latency.Add(&p.Latency)
	}
	for i, n := range o.Errors {
		s.Errors[i] += n
	}
	s.DepthMax = max(s.DepthMax, o.DepthMax)
	s.InFlight += o.InFlight
}

// ResetMode says which counters a reset sets to zero.
type ResetMode uint8

// The modes of resetting, by the names that SPDK's RPC gives them.
const (
	ResetNone   ResetMode = iota
	ResetAll              // all
	ResetMaxMin           // the extremes of latency, and of the queue's depth
	ResetErrors           // errors
)

// reset does it and adds what it set to zero to before.
func (s *Stats) reset(mode ResetMode, before *Stats) {
	in := s.InFlight
	switch mode {
	case ResetAll:
		s.InFlight = 0
		before.Add(s)
		*s = Stats{InFlight: in, DepthMax: in}
	case ResetMaxMin:
		for i := range s.Kinds {
			k := &s.Kinds[i]
			k.Min, k.Max, k.seen = 0, 0, false
		}
		s.DepthMax = in
	case ResetErrors:
		for i := range s.Kinds {
			before.Kinds[i].Errors += s.Kinds[i].Errors
			s.Kinds[i].Errors = 0
		}
		for i, n := range s.Errors {
			before.Errors[i] += n
		}
		s.Errors = [statusEnd]uint64{}
	}
}

// retire keeps the counters of a channel that closes, so that the device's totals never fall.
func (d *Device) retire(c *Channel) {
	d.registry.mu.Lock()
	defer d.registry.mu.Unlock()
	d.closed.Add(&c.stats)
}

// Stats gives the counters since the device was registered: they never fall. It runs on a control goroutine.
func (d *Device) Stats() Stats {
	sum := d.Counted()
	d.registry.mu.Lock()
	defer d.registry.mu.Unlock()
	sum.Add(d.before)
	return sum
}

// Counted gives the counters since their last reset. It runs on a control goroutine.
func (d *Device) Counted() Stats {
	var sum Stats
	for _, s := range d.ChannelStats() {
		if s != nil {
			sum.Add(s)
		}
	}
	d.registry.mu.Lock()
	defer d.registry.mu.Unlock()
	sum.Add(d.closed)
	return sum
}

// ChannelStats gives those of the channels that are open, by reactor; nil where there is none. It runs on a control goroutine.
func (d *Device) ChannelStats() []*Stats {
	out := make([]*Stats, len(d.here))
	var room *Stats // made here: on a reactor it would be made while hosts wait
	for i, r := range d.registry.group.Reactors() {
		if room == nil {
			room = new(Stats)
			room.touch()
		}
		open := false
		_ = r.Call(func() {
			if c := d.here[i].channel; c != nil {
				open = true
				room.copy(&c.stats)
			}
		})
		if open {
			out[i], room = room, nil
		}
	}
	return out
}

// touch lets the kernel give the memory of s now: the heap hands out pages that nobody has written yet, and a reactor that is the first to do so
// waits for the kernel, several times for one of these.
func (s *Stats) touch() {
	for i := range s.Kinds {
		s.Kinds[i].Ops = 0
	}
}

// copy makes s, which is empty, the same as another. Most devices have seen two or three kinds, and a histogram is large.
func (s *Stats) copy(o *Stats) {
	s.Errors, s.DepthMax, s.InFlight = o.Errors, o.DepthMax, o.InFlight
	for i := range o.Kinds {
		if k := &o.Kinds[i]; k.Ops > 0 || k.Errors > 0 || k.seen {
			s.Kinds[i] = *k
		}
	}
}

// References gives how many have the device open, by reactor. It runs on a control goroutine.
func (d *Device) References() []int {
	out := make([]int, len(d.here))
	i := 0
	_ = d.each(func(h *here) {
		if h.channel != nil {
			out[i] = h.channel.refs
		}
		i++
	})
	return out
}

// InFlight is how many requests came and did not end, on all reactors. It runs on a control goroutine.
func (d *Device) InFlight() (n int) {
	_ = d.each(func(h *here) {
		if h.channel != nil {
			n += h.channel.inFlight
		}
	})
	return n
}

// ResetStats sets counters to zero, as Counted gives them.
func (d *Device) ResetStats(mode ResetMode) error {
	d.control.Lock()
	defer d.control.Unlock()
	g := d.registry
	g.mu.Lock()
	d.closed.reset(mode, d.before)
	g.mu.Unlock()
	return d.each(func(h *here) {
		if h.channel != nil {
			g.mu.Lock()
			h.channel.stats.reset(mode, d.before)
			g.mu.Unlock()
		}
	})
}
