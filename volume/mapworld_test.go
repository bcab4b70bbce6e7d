package volume

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/wal"
)

// This file is the world of a map in tests: a device of pages, an allocator that reuses at once what it gets back, reads that end when the
// test says so, and maps in Go beside the trees.

// failer is what of *testing.T and *rapid.T the world needs.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

const worldPages = 1 << 40

var worldPool = uuid.MustParse("6b1f6d3c-3c0e-4c53-9d8e-5a2f6d0f0a01")

// worldImage is the content of a map: entries by cluster; those that were never written are not in it.
type worldImage map[uint64][]byte

type worldSnapshot struct {
	lsn   wal.LSN
	root  mapRoot
	image worldImage
	tree  *mapTree
}

type mapWorld struct {
	t     failer
	log   []string // what happened, for a failure
	rng   *rand.Rand
	shape Shape
	cfg   pageCacheConfig

	disk    map[Place][]byte // pages that are in use
	granted map[Place]bool   // given to seal, and not yet committed
	free    []Place
	top     Place

	c         *pageCache
	source    int16
	pending   []*pageRead
	reads     int
	finds     int // under way
	fault     func(r *pageRead) bdev.Status
	head      *mapTree
	image     worldImage
	lsn       wal.LSN
	snapshots []*worldSnapshot

	committed   worldImage // what the last commit has
	frozen      worldImage // what the commit under way has
	frozenLSN   wal.LSN
	thenSharing mapSharing // to go back to if it fails
	committedBy mapSharing // of the last commit: found again after a crash
	snapshotNow bool       // the commit under way is one
	deleting    *worldDelete
}

type worldDelete struct {
	s      *worldSnapshot
	cursor uint64
}

func newMapWorld(t failer, seed uint64, shift uint32, levels uint8, frames, readsMax, dirtyMax int) *mapWorld {
	w := &mapWorld{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), shape: ShapeOf(shift),
		cfg:  pageCacheConfig{memory: make([]byte, frames*PageBytes), readsMax: readsMax, dirtyMax: dirtyMax},
		disk: map[Place][]byte{}, granted: map[Place]bool{}, top: 100,
		image: worldImage{}, committed: worldImage{},
	}
	w.open(mapRoot{levels: levels})
	return w
}

// open begins with an empty cache.
func (w *mapWorld) open(root mapRoot) {
	w.c = newPageCache(w.cfg)
	w.source = w.c.addSource(w, worldPool, worldPages)
	w.pending, w.finds = nil, 0
	w.head = newMapTree(w.c, w.owner(1), root, false)
	w.head.sharing = w.committedBy
	for _, s := range w.snapshots {
		s.tree = newMapTree(w.c, w.owner(1), s.root, true)
	}
}

func (w *mapWorld) note(f string, a ...any) { w.log = append(w.log, fmt.Sprintf(f, a...)) }

func (w *mapWorld) owner(v VolumeNumber) mapOwner {
	return mapOwner{source: w.source, volume: v, shape: w.shape}
}

func (w *mapWorld) readPage(r *pageRead) {
	w.pending = append(w.pending, r)
	w.reads++
}

// readOne ends one of the reads in flight.
func (w *mapWorld) readOne() bool {
	if len(w.pending) == 0 {
		return false
	}
	i := w.rng.IntN(len(w.pending))
	r := w.pending[i]
	w.pending = slices.Delete(w.pending, i, i+1)
	s := bdev.StatusOK
	if w.fault != nil {
		s = w.fault(r)
	}
	if page, ok := w.disk[r.place]; ok {
		copy(r.data, page)
	} else if w.fault == nil {
		w.t.Fatalf("place %d is read, and nothing refers to it", r.place)
	}
	w.c.readDone(r, s)
	return true
}

func (w *mapWorld) readAll() {
	for w.readOne() {
	}
	if w.finds != 0 || w.c.hungry.head != nil {
		w.t.Fatalf("%d wait with no read in flight", w.finds)
	}
}

// worldFind is one find, and what follows it.
type worldFind struct {
	w      *mapWorld
	wait   mapWaiter
	tree   *mapTree
	image  *worldImage
	change bool
	ended  bool
	status bdev.Status
}

func (w *mapWorld) find(tree *mapTree, image *worldImage, cluster uint64, change bool) *worldFind {
	f := &worldFind{w: w, tree: tree, image: image, change: change}
	f.wait.init(f)
	w.finds++
	look := tree.find
	if f.change = change && tree.room(); f.change {
		look = tree.change
	}
	if e, s, now := look(cluster, &f.wait); now {
		f.end(cluster, e, s)
	}
	return f
}

func (f *worldFind) mapFound(w *mapWaiter, e Entry, s bdev.Status) { f.end(w.cluster, e, s) }

