package ctl

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/iscsi"
	"github.com/pollux-storage/pollux/nvmf"
	"github.com/pollux-storage/pollux/nvmf/initiator"
	"github.com/pollux-storage/pollux/rdma"
	"github.com/pollux-storage/pollux/rdma/ibverbs"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/volume"
	"github.com/pollux-storage/pollux/wal"
)

// This file puts an engine together. No other place knows which part stands on which.

// EngineConfig says how an engine is made.
type EngineConfig struct {
	Reactors    reactor.Config
	MemoryLimit int64     // of the Go heap, in bytes; 0 is 256 MiB
	Server      uuid.UUID // of this server, in its pools: ServerID; without one there are none
	Boot        uuid.UUID // of the machine since it started; zero: as the kernel tells

	MapCacheBytes uint64 // for pages of volumes' maps, on each reactor; 0 is volume.DefaultCacheBytes
}

// Engine is everything that serves volumes in one process.
type Engine struct {
	Methods  *Registry
	Frame    *Frame
	Reactors *reactor.Group
	Bdevs    *bdev.Registry
	Target   *nvmf.Target
	ISCSI    *iscsi.Target
	Health   *Health
	Keyring  *Keyring
	Sock     *Sock
	Jobs     *Jobs
	// Initiator attaches namespaces of other targets.
	Initiator *initiator.Initiator

	began            time.Time
	bdevLog          *slog.Logger
	notes            *Notifications
	devices          deviceCalls
	arrivals         arrivals
	pools            pools
	scrubs           scrubs
	space            spaceWatch
	traces           traces
	cryptoKeys       cryptoKeys
	initiatorOptions initiatorOptions
	targetOptions    targetOptions
	kept             keptCalls
	depths           depths
	loading          chan struct{}   // has one in it while a configuration is loaded
	limiting         sync.Mutex      // held while a device's limits are changed
	draining         sync.Mutex      // held while a drain is begun
	life             context.Context // ends when the engine is being ended
	end              context.CancelFunc
}

// NewEngine starts the reactors and registers every method. The engine is in the startup state until Frame.Start.
func NewEngine(cfg EngineConfig, log *Log) (*Engine, error) {
	g, err := reactor.Start(cfg.Reactors)
	if err != nil {
		return nil, err
	}
	limit := cfg.MemoryLimit
	if limit == 0 {
		limit = 256 << 20
	}
	reactor.TuneRuntime(g.Len(), limit, os.Getenv)
	e := &Engine{Methods: NewRegistry(log.For("rpc")), Reactors: g, Bdevs: bdev.NewRegistry(g), Health: NewHealth(), began: time.Now(), bdevLog: log.For("bdev")}
	e.life, e.end = context.WithCancel(context.Background())
	e.loading = make(chan struct{}, 1)
	if e.Target, err = nvmf.NewTarget(e.Bdevs, log.For("nvmf")); err != nil {
		return nil, errors.Join(err, g.Stop(context.Background()))
	}
	e.Target.UseRDMA(ibverbs.Open)
	if e.ISCSI, err = iscsi.NewTarget(e.Bdevs, log.For("iscsi")); err != nil {
		return nil, errors.Join(err, g.Stop(context.Background()))
	}
	e.Frame = NewFrame(e.Methods, func(context.Context) error { return nil })
	RegisterLog(e.Methods, log)
	e.Keyring, e.Sock, e.notes = NewKeyring(e.Methods), NewSock(e.Methods, g, log.For("sock")), NewNotifications(e.Methods)
	e.Frame.Add(e.Keyring.Subsystem())
	e.Frame.Add(e.Sock.Subsystem())
	e.Jobs = NewJobs(e.Methods)
	registerWithoutEffect(e.Methods, &e.kept)
	registerScheduler(e.Methods, &e.kept, e.Target)
	e.kept.addParts(e.Frame)
	e.Initiator = initiator.New(e.Bdevs, log.For("initiator"))
	e.Initiator.UseRDMA(ibverbs.Open)
	e.registerFramework()
	e.registerPools(log.For("volume"), cfg)
	e.registerVolumes()
	e.registerScrubs()
	e.watchSpace()
	e.registerLvols()
	e.registerSnapshots()
	e.registerLvolTree()
	e.registerCrypto()
	e.registerDevices()
	e.registerLayers()
	e.registerRaid()
	e.registerInitiator()
	e.registerTarget()
	e.registerHosts()
	e.registerISCSI()
	e.registerDrain()
	e.registerTraces()
	logMemory(e.memory(), log.For("reactor"))
	return e, nil
}

// configObject is what an engine's health is about that has not got the whole of its configuration.
const configObject = "configuration"

