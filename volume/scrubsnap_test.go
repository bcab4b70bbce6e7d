package volume

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
	"github.com/pollux-storage/pollux/wal"
)

// placeIn is where a block of a snapshot is, 0 if it has none. The snapshot's device is read only, so its map stays as it is.
func (h *house) placeIn(v *Volume, snapshot string, block uint64) Place {
	h.t.Helper()
	d, err := v.findSnapshot(snapshot)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.placeBy(v, d.tree, block)
}

// scrubbedOnce compares what a pass compares with what all maps of a volume have: each block once.
func (w *snapshotWorld) scrubbedOnce(v *Volume, names ...string) {
	w.t.Helper()
	w.forced(v)
	places := map[Place]bool{}
	for b := range uint64(snapshotBlocks) {
		places[w.homeOf(v, b)] = true
		for _, name := range names {
			places[w.placeIn(v, name, b)] = true
		}
	}
	delete(places, 0)
	before := w.scrubInfo(v).Bytes
	i := w.scrubbed(v)
	if i.LastErrors != 0 || i.Bytes-before != uint64(len(places))*PageBytes {
		w.t.Fatalf("%d errors, %d blocks compared of %d: %+v", i.LastErrors, (i.Bytes-before)/PageBytes, len(places), i.First)
	}
	if i.Block != 0 || i.All != snapshotBlocks*uint64(1+len(names)) {
		w.t.Fatalf("at the end it is at %d of %d", i.Block, i.All)
	}
}

func (w *snapshotWorld) names() (all []string) {
	for _, p := range w.old {
		all = append(all, p.name)
	}
	return all
}