func (f *worldFind) end(cluster uint64, e Entry, s bdev.Status) {
	w := f.w
	w.finds--
	f.ended, f.status = true, s
	if s != bdev.StatusOK {
		if w.fault == nil {
			w.t.Fatalf("cluster %d: %v (%v)", cluster, s, f.wait.page.fault)
		}
		return
	}
	if got, want := raw(e), w.want(*f.image, cluster); !bytes.Equal(got, want) {
		w.t.Fatalf("cluster %d: % x, want % x", cluster, got[:24], want[:24])
	}
	if f.change {
		w.mutate(e, *f.image, cluster)
	}
}

// raw is an entry's bytes.
func raw(e Entry) []byte { return append(slices.Clone(e.b), e.crcs...) }

func (w *mapWorld) want(image worldImage, cluster uint64) []byte {
	if b, ok := image[cluster]; ok {
		return b
	}
	return make([]byte, w.shape.entryBytes)
}

// mutate changes an entry.
func (w *mapWorld) mutate(e Entry, image worldImage, cluster uint64) {
	w.lsn++
	if w.rng.IntN(4) == 0 {
		e.Trim(w.lsn)
	} else {
		e.SetPlace(Place(1+w.rng.Uint64N(1<<20))<<w.shape.shift, w.lsn)
		e.SetChange(w.lsn)
		for range 3 {
			e.SetBlock(w.rng.IntN(w.shape.Blocks()), w.rng.Uint32())
			e.ClearBlock(w.rng.IntN(w.shape.Blocks()))
		}
	}
	image[cluster] = raw(e)
}

func (w *mapWorld) allocate() Place {
	if n := len(w.free); n > 0 {
		p := w.free[n-1]
		w.free = w.free[:n-1]
		w.granted[p] = true
		return p
	}
	w.top++
	w.granted[w.top] = true
	return w.top
}

func (w *mapWorld) release(p Place) {
	w.t.Helper()
	if _, ok := w.disk[p]; !ok {
		w.t.Fatalf("place %d is freed, and not in use", p)
	}
	delete(w.disk, p)
	w.free = append(w.free, p)
}

// freeze begins a commit, which may be a snapshot.
func (w *mapWorld) freeze(snapshot bool) {
	w.thenSharing = w.head.sharing
	w.head.freeze(w.lsn)
	w.frozenLSN = w.lsn
	w.frozen = maps.Clone(w.image)
	if w.snapshotNow = snapshot; snapshot {
		w.head.sharing = mapSharing{newest: StampLSN(w.lsn)}
	}
}

// seal gives n pages their places.
func (w *mapWorld) seal(n int) {
	n = min(n, w.head.frozenN)
	places := make([]Place, n)
	for i := range places {
		places[i] = w.allocate()
	}
	if used := w.head.seal(places); used != n {
		w.t.Fatalf("%d places used of %d for %d pages", used, n, n)
	}
}

// done ends a commit; freed is what goes with it.
func (w *mapWorld) done(freed []Place) {
	w.t.Helper()
	w.seal(w.head.frozenN)
	for f, place, data := w.head.nextSealed(noFrame); f != noFrame; f, place, data = w.head.nextSealed(f) {
		if !w.granted[place] {
			w.t.Fatalf("place %d is written, and was not granted", place)
		}
		delete(w.granted, place)
		w.disk[place] = slices.Clone(data)
		fr := &w.c.frames[f]
		w.note("place %d: level %d, index %d, LSN %d, was %d of %d", place, fr.level, fr.index, fr.stamp, fr.was.Place, fr.wasStamp)
		if p, ok := w.head.replaced(f); ok {
			freed = append(freed, p)
		}
	}
	if len(w.granted) > 0 {
		w.t.Fatalf("%d places were granted and not written", len(w.granted))
	}
	w.note("committed; %+v; frees %v", w.head.sharedThen, freed)
	w.head.commitDone()
	for _, p := range freed {
		w.release(p)
	}
	w.committed, w.committedBy = w.frozen, w.head.sharing
	if w.snapshotNow {
		s := &worldSnapshot{lsn: w.frozenLSN, root: w.head.committed, image: w.frozen}
		s.tree = newMapTree(w.c, w.owner(1), s.root, true)
		w.snapshots = append(w.snapshots, s)
		w.note("snapshot %d", s.lsn)
	}
	w.check()
}

// unseal takes them away again.
func (w *mapWorld) unseal() {
	w.note("unsealed")
	for f, place, _ := w.head.nextSealed(noFrame); f != noFrame; f, place, _ = w.head.nextSealed(f) {
		delete(w.granted, place)
		w.free = append(w.free, place)
	}
	w.head.unseal()
}

func (w *mapWorld) failed() {
	for f, place, _ := w.head.nextSealed(noFrame); f != noFrame; f, place, _ = w.head.nextSealed(f) {
		delete(w.granted, place)
		w.free = append(w.free, place)
	}
	w.head.commitFailed()
	w.note("failed")
	w.head.sharing = w.thenSharing
}

