package volume

import (
	"context"
	"fmt"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
)

// scrubInfo asks from a test.
func (h *house) scrubInfo(v *Volume) ScrubInfo {
	h.t.Helper()
	i, err := v.Scrub()
	if err != nil {
		h.t.Fatal(err)
	}
	return i
}

func (h *house) startScrub(v *Volume, rate uint64) {
	h.t.Helper()
	if err := v.StartScrub(rate); err != nil {
		h.t.Fatal(err)
	}
}

// scrubbed lets a pass come to its end.
func (h *house) scrubbed(v *Volume) ScrubInfo {
	h.t.Helper()
	before := h.scrubInfo(v).Passes
	h.startScrub(v, 0)
	h.w.Run("the pass is over", func() bool { return v.scrub.stats.Passes > before })
	return h.scrubInfo(v)
}

// homeOf is where a block is at home.
func (h *house) homeOf(v *Volume, block uint64) Place {
	h.t.Helper()
	return h.placeBy(v, v.tree, block)
}

// placeBy is where a block is as a map has it, 0 if it is not written.
func (h *house) placeBy(v *Volume, t *mapTree, block uint64) Place {
	h.t.Helper()
	w := &placeWait{v: v, block: block, e: newEvent()}
	w.node.init(w)
	h.w.On(v.r.Index(), func(*reactor.Reactor) {
		if e, s, now := t.find(block>>v.shape.shift, &w.node); now {
			w.mapFound(&w.node, e, s)
		}
	})
	h.w.Run("the entry is found", func() bool { return w.e.set })
	return w.place
}

type placeWait struct {
	v     *Volume
	block uint64
	node  mapWaiter
	e     *event
	place Place // 0: it is not written
}

func (w *placeWait) mapFound(_ *mapWaiter, e Entry, s bdev.Status) {
	in := int(w.block & (1<<w.v.shape.shift - 1))
	if s == bdev.StatusOK && e.Place() != 0 && e.Written(in) {
		w.place = e.Place() + Place(in)
	}
	w.e.say(s)
}

// flip changes a bit on the disk.
func (h *house) flip(at Place) {
	medium := bdevsim.DiskOf(h.disk).Medium()
	b := make([]byte, PageBytes)
	medium.ReadAt(b, at.Byte())
	b[1234] ^= 0x10
	medium.Spoil(at.Byte(), b)
}

// TestScrubRaisesNoFalseAlarm (V-33, G-17): passes go on and on under any load, trims, rewrites, placed writes and checkpoints included, and
// find nothing; one flipped bit at home is found by the next, exactly once, and cannot be read.
func TestScrubRaisesNoFalseAlarm(t *testing.T) {
	sim.Each(t, 4, nil, func(t *testing.T, seed uint64) {
		k := newCrashHarness(t, seed, crashPoolBytes)
		clients := k.clients(4)
		for range 60 {
			for _, v := range k.v {
				k.startScrub(v, 0)
			}
			k.work(clients, 10)
		}
		k.rest(clients)
		for vol, v := range k.v {
			k.w.Run("no pass runs", func() bool { return !v.scrub.runs() })
			if i := k.scrubInfo(v); i.Errors != 0 || i.Passes < 3 {
				t.Fatalf("volume %d: %d errors in %d passes under load; the first: %+v", vol, i.Errors, i.Passes, i.First)
			}
			k.forced(v)
			bad, block := Place(0), uint64(0)
			for b := range uint64(crashBlocks) {
				if p := k.homeOf(v, b); p != 0 && (bad == 0 || k.r.Uint32N(20) == 0) {
					bad, block = p, b
				}
			}
			k.flip(bad)
			i := k.scrubbed(v)
			if i.Errors != 1 || i.LastErrors != 1 || i.First == nil || i.First.LBA != block || i.First.Place != bad || i.First.Status != bdev.StatusCorrupt {
				t.Fatalf("volume %d, a flipped bit in block %d at %d: %+v, %+v", vol, block, bad, i, i.First)
			}
			if s := k.client(v, 0).do(bdev.Read, block, 1, pageMemory(1)); s != bdev.StatusCorrupt {
				t.Errorf("reading it: %v", s)
			}
			k.flip(bad)
			if i := k.scrubbed(v); i.Errors != 1 || i.LastErrors != 0 {
				t.Errorf("healed, and still: %+v", i)
			}
		}
	})
}

