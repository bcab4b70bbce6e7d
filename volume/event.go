package volume

import (
	"fmt"
	"slices"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/wal"
)

// This file is an event: a change of the volume that is more than blocks, and has its place among the records as a write has.
//
//	log ─▶ (room in the log) ─▶ Append ─ written ─▶ note ─ durable ─▶ who asked hears
//	                                                  │
//	                                                  └─ the flusher has brought home all before it ─▶ apply ─▶ a checkpoint has it
//
// What note does is done again when an event comes out of the log at recovery, in the same order among the other records; a volume with such
// events is opened when they are applied. A checkpoint at an event's LSN or above has it; one below does not.
//
//	kind             note                                   apply
//	snapshot         boundary                               the checkpoint at its LSN keeps its root
//	snapshot delete  —                                      marked; what it has is given up bit by bit (clearing.go)
//	restore          boundary                               each cluster that differs becomes what it was (restoring.go), and its request
//	                                                        is remembered
//	resize           the volume's size                      —
//	reservations     the newest set                         the next checkpoint writes it to a page
//	epoch start      —                                      —
//
// A boundary ends what the head has alone: of a cluster that changed on both sides of it, both versions go home, to different places.

// logEvent is an event on its way into the log. Its owner makes it once, and uses it again when it was heard of.
type logEvent struct {
	entry wal.Entry
	v     *Volume
	wait  wal.Waiter
	heard eventHeard
	page  [1][]byte // payload, nil if it has none
	crc   [1]uint32
}

// eventHeard hears that an event is durable, or will never be. It runs on the volume's reactor.
type eventHeard interface {
	eventLogged(e *logEvent, s bdev.Status)
}

// logEvent lets an event into the log. payload is nil or one page, lent until it is heard of.
func (v *Volume) logEvent(e *logEvent, k wal.Kind, block uint64, payload []byte, heard eventHeard) {
	e.v, e.heard = v, heard
	e.entry.Kind, e.entry.Block, e.entry.Blocks, e.entry.Done, e.entry.CRCs = k, block, 0, e, e.crc[:]
	e.entry.Payload = nil
	if e.wait.Done = e; payload != nil {
		e.page[0] = payload
		e.entry.Payload = e.page[:]
	}
	v.events = append(v.events, e)
	v.letEventsPass()
}

// letEventsPass lets events into the log, in order, for which there is room.
func (v *Volume) letEventsPass() {
	for len(v.events) > 0 {
		e := v.events[0]
		refused := v.failed != bdev.StatusOK
		if !refused && !v.log.Reserve(len(e.entry.Payload)) {
			if refused = v.isStranded(); !refused {
				v.hurry()
				return
			}
		}
		v.events = slices.Delete(v.events, 0, 1)
		if refused {
			s := v.failed
			if s == bdev.StatusOK {
				s = bdev.StatusReadOnly
			}
			e.heard.eventLogged(e, s)
			continue
		}
		v.eventsOut++
		v.log.Append(&e.entry)
		v.eventAppended(e.entry.Kind)
	}
}

// EntryWritten takes an event that is in the log.
func (e *logEvent) EntryWritten(r *wal.Entry, s bdev.Status) {
	e.v.eventsOut--
	if s != bdev.StatusOK {
		e.heard.eventLogged(e, s)
		return
	}
	e.v.note(&r.Record, e.page[0])
	e.v.hurry()
	e.v.log.AwaitDurable(&e.wait, r.LSN)
}

// LogDurable hears that it stays.
func (e *logEvent) LogDurable(_ *wal.Waiter, s bdev.Status) { e.heard.eventLogged(e, s) }

// note takes an event that is in the log, or came out of it.
func (v *Volume) note(r *wal.Record, payload []byte) {
	switch r.Kind {
	case wal.KindSnapshot:
		v.boundaries = append(v.boundaries, r.LSN)
		v.eventAppended(r.Kind)
	case wal.KindRestore:
		v.boundaries = append(v.boundaries, r.LSN)
		v.eventAppended(r.Kind)
		v.restores = append(v.restores, SnapshotNumber(r.Block))
	case wal.KindResize:
		v.resized(r)
	case wal.KindReservation:
		v.noteReservations(r, payload)
	}
}

// eventCheck looks at the events that come out of a log, before any is applied.
type eventCheck struct {
	v         *Volume
	bytes     uint64                  // size of the volume by then
	snapshots map[SnapshotNumber]bool // that there are by then
}

func (v *Volume) newEventCheck() *eventCheck {
	k := &eventCheck{v, v.page.Bytes, map[SnapshotNumber]bool{}}
	for _, s := range v.snapshots.list {
		k.snapshots[s.Number] = true
	}
	return k
}

// check says why an event cannot be applied. Such a log is not opened: what the event does would be missing, and what follows it wrong.
func (k *eventCheck) check(r *wal.Record, payload []byte) error {
	switch {
	case !r.Kind.Event(), r.Kind == wal.KindEpoch:
	case r.Kind == wal.KindResize:
		k.bytes = max(k.bytes, r.Block)
		return k.v.checkResize(r)
	case r.Kind == wal.KindReservation:
		return checkReservations(r, payload)
	case r.Kind == wal.KindSnapshotDelete, r.Kind == wal.KindRestore:
		if !k.snapshots[SnapshotNumber(r.Block)] {
			return fmt.Errorf("%w: LSN %d is the %v %d, which there is not", ErrCorrupt, r.LSN, r.Kind, r.Block)
		}
	case r.Kind == wal.KindSnapshot:
		k.snapshots[SnapshotNumber(r.Block)] = true
		if len(payload) != PageBytes {
			return fmt.Errorf("%w: LSN %d is a snapshot with %d bytes", ErrCorrupt, r.LSN, len(payload))
		}
		if s := decodeSnapshot(payload[:snapshotBytes]); s.Number != SnapshotNumber(r.Block) {
			return fmt.Errorf("%w: LSN %d is snapshot %d, and calls itself %d", ErrCorrupt, r.LSN, r.Block, s.Number)
		} else if err := s.check(1); err != nil {
			return fmt.Errorf("%w: LSN %d is a snapshot that %w", ErrCorrupt, r.LSN, err)
		}
	default:
		return fmt.Errorf("%w: LSN %d is a %v, and this program does not apply those", ErrVersion, r.LSN, r.Kind)
	}
	return nil
}

// apply applies an event. All before it is home; the flusher goes on by round, or by way of a checkpoint.
func (v *Volume) apply(r *wal.Record, payload []byte) {
	if len(v.boundaries) > 0 && v.boundaries[0] == r.LSN {
		v.boundaries = v.boundaries[:copy(v.boundaries, v.boundaries[1:])]
	}
	switch r.Kind {
	case wal.KindSnapshot:
		v.takeSnapshot(r, payload)
	case wal.KindSnapshotDelete:
		v.markDeleted(r)
	case wal.KindRestore:
		v.restores = v.restores[1:]
		v.remember(requestOf(r))
		v.eventApplied()
		v.flusher.round()
	case wal.KindReservation:
		v.applyReservations(r, payload)
		v.flusher.round()
	default:
		v.flusher.round()
	}
}
