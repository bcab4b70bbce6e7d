package volume

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the scrub of a volume (V-33): a pass goes through its map, reads every block that is at home, and compares it with the CRC in
// its entry; then through those of its snapshots, for what only they hold (scrubsnap.go).
//
//	        start                    a page of the map        blocks
//	idle ─────────▶ resting ─ step ─▶ finding ────────────▶ reading ──┐
//	  ▲               ▲  │ pause        ▲                             │
//	  │               │  ▼              └──────── 1 MiB is not full ──┤
//	  │             paused                                            │
//	  │               ▲ └──────────────── the step is over ───────────┘
//	  └─ saving ◀─────┴─ the last block of the last map
//
// No false alarm: what is read, and what it is compared with, is looked up at one moment, in the dirty map as well as in the map, and the
// read belongs to a grace like every other. So whoever would overwrite these blocks or give their place away waits until the comparison is
// done; a block that is dirty at that moment is checked when a later pass finds it at home.
//
// A pass leaves the hosts their device: one read of 256 KiB is under way at a time, and after each step it rests. Its place in the volume,
// and what it has found, stand in the volume page: every checkpoint takes them along, and one is asked for now and then.

const (
	scrubStep   = 1 << 20 / PageBytes // blocks of one step
	scrubLooks  = 256                 // clusters that one step looks at, if there is nothing to read in them
	scrubRest   = 100 * reactor.Microsecond
	scrubYield  = 4 // where hosts have requests under way, it rests so many times as long as the step took
	scrubKeep   = 10 * reactor.Second
	scrubRetry  = 10 * reactor.Millisecond
	scrubBlocks = partBlocks
)

type scrubState uint8

const (
	scrubIdle scrubState = iota
	scrubResting
	scrubFinding
	scrubReading
	scrubPaused
	scrubSaving // the pass is over, and no checkpoint has taken it along yet
	scrubEnded  // the volume is closed
)

var scrubStateNames = [...]string{"idle", "running", "running", "running", "paused", "idle", "closed"}

func (s scrubState) String() string { return scrubStateNames[s] }

// scrubAsk is what somebody wants of a pass that is in the middle of something.
type scrubAsk uint8

const (
	scrubGoOn scrubAsk = iota
	scrubPauses
	scrubStops
	scrubCloses
)

// ScrubFinding is a block that is not what it should be.
type ScrubFinding struct {
	Snapshot string // that has it, and nothing newer has; "": the volume itself has it
	LBA      uint64 // in the volume's blocks; of a page of its map the first of those that it is about
	Place    Place
	Map      bool        // it is a page of the map
	Status   bdev.Status // StatusCorrupt: another CRC; StatusIO: it cannot be read
}

// ScrubStats counts what scrubs of a volume did since it was opened.
type ScrubStats struct {
	Passes uint64
	Errors uint64
	Bytes  uint64 // that were compared
	Ran    reactor.Ticks
}

// scrubber belongs to its volume's reactor.
type scrubber struct {
	v      *Volume
	state  scrubState
	asked  scrubAsk
	why    bdev.Status // it paused by itself
	timer  reactor.Timer
	node   mapWaiter
	memory []byte // of what is read: mapped when the first pass begins

	in     SnapshotNumber // the snapshot whose map it goes through, 0 in the volume's own
	frozen scrubFrozen    // how it goes through that
	at     uint64         // the next block
	narrow uint64         // blocks before it are read one by one: among them is one that cannot be read
	left   int            // blocks that this step may read yet
	looks  int            // and clusters that it may look at
	phase  uint8          // of the grace
	place  Place          // what is being read

	rate  uint64        // bytes a second at most; 0: as it comes
	bytes int           // of this step
	since reactor.Ticks // this step began
	began reactor.Ticks // it runs since
	kept  reactor.Ticks // a checkpoint was asked for
	clock int64         // Unix seconds at tick 0

	errors uint64 // of this pass, so far
	before uint64 // those of them before the cluster in which it is

	first ScrubFinding // of this run
	told  bool
	stats ScrubStats
}

// busy reports that something of it is under way.
func (s *scrubber) busy() bool { return s.state == scrubFinding || s.state == scrubReading }

// runs reports that a pass goes on without being asked.
func (s *scrubber) runs() bool { return s.state == scrubResting || s.busy() }

