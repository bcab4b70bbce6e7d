package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/pollux-storage/pollux/reactor"
)

// This file sets targets against each other, whoever wrote them: the same client puts the same load on each in turn, and each round is
// a pair. A connection is made for a run and ends with it, so that a target that is not measured has no client, and may be stopped
// meanwhile (pause): one that polls would take half of a core that it shares.

// PeerSpec is one of the targets, as it is named on the command line:
//
//	NAME=tcp://HOST:PORT/NQN  whoever serves there, through the engine's own initiator; rdma://HOST:PORT/NQN likewise
//	NAME=engine:mem:1G        an engine of this program that is started for it; null:1G and uring:PATH too
//	NAME=engine-iscsi:mem:1G  the same, which serves it over iSCSI
//	NAME=iscsi://HOST:PORT/IQN/LUN  whoever serves there, through libiscsi's programs
//	NAME=raw:/dev/nvme0n1     a block device, by fio: whoever this machine's kernel is connected to
//
// NAME@GROUP=… puts it into a group. The first of a group is compared to each other of it that has the same client.
type PeerSpec struct {
	Name   string
	Group  string
	Engine bool // Spec is what an engine is to serve
	ISCSI  bool // which does so over iSCSI
	Spec   TargetSpec
	PID    int // of its process, if it is known and has one
}

// peerName keeps row names and ratios readable: they divide at blanks.
var peerName = regexp.MustCompile(`^([A-Za-z0-9._-]+)(?:@([A-Za-z0-9._-]+))?$`)

// engineBytes is the size of a device in memory that has none.
const engineBytes = "1G"

// ParsePeer reads a target.
func ParsePeer(s string) (PeerSpec, error) {
	bad := func(why string) (PeerSpec, error) {
		return PeerSpec{}, fmt.Errorf("peer %q: %s; write NAME=tcp://127.0.0.1:4420/NQN, NAME=engine:mem:1G, NAME=iscsi://127.0.0.1:3260/IQN/LUN, NAME=engine-iscsi:mem:1G, or NAME=raw:/dev/nvme0n1 for the kernel's initiator", s, why)
	}
	name, at, ok := strings.Cut(s, "=")
	m := peerName.FindStringSubmatch(name)
	if !ok || m == nil {
		return bad("it has no name of letters, digits, dots and dashes")
	}
	p := PeerSpec{Name: m[1], Group: m[2]}
	what, engine := strings.CutPrefix(at, "engine:")
	if !engine {
		what, p.ISCSI = strings.CutPrefix(at, "engine-iscsi:")
		engine = p.ISCSI
	}
	if engine && (what == "mem" || what == "null") {
		what += ":" + engineBytes
	}
	var err error
	if p.Engine = engine; engine {
		at = what
	}
	if p.Spec, err = ParseTarget(at); err != nil {
		return bad(err.Error())
	}
	switch k := p.Spec.Kind; {
	case engine && k != "mem" && k != "null" && k != "uring":
		return bad("an engine serves mem, null and uring")
	case !engine && k != "tcp" && k != "rdma" && k != "raw" && k != "iscsi":
		return bad("a device of this process has no target; engine:" + k + " has one")
	}
	return p, nil
}

// client is what puts the load on it, by what is compared: fio on a block device of the kernel's, or a program that has the protocol in it.
func (p *PeerSpec) client() string {
	if p.Spec.Kind == "raw" {
		return fioName
	}
	return "initiator"
}

// label names it in rows.
func (p *PeerSpec) label() string {
	s := p.Name
	if p.Spec.Kind == "raw" {
		s = fioName + "+" + s
	}
	if p.Group != "" {
		s += "@" + p.Group
	}
	return s
}

// PeersConfig says what is compared, and how long.
type PeersConfig struct {
	Exe     string // the pollux program, which is started as an engine
	Targets []PeerSpec
	Loads   []Workload
	Runs    int

	Client      []int // cores
	ClientIdle  reactor.Idle
	EngineCores string
	EngineIdle  reactor.Idle

	Pause    bool         // stop the process of each target while another is measured
	Machine  *MachineTime // count the targets' processor time by that of the machine; nil: by their processes
	Note     string       // what else is to be known of the conditions
	Reporter Reporter
}

// PeerLoads are the loads of a comparison: 4 KiB at each depth, 128 KiB at each of large. rw chooses among them.
func PeerLoads(rw []string, depths, large []int, seconds, ramp float64) ([]Workload, error) {
	c := SuiteConfig{Seconds: seconds, Ramp: ramp, Depths: depths}
	var all []Workload
	for _, w := range c.plain() {
		if w.BlockBytes == 4096 {
			all = append(all, w)
			continue
		}
		for _, w.Depth = range large {
			all = append(all, w)
		}
	}
	for _, name := range rw {
		if !slices.ContainsFunc(all, func(w Workload) bool { return w.RW == name }) {
			return nil, fmt.Errorf("rw %q: choose randread, randwrite and randrw of 4 KiB, read and write of 128 KiB", name)
		}
	}
	return slices.DeleteFunc(all, func(w Workload) bool { return !slices.Contains(rw, w.RW) }), nil
}

