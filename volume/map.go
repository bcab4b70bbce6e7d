package volume

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pollux-storage/pollux/bdev"
	"github.com/pollux-storage/pollux/internal/invariant"
)

// This file is the map of a volume: a radix tree from cluster to entry, whose pages are in the cache as far as they are needed.
//
//	level 2            root, 252 refs                    the height follows from the size of the volume
//	level 1      index pages, 252 refs each
//	level 0   leaves, 42 to 3 entries each
//
// A zero ref is a subtree in which nothing was ever written: it has no pages and costs nothing.
//
// To change an entry makes its leaf and all pages above it dirty, in place if they were clean: the old page stays in its place on the
// device, where the last root finds it. The refs from dirty pages to dirty pages are numbers of frames. mapcommit.go is how they get
// places. The map of a snapshot is another tree over the same cache, which is only read.

// mapLevels is how many levels of index pages there can be: enough for 2^63 bytes in clusters of 64 KiB.
const mapLevels = 6

// pageNumbers are the numbers of the pages on the way to a leaf, by level.
type pageNumbers [mapLevels + 1]uint64

func (p *pageNumbers) of(leaf uint64) {
	for l := range p {
		p[l] = leaf
		leaf /= RefsMax
	}
}

// mapRoot is where a map begins: what a commit leaves behind, and a snapshot keeps.
type mapRoot struct {
	ref    Ref
	levels uint8
}

// mapOwner says whose pages are in a map.
type mapOwner struct {
	source   int16
	volume   VolumeNumber
	sharedTo Stamp // of a clone: the LSN at which it branched off; older pages are its parent's
	shape    Shape
}

// mapSharing decides which pages belong to the head alone, so that replacing one frees its place: those that were written after
// the newest snapshot, and after a clone branched off. While the newest snapshot is being deleted, those of clusters below the
// deletion's cursor belong to the head already if they were written after the snapshot before it.
type mapSharing struct {
	newest Stamp
	older  Stamp  // of the snapshot before the newest, while that is being deleted
	cursor uint64 // clusters below it were walked; 0 if nothing is being deleted
}

// mapTree is one map. It belongs to the reactor of its cache.
type mapTree struct {
	mapOwner
	c        *pageCache
	readOnly bool

	root      mapRoot // the newest; a frame if it is dirty
	committed mapRoot // what the last commit wrote
	sharing   mapSharing
	waiting   int // finds under way
	held      int // frames that are dirty, frozen or sealed
	promised  int // those that its changes under way may make dirty
	budget    int // of both; it is lent by the cache
	floor     int // the budget never falls below it
	dirty     [mapLevels + 1]frameList
	dirtyN    int
	mapCommit
}

// newMapTree opens a map at a root that was committed.
func newMapTree(c *pageCache, o mapOwner, root mapRoot, readOnly bool) *mapTree {
	_, dirty := root.ref.frame()
	invariant.Check(root.levels <= mapLevels && !dirty, "volume: a map opened at what no commit has left")
	t := &mapTree{mapOwner: o, c: c, root: root, committed: root, readOnly: readOnly}
	for l := range t.dirty {
		t.dirty[l], t.frozen[l], t.sealed[l] = noFrames, noFrames, noFrames
	}
	return t
}

// mapWaiter waits for an entry. It is part of its owner, and looks for one entry at a time.
type mapWaiter struct {
	page    pageWaiter
	tree    *mapTree
	cluster uint64
	changes bool
	done    mapFound
}

// mapFound hears of the entry that its waiter looked for, which is lent for the time of the call.
type mapFound interface {
	mapFound(w *mapWaiter, e Entry, s bdev.Status)
}

// init says who hears. It is called once.
func (w *mapWaiter) init(done mapFound) {
	w.done = done
	w.page.taker = w
}

// emptyLeaf is the leaf where there is none. All maps share it, so that a write to it must not go unseen: its memory takes none.
var emptyLeaf = readOnlyZeros()

