package ctl

import (
	"strconv"

	"github.com/pollux-storage/pollux/rdma"
)

// This file is the metrics of RDMA cards, by reactor. The target and the initiator use a card apart: side says for which of them it is. Work
// requests for each call are ratios of the counters.

var (
	mRDMAQueuePairs = family(Gauge, "pollux_rdma_queue_pairs", "Queue pairs of a card.", "card", "reactor", "side")
	mRDMARegions    = family(Gauge, "pollux_rdma_memory_regions", "Pieces of a reactor's pool that are registered with a card.", "card", "reactor", "side")
	mRDMAReceives   = family(Gauge, "pollux_rdma_receives", "Buffers to receive into, by who has them: the card, or a message that is being served.", "card", "reactor", "side", "at")
	mRDMAPosts      = family(Counter, "pollux_rdma_work_requests_total", "Work requests that a card was given.", "card", "reactor", "side", "queue")
	mRDMACalls      = family(Counter, "pollux_rdma_post_calls_total", "Calls that brought them.", "card", "reactor", "side", "queue")
	mRDMAPolls      = family(Counter, "pollux_rdma_polls_total", "Looks for completions.", "card", "reactor", "side")
	mRDMAEmpty      = family(Counter, "pollux_rdma_empty_polls_total", "Looks for completions that found none.", "card", "reactor", "side")
	mRDMACompleted  = family(Counter, "pollux_rdma_completions_total", "Completions of work requests.", "card", "reactor", "side")
	mRDMAWakes      = family(Counter, "pollux_rdma_wakes_total", "Times that a card woke a reactor.", "card", "reactor", "side")
)

// rdmaMetrics gives the metrics of an engine's cards.
type rdmaMetrics struct{ e *Engine }

// Families lists the metrics of this file.
func (rdmaMetrics) Families() []*Family {
	return []*Family{mRDMAQueuePairs, mRDMARegions, mRDMAReceives, mRDMAPosts, mRDMACalls, mRDMAPolls, mRDMAEmpty, mRDMACompleted, mRDMAWakes}
}

// Scrape reads the counters. There are none as long as RDMA is not used.
func (m rdmaMetrics) Scrape(s *Scrape) {
	cardMetrics(s, "target", m.e.Target.RDMAStats())
	cardMetrics(s, "initiator", m.e.Initiator.RDMAStats())
}

func cardMetrics(s *Scrape, side string, stats []rdma.Stats) {
	for i := range stats {
		c := &stats[i]
		reactor := strconv.Itoa(c.Reactor)
		for _, v := range []struct {
			of    *Family
			value uint64
			more  []string
		}{
			{mRDMAQueuePairs, uint64(c.QueuePairs), nil}, {mRDMARegions, uint64(c.Regions), nil},
			{mRDMAReceives, uint64(c.Receives), []string{"card"}}, {mRDMAReceives, uint64(c.ReceivesHeld), []string{"engine"}},
			{mRDMAPosts, c.Posts, []string{"send"}}, {mRDMAPosts, c.RecvPosts, []string{"receive"}},
			{mRDMACalls, c.PostCalls, []string{"send"}}, {mRDMACalls, c.RecvCalls, []string{"receive"}},
			{mRDMAPolls, c.Polls, nil}, {mRDMAEmpty, c.PollsEmpty, nil}, {mRDMACompleted, c.Completions, nil}, {mRDMAWakes, c.Wakes, nil},
		} {
			s.Value(v.of, float64(v.value), append([]string{c.Card, reactor, side}, v.more...)...)
		}
	}
}
