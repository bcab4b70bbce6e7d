package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/nvmf/initiator"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file measures an engine that has nothing to do: with one file served, and with a pool of volumes to each of which a host is
// attached. The hosts are in a process of their own, whose time is counted apart.

// idleVolumes is how many volumes the pool has, idleVolumeBytes the size of each; they stay empty.
const (
	idleVolumes     = 16
	idleVolumeBytes = 1 << 30
)

func (s *suite) idle(ctx context.Context) error {
	path := filepath.Join(s.work, "disk0")
	if err := s.fill(ctx, path); err != nil {
		return err
	}
	for _, policy := range []reactor.Idle{reactor.Poll, reactor.Adaptive, reactor.Interrupt} {
		err := s.engine(ctx, policy, func(e *Engine) error {
			remote, err := s.remote(e, TargetSpec{Kind: "uring", Path: path})
			if err != nil {
				return err
			}
			defer func() { _ = remote.Close() }()
			return s.idleRow(ctx, e, 0, IdleRow{What: "engine, one file served, one host attached", Idle: policy.String()})
		})
		if err != nil {
			return err
		}
	}
	for _, policy := range []reactor.Idle{reactor.Adaptive, reactor.Interrupt} {
		if err := s.engine(ctx, policy, func(e *Engine) error { return s.idleVolumes(ctx, e, policy) }); err != nil {
			return err
		}
	}
	return nil
}

// idleVolumes measures an engine with a pool of volumes.
func (s *suite) idleVolumes(ctx context.Context, e *Engine, policy reactor.Idle) error {
	path := filepath.Join(s.work, "idle")
	if err := sparse(path, idleVolumes*2*wal.DefaultBytes+poolHeadroom); err != nil {
		return err
	}
	defer os.Remove(path)
	hosts, err := e.servePool(path, idleVolumes)
	if err != nil {
		return err
	}
	cmd, lines, err := s.child(ctx, &ChildTask{Core: s.cfg.ClientCore, Attach: &AttachTask{Hosts: hosts}})
	if err != nil {
		return err
	}
	var attached int
	if err = lines.Decode(&attached); err == nil {
		err = s.idleRow(ctx, e, cmd.Process.Pid, IdleRow{What: fmt.Sprintf("engine, pool of %d volumes, a host attached to each", attached), Idle: policy.String()})
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	return errors.Join(err, cmd.Wait())
}

// servePool makes a pool of a file with volumes in it, and gives the address of each.
func (e *Engine) servePool(path string, volumes int) (at []TargetSpec, err error) {
	err = errors.Join(
		e.call(api.BdevUringCreate.Name, api.BdevUringCreateParams{Name: "pool0", Filename: path}),
		e.call(api.PoolCreate.Name, api.PoolCreateParams{Name: "bench", Device: "pool0"}))
	for i := 0; i < volumes && err == nil; i++ {
		name := "volume" + strconv.Itoa(i)
		if err = e.call(api.VolumeCreate.Name, api.VolumeCreateParams{Pool: "bench", Name: name, Bytes: idleVolumeBytes}); err != nil {
			break
		}
		var one TargetSpec
		one, err = e.export("bench/"+name, name)
		at = append(at, one)
	}
	if err != nil {
		return nil, fmt.Errorf("serving a pool of %d volumes: %w", volumes, err)
	}
	return at, nil
}

// idleRow measures for as long as the suite is told. hosts is the process of the hosts, 0 if it is this one.
func (s *suite) idleRow(ctx context.Context, e *Engine, hosts int, row IdleRow) error {
	var at [2]idleness
	for i := range at {
		if i > 0 {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(time.Duration(s.cfg.Idle * float64(time.Second))):
			}
		}
		var err error
		if at[i], err = idlenessOf(ctx, e, hosts); err != nil {
			return err
		}
	}
	a, b := &at[0], &at[1]
	row.Seconds = seconds(b.at - a.at)
	rate := func(x float64) float64 { return x / row.Seconds }
	row.CPUPercent, row.HostCPUPercent = rate(100*seconds(b.engine-a.engine)), rate(100*seconds(b.hosts-a.hosts))
	row.WakesPerSecond, row.SleepsPerSecond = rate(float64(b.wakes-a.wakes)), rate(float64(b.sleeps-a.sleeps))
	s.report.Idle = append(s.report.Idle, row)
	return nil
}

