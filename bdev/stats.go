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

// KindStats counts the requests of one kind. Latency counts successful ones, in nanoseconds.
type KindStats struct {
	Ops, Bytes uint64
	Min, Max   reactor.Ticks
	Latency    hist.Histogram
}

func (s *Stats) depth(n int) {
	s.InFlight = n
	if n > s.DepthMax {
		s.DepthMax = n
	}
}

// count takes the end of a request that took d.
func (s *Stats) count(q *Request, d reactor.Ticks) {
	s.InFlight--
	if q.Status != StatusOK {
		s.Errors[q.Status]++
		return
	}
	k := &s.Kinds[q.Kind]
	k.Ops++
	k.Bytes += q.Blocks << q.Frame().c.g.Shift()
	k.Latency.Record(uint64(d))
	k.Max = max(k.Max, d)
	if d < k.Min || k.Ops == 1 {
		k.Min = d
	}
}

// Add adds another's counters.
func (s *Stats) Add(o *Stats) {
	for i := range s.Kinds {
		k, p := &s.Kinds[i], &o.Kinds[i]
		if p.Ops > 0 && (p.Min < k.Min || k.Ops == 0) {
			k.Min = p.Min
		}
		k.Ops += p.Ops
		k.Bytes += p.Bytes
		k.Max = max(k.Max, p.Max)
		k.Latency.Add(&p.Latency)
	}
	for i, n := range o.Errors {
		s.Errors[i] += n
	}
	s.DepthMax = max(s.DepthMax, o.DepthMax)
	s.InFlight += o.InFlight
}
