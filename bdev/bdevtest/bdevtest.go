// Package bdevtest is the contract of package bdev as tests: every kind of device, alone and stacked, passes the same rules.
//
// The model: a Subject makes a device; a Rule uses it through its channels, as the protocols would, and says what it should
// not have done. Each rule gets a fresh device in a fresh registry. What no request may ever do (complete inside Submit,
// twice, on another reactor, with other fields than it came with) is watched at every request of every rule.
//
// Units: as in package bdev.
package bdevtest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
)

// T is the part of *testing.T that rules use, so that the suite itself can be tested.
type T interface {
	rapid.TB
	TempDir() string
	Cleanup(func())
}

// Subject is a kind of device to be tested.
type Subject struct {
	Name string
	// Make registers the device under test, of Bytes bytes, and what it stands on.
	Make func(t T, g *bdev.Registry, blockSize uint32) *bdev.Device
	// Forgets is true of devices that do not keep what is written.
	Forgets bool
	// Resize changes the size of the medium and lets the device take it over; nil if it cannot.
	Resize func(d *bdev.Device, blocks uint64) error
	// Crash takes the power away and gives it back: what was not durable is lost; nil if that cannot be done.
	Crash func(d *bdev.Device)
	// Allocates is true of devices that serve tests alone, and copy what is written.
	Allocates bool
	// BlockSizes are those to test with; nil for 512 and 4096.
	BlockSizes []uint32
}

// Bytes is the size of the devices under test.
const Bytes = 4 << 20

// Rule is one rule of the contract.
type Rule struct {
	Name string
	Test func(e *Env)
	data bool // it needs a device that keeps what is written
	heap bool // it needs one that does not allocate
}

// Rules lists them all.
func Rules() []Rule {
	var all []Rule
	for _, r := range [][]Rule{shapeRules, dataRules, durableRules, swapRules, endRules, loadRules, modelRules} {
		all = append(all, r...)
	}
	return all
}

// Run tests s by all rules, on one reactor and across several. Every kind of device meets each number of reactors and each size of
// blocks, but of their combinations only every second: kinds whose names differ in evenness meet the others, so that all pairs
// are met by some kind. Under the race detector it is four reactors, and one or two.
func Run(t *testing.T, s Subject) {
	t.Helper()
	for i, reactors := range []int{1, 2, 4} {
		if sim.Raced && i == len(s.Name)%2 {
			continue
		}
		t.Run(fmt.Sprintf("%d reactors", reactors), func(t *testing.T) {
			g := Start(t, reactors)
			sizes := s.Sizes()
			size := sizes[(i+len(s.Name))%len(sizes)]
			t.Run(fmt.Sprint(size), func(t *testing.T) {
				for _, r := range Rules() {
					if s.Has(r) {
						t.Run(r.Name, func(t *testing.T) { r.Test(NewEnv(t, g, s, size)) })
					}
				}
			})
		})
	}
}

// Sizes are the block sizes to test with.
func (s *Subject) Sizes() []uint32 {
	if s.BlockSizes != nil {
		return s.BlockSizes
	}
	return []uint32{512, 4096}
}

// Has reports whether the rule is one for this kind of device.
func (s *Subject) Has(r Rule) bool { return !(r.data && s.Forgets || r.heap && s.Allocates) }

// Start starts n reactors that are not pinned, and ends them with the test. One alone spins as it would by itself. Several sleep at
// once when they have nothing to do: where there are fewer cores, one that spins takes the core from the one it waits for.
func Start(t T, n int) *reactor.Group {
	t.Helper()
	cores := make([]int, n)
	for i := range cores {
		cores[i] = -1
	}
	idle := reactor.Adaptive
	if n > 1 {
		idle = reactor.Interrupt
	}
	g, err := reactor.Start(reactor.Config{Cores: cores, MemoryBytes: 16 << 20, Idle: idle})
	if err != nil {
		t.Fatalf("starting %d reactors: %v", n, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := g.Stop(ctx); err != nil {
			t.Errorf("stopping: %v", err)
		}
	})
	return g
}

// Env is a device under test.
type Env struct {
	T
	Subject  Subject
	Group    *reactor.Group
	Registry *bdev.Registry
	Device   *bdev.Device
	Handle   *bdev.Handle
	Channels []*bdev.Channel // by reactor
	G        bdev.Geometry

	// Patience is how long a request may take before it is held to be lost. It decides nothing else.
	Patience time.Duration

	mu     sync.Mutex
	events []bdev.Event
	used   []int // bytes of each reactor's memory before
}

// NewEnv makes a device and opens it on every reactor; both end with the test.
func NewEnv(t T, g *reactor.Group, s Subject, blockSize uint32) *Env {
	t.Helper()
	e := &Env{T: t, Subject: s, Group: g, Registry: bdev.NewRegistry(g), Patience: time.Minute}
	_ = g.Each(func(r *reactor.Reactor) { e.used = append(e.used, r.Memory().Stats().InUse) })
	e.Device = s.Make(t, e.Registry, blockSize)
	var err error
	e.Handle, err = e.Registry.Open(e.Device.Name(), bdev.OpenOptions{Who: "bdevtest", Event: e.event})
	if err != nil {
		t.Fatalf("%v", err)
	}
	if e.Channels, err = e.Handle.Channels(); err != nil {
		t.Fatalf("%v", err)
	}
	e.G = e.Device.Geometry()
	t.Cleanup(e.close)
	return e
}

func (e *Env) event(v bdev.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events = append(e.events, v)
}

// Events lists what the opener of the device was told.
func (e *Env) Events() []bdev.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]bdev.Event(nil), e.events...)
}

// close removes the device and all below it, the top first, and looks for what is left.
func (e *Env) close() {
	if e.Failed() {
		return // what is lost would only be waited for
	}
	if e.Handle != nil {
		bdev.CloseChannels(e.Channels)
		e.Handle.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), e.Patience)
	defer cancel()
	for _, d := range TopDown(e.Registry) {
		if err := e.Registry.Unregister(ctx, d.Name()); err != nil {
			e.Errorf("%v", err)
		}
	}
	for i, r := range e.Group.Reactors() {
		_ = r.Call(func() {
			if n := r.Memory().Stats().InUse; n != e.used[i] {
				e.Errorf("reactor %d: %d bytes of buffers in use, %d before", i, n, e.used[i])
			}
		})
	}
}

// TopDown lists the devices of a registry so that none comes before one that stands on it.
func TopDown(g *bdev.Registry) []*bdev.Device {
	var out []*bdev.Device
	for layer := 16; layer >= 0; layer-- {
		for _, d := range g.Devices() {
			if d.Layers() == layer {
				out = append(out, d)
			}
		}
	}
	return out
}

// Shift is the logarithm of the block size.
func (e *Env) Shift() uint { return e.G.Shift() }

// Block gives n blocks of memory filled by seed.
func (e *Env) Block(seed, n uint64) []byte {
	b := make([]byte, n<<e.Shift())
	Fill(b, seed)
	return b
}

// Fill fills b with bytes that differ from place to place and from seed to seed. It makes them on the stack and copies them: the
// race detector looks at each store to b.
func Fill(b []byte, seed uint64) {
	x := seed*0x9e3779b97f4a7c15 + 0x1234567
	var words [64]uint64
	for len(b) > 0 {
		for i := range words {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			words[i] = x
		}
		b = b[copy(b, unsafe.Slice((*byte)(unsafe.Pointer(&words)), unsafe.Sizeof(words))):]
	}
}
