package volume

import (
	"bytes"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// chatter writes to a volume, or reads a snapshot of it and compares, again and again while other work goes on.
type chatter struct {
	*client
	w        *snapshotWorld
	snapshot *past // nil: it writes
	data     []byte
	from     uint64 // the first block that it touches
	at       uint64
	stop     bool
	rounds   int
}

func (c *chatter) next() {
	c.at = c.from + c.w.r.Uint64N(snapshotBlocks-c.from-4)
	c.q.Kind, c.q.LBA, c.q.Blocks = bdev.Read, c.at, 4
	if c.snapshot == nil {
		c.q.Kind = bdev.Write
		c.w.seq = fillCounting(c.data, c.w.seq)
	}
	c.q.SetData(c.data)
	c.c.Submit(&c.q)
}

// RequestDone goes on.
func (c *chatter) RequestDone(q *bdev.Request) {
	c.rounds++
	want := c.w.head
	if c.snapshot != nil {
		want = c.snapshot.data
	}
	want = want[c.at*PageBytes:][:len(c.data)]
	switch {
	case q.Status != bdev.StatusOK:
		c.w.t.Errorf("%v at %d: %v", q.Kind, q.LBA, q.Status)
	case c.snapshot == nil:
		copy(want, c.data)
	case !bytes.Equal(want, c.data):
		c.w.t.Errorf("blocks at %d of snapshot %s are others", q.LBA, c.snapshot.name)
	}
	if !c.stop && !c.w.t.Failed() {
		c.next()
	} else {
		c.e = true
	}
}

// chat lets somebody begin.
func (w *snapshotWorld) chat(d *bdev.Device, core int, from uint64, snapshot *past) *chatter {
	w.t.Helper()
	c := &chatter{client: w.clientOf(d, core), w: w, from: from, snapshot: snapshot, data: pageMemory(4)}
	c.q.Done = c
	w.w.On(core, func(*reactor.Reactor) { c.next() })
	return c
}
