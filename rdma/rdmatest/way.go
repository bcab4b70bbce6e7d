package rdmatest

// way is whether what is sent arrives.
type way uint8

const (
	open way = iota
	down     // not now: a port is down
	broken
)

func (c *card) wayTo(o *card) way {
	switch {
	case c.removed || o.removed || c.p != o.p && (c.p.cut || o.p.cut):
		return broken
	case !c.connected || !o.connected:
		return down
	}
	return open
}

// way is that to a queue pair's peer.
func (q *queuePair) way() way {
	if q.peer == nil || q.peer.state != ready {
		return broken
	}
	return q.card.wayTo(q.peer.card)
}
