package rdma

// Stats counts what one card did on one reactor. Those of the first block are what there is now: they are 0 when all is closed.
type Stats struct {
	Card             string
	Reactor          int
	QueuePairs       int // queue pairs
	CompletionQueues int
	SharedQueues     int
	Regions          int // of memory that are registered; it is the reactor's pool's
	Receives         int // that the card has
	ReceivesHeld     int // that handlers have

	Posts, PostCalls     uint64 // work requests, and calls that brought them to the card
	Chains               uint64 // of work requests of one queue pair that stand together in a call: each rings the card once
	RecvPosts, RecvCalls uint64
	Polls, PollsEmpty    uint64
	Completions          uint64
	Arms, Wakes          uint64 // of completion channels
}

// Crossings is how often the card's driver was called.
func (s *Stats) Crossings() uint64 { return s.PostCalls + s.RecvCalls + s.Polls + s.Arms + s.Wakes }

// Stats counts, by card and reactor. It is not for reactors. Of a nil Net there is nothing.
func (n *Net) Stats() []Stats {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	cards := append([]*card(nil), n.cards...)
	n.mu.Unlock()
	var out []Stats
	for _, c := range cards {
		out = append(out, c.stats()...)
	}
	return out
}

func (c *card) stats() (out []Stats) {
	for i, p := range c.posters {
		var s Stats
		c.mu.Lock()
		l := c.lanes[i]
		_ = p.r.Call(func() { s = p.stats })
		if l != nil {
			s.CompletionQueues++
			if l.srq != 0 {
				s.SharedQueues++
			}
		}
		s.Regions = c.local.poolRegions(i)
		if m := c.remote.Load(); m != c.local {
			s.Regions += m.poolRegions(i)
		}
		c.mu.Unlock()
		s.Card, s.Reactor = c.info.Name, i
		out = append(out, s)
	}
	c.n.mu.Lock()
	for q := range c.queues {
		if r := q.home.Load(); r != nil {
			s := &out[r.Index()]
			s.QueuePairs++
			if q.cfg.Movable {
				s.CompletionQueues++
			}
		}
	}
	c.n.mu.Unlock()
	return out
}
