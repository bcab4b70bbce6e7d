package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// past is what a volume had when a snapshot was taken.
type past struct {
	name string
	data []byte
}

// snapshotWorld is a volume whose content is known, and was known at each of its snapshots.
type snapshotWorld struct {
	*house
	r    *rand.Rand
	v    *Volume
	c    *client
	head []byte
	old  []past
	seq  uint64
}

const snapshotBlocks = 1000

func newSnapshotWorld(t *testing.T, seed uint64) *snapshotWorld {
	w := &snapshotWorld{house: newHouse(t, seed, 2, 256<<20), r: sim.Stream(seed, "snapshots"), head: make([]byte, snapshotBlocks*PageBytes)}
	w.v = w.volume("v0", snapshotBlocks*PageBytes)
	w.c = w.client(w.v, 1)
	return w
}

// change does n random things.
func (w *snapshotWorld) change(n int) {
	w.t.Helper()
	buf := pageMemory(256)
	for range n {
		blocks := 1 + w.r.Uint64N(12)
		if w.r.Uint32N(4) == 0 {
			blocks = 16 * (1 + w.r.Uint64N(6))
		}
		at := w.r.Uint64N(snapshotBlocks - blocks)
		if w.r.Uint32N(2) == 0 {
			at &^= 15
		}
		part := w.head[at*PageBytes:][:blocks*PageBytes]
		switch w.r.Uint32N(8) {
		case 0:
			w.c.must(bdev.Unmap, at, blocks, nil)
			clear(part)
		default:
			data := buf[:len(part)]
			w.seq = fillCounting(data, w.seq)
			w.c.must(bdev.Write, at, blocks, data)
			copy(part, data)
		}
	}
}

func (w *snapshotWorld) take(name string) {
	w.t.Helper()
	if _, err := w.v.CreateSnapshot(SnapshotConfig{Name: name}); err != nil {
		w.t.Fatal(err)
	}
	w.old = append(w.old, past{name, append([]byte(nil), w.head...)})
}

// reads reads all of a device.
func (w *snapshotWorld) reads(d *bdev.Device) []byte {
	w.t.Helper()
	got := pageMemory(snapshotBlocks)
	c := w.clientOf(d, 0)
	for at := uint64(0); at < snapshotBlocks; at += 250 {
		c.must(bdev.Read, at, 250, got[at*PageBytes:][:250*PageBytes])
	}
	c.close()
	return got
}

// compare compares head and snapshots with what is known, and checks the pool.
func (w *snapshotWorld) compare(what string) {
	w.t.Helper()
	if at := differs(w.reads(w.v.Device()), w.head); at >= 0 {
		w.t.Fatalf("%s: block %d of the head is another", what, at)
	}
	list, err := w.v.Snapshots()
	if err != nil {
		w.t.Fatal(err)
	}
	live := 0
	for _, s := range list {
		if s.Deleting {
			continue
		}
		if live == len(w.old) || w.old[live].name != s.Name {
			w.t.Fatalf("%s: there is a snapshot %s", what, s.Name)
		}
		if at := differs(w.reads(s.Device), w.old[live].data); at >= 0 {
			w.t.Fatalf("%s: block %d of snapshot %s is another", what, at, s.Name)
		}
		live++
	}
	if live != len(w.old) {
		w.t.Fatalf("%s: %d snapshots, there should be %d", what, live, len(w.old))
	}
	r, err := w.pool.Check()
	if err != nil {
		w.t.Fatal(err)
	}
	if !r.OK() {
		w.t.Fatalf("%s: the pool's check finds %d lost, %d free, %d twice: %q", what, r.Lost, r.Free, r.Twice, r.Problems)
	}
}

// again opens the pool after a power cut.
func (w *snapshotWorld) again() {
	w.t.Helper()
	w.crash(func(i *sim.Image) *sim.Image { return i.Crash(sim.Random(w.r, w.r.Float64())) })
	w.v = w.find("v0")
	w.c = w.client(w.v, 1)
}