func readOnlyZeros() []byte {
	b, err := unix.Mmap(-1, 0, PageBytes, unix.PROT_READ, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)
	if err != nil {
		panic(fmt.Sprintf("volume: mapping a page of zeros: %v", err))
	}
	return b
}

// find looks for the entry of a cluster, to read it. If all pages on the way are in memory, or one of them cannot be had, it gives the
// result now; else w hears. The entry is lent until the tree or the cache is used again.
func (t *mapTree) find(cluster uint64, w *mapWaiter) (e Entry, s bdev.Status, now bool) {
	return t.begin(cluster, w, false)
}

// changePages is how many pages can become dirty by one change while it waits: those on the way, and if a commit has frozen them by
// the time that the leaf comes, their copies.
const changePages = 2 * (mapLevels + 1)

// roomLeft is how many pages more may become dirty without asking for more.
func (t *mapTree) roomLeft() int { return t.budget - t.held - t.promised }

// widen lets up to n pages more become dirty, as many as the cache has to lend, and tells how many. They are given back by the end of the
// next commit.
func (t *mapTree) widen(n int) int {
	n = max(0, min(n, t.c.max-t.c.lent))
	t.budget += n
	t.c.lent += n
	return n
}

// yield gives back what was lent beyond the floor, and is not in use.
func (t *mapTree) yield() {
	over := t.budget - max(t.floor, t.held+t.promised)
	t.budget -= over
	t.c.lent -= over
}

// guarantee makes n the floor, for which the cache has room.
func (t *mapTree) guarantee(n int) {
	t.c.floors += n - t.floor
	t.floor = n
	t.widen(n - t.budget)
	invariant.Check(t.budget >= n || n == 0, "volume: a page cache without room for the floor of a map")
}

// recordClusters is how many clusters a record touches at most: of trims and zeroes, a part of one at each end.
const recordClusters = trimClustersMax + 2

// recordPages is how many pages one record makes dirty at most, however high the map becomes.
func (t *mapTree) recordPages() int { return (recordClusters-1)/t.shape.entries + 2 + 2*mapLevels }

// floorPages is the floor that a volume needs: for one record, and two homings that wait.
func (t *mapTree) floorPages() int { return t.recordPages() + 2*changePages }

// pagesToDirty is how many pages the changes of a run of clusters make dirty at most: their leaves, and those above, but for pages that are
// dirty already. No commit is under way.
func (t *mapTree) pagesToDirty(first, last uint64) int {
	a, _ := t.shape.Leaf(first)
	b, _ := t.shape.Leaf(last)
	if a == b {
		return t.pathToDirty(a)
	}
	n := 0
	for range int(t.root.levels) + 1 {
		n += int(b-a) + 1
		a, b = a/RefsMax, b/RefsMax
	}
	return n
}

// pathToDirty is how many pages from the root to a leaf are not dirty. Below one that is not, none is.
func (t *mapTree) pathToDirty(leaf uint64) int {
	var at pageNumbers
	at.of(leaf)
	ref := t.root.ref
	for l := int(t.root.levels); l >= 0; l-- {
		f, ok := ref.frame()
		if !ok {
			return l + 1
		}
		if l > 0 {
			ref = RefAt(t.c.page(f), int(at[l-1]%RefsMax))
		}
	}
	return 0
}

// room reports whether a change may begin. If not, a commit has to end first: one of this map if it has dirty pages; else pageCache.await
// tells when another's has.
func (t *mapTree) room() bool {
	left := t.roomLeft()
	return left >= changePages || left+t.widen(changePages-left) >= changePages
}

// change is find for an entry that is to be changed: the entry may be written to as long as it is lent. There is room.
func (t *mapTree) change(cluster uint64, w *mapWaiter) (e Entry, s bdev.Status, now bool) {
	invariant.Check(!t.readOnly && t.room(), "volume: a change of a map that takes none, or without room for it")
	t.c.promised += changePages
	t.promised += changePages
	return t.begin(cluster, w, true)
}

