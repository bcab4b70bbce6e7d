package reactor_test

import (
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/reactor/ring"
)

// card is a source of work as cards of a network are: it is polled, and tells of work by a descriptor only if it was asked to, once.
type card struct {
	t     *testing.T
	r     *reactor.Reactor
	fd    int
	op    reactor.Op
	work  atomic.Int64 // there to be taken
	armed atomic.Bool
	taken atomic.Int64
	arms  atomic.Int64

	atArm func() // after it was asked to tell, before it is looked at once more
}

func newCard(t *testing.T, r *reactor.Reactor) *card {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	c := &card{t: t, r: r, fd: fd}
	on(t, r, func() {
		if err := r.AddPoller("card", c, reactor.Wake{Arm: c.arm}); err != nil {
			t.Error(err)
		}
		r.Bind(&c.op, c)
		ring.PrepPollMultishot(r.Start(&c.op), fd, unix.POLLIN)
	})
	t.Cleanup(func() {
		on(t, r, func() {
			r.RemovePoller(c)
			r.Cancel(&c.op)
		})
		for c.op.Bound() {
			on(t, r, func() {
				if !c.op.InFlight() {
					r.Unbind(&c.op)
				}
			})
		}
		_ = unix.Close(fd)
	})
	return c
}

// give is the other side: work comes, and is told of if that was asked for.
func (c *card) give() {
	c.work.Add(1)
	if c.armed.Swap(false) {
		if _, err := unix.Write(c.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
			c.t.Error(err)
		}
	}
}

func (c *card) Poll(reactor.Ticks) int {
	n := c.work.Swap(0)
	c.taken.Add(n)
	return int(n)
}

func (c *card) arm() bool {
	c.arms.Add(1)
	c.armed.Store(true)
	if c.atArm != nil {
		c.atArm()
	}
	return c.Poll(0) > 0
}

func (c *card) OpDone(*reactor.Op, int32, uint32) {
	var b [8]byte
	_, _ = unix.Read(c.fd, b[:])
}

func TestASourceThatIsArmedNeverLosesAWakeUp(t *testing.T) {
	for _, p := range []reactor.Idle{reactor.Adaptive, reactor.Interrupt} {
		t.Run(p.String(), func(t *testing.T) {
			r := start(t, reactor.Config{Idle: p, Spin: reactor.Microsecond}).Reactor(0)
			c := newCard(t, r)
			for i := range int64(2000) { // who waits for each falls into every gap there is
				c.give()
				for c.taken.Load() == i {
				}
			}
			awaitSleep(r)
			c.give()
			for c.taken.Load() == 2000 {
			}
		})
	}
}

func TestWorkBetweenTheLastLookAndTheSleepIsFound(t *testing.T) {
	r := start(t, reactor.Config{Idle: reactor.Interrupt}).Reactor(0)
	c := newCard(t, r)
	var before, after uint64
	on(t, r, func() {
		before = r.Stats().Sleeps
		left := 100
		c.atArm = func() {
			if left > 0 {
				left--
				c.work.Add(1) // as if it had come before it was asked to tell
			}
		}
	})
	for c.taken.Load() < 100 {
	}
	on(t, r, func() { c.atArm = nil; after = r.Stats().Sleeps })
	if after-before > 1 { // one may have begun before
		t.Errorf("it slept %d times with work there", after-before)
	}
}

func TestPollingNeverArms(t *testing.T) {
	r := start(t, reactor.Config{Idle: reactor.Poll}).Reactor(0)
	c := newCard(t, r)
	for i := range int64(200) {
		c.give()
		for c.taken.Load() == i {
		}
	}
	if n := c.arms.Load(); n != 0 {
		t.Errorf("it armed %d times", n)
	}
}

func TestAnArmedSourceThatIsIdleCostsNothing(t *testing.T) {
	r := start(t, reactor.Config{Idle: reactor.Interrupt}).Reactor(0)
	c := newCard(t, r)
	awaitSleep(r)
	var first, last uint64
	on(t, r, func() { first = r.Stats().Ticks })
	arms := c.arms.Load()
	for range 10 {
		awaitSleep(r)
		on(t, r, func() {})
	}
	on(t, r, func() { last = r.Stats().Ticks })
	// Each call wakes it: a turn for the wake-up, one that finds nothing and sleeps again.
	if n := last - first; n > 60 {
		t.Errorf("%d turns for 11 wake-ups", n)
	}
	if n := c.arms.Load() - arms; n > 40 {
		t.Errorf("it armed %d times for 11 wake-ups", n)
	}
}
