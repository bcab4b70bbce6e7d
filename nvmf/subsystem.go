package nvmf

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/reservation"
	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is a subsystem: what is configured, and what each reactor knows of it.
//
// The configuration belongs to control goroutines, under the target's lock. Each change makes a new subsystemView, which is
// never altered again, and gives it to every reactor in turn; a change is complete when all have it. What lives on a
// reactor, queues and namespaces in use, is its subsystemShare.

// ParseANAState reads the name of a state that an administrator may set.
func ParseANAState(s string) (ANAState, error) {
	for _, k := range []ANAState{ANAOptimized, ANANonOptimized, ANAInaccessible} {
		if k.String() == s {
			return k, nil
		}
	}
	return 0, fmt.Errorf("no ANA state %q: choose optimized, non_optimized or inaccessible", s)
}

// SubsystemOptions describe a subsystem at its creation.
type SubsystemOptions struct {
	NQN           string
	Serial, Model string
	MaxNamespaces uint32
	AllowAnyHost  bool
	ANA           bool
	MinCNTLID     CNTLID
	MaxCNTLID     CNTLID
	NSSR          bool
	DMRSL         uint64 // blocks of one range of a Dataset Management; 0 is no limit
	WZSL          uint8  // Write Zeroes, as a power of two of 4096 bytes; 0 is no limit
}

// zeroesMax is the most bytes of one Write Zeroes.
func (o *SubsystemOptions) zeroesMax() uint64 {
	if o.WZSL == 0 || o.WZSL > 50 {
		return 1 << 62
	}
	return 4096 << o.WZSL
}

// Subsystem is an NVM subsystem, or the discovery service.
type Subsystem struct {
	target    *Target
	o         SubsystemOptions
	discovery bool
	owner     int // index of the reactor that owns its controllers

	// Under the target's lock.
	namespaces []*Namespace // by NSID-1
	hosts      map[string]*host
	anyHost    bool
	listeners  []*Listener
	deleting   bool // nothing is added any more
	deleted    bool
	anaChanges uint64
}

// host is a host that may connect.
type host struct {
	NQN          string
	keys         HostKeys
	authFailures *atomic.Uint64 // counted on any reactor, and the same in every view
}

// HostKeys are the secrets of a host and of the subsystem towards it, and what they are called where they are kept.
type HostKeys struct {
	Host, Ctrl         *AuthKey // nil: the host need not authenticate, or cannot ask the subsystem to. Ctrl needs Host
	HostName, CtrlName string
}

// hostIdentity is a host as it named itself at Connect.
type hostIdentity struct {
	nqn string
	id  [16]byte
}

// subsystemView is a subsystem's configuration at one time. It is never altered.
type subsystemView struct {
	sub           *Subsystem
	namespaces    []namespaceView // by NSID-1
	hosts         map[string]*host
	anyHost       bool
	listeners     []listenerView
	dupRestricted bool   // one controller for a host by a listener
	changes       uint64 // of ANA, for the log page's change count
}

type namespaceView struct {
	ns     *Namespace // nil: none
	group  uint32
	hidden bool
	hosts  map[string]bool

	protection   WriteProtection
	reservations *reservation.State
}

type listenerView struct {
	l   *Listener
	ana []ANAState
}

// listenerOn finds the subsystem's listener on a portal; the discovery service is on all of them.
func (v *subsystemView) listenerOn(p *portal) *listenerView {
	for i := range v.listeners {
		if v.listeners[i].l.port == p {
			return &v.listeners[i]
		}
	}
	if v.sub.discovery {
		return &listenerView{l: &Listener{Address: p.address, port: p}}
	}
	return nil
}

// allows tells whether a host may connect.
func (v *subsystemView) allows(nqn string) bool {
	return v.hosts[nqn] != nil || v.anyHost || v.sub.discovery
}

// namespaceShare is a namespace on one reactor.
type namespaceShare struct {
	ns       *Namespace
	ch       *bdev.Channel
	inFlight int
	removed  bool
	idle     func() // hears once that inFlight fell to 0 after removal
}

func (n *namespaceShare) enter() { n.inFlight++ }

func (n *namespaceShare) leave(Status) {
	n.inFlight--
	invariant.Check(n.inFlight >= 0, "nvmf: namespace left more often than entered")
	if n.inFlight == 0 && n.idle != nil {
		n.idle()
		n.idle = nil
	}
}

// whenLeft runs idle when the last command on a namespace has ended that is in no view any more: at once, if none is in flight.
func (s *subsystemShare) whenLeft(n *Namespace, idle func()) {
	i := slices.IndexFunc(s.leaving, func(l *namespaceShare) bool { return l.ns == n })
	if i < 0 {
		idle()
		return
	}
	l := s.leaving[i]
	s.leaving = slices.Delete(s.leaving, i, i+1)
	if l.inFlight == 0 {
		idle()
		return
	}
	l.idle = idle
}

