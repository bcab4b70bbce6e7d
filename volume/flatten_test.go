package volume

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/bdev/bdevsim"
	"github.com/pollux-storage/pollux/internal/sim"
	"github.com/pollux-storage/pollux/reactor"
)

// cloneOf makes a clone of a snapshot, as another world over the same pool.
func (w *snapshotWorld) cloneOf(i int, name string) *snapshotWorld {
	w.t.Helper()
	if _, err := w.v.CloneSnapshot(w.old[i].name, VolumeConfig{Name: name, LogBytes: 6 << 20}); err != nil {
		w.t.Fatal(err)
	}
	c := &snapshotWorld{house: w.house, r: w.r, v: w.find(name), head: slices.Clone(w.old[i].data), seq: uint64(len(name)+1) << 40}
	c.c = c.client(c.v, 0)
	return c
}

// found finds the volume again in a pool that was opened anew.
func (w *snapshotWorld) found(name string) {
	w.t.Helper()
	w.v = w.find(name)
	w.c = w.client(w.v, 0)
}

// withSnapshots is a clone with snapshots of its own, which share with its parent, with each other and with it.
func withSnapshots(t *testing.T, seed, bytes uint64) (parent, clone *snapshotWorld) {
	t.Helper()
	w := &snapshotWorld{house: newHouse(t, seed, 2, bytes), r: sim.Stream(seed, "snapshots"), head: make([]byte, snapshotBlocks*PageBytes)}
	w.v = w.volume("v0", snapshotBlocks*PageBytes)
	w.c = w.client(w.v, 1)
	w.change(100)
	w.take("s0")
	w.change(20)
	c := w.cloneOf(0, "c0")
	if w.r.Uint32N(2) == 0 {
		c.change(w.r.IntN(8))
	}
	for i := range 1 + w.r.IntN(4) { // the first may have nothing of its own
		c.take(fmt.Sprint("c", i))
		c.change(w.r.IntN(12))
		c.c.must(bdev.Unmap, 16*w.r.Uint64N(60)+w.r.Uint64N(16), 3, nil)
		copyZeros(c)
	}
	return w, c
}

// copyZeros takes what the volume has now for what it should have.
func copyZeros(c *snapshotWorld) { copy(c.head, c.reads(c.v.Device())) }

// TestACloneWithSnapshotsIsFlattened: they are what they were, and share one copy of what was the parent's, which may go; the places that it gives up
// are written to by others (S-6). Interrupted, cut off, begun again, with snapshots deleted and restored in between.
func TestACloneWithSnapshotsIsFlattened(t *testing.T) {
	sim.Each(t, 12, nil, func(t *testing.T, seed uint64) {
		w, c := withSnapshots(t, seed, 160<<20)
		c.compare("before")
		if w.r.Uint32N(2) == 0 {
			w.interrupted(c)
		}
		done, total := uint64(0), uint64(0)
		err := c.v.Flatten(context.Background(), func(d, all uint64) { done, total = d, all })
		if err != nil || done != total || total != 63 {
			t.Fatalf("%d of %d clusters: %v", done, total, err)
		}
		c.compare("flattened")
		w.compare("the parent")
		w.apart(c)
	})
}

// countdown is a context that ends when it was asked so often.
type countdown struct {
	context.Context
	asks int
}

func (c *countdown) Err() error {
	if c.asks--; c.asks < 0 {
		return context.Canceled
	}
	return nil
}

// interrupted flattens in part, and does something to what has come of it.
func (w *snapshotWorld) interrupted(c *snapshotWorld) {
	w.t.Helper()
	switch err := c.v.Flatten(&countdown{context.Background(), w.r.IntN(6)}, nil); {
	case err == nil:
		return
	case !errors.Is(err, context.Canceled):
		w.t.Fatal(err)
	}
	w.partly(c)
}

// partly does something to a clone that was flattened in part.
func (w *snapshotWorld) partly(c *snapshotWorld) {
	w.t.Helper()
	c.compare("in part")
	c.change(w.r.IntN(8))
	switch w.r.Uint32N(4) {
	case 0:
		c.drop(w.r.IntN(len(c.old)))
		c.cleared()
	case 1:
		c.restoreForced(w.r.IntN(len(c.old)))
		copy(c.head, c.old[len(c.old)-1].data)
	case 2:
		c.take("in between")
	}
	c.change(w.r.IntN(8))
	if w.r.Uint32N(2) == 0 {
		w.again()
		c.found("c0")
	}
	c.compare("in part, and changed")
}

