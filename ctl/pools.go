package ctl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/volume"
)

// This file is the pools of an engine. They stand in no saved configuration: every device that comes is looked through for one, as far
// as bdev_set_options does not switch that off, and one that is this server's is opened with its volumes.

// pools are those that are open.
type pools struct {
	e      *Engine
	log    *slog.Logger
	server uuid.UUID
	boot   uuid.UUID
	limit  time.Duration    // of a device that does not answer while its pool is being closed; 0: as package volume has it
	openly time.Duration    // and while one is made or opened
	cache  *volume.MapCache // of all of them

	opening sync.Mutex // held while one is made or opened, so that no name comes twice
	mu      sync.Mutex
	open    []*openPool
	manual  bool // devices are examined when asked
	stopped bool
	running int           // examinations
	quiet   chan struct{} // closed when none runs, if somebody waits
}

type openPool struct {
	*volume.Pool
	device string
	logs   string // device with its logs, "" if they are in the pool
}

// standsOn says whether the pool needs a device.
func (p *openPool) standsOn(device string) bool { return p.device == device || p.logs == device }

// registerPools registers the methods of this file.
func (e *Engine) registerPools(log *slog.Logger, cfg EngineConfig) {
	ps := &e.pools
	ps.e, ps.log, ps.server, ps.boot = e, log, cfg.Server, cfg.Boot
	if ps.boot == uuid.Nil {
		ps.boot = bootID(bootFile)
	}
	ps.cache = volume.NewMapCache(cfg.MapCacheBytes)
	e.Bdevs.Watch(func(ev bdev.Event) {
		switch ev.Kind {
		case bdev.Registered:
			if ps.begin(ev.Device) {
				go ps.examineNew(ev.Device)
			}
		case bdev.Unregistered:
			ps.forget(func(p *openPool) bool { return p.standsOn(ev.Device.Name()) })
			ps.report(ev.Device.Name(), nil)
		}
	})
	r := e.Methods
	keep(r, &e.kept, api.BdevSetOptions, func(p *api.BdevSetOptionsParams) error {
		ps.mu.Lock()
		defer ps.mu.Unlock()
		ps.manual = p.BdevAutoExamine != nil && !*p.BdevAutoExamine
		return nil
	})
	RegisterDo(r, api.BdevWaitForExamine, func(ctx context.Context, _ *api.None) error { return ps.wait(ctx) })
	RegisterDo(r, api.BdevExamine, func(_ context.Context, p *api.BdevNameParams) error {
		d, err := e.Bdevs.Lookup(p.Name)
		if err != nil {
			return codeOf(err)
		}
		return codeOf(ps.examine(d))
	})

	Register(r, api.PoolCreate, func(_ context.Context, p *api.PoolCreateParams) (api.Pool, error) {
		pool, err := ps.create(p)
		if err != nil {
			return api.Pool{}, codeOf(err)
		}
		return describePool(pool)
	})
	Register(r, api.PoolList, func(_ context.Context, p *api.PoolListParams) ([]api.Pool, error) {
		list := ps.list()
		if p.Name != "" {
			one, err := ps.find(p.Name)
			if err != nil {
				return nil, err
			}
			list = []*openPool{one}
		}
		out := []api.Pool{}
		for _, p := range list {
			a, err := describePool(p)
			if err != nil {
				return nil, codeOf(err)
			}
			out = append(out, a)
		}
		return out, nil
	})
	Register(r, api.PoolImport, func(_ context.Context, p *api.PoolImportParams) (api.JobStarted, error) {
		d, err := e.Bdevs.Lookup(p.Device)
		if err != nil {
			return api.JobStarted{}, codeOf(err)
		}
		return e.Jobs.Start(api.Job{Method: api.PoolImport.Name, Object: d.Name()}, func(context.Context, Progress) error {
			_, err := ps.load(d.Name(), volume.PoolConfig{TakeOver: p.TakeOver, LogDevice: p.LogDevice, AcceptLogLoss: p.AcceptLogLoss, DeleteDamaged: p.DeleteDamaged})
			return err
		})
	})
	Register(r, api.PoolExport, func(_ context.Context, p *api.PoolParams) (api.JobStarted, error) {
		pool, err := ps.find(p.Name)
		if err != nil {
			return api.JobStarted{}, err
		}
		return e.Jobs.Start(api.Job{Method: api.PoolExport.Name, Object: pool.Name()}, func(ctx context.Context, _ Progress) error {
			return ps.export(ctx, pool)
		})
	})
	Register(r, api.PoolDelete, func(_ context.Context, p *api.PoolParams) (api.JobStarted, error) {
		pool, err := ps.find(p.Name)
		if err != nil {
			return api.JobStarted{}, err
		}
		return e.Jobs.Start(api.Job{Method: api.PoolDelete.Name, Object: pool.Name()}, func(ctx context.Context, _ Progress) error {
			return ps.destroy(ctx, pool)
		})
	})
	RegisterDo(r, api.PoolRename, func(_ context.Context, p *api.PoolRenameParams) error {
		pool, err := ps.find(p.Name)
		if err != nil {
			return err
		}
		return codeOf(ps.rename(pool, p.NewName))
	})
	Register(r, api.PoolGrow, func(_ context.Context, p *api.PoolParams) (api.Pool, error) {
		pool, err := ps.find(p.Name)
		if err != nil {
			return api.Pool{}, err
		}
		if err := pool.Grow(); err != nil {
			return api.Pool{}, codeOf(err)
		}
		return describePool(pool)
	})
}