// TestASnapshotReadsAsItWas: under later writes, after power cuts, with many of them (S-1, S-3, S-4).
func TestASnapshotReadsAsItWas(t *testing.T) {
	sim.Each(t, 4, nil, func(t *testing.T, seed uint64) {
		w := newSnapshotWorld(t, seed)
		for i := range 5 {
			w.change(60)
			w.take(fmt.Sprint("s", i))
			w.compare("at once")
			w.change(60)
			w.compare("after writes")
			w.again()
			w.compare("after a power cut")
		}
	})
}

func TestSnapshotsThatCannotBe(t *testing.T) {
	w := newSnapshotWorld(t, 1)
	w.take("s0")
	for _, c := range []struct {
		what, name string
		err        error
	}{
		{"the name is taken", "s0", ErrSnapshotExists},
		{"no name", "", ErrName},
		{"a name of 65 bytes", strings.Repeat("x", 65), ErrName},
	} {
		t.Run(c.what, func(t *testing.T) {
			if _, err := w.v.CreateSnapshot(SnapshotConfig{Name: c.name}); !errors.Is(err, c.err) {
				t.Errorf("got %v", err)
			}
		})
	}
	c := w.clientOf(w.v.openedSnapshots()[0].device, 0)
	if s := c.do(bdev.Write, 0, 1, pageMemory(1)); s != bdev.StatusReadOnly {
		t.Errorf("a write to a snapshot: %v", s)
	}
}

// drop deletes a snapshot.
func (w *snapshotWorld) drop(i int) {
	w.t.Helper()
	if err := w.v.DeleteSnapshot(context.Background(), w.old[i].name); err != nil {
		w.t.Fatal(err)
	}
	w.old = slices.Delete(w.old, i, i+1)
}

// cleared waits until nothing of what was deleted is left.
func (w *snapshotWorld) cleared() {
	w.t.Helper()
	w.w.Run("deleted snapshots are gone", func() bool { return len(w.v.snapshots.list) == len(w.old) && w.v.flusher.state == flushIdle })
}

// TestADeletedSnapshotGivesUpWhatOnlyItHad: whichever it is, under writes and power cuts (S-5).
func TestADeletedSnapshotGivesUpWhatOnlyItHad(t *testing.T) {
	sim.Each(t, 6, nil, func(t *testing.T, seed uint64) {
		w := newSnapshotWorld(t, seed)
		for i := range 14 {
			w.change(40)
			if len(w.old) < 4 {
				w.take(fmt.Sprint("s", i))
			}
			w.change(w.r.IntN(40))
			if w.r.Uint32N(2) == 0 {
				w.drop(w.r.IntN(len(w.old)))
			}
			w.change(w.r.IntN(40))
			if w.r.Uint32N(2) == 0 {
				w.again()
			}
			if w.r.Uint32N(2) == 0 {
				w.compare(fmt.Sprint("round ", i))
			}
		}
		for len(w.old) > 0 {
			w.drop(0)
		}
		w.cleared()
		w.compare("without snapshots")
		info, err := w.v.Info()
		if err != nil {
			t.Fatal(err)
		}
		mapped := uint64(0)
		for at := 0; at < snapshotBlocks; at += 16 {
			if strings.Trim(string(w.head[at*PageBytes:min(at+16, snapshotBlocks)*PageBytes]), "\x00") != "" {
				mapped++
			}
		}
		if info.Clusters < mapped || info.Clusters > snapshotBlocks/16+1 {
			t.Errorf("the volume has %d clusters, and %d of them are not zeros", info.Clusters, mapped)
		}
	})
}