func (t *mapTree) begin(cluster uint64, w *mapWaiter, changes bool) (e Entry, s bdev.Status, now bool) {
	w.tree, w.cluster, w.changes = t, cluster, changes
	w.page.turn, w.page.fault = false, nil
	t.waiting++
	if e, s, now = w.walk(); now {
		w.ended()
	}
	return e, s, now
}

// ended is called before the result is given.
func (w *mapWaiter) ended() {
	w.tree.waiting--
	if w.changes {
		w.tree.c.promised -= changePages
		w.tree.promised -= changePages
	}
}

// clusters that a tree of this height has room for.
func (t *mapTree) clusters() uint64 { return span(int(t.root.levels)) * uint64(t.shape.entries) }

// walk begins at the root.
func (w *mapWaiter) walk() (e Entry, s bdev.Status, now bool) {
	t := w.tree
	invariant.Check(w.cluster < t.clusters(), "volume: a cluster past the end of its map")
	if w.changes {
		return t.claim(w)
	}
	return t.descend(w, t.root.ref, t.root.levels)
}

// descend goes on from a ref to a page of a level.
func (t *mapTree) descend(w *mapWaiter, ref Ref, level uint8) (e Entry, s bdev.Status, now bool) {
	leaf, entry := t.shape.Leaf(w.cluster)
	var at pageNumbers
	at.of(leaf)
	for {
		if ref.IsZero() {
			return t.shape.Entry(emptyLeaf, 0), bdev.StatusOK, true
		}
		f, ok := ref.frame()
		if !ok {
			t.expect(&w.page, ref, level, at[level])
			if f, s = t.c.get(&w.page); f == noFrame {
				return Entry{}, s, s != bdev.StatusOK
			}
		}
		if level == 0 {
			return t.shape.Entry(t.c.page(f), entry), bdev.StatusOK, true
		}
		level--
		ref = RefAt(t.c.page(f), int(at[level]%RefsMax))
	}
}

// claim makes the pages on the way dirty, from the root to the leaf, as far as they are there: so none of them goes while the next
// one is read. If it then cannot be had, they are written again as they were.
func (t *mapTree) claim(w *mapWaiter) (e Entry, s bdev.Status, now bool) {
	leaf, entry := t.shape.Leaf(w.cluster)
	var at pageNumbers
	at.of(leaf)
	above := noFrame
	for l := int(t.root.levels); l >= 0; l-- {
		ref, i := t.root.ref, int(at[l]%RefsMax)
		if above != noFrame {
			ref = RefAt(t.c.page(above), i)
		}
		f, ok := ref.frame()
		if !ok && !ref.IsZero() {
			t.expect(&w.page, ref, uint8(l), at[l])
			if f, s = t.c.get(&w.page); f == noFrame {
				return Entry{}, s, s != bdev.StatusOK
			}
		}
		f = t.own(ref, f, uint8(l), at[l])
		if above == noFrame {
			t.root.ref = frameRef(f)
		} else {
			SetRef(t.c.page(above), i, frameRef(f))
		}
		above = f
	}
	return t.shape.Entry(t.c.page(above), entry), bdev.StatusOK, true
}

// expect says in w what page must be found at a ref.
func (o *mapOwner) expect(w *pageWaiter, ref Ref, level uint8, index uint64) {
	w.source, w.volume, w.sharedTo, w.shape = o.source, o.volume, o.sharedTo, o.shape
	w.ref, w.level, w.index = ref, level, index
}

