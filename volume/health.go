package volume

import (
	"fmt"
	"math"
	"time"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/wal"
)

// This file is what a volume is fit for. One pure function derives it, for calls, commands and metrics alike; what it is derived from is
// what stands now, so that every reason goes when its cause does. The first that holds:
//
//	unsafe    it is damaged and not served (damaged.go) │ it is not the primary here │ it takes no changes any more: its log is wounded, or the map cannot be written │ what it takes cannot be brought home │ it is fenced
//	degraded  something that was acknowledged may be lost
//	healthy
//
// The score says how much its checksums are worth: 1, less 0.1 for each error of a scrub, at most 0.5, and less 0.1 if the last pass is
// older than two days. Repair and a clean pass restore it. How full the log is, is no part of it.

// State is what a volume or a pool is fit for, better to worse.
type State uint8

// The states. A volume with replicas that are made anew will be between the second and the third.
const (
	Healthy State = iota
	Degraded
	Unsafe
	States
)

var stateNames = [States]string{"healthy", "degraded", "unsafe"}

func (s State) String() string { return stateNames[s] }

// ScrubFresh is how long a pass is worth something.
const ScrubFresh = 48 * time.Hour

// HealthInput is all that the health of a volume depends on.
type HealthInput struct {
	Role       Role
	Wounded    bool        // its log lost a durable record
	Failed     bdev.Status // why it takes no changes any more; StatusOK if it does
	Stranded   bdev.Status // why what it takes cannot be brought home for now; StatusOK if it can
	Loss       Loss        // what may be lost of it, until somebody releases it
	LossKnown  wal.LSN     // all up to there was durable
	LossFound  wal.LSN     // and all up to there was found
	Fenced     bool        // and nobody is served until then
	BadBlocks  uint64      // errors of the last scrub or of the one under way, whatever is more
	Scrubbed   time.Time   // the end of the last pass, or its making if there was none
	NeverScrub bool        // there was none
	Now        time.Time
}

// Health is what is said of it.
type Health struct {
	State   State
	Score   float64 // 0.4 to 1
	Reasons []string
}

// Health derives it.
func (i *HealthInput) Health() Health {
	h := Health{Score: 1}
	because := func(s State, format string, args ...any) {
		h.State = max(h.State, s)
		h.Reasons = append(h.Reasons, fmt.Sprintf(format, args...))
	}
	if i.Role != RolePrimary {
		because(Unsafe, "its role here is %v, not primary: it serves nobody", i.Role)
	}
	if i.Wounded {
		because(Unsafe, "its log lost a record that was durable: it is served as it was before that, and takes no changes")
	} else if i.Failed != bdev.StatusOK {
		because(Unsafe, "it takes no changes any more (%v); what was acknowledged is in its log, and the next import of its pool brings it home", i.Failed)
	}
	if i.Stranded != bdev.StatusOK {
		because(Unsafe, "what it takes cannot be brought home (%v): all of it is in its log and stays there, and no more is taken when that is full; give the device, or the pool, what it lacks", i.Stranded)
	}
	if i.Fenced {
		because(Unsafe, "it serves nobody, since something that was acknowledged may be lost; release it when its users know")
	}
	if i.Loss != LossNone {
		because(Degraded, "something that was acknowledged may be lost (%v): what came after LSN %d, if anything did; up to LSN %d all was durable", i.Loss, i.LossFound, i.LossKnown)
	}
	tenths := 10
	if i.BadBlocks > 0 {
		tenths -= int(min(5, i.BadBlocks))
		because(Healthy, "a scrub found %d blocks that are not what was written; write them again and scrub the volume", i.BadBlocks)
	}
	if age := i.Now.Sub(i.Scrubbed); age > ScrubFresh {
		tenths--
		if i.NeverScrub {
			because(Healthy, "it is %d days old and was never scrubbed", int(age.Hours()/24))
		} else {
			because(Healthy, "its last scrub was %d days ago", int(age.Hours()/24))
		}
	}
	h.Score = math.Round(float64(tenths)) / 10
	return h
}

// Health is the volume's.
func (i *VolumeInfo) Health(now time.Time) Health {
	in := HealthInput{
		Role: i.Role, Wounded: i.Wounded, Failed: i.Failed, Stranded: i.Stranded, Loss: i.Loss, LossKnown: i.LossKnown, LossFound: i.LossFound, Fenced: i.Fenced, BadBlocks: i.BadBlocks, Scrubbed: i.Scrubbed,
		NeverScrub: i.Scrubbed.IsZero(), Now: now,
	}
	if in.NeverScrub {
		in.Scrubbed = i.Created
	}
	return in.Health()
}

// PoolHealthInput is all that the health of a pool depends on.
type PoolHealthInput struct {
	Volumes  []Health
	Fill     Fill
	Problems []string
}

// Health derives it: no better than the worst of its volumes.
func (i *PoolHealthInput) Health() Health {
	h := Health{Score: 1, Reasons: i.Problems[:len(i.Problems):len(i.Problems)]}
	if len(i.Problems) > 0 {
		h.State = Degraded
	}
	if i.Fill >= FillCritical {
		h.State = Degraded
		h.Reasons = append(h.Reasons, fmt.Sprintf("its space is %v: delete or trim, or grow it, before writes are refused", i.Fill))
	}
	var n [States]int
	for _, v := range i.Volumes {
		n[v.State]++
		h.State, h.Score = max(h.State, v.State), min(h.Score, v.Score)
	}
	for s := Unsafe; s > Healthy; s-- {
		if n[s] > 0 {
			h.Reasons = append(h.Reasons, fmt.Sprintf("volumes that are %v: %d", s, n[s]))
		}
	}
	return h
}
