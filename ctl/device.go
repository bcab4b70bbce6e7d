package ctl

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/volume"
)

// This file is the methods about devices.

// deviceCalls are the calls that made the present devices, in their order: what a configuration is saved as.
type deviceCalls struct {
	mu    sync.Mutex
	calls []deviceCall
	next  int // for names that are made up
}

type deviceCall struct {
	device string
	call   api.ConfigCall
}

func (d *deviceCalls) made(device string, c api.ConfigCall) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, deviceCall{device, c})
}

// changed replaces the call that made a device.
func (d *deviceCalls) changed(device string, change func(c *api.ConfigCall)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.calls {
		if d.calls[i].device == device {
			change(&d.calls[i].call)
		}
	}
}

func (d *deviceCalls) gone(device string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = slices.DeleteFunc(d.calls, func(c deviceCall) bool { return c.device == device })
}

func (d *deviceCalls) list() []deviceCall {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

// registerDevices registers the methods of this file.
func (e *Engine) registerDevices() {
	r := e.Methods
	e.Bdevs.Watch(func(ev bdev.Event) {
		switch ev.Kind {
		case bdev.Registered:
			e.notes.Add(NotifyBdevRegister, ev.Device.Name())
			e.arrivals.tell()
		case bdev.Resized:
			e.notes.Add(NotifyBdevResize, ev.Device.Name())
		case bdev.Unregistered:
			e.notes.Add(NotifyBdevUnregister, ev.Device.Name())
			e.devices.gone(ev.Device.Name())
			e.devices.gone(splitCall(ev.Device.Name()))
			e.depths.set(ev.Device, 0)
		}
	})
	Register(r, api.BdevGetBdevs, e.getBdevs)
	Register(r, api.BdevGetIostat, e.getIostat)
	RegisterDo(r, api.BdevResetIostat, e.resetIostat)
	RegisterDo(r, api.BdevSetQDSamplingPeriod, e.sampleDepth)
	Register(r, api.ThreadGetIOChannels, e.getChannels)
	Register(r, api.EngineGetLatency, e.getLatency)
	e.registerHistograms()

	makes(e, api.BdevMallocCreate, func(p *api.BdevMallocCreateParams) (*bdev.Device, error) {
		if p.Name == "" {
			p.Name = e.devices.name("Malloc")
		}
		if err := refuseMetadata(p.Name, p.Metadata); err != nil {
			return nil, err
		}
		if p.NUMAID != nil && *p.NUMAID != -1 {
			return nil, unsupported("creating %s: memory of node %d cannot be asked for; leave numa_id at -1", p.Name, *p.NUMAID)
		}
		if p.MDInterleave {
			return nil, unsupported("creating %s: there is no metadata to interleave; leave md_interleave false", p.Name)
		}
		return bdev.NewMem(e.Bdevs, p.Name, parseUUID(p.UUID), p.BlockSize, p.NumBlocks, bdev.Hints{PhysicalBlockSize: p.PhysicalBlockSize, OptimalBlocks: p.OptimalIOBoundary})
	})
	makes(e, api.BdevNullCreate, func(p *api.BdevNullCreateParams) (*bdev.Device, error) {
		if err := refuseMetadata(p.Name, p.Metadata); err != nil {
			return nil, err
		}
		if p.PreferredWriteGranularity|p.PreferredWriteAlignment|p.PreferredUnmapGranularity|p.PreferredUnmapAlignment != 0 {
			return nil, unsupported("creating %s: preferred granularities and alignments are not told to hosts; leave them at 0", p.Name)
		}
		return bdev.NewNull(e.Bdevs, p.Name, parseUUID(p.UUID), p.BlockSize, p.NumBlocks, bdev.Hints{PhysicalBlockSize: p.PhysicalBlockSize, OptimalBlocks: p.OptimalWriteSize})
	})
	makes(e, api.BdevUringCreate, func(p *api.BdevUringCreateParams) (*bdev.Device, error) {
		return e.uring(p.Name, p.Filename, bdev.UringOptions{BlockSize: p.BlockSize, UUID: parseUUID(p.UUID)})
	})
	makes(e, api.BdevAIOCreate, func(p *api.BdevAIOCreateParams) (*bdev.Device, error) {
		return e.uring(p.Name, p.Filename, bdev.UringOptions{BlockSize: p.BlockSize, UUID: parseUUID(p.UUID), ReadOnly: p.Readonly})
	})
	deletes[*bdev.Mem](e, api.BdevMallocDelete, "a device in memory")
	deletes[bdev.Null](e, api.BdevNullDelete, "a null device")
	deletes[*bdev.Uring](e, api.BdevUringDelete, "a file or block device")
	deletes[*bdev.Uring](e, api.BdevAIODelete, "a file or block device")
	RegisterDo(r, api.BdevUringRescan, e.rescan)
	RegisterDo(r, api.BdevAIORescan, e.rescan)
	RegisterDo(r, api.BdevNullResize, func(_ context.Context, p *api.BdevNullResizeParams) error {
		d, err := deviceOf[bdev.Null](e, p.Name, "a null device")
		if err != nil {
			return err
		}
		g := d.Geometry()
		if err := d.Resize(p.NewSize << 20 >> g.Shift()); err != nil {
			return codeOf(err)
		}
		e.devices.changed(d.Name(), func(c *api.ConfigCall) {
			changeParams(c, api.BdevNullCreate, func(made *api.BdevNullCreateParams) { made.NumBlocks = d.Geometry().Blocks })
		})
		return nil
	})
	e.Frame.Add(Subsystem{Name: "bdev", DependsOn: []string{"accel", "keyring", "sock"}, Config: func(context.Context) ([]api.ConfigCall, error) {
		return slices.Concat(
			e.kept.list(api.BdevSetOptions.Spec, api.VolumeScrubSetOptions.Spec, api.BdevRaidSetOptions.Spec, api.BdevISCSISetOptions.Spec), e.initiatorOptions.config(),
			e.kept.list(api.BdevNVMeSetHotplug.Spec), e.pools.configOf(e.devices.list()), e.limitsConfig(), e.depths.config(),
			[]api.ConfigCall{api.BdevWaitForExamine.Config(api.None{})},
		), nil
	}})
}

// uring makes a device of a file. That of an engine that was killed a moment ago may have to be waited for.
func (e *Engine) uring(name, path string, o bdev.UringOptions) (*bdev.Device, error) {
	o.Waits = func(why error) {
		e.bdevLog.Warn("the file is waited for, as after an engine that was killed", "device", name, "file", path, "why", why)
	}
	o.Ending = e.life.Done()
	return bdev.NewUring(e.Bdevs, name, path, o)
}

// refuseMetadata refuses what no device here has.
func refuseMetadata(name string, m api.Metadata) error {
	if m != (api.Metadata{}) {
		return api.Errno(22, "creating %s: metadata and protection information are not offered; leave md_size and dif_type at 0", name)
	}
	return nil
}

// unsupported refuses an option that this engine cannot give (ErrUnsupported), instead of ignoring it.
func unsupported(format string, args ...any) error {
	e := api.Errno(95, format, args...)
	e.Data = &api.Data{Reason: "ErrUnsupported"}
	return e
}

// name makes up a name that begins with prefix.
func (d *deviceCalls) name(prefix string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.next
	d.next++
	return fmt.Sprintf("%s%d", prefix, n)
}

// makes registers a method that makes one device and answers with its name.
func makes[P any](e *Engine, m api.Method[P, string], create func(p *P) (*bdev.Device, error)) {
	Register(e.Methods, m, func(_ context.Context, p *P) (string, error) {
		d, err := create(p)
		if err != nil {
			return "", codeOf(err)
		}
		e.devices.made(d.Name(), m.Config(*p))
		return d.Name(), nil
	})
}

// changeParams changes parameters of a call that was kept.
func changeParams[P, R any](c *api.ConfigCall, m api.Method[P, R], change func(p *P)) {
	var p P
	if err := json.Unmarshal(c.Params, &p); err != nil {
		panic(fmt.Sprintf("ctl: parameters of %s: %v", c.Method, err)) // they were marshalled here
	}
	change(&p)
	*c = m.Config(p)
}

// deviceOf finds a device of one kind.
func deviceOf[D bdev.Driver](e *Engine, name, kind string) (*bdev.Device, error) {
	d, err := e.Bdevs.Lookup(name)
	if err != nil {
		return nil, codeOf(err)
	}
	if _, ok := d.Driver().(D); !ok {
		return nil, api.Errno(22, "device %s is a %s, not %s", name, d.Product(), kind)
	}
	return d, nil
}

// deleteTimeout is how long those who use a device may take to let it go.
const deleteTimeout = 30 * time.Second

func deletes[D bdev.Driver](e *Engine, m api.Method[api.BdevNameParams, bool], kind string) {
	RegisterDo(e.Methods, m, func(ctx context.Context, p *api.BdevNameParams) error {
		d, err := deviceOf[D](e, p.Name, kind)
		if err != nil {
			return err
		}
		return e.unregister(ctx, d)
	})
}

// unregister removes a device. Once begun that is finished, whether the client still waits or not.
func (e *Engine) unregister(ctx context.Context, d *bdev.Device) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
	defer cancel()
	return codeOf(e.Bdevs.Unregister(ctx, d.Name()))
}

