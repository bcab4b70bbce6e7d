package bdev

import "github.com/pollux-storage/pollux/reactor"

// Late is what a channel has had in flight for long: how many requests, and the oldest.
type Late struct {
	N           int
	Kind        Kind
	LBA, Blocks uint64 // of the oldest, as it was submitted
	Since       reactor.Ticks
}

// Late tells of the requests that came before a moment and have not ended. It is for the channel's reactor.
func (c *Channel) Late(before reactor.Ticks) Late {
	var l Late
	for f := c.flight.next; f != &c.flight && f.at < before; f = f.next {
		if l.N++; l.N == 1 {
			l.Kind, l.LBA, l.Blocks, l.Since = f.kind, f.lba, f.blocks, f.at
		}
	}
	return l
}
