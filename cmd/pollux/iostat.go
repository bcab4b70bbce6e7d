package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
)

type iostatCmd struct {
	engineFlags
	outputFlags
	Interval time.Duration `short:"i" default:"1s" help:"Time between two looks (${default})."`
	Count    int           `short:"c" placeholder:"N" help:"End after so many; without it, go on until interrupted."`
	Devices  []string      `arg:"" optional:"" help:"Only these block devices."`
}

// deviceRate is what a device did between two looks, by second.
type deviceRate struct {
	Name        string  `json:"name"`
	Volume      string  `json:"volume,omitempty" doc:"POOL/VOLUME, if the device is one"`
	Reads       float64 `json:"reads_per_second"`
	Writes      float64 `json:"writes_per_second"`
	ReadBytes   float64 `json:"read_bytes_per_second"`
	WriteBytes  float64 `json:"write_bytes_per_second"`
	ReadMicros  float64 `json:"read_microseconds" doc:"mean of one"`
	WriteMicros float64 `json:"write_microseconds" doc:"mean of one"`
	Depth       uint64  `json:"queue_depth"`
	Errors      uint64  `json:"errors"`
}

// Run watches.
func (c *iostatCmd) Run() error {
	if c.Interval <= 0 {
		return fmt.Errorf("watch block devices: the interval %v is no time; write for example 500ms or 2s", c.Interval)
	}
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	tick := time.NewTicker(c.Interval)
	defer tick.Stop()
	before, err := c.look(ctx, engine)
	for n := 1; err == nil; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		var now api.Iostats
		if now, err = c.look(ctx, engine); err != nil {
			break
		}
		var volumes []api.Volume
		if volumes, err = api.VolumeList.Call(ctx, engine, api.VolumeListParams{}); err != nil {
			break
		}
		list := rates(&before, &now)
		nameVolumes(list, volumes)
		if err = c.print(list, func(t *table) { rateTable(t, list) }); err != nil || n == c.Count {
			return err
		}
		if c.Output == "table" {
			fmt.Println()
		}
		before = now
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (c *iostatCmd) look(ctx context.Context, engine api.Caller) (api.Iostats, error) {
	return api.BdevGetIostat.Call(ctx, engine, api.BdevGetIostatParams{Names: c.Devices})
}

// rates compares two looks. A device that was not there at the first, or was set to zero between, is left out once.
func rates(before, now *api.Iostats) []deviceRate {
	list := []deviceRate{}
	seconds := float64(now.Ticks-before.Ticks) / float64(now.TickRate)
	if seconds <= 0 || before.Bdevs == nil || now.Bdevs == nil {
		return list
	}
	micros := func(ticks, ops uint64) float64 {
		if ops == 0 {
			return 0
		}
		return float64(ticks) / float64(ops) / float64(now.TickRate) * 1e6
	}
	for _, b := range *now.Bdevs {
		i := slices.IndexFunc(*before.Bdevs, func(a api.Iostat) bool { return a.Name == b.Name })
		if i < 0 {
			continue
		}
		a := (*before.Bdevs)[i]
		if b.NumReadOps < a.NumReadOps || b.NumWriteOps < a.NumWriteOps {
			continue
		}
		r := deviceRate{
			Name:        b.Name,
			Reads:       float64(b.NumReadOps-a.NumReadOps) / seconds,
			Writes:      float64(b.NumWriteOps-a.NumWriteOps) / seconds,
			ReadBytes:   float64(b.BytesRead-a.BytesRead) / seconds,
			WriteBytes:  float64(b.BytesWritten-a.BytesWritten) / seconds,
			ReadMicros:  micros(b.ReadLatencyTicks-a.ReadLatencyTicks, b.NumReadOps-a.NumReadOps),
			WriteMicros: micros(b.WriteLatencyTicks-a.WriteLatencyTicks, b.NumWriteOps-a.NumWriteOps),
			Errors:      errorsOf(&b) - errorsOf(&a),
		}
		if b.QueueDepth != nil {
			r.Depth = *b.QueueDepth
		}
		list = append(list, r)
	}
	return list
}

// nameVolumes says of each device that is a volume which.
func nameVolumes(list []deviceRate, volumes []api.Volume) {
	for i := range list {
		for _, v := range volumes {
			if v.UUID == list[i].Name {
				list[i].Volume = v.Pool + "/" + v.Name
			}
		}
	}
}

// title is what people call the device.
func (r *deviceRate) title() string {
	if r.Volume != "" {
		return r.Volume
	}
	return r.Name
}

func errorsOf(s *api.Iostat) (sum uint64) {
	for _, n := range s.IOError {
		sum += n
	}
	return sum
}

// decimal is a number with one digit after the point, which still stands to the right.
type decimal float64

func (d decimal) String() string { return fmt.Sprintf("%.1f", float64(d)) }

func rateTable(t *table, list []deviceRate) {
	t.columns("DEVICE", "READ/S", "WRITE/S", "READ MiB/S", "WRITE MiB/S", "READ µS", "WRITE µS", "DEPTH", "ERRORS")
	for _, r := range list {
		t.row(r.title(), decimal(r.Reads), decimal(r.Writes), decimal(r.ReadBytes/(1<<20)), decimal(r.WriteBytes/(1<<20)),
			decimal(r.ReadMicros), decimal(r.WriteMicros), r.Depth, r.Errors)
	}
}
