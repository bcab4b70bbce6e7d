package nvmf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// Errors of the control path, with which callers decide.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("exists already")
	ErrInvalid  = errors.New("invalid")
	ErrInUse    = errors.New("in use")
)

// Version is the revision of the Base Specification that controllers report: 2.0, as Property VS encodes it.
const Version = 2 << 16

// Target is the NVMe-oF target of an engine. Its methods are called on control goroutines.
type Target struct {
	group    *reactor.Group
	registry *bdev.Registry
	log      *slog.Logger
	groups   []*pollGroup
	stopping atomic.Bool
	draining atomic.Bool // changes under mu
	drains   sync.Mutex  // one at a time
	traced   atomic.Bool // there is a Tracing

	mu         sync.Mutex // the configuration; never held while a reactor is waited for that might want it
	transports map[string]*TransportOptions
	rdma       rdmaCards
	subsystems []*Subsystem
	portals    []*portal
	holding    atomic.Bool // listeners take no connection: Hold; changes under mu
	nextPortal uint16
	nextOwner  int
	generation uint64 // of the discovery log page
	referrals  []Referral
	subsMax    int
	crdt       [3]uint16 // Command Retry Delay Times, in 100 ms
	filter     DiscoveryFilter
	dup        bool // a host has one controller of a subsystem by a listener at most

	discoveryNQN string // of this engine's discovery service alone; the well-known one leads to it too

	publishing sync.Mutex // views reach the reactors in the order in which they were made

	placed    []atomic.Int32                  // I/O queues of each reactor, from their Connect on
	loads     atomic.Pointer[[]reactorSample] // of the reactors, as they were looked at last; nil before
	departed  atomic.Uint64                   // queues that left a reactor for another
	arrived   atomic.Uint64                   // and those of them that came to one
	authRules atomic.Pointer[AuthRules]       // never nil
	authPool  authPool
	watch     watch
}

// NewTarget makes a target without transports or subsystems, but for the discovery service.
func NewTarget(reg *bdev.Registry, log *slog.Logger) (*Target, error) {
	t := &Target{group: reg.Group(), registry: reg, log: log, subsMax: subsystemsMax, discoveryNQN: NQNUUIDPrefix + uuid.NewString(), transports: map[string]*TransportOptions{}}
	t.authRules.Store(&AuthRules{})
	t.placed = make([]atomic.Int32, t.group.Len())
	t.authPool.init(authWorkers(runtime.GOMAXPROCS(0), t.group.Len()))
	for _, r := range t.group.Reactors() {
		pg := &pollGroup{target: t, r: r, shares: map[*Subsystem]*subsystemShare{}, byNQN: map[string]*subsystemShare{}}
		pg.lender = reactor.Lender{Every: patience.wanted, Look: (*wanted)(pg)}
		t.groups = append(t.groups, pg)
	}
	s := &Subsystem{target: t, discovery: true, anyHost: true, hosts: map[string]*host{}, o: SubsystemOptions{NQN: DiscoveryNQN, Model: model, Serial: "pollux", MinCNTLID: 1, MaxCNTLID: CNTLIDMax}}
	t.subsystems = append(t.subsystems, s)
	return t, t.publish(s, true)
}

// view makes the subsystem's view of now. The lock is held.
func (s *Subsystem) viewNow() *subsystemView {
	v := &subsystemView{sub: s, hosts: map[string]*host{}, anyHost: s.anyHost, dupRestricted: s.target.dup && !s.discovery, changes: s.anaChanges}
	for _, n := range s.namespaces {
		nv := namespaceView{ns: n}
		if n != nil {
			nv.group, nv.hidden, nv.hosts, nv.protection, nv.reservations = n.group, n.hidden, map[string]bool{}, n.protection, n.reservations
			for h := range n.hosts {
				nv.hosts[h] = true
			}
		}
		v.namespaces = append(v.namespaces, nv)
	}
	for n, h := range s.hosts {
		c := *h
		v.hosts[n] = &c
	}
	for _, l := range s.listeners {
		ana := slices.Clone(l.ana)
		if s.o.ANA && s.target.draining.Load() {
			for i := range ana {
				ana[i] = ANAInaccessible
			}
		}
		v.listeners = append(v.listeners, listenerView{l, ana})
	}
	return v
}