// check finds what does not go together, before anything is started.
func (c *PeersConfig) check() error {
	seen := map[string]bool{}
	known := 0
	for i := range c.Targets {
		p := &c.Targets[i]
		if seen[p.label()] {
			return fmt.Errorf("two targets are called %s: give them names that differ", p.label())
		}
		seen[p.label()] = true
		if p.PID != 0 || p.Engine {
			known++
		}
		if p.PID != 0 && p.Engine {
			return fmt.Errorf("target %s: the process of an engine that is started here is known; give no pid", p.Name)
		}
		if c.Pause && p.PID != 0 && p.Spec.Kind == "raw" {
			return fmt.Errorf("target %s: it cannot be paused, since this machine's kernel stays connected to it; leave out its pid", p.Name)
		}
		if p.PID != 0 {
			if err := syscall.Kill(p.PID, 0); err != nil {
				return fmt.Errorf("process %d of target %s: %w", p.PID, p.Name, err)
			}
		}
	}
	switch {
	case len(c.Targets) < 2:
		return errors.New("a comparison takes two targets: --target NAME=… --target OTHER=…")
	case c.Pause && known == 0:
		return errors.New("no process is known that could be paused: give pids of the targets")
	case c.Runs < 1:
		return fmt.Errorf("runs %d: at least 1, and %d for a claim", c.Runs, RunsMin)
	case len(c.Loads) == 0:
		return errors.New("there is no load to compare them under")
	}
	return nil
}

// Peers compares. What was measured before a failure is in the report.
func Peers(ctx context.Context, cfg PeersConfig) (report *Report, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "pollux-peers-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for sockets and logs: %w", err)
	}
	defer os.RemoveAll(work)
	report = NewReport()
	report.Conditions.Note = cfg.Note
	var all []*peer
	defer func() {
		for _, p := range all {
			err = errors.Join(err, p.close())
		}
	}()
	for i := range cfg.Targets {
		p, err := openPeer(ctx, &cfg, &cfg.Targets[i], filepath.Join(work, strconv.Itoa(i)))
		if err != nil {
			return nil, err
		}
		all = append(all, p)
		if p.Spec.Kind == "raw" {
			report.Conditions.Fio = fioVersion()
		}
	}
	for _, p := range all {
		p.others = all
		if err := p.pause(); err != nil {
			return nil, err
		}
	}
	if slices.ContainsFunc(cfg.Loads, func(w Workload) bool { return w.Writes() }) {
		for _, p := range all {
			if err := p.fill(ctx); err != nil {
				return nil, err
			}
		}
	}
	groups := groupPeers(all)
	for _, w := range cfg.Loads {
		for _, g := range groups {
			if err := g.measure(ctx, &cfg, w, report); err != nil {
				return report, err
			}
		}
	}
	return report, nil
}

// peerGroup is targets that are compared to the first of them.
type peerGroup []*peer

// groupPeers puts together those of a group that have the same client, in the order in which they were named.
func groupPeers(all []*peer) (groups []peerGroup) {
	at := map[string]int{}
	for _, p := range all {
		key := p.client() + "@" + p.Group
		i, ok := at[key]
		if !ok {
			i = len(groups)
			at[key], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], p)
	}
	return groups
}

// measure puts one load on the targets in turn.
func (g peerGroup) measure(ctx context.Context, cfg *PeersConfig, w Workload, report *Report) error {
	targets, options := make([]Target, len(g)), make([]Options, len(g))
	for i, p := range g {
		targets[i], options[i] = p, Options{Reporter: cfg.Reporter, PIDs: p.pids(), Machine: cfg.Machine}
	}
	rows, err := Turns(ctx, targets, w, cfg.Runs, options)
	if err != nil {
		return err
	}
	report.Rows = append(report.Rows, rows...)
	for i := 1; i < len(rows); i++ {
		report.Ratios = append(report.Ratios, newPeerRatio(&rows[0], &rows[i]))
	}
	return nil
}

// peer is a target of a comparison. It is a Target.
type peer struct {
	PeerSpec
	cfg    *PeersConfig
	engine *Engine
	at     TargetSpec // where it is reached
	iscsi  *ISCSI     // of an iSCSI target; it connects anew for each run
	others []*peer    // all of the comparison, this one among them
	device DeviceConditions
	filled bool
}

