package volume

import (
	"errors"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/wal"
)

// twoLevels is a world in which clusters 0 to 29 were written and committed, and nothing is in memory.
func twoLevels(t *testing.T, readsMax int) *mapWorld {
	w := newMapWorld(t, 1, ClusterShiftMax, 1, 60+readsMax, readsMax, 50)
	for c := range uint64(30) {
		w.find(w.head, &w.image, c, true)
	}
	w.freeze(false)
	w.done(nil)
	w.crash()
	w.reads = 0
	return w
}

// leafPage gives the place of a leaf of a map of two levels.
func (w *mapWorld) leafPage(i int) Place { return RefAt(w.disk[w.head.committed.ref.Place], i).Place }

func TestMapPageThatIsNotWhatItShouldBe(t *testing.T) {
	reseal := func(w *mapWorld, page []byte, change func(h *Header)) {
		h := Header{Kind: KindLeaf, Pool: worldPool, Volume: 1, Index: 2, Stamp: Stamp(w.lsn)}
		change(&h)
		var crc uint32
		if h.Kind == KindLeaf {
			crc = w.shape.SealLeaf(page, h)
		} else {
			crc = SealRefs(page, h)
		}
		root := w.disk[w.head.committed.ref.Place] // the ref to it is right, so only the header can tell
		SetRef(root, 2, Ref{w.leafPage(2), crc})
		w.head.root.ref.CRC = SealRefs(root, Header{Kind: KindIndex, Level: 1, Pool: worldPool, Volume: 1, Stamp: Stamp(w.lsn)})
	}
	for _, c := range []struct {
		name  string
		says  string
		spoil func(w *mapWorld, page []byte)
	}{
		{"a flipped bit", "its bytes have", func(w *mapWorld, p []byte) { p[100] ^= 4 }},
		{"zeros", "which no page of a pool does", func(w *mapWorld, p []byte) { clear(p) }},
		{"a write that was lost", "a write to it was lost", func(w *mapWorld, p []byte) {
			w.shape.SealLeaf(p, Header{Pool: worldPool, Volume: 1, Index: 2, Stamp: 1})
		}},
		{"another leaf", "has the index 3", func(w *mapWorld, p []byte) { reseal(w, p, func(h *Header) { h.Index = 3 }) }},
		{"another volume's", "belongs to volume 2", func(w *mapWorld, p []byte) { reseal(w, p, func(h *Header) { h.Volume = 2 }) }},
		{"another pool's", "belongs to pool", func(w *mapWorld, p []byte) { reseal(w, p, func(h *Header) { h.Pool = uuid.Nil }) }},
		{"an index page", "of another kind", func(w *mapWorld, p []byte) {
			reseal(w, p, func(h *Header) { clear(p); h.Kind = KindIndex })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := twoLevels(t, 2)
			w.fault = func(*pageRead) bdev.Status { return bdev.StatusOK }
			c.spoil(w, w.disk[w.leafPage(2)])
			finds := []*worldFind{w.find(w.head, &w.image, 6, false), w.find(w.head, &w.image, 7, false), w.find(w.head, &w.image, 8, true)}
			for w.readOne() {
			}
			for _, f := range finds {
				if !f.ended || f.status != bdev.StatusCorrupt {
					t.Fatalf("ended: %v, %v", f.ended, f.status)
				}
				if err := f.wait.page.fault; !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("fault %v, want one that says %q", err, c.says)
				}
			}
			if w.c.stats.faults == 0 {
				t.Error("no fault was counted")
			}
			w.c.verify(t)
			if f := w.find(w.head, &w.image, 0, false); !w.readOne() || f.status != bdev.StatusOK || !f.ended {
				t.Error("the leaf beside it cannot be read")
			}
		})
	}
}