// list gives those that are open, in the order in which they were opened.
func (ps *pools) list() []*openPool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return slices.Clone(ps.open)
}

// find finds one by its name or UUID.
func (ps *pools) find(name string) (*openPool, error) {
	for _, p := range ps.list() {
		if p.Name() == name || p.ID().String() == name {
			return p, nil
		}
	}
	return nil, api.Errno(19, "there is no pool %q; pool_list lists those that are open", name)
}

// on finds the pool on a device.
func (ps *pools) on(device string) *openPool {
	for _, p := range ps.list() {
		if p.device == device {
			return p
		}
	}
	return nil
}

// of finds the pool of a volume or a snapshot, nil if the device is neither.
func (ps *pools) of(d *bdev.Device) *openPool {
	var pool *volume.Pool
	switch x := d.Driver().(type) {
	case *volume.Volume:
		pool = x.Pool()
	case *volume.SnapshotDevice:
		pool = x.Volume().Pool()
	}
	for _, p := range ps.list() {
		if p.Pool == pool {
			return p
		}
	}
	return nil
}

func (ps *pools) forget(gone func(p *openPool) bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.open = slices.DeleteFunc(ps.open, gone)
}

// add makes a pool known; opening is held.
func (ps *pools) add(p *volume.Pool, device string) (*openPool, error) {
	o := &openPool{p, device, p.LogDeviceName()}
	ps.mu.Lock()
	ps.open = append(ps.open, o)
	ps.mu.Unlock()
	for _, name := range []string{o.device, o.logs} {
		if name == "" {
			continue
		}
		if _, err := ps.e.Bdevs.Lookup(name); err != nil { // it went meanwhile, and took the pool with it
			ps.forget(func(p *openPool) bool { return p == o })
			return nil, err
		}
	}
	return o, nil
}

func (ps *pools) config() (volume.PoolConfig, error) {
	if ps.server == uuid.Nil {
		return volume.PoolConfig{}, api.Errno(22, "this server has no id, which its pools need: /etc/machine-id has none; give serve a --state directory")
	}
	cfg := ps.limits()
	cfg.Server, cfg.Boot, cfg.Cache, cfg.Found, cfg.HomeFailed = ps.server, ps.boot, ps.cache, ps.found, ps.homeFailed
	return cfg, nil
}

// limits are how long devices that do not answer are waited for. When the engine ends, that is not longer than while a pool is closed.
func (ps *pools) limits() volume.PoolConfig {
	return volume.PoolConfig{CloseLimit: ps.limit, OpenLimit: ps.openly, Ending: ps.e.life.Done()}
}

// create makes a pool, or gives the one that was asked for before.
func (ps *pools) create(p *api.PoolCreateParams) (*openPool, error) {
	d, err := ps.e.Bdevs.Lookup(p.Device)
	if err != nil {
		return nil, err
	}
	ps.opening.Lock()
	defer ps.opening.Unlock()
	if old, err := ps.find(p.Name); err == nil {
		if old.device == d.Name() {
			return ps.same(old, p)
		}
		return nil, api.Errno(17, "creating pool %s on %s: there is one of that name on %s", p.Name, d.Name(), old.device)
	}
	cfg, err := ps.config()
	if err != nil {
		return nil, err
	}
	if !p.Force {
		for _, name := range []string{d.Name(), p.LogDevice} {
			if name == "" {
				continue
			}
			x, err := volume.Examine(ps.e.Bdevs, name, ps.limits())
			if err != nil {
				return nil, err
			}
			if x.Pool {
				return nil, api.Errno(17, "creating pool %s on %s: there is a pool already; import it with pool_import, or lose it and give force", p.Name, name)
			}
			if x.Logs {
				return nil, api.Errno(17, "creating pool %s on %s: the logs of pool %v are there; if that pool is gone for good, give force", p.Name, name, x.PoolID)
			}
		}
	}
	cfg.Name, cfg.ClusterBytes, cfg.LogDevice = p.Name, p.ClusterBytes, p.LogDevice
	pool, err := volume.CreatePool(ps.e.Bdevs, d.Name(), cfg)
	if err != nil {
		return nil, err
	}
	return ps.add(pool, d.Name())
}

