package volume

import (
	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the door of changes. A segment passes it with all that it will need on its way home:
//
//	room in the log        or it waits for the flusher to move the tail
//	room in the dirty map  or it waits for the flusher to empty it. What the log keeps for recovery, be it home or not, is bounded too:
//	                       recovery from the older slot must have room for all of it
//	pages of the pool      credits: for each cluster that it touches a place, and pages for the map; or it waits for the pool,
//	                       which may answer that it is full
//	places                 for clusters that are written there first
//
// Who has to wait waits in line; nobody passes. Before that the fill of the log slows the door down (V-43).

// need is what a segment needs.
type need struct {
	log     int // pages of payload
	dirty   dirtyRoom
	credits credits
	places  int
	looked  bool   // the map was looked into:
	without uint64 // a bit for each cluster that it touches, set where a place is needed
}

// needs says what a record of blocks needs.
func (v *Volume) needs(k wal.Kind, block, blocks uint64) need {
	n := need{dirty: v.dirtyRoomOf(k, block, blocks)}
	n.credits = v.creditsFor(n.dirty.clusters, k == wal.KindWrite)
	switch k {
	case wal.KindPlaced:
		n.log, n.places = 1, n.dirty.placed
	case wal.KindWrite:
		n.log = int(blocks)
	}
	return n
}

// dirtyRoomOf is what a record of blocks takes in the dirty map, 0 if it is of no blocks.
func (v *Volume) dirtyRoomOf(k wal.Kind, block, blocks uint64) dirtyRoom {
	if blocks == 0 || k.Event() {
		return dirtyRoom{}
	}
	shift := v.shape.shift
	n := dirtyRoom{clusters: int((block+blocks-1)>>shift-block>>shift) + 1}
	switch k {
	case wal.KindPlaced:
		n.placed = n.clusters
	case wal.KindWrite:
		n.blocks = int(blocks)
	default:
		per := uint64(v.shape.Blocks())
		head := min(-block&(per-1), blocks)
		n.blocks = int(head + (blocks-head)&(per-1))
	}
	return n
}

// reserve takes what a segment needs, all of it or nothing. If it reports false the op waits at the door, or has failed, or is short now.
func (v *Volume) reserve(o *op, n *need) bool {
	switch {
	case v.failed != bdev.StatusOK:
		o.fail(v.failed)
		return false
	case !v.open: // shut while it was under way
		o.fail(bdev.StatusClosed)
		return false
	case !v.leavesSet(n.credits): // the event that it waits for has no LSN yet
	case !v.have.covers(n.credits) || len(v.places) < n.places:
		if v.refused == o {
			v.refuse(o)
			return false
		}
		if !v.stalled {
			v.askPool(o, n.credits, n.places, o.classOf(n))
		}
	case !v.admitted.plus(n.dirty).minus(v.older.passed).within(v.retained) || !v.dirty.reserve(n.dirty):
		v.hurry()
	case !v.log.Reserve(n.log):
		v.dirty.unreserve(n.dirty)
		v.hurry()
	default:
		v.have = v.have.minus(n.credits)
		v.admitted = v.admitted.plus(n.dirty)
		return true
	}
	v.waits(o, n)
	v.waitAtDoor(o)
	return false
}

// unreserve gives back what was reserved for a segment that gets no LSN.
func (v *Volume) unreserve(n *need) {
	v.log.Unreserve(n.log)
	v.dirty.unreserve(n.dirty)
	v.admitted = v.admitted.minus(n.dirty)
	v.have = v.have.plus(n.credits)
}

// admitTimeout is how long a change may wait at the door, whatever for.
const admitTimeout = 5 * reactor.Second

// admit lets a change come to the door.
func (v *Volume) admit(o *op) {
	pressure, delay := wal.Admission(v.log.Used(), v.log.Size())
	if pressure == wal.PressureWait && v.isStranded() {
		o.fail(bdev.StatusReadOnly)
		o.issued()
		return
	}
	if pressure >= wal.PressureUrgent {
		v.hurry()
	}
	if v.doorList.n > 0 || delay > 0 {
		o.ready = v.r.Now() + delay
		o.door = doorOf(pressure)
		v.waitAtDoor(o)
		return
	}
	v.change(o)
}

// waitAtDoor lines an op up: at the end, or at the front if it was let in already and has to wait for more.
func (v *Volume) waitAtDoor(o *op) {
	if v.letIn == o {
		v.doorList.unpop(o)
	} else {
		v.doorList.push(o)
	}
	v.setDoorTimer()
}

// setDoorTimer lets the door be looked at when the first in line may pass, or has waited too long.
func (v *Volume) setDoorTimer() {
	o := v.doorList.head
	if o == nil {
		v.r.StopTimer(&v.doorTimer)
		return
	}
	at := o.came + admitTimeout
	if o.ready > v.r.Now() {
		at = min(at, o.ready)
	}
	if !v.doorTimer.Set() || v.doorTimer.At() != at {
		v.r.SetTimer(&v.doorTimer, at, (*doorkeeper)(v))
	}
}

// doorkeeper looks at the door when its timer says so, or when something has become free.
type doorkeeper Volume

// Run lets in who may pass, in order.
func (k *doorkeeper) Run() { (*Volume)(k).letPass() }

// roomFreed says that something became free for which somebody may wait.
func (v *Volume) roomFreed() {
	if v.doorList.n > 0 || len(v.events) > 0 {
		v.r.AtFlush(&v.doorLater, (*doorkeeper)(v))
	}
}

func (v *Volume) letPass() {
	v.letEventsPass()
	now := v.r.Now()
	for o := v.doorList.head; o != nil; o = v.doorList.head {
		late := now-o.came >= admitTimeout || v.atHardMark()
		if !late && o.ready > now {
			break
		}
		if p, _ := wal.Admission(v.log.Used(), v.log.Size()); p != wal.PressureWait || o.at != o.block {
			// Who is late is let in as well, if there is room now: the reactor itself may have been away.
			v.doorList.pop()
			v.letIn = o
			v.change(o)
			v.letIn = nil
			if v.doorList.head != o {
				continue
			}
		} else {
			v.hurry()
		}
		if !late {
			break // it has to wait on
		}
		v.doorList.pop()
		if v.asker == o {
			v.asker = nil
		}
		v.turnedAway(o)
		if v.isStranded() {
			o.fail(bdev.StatusReadOnly)
		}
		o.fail(bdev.StatusBusy)
		o.issued()
	}
	v.setDoorTimer()
}

// shutDoor lets nobody in any more: who waits, here or for an op, hears it at once, and what has passed goes on.
func (v *Volume) shutDoor() {
	v.open = false
	for n := v.waiting.n; n > 0; n-- { // who hears it may send more
		e := v.waiting.pop()
		v.answer(e.q, e.x, bdev.StatusClosed)
	}
	v.asker = nil
	for n := v.doorList.n; n > 0; n-- {
		o := v.doorList.pop()
		o.fail(bdev.StatusClosed)
		o.issued()
	}
	v.setDoorTimer()
}
