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
	iscsi     api.ISCSIStats
	logins    []api.ISCSIConnection
	volumes   []api.Volume
	stats     map[string]api.VolumeStats // by UUID
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
	if l.hosts, err = hostsOf(ctx, engine); err != nil {
		return l, err
	}
	if l.iscsi, err = api.ISCSIGetStats.Call(ctx, engine, api.None{}); err != nil {
		return l, err
	}
	if l.logins, err = api.ISCSIGetConnections.Call(ctx, engine, api.None{}); err != nil {
		return l, err
	}
	if l.volumes, err = api.VolumeList.Call(ctx, engine, api.VolumeListParams{}); err != nil {
		return l, err
	}
	l.stats = map[string]api.VolumeStats{}
	for _, v := range l.volumes {
		if s, err := api.VolumeStatsOf.Call(ctx, engine, api.VolumeParams{Name: v.UUID}); err == nil { // else it is gone
			l.stats[v.UUID] = s
		}
	}
	return l, nil
}

// engineLoad is what an engine did between two looks.
type engineLoad struct {
	Seconds  float64         `json:"seconds" doc:"between the looks"`
	Reactors []reactorLoad   `json:"reactors"`
	Devices  []deviceLoad    `json:"devices"`
	Volumes  []volumeLoad    `json:"volumes"`
	Groups   []groupLoad     `json:"nvmf_poll_groups"`
	Hosts    []connectedHost `json:"nvmf_controllers"`

	ISCSI       []iscsiLoad           `json:"iscsi_poll_groups"`
	Connections []api.ISCSIConnection `json:"iscsi_connections"`
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

// volumeLoad is where a volume stands, and where its changes spend their time: 99th percentiles since it was opened, means between the looks.
type volumeLoad struct {
	Name    string        `json:"name" doc:"POOL/VOLUME"`
	State   string        `json:"state"`
	Changes float64       `json:"changes_per_second"`
	Log     float64       `json:"log_percent" doc:"of its log that is taken"`
	Dirty   uint64        `json:"dirty_bytes" doc:"that wait to go home"`
	Home    float64       `json:"home_bytes_per_second"`
	Stages  []volumeStage `json:"stages"`
	Scrub   string        `json:"scrub" doc:"idle, paused, or how far it is"`
	Errors  uint64        `json:"scrub_errors" doc:"of the pass under way, or of the last one"`
}

type volumeStage struct {
	Stage  string  `json:"stage"`
	Micros float64 `json:"mean_microseconds"`
	P99    float64 `json:"p99_microseconds"`
}

// volumeLoads compares two looks at the volumes.
func volumeLoads(before, now *topLook, seconds float64) []volumeLoad {
	list := []volumeLoad{}
	for _, v := range now.volumes {
		s, ok := now.stats[v.UUID]
		was, before := before.stats[v.UUID]
		if !ok || !before || s.HomeBytes < was.HomeBytes { // it was opened between
			continue
		}
		one := volumeLoad{
			Name: v.Pool + "/" + v.Name, State: v.State, Dirty: s.DirtyBytes, Home: float64(s.HomeBytes-was.HomeBytes) / seconds, Scrub: s.Scrub.State,
			Errors: s.Scrub.LastErrors,
		}
		if s.LogBytes > 0 {
			one.Log = 100 * float64(s.LogUsed) / float64(s.LogBytes)
		}
		if s.Scrub.State != "idle" {
			one.Scrub, one.Errors = fmt.Sprintf("%s %.0f %%", s.Scrub.State, float64(donePercent(&s.Scrub))), s.Scrub.Errors
		}
		for i, at := range s.Stages {
			st := volumeStage{Stage: at.Stage, P99: float64(at.P99NS) / 1e3}
			if i < len(was.Stages) && at.Count > was.Stages[i].Count {
				n := at.Count - was.Stages[i].Count
				st.Micros = float64(at.SumNS-was.Stages[i].SumNS) / float64(n) / 1e3
				if at.Stage == "total" {
					one.Changes = float64(n) / seconds
				}
			}
			one.Stages = append(one.Stages, st)
		}
		list = append(list, one)
	}
	return list
}

// volumeTable is the volumes, with the mean of each stage between the looks.
func volumeTable(t *table, list []volumeLoad) {
	t.columns("VOLUME", "STATE", "CHANGES/S", "ADMIT µS", "PLACE µS", "APPEND µS", "WRITE µS", "FLUSH µS", "TOTAL µS", "p99", "LOG %", "DIRTY", "HOME MiB/S", "SCRUB", "BAD")
	for _, v := range list {
		row := []any{v.Name, v.State, decimal(v.Changes)}
		p99 := 0.0
		for _, s := range v.Stages {
			row = append(row, decimal(s.Micros))
			p99 = s.P99
		}
		t.row(append(row, decimal(p99), decimal(v.Log), size(v.Dirty), decimal(v.Home/(1<<20)), v.Scrub, v.Errors)...)
	}
}

type groupLoad struct {
	Name     string  `json:"name"`
	Admin    uint32  `json:"admin_queues"`
	IO       uint32  `json:"io_queues"`
	New      uint32  `json:"unassociated_queues" doc:"connected, before Connect"`
	Pending  uint64  `json:"pending_commands"`
	Commands float64 `json:"commands_per_second"`
}

type iscsiLoad struct {
	Name     string  `json:"name"`
	Sessions uint32  `json:"sessions"`
	New      uint32  `json:"logging_in"`
	Pending  uint64  `json:"pending_commands"`
	Commands float64 `json:"commands_per_second"`
}

// iscsiLoads compares two looks at the iSCSI target.
func iscsiLoads(before, now *topLook, seconds float64) []iscsiLoad {
	list := []iscsiLoad{}
	for _, g := range now.iscsi.PollGroups {
		i := slices.IndexFunc(before.iscsi.PollGroups, func(a api.ISCSIPollGroup) bool { return a.Name == g.Name })
		if i < 0 || g.Commands < before.iscsi.PollGroups[i].Commands {
			continue
		}
		list = append(list, iscsiLoad{
			Name: g.Name, Sessions: g.Sessions, New: g.LoggingIn, Pending: g.PendingCommands,
			Commands: float64(g.Commands-before.iscsi.PollGroups[i].Commands) / seconds,
		})
	}
	return list
}

// loadOf compares two looks. What was not there at the first, or was reset between, is left out once.
func loadOf(before, now *topLook) engineLoad {
	load := engineLoad{Reactors: []reactorLoad{}, Devices: []deviceLoad{}, Volumes: []volumeLoad{}, Groups: []groupLoad{}, Hosts: now.hosts, ISCSI: []iscsiLoad{}, Connections: now.logins}
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
	load.Volumes = volumeLoads(before, now, load.Seconds)
	load.ISCSI = iscsiLoads(before, now, load.Seconds)
	devices := rates(&before.devices, &now.devices)
	nameVolumes(devices, now.volumes)
	for _, r := range devices {
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
		return cmp.Or(cmp.Compare(b.measure(key), a.measure(key)), strings.Compare(a.title(), b.title()))
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
	var reactors, devices, volumes, groups, hosts, iscsi, logins table
	volumeTable(&volumes, l.Volumes)
	reactors.columns("REACTOR", "CORE", "BUSY %", "ASLEEP")
	for _, r := range l.Reactors {
		reactors.row(r.Name, r.Core, decimal(r.Busy), r.Asleep)
	}
	devices.columns("DEVICE", "READ/S", "WRITE/S", "READ MiB/S", "WRITE MiB/S", "READ µS", "p99", "WRITE µS", "p99", "DEPTH", "ERRORS")
	for _, d := range l.Devices {
		devices.row(d.title(), decimal(d.Reads), decimal(d.Writes), decimal(d.ReadBytes/(1<<20)), decimal(d.WriteBytes/(1<<20)),
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
	iscsi.columns("iSCSI", "SESSIONS", "NEW", "PENDING", "COMMANDS/S")
	for _, g := range l.ISCSI {
		iscsi.row(g.Name, g.Sessions, g.New, g.Pending, decimal(g.Commands))
	}
	connectionTable(&logins, l.Connections)
	return strings.Join([]string{reactors.String(), devices.String(), volumes.String(), groups.String(), hosts.String(), iscsi.String(), logins.String()}, "\n")
}
