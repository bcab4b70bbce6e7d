package nvmf

import (
	"cmp"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is what the target tells of itself: copies, for RPC and metrics.

// SubsystemInfo describes a subsystem.
type SubsystemInfo struct {
	SubsystemOptions
	Discovery    bool
	AllowAnyHost bool
	Hosts        []Host
	Listeners    []ListenerInfo
	Namespaces   []NamespaceInfo
}

// Host describes a host that may connect, and names its keys.
type Host struct {
	NQN                  string
	KeyName, CtrlKeyName string
	Authenticates        bool   // it has a key
	AuthFailures         uint64 // authentications of its that failed
}

// ListenerInfo describes a listener; ANA has its state for each group, by group from 1.
type ListenerInfo struct {
	Address Address
	ANA     []ANAState
}

// NamespaceInfo describes a namespace.
type NamespaceInfo struct {
	NSID     NSID
	BdevName string
	UUID     uuid.UUID
	NGUID    [16]byte
	EUI64    [8]byte
	PTPLFile string

	ProtectionFile string
	Protection     WriteProtection

	ANAGroup uint32
	Hidden   bool
	Hosts    []string // those that see it, if it is hidden
}

// Subsystems lists all, the discovery service first.
func (t *Target) Subsystems() []SubsystemInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []SubsystemInfo
	for _, s := range t.subsystems {
		i := SubsystemInfo{SubsystemOptions: s.o, Discovery: s.discovery, AllowAnyHost: s.anyHost}
		for _, n := range slices.Sorted(maps.Keys(s.hosts)) {
			h := s.hosts[n]
			i.Hosts = append(i.Hosts, Host{n, h.keys.HostName, h.keys.CtrlName, h.keys.Host != nil, h.authFailures.Load()})
		}
		for _, l := range s.listeners {
			i.Listeners = append(i.Listeners, ListenerInfo{l.Address, slices.Clone(l.ana[1:])})
		}
		for _, n := range s.namespaces {
			if n != nil {
				i.Namespaces = append(i.Namespaces, NamespaceInfo{
					n.NSID, n.BdevName, n.UUID, n.NGUID, n.EUI64, n.PTPLFile, n.ProtectionFile, n.protection, n.group, n.hidden, slices.Sorted(maps.Keys(n.hosts)),
				})
			}
		}
		out = append(out, i)
	}
	return out
}

// ControllerInfo describes a controller.
type ControllerInfo struct {
	CNTLID    CNTLID
	Discovery bool
	HostNQN   string
	HostID    uuid.UUID
	IOQueues  int
}

// QueueInfo describes a queue.
type QueueInfo struct {
	CNTLID        CNTLID
	QID           QID
	State         string
	Reactor       int
	HostNQN       string
	Listener      Address
	Local, Remote string
	Entries, Open uint32
	Auth          *AuthInfo // nil: none
}

// Controllers lists a subsystem's controllers.
func (t *Target) Controllers(nqn string) ([]ControllerInfo, error) {
	t.mu.Lock()
	s, err := t.find(nqn)
	t.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var out []ControllerInfo
	err = t.group.Reactor(s.owner).Call(func() {
		if share := t.groups[s.owner].shares[s]; share != nil {
			for _, k := range share.sortedControllers() {
				out = append(out, ControllerInfo{k.id, k.discovery(), k.host.nqn, k.host.id, len(k.queues)})
			}
		}
	})
	return out, err
}

// Queues lists a subsystem's queues, by controller and queue id.
func (t *Target) Queues(nqn string) ([]QueueInfo, error) {
	t.mu.Lock()
	s, err := t.find(nqn)
	t.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var out []QueueInfo
	for range 10 { // a queue that moves meanwhile could be seen twice, or not at all
		moves := t.departed.Load()
		still := t.arrived.Load() == moves
		if out, err = t.queuesNow(s); err != nil || still && t.departed.Load() == moves {
			break
		}
	}
	return out, err
}

func (t *Target) queuesNow(s *Subsystem) (out []QueueInfo, err error) {
	err = t.group.Each(func(r *reactor.Reactor) {
		share := t.groups[r.Index()].shares[s]
		if share == nil {
			return
		}
		for _, q := range share.queues {
			i := QueueInfo{QID: q.id, State: q.state.String(), Reactor: r.Index(), HostNQN: q.host.nqn, Listener: q.port.address, Entries: q.entries, Open: q.open, Auth: q.authInfo()}
			i.Local, i.Remote = q.t.peer()
			if q.ctrl != nil {
				i.CNTLID = q.ctrl.id
			} else if q.link != nil {
				i.CNTLID = q.link.cntlid
			}
			out = append(out, i)
		}
	})
	slices.SortFunc(out, func(a, b QueueInfo) int {
		return cmp.Or(cmp.Compare(a.CNTLID, b.CNTLID), cmp.Compare(a.QID, b.QID))
	})
	return out, err
}

// GroupStats counts what one reactor's share of the target does.
type GroupStats struct {
	Reactor             int
	AdminQueues         uint64 // made
	IOQueues            uint64
	CurrentAdminQueues  int
	CurrentIOQueues     int
	CurrentUnassociated int
	PendingCommands     int    // came and not answered
	CompletedCommands   uint64 // answered
	ProtocolErrors      uint64 // connections ended for one
	RefusedConnects     uint64
	DeniedHosts         uint64
	AuthFailures        uint64
	MovedIn, MovedOut   uint64 // I/O queues that came from another reactor, and that went to one
}

// Stats gives the counters of every reactor.
func (t *Target) Stats() ([]GroupStats, error) {
	var out []GroupStats
	err := t.group.Each(func(r *reactor.Reactor) {
		pg := t.groups[r.Index()]
		s := GroupStats{
			Reactor: r.Index(), AdminQueues: pg.adminMade, IOQueues: pg.ioMade, CompletedCommands: pg.served,
			ProtocolErrors: pg.faults, RefusedConnects: pg.refused, DeniedHosts: pg.denied, AuthFailures: pg.authFailures, MovedIn: pg.movedIn, MovedOut: pg.movedOut,
		}
		for q := pg.queues; q != nil; q = q.next {
			switch {
			case q.ctrl != nil:
				s.CurrentAdminQueues++
			case q.link != nil:
				s.CurrentIOQueues++
			default:
				s.CurrentUnassociated++
			}
			s.PendingCommands += int(q.open)
			s.CompletedCommands += q.after
		}
		out = append(out, s)
	})
	return out, err
}
