package volume

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/hist"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is what a volume counts. Its reactor counts, without a lock, and control reads a copy there.
//
// A change (write, zeroes, trim) passes stages, one after the other; each begins where the one before ended, so they add up to the whole:
//
//	came ─ admit ─▶ passed the door ─ place ─▶ whole clusters are in their places ─ append ─▶ its last batch is given to the device
//	     ─ write ─▶ that is written ─ flush ─▶ answered
//
// place is counted for changes that have whole clusters, and flush for those that wait to be durable; for others they take no time.
// Times are those of the reactor's ticks. What failed is counted as an error of the device, and nowhere here.

// Stage is a part of a change's way.
type Stage uint8

// The stages, in order, and all of them together.
const (
	StageAdmit Stage = iota
	StagePlace
	StageAppend
	StageWrite
	StageFlush
	StageTotal
	Stages
)

var stageNames = [Stages]string{"admit", "place", "append", "write", "flush", "total"}

func (s Stage) String() string { return stageNames[s] }

// Door says how a change passed the door.
type Door uint8

// The ways.
const (
	DoorOpen    Door = iota // at once
	DoorSpace               // it waited for an answer of the pool, which is asked for space ahead
	DoorSoft                // slowed down, since the log fills
	DoorHard                // it waited for room, or behind who did
	DoorTimeout             // it waited too long, and was answered busy
	Doors
)

var doorNames = [Doors]string{"open", "space", "soft", "hard", "timeout"}

func (d Door) String() string { return doorNames[d] }

// opTimes are an op's, as far as it came.
type opTimes struct {
	came     reactor.Ticks
	admitted reactor.Ticks // the last of its segments passed the door
	placed   reactor.Ticks // the last of its whole clusters was in its place; 0: it has none
	given    reactor.Ticks // the last of its records was given to the device
	written  reactor.Ticks // and was written
	door     Door
}

// Counters are what a volume has counted. They never fall.
type Counters struct {
	Stages   [Stages]hist.Histogram // nanoseconds
	Door     [Doors]uint64          // changes, by how they passed the door
	DoorWait [Doors]reactor.Ticks   // that they waited there, all together

	HomeBytes   uint64 // blocks that were brought home
	MapBytes    uint64 // pages of the map and volume pages
	HomePasses  uint64 // of the flusher
	HomeErrors  uint64 // writes at home that failed
	Checkpoints uint64
}

// came is when the request came that begins now: before, if it waited for an op.
func (v *Volume) came() reactor.Ticks {
	at := v.queuedAt
	if v.queuedAt = 0; at == 0 {
		return v.r.Now()
	}
	return at
}

// passedDoor notes that the last segment of a change has passed.
func (v *Volume) passedDoor(o *op) {
	if o.status == bdev.StatusOK {
		o.admitted = v.r.Now()
		v.counters.Door[o.door]++
		v.counters.DoorWait[o.door] += o.admitted - o.came
	}
}

// turnedAway notes that a change has waited too long.
func (v *Volume) turnedAway(o *op) {
	v.counters.Door[DoorTimeout]++
	v.counters.DoorWait[DoorTimeout] += v.r.Now() - o.came
}

// doorOf is how a change passes that has to wait as it comes.
func doorOf(p wal.Pressure) Door {
	if p == wal.PressureDelay || p == wal.PressureUrgent {
		return DoorSoft
	}
	return DoorHard
}

// waits notes what a change waits for that was let in: the pool's answer is a matter of microseconds, unless the pool is full.
func (v *Volume) waits(o *op, n *need) {
	door := DoorHard
	if !v.stalled && (!v.have.covers(n.credits) || len(v.places) < n.places) {
		door = DoorSpace
	}
	o.door = max(o.door, door)
}

// served takes the end of a change that succeeded.
func (v *Volume) served(o *op) {
	if o.status != bdev.StatusOK || !o.q.Kind.Writes() {
		return
	}
	c, now, at := &v.counters.Stages, v.r.Now(), o.admitted
	c[StageAdmit].Record(uint64(at - o.came))
	if o.placed != 0 {
		next := max(at, o.placed)
		c[StagePlace].Record(uint64(next - at))
		at = next
	}
	c[StageAppend].Record(uint64(o.given - at))
	c[StageWrite].Record(uint64(o.written - o.given))
	if v.cache != CacheVolatile || o.q.FUA {
		c[StageFlush].Record(uint64(now - o.written))
	}
	c[StageTotal].Record(uint64(now - o.came))
}

// VolumeStats is what a volume has counted, and where it stands, at one moment.
type VolumeStats struct {
	VolumeInfo
	Counters
	Scrub        ScrubInfo
	Log          wal.Stats
	Pressure     wal.Pressure // of the log
	Dirty        uint64       // blocks of 4096 bytes that wait to go home, those of placed clusters included
	Snapshots    uint64
	ClusterBytes uint64
	Device       bdev.Stats // what hosts asked of it
}

// Stats gives all that a volume counts.
func (v *Volume) Stats() (VolumeStats, error) {
	s := VolumeStats{VolumeInfo: v.identity(), ClusterBytes: v.shape.ClusterBytes()}
	for i := range s.Stages { // the kernel gives its pages here: the reactor would wait for them
		s.Stages[i].Count = 0
	}
	err := v.r.Call(func() {
		v.tell(&s.VolumeInfo)
		s.Counters, s.Scrub = v.counters, v.scrub.info()
		s.Log = v.log.Stats().Plus(v.before.log)
		s.Pressure, _ = wal.Admission(v.log.Used(), v.log.Size())
		s.Dirty = uint64(v.dirty.used.blocks + v.dirty.used.placed<<v.shape.shift)
		s.Snapshots = uint64(v.page.Snapshots)
	})
	s.Device = v.device.Stats()
	s.Device.Add(&v.before.device)
	return s, err
}

// counted is what the same volume had counted before it was opened anew: it is there before the volume is, and not altered.
type counted struct {
	log    wal.Stats
	device bdev.Stats
}

// inherit takes over what the same volume counted, which was closed to be opened in another way.
func (v *Volume) inherit(was *Volume) {
	v.counters, v.scrub.stats = was.counters, was.scrub.stats
	v.before.log = was.log.Stats().Plus(was.before.log)
	v.before.device = was.device.Stats()
	v.before.device.Add(&was.before.device)
}
