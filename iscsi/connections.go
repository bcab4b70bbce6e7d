package iscsi

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is what the target tells of its connections.

// ConnectionInfo describes a connection; what a login agrees on is there when it is over.
type ConnectionInfo struct {
	Params
	ID            int // counts them, as they are listed
	Reactor       int
	Local, Remote netip.AddrPort
	Tag           int // of the portal group by which it came
	LoggingIn     bool
	Stage         Stage // of its login, while it logs in
	Ending        bool
	Open          uint32 // commands that came and are not answered
	Commands      uint64 // that were answered
}

// Connections lists the connections, by TSIH; those that log in come last.
func (t *Target) Connections() ([]ConnectionInfo, error) {
	var out []ConnectionInfo
	err := t.group.Each(func(r *reactor.Reactor) {
		for s := t.groups[r.Index()].sessions; s != nil; s = s.next {
			i := ConnectionInfo{
				Params: s.params, Reactor: r.Index(), Local: s.local, Remote: s.remote, Tag: s.port.tag, LoggingIn: s.state < sessionFull,
				Ending: s.state > sessionFull, Open: s.open, Commands: s.answered,
			}
			if i.LoggingIn && s.login != nil {
				i.Stage = s.login.stage
			}
			out = append(out, i)
		}
	})
	slices.SortFunc(out, func(a, b ConnectionInfo) int {
		if a.LoggingIn != b.LoggingIn {
			if a.LoggingIn {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(a.TSIH, b.TSIH), a.Remote.Compare(b.Remote))
	})
	for i := range out {
		out[i].ID = i
	}
	return out, err
}

// GroupStats counts what one reactor's share of the target does.
type GroupStats struct {
	Reactor   int
	Sessions  int // logged in
	LoggingIn int
	Ending    int
	Pending   int    // commands that came and are not answered
	Commands  uint64 // that were answered
	Dropped   uint64 // requests whose CmdSN was not the next
	Logins    uint64 // that succeeded
	Refused   uint64 // that did not
	Denied    uint64 // of them, for want of the right or of the proof
	Faults    uint64 // connections ended for what the initiator did
}

// Stats gives the counters of every reactor.
func (t *Target) Stats() ([]GroupStats, error) {
	var out []GroupStats
	err := t.group.Each(func(r *reactor.Reactor) {
		pg := t.groups[r.Index()]
		i := GroupStats{
			Reactor: r.Index(), Commands: pg.stats.commands, Dropped: pg.stats.dropped, Logins: pg.stats.logins, Refused: pg.stats.refused, Denied: pg.stats.denied,
			Faults: pg.stats.faults,
		}
		for s := pg.sessions; s != nil; s = s.next {
			switch {
			case s.state < sessionFull:
				i.LoggingIn++
			case s.state == sessionFull:
				i.Sessions++
			default:
				i.Ending++
			}
			i.Pending += int(s.open)
			i.Commands += s.answered
			i.Dropped += s.dropped
		}
		out = append(out, i)
	})
	return out, err
}
