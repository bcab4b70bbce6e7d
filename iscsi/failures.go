package iscsi

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pollux-storage/pollux/reactor"
)

// This file counts failures by host (T-17): whose logins are refused and why, who sends what cannot be read.
//
//	on any reactor                         on the first one
//	a login is refused ── hostReport ────▶ hosts: a table of names, bounded
//	a session ends that counted some ────▶
//
// A host is who it says it is; its name proves nothing, and one that floods us may say another with each login. So the table has two halves: one for
// names that are configured, or were logged in, and one for strangers, of which those that come when it is full are counted together.

// Failure is a kind of failure.
type Failure uint8

// The failures.
const (
	FailureCHAP     Failure = iota // a login: it did not prove who it is
	FailureDenied                  // a login: it may not
	FailureLogin                   // any other login that was refused, or did not end in time
	FailureDigest                  // a wrong digest
	FailureReject                  // a PDU that was rejected
	FailureProtocol                // a session that was ended for what it did
	Failures                       // how many there are
)

var failureNames = [...]string{"chap", "denied", "login", "digest", "reject", "protocol"}

// String names it as metrics do.
func (f Failure) String() string { return failureNames[f] }

// HostFailures is what went wrong with a host since the engine started.
type HostFailures struct {
	Initiator string // "" of those that said none; OtherHosts of those for which there is no room
	From      netip.Addr
	Counts    [Failures]uint64
	Why       string        // the last one
	Ago       time.Duration // since the last one
}

// OtherHosts stands for all hosts that have no place of their own. No initiator has this name, in the form in which names are kept.
const OtherHosts = "OTHER"

// Sizes of the table.
const (
	hostsMax     = 256 // names that are configured, or were logged in
	strangersMax = 64  // others
	whyBytesMax  = 160
)

// hostReport tells of failures of a host.
type hostReport struct {
	target *Target
	name   string
	from   netip.Addr
	known  bool
	counts [Failures]uint64
	why    string
}

// hosts are the failures by name, on the first reactor.
type hosts struct {
	by        map[string]*host
	strangers int
}

type host struct {
	HostFailures
	known bool
	at    reactor.Ticks
}

// Receive enters a report.
func (h *hostReport) Receive(r *reactor.Reactor) { h.target.hosts.add(h, r.Now()) }

func (x *hosts) add(h *hostReport, now reactor.Ticks) {
	if x.by == nil {
		x.by = map[string]*host{}
	}
	e := x.by[h.name]
	if e == nil {
		e = x.place(h)
	}
	if h.known && !e.known && e.Initiator == h.name && len(x.by)-x.strangers < hostsMax {
		e.known = true
		x.strangers--
	}
	for i, n := range h.counts {
		e.Counts[i] += n
	}
	e.From, e.Why, e.at = h.from, h.why, now
}

// place makes room for a host that has none, or gives that of all others.
func (x *hosts) place(h *hostReport) *host {
	name, known := h.name, h.known
	if x.full(known) {
		name, known = OtherHosts, true
		if e := x.by[name]; e != nil {
			return e
		}
	}
	e := &host{HostFailures: HostFailures{Initiator: name}, known: known}
	x.by[name] = e
	if !known {
		x.strangers++
	}
	return e
}

func (x *hosts) full(known bool) bool {
	if known {
		return len(x.by)-x.strangers >= hostsMax
	}
	return x.strangers >= strangersMax
}

// failed counts a failure of a login, and tells it at once.
func (s *session) failed(f Failure, why string) {
	h := s.report(why)
	h.counts[f]++
	s.pg.send(s.pg.target.groups[0].r, h)
}

// report makes a report of the session's host.
func (s *session) report(why string) *hostReport {
	name := s.params.InitiatorName
	if l := s.login; l != nil && name == "" && len(l.initiator) <= NameBytesMax { // it may be the name that is wrong
		if name = strings.ToLower(l.initiator); len(name) > NameBytesMax {
			name = ""
		}
	}
	return &hostReport{
		target: s.pg.target, name: name, from: s.remote.Addr().Unmap(), known: s.params.TSIH != 0 || s.pg.view.listed[name], why: fmt.Sprintf("%.*s", whyBytesMax, why),
	}
}

// count counts a failure within a session: they are told at its end, or when somebody asks, since a host may make very many.
func (s *session) count(f Failure, why string) {
	s.failures[f]++
	s.lastFailure = why
}

// takeFailures gives what was counted and not told, nil if there is none.
func (s *session) takeFailures() *hostReport {
	if s.failures == [Failures]uint64{} {
		return nil
	}
	h := s.report(s.lastFailure)
	h.counts = s.failures
	s.failures = [Failures]uint64{}
	return h
}

// HostFailures lists the hosts with which something went wrong, by name.
func (t *Target) HostFailures() ([]HostFailures, error) {
	var live []*hostReport
	err := t.group.Each(func(r *reactor.Reactor) {
		for s := t.groups[r.Index()].sessions; s != nil; s = s.next {
			if h := s.takeFailures(); h != nil {
				live = append(live, h)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	var out []HostFailures
	first := t.groups[0].r
	err = first.Call(func() {
		for _, h := range live {
			h.Receive(first)
		}
		for _, e := range t.hosts.by {
			e.Ago = time.Duration(first.Now() - e.at)
			out = append(out, e.HostFailures)
		}
	})
	slices.SortFunc(out, func(a, b HostFailures) int { return cmp.Compare(a.Initiator, b.Initiator) })
	return out, err
}