// publish gives every reactor the subsystem as it is now, and returns when all have it. discoverable says that what the
// discovery service shows has changed. The lock is not held.
func (t *Target) publish(s *Subsystem, discoverable bool) error {
	t.publishing.Lock()
	defer t.publishing.Unlock()
	t.mu.Lock()
	var v *subsystemView
	if !s.deleted {
		v = s.viewNow()
	}
	if discoverable {
		t.generation++
	}
	d := &discoveryView{generation: t.generation, referrals: slices.Clone(t.referrals), crdt: t.crdt, filter: t.filter}
	for _, o := range t.subsystems {
		d.subsystems = append(d.subsystems, o.viewNow())
	}
	t.mu.Unlock()
	return t.group.Each(func(r *reactor.Reactor) {
		pg := t.groups[r.Index()]
		pg.install(s, v)
		pg.discovery = d
		if discoverable {
			pg.discoveryChanged()
		}
	})
}

// find looks a subsystem up. The lock is held.
func (t *Target) find(nqn string) (*Subsystem, error) {
	if nqn == "discovery" || nqn == t.discoveryNQN {
		nqn = DiscoveryNQN
	}
	for _, s := range t.subsystems {
		if s.o.NQN == nqn {
			return s, nil
		}
	}
	return nil, fmt.Errorf("subsystem %q: %w", nqn, ErrNotFound)
}

const model = "Pollux"

const subsystemsMax = 1024

// namespacesMax bounds the namespaces of a subsystem, for which every listener and every queue has room.
const namespacesMax = 1 << 16

// checkANA refuses more namespaces than an ANA page can show in one transfer: Linux then does without ANA (16 + 32×NANAGRPID +
// 4×MNAN is to fit MDTS).
func (o *SubsystemOptions) checkANA(mostBytes uint32) error {
	if n := int(o.MaxNamespaces); o.ANA && ANALogBytes(n, n) > int(mostBytes) {
		return fmt.Errorf("subsystem %s: max_namespaces %d with ana_reporting: %w: their ANA page has %d bytes, and a transfer at most %d (max_io_size)", o.NQN, n, ErrInvalid, ANALogBytes(n, n), mostBytes)
	}
	return nil
}

// CreateSubsystem makes a subsystem without namespaces, hosts or listeners.
func (t *Target) CreateSubsystem(o SubsystemOptions) error {
	if err := CheckNQN(o.NQN); err != nil {
		return fmt.Errorf("creating subsystem %q: %w: %w", o.NQN, ErrInvalid, err)
	}
	if o.Serial == "" {
		o.Serial = "00000000000000000000"
	}
	if o.Model == "" {
		o.Model = model
	}
	if o.MaxNamespaces == 0 {
		o.MaxNamespaces = 32
	}
	if o.MinCNTLID == 0 {
		o.MinCNTLID = 1
	}
	if o.MaxCNTLID == 0 {
		o.MaxCNTLID = CNTLIDMax
	}
	for _, f := range []struct {
		name, v string
		most    int
	}{{"serial_number", o.Serial, 20}, {"model_number", o.Model, 40}} {
		if len(f.v) > f.most || strings.ContainsFunc(f.v, func(c rune) bool { return c < ' ' || c > '~' }) {
			return fmt.Errorf("creating subsystem %s: %s %q: %w: at most %d printable ASCII characters", o.NQN, f.name, f.v, ErrInvalid, f.most)
		}
	}
	if o.MinCNTLID < 1 || o.MaxCNTLID > CNTLIDMax || o.MinCNTLID > o.MaxCNTLID {
		return fmt.Errorf("creating subsystem %s: controller ids %d to %d: %w: a range inside 1 to %d", o.NQN, o.MinCNTLID, o.MaxCNTLID, ErrInvalid, CNTLIDMax)
	}
	if o.MaxNamespaces > namespacesMax {
		return fmt.Errorf("creating subsystem %s: max_namespaces %d: %w: 1 to %d", o.NQN, o.MaxNamespaces, ErrInvalid, namespacesMax)
	}
	t.mu.Lock()
	if err := o.checkANA(t.leastIOBytes()); err != nil {
		t.mu.Unlock()
		return fmt.Errorf("creating subsystem %s: %w", o.NQN, err)
	}
	if _, err := t.find(o.NQN); err == nil {
		t.mu.Unlock()
		return fmt.Errorf("creating subsystem %s: it %w", o.NQN, ErrExists)
	}
	if len(t.subsystems) > t.subsMax { // the discovery service is not counted
		t.mu.Unlock()
		return fmt.Errorf("creating subsystem %s: %w: there are %d already (nvmf_set_max_subsystems)", o.NQN, ErrInvalid, t.subsMax)
	}
	s := &Subsystem{target: t, o: o, owner: t.nextOwner % t.group.Len(), anyHost: o.AllowAnyHost, hosts: map[string]*host{}}
	t.nextOwner++
	t.subsystems = append(t.subsystems, s)
	t.mu.Unlock()
	return t.publish(s, true)
}