// TestScrubGoesOnAfterACrash: where the last checkpoint says, with the errors that were found up to there and without those behind it.
func TestScrubGoesOnAfterACrash(t *testing.T) {
	h := newHouse(t, 1, 2, 96<<20)
	v := h.volume("v0", 64<<20)
	k := h.client(v, 1)
	data := distinct(256)
	for at := uint64(0); at < 32<<20/PageBytes; at += 256 {
		k.must(bdev.Write, at, 256, data)
	}
	h.forced(v)
	for _, b := range []uint64{10, 11, 8000} {
		h.flip(h.homeOf(v, b))
	}
	h.startScrub(v, 1<<20) // 32 seconds
	h.w.RunFor(16 * reactor.Second)
	i := h.scrubInfo(v)
	if i.State != "running" || i.Block < 3000 || i.Block > 5000 || i.Found != 2 || i.Errors != 2 || i.Bytes < 12<<20 || i.Bytes > 20<<20 {
		t.Fatalf("after a half: %+v", i)
	}
	h.crash(func(m *sim.Image) *sim.Image { return m.Crash(sim.None) })
	v = h.find("v0")
	i = h.scrubInfo(v)
	if i.State != "idle" || !i.Unfinished() || i.Block < 2000 || i.Block > 5000 || i.Found != 2 || !i.Last.IsZero() {
		t.Fatalf("after the crash: %+v", i)
	}
	i = h.scrubbed(v)
	if i.Errors != 1 || i.LastErrors != 3 || i.Bytes > 24<<20 || i.Last.IsZero() || i.Unfinished() {
		t.Fatalf("at the end: %+v", i)
	}
	h.w.RunFor(reactor.Second)
	last := i.Last
	h.crash(func(m *sim.Image) *sim.Image { return m.Crash(sim.None) })
	if i = h.scrubInfo(h.find("v0")); i.Last != last || i.LastErrors != 3 || i.Unfinished() {
		t.Fatalf("and after another crash: %+v", i)
	}
}

// TestScrubByHand pauses, goes on, stops, and is closed in the middle of it.
func TestScrubByHand(t *testing.T) {
	h := newHouse(t, 1, 2, 96<<20)
	v := h.volume("v0", 64<<20)
	k := h.client(v, 1)
	data := distinct(256)
	for at := uint64(0); at < 16<<20/PageBytes; at += 256 {
		k.must(bdev.Write, at, 256, data)
	}
	h.forced(v)
	h.startScrub(v, 1<<20)
	h.w.RunFor(4 * reactor.Second)
	check := func(what, state string, from, to uint64) {
		t.Helper()
		if i := h.scrubInfo(v); i.State != state || i.Block < from || i.Block > to {
			t.Fatalf("%s: %+v", what, i)
		}
	}
	check("after four seconds", "running", 700, 1500)
	if err := v.PauseScrub(); err != nil {
		t.Fatal(err)
	}
	h.w.RunFor(2 * reactor.Second)
	check("paused", "paused", 700, 1500)
	at, ran := h.scrubInfo(v).Block, h.scrubInfo(v).Ran
	h.w.RunFor(20 * reactor.Second)
	check("still paused", "paused", at, at)
	if h.scrubInfo(v).Ran != ran {
		t.Error("time counts while it is paused")
	}
	h.startScrub(v, 2<<20)
	h.w.RunFor(2 * reactor.Second)
	check("quicker", "running", at+700, at+1500)
	if err := v.StopScrub(); err != nil {
		t.Fatal(err)
	}
	h.w.RunFor(reactor.Second)
	check("stopped", "idle", 0, 0)
	if i := h.scrubInfo(v); i.Passes != 0 || !i.Last.IsZero() || i.Unfinished() {
		t.Errorf("a pass that was given up: %+v", i)
	}
	h.startScrub(v, 0)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if err := v.StartScrub(0); err == nil {
		t.Error("a closed volume is scrubbed")
	}
}

