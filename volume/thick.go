package volume

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/wal"
)

// This file is a thick volume: its space is reserved, so that no write to it meets a full pool, whatever its neighbours do.
//
//	clusters   each has a place that the head has alone, or one is reserved: in the floor of v.have, or with what is dirty of it
//	pages      all pages of its map at once, and so many that a pass of the flusher has its own: reserved, in its root, or resting
//
// A place that the head has alone stays the cluster's: a trim keeps it. So what is reserved only goes down as clusters are written, and
// goes up again where places are shared: by a snapshot, and by restoring one. Both first reserve a full set, and are refused if the pool
// has none. SPDK makes a thick volume thin at its first snapshot without a word; here it stays what it was asked to be.
//
// The pages that its checkpoints give up come back to it when they are free, two commits later: were they anybody's, neighbours would have
// them, page by page, until it had none.
//
// A write that would take from the floor looks into the map, at the door: a cluster that has a place needs none. What is reserved beyond the
// floor is used without looking, and a placed write uses new places if the pool has some; if not it goes through the log.
//
// After a power cut either slot may open the pool. A cluster that was reserved and is written is therefore given up only when both slots
// know its place: until then who opens by the older one reserves it again.

// thickEvent says how far an event is after which the head has nothing alone: a snapshot or a restore.
type thickEvent uint8

const (
	thickNone   thickEvent = iota
	thickComing            // a full set is being reserved for it, or is there
	thickOut               // it has its LSN, and is not applied: what is changed now needs a place, whatever it has
)

// thick is what a volume knows of its reservation. It belongs to the volume's reactor, but for the last.
type thick struct {
	on      bool // never altered while it is open
	event   thickEvent
	full    bool      // the pool had no more, since the last checkpoint
	stays   bool      // it is closed to be opened again at once: nobody else gets what is reserved
	bytes   uint64    // the size that it will have, 0 if that is no other
	slots   [2]uint64 // clusters that the head has alone in the newer slot and in the older one
	held    credits   // that the pool's allocator has reserved for it, for whatever
	taken   int       // pages of those once reserved that the root has
	resting int       // pages that come back

	returning returning
}

// returning is pages that a thick volume gave up, on their way back to it. It belongs to the pool's reactor.
type returning struct{ leaving, rested, due int }

// mapPages is how many pages a map of so many clusters has when all of them are written.
func (s Shape) mapPages(clusters uint64) (n uint64) {
	per := uint64(s.entries)
	for {
		clusters = (clusters + per - 1) / per
		if n += clusters; clusters <= 1 {
			return n
		}
		per = RefsMax
	}
}

// thickNeed is what a thick volume of a size has reserved at first: a place for each cluster, its map, and what a pass of the flusher has on
// its way.
func (s Shape) thickNeed(bytes uint64) credits {
	n := s.Clusters(bytes)
	return credits{int(n), int(s.mapPages(n)) + 4*ahead*(int(s.Levels(n))+2) + checkpointReserve}
}

func (v *Volume) thickNeed() credits { return v.shape.thickNeed(max(v.page.Bytes, v.thick.bytes)) }

// floor is how many clusters of v.have only those may have who looked into the map.
func (v *Volume) floor() int {
	if v.thick.event != thickNone {
		return v.thickNeed().clusters
	}
	return v.thickNeed().clusters - int(v.alone)
}

// keeps is how many it does not give up.
func (v *Volume) keeps() int {
	if v.thick.event != thickNone {
		return v.thickNeed().clusters
	}
	return v.thickNeed().clusters - int(min(v.alone, v.thick.slots[0], v.thick.slots[1]))
}

// sparePages is by how many pages it has more than it needs; it is below 0 if it has less. Nothing is being asked for.
func (v *Volume) sparePages() int {
	t := &v.thick
	need := v.thickNeed()
	n := t.held.pages + t.resting + t.taken - need.pages
	if t.event != thickNone { // a second map
		n -= int(v.shape.mapPages(uint64(need.clusters)))
	}
	return n
}

// overmuch is what of v.have the pool gets back, of a volume that keeps so much for what comes.
func (v *Volume) overmuch(keep credits) credits {
	if !v.thick.on {
		return credits{max(v.have.clusters-keep.clusters, 0), max(v.have.pages-keep.pages, 0)}
	}
	return credits{max(v.have.clusters-v.keeps()-keep.clusters, 0), min(max(v.sparePages()-keep.pages, 0), v.have.pages)}
}

