package volume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/wal"
)

// This file is how a volume comes out of its log when it is opened, after all logs were read (logread.go) and the places that they name are
// claimed (placed.go).
//
//	replay    what the log said goes into the dirty map, and what it needs on its way home is counted
//	promise   so much of the pool is reserved, for all volumes at once
//	revive    a life begins: durable before its first record

// recovery is what is known of a volume only while it is opened.
type recovery struct {
	logRead
	cut       wal.LSN // the log ends before it: a placed record whose data is not there
	short     error   // why what is in the log cannot come home: the end is not known, there is no room, or the map is damaged
	unapplied bool    // the log has events whose effect must be there before the volume is used
	damaged   error   // why nothing of it can be opened

	floor        credits                    // that a thick volume has beside (thick.go)
	owed         credits                    // that the dirty clusters have got, and the pool has not reserved
	homed        map[uint64]struct{}        // clusters that owe a place which they do not need if they have one of their own
	behind       map[uint64]recoveredBehind // what was counted behind boundaries
	placesBehind int                        // of those: places
	begun        *event
}

// replay lets all that the log said be dirty again. No more is done in one call than what a reactor has time for.
func (v *Volume) replay() error {
	x := v.recovery
	v.admitted = x.room
	v.enlarge(x.room, x.events.bytes)
	v.flusher.home = wal.Follow{Offset: v.page.LogOffset, Life: v.page.Life, Epoch: v.page.Epoch, LSN: v.page.Checkpoint}
	x.homed, x.behind = map[uint64]struct{}{}, map[uint64]recoveredBehind{}
	for i := range x.parts {
		if err := v.r.Call(func() { v.replayPart(&x.parts[i]) }); err != nil {
			return err
		}
	}
	v.countFloor()
	x.parts, x.behind = nil, nil
	return nil
}

func (v *Volume) replayPart(p *logPart) {
	x := v.recovery
	scratch := make([]uint32, v.shape.Blocks())
	crcs, payload := p.crcs, p.payload
	for i := range p.records {
		r := &p.records[i]
		if r.LSN >= x.cut { // as all that follow: they will never be home
			v.admitted = v.admitted.minus(v.dirtyRoomOf(r.Kind, r.Block, r.Blocks))
			continue
		}
		n := v.keptOf(r)
		if r.Kind.Event() {
			v.note(r, payload[:n])
			x.unapplied = x.unapplied || r.Kind != wal.KindEpoch && r.Kind != wal.KindReservation // what those do is done
		} else {
			v.insert(r, crcs, payload[:n], scratch)
			v.recoverCredits(r)
		}
		payload = payload[n:]
		if r.Kind == wal.KindWrite {
			crcs = crcs[r.Pages:]
		}
	}
}

// enlarge makes a larger dirty map, if the log has records of more than the usual one holds: what was home already, but not behind the
// slot's checkpoint, is dirty again. The door keeps it within bounds.
func (v *Volume) enlarge(n dirtyRoom, bytes uint64) {
	clusters := int(v.shape.Clusters(bytes))
	n = dirtyRoom{min(n.clusters, clusters), min(n.blocks, clusters<<v.shape.shift), min(n.placed, clusters)}
	if d := v.dirty.limit; !n.within(d) {
		v.dirty = newDirtyMap(uint(v.shape.shift), dirtyRoom{max(n.clusters, d.clusters), max(n.blocks, d.blocks), max(n.placed, d.placed)})
	}
}