// DeleteSubsystem ends a subsystem: its listeners first, then its controllers, then its namespaces.
func (t *Target) DeleteSubsystem(ctx context.Context, nqn string) error {
	t.mu.Lock()
	s, err := t.find(nqn)
	if err != nil || s.discovery {
		t.mu.Unlock()
		return errors.Join(fmt.Errorf("deleting subsystem %q", nqn), err)
	}
	if s.deleting {
		t.mu.Unlock()
		return fmt.Errorf("deleting subsystem %s: that is going on already: %w", nqn, ErrInUse)
	}
	s.deleting = true // nothing is added from here on
	listeners := slices.Clone(s.listeners)
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		s.deleting = false
		t.mu.Unlock()
	}()
	for _, l := range listeners {
		if err := t.RemoveListener(ctx, nqn, l.Address); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	if err := t.closeControllers(ctx, s, func(*controller) bool { return true }); err != nil {
		return fmt.Errorf("deleting subsystem %s: %w", nqn, err)
	}
	t.mu.Lock()
	namespaces := slices.Clone(s.namespaces)
	t.mu.Unlock()
	for _, n := range namespaces {
		if n != nil {
			if err := t.RemoveNamespace(ctx, nqn, n.NSID); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
	}
	t.mu.Lock()
	s.deleted = true
	t.subsystems = slices.DeleteFunc(t.subsystems, func(o *Subsystem) bool { return o == s })
	t.mu.Unlock()
	return t.publish(s, true)
}

// closeControllers closes the controllers that match and waits until they are gone.
func (t *Target) closeControllers(ctx context.Context, s *Subsystem, match func(*controller) bool) error {
	owner := t.group.Reactor(s.owner)
	gone := make(chan struct{})
	err := owner.Call(func() {
		left := 0
		share := t.groups[s.owner].shares[s]
		if share == nil { // deleted meanwhile, and its controllers before it
			close(gone)
			return
		}
		for _, k := range share.sortedControllers() {
			if match(k) {
				left++
				k.whenGone = append(k.whenGone, func() {
					if left--; left == 0 {
						close(gone)
					}
				})
				k.close("closed by the administrator")
			}
		}
		if left == 0 {
			close(gone)
		}
	})
	if err != nil {
		return err
	}
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for controllers to close: %w", ctx.Err())
	}
}

// Stop closes every listener and connection, and gives every device back.
func (t *Target) Stop(ctx context.Context) error {
	t.stopping.Store(true)
	t.watch.mu.Lock()
	t.watch.end()
	t.watch.mu.Unlock()
	t.mu.Lock()
	portals, subsystems := t.portals, slices.Clone(t.subsystems)
	t.portals = nil
	t.mu.Unlock()
	for _, p := range portals {
		p.door.close()
	}
	var all error
	ends := make([]chan struct{}, len(t.groups))
	for i, pg := range t.groups {
		closed := make(chan struct{})
		ends[i] = closed
		err := pg.r.Call(func() {
			pg.stopping, pg.stop = true, func() { close(closed) }
			for q := pg.queues; q != nil; q = q.next {
				q.close()
			}
			if pg.count == 0 {
				pg.stop()
				pg.stop = nil
			}
		})
		if err != nil {
			return err
		}
	}
	for i, pg := range t.groups {
		select {
		case <-ends[i]:
		case <-ctx.Done():
			n := 0
			_ = pg.r.Call(func() { n = pg.count })
			if n > 0 {
				all = errors.Join(all, fmt.Errorf("stopping the NVMe-oF target: %d queues on core %d did not close: %w", n, pg.r.Core(), ctx.Err()))
			}
		}
	}
	if all == nil {
		t.authPool.wait()
		all = t.stopRDMA(ctx)
	}
	// Each by itself: one whose device does not answer keeps no other.
	var wait sync.WaitGroup
	var mu sync.Mutex
	for _, s := range subsystems {
		t.mu.Lock()
		namespaces := s.namespaces
		s.namespaces = nil
		t.mu.Unlock()
		for _, n := range namespaces {
			if n == nil {
				continue
			}
			wait.Go(func() {
				if err := t.withdraw(ctx, s, n); err != nil {
					mu.Lock()
					all = errors.Join(all, err)
					mu.Unlock()
				}
			})
		}
	}
	wait.Wait()
	return all
}