// subsystemShare is a subsystem on one reactor.
type subsystemShare struct {
	pg   *pollGroup
	sub  *Subsystem
	view *subsystemView
	ns   []*namespaceShare // by NSID-1

	leaving []*namespaceShare // removed with commands in flight; Target.withdraw takes them out

	queues []*queue // attached, on this reactor

	// On the owning reactor only.
	controllers map[CNTLID]*controller
	nextCNTLID  CNTLID
}

// install takes over a new view on this reactor, and tells the hosts of what they see otherwise than before.
func (s *subsystemShare) install(v *subsystemView) {
	s.view = v
	for len(s.ns) < len(v.namespaces) {
		s.ns = append(s.ns, nil)
	}
	for i := range s.ns {
		var want *Namespace
		if i < len(v.namespaces) {
			want = v.namespaces[i].ns
		}
		have := s.ns[i]
		if have != nil && have.ns == want || have == nil && want == nil {
			continue
		}
		if have != nil {
			have.removed = true
			if have.inFlight > 0 {
				s.leaving = append(s.leaving, have)
			}
			s.ns[i] = nil
		}
		if want != nil {
			s.ns[i] = &namespaceShare{ns: want, ch: want.channels[s.pg.r.Index()]}
		}
	}
	for _, q := range slices.Clone(s.queues) {
		changed, ana := s.resolve(q)
		if q.ctrl == nil {
			continue
		}
		q.ctrl.reconfigured(changed)
		if ana && s.sub.o.ANA {
			q.ctrl.events.raise(q.ctrl, eventANA)
		}
	}
}

// attach lets a queue of a host see the subsystem.
func (s *subsystemShare) attach(q *queue, host *hostIdentity, p *portal) {
	q.sub, q.host, q.port = s, host, p
	s.queues = append(s.queues, q)
	s.resolve(q)
}

func (s *subsystemShare) detach(q *queue) {
	if i := slices.Index(s.queues, q); i >= 0 {
		s.queues = slices.Delete(s.queues, i, i+1)
	}
}

// resolve works out what a queue's host sees, so that a command need only look at one place. It tells which namespaces came,
// went or are others than before, and whether one is in another ANA group or state. Base Specification 2.0, "Asymmetric
// Namespace Access Change": entering the change state is no event.
func (s *subsystemShare) resolve(q *queue) (changed []NSID, ana bool) {
	l := s.view.listenerOn(q.port)
	for len(q.ns) < len(s.view.namespaces) {
		q.ns = append(q.ns, queueNamespace{})
	}
	for i := range q.ns {
		var now queueNamespace
		if i < len(s.view.namespaces) {
			if v := &s.view.namespaces[i]; v.visible(q.host.nqn) {
				now = queueNamespace{ns: s.ns[i], ana: l.state(v.group), group: v.group, protected: v.protection != WriteProtectNone}
				now.denyRead, now.denyWrite = v.reservations.Deny(reservation.Host(q.host.id))
			}
		}
		was := q.ns[i]
		q.ns[i] = now
		if was.ns != now.ns || was.protected != now.protected {
			changed = append(changed, NSID(i+1))
		}
		if was.ns != now.ns {
			continue
		}
		if was.group != now.group || was.ana != now.ana && now.ana != ANAChange {
			ana = true
		}
	}
	return changed, ana
}

func (v *namespaceView) visible(host string) bool {
	return v.ns != nil && (!v.hidden || v.hosts[host])
}

// state is the access that the listener gives to an ANA group; a listener that is gone gives none.
func (l *listenerView) state(group uint32) ANAState {
	switch {
	case l == nil:
		return ANAInaccessible
	case int(group) < len(l.ana) && l.ana[group] != 0:
		return l.ana[group]
	}
	return ANAOptimized
}

// sortedControllers lists them in the order of their identifiers, so that what happens does not depend on a map.
func (s *subsystemShare) sortedControllers() []*controller {
	out := make([]*controller, 0, len(s.controllers))
	for _, k := range s.controllers {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b *controller) int { return int(a.id) - int(b.id) })
	return out
}

// newIDs makes the identifiers of a namespace that was given none: they come from the device's UUID, so that they are the same
// on every node that serves it.
func newIDs(ns *Namespace, device uuid.UUID) {
	if ns.UUID == uuid.Nil {
		ns.UUID = device
	}
	if ns.UUID == uuid.Nil {
		_, _ = rand.Read(ns.UUID[:])
	}
	if ns.NGUID == [16]byte{} {
		ns.NGUID = ns.UUID
	}
}

// Address is where a transport listens.
type Address struct {
	TRType  string // TCP, RDMA
	AdrFam  string // IPv4, IPv6
	TrAddr  string
	TrSvcID string
}

// String gives the address for messages.
func (a Address) String() string {
	return strings.ToLower(a.TRType) + "://" + a.TrAddr + ":" + a.TrSvcID
}

func (a Address) trtype() TRTYPE {
	if a.TRType == "RDMA" {
		return TransportRDMA
	}
	return TransportTCP
}

func (a Address) adrfam() ADRFAM {
	if a.AdrFam == "IPv6" {
		return AddressIPv6
	}
	return AddressIPv4
}