func TestAClone(t *testing.T) {
	sim.Each(t, 4, nil, func(t *testing.T, seed uint64) {
		w := newSnapshotWorld(t, seed)
		w.change(100)
		w.take("s0")
		w.change(50)
		if _, err := w.v.CloneSnapshot("s0", VolumeConfig{Name: "c0", LogBytes: 8 << 20}); err != nil {
			t.Fatal(err)
		}
		// The clone is another world over the same pool.
		c := &snapshotWorld{house: w.house, r: w.r, v: w.find("c0"), head: append([]byte(nil), w.old[0].data...), seq: 1 << 40}
		c.c = c.client(c.v, 0)
		for i := range 4 {
			c.change(40)
			w.change(40)
			c.take(fmt.Sprint("c", i))
			c.change(40)
			if err := w.v.DeleteSnapshot(context.Background(), "s0"); !errors.Is(err, ErrSnapshotInUse) {
				t.Fatalf("a snapshot with a clone is deleted: %v", err)
			}
			if i == 1 {
				c.drop(0)
			}
			if i%2 == 1 {
				w.again()
				c.v = c.find("c0")
				c.c = c.client(c.v, 0)
			}
			w.compare("the parent")
			c.compare("the clone")
		}
		for len(c.old) > 0 {
			c.drop(0)
		}
		c.c.close()
		if err := w.pool.DeleteVolume(context.Background(), c.v, nil); err != nil {
			t.Fatal(err)
		}
		w.drop(0)
		w.cleared()
		w.compare("the parent alone")
	})
}

// restore makes the head what a snapshot is, and drops those after it.
func (w *snapshotWorld) restore(i int) {
	w.t.Helper()
	w.c.close()
	newer := i < len(w.old)-1
	if newer {
		if err := w.v.RestoreSnapshot(context.Background(), w.old[i].name, RestoreOptions{}); !errors.Is(err, ErrNewerSnapshots) {
			w.t.Fatalf("restoring over newer snapshots: %v", err)
		}
	}
	if err := w.v.RestoreSnapshot(context.Background(), w.old[i].name, RestoreOptions{DropNewer: newer}); err != nil {
		w.t.Fatal(err)
	}
	w.old = w.old[:i+1]
	copy(w.head, w.old[i].data)
	w.c = w.client(w.v, 1)
}

// TestARestoredVolumeIsTheSnapshot: and goes on, over power cuts, and what has changed is told (S-7, S-11).
func TestARestoredVolumeIsTheSnapshot(t *testing.T) {
	sim.Each(t, 6, nil, func(t *testing.T, seed uint64) {
		w := newSnapshotWorld(t, seed)
		for i := range 10 {
			w.change(30)
			if len(w.old) < 4 {
				w.take(fmt.Sprint("s", i))
			}
			w.change(w.r.IntN(60))
			since, err := w.v.Info()
			if err != nil {
				t.Fatal(err)
			}
			before := append([]byte(nil), w.head...)
			if w.r.Uint32N(2) == 0 {
				w.restore(w.r.IntN(len(w.old)))
			}
			w.change(w.r.IntN(30))
			w.changedSince(since.Appended, before)
			if w.r.Uint32N(2) == 0 {
				w.again()
			}
			if w.r.Uint32N(2) == 0 {
				w.compare(fmt.Sprint("round ", i))
			}
		}
		w.compare("the end")
	})
}