// begin begins a pass, or goes on with the one of which the volume page tells. The wall clock says so many seconds now.
func (s *scrubber) begin(rate uint64, unix int64) error {
	v := s.v
	if s.state == scrubEnded || !v.open {
		return ErrPoolGone
	}
	s.rate, s.clock = rate, unix-int64(v.r.Now()/reactor.Second)
	if s.runs() {
		if s.asked != scrubCloses {
			s.asked = scrubGoOn
		}
		return nil
	}
	if s.memory == nil {
		memory, err := mapMemory(scrubBlocks)
		if err != nil {
			return err
		}
		s.memory = memory
	}
	if s.state != scrubPaused {
		if v.page.ScrubCursor == 0 && v.page.ScrubSnapshot == 0 {
			v.page.ScrubFound = 0
		}
		s.enter(v.page.ScrubSnapshot)
		s.at = v.page.ScrubCursor << v.shape.shift
		s.errors, s.before = v.page.ScrubFound, v.page.ScrubFound
	}
	s.asked, s.why, s.told, s.began, s.kept = scrubGoOn, bdev.StatusOK, false, v.r.Now(), v.r.Now()
	s.rest(0)
	return nil
}

// ask asks a pass to end: now, or as soon as what is under way has ended.
func (s *scrubber) ask(a scrubAsk) {
	if s.state == scrubEnded {
		return
	}
	if s.asked = max(s.asked, a); !s.busy() {
		s.obey()
	}
}

// obey ends the pass for who asked. Nothing of it is under way.
func (s *scrubber) obey() {
	v := s.v
	v.r.StopTimer(&s.timer)
	if s.runs() {
		s.stats.Ran += v.r.Now() - s.began
		s.state = scrubPaused
	}
	switch s.asked {
	case scrubStops:
		s.over()
	case scrubPauses:
		if s.state == scrubPaused {
			s.keep()
		} else if s.state == scrubSaving {
			s.save()
		}
	case scrubCloses:
		s.state = scrubEnded
		v.checkIdle()
	}
	if s.state != scrubEnded {
		s.asked = scrubGoOn
	}
}

// release gives back what it holds. Nothing is under way.
func (s *scrubber) release() {
	if s.memory != nil {
		unmapMemory(s.memory)
		s.memory = nil
	}
}

// rest lets the next step begin in a while.
func (s *scrubber) rest(pause reactor.Ticks) {
	s.state = scrubResting
	s.v.r.SetTimer(&s.timer, s.v.r.Now()+pause, s)
}

// Run is its timer.
func (s *scrubber) Run() {
	switch s.state {
	case scrubResting:
		s.since, s.left, s.looks, s.bytes = s.v.r.Now(), scrubStep, scrubLooks, 0
		s.walk()
	case scrubSaving:
		s.save()
	default:
		invariant.Check(false, "volume: a scrub's timer outlived its pass")
	}
}

// blocks of the volume.
func (v *Volume) blocks() uint64 { return (v.page.Bytes + PageBytes - 1) / PageBytes }

// walk goes on to the next block that is at home.
func (s *scrubber) walk() {
	v := s.v
	for s.left > 0 && s.looks > 0 {
		if s.in != 0 || s.at >= v.blocks() {
			s.walkSnapshots()
			return
		}
		if s.looks--; s.at&(1<<v.shape.shift-1) == 0 {
			s.before = s.errors
		}
		e, st, now := v.tree.find(s.at>>v.shape.shift, &s.node)
		if !now {
			s.state = scrubFinding
			return
		}
		if s.take(e, st) {
			s.state = scrubReading
			return
		}
	}
	s.stepped()
}

// mapFound goes on with an entry that had to be read.
func (s *scrubber) mapFound(_ *mapWaiter, e Entry, st bdev.Status) {
	if s.asked == scrubGoOn && s.at < s.v.blocks() && s.take(e, st) {
		s.state = scrubReading
		return
	}
	s.goOn()
}

// take reads what it can of the cluster whose entry is lent. If there is nothing to read it goes over it, and reports false.
func (s *scrubber) take(e Entry, st bdev.Status) bool {
	v := s.v
	if st != bdev.StatusOK {
		s.unread(st)
		return false
	}
	run := v.dirty.run(s.at, v.blocks())
	first := int(s.at & (1<<v.shape.shift - 1))
	switch {
	case run.from != dirtyHome || e.Place() == 0:
		s.at += run.blocks
		return false
	case !e.Written(first):
		for n := uint64(0); n < run.blocks && !e.Written(first+int(n)); n++ {
			s.at++
		}
		return false
	}
	most := min(int(run.blocks), scrubBlocks, s.left)
	if s.at < s.narrow {
		most = 1
	}
	p := v.newPart()
	for p.n < most && e.Written(first+p.n) {
		p.crcs[p.n] = e.CRC(first + p.n)
		p.n++
	}
	p.vec = append(p.vec, s.memory[:p.n*PageBytes])
	p.done = s
	s.place = e.Place() + Place(first)
	s.phase = v.grace.enter()
	v.transfer(p, v.data, bdev.Read, s.place.Byte())
	return true
}