// Configure loads a configuration and takes the engine to the runtime state. Where it is to wait for framework_start_init
// instead, what belongs to startup is loaded at once and the rest after that call. Hosts are served when all of it is there, and wait
// until then. It ends early when the engine is being ended.
func (e *Engine) Configure(ctx context.Context, c *api.Config, wait bool) error {
	ctx = withOrigin(ctx, "configuration "+c.Source, "", api.Admin)
	ctx, done, err := e.load(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := c.Check(methodNames(e.Methods.Specs(false))); err != nil {
		return err
	}
	e.Target.Hold() // before the runtime state, in which listeners can be added
	e.ISCSI.Hold()
	rest, err := c.Round(ctx, e.Methods, methodNames(e.Methods.Specs(true)))
	if err != nil {
		return err
	}
	e.Frame.Then(func(asked context.Context) error {
		ctx := asked
		if wait { // who asked may leave before all of it is there, which is no reason to go on with a part
			var done func()
			var err error
			if ctx, done, err = e.load(context.WithoutCancel(asked)); err != nil {
				return err
			}
			defer done()
		}
		_, err := rest.Round(ctx, e.Methods, methodNames(e.Methods.Specs(true)))
		if err != nil && wait {
			const mend = "hosts are not served; make the calls that are missing, then engine_undrain"
			e.Health.Report(configObject, HealthFailed, fmt.Sprintf("%v; %s", err, mend), time.Now())
			err = fmt.Errorf("%w; %s", err, mend)
		}
		if err != nil {
			return err
		}
		return e.serveHosts()
	})
	if wait {
		return nil
	}
	return e.Frame.Start(ctx)
}

// serveHosts lets hosts come to both targets, those first that wait.
func (e *Engine) serveHosts() error { return errors.Join(e.Target.Serve(), e.ISCSI.Serve()) }

var errEnding = errors.New("loading the configuration: the engine is being ended")

// load begins the loading of a configuration, whose calls end with the engine.
func (e *Engine) load(ctx context.Context) (_ context.Context, done func(), err error) {
	select {
	case e.loading <- struct{}{}:
	case <-e.life.Done():
		return nil, nil, errEnding
	}
	if e.life.Err() != nil {
		<-e.loading
		return nil, nil, errEnding
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(e.life, cancel)
	return ctx, func() {
		stop()
		cancel()
		<-e.loading
	}, nil
}

// loaded waits until no configuration is being loaded. The engine is being ended, so no other is.
func (e *Engine) loaded(ctx context.Context) error {
	select {
	case e.loading <- struct{}{}:
		<-e.loading
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for a call of the configuration that does not end: %w", ctx.Err())
	}
}

// Metrics are the engine's metrics, to be served.
func (e *Engine) Metrics() *Metrics {
	m := NewMetrics()
	m.Add(engineMetrics{e})
	m.Add(volumeMetrics{e})
	m.Add(rdmaMetrics{e})
	return m
}

// endLimit is how much of its time the end of the engine gives to one thing that does not end, so that the others end in order.
const endLimit = 10 * time.Second

// Close ends the engine: a configuration that is being loaded and long work are cancelled, no connection is accepted any more, what is in flight ends, then the devices are closed,
// volumes before the pools that they stand on and pools before their devices, and the reactors stop. It says what it had to leave behind
// if ctx ends first, or if a device does not answer: then what stands on it stays, and all else ends in order.
func (e *Engine) Close(ctx context.Context) error {
	e.end()
	e.scrubs.close()
	e.space.close()
	e.traces.close()
	var err error
	for _, end := range []func(context.Context) error{e.loaded, e.Jobs.Close, e.stopTargets, e.pools.stop} {
		some, cancel := context.WithTimeout(ctx, endLimit)
		err = errors.Join(err, end(some))
		cancel()
	}
	err = errors.Join(err, e.closeDevices(ctx))
	if err == nil {
		err = e.Reactors.Stop(ctx)
	}
	if err != nil {
		return fmt.Errorf("ending the engine: %w", err)
	}
	return nil
}

// stopTargets ends both targets side by side: one that has to wait for a device takes no time from the other.
func (e *Engine) stopTargets(ctx context.Context) error {
	other := make(chan error, 1)
	go func() { other <- e.ISCSI.Stop(ctx) }()
	return errors.Join(e.Target.Stop(ctx), <-other)
}

// closeDevices removes every device, those that stand on others first. What cannot be removed stays, with what it stands on.
func (e *Engine) closeDevices(ctx context.Context) error {
	var all error
	left := map[string]bool{}
	for {
		var top *bdev.Device
		for _, d := range e.Bdevs.Devices() {
			if !left[d.Name()] && (top == nil || d.Layers() > top.Layers()) {
				top = d
			}
		}
		if top == nil {
			break
		}
		if err := e.closeDevice(ctx, top); err != nil {
			all = errors.Join(all, err)
			e.leave(top, left)
		}
	}
	if all != nil {
		return all
	}
	for _, c := range e.Initiator.Controllers() { // those without a namespace
		if err := e.Initiator.Detach(ctx, c.Name); err != nil && !errors.Is(err, bdev.ErrNotFound) {
			return err
		}
	}
	return e.Initiator.Close(ctx)
}

// closeDevice removes a device on which none stands any more. With a volume its pool is closed.
func (e *Engine) closeDevice(ctx context.Context, d *bdev.Device) error {
	p := e.pools.on(d.Name())
	if p == nil {
		p = e.pools.of(d)
	}
	if p != nil {
		return e.pools.export(ctx, p)
	}
	ctx, cancel := context.WithTimeout(ctx, endLimit)
	defer cancel()
	var err error
	if controller := e.controllerOf(d.Name()); controller != "" {
		err = e.Initiator.Detach(ctx, controller) // with all its devices
	} else {
		err = e.Bdevs.Unregister(ctx, d.Name())
	}
	if errors.Is(err, bdev.ErrNotFound) {
		return nil
	}
	return err
}

// leave notes a device that could not be removed, and those on which it stands.
func (e *Engine) leave(d *bdev.Device, left map[string]bool) {
	left[d.Name()] = true
	p := e.pools.of(d)
	if p == nil {
		p = e.pools.on(d.Name())
	}
	if p == nil {
		if b, ok := d.Driver().(interface{ Base() *bdev.Device }); ok {
			e.leave(b.Base(), left)
		}
		return
	}
	e.pools.forget(func(o *openPool) bool { return o == p })
	for _, v := range p.Volumes() {
		left[v.Device().Name()] = true
		snapshots, err := v.Snapshots()
		for i := range snapshots {
			if s := snapshots[i].Device; err == nil && s != nil {
				left[s.Name()] = true
			}
		}
	}
	for _, name := range []string{p.device, p.logs} {
		if b, err := e.Bdevs.Lookup(name); err == nil {
			e.leave(b, left)
		}
	}
}

// codeOf gives an error of the engine's parts the code that SPDK's tools expect.
func codeOf(err error) error {
	if err == nil {
		return nil
	}
	var coded *api.Error
	if errors.As(err, &coded) {
		return err
	}
	for _, m := range errorCodes {
		if errors.Is(err, m.is) {
			e := &api.Error{Code: m.code, Message: err.Error()}
			if m.reason != "" {
				e.Data = &api.Data{Reason: m.reason}
			}
			return e
		}
	}
	return err
}

// errorCodes: of a device a negative errno, of the targets invalid parameters, as SPDK answers.
var errorCodes = []struct {
	is     error
	code   int
	reason string
}{
	{volume.ErrSnapshotExists, -17, "ErrSnapshotExists"}, {volume.ErrSnapshotNotFound, -19, "ErrSnapshotNotFound"},
	{volume.ErrSnapshotInUse, -16, "ErrSnapshotInUse"}, {volume.ErrNotPrimary, -22, "ErrNotPrimary"},
	{volume.ErrNewerSnapshots, -16, "ErrNewerSnapshots"}, {volume.ErrAttached, -16, "ErrAttached"}, {volume.ErrNoHistory, -22, "ErrNoHistory"},
	{volume.ErrPoolForeign, -13, "ErrPoolForeign"}, {volume.ErrPoolInUse, -16, "ErrPoolInUse"}, {volume.ErrPoolCorrupt, -117, "ErrPoolCorrupt"},
	{volume.ErrVersion, -95, "ErrVersion"}, {volume.ErrPoolGone, -19, ""}, {volume.ErrStuck, -110, "ErrStuck"}, {volume.ErrExists, -17, ""},
	{volume.ErrShrink, -22, "ErrShrink"},
	{volume.ErrInvalid, -22, ""}, {volume.ErrName, -22, ""}, {volume.ErrNoSpace, -28, ""}, {volume.ErrLimit, -28, ""},
	{volume.ErrLogMissing, -19, "ErrLogMissing"}, {volume.ErrTransition, -22, "ErrTransition"},
	{volume.ErrEpochRegression, -22, "ErrEpochRegression"}, {volume.ErrDrainTimeout, -16, "ErrDrainTimeout"}, {volume.ErrBusy, -16, ""}, {wal.ErrLogTooSmall, -22, "ErrLogTooSmall"},
	{bdev.ErrNotFound, -19, ""}, {bdev.ErrExists, -17, ""}, {bdev.ErrClaimed, -16, ""}, {bdev.ErrBusy, -16, ""}, {bdev.ErrInvalid, -22, ""},
	{nvmf.ErrNotFound, api.CodeInvalidParams, ""}, {nvmf.ErrExists, api.CodeInvalidParams, ""}, {nvmf.ErrInvalid, api.CodeInvalidParams, ""},
	{iscsi.ErrNotFound, api.CodeInvalidParams, ""}, {iscsi.ErrExists, api.CodeInvalidParams, ""}, {iscsi.ErrInvalid, api.CodeInvalidParams, ""}, {iscsi.ErrInUse, -16, ""},
	{nvmf.ErrInUse, -16, ""}, {nvmf.ErrMoveTime, -110, ""}, {rdma.ErrUnavailable, -95, ""}, {os.ErrNotExist, -2, ""}, {os.ErrPermission, -13, ""},
}