func (e *Engine) rescan(_ context.Context, p *api.BdevNameParams) error {
	d, err := deviceOf[*bdev.Uring](e, p.Name, "a file or block device")
	if err != nil {
		return err
	}
	return codeOf(d.Driver().(*bdev.Uring).Rescan(d))
}

// parseUUID reads a UUID whose form the schema has checked; none is the zero one.
func parseUUID(s string) uuid.UUID {
	id, _ := uuid.Parse(s)
	return id
}

// getBdevs lists devices; a named one may be waited for.
func (e *Engine) getBdevs(ctx context.Context, p *api.BdevGetBdevsParams) ([]api.Bdev, error) {
	if p.Name == "" {
		var out []api.Bdev
		for _, d := range e.Bdevs.Devices() {
			out = append(out, describe(d))
		}
		return out, nil
	}
	d, err := e.await(ctx, p.Name, time.Duration(p.Timeout)*time.Millisecond)
	if err != nil {
		return nil, codeOf(err)
	}
	return []api.Bdev{describe(d)}, nil
}

// await looks a device up, and waits for it to be registered if it is not there.
func (e *Engine) await(ctx context.Context, name string, limit time.Duration) (*bdev.Device, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		arrived := e.arrivals.next()
		d, err := e.Bdevs.Lookup(name)
		if err == nil {
			return d, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-arrived:
		}
	}
}

