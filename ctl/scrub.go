package ctl

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pollux-storage/pollux/ctl/api"
	"github.com/pollux-storage/pollux/volume"
)

// This file is the scrubs of an engine: those that are asked for, and those that it begins by itself, in each pool one at a time.

// scrubs are what begins them.
type scrubs struct {
	mu    sync.Mutex
	every time.Duration // after the last pass of a volume; 0: none is begun
	limit uint64        // bytes a second; 0: none
	stop  chan struct{}
	ended chan struct{}
	over  sync.Once
}

const (
	scrubEvery = 24 * time.Hour
	scrubLook  = time.Minute            // between two looks whether one is due
	scrubWatch = 200 * time.Millisecond // between two looks how far it is
)

// registerScrubs registers the methods, and lets the engine look after its pools.
func (e *Engine) registerScrubs() {
	s := &e.scrubs
	s.every, s.stop, s.ended = scrubEvery, make(chan struct{}), make(chan struct{})
	go e.scrubByItself()
	r := e.Methods
	keep(r, &e.kept, api.VolumeScrubSetOptions, func(p *api.VolumeScrubOptionsParams) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.every, s.limit = time.Duration(*p.EveryHours)*time.Hour, p.Limit
		return nil
	})
	RegisterDo(r, api.VolumeScrubStart, func(_ context.Context, p *api.VolumeScrubParams) error {
		v, err := e.volume(p.Name)
		if err != nil {
			return err
		}
		return codeOf(v.StartScrub(p.Limit))
	})
	RegisterDo(r, api.VolumeScrubPause, func(_ context.Context, p *api.VolumeParams) error {
		v, err := e.volume(p.Name)
		if err != nil {
			return err
		}
		return v.PauseScrub()
	})
	RegisterDo(r, api.VolumeScrubStop, func(_ context.Context, p *api.VolumeParams) error {
		v, err := e.volume(p.Name)
		if err != nil {
			return err
		}
		return v.StopScrub()
	})
	Register(r, api.PoolScrub, func(_ context.Context, p *api.PoolScrubParams) (api.JobStarted, error) {
		pool, err := e.pools.find(p.Name)
		if err != nil {
			return api.JobStarted{}, err
		}
		return e.Jobs.Start(api.Job{Method: api.PoolScrub.Name, Object: pool.Name(), Unit: "bytes"}, func(ctx context.Context, progress Progress) error {
			return scrubPool(ctx, pool.Pool, p.Limit, progress)
		})
	})
}

// scrubPool scrubs one volume after the other. When it is cancelled, the pass under way rests where it is.
func scrubPool(ctx context.Context, p *volume.Pool, limit uint64, progress Progress) error {
	volumes := p.Volumes()
	var all, done, errors uint64
	for _, v := range volumes {
		i, err := v.Scrub()
		if err != nil {
			return err
		}
		all += i.All * volume.PageBytes
	}
	for _, v := range volumes {
		before, err := v.Scrub()
		if err != nil {
			return err
		}
		if err := v.StartScrub(limit); err != nil {
			return codeOf(err)
		}
		for {
			i, err := v.Scrub()
			if err != nil {
				return err
			}
			if i.Passes > before.Passes {
				errors += i.LastErrors
				done += before.All * volume.PageBytes
				progress.Set(done, all)
				break
			}
			if i.State != "running" {
				return fmt.Errorf("scrubbing pool %s: the scrub of volume %s is %s; it was paused or stopped, or its device fails", p.Name(), v.Name(), i.State)
			}
			progress.Set(done+min(i.Block, before.All)*volume.PageBytes, all) // there may be more snapshots now
			select {
			case <-ctx.Done():
				_ = v.PauseScrub()
				return fmt.Errorf("scrubbing pool %s: %w; volume %s rests where it is", p.Name(), ctx.Err(), v.Name())
			case <-time.After(scrubWatch):
			}
		}
	}
	if errors > 0 {
		return fmt.Errorf("scrubbing pool %s: %d blocks are not what was written; volume_stats of its volumes tells the first, the log too", p.Name(), errors)
	}
	return nil
}

