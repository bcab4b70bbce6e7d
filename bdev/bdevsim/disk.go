package bdevsim

import (
	"fmt"
	"sync"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
)

// Disk is a driver whose medium is a simulated disk. It serves tests, so one lock for all reactors will do.
type Disk struct {
	mu     sync.Mutex
	medium *sim.Disk
}

// New registers a device on a disk, whose Config says how it is made.
func New(g *bdev.Registry, cfg sim.Config) (*bdev.Device, error) {
	m, err := sim.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", cfg.Name, err)
	}
	return register(g, m)
}

// Open registers a device on a disk that holds an image.
func Open(g *bdev.Registry, i *sim.Image, cfg sim.Config) (*bdev.Device, error) {
	m, err := sim.Open(i, cfg)
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", cfg.Name, err)
	}
	return register(g, m)
}

func register(g *bdev.Registry, m *sim.Disk) (*bdev.Device, error) {
	cfg := m.Config()
	d, err := g.Register(bdev.Config{
		Name: cfg.Name, Product: "simulated disk", UUID: uuid.NewSHA1(uuid.Nil, []byte(cfg.Name)), Driver: &Disk{medium: m},
		Geometry: bdev.Geometry{
			BlockSize: cfg.BlockSize, Blocks: cfg.Blocks, Volatile: !cfg.Durable, UnmapZeroes: true,
			Native:    bdev.SetOf(bdev.Read, bdev.Write, bdev.Flush, bdev.Unmap, bdev.WriteZeroes),
			NativeFUA: bdev.SetOf(bdev.Read, bdev.Write, bdev.Unmap, bdev.WriteZeroes),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("creating %s: %w", cfg.Name, err)
	}
	return d, nil
}

// DiskOf gives the disk under a device that New or Open made.
func DiskOf(d *bdev.Device) *Disk { return d.Driver().(*Disk) }

// Medium is the disk itself, for faults, images and counters. In a world that runs by itself (reactors with threads) Locked is
// the way to it.
func (d *Disk) Medium() *sim.Disk { return d.medium }

// Locked runs f while no reactor uses the disk.
func (d *Disk) Locked(f func(m *sim.Disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(d.medium)
}

// Describe tells nothing more.
func (d *Disk) Describe() any { return nil }

// Close has nothing to release.
func (d *Disk) Close() error { return nil }

// Open makes the queue of one reactor.
func (d *Disk) Open(r *reactor.Reactor) (bdev.Queue, error) { return &queue{d: d, r: r}, nil }

// queue is a reactor's way to the disk.
type queue struct {
	d      *Disk
	r      *reactor.Reactor
	flying []*flight
	spare  []*flight
}

// flight is a request at the disk.
type flight struct {
	c     *queue
	q     *bdev.Request
	op    sim.Op
	timer reactor.Timer
	turn  int // how many requests have had this place
}

var kinds = map[bdev.Kind]sim.Kind{
	bdev.Read: sim.Read, bdev.Write: sim.Write, bdev.Flush: sim.Flush, bdev.Unmap: sim.Unmap, bdev.WriteZeroes: sim.Zeroes,
}

// Submit gives a request to the disk, and a timer to itself.
func (c *queue) Submit(q *bdev.Request) {
	f := &flight{c: c}
	if n := len(c.spare); n > 0 {
		f = c.spare[n-1]
		c.spare = c.spare[:n-1]
	}
	f.q = q
	f.op.Kind, f.op.FUA, f.op.LBA, f.op.Blocks, f.op.Data, f.op.Owner = kinds[q.Kind], q.FUA, q.LBA, q.Blocks, q.Data, f
	c.flying = append(c.flying, f)
	c.d.mu.Lock()
	delay := c.d.medium.Submit(int64(c.r.Now()), &f.op)
	c.d.mu.Unlock()
	if delay != sim.Never {
		c.r.SetTimer(&f.timer, c.r.Now()+reactor.Ticks(delay), f)
	}
}

// Run is the timer: the request has taken its time.
func (f *flight) Run() {
	c, q := f.c, f.q
	c.d.mu.Lock()
	result := c.d.medium.Complete(int64(c.r.Now()), &f.op)
	c.d.mu.Unlock()
	c.land(f)
	if result != sim.OK {
		q.Complete(bdev.StatusIO)
		return
	}
	q.Complete(bdev.StatusOK)
}

// Unstuck lets a request go on that was stuck. It may be called anywhere.
func (f *flight) Unstuck(_ *sim.Op, delay int64) {
	turn := f.turn
	_ = f.c.r.Go(func() {
		if f.turn == turn { // it was not aborted meanwhile
			f.c.r.SetTimer(&f.timer, f.c.r.Now()+reactor.Ticks(delay), f)
		}
	})
}

func (c *queue) land(f *flight) {
	for i, o := range c.flying {
		if o == f {
			c.flying = append(c.flying[:i], c.flying[i+1:]...)
			break
		}
	}
	f.turn++
	f.q, f.op.Data = nil, nil
	c.spare = append(c.spare, f)
}

// Abort ends a request early: of a write nothing remains.
func (c *queue) Abort(q *bdev.Request) bool {
	for _, f := range c.flying {
		if f.q == q {
			c.r.StopTimer(&f.timer)
			c.d.mu.Lock()
			c.d.medium.Drop(int64(c.r.Now()), &f.op)
			c.d.mu.Unlock()
			c.land(f)
			q.CompleteLater(bdev.StatusAborted)
			return true
		}
	}
	return false
}

// Close is called when nothing is in flight.
func (c *queue) Close() {}