// TestScrubIsClosedDuringACheckpoint: what the checkpoint under way does not have is in the next one, which the close waits for.
func TestScrubIsClosedDuringACheckpoint(t *testing.T) {
	h := newHouse(t, 1, 1, 96<<20)
	v := h.volume("v0", 64<<20)
	k := h.client(v, 0)
	data := distinct(256)
	for at := uint64(0); at < 16<<20/PageBytes; at += 256 {
		k.must(bdev.Write, at, 256, data)
	}
	h.forced(v)
	h.startScrub(v, 1<<20)
	h.w.RunFor(4 * reactor.Second)
	h.w.Run("nothing else is under way", func() bool { return v.flusher.state == flushIdle })
	if err := v.PauseScrub(); err != nil {
		t.Fatal(err)
	}
	h.w.Run("its place is being written", func() bool { return v.ckpt.step == checkpointCommit })
	if err := v.StopScrub(); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	h.crash(func(i *sim.Image) *sim.Image { return i.Crash(sim.None) })
	if i := h.scrubInfo(h.find("v0")); i.Unfinished() {
		t.Errorf("a pass that was given up goes on at %d", i.Block)
	}
}

// TestScrubFindsWhatCannotBeRead: of a run of blocks in which one cannot be read that one counts; a page of the map counts once, and the
// pass goes on behind what it is about.
func TestScrubFindsWhatCannotBeRead(t *testing.T) {
	h := newHouse(t, 1, 1, 96<<20)
	v := h.volume("v0", 64<<20)
	k := h.client(v, 0)
	data := distinct(256)
	const blocks = 16 << 20 / PageBytes
	for at := uint64(0); at < blocks; at += 256 {
		k.must(bdev.Write, at, 256, data)
	}
	h.forced(v)
	bad := h.homeOf(v, 100)
	medium := bdevsim.DiskOf(h.disk).Medium()
	medium.Inject(sim.Fault{Kinds: sim.KindsOf(sim.Read), First: uint64(bad), Blocks: 1, Effect: sim.Fail})
	if i := h.scrubbed(v); i.Errors != 1 || i.First == nil || i.First.LBA != 100 || i.First.Place != bad || i.First.Status != bdev.StatusIO || i.Bytes != (blocks-1)*PageBytes {
		t.Fatalf("one block cannot be read: %+v, %+v", i, i.First)
	}
	medium.Heal()
	h.crash(func(m *sim.Image) *sim.Image { return m.Crash(sim.None) }) // an empty cache
	v = h.find("v0")
	leaf := h.leafOf(v, 0)
	h.flip(leaf)
	per := uint64(v.shape.Entries() * v.shape.Blocks())
	if i := h.scrubbed(v); i.Errors != 1 || i.First == nil || i.First.LBA != 0 || !i.First.Map || i.First.Place != leaf || i.Bytes != (blocks-per)*PageBytes {
		t.Fatalf("a leaf is damaged: %+v, %+v", i, i.First)
	}
}

// leafOf is where a leaf of the map stands.
func (h *house) leafOf(v *Volume, leaf uint64) Place {
	medium := bdevsim.DiskOf(h.disk).Medium()
	ref, page := v.page.Map, make([]byte, PageBytes)
	for l := int(v.page.Levels); l > 0; l-- {
		medium.ReadAt(page, ref.Place.Byte())
		ref = RefAt(page, int(leaf/span(l-1)%RefsMax))
	}
	return ref.Place
}