// What lies past the end of the pool's device is no place, until the device has grown.
func TestMapPlacePastTheEndOfThePool(t *testing.T) {
	w := twoLevels(t, 2)
	w.c.growSource(w.source, uint64(w.top)+1) // the clusters are far above
	w.fault = func(*pageRead) bdev.Status { return bdev.StatusOK }
	f := w.find(w.head, &w.image, 6, false)
	index, leaf := w.readOne(), w.readOne()
	if !index || !leaf || f.status != bdev.StatusCorrupt {
		t.Errorf("a place past the end: %v", f.status)
	}
	w.c.growSource(w.source, worldPages)
	if f := w.find(w.head, &w.image, 6, false); !w.readOne() || f.status != bdev.StatusOK {
		t.Errorf("after growing: %v", f.status)
	}
}

func TestMapReadThatFails(t *testing.T) {
	w := twoLevels(t, 2)
	bad := w.leafPage(1)
	w.fault = func(r *pageRead) bdev.Status {
		if r.place == bad {
			return bdev.StatusIO
		}
		return bdev.StatusOK
	}
	finds := []*worldFind{w.find(w.head, &w.image, 3, false), w.find(w.head, &w.image, 4, true), w.find(w.head, &w.image, 0, false)}
	for w.readOne() {
	}
	for i, want := range []bdev.Status{bdev.StatusIO, bdev.StatusIO, bdev.StatusOK} {
		if finds[i].status != want || !finds[i].ended {
			t.Errorf("find %d: %v, want %v", i, finds[i].status, want)
		}
	}
	w.fault = nil
	again := w.find(w.head, &w.image, 3, false)
	w.readAll()
	if again.status != bdev.StatusOK {
		t.Errorf("after the fault: %v", again.status)
	}
	w.lsn++
	w.freeze(false)
	w.done(nil) // the change that failed left nothing that cannot be committed
	w.c.verify(t)
}

func TestMapMissesOfOnePageAreOneRead(t *testing.T) {
	w := twoLevels(t, 4)
	for c := range uint64(3) {
		w.find(w.head, &w.image, c, c == 1)
	}
	w.readAll()
	if w.reads != 2 {
		t.Errorf("%d reads of two pages", w.reads)
	}
}

// With one slot all who look for pages take turns, and each comes to its end.
func TestMapWaitersTakeTurns(t *testing.T) {
	w := twoLevels(t, 1)
	var finds []*worldFind
	for c := range uint64(30) {
		finds = append(finds, w.find(w.head, &w.image, (c*7)%30, false))
		if len(w.pending) != 1 {
			t.Fatalf("%d reads in flight", len(w.pending))
		}
	}
	w.readAll()
	for i, f := range finds {
		if !f.ended {
			t.Errorf("find %d waits for ever", i)
		}
	}
	if w.reads != 11 {
		t.Errorf("%d reads of eleven pages", w.reads)
	}
}

// retrier looks for a cluster again when it could not be read.
type retrier struct {
	w    *mapWorld
	wait mapWaiter
	n    int
	last bdev.Status
}

func (r *retrier) mapFound(w *mapWaiter, e Entry, s bdev.Status) {
	if r.last = s; s != bdev.StatusOK {
		r.n++
		_, r.last, _ = r.w.head.find(w.cluster, w)
	}
}

func TestMapFindAgainInsideAFailure(t *testing.T) {
	w := twoLevels(t, 1)
	failures := 3
	w.fault = func(r *pageRead) bdev.Status {
		if failures--; failures >= 0 {
			return bdev.StatusIO
		}
		return bdev.StatusOK
	}
	r := &retrier{w: w}
	r.wait.init(r)
	w.head.find(5, &r.wait)
	for w.readOne() {
	}
	if r.n != 3 || r.last != bdev.StatusOK || w.head.waiting != 0 {
		t.Errorf("%d failures, then %v; %d wait", r.n, r.last, w.head.waiting)
	}
	w.c.verify(t)
}

