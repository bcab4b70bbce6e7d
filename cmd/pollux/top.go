package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	tea "charm.land/bubbletea/v2"
	"golang.org/x/term"

	"github.com/pollux-storage/pollux/ctl/api"
)

// This file is the command, and what it makes of two looks at an engine. top_screen.go shows it.

type topCmd struct {
	engineFlags
	outputFlags
	Interval time.Duration `short:"i" default:"1s" help:"Time between two looks (${default})."`
	Sort     string        `default:"name" enum:"name,iops,mib,latency,depth,errors" help:"What devices are sorted by: name, iops, mib, latency, depth or errors (${default})."`
	Once     bool          `help:"Print what went on during one interval, and end; for scripts. 99th percentiles are since the devices' counters were last reset."`
}

// Run watches until q is pressed.
func (c *topCmd) Run() error {
	if c.Interval <= 0 {
		return fmt.Errorf("watch the engine: the interval %v is no time; write for example 500ms or 2s", c.Interval)
	}
	if !c.Once && c.Output == "json" {
		return fmt.Errorf("watch the engine: a screen is not JSON; add --once")
	}
	if !c.Once && !term.IsTerminal(int(os.Stdout.Fd())) {
		return fmt.Errorf("watch the engine: the output is no terminal; add --once to print one table")
	}
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if c.Once {
		return c.once(ctx, engine)
	}
	end, err := tea.NewProgram(newTopScreen(ctx, engine, c.Interval, c.Sort), tea.WithContext(ctx), tea.WithoutSignalHandler()).Run()
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("watch the engine: %w", err)
	}
	return end.(topScreen).err
}

func (c *topCmd) once(ctx context.Context, engine api.Caller) error {
	before, err := lookAround(ctx, engine)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(c.Interval):
	}
	now, err := lookAround(ctx, engine)
	if err != nil {
		return err
	}
	load := loadOf(&before, &now)
	load.sort(c.Sort)
	if c.Output == "json" {
		return printJSON(os.Stdout, load)
	}
	_, err = io.WriteString(os.Stdout, load.text())
	return err
}

// topLook is all that is read of an engine at one time.
type topLook struct {
	reactors  api.Reactors
	devices   api.Iostats
	latencies []api.Latency
	target    api.NVMFStats
	hosts     []connectedHost
}

// lookAround reads an engine.
func lookAround(ctx context.Context, engine api.Caller) (l topLook, err error) {
	if l.reactors, err = api.FrameworkGetReactors.Call(ctx, engine, api.None{}); err != nil {
		return l, err
	}
	if l.devices, err = api.BdevGetIostat.Call(ctx, engine, api.BdevGetIostatParams{}); err != nil {
		return l, err
	}
	if l.latencies, err = api.EngineGetLatency.Call(ctx, engine, api.EngineGetLatencyParams{}); err != nil {
		return l, err
	}
	if l.target, err = api.NVMFGetStats.Call(ctx, engine, api.NVMFTarget{}); err != nil {
		return l, err
	}
	l.hosts, err = hostsOf(ctx, engine)
	return l, err
}

// engineLoad is what an engine did between two looks.
type engineLoad struct {
	Seconds  float64         `json:"seconds" doc:"between the looks"`
	Reactors []reactorLoad   `json:"reactors"`
	Devices  []deviceLoad    `json:"devices"`
	Groups   []groupLoad     `json:"nvmf_poll_groups"`
	Hosts    []connectedHost `json:"nvmf_controllers"`
}

type reactorLoad struct {
	Name   string  `json:"name"`
	Core   uint32  `json:"core"`
	Busy   float64 `json:"busy_percent"`
	Asleep bool    `json:"asleep" doc:"at the second look"`
}

// deviceLoad has the device's 99th percentiles beside its rates. They are of all requests since the counters were last
// reset: differences of two looks do not have them.
type deviceLoad struct {
	deviceRate
	ReadP99  float64 `json:"read_p99_microseconds"`
	WriteP99 float64 `json:"write_p99_microseconds"`
}

type groupLoad struct {
	Name     string  `json:"name"`
	Admin    uint32  `json:"admin_queues"`
	IO       uint32  `json:"io_queues"`
	New      uint32  `json:"unassociated_queues" doc:"connected, before Connect"`
	Pending  uint64  `json:"pending_commands"`
	Commands float64 `json:"commands_per_second"`
}

