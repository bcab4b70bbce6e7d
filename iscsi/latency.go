package iscsi

import (
	"fmt"
	"math"

	"github.com/pollux-storage/pollux/internal/hist"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the histogram of the time that a node's SCSI commands took, from their arrival to their answer, for who asked for it with
// iscsi_enable_histogram: in SPDK's buckets of all it can hold (include/spdk/histogram_data.h, spdk_histogram_data_alloc).

// latencyGranularity cuts a power of two into 128 buckets, as SPDK does.
const latencyGranularity = 7

// latencies are those of a node, by reactor. Each belongs to its reactor.
type latencies struct{ of []*hist.LogLinear }

// count counts a command on a reactor.
func (l *latencies) count(r *reactor.Reactor, took reactor.Ticks) {
	l.of[r.Index()].Record(uint64(took))
}

// EnableHistogram begins to count how long a node's commands take, or ends it. Where it is on already it goes on counting.
func (t *Target) EnableHistogram(name string, on bool) error {
	return t.alterNode(name, "counting latencies", func(n *Node) error {
		if !on {
			n.latency = nil
			return nil
		}
		if n.latency != nil {
			return nil
		}
		l := &latencies{}
		for range t.group.Len() {
			h, err := newLatency()
			if err != nil {
				return err
			}
			l.of = append(l.of, h)
		}
		n.latency = l
		return nil
	})
}

func newLatency() (*hist.LogLinear, error) {
	return hist.NewLogLinear(latencyGranularity, 0, math.MaxInt64)
}

// Histogram gives the latencies counted since they were asked for, in nanoseconds.
func (t *Target) Histogram(name string) (*hist.LogLinear, error) {
	t.mu.Lock()
	n, err := t.findNode(name)
	var l *latencies
	if err == nil {
		if l = n.latency; l == nil {
			err = fmt.Errorf("target node %s keeps no histogram: %w; turn it on with iscsi_enable_histogram", n.name, ErrInvalid)
		}
	}
	t.mu.Unlock()
	if err != nil {
		return nil, err
	}
	sum, err := newLatency()
	if err == nil {
		err = t.group.Each(func(r *reactor.Reactor) { sum.Add(l.of[r.Index()]) })
	}
	return sum, err
}