// A place was freed and got another page while a cache on another reactor held the old one.
func TestMapPlaceThatGotAnotherPage(t *testing.T) {
	w := newMapWorld(t, 1, ClusterShiftMax, 0, 40, 2, 30)
	commit := func() mapRoot {
		w.find(w.head, &w.image, 1, true)
		w.readAll()
		w.freeze(false)
		w.done(nil)
		return w.head.committed
	}
	first := commit()
	other := newPageCache(w.cfg.copied())
	source := other.addSource(w, worldPool, worldPages)
	look := func(root mapRoot) *worldFind {
		tree := newMapTree(other, mapOwner{source: source, volume: 1, shape: w.shape}, root, true)
		f := w.find(tree, &w.image, 1, false)
		for len(w.pending) > 0 {
			r := w.pending[0]
			w.pending = w.pending[1:]
			copy(r.data, w.disk[r.place])
			other.readDone(r, bdev.StatusOK)
		}
		return f
	}
	look(first)
	commit()
	if second := commit(); second.ref.Place != first.ref.Place {
		t.Fatal("the place was not used again")
	} else if f := look(second); !f.ended || f.status != bdev.StatusOK {
		t.Fatalf("the new page: %v, %v", f.status, f.wait.page.fault)
	}
}

func (c pageCacheConfig) copied() pageCacheConfig {
	c.memory = slices.Clone(c.memory)
	return c
}

func TestMapOfAClone(t *testing.T) {
	w := newMapWorld(t, 1, ClusterShiftMax, 1, 120, 2, 100)
	for c := range uint64(9) {
		w.find(w.head, &w.image, c, true)
	}
	w.freeze(true)
	w.done(nil)
	s := w.snapshots[0]
	owner := w.owner(2)
	owner.sharedTo = StampLSN(s.lsn)
	clone, image := newMapTree(w.c, owner, s.root, false), worldImage{}
	clone.sharing.newest = owner.sharedTo
	for c, e := range s.image {
		image[c] = e
	}
	w.find(clone, &image, 4, true)
	w.find(clone, &image, 3, false)
	clone.freeze(w.lsn)
	clone.seal([]Place{900, 901})
	for f, place, data := clone.nextSealed(noFrame); f != noFrame; f, place, data = clone.nextSealed(f) {
		if p, ok := clone.replaced(f); ok {
			t.Errorf("the clone frees place %d of its parent", p)
		}
		w.disk[place] = slices.Clone(data)
	}
	clone.commitDone()
	for c := range uint64(9) {
		w.find(clone, &image, c, false)
		w.find(s.tree, &s.image, c, false)
		w.find(w.head, &w.image, c, false)
	}
	w.readAll()

	// Without the LSN at which it branched off, the parent's pages are not its own.
	owner.sharedTo--
	w.fault = func(*pageRead) bdev.Status { return bdev.StatusOK }
	stranger := newMapTree(w.c, owner, clone.committed, true)
	if f := w.find(stranger, &image, 8, false); !f.ended || f.status != bdev.StatusCorrupt {
		t.Errorf("in memory: %v, %v", f.ended, f.status)
	}
	w.c.dropSource(w.source)
	w.source = w.c.addSource(w, worldPool, worldPages)
	owner.source = w.source
	stranger = newMapTree(w.c, owner, clone.committed, true)
	f := w.find(stranger, &image, 8, false)
	for w.readOne() {
	}
	if !f.ended || f.status != bdev.StatusCorrupt {
		t.Errorf("read: %v, %v", f.ended, f.status)
	}
}

func TestMapChangesStopAtTheLimit(t *testing.T) {
	w := newMapWorld(t, 1, ClusterShiftMax, 2, 30+4, 2, 30)
	changed := 0
	for ; w.head.room(); changed++ {
		w.find(w.head, &w.image, uint64(changed)*1000, true)
	}
	if changed == 0 || w.c.dirty+changePages <= w.c.max {
		t.Fatalf("no room after %d changes and %d dirty pages of %d", changed, w.c.dirty, w.c.max)
	}
	w.freeze(false)
	if w.head.room() {
		t.Error("room before the commit ended")
	}
	w.done(nil)
	if !w.head.room() || w.head.dirtyN != 0 || w.c.dirty != 0 {
		t.Error("no room after the commit")
	}
	w.find(w.head, &w.image, 5, true)
	w.head.close()
	if w.c.dirty != 0 || w.head.root != w.head.committed {
		t.Error("a closed map left dirty pages")
	}
	w.c.verify(t)
}

