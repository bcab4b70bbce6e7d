package bench

import (
	"runtime/metrics"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/reactor"
)

// usage is what a reactor has used up to a moment.
type usage struct {
	stats        reactor.Stats
	user, system reactor.Ticks
	at           reactor.Ticks
}

// usageOf runs on the reactor.
func usageOf(r *reactor.Reactor) usage {
	u := usage{stats: r.Stats(), at: reactor.Clock()}
	u.user, u.system = r.CPUTime()
	return u
}

// processUsage is what this process has used up to a moment, and what others have that take part.
type processUsage struct {
	user, system reactor.Ticks
	allocs, gcs  uint64
	others       []ProcessTime
	machine      machineTimes // if it was asked for
}

// processUsageNow reads it. samples has room for what it reads, so that reading allocates nothing itself.
func processUsageNow(samples []metrics.Sample, o *Options) processUsage {
	var p processUsage
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) == nil {
		p.user, p.system = reactor.Ticks(u.Utime.Nano()), reactor.Ticks(u.Stime.Nano())
	}
	for _, pid := range o.PIDs {
		t, _ := ReadProcessTime(pid)
		p.others = append(p.others, t)
	}
	if o.Machine != nil {
		p.machine, _ = machineNow()
	}
	metrics.Read(samples)
	p.allocs, p.gcs = samples[0].Value.Uint64(), samples[1].Value.Uint64()
	return p
}

func usageSamples() []metrics.Sample {
	return []metrics.Sample{{Name: "/gc/heap/allocs:objects"}, {Name: "/gc/cycles/total:gc-cycles"}}
}