// partEnd compares what was read.
func (s *scrubber) partEnd(p *part, st bdev.Status) {
	v, n := s.v, p.n
	s.left -= n
	s.bytes += n * PageBytes
	switch {
	case st == bdev.StatusOK:
		s.stats.Bytes += uint64(n) * PageBytes
		for i := range n {
			if wal.PageCRC(s.memory[i*PageBytes:][:PageBytes]) != p.crcs[i] {
				s.found(ScrubFinding{LBA: s.at + uint64(i), Place: s.place + Place(i), Status: bdev.StatusCorrupt})
			}
		}
		s.at += uint64(n)
	case st != bdev.StatusIO && st != bdev.StatusCorrupt: // it is not these blocks
		s.why = st
		s.asked = max(s.asked, scrubPauses)
	case n > 1:
		s.narrow = s.at + uint64(n)
	default:
		s.found(ScrubFinding{LBA: s.at, Place: s.place, Status: st})
		s.at++
	}
	v.givePart(p)
	v.grace.leave(s.phase)
	s.goOn()
}

// unread goes over the clusters that a page of the map would tell about.
func (s *scrubber) unread(st bdev.Status) {
	w := &s.node.page
	clusters := span(int(w.level)) * uint64(s.v.shape.entries)
	first := s.at >> s.v.shape.shift / clusters * clusters
	s.found(ScrubFinding{LBA: s.at, Place: w.ref.Place, Map: true, Status: st})
	s.at = (first + clusters) << s.v.shape.shift
}

// found counts an error. The first of a run is told, the others would say the same.
func (s *scrubber) found(f ScrubFinding) {
	v := s.v
	f.LBA = f.LBA * PageBytes / uint64(v.page.BlockBytes)
	if s.in != 0 {
		f.Snapshot = s.frozen.name.String()
	}
	s.stats.Errors++
	s.errors++
	if s.told {
		return
	}
	s.first, s.told = f, true
	if tell := v.pool.cfg.Found; tell != nil {
		go tell(v, f) // an error is rare, and nobody may be waited for here
	}
}

// goOn goes on after something that took its time.
func (s *scrubber) goOn() {
	if s.asked == scrubGoOn {
		s.walk()
		return
	}
	s.mark()
	s.state = scrubResting
	s.obey()
}

// mark notes in the volume page how far it is, in whole clusters: what it has found in the one that it is in the middle of is found again by
// who goes on from there.
func (s *scrubber) mark() {
	pg := &s.v.page
	pg.ScrubSnapshot = s.in
	if pg.ScrubCursor, pg.ScrubFound = s.at>>s.v.shape.shift, s.before; s.at&(1<<s.v.shape.shift-1) == 0 {
		pg.ScrubFound = s.errors
	}
}

// stepped is the end of a step.
func (s *scrubber) stepped() {
	v := s.v
	s.mark()
	now := v.r.Now()
	if now-s.kept >= scrubKeep && s.keep() {
		s.kept = now
	}
	pause := scrubRest
	if v.opsOut > 0 {
		pause = max(pause, scrubYield*(now-s.since))
	}
	if s.rate > 0 {
		pause = max(pause, reactor.Ticks(float64(s.bytes)/float64(s.rate)*float64(reactor.Second))-(now-s.since))
	}
	s.rest(pause)
}

// passed is the end of a pass.
func (s *scrubber) passed() {
	v := s.v
	now := v.r.Now()
	s.stats.Passes++
	s.stats.Ran += now - s.began
	v.page.Scrubbed, v.page.ScrubErrors = s.clock+int64(now/reactor.Second), s.errors
	s.over()
}

// over ends a pass for good.
func (s *scrubber) over() {
	s.v.page.ScrubSnapshot, s.v.page.ScrubCursor, s.v.page.ScrubFound = 0, 0, 0
	s.enter(0)
	s.errors, s.before, s.state = 0, 0, scrubSaving
	s.save()
}

// save lets what stands in the page become durable.
func (s *scrubber) save() {
	if !s.keep() {
		s.v.r.SetTimer(&s.timer, s.v.r.Now()+scrubRetry, s)
		return
	}
	s.state = scrubIdle
}

// unsaved reports that the last checkpoint of a volume that is being closed does not have what its scrub left in the page.
func (s *scrubber) unsaved() bool {
	pg, was := &s.v.page, &s.v.ckpt.page
	return s.state == scrubEnded && !s.v.flusher.ending &&
		(pg.ScrubSnapshot != was.ScrubSnapshot || pg.ScrubCursor != was.ScrubCursor || pg.ScrubFound != was.ScrubFound || pg.Scrubbed != was.Scrubbed || pg.ScrubErrors != was.ScrubErrors)
}

// keep asks for a checkpoint. It reports false if one is being made which has the page as it was before.
func (s *scrubber) keep() bool {
	v := s.v
	if v.rests() || v.flusher.ending {
		return true // there will be none
	}
	if v.ckpt.step >= checkpointVolumePage {
		return false
	}
	v.flusher.force = true
	v.hurry()
	return true
}