// scrubByItself looks now and then whether a pass is due.
func (e *Engine) scrubByItself() {
	s := &e.scrubs
	defer close(s.ended)
	tick := time.NewTicker(scrubLook)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			e.scrubWhatIsDue(time.Now())
		}
	}
}

// scrubWhatIsDue begins a pass in each pool that has none under way.
func (e *Engine) scrubWhatIsDue(now time.Time) {
	s := &e.scrubs
	s.mu.Lock()
	every, limit := s.every, s.limit
	s.mu.Unlock()
	if every == 0 {
		return
	}
	for _, p := range e.pools.list() {
		volumes := p.Volumes()
		list := make([]scrubbed, len(volumes))
		for i, v := range volumes {
			list[i] = scrubbedOf(v)
		}
		if i := nextScrub(list, now, every); i >= 0 {
			_ = volumes[i].StartScrub(limit) // it may have been closed meanwhile
		}
	}
}

// scrubbed is what the choice of the next pass depends on.
type scrubbed struct {
	state      string
	unfinished bool
	last       time.Time // or the volume's making
}

func scrubbedOf(v *volume.Volume) scrubbed {
	i, err := v.Scrub()
	info, err2 := v.Info()
	if err != nil || err2 != nil {
		return scrubbed{state: "closed"}
	}
	one := scrubbed{i.State, i.Unfinished(), i.Last}
	if one.last.IsZero() {
		one.last = info.Created
	}
	return one
}

// nextScrub chooses the volume of a pool that is scrubbed next: one whose pass was cut short, else that whose last one is longest ago.
// It gives -1 if none is due, or one is under way. What was paused by hand goes on by hand.
func nextScrub(list []scrubbed, now time.Time, every time.Duration) int {
	next := -1
	for i, v := range list {
		switch {
		case v.state == "running":
			return -1
		case v.state != "idle" || !v.unfinished && now.Sub(v.last) < every:
		case next < 0 || v.unfinished && !list[next].unfinished || v.unfinished == list[next].unfinished && v.last.Before(list[next].last):
			next = i
		}
	}
	return next
}

// close ends it. Doing it twice is harmless.
func (s *scrubs) close() {
	s.over.Do(func() { close(s.stop) })
	<-s.ended
}

// found logs the first error of a scrub's run.
func (ps *pools) found(v *volume.Volume, f volume.ScrubFinding) {
	what := "a block is not what was written"
	if f.Map {
		what = "a page of a volume's map is not what was written"
	}
	ps.log.Error(what+"; volume_stats counts how many there are", "pool", v.Pool().Name(), "volume", v.Name(), "snapshot", f.Snapshot, "lba", f.LBA, "place", uint64(f.Place), "status", f.Status.String())
}

// homeFailed logs the first of a run of writes behind the log that failed (V-31).
func (ps *pools) homeFailed(v *volume.Volume, f volume.HomeFailure) {
	what := "a write behind the log failed, and its cluster goes to another place; nothing is lost, and volume_stats counts how many there are"
	if f.Last {
		what = "a write behind the log failed, and so did another place, or there is none: what the volume takes stays in its log, and is refused when that is full; it is tried again every second, and by the next import"
	}
	ps.log.Error(what, "pool", v.Pool().Name(), "volume", v.Name(), "cluster", f.Cluster, "lba", f.LBA, "place", uint64(f.Place), "status", f.Status.String())
}

// describeScrub is a scrub in the words of the interface.
func describeScrub(i *volume.ScrubInfo) api.VolumeScrub {
	out := api.VolumeScrub{
		State: i.State, Snapshot: i.In, AtBytes: i.Block * volume.PageBytes, Bytes: i.All * volume.PageBytes, Errors: i.Found, LastErrors: i.LastErrors,
		Passes: i.Passes, AllErrors: i.ScrubStats.Errors, Checked: i.ScrubStats.Bytes, Seconds: i.Seconds(),
	}
	if i.Why != 0 {
		out.Why = i.Why.String()
	}
	if !i.Last.IsZero() {
		out.Last = i.Last.UTC().Format(time.RFC3339)
	}
	if f := i.First; f != nil {
		out.First = &api.ScrubFinding{Snapshot: f.Snapshot, LBA: f.LBA, Place: uint64(f.Place), Map: f.Map, Status: f.Status.String()}
	}
	return out
}
