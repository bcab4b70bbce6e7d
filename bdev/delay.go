package bdev

import (
	"fmt"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/reactor"
)

// Delay is a device that answers late. Of a hundred reads one waits for the P99 time and the others for the average, and so
// of a hundred writes; other requests do not wait. The time runs from the end of the request below.
type Delay struct {
	*base
	queues []*delayQueue // by reactor; each place belongs to its reactor
	times  Latencies     // under base.mu
}

// Latencies are what a delay device adds.
type Latencies struct {
	ReadAverage, ReadP99   reactor.Ticks
	WriteAverage, WriteP99 reactor.Ticks
}

func (l *Latencies) check() error {
	for _, t := range []reactor.Ticks{l.ReadAverage, l.ReadP99, l.WriteAverage, l.WriteP99} {
		if t < 0 || t > 3600*reactor.Second {
			return fmt.Errorf("%w: a latency of %d ns: from 0 to an hour", ErrInvalid, t)
		}
	}
	return nil
}

// NewDelay registers name, which adds latencies to the device below.
func NewDelay(g *Registry, name, below string, id uuid.UUID, l Latencies) (*Device, error) {
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	b, err := g.stand(below, "delay "+name, "", true)
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	v := &Delay{base: b, queues: make([]*delayQueue, g.group.Len()), times: l}
	d, err := b.raise(Config{
		Name: name, Product: "delay", UUID: derived(id, b.Base(), "delay "+name), Driver: v, Geometry: b.geometry(),
	})
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", name, err)
	}
	return d, nil
}

// Latencies are those in force.
func (v *Delay) Latencies() Latencies {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.times
}

// SetLatencies changes them, for those too who wait already.
func (v *Delay) SetLatencies(l Latencies) error {
	if err := l.check(); err != nil {
		return err
	}
	v.mu.Lock()
	v.times = l
	v.mu.Unlock()
	return v.g.group.Each(func(r *reactor.Reactor) {
		if c := v.queues[r.Index()]; c != nil {
			c.set(v.Latencies())
		}
	})
}

// Describe tells the latencies in microseconds, as SPDK does.
func (v *Delay) Describe() any {
	l := v.Latencies()
	return map[string]any{"delay": map[string]any{
		"base_bdev_name":   v.Base().Name(),
		"avg_read_latency": l.ReadAverage / reactor.Microsecond, "p99_read_latency": l.ReadP99 / reactor.Microsecond,
		"avg_write_latency": l.WriteAverage / reactor.Microsecond, "p99_write_latency": l.WriteP99 / reactor.Microsecond,
	}}
}

// Open gives the queue of one reactor.
func (v *Delay) Open(r *reactor.Reactor) (Queue, error) {
	b, err := v.open(r)
	if err != nil {
		return nil, err
	}
	c := &delayQueue{below: b, v: v, r: r}
	for i := range c.lists {
		c.lists[i].r = r
	}
	c.set(v.Latencies())
	v.queues[r.Index()] = c
	return c, nil
}

// delayQueue has a list for each latency: within one, requests become due in the order in which they came.
type delayQueue struct {
	below
	v     *Delay
	r     *reactor.Reactor
	lists [4]delayList // average and P99 of reads, then of writes
	turn  [2]uint8     // of a hundred reads, of a hundred writes
}

type delayList struct {
	r     *reactor.Reactor
	time  reactor.Ticks
	timer reactor.Timer
	RequestList
}

func (c *delayQueue) set(l Latencies) {
	for i, t := range [4]reactor.Ticks{l.ReadAverage, l.ReadP99, l.WriteAverage, l.WriteP99} {
		c.lists[i].time = t
		c.lists[i].arm()
	}
}

func (c *delayQueue) Close() {
	c.v.queues[c.r.Index()] = nil
	c.below.Close()
}

func (c *delayQueue) Submit(q *Request) { c.c.Submit(q) }

// Finish keeps a request that was read or written.
func (c *delayQueue) Finish(q *Request) bool {
	var of int
	switch q.Frame().kind {
	case Read:
	case Write:
		of = 1
	default:
		return true
	}
	i := 2 * of
	if c.turn[of]++; c.turn[of] == 100 {
		c.turn[of] = 0
		i++
	}
	l := &c.lists[i]
	if l.time == 0 && l.n == 0 {
		return true
	}
	q.Frame().Tag = uint64(c.r.Now())
	l.Push(q)
	if l.n == 1 {
		l.arm()
	}
	return false
}

// Abort ends a request that waits.
func (c *delayQueue) Abort(q *Request) bool {
	for i := range c.lists {
		if l := &c.lists[i]; l.Remove(q) {
			l.arm()
			q.CompleteLater(StatusAborted)
			return true
		}
	}
	return false
}

// due is when the first may go.
func (l *delayList) due() reactor.Ticks { return reactor.Ticks(l.First().Frame().Tag) + l.time }

func (l *delayList) arm() {
	if l.n == 0 {
		l.r.StopTimer(&l.timer)
		return
	}
	l.r.SetTimer(&l.timer, l.due(), l)
}

// Run ends those whose time has come.
func (l *delayList) Run() {
	for l.n > 0 && l.due() <= l.r.Now() {
		q := l.Pop()
		q.Complete(q.Status)
	}
	l.arm()
}
