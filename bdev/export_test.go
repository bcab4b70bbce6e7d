package bdev

import (
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/reactor"
)

// SetLockPatience sets how long a test waits for what a dead process holds.
func SetLockPatience(t *testing.T, d time.Duration) {
	was := lockPatience
	t.Cleanup(func() { lockPatience = was })
	lockPatience = d
}

// OnlyDiscard lets unmaps be discards.
func (u *Uring) OnlyDiscard() { u.discard = true }

// NewRefusing makes a device of a file that was found to have poll queues, on a file system that refuses to be polled for at
// run time: each read and write is answered with EOPNOTSUPP at first, as those are that were in flight together.
func NewRefusing(g *Registry, name, path string) (*Device, error) {
	u := &Uring{path: path, polling: true}
	geometry, err := u.open(UringOptions{})
	if err != nil {
		return nil, err
	}
	u.polled.Store(true)
	geometry.NativeFUA = 0
	return g.Register(Config{Name: name, Product: "URING bdev", Driver: &refusing{u}, Geometry: geometry})
}

type refusing struct{ *Uring }

func (u *refusing) Open(r *reactor.Reactor) (Queue, error) {
	q, err := u.Uring.Open(r)
	if err != nil {
		return nil, err
	}
	return &refusingQueue{q.(*uringQueue)}, nil
}

type refusingQueue struct{ *uringQueue }

func (c *refusingQueue) Submit(q *Request) {
	if q.Kind != Read && q.Kind != Write {
		c.uringQueue.Submit(q)
		return
	}
	if len(q.Data) != 1 {
		c.lend(q)
	}
	c.opDone(q, -int32(syscall.EOPNOTSUPP))
}

// NewQoS registers name, which passes on to the device below within limits.
func NewQoS(g *Registry, name, below string, id uuid.UUID, l Limits) (*Device, error) {
	d, err := newPassthru(g, name, below, id, "qos")
	if err != nil {
		return nil, err
	}
	return d, d.SetLimits(l)
}