// floorLacks is what a thick volume has less than it should have: a place at home could not be written, or not all was there at the import.
func (v *Volume) floorLacks() credits {
	if !v.thick.on {
		return credits{}
	}
	return credits{max(v.thickNeed().clusters-int(v.alone)-v.thick.held.clusters, 0), max(-v.sparePages(), 0)}
}

// fromFloor says what places a write's next record needs, if they are not there beyond the floor. It reports false if the op has to wait for the
// map.
func (v *Volume) fromFloor(o *op, blocks uint64, n *need) bool {
	if v.have.clusters-n.credits.clusters >= v.floor() {
		return true
	}
	shift := v.shape.shift
	first, last := o.at>>shift, (o.at+blocks-1)>>shift
	n.looked, n.without, n.credits.clusters = true, 0, 0
	for c := first; c <= last; c++ {
		has, ok := v.hasPlace(o, c)
		if !ok {
			return false
		}
		if !has {
			n.without |= 1 << (c - first)
			n.credits.clusters++
		}
	}
	if !v.thick.full && !v.asking && v.thick.event == thickNone {
		v.askPool(nil, credits{v.floor() + ahead, v.have.pages}, 0, Ordinary)
	}
	return true
}

// hasPlace says of a cluster that a change of it needs no place. ok is false if the op has to wait for the map. That a place is reserved for what
// is dirty already does not count: with a trim that is on its way it may be given back before this change is there. What is reserved twice comes
// back when the record is in the log. Where the map cannot be read once, the op looks no further: a page that cannot be read does not stay in the
// cache, and of two such it would always wait for the other.
func (v *Volume) hasPlace(o *op, cluster uint64) (has, ok bool) {
	if v.thick.event == thickOut || o.blind {
		return false, true
	}
	switch e, s := o.find(cluster); s {
	case mapWaits:
		return false, false
	case mapFailed:
		o.blind = true
		return false, true
	default:
		return v.owned(cluster, e), true
	}
}

// leavesSet says that what a record takes leaves the full set that was reserved for an event which does not have its LSN yet. Else the record
// waits for that.
func (v *Volume) leavesSet(n credits) bool {
	return v.thick.event != thickComing || n.clusters == 0 || v.have.clusters-n.clusters >= v.floor()
}

// meetsFull decides what follows when the pool has no more for a thick volume. It reports that who asked for it is refused: a write of whole
// clusters, which goes through the log then. Everybody else waits: what he needs is the volume's, on its way home or resting.
func (v *Volume) meetsFull(noPlaces bool) bool {
	t, f := &v.thick, &v.flusher
	t.full = true
	switch {
	case v.asker == nil:
		return false
	case noPlaces && !v.asker.short, v.rests():
		return true
	case t.held != v.have.plus(credits{pages: v.mapPages}) || v.log.Tail() != v.log.Head() || t.resting > 0:
		if !v.stalled {
			v.stalled, f.force = true, true
			v.hurry()
		}
		return false
	}
	return true
}

// told takes over what the pool's answer changed of what is held.
func (t *thick) told(a *askMessage) {
	t.held = t.held.plus(a.gotCredits).minus(a.giveUp).minus(credits{a.homes, a.single})
	t.resting -= a.gotDue
	a.floor, a.gotDue = credits{}, 0
}

// eventAppended notes that an event got its LSN, or came out of the log.
func (v *Volume) eventAppended(k wal.Kind) {
	if v.thick.on && (k == wal.KindSnapshot || k == wal.KindRestore) {
		v.thick.event = thickOut
		v.roomFreed()
	}
}

// eventApplied notes that it is applied, and what the head has alone is known again.
func (v *Volume) eventApplied() {
	if len(v.boundaries) == 0 && v.thick.event == thickOut {
		v.thick.event = thickNone
	}
}

// sealThick puts into the volume page of a checkpoint what has to be reserved by who opens it. With a snapshot's checkpoint all pages of the map
// are the snapshot's.
func (v *Volume) sealThick(c *checkpoint, snapshot bool) {
	if !v.thick.on {
		return
	}
	p := &c.page
	c.taken = 0
	if !snapshot {
		c.taken = max(v.thick.taken+len(c.commit.refer)+c.list+c.kept-len(c.commit.unrefer), 0) // a volume page comes and one goes
	}
	need := v.shape.thickNeed(p.Bytes)
	p.ClustersReserved, p.PagesReserved = uint64(need.clusters)-p.ClustersAlone, uint64(max(need.pages-c.taken, 0))
}