func TestMapIsHighEnoughForAnyVolume(t *testing.T) {
	for shift := uint32(ClusterShiftMin); shift <= ClusterShiftMax; shift++ {
		s := ShapeOf(shift)
		clusters := s.Clusters(1 << 63)
		levels := s.Levels(clusters)
		if levels > mapLevels {
			t.Errorf("clusters of 2^%d pages: %d levels", shift, levels)
		}
		tree := mapTree{mapOwner: mapOwner{shape: s}, root: mapRoot{levels: uint8(levels)}}
		if tree.clusters() < clusters {
			t.Errorf("clusters of 2^%d pages: room for %d of %d", shift, tree.clusters(), clusters)
		}
	}
}

func TestMapEntryOfNothingIsNotWrittenTo(t *testing.T) {
	w := newMapWorld(t, 1, ClusterShiftMax, 1, 40, 2, 30)
	f := &worldFind{w: w}
	f.wait.init(f)
	e, _, _ := w.head.find(3, &f.wait)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() == nil {
			t.Error("the entry of a cluster that was never written took a change")
		}
	}()
	e.SetChange(1)
}

// A change looks for its leaf while commits come and go: the pages above are frozen, and then clean and taken for others.
func TestMapChangeOutlivesCommits(t *testing.T) {
	w := newMapWorld(t, 1, ClusterShiftMax, 2, 36, 2, 32)
	for c := range uint64(3) {
		w.find(w.head, &w.image, c*200_000/3, true)
		w.freeze(false)
		w.done(nil)
	}
	w.crash()
	f := w.find(w.head, &w.image, 66_666, true)
	w.readOne()
	w.readOne() // root and index page are there, and dirty
	if f.ended || w.head.dirtyN != 2 || len(w.pending) != 1 {
		t.Fatalf("ended: %v; %d dirty", f.ended, w.head.dirtyN)
	}
	for range 2 {
		w.lsn++
		w.freeze(true)
		w.done(nil)
		for w.c.evict.n > 0 { // all that can be taken is
			w.c.forget(w.source, w.c.frames[w.c.evict.first].ref.Place)
		}
	}
	w.readAll()
	if !f.ended || w.c.promised != 0 {
		t.Fatalf("ended: %v; %d promised", f.ended, w.c.promised)
	}
	w.lsn++
	w.freeze(false)
	w.done(nil)
	for _, s := range w.snapshots {
		for c := range s.image {
			w.find(s.tree, &s.image, c, false)
		}
	}
	w.readAll()
}

