package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
	"github.com/pollux-storage/pollux/wal"
)

// This file is how a volume reads its log when it is opened. It runs on a control goroutine, window by window.

// reading is one reading of a log: windows on the volume's reactor, steps on the control goroutine.
type reading struct {
	v      *Volume
	log    *wal.Log
	c      *wal.Recovery
	window *event
	ended  bool
}

// LogWindow hands a window to the control goroutine.
func (g *reading) LogWindow(c *wal.Recovery) {
	g.c = c
	g.window.say(bdev.StatusOK)
}

// LogRecovered is the end.
func (g *reading) LogRecovered(c *wal.Recovery, s bdev.Status) {
	g.c, g.ended = c, true
	g.window.say(s)
}

// readLog reads a volume's log and hands each window to f, on the control goroutine; what f cuts is the end.
func (v *Volume) readLog(f func(rd *wal.Reader) error) (*wal.Log, *wal.Recovery, error) {
	g := &reading{v: v, window: newEvent()}
	var err error
	if e := v.r.Call(func() {
		if g.log, err = wal.New(v.logConfig()); err == nil {
			_, err = g.log.Recover(v.state(), g)
		}
	}); e != nil {
		return nil, nil, e
	}
	if err == nil {
		if err = g.run(f); err == nil {
			return g.log, g.c, nil
		}
	}
	if g.log != nil {
		err = errors.Join(err, v.r.Call(g.log.Close))
	}
	return nil, nil, err
}

// run goes from window to window.
func (g *reading) run(f func(rd *wal.Reader) error) error {
	v := g.v
	for {
		s := v.pool.disk.wait(g.window)
		g.window.set = false
		if g.ended {
			if s == bdev.StatusOK {
				return nil
			}
			if why, _ := g.c.Ended(); why != nil {
				return fmt.Errorf("%v (%w)", s, why)
			}
			return fmt.Errorf("%v", s)
		}
		if err := f(g.c.Reader()); err != nil {
			return errors.Join(err, v.r.Call(g.c.Stop))
		}
		if err := v.r.Call(g.c.Go); err != nil {
			return err
		}
	}
}

