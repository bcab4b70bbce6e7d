package bench

import (
	"fmt"
	"os"

	"github.com/pollux-storage/pollux/reactor"
)

// This file counts the processor time of targets that are no process: the kernel's own works in its threads and in interrupts. What
// the whole machine was busy with, less what the client used, is the target's: its kernel threads and processes, and what the network
// costs outside of any process, on both sides of the connection. Where the target has processors to itself it is what those were busy with.

// MachineTime asks for it.
type MachineTime struct {
	Target []int // processors that the target, and nothing of the client, works on; nil where there are none
}

// MachineFigures is how busy the machine was during a run. A processor's busy time is the time that passed, less what proc_stat(5)
// calls idle, iowait and steal.
type MachineFigures struct {
	CPUs          []CPUBusy `json:"cpus"`
	ClientPercent float64   `json:"client_percent"` // of a core: this process, and fio
	// RestMicrosPerIO is the busy time of all processors, less the client's, for each request.
	RestMicrosPerIO float64 `json:"rest_us_per_io"`
	// TargetMicrosPerIO is the busy time of the target's own processors for each request; 0 where it has none.
	TargetMicrosPerIO float64 `json:"target_us_per_io,omitempty"`
}

// CPUBusy is one processor.
type CPUBusy struct {
	CPU         int     `json:"cpu"`
	BusyPercent float64 `json:"busy_percent"`
}

// machineTimes is what the processors did up to a moment.
type machineTimes struct {
	at   reactor.Ticks
	cpus []cpuTime
}

// free is how long a processor was idle, waited for a disk, or was the hypervisor's.
func (t *cpuTime) free() reactor.Ticks { return t.idle + t.iowait + t.stolen }

// machineNow reads it.
func machineNow() (machineTimes, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return machineTimes{}, fmt.Errorf("reading how busy the machine is: %w", err)
	}
	m := machineTimes{at: reactor.Clock()}
	m.cpus, err = parseProcStat(string(b))
	return m, err
}

// figures is what the machine did from m to end, of which the client used some, for so many requests.
func (m *machineTimes) figures(end *machineTimes, client reactor.Ticks, ops uint64, o *MachineTime) *MachineFigures {
	wall := end.at - m.at
	if wall <= 0 || ops == 0 {
		return nil
	}
	f := &MachineFigures{ClientPercent: 100 * seconds(client) / seconds(wall)}
	var all, target reactor.Ticks
	for _, e := range end.cpus {
		for _, b := range m.cpus {
			if b.cpu != e.cpu {
				continue
			}
			busy := min(max(wall-(e.free()-b.free()), 0), wall) // the ticks of /proc/stat are coarser than the clock
			all += busy
			for _, c := range o.Target {
				if c == e.cpu {
					target += busy
				}
			}
			f.CPUs = append(f.CPUs, CPUBusy{e.cpu, 100 * seconds(busy) / seconds(wall)})
		}
	}
	f.RestMicrosPerIO = 1e6 * seconds(max(all-client, 0)) / float64(ops)
	f.TargetMicrosPerIO = 1e6 * seconds(target) / float64(ops)
	return f
}

// targetMicros is the processor time that a target used for each request: of its own processors, or of its process, or of the machine
// without the client; 0 where nothing of that was asked for.
func (r *Run) targetMicros() float64 {
	if m := r.Machine; m != nil {
		if m.TargetMicrosPerIO > 0 {
			return m.TargetMicrosPerIO
		}
		return m.RestMicrosPerIO
	}
	us := 0.0
	for _, o := range r.Others {
		if o.Name != fioName && o.Name != iscsiClient {
			us += o.MicrosPerIO
		}
	}
	return us
}

// iopsPerCore is how many requests a core of the target would serve in a second, by the processor time that each took; 0 where it
// is not known.
func (r *Run) iopsPerCore() float64 {
	if us := r.targetMicros(); us > 0 {
		return 1e6 / us
	}
	return 0
}
