package bench

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pollux-storage/pollux/reactor"
)

// This file is what processors did since the machine began: proc_stat(5), "cpuN user nice system idle iowait irq softirq steal guest
// guest_nice", in hundredths of a second.

// cpuTime is how one processor spent its time. What the hypervisor gave to other machines is stolen.
type cpuTime struct {
	cpu                                                            int
	user, nice, system, idle, iowait, interrupts, softirqs, stolen reactor.Ticks
}

// parseProcStat reads the lines of processors. Those that are offline have none.
func parseProcStat(text string) (cpus []cpuTime, err error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || !strings.HasPrefix(f[0], "cpu") || f[0] == "cpu" {
			continue
		}
		var t cpuTime
		if t.cpu, err = strconv.Atoi(f[0][len("cpu"):]); err != nil || len(f) < 9 {
			return nil, fmt.Errorf("a line of /proc/stat that is no processor's: %q", strings.TrimSpace(line))
		}
		for i, to := range []*reactor.Ticks{&t.user, &t.nice, &t.system, &t.idle, &t.iowait, &t.interrupts, &t.softirqs, &t.stolen} {
			n, err := strconv.ParseInt(f[1+i], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("a line of /proc/stat with a time of %q: %q", f[1+i], strings.TrimSpace(line))
			}
			*to = reactor.Ticks(n) * procTick
		}
		cpus = append(cpus, t)
	}
	if len(cpus) == 0 {
		return nil, fmt.Errorf("/proc/stat has no line of a processor")
	}
	return cpus, nil
}
