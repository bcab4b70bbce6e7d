package volume

import (
	"errors"
	"fmt"
	"slices"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/wal"
)

// This file is how a volume reads its log when it is opened: once, window by window, on its reactor. What the records say is kept, but for the
// blocks themselves, until it is known where the log ends; nothing is changed before that.

// errUnread is a log of which the device does not give all.
var errUnread = errors.New("a page of it cannot be read")

// logRead is what one reading of a log gathers.
type logRead struct {
	v     *Volume
	log   *wal.Log
	end   *wal.Recovery
	over  *event
	why   error // for which reading was given up
	cutAt wal.LSN

	parts  []logPart
	places []placedPlace // of all placed records
	placed placedCheck
	events *eventCheck
	room   dirtyRoom // that all records take in the dirty map, if none of them is of the same cluster
}

// logPart is what some records of a window said: as many as are replayed in one call.
type logPart struct {
	records  []wal.Record
	crcs     []uint32 // of the payloads of writes
	payload  []byte   // of placed records and events, as far as keptOf says
	clusters int      // that they touch
}

// partClusters is how many clusters the records of a part touch, but for the last one.
const partClusters = 4096

// keptOf is how many bytes of a record's payload are kept.
func (v *Volume) keptOf(r *wal.Record) int {
	switch {
	case r.Kind.Event():
		return int(r.Pages) * PageBytes
	case r.Kind == wal.KindPlaced:
		per := v.shape.Blocks()
		return int(r.Blocks) / per * placedBytes(per)
	}
	return 0
}

// LogWindow takes a window.
func (x *logRead) LogWindow(c *wal.Recovery) {
	rd := c.Reader()
	if x.v.pool.disk.isGiven() {
		x.why = errGivenUp
	} else {
		x.why = x.take(rd)
	}
	if x.why != nil {
		c.Stop()
		x.over.say(bdev.StatusAborted)
		return
	}
	c.Go()
}

// LogRecovered is the end.
func (x *logRead) LogRecovered(c *wal.Recovery, s bdev.Status) {
	switch why, _ := c.Ended(); {
	case s == bdev.StatusOK:
	case s == bdev.StatusIO, s == bdev.StatusCorrupt:
		x.why = fmt.Errorf("%w: %v", errUnread, s)
	case why != nil:
		x.why = fmt.Errorf("%v (%w)", s, why)
	default:
		x.why = fmt.Errorf("%v", s)
	}
	x.end = c
	x.over.say(s)
}

func (x *logRead) take(rd *wal.Reader) error {
	v, records := x.v, rd.Records()
	if x.cutAt != 0 {
		for i := range records {
			if records[i].LSN == x.cutAt {
				rd.Cut(i, fmt.Errorf("%w: the data of LSN %d is not there", wal.ErrEnd, x.cutAt))
				break
			}
		}
		return nil
	}
	per := v.shape.Blocks()
	var p logPart
	for i := range records {
		r := &records[i]
		payload := rd.Payload(r)
		if err := x.events.check(r, payload); err != nil {
			return err
		}
		x.placed.note(r, payload, per)
		n := v.dirtyRoomOf(r.Kind, r.Block, r.Blocks)
		x.room = x.room.plus(n)
		if p.clusters > 0 && p.clusters+n.clusters > partClusters {
			x.parts, p = append(x.parts, p), logPart{}
		}
		p.clusters += n.clusters
		p.records = append(p.records, *r)
		p.payload = append(p.payload, payload[:v.keptOf(r)]...)
		switch r.Kind {
		case wal.KindWrite:
			p.crcs = append(p.crcs, rd.CRCs(r)...)
		case wal.KindPlaced:
			for i := range int(r.Blocks) / per {
				x.places = append(x.places, placedPlace{r.LSN, placedPlaceAt(payload, i, per)})
			}
		}
	}
	x.parts = append(x.parts, p)
	x.placed.settle(max(rd.Durable(), v.page.Durable), per)
	return nil
}

// read reads the log from its checkpoint to its end. The log stays as it is found, to be begun or closed.
func (x *logRead) read() error {
	v := x.v
	x.over = newEvent()
	var err error
	if e := v.r.Call(func() {
		if x.log, err = wal.New(v.logConfig()); err == nil {
			_, err = x.log.Recover(v.state(), x)
		}
	}); e != nil || err != nil {
		return errors.Join(e, err)
	}
	v.pool.disk.wait(x.over)
	return x.why
}

// readLog reads a volume's log, decides where it ends, and takes the places that its placed records name out of the allocator, before
// anybody is given any.
func (v *Volume) readLog() error {
	x := v.recovery
	x.v, x.events = v, v.newEventCheck()
	if err := x.read(); err != nil {
		return err
	}
	if err := x.placed.look(&v.pool.disk, v.shape.Blocks()); err != nil {
		return err
	}
	x.short, x.cut = x.placed.undecided(), x.placed.cut
	x.placed = placedCheck{}
	if x.cut != maxLSN { // the log is to go on there
		if err := v.closeRead(); err != nil {
			return err
		}
		x.cutAt = x.cut
		if err := x.read(); err != nil {
			return err
		}
		if err := x.ended(); x.short == nil {
			x.short = err
		}
	}
	return v.claimPlaces()
}

// ended says why the second reading came to another end than the first. What it has not found is cut off, and the log stays as it is, for the next
// opening to decide.
func (x *logRead) ended() (failed error) {
	if err := x.v.r.Call(func() {
		if appended, _, _ := x.log.Marks(); appended+1 != x.cutAt {
			failed = fmt.Errorf("%w: its log was read up to LSN %d, and the second time to LSN %d", ErrCorrupt, x.cutAt-1, appended)
			x.v.recovery.cut = min(x.cutAt, appended+1)
		}
	}); err != nil {
		return err
	}
	return failed
}

// closeRead closes a log that was read and not begun.
func (v *Volume) closeRead() error {
	x := v.recovery
	if x == nil || x.log == nil {
		return nil
	}
	log := x.log
	x.log = nil
	return v.r.Call(log.Close)
}

// claimPlaces takes the places out of the allocator, so many in a call as a reactor has time for.
func (v *Volume) claimPlaces() error {
	x := v.recovery
	var failed error
	for some := range slices.Chunk(x.places, partClusters) {
		if err := v.pool.r.Call(func() {
			for _, p := range some {
				if p.lsn < x.cut && !v.pool.alloc.Claim(p.place, uint64(v.shape.Blocks())) {
					failed = fmt.Errorf("%w: LSN %d names place %d, which is in use", ErrPoolCorrupt, p.lsn, p.place)
				}
			}
		}); err != nil {
			return err
		}
	}
	x.places = nil
	return failed
}