// recoverCredits counts what a record needs that came out of the log, and only that: before the power cut it was there, but not what
// the door asks for to be on the safe side. A cluster needs a place if no record gives it one and it has none of its own: that it has none
// is assumed here (promise). And it needs one set of pages of the map. Behind each boundary it needs them again: what it had alone is shared
// then.
func (v *Volume) recoverCredits(r *wal.Record) {
	if r.Blocks == 0 {
		return
	}
	x, writes := v.recovery, r.Kind == wal.KindWrite
	shift := v.shape.shift
	for c := r.Block >> shift; c <= (r.Block+r.Blocks-1)>>shift; c++ {
		if n := len(v.boundaries); n > 0 {
			v.recoverShared(r.Kind, c, n)
			continue
		}
		have, whole := unpack(v.dirty.creditsAt(c)), v.dirty.wholeOf(c).from
		want := v.creditsFor(1, writes && have.clusters == 0 && whole != dirtyPlaced)
		switch {
		case writes && whole == dirtyZeros && !v.thick.on: // whatever it has is given up before
			delete(x.homed, c)
		case want.clusters > 0:
			x.homed[c] = struct{}{}
		}
		want.pages -= min(want.pages, have.pages)
		v.owe(c, want)
	}
}

// owe gives a cluster credits that are to be reserved.
func (v *Volume) owe(c uint64, n credits) {
	v.recovery.owed = v.recovery.owed.plus(n)
	v.dirty.addCredits(c, n.pack())
}

// recoveredBehind says of a cluster what was counted for it behind which boundary.
type recoveredBehind struct{ place, pages int }

// recoverShared is recoverCredits for a cluster behind so many boundaries.
func (v *Volume) recoverShared(k wal.Kind, c uint64, boundaries int) {
	b := v.recovery.behind[c]
	want := v.creditsFor(1, k == wal.KindWrite && b.place < boundaries)
	if b.pages == boundaries {
		want.pages = 0
	}
	b.pages = boundaries
	if k == wal.KindWrite || k == wal.KindPlaced {
		b.place = boundaries
	}
	v.recovery.behind[c] = b
	v.recovery.placesBehind += want.clusters
	v.owe(c, want)
}

// promise reserves what volumes owe. Where the pool has not so much, their maps are asked which clusters have a place of their own already:
// before the power cut there was room for the others. Who still owes too much then is read only.
func (p *Pool) promise(all []*Volume) error {
	var owed credits
	for _, v := range all {
		owed = owed.plus(v.recovery.owed).plus(v.recovery.floor)
	}
	if ok, err := p.reserveFor(owed, Ordinary); ok || err != nil {
		return errors.Join(err, p.haveFloors(all, ok))
	}
	all, err := p.thickFirst(all)
	if err != nil {
		return err
	}
	for _, v := range all {
		x := v.recovery
		short := v.countOwn()
		if short == nil {
			v.countFloorAgain()
			ok, err := p.reserveFor(x.owed, Freeing)
			if err != nil {
				return err
			}
			if !ok {
				short = fmt.Errorf("%w: what was promised to its records is not there", ErrNoSpace)
			} else if err := p.reserveFloor(v); err != nil {
				return err
			}
		} else if !errors.Is(short, errMap) {
			return short
		}
		if x.short == nil {
			x.short = short
		}
	}
	return nil
}

func (p *Pool) reserveFor(n credits, c Class) (ok bool, err error) {
	err = p.r.Call(func() { ok = p.alloc.Reserve(n.need(), c) })
	return ok, err
}

// countOwn takes the place that it owes back from each cluster that has one of its own.
func (v *Volume) countOwn() error {
	x := v.recovery
	for _, c := range slices.Sorted(maps.Keys(x.homed)) {
		own, err := v.ownsPlace(c)
		if err != nil {
			return err
		}
		if !own {
			continue
		}
		x.owed.clusters--
		if err := v.r.Call(func() { v.dirty.addCredits(c, -credits{clusters: 1}.pack()) }); err != nil {
			return err
		}
	}
	return nil
}

// errMap is a map of which a page cannot be had.
var errMap = errors.New("its map")

// entryWait is control work that waits for an entry of the map.
type entryWait struct {
	v    *Volume
	node mapWaiter
	e    *event
	own  bool
}

func (w *entryWait) mapFound(_ *mapWaiter, e Entry, s bdev.Status) {
	w.own = s == bdev.StatusOK && w.v.owned(w.node.cluster, e)
	w.e.say(s)
}