// idleness is what processes that do nothing have used up to a moment.
type idleness struct {
	at            reactor.Ticks
	engine, hosts reactor.Ticks // processor time
	wakes, sleeps uint64        // of the engine's threads, of its reactors
}

func idlenessOf(ctx context.Context, e *Engine, hosts int) (i idleness, err error) {
	list, err := e.Reactors(ctx) // before the clocks: the question itself wakes a reactor
	if err != nil {
		return i, err
	}
	for _, r := range list {
		i.sleeps += r.Sleeps
	}
	of, err := ReadProcessTime(e.PID())
	if err != nil {
		return i, err
	}
	i.engine = of.User + of.System
	if hosts != 0 {
		if of, err = ReadProcessTime(hosts); err != nil {
			return i, err
		}
		i.hosts = of.User + of.System
	}
	i.wakes, err = readWakes(e.PID())
	i.at = reactor.Clock()
	return i, err
}

// readWakes counts how often threads of a process gave up their cores by themselves, and ran again later: proc_pid_status(5). Threads that have ended
// are not counted any more.
func readWakes(pid int) (sum uint64, err error) {
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0, err
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if os.IsNotExist(err) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return 0, fmt.Errorf("counting the wake-ups of process %d: %w", pid, err)
		}
		n, err := parseWakes(b)
		if err != nil {
			return 0, fmt.Errorf("counting the wake-ups of process %d: %w", pid, err)
		}
		sum += n
	}
	return sum, nil
}

func parseWakes(status []byte) (uint64, error) {
	for line := range bytes.Lines(status) {
		if text, ok := strings.CutPrefix(string(line), "voluntary_ctxt_switches:"); ok {
			return strconv.ParseUint(strings.TrimSpace(text), 10, 64)
		}
	}
	return 0, errors.New("a status of /proc has no line voluntary_ctxt_switches")
}

// AttachTask is hosts that are attached, and have nothing to do.
type AttachTask struct {
	Hosts []TargetSpec
}

// keepAlive is what Linux asks for (its NVME_DEFAULT_KATO), in seconds.
const keepAlive = 5 * time.Second

// run attaches, says how many there are, and waits to be told to end.
func (t *AttachTask) run(ctx context.Context, core int, out io.Writer) (err error) {
	g, err := reactor.Start(reactor.Config{Cores: []int{core}, Idle: reactor.Interrupt})
	if err != nil {
		return err
	}
	reg := bdev.NewRegistry(g)
	hosts := initiator.New(reg, slog.New(slog.DiscardHandler))
	var handles []*bdev.Handle
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), attachMax)
		defer cancel()
		for i, h := range handles {
			h.Close()
			err = errors.Join(err, hosts.Detach(ctx, controllerName+strconv.Itoa(i)))
		}
		err = errors.Join(err, g.Stop(ctx))
	}()
	for i, at := range t.Hosts {
		o := at.Remote
		o.Name, o.KeepAlive = controllerName+strconv.Itoa(i), keepAlive
		limited, cancel := context.WithTimeout(ctx, attachMax)
		names, err := hosts.Attach(limited, o)
		cancel()
		if err != nil {
			return err
		}
		if len(names) != 1 {
			return fmt.Errorf("subsystem %s has %d namespaces, one is expected", o.SubNQN, len(names))
		}
		h, err := reg.Open(names[0], bdev.OpenOptions{Who: "bench"})
		if err != nil {
			return err
		}
		handles = append(handles, h)
	}
	if err := json.NewEncoder(out).Encode(len(handles)); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
