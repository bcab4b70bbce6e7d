package ctl

import (
	"context"
	"fmt"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is the methods about what devices did.

func (e *Engine) getIostat(_ context.Context, p *api.BdevGetIostatParams) (api.Iostats, error) {
	names := p.Names
	if p.Name != "" {
		names = append(names, p.Name)
	}
	devices := e.Bdevs.Devices()
	if len(names) > 0 {
		devices = nil
		for _, n := range names {
			d, err := e.Bdevs.Lookup(n)
			if err != nil {
				return api.Iostats{}, codeOf(err)
			}
			devices = append(devices, d)
		}
	}
	out := api.Iostats{TickRate: reactor.TickRate, Ticks: uint64(reactor.Clock())}
	if p.PerChannel {
		if len(devices) != 1 || len(names) != 1 {
			return out, api.Errno(22, "bdev_get_iostat: per_channel goes with the name of one device")
		}
		out.Name = devices[0].Name()
		channels := []api.Iostat{}
		for i, s := range devices[0].ChannelStats() {
			if s != nil {
				st := iostat(s)
				id := uint64(i)
				st.ThreadID = &id
				channels = append(channels, st)
			}
		}
		out.Channels = &channels
		return out, resetStats(devices, p.ResetMode)
	}
	list := []api.Iostat{}
	for _, d := range devices {
		s := d.Counted()
		st := iostat(&s)
		st.Name = d.Name()
		e.depths.tell(d.Name(), &st)
		list = append(list, st)
	}
	out.Bdevs = &list
	return out, resetStats(devices, p.ResetMode)
}

// iostat is a device's counters in SPDK's words. What SPDK counts as unmap is here unmap and write zeroes apart; only the
// first stands in its members.
func iostat(s *bdev.Stats) api.Iostat {
	r, w, u, c := &s.Kinds[bdev.Read], &s.Kinds[bdev.Write], &s.Kinds[bdev.Unmap], &s.Kinds[bdev.Copy]
	depth := uint64(s.InFlight)
	out := api.Iostat{
		BytesRead: r.Bytes, NumReadOps: r.Ops, ReadLatencyTicks: r.Latency.Sum, MaxReadLatencyTicks: uint64(r.Max), MinReadLatencyTicks: uint64(r.Min),
		BytesWritten: w.Bytes, NumWriteOps: w.Ops, WriteLatencyTicks: w.Latency.Sum, MaxWriteLatencyTicks: uint64(w.Max), MinWriteLatencyTicks: uint64(w.Min),
		BytesUnmapped: u.Bytes, NumUnmapOps: u.Ops, UnmapLatencyTicks: u.Latency.Sum, MaxUnmapLatencyTicks: uint64(u.Max), MinUnmapLatencyTicks: uint64(u.Min),
		BytesCopied: c.Bytes, NumCopyOps: c.Ops, CopyLatencyTicks: c.Latency.Sum, MaxCopyLatencyTicks: uint64(c.Max), MinCopyLatencyTicks: uint64(c.Min),
		IOError: map[string]uint64{}, QueueDepth: &depth,
	}
	for st := range bdev.Statuses {
		if n := s.Errors[st]; n > 0 {
			out.IOError[st.String()] = n
		}
	}
	return out
}

// resetModes are the modes by their names.
var resetModes = map[string]bdev.ResetMode{"": bdev.ResetNone, "none": bdev.ResetNone, "all": bdev.ResetAll, "maxmin": bdev.ResetMaxMin, "error": bdev.ResetErrors}

func resetStats(devices []*bdev.Device, mode string) error {
	m := resetModes[mode]
	if m == bdev.ResetNone {
		return nil
	}
	for _, d := range devices {
		if err := d.ResetStats(m); err != nil {
			return fmt.Errorf("resetting the counters of %s: %w", d.Name(), codeOf(err))
		}
	}
	return nil
}

func (e *Engine) resetIostat(_ context.Context, p *api.BdevResetIostatParams) error {
	devices := e.Bdevs.Devices()
	if p.Name != "" {
		d, err := e.Bdevs.Lookup(p.Name)
		if err != nil {
			return codeOf(err)
		}
		devices = []*bdev.Device{d}
	}
	return resetStats(devices, p.Mode)
}

// getChannels lists which devices each reactor has open.
func (e *Engine) getChannels(context.Context, *api.None) (api.ThreadChannels, error) {
	out := api.ThreadChannels{TickRate: reactor.TickRate}
	for i := range e.Reactors.Len() {
		out.Threads = append(out.Threads, api.ChannelsThread{Name: reactorName(i), ID: uint64(i + 1)})
	}
	for _, d := range e.Bdevs.Devices() {
		for i, n := range d.References() {
			if n > 0 {
				out.Threads[i].IOChannels = append(out.Threads[i].IOChannels, api.IOChannel{Name: d.Name(), Ref: uint32(n)})
			}
		}
	}
	return out, nil
}