func TestMapAllocatesNothing(t *testing.T) {
	const clusters = 200
	w := newMapWorld(t, 1, ClusterShiftMax, 2, 90+4, 2, 90)
	p := &echo{disk: map[Place][]byte{}}
	p.c = newPageCache(w.cfg.copied())
	tree := newMapTree(p.c, mapOwner{source: p.c.addSource(p, worldPool, worldPages), volume: 1, shape: w.shape}, mapRoot{levels: 2}, false)
	p.wait.init(p)
	places := make([]Place, 4)
	for i := range places {
		places[i] = Place(1000 + i)
	}
	p.walk = newMapDiff(p.c, p)
	lsn := wal.LSN(0)
	next := Place(1)
	commit := func() {
		lsn++
		tree.freeze(lsn)
		for tree.frozenN > 0 {
			for i := range places {
				places[i] = next
				next++
			}
			tree.seal(places)
		}
		for f, place, data := tree.nextSealed(noFrame); f != noFrame; f, place, data = tree.nextSealed(f) {
			p.write(place, data)
			tree.replaced(f)
		}
		tree.commitDone()
		if next > 3000 {
			next = 1
		}
	}
	for i := Place(1); i < 4000; i++ {
		p.disk[i] = make([]byte, PageBytes)
	}
	n := uint64(0)
	before := tree.side()
	if got := testing.AllocsPerRun(20, func() {
		before = tree.side()
		for range clusters {
			n++
			c := n * 7919 % 600
			if tree.room() {
				if e, _, now := tree.change(c, &p.wait); now {
					e.SetChange(lsn)
				}
				p.end()
			} else {
				commit()
			}
			tree.find(c, &p.wait)
			p.end()
		}
		commit()
		p.walk.start(tree.side(), before, false, 0, 0)
		for s := p.walk.next(); s != diffEnd; s = p.walk.next() {
			if s == diffFailed {
				t.Fatal(p.walk.fault)
			}
			p.end()
		}
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
	if p.c.stats.evictions == 0 || p.reads == 0 {
		t.Error("all was in memory")
	}
}

// echo is a device that answers at once when it is asked to, and one who looks for entries in it.
type echo struct {
	c       *pageCache
	wait    mapWaiter
	walk    *mapDiff
	disk    map[Place][]byte
	pending [4]*pageRead
	n       int
	reads   int
}

func (p *echo) readPage(r *pageRead) {
	p.pending[p.n] = r
	p.n++
	p.reads++
}

func (p *echo) end() {
	for p.n > 0 {
		p.n--
		r := p.pending[p.n]
		copy(r.data, p.disk[r.place])
		p.c.readDone(r, bdev.StatusOK)
	}
}

func (p *echo) write(place Place, data []byte) { copy(p.disk[place], data) }

func (p *echo) mapFound(w *mapWaiter, e Entry, s bdev.Status) {
	if s != bdev.StatusOK {
		panic(w.page.fault)
	}
	if w.changes {
		e.SetChange(1)
	}
}

func (p *echo) diffReady(*mapDiff) {}

func BenchmarkMapFind(b *testing.B) {
	w := newMapWorld(b, 1, ClusterShiftMin, 2, 2000, 2, 1900) // 1,600 leaves in memory
	for c := uint64(0); c < 67_000; c += 42 {
		w.find(w.head, &w.image, c, true)
	}
	w.freeze(false)
	w.done(nil)
	f := &worldFind{w: w}
	f.wait.init(f)
	b.ResetTimer()
	for n := range b.N {
		if _, _, now := w.head.find(uint64(n)*7919%67_000, &f.wait); !now {
			b.Fatal("not in memory")
		}
	}
}

// The head and a snapshot wait for the same pages, and the head changes them as they come: the snapshot does not see it.
func TestMapSharedPageChangedByTheFirstWaiter(t *testing.T) {
	w := newMapWorld(t, 1, ClusterShiftMax, 1, 40, 2, 30)
	w.find(w.head, &w.image, 0, true)
	w.freeze(true)
	w.done(nil)
	w.crash()
	s := w.snapshots[0]
	w.find(w.head, &w.image, 0, true)
	snapshot := w.find(s.tree, &s.image, 0, false)
	w.readAll()
	if !snapshot.ended || w.reads < 2 {
		t.Fatal("the snapshot's entry was not read")
	}
	w.c.verify(t)
}

// A change claims its pages, and is still looking for its leaf when a commit is made at the LSN of the newest snapshot. Those pages
// are the head's alone, and their places come back when they are replaced.
func TestMapPagesClaimedAtTheLSNOfASnapshot(t *testing.T) {
	w := newMapWorld(t, 1, ClusterShiftMax, 1, 40, 2, 30)
	w.find(w.head, &w.image, 0, true)
	w.freeze(true)
	w.done(nil)
	w.crash()
	f := w.find(w.head, &w.image, 0, true)
	w.readOne()
	if f.ended || w.head.dirtyN != 1 {
		t.Fatal("the root is not claimed alone")
	}
	w.freeze(false)
	w.done(nil)
	w.readAll()
	w.freeze(false)
	w.done(nil) // looks for places to which nothing refers
}