// apart lets the parent's snapshot go, and others write to what it had.
func (w *snapshotWorld) apart(c *snapshotWorld) {
	w.t.Helper()
	w.drop(0)
	w.cleared()
	for at := uint64(0); at+16 <= snapshotBlocks; at += 16 {
		w.put(at, 16)
	}
	w.forced(w.v)
	c.compare("the parent's places are others' now")
	c.change(20)
	c.take("later")
	c.change(20)
	w.again()
	c.found("c0")
	c.compare("after a power cut")
	w.compare("the parent, after a power cut")
	for len(c.old) > 0 {
		c.drop(c.r.IntN(len(c.old)))
		c.cleared()
		c.compare("one snapshot less")
	}
	c.c.close()
	if err := w.pool.DeleteVolume(context.Background(), c.v, nil); err != nil {
		w.t.Fatal(err)
	}
	w.compare("without the clone")
}

// TestSnapshotsShareOneCopyAfterFlattening: a clone of 60 clusters with eight snapshots needs the place of 60.
func TestSnapshotsShareOneCopyAfterFlattening(t *testing.T) {
	w := newSnapshotWorld(t, 1)
	for at := uint64(0); at < 960; at += 16 {
		w.put(at, 16)
	}
	w.take("s0")
	c := w.cloneOf(0, "c0")
	for i := range 8 {
		c.take(fmt.Sprint("c", i))
	}
	before := w.used()
	if err := c.v.Flatten(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	w.forced(c.v)
	w.forced(c.v)
	if got := w.used() - before; got < 60*16 || got > 60*16+40 {
		t.Errorf("it took %d pages", got)
	}
	c.compare("flattened")
}

func (w *snapshotWorld) used() uint64 {
	w.t.Helper()
	i, err := w.pool.Info()
	if err != nil {
		w.t.Fatal(err)
	}
	return i.Space.Root
}

// TestWhatCannotBeFlattened: it says why, and what to do.
func TestWhatCannotBeFlattened(t *testing.T) {
	w := newSnapshotWorld(t, 1)
	w.put(0, 64)
	w.take("s0")
	if err := w.v.Flatten(context.Background(), nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("a volume that is no clone: %v", err)
	}
	c := w.cloneOf(0, "c0")
	c.take("c1")
	g := c.cloneOf(0, "grandchild")
	if err := c.v.Flatten(context.Background(), nil); !errors.Is(err, ErrSnapshotInUse) || !strings.Contains(err.Error(), "grandchild") {
		t.Errorf("a clone with a clone: %v", err)
	}
	if err := g.v.Flatten(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	if err := c.v.Flatten(context.Background(), nil); err != nil {
		t.Errorf("and without: %v", err)
	}
	g.compare("the grandchild")
	c.compare("the clone")
	w.drop(0)
	w.cleared()
	w.compare("the parent")
	g.compare("the grandchild on its own")
}

// TestAPoolThatIsTooFullToFlatten refuses before anything is copied, and says what is lacking.
func TestAPoolThatIsTooFullToFlatten(t *testing.T) {
	w, c := withSnapshots(t, 1, 64<<20)
	filler := w.volume("filler", 1<<30)
	w.fill(filler)
	before := w.used()
	err := c.v.Flatten(context.Background(), nil)
	if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "are lacking; nothing was copied") {
		t.Fatalf("in a full pool: %v", err)
	}
	if got := w.used(); got > before+16 {
		t.Errorf("%d pages are in use, and %d were", got, before)
	}
	c.compare("refused")
	if err := w.pool.DeleteVolume(context.Background(), filler, nil); err != nil {
		t.Fatal(err)
	}
	w.forced(w.v)
	w.forced(w.v)
	if err := c.v.Flatten(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	c.compare("flattened")
	w.apart(c)
}

// TestPowerCutsInsideFlattening: at any write, whatever the disk keeps. All snapshots are what they were, the pool is whole, and flattening goes on.
func TestPowerCutsInsideFlattening(t *testing.T) {
	sim.Each(t, 4, nil, func(t *testing.T, seed uint64) {
		w, c := withSnapshots(t, seed, 160<<20)
		var images []*sim.Image
		medium := bdevsim.DiskOf(w.disk).Medium()
		medium.Watch(func(sim.Point) {
			if w.r.Uint32N(12) == 0 {
				images = append(images, medium.Snapshot())
			}
		})
		if err := c.v.Flatten(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		medium.Watch(nil)
		if len(images) == 0 {
			t.Fatal("nothing was written")
		}
		for n := range uint64(sim.Rounds(6)) {
			for crashed := range images[w.r.IntN(len(images))].Images(1, seed+n) {
				w.goesOn(c, crashed, seed+n+1<<32)
			}
		}
	})
}

// goesOn opens an image and flattens to the end.
func (w *snapshotWorld) goesOn(c *snapshotWorld, image *sim.Image, seed uint64) {
	w.t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	o := &snapshotWorld{house: &house{t: w.t, w: bdevsim.NewWorld(w.t, seed, 2)}, r: r, seq: 1 << 50, head: slices.Clone(w.head), old: slices.Clone(w.old)}
	o.reopen(image, o.config())
	o.found("v0")
	n := &snapshotWorld{house: o.house, r: r, seq: 1 << 51, head: slices.Clone(c.head), old: slices.Clone(c.old)}
	n.found("c0")
	n.compare("cut off")
	o.compare("the parent of what was cut off")
	if r.Uint32N(2) == 0 && n.v.Parent() != nil {
		o.partly(n)
	}
	if err := n.v.Flatten(context.Background(), nil); err != nil && !errors.Is(err, ErrInvalid) {
		w.t.Fatal(err)
	}
	n.compare("flattened in the end")
	o.apart(n)
}

// TestFlatteningUnderLoad: hosts write to the clone and read its snapshots, and to the parent, all the time, and a scrub finds nothing; what the
// parent gives up then is written to by others.
func TestFlatteningUnderLoad(t *testing.T) {
	sim.Each(t, 6, nil, func(t *testing.T, seed uint64) {
		w, c := withSnapshots(t, seed, 160<<20)
		all := []*chatter{c.chat(c.v.Device(), 0, 0, nil), w.chat(w.v.Device(), 1, 0, nil)}
		for i := range c.old {
			all = append(all, c.chat(c.v.openedSnapshots()[i].device, i%2, 0, &c.old[i]))
		}
		w.startScrub(c.v, 0)
		if err := c.v.Flatten(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		w.drop(0)
		w.w.RunFor(reactor.Second / 2)
		for _, x := range all {
			x.stop = true
		}
		for _, x := range all {
			w.w.Run("it ends", func() bool { return x.e })
			x.close()
		}
		if i := w.scrubbed(c.v); i.Errors != 0 || all[0].rounds < 20 {
			t.Fatalf("%d rounds, %+v", all[0].rounds, i.First)
		}
		w.cleared()
		c.compare("flattened under load")
		w.compare("the parent, under load")
		w.again()
		c.found("c0")
		c.compare("after a power cut")
		w.compare("the parent, after a power cut")
	})
}

// TestAWalkOutlivesACheckpoint: where a page of the map was given up and written to since the turn began, the next turn goes on, and tells nothing
// twice. Where nothing was committed meanwhile, the page is damaged.
func TestAWalkOutlivesACheckpoint(t *testing.T) {
	for _, commits := range []uint64{0, 1} {
		w := newSnapshotWorld(t, 1)
		for at := uint64(0); at < 800; at += 160 {
			w.put(at, 160)
		}
		w.forced(w.v)
		turns, clusters := 0, 0
		err := w.v.walkMap(context.Background(), 0, func() (a, b diffSide) {
			a, b = w.v.tree.side(), diffSide{mapOwner: mapOwner{shape: w.v.shape}}
			if turns++; turns == 1 {
				a.root.ref.CRC ^= 1
				w.v.counters.Checkpoints += commits // after the turn noted how many there were
			}
			return a, b
		}, true, 0, func(_ *mapDiff, s diffStep) {
			if s == diffCluster {
				clusters++
			}
		}, func(uint64) error { return nil })
		if want := uint64(turns - 1); want != commits || commits == 0 && !errors.Is(err, ErrCorrupt) || commits == 1 && (err != nil || clusters != 50) {
			t.Errorf("%d commits meanwhile: %d turns, %d clusters, %v", commits, turns, clusters, err)
		}
	}
}