// arrivals tell who waits for a device that one has come.
type arrivals struct {
	mu  sync.Mutex
	one chan struct{} // closed at the next one
}

// next gives a channel that is closed when the next device comes.
func (a *arrivals) next() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.one == nil {
		a.one = make(chan struct{})
	}
	return a.one
}

func (a *arrivals) tell() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.one != nil {
		close(a.one)
		a.one = nil
	}
}

func describe(d *bdev.Device) api.Bdev {
	g := d.Geometry()
	has := func(k bdev.Kind) bool { return d.Supports(k) }
	b := api.Bdev{
		Name: d.Name(), Aliases: append([]string{d.UUID().String()}, d.Aliases()...), ProductName: d.Product(), BlockSize: g.BlockSize, NumBlocks: g.Blocks,
		UUID: d.UUID().String(), OptimalIOBoundary: g.OptimalBlocks, Claimed: d.Claim() != "", AssignedRateLimits: rateLimits(d),
		SupportedIOTypes: api.SupportedIOTypes{
			Read: true, Write: !g.ReadOnly, Unmap: has(bdev.Unmap), Flush: has(bdev.Flush), Reset: has(bdev.Reset), WriteZeroes: has(bdev.WriteZeroes),
			Compare: has(bdev.Compare), CompareAndWrite: has(bdev.CompareAndWrite), Abort: true, Copy: has(bdev.Copy),
		},
		DriverSpecific: map[string]any{},
	}
	if b.Claimed {
		b.ClaimType = "exclusive_write"
	}
	switch v := d.Driver().(type) {
	case *volume.Volume:
		b.DriverSpecific = lvolOfVolume(v).describe()
	case *volume.SnapshotDevice:
		l := lvolOfSnapshot(v)
		b.DriverSpecific = l.describe()
		if alias := l.alias(); !slices.Contains(b.Aliases, alias) {
			b.Aliases = append(b.Aliases, alias)
		}
	default:
		if m, ok := v.Describe().(map[string]any); ok {
			b.DriverSpecific = m
		}
	}
	return b
}

func (e *Engine) getLatency(_ context.Context, p *api.EngineGetLatencyParams) ([]api.Latency, error) {
	devices := e.Bdevs.Devices()
	if p.Name != "" {
		d, err := e.Bdevs.Lookup(p.Name)
		if err != nil {
			return nil, codeOf(err)
		}
		devices = []*bdev.Device{d}
	}
	var out []api.Latency
	for _, d := range devices {
		s := d.Counted()
		for k := range s.Kinds {
			h := &s.Kinds[k].Latency
			if h.Count == 0 {
				continue
			}
			out = append(out, api.Latency{
				Name: d.Name(), Op: bdev.Kind(k).String(), Count: h.Count, MeanNS: uint64(h.Mean()), P50NS: uint64(h.Quantile(0.5)), P90NS: uint64(h.Quantile(0.9)),
				P99NS: uint64(h.Quantile(0.99)), P999NS: uint64(h.Quantile(0.999)), MaxNS: uint64(s.Kinds[k].Max),
			})
		}
	}
	return out, nil
}
