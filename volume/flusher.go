package volume

import (
	"cmp"
	"slices"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the flusher: it goes through the log from where it was to what is durable, brings home what it finds, and lets a
// checkpoint follow.
//
//	idle ── due: time, pressure, a force operation ──▶ reading ─ window ─▶ (grace) ─▶ homing ─ round by round ─▶ reading …
//	  ▲                                                                                │ the durable end, an event,
//	  │                                                                                ▼ or no room in the map's cache
//	  └────────────────────────────────────────────────────────────────────────── checkpoint
//
// What a window holds is sorted by cluster, and each cluster is brought home by one homing. A block version is left out if a newer one is
// durable too and will come home by itself before the next boundary; it is not left out for one that a power cut could still take.
//
// An event (event.go) is applied when all before it is home, and before anything behind it is.

// homingsMax is the number of clusters that are brought home at once.
const homingsMax = 16

// itemsMax is the number of things that one round brings home.
const itemsMax = 4096

// homeItem is one change of one cluster, as a record in the window has it.
type homeItem struct {
	cluster uint64
	lsn     wal.LSN
	kind    homeKind
	block   uint16 // in the cluster: itemBlock, itemZero
	page    int32  // in the window: itemBlock; the list's first page: itemPlaced
	index   int32  // in that list
}

type homeKind uint8

const (
	itemBlock homeKind = iota
	itemZero
	itemClear
	itemPlaced
)

type flushState uint8

const (
	flushIdle flushState = iota
	flushReading
	flushGrace
	flushHoming
	flushCheckpoint
	flushClearing
	flushEnded // the volume is read only, or closed
)

// flusher belongs to its volume's reactor.
type flusher struct {
	v     *Volume
	rd    *wal.Reader
	state flushState
	timer reactor.Timer

	home    wal.Follow    // everything before it is home
	passed  dirtyRoom     // that the records before the next one took, since the volume was opened
	limit   wal.Offset    // of this pass: what was durable when it began
	durable wal.LSN       // the same as an LSN
	asked   bool          // a pass was asked for during this one
	force   bool          // a checkpoint follows though there is nothing new
	began   reactor.Ticks // the last checkpoint

	record   int // the next of the window to be taken apart
	items    []homeItem
	next     int // the next item that no homing has
	active   int // homings under way
	width    int // of this round: so many at once
	failed   bdev.Status
	erred    bool // a write at home failed in this pass
	told     bool // and that was told, in this pass or in one right before it
	toldLast bool // as was one that strands the volume
	stranded
	retry  reactor.Timer // tries again what is stranded
	ending bool          // nothing more is begun; what is under way ends by itself

	homings []homing
	spare   *homing
}

// make makes what the flusher has.
func (f *flusher) make(v *Volume) {
	f.v = v
	f.items = make([]homeItem, 0, itemsMax)
	f.homings = make([]homing, homingsMax)
	for i := range f.homings {
		h := &f.homings[i]
		h.f, h.next = f, f.spare
		h.node.init(h)
		f.spare = h
	}
}

// busy reports that something is under way.
func (f *flusher) busy() bool { return f.state != flushIdle && f.state != flushEnded || f.active > 0 }

// close lets nothing begin any more. What is under way ends first: its memory is the flusher's.
func (f *flusher) close() {
	f.v.r.StopTimer(&f.timer)
	f.ending = true
	if f.state == flushIdle {
		f.state = flushEnded
	}
	(*retry)(f).Run() // what waits ends
}

// over reports that the flusher is not to go on, and ends it. It is called where nothing of it is under way.
func (f *flusher) over() bool {
	if f.ending {
		f.state = flushEnded
		f.v.forced()
		f.v.checkIdle()
	}
	return f.ending
}

// release gives back what it holds of its reactor.
func (f *flusher) release() {
	if f.rd != nil {
		f.rd.Close()
	}
}

// flushPeriod is how long something may be durable and not home.
const flushPeriod = 100 * reactor.Millisecond

// passParts: a pass begins when so large a part of the log waits to go home. What is home stays in the log for two checkpoints, so the
// log holds three such parts before writes are slowed down.
const passParts = 5

// pressedParts: while writes are slowed down a checkpoint is made after so large a part, before the end of the pass. The log becomes free in steps
// of the part, and who waits at the door waits for a step. Smaller ones cost writes of the map's pages.
const pressedParts = 8

// checkpointPeriod is how long what came home may stand in no checkpoint while more comes: each writes every page of the map that changed since
// the one before, so that a write costs the less of a page the longer it waits. A volume that rests makes it with the next pass.
const checkpointPeriod = reactor.Second

// ripe says that the pass ends with a checkpoint: one is asked for, a part of the log waits for it, the last was long ago, or another volume
// waits for what this one has reserved and does not need.
func (f *flusher) ripe() bool {
	v := f.v
	return f.force || uint64(f.home.Offset-v.newer.offset) >= v.log.Size()/passParts || v.r.Now()-f.began >= checkpointPeriod ||
		v.r.Now()-reactor.Ticks(v.pool.lacked.Load()) < fullTimeout
}

// paceLeast is how many of its writes the flusher has on the device at once while it is not behind.
const paceLeast = 2

// pace says how many writes the flusher may have on the device at once, of most. A host's request stands in line behind them there, so they are few
// as long as little waits to go home, and all of them when that alone makes a pass due, when the door is slowed down, or when somebody waits.
func (f *flusher) pace(most int) int {
	log := f.v.log
	if p, _ := wal.Admission(log.Used(), log.Size()); p != wal.PressureNone || f.force || f.asked {
		return most
	}
	return paceAt(uint64(log.DurableEnd()-f.home.Offset), log.Size()/passParts, most)
}

// paceAt is the pace for what is not home yet, where part makes a pass due: the least up to half of it, then in proportion.
func paceAt(behind, part uint64, most int) int {
	over := min(2*behind, 2*part)
	if over <= part {
		return min(paceLeast, most)
	}
	return paceLeast + int(uint64(most-paceLeast)*(over-part)/part)
}

// slows says that the door waits for the tail, and that enough is home to let it move.
func (f *flusher) slows() bool {
	log := f.v.log
	p, _ := wal.Admission(log.Used(), log.Size())
	return p != wal.PressureNone && f.home.Offset > f.v.newer.offset+wal.Offset(log.Size()/pressedParts)
}

// due lets a pass begin in a while, if there is something for it, be it the checkpoint.
func (v *Volume) due() {
	f := &v.flusher
	if f.state == flushIdle && !f.timer.Set() && (f.home.Offset != v.log.Head() || f.home.Offset != v.newer.offset) {
		v.r.SetTimer(&f.timer, v.r.Now()+flushPeriod, f)
	}
}

// hurry lets a pass begin now, or right after the one that is under way.
func (v *Volume) hurry() {
	f := &v.flusher
	if f.state != flushIdle {
		f.asked = true
		return
	}
	v.r.StopTimer(&f.timer)
	v.r.AtFlush(&v.flushLater, f)
}

// Run is the flusher's timer, and the end of a tick in which it was to hurry. Both may have been set, and the other has begun a pass.
func (f *flusher) Run() {
	if f.state == flushIdle {
		f.begin()
	}
}

// flusherGrace is the flusher as it waits for a grace.
type flusherGrace flusher

// Run is the end of the grace.
func (g *flusherGrace) Run() {
	f := (*flusher)(g)
	if !f.over() {
		f.state = flushHoming
		f.round()
	}
}

// begin starts a pass.
func (f *flusher) begin() {
	v := f.v
	f.asked = false
	_, _, f.durable = v.log.Marks()
	f.limit = v.log.DurableEnd()
	if f.home.Offset >= f.limit {
		if _, written, durable := v.log.Marks(); written > durable {
			v.awaitDurable() // what a host does not flush goes home as well
			return
		}
		if f.force || v.log.Tail() < f.home.Offset {
			f.checkpoint()
		}
		return
	}
	f.rd.Seek(f.home)
	f.record = 0
	f.read()
}

// read takes the next window.
func (f *flusher) read() {
	if f.over() {
		return
	}
	if ends, why := f.rd.Ends(); ends || f.rd.Follow().Offset >= f.limit {
		if why != nil {
			f.v.wound(why)
			f.over()
			return
		}
		f.passEnd()
		return
	}
	if f.slows() {
		f.checkpoint()
		return
	}
	f.state = flushReading
	f.rd.Next(f.limit, f)
}

// passEnd ends a pass, with a checkpoint or without.
func (f *flusher) passEnd() {
	if f.ripe() {
		f.checkpoint()
		return
	}
	f.state = flushIdle
	f.v.passed()
}

// WindowRead takes a window. Reads that looked home before may not see it change under them: their grace is waited for.
func (f *flusher) WindowRead(rd *wal.Reader, s bdev.Status) {
	if f.over() {
		return
	}
	if s != bdev.StatusOK {
		f.v.unsafe(s)
		f.over()
		return
	}
	if ends, why := rd.Ends(); ends && why != nil && rd.Follow().Offset < f.limit {
		f.v.wound(why)
		f.over()
		return
	}
	f.record = 0
	f.state = flushGrace
	if g := (*flusherGrace)(f); !f.v.grace.wait(g) {
		g.Run()
	}
}

// round takes the window's next records apart, as many as there is room for, and brings them home. What they change in the map has
// room in its cache, lent until the checkpoint; if none is to be had, a checkpoint of this volume makes some, and the floor is room for one
// record. So nobody waits for another volume, and a checkpoint always stands between two records.
func (f *flusher) round() {
	records := f.rd.Records()
	f.items, f.next = f.items[:0], 0
	tree := f.v.tree
	room := tree.roomLeft()
	room += tree.widen(homingsMax*changePages + tree.recordPages() - room)
	f.width = max(1, min(homingsMax, (room-tree.recordPages())/changePages))
	room -= f.width * changePages
	first := f.record
	for f.record < len(records) {
		r := &records[f.record]
		if r.Kind.Event() {
			break
		}
		if room -= tree.pagesToDirty(r.Block>>f.v.shape.shift, (r.Block+r.Blocks-1)>>f.v.shape.shift); room < 0 {
			room += tree.widen(-room)
		}
		if room < 0 || !f.take(r) {
			break
		}
		f.passed = f.passed.plus(f.v.dirtyRoomOf(r.Kind, r.Block, r.Blocks))
		f.record++
	}
	if f.record == first && first < len(records) && !records[first].Kind.Event() {
		f.checkpoint()
		return
	}
	slices.SortFunc(f.items, func(a, b homeItem) int {
		return cmp.Or(cmp.Compare(a.cluster, b.cluster), cmp.Compare(a.lsn, b.lsn))
	})
	f.goOn()
}

// take takes a record apart; false if there is no room for all of it.
func (f *flusher) take(r *wal.Record) bool {
	shift := f.v.shape.shift
	per := uint64(f.v.shape.Blocks())
	clusters := (r.Block+r.Blocks-1)>>shift - r.Block>>shift + 1
	if r.Kind == wal.KindWrite {
		clusters = r.Blocks
	} else if r.Kind != wal.KindPlaced {
		clusters += 2 * per
	}
	if len(f.items)+int(clusters) > cap(f.items) {
		return false
	}
	page := int32((r.Offset - f.rd.Start()) / PageBytes)
	switch r.Kind {
	case wal.KindWrite:
		for i := range r.Blocks {
			b := r.Block + i
			f.items = append(f.items, homeItem{cluster: b >> shift, lsn: r.LSN, kind: itemBlock, block: uint16(b & (per - 1)), page: page + int32(i)})
		}
	case wal.KindPlaced:
		for i := range r.Blocks >> shift {
			f.items = append(f.items, homeItem{cluster: r.Block>>shift + i, lsn: r.LSN, kind: itemPlaced, page: page, index: int32(i)})
		}
	case wal.KindTrim, wal.KindZeroes:
		end := r.Block + r.Blocks
		for b := r.Block; b < end; {
			n := f.v.shape.step(b, end)
			it := homeItem{cluster: b >> shift, lsn: r.LSN, kind: itemZero, block: uint16(b & (per - 1))}
			if n == per {
				it.kind = itemClear
			}
			f.items = append(f.items, it)
			b += n
		}
	}
	return true
}

// goOn starts homings, as many as may be under way, and ends the round with the last.
func (f *flusher) goOn() {
	v := f.v
	for f.failed == bdev.StatusOK && f.next < len(f.items) && f.active < min(f.width, f.pace(homingsMax)) {
		first := f.next
		for f.next < len(f.items) && f.items[f.next].cluster == f.items[first].cluster {
			f.next++
		}
		h := f.spare
		f.spare = h.next
		f.active++
		h.begin(f.items[first:f.next])
	}
	if f.active > 0 {
		return
	}
	if f.over() {
		return
	}
	if f.failed != bdev.StatusOK {
		v.unsafe(f.failed)
		f.over()
		return
	}
	if f.record == len(f.rd.Records()) {
		f.home = f.rd.Follow()
		f.read()
		return
	}
	f.home = f.rd.Before(f.record)
	if r := &f.rd.Records()[f.record]; r.Kind.Event() {
		f.event(r)
		return
	}
	f.round()
}

// event applies an event, before which all is home; then the flusher goes on behind it.
func (f *flusher) event(r *wal.Record) {
	if r.Kind == wal.KindRestore {
		f.restore(r)
		return
	}
	f.goBehind(r)
}

// goBehind goes on behind an event, which is applied with that.
func (f *flusher) goBehind(r *wal.Record) {
	f.record++
	if f.home = f.rd.Follow(); f.record < len(f.rd.Records()) {
		f.home = f.rd.Before(f.record)
	}
	f.v.apply(r, f.rd.Payload(r))
}

// homed hears that a homing is over.
func (f *flusher) homed(h *homing, s bdev.Status) {
	if f.failed == bdev.StatusOK {
		f.failed = s
	}
	h.next = f.spare
	f.spare = h
	f.active--
	f.v.roomFreed()
	f.goOn()
}

// checkpointed goes on after a checkpoint, where the pass was.
func (f *flusher) checkpointed() {
	v := f.v
	f.force = false
	if f.over() {
		return
	}
	switch {
	case f.record < len(f.rd.Records()):
		f.state = flushHoming
		f.round()
	case f.home.Offset < f.limit:
		f.read()
	case v.clears(), v.flattens():
	default:
		f.state = flushIdle
		v.passed()
	}
}

// superseded says that a version of a block or cluster need not go home: a newer one is durable, and goes home before the next boundary.
func (f *flusher) superseded(lsn, newest wal.LSN) bool {
	return newest > lsn && newest <= f.durable && (len(f.v.boundaries) == 0 || newest < f.v.boundaries[0])
}

// restore lets a restore begin when the map is as on the device. It ends with restored, maybe after checkpoints.
func (f *flusher) restore(r *wal.Record) {
	if f.v.tree.dirtyN > 0 {
		f.checkpoint()
		return
	}
	f.v.restore(r)
}

// restored goes on behind a restore.
func (v *Volume) restored() {
	f := &v.flusher
	f.goBehind(&f.rd.Records()[f.record])
}

// lags says that something is not home that will be. What a log that has ended did not make durable will not, and a pad has nothing.
func (f *flusher) lags() bool {
	_, written, durable := f.v.log.Marks()
	return f.home.Offset < f.v.log.DurableEnd() || written > durable && f.v.log.Failed() == bdev.StatusOK
}