// same gives a pool that is asked for again, if it is as it would have been made.
func (ps *pools) same(old *openPool, p *api.PoolCreateParams) (*openPool, error) {
	logs := p.LogDevice
	if logs != "" {
		d, err := ps.e.Bdevs.Lookup(logs)
		if err != nil {
			return nil, err
		}
		logs = d.Name()
	}
	if c := p.ClusterBytes; c != 0 && c != old.ClusterBytes() || logs != old.logs {
		return nil, api.Errno(17, "creating pool %s on %s: it is there, with clusters of %d bytes and log device %q", p.Name, old.device, old.ClusterBytes(), old.logs)
	}
	return old, nil
}

// load opens the pool on a device, or gives it if it is open. with says how.
func (ps *pools) load(device string, with volume.PoolConfig) (*openPool, error) {
	ps.opening.Lock()
	defer ps.opening.Unlock()
	if p := ps.on(device); p != nil {
		return p, nil
	}
	cfg, err := ps.config()
	if err != nil {
		return nil, err
	}
	cfg.TakeOver, cfg.LogDevice, cfg.AcceptLogLoss, cfg.DeleteDamaged = with.TakeOver, with.LogDevice, with.AcceptLogLoss, with.DeleteDamaged
	pool, err := volume.ImportPool(ps.e.Bdevs, device, cfg)
	if err != nil {
		return nil, err
	}
	if _, err := ps.find(pool.Name()); err == nil {
		err := fmt.Errorf("importing the pool on %s: a pool of the name %s is open; rename that one first: %w", device, pool.Name(), volume.ErrExists)
		return nil, errors.Join(err, pool.Export(context.Background()))
	}
	ps.report(device, nil)
	if i, err := pool.Info(); err == nil {
		for _, problem := range i.Problems {
			ps.log.Warn("the pool was opened with a problem", "pool", i.Name, "device", device, "problem", problem)
		}
	}
	return ps.add(pool, device)
}

// report says in the engine's health that the pool on a device could not be opened, or that there is nothing to say of it.
func (ps *pools) report(device string, err error) {
	if err != nil {
		ps.e.Health.Report("pool on "+device, HealthDegraded, err.Error(), time.Now())
		return
	}
	ps.e.Health.Report("pool on "+device, HealthOK, "", time.Now())
}

// export closes a pool in order.
func (ps *pools) export(ctx context.Context, p *openPool) error {
	if err := p.Export(ctx); err != nil {
		return err
	}
	ps.forget(func(o *openPool) bool { return o == p })
	return nil
}

func (ps *pools) destroy(ctx context.Context, p *openPool) error {
	if err := p.Destroy(ctx); err != nil {
		return err
	}
	ps.forget(func(o *openPool) bool { return o == p })
	return nil
}

func (ps *pools) rename(p *openPool, to string) error {
	ps.opening.Lock()
	defer ps.opening.Unlock()
	if old, err := ps.find(to); err == nil && old != p {
		return api.Errno(17, "renaming pool %s to %s: there is one of that name on %s", p.Name(), to, old.device)
	}
	return p.Rename(to)
}

// begin counts an examination, if this device is to be examined.
func (ps *pools) begin(d *bdev.Device) bool {
	switch d.Driver().(type) {
	case *volume.Volume, *volume.SnapshotDevice:
		return false
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.manual || ps.stopped {
		return false
	}
	ps.running++
	return true
}

func (ps *pools) end() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.running--; ps.running == 0 && ps.quiet != nil {
		close(ps.quiet)
		ps.quiet = nil
	}
}

// wait waits until no examination runs.
func (ps *pools) wait(ctx context.Context) error {
	ps.mu.Lock()
	if ps.running == 0 {
		ps.mu.Unlock()
		return nil
	}
	if ps.quiet == nil {
		ps.quiet = make(chan struct{})
	}
	quiet := ps.quiet
	ps.mu.Unlock()
	select {
	case <-quiet:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting until every device is looked through: %w", ctx.Err())
	}
}

// stop lets no more be examined, and waits for what runs.
func (ps *pools) stop(ctx context.Context) error {
	ps.mu.Lock()
	ps.stopped = true
	ps.mu.Unlock()
	return ps.wait(ctx)
}