// claimPlaced takes the places that the log's placed records name out of the allocator, before anybody is given any, and decides where the
// log ends on their account.
func (v *Volume) claimPlaced() error {
	events := v.newEventCheck()
	k := placedCheck{per: uint64(v.shape.Blocks()), cut: maxLSN, durable: v.page.Durable}
	crcs := make([]uint32, k.per)
	data := pageMemory(int(k.per))
	log, _, err := v.readLog(func(rd *wal.Reader) error {
		for i := range rd.Records() {
			r := &rd.Records()[i]
			if err := events.check(r, rd.Payload(r)); err != nil {
				return err
			}
			k.supersede(r)
			k.room = k.room.plus(v.dirtyRoomOf(r.Kind, r.Block, r.Blocks))
			if r.Kind != wal.KindPlaced {
				continue
			}
			for n := range r.Blocks / k.per {
				place := placedAt(rd.Payload(r), int(n), int(k.per), crcs)
				k.places = append(k.places, placedPlace{r.LSN, place})
				err := v.pool.disk.read(place, data)
				for b := range crcs {
					if err != nil || wal.PageCRC(data[b*PageBytes:][:PageBytes]) != crcs[b] {
						k.missing = append(k.missing, missingBlock{lsn: r.LSN, block: r.Block + n*k.per + uint64(b), err: err})
					}
				}
			}
		}
		k.durable = max(k.durable, rd.Durable())
		return nil
	})
	if err != nil {
		return err
	}
	if err := v.r.Call(log.Close); err != nil {
		return err
	}
	if k.decide(); k.cut != maxLSN {
		v.cutBefore = k.cut
	}
	v.undecided = k.undecided()
	v.admitted = k.room
	v.enlarge(k.room, events.bytes)
	var failed error
	if err := v.pool.r.Call(func() {
		for _, p := range k.places {
			if p.lsn < k.cut && !v.pool.alloc.Claim(p.place, k.per) {
				failed = fmt.Errorf("%w: LSN %d names place %d, which is in use", ErrPoolCorrupt, p.lsn, p.place)
			}
		}
	}); err != nil {
		return err
	}
	return failed
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

// recover reads the log into the dirty map and begins a life.
func (v *Volume) recover() error {
	v.flusher.home = wal.Follow{Offset: v.page.LogOffset, Life: v.page.Life, Epoch: v.page.Epoch, LSN: v.page.Checkpoint}
	scratch := make([]uint32, v.shape.Blocks())
	short := v.undecided // what is in it cannot come home: the end is not known, there is no room, or the map is damaged
	log, c, err := v.readLog(func(rd *wal.Reader) error {
		for i := range rd.Records() {
			r := &rd.Records()[i]
			if r.LSN == v.cutBefore {
				rd.Cut(i, fmt.Errorf("%w: the data of LSN %d is not there", wal.ErrEnd, r.LSN))
				return nil
			}
			var err error
			if e := v.r.Call(func() {
				if r.Kind.Event() {
					v.note(r, rd.Payload(r))
					v.unapplied = v.unapplied || r.Kind != wal.KindEpoch && r.Kind != wal.KindReservation // what those do is done
				} else {
					v.insert(r, rd.CRCs(r), rd.Payload(r), scratch)
				}
			}); e != nil {
				return e
			}
			if err = v.recoverCredits(r); errors.Is(err, ErrNoSpace) || errors.Is(err, errMap) {
				short = err
			} else if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	v.behind = nil
	_, wound := c.Ended()
	var failed error
	e := newEvent()
	if err := v.r.Call(func() {
		v.log = log
		if v.flusher.rd, failed = log.NewReader(); failed != nil {
			return
		}
		if short != nil && wound == nil {
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
		v.judgeLoss(c)
		v.begun = e
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
	case short != nil:
		v.pool.problem("volume %s is read only: what is in its log cannot come home: %v", v.name, short)
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
func (v *Volume) LogBegun(_ *wal.Log, s bdev.Status) { v.begun.say(s) }

// recoverCredits reserves what a record needs that came out of the log, and only that: before the power cut it was there, but not what
// the door asks for to be on the safe side. A cluster needs a place if it has none of its own and no record gives it one; and one set of
// pages of the map. Behind each boundary it needs them again: what it had alone is shared then.
func (v *Volume) recoverCredits(r *wal.Record) error {
	if r.Blocks == 0 || r.Kind.Event() {
		return nil
	}
	shift := v.shape.shift
	for c := r.Block >> shift; c <= (r.Block+r.Blocks-1)>>shift; c++ {
		var have credits
		var whole dirtySource
		boundaries := 0
		if err := v.r.Call(func() {
			have, whole, boundaries = unpack(v.dirty.creditsAt(c)), v.dirty.wholeOf(c).from, len(v.boundaries)
		}); err != nil {
			return err
		}
		if boundaries > 0 {
			if err := v.recoverShared(r.Kind, c, boundaries); err != nil {
				return err
			}
			continue
		}
		want := v.creditsFor(1, r.Kind == wal.KindWrite && have.clusters == 0 && whole != dirtyPlaced)
		if want.clusters > 0 && whole == dirtyHome {
			own, err := v.ownsPlace(c)
			if err != nil {
				return err
			}
			if own {
				want.clusters = 0
			}
		}
		want.pages -= min(want.pages, have.pages)
		if err := v.recoverCredit(c, want); err != nil {
			return err
		}
	}
	return nil
}

// recoverCredit reserves for one cluster.
func (v *Volume) recoverCredit(c uint64, want credits) error {
	if want.isNone() {
		return nil
	}
	if err := v.haveCredits(want); err != nil {
		return err
	}
	return v.r.Call(func() {
		v.have = v.have.minus(want)
		v.dirty.addCredits(c, want.pack())
	})
}

// recoveredBehind says of a cluster what was reserved for it behind which boundary.
type recoveredBehind struct{ place, pages int }

// recoverShared is recoverCredits for a cluster behind so many boundaries.
func (v *Volume) recoverShared(k wal.Kind, c uint64, boundaries int) error {
	if v.behind == nil {
		v.behind = map[uint64]recoveredBehind{}
	}
	b := v.behind[c]
	want := v.creditsFor(1, k == wal.KindWrite && b.place < boundaries)
	if b.pages == boundaries {
		want.pages = 0
	}
	b.pages = boundaries
	if k == wal.KindWrite || k == wal.KindPlaced {
		b.place = boundaries
	}
	v.behind[c] = b
	return v.recoverCredit(c, want)
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
	w.own = s == bdev.StatusOK && e.Place() != 0 && w.v.owned(w.node.cluster, e.Birth())
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
		return v.giveBack()
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
			al.Unreserve(v.have.plus(v.ask.giveUp).plus(credits{pages: v.mapPages}).need())
		})
	}
	v.closePartial()
	return err
}

// applyRecovered brings home what the log has, if there are events in it: their effect must be there before the volume is used. Where a restore
// cannot be applied, nothing of the volume is right, but for its snapshots.
func (v *Volume) applyRecovered() error {
	if !v.unapplied {
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