// crash loses all that was not committed.
func (w *mapWorld) crash() {
	root := w.head.committed
	w.note("crash")
	w.free = slices.AppendSeq(w.free, maps.Keys(w.granted))
	slices.Sort(w.free)
	clear(w.granted)
	w.image = maps.Clone(w.committed)
	w.open(root)
}

// check compares the places in use with those that the roots lead to.
func (w *mapWorld) check() {
	w.t.Helper()
	reached, partly := map[Place]bool{}, map[Place]bool{}
	w.reach(reached, w.head.committed, true)
	for _, s := range w.snapshots {
		if w.deleting == nil || w.deleting.s != s {
			w.reach(reached, s.root, true)
		} else {
			w.reach(partly, s.root, false) // what the deletion has not come to is still in use
		}
	}
	for p := range w.disk {
		if !reached[p] && !partly[p] {
			w.t.Fatalf("place %d is in use, and nothing refers to it\n%s", p, strings.Join(w.log, "\n"))
		}
	}
}

// reach notes the pages below a root; if it is whole, none may be missing.
func (w *mapWorld) reach(in map[Place]bool, root mapRoot, whole bool) {
	w.t.Helper()
	page := w.disk[root.ref.Place]
	switch {
	case root.ref.IsZero() || in[root.ref.Place]:
		return
	case page == nil || le.Uint32(page[4:]) != root.ref.CRC:
		if whole {
			w.t.Fatalf("place %d is referred to, and free or another page's", root.ref.Place)
		}
		return
	}
	in[root.ref.Place] = true
	for i := 0; i < RefsMax && root.levels > 0; i++ {
		w.reach(in, mapRoot{RefAt(page, i), root.levels - 1}, whole)
	}
}

// deleteStep walks on in the snapshot that is being deleted, and commits, or fails to.
func (w *mapWorld) deleteStep(fails bool, leaves int) {
	d := w.deleting
	i := slices.Index(w.snapshots, d.s)
	var older wal.LSN
	if i > 0 {
		older = w.snapshots[i-1].lsn
	}
	b, bImage := diffSide{w.owner(1), w.head.committed}, w.committed
	if i+1 < len(w.snapshots) {
		b.root, bImage = w.snapshots[i+1].root, w.snapshots[i+1].image
	}
	var freed []Place
	walk := w.walk(diffSide{w.owner(1), d.s.root}, b, true, older, d.cursor)
	for more := 0; more < leaves && walk.last != diffEnd; {
		switch walk.step() {
		case diffPage:
			freed = append(freed, walk.d.page.place)
		case diffCluster:
			walk.compare(d.s.image, bImage)
		case diffMore:
			more++
		}
	}
	w.note("delete snapshot %d after %d: from %d to %d, %v; fails: %v; %v", d.s.lsn, older, d.cursor, walk.d.cursor, walk.last, fails, freed)
	cursor, newest := d.cursor, i+1 == len(w.snapshots)
	sharing := w.head.sharing
	d.cursor = walk.d.cursor
	snapshots := w.snapshots
	if walk.last == diffEnd {
		w.snapshots, w.deleting = slices.Delete(slices.Clone(snapshots), i, i+1), nil
		if newest {
			w.head.sharing = mapSharing{newest: StampLSN(older)}
		}
	} else if newest {
		w.head.sharing = mapSharing{newest: StampLSN(d.s.lsn), older: StampLSN(older), cursor: d.cursor}
	}
	w.freeze(false)
	if fails {
		w.seal(w.rng.IntN(w.head.frozenN + 1))
		w.failed()
		w.head.sharing, w.snapshots, w.deleting, d.cursor = sharing, snapshots, d, cursor
		return
	}
	w.done(freed)
}

// worldWalk is a walk over two maps.
type worldWalk struct {
	w    *mapWorld
	d    *mapDiff
	last diffStep
}

func (w *mapWorld) walk(a, b diffSide, onlyA bool, floor wal.LSN, cluster uint64) *worldWalk {
	k := &worldWalk{w: w}
	k.d = newMapDiff(w.c, k)
	k.d.start(a, b, onlyA, floor, cluster)
	return k
}

func (k *worldWalk) diffReady(*mapDiff) { k.last = diffMore }

// step goes on until there is something else than reads.
func (k *worldWalk) step() diffStep {
	k.last = k.d.next()
	for k.last == diffWait {
		if !k.w.readOne() {
			k.w.t.Fatalf("a walk waits, and nothing is being read")
		}
		if k.last == diffMore {
			k.last = k.d.next()
		}
	}
	if k.last == diffFailed && k.w.fault == nil {
		k.w.t.Fatalf("a walk failed: %v, %v", k.d.status, k.d.fault)
	}
	return k.last
}

func (k *worldWalk) compare(a, b worldImage) {
	if !bytes.Equal(raw(k.d.a), k.w.want(a, k.d.cluster)) || !bytes.Equal(raw(k.d.b), k.w.want(b, k.d.cluster)) {
		k.w.t.Fatalf("cluster %d is not reported as it is", k.d.cluster)
	}
}
