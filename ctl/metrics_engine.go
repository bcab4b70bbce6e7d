package ctl

import (
	"strconv"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/version"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the engine's own metrics. Every name here is a promise: dashboards and alerts are written against them.

var (
	mBuild  = family(Gauge, "pollux_build_info", "1, with the version and the commit that this engine was built from.", "version", "commit")
	mHealth = family(Gauge, "pollux_health", "1 for the state that the engine is in, 0 for the others.", "state")

	mReactorBusy        = family(Counter, "pollux_reactor_busy_seconds_total", "Time of a reactor's turns that found work.", "reactor", "core")
	mReactorIdle        = family(Counter, "pollux_reactor_idle_seconds_total", "All other time of a reactor, asleep included.", "reactor", "core")
	mReactorAsleep      = family(Counter, "pollux_reactor_asleep_seconds_total", "The part of its idle time that a reactor slept.", "reactor", "core")
	mReactorSleeps      = family(Counter, "pollux_reactor_sleeps_total", "How often a reactor went to sleep.", "reactor", "core")
	mReactorEnters      = family(Counter, "pollux_reactor_ring_enters_total", "System calls of a reactor into its ring.", "reactor", "core")
	mReactorCompletions = family(Counter, "pollux_reactor_completions_total", "Operations of a reactor's ring that ended.", "reactor", "core")
	mReactorMessages    = family(Counter, "pollux_reactor_messages_total", "Messages that a reactor received.", "reactor", "core")

	mReactorLongest = family(Gauge, "pollux_reactor_longest_turn_seconds", "Longest turn of a reactor since it began, in which nothing else on it moved; sleep does not count, time without its core does.", "reactor", "core")
	mReactorSlow    = family(Latency, "pollux_reactor_slow_turn_seconds", "Turns of a reactor that took more than 20 microseconds.", "reactor", "core")

	mMemoryLimit   = family(Gauge, "pollux_memory_limit_bytes", "Most memory for I/O buffers of a reactor.", "reactor", "core")
	mMemoryInUse   = family(Gauge, "pollux_memory_in_use_bytes", "I/O buffers of a reactor that are lent out.", "reactor", "core")
	mMemoryWaiting = family(Gauge, "pollux_memory_waiting", "Requests of a reactor that wait for a buffer.", "reactor", "core")

	mBdevRequests = family(Counter, "pollux_bdev_requests_total", "Requests to a device that succeeded.", "bdev", "op")
	mBdevBytes    = family(Counter, "pollux_bdev_bytes_total", "Bytes of requests to a device that succeeded.", "bdev", "op")
	mBdevErrors   = family(Counter, "pollux_bdev_errors_total", "Requests to a device that failed.", "bdev", "status")
	mBdevInFlight = family(Gauge, "pollux_bdev_in_flight", "Requests that a device has taken and not ended.", "bdev")
	mBdevSize     = family(Gauge, "pollux_bdev_size_bytes", "Size of a device.", "bdev")
	mBdevLatency  = family(Latency, "pollux_bdev_request_seconds", "Time that requests to a device took that succeeded.", "bdev", "op")

	mNVMFQueues    = family(Gauge, "pollux_nvmf_queues", "Connected queues of hosts.", "reactor", "kind")
	mNVMFPending   = family(Gauge, "pollux_nvmf_pending_commands", "Commands of hosts that came and are not answered.", "reactor")
	mNVMFCompleted = family(Counter, "pollux_nvmf_commands_total", "Commands of hosts that were answered.", "reactor")
	mNVMFProtocol  = family(Counter, "pollux_nvmf_protocol_errors_total", "Connections of hosts that ended for an error in the protocol.", "reactor")
	mNVMFRefused   = family(Counter, "pollux_nvmf_refused_connects_total", "Connect commands that were refused.", "reactor")
	mNVMFDenied    = family(Counter, "pollux_nvmf_denied_hosts_total", "Connect commands of hosts that are not allowed.", "reactor")

	mISCSIConnections = family(Gauge, "pollux_iscsi_connections", "Connections of initiators.", "reactor", "state")
	mISCSIPending     = family(Gauge, "pollux_iscsi_pending_commands", "Commands of initiators that came and are not answered.", "reactor")
	mISCSICompleted   = family(Counter, "pollux_iscsi_commands_total", "Commands of initiators that were answered.", "reactor")
	mISCSILogins      = family(Counter, "pollux_iscsi_logins_total", "Logins that succeeded.", "reactor")
	mISCSIProtocol    = family(Counter, "pollux_iscsi_protocol_errors_total", "Connections of initiators that ended for an error in the protocol.", "reactor")
	mISCSIRefused     = family(Counter, "pollux_iscsi_refused_logins_total", "Logins that did not succeed.", "reactor")
	mISCSIDenied      = family(Counter, "pollux_iscsi_denied_logins_total", "Logins of initiators that are not allowed, or did not prove who they are.", "reactor")
	mISCSIHosts       = family(Counter, "pollux_iscsi_host_failures_total", "What went wrong with an initiator, by kind; of names that are not configured and were never logged in the first 64, others as OTHER.", "initiator", "kind")
)

// engineMetrics gives an engine's metrics.
type engineMetrics struct{ e *Engine }

// Families lists the metrics of this file.
func (engineMetrics) Families() []*Family {
	return []*Family{
		mBuild, mHealth, mReactorBusy, mReactorIdle, mReactorAsleep, mReactorSleeps, mReactorEnters, mReactorCompletions, mReactorMessages,
		mReactorLongest, mReactorSlow, mMemoryLimit, mMemoryInUse, mMemoryWaiting, mBdevRequests, mBdevBytes, mBdevErrors, mBdevInFlight, mBdevSize, mBdevLatency,
		mNVMFQueues, mNVMFPending, mNVMFCompleted, mNVMFProtocol, mNVMFRefused, mNVMFDenied,
		mISCSIConnections, mISCSIPending, mISCSICompleted, mISCSILogins, mISCSIProtocol, mISCSIRefused, mISCSIDenied, mISCSIHosts,
	}
}

// Scrape reads the counters where they are kept, each on its reactor.
func (m engineMetrics) Scrape(s *Scrape) {
	s.Value(mBuild, 1, version.Pollux, version.Commit())
	state := m.e.health().State
	for _, one := range []string{HealthOK, HealthDegraded, HealthFailed} {
		value := 0.0
		if one == state {
			value = 1
		}
		s.Value(mHealth, value, one)
	}
	for _, r := range m.e.reactorStates() {
		reactorMetrics(s, &r)
	}
	for _, d := range m.e.Bdevs.Devices() {
		deviceMetrics(s, d)
	}
	m.targetMetrics(s)
	m.iscsiMetrics(s)
}

func seconds(t reactor.Ticks) float64 { return float64(t) / float64(reactor.TickRate) }

func reactorMetrics(s *Scrape, r *reactorState) {
	labels := []string{strconv.Itoa(r.r.Index()), strconv.Itoa(r.r.Core())}
	for _, v := range []struct {
		of    *Family
		value float64
	}{
		{mReactorBusy, seconds(r.stats.Busy)}, {mReactorIdle, seconds(r.stats.Idle)}, {mReactorAsleep, seconds(r.stats.Asleep)},
		{mReactorSleeps, float64(r.stats.Sleeps)}, {mReactorEnters, float64(r.stats.Enters)},
		{mReactorCompletions, float64(r.stats.Completions)}, {mReactorMessages, float64(r.stats.Messages)}, {mReactorLongest, seconds(r.turns.Longest)},
		{mMemoryLimit, float64(r.memory.Limit)}, {mMemoryInUse, float64(r.memory.InUse)}, {mMemoryWaiting, float64(r.memory.Waiting)},
	} {
		s.Value(v.of, v.value, labels...)
	}
	s.Latency(mReactorSlow, &r.turns.Slow, labels...)
}

func deviceMetrics(s *Scrape, d *bdev.Device) {
	name, stats, g := d.Name(), d.Stats(), d.Geometry()
	s.Value(mBdevInFlight, float64(stats.InFlight), name)
	s.Value(mBdevSize, float64(g.Blocks<<g.Shift()), name)
	for i := range stats.Kinds {
		kind, op := &stats.Kinds[i], bdev.Kind(i).String()
		if kind.Ops == 0 {
			continue
		}
		s.Value(mBdevRequests, float64(kind.Ops), name, op)
		s.Value(mBdevBytes, float64(kind.Bytes), name, op)
		s.Latency(mBdevLatency, &kind.Latency, name, op)
	}
	for status := range bdev.Statuses {
		if n := stats.Errors[status]; n > 0 || alwaysTold(status) {
			s.Value(mBdevErrors, float64(n), name, status.String())
		}
	}
}

// alwaysTold says of which errors the count is given from 0 on: an alert sees the first error by the counter's growth.
func alwaysTold(s bdev.Status) bool { return s == bdev.StatusIO || s == bdev.StatusCorrupt }

func (m engineMetrics) targetMetrics(s *Scrape) {
	groups, err := m.e.Target.Stats()
	if err != nil {
		return // the engine is ending
	}
	for _, g := range groups {
		reactor := strconv.Itoa(g.Reactor)
		s.Value(mNVMFQueues, float64(g.CurrentAdminQueues), reactor, "admin")
		s.Value(mNVMFQueues, float64(g.CurrentIOQueues), reactor, "io")
		s.Value(mNVMFQueues, float64(g.CurrentUnassociated), reactor, "unassociated")
		s.Value(mNVMFPending, float64(g.PendingCommands), reactor)
		s.Value(mNVMFCompleted, float64(g.CompletedCommands), reactor)
		s.Value(mNVMFProtocol, float64(g.ProtocolErrors), reactor)
		s.Value(mNVMFRefused, float64(g.RefusedConnects), reactor)
		s.Value(mNVMFDenied, float64(g.DeniedHosts), reactor)
	}
}

func (m engineMetrics) iscsiMetrics(s *Scrape) {
	groups, err := m.e.ISCSI.Stats()
	if err != nil {
		return // the engine is ending
	}
	for _, g := range groups {
		reactor := strconv.Itoa(g.Reactor)
		s.Value(mISCSIConnections, float64(g.Sessions), reactor, "running")
		s.Value(mISCSIConnections, float64(g.LoggingIn), reactor, "login")
		s.Value(mISCSIConnections, float64(g.Ending), reactor, "ending")
		s.Value(mISCSIPending, float64(g.Pending), reactor)
		s.Value(mISCSICompleted, float64(g.Commands), reactor)
		s.Value(mISCSILogins, float64(g.Logins), reactor)
		s.Value(mISCSIProtocol, float64(g.Faults), reactor)
		s.Value(mISCSIRefused, float64(g.Refused), reactor)
		s.Value(mISCSIDenied, float64(g.Denied), reactor)
	}
	hosts, err := m.e.ISCSI.HostFailures()
	if err != nil {
		return
	}
	for _, h := range hosts {
		for f, n := range h.Counts {
			s.Value(mISCSIHosts, float64(n), h.Initiator, iscsi.Failure(f).String())
		}
	}
}
