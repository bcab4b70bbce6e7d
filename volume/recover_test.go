package volume

import (
	"bytes"
	"errors"
	"strings"
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
			case wal.KindSnapshot, wal.KindSnapshotDelete, wal.KindRestore, wal.KindResize, wal.KindReservation: // without what it is called, of one that there is not, to a part of a block, without a page
				want = ErrCorrupt
			}
			if !errors.Is(err, want) {
				t.Errorf("the pool was imported with: %v", err)
			}
		})
	}
}

// TestPlacedDataThatCannotBeReadIsNotMissing: a device that fails to read once, while a pool is opened, costs no durable write. What is in the
// log stays undecided, nothing is written to it, and the next opening decides.
func TestPlacedDataThatCannotBeReadIsNotMissing(t *testing.T) {
	h := newHouse(t, 1, 1, 64<<20)
	v := h.volume("v0", 16<<20)
	k := h.client(v, 0)
	per := uint64(v.shape.Blocks())
	small, large := pattern(h.w.Rand, 3), pattern(h.w.Rand, 2*per)
	k.must(bdev.Write, 5, 3, small)
	k.must(bdev.Write, 4*per, 2*per, large)
	hit := v.dirty.lookup(4 * per)
	if hit.from != dirtyPlaced {
		t.Fatalf("whole clusters are %v", hit.from)
	}
	image := bdevsim.DiskOf(h.disk).Medium().Snapshot().Crash(sim.None)
	for _, fails := range []bool{true, false} {
		h.w.Reboot()
		h.disk = h.w.Open("Disk0", image)
		medium := bdevsim.DiskOf(h.disk).Medium()
		if fails {
			medium.Inject(sim.Fault{Effect: sim.Fail, Kinds: sim.KindsOf(sim.Read), First: hit.place.Byte() / PageBytes, Blocks: 1})
		}
		var err error
		if h.pool, err = ImportPool(h.w.Registry, "Disk0", h.config()); err != nil {
			t.Fatal(err)
		}
		medium.Heal()
		v = h.find("v0")
		if said := len(h.pool.problems) == 1 && strings.Contains(h.pool.problems[0], "v0"); said != fails {
			t.Fatalf("the pool says %q", h.pool.problems)
		}
		k = h.client(v, 0)
		got := pageMemory(int(2 * per))
		k.must(bdev.Read, 5, 3, got[:3*PageBytes])
		if !bytes.Equal(got[:3*PageBytes], small) {
			t.Fatal("what came before is not there")
		}
		k.must(bdev.Read, 4*per, 2*per, got)
		if !bytes.Equal(got, large) {
			t.Fatal("a durable write is not there")
		}
		want := bdev.StatusOK
		if fails {
			want = bdev.StatusReadOnly
		}
		if s := k.do(bdev.Write, 0, 1, small[:PageBytes]); s != want {
			t.Fatalf("a write: %v", s)
		}
		h.w.RunFor(reactor.Second)
		image = bdevsim.DiskOf(h.disk).Medium().Snapshot().Crash(sim.None)
	}
}

// TestOnlyWhatMayBeMissingIsLookedFor: a record that a later header knew as durable does not end the log, whatever stands in its place. So that is
// not read when the pool is opened: here it could not be.
func TestOnlyWhatMayBeMissingIsLookedFor(t *testing.T) {
	h, v, stages := heldHouse(t)
	k := h.client(v, 0)
	per := uint64(v.shape.Blocks())
	h.w.On(0, func(*reactor.Reactor) { stages.Shut(wal.StageMap) })
	data := pattern(h.w.Rand, per)
	k.must(bdev.Write, 4*per, per, data)
	k.must(bdev.Write, 6*per, per, data)
	k.must(bdev.Write, 0, 1, data[:PageBytes]) // its header knows them
	k.must(bdev.Write, 8*per, per, data)
	image := simDisk(h).Snapshot().Crash(sim.None)
	for _, x := range []struct {
		cluster uint64
		looked  bool
	}{{4, false}, {6, false}, {8, true}} {
		hit := v.dirty.lookup(x.cluster * per)
		if hit.from != dirtyPlaced {
			t.Fatalf("cluster %d is %v", x.cluster, hit.from)
		}
		y := &house{w: h.w, t: t}
		h.w.Reboot()
		y.disk = h.w.Open("Disk0", image)
		simDisk(y).Inject(sim.Fault{Effect: sim.Fail, Kinds: sim.KindsOf(sim.Read), First: hit.place.Byte() / PageBytes, Blocks: 1})
		var err error
		if y.pool, err = ImportPool(h.w.Registry, "Disk0", h.config()); err != nil {
			t.Fatal(err)
		}
		if (len(y.pool.problems) > 0) != x.looked {
			t.Errorf("cluster %d cannot be read, and the pool says %q", x.cluster, y.pool.problems)
		}
	}
}

// TestABlockBetweenWholeWrites: a block was written between two placed writes of its cluster, and is trimmed after the power cut. The place of
// the first placed write is given up, since the second supersedes it; the block in between, which reserved none, is superseded with it.
func TestABlockBetweenWholeWrites(t *testing.T) {
	h := newHouse(t, 1, 1, crashPoolBytes)
	v := h.volumeOf(VolumeConfig{Name: "v0", Bytes: 16 << 20, LogBytes: crashLogBytes, Cache: CacheVolatile})
	per := uint64(v.shape.Blocks())
	k := h.client(v, 0)
	write := func(at, blocks uint64) {
		data := pageMemory(int(blocks))
		crashFill(data, 0, uint32(blocks), at)
		k.must(bdev.Write, at, blocks, data)
	}
	write(0, per)
	write(3, 1)
	for range itemsMax / per { // more than comes home in one round with it
		k.must(bdev.Unmap, 5*per, per, nil)
	}
	write(0, per)
	k.must(bdev.Flush, 0, 0, nil)

	cfg := h.config()
	cfg.Stages = new(wal.Stages)
	h.reopen(bdevsim.DiskOf(h.disk).Medium().Snapshot().Crash(sim.All), cfg)
	v = h.find("v0")
	cfg.Stages.Shut(wal.StageFlush)
	k = h.client(v, 0)
	k.must(bdev.Unmap, 3, 1, nil)
	h.w.RunFor(10 * reactor.Second)
	if v.dirty.used.blocks != 1 || v.flusher.state != flushIdle {
		t.Fatalf("%d blocks are dirty: what is durable is not home, or what is not", v.dirty.used.blocks)
	}
	cfg.Stages.Open(wal.StageFlush)
	h.forced(v)
	want := pageMemory(int(per))
	crashFill(want, 0, uint32(per), 0)
	clear(want[3*PageBytes : 4*PageBytes])
	got := pageMemory(int(per))
	k.must(bdev.Read, 0, per, got)
	if !bytes.Equal(got, want) {
		t.Fatal("the cluster is not what was written last")
	}
}