// pageArrived goes on from the page that came. A change looks at the pages above it too: a commit may have ended meanwhile.
func (w *mapWaiter) pageArrived(f int32, s bdev.Status) {
	if s != bdev.StatusOK {
		w.found(Entry{}, s)
		return
	}
	t := w.tree
	leaf, entry := t.shape.Leaf(w.cluster)
	switch {
	case w.changes:
		w.pageAgain()
	case w.page.level == 0:
		w.found(t.shape.Entry(t.c.page(f), entry), bdev.StatusOK)
	default:
		var at pageNumbers
		at.of(leaf)
		level := w.page.level - 1
		if e, s, now := t.descend(w, RefAt(t.c.page(f), int(at[level]%RefsMax)), level); now {
			w.found(e, s)
		}
	}
}

// pageAgain begins from the root: the page changed while w waited, or w has waited for a read to begin.
func (w *mapWaiter) pageAgain() {
	if e, s, now := w.walk(); now {
		w.found(e, s)
	}
}

func (w *mapWaiter) found(e Entry, s bdev.Status) {
	w.ended()
	w.done.mapFound(w, e, s)
}

// own gives the dirty page for a ref, whose page is in frame f unless the ref is zero: f itself if it is dirty or clean, a copy if it is
// frozen, or a new one.
func (t *mapTree) own(ref Ref, f int32, level uint8, index uint64) int32 {
	if ref.IsZero() {
		f = t.newDirty(level, index)
		clear(t.c.page(f))
		return f
	}
	fr := &t.c.frames[f]
	switch fr.state {
	case frameDirty:
		return f
	case frameClean:
		t.c.keep(f)
		t.c.unhash(f)
		fr.was, fr.wasStamp, fr.state, fr.copied = ref, fr.stamp, frameDirty, noFrame
		t.hold()
		t.addDirty(f)
		return f
	}
	invariant.Check(fr.copied == noFrame, "volume: a frozen page copied twice")
	n := t.newDirty(level, index)
	copy(t.c.page(n), t.c.page(f))
	fr.copied = n
	return n
}

// newDirty takes a frame for a page that has no place. What it replaces is noted when the commit of what it is copied from ends.
func (t *mapTree) newDirty(level uint8, index uint64) int32 {
	f := t.c.take()
	t.c.frames[f] = frame{source: t.source, volume: t.volume, level: level, index: index, state: frameDirty, copied: noFrame}
	t.hold()
	t.addDirty(f)
	return f
}

// hold counts a frame that is clean no more, letGo one that is clean or free again.
func (t *mapTree) hold() {
	t.c.dirty++
	t.held++
}

func (t *mapTree) letGo() {
	t.c.dirty--
	t.held--
}

func (t *mapTree) addDirty(f int32) {
	t.dirty[t.c.frames[f].level].push(t.c.frames, f)
	t.dirtyN++
}

// canGrow reports whether there is room to make the map so many levels high.
func (t *mapTree) canGrow(levels uint8) bool {
	if levels <= t.root.levels {
		return true
	}
	n, left := int(levels-t.root.levels), t.roomLeft()
	return left >= n || left+t.widen(n-left) >= n
}

// grow makes the map higher, for a volume that has grown. There is room.
func (t *mapTree) grow(levels uint8) {
	invariant.Check(!t.readOnly && levels <= mapLevels && t.canGrow(levels), "volume: a map that cannot grow so high")
	for t.root.levels < levels {
		t.root.levels++
		if t.root.ref.IsZero() {
			continue
		}
		f := t.newDirty(t.root.levels, 0)
		clear(t.c.page(f))
		SetRef(t.c.page(f), 0, t.root.ref)
		t.root.ref = frameRef(f)
	}
}

// close gives up what was not committed. Nothing waits, and no commit is under way.
func (t *mapTree) close() {
	invariant.Check(t.waiting == 0 && !t.committing, "volume: a map closed while it is in use")
	for l := range t.dirty {
		for f := t.dirty[l].first; f != noFrame; f = t.dirty[l].first {
			t.dirty[l].remove(t.c.frames, f)
			t.c.release(f)
			t.letGo()
		}
	}
	t.dirtyN = 0
	t.root = t.committed
	t.guarantee(0)
	t.yield()
}