// changedSince compares what is told to have changed with what the head was.
func (w *snapshotWorld) changedSince(lsn wal.LSN, before []byte) {
	w.t.Helper()
	told := make([]bool, snapshotBlocks)
	last := uint64(0)
	if err := w.v.Changed(context.Background(), ChangedOptions{Since: lsn}, func(first, blocks uint64) error {
		if first < last {
			return fmt.Errorf("block %d after block %d", first, last)
		}
		for last = first; last < first+blocks; last++ {
			told[last] = true
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	for b, t := range told {
		if at := b * PageBytes; !t && !bytes.Equal(before[at:at+PageBytes], w.head[at:at+PageBytes]) {
			w.t.Fatalf("block %d has changed since LSN %d, and is not named", b, lsn)
		}
	}
}

// event logs the event of a snapshot, without waiting for the flusher.
func (w *snapshotWorld) event(n SnapshotNumber) {
	w.t.Helper()
	name := fmt.Sprint("e", n)
	s := Snapshot{Number: n, Name: mustName(w.t, name), UUID: uuid.New(), Bytes: snapshotBlocks * PageBytes}
	payload := pageMemory(1)
	s.encode(payload)
	e := &eventWait{event: newEvent()}
	w.w.On(w.v.r.Index(), func(*reactor.Reactor) { w.v.logEvent(&e.logEvent, wal.KindSnapshot, uint64(n), payload, e) })
	w.w.Run("the event is durable", func() bool { return e.set })
	w.old = append(w.old, past{name, slices.Clone(w.head)})
}

func mustName(t *testing.T, s string) Name {
	t.Helper()
	n, err := MakeName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestWhatChangesOnBothSidesOfASnapshot: the flusher is behind, and meets versions of a block before and after one snapshot and the next, in one
// pass; after a power cut as well. Each of them has a place of its own, and the pool may be full but for those that were promised (V-27, S-1).
func TestWhatChangesOnBothSidesOfASnapshot(t *testing.T) {
	for _, c := range []struct {
		what string
		cut  bool
		full bool
	}{{"the flusher catches up", false, false}, {"after a power cut", true, false}, {"in a full pool", false, true}, {"after a power cut in a full pool", true, true}} {
		t.Run(c.what, func(t *testing.T) {
			h, stages := newStagedHouse(t, 1, 2, 64<<20)
			w := &snapshotWorld{house: h, r: sim.Stream(1, "snapshots"), head: make([]byte, snapshotBlocks*PageBytes)}
			w.v = w.volume("v0", snapshotBlocks*PageBytes)
			filler := w.volume("filler", 64<<20)
			w.c = w.client(w.v, 1)
			w.change(20)
			w.forced(w.v)
			stages.Shut(wal.StageMap)
			w.w.On(w.v.r.Index(), func(*reactor.Reactor) { w.v.force(newEvent()) })
			w.w.Run("a checkpoint is held", func() bool { return stages.Waiting(wal.StageMap) > 0 })
			for n := range SnapshotNumber(3) {
				for at := uint64(0); at < 160; at += 16 { // the same block of ten clusters, and another one of each
					w.put(at+3, 1)
					w.put(at+4+uint64(n), 2)
				}
				w.event(n + 1)
			}
			w.put(3, 1)
			if c.full {
				k := w.client(filler, 0)
				for at := uint64(0); ; at += 16 {
					if s := k.do(bdev.Write, at, 16, pageMemory(16)); s == bdev.StatusNoSpace || s == bdev.StatusBusy { // nothing comes home meanwhile
						break
					} else if s != bdev.StatusOK {
						t.Fatal(s)
					}
				}
			}
			if c.cut {
				w.again()
			} else {
				stages.Open(wal.StageMap)
				w.forced(w.v)
				if err := w.v.openSnapshots(); err != nil {
					t.Fatal(err)
				}
			}
			w.compare(c.what)
		})
	}
}

// put writes something new to blocks.
func (w *snapshotWorld) put(at, blocks uint64) {
	w.t.Helper()
	data := pageMemory(int(blocks))
	w.seq = fillCounting(data, w.seq)
	w.c.must(bdev.Write, at, blocks, data)
	copy(w.head[at*PageBytes:], data)
}

// TestAFlattenedCloneIsOnItsOwn: under writes; interrupted, cut off, and begun again (S-6).
func TestAFlattenedCloneIsOnItsOwn(t *testing.T) {
	sim.Each(t, 4, nil, func(t *testing.T, seed uint64) {
		w := newSnapshotWorld(t, seed)
		w.change(150)
		w.take("s0")
		w.change(30)
		if err := w.v.Flatten(context.Background(), nil); !errors.Is(err, ErrInvalid) {
			t.Fatalf("a volume that is no clone: %v", err)
		}
		if _, err := w.v.CloneSnapshot("s0", VolumeConfig{Name: "c0", LogBytes: 8 << 20}); err != nil {
			t.Fatal(err)
		}
		c := &snapshotWorld{house: w.house, r: w.r, v: w.find("c0"), head: slices.Clone(w.old[0].data), seq: 1 << 40}
		c.c = c.client(c.v, 0)
		c.change(w.r.IntN(20))
		ctx, cancel := context.WithCancel(context.Background())
		turns := 0
		err := c.v.Flatten(ctx, func(uint64, uint64) {
			if turns++; turns == 1 {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) && err != nil {
			t.Fatal(err)
		}
		if err != nil {
			c.compare("interrupted")
			c.change(10)
			w.again()
			c.v = c.find("c0")
			c.c = c.client(c.v, 0)
			c.compare("after a power cut")
			if err := c.v.Flatten(context.Background(), nil); err != nil {
				t.Fatal(err)
			}
		}
		c.compare("flattened")
		w.drop(0)
		w.cleared()
		c.change(40)
		c.take("c1")
		c.change(20)
		w.again()
		c.v = c.find("c0")
		c.c = c.client(c.v, 0)
		c.compare("without what it came from")
		w.compare("the parent without its clone")
	})
}

// TestLimitsOfSnapshots: as many as the format takes, and clones of clones (S-19).
func TestLimitsOfSnapshots(t *testing.T) {
	w := newSnapshotWorld(t, 1)
	for i := range SnapshotsMax {
		if i%16 == 0 {
			w.change(1)
		}
		if _, err := w.v.CreateSnapshot(SnapshotConfig{Name: fmt.Sprint("s", i)}); err != nil {
			t.Fatal(i, err)
		}
	}
	if _, err := w.v.CreateSnapshot(SnapshotConfig{Name: "more"}); !errors.Is(err, ErrLimit) {
		t.Errorf("one more: %v", err)
	}
	w.again()
	if list, err := w.v.Snapshots(); err != nil || len(list) != SnapshotsMax {
		t.Errorf("%d snapshots, %v", len(list), err)
	}
	v := w.v
	for i := range CloneDepthMax {
		name := fmt.Sprint("c", i)
		if i > 0 {
			if _, err := v.CreateSnapshot(SnapshotConfig{Name: "s0"}); err != nil {
				t.Fatal(err)
			}
		}
		c, err := v.CloneSnapshot("s0", VolumeConfig{Name: name, LogBytes: 6 << 20})
		if err != nil {
			t.Fatal(i, err)
		}
		v = c
	}
	if _, err := v.CreateSnapshot(SnapshotConfig{Name: "s0"}); err != nil {
		t.Fatal(err)
	}
	if _, err := v.CloneSnapshot("s0", VolumeConfig{Name: "deeper", LogBytes: 6 << 20}); !errors.Is(err, ErrLimit) {
		t.Errorf("one deeper: %v", err)
	}
}

// TestActsUnderConstantLoad: there is always something that is not home. Acts end all the same, and a snapshot has what was acknowledged before it.
func TestActsUnderConstantLoad(t *testing.T) {
	sim.Each(t, 3, nil, func(t *testing.T, seed uint64) {
		w := newSnapshotWorld(t, seed)
		w.put(0, 160)
		before := slices.Clone(w.head[:16*PageBytes])
		x := w.chat(w.v.Device(), 0, 500, nil)
		began := w.w.Now()
		for i := range 4 {
			w.take(fmt.Sprint("s", i))
		}
		if err := w.v.DeleteSnapshot(context.Background(), "s1"); err != nil {
			t.Fatal(err)
		}
		if err := w.v.Changed(context.Background(), ChangedOptions{SinceSnapshot: "s0"}, func(uint64, uint64) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if took := w.w.Now() - began; took > 10*reactor.Second {
			t.Errorf("they took %d ns", took)
		}
		x.stop = true
		w.w.Run("it ends", func() bool { return x.e })
		x.close()
		got := pageMemory(16)
		c := w.clientOf(w.v.openedSnapshots()[0].device, 0)
		c.must(bdev.Read, 0, 16, got)
		if !bytes.Equal(got, before) {
			t.Error("the first snapshot has not what was written before")
		}
	})
}
