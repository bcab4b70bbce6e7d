package reactor

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor/ring"
)

// Config says how a group of reactors is set up. The zero value of a field is its default.
type Config struct {
	Cores       []int // one reactor a core; nil: DefaultCores; -1 is a reactor that is not pinned
	Idle        Idle
	Spin        Ticks // how long adaptive spins after the last work; default 200 µs
	MemoryBytes int   // limit of each reactor's buffers; default 256 MiB
	RingEntries uint32
	RingSetup   []ring.SetupSet // for tests of older kernels' setups

	workerCores unix.CPUSet
	old         bool // for tests: do without what kernels later than 5.15 brought
	plainMemory bool // for simulated reactors: see backing.plain
}

func (c *Config) chunksMax() int { return (c.MemoryBytes + chunkBytes - 1) / chunkBytes }

// complete sets what was left out.
func (c *Config) complete() {
	if c.Spin == 0 {
		c.Spin = 200 * Microsecond
	}
	if c.MemoryBytes == 0 {
		c.MemoryBytes = 256 << 20
	}
	if c.RingEntries == 0 {
		c.RingEntries = 1024
	}
}

// DefaultCores picks the last of the cores that this process may use, and leaves the others to the kernel and to control
// work. With only one there is nothing to leave.
func DefaultCores() []int {
	cores := allowedCores()
	if len(cores) == 0 {
		return []int{-1}
	}
	return cores[len(cores)-1:]
}

func allowedCores() []int {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return nil
	}
	var cores []int
	for i := 0; i < len(set)*64; i++ {
		if set.IsSet(i) {
			cores = append(cores, i)
		}
	}
	return cores
}

// Group is the reactors of one process.
type Group struct {
	reactors  []*Reactor
	ended     []chan struct{}
	simulated *simulation // nil: they run

	sockets atomic.Pointer[SocketOptions] // nil: all is the kernel's choice
}

// Start starts the reactors, or none.
func Start(cfg Config) (*Group, error) {
	if cfg.Cores == nil {
		cfg.Cores = DefaultCores()
	}
	cfg.complete()
	allowed := allowedCores()
	for i, c := range cfg.Cores {
		if c >= 0 && !slices.Contains(allowed, c) {
			return nil, fmt.Errorf("starting a reactor on core %d: this process may use only cores %v", c, allowed)
		}
		if c >= 0 && slices.Contains(cfg.Cores[:i], c) {
			return nil, fmt.Errorf("starting two reactors on core %d: name each core once", c)
		}
	}
	// The kernel's workers get the cores without a reactor, or all where every core has one.
	for _, c := range allowed {
		if !slices.Contains(cfg.Cores, c) {
			cfg.workerCores.Set(c)
		}
	}
	if cfg.workerCores.Count() == 0 {
		for _, c := range allowed {
			cfg.workerCores.Set(c)
		}
	}

	g := newGroup(&cfg)
	n := g.Len()
	started := make(chan error, n)
	for _, r := range g.reactors {
		go r.run(started)
	}
	var failed error
	for range n {
		if err := <-started; err != nil {
			failed = err
		}
	}
	if failed != nil {
		_ = g.Stop(context.Background())
		return nil, failed
	}
	return g, nil
}

// newGroup makes the reactors, which have not begun, and the ways between them.
func newGroup(cfg *Config) *Group {
	n := len(cfg.Cores)
	g := &Group{}
	for i, core := range cfg.Cores {
		r := &Reactor{index: i, core: core, group: g, cfg: cfg, spin: cfg.Spin, wakeFD: -1, touched: make([]*outbox, 0, n)}
		r.policy.Store(int32(cfg.Idle))
		for range n {
			r.inbox = append(r.inbox, new(messageRing))
		}
		g.reactors = append(g.reactors, r)
		g.ended = append(g.ended, make(chan struct{}))
	}
	for i, r := range g.reactors {
		for _, to := range g.reactors {
			r.outbox = append(r.outbox, outbox{to: to, ring: to.inbox[i]})
		}
	}
	return g
}

// Reactors lists the group's reactors by index.
func (g *Group) Reactors() []*Reactor { return g.reactors }

// Reactor gives the i-th.
func (g *Group) Reactor(i int) *Reactor { return g.reactors[i] }

// Len is their number.
func (g *Group) Len() int { return len(g.reactors) }

// Each runs f on each reactor in turn, and returns when all have. It is not called on a reactor.
func (g *Group) Each(f func(r *Reactor)) error {
	for _, r := range g.reactors {
		if err := r.Call(func() { f(r) }); err != nil {
			return err
		}
	}
	return nil
}

// Settle runs f on each reactor, and, when each has called done, which it may do at once or later, it runs then and returns. If ctx ends before that it
// returns its error, and then is run all the same when all are done. It is not called on a reactor.
func (g *Group) Settle(ctx context.Context, f func(r *Reactor, done func()), then func()) error {
	settled := make(chan struct{}, g.Len())
	if err := g.Each(func(r *Reactor) { f(r, func() { settled <- struct{}{} }) }); err != nil {
		return err
	}
	for left := g.Len(); left > 0; left-- {
		if len(settled) > 0 { // whatever became of ctx
			<-settled
			continue
		}
		select {
		case <-settled:
		case <-ctx.Done():
			go func() {
				for range left {
					<-settled
				}
				then()
			}()
			return ctx.Err()
		}
	}
	then()
	return nil
}

// checkOutside stops a caller that is a reactor from waiting for reactors.
func (g *Group) checkOutside() {
	if g.simulated != nil {
		invariant.Check(!g.simulated.inside, "reactor: a reactor may not wait for itself or another: use Go or Send")
		return
	}
	tid := unix.Gettid()
	for i, r := range g.reactors {
		select {
		case <-g.ended[i]: // its thread's id may be another's by now
		default:
			invariant.Check(r.tid != tid, "reactor: a reactor may not wait for itself or another: use Go or Send")
		}
	}
}

// SetIdle changes the idle policy of all.
func (g *Group) SetIdle(i Idle) {
	for _, r := range g.reactors {
		r.SetIdle(i)
	}
}