// openPeer starts the engine, if it is one that is started here.
func openPeer(ctx context.Context, cfg *PeersConfig, spec *PeerSpec, dir string) (*peer, error) {
	p := &peer{PeerSpec: *spec, cfg: cfg, at: spec.Spec}
	if !spec.Engine {
		return p, nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making a folder for the engine %s: %w", spec.Name, err)
	}
	var err error
	p.engine, err = StartEngine(ctx, EngineConfig{Exe: cfg.Exe, Cores: cfg.EngineCores, Idle: cfg.EngineIdle.String(), Dir: dir})
	if err != nil {
		return nil, err
	}
	p.PID = p.engine.PID()
	serve := p.engine.Serve
	if spec.ISCSI {
		serve = p.engine.ServeISCSI
	}
	if p.at, err = serve(spec.Spec); err != nil {
		return nil, errors.Join(err, p.engine.Stop())
	}
	return p, nil
}

// close lets it go on as it was found.
func (p *peer) close() error {
	err := p.signal(syscall.SIGCONT)
	if p.engine != nil {
		err = errors.Join(err, p.engine.Stop())
	}
	return err
}

func (p *peer) pids() []int {
	if p.PID == 0 {
		return nil
	}
	return []int{p.PID}
}

func (p *peer) pause() error  { return p.signal(syscall.SIGSTOP) }
func (p *peer) resume() error { return p.signal(syscall.SIGCONT) }

func (p *peer) signal(s syscall.Signal) error {
	if !p.cfg.Pause || p.PID == 0 {
		return nil
	}
	if err := syscall.Kill(p.PID, s); err != nil {
		return fmt.Errorf("%v to process %d of target %s: %w", s, p.PID, p.label(), err)
	}
	return nil
}

// Name is the label.
func (p *peer) Name() string { return p.label() }

// Describe tells what it was when it was last measured.
func (p *peer) Describe() DeviceConditions {
	d := p.device
	d.Target = p.label()
	if p.engine != nil {
		d.Remote = p.engine.Describe() + ", bdev " + p.Spec.String()
	}
	if p.filled {
		d.Preconditions = "every block written once, in sequence; then the rows in order"
	}
	return d
}

// Close has nothing open between runs.
func (p *peer) Close() error { return nil }

// Run connects, measures and disconnects, while those others are paused that can be.
func (p *peer) Run(ctx context.Context, w Workload, o Options) (*Run, error) {
	if err := p.resume(); err != nil {
		return nil, err
	}
	t, err := p.open(ctx, &w)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("target %s: %w", p.label(), err), p.pause())
	}
	p.device = t.Describe()
	used := p.watchOthers()
	run, err := t.Run(ctx, w, o)
	if run != nil {
		run.Beside = used()
	}
	if err = errors.Join(err, t.Close(), p.pause()); err != nil {
		return run, fmt.Errorf("target %s: %w", p.label(), err)
	}
	return run, nil
}

func (p *peer) open(ctx context.Context, w *Workload) (t Target, err error) {
	switch p.at.Kind {
	case "raw":
		return OpenFio(p.at, p.cfg.Client[0])
	case "iscsi":
		if p.iscsi == nil {
			p.iscsi, err = OpenISCSI(ctx, p.at, p.cfg.Client[0])
		}
		return p.iscsi, err
	}
	return OpenRig(p.at, RigConfig{Cores: p.cfg.Client, Idle: p.cfg.ClientIdle, MemoryBytes: MemoryFor(w, len(p.cfg.Client))})
}

// watchOthers says afterwards which other targets used processor time.
func (p *peer) watchOthers() func() []ProcessFigures {
	var others []*peer
	for _, o := range p.others {
		if o.PID != 0 && o.PID != p.PID {
			others = append(others, o)
		}
	}
	times := func() (list []ProcessTime) {
		for _, o := range others {
			t, _ := ReadProcessTime(o.PID)
			t.Name = o.label()
			list = append(list, t)
		}
		return list
	}
	before, began := times(), reactor.Clock()
	return func() []ProcessFigures { return beside(before, times(), reactor.Clock()-began) }
}

// besidePercent of a core is what a target may use while another is measured.
const besidePercent = 5

// beside lists what used more than that.
func beside(before, after []ProcessTime, wall reactor.Ticks) (list []ProcessFigures) {
	for i, a := range after {
		used := 100 * seconds(a.User+a.System-before[i].User-before[i].System) / seconds(wall)
		if used > besidePercent {
			list = append(list, ProcessFigures{Name: a.Name, CPUPercent: used})
		}
	}
	return list
}

// fill writes every block once: or the rows would measure how memory is given at the first touch.
func (p *peer) fill(ctx context.Context) error {
	w := Workload{RW: "write", BlockBytes: 128 << 10, Depth: 8, Jobs: 1, Seed: 1}
	if _, err := p.Run(ctx, w, Options{Label: "filling " + p.label(), Reporter: p.cfg.Reporter}); err != nil {
		return err
	}
	p.filled = true
	return nil
}