// ownsPlace says whether a cluster has a place that is the head's alone. It is control work.
func (v *Volume) ownsPlace(cluster uint64) (bool, error) {
	w := &entryWait{v: v, e: newEvent()}
	w.node.init(w)
	if err := v.r.Call(func() {
		if e, s, now := v.tree.find(cluster, &w.node); now {
			w.mapFound(&w.node, e, s)
		}
	}); err != nil {
		return false, err
	}
	if s := v.pool.disk.wait(w.e); s != bdev.StatusOK {
		return false, fmt.Errorf("%w at cluster %d: %v", errMap, cluster, s)
	}
	return w.own, nil
}

// revive begins a life, and lets the volume be served; or what can be read of it, if nothing more may be written.
func (v *Volume) revive() error {
	x := v.recovery
	_, wound := x.end.Ended()
	var failed error
	e := newEvent()
	if err := v.r.Call(func() {
		if v.given {
			failed = errGivenUp
			return
		}
		log := x.log
		v.log = log
		if v.flusher.rd, failed = log.NewReader(); failed != nil {
			return
		}
		if x.short != nil && wound == nil {
			v.failed, v.flusher.state, v.flusher.ending = bdev.StatusReadOnly, flushEnded, true
			log.Fail(bdev.StatusReadOnly)
			e.say(bdev.StatusOK)
			return
		}
		if wound != nil {
			v.failed, v.page.Flags = bdev.StatusReadOnly, v.page.Flags|VolumeWounded
			v.flusher.state, v.flusher.ending = flushEnded, true
			e.say(bdev.StatusOK)
			return
		}
		v.judgeLoss(x.end)
		x.begun = e
		log.Begin(log.Life()+1, max(log.Epoch(), v.page.epochNow()), v)
	}); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	if s := v.pool.disk.wait(e); s != bdev.StatusOK {
		return fmt.Errorf("beginning a life in its log: %v", s)
	}
	switch {
	case wound != nil:
		v.pool.problem("volume %s is read only: its log is damaged: %v", v.name, wound)
	case x.short != nil:
		v.pool.problem("volume %s is read only: what is in its log cannot come home: %v", v.name, x.short)
	}
	if err := v.haveCredits(credits{pages: checkpointReserve}); err != nil && !errors.Is(err, ErrNoSpace) {
		return err
	}
	return v.r.Call(func() {
		n := min(v.have.pages, checkpointReserve)
		v.have.pages -= n
		v.mapPages += n
		if v.failed == bdev.StatusOK { // a life has begun
			v.page.Boot, v.page.Flags = v.pool.cfg.Boot, v.page.Flags&^VolumeClean
		}
		v.open = true
		v.due()
	})
}

// LogBegun hears that the life is durable.
func (v *Volume) LogBegun(_ *wal.Log, s bdev.Status) { v.recovery.begun.say(s) }

// haveCredits waits until the volume has so many credits.
func (v *Volume) haveCredits(n credits) error {
	for {
		have := false
		e := newEvent()
		if err := v.r.Call(func() {
			if have = v.have.covers(n); !have {
				v.askDone = e
				v.askPool(nil, n, 0, Freeing)
			}
		}); err != nil || have {
			return err
		}
		if s := v.pool.disk.wait(e); s != bdev.StatusOK {
			return fmt.Errorf("%w: what was promised to its records is not there", ErrNoSpace)
		}
	}
}

// Close ends a volume: its device is gone already. Everything is brought home, so that the next opening finds an empty log.
//
// Closing it again does nothing.
func (v *Volume) Close() error {
	v.pool.mu.Lock()
	closed := v.closed
	v.closed = true
	v.pool.mu.Unlock()
	if closed {
		return nil
	}
	err := errors.Join(v.closeSnapshots(context.Background()), v.shutDown())
	v.pool.mu.Lock()
	if v.pool.volumes[v.page.Number] == v {
		delete(v.pool.volumes, v.page.Number)
	}
	v.pool.mu.Unlock()
	return err
}