// TestScrubReadsUnderItsGrace: whoever brings home what changes a block that is being read, or gives its place away, waits for the read.
func TestScrubReadsUnderItsGrace(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(k *client, data []byte)
	}{
		{"a block is written in place", func(k *client, data []byte) { k.must(bdev.Write, 3, 1, data[:PageBytes]) }},
		{"its cluster gets another place", func(k *client, data []byte) {
			for range 8 { // and the old one is given to somebody
				for at := uint64(0); at < 64; at += 16 {
					k.must(bdev.Write, at, 16, data)
				}
			}
		}},
		{"it is trimmed, and the place given away", func(k *client, data []byte) {
			k.must(bdev.Unmap, 0, 16, nil)
			for at := uint64(64); at < 1024; at += 16 {
				k.must(bdev.Write, at, 16, data)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, 1, 1, 48<<20)
			v := h.volume("v0", 16<<20)
			k := h.client(v, 0)
			r := sim.Stream(1, "data")
			k.must(bdev.Write, 0, 16, pattern(r, 16))
			h.forced(v)
			stuck := bdevsim.DiskOf(h.disk).Medium().Inject(sim.Fault{
				Kinds: sim.KindsOf(sim.Read), First: uint64(h.homeOf(v, 0)), Blocks: 16, Effect: sim.Stick, Count: 1,
			})
			h.startScrub(v, 0)
			h.w.Run("it reads", func() bool { return stuck.Hits() == 1 })
			c.change(k, pattern(r, 16))
			k.must(bdev.Flush, 0, 0, nil)
			for range 5 {
				h.w.On(0, func(*reactor.Reactor) { v.force(newEvent()) })
				h.w.RunFor(200 * reactor.Millisecond)
			}
			if v.scrub.state != scrubReading {
				t.Fatal("the read is not stuck any more")
			}
			stuck.Release()
			h.w.Run("the pass is over", func() bool { return v.scrub.stats.Passes == 1 })
			if i := h.scrubInfo(v); i.Errors != 0 {
				t.Errorf("%+v, %+v", i, i.First)
			}
		})
	}
}

// TestScrubBesideSnapshots: clusters are copied when they are written, given up with a snapshot, or changed back to one, while passes go on;
// and a clone's are its parent's at first.
func TestScrubBesideSnapshots(t *testing.T) {
	sim.Each(t, 3, nil, func(t *testing.T, seed uint64) {
		w := newSnapshotWorld(t, seed)
		ctx := context.Background()
		for i := range 8 {
			for range 10 {
				w.startScrub(w.v, 0)
				w.change(8)
			}
			w.take(fmt.Sprint("s", i))
			w.startScrub(w.v, 0)
			w.change(40)
			w.startScrub(w.v, 0)
			switch w.r.Uint32N(3) {
			case 0:
				if err := w.v.DeleteSnapshot(ctx, fmt.Sprint("s", i)); err != nil {
					t.Fatal(err)
				}
			case 1:
				if err := w.v.RestoreSnapshot(ctx, fmt.Sprint("s", i), RestoreOptions{Force: true}); err != nil {
					t.Fatal(err)
				}
				copy(w.head, w.old[i].data)
			}
		}
		w.forced(w.v)
		w.w.Run("no pass runs", func() bool { return !w.v.scrub.runs() })
		if i := w.scrubbed(w.v); i.ScrubStats.Errors != 0 || i.Passes < 10 {
			t.Fatalf("%d errors in %d passes: %+v", i.ScrubStats.Errors, i.Passes, i.First)
		}
		w.take("last")
		clone, err := w.v.CloneSnapshot("last", VolumeConfig{Name: "clone", LogBytes: 8 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if i := w.scrubbed(clone); i.ScrubStats.Errors != 0 || i.ScrubStats.Bytes == 0 {
			t.Errorf("the clone: %+v, %+v", i, i.First)
		}
	})
}
