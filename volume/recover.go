package volume

import (
	"errors"
	"fmt"

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
	if err != nil {
		return nil, nil, err
	}
	for {
		s := v.pool.disk.wait(g.window)
		g.window.set = false
		if g.ended {
			if s != bdev.StatusOK {
				why, _ := g.c.Ended()
				return nil, nil, fmt.Errorf("%v (%w)", s, why)
			}
			return g.log, g.c, nil
		}
		if err := f(g.c.Reader()); err != nil {
			return nil, nil, err
		}
		if err := v.r.Call(g.c.Go); err != nil {
			return nil, nil, err
		}
	}
}

// claimPlaced takes the places that the log's placed records name out of the allocator, before anybody is given any, and decides where the
// log ends on their account.
func (v *Volume) claimPlaced() error {
	k := placedCheck{per: uint64(v.shape.Blocks()), cut: maxLSN, durable: v.page.Durable}
	crcs := make([]uint32, k.per)
	data := pageMemory(int(k.per))
	log, _, err := v.readLog(func(rd *wal.Reader) error {
		for i := range rd.Records() {
			r := &rd.Records()[i]
			k.supersede(r)
			if r.Kind != wal.KindPlaced {
				continue
			}
			for n := range r.Blocks / k.per {
				place := placedAt(rd.Payload(r), int(n), int(k.per), crcs)
				k.places = append(k.places, placedPlace{r.LSN, place})
				err := v.pool.disk.read(place, data)
				for b := range crcs {
					if err != nil || wal.PageCRC(data[b*PageBytes:][:PageBytes]) != crcs[b] {
						k.missing = append(k.missing, missingBlock{lsn: r.LSN, block: r.Block + n*k.per + uint64(b)})
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
	if k.decide(); k.cut != maxLSN {
		v.cutBefore = k.cut
	}
	var failed error
	if err := v.pool.r.Call(func() {
		for _, p := range k.places {
			if p.lsn < k.cut && !v.pool.alloc.Claim(p.place, k.per) {
				failed = fmt.Errorf("%w: LSN %d names place %d, which is in use", ErrPoolCorrupt, p.lsn, p.place)
			}
		}
	}); err != nil || failed != nil {
		return errors.Join(err, failed)
	}
	return v.r.Call(log.Close)
}

// recover reads the log into the dirty map and begins a life.
func (v *Volume) recover() error {
	v.flusher.home = wal.Follow{Offset: v.page.LogOffset, Life: v.page.Life, Epoch: v.page.Epoch, LSN: v.page.Checkpoint}
	scratch := make([]uint32, v.shape.Blocks())
	log, c, err := v.readLog(func(rd *wal.Reader) error {
		for i := range rd.Records() {
			r := &rd.Records()[i]
			if r.LSN == v.cutBefore {
				rd.Cut(i, fmt.Errorf("%w: the data of LSN %d is not there", wal.ErrEnd, r.LSN))
				return nil
			}
			n := v.recordNeeds(r)
			if err := v.haveCredits(n.credits); err != nil {
				return err
			}
			var err error
			if e := v.r.Call(func() {
				if !v.dirty.reserve(n.dirty) {
					err = fmt.Errorf("%w: its log has more than can be kept in memory", ErrNoSpace)
					return
				}
				v.dirty.unreserve(n.dirty)
				v.insert(r, rd.CRCs(r), rd.Payload(r), scratch)
				if n.credits != (credits{}) {
					v.have = v.have.minus(n.credits)
					v.credit(r, n.credits)
				}
			}); e != nil || err != nil {
				return fmt.Errorf("%w%w", e, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, wound := c.Ended()
	var failed error
	e := newEvent()
	if err := v.r.Call(func() {
		v.log = log
		if v.flusher.rd, failed = log.NewReader(); failed != nil {
			return
		}
		if wound != nil {
			v.failed, v.page.Flags = bdev.StatusReadOnly, v.page.Flags|VolumeWounded
			v.flusher.state, v.flusher.ending = flushEnded, true
			e.say(bdev.StatusOK)
			return
		}
		v.begun = e
		log.Begin(log.Life()+1, log.Epoch(), v)
	}); err != nil {
		return err
	}
	if failed != nil {
		return failed
	}
	if s := v.pool.disk.wait(e); s != bdev.StatusOK {
		return fmt.Errorf("beginning a life in its log: %v", s)
	}
	if err := v.haveCredits(credits{pages: checkpointReserve}); err != nil {
		return err
	}
	return v.r.Call(func() {
		v.have.pages -= checkpointReserve
		v.mapPages += checkpointReserve
		v.open = true
		v.due()
	})
}

// LogBegun hears that the life is durable.
func (v *Volume) LogBegun(_ *wal.Log, s bdev.Status) { v.begun.say(s) }

// recordNeeds is what a record needs that stands in the log already.
func (v *Volume) recordNeeds(r *wal.Record) need {
	var n need
	if r.Blocks == 0 || r.Kind.Event() {
		return n
	}
	shift, per := v.shape.shift, uint64(v.shape.Blocks())
	clusters := int((r.Block+r.Blocks-1)>>shift-r.Block>>shift) + 1
	n.dirty.clusters = clusters
	switch r.Kind {
	case wal.KindWrite:
		n.dirty.blocks = int(r.Blocks)
		n.credits = v.creditsFor(clusters, true)
	case wal.KindPlaced:
		n.dirty.placed = clusters
		n.credits = v.creditsFor(clusters, false)
	default:
		head := min(-r.Block&(per-1), r.Blocks)
		n.dirty.blocks = int(head + (r.Blocks-head)&(per-1))
		n.credits = v.creditsFor(clusters, false)
	}
	return n
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
func (v *Volume) Close() error {
	err := v.shutDown()
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
		v.open = false
		v.drain = e
		if v.opsOut == 0 {
			v.drained()
		}
	}); err != nil {
		return err
	}
	v.pool.disk.wait(e)
	e = newEvent()
	if err := v.r.Call(func() {
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

// settled waits until nothing of the volume is under way, and gives back what it holds.
func (v *Volume) settled() error {
	e := newEvent()
	if err := v.r.Call(func() {
		v.flusher.close()
		v.ckpt.tell(bdev.StatusClosed)
		v.r.StopTimer(&v.doorTimer)
		v.idle = e
		v.checkIdle()
	}); err != nil {
		return err
	}
	v.pool.disk.wait(e)
	err := v.r.Call(func() {
		invariant.Check(v.log.Idle(), "volume: closed with its log at work")
		v.flusher.release()
		v.log.Close()
		for p := v.ownParts; p != nil; p = p.next {
			p.req.Release()
		}
		for p := v.parts; p != nil; p = p.next {
			p.req.Release()
		}
		v.tree.close()
		v.pages.close()
	})
	if err == nil {
		err = v.pool.r.Call(func() {
			al := v.pool.alloc
			for _, x := range v.places {
				al.GiveBack(x, uint64(v.shape.Blocks()))
			}
			for _, x := range v.ask.unused {
				al.GiveBack(x, 1)
			}
			al.Unreserve(v.have.plus(v.ask.giveUp).plus(credits{pages: v.mapPages}).need())
		})
	}
	unmapMemory(v.cacheMemory)
	return err
}
