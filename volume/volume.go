package volume

import (
	"fmt"
	"strings"
	"sync"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// WriteCache says what an acknowledged write means.
type WriteCache uint8

// The kinds of write cache.
const (
	CacheNone     WriteCache = iota // acknowledged = durable
	CacheVolatile                   // acknowledged = written; flush or FUA makes it durable
)

func (c WriteCache) String() string {
	if c == CacheVolatile {
		return "volatile"
	}
	return "none"
}

// ParseWriteCache reads one of the two words.
func ParseWriteCache(s string) (WriteCache, error) {
	for _, c := range []WriteCache{CacheNone, CacheVolatile} {
		if strings.EqualFold(c.String(), s) {
			return c, nil
		}
	}
	return 0, fmt.Errorf("no write cache %q: choose none or volatile", s)
}

// Volume is one volume, thin or thick. What stands here belongs to its reactor.
type Volume struct {
	r       *reactor.Reactor
	pool    *Pool
	data    *bdev.Channel // of the pool's device
	logData *bdev.Channel // of the log's
	stages  *wal.Stages

	page   VolumePage // as the pool has it
	ref    Ref        // where
	shape  Shape
	cache  WriteCache
	verify bool

	placedFrom uint64 // so many blocks in whole clusters go to new places first: one cluster; a benchmark measures others
	alone      uint64 // clusters that the head has alone

	role    Role
	open    bool        // requests are taken
	parting bool        // and will never be again: the last checkpoint says that it was closed in order
	given   bool        // up: the device does not answer, and is sent nothing more (stuck.go)
	failed  bdev.Status // for changes: what hosts hear, since none is taken any more
	cause   bdev.Status // why that is so

	log   *wal.Log
	dirty *dirtyMap
	tree  *mapTree
	grace grace

	acked          wal.LSN // the highest of requests that have ended: a flush makes durable what is not above it
	ops            *op
	opsOut         int
	waiting        requestRing // requests that wait for an op
	ending         opList
	endLater       reactor.Deferred
	parts          *part
	partWaiters    opList
	ownParts       *part
	segments       *segment
	segmentWaiters opList

	doorList  opList
	letIn     *op
	doorTimer reactor.Timer
	doorLater reactor.Deferred
	drains    []reactor.Runner // wait until no op is under way
	shut      bool             // requests wait for the end of an exclusive act
	shutTimer reactor.Timer

	purse
	thick thick
	partialDoor
	trims     int // records on their way into the log that take places away
	eventsOut int // events on their way into it

	events     []*logEvent // that wait for room in the log
	boundaries []wal.LSN   // events in the log that end what a cluster has alone, and are not applied
	snapshots  snapshots
	clearing   clearing
	restoring  restoring
	reserves   reserves
	flattening flattening
	restores   []SnapshotNumber // of events in the log that are not applied
	torn       bool             // a restore could not be applied: what it should be is not known
	walks      int              // turns of control's walks through maps

	flusher    flusher
	flushLater reactor.Deferred
	sync       wal.Waiter
	syncing    bool
	ckpt       checkpoint
	admitted   dirtyRoom // that all records took since it was opened, and those before that recovery found
	retained   dirtyRoom // so much of it may be behind the older slot's checkpoint
	older      mark      // what the slots have
	newer      mark
	scrub      scrubber
	forces     []reactor.Runner // wait until everything is home and the tail has moved
	settlings  []settling       // wait until what was written when they asked is

	referred   []Place // clusters that the next checkpoint refers to
	unreferred []Place // and those that it no longer does
	released   []Place // those of placed records that did not come home
	forsaken   []Place // and those that cannot be written

	acts     sync.Mutex        // held by one act of control on its history at a time: snapshots, restoring, flattening
	position uint64            // of its page in the directory
	name     Name              // under the pool's mu
	closed   bool              // the same
	opened   []*SnapshotDevice // the same
	device   *bdev.Device
	recovery *recovery // while it is opened
	idle     *event    // waits until nothing is under way

	counters Counters
	before   counted
	queuedAt reactor.Ticks // of the request that begins: 0 if it did not wait
}

// gate says whether a request may pass now: role and, where there is one, epoch and lease.
func (v *Volume) gate(k bdev.Kind) bdev.Status {
	switch {
	case !v.open:
		return bdev.StatusClosed
	case v.page.Flags.Has(VolumeFenced):
		return bdev.StatusNotReady
	case v.role != RolePrimary:
		return bdev.StatusNotPrimary
	case k.Writes() && v.failed != bdev.StatusOK:
		return v.failed
	}
	return bdev.StatusOK
}

// unsafe is what remains when home or the map cannot be written: everything acknowledged is in the log, which is kept; nothing more is
// taken.
func (v *Volume) unsafe(s bdev.Status) {
	f := &v.flusher
	if v.cause == bdev.StatusOK {
		v.cause = s
	}
	if v.failed = bdev.StatusReadOnly; f.ending {
		return
	}
	f.close()
	v.log.Fail(bdev.StatusReadOnly)
	v.ckpt.tell(bdev.StatusReadOnly)
	v.roomFreed()
	if f.state == flushEnded {
		v.forced()
	}
	v.checkIdle()
}

// wound is what remains when the log cannot be read where it was durable.
func (v *Volume) wound(error) { v.unsafe(bdev.StatusCorrupt) }

// awaitDurable lets the flusher go on when what is written now is durable.
func (v *Volume) awaitDurable() {
	if v.syncing {
		return
	}
	v.syncing = true
	_, written, _ := v.log.Marks()
	v.log.AwaitDurable(&v.sync, written)
}

// LogDurable hears that it is.
func (v *Volume) LogDurable(_ *wal.Waiter, s bdev.Status) {
	v.syncing = false
	if s != bdev.StatusOK {
		v.unsafe(s)
		return
	}
	v.hurry()
	v.checkIdle()
}

// force lets run run when everything written by now is home, a checkpoint says so, and the tail has moved. Tests use it in place of
// waiting, and so does whoever closes the volume.
func (v *Volume) force(run reactor.Runner) {
	v.forces = append(v.forces, run)
	v.flusher.force = true
	v.hurry()
}

// passed hears that the flusher has come to the end of a pass and of its checkpoint.
func (v *Volume) passed() {
	v.counters.HomePasses++
	v.flusher.told, v.flusher.erred = v.flusher.erred, false
	v.forced()
	if v.flusher.asked {
		v.hurry()
	}
	v.due()
}

// forced tells those who forced the flusher, if it has nothing left to do.
func (v *Volume) forced() {
	f := &v.flusher
	if v.rests() {
		v.flattening.abandon()
	}
	if len(v.forces)+len(v.settlings) == 0 {
		return
	}
	if f.state == flushIdle && (f.lags() || v.tree.dirtyN > 0 || v.log.Tail() != f.home.Offset || v.unmarked() || v.scrub.unsaved()) {
		if v.settles(false); len(v.forces)+len(v.settlings) > 0 {
			f.force, f.asked = true, true
		}
		return
	}
	v.settles(true)
	all := v.forces
	v.forces = nil
	for _, run := range all {
		run.Run()
	}
}

// refer notes a cluster's new place for the next checkpoint, unrefer one that it gives up.
func (v *Volume) refer(p Place) {
	v.referred = append(v.referred, p)
	v.alone++
}

func (v *Volume) unrefer(p Place) {
	v.unreferred = append(v.unreferred, p)
	v.alone--
}

// checkIdle tells who closes the volume when nothing is under way.
func (v *Volume) checkIdle() {
	if v.idle == nil || v.opsOut > 0 || v.asking || v.syncing || v.reserves.saving || v.walks > 0 || !v.log.Idle() || v.flusher.busy() || v.scrub.busy() || v.ckpt.step != checkpointNone {
		return
	}
	e := v.idle
	v.idle = nil
	e.Run()
}