func (ps *pools) examineNew(d *bdev.Device) {
	defer ps.end()
	err := ps.examine(d)
	if err == nil || errors.Is(err, bdev.ErrNotFound) || errors.Is(err, volume.ErrPoolInUse) {
		return // the device is somebody's, or is gone
	}
	ps.opening.Lock()
	defer ps.opening.Unlock()
	if ps.on(d.Name()) != nil {
		return // its log device came meanwhile
	}
	ps.log.Warn("a pool was found and is not open", "device", d.Name(), "error", err)
	ps.report(d.Name(), err)
}

// examine opens the pool on a device, if there is one; or, if the logs of one are there, that pool, if its own device has come: whichever
// of the two comes last.
func (ps *pools) examine(d *bdev.Device) error {
	if d.Claim() != "" || d.Geometry().ReadOnly {
		return nil
	}
	found, err := volume.Examine(ps.e.Bdevs, d.Name(), ps.limits())
	if errors.Is(err, volume.ErrStuck) {
		return err
	}
	if err != nil {
		return nil //nolint:nilerr // a device that cannot be read has no pool that could be opened
	}
	device := ""
	switch {
	case found.Pool:
		device = d.Name()
	case found.Logs:
		device = volume.PoolOfLogs(ps.e.Bdevs, found, ps.limits())
	}
	if device == "" {
		return nil
	}
	p, err := ps.load(device, volume.PoolConfig{})
	if err != nil {
		return err
	}
	ps.log.Info("pool opened", "pool", p.Name(), "device", device, "log_device", p.logs, "volumes", len(p.Volumes()))
	return nil
}

// configOf adds to the calls that make devices those that wait until the pools on them are open: later calls name their volumes.
func (ps *pools) configOf(calls []deviceCall) []api.ConfigCall {
	bears := map[string]bool{}
	needs := map[string]string{} // of two devices of a pool the other one
	for _, p := range ps.list() {
		bears[p.device] = true
		if p.logs != "" {
			bears[p.logs] = true
			needs[p.device], needs[p.logs] = p.logs, p.device
		}
	}
	ps.mu.Lock()
	manual := ps.manual
	ps.mu.Unlock()
	var out []api.ConfigCall
	for _, c := range calls {
		out = append(out, c.call)
		if !bears[c.device] {
			continue
		}
		if manual && bears[needs[c.device]] {
			delete(bears, c.device)
			continue // when the other one is there too
		}
		if manual {
			out = append(out, api.BdevExamine.Config(api.BdevNameParams{Name: c.device}))
		} else {
			out = append(out, api.BdevWaitForExamine.Config(api.None{}))
		}
		delete(bears, c.device)
	}
	// What is left stands on parts of a device or on devices of another target, which come before: they are waited for with the first.
	if len(bears) > 0 && !manual {
		out = append([]api.ConfigCall{api.BdevWaitForExamine.Config(api.None{})}, append(out, api.BdevWaitForExamine.Config(api.None{}))...)
	}
	return out
}

func describePool(p *openPool) (api.Pool, error) {
	i, err := p.Info()
	if err != nil {
		return api.Pool{}, err
	}
	var in volume.PoolHealthInput
	for _, v := range p.Volumes() {
		if one, err := v.Info(); err == nil {
			in.Volumes = append(in.Volumes, one.Health(time.Now()))
		}
	}
	for _, d := range i.Damaged {
		in.Volumes = append(in.Volumes, d.Health())
	}
	in.Fill, in.Problems = i.Fill, i.Problems
	h := in.Health()
	free := i.Space.Free - min(i.Space.Free, i.Space.Reserved)
	return api.Pool{
		Name: i.Name, UUID: i.UUID.String(), Device: i.Device, Bytes: i.Space.Total * volume.PageBytes, FreeBytes: free * volume.PageBytes,
		ReservedBytes: i.Space.Reserved * volume.PageBytes,
		RestingBytes:  i.Space.Resting * volume.PageBytes, ClusterBytes: i.ClusterBytes, Clusters: i.Clusters, FreeClusters: i.ClustersFree,
		GrowableBytes: (i.ClustersAfter - min(i.ClustersAfter, i.Clusters)) * i.ClusterBytes, Fill: i.Fill.String(), Volumes: uint32(i.Volumes),
		LogDevice: i.LogDevice, LogBytes: i.LogBytes, LogFreeBytes: i.LogBytesFree, Commits: i.Commits, Problems: i.Problems,
		State: h.State.String(), Score: h.Score, Reasons: h.Reasons,
	}, nil
}