// loadOf compares two looks. What was not there at the first, or was reset between, is left out once.
func loadOf(before, now *topLook) engineLoad {
	load := engineLoad{Reactors: []reactorLoad{}, Devices: []deviceLoad{}, Groups: []groupLoad{}, Hosts: now.hosts}
	if now.devices.Ticks > before.devices.Ticks {
		load.Seconds = float64(now.devices.Ticks-before.devices.Ticks) / float64(now.devices.TickRate)
	}
	for i, r := range now.reactors.Reactors {
		if i >= len(before.reactors.Reactors) {
			break
		}
		a := before.reactors.Reactors[i]
		one := reactorLoad{Name: fmt.Sprintf("lcore_%d", r.Lcore), Core: r.Lcore, Asleep: r.InInterrupt}
		if len(r.LwThreads) > 0 {
			one.Name = r.LwThreads[0].Name
		}
		if busy, all := r.Busy-a.Busy, r.Busy+r.Idle-a.Busy-a.Idle; r.Busy >= a.Busy && r.Idle >= a.Idle && all > 0 {
			one.Busy = 100 * float64(busy) / float64(all)
		}
		load.Reactors = append(load.Reactors, one)
	}
	if load.Seconds == 0 {
		return load
	}
	for _, r := range rates(&before.devices, &now.devices) {
		load.Devices = append(load.Devices, deviceLoad{r, p99(now.latencies, r.Name, "read"), p99(now.latencies, r.Name, "write")})
	}
	for _, g := range now.target.PollGroups {
		i := slices.IndexFunc(before.target.PollGroups, func(a api.NVMFPollGroup) bool { return a.Name == g.Name })
		if i < 0 || g.CompletedNVMeIO < before.target.PollGroups[i].CompletedNVMeIO {
			continue
		}
		load.Groups = append(load.Groups, groupLoad{
			Name: g.Name, Admin: g.CurrentAdminQpairs, IO: g.CurrentIOQpairs, New: g.CurrentUnassociatedQpairs, Pending: g.PendingBdevIO,
			Commands: float64(g.CompletedNVMeIO-before.target.PollGroups[i].CompletedNVMeIO) / load.Seconds,
		})
	}
	return load
}

// p99 is the 99th percentile of one operation in microseconds, 0 where there was none.
func p99(list []api.Latency, device, op string) float64 {
	for _, l := range list {
		if l.Name == device && l.Op == op {
			return float64(l.P99NS) / 1e3
		}
	}
	return 0
}

// topKeys are what devices can be sorted by; all but the name with the largest first.
var topKeys = []string{"name", "iops", "mib", "latency", "depth", "errors"}

// sort orders the devices.
func (l *engineLoad) sort(key string) {
	slices.SortFunc(l.Devices, func(a, b deviceLoad) int {
		return cmp.Or(cmp.Compare(b.measure(key), a.measure(key)), strings.Compare(a.Name, b.Name))
	})
}

func (d *deviceLoad) measure(key string) float64 {
	switch key {
	case "iops":
		return d.Reads + d.Writes
	case "mib":
		return d.ReadBytes + d.WriteBytes
	case "latency":
		return max(d.ReadMicros, d.WriteMicros)
	case "depth":
		return float64(d.Depth)
	case "errors":
		return float64(d.Errors)
	}
	return 0
}

// text is the load as tables, one below the other.
func (l *engineLoad) text() string {
	var reactors, devices, groups, hosts table
	reactors.columns("REACTOR", "CORE", "BUSY %", "ASLEEP")
	for _, r := range l.Reactors {
		reactors.row(r.Name, r.Core, decimal(r.Busy), r.Asleep)
	}
	devices.columns("DEVICE", "READ/S", "WRITE/S", "READ MiB/S", "WRITE MiB/S", "READ µS", "p99", "WRITE µS", "p99", "DEPTH", "ERRORS")
	for _, d := range l.Devices {
		devices.row(d.Name, decimal(d.Reads), decimal(d.Writes), decimal(d.ReadBytes/(1<<20)), decimal(d.WriteBytes/(1<<20)),
			decimal(d.ReadMicros), decimal(d.ReadP99), decimal(d.WriteMicros), decimal(d.WriteP99), d.Depth, d.Errors)
	}
	groups.columns("NVMe-oF", "ADMIN QUEUES", "I/O QUEUES", "NEW", "PENDING", "COMMANDS/S")
	for _, g := range l.Groups {
		groups.row(g.Name, g.Admin, g.IO, g.New, g.Pending, decimal(g.Commands))
	}
	hosts.columns("NQN", "HOST", "CNTLID", "KIND", "QUEUES")
	for _, k := range l.Hosts {
		hosts.row(k.NQN, k.HostNQN, k.CntlID, k.CntrlType, k.NumIOQpairs)
	}
	return strings.Join([]string{reactors.String(), devices.String(), groups.String(), hosts.String()}, "\n")
}
