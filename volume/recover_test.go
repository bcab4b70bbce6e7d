package volume

import (
	"errors"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// eventEntry is a record that its test puts into a volume's log.
type eventEntry struct {
	wal.Entry
	wait wal.Waiter
	v    *Volume
	end  *event
}

func (e *eventEntry) EntryWritten(*wal.Entry, bdev.Status) { e.v.log.AwaitDurable(&e.wait, e.LSN) }

func (e *eventEntry) LogDurable(_ *wal.Waiter, s bdev.Status) { e.end.say(s) }

// TestARecordThatIsNotAppliedStopsTheOpening: what it does to the volume would be missing, and the records after it wrong (V-6).
func TestARecordThatIsNotAppliedStopsTheOpening(t *testing.T) {
	for k := wal.KindSnapshot; k <= wal.KindReservation; k++ {
		t.Run(k.String(), func(t *testing.T) {
			h := newHouse(t, 1, 1, 64<<20)
			v := h.volume("v0", 16<<20)
			e := &eventEntry{v: v, end: newEvent()}
			e.Kind, e.Block, e.Done, e.wait.Done = k, 1, e, e
			h.w.On(0, func(*reactor.Reactor) {
				if !v.log.Reserve(0) {
					t.Fatal("no room in an empty log")
				}
				v.log.Append(&e.Entry)
			})
			h.w.Run("the record is durable", func() bool { return e.end.set })
			image := bdevsim.DiskOf(h.disk).Medium().Snapshot().Crash(sim.None)
			h.w.Reboot()
			h.disk = h.w.Open("Disk0", image)
			_, err := ImportPool(h.w.Registry, "Disk0", h.config())
			want := ErrVersion
			switch k {
			case wal.KindEpoch:
				want = nil
			case wal.KindSnapshot: // without what it is called
				want = ErrCorrupt
			}
			if !errors.Is(err, want) {
				t.Errorf("the pool was imported with: %v", err)
			}
		})
	}
}