// TestScrubReadsEachBlockOfAllMapsOnce: whatever they share, after trims, restores and deletions, in a clone as well.
func TestScrubReadsEachBlockOfAllMapsOnce(t *testing.T) {
	sim.Each(t, 4, nil, func(t *testing.T, seed uint64) {
		w := newSnapshotWorld(t, seed)
		for i := range 7 {
			w.change(25)
			w.c.must(bdev.Unmap, 16*w.r.Uint64N(50)+w.r.Uint64N(16), 3, nil) // of a cluster that is shared, in place
			w.take(fmt.Sprint("s", i))
			switch {
			case i == 3:
				w.drop(1)
				w.cleared()
			case i == 4:
				w.restoreForced(2)
			}
			w.scrubbedOnce(w.v, w.names()...)
		}
		w.change(20)
		w.scrubbedOnce(w.v, w.names()...)
		clone, err := w.v.CloneSnapshot(w.old[1].name, VolumeConfig{Name: "clone", LogBytes: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		w.scrubbedOnce(clone)
		k := w.client(clone, 0)
		if _, err := clone.CreateSnapshot(SnapshotConfig{Name: "of the clone"}); err != nil {
			t.Fatal(err)
		}
		k.must(bdev.Write, 5, 40, pattern(w.r, 40))
		w.scrubbedOnce(clone, "of the clone")
	})
}

// restoreForced restores without closing the client.
func (w *snapshotWorld) restoreForced(i int) {
	w.t.Helper()
	if err := w.v.RestoreSnapshot(context.Background(), w.old[i].name, RestoreOptions{DropNewer: true, Force: true}); err != nil {
		w.t.Fatal(err)
	}
	w.old = w.old[:i+1]
	w.cleared()
}

// TestScrubNamesTheSnapshotThatHasTheError: a bit that only a snapshot has, in a block of a cluster or of its map; the newest that has it, if several
// do; and the volume, if that has it.
func TestScrubNamesTheSnapshotThatHasTheError(t *testing.T) {
	h := newHouse(t, 1, 2, 128<<20)
	v := h.volume("v0", 32<<20)
	k := h.client(v, 1)
	data := distinct(256)
	take := func(name string) {
		t.Helper()
		if _, err := v.CreateSnapshot(SnapshotConfig{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	for at := uint64(0); at < 4096; at += 256 {
		k.must(bdev.Write, at, 256, data)
	}
	take("s0")
	k.must(bdev.Write, 100, 1, data[:PageBytes]) // its cluster has another place now
	k.must(bdev.Write, 1300, 1, data[:PageBytes])
	k.must(bdev.Unmap, 2005, 2, nil) // and these two blocks are s0's alone, in a cluster that all share
	take("s1")
	k.must(bdev.Write, 1000, 1, data[:PageBytes])
	take("s2")
	k.must(bdev.Write, 1000, 1, data[:PageBytes])
	k.must(bdev.Write, 3000, 1, data[:PageBytes])
	h.forced(v)
	for _, c := range []struct {
		what, snapshot string // that is damaged
		block          uint64
		named          string
	}{
		{"a block that was written anew", "s0", 100, "s0"},
		{"another one of its cluster", "s0", 98, "s0"},
		{"a block that was trimmed", "s0", 2006, "s0"},
		{"a block of two snapshots", "s0", 1001, "s1"},
		{"a block of the one between", "s2", 1000, "s2"},
		{"a block of all snapshots", "s0", 3000, "s2"},
		{"a block of all", "s1", 2000, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			at := h.placeIn(v, c.snapshot, c.block)
			h.flip(at)
			i := h.scrubbed(v)
			if f := i.First; i.LastErrors != 1 || f == nil || f.Snapshot != c.named || f.LBA != c.block || f.Place != at || f.Map || f.Status != bdev.StatusCorrupt {
				t.Errorf("found %+v, %+v", i, i.First)
			}
			h.flip(at)
			if i := h.scrubbed(v); i.LastErrors != 0 {
				t.Errorf("healed, and still: %+v", i)
			}
		})
	}
	t.Run("one block that cannot be read", func(t *testing.T) {
		at := h.placeIn(v, "s0", 100)
		medium := bdevsim.DiskOf(h.disk).Medium()
		medium.Inject(sim.Fault{Kinds: sim.KindsOf(sim.Read), First: uint64(at), Blocks: 1, Effect: sim.Fail})
		if i := h.scrubbed(v); i.LastErrors != 1 || i.First.Snapshot != "s0" || i.First.LBA != 100 || i.First.Status != bdev.StatusIO {
			t.Errorf("found %+v, %+v", i, i.First)
		}
		medium.Heal()
	})
	leaf := func(s *Snapshot, n int) Place {
		page := make([]byte, PageBytes)
		bdevsim.DiskOf(h.disk).Medium().ReadAt(page, s.Map.Place.Byte())
		return RefAt(page, n).Place
	}
	for _, c := range []struct {
		what string
		of   int // the snapshot whose leaf is damaged
		leaf int
	}{{"a page of the oldest map", 0, 0}, {"a page of the one between, beside which the oldest is looked at", 1, 1}} {
		t.Run(c.what, func(t *testing.T) {
			at := leaf(&v.snapshots.list[c.of], c.leaf)
			h.flip(at)
			h.crash(func(m *sim.Image) *sim.Image { return m.Crash(sim.None) }) // an empty cache
			v = h.find("v0")
			if !h.damaged(at) {
				t.Fatal("the page is not damaged")
			}
			got := h.scrubbed(v)
			if f := got.First; got.LastErrors != 1 || f == nil || f.Snapshot != fmt.Sprint("s", c.of) || !f.Map || f.Place != at || f.LBA != uint64(c.leaf*v.shape.Entries()*v.shape.Blocks()) {
				t.Errorf("found %+v, %+v", got, got.First)
			}
			h.flip(at)
		})
	}
}

// damaged says that the page of a map at a place is.
func (h *house) damaged(at Place) bool {
	page := make([]byte, PageBytes)
	bdevsim.DiskOf(h.disk).Medium().ReadAt(page, at.Byte())
	return le.Uint32(page[4:]) != crcOf(page[8:])
}

// TestScrubOfSnapshotsGoesOnAfterACrash: in the snapshot in which it was; and in the next older one, if that was deleted meanwhile.
func TestScrubOfSnapshotsGoesOnAfterACrash(t *testing.T) {
	for _, deleted := range []bool{false, true} {
		t.Run(fmt.Sprint("deleted ", deleted), func(t *testing.T) {
			h := newHouse(t, 1, 2, 256<<20)
			v := h.volume("v0", 16<<20)
			k := h.client(v, 1)
			data := distinct(256)
			for i := range 3 { // nothing is shared
				for at := uint64(0); at < 4096; at += 256 {
					k.must(bdev.Write, at, 256, data)
				}
				if i == 2 {
					break
				}
				if _, err := v.CreateSnapshot(SnapshotConfig{Name: fmt.Sprint("s", i)}); err != nil {
					t.Fatal(err)
				}
			}
			h.forced(v)
			h.flip(h.homeOf(v, 7))
			h.flip(h.placeIn(v, "s1", 100))
			h.flip(h.placeIn(v, "s1", 4000))
			h.flip(h.placeIn(v, "s0", 9))
			h.startScrub(v, 1<<20) // 48 seconds
			h.w.RunFor(30 * reactor.Second)
			i := h.scrubInfo(v)
			if i.State != "running" || i.In != "s1" || i.Block < 6500 || i.Block > 8000 || i.All != 3*4096 || i.Found != 2 {
				t.Fatalf("in the midst: %+v", i)
			}
			if deleted { // it rests there, and stays
				if err := v.PauseScrub(); err != nil {
					t.Fatal(err)
				}
				if err := v.DeleteSnapshot(context.Background(), "s1"); err != nil {
					t.Fatal(err)
				}
			}
			was := i.Block
			h.crash(func(m *sim.Image) *sim.Image { return m.Crash(sim.None) })
			v = h.find("v0")
			i = h.scrubInfo(v)
			if !i.Unfinished() || i.Found != 2 || !deleted && (i.In != "s1" || i.Block > was || i.Block < 4096+500) {
				t.Fatalf("after the crash: %+v", i)
			}
			i = h.scrubbed(v)
			errors, most := uint64(4), uint64(29<<20) // a checkpoint took it along ten seconds ago
			if deleted {
				errors, most = 3, 16<<20
			}
			if i.LastErrors != errors || i.Bytes > most || i.Unfinished() || i.In != "" {
				t.Fatalf("at the end: %+v", i)
			}
		})
	}
}

// TestScrubWhileSnapshotsComeAndGo: passes go on and on while they are taken, deleted, restored and cloned from, in places that are given to others
// at once; nothing is found (G-17), and of what is damaged afterwards the next pass finds all.
func TestScrubWhileSnapshotsComeAndGo(t *testing.T) {
	sim.Each(t, 6, []uint64{12649050390645328619, 13226326358605274819}, func(t *testing.T, seed uint64) {
		w := &snapshotWorld{house: newHouse(t, seed, 2, 48<<20), r: sim.Stream(seed, "snapshots"), head: make([]byte, snapshotBlocks*PageBytes)}
		w.v = w.volume("v0", snapshotBlocks*PageBytes)
		w.c = w.client(w.v, 1)
		for i := range 40 {
			w.startScrub(w.v, uint64(w.r.Uint32N(2))*40<<20)
			w.change(w.r.IntN(12))
			switch n := len(w.old); {
			case n < 2:
				w.take(fmt.Sprint("s", i))
			case n == 4:
				w.drop(w.r.IntN(n))
			default:
				switch w.r.Uint32N(4) {
				case 0:
					w.take(fmt.Sprint("s", i))
				case 1:
					w.drop(w.r.IntN(n))
				case 2:
					k := w.r.IntN(n)
					if err := w.v.RestoreSnapshot(context.Background(), w.old[k].name, RestoreOptions{DropNewer: true, Force: true}); err != nil {
						t.Fatal(err)
					}
					w.old = w.old[:k+1]
					copy(w.head, w.old[k].data)
				case 3:
					c, err := w.v.CloneSnapshot(w.old[w.r.IntN(n)].name, VolumeConfig{Name: "clone", LogBytes: 6 << 20})
					if err != nil {
						t.Fatal(err)
					}
					if i := w.scrubbed(c); i.LastErrors != 0 {
						t.Fatalf("the clone: %+v", i.First)
					}
					if err := w.pool.DeleteVolume(context.Background(), c, nil); err != nil {
						t.Fatal(err)
					}
				}
			}
			if w.r.Uint32N(12) == 0 {
				if i := w.scrubInfo(w.v); i.Errors != 0 {
					t.Fatalf("before a power cut: %+v, %+v", i, i.First)
				}
				w.again()
			}
		}
		w.startScrub(w.v, 0) // one that the last power cut left in its midst goes on, so that the next begins at the beginning
		w.w.Run("no pass runs", func() bool { return !w.v.scrub.runs() })
		if i := w.scrubInfo(w.v); i.Errors != 0 {
			t.Fatalf("%+v, %+v", i, i.First)
		}
		w.cleared()
		w.scrubbedOnce(w.v, w.names()...)
		w.compare("the end")
		bad, name, block := Place(0), "", uint64(0)
		for _, p := range w.old {
			for b := range uint64(snapshotBlocks) {
				if at := w.placeIn(w.v, p.name, b); at != 0 && (bad == 0 || w.r.Uint32N(300) == 0) {
					bad, name, block = at, p.name, b
				}
			}
		}
		if bad != 0 {
			w.flip(bad)
			if i := w.scrubbed(w.v); i.LastErrors != 1 || i.First.LBA != block || i.First.Place != bad {
				t.Fatalf("a flipped bit in block %d of %s: %+v, %+v", block, name, i, i.First)
			}
		}
	})
}

// TestScrubOfASnapshotReadsUnderItsGrace: the snapshot is deleted while a block or a page of its map is being read, and what it had would be given
// to others. Nothing is found, and nothing is given away before the read is over.
func TestScrubOfASnapshotReadsUnderItsGrace(t *testing.T) {
	for _, c := range []struct {
		what  string
		stuck func(h *house, v *Volume) (Place, uint64)
	}{
		{"a block", func(h *house, v *Volume) (Place, uint64) { return h.placeIn(v, "s0", 0), 16 }},
		{"a leaf", func(h *house, v *Volume) (Place, uint64) {
			page := make([]byte, PageBytes)
			bdevsim.DiskOf(h.disk).Medium().ReadAt(page, v.snapshots.list[0].Map.Place.Byte())
			return RefAt(page, 0).Place, 1
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			h := newHouse(t, 1, 1, 48<<20)
			v := h.volume("v0", 16<<20)
			k := h.client(v, 0)
			r := sim.Stream(1, "data")
			k.must(bdev.Write, 0, 64, pattern(r, 64))
			if _, err := v.CreateSnapshot(SnapshotConfig{Name: "s0"}); err != nil {
				t.Fatal(err)
			}
			k.must(bdev.Write, 0, 64, pattern(r, 64))
			h.forced(v)
			h.crash(func(m *sim.Image) *sim.Image { return m.Crash(sim.None) }) // an empty cache
			v = h.find("v0")
			k = h.client(v, 0)
			at, pages := c.stuck(h, v)
			if pages > 1 {
				h.crash(func(m *sim.Image) *sim.Image { return m.Crash(sim.None) })
				v = h.find("v0")
				k = h.client(v, 0)
			}
			stuck := bdevsim.DiskOf(h.disk).Medium().Inject(sim.Fault{Kinds: sim.KindsOf(sim.Read), First: uint64(at), Blocks: pages, Effect: sim.Stick, Count: 1})
			h.startScrub(v, 0)
			h.w.Run("it reads", func() bool { return stuck.Hits() == 1 })
			e := &eventWait{event: newEvent()}
			h.w.On(0, func(*reactor.Reactor) { v.logEvent(&e.logEvent, wal.KindSnapshotDelete, 1, nil, e) })
			h.w.Run("the event is durable", func() bool { return e.set })
			for range 8 { // whatever is free is written to
				for at := uint64(64); at < 2048; at += 64 {
					if s := k.do(bdev.Write, at, 64, pattern(r, 64)); s != bdev.StatusOK && s != bdev.StatusNoSpace && s != bdev.StatusBusy {
						t.Fatal(s)
					}
				}
				h.w.On(0, func(*reactor.Reactor) { v.force(newEvent()) })
				h.w.RunFor(200 * reactor.Millisecond)
			}
			if !v.scrub.busy() {
				t.Fatal("the read is not stuck any more")
			}
			stuck.Release()
			h.w.Run("the pass is over", func() bool { return v.scrub.stats.Passes == 1 })
			if i := h.scrubInfo(v); i.Errors != 0 {
				t.Errorf("%+v, %+v", i, i.First)
			}
			h.forced(v)
			if len(v.snapshots.list) != 0 {
				t.Error("the snapshot is still there")
			}
		})
	}
}

// TestScrubPassesOverWhatIsBeingDeleted: what such a snapshot had alone may be gone. What it shares with an older one is looked at there.
func TestScrubPassesOverWhatIsBeingDeleted(t *testing.T) {
	w := newSnapshotWorld(t, 1)
	w.put(0, 160)
	w.take("s0")
	w.put(0, 16)
	w.take("s1")
	w.put(0, 32)
	w.forced(w.v)
	e := &eventWait{event: newEvent()}
	w.w.On(w.v.r.Index(), func(*reactor.Reactor) {
		w.v.clearing.failed = errors.New("nothing is given up in this test")
		w.v.logEvent(&e.logEvent, wal.KindSnapshotDelete, 2, nil, e)
	})
	w.w.Run("the event is durable", func() bool { return e.set })
	w.forced(w.v)
	before := w.scrubInfo(w.v).Bytes
	i := w.scrubbed(w.v)
	if got := (i.Bytes - before) / PageBytes; got != 160+32 || i.LastErrors != 0 || i.All != 2*snapshotBlocks {
		t.Errorf("%d blocks were compared: %+v", got, i)
	}
}
