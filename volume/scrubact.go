package volume

import (
	"fmt"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
)

// This file is what control does with the scrub of a volume, and asks of it.

// ScrubInfo is the scrub of a volume as it is now.
type ScrubInfo struct {
	ScrubStats
	State      string      // idle, running, paused
	Why        bdev.Status // it paused by itself
	In         string      // the snapshot in which the pass is; "": in the volume itself
	Block, All uint64      // blocks of 4096 bytes: how far the pass is, and how many there are: the volume's, and each snapshot's after them
	Found      uint64      // errors of the pass under way
	First      *ScrubFinding
	Last       time.Time // end of the last pass; zero if there was none
	LastErrors uint64    // that it found
}

// Unfinished says that a pass began and has not come to its end.
func (i *ScrubInfo) Unfinished() bool { return i.State != "idle" || i.Block > 0 }

// StartScrub begins a pass, goes on with one that was paused or cut short by the end of the engine, or changes how fast one goes: so many
// bytes a second at most, 0 is no limit.
func (v *Volume) StartScrub(rate uint64) error {
	var err error
	now := created()
	if e := v.r.Call(func() { err = v.scrub.begin(rate, now) }); e != nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("scrubbing volume %s of pool %s: %w", v.Name(), v.pool.Name(), err)
	}
	return nil
}

// PauseScrub lets a pass rest where it is. The next start goes on there; so does the next one of the engine.
func (v *Volume) PauseScrub() error { return v.r.Call(func() { v.scrub.ask(scrubPauses) }) }

// StopScrub gives a pass up. The next one begins at the beginning.
func (v *Volume) StopScrub() error { return v.r.Call(func() { v.scrub.ask(scrubStops) }) }

// Scrub tells about the scrub.
func (v *Volume) Scrub() (i ScrubInfo, err error) {
	err = v.r.Call(func() { i = v.scrub.info() })
	return i, err
}

func (s *scrubber) info() ScrubInfo {
	v := s.v
	i := ScrubInfo{
		ScrubStats: s.stats, State: s.state.String(), Why: s.why, Found: s.soFar(), LastErrors: v.page.ScrubErrors,
	}
	in, at := v.page.ScrubSnapshot, v.page.ScrubCursor<<v.shape.shift
	if s.runs() || s.state == scrubPaused {
		in, at = s.in, s.at
	}
	i.In, i.Block, i.All = s.progress(in, at)
	if s.runs() {
		i.Ran += max(0, v.r.Now()-s.began)
	}
	if s.told {
		f := s.first
		i.First = &f
	}
	if v.page.Scrubbed != 0 {
		i.Last = time.Unix(v.page.Scrubbed, 0)
	}
	return i
}

// soFar is how many errors the pass has found that is under way, or was when the engine ended.
func (s *scrubber) soFar() uint64 {
	if s.runs() || s.state == scrubPaused {
		return s.errors
	}
	return s.v.page.ScrubFound
}

// Seconds that it ran.
func (s ScrubStats) Seconds() float64 { return float64(s.Ran) / float64(reactor.Second) }
