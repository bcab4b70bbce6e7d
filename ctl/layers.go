package ctl

import (
	"context"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the methods about devices that stand on one other, and about limits.

// splitCall is the name under which the call that divided a device stands among those that made devices.
func splitCall(base string) string { return "parts of " + base }

func (e *Engine) registerLayers() {
	r := e.Methods
	makes(e, api.BdevPassthruCreate, func(p *api.BdevPassthruCreateParams) (*bdev.Device, error) {
		return bdev.NewPassthru(e.Bdevs, p.Name, p.BaseBdevName, parseUUID(p.UUID))
	})
	deletes[*bdev.Passthru](e, api.BdevPassthruDelete, "a device that passes on")

	makes(e, api.BdevDelayCreate, func(p *api.BdevDelayCreateParams) (*bdev.Device, error) {
		l := bdev.Latencies{}
		for _, t := range []struct {
			to *reactor.Ticks
			us uint64
		}{{&l.ReadAverage, p.AvgReadLatency}, {&l.ReadP99, p.P99ReadLatency}, {&l.WriteAverage, p.AvgWriteLatency}, {&l.WriteP99, p.P99WriteLatency}} {
			var err error
			if *t.to, err = microseconds(p.Name, t.us); err != nil {
				return nil, err
			}
		}
		return bdev.NewDelay(e.Bdevs, p.Name, p.BaseBdevName, parseUUID(p.UUID), l)
	})
	deletes[*bdev.Delay](e, api.BdevDelayDelete, "a slow device")
	RegisterDo(r, api.BdevDelayUpdateLatency, e.updateLatency)

	Register(r, api.BdevSplitCreate, e.split)
	RegisterDo(r, api.BdevSplitDelete, func(ctx context.Context, p *api.BdevSplitDeleteParams) error {
		d, err := e.Bdevs.Lookup(p.BaseBdev)
		if err != nil {
			return codeOf(err)
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteTimeout)
		defer cancel()
		if err := bdev.RemoveSplit(ctx, e.Bdevs, d.Name()); err != nil {
			return codeOf(err)
		}
		e.devices.gone(splitCall(d.Name()))
		return nil
	})

	RegisterDo(r, api.BdevErrorCreate, func(_ context.Context, p *api.BdevErrorCreateParams) error {
		d, err := bdev.NewFault(e.Bdevs, "", p.BaseName, parseUUID(p.UUID))
		if err != nil {
			return codeOf(err)
		}
		e.devices.made(d.Name(), api.BdevErrorCreate.Config(*p))
		return nil
	})
	deletes[*bdev.Fault](e, api.BdevErrorDelete, "a failing device")
	RegisterDo(r, api.BdevErrorInjectError, e.inject)
	RegisterDo(r, api.BdevErrorResumePending, func(_ context.Context, p *api.BdevNameParams) error {
		d, err := deviceOf[*bdev.Fault](e, p.Name, "a failing device")
		if err != nil {
			return err
		}
		return codeOf(d.Driver().(*bdev.Fault).Resume())
	})

	RegisterDo(r, api.BdevSetQoSLimit, e.setLimits)
}

// latencyMax is the longest latency that can be asked for, an hour.
const latencyMax = 3600 * reactor.Second

func microseconds(device string, us uint64) (reactor.Ticks, error) {
	if us > uint64(latencyMax/reactor.Microsecond) {
		return 0, api.Errno(22, "a latency of %d us for %s: at most an hour", us, device)
	}
	return reactor.Ticks(us) * reactor.Microsecond, nil
}

func (e *Engine) updateLatency(_ context.Context, p *api.BdevDelayUpdateLatencyParams) error {
	d, err := deviceOf[*bdev.Delay](e, p.DelayBdevName, "a slow device")
	if err != nil {
		return err
	}
	t, err := microseconds(d.Name(), p.LatencyUS)
	if err != nil {
		return err
	}
	v := d.Driver().(*bdev.Delay)
	l := v.Latencies()
	*map[string]*reactor.Ticks{
		"avg_read": &l.ReadAverage, "p99_read": &l.ReadP99, "avg_write": &l.WriteAverage, "p99_write": &l.WriteP99,
	}[p.LatencyType] = t
	if err := v.SetLatencies(l); err != nil {
		return codeOf(err)
	}
	e.devices.changed(d.Name(), func(c *api.ConfigCall) {
		changeParams(c, api.BdevDelayCreate, func(made *api.BdevDelayCreateParams) {
			*map[string]*uint64{
				"avg_read": &made.AvgReadLatency, "p99_read": &made.P99ReadLatency, "avg_write": &made.AvgWriteLatency, "p99_write": &made.P99WriteLatency,
			}[p.LatencyType] = p.LatencyUS
		})
	})
	return nil
}

func (e *Engine) split(_ context.Context, p *api.BdevSplitCreateParams) ([]string, error) {
	d, err := e.Bdevs.Lookup(p.BaseBdev)
	if err != nil {
		return nil, codeOf(err)
	}
	if p.SplitSizeMB > 1<<43 {
		return nil, api.Errno(22, "splitting %s: parts of %d MiB are more than any device has", d.Name(), p.SplitSizeMB)
	}
	parts, err := bdev.NewSplit(e.Bdevs, d.Name(), int(p.SplitCount), p.SplitSizeMB<<20)
	if err != nil {
		return nil, codeOf(err)
	}
	e.devices.made(splitCall(d.Name()), api.BdevSplitCreate.Config(*p))
	var names []string
	for _, part := range parts {
		names = append(names, part.Name())
	}
	return names, nil
}

// injectKinds are the requests of an io_type; effects are those of an error_type.
var (
	injectKinds = map[string]bdev.KindSet{
		"read": bdev.SetOf(bdev.Read), "write": bdev.SetOf(bdev.Write), "unmap": bdev.SetOf(bdev.Unmap), "flush": bdev.SetOf(bdev.Flush),
		"all": injectAll,
	}
	effects = map[string]bdev.Effect{
		"failure": bdev.EffectFailure, "pending": bdev.EffectPending, "corrupt_data": bdev.EffectCorruptData, "nomem": bdev.EffectNoMemory,
		"nvme_failure": bdev.EffectFailure,
	}
)

// injectAll is every kind but reset, which ends what is kept.
const injectAll = ^bdev.KindSet(1 << bdev.Reset)

// inject adds a rule; one for the same kinds takes the place of that before. clear and num 0 end them, and are SPDK's words
// for it: module/bdev/error/vbdev_error.c, vbdev_error_inject_error.
func (e *Engine) inject(_ context.Context, p *api.BdevErrorInjectErrorParams) error {
	d, err := deviceOf[*bdev.Fault](e, p.Name, "a failing device")
	if err != nil {
		return err
	}
	v := d.Driver().(*bdev.Fault)
	if p.IOType == "clear" {
		v.Clear(^bdev.KindSet(0))
		return nil
	}
	if p.ErrorType == "corrupt_data" && p.CorruptValue == 0 {
		return api.Errno(22, "injecting into %s: corrupt_data needs a corrupt_value from 1 to 255; it is XORed", d.Name())
	}
	rule := bdev.Rule{
		Kinds: injectKinds[p.IOType], Depth: int(min(p.QueueDepth, 1<<31)), Count: uint64(*p.Num), Effect: effects[p.ErrorType],
		Offset: p.CorruptOffset, Xor: p.CorruptValue,
	}
	if p.ErrorType == "nvme_failure" {
		rule.Detail = p.NVMeSCT<<8 | p.NVMeSC
	}
	v.Clear(rule.Kinds)
	if *p.Num == 0 {
		return nil
	}
	return codeOf(v.Inject(rule))
}

// limitIOsStep is what limits of operations are rounded up to, as SPDK does: SPDK_BDEV_QOS_MIN_IOS_PER_SEC in lib/bdev/bdev.c.
const limitIOsStep = 1000

// limitMiBMax is the highest limit of bytes, in MiB per second.
const limitMiBMax = 1 << 32

// setLimits changes the limits that are named and leaves the others.
func (e *Engine) setLimits(_ context.Context, p *api.BdevSetQoSLimitParams) error {
	d, err := e.Bdevs.Lookup(p.Name)
	if err != nil {
		return codeOf(err)
	}
	if p.RWIOsPerSec == nil && p.RWMBytesPerSec == nil && p.RMBytesPerSec == nil && p.WMBytesPerSec == nil {
		return api.Errno(22, "limiting %s: no limit is named; give rw_ios_per_sec, rw_mbytes_per_sec, r_mbytes_per_sec or w_mbytes_per_sec", d.Name())
	}
	e.limiting.Lock()
	defer e.limiting.Unlock()
	l := d.Limits()
	if n := p.RWIOsPerSec; n != nil {
		if *n > limitMiBMax*limitIOsStep {
			return api.Errno(22, "limiting %s: rw_ios_per_sec %d is more than any device does", d.Name(), *n)
		}
		l.IOs = (*n + limitIOsStep - 1) / limitIOsStep * limitIOsStep
	}
	for _, b := range []struct {
		name string
		mib  *uint64
		to   *uint64
	}{{"rw_mbytes_per_sec", p.RWMBytesPerSec, &l.Bytes}, {"r_mbytes_per_sec", p.RMBytesPerSec, &l.ReadBytes}, {"w_mbytes_per_sec", p.WMBytesPerSec, &l.WriteBytes}} {
		if b.mib == nil {
			continue
		}
		if *b.mib > limitMiBMax {
			return api.Errno(22, "limiting %s: %s %d is more than any device does", d.Name(), b.name, *b.mib)
		}
		*b.to = *b.mib << 20
	}
	return codeOf(d.SetLimits(l))
}

// rateLimits are a device's limits as methods tell them.
func rateLimits(d *bdev.Device) api.RateLimits {
	l := d.Limits()
	return api.RateLimits{RWIOsPerSec: l.IOs, RWMBytesPerSec: l.Bytes >> 20, RMBytesPerSec: l.ReadBytes >> 20, WMBytesPerSec: l.WriteBytes >> 20}
}

// limitsConfig gives the calls that set the limits there are.
func (e *Engine) limitsConfig() []api.ConfigCall {
	var out []api.ConfigCall
	for _, d := range e.Bdevs.Devices() {
		if l := rateLimits(d); l != (api.RateLimits{}) {
			out = append(out, api.BdevSetQoSLimit.Config(api.BdevSetQoSLimitParams{
				Name: d.Name(), RWIOsPerSec: &l.RWIOsPerSec, RWMBytesPerSec: &l.RWMBytesPerSec, RMBytesPerSec: &l.RMBytesPerSec, WMBytesPerSec: &l.WMBytesPerSec,
			}))
		}
	}
	return out
}