// thickCommitted notes that a slot shows a checkpoint.
func (v *Volume) thickCommitted(c *checkpoint) {
	t := &v.thick
	t.full = false
	if !t.on {
		return
	}
	t.taken = c.taken
	t.resting += len(c.commit.unrefer)
	t.slots[1], t.slots[0] = t.slots[0], c.page.ClustersAlone
}

// returned gives thick volumes their pages back that became free with a commit. It runs on the pool's reactor.
func (p *Pool) returned() {
	for _, v := range p.thicks {
		x := &v.thick.returning
		p.alloc.Keep(uint64(x.rested))
		x.due += x.rested
		x.rested, x.leaving = x.leaving, 0
	}
}

// promiseNew reserves for a new thick volume, and reports whether all of it was there. It runs on the pool's reactor, and before the volume's has
// it.
func (p *Pool) promiseNew(v *Volume, n credits) bool {
	if !p.alloc.Reserve(n.need(), Ordinary) {
		return false
	}
	v.have, v.thick.held = n, n
	p.thicks = append(p.thicks, v)
	return true
}

// unpromise ends that, and every other reservation of a volume that is closed. It runs on the pool's reactor.
func (p *Pool) unpromise(v *Volume) {
	p.thicks = slices.DeleteFunc(p.thicks, func(x *Volume) bool { return x == v })
	n := v.have.plus(v.ask.giveUp).plus(credits{pages: v.mapPages})
	v.have, v.ask.giveUp, v.mapPages = credits{}, credits{}, 0
	if x := &v.thick.returning; v.thick.on {
		n.pages, x.due = n.pages+x.due, 0
	}
	if v.thick.stays {
		v.have = n
		return
	}
	p.alloc.Unreserve(n.need())
}

// handOver gives the reservation of a closed volume to the same one, which is opened in its place.
func (p *Pool) handOver(from, to *Volume) error {
	if !from.thick.stays {
		return nil
	}
	return p.r.Call(func() {
		t := &to.thick
		to.have, t.held = from.have, from.have
		t.returning, t.taken = from.thick.returning, from.thick.taken
		t.resting = t.returning.leaving + t.returning.rested
		t.slots = from.thick.slots
		p.thicks = append(p.thicks, to)
	})
}

// noFloor is the error of a thick volume for which the pool has not enough. It runs on the pool's reactor.
func (p *Pool) noFloor(what string, n credits) error {
	free := p.alloc.Space()
	return fmt.Errorf("%w: %s needs %d clusters of %d bytes free and %d pages for its map, and of the pool's %d free clusters %d are promised already, and of its free pages %d, and %d are kept for trims: delete or trim something, or make the pool larger",
		ErrNoSpace, what, n.clusters, p.shape.ClusterBytes(), n.pages, free.Clusters, min(p.alloc.reserved.Clusters, free.Clusters), p.alloc.reserved.Pages, free.Cushion)
}

// countFloor counts what is to be reserved for a volume that comes out of its log, beside what it owes to the records there. Places that its
// dirty clusters have already may be counted twice; that is given up soon.
func (v *Volume) countFloor() {
	t := &v.thick
	if !t.on || !t.held.isNone() { // it is new, or was closed a moment ago
		return
	}
	t.slots = [2]uint64{v.alone, v.alone}
	t.taken = max(v.shape.thickNeed(v.page.Bytes).pages-int(v.page.PagesReserved), 0)
	need := v.thickNeed()
	n := credits{v.floor(), max(need.pages-t.taken, 0)}
	if t.event == thickOut {
		n.pages += int(v.shape.mapPages(uint64(need.clusters)))
	}
	v.recovery.floor = n
}

// countFloorAgain counts it to the cluster, when it is known which have a place. Of pages it has enough for a whole map, and not for each cluster
// by itself.
func (v *Volume) countFloorAgain() {
	x := v.recovery
	if x.floor.isNone() {
		return
	}
	owed := x.owed.clusters
	if v.thick.event == thickOut {
		owed = x.placesBehind
	}
	x.floor.clusters = max(x.floor.clusters-owed, 0)
	v.dirty.dropPages()
	x.owed.pages = 0
}