func (v *Volume) shutDown() error {
	e := newEvent()
	if err := v.r.Call(func() {
		v.scrub.ask(scrubCloses)
		v.shutDoor()
		v.drains = append(v.drains, e)
		if v.opsOut == 0 {
			v.drained()
		}
	}); err != nil {
		return err
	}
	v.pool.disk.wait(e)
	e = newEvent()
	if err := v.r.Call(func() {
		v.parting = true
		if v.flusher.state == flushEnded {
			e.Run()
			return
		}
		v.force(e)
		if v.isStranded() {
			(*retry)(&v.flusher).Run()
		}
	}); err != nil {
		return err
	}
	v.pool.disk.wait(e)
	return v.settled()
}

// abandon gives back what a volume holds that was not opened to its end, or was opened together with one that was not. What is in its log
// stays there.
func (v *Volume) abandon() error {
	switch {
	case v.device != nil:
		return v.pool.registry.Unregister(context.Background(), v.device.Name())
	case v.log != nil:
		if err := v.r.Call(func() {
			v.open = false
			v.scrub.ask(scrubCloses)
		}); err != nil {
			return err
		}
		return v.settled()
	case v.tree != nil:
		return errors.Join(v.closeRead(), v.giveBack())
	}
	return nil
}

// settled waits until nothing of the volume is under way, and gives back what it holds.
func (v *Volume) settled() error {
	e := newEvent()
	if err := v.r.Call(func() {
		v.flusher.close()
		v.ckpt.tell(bdev.StatusClosed)
		v.r.StopTimer(&v.doorTimer)
		v.r.StopTimer(&v.stallTimer)
		v.r.StopTimer(&v.shutTimer)
		v.idle = e
		v.checkIdle()
	}); err != nil {
		return err
	}
	v.pool.disk.wait(e)
	return v.giveBack()
}

// giveBack gives back what a volume holds of its reactor and of the pool.
func (v *Volume) giveBack() error {
	err := v.r.Call(func() {
		if v.log != nil {
			invariant.Check(v.log.Idle(), "volume: closed with its log at work")
			v.flusher.release()
			v.scrub.release()
			v.log.Close()
		}
		for p := v.ownParts; p != nil; p = p.next {
			p.req.Release()
		}
		for p := v.parts; p != nil; p = p.next {
			p.req.Release()
		}
		v.tree.close()
	})
	if err == nil {
		err = v.pool.r.Call(func() {
			al := v.pool.alloc
			for _, x := range v.places {
				al.GiveBack(x, uint64(v.shape.Blocks()))
			}
			for _, x := range v.ask.spare {
				al.GiveBack(x, uint64(v.shape.Blocks()))
			}
			for _, x := range v.ask.unused {
				al.GiveBack(x, 1)
			}
			v.pool.unpromise(v)
		})
	}
	v.closePartial()
	return err
}

// applyRecovered brings home what the log has, if there are events in it: their effect must be there before the volume is used. Where a restore
// cannot be applied, nothing of the volume is right, but for its snapshots.
func (v *Volume) applyRecovered() error {
	if !v.recovery.unapplied {
		return nil
	}
	var restores []SnapshotNumber
	failed := bdev.StatusOK
	if err := v.r.Call(func() {
		restores, failed = slices.Clone(v.restores), v.failed
		v.torn = failed != bdev.StatusOK && len(restores) > 0
	}); err != nil || failed != bdev.StatusOK {
		return err
	}
	for _, n := range restores {
		if err := v.keepPages(context.Background(), n); err != nil {
			return err
		}
	}
	err := v.settleNow()
	if v.torn { // known to this goroutine: nothing is under way
		v.pool.problem("volume %s cannot be read: it was being restored to a snapshot whose map is damaged; restore another", v.name)
		return nil
	}
	return err
}
