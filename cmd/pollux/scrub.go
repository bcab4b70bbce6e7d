package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
)

// volumeScrubCmd is about the scrub of one volume.
type volumeScrubCmd struct {
	Status volumeScrubStatusCmd `cmd:"" default:"withargs" help:"How far it is, and what it and the last one found."`
	Start  volumeScrubStartCmd  `cmd:"" help:"Begin a pass, or go on with one that was paused or cut short."`
	Pause  volumeScrubPauseCmd  `cmd:"" help:"Let the pass rest where it is."`
	Stop   volumeScrubStopCmd   `cmd:"" help:"Give the pass up."`
}

// limitFlag bounds a scrub.
type limitFlag struct {
	Limit byteCount `placeholder:"BYTES" help:"Read so much a second at most, such as 100M; as much as hosts leave it without it."`
}

type volumeScrubStatusCmd struct {
	engineFlags
	outputFlags
	volumeArg
}

// Run shows it.
func (c *volumeScrubStatusCmd) Run() error {
	stats, err := ask(&c.engineFlags, api.VolumeStatsOf, api.VolumeParams{Name: c.Volume})
	if err != nil {
		return err
	}
	return c.print(stats.Scrub, func(t *table) {
		t.columns("NAME", "SCRUB", "DONE %", "ERRORS", "LAST", "LAST ERRORS", "FIRST BAD BLOCK")
		s := &stats.Scrub
		first := ""
		if f := s.First; f != nil {
			first = fmt.Sprintf("%d (%s)", f.LBA, f.Status)
			if f.Snapshot != "" {
				first = fmt.Sprintf("%d of snapshot %s (%s)", f.LBA, f.Snapshot, f.Status)
			}
		}
		t.row(stats.Name, s.State, donePercent(s), s.Errors, s.Last, s.LastErrors, first)
	})
}

// donePercent is how far a pass is.
func donePercent(s *api.VolumeScrub) decimal {
	if s.Bytes == 0 {
		return 0
	}
	return decimal(100 * float64(s.AtBytes) / float64(s.Bytes))
}

type volumeScrubStartCmd struct {
	engineFlags
	limitFlag
	volumeArg
}

// Run starts it.
func (c *volumeScrubStartCmd) Run() error {
	_, err := ask(&c.engineFlags, api.VolumeScrubStart, api.VolumeScrubParams{Name: c.Volume, Limit: uint64(c.Limit)})
	return err
}

type volumeScrubPauseCmd struct {
	engineFlags
	volumeArg
}

// Run pauses it.
func (c *volumeScrubPauseCmd) Run() error {
	_, err := ask(&c.engineFlags, api.VolumeScrubPause, api.VolumeParams{Name: c.Volume})
	return err
}

type volumeScrubStopCmd struct {
	engineFlags
	volumeArg
}

// Run stops it.
func (c *volumeScrubStopCmd) Run() error {
	_, err := ask(&c.engineFlags, api.VolumeScrubStop, api.VolumeParams{Name: c.Volume})
	return err
}

type poolScrubCmd struct {
	jobFlags
	limitFlag
	Name string `arg:"" help:"Name of the pool."`
}

// Run scrubs a pool.
func (c *poolScrubCmd) Run() error {
	return c.run(func(ctx context.Context, engine api.Caller) (api.JobStarted, error) {
		return api.PoolScrub.Call(ctx, engine, api.PoolScrubParams{Name: c.Name, Limit: uint64(c.Limit)})
	})
}

type volumeStatsCmd struct {
	engineFlags
	outputFlags
	volumeArg
}

// Run shows the stages.
func (c *volumeStatsCmd) Run() error {
	stats, err := ask(&c.engineFlags, api.VolumeStatsOf, api.VolumeParams{Name: c.Volume})
	if err != nil {
		return err
	}
	return c.print(stats, func(t *table) {
		t.columns("STAGE", "CHANGES", "MEAN", "MEDIAN", "p99")
		for _, s := range stats.Stages {
			t.row(s.Stage, s.Count, nanos(s.MeanNS), nanos(s.P50NS), nanos(s.P99NS))
		}
	})
}

func nanos(n uint64) string { return time.Duration(n).Round(100 * time.Nanosecond).String() }
