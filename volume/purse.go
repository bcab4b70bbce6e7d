package volume

import (
	"slices"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is what a volume has of its pool's space, and how it asks for more. The pool's allocator lives on the pool's reactor;
// one message goes there and back at a time, with all that is wanted then.
//
//	credits   clusters and pages that are reserved: a promise that a place will be there
//	places    clusters that are the volume's to use, or to give back
//
// A dirty cluster has credits for a place of its own and for the pages of the map above it; what it does not need comes back when it is
// home, what the map does not need when the checkpoint is made. So neither flusher nor checkpoint ever meets a full pool.

// credits are reserved space: whole clusters, and single pages for the map.
type credits struct{ clusters, pages int }

func (a credits) plus(b credits) credits  { return credits{a.clusters + b.clusters, a.pages + b.pages} }
func (a credits) minus(b credits) credits { return credits{a.clusters - b.clusters, a.pages - b.pages} }
func (a credits) covers(b credits) bool   { return a.clusters >= b.clusters && a.pages >= b.pages }

// need is them as the allocator counts.
func (a credits) need() Need { return Need{uint64(a.clusters), uint64(a.pages)} }

// pack makes them one number, for the dirty map.
func (a credits) pack() int { return a.clusters<<creditShift + a.pages }

func unpack(n int) credits { return credits{n >> creditShift, n & (1<<creditShift - 1)} }

const creditShift = 24 // more pages than any volume has dirty at once, in int32 for one cluster

// purse is a volume's.
type purse struct {
	have     credits // reserved, and promised to nothing
	mapPages int     // reserved for the next checkpoint
	places   []Place // for placed writes

	ask        askMessage
	asking     bool
	askDone    *event // control work that waits for the answer
	asker      *op    // for which the pool is asked
	refused    *op    // for which it has no more
	stalled    bool   // the pool has no more, but what is on its way home will give some back
	stallTimer reactor.Timer

	ckptWaits int // pages that a checkpoint waits for
	ckptExtra int // and those of them that were not reserved

	homeWaits  []*homing // for a place that is reserved
	againWaits []*homing // for one that is not
}

// askMessage asks the pool for space, and brings it. Lists are kept for the next time.
type askMessage struct {
	v *Volume

	credits credits // to be reserved
	least   credits // so much of them helps already
	class   Class
	refill  int     // pages to be reserved for checkpoints
	floor   credits // that a thick volume lacks: as much of them as there is
	places  int     // clusters for placed writes, not reserved before
	homes   int     // clusters that are reserved
	again   int     // clusters that are not, of homings that failed in another
	single  int     // pages that are reserved
	extra   int     // pages that are not
	extraAs Class   // whose these are
	giveUp  credits // no longer needed
	unused  []Place // pages that were not used
	spare   []Place // clusters that were not used

	gotCredits credits
	gotDue     int // pages of those that a thick volume gave up before
	gotPlaces  []Place
	gotHomes   []Place
	gotAgain   []Place
	gotSingle  []Place
	full       bool
	back       bool
}

// isNone says that there is nothing of them.
func (a credits) isNone() bool { return a == credits{} }

// creditsFor is what dirty clusters need at most: a place each, and the pages of the map on the way to it, one more for a map that grows.
func (v *Volume) creditsFor(clusters int, place bool) credits {
	n := credits{pages: clusters * (int(v.tree.root.levels) + 2)}
	if place {
		n.clusters = clusters
	}
	return n
}

// credit ties what was reserved for a record to the clusters that it made dirty. What a cluster has already is not needed twice.
func (v *Volume) credit(r *wal.Record, need *need) {
	n := need.credits
	shift := v.shape.shift
	first, last := r.Block>>shift, (r.Block+r.Blocks-1)>>shift
	k := int(last-first) + 1
	each := credits{n.clusters / k, n.pages / k}
	rest := n.minus(credits{each.clusters * k, each.pages * k}) // for the first
	if need.looked {
		each.clusters, rest.clusters = 0, 0
	}
	most := v.creditsFor(1, true)
	most.clusters += len(v.boundaries)  // what changed before one and what changed after it may need places of their own
	most.pages *= 2 + len(v.boundaries) // for the pass that is under way, and for the next
	for c := first; c <= last; c++ {
		have := unpack(v.dirty.takeCredits(c)).plus(each).plus(rest)
		rest = credits{}
		have.clusters += int(need.without >> (c - first) & 1)
		keep := credits{min(have.clusters, most.clusters), min(have.pages, most.pages)}
		v.dirty.addCredits(c, keep.pack())
		if back := have.minus(keep); !back.isNone() {
			v.have = v.have.plus(back)
			v.roomFreed()
		}
	}
}

// ahead is for how many clusters more is asked than is needed now.
const ahead = 32

// askPool asks for credits and for places of placed writes. Who needs them asks again when the answer is there.
func (v *Volume) askPool(o *op, n credits, places int, class Class) {
	if v.asking {
		return
	}
	a := &v.ask
	v.asker, a.class = o, class
	if !v.have.covers(n) {
		a.least = n.minus(v.have)
		a.least.clusters, a.least.pages = max(a.least.clusters, 0), max(a.least.pages, 0)
		if a.credits = a.least; o != nil {
			a.credits = a.least.plus(v.creditsFor(ahead, true))
		}
	}
	if places > len(v.places) {
		a.places = places - len(v.places) + placedClustersMax
	}
	v.sendAsk()
}

func (v *Volume) sendAsk() {
	v.asking, v.ask.back = true, false
	v.ask.homes, v.ask.single, v.ask.extra = len(v.homeWaits), v.ckptWaits, v.ckptExtra
	v.ask.again = len(v.againWaits)
	if v.ask.extraAs = Freeing; v.ckpt.tries > 0 { // rounds of other places leave the directory some
		v.ask.extraAs = Overwriting
	}
	v.r.Send(v.pool.r, &v.ask)
}

// Receive is the message at the pool, and back.
func (a *askMessage) Receive(*reactor.Reactor) {
	if !a.back {
		a.v.pool.answer(a)
		a.back = true
		a.v.pool.r.Send(a.v.r, a)
		return
	}
	a.v.answered()
}

// isFull says that the pool had not what a change needs.
func (a *askMessage) isFull() bool { return a.full || a.places > 0 && len(a.gotPlaces) == 0 }

// answer is the pool's side.
func (p *Pool) answer(a *askMessage) {
	al := p.alloc
	al.Unreserve(a.giveUp.need())
	for _, x := range a.unused {
		al.GiveBack(x, 1)
	}
	for _, x := range a.spare {
		al.GiveBack(x, uint64(p.shape.Blocks()))
	}
	if al.Reserve(credits{pages: a.refill}.need(), Freeing) {
		a.gotCredits.pages = a.refill
	}
	if x := &a.v.thick.returning; x.due > 0 {
		a.gotDue, x.due = x.due, 0
		a.gotCredits.pages += a.gotDue
	}
	for n := a.floor; !n.isNone(); n = (credits{n.clusters / 2, n.pages / 2}) {
		if al.Reserve(n.need(), Ordinary) {
			a.gotCredits = a.gotCredits.plus(n)
			break
		}
	}
	switch {
	case a.credits.isNone():
	case al.Reserve(a.credits.need(), Ordinary):
		a.gotCredits = a.gotCredits.plus(a.credits)
	case al.Reserve(a.least.need(), a.class):
		a.gotCredits = a.gotCredits.plus(a.least)
	default:
		a.full = true
	}
	a.gotPlaces = slices.Grow(a.gotPlaces[:0], a.places)[:a.places]
	a.gotPlaces = a.gotPlaces[:al.GrantClusters(a.gotPlaces, Ordinary)]
	if a.isFull() {
		p.lacked.Store(int64(p.r.Now()))
	}
	a.gotHomes = slices.Grow(a.gotHomes[:0], a.homes)[:a.homes]
	al.TakeClusters(a.gotHomes)
	a.gotAgain = slices.Grow(a.gotAgain[:0], a.again)[:a.again]
	a.gotAgain = a.gotAgain[:al.GrantClusters(a.gotAgain, Overwriting)]
	a.gotSingle = slices.Grow(a.gotSingle[:0], a.single)[:a.single]
	al.TakePages(a.gotSingle)
	if n := len(a.gotSingle); a.extra > 0 {
		a.gotSingle = slices.Grow(a.gotSingle, a.extra)[:n+a.extra]
		a.gotSingle = a.gotSingle[:n+al.GrantPages(a.gotSingle[n:], a.extraAs)]
	}
}

// answered takes what the pool gave.
func (v *Volume) answered() {
	a := &v.ask
	v.asking = false
	v.have = v.have.plus(a.gotCredits)
	noPlaces := a.places > 0 && len(a.gotPlaces) == 0
	full := a.full || noPlaces
	v.thick.told(a)
	lacking := a.single+a.extra > 0 && len(a.gotSingle) < a.single+a.extra
	v.places = append(v.places, a.gotPlaces...)
	homes, single := a.gotHomes, a.gotSingle
	again, got := a.again, len(a.gotAgain)
	a.credits, a.least, a.giveUp, a.gotCredits, a.places, a.refill, a.full = credits{}, credits{}, credits{}, credits{}, 0, 0, false
	a.unused, a.spare, a.gotPlaces = a.unused[:0], a.spare[:0], a.gotPlaces[:0]

	for i, place := range homes {
		v.homeWaits[i].place = place
	}
	for i, place := range a.gotAgain {
		v.againWaits[i].place = place
	}
	if len(single) > 0 {
		v.ckpt.places = append(v.ckpt.places, single...)
		v.ckptWaits, v.ckptExtra = 0, 0
	}
	for range len(homes) { // those may ask for more
		h := v.homeWaits[0]
		v.homeWaits = v.homeWaits[:copy(v.homeWaits, v.homeWaits[1:])]
		h.placed()
	}
	for i := range again {
		h := v.againWaits[0]
		v.againWaits = v.againWaits[:copy(v.againWaits, v.againWaits[1:])]
		if i < got {
			h.placed()
		} else {
			h.unplaced()
		}
	}
	switch {
	case lacking:
		v.ckptWaits, v.ckptExtra = 0, 0
		v.ckpt.lacks()
	case len(single) > 0:
		v.ckpt.seal()
	}
	if !v.asking && (v.ckptWaits+v.ckptExtra > 0 || len(v.homeWaits)+len(v.againWaits) > 0) {
		v.sendAsk()
	}
	if e := v.askDone; e != nil {
		v.askDone = nil
		s := bdev.StatusOK
		if full {
			s = bdev.StatusNoSpace
		}
		e.say(s)
	}
	if full && v.thick.on {
		full = v.meetsFull(noPlaces)
		noPlaces = full
	}
	// A dirty cluster has a place reserved that most do not need, and what was given up rests for two commits: only a volume that has
	// nothing on its way may say that the pool is full.
	if full && !v.thick.on && (v.dirty.used.clusters > 0 || v.log.Tail() != v.log.Head()) && !v.rests() {
		full = false
		if !v.stalled {
			v.stalled, v.flusher.force = true, true
			v.hurry()
		}
	}
	// Others have such places as well. They go home by themselves in a while.
	if o := v.asker; full && o != nil && !(v.thick.on && noPlaces) && !v.rests() && v.r.Now()-o.came < o.fullTimeout() {
		full = false
		if !v.stalled {
			v.stalled = true
			v.r.SetTimer(&v.stallTimer, v.r.Now()+flushPeriod, (*stall)(v))
		}
	}
	if full {
		v.refused = v.asker
	}
	v.asker = nil
	v.letPass()
	v.refused = nil
	v.checkIdle()
}

// fullTimeout is how long a change waits for others to give back what they do not need, before the pool is full. They give it back with a
// checkpoint, so each of their passes ends with one meanwhile (flusher.ripe).
const fullTimeout = 3 * flushPeriod

// fullTimeout is the op's: what gives space back is not refused for the lack of it, but waits at the door as long as anything may.
func (o *op) fullTimeout() reactor.Ticks {
	if o.q.Kind != bdev.Write {
		return 2 * admitTimeout
	}
	return fullTimeout
}

// stall ends with the next checkpoint, which gives back what was reserved for clusters that are home, or when others have had their time. If that
// was not enough, whoever asks finds the pool full, and stalls again. (Until everything is home it would not end as long as others write: passes
// become smaller and smaller, and each has its checkpoint.)
type stall Volume

// Run lets those at the door ask again.
func (s *stall) Run() {
	v := (*Volume)(s)
	v.stalled = false
	v.roomFreed()
}

// takePlaces takes n places for a placed write that reserved them.
func (v *Volume) takePlaces(to []Place, n int) []Place {
	k := len(v.places) - n
	to = append(to, v.places[k:]...)
	v.places = v.places[:k]
	return to
}

// givePlaces takes back what was not used.
func (v *Volume) givePlaces(p []Place) { v.places = append(v.places, p...) }

// takeHome lets a homing have a place against its cluster's credits; it goes on with placed.
func (v *Volume) takeHome(h *homing) {
	have := unpack(v.dirty.takeCredits(h.cluster))
	invariant.Check(have.clusters > 0, "volume: a dirty cluster without credits for its place")
	have.clusters--
	v.dirty.addCredits(h.cluster, have.pack())
	v.homeWaits = append(v.homeWaits, h)
	if !v.asking {
		v.sendAsk()
	}
}

// changed lets the next checkpoint have the map's pages that are reserved for a cluster, whose entry changes now. What came since this pass
// began has brought its own.
func (v *Volume) changed(cluster uint64) {
	have := unpack(v.dirty.takeCredits(cluster))
	pages := min(have.pages, v.creditsFor(1, false).pages)
	have.pages -= pages
	v.mapPages += pages
	v.dirty.addCredits(cluster, have.pack())
}

// cleaned takes the credits of clusters that are home.
func (v *Volume) cleaned() { v.have = v.have.plus(unpack(v.dirty.takeSurplus())) }

// takePages lets the checkpoint have places for so many pages.
//
// Each change of the map has brought credits for its pages, but a cluster that is written again and again keeps those of two changes
// only. What is lacking then comes out of what is promised to nothing, and in the end out of the allocator's cushion.
func (v *Volume) takePages(n int) {
	reserved := min(n, v.mapPages)
	v.mapPages -= reserved
	free := min(n-reserved, v.have.pages)
	v.have.pages -= free
	v.ckptWaits, v.ckptExtra = reserved+free, n-reserved-free
	if !v.asking {
		v.sendAsk()
	}
}

// settlePages lets what a checkpoint did not need be used for what comes, and gives the pool back what is too much.
func (v *Volume) settlePages() {
	reserve := checkpointReserve + v.restoring.pages
	if short := min(reserve-v.mapPages, v.have.pages); short > 0 {
		v.mapPages += short
		v.have.pages -= short
	}
	if short := reserve - v.mapPages; short > checkpointReserve/2 && !v.asking {
		v.ask.refill = short
		v.sendAsk()
	}
	if over := v.mapPages - reserve; over > 0 {
		v.mapPages -= over
		v.have.pages += over
	}
	keep := v.creditsFor(4*ahead, true)
	if v.dirty.used.clusters == 0 && v.doorList.n == 0 && !v.asking { // it rests: others may need them
		keep = credits{}
		v.ask.spare, v.places = append(v.ask.spare, v.places...), v.places[:0]
	}
	if n := v.floorLacks(); !n.isNone() && !v.asking {
		v.ask.floor = n
		v.sendAsk()
	}
	if over := v.overmuch(keep); (over != (credits{}) || len(v.ask.spare) > 0) && !v.asking {
		v.have = v.have.minus(over)
		v.ask.giveUp = v.ask.giveUp.plus(over)
		v.sendAsk()
	}
}

// checkpointReserve is what a checkpoint may need besides the pages of dirty clusters: the volume page, and those of snapshots and
// reservations.
const checkpointReserve = 48

// givePages gives back places of pages that nothing refers to. While the pool has the message they cannot: since only a checkpoint that failed
// has any, and with it the volume ends, they are free when the pool is opened again.
func (v *Volume) givePages(p []Place) {
	if !v.asking && len(p) > 0 {
		v.ask.unused = append(v.ask.unused, p...)
		v.sendAsk()
	}
}