// thickFirst prepares for reserving to the cluster: what rests for the older slot's sake was reserved too, so that is let go, and what is promised to
// thick volumes comes first.
func (p *Pool) thickFirst(all []*Volume) ([]*Volume, error) {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b *Volume) int { return cmp.Compare(b.recovery.floor.pages, a.recovery.floor.pages) })
	if len(all) == 0 || all[0].recovery.floor.isNone() {
		return all, nil
	}
	for range 2 {
		if err := p.twice(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// haveFloors lets thick volumes have what was reserved.
func (p *Pool) haveFloors(all []*Volume, ok bool) error {
	for _, v := range all {
		if x := v.recovery; ok && !x.floor.isNone() {
			if err := p.haveFloor(v, x.floor); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *Pool) haveFloor(v *Volume, n credits) error {
	return p.r.Call(func() {
		v.have = n
		v.thick.held = n.plus(v.recovery.owed)
		p.thicks = append(p.thicks, v)
	})
}

// reserveFloor reserves the floor of one, as much of it as there is.
func (p *Pool) reserveFloor(v *Volume) error {
	n := v.recovery.floor
	if n.isNone() {
		return nil
	}
	whole := true
	for ; !n.isNone(); whole, n = false, (credits{n.clusters / 2, n.pages / 2}) {
		if ok, err := p.reserveFor(n, Freeing); ok || err != nil {
			if err != nil {
				return err
			}
			break
		}
	}
	if !whole {
		p.problem("volume %s is thick, and the pool has not all free that was promised to it: its writes may find the pool full; delete or trim something", v.name)
	}
	return p.haveFloor(v, n)
}

// unreferred counts the clusters of which the root refers to no page.
func (a *Allocator) unreferred() (n uint64) {
	b := a.bits
	for c := range b.pages >> b.shift {
		if countBits(b.committed, c<<b.shift, b.clusterPages()) == 0 {
			n++
		}
	}
	return n
}

// reserveSet lets a thick volume have what an event needs whose LSN the next one is, or asks the pool for it. It is control work; without an
// error giveSet or the event's end follows.
func (v *Volume) reserveSet(what string) error {
	if !v.thick.on {
		return nil
	}
	if err := v.r.Call(func() { v.thick.event = thickComing }); err != nil {
		return err
	}
	err := v.fillFloor(what, func() credits { return credits{clusters: v.floor()} })
	if err != nil {
		v.giveSet()
	}
	return err
}

// giveSet ends what reserveSet began if the event did not get its LSN.
func (v *Volume) giveSet() {
	_ = v.r.Call(func() {
		if v.thick.event == thickComing {
			v.thick.event = thickNone
			v.roomFreed()
		}
	})
}

// fillFloor waits until a thick volume has so many clusters in v.have, and its pages.
func (v *Volume) fillFloor(what string, want func() credits) error {
	for {
		done, mine := false, false
		var lacks credits
		e := newEvent()
		if err := v.r.Call(func() {
			if v.asking {
				v.askDone = e
				return
			}
			n := want()
			n.pages = v.have.pages + max(-v.sparePages(), 0)
			if done = v.have.covers(n); done {
				return
			}
			lacks = credits{max(n.clusters-v.have.clusters, 0), n.pages - v.have.pages}
			mine, v.askDone = true, e
			v.askPool(nil, n, 0, Ordinary)
		}); err != nil || done {
			return err
		}
		if s := v.pool.disk.wait(e); s == bdev.StatusOK || !mine {
			continue
		}
		var err error
		if e := v.pool.r.Call(func() { err = v.pool.noFloor(what, lacks) }); e != nil {
			return e
		}
		return err
	}
}

// growFloor reserves for a thick volume what it needs with another size. It is control work; resized, or another call with 0, ends it.
func (v *Volume) growFloor(bytes uint64) error {
	if !v.thick.on {
		return nil
	}
	target := 0
	if err := v.r.Call(func() {
		was := v.thickNeed().clusters
		v.thick.bytes = bytes
		target = v.have.clusters + max(v.thickNeed().clusters-was, 0)
	}); err != nil || bytes == 0 {
		return err
	}
	err := v.fillFloor("a thick volume that becomes larger", func() credits { return credits{clusters: target} })
	if err != nil {
		_ = v.r.Call(func() { v.thick.bytes = 0 })
	}
	return err
}

const _ = uint(64 - (wal.RecordPagesMax>>ClusterShiftMin + 1)) // does not compile if a record could touch more clusters than there are bits
